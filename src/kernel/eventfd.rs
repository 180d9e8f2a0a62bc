// SPDX-License-Identifier: GPL-2.0

//! Event counters that user space waits on.
//!
//! Would go to `rust/kernel/eventfd.rs`. The crate has no eventfds.
//!
//! C header: [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    fs::file::LocalFile,
    prelude::*, //
};

/// A reference to an eventfd, for signalling it from the kernel.
///
/// # Invariants
///
/// `ctx` is a valid `eventfd_ctx`, and this object owns one reference to it.
pub(crate) struct EventFd {
    ctx: NonNull<bindings::eventfd_ctx>,
}

// SAFETY: The reference count of an `eventfd_ctx` is atomic and not bound to a thread, so it may be
// dropped on any.
unsafe impl Send for EventFd {}

// SAFETY: The only operation on a shared reference is `signal`, for which the C side takes the
// lock of the counter.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// Takes a reference to the eventfd that is the descriptor `fd` of the current process.
    ///
    /// # Errors
    ///
    /// `EBADF` if `fd` is not open, `EINVAL` if it is not an eventfd.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: The function has no preconditions: it checks `fd` itself.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;

        // INVARIANT: `eventfd_ctx_fdget` returned a reference, which this object takes over.
        Ok(Self {
            ctx: NonNull::new(ctx).ok_or(EINVAL)?,
        })
    }

    /// Takes two references to the eventfd that is the descriptor `fd` of the current process.
    ///
    /// # Errors
    ///
    /// As [`Self::from_fd`].
    pub(crate) fn two_from_fd(fd: i32) -> Result<[Self; 2]> {
        let file = LocalFile::fget(u32::try_from(fd).map_err(|_| EBADF)?)?;
        let reference = || -> Result<Self> {
            // SAFETY: The file is valid. The function checks whether it is an eventfd.
            let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fileget(file.as_ptr()) })?;

            // INVARIANT: As above.
            Ok(Self {
                ctx: NonNull::new(ctx).ok_or(EINVAL)?,
            })
        };

        Ok([reference()?, reference()?])
    }

    /// Returns the C side's object, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> *mut bindings::eventfd_ctx {
        self.ctx.as_ptr()
    }

    /// Adds one to the counter and wakes its waiters.
    ///
    /// Never blocks and may be called from any context, hard interrupts included. A counter at its
    /// maximum stays there.
    pub(crate) fn signal(&self) {
        // SAFETY: The context is valid by the type invariants.
        unsafe { bindings::eventfd_signal_mask(self.ctx.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this object owns a reference, and it is not used again.
        unsafe { bindings::eventfd_ctx_put(self.ctx.as_ptr()) };
    }
}
