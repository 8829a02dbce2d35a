#!/bin/bash
# Sets how many VMs the project of the tests (demo) may have, in the administrator's name.
#
# usage: quota.sh N      at most N VMs; -1 for as many as one likes, which is how up.sh leaves it
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/openstack/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=tests/lib/process.sh
. "$here/../lib/process.sh"

if ! [[ $# = 1 && $1 =~ ^(-1|[0-9]+)$ ]]; then
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
OS_CLIENT_CONFIG_FILE=$CLOUDS "$VENV/bin/python" "$FILES/quota.py" "$1"
