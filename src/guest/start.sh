# shellcheck shell=sh
# Hands the machine to the guest. The unit powers the machine off when the guest ends, however it
# ends, and at a later boot, when the guest finds nothing to do; where there is no such unit or no
# systemd, this does.
wants=/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants" && ln -sf ../runner-fleet-guest.service "$wants/"
systemctl start --no-block runner-fleet-guest.service && exit 0
python3 -I -S -B /usr/local/lib/runner-fleet/guest
systemctl poweroff || poweroff || shutdown -P now
