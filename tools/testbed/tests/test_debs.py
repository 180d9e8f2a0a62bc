# SPDX-License-Identifier: GPL-2.0
"""Is a missing package reported by its name and the reason, without others, and fetched once the mirror has it?"""

from unittest import mock

import qemu
from debs import Debs
from mirror import MirrorTest
from steps import Failed


class Step:
    """One of steps.py that runs its commands in the mirror's room."""

    def __init__(self, mirror):
        self.mirror = mirror
        self.notes = []

    def run(self, command, env=None):
        status, output = self.mirror.run(*command, env=env and {"APT_CONFIG": env["APT_CONFIG"]})
        if status:
            raise Failed(output)

    def note(self, text):
        self.notes.append(text)


class DebsTest(MirrorTest):
    def setUp(self):
        super().setUp()
        patch = mock.patch("debs.DEBS", self.place / "debs")
        patch.start()
        self.addCleanup(patch.stop)
        self.mirror.add("here", "1", "ppc64el")
        self.mirror.publish()
        self.step = Step(self.mirror)

    def test_what_is_not_there_lacks_alone(self):
        debs = Debs("here gone")
        debs.make(self.step)
        self.assertEqual(debs.path("here", "usr/share/here").read_text(), "1")
        self.assertEqual(debs.lack("here"), None)
        self.assertTrue(debs.lack("here", "gone").startswith("gone:ppc64el: the mirror's index does not name it"))
        self.assertEqual(self.step.notes, [debs.lack("gone")])
        with self.assertRaisesRegex(Failed, "^gone:ppc64el: "):
            debs.path("gone")

    def test_only_what_is_missing_is_asked_for_again(self):
        debs = Debs("here gone")
        debs.make(self.step)
        self.mirror.add("gone", "2", "ppc64el")
        self.mirror.publish()
        self.assertEqual(debs.steps(), [], "once a run")
        debs = Debs("here gone")
        self.assertEqual(debs.steps(), [debs.step])
        debs.make(self.step)
        self.assertEqual((debs.lack("here", "gone"), debs.steps()), (None, []))
        self.assertEqual(self.mirror.asked("here_1_ppc64el.deb"), 1)

    def test_no_network(self):
        self.mirror.stop()
        debs = Debs("here gone")
        debs.make(self.step)
        for name in "here", "gone":
            self.assertTrue(debs.lack(name).startswith(f"{name}:ppc64el: no network"), debs.lack(name))

    def test_of_a_series_that_the_root_does_not_know(self):
        self.mirror.add("here", "2", "ppc64el", series=qemu.SERIES)
        self.mirror.publish()
        older, newer = qemu.Packages("here"), Debs("here")
        with mock.patch("qemu.SOURCES", self.place / "etc/sources.list"), mock.patch("qemu.BUILD", self.place):
            older.make(self.step)
        newer.make(self.step)
        self.assertEqual([each.path("here", "usr/share/here").read_text() for each in (older, newer)], ["2", "1"])

    def test_before_it_is_fetched(self):
        self.assertEqual(Debs("here").lack("here"), "here was not fetched")

    def test_a_reason_that_a_full_disk_ate(self):
        debs = Debs("here")
        path = debs.paths["here"]
        path.parent.mkdir(parents=True)
        path.with_name("here.lack").write_text("")
        self.assertEqual(debs.lack("here"), "here cannot be had")

    def test_other_series_and_architectures_are_other_packages(self):
        each = [Debs("here"), Debs("here", "amd64"), Debs("here", series="trixie"), Debs("here", series="trixie-backports")]
        self.assertEqual(len({debs.paths["here"] for debs in each}), len(each))
