# SPDX-License-Identifier: GPL-2.0
"""Does the page about troubleshooting have each line that the driver logs, and each errno that programs get?

A line of the driver is a term of a definition list there, in the words of the source, with "…" for each value: "``uxive: …``", or
"``uxive …: …``" for one of a device. There are no other such terms. The texts of errors, which are values of such lines, stand
there as literals. An errno is in a term, too.
"""

import re

from errnos import documented

CALL = re.compile(r"\b(pr|dev)_\w+!\s*\(")
# The arguments of one that has a literal; those of a macro's own definition are other ones.
LITERAL = re.compile(r'\s*(?:[\w.]+,\s*)?"((?:\\.|[^"\\])*)"')
VALUE = re.compile(r"\{[^{}]*\}")
DISPLAYED = re.compile(r"^impl\b[^\n]*\bfmt::Display for [^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
STRING = re.compile(r'"((?:\\.|[^"\\])*)"')
PREFIX = {"pr": "uxive: ", "dev": "uxive …: "}
TERM = re.compile(r"(?<=\n\n)(``.*)\n[ \t]+\S")
QUOTED = re.compile(r"``(.+?)``")


def code(text):
    """A source without comments and unit tests."""
    return re.sub(r"//[^\n]*", "", text.partition("\n#[kunit_tests")[0])


def plain(literal):
    """A literal of a source as the page has it."""
    return VALUE.sub("…", literal.replace("\\n", "").strip())


def logged(text):
    """The lines that a source logs, and the complaints about those that have no literal."""
    text = code(text)
    lines, wrong = set(), []
    for call in CALL.finditer(text):
        literal = LITERAL.match(text, call.end())
        if literal:
            lines.add(PREFIX[call[1]] + plain(literal[1]))
        elif not text[call.end():].lstrip().startswith("$"):
            wrong.append(f"{call[0]}…): its text is no literal")
    return lines, wrong


def values(text):
    """The texts that errors, and other values of a source, are shown as."""
    texts = (plain(literal) for body in DISPLAYED.findall(code(text)) for literal in STRING.findall(body))
    return {each for each in texts if re.search("[a-z]", each)}


def terms(page):
    """The literals of the terms of a page."""
    return [literal for term in TERM.findall(page) for literal in QUOTED.findall(term)]


def complaints(page, sources, errnos):
    """The complaints about a page."""
    lines, told = set(), terms(page)
    said, texts = [], set()
    for text in sources:
        found, wrong = logged(text)
        lines |= found
        said += wrong
        texts |= values(text)
    shown = {literal for literal in told if literal.startswith(("uxive: ", "uxive …: "))}
    quoted = {" ".join(literal.split()) for literal in re.findall(r"``(.+?)``", page, re.DOTALL)}
    said += [f"the driver logs \"{line}\", which is no term" for line in sorted(lines - shown)]
    said += [f"the driver does not log \"{line}\"" for line in sorted(shown - lines)]
    said += [f"\"{text}\", of a line that the driver logs, is missing" for text in sorted(texts - quoted)]
    said += [f"{name} is in no term" for name in sorted(errnos - set(told))]
    return said if lines else [*said, "the driver logs nothing"]


def check(page, sources, documents):
    """The complaints about the page, with the sources of the driver, and the documents that have the errnos of calls."""
    found, _ = documented(*(document.read_text() for document in documents))
    return [f"{page.name}: {line}" for line in
            complaints(page.read_text(), [source.read_text() for source in sources], {name for _, name in found})]
