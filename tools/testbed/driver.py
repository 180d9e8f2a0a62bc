# SPDX-License-Identifier: GPL-2.0
"""Builds from this tree: the driver (out of tree, as drivers/misc/uxive, and its pure part for the host), test modules, the
library, programs, the model of an accelerator.

Sources are copied to where they are built, by content: a fresh clone of the same content builds nothing again, and a file with
an older date but other content is seen. A directory that is built in has two marks: `.made` holds the hash of what it was last
made from, `.making` stands while it is being made; a directory that has it at the start is made from nothing, since a build in
it was killed.
"""

import hashlib
import os
import re
import shutil
import tomllib
from pathlib import Path

import debs
import rust
from kernel import check_config, installed
from steps import BUILD, Failed, REPO, Step, in_mounts

DRIVER = ["Kconfig", "Makefile", "src", "include"]
SOURCES = {"", ".c", ".h", ".rs"}
TESTS = REPO / "tools/testing/selftests/uxive"
DEMO = REPO / "tools/demo"
GUESTS = REPO / "tools/testing/guests"
# Of the documentation, in C and in Rust.
SHOWN = REPO / "tools/uxive/examples"
# Each has programs in C.
PROGRAMS = [TESTS, DEMO, GUESTS, SHOWN]
MODULES = REPO / "tools/testing/modules"
ROOMS = REPO / "tools/testing/host"
# Lay the driver into a kernel's source.
LAYING = [REPO / "tools/install/in-tree", REPO / "tools/install/MAINTAINERS"]
LIBRARY = REPO / "tools/uxive/src/lib.rs"
VERSION = tomllib.loads((REPO / "tools/uxive/Cargo.toml").read_text())["package"]["version"]
LIBRARY_OPTIONS = ["--crate-name=uxive", '--cfg=feature="std"']
COMMAND = REPO / "tools/uxive/src/bin/uxive/main.rs"
COMMAND_OPTIONS = ["--crate-name=uxive_command"]
# As cargo has it.
COMMAND_ENVIRONMENT = {"CARGO_PKG_VERSION": VERSION}
VMM = REPO / "tools/vmm/src/lib.rs"
VMM_OPTIONS = ["--crate-name=vmm"]
# Of the library and of the VMM.
EXAMPLES = sorted(REPO.glob("tools/*/examples/*.rs"))
RUST = ["--edition=2021", "-O"]
# Of the driver, of the library, of the accelerator's model and of a module for tests, for programs.
HEADERS = ["include/uapi", "tools/uxive/include", "tools/afu-model/include", "tools/testing/modules/consumer"]
# Of the library, of the VMM and of their examples.
CRATES = [f"tools/{crate}/{part}" for crate in ("uxive", "vmm") for part in ("src", "examples")]
MODEL = REPO / "tools/afu-model/src/main.rs"
MODEL_OPTIONS = ["--crate-name=afu_model"]
CROSS = ["powerpc64le-linux-gnu-gcc", "-pthread", "-O2", "-Wall", "-Wextra"]
# Packages of debs.MACHINE that a program with this line needs, and its linker options. All other programs take STATIC.
LINK = {"#include <libocxl.h>": ("libocxl-dev libocxl1", ["-l:libocxl.so.1"]),
        "#include <liburing.h>": ("liburing-dev", ["-static", "-luring"])}
STATIC = ["-static"]


def files(top, names):
    """Relative path → content of the source files called `names` below `top`, or in directories called so."""
    paths = sorted(path for name in names for path in [top / name, *(top / name).rglob("*")])
    return {str(path.relative_to(top)): path.read_bytes()
            for path in paths if path.is_file() and path.suffix in SOURCES and not path.name.startswith(".")}


def content_hash(contents, *more):
    state = hashlib.sha256()
    for name, content in contents.items():
        state.update(b"%s\0%d\0%s" % (name.encode(), len(content), content))
    for text in more:
        state.update(text.encode() + b"\0")
    return state.hexdigest()


