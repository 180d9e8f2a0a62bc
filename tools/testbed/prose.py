# SPDX-License-Identifier: GPL-2.0
"""Is the text plain? Refuses the phrases below, each of which has a plainer form.

Code, literals and headings are not text. In C and Rust the comments are, in other files all the rest.
"""

import re

# Files and folders that are looked at, from the top of the tree.
PATHS = ["Documentation", "README.md", "Kconfig", "Makefile", "include", "src"]

# Refused, and the plainer form. Those without a capital letter are refused with one, too.
REFUSED = {
    r"befall\w*\b": "say what happens to it",
    r"somebody(?:'s|s') hands\b": "name the owner",
    r"com(?:e|es|ing) to rest\b": "go quiet, quiesce",
    r"came to rest\b": "went quiet, was quiesced",
    r"(?:let|lets|letting) go of\b": "free, release, detach",
    r"for good\b": "forever; of a resource: leaked",
    r"estates?\b": "the context's slots and queue",
    r"(?:is|are|was|were) to be\b": "must be, can be, will be, should be",
    r"whoever\b": "name the subject: a program that …",
    # At the beginning of a sentence that is no question.
    r"Who\b(?![^.]*\?)": "begin with the subject: a program that …",
    r"What\b(?!:|[^.]*\?)": "begin with the subject: the data that …",
}
PATTERNS = {re.compile(r"\b" + phrase.replace(" ", r"\s+"), 0 if phrase[0].isupper() else re.IGNORECASE): instead
            for phrase, instead in REFUSED.items()}

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
MARGIN = re.compile(r"^[ \t]*(?:/?\*+/?|//[/!]?)|\*/", re.MULTILINE)
HEADING = re.compile(r"^\S.*\n([=\-~^\"'*+#])\1+$", re.MULTILINE)
# What is indented below a paragraph that ends with two colons, or below a directive.
LITERAL = re.compile(r"(?<=::\n)(?:[ \t]*\n)+(?P<indent>[ \t]+)\S.*\n(?:(?P=indent).*\n|[ \t]*\n)*", re.MULTILINE)
QUOTED = {
    ".rst": [LITERAL, re.compile(r"``.+?``", re.DOTALL), HEADING],
    ".md": [re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL), re.compile(r"^ {4}.*$", re.MULTILINE),
            re.compile(r"`[^`\n]+`"), re.compile(r"^#.*$", re.MULTILINE)],
}


def blank(text):
    """As many lines and columns without anything."""
    return re.sub(r"\S", " ", text)


def comments(text):
    """A source with nothing but its comments."""
    parts, at = [], 0
    for found in COMMENT.finditer(text):
        parts += [blank(text[at:found.start()]), found[0]]
        at = found.end()
    return MARGIN.sub(lambda found: blank(found[0]), "".join([*parts, blank(text[at:])]))


def prose(text, suffix):
    """A file with nothing but what is read as text."""
    if suffix in (".c", ".h", ".rs"):
        return comments(text)
    for quoted in QUOTED.get(suffix, []):
        text = quoted.sub(lambda found: blank(found[0]), text)
    return text


def complaints(text, suffix):
    """[(line, what is said)] about a file."""
    plain = prose(text, suffix)
    return sorted((plain.count("\n", 0, found.start()) + 1, f'"{" ".join(found[0].split())}": {instead}')
                  for pattern, instead in PATTERNS.items() for found in pattern.finditer(plain))


def files(top):
    """Those that are looked at."""
    return sorted(path for name in PATHS for path in [top / name, *(top / name).rglob("*")] if path.is_file())


def check(paths, top):
    """The complaints about files below `top`."""
    return [f"{path.relative_to(top)}:{line}: {said}" for path in paths
            for line, said in complaints(path.read_text(), path.suffix)]
