# SPDX-License-Identifier: GPL-2.0
"""Reads tools/testing/suites, and selects the suites that the user asks for."""

import re
import shlex
from dataclasses import dataclass, replace

from driver import TESTS
from steps import Failed, REPO

TABLE = REPO / "tools/testing/suites"
HOST = "host"
# The commands of the kinds of suites that run in a machine. testing.py has those of the host.
KUNIT = "/sys/kernel/debug/kunit"
# These have a boot of their own in each configuration.
OWN_BOOT = ("race", "kexec")
# Before this line of the console nothing may complain; after it the planted defects must.
PLANTING = "uxive testbed: from here on defects are planted"
COMMANDS = {"kselftest": "/tests/{name} {arguments}",
            "race": "/tests/{name} {arguments}",
            "kexec": "/tests/{name} {arguments}",
            "kunit": f"cat {KUNIT}/{{name}}/results",
            "script": "sh /tests/{name} {arguments}",
            "boot": "sh /tests/{name} {arguments}",
            "checkers": f"echo '{PLANTING}' >/dev/kmsg; sh /tests/{{name}} {{arguments}}"}
# As a C selftest declares its tests: TEST(name), TEST_F(fixture, name), TEST_F_TIMEOUT(fixture, name, seconds), …
DECLARED = re.compile(r"^TEST(?:_F\w*\((\w+),\s*|\w*\()(\w+)", re.MULTILINE)
# With FIXTURE_VARIANT_ADD(fixture, variant) each test of the fixture is one per variant, fixture.variant.name.
VARIANT = re.compile(r"^FIXTURE_VARIANT_ADD\((\w+),\s*(\w+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Suite:
    name: str
    kind: str
    configurations: tuple
    arguments: str

    def command(self):
        return COMMANDS[self.kind].format(name=self.name, arguments=self.arguments)

    def declared(self):
        """The tests that the source of a C selftest declares."""
        text = (TESTS / f"{self.name}.c").read_text()
        variants = {}
        for fixture, variant in VARIANT.findall(text):
            variants.setdefault(fixture, []).append(f"{fixture}.{variant}")
        return [f"{group}.{name}".removeprefix(f"{self.name}.") for fixture, name in DECLARED.findall(text)
                for group in variants.get(fixture, [fixture or "global"])]

    def alone(self, test):
        """This suite with one test of it, where it is a C selftest; else whole."""
        if self.kind not in ("kselftest", "race") or not (TESTS / f"{self.name}.c").exists():
            return self
        return replace(self, arguments=f"{self.arguments} -r {shlex.quote(test)} -r {shlex.quote(f'{self.name}.{test}')}")


def read():
    """All suites: name, kind, configurations with commas between them, arguments."""
    suites = []
    for line in TABLE.read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            suites.append(Suite(words[0], words[1], tuple(words[2].split(",")), " ".join(words[3:])))
    return suites


def asked(suites, words, configurations):
    """Those of `suites` that `words` name, as SUITE or SUITE:TEST, or all; in `configurations`, or all that they have. A
    selftest that is named runs in any configuration but the host."""
    known = {suite.name for suite in suites}
    names = [word.partition(":") for word in words]
    where = {each for suite in suites for each in suite.configurations}
    if set(configurations) - where:
        raise Failed(f"there is no configuration {', '.join(sorted(set(configurations) - where))}; "
                     f"there are {', '.join(sorted(where))}")
    unknown = {name for name, _, _ in names} - known
    if unknown:
        raise Failed(f"no suite is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    found = []
    for suite in suites:
        tests = [test for name, _, test in names if name == suite.name]
        if names and not tests:
            continue
        here = tuple(each for each in suite.configurations if not configurations or each in configurations)
        rows = [row for row in suites if row.name == suite.name]
        if tests and suite is rows[0] and suite.kind in ("kselftest", "race"):
            here += tuple(each for each in configurations
                          if each != HOST and not any(each in row.configurations for row in rows))
        if tests and all(tests):
            for test in tests:
                suite = suite.alone(test)
        if here:
            found.append(replace(suite, configurations=here))
    if not found:
        raise Failed(f"no suite of {' '.join(words) or 'all'} runs in {' '.join(configurations)}, see tools/testing/suites")
    return found


def quick(suites, slow):
    """Each selftest that does not need the debug kernel, in one boot of base, without its slow tests (SUITE:TEST)."""
    found = {}
    for suite in suites:
        if suite.kind not in ("kselftest", "race") or not set(suite.configurations) & {"base", "smp1", "smp4", "power10"}:
            continue
        names = {test.rpartition(".")[2] for name, _, test in (word.partition(":") for word in slow) if name == suite.name}
        filters = "".join(f" -T {name}" for name in sorted(names)) if (TESTS / f"{suite.name}.c").exists() else ""
        found[suite.name] = replace(suite, kind="kselftest", configurations=("base",), arguments=suite.arguments + filters)
    return list(found.values())
