// SPDX-License-Identifier: GPL-2.0

//! Which indices are in use.
//!
//! As `kernel::bitmap`, for whose ranges each bit is a call, and which has memory for all from the
//! beginning on. Here they take as long as there are words, however the bits lie: a lock that guards
//! this is held as long.

use core::ops::Range;
use kernel::prelude::*;

/// How many indices a word is for.
const BITS: usize = u64::BITS as usize;

/// The indices below some number, each in use or free.
pub(crate) struct Indices {
    count: usize,
    /// The bits that are set are in use. Those behind all words are free.
    words: KVVec<u64>,
}

impl Indices {
    /// Makes `count` indices, all of which are free.
    pub(crate) const fn new(count: usize) -> Self {
        Self {
            count,
            words: KVVec::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns the lowest one from `start` on that is free.
    #[inline]
    pub(crate) fn next_free(&self, start: usize) -> Option<usize> {
        let mut index = start;

        while let Some(word) = self.words.get(index / BITS) {
            let free = !word >> (index % BITS);
            if free != 0 {
                index += free.trailing_zeros() as usize;
                break;
            }
            index = (index / BITS + 1) * BITS;
        }
        (index < self.count).then_some(index)
    }

    /// Returns the first of the lowest `count` consecutive ones that are free. All below `from` are in
    /// use.
    pub(crate) fn find(&self, from: usize, count: usize) -> Option<usize> {
        // How many are free at the end of the word before.
        let mut free_before = 0;
        let mut start = from.max(self.words.len() * BITS);

        for (at, &word) in self.words.iter().enumerate().skip(from / BITS) {
            if free_before + word.trailing_zeros() as usize >= count {
                start = at * BITS;
                break;
            }
            if let Some(bit) = first_run(!word, count) {
                (start, free_before) = (at * BITS + bit, 0);
                break;
            }
            free_before = match word {
                0 => free_before + BITS,
                _ => word.leading_zeros() as usize,
            };
        }
        let start = start - free_before;
        let end = start.checked_add(count)?;
        (end <= self.count).then_some(start)
    }

    /// Returns whether all in `range` are free.
    pub(crate) fn are_free(&self, range: Range<usize>) -> bool {
        words_of(range).all(|(at, bits)| self.words.get(at).is_none_or(|word| word & bits == 0))
    }

    /// Takes those in `range` into use.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are no such indices, `ENOMEM` if there is no memory: none is taken.
    #[inline(never)]
    pub(crate) fn take(&mut self, range: Range<usize>) -> Result {
        if range.end > self.count {
            return Err(EINVAL);
        }
        let missing = (range.end.div_ceil(BITS)).saturating_sub(self.words.len());
        if missing > 0 {
            self.grow(missing)?;
        }
        for (at, bits) in words_of(range) {
            if let Some(word) = self.words.get_mut(at) {
                *word |= bits;
            }
        }
        Ok(())
    }

    /// As [`Self::take`], of one.
    #[inline(always)]
    pub(crate) fn take_one(&mut self, index: usize) -> Result {
        match self.words.get_mut(index / BITS) {
            Some(word) => {
                *word |= 1 << (index % BITS);
                Ok(())
            }
            None => self.take(index..index + 1),
        }
    }

    /// Adds `count` words.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, count: usize) -> Result {
        self.words
            .reserve(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        for _ in 0..count {
            self.words.push_within_capacity(0)?;
        }
        Ok(())
    }

    /// Gives one back.
    #[inline(always)]
    pub(crate) fn release_one(&mut self, index: usize) {
        if let Some(word) = self.words.get_mut(index / BITS) {
            *word &= !(1 << (index % BITS));
        }
    }

    /// Gives those in `range` back.
    pub(crate) fn release(&mut self, range: Range<usize>) {
        for (at, bits) in words_of(range) {
            if let Some(word) = self.words.get_mut(at) {
                *word &= !bits;
            }
        }
    }
}

/// Returns the words that have a bit of an index in `range`, and these bits.
#[inline]
fn words_of(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { mut start, end } = range;

    core::iter::from_fn(move || {
        if start >= end {
            return None;
        }
        let (at, first) = (start / BITS, start % BITS);
        let count = (end - start).min(BITS - first);
        start += count;
        Some((at, u64::MAX >> (BITS - count) << first))
    })
}

/// Returns the lowest of the first `count` bits of `word` on end that are set.
fn first_run(word: u64, count: usize) -> Option<usize> {
    if count > BITS {
        return None;
    }
    let (mut runs, mut left) = (word, count);

    // A bit of `runs` stands for as many on end as were asked for less `left - 1`, but with holes, which
    // the further steps close.
    while left > 1 {
        let step = left / 2;
        runs &= runs >> step;
        left -= step;
    }
    (runs != 0).then_some(runs.trailing_zeros() as usize)
}

#[kunit_tests(uxive_indices)]
mod tests {
    use super::*;

    const COUNT: usize = 300;

    /// Indices of which those that are `taken` are in use.
    fn indices(taken: impl Fn(usize) -> bool) -> Result<Indices> {
        let mut indices = Indices::new(COUNT);

        for index in (0..COUNT).filter(|&index| taken(index)) {
            indices.take_one(index)?;
        }
        Ok(indices)
    }

    /// Compares all answers with those that are found one by one.
    fn is_right(taken: impl Fn(usize) -> bool) -> Result {
        let indices = indices(&taken)?;
        let free = |range: Range<usize>| range.end <= COUNT && !range.clone().any(&taken);
        let first = (0..COUNT).find(|&index| !taken(index)).unwrap_or(COUNT);

        for start in 0..=COUNT {
            let next = (start..COUNT).find(|&index| !taken(index));
            assert_eq!(indices.next_free(start), next);
            for count in [1, 2, 63, 64, 65] {
                let range = start..(start + count).min(COUNT);
                assert_eq!(indices.are_free(range.clone()), free(range));
            }
        }
        for count in [
            1,
            2,
            3,
            5,
            8,
            31,
            32,
            33,
            62,
            63,
            64,
            65,
            100,
            128,
            129,
            236,
            COUNT,
            COUNT + 1,
        ] {
            let found = (0..COUNT).find(|&start| free(start..start + count));
            assert_eq!(indices.find(first, count), found);
        }
        Ok(())
    }

    #[test]
    fn what_is_free_is_found_wherever_it_lies() -> Result {
        is_right(|_| false)?;
        is_right(|_| true)?;
        for period in [2, 3, 5, 31, 64, 65, 127] {
            for taken in [1, period / 2, period - 1] {
                is_right(|index| index % period < taken)?;
                is_right(|index| index % period >= taken)?;
                is_right(|index| index < taken || index > 2 * period)?;
            }
        }
        Ok(())
    }

    #[test]
    fn ranges_are_taken_and_given_back_whole() -> Result {
        for range in [0..1, 5..64, 63..65, 64..128, 1..299, 0..300, 128..128] {
            let mut indices = Indices::new(COUNT);
            indices.take(range.clone())?;
            for index in 0..COUNT {
                assert_eq!(indices.are_free(index..index + 1), !range.contains(&index));
            }
            range.clone().for_each(|index| indices.release_one(index));
            assert!(indices.are_free(0..COUNT));
            indices.take(0..COUNT)?;
            indices.release(range.clone());
            for index in 0..COUNT {
                assert_eq!(indices.are_free(index..index + 1), range.contains(&index));
            }
        }
        Ok(())
    }

    #[test]
    fn there_are_no_more_than_were_made() -> Result {
        let mut indices = Indices::new(COUNT);

        assert_eq!(indices.take(COUNT - 1..COUNT + 1), Err(EINVAL));
        assert!(indices.are_free(0..COUNT));
        assert_eq!(indices.next_free(COUNT), None);
        assert_eq!(indices.find(0, COUNT + 1), None);
        assert_eq!(indices.find(0, usize::MAX), None);
        indices.take(0..COUNT)?;
        assert_eq!(indices.next_free(0), None);
        assert_eq!(indices.find(COUNT, 1), None);
        Ok(())
    }
}
