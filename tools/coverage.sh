#!/bin/bash
# Runs the tests of a coverage build, then prints which share of src/ they executed: lines of each
# folder, and the least covered files. Processes that are killed by SIGKILL leave no counts.
# usage: tools/coverage.sh BUILD_DIRECTORY [INTEGRATION_TEST...]
set -uo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "$1")
shift

# Roles run as different users, in places where the build directory may be out of reach: counts
# are collected elsewhere, in files that are there before anybody writes them.
counts=$(mktemp -d /tmp/plane-coverage-XXXXXX)
trap 'rm -rf "$counts"' EXIT
find "$build" -name '*.gcda' -delete
find "$build" -name '*.gcno' | while read -r notes; do
  mkdir -p "$counts${notes%/*}"
  : >"$counts${notes%.gcno}.gcda"
done
find "$counts" -type d -exec chmod 755 {} +
find "$counts" -name '*.gcda' -exec chmod 666 {} +
rm -rf "$build/shim-counts"
mkdir -m 700 "$build/shim-counts"

GCOV_PREFIX=$counts tools/run-tests.sh "$build" "$@"
status=$?

(cd "$counts$build" && find . -name '*.gcda' -size +0 -exec cp --parents -t "$build" {} +)
/usr/bin/python3 tools/shim-counts.py "$build/shim-counts" || status=1
rm -rf "$build/shim-counts"
# A process that ends inside of a function leaves it more often entered than left; where gcov computes
# a branch's count from that, it may be -1, which gcovr would stop at.
gcovr --root . --filter src/ --gcov-ignore-parse-errors --json-summary "$build/coverage.json" \
  --html-details "$build/coverage.html" "$build" || status=1
/usr/bin/python3 tools/coverage-table.py "$build/coverage.json" || status=1
exit $status
