# SPDX-License-Identifier: GPL-2.0
"""Does a missing package keep its own tests from running, and no others? Does each of the testbed's own tests leave a
result?"""

import unittest
from types import SimpleNamespace
from unittest import mock

from ktap import FAILED, PASSED, SKIPPED, Outcome
from results import LACKS, Results
from run import UnitTests
from suites import Suite
from testing import Boot, Machines

WHY = "liburing2:ppc64el 2.9-1: the mirror's index names it, its pool lacks it"
ABI, WAITING = Suite("abi", "kselftest", ("debug",), ""), Suite("waiting", "kselftest", ("debug",), "")


class Lacking(unittest.TestCase):
    def test_a_library(self):
        results = Results()
        programs = SimpleNamespace(lacks=lambda: {"waiting": WHY})
        machines = Machines(results, [ABI, WAITING], programs, model=None, tracing=None, modules=[], whole=True)
        boot = Boot(SimpleNamespace(name="debug", load=True), [ABI, WAITING])
        ran = []

        def machine(boot, _, jobs):
            for what, command in jobs:
                ran.append(command)
                if what == ABI:
                    machines.report(boot, what, "", [Outcome("a_test", PASSED)])

        with mock.patch.object(machines, "boot", machine), mock.patch.object(machines, "watch_console"), \
                mock.patch.object(results, "show"):
            machines.run(boot)
        self.assertEqual([command.split()[:2] for command in ran], [["insmod", "/modules/uxive.ko"], ["/tests/abi"]])
        self.assertEqual([(test["suite"], test["name"], test["result"], test["reason"]) for test in results.tests],
                         [("waiting", name, SKIPPED, LACKS + WHY) for name in WAITING.declared()]
                         + [("abi", "a_test", PASSED, "")])


class Own(unittest.TestCase):
    def test_each_leaves_a_result(self):
        class Some(unittest.TestCase):
            def test_good(self):
                pass

            def test_bad(self):
                self.fail()

            def test_error(self):
                raise OSError

            def test_skipped(self):
                self.skipTest("why")

            def test_parts(self):
                for part in 1, 2:
                    with self.subTest(part=part):
                        self.assertEqual(part, 1)

        results = UnitTests()
        with mock.patch("builtins.print"):
            unittest.defaultTestLoader.loadTestsFromTestCase(Some).run(results)
        found = sorted((each.name.rpartition(".test_")[2], each.result, each.reason) for each in results.results)
        self.assertEqual(found, [("bad", FAILED, ""), ("error", FAILED, ""), ("good", PASSED, ""),
                                 ("parts (part=2)", FAILED, ""), ("skipped", SKIPPED, "why")])
