// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Mapped parts of files.

use core::{
    ops::Range,
    ptr::NonNull, //
};
use rustix::mm::{
    mmap,
    munmap,
    MapFlags,
    ProtFlags, //
};
use std::{
    io,
    os::fd::AsFd, //
};

/// A mapping of a part of a file, undone when it is dropped.
///
/// # Invariants
///
/// `length` bytes at `address` are mapped, and belong to this object.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: A mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

// SAFETY: A shared reference gives only the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(file: impl AsFd, access: ProtFlags, offsets: Range<u64>) -> io::Result<Self> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let length = usize::try_from(offsets.end.saturating_sub(offsets.start)).map_err(invalid)?;
        let null = core::ptr::null_mut();

        // SAFETY: Without `MAP_FIXED` the kernel chooses an address that nothing is at.
        let address = unsafe { mmap(null, length, access, MapFlags::SHARED, file, offsets.start) }?;
        // INVARIANT: The kernel has mapped that for us. It maps nothing at 0 that was not asked for.
        Ok(Self {
            address: NonNull::new(address.cast())
                .ok_or(io::Error::from(io::ErrorKind::AddrNotAvailable))?,
            length,
        })
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the mapping is ours, and its users borrow this object. It
        // is undone whole, which cannot fail.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::param::page_size;
    use std::fs::File;

    #[test]
    fn a_mapping_shows_the_file() {
        let file = File::open("/proc/self/exe").unwrap();
        let mapping = Mapping::new(&file, ProtFlags::READ, 0..page_size() as u64).unwrap();

        // SAFETY: The mapping has that many bytes and lives on.
        let magic = unsafe { mapping.address().cast::<[u8; 4]>().read() };
        assert_eq!(magic, *b"\x7fELF");
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let file = File::open("/proc/self/exe").unwrap();
        let page = page_size() as u64;

        assert!(Mapping::new(&file, ProtFlags::READ, 0..0).is_err());
        assert!(Mapping::new(&file, ProtFlags::READ, 1..page).is_err());
        assert!(Mapping::new(&file, ProtFlags::READ, u64::MAX - 1..u64::MAX).is_err());
        assert!(Mapping::new(&file, ProtFlags::WRITE, 0..page).is_err());
    }
}
