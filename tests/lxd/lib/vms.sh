# shellcheck shell=bash
# What LXD wants before it makes virtual machines: QEMU, its firmware, and the module vhost_vsock.
#
# A machine for tests that is a virtual machine itself, or a container, often has no such module and
# may load none. LXD asks for it once, when it starts, and refuses every order for a virtual machine
# from then on; needed it is at the start of one only. So our own LXD, and no other, finds a modprobe
# before the system's that says yes to this one module. All before a start is real then: the order,
# the image, the disk, the listing, the deletion. The start itself is refused by who has to give what
# is not there.

# have_qemu: nothing else fails where the packages do not fit this machine's (backports of some).
have_qemu() {
  local missing=() need
  # Other machines have other packages, and their own names for the firmware.
  [ "$(uname -m)" = x86_64 ] || return 0
  for need in /usr/bin/qemu-system-x86_64:qemu-system-x86 /usr/bin/qemu-img:qemu-utils \
    /usr/share/OVMF/OVMF_CODE.fd:ovmf /sbin/sgdisk:gdisk; do
    [ -e "${need%%:*}" ] || missing+=("${need##*:}")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  install_packages "${missing[@]}" >"$STATE/qemu.log" 2>&1 9>&- ||
    echo "no virtual machines: ${missing[*]} could not be installed (log: $STATE/qemu.log)" >&2
}

# path_with_modprobe: the PATH for our LXD; the system's own where the module is there or can be had.
path_with_modprobe() {
  local folder=$STATE/bin system
  if [ ! -e /sys/module/vhost_vsock ] && ! as_root modprobe -qb vhost_vsock 2>/dev/null; then
    system=$(command -v modprobe || echo false)
    mkdir -p "$folder"
    # shellcheck disable=SC2016  # the script is the one that expands
    printf '#!/bin/sh\ncase " $* " in *" vhost_vsock "*) exit 0 ;; esac\nexec %s "$@"\n' "$system" \
      >"$folder/modprobe"
    chmod 755 "$folder/modprobe"
    printf '%s:' "$folder"
  fi
  echo "$PATH"
}

# makes_vms: whether the LXD that runs does.
makes_vms() {
  lxc query /1.0 2>/dev/null | grep -q '"driver": *".*qemu'
}
