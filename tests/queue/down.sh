#!/bin/bash
# Ends the brokers that up.sh started, and nothing else.
#
# usage: down.sh [--purge]
#   --purge   also deletes their data and logs; the installed programs stay, for the next up.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/queue/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=tests/lib/process.sh
. "$here/../lib/process.sh"
# shellcheck source=tests/lib/rabbitmq.sh
. "$here/../lib/rabbitmq.sh"

case ${1:-} in
  '' | --purge) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

lock
stop "${DAEMONS[@]}"
end_rabbitmq_names
if [ "${1:-}" = --purge ]; then
  rm -rf "$STATE"/{rabbitmq,ferretdb,config,log,run}
fi
echo "the queues are down"
