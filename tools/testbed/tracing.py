# SPDX-License-Identifier: GPL-2.0
"""trace-cmd and perf for the suite `tracing`: Debian's trace-cmd, and the perf of the kernel that is tested.

Debian's perf needs twenty libraries, each of which a mirror may lack for a while; this one needs one. No other suite waits for
them or misses them. perf and libz are entries of the cache.
"""

import os
import shutil
from pathlib import Path

from debs import DEBS, LIBRARIES, TRACING, ZLIB
from guest import program_files
from kernel import digest, installed
from steps import CACHE, Failed, HERE, Step, jobs

CROSS = "powerpc64le-linux-gnu-"
# Of what perf can do it is to record and to show trace events.
PERF = ["NO_LIBELF=1", "NO_ZLIB=1", "NO_JEVENTS=1", "NO_RUST=1", "NO_SHELLCHECK=1", "NO_LIBPYTHON=1", "NO_LIBPERL=1",
        "LDFLAGS=-static"]


class Tracing:
    def __init__(self, source):
        recipe = Path(__file__).read_text()
        self.source = source
        self.no_source = False  # of zlib
        self.perf = CACHE / f"perf-{digest(source.key, DEBS.name, recipe)}"
        self.libz = CACHE / f"libz-{digest(installed('gcc*powerpc64le*'), recipe)}"
        self.perf_step = Step("building perf", "perf.log", self.make_perf)
        self.libz_step = Step("building libz", "libz.log", self.make_libz)

    def steps(self):
        perf = [] if self.perf.exists() else [self.perf_step]
        libz = [] if self.libz.exists() or not ZLIB.steps() else [*ZLIB.steps(), self.libz_step]
        return [*self.source.steps(), *TRACING.steps(), *perf, *libz]

    def make_perf(self, step):
        if TRACING.lack("libtraceevent-dev"):
            return
        library = TRACING.path("libtraceevent-dev")
        making = self.perf.with_suffix(".tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        environment = os.environ | {"PKG_CONFIG_SYSROOT_DIR": str(library),
                                    "PKG_CONFIG_LIBDIR": str(library / LIBRARIES / "pkgconfig")}
        self.attempt("perf", step, making / "perf", self.perf,
                     ["make", "-C", self.source.path / "tools/perf", f"O={making}", "ARCH=powerpc", f"CROSS_COMPILE={CROSS}",
                      "PKG_CONFIG=pkgconf", *PERF, jobs(), making / "perf"], env=environment)

    def make_libz(self, step):
        if not ZLIB.lack("zlib1g"):
            return
        making = self.libz.with_suffix(".tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        build = ("tar --strip-components=1 -xf *.tar.*; CHOST=powerpc64le-linux-gnu ./configure --shared;"
                 "make $(sed -n 's/^SHAREDLIBV=//p' Makefile)")
        try:
            step.run([HERE / "archive", "source", making, "zlib"])
        except Failed:
            self.no_source = True
            return
        self.attempt("trace-cmd", step, making / "libz.so.1", self.libz, ["sh", "-ec", f"cd {making}; {build}"])

    def attempt(self, tool, step, result, entry, command, **keywords):
        """Makes an entry of the cache, of one file. Other suites do not wait for what comes of it."""
        try:
            step.run(command, **keywords)
        except Failed as failed:
            step.note(f"without {tool}: {failed}")
        else:
            complete = entry.with_suffix(".new")
            shutil.rmtree(complete, ignore_errors=True)
            complete.mkdir()
            shutil.copy(result, complete)
            complete.rename(entry)
        shutil.rmtree(result.parent)

    def lacks(self):
        """Tools that cannot be had here, and why. One that could not be built is none of them: its tests fail."""
        found = {"perf": None if self.perf.exists() else TRACING.lack("libtraceevent-dev"),
                 "trace-cmd": TRACING.lack("trace-cmd", "libtracefs1", "libzstd1", "libtraceevent1")
                 or (None if self.libz.exists() else self.no_source and ZLIB.lack("zlib1g"))}
        return {tool: lack for tool, lack in found.items() if lack}

    def files(self):
        """Path in the initramfs → path here."""
        found = {}
        if self.perf.exists():
            found["/bin/perf"] = self.perf / "perf"
        if "trace-cmd" not in self.lacks() and (self.libz.exists() or not ZLIB.lack("zlib1g")):
            found["/bin/trace-cmd"] = TRACING.path("trace-cmd", "usr/bin/trace-cmd")
            found |= program_files(found["/bin/trace-cmd"], TRACING, [ZLIB.paths["zlib1g"] / LIBRARIES, self.libz])
        return found
