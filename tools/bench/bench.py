# SPDX-License-Identifier: GPL-2.0
"""make bench: what uxive's operations cost, beside ocxl's C code and others, in instructions.

The machine is emulated with -icount: its time is a count of instructions, whatever the host does, so a run repeats to
the instruction. Boots measure with mitigations=off, the same again (which must agree, or a third boot with one of them),
and with mitigations. Another measures for how long others are held up, one weighs memory, and one, of the kernel base, which
has KVM, runs guests. tools/bench/*.c is the program that runs in the machine, guests.rs that for guests; they say what an
operation is.

It ends with status 1 if a measurement failed, or no two boots agree. A target that is missed is only shown.
"""

import json
import os
from dataclasses import dataclass
from statistics import median

import chart
from afu import Accelerators, Afu
from console import complaints
from driver import AfuModel, CROSS, HEADERS, Made, Module, Programs, RUST, files, out_of_tree
from functions import Functions, profile
from guest import Hung, Machine, initramfs, job, kvm_modules, new_token
from kernel import Kernel, Source
from steps import BUILD, Failed, LOGS, REPO, made, say, shown

HERE = REPO / "tools/bench"
# One instruction takes 2 ns of the machine's time, and the timebase runs at 512 MHz.
ICOUNT = ["-icount", "shift=1,sleep=off", "-seed", "42", "-rtc", "base=2026-01-01,clock=vm"]
TICKS_PER_INSTRUCTION = 1.024
AGREE = 0.01
# Seconds, more than any boot takes: well under a minute, or some minutes with the profiler.
TOTAL = 1200
# 64 vectors, of which one is Linux's.
AFU = Afu(1, 63)
TOP = 50
STATIC = [*CROSS, "-static"]


@dataclass(frozen=True)
class Part:
    """A run of the program: what it measures, for each of these drivers."""
    name: str
    drivers: tuple
    operations: tuple


def part(name, drivers, operations):
    return Part(name, tuple(drivers.split()), tuple(operations.split()))


PARTS = [
    part("interrupts", "ocxl uxive", "alloc bind mmap first_touch ring_read ring_blocked_read ring_blocked_poll free "
                                     "alloc_again alloc_bind first_ring"),
    part("ready", "ocxl uxive", "ready64 touch64"),
    part("open_close", "ocxl uxive", "open_close open_close_with_one"),
    part("vfio", "vfio", "alloc_bind free ring_read ring_blocked_read ring_blocked_poll"),
    part("vfio_afu", "vfio", "ims_alloc_bind ims_free"),
    part("scale", "eventfd pipe", "ring_read ring_blocked_read ring_blocked_poll"),
    part("scale", "futex", "ring_blocked_read"),
    part("drain", "uxive", "ring_user_drain arm arm_block_wake"),
    part("ims", "uxive", "ims_alloc_bind ims_free"),
    part("batch", "uxive", "alloc_batch64 free_batch64"),
    part("export", "uxive", "export revoke_128 free_128 free_many64_128 free_all64_128"),
    part("pingpong", "uxive", "pingpong_send pingpong_interrupt pingpong_receive pingpong_drain_send "
                              "pingpong_drain_interrupt pingpong_drain_receive pingpong_poll_send pingpong_poll_receive "
                              "pingpong_poll_yield"),
    part("pingpong", "eventfd pipe futex", "pingpong_send pingpong_receive"),
    part("many", "uxive", "alloc_at_16384 first_touch_at_16384 ring_read_at_16384 free_at_16384"),
]
HELD = [part("held", "uxive", "write_0 ring_0 storm_0 write_10000 ring_10000 storm_10000 held_alloc_many held_touch held_bind "
                              "held_trigger held_mask held_unmask held_fdinfo held_export held_free_many "
                              "held_free_all held_alloc held_find")]
GUESTS = [part("guests", "uxive ioeventfd", "guest_send guest_to_guest guest_to_host host_send host_to_guest")]
# On a machine of two CPUs.
GUESTS_BESIDE = [part("guests", "uxive ioeventfd", "guest_to_idle_cpu")]
MEMORY = [part("memory", "ocxl uxive", "memory_context memory_context_with_one memory_interrupt")]

# Ways to send a message from one process to another: the driver and the operations, see pingpong.c.
PINGPONG = {
    "uxive, eventfd": ("uxive", "pingpong"),
    "uxive, user drain that blocks": ("uxive", "pingpong_drain"),
    "uxive, user drain that polls": ("uxive", "pingpong_poll"),
    "eventfd": ("eventfd", "pingpong"),
    "pipe": ("pipe", "pingpong"),
    "futex": ("futex", "pingpong"),
}
PIECES = ("send", "interrupt", "receive")

