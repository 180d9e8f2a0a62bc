// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Rings an interrupt that its program does not free as long as the doorbell exists.

use crate::{
    esb,
    mapping::Mapping, //
};
use core::ptr::NonNull;
use std::sync::Arc;

/// Rings one interrupt of a [`Drain`](crate::Drain), from any thread, and keeps its context.
///
/// Ringing has the two exceptions of [`Irq`](crate::Irq): it raises `SIGBUS` when another process that
/// has the context's file has freed the interrupt, or the context's accelerator is gone.
///
/// # Invariants
///
/// `page` is the beginning of a page of `_mapping`, which is a part of a context for writing.
#[derive(Clone, Debug)]
pub struct Doorbell {
    page: NonNull<u64>,
    _mapping: Arc<Mapping>,
}

// SAFETY: The page belongs to the process, not to a thread.
unsafe impl Send for Doorbell {}

// SAFETY: Each access is one store to a device, which it orders by itself.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// # Safety
    ///
    /// `page` must be the beginning of a page of `mapping`, which must be a part of a context for
    /// writing.
    pub(crate) unsafe fn new(page: NonNull<u64>, mapping: Arc<Mapping>) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            page,
            _mapping: mapping,
        }
    }

    /// Rings. All that the thread wrote before is visible to the thread that takes the event.
    #[inline]
    pub fn ring(&self) {
        // SAFETY: By the type invariants the page is mapped for writing while `self` is borrowed.
        // All pages of a context that a program can write are a device's.
        unsafe { esb::ring(self.page) };
    }
}
