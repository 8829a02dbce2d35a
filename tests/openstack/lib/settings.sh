# shellcheck shell=bash
# Where this OpenStack lives, its ports and its accounts. Sourced by every script of this folder.
#
# All ports are on the loopback and off the customary numbers where a database or a broker of the
# machine's own may sit. The passwords are no secrets: nothing beyond the loopback can reach them.

# shellcheck disable=SC2034  # what one script leaves unused, another one reads

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FILES=$HERE/files
SUITE=openstack
STATE=${RUNNER_FLEET_TEST_OPENSTACK:-/var/tmp/runner-fleet-openstack}
VENV=$STATE/venv
CONFIG=$STATE/config
LOGS=$STATE/log
RUN=$STATE/run
CLOUDS=$STATE/clouds.yaml

# The distribution's own Python: the venv must outlive whatever a version switcher has on the path.
PYTHON=/usr/bin/python3

DATABASE_PORT=13306
BROKER_NODE=fleet-test
BROKER_PORT=15672
BROKER_DIST_PORT=15674
EPMD_PORT=14369
AUTH_URL=http://127.0.0.1:5000/v3

ADMIN_PASSWORD=admin-secret
MEMBER_PASSWORD=demo-secret
SERVICE_PASSWORD=svc-secret

# Threads of each API. More only pays for more than about 50 calls at a time.
API_THREADS=${RUNNER_FLEET_TEST_OPENSTACK_THREADS:-8}

# In the order of their start.
DAEMONS=(mariadb rabbitmq keystone placement glance neutron nova-api nova-conductor nova-scheduler nova-compute)

declare -A API_PORT=([keystone]=5000 [placement]=8778 [glance]=9292 [neutron]=9696 [nova-api]=8774)

mkdir -p "$STATE" "$CONFIG" "$LOGS" "$RUN"
