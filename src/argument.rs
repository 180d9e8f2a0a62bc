// SPDX-License-Identifier: GPL-2.0

//! Arguments of ioctls, in the program's memory. Those of uxive's own are structures that begin with
//! their size; `command` knows what is in them.

use crate::command::MAX_SIZE;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    transmute::AsBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// The argument of one of uxive's own ioctls.
pub(crate) struct Argument<'a> {
    user: UserPtr,
    /// As the program says. If more than [`MAX_SIZE`], all beyond that is 0.
    size: u32,
    bytes: &'a [u8],
}

impl<'a> Argument<'a> {
    /// Reads the structure at `user`, which says its size, into `buffer`.
    ///
    /// # Errors
    ///
    /// - `E2BIG` if it is larger than a page, or than any structure of this driver and has anything but
    ///   zeros beyond.
    /// - `EFAULT` if it does not lie in accessible memory.
    // The buffer is the caller's, as a copy of it takes as much as a call of OPAL.
    pub(crate) fn read(user: UserPtr, buffer: &'a mut [u8; MAX_SIZE]) -> Result<Self> {
        let size: u32 = UserSlice::new(user, size_of::<u32>()).reader().read()?;
        if size as usize > PAGE_SIZE {
            return Err(E2BIG);
        }

        // The size comes once more. Another thread may have changed it: the first counts.
        let mut reader = UserSlice::new(user, size as usize).reader();
        let known = reader.read_slice_partial(buffer, 0)?;
        let mut beyond = [0; 64];
        while !reader.is_empty() {
            let len = reader.read_slice_partial(&mut beyond, 0)?;
            if beyond.iter().take(len).any(|&byte| byte != 0) {
                return Err(E2BIG);
            }
        }
        Ok(Self {
            user,
            size,
            bytes: buffer.get(..known).unwrap_or(&[]),
        })
    }

    /// Returns the size that the program gave, in bytes.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Returns the bytes that may be other than 0: as many as the program has, at most [`MAX_SIZE`].
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Writes the field that lies `offset` bytes behind the beginning of the structure. To be used for
    /// fields of its first version, which every program has.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it does not lie in writable memory.
    pub(crate) fn write_field<T: AsBytes>(&self, offset: usize, value: &T) -> Result {
        UserSlice::new(self.user.wrapping_byte_add(offset), size_of::<T>())
            .writer()
            .write(value)
    }

    /// Writes the whole structure, as far as the program knows it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it does not lie in writable memory.
    pub(crate) fn write<T: FromBytes + IntoBytes>(&self, mut value: T) -> Result {
        UserSlice::new(self.user, self.size as usize)
            .writer()
            .write_slice_partial(value.as_mut_bytes(), 0)
            .map(drop)
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
