# SPDX-License-Identifier: GPL-2.0
"""make test: which suites there are, where they run, and what came of them.

tools/testing/suites says what must run. A boot runs the suites of one configuration as jobs, in the order of that
list, and its console is searched for complaints. Whatever is expected and gives no result has failed.
"""

import json
import re
import shutil
import subprocess
import sys
import unittest
from collections import Counter
from dataclasses import dataclass

import ktap
from afu import Accelerators, Afu
from console import complaints
from driver import AfuModel, InTree, LibraryTests, Programs, out_of_tree, test_modules
from guest import GUEST, Hung, Machine, debug_files, initramfs, job, libraries, new_token
from kernel import HERE, Kernel, Source
from ktap import FAILED, PASSED
from steps import BUILD, Failed, REPO, made, say, shown

HOST = "host"
SILENCE, TOTAL = 360, 4800
AFUS = [Afu(32, 63), Afu(23, 89)]
# Beside AFUs there is QEMU's edu, which is none: a program that has its registers has all of the memory.
NO_AFU = ["-device", "edu,bus=pcie.4"]
# Before this line of the console nothing may complain; after it the planted defects must.
PLANTING = "uxive testbed: from here on defects are planted"
KUNIT = "/sys/kernel/debug/kunit"


@dataclass(frozen=True)
class Suite:
    name: str
    kind: str
    configurations: tuple
    arguments: str

    def command(self):
        return {"kselftest": f"/tests/{self.name} {self.arguments}",
                "kunit": f"cat {KUNIT}/{self.name}/results",
                "script": f"sh /tests/{self.name} {self.arguments}",
                "checkers": f"echo '{PLANTING}' >/dev/kmsg; sh /tests/{self.name} {self.arguments}"}[self.kind]


class Configuration:
    """A kernel, how the driver comes into it, its command line, and the machine: QEMU's -smp and -M, its AFUs."""

    def __init__(self, name, kernel, module=None, load=True, append="", cpus=None, machine=None, afus=()):
        self.name = name
        self.kernel = kernel
        self.builtin = module if isinstance(module, InTree) else None
        self.module = None if self.builtin else module
        self.load = load and not self.builtin
        self.append = append
        self.cpus = cpus
        self.machine = machine
        self.afus = afus
        self.copy = BUILD / name / "vmlinux"

    def steps(self):
        return (self.builtin or self.module).steps()

    def image(self):
        return self.copy if self.builtin else self.kernel.path / "vmlinux"

    def keep(self):
        """To be called while builds are held: a builtin kernel may be another clone's a moment later."""
        if self.builtin:
            self.copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.builtin.obj / "vmlinux", self.copy)


def read_suites():
    """tools/testing/suites: name, kind, configurations with commas between them, arguments."""
    suites = []
    for line in (REPO / "tools/testing/suites").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            suites.append(Suite(words[0], words[1], tuple(words[2].split(",")), " ".join(words[3:])))
    return suites


class Results:
    """What came of every test, shown as it comes."""

    def __init__(self):
        self.tests = []

    def add(self, suite, configuration, results):
        self.tests += [{"suite": suite, "name": name, "kernel": configuration, "result": result}
                       for name, result in results]

    def seen(self, suite, configuration):
        return any(test["suite"] == suite and test["kernel"] == configuration for test in self.tests)

    def finish(self):
        counts = Counter(test["result"] for test in self.tests)
        counts = {result: counts[result] for result in (ktap.PASSED, ktap.FAILED, ktap.SKIPPED)}
        (BUILD / "test.json").write_text(json.dumps(counts | {"tests": self.tests}, indent=1) + "\n")
        print()
        for test in self.tests:
            if test["result"] == FAILED:
                print(f"FAILED {test['suite']}: {test['name']} ({test['kernel']})")
        print(", ".join(f"{count} {result}" for result, count in counts.items()), flush=True)
        return 1 if counts[FAILED] or not counts[PASSED] else 0


def heading(suite, configuration):
    print(f"\n# {suite} ({configuration})", flush=True)


def show(results):
    print(f"KTAP version 1\n1..{len(results)}")
    for number, (name, result) in enumerate(results, 1):
        print(f"{'not ok' if result == FAILED else 'ok'} {number} {name}", flush=True)


