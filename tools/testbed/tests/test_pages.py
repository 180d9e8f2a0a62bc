# SPDX-License-Identifier: GPL-2.0
"""Does pages.py see a page that has another interface than the header, and a program that nobody builds?"""

import tempfile
import unittest
from pathlib import Path

from pages import check, differing, missing

HEADER = """
#define UXIVE_BIT	0x80000000U	/* Something. */
/**
 * struct uxive_this - argument of UXIVE_IOC_THIS
 * @size: In: size of the structure.
 */
struct uxive_this {
	__u32 size;
	union {
		__u32 one;
	};
	__u64 other[2];
};
"""
PAGE = """
UXIVE_IOC_THIS
--------------

::

\tstruct uxive_this {
\t\t__u32 size;\t\t/* how large it is */
\t\tunion {
\t\t\t__u32 one;
\t\t};
\t\t__u64 other[2];
\t};

\t#define UXIVE_BIT 0x80000000U

Does this.

UXIVE_IOC_THAT
--------------

Does that.

.. literalinclude:: here.c
"""


class Shown(unittest.TestCase):
    def test_same(self):
        self.assertEqual(differing(PAGE, HEADER), [])
        self.assertEqual(missing(HEADER, [PAGE]), [])

    def test_another_field_or_number(self):
        self.assertEqual(differing(PAGE.replace("__u32 one", "__s32 one"), HEADER), ["struct uxive_this is another"])
        self.assertEqual(differing(PAGE.replace("other[2]", "other[3]"), HEADER), ["struct uxive_this is another"])
        self.assertEqual(differing(PAGE.replace("uxive_this {", "uxive_that {"), HEADER), ["struct uxive_that is another"])
        self.assertEqual(differing(PAGE.replace("0x8", "0x4"), HEADER), ["no header has #define UXIVE_BIT 0x40000000U"])

    def test_a_structure_that_the_header_got(self):
        self.assertEqual(missing(f"{HEADER}struct uxive_more {{\n\t__u32 size;\n}};\n", [PAGE]),
                         ["struct uxive_more is in no page"])

    def test_an_argument_elsewhere(self):
        said = ["the section of UXIVE_IOC_THIS does not begin with struct uxive_this"]
        self.assertEqual(missing(HEADER, [PAGE.replace("::\n", "Text::\n", 1)]), said)
        self.assertEqual(missing(HEADER, [PAGE.replace("IOC_THIS", "IOC_THUS")]), said)
        self.assertEqual(missing(HEADER.replace("IOC_THIS", "IOC_THAT"), [PAGE]), [said[0].replace("IOC_THIS", "IOC_THAT")])

    def test_a_program(self):
        with tempfile.TemporaryDirectory() as place:
            page, header, program = (Path(place, name).resolve() for name in ("page.rst", "uxive.h", "here.c"))
            page.write_text(PAGE)
            header.write_text(HEADER)
            self.assertEqual(check([page], header, header, [program]), [])
            self.assertEqual(check([page], header, header, []), ["page.rst: here.c is no program that is built"])


if __name__ == "__main__":
    unittest.main()
