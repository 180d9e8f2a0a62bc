// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The event queue, which hardware writes and one reader reads.
//!
//! It is a ring of four-byte entries in big-endian order. Bit 31 is the generation, which flips with
//! each pass through the ring: an entry that does not have the expected one has not been written
//! yet. The other bits are the slot of the interrupt.

use crate::uapi::{
    UXIVE_ENTRY_GENERATION as GENERATION,
    UXIVE_ENTRY_NUMBER as NUMBER, //
};
use core::sync::atomic::{
    fence,
    AtomicU32,
    Ordering, //
};

/// Where a reader is in a queue.
///
/// # Invariants
///
/// `mask + 1` is a power of two, `next <= mask`, and `generation` is 0 or [`GENERATION`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    mask: u32,
    next: u32,
    /// Bit 31, as the entry at `next` will have it.
    generation: u32,
}

impl Cursor {
    fn new(entries: usize) -> Option<Self> {
        let entries = u32::try_from(entries).ok()?;

        // INVARIANT: It is a power of two, and so is not 0 and has a mask.
        entries.is_power_of_two().then(|| Self {
            mask: entries - 1,
            next: 0,
            generation: GENERATION,
        })
    }

    /// Takes the value read at `next`. Returns the slot, if the value is an entry.
    #[inline]
    fn take(&mut self, entry: u32) -> Option<u32> {
        if (entry ^ self.generation) & GENERATION != 0 {
            return None;
        }
        // INVARIANT: The mask keeps `next` in bounds, and one bit is flipped.
        self.next = self.next.wrapping_add(1) & self.mask;
        if self.next == 0 {
            self.generation ^= GENERATION;
        }
        Some(entry & NUMBER)
    }
}

/// An event queue and its reader.
///
/// `M` owns the memory: a mapping, or a reference to atomics in tests.
///
/// # Examples
///
/// ```
/// use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// let ring: [AtomicU32; 2] = Default::default();
/// let mut queue = uxive::queue::Queue::new(&ring).unwrap();
///
/// assert_eq!(queue.try_next(), None);
/// // Hardware writes an entry.
/// ring[0].store((1 << 31 | 7u32).to_be(), Relaxed);
/// assert_eq!(queue.try_next(), Some(7));
/// assert_eq!(queue.try_next(), None);
/// ```
#[derive(Debug)]
pub struct Queue<M> {
    memory: M,
    cursor: Cursor,
}

impl<M: AsRef<[AtomicU32]>> Queue<M> {
    /// Returns a reader of the queue in `memory`, in which nothing has been written yet.
    ///
    /// `None` if the number of its entries is not a power of two.
    pub fn new(memory: M) -> Option<Self> {
        let cursor = Cursor::new(memory.as_ref().len())?;

        Some(Self { memory, cursor })
    }

    /// Takes the next event and returns its slot, if there is one.
    ///
    /// All that the ringer wrote before it rang is visible afterwards.
    #[inline]
    pub fn try_next(&mut self) -> Option<u32> {
        let entry = self.memory.as_ref().get(self.cursor.next as usize)?;
        let slot = self
            .cursor
            .take(u32::from_be(entry.load(Ordering::Relaxed)))?;

        fence(Ordering::Acquire);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        vec,
        vec::Vec, //
    };

    /// Acts as hardware: writes entries, and flips the generation at each wrap.
    struct Writer<'a> {
        ring: &'a [AtomicU32],
        written: usize,
    }

    impl Writer<'_> {
        fn write(&mut self, slot: u32) {
            let pass = self.written / self.ring.len();
            let generation = [GENERATION, 0][pass % 2];

            self.ring[self.written % self.ring.len()]
                .store((generation | slot).to_be(), Ordering::Relaxed);
            self.written += 1;
        }
    }

    fn ring(entries: usize) -> Vec<AtomicU32> {
        (0..entries).map(|_| AtomicU32::new(0)).collect()
    }

    #[test]
    fn a_new_queue_is_empty() {
        let ring = ring(4);
        let mut queue = Queue::new(ring.as_slice()).unwrap();

        assert_eq!(queue.try_next(), None);
        assert_eq!(queue.try_next(), None);
    }

    #[test]
    fn entries_come_in_order_and_once() {
        let ring = ring(8);
        let mut queue = Queue::new(ring.as_slice()).unwrap();
        let mut writer = Writer {
            ring: &ring,
            written: 0,
        };

        for slot in [5, 0, 5, 0x7fff_ffff] {
            writer.write(slot);
        }
        let mut taken = vec![];
        while let Some(slot) = queue.try_next() {
            taken.push(slot);
        }
        assert_eq!(taken, [5, 0, 5, 0x7fff_ffff]);
    }

    #[test]
    fn entries_are_big_endian() {
        let ring = [AtomicU32::new(u32::from_ne_bytes([0x80, 0, 0x12, 0x34]))];
        let mut queue = Queue::new(ring.as_slice()).unwrap();

        assert_eq!(queue.try_next(), Some(0x1234));
    }

    #[test]
    fn the_generation_flips_at_every_wrap() {
        let ring = ring(4);
        let mut queue = Queue::new(ring.as_slice()).unwrap();
        let mut writer = Writer {
            ring: &ring,
            written: 0,
        };

        for slot in 0..10 * 4 {
            assert_eq!(queue.try_next(), None);
            writer.write(slot);
            assert_eq!(queue.try_next(), Some(slot));
        }
    }

    #[test]
    fn a_full_queue_is_read_whole_wherever_it_begins() {
        let ring = ring(4);
        let mut queue = Queue::new(ring.as_slice()).unwrap();
        let mut writer = Writer {
            ring: &ring,
            written: 0,
        };

        for first in 0..10 {
            for slot in first..first + 4 {
                writer.write(slot);
            }
            for slot in first..first + 4 {
                assert_eq!(queue.try_next(), Some(slot));
            }
            assert_eq!(queue.try_next(), None);
            writer.write(first);
            assert_eq!(queue.try_next(), Some(first));
        }
    }

    #[test]
    fn a_queue_of_one_entry_wraps_each_time() {
        let ring = ring(1);
        let mut queue = Queue::new(ring.as_slice()).unwrap();
        let mut writer = Writer {
            ring: &ring,
            written: 0,
        };

        for slot in 0..4 {
            assert_eq!(queue.try_next(), None);
            writer.write(slot);
            assert_eq!(queue.try_next(), Some(slot));
        }
    }

    #[test]
    fn the_number_of_entries_is_a_power_of_two() {
        for entries in [0, 3, 6, 16383] {
            assert!(Queue::new(ring(entries)).is_none());
        }
        assert!(Cursor::new(1 << 31).is_some());
        assert!(Cursor::new(1 << 32).is_none());
        assert!(Cursor::new(usize::MAX).is_none());
    }
}
