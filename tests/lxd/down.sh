#!/bin/bash
# Ends the LXD that up.sh started, and no other: one that ran before stays, less what up.sh put in.
#
# usage: down.sh [--purge]
#   --purge   also deletes LXD's own data; the packages and the built images stay, for the next up.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/packages.sh
. "$here/../lib/packages.sh"
# shellcheck source=tests/lxd/lib/settings.sh
. "$here/lib/settings.sh"

case ${1:-} in
  '' | --purge) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

[ -d "$STATE" ] || exit 0
lock
if answers && ! is_ours; then
  echo "this LXD was not started by up.sh; it is left up"
  exit 0
fi

if answers; then
  # One name a call: with several, the client 5.0 ends after the first ephemeral one.
  lxc list --all-projects -f csv -c ne 2>/dev/null | while IFS=, read -r name project; do
    lxc delete -f --project "${project:-default}" "$name" >/dev/null 2>&1 || true
  done
  if [ "${1:-}" = --purge ]; then
    lxc image list -f csv -c F | while read -r fingerprint; do lxc image delete "$fingerprint"; done
    printf 'config: {}\ndevices: {}\n' |
      as_root env HOME="$STATE" LXD_DIR="$LXD_DIR" lxc profile edit default
    lxc network delete "$BRIDGE" >/dev/null || true
    for pool in memory default; do lxc storage delete "$pool" >/dev/null || true; done
  fi
  read -r pid since <"$PID"
  as_root env LXD_DIR="$LXD_DIR" timeout 60 lxd shutdown --timeout 30 || as_root kill -TERM "$pid"
  for ((tries = 0; tries < 100; tries++)); do
    [ "$(start_time "$pid")" = "$since" ] || break
    sleep 0.1
  done
  [ "$(start_time "$pid")" != "$since" ] || die "LXD (process $pid) does not end"
fi
rm -f "$PID"

# A start that failed leaves its pair of network devices behind: LXD's MAC addresses, down, in no bridge.
ip -o link show type veth | awk '/link\/ether 00:16:3e/ && !/ master / && / state DOWN / { sub(/@.*/, "", $2); print $2 }' |
  while read -r device; do as_root ip link delete "$device" 2>/dev/null || true; done
for folder in "$LXD_DIR/shmounts" "$LXD_DIR/devlxd"; do
  ! mountpoint -q "$folder" || as_root umount -l "$folder"
done
if [ "${1:-}" = --purge ]; then
  ! mountpoint -q "$MEMORY" || as_root umount "$MEMORY"
  as_root rm -rf "${LXD_DIR:?}"/* "$LOG" "$TLS"
fi
echo "lxd is down"
