#!/bin/bash
# Brings up a real LXD on this machine for the tests, from Debian's package, without systemd and
# without an image server. See README.md.
#
# usage: up.sh [--install]
#   --install   only fetch what is missing on the machine; start nothing
#
# Idempotent: an LXD that runs is taken as it is, and what is missing in it is added. Ends with the
# environment that the tests want.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/packages.sh
. "$here/../lib/packages.sh"
# shellcheck source=tests/lxd/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=tests/lxd/lib/images.sh
. "$here/lib/images.sh"
# shellcheck source=tests/lxd/lib/mounts.sh
. "$here/lib/mounts.sh"
# shellcheck source=tests/lxd/lib/vms.sh
. "$here/lib/vms.sh"

case ${1:-} in
  '' | --install) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

mkdir -p "$STATE" "$IMAGES" "$TLS"
lock

# ---- packages
missing=()
for need in lxd:lxd dnsmasq:dnsmasq-base nft:nftables mmdebstrap:mmdebstrap mksquashfs:squashfs-tools \
  mkfs.btrfs:btrfs-progs curl:curl openssl:openssl; do
  command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  install_packages "${missing[@]}" >"$STATE/packages.log" 2>&1 9>&- ||
    { tail -n 20 "$STATE/packages.log" >&2; die "packages could not be installed: ${missing[*]}"; }
fi
have_qemu
phase "packages (${#missing[@]} new)"
[ "${1:-}" != --install ] || exit 0

# ---- the daemon
if ! answers; then
  # Each container with systemd takes some inotify handles; the usual 128 end at about 25 containers.
  as_root sysctl -qw fs.inotify.max_user_instances=1024 || true
  # No file of ours stays open in it, else whoever waits for our output waits for ever.
  # shellcheck disable=SC2016  # the inner shell is the one that expands
  as_root env LXD_DIR="$LXD_DIR" PATH="$(path_with_modprobe)" setsid sh -c '
    ulimit -n "$(ulimit -Hn)"
    echo "$$" >"$1"
    exec env LD_PRELOAD="$3" lxd --group lxd --logfile "$2"
  ' sh "$PID.new" "$LOG" "$(with_idmaps)" </dev/null >"$STATE/lxd.out" 2>&1 9>&- &
  for ((tries = 0; tries < 600; tries++)); do
    answers && break
    sleep 0.1
  done
  answers || { tail -n 20 "$LOG" "$STATE/lxd.out" >&2; die "LXD does not answer at $SOCKET"; }
  pid=$(cat "$PID.new")
  rm -f "$PID.new"
  echo "$pid $(start_time "$pid")" >"$PID"
  phase "daemon"
fi

# ---- storage, network, profile
if ! lxc storage show default >/dev/null 2>&1; then
  # Copy-on-write: a launch does not unpack the image again, a deletion does not walk through it.
  if grep -qw btrfs /proc/filesystems || as_root modprobe btrfs 2>/dev/null; then
    lxc storage create default btrfs size="$POOL_SIZE" >/dev/null
  else
    lxc storage create default dir >/dev/null
  fi
fi
if ! mountpoint -q "$MEMORY"; then
  # After a reboot the pool is there and its folder is gone with all that was in it.
  ! lxc storage show memory >/dev/null 2>&1 || lxc storage delete memory >/dev/null
  mkdir -p "$MEMORY"
  as_root mount -t tmpfs -o "size=$MEMORY_SIZE,mode=711" runner-fleet "$MEMORY"
fi
lxc storage show memory >/dev/null 2>&1 || lxc storage create memory dir source="$MEMORY" >/dev/null
lxc network show "$BRIDGE" >/dev/null 2>&1 ||
  lxc network create "$BRIDGE" ipv4.address="$BRIDGE_ADDRESS" ipv4.nat=true ipv6.address=none >/dev/null
profile=$(lxc profile show default)
grep -q 'path: /$' <<<"$profile" || lxc profile device add default root disk path=/ pool=default >/dev/null
grep -q "network: $BRIDGE" <<<"$profile" ||
  lxc profile device add default eth0 nic name=eth0 network="$BRIDGE" >/dev/null
lxc config set images.auto_update_interval 0
phase "storage, network, profile"

# ---- the way over the network: loopback only
if [ ! -s "$TLS/client.key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj /CN=runner-fleet-tests -keyout "$TLS/client.key" -out "$TLS/client.crt" 2>/dev/null
  chmod 600 "$TLS/client.key"
fi
fingerprint=$(openssl x509 -in "$TLS/client.crt" -outform der | sha256sum | cut -d' ' -f1)
lxc query "/1.0/certificates/$fingerprint" >/dev/null 2>&1 ||
  lxc config trust add "$TLS/client.crt" --name runner-fleet-tests >/dev/null
address=$(lxc config get core.https_address)
if [ -z "$address" ]; then
  lxc config set core.https_address "$HTTPS_ADDRESS"
  address=$HTTPS_ADDRESS
fi
# A cluster, or one that was one, shows another certificate than server.crt: what it says counts.
as_root curl -sf --unix-socket "$SOCKET" http://lxd/1.0 |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["metadata"]["environment"]["certificate"], end="")' \
    >"$TLS/server.crt"
echo "https://$address" >"$TLS/url"
phase "https"

# ---- images
for image in tiny deb12; do have_image "$image"; done
if makes_vms; then
  have_image blank
  unpack_blank
else
  echo "this LXD makes no virtual machines; $LOG says why, where it was not started without QEMU"
fi
no_quotas

printf '%-40s %7s s\n' "lxd is up" "$(seconds_since "$BEGAN_MS")"
echo "RUNNER_FLEET_TEST_LXD_SOCKET=$SOCKET"
