#!/bin/bash
# Brings up a real OpenStack on this machine for the tests: keystone, placement, glance, nova and
# neutron as released, on the loopback. Only the hypervisor and the wires are stand-ins, so VMs go
# through the real API, the real scheduler and the real database, and never boot. See README.md.
#
# usage: up.sh [--install]
#   --install   only fetch what is missing on the machine; start nothing
#
# Idempotent: what runs is left alone, what is missing is added. Ends with the path of a clouds.yaml.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
. "$here/../lib/packages.sh"
for part in settings install configure daemons schema; do
  # shellcheck source=/dev/null
  . "$here/lib/$part.sh"
done
# shellcheck source=tests/lib/process.sh
. "$here/../lib/process.sh"
# shellcheck source=tests/lib/rabbitmq.sh
. "$here/../lib/rabbitmq.sh"

case ${1:-} in
  '' | --install) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

# Everything runs and was filled by an up that came to its end.
everything_runs() {
  local name
  [ -e "$STATE/.populated" ] || return 1
  for name in "${DAEMONS[@]}"; do alive "$name" || return 1; done
  for name in "${!API_PORT[@]}"; do answers "$name" || return 1; done
}

announce() {
  echo "clouds.yaml: $CLOUDS (clouds: ostest, ostest-admin)"
}

lock
if everything_runs; then
  echo "already up"
  announce
  exit 0
fi

# ---- what must be there
install_venv >"$LOGS/install-venv.log" 2>&1 9>&- &
venv_job=$!
install_system_packages >"$LOGS/install-system.log" 2>&1 ||
  { tail -n 20 "$LOGS/install-system.log" >&2; die "the system packages could not be installed"; }
phase "system packages (venv meanwhile)"
if [ "${1:-}" != --install ]; then
  configure_broker
  start_daemon mariadb
  start_daemon rabbitmq
fi
# A machine without python3-venv lets the first try fail at once; it is there by now.
wait "$venv_job" || install_venv >>"$LOGS/install-venv.log" 2>&1 9>&- ||
  { tail -n 20 "$LOGS/install-venv.log" >&2; die "the Python packages could not be installed"; }
install_drivers
phase "Python packages"
[ "${1:-}" != --install ] || exit 0

# ---- databases and APIs
configure
export OS_CLIENT_CONFIG_FILE=$CLOUDS
wait_for 60 "answer of MariaDB" mariadb sql 'select 1'
make_schema
phase "databases"
[ "$(cat /proc/sys/net/core/somaxconn)" -ge 128 ] || as_root sysctl -qw net.core.somaxconn=1024
start_daemon keystone
start_daemon placement
wait_for 60 "listening RabbitMQ" rabbitmq listens "$BROKER_PORT"
for name in glance neutron nova-api; do start_daemon "$name"; done
wait_for 120 "answer of keystone" keystone answers keystone
phase "keystone, RabbitMQ"

# ---- accounts, then the rest of the contents while the last daemons start
populate_job=
if [ ! -e "$STATE/.populated" ]; then
  rm -f "$RUN/accounts-there"
  "$VENV/bin/python" "$FILES/populate.py" "$SERVICE_PASSWORD" "$MEMBER_PASSWORD" \
    "$RUN/accounts-there" >"$LOGS/populate.log" 2>&1 9>&- &
  populate_job=$!
  # Conductor and scheduler log in when they start, and end where keystone refuses them.
  until [ -e "$RUN/accounts-there" ]; do
    kill -0 "$populate_job" 2>/dev/null || { cat "$LOGS/populate.log" >&2; die "no accounts could be made"; }
    sleep 0.1
  done
  phase "accounts"
fi

# nova-compute loses ten seconds at each try while there is no conductor, so it comes after it.
since=$(date -u '+%F %T')
alive nova-conductor && since=2000-01-01
start_daemon nova-conductor
start_daemon nova-scheduler
wait_for 120 "report of nova-conductor" nova-conductor reported nova-conductor "$since"
start_daemon nova-compute
for name in placement glance neutron nova-api; do
  wait_for 120 "answer of $name" "$name" answers "$name"
done
phase "all APIs"
if [ -n "$populate_job" ]; then
  wait "$populate_job" || { cat "$LOGS/populate.log" >&2; die "the cloud could not be filled"; }
  phase "images, flavors, networks"
fi
wait_for 120 "report of nova-compute" nova-compute reported nova-compute "$since"
wait_for 120 "compute node in the cell" nova-compute mapped
wait_for 60 "report of nova-scheduler" nova-scheduler reported nova-scheduler "$since"
touch "$STATE/.populated"
phase "nova-compute, nova-scheduler"
printf '%-40s %7s s\n' "openstack is up" "$(seconds_since "$BEGAN_MS")"
announce