def write(contents, directory):
    """Brings the files into the directory, and leaves alone those that are the same."""
    for name, content in contents.items():
        path = directory / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Made:
    """A directory that is made from `contents`; subclasses say how in make()."""

    def __init__(self, path, title, log, contents, *more):
        self.path = path
        self.contents = contents
        self.hash = content_hash(contents, *more)
        self.names = "\n".join(contents)
        self.step = Step(title, log, self.work)

    def current(self):
        """Is it made, and up to date with its sources?"""
        made = self.path / ".made"
        return made.exists() and made.read_text() == self.mark()

    def mark(self):
        return self.hash

    def steps(self):
        return [] if self.current() else [self.step]

    def work(self, step):
        making, made, names = self.path / ".making", self.path / ".made", self.path / ".names"
        # Kbuild would continue from leftovers of a deleted source, or of another kernel.
        if making.exists() or (names.exists() and names.read_text() != self.names):
            shutil.rmtree(self.path)
        if not self.path.exists():
            self.path.mkdir(parents=True)
            making.touch()
            self.seed(step)
        making.touch()
        made.unlink(missing_ok=True)
        names.write_text(self.names)
        try:
            self.make(step)
        except Failed:
            making.unlink()  # make itself removes what it failed to make
            raise
        made.write_text(self.mark())
        making.unlink()

    def seed(self, step):
        pass


class Module(Made):
    """A directory of sources as an external module (M=) of one kernel."""

    def __init__(self, kernel, name, top, names, make_options=()):
        super().__init__(BUILD / kernel.variant / name, f"building {name} for kernel {kernel.variant}",
                         f"{name}-{kernel.variant}.log", files(top, names), str(kernel.path), *make_options)
        # Kbuild goes by dates, and a kernel out of the cache may be older than what was built for another.
        self.names += f"\n{kernel.path}"
        self.kernel = kernel
        self.top = top
        self.options = make_options
        self.ko = self.path / f"{name}.ko"

    def steps(self):
        return self.kernel.steps() + super().steps()

    def make(self, step):
        write(self.contents, self.path)
        mounts = [(self.kernel.source.path, "/linux"), (self.kernel.path, "/obj")]
        step.run([*self.kernel.make, "-C", "/obj", f"M={self.path}", *self.options, "modules"], mounts)


def out_of_tree(kernel):
    return Module(kernel, "uxive", REPO, DRIVER, ("CONFIG_UXIVE=m",))


def test_modules(kernel, names=None):
    """tools/testing/modules/*, each a directory with a Makefile that builds a module of its name: all, or those named."""
    return [Module(kernel, path.parent.name, path.parent, ["."])
            for path in sorted(MODULES.glob("*/Makefile")) if names is None or path.parent.name in names]


class InTree(Made):
    """The kernel with the driver as drivers/misc/uxive, CONFIG_UXIVE=`value`, continued from the kernel's own build.

    The source shares its files with the kernel's, and has the driver laid into it as `make in-tree` does. It lives in the
    kernel's entry of the cache, for a new clone to continue from.
    """

    def __init__(self, kernel, value):
        self.variant = f"{kernel.variant}-{'builtin' if value == 'y' else 'in-tree'}"
        super().__init__(kernel.path.with_name(f"{kernel.path.name}-tree-{value}"),
                         f"building kernel {kernel.variant} with CONFIG_UXIVE={value}", f"kernel-{self.variant}.log",
                         files(REPO, DRIVER), *map(Path.read_text, LAYING))
        self.kernel = kernel
        self.config = f"{kernel.config}\nCONFIG_UXIVE={value}\n"
        self.source = self.path / "source"
        self.obj = self.path / "obj"
        self.ko = self.obj / "drivers/misc/uxive/uxive.ko"

    def steps(self):
        return self.kernel.steps() + super().steps()

    def seed(self, step):
        step.run(["cp", "-al", self.kernel.source.path, self.source])
        step.run(["cp", "-a", "--reflink=auto", self.kernel.path, self.obj])

    def make(self, step):
        step.run([LAYING[0], self.source])
        mounts = [(self.source, "/linux"), (self.obj, "/obj")]
        (self.obj / "fragments").write_text(self.config)
        step.run([*self.kernel.make, "-C", "/linux", "O=/obj", "KCONFIG_ALLCONFIG=/obj/fragments", "allnoconfig"], mounts)
        check_config(self.config, (self.obj / ".config").read_text(), self.variant)
        step.run([*self.kernel.make, "-C", "/obj", "vmlinux", "modules"], mounts)


