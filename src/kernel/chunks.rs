// SPDX-License-Identifier: GPL-2.0

//! Tables that grow without moving what is in them.
//!
//! Would go to `rust/kernel/alloc/chunks.rs`. `kernel::alloc::KVVec` moves its elements when it grows,
//! and a lock that guards them is held as long as that takes. `kernel::xarray` has one allocation for
//! each element.
//!
//! Elements lie in chunks of [`CHUNK`], which come one by one. Only the list of chunks moves.

use kernel::prelude::*;

/// How many elements lie in one piece of memory.
pub(crate) const CHUNK: usize = 64;

/// A table of elements, in which any chunk can be missing.
pub(crate) struct Chunks<E>(KVVec<KVVec<E>>);

/// Memory for a table to grow by one chunk, or that it has grown out of.
pub(crate) struct Room<E> {
    /// Empty if the table's list is long enough.
    list: KVVec<KVVec<E>>,
    chunk: KVVec<E>,
}

impl<E> Chunks<E> {
    /// Makes a table without any.
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// Returns below which index there can be elements.
    pub(crate) fn capacity(&self) -> usize {
        self.0.len() * CHUNK
    }

    /// Returns element `index`, if its chunk is there.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&E> {
        self.0.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// As [`Self::get`].
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut E> {
        self.0.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// Returns the capacity, which [`Room::new`] needs to know, if the chunk of element `index` is missing.
    pub(crate) fn missing(&self, index: usize) -> Option<usize> {
        match self.get(index) {
            Some(_) => None,
            None => Some(self.capacity()),
        }
    }

    /// Adds the chunk of element `index`, unless it is there, from `room`, which was made for it and gets
    /// the memory that is left. Neither allocates nor frees memory.
    pub(crate) fn grow(&mut self, index: usize, room: &mut Room<E>) {
        if room.list.len() > self.0.len() {
            core::mem::swap(&mut self.0, &mut room.list);
            for (to, from) in self.0.iter_mut().zip(room.list.iter_mut()) {
                core::mem::swap(to, from);
            }
        }
        if let Some(chunk) = self.0.get_mut(index / CHUNK) {
            // Another may have been faster.
            if chunk.is_empty() {
                core::mem::swap(chunk, &mut room.chunk);
            }
        }
    }
}

impl<E: Default> Room<E> {
    /// Allocates what a table of the `capacity` needs for the chunk of element `index`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(index: usize, capacity: usize) -> Result<Self> {
        let mut room = Self {
            list: KVVec::new(),
            chunk: KVVec::with_capacity(CHUNK, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?,
        };

        while room.chunk.len() < CHUNK {
            room.chunk.push_within_capacity(E::default())?;
        }
        if index >= capacity {
            let chunks = (index / CHUNK + 1).next_power_of_two();
            room.list = KVVec::with_capacity(chunks, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
            while room.list.len() < chunks {
                room.list.push_within_capacity(KVVec::new())?;
            }
        }
        Ok(room)
    }
}

#[kunit_tests(table_chunks)]
mod tests {
    use super::*;

    type Numbers = Chunks<Option<usize>>;

    fn grow(chunks: &mut Numbers, index: usize) -> Result {
        if let Some(capacity) = chunks.missing(index) {
            chunks.grow(index, &mut Room::new(index, capacity)?);
        }
        Ok(())
    }

    /// Enters each of `indices`, in a table that grows from nothing.
    fn grown(indices: impl Iterator<Item = usize>) -> Result<Numbers> {
        let mut chunks = Chunks::new();

        for index in indices {
            grow(&mut chunks, index)?;
            *chunks.get_mut(index).ok_or(ENOMEM)? = Some(index);
        }
        Ok(chunks)
    }

    #[test]
    fn a_new_table_has_no_elements() {
        let chunks = Numbers::new();

        assert_eq!(chunks.capacity(), 0);
        assert!(chunks.get(0).is_none() && chunks.get(usize::MAX).is_none());
        assert_eq!(chunks.missing(5), Some(0));
    }

    #[test]
    fn elements_are_there_however_it_grew() -> Result {
        const MOST: usize = 5 * CHUNK;

        for step in [1, 7, CHUNK - 1, CHUNK, CHUNK + 1] {
            let mut up = grown((0..MOST).step_by(step))?;
            let mut down = grown((0..MOST).step_by(step).rev())?;
            for index in 0..MOST {
                let entered = (index % step == 0).then_some(index);
                for chunks in [&mut up, &mut down] {
                    assert_eq!(chunks.get(index).copied().flatten(), entered);
                    assert_eq!(chunks.get_mut(index).copied().flatten(), entered);
                }
            }
            assert!(up.get(up.capacity()).is_none());
        }
        Ok(())
    }

    #[test]
    fn growing_moves_no_element() -> Result {
        let mut chunks = grown(0..1)?;
        let place = core::ptr::from_ref(chunks.get(0).ok_or(EINVAL)?);

        for index in [CHUNK, 40 * CHUNK, 1000 * CHUNK] {
            grow(&mut chunks, index)?;
            assert!(chunks.get(index).is_some());
            assert!(core::ptr::eq(place, chunks.get(0).ok_or(EINVAL)?));
        }
        // No memory for those in between.
        assert_eq!(chunks.missing(2 * CHUNK), Some(1024 * CHUNK));
        Ok(())
    }

    #[test]
    fn of_two_that_grow_it_the_second_changes_nothing() -> Result {
        let mut chunks = grown(0..1)?;
        let (mut one, mut other) = (Room::new(CHUNK, CHUNK)?, Room::new(CHUNK, CHUNK)?);

        chunks.grow(CHUNK, &mut one);
        *chunks.get_mut(CHUNK).ok_or(EINVAL)? = Some(5);
        chunks.grow(CHUNK, &mut other);
        assert_eq!(chunks.get(CHUNK), Some(&Some(5)));
        assert!(one.chunk.is_empty() && !other.chunk.is_empty());
        Ok(())
    }
}
