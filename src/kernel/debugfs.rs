// SPDX-License-Identifier: GPL-2.0

//! Tables in debugfs that are made record by record, as they are read.
//!
//! Would go to `rust/kernel/debugfs/table.rs`. `kernel::debugfs` makes the whole of a file at once,
//! in one buffer, and does not keep the module from being unloaded while one of its files is open.
//! Its directories do not tell their `struct dentry`, so these files cannot be in one.
//!
//! C headers: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h),
//! [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi,
    module::this_module,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc,
    types::ForeignOwnable, //
};

/// The records of a table.
#[vtable]
pub(crate) trait Records {
    /// Where they come from.
    type Source: Send + Sync + 'static;

    /// One of them. It stands for itself: nothing is locked while it is shown.
    type Record: 'static;

    /// The first line of the table, without its end.
    const HEADING: &'static str;

    /// Returns the first record from number `from` on, and its number, which is below `i64::MAX`.
    fn next(source: &Self::Source, from: u64) -> Option<(u64, Self::Record)>;

    /// Writes the record as a line, or none.
    fn show(record: &Self::Record, m: &SeqFile);
}

/// A directory in debugfs with tables of what is in an `S`. It is removed when dropped, with all that
/// is in it.
///
/// # Invariants
///
/// `dentry` is what creating the directory returned, an error included: debugfs may be missing, and
/// nobody depends on it.
pub(crate) struct DebugDir<S> {
    dentry: *mut bindings::dentry,
    // Dropped after `Drop::drop` has removed the files.
    source: Arc<S>,
}

// SAFETY: A directory is not bound to a thread, and the source may be dropped on any.
unsafe impl<S: Send + Sync> Send for DebugDir<S> {}

// SAFETY: Making files in a directory is synchronized by the C side.
unsafe impl<S: Send + Sync> Sync for DebugDir<S> {}

impl<S: Send + Sync + 'static> DebugDir<S> {
    /// Makes the directory `name` at the top of debugfs.
    pub(crate) fn new(name: &'static CStr, source: Arc<S>) -> Self {
        Self {
            // SAFETY: The name is NUL-terminated. No parent is the top.
            #[cfg(CONFIG_DEBUG_FS)]
            dentry: unsafe {
                bindings::debugfs_create_dir(name.as_char_ptr(), core::ptr::null_mut())
            },
            #[cfg(not(CONFIG_DEBUG_FS))]
            dentry: {
                let _ = name;
                ENODEV.to_ptr()
            },
            source,
        }
    }

    /// Makes the file `name`, for root to read, with the records `R`.
    pub(crate) fn table<R: Records<Source = S>>(&self, name: &'static CStr) {
        let operations: &'static bindings::file_operations = &Operations::<R>::FILE;

        // SAFETY: The name is NUL-terminated, the parent a directory or an error, which is passed
        // on. The source lives until the file is removed with the directory, and is what the
        // operations expect.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                0o400,
                self.dentry,
                Arc::as_ptr(&self.source).cast_mut().cast(),
                core::ptr::null(),
                operations,
            );
        }
        #[cfg(not(CONFIG_DEBUG_FS))]
        let _ = (name, self.dentry, &self.source, operations);
    }
}

impl<S> Drop for DebugDir<S> {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariants; the function ignores errors. It waits for reads that
        // are under way, and nobody can read afterwards.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            bindings::debugfs_remove(self.dentry)
        };
    }
}

/// The C side of a table. The position in the file is 0 for the heading, else one more than the
/// number of a record.
struct Operations<R>(PhantomData<R>);

impl<R: Records> Operations<R> {
    const FILE: bindings::file_operations = bindings::file_operations {
        // Keeps the module, and with it the source, as long as the file is open.
        owner: this_module::<R::OwnerModule>().as_ptr(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::seq_release),
        ..pin_init::zeroed()
    };

