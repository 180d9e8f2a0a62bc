// SPDX-License-Identifier: GPL-2.0

//! Memory of a PCI device in user mappings, as long as a driver is bound to the device.
//!
//! Would go to `rust/kernel/pci/io.rs`. The crate maps a BAR for the driver only, and does not tell
//! the flags of its resource.
//!
//! A [`UserBar`] is a BAR that may be shown to user space. It is open until the device is unbound.
//! A [`MappedBar`] is a part of it that faults may place in an open file, a [`BarFile`] one that
//! they may place in mappings of a file in sysfs. The BAR has a table of all of the first kind;
//! closing it takes the table away and withdraws each. Files in sysfs belong to a device of
//! `class.rs`, which is removed when its parent is unbound: kernfs withdraws their pages then.
//!
//! The lock of the table comes first, then that of a part. A fault takes the latter, below the mmap
//! or VMA lock; zapping takes `i_mmap_rwsem` below it, and no mmap or VMA lock. A page is inserted
//! with the lock of its part held, and only if the part has not been withdrawn. Withdrawing zaps
//! with the same lock held, so that no page is mapped afterwards.
//!
//! C headers: [`include/linux/pci.h`](srctree/include/linux/pci.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{
    file::set_up_mapping,
    mapping::{
        Fault,
        FaultResult,
        FileMapping,
        MappedPages,
        UserPages, //
    }, //
};
use core::{
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
    devres,
    error::from_result,
    ffi,
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    rbtree::RBTree,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    types::Opaque, //
};

/// Returns whether `offset` is that of a page.
fn is_page_aligned(offset: u64) -> bool {
    offset % PAGE_SIZE as u64 == 0
}

/// Returns the size of BAR `bar` of `dev`, from 0 to 5, in bytes: 0 if there is none, it is not one of
/// memory, or it has no address.
///
/// # Errors
///
/// `EINVAL` if `bar` is larger.
pub(crate) fn memory_len(dev: &pci::Device<Bound>, bar: u32) -> Result<u64> {
    if bar >= bindings::PCI_STD_NUM_BARS {
        return Err(EINVAL);
    }
    // SAFETY: A `pci::Device` is a transparent wrapper of a valid `struct pci_dev`. The resources of a
    // device do not change as long as a driver is bound.
    let resource = unsafe {
        let raw: *const bindings::pci_dev = from_ref(dev).cast();
        (&raw const (*raw).resource)
            .cast::<bindings::resource>()
            .add(bar as usize)
            .read()
    };
    let kind = bindings::IORESOURCE_MEM | bindings::IORESOURCE_UNSET;

    match resource.flags as u32 & kind {
        bindings::IORESOURCE_MEM => dev.resource_len(bar),
        _ => Ok(0),
    }
}

/// A memory BAR of a PCI device, of which parts may be shown to user space.
#[derive(Clone)]
pub(crate) struct UserBar {
    shared: Arc<SharedBar>,
}

/// # Invariants
///
/// While `parts` is there, a driver is bound to `dev`, to which the `len` bytes of memory from
/// `phys` on belong. Both are multiples of the page size.
#[pin_data]
struct SharedBar {
    dev: ARef<pci::Device>,
    phys: u64,
    len: u64,
    /// All that are not withdrawn, by their address; none when the BAR is closed.
    #[pin]
    parts: Mutex<Option<RBTree<usize, Arc<Part>>>>,
}

/// Closes the BAR when it is dropped, which is before the device is unbound.
struct OpenUntilUnbind(Arc<SharedBar>);

impl Drop for OpenUntilUnbind {
    fn drop(&mut self) {
        let parts = self.0.parts.lock().take();

        // No other part is entered any more. A part that is not in the table has been withdrawn:
        // its owner withdraws it before it takes it out.
        for part in parts.iter().flat_map(RBTree::values) {
            part.withdraw();
        }
    }
}

impl UserBar {
    /// Makes it possible to show parts of BAR `bar` of `dev`, from 0 to 5, to user space until `dev`
    /// is unbound: when that is done no user mapping reaches it any more.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such BAR, it is not one of memory, or it shares a page with others;
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(dev: &pci::Device<Bound>, bar: u32) -> Result<Self> {
        let (phys, len) = (dev.resource_start(bar)?, memory_len(dev, bar)?);
        if len == 0 || !is_page_aligned(phys | len) {
            return Err(EINVAL);
        }

        // INVARIANT: As checked above. `dev` is bound, and the table is taken away before that ends.
        let shared = Arc::pin_init(
            pin_init!(SharedBar {
                dev: dev.into(),
                phys,
                len,
                parts <- new_mutex!(Some(RBTree::new()), "bar_parts"),
            }),
            GFP_KERNEL,
        )?;
        devres::register(dev.as_ref(), OpenUntilUnbind(shared.clone()), GFP_KERNEL)?;

        Ok(Self { shared })
    }

