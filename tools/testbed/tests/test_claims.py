# SPDX-License-Identifier: GPL-2.0
"""Does claims.py see a test that does not exist, and a claim without one?"""

import tempfile
import unittest
from pathlib import Path

import suites
from claims import check, complaints, in_rust

TESTS = {"ring:goes", "ring:one.comes", "ring:two.comes"}
TEXT = """
Nobody
======

Can, ``not:a_test`` of any kind:

- Ring: ``ring:goes``,
  ``ring:one.comes``.
- Do all else. No
  test: nobody can.
"""


class Complaints(unittest.TestCase):
    def said(self, old="", new=""):
        self.assertIn(old, TEXT)
        return complaints(TEXT.replace("``not:a_test``", "that").replace(old, new, 1), TESTS)

    def test_content(self):
        self.assertEqual(self.said(), [])

    def test_names_are_looked_up_wherever_they_stand(self):
        self.assertEqual(complaints(TEXT, TESTS), ["there is no test not:a_test"])

    def test_a_test_of_another_name(self):
        self.assertEqual(self.said("ring:goes", "ring:went"), ["there is no test ring:went"])

    def test_a_test_of_another_suite(self):
        self.assertEqual(self.said("ring:goes", "rung:goes"), ["there is no test rung:goes"])

    def test_all_variants_at_once(self):
        self.assertEqual(self.said("ring:one.comes", "ring:*.comes"), [])
        self.assertEqual(self.said("ring:one.comes", "ring:*.came"), ["there is no test ring:*.came"])

    def test_a_claim_without_a_test(self):
        self.assertEqual(self.said("No\n  test:", "For"), ['neither a test nor "no test": - Do all else. For nobody can.'])

    def test_a_document_without_claims(self):
        self.assertEqual(complaints("Text.\n", TESTS), ["there is no claim"])


class Sources(unittest.TestCase):
    def test_those_in_rust(self):
        self.assertEqual(in_rust("macro_rules! tests { () => { x } }\n    tests![\n        one,\n        two_more,\n    ]\n"),
                         ["one", "two_more"])

    def test_those_that_there_are(self):
        with tempfile.TemporaryDirectory() as place:
            document = Path(place, "page.rst")
            document.write_text("- ``mapping:only_within_the_window``, ``abi:global.ioctls_have_the_published_numbers``,\n"
                                "  ``rust_command:the_examples_run``, ``doorbell:owner.killed.*``\n")
            self.assertEqual(check(document, suites.read(), suites.TESTS), [])
            document.write_text("- ``mapping:no_such_test``\n")
            self.assertEqual(len(check(document, suites.read(), suites.TESTS)), 1)


if __name__ == "__main__":
    unittest.main()
