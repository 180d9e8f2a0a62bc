# SPDX-License-Identifier: GPL-2.0
"""make lint: runs each tool over its files and shows all complaints. A complaint that only a newer tool than the recorded one
makes is no failure."""

import json
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import arrows
import claims
import errnos
import headers
import helpers
import interface
import kvm
import man
import messages
import pages
import prose
import recorded
import series
import suites
import wrappers
from cargo import OLDEST
from driver import (COMMAND, COMMAND_ENVIRONMENT, COMMAND_OPTIONS, EXAMPLES, HEADERS, LIBRARY, LIBRARY_OPTIONS, MODEL, ROOMS,
                    RUST, SHOWN, TESTS, AfuModel, LibraryTests, Programs, Rooms, VMM, VMM_OPTIONS, VmmTests, content_hash,
                    out_of_tree, test_modules)
from kernel import Kernel, Source
from policy import RULES
from steps import BUILD, Failed, REPO, in_mounts, made

# Warnings in C that say where, and those of modpost.
WARNING = re.compile(r"^(?:\S+:\d+:\d+: warning: .*|WARNING: modpost: .*)$", re.MULTILINE)
C_FILES = ["src/**/*.[ch]", "include/**/*.h", "tools/**/*.[ch]", "Kconfig", "Makefile", "tools/testing/modules/*/Makefile"]
PAGES = "Documentation/**/*.rst"
TROUBLES = REPO / "Documentation/admin-guide/uxive-troubleshooting.rst"
MANUAL = REPO / "tools/install/man"
INSTALLED = [REPO / "tools/install/70-uxive.rules", SHOWN / "Makefile"]
# Trace events have a layout of their own in all of the kernel.
TRACE = "trace.h"


def tree(*patterns):
    return sorted(path for pattern in patterns for path in REPO.glob(pattern)
                  if "generated" not in path.name and not path.name.endswith(".mod.c"))


def mailed(source):
    """Complaints about the series that the patches are mailed as."""
    shown = [(number, test) for number, _, test, *_ in kvm.SHOWN]
    return "\n".join(series.check(source, shown, Path("/tmp/series")))


def shell_files():
    """Files with a shell's #! line, whatever their name."""
    return [path for path in tree("tools/**/*", ".ci/*") if path.is_file()
            and re.match(rb"#!.*\b(?:ba)?sh\b", path.read_bytes()[:64])]


@dataclass(frozen=True)
class Complaint:
    """A complaint of a tool (one of recorded.py), and the lint of rustc or clippy that it comes from. `certain`: any version
    would make it."""
    text: str
    tool: str
    lint: str = None
    certain: bool = False

    def fails(self):
        if self.lint:
            return self.tool not in recorded.newer() or not recorded.novel(self.lint)
        return self.certain or not recorded.newer_series(self.tool)


def by(tool, text):
    return [Complaint(text, tool)] if text else []


def tool(command, **keywords):
    """The output of a tool that fails; "" of one that succeeds."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **keywords)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"


def warnings(module):
    return "\n".join(WARNING.findall(module.step.log.read_text()))


def diagnostics(command, **keywords):
    """The complaints of rustc or clippy that name a place. The kernel's own four warnings about -Ctarget-feature name none."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **keywords)
    found = []
    for line in done.stderr.splitlines():
        said = json.loads(line) if line.startswith("{") else {"level": "error", "rendered": line, "spans": [line]}
        if said["level"] in ("warning", "error") and said["spans"]:
            lint = (said.get("code") or {"code": ""})["code"]
            named = lint.islower()  # errors of the language are E0123
            found.append(Complaint(said["rendered"].rstrip(), "clippy", lint if named else None, not named))
    if done.returncode and not found:
        found = [Complaint(done.stderr.strip() or f"exit status {done.returncode}", "clippy", certain=True)]
    return found


def compile_python(paths):
    said = []
    for path in paths:
        try:
            compile(path.read_text(), path, "exec")
        except SyntaxError as error:
            said.append(str(error))
    return "\n".join(said)


def compiler(programs):
    """gcc's warnings about the programs, all of which are compiled once more."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(lambda command: tool([*command, "-Werror", "-c", "-o", "/dev/null"]), programs.compilations())
    return "\n".join(filter(None, said))


def for_programs(kernel):
    """Complaints about the headers for programs, with the kernel's as it installs them."""
    return [Complaint(text, tool) for tool, text in headers.check(
        tree(*(f"{path}/**/*.h" for path in HEADERS)), [REPO / path for path in HEADERS], [kernel.path / "usr/include"])]


