# SPDX-License-Identifier: GPL-2.0
"""The testbed's commands, inside the Debian root. tools/testbed/testbed brings us here; the tree is at /uxive."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import kvm
import lint
import qemu
import recorded
import testing
from afu import Accelerators, parse
from console import complaints
from driver import DEMO, AfuModel, InTree, KUnit, Programs, out_of_tree, test_modules
from guest import GUEST, Machine, initramfs, job, kvm_modules, libraries, new_token, program_files
from kernel import VARIANTS, Kernel, Source
from steps import BUILD, Failed, REPO, made, say, shown


def setting(name):
    return os.environ.get(f"UXIVE_{name}") or None


class Bench:
    """A machine with one kernel, the driver, the programs and an accelerator (or those of AFUS=), for demo, run and shell."""

    def __init__(self, name):
        variant = setting("KERNEL") or "base"
        if variant not in VARIANTS:
            raise Failed(f"KERNEL={variant}: there are {', '.join(VARIANTS)}")
        self.name = name
        self.kernel = Kernel(Source(), variant)
        self.module = out_of_tree(self.kernel)
        self.programs = Programs(self.kernel)
        model = AfuModel()
        self.accelerators = Accelerators(name, model.program, parse(setting("AFUS") or "32x63"))
        with made(self.module, self.programs, model):
            pass

    def machine(self, files, command):
        """A machine that loads the driver as job 0 and runs the command as job 1, and the token of its output."""
        files = {"/modules/uxive.ko": self.module.ko, "/bin/bind-afus": GUEST / "bind-afus", **kvm_modules(self.kernel),
                 **self.programs.in_bin(), **files}
        token = new_token()
        jobs = job(0, "insmod /modules/uxive.ko") + job(1, command)
        image = initramfs(self.kernel.path, self.name, files, jobs, token)
        machine = Machine(self.name, self.kernel.path / "vmlinux", image, "", setting("CPUS"), setting("MACHINE"),
                          self.accelerators)
        return machine, token

    def run(self, files, command, total=None):
        """Runs one command in the machine and shows its output. Returns its exit status and output."""
        machine, token = self.machine(files, command)
        running, output, status = None, b"", None
        for event in machine.run(token, total=total):
            if event[0] == "begin":
                running, output = event[1], b""
            elif event[0] == "output":
                output += event[1]
                if running == 1:
                    sys.stdout.buffer.write(event[1])
                    sys.stdout.flush()
            elif event[0] == "end":
                if event[1] == 0 and event[2]:
                    raise Failed(f"the driver did not load: {output.decode().strip()}, see {shown(machine.console_log)}")
                status = event[2]
        found = complaints(machine.console_log.read_text(errors="replace"))
        if found:
            say(f"the kernel complained, see {shown(machine.console_log)}:\n{found[0]}")
        return status, output.decode(errors="replace"), bool(found)


def build():
    source = Source()
    base, debug = Kernel(source, "base"), Kernel(source, "debug")
    with made(out_of_tree(base), out_of_tree(debug), InTree(base, "m"), InTree(debug, "y"), Programs(base),
              AfuModel(), *test_modules(debug)):
        pass
    say(f"built for kernels base and debug: {shown(BUILD)}/*/uxive/uxive.ko")


def demo():
    bench = Bench("demo")
    programs = bench.programs.demo
    lacks = {name: lack for name, lack in bench.programs.lacks().items() if name.startswith("demo-")}
    for name, lack in lacks.items():
        say(f"uxive: {name} is left out: {lack}")
    files = {f"/bin/{name}": path for name, path in programs.items()} | {"/bin/demo": DEMO / "demo"} | libraries(programs)
    status, output, complained = bench.run(files, "/bin/demo", total=3600)
    rings = re.search(r"^rings sent (\d+), received (\d+), lost (\d+)$", output, re.MULTILINE)
    if not rings:
        raise Failed(f"demo: it ended with status {status} and without its count of rings")
    sent, received, lost = map(int, rings.groups())
    if sent == 0 or received != sent or lost:
        raise Failed("demo: rings were lost")
    if "ringer: stored once more: SIGBUS" not in output:
        raise Failed("demo: a doorbell that was revoked could be rung")
    events = re.search(r"^events (\d+), kernel entries (\d+)$", output, re.MULTILINE)
    if not events or int(events[1]) == 0 or int(events[2]):
        raise Failed("demo: the kernel was entered for events that were to be taken from memory, or there were none")
    guests = re.findall(r"^\w+ guest: rang (\d+) times, was rung (\d+) times: (\d+) exits of its own", output, re.MULTILINE)
    # By the exit it tells that it is done.
    if len(guests) != (2 if kvm_modules(bench.kernel) else 0) or any(rung != rang or int(exits) != 1 for rang, rung, exits in guests):
        raise Failed("demo: two guests did not ring each other, or left for it")
    # Process, PASID, commands, bytes, interrupts, checksums.
    rows = re.findall(r"^ *(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\w+)$", output, re.MULTILINE)
    if status or len(rows) != (0 if lacks else 4):
        raise Failed(f"demo: it ended with status {status} and {len(rows)} rows of its table of 4 copiers")
    for process, _, commands, size, interrupts, checksums in rows:
        if int(size) == 0 or int(interrupts) == 0 or interrupts != commands or checksums != "ok":
            raise Failed(f"demo: not all that process {process} had the accelerator do was done and verified")
    if lacks:
        raise Failed(f"demo: without {', '.join(lacks)}: {', '.join(lacks.values())}")
    say("\nWhat each operation costs, in instructions and beside ocxl's C code: make bench")
    return 1 if complained else 0


def guests():
    bench = Bench("guests")
    guest = Kernel(bench.kernel.source, "guest")
    with made(guest, qemu.PACKAGES):
        pass
    files = qemu.files(bench.kernel, guest, bench.programs.guests)
    status, _, complained = bench.run(files, qemu.COMMAND, total=3600)
    if status:
        raise Failed(f"guests: they ended with status {status}")
    return 1 if complained else 0


def kunit():
    tests = KUnit(Source())
    with made(tests):
        pass
    return subprocess.run(tests.command()).returncode


def run(program, *arguments):
    files = {f"/{Path(program).name}": BUILD / "run/program", **program_files(BUILD / "run/program")}
    command = shlex.join([f"/{Path(program).name}", *arguments, *shlex.split(setting("ARGS") or "")])
    status, _, _ = Bench("run").run(files, f"bind-afus; cd /root; exec {command}")
    if status:
        say(f"{program} ended with status {status}")
    return status


def shell():
    bench = Bench("shell")
    files = {f"/bin/{name}": path for name, path in (bench.programs.demo | bench.programs.tests).items()}
    files |= libraries(bench.programs.demo | bench.programs.tests)
    files["/etc/greeting"] = GUEST / "greeting"
    console = "setsid cttyhack sh -c '. /etc/greeting; exec sh -l' </dev/hvc0 >/dev/hvc0 2>&1"
    machine, _ = bench.machine(files, f"bind-afus; {console}")
    return machine.interactive()


def measuring():
    """tools/bench, which other commands need nothing of."""
    sys.path.append(str(REPO / "tools/bench"))
    import bench
    return bench


def bench():
    return measuring().bench()


COMMANDS = {"bench": bench, "build": build, "check": testing.check, "demo": demo, "guests": guests,
            "kunit": kunit, "kvm-patches": kvm.kvm_patches, "lint": lint.lint, "run": run, "shell": shell, "test": testing.test}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    command, *arguments = sys.argv[1:]
    if command not in COMMANDS:
        raise Failed(f"{command} is no command of the testbed; see make help")
    if recorded.told():
        say(recorded.told())
    return COMMANDS[command](*arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        say(f"uxive: {failed}")
        if recorded.told():
            say(recorded.told())
        sys.exit(1)
