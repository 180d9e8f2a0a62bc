# SPDX-License-Identifier: GPL-2.0
"""Has every documented errno a test, is every tested one documented, and does the driver return no others?

The documentation lists errnos call by call: under a heading that names the call (an ioctl, or `name()`; two with " and "
between them), as the terms of a definition list. A name with * at its end stands for all calls with such a heading in any of
the documents, but for those that the errno's text begins with: "Not of ``THIS`` and ``THAT``." A test says which it takes:
EXPECT_ERRNO(call, errno, …) for one, or for several with " and " between them that return it alike, EXPECT_FAULTS(call, errno,
errno, …) for all that come when each step of the call is made to fail, and GROWING(call, …) for those of an argument with
a wrong size or a bad address. It may have macros of its own for that, EXPECT_…(error, …).
"""

import errno
import re
from fnmatch import fnmatchcase

UNDERLINE = re.compile(r"([=\-~^\"'*+#])\1+")
CALLS = re.compile(r"([A-Z]+_[A-Z0-9_]+\*?|[a-z_]+\(\))(?: and (?:[A-Z]+_[A-Z0-9_]+\*?|[a-z_]+\(\)))*")
EXCEPT = re.compile(r"\s+Not of (.*?)\. ")
TERM = re.compile(r"``E[A-Z0-9]+``(?:, ``E[A-Z0-9]+``)*")
EXPECTED = re.compile(r"\bEXPECT_(?:ERRNO\(\s*(\w+(?: and \w+)*)\s*,\s*(\w+)\s*,|FAULTS\(\s*(\w+)\s*,([\w\s,]+)\))")
GROWING = re.compile(r"\bGROWING\(\s*(\w+)\s*,")
MACRO = re.compile(r"^#define (EXPECT_\w+)\(error\b(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
COMMENT = {".c": re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL), ".rs": re.compile(r"//[^\n]*")}
NAMES = {*errno.errorcode.values(), "EWOULDBLOCK", "ENOTSUPP", "EOPNOTSUPP"}


def listed(text):
    """The calls that a document has headings of, [(calls, errno, calls that it is not of)], and the faults of its form."""
    headed, rows, wrong, calls = set(), [], [], []
    lines = text.splitlines()
    for number, (line, below) in enumerate(zip(lines, lines[1:] + [""]), 1):
        if line and not line[0].isspace() and UNDERLINE.fullmatch(below) and len(below) >= len(line):
            calls = [name.removesuffix("()") for name in line.split(" and ")] if CALLS.fullmatch(line) else []
            headed.update(calls)
        elif TERM.fullmatch(line) and below.startswith(("\t", " ")):
            excepted = re.findall(r"``(\w+)``", found[1]) if (found := EXCEPT.match(f"{below} ")) else []
            if below.lstrip().startswith("Not of") and not excepted:
                wrong.append(f"{number}: it says in no such line of which calls it is not")
            for name in re.findall(r"E[A-Z0-9]+", line):
                if not calls:
                    wrong.append(f"{number}: {name} is listed outside the section of a call")
                if name not in NAMES:
                    wrong.append(f"{number}: {name} is no errno")
                rows.append((calls, name, excepted))
    return headed, rows, wrong


def expanded(headed, rows):
    """{(call, errno)} of documents, and the faults of calls that stand for several."""
    known = {call for call in headed if not call.endswith("*")}
    found, wrong = set(), []
    for calls, name, excepted in rows:
        meant = {call: {other for other in known if fnmatchcase(other, call)} for call in calls}
        every = set().union(*meant.values())
        wrong += [f"{call} stands for no call" for call, others in meant.items() if not others]
        wrong += [f"{' and '.join(calls)}: {name}: {other} is none of these" for other in excepted if other not in every]
        found |= {(other, name) for other in every.difference(excepted)}
    return found, wrong


def documented(*texts):
    """{(call, errno)} of documents, and the faults of their form."""
    parts = [listed(text) for text in texts]
    found, wrong = expanded(set().union(*(headed for headed, _, _ in parts)), [row for _, rows, _ in parts for row in rows])
    return found, [line for _, _, lines in parts for line in lines] + wrong


def code(text, suffix):
    return COMMENT[suffix].sub("", text)


def written_out(text):
    """The meaning of each EXPECT_…(error, …) that a C file defines."""
    bodies = {found[1]: found[0].split(")", 1)[1].replace("\\\n", "\n") for found in MACRO.finditer(text)}
    used = re.findall(r"\b(EXPECT_\w+)\(\s*(E[A-Z0-9]+)\s*,", text)
    return "\n".join(re.sub(r"\berror\b", name, bodies[macro]) for macro, name in used if macro in bodies)


def tested(text):
    """{(call, errno)} that a C file expects; the macros' own definitions are none."""
    text = code(text, ".c")
    text += written_out(text)
    grows = {(call, name) for call in GROWING.findall(text) if call != "ioctl" for name in ("EINVAL", "E2BIG", "EFAULT")}
    return grows | {(call, name) for one, single, other, several in EXPECTED.findall(text)
                    for call in (one or other).split(" and ")
                    for name in re.findall(r"\w+", single + several) if name != "error"}


def returned(text):
    """The errnos that a Rust file names."""
    return set(re.findall(r"\bE[A-Z0-9]+\b", code(text, ".rs"))) & NAMES


def compare(documents, tests, returns):
    """The differences, a line each."""
    said = [f"{call}: {name} is documented, and no test expects it by EXPECT_ERRNO() or EXPECT_FAULTS()"
            for call, name in sorted(documents - tests)]
    said += [f"{call}: {name} is expected by a test, and not documented" for call, name in sorted(tests - documents)]
    said += [f"{name} is returned by the driver, and documented for no call"
             for name in sorted(returns - {name for _, name in documents})]
    return said


def check(documents, tests, sources):
    """The complaints about a tree."""
    parts = {f"{document.parent.name}/{document.name}": listed(document.read_text()) for document in documents}
    found, wrong = expanded(set().union(*(headed for headed, _, _ in parts.values())),
                            [row for _, rows, _ in parts.values() for row in rows])
    expected = set().union(*(tested(path.read_text()) for path in tests))
    returns = set().union(*(returned(path.read_text()) for path in sources))
    said = [f"{name}:{line}" for name, (_, _, lines) in parts.items() for line in lines]
    said += wrong + compare(found, expected, returns)
    return said if found else [*said, "no errno of any call found"]
