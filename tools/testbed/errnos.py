# SPDX-License-Identifier: GPL-2.0
"""Has every documented errno a test, is every tested one documented, and does the driver return no others?

The documentation lists errnos call by call: under a heading that names the call (an ioctl, or `name()`; two with " and "
between them), as the terms of a definition list. A test says which it takes: EXPECT_ERRNO(call, errno, …) for one,
EXPECT_FAULTS(call, errno, errno, …) for all that come when each step of the call is made to fail, and EXPECT_GROWS(call, …)
for those of an argument that is of no size that it may have, or nowhere.
"""

import errno
import re

UNDERLINE = re.compile(r"([=\-~^\"'*+#])\1+")
CALLS = re.compile(r"([A-Z]+_[A-Z0-9_]+|[a-z_]+\(\))(?: and (?:[A-Z]+_[A-Z0-9_]+|[a-z_]+\(\)))*")
TERM = re.compile(r"``E[A-Z0-9]+``(?:, ``E[A-Z0-9]+``)*")
EXPECTED = re.compile(r"\bEXPECT_(?:ERRNO\(\s*(\w+)\s*,\s*(\w+)\s*,|FAULTS\(\s*(\w+)\s*,([\w\s,]+)\))")
GROWS = re.compile(r"\bEXPECT_GROWS\(\s*(\w+)\s*,")
COMMENT = {".c": re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL), ".rs": re.compile(r"//[^\n]*")}
NAMES = {*errno.errorcode.values(), "EWOULDBLOCK", "ENOTSUPP"}


def documented(text):
    """{(call, errno)} of a document, and what is wrong with its form."""
    found, wrong, calls = set(), [], []
    lines = text.splitlines()
    for number, (line, below) in enumerate(zip(lines, lines[1:] + [""]), 1):
        if line and not line[0].isspace() and UNDERLINE.fullmatch(below) and len(below) >= len(line):
            calls = [name.removesuffix("()") for name in line.split(" and ")] if CALLS.fullmatch(line) else []
        elif TERM.fullmatch(line) and below.startswith(("\t", " ")):
            for name in re.findall(r"E[A-Z0-9]+", line):
                if not calls:
                    wrong.append(f"{number}: {name} is listed outside the section of a call")
                if name not in NAMES:
                    wrong.append(f"{number}: {name} is no errno")
                found |= {(call, name) for call in calls}
    return found, wrong


def code(text, suffix):
    return COMMENT[suffix].sub("", text)


def tested(text):
    """{(call, errno)} that a C file expects; the macros' own definitions are none."""
    text = code(text, ".c")
    grows = {(call, name) for call in GROWS.findall(text) if call != "name" for name in ("EINVAL", "E2BIG", "EFAULT")}
    return grows | {(one or other, name) for one, single, other, several in EXPECTED.findall(text)
                    for name in re.findall(r"\w+", single + several) if name != "error"}


def returned(text):
    """The errnos that a Rust file names."""
    return set(re.findall(r"\bE[A-Z0-9]+\b", code(text, ".rs"))) & NAMES


def compare(documents, tests, returns):
    """What does not fit, a line each."""
    said = [f"{call}: {name} is documented, and no test expects it by EXPECT_ERRNO() or EXPECT_FAULTS()"
            for call, name in sorted(documents - tests)]
    said += [f"{call}: {name} is expected by a test, and not documented" for call, name in sorted(tests - documents)]
    said += [f"{name} is returned by the driver, and documented for no call"
             for name in sorted(returns - {name for _, name in documents})]
    return said


def check(document, tests, sources):
    """The complaints about a tree."""
    found, wrong = documented(document.read_text())
    expected = set().union(*(tested(path.read_text()) for path in tests))
    returns = set().union(*(returned(path.read_text()) for path in sources))
    said = [f"{document.name}:{line}" for line in wrong] + compare(found, expected, returns)
    if not found:
        said.append(f"{document.name}: no errno of any call found")
    return said
