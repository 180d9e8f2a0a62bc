# SPDX-License-Identifier: GPL-2.0
"""Does archive say in one line why something cannot be had, and whether it may be had a moment later? With the root's apt and a
mirror that has each fault."""

import fcntl
import os
import shutil
import signal

from mirror import MirrorTest
from steps import HERE

ARCHIVE = HERE / "archive"
ANOTHER = "UXIVE_MIRROR= names another mirror"
UNREACHED = "no network, or the Debian mirror cannot be reached; UXIVE_MIRROR= names another"
NOT_NAMED = f"the mirror's index does not name it; {ANOTHER}"
NOT_THERE = f"the mirror's index names it, its pool lacks it; {ANOTHER}"
NOT_THE_SAME = f"what the mirror sends is not what its index vouches for; {ANOTHER}"
NO_SPACE = "no space left where the testbed keeps its files (UXIVE_CACHE)"
AGAIN, FINAL = 2, 1


class ArchiveTest(MirrorTest):
    def setUp(self):
        super().setUp()
        self.thing = self.mirror.add("thing", "1:1.37+b~1", "ppc64el")
        self.mirror.add("other")
        self.mirror.publish()

    def archive(self, *arguments):
        return self.mirror.run(ARCHIVE, *arguments)

    def fails(self, wanted_status, *reasons, command=("update",)):
        """The command ends with this status, and gives exactly these reasons, each in whole or by its beginning."""
        status, output = self.archive(*command)
        found = [line.removeprefix("uxive: ") for line in output.splitlines() if line.startswith("uxive: ")]
        self.assertEqual((status, len(found)), (wanted_status, len(reasons)), output)
        for line, reason in zip(found, reasons):
            self.assertTrue(line.startswith(reason), output)


class Index(ArchiveTest):
    def setUp(self):
        super().setUp()
        self.dists = self.mirror.top / "dists/trixie"
        self.packages = self.dists / "main/binary-ppc64el/Packages"

    def test_good(self):
        status, output = self.archive("update")
        self.assertEqual((status, "uxive: " in output), (0, False), output)

    def test_older_or_newer_than_its_release_file(self):
        self.packages.write_text(self.packages.read_text().replace("thing", "thong"))
        self.fails(AGAIN, "the mirror's index is being changed, or is broken")

    def test_of_another_size(self):
        self.packages.write_text(self.packages.read_text() + "\n")
        self.fails(AGAIN, "the mirror's index is being changed, or is broken")

    def test_cut_off(self):
        self.mirror.cut_off.append("ppc64el/Packages")
        self.fails(AGAIN, UNREACHED)

    def test_a_part_is_missing(self):
        self.packages.unlink()
        self.fails(FINAL, f"the mirror lacks {self.mirror.uri}/dists/trixie/main/binary-ppc64el/Packages; {ANOTHER}")

    def test_a_series_is_missing(self):
        self.mirror.configure(unsigned="")
        shutil.rmtree(self.dists)
        self.fails(FINAL, f"The repository '{self.mirror.uri} trixie Release' does not have a Release file.")

    def test_out_of_date(self):
        self.mirror.publish(valid_for=-0.5)
        self.fails(FINAL, "the mirror's index is not of today, or the clock is wrong: Release file for ")

    def test_not_signed(self):
        self.mirror.configure(unsigned="")
        self.fails(FINAL, "nothing vouches for the mirror's index: ")

    def test_refused(self):
        self.mirror.stop()
        self.fails(AGAIN, UNREACHED)

    def test_another_apt_is_at_work(self):
        (self.place / "lib/lists").mkdir()
        with (self.place / "lib/lists/lock").open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            self.fails(AGAIN, "another apt is at work: Could not get lock /var/lib/apt/lists/lock.")


