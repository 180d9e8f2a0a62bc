# SPDX-License-Identifier: GPL-2.0
"""Is the user interface what it was, and does the crate have it as the header says?

tools/testbed/interface has the header without its comments. The header may grow, at the ends of structures and by new names; a
line that is there never changes, since programs are built on it. An addition to the header is added to that file as well.
"""

import difflib
import re

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
NUMBER = re.compile(r"^#define (UXIVE_\w+) ((?:0x)?[0-9A-Fa-f]+)U?$", re.MULTILINE)
IOCTL = re.compile(r"^#define (UXIVE_IOC_\w+) _IO\(UXIVE_MAGIC, (0x[0-9a-f]+)\)$", re.MULTILINE)
STRUCTURE = re.compile(r"^struct (uxive_\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
ARGUMENT = re.compile(r"^ \* struct (uxive_\w+) - argument of (UXIVE_IOC_\w+)$", re.MULTILINE)
FIELD = re.compile(r"^(__[us]\d+|struct uxive_window) (\w+);$", re.MULTILINE)
TYPES = {"__u16": "u16", "__u32": "u32", "__s32": "i32", "__u64": "u64", "struct uxive_window": "Window"}
CRATE_NUMBER = re.compile(r"^pub\(crate\) const (\w+): \w+ = ([0-9A-Fa-fx_]+);$", re.MULTILINE)
CRATE_ARGUMENT = re.compile(r"/// `(UXIVE_IOC_\w+)`\.\n\s*(\w+) None \w+ \{(.*?)\}", re.DOTALL)


def stripped(text):
    """A header's declarations: without comments, and with single spaces."""
    lines = (" ".join(line.split()) for line in COMMENT.sub("", text).splitlines())
    return "\n".join(filter(None, lines)) + "\n"


def changes(header, golden):
    """The lines in which a header differs from what it was."""
    return [line for line in difflib.unified_diff(golden.splitlines(), stripped(header).splitlines(), n=0, lineterm="")
            if not line.startswith(("---", "+++", "@@"))]


def different(header, numbers, arguments):
    """The differences between the header and the crate's sources, uapi.rs with the numbers and abi.rs with the arguments of
    ioctls."""
    declared = stripped(header)
    known = {name: int(value, 0) for name, value in NUMBER.findall(declared)}
    ioctls = {name: int(value, 0) for name, value in IOCTL.findall(declared)}
    structures = dict(STRUCTURE.findall(declared))
    fields = {ioctl: [(name, TYPES[of]) for of, name in FIELD.findall(structures[structure])]
              for structure, ioctl in ARGUMENT.findall(header)}
    found = CRATE_NUMBER.findall(numbers)
    said = [f"{name} is {value}" for name, value in found if known.get(name) != int(value.replace("_", ""), 0)]
    calls = CRATE_ARGUMENT.findall(arguments)
    for name, number, body in calls:
        if ioctls.get(name) != int(number, 0):
            said.append(f"{name} has the number {number}")
        if fields.get(name) != re.findall(r"(\w+): (\w+)", body):
            said.append(f"{name} has other fields")
    return said if found and calls else [*said, "no number or no argument found"]


def check(header, golden, crate):
    """The complaints about a tree."""
    text = header.read_text()
    said = [f"{header.name} is not what it was: {line}" for line in changes(text, golden.read_text())]
    return said + [f"{crate.name}: {line}" for line in
                   different(text, (crate / "uapi.rs").read_text(), (crate / "abi.rs").read_text())]
