# SPDX-License-Identifier: GPL-2.0
"""Does the way in (testbed, root) make its Debian root once, from what it is made of, and trust nothing half-made? With the
root's apt and a mirror that has each fault. Replaced are mmdebstrap, which only updates its index here (not even that, if
$QUICK), the root that it makes, waiting, and the free space."""

import os
import shutil
import signal
import subprocess

from mirror import MirrorTest
from steps import HERE

# By name in PATH, in the place of the host's own. $RAN has a line for whatever ran.
PROGRAMS = {
    "mmdebstrap": """echo "mmdebstrap: $*" >>"$RAN"
        for word; do case $word in *.tar) tar=$word ;; esac; done
        echo half >"$tar"
        [ -n "${QUICK:-}" ] || apt-get update --error-on=any || { echo "E: mmdebstrap failed to run"; exit 1; }
        echo whole >"$tar" """,
    # In a chroot, / is no mount point, so its propagation cannot be changed.
    "unshare": 'exec /usr/bin/unshare --propagation unchanged "$@"',
    "sleep": "exec /usr/bin/sleep 0.05",
    "df": 'echo avail; echo $((${FREE_GIB:-99} << 20))',
}
# In the place of root, which is called recipe here.
ROOT = """case $1 in
    bootstrap) exec "${0%/*}/recipe" "$@" ;;
    unpack)
        echo "unpack: $(cat "$2")" >>"$RAN"
        mkdir -p "$3"
        [ -n "${QUICK:-}" ] || "${0%/*}/recipe" install "$5" || exit
        echo whole >"$3/made" ;;
    enter) echo "entered ${2##*/}, $(cat "$2/made"): ${*:5}"; exit "${EXIT:-0}" ;;
    esac"""


class Setup(MirrorTest):
    def setUp(self):
        super().setUp()
        self.programs, self.tree, self.cache, self.ran = (self.place / name for name in ("bin", "tree", "uxive", "ran"))
        self.here = self.tree / "tools/testbed"
        self.here.mkdir(parents=True)
        self.programs.mkdir()
        for name in "testbed", "archive":
            shutil.copy(HERE / name, self.here)
        shutil.copy(HERE / "root", self.here / "recipe")
        (self.here / "packages").write_text("thing  # and no other\n")
        (self.here / "packages-optional").write_text("")
        (self.here / "recorded.toml").write_text('[versions]\nlinux = "7.3.4"\nshellcheck = "0.11.0"\n')
        script(self.here / "root", ROOT)
        for name, text in PROGRAMS.items():
            script(self.programs / name, text)
        self.thing = self.mirror.add("thing")
        self.offer("7.3")
        self.environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "UXIVE_CACHE": str(self.cache),
                            "HOME": str(self.place), "RAN": str(self.ran)}

    def offer(self, *series):
        """The mirror's kernels are these."""
        self.mirror.packages.pop(("trixie-backports", "amd64"), None)
        for each in series:
            self.mirror.add(f"linux-source-{each}", content=b"source", series="trixie-backports")
        self.mirror.publish()

    def start(self, *command, **environment):
        return self.mirror.start(self.here / "testbed", *(command or ["build"]), env=self.environment | environment)

    def call(self, *command, **environment):
        """Runs it: (exit status, output)."""
        process = self.start(*command, **environment)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def succeeds(self, *command, **environment):
        """Runs it, and what it says; the root is whole then."""
        status, output = self.call(*command, **environment)
        self.assertEqual((status, f"entered {self.roots()[-1]}, whole: " in output), (0, True), output)
        return output

    def fails(self, last, **environment):
        """Runs it: these are the last lines, and there is no root."""
        status, output = self.call(**environment)
        self.assertEqual((status, self.roots()), (1, []), output)
        self.assertEqual(output.splitlines()[-len(last):], last, output)

    def roots(self):
        """The entries of the cache, without what is beside them."""
        return sorted((path.name for path in self.cache.glob("root-*") if "." not in path.name),
                      key=lambda name: (self.cache / name).stat().st_mtime_ns)

    def times(self, what):
        """How often something ran."""
        return self.ran.read_text().count(what) if self.ran.exists() else 0


