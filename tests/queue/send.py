"""Puts messages into a queue exactly as Canonical's webhook router does: kombu's SimpleQueue, a text.

usage: send.py URL QUEUE [--dictionaries]

Each line of the standard input is a message. With --dictionaries each line is JSON and is put as a
dictionary, which kombu then sends as application/json. Prints how many were put.
"""

import json
import sys

from kombu import Connection


def main() -> None:
    url, queue, *options = sys.argv[1:]
    if options not in ([], ["--dictionaries"]):
        sys.exit(__doc__)
    count = 0
    with Connection(url) as connection, connection.SimpleQueue(queue) as simple_queue:
        for line in sys.stdin:
            text = line.rstrip("\n")
            simple_queue.put(json.loads(text) if options else text, retry=True)
            count += 1
    print(count)


if __name__ == "__main__":
    main()