def checkpatch(source, paths, *options):
    command = [source / "scripts/checkpatch.pl", "--strict", "--no-tree", "--quiet", "--no-summary", "--terse", "--show-types",
               *options]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return "\n".join(filter(None, pool.map(lambda path: tool([*command, path]), paths)))


def as_compiled(module):
    """The command that compiled the driver: the words before the compiler, its options, and its mounts."""
    saved = (module.path / "src/.uxive_main.o.cmd").read_text()
    command = shlex.split(re.match(r"savedcmd_\S+ := (.*)", saved)[1])
    start = next(at for at, word in enumerate(command) if word.endswith("rustc"))
    out = command.index("--out-dir")
    options = [word for word in command[start + 1:out] + command[out + 2:] if not word.startswith("--emit")]
    environment = ["env", "RUSTC_BOOTSTRAP=1", "CLIPPY_CONF_DIR=/linux",
                   f"UXIVE_BINDINGS={module.path / 'src/bindings_generated.rs'}",
                   f"UXIVE_UAPI={module.path / 'src/uapi_generated.rs'}", *command[:start]]
    return environment, options, [(module.kernel.source.path, "/linux"), (module.kernel.path, "/obj")]


def rustdoc(module):
    """The crate's documentation: kbuild's own rustdoc does not serve M=."""
    environment, options, mounts = as_compiled(module)
    command = [*environment, "rustdoc", *options, "-Dwarnings", "--document-private-items", "--output=/tmp/rustdoc"]
    return tool(in_mounts(mounts, command), cwd=module.path)


def clippy_driver(module):
    environment, options, mounts = as_compiled(module)
    os.makedirs("/tmp/clippy-driver", exist_ok=True)
    command = [*environment, "clippy-driver", *options, "--error-format=json", "--emit=metadata",
               "--out-dir=/tmp/clippy-driver"]
    return diagnostics(in_mounts(mounts, command), cwd=module.path)


def clippy(programs, tests, model, rooms, vmm):
    """Complaints about the library (with and without std), its tests, the command, the programs that use it, the AFU model, the
    VMM, and the pure rooms of the driver."""
    library = [*LIBRARY_OPTIONS, *tests.crates.options()]
    command = [*COMMAND_OPTIONS, *tests.options()]
    crate = [["--crate-name=uxive", "--crate-type=rlib", LIBRARY], ["--crate-name=uxive", "--test", LIBRARY],
             [*library, "--crate-type=rlib", LIBRARY], [*library, "--test", LIBRARY], [*command, COMMAND],
             [*command, "--test", COMMAND], *([*programs.options(), path] for path in EXAMPLES)]
    ours = [*([*programs.options(), path] for path in sorted(TESTS.glob("*.rs"))), [*model.options(), MODEL],
            [*model.options(), "--test", MODEL], [*programs.vmm_options(), *VMM_OPTIONS, "--crate-type=rlib", VMM],
            [*vmm.options(), VMM]]
    pure = [[*options, ROOMS / source] for source, options in rooms.sources()]
    # As cargo passes it: clippy then suggests nothing that the oldest compiler lacks.
    oldest = {"CARGO_PKG_RUST_VERSION": OLDEST}
    return [complaint for options in [*crate, *pure, *ours] for complaint in
            diagnostics(["clippy-driver", *RUST, "-Wclippy::undocumented_unsafe_blocks", "--error-format=json",
                         "--emit=metadata", "--out-dir=/tmp/clippy", *options],
                        env=os.environ | COMMAND_ENVIRONMENT | rooms.environment | vmm.environment
                        | (oldest if options in [*crate, *pure] else {}))]


def rustdoc_library(tests):
    each = [*LIBRARY_OPTIONS, *tests.crates.options()], ["--crate-name=uxive"]
    return "\n".join(filter(None, (
        tool(["rustdoc", "--edition=2021", *options, "-Dwarnings", "--output=/tmp/rustdoc-library", LIBRARY])
        for options in each)))


def rustdoc_model(model):
    return tool(["rustdoc", "--edition=2021", *model.options(), "-Dwarnings", "--document-private-items",
                 "--output=/tmp/rustdoc-model", MODEL])


