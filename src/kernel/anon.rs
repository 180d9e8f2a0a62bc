// SPDX-License-Identifier: GPL-2.0

//! Files without a name, with [`FileOperations`], that a program is given as descriptors.
//!
//! Would go to `rust/kernel/fs/file.rs`, which reserves and installs descriptors of files that exist,
//! and makes none.
//!
//! All or nothing: a [`NewFile`] has its descriptor reserved, and no thread can use it before it is
//! installed. The driver tells the program the descriptor first, which may fail, and then installs
//! it, which cannot. A file that is dropped before it is installed is closed.
//!
//! Each file has an inode of its own, which a security module labels by the name of the file and which
//! is the file's address space, too.
//!
//! C headers: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h),
//! [`include/linux/file.h`](srctree/include/linux/file.h)

use super::{
    bindings as extra,
    fault::injectable,
    file::{
        AccessMode,
        FileOperations,
        FileTable,
        OpenFile, //
    },
    mapping::FileMapping, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    fs::{
        file::FileDescriptorReservation,
        File, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A new file of the current process, whose descriptor is closed on `exec`.
pub(crate) struct NewFile {
    fd: FileDescriptorReservation,
    file: ARef<File>,
}

impl NewFile {
    /// Makes a file with the operations `T`, and reserves its descriptor. `/proc/<pid>/fd` shows
    /// `name`, which to a security module is the class of the file. The file is open for `access`, at
    /// most that of the file whose ioctl makes it; it cannot be opened again for more. `open` makes
    /// the file's data, and is given its address space.
    ///
    /// # Errors
    ///
    /// - `EMFILE` if the process has as many descriptors as it may, `ENFILE` if the machine has as many
    ///   files.
    /// - `EACCES` if a security module does not let the program make it.
    /// - `ENOMEM` if there is no memory, and what `open` returns.
    pub(crate) fn new<T, I, E>(
        name: &'static CStr,
        access: AccessMode,
        open: impl FnOnce(Arc<FileMapping>) -> Result<I>,
    ) -> Result<Self>
    where
        T: FileOperations,
        I: PinInit<T::Data, E>,
        Error: From<E>,
    {
        let fd = injectable!(
            uxive_reserve_fd,
            EMFILE,
            FileDescriptorReservation::get_unused_fd_flags(bindings::O_CLOEXEC)
        )?;
        let file = injectable!(
            uxive_permit_file,
            EACCES,
            injectable!(
                uxive_make_file,
                ENFILE,
                // SAFETY: The name is NUL-terminated, and the operations live as long as their owner,
                // on which the function takes a reference until the file is gone.
                from_err_ptr(unsafe {
                    extra::anon_inode_create_getfile(
                        name.as_char_ptr(),
                        &AnonOperations::<T>::TABLE,
                        core::ptr::null_mut(),
                        access.as_flags() as i32,
                        core::ptr::null(),
                    )
                })
            )
        )?;
        let raw = NonNull::new(file).ok_or(EINVAL)?;
        // SAFETY: The reference to the new file is passed on to the `ARef`. Nobody else knows the
        // file, so there is no `fdget_pos` on it.
        let file = unsafe { ARef::from_raw(raw.cast::<File>()) };

        // SAFETY: The file is valid. Its inode is its own.
        let mapping = unsafe { FileMapping::of_file(raw) }?;
        let open_file = OpenFile::<T>::new(mapping, open)?;
        // SAFETY: The file is new, and its operations are such a table.
        unsafe { FileTable::<T>::finish(raw.as_ptr(), open_file) };
        Ok(Self { fd, file })
    }

    /// Returns the descriptor that the file will be.
    pub(crate) fn fd(&self) -> u32 {
        self.fd.reserved_fd()
    }

    /// Makes the file the descriptor that was reserved. From now on all threads can use it.
    pub(crate) fn install(self) {
        self.fd.fd_install(self.file);
    }
}

/// The operations of the files with the operations `T`.
struct AnonOperations<T>(PhantomData<T>);

impl<T: FileOperations> AnonOperations<T> {
    const TABLE: bindings::file_operations = FileTable::<T>::build(None);
}
