#!/bin/bash
# Everything that must hold before a change is good, in one command.
#
# usage: tests/all.sh                everything; brings up a real OpenStack, a real LXD and real
#                                    queues (root or sudo, Debian)
#        tests/all.sh --no-servers   only what needs nothing but a Rust toolchain
#
# A phase that fails does not keep the next one from running: one run tells all. A test that cannot
# run prints a line `skipped, because ...`; with the servers up such a line is a failure, unless
# tests/expected-skips.txt has it, so that nothing stops being tested in silence.
# What is shown is short: a line for each file of tests, what was measured and, in the end, whatever
# failed. The whole output of each phase: target/all-tests/.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/lib/packages.sh
. tests/lib/packages.sh

servers=yes
case ${1:-}:$# in
  :0) ;;
  --no-servers:1) servers= ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

logs=$PWD/target/all-tests
rm -rf "$logs"
mkdir -p "$logs"
verdicts=()
failed_phases=0

verdict() {
  verdicts+=("$(printf '%-44s %-8s %5d s' "$1" "$2" "$3")")
  printf -- '---- %s: %s after %d s\n' "$1" "$2" "$3"
}

# What a person wants to see of cargo's output while it goes on. Not in awk: Debian's reads ahead, and
# would show it minutes later.
brief() {
  local line words file='' part=''
  while IFS= read -r line; do
    case $line in
      '     Running '*)
        read -ra words <<<"$line"
        file=${words[1]}
        [ "$file" != unittests ] || file="unit tests of ${words[2]}"
        ;;
      '   Doc-tests '*) file="examples in the documentation of ${line##* }" ;;
      ' '*Compiling\ * | ' '*Checking\ * | ' '*Download* | ' '*Documenting\ * | ' '*Blocking\ * | \
        ' '*Locking\ * | ' '*Updating\ * | ' '*Adding\ * | ' '*Generated\ *) ;;
      '' | 'running '*' tests' | 'running 1 test') ;;
      'test '*' ... ok' | 'test '*' ... ignored'* | 'test '*' has been running for over '*) ;;
      # Twice: with what each test printed, then with their names alone.
      successes:) [ "$part" = said ] && part=names || part=said ;;
      failures:) part=failures ;;
      'test result: '*)
        read -ra words <<<"$line"
        printf '%-42s %4d passed %3d failed %9s\n' "$file" "${words[3]}" "${words[5]}" "${words[-1]}"
        part=
        ;;
      '---- '*' stdout ----') [ "$part" != said ] || printf '  %s:\n' "${line:5:-12}" ;;
      *) case $part in names | failures) ;; *) printf '%s\n' "$line" ;; esac ;;
    esac
  done
}

# Whatever failed, in full.
failures() {
  awk '
    FNR == 1 { failures = 0 }
    /^     Running / { file = $2 }
    /^failures:$/ { if (!failures++) printf "\n==== what failed in %s\n", file; next }
    /^test result: / { failures = 0 }
    failures == 1 { print }
  ' "$logs"/*.log
}

# phase LOG WHAT COMMAND...
phase() {
  local log=$logs/$1.log what=$2 began=$SECONDS
  shift 2
  printf '\n==== %s\n' "$what"
  if "$@" </dev/null 2>&1 | tee "$log" | brief; then
    verdict "$what" ok $((SECONDS - began))
    return 0
  fi
  verdict "$what" FAILED $((SECONDS - began))
  # A failed test is counted by itself; what failed without one counts as one failure.
  grep -q '^test result: FAILED' "$log" || failed_phases=$((failed_phases + 1))
  return 1
}

# ---- the phases

scripts() {
  local found
  command -v shellcheck >/dev/null || { echo "shellcheck is missing: apt-get install shellcheck"; return 1; }
  mapfile -t found < <(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
  echo "${#found[@]} scripts"
  shellcheck -x "${found[@]}"
}

lock_file() { cargo metadata --locked --format-version 1 >/dev/null; }

documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace; }

# A test's own words say where it failed; the way there through an executor says nothing.
export RUST_BACKTRACE=0

# --show-output: else the line that says why a test was skipped would not be seen.
all_tests() { cargo test --workspace --no-fail-fast -- --show-output; }

# server_tests NAME: what is ignored elsewhere, because it needs that server. The test of that name is
# a process that another test starts and kills.
server_tests() {
  cargo test --test "$1" -- --ignored --show-output --skip the_daemon_that_is_killed
}

simulation() {
  RUNNER_FLEET_SIM_SECONDS=${RUNNER_FLEET_SIM_SECONDS:-120} \
    cargo test --release -p runner-fleet-actors --features sim --test simulation -- --nocapture
}

# ---- the servers: brought up while the compiler works, taken down only where they were not up before

