// SPDX-License-Identifier: GPL-2.0

//! Lines in the log that programs can cause.
//!
//! Would go to `rust/kernel/print.rs`, which logs every line.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::bindings as extra;

/// Returns whether such a line may be logged now: not if there were many in the last seconds.
pub(crate) fn may_log() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { extra::uxive_may_log() }
}
