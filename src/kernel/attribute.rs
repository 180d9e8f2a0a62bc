// SPDX-License-Identifier: GPL-2.0

//! Numbers of a misc device in sysfs.
//!
//! C headers: [`include/linux/device.h`](srctree/include/linux/device.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{
    file::FileOperations,
    misc::MiscRegistration, //
};
use kernel::{
    bindings,
    container_of,
    error::{
        from_result,
        to_result, //
    },
    ffi,
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

/// An attribute of a misc device with the operations `T`: a file with a number, in decimal.
///
/// # Invariants
///
/// The callbacks of `raw` are those of this type.
pub(crate) struct Attribute<T: FileOperations> {
    raw: bindings::device_attribute,
    show: fn(&T::Device) -> usize,
    store: Option<fn(&T::Device, u64) -> Result>,
}

// SAFETY: A shared reference allows to read function pointers and an address.
unsafe impl<T: FileOperations> Sync for Attribute<T> {}

impl<T: FileOperations> Attribute<T> {
    /// Makes an attribute that everybody may read.
    pub(crate) const fn read_only(name: &'static CStr, show: fn(&T::Device) -> usize) -> Self {
        Self::new(name, 0o444, show, None)
    }

    /// Makes an attribute that everybody may read and root may write: `store` is given the number
    /// and may refuse it.
    pub(crate) const fn writable(
        name: &'static CStr,
        show: fn(&T::Device) -> usize,
        store: fn(&T::Device, u64) -> Result,
    ) -> Self {
        Self::new(name, 0o644, show, Some(store))
    }

    const fn new(
        name: &'static CStr,
        mode: bindings::umode_t,
        show: fn(&T::Device) -> usize,
        store: Option<fn(&T::Device, u64) -> Result>,
    ) -> Self {
        let mut raw: bindings::device_attribute = pin_init::zeroed();

        raw.attr.name = as_char_ptr_in_const_context(name);
        raw.attr.mode = mode;
        raw.__bindgen_anon_1.show = Some(Self::show);
        raw.__bindgen_anon_2.store = Some(Self::store);

        // INVARIANT: Set above.
        Self { raw, show, store }
    }

    /// Returns what sysfs is told of the attribute.
    pub(super) fn as_raw(&'static self) -> *const bindings::attribute {
        &raw const self.raw.attr
    }

    /// # Safety
    ///
    /// To be called as a callback of an [`Attribute`] of the device of a [`MiscRegistration`] of the
    /// same `T`, which lives for `'a`.
    unsafe fn resolve<'a>(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
    ) -> (&'a Self, &'a T::Device) {
        // SAFETY: `attr` is the field of an `Attribute`. The data of the device of a
        // `struct miscdevice` is that, and it is registered.
        unsafe {
            (
                &*container_of!(attr, Self, raw),
                MiscRegistration::<T>::device_of(bindings::dev_get_drvdata(dev).cast()),
            )
        }
    }

    /// # Safety
    ///
    /// As for [`Self::resolve`]; `buf` is the page that sysfs provides.
    unsafe extern "C" fn show(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
        buf: *mut ffi::c_char,
    ) -> isize {
        // SAFETY: By the contract of this function. Removing the attribute waits for this callback.
        let (this, device) = unsafe { Self::resolve(dev, attr) };
        let number = (this.show)(device);

        // SAFETY: `buf` is a page, and the format fits what follows.
        unsafe { bindings::sysfs_emit(buf, c"%lu\n".as_char_ptr(), number) as isize }
    }

    /// # Safety
    ///
    /// As for [`Self::resolve`]; `buf` holds `count` bytes and a NUL.
    unsafe extern "C" fn store(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
        buf: *const ffi::c_char,
        count: usize,
    ) -> isize {
        // SAFETY: As for `show`.
        let (this, device) = unsafe { Self::resolve(dev, attr) };

        from_result(|| {
            let mut number = 0;
            // SAFETY: `buf` is NUL-terminated.
            to_result(unsafe { bindings::kstrtoull(buf, 0, &mut number) })?;
            this.store.ok_or(EIO)?(device, number)?;
            Ok(count as isize)
        })
    }
}
