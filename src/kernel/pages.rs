// SPDX-License-Identifier: GPL-2.0

//! Physically contiguous memory that a device writes, and how much memory there is.
//!
//! Would go to `rust/kernel/page.rs`, whose `Page` is a single page and does not tell its address.
//!
//! C headers: [`include/linux/gfp.h`](srctree/include/linux/gfp.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{
    bindings as extra,
    fault::injectable, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::AllocError,
    bindings,
    ffi,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// Returns how much memory the kernel has, in bytes.
pub(crate) fn total_ram() -> usize {
    // SAFETY: The function has no requirements.
    unsafe { extra::uxive_totalram_pages() }.saturating_mul(PAGE_SIZE)
}

/// Contiguous pages, zeroed when allocated, aligned to their size.
///
/// # Invariants
///
/// `address` is that of `1 << page_order` pages in the kernel's linear mapping, which this object
/// owns.
pub(crate) struct ContiguousPages {
    address: NonNull<u8>,
    page_order: u32,
}

// SAFETY: Pages are not bound to a thread.
unsafe impl Send for ContiguousPages {}

// SAFETY: A shared reference gives away addresses only.
unsafe impl Sync for ContiguousPages {}

impl ContiguousPages {
    /// Allocates `1 << order` bytes, or a page if that is more. Charged to the caller's memcg. Of so much
    /// in one piece there may be none: that is no matter for the log.
    pub(crate) fn new(order: u32) -> Result<Self, AllocError> {
        let page_order = order.saturating_sub(PAGE_SHIFT as u32);

        let address = injectable!(uxive_alloc_pages, AllocError, {
            // SAFETY: With flags that may sleep, as `new` may, there are no requirements.
            let address = unsafe {
                bindings::get_free_pages_noprof(
                    bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_NOWARN | bindings::__GFP_ZERO,
                    page_order,
                )
            };
            NonNull::new(address as *mut u8).ok_or(AllocError)
        })?;

        // INVARIANT: The pages were allocated just now.
        Ok(Self {
            address,
            page_order,
        })
    }

    /// Returns the address of the memory in the kernel's linear mapping.
    pub(crate) fn as_ptr(&self) -> *mut ffi::c_void {
        self.address.as_ptr().cast()
    }

    /// Returns the physical address.
    pub(crate) fn phys(&self) -> u64 {
        // SAFETY: The address lies in the kernel's linear mapping.
        unsafe { extra::uxive_virt_to_phys(self.as_ptr()) }
    }
}

impl Drop for ContiguousPages {
    fn drop(&mut self) {
        // SAFETY: The pages are ours by the type invariants.
        unsafe { bindings::free_pages(self.address.as_ptr() as usize, self.page_order) };
    }
}
