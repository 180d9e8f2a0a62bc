# SPDX-License-Identifier: GPL-2.0
"""make test: the configurations, the machines that are booted for them, and the results of the suites.

tools/testing/suites says what must run. A boot runs the suites of one configuration as jobs, in the order of that list, and
its console is searched for complaints. A suite that gives no result has failed.

Two machines run at a time, or one beside a build, and three where there are six cores: most tests keep one CPU
busy. Those that hit race windows (`race`) have a boot of their own, and the host's cores to themselves. Those that have another
kernel take the machine over (`kexec`) have a boot of their own, too, and that kernel, which is the same one, as a file.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import ktap
import lint
import recorded
import suites as table
from afu import Accelerators, Afu
from cargo import Cargo
from console import complaints
from driver import LAYING, TESTS, AfuModel, InTree, LibraryTests, Programs, Rooms, VmmTests, out_of_tree, test_modules
from guest import GUEST, DidNotComeUp, Hung, Machine, initramfs, job, kvm_modules, libraries, new_token, vfio_modules
from kernel import Kernel, PreparedByGcc, Source, check_config
from ktap import FAILED, PASSED, SKIPPED, Outcome
from policy import Policies
from results import LACKS, LINT, Results, ktap_text, skipped
from steps import BUILD, HERE, Failed, Step, made, say, shown
from suites import HOST, KUNIT, OWN_BOOT, PLANTING
from tracing import Tracing

# Seconds. A machine may take any time, for its host may be slow, but selftests that run say so each minute, and end by
# themselves if they make no progress.
SILENCE = 900
AFUS = [Afu(32, 63), Afu(23, 89)]
# Beside AFUs there is QEMU's edu, which is no AFU: a program that has its registers reaches all of the memory.
NO_AFU = ["-device", "edu,bus=pcie.4"]
# The second AFU has neighbours, which the host bridge cannot tell from it: one with a driver, which guest/init takes from it,
# and an edu that does DMA anywhere in memory, as far as that bridge lets it.
NEIGHBOURS = ["-device", "virtio-rng-pci,bus=pcie.1,addr=0.1",
              "-device", f"edu,bus=pcie.1,addr=0.2,dma_mask={2**64 - 1}"]
# Machines at a time: each has two CPUs or four, and 1.5 GiB or twice that.
LANES = min(max(2, os.cpu_count() // 2), 3)
# Devices for programs that own them by VFIO: behind one host bridge two PEs, in each an edu beside another function. VFIO does
# not reset a device that has such a neighbour on its bus, which would take seconds.
OWNED = ["-device", "x3130-upstream,id=owned,bus=pcie.2"]
for pe in 0, 1:
    OWNED += ["-device", f"xio3130-downstream,id=owned{pe},bus=owned,chassis=1,slot={pe}",
              "-device", f"pcie-pci-bridge,id=pe{pe},bus=owned{pe}",
              "-device", f"edu,bus=pe{pe},addr=1,dma_mask={2**64 - 1}",
              "-device", f"virtio-rng-pci,bus=pe{pe},addr=2"]
# Modules of tools/testing/modules for the kernel base.
BASE_MODULES = ["consumer", "hoarder", "producer"]


class Configuration:
    """A kernel, how the driver comes into it, its command line, and the machine: QEMU's -smp, -M and -m, its AFUs, QEMU's options
    for other devices. A whole run deals its suites to so many `parts`, a machine each."""

    def __init__(self, name, kernel, module=None, load=True, append="", cpus=None, machine=None, memory=None, afus=(),
                 devices=(), parts=1):
        self.name = name
        self.kernel = kernel
        self.builtin = module if isinstance(module, InTree) else None
        self.module = None if self.builtin else module
        self.load = load and not self.builtin
        self.append = append
        self.cpus = cpus
        self.machine = machine
        self.memory = memory
        self.afus = afus
        self.devices = devices
        self.parts = parts
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


def configurations(source):
    base, debug = Kernel(source, "base"), Kernel(source, "debug")
    found = [
        # Half of all the time is its.
        Configuration("debug", debug, out_of_tree(debug), afus=AFUS, parts=3),
        # With pages of 64 KiB that takes long for each that is freed: not where most suites run.
        Configuration("debug-builtin", debug, InTree(debug, "y"), append="page_poison=1", afus=AFUS),
        # The same kernel has SELinux, which the others leave off.
        Configuration("selinux", debug, out_of_tree(debug), append="lsm=selinux", afus=AFUS[:1]),
        # Has memory for as many queues as the limits allow.
        Configuration("base", base, out_of_tree(base), memory="3G", afus=AFUS[:1], devices=OWNED),
        Configuration("smp4", base, out_of_tree(base), cpus="4,sockets=2", afus=AFUS),
        Configuration("power10", base, out_of_tree(base), machine="powernv10", afus=AFUS),
        Configuration("smp1", base, out_of_tree(base), append="threadirqs maxcpus=1", cpus="2,sockets=2"),
        Configuration("noxive", base, out_of_tree(base), load=False, append="xive=off"),
    ]
    return {each.name: each for each in found}


def build_suite(debug, debug_builtin, base_in_tree, by_gcc):
    """Did each way to build the driver give the right module or kernel?"""
    def modinfo(module, name):
        return subprocess.run(["modinfo", "-F", name, module], capture_output=True, text=True).stdout.strip()

    def is_for_its_kernel(module):
        release = (module.kernel.path / "include/config/kernel.release").read_text().strip()
        return modinfo(module.ko, "vermagic").split(" ")[0] == release

    content = by_gcc.ko.read_bytes()
    builtin = (debug_builtin.obj / "modules.builtin").read_text().splitlines()
    checks = {
        "out_of_tree_for_its_kernel": is_for_its_kernel(debug),
        "out_of_tree_is_marked_so": modinfo(debug.ko, "intree") == "",
        "out_of_tree_by_gcc_for_kernel_prepared_by_gcc": is_for_its_kernel(by_gcc) and b"GCC: " in content,
        "out_of_tree_by_gcc_for_ftrace": b"__patchable_function_entries" in content,
        "in_tree_as_module": base_in_tree.ko.exists() and modinfo(base_in_tree.ko, "intree") == "Y",
        "in_tree_built_in": "kernel/drivers/misc/uxive/uxive.ko" in builtin,
        "in_tree_built_in_makes_no_module": not debug_builtin.ko.exists(),
    }
    checks |= laid_into(base_in_tree)
    return [Outcome(name, PASSED if good else FAILED) for name, good in checks.items()]


# Of the kernel, with a line or more of ours when the driver is laid into its tree.
PLACES = ["MAINTAINERS", "drivers/misc/Kconfig", "drivers/misc/Makefile", "tools/testing/selftests/Makefile",
          "Documentation/userspace-api/ioctl/ioctl-number.rst",
          *(f"Documentation/{place}/index.rst" for place in ("admin-guide", "driver-api", "userspace-api"))]
# One of each kind.
LAID = ["drivers/misc/uxive/src/uxive_main.rs", "include/uapi/misc/uxive.h", "Documentation/admin-guide/uxive.rst",
        "Documentation/ABI/testing/sysfs-class-ocxl", "tools/testing/selftests/drivers/uxive/abi.c"]
LIMIT = "/sys/class/misc/uxive/max_irqs_per_context"


def laid_into(in_tree):
    """Is all there in the tree that the driver was laid into, and do the kernel's own tools find it?"""
    def said(*command):
        return subprocess.run(command, capture_output=True, text=True, cwd=in_tree.source).stdout

    def places():
        return [(in_tree.source / name).read_bytes() for name in PLACES]

    before = places()
    again = subprocess.run([LAYING[0], in_tree.source], capture_output=True)
    kernels = [(in_tree.kernel.source.path / name).read_bytes() for name in PLACES]
    maintained = [said("perl", "scripts/get_maintainer.pl", "--no-git", "--no-git-fallback", "-f", name) for name in LAID]
    described = said("python3", "tools/docs/get_abi.py", "--dir", "Documentation/ABI", "search", "uxive")
    return {
        "in_tree_each_place_knows_of_it": all(ours != theirs for ours, theirs in zip(before, kernels)),
        "in_tree_done_again_changes_nothing": again.returncode == 0 and before == places(),
        "in_tree_each_file_has_its_maintainers": all(":UXIVE" in text for text in maintained),
        "in_tree_its_limits_are_found_by_get_abi": LIMIT in described,
    }


