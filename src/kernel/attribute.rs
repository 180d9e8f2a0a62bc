// SPDX-License-Identifier: GPL-2.0

//! Attributes of a device in sysfs: numbers and lines of text.
//!
//! Would go to `rust/kernel/device/attribute.rs`. The crate has no attributes of devices.
//!
//! C headers: [`include/linux/device.h`](srctree/include/linux/device.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{
    file::NodeOperations,
    misc::MiscRegistration, //
};
use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    ptr::from_ref, //
};
use kernel::{
    bindings,
    container_of,
    error::{
        from_result,
        to_result, //
    },
    ffi,
    fmt,
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

/// How a device with the operations `T` is registered.
pub(crate) trait Registration<T: NodeOperations> {
    /// Returns the device behind `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must be registered in this way, for `T`, and stay so during `'a`.
    unsafe fn device_of<'a>(dev: *mut bindings::device) -> &'a T::Device;
}

/// An attribute of a device with the operations `T`, registered as an `R`: a file with a number, in
/// decimal, or with a line of text.
///
/// # Invariants
///
/// The callbacks of `raw` are those of this type.
pub(crate) struct Attribute<T: NodeOperations, R = MiscRegistration<T>> {
    raw: bindings::device_attribute,
    show: Show<T::Device>,
    store: Option<fn(&T::Device, u64) -> Result>,
    _registration: PhantomData<fn() -> R>,
}

/// The function that makes the content of an attribute.
enum Show<D> {
    Number(fn(&D) -> usize),
    Text(fn(&D, &mut fmt::Formatter<'_>) -> fmt::Result),
}

// SAFETY: A shared reference allows to read function pointers and an address.
unsafe impl<T: NodeOperations, R> Sync for Attribute<T, R> {}

impl<T: NodeOperations, R: Registration<T>> Attribute<T, R> {
    /// Makes an attribute that everybody may read.
    pub(crate) const fn read_only(name: &'static CStr, show: fn(&T::Device) -> usize) -> Self {
        Self::new(name, 0o444, Show::Number(show), None)
    }

    /// Makes an attribute that everybody may read: the line that `show` writes, without its end, of
    /// fewer bytes than a page.
    pub(crate) const fn text(
        name: &'static CStr,
        show: fn(&T::Device, &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> Self {
        Self::new(name, 0o444, Show::Text(show), None)
    }

    /// Makes an attribute that everybody may read and root may write: `store` is given the number
    /// and may refuse it.
    pub(crate) const fn writable(
        name: &'static CStr,
        show: fn(&T::Device) -> usize,
        store: fn(&T::Device, u64) -> Result,
    ) -> Self {
        Self::new(name, 0o644, Show::Number(show), Some(store))
    }

    const fn new(
        name: &'static CStr,
        mode: bindings::umode_t,
        show: Show<T::Device>,
        store: Option<fn(&T::Device, u64) -> Result>,
    ) -> Self {
        let mut raw: bindings::device_attribute = pin_init::zeroed();

        raw.attr.name = as_char_ptr_in_const_context(name);
        raw.attr.mode = mode;
        raw.__bindgen_anon_1.show = Some(Self::show);
        raw.__bindgen_anon_2.store = Some(Self::store);

        // INVARIANT: Set above.
        Self {
            raw,
            show,
            store,
            _registration: PhantomData,
        }
    }

    /// # Safety
    ///
    /// To be called as a callback of an [`Attribute`] of a device that is registered as an `R` of
    /// the same `T`, and stays so during `'a`.
    unsafe fn resolve<'a>(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
    ) -> (&'a Self, &'a T::Device) {
        // SAFETY: `attr` is the field of an `Attribute`. The caller vouches for the device.
        unsafe { (&*container_of!(attr, Self, raw), R::device_of(dev)) }
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

        let count = match this.show {
            Show::Number(show) => {
                let number = show(device);

                // SAFETY: `buf` is a page, and the format fits what follows.
                unsafe { bindings::sysfs_emit(buf, c"%lu\n".as_char_ptr(), number) }
            }
            Show::Text(show) => {
                let text = Text { show, device };

                // SAFETY: As above; `%pA` is for a pointer to formatted arguments.
                unsafe {
                    bindings::sysfs_emit(
                        buf,
                        c"%pA\n".as_char_ptr(),
                        from_ref(&fmt!("{text}")).cast::<ffi::c_void>(),
                    )
                }
            }
        };
        count as isize
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

/// A device, and the function that writes an attribute of it.
struct Text<'a, D> {
    show: fn(&D, &mut fmt::Formatter<'_>) -> fmt::Result,
    device: &'a D,
}

impl<D> fmt::Display for Text<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.show)(self.device, f)
    }
}

/// The attributes of one device, as it is registered with them.
///
/// # Invariants
///
/// `list` ends with a null pointer, the only group of `groups` refers to it and to `files`, and that
/// ends with one too.
#[pin_data]
pub(super) struct AttributeGroups {
    list: KVec<*const bindings::attribute>,
    files: [*const bindings::bin_attribute; 2],
    group: bindings::attribute_group,
    groups: [*const bindings::attribute_group; 2],
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The pointers are handed to sysfs only; what they point to is not bound to a thread.
unsafe impl Send for AttributeGroups {}

// SAFETY: There is nothing to do with a shared reference but to read an address.
unsafe impl Sync for AttributeGroups {}

impl AttributeGroups {
    /// Lists `attributes` and `file`, which may be null.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(super) fn new<T: NodeOperations, R: Registration<T>>(
        attributes: &'static [Attribute<T, R>],
        file: *const bindings::bin_attribute,
    ) -> impl PinInit<Self, Error> {
        // INVARIANT: The fields are set so.
        try_pin_init!(&this in Self {
            list: {
                let mut list = KVec::with_capacity(attributes.len() + 1, GFP_KERNEL)?;
                for attribute in attributes {
                    list.push(&raw const attribute.raw.attr, GFP_KERNEL)?;
                }
                list.push(core::ptr::null(), GFP_KERNEL)?;
                list
            },
            files: [file, core::ptr::null()],
            group: {
                let mut group: bindings::attribute_group = pin_init::zeroed();
                group.__bindgen_anon_2.attrs_const = list.as_ptr();
                // SAFETY: The object is valid, if not initialized.
                group.bin_attrs = unsafe { (&raw const (*this.as_ptr()).files).cast() };
                group
            },
            // SAFETY: As above.
            groups: [unsafe { &raw const (*this.as_ptr()).group }, core::ptr::null()],
            _pin: PhantomPinned,
        }? Error)
    }

    /// Returns the groups, for the driver core. They are valid as long as `self`.
    pub(super) fn as_raw(&self) -> *mut *const bindings::attribute_group {
        self.groups.as_ptr().cast_mut()
    }
}
