# SPDX-License-Identifier: GPL-2.0
"""Does prose.py see each phrase that it refuses, where it is text and not elsewhere?"""

import tempfile
import unittest
from pathlib import Path

from prose import PATHS, REFUSED, check, complaints, files, kind

REFUSES = ["It says what befalls it.", "It is in somebody's hands.", "It does not come to rest.", "It came\nto rest.",
           "Hardware lets go of it.", "It stays for good.", "The estate goes.", "It is to\n be done.", "Whoever has it rings.",
           "Told to whoever asks.", "Who has it rings.", "It rings. What it rings stays."]
TAKES = ["What is it?", "Who asks?  All do.", "What:\t\t/sys/class", "A user who asks is told what it is.", "It goes to bed.",
         "It has come. To rest it needs."]
# Each kind of file with a text in it, and how that goes on in the next line.
FORMS = [(".rst", "{}\n", "\n"), (".md", "{}\n", "\n"), ("", "{}\n", "\n"), (".h", "/*\n * {}\n */\n", "\n * "),
         (".c", "call(); /* {} */\n", "\n\t * "), (".rs", "/// {}\n", "\n/// "), (".rs", "call(); // {}\n", "\n// "),
         (".py", '"""{}"""\n', "\n"), (".py", 'def call():\n    """{}"""\n', "\n    "), (".py", "call()  # {}\n", "\n# "),
         ("#", "#!/bin/sh\n# {}\n", "\n# "), ("#", "call # {}\n", "\n# "), ("#", "obj-m := a.o\n#\n# {}\n", "\n# "),
         ("#", "\t# {}\nCONFIG_UXIVE=y\n", "\n\t# "),
         (".patch", "From 0\nSubject: [PATCH] One\n\n{}\n\nSigned-off-by: A\n---\n", "\n")]


class Phrases(unittest.TestCase):
    def test_each_is_refused(self):
        for text in REFUSES:
            for suffix, form, margin in FORMS:
                with self.subTest(text=text, suffix=suffix):
                    written = form.format(text.replace("\n", margin))
                    self.assertEqual(len(complaints(written, suffix)), 1, written)

    def test_all_of_the_list_are_among_these(self):
        self.assertEqual({instead for text in REFUSES for _, said in complaints(text, ".rst")
                          for instead in REFUSED.values() if said.endswith(f": {instead}")}, {*REFUSED.values()})

    def test_others_are_taken(self):
        for text in TAKES:
            with self.subTest(text=text):
                self.assertEqual(complaints(f"{text}\n", ".rst"), [])

    def test_line(self):
        self.assertEqual(complaints("One.\n\nIt is\nto be.\n", ".rst")[0][0], 3)