def unit_tests():
    """The testbed's own tests, tools/testbed/tests/. In a process of their own, since they replace parts of the testbed."""
    done = subprocess.run([sys.executable, HERE / "tests/run.py"], capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr)
    # Times are told, for KTAP has none.
    return [each._replace(seconds=float(match[1])) if (match := re.search(rf"^# {re.escape(each.name)} took ([0-9.]+) s$",
                                                                         done.stdout, re.MULTILINE)) else each
            for each in ktap.read(done.stdout, "testbed", done.returncode)]


def rust_tests(tests):
    """Results of commands that run on the host and print as Rust's own tests do, examples in documentation among them."""
    found = []
    for command in tests.commands():
        done = subprocess.run(command, capture_output=True, text=True)
        results = re.findall(r"^test (.+?)(?: - should panic| - compile)? \.\.\. (ok|FAILED|ignored)", done.stdout,
                             re.MULTILINE)
        found += [Outcome(name, {"ok": PASSED, "ignored": SKIPPED}.get(result, FAILED)) for name, result in results]
        if done.returncode or not results:
            print(done.stdout + done.stderr)
            found.append(Outcome(f"{command[0]}: status {done.returncode}, {len(results)} results", FAILED))
    return found


@dataclass
class Boot:
    """A machine of a configuration, for these suites; if they are of OWN_BOOT it is `own` to that kind. A `part` but the first
    has a number."""
    configuration: Configuration
    suites: list
    own: str = ""
    part: int = 0
    reported: set = field(default_factory=set)

    @property
    def name(self):
        return "-".join(filter(None, ["test", self.configuration.name, self.own, self.part and str(self.part + 1)]))


