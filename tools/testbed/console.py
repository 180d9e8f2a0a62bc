# SPDX-License-Identifier: GPL-2.0
"""Searches a kernel's console for complaints.

A complaint is excused only while a test injects its cause: hardware that does not go quiet, a cgroup without memory, an error
of a host bridge, a crash. The test announces the begin and the end by lines of its own on the same console.
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
# Complaints that tests cause on purpose, and the lines by which they announce begin and end. The rest of a report is searched
# as ever.
ANNOUNCED = [
    (re.compile(r"is quarantined|does not go quiet"),
     "uxive selftest: quarantines are injected", "uxive selftest: no more quarantines are injected"),
    (re.compile(r"\bCall Trace\b"),  # of the OOM killer
     "uxive selftest: a cgroup runs out of memory", "uxive selftest: no more cgroup runs out of memory"),
    (re.compile(r"\bEEH: Call Trace\b"),  # of the task that found the error
     "uxive selftest: an error of a host bridge is injected", "uxive selftest: no more error of a host bridge is injected"),
    (re.compile(r"Disabling lock debugging"),  # which a machine check does
     "uxive selftest: a guest has a machine check", "uxive selftest: no more guest has a machine check"),
    (re.compile(r"Kernel panic - not syncing: sysrq triggered crash|\bCall Trace\b"),
     "uxive selftest: the machine is to crash", "uxive selftest: the machine was taken over"),
]
BEFORE, AFTER = 3, 25


def between(lines, begin, end):
    """The numbers of the lines from one that has `begin` to one that has `end`."""
    numbers, start = set(), None
    for number, line in enumerate(lines):
        if begin in line:
            start = number
        elif end in line and start is not None:
            numbers.update(range(start, number))
            start = None
    return numbers


def complaints(text):
    """Stretches of lines, each with a complaint and its context."""
    lines = text.splitlines()
    announced = [(pattern, between(lines, begin, end)) for pattern, begin, end in ANNOUNCED]

    def complains(number, line):
        if any(pattern.search(line) and number in numbers for pattern, numbers in announced):
            return False
        return COMPLAINTS.search(line) or any(pattern.search(line) for pattern, _ in announced)

    found = []
    end = 0
    for number, line in enumerate(lines):
        if number >= end and complains(number, line):
            start, end = max(number - BEFORE, end), number + AFTER
            found.append("\n".join(lines[start:end]))
    return found