def build_suite(debug, debug_builtin, base_in_tree, by_gcc):
    """Did the ways to build the driver come to what they should?"""
    def modinfo(module, name):
        return subprocess.run(["modinfo", "-F", name, module], capture_output=True, text=True).stdout.strip()

    release = (debug.kernel.path / "include/config/kernel.release").read_text().strip()
    builtin = (debug_builtin.obj / "modules.builtin").read_text().splitlines()
    checks = {
        "out_of_tree_for_its_kernel": modinfo(debug.ko, "vermagic").split(" ")[0] == release,
        "out_of_tree_is_marked_so": modinfo(debug.ko, "intree") == "",
        "out_of_tree_by_gcc": b"GCC: " in by_gcc.ko.read_bytes(),
        "in_tree_as_module": base_in_tree.ko.exists() and modinfo(base_in_tree.ko, "intree") == "Y",
        "in_tree_built_in": "kernel/drivers/misc/uxive/uxive.ko" in builtin,
        "in_tree_built_in_makes_no_module": not debug_builtin.ko.exists(),
    }
    return [(name, PASSED if good else FAILED) for name, good in checks.items()]


class UnitTests(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.results = []

    def addSuccess(self, test):
        self.results.append((test.id(), PASSED))

    def addFailure(self, test, err):
        print(self._exc_info_to_string(err, test))
        self.results.append((test.id(), FAILED))

    addError = addFailure


def unit_tests():
    """The testbed's own tests, tools/testbed/tests/."""
    results = UnitTests()
    unittest.defaultTestLoader.discover(HERE / "tests", top_level_dir=HERE / "tests").run(results)
    return results.results


def rust_tests(tests):
    """What runs on the host and speaks as Rust's own tests do, examples in documentation among them."""
    found = []
    for command in tests.commands():
        done = subprocess.run(command, capture_output=True, text=True)
        results = re.findall(r"^test (.+?)(?: - should panic| - compile)? \.\.\. (ok|FAILED|ignored)", done.stdout, re.MULTILINE)
        found += [(name, {"ok": PASSED, "ignored": ktap.SKIPPED}.get(result, FAILED)) for name, result in results]
        if done.returncode or not results:
            print(done.stdout + done.stderr)
            found.append((f"{command[0]}: status {done.returncode}, {len(results)} results", FAILED))
    return found


def boot(configuration, suites, programs, model, modules, whole, results):
    """One boot: the suites' jobs in the list's order, then the console."""
    name = f"test-{configuration.name}"
    files = {f"/tests/{test}": path for test, path in programs.tests.items()}
    files |= {f"/tests/{path.name}": path for path in (GUEST / "tests").iterdir()}
    files |= libraries(programs.tests) | debug_files(configuration.kernel) | programs.in_bin()
    for module in modules:
        files[f"/modules/{module.ko.name}"] = module.ko
        files |= {f"/tests/{path.name}": path for path in module.top.iterdir() if path.name == "checkers"}
    if configuration.module:
        files["/modules/uxive.ko"] = configuration.module.ko
    jobs = []
    if configuration.load:
        jobs.append(("load", "insmod /modules/uxive.ko"))
    planted = [suite for suite in suites if suite.kind == "checkers"]
    jobs += [(suite, suite.command()) for suite in suites if suite not in planted]
    if whole and any(suite.kind == "kunit" for suite in suites):
        jobs.append(("kunit", f"ls {KUNIT}"))
    jobs += [(suite, suite.command()) for suite in planted]

    token = new_token()
    image = initramfs(configuration.kernel.path, name, files,
                      "".join(job(number, command) for number, (_, command) in enumerate(jobs)), token)
    machine = Machine(name, configuration.image(), image, configuration.append, configuration.cpus, configuration.machine,
                      Accelerators(name, model.program, configuration.afus))
    if configuration.afus:
        machine.command += NO_AFU
    say(f"booting {configuration.name}, console {shown(machine.console_log)}")
    running, output = None, b""
    try:
        for event in machine.run(token, SILENCE, TOTAL):
            if event[0] == "begin":
                running, output = jobs[event[1]][0], b""
                if isinstance(running, Suite):
                    heading(running.name, configuration.name)
            elif event[0] == "output":
                output += event[1]
                if running != "kunit":
                    sys.stdout.buffer.write(event[1])
                    sys.stdout.flush()
            elif event[0] == "end":
                ended(running, output.decode(errors="replace"), event[2], suites, configuration, results)
                running = None
    except Hung as hung:
        print(f"\n{hung}")
        suite = running.name if isinstance(running, Suite) else running or "boot"
        results.add(suite, configuration.name, [(str(hung), FAILED)])
    for suite in suites:
        if not results.seen(suite.name, configuration.name):
            results.add(suite.name, configuration.name, [("did not run", FAILED)])
    watch_console(machine.console_log, bool(planted), configuration, results)


def ended(running, output, status, suites, configuration, results):
    if running == "load":
        if status:
            results.add("load", configuration.name, [(f"insmod: {output.strip()}", FAILED)])
    elif running == "kunit":
        # The kernel brings suites of its own; ours begin with uxive.
        for name in output.split():
            if name.startswith("uxive") and name not in {suite.name for suite in suites}:
                results.add(name, configuration.name, [("is not in tools/testing/suites", FAILED)])
    else:
        found = ktap.read(output, running.name, None if running.kind == "kunit" else status)
        results.add(running.name, configuration.name, found)


def watch_console(log, planted, configuration, results):
    text = log.read_text(errors="replace")
    if planted:
        text = text.split(PLANTING)[0]
    found = complaints(text)
    heading("console", configuration.name)
    for complaint in found:
        print(f"{complaint}\n")
    outcome = [(f"{len(found)} complaints, see {shown(log)}", FAILED)] if found else [("nothing_to_complain_of", PASSED)]
    show(outcome)
    results.add("console", configuration.name, outcome)


def test(only=None):
    suites = read_suites()
    whole = not only
    if only and only not in {suite.name for suite in suites}:
        raise Failed(f"no suite is called {only}; there are {', '.join(sorted({suite.name for suite in suites}))}")
    suites = [suite for suite in suites if whole or suite.name == only]
    source = Source()
    base, debug = Kernel(source, "base"), Kernel(source, "debug")
    configurations = {
        "debug": Configuration("debug", debug, out_of_tree(debug), afus=AFUS),
        "debug-builtin": Configuration("debug-builtin", debug, InTree(debug, "y"), afus=AFUS),
        "base": Configuration("base", base, out_of_tree(base), afus=AFUS[:1]),
        "smp1": Configuration("smp1", base, out_of_tree(base), cpus="1"),
        "smp4": Configuration("smp4", base, out_of_tree(base), cpus="4,sockets=2", afus=AFUS),
        "power10": Configuration("power10", base, out_of_tree(base), machine="powernv10", afus=AFUS),
        "noxive": Configuration("noxive", base, out_of_tree(base), load=False, append="xive=off"),
    }
    unknown = {name for suite in suites for name in suite.configurations} - {HOST, *configurations}
    if unknown:
        raise Failed(f"tools/testing/suites names configurations that do not exist: {', '.join(sorted(unknown))}")
    wanted = [each for each in configurations.values() if any(each.name in suite.configurations for suite in suites)]
    programs = Programs(wanted[0].kernel if wanted else base)
    modules = test_modules(debug) if any(each.kernel is debug for each in wanted) else []
    in_tree = InTree(base, "m")
    # The kernels are built by clang. The module is loaded by none of them.
    by_gcc = out_of_tree(base, ("LLVM=", "CROSS_COMPILE=powerpc64le-linux-gnu-"), "-gcc")
    model = AfuModel()
    rusttests = {"library": LibraryTests(), "afu_model": model}
    needed = list(wanted)
    if wanted:
        needed += [programs, model, *modules]
    if any(suite.kind == "build" for suite in suites):
        needed += [configurations["debug"], configurations["debug-builtin"], in_tree, by_gcc]
    needed += [rusttests[suite.name] for suite in suites if suite.kind == "rusttest"]

    (BUILD / "test.json").unlink(missing_ok=True)
    results = Results()
    with made(*needed):
        for each in wanted:
            each.keep()
        for suite in suites:
            if HOST in suite.configurations:
                heading(suite.name, HOST)
                if suite.kind == "build":
                    found = build_suite(configurations["debug"].module, configurations["debug-builtin"].builtin, in_tree,
                                        by_gcc)
                elif suite.kind == "rusttest":
                    found = rust_tests(rusttests[suite.name])
                else:
                    found = unit_tests()
                show(found)
                results.add(suite.name, HOST, found or [("did not run", FAILED)])
    if whole:
        listed = {suite.name for suite in suites}
        for name in programs.tests.keys() - listed:
            results.add(name, HOST, [("is not in tools/testing/suites", FAILED)])
    for each in wanted:
        boot(each, [suite for suite in suites if each.name in suite.configurations], programs, model,
             modules if each.kernel is debug else [], whole, results)
    return results.finish()
