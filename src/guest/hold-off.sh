# shellcheck shell=sh
# What looks after the machine by itself holds dpkg's lock in its first minutes, which are a job's. A
# machine that lives for one job needs no upkeep. Masked until the next boot, and early: cloud-init runs
# this before the timers have elapsed.
[ -d /run/systemd/system ] || exit 0
timers='apt-daily.timer apt-daily-upgrade.timer'
# shellcheck disable=SC2086
systemctl mask --runtime $timers apt-daily.service apt-daily-upgrade.service
# shellcheck disable=SC2086
systemctl stop --no-block $timers apt-daily.service
exit 0
