# shellcheck shell=bash
# What makes LXD's work on disks cheap. Sourced.
#
# Idmapped mounts, which LXD 5.0 does not find on kernels since 6.9 (files/idmap.c says why).
#
# Without them LXD walks through each container's disk before its first start and changes every file's
# owner: a second of its processor time for a Debian. With them a start is as it is under any LXD that
# fits its kernel.

# with_idmaps: the library for our LXD; nothing where there is no C compiler, and LXD walks.
with_idmaps() {
  local library=$STATE/idmap.so
  ! cc -shared -fPIC -O -o "$library" "$FILES/idmap.c" 2>"$STATE/idmap.log" || echo "$library"
}

# no_quotas: a disk with a size, and every virtual machine's is one, switches the quotas of a btrfs pool on
# for good, and with them each launch and deletion takes a multiple of its time.
no_quotas() {
  as_root btrfs quota disable "${LXD_DIR:-/var/lib/lxd}/storage-pools/default" >/dev/null 2>&1 || true
}
