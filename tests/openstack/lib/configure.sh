# shellcheck shell=bash
# Renders files/*.conf into the state folder: @NAME@ stands for a setting.

# What every part needs to talk to keystone in the name of the cloud itself.
# shellcheck disable=SC2034  # render reads it by its name
CREDENTIALS="auth_type = password
auth_url = $AUTH_URL
username = svc
password = $SERVICE_PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne"

render() {
  local text name
  text=$(<"$FILES/$1")
  for name in STATE VENV CONFIG AUTH_URL CREDENTIALS ADMIN_PASSWORD MEMBER_PASSWORD \
    DATABASE_PORT BROKER_PORT BROKER_DIST_PORT; do
    text=${text//"@$name@"/"${!name}"}
  done
  case $text in
    *@[A-Z_]*@*) die "files/$1 names a setting that does not exist" ;;
  esac
  printf '%s\n' "$text" >"$2"
}

configure() {
  mkdir -p "$CONFIG"/{keystone,placement,glance,nova,neutron,rabbitmq} \
    "$STATE"/{images,locks,nova,neutron,rabbitmq}
  render keystone.conf "$CONFIG/keystone/keystone.conf"
  render placement.conf "$CONFIG/placement/placement.conf"
  render glance-api.conf "$CONFIG/glance/glance-api.conf"
  render nova.conf "$CONFIG/nova/nova.conf"
  render nova-db.conf "$CONFIG/nova/nova-db.conf"
  render neutron.conf "$CONFIG/neutron/neutron.conf"
  cp "$VENV/etc/glance/glance-api-paste.ini" "$CONFIG/glance/"
  cp "$VENV/etc/nova/api-paste.ini" "$CONFIG/nova/"
  render clouds.yaml "$CLOUDS"
}

configure_broker() {
  mkdir -p "$CONFIG/rabbitmq" "$STATE/rabbitmq"
  render rabbitmq.conf "$CONFIG/rabbitmq/rabbitmq.conf"
  render rabbitmq-advanced.config "$CONFIG/rabbitmq/advanced.config"
  echo '[].' >"$CONFIG/rabbitmq/enabled_plugins"
  : >"$CONFIG/rabbitmq/env.conf"
}
