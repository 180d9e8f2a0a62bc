# SPDX-License-Identifier: GPL-2.0
"""make kvm-patches: how KVM fails without each of its patches.

KVM's part of a kernel is built anew with one patch taken back, in a copy of the kernel's build, and a test of the suite
`passthrough` is run on it that must fail then; or the kernel must complain or stop. With all patches the same tests pass, which
`make test` sees to. This shows that they can fail.
"""

import re
import shutil

from console import complaints
from driver import Programs, test_modules, write
from guest import Hung, KVM, Machine, initramfs, job, new_token
from kernel import Kernel, Source
from steps import BUILD, Failed, Step, made, shown

# The beginning of a patch's name, the kernel, and a test that fails without it; the machine, if it is another than POWER9.
SHOWN = [("0006", "base", "an_irqfd_of_no_block_is_refused"),
         ("0007", "base", "an_irqfd_of_no_source_is_refused"),
         ("0008", "base", "a_page_of_an_interrupt_goes_with_it"),
         ("0008", "debug", "a_masked_source_stays_masked"),
         ("0009", "base", "an_interrupt_comes_and_goes_under_a_guest_that_runs"),
         ("0010", "base", "an_event_has_the_number_that_the_guest_chose"),
         ("0011", "base", "a_device_that_is_made_anew_is_left_alone"),
         ("0012", "debug", "a_masked_source_stays_masked"),
         ("0013", "base", "a_vmm_keeps_its_registers"),
         ("0014", "base", "an_interrupt_comes_and_goes_under_a_guest_that_has_ceded", "powernv10"),
         ("0015", "base", "an_interrupt_comes_and_goes_under_a_guest_that_runs")]
# A kernel that has lost its locks in an oops ends the machine.
APPEND = "oops=panic"
# Seconds that a test may take.
TOTAL = 900


def changed(patch):
    """The files that a patch changes."""
    return re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text(), re.MULTILINE)


class Without:
    """A kernel of the cache, built anew without one patch after the other."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.path = BUILD / "kvm-patches" / kernel.variant
        self.obj = self.path / "obj"
        self.files = self.path / "files"

    def copy(self, step):
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        step.run(["cp", "-a", "--reflink=auto", self.kernel.path, self.obj])

    def build(self, step, patches, left_out):
        """All files that any of `patches` changes are mounted over the source, so that the last one left out comes back."""
        making = self.path / "making"
        shutil.rmtree(making, ignore_errors=True)
        names = sorted({name for patch in patches for name in changed(patch)})
        for name in names:
            (making / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.kernel.source.path / name, making / name)
        step.run(["patch", "-d", making, "-p1", "-f", "-R", "--no-backup-if-mismatch", "-i", left_out])
        write({name: (making / name).read_bytes() for name in names}, self.files)
        mounts = [(self.kernel.source.path, "/linux"), (self.obj, "/obj"),
                  *((self.files / name, f"/linux/{name}") for name in names)]
        step.run([*self.kernel.make, "-C", "/obj", "vmlinux", "modules"], mounts)

    def run(self, name, program, module, test, machine=None):
        """Returns what went wrong, as lines; none if all went well."""
        files = {"/tests/passthrough": program, "/modules/producer.ko": module.ko,
                 **{f"/modules/{each}": self.obj / "arch/powerpc/kvm" / each for each in KVM}}
        token = new_token()
        machine = Machine(name, self.obj / "vmlinux",
                          initramfs(self.obj, name, files, job(0, f"/tests/passthrough {test}"), token), APPEND, machine=machine)
        output, wrong = b"", []
        try:
            for event in machine.run(token, total=TOTAL):
                if event[0] == "output":
                    output += event[1]
        except Hung as hung:
            wrong.append(str(hung))
        text = output.decode(errors="replace")
        said = re.findall(r"^(?:not ok .*|# .*)$", text, re.MULTILINE) if re.search("^not ok", text, re.MULTILINE) else []
        found = complaints(machine.console_log.read_text(errors="replace"))
        return [*said, *(found[0].splitlines() if found else []), *wrong]


def kvm_patches():
    source = Source()
    patches = {patch.name[:4]: patch for patch in source.patches if "-KVM-" in patch.name}
    lost = patches.keys() ^ {number for number, *_ in SHOWN}
    if lost:
        raise Failed(f"tools/testbed/kvm.py and the patches of KVM do not agree on {', '.join(sorted(lost))}")
    kernels = {variant: Kernel(source, variant) for variant in dict.fromkeys(variant for _, variant, *_ in SHOWN)}
    modules = {variant: test_modules(kernel, ["producer"])[0] for variant, kernel in kernels.items()}
    programs = Programs(kernels["base"])
    with made(programs, *modules.values()):
        pass
    without = {variant: Without(kernel) for variant, kernel in kernels.items()}
    steps = [Step(f"copying kernel {variant}", f"kvm-patches-{variant}.log", each.copy) for variant, each in without.items()]
    silent = []
    for number, variant, *_ in SHOWN:
        each, patch = without[variant], patches[number]
        name = f"without-{number}-{variant}"
        steps.append(Step(f"building kernel {variant} without {number}", f"{name}.log",
                          lambda step, each=each, patch=patch: each.build(step, patches.values(), patch)))
    for at, step in enumerate(steps, 1):
        step.start(at, len(steps))
        if at <= len(without):
            continue
        number, variant, test, *machine = SHOWN[at - len(without) - 1]
        name = f"without-{number}-{variant}"
        wrong = without[variant].run(name, programs.tests["passthrough"], modules[variant], test, *machine)
        subject = re.search(r"^Subject: \[PATCH\] (.*)$", patches[number].read_text(), re.MULTILINE)[1]
        print(f"\nWithout {number}, {subject}:\n{test}, kernel {variant}")
        print("\n".join(f"  {line}" for line in wrong or ["nothing goes wrong"]), flush=True)
        if not wrong:
            silent.append(name)
    if silent:
        raise Failed(f"nothing went wrong in {', '.join(shown(BUILD / 'logs' / f'{name}.console') for name in silent)}")