class KUnit(Made):
    """The kernel's source with the driver laid into it, for the kernel's own kunit.py."""

    def __init__(self, source):
        super().__init__(source.entry / "kunit", "laying the driver into a kernel's source", "kunit.log", files(REPO, DRIVER),
                         *map(Path.read_text, [*LAYING, REPO / ".kunitconfig"]))
        self.kernel = source
        self.source = self.path / "source"
        self.obj = self.path / "obj"

    def steps(self):
        return self.kernel.steps() + super().steps()

    def seed(self, step):
        step.run(["cp", "-al", self.kernel.path, self.source])
        self.obj.mkdir()

    def make(self, step):
        step.run([LAYING[0], self.source])

    def command(self):
        """Builds a kernel for a machine of QEMU that is no powernv, where all suites run that need no XIVE, and runs them."""
        return in_mounts([(self.source, "/linux"), (self.obj, "/obj")], [
            "env", "--chdir=/linux", "tools/testing/kunit/kunit.py", "run", "--arch=powerpcle", "--make_options=LLVM=1",
            "--cross_compile=powerpc64le-linux-gnu-", "--kunitconfig=drivers/misc/uxive", "--build_dir=/obj"])


class Rooms(Made):
    """The pure rooms of src/, for this machine, with their unit tests. tools/testing/host stands in for the kernel crate; only
    zerocopy is the kernel's own. The numbers and structures of the user interface are those that are built for `module`."""

    def __init__(self, module):
        super().__init__(BUILD / "rooms", "building the pure rooms", "rooms.log", files(REPO, ["src", "tools/testing/host"]),
                         rust.version(), module.hash, *RUST)
        self.module = module
        self.kernel = module.kernel
        self.tests = self.path / "tests"
        self.environment = {"UXIVE_UAPI": str(module.path / "src/uapi_generated.rs")}

    def steps(self):
        return self.module.steps() + super().steps()

    def options(self, *crates):
        """Options of a crate that uses these crates of ours, which are files here."""
        built = self.kernel.path / "rust"
        return [f"-Ldependency={self.path}", f"-Ldependency={built}", f"--extern=zerocopy={self.path}/libzerocopy.rlib",
                f"--extern=zerocopy_derive={built}/libzerocopy_derive.so",
                *(f"--extern={crate.split('.')[0].removeprefix('lib')}={self.path}/{crate}" for crate in crates)]

    def sources(self):
        """The crates, in the order in which they can be built, each with its options."""
        return [("macros.rs", ["--crate-type=proc-macro", *self.options()]),
                ("kernel.rs", ["--crate-type=rlib", *self.options("libmacros.so")]),
                ("lib.rs", ["--test", "--crate-name=rooms", *self.options("libkernel.rlib")])]

    def make(self, step):
        zerocopy = self.kernel.source.path / "rust/zerocopy/src/lib.rs"
        version = re.search(r"^zerocopy-envs := \\\n\s*(CARGO_PKG_VERSION=\S+)$",
                            (self.kernel.source.path / "rust/Makefile").read_text(), re.MULTILINE)
        if not version:
            raise Failed("rust/Makefile of this kernel does not tell the version of zerocopy")
        step.run(["env", version[1], "rustc", *RUST, "--crate-type=rlib", "--crate-name=zerocopy", "--cap-lints=allow",
                  "--cfg=no_fp_fmt_parse", zerocopy, "-o", self.path / "libzerocopy.rlib"])
        environment = ["env", *(f"{name}={value}" for name, value in self.environment.items())]
        for source, options in self.sources():
            out = ["-o", self.tests] if "--test" in options else ["--out-dir", self.path]
            step.run([*environment, "rustc", *RUST, *options, ROOMS / source, *out])

    def commands(self):
        """The commands that run the tests."""
        return [[self.tests]]


