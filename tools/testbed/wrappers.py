# SPDX-License-Identifier: GPL-2.0
"""Could the wrappers in src/kernel be patches to the kernel crate? None names the driver, and each says where it would go.

Symbols of C are the module's, in one name space with all others, so that those which helpers.h declares and those which
injectable!() makes begin with its name.
"""

import re

NAME = re.compile("uxive", re.IGNORECASE)
DECLARED = re.compile(r"\b(uxive_\w+)\(")
INJECTABLE = re.compile(r"\binjectable!\(\s*(uxive_\w+),")
# In the comment at the top of a file.
HEAD = re.compile(r"\A// SPDX[^\n]*\n\n((?://![^\n]*\n)*)")
PLACE = re.compile(r"Would (?:go to|be) `rust/kernel/[\w/]+\.rs`")


def complaints(wrappers):
    """The complaints about the files in the directory `wrappers`."""
    symbols = DECLARED.findall((wrappers / "helpers.h").read_text())
    symbols += [name for path in wrappers.rglob("*.rs") for name in INJECTABLE.findall(path.read_text())]
    symbol = re.compile(rf"\b(?:{'|'.join(symbols)})\b") if symbols else re.compile("(?!)")
    said = []
    for path in sorted(wrappers.rglob("*")):
        if path.suffix not in (".rs", ".c", ".h"):
            continue
        text = path.read_text()
        place = path.relative_to(wrappers)
        said += [f"{place}:{number}: names the driver" for number, line in enumerate(text.splitlines(), 1)
                 if NAME.search(symbol.sub("", line))]
        if path.suffix == ".rs" and path.name != "mod.rs" and not PLACE.search(HEAD.match(text)[1]):
            said.append(f"{place}: does not say to which file in rust/kernel it would go")
    return said
