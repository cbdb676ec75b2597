#!/bin/bash
# Runs the unit tests, the fuzz corpora and the integration tests of a build. Prints what failed; the
# last line counts cases over all: "N passed, N failed". A skipped case counts as failed: every test
# needs to run.
# usage: tools/run-tests.sh BUILD_DIRECTORY [INTEGRATION_TEST...]     (default: all but the long ones)
#        tools/run-tests.sh BUILD_DIRECTORY --faults                  (all fault tests, nothing else)
# The totals are also kept in BUILD_DIRECTORY/totals.
set -uo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "$1")
shift
passed=0
failed=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export ASAN_OPTIONS=abort_on_error=0:detect_leaks=1
export PYTHONDONTWRITEBYTECODE=1

# cmocka prints one line a case; a program that dies in between counts as one failed case more.
# usage: run_unit_program PROGRAM [ARGUMENT ...]
run_unit_program() {
  local program=$1 output status ok bad
  output=$(CMOCKA_MESSAGE_OUTPUT=stdout timeout 300 "$@" 2>&1 </dev/null)
  status=$?
  ok=$(grep -c '^\[       OK \]' <<<"$output")
  bad=$(grep '^\[  FAILED  \] ' <<<"$output" | grep -vc 'test(s), listed below' || true)
  # cmocka lists each failed case a second time at the end.
  bad=$(((bad + 1) / 2))
  if [ "$status" -ne 0 ] || [ "$ok" -eq 0 ]; then
    [ "$bad" -gt 0 ] || bad=1
    printf '%s\nFAILED with status %s: %s\n' "$output" "$status" "$program"
  fi
  passed=$((passed + ok))
  failed=$((failed + bad))
}

# usage: run_integration_tests NAME ARGUMENT_OF_PYTEST...     (leaves its counts in BUILD/NAME.counts)
run_integration_tests() {
  local report=$build/$1.xml counts=$build/$1.counts status ok bad
  shift
  rm -f "$report"
  echo "0 1" >"$counts" # until it is known better
  PLANE_BUILD_DIR=$build /usr/bin/python3 -m pytest -q -ra --timeout=120 \
    -p no:cacheprovider --junitxml="$report" "$@" </dev/null
  status=$?
  /usr/bin/python3 - "$report" >"$counts" <<'PY' || echo "0 1" >"$counts"
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
total, bad = int(suite.get("tests")), sum(
    int(suite.get(kind)) for kind in ("failures", "errors", "skipped"))
print(max(0, total - bad), bad)
PY
  read -r ok bad <"$counts"
  [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || echo "$ok 1" >"$counts"
}

# usage: count_integration_tests NAME
count_integration_tests() {
  local ok bad
  read -r ok bad <"$build/$1.counts"
  passed=$((passed + ok))
  failed=$((failed + bad))
}

if [ "${1:-}" != --faults ]; then
  for program in "$build"/tests/unit/*_test_*; do
    [ -f "$program" ] && [ -x "$program" ] && run_unit_program "$program"
  done
  for program in "$build"/tests/fuzz/replay_*; do
    [ -f "$program" ] && [ -x "$program" ] &&
      run_unit_program "$program" "tests/fuzz/corpus/${program##*/replay_}"
  done
fi
if [ "${1:-}" = --faults ]; then
  run_integration_tests integration -m fault tests/faults tests/cluster tests/integration
elif [ $# -gt 0 ]; then
  run_integration_tests integration "$@"
else
  # Most of both is waiting, for leases and limits of time: they wait together.
  run_integration_tests faults -m 'not long' tests/faults tests/cluster >"$build/faults.log" 2>&1 &
  run_integration_tests integration -m 'not long' tests/integration
  wait
  cat "$build/faults.log"
  count_integration_tests faults
fi
count_integration_tests integration
echo "$passed passed, $failed failed" | tee "$build/totals"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
