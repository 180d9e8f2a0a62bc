# SPDX-License-Identifier: GPL-2.0
"""Has each rule and each permission of a policy its variant, which differs by that alone?"""

import unittest

from policy import classes_of, frame, variants

RULES = """# allow no rule : this;
type a_t;
type_transition b_t b_t : anon_inode a_t "[a-b]";
allow b_t a_t : anon_inode { create map };
allow c_t b_t : fd { use };
allowxperm c_t a_t : anon_inode ioctl { 0x12 };
"""
DUMMY = """class fd
class socket
class anon_inode

sid kernel

class fd
{
	use
}

class socket
{
	read
	write
}

class anon_inode
{
	create
}

policycap unknown;
type base_t;
role base_r;
role base_r types { base_t };
allow base_t base_t:fd *;
user user_u roles { base_r };
"""


class Variants(unittest.TestCase):
    def test_each_rule_and_permission_has_one(self):
        found = variants(RULES)
        self.assertEqual(list(found), ["type_transition.b_t.b_t.anon_inode.a_t.a-b", "b_t.a_t.anon_inode.create",
                                       "b_t.a_t.anon_inode.map", "c_t.b_t.fd.use", "allowxperm.c_t.a_t.anon_inode.ioctl.0x12"])
        for less, gone in zip(found.values(), ["type_transition", None, None, "fd", "allowxperm"]):
            lines = [line for line in RULES.splitlines() if line not in less.splitlines()]
            self.assertEqual(len(lines), 1)
            self.assertEqual(len(less.splitlines()), len(RULES.splitlines()) - bool(gone))
            self.assertTrue(not gone or gone not in less)
        self.assertIn("allow b_t a_t : anon_inode { map };\n", found["b_t.a_t.anon_inode.create"])

    def test_there_are_the_classes_that_rules_name(self):
        self.assertEqual(classes_of(RULES), ["anon_inode", "fd"])
        text = frame(DUMMY, ["anon_inode", "fd"], RULES)
        self.assertEqual(text.count("class fd\n"), 2)
        self.assertEqual(text.count("class anon_inode\n{\n\tcreate\n}\n"), 1)
        self.assertNotIn("socket", text)
        # A variant has them all, whichever rule it lacks.
        for less in variants(RULES).values():
            self.assertEqual(frame(DUMMY, classes_of(RULES), less).count("class "), 4)

    def test_the_rest_is_the_kernels(self):
        lines = frame(DUMMY, ["anon_inode", "fd"], RULES).splitlines()
        self.assertNotIn("policycap unknown;", lines)
        self.assertIn("allow base_t { base_t a_t } : fd *;", lines)
        self.assertIn("allow confined self : fd *;", lines)
        self.assertNotIn("allow confined self : anon_inode *;", lines)
        self.assertLess(lines.index("type base_t;"), lines.index("type a_t;"))
        self.assertEqual(lines[-1], "user user_u roles { base_r };")
