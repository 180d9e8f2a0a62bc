# SPDX-License-Identifier: GPL-2.0
"""The accelerators (AFUs) of a machine: for each a process of tools/afu-model, started before QEMU and ended with it.

QEMU and the process speak over a Unix socket. Its path must be shorter than 108 bytes. It is, since the tree is at /uxive in
the root.
"""

import contextlib
import re
import resource
import subprocess
from dataclasses import dataclass

from steps import BUILD, Failed, LOGS

# A PHB has one slot, so each AFU has a PHB of its own; pcie.5 is the testbed's. The PHBs of pcie.0 and pcie.3 have 4088
# messages, the others 2040: there an AFU can have more slots than the PHB has messages.
MOST = 5
LAST_WORDS = 5


@dataclass(frozen=True)
class Afu:
    """The size of an AFU: its contexts, and the message slots of each."""
    contexts: int
    slots: int


def parse(text):
    """The AFUs of AFUS=: contexts x slots, with commas between AFUs; 0 for none."""
    if text == "0":
        return []
    found = [re.fullmatch(r"(\d{1,4})x(\d{1,4})", word) for word in text.split(",")]
    if not all(found) or len(found) > MOST:
        raise Failed(f"AFUS={text}: it is like 32x63,23x89, contexts x message slots of at most {MOST} AFUs, or 0")
    return [Afu(int(match[1]), int(match[2])) for match in found]


class Accelerators:
    """The AFUs of the machine called `name`, of which AFU n is behind the PHB of bus pcie.n."""

    def __init__(self, name, program, afus):
        directory = BUILD / "boot" / name
        self.program = program
        self.afus = [(afu, directory / f"afu{n}", LOGS / f"{name}.afu{n}") for n, afu in enumerate(afus)]
        self.processes = []

    def options(self):
        """QEMU's."""
        found = []
        for n, (afu, socket, _) in enumerate(self.afus):
            found += ["-chardev", f"socket,id=afu{n},path={socket}",
                      "-device", f"ivshmem-doorbell,vectors={afu.contexts * afu.slots + 1},chardev=afu{n},bus=pcie.{n},"
                                 "addr=0.0,multifunction=on"]
        return found

    def __enter__(self):
        if self.afus:
            # QEMU opens an eventfd for each vector. The model raises its own limit.
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            for afu, socket, log in self.afus:
                self.start(afu, socket, log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, afu, socket, log):
        socket.unlink(missing_ok=True)
        with log.open("wb") as errors:
            process = subprocess.Popen([self.program, socket, "--contexts", str(afu.contexts), "--slots", str(afu.slots)],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        self.processes.append((process, log))
        # The model prints a line when QEMU may connect.
        if not process.stdout.readline():
            process.wait()
            raise Failed(self.complaint() or "the AFU model ended without having begun")

    def complaint(self, wait=0):
        """The complaint about a process that has ended with an error, else None. They end without one when the machine ends;
        `wait` is how many seconds they have for that."""
        for process, log in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
            if process.returncode:
                said = log.read_text(errors="replace").strip().splitlines()[-LAST_WORDS:]
                return f"the AFU model ended with status {process.returncode}: {' '.join(said) or 'without a word'}"
        return None

    def __exit__(self, *_):
        for process, _ in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()
        self.processes = []
