#!/bin/bash
# Checks the Promela model of the lease, tests/model/lease.pml: that what must hold does, and that
# each variant that is wrong is found to be, first of all the one without a margin. The last line
# is "N passed, N failed", counted in runs; it is also kept in BUILD_DIRECTORY/totals. The verifiers
# and their traces are in BUILD_DIRECTORY/NAME/.
# usage: tools/run-model.sh BUILD_DIRECTORY [--long]
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
build=$(realpath "$1")
model=$(realpath tests/model/lease.pml)

# What one run leaves out, so that another thing can be larger.
lease_only="-DJOURNAL_LOSSES=0 -DREFUSALS=0 -DTERMINATIONS=0"
one_lease="-DLEASES=1"

# NAME EXPECTED OPTION...: "holds", "double-run" (two backends can act) or "never-free"
runs=(
  "all-faults holds $one_lease"
  "two-leases holds $lease_only -DEPOCHS=1"
  "two-controllers holds $one_lease $lease_only -DCONTROLLERS=2 -DTOKENS=3"
  "reordered-answers holds $one_lease $lease_only -DANSWERS=2"
  "slow-reading holds $one_lease $lease_only -DSLOW_READING=1"
  "wider-clocks holds $one_lease $lease_only -DHARD=2 -DDRIFT=2 -DEXPIRE=6"
  "dead-drone holds $one_lease $lease_only -DLIVENESS=1"
  "margin-removed double-run $one_lease -DEXPIRE=1"
  "margin-of-one-drift double-run $one_lease -DEXPIRE=2"
  "margin-removed-two-leases double-run $lease_only -DEPOCHS=1 -DEXPIRE=1"
  "shared-lease-file double-run $one_lease -DSHARED_LEASE_FILE=1"
  "stamp-before-reading double-run $one_lease $lease_only -DSTAMP_BEFORE_READING=1"
  "forget-refusals double-run $one_lease -DFORGET_REFUSALS=1"
  "count-from-answer double-run $one_lease -DCOUNT_FROM_ANSWER=1"
  "any-epoch double-run $one_lease -DANY_EPOCH=1"
  "give-new-epoch double-run $one_lease -DGIVE_NEW_EPOCH=1"
  "never-break never-free $one_lease $lease_only -DLIVENESS=1 -DNEVER_BREAK=1"
)
[ "${2:-}" != --long ] || runs+=(
  "all-faults-reordered holds $one_lease -DANSWERS=2"
  "all-faults-two-controllers holds $one_lease -DCONTROLLERS=2"
  "two-leases-twice holds $lease_only"
)

# Spin writes into the current directory. Partial order reduction has little to reduce, all
# processes share their variables; what helps is that each step is one.
run_one() {
  local name=$1 expected=$2 found=incomplete summary
  shift 2
  local kind=(-DSAFETY -DNOFAIR) search=(-m1000000)
  if [[ " $* " == *" -DLIVENESS=1 "* ]]; then
    kind=(-DNFAIR=4)
    search+=(-a -f)
  fi
  mkdir -p "$build/$name" && cd "$build/$name" && rm -f ./*.trail pan || return 1
  { spin -a "$@" "$model" && gcc -O2 -w "${kind[@]}" -DCOLLAPSE -DMEMLIM=6000 \
    -o pan pan.c; } >build.log 2>&1 || { cat build.log; echo "FAILED: $name"; return 1; }
  ./pan "${search[@]}" >pan.log 2>&1
  if grep -q 'assertion violated .*is_running' pan.log; then
    found=double-run
  elif grep -q 'acceptance cycle' pan.log; then
    found=never-free
  elif grep -q 'errors: 0' pan.log &&
    ! grep -qE 'truncated|max search depth|out of memory' pan.log; then
    found=holds
  fi
  summary="$(awk '/states, stored/ { print $1 }' pan.log) states"
  if [ "$found" = "$expected" ]; then
    echo "passed: $name: $found ($summary)"
    return 0
  fi
  echo "FAILED: $name: expected $expected, found $found ($summary); see $build/$name/pan.log"
  [ ! -f lease.pml.trail ] ||
    echo "  the way there: spin -t -p -k $build/$name/lease.pml.trail $* $model"
  return 1
}
export -f run_one
export build model

printf '%s\n' "${runs[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_one {}' | tee "$build/summary"
passed=$(grep -c '^passed: ' "$build/summary")
failed=$((${#runs[@]} - passed))
echo "$passed passed, $failed failed" | tee "$build/totals"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
