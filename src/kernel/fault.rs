// SPDX-License-Identifier: GPL-2.0

//! Calls that can be made to fail, so that tests see how the driver copes.
//!
//! Would go to `rust/kernel/fault.rs`. The crate has no fault injection.
//!
//! With `CONFIG_FAULT_INJECTION` only. The kernel itself injects failed allocations and failed
//! copies from and to user memory; this is for other failures. See
//! `Documentation/fault-injection/fault-injection.rst`.
//!
//! C header: [`include/linux/fault-inject.h`](srctree/include/linux/fault-inject.h)

use super::bindings as extra;
use kernel::{
    bindings,
    prelude::*, //
};

/// Fails with `error` if a fault is injected here. Callers put it before a call of the kernel or of
/// firmware that may return that error.
#[inline]
pub(crate) fn may_fail<E>(error: E) -> Result<(), E> {
    // SAFETY: The function has no requirements.
    if cfg!(CONFIG_FAULT_INJECTION) && unsafe { extra::uxive_should_fail() } {
        return Err(error);
    }
    Ok(())
}

/// The directory in debugfs by which faults are set up. Removed when dropped.
///
/// # Invariants
///
/// `dentry` is what creating the directory returned, an error included.
pub(crate) struct FaultControl {
    dentry: *mut bindings::dentry,
}

// SAFETY: A directory is not bound to a thread.
unsafe impl Send for FaultControl {}

// SAFETY: There is nothing to do with a shared reference.
unsafe impl Sync for FaultControl {}

impl FaultControl {
    /// Makes the directory `name`, if the kernel is configured so.
    pub(crate) fn new(name: &'static CStr) -> Self {
        Self {
            // SAFETY: The name is NUL-terminated. There is one module, which does this once.
            dentry: unsafe { extra::uxive_create_fault_attr(name.as_char_ptr()) },
        }
    }
}

impl Drop for FaultControl {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariants; the function ignores errors.
        unsafe { extra::uxive_debugfs_remove(self.dentry) };
    }
}
