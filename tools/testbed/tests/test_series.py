# SPDX-License-Identifier: GPL-2.0
"""Does series.py write mails that can be sent, and see a patch that is left out or does not apply?"""

import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import kvm
import series
from series import by_number, diffstat, mails, misplaced, unfit, untold, write

TABLE = """
[addresses]
one = "One <one@example.org>"
list = "list@example.org"
other = "other@example.org"

[[series]]
name = "both"
patches = ["0001", "0003"]
to = ["one"]
cc = ["list", "other"]
subject = "Mend both"
text = "Why both. Without 0001 a_test fails."

[[series]]
name = "alone"
patches = ["0002"]
to = ["one"]
cc = ["list"]
text = "Seen once."
"""
PATCH = """From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Two <two@example.org>
Date: Mon, 30 Nov 2026 12:0{at}:00 +0000
Subject: [PATCH] a: Have {new} for {old}

Why.

Signed-off-by: Two <two@example.org>
---
 {name} | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/{name} b/{name}
--- a/{name}
+++ b/{name}
@@ -1 +1 @@
-{old}
+{new}
"""


class Series(unittest.TestCase):
    def setUp(self):
        top = tempfile.TemporaryDirectory()
        self.addCleanup(top.cleanup)
        self.top = Path(top.name)
        self.folder = self.top / "patches"
        self.folder.mkdir()
        self.table = tomllib.loads(TABLE)
        for at, (name, old, new) in enumerate([("a/one", "1", "2"), ("a/two", "1", "2"), ("a/one", "2", "3")], 1):
            (self.folder / f"{at:04}-a-{at}.patch").write_text(PATCH.format(at=at, name=name, old=old, new=new))
        # All of them are applied.
        self.source = self.top / "source"
        (self.source / "a").mkdir(parents=True)
        (self.source / "a/one").write_text("3\n")
        (self.source / "a/two").write_text("2\n")
        self.patches = by_number(self.folder)

    def written(self, name):
        one, = (each for each in self.table["series"] if each["name"] == name)
        return mails(self.table, one, self.patches, "Linux 1.0")

    def test_many_have_numbers_and_a_cover_letter(self):
        found = self.written("both")
        self.assertEqual(sorted(found), ["0000-cover-letter.patch", "0001-a-1.patch", "0002-a-3.patch"])
        self.assertIn("Subject: [PATCH 2/2] a: Have 3 for 2\nTo: One <one@example.org>\n"
                      "Cc: list@example.org,\n    other@example.org\n\nWhy.\n", found["0002-a-3.patch"])
        cover = found["0000-cover-letter.patch"]
        for part in ("From: Two <two@example.org>\nDate: Mon, 30 Nov 2026 12:03:00 +0000\nSubject: [PATCH 0/2] Mend both\nTo: ",
                     "\n\nWhy both. Without 0001 a_test fails.\n\nThis applies to Linux 1.0.\n\nTwo (2):\n",
                     "  a: Have 2 for 1\n  a: Have 3 for 2\n\n a/one |   4\n"):
            self.assertIn(part, cover)

    def test_one_has_its_text_below_the_message(self):
        found = self.written("alone")
        self.assertEqual(list(found), ["0001-a-2.patch"])
        self.assertIn("Subject: [PATCH] a: Have 2 for 1\nTo: ", found["0001-a-2.patch"])
        self.assertIn("\n---\nSeen once.\n\nThis applies to Linux 1.0.\n\n a/two | 2 +-\n", found["0001-a-2.patch"])

    def test_git_takes_them(self):
        for folder in write(self.table, self.patches, "Linux 1.0", self.top / "out"):
            for path in folder.glob("*.patch"):
                said = subprocess.run(["git", "mailinfo", "/dev/null", "/dev/null"], input=path.read_text(), check=True,
                                      capture_output=True, text=True).stdout
                self.assertIn("Author: Two\nEmail: two@example.org\nSubject: ", said)

    def test_one_that_is_left_out_or_is_there_twice(self):
        numbers = list(self.patches)
        self.assertEqual(misplaced(self.table, numbers), [])
        self.assertEqual(misplaced(self.table, [*numbers, "0004"]), ["0004 is in no series"])
        self.assertEqual(misplaced(self.table, numbers[1:]), ["0001 is in 1 series"])
        self.table["series"][1]["patches"].append("0001")
        self.assertEqual(misplaced(self.table, numbers), ["0001 is in 2 series", "alone: its cover letter has no subject"])

    def test_a_long_line(self):
        self.table["series"][0]["text"] = "a" * 76
        self.assertEqual(len(misplaced(self.table, list(self.patches))), 1)

    def test_a_test_that_is_not_named(self):
        self.assertEqual(untold(self.table, [("0001", "a_test")]), [])
        self.assertEqual(untold(self.table, [("0002", "a_test")]), ["alone: it does not say that a_test fails without 0002"])

    def test_each_applies_by_itself(self):
        folders = write(self.table, self.patches, "Linux 1.0", self.top / "out")
        for folder in folders:
            self.assertEqual(unfit(folder, self.source, self.patches), [])
        # In another order the second one does not.
        self.table["series"][0]["patches"].reverse()
        folder = write(self.table, self.patches, "Linux 1.0", self.top / "out")[0]
        self.assertIn("0001-a-3.patch does not apply", unfit(folder, self.source, self.patches)[0])

    def test_a_source_without_a_patch(self):
        (self.source / "a/two").write_text("1\n")
        folder = write(self.table, self.patches, "Linux 1.0", self.top / "out")[0]
        self.assertIn("0002-a-2.patch cannot be taken back", unfit(folder, self.source, self.patches)[0])

    def test_lines_are_counted(self):
        texts = [path.read_text() for path in self.patches.values()]
        self.assertEqual(diffstat(texts), " a/one |   4\n a/two |   2\n 2 files changed, 3 insertions(+), 3 deletions(-)\n")


class Ours(unittest.TestCase):
    def test_the_table(self):
        table = tomllib.loads(series.TABLE.read_text())
        self.assertEqual(misplaced(table, list(by_number(series.PATCHES))), [])
        self.assertEqual(untold(table, [(number, test) for number, _, test, *_ in kvm.SHOWN]), [])


if __name__ == "__main__":
    unittest.main()