def script(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


class Good(Setup):
    def test_made_once(self):
        self.succeeds()
        output = self.succeeds("test", "abi", "C=debug")
        self.assertTrue(output.startswith("entered root-"), output)
        self.assertTrue(output.endswith("python3 /uxive/tools/testbed/main.py test abi C=debug\n"), output)
        self.assertEqual((self.times("mmdebstrap: "), self.times("unpack: whole")), (1, 1))
        self.assertEqual([path.suffix for path in self.cache.glob("root-*.*")], [".lock"])

    def test_status_of_the_command(self):
        self.assertEqual(self.call(EXIT="7")[0], 7)

    def test_made_anew_for_what_it_is_made_of_and_for_nothing_else(self):
        self.environment["QUICK"] = "yes"
        self.succeeds()
        recorded = self.here / "recorded.toml"
        recorded.write_text(recorded.read_text().replace("0.11.0", "0.12.0"))
        self.succeeds()
        self.assertEqual(len(self.roots()), 1)
        for name in "archive", "packages", "packages-optional":
            with (self.here / name).open("a") as file:
                file.write("# more\n")
            self.succeeds()
        self.succeeds(UXIVE_KERNEL_SERIES="7.4")
        self.assertEqual(len(self.roots()), 5)

    def test_a_second_run_waits_for_the_first(self):
        self.mirror.held.append("Release")
        first = self.start()
        self.mirror.wait_for("/Release", first)
        second = self.start()
        self.assertIn("waiting for another run", second.stdout.readline())
        self.mirror.release()
        for process in first, second:
            self.assertEqual((process.communicate(timeout=60) and process.returncode), 0)
        self.assertEqual(self.times("mmdebstrap: "), 1)


class Series(Setup):
    def test_vanished(self):
        self.offer("6.19", "7.2", "7.4", "7.10")
        output = self.succeeds()
        self.assertIn("uxive: linux-source-7.3 is not in trixie-backports (any more), linux-source-7.4 is taken\n", output)
        self.assertEqual([self.mirror.asked(f"linux-source-{each}_1_amd64.deb") for each in ("7.4", "7.10")], [1, 0])

    def test_vanished_and_all_others_are_newer(self):
        self.offer("7.4", "7.5")
        self.assertIn("linux-source-7.4 is taken\n", self.succeeds())

    def test_vanished_and_there_is_no_newer(self):
        self.offer("6.19", "7.2")
        self.fails(["uxive: linux-source-7.3 is not in trixie-backports (any more); there is: 6.19 7.2 -"
                    " choose with UXIVE_KERNEL_SERIES=", "uxive: [2/2] installing its packages failed, log "
                    f"{self.tree}/build/logs/root-2.log"])

    def test_wanted_and_not_there(self):
        self.offer("7.3", "7.4")
        self.fails(["uxive: linux-source-7.1 is not in trixie-backports (any more); there is: 7.3 7.4 -"
                    " choose with UXIVE_KERNEL_SERIES=", "uxive: [2/2] installing its packages failed, log "
                    f"{self.tree}/build/logs/root-2.log"], UXIVE_KERNEL_SERIES="7.1")
        self.assertEqual(self.times("unpack: "), 1)


class Faults(Setup):
    def failed(self, step):
        title, log = {1: ("[1/2] making a Debian root", "root-1"), 2: ("[2/2] installing its packages", "root-2")}[step]
        return f"uxive: {title} failed, log {self.tree}/build/logs/{log}.log"

    def test_no_network_is_tried_again(self):
        self.mirror.stop()
        self.fails(["[1/2] making a Debian root failed, trying again"] * 2
                   + ["uxive: no network, or the Debian mirror cannot be reached; UXIVE_MIRROR= names another", self.failed(1)])
        self.assertEqual(self.times("mmdebstrap: "), 3)

    def test_a_network_that_comes_back(self):
        self.mirror.cut_off.append("thing_1_amd64.deb")
        output = self.succeeds()
        self.assertIn("[2/2] installing its packages failed, trying again\n", output)
        self.assertEqual((self.times("mmdebstrap: "), self.times("unpack: ")), (1, 2))

    def test_a_missing_package_is_told_and_not_tried_again(self):
        self.thing.unlink()
        self.fails(["uxive: thing:amd64 1: the mirror's index names it, its pool lacks it; UXIVE_MIRROR= names another mirror",
                    self.failed(2)])
        self.assertEqual((self.times("unpack: "), self.mirror.asked("thing_1_amd64.deb")), (1, 1))
        # And it is had when it is there.
        self.mirror.add("thing")
        self.succeeds()

    def test_a_root_is_made_without_an_optional_package(self):
        (self.here / "packages-optional").write_text("absent\nextra\n")
        self.mirror.add("extra")
        self.mirror.publish()
        output = self.succeeds()
        self.assertIn("uxive: absent: the mirror's index does not name it", output)
        self.assertIn("uxive: the root is made without absent, which tests need\n", output)
        self.assertEqual(self.mirror.asked("extra_1_amd64.deb"), 1)

    def test_a_missing_series_is_told_and_not_tried_again(self):
        self.mirror.configure(unsigned="")
        shutil.rmtree(self.mirror.top / "dists")
        self.fails([f"uxive: The repository '{self.mirror.uri} trixie Release' does not have a Release file."
                    " UXIVE_MIRROR= names another mirror", self.failed(1)])
        self.assertEqual(self.times("mmdebstrap: "), 1)

    def test_no_space_is_told_before_anything_is_made(self):
        self.fails([f"uxive: 1 GiB free at {self.cache}, 8 needed; make room or set UXIVE_CACHE to another place"],
                   FREE_GIB="1")
        self.assertEqual(self.times(""), 0)

    def test_no_space_later(self):
        script(self.programs / "mmdebstrap",
               'echo ran >>"$RAN"; echo "E: Write error - write (28: No space left on device)"; exit 2')
        self.fails(["uxive: no space left where the testbed keeps its files (UXIVE_CACHE)", self.failed(1)])
        self.assertEqual(self.times("ran"), 1)

    def test_what_is_not_understood_is_shown(self):
        script(self.programs / "mmdebstrap", 'echo one; echo "mmdebstrap: this and that"; exit 2')
        self.fails(["uxive: mmdebstrap: this and that", self.failed(1)])

    def test_no_mmdebstrap_to_be_had(self):
        (self.programs / "mmdebstrap").unlink()
        self.fails(["uxive: mmdebstrap: the mirror's index does not name it; UXIVE_MIRROR= names another mirror",
                    f"uxive: installing mmdebstrap failed, log {self.tree}/build/logs/mmdebstrap.log"])

    def test_another_mirror(self):
        self.succeeds(QUICK="yes", UXIVE_MIRROR="http://mirror.invalid/debian")
        self.assertIn(".tar deb http://mirror.invalid/debian trixie main\n", self.ran.read_text())


class Interrupted(Setup):
    """In either step, by either signal: nothing is there, and the next run makes it. After SIGKILL mmdebstrap may run on for a
    while, and the next run waits for it."""

    def interrupted(self, how, path):
        """A run that is ended when it has asked for the path."""
        self.mirror.held.append(path)
        process = self.start()
        self.mirror.wait_for(path, process)
        process.send_signal(how)
        if how == signal.SIGTERM:
            output, _ = process.communicate(timeout=60)
            self.assertEqual((process.returncode, output.splitlines()[-1]), (1, "uxive: interrupted"))
            lock, = self.cache.glob("root-*.lock")
            self.assertEqual(subprocess.run(["flock", "-w", "30", lock, "true"]).returncode, 0)
        self.mirror.release()
        process.communicate(timeout=60)
        self.assertEqual(self.roots(), [])
        self.succeeds()
        self.assertEqual(self.times("mmdebstrap: "), 2)
        self.assertEqual([path.suffix for path in self.cache.glob("root-*.*")], [".lock"])

    def test_ended_while_it_is_made(self):
        self.interrupted(signal.SIGTERM, "Release")

    def test_killed_while_it_is_made(self):
        self.interrupted(signal.SIGKILL, "Release")

    def test_ended_while_packages_are_installed(self):
        self.interrupted(signal.SIGTERM, ".deb")

    def test_killed_while_packages_are_installed(self):
        self.interrupted(signal.SIGKILL, ".deb")
