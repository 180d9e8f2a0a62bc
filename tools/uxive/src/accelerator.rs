// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Accelerators (AFUs): a context of one, its registers, and the messages that it sends.

use crate::{
    abi,
    context::Context,
    irq::Message,
    mapping::Mapping,
    uapi, //
};
use core::{
    num::NonZeroU32,
    ptr::NonNull,
    sync::atomic::{
        fence,
        Ordering, //
    }, //
};
use rustix::mm::ProtFlags;
use std::{
    fs::OpenOptions,
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd,
        OwnedFd, //
    },
    path::Path, //
};

/// A context of an accelerator.
///
/// It has interrupts like any other [`Context`], which the accelerator may raise, too, as far as it
/// has messages for them. All it has ends when the accelerator goes: then calls fail with `ENODEV`,
/// and touching a page raises `SIGBUS`.
///
/// # Examples
///
/// ```no_run
/// use std::os::fd::AsFd;
/// use uxive::{Accelerator, Endian, Event};
///
/// let accelerator = Accelerator::open("/dev/ocxl/IBM,MEMCPY3.0000:01:00.0.0")?;
/// let event = Event::new()?;
/// let message = accelerator.message(None, Some(event.as_fd()))?;
///
/// let registers = accelerator.attach()?;
/// // The accelerator defines its registers. This one shall take the slot of a message.
/// registers.write_u32(0x40, message.message_slot(), Endian::Little);
/// event.wait(None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Accelerator {
    context: Context,
}

/// The data about an accelerator and a context of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Metadata {
    /// Major version of the accelerator.
    pub major: u8,
    /// Minor version of the accelerator.
    pub minor: u8,
    /// The number by which the accelerator knows the context.
    pub pasid: u32,
    /// Bytes of the registers of the context.
    pub registers: u64,
    /// Bytes of the registers of all contexts together, which root can map.
    pub global_registers: u64,
}

impl Accelerator {
    /// Opens a node of `/dev/ocxl`.
    ///
    /// # Errors
    ///
    /// Those of `open()`: `ENOSPC` if all contexts of the accelerator are in use, `ENODEV` if it
    /// does not answer. Those of [`Context::open`] but for that.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OwnedFd::from(OpenOptions::new().read(true).write(true).open(path)?).try_into()
    }

    /// Tells of the accelerator.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_GET_METADATA`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let mut metadata = abi::Metadata::default();

        abi::call(self, &mut metadata)?;
        Ok(Metadata {
            major: metadata.afu_version_major,
            minor: metadata.afu_version_minor,
            pasid: metadata.pasid,
            registers: metadata.pp_mmio_size,
            global_registers: metadata.global_mmio_size,
        })
    }

    /// Has the accelerator work for the context, and maps its registers.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_ATTACH`: `EIO` if that was done before, or the accelerator does not
    /// confirm it. Those of `mmap()`.
    pub fn attach(&self) -> io::Result<Registers> {
        let length = self.metadata()?.registers;

        abi::call(self, &mut abi::Attach::default())?;
        Registers::new(self, length)
    }

    /// Allocates an interrupt that only the accelerator can raise, by a message: for work of the
    /// context, or of one of its queues. It signals the event, or nothing.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_IMS_ALLOC`: `ENOSPC` if there is no message left.
    pub fn message(
        &self,
        queue: Option<NonZeroU32>,
        event: Option<BorrowedFd<'_>>,
    ) -> io::Result<Message> {
        let mut argument = abi::ImsAlloc {
            size: abi::size::<abi::ImsAlloc>(),
            flags: queue.map_or(0, |_| uapi::UXIVE_IMS_QUEUE),
            eventfd: event.map_or(-1, |event| event.as_raw_fd()),
            queue: queue.map_or(0, NonZeroU32::get),
            ..Default::default()
        };

        abi::call(self, &mut argument)?;
        Message::new(self.context.shared(), argument.offset, argument.slot)
    }

    /// Returns the context, for its other interrupts and its reports.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the context alone, to drain it. Registers and messages go on working.
    pub fn into_context(self) -> Context {
        self.context
    }
}

/// Takes a context of an accelerator that was passed by another program.
impl TryFrom<OwnedFd> for Accelerator {
    type Error = io::Error;

    /// # Errors
    ///
    /// `ENOTTY` if it is no context of an accelerator; those of [`Context`].
    fn try_from(file: OwnedFd) -> io::Result<Self> {
        let found = Self {
            context: file.try_into()?,
        };

        found.metadata()?;
        Ok(found)
    }
}

impl AsFd for Accelerator {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.context.as_fd()
    }
}

/// The order of bytes in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endian {
    /// The least significant byte is the first.
    Little,
    /// The most significant byte is the first.
    Big,
}

/// The registers of a context of an accelerator, mapped.
///
/// An access is one load or store of the register's width. Before it, all that the thread did is
/// complete, and after it comes all that the thread does. If the accelerator is gone or being reset
/// it raises `SIGBUS`.
///
/// # Invariants
///
/// `length` bytes are mapped for reading and writing. They are a device's, so nobody relies on what
/// they hold.
#[derive(Debug)]
pub struct Registers {
    mapping: Mapping,
    length: u64,
}

