// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The two pages of each interrupt: the trigger page rings it, the management page ends it.

use crate::uapi::{
    UXIVE_ESB_Q as Q,
    UXIVE_ESB_SET_PQ_00 as EOI, //
};
use core::{
    ptr::NonNull,
    sync::atomic::{
        fence,
        Ordering, //
    }, //
};

/// Rings: raises the interrupt whose trigger page is at `page`.
///
/// All that the thread wrote before is visible to the thread that takes the event.
///
/// # Safety
///
/// `page` must be aligned and mapped for writing, and nobody may rely on what it holds. The driver may
/// have withdrawn a trigger page: then the store raises `SIGBUS`.
#[inline]
pub unsafe fn ring(page: NonNull<u64>) {
    // A store to a device is ordered behind those to memory by a full barrier only.
    fence(Ordering::SeqCst);
    // SAFETY: The contract of the function is what a store needs.
    unsafe { page.as_ptr().write_volatile(0) };
}

/// The mapped pages of the interrupts of a user-drained context, by slot.
///
/// A page of a slot that has no interrupt raises `SIGBUS` when it is touched.
///
/// # Invariants
///
/// The pages of `slots` slots, the first of them at `base` and `stride` bytes from one to the next,
/// are mapped for reading and writing as long as the object lives. Nobody relies on what they hold.
/// `base` is aligned to 8 bytes, `stride` is a multiple of 16 and large enough for both pages.
#[derive(Debug)]
pub struct Esbs {
    base: NonNull<u8>,
    stride: usize,
    slots: u32,
}

// SAFETY: The object refers to memory of a device, which is not bound to a thread.
unsafe impl Send for Esbs {}

// SAFETY: Each access is one load or store of a device, which it orders by itself.
unsafe impl Sync for Esbs {}

impl Esbs {
    /// Returns the pages at `base`, whose trigger pages are `stride` bytes apart.
    ///
    /// # Safety
    ///
    /// The type invariants must hold. They do for a mapping of the beginning of a context's window of
    /// ESBs, with the stride that the driver tells, as long as that lives.
    pub unsafe fn new(base: NonNull<u8>, stride: usize, slots: u32) -> Self {
        // INVARIANT: The caller promises them.
        Self {
            base,
            stride,
            slots,
        }
    }

    /// Returns the number of slots whose pages these are.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the trigger page of a slot.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn trigger(&self, slot: u32) -> NonNull<u64> {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        // SAFETY: By the type invariants the page of each of the slots lies in the mapping.
        unsafe { self.base.add(slot as usize * self.stride) }.cast()
    }

    /// Rings: raises the interrupt of a slot.
    ///
    /// All that the thread wrote before is visible to the thread that takes the event.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn ring(&self, slot: u32) {
        // SAFETY: By the type invariants the page is mapped for writing while `self` is borrowed, and
        // nobody relies on what it holds.
        unsafe { ring(self.trigger(slot)) };
    }

    /// Ends the interrupt of a slot, of which an event was taken.
    ///
    /// If it was rung again since it was sent, that becomes an event of its own now. All that this
    /// thread wrote before is visible to the thread that takes that event.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn eoi(&self, slot: u32) {
        let trigger = self.trigger(slot);

        // After the load another thread may take the next event. The load is from a device, and
        // only this fence makes it wait for stores to memory.
        fence(Ordering::SeqCst);
        // SAFETY: The management page begins half a stride behind the trigger page. By the type
        // invariants both are mapped and aligned, and `EOI` is a multiple of 8 within the page.
        let pq = unsafe { trigger.byte_add(self.stride / 2 + EOI).read_volatile() };

        if u64::from_be(pq) & Q != 0 {
            // SAFETY: By the type invariants the page is mapped for writing while `self` is borrowed,
            // and nobody relies on what it holds.
            unsafe { trigger.write_volatile(0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    const STRIDE: usize = 8192;

    /// Runs `test` with the pages of two slots in memory. Returns what they hold afterwards.
    fn pages(pq: u64, test: impl FnOnce(&Esbs)) -> vec::Vec<u64> {
        let mut words = vec![u64::MAX; 2 * STRIDE / 8];

        words[(STRIDE + STRIDE / 2 + EOI) / 8] = pq.to_be();
        let base = NonNull::new(words.as_mut_ptr()).unwrap().cast();
        // SAFETY: The memory is as long and as aligned as said, and is read after the object only.
        test(&unsafe { Esbs::new(base, STRIDE, 2) });
        words
    }

    fn rung(words: &[u64]) -> [bool; 2] {
        [words[0] == 0, words[STRIDE / 8] == 0]
    }

    #[test]
    fn ringing_stores_to_the_trigger_page() {
        assert_eq!(rung(&pages(0, |esbs| esbs.ring(0))), [true, false]);
        assert_eq!(rung(&pages(0, |esbs| esbs.ring(1))), [false, true]);
    }

    #[test]
    fn ending_rings_again_if_q_was_set() {
        // P is 2.
        for (pq, again) in [(0, false), (1, true), (2, false), (3, true)] {
            assert_eq!(rung(&pages(pq, |esbs| esbs.eoi(1))), [false, again]);
        }
    }

    #[test]
    #[should_panic(expected = "slot 2 of 2")]
    fn there_are_no_more_slots() {
        pages(0, |esbs| esbs.ring(2));
    }
}
