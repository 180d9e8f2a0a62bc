# SPDX-License-Identifier: GPL-2.0
"""Does make install bring what it says, do the programs that it is for take it, and does make uninstall take all of it away?"""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import man
from headers import COMPILERS, LIBC, OPTIONS
from results import LACKS

TOP = Path(__file__).parents[3]
COMMAND = TOP / "tools/uxive/src/bin/uxive"
VERSION = re.search(r'^version = "(.*)"$', (TOP / "tools/uxive/Cargo.toml").read_text(), re.MULTILINE)[1]
HEADERS = ["include/misc/uxive.h", "include/uxive_drain.h"]
ALL = """
bin/uxive
lib/modprobe.d/uxive.conf
lib/sysusers.d/uxive.conf
lib/udev/rules.d/70-uxive.rules
share/bash-completion/completions/uxive
share/doc/uxive/examples/71-uxive-afu.rules
share/doc/uxive/examples/71-uxive-limits.rules
share/doc/uxive/examples/Makefile
share/doc/uxive/examples/doorbell.c
share/doc/uxive/examples/modules-load.conf
share/doc/uxive/examples/ring.c
share/fish/vendor_completions.d/uxive.fish
share/man/man1/uxive.1
share/man/man4/uxive.4
share/man/man7/uxive.7
share/pkgconfig/uxive.pc
share/zsh/site-functions/_uxive
""".split() + HEADERS
# Uses each of the headers.
PROGRAM = """
#include <uxive_drain.h>

int main(void)
{
\tstruct uxive_drain drain;

\treturn uxive_drain_open(&drain, UXIVE_EXPORT_FILE, -1, 1);
}
"""
# Prints the words that bash offers for the last of a command's words.
BASH = """
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_uxive
printf '%s\\n' "${COMPREPLY[@]}"
"""


def needs(tool, package=None):
    """A test of a tool that the root may lack: see packages-optional."""
    return unittest.skipUnless(shutil.which(tool), f"{LACKS}{package or tool}: the root was made without it")


def run(*command, **keywords):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **keywords)
    if done.returncode:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def options(name=None):
    """The options of a command, or of the command without one, as its help has them."""
    text, = man.helps((COMMAND / f"{name or 'main'}.rs").read_text())
    if not name:
        text = text.partition("\nOPTIONS\n")[2].partition("\n\n")[0]
    return set(man.OPTION.findall(text)) | {"-h", "--help"}


