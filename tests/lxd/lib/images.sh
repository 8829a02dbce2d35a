# shellcheck shell=bash
# The images, made here from Debian's packages: no image server is needed.
#
# Each is known by the SHA-256 of what makes it, so that a change of a recipe makes a new image, and
# the one in the cache is used as long as it fits.

# recipe NAME: the digest of the files and the function that make it.
recipe() {
  { declare -f "build_$1" write_metadata; cat "$FILES/$1".* 2>/dev/null || true; } | sha256sum | cut -c1-16
}

# The image that an alias points to, and the recipe that it was made by; nothing where there is none.
image_of() {
  lxc query "/1.0/images/aliases/$1" 2>/dev/null | sed -n 's/.*"target": *"\([0-9a-f]*\)".*/\1/p' || true
}

recipe_of() {
  [ -n "$1" ] || return 0
  lxc query "/1.0/images/$1" 2>/dev/null | sed -n 's/.*"recipe": *"\([0-9a-f]*\)".*/\1/p' || true
}

# have_image NAME: makes it, puts it in, and points the alias to it, each only where that is missing.
have_image() {
  local name=$1 wanted file fingerprint old
  wanted=$(recipe "$name")
  old=$(image_of "$name")
  [ "$(recipe_of "$old")" != "$wanted" ] || return 0
  # LXD tells an image of virtual machines by what is in the file.
  if [ "$name" = blank ]; then file=$IMAGES/$name-$wanted.qcow2; else file=$IMAGES/$name-$wanted.squashfs; fi
  if [ ! -s "$file" ]; then
    WORK=$(mktemp -d -p "$(roomy_folder)" runner-fleet-image.XXXXXX)
    "build_$name" "$file.new"
    mv "$file.new" "$file"
    as_root rm -rf "$WORK"
    phase "image $name is built"
  fi
  WORK=$(mktemp -d)
  write_metadata "$name" "$wanted"
  fingerprint=$(lxc image import "$WORK/metadata.tar" "$file" | sed -n 's/.*: *\([0-9a-f]\{64\}\).*/\1/p')
  [ -n "$fingerprint" ] || die "image $name was not taken"
  rm -rf "$WORK"
  if [ -n "$old" ]; then
    # In one step: a launch in this moment finds the one or the other.
    lxc query -X PUT -d "{\"target\": \"$fingerprint\", \"description\": \"\"}" \
      "/1.0/images/aliases/$name" >/dev/null
    [ "$old" = "$fingerprint" ] || lxc image delete "$old" || true
  else
    lxc image alias create "$name" "$fingerprint" >/dev/null
  fi
  phase "image $name is in"
}

# In memory where there is room for it: unpacking packages on a disk takes four times as long.
roomy_folder() {
  local free
  free=$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -n 1)
  if [ "${free:-0}" -gt 2000 ]; then echo /dev/shm; else echo "$STATE"; fi
}

# What LXD must know of an image, and the files that it writes into each new instance: its name, and
# the seed that cloud-init reads. The template language knows no escapes in its texts.
write_metadata() {
  local templates=$WORK/templates file
  mkdir -p "$templates"
  {
    printf 'architecture: %s\ncreation_date: 1700000000\n' "$(uname -m)"
    printf 'properties: {os: Debian, description: "runner-fleet test image %s", recipe: "%s"}\n' "$1" "$2"
    printf 'templates:\n'
    printf '  /etc/%s: {when: [create, copy], template: %s.tpl}\n' hostname hostname hosts hosts
    for file in meta-data user-data vendor-data; do
      printf '  /var/lib/cloud/seed/nocloud-net/%s: {when: [create, copy], template: %s.tpl}\n' \
        "$file" "$file"
    done
  } >"$WORK/metadata.yaml"
  echo '{{ container.name }}' >"$templates/hostname.tpl"
  printf '127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n::1 localhost ip6-localhost\n' \
    >"$templates/hosts.tpl"
  printf 'instance-id: {{ container.name }}\nlocal-hostname: {{ container.name }}\n' \
    >"$templates/meta-data.tpl"
  echo '{{ config_get("cloud-init.user-data", "") }}' >"$templates/user-data.tpl"
  echo '{{ config_get("cloud-init.vendor-data", "") }}' >"$templates/vendor-data.tpl"
  tar -C "$WORK" --numeric-owner --owner=0 --group=0 -cf "$WORK/metadata.tar" metadata.yaml templates
}

# Two megabytes that start in a fifth of a second: busybox, DHCP, and user data that is a script.
build_tiny() {
  local root=$WORK/root applet
  mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,run,tmp,root,var/lib/cloud,var/log}
  # busybox-static and Debian's busybox exclude each other: it is unpacked, never installed.
  (cd "$WORK" && apt-get -q download busybox-static && dpkg-deb -x busybox-static_*.deb busybox) \
    >>"$STATE/images.log" 2>&1 || die "busybox-static could not be had (log: $STATE/images.log)"
  install -m 755 "$WORK/busybox/bin/busybox" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
  done
  for applet in init poweroff halt reboot ip udhcpc; do
    ln -sf /bin/busybox "$root/sbin/$applet"
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  printf '::sysinit:/etc/rc\n::shutdown:/bin/true\n' >"$root/etc/inittab"
  install -m 755 "$FILES/tiny.rc" "$root/etc/rc"
  install -m 755 "$FILES/tiny.udhcpc" "$root/etc/udhcpc.sh"
  mksquashfs "$root" "$1" -comp lz4 -all-root -noappend -no-progress -quiet >/dev/null
}

# The disk of a virtual machine with nothing on it: made, listed and deleted as any other, never booted.
build_blank() {
  qemu-img create -q -f qcow2 "$1" 16M
}

# Debian 12 as a cloud has it: systemd, cloud-init, and what a guest asks for.
build_deb12() {
  local packages mirror=()
  packages=$(grep -v '^#' "$FILES/deb12.packages" | tr -s ' \n' ',' | sed 's/,$//')
  # The machine's own sources, so that a mirror or a proxy that works for apt works here.
  [ -z "${RUNNER_FLEET_TEST_LXD_MIRROR:-}" ] || mirror=("$RUNNER_FLEET_TEST_LXD_MIRROR")
  as_root env TMPDIR="$WORK" mmdebstrap --quiet --variant=minbase --mode=root --skip=check/empty \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$packages" \
    --customize-hook="sh $FILES/deb12.hook \"\$1\"" \
    bookworm "$WORK/deb12.tar" "${mirror[@]}" >"$STATE/images.log" 2>&1 ||
    { tail -n 20 "$STATE/images.log" >&2; die "Debian could not be unpacked (log: $STATE/images.log)"; }
  # It speaks of the archive's root and of attributes that no image needs.
  sqfstar -comp lz4 -no-progress -quiet "$1" <"$WORK/deb12.tar" >>"$STATE/images.log" 2>&1 ||
    { tail -n 20 "$STATE/images.log" >&2; die "Debian could not be packed"; }
}
