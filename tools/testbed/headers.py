# SPDX-License-Identifier: GPL-2.0
"""Does each header for programs compile, alone and included twice, as every C and C++ that a program may be in?

The root has no g++ for the machine. clang++ needs nothing of a C++ library, for the headers include those of C only.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from driver import CROSS

OPTIONS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsyntax-only", "-pthread"]
TARGET = "powerpc64le-linux-gnu"
LIBC = f"/usr/{TARGET}/include"
C = ["c99", "c11", "c17", "c23"]
CXX = ["c++11", "c++14", "c++17", "c++20", "c++23"]
# The tool's name in recorded.py, its command, the language, its standards.
COMPILERS = [("gcc", CROSS[:1], "c", C), ("clang", ["clang", f"--target={TARGET}"], "c", C),
             ("clang", ["clang++", f"--target={TARGET}"], "c++", CXX)]
MACRO = re.compile(r"^#define[ \t]+(\w+)[ \t]+\S", re.MULTILINE)


def program(header):
    """A source that has the header twice, and each number that it defines."""
    numbers = [f"unsigned long long number_{name}(void);\nunsigned long long number_{name}(void)\n{{\n\treturn {name};\n}}\n"
               for name in MACRO.findall(header.read_text())]
    return f'#include "{header}"\n' * 2 + "".join(numbers)


def check(headers, ours, system=()):
    """[(tool, what it says)] of those that it complains of. `ours` are directories in which warnings count, `system` ones in
    which they do not, before those of the C library."""
    include = [*(f"-I{path}" for path in ours), *(word for path in [*system, LIBC] for word in ("-isystem", str(path)))]

    def compiled(work):
        header, (tool, command, language, _), standard = work
        done = subprocess.run([*command, *OPTIONS, f"-std={standard}", *include, "-x", language, "-"], input=program(header),
                              capture_output=True, text=True)
        said = (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"
        return (tool, f"{header.name} in {standard} by {command[0]}:\n{said}") if done.returncode else None

    works = [(header, compiler, standard) for header in headers for compiler in COMPILERS for standard in compiler[3]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [found for found in pool.map(compiled, works) if found]