    const SEQUENCE: bindings::seq_operations = bindings::seq_operations {
        start: Some(Self::start),
        stop: Some(Self::stop),
        next: Some(Self::next),
        show: Some(Self::show),
    };

    /// Stands for the heading. No record has this address, as each record has a size.
    const HEADING: *mut ffi::c_void = {
        assert!(size_of::<R::Record>() > 0);
        core::ptr::without_provenance_mut(1)
    };

    /// # Safety
    ///
    /// To be called for a file that was made by [`DebugDir::table`].
    unsafe extern "C" fn open(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The file is being opened, and its inode valid. After success `private_data`
            // is its `seq_file`, whose `private` is ours.
            unsafe {
                to_result(bindings::seq_open(file, &Self::SEQUENCE))?;
                let m: *mut bindings::seq_file = (*file).private_data.cast();
                (*m).private = (*inode).i_private;
            }
            Ok(0)
        })
    }

    /// Returns the first record from number `from` on, and moves the position behind it.
    ///
    /// # Safety
    ///
    /// `m` must have been opened by [`Self::open`], and `pos` be valid.
    unsafe fn find(m: *mut bindings::seq_file, pos: *mut i64, from: u64) -> *mut ffi::c_void {
        // SAFETY: `private` is the source, which lives as long as the file is there; debugfs calls
        // none of this later.
        let source = unsafe { &*(*m).private.cast::<R::Source>() };
        let Some((number, record)) = R::next(source, from) else {
            return core::ptr::null_mut();
        };

        match KBox::new(record, GFP_KERNEL) {
            Ok(record) => {
                // SAFETY: The caller vouches for it.
                unsafe { *pos = (number as i64).saturating_add(1) };
                record.into_foreign()
            }
            Err(_) => ENOMEM.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// To be called as the `start` of [`Self::SEQUENCE`].
    unsafe extern "C" fn start(m: *mut bindings::seq_file, pos: *mut i64) -> *mut ffi::c_void {
        // SAFETY: The position is valid, and the file was opened by `open`.
        unsafe {
            match *pos {
                0 => Self::HEADING,
                behind => Self::find(m, pos, (behind - 1) as u64),
            }
        }
    }

    /// # Safety
    ///
    /// To be called as the `next` of [`Self::SEQUENCE`].
    unsafe extern "C" fn next(
        m: *mut bindings::seq_file,
        v: *mut ffi::c_void,
        pos: *mut i64,
    ) -> *mut ffi::c_void {
        // SAFETY: `v` comes from `start` or `next`, and is not used again. The position, which is
        // valid, is the number of the next record; it has to move even if there is none.
        unsafe {
            Self::stop(m, v);
            let from = *pos as u64;
            *pos = (*pos).saturating_add(1);
            Self::find(m, pos, from)
        }
    }

    /// # Safety
    ///
    /// To be called as the `show` of [`Self::SEQUENCE`].
    unsafe extern "C" fn show(m: *mut bindings::seq_file, v: *mut ffi::c_void) -> ffi::c_int {
        // SAFETY: The `seq_file` is valid, and nobody else uses it meanwhile.
        let m = unsafe { SeqFile::from_raw(m) };

        if v == Self::HEADING {
            seq_print!(m, "{}\n", R::HEADING);
        } else {
            // SAFETY: Anything else that is shown is a record of `find`.
            R::show(unsafe { KBox::<R::Record>::borrow(v) }, m);
        }
        0
    }

    /// # Safety
    ///
    /// To be called as the `stop` of [`Self::SEQUENCE`].
    unsafe extern "C" fn stop(_m: *mut bindings::seq_file, v: *mut ffi::c_void) {
        if v.is_null() || v == Self::HEADING || v == ENOMEM.to_ptr() {
            return;
        }
        // SAFETY: Anything else is a record of `find`, and this is its end.
        drop(unsafe { KBox::<R::Record>::from_foreign(v) });
    }
}
