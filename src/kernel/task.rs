// SPDX-License-Identifier: GPL-2.0

//! Names of tasks, and letting others run.
//!
//! Would go to `rust/kernel/task.rs`, whose `Task` has no name, and which has no `cond_resched()`.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings as extra;
use kernel::{
    bindings,
    fmt,
    str::BStr,
    task::Task, //
};

/// Lets another task run if one should. To be called in process context, without a spinlock.
pub(crate) fn cond_resched() {
    // SAFETY: The function has no preconditions: where it must not be called it does harm, as anything
    // that may sleep does, but memory is safe.
    unsafe { extra::uxive_cond_resched() };
}

/// The name of a task, as it was at one moment: chosen by the task, and not text in any encoding.
pub(crate) struct TaskName([u8; bindings::TASK_COMM_LEN as usize]);

impl TaskName {
    /// Returns the name of the calling task.
    pub(crate) fn current() -> Self {
        // SAFETY: The calling task is there as long as this runs.
        let comm = unsafe { &raw const (*Task::current_raw()).comm };

        // As `get_task_comm`, which is a macro: it takes no lock against those who write the name
        // meanwhile, who leave a NUL at its end.
        Self(core::array::from_fn(|index| {
            // SAFETY: The byte is one of the array, and each is written for itself.
            unsafe { comm.cast::<u8>().add(index).read_volatile() }
        }))
    }
}

impl fmt::Display for TaskName {
    /// Writes the name on one line, with anything but printable ASCII escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|&byte| byte == 0).next().unwrap_or_default();

        fmt::Display::fmt(BStr::from_bytes(name), f)
    }
}
