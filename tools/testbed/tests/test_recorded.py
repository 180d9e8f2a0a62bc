# SPDX-License-Identifier: GPL-2.0
"""Does a newer tool make nothing fail, and is a thing made anew only if the newer tool is used for it?"""

import os
import re
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import lint
import recorded
from kernel import Kernel, Source, change

BEFORE = {"versions": {"linux": "7.3.4", "rustc": "1.97.1", "shellcheck": "0.9.0"},
          "lacks": {"allowed": ["liburing2"]}, "lints": {"on": "dead_code"}}


class Recorded(unittest.TestCase):
    def setUp(self):
        self.versions = dict(BEFORE["versions"])
        for patch in mock.patch("recorded.recorded", lambda: BEFORE), mock.patch("recorded.versions", lambda: self.versions):
            patch.start()
            self.addCleanup(patch.stop)

    def test_the_same(self):
        self.assertEqual((recorded.newer(), recorded.told()), ({}, ""))

    def test_versions_are_numbers(self):
        self.versions["shellcheck"] = "0.10.0"
        self.assertEqual(recorded.newer(), {"shellcheck": ("0.10.0", "0.9.0")})
        self.assertEqual(recorded.told(), "newer than recorded: shellcheck 0.10.0 (0.9.0)")

    def test_older(self):
        self.versions["rustc"] = "1.85.0"
        self.assertEqual(recorded.newer(), {})

    def test_a_tool_that_is_new(self):
        self.versions["sparse"] = "0.6"
        self.assertEqual(recorded.newer(), {"sparse": ("0.6", "0")})

    def test_what_only_a_newer_tool_complains_of_does_not_fail(self):
        self.assertTrue(lint.Complaint("SC1", "shellcheck").fails())
        self.versions["shellcheck"] = "0.10.0"
        self.assertFalse(lint.Complaint("SC1", "shellcheck").fails())
        self.assertTrue(lint.Complaint("W1", "gcc").fails())
        self.assertTrue(lint.Complaint("error", "shellcheck", certain=True).fails())

    def test_a_point_release_complains_of_no_more(self):
        self.versions["linux"] = "7.3.5"
        self.assertEqual(recorded.told(), "newer than recorded: linux 7.3.5 (7.3.4)")
        self.assertTrue(lint.Complaint("LONG_LINE", "linux").fails())

    def test_only_what_is_on_by_default_since_is_new(self):
        with mock.patch("recorded.lints", lambda: {"dead_code", "clippy::novel"}):
            self.assertTrue(lint.Complaint("novel", "rustc", "clippy::novel").fails())
            self.versions["rustc"] = "1.97.2"
            self.assertTrue(lint.Complaint("unused", "rustc", "dead-code").fails())
            # On by a flag of ours.
            self.assertTrue(lint.Complaint("unsafe", "rustc", "clippy::undocumented_unsafe_blocks").fails())
            self.assertFalse(lint.Complaint("novel", "rustc", "clippy::novel").fails())

    def test_written_and_read(self):
        self.versions["rustc"] = "1.98.0"
        with tempfile.TemporaryDirectory() as place, mock.patch("recorded.BUILD", Path(place)), \
                mock.patch("recorded.lints", lambda: {"clippy::new_lint", "dead_code"}):
            recorded.write({"abi:b", "abi:a"}, 12.5)
            text = Path(place, "recorded.toml").read_text()
        self.assertEqual(tomllib.loads(text), {"versions": self.versions, "lacks": BEFORE["lacks"],
                                               "run": {"minutes": 12.5}, "slow": {"tests": "abi:a abi:b"},
                                               "lints": {"on": "clippy::new_lint dead_code"}})
        self.assertTrue(text.startswith("# SPDX-License-Identifier: GPL-2.0\n#\n"))


class Tree(unittest.TestCase):
    def test_the_file_has_what_is_compared(self):
        found = tomllib.loads(recorded.FILE.read_text())
        self.assertEqual(set(found["versions"]), {"linux", *recorded.TOOLS})
        self.assertIn("dead_code", found["lints"]["on"].split())
        # As testbed reads it.
        self.assertTrue(re.search(r'^linux = "\d+\.\d+', recorded.FILE.read_text(), re.MULTILINE))


class Keys(unittest.TestCase):
    """Of kernels, for each package that may become newer."""

    def key(self, newer):
        with tempfile.TemporaryDirectory() as place:
            program = Path(place, "dpkg-query")
            program.write_text(f'#!/bin/sh\n/usr/bin/dpkg-query "$@" | sed "/^{newer}/s/$/.1/"\n')
            program.chmod(0o755)
            with mock.patch.dict(os.environ, {"PATH": f"{place}:{os.environ['PATH']}"}):
                return Source().key

    def test_packages(self):
        before = self.key("none")
        for package in "shellcheck", "qemu-system-ppc", "rustfmt", "rust-clippy", "librust-rustix-dev", "python3":
            self.assertEqual(self.key(package), before, package)
        for package in "rustc", "rust-src", "bindgen", "clang-19", "lld-19", "linux-source-", "gcc-14", "libelf-dev":
            self.assertNotEqual(self.key(package), before, package)

    def test_the_argument_of_a_patch_is_not_its_change(self):
        with tempfile.TemporaryDirectory() as place:
            patch = Path(place, "patch")
            found = []
            for why, line in ("slow", "one"), ("wrong", "one"), ("wrong", "two"):
                patch.write_text(f"Subject: it was {why}\n\nWhy.\n---\n a | 1 +\n\n--- a/a\n+++ b/a\n@@ -0,0 +1 @@\n+{line}\n")
                found.append(change(patch))
        self.assertEqual([found[0] == found[1], found[1] == found[2]], [True, False])

    def test_variants_are_not_each_other(self):
        source = Source()
        paths = [Kernel(source, variant).path for variant in ("base", "debug", "bench")]
        self.assertEqual((len(set(paths)), {path.parent for path in paths}), (3, {source.entry}))
