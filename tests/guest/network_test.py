"""What the guest program says and fetches over the network, through proxies and without."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock
from http.server import BaseHTTPRequestHandler, HTTPServer

from given import SOURCE, Quiet

import home  # noqa: E402
import prepare  # noqa: E402
import proxy  # noqa: E402


class Daemon(HTTPServer):
    """A daemon that keeps what it is told."""

    def __init__(self, statuses, port=0):
        super().__init__(("127.0.0.1", port), Answers)
        self.statuses = statuses
        self.told = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        statuses = self.server.statuses
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        self.server.told.append((status, self.path, self.headers["Authorization"], body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


class TheReports(unittest.TestCase):
    def setUp(self):
        # A proxy in the environment is not for the daemon.
        for name in ("http_proxy", "https_proxy"):
            os.environ[name] = "http://127.0.0.1:9"
            self.addCleanup(os.environ.pop, name)

    def told(self, statuses, words, within=30.0):
        daemon = Daemon(statuses)
        self.addCleanup(daemon.server_close)
        self.addCleanup(daemon.shutdown)
        door = home.Door("ci--a--1", "http://127.0.0.1:%d/base/" % daemon.server_port, "t0ken", None)
        reports = home.Reports(door, Quiet(), lambda: {"times": {"booted": 1.0}})
        for word in words[:-1]:
            reports.send(word)
        reports.last(words[-1], within)
        return daemon.told

    def test_each_is_sent_in_order_with_the_runners_token(self):
        told = self.told([204], ["booted", "runner-started", "stopped"])
        self.assertEqual([one[3]["report"] for one in told], ["booted", "runner-started", "stopped"])
        self.assertEqual(told[0][1:3], ("/base/v1/guest/ci--a--1/reports", "Bearer t0ken"))
        self.assertEqual(told[0][3]["times"], {"booted": 1.0})

    def test_where_the_daemon_is_out_of_reach_the_proxy_is_tried_and_kept(self):
        proxy_ = Daemon([204])
        self.addCleanup(proxy_.server_close)
        self.addCleanup(proxy_.shutdown)
        # Port 9 refuses: the daemon is not to be reached but through the proxy.
        proxies = {"http": "http://u:p%%40@127.0.0.1:%d" % proxy_.server_port}
        door = home.Door("ci--a--1", "http://127.0.0.1:9/base", "t0ken", None, proxies)
        for _ in range(2):
            status, _ = door.call("POST", "reports", {"report": "booted"})
            self.assertEqual(status, 204)
        self.assertEqual(proxy_.told[0][1], "http://127.0.0.1:9/base/v1/guest/ci--a--1/reports")
        self.assertEqual(proxy_.told[0][2], "Bearer t0ken")
        self.assertEqual(len(proxy_.told), 2)
        daemon = Daemon([204])
        self.addCleanup(daemon.server_close)
        self.addCleanup(daemon.shutdown)
        near = home.Door("ci--a--1", "http://127.0.0.1:%d" % daemon.server_port, "t", None, proxies)
        near.call("POST", "reports", {})
        self.assertEqual((len(daemon.told), len(proxy_.told)), (1, 2), "directly where that works")

    def test_what_the_proxy_says_while_the_daemon_restarts_is_not_the_daemons_word(self):
        for status in (403, 407, 502, 503, 504):
            proxy_ = Daemon([status])
            self.addCleanup(proxy_.server_close)
            self.addCleanup(proxy_.shutdown)
            proxies = {"http": "http://127.0.0.1:%d" % proxy_.server_port}
            daemon = Daemon([204])
            port = daemon.server_port
            door = home.Door("ci--a--1", "http://127.0.0.1:%d" % port, "t0ken", None, proxies)
            self.assertEqual(door.call("POST", "reports", {})[0], 204)
            daemon.shutdown()
            daemon.server_close()
            with self.assertRaisesRegex(OSError, "through the proxy: HTTP %d" % status):
                door.call("POST", "reports", {})
            daemon = Daemon([204], port)
            self.addCleanup(daemon.server_close)
            self.addCleanup(daemon.shutdown)
            self.assertEqual(door.call("POST", "reports", {})[0], 204)
            self.assertEqual((len(daemon.told), len(proxy_.told)), (1, 1), "directly once it is back")

    def test_what_cannot_be_taken_now_comes_again_and_nothing_overtakes_it(self):
        told = self.told([503, 404, 429, 204], ["booted", "stopped"])
        self.assertEqual([one[3]["report"] for one in told], ["booted"] * 4 + ["stopped"])

    def test_what_is_refused_is_not_sent_again(self):
        for status in (400, 401, 403, 422):
            told = self.told([status], ["booted", "stopped"])
            self.assertEqual([one[3]["report"] for one in told], ["booted", "stopped"])

    def test_a_daemon_that_stays_away_does_not_keep_the_machine_up(self):
        told = self.told([503], ["booted", "stopped"], within=0.5)
        self.assertTrue(told)

    def test_without_a_home_nothing_is_sent_and_nothing_waits(self):
        reports = home.Reports(None, Quiet(), dict)
        reports.send("booted")
        reports.last("stopped", 3600)

    def test_pauses_grow_to_a_bound(self):
        pauses = [home.pause(tries) for tries in range(1, 100)]
        self.assertTrue(all(0.25 < one <= home.LONGEST_PAUSE for one in pauses))
        self.assertTrue(min(pauses[20:]) >= home.LONGEST_PAUSE / 2)


class TheProxy(unittest.TestCase):
    def test_the_pools_word_goes_before_the_images_and_that_before_the_systems(self):
        system = {"HTTPS_PROXY": "http://system:1", "no_proxy": "system"}
        image = {"https_proxy": "http://image:1", "HTTPS_PROXY": "http://upper:1"}
        pool = {"NO_PROXY": "pool"}
        found = proxy.environment(system, image, pool)
        self.assertEqual(found, {"https_proxy": "http://image:1", "no_proxy": "pool"})
        self.assertEqual(proxy.environment(system, {"https_proxy": ""})["https_proxy"], "")

    def test_a_call_goes_through_the_proxy_of_its_scheme_unless_no_proxy_names_its_host(self):
        variables = {"https_proxy": "proxy:3128", "all_proxy": "http://any:1"}
        self.assertEqual(proxy.of("https://github.com/x", variables), {"https": "http://proxy:3128"})
        self.assertEqual(proxy.of("http://mirror/x", variables), {"http": "http://any:1"})
        self.assertEqual(proxy.of("https://github.com/x", {}), {})
        for other in ("socks5://p:1080", "socks5h://p", "https://p:443"):
            self.assertEqual(proxy.of("https://github.com/x", {"https_proxy": other}), {}, other)
        for no_proxy, url, direct in (
            ("mirror.example", "https://mirror.example/x", True),
            ("example", "https://mirror.example/x", True),
            (".example", "https://mirror.example/x", True),
            ("*.example", "https://mirror.example/x", True),
            ("ample", "https://mirror.example/x", False),
            ("a,b  10.0.0.0/8", "https://10.1.2.3/x", True),
            ("10.0.0.0/8", "https://11.1.2.3/x", False),
            ("10.1.2.3", "https://10.1.2.3/x", True),
            ("fd00::/8", "https://[fd42::1]/x", True),
            ("mirror.example:8443", "https://mirror.example:8443/x", True),
            ("mirror.example:8443", "https://mirror.example:1/x", False),
            ("*", "https://anything/x", True),
            ("", "https://anything/x", False),
        ):
            found = proxy.of(url, dict(variables, no_proxy=no_proxy))
            self.assertEqual(found == {}, direct, (no_proxy, url))

    def test_a_proxy_without_a_port_is_asked_at_the_same_one_for_whatever_the_guest_wants(self):
        ports = []

        class Line(home.http.client.HTTPConnection):
            def connect(self):
                ports.append((self.host, self.port))
                raise OSError("enough")

        variables = {"http_proxy": "proxy.example"}
        url = "http://far.example/x"
        with mock.patch.object(home.http.client, "HTTPConnection", Line), \
                mock.patch.object(prepare.time, "sleep"), tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(prepare.Refused):
                prepare.fetch(url, os.path.join(folder, "x"), variables, Quiet())
            downloads = set(ports)
            ports.clear()
            with self.assertRaises(OSError):
                home.Door("ci--a--1", url, "t", None, proxy.of(url, variables)).call("GET", "orders")
        self.assertEqual(downloads, {("proxy.example", 80)})
        self.assertEqual(ports, [("far.example", 80), ("proxy.example", 80)])

    def test_a_redirect_of_a_download_goes_the_way_of_where_it_leads(self):
        asked = []

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.server.server_port, self.path, self.headers["Proxy-Authorization"]))
                self.send_response(302 if self.path.endswith("/from") else 200)
                self.send_header("Location", self.server.leads_to)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_CONNECT(self):
                asked.append((self.server.server_port, self.path, self.headers["Proxy-Authorization"]))
                self.send_error(502)

            def log_message(self, *_):
                pass

        def server():
            one = HTTPServer(("127.0.0.1", 0), Answer)
            threading.Thread(target=one.serve_forever, daemon=True).start()
            self.addCleanup(one.server_close)
            self.addCleanup(one.shutdown)
            return one

        near, way_out = server(), server()
        port = way_out.server_port
        way = "http://u:p@127.0.0.1:%d" % port
        login = "Basic " + base64.b64encode(b"u:p").decode()
        variables = {"http_proxy": way, "https_proxy": way, "no_proxy": "127.0.0.1"}
        inside = "http://127.0.0.1:%d" % near.server_port
        near.leads_to = "https://far.example/to"
        way_out.leads_to = inside + "/to"
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(prepare.time, "sleep"):
            path = os.path.join(folder, "x")
            prepare.fetch("http://far.example/from", path, variables, Quiet())
            self.assertEqual(asked, [(port, "http://far.example/from", login),
                                     (near.server_port, "/to", None)])
            asked.clear()
            with self.assertRaises(prepare.Refused):
                prepare.fetch(inside + "/from", path, variables, Quiet())
            self.assertEqual(asked[:2], [(near.server_port, "/from", None),
                                         (port, "far.example:443", login)])

    def fetched(self, statuses, variables):
        """What a download of `http://far.example/x` comes to, with a proxy that answers so."""
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
                self.send_response(status)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"body")

            def log_message(self, *_):
                pass

        asked = []
        server = HTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.addCleanup(setattr, prepare.time, "sleep", time.sleep)
        prepare.time.sleep = lambda _seconds: None
        variables = {key: value % server.server_port for key, value in variables.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x")
            url = "http://far.example/x" if variables else "http://127.0.0.1:%d/x" % server.server_port
            try:
                prepare.fetch(url, path, variables, Quiet())
                with open(path, "rb") as file:
                    return asked, file.read()
            except prepare.Refused as refused:
                return asked, str(refused)

    def test_a_proxys_403_is_tried_again_and_not_for_ever(self):
        asked, body = self.fetched([403, 403, 200], {"http_proxy": "http://127.0.0.1:%d"})
        self.assertEqual((len(asked), body), (3, b"body"))
        self.assertEqual(asked[0], "http://far.example/x", "it went through the proxy")
        asked, said = self.fetched([403], {"http_proxy": "http://127.0.0.1:%d"})
        self.assertEqual(len(asked), prepare.DOWNLOAD_TRIES)
        self.assertIn("HTTP 403", said)
        asked, said = self.fetched([403], {})
        self.assertEqual(len(asked), 1, "the server's own is final")

    def test_what_systemd_started_the_guest_with_counts_and_is_urllibs_no_more(self):
        env = dict(os.environ, HTTP_PROXY="http://systemd:1", no_proxy="a")
        told = subprocess.run(
            [sys.executable, "-c", "import os, proxy; print(proxy.SYSTEM, 'HTTP_PROXY' in os.environ)"],
            cwd=SOURCE, env=env, capture_output=True, check=True, text=True)
        self.assertEqual(told.stdout, "{'HTTP_PROXY': 'http://systemd:1', 'no_proxy': 'a'} False\n")


if __name__ == "__main__":
    unittest.main()
