// SPDX-License-Identifier: GPL-2.0

//! The host side of ivshmem: hands the machine the shared memory and the eventfds, and hears its
//! doorbell.
//!
//! Of ivshmem's peers the model is number 0, with one vector, its doorbell; the machine is number
//! 1, with the vectors of its MSI-X table. When one of them dies its connection closes, which tells
//! the other.

use std::{
    io::{
        self,
        Read, //
    },
    os::{
        fd::AsFd,
        unix::net::{
            UnixListener,
            UnixStream, //
        }, //
    },
    time::{
        Duration,
        Instant, //
    }, //
};

use crate::sys::{
    self,
    Event,
    Memory, //
};

const VERSION: i64 = 0;
const MODEL: i64 = 0;
const MACHINE: i64 = 1;
const SHARED_MEMORY: i64 = -1;

/// The time between two checks whether a vanished AFU is to return.
const AWAY: Duration = Duration::from_millis(10);

/// Why the model ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The machine is gone.
    Gone,
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Gone,
            _ => Self::Failed(error),
        }
    }
}

/// A machine that is connected.
pub(crate) struct Machine {
    stream: UnixStream,
    doorbell: Event,
    vectors: Vec<Event>,
}

impl Machine {
    /// Waits for the machine, and passes it the memory and that many vectors.
    pub(crate) fn accept(
        listener: &UnixListener,
        memory: &Memory,
        vectors: usize,
    ) -> Result<Self, End> {
        let machine = Self {
            doorbell: Event::new()?,
            vectors: (0..vectors)
                .map(|_| Event::new())
                .collect::<Result<_, _>>()?,
            stream: listener.accept()?.0,
        };

        machine.greet(memory)?;
        Ok(machine)
    }

    fn greet(&self, memory: &Memory) -> io::Result<()> {
        sys::send(&self.stream, VERSION, None)?;
        sys::send(&self.stream, MACHINE, None)?;
        sys::send(&self.stream, SHARED_MEMORY, Some(memory.file().as_fd()))?;
        sys::send(&self.stream, MODEL, Some(self.doorbell.as_fd()))?;
        self.vectors
            .iter()
            .try_for_each(|vector| sys::send(&self.stream, MACHINE, Some(vector.as_fd())))
    }

    /// Raises a vector of the machine.
    pub(crate) fn raise(&self, vector: usize) -> Result<(), End> {
        match self.vectors.get(vector) {
            Some(event) => Ok(event.signal()?),
            None => Ok(()),
        }
    }

    /// Returns how often the doorbell was rung, after waiting for that at most for `time`.
    pub(crate) fn hear(&self, time: Duration) -> Result<u64, End> {
        let [stream, doorbell] = sys::wait([self.stream.as_fd(), self.doorbell.as_fd()], time)?;

        if stream {
            self.still_there()?;
        }
        Ok(if doorbell { self.doorbell.take()? } else { 0 })
    }

    /// Hears nothing for some time, or until `is_over`.
    pub(crate) fn ignore(&self, time: Duration, is_over: impl Fn() -> bool) -> Result<(), End> {
        let begun = Instant::now();

        while let Some(left) = time.checked_sub(begun.elapsed()) {
            if is_over() {
                break;
            }
            if let [true] = sys::wait([self.stream.as_fd()], left.min(AWAY))? {
                self.still_there()?;
            }
        }
        Ok(())
    }

    /// The machine never sends anything, so a readable socket means its end.
    fn still_there(&self) -> Result<(), End> {
        match (&self.stream).read(&mut [0; 64])? {
            0 => Err(End::Gone),
            _ => Ok(()),
        }
    }
}
