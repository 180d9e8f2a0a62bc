// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Event counters, which interrupts signal and programs wait for.

use crate::sys;
use std::{
    fs::File,
    io::{
        self,
        Read, //
    },
    os::fd::{
        AsFd,
        BorrowedFd, //
    },
    time::Duration, //
};

/// An eventfd.
#[derive(Debug)]
pub struct Event {
    file: File,
}

impl Event {
    /// Returns a new one, which has counted nothing.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            file: sys::new_eventfd()?,
        })
    }

    /// Blocks until something was counted. Returns the count, which begins anew, or `None` when the
    /// time is up.
    ///
    /// Fails with [`io::ErrorKind::Interrupted`] when a signal was handled. One thread at a time is
    /// to wait: another may have taken the count before.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<u64>> {
        let mut count = [0; 8];

        if !sys::wait_readable(self.as_fd(), timeout)? {
            return Ok(None);
        }
        (&self.file).read_exact(&mut count)?;
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
    use std::io::Write;

    #[test]
    fn waiting_ends_with_the_time_or_a_count() {
        let event = Event::new().unwrap();
        let wait = || event.wait(Some(Duration::from_nanos(1))).unwrap();

        assert_eq!(wait(), None);
        (&event.file).write_all(&3u64.to_ne_bytes()).unwrap();
        assert_eq!(wait(), Some(3));
        assert_eq!(wait(), None);
    }
}
