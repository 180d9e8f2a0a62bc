# SPDX-License-Identifier: GPL-2.0
"""Does arrows.py see an arrow that goes up, one that is not told, and one that is not there?"""

import tempfile
import unittest
from pathlib import Path

from arrows import complaints, paths

MAIN = """//! The crate.
//!
//! | `top` | first | low, mid |
//! | `mid` | second | low |
//! | `low` | third | |
//!
//! All rooms may import `base` and `near`, which are known.
mod top;
mod mid;
mod low;
#[path = "base_dir/mod.rs"]
mod base;
mod near;
"""
FILES = {
    "uxive_main.rs": MAIN,
    "top.rs": "use crate::{\n    low::A,\n    mid::{B, C}, //\n};\n",
    "mid/mod.rs": "mod part;\n",
    "mid/part.rs": "fn f() { crate::low::g() } // crate::top\n",
    "low.rs": "#[kunit_tests(low)]\nmod tests { use crate::top::A; }\n",
    "base_dir/mod.rs": "",
    "near.rs": "use crate::base::X;\n",
}


class Arrows(unittest.TestCase):
    def said(self, **changed):
        """The complaints with some files changed. A keyword is a file's name, with _ for each character that is no letter."""
        with tempfile.TemporaryDirectory() as place:
            for name, text in FILES.items():
                path = Path(place, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(changed.get(name.replace("/", "_").replace(".", "_"), text))
            return complaints(Path(place))

    def test_content(self):
        self.assertEqual(self.said(), [])

    def test_one_that_goes_up(self):
        self.assertEqual(self.said(low_rs="use crate::mid::B;\n"), ["low imports mid, which is not in its row"])
        self.assertEqual(self.said(low_rs="use crate::mid::B;\n", uxive_main_rs=MAIN.replace("third | |", "third | mid |")),
                         ["low imports mid, which stands above it"])

    def test_one_that_is_not_told(self):
        self.assertEqual(self.said(uxive_main_rs=MAIN.replace("low, mid", "mid")), ["top imports low, which is not in its row"])

    def test_one_that_is_not_there(self):
        self.assertEqual(self.said(mid_part_rs=""), ["mid does not import low, which is in its row"])

    def test_one_by_super(self):
        self.assertEqual(self.said(low_rs="use super::mid::B;\n"), ["low leaves its room by super::"])
        self.assertEqual(self.said(mid_mod_rs="use super::low::A;\n"), ["mid leaves its room by super::"])
        self.assertEqual(self.said(mid_part_rs="use super::A; use crate::low::B;\n"), [])
        self.assertEqual(self.said(mid_part_rs="use super::super::top::A; use crate::low::B;\n"),
                         ["mid leaves its room by super::"])

    def test_methods_of_another_room(self):
        self.assertEqual(self.said(mid_part_rs="use crate::low::A;\nimpl A {\n}\n"),
                         ["mid adds methods to A, which another file declares"])
        self.assertEqual(self.said(mid_part_rs="use crate::low::A;\nimpl<'a, T> A<'a, T>\nwhere\n    T: B,\n{\n}\n"),
                         ["mid adds methods to A, which another file declares"])
        self.assertEqual(self.said(mid_part_rs="use crate::low::A;\nimpl A for C {\n}\nstruct D;\nimpl D {\n}\n"), [])

    def test_comments_and_strings(self):
        self.assertEqual(self.said(low_rs='/* crate::mid::A */ f("// \\" crate::top"); // crate::mid\n'), [])
        self.assertEqual(self.said(low_rs='f("//"); use crate::mid::B;\n'), ["low imports mid, which is not in its row"])

    def test_what_is_no_room(self):
        self.assertEqual(self.said(near_rs="use crate::Uxive;\n"), ["near imports Uxive, which is no room"])

    def test_what_all_import_is_ordered(self):
        self.assertEqual(self.said(base_dir_mod_rs="use crate::near::X;\n"), ["base imports near, which is not in its row"])

    def test_rooms_and_rows(self):
        self.assertEqual(self.said(uxive_main_rs=MAIN + "mod new;\n", near_rs=""), [])
        self.assertEqual(self.said(uxive_main_rs=MAIN.replace("//! | `low` | third | |\n", "")),
                         ["low is not in the table"])
        self.assertEqual(self.said(uxive_main_rs=MAIN.replace("mod near;\n", "")), ["near is in the table and is no room"])
        self.assertEqual(self.said(uxive_main_rs="mod top;\n"),
                         ["uxive_main.rs has no table of rooms, or does not say what all import"])

    def test_paths(self):
        self.assertEqual(paths("use crate::{a::{b, c::{d}}, e, //\n};\nuse crate::f::g; crate::h::i()"), {"a", "e", "f", "h"})
