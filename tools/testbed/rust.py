# SPDX-License-Identifier: GPL-2.0
"""Rust's standard library for programs in the machine, and how they are compiled.

Debian has it as libstd-rust-dev:ppc64el, which must be of the compiler's very version, hence from backports. But mirrors
have had the index of ppc64el there older than what its Release file signs, and without an index nothing vouches for a
package. The library's source is in the root, for the kernel's Rust is built from it, and is that of the compiler. So the
library is built: half a minute, no network, no second version that could differ. It is what `cargo -Zbuild-std` does,
without cargo, which the root lacks.

Also here: the crates that our own in Rust use, and their dependencies. Their sources are Debian packages.

Entries of the cache, rust-<hash> and rust-crates-<for whom>-<hash>, each named for what it is made from (this file
included), made beside and renamed when complete.
"""

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from kernel import digest, installed
from steps import CACHE, Failed, Step

TARGET = "powerpc64le-unknown-linux-gnu"
LIBRARY = Path("/usr/lib/rustlib/src/rust/library")
REGISTRY = Path("/usr/share/cargo/registry")
# The library uses what is not stable, and its warnings are not ours.
OPTIONS = ["--crate-type=rlib", f"--target={TARGET}", "-O", "-Cembed-bitcode=no", "-Zforce-unstable-if-unmarked",
           "--cap-lints=allow"]
# Variables that build scripts and cargo would set for the crates.
ENVIRONMENT = {"RUSTC_BOOTSTRAP": "1", "STD_ENV_ARCH": "powerpc64", "CFG_CARGO_FEATURES": "[]", "CFG_OPT_LEVEL": "3",
               "CFG_TARGET_FEATURES": "[]"}


@dataclass(frozen=True)
class Crate:
    """A crate: its directory, those it uses, as [name by which it knows it=]crate, and what it is told."""
    path: str
    uses: str = ""
    features: str = ""
    options: tuple = ()
    top: Path = LIBRARY

    def manifest(self):
        found = list(self.top.glob(self.path + "/Cargo.toml"))
        if len(found) != 1:
            raise Failed(f"{self.top} has {len(found)} directories {self.path}; tools/testbed/rust.py knows another version")
        return found[0]

    def compile(self, step, options, out, env=None):
        """Into `out`, where the crates that it uses are already."""
        manifest = self.manifest()
        package = tomllib.loads(manifest.read_text())
        name = package["package"]["name"].replace("-", "_")
        uses = [use.rpartition("=") for use in self.uses.split()]
        step.run(["rustc", manifest.parent / package.get("lib", {}).get("path", "src/lib.rs"), f"--crate-name={name}",
                  f"--edition={package['package'].get('edition', '2015')}", *options,
                  *(f"--extern={known or use}={out}/lib{use}.rlib" for known, _, use in uses),
                  *(f'--cfg=feature="{feature}"' for feature in self.features.split()), *self.options,
                  f"-o{out}/lib{name}.rlib"], env=env)


# In the order in which they can be built. Not there: backtraces, and what other systems need.
CORE, ALLOC = "core=rustc_std_workspace_core", "alloc=rustc_std_workspace_alloc"
CRATES = [
    Crate("core"),
    Crate("compiler-builtins/compiler-builtins", "core", "compiler-builtins unstable-intrinsics",
          ("--cfg=intrinsics_enabled", "--cfg=arch_enabled", "--cfg=optimizations_enabled", "-Ccodegen-units=10000")),
    Crate("rustc-std-workspace-core", "core compiler_builtins"),
    Crate("alloc", "core compiler_builtins"),
    Crate("rustc-std-workspace-alloc", "alloc"),
    Crate("vendor/cfg-if-*", CORE, "rustc-dep-of-std"),
    Crate("vendor/libc-*", "rustc_std_workspace_core", "rustc-dep-of-std"),
    Crate("vendor/rustc-demangle-*", CORE, "rustc-dep-of-std"),
    Crate("vendor/hashbrown-*", f"{CORE} {ALLOC}", "rustc-dep-of-std nightly rustc-internal-api"),
    Crate("std_detect", f"{CORE} {ALLOC} libc"),
    Crate("unwind", f"{CORE} libc"),
    Crate("panic_unwind", f"{CORE} alloc libc unwind"),
    Crate("panic_abort", CORE, options=("-Cpanic=abort",)),
    Crate("std", "core alloc compiler_builtins cfg_if libc rustc_demangle hashbrown std_detect unwind panic_unwind panic_abort",
          "panic-unwind", ("--cfg=backtrace_in_libstd",)),
]

