# SPDX-License-Identifier: GPL-2.0
"""Is the text plain? Refuses the phrases below, each of which has a plainer form.

Code, literals and headings are not text. In C and Rust the comments are; in Python also docstrings; in shell scripts,
Makefiles, lists and configurations the comments; in a patch its message; in other files all the rest.
"""

import io
import re
import tokenize

# Files and folders that are looked at, from the top of the tree.
PATHS = ["Documentation", "README.md", "Kconfig", "Makefile", "include", "src", "tools", ".ci"]
# Not looked at: a copy of a header, and files that are made.
OUT = ["tools/testbed/interface", "tools/uxive/target"]
MADE = re.compile(r".*_generated\.\w+|.*\.mod\.c")
SUFFIXES = [".c", ".h", ".md", ".patch", ".py", ".rs", ".rst"]
# Here all files but those of SUFFIXES are code: with these suffixes their comments begin with #, as in shell.
CODE = ["Makefile", "src", "tools", ".ci"]
SCRIPT = ["", ".config", ".toml"]

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
# In strings and characters there are no comments.
STRING = re.compile(r"""\br(?P<raw>\#*)".*?"(?P=raw)|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\\n])'""", re.DOTALL)
HASH = re.compile(r"(?:(?<=[\s;(])|^)#[^\n]*", re.MULTILINE)
HASH_MARGIN = re.compile(r"^[ \t]*#+", re.MULTILINE)
# Neither are there in words and here documents of a shell.
WORD = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|<<-?[ ]?(?P<quote>['"]?)(?P<end>\w+)(?P=quote).*?\n[ \t]*(?P=end)$""",
                  re.MULTILINE | re.DOTALL)
DIFF = re.compile(r"^---$.*", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^\S.*\n([=\-~^\"'*+#])\1+$", re.MULTILINE)
# An indented block below a paragraph that ends with two colons, or below a directive.
LITERAL = re.compile(r"(?<=::\n)(?:[ \t]*\n)+(?P<indent>[ \t]+)\S.*\n(?:(?P=indent).*\n|[ \t]*\n)*", re.MULTILINE)
QUOTED = {
    ".rst": [LITERAL, re.compile(r"``.+?``", re.DOTALL), HEADING],
    ".md": [re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL), re.compile(r"^ {4}.*$", re.MULTILINE),
            re.compile(r"`[^`\n]+`"), re.compile(r"^#.*$", re.MULTILINE)],
    ".patch": [DIFF, re.compile(r"^ {2}.*$", re.MULTILINE)],
}


def blank(text):
    """As many lines and columns without anything."""
    return re.sub(r"\S", " ", text)


def without(text, pattern):
    """A file with blanks where this is."""
    return pattern.sub(lambda found: blank(found[0]), text)


def only(text, places):
    """A file with nothing but these: [(start, end)]."""
    parts, at = [], 0
    for start, end in places:
        parts += [blank(text[at:start]), text[start:end]]
        at = end
    return "".join([*parts, blank(text[at:])])


def comments(text, comment, literal):
    """Where a source has its comments."""
    either = re.compile(f"(?P<comment>{comment.pattern})|{literal.pattern}", re.MULTILINE | re.DOTALL)
    return [found.span() for found in either.finditer(text) if found["comment"]]


def python_comments(text):
    """Where one in Python has its comments and docstrings: strings that are statements."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type != tokenize.NL]
    code = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)]
    found = [token for token in tokens if token.type == tokenize.COMMENT]
    found += [token for before, token, after in zip([None, *code], code, code[1:]) if token.type == tokenize.STRING
              and after.type == tokenize.NEWLINE and (before is None or before.type == tokenize.NEWLINE)]
    return sorted((lines[token.start[0] - 1] + token.start[1], lines[token.end[0] - 1] + token.end[1]) for token in found)


def prose(text, suffix):
    """A file with nothing but its text. The suffix is that of kind()."""
    if suffix in (".c", ".h", ".rs"):
        return without(only(text, comments(text, COMMENT, STRING)), MARGIN)
    if suffix == "#":
        return without(only(text, comments(text, HASH, WORD)), HASH_MARGIN)
    if suffix == ".py":
        return without(only(text, python_comments(text)), HASH_MARGIN)
    for quoted in QUOTED.get(suffix, []):
        text = without(text, quoted)
    return text


def complaints(text, suffix):
    """[(line, what is said)] about a file."""
    plain = prose(text, suffix)
    return sorted((plain.count("\n", 0, found.start()) + 1, f'"{" ".join(found[0].split())}": {instead}')
                  for pattern, instead in PATTERNS.items() for found in pattern.finditer(plain))


def kind(path):
    """The suffix of a file, "#" for a script, None for a file that is not looked at. The path begins at the top of the tree."""
    if MADE.fullmatch(path.name):
        return None
    if path.suffix in SUFFIXES or path.parts[0] not in CODE:
        return path.suffix
    return "#" if path.suffix in SCRIPT else None


def files(top):
    """Those that are looked at."""
    out = {top / name for name in OUT}
    return sorted(path for name in PATHS for path in [top / name, *(top / name).rglob("*")]
                  if path.is_file() and kind(path.relative_to(top)) is not None and not out.intersection([path, *path.parents]))


def check(paths, top):
    """The complaints about files below `top`."""
    return [f"{path.relative_to(top)}:{line}: {said}" for path in paths
            for line, said in complaints(path.read_text(), kind(path.relative_to(top)))]
