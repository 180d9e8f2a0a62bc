# SPDX-License-Identifier: GPL-2.0
"""A Debian mirror on 127.0.0.1 with packages as small as can be, and a room for apt beside the root's own.

apt is the root's, so it prints the messages that a real mirror's fault causes. It installs nothing: it stops when it has all
packages.
"""

import functools
import hashlib
import os
import subprocess
import tempfile
import threading
import time
import unittest
from datetime import datetime, timedelta, timezone
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from steps import in_mounts

SERIES = {"trixie": ["amd64", "ppc64el"], "trixie-backports": ["amd64"], "bookworm": ["ppc64el"]}
CONFIGURATION = """APT::Architectures { "amd64"; "ppc64el"; };
APT::Sandbox::User "root";
APT::Get::Download-Only "true";
APT::Get::AllowUnauthenticated "true";
Acquire::Languages "none";
"""
UNSIGNED = 'Acquire::AllowInsecureRepositories "true";\n'
# The caller's wishes and proxies are not for this mirror.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith("UXIVE_") and not name.endswith("_proxy")}
MAINTAINER = "Maintainer: nobody <nobody@localhost>\nDescription: none\n"


@functools.cache
def deb(name, version, architecture):
    """A package with one file, which has its version."""
    with tempfile.TemporaryDirectory() as top:
        tree = Path(top, "tree")
        Path(tree, "DEBIAN").mkdir(parents=True)
        Path(tree, "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{MAINTAINER}")
        Path(tree, "usr/share").mkdir(parents=True)
        Path(tree, "usr/share", name).write_text(version)
        subprocess.run(["dpkg-deb", "--build", "-Znone", tree, f"{top}/deb"], check=True, capture_output=True)
        return Path(top, "deb").read_bytes()


def days_from_now(days):
    return (datetime.now(timezone.utc) + timedelta(days)).strftime("%a, %d %b %Y %H:%M:%S UTC")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self.path)
        # The header counts in seconds, too coarse for these tests.
        del self.headers["If-Modified-Since"]
        super().do_GET()

    def copyfile(self, source, outputfile):
        data = source.read()
        half = len(data) // 2
        outputfile.write(data[:half])
        if self.path.endswith(tuple(self.server.held)):
            self.server.released.wait()
        for end in self.server.cut_off:
            if self.path.endswith(end):
                self.server.cut_off.remove(end)
                self.close_connection = True
                return
        outputfile.write(data[half:])

    def send_error(self, code, *_):  # in the words of Debian's mirrors
        super().send_error(code, {404: "Not Found"}.get(code))

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that goes is no error."""


class Mirror:
    """`requests` are the paths that were asked for. Of a file whose path ends with one of `held` the second half waits for
    release(), with one of `cut_off` it does not come, once."""

    def __init__(self, test):
        place = tempfile.TemporaryDirectory()
        test.addCleanup(place.cleanup)
        self.place = Path(place.name)
        self.top = self.place / "debian"
        self.packages = {}
        self.sources = []
        self.server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=place.name))
        self.requests, self.held, self.cut_off = self.server.requests, self.server.held, self.server.cut_off = [], [], []
        self.server.released = threading.Event()
        self.uri = f"http://127.0.0.1:{self.server.server_port}/debian"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()
        test.addCleanup(self.stop)
        for name in "etc/apt.conf.d", "etc/sources.list.d", "etc/preferences.d", "lib", "cache/archives/partial", "dpkg":
            (self.place / name).mkdir(parents=True)
        # As if nothing were installed.
        (self.place / "dpkg/status").touch()
        self.mounts = [(self.place / "etc", "/etc/apt"), (self.place / "lib", "/var/lib/apt"),
                       (self.place / "dpkg", "/var/lib/dpkg"), (self.place / "cache", "/var/cache/apt")]
        (self.place / "etc/sources.list").write_text(f"deb {self.uri} trixie main\n")
        self.configure()

    def configure(self, retries=0, unsigned=UNSIGNED):
        (self.place / "etc/apt.conf").write_text(f'{CONFIGURATION}Acquire::Retries "{retries}";\n{unsigned}')

    def release(self):
        self.held.clear()
        self.server.released.set()

    def stop(self):
        """From now on connections are refused."""
        self.release()
        self.server.shutdown()
        self.server.server_close()

    def add(self, name, version="1", architecture="amd64", series="trixie", content=None, fields=""):
        """A package into pool and index. Returns its path in the pool, where a version has no epoch."""
        content = content or deb(name, version, architecture)
        path = self.top / "pool" / f"{name}_{version.rpartition(':')[2]}_{architecture}.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.packages.setdefault((series, architecture), []).append(
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{MAINTAINER}{fields}"
            f"Filename: {path.relative_to(self.top)}\nSize: {len(content)}\nSHA256: {sha256(content)}\n")
        return path

    def add_source(self, name):
        """A package's source: the description, and a file in place of the tar."""
        sums = ""
        for path in self.top / f"pool/{name}_1.dsc", self.top / f"pool/{name}_1.orig.tar.xz":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name)
            sums += f" {sha256(path.read_bytes())} {path.stat().st_size} {path.name}\n"
        self.sources.append(f"Package: {name}\nVersion: 1\nFormat: 3.0 (quilt)\nDirectory: pool\nChecksums-Sha256:\n{sums}")

    def publish(self, valid_for=7):
        """The indices of what was added so far; `valid_for` days."""
        for series, architectures in SERIES.items():
            top = self.top / "dists" / series
            indices = {f"main/binary-{each}/Packages": self.packages.get((series, each), []) for each in architectures}
            if self.sources:
                indices["main/source/Sources"] = self.sources
            sums = ""
            for name, entries in indices.items():
                path = top / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(entries))
                sums += f" {sha256(path.read_bytes())} {path.stat().st_size} {name}\n"
            (top / "Release").write_text(
                f"Origin: Debian\nSuite: {series}\nCodename: {series}\nDate: {days_from_now(-1)}\n"
                f"Valid-Until: {days_from_now(valid_for)}\nArchitectures: amd64 ppc64el\nComponents: main\nSHA256:\n{sums}")

    def asked(self, end):
        """How often a file with this end of its path was asked for."""
        return sum(path.endswith(end) for path in self.requests)

    def wait_for(self, end, process):
        """Until the process has asked for such a file."""
        while not self.asked(end):
            if process.poll() is not None:
                raise AssertionError(f"ended without asking for {end}: {process.stdout.read()}")
            time.sleep(0.02)

    def start(self, *command, env=None):
        """A command that sees this room in the place of the root's apt."""
        return subprocess.Popen(in_mounts(self.mounts, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, start_new_session=True, env=ENVIRONMENT | (env or {}))

    def run(self, *command, env=None):
        """Runs one to its end: (exit status, output)."""
        process = self.start(*command, env=env)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


class MirrorTest(unittest.TestCase):
    def setUp(self):
        self.mirror = Mirror(self)
        self.place = self.mirror.place

    def small_disk(self, size):
        """A directory of so many KiB."""
        path = self.place / "small"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", path], check=True)
        self.addCleanup(subprocess.run, ["umount", path], check=True)
        return path
