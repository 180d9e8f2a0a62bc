# SPDX-License-Identifier: GPL-2.0
"""Compares the tools that the tree last passed with (recorded.toml) with those that are here.

Debian's backports move, and a newer tool is no fault of the tree. So a complaint that only a newer tool makes is shown, and is
no failure. A whole run that passes leaves build/recorded.toml.
"""

import functools
import re
import subprocess
import textwrap
import tomllib

from kernel import installed
from steps import BUILD, HERE

FILE = HERE / "recorded.toml"
NUMBER = re.compile(r"\d+(?:\.\d+)+")
TOOLS = {
    "rustc": ["rustc", "--version"],
    "clippy": ["clippy-driver", "--version"],
    "rustfmt": ["rustfmt", "--version"],
    "bindgen": ["bindgen", "--version"],
    "clang": ["clang", "--version"],
    "gcc": ["powerpc64le-linux-gnu-gcc", "-dumpfullversion"],
    "qemu": ["qemu-system-ppc64", "--version"],
    "shellcheck": ["shellcheck", "--version"],
    "sphinx": ["sphinx-build", "--version"],
}


@functools.cache
def recorded():
    return tomllib.loads(FILE.read_text())


@functools.cache
def versions():
    """Tool → version, as found here; the kernel's among them."""
    def output(command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    # The package's name has the series, its version comes behind a tab.
    return {"linux": NUMBER.search(installed("linux-source-*").rpartition("\t")[2])[0],
            **{tool: NUMBER.search(output(command))[0] for tool, command in TOOLS.items()}}


def as_numbers(version):
    return [int(number) for number in version.split(".")]


def newer():
    """Tools that are newer here than recorded: tool → (here, recorded)."""
    before = recorded()["versions"]
    return {tool: (found, before.get(tool, "0")) for tool, found in versions().items()
            if as_numbers(found) > as_numbers(before.get(tool, "0"))}


def newer_series(tool):
    """Is the tool of a newer series than recorded, which may complain of more? A point release mends."""
    found, before = newer().get(tool, ("0", "0"))
    return as_numbers(found)[:2] > as_numbers(before)[:2]


def told():
    """A line for the user; empty if nothing is newer."""
    found = ", ".join(f"{tool} {now} ({before})" for tool, (now, before) in newer().items())
    return f"newer than recorded: {found}" if found else ""


@functools.cache
def lints():
    """The names of the lints that rustc and clippy have on by default here."""
    text = subprocess.run(["clippy-driver", "-Whelp"], check=True, capture_output=True, text=True).stdout
    return {name.replace("-", "_") for name in re.findall(r"^ +(\S+) +(?:warn|deny) ", text, re.MULTILINE)}


def novel(lint):
    """Is this lint of rustc or clippy on by default here, and was it not when the tree last passed? A lint that we or the
    kernel switch on does not count."""
    name = lint.replace("-", "_")
    return name in lints() and name not in recorded()["lints"]["on"].split()


def slow():
    """The tests that took long when the tree last passed, as SUITE:TEST."""
    return recorded()["slow"]["tests"].split()


def write(slow_tests, minutes):
    """build/recorded.toml, as it would stand after a run of so many minutes that passed here now."""
    def several(names):
        return '"""\n' + textwrap.fill(" ".join(sorted(names)), 120, break_long_words=False, break_on_hyphens=False) + '"""'

    table = "".join(f'{tool} = "{version}"\n' for tool, version in versions().items())
    (BUILD / FILE.name).write_text(f"""{FILE.read_text().partition("[versions]")[0]}[versions]
{table}
[lacks]
allowed = {recorded()["lacks"]["allowed"]}

[run]
minutes = {minutes}

[slow]
tests = {several(slow_tests)}

[lints]
on = {several(lints())}
""")
