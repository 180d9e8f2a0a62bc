// SPDX-License-Identifier: GPL-2.0

//! File operations of files that have a mapping of their own: opens of a character device, and files
//! that have no name.
//!
//! Would go to `rust/kernel/fs/operations.rs`, for `rust/kernel/miscdevice.rs` to use, and
//! `VM_PFNMAP` and the offset of a new mapping to `rust/kernel/mm/virt.rs`.
//!
//! Goes beyond `kernel::miscdevice`, which has neither `poll` nor page faults, does not say whether
//! a read may wait, and leaves all opens of a node on one address space. The files are streams:
//! they have no position. The module that registers a node finds the device of an open: see
//! [`super::misc`] and [`super::class`]. Files without a name are made in [`super::anon`].
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings as extra,
    mapping::{
        Fault,
        FaultResult,
        FileMapping, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::BitOr,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        VTABLE_DEFAULT_ERROR, //
    },
    ffi,
    fs::{
        file::flags::{
            O_ACCMODE,
            O_NONBLOCK,
            O_RDWR,
            O_WRONLY, //
        },
        File, //
    },
    iov::IovIterDest,
    mm::virt::{
        flags,
        VmaNew, //
    },
    module::this_module,
    page::PAGE_SHIFT,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        poll::PollTable,
        Arc, //
    },
    types::ForeignOwnable, //
};

