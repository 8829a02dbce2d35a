#!/bin/bash
# Ends the OpenStack that up.sh started, and nothing else.
#
# usage: down.sh [--purge]
#   --purge   also deletes its data and logs; the installed programs stay, for the next up.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
for part in settings process; do
  # shellcheck source=/dev/null
  . "$here/lib/$part.sh"
done

case ${1:-} in
  '' | --purge) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

lock
# The broker and the database last: the others take their leave from them.
stop nova-compute nova-api nova-scheduler nova-conductor neutron glance placement keystone
stop rabbitmq mariadb
# RabbitMQ leaves its name daemon behind. Ours is the one on our port; it refuses while any other
# node is registered with it.
if command -v epmd >/dev/null; then
  ERL_EPMD_PORT=$EPMD_PORT epmd -port "$EPMD_PORT" -kill >/dev/null 2>&1 || true
fi
if [ "${1:-}" = --purge ]; then
  rm -rf "$STATE"/{mysql,rabbitmq,config,images,locks,nova,neutron,log,run,.schema,.populated,clouds.yaml}
fi
echo "openstack is down"
