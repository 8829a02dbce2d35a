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

SUITE=lxd
# shellcheck source=tests/lib/process.sh
. "$HERE/../lib/process.sh"

# lxc wants a home for its own files, and reads its standard input where it can.
lxc() {
  as_root env HOME="$STATE" LXD_DIR="$LXD_DIR" lxc "$@" </dev/null
}

answers() {
  as_root curl -sf --max-time 5 --unix-socket "$SOCKET" -o /dev/null http://lxd/1.0
}

# Whether the daemon that runs is one that up.sh has started.
is_ours() { is_process "$PID"; }
