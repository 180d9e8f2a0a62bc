# SPDX-License-Identifier: GPL-2.0
"""Looks for what a kernel says on its console when something is wrong with it.

Nothing is excused, but for one thing: that hardware does not let go of something is a complaint unless a test has said
that it injects that, and that it no longer does. It says so by lines of its own, on the same console.
"""

import re

COMPLAINTS = re.compile("|".join([
    r"\bWARNING\b", r"\bBUG\b", r"\bOops\b", r"\bCall Trace\b", r"Kernel panic", r"Kernel attempted to",
    r"Unable to handle", r"Machine check", r"panicked at",
    # locks
    r"possible circular locking", r"possible recursive locking", r"possible irq lock inversion", r"lock order detected",
    r"inconsistent lock state", r"suspicious RCU", r"bad unlock balance", r"held lock freed", r"lock held when returning",
    r"locks? still held", r"DEBUG_LOCKS_WARN_ON", r"turning off the locking correctness validator",
    r"lockdep is turned off", r"Disabling lock debugging",
    r"sleeping function called", r"scheduling while atomic", r"Invalid wait context",
    # memory and objects
    r"new suspected memory leaks", r"kmemleak: (?:.*disabled|Cannot|Unable)", r"\bKASAN\b", r"\bUBSAN\b", r"\bODEBUG\b",
    r"corruption", r"refcount_t", r"Bad page", r"objects remaining",
    # time
    r"soft lockup", r"hard LOCKUP", r"blocked for more than", r"\bstall(?:s|ed)?\b.*\b(?:CPU|task|jiffies)",
    r"nobody cared",
]))
QUARANTINES = re.compile(r"is quarantined|does not come to rest")
INJECTED = "uxive selftest: quarantines are injected"
NO_MORE_INJECTED = "uxive selftest: no more quarantines are injected"
BEFORE, AFTER = 3, 25


def announced(lines):
    """The numbers of the lines from one that says that quarantines are injected to one that says that no more are."""
    numbers, start = set(), None
    for number, line in enumerate(lines):
        if INJECTED in line:
            start = number
        elif NO_MORE_INJECTED in line and start is not None:
            numbers.update(range(start, number))
            start = None
    return numbers


def complaints(text):
    """Stretches of lines, each with a complaint and what stands around it."""
    lines = text.splitlines()
    excused = announced(lines)
    found = []
    end = 0
    for number, line in enumerate(lines):
        if number >= end and (COMPLAINTS.search(line) or number not in excused and QUARANTINES.search(line)):
            start, end = max(number - BEFORE, end), number + AFTER
            found.append("\n".join(lines[start:end]))
    return found
