"""Is the runner application free of work? What the stand-down rests on.

A job is the runner's own from the moment its listener asks GitHub for it ("acquire"; actions/runner
2.336.0, `Runner.cs`, `GetJobMessageAsync`). So the question is whether that call can have been sent.

The diagnostic log alone cannot say. `MessageListener.cs` writes "Message 'N' received from session",
but `BrokerMessageListener.GetNextMessageAsync`, which github.com uses, returns a message before the
line that would log it, and nothing below level verbose is written until the job is acquired. What
does say is the performance file: with RUNNER_PERFLOG set, `Runner.cs` calls
`WritePerfCounter("MessageReceived_…")` for every message, in both listeners, before it does anything
with it, and `HostContext.WritePerfCounter` appends, flushes and closes on every call. Both are there
since the first public source (2019). The file is put in memory, so that a full disk cannot hide a line.

Lines of `_diag/Runner_*.log` (flushed line by line, `HostTraceListener.cs`) say how it went on:

  Job request N for plan P job J received.       JobDispatcher.Run: the job is the runner's
  Skipping message Job.                          the acquire was refused: another runner has it
  Caught exception from acquiring job message    the acquire failed for good
  Skip message deletion for job request message  not wanted: an update or a job is under way

A message of a job without one of these is a doubt, and a doubt is never quiet. Nor is a listener
that has not written its first performance line: an application too odd to be judged.
"""

import glob
import os
import re

import machine

BUSY, DOUBT, QUIET = "busy", "doubt", "quiet"

_STARTED = re.compile(r"^RunnerProcessStarted:")
_RECEIVED = re.compile(r"^MessageReceived_(RunnerJobRequest|PipelineAgentJobRequest):", re.I)
_TAKEN = re.compile(r"JobDispatcher\] Job request \S+ for plan \S+ job \S+ received\.")
_LET_GO = re.compile(
    r" Runner\] (Skipping message Job\.|Caught exception from acquiring job message"
    r"|Skip message deletion for job request message)"
)


class _Lines:
    """A file that only grows, read from where it was left."""

    def __init__(self, path):
        self._path = path
        self._offset = 0
        self._rest = b""

    def skip(self):
        """What is there by now is not of interest."""
        try:
            self._offset = os.path.getsize(self._path)
        except OSError:
            self._offset = 0
        self._rest = b""

    def new(self):
        """The whole lines since the last look. Raises OSError when it cannot be read."""
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return [line.decode("utf-8", "replace") for line in lines]

    def torn(self):
        """Whether the last line is not whole."""
        return bool(self._rest)


class Evidence:
    """What the files of one runner application show since `begin`."""

    def __init__(self, app, perf_dir):
        self._app = app
        self._perf = _Lines(os.path.join(perf_dir, "Runner.perf"))
        self._logs = {}
        self.begin()

    def begin(self):
        """A listener is about to start: what earlier ones wrote counts no more."""
        self._perf.skip()
        for path in self._log_files():
            self._logs.setdefault(path, _Lines(path)).skip()
        self._started = False
        self._received = 0
        self._let_go = 0
        self.taken = False

    def _log_files(self):
        return glob.glob(os.path.join(glob.escape(self._app), "_diag", "Runner_*.log"))

    def look(self):
        """BUSY, DOUBT or QUIET, as of now. Sure only of a listener that is frozen."""
        if self.taken or machine.runs("Runner.Worker"):
            self.taken = True
            return BUSY
        try:
            for path in self._log_files():
                for line in self._logs.setdefault(path, _Lines(path)).new():
                    if _TAKEN.search(line):
                        self.taken = True
                    if _LET_GO.search(line):
                        self._let_go += 1
            for line in self._perf.new():
                self._started = self._started or bool(_STARTED.search(line))
                if _RECEIVED.search(line):
                    self._received += 1
        except OSError:
            return BUSY if self.taken else DOUBT
        if self.taken:
            return BUSY
        if not self._started or self._perf.torn() or self._received > self._let_go:
            return DOUBT
        return QUIET
