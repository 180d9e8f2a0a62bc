# SPDX-License-Identifier: GPL-2.0
"""Does errnos.py see an errno that is missing on either side?"""

import unittest

from errnos import compare, documented, returned, tested

DOCUMENT = """
Ioctls
======

All fail at times, as with ``EPERM``.

UXIVE_IOC_THIS
--------------

Does this. ``EFAULT`` in prose is not a list.

``EINVAL``
\tNo.

``ENOSPC``, ``EIO``
\tFull.

read() and write()
------------------

``EINVAL``
\tNever.

Windows
=======

Text.
"""


class Documented(unittest.TestCase):
    def test_lists_by_call(self):
        found, wrong = documented(DOCUMENT)
        self.assertEqual(wrong, [])
        self.assertEqual(found, {("UXIVE_IOC_THIS", "EINVAL"), ("UXIVE_IOC_THIS", "ENOSPC"), ("UXIVE_IOC_THIS", "EIO"),
                                 ("read", "EINVAL"), ("write", "EINVAL")})

    def test_a_list_outside_a_call_is_wrong(self):
        found, wrong = documented(DOCUMENT + "\n``EBUSY``\n\tSometimes.\n")
        self.assertNotIn("EBUSY", {name for _, name in found})
        self.assertEqual(len(wrong), 1)

    def test_a_name_that_is_no_errno_is_wrong(self):
        _, wrong = documented(DOCUMENT.replace("``EIO``", "``EIOO``"))
        self.assertEqual(len(wrong), 1)

    def test_what_all_calls_of_a_name_have(self):
        common = "UXIVE_IOC_*\n-----------\n\n``E2BIG``\n\tNot of ``UXIVE_IOC_THIS``. No.\n\n``EBADF``\n\tNo.\n"
        other = "UXIVE_IOC_THAT\n--------------\n\nText.\n"
        found, wrong = documented(common, DOCUMENT, other)
        self.assertEqual(wrong, [])
        self.assertEqual(found - documented(DOCUMENT)[0], {("UXIVE_IOC_THAT", "E2BIG"), ("UXIVE_IOC_THAT", "EBADF"),
                                                           ("UXIVE_IOC_THIS", "EBADF")})

    def test_all_calls_of_a_name_that_none_has(self):
        _, wrong = documented(DOCUMENT + "\nUXIVE_NONE_*\n------------\n\n``EIO``\n\tNo.\n")
        self.assertEqual(wrong, ["UXIVE_NONE_* stands for no call"])

    def test_an_exception_of_another_call(self):
        common = "\nUXIVE_IOC_*\n-----------\n\n``EIO``\n\tNot of ``read``. No.\n"
        self.assertEqual(documented(DOCUMENT + common)[1], ["UXIVE_IOC_*: EIO: read is none of these"])
        self.assertEqual(len(documented(DOCUMENT + common.replace("``read``", "read"))[1]), 1)

    def test_a_short_underline_is_no_heading(self):
        found, wrong = documented("open()\n---\n\n``EIO``\n\tNo.\n")
        self.assertEqual((found, len(wrong)), (set(), 1))


class Tested(unittest.TestCase):
    def test_calls_and_errnos(self):
        text = "EXPECT_ERRNO(open, ENFILE, ret);\n\tEXPECT_ERRNO(UXIVE_IOC_THIS, EINVAL,\n\t\t     try());\n"
        self.assertEqual(tested(text), {("open", "ENFILE"), ("UXIVE_IOC_THIS", "EINVAL")})

    def test_arguments_that_grow(self):
        self.assertEqual(tested("#define GROWING(ioctl, type, ...)\n\t.call = GROWING(UXIVE_IOC_THIS, struct this),"),
                         {("UXIVE_IOC_THIS", name) for name in ("EINVAL", "E2BIG", "EFAULT")})

    def test_several_of_one_call(self):
        self.assertEqual(tested("\tEXPECT_FAULTS(mmap, ENOMEM,\n\t\t      EIO);"), {("mmap", "ENOMEM"), ("mmap", "EIO")})

    def test_calls_that_return_it_alike(self):
        self.assertEqual(tested("\tEXPECT_ERRNO(open and UXIVE_IOC_THIS, EIO, all());\n"),
                         {("open", "EIO"), ("UXIVE_IOC_THIS", "EIO")})

    MACROS = ("#define EXPECT_NONE(error, fd)\t\\\n\tEXPECT_ERRNO(open and UXIVE_IOC_THIS,\t\\\n\t\t     error, all(fd))\n\n"
              "#define EXPECT_LESS(error, ...) do {\t\\\n\tEXPECT_ERRNO(mmap, error, 0);\t\\\n} while (0)\n\n")

    def test_macros_of_a_test(self):
        self.assertEqual(tested(self.MACROS + "\tEXPECT_NONE(EIO, 1);\n"), {("open", "EIO"), ("UXIVE_IOC_THIS", "EIO")})
        self.assertEqual(tested(self.MACROS + "\tEXPECT_LESS(EIO,\n\t\t    1);\n\tEXPECT_LESS(EBUSY, 2);\n"),
                         {("mmap", "EIO"), ("mmap", "EBUSY")})

    def test_a_macro_that_is_not_used_expects_nothing(self):
        self.assertEqual(tested(self.MACROS), set())
        self.assertEqual(tested(self.MACROS + "\tEXPECT_ERRNO(open, EPERM, 0);\n"), {("open", "EPERM")})

    def test_comments_and_the_definition_do_not_count(self):
        text = "/* EXPECT_ERRNO(open, EIO, 0) */ // EXPECT_ERRNO(open, EIO, 0)\n#define EXPECT_ERRNO(call, error, ret) x\n"
        text += "#define EXPECT_FAULTS(call, ...) x\n"
        self.assertEqual(tested(text), set())


class Returned(unittest.TestCase):
    def test_code_and_not_comments(self):
        self.assertEqual(returned("/// `EPERM` if not.\nreturn Err(EIO); // EBUSY\nconst ESB: u8 = ENTRIES;"), {"EIO"})


class Compared(unittest.TestCase):
    BOTH = {("open", "EIO")}

    def test_content(self):
        self.assertEqual(compare(self.BOTH, self.BOTH, {"EIO"}), [])

    def test_documented_and_not_tested(self):
        self.assertEqual(len(compare(self.BOTH, set(), set())), 1)

    def test_tested_and_not_documented(self):
        self.assertEqual(len(compare(set(), self.BOTH, set())), 1)

    def test_tested_for_another_call(self):
        self.assertEqual(len(compare(self.BOTH, {("close", "EIO")}, set())), 2)

    def test_returned_and_not_documented(self):
        self.assertEqual(len(compare(self.BOTH, self.BOTH, {"EIO", "EPERM"})), 1)


if __name__ == "__main__":
    unittest.main()
