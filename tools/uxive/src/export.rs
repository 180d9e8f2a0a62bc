// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Doorbells that travel: the owner of interrupts gives away an export, another program receives
//! it.
//!
//! The owner can take a doorbell back at any time, and a store to its page raises `SIGBUS` then. A
//! library cannot catch that soundly, since a signal handler belongs to the whole program, and any
//! part of it may install another. So [`Receiver::ring`] makes the kernel store: a system call with
//! an address where nothing is mapped fails with `EFAULT`. XIVE takes stores of 8 bytes only, and
//! most system calls copy in pieces of other widths. But `time()` stores its one result, an integer
//! of 8 bytes, by one instruction, and XIVE ignores the value.

use crate::{
    abi,
    context::{
        extent,
        made,
        Shared, //
    },
    esb,
    mapping::Mapping,
    uapi, //
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull,
    sync::atomic::{
        fence,
        Ordering, //
    }, //
};
use rustix::{
    cmsg_space,
    io::Errno,
    mm::ProtFlags,
    net::{
        recvmsg,
        sendmsg,
        RecvAncillaryBuffer,
        RecvAncillaryMessage,
        RecvFlags,
        SendAncillaryBuffer,
        SendAncillaryMessage,
        SendFlags, //
    }, //
};
use std::{
    io::{
        self,
        IoSlice,
        IoSliceMut, //
    },
    os::fd::{
        AsFd,
        BorrowedFd,
        OwnedFd, //
    },
    sync::Arc, //
};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("time() stores 4 bytes here, which stops a machine that has XIVE");

/// A byte of a buffer of control messages: `u8` in rustix 0.38, `MaybeUninit<u8>` in rustix 1.
trait Byte {
    fn zero() -> Self;
}

impl Byte for u8 {
    fn zero() -> Self {
        0
    }
}

impl Byte for MaybeUninit<u8> {
    fn zero() -> Self {
        Self::new(0)
    }
}

/// The doorbells of some interrupts, as a file that can be mapped and nothing else.
///
/// A program that is given the file can ring, until it is revoked or the interrupts are freed.
/// Dropping this closes the file here, and takes nothing from those who have it.
///
/// # Examples
///
/// ```no_run
/// use std::os::unix::net::UnixStream;
/// use uxive::{Context, Receiver};
///
/// let irq = Context::open()?.alloc()?;
/// let (ours, theirs) = UnixStream::pair()?;
///
/// let export = irq.export()?;
/// export.send(&ours)?;
/// // In another program:
/// let receiver = Receiver::receive(&theirs)?;
/// receiver.ring(0)?;
/// // Here:
/// export.revoke()?;
/// // There:
/// assert!(receiver.ring(0).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Export {
    shared: Arc<Shared>,
    file: OwnedFd,
    id: u32,
    count: u32,
}