class Install(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.TemporaryDirectory()
        self.addCleanup(self.top.cleanup)
        self.root = Path(self.top.name, "root")
        self.usr = self.root / "usr"
        self.command = Path(self.top.name, "command")
        self.command.write_text("#!/bin/sh\n")

    def make(self, target):
        run("make", "-C", TOP, target, f"DESTDIR={self.root}", "PREFIX=/usr", f"COMMAND={self.command}")

    def files(self):
        return sorted(str(path.relative_to(self.usr)) for path in self.usr.rglob("*") if path.is_file())

    def test_all_is_there_and_goes(self):
        self.make("install")
        self.assertEqual(self.files(), sorted(ALL))
        for path in self.files():
            self.assertEqual((self.usr / path).stat().st_mode & 0o777, 0o755 if path == "bin/uxive" else 0o644, path)
            self.assertNotIn(str(self.root), (self.usr / path).read_text(), path)
        self.make("uninstall")
        self.assertEqual(self.files(), [])
        self.assertFalse((self.usr / "share/doc/uxive").exists())

    def test_files_of_others_stay(self):
        self.make("install")
        others = ["share/doc/uxive/README", "include/misc/ocxl.h"]
        for name in others:
            (self.usr / name).write_text("")
        self.make("uninstall")
        self.assertEqual(self.files(), sorted(others))

    def test_headers_alone(self):
        self.make("headers_install")
        self.assertEqual(self.files(), HEADERS)

    def environment(self):
        return os.environ | {"PKG_CONFIG_LIBDIR": str(self.usr / "share/pkgconfig"),
                             "PKG_CONFIG_SYSROOT_DIR": str(self.root), "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1"}

    def flags(self, *words):
        return run("pkg-config", *words, "uxive", env=self.environment()).split()

    def test_programs_are_built(self):
        self.make("install")
        self.assertEqual(self.flags("--modversion"), [VERSION])
        flags = self.flags("--cflags")
        self.assertIn(f"-I{self.usr}/include", flags)
        for _, command, language, standards in COMPILERS:
            run(*command, *OPTIONS, f"-std={standards[-1]}", *flags, "-isystem", LIBC, "-x", language, "-", input=PROGRAM)

    def test_the_examples_are_built_by_their_makefile(self):
        self.make("install")
        place = self.usr / "share/doc/uxive/examples"
        compiler, = COMPILERS[0][1]
        run("make", "-C", place, f"CC={compiler}", "CFLAGS=-Wall -Wextra -Werror", env=self.environment())
        for source in place.glob("*.c"):
            self.assertTrue(os.access(source.with_suffix(""), os.X_OK), source)
        # The headers are those that were installed.
        (self.usr / "include/misc/uxive.h").write_text("#error another\n")
        with self.assertRaises(AssertionError):
            run("make", "-B", "-C", place, f"CC={compiler}", env=self.environment())

    @needs("udevadm", "udev")
    def test_udev_takes_the_rules(self):
        self.make("install")
        rules = sorted(self.usr.rglob("*.rules"))
        self.assertEqual(len(rules), 3)
        run("udevadm", "verify", "--resolve-names=never", *rules)

    @needs("udevadm", "udev")
    def test_a_wrong_rule_is_seen(self):
        rule = Path(self.top.name, "wrong.rules")
        rule.write_text('SUBSYSTEM="misc", MODE=="0660"\n')
        with self.assertRaises(AssertionError):
            run("udevadm", "verify", "--resolve-names=never", rule)

    def test_modprobe_leaves_ocxl_out(self):
        self.make("install")
        self.assertIn("blacklist ocxl\n", run("modprobe", "-C", self.usr / "lib/modprobe.d", "--showconfig"))

    @needs("systemd-sysusers", "systemd")
    def test_sysusers_makes_the_group(self):
        self.make("install")
        said = run("systemd-sysusers", "--dry-run", f"--root={self.root}", self.usr / "lib/sysusers.d/uxive.conf")
        self.assertIn("group 'uxive'", said)

    def test_bash_completes(self):
        self.make("install")
        file = self.usr / "share/bash-completion/completions/uxive"

        def offered(*words):
            return set(run("bash", "-c", BASH, "bash", file, "uxive", *words).split())

        commands = {"info", "list", "ring", "bench"}
        self.assertEqual(offered(""), {*commands, "help"} | options())
        self.assertEqual(offered("ri"), {"ring"})
        self.assertEqual(offered("help", ""), commands)
        for name in commands:
            self.assertEqual(offered(name, "-"), options(name))
        self.assertEqual(offered("ring", "--fd", ""), set())
        self.assertEqual(offered("ring", "--socket", str(self.command)), {str(self.command)})

    @needs("fish")
    def test_fish_completes(self):
        self.make("install")
        file = self.usr / "share/fish/vendor_completions.d/uxive.fish"

        def offered(text):
            said = run("fish", "--no-config", "-c", 'source $argv[1]; complete -C $argv[2]', file, text,
                       env=os.environ | {"HOME": self.top.name})
            return {line.partition("\t")[0] for line in said.splitlines()}

        commands = {"info", "list", "ring", "bench"}
        self.assertEqual(offered("uxive "), {*commands, "help"})
        self.assertEqual(offered("uxive -"), options())
        self.assertEqual(offered("uxive help "), commands)
        for name in commands:
            self.assertEqual(offered(f"uxive {name} -"), options(name))

    @needs("zsh")
    def test_zsh_reads_its_file(self):
        self.make("install")
        file = self.usr / "share/zsh/site-functions/_uxive"
        run("zsh", "-n", file)
        text = file.read_text()
        for name in ("info", "list", "ring", "bench"):
            for option in options(name):
                self.assertIn(option, text)


if __name__ == "__main__":
    unittest.main()
