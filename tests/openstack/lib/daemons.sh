# shellcheck shell=bash
# How each daemon is started. One table for up.sh and api.sh, so that an API that was taken away
# comes back exactly as it was.

sql() { mariadb --no-defaults -h127.0.0.1 -P"$DATABASE_PORT" -uroot -N -e "$1"; }

# Any HTTP answer will do: that the API talks is the point, not what it says to a stranger.
answers() { curl -s -o /dev/null --max-time 20 "http://127.0.0.1:${API_PORT[$1]}/"; }

start_daemon() {
  alive "$1" && return 0
  case $1 in
    mariadb) start_mariadb ;;
    rabbitmq) start_rabbitmq ;;
    keystone) start_api keystone keystone.wsgi.api OS_KEYSTONE_CONFIG_DIR="$CONFIG/keystone" ;;
    placement) start_api placement placement.wsgi.api OS_PLACEMENT_CONFIG_DIR="$CONFIG/placement" ;;
    glance) start_api glance glance.wsgi.api OS_GLANCE_CONFIG_DIR="$CONFIG/glance" ;;
    neutron)
      start_api neutron neutron.wsgi.api OS_NEUTRON_CONFIG_DIR="$CONFIG/neutron" \
        OS_NEUTRON_CONFIG_FILES=neutron.conf
      ;;
    nova-api)
      start_api nova-api nova.wsgi.osapi_compute OS_NOVA_CONFIG_DIR="$CONFIG/nova" \
        OS_NOVA_CONFIG_FILES="api-paste.ini;nova.conf;nova-db.conf"
      ;;
    nova-conductor | nova-scheduler)
      # An old record of the same daemon would pass for the new one until its next heartbeat.
      sql "delete from nova_cell1.services where \`binary\` = '$1'"
      start "$1" "$VENV/bin/$1" --config-file "$CONFIG/nova/nova.conf" \
        --config-file "$CONFIG/nova/nova-db.conf"
      ;;
    # Without the file that names the databases: nova-compute reports every access to them as an error.
    nova-compute) start nova-compute "$VENV/bin/nova-compute" --config-file "$CONFIG/nova/nova.conf" ;;
    *) die "no daemon is called $1 (there are: ${DAEMONS[*]})" ;;
  esac
}

# Durability is given up throughout: this database is worth nothing after the test.
start_mariadb() {
  if [ ! -d "$STATE/mysql/mysql" ]; then
    rm -rf "$STATE/mysql"
    mkdir -p "$STATE/mysql"
    mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$STATE/mysql" --skip-test-db \
      --auth-root-authentication-method=normal --skip-name-resolve >"$LOGS/mariadb-install.log" 2>&1 ||
      die "mariadb-install-db failed (log: $LOGS/mariadb-install.log)"
  fi
  start mariadb mariadbd --no-defaults --user="$(id -un)" --datadir="$STATE/mysql" \
    --bind-address=127.0.0.1 --port="$DATABASE_PORT" --socket="$RUN/mysql.sock" \
    --pid-file="$RUN/mariadb-own.pid" --skip-name-resolve --skip-log-bin --max-connections=1000 \
    --character-set-server=utf8mb4 --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 \
    --innodb-flush-method=fsync --innodb-buffer-pool-size=256M --innodb-log-file-size=96M \
    --innodb-stats-persistent=0 --performance-schema=0
}

# start_api NAME MODULE ENVIRONMENT...
start_api() {
  local name=$1 module=$2
  shift 2
  start "$name" env "$@" OS_CLIENT_CONFIG_FILE=/nonexistent "$VENV/bin/uwsgi" \
    --master --die-on-term --need-app --lazy-apps --processes 1 --threads "$API_THREADS" \
    --enable-threads --http-socket "127.0.0.1:${API_PORT[$name]}" --listen 128 --buffer-size 65535 \
    --http-chunked-input --wsgi-disable-file-wrapper --add-header "Connection: close" \
    --procname-prefix "fleet-test-$name " --disable-logging --venv "$VENV" \
    --module "$module:application"
}

# reported BINARY: the daemon has told the database that it lives.
reported() {
  [ "$(sql "select count(*) from nova_cell1.services
    where \`binary\` = '$1' and deleted = 0 and coalesce(updated_at, created_at) >= '$2'")" -ge 1 ]
}

# The compute node is known to the cell, so the scheduler may choose it.
mapped() {
  [ "$(sql "select count(*) from nova_cell1.compute_nodes where deleted = 0 and mapped = 1")" -ge 1 ]
}
