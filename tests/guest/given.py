"""What the tests of the guest program begin with: its modules' folder, and a record to look into."""

import os
import sys

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/guest/program")
sys.path.insert(0, SOURCE)


class Quiet:
    """A record that keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    line = say
