#!/bin/bash
# Ends the OpenStack that up.sh started, and nothing else.
#
# usage: down.sh [--purge]
#   --purge   also deletes its data and logs; the installed programs stay, for the next up.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/openstack/lib/settings.sh
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
# The broker and the database last: the others take their leave from them.
stop nova-compute nova-api nova-scheduler nova-conductor neutron glance placement keystone
stop rabbitmq mariadb
end_rabbitmq_names
if [ "${1:-}" = --purge ]; then
  rm -rf "$STATE"/{mysql,rabbitmq,config,images,locks,nova,neutron,log,run,.schema,.populated,clouds.yaml}
fi
echo "openstack is down"
