"""The runner application's listener: started, watched, frozen, ended.

`bin/Runner.Listener run` is started itself, not `run.sh`: that one turns most exit codes into 0
(`run-helper.sh`), so it cannot say how a runner ended. What `run.sh` does besides is done here: an
update (exit codes 3 and 4) is waited for, a failure that may pass (2) is tried again, both bounded.
The JIT config goes in by the environment, never on a command line, which every user may read.
"""

import base64
import json
import os
import re
import signal
import subprocess
import threading
import time

import evidence
import machine

JIT_VARIABLE = "ACTIONS_RUNNER_INPUT_JITCONFIG"
HOOKS = {
    "ACTIONS_RUNNER_HOOK_JOB_STARTED": ("job-started.sh", "RUNNER_FLEET_NEXT_JOB_STARTED"),
    "ACTIONS_RUNNER_HOOK_JOB_COMPLETED": ("job-completed.sh", "RUNNER_FLEET_NEXT_JOB_COMPLETED"),
}
OWN = ("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "RUNNER_PERFLOG")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOOKS_DIR = "/usr/local/lib/runner-fleet"
RETRYABLE, UPDATING = (2,), (3, 4)
RESTARTS = 10
UPDATE_LIMIT = 60
UPDATE_FLAG = "update.finished"
FREEZE_LIMIT = 2.0
_LISTENS = re.compile(r"Listening for Jobs")
_VERSION = re.compile(r"Current runner version: '([0-9A-Za-z.+-]{1,64})'")
_RUNS = re.compile(r": Running job: ")
_ENDED = re.compile(r" completed with result: (\w+)\s*$")
# The words of GitHub's conclusions for the runner's own (TaskResult).
_RESULTS = {
    "Succeeded": "success", "SucceededWithIssues": "success", "Failed": "failure",
    "Canceled": "cancelled", "Skipped": "skipped", "Abandoned": "abandoned",
}


def without_updates(jit_config):
    """The same JIT config, with the runner's own updates off.

    `--disableupdate` exists at configuration time only; a JIT runner takes the setting from the
    `.runner` file inside its config, and tells GitHub with each poll. Raises ValueError where the
    config is not of that form.
    """
    files = json.loads(base64.b64decode(jit_config))
    settings = json.loads(base64.b64decode(files[".runner"]).decode("utf-8-sig"))
    for key in [key for key in settings if key.lower() == "disableupdate"]:
        del settings[key]
    settings["DisableUpdate"] = True
    files[".runner"] = base64.b64encode(json.dumps(settings).encode()).decode()
    return base64.b64encode(json.dumps(files).encode()).decode()


def merged_environment(app, user, base, wanted):
    """The listener's environment. The application gives its own `.env` the last word, so what the
    guest sets is taken out there; the rest of the image's file stays. A hook of the image, or one
    that is wanted, has its turn after the guest's."""
    env = {"LANG": "C.UTF-8", "PATH": DEFAULT_PATH}
    env.update(base)
    env.update({"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name})
    # What no environment can hold is not there; the rest still is.
    env.update({key: value for key, value in wanted.items()
                if key and "=" not in key and "\0" not in key + value})
    env["ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"] = "1"
    image = {}
    path = os.path.join(app, ".env")
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
        ours = set(wanted) | set(HOOKS) | set(OWN)
        kept = [line for line in lines if line.partition("=")[0] not in ours]
        image = dict(line.split("=", 1) for line in lines if "=" in line)
        if kept != lines:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write("".join(line + "\n" for line in kept))
    # Where the application keeps the Node.js that it runs hooks with.
    env["RUNNER_FLEET_APPLICATION"] = app
    for key, (script, following) in HOOKS.items():
        if wanted.get(key) or image.get(key):
            env[following] = wanted.get(key) or image[key]
        env[key] = os.path.join(HOOKS_DIR, script)
    return env


class Listener:
    """One runner application, from its start to its end, over its own updates."""

    def __init__(self, app, user, env, perf_dir, record, events):
        """`events(word, detail)` is told `started`, `running` and `result`, on another thread."""
        self._app = app
        self._user = user
        self._env = dict(env, RUNNER_PERFLOG=perf_dir)
        self._record = record
        self._events = events
        self._lock = threading.RLock()
        self._process = None
        self._frozen = False
        self._ended = False
        self.evidence = evidence.Evidence(app, perf_dir)
        self.listened = False
        self.ended_by_order = False

    def run(self, jit_config):
        """Runs the application to its end, and returns its exit code."""
        # What the image has of these is not this runner's.
        for name in (".runner", ".credentials", ".credentials_rsaparams", UPDATE_FLAG):
            path = os.path.join(self._app, name)
            if os.path.lexists(path):
                os.unlink(path)
        for restart in range(RESTARTS + 1):
            code = self._run_once(jit_config)
            self._record.say("the runner application ended with %d" % code)
            # One that stands down has given its word to take no job: no other takes its place.
            if self._ended or self._frozen or self.evidence.taken:
                return code
            if code not in RETRYABLE + UPDATING:
                return code
            if restart == RESTARTS:
                self._record.say("it is not started again: %d restarts are enough" % restart)
                return code
            if code in UPDATING:
                self._wait_for_update()
            else:
                time.sleep(min(60, 5 * 2 ** restart))
        return code

    def _run_once(self, jit_config):
        env = dict(self._env)
        # A second start finds what the first one saved, perhaps refreshed since.
        if not os.path.exists(os.path.join(self._app, ".runner")):
            env[JIT_VARIABLE] = jit_config
        with self._lock:
            if self._ended:
                return 0
            self.evidence.begin()
            self._process = subprocess.Popen(
                [os.path.join(self._app, "bin", "Runner.Listener"), "run"],
                cwd=self._app, env=env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                user=self._user.pw_uid, group=self._user.pw_gid, umask=0o022,
                extra_groups=os.getgrouplist(self._user.pw_name, self._user.pw_gid),
            )
        reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reader.start()
        code = self._process.wait()
        # What a job left behind may hold the pipe open for ever.
        reader.join(2)
        return code if code >= 0 else 128 - code

    def _read(self, output):
        for raw in output:
            line = raw.decode("utf-8", "replace").rstrip()
            self._record.line(line)
            version = _VERSION.search(line)
            ended = _ENDED.search(line)
            if version:
                self._events("version", version.group(1))
            elif _LISTENS.search(line):
                self.listened = True
                self._events("started", None)
            elif _RUNS.search(line):
                self.evidence.taken = True
                self._events("running", None)
            elif ended:
                self._events("result", _RESULTS.get(ended.group(1), ended.group(1).lower()))

    def _wait_for_update(self):
        flag = os.path.join(self._app, UPDATE_FLAG)
        until = time.monotonic() + UPDATE_LIMIT
        while time.monotonic() < until and not os.path.exists(flag):
            time.sleep(0.5)
        if os.path.exists(flag):
            os.unlink(flag)
        else:
            self._record.say("the update was not finished within %d s" % UPDATE_LIMIT)

    def freeze(self):
        """Stops the listener, and only it, in its tracks. False where there is none to stop, or
        not all of it stopped."""
        with self._lock:
            process = self._process
            if self._frozen:
                return True
            if process is None or process.poll() is not None:
                return False
            os.kill(process.pid, signal.SIGSTOP)
            self._frozen = True
            until = time.monotonic() + FREEZE_LIMIT
            while time.monotonic() < until:
                if machine.threads_stopped(process.pid):
                    return True
                time.sleep(0.002)
            self.thaw()
            return False

    def judge(self):
        """Freezes and looks. The listener stays frozen with QUIET only."""
        with self._lock:
            if self.evidence.taken:
                return evidence.BUSY
            verdict = evidence.DOUBT
            try:
                if self.freeze():
                    verdict = self.evidence.look()
            finally:
                if verdict != evidence.QUIET:
                    self.thaw()
            return verdict

    def thaw(self):
        """Lets the listener go on."""
        with self._lock:
            if self._frozen and self._process.poll() is None:
                os.kill(self._process.pid, signal.SIGCONT)
            self._frozen = False

    def end(self):
        """Ends a frozen listener for good. False where it is not frozen."""
        with self._lock:
            if not self._frozen:
                return False
            self._ended = True
            self.ended_by_order = True
            self._process.kill()
            self._frozen = False
            return True

    def at_work(self):
        """Whether the application has a job, or may have one on its way. One that has none stays
        frozen: whoever asks is about to end it, and it must not take one meanwhile."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            return self.judge() != evidence.QUIET

    def stop(self):
        """Asks the application to stop, as an init system would: a job is cancelled cleanly."""
        with self._lock:
            self._ended = True
            if self._process and self._process.poll() is None:
                self._process.terminate()
                self.thaw()
