# SPDX-License-Identifier: GPL-2.0
"""Kernels: Debian's source with our patches, and one build of it per variant (base, debug, bench), by clang. One more (gcc)
is prepared by gcc, for modules.

Entries of the cache, each named for a hash of what it is made from (this file included), made beside and renamed when
complete, and never written again:

  linux-<hash>/source             the patched source
  linux-<hash>/<variant>-<hash>   a build (O=) of it

Every build sees the source at /linux and itself at /obj, so that it may be copied and continued elsewhere.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from steps import CACHE, Failed, HERE, Step, jobs

# The packages that build a kernel and modules for it.
PACKAGES = ["bindgen", "bison", "clang*", "flex", "gcc*", "libc6-dev*", "libclang*", "libelf*", "libssl*", "lld*", "llvm*",
            "linux-source-*", "rust-src", "rustc"]
MAKE = ["make", "ARCH=powerpc", "KBUILD_BUILD_USER=uxive", "KBUILD_BUILD_HOST=testbed", jobs()]
# Those that machines boot.
VARIANTS = ["base", "debug", "bench"]


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def installed(*packages):
    """The versions of the packages of the root that are called so; a name may have a *."""
    return subprocess.run(["dpkg-query", "-W", *packages], check=True, capture_output=True, text=True).stdout


class Source:
    def __init__(self):
        self.patches = sorted((HERE / "patches").glob("*.patch"))
        recipe = (HERE / "kernel.py").read_text()
        self.key = digest(installed(*PACKAGES), recipe, *map(change, self.patches))
        self.entry = CACHE / f"linux-{self.key}"
        self.path = self.entry / "source"
        self.step = Step("unpacking the kernel source", "source.log", self.make)

    def steps(self):
        return [] if self.path.exists() else [self.step]

    def make(self, step):
        making = self.entry / "source.tmp"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        # The root has one.
        step.run(["tar", "-C", making, "--strip-components=1", "-xf", *Path("/usr/src").glob("linux-source-*.tar.xz")])
        for patch in self.patches:
            if patches_cleanly(making, patch):
                step.run(["patch", "-d", making, "-p1", "-f", "-i", patch])
            elif patches_cleanly(making, patch, "-R"):
                step.note(f"{patch.name} is skipped, this source has it")
            else:
                raise Failed(f"{patch.name} does not apply to this kernel's source, and is not in it either")
        (making / "drivers/misc/uxive").mkdir()  # what a build with the driver in the tree is mounted on
        making.rename(self.path)


def change(patch):
    """A patch without its message."""
    text = patch.read_text()
    return text.partition("\n---\n")[2] or text


def patches_cleanly(tree, patch, *options):
    return subprocess.run(["patch", "-d", tree, "-p1", "-f", "--dry-run", *options, "-i", patch],
                          stdout=subprocess.DEVNULL).returncode == 0


class Kernel:
    make = [*MAKE, "LLVM=1"]

    def __init__(self, source, variant):
        self.source = source
        self.variant = variant
        fragments = dict.fromkeys(["base", variant])
        self.config = "".join((HERE / "configs" / f"{name}.config").read_text() for name in fragments)
        self.path = source.entry / f"{variant}-{digest(*map('='.join, settings(self.config).items()))}"
        self.step = Step(f"building kernel {variant}", f"kernel-{variant}.log", self.build)

    def steps(self):
        return [] if self.path.exists() else [*self.source.steps(), self.step]

    def build(self, step):
        making = self.path.with_suffix(".tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        (making / "fragments").write_text(self.config)
        mounts = [(self.source.path, "/linux"), (making, "/obj")]
        step.run([*self.make, "-C", "/linux", "O=/obj", "KCONFIG_ALLCONFIG=/obj/fragments", "allnoconfig"], mounts)
        check_config(self.config, (making / ".config").read_text(), self.variant)
        self.compile(step, making, mounts)
        making.rename(self.path)

    def compile(self, step, making, mounts):
        step.run([*self.make, "-C", "/obj", "vmlinux", "modules", "headers"], mounts)


class PreparedByGcc(Kernel):
    """A kernel that gcc configures, and builds as far as modules need it: generated headers, bindgen's bindings, rust/.

    Its vmlinux is not built: that takes minutes, and modules need only the list of exported symbols. The list is taken from
    base, which has the same source and the same configuration except for gcc.config. Without MODVERSIONS an entry is only a
    name.
    """
    make = [*MAKE, "CROSS_COMPILE=powerpc64le-linux-gnu-"]

    def __init__(self, base):
        super().__init__(base.source, "gcc")
        self.base = base

    def steps(self):
        return [*self.base.steps(), *super().steps()]

    def compile(self, step, making, mounts):
        step.run([*self.make, "-C", "/obj", "modules_prepare"], mounts)
        shutil.copy(self.base.path / "Module.symvers", making)


def settings(config):
    """CONFIG_… → value; what "is not set" is "n"."""
    values = {}
    for line in config.splitlines():
        if line.startswith("CONFIG_"):
            name, value = line.split("=", 1)
            values[name] = value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            values[line.split()[1]] = "n"
    return values


def check_config(wanted, got, variant):
    """Kconfig drops what it cannot set without a word; a line that did not take is a mistake of ours."""
    got = settings(got)
    lost = [f"{name}={value} (is {got.get(name, 'n')})"
            for name, value in settings(wanted).items() if got.get(name, "n") != value]
    if lost:
        raise Failed(f"config {variant}: did not take: {', '.join(lost)}")