# The most that an operation may cost, as a multiple of another driver's or of another operation.
PEERS = ("ocxl", "vfio", "ioeventfd")
TARGETS = {
    "alloc": (1 / 12, "ocxl"),
    "free": (1 / 10, "ocxl"),
    "bind": (1, "ocxl"),
    "first_touch": (1, "ocxl"),
    "ready64": (1 / 10, "ocxl"),
    "ring_read": (1, "ocxl"),
    "ring_blocked_read": (1, "ocxl"),
    "ring_blocked_poll": (1, "ocxl"),
    "ims_alloc_bind": (1 / 10, "vfio"),
    "ims_free": (1 / 10, "vfio"),
    "alloc_batch64": (0.8, "alloc"),
    "free_batch64": (0.8, "free"),
    "alloc_at_16384": (1.2, "alloc"),
    "free_at_16384": (1.2, "free"),
    "first_touch_at_16384": (1.2, "first_touch"),
    "ring_read_at_16384": (1.2, "ring_read"),
    "guest_to_host": (1, "ioeventfd"),
    "guest_to_idle_cpu": (1 / 2, "ioeventfd"),
    "host_to_guest": (1, "ioeventfd"),
    # A handler signals one eventfd at least, and that is as long as there are waiters.
    "storm_10000": (1.1, "ring_10000"),
}
# How long others may be held up.
HOLD = 200_000
# Or as instructions.
LIMITS = {"ring_user_drain": 30, "storm_0": HOLD, "revoke_128": HOLD, "free_128": HOLD} | {
    name: HOLD for each in HELD for name in each.operations if "held" in name
}


class Tools(Made):
    """The program for the machine, and the plugin for QEMU."""

    def __init__(self, kernel):
        names = [path.name for path in HERE.glob("*.[ch]")]
        super().__init__(BUILD / "bench-tools", "building the measuring program", "bench-tools.log",
                         files(HERE, [*names, "plugin"]) | files(REPO, HEADERS), kernel.source.key, *STATIC)
        self.kernel = kernel
        self.program = self.path / "bench"
        self.plugin = self.path / "profile.so"

    def steps(self):
        return self.kernel.steps() + super().steps()

    def make(self, step):
        step.run([*STATIC, "-isystem", self.kernel.path / "usr/include",
                  *(f"-I{REPO / name}" for name in HEADERS), *sorted(HERE.glob("*.c")), "-o", self.program])
        step.run(["gcc", "-shared", "-fPIC", "-fvisibility=hidden", "-O2", "-Wall", "-Wextra", "-Werror",
                  HERE / "plugin/profile.c", "-o", self.plugin])


@dataclass(frozen=True)
class Result:
    n: int
    median: int
    min: int
    unit: str


