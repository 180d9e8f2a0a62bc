# SPDX-License-Identifier: GPL-2.0
"""Has each claim of a document a test that exists, or says that it has none?

A claim is an item of a list, `- …`. It names tests as ``suite:test``, of selftests in C or in Rust, or has "no test", with the reason.
"""

import re
from fnmatch import fnmatchcase

NAMED = re.compile(r"``([a-z_]+):([a-z_0-9.*]+)``")
CLAIM = re.compile(r"^- .*(?:\n  .*)*", re.MULTILINE)
LISTED = re.compile(r"\btests!\[([^\]]*)\]")


def in_rust(text):
    """The tests that a selftest in Rust has, which are the words of its `tests![…]`."""
    return [name for listed in LISTED.findall(text) for name in re.findall(r"\w+", listed)]


def complaints(text, tests):
    """The complaints about a document; `tests` are the names of all tests, as suite:test."""
    said = [f"there is no test {suite}:{test}" for suite, test in NAMED.findall(text)
            if not any(fnmatchcase(name, f"{suite}:{test}") for name in tests)]
    claims = CLAIM.findall(text)
    said += [f"neither a test nor \"no test\": {claim.splitlines()[0]}" for claim in claims
             if not NAMED.search(claim) and "no test" not in " ".join(claim.lower().split())]
    return said if claims else [*said, "there is no claim"]


def check(document, suites, sources):
    """The complaints about a document, with the tests that the suites and the selftests' directory have."""
    tests = set()
    for suite in suites:
        if (sources / f"{suite.name}.c").exists():
            tests.update(f"{suite.name}:{test}" for test in suite.declared())
        elif (sources / f"{suite.name}.rs").exists():
            tests.update(f"{suite.name}:{test}" for test in in_rust((sources / f"{suite.name}.rs").read_text()))
    return [f"{document.name}: {said}" for said in complaints(document.read_text(), tests)]
