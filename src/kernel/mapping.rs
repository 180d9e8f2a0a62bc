// SPDX-License-Identifier: GPL-2.0

//! Pages of a driver in the user mappings of a file, which can be withdrawn.
//!
//! All opens of a character device share the inode of its node, hence one `struct address_space`:
//! withdrawing an offset there withdraws it from every process that has the device open. A
//! [`FileMapping`] is an address space of its own for one open file. A [`MappedPage`] is a page
//! that faults may place at one offset of it, and that no mapping reaches any more once the
//! `MappedPage` is dropped: its owner need not remember to withdraw it.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

use super::bindings as extra;
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        Range, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    ffi,
    fs::File,
    module::this_module,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    ModuleMetadata, //
};

/// The address space of one open file.
///
/// It is that of an anonymous file which is never given to user space, with an inode of its own.
pub(crate) struct FileMapping {
    anon: ARef<File>,
}

impl FileMapping {
    /// Creates an address space with no pages in it, on behalf of module `M`.
    pub(crate) fn new<M: ModuleMetadata>() -> Result<Arc<Self>> {
        // SAFETY: The name is NUL-terminated, and the operations live as long as their owner `M`,
        // on which `anon_inode_create_getfile` takes a reference until the file is gone.
        let anon = from_err_ptr(unsafe {
            extra::anon_inode_create_getfile(
                M::NAME.as_char_ptr(),
                &AnonOperations::<M>::TABLE,
                core::ptr::null_mut(),
                bindings::O_RDWR as ffi::c_int,
                core::ptr::null(),
            )
        })?;
        let anon = NonNull::new(anon).ok_or(EINVAL)?;

        // SAFETY: The reference to the new file is passed on to the `ARef`. Nobody else knows the
        // file, so there is no `fdget_pos` on it.
        let anon = unsafe { ARef::from_raw(anon.cast::<File>()) };

        Ok(Arc::new(Self { anon }, GFP_KERNEL_ACCOUNT)?)
    }

    /// Returns the address space, which is valid as long as `self`.
    pub(super) fn as_raw(&self) -> *mut bindings::address_space {
        // SAFETY: `anon` is a valid file, and nobody changes its `f_mapping`, which is that of the
        // inode that the file keeps.
        unsafe { (*self.anon.as_ptr()).f_mapping }
    }

    /// Removes the page at `offset` from every mapping of the file, in every process.
    ///
    /// When this returns, no CPU reaches the page through such a mapping. May sleep.
    fn zap_page(&self, offset: u64) {
        // SAFETY: The address space is valid. The cast is exact: `MappedPage` admits only offsets
        // that fit `loff_t`.
        unsafe { bindings::unmap_mapping_range(self.as_raw(), offset as i64, PAGE_SIZE as i64, 1) };
    }
}

/// The operations of the anonymous file: none.
struct AnonOperations<M>(PhantomData<M>);

impl<M: ModuleMetadata> AnonOperations<M> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: this_module::<M>().as_ptr(),
        ..pin_init::zeroed()
    };
}

/// A page that may be shown to user space.
///
/// # Safety
///
/// [`Self::phys`] returns the same page-aligned physical address at every call: of device memory if
/// [`Self::DEVICE`], else of ordinary memory of the kernel. The object owns that page until it is
/// dropped: it does not serve another purpose before that.
pub(crate) unsafe trait UserPage {
    /// Whether the page is device memory, which is mapped uncached.
    const DEVICE: bool;

    /// Returns the physical address of the page.
    fn phys(&self) -> u64;
}

/// A page that faults may place at one offset of a [`FileMapping`].
///
/// Dropping it withdraws the page from all mappings first and drops the page after that. May
/// sleep.
///
/// # Invariants
///
/// `offset` is a multiple of the page size and fits `loff_t`. No page table of a mapping of the
/// file has the page but at that offset.
pub(crate) struct MappedPage<P: UserPage> {
    // Dropped after `Drop::drop` has withdrawn the page.
    page: P,
    mapping: Arc<FileMapping>,
    offset: u64,
}

