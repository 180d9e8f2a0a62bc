# SPDX-License-Identifier: GPL-2.0
"""Does interface.py see an interface that was changed, and a crate that has another?"""

import unittest

from interface import changes, different, stripped

HEADER = """
/* Something. */
#define UXIVE_MAGIC 0xCA
#define UXIVE_IOC_THIS		_IO(UXIVE_MAGIC, 0x40)
#define UXIVE_BIT	0x80000000U
/**
 * struct uxive_this - argument of UXIVE_IOC_THIS
 * @size: In: size of the structure.
 */
struct uxive_this {
	__u32 size;
	__s32 fd;
	struct uxive_window window;
};
"""
NUMBERS = "pub(crate) const UXIVE_BIT: u32 = 0x8000_0000;\n"
ARGUMENTS = "    /// `UXIVE_IOC_THIS`.\n    0x40 None This {\n        size: u32,\n        fd: i32,\n        window: Window,\n    }\n"


class Changes(unittest.TestCase):
    def test_none(self):
        self.assertEqual(changes(HEADER, stripped(HEADER)), [])
        self.assertEqual(changes(HEADER.replace("Something", "Another"), stripped(HEADER)), [])

    def test_a_number_and_a_field(self):
        self.assertEqual(changes(HEADER.replace("0x40)", "0x41)"), stripped(HEADER)),
                         ["-#define UXIVE_IOC_THIS _IO(UXIVE_MAGIC, 0x40)", "+#define UXIVE_IOC_THIS _IO(UXIVE_MAGIC, 0x41)"])
        self.assertEqual(changes(HEADER.replace("\t__s32 fd;\n", ""), stripped(HEADER)), ["-__s32 fd;"])
        self.assertEqual(changes(HEADER.replace("window;\n", "window;\n\t__u64 more;\n"), stripped(HEADER)), ["+__u64 more;"])


class Different(unittest.TestCase):
    def test_same(self):
        self.assertEqual(different(HEADER, NUMBERS, ARGUMENTS), [])

    def test_numbers(self):
        self.assertEqual(different(HEADER, NUMBERS.replace("0x8000", "0x4000"), ARGUMENTS), ["UXIVE_BIT is 0x4000_0000"])
        self.assertEqual(different(HEADER, NUMBERS.replace("BIT", "NONE"), ARGUMENTS), ["UXIVE_NONE is 0x8000_0000"])

    def test_arguments(self):
        self.assertEqual(different(HEADER, NUMBERS, ARGUMENTS.replace("0x40", "0x41")),
                         ["UXIVE_IOC_THIS has the number 0x41"])
        for old, new in ("fd: i32", "fd: u32"), ("fd: i32, ", ""), ("fd", "efd"), ("UXIVE_IOC_THIS", "UXIVE_IOC_THAT"):
            self.assertTrue(different(HEADER, NUMBERS, " ".join(ARGUMENTS.split("\n        ")).replace(old, new)))

    def test_nothing(self):
        self.assertEqual(different(HEADER, "", ARGUMENTS), ["no number or no argument found"])
        self.assertEqual(different(HEADER, NUMBERS, ""), ["no number or no argument found"])