def run_jobs(name, append, kernel, files, jobs, model, extra=(), cpus=1):
    """Boots a machine that measures, and runs the jobs. Returns what each printed, empty for those that failed, and what failed."""
    name = f"bench-{name}"
    token = new_token()
    image = initramfs(kernel.path, name, files, "".join(map(job, range(len(jobs)), jobs)), token)
    machine = Machine(name, kernel.path / "vmlinux", image, append, cpus=cpus,
                      accelerators=Accelerators(name, model.program, [AFU]))
    machine.command += [*ICOUNT, "-device", "edu,bus=pcie.1", *extra]
    say(f"booting {name}, output {shown(machine.output_log)}")
    outputs, failures = [""] * len(jobs), []
    try:
        for event in machine.run(token, total=TOTAL):
            if event[0] == "begin":
                output = b""
            elif event[0] == "output":
                output += event[1]
            elif event[0] == "end" and event[2]:
                last = (output.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                failures.append(f"{name}: {jobs[event[1]].strip()}: status {event[2]}: {last}")
            elif event[0] == "end":
                outputs[event[1]] = output.decode(errors="replace")
    except Hung as hung:
        failures.append(f"{name}: {hung}")
    found = complaints(machine.console_log.read_text(errors="replace"))
    if found:
        failures.append(f"{name}: the kernel complained, see {shown(machine.console_log)}:\n{found[0]}")
    return outputs, failures


def read(name, outputs, parts):
    """(operation, driver) → Result of what the jobs have printed, and what is missing."""
    results = {}
    for line in "".join(outputs).splitlines():
        words = line.split()
        if words[2:3] in (["ticks"], ["bytes"]):
            unit = TICKS_PER_INSTRUCTION if words[2] == "ticks" else 1
            samples = [int(word) / unit for word in words[3:]]
            results[words[0], words[1]] = Result(len(samples), round(median(samples)), round(min(samples)),
                                                 "instructions" if words[2] == "ticks" else "bytes")
    keys = ((operation, driver) for each in parts for driver in each.drivers for operation in each.operations)
    return results, [f"bench-{name}: {key[0]} of {key[1]} was not measured" for key in keys if key not in results]


class GuestProgram(Made):
    """The program that runs guests."""

    def __init__(self, programs):
        self.programs = programs
        super().__init__(BUILD / "bench-guests", "building the measuring program for guests", "bench-guests.log",
                         files(HERE, ["guests.rs"]), programs.hash, *RUST)
        self.program = self.path / "bench-guests"

    def steps(self):
        return self.programs.steps() + super().steps()

    def make(self, step):
        step.run(["rustc", *RUST, *self.programs.options(), HERE / "guests.rs", "-o", self.program])


def measure_guests(model):
    """(operation, driver) → Result of GUESTS and GUESTS_BESIDE, and what failed."""
    kernel = Kernel(Source(), "base")
    module = out_of_tree(kernel)
    program = GuestProgram(Programs(kernel))
    with made(module, program):
        pass
    files = {"/modules/uxive.ko": module.ko, "/bin/bench-guests": program.program} | kvm_modules(kernel)
    jobs = [f"insmod /modules/{name}.ko" for name in ("uxive", "kvm", "kvm-hv")]
    jobs += [f"bench-guests {driver}" for each in GUESTS for driver in each.drivers]
    results, failures = {}, []
    for name, parts, cpus in (("guests", GUESTS, 1), ("guests-beside", GUESTS_BESIDE, 2)):
        outputs, failed = run_jobs(name, "mitigations=off", kernel, files, jobs, model, cpus=cpus)
        measured, missing = read(name, outputs, parts)
        results |= measured
        failures += failed + missing
    return results, failures


class Bench:
    def __init__(self, variant="bench"):
        self.kernel = Kernel(Source(), variant)
        self.modules = {"ocxl": Module(self.kernel, "ocxlpeer", HERE / "peer", ["."]), "uxive": out_of_tree(self.kernel)}
        self.tools = Tools(self.kernel)
        self.atonce = Module(self.kernel, "atonce", HERE / "atonce", ["."])
        self.model = AfuModel()
        self.failures = []
        with made(*self.modules.values(), self.atonce, self.tools, self.model):
            pass

    def boot(self, name, append, parts, marked="", extra=()):
        """Boots the machine and runs the parts. Returns what each job printed, empty for those that failed."""
        files = {f"/modules/{module.ko.name}": module.ko for module in [*self.modules.values(), self.atonce]}
        files["/bin/bench"] = self.tools.program
        jobs = [command for driver in dict.fromkeys(driver for each in parts for driver in each.drivers)
                for command in self.commands(driver, parts, marked)]
        outputs, failures = run_jobs(name, append, self.kernel, files, jobs, self.model, extra)
        self.failures += failures
        return outputs

    def commands(self, driver, parts, marked):
        """The commands that run for a driver. Its module is loaded only for these, since ocxl's and uxive's modules register
        the same class."""
        runs = [f"bench {each.name} {driver} {marked}" for each in parts if driver in each.drivers]
        if driver not in self.modules:
            return runs
        ko = self.modules[driver].ko
        if any(each.name == "held" for each in parts):
            runs.insert(0, f"insmod /modules/{self.atonce.ko.name}")
        return [f"insmod /modules/{ko.name}", *runs, "grep ']$' /proc/kallsyms", f"rmmod {ko.stem}"]

    def measure(self, name, append, parts=PARTS):
        """(operation, driver) → Result, from one boot."""
        results, missing = read(name, self.boot(name, append, parts), parts)
        self.failures += missing
        return results

    def measure_again(self, name, append):
        """(operation, driver) → Result that two boots agree on. A third boot decides where the first two do not. Linux's numbers
        of interrupts, for one, depend on when devices come up, and the time to find one on its place in the kernel's tree."""
        first, second = (self.measure(each, append) for each in (name, f"{name}-again"))
        differing = [key for key in first if key in second and not agree(first[key], second[key])]
        third = self.measure(f"{name}-third", append) if differing else {}
        for key in differing:
            found = [each[key] for each in (first, second, third) if key in each]
            agreed = [one for one in found[:2] if agree(one, found[-1])]
            medians = ", then ".join(f"{one.median:,}" for one in found)
            if len(found) == 3 and agreed:
                first[key] = agreed[0]
                say(f"{key[0]} of {key[1]} took {medians} instructions")
            else:
                self.failures.append(f"not reproducible: {key[0]} of {key[1]} took {medians} instructions")
        return first


def agree(one, other):
    """Whether two boots have measured the same. One tick, the unit of time, is no difference."""
    return abs(one.median - other.median) <= max(AGREE * one.median, 1)


def verdict(results, operation):
    """(how much it is as a multiple, of what, the most it may be, met or MISSED) of uxive's operation."""
    cost = results.get((operation, "uxive"))
    if operation in LIMITS:
        limit = LIMITS[operation]
        return "", f"≤ {limit:,}", ("met" if cost.median <= limit else "MISSED") if cost else "?"
    factor, of = TARGETS.get(operation, (None, "ocxl"))
    other = results.get((operation, of) if of in PEERS else (of, "uxive"))
    if not cost or not other:
        return "", "", "?" if factor else ""
    ratio = cost.median / max(other.median, 1)
    if not factor:
        return f"{ratio:.3f} × {of}", "", ""
    return f"{ratio:.3f} × {of}", f"≤ {factor:.3f}", "met" if ratio <= factor else "MISSED"


def table(heading, rows, names=0):
    """Rows of texts, all to the right but the column of names."""
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(len(heading))]
    print()
    for row in [heading, *rows]:
        print("  ".join(text.ljust(width) if column == names else text.rjust(width)
                        for column, (text, width) in enumerate(zip(row, widths))).rstrip(), flush=True)