    /// Returns the size of the BAR in bytes, a multiple of the page size.
    pub(crate) fn len(&self) -> u64 {
        self.shared.len
    }

    /// Returns the memory of `part`, in bytes of the BAR.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `part` does not consist of whole pages of the BAR.
    fn memory(&self, part: &Range<u64>) -> Result<Memory> {
        let len = part.end.checked_sub(part.start).ok_or(EINVAL)?;

        if part.end > self.len() || !is_page_aligned(part.start | part.end) {
            return Err(EINVAL);
        }
        Ok(Memory {
            phys: self.shared.phys.checked_add(part.start).ok_or(EINVAL)?,
            len,
        })
    }
}

/// A part of the memory of a BAR.
///
/// # Invariants
///
/// It consists of whole pages.
#[derive(Clone, Copy)]
struct Memory {
    phys: u64,
    len: u64,
}

/// The memory of a part that is not withdrawn.
///
/// # Invariants
///
/// The BAR is open, or is being closed by a thread that waits for the object to be dropped.
struct OpenMemory(Memory);

// SAFETY: The fields do not change, and are multiples of the page size. A BAR is memory of a device,
// and belongs to the driver that is bound; by the type invariants one is as long as the object is
// there.
unsafe impl UserPages for OpenMemory {
    const DEVICE: bool = true;

    fn phys(&self) -> u64 {
        self.0.phys
    }

    fn len(&self) -> u64 {
        self.0.len
    }
}

#[pin_data]
struct Part {
    /// None when they are withdrawn.
    #[pin]
    pages: Mutex<Option<MappedPages<OpenMemory, 1>>>,
}

