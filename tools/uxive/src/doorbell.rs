// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What rings an interrupt that its program never frees as long as it can be rung.

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

    /// Rings. What the thread wrote before is visible to who takes the event.
    #[inline]
    pub fn ring(&self) {
        // SAFETY: By the type invariants the page is mapped for writing while `self` is borrowed.
        // What a program can write in a context are pages of a device.
        unsafe { esb::ring(self.page) };
    }
}
