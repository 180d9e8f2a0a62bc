// SPDX-License-Identifier: GPL-2.0

//! Lines in the log that programs can cause.
//!
//! Would go to `rust/kernel/print.rs`, which logs every line. The macros of
//! `include/linux/ratelimit.h` add a line of their own, which tells how many they have held back.

use kernel::{
    bindings,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::Delta, //
};

/// How long it takes at least from a line to the next of its kind.
const INTERVAL: Delta = Delta::from_secs(1);

/// Lets through one at a time, and no other for a second.
pub(crate) struct RateLimit {
    /// From when on there may be another, as `ktime_get` counts.
    next: Atomic<i64>,
}

impl RateLimit {
    pub(crate) const fn new() -> Self {
        Self {
            next: Atomic::new(0),
        }
    }

    /// Returns whether the caller is let through. May be called in any context but that of an NMI.
    pub(crate) fn may_pass(&self) -> bool {
        // SAFETY: The function has no other requirements.
        let now = unsafe { bindings::ktime_get() };
        let next = self.next.load(Relaxed);

        now >= next
            && (self.next)
                .cmpxchg(next, now + INTERVAL.as_nanos(), Relaxed)
                .is_ok()
    }
}

/// As `pr_warn`, unless there was a line from the same place less than a second ago.
macro_rules! pr_warn_ratelimited {
    ($($line:tt)*) => {{
        static LIMIT: $crate::kernel_ext::ratelimit::RateLimit =
            $crate::kernel_ext::ratelimit::RateLimit::new();

        if LIMIT.may_pass() {
            ::kernel::pr_warn!($($line)*);
        }
    }};
}

pub(crate) use pr_warn_ratelimited;