def boots(configuration, suites, whole):
    """Those that a configuration needs. The suites of kind `boot` are for each."""
    mine = [suite for suite in suites if configuration.name in suite.configurations]
    found = []
    for own in "", *OWN_BOOT:
        those = [suite for suite in mine if suite.kind == "boot" or own == (suite.kind if suite.kind in OWN_BOOT else "")]
        # Where nothing else is asked for they have a boot, too.
        if any(suite.kind != "boot" for suite in those) or (those == mine and those and not own):
            parts = dealt(those, configuration.parts) if whole and not own else [those]
            found += [Boot(configuration, part, own, number) for number, part in enumerate(parts)]
    return found


def dealt(suites, parts):
    """Parts of these suites, each in their order. Unit tests and planted defects are in the first."""
    hands = [suite for suite in suites if suite.kind in ("kselftest", "script")]
    part_of = {suite: number % parts for number, suite in enumerate(hands)}
    return [[suite for suite in suites if suite.kind == "boot" or part_of.get(suite, 0) == part] for part in range(parts)]


class Machines:
    """The part that all boots of a run share: the files of the machines, and the results."""

    def __init__(self, results, suites, programs, model, tracing, modules, whole, policies=None):
        self.results = results
        self.programs = programs
        self.model = model
        self.tracing = tracing
        self.traced = {name for suite in suites if suite.name == "tracing" for name in suite.configurations}
        self.modules = modules
        self.whole = whole
        self.policies = policies

    def needs(self, configuration):
        """The things that must be made before the machines of a configuration."""
        return [configuration, self.programs, self.model, *self.modules_for(configuration),
                *([self.tracing] if configuration.name in self.traced else []),
                *([self.policies] if configuration.name == "selinux" else [])]

    def modules_for(self, configuration):
        return [module for module in self.modules if module.kernel is configuration.kernel]

    def lacks(self, boot):
        """The suites that cannot run for want of a package, by name, and why."""
        policies = self.policies.lack() if boot.configuration.name == "selinux" else None
        return self.programs.lacks() | ({"selinux": policies} if policies else {})

    def files(self, boot):
        """Path in the initramfs → path here."""
        configuration = boot.configuration
        files = {f"/tests/{test}": path for test, path in self.programs.tests.items()}
        files |= {f"/tests/{path.name}": path for path in (GUEST / "tests").iterdir()}
        files |= libraries(self.programs.tests) | self.programs.in_bin() | {"/bin/bind-afus": GUEST / "bind-afus"}
        if configuration.kernel.variant == "debug":
            files["/modules/ocxl.ko"] = configuration.kernel.path / "drivers/misc/ocxl/ocxl.ko"
        files |= kvm_modules(configuration.kernel) | vfio_modules(configuration.kernel)
        for module in self.modules_for(configuration):
            files[f"/modules/{module.ko.name}"] = module.ko
            files |= {f"/tests/{path.name}": path for path in module.top.iterdir() if path.name == "checkers"}
        if configuration.name in self.traced:
            files |= self.tracing.files()
            files["/lacks"] = BUILD / f"{boot.name}.lacks"
            files["/lacks"].write_text("".join(f"{tool} {lack}\n" for tool, lack in self.tracing.lacks().items()))
        if configuration.name == "selinux":
            files |= self.policies.files()
        if configuration.module:
            files["/modules/uxive.ko"] = configuration.module.ko
        if boot.own == "kexec":
            files["/vmlinux"] = configuration.image()
        return files

    def jobs(self, boot):
        """The commands of the machine, each with what it is for: a suite, or a word."""
        jobs = [("load", "insmod /modules/uxive.ko")] if boot.configuration.load else []
        lacks = self.lacks(boot)
        runnable = [suite for suite in boot.suites if suite.name not in lacks]
        planted = [suite for suite in runnable if suite.kind == "checkers"]
        jobs += [(suite, suite.command()) for suite in runnable if suite not in planted]
        if self.whole and any(suite.kind == "kunit" for suite in runnable):
            jobs.append(("kunit", f"ls {KUNIT}"))
        return jobs + [(suite, suite.command()) for suite in planted]

    def run(self, boot):
        """One boot: the suites' jobs in the list's order, then the console. A machine that does not come up is started once
        more, since its suites cannot be the cause."""
        lacks = self.lacks(boot)
        for suite in boot.suites:
            if suite.name in lacks:
                outcomes = skipped(suite.declared(), lacks[suite.name])
                self.report(boot, suite, ktap_text(outcomes), outcomes)
        jobs = self.jobs(boot)
        log = None
        try:
            try:
                log = self.boot(boot, boot.name, jobs)
            except DidNotComeUp as problem:
                if complaints(problem.console.read_text(errors="replace")):
                    raise  # which is the kernel's or the driver's doing
                self.results.note(f"{boot.name} is started once more: {problem}")
                log = self.boot(boot, f"{boot.name}-again", jobs)
        except Hung as hung:
            log = hung.console
            self.results.add("boot", boot.configuration.name, [Outcome(str(hung), FAILED)])
        for suite in boot.suites:
            if suite not in boot.reported:
                self.results.add(suite.name, boot.configuration.name, [Outcome("did not run", FAILED)])
        self.watch_console(boot, log, any(suite.kind == "checkers" for suite in boot.suites))

    def boot(self, boot, name, jobs):
        """Returns the log of the console."""
        configuration = boot.configuration
        token = new_token()
        image = initramfs(configuration.kernel.path, name, self.files(boot),
                          "".join(job(number, command) for number, (_, command) in enumerate(jobs)), token)
        machine = Machine(name, configuration.image(), image, configuration.append, configuration.cpus, configuration.machine,
                          Accelerators(name, self.model.program, configuration.afus), configuration.memory)
        if configuration.afus:
            machine.command += NO_AFU
        if len(configuration.afus) > 1:
            machine.command += NEIGHBOURS
        machine.command += configuration.devices
        say(f"booting {name}, console {shown(machine.console_log)}")
        running, output, stamps, begun = None, b"", [], 0
        try:
            for event in machine.run(token, SILENCE):
                if event[0] == "begin":
                    running, output, stamps, begun = jobs[event[1]][0], b"", [], time.monotonic()
                elif event[0] == "output":
                    output += event[1]
                    stamps += [time.monotonic() - begun] * event[1].count(b"\n")
                elif event[0] == "end":
                    self.ended(boot, running, output.decode(errors="replace"), stamps, event[2])
                    running = None
        except Hung as hung:
            if isinstance(running, table.Suite):
                self.report(boot, running, output.decode(errors="replace"), [Outcome(str(hung), FAILED)])
            raise
        return machine.console_log

    def ended(self, boot, running, output, stamps, status):
        configuration = boot.configuration
        if running == "load":
            if status:
                self.results.add("load", configuration.name, [Outcome(f"insmod: {output.strip()}", FAILED)])
        elif running == "kunit":
            # The kernel brings suites of its own; ours begin with uxive.
            for name in output.split():
                if name.startswith("uxive") and name not in {suite.name for suite in boot.suites}:
                    self.results.add(name, configuration.name, [Outcome("is not in tools/testing/suites", FAILED)])
        else:
            self.report(boot, running, output,
                        ktap.read(output, running.name, None if running.kind == "kunit" else status, stamps))

    def report(self, boot, suite, text, outcomes):
        boot.reported.add(suite)
        self.results.show(suite.name, boot.configuration.name, text)
        self.results.add(suite.name, boot.configuration.name, outcomes)

    def watch_console(self, boot, log, planted):
        text = log.read_text(errors="replace")
        if planted:
            text = text.split(PLANTING)[0]
        found = complaints(text)
        outcome = [Outcome(f"{len(found)} complaints, see {shown(log)}", FAILED) if found else
                   Outcome("nothing_to_complain_of", PASSED)]
        self.results.show("console", boot.configuration.name, "".join(f"{each}\n\n" for each in found) + ktap_text(outcome))
        self.results.add("console", boot.configuration.name, outcome)