impl<P: UserPage> MappedPage<P> {
    /// Offers `page` at `offset`, in bytes, of `mapping`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `offset` is not a multiple of the page size or beyond the range of `loff_t`.
    pub(crate) fn new(page: P, mapping: Arc<FileMapping>, offset: u64) -> Result<Self> {
        if offset % PAGE_SIZE as u64 != 0 || i64::try_from(offset).is_err() {
            return Err(EINVAL);
        }

        // INVARIANT: `offset` was checked. The page has not been inserted anywhere, since that
        // takes a `MappedPage`, which owns the page.
        Ok(Self {
            page,
            mapping,
            offset,
        })
    }

    /// Returns the offset in the file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

impl<P: UserPage> Deref for MappedPage<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.page
    }
}

impl<P: UserPage> Drop for MappedPage<P> {
    fn drop(&mut self) {
        // A fault that inserts the page borrows this object, so none is under way.
        self.mapping.zap_page(self.offset);
    }
}

/// A page fault in a mapping of a file.
///
/// # Invariants
///
/// `vmf` is the argument of a `fault` callback that has not returned yet. Its VMA was set up by
/// [`super::file`]: it is shared, maps page frames and belongs to a file whose address space is
/// a [`FileMapping`].
pub(crate) struct Fault<'a> {
    vmf: NonNull<bindings::vm_fault>,
    _callback: PhantomData<&'a mut bindings::vm_fault>,
}

impl Fault<'_> {
    /// # Safety
    ///
    /// The type invariants must hold for `vmf` as long as the object lives.
    pub(super) unsafe fn from_raw(vmf: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: The caller promises them.
        Self {
            vmf,
            _callback: PhantomData,
        }
    }

    /// Returns the offset in the file of the page that was touched, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        // SAFETY: `vmf` is valid by the type invariants.
        let pgoff = unsafe { self.vmf.as_ref().__bindgen_anon_1.pgoff };

        // Does not overflow: mmap() refuses ranges that end beyond `loff_t`.
        (pgoff as u64) << PAGE_SHIFT
    }

    /// Returns the offsets in the file that the mapping covers, in bytes.
    pub(crate) fn covered(&self) -> Range<u64> {
        // SAFETY: `vmf` and its VMA are valid by the type invariants.
        let (range, pgoff) = unsafe {
            let vma = self.vmf.as_ref().__bindgen_anon_1.vma;
            ((*vma).__bindgen_anon_1.__bindgen_anon_1, (*vma).vm_pgoff)
        };
        // Does not overflow: mmap() refuses ranges that end beyond `loff_t`.
        let start = (pgoff as u64) << PAGE_SHIFT;

        start..start + (range.vm_end - range.vm_start) as u64
    }

    /// Places `page` at its own offset, if the mapping covers that: the page that was touched, or
    /// one around it that is likely to be touched next.
    ///
    /// May sleep to allocate page tables. The caller's reference to `page` keeps it from being
    /// withdrawn meanwhile; what that reference is borrowed from, a lock guard as a rule, is what
    /// freeing and faulting have to share.
    pub(crate) fn insert<P: UserPage>(&self, page: &MappedPage<P>) -> FaultResult {
        // SAFETY: `vmf`, its VMA and the file of that are valid by the type invariants.
        let (vma, start, mapping) = unsafe {
            let vma = self.vmf.as_ref().__bindgen_anon_1.vma;
            (
                vma,
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                (*(*vma).vm_file).f_mapping,
            )
        };
        let covered = self.covered();
        if mapping != page.mapping.as_raw() || !covered.contains(&page.offset) {
            return FaultResult::SIGBUS;
        }
        let address = start + (page.offset - covered.start) as usize;

        // SAFETY: The VMA is valid, by the type invariants it maps page frames and is not
        // copy-on-write, and `address` lies in it. By the contract of `UserPage` the page is owned
        // by `page` and of the kind that is told. It is inserted at the only offset from which
        // dropping `page` withdraws it, in a mapping of the address space in which it does that.
        // The VMA is in that address space already, as faults come only after mmap() returned, so
        // withdrawing will find it.
        FaultResult(unsafe {
            extra::uxive_vmf_insert_pfn(
                vma,
                address,
                (page.phys() >> PAGE_SHIFT) as usize,
                P::DEVICE,
            )
        })
    }
}

/// What became of a page fault.
pub(crate) struct FaultResult(bindings::vm_fault_t);

impl FaultResult {
    /// There is no page: the program gets `SIGBUS`, a system call that touched it `EFAULT`.
    pub(crate) const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);

    /// Returns the value for the C side.
    pub(super) fn into_raw(self) -> bindings::vm_fault_t {
        self.0
    }
}
