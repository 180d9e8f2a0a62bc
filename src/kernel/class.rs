// SPDX-License-Identifier: GPL-2.0

//! A class of devices with character nodes, attributes, and memory of a PCI device to map.
//!
//! Would go to `rust/kernel/device/class.rs`. The crate has misc devices only: no classes, and no
//! `struct cdev`.
//!
//! A [`ClassDevice`] is the node in `/dev` and the directory in sysfs. It belongs to the driver,
//! and is removed at the latest when its parent is unbound. Behind it is a [`Node`], counted by its
//! `struct device`. The `struct cdev` in the node refers to that device, so an open file, and an
//! open under way, keep the node. An open holds the lock of `present`. Removing the node takes that
//! lock and clears `present`: it waits for opens under way, and later opens fail.
//!
//! C headers: [`include/linux/cdev.h`](srctree/include/linux/cdev.h),
//! [`include/linux/device/class.h`](srctree/include/linux/device/class.h)

use super::{
    attribute::{
        Attribute,
        AttributeGroups,
        Registration, //
    },
    bar::{
        BarFile,
        UserBar, //
    },
    bindings as extra,
    fault::injectable,
    file::{
        FileTable,
        NodeOperations, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Range,
    ptr::{
        from_ref,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    container_of,
    device::Bound,
    devres::Devres,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    ffi,
    id_pool::IdPool,
    module::this_module,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    types::Opaque, //
};

/// Properties of a class of devices.
#[derive(Clone, Copy)]
pub(crate) struct ClassOptions {
    /// Its name, which is that of the directory of its nodes, too.
    pub(crate) name: &'static CStr,
    /// The permission bits of its nodes, as long as udev has no other rule.
    pub(crate) mode: u16,
    /// How many devices it can have.
    pub(crate) max_devices: u32,
}

/// A device class whose nodes, `/dev/<class>/<device>`, have the operations `T`.
///
/// It is there until it is dropped and none of its devices is left.
pub(crate) struct Class<T: NodeOperations> {
    shared: Arc<SharedClass>,
    _t: PhantomData<fn() -> T>,
}

#[pin_data]
struct SharedClass {
    /// None of its devices is left when it goes: each keeps this object.
    class: RegisteredClass,
    mode: u16,
    numbers: DeviceNumbers,
    /// The minors in use, counted from the first of `numbers`. Innermost.
    #[pin]
    minors: Mutex<IdPool>,
}

/// A class of the driver core. Not to be dropped before its devices are removed.
///
/// # Invariants
///
/// It is registered.
struct RegisteredClass(NonNull<bindings::class>);

// SAFETY: A class is not bound to a thread.
unsafe impl Send for RegisteredClass {}

// SAFETY: A shared reference allows to register devices, which the C side synchronizes.
unsafe impl Sync for RegisteredClass {}

impl RegisteredClass {
    fn new<T: NodeOperations>(name: &'static CStr) -> Result<Self> {
        // If another module registers the class after this check, `class_create()` fails too, but
        // warns.
        //
        // SAFETY: The name is NUL-terminated.
        if unsafe { extra::uxive_class_exists(name.as_char_ptr()) } {
            return Err(EBUSY);
        }

        let class = injectable!(
            uxive_create_class,
            ENOMEM,
            // SAFETY: The name is NUL-terminated and static.
            from_err_ptr(unsafe { bindings::class_create(name.as_char_ptr()) })
        )?;
        // SAFETY: The class was created just now. It has no devices yet, so that nobody asks for a
        // node, and will have those of a `Node<T>` only.
        let class = unsafe {
            (*class).devnode = Some(Node::<T>::devnode);
            NonNull::new_unchecked(class)
        };
        // INVARIANT: Done above.
        Ok(Self(class))
    }
}

impl Drop for RegisteredClass {
    fn drop(&mut self) {
        // SAFETY: It is registered by the type invariants.
        unsafe { bindings::class_destroy(self.0.as_ptr()) };
    }
}

/// The numbers of some character devices.
///
/// # Invariants
///
/// They are allocated, `count` from `first` on.
struct DeviceNumbers {
    first: bindings::dev_t,
    count: u32,
}

impl DeviceNumbers {
    fn new(name: &'static CStr, count: u32) -> Result<Self> {
        let mut first = 0;

        injectable!(
            uxive_alloc_chrdevs,
            EBUSY,
            // SAFETY: `first` is valid for writes, and the name is NUL-terminated and static.
            to_result(unsafe {
                bindings::alloc_chrdev_region(&mut first, 0, count, name.as_char_ptr())
            })
        )?;
        // INVARIANT: They were allocated above.
        Ok(Self { first, count })
    }
}

impl Drop for DeviceNumbers {
    fn drop(&mut self) {
        // SAFETY: They are ours by the type invariants.
        unsafe { bindings::unregister_chrdev_region(self.first, self.count) };
    }
}

impl<T: NodeOperations> Class<T> {
    /// Registers a class, without devices.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one of that name, or no major number is left; `ENOMEM` if there is no
    /// memory.
    pub(crate) fn new(options: ClassOptions) -> Result<Self> {
        let ClassOptions {
            name,
            mode,
            max_devices,
        } = options;
        let minors = IdPool::with_capacity(max_devices as usize, GFP_KERNEL)?;
        let shared = Arc::pin_init(
            try_pin_init!(SharedClass {
                class: RegisteredClass::new::<T>(name)?,
                mode,
                numbers: DeviceNumbers::new(name, max_devices)?,
                minors <- new_mutex!(minors, "class_minors"),
            }? Error),
            GFP_KERNEL,
        )?;
        Ok(Self {
            shared,
            _t: PhantomData,
        })
    }
}

/// The minor number of a device.
struct Minor {
    class: Arc<SharedClass>,
    index: usize,
}

impl Minor {
    fn new(class: Arc<SharedClass>) -> Result<Self> {
        let mut minors = class.minors.lock();
        let unused = minors.find_unused_id(0).ok_or(ENOSPC)?;
        // The pool has more where there are few: as many as need no memory.
        if unused.as_usize() >= class.numbers.count as usize {
            return Err(ENOSPC);
        }
        let index = unused.acquire();
        drop(minors);

        Ok(Self { class, index })
    }

    /// Returns the number of the device.
    fn number(&self) -> bindings::dev_t {
        // Does not overflow: the minors follow each other from the first on.
        self.class.numbers.first + self.index as bindings::dev_t
    }
}

impl Drop for Minor {
    fn drop(&mut self) {
        self.class.minors.lock().release_id(self.index);
    }
}

/// How a [`ClassDevice`] appears in `/dev` and in sysfs.
pub(crate) struct ClassDeviceOptions<'a, T: NodeOperations> {
    /// The name of the device and of its node: letters, digits and `_,-.:`.
    pub(crate) name: &'a CStr,
    /// Its attributes.
    pub(crate) attributes: &'static [Attribute<T, ClassDevice<T>>],
    /// The name of the file beside the attributes by which programs map memory of the parent.
    pub(crate) area: &'static CStr,
    /// The BAR, of the parent, which has that memory.
    pub(crate) bar: &'a UserBar,
    /// Which part of the BAR it is, in bytes, whole pages. It may be empty.
    pub(crate) part: Range<u64>,
}

/// The object behind a [`ClassDevice`].
///
/// # Invariants
///
/// `dev` is initialized and counts the references to the object, which [`Self::release`] frees.
/// `cdev` is initialized, and keeps `dev` from the time on when it is added.
#[pin_data]
struct Node<T: NodeOperations> {
    #[pin]
    dev: Opaque<bindings::device>,
    #[pin]
    cdev: Opaque<bindings::cdev>,
    #[pin]
    groups: AttributeGroups,
    #[pin]
    area: BarFile,
    /// Whether the node is registered. Held while that changes, and while the node is opened. An
    /// open takes it before any other lock.
    #[pin]
    present: Mutex<bool>,
    /// Whether the file of `area` is there, while the node is registered. Held while that changes.
    #[pin]
    has_area: Mutex<bool>,
    minor: Minor,
    device: T::Device,
}

impl<T: NodeOperations> Node<T> {
    const FILE_OPERATIONS: bindings::file_operations = FileTable::<T>::build(Some(Self::open));

    /// Makes a node that is not registered yet.
    ///
    /// # Safety
    ///
    /// It must be registered while `parent` is bound only.
    unsafe fn create(
        class: &Class<T>,
        parent: &pci::Device<Bound>,
        options: &ClassDeviceOptions<'_, T>,
        device: T::Device,
    ) -> Result<NodeRef<T>> {
        let minor = Minor::new(class.shared.clone())?;
        let number = minor.number();
        // SAFETY: The file comes and goes with the registration.
        let area = unsafe { BarFile::new(parent, options.area, options.bar, &options.part) }?;
        let attributes = options.attributes;
        let parent: &kernel::device::Device<Bound> = parent.as_ref();
        let parent: *const bindings::device = from_ref(parent).cast();

        let node = KBox::pin_init(
            try_pin_init!(&this in Self {
                device,
                minor,
                present <- new_mutex!(false, "class_device"),
                has_area <- new_mutex!(true, "class_device_area"),
                area <- area,
                // SAFETY: The field was initialized above.
                groups <- AttributeGroups::new(attributes, unsafe { (*this.as_ptr()).area.as_raw() }),
                cdev <- Opaque::ffi_init(|slot: *mut bindings::cdev| {
                    // SAFETY: `slot` is valid for writes, and stays where it is.
                    unsafe {
                        bindings::cdev_init(slot, &Self::FILE_OPERATIONS);
                        (*slot).owner = this_module::<T::OwnerModule>().as_ptr();
                    }
                }),
                // Last: from here on only `release` frees the object.
                dev <- Opaque::ffi_init(|slot: *mut bindings::device| {
                    let mut dev: bindings::device = pin_init::zeroed();
                    // SAFETY: `slot` is valid for writes, and stays where it is. The other fields
                    // were initialized above. A `device::Device` is a transparent wrapper of a
                    // `struct device`, which takes a reference to its parent when it is added.
                    unsafe {
                        dev.parent = parent.cast_mut();
                        dev.class = class.shared.class.0.as_ptr();
                        dev.devt = number;
                        dev.groups = (*this.as_ptr()).groups.as_raw();
                        dev.release = Some(Self::release);
                        slot.write(dev);
                        bindings::device_initialize(slot);
                    }
                }),
            }? Error),
            GFP_KERNEL,
        )?;

        // SAFETY: The object is not moved: nobody but `release` has it again.
        let node = KBox::into_raw(unsafe { Pin::into_inner_unchecked(node) });
        // INVARIANT: Initializing `dev` gave the reference.
        //
        // SAFETY: A box is not null.
        let node = NodeRef(unsafe { NonNull::new_unchecked(node) });

        // SAFETY: `dev` is initialized and has no name yet. The strings are NUL-terminated, and the
        // format is for the other.
        to_result(unsafe {
            bindings::dev_set_name(
                node.dev.get(),
                c"%s".as_char_ptr(),
                options.name.as_char_ptr(),
            )
        })?;
        Ok(node)
    }

    /// # Safety
    ///
    /// To be called by the driver core when the last reference to the device is gone.
    unsafe extern "C" fn release(dev: *mut bindings::device) {
        // SAFETY: `dev` is that of a `Node`, which `create` took out of its box and nobody uses
        // now.
        drop(unsafe {
            let node = container_of!(Opaque::cast_from(dev), Self, dev);
            Pin::new_unchecked(KBox::from_raw(node.cast_mut()))
        });
    }

    /// Tells the node of a device, `<class>/<device>`, and with which mode it is made.
    ///
    /// # Safety
    ///
    /// To be called by the driver core for a device that was made by [`Self::create`], with null or a
    /// `mode` that is valid for writes.
    unsafe extern "C" fn devnode(
        dev: *const bindings::device,
        mode: *mut bindings::umode_t,
    ) -> *mut ffi::c_char {
        // SAFETY: By the contract of this function. The class and the name of a device stay as long
        // as that is there, as here.
        unsafe {
            if !mode.is_null() {
                let node = &*container_of!(Opaque::cast_from(dev), Self, dev);
                *mode = node.minor.class.mode;
            }
            bindings::kasprintf(
                bindings::GFP_KERNEL,
                c"%s/%s".as_char_ptr(),
                (*(*dev).class).name,
                bindings::dev_name(dev),
            )
        }
    }

    /// # Safety
    ///
    /// To be called by `chrdev_open` for a `cdev` that was made by [`Self::create`].
    unsafe extern "C" fn open(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        // SAFETY: `chrdev_open` stored the `cdev` there. It has a reference to it, hence to `dev`
        // and the node around them, which it does not drop before the file is released.
        let node = unsafe {
            let cdev = (*inode).__bindgen_anon_5.i_cdev;
            &*container_of!(Opaque::cast_from(cdev), Self, cdev)
        };

        from_result(|| {
            let present = node.present.lock();
            if !*present {
                return Err(ENODEV);
            }
            // SAFETY: This is the `open` callback of the table, with the file being opened.
            unsafe { FileTable::<T>::open(&node.device, file) }.map(|()| 0)
        })
    }
}

/// A reference to a [`Node`].
///
/// # Invariants
///
/// It owns one of the references that `dev` counts.
struct NodeRef<T: NodeOperations>(NonNull<Node<T>>);

// SAFETY: A node may be used and freed by any thread: its parts are not bound to one.
unsafe impl<T: NodeOperations> Send for NodeRef<T> {}

impl<T: NodeOperations> core::ops::Deref for NodeRef<T> {
    type Target = Node<T>;

    fn deref(&self) -> &Node<T> {
        // SAFETY: The reference keeps the node, and nobody has it mutably.
        unsafe { self.0.as_ref() }
    }
}

impl<T: NodeOperations> Drop for NodeRef<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The device may be freed by this.
        unsafe { bindings::put_device(self.dev.get()) };
    }
}

