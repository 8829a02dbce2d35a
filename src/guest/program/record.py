"""What the guest says: a log file, the console, and the last lines for the report `stopped`.

Secrets are masked on the way in, so that no place further on has to think of them. A full disk
costs the file's lines and nothing else.
"""

import base64
import json
import sys
import threading
import time

LOG_FILE = "/var/log/runner-fleet-guest.log"
EXCERPT = 4096
# A runner application that prints without end must not fill the disk that its job needs.
LOG_LIMIT = 4 * 1024 * 1024


class Record:
    """Lines, from any thread."""

    def __init__(self, path=LOG_FILE):
        self._path = path
        self._lock = threading.Lock()
        self._secrets = []
        self._tail = []
        self._tail_size = 0
        self._written = 0

    def hide(self, text):
        """`text` appears nowhere from now on."""
        if text and len(text) >= 8 and text not in self._secrets:
            self._secrets.append(text)

    def hide_jit_config(self, jit_config):
        """Neither the JIT config nor any of the files in it appear from now on."""
        self.hide(jit_config)
        try:
            for content in json.loads(base64.b64decode(jit_config)).values():
                self.hide(content)
        except (ValueError, AttributeError):
            pass

    def say(self, text):
        """A line of the guest's own."""
        self.line("guest: " + text)

    def line(self, text):
        """A line of the guest's or of the runner application's."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        with self._lock:
            self._keep(text)
            stamped = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text + "\n"
            try:
                sys.stderr.write(stamped)
                sys.stderr.flush()
            except OSError:
                pass
            if self._written > LOG_LIMIT:
                return
            try:
                with open(self._path, "a", encoding="utf-8", errors="replace") as log:
                    log.write(stamped)
                self._written += len(stamped)
            except OSError:
                pass

    def _keep(self, text):
        text = text[:EXCERPT]
        self._tail.append(text)
        self._tail_size += len(text) + 1
        while len(self._tail) > 1 and self._tail_size - len(self._tail[0]) - 1 >= EXCERPT:
            self._tail_size -= len(self._tail.pop(0)) + 1

    def excerpt(self):
        """The last lines, at most 4 KiB of UTF-8, without what orders a terminal about."""
        with self._lock:
            text = "\n".join(self._tail)
        text = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
        return text.encode("utf-8", "replace")[-EXCERPT:].decode("utf-8", "ignore")
