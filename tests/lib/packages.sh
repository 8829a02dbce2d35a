# shellcheck shell=bash
# Getting what a test needs from the distribution. Sourced.

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# install_packages PACKAGE...: without what they recommend, and without starting what they bring
# (policy-rc.d is Debian's way to say so): a test that needs a daemon starts its own.
install_packages() {
  local policy=/usr/sbin/policy-rc.d refused='' status=0 turn
  local get=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  # One at a time: else one suite takes the policy away while another still installs.
  exec {turn}>"/var/tmp/runner-fleet-packages.$(id -u).lock"
  flock "$turn"
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    refused=yes
  fi
  # A fresh machine has no package lists, and an old one has lists of packages that are gone.
  "${get[@]}" install -y --no-install-recommends "$@" ||
    { "${get[@]}" update && "${get[@]}" install -y --no-install-recommends "$@"; } ||
    status=$?
  [ -z "$refused" ] || as_root rm -f "$policy"
  exec {turn}>&-
  return "$status"
}
