# SPDX-License-Identifier: GPL-2.0
"""Is each helper of the selftests in C defined once?

Two programs, or a program and a header, that have a function of the same name, or functions with the same body, whatever
their names, have a helper that belongs into a header. Bodies of a few lines may be the same by chance.
"""

import re
from collections import defaultdict

# Lines up to which two bodies may be the same by chance.
CHANCE = 3
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# A static function at column 0. FIXTURE_SETUP(…), TEST_F(…) and other macros have no `static`, and names of their own.
FUNCTION = re.compile(r"^(?:[\w(), ]+[ ,)])?static [^\n;={}()]*?\b(\w+)\([^;{}]*\)\n\{\n(.*?)^\}$", re.MULTILINE | re.DOTALL)
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\w+|[^\w\s]')


def functions(text):
    """Name → body of each static function of a file: its tokens, and how many lines it has. A call of itself has no name."""
    found = {}
    for name, body in FUNCTION.findall(COMMENT.sub("", text)):
        tokens = tuple("" if token == name else token for token in TOKEN.findall(body))
        found[name] = tokens, len([line for line in body.splitlines() if line.strip()])
    return found


def complaints(texts):
    """The helpers that are defined more than once in files, given by their names."""
    names, bodies = defaultdict(list), defaultdict(list)
    for file, text in sorted(texts.items()):
        for name, (tokens, lines) in functions(text).items():
            names[name].append(file)
            if lines > CHANCE:
                bodies[tokens].append((file, name))
    said = [f"{name}() is defined in {', '.join(files)}" for name, files in names.items() if len(files) > 1]
    said += ["the same is done by " + ", ".join(f"{name}() of {file}" for file, name in places) for places in bodies.values()
             if len({file for file, _ in places}) > 1 and len({name for _, name in places}) > 1]
    return sorted(said)


def check(sources):
    """The complaints about the selftests in a directory."""
    return complaints({path.name: path.read_text() for pattern in ("*.c", "*.h") for path in sources.glob(pattern)})
