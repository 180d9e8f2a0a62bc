# SPDX-License-Identifier: GPL-2.0
"""Does wrappers.py see a wrapper that names the driver, and one that does not say where it would go?"""

import tempfile
import unittest
from pathlib import Path

from wrappers import complaints

FILES = {
    "mod.rs": "// SPDX-License-Identifier: GPL-2.0\n\n//! Wrappers.\n",
    "work.rs": "// SPDX-License-Identifier: GPL-2.0\n\n//! Work.\n//!\n//! Would go to `rust/kernel/workqueue.rs`, which lacks it.\n"
               "\nfn run() { uxive_run(); }\n",
    "helpers.h": "void uxive_run(void);\n",
    "helpers.c": "void uxive_run(void)\n{\n}\n",
}


class Wrappers(unittest.TestCase):
    def said(self, name=None, text=None):
        """The complaints with one file changed."""
        with tempfile.TemporaryDirectory() as place:
            for path, content in (FILES | ({name: text} if name else {})).items():
                Path(place, path).write_text(content)
            return complaints(Path(place))

    def test_content(self):
        self.assertEqual(self.said(), [])

    def test_the_name(self):
        for planted in ("// Uxive's own.\n", 'const NAME: &str = "uxive";\n', "const UXIVE_MAX: u32 = 1;\n",
                        "use crate::uxive_main;\n", "fn f() { uxive_run(\"uxive\") }\n"):
            self.assertEqual(self.said("work.rs", FILES["work.rs"] + planted), ["work.rs:8: names the driver"], planted)

    def test_symbols(self):
        self.assertEqual(self.said("helpers.c", "int uxive_other(void);\n"), ["helpers.c:1: names the driver"])
        self.assertEqual(self.said("helpers.c", "int uxive_runner;\n"), ["helpers.c:1: names the driver"])
        self.assertEqual(self.said("helpers.h", ""),
                         ["helpers.c:1: names the driver", "work.rs:7: names the driver"])

    def test_injectable_functions(self):
        self.assertEqual(self.said("work.rs", FILES["work.rs"] + "fn f() { injectable!(\n    uxive_queue_work,\n    g())\n}\n"), [])
        self.assertEqual(self.said("work.rs", FILES["work.rs"] + "fn f() { uxive_queue_work() }\n"),
                         ["work.rs:8: names the driver"])

    def test_the_place(self):
        lacks = ["work.rs: does not say to which file in rust/kernel it would go"]
        self.assertEqual(self.said("work.rs", FILES["mod.rs"]), lacks)
        self.assertEqual(self.said("work.rs", FILES["mod.rs"] + "\n//! Would go to `rust/kernel/workqueue.rs`.\n"), lacks)
        self.assertEqual(self.said("work.rs", "// SPDX-License-Identifier: GPL-2.0\n\nfn f() {}\n"), lacks)
