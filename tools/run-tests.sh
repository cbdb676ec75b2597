#!/bin/bash
# Runs the unit tests and the integration tests; the last line counts cases: "N passed, N failed".
# usage: tools/run-tests.sh BUILD_DIRECTORY
set -uo pipefail
build=$1
passed=0
failed=0

count_unit_tests() {
  local program output status
  for program in "$build"/tests/unit/*_test_*; do
    [ -f "$program" ] && [ -x "$program" ] || continue
    output=$(timeout 300 env CMOCKA_MESSAGE_OUTPUT=stdout "$program" 2>&1)
    status=$?
    local ok bad
    ok=$(grep -c '^\[       OK \]' <<<"$output")
    bad=$(grep -c '^\[  FAILED  \] [a-z]' <<<"$output")
    if [ $status -ne 0 ] || [ "$ok" -eq 0 ]; then
      [ "$bad" -gt 0 ] || bad=1
      printf '%s\nFAILED (status %s): %s\n' "$output" "$status" "$program"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
  done
}

count_integration_tests() {
  local report=$build/integration.xml counts
  rm -f "$report"
  PLANE_BUILD_DIR=$build /usr/bin/python3 -m pytest -q --timeout=120 --junitxml="$report" \
    tests/integration
  local status=$?
  counts=$(/usr/bin/python3 - "$report" <<'PY'
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
total, bad, skipped = (sum(int(suite.get(k)) for k in keys)
                       for keys in (("tests",), ("failures", "errors"), ("skipped",)))
print(total - bad - skipped, bad + skipped)
PY
) || counts="0 1"
  set -- $counts
  passed=$((passed + $1))
  failed=$((failed + $2))
  [ "$status" -eq 0 ] || [ "$2" -gt 0 ] || failed=$((failed + 1))
}

count_unit_tests
compgen -G 'tests/integration/test_*.py' >/dev/null && count_integration_tests
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
