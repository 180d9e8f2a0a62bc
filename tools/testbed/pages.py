# SPDX-License-Identifier: GPL-2.0
"""Do the pages show the interface as its headers have it, and are their programs built?

A structure or number in a page must be the same as in a header; only its comments may differ. Each structure of uxive.h must be
shown, the argument of an ioctl at the beginning of that ioctl's section. A program must be included, not typed again, and the
testbed must build it.
"""

import re
import textwrap

from interface import ARGUMENT, stripped

DECLARED = re.compile(r"^struct (\w+) \{\n.*?^\};", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^([ \t]+)struct (\w+) \{\n.*?^\1\};", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"^[ \t]+(#define (?:UXIVE|OCXL)_.*)$", re.MULTILINE)
SECTION = re.compile(r"^(\w+)\n-{4,}\n\n(.*?)(?=^\S[^\n]*\n([=\-])\3{3,}$|\Z)", re.MULTILINE | re.DOTALL)
INCLUDED = re.compile(r"^\.\. literalinclude:: (\S+)$", re.MULTILINE)


def declared(header):
    """{name: structure} of a header, without comments."""
    return {found[1]: stripped(found[0]) for found in DECLARED.finditer(header)}


def shown(page):
    """[(name, structure)] of a page, likewise."""
    return [(found[2], stripped(textwrap.dedent(found[0]))) for found in SHOWN.finditer(page)]


def differing(page, *headers):
    """The structures and numbers of a page that differ from the headers."""
    structures = {name: structure for header in headers for name, structure in declared(header).items()}
    numbers = {line for header in headers for line in stripped(header).splitlines()}
    said = [f"struct {name} is another" for name, structure in shown(page) if structures.get(name) != structure]
    lines = (" ".join(line.split()) for line in NUMBER.findall(page))
    return said + [f"no header has {line}" for line in lines if line not in numbers]


def missing(header, pages):
    """The structures of a header that no page shows, or not where they belong."""
    sections = {name: text for page in pages for name, text, _ in SECTION.findall(page)}
    seen = {name for page in pages for name, _ in shown(page)}
    said = [f"struct {name} is in no page" for name in declared(header) if name not in seen]
    return said + [f"the section of {ioctl} does not begin with struct {structure}"
                   for structure, ioctl in ARGUMENT.findall(header)
                   if structure not in {name for name, _ in shown(sections.get(ioctl, ""))} or
                   not sections[ioctl].startswith("::\n")]


def check(pages, header, other, programs):
    """The complaints about pages; `other` is a header of which they need not show all."""
    texts = {page: page.read_text() for page in pages}
    said = [f"{page.name}: {line}" for page, text in texts.items()
            for line in differing(text, header.read_text(), other.read_text())]
    said += [f"{page.name}: {name} is no program that is built" for page, text in texts.items()
             for name in INCLUDED.findall(text) if (page.parent / name).resolve() not in programs]
    return said + missing(header.read_text(), texts.values())
