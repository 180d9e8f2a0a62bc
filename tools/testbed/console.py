# SPDX-License-Identifier: GPL-2.0
"""Looks for what a kernel says on its console when something is wrong with it. There is no list of exceptions."""

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
    # the driver itself
    r"an escalation was lost",
]))
BEFORE, AFTER = 3, 25


def complaints(text):
    """Stretches of lines, each with a complaint and what stands around it."""
    lines = text.splitlines()
    found = []
    end = 0
    for number, line in enumerate(lines):
        if number >= end and COMPLAINTS.search(line):
            start, end = max(number - BEFORE, end), number + AFTER
            found.append("\n".join(lines[start:end]))
    return found
