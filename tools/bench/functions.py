# SPDX-License-Identifier: GPL-2.0
"""The per-function profile of an operation, from the output of plugin/profile.c and from symbol tables."""

import bisect
import re
import subprocess
from collections import Counter
from statistics import median_low

KERNEL, MODULES, OPAL, OPAL_END = 0xc000000000000000, 0xc008000000000000, 0x30000000, 0x32000000
# Programs are linked above this address. Code below it is the kernel's, which runs there without translation.
REAL_MODE_END = 0x8000000
NEAR = 0.01


class Functions:
    """The names of functions by address: of the kernel from vmlinux, of modules from /proc/kallsyms of the same boot."""

    def __init__(self, vmlinux, kallsyms):
        table = subprocess.run(["llvm-nm", vmlinux], check=True, capture_output=True, text=True).stdout
        symbols = [(int(address, 16), name)
                   for address, name in re.findall(r"^([0-9a-f]+) [tTwW] (\S+)$", table, re.M)]
        found = re.findall(r"^([0-9a-f]+) [tTwW] (\S+)\t\[(\S+)\]$", kallsyms, re.M)
        symbols += [(int(address, 16), f"{name} [{module}]") for address, name, module in found]
        symbols.sort()
        self.addresses = [address for address, _ in symbols]
        self.names = demangled([name for _, name in symbols])

    def name(self, address):
        if OPAL <= address < OPAL_END:
            return "<firmware: OPAL>"
        if address < REAL_MODE_END:
            address += KERNEL
        if address < KERNEL:
            return "<the program itself>"
        at = bisect.bisect_right(self.addresses, address) - 1
        return self.names[at] if at >= 0 else "<unknown>"


def demangled(names):
    """Rust's names as they are written in its source, without the hashes of crates."""
    text = subprocess.run(["llvm-cxxfilt"], check=True, capture_output=True, text=True, input="\n".join(names)).stdout
    # A module's stubs for calls of the kernel lie behind its last function, init_module(), which does not run any more.
    return re.sub(r"\[[0-9a-f]{9,16}\]", "", text).replace("init_module [", "<calls of the kernel> [").splitlines()


def profile(text, functions):
    """Function → instructions, on average over the regions that are about as long as the median one."""
    regions = [line.split() for line in text.splitlines()]
    if not regions:
        return {}
    middle = median_low(int(region[0]) for region in regions)
    typical = [region for region in regions if abs(int(region[0]) - middle) <= middle * NEAR]
    counts = Counter()
    for region in typical:
        for entry in region[1:]:
            address, count = entry.split("=")
            counts[functions.name(int(address, 16))] += int(count)
    return {name: count / len(typical) for name, count in counts.items()}
