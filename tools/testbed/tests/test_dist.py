# SPDX-License-Identifier: GPL-2.0
"""Does make dist pack the last commit, all of it and no more, into the same bytes each time?"""

import os
import subprocess
import tarfile
import tempfile
import time
import unittest
from pathlib import Path

from test_install import TOP, VERSION, needs, run

# For the commits that the test makes.
WHO = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER")
       for field, value in (("NAME", "test"), ("EMAIL", "test@localhost"), ("DATE", "2026-01-01T00:00:00Z"))}
GIT = ["git", "-c", "safe.directory=*"]


@needs("git")
@unittest.skipUnless((TOP / ".git").exists(), "this tree is no clone")
class Dist(unittest.TestCase):
    def setUp(self):
        top = tempfile.TemporaryDirectory()
        self.addCleanup(top.cleanup)
        self.top = Path(top.name)
        # The tree as it is, for it may have changes that are no commit yet.
        self.tree = self.top / "tree"
        self.tree.mkdir()
        names = run(*GIT, "-C", TOP, "ls-files", "--cached", "--others", "--exclude-standard", "-z").strip("\0").split("\0")
        self.names = sorted(name for name in names if os.path.lexists(TOP / name))
        run("tar", "-C", TOP, "--null", "-T", "-", "-cf", self.top / "tree.tar", input="\0".join(self.names))
        run("tar", "-C", self.tree, "-xf", self.top / "tree.tar")
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "tree"]):
            run(*GIT, "-C", self.tree, *command, env=os.environ | WHO)

    def dist(self, place, umask=0o022, **environment):
        command = ["make", "-s", "-C", self.tree, "dist", f"BUILD={self.top / place}"]
        subprocess.run(command, check=True, env=os.environ | environment, umask=umask)
        file, = (self.top / place).iterdir()
        self.assertEqual(file.name, f"uxive-{VERSION}.tar.gz")
        return file

    def test_it_is_the_same_twice(self):
        first = self.dist("first").read_bytes()
        # A file that is not committed is not packed, and dates of files do not matter.
        (self.tree / "README.md").touch()
        (self.tree / "more").write_text("")
        time.sleep(1)
        self.assertEqual(self.dist("second", umask=0o077, TZ="Asia/Tokyo", LC_ALL="C").read_bytes(), first)

    def test_all_is_in_it(self):
        with tarfile.open(self.dist("first")) as archive:
            members = [member for member in archive.getmembers() if not member.isdir()]
        self.assertEqual(sorted(member.name for member in members), [f"uxive-{VERSION}/{name}" for name in self.names])
        self.assertEqual({member.mode & 0o022 for member in members if not member.issym()}, {0})


if __name__ == "__main__":
    unittest.main()