class Programs(Made):
    """ppc64le programs: the tests, in C and in Rust, the demonstration as demo-<name>, those of `make guests` as
    guests-<name>, and as tools the command uxive and the examples, as example-<name>, or in C as example-<name>-c.

    They are linked statically, except for those that include <libocxl.h>: Debian's libocxl is a shared library only. A program
    whose library cannot be had is not built, and lacks() says why.
    """

    def __init__(self, kernel):
        self.std = rust.Std()
        self.crates = rust.Crates(self.std)
        super().__init__(BUILD / "programs", "building programs", "programs.log",
                         {f"{top.name}/{name}": content for top in PROGRAMS for name, content in files(top, ["."]).items()}
                         | files(REPO, [*HEADERS, *CRATES]), kernel.source.key,
                         self.std.path.name, self.crates.path.name, installed("gcc*powerpc64le*", "libc6-dev-ppc64el-cross"),
                         debs.DEBS.name, VERSION, *CROSS, str(LINK), *STATIC, *RUST, *LIBRARY_OPTIONS,
                         *COMMAND_OPTIONS, *VMM_OPTIONS)
        self.kernel = kernel
        self.left_out = None
        self.library = self.path / "libuxive.rlib"
        self.vmm = self.path / "libvmm.rlib"
        self.sources = {self.name(path): path for top in PROGRAMS for path in sorted(top.glob("*.c"))}
        self.tools = {name: self.path / name for name in (
            "uxive", *(f"example-{path.stem}" for path in EXAMPLES), *map(self.name, sorted(SHOWN.glob("*.c"))))}

    def steps(self):
        fetch = debs.MACHINE.steps()
        # The packages that are fetched decide which programs can be built.
        return self.kernel.steps() + self.crates.steps() + fetch + ([self.step] if fetch else super().steps())

    def work(self, step):
        # Another process may have fetched a package by now: the programs left out are those that still lack one.
        self.left_out = self.lacks()
        if not self.current():
            super().work(step)

    def mark(self):
        return "\n".join([self.hash, *self.lacks()])

    def lacks(self):
        """The C programs that cannot be built, by name, and why."""
        if self.left_out is not None:
            return self.left_out
        found = {name: debs.MACHINE.lack(*self.how(path)[0].split()) for name, path in self.sources.items()}
        return {name: lack for name, lack in found.items() if lack}

    def in_bin(self):
        """The tools, as files of a machine. Path in the initramfs → path here."""
        return {f"/bin/{name}": path for name, path in self.tools.items()}

    @staticmethod
    def name(path):
        if path.parent == SHOWN:
            return f"example-{path.stem}-c"
        return path.stem if path.parent == TESTS else f"{path.parent.name}-{path.stem}"

    @property
    def tests(self):
        """Those that are built, by name."""
        return self.built(TESTS)

    @property
    def demo(self):
        return self.built(DEMO)

    @property
    def guests(self):
        return self.built(GUESTS)

    def built(self, top):
        names = [*(name for name, path in self.sources.items() if path.parent == top),
                 *(path.stem for path in top.glob("*.rs"))]
        return {name: self.path / name for name in sorted(names) if name not in self.lacks()}

    def options(self):
        """Options of a program that uses the library or the VMM."""
        return [*self.vmm_options(), f"--extern=uxive={self.library}", f"--extern=vmm={self.vmm}"]

    def vmm_options(self):
        """Options of the VMM itself."""
        return [*self.std.rustc()[1:], *self.crates.options()]

    def how(self, path):
        """The packages that a C program needs, and how it is linked."""
        text = path.read_text()
        return next((how for line, how in LINK.items() if line in text), ("", STATIC))

    def compilations(self):
        """The commands that compile the source of each C program that can be built."""
        lacks = self.lacks()
        include = ["-isystem", self.kernel.path / "usr/include", "-isystem",
                   self.kernel.source.path / "tools/testing/selftests", *(f"-I{REPO / name}" for name in HEADERS)]
        return [[*CROSS, *include, *(option for package in self.how(path)[0].split()
                                     for option in ("-isystem", debs.MACHINE.path(package, "usr/include"))), path]
                for name, path in self.sources.items() if name not in lacks]

    def make(self, step):
        for name, lack in self.lacks().items():
            step.note(f"{name} is not built: {lack}")
        for command in self.compilations():
            path = command[-1]
            packages, link = self.how(path)
            step.run([*command, *(f"-L{debs.MACHINE.path(package, debs.LIBRARIES)}" for package in packages.split()), *link,
                      "-o", self.path / self.name(path)])
        step.run([*self.std.rustc(), *RUST, *self.crates.options(), *LIBRARY_OPTIONS, "--crate-type=rlib", LIBRARY,
                  "-o", self.library])
        step.run(["rustc", *RUST, *self.vmm_options(), *VMM_OPTIONS, "--crate-type=rlib", VMM, "-o", self.vmm])
        rustc = ["rustc", *RUST, *self.options()]
        step.run([*rustc, *COMMAND_OPTIONS, COMMAND, "-o", self.tools["uxive"]], env=os.environ | COMMAND_ENVIRONMENT)
        for path in TESTS.glob("*.rs"):
            step.run([*rustc, path, "-o", self.path / path.stem])
        for path in EXAMPLES:
            step.run([*rustc, path, "-o", self.tools[f"example-{path.stem}"]])


