// SPDX-License-Identifier: GPL-2.0

//! Arguments of ioctls, in the program's memory. Those of uxive's own are structures that begin with
//! their size and grow at their end.

use crate::uapi;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceWriter, //
    }, //
};

/// A structure that begins with its size, as the program knows it, and flags; later kernels have more
/// fields at its end.
pub(crate) trait Extensible: FromBytes + IntoBytes {
    /// The size of the first version that was published, in bytes.
    const FIRST_SIZE: usize;

    /// The flags that there are.
    const FLAGS: u32;

    /// Returns the flags that are set.
    fn flags(&self) -> u32;
}

macro_rules! extensible {
    ($($structure:ident: $first_size:literal, $flags:expr;)*) => {$(
        impl Extensible for uapi::$structure {
            const FIRST_SIZE: usize = $first_size;
            const FLAGS: u32 = $flags;

            fn flags(&self) -> u32 {
                self.flags
            }
        }
    )*};
}

extensible! {
    uxive_info: 160, 0;
    uxive_user_drain: 48, 0;
    uxive_arm: 8, 0;
    uxive_irq_alloc: 24, uapi::UXIVE_ALLOC_CHIP | uapi::UXIVE_ALLOC_NODE;
    uxive_irq_alloc_many: 32, uapi::UXIVE_ALLOC_CHIP | uapi::UXIVE_ALLOC_NODE | uapi::UXIVE_ALLOC_AT;
    uxive_irq_free_many: 16, 0;
    uxive_irq_free_all: 8, 0;
    uxive_set_irqs: 24, SET_DATA | SET_ACTIONS;
    uxive_range: 16, 0;
    uxive_ims_alloc: 32, uapi::UXIVE_IMS_QUEUE;
    uxive_export: 32, 0;
    uxive_export_info: 32, 0;
    uxive_revoke: 16, 0;
}

/// `UXIVE_SET_DATA_*`
pub(crate) const SET_DATA: u32 =
    uapi::UXIVE_SET_DATA_NONE | uapi::UXIVE_SET_DATA_BOOL | uapi::UXIVE_SET_DATA_EVENTFD;

/// The actions of `uxive_set_irqs`.
pub(crate) const SET_ACTIONS: u32 =
    uapi::UXIVE_SET_MASK | uapi::UXIVE_SET_UNMASK | uapi::UXIVE_SET_TRIGGER;

/// An [`Extensible`] structure that the argument of an ioctl points to.
pub(crate) struct Argument<T> {
    pub(crate) value: T,
    origin: UserSliceWriter,
}

impl<T: Extensible> Argument<T> {
    /// Reads the structure at `user`. Fields that the program does not know are 0.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if its size is less than that of the first version, or it has unknown flags.
    /// - `E2BIG` if it is larger than the structure here and has anything but zeros beyond, for
    ///   which the program expects something that this driver does not do; or than a page.
    /// - `EFAULT` if it does not lie in accessible memory.
    pub(crate) fn read(user: UserPtr) -> Result<Self> {
        let size = UserSlice::new(user, size_of::<u32>())
            .reader()
            .read::<u32>()? as usize;
        if size < T::FIRST_SIZE {
            return Err(EINVAL);
        }
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }

        // Comes with the structure once more. Another thread may have changed it: the first counts.
        let (mut reader, origin) = UserSlice::new(user, size).reader_writer();
        let mut value = T::new_zeroed();
        reader.read_slice_partial(value.as_mut_bytes(), 0)?;
        let mut beyond = [0; 64];
        while !reader.is_empty() {
            let len = reader.read_slice_partial(&mut beyond, 0)?;
            if beyond.iter().take(len).any(|&byte| byte != 0) {
                return Err(E2BIG);
            }
        }
        if value.flags() & !T::FLAGS != 0 {
            return Err(EINVAL);
        }
        Ok(Self { value, origin })
    }

    /// Writes the structure back, as far as the program knows it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it does not lie in writable memory.
    pub(crate) fn write(&mut self) -> Result {
        let bytes = self.value.as_mut_bytes();

        self.origin.write_slice_partial(bytes, 0).map(drop)
    }
}

/// Reads a structure of ocxl's, which is of one size.
///
/// # Errors
///
/// `EFAULT` if it does not lie in accessible memory.
pub(crate) fn read<T: FromBytes + IntoBytes>(user: UserPtr) -> Result<T> {
    let mut value = T::new_zeroed();

    UserSlice::new(user, size_of::<T>())
        .reader()
        .read_slice(value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure of ocxl's.
///
/// # Errors
///
/// `EFAULT` if it does not lie in writable memory.
pub(crate) fn write<T: FromBytes + IntoBytes>(user: UserPtr, mut value: T) -> Result {
    UserSlice::new(user, size_of::<T>())
        .writer()
        .write_slice(value.as_mut_bytes())
}
