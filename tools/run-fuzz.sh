#!/bin/bash
# Runs fuzz targets for a while, as many at a time as there are CPUs. What is new goes into a
# growing corpus beside the build; an input that failed is kept in findings/. The last line is
# "N passed, N failed", counted in targets; it is also kept in BUILD_DIRECTORY/totals.
# usage: tools/run-fuzz.sh BUILD_DIRECTORY SECONDS [TARGET ...]
set -uo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "$1")
seconds=$2
shift 2
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for program in "$build"/tests/fuzz/fuzz_*; do
    [ -f "$program" ] && [ -x "$program" ] && targets+=("${program##*/fuzz_}")
  done
fi
mkdir -p "$build/findings" "$build/logs"
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export ASAN_OPTIONS=detect_leaks=1

# The seeds come first and are only read; the dictionary is optional.
run_target() {
  local target=$1 dictionary=tests/fuzz/$1.dict log=$build/logs/$1.log status=0
  local corpus=$build/corpus/$target
  mkdir -p "$corpus"
  local options=(-max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -max_len=16384
    -print_final_stats=1 -artifact_prefix="$build/findings/$target-")
  [ ! -f "$dictionary" ] || options+=(-dict="$dictionary")
  "$build/tests/fuzz/fuzz_$target" "${options[@]}" "$corpus" "tests/fuzz/corpus/$target" \
    >"$log" 2>&1 </dev/null || status=$?
  if [ $status -eq 0 ]; then
    echo "passed: $target, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
  else
    echo "FAILED: $target, see $log"
    grep -vE '^(#|NEW_FUNC|INFO)' "$log" | tail -40
  fi
  return $status
}
export -f run_target
export build seconds

printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_target {}' |
  tee "$build/logs/summary"
passed=$(grep -c '^passed: ' "$build/logs/summary")
failed=$((${#targets[@]} - passed))
echo "$passed passed, $failed failed" | tee "$build/totals"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
