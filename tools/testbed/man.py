# SPDX-License-Identifier: GPL-2.0
"""Do the manual pages tell all of the command, and is their program one that is built?

uxive(1) must name each option and each exit status that the command's help has, and each member of its JSON. The program of
uxive(7) must be that of the demonstration.
"""

import re

HELP = re.compile(r'^pub\(crate\) const HELP: &str = "\\\n(.*?)^";|^const HELP: &str = "\\\n(.*?)^";', re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])(--[a-z]+|-[A-Za-z])\b")
STATUS = re.compile(r"^    (\d)  ", re.MULTILINE)
MEMBER = re.compile(r'\\"(\w+)\\": ')
FLAG = re.compile(r"\bFl (?:(Fl) )?(\w+)")
SECTION = re.compile(r"^\.Sh (.*)\n((?:(?!\.Sh ).*\n)*)", re.MULTILINE)
LITERAL = re.compile(r"^\.Bd -literal\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)


def helps(source):
    """The help that a source of the command has."""
    return ["".join(filter(None, found)) for found in HELP.findall(source)]


def told(page):
    """The options, exit statuses and names that a page has."""
    sections = dict(SECTION.findall(page))
    options = {("--" if long else "-") + name for long, name in FLAG.findall(page)}
    statuses = set(re.findall(r"^\.It (\d)$", sections.get("EXIT STATUS", ""), re.MULTILINE))
    members = {word for line in re.findall(r"^\.(?:It )?Li (.*)$", sections.get("JSON", ""), re.MULTILINE)
               for word in line.split()}
    return options, statuses, members


def lacks(sources, page):
    """The complaints about a page that lacks something of the command's sources, or has an option too many."""
    options, statuses, members = told(page)
    text = "".join(each for source in sources for each in helps(source))
    if not text:
        return ["the command has no help"]
    code = "".join(source.partition("#[cfg(test)]")[0] for source in sources)
    return [*(f"it lacks the option {name}" for name in sorted(set(OPTION.findall(text)) - options)),
            *(f"the command has no option {name}" for name in sorted(options - set(OPTION.findall(text)))),
            *(f"it lacks the exit status {name}" for name in sorted(set(STATUS.findall(text)) - statuses)),
            *(f"it lacks {name} of JSON" for name in sorted(set(MEMBER.findall(code)) - members))]


def programs(page):
    """The programs that a page shows."""
    return [re.sub(r"^\\&", "", text, flags=re.MULTILINE).replace(r"\-", "-").replace(r"\e", "\\")
            for text in LITERAL.findall(page) if "#include" in text]


def check(sources, command, tutorial, program):
    """The complaints about uxive(1), `command`, and uxive(7), `tutorial`, whose program has another comment at its head."""
    said = [f"{command.name}: {line}" for line in lacks([source.read_text() for source in sources], command.read_text())]
    if programs(tutorial.read_text()) != [program.read_text().partition("*/\n")[2]]:
        said.append(f"{tutorial.name}: its program is not {program.name}")
    return said
