# SPDX-License-Identifier: GPL-2.0
"""Runs the tests in this directory, and tells the results as KTAP."""

import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from ktap import FAILED, PASSED, SKIPPED, Outcome
from results import ktap_text


class UnitTests(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.results = []
        self.begun = 0

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def add(self, test, result, reason=""):
        self.results.append(Outcome(test.id(), result, reason, time.monotonic() - self.begun))

    def addSuccess(self, test):
        self.add(test, PASSED)

    def addFailure(self, test, err):
        print(self._exc_info_to_string(err, test))
        self.add(test, FAILED)

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err:
            self.addFailure(subtest, err)

    def addSkip(self, test, reason):
        self.add(test, SKIPPED, reason)


def main():
    found = UnitTests()
    unittest.defaultTestLoader.discover(HERE, top_level_dir=HERE).run(found)
    for each in found.results:
        print(f"# {each.name} took {each.seconds:.2f} s")
    print(ktap_text(found.results), end="")
    return 1 if any(each.result == FAILED for each in found.results) or not found.results else 0


if __name__ == "__main__":
    sys.exit(main())
