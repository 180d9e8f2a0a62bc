// SPDX-License-Identifier: GPL-2.0

//! Being told that the machine is about to go down, or to be started anew.
//!
//! `kernel::pci::Driver` has no `shutdown`. This comes a little earlier, before any device is shut
//! down.
//!
//! C header: [`include/linux/reboot.h`](srctree/include/linux/reboot.h)

use super::{
    bindings as extra,
    fault::may_fail, //
};
use kernel::{
    bindings,
    container_of,
    error::to_result,
    ffi,
    prelude::*,
    types::Opaque, //
};

/// Something that wants to know when the machine is about to go down.
///
/// Refers to nothing that may go before it: a [`RebootNotifier`] can be forgotten.
pub(crate) trait OnReboot: Send + Sync + 'static {
    /// Called while processes and all other CPUs still run: as a rule once, but hibernation, say, halts
    /// a machine that it could not switch off. May sleep.
    fn reboot(&self);
}

/// An object that is told, until it is dropped.
///
/// # Invariants
///
/// `block` is registered with [`Self::callback`].
#[pin_data(PinnedDrop)]
pub(crate) struct RebootNotifier<T: OnReboot> {
    object: T,
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: A notifier is not bound to a thread, and `T` is `Send`.
unsafe impl<T: OnReboot> Send for RebootNotifier<T> {}

// SAFETY: A shared reference gives access to nothing; the callback to `object`, which is `Sync`.
unsafe impl<T: OnReboot> Sync for RebootNotifier<T> {}

impl<T: OnReboot> RebootNotifier<T> {
    /// Has `object` told.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(object: T) -> Result<Pin<KBox<Self>>> {
        may_fail(ENOMEM)?;
        KBox::try_pin_init(
            try_pin_init!(Self {
                object,
                block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                    let mut block: bindings::notifier_block = pin_init::zeroed();
                    block.notifier_call = Some(Self::callback);
                    // INVARIANT: Registered here. `object` was initialized above.
                    //
                    // SAFETY: `slot` is valid for writes and pinned, and unregistered before it goes.
                    to_result(unsafe {
                        slot.write(block);
                        extra::register_reboot_notifier(slot)
                    })
                }),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// # Safety
    ///
    /// To be called only with the block of a `RebootNotifier`.
    unsafe extern "C" fn callback(
        block: *mut bindings::notifier_block,
        _action: ffi::c_ulong,
        _command: *mut ffi::c_void,
    ) -> ffi::c_int {
        // SAFETY: The block is that of a field of the object, which unregisters it before it goes.
        let this = unsafe { &*container_of!(Opaque::cast_from(block), Self, block) };

        this.object.reboot();
        bindings::NOTIFY_DONE as ffi::c_int
    }
}

#[pinned_drop]
impl<T: OnReboot> PinnedDrop for RebootNotifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // Waits for a callback that is running.
        //
        // SAFETY: Registered by the type invariants.
        unsafe { extra::unregister_reboot_notifier(self.block.get()) };
    }
}
