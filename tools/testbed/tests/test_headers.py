# SPDX-License-Identifier: GPL-2.0
"""Does headers.py see a header that one language or compiler refuses, and take one that all accept?"""

import tempfile
import unittest
from pathlib import Path

import headers

GOOD = """
#ifndef GOOD_H
#define GOOD_H
#include <linux/types.h>
#define GOOD_SIZE 4U
/* A function, in parentheses. */
#define GOOD_TWICE(x) ((x) * 2)
struct good {
\t__u32 size;
};
static inline __u32 good_size(const struct good *good)
{
\treturn good->size;
}
#endif
"""
EVERY = {*headers.C, *headers.CXX}


class Headers(unittest.TestCase):
    def complaints(self, text, system=""):
        """{(compiler, standard)} that complain of a header."""
        with tempfile.TemporaryDirectory() as top:
            ours, others = Path(top, "ours"), Path(top, "others")
            for directory, content in (ours, text), (others, system):
                directory.mkdir()
                (directory / f"{directory.name}.h").write_text(content)
            said = headers.check([ours / "ours.h"], [ours], [others])
        heads = [text.partition(":")[0].split() for _, text in said]
        self.assertTrue(all(head[0] == "ours.h" for head in heads))
        return {(head[-1], head[2]) for head in heads}

    def standards(self, text):
        return {standard for _, standard in self.complaints(text)}

    def planted(self, old, new):
        self.assertIn(old, GOOD)
        return GOOD.replace(old, new)

    def test_what_all_take(self):
        self.assertEqual(self.complaints(GOOD), set())

    def test_all_compilers_are_asked(self):
        found = self.complaints("#error no\n")
        self.assertEqual({compiler for compiler, _ in found}, {"powerpc64le-linux-gnu-gcc", "clang", "clang++"})
        self.assertEqual({standard for _, standard in found}, EVERY)
        self.assertEqual(len(found), 2 * len(headers.C) + len(headers.CXX))

    def test_a_conversion_that_is_none_in_cxx(self):
        text = self.planted("return good->size;", "const void *at = good;\n\tconst __u32 *size = at;\n\treturn *size;")
        self.assertEqual(self.standards(text), {*headers.CXX})

    def test_a_name_that_is_a_word_of_cxx(self):
        self.assertEqual(self.standards(GOOD.replace("__u32 size;", "__u32 size, new;")), {*headers.CXX})

    def test_an_initializer_that_is_younger_than_cxx11(self):
        text = self.planted("return good->size;", "struct good copy = { .size = good->size };\n\treturn copy.size;")
        self.assertEqual(self.standards(text), {"c++11", "c++14", "c++17"})

    def test_an_anonymous_union_is_younger_than_c99(self):
        text = self.planted("__u32 size;", "union {\n\t\t__u32 size;\n\t\t__u32 other;\n\t};")
        self.assertEqual(self.standards(text), {"c99"})

    def test_a_sign_that_is_lost(self):
        self.assertEqual(self.standards(self.planted("return good->size;", "return -(int)good->size;")) & {*headers.C},
                         {*headers.C})

    def test_bits_that_are_lost(self):
        self.assertEqual(self.standards(self.planted("return good->size;", "__u16 half = good->size;\n\treturn half;")), EVERY)

    def test_a_number_that_does_not_compile(self):
        self.assertEqual(self.standards(self.planted("GOOD_SIZE 4U", "GOOD_SIZE NO_SUCH_NAME")), EVERY)

    def test_what_needs_another_header(self):
        self.assertEqual(self.standards(self.planted("#include <linux/types.h>", "")), EVERY)

    def test_what_cannot_be_included_twice(self):
        self.assertEqual(self.standards(self.planted("#ifndef GOOD_H", "#if 1")), EVERY)

    def test_headers_of_others_may_warn(self):
        bad = "static inline unsigned short others(unsigned int x) { return x; }\n"
        self.assertEqual(self.complaints(f"#include <others.h>\n{GOOD}", f"#pragma once\n{bad}"), set())


if __name__ == "__main__":
    unittest.main()
