# SPDX-License-Identifier: GPL-2.0
"""The Rust crate as its users build it: by cargo, with the oldest Rust that Cargo.toml names, with each rustix that it takes.

That Rust is trixie's. The root has a newer one, and one root cannot hold the packages of both. So trixie's are unpacked and
linked together in an entry of the cache that nothing else uses. Cargo keeps crates in `cargo` in the cache. A test whose
packages or crates cannot be had is skipped.
"""

import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

from debs import DEBS, Debs
from driver import files, write
from kernel import digest
from ktap import FAILED, Outcome, PASSED, SKIPPED
from rust import TARGET
from steps import BUILD, CACHE, LOGS, REPO, Step

CRATE = REPO / "tools/uxive"
MANIFEST = (CRATE / "Cargo.toml").read_text()
OLDEST = tomllib.loads(MANIFEST)["package"]["rust-version"]
HOST = "x86_64-unknown-linux-gnu"

# The second line has cargo's libraries; the root has the others for its own compilers.
COMPILER = Debs(f"""cargo rustc libstd-rust-dev libstd-rust-{OLDEST}
                libgit2-1.9 libhttp-parser2.9 libmbedcrypto16 libmbedtls21 libmbedx509-7""", "amd64", "trixie")
POWER = Debs("libstd-rust-dev", "ppc64el", "trixie")

# Each rustix, and what the manifest is made to say for it. Cargo takes the newest if it may.
TAKEN = 'version = ">=0.38.37, <2"'
RUSTIX = {"0.38": 'version = "0.38.37"', "1": TAKEN}
FETCH = ["fetch", f"--target={HOST}", f"--target={TARGET}"]
BY_RUSTIX = {
    "build": ["build", "--all-targets"],
    "build_for_powerpc64le": ["build", f"--target={TARGET}"],
    "test": ["test"],
    "doc": ["doc", "--no-deps"],
}
WITHOUT_STD = {f"{command[0]}_without_std": [*command, "--no-default-features"]
               for command in (["build"], ["test"], ["doc", "--no-deps"])}
WITHOUT_COMMAND = {"build_without_command": ["build", "--no-default-features", "--features=std", "--examples"]}
# As for a registry: what goes there builds by itself, and has these.
PACKAGE = {"package": ["package", "--allow-dirty"], "package_has_all": ["package", "--allow-dirty", "--list"]}
BESIDE = ["CHANGELOG.md", "LICENSE-GPL-2.0", "LICENSE-MIT", "README.md"]
# Cargo's words for a network or a registry that does not answer.
UNREACHED = re.compile(r"failed to download|spurious network error|failed to get successful HTTP response|[Cc]ould not resolve")


class Cargo:
    def __init__(self):
        self.toolchain = CACHE / f"rust-{OLDEST}-{digest(DEBS.name, *COMPILER.paths, Path(__file__).read_text())}"
        self.step = Step(f"putting Rust {OLDEST} together", "cargo.log", self.make)
        self.log = LOGS / "cargo-tests.log"

    def steps(self):
        return [*COMPILER.steps(), *POWER.steps(), *([] if self.toolchain.exists() else [self.step])]

    def make(self, step):
        if self.lack():
            return
        making = self.toolchain.with_name(f"{self.toolchain.name}.tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        for path in COMPILER.paths.values():
            step.run(["cp", "-al", path / "usr", making])
        # The link may dangle: the package may come later.
        rustlib = Path("usr/lib/rustlib", TARGET)
        (making / rustlib).symlink_to(POWER.paths["libstd-rust-dev"] / rustlib)
        making.rename(self.toolchain)

    @staticmethod
    def lack():
        return COMPILER.lack(*COMPILER.paths)

    def cargo(self, command, directory):
        """Runs cargo; (succeeded, output)."""
        usr = self.toolchain / "usr"
        environment = os.environ | {
            "PATH": f"{usr / 'bin'}:{os.environ['PATH']}", "LD_LIBRARY_PATH": f"{usr / 'lib/x86_64-linux-gnu'}",
            "CARGO_HOME": f"{CACHE / 'cargo'}", "CARGO_TERM_COLOR": "never",
            f"CARGO_TARGET_{TARGET.upper().replace('-', '_')}_LINKER": "powerpc64le-linux-gnu-gcc",
            "RUSTFLAGS": "-Dwarnings", "RUSTDOCFLAGS": "-Dwarnings"}
        done = subprocess.run(["cargo", *command], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with self.log.open("a") as log:
            log.write(f"$ cd {directory}; cargo {' '.join(command)}\n{done.stdout}\n")
        # A run without a test does not count.
        ran = command[0] != "test" or re.search(r"^test result: ok\. [1-9]", done.stdout, re.MULTILINE)
        listed = "--list" not in command or {*BESIDE, "src/lib.rs"} <= {*done.stdout.splitlines()}
        return done.returncode == 0 and bool(ran) and listed, done.stdout

    def outcomes(self):
        """Runs the tests."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        found = []
        for version, taken in RUSTIX.items():
            tests = {f"{name}_with_rustix_{version.replace('.', '_')}": command for name, command in BY_RUSTIX.items()}
            if taken == TAKEN:
                tests |= WITHOUT_STD | WITHOUT_COMMAND | PACKAGE
            found += self.with_rustix(version, taken, tests)
        return found

    def with_rustix(self, version, taken, tests):
        fetch = f"fetch_rustix_{version.replace('.', '_')}"
        if self.lack():
            return [Outcome(name, SKIPPED, self.lack()) for name in (fetch, *tests)]
        directory = BUILD / "cargo" / f"rustix-{version}"
        copy(taken, directory)
        begun = time.monotonic()
        good, output = self.cargo(FETCH, directory)
        if not good and UNREACHED.search(output):
            return [Outcome(name, SKIPPED, f"crates cannot be had: {cause(output)}") for name in (fetch, *tests)]
        chosen = rustix(directory) if good else ""
        if not f"{chosen}.".startswith(f"{version}."):
            print(f"{output}\nrustix {version} was asked for, cargo took {chosen or 'none'}")
            return [Outcome(name, FAILED) for name in (fetch, *tests)]
        print(f"# rustix {chosen} with Rust {OLDEST}", flush=True)
        found = [Outcome(fetch, PASSED, seconds=time.monotonic() - begun)]
        for name, command in tests.items():
            lack = POWER.lack(*POWER.paths) if f"--target={TARGET}" in command else None
            if lack:
                found.append(Outcome(name, SKIPPED, lack))
                continue
            begun = time.monotonic()
            good, output = self.cargo([*command, "--offline"], directory)
            if not good:
                print(output)
            found.append(Outcome(name, PASSED if good else FAILED, seconds=time.monotonic() - begun))
        return found


def copy(taken, directory):
    """The crate into a directory, where cargo may leave what it makes."""
    contents = files(CRATE, ["src", "examples"]) | {"Cargo.toml": MANIFEST.replace(TAKEN, taken).encode(),
                                                    **{name: (CRATE / name).read_bytes() for name in BESIDE}}
    write(contents, directory)
    for path in [*directory.glob("src/**/*.rs"), *directory.glob("examples/**/*.rs")]:
        if str(path.relative_to(directory)) not in contents:
            path.unlink()


def rustix(directory):
    """The version of rustix that cargo has chosen."""
    packages = tomllib.loads((directory / "Cargo.lock").read_text())["package"]
    return next((package["version"] for package in packages if package["name"] == "rustix"), "")


def cause(output):
    """The last cause that cargo gives for a failure, in one line."""
    return output.rpartition("Caused by:")[2].strip().partition("\n")[0]