impl Part {
    /// Removes the pages from all mappings, and lets no fault insert them again. A second caller
    /// waits for the first.
    fn withdraw(&self) {
        let mut pages = self.pages.lock();

        // Dropped with the lock held, which zaps them.
        *pages = None;
    }

    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

/// A part of a [`UserBar`] in a [`FileMapping`].
///
/// Dropping it withdraws it. May sleep.
pub(crate) struct MappedBar {
    bar: Arc<SharedBar>,
    part: Arc<Part>,
}

impl MappedBar {
    /// Offers `part` of `bar`, in bytes, at `offset` of `mapping`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `part` does not consist of whole pages of the BAR, or `offset` is not that of a
    /// page or so large that the part would not end below 2^64; `ENODEV` if the device is not bound
    /// any more; `ENOMEM` if there is no memory.
    pub(crate) fn new(
        bar: &UserBar,
        part: Range<u64>,
        mapping: Arc<FileMapping>,
        offset: u64,
    ) -> Result<Self> {
        let memory = bar.memory(&part)?;
        let end = offset.checked_add(memory.len).ok_or(EINVAL)?;
        if !is_page_aligned(offset) {
            return Err(EINVAL);
        }

        let bar = bar.shared.clone();
        let mut parts = bar.parts.lock();
        let table = (*parts).as_mut().ok_or(ENODEV)?;
        // INVARIANT: The BAR is open, and is not closed before the lock is dropped. By then the part
        // is in the table, from which closing withdraws it, or it is gone.
        let pages = MappedPages::new(OpenMemory(memory), mapping, [Range { start: offset, end }]);
        let part = Arc::pin_init(
            pin_init!(Part {
                pages <- new_mutex!(Some(pages), "bar_part"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        table.try_create_and_insert(part.key(), part.clone(), GFP_KERNEL_ACCOUNT)?;
        drop(parts);

        Ok(Self { bar, part })
    }

    /// Places the page that belongs at `offset` there, if the mapping that faulted covers that.
    ///
    /// `SIGBUS` if none belongs there, the part was withdrawn, or the device is not bound any more.
    /// May sleep.
    pub(crate) fn insert(&self, fault: &Fault<'_>, offset: u64) -> FaultResult {
        match &*self.part.pages.lock() {
            Some(pages) => fault.insert(pages, offset),
            None => FaultResult::SIGBUS,
        }
    }

    /// Removes the part from all mappings, and lets no fault insert it again. When this returns, no
    /// CPU reaches it through a mapping, and it refers to neither the file's address space nor the
    /// module. May sleep.
    pub(crate) fn withdraw(&self) {
        self.part.withdraw();

        let mut parts = self.bar.parts.lock();
        let node = (*parts)
            .as_mut()
            .and_then(|table| table.remove_node(&self.part.key()));
        drop(parts);
        drop(node);
    }
}

impl Drop for MappedBar {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// A file in sysfs that shows a part of a BAR to programs of root that map it. It cannot be read.
///
/// Removing the file removes its pages from all mappings; kernfs calls none of its callbacks after
/// that.
///
/// # Invariants
///
/// The callbacks of `raw` are those of this type.
#[pin_data]
pub(super) struct BarFile {
    #[pin]
    raw: Opaque<bindings::bin_attribute>,
    memory: Memory,
}

// SAFETY: The attribute is handed to sysfs only, and not bound to a thread.
unsafe impl Send for BarFile {}

// SAFETY: There is nothing to do with a shared reference but to read an address.
unsafe impl Sync for BarFile {}

impl BarFile {
    /// Makes the file `name` for `part` of `bar`, in bytes. The part may be empty.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `part` does not consist of whole pages of the BAR, or `bar` is not one of `dev`;
    /// `ENODEV` if it was made for an earlier binding of that.
    ///
    /// # Safety
    ///
    /// The file must be removed before `dev` is unbound.
    pub(super) unsafe fn new(
        dev: &pci::Device<Bound>,
        name: &'static CStr,
        bar: &UserBar,
        part: &Range<u64>,
    ) -> Result<impl PinInit<Self>> {
        let memory = bar.memory(part)?;
        let normal: &pci::Device = dev;
        if !core::ptr::eq(&*bar.shared.dev, normal) {
            return Err(EINVAL);
        }
        // Of an earlier binding, since which the BAR may have got another address.
        if bar.shared.parts.lock().is_none() {
            return Err(ENODEV);
        }

        // INVARIANT: They are set here.
        Ok(pin_init!(Self {
            raw <- Opaque::ffi_init(move |slot: *mut bindings::bin_attribute| {
                let mut raw: bindings::bin_attribute = pin_init::zeroed();
                raw.attr.name = name.as_char_ptr();
                raw.attr.mode = 0o600;
                raw.size = memory.len as usize;
                raw.mmap = Some(Self::mmap);
                // Else lockdep would take the attribute itself, which is not static.
                #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
                {
                    raw.attr.key = kernel::static_lock_class!().as_ptr();
                }

                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(raw) };
            }),
            memory,
        }))
    }

    /// Returns the attribute, for sysfs. It is valid as long as `self`.
    pub(super) fn as_raw(&self) -> *const bindings::bin_attribute {
        self.raw.get()
    }

    /// # Safety
    ///
    /// To be called as a callback of a [`BarFile`], with a VMA that is undergoing its set-up.
    unsafe extern "C" fn mmap(
        _file: *mut bindings::file,
        _kobj: *mut bindings::kobject,
        attr: *const bindings::bin_attribute,
        vma: *mut bindings::vm_area_struct,
    ) -> ffi::c_int {
        // SAFETY: `attr` is the field of a `BarFile`. Removing the file waits for this callback.
        let this = unsafe { &*container_of!(Opaque::cast_from(attr), Self, raw) };

        from_result(|| {
            // Nothing in sysfs is executable.
            //
            // SAFETY: The VMA is being set up, and the operations are for files like this.
            unsafe {
                set_up_mapping(vma, &VM_OPERATIONS.0, |new| {
                    let end = new.offset().checked_add(new.len()).ok_or(EINVAL)?;
                    (end <= this.memory.len).then_some(()).ok_or(EINVAL)
                })?;
                (*vma).vm_private_data = from_ref(this).cast_mut().cast();
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `vmf` must be a fault in a VMA that was set up by [`Self::mmap`], and the file not be removed
    /// before this returns.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The argument is valid for the duration of the call. Its VMA was set up by
        // `set_up_mapping`, as the type invariants of `Fault` demand, and then told its file.
        let (fault, this) = unsafe {
            let vmf = NonNull::new_unchecked(vmf);
            let vma = vmf.as_ref().__bindgen_anon_1.vma;
            let this = &*(*vma).vm_private_data.cast::<Self>();
            (Fault::from_raw(vmf), this)
        };
        let offset = fault.offset();
        if offset >= this.memory.len {
            return FaultResult::SIGBUS.into_raw();
        }

        // SAFETY: A BAR is memory of a device, and belongs to the driver until the device is unbound. It
        // was open when the file was made, and has had the same address since.
        // The file is removed before the unbinding, by the contract of `new`. Removing it waits for
        // this callback, and removes all pages from the file's address space, which is its inode's.
        let result = unsafe { fault.insert_page(this.memory.phys + offset, offset, true) };
        result.into_raw()
    }
}

struct VmOperations(bindings::vm_operations_struct);

// SAFETY: Nothing in it changes.
unsafe impl Sync for VmOperations {}

/// A static, since kernfs demands that all mappings of an open file have the same operations.
static VM_OPERATIONS: VmOperations = VmOperations(bindings::vm_operations_struct {
    fault: Some(BarFile::fault),
    ..pin_init::zeroed()
});
