# SPDX-License-Identifier: GPL-2.0
"""Are exactly the suites run that the user asks for, and are the tests of a suite known that cannot run?"""

import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from driver import TESTS
from steps import Failed
from suites import Suite, asked, read

ABI = Suite("abi", "kselftest", ("debug", "smp4"), "")
HEALTH = Suite("health", "boot", ("debug",), "")
LIBRARY = Suite("library", "rusttest", ("host",), "")


class Asked(unittest.TestCase):
    def asked(self, words=(), configurations=()):
        return {each.name: each.configurations for each in asked([ABI, HEALTH], words, configurations)}

    def test_all(self):
        self.assertEqual(self.asked(), {"abi": ("debug", "smp4"), "health": ("debug",)})

    def test_suites(self):
        self.assertEqual(self.asked(["abi"]), {"abi": ("debug", "smp4")})

    def test_configurations(self):
        self.assertEqual(self.asked([], ["smp4"]), {"abi": ("smp4",)})
        self.assertEqual(self.asked(["abi"], ["debug"]), {"abi": ("debug",)})

    def test_tests_alone(self):
        found, = asked([ABI, HEALTH], ["abi:one", "abi:two"], [])
        self.assertEqual(found.arguments.split(), ["-r", "one", "-r", "abi.one", "-r", "two", "-r", "abi.two"])

    def test_whole_if_that_is_asked_for_as_well(self):
        self.assertEqual(asked([ABI], ["abi:one", "abi"], []), [ABI])

    def test_what_there_is_not(self):
        with self.assertRaisesRegex(Failed, "^no suite is called adi; there are abi, health$"):
            self.asked(["adi"])
        with self.assertRaisesRegex(Failed, "^no suite of health runs in smp4"):
            self.asked(["health"], ["smp4"])
        with self.assertRaisesRegex(Failed, "^no suite of abi runs in host"):
            asked([ABI, LIBRARY], ["abi"], ["host"])


class Declared(unittest.TestCase):
    def test_names_as_the_harness_has_them(self):
        text = ("TEST(plain)\n{\n\tTEST(no)\n}\nFIXTURE(box) {\n};\nTEST_F(box, open)\nTEST_F_TIMEOUT(box, close, 90)\n"
                "FIXTURE_VARIANT(way) {\n};\nFIXTURE_VARIANT_ADD(way, up) {\n};\nFIXTURE_VARIANT_ADD(way, down) {\n};\n"
                "TEST_F(way, goes)\nTEST_SIGNAL(dies, SIGBUS)\nTEST_F(tests, own)\nTEST_HARNESS_MAIN\n")
        with tempfile.TemporaryDirectory() as place, mock.patch("suites.TESTS", Path(place)):
            Path(place, "tests.c").write_text(text)
            self.assertEqual(Suite("tests", "kselftest", (), "").declared(),
                             ["global.plain", "box.open", "box.close", "way.up.goes", "way.down.goes", "global.dies", "own"])

    def test_of_every_selftest(self):
        for path in TESTS.glob("*.c"):
            text = path.read_text()
            found = Suite(path.stem, "kselftest", (), "").declared()
            bodies = re.findall(r"^TEST(?!_HARNESS)\w*\((?:\w+,\s*)?(\w+)", text, re.MULTILINE)
            self.assertEqual({name.rpartition(".")[2] for name in found}, set(bodies), path)
            self.assertTrue(found and len(set(found)) == len(found) >= len(bodies), path)

    def test_every_suite_that_may_lack_a_library_is_in_c(self):
        for suite in read():
            if suite.kind in ("kselftest", "race") and (TESTS / f"{suite.name}.c").exists():
                self.assertTrue(suite.declared(), suite.name)