class Explain(ArchiveTest):
    """Of what cannot be had here."""

    def explained(self, status, log, *reasons):
        path = self.place / "log"
        path.write_text(log)
        self.fails(status, *reasons, command=["explain", path])

    def test_no_name_service(self):
        self.explained(AGAIN, "E: Failed to fetch http://a/dists/trixie/InRelease  Temporary failure resolving 'a'\n"
                              "E: Some index files failed to download. They have been ignored, or old ones used instead.\n",
                       UNREACHED)

    def test_a_fault_that_stays_outweighs_one_that_passes(self):
        self.explained(FINAL, "E: Failed to fetch http://a/pool/a_1_amd64.deb  Connection timed out\n"
                              "E: Failed to fetch http://a/pool/b_1%2b2_all.deb  404  Not Found [IP: ::1 80]\n",
                       f"b:all 1+2: {NOT_THERE}")

    def test_the_first_error_of_those_that_are_not_known(self):
        self.explained(FINAL, "I: this\nE: that went wrong\nE: mmdebstrap failed to run\n", "that went wrong")

    def test_else_the_last_line(self):
        self.explained(FINAL, "tar: ./usr: Cannot open\n\n", "tar: ./usr: Cannot open")
        self.explained(FINAL, "", "it failed without saying why")


class Install(ArchiveTest):
    def setUp(self):
        super().setUp()
        self.archive("update")

    def fails_to_install(self, status, *reasons, packages=("other", "thing:ppc64el")):
        self.fails(status, *reasons, command=["install", *packages])

    def test_good(self):
        self.assertEqual(self.archive("install", "other", "thing:ppc64el")[0], 0)

    def test_pool_lacks_it(self):
        # A 404 is final: it is not tried again.
        self.mirror.configure(retries=3)
        self.thing.unlink()
        self.fails_to_install(FINAL, f"thing:ppc64el 1.37+b~1: {NOT_THERE}")
        self.assertEqual(self.mirror.asked("ppc64el.deb"), 1)

    def test_index_lacks_them(self):
        self.fails_to_install(FINAL, f"nothing: {NOT_NAMED}", f"none:ppc64el: {NOT_NAMED}",
                              packages=["nothing", "other", "none:ppc64el"])

    def test_needs_what_is_not_there(self):
        self.mirror.add("needy", fields="Depends: nothing (>= 2)\n")
        self.mirror.publish()
        self.archive("update")
        self.fails_to_install(FINAL, "packages of the mirror do not fit each other: needy : Depends: nothing",
                              packages=["needy"])

    def test_wrong_hash(self):
        self.thing.write_bytes(self.thing.read_bytes()[::-1])
        self.fails_to_install(FINAL, f"thing:ppc64el 1.37+b~1: {NOT_THE_SAME}")

    def test_wrong_size(self):
        self.thing.write_bytes(self.thing.read_bytes()[1:])
        self.fails_to_install(FINAL, f"thing:ppc64el 1.37+b~1: {NOT_THE_SAME}")

    def test_cut_off(self):
        self.mirror.cut_off.append("ppc64el.deb")
        self.fails_to_install(AGAIN, UNREACHED)

    def test_refused(self):
        self.mirror.stop()
        self.fails_to_install(AGAIN, UNREACHED)

    def test_no_space(self):
        small = self.small_disk(16)
        (small / "archives/partial").mkdir(parents=True)
        self.mirror.mounts[-1] = (small, "/var/cache/apt")
        self.fails_to_install(FINAL, NO_SPACE)


