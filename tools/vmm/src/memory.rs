// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The guest's memory.

use crate::pages::Pages;
use core::sync::atomic::{
    AtomicU64,
    AtomicU8,
    Ordering, //
};
use std::{
    io,
    sync::Arc, //
};

/// Memory of the guest, which it and the VMM use at the same time: hence atomics. Clones are the
/// same memory.
///
/// # Invariants
///
/// `pages` is memory from its beginning to its end, forever.
#[derive(Clone, Debug)]
pub struct Memory {
    pages: Arc<Pages>,
}

impl Memory {
    /// Returns `length` bytes, which are 0.
    pub fn new(length: usize) -> io::Result<Self> {
        let pages = Pages::reserve(length)?;

        // INVARIANT: It is memory now. Nothing here gives the pages away to be replaced.
        pages.place_memory(0, length)?;
        Ok(Self {
            pages: Arc::new(pages),
        })
    }

    pub(crate) fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    /// Returns the 8 bytes `at` bytes behind the beginning.
    ///
    /// # Panics
    ///
    /// If that is beyond the end, or not aligned.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(
            at.is_multiple_of(8) && at < self.pages.length(),
            "no word at {at:#x}"
        );
        // SAFETY: It is aligned and by the type invariants memory, as long as `self` is borrowed.
        // All accesses of the VMM are atomic.
        unsafe { self.pages.address().add(at).cast().as_ref() }
    }

    /// Copies bytes there, which virtual CPUs that start later see.
    ///
    /// # Panics
    ///
    /// If they go beyond the end.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.pages.length() && bytes.len() <= self.pages.length() - at);
        for (at, &byte) in (at..).zip(bytes) {
            // SAFETY: By the type invariants that is memory. All accesses of the VMM are atomic.
            let there: &AtomicU8 = unsafe { self.pages.address().add(at).cast().as_ref() };

            there.store(byte, Ordering::Relaxed);
        }
    }
}
