# SPDX-License-Identifier: GPL-2.0
"""Runs long commands one after the other. Shows which of how many runs, and since when; each command's output goes to a log.

A step is made when its result is missing and is run when all are known, so that "[3/9]" can be said. Messages go to
standard error; standard output belongs to the results of what was asked for.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

REPO = Path("/uxive")
HERE = REPO / "tools/testbed"
BUILD = REPO / "build"
LOGS = BUILD / "logs"
CACHE = Path("/cache")


class Failed(Exception):
    """A failure that ends the command, with one line for the user."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def shown(path):
    """A path as it is called outside, from the top of the tree."""
    return str(Path(path).relative_to(REPO))


class Step:
    """Something to make. `work` gets the step and calls run() on it."""

    def __init__(self, title, log, work):
        self.title = title
        self.log = LOGS / log
        self.work = work
        self.label = ""

    def start(self, number, total):
        self.label = f"[{number}/{total}] {self.title}"
        self.begun = time.monotonic()
        if not sys.stderr.isatty():
            say(f"{self.label}, log {shown(self.log)}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        try:
            self.work(self)
        finally:
            if sys.stderr.isatty():
                say("")

    def tick(self):
        """On a terminal, since when it runs."""
        if sys.stderr.isatty():
            seconds = int(time.monotonic() - self.begun)
            print(f"\r{self.label} … {seconds // 60:02}:{seconds % 60:02}, log {shown(self.log)}", end="", file=sys.stderr,
                  flush=True)

    def note(self, text):
        """A line for the user and the log."""
        if sys.stderr.isatty():
            say("")
        say(f"{self.label}: {text}")
        with self.log.open("a") as log:
            log.write(f"{text}\n")

    def run(self, command, mounts=(), **keywords):
        """Runs a command; `mounts` are pairs of paths, the first to be seen at the second by this command alone."""
        self.tick()
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            process = subprocess.Popen(in_mounts(mounts, command), stdout=log, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, **keywords)
            while True:
                try:
                    status = process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    self.tick()
        if status:
            tail = self.log.read_text(errors="replace").splitlines()[-25:]
            say("\n".join(["", *tail]))
            raise Failed(f"{self.title} failed, log {shown(self.log)}")


def in_mounts(mounts, command):
    """The command in a mount namespace of its own, with each first path of `mounts` bound over the second."""
    command = [str(word) for word in command]
    if not mounts:
        return command
    flat = [str(path) for pair in mounts for path in pair]
    script = 'n=$1; shift; while [ "$n" -gt 0 ]; do mount --bind "$1" "$2"; shift 2; n=$((n - 1)); done; exec "$@"'
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", script, "sh", str(len(mounts)), *flat, *command]


@contextlib.contextmanager
def made(*wanted):
    """Makes the missing ones of `wanted` (each tells by steps()), and keeps others from changing them meanwhile.

    Builds with the driver in the tree are shared by all clones, so files that are needed later must be copied here.
    """
    with (CACHE / "linux-lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run that builds in the same cache")
            fcntl.flock(lock, fcntl.LOCK_EX)
        steps = list(dict.fromkeys(step for each in wanted for step in each.steps()))
        for number, step in enumerate(steps, 1):
            step.start(number, len(steps))
        yield


def jobs():
    return f"-j{os.cpu_count()}"
