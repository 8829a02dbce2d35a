# shellcheck shell=bash
# Where this LXD lives and what is in it. Sourced by every script of this folder.

# shellcheck disable=SC2034  # what one script leaves unused, another one reads

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FILES=$HERE/files
STATE=${RUNNER_FLEET_TEST_LXD:-/var/tmp/runner-fleet-lxd}
IMAGES=$STATE/images
TLS=$STATE/tls
LOG=$STATE/lxd.log
PID=$STATE/lxd.pid
# The folder of a tmpfs: the storage pool whose disks lie in memory.
MEMORY=$STATE/memory

# Debian's own folder: its package makes the group and the maps of users for it.
LXD_DIR=${LXD_DIR:-/var/lib/lxd}
SOCKET=$LXD_DIR/unix.socket
export LXD_DIR

BRIDGE=${RUNNER_FLEET_TEST_LXD_BRIDGE:-lxdbr0}
BRIDGE_ADDRESS=${RUNNER_FLEET_TEST_LXD_NET:-10.77.0.1/24}
HTTPS_ADDRESS=127.0.0.1:${RUNNER_FLEET_TEST_LXD_PORT:-18443}
POOL_SIZE=${RUNNER_FLEET_TEST_LXD_POOL_SIZE:-20GiB}
MEMORY_SIZE=${RUNNER_FLEET_TEST_LXD_MEMORY_SIZE:-1G}

export PATH=$PATH:/usr/sbin:/sbin

# lxc wants a home for its own files, and reads its standard input where it can.
lxc() {
  as_root env HOME="$STATE" LXD_DIR="$LXD_DIR" lxc "$@" </dev/null
}

die() {
  echo "lxd: $*" >&2
  exit 1
}

# One of up and down at a time. The lock goes with file descriptor 9, so no daemon may inherit it.
lock() {
  exec 9>"$STATE/.lock"
  flock 9
}

answers() {
  as_root curl -sf --max-time 5 --unix-socket "$SOCKET" -o /dev/null http://lxd/1.0
}

# start_time PID: a process is known by its id and its start, in the kernel's ticks.
start_time() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The command's name stands in brackets and may hold spaces; the state is the first word behind it.
  read -ra fields <<<"${stat##*) }"
  [ "${fields[0]}" != Z ] || return 1
  echo "${fields[19]}"
}

# Whether the daemon that runs is one that up.sh has started.
is_ours() {
  local pid since
  [ -s "$PID" ] || return 1
  read -r pid since <"$PID"
  [ "$(start_time "$pid")" = "$since" ]
}

now_ms() { date +%s%3N; }
PHASE_MS=$(now_ms)
BEGAN_MS=$PHASE_MS

seconds_since() { local ms=$(($(now_ms) - $1)); printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100)); }

phase() {
  printf '%-40s %7s s\n' "$1" "$(seconds_since "$PHASE_MS")"
  PHASE_MS=$(now_ms)
}
