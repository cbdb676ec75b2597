#!/bin/bash
# Runs the tests of a ThreadSanitizer build. What it reports in any process, also in one that a test
# started or killed, is printed and counts as a failed case; the last line is that of run-tests.sh.
# usage: tools/run-thread-tests.sh BUILD_DIRECTORY [INTEGRATION_TEST...]
set -uo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "$1")
shift

# ThreadSanitizer's shadow has no room for a memory layout that is more random than this; the
# layout of these processes is fixed instead, the host stays as it is.
if [ "$(cat /proc/sys/vm/mmap_rnd_bits)" -gt 28 ] && [ -z "${PLANE_FIXED_LAYOUT:-}" ]; then
  PLANE_FIXED_LAYOUT=1 exec setarch "$(uname -m)" -R "$0" "$build" "$@"
fi

reports=$(mktemp -d /tmp/plane-threads-XXXXXX)
chmod 1777 "$reports" # controller and proxy run as another user
trap 'rm -rf "$reports"' EXIT
export TSAN_OPTIONS="exitcode=66:log_path=$reports/report:history_size=4:second_deadlock_stack=1"

rm -f "$build/totals"
"$build/tests/threads/race_canary"
if [ $? -ne 66 ] || ! grep -q 'data race' "$reports"/report.*; then
  echo "ThreadSanitizer does not see a race that is there"
  echo "0 passed, 1 failed" | tee "$build/totals"
  exit 1
fi
rm -f "$reports"/report.*

tools/run-tests.sh "$build" "$@"
read -r passed _ failed _ <"$build/totals"
for report in "$reports"/report.*; do
  [ -f "$report" ] || continue
  cat "$report"
  failed=$((failed + 1))
done
echo "$passed passed, $failed failed" | tee "$build/totals"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