lxd_socket=${LXD_DIR:-/var/lib/lxd}/unix.socket
declare -A bring_up_jobs=()

openstack_runs() { tests/openstack/api.sh status >/dev/null 2>&1; }

lxd_runs() { as_root curl -sf -m 3 --unix-socket "$lxd_socket" http://lxd/1.0 >/dev/null 2>&1; }

queue_runs() { (exec 3<>/dev/tcp/127.0.0.1/15682 4<>/dev/tcp/127.0.0.1/17017) 2>/dev/null; }

# bring_up NAME: in the background, unless it is up.
bring_up() {
  if "$1_runs"; then
    echo "$1 is up already; it will be left up"
  else
    setsid "tests/$1/up.sh" >"$logs/$1-up.log" 2>&1 </dev/null &
    bring_up_jobs[$1]=$!
  fi
}

take_down() {
  local name
  for name in "${!bring_up_jobs[@]}"; do
    # An up that is still under way holds the lock that down needs. Its daemons have sessions of their own.
    kill -- "-${bring_up_jobs[$name]}" 2>/dev/null
    "tests/$name/down.sh" >"$logs/$name-down.log" 2>&1
  done
}

# is_up NAME: waits for the first one by its lock, and tries once more where that one failed.
is_up() {
  "tests/$1/up.sh"
  local status=$?
  [ ! -e "$logs/$1-up.log" ] || sed 's/^/  in the background: /' "$logs/$1-up.log"
  return "$status"
}

# ---- what is said in the end

# Prints the skips that nobody expects, and fails where there is one.
unexpected_skips() {
  local skips
  skips=$(grep -h '^skipped, because' "$logs"/*.log | sort -u)
  [ -n "$skips" ] || return 0
  if [ -z "$servers" ]; then
    printf '\nskipped, as was to be expected without servers:\n%s\n' "$skips"
    return 0
  fi
  skips=$(grep -vxFf <(grep -v -e '^#' -e '^$' tests/expected-skips.txt) <<<"$skips")
  [ -n "$skips" ] || return 0
  printf '\nskipped, and not in tests/expected-skips.txt:\n%s\n' "$skips"
  return 1
}

count() {
  cat "$logs"/*.log | awk -v word="$1" '/^test result: / {
    for (i = 2; i <= NF; i++) if ($i ~ "^" word) total += $(i - 1)
  } END { print total + 0 }'
}

# ---- now

if [ -n "$servers" ]; then
  missing=()
  for need in shellcheck cloud-init; do
    command -v "$need" >/dev/null || missing+=("$need")
  done
  # The tests want cloud-init's schema; cloud-init itself would take this machine for a new one.
  if ! command -v cloud-init >/dev/null; then
    as_root mkdir -p /etc/cloud
    as_root touch /etc/cloud/cloud-init.disabled
  fi
  # Before up.sh begins: apt-get serves one caller at a time.
  [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}" >"$logs/packages.log" 2>&1 ||
    cat "$logs/packages.log"
fi
if [ -n "$servers" ]; then
  trap take_down EXIT
  bring_up openstack
  bring_up lxd
  bring_up queue
fi

phase scripts "scripts (shellcheck)" scripts
phase fmt "formatting" cargo fmt --all --check
phase lock "Cargo.lock is current" lock_file
phase clippy "clippy" cargo clippy --workspace --all-targets -- -D warnings
phase doc "documentation" documentation
# The servers that are up.
up=()
if [ -n "$servers" ]; then
  if phase openstack "OpenStack is up" is_up openstack; then
    clouds=${RUNNER_FLEET_TEST_OPENSTACK:-/var/tmp/runner-fleet-openstack}/clouds.yaml
    export RUNNER_FLEET_TEST_CLOUDS_YAML=$clouds
    up+=(openstack)
  fi
  if phase lxd "LXD is up" is_up lxd; then
    export RUNNER_FLEET_TEST_LXD_SOCKET=$lxd_socket
    up+=(lxd)
  fi
  if phase queue "the queues are up" is_up queue; then
    while read -r setting; do export "${setting?}"; done < <(grep ^RUNNER_FLEET_TEST_ "$logs/queue.log")
    up+=(queue)
  fi
fi
phase tests "tests" all_tests
for server in "${up[@]}"; do
  phase "$server-tests" "tests on the real $server" server_tests "$server"
done
phase simulation "simulation" simulation

failed=$(($(count failed) + failed_phases))
failures
printf '\n'
printf '%s\n' "${verdicts[@]}"
unexpected_skips || failed=$((failed + 1))
printf '\n%d passed, %d failed, in %d s\n' "$(count passed)" "$failed" "$SECONDS"
[ "$failed" -eq 0 ]