def rustdoc_vmm(programs):
    return tool(["rustdoc", "--edition=2021", *programs.vmm_options(), *VMM_OPTIONS, "-Dwarnings", "--document-private-items",
                 "--output=/tmp/rustdoc-vmm", VMM])


def documented_errnos():
    return "\n".join(errnos.check(tree(PAGES), tree("tools/testing/selftests/uxive/*.[ch]"), tree("src/**/*.rs")))


def logged_messages():
    return "\n".join(messages.check(TROUBLES, tree("src/**/*.rs"), tree(PAGES)))


def claimed():
    return "\n".join(claims.check(REPO / "Documentation/userspace-api/uxive-threats.rst", suites.read(), TESTS))


def paged(source, programs):
    """Complaints about the pages, with the kernel's header of ocxl and the programs that are built of one file."""
    return "\n".join(pages.check(tree(PAGES), REPO / "include/uapi/misc/uxive.h", source / "include/uapi/misc/ocxl.h",
                                 [*programs.sources.values(), *EXAMPLES, *RULES.glob("*.te"), *INSTALLED]))


def manual(paths):
    """Complaints about the manual pages. mandoc's warnings are about their language; of its style it knows that of other
    systems only."""
    command = sorted((REPO / "tools/uxive/src/bin/uxive").glob("*.rs"))
    said = man.check(command, MANUAL / "uxive.1", MANUAL / "uxive.7", SHOWN / "ring.c")
    return "\n".join(filter(None, [tool(["mandoc", "-T", "lint", "-W", "warning", *paths]), *said]))


def sphinx():
    """Its warnings about the pages. They need no extension, and no conf.py."""
    return tool(["sphinx-build", "-C", "-D", "project=uxive", "-E", "-n", "-q", "-W", "--keep-going", "-b", "html",
                 REPO / "Documentation", "/tmp/sphinx"])


@dataclass(frozen=True)
class Check:
    """A check of files. If files do not depend on each other (`apart`), `make check` checks only those that changed."""
    name: str
    files: list
    work: callable
    apart: bool = False


class Passed:
    """The checks that passed before, as hashes, in build/."""

    def __init__(self, *more):
        self.file = BUILD / "lint-passed"
        self.known = set(self.file.read_text().split()) if self.file.exists() else set()
        self.more = [*map(str, recorded.versions().items()), Path(__file__).read_text(), *more]

    def key(self, check, files):
        return content_hash({str(path): path.read_bytes() for path in files}, check.name, *self.more)

    def left(self, check):
        """The files that have to be looked at."""
        if check.apart:
            return [path for path in check.files if self.key(check, [path]) not in self.known]
        return [] if self.key(check, check.files) in self.known else check.files

    def add(self, check):
        self.known.update(self.key(check, [path]) for path in check.files if check.apart)
        self.known.add(self.key(check, check.files))
        self.file.write_text("\n".join(sorted(self.known)))


