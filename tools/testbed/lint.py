# SPDX-License-Identifier: GPL-2.0
"""make lint: each tool over the files it is for, all complaints shown, none forgiven."""

import re
import shlex
import shutil
import subprocess

import errnos
from driver import (COMMAND, COMMAND_OPTIONS, EXAMPLES, LIBRARY, LIBRARY_OPTIONS, MODEL, RUST, TESTS, AfuModel, LibraryTests,
                    Programs, out_of_tree, test_modules)
from kernel import Kernel, Source
from steps import Failed, REPO, in_mounts, made

# Warnings that say where. The kernel's own four about -Ctarget-feature, at each call of rustc, do not.
WARNING = re.compile(r"^(?:warning\b.*\n +--> .*|\S+:\d+:\d+: warning: .*|WARNING: modpost: .*)$", re.MULTILINE)
C_FILES = ["src/**/*.[ch]", "include/**/*.h", "tools/**/*.[ch]", "Kconfig", "Makefile", "tools/testing/modules/*/Makefile"]
# Trace events have a layout of their own in all of the kernel.
TRACE = "trace.h"


def tree(*patterns):
    return sorted(path for pattern in patterns for path in REPO.glob(pattern)
                  if "generated" not in path.name and not path.name.endswith(".mod.c"))


def shell_files():
    """Files with a shell's #! line, whatever their name."""
    return [path for path in tree("tools/**/*", ".ci/*") if path.is_file()
            and re.match(rb"#!.*\b(?:ba)?sh\b", path.read_bytes()[:64])]


def tool(command, **keywords):
    """What a tool has to say: nothing if it is content."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **keywords)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"


def warnings(module):
    return "\n".join(WARNING.findall(module.step.log.read_text()))


def compile_python(paths):
    said = []
    for path in paths:
        try:
            compile(path.read_text(), path, "exec")
        except SyntaxError as error:
            said.append(str(error))
    return "\n".join(said)


def checkpatch(source, paths, *options):
    return "\n".join(filter(None, (
        tool([source / "scripts/checkpatch.pl", "--strict", "--no-tree", "--quiet", "--no-summary", "--terse",
              "--show-types", *options, path]) for path in paths)))


def rustdoc(module):
    """The crate's documentation, with the options that it was compiled with: kbuild's own rustdoc does not serve M=."""
    saved = (module.path / "src/.uxive_main.o.cmd").read_text()
    command = shlex.split(re.match(r"savedcmd_\S+ := (.*)", saved)[1])
    start = next(at for at, word in enumerate(command) if word.endswith(("rustc", "clippy-driver")))
    out = command.index("--out-dir")
    options = [word for word in command[start + 1:out] + command[out + 2:] if not word.startswith("--emit")]
    bindings = module.path / "src/kernel/bindings_generated.rs"
    command = ["env", "RUSTC_BOOTSTRAP=1", f"UXIVE_BINDINGS={bindings}", *command[:start], "rustdoc", *options, "-Dwarnings",
               "--document-private-items", "--output=/tmp/rustdoc"]
    mounts = [(module.kernel.source.path, "/linux"), (module.kernel.path, "/obj")]
    return tool(in_mounts(mounts, command), cwd=module.path)


def clippy(programs, tests, model):
    """The library, with all of it and with what needs no std, its tests, the command, the programs that use it, and the AFU
    model."""
    library = [*LIBRARY_OPTIONS, *tests.crates.options()]
    command = [*COMMAND_OPTIONS, *tests.options()]
    each = [["--crate-name=uxive", "--crate-type=rlib", LIBRARY], ["--crate-name=uxive", "--test", LIBRARY], [*library, "--crate-type=rlib", LIBRARY],
            [*library, "--test", LIBRARY], [*command, COMMAND], [*command, "--test", COMMAND],
            *([*programs.options(), path] for path in sorted([*TESTS.glob("*.rs"), *EXAMPLES.glob("*.rs")])),
            [*model.options(), MODEL], [*model.options(), "--test", MODEL]]
    return "\n".join(filter(None, (
        tool(["clippy-driver", *RUST, "-Dclippy::undocumented_unsafe_blocks", "--emit=metadata", "--out-dir=/tmp/clippy", *options])
        for options in each)))


def rustdoc_library(tests):
    each = [*LIBRARY_OPTIONS, *tests.crates.options()], ["--crate-name=uxive"]
    return "\n".join(filter(None, (
        tool(["rustdoc", "--edition=2021", *options, "-Dwarnings", "--output=/tmp/rustdoc-library", LIBRARY])
        for options in each)))


def rustdoc_model(model):
    return tool(["rustdoc", "--edition=2021", *model.options(), "-Dwarnings", "--document-private-items",
                 "--output=/tmp/rustdoc-model", MODEL])


def documented_errnos():
    return "\n".join(errnos.check(REPO / "Documentation/userspace-api/uxive.rst",
                                  tree("tools/testing/selftests/uxive/*.[ch]"), tree("src/**/*.rs")))


def lint():
    debug = Kernel(Source(), "debug")
    # Anew, so that every warning is in the log.
    modules = [out_of_tree(debug, ("CLIPPY=1",), "-clippy"), *test_modules(debug)]
    for module in modules:
        shutil.rmtree(module.path, ignore_errors=True)
    programs, tests, model = Programs(debug), LibraryTests(), AfuModel()
    with made(*modules, programs, tests, model):
        pass
    source = debug.source.path
    checks = {
        "compiler and clippy": lambda: "\n".join(filter(None, [*map(warnings, modules), clippy(programs, tests, model)])),
        "rustfmt": lambda: tool(["rustfmt", "--check", "--edition=2021", "--config-path", source / ".rustfmt.toml",
                                 *tree("src/**/*.rs", "tools/**/*.rs")]),
        "rustdoc": lambda: "\n".join(filter(None, [rustdoc(modules[0]), rustdoc_library(tests), rustdoc_model(model)])),
        "checkpatch": lambda: "\n".join(filter(None, [
            checkpatch(source, [path for path in tree(*C_FILES) if path.name != TRACE], "-f"),
            checkpatch(source, tree(f"src/**/{TRACE}"), "-f", "--ignore", "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT")])),
        "checkpatch of patches": lambda: checkpatch(source, tree("tools/testbed/patches/*.patch")),
        "shellcheck": lambda: tool(["shellcheck", *shell_files()]),
        "errnos": documented_errnos,
        "python": lambda: compile_python(tree("tools/**/*.py")),
    }
    bad = 0
    for name, check in checks.items():
        said = check()
        print(f"{name}: {'ok' if not said else ''}{said and chr(10)}{said}", flush=True)
        bad += bool(said)
    if bad:
        raise Failed(f"lint: {bad} of {len(checks)} checks complain")
    return 0
