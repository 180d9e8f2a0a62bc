// SPDX-License-Identifier: GPL-2.0

//! How many of something there are and may be: in all, and of each user.
//!
//! Pure arithmetic; a lock around it makes it exact: there are never more than a limit allows, not
//! for a moment. A limit that is lowered below what there is takes nothing away, it refuses more
//! until enough was given back.

use kernel::prelude::*;

/// How many of something all users have. How many each has is kept beside, with the user.
pub(crate) struct Tally {
    in_use: usize,
    limits: Limits,
    highest: usize,
}

/// The most that there may be.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Of all users together.
    pub(crate) total: usize,
    /// Of each user.
    pub(crate) user: usize,
}

impl Tally {
    /// Makes the tally of something of which there can be `total`, and each user can have half of
    /// that. Neither limit can be set to more than `highest`.
    pub(crate) fn new(total: usize, highest: usize) -> Self {
        let total = total.min(highest);

        Self {
            in_use: 0,
            limits: Limits {
                total,
                user: total / 2,
            },
            highest,
        }
    }

    /// Returns how many there are.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns the limits.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Changes the limit that `which` returns of them.
    ///
    /// # Errors
    ///
    /// `ERANGE` if it cannot be that high.
    pub(crate) fn set_limit(&mut self, which: fn(&mut Limits) -> &mut usize, limit: u64) -> Result {
        match usize::try_from(limit) {
            Ok(limit) if limit <= self.highest => {
                *which(&mut self.limits) = limit;
                Ok(())
            }
            _ => Err(ERANGE),
        }
    }

    /// Makes sure that a user who has `own` may have one more.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if the user has as many as it may, `ENFILE` if all together have.
    #[inline]
    pub(crate) fn check(&self, own: usize) -> Result {
        if own >= self.limits.user {
            return Err(EDQUOT);
        }
        if self.in_use >= self.limits.total {
            return Err(ENFILE);
        }
        Ok(())
    }

    /// Counts one more, and returns how many a user then has who has `own`.
    #[inline]
    pub(crate) fn add(&mut self, own: usize) -> usize {
        self.in_use += 1;
        own + 1
    }

    /// Counts one less, as [`Self::add`] counts one more.
    #[inline]
    pub(crate) fn remove(&mut self, own: usize) -> usize {
        self.in_use -= 1;
        own - 1
    }
}

#[kunit_tests(uxive_tally)]
mod tests {
    use super::*;

    /// One more for the user, if that may be.
    fn take(tally: &mut Tally, own: &mut usize) -> Result {
        tally.check(*own)?;
        *own = tally.add(*own);
        Ok(())
    }

    #[test]
    fn a_user_has_half_to_begin_with() {
        for (total, highest, user) in [(8, 10, 4), (9, 9, 4), (11, 10, 5), (0, 10, 0)] {
            let limits = Tally::new(total, highest).limits();
            assert_eq!((limits.total, limits.user), (total.min(highest), user));
        }
    }

    #[test]
    fn a_user_ends_at_its_limit_and_another_goes_on() {
        let mut tally = Tally::new(8, 8);
        let (mut one, mut other) = (0, 0);
        for _ in 0..4 {
            assert_eq!(take(&mut tally, &mut one), Ok(()));
        }
        assert_eq!(take(&mut tally, &mut one), Err(EDQUOT));
        for _ in 0..4 {
            assert_eq!(take(&mut tally, &mut other), Ok(()));
        }
        assert_eq!(take(&mut tally, &mut other), Err(EDQUOT));
        assert_eq!((one, other, tally.in_use()), (4, 4, 8));
        one = tally.remove(one);
        assert_eq!(take(&mut tally, &mut other), Err(EDQUOT));
        assert_eq!(take(&mut tally, &mut one), Ok(()));
    }

    #[test]
    fn all_together_end_at_theirs() {
        let mut tally = Tally::new(3, 8);
        let (mut one, mut other) = (0, 0);
        assert_eq!(tally.set_limit(|limits| &mut limits.user, 8), Ok(()));
        for _ in 0..2 {
            assert_eq!(take(&mut tally, &mut one), Ok(()));
        }
        assert_eq!(take(&mut tally, &mut other), Ok(()));
        assert_eq!(take(&mut tally, &mut other), Err(ENFILE));
        assert_eq!(take(&mut tally, &mut one), Err(ENFILE));
        one = tally.remove(one);
        assert_eq!(take(&mut tally, &mut other), Ok(()));
        assert_eq!((one, other, tally.in_use()), (1, 2, 3));
    }

    #[test]
    fn a_lowered_limit_waits_and_a_raised_one_does_not() {
        let mut tally = Tally::new(8, 8);
        let mut own = 0;
        for _ in 0..3 {
            assert_eq!(take(&mut tally, &mut own), Ok(()));
        }
        assert_eq!(tally.set_limit(|limits| &mut limits.user, 1), Ok(()));
        for _ in 0..3 {
            assert_eq!(take(&mut tally, &mut own), Err(EDQUOT));
            own = tally.remove(own);
        }
        assert_eq!(take(&mut tally, &mut own), Ok(()));
        assert_eq!(take(&mut tally, &mut own), Err(EDQUOT));
        assert_eq!(tally.set_limit(|limits| &mut limits.user, 2), Ok(()));
        assert_eq!(take(&mut tally, &mut own), Ok(()));
        assert_eq!(tally.set_limit(|limits| &mut limits.total, 0), Ok(()));
        own = tally.remove(own);
        assert_eq!(take(&mut tally, &mut own), Err(ENFILE));
    }

    #[test]
    fn limits_have_a_range() {
        let mut tally = Tally::new(5, 10);
        for bad in [11, 1 << 32, u64::MAX] {
            assert_eq!(
                tally.set_limit(|limits| &mut limits.total, bad),
                Err(ERANGE)
            );
            assert_eq!(tally.set_limit(|limits| &mut limits.user, bad), Err(ERANGE));
            assert_eq!((tally.limits().total, tally.limits().user), (5, 2));
        }
        for good in [0, 10] {
            assert_eq!(tally.set_limit(|limits| &mut limits.total, good), Ok(()));
            assert_eq!(tally.limits().total as u64, good);
        }
    }
}
