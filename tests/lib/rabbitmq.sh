# shellcheck shell=bash
# A RabbitMQ of a suite's own, from Debian's package, beside any that the machine has. Sourced.
#
# Whoever sources it has its settings in CONFIG/rabbitmq and its data in STATE/rabbitmq, and says by
# BROKER_NODE, BROKER_DIST_PORT and EPMD_PORT how it differs from its neighbours.

# The program behind /usr/sbin/rabbitmq-server, which insists on /var/lib/rabbitmq and on su.
start_rabbitmq() {
  local settings=$CONFIG/rabbitmq data=$STATE/rabbitmq
  start rabbitmq env HOME="$data" \
    RABBITMQ_NODENAME="$BROKER_NODE@localhost" RABBITMQ_CONF_ENV_FILE="$settings/env.conf" \
    RABBITMQ_CONFIG_FILE="$settings/rabbitmq.conf" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$settings/advanced.config" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$settings/enabled_plugins" \
    RABBITMQ_MNESIA_BASE="$data/mnesia" RABBITMQ_LOG_BASE="$data/log" \
    RABBITMQ_PID_FILE="$RUN/rabbitmq-own.pid" RABBITMQ_DIST_PORT="$BROKER_DIST_PORT" \
    ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
}

# RabbitMQ leaves its name daemon behind. Ours is the one on our port; it refuses while any other
# node is registered with it.
end_rabbitmq_names() {
  command -v epmd >/dev/null || return 0
  ERL_EPMD_PORT=$EPMD_PORT epmd -port "$EPMD_PORT" -kill >/dev/null 2>&1 || true
}
