// SPDX-License-Identifier: GPL-2.0 OR MIT

//! System calls: the numbers of the driver's ioctls, and safe forms of what `std` lacks.

use core::{
    ffi::{
        c_int,
        c_long,
        c_short,
        c_uint,
        c_ulong,
        c_void, //
    },
    ops::Range,
    ptr::NonNull, //
};
use std::{
    fs::File,
    io,
    os::fd::{
        AsRawFd,
        BorrowedFd,
        FromRawFd,
        OwnedFd, //
    },
    time::Duration, //
};

/// Argument of `OCXL_IOCTL_IRQ_SET_FD`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct IrqFd {
    pub(crate) irq_offset: u64,
    pub(crate) eventfd: i32,
    pub(crate) reserved: u32,
}

/// Argument of `UXIVE_IOC_USER_DRAIN`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct UserDrain {
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) eventfd: i32,
    pub(crate) reserved: u32,
    pub(crate) queue_offset: u64,
    pub(crate) queue_entries: u64,
    pub(crate) esb_offset: u64,
    pub(crate) esb_stride: u64,
}

/// An ioctl, whose argument is a `T`.
///
/// # Invariants
///
/// The kernel reads and writes no more than a `T` at the argument of the ioctl `number`, and leaves
/// a valid `T` there.
pub(crate) struct Ioctl<T> {
    number: c_ulong,
    argument: core::marker::PhantomData<T>,
}

// How powerpc encodes them; include/uapi/asm-generic/ioctl.h has other directions.
const NONE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;

impl<T> Ioctl<T> {
    /// # Safety
    ///
    /// The type invariants must hold for the ioctl of this number.
    const unsafe fn new(direction: u8, number: u8) -> Self {
        let size = size_of::<T>() as c_ulong;

        // INVARIANT: The caller promises them.
        Self {
            number: (direction as c_ulong) << 29 | size << 16 | 0xca << 8 | number as c_ulong,
            argument: core::marker::PhantomData,
        }
    }

    pub(crate) fn call(&self, file: &File, argument: &mut T) -> io::Result<()> {
        // SAFETY: By the type invariants the kernel leaves a valid `T` in `argument`.
        check(unsafe { ioctl(file.as_raw_fd(), self.number, core::ptr::from_mut(argument)) })?;
        Ok(())
    }
}

// SAFETY: These are the types of the arguments in the kernel's `misc/ocxl.h` and in `misc/uxive.h`,
// all of integers.
pub(crate) const IRQ_ALLOC: Ioctl<u64> = unsafe { Ioctl::new(READ, 0x11) };
// SAFETY: As above.
pub(crate) const IRQ_FREE: Ioctl<u64> = unsafe { Ioctl::new(WRITE, 0x12) };
// SAFETY: As above.
pub(crate) const IRQ_SET_FD: Ioctl<IrqFd> = unsafe { Ioctl::new(WRITE, 0x13) };
// SAFETY: As above.
pub(crate) const USER_DRAIN: Ioctl<UserDrain> = unsafe { Ioctl::new(READ | WRITE, 0x41) };
// SAFETY: As above.
pub(crate) const ARM: Ioctl<()> = unsafe { Ioctl::new(NONE, 0x42) };

const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_SHARED: c_int = 1;
const EFD_CLOEXEC: c_int = 0o2000000;
const POLLIN: c_short = 1;

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn mmap(
        address: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, length: usize) -> c_int;
    fn eventfd(value: c_uint, flags: c_int) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn sysconf(name: c_int) -> c_long;
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// What a mapping is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read = PROT_READ as isize,
    Write = PROT_WRITE as isize,
    ReadWrite = (PROT_READ | PROT_WRITE) as isize,
}

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

// SAFETY: A shared reference gives away no more than the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(file: &File, access: Access, offsets: Range<u64>) -> io::Result<Self> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let length = usize::try_from(offsets.end.saturating_sub(offsets.start)).map_err(invalid)?;
        let offset = i64::try_from(offsets.start).map_err(invalid)?;

        // SAFETY: Without `MAP_FIXED` the kernel chooses an address that nothing is at.
        let address = unsafe {
            mmap(
                core::ptr::null_mut(),
                length,
                access as c_int,
                MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if address as isize == -1 {
            return Err(io::Error::last_os_error());
        }
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
        // SAFETY: By the type invariants the mapping is ours, and who uses it borrows this object.
        unsafe { munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// Returns the size of a page.
pub(crate) fn page_size() -> u64 {
    const SC_PAGESIZE: c_int = 30;

    // SAFETY: The function has no preconditions.
    unsafe { sysconf(SC_PAGESIZE) as u64 }
}

/// Returns a new eventfd, which blocks.
pub(crate) fn new_eventfd() -> io::Result<File> {
    // SAFETY: The function has no preconditions.
    let fd = check(unsafe { eventfd(0, EFD_CLOEXEC) })?;

    // SAFETY: The descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Waits until there is something to read. Returns whether there is, or the time is up.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut pollfd = PollFd {
        fd: fd.as_raw_fd(),
        events: POLLIN,
        revents: 0,
    };
    // Rather a millisecond more than not to wait at all.
    let timeout = timeout.map_or(-1, |time| {
        c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });

    // SAFETY: `pollfd` is valid for one entry during the call.
    Ok(check(unsafe { poll(&mut pollfd, 1, timeout) })? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctls_have_the_documented_numbers() {
        assert_eq!(IRQ_ALLOC.number, 0x4008_ca11);
        assert_eq!(IRQ_FREE.number, 0x8008_ca12);
        assert_eq!(IRQ_SET_FD.number, 0x8010_ca13);
        assert_eq!(USER_DRAIN.number, 0xc030_ca41);
        assert_eq!(ARM.number, 0x2000_ca42);
    }

    #[test]
    fn a_mapping_shows_the_file() {
        let file = File::open("/proc/self/exe").unwrap();
        let mapping = Mapping::new(&file, Access::Read, 0..page_size()).unwrap();

        // SAFETY: The mapping has that many bytes and lives on.
        let magic = unsafe { mapping.address().cast::<[u8; 4]>().read() };
        assert_eq!(magic, *b"\x7fELF");
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let file = File::open("/proc/self/exe").unwrap();

        assert!(Mapping::new(&file, Access::Read, 0..0).is_err());
        assert!(Mapping::new(&file, Access::Read, 1..page_size()).is_err());
        assert!(Mapping::new(&file, Access::Read, u64::MAX - 1..u64::MAX).is_err());
        assert!(Mapping::new(&file, Access::Write, 0..page_size()).is_err());
    }
}
