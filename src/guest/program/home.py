"""The way home: reports to the daemon, orders from it.

Two threads, so that neither waits for the other and a job waits for none. A report is made of all
that is known when it is sent, so a lost, late or repeated one harms nothing. What the daemon
refuses is dropped; what it cannot take now is tried again, with backoff, while the machine lives.
"""

import base64
import http.client
import json
import queue
import random
import ssl
import threading
import time
import urllib.parse

import proxy

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
CALL_LIMIT = 10.0
# Between two long polls. Shorter than between reports: an order has a deadline, a report has none.
LONGEST_GAP = 10.0
POLL = 50
# No retry changes these answers: what was sent, or who sent it, is wrong.
REFUSED = (400, 401, 403, 405, 409, 410, 413, 415, 422)
# What a proxy says of itself, or of a daemon that it cannot reach or may not.
OF_A_PROXY = (403, 407, 502, 503, 504)


def pause(tries):
    """Seconds before try number `tries`; half of it is chance, so that guests do not march."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10))
    return longest * random.uniform(0.5, 1.0)


class Door:
    """HTTP to the daemon: one call, one connection, no redirect.

    The daemon is nearby, most of the time, and a proxy for the outside may not reach it: it is called
    directly first. Where no connection is to be had, the call goes through the proxy, and whichever
    way worked is tried first from then on.
    """

    def __init__(self, runner, url, token, ca_pem, proxies=None):
        parts = urllib.parse.urlsplit(url)
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cadata=ca_pem or None)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = "%s/v1/guest/%s/" % (parts.path.rstrip("/"), urllib.parse.quote(runner))
        way = (proxies or {}).get(parts.scheme)
        self._proxy = urllib.parse.urlsplit(way) if way else None
        self._through = False
        self._headers = {"Authorization": "Bearer " + token, "User-Agent": "runner-fleet-guest"}

    def call(self, method, path, body=None, limit=CALL_LIMIT):
        """The status and the body of the answer. Raises OSError or HTTPException without one."""
        line, through = self._open(limit)
        try:
            headers = dict(self._headers)
            if body is not None:
                # Escaped, what a job says could grow beyond what the daemon reads.
                body = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
                headers["Content-Type"] = "application/json"
            where = self._path + path
            if through and not self._tls:
                where = "http://%s%s" % (self._authority(), where)
                headers.update(self._log_in())
            line.request(method, where, body=body, headers=headers)
            answer = line.getresponse()
            if through and not self._tls and answer.status in OF_A_PROXY:
                # Nobody can tell whose word this is, and a daemon that only restarts may be reached
                # directly again: it is nobody's, and the next call looks for the way anew.
                self._through = False
                raise OSError("through the proxy: HTTP %d" % answer.status)
            return answer.status, answer.read(65536)
        finally:
            line.close()

    def _open(self, limit):
        """A connection, by the way that worked last, and whether that is through the proxy."""
        ways = (self._through, not self._through) if self._proxy else (False,)
        failed = None
        for through in ways:
            line = self._line(through, limit)
            try:
                line.connect()
            except (OSError, http.client.HTTPException) as error:
                line.close()
                failed = failed or error
                continue
            self._through = through
            return line, through
        raise failed

    def _line(self, through, limit):
        host, port = self._host, self._port
        if through:
            host, port = self._proxy.hostname or "", self._proxy.port or proxy.PORT
        if not self._tls:
            return http.client.HTTPConnection(host, port, timeout=limit)
        line = http.client.HTTPSConnection(host, port, timeout=limit, context=self._tls)
        if through:
            line.set_tunnel(self._host, self._port or 443, headers=self._log_in())
        return line

    def _authority(self):
        host = "[%s]" % self._host if ":" in self._host else self._host
        return "%s:%d" % (host, self._port or 80)

    def _log_in(self):
        """What the proxy wants to see, where its address names a user."""
        if not self._proxy.username:
            return {}
        user = "%s:%s" % (urllib.parse.unquote(self._proxy.username),
                          urllib.parse.unquote(self._proxy.password or ""))
        return {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


class Reports:
    """The reports of one life, in order."""

    def __init__(self, door, record, facts):
        """`facts()` is all that is known now, as the fields of a report."""
        self._door = door
        self._record = record
        self._facts = facts
        self._queue = queue.Queue()
        self._news = threading.Event()
        self._silent_from = None
        self._thread = threading.Thread(target=self._send_all, name="reports", daemon=True)
        if door:
            self._thread.start()

    def send(self, word):
        """Sends `word` as soon as the daemon takes it. Never waits."""
        self._record.say("report: " + word)
        if self._door:
            self._queue.put(word)
            self._news.set()

    def last(self, word, within):
        """Sends `word` as the last report, and waits for that, at most `within` seconds."""
        self._silent_from = time.monotonic() + within
        self.send(word)
        if self._door:
            self._queue.put(None)
            self._news.set()
            self._thread.join(within)

    def _over(self):
        return self._silent_from is not None and time.monotonic() >= self._silent_from

    def _send_all(self):
        while True:
            word = self._queue.get()
            if word is None:
                return
            tries = 0
            while not self._over():
                self._news.clear()
                if self._taken(word, tries):
                    break
                tries += 1
                # A newer report ends the pause: it may be the last one.
                if self._news.wait(pause(tries)):
                    tries = min(tries, 2)

    def _taken(self, word, tries):
        try:
            status, _ = self._door.call("POST", "reports", dict(self._facts(), report=word))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if tries == 0:
                self._record.say("the daemon is out of reach (%s); trying again" % error)
            return False
        if status // 100 == 2:
            return True
        if status in REFUSED:
            self._record.say("the daemon refuses the report %s: HTTP %d" % (word, status))
            return True
        if tries == 0:
            self._record.say("the daemon cannot take the report %s: HTTP %d; trying again" % (word, status))
        return False


class Orders(threading.Thread):
    """The long poll that this guest keeps open."""

    def __init__(self, door, record, obey):
        """`obey(number, word)` is called for each order, on this thread."""
        super().__init__(name="orders", daemon=True)
        self._door = door
        self._record = record
        self._obey = obey

    def run(self):
        newest = 0
        tries = 0
        while True:
            try:
                path = "orders?after=%d&wait=%d" % (newest, POLL)
                status, body = self._door.call("GET", path, limit=POLL + CALL_LIMIT)
                if status == 200:
                    order = json.loads(body)
                    newest = max(newest, int(order["number"]))
                    self._obey(int(order["number"]), str(order["order"]))
                if status in (200, 204):
                    tries = 0
                    continue
                if status in (401, 403):
                    self._record.say("the daemon gives this guest no orders: HTTP %d" % status)
                    return
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
                if tries == 0:
                    self._record.say("no orders for now: %s" % error)
            tries += 1
            time.sleep(min(LONGEST_GAP, pause(tries)))