def lint(changed=False):
    """Runs all checks, or only those whose files changed since they passed."""
    debug = Kernel(Source(), "debug")
    modules = [out_of_tree(debug), *test_modules(debug)]
    source = debug.source.path
    rust = tree("src/**/*.rs", "tools/**/*.rs")
    c = tree("src/**/*.[ch]", "include/**/*.h", "tools/**/*.[ch]", "Makefile", "Kconfig")
    passed = Passed(source.parent.name)
    programs, tests, model, rooms, vmm = Programs(debug), LibraryTests(), AfuModel(), Rooms(modules[0]), VmmTests(debug)
    compiled = Check("compiler", c, lambda _: [*by("clang", "\n".join(filter(None, map(warnings, modules)))),
                                               *by("gcc", compiler(programs))])
    if not changed or passed.left(compiled):
        # Anew, so that every warning is in the log.
        for module in modules:
            shutil.rmtree(module.path, ignore_errors=True)
    with made(*modules, programs, tests, model, rooms, vmm):
        pass
    checks = [
        compiled,
        Check("headers for programs", tree(*(f"{path}/**/*.h" for path in HEADERS), "tools/testbed/headers.py"),
              lambda _: for_programs(debug)),
        Check("clippy", rust, lambda _: [*clippy_driver(modules[0]), *clippy(programs, tests, model, rooms, vmm)]),
        Check("rustfmt", rust, lambda paths: by("rustfmt", tool([
            "rustfmt", "--check", "--edition=2021", "--config-path", source / ".rustfmt.toml", *paths])), apart=True),
        Check("rustdoc", rust, lambda _: by("the tree", "\n".join(filter(None, [
            rustdoc(modules[0]), rustdoc_library(tests), rustdoc_model(model), rustdoc_vmm(programs)])))),
        Check("checkpatch", [path for path in tree(*C_FILES) if path.name != TRACE],
              lambda paths: by("linux", checkpatch(source, paths, "-f")), apart=True),
        Check("checkpatch of trace events", tree(f"src/{TRACE}"), lambda paths: by("linux", checkpatch(
            source, paths, "-f", "--ignore", "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT")), apart=True),
        Check("checkpatch of patches", tree("tools/testbed/patches/*.patch"),
              # The commits that they name are Linux's, whose git is not here.
              lambda paths: by("linux", checkpatch(source, paths, "--ignore=UNKNOWN_COMMIT_ID")), apart=True),
        Check("series", tree("tools/testbed/patches/*.patch", "tools/testbed/series.*", "tools/testbed/kvm.py"),
              lambda _: by("the tree", mailed(source))),
        Check("shellcheck", shell_files(), lambda paths: by("shellcheck", tool(["shellcheck", *paths])), apart=True),
        Check("errnos", [*tree(PAGES, "tools/testbed/errnos.py"), *c, *rust],
              lambda _: by("the tree", documented_errnos())),
        Check("messages", tree(PAGES, "src/**/*.rs", "tools/testbed/messages.py", "tools/testbed/errnos.py"),
              lambda _: by("the tree", logged_messages())),
        Check("claims", tree("Documentation/userspace-api/uxive-threats.rst", "tools/testing/suites", "tools/testbed/claims.py",
                             "tools/testing/selftests/uxive/*.[cr]*"), lambda _: by("the tree", claimed())),
        Check("arrows", tree("src/**/*.rs", "tools/testbed/arrows.py"),
              lambda _: by("the tree", "\n".join(arrows.complaints(REPO / "src")))),
        Check("wrappers", tree("src/kernel/*", "tools/testbed/wrappers.py"),
              lambda _: by("the tree", "\n".join(wrappers.complaints(REPO / "src/kernel")))),
        Check("helpers", tree("tools/testing/selftests/uxive/*.[ch]", "tools/testbed/helpers.py"),
              lambda _: by("the tree", "\n".join(helpers.check(TESTS)))),
        Check("interface", tree("include/uapi/misc/uxive.h", "tools/testbed/interface*", "tools/uxive/src/*.rs"),
              lambda _: by("the tree", "\n".join(interface.check(
                  REPO / "include/uapi/misc/uxive.h", REPO / "tools/testbed/interface", REPO / "tools/uxive/src")))),
        Check("pages", tree(PAGES, "include/uapi/misc/uxive.h", "tools/demo/*.c", "tools/*/examples/*",
                            "tools/testing/selinux/*.te", "tools/install/*.rules", "tools/testbed/pages.py"),
              lambda _: by("the tree", paged(source, programs))),
        Check("manual", tree("tools/install/man/*", "tools/uxive/src/bin/**/*.rs", "tools/uxive/examples/ring.c",
                             "tools/testbed/man.py"),
              lambda _: by("the tree", manual(tree("tools/install/man/*")))),
        Check("sphinx", tree(PAGES, "tools/demo/*.c", "tools/*/examples/*", "tools/testing/selinux/*.te",
                             "tools/install/*.rules"),
              lambda _: by("sphinx", sphinx())),
        Check("prose", [*prose.files(REPO), *tree("tools/testbed/prose.py")],
              lambda _: by("the tree", "\n".join(prose.check(prose.files(REPO), REPO)))),
        Check("python", tree("tools/**/*.py"), lambda paths: by("the tree", compile_python(paths)), apart=True),
    ]
    bad = 0
    for check in checks:
        left = passed.left(check) if changed else check.files
        complaints = check.work(left) if left else []
        failing = [complaint for complaint in complaints if complaint.fails()]
        bad += bool(failing)
        print(f"{check.name}: {'' if failing else 'ok' if left else 'ok, unchanged'}", flush=True)
        for complaint in complaints:
            if not complaint.fails():
                print(f"no failure, {complaint.tool} {recorded.versions()[complaint.tool]} is newer than recorded:")
            print(complaint.text, flush=True)
        if not complaints:
            passed.add(check)
    if bad:
        raise Failed(f"lint: {bad} of {len(checks)} checks complain")
    return 0
