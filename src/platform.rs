// SPDX-License-Identifier: GPL-2.0

//! What the driver asks of the machine: OPAL's interrupt numbers and XIVE's trigger pages.
//!
//! The one place that names OPAL, XIVE and powernv. An interrupt of the machine is a LISN (logical
//! interrupt source number). It has an ESB (event state buffer) of two bits, P (pending) and Q
//! (queued), behind two pages of 64 KiB: the trigger page, where an 8-byte store raises the
//! interrupt, and the management page, where P and Q are read, set and EOIed. Only the first may
//! reach a program.
//!
//! C header: `arch/powerpc/include/asm/xive.h`

use crate::kernel_ext::{
    bindings as extra,
    irq::{
        IrqHandler,
        IrqMapping, //
    },
    mapping::DevicePage, //
};
use kernel::{
    bindings,
    irq::Handler,
    page::PAGE_SIZE,
    prelude::*, //
};

/// What OPAL calls the interrupt controller in the device tree. The kernel's own driver matches it
/// too, in `arch/powerpc/sysdev/xive/native.c`.
const OPAL_XIVE_COMPATIBLE: &CStr = c"ibm,opal-xive-pe";

/// Checks that the kernel drives XIVE through OPAL.
///
/// # Errors
///
/// `ENODEV` under a hypervisor, on POWER8, and when booted with `xive=off`.
pub(crate) fn probe() -> Result {
    // SAFETY: The variable is set at boot and not changed later.
    if !unsafe { extra::__xive_enabled } {
        return Err(ENODEV);
    }

    // `__xive_enabled` is set in pseries guests too, where there is no OPAL to ask.
    //
    // SAFETY: Null pointers mean the whole tree and any type. The string is NUL-terminated.
    let node = unsafe {
        bindings::of_find_compatible_node(
            core::ptr::null_mut(),
            core::ptr::null(),
            OPAL_XIVE_COMPATIBLE.as_char_ptr(),
        )
    };
    // SAFETY: The node is null, which is allowed, or the search took a reference to it.
    unsafe { extra::uxive_of_node_put(node) };

    if node.is_null() {
        Err(ENODEV)
    } else {
        Ok(())
    }
}

/// A LISN that OPAL gave to this driver.
///
/// # Invariants
///
/// OPAL has allocated the LISN to us, and nothing else refers to it.
struct Lisn(u32);

impl Lisn {
    /// Allocates a LISN of any chip.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the machine has none left.
    fn new() -> Result<Self> {
        // SAFETY: `probe` has shown that OPAL and XIVE are there, else the module does not load.
        let lisn = unsafe { extra::xive_native_alloc_irq_on_chip(extra::OPAL_XIVE_ANY_CHIP) };

        // Every failure is reported as 0.
        if lisn == 0 {
            return Err(ENOSPC);
        }

        // INVARIANT: OPAL gave it to us just now.
        Ok(Self(lisn))
    }
}

impl Drop for Lisn {
    fn drop(&mut self) {
        // SAFETY: It is ours by the type invariants.
        unsafe { extra::xive_native_free_irq(self.0) };
    }
}

/// An interrupt source with a handler.
///
/// Dropping it frees the handler, the Linux interrupt and the LISN, in this order. May sleep.
///
/// # Invariants
///
/// `trig_page` is the address of the trigger page of `lisn`, which is not the management page.
pub(crate) struct Interrupt<H: Handler> {
    irq: Pin<KBox<IrqHandler<H>>>,
    lisn: Lisn,
    trig_page: u64,
}

impl<H: Handler> Interrupt<H> {
    /// Allocates an interrupt and has `handler` called, in hard interrupt context, when it fires.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the machine has no LISN left.
    /// - `ENOMEM`: no memory.
    /// - `EIO`: firmware reports no trigger page, or one that is the management page as well and
    ///   so is not for users.
    /// - Whatever `request_irq` returns.
    pub(crate) fn new<'a>(handler: impl PinInit<H, Error> + 'a) -> Result<Self>
    where
        H: 'a,
    {
        let lisn = Lisn::new()?;

        // SAFETY: The LISN is ours and new, and is freed after the mapping: it is dropped later
        // both here, as it was made earlier, and in `Self`, by the order of the fields.
        let mapping = unsafe { IrqMapping::new(lisn.0) }?;
        let irq = IrqHandler::request(mapping, c"uxive", handler)?;

        // SAFETY: The LISN was mapped in the default domain, which is XIVE's when XIVE is enabled.
        // It keeps a `xive_irq_data` as chip data until the mapping is disposed of.
        let (trig_page, eoi_page) = unsafe {
            let data = irq.chip_data().cast::<extra::xive_irq_data>();
            ((*data).trig_page, (*data).eoi_page)
        };
        if trig_page == 0 || trig_page == eoi_page || trig_page % PAGE_SIZE as u64 != 0 {
            return Err(EIO);
        }

        // INVARIANT: Checked above.
        Ok(Self {
            irq,
            lisn,
            trig_page,
        })
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.lisn.0
    }

    /// Returns the handler.
    pub(crate) fn handler(&self) -> &H {
        self.irq.handler()
    }
}

// SAFETY: By the type invariants the address is that of a trigger page, which is device memory and
// serves nothing but our LISN until that is freed, when the object is dropped.
unsafe impl<H: Handler> DevicePage for Interrupt<H> {
    fn phys(&self) -> u64 {
        self.trig_page
    }
}
