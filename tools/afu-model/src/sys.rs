// SPDX-License-Identifier: GPL-2.0

//! Shared memory, eventfds and descriptors sent over a socket, which `std` lacks. All unsafe code
//! of the model is here.
//!
//! The machine may change the shared memory at any time, so it is only ever accessed by atomics;
//! no reference to plain memory leaves this file.

#[cfg(test)]
use rustix::net::{
    recvmsg,
    RecvAncillaryBuffer,
    RecvAncillaryMessage,
    RecvFlags, //
};
use rustix::{
    cmsg_space,
    event::{
        eventfd,
        EventfdFlags, //
    },
    fs::{
        fcntl_add_seals,
        memfd_create,
        MemfdFlags,
        SealFlags, //
    },
    mm::{
        mmap,
        munmap,
        MapFlags,
        ProtFlags, //
    },
    net::{
        sendmsg,
        SendAncillaryBuffer,
        SendAncillaryMessage,
        SendFlags, //
    },
    process::{
        getrlimit,
        setrlimit,
        Resource,
        Rlimit, //
    }, //
};
#[cfg(test)]
use std::io::IoSliceMut;
use std::{
    fs::File,
    io::{
        self,
        IoSlice,
        Read,
        Write, //
    },
    os::{
        fd::{
            AsFd,
            AsRawFd,
            BorrowedFd, //
        },
        unix::net::UnixStream, //
    },
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        AtomicU64,
        AtomicU8,
        Ordering::Relaxed, //
    },
    time::Duration, //
};

/// Memory that is shared with the machine.
///
/// # Invariants
///
/// `length` bytes at `address`, which is aligned to a page, are a shared mapping of `file`, which
/// belongs to this object.
pub(crate) struct Memory {
    address: NonNull<u8>,
    length: usize,
    file: File,
}

// SAFETY: A mapping belongs to the process, not to a thread.
unsafe impl Send for Memory {}

// SAFETY: It is accessed by atomics only.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes new memory of zeros, of `length` bytes.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("afu-model", flags)?);

        file.set_len(length as u64)?;
        // Without seals a process that has the descriptor could truncate the memory under the
        // model.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        Self::map(file)
    }

    /// Maps the whole of a file.
    pub(crate) fn map(file: File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;

        // SAFETY: Without `MapFlags::FIXED` the kernel chooses an address that nothing is at.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        // INVARIANT: The kernel has mapped that for us. It maps nothing at 0 that was not asked for.
        Ok(Self {
            address: NonNull::new(address.cast())
                .ok_or(io::Error::from(io::ErrorKind::AddrNotAvailable))?,
            length,
            file,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the address of `length` bytes at the offset `at`. The model must keep them aligned
    /// and in the memory whatever the machine has written, hence the panic.
    fn at(&self, at: usize, length: usize, align: usize) -> NonNull<u8> {
        let end = at.checked_add(length);

        assert!(end.is_some_and(|end| end <= self.length) && at.is_multiple_of(align));
        // SAFETY: By the type invariants and the check above it lies in the mapping.
        unsafe { self.address.add(at) }
    }

    pub(crate) fn u32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: The mapping lives as long as `self`, the address is aligned, and all accesses
        // are atomic.
        unsafe { AtomicU32::from_ptr(self.at(at, 4, 4).cast().as_ptr()) }
    }

    pub(crate) fn u64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: As in `u32`.
        unsafe { AtomicU64::from_ptr(self.at(at, 8, 8).cast().as_ptr()) }
    }

    fn bytes(&self, at: usize, length: usize) -> &[AtomicU8] {
        let address = self.at(at, length, 1).cast::<AtomicU8>();

        // SAFETY: As in `u32`; an `AtomicU8` has the layout of a byte.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), length) }
    }

    pub(crate) fn read(&self, at: usize, to: &mut [u8]) {
        let from = self.bytes(at, to.len());
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.load(Relaxed);
        }
    }

    pub(crate) fn write(&self, at: usize, from: &[u8]) {
        for (to, from) in self.bytes(at, from.len()).iter().zip(from) {
            to.store(*from, Relaxed);
        }
    }

    pub(crate) fn fill(&self, at: usize, length: usize, value: u8) {
        for to in self.bytes(at, length) {
            to.store(value, Relaxed);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the mapping is ours, and its users borrow this object.
        let unmapped = unsafe { munmap(self.address.as_ptr().cast(), self.length) };

        debug_assert!(unmapped.is_ok());
    }
}

/// An eventfd, which never blocks: the machine sets that on the shared description anyway.
pub(crate) struct Event(File);

impl Event {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;

        Ok(Self(eventfd(0, flags)?.into()))
    }

    #[cfg(test)]
    pub(crate) fn received(file: File) -> Self {
        Self(file)
    }

    /// Counts one more; nothing if it is full, for then it is signalled anyway.
    pub(crate) fn signal(&self) -> io::Result<()> {
        match (&self.0).write(&1u64.to_ne_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns what it counts, and makes that 0.
    pub(crate) fn take(&self) -> io::Result<u64> {
        let mut count = [0; 8];

        match (&self.0).read(&mut count) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Err(_) => Ok(0),
            Ok(_) => Ok(u64::from_ne_bytes(count)),
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a number as ivshmem's protocol has it, with a descriptor or without.
pub(crate) fn send(stream: &UnixStream, number: i64, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = number.to_le_bytes();
    let mut space = [0; cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = fd.map(|fd| [fd]);

    if let Some(files) = &files {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    let data = [IoSlice::new(&bytes)];
    match sendmsg(stream, &data, &mut control, SendFlags::NOSIGNAL)? {
        8 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The other side of [`send`].
#[cfg(test)]
pub(crate) fn receive(stream: &UnixStream) -> io::Result<(i64, Option<File>)> {
    let mut bytes = [0; 8];
    let mut space = [0; cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut bytes)];

    let flags = RecvFlags::WAITALL | RecvFlags::CMSG_CLOEXEC;
    if recvmsg(stream, &mut data, &mut control, flags)?.bytes != 8 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((i64::from_le_bytes(bytes), file.map(File::from)))
}

/// Waits until a stream has something to read or has lost its other end, or until the time is up.
/// Returns of each stream whether that is so.
pub(crate) fn wait<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    time: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // The model looks at its memory each 50 µs when it is in use, and poll() has milliseconds.
    let time = libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };

    // SAFETY: `polled` has that many entries; the kernel only reads `time`, and there is no mask.
    let ready = unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            N as libc::nfds_t,
            &time,
            std::ptr::null(),
        )
    };
    match ready {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(polled.map(|each| each.revents != 0)),
    }
}

/// Raises the limit of open files as far as it goes, and returns it.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);

    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    // None is no limit.
    Ok(maximum.unwrap_or(u64::MAX))
}
