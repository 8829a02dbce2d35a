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
# Everything is compiled first. Then come the tests without servers; then what waits for a server, in lanes
# beside each other. What only computes runs beside all of that, at the lowest priority. Each phase has a budget
# in tests/README.md, and what it took is shown against it.
# What is shown is short: a line for each file of tests, what was measured and, in the end, whatever
# failed. The whole output of each phase: target/all-tests/.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/lib/packages.sh
. tests/lib/packages.sh
# shellcheck source=tests/lxd/lib/mounts.sh
. tests/lxd/lib/mounts.sh

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
# Lanes are processes of their own, so what they conclude is kept in files.
verdicts=$logs/verdicts
failed_phases=$logs/failed-phases
: >"$verdicts"
: >"$failed_phases"

# budget NAME: seconds, from the first table in tests/README.md that has it.
budget() { awk -F '|' -v name="$1" '$2 ~ "^ *`?" name "`? *$" { print $4 + 0; exit }' tests/README.md; }

# verdict NAME OUTCOME SECONDS
verdict() {
  local budget note=
  budget=$(budget "$1")
  [ "$3" -le "${budget:-0}" ] || note=', over its budget'
  printf '%-14s %-8s %5d s of %5d s%s\n' "$1" "$2" "$3" "${budget:-0}" "$note" >>"$verdicts"
  printf -- '---- %s: %s after %d s of %d s%s\n' "$1" "$2" "$3" "${budget:-0}" "$note"
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

# failures LOG...: whatever failed, in full.
failures() {
  awk '
    FNR == 1 { failures = 0 }
    /^     Running / { file = $2 }
    /^failures:$/ { if (!failures++) printf "\n==== what failed in %s\n", file; next }
    /^test result: / { failures = 0 }
    failures == 1 { print }
  ' "$@"
}

# phase NAME COMMAND...
phase() {
  local name=$1 log=$logs/$1.log began=$SECONDS
  shift
  printf '\n==== %s\n' "$name"
  if "$@" </dev/null 2>&1 | tee "$log" | brief; then
    verdict "$name" ok $((SECONDS - began))
    return 0
  fi
  verdict "$name" FAILED $((SECONDS - began))
  # At once, because whatever stops this run later would take it along.
  failures "$log"
  unended "$log"
  # A failed test is counted by itself; what failed without one counts as one failure.
  grep -q '^test result: FAILED' "$log" || echo "$name" >>"$failed_phases"
  return 1
}

declare -A running=()

# beside LANE...: each a function that runs its phases one after the other. What the first one prints is
# seen while it goes on, that of the others after it.
beside() {
  local lane first=$1
  shift
  for lane in "$@"; do
    # A process group of its own: what is in the background is deaf to Ctrl-C, so take_down ends it.
    set -m
    "$lane" >"$logs/$lane.lane" 2>&1 </dev/null &
    set +m
    running[$lane]=$!
  done
  "$first"
  for lane in "$@"; do
    # One that died has told of no phase.
    wait "${running[$lane]}" || grep -q '^---- .*: FAILED ' "$logs/$lane.lane" || echo "$lane" >>"$failed_phases"
    unset "running[$lane]"
    cat "$logs/$lane.lane"
  done
}

# quietly NICE COMMAND...: at a lower priority, 19 being the lowest. In a session of its own, because Linux shares
# the processors out by sessions first (autogroup, sched(7)), and a nice value counts only within one; the file has
# whom to end.
quietly() {
  local session=$logs/quiet-session-$BASHPID
  # shellcheck disable=SC2016
  setsid --wait bash -c '
    echo $$ >"$0"
    nice=$1
    shift
    { echo "$nice" >/proc/self/autogroup; } 2>/dev/null
    exec nice -n "$nice" "$@"
  ' "$session" "$@"
  local status=$?
  rm -f "$session"
  return "$status"
}

# limited COMMAND...: ended, with all that it has started, after a time that no suite needs. One test that hangs
# would else take the verdict on everything else along. It writes to the pipe of its phase, so all of it must go.
limited() {
  timeout --kill-after=30 "$suite_seconds" "$@" &
  # A process group of its own, so take_down has to know of it.
  local group=$! status
  echo "$group" >"$logs/group-$group"
  wait "$group"
  status=$?
  rm -f "$logs/group-$group"
  [ "$status" -ne 124 ] || printf 'error: cut off after %s s; tests that never ended:\n' "$suite_seconds"
  return "$status"
}
suite_seconds=1500

# Tests that ran for long and have no end in the output.
unended() {
  awk '
    / has been running for over / { slow[$2] }
    /^test .* \.\.\. / { delete slow[$2] }
    END { for (name in slow) print name }
  ' "$@"
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

lints() { quietly 19 cargo clippy --workspace --all-targets -- -D warnings; }

# Of examples there are none, but who asks for them gets the features of tests, so that what clippy has read of the
# dependencies is not read again.
documentation() {
  RUSTDOCFLAGS="-D warnings" quietly 19 cargo doc --no-deps --workspace --lib --bins --examples
}

# A test's own words say where it failed; the way there through an executor says nothing.
export RUST_BACKTRACE=0

# All that is needed later, with the features that everything is built with.
build() { cargo test --workspace --no-run; }

# --show-output: else the line that says why a test was skipped would not be seen. Most of `it` waits.
all_tests() { RUST_TEST_THREADS=6 limited cargo test --workspace --no-fail-fast -- --show-output; }

# Optimized, because it is of the package of actors (Cargo.toml). Before the lints, which have all the time that
# servers take.
simulation() {
  RUNNER_FLEET_SIM_SECONDS=${RUNNER_FLEET_SIM_SECONDS:-60} quietly 10 cargo test --test simulation -- --nocapture
}

# executable FILE: what the build made of it.
executable() { sed -n "s|^ *Executable $1 (\(.*\))$|\1|p" "$logs/build.log"; }

# server_tests NAME [SUITE...]: what is ignored elsewhere, because it needs that server. Not by cargo, which would
# wait for the lints. One test is a process that another test starts and kills.
server_tests() {
  local server=$1 suites
  shift
  suites=${*:-main}
  printf '     Running tests/%s/%s.rs\n' "$server" "${suites// /+}"
  limited "$(executable "tests/$server/main.rs")" --ignored --show-output --skip the_daemon_that_is_killed "${@/%/::}"
}

# Most of LXD's suites have it for themselves: some count its memory, some measure.
lxd_suites() {
  local file suite threads status=0
  # These only wait, mostly for one container each.
  local together=(demo guest_container guest_stand_down)
  for file in tests/lxd/*.rs; do
    suite=$(basename "$file" .rs)
    case " main ${together[*]} " in *" $suite "*) continue ;; esac
    # Three stories of e2e wait more than they compute; those that measure take turns by themselves.
    [ "$suite" = e2e ] && threads=3 || threads=2
    no_quotas
    RUST_TEST_THREADS=$threads server_tests lxd "$suite" || status=1
  done
  no_quotas
  RUST_TEST_THREADS=6 server_tests lxd "${together[@]}" || status=1
  return "$status"
}

# The README's quick look must compile without the clients that it leaves out, and have nothing left over.
# Not by RUSTFLAGS, with which every dependency would be compiled again.
reduced() {
  quietly 19 cargo clippy -p runner-fleet --no-default-features --features demo -- -D warnings &&
    quietly 19 cargo check -p runner-fleet --no-default-features
}

tests_lane() { phase tests all_tests; }

# Takes what the tests leave, which mostly wait.
simulation_lane() { phase simulation simulation; }

# What only computes, and takes what all tests leave. It has cargo's lock for long, so it begins when the tests
# have had it.
quiet_lane() {
  local name
  for name in tests simulation; do
    # Or have failed before.
    until grep -qs '^     Running ' "$logs/$name.log" || grep -qs "^$name " "$verdicts"; do sleep 1; done
  done
  phase clippy lints
  phase doc documentation
  phase reduced reduced
}

# All that waits. LXD's suites not beside the tests: its daemons and fakes want what those take away.
tests_lanes() {
  beside tests_lane simulation_lane
  [ -z "$servers" ] || beside lxd_lane openstack_queue_lane
}

lxd_lane() {
  phase lxd-up is_up lxd || return
  export RUNNER_FLEET_TEST_LXD_SOCKET=$lxd_socket
  phase lxd lxd_suites
}

openstack_queue_lane() {
  if phase queue-up is_up queue; then
    while read -r setting; do export "${setting?}"; done < <(grep ^RUNNER_FLEET_TEST_ "$logs/queue-up.log")
    phase queue server_tests queue
  fi
  phase openstack-up is_up openstack || return
  export RUNNER_FLEET_TEST_CLOUDS_YAML=${RUNNER_FLEET_TEST_OPENSTACK:-/var/tmp/runner-fleet-openstack}/clouds.yaml
  phase openstack server_tests openstack
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
    setsid "tests/$1/up.sh" >"$logs/$1-background.log" 2>&1 </dev/null &
    bring_up_jobs[$1]=$!
  fi
}

take_down() {
  local lane name group session
  for group in "$logs"/group-*; do
    [ ! -e "$group" ] || kill -- "-${group##*-}" 2>/dev/null
  done
  for lane in "${!running[@]}"; do kill -- "-${running[$lane]}" 2>/dev/null; done
  for session in "$logs"/quiet-session-*; do
    [ ! -e "$session" ] || kill -- "-$(<"$session")" 2>/dev/null
  done
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
  [ ! -e "$logs/$1-background.log" ] || sed 's/^/  in the background: /' "$logs/$1-background.log"
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

# Seconds that a processor had nothing to do, of all processors since the machine began (proc(5)).
idle() { awk -v hz="$(getconf CLK_TCK)" '/^cpu / { print int(($5 + $6) / hz) }' /proc/stat; }

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
trap take_down EXIT
if [ -n "$servers" ]; then
  bring_up openstack
  bring_up lxd
  bring_up queue
fi

idle_before=$(idle)
phase scripts scripts
phase formatting cargo fmt --all --check
phase lock lock_file
if phase build build; then
  beside tests_lanes quiet_lane
else
  phase clippy lints
fi

failed=$(($(count failed) + $(wc -l <"$failed_phases")))
failures "$logs"/*.log
printf '\n'
cat "$verdicts"
unexpected_skips || failed=$((failed + 1))
printf '\nthe processors had nothing to do for %d %% of the time\n' \
  $((100 * ($(idle) - idle_before) / ($(nproc) * (SECONDS + 1))))
printf '%d passed, %d failed, in %d s of %d s\n' "$(count passed)" "$failed" "$SECONDS" "$(budget everything)"
[ "$failed" -eq 0 ]
