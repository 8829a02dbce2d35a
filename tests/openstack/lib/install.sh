# shellcheck shell=bash
# What must be on the machine: MariaDB and RabbitMQ from Debian, OpenStack from PyPI in a venv of
# its own. Debian's own OpenStack packages are refused: they are years old on a stable release, and
# several hundred packages with start scripts that expect to own the machine.

system_packages_there() {
  type mariadbd mariadb mariadb-install-db curl >/dev/null 2>&1 &&
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] &&
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null
}

install_system_packages() {
  system_packages_there && return 0
  # The -core packages bring the programs without the scripts that make a system database of them.
  install_packages mariadb-server-core mariadb-client-core rabbitmq-server python3-venv curl ca-certificates
}

# Begins beside the system packages. Where python3-venv is one of those that are missing, this fails
# at once and up.sh calls it again after them.
install_venv() {
  local wanted uv
  wanted=$(sha256sum <"$HERE/requirements.txt")
  [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ] && return 0
  uv=$(command -v uv) || {
    uv=$STATE/uv/bin/uv
    [ -x "$uv" ] || { "$PYTHON" -m venv "$STATE/uv" && "$STATE/uv/bin/pip" install -q uv; } || return 1
  }
  rm -rf "$VENV"
  "$uv" venv -q -p "$PYTHON" "$VENV" || return 1
  # Each version is pinned: no resolver run, and the same cloud next month.
  "$uv" pip install -q --no-deps --compile-bytecode -p "$VENV/bin/python" -r "$HERE/requirements.txt" || return 1
  echo "$wanted" >"$VENV/.installed"
}

# The two drivers that stand for hardware, and one impatience.
install_drivers() {
  local packages
  packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  # Nova loads drivers from its own package only; Neutron finds them by an installed entry point.
  cp "$FILES/fleet_test_driver.py" "$packages/nova/virt/fleet_test_driver.py"
  cp "$FILES/fleet_test_ml2.py" "$packages/fleet_test_ml2.py"
  mkdir -p "$packages/fleet_test_ml2-1.0.dist-info"
  printf 'Metadata-Version: 2.1\nName: fleet-test-ml2\nVersion: 1.0\n' \
    >"$packages/fleet_test_ml2-1.0.dist-info/METADATA"
  printf '[neutron.ml2.mechanism_drivers]\nfleet_test = fleet_test_ml2:AlwaysBind\n' \
    >"$packages/fleet_test_ml2-1.0.dist-info/entry_points.txt"
  # oslo.messaging looks for an answer twice a second (lp#2035113), and a VM's creation is about ten
  # calls one after the other: 6 s a VM. Looked for a hundred times a second it is 1 s.
  sed -i 's/^                time\.sleep(0\.5)$/                time.sleep(0.01)/' \
    "$packages/oslo_messaging/_drivers/amqpdriver.py"
}
