// SPDX-License-Identifier: GPL-2.0

//! How many of something there are and may be, or how many bytes: in all, and of each user.
//!
//! Counting takes no lock. There are never more than a limit allows. A call that is refused counts for
//! a moment for the users before the one that refuses: another call then may be refused, too, which
//! alone would not be. A limit that is lowered below what there is takes nothing away: it refuses more
//! until enough was given back.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// How many of something all users have, and what they may have. How many each has is counted beside,
/// with the user.
pub(crate) struct Counter {
    in_use: Atomic<usize>,
    total: Atomic<usize>,
    user: Atomic<usize>,
    highest: usize,
}

impl Counter {
    /// Makes the counter of something of which there can be `total`, and each user can have half of
    /// that. Neither limit can be set to more than `highest`.
    pub(crate) fn new(total: usize, highest: usize) -> Self {
        let total = total.min(highest);

        Self {
            in_use: Atomic::new(0),
            total: Atomic::new(total),
            user: Atomic::new(total / 2),
            highest,
        }
    }

    /// Returns how many there are.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Relaxed)
    }

    /// Returns how many all users together may have.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Returns how many a user may have.
    pub(crate) fn user(&self) -> usize {
        self.user.load(Relaxed)
    }

    /// Changes how many all users together may have.
    ///
    /// # Errors
    ///
    /// `ERANGE` if there cannot be so many.
    pub(crate) fn set_total(&self, limit: u64) -> Result {
        self.total.store(self.in_range(limit)?, Relaxed);
        Ok(())
    }

    /// Changes how many a user may have.
    ///
    /// # Errors
    ///
    /// `ERANGE` if there cannot be so many.
    pub(crate) fn set_user(&self, limit: u64) -> Result {
        self.user.store(self.in_range(limit)?, Relaxed);
        Ok(())
    }

    fn in_range(&self, limit: u64) -> Result<usize> {
        match usize::try_from(limit) {
            Ok(limit) if limit <= self.highest => Ok(limit),
            _ => Err(ERANGE),
        }
    }

    /// Counts `count` more, of a user who has `own`, with others `above` it who are charged as well.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if one of them may not have so many more, `ENFILE` if all users together may not: none is
    /// counted.
    #[inline(always)]
    pub(crate) fn charge<'a>(
        &self,
        own: &'a Atomic<usize>,
        above: impl ExactSizeIterator<Item = &'a Atomic<usize>> + Clone,
        count: usize,
    ) -> Result {
        if !add_up_to(own, count, self.user()) {
            return Err(EDQUOT);
        }
        if above.len() != 0 {
            self.charge_above(above.clone(), count)
                .inspect_err(|_| subtract(own, count))?;
        }
        if !add_up_to(&self.in_use, count, self.total()) {
            above.for_each(|user| subtract(user, count));
            subtract(own, count);
            return Err(ENFILE);
        }
        Ok(())
    }

    #[cold]
    fn charge_above<'a>(
        &self,
        above: impl Iterator<Item = &'a Atomic<usize>> + Clone,
        count: usize,
    ) -> Result {
        for (charged, user) in above.clone().enumerate() {
            if !add_up_to(user, count, self.user()) {
                above.take(charged).for_each(|user| subtract(user, count));
                return Err(EDQUOT);
            }
        }
        Ok(())
    }

    /// Counts `count` less, which were counted by [`Self::charge`] for the same users.
    #[inline]
    pub(crate) fn uncharge<'a>(
        &self,
        own: &'a Atomic<usize>,
        above: impl Iterator<Item = &'a Atomic<usize>>,
        count: usize,
    ) {
        subtract(&self.in_use, count);
        above.for_each(|user| subtract(user, count));
        subtract(own, count);
    }
}

#[inline]
fn subtract(value: &Atomic<usize>, count: usize) {
    value.fetch_sub(count, Relaxed);
}

/// Adds `count` if that makes no more than `limit`. Returns whether it did.
#[inline(always)]
fn add_up_to(value: &Atomic<usize>, count: usize, limit: usize) -> bool {
    let mut old = value.load(Relaxed);

    while count <= limit.saturating_sub(old) {
        match value.cmpxchg(old, old + count, Relaxed) {
            Ok(_) => return true,
            Err(now) => old = now,
        }
    }
    false
}

#[kunit_tests(uxive_counter)]
mod tests {
    use super::*;

    fn none() -> Atomic<usize> {
        Atomic::new(0)
    }

    fn charge(counter: &Counter, user: &Atomic<usize>, count: usize) -> Result {
        counter.charge(user, [].into_iter(), count)
    }

    fn uncharge(counter: &Counter, user: &Atomic<usize>, count: usize) {
        counter.uncharge(user, [].into_iter(), count);
    }

    #[test]
    fn a_user_has_half_to_begin_with() {
        for (total, highest, user) in [(8, 10, 4), (9, 9, 4), (11, 10, 5), (0, 10, 0)] {
            let counter = Counter::new(total, highest);
            assert_eq!(
                (counter.total(), counter.user()),
                (total.min(highest), user)
            );
        }
    }

