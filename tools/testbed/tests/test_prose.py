# SPDX-License-Identifier: GPL-2.0
"""Does prose.py see each phrase that it refuses, where it is text and not elsewhere?"""

import tempfile
import unittest
from pathlib import Path

from prose import PATHS, REFUSED, check, complaints, files

REFUSES = ["It says what befalls it.", "It is in somebody's hands.", "It does not come to rest.", "It came\nto rest.",
           "Hardware lets go of it.", "It stays for good.", "The estate goes.", "It is to\n be done.", "Whoever has it rings.",
           "Told to whoever asks.", "Who has it rings.", "It rings. What it rings stays."]
TAKES = ["What is it?", "Who asks?  All do.", "What:\t\t/sys/class", "A user who asks is told what it is.", "It goes to bed.",
         "It has come. To rest it needs."]


class Phrases(unittest.TestCase):
    def test_each_is_refused(self):
        for text in REFUSES:
            for suffix, form in ((".rst", "{}\n"), (".md", "{}\n"), ("", "{}\n"), (".h", "/*\n * {}\n */\n"), (".rs", "/// {}\n")):
                with self.subTest(text=text, suffix=suffix):
                    written = form.format(text.replace("\n", {".h": "\n * ", ".rs": "\n/// "}.get(suffix, "\n")))
                    self.assertEqual(len(complaints(written, suffix)), 1, written)

    def test_all_of_the_list_are_among_these(self):
        self.assertEqual({instead for text in REFUSES for _, said in complaints(text, ".rst")
                          for instead in REFUSED.values() if said.endswith(f": {instead}")}, {*REFUSED.values()})

    def test_others_are_taken(self):
        for text in TAKES:
            with self.subTest(text=text):
                self.assertEqual(complaints(f"{text}\n", ".rst"), [])

    def test_line(self):
        self.assertEqual(complaints("One.\n\nIt is\nto be.\n", ".rst")[0][0], 3)


class Text(unittest.TestCase):
    def test_headings_and_literals_are_none(self):
        self.assertEqual(complaints("What is there\n=============\n\nSays::\n\n\tIt is to be.\n\n\tAnd is to be.\n\nNo.\n", ".rst"), [])
        self.assertEqual(complaints("The line ``it is to be`` comes.\n", ".rst"), [])
        self.assertEqual(complaints("# What is there\n\n    is to be\n\n```c\nis to be\n```\n", ".md"), [])

    def test_what_stands_around_a_literal_is(self):
        text = "Says what is to be::\n\n\tIt is to be.\n\nAnd this is to be.\n"
        self.assertEqual([line for line, _ in complaints(text, ".rst")], [1, 5])

    def test_code_is_none(self):
        self.assertEqual(complaints('call("is to be"); /* No. */\nWho();\n', ".c"), [])
        self.assertEqual([line for line, _ in complaints("a();\nb(); /* It is to be. */\n", ".h")], [2])

    def test_files_of_a_tree(self):
        with tempfile.TemporaryDirectory() as place:
            top = Path(place)
            for name in ("Documentation/deep/page.rst", "README.md", "Kconfig", "include/a.h", "other.rst"):
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_text("/* It is to be. */\n")
            self.assertEqual(len(check(files(top), top)), 4)
            self.assertIn("Documentation/deep/page.rst:1: ", check(files(top), top)[0])

    def test_paths(self):
        self.assertLessEqual({"Documentation", "README.md", "Kconfig", "include"}, {*PATHS})


if __name__ == "__main__":
    unittest.main()
