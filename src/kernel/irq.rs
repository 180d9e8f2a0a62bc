// SPDX-License-Identifier: GPL-2.0

//! Linux interrupts for hardware interrupt numbers that belong to no device.
//!
//! `kernel::irq::Registration` serves interrupts that a bound device has; these are made from a
//! number that the platform handed out.
//!
//! C headers: [`include/linux/irqdomain.h`](srctree/include/linux/irqdomain.h),
//! [`include/linux/interrupt.h`](srctree/include/linux/interrupt.h)

use core::marker::PhantomPinned;
use kernel::{
    bindings,
    error::to_result,
    ffi,
    irq::Handler,
    prelude::*, //
};

/// The Linux interrupt of a hardware interrupt of the default domain.
///
/// # Invariants
///
/// `virq` is the mapping of a hardware interrupt, made by this object, and is not used by another.
pub(crate) struct IrqMapping {
    virq: u32,
}

impl IrqMapping {
    /// Makes the Linux interrupt of the hardware interrupt `hwirq`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: the C side says only that it failed, and memory is all that can be lacking.
    ///
    /// # Safety
    ///
    /// The caller must own `hwirq`, keep it until the object is dropped, and have no other mapping
    /// of it.
    pub(crate) unsafe fn new(hwirq: u32) -> Result<Self> {
        // SAFETY: A null domain is the default one, a null affinity is none. The caller owns
        // `hwirq`.
        let virq = unsafe {
            bindings::irq_create_mapping_affinity(
                core::ptr::null_mut(),
                hwirq as bindings::irq_hw_number_t,
                core::ptr::null(),
            )
        };
        if virq == 0 {
            return Err(ENOMEM);
        }

        // INVARIANT: The mapping was made just now, and the caller has no other.
        Ok(Self { virq })
    }

    /// Returns what the interrupt controller keeps for the interrupt, valid as long as `self`.
    pub(crate) fn chip_data(&self) -> *mut ffi::c_void {
        // SAFETY: The interrupt exists, so it has an `irq_data`.
        unsafe { (*bindings::irq_get_irq_data(self.virq)).chip_data }
    }
}

impl Drop for IrqMapping {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours by the type invariants.
        unsafe { bindings::irq_dispose_mapping(self.virq) };
    }
}

/// A handler that is called when the interrupt of an [`IrqMapping`] fires.
///
/// Freed when dropped: the handler is not running then and will not be called again. May sleep.
///
/// # Invariants
///
/// `handle::<H>` is registered for `mapping` with the address of this object.
#[pin_data(PinnedDrop)]
pub(crate) struct IrqHandler<H: Handler> {
    #[pin]
    handler: H,
    // Dropped after `PinnedDrop::drop` has freed the handler.
    mapping: IrqMapping,
    #[pin]
    _pin: PhantomPinned,
}

impl<H: Handler> IrqHandler<H> {
    /// Has `handler` called when `mapping` fires; `name` appears in `/proc/interrupts`.
    pub(crate) fn request<'a>(
        mapping: IrqMapping,
        name: &'static CStr,
        handler: impl PinInit<H, Error> + 'a,
    ) -> Result<Pin<KBox<Self>>>
    where
        H: 'a,
    {
        KBox::pin_init(
            try_pin_init!(&this in Self {
                handler <- handler,
                mapping,
                _pin: PhantomPinned,
                _: {
                    // SAFETY: The callback matches the cookie, which is pinned and lives until the
                    // handler is freed. All fields are initialized, so it may be called at once.
                    to_result(unsafe {
                        bindings::request_threaded_irq(
                            mapping.virq,
                            Some(Self::handle),
                            None,
                            0,
                            name.as_char_ptr(),
                            this.as_ptr().cast(),
                        )
                    })?;
                },
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the handler.
    pub(crate) fn handler(&self) -> &H {
        &self.handler
    }

    /// Returns what the interrupt controller keeps for the interrupt, valid as long as `self`.
    pub(crate) fn chip_data(&self) -> *mut ffi::c_void {
        self.mapping.chip_data()
    }

    /// # Safety
    ///
    /// To be called only with the cookie with which [`Self::request`] registered it.
    unsafe extern "C" fn handle(
        _irq: ffi::c_int,
        cookie: *mut ffi::c_void,
    ) -> bindings::irqreturn_t {
        // SAFETY: The cookie is the object, which lives until the handler is freed.
        let this = unsafe { &*cookie.cast::<Self>() };

        bindings::irqreturn_t(this.handler.handle() as ffi::c_uint)
    }
}

#[pinned_drop]
impl<H: Handler> PinnedDrop for IrqHandler<H> {
    fn drop(self: Pin<&mut Self>) {
        let virq = self.mapping.virq;
        // SAFETY: Registered with this cookie by the type invariants. The object is not moved.
        unsafe {
            let cookie = core::ptr::from_mut(self.get_unchecked_mut());
            bindings::free_irq(virq, cookie.cast());
        }
    }
}