def pingpong(results):
    """Way → instructions of each of PIECES, None for a piece that it does not have."""
    found = {}
    for way, (driver, prefix) in PINGPONG.items():
        pieces = [results.get((f"{prefix}_{piece}", driver)) for piece in PIECES]
        if any(pieces):
            found[way] = [piece and piece.median for piece in pieces]
    return found


def show_pingpong(off, on):
    def row(way, pieces):
        return [way, *(f"{piece:,}" if piece is not None else "–" for piece in pieces), f"{sum(filter(None, pieces)):,}",
                f"{sum(filter(None, with_mitigations[way])):,}" if way in with_mitigations else "–"]

    with_mitigations = pingpong(on)
    print("\nPing-pong between two processes, instructions per message; the last column with mitigations on")
    table(["", "sender", "interrupt", "receiver", "in all", "in all"],
          [row(way, pieces) for way, pieces in pingpong(off).items()], names=0)
    turn = off.get(("pingpong_poll_yield", "uxive"))
    if turn:
        print(f"To let the other run, as there is one CPU, who polls takes {turn.median:,} more.")


def show_held(held):
    print("\nInstructions for which others are held up, at most")
    rows = [(name, held.get((name, "uxive"))) for each in HELD for name in each.operations]
    table(["", "uxive", "ratio", "target", ""],
          [[name, f"{result.median:,}" if result else "–", *verdict(held, name)] for name, result in rows])


def show_guests(guests):
    print("\nGuests of KVM, on the kernel base: instructions, beside KVM's ioeventfd and irqfd")
    table(["", "uxive", "ioeventfd", "ratio", "target", ""],
          [[name, *(f"{guests[name, driver].median:,}" if (name, driver) in guests else "–" for driver in each.drivers),
            *verdict(guests, name)] for each in GUESTS + GUESTS_BESIDE for name in each.operations])


