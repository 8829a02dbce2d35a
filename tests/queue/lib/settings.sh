# shellcheck shell=bash
# Where these brokers live, their ports and their accounts. Sourced by every script of this folder.
#
# All ports are on the loopback and off the customary numbers where a broker of the machine's own may
# sit. The password is no secret: nothing beyond the loopback can reach it.

# shellcheck disable=SC2034  # what one script leaves unused, another one reads

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FILES=$HERE/files
SUITE=queue
STATE=${RUNNER_FLEET_TEST_QUEUE:-/var/tmp/runner-fleet-queue}
VENV=$STATE/venv
CONFIG=$STATE/config
LOGS=$STATE/log
RUN=$STATE/run
FERRETDB=$STATE/bin/ferretdb

# The distribution's own Python: the venv must outlive whatever a version switcher has on the path.
PYTHON=/usr/bin/python3

BROKER_NODE=fleet-queue
BROKER_PORT=${RUNNER_FLEET_TEST_QUEUE_AMQP_PORT:-15682}
BROKER_DIST_PORT=$((BROKER_PORT + 2))
EPMD_PORT=$((BROKER_PORT - 1303))
MONGO_PORT=${RUNNER_FLEET_TEST_QUEUE_MONGODB_PORT:-17017}

DAEMONS=(rabbitmq ferretdb)
AMQP_URL=amqp://fleet:fleet-secret@127.0.0.1:$BROKER_PORT//
MONGODB_URL=mongodb://127.0.0.1:$MONGO_PORT/jobs

mkdir -p "$STATE/bin" "$CONFIG/rabbitmq" "$LOGS" "$RUN"
