# SPDX-License-Identifier: GPL-2.0
"""Is a kernel's complaint seen, in the words of real ones, and nothing seen where there is none?"""

import unittest

from console import complaints

# One each, as kernels print them.
COMPLAINTS = """
[    0.020123] WARNING: kernel/locking/lockdep.c:4448 at lockdep_hardirqs_on_prepare+0x1c8/0x290, CPU#0: swapper/0/0
[    0.020123] DEBUG_LOCKS_WARN_ON(lockdep_hardirq_context())
[    3.114159] WARNING: CPU: 1 PID: 57 at drivers/misc/uxive/x.c:12 x_init+0x10/0x20 [uxive]
[    3.114159] WARNING: possible circular locking dependency detected
[    3.114159] WARNING: possible recursive locking detected
[    3.114159] WARNING: inconsistent lock state
[    3.114159] WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected
[    3.114159] WARNING: suspicious RCU usage
[    3.114159] WARNING: bad unlock balance detected!
[    3.114159] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:591
[    3.114159] BUG: scheduling while atomic: insmod/57/0x00000002
[    3.114159] BUG: Kernel NULL pointer dereference on read at 0x00000000
[    3.114159] BUG: Unable to handle kernel data access on read at 0xc000000000000010
[    3.114159] BUG: KASAN: slab-use-after-free in x+0x10/0x20
[    3.114159] BUG: spinlock bad magic on CPU#1, swapper/1/0
[    3.114159] kernel BUG at mm/slub.c:448!
[    3.114159] Oops: Kernel access of bad area, sig: 11 [#1]
[    3.114159] Kernel attempted to read user page (10) - exploit attempt? (uid: 0)
[    3.114159] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100
[    3.114159] Call Trace:
[    9.114159] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
[    9.114159] ODEBUG: free active (active state 0) object: 000000003f2a hint: work_fn+0x0/0x10
[    9.114159] list_del corruption. prev->next should be c000000012345678, but was 0000000000000000
[    9.114159] refcount_t: underflow; use-after-free.
[   60.114159] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [ring:57]
[   60.114159] INFO: task ring:57 blocked for more than 30 seconds.
[   60.114159] rcu: INFO: rcu_sched self-detected stall on CPU
[   60.114159] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   60.114159] INFO: lockdep is turned off.
[   60.114159] irq 45: nobody cared (try booting with the "irqpoll" option)
[   60.114159] rust_kernel: panicked at src/layout.rs:12:5:
[   60.114159] uxive: context 7 (pid 57, ring): interrupt 0x14 is quarantined: its ESB cannot be switched off
[   60.114159] uxive: context 7 (pid 57, ring): its event queue is quarantined: its escalation does not go quiet
[   60.114159] uxive: interrupt 0x14 does not go quiet, and is not given back
[   60.114159] uxive: an event queue does not go quiet, and is not given back
[   60.114159] Disabling lock debugging due to kernel taint
""".strip().splitlines()

QUIET = """
[    0.000000] dt-cpu-ftrs: setup for ISA 3000
[    0.000000] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
[    0.000000] kmemleak: Kernel memory leak detector initialized (mem pool available: 65000)
[    0.512000] rcu: RCU calculated value of scheduler-enlistment delay is 10 jiffies.
[    0.612000] rcu: 	RCU CPU stall timeout set to 60 (rcu_cpu_stall_timeout).
[    1.000000] audit: initializing netlink subsys (disabled)
[    2.000000] uxive: loading out-of-tree module taints kernel.
[    2.100000] uxive: /dev/uxive is ready
[    2.200000] uxive selftest: many quarantines
"""


