# shellcheck shell=bash
# What must be on the machine: RabbitMQ from Debian, FerretDB built from its Go module, kombu from PyPI
# in a venv of its own. Sourced.

system_packages_there() {
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null
}

install_system_packages() {
  system_packages_there || install_packages rabbitmq-server python3-venv ca-certificates
}

# The router's own way to put a message into a queue.
install_venv() {
  local wanted
  wanted=$(sha256sum <"$HERE/requirements.txt")
  [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ] && return 0
  rm -rf "$VENV"
  "$PYTHON" -m venv "$VENV" || return 1
  # Each version is pinned: no resolver run, and the same sender next month.
  "$VENV/bin/pip" install -q --no-deps -r "$HERE/requirements.txt" || return 1
  echo "$wanted" >"$VENV/.installed"
}

# More than a minute of one core, once, and without optimizing, which takes a third longer: it gives way to whatever else is built meanwhile.
build_ferretdb() {
  local go wanted
  wanted=$(cat "$HERE"/ferretdb/* | sha256sum)
  [ -x "$FERRETDB" ] && [ "$(cat "$FERRETDB.built" 2>/dev/null)" = "$wanted" ] && return 0
  go=$(command -v go || echo /usr/local/go/bin/go)
  [ -x "$go" ] || { echo "Go is missing (1.24 or later; Debian 12 has an older one)"; return 1; }
  (cd "$HERE/ferretdb" && nice "$go" build -gcflags="all=-N -l" -trimpath -o "$FERRETDB" .) || return 1
  echo "$wanted" >"$FERRETDB.built"
}
