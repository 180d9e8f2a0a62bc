# SPDX-License-Identifier: GPL-2.0
"""Are the marks in the machine's output found, wherever a read cuts it?"""

import unittest

from guest import events

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