class Complaints(unittest.TestCase):
    def test_each_is_seen(self):
        for line in COMPLAINTS:
            self.assertEqual(complaints(f"{QUIET}{line}\n"), [f"{chr(10).join(QUIET.splitlines()[-3:])}\n{line}"])

    def test_quiet_boot(self):
        self.assertEqual(complaints(QUIET), [])

    def test_cut_off_line(self):
        self.assertEqual(len(complaints(QUIET + "[    3.114159] BUG: sleeping func")), 1)

    def test_quarantines_are_excused_where_they_are_announced(self):
        begin, end = (f"[    3.1] uxive selftest: {what}quarantines are injected" for what in ("", "no more "))
        quarantine = "[    3.2] uxive: context 7 (pid 57, ring): interrupt 0x14 is quarantined: its events keep coming"
        queue = "[    3.3] uxive: an event queue does not go quiet, and is not given back"
        for lines, expected in [
            ([begin, quarantine, queue, end], 0),
            ([begin, end, begin, quarantine, end], 0),
            ([quarantine, begin, end], 1),
            ([begin, end, queue], 1),
            ([begin, quarantine], 1),                   # a test that did not come to its end
            ([begin, quarantine, begin, end], 1),
            ([quarantine, end], 1),
            ([begin, COMPLAINTS[0], end], 1),           # nothing else is
        ]:
            self.assertEqual(len(complaints("\n".join(lines))), expected, lines)

    def test_oom_reports_are_excused_where_they_are_announced(self):
        begin, end = (f"[    3.1] uxive selftest: {what} cgroup runs out of memory" for what in ("a", "no more"))
        report = ["[    3.2] limits invoked oom-killer: gfp_mask=0x400dc0", "[    3.2] Call Trace:"]
        for lines, expected in [
            ([begin, *report, end], 0),
            ([begin, *report], 1),
            ([*report, begin, end], 1),
            ([begin, "[    3.2] WARNING: mm/memcontrol.c:1", "[    3.2] Call Trace:", end], 1),
        ]:
            self.assertEqual(len(complaints("\n".join(lines))), expected, lines)

    def test_errors_of_a_host_bridge_are_excused_where_they_are_announced(self):
        begin, end = (f"[    3.1] uxive selftest: {what} error of a host bridge is injected" for what in ("an", "no more"))
        report = ["[    3.2] EEH: Frozen PHB#0-PE#0 detected", "[    3.2] EEH: Call Trace:"]
        for lines, expected in [
            ([begin, *report, end], 0),
            ([begin, *report], 1),
            ([*report, begin, end], 1),
            ([begin, "[    3.2] Call Trace:", end], 1),
        ]:
            self.assertEqual(len(complaints("\n".join(lines))), expected, lines)

    def test_machine_checks_of_guests_are_excused_where_they_are_announced(self):
        begin, end = (f"[    3.1] uxive selftest: {what} guest has a machine check" for what in ("a", "no more"))
        report = ["[    3.2] Disabling lock debugging due to kernel taint",
                  "[    3.2] MCE: CPU0: machine check (Fatal) Guest Real address Store (bad) [Recovered]"]
        for lines, expected in [
            ([begin, *report, end], 0),
            ([begin, *report], 1),
            ([*report, begin, end], 1),
            ([begin, "[    3.2] Oops: Machine check, sig: 7", end], 1),
        ]:
            self.assertEqual(len(complaints("\n".join(lines))), expected, lines)

    def test_a_crash_is_excused_where_it_is_announced(self):
        begin, end = "[    3.1] uxive selftest: the machine is to crash", "[    1.7] uxive selftest: the machine was taken over"
        crash = ["[    3.2] Kernel panic - not syncing: sysrq triggered crash", "[    3.2] Call Trace:"]
        for lines, expected in [
            ([begin, *crash, end], 0),
            ([begin, *crash], 1),                       # no kernel came after it
            ([*crash, begin, end], 1),
            ([begin, "[    3.2] Kernel panic - not syncing: Fatal exception", *crash, end], 1),
            ([begin, *crash, "[    0.9] BUG: Bad page state", end], 1),
        ]:
            self.assertEqual(len(complaints("\n".join(lines))), expected, lines)

    def test_one_report_is_one_stretch(self):
        self.assertEqual(len(complaints("\n".join(COMPLAINTS[:10]))), 1)

    def test_reports_far_apart_are_two(self):
        self.assertEqual(len(complaints(COMPLAINTS[0] + "\n" * 50 + COMPLAINTS[-1])), 2)