/// A node that is registered.
///
/// # Invariants
///
/// Its `cdev` and its `dev` are added, and were made present.
struct Registered<T: NodeOperations>(NodeRef<T>);

impl<T: NodeOperations> Registered<T> {
    fn new(node: NodeRef<T>) -> Result<Self> {
        let mut present = node.present.lock();

        // An open that comes as soon as the node appears waits for the lock, and then sees whether
        // the node could be registered.
        injectable!(
            uxive_add_node,
            ENOMEM,
            // SAFETY: Both are initialized and not added yet, and `dev` has all it is added with.
            to_result(unsafe { bindings::cdev_device_add(node.cdev.get(), node.dev.get()) })
        )?;
        *present = true;
        drop(present);

        // INVARIANT: Done above.
        Ok(Self(node))
    }
}

impl<T: NodeOperations> Registered<T> {
    /// Returns the directory of the device in sysfs.
    fn kobject(&self) -> *mut bindings::kobject {
        // SAFETY: `dev` is initialized by the type invariants of `Node`.
        unsafe { &raw mut (*self.0.dev.get()).kobj }
    }

    /// See [`ClassDevice::remove_area`].
    fn remove_area(&self) {
        let mut has_area = self.0.has_area.lock();

        if core::mem::replace(&mut *has_area, false) {
            // SAFETY: `dev` is added by the type invariants, and was with the file, or it was added
            // later. Removing it waits for its callbacks, and withdraws what is mapped.
            unsafe { bindings::sysfs_remove_bin_file(self.kobject(), self.0.area.as_raw()) };
        }
    }

