// SPDX-License-Identifier: GPL-2.0

//! Why something could not be allocated, or given back.

use crate::bindings as extra;
use kernel::{
    fmt,
    prelude::*, //
};

/// The part that failed to quiesce, and so cannot be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuiesceError {
    /// The ESB of a source does not read PQ=01 after that was set.
    Source = extra::uxive_quiesce_UXIVE_QUIESCE_SOURCE as isize,
    /// Events of a source that is off reach the queue.
    Events = extra::uxive_quiesce_UXIVE_QUIESCE_EVENTS as isize,
    /// An escalation is on its way and does not arrive, or cannot be masked.
    Escalation = extra::uxive_quiesce_UXIVE_QUIESCE_ESCALATION as isize,
    /// An AFU does not confirm that a context is detached.
    Afu = extra::uxive_quiesce_UXIVE_QUIESCE_AFU as isize,
}

impl fmt::Display for QuiesceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "its ESB cannot be switched off",
            Self::Events => "its events keep coming",
            Self::Escalation => "its escalation does not go quiet",
            Self::Afu => "its AFU does not confirm that it was detached",
        })
    }
}

/// The resources of which firmware has a limited number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Sources of the chip that was asked for, or of any.
    Interrupt,
    /// VPs.
    VirtualProcessor,
    /// Messages of a PCI host bridge.
    Message,
}

/// Why something could not be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllocError {
    /// Firmware has no more: `ENOSPC`.
    Exhausted(Resource),
    /// Anything else. `ENOSPC` here is a limit of the driver.
    Other(Error),
}

impl From<Error> for AllocError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<kernel::alloc::AllocError> for AllocError {
    fn from(error: kernel::alloc::AllocError) -> Self {
        Self::Other(error.into())
    }
}

impl From<AllocError> for Error {
    fn from(refusal: AllocError) -> Self {
        match refusal {
            AllocError::Exhausted(_) => ENOSPC,
            AllocError::Other(error) => error,
        }
    }
}
