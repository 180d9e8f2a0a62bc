# SPDX-License-Identifier: GPL-2.0
"""Do the arrows between the rooms of src/ go one way, and are they those that its first comment tells?

A room is a file of src/, or a directory with its files. An arrow is a `crate::` path in code. The comment has a table with a row
for each room, above those that it imports, and a sentence for those that all may import.
"""

import re

ROW = re.compile(r"^//! \| `(\w+)` \|[^|]*\|([^|]*)\|$", re.MULTILINE)
COMMON = re.compile(r"^//! All rooms may import ((?:`\w+`(?:, | and )?)+)", re.MULTILINE)
MODULE = re.compile(r"^(?:#\[path = \"(\w+)/mod\.rs\"\]\n)?mod (\w+);", re.MULTILINE)
ROOT = "uxive_main"


def code(text):
    """Rust without its comments and strings, and without its unit tests, which may name what they like."""
    text = re.sub(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|//[^\n]*', "", text, flags=re.DOTALL)
    return re.split(r"#\[kunit_tests\(", text)[0]


def paths(text):
    """The first words of all `crate::` paths."""
    found = set(re.findall(r"\bcrate::(\w+)", text))
    for tree in re.findall(r"\bcrate::\{(.*?)\};", text, re.DOTALL):
        # Only what stands in the outer braces.
        while re.search(r"\{[^{}]*\}", tree):
            tree = re.sub(r"\{[^{}]*\}", "", tree)
        found.update(re.findall(r"(?:^|,)\s*(\w+)", tree))
    return found


def extends(text):
    """The types that a file adds methods to without declaring them: callers would import another room unseen."""
    text = code(text)
    declared = re.findall(r"\b(?:struct|enum|union|type)\s+(\w+)", text)
    # Without `for`, which would have it be a trait's.
    arguments = r"(?:<(?:(?! for )[^{])*?>)?"
    extended = re.findall(rf"^impl\b{arguments}\s+(\w+){arguments}\s*(?:where[^{{]*)?\{{", text, re.MULTILINE)
    return sorted(set(extended) - set(declared))


def leaves(path, text):
    """Does a file go up further than its room is deep?"""
    depth = len(path.parts) - (2 if path.name == "mod.rs" else 1)
    return re.search(r"\b" + r"super::" * (depth + 1), code(text)) is not None


def rooms(source):
    """The files of each room, by its name in code."""
    directories = {directory or name: name for directory, name in MODULE.findall((source / f"{ROOT}.rs").read_text())}
    found = {}
    for path in sorted(source.rglob("*.rs")):
        first = path.relative_to(source).parts[0].removesuffix(".rs")
        if first in directories:
            found.setdefault(directories[first], []).append(path)
    return found


def complaints(source):
    """The complaints about the rooms in the directory `source`."""
    text = (source / f"{ROOT}.rs").read_text()
    told = {name: set(re.findall(r"\w+", imports)) for name, imports in ROW.findall(text)}
    common = COMMON.search(text)
    common = re.findall(r"\w+", common[1].replace(" and ", ", ")) if common else []
    found = rooms(source)
    if not told or not common:
        return [f"{ROOT}.rs has no table of rooms, or does not say what all import"]
    said = [f"{name} is not in the table" for name in found if name not in told and name not in common]
    said += [f"{name} is in the table and is no room" for name in (*told, *common) if name not in found]
    place = {name: at for at, name in enumerate((*told, *reversed(common)))}
    for name, imports in told.items():
        said += [f"{name} imports {other}, which stands above it" for other in imports
                 if place.get(other, len(place)) <= place[name]]
    for name, files in found.items():
        used = set().union(*(paths(code(path.read_text())) for path in files)) - {name}
        said += [f"{name} imports {other}, which is no room" for other in sorted(used - found.keys())]
        said += [f"{name} leaves its room by super::" for path in files if leaves(path.relative_to(source), path.read_text())]
        said += [f"{name} adds methods to {other}, which another file declares" for path in files
                 for other in extends(path.read_text())]
        # Each of the rooms that all may import may itself import those listed before it.
        allowed = set(common[:common.index(name)] if name in common else common) | told.get(name, set())
        said += [f"{name} imports {other}, which is not in its row" for other in sorted((used & found.keys()) - allowed)]
        said += [f"{name} does not import {other}, which is in its row" for other in sorted(told.get(name, set()) - used)]
    return said
