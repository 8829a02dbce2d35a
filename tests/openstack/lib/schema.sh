# shellcheck shell=bash
# The tables of the seven databases, once in the life of a state folder. Each part's own migrations
# make them; they run side by side, because most of the time goes into importing Python.

make_schema() {
  [ -e "$STATE/.schema" ] && return 0
  local name job failed=
  local -A jobs=()
  for name in keystone placement glance nova_api nova_cell0 nova_cell1 neutron; do
    sql "create database if not exists $name character set utf8mb3"
  done
  for name in keystone placement_glance nova neutron; do
    "schema_of_$name" >"$LOGS/schema-$name.log" 2>&1 9>&- &
    jobs[$name]=$!
  done
  for name in "${!jobs[@]}"; do
    job=${jobs[$name]}
    wait "$job" || failed="$failed $LOGS/schema-$name.log"
  done
  [ -z "$failed" ] || die "the migrations failed; see$failed"
  touch "$STATE/.schema"
}

schema_of_keystone() {
  local keystone=("$VENV/bin/keystone-manage" --config-file "$CONFIG/keystone/keystone.conf")
  mkdir -p "$CONFIG/keystone/fernet-keys" "$CONFIG/keystone/credential-keys" &&
    chmod 700 "$CONFIG/keystone/fernet-keys" "$CONFIG/keystone/credential-keys" &&
    "${keystone[@]}" fernet_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)" &&
    "${keystone[@]}" credential_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)" &&
    "${keystone[@]}" db_sync &&
    "${keystone[@]}" bootstrap --bootstrap-username admin --bootstrap-project-name admin \
      --bootstrap-role-name admin --bootstrap-password "$ADMIN_PASSWORD" \
      --bootstrap-region-id RegionOne --bootstrap-service-name keystone \
      --bootstrap-public-url "$AUTH_URL" --bootstrap-internal-url "$AUTH_URL" \
      --bootstrap-admin-url "$AUTH_URL"
}

schema_of_placement_glance() {
  "$VENV/bin/placement-manage" --config-file "$CONFIG/placement/placement.conf" db sync &&
    "$VENV/bin/glance-manage" --config-file "$CONFIG/glance/glance-api.conf" db_sync
}

schema_of_nova() {
  "$VENV/bin/python" "$FILES/nova_schema.py" "$CONFIG/nova/nova.conf" "$CONFIG/nova/nova-db.conf" \
    "mysql+pymysql://root@127.0.0.1:$DATABASE_PORT/nova_cell0?charset=utf8mb4"
}

schema_of_neutron() {
  "$VENV/bin/neutron-db-manage" --config-file "$CONFIG/neutron/neutron.conf" upgrade heads
}
