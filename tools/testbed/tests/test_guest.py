# SPDX-License-Identifier: GPL-2.0
"""Are the marks in the machine's output found, wherever a read cuts it? Does the machine stand still when it asks for that?"""

import sys
import unittest

from guest import Machine, events

TOKEN = b"<token>"
STREAM = b"early<token> begin 0\nhello\nno newline<token> end 0 7\n<token> begin 1\n<tok<token> end 1 0\n<token> done\n"
EVENTS = [("output", b"early"), ("begin", 0), ("output", b"hello\nno newline"), ("end", 0, 7), ("begin", 1),
          ("output", b"<tok"), ("end", 1, 0), ("done",)]


def joined(found):
    """The events with pieces of output that follow each other made one."""
    result = []
    for event in found:
        if event[0] == "output" and result and result[-1][0] == "output":
            event = ("output", result.pop()[1] + event[1])
        result.append(event)
    return result


class Events(unittest.TestCase):
    def test_at_once(self):
        self.assertEqual(events(STREAM, TOKEN), (EVENTS, b""))

    def test_cut_anywhere(self):
        for size in range(1, len(STREAM)):
            found, rest = [], b""
            for start in range(0, len(STREAM), size):
                more, rest = events(rest + STREAM[start:start + size], TOKEN)
                found += more
            self.assertEqual((joined(found), rest), (EVENTS, b""), size)

    def test_output_is_not_held_back_without_need(self):
        self.assertEqual(events(b"password: ", TOKEN), ([("output", b"password: ")], b""))
        self.assertEqual(events(b"a <to", TOKEN), ([("output", b"a ")], b"<to"))


# In the place of QEMU: asks for a pause in the file that its first argument names, and tells whether time passed at once.
PAUSED = """
import sys, time
with open(sys.argv[1], "wb", buffering=0) as output:
    output.write(b"<token> begin 0\\nbefore\\n<token> pause 1\\n")
    last, longest, end = time.monotonic(), 0, time.monotonic() + 60
    while longest < 0.5 and last < end:
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    output.write(b"%d\\n<token> end 0 0\\n<token> done\\n" % (longest >= 0.5))
"""


class Pause(unittest.TestCase):
    def test_the_machine_stands_still(self):
        machine = Machine("unittest-pause", "kernel", "image")
        machine.command = [sys.executable, "-c", PAUSED, machine.output_log]
        found = joined(machine.run("<token>", silence=60, total=120))
        self.assertEqual(found, [("begin", 0), ("output", b"before\n1\n"), ("end", 0, 0), ("done",)])
