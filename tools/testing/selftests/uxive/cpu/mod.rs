// SPDX-License-Identifier: GPL-2.0

//! Which CPU a thread of a selftest runs on.

use rustix::process::{
    sched_setaffinity,
    CpuSet, //
};

/// Has the thread run on one CPU, the last if there are fewer.
pub fn pin_to_cpu(cpu: usize) {
    let mut set = CpuSet::new();

    set.set(cpu);
    if sched_setaffinity(None, &set).is_err() {
        assert_ne!(cpu, 0, "cannot run on CPU 0");
        pin_to_cpu(cpu - 1);
    }
}
