# SPDX-License-Identifier: GPL-2.0
"""Do the last lines of a run name the tests that failed or lacked a package, and does a lack count?"""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import suites
from ktap import FAILED, PASSED, SKIPPED, Outcome
from results import LACKS, Results, again, lacked, skipped
from testing import boots

WHY = "liburing2:ppc64el 2.9-1: the mirror's index names it, its pool lacks it"
LACKING = skipped(["io_uring_reads", "io_uring_fails"], WHY)
GOOD, BAD = Outcome("good", PASSED, seconds=2), Outcome("bad", FAILED, seconds=30)


class ResultsTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.build = Path(place.name)
        for patch in mock.patch("results.BUILD", self.build), mock.patch("results.say"):
            patch.start()
            self.addCleanup(patch.stop)
        self.results = Results()

    def finish(self, *outcomes, allowed=()):
        """(Exit status, the last lines) of a suite `abi` with these outcomes."""
        self.results.add("abi", "debug", outcomes)
        with mock.patch("recorded.recorded", lambda: {"lacks": {"allowed": list(allowed)}}), \
                mock.patch("recorded.told", lambda: ""), contextlib.redirect_stdout(io.StringIO()) as output:
            status = self.results.finish()
        return status, output.getvalue().splitlines()

    def test_all_passed(self):
        status, lines = self.finish(GOOD)
        self.assertEqual((status, lines[-1]), (0, "1 passed, 0 failed, 0 skipped"))

    def test_nothing_passed(self):
        self.assertEqual(self.finish()[0], 1)
        self.assertEqual(self.finish(Outcome("elsewhere", SKIPPED, "no XIVE"))[0], 1)

    def test_a_failure_says_how_to_repeat_it(self):
        status, lines = self.finish(GOOD, BAD)
        self.assertEqual(status, 1)
        self.assertEqual(lines[-3], "FAILED abi: bad (debug)   again: make test T=abi:bad C=debug")
        self.assertEqual(lines[-1], "1 passed, 1 failed, 0 skipped")

    def test_what_lacks_is_told_by_name_and_reason_and_fails(self):
        status, lines = self.finish(GOOD, *LACKING)
        self.assertEqual(status, 1)
        self.assertEqual(lines[-5:-3], [f"SKIPPED abi: {each.name} (debug): {WHY}" for each in LACKING])
        self.assertIn("2 tests were skipped for want of packages that tools/testbed/recorded.toml does not allow", lines[-3])
        self.assertEqual(lines[-1], "1 passed, 0 failed, 2 skipped")

    def test_what_is_allowed_to_lack_is_told_and_does_not_fail(self):
        status, lines = self.finish(GOOD, *LACKING, allowed=["liburing2"])
        self.assertEqual(status, 0)
        self.assertEqual(lines[-4:-2], [f"SKIPPED abi: {each.name} (debug): {WHY}" for each in LACKING])

    def test_another_package_is_not_allowed_with_it(self):
        self.assertEqual(self.finish(GOOD, *LACKING, allowed=["liburing", "liburing2-dev"])[0], 1)

    def test_what_is_skipped_for_another_reason_is_neither(self):
        status, lines = self.finish(GOOD, Outcome("hash_mmu", SKIPPED, "needs the hash MMU"))
        self.assertEqual(status, 0)
        self.assertFalse([line for line in lines if "SKIPPED" in line])

    def test_slowest_first_and_notes(self):
        self.results.note("a machine was started twice")
        _, lines = self.finish(GOOD, BAD)
        self.assertEqual([line.split()[0] for line in lines[2:4]], ["30.0", "2.0"])
        self.assertIn("a machine was started twice", lines)

    def test_json(self):
        self.finish(GOOD, *LACKING)
        found = json.loads((self.build / "test.json").read_text())
        self.assertEqual((found["passed"], found["failed"], found["skipped"]), (1, 0, 2))
        self.assertEqual(found["tests"][1], {"suite": "abi", "name": LACKING[0].name, "kernel": "debug", "result": SKIPPED,
                                             "reason": LACKS + WHY, "seconds": None})


class Names(unittest.TestCase):
    def test_the_package_that_lacks(self):
        for reason in (WHY, "liburing2: the mirror's index does not name it", "liburing2 was not fetched"):
            self.assertEqual(lacked({"reason": LACKS + reason}), "liburing2")

    def test_again_is_a_command_that_runs(self):
        table = suites.read()
        known = [(suite.name, suite.configurations[0]) for suite in table]
        # A result that is no suite fails, too: a console, a boot, loading the driver.
        for suite, configuration in [*known, ("console", "debug"), ("boot", "smp4"), ("load", "base")]:
            for name in "a_test", "2 results planned, 1 there":
                command = again({"suite": suite, "name": name, "kernel": configuration})
                words = command.removeprefix("make test ").split()
                asked = suites.asked(table, [word.removeprefix("T=") for word in words if word.startswith("T=")],
                                     [word.removeprefix("C=") for word in words if word.startswith("C=")])
                self.assertEqual({each.configurations for each in asked}, {(configuration,)}, command)
                self.assertTrue(suite in {each.name for each in asked} or suite not in dict(known), command)
                here = SimpleNamespace(name=configuration, parts=1)
                self.assertTrue(configuration == suites.HOST or boots(here, asked, False), command)

    def test_again_after_the_quick_half(self):
        table = suites.read()
        for suite in suites.quick(table, ()):
            asked = suites.asked(table, [f"{suite.name}:a_test"], ["base"])
            self.assertEqual({(each.name, each.configurations) for each in asked}, {(suite.name, ("base",))})

    def test_again_is_that_test_alone(self):
        self.assertEqual(again({"suite": "abi", "name": "unknown_ioctl", "kernel": "smp4"}),
                         "make test T=abi:unknown_ioctl C=smp4")
