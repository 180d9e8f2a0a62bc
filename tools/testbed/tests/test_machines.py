# SPDX-License-Identifier: GPL-2.0
"""Is a machine that does not come up started once more, and only such a one? Do two machines run at a time, and each as soon as
its parts are built?"""

import contextlib
import io
import tempfile
import threading
import unittest
from pathlib import Path
from types import SimpleNamespace

from guest import DidNotComeUp, Hung
from ktap import FAILED
from results import Results
from steps import BUILD
from suites import Suite
from testing import Boot, Machines, Schedule, boots

SUITE = Suite("abi", "kselftest", ("base",), "")
BASE = SimpleNamespace(name="base", parts=1)


def boot(name="base", suites=(SUITE,)):
    return Boot(SimpleNamespace(name=name, load=True), list(suites))


class Faulty(Machines):
    """Machines whose boots end as `outcomes` say, one after the other: an exception, or the suites that have run."""

    def __init__(self, *outcomes):
        super().__init__(Results(), [SUITE], SimpleNamespace(lacks=dict), None, None, [], False)
        self.outcomes = list(outcomes)
        self.names = []
        self.directory = tempfile.TemporaryDirectory(dir=BUILD)
        self.log = Path(self.directory.name) / "console"
        self.log.write_text("[    0.0] quiet\n")

    def boot(self, boot, name, jobs):
        self.names.append(name)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Hung):
            outcome.console = self.log
            raise outcome
        for suite in outcome:
            self.report(boot, suite, "", [])
        return self.log

    def quietly(self):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.run(boot())
        self.directory.cleanup()
        return [f"{test['suite']}: {test['name']}" for test in self.results.tests if test["result"] == FAILED]


class Again(unittest.TestCase):
    def test_once_more_and_told(self):
        machines = Faulty(DidNotComeUp("no port"), [SUITE])
        self.assertEqual(machines.quietly(), [])
        self.assertEqual(machines.names, ["test-base", "test-base-again"])
        self.assertEqual(machines.results.notes, ["test-base is started once more: no port"])

    def test_not_twice(self):
        machines = Faulty(DidNotComeUp("no port"), DidNotComeUp("no port"))
        self.assertEqual(machines.quietly(), ["boot: no port", "abi: did not run"])
        self.assertEqual(len(machines.names), 2)

    def test_not_after_its_first_job(self):
        machines = Faulty(Hung("silent"))
        self.assertEqual(machines.quietly(), ["boot: silent", "abi: did not run"])
        self.assertEqual(len(machines.names), 1)

    def test_a_suite_without_a_result_has_failed(self):
        self.assertEqual(Faulty([]).quietly(), ["abi: did not run"])


class Boots(unittest.TestCase):
    def test_some_have_a_boot_of_their_own(self):
        health, race = Suite("health", "boot", ("base",), ""), Suite("engine", "race", ("base",), "")
        kexec, other = Suite("kexec", "kexec", ("base",), ""), Suite("other", "kselftest", ("smp1",), "")
        found = boots(BASE, [SUITE, race, health, kexec, other], True)
        self.assertEqual([(each.name, each.suites) for each in found],
                         [("test-base", [SUITE, health]), ("test-base-race", [race, health]),
                          ("test-base-kexec", [health, kexec])])
        self.assertEqual(len(boots(BASE, [SUITE, health], True)), 1)

    def test_a_whole_run_deals_many_suites_to_parts(self):
        health, unit = Suite("health", "boot", ("base",), ""), Suite("uxive_queue", "kunit", ("base",), "")
        planted = Suite("checkers", "checkers", ("base",), "")
        others = [Suite(f"suite{number}", "kselftest", ("base",), "") for number in range(3)]
        suites, parts = [unit, *others, health, planted], SimpleNamespace(name="base", parts=2)
        self.assertEqual([(each.name, each.suites) for each in boots(parts, suites, True)],
                         [("test-base", [unit, others[0], others[2], health, planted]), ("test-base-2", [others[1], health])])
        self.assertEqual([each.suites for each in boots(parts, suites, False)], [suites])


class InOrder(unittest.TestCase):
    def schedule(self, work, *names):
        """Runs boots called so, each by `work`."""
        machines = SimpleNamespace(run=lambda boot: work(boot.configuration.name))
        return Schedule(machines, [boot(name) for name in names])

    def test_two_at_a_time_once_all_is_built(self):
        both, ran = threading.Barrier(2, timeout=60), []

        def work(name):
            both.wait()
            ran.append(name)

        schedule = self.schedule(work, "a", "b", "c", "d")
        schedule.run(lambda: schedule.built_are(*(SimpleNamespace(name=name) for name in "abcd")))
        self.assertEqual(sorted(ran), ["a", "b", "c", "d"])

    def test_what_is_built_first_runs_first_and_beside_the_build(self):
        ran, done = [], {name: threading.Event() for name in "ab"}

        def work(name):
            ran.append(name)
            done[name].set()

        def build():
            for name in "ba":
                schedule.built_are(SimpleNamespace(name=name))
                self.assertTrue(done[name].wait(60))

        schedule = self.schedule(work, "a", "b")
        schedule.run(build)
        self.assertEqual(ran, ["b", "a"])

    def test_a_build_that_fails_is_told(self):
        def build():
            raise ValueError("no compiler")

        with self.assertRaisesRegex(ValueError, "no compiler"):
            self.schedule(lambda name: None, "a").run(build)