impl Export {
    /// `max_rate` is 0 for as many as root allows.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        start: u32,
        count: u32,
        max_rate: u32,
    ) -> io::Result<Self> {
        let mut argument = abi::Export {
            size: abi::size::<abi::Export>(),
            kind: uapi::UXIVE_EXPORT_FILE,
            start,
            count,
            max_rate,
            ..Default::default()
        };

        abi::call(shared, &mut argument)?;
        Ok(Self {
            shared: shared.clone(),
            // SAFETY: The ioctl has just made it.
            file: unsafe { made(argument.fd) }?,
            id: argument.id,
            count,
        })
    }

    /// Returns how many doorbells there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns its number in the context, by which [`Report::Storm`](crate::Report::Storm) names it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Passes the file on by a Unix socket, with a byte, for [`Receiver::receive`].
    ///
    /// # Errors
    ///
    /// Those of `sendmsg()`.
    pub fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let files = [self.file.as_fd()];
        let mut space = [Byte::zero(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);

        control.push(SendAncillaryMessage::ScmRights(&files));
        // A stream socket passes a file only with data.
        let data = [IoSlice::new(&[0])];
        if sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL)? != 1 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Takes the doorbells back: when this returns, nobody can ring by them any more.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_REVOKE`.
    pub fn revoke(self) -> io::Result<()> {
        let mut argument = abi::Revoke {
            size: abi::size::<abi::Revoke>(),
            id: self.id,
            ..Default::default()
        };

        abi::call(&self.shared, &mut argument)
    }
}

impl AsFd for Export {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The doorbells of an [`Export`], mapped. All threads can ring them.
///
/// A child of `fork()` does not inherit the mapping: it maps the file itself.
///
/// # Invariants
///
/// `pages` maps `count` pages for writing, `stride` bytes from one to the next. Nobody relies on what
/// they hold: they are pages of a device.
#[derive(Debug)]
pub struct Receiver {
    pages: Mapping,
    count: u32,
    stride: u64,
}

impl Receiver {
    /// Maps all doorbells of an export that was passed to this program. The file need not be kept.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if the file is of another kind. Those of `mmap()`: `ENOMEM` also if the export has as
    /// many mappings as it may, which are 128 in all processes. `EIO` if the answers are not the
    /// driver's.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let mut info = abi::ExportInfo {
            size: abi::size::<abi::ExportInfo>(),
            ..Default::default()
        };

        abi::call(&file, &mut info)?;
        let (_, count) = extent(&abi::Window {
            offset: 0,
            length: u64::from(info.count)
                .checked_mul(info.stride)
                .ok_or(Errno::IO)?,
            stride: info.stride,
        })?;
        if info.kind != uapi::UXIVE_EXPORT_FILE {
            return Err(Errno::IO.into());
        }
        Self::new(file, count, info.stride)
    }

    fn new(file: impl AsFd, count: u32, stride: u64) -> io::Result<Self> {
        // INVARIANT: The mapping is that long. `map` has seen that the file is an export.
        Ok(Self {
            pages: Mapping::new(file, ProtFlags::WRITE, 0..u64::from(count) * stride)?,
            count,
            stride,
        })
    }

    /// Takes what [`Export::send`] has sent, and maps all of it.
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::receive_file`] and [`Receiver::map`].
    pub fn receive(socket: impl AsFd) -> io::Result<Self> {
        Self::map(Self::receive_file(socket)?)
    }

    /// Takes what [`Export::send`] has sent, and maps nothing: for a VMM, which maps it for its guest.
    ///
    /// # Errors
    ///
    /// Those of `recvmsg()`. [`io::ErrorKind::UnexpectedEof`] if the other end is closed,
    /// [`io::ErrorKind::InvalidData`] if it has sent no file.
    pub fn receive_file(socket: impl AsFd) -> io::Result<OwnedFd> {
        let mut byte = [0];
        let mut space = [Byte::zero(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [IoSliceMut::new(&mut byte)];

        let received = recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        match (received, file) {
            (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
            (_, Some(file)) => Ok(file),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "this is no message with a doorbell",
            )),
        }
    }

    /// Returns how many doorbells there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    fn page(&self, index: u32) -> NonNull<u64> {
        assert!(index < self.count, "doorbell {index} of {}", self.count);
        // SAFETY: By the type invariants the page of each of them lies in the mapping.
        unsafe {
            self.pages
                .address()
                .add(index as usize * self.stride as usize)
        }
        .cast()
    }

    /// Rings by a system call. All that the thread wrote before is visible to the thread that takes
    /// the event.
    ///
    /// # Panics
    ///
    /// If there is none of this index.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the doorbell was taken back: it is revoked, its interrupt is freed, or its owner
    /// is gone.
    pub fn ring(&self, index: u32) -> io::Result<()> {
        let page = self.page(index);

        // As in `esb::ring`: entering the kernel is no full barrier.
        fence(Ordering::SeqCst);
        // The C library's time() would ask the vDSO, which stores without a system call.
        // SAFETY: The kernel stores 8 bytes at an address of the mapping that lives as long as
        // `self`, and by the type invariants nobody relies on what is there.
        match unsafe { libc::syscall(libc::SYS_time, page.as_ptr()) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Rings by a store, which is the fast way: no system call, and no error.
    ///
    /// If the doorbell was taken back this raises `SIGBUS`, which ends a program that does not handle
    /// it. For programs that trust the owner to say so before.
    ///
    /// # Panics
    ///
    /// If there is none of this index.
    #[inline]
    pub fn store(&self, index: u32) {
        // SAFETY: By the type invariants the page is mapped for writing while `self` is borrowed, and
        // nobody relies on what it holds.
        unsafe { esb::ring(self.page(index)) };
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
    use std::os::unix::net::UnixStream;

    const STRIDE: u64 = 64 * 1024;

    /// A file that holds what is stored, and whose pages can be taken away.
    fn pages(count: u64) -> OwnedFd {
        let file = memfd_create("pages", MemfdFlags::CLOEXEC).unwrap();

        ftruncate(&file, count * STRIDE).unwrap();
        file
    }

    fn stored(file: &OwnedFd, index: u32) -> u64 {
        let mut word = [0; 8];

        pread(file, &mut word, u64::from(index) * STRIDE).unwrap();
        u64::from_ne_bytes(word)
    }

    #[test]
    fn ringing_stores_to_one_page() {
        let file = pages(2);
        let receiver = Receiver::new(&file, 2, STRIDE).unwrap();

        receiver.ring(1).unwrap();
        assert_eq!(stored(&file, 0), 0);
        assert_ne!(stored(&file, 1), 0);
        receiver.store(1);
        assert_eq!(stored(&file, 1), 0);
    }

    #[test]
    fn a_doorbell_that_was_taken_back_is_an_error() {
        let file = pages(2);
        let receiver = Receiver::new(&file, 2, STRIDE).unwrap();

        ftruncate(&file, STRIDE).unwrap();
        receiver.ring(0).unwrap();
        let error = receiver.ring(1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    #[should_panic(expected = "doorbell 2 of 2")]
    fn there_are_no_more_doorbells() {
        let _ = Receiver::new(pages(2), 2, STRIDE).unwrap().ring(2);
    }

    #[test]
    fn a_file_of_another_kind_is_not_mapped() {
        let error = Receiver::map(pages(1)).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn what_is_no_doorbell_is_not_received() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let error = |socket: &UnixStream| Receiver::receive(socket).unwrap_err().kind();

        rustix::io::write(&ours, b"w").unwrap();
        assert_eq!(error(&theirs), io::ErrorKind::InvalidData);
        drop(ours);
        assert_eq!(error(&theirs), io::ErrorKind::UnexpectedEof);
    }
}
