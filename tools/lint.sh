#!/bin/bash
# Layout (clang-format), and what the compiler does not see (cppcheck, clang-tidy).
# Looks at the files that git knows; in a tree without git, at all of them.
# usage: tools/lint.sh BUILD_DIRECTORY     (configured with -Dtests=true)
set -uo pipefail
cd "$(dirname "$0")/.."
build=$1
failed=0

list_sources() {
  git -c safe.directory='*' ls-files -- "$@" 2>/dev/null || find "$@" -name '*.[ch]'
}

mapfile -t sources < <(list_sources src tests examples bench | grep '\.[ch]$')
mapfile -t units < <(printf '%s\n' "${sources[@]}" | grep '\.c$')

echo "clang-format: ${#sources[@]} files"
clang-format-14 --dry-run -Werror "${sources[@]}" || failed=1

echo "cppcheck: ${#units[@]} files"
cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability -j "$(nproc)" \
  --suppress=missingIncludeSystem --library=tools/cppcheck.cfg -I src "${units[@]}" || failed=1

# Files that are not yet in any meson.build have no compile command: they are not checked.
compiled() {
  /usr/bin/python3 - "$build/compile_commands.json" "$@" <<'PY'
import json, os, sys
build = os.path.dirname(os.path.abspath(sys.argv[1]))
known = {os.path.realpath(os.path.join(build, e["file"])) for e in json.load(open(sys.argv[1]))}
print("\n".join(p for p in sys.argv[2:] if os.path.realpath(p) in known))
PY
}
mapfile -t checked < <(compiled "${units[@]}")
echo "clang-tidy: ${#checked[@]} files"
printf '%s\0' "${checked[@]}" | xargs -0 -n 4 -P "$(nproc)" clang-tidy-14 -p "$build" --quiet \
  --extra-arg=-Wno-unknown-warning-option 2>/dev/null || failed=1

[ $failed -eq 0 ] && echo "lint: nothing found"
exit $failed
