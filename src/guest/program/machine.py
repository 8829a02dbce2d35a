"""The machine: its clock, its processes, and what it is told about itself."""

import os
import socket
import subprocess
import time


def _born():
    """When process 1 started, on the clock that `now` reads: the machine's own zero also in a
    container, whose clocks are its host's."""
    try:
        with open("/proc/1/stat", encoding="ascii", errors="replace") as stat:
            # The name in brackets may hold spaces; the fields after it are numbers.
            ticks = int(stat.read().rpartition(")")[2].split()[19])
        return ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


_BORN = _born()
# Counts through a suspend; the host's boot is its zero, as it is of the figures in /proc.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now():
    """Seconds since this machine started; never negative, never backwards."""
    return max(0.0, round(time.clock_gettime(_CLOCK) - _BORN, 3))


def threads_stopped(pid):
    """Whether every thread of `pid` has stopped, which a signal alone does not promise."""
    try:
        tasks = os.listdir("/proc/%d/task" % pid)
        for task in tasks:
            with open("/proc/%d/task/%s/stat" % (pid, task), encoding="ascii", errors="replace") as stat:
                if stat.read().rpartition(")")[2].split()[0] not in "TtZX":
                    return False
    except (OSError, IndexError):
        # A thread that ended between the two looks does nothing any more; the next look says.
        return False
    return bool(tasks)


def runs(name):
    """Whether a process runs whose program is called `name`."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % entry, encoding="ascii", errors="replace") as stat:
                text = stat.read()
            # The kernel keeps 15 characters of a name.
            alive = text.rpartition(")")[2].split()[0] not in "ZX"
            if alive and text.partition("(")[2].rpartition(")")[0] == name[:15]:
                return True
        except (OSError, IndexError):
            continue
    return False


def goes_down():
    """Whether the whole machine is being stopped. Where nobody can say, it is: whoever waits here
    would hold it up."""
    try:
        done = subprocess.run(["systemctl", "is-system-running"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.stdout.strip() in (b"stopping", b"offline", b"")


def ask_for_time(seconds):
    """Tells systemd to wait so much longer before it kills (sd_notify(3), EXTEND_TIMEOUT_USEC): each
    time anew, so that a guest that hangs is still killed."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        try:
            # A name without a place in the file system begins with a zero byte.
            line.sendto(b"EXTEND_TIMEOUT_USEC=%d" % int(seconds * 1e6),
                        "\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            pass


def environment():
    """The variables of /etc/environment: what a login would have set, as images expect."""
    found = {}
    try:
        with open("/etc/environment", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                line = line.strip()
                if line.startswith("export "):
                    line = line[7:].lstrip()
                key, equals, value = line.partition("=")
                if not equals or key.startswith("#") or not key.strip():
                    continue
                if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                    value = value[1:-1]
                found[key.strip()] = value
    except OSError:
        pass
    return found
