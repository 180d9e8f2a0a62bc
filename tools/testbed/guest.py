# SPDX-License-Identifier: GPL-2.0
"""The emulated machine: its initramfs, its boot, its jobs, and the eye on it.

The kernel's messages go to the console, a log file. The output of jobs goes through a virtio port of its own to a second file,
so that neither garbles the other. In the second, guest/init marks where a job begins and ends with a token that is new for each
boot. A job that prints a line of the token, "pause" and a number stops the machine for so many seconds, while its clock goes
on.
"""

import re
import secrets
import signal
import subprocess
import time
from pathlib import Path

from afu import Accelerators
from debs import LIBRARIES, MACHINE
from steps import BUILD, Failed, LOGS, REPO, shown

GUEST = REPO / "tools/testbed/guest"
# A slow host makes a slow machine, which is no stall.
COMMAND_LINE = "console=hvc0 panic=-1 rcupdate.rcu_cpu_stall_timeout=300"
INTERPRETER = Path("/lib64/ld64.so.2")
KVM = ["kvm.ko", "kvm-hv.ko"]
VFIO = ["vfio.ko", "vfio_iommu_spapr_tce.ko", "pci/vfio-pci-core.ko", "pci/vfio-pci.ko"]
# Of the C library and the compiler: the cross compiler's packages have the same files elsewhere.
CROSS_LIBRARIES = Path("/usr/powerpc64le-linux-gnu/lib")


class Hung(Failed):
    """The machine did not get to its end; the log of its console has its words."""

    def __init__(self, text, console=None):
        super().__init__(text)
        self.console = console


class DidNotComeUp(Hung):
    """It did not even get to its first job."""


def cpio(kernel_build, directory, files):
    """The file `initramfs` in a directory: `files` (path in it → path here), and empty directories to mount on."""
    above = {parent for path in files for parent in Path(path).parents if parent != Path("/")}
    above |= {Path(f"/{name}") for name in ("dev", "proc", "sys", "tmp", "root")}
    lines = [f"dir {path} 755 0 0" for path in sorted(above)]
    lines += ["nod /dev/console 600 0 0 c 5 1"]
    lines += [f"file {path} {Path(source).resolve()} 755 0 0" for path, source in files.items()]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "list").write_text("\n".join(lines) + "\n")
    image = directory / "initramfs"
    with image.open("wb") as out:
        # The kernel's own tool: it needs no mknod, which user namespaces do not have.
        subprocess.run([kernel_build / "usr/gen_init_cpio", directory / "list"], stdout=out, check=True)
    return image


def initramfs(kernel_build, name, files, jobs, token):
    """An initramfs of busybox, guest/init, `files` (path in it → path here) and the job list."""
    directory = BUILD / "boot" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "jobs").write_text(jobs)
    (directory / "token").write_text(token + "\n")
    files = {"/init": GUEST / "init", "/bin/busybox": MACHINE.path("busybox-static", "usr/bin/busybox"),
             "/jobs": directory / "jobs", "/token": directory / "token", **files}
    return cpio(kernel_build, directory, files)


def kvm_modules(kernel):
    """KVM's modules, for initramfs(). The kernel bench has none."""
    names = () if kernel.variant == "bench" else KVM
    return {f"/modules/{name}": kernel.path / "arch/powerpc/kvm" / name for name in names}


def vfio_modules(kernel):
    """VFIO's modules likewise."""
    names = () if kernel.variant == "bench" else VFIO
    return {f"/modules/{Path(name).name}": kernel.path / "drivers/vfio" / name for name in names}


def job(number, command):
    quoted = command.replace("'", "'\\''")
    return f"job {number} '{quoted}'\n"


def events(buffer, token):
    """The events in a piece of the output: a list of ("output", bytes), ("begin", job), ("end", job, status), ("pause",
    seconds), ("done",); and the incomplete rest, which needs more output."""
    found = []
    while True:
        at = buffer.find(token)
        if at < 0:
            hold = next((size for size in range(min(len(token) - 1, len(buffer)), 0, -1)
                         if buffer.endswith(token[:size])), 0)
            at, line_end = len(buffer) - hold, -1
        else:
            line_end = buffer.find(b"\n", at)
        if at:
            found.append(("output", buffer[:at]))
        if line_end < 0:
            return found, buffer[at:]
        word, *numbers = buffer[at + len(token):line_end].decode().split()
        found.append((word, *map(int, numbers)))
        buffer = buffer[line_end + 1:]


def pause(process, seconds):
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


