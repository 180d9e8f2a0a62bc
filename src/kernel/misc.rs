// SPDX-License-Identifier: GPL-2.0

//! Miscellaneous character devices with [`NodeOperations`].
//!
//! Would go to `rust/kernel/miscdevice.rs`, whose options have a name only: no path and mode of the
//! node, no attributes, and no data of the device.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::{
    attribute::{
        Attribute,
        AttributeGroups,
        Registration, //
    },
    fault::injectable,
    file::{
        FileTable,
        NodeOperations, //
    },
    mapping::FileMapping, //
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
    types::Opaque, //
};

/// How a misc device appears in `/dev`.
#[derive(Clone, Copy)]
pub(crate) struct MiscOptions {
    /// The name of the device in sysfs.
    pub(crate) name: &'static CStr,
    /// The path of the node below `/dev`.
    pub(crate) nodename: &'static CStr,
    /// The permission bits of the node.
    pub(crate) mode: u16,
}

/// A registered misc device.
///
/// # Invariants
///
/// `misc` is registered with `misc_register`, and its operations are those of `T`. Its attributes are
/// those of `groups`, each an [`Attribute`] of `Self`.
#[pin_data(PinnedDrop)]
pub(crate) struct MiscRegistration<T: NodeOperations> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    #[pin]
    groups: AttributeGroups,
    device: T::Device,
}

// SAFETY: A misc device may be deregistered by another thread than the one that registered it. The
// attributes live for ever.
unsafe impl<T: NodeOperations> Send for MiscRegistration<T> {}

// SAFETY: A shared reference gives access to `device` only, which is `Sync`.
unsafe impl<T: NodeOperations> Sync for MiscRegistration<T> {}

impl<T: NodeOperations> MiscRegistration<T> {
    const FILE_OPERATIONS: bindings::file_operations = FileTable::<T>::build(Some(Self::open));

    /// Registers a misc device. Each open of it, and each of its `attributes`, is given `device`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if no minor number is left, `ENOMEM` if there is no memory.
    pub(crate) fn new(
        options: MiscOptions,
        attributes: &'static [Attribute<T>],
        device: T::Device,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            device,
            groups <- AttributeGroups::new(attributes, core::ptr::null()),
            _: {
                // Or the first open would. Root is held to no limit of files.
                FileMapping::prepare().or(Err(ENOMEM))?;
            },
            // Last, for the device may be opened before the registration returns.
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let mut misc: bindings::miscdevice = pin_init::zeroed();
                misc.minor = bindings::MISC_DYNAMIC_MINOR as ffi::c_int;
                misc.name = options.name.as_char_ptr();
                misc.nodename = options.nodename.as_char_ptr();
                misc.mode = options.mode;
                misc.fops = &Self::FILE_OPERATIONS;
                // SAFETY: The field was initialized above.
                misc.groups = unsafe { (*this.as_ptr()).groups.as_raw() };

                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(misc) };
                injectable!(
                    uxive_register_misc,
                    EBUSY,
                    // SAFETY: `slot` was initialized above. It is pinned, as are the groups that it
                    // refers to, and deregistered before they go.
                    to_result(unsafe { bindings::misc_register(slot) })
                )
            }),
        })
    }

    pub(crate) fn device(&self) -> &T::Device {
        &self.device
    }

    /// Returns the device of the registration around `misc`.
    ///
    /// # Safety
    ///
    /// `misc` must be registered by [`Self::new`] and not be deregistered during `'a`.
    unsafe fn registered<'a>(misc: *mut bindings::miscdevice) -> &'a T::Device {
        // SAFETY: By the contract of this function. `device` is initialized before `misc` is
        // registered; the fields after it may not be yet.
        unsafe { &(*container_of!(Opaque::cast_from(misc), Self, misc)).device }
    }

    /// # Safety
    ///
    /// To be called by `misc_open` for a device that was registered by [`Self::new`].
    unsafe extern "C" fn open(
        _inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        // SAFETY: `misc_open` stored the registered `struct miscdevice` there, and holds the lock
        // that deregistering takes, so the registration around it does not go meanwhile.
        let device = unsafe { Self::registered((*file).private_data.cast()) };

        from_result(|| {
            // SAFETY: This is the `open` callback of the table, with the file being opened.
            unsafe { FileTable::<T>::open(device, file) }.map(|()| 0)
        })
    }
}

impl<T: NodeOperations> Registration<T> for MiscRegistration<T> {
    unsafe fn device_of<'a>(dev: *mut bindings::device) -> &'a T::Device {
        // SAFETY: The data of the device of a `struct miscdevice` is that, and it is registered by
        // the contract of this function.
        unsafe { Self::registered(bindings::dev_get_drvdata(dev).cast()) }
    }
}

#[pinned_drop]
impl<T: NodeOperations> PinnedDrop for MiscRegistration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The device is registered by the type invariants.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
