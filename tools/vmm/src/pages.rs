// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Addresses of the VMM that a memslot shows to the guest, and the pages that lie there.

use core::{
    ops::Range,
    ptr::NonNull, //
};
use rustix::{
    io::Errno,
    mm::{
        mmap,
        mmap_anonymous,
        munmap,
        MapFlags,
        ProtFlags, //
    }, //
};
use std::{
    io,
    os::fd::AsFd, //
};

/// A range of addresses, reserved as long as the object lives. In it the pages of files come and
/// go.
///
/// A memslot of KVM is bound to addresses, not to a mapping: what is mapped there later is the
/// guest's as well. So the addresses of a page that has gone must not become free: the VMM's next
/// allocation might get them, and the guest would write to that.
///
/// # Invariants
///
/// `length` bytes at `address` belong to this object. Nobody relies on what they hold.
#[derive(Debug)]
pub struct Pages {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: Addresses belong to the process, not to a thread.
unsafe impl Send for Pages {}

// SAFETY: Pages are placed by the kernel, and accesses are single loads and stores.
unsafe impl Sync for Pages {}

/// Returns how many bytes there are.
fn length(offsets: &Range<u64>) -> io::Result<usize> {
    let length = offsets.end.checked_sub(offsets.start);

    Ok(length
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(Errno::INVAL)?)
}

impl Pages {
    /// Reserves addresses, at which nothing is: a touch is `SIGSEGV`, by the guest `EFAULT`.
    pub fn reserve(length: usize) -> io::Result<Self> {
        let (null, flags) = (
            core::ptr::null_mut(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        );

        // SAFETY: Without `MAP_FIXED` the kernel chooses addresses that nothing is at.
        let address = unsafe { mmap_anonymous(null, length, ProtFlags::empty(), flags) }?;
        // INVARIANT: They are ours now. The kernel maps nothing at 0 that was not asked for.
        Ok(Self {
            address: NonNull::new(address.cast()).ok_or(Errno::NOMEM)?,
            length,
        })
    }

    /// Reserves the addresses that a part of a file needs, and places it there.
    pub fn of(file: impl AsFd, access: ProtFlags, offsets: Range<u64>) -> io::Result<Self> {
        let pages = Self::reserve(length(&offsets)?)?;

        pages.place(0, file, access, offsets)?;
        Ok(pages)
    }

    /// Maps a part of a file, shared, `at` bytes behind the beginning, in place of what was there.
    pub fn place(
        &self,
        at: usize,
        file: impl AsFd,
        access: ProtFlags,
        offsets: Range<u64>,
    ) -> io::Result<()> {
        let length = length(&offsets)?;
        let (address, flags) = (self.within(at, length)?, MapFlags::SHARED | MapFlags::FIXED);

        // SAFETY: By the type invariants the addresses are ours, and nobody relies on what is
        // there.
        unsafe { mmap(address, length, access, flags, file, offsets.start) }?;
        Ok(())
    }

    /// Maps memory that is the caller's alone, in place of what was there. A store ends in it.
    pub fn place_memory(&self, at: usize, length: usize) -> io::Result<()> {
        self.replace(
            at,
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    }

    /// Unmaps what is there, and keeps the addresses.
    pub fn withdraw(&self, at: usize, length: usize) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;

        self.replace(at, length, ProtFlags::empty(), flags)
    }

    fn replace(
        &self,
        at: usize,
        length: usize,
        access: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<()> {
        let address = self.within(at, length)?;

        // SAFETY: By the type invariants the addresses are ours, and nobody relies on what is
        // there.
        unsafe { mmap_anonymous(address, length, access, flags | MapFlags::FIXED) }?;
        Ok(())
    }

    fn within(&self, at: usize, length: usize) -> io::Result<*mut core::ffi::c_void> {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(Errno::INVAL.into());
        }
        // SAFETY: That is within the addresses that the object has.
        Ok(unsafe { self.address.add(at) }.as_ptr().cast())
    }

    /// Returns where they begin.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Returns how many bytes there are.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Loads the 8 bytes there by one instruction. Where there is no page this raises a signal.
    ///
    /// # Panics
    ///
    /// If that is beyond the end, or not aligned.
    pub fn load(&self, at: usize) -> u64 {
        assert!(
            at.is_multiple_of(8) && at < self.length,
            "no word at {at:#x}"
        );
        // SAFETY: It is aligned, and by the type invariants ours. Any value is valid.
        unsafe { self.address.add(at).cast::<u64>().read_volatile() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the addresses are ours, and no borrow is left. They are
        // unmapped whole, which cannot fail.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        fs::{
            ftruncate,
            memfd_create,
            MemfdFlags, //
        },
        io::pwrite,
        param::page_size, //
    };
    use std::os::fd::OwnedFd;

    /// A file whose two pages begin with 1 and 2.
    fn two_pages() -> OwnedFd {
        let file = memfd_create("pages", MemfdFlags::CLOEXEC).unwrap();
        let page = page_size() as u64;

        ftruncate(&file, 2 * page).unwrap();
        for number in [1u64, 2] {
            pwrite(&file, &number.to_ne_bytes(), (number - 1) * page).unwrap();
        }
        file
    }

    #[test]
    fn pages_come_and_go_in_their_place() {
        let (file, page) = (two_pages(), page_size());
        let pages = Pages::reserve(2 * page).unwrap();

        pages
            .place(0, &file, ProtFlags::READ, page as u64..2 * page as u64)
            .unwrap();
        pages
            .place(page, &file, ProtFlags::READ, 0..page as u64)
            .unwrap();
        assert_eq!((pages.load(0), pages.load(page)), (2, 1));
        pages.place_memory(0, page).unwrap();
        assert_eq!((pages.load(0), pages.load(page)), (0, 1));
        pages.withdraw(0, page).unwrap();
        assert_eq!(pages.load(page), 1);
    }

    #[test]
    fn nothing_is_placed_outside() {
        let (file, page) = (two_pages(), page_size());
        let pages = Pages::reserve(page).unwrap();

        assert!(pages
            .place(0, &file, ProtFlags::READ, 0..2 * page as u64)
            .is_err());
        assert!(pages
            .place(page, &file, ProtFlags::READ, 0..page as u64)
            .is_err());
        assert!(pages.place_memory(usize::MAX, page).is_err());
        assert!(pages.withdraw(0, 2 * page).is_err());
        let backwards = Range { start: 1, end: 0 };
        assert!(Pages::of(&file, ProtFlags::READ, backwards).is_err());
    }

    #[test]
    #[should_panic(expected = "no word at")]
    fn a_word_is_within() {
        Pages::reserve(page_size()).unwrap().load(page_size());
    }
}
