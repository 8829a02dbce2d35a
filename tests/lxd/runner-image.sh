#!/bin/bash
# Makes the image `runner`: `deb12` with the stand-in for the runner application in
# /opt/actions-runner. Made anew only where the stand-in or `deb12` changed.
#
# usage: tests/lxd/runner-image.sh
set -euo pipefail
exec </dev/null
cd "$(dirname "$0")/../.."

stand_in=src/fake/stand-in
base=$(lxc image list deb12 -f csv -c F)
[ -n "$base" ] || { echo "there is no image deb12; tests/lxd/up.sh makes it" >&2; exit 1; }
# What the image is made of: its recipe, and names, modes and contents of what goes in.
digest=$({ echo "$base"; cat tests/lxd/runner-image.sh; find "$stand_in" -type f -printf '%P %m\n' | sort
  find "$stand_in" -type f -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-32)
if lxc image show runner 2>/dev/null | grep -q "stand-in: $digest"; then
  exit 0
fi
name=runner-image-$$
work=$(mktemp -d)
trap 'rm -rf "$work"; lxc delete -f "$name" >/dev/null 2>&1 || true' EXIT
# A folder is pushed under its own name.
cp -r "$stand_in" "$work/actions-runner"
lxc init deb12 "$name" >/dev/null
lxc file push -p -r "$work/actions-runner" "$name/opt/" >/dev/null
lxc image delete runner 2>/dev/null || true
lxc publish "$name" --alias runner --compression none "stand-in=$digest" >/dev/null
echo "image runner is made"
