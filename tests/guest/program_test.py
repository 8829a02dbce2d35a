"""The guest program's parts, where a machine is not needed to see what they do."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import types
import unittest

from given import SOURCE, Quiet

import evidence  # noqa: E402
import hook  # noqa: E402
import listener  # noqa: E402
import machine  # noqa: E402
import prepare  # noqa: E402
import record  # noqa: E402
import standdown  # noqa: E402


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


class TheEvidence(unittest.TestCase):
    """What the runner application's files say of its work."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.app = folder.name
        os.mkdir(os.path.join(self.app, "_diag"))
        self.log = os.path.join(self.app, "_diag", "Runner_20260101-000000-utc.log")
        self.perf = os.path.join(self.app, "Runner.perf")
        append(self.log, "[2026 INFO JobDispatcher] Job request 1 for plan p job j received.\n")
        append(self.perf, "MessageReceived_RunnerJobRequest:2026\n")
        self.evidence = evidence.Evidence(self.app, self.app)

        # Containers' workers are this machine's processes too.
        self.addCleanup(setattr, machine, "runs", machine.runs)
        self.worker = False
        machine.runs = lambda name: self.worker and name == "Runner.Worker"

    def started(self):
        append(self.perf, "RunnerProcessStarted:2026\nSessionCreated:2026\n")

    def test_an_application_that_leaves_no_trace_is_never_called_quiet(self):
        self.assertEqual(self.evidence.look(), evidence.DOUBT)

    def test_what_an_earlier_start_or_the_image_left_is_not_this_ones(self):
        self.started()
        self.assertEqual(self.evidence.look(), evidence.QUIET)

    def test_a_job_message_is_a_doubt_in_both_flows_until_it_is_known_what_became_of_it(self):
        for kind in ("RunnerJobRequest", "PipelineAgentJobRequest"):
            self.started()
            append(self.perf, "MessageReceived_%s:2026\n" % kind)
            self.assertEqual(self.evidence.look(), evidence.DOUBT)
            append(self.log, "[2026 INFO Runner] Skipping message Job. Gone.\n")
            self.assertEqual(self.evidence.look(), evidence.QUIET)

    def test_other_messages_are_none(self):
        self.started()
        append(self.perf, "MessageReceived_BrokerMigration:1\nMessageReceived_JobCancellation:1\n")
        self.assertEqual(self.evidence.look(), evidence.QUIET)

    def test_a_line_that_is_not_whole_yet_is_a_doubt(self):
        self.started()
        append(self.perf, "MessageRec")
        self.assertEqual(self.evidence.look(), evidence.DOUBT)

    def test_every_way_to_let_a_message_go_is_known(self):
        self.started()
        for text in ("ERR  Runner] Caught exception from acquiring job message: x",
                     "INFO Runner] Skip message deletion for job request message '7'."):
            append(self.perf, "MessageReceived_RunnerJobRequest:2026\n")
            self.assertEqual(self.evidence.look(), evidence.DOUBT)
            append(self.log, "[2026 %s\n" % text)
            self.assertEqual(self.evidence.look(), evidence.QUIET)

    def test_two_messages_need_two_ends(self):
        self.started()
        append(self.perf, "MessageReceived_RunnerJobRequest:1\nMessageReceived_RunnerJobRequest:2\n")
        append(self.log, "[2026 INFO Runner] Skipping message Job. Gone.\n")
        self.assertEqual(self.evidence.look(), evidence.DOUBT)

    def test_a_taken_job_is_busy_for_good_also_in_a_log_that_began_later(self):
        self.started()
        append(self.log[:-15] + "9-utc.log",
               "[2026 INFO JobDispatcher] Job request 1 for plan p job j received.\n")
        self.assertEqual(self.evidence.look(), evidence.BUSY)
        self.assertEqual(self.evidence.look(), evidence.BUSY)

    def test_a_worker_is_busy_whatever_the_files_say(self):
        self.started()
        self.worker = True
        self.assertEqual(self.evidence.look(), evidence.BUSY)

    def test_files_that_cannot_be_read_are_a_doubt(self):
        self.started()
        os.unlink(self.perf)
        self.assertEqual(self.evidence.look(), evidence.DOUBT)


