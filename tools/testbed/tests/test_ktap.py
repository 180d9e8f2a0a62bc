# SPDX-License-Identifier: GPL-2.0
"""Does ktap.py believe whole output, and only that?"""

import unittest

from ktap import FAILED, PASSED, SKIPPED, Outcome
from ktap import read as outcomes

# As the kernel's kselftest_harness.h prints it.
HARNESS = """TAP version 13
1..3
# Starting 3 tests from 2 test cases.
#  RUN           abi.unknown_ioctl ...
#            OK  abi.unknown_ioctl
ok 1 abi.unknown_ioctl
#  RUN           abi.misaligned ...
# abi.c:70:misaligned:Expected -22 (-22) == ux_free(self->fd, offset + 8) (0)
# misaligned: Test failed
#          FAIL  abi.misaligned
not ok 2 abi.misaligned
#  RUN           abi.hash_mmu ...
#      SKIP      needs the hash MMU
#            OK  abi.hash_mmu
ok 3 abi.hash_mmu # SKIP needs the hash MMU
# FAILED: 2 / 3 tests passed.
# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0
"""

# As /sys/kernel/debug/kunit/<suite>/results has it.
KUNIT = """KTAP version 1
1..1
    KTAP version 1
    # Subtest: uxive_layout
    1..2
    ok 1 below_window_is_none
    ok 2 first_is_zero
# uxive_layout: pass:2 fail:0 skip:0 total:2
# Totals: pass:2 fail:0 skip:0 total:2
ok 1 uxive_layout
"""


def read(text, suite, status=None):
    return [(each.name, each.result) for each in outcomes(text, suite, status)]


def faults(text, status=None):
    """The names of the failed results."""
    return [name for name, result in read(text, "suite", status) if result == FAILED]


class Whole(unittest.TestCase):
    def test_kselftest_harness(self):
        self.assertEqual(read(HARNESS, "abi", 1),
                         [("unknown_ioctl", PASSED), ("misaligned", FAILED), ("hash_mmu", SKIPPED)])

    def test_why_and_how_long(self):
        stamps = [0, 0, 0, 1, 2, 2.5, 3, 3, 3, 3, 4, 4, 4, 4, 9, 9, 9]
        self.assertEqual(outcomes(HARNESS, "abi", 1, stamps),
                         [Outcome("unknown_ioctl", PASSED, "", 2.5), Outcome("misaligned", FAILED, "", 1.5),
                          Outcome("hash_mmu", SKIPPED, "needs the hash MMU", 5)])

    def test_kunit(self):
        self.assertEqual(read(KUNIT, "uxive_layout"), [("below_window_is_none", PASSED), ("first_is_zero", PASSED)])

    def test_kunit_failure_inside(self):
        text = KUNIT.replace("    ok 2", "    not ok 2").replace("\nok 1", "\nnot ok 1")
        self.assertEqual(faults(text), ["uxive_layout.first_is_zero"])

    def test_parameters_are_a_third_level(self):
        text = ("KTAP version 1\n1..1\n    KTAP version 1\n    1..1\n        KTAP version 1\n        1..2\n"
                "        ok 1 small\n        not ok 2 big\n    not ok 1 sizes\nnot ok 1 suite\n")
        self.assertEqual(read(text, "suite"), [("sizes.small", PASSED), ("sizes.big", FAILED)])

    def test_all_skipped(self):
        self.assertEqual(read("TAP version 13\n1..0 # SKIP no XIVE\n", "suite", 4), [("suite", SKIPPED)])
        self.assertEqual(read("KTAP version 1\n1..1\nok 1 a # SKIP not here\n", "suite", 0), [("a", SKIPPED)])

    def test_description_with_dash_and_number_sign(self):
        self.assertEqual(read("KTAP version 1\n1..1\nok 1 - slot #3 is free\n", "suite", 0), [("slot #3 is free", PASSED)])


class Broken(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual(faults(""), ["no KTAP in the output"])
        self.assertEqual(faults("sh: abi: not found\n", 127), ["no KTAP in the output"])

    def test_cut_off_after_a_line(self):
        self.assertIn("3 results planned, 1 there", faults(HARNESS[:HARNESS.index("#  RUN           abi.misaligned")]))

    def test_cut_off_in_a_line(self):
        self.assertIn("output is cut off in a line", faults(HARNESS[:-30]))

    def test_cut_off_in_a_subtest(self):
        self.assertIn("output ends inside a test", faults(KUNIT[:KUNIT.index("    ok 2")]))

    def test_cut_off_between_levels(self):
        self.assertTrue(faults(KUNIT[:KUNIT.index("ok 1 uxive")]))

    def test_no_plan(self):
        self.assertEqual(faults("KTAP version 1\nok 1 a\n", 0), ["no plan"])

    def test_two_plans(self):
        self.assertEqual(faults("KTAP version 1\n1..1\n1..1\nok 1 a\n", 0), ["a second plan"])

    def test_too_many(self):
        self.assertEqual(faults("KTAP version 1\n1..1\nok 1 a\nok 2 b\n", 0), ["1 results planned, 2 there"])

    def test_empty_plan_without_reason(self):
        self.assertEqual(faults("KTAP version 1\n1..0\n", 0)[0], "no results at all")

    def test_duplicate_number(self):
        self.assertEqual(faults("KTAP version 1\n1..2\nok 1 a\nok 1 b\n", 0), ["result 2 is numbered 1: b"])

    def test_no_number(self):
        self.assertEqual(faults("KTAP version 1\n1..1\nok a\n", 0), ["result 1 is numbered None: a"])

    def test_bail_out(self):
        self.assertIn("Bail out! no device", faults("KTAP version 1\n1..2\nok 1 a\nBail out! no device\n", 1))

    def test_a_document_after_the_end(self):
        self.assertTrue(faults("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\nok 1 a\n", 0))

    def test_result_before_the_version(self):
        self.assertTrue(faults("ok 1 a\nKTAP version 1\n1..1\nok 1 a\n", 0))

    def test_exit_status_and_results_disagree(self):
        good = "KTAP version 1\n1..1\nok 1 a\n"
        for status in (1, 4, 137):
            self.assertEqual(faults(good, status), [f"exit status {status}, but results that say passed"])
        self.assertIn("exit status 0, but results that say failed", faults(good.replace("ok 1", "not ok 1"), 0))

    def test_suite_and_its_tests_disagree(self):
        self.assertTrue(faults(KUNIT.replace("\nok 1", "\nnot ok 1")))
        self.assertTrue(faults(KUNIT.replace("    ok 2", "    not ok 2")))