# rustix is told what its build.rs finds for powerpc64le. On powerpc it calls the C library, as its own system calls in assembly
# are experimental there. It calls the C library on this machine as well, so that the same code is tested. The libc of Debian's
# package is another crate than that of Rust's library, hence the metadata. lexopt is the command's.
CRATES_OF_OTHERS = [
    Crate("bitflags-2.*", features="std", top=REGISTRY),
    Crate("libc-0.2.*", features="std extra_traits", options=("--cfg=libc_const_extern_fn",), top=REGISTRY),
    Crate("errno-0.3.*", "libc", "std", top=REGISTRY),
    Crate("linux-raw-sys-0.4.*", features="general ioctl no_std net netlink if_ether xdp prctl", top=REGISTRY),
    Crate("rustix-0.38.*", "bitflags libc libc_errno=errno linux_raw_sys", "std alloc event fs mm net param process",
          ("--cfg=libc", "--cfg=linux_like", "--cfg=linux_kernel", "--cfg=static_assertions"), top=REGISTRY),
    Crate("lexopt-0.3.*", top=REGISTRY),
]


def version():
    """Debian's version of the compiler, which is that of the library's source, too."""
    compiler, source = (subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], check=True, capture_output=True,
                                       text=True).stdout for package in ("rustc", "rust-src"))
    if compiler != source:
        raise Failed(f"rustc is {compiler}, but rust-src {source}: Rust's library must be that of the compiler")
    return compiler


class Std:
    """A sysroot for rustc with the standard library for TARGET."""

    def __init__(self):
        self.path = CACHE / f"rust-{digest(version(), Path(__file__).read_text())}"
        self.step = Step(f"building Rust's library for {TARGET.split('-')[0]}", "rust-std.log", self.make)

    def rustc(self):
        """The compiler of static programs for TARGET."""
        return ["rustc", f"--sysroot={self.path}", f"--target={TARGET}", "-Clinker=powerpc64le-linux-gnu-gcc",
                "-Ctarget-feature=+crt-static"]

    def steps(self):
        return [] if self.path.exists() else [self.step]

    def make(self, step):
        making = self.path.with_suffix(".tmp")
        libraries = making / "lib/rustlib" / TARGET / "lib"
        shutil.rmtree(making, ignore_errors=True)
        libraries.mkdir(parents=True)
        for crate in CRATES:
            crate.compile(step, [*OPTIONS, f"--sysroot={making}"], libraries, os.environ | ENVIRONMENT)
        making.rename(self.path)


class Crates:
    """The crates of others that tools/uxive, tools/vmm and tools/afu-model use, compiled for programs in the machine, or
    without `std` for this machine."""

    def __init__(self, std=None):
        self.std = std
        whose = "guest" if std else "host"
        self.path = CACHE / f"rust-crates-{whose}-{digest(version(), installed('librust-*'), Path(__file__).read_text())}"
        self.step = Step(f"building crates for the {whose}", f"rust-crates-{whose}.log", self.make)

    def steps(self):
        missing = [] if self.path.exists() else [self.step]
        return [*self.std.steps(), *missing] if self.std else missing

    def options(self):
        """Options of the library, of the command, and of a crate that uses the library."""
        return [f"-Ldependency={self.path}",
                *(f"--extern={name}={self.path}/lib{name}.rlib" for name in ("lexopt", "libc", "rustix"))]

    def make(self, step):
        # Several builds want these, and one of them has made them.
        if self.path.exists():
            return
        making = self.path.with_suffix(".tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        target = self.std.rustc()[1:] if self.std else []
        for crate in CRATES_OF_OTHERS:
            crate.compile(step, ["--crate-type=rlib", *target, "-O", "--cap-lints=allow", "-Cmetadata=registry",
                                 f"-Ldependency={making}"], making)
        making.rename(self.path)