/// The operations of an open file.
#[vtable]
pub(crate) trait FileOperations: Sized + 'static {
    /// The driver's data of one open file.
    type Data: Send + Sync;

    /// The most mappings that a file may have, of all processes together, if there is a limit: each takes
    /// time when pages are withdrawn.
    ///
    /// `mmap` beyond it fails with `ENOMEM`, and so does a call that would split a mapping in two. A child
    /// does not inherit the mappings, since that can be refused no more than moving them. Calls of several
    /// processes at the same time can exceed the limit, by one mapping for each process that has one.
    const MAX_MAPPINGS: Option<usize> = None;

    /// Called by `ioctl`. The kernel asks for no access mode: `access` is that of the file.
    fn ioctl(
        _data: Pin<&Self::Data>,
        _access: AccessMode,
        _cmd: u32,
        _arg: usize,
    ) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called by `read` and its kin. Returns how many bytes were copied to `to`.
    ///
    /// Waits only if it `may_wait`; otherwise it returns `EAGAIN`.
    fn read(_data: Pin<&Self::Data>, _to: &mut IovIterDest<'_>, _may_wait: bool) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called by `poll`, returns the events that are pending.
    fn poll(_data: Pin<&Self::Data>, _file: &File, _table: PollTable<'_>) -> PollEvents {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called by `mmap`, to refuse what the device does not allow.
    ///
    /// Inserts nothing: the mapping is populated by [`Self::fault`].
    fn mmap(_data: Pin<&Self::Data>, _area: &NewMapping<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when a page that is not there is touched, with the mmap or VMA lock held.
    fn fault(_data: Pin<&Self::Data>, _fault: &Fault<'_>) -> FaultResult {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called to fill `/proc/<pid>/fdinfo/<fd>`.
    fn show_fdinfo(_data: Pin<&Self::Data>, _m: &SeqFile) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The operations of the files that are opened by a node.
pub(crate) trait NodeOperations: FileOperations {
    /// The device behind the node.
    type Device: Send + Sync;

    /// Called by `open` of the node. `mapping` is the address space that `mmap` of this file will use.
    fn open(
        device: &Self::Device,
        mapping: Arc<FileMapping>,
    ) -> Result<impl PinInit<Self::Data, Error>>;
}

/// The access for which a file is open: reading, writing, both or neither.
#[derive(Clone, Copy)]
pub(crate) struct AccessMode(u32);

impl AccessMode {
    /// Returns the access of `file`, which does not change after `open`.
    fn of(file: &File) -> Self {
        Self(file.flags() & O_ACCMODE)
    }

    /// Returns whether the file is open for writing.
    ///
    /// Not by a single bit: an `open` with both of them is for neither reading nor writing.
    pub(crate) fn can_write(self) -> bool {
        matches!(self.0, O_WRONLY | O_RDWR)
    }

    /// Returns the flags that open a file with the same mode: `O_RDONLY`, `O_WRONLY`, `O_RDWR`.
    pub(crate) fn as_flags(self) -> u32 {
        self.0
    }
}

/// Events that a file is ready for. `|` combines them.
pub(crate) struct PollEvents(bindings::__poll_t);

impl PollEvents {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);

    /// `EPOLLIN` and `EPOLLRDNORM`: there is something to read.
    pub(crate) const READABLE: Self = Self(bindings::POLLIN | bindings::POLLRDNORM);

    /// `EPOLLPRI`: there is something to do other than to read the file.
    pub(crate) const PRIORITY: Self = Self(bindings::POLLPRI);

    /// `EPOLLHUP`: the object behind the file is gone.
    pub(crate) const HANG_UP: Self = Self(bindings::POLLHUP);
}

impl BitOr for PollEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A mapping that `mmap` is about to make.
///
/// It is shared, will map page frames only, and cannot be grown.
pub(crate) struct NewMapping<'a> {
    vma: &'a VmaNew,
}

impl NewMapping<'_> {
    /// Returns the offset in the file at which it starts, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        // SAFETY: The VMA is valid and nobody else has it yet, as it is being set up.
        let pgoff = unsafe { (*self.vma.as_ptr()).vm_pgoff };

        // Does not overflow: mmap() refuses ranges that end beyond `loff_t`.
        (pgoff as u64) << PAGE_SHIFT
    }

    /// Returns its length in bytes, a multiple of the page size.
    pub(crate) fn len(&self) -> u64 {
        (self.vma.end() - self.vma.start()) as u64
    }

    /// Makes sure that it is for writing only, now and after any `mprotect`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `mmap` was asked for anything but `PROT_WRITE`.
    pub(crate) fn require_write_only(&self) -> Result {
        self.vma.try_clear_mayread()?;
        self.require_writable()
    }

    /// Makes sure that it is for reading only, now and after any `mprotect`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `mmap` was asked for anything but `PROT_READ`.
    pub(crate) fn require_read_only(&self) -> Result {
        if !self.vma.readable() {
            return Err(EINVAL);
        }
        self.vma.try_clear_maywrite()?;
        self.require_not_executable()
    }

    /// Makes sure that it can be written to, and is not executable now or after any `mprotect`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `mmap` was not asked for `PROT_WRITE`, or was asked for `PROT_EXEC`.
    pub(crate) fn require_writable(&self) -> Result {
        if !self.vma.writable() {
            return Err(EINVAL);
        }
        self.require_not_executable()
    }

    /// Makes sure that it is not executable, now or after any `mprotect`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `mmap` was asked for `PROT_EXEC`.
    pub(crate) fn require_not_executable(&self) -> Result {
        self.vma.try_clear_mayexec()
    }
}