class Text(unittest.TestCase):
    def test_headings_and_literals_are_none(self):
        self.assertEqual(complaints("What is there\n=============\n\nSays::\n\n\tIt is to be.\n\n\tAnd is to be.\n\nNo.\n", ".rst"), [])
        self.assertEqual(complaints("The line ``it is to be`` comes.\n", ".rst"), [])
        self.assertEqual(complaints("# What is there\n\n    is to be\n\n```c\nis to be\n```\n", ".md"), [])

    def test_what_stands_around_a_literal_is(self):
        text = "Says what is to be::\n\n\tIt is to be.\n\nAnd this is to be.\n"
        self.assertEqual([line for line, _ in complaints(text, ".rst")], [1, 5])

    def test_code_is_none(self):
        self.assertEqual(complaints('call("is to be"); /* No. */\nWho();\n', ".c"), [])
        self.assertEqual([line for line, _ in complaints("a();\nb(); /* It is to be. */\n", ".h")], [2])

    def test_strings_of_c_and_rust_are_none(self):
        for suffix in (".c", ".h", ".rs"):
            for text in ('call("// It is to be.");\n', 'call("\\"/* is to be */");\n', "call('\"'); other(\"// is to be\");\n"):
                with self.subTest(text=text, suffix=suffix):
                    self.assertEqual(complaints(text, suffix), [])
                    self.assertEqual(len(complaints(f"{text}/* It is to be. */\n", suffix)), 1)
        self.assertEqual(complaints('call(r#"a " // is to be"#);\n', ".rs"), [])
        self.assertEqual([line for line, _ in complaints("fn a<'a>(b: &'a str) {}\n// It is to be.\n", ".rs")], [2])
        self.assertEqual(len(complaints("/* It's here. */ call('a'); // It isn't, and is to be.\n", ".c")), 1)

    def test_names_of_tests_are_none(self):
        for suffix, text in ((".c", "TEST_F(what, it_is_to_be)\n"), (".rs", "fn who_is_to_be() {}\n"),
                             (".py", "def test_it_stays_for_good(self):\n    pass\n"), ("#", "What\tkselftest\tbase\n")):
            self.assertEqual(complaints(text, suffix), [])

    def test_code_and_strings_of_python_are_none(self):
        for text in ('call("is to be")\n', '"is to be".split()\n', 'text = """It is to be."""\n',
                     'call(\n    """It is to be."""\n)\n', 'text = "# is to be"\n', 'text = f"{call()} # is to be"\n',
                     'return_ = "a" \\\n    "is to be"\n'):
            with self.subTest(text=text):
                self.assertEqual(complaints(text, ".py"), [])
        text = ('"""One.\n\nIt is\nto be: “…”. What goes."""\n\n'
                'class A:\n    """Who is."""\n    a = 1  # is to be\n\n\n    # Whoever.\n')
        self.assertEqual([line for line, _ in complaints(text, ".py")], [3, 4, 7, 8, 11])

    def test_words_of_scripts_are_none(self):
        for text in ("echo 'It is # is to be'\n", 'echo "a\n# is to be"\n', "echo a#is to be ${b##is to be} $# is to be\n",
                     "cat <<END\n# It's to be, and is to be.\nEND\n", "cat <<-'END'\n\t# is to be\n\tEND\n",
                     "echo \\# is to be\n", "\techo is to be\n", 'key = "a # is to be"\n'):
            with self.subTest(text=text):
                self.assertEqual(complaints(text, "#"), [])
                self.assertEqual([line for line, _ in complaints(f"{text}# It's this that is to be.\n", "#")],
                                 [text.count("\n") + 1])
        self.assertEqual(len(complaints("# It doesn't.\ncall # is to be\n# It won't.\n", "#")), 1)

    def test_of_a_patch_only_the_message_is(self):
        text = "Subject: [PATCH] One\n\nIt\nis to be:\n\n  is to be\n\n---\n a.c | 2 +-\n\n+/* is to be */\n-- \n"
        self.assertEqual([line for line, _ in complaints(text, ".patch")], [4])

    def test_kinds(self):
        for path, suffix in (("tools/a.c", ".c"), ("tools/a/b.py", ".py"), ("tools/a.patch", ".patch"), ("tools/b.config", "#"),
                             ("tools/Makefile", "#"), ("tools/a/script", "#"), ("tools/Cargo.toml", "#"), (".ci/run", "#"),
                             ("tools/README.md", ".md"), ("tools/a.pyc", None), ("tools/a.ko", None),
                             ("tools/Cargo.lock", None),
                             ("Documentation/ABI/testing/a", ""), ("Kconfig", ""), ("include/a.h", ".h"), ("Makefile", "#"),
                             ("src/a.rs", ".rs"), ("src/a.o", None), ("src/a_generated.rs", None), ("tools/a.mod.c", None)):
            self.assertEqual(kind(Path(path)), suffix, path)

    def test_files_of_a_tree(self):
        with tempfile.TemporaryDirectory() as place:
            top = Path(place)
            for name in ("Documentation/deep/page.rst", "README.md", "Kconfig", "include/a.h", "other.rst"):
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_text("/* It is to be. */\n")
            self.assertEqual(len(check(files(top), top)), 4)
            self.assertIn("Documentation/deep/page.rst:1: ", check(files(top), top)[0])

    def test_files_of_tools(self):
        text = {".c": "/* is to be */\n", ".h": "/* is to be */\n", ".rs": "// is to be\n", ".md": "is to be\n",
                ".patch": "is to be\n"}
        seen = ["tools/a/a.c", "tools/a/a.h", "tools/a/a.rs", "tools/a/a.py", "tools/a/README.md", "tools/a/a.patch",
                "tools/a/Makefile", "tools/a/a.config", "tools/a/Cargo.toml", "tools/a/script", "tools/testing/suites",
                ".ci/run"]
        unseen = ["tools/testbed/interface", "tools/uxive/target/debug/a.rs", "tools/a/Cargo.lock", "tools/a/a.mod.c",
                  "tools/__pycache__/a.pyc"]
        with tempfile.TemporaryDirectory() as place:
            top = Path(place)
            for name in (*seen, *unseen):
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_text(text.get(Path(name).suffix, "# is to be\n"))
            self.assertEqual([said.partition(":")[0] for said in check(files(top), top)], sorted(seen))

    def test_paths(self):
        self.assertLessEqual({"Documentation", "README.md", "Kconfig", "include", "tools", ".ci"}, {*PATHS})

    def test_files_of_this_tree(self):
        tools = Path(__file__).resolve().parents[2]
        self.assertLessEqual({"afu.py", "suites", "base.config", "Makefile", "recorded.toml", "uxive_selftest.h", "init"},
                             {path.name for path in files(tools.parent) if tools in path.parents})


if __name__ == "__main__":
    unittest.main()
