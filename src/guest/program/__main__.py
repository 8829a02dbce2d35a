"""The guest: what a runner-fleet VM does from its first boot to its power-off.

Its input is one file, made by the daemon and readable by root only. It is removed once read: this
machine serves one runner, and a second start of the program finds nothing to do and powers off.
"""

import json
import os
import signal
import socket
import sys
import threading
import time

# Before anything that may take its time: `booted` is when the program began.
import machine

BOOTED = machine.now()

import home  # noqa: E402
import listener as listening  # noqa: E402
import prepare  # noqa: E402
import proxy  # noqa: E402
import record as recording  # noqa: E402
import standdown  # noqa: E402

DATA = "/etc/runner-fleet/guest.json"
RUN_DIR = "/run/runner-fleet"
LAST_REPORT = 20.0
# Between two looks whether a job that keeps this from stopping has ended, in seconds.
STOP_STEP = 5.0


class Life:
    """All that is known of this runner, and the steps of its life."""

    def __init__(self, data, record):
        self.data = data
        self.record = record
        self.times = {"booted": BOOTED}
        self.job = {}
        self.known = {}
        self.lock = threading.Lock()
        self.application = None
        self.user = None
        self.env = {}
        self.proxies = proxy.environment(proxy.SYSTEM, machine.environment(), data.get("env") or {})
        self.listener = None
        self.perf_dir = os.path.join(RUN_DIR, "perf")
        door = None
        if data.get("home"):
            there = data["home"]
            record.hide(there["token"])
            door = home.Door(
                data["runner"], there["url"], there["token"], there.get("ca_pem"),
                proxy.of(there["url"], self.proxies),
            )
        self.door = door
        self.reports = home.Reports(door, record, self.facts)

    def facts(self):
        """The fields that every report carries."""
        with self.lock:
            facts = {"times": dict(self.times)}
            if "job_started" in self.times:
                facts["job"] = dict(self.job)
            facts.update(self.known)
            return facts

    def reached(self, time_key, word, **known):
        """A moment of this life; reported unless it has been."""
        with self.lock:
            first = time_key not in self.times
            self.times.setdefault(time_key, machine.now())
            self.known.update(known)
        if first:
            self.reports.send(word)

    # The steps, in their order. A part that comes later has its place here.

    def lock_up(self):
        """Root's data is root's."""
        prepare.lock_up(self.record)
        os.makedirs(RUN_DIR, 0o755, exist_ok=True)

    def run_before(self):
        """What the pool wants done first."""
        if self.data.get("before"):
            prepare.before(self.data["before"], self.record)

    def find_user_and_application(self):
        """The user that jobs run as, and the runner application in its hands."""
        source = self.data["application"]
        found = None
        if source["from"] == "image":
            found = prepare.find_application(source.get("path"))
            if not found:
                where = source.get("path") or ", ".join(prepare.PLACES)
                raise prepare.Refused(
                    "no bin/Runner.Listener in %s; use an image that holds the runner application,"
                    " or let the pool download it" % where
                )
        name = self.data.get("user")
        if not name and found:
            name = prepare.owner(found)
        self.user = prepare.make_user(name or prepare.DEFAULT_USER, self.data.get("groups") or [], self.record)
        if not found:
            found = prepare.download(
                source["url"], source["sha256"], self.user, self.proxies, self.record
            )
        self.application = prepare.hand_over(found, self.user, self.record)

    def open_hooks(self):
        """The socket that the job hooks speak to; the job's user may write to it."""
        path = os.path.join(RUN_DIR, "hook.sock")
        line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        line.bind(path)
        os.chown(path, 0, self.user.pw_gid)
        os.chmod(path, 0o660)
        threading.Thread(target=self.hear_hooks, args=(line,), name="hooks", daemon=True).start()

    def make_environment(self):
        """What the runner application and its jobs see."""
        os.mkdir(self.perf_dir, 0o700)
        os.chown(self.perf_dir, self.user.pw_uid, self.user.pw_gid)
        self.env = listening.merged_environment(
            self.application, self.user, dict(proxy.SYSTEM, **machine.environment()),
            self.data.get("env") or {},
        )

    STEPS = (lock_up, run_before, find_user_and_application, open_hooks, make_environment)

    def hear_hooks(self, line):
        """Takes what the hooks say, whatever it is: a job can say anything here."""
        while True:
            try:
                told = json.loads(line.recv(65536))
                word, job = told["hook"], told["job"]
                clean = {
                    key: job[key][:512] for key in ("repository", "workflow", "event")
                    if isinstance(job.get(key), str)
                }
                if isinstance(job.get("run_id"), int) and 0 <= job["run_id"] < 2**63:
                    clean["run_id"] = job["run_id"]
            except Exception:  # a job that could end this thread would silence its own end
                continue
            if word == "job-started":
                if self.listener:
                    self.listener.evidence.taken = True
                with self.lock:
                    known = "job_started" in self.times
                    self.job.update(clean)
                if known:
                    # The listener's word came first, as it does; this adds which job it is.
                    self.reports.send("job-started")
                else:
                    self.reached("job_started", "job-started")
            elif word == "job-completed" and "job_started" in self.times:
                self.reached("job_completed", "job-completed")

    def heard(self, word, detail):
        """Takes what the listener prints."""
        if word == "version":
            with self.lock:
                self.known["runner_version"] = detail
        elif word == "started":
            self.reached("runner_started", "runner-started")
        elif word == "running":
            # A hook is a process, and on a loaded machine its start alone takes a moment.
            if self.listener:
                self.listener.evidence.taken = True
            self.reached("job_started", "job-started")
        elif word == "result":
            self.reached("job_started", "job-started", result=detail)
            self.reached("job_completed", "job-completed")

    def stop(self):
        """The unit is being stopped. A job is not cut short by what it did itself (it installed
        packages, and whatever looks after services restarted this one) or by somebody who restarts
        units: it comes to its end first. Where the machine goes down, it has not the time."""
        if not self.listener:
            return
        said = False
        while self.listener.at_work() and not machine.goes_down():
            if not said:
                self.record.say("asked to stop in mid-job: the job ends first")
                said = True
            machine.ask_for_time(STOP_STEP * 6)
            time.sleep(STOP_STEP)
        self.listener.stop()

    def live(self):
        """From the first step to the last report. Returns the runner application's exit code, or
        None where it never had one."""
        self.reports.send("booted")
        code = None
        ended_by_order = False
        try:
            for step in self.STEPS:
                step(self)
            jit_config = self.data["jit_config"]
            if self.data.get("disable_update"):
                try:
                    jit_config = listening.without_updates(jit_config)
                    self.record.hide_jit_config(jit_config)
                except (ValueError, KeyError, TypeError):
                    self.record.say("the JIT config has no settings to turn updates off in; they stay on")
            self.listener = listening.Listener(
                self.application, self.user, self.env, self.perf_dir, self.record, self.heard
            )
            if self.door:
                duty = standdown.StandDown(self.door, self.listener, self.record)
                home.Orders(self.door, self.record, duty.obey).start()
            code = self.listener.run(jit_config)
            ended_by_order = self.listener.ended_by_order
        except prepare.Refused as error:
            self.record.say(str(error))
        except Exception as error:  # whatever it is, the machine must end and say why
            self.record.say("the guest failed: %s: %s" % (type(error).__name__, error))
        with self.lock:
            self.times["stopped"] = machine.now()
            if not ended_by_order:
                if code is not None:
                    self.known["exit_code"] = code
                if code != 0 or not self.listener.listened:
                    self.known["log"] = self.record.excerpt()
        self.reports.last("stopped", LAST_REPORT)
        return 0 if ended_by_order else code


def main():
    """Returns the program's exit code; the machine powers off whatever it is."""
    record = recording.Record()
    try:
        with open(DATA, encoding="utf-8") as file:
            data = json.load(file)
        os.unlink(DATA)
    except (OSError, ValueError) as error:
        record.say("nothing to do: %s cannot be read: %s" % (DATA, error))
        return 1
    record.hide_jit_config(data["jit_config"])
    life = Life(data, record)

    def stopped(_number, _frame):
        # The application ends first, then this. Not here: the main thread waits for the application.
        threading.Thread(target=life.stop, name="stop", daemon=True).start()

    signal.signal(signal.SIGTERM, stopped)
    code = life.live()
    return 1 if code is None else min(code, 125)


if __name__ == "__main__":
    sys.exit(main())
