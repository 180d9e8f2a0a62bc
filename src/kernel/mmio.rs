// SPDX-License-Identifier: GPL-2.0

//! Loads from devices of 8 bytes in big-endian order.
//!
//! Would go to `rust/kernel/io.rs`. The crate's `readq()` is for little-endian devices, and all ones
//! have it ask EEH.
//!
//! C header: [`arch/powerpc/include/asm/io.h`](srctree/arch/powerpc/include/asm/io.h)

use core::arch::asm;
use kernel::ffi;

/// Loads from a device, as `in_be64()` does: after all accesses before it, and nothing after it starts
/// before it is complete.
///
/// # Safety
///
/// `addr` must be aligned to 8 bytes, and 8 bytes of a device be mapped there.
#[inline(always)]
pub(crate) unsafe fn in_be64(addr: *const ffi::c_void) -> u64 {
    let value: u64;

    // SAFETY: The caller vouches for the address. The trap never comes, and is there for `isync`, which
    // waits for it, and so for the value. Nothing else is changed. As the default is, the compiler takes
    // it for an access to any memory.
    unsafe {
        asm!(
            "sync",
            "ld {value}, 0({addr})",
            "twi 0, {value}, 0",
            "isync",
            addr = in(reg_nonzero) addr,
            value = lateout(reg) value,
            options(nostack, preserves_flags),
        );
    }
    u64::from_be(value)
}
