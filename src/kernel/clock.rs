// SPDX-License-Identifier: GPL-2.0

//! How long something has taken, for little.
//!
//! Would go to `rust/kernel/time/slice.rs`. `kernel::time::Instant` is the time of `ktime_get()`, which
//! takes some hundred instructions to read; this reads the timebase, which takes one.
//!
//! C header: [`arch/powerpc/include/asm/time.h`](srctree/arch/powerpc/include/asm/time.h)

use super::bindings as extra;
use kernel::prelude::*;

/// A bound for how long something may take.
pub(crate) struct TimeSlice {
    micros: u32,
    /// The timebase when it began.
    begin: Option<u64>,
}

impl TimeSlice {
    /// Makes one of so many microseconds, which begins with the first look at it.
    pub(crate) const fn of_micros(micros: u32) -> Self {
        Self {
            micros,
            begin: None,
        }
    }

    /// Returns whether it is over. `false` the first time. May be called in any context.
    // The timebases of all CPUs are the same, so that it may go on on another.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        match self.begin {
            None => {
                // SAFETY: The function has no preconditions.
                self.begin = Some(unsafe { extra::uxive_timebase() });
                false
            }
            // SAFETY: As above.
            Some(begin) => unsafe { extra::uxive_has_passed(begin, self.micros) },
        }
    }
}

#[kunit_tests(time_slice)]
mod tests {
    use super::*;
    use kernel::time::{
        delay::udelay,
        Delta, //
    };

    #[test]
    fn a_slice_begins_with_the_first_look_and_ends_in_time() {
        let mut slice = TimeSlice::of_micros(1000);

        udelay(Delta::from_micros(900));
        udelay(Delta::from_micros(900));
        assert!(!slice.is_over());
        udelay(Delta::from_micros(900));
        udelay(Delta::from_micros(900));
        assert!(slice.is_over());
        assert!(!TimeSlice::of_micros(0).is_over());
    }
}
