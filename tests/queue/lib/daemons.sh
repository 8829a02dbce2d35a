# shellcheck shell=bash
# How each broker is started; bring_back waits until it listens. Sourced.

start_ferretdb() { start ferretdb "$FERRETDB" "127.0.0.1:$MONGO_PORT" "$STATE/ferretdb"; }

# bring_back NAME
bring_back() {
  case $1 in
    rabbitmq)
      start_rabbitmq
      wait_for 120 "listening RabbitMQ" rabbitmq listens "$BROKER_PORT"
      ;;
    ferretdb)
      start_ferretdb
      wait_for 60 "listening FerretDB" ferretdb listens "$MONGO_PORT"
      ;;
    *) die "no broker is called $1 (there are: ${DAEMONS[*]})" ;;
  esac
}
