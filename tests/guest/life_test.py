"""What a hostile job, a bare image and a late timer do to the guest."""

import http.client
import importlib.util
import io
import json
import os
import signal
import sys
import tempfile
import threading
import types
import unittest
from unittest import mock

from given import SOURCE

import evidence  # noqa: E402
import home  # noqa: E402
import prepare  # noqa: E402
import record  # noqa: E402
import standdown  # noqa: E402

spec = importlib.util.spec_from_file_location("guest", os.path.join(SOURCE, "__main__.py"))
guest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guest)

SILENT = types.SimpleNamespace(say=lambda _text: None)


class TheStop(unittest.TestCase):
    """The unit is stopped in mid-job: by needrestart, which the job's own packages set off."""

    def life(self, works, down=False):
        life = types.SimpleNamespace(record=SILENT, stopped_after=None)
        looks = []

        def at_work():
            looks.append(None)
            return len(looks) <= works

        life.listener = types.SimpleNamespace(
            at_work=at_work, stop=lambda: setattr(life, "stopped_after", len(looks)))
        asked = []
        with mock.patch.object(guest.time, "sleep"), \
                mock.patch.object(guest.machine, "goes_down", lambda: down), \
                mock.patch.object(guest.machine, "ask_for_time", asked.append):
            guest.Life.stop(life)
        return life.stopped_after, len(asked)

    def test_the_job_ends_first_and_time_is_asked_for_meanwhile(self):
        self.assertEqual(self.life(works=3), (4, 3))

    def test_without_a_job_it_stops_at_once(self):
        self.assertEqual(self.life(works=0), (1, 0))

    def test_a_machine_that_goes_down_is_not_held_up(self):
        self.assertEqual(self.life(works=100, down=True), (1, 0))

    def test_before_there_is_an_application_there_is_nothing_to_stop(self):
        guest.Life.stop(types.SimpleNamespace(listener=None))