class LibraryTests(Made):
    """The unit tests of the library and of the command, for this machine, and the library itself for the examples in its
    documentation."""

    def __init__(self):
        self.crates = rust.Crates()
        super().__init__(BUILD / "library-tests", "building the library's tests", "library-tests.log",
                         files(REPO, ["tools/uxive/src"]), rust.version(), self.crates.path.name, VERSION, *RUST,
                         *LIBRARY_OPTIONS, *COMMAND_OPTIONS)
        self.library = self.path / "libuxive.rlib"
        self.tests = self.path / "tests"
        self.command_tests = self.path / "command-tests"

    def steps(self):
        return self.crates.steps() + super().steps()

    def options(self):
        """Options of a program that uses the library."""
        return [*self.crates.options(), f"--extern=uxive={self.library}"]

    def make(self, step):
        for kind, out in (["--crate-type=rlib"], self.library), (["--test"], self.tests):
            step.run(["rustc", *RUST, *LIBRARY_OPTIONS, *self.crates.options(), *kind, LIBRARY, "-o", out])
        step.run(["rustc", *RUST, *COMMAND_OPTIONS, *self.options(), "--test", COMMAND, "-o", self.command_tests],
                 env=os.environ | COMMAND_ENVIRONMENT)

    def commands(self):
        """The commands that run them."""
        return [[self.tests, "--test-threads=1"], [self.command_tests],
                ["rustdoc", "--test", "--edition=2021", *LIBRARY_OPTIONS, *self.options(), LIBRARY]]


class VmmTests(Made):
    """The unit tests of the VMM, for this machine: of its parts that are not for POWER only. They compare its definitions with
    the kernel's <linux/kvm.h>, which bindgen reads as powerpc has it."""

    def __init__(self, kernel):
        self.crates = rust.Crates()
        super().__init__(BUILD / "vmm-tests", "building the VMM's tests", "vmm-tests.log", files(REPO, ["tools/vmm/src"]),
                         rust.version(), self.crates.path.name, kernel.source.key, *RUST, *VMM_OPTIONS)
        self.kernel = kernel
        self.tests = self.path / "tests"
        self.header = self.path / "kvm.rs"
        self.environment = {"VMM_KVM": str(self.header)}

    def steps(self):
        return self.kernel.steps() + self.crates.steps() + super().steps()

    def options(self):
        return [*VMM_OPTIONS, *self.crates.options(), "--test"]

    def make(self, step):
        include = self.kernel.path / "usr/include"
        step.run(["bindgen", include / "linux/kvm.h", "--allowlist-type=kvm_.*", "--allowlist-var=KVM_.*", "--no-layout-tests",
                  "--no-doc-comments", "--with-derive-default", "--use-core", "--clang-macro-fallback",
                  "--clang-macro-fallback-build-dir", self.path, "-o", self.header,
                  "--", "-isystem", include, "--target=powerpc64le-linux-gnu"])
        step.run(["env", f"VMM_KVM={self.header}", "rustc", *RUST, *self.options(), VMM, "-o", self.tests])

    def commands(self):
        """The commands that run them."""
        return [[self.tests]]


class AfuModel(Made):
    """The model of an accelerator, for this machine, and its unit tests."""

    def __init__(self):
        self.crates = rust.Crates()
        super().__init__(BUILD / "afu-model", "building the AFU model", "afu-model.log", files(REPO, ["tools/afu-model/src"]),
                         rust.version(), self.crates.path.name, *RUST, *MODEL_OPTIONS)
        self.program = self.path / "afu-model"
        self.tests = self.path / "tests"

    def steps(self):
        return self.crates.steps() + super().steps()

    def options(self):
        return [*MODEL_OPTIONS, *self.crates.options()]

    def make(self, step):
        for kind, out in ([], self.program), (["--test"], self.tests):
            step.run(["rustc", *RUST, *self.options(), *kind, MODEL, "-o", out])

    def commands(self):
        """The commands that run its tests."""
        return [[self.tests]]
