# SPDX-License-Identifier: GPL-2.0
"""make series: the patches of Linux as series for mailing lists, by series.toml. Nothing is sent.

This needs no Debian root. Lint has check(), of the table and of the mails.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATCHES = HERE / "patches"
TABLE = HERE / "series.toml"
RECORDED = HERE / "recorded.toml"
OUT = HERE.parents[1] / "build/series"
# The first line of a mail, as git has it.
MARK = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001"
SUBJECT = re.compile(r"^Subject: \[PATCH\] (.*)$", re.MULTILINE)
CHANGED = re.compile(r"^\+\+\+ b/(\S+)$", re.MULTILINE)
COLUMNS = 75


def header(text, name):
    return re.search(rf"^{name}: (.*)$", text, re.MULTILINE)[1]


def subject(text):
    return SUBJECT.search(text)[1]


def counted(texts):
    """{file: [lines added, lines removed]} of patches."""
    found = {}
    for text in texts:
        for part in re.split(r"^diff --git ", text, flags=re.MULTILINE)[1:]:
            lines = found.setdefault(CHANGED.search(part)[1], [0, 0])
            body = part.partition("\n@@ ")[2].splitlines()[1:]
            lines[0] += sum(line.startswith("+") for line in body)
            lines[1] += sum(line.startswith("-") for line in body)
    return found


def diffstat(texts):
    found = counted(texts)
    width = max(map(len, found))
    added, removed = (sum(lines[at] for lines in found.values()) for at in (0, 1))
    return "".join(f" {name:{width}} | {sum(lines):3}\n" for name, lines in sorted(found.items())) + \
        f" {len(found)} file{'s' * (len(found) > 1)} changed, {added} insertions(+), {removed} deletions(-)\n"


def address(table, series):
    """The headers To and Cc."""
    listed = {name: ",\n    ".join(table["addresses"][who] for who in series[name]) for name in ("to", "cc")}
    return f"To: {listed['to']}\nCc: {listed['cc']}\n"


def mails(table, series, patches, base):
    """{file: text} of one series; `patches` are the files by number."""
    texts = [patches[number].read_text() for number in series["patches"]]
    written, total = {}, len(texts)
    note = f"{series['text'].strip()}\n\nThis applies to {base}.\n"
    for at, (number, text) in enumerate(zip(series["patches"], texts), 1):
        place = f" {at}/{total}" if total > 1 else ""
        head = f"Subject: [PATCH{place}] {subject(text)}\n{address(table, series)}"
        text = SUBJECT.sub(lambda _: head.rstrip("\n"), text, 1)
        if total == 1:
            text = text.replace("\n---\n", f"\n---\n{note}\n", 1)
        written[f"{at:04}{patches[number].name[4:]}"] = text
    if total > 1:
        author = header(texts[0], "From")
        listed = "".join(f"  {subject(text)}\n" for text in texts)
        written["0000-cover-letter.patch"] = (
            f"{MARK}\nFrom: {author}\nDate: {header(texts[-1], 'Date')}\nSubject: [PATCH 0/{total}] {series['subject']}\n"
            f"{address(table, series)}\n{note}\n{author.partition(' <')[0]} ({total}):\n{listed}\n{diffstat(texts)}")
    return written


def by_number(folder):
    return {path.name[:4]: path for path in sorted(folder.glob("*.patch"))}


def write(table, patches, base, out):
    """Writes all series. Returns the directories."""
    shutil.rmtree(out, ignore_errors=True)
    for series in table["series"]:
        place = out / series["name"]
        place.mkdir(parents=True)
        for name, text in mails(table, series, patches, base).items():
            (place / name).write_text(text)
    return [out / series["name"] for series in table["series"]]


def misplaced(table, numbers):
    """The complaints about patches that are in no series, or in two, and texts with long lines."""
    listed = [number for series in table["series"] for number in series["patches"]]
    said = [f"{number} is in {listed.count(number) or 'no'} series" for number in sorted({*listed, *numbers})
            if listed.count(number) != 1 or number not in numbers]
    for series in table["series"]:
        said += [f"{series['name']}: a line is longer than {COLUMNS}: {line}" for line in series["text"].splitlines()
                 if len(line) > COLUMNS]
        if len(series["patches"]) > 1 and "subject" not in series:
            said.append(f"{series['name']}: its cover letter has no subject")
    return said


def untold(table, shown):
    """The complaints about tests that fail without a patch, [(number, test)], and that the text of its series does not name."""
    return [f"{series['name']}: it does not say that {test} fails without {number}" for series in table["series"]
            for number, test in shown if number in series["patches"] and test not in series["text"]]


def apply(place, path, *options):
    done = subprocess.run(["git", "apply", *options, path], cwd=place, capture_output=True, text=True)
    return done.stderr.strip()


def unpatched(source, patches, place):
    """Puts the files that the patches change there, as they were before all of them."""
    for name in sorted(counted(path.read_text() for path in patches.values())):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, place / name)
    return [f"{path.name} cannot be taken back: {said}" for path in reversed(patches.values())
            if (said := apply(place, path, "-R"))]


def unfit(folder, source, patches):
    """The complaints about a series that does not apply by itself to the source, which has all patches."""
    with tempfile.TemporaryDirectory() as place:
        said = unpatched(source, patches, Path(place))
        return said + [f"{folder.name}: {path.name} does not apply: {wrong}" for path in sorted(folder.glob("*.patch"))
                       if "cover-letter" not in path.name and (wrong := apply(place, path))]


def check(source, shown, out):
    """The complaints about the series, which are written to `out`, with the patched source and the tests that fail without a
    patch."""
    table, patches = tomllib.loads(TABLE.read_text()), by_number(PATCHES)
    said = misplaced(table, list(patches))
    if said:
        return said
    return untold(table, shown) + [line for folder in write(table, patches, "Linux", out)
                                   for line in unfit(folder, source, patches)]


def main():
    base = f"Linux {tomllib.loads(RECORDED.read_text())['versions']['linux']}"
    for folder in write(tomllib.loads(TABLE.read_text()), by_number(PATCHES), base, OUT):
        print(f"{folder.relative_to(HERE.parents[1])}: {len(list(folder.glob('0*')))} files")


if __name__ == "__main__":
    sys.exit(main())