class ThePoolsCommand(unittest.TestCase):
    def test_it_runs_before_the_user_and_the_application_and_its_failure_ends_the_guest(self):
        steps = [step.__name__ for step in guest.Life.STEPS]
        self.assertLess(steps.index("run_before"), steps.index("find_user_and_application"))
        with tempfile.TemporaryDirectory() as folder:
            mark = os.path.join(folder, "done")
            prepare.before("echo $((6 * 7)) >%s" % mark, SILENT)
            with open(mark, encoding="utf-8") as file:
                self.assertEqual(file.read(), "42\n")
        with self.assertRaises(prepare.Refused) as refused:
            prepare.before("echo no such package; exit 7", SILENT)
        self.assertIn("`before` command: sh ended with 7: no such package", str(refused.exception))


    def test_what_it_leaves_running_in_the_background_is_not_waited_for(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pid")
            prepare.before("sleep 30 & echo $! >%s; echo hi" % path, SILENT)
            with open(path, encoding="utf-8") as file:
                sleeper = int(file.read())
            self.addCleanup(os.kill, sleeper, signal.SIGKILL)
            with open("/proc/%d/stat" % sleeper, encoding="ascii") as stat:
                self.assertNotIn(stat.read().rpartition(")")[2].split()[0], "ZX")


class Over(BaseException):
    """The end of what a socket brings."""


class Hooks:
    """A life without a machine, which hears what is said to the hooks' socket."""

    def __init__(self):
        self.listener = None
        self.lock = threading.Lock()
        self.times = {}
        self.job = {}
        self.told = []
        self.reports = types.SimpleNamespace(send=self.told.append)

    def reached(self, step, word, **_known):
        self.times[step] = 1
        self.told.append(word)

    def hear(self, *said):
        said = iter(said)

        def recv(_most):
            for one in said:
                return one
            raise Over

        try:
            guest.Life.hear_hooks(self, types.SimpleNamespace(recv=recv))
        except Over:
            pass


class TheHooks(unittest.TestCase):
    def test_whatever_a_job_says_its_own_end_is_still_heard(self):
        hooks = Hooks()
        hooks.hear(
            b"[" * 60000, b"\xff", b"{}", b'{"hook": [], "job": []}', b'{"hook": "job-started", "job": 7}',
            b'{"hook": "job-started", "job": {"run_id": 1e999}}',
            b'{"hook": "job-started", "job": {"repository": "o/r"}}',
            b'{"hook": "job-completed", "job": {}}',
        )
        self.assertEqual(hooks.job, {"repository": "o/r"})
        self.assertEqual(hooks.told[-1], "job-completed")

    def test_a_report_can_be_read_by_the_daemon_whatever_the_job_has_put_into_it(self):
        log = record.Record(os.devnull)
        with mock.patch.object(sys, "stderr", io.StringIO()):
            log.line("\x1b[2J\x07" + "\U0001F600" * 9000 + "\ud800" + "\x00" * 5000)
        door = home.Door("ci--large--1", "http://127.0.0.1:9", "token", None)
        for text in ("\ud800" * 600, "\U0001F600" * 600, "\x1b" * 600, "x" * 600):
            hooks = Hooks()
            job = {"repository": text, "workflow": text, "event": text, "run_id": 7}
            hooks.hear(json.dumps({"hook": "job-started", "job": job}).encode())
            report = {"job": hooks.job, "log": log.excerpt(), "report": "stopped"}
            with mock.patch.object(http.client, "HTTPConnection") as connection:
                connection.return_value.getresponse.side_effect = OSError
                self.assertRaises(OSError, door.call, "POST", "reports", report)
            body = connection.return_value.request.call_args.kwargs["body"]
            self.assertLess(len(body), 16 * 1024, "what the daemon reads of a report")
            self.assertEqual(json.loads(body.decode("utf-8"))["job"]["run_id"], 7)
            self.assertNotIn(b"ud800", body)


class ThePreparation(unittest.TestCase):
    def test_an_application_that_belongs_to_no_user_is_found_all_the_same(self):
        for uid, expected in ((0, None), (4242424, None), (1, prepare.pwd.getpwuid(1).pw_name)):
            with mock.patch.object(prepare.os, "stat", lambda _path, uid=uid: mock.Mock(st_uid=uid)):
                self.assertEqual(prepare.owner("/opt/actions-runner"), expected)

    def test_a_download_that_breaks_off_in_the_middle_of_an_answer_is_tried_again(self):
        tries = []

        class Answer(io.BytesIO):
            status, headers = 200, {}

            def read(self, *size):
                if len(tries) < 3:
                    raise http.client.IncompleteRead(b"")
                return super().read(*size)

        def answer(*_request, **_more):
            tries.append(1)
            return Answer(b"all of it")

        opener = types.SimpleNamespace(open=answer)
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch.object(prepare.urllib.request, "build_opener", lambda *_handlers: opener), \
                mock.patch.object(prepare.time, "sleep"):
            path = os.path.join(folder, "archive")
            prepare.fetch("https://mirror.example/a.tar.gz", path, {}, SILENT)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), b"all of it")
        self.assertEqual(len(tries), 3)


class TheLimitOfAnOrder(unittest.TestCase):
    def test_one_that_passes_while_the_next_order_comes_wakes_nobody(self):
        thawed = []
        listener = types.SimpleNamespace(judge=lambda: evidence.QUIET, thaw=lambda: thawed.append(1))
        door = types.SimpleNamespace(call=lambda *_args, **_more: (204, b""))
        duty = standdown.StandDown(door, listener, SILENT)
        duty.obey(1, "stand-down")
        duty.obey(2, "stand-down")
        duty._forgotten(1)
        self.assertFalse(thawed, "the first order's limit is none of the second's")
        duty._forgotten(2)
        duty._forgotten(2)
        self.assertEqual(len(thawed), 1)


if __name__ == "__main__":
    unittest.main()
