// SPDX-License-Identifier: GPL-2.0

//! Shared memory, eventfds and descriptors sent over a socket, which `std` lacks. All unsafe code
//! of the model is here.
//!
//! The machine may change the shared memory at any time, so it is only ever accessed by atomics;
//! no reference to plain memory leaves this file.

use std::{
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    os::{
        fd::{
            AsFd,
            AsRawFd,
            BorrowedFd,
            FromRawFd, //
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

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

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
        // SAFETY: The name is a C string.
        let fd = check(unsafe {
            libc::memfd_create(
                c"afu-model".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        })?;
        // SAFETY: The descriptor is new, so nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };

        file.set_len(length as u64)?;
        // Without seals a process that has the descriptor could truncate the memory under the
        // model.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        // SAFETY: This command takes a number.
        check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) })?;
        Self::map(file)
    }

    /// Maps the whole of a file.
    pub(crate) fn map(file: File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;

        // SAFETY: Without `MAP_FIXED` the kernel chooses an address that nothing is at.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
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
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// An eventfd, which never blocks: the machine sets that on the shared description anyway.
pub(crate) struct Event(File);

impl Event {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: The function has no preconditions.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;

        // SAFETY: The descriptor is new, so nobody else owns it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
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

/// Room for the control message of one descriptor, aligned as its header must be.
#[derive(Default)]
struct Control([u64; 4]);

impl Control {
    fn message(&mut self, data: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: Zeros are a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };

        message.msg_iov = data;
        message.msg_iovlen = 1;
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&self.0);
        message
    }
}

/// Sends a number as ivshmem's protocol has it, with a descriptor or without.
pub(crate) fn send(stream: &UnixStream, number: i64, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = number.to_le_bytes();
    let mut data = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control::default();
    let mut message = control.message(&mut data);

    if let Some(fd) = fd {
        // SAFETY: The function only calculates.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
        // SAFETY: `message` has room for a header and four bytes, which this fills; `control` is
        // aligned for them.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header).cast::<i32>().write(fd.as_raw_fd());
        }
    } else {
        message.msg_controllen = 0;
    }
    // SAFETY: `message` and what it points to are valid during the call.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    match sent {
        ..0 => Err(io::Error::last_os_error()),
        8 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The other side of [`send`].
#[cfg(test)]
pub(crate) fn receive(stream: &UnixStream) -> io::Result<(i64, Option<File>)> {
    let mut bytes = [0; 8];
    let mut data = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control::default();
    let mut message = control.message(&mut data);

    let flags = libc::MSG_WAITALL | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` and what it points to are valid during the call.
    let received = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, flags) };
    if received != 8 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The kernel has written valid control messages, and room is there for one descriptor.
    let file = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (!header.is_null()).then(|| {
            // A descriptor that came by a message is new, so nobody else owns it.
            File::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read())
        })
    };
    Ok((i64::from_le_bytes(bytes), file))
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
    let time = libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };

    // SAFETY: `polled` has that many entries; the kernel only reads `time`, and there is no mask.
    check(unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            N as libc::nfds_t,
            &time,
            std::ptr::null(),
        )
    })?;
    Ok(polled.map(|each| each.revents != 0))
}

/// Raises the limit of open files as far as it goes, and returns it.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };

    // SAFETY: `limit` is valid for writing.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid for reading.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}
