#!/bin/bash
# Takes single daemons of the running OpenStack away and gives them back: an outage at will.
#
# usage: api.sh stop|start|restart NAME     until it is gone, or answers again
#        api.sh status                      each daemon in a line; fails unless all of them run
#   NAME: nova-api, keystone, glance, neutron, placement, nova-scheduler, nova-compute, ...
#
# nova-compute forgets its VMs when it ends: they stay ACTIVE in the database, and can be deleted.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "$0")" && pwd)
for part in settings daemons; do
  # shellcheck source=/dev/null
  . "$here/lib/$part.sh"
done
# shellcheck source=tests/lib/process.sh
. "$here/../lib/process.sh"
# shellcheck source=tests/lib/rabbitmq.sh
. "$here/../lib/rabbitmq.sh"

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

known() {
  local name
  for name in "${DAEMONS[@]}"; do [ "$name" != "$1" ] || return 0; done
  die "no daemon is called $1 (there are: ${DAEMONS[*]})"
}

bring_back() {
  local since
  since=$(date -u '+%F %T')
  [ -e "$STATE/.populated" ] || die "there is no OpenStack at $STATE (tests/openstack/up.sh makes one)"
  alive "$1" && return 0
  start_daemon "$1"
  if [ -n "${API_PORT[$1]:-}" ]; then
    wait_for 120 "answer of $1" "$1" answers "$1"
  else
    case $1 in
      nova-*) wait_for 120 "report of $1" "$1" reported "$1" "$since" ;;
      mariadb) wait_for 60 "answer of MariaDB" mariadb sql 'select 1' ;;
      rabbitmq) wait_for 60 "listening RabbitMQ" rabbitmq listens "$BROKER_PORT" ;;
    esac
  fi
}

case ${1:-}:$# in
  stop:2 | start:2 | restart:2)
    known "$2"
    lock
    [ "$1" = start ] || stop "$2"
    [ "$1" = stop ] || bring_back "$2"
    ;;
  status:1)
    all=0
    for name in "${DAEMONS[@]}"; do
      if alive "$name"; then
        echo "$name runs"
      else
        echo "$name does not run"
        all=1
      fi
    done
    [ -e "$STATE/.populated" ] || all=1
    exit "$all"
    ;;
  *) usage ;;
esac
