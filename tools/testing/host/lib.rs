// SPDX-License-Identifier: GPL-2.0

//! The driver's pure rooms, built for the host: for their unit tests, and for other uses without a
//! kernel.

#![allow(dead_code, reason = "the rooms that use it are not here")]

/// See `src/kernel`.
#[path = "."]
mod kernel_ext {
    #[path = "../../../src/kernel/chunks.rs"]
    pub(crate) mod chunks;

    pub(crate) mod clock {
        use std::time::{
            Duration,
            Instant, //
        };

        pub(crate) struct TimeSlice {
            length: Duration,
            begin: Option<Instant>,
        }

        impl TimeSlice {
            pub(crate) fn of_micros(micros: u32) -> Self {
                Self {
                    length: Duration::from_micros(micros.into()),
                    begin: None,
                }
            }

            pub(crate) fn is_over(&mut self) -> bool {
                match self.begin {
                    None => {
                        self.begin = Some(Instant::now());
                        false
                    }
                    Some(begin) => begin.elapsed() > self.length,
                }
            }
        }
    }

    pub(crate) mod irq {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Remaining {
            Nothing,
            Some,
        }
    }
}

#[path = "../../../src/command.rs"]
pub(crate) mod command;

#[path = "../../../src/layout.rs"]
pub(crate) mod layout;

// Paths in it are relative to this directory.
#[path = "."]
pub(crate) mod afu {
    #[path = "../../../src/afu/descriptor.rs"]
    pub(crate) mod descriptor;
}

#[path = "."]
mod queue {
    #[path = "../../../src/queue/cursor.rs"]
    mod cursor;
}

#[path = "../../../src/indices.rs"]
mod indices;

#[path = "../../../src/slots.rs"]
pub(crate) mod slots;

#[path = "../../../src/counter.rs"]
pub(crate) mod counter;

#[path = "../../../src/uapi.rs"]
mod uapi;

#[path = "."]
mod xive {
    #[path = "../../../src/xive/eisn.rs"]
    mod eisn;
    #[path = "../../../src/xive/vps.rs"]
    mod vps;

    pub(crate) use eisn::{
        QueueSize,
        SourceKind,
        MAX_SOURCES, //
    };
}