class Download(ArchiveTest):
    def setUp(self):
        super().setUp()
        self.out = self.place / "out"

    def download(self, *packages, out=None):
        """Whatever comes of the packages, the status is 0. Returns those that came, by version, and why others did not."""
        out = out or self.out
        status, output = self.archive("download", out, *packages)
        self.assertEqual(status, 0, output)
        entries = sorted(out.iterdir())
        return ({path.name: (path / "usr/share" / path.name).read_text() for path in entries if path.is_dir()},
                {path.stem: path.read_text().strip() for path in entries if path.suffix == ".lack"})

    def test_each_by_itself(self):
        self.thing.unlink()
        self.assertEqual(self.download("nothing", "thing:ppc64el", "thing2:ppc64el/trixie", "other/trixie"),
                         ({"other": "1"}, {"nothing": f"nothing: {NOT_NAMED}", "thing": f"thing:ppc64el 1.37+b~1: {NOT_THERE}",
                                           "thing2": f"thing2:ppc64el: {NOT_NAMED}"}))

    def test_of_the_series_that_is_asked_for(self):
        self.mirror.add("other", "2", series="trixie-backports")
        self.mirror.publish()
        backports = self.place / "etc/sources.list.d/backports.list"
        backports.write_text(f"deb [arch=amd64] {self.mirror.uri} trixie-backports main\n")
        self.assertEqual(self.download("other/trixie"), ({"other": "1"}, {}))
        self.assertEqual(self.download("other"), ({"other": "2"}, {}))
        self.assertEqual(self.download("thing:ppc64el/trixie-backports"),
                         ({"other": "2"}, {"thing": f"thing:ppc64el: {NOT_NAMED}"}))

    def test_what_comes_later_is_lacked_no_more(self):
        hidden = self.thing.rename(self.place / "hidden")
        self.assertEqual(self.download("thing:ppc64el")[0], {})
        hidden.rename(self.thing)
        self.assertEqual(self.download("thing:ppc64el"), ({"thing": "1:1.37+b~1"}, {}))

    def test_wrong_content(self):
        self.thing.write_bytes(self.thing.read_bytes()[::-1])
        self.assertEqual(self.download("thing:ppc64el"), ({}, {"thing": f"thing:ppc64el 1.37+b~1: {NOT_THE_SAME}"}))

    def test_cut_off(self):
        self.mirror.cut_off.append("ppc64el.deb")
        self.assertEqual(self.download("thing:ppc64el", "other"),
                         ({"other": "1"}, {"thing": f"thing:ppc64el: {UNREACHED}"}))

    def test_refused(self):
        self.mirror.stop()
        self.assertEqual(self.download("thing:ppc64el", "other"),
                         ({}, {"thing": f"thing:ppc64el: {UNREACHED}", "other": f"other: {UNREACHED}"}))

    def test_an_old_index_still_does(self):
        self.archive("update")
        (self.mirror.top / "dists/trixie/main/binary-ppc64el/Packages").unlink()
        (self.mirror.top / "dists/trixie/main/binary-amd64/Packages").write_text("")
        self.assertEqual(self.download("other")[0], {"other": "1"})

    def test_no_space(self):
        self.mirror.add("big", content=bytes(200000))
        self.mirror.publish()
        self.assertEqual(self.download("big", "thing:ppc64el", out=self.small_disk(120)),
                         ({"thing": "1:1.37+b~1"}, {"big": f"big: {NO_SPACE}"}))

    def test_killed_in_the_middle(self):
        self.mirror.held.append("ppc64el.deb")
        process = self.mirror.start(ARCHIVE, "download", self.out, "thing:ppc64el")
        self.mirror.wait_for("ppc64el.deb", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.mirror.release()
        self.assertFalse((self.out / "thing").exists())
        self.assertEqual(self.download("thing:ppc64el"), ({"thing": "1:1.37+b~1"}, {}))


class Source(ArchiveTest):
    def test_good(self):
        self.mirror.add_source("library")
        self.mirror.publish()
        self.archive("update")
        self.assertEqual(self.archive("source", self.place / "cache", "library")[0], 0)
        self.assertTrue((self.place / "cache/library_1.orig.tar.xz").exists())
        # The root's own index is as before.
        self.assertEqual(self.archive("install", "other")[0], 0)

    def test_without_it_packages_are_had_as_before(self):
        self.mirror.add_source("library")
        self.mirror.publish()
        (self.mirror.top / "dists/trixie/main/source/Sources").unlink()
        self.archive("update")
        self.fails(FINAL, f"the mirror lacks {self.mirror.uri}/dists/trixie/main/source/Sources",
                   command=["source", self.place / "cache", "library"])
        self.assertEqual(self.archive("install", "other")[0], 0)
        self.assertEqual(self.archive("update")[0], 0)
