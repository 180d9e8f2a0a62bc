// SPDX-License-Identifier: GPL-2.0

//! The offsets of a context file: which window an offset lies in, and at which index.
//!
//! Pure arithmetic. Windows lie at fixed offsets, far apart, below 2^44 so that 32-bit programs
//! reach them by `mmap2`. Offset 0 is never an interrupt, since libocxl takes it for "none".

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// The most interrupts that one context can have.
pub(crate) const MAX_IRQS: usize = 4096;

/// Offset of the trigger pages: one per interrupt, in the order of the slots.
const TRIGGER_BASE: u64 = 1 << 40;

/// Distance of the trigger pages, whatever the page size of the kernel. A slot's page is the first
/// of its stride; with smaller pages nothing lies behind it.
const TRIGGER_STRIDE: u64 = 64 * 1024;

/// Length of the window of trigger pages.
const TRIGGER_LEN: u64 = MAX_IRQS as u64 * TRIGGER_STRIDE;

const _: () = assert!(PAGE_SIZE as u64 <= TRIGGER_STRIDE);

/// Returns the offset of the trigger page of slot `index`, if there can be such a slot.
pub(crate) fn trigger_offset(index: usize) -> Option<u64> {
    if index < MAX_IRQS {
        Some(TRIGGER_BASE + index as u64 * TRIGGER_STRIDE)
    } else {
        None
    }
}

/// Returns the slot whose trigger page is at `offset` exactly.
pub(crate) fn trigger_index(offset: u64) -> Option<usize> {
    let within = offset.checked_sub(TRIGGER_BASE)?;

    if within < TRIGGER_LEN && within % TRIGGER_STRIDE == 0 {
        Some((within / TRIGGER_STRIDE) as usize)
    } else {
        None
    }
}

/// Returns whether all of the `len` bytes at `offset` lie in the window of trigger pages.
pub(crate) fn in_trigger_window(offset: u64, len: u64) -> bool {
    match (offset.checked_sub(TRIGGER_BASE), offset.checked_add(len)) {
        (Some(_), Some(end)) => end <= TRIGGER_BASE + TRIGGER_LEN,
        _ => false,
    }
}

#[kunit_tests(uxive_layout)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_index_are_inverse() {
        for index in 0..MAX_IRQS {
            assert_eq!(trigger_offset(index).and_then(trigger_index), Some(index));
        }
    }

    #[test]
    fn offset_zero_is_no_interrupt() {
        assert!(trigger_index(0).is_none());
        assert_ne!(trigger_offset(0), Some(0));
    }

    #[test]
    fn no_slot_beyond_the_last() {
        assert!(trigger_offset(MAX_IRQS).is_none());
        assert!(trigger_offset(usize::MAX).is_none());
        assert!(trigger_index(TRIGGER_BASE + TRIGGER_LEN).is_none());
        assert!(trigger_index(u64::MAX).is_none());
    }

    #[test]
    fn offsets_are_taken_whole() {
        assert!(trigger_index(TRIGGER_BASE + 8).is_none());
        assert!(trigger_index(TRIGGER_BASE - TRIGGER_STRIDE).is_none());
        for bit in 48..64 {
            assert!(trigger_index(TRIGGER_BASE | 1 << bit).is_none());
        }
    }

    #[test]
    fn window_has_both_ends() {
        assert!(in_trigger_window(TRIGGER_BASE, TRIGGER_LEN));
        assert!(in_trigger_window(TRIGGER_BASE + TRIGGER_LEN - 1, 1));
        assert!(!in_trigger_window(TRIGGER_BASE, TRIGGER_LEN + 1));
        assert!(!in_trigger_window(TRIGGER_BASE - 1, 2));
        assert!(!in_trigger_window(TRIGGER_BASE, u64::MAX));
        assert!(!in_trigger_window(u64::MAX, 1));
    }
}