class TheStandDown(unittest.TestCase):
    """Orders, with a listener that is a real process and a daemon that is a list."""

    def setUp(self):
        # A real process, so that freezing is real.
        process = subprocess.Popen(["sleep", "600"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.listener = listener.Listener(folder.name, None, {}, folder.name, Quiet(), None)
        self.listener._process = process
        self.verdicts = [evidence.QUIET]
        self.listener.evidence.look = lambda: (
            self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        )
        self.answers, self.status = [], 204
        self.duty = standdown.StandDown(self, self.listener, Quiet())

    def call(self, _method, path, body, limit):
        self.assertTrue(limit < 10)
        self.answers.append((path, body["number"], body["answer"], self.frozen()))
        return self.status, b""

    def frozen(self):
        return machine.threads_stopped(self.listener._process.pid)

    def test_a_quiet_listener_is_frozen_before_the_answer_and_stays_so(self):
        self.duty.obey(7, "stand-down")
        self.assertEqual(self.answers, [("answers", 7, "standing-down", True)])
        self.assertTrue(self.frozen())
        self.duty.obey(8, "go-on")
        self.assertFalse(self.frozen())

    def test_a_busy_one_goes_on_before_the_answer(self):
        self.verdicts = [evidence.BUSY]
        self.duty.obey(7, "stand-down")
        self.assertEqual(self.answers, [("answers", 7, "busy", False)])

    def test_a_doubt_that_resolves_is_answered_with_what_it_was(self):
        for end, word in ((evidence.BUSY, "busy"), (evidence.QUIET, "standing-down")):
            self.answers.clear()
            self.verdicts = [evidence.DOUBT, evidence.DOUBT, end]
            self.duty.obey(7, "stand-down")
            self.assertEqual([answer[2] for answer in self.answers], [word])

    def test_a_doubt_that_lasts_gets_no_answer_and_the_listener_goes_on(self):
        self.verdicts = [evidence.DOUBT]
        self.addCleanup(setattr, standdown, "DOUBT_LIMIT", standdown.DOUBT_LIMIT)
        standdown.DOUBT_LIMIT = 0.3
        self.duty.obey(7, "stand-down")
        self.assertEqual((self.answers, self.frozen()), ([], False))

    def test_an_order_that_was_taken_back_lets_the_listener_go(self):
        self.status = 409
        self.duty.obey(7, "stand-down")
        self.assertEqual(len(self.answers), 1)
        self.assertFalse(self.frozen())

    def test_an_answer_that_nobody_confirms_may_have_arrived_so_the_listener_takes_no_job(self):
        self.status = 503
        self.addCleanup(setattr, standdown, "ANSWER_LIMIT", standdown.ANSWER_LIMIT)
        standdown.ANSWER_LIMIT = 0.6
        self.duty.obey(7, "stand-down")
        self.assertTrue(self.answers)
        self.assertTrue(self.frozen())
        self.duty.obey(8, "go-on")
        self.assertFalse(self.frozen())

    def test_a_guest_that_hears_no_more_goes_on_by_itself(self):
        self.addCleanup(setattr, standdown, "FROZEN_LIMIT", standdown.FROZEN_LIMIT)
        standdown.FROZEN_LIMIT = 0.2
        self.duty.obey(7, "stand-down")
        until = time.monotonic() + 30
        while self.frozen() and time.monotonic() < until:
            time.sleep(0.01)
        self.assertFalse(self.frozen())
        # And an end that comes too late kills nobody: the listener may have a job by now.
        self.duty.obey(9, "end")
        self.assertIsNone(self.listener._process.poll())
        self.assertFalse(self.listener.ended_by_order)

    def test_an_end_ends_one_that_stands_down(self):
        self.duty.obey(7, "stand-down")
        self.duty.obey(8, "end")
        self.assertEqual(self.listener._process.wait(30), -9)
        self.assertTrue(self.listener.ended_by_order)

    def test_a_stop_waits_for_a_job_that_may_be_on_its_way_and_none_comes_once_it_does_not(self):
        for verdict in (evidence.DOUBT, evidence.BUSY):
            self.verdicts = [verdict]
            self.assertTrue(self.listener.at_work())
            self.assertFalse(self.frozen(), "its work goes on")
        self.verdicts = [evidence.QUIET]
        self.assertFalse(self.listener.at_work())
        self.assertTrue(self.frozen(), "between this look and its end it can take none")
        self.listener.stop()
        self.assertEqual(self.listener._process.wait(30), -15)
        self.assertFalse(self.listener.at_work())

    def test_an_unknown_order_changes_nothing(self):
        self.duty.obey(7, "stand-down")
        self.duty.obey(8, "dance")
        self.assertTrue(self.frozen())


class TheRest(unittest.TestCase):
    def test_no_secret_is_in_the_record_and_the_excerpt_is_short(self):
        with tempfile.NamedTemporaryFile() as log:
            said = record.Record(log.name)
            said.hide("a-secret-token")
            said.hide_jit_config(base64.b64encode(json.dumps({".runner": "aW5uZXIgc2VjcmV0"}).encode()).decode())
            stderr, sys.stderr = sys.stderr, open(os.devnull, "w", encoding="utf-8")
            self.addCleanup(setattr, sys, "stderr", stderr)
            for number in range(3000):
                said.line("%d a-secret-token aW5uZXIgc2VjcmV0 \U0001F600" % number)
            sys.stderr.close()
            with open(log.name, encoding="utf-8") as file:
                text = file.read()
        excerpt = said.excerpt()
        for secret in ("a-secret-token", "aW5uZXIgc2VjcmV0"):
            self.assertNotIn(secret, text + excerpt)
        self.assertTrue(excerpt.endswith("2999 *** *** \U0001F600"))
        self.assertTrue(2000 < len(excerpt.encode()) <= 4096)

    def test_a_full_disk_costs_the_log_only(self):
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w", encoding="utf-8")
        self.addCleanup(setattr, sys, "stderr", stderr)
        said = record.Record("/dev/full")
        said.say("still here")
        sys.stderr.close()
        self.assertEqual(said.excerpt(), "guest: still here")

    def test_updates_are_turned_off_whatever_the_case_and_kind_of_the_old_setting(self):
        for old in ({}, {"disableUpdate": "false"}, {"DisableUpdate": False}):
            inner = "\ufeff" + json.dumps(dict(old, AgentId=7))
            files = {".runner": base64.b64encode(inner.encode()).decode(), ".credentials": "eA=="}
            config = base64.b64encode(json.dumps(files).encode()).decode()
            out = json.loads(base64.b64decode(listener.without_updates(config)))
            self.assertEqual(out[".credentials"], "eA==")
            self.assertEqual(json.loads(base64.b64decode(out[".runner"])), {"AgentId": 7, "DisableUpdate": True})
        for broken in ("", "x", base64.b64encode(b"[]").decode(), base64.b64encode(b"{}").decode()):
            with self.assertRaises((ValueError, KeyError, TypeError)):
                listener.without_updates(broken)

    def test_a_hook_tells_what_github_says_and_never_more_than_a_datagram_holds(self):
        env = {"GITHUB_REPOSITORY": "o/r", "GITHUB_WORKFLOW": "x" * 9999, "GITHUB_RUN_ID": "12", "GITHUB_EVENT_NAME": ""}
        self.assertEqual(hook.facts(env), {"repository": "o/r", "workflow": "x" * 512, "run_id": 12})
        self.assertEqual(hook.facts({"GITHUB_RUN_ID": "12; reboot"}), {})

    def test_a_hook_that_finds_no_guest_fails_no_job_and_the_images_own_still_runs(self):
        script = os.path.join(SOURCE, "..", "job-started.sh")
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as own:
            own.write("echo own; exit 3\n")
            own.flush()
            alone = subprocess.run(["sh", script], capture_output=True, check=False)
            self.assertEqual((alone.returncode, alone.stdout), (0, b""))
            env = dict(os.environ, RUNNER_FLEET_NEXT_JOB_STARTED=own.name)
            both = subprocess.run(["sh", script], capture_output=True, env=env, check=False)
            self.assertEqual((both.returncode, both.stdout), (3, b"own\n"))

    def test_the_images_hook_is_run_by_what_its_name_ends_with_as_the_application_does(self):
        script = os.path.join(SOURCE, "..", "job-completed.sh")
        with tempfile.TemporaryDirectory() as folder:
            def put(name, text):
                path = os.path.join(folder, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                os.chmod(path, 0o755)
                return path

            tell = "#!/bin/sh\necho \"${0##*/} $*\"\n"
            put("bin/pwsh", tell)
            put("app/externals/node16/bin/node", "#!/bin/sh\necho old\n")
            put("app/externals/node20/bin/node", tell)
            put("app/externals/node20_alpine/bin/node", "#!/no/such/ld-musl\n")
            for name, wanted in (
                ("own.hook.js", "node %s\n"), ("own's.ps1", "pwsh -command . '%s'\n"),
                ("own.sh", "in a shell\n"), ("own", "in a shell\n"),
            ):
                own = put(name, "echo in a shell\n")
                env = dict(os.environ, RUNNER_FLEET_NEXT_JOB_COMPLETED=own,
                           RUNNER_FLEET_APPLICATION=os.path.join(folder, "app"),
                           PATH=os.path.join(folder, "bin") + ":" + os.environ["PATH"])
                done = subprocess.run(["sh", script], capture_output=True, env=env, check=False)
                wanted = wanted % own.replace("'", "''") if "%s" in wanted else wanted
                self.assertEqual((done.returncode, done.stdout.decode()), (0, wanted), name)

    def test_what_root_left_in_the_users_folder_becomes_the_users(self):
        if os.getuid() != 0:
            self.skipTest("only root gives files away")
        user = types.SimpleNamespace(pw_name="nobody", pw_uid=65534, pw_gid=65534, pw_dir="/nowhere")
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as disk:
            os.chmod(folder, 0o755)
            app = os.path.join(folder, "app")
            os.makedirs(os.path.join(app, "_work", "deep"))
            os.symlink(disk, os.path.join(app, "_diag"))
            os.symlink("/etc/hostname", os.path.join(app, "out"))
            with open(os.path.join(app, "_work", "deep", "file"), "w", encoding="utf-8"):
                pass
            os.chown(app, 65534, 65534)
            etc = os.stat("/etc/hostname").st_uid
            self.assertEqual(prepare.hand_over(app, user, Quiet()), app)
            for path in ("_work", "_work/deep", "_work/deep/file"):
                self.assertEqual(os.stat(os.path.join(app, path)).st_uid, 65534, path)
            self.assertEqual(os.stat(disk).st_uid, 65534, "also where it lies elsewhere")
            self.assertEqual(os.stat("/etc/hostname").st_uid, etc, "no link is followed out")

    def test_a_process_is_found_by_its_programs_name_while_it_lives(self):
        with tempfile.TemporaryDirectory() as folder:
            name = "Wrk-%d" % os.getpid()
            program = os.path.join(folder, name)
            shutil.copy(shutil.which("sleep"), program)
            process = subprocess.Popen([program, "600"])
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            self.assertTrue(machine.runs(name))
            process.kill()
            until = time.monotonic() + 30
            while machine.runs(name) and time.monotonic() < until:
                time.sleep(0.01)
            self.assertFalse(machine.runs(name))

    def test_the_clock_never_goes_back_and_is_never_negative(self):
        readings = [machine.now() for _ in range(100)]
        self.assertEqual(readings, sorted(readings))
        self.assertTrue(readings[0] >= 0.0)

    def test_a_folder_that_the_user_cannot_pass_is_out_of_reach(self):
        nobody = types.SimpleNamespace(pw_name="nobody", pw_uid=65534, pw_gid=65534)
        with tempfile.TemporaryDirectory() as folder:
            app = os.path.join(folder, "app")
            os.mkdir(app)
            os.chmod(folder, 0o700)
            self.assertFalse(prepare.reachable(app, nobody))
            os.chmod(folder, 0o755)
            self.assertTrue(prepare.reachable(app, nobody))


if __name__ == "__main__":
    unittest.main()