/// Sets `vma` up as a shared mapping of page frames, which the fault callback of `operations`
/// populates, unless `check` refuses it.
///
/// # Errors
///
/// `EINVAL` if `mmap` was asked for a private mapping, else what `check` returns.
///
/// # Safety
///
/// `vma` must be undergoing its set-up by `mmap`, with neither `VM_MIXEDMAP` nor operations so far,
/// and its file be fit for `operations`.
pub(super) unsafe fn set_up_mapping(
    vma: *mut bindings::vm_area_struct,
    operations: &'static bindings::vm_operations_struct,
    check: impl FnOnce(&NewMapping<'_>) -> Result,
) -> Result {
    // SAFETY: The VMA is being set up.
    let new = unsafe { VmaNew::from_raw(vma) };

    // A private mapping would be copy-on-write, for which page frames cannot be inserted.
    if new.flags() & flags::SHARED == 0 {
        return Err(EINVAL);
    }
    check(&NewMapping { vma: new })?;

    new.set_io();
    new.set_dontexpand();
    new.set_dontdump();
    // As a rule a child inherits the mapping: it has the file too, and withdrawing reaches all mappings
    // of that.
    //
    // SAFETY: The VMA is being set up, so that nobody else has it. Nothing has set `VM_MIXEDMAP`, with
    // which a mapping cannot be one of page frames: `NewMapping` does not offer it.
    unsafe {
        (*vma).__bindgen_anon_2.vm_flags = new.flags() | flags::PFNMAP;
        (*vma).vm_ops = operations;
    }
    Ok(())
}

/// The private data of an open file.
#[pin_data]
pub(super) struct OpenFile<T: FileOperations> {
    /// The driver's part.
    #[pin]
    data: T::Data,
    // The address space stays for as long as the file points to it, whatever `data` does.
    mapping: Arc<FileMapping>,
}

impl<T: FileOperations> OpenFile<T> {
    /// Makes the private data of a file whose address space will be `mapping`. `open` makes the
    /// driver's part, and is given that.
    pub(super) fn new<I, E>(
        mapping: Arc<FileMapping>,
        open: impl FnOnce(Arc<FileMapping>) -> Result<I>,
    ) -> Result<Pin<KBox<Self>>>
    where
        I: PinInit<T::Data, E>,
        Error: From<E>,
    {
        let data = open(mapping.clone())?;

        KBox::pin_init::<Error>(
            try_pin_init!(Self {
                data <- data,
                mapping,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the driver's part.
    fn data(self: Pin<&Self>) -> Pin<&T::Data> {
        // SAFETY: `data` is structurally pinned.
        unsafe { self.map_unchecked(|this| &this.data) }
    }
}

/// The C side of [`FileOperations`].
pub(super) struct FileTable<T: FileOperations>(PhantomData<T>);

impl<T: FileOperations> FileTable<T> {
    /// Finishes the opening of a file of `device`.
    ///
    /// # Safety
    ///
    /// To be called from the `open` callback of a table made by [`Self::build`], with the file
    /// being opened.
    pub(super) unsafe fn open(device: &T::Device, file: *mut bindings::file) -> Result
    where
        T: NodeOperations,
    {
        let open_file = OpenFile::new(FileMapping::new()?, |mapping| T::open(device, mapping))?;

        // SAFETY: The file is being opened.
        unsafe { Self::finish(file, open_file) };
        Ok(())
    }

    /// Sets the private data, the mapping and the flags of a new file.
    ///
    /// # Safety
    ///
    /// The operations of `file` must be a table made by [`Self::build`], and nobody else use it yet.
    pub(super) unsafe fn finish(file: *mut bindings::file, open_file: Pin<KBox<OpenFile<T>>>) {
        let address_space = open_file.mapping.as_raw();

        // SAFETY: Nobody else uses the file. The mapping outlives the use of its address space: it
        // goes in `release`, the last thing that is done with the file.
        unsafe {
            (*file).f_mapping = address_space;
            (*file).private_data = open_file.into_foreign();
        }

        // SAFETY: As above. The function does not fail.
        unsafe { bindings::stream_open((*file).f_inode, file) };
        // `read` can be told not to wait, whatever the flags of the file.
        //
        // SAFETY: As above.
        unsafe { (*file).f_mode |= extra::RUST_CONST_HELPER_FMODE_NOWAIT };
    }

    /// Returns the private data of `file`.
    ///
    /// # Safety
    ///
    /// `file` must have been given to [`Self::finish`] and not be released during `'a`.
    unsafe fn open_file<'a>(file: *mut bindings::file) -> Pin<&'a OpenFile<T>> {
        // SAFETY: `finish` stored the box there, and only `release` takes it back.
        unsafe { Pin::<KBox<OpenFile<T>>>::borrow((*file).private_data) }
    }

    /// As [`Self::open_file`], of which it returns the driver's part.
    ///
    /// # Safety
    ///
    /// That of [`Self::open_file`].
    unsafe fn data<'a>(file: *mut bindings::file) -> Pin<&'a T::Data> {
        // SAFETY: The caller keeps to the contract, which is the same.
        unsafe { Self::open_file(file) }.data()
    }

    /// # Safety
    ///
    /// To be called as the last callback of a file that was given to [`Self::finish`], or whose private
    /// data is null.
    unsafe extern "C" fn release(
        _inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        // A file without a name that was made, and then its data was not.
        //
        // SAFETY: The file is valid.
        if unsafe { (*file).private_data }.is_null() {
            return 0;
        }
        // SAFETY: `finish` stored the box there. This is the last callback of the file.
        let open_file = unsafe { Pin::<KBox<OpenFile<T>>>::from_foreign((*file).private_data) };

        // The file must not point to an address space that is freed with `open_file`.
        //
        // SAFETY: The file and its inode are valid, and nobody else uses the file.
        unsafe { (*file).f_mapping = (*(*file).f_inode).i_mapping };
        drop(open_file);
        0
    }

    /// # Safety
    ///
    /// `file` must have been given to [`Self::finish`].
    unsafe extern "C" fn ioctl(
        file: *mut bindings::file,
        cmd: ffi::c_uint,
        arg: ffi::c_ulong,
    ) -> ffi::c_long {
        // SAFETY: The file is open for the duration of the call. ioctl() does not use the position of
        // a file, so there is no `fdget_pos` on this thread.
        let (data, file) = unsafe { (Self::data(file), File::from_raw_file(file)) };

        from_result(|| Ok(T::ioctl(data, AccessMode::of(file), cmd, arg)? as ffi::c_long))
    }

    /// # Safety
    ///
    /// `kiocb` must be valid and of a file that was given to [`Self::finish`], `to` be valid, a
    /// destination, and used by nobody else.
    unsafe extern "C" fn read(kiocb: *mut bindings::kiocb, to: *mut bindings::iov_iter) -> isize {
        // SAFETY: The file is open for the duration of the call, and `to` is valid and not used by
        // others meanwhile. The file is a stream, so there is no `fdget_pos` on this thread.
        let (data, file, to) = unsafe {
            let file = (*kiocb).ki_filp;
            (
                Self::data(file),
                File::from_raw_file(file),
                IovIterDest::from_raw(to),
            )
        };
        // SAFETY: The `kiocb` is valid, and this call's own.
        let no_wait = unsafe { (*kiocb).ki_flags } & extra::RUST_CONST_HELPER_IOCB_NOWAIT != 0;
        let may_wait = !no_wait && file.flags() & O_NONBLOCK == 0;

        from_result(|| Ok(T::read(data, to, may_wait)? as isize))
    }

    /// # Safety
    ///
    /// `file` must have been given to [`Self::finish`], `table` be null or valid.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: The file is open for the duration of the call. poll() does not use the position
        // of a file, so there is no `fdget_pos` on this thread. The table is null or valid for the
        // duration of the call.
        let (data, file, table) = unsafe {
            (
                Self::data(file),
                File::from_raw_file(file),
                PollTable::from_raw(table),
            )
        };

        T::poll(data, file, table).0
    }

    /// # Safety
    ///
    /// `file` must have been given to [`Self::finish`], `vma` be undergoing its set-up.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> ffi::c_int {
        // SAFETY: The file is open for the duration of the call.
        let open_file = unsafe { Self::open_file(file) };
        let check = |new: &NewMapping<'_>| {
            T::mmap(open_file.data(), new)?;
            let Some(limit) = T::MAX_MAPPINGS else {
                return Ok(());
            };

            // As `mmap` does where a process has too many mappings. The last step that can fail:
            // nothing takes the mapping out of the count if there will be none.
            if !open_file.mapping.try_add_mapping(limit) {
                return Err(ENOMEM);
            }
            // `madvise` does not undo this for page frames.
            new.vma.set_dontcopy();
            Ok(())
        };

        from_result(|| {
            // SAFETY: The VMA is being set up, and the operations are those of the file.
            unsafe { set_up_mapping(vma, &Self::VM_OPERATIONS, check) }?;
            Ok(0)
        })
    }

    /// Returns the address space of the file that `vma` maps.
    ///
    /// # Safety
    ///
    /// `vma` must have been set up by [`Self::mmap`], or be a copy of such, and not go during `'a`.
    unsafe fn mapping<'a>(vma: *mut bindings::vm_area_struct) -> &'a FileMapping {
        // SAFETY: By the contract of the function. The VMA keeps its file open.
        &unsafe { Self::open_file((*vma).vm_file) }.get_ref().mapping
    }

    /// Called when the kernel has made a mapping of another, by splitting or moving that.
    ///
    /// # Safety
    ///
    /// `vma` must be a copy of one that was set up by [`Self::mmap`].
    unsafe extern "C" fn vma_open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: By the contract of the function.
        unsafe { Self::mapping(vma) }.add_mapping();
    }

    /// Called when a mapping goes.
    ///
    /// # Safety
    ///
    /// `vma` must have been set up by [`Self::mmap`], or be a copy of such.
    unsafe extern "C" fn vma_close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: By the contract of the function.
        unsafe { Self::mapping(vma) }.remove_mapping();
    }

    /// Called before a mapping is split: [`Self::vma_open`] cannot refuse that.
    ///
    /// # Safety
    ///
    /// As [`Self::vma_close`].
    unsafe extern "C" fn may_split(
        vma: *mut bindings::vm_area_struct,
        _address: ffi::c_ulong,
    ) -> ffi::c_int {
        // SAFETY: By the contract of the function.
        let mapping = unsafe { Self::mapping(vma) };

        // Room is not taken: the kernel may ask and not split, and does not tell.
        match T::MAX_MAPPINGS {
            Some(limit) if !mapping.has_room(limit) => ENOMEM.to_errno(),
            _ => 0,
        }
    }

    /// # Safety
    ///
    /// `vmf` must be a fault in a VMA that was set up by [`Self::mmap`].
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The argument is valid for the duration of the call. Its VMA was set up by
        // `set_up_mapping`, as the type invariants of `Fault` demand, and keeps its file open.
        let (fault, open_file) = unsafe {
            let vmf = NonNull::new_unchecked(vmf);
            let vma = vmf.as_ref().__bindgen_anon_1.vma;
            (Fault::from_raw(vmf), Self::open_file((*vma).vm_file))
        };
        let Some(_open) = open_file.mapping.keep_open() else {
            return FaultResult::SIGBUS.into_raw();
        };

        T::fault(open_file.data(), &fault).into_raw()
    }

    /// # Safety
    ///
    /// `file` must have been given to [`Self::finish`], `m` be valid and used by nobody else.
    unsafe extern "C" fn show_fdinfo(m: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: The file is open for the duration of the call, and the `seq_file` is valid and
        // not used by others meanwhile.
        let (data, m) = unsafe { (Self::data(file), SeqFile::from_raw(m)) };

        T::show_fdinfo(data, m);
    }

    const VM_OPERATIONS: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: if T::HAS_FAULT {
            Some(Self::fault)
        } else {
            None
        },
        open: if Self::IS_COUNTED {
            Some(Self::vma_open)
        } else {
            None
        },
        close: if Self::IS_COUNTED {
            Some(Self::vma_close)
        } else {
            None
        },
        may_split: if Self::IS_COUNTED {
            Some(Self::may_split)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// Whether the mappings of a file are counted.
    const IS_COUNTED: bool = T::MAX_MAPPINGS.is_some();

    /// Makes the table for a node whose `open` callback is `open`, or for files without one.
    pub(super) const fn build(
        open: Option<unsafe extern "C" fn(*mut bindings::inode, *mut bindings::file) -> ffi::c_int>,
    ) -> bindings::file_operations {
        bindings::file_operations {
            owner: this_module::<T::OwnerModule>().as_ptr(),
            open,
            release: Some(Self::release),
            read_iter: if T::HAS_READ { Some(Self::read) } else { None },
            unlocked_ioctl: if T::HAS_IOCTL {
                Some(Self::ioctl)
            } else {
                None
            },
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: if T::HAS_IOCTL {
                bindings::compat_ptr_ioctl
            } else {
                None
            },
            poll: if T::HAS_POLL { Some(Self::poll) } else { None },
            mmap: if T::HAS_MMAP { Some(Self::mmap) } else { None },
            show_fdinfo: if T::HAS_SHOW_FDINFO {
                Some(Self::show_fdinfo)
            } else {
                None
            },
            ..pin_init::zeroed()
        }
    }
}
