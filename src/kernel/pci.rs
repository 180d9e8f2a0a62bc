// SPDX-License-Identifier: GPL-2.0

//! PCI functions that are enabled as long as they have a driver.
//!
//! `kernel::pci` enables a function and makes it a bus master, and undoes neither.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use core::ptr::from_ref;
use kernel::{
    bindings,
    device::Core,
    pci,
    prelude::*, //
};

/// A function whose memory is enabled.
///
/// When dropped the function is enabled no more, unless others have enabled it too, and can be no bus
/// master.
pub(crate) struct EnabledFunction<'a>(&'a pci::Device);

impl<'a> EnabledFunction<'a> {
    /// Enables the memory of `function`, which is being bound.
    ///
    /// # Errors
    ///
    /// Those of `pci_enable_device_mem`: `EINVAL` or `EIO` if it cannot be.
    pub(crate) fn new(function: &'a pci::Device<Core<'_>>) -> Result<Self> {
        function.enable_device_mem()?;
        Ok(Self(function))
    }
}

impl Drop for EnabledFunction<'_> {
    fn drop(&mut self) {
        let function: *const bindings::pci_dev = from_ref(self.0).cast();

        // SAFETY: A `pci::Device` is a transparent wrapper of a valid `struct pci_dev`, which may be
        // changed through a shared reference. It was enabled when the object was made.
        unsafe {
            bindings::pci_clear_master(function.cast_mut());
            bindings::pci_disable_device(function.cast_mut());
        }
    }
}
