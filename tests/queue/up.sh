#!/bin/bash
# Brings up a real RabbitMQ, and FerretDB as a server that speaks MongoDB's wire protocol, on the loopback
# of this machine, and kombu to write messages as Canonical's webhook router does. See README.md.
#
# usage: up.sh [--install]
#   --install   only fetch and build what is missing on the machine; start nothing
#
# Idempotent: what runs is left alone, what is missing is added. Ends with the environment that the
# tests want.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/packages.sh
. "$here/../lib/packages.sh"
# shellcheck source=tests/queue/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=tests/lib/process.sh
. "$here/../lib/process.sh"
# shellcheck source=tests/lib/rabbitmq.sh
. "$here/../lib/rabbitmq.sh"
# shellcheck source=tests/queue/lib/install.sh
. "$here/lib/install.sh"
# shellcheck source=tests/queue/lib/daemons.sh
. "$here/lib/daemons.sh"

case ${1:-} in
  '' | --install) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

# installed LOG WHAT COMMAND...
installed() {
  local log=$LOGS/$1.log what=$2
  shift 2
  "$@" >"$log" 2>&1 9>&- || { tail -n 20 "$log" >&2; die "$what"; }
}

lock

# ---- what must be there
installed packages "the system packages could not be installed" install_system_packages
phase "system packages"
installed venv "kombu could not be installed" install_venv
phase "kombu"
installed ferretdb-build "FerretDB could not be built" build_ferretdb
phase "FerretDB"
[ "${1:-}" != --install ] || exit 0

# ---- the daemons
for name in rabbitmq.conf rabbitmq-advanced.config definitions.json; do
  text=$(<"$FILES/$name")
  for setting in CONFIG BROKER_PORT BROKER_DIST_PORT; do text=${text//"@$setting@"/"${!setting}"}; done
  printf '%s\n' "$text" >"$CONFIG/rabbitmq/${name#rabbitmq-}"
done
echo '[].' >"$CONFIG/rabbitmq/enabled_plugins"
: >"$CONFIG/rabbitmq/env.conf"
mkdir -p "$STATE/rabbitmq" "$STATE/ferretdb"
start_rabbitmq
bring_back ferretdb
bring_back rabbitmq
phase "RabbitMQ, FerretDB"

printf '%-40s %7s s\n' "the queues are up" "$(seconds_since "$BEGAN_MS")"
echo "RUNNER_FLEET_TEST_AMQP_URL=$AMQP_URL"
echo "RUNNER_FLEET_TEST_MONGODB_URL=$MONGODB_URL"
