# SPDX-License-Identifier: GPL-2.0
"""Does messages.py see a line of the driver, or an errno, that is not told?"""

import tempfile
import unittest
from pathlib import Path

from messages import check, complaints, logged, values

SOURCE = '''
// pr_warn!("not this\\n");
impl fmt::Display for ThisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("it is one"),
            Self::Of(count) => f.write_fmt(fmt!("one of {count:#x}")),
            Self::Name(name) => f.write_fmt(fmt!("{name}")),
        }
    }
}

fn say(&self) {
    pr_warn_ratelimited!(
        "context {}: it is late: {reason}\\n",
        self.id
    );
    dev_err!(self.function, "it is lost
");
}

#[kunit_tests(this)]
mod tests {
    fn one() {
        pr_info!("nor this\\n");
    }
}
'''
PAGE = """
Late
====

``uxive: context …: it is late: …``
\tWait. Of ``it is
\tone`` and ``one of …``.

``uxive …: it is lost``, ``ENODEV``
\tSearch.

``EIO``, of a call
\tNo.
"""


class Complaints(unittest.TestCase):
    def said(self, old="", new=""):
        self.assertIn(old, PAGE)
        return complaints(PAGE.replace(old, new, 1), [SOURCE], {"EIO", "ENODEV"})

    def test_content(self):
        self.assertEqual(self.said(), [])

    def test_a_line_that_is_missing(self):
        self.assertEqual(self.said("it is lost", "it was lost"),
                         ['the driver logs "uxive …: it is lost", which is no term',
                          'the driver does not log "uxive …: it was lost"'])
        self.assertEqual(self.said("\n``uxive …: it is lost``, ``ENODEV``", "\nLost: ``uxive …: it is lost``, ``ENODEV``"),
                         ['the driver logs "uxive …: it is lost", which is no term', "ENODEV is in no term"])

    def test_a_line_of_a_device_and_another_are_two(self):
        self.assertEqual(len(self.said("uxive …: it is lost", "uxive: it is lost")), 2)

    def test_a_text_that_is_missing(self):
        self.assertEqual(self.said("``one of …``", "others"), ['"one of …", of a line that the driver logs, is missing'])

    def test_an_errno_that_is_missing(self):
        self.assertEqual(self.said("``EIO``", "``EIOO``"), ["EIO is in no term"])

    def test_nothing(self):
        self.assertEqual(complaints("", [], set()), ["the driver logs nothing"])


class Logged(unittest.TestCase):
    def test_no_comment_and_no_unit_test(self):
        self.assertEqual(logged(SOURCE), ({"uxive: context …: it is late: …", "uxive …: it is lost"}, []))

    def test_one_without_a_literal(self):
        self.assertEqual(logged("dev_warn!(self.function, line);"), (set(), ["dev_warn!(…): its text is no literal"]))

    def test_the_definition_of_a_macro(self):
        self.assertEqual(logged("::kernel::pr_warn!($($line)*);"), (set(), []))

    def test_values(self):
        self.assertEqual(values(SOURCE), {"it is one", "one of …"})


class Check(unittest.TestCase):
    def test_files(self):
        with tempfile.TemporaryDirectory() as top:
            page, source, document = (Path(top, name) for name in ("page.rst", "a.rs", "calls.rst"))
            page.write_text(PAGE)
            source.write_text(SOURCE)
            document.write_text("open()\n------\n\n``EIO``\n\tNo.\n\n``EPERM``\n\tNo.\n")
            self.assertEqual(check(page, [source], [document]), ["page.rst: EPERM is in no term"])


if __name__ == "__main__":
    unittest.main()
