# SPDX-License-Identifier: GPL-2.0
"""Does helpers.py see a helper that two selftests have, and no other?"""

import unittest

import suites
from helpers import check, complaints, functions

ONE = """
#include "uxive_selftest.h"

/* Whether it rings. */
static bool rings(struct bell *bell,
		  int times)
{
	int n;

	for (n = 0; n < times && event_wait(bell->efd) == 1; n++)
		ring(bell->page);	/* once more */
	return n == times;
}

static int last(int n)
{
	if (n)
		return last(n - 1);
	progress();
	return 0;
}

FIXTURE_SETUP(bell)
{
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_TRUE(rings(self, 2));
}

TEST_HARNESS_MAIN
"""
OTHER = """
static int short_one(void)
{
	int fd = ux_open();

	return fd < 0 ? -errno : fd;
}

static void *run(void *arg)
{
	pin_to_cpu(0);
	while (!done)
		ring(arg);
	return NULL;
}
"""


def function(name, body, of="static int"):
    return f"\n{of} {name}(int n)\n{{\n{body}}}\n"


def body(name):
    return f"\tif (n)\n\t\treturn {name}(n - 1);\n\n\t/* Here, too. */\n\tprogress();\n\treturn  0;\n"


class Helpers(unittest.TestCase):
    def said(self, more="", file="other.c"):
        texts = {"one.c": ONE, "other.c": OTHER}
        return complaints(texts | {file: texts.get(file, "") + more})

    def test_content(self):
        self.assertEqual(self.said(), [])

    def test_functions_and_nothing_else_are_found(self):
        self.assertEqual([*functions(ONE)], ["rings", "last"])
        self.assertEqual([*functions(OTHER)], ["short_one", "run"])
        self.assertEqual([lines for _, lines in functions(ONE).values()], [4, 4])

    def test_one_name_in_two_programs(self):
        self.assertEqual(self.said(function("rings", "\treturn 1;\n")), ["rings() is defined in one.c, other.c"])
        self.assertEqual(self.said(function("rings", "\treturn 1;\n", "static inline bool")),
                         ["rings() is defined in one.c, other.c"])

    def test_one_name_in_a_program_and_a_header(self):
        self.assertEqual(self.said(function("run", "\treturn 1;\n", "static inline int"), "uxive_more.h"),
                         ["run() is defined in other.c, uxive_more.h"])

    def test_one_name_with_an_attribute(self):
        more = function("run", "\treturn 1;\n", "__printf(1, 2) static inline const char *")
        self.assertEqual(self.said(more, "uxive_more.h"), ["run() is defined in other.c, uxive_more.h"])

    def test_one_body_under_two_names(self):
        """However it is laid out and explained, and though each calls itself by its own name."""
        self.assertEqual(self.said(function("final", body("final"))),
                         ["the same is done by last() of one.c, final() of other.c"])

    def test_another_body(self):
        self.assertEqual(self.said(function("final", body("last"))), [])
        self.assertEqual(self.said(function("final", body("final").replace("n - 1", "n - 2"))), [])

    def test_short_bodies_are_the_same_by_chance(self):
        three = "\tint fd = ux_open();\n\n\tclose(fd);\n\treturn 0;\n"
        self.assertEqual(complaints({"one.c": function("one", three), "other.c": function("other", three)}), [])
        four = "\tprogress();\n" + three
        self.assertEqual(len(complaints({"one.c": function("one", four), "other.c": function("other", four)})), 1)

    def test_one_name_is_told_once(self):
        """And not once more for its body."""
        self.assertEqual(self.said(function("last", body("last"))), ["last() is defined in one.c, other.c"])

    def test_two_of_one_program(self):
        self.assertEqual(self.said(function("one", body("one")) + function("two", body("two")).replace("progress", "step")), [
            "the same is done by last() of one.c, one() of other.c"])


class Selftests(unittest.TestCase):
    def test_those_that_there_are(self):
        self.assertEqual(check(suites.TESTS), [])
        self.assertLess(100, sum(len(functions(path.read_text())) for path in suites.TESTS.glob("*.c")))


if __name__ == "__main__":
    unittest.main()
