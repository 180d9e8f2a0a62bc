# SPDX-License-Identifier: GPL-2.0
"""Rust's standard library for programs in the machine, and how they are compiled.

Debian has it as libstd-rust-dev:ppc64el, which must be of the compiler's very version, hence from backports. But mirrors
have had the index of ppc64el there older than what its Release file signs, and without an index nothing vouches for a
package. The library's source is in the root, for the kernel's Rust is built from it, and is that of the compiler. So the
library is built: half a minute, no network, no second version that could differ. It is what `cargo -Zbuild-std` does,
without cargo, which the root lacks.

An entry of the cache, rust-<hash>, named for what it is made from (this file included), made beside and renamed when
complete.
"""

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from kernel import digest
from steps import CACHE, Failed, Step

TARGET = "powerpc64le-unknown-linux-gnu"
LIBRARY = Path("/usr/lib/rustlib/src/rust/library")
# The library uses what is not stable, and its warnings are not ours.
OPTIONS = ["--crate-type=rlib", f"--target={TARGET}", "-O", "-Cembed-bitcode=no", "-Zforce-unstable-if-unmarked",
           "--cap-lints=allow"]
# What build scripts and cargo tell the crates.
ENVIRONMENT = {"RUSTC_BOOTSTRAP": "1", "STD_ENV_ARCH": "powerpc64", "CFG_CARGO_FEATURES": "[]", "CFG_OPT_LEVEL": "3",
               "CFG_TARGET_FEATURES": "[]"}


@dataclass(frozen=True)
class Crate:
    """A crate of the library: its directory, those it uses, as [name by which it knows it=]crate, and what it is told."""
    path: str
    uses: str = ""
    features: str = ""
    options: tuple = ()

    def manifest(self):
        found = list(LIBRARY.glob(self.path + "/Cargo.toml"))
        if len(found) != 1:
            raise Failed(f"this Rust's library has {len(found)} directories {self.path}; tools/testbed/rust.py knows another")
        return found[0]


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
            manifest = crate.manifest()
            package = tomllib.loads(manifest.read_text())
            name = package["package"]["name"].replace("-", "_")
            uses = [use.rpartition("=") for use in crate.uses.split()]
            step.run(["rustc", manifest.parent / package.get("lib", {}).get("path", "src/lib.rs"), f"--crate-name={name}",
                      f"--edition={package['package'].get('edition', '2015')}", *OPTIONS, f"--sysroot={making}",
                      *(f"--extern={known or use}={libraries}/lib{use}.rlib" for known, _, use in uses),
                      *(f'--cfg=feature="{feature}"' for feature in crate.features.split()), *crate.options,
                      f"-o{libraries}/lib{name}.rlib"], env=os.environ | ENVIRONMENT)
        making.rename(self.path)