    #[test]
    fn a_user_ends_at_its_limit_and_another_goes_on() {
        let (counter, one, other) = (Counter::new(8, 8), none(), none());
        for _ in 0..4 {
            assert_eq!(charge(&counter, &one, 1), Ok(()));
        }
        assert_eq!(charge(&counter, &one, 1), Err(EDQUOT));
        for _ in 0..4 {
            assert_eq!(charge(&counter, &other, 1), Ok(()));
        }
        assert_eq!(charge(&counter, &other, 1), Err(EDQUOT));
        assert_eq!(
            (one.load(Relaxed), other.load(Relaxed), counter.in_use()),
            (4, 4, 8)
        );
        uncharge(&counter, &one, 1);
        assert_eq!(charge(&counter, &other, 1), Err(EDQUOT));
        assert_eq!(charge(&counter, &one, 1), Ok(()));
    }

    #[test]
    fn all_together_end_at_theirs() {
        let (counter, one, other) = (Counter::new(3, 8), none(), none());
        assert_eq!(counter.set_user(8), Ok(()));
        for _ in 0..2 {
            assert_eq!(charge(&counter, &one, 1), Ok(()));
        }
        assert_eq!(charge(&counter, &other, 1), Ok(()));
        assert_eq!(charge(&counter, &other, 1), Err(ENFILE));
        assert_eq!(charge(&counter, &one, 1), Err(ENFILE));
        uncharge(&counter, &one, 1);
        assert_eq!(charge(&counter, &other, 1), Ok(()));
        assert_eq!(
            (one.load(Relaxed), other.load(Relaxed), counter.in_use()),
            (1, 2, 3)
        );
    }

    #[test]
    fn many_are_counted_or_none() {
        let (counter, own) = (Counter::new(6, 8), none());
        assert_eq!(counter.set_user(8), Ok(()));
        for (count, result, in_use) in [
            (7, Err(ENFILE), 0),
            (9, Err(EDQUOT), 0),
            (usize::MAX, Err(EDQUOT), 0),
            (4, Ok(()), 4),
            (3, Err(ENFILE), 4),
            (usize::MAX, Err(EDQUOT), 4),
            (0, Ok(()), 4),
            (2, Ok(()), 6),
        ] {
            assert_eq!(charge(&counter, &own, count), result);
            assert_eq!((own.load(Relaxed), counter.in_use()), (in_use, in_use));
        }
        uncharge(&counter, &own, 6);
        assert_eq!((own.load(Relaxed), counter.in_use()), (0, 0));
    }

    #[test]
    fn of_several_users_all_are_counted_or_none() {
        let (counter, own, others) = (Counter::new(10, 10), none(), [none(), none()]);
        let numbers = || {
            let [first, second] = &others;
            [&own, first, second, &counter.in_use].map(|count| count.load(Relaxed))
        };
        let charge_all = |count| counter.charge(&own, others.iter(), count);
        assert_eq!(charge(&counter, &others[1], 3), Ok(()));
        assert_eq!(charge_all(2), Ok(()));
        assert_eq!(numbers(), [2, 2, 5, 5]);
        // The last of them, then the one in between, then the first.
        assert_eq!(charge_all(1), Err(EDQUOT));
        assert_eq!(charge(&counter, &others[0], 3), Ok(()));
        uncharge(&counter, &others[1], 3);
        assert_eq!(charge_all(1), Err(EDQUOT));
        assert_eq!(numbers(), [2, 5, 2, 5]);
        uncharge(&counter, &others[0], 3);
        assert_eq!(charge(&counter, &own, 3), Ok(()));
        assert_eq!(charge_all(1), Err(EDQUOT));
        assert_eq!(numbers(), [5, 2, 2, 5]);
        assert_eq!(counter.set_user(10), Ok(()));
        assert_eq!(counter.set_total(5), Ok(()));
        assert_eq!(charge_all(1), Err(ENFILE));
        assert_eq!(numbers(), [5, 2, 2, 5]);
        counter.uncharge(&own, others.iter(), 2);
        assert_eq!(numbers(), [3, 0, 0, 3]);
    }

    #[test]
    fn a_lowered_limit_waits_and_a_raised_one_does_not() {
        let (counter, own) = (Counter::new(8, 8), none());
        assert_eq!(charge(&counter, &own, 3), Ok(()));
        assert_eq!(counter.set_user(1), Ok(()));
        for _ in 0..3 {
            assert_eq!(charge(&counter, &own, 1), Err(EDQUOT));
            uncharge(&counter, &own, 1);
        }
        assert_eq!(charge(&counter, &own, 1), Ok(()));
        assert_eq!(charge(&counter, &own, 1), Err(EDQUOT));
        assert_eq!(counter.set_user(2), Ok(()));
        assert_eq!(charge(&counter, &own, 1), Ok(()));
        assert_eq!(counter.set_total(0), Ok(()));
        uncharge(&counter, &own, 1);
        assert_eq!(charge(&counter, &own, 1), Err(ENFILE));
    }

    #[test]
    fn limits_have_a_range() {
        let counter = Counter::new(5, 10);
        for bad in [11, 1 << 32, u64::MAX] {
            assert_eq!(counter.set_total(bad), Err(ERANGE));
            assert_eq!(counter.set_user(bad), Err(ERANGE));
            assert_eq!((counter.total(), counter.user()), (5, 2));
        }
        for good in [0, 10] {
            assert_eq!(counter.set_total(good), Ok(()));
            assert_eq!(counter.total() as u64, good);
        }
    }
}
