# SPDX-License-Identifier: GPL-2.0
"""Does man.py see a page that lacks something of the command, and a program that is another?"""

import tempfile
import unittest
from pathlib import Path

from man import check, helps, lacks

SOURCE = '''
pub(crate) const HELP: &str = "\\
NAME
    uxive ring - rings

OPTIONS
    --fd N      a file
    -h, --help  tells

EXIT STATUS
    0  done
    3  taken back
";

fn json() {
    format!("{{\\"pid\\": {}, \\"fds\\": [{}]}}", 1, 2)
}
#[cfg(test)]
mod tests {
    const ANOTHER: &str = "{\\"uid\\": 1}";
}
'''
PAGE = """.Sh OPTIONS
.It Fl Fl fd Ar N
.It Fl h , Fl Fl help
.Sh JSON
.It Li pid , uid
Numbers.
.It Li fds
.Sh EXIT STATUS
.It 0
.It 3
"""
PROGRAM = '/* A program. */\n#include <stdio.h>\n\nint main(void)\n{\n\tputs("a\\n");\n\treturn -1;\n}\n'
TUTORIAL = """.Bd -literal
#include <stdio.h>

int main(void)
{
\tputs("a\\en");
\treturn \\-1;
}
.Ed
"""


class Lacks(unittest.TestCase):
    def test_none(self):
        self.assertEqual(lacks([SOURCE], PAGE), [])

    def test_each(self):
        for line, said in [(".It Fl Fl fd Ar N", "it lacks the option --fd"),
                           (".It Fl h , Fl Fl help", "it lacks the option --help"), (".It 3", "it lacks the exit status 3"),
                           (".It Li fds", "it lacks fds of JSON"), (".It Li pid , uid", "it lacks pid of JSON")]:
            self.assertIn(said, lacks([SOURCE], PAGE.replace(f"{line}\n", "")))
        self.assertEqual(lacks([SOURCE], PAGE.replace("Fl h ,", "Fl x ,")),
                         ["it lacks the option -h", "the command has no option -x"])

    def test_nothing(self):
        self.assertEqual(lacks(["fn json() {}"], PAGE), ["the command has no help"])
        self.assertEqual(len(helps(SOURCE)), 1)


class Check(unittest.TestCase):
    def complaints(self, tutorial):
        with tempfile.TemporaryDirectory() as top:
            paths = [Path(top, name) for name in ("ring.rs", "uxive.1", "uxive.7", "ring.c")]
            for path, text in zip(paths, [SOURCE, PAGE, tutorial, PROGRAM]):
                path.write_text(text)
            return check(paths[:1], *paths[1:])

    def test_the_program(self):
        self.assertEqual(self.complaints(TUTORIAL), [])
        self.assertEqual(self.complaints(TUTORIAL.replace("puts", "printf")), ["uxive.7: its program is not ring.c"])
        self.assertEqual(self.complaints(""), ["uxive.7: its program is not ring.c"])


if __name__ == "__main__":
    unittest.main()
