// SPDX-License-Identifier: GPL-2.0

//! Names of tasks.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings as extra;
use kernel::{
    bindings,
    fmt,
    str::BStr, //
};

/// The name of a task, as it was at one moment: chosen by the task, and not text in any encoding.
pub(crate) struct TaskName([u8; bindings::TASK_COMM_LEN as usize]);

impl TaskName {
    /// Returns the name of the calling task.
    pub(crate) fn current() -> Self {
        let mut name = [0; bindings::TASK_COMM_LEN as usize];

        // SAFETY: The buffer has the size that the function demands.
        unsafe { extra::uxive_get_current_comm(name.as_mut_ptr()) };
        Self(name)
    }
}

impl fmt::Display for TaskName {
    /// Writes the name on one line, with anything but printable ASCII escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|&byte| byte == 0).next().unwrap_or_default();

        fmt::Display::fmt(BStr::from_bytes(name), f)
    }
}
