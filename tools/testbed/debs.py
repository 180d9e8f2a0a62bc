# SPDX-License-Identifier: GPL-2.0
"""Debian's packages for the machine, each by itself: nothing of ppc64el is installed in the root.

There apt would want each library of one version for both architectures, and a mirror that is behind in one of them lacks
that. So apt only fetches packages and vouches for them (archive). Each is unpacked into a cache entry of its own; the next run
asks again for one that the mirror lacked. The C library comes from the cross compiler's packages.
"""

import contextlib
import hashlib

from steps import CACHE, Failed, HERE, Step

ARCHIVE = HERE / "archive"
DEBS = CACHE / f"debs-{hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()[:12]}"
LIBRARIES = "usr/lib/powerpc64le-linux-gnu"


class Debs:
    """Packages of one architecture, of one series if `series` is given, which a message calls `title`."""

    def __init__(self, names, architecture="ppc64el", series=None, title=None):
        # A package of another series is another package.
        directory = DEBS / (f"{architecture}-{series}" if series else architecture)
        self.paths = {name: directory / name for name in names.split()}
        self.ask = f":{architecture}" + (f"/{series}" if series else "")
        self.asked = False
        self.step = Step(f"fetching {title or ', '.join(self.paths)} ({architecture})", f"debs-{next(iter(self.paths))}.log",
                         self.make)

    def steps(self):
        return [self.step] if self.missing() and not self.asked else []

    def make(self, step):
        missing = self.missing()
        self.asked = True  # once a run
        step.run([ARCHIVE, "download", next(iter(self.paths.values())).parent, *(f"{name}{self.ask}" for name in missing)],
                 **self.how())
        for name in self.missing():
            step.note(self.lack(name))

    def how(self):
        """More for step.run(), from which apt knows where to look."""
        return {}

    def missing(self):
        return [name for name, path in self.paths.items() if not path.exists()]

    def lack(self, *names):
        """Why not all of these packages are here; None if they are."""
        for name in names:
            path = self.paths[name]
            if not path.exists():
                with contextlib.suppress(FileNotFoundError):
                    return path.with_name(f"{name}.lack").read_text().strip() or f"{name} cannot be had"
                return f"{name} was not fetched"
        return None

    def path(self, name, inside=""):
        """A path in a package; fails if it is not here."""
        lack = self.lack(name)
        if lack:
            raise Failed(lack)
        return self.paths[name] / inside


# Of which every machine has busybox, and programs may be linked with the others.
MACHINE = Debs("busybox-static libocxl1 libocxl-dev liburing2 liburing-dev")
TRACING = Debs("trace-cmd libtracefs1 libzstd1 libtraceevent1 libtraceevent-dev")
ZLIB = Debs("zlib1g")
