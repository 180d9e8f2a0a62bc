# SPDX-License-Identifier: GPL-2.0
"""The results of all tests: shown as they come, and at the end those that failed, lacked a package or took long."""

import json
import sys
import threading
import time
from collections import Counter

import ktap
import recorded
import suites
from ktap import FAILED, PASSED, SKIPPED
from steps import BUILD, say

# Begins the reason of a test that is skipped because the mirror lacks a package. The reason goes on with the words of debs.py:
# the package, and why.
LACKS = "lacks "
# `make check` shows the result of lint beside those of suites, by this name.
LINT = "lint"
SLOWEST = 10
SLOW = 1.0


class Results:
    def __init__(self):
        self.tests = []
        self.notes = []
        self.begun = time.monotonic()
        self.minutes = None  # until it is finished
        # Machines run beside each other, and each writes whole suites.
        self.lock = threading.Lock()

    def add(self, suite, configuration, outcomes):
        with self.lock:
            self.tests += [{"suite": suite, "name": each.name, "kernel": configuration, "result": each.result,
                            "reason": each.reason, "seconds": each.seconds} for each in outcomes]

    def show(self, suite, configuration, text):
        """A suite's output, as it came."""
        with self.lock:
            sys.stdout.write(f"\n# {suite} ({configuration})\n{text}")
            sys.stdout.flush()

    def note(self, text):
        """Shows a line now and once more at the end."""
        say(text)
        with self.lock:
            self.notes.append(text)

    def slow(self):
        """Tests that took more than SLOW seconds wherever they ran, as SUITE:TEST."""
        least = {}
        for test in self.tests:
            # Of selftests, which are called by words.
            if test["seconds"] is not None and test["kernel"] != suites.HOST and " " not in test["name"]:
                name = f"{test['suite']}:{test['name']}"
                least[name] = min(test["seconds"], least.get(name, test["seconds"]))
        return {name for name, seconds in least.items() if seconds > SLOW}

    def finish(self):
        """The last lines, and build/test.json. Returns the exit status."""
        lacking = [test for test in self.tests if test["result"] == SKIPPED and test["reason"].startswith(LACKS)]
        allowed = recorded.recorded()["lacks"]["allowed"]
        forbidden = [test for test in lacking if lacked(test) not in allowed]
        counts = Counter(test["result"] for test in self.tests)
        counts = {result: counts[result] for result in (PASSED, FAILED, SKIPPED)}
        self.minutes = round((time.monotonic() - self.begun) / 60, 1)
        whole = counts | {"minutes": self.minutes, "tests": self.tests}
        (BUILD / "test.json").write_text(json.dumps(whole, indent=1) + "\n")

        print(f"\nThe {SLOWEST} slowest tests:")
        timed = [test for test in self.tests if test["seconds"] is not None]
        for test in sorted(timed, key=lambda test: -test["seconds"])[:SLOWEST]:
            print(f"{test['seconds']:7.1f} s  {test['suite']}: {test['name']} ({test['kernel']})")
        print()
        for note in filter(None, [*self.notes, recorded.told()]):
            print(note)
        for test in lacking:
            print(f"SKIPPED {label(test)}: {test['reason'].removeprefix(LACKS)}")
        if forbidden:
            print(f"{len(forbidden)} tests were skipped for want of packages that tools/testbed/recorded.toml does not allow "
                  "to be lacking")
        for test in self.tests:
            if test["result"] == FAILED:
                print(f"FAILED {label(test)}   again: {again(test)}")
        print(f"{self.minutes} minutes")
        print(", ".join(f"{count} {result}" for result, count in counts.items()), flush=True)
        return 1 if counts[FAILED] or not counts[PASSED] or forbidden else 0


def lacked(test):
    """The package for whose want a test was skipped."""
    return test["reason"].removeprefix(LACKS).partition(" ")[0].partition(":")[0]


def label(test):
    return f"{test['suite']}: {test['name']} ({test['kernel']})"


def again(test):
    """The command that repeats a test, alone if possible. A result that is no suite (a boot, its console) takes all that ran in
    that configuration."""
    if test["suite"] == LINT:
        return "make lint"
    if test["suite"] not in {suite.name for suite in suites.read()}:
        return f"make test C={test['kernel']}"
    name = f":{test['name']}" if all(mark.isalnum() or mark in "._-" for mark in test["name"]) else ""
    return f"make test T={test['suite']}{name} C={test['kernel']}"


def ktap_text(outcomes):
    """Outcomes that were not read from KTAP, as KTAP."""
    lines = [f"{'not ok' if each.result == FAILED else 'ok'} {number} {each.name}"
             + (f" # SKIP {each.reason}" if each.result == SKIPPED else "") for number, each in enumerate(outcomes, 1)]
    return "\n".join(["KTAP version 1", f"1..{len(outcomes)}", *lines, ""])


def skipped(names, lack):
    """Tests that did not run for want of a package."""
    return [ktap.Outcome(name, SKIPPED, LACKS + lack) for name in names]
