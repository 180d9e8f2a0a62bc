# SPDX-License-Identifier: GPL-2.0
"""The policies of SELinux that the suite `selinux` loads, made from tools/testing/selinux.

Classes, permissions and the labels of file systems are as the kernel's own mdp ("make dummy policy") prints them, which knows
one type, base_t, that may do everything. Of its classes there are only those that rules name, with any other all may do
everything: the kernel makes a file for each permission when it loads a policy, which with checkers takes seconds. Other domains
may do all with themselves and with base_t, but nothing with anonymous inodes of their own. Then come the rules that are tested.
Of the policy there is one variant for each rule or permission of
those, which lacks it and is else the same: where the one refuses and the other does not, it is for that rule.
"""

import re
import shutil
from pathlib import Path

import debs
from driver import Made
from steps import BUILD, REPO

RULES = REPO / "tools/testing/selinux"
# Those that are tested, of which each has its variant.
TESTED = ["uxive", "unaware"]
CHECKPOLICY = debs.Debs("checkpolicy", "amd64")
STATEMENT = re.compile(r"^(type_transition|allow|allowxperm) [^;]*;\n", re.MULTILINE)
# Of mdp's policy capabilities checkpolicy does not know all. With this one a file's open() is a permission.
CAPABILITY = "policycap open_perms;"


def classes_of(rules):
    """The classes that rules name."""
    return list(dict.fromkeys(re.findall(r"^(?:allow|type_transition) [^;:]* : (\w+)", rules, re.MULTILINE)))


def frame(dummy, classes, rules):
    """A whole policy: of mdp's those classes, and with these rules."""
    # First all are declared, and then each with its permissions.
    dummy = re.sub(rf"^class (?!(?:{'|'.join(classes)})$)\w+\n(?:{{\n[^}}]*}}\n)?", "", dummy, flags=re.MULTILINE)
    lines = [line for line in dummy.splitlines() if not line.startswith(("policycap ", "allow "))]
    types = " ".join(["base_t", *re.findall(r"^type (\w+)", rules, re.MULTILINE)])
    common = [f"allow base_t {{{{ {types} }}}} : {{}} *;", "allow confined base_t : {} *;"]
    ours = [CAPABILITY, *(rule.format(each) for each in classes for rule in common),
            *(f"allow confined self : {each} *;" for each in classes if each != "anon_inode")]
    at = next(number for number, line in enumerate(lines) if line.startswith("user "))
    return "\n".join([*lines[:at], *ours, rules, *lines[at:], ""])


def variants(rules):
    """{name: rules without one permission, or without one rule that gives none}"""
    found = {}
    for statement in STATEMENT.finditer(rules):
        text, kind = statement[0], statement[1]
        head, brace, rest = text.partition(" { ")
        permissions = rest.removesuffix(" };\n").split() if brace and kind == "allow" else []
        for permission in permissions:
            left = " ".join(each for each in permissions if each != permission)
            less = f"{head} {{ {left} }};\n" if left else ""
            found[".".join(re.findall(r"\w+", head)[1:] + [permission])] = rules.replace(text, less)
        if not permissions:
            found[".".join(re.findall(r"[\w-]+", text))] = rules.replace(text, "")
    return found


class Policies(Made):
    """A directory with the policy `whole`, and its variants in `without`."""

    def __init__(self, kernel):
        super().__init__(BUILD / "policies", "building policies of SELinux", "policies.log",
                         {path.name: path.read_bytes() for path in (*sorted(RULES.glob("*.te")), Path(__file__))},
                         str(kernel.path), debs.DEBS.name)
        self.kernel = kernel

    def steps(self):
        fetch = CHECKPOLICY.steps()
        return self.kernel.steps() + fetch + ([self.step] if fetch else super().steps())

    def mark(self):
        return "\n".join(filter(None, [self.hash, self.lack()]))

    def lack(self):
        """Why there are none; None if there are."""
        return CHECKPOLICY.lack("checkpolicy")

    def make(self, step):
        shutil.rmtree(self.path / "without", ignore_errors=True)
        (self.path / "without").mkdir()
        if self.lack():
            return
        dummy = self.path / "dummy"
        step.run([self.kernel.path / "scripts/selinux/mdp/mdp", dummy, self.path / "contexts"])
        read = {name.removesuffix(".te"): content.decode() for name, content in self.contents.items() if name.endswith(".te")}
        tested = "\n".join(read[name] for name in TESTED)
        # Those of all rules, in the variants as well: with a class that is not there all is allowed.
        classes = classes_of(f"{read['domains']}\n{tested}")
        for name, rules in {"whole": tested, **{f"without/{name}": less for name, less in variants(tested).items()}}.items():
            source = self.path / "policy.conf"
            source.write_text(frame(dummy.read_text(), classes, f"{read['domains']}\n{rules}"))
            step.run([CHECKPOLICY.path("checkpolicy", "usr/bin/checkpolicy"), "-U", "allow", "-o", self.path / name, source])

    def files(self):
        """Path in the initramfs → path here."""
        found = {"whole": self.path / "whole"} | {f"without/{path.name}": path for path in (self.path / "without").iterdir()}
        return {} if self.lack() else {f"/policies/{name}": path for name, path in found.items()}
