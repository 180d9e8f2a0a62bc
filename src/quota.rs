// SPDX-License-Identifier: GPL-2.0

//! A limit on how many of something may exist.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// A number of units, of which some are in use.
pub(crate) struct Quota {
    limit: u32,
    // At most `limit`. Orders nothing else, so relaxed accesses do.
    used: Atomic<u32>,
}

impl Quota {
    /// Makes a quota of `limit` units.
    pub(crate) fn new(limit: u32) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                limit,
                used: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    /// Takes one unit.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if all are in use.
    pub(crate) fn charge(self: &Arc<Self>) -> Result<Charge> {
        let mut used = self.used.load(Relaxed);

        while used < self.limit {
            match self.used.cmpxchg(used, used + 1, Relaxed) {
                Ok(_) => return Ok(Charge(self.clone())),
                Err(now) => used = now,
            }
        }
        Err(ENOSPC)
    }
}

/// One unit of a [`Quota`], given back when dropped.
pub(crate) struct Charge(Arc<Quota>);

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}

#[kunit_tests(uxive_quota)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_exact() -> Result {
        let quota = Quota::new(2)?;
        let first = quota.charge()?;
        let _second = quota.charge()?;
        assert!(quota.charge().is_err());
        drop(first);
        let _third = quota.charge()?;
        assert!(quota.charge().is_err());
        Ok(())
    }

    #[test]
    fn zero_admits_nothing() -> Result {
        assert!(Quota::new(0)?.charge().is_err());
        Ok(())
    }
}
