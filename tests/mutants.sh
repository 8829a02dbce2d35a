#!/bin/bash
# Whether the brain's tests bite: each of its rules is changed, one at a time, and some test must notice.
#
#   tests/mutants.sh [--shard K/N] [FILE...]    the pure files of actors/src; all of them without a name
#   tests/mutants.sh --each [FILE...]           the same with a build for each mutant (cargo mutants): what
#                                               comes after -- goes to it
#
# Needs cargo-mutants (cargo install --locked cargo-mutants) and jq. Not in CI. The mutants are those that
# cargo-mutants lists. A build for each takes days, so all of them are woven into one program, each behind
# a switch (mutants/weave): an hour on two cores. The unit tests and actors/tests/brain judge first, with
# fewer cases than usual; what they miss is judged by duels, guests, real actors and SECONDS of simulation.
#
# All is in target/mutants/: verdicts.tsv, by-file.txt (the figures), unwoven.txt (with the compiler's
# words; what would compile as a mutant of its own is for --each) and missed.txt. What is missed must stand
# with its reason in survivors.txt, and the script fails where one does not.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly home=$PWD out=$PWD/target/mutants tree=$PWD/target/mutants/tree
seconds=${SECONDS_OF_SIMULATION:-20}

each=; shard=0/1
while [ $# -gt 0 ]; do
  case $1 in
    --each) each=yes; shift ;;
    --shard) shard=$2; shift 2 ;;
    *) break ;;
  esac
