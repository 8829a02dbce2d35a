#!/bin/bash
# Whether what reads foreign texts stands whatever comes: libFuzzer over the targets of tests/fuzz.
#
#   tests/fuzz.sh [TARGET [EXECUTIONS]]     all targets without a name; 10,000,000 executions each
#
# Needs cargo-fuzz (cargo install --locked cargo-fuzz) and a C++ compiler; stable Rust is enough. Not in CI,
# which replays the corpus instead (tests/it/fuzz.rs). FUZZ_SANITIZER=address looks at memory as well, at a
# fraction of the speed; the project has no unsafe code, so that the usual run does without.
#
# Of the time of `config` and `user_data` more than 40 % went into remembering what was compared with what; they
# are built without it, in a folder of their own. What they look for stands in their dictionaries.
#
# What is new to a target goes to tests/fuzz/target/found/TARGET, and what breaks one to
# tests/fuzz/artifacts/TARGET: give that a name in tests/fuzz/corpus/TARGET, so that CI has it, and mend it.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t all < <(sed -n 's/^path = "bin\/\(.*\)\.rs"$/\1/p' tests/fuzz/Cargo.toml)
[ "${#all[@]}" -gt 0 ] || { echo "no targets in tests/fuzz/Cargo.toml" >&2; exit 1; }
targets=("${@:1:1}")
[ $# -gt 0 ] || targets=("${all[@]}")
executions=${2:-10000000}

# Stable Rust has the instrumentation, but only says so when it is asked in this way.
export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
# A compressor's 300 KB that one execution gives back are there for the next one; else the kernel clears them
# anew each time, which is half of what user_data takes.
export MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_TOP_PAD_=16777216 MALLOC_MMAP_THRESHOLD_=268435456
fuzz() {
  local how=()
  case $2 in
    config | user_data) how=(--no-trace-compares --target-dir tests/fuzz/target/plain) ;;
  esac
  nice -n 19 cargo fuzz "$1" --fuzz-dir tests/fuzz --sanitizer "${FUZZ_SANITIZER:-none}" --no-cfg-fuzzing \
    "${how[@]}" "${@:2}"
}

# Longest input. Short ones are quick, and long ones seldom say anything that short ones cannot.
longest() {
  case $1 in
    clouds | config | guests) echo 1024 ;;
    user_data) echo 512 ;;
    *) echo 2048 ;;
  esac
}

# Other folders that hold such inputs.
others() {
  case $1 in
    clouds) echo tests/data/clouds-yaml ;;
    config) echo config ;;
    webhooks) echo tests/data/webhooks/odd ;;
  esac
}

for target in "${targets[@]}"; do
  found=tests/fuzz/target/found/$target
  mkdir -p "$found"
  mapfile -t corpora < <(echo "tests/fuzz/corpus/$target"; others "$target")
  echo "== $target"
  fuzz build "$target" >"$found.log" 2>&1 || { cat "$found.log"; exit 1; }
  began=$SECONDS
  status=0
  # The fuzzer writes to the first folder only.
  fuzz run "$target" "$found" "${corpora[@]}" -- \
    -runs="$executions" -max_len="$(longest "$target")" -dict="tests/fuzz/dictionaries/$target.dict" \
    -timeout=20 -print_final_stats=1 >"$found.log" 2>&1 || status=$?
  # Executions, coverage (edges and features), corpus, executions a second.
  grep -E '^#[0-9]+\s+DONE|^SUMMARY' "$found.log" || tail -n 20 "$found.log"
  echo "$target: $((SECONDS - began)) s, log in $found.log"
  [ "$status" -eq 0 ] || exit "$status"
done