class Schedule:
    """LANES threads: one builds and then boots machines, the others boot them from the beginning. The list's order decides
    between machines that are built. They are daemons, so that an interrupted run ends at once."""

    def __init__(self, machines, waiting):
        self.machines = machines
        self.waiting = waiting
        self.built = set()
        self.building = True
        self.turn = threading.Condition()
        self.fault = None

    def built_are(self, *configurations):
        with self.turn:
            self.built.update(each.name for each in configurations)
            self.turn.notify_all()

    def drop(self, configuration):
        """It could not be built."""
        with self.turn:
            self.waiting = [boot for boot in self.waiting if boot.configuration is not configuration]
            self.turn.notify_all()

    def next(self):
        """A boot that can begin; None when there is none left."""
        with self.turn:
            while True:
                for boot in self.waiting:
                    if boot.configuration.name in self.built:
                        self.waiting.remove(boot)
                        return boot
                if not self.waiting or not self.building:
                    return None
                self.turn.wait()

    def work(self, build=None):
        try:
            if build:
                build()
                with self.turn:
                    self.building = False
                    self.turn.notify_all()
            while boot := self.next():
                self.machines.run(boot)
        except BaseException as fault:  # raised again by run()
            with self.turn:
                self.fault = self.fault or fault
                self.waiting = []
                self.turn.notify_all()

    def run(self, build):
        threads = [threading.Thread(target=self.work, args=arguments, daemon=True)
                   for arguments in [(build,), *[()] * (LANES - 1)]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.fault:
            raise self.fault


class Configured:
    """The configuration of a kernel that no test builds: Kconfig drops without a word what it cannot set."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.path = BUILD / "configured" / kernel.path.name
        self.step = Step(f"configuring kernel {kernel.variant}", f"configured-{kernel.variant}.log", self.make)

    def steps(self):
        return [*self.kernel.source.steps(), *([] if self.path.exists() else [self.step])]

    def make(self, step):
        making = self.path.with_name(f"{self.path.name}.tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        (making / "fragments").write_text(self.kernel.config)
        step.run([*self.kernel.make, "-C", "/linux", "O=/obj", "KCONFIG_ALLCONFIG=/obj/fragments", "allnoconfig"],
                 [(self.kernel.source.path, "/linux"), (making, "/obj")])
        check_config(self.kernel.config, (making / ".config").read_text(), self.kernel.variant)
        making.rename(self.path)


class Host:
    """Runs the suites of the host, and builds what they test."""

    def __init__(self, results, suites, configurations, model):
        self.results = results
        self.suites = [suite for suite in suites if HOST in suite.configurations]
        self.configurations = configurations
        base = configurations["base"].kernel
        self.in_tree = InTree(base, "m")
        # No machine boots its kernel: it is built and linked, and never loaded.
        self.by_gcc = out_of_tree(PreparedByGcc(base))
        self.bench = Configured(Kernel(base.source, "bench"))
        self.rust = {"library": LibraryTests(), "afu_model": model, "rooms": Rooms(configurations["base"].module),
                     "vmm": VmmTests(base)}
        self.cargo = Cargo()

    def outcomes(self, suite):
        if suite.kind == "build":
            debug, builtin = (self.configurations[name] for name in ("debug", "debug-builtin"))
            # Other clones build in the same kernel.
            with made(debug, builtin, self.in_tree, self.by_gcc, self.bench):
                return build_suite(debug.module, builtin.builtin, self.in_tree, self.by_gcc)
        if suite.kind == "unittest":
            return unit_tests()
        tests = self.cargo if suite.kind == "cargo" else self.rust[suite.name]
        with made(tests):
            pass
        if suite.kind == "rusttest":
            return rust_tests(tests)
        return [each._replace(reason=LACKS + each.reason) if each.result == SKIPPED else each for each in tests.outcomes()]

    def run(self):
        for suite in self.suites:
            try:
                found = self.outcomes(suite)
            except Failed as failed:  # to build
                found = [Outcome(str(failed), FAILED)]
            self.results.show(suite.name, HOST, ktap_text(found))
            self.results.add(suite.name, HOST, found or [Outcome("did not run", FAILED)])


def run(results, suites, whole):
    """The suites in their configurations; all that there are if `whole`."""
    source = Source()
    known = configurations(source)
    unknown = {name for suite in suites for name in suite.configurations} - {HOST, *known}
    if unknown:
        raise Failed(f"tools/testing/suites names configurations that do not exist: {', '.join(sorted(unknown))}")
    wanted = [each for each in known.values() if any(each.name in suite.configurations for suite in suites)]
    model = AfuModel()
    programs = Programs((wanted or [known["base"]])[0].kernel)
    tracing = Tracing(source)
    modules = test_modules(known["debug"].kernel) + test_modules(known["base"].kernel, BASE_MODULES)
    policies = Policies(known["debug"].kernel)
    machines = Machines(results, suites, programs, model, tracing, modules, whole, policies)
    host = Host(results, suites, known, model)
    every = [boot for configuration in wanted for boot in boots(configuration, suites, whole)]
    failing = []

    def build():
        for configuration in wanted:
            try:
                with made(*machines.needs(configuration)):
                    configuration.keep()
            except Failed as failed:
                results.add("build", configuration.name, [Outcome(str(failed), FAILED)])
                failing.append(configuration)
                schedule.drop(configuration)
            else:
                schedule.built_are(configuration)
        host.run()

    schedule = Schedule(machines, [boot for boot in every if boot.own != "race"])
    schedule.run(build)
    for boot in every:
        if boot.own == "race" and boot.configuration not in failing:
            machines.run(boot)
    if whole:
        programs = {path.stem for pattern in ("*.c", "*.rs") for path in TESTS.glob(pattern)}
        for name in programs - {suite.name for suite in suites}:
            results.add(name, HOST, [Outcome("is not in tools/testing/suites", FAILED)])


def test(*words):
    suites = table.read()
    asked = [word for word in words if not word.startswith("C=")]
    where = [word.removeprefix("C=") for word in words if word.startswith("C=")]
    whole = not words
    (BUILD / "test.json").unlink(missing_ok=True)
    results = Results()
    run(results, suites if whole else table.asked(suites, asked, where), whole)
    status = results.finish()
    if whole and not status:
        say(f"it took {recorded.recorded()['run']['minutes']} minutes when it was recorded")
        recorded.write(results.slow(), results.minutes)
        if recorded.newer():
            say(f"{recorded.told()}: recorded in build/recorded.toml, for tools/testbed/recorded.toml")
    return status


def check():
    """make check: lint of what changed, the host's tests, and the quick half of each selftest in one boot of base."""
    results = Results()
    try:
        lint.lint(changed=True)
    except Failed as failed:
        results.add(LINT, HOST, [Outcome(str(failed), FAILED)])
    run(results, [*(suite for suite in table.read() if suite.kind in ("unittest", "rusttest")),
                  *table.quick(table.read(), recorded.slow())], whole=False)
    return results.finish()
