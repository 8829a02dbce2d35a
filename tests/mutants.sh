#!/bin/bash
# Whether the brain's tests bite: each of its rules is changed, one at a time, and some test must notice.
#
#   tests/mutants.sh [FILE...]      of the pure files of actors/src; all of them without a name
#
# Needs cargo-mutants (cargo install --locked cargo-mutants). Not in CI: on two cores that have nothing
# else to do a mutant takes some 20 seconds, all of them hours. What survives stands in
# target/mutants.out/missed.txt, and must stand with its reason in tests/mutants/survivors.txt.
#
# Judges are the unit tests and actors/tests/brain (tables and properties, fewer cases than usual). Shells
# are left out, and so are the simulation itself and what only puts things into words.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  set -- runner.rs 'runner/*.rs' 'runner/drain/*.rs' pool.rs 'pool/*.rs' scaler.rs demand.rs \
    supervision.rs backoff.rs sweep.rs sweep/purse.rs job.rs 'job/*.rs' invariant.rs name.rs \
    foreign.rs sight.rs event/stuck.rs event/times.rs
fi
chosen=()
for file in "$@"; do chosen+=(--file "actors/src/$file"); done

# Debug information costs more than all the tests take.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
export PROPTEST_CASES=${PROPTEST_CASES:-60}
exec nice -n 10 cargo mutants --package runner-fleet-actors --test-package runner-fleet-actors \
  --features sim --output target --jobs 1 --baseline skip --timeout 120 --build-timeout 300 \
  "${chosen[@]}" --exclude '**/actor.rs' --exclude '**/actor/**' --exclude '**/tests.rs' \
  --exclude-re 'impl (fmt::|std::fmt::)?(Display|Debug)' --exclude-re 'fn (words|as_str|because)' \
  -- --lib --test brain
