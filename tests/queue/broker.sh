#!/bin/bash
# Takes one of the brokers away, or brings it back, for a test.
#
# usage: broker.sh stop|start rabbitmq|ferretdb
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/queue/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=tests/lib/process.sh
. "$here/../lib/process.sh"
# shellcheck source=tests/lib/rabbitmq.sh
. "$here/../lib/rabbitmq.sh"
# shellcheck source=tests/queue/lib/daemons.sh
. "$here/lib/daemons.sh"

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

case ${2:-}:$# in
  rabbitmq:2 | ferretdb:2) ;;
  *) usage ;;
esac
case $1 in
  stop) lock && stop "$2" ;;
  start) lock && bring_back "$2" ;;
  *) usage ;;
esac