done
files=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do files+=("$1"); shift; done
[ $# -eq 0 ] || shift
if [ ${#files[@]} -eq 0 ]; then
  files=(runner.rs 'runner/*.rs' 'runner/drain/*.rs' pool.rs 'pool/*.rs' scaler.rs demand.rs
    supervision.rs backoff.rs sweep.rs sweep/purse.rs job.rs 'job/*.rs' invariant.rs name.rs
    foreign.rs guard.rs sight.rs port/shape.rs event/stuck.rs event/times.rs)
fi
chosen=(--package runner-fleet-actors)
for file in "${files[@]}"; do chosen+=(--file "actors/src/$file"); done
# Shells, tests, and what only puts things into words for a programmer.
chosen+=(--exclude '**/actor.rs' --exclude '**/actor/**' --exclude '**/tests.rs'
  --exclude-re 'impl (fmt::|std::fmt::)?Debug')

# Debug information costs more than all the tests take; a case that fails need not become a small one.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 CARGO_INCREMENTAL=0
export PROPTEST_CASES=${PROPTEST_CASES:-60} PROPTEST_MAX_SHRINK_ITERS=0 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1
mkdir -p "$out"

if [ "$each" ]; then
  sharded=()
  [ "$shard" = 0/1 ] || sharded=(--shard "$shard")
  exec nice -n 19 cargo mutants "${chosen[@]}" "${sharded[@]}" --test-package runner-fleet-actors,runner-fleet-brain \
    --output "$out" --jobs 1 --baseline skip --timeout 120 --build-timeout 600 "$@" -- --lib --test brain
fi

[ $# -eq 0 ] || { echo "what comes after -- is for --each" >&2; exit 2; }

# The actors as a workspace of their own, without lints: mutated code has every fault that those know.
copy() {
  rm -rf "$tree"
  mkdir -p "$tree"
  git ls-files -z -- Cargo.toml Cargo.lock actors benches | xargs -0 cp --parents -t "$tree"
  awk '/^\[/ { keep = /^\[(workspace|profile)/ && !/lints/ } keep && !/^default-members/' \
    Cargo.toml >"$tree/Cargo.toml"
  sed -i '/^\[lints\]/,$d' "$tree/actors/Cargo.toml" "$tree/actors/tests/Cargo.toml"
}

weave() { "$home/target/weave/debug/weave" "$@"; }

# In a folder of its own: cargo takes it for the same package as the one here.
build() {
  (cd "$tree" && CARGO_TARGET_DIR="$out/build" nice -n 19 cargo "$@" -p runner-fleet-actors -p runner-fleet-brain \
    --message-format=json)
}

nice -n 19 cargo build --quiet --manifest-path tests/mutants/weave/Cargo.toml --target-dir target/weave
cargo mutants --list --json "${chosen[@]}" >"$out/list.json"
jq -r '.[].name' "$out/list.json" >"$out/names.txt"
echo "$(wc -l <"$out/names.txt") mutants"

# What does not compile is found by the compiler, kind by kind.
rm -f "$out/unwoven.tsv"
while true; do
  copy
  weave "$out/list.json" "$tree" "$out/unwoven.tsv"
  if build test --no-run --test brain >"$out/compiler.json" 2>"$out/compiler.log"; then break; fi
  before=$(wc -l <"$out/unwoven.tsv")
  weave --blame "$tree" "$out/unwoven.tsv" <"$out/compiler.json"
  if [ "$(wc -l <"$out/unwoven.tsv")" -eq "$before" ]; then cat "$out/compiler.log"; exit 1; fi
  echo "$(wc -l <"$out/unwoven.tsv") of them do not compile so far"
done
awk -F'\t' 'NR == FNR { name[FNR] = $0; next } { print name[$1] " :: " $2 }' \
  "$out/names.txt" "$out/unwoven.tsv" >"$out/unwoven.txt"

build test --no-run >"$out/tests.json"
program() {
  jq -r --arg name "$1" 'select(.profile.test and .executable and .target.name == $name) | .executable' \
    "$out/tests.json"
}
brain=$(program brain)
quick=("$(program runner_fleet_actors)" "$brain --skip properties")
slow=("$brain properties")
for name in guests fleet outdated clock economy duels mutants simulation; do slow+=("$(program "$name")"); done

for command in "${quick[@]}" "${slow[@]}"; do
  [ -x "${command%% *}" ] || { echo "no such test program: $command"; exit 1; }
done

# The first test that fails is enough, and closes the pipe. One that needs longer than this has met a mutant
# that goes round in circles.
judge() {
  set -o pipefail
  local number=$1 command test code
  shift
  for command in "$@"; do
    code=0
    # shellcheck disable=SC2086 # a program and its arguments
    test=$(MUTANT=$number timeout 120 $command 2>/dev/null | awk '/ [.][.][.] FAILED/ { print $2; exit 1 }') || code=$?
    case $code in
      0) ;;
      124) printf '%s\ttimeout\t%s\n' "$number" "${command##*/}"; return ;;
      *) printf '%s\tcaught\t%s\t%s\n' "$number" "${command##*/}" "$test"; return ;;
    esac
  done
  printf '%s\tmissed\n' "$number"
}
export -f judge
all() { (cd "$tree/actors" && xargs -I{} nice -n 19 bash -c 'judge "$@"' judge {} "$@"); }

export RUNNER_FLEET_SIM_SECONDS=$seconds
[ "$(echo 0 | all "${quick[@]}" "${slow[@]}" | cut -f2)" = missed ] || { echo "a test fails without a mutant"; exit 1; }
seq 1 "$(wc -l <"$out/names.txt")" | grep -vxFf <(cut -f1 "$out/unwoven.tsv") |
  awk -v k="${shard%/*}" -v n="${shard#*/}" 'NR % n == k % n' | all "${quick[@]}" >"$out/quick.tsv"
awk -F'\t' '$2 == "missed" { print $1 }' "$out/quick.tsv" | all "${slow[@]}" >"$out/slow.tsv"
{ awk -F'\t' '$2 != "missed"' "$out/quick.tsv"; cat "$out/slow.tsv"; } | sort -n >"$out/verdicts.tsv"

awk -F'\t' 'NR == FNR { name[FNR] = $0; next } $2 == "missed" { print name[$1] }' \
  "$out/names.txt" "$out/verdicts.tsv" >"$out/missed.txt"
# As survivors.txt has them: without the numbers of line and column, and as often as there are such.
sed -E 's/:[0-9]+:[0-9]+:/:/' "$out/missed.txt" | sort >"$out/missed"
grep -v '^\(#\|$\)' tests/mutants/survivors.txt | sort >"$out/argued" || true
awk -F'\t' -v argued="$out/argued" '
  BEGIN { while ((getline line <argued) > 0) known[line]++ }
  NR == FNR { name[FNR] = $0; next }
  {
    text = name[$1]; file = text; sub(/:.*/, "", file); sub(/:[0-9]+:[0-9]+:/, ":", text)
    mutants[file]++; mutants["all"]++
    if ($2 == "missed") {
      missed[file]++; missed["all"]++
      if (known[text]-- > 0) { told[file]++; told["all"]++ }
    }
  }
  END {
    for (file in mutants)
      printf "%-38s %5d mutants %4d missed (%.1f %%) %4d of them argued\n", file, mutants[file], missed[file],
        100 * missed[file] / mutants[file], told[file]
  }' "$out/names.txt" "$out/verdicts.tsv" | sort | tee "$out/by-file.txt"
unargued=$(comm -23 "$out/missed" "$out/argued")
if [ "$unargued" ]; then
  echo "$unargued"
  echo "missed, and not in tests/mutants/survivors.txt"
  exit 1
fi
