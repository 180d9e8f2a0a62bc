# SPDX-License-Identifier: GPL-2.0
"""Reads KTAP as the kernel documents it (Documentation/dev-tools/ktap.rst), and believes no output that is incomplete.

A suite is one KTAP document: a version line, a plan, one result line per test. A test may stand for a document of its
own, indented, ahead of its result line; then the inner results are taken and the outer one must agree with them.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

VERSION = re.compile(r"( *)(K?TAP version \d+)$")
PLAN = re.compile(r"( *)1\.\.(\d+)\s*(?:#\s*SKIP\b\s*(.*))?$", re.IGNORECASE)
RESULT = re.compile(r"( *)(not )?ok\b\s*(\d+)?\s*(?:- )?(.*)$")
SKIP = re.compile(r"(?:^|\s)#\s*SKIP\b\s*(.*)", re.IGNORECASE)
# The outcomes that go with a kselftest's exit status.
STATUS = {0: {PASSED, SKIPPED}, 1: {FAILED}, 4: {SKIPPED}}


class Outcome(NamedTuple):
    """The result of a test; why it was skipped; how long it took, in seconds, if that is known."""
    name: str
    result: str
    reason: str = ""
    seconds: float = None


@dataclass
class Level:
    """A document that is being read, at one depth of indentation."""
    indent: int
    plan: int = None
    count: int = 0
    results: list = field(default_factory=list)
    inner: "Level" = None
    skipped: bool = False


def read(text, suite, status=None, stamps=()):
    """The outcomes of a suite, from its whole output and, of a program, its exit status. `stamps` says when each line came,
    in seconds from its begin.

    A fault of the output itself is a failed outcome too, with the fault as its name.
    """
    faults = []
    top = None
    stack = []
    before = 0
    if text and not text.endswith("\n"):
        faults.append("output is cut off in a line")
    for number, line in enumerate(text.splitlines()):
        if line.strip().lower().startswith("bail out!"):
            faults.append(line.strip())
        elif match := VERSION.match(line):
            level = Level(len(match[1]))
            stack = [outer for outer in stack if outer.indent < level.indent]
            if stack:
                stack[-1].inner = level
            elif top:
                faults.append("a second document begins")
            top = top or level
            stack.append(level)
        elif match := PLAN.match(line):
            level = at_indent(stack, match[1])
            if not level:
                faults.append("a plan outside any document")
            elif level.plan is not None:
                faults.append("a second plan")
            else:
                level.plan = int(match[2])
                level.skipped = level.plan == 0 and match[3] is not None
        elif match := RESULT.match(line):
            level = at_indent(stack, match[1])
            if not level:
                faults.append(f"a result outside any document: {line.strip()}")
                continue
            seconds = None
            if number < len(stamps):
                seconds, before = stamps[number] - before, stamps[number]
            faults += take(level, bool(match[2]), match[3], match[4], seconds)
            del stack[stack.index(level) + 1:]
    if top is None:
        return [Outcome("no KTAP in the output", FAILED)]
    faults += close(top, "")
    # KUnit's document has one test, the suite, with all others in it.
    results = [each._replace(name=each.name.removeprefix(f"{suite}.")) for each in top.results]
    results = results or ([Outcome(suite, SKIPPED)] if top.skipped else [])
    outcome = overall(results)
    if status is not None and outcome not in STATUS.get(status, ()) and not (faults and status):
        faults.append(f"exit status {status}, but results that say {outcome}")
    return results + [Outcome(fault, FAILED) for fault in faults]


def at_indent(stack, indent):
    return next((level for level in stack if level.indent == len(indent)), None)


def take(level, bad, number, description, seconds):
    """Puts a result line into its document; returns the line's faults."""
    faults = []
    level.count += 1
    name = description.split(" # ")[0].strip()
    if description.startswith("#"):
        name = ""
    skip = SKIP.search(description)
    result = FAILED if bad else SKIPPED if skip else PASSED
    name = name or f"test {number or level.count}"
    if number is None or int(number) != level.count:
        faults.append(f"result {level.count} is numbered {number}: {name}")
    inner, level.inner = level.inner, None
    if not inner:
        level.results.append(Outcome(name, result, skip[1] if skip else "", seconds))
        return faults
    faults += close(inner, f"{name}: ")
    if inner.results and overall(inner.results) != result:
        faults.append(f"{name} is {result}, but its own results say {overall(inner.results)}")
    level.results += ([each._replace(name=f"{name}.{each.name}") for each in inner.results]
                      or [Outcome(name, result, skip[1] if skip else "", seconds)])
    return faults


def close(level, where):
    """A document ends here: are all its results there?"""
    faults = []
    if level.inner:
        faults.append(f"{where}output ends inside a test")
        faults += close(level.inner, where)
        level.results += level.inner.results
    if level.plan is None:
        faults.append(f"{where}no plan")
    elif level.plan != level.count:
        faults.append(f"{where}{level.plan} results planned, {level.count} there")
    elif level.count == 0 and not level.skipped:
        faults.append(f"{where}no results at all")
    return faults


def overall(results):
    outcomes = {each.result for each in results}
    if FAILED in outcomes or not outcomes:
        return FAILED
    return PASSED if PASSED in outcomes else SKIPPED