impl Registers {
    fn new(file: impl AsFd, length: u64) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;

        // INVARIANT: The mapping is that long.
        Ok(Self {
            mapping: Mapping::new(file, access, 0..length)?,
            length,
        })
    }

    /// Returns how many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the address of a register.
    fn at<T>(&self, offset: u64) -> NonNull<T> {
        let size = size_of::<T>() as u64;
        let end = offset.checked_add(size);

        assert!(
            offset % size == 0 && end.is_some_and(|end| end <= self.length),
            "register {offset:#x} of {size} bytes"
        );
        // SAFETY: By the type invariants and the check it lies in the mapping, aligned.
        unsafe { self.mapping.address().add(offset as usize).cast() }
    }

    fn load<T: Copy>(&self, offset: u64) -> T {
        let register = self.at::<T>(offset);

        fence(Ordering::SeqCst);
        // SAFETY: The register is mapped for reading while `self` is borrowed; all bytes are valid,
        // as the callers have integers.
        let value = unsafe { register.as_ptr().read_volatile() };
        fence(Ordering::SeqCst);
        value
    }

    fn store<T>(&self, offset: u64, value: T) {
        let register = self.at::<T>(offset);

        fence(Ordering::SeqCst);
        // SAFETY: The register is mapped for writing while `self` is borrowed, and by the type
        // invariants nobody relies on what it holds.
        unsafe { register.as_ptr().write_volatile(value) };
        fence(Ordering::SeqCst);
    }

    /// Reads a register of 4 bytes.
    ///
    /// # Panics
    ///
    /// If it is not aligned, or not among the registers.
    pub fn read_u32(&self, offset: u64, endian: Endian) -> u32 {
        match endian {
            Endian::Little => u32::from_le(self.load(offset)),
            Endian::Big => u32::from_be(self.load(offset)),
        }
    }

    /// Reads a register of 8 bytes.
    ///
    /// # Panics
    ///
    /// If it is not aligned, or not among the registers.
    pub fn read_u64(&self, offset: u64, endian: Endian) -> u64 {
        match endian {
            Endian::Little => u64::from_le(self.load(offset)),
            Endian::Big => u64::from_be(self.load(offset)),
        }
    }

    /// Writes a register of 4 bytes.
    ///
    /// # Panics
    ///
    /// If it is not aligned, or not among the registers.
    pub fn write_u32(&self, offset: u64, value: u32, endian: Endian) {
        match endian {
            Endian::Little => self.store(offset, value.to_le()),
            Endian::Big => self.store(offset, value.to_be()),
        }
    }

    /// Writes a register of 8 bytes.
    ///
    /// # Panics
    ///
    /// If it is not aligned, or not among the registers.
    pub fn write_u64(&self, offset: u64, value: u64, endian: Endian) {
        match endian {
            Endian::Little => self.store(offset, value.to_le()),
            Endian::Big => self.store(offset, value.to_be()),
        }
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
        io::pread, //
    };

    const LENGTH: u64 = 64 * 1024;

    fn registers() -> (OwnedFd, Registers) {
        let file = memfd_create("registers", MemfdFlags::CLOEXEC).unwrap();

        ftruncate(&file, LENGTH).unwrap();
        let registers = Registers::new(&file, LENGTH).unwrap();
        (file, registers)
    }

    #[test]
    fn bytes_are_in_the_order_of_the_register() {
        let (file, registers) = registers();
        let bytes = |offset| {
            let mut bytes = [0; 8];
            pread(&file, &mut bytes, offset).unwrap();
            bytes
        };

        registers.write_u32(8, 0x0102_0304, Endian::Big);
        registers.write_u32(12, 0x0506_0708, Endian::Little);
        assert_eq!(bytes(8), [1, 2, 3, 4, 8, 7, 6, 5]);
        assert_eq!(registers.read_u32(8, Endian::Big), 0x0102_0304);
        assert_eq!(registers.read_u32(8, Endian::Little), 0x0403_0201);
        registers.write_u64(LENGTH - 8, 0x0102_0304_0506_0708, Endian::Big);
        assert_eq!(bytes(LENGTH - 8), [1, 2, 3, 4, 5, 6, 7, 8]);
        registers.write_u64(LENGTH - 8, 0x0102_0304_0506_0708, Endian::Little);
        assert_eq!(bytes(LENGTH - 8), [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(
            registers.read_u64(LENGTH - 8, Endian::Big),
            0x0807_0605_0403_0201
        );
    }

    #[test]
    #[should_panic(expected = "register 0xfffc of 8 bytes")]
    fn a_register_is_aligned() {
        registers().1.read_u64(LENGTH - 4, Endian::Big);
    }

    #[test]
    #[should_panic(expected = "register 0x10000 of 4 bytes")]
    fn there_is_none_behind_the_last() {
        registers().1.write_u32(LENGTH, 0, Endian::Big);
    }

    #[test]
    #[should_panic(expected = "register 0xfffffffffffffff8 of 8 bytes")]
    fn no_offset_is_beyond_all_checks() {
        registers().1.read_u64(u64::MAX - 7, Endian::Big);
    }

    #[test]
    fn another_file_is_no_accelerator() {
        let error = Accelerator::try_from(registers().0).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
