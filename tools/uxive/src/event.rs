// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Event counters, which interrupts signal and programs wait for.

use core::time::Duration;
use rustix::{
    event::{
        eventfd,
        EventfdFlags, //
    },
    io::read, //
};
use std::{
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd,
        OwnedFd, //
    }, //
};

/// Waits until the file can be read. Returns whether it can, or the time is up.
pub(crate) fn wait(file: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounds up: a short wait must not become none.
    let timeout = timeout.map_or(-1, |time| {
        i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });

    // SAFETY: There is one entry, which the kernel writes.
    match unsafe { libc::poll(&mut entry, 1, timeout) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}

/// An eventfd.
#[derive(Debug)]
pub struct Event {
    file: OwnedFd,
}

impl Event {
    /// Returns a new one, which has counted nothing.
    ///
    /// # Errors
    ///
    /// Those of `eventfd()`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            file: eventfd(0, EventfdFlags::CLOEXEC)?,
        })
    }

    /// Blocks until something was counted. Returns the count, which begins anew, or `None` when the
    /// time is up.
    ///
    /// Only one thread at a time should wait: another may take the count first.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Interrupted`] when a signal was handled.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<u64>> {
        let mut count = [0; 8];

        if !wait(self.as_fd(), timeout)? {
            return Ok(None);
        }
        // An eventfd has 8 bytes, or an error.
        read(&self.file, &mut count)?;
        Ok(Some(u64::from_ne_bytes(count)))
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::write;

    #[test]
    fn waiting_ends_with_the_time_or_a_count() {
        let event = Event::new().unwrap();
        let wait = || event.wait(Some(Duration::from_nanos(1))).unwrap();

        assert_eq!(wait(), None);
        write(&event, &3u64.to_ne_bytes()).unwrap();
        assert_eq!(wait(), Some(3));
        assert_eq!(wait(), None);
    }
}