class Machine:
    def __init__(self, name, kernel, image, append="", cpus=None, machine=None, accelerators=None,
                 memory=None):
        self.accelerators = accelerators or Accelerators(name, None, [])
        self.console_log = LOGS / f"{name}.console"
        self.output_log = LOGS / f"{name}.output"
        self.qemu_log = LOGS / f"{name}.qemu"
        self.command = ["qemu-system-ppc64", "-M", machine or "powernv9", "-smp", str(cpus or 2),
                        "-m", memory or "1536M", "-display", "none", "-vga", "none", "-net", "none", "-no-reboot", "-kernel", kernel, "-initrd", image,
                        "-append", f"{COMMAND_LINE} {append}".strip(),
                        "-device", "virtio-serial-pci,bus=pcie.5",
                        "-chardev", f"file,id=output,path={self.output_log}",
                        "-device", "virtserialport,chardev=output,name=uxive", *self.accelerators.options()]
        LOGS.mkdir(parents=True, exist_ok=True)
        for log in (self.console_log, self.output_log, self.qemu_log):
            log.write_bytes(b"")

    def interactive(self):
        """The console on the terminal, until the machine is off. Returns QEMU's exit status."""
        with self.accelerators:
            return subprocess.run([*self.command, "-chardev", "stdio,id=console,mux=on,signal=off",
                                   "-serial", "chardev:console", "-mon", "chardev=console"]).returncode

    def run(self, token, silence=None, total=None, boot=900):
        """Yields the events of the run. Raises Hung, with the machine killed, if it says nothing at all for `silence`
        seconds, runs for `total` seconds, takes more than `boot` seconds to its first job, or ends before its jobs; or if
        one of its accelerators fails. Before the first job all of these are DidNotComeUp."""
        first = False
        try:
            with self.accelerators:
                for event in self.watch(token.encode(), silence, total, boot):
                    first = first or event[0] == "begin"
                    yield event
        except Hung as hung:
            raise (Hung if first else DidNotComeUp)(str(hung), self.console_log) from None

    def watch(self, token, silence, total, boot):
        with self.qemu_log.open("wb") as log:
            process = subprocess.Popen([*self.command, "-chardev", f"file,id=console,path={self.console_log}",
                                        "-serial", "chardev:console", "-monitor", "none"],
                                       stdin=subprocess.DEVNULL, stderr=log)
        begun = heard = time.monotonic()
        first = done = False
        size, rest = 0, b""
        try:
            with self.output_log.open("rb") as output:
                while True:
                    over = process.poll() is not None
                    read = output.read()
                    found, rest = events(rest + read, token)
                    for event in found:
                        if event[0] == "pause":
                            pause(process, event[1])
                            continue
                        first = first or event[0] == "begin"
                        done = done or event[0] == "done"
                        yield event
                    now = time.monotonic()
                    if read or size != self.console_log.stat().st_size:
                        heard, size = now, self.console_log.stat().st_size
                    # At the end of the machine they are about to end, too.
                    failed = self.accelerators.complaint(wait=1 if over else 0)
                    if failed:
                        raise Hung(failed)
                    if over:
                        break
                    if silence and now - heard > silence:
                        raise Hung(f"hang: nothing heard for {silence} s, machine stopped, see {shown(self.console_log)}")
                    if total and now - begun > total:
                        raise Hung(f"hang: not done after {total} s, machine stopped, see {shown(self.console_log)}")
                    if not first and now - begun > boot:
                        raise Hung(f"hang: not booted after {boot} s, machine stopped, see {shown(self.console_log)}")
                    time.sleep(0.02)
            if process.returncode:
                said = self.qemu_log.read_text(errors="replace").strip().splitlines()
                raise Hung(f"QEMU ended with status {process.returncode}: {said[-1] if said else 'without a word'}")
            if not done:
                raise Hung(f"the machine went down before its jobs were done, see {shown(self.console_log)}")
        finally:
            process.kill()
            process.wait()


def new_token():
    return f"<{secrets.token_hex(16)}>"


def program_files(program, debs=MACHINE, more=()):
    """The files that a dynamic ppc64le program needs in the machine: its interpreter and libraries, from the cross compiler,
    the Debian packages and the directories `more`.

    Path in the initramfs → path here.
    """
    places = [CROSS_LIBRARIES, *(path / LIBRARIES for path in debs.paths.values()), *more]
    with open(program, "rb") as start:
        header = start.read(20)
    # ELF, 64-bit, little endian, machine 21: PowerPC64
    if header[:6] != b"\x7fELF\x02\x01" or header[18:20] != b"\x15\x00":
        raise Failed("this is no ppc64le program; build it with powerpc64le-linux-gnu-gcc")
    found = {}
    queue = [Path(program)]
    while queue:
        text = subprocess.run(["powerpc64le-linux-gnu-readelf", "-dl", queue.pop()], check=True, capture_output=True,
                              text=True).stdout
        if "program interpreter:" in text:
            found[str(INTERPRETER)] = CROSS_LIBRARIES / INTERPRETER.name
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", text):
            library = next((place / name for place in places if (place / name).exists()), None)
            if not library:
                lack = debs.lack(*debs.paths)
                raise Failed(f"the program needs {name}, which the testbed has not"
                             f"{f' ({lack})' if lack else '; link it statically'}")
            if name != INTERPRETER.name and f"/{LIBRARIES}/{name}" not in found:
                found[f"/{LIBRARIES}/{name}"] = library
                queue.append(library)
    return found


def libraries(programs):
    """The files of program_files() for all of `programs` (name → path here)."""
    found = {}
    for program in programs.values():
        found |= program_files(program)
    return found
