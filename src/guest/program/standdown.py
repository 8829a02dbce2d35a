"""The stand-down: how this runner is taken out of service without losing a job.

Freeze the listener, look, and only then answer. A frozen listener with nothing accepted cannot
accept anything; GitHub gives a job that it assigned in that instant to another runner. In doubt the
listener goes on for a moment, so that the doubt resolves, and is looked at again. A guest that hears
nothing more thaws by itself: an order never outlives the daemon that gave it.
"""

import http.client
import threading
import time

import evidence

DOUBT_LIMIT = 20.0
DOUBT_PAUSE = 0.25
ANSWER_LIMIT = 20.0
FROZEN_LIMIT = 300.0


class StandDown:
    """The order that this guest is under, if any."""

    def __init__(self, door, listener, record):
        self._door = door
        self._listener = listener
        self._record = record
        self._lock = threading.RLock()
        self._watch = None
        # The order that the watch belongs to.
        self._watched = None

    def obey(self, number, word):
        """Does what an order says."""
        self._record.say("order %d: %s" % (number, word))
        if word == "stand-down":
            self._stand_down(number)
        elif word == "go-on":
            self._go_on()
        elif word == "end":
            self._end()
        else:
            self._record.say("an order that this guest does not know; it is left alone")

    def _stand_down(self, number):
        self._unwatch()
        verdict = self._judged()
        if verdict == evidence.DOUBT:
            self._record.say("a job may be on its way; no answer")
            return
        if verdict == evidence.QUIET:
            with self._lock:
                self._watch = threading.Timer(FROZEN_LIMIT, self._forgotten, (number,))
                self._watched = number
                self._watch.daemon = True
                self._watch.start()
        answer = "busy" if verdict == evidence.BUSY else "standing-down"
        if self._refused(number, answer):
            self._go_on()

    def _judged(self):
        """The verdict; the listener is frozen with QUIET only."""
        until = time.monotonic() + DOUBT_LIMIT
        while True:
            verdict = self._listener.judge()
            if verdict != evidence.DOUBT or time.monotonic() >= until:
                return verdict
            time.sleep(DOUBT_PAUSE)

    def _refused(self, number, answer):
        """Whether the daemon does not want the answer. One that nobody confirmed may have arrived, and
        the runner's registration be on its way out: then the listener stays as it is, until the next
        order or the limit."""
        until = time.monotonic() + ANSWER_LIMIT
        pause = 0.25
        while True:
            try:
                body = {"number": number, "answer": answer}
                status, _ = self._door.call("POST", "answers", body, limit=5.0)
                if status // 100 == 2:
                    self._record.say("answered: " + answer)
                    return False
                if status < 500 and status != 429:
                    self._record.say("the answer came too late: HTTP %d" % status)
                    return True
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() + pause >= until:
                self._record.say("nobody confirmed the answer")
                return False
            time.sleep(pause)
            pause *= 2

    def _unwatch(self):
        with self._lock:
            if self._watch:
                self._watch.cancel()
                self._watch = None
                self._watched = None

    def _go_on(self):
        with self._lock:
            self._unwatch()
            self._listener.thaw()

    def _end(self):
        # Only a frozen listener is ended: one that went on by itself may have a job by now.
        with self._lock:
            self._unwatch()
            if not self._listener.end():
                self._record.say("this guest goes on: it does not stand down any more")

    def _forgotten(self, number):
        with self._lock:
            # One that fires while the next order comes can no longer be cancelled.
            if self._watched != number:
                return
            self._record.say("no word for %d s; going on" % FROZEN_LIMIT)
            self._go_on()