def show(off, on, held, guests, memory):
    def cost(results, operation, driver):
        result = results.get((operation, driver))
        return f"{result.median:,} ({result.min:,})" if result else "–"

    def only_median(results, operation, driver):
        result = results.get((operation, driver))
        return f"{result.median:,}" if result else "–"

    parts = [each for each in PARTS if each.name != "pingpong"]
    operations = [name for each in parts if "uxive" in each.drivers for name in each.operations]
    print(f"\nInstructions, median (minimum) of n={min(result.n for result in off.values()) if off else 0}; "
          "the last three columns with mitigations on")
    table(["", "ocxl", "uxive", "ratio", "target", "", "ocxl", "uxive", "ratio"],
          [[name, cost(off, name, "ocxl"), cost(off, name, "uxive"), *verdict(off, name),
            only_median(on, name, "ocxl"), only_median(on, name, "uxive"), verdict(on, name)[0].split(" ")[0]]
           for name in operations])
    others = ["vfio", "eventfd", "pipe", "futex"]
    names = [name for name in dict.fromkeys(name for each in parts for name in each.operations)
             if any((name, driver) in off for driver in others)]
    print("\nFor scale, mitigations off")
    table(["", "uxive", "ocxl", *others],
          [[name, *(cost(off, name, driver) for driver in ["uxive", "ocxl", *others])] for name in names])
    show_pingpong(off, on)
    show_held(held)
    show_guests(guests)
    print("\nMemory of the kernel, bytes")
    table(["", "ocxl", "uxive"], [[name, only_median(memory, name, "ocxl"), only_median(memory, name, "uxive")]
                                  for name in MEMORY[0].operations])


def write(path, results):
    rows = [{"op": operation, "driver": driver, "n": result.n, "median": result.median, "min": result.min,
             "unit": result.unit} for (operation, driver), result in results.items()]
    path.write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in rows) + "\n]\n")


def measure_all():
    bench = Bench()
    for name in ("bench.json", "bench-mitigations.json", "bench.svg", "pingpong.svg"):
        (BUILD / name).unlink(missing_ok=True)
    off = bench.measure_again("off", "mitigations=off")
    on = bench.measure("on", "mitigations=auto")
    held = bench.measure("held", "mitigations=off", HELD)
    guests, failures = measure_guests(bench.model)
    bench.failures += failures
    memory = bench.measure("memory", "mitigations=off", MEMORY)

    show(off, on, held, guests, memory)
    write(BUILD / "bench.json", off | held | guests | memory)
    write(BUILD / "bench-mitigations.json", on)
    (BUILD / "bench.svg").write_text(chart.draw({key: result for key, result in off.items() if "pingpong" not in key[0]}))
    (BUILD / "pingpong.svg").write_text(chart.draw_pieces(PIECES, pingpong(off)))
    print(f"\nmitigations off: {shown(BUILD / 'bench.json')}, charts {shown(BUILD / 'bench.svg')} and "
          f"{shown(BUILD / 'pingpong.svg')}; on: {shown(BUILD / 'bench-mitigations.json')}", flush=True)
    for failure in bench.failures:
        say(f"FAILED {failure}")
    return 1 if bench.failures else 0


def profile_all(operation):
    """The functions that an operation spends its instructions in, for each driver that has it, side by side."""
    having = [(each, driver) for each in PARTS for driver in each.drivers if operation in each.operations]
    if not having:
        names = sorted({name for each in PARTS for name in each.operations})
        raise Failed(f"PROFILE={operation}: there are {', '.join(names)}")
    bench = Bench()
    profiles = {}
    for each, driver in having:
        name = f"profile-{driver}"
        regions = LOGS / f"bench-{name}.regions"
        regions.unlink(missing_ok=True)
        outputs = bench.boot(name, "mitigations=off", [Part(each.name, (driver,), (operation,))], operation,
                             ["-plugin", f"{bench.tools.plugin},out={regions}"])
        text = regions.read_text() if regions.exists() else ""
        profiles[driver] = profile(text, Functions(bench.kernel.path / "vmlinux", "".join(outputs)))
        if not profiles[driver]:
            bench.failures.append(f"{operation} of {driver} left no profile")

    # Ours first: only that can be changed.
    drivers = sorted(profiles, key=lambda driver: driver != "uxive")
    names = sorted(set().union(*profiles.values()), reverse=True,
                   key=lambda name: [profiles[driver].get(name, 0) for driver in drivers])
    print(f"\n{operation}: instructions by function, mean of the runs within 1 % of the median one")
    rows = [[*(f"{profiles[driver][name]:,.0f}" if name in profiles[driver] else "–" for driver in drivers), name]
            for name in names[:TOP]]
    rest = [sum(profiles[driver].get(name, 0) for name in names[TOP:]) for driver in drivers]
    rows += [[*(f"{count:,.0f}" for count in rest), f"in {len(names[TOP:])} more"],
             [*(f"{sum(profiles[driver].values()):,.0f}" for driver in drivers), "in all"]]
    table([*drivers, ""], rows, names=len(drivers))
    for failure in bench.failures:
        say(f"FAILED {failure}")
    return 1 if bench.failures else 0


def bench():
    operation = os.environ.get("UXIVE_PROFILE")
    return profile_all(operation) if operation else measure_all()
