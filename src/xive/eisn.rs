// SPDX-License-Identifier: GPL-2.0

//! How large a queue is, and the numbers (EISN) by which its entries name their sources.

use kernel::prelude::*;

/// The most sources that are taken from OPAL: a small part of the million that each chip has.
pub(crate) const MAX_SOURCES: usize = 65536;

/// The size of an event queue: firmware knows four, of which these are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSize {
    /// A power of two.
    entries: usize,
}

impl QueueSize {
    /// 64 KiB.
    pub(crate) const SMALL: Self = Self { entries: 1 << 14 };

    /// 2 MiB.
    pub(crate) const LARGE: Self = Self { entries: 1 << 19 };

    /// Returns the size of a queue for so many sources, at most [`MAX_SOURCES`].
    pub(crate) const fn of(sources: usize) -> Self {
        if sources <= Self::SMALL.entries {
            Self::SMALL
        } else {
            Self::LARGE
        }
    }

    /// Returns the number of entries, of 4 bytes.
    pub(crate) const fn entries(self) -> usize {
        self.entries
    }

    /// Returns the size in bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.entries * size_of::<u32>()
    }

    /// Returns the size in bytes, as a power of two.
    pub(super) fn order(self) -> u32 {
        self.bytes().ilog2()
    }
}

/// Which of the sources of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// Rung by a store to its trigger page, with an interrupt of XIVE's own.
    Ipi,
    /// Rung by a message of a device.
    Msi,
}

impl SourceKind {
    /// Returns the EISN of the source of slot `index` in a queue of `size`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if that is beyond what the queue has entries for.
    #[inline]
    pub(crate) fn eisn(self, index: usize, size: QueueSize) -> Result<u32> {
        if index >= size.entries() {
            return Err(ENOSPC);
        }
        Ok(match self {
            Self::Ipi => index as u32,
            Self::Msi => (size.entries() + index) as u32,
        })
    }

    /// Returns the slot and the source that `eisn` stands for in a queue of `size`.
    #[inline]
    pub(crate) fn of_eisn(eisn: usize, size: QueueSize) -> (Self, usize) {
        match eisn.checked_sub(size.entries()) {
            None => (Self::Ipi, eisn),
            Some(index) => (Self::Msi, index),
        }
    }
}