    /// See [`ClassDevice::add_area`].
    fn add_area(&self) -> Result {
        let mut has_area = self.0.has_area.lock();

        if !*has_area {
            injectable!(
                uxive_create_area,
                ENOMEM,
                // SAFETY: `dev` is added by the type invariants. The file is removed at the latest when
                // that is: it is in its group of attributes. It stays as long as `dev`.
                to_result(unsafe {
                    bindings::sysfs_create_bin_file(self.kobject(), self.0.area.as_raw())
                })
            )?;
            *has_area = true;
        }
        Ok(())
    }
}

impl<T: NodeOperations> Drop for Registered<T> {
    fn drop(&mut self) {
        // Waits for callbacks of attributes, and withdraws what is mapped.
        //
        // SAFETY: Both are added by the type invariants.
        unsafe { bindings::cdev_device_del(self.0.cdev.get(), self.0.dev.get()) };
        *self.0.present.lock() = false;
    }
}

/// A registered device of a [`Class`].
///
/// When it is dropped, or its parent unbound, it is removed: from then on it is not opened any
/// more, and none of its attributes is read. Files that are open stay so; they keep the module.
pub(crate) struct ClassDevice<T: NodeOperations> {
    registered: Devres<Registered<T>>,
}

impl<T: NodeOperations> ClassDevice<T> {
    /// Registers a device below `parent`; each open of it, and each attribute, is handed `device`.
    /// That is dropped when the device is removed and no file is open any more.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such part of the BAR, or the BAR is not one of `parent`; `ENODEV` if
    /// it was made for an earlier binding of that; `EEXIST` if there is a device of that name,
    /// which is also warned of; `ENOSPC` if the class has as many as it can have; `ENOMEM` if there
    /// is no memory.
    pub(crate) fn new(
        class: &Class<T>,
        parent: &pci::Device<Bound>,
        options: &ClassDeviceOptions<'_, T>,
        device: T::Device,
    ) -> Result<Self> {
        // SAFETY: It is registered below, and removed before `parent` is unbound.
        let node = unsafe { Node::create(class, parent, options, device) }?;

        Ok(Self {
            registered: Devres::new(parent.as_ref(), Registered::new(node)?)?,
        })
    }
}

impl<T: NodeOperations> ClassDevice<T> {
    /// Removes the file that shows memory of `parent`: when this returns, no mapping reaches it.
    /// Does nothing if there is none, or the device is not one of `parent`. May sleep.
    pub(crate) fn remove_area(&self, parent: &pci::Device<Bound>) {
        if let Ok(registered) = self.registered.access(parent.as_ref()) {
            registered.remove_area();
        }
    }

    /// Adds that file again, after [`Self::remove_area`]. Does nothing if it is there.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device is not one of `parent`, `ENOMEM` if there is no memory.
    pub(crate) fn add_area(&self, parent: &pci::Device<Bound>) -> Result {
        self.registered.access(parent.as_ref())?.add_area()
    }
}

impl<T: NodeOperations> Registration<T> for ClassDevice<T> {
    unsafe fn device_of<'a>(dev: *mut bindings::device) -> &'a T::Device {
        // SAFETY: `dev` is that of a `Node`, and registered by the contract of this function.
        unsafe { &(*container_of!(Opaque::cast_from(dev), Node<T>, dev)).device }
    }
}
