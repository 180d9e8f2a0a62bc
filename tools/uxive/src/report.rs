// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Events of a context other than interrupts, as they are read from its file.

use crate::uapi::*;
use std::io;

/// An event of a context.
///
/// Reasons, resources and codes are those of `misc/uxive.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Report {
    /// An interrupt did not go quiet when it was freed. Its slot is not used again before
    /// [`Report::Released`].
    #[non_exhaustive]
    Quarantined {
        /// The slot that it had.
        slot: u32,
        /// `UXIVE_QUARANTINE_*`.
        reason: u64,
    },
    /// An interrupt has left quarantine.
    #[non_exhaustive]
    Released {
        /// The slot that it had.
        slot: u32,
    },
    /// The machine has no more of something, so a call failed.
    #[non_exhaustive]
    Exhausted {
        /// `UXIVE_RESOURCE_*`.
        resource: u64,
    },
    /// Events were dropped at this place, since there was no room.
    #[non_exhaustive]
    Dropped {
        /// How many are missing.
        count: u64,
    },
    /// The accelerator was asked to access memory that it must not.
    #[non_exhaustive]
    Fault {
        /// Offset in the context's MMIO, in bytes.
        address: u64,
        /// The accelerator's code for it.
        code: u64,
        /// How many such errors there were since the last report.
        count: u64,
    },
    /// The accelerator reported another error.
    #[non_exhaustive]
    AfuError {
        /// The accelerator's code for it.
        code: u64,
        /// How many errors there were since the last report.
        count: u64,
    },
    /// There is no accelerator any more. It is the last event.
    #[non_exhaustive]
    Gone {
        /// `UXIVE_GONE_*`.
        reason: u64,
    },
    /// The accelerator's message of an interrupt came too often, or the interrupts of an export.
    #[non_exhaustive]
    Storm {
        /// Its slot, or that of one of them.
        slot: u32,
        /// How often it came within a tenth of a second, or all of them together.
        count: u64,
        /// The number of the export, 0 for a message.
        export: u64,
    },
    /// Something that this library does not know.
    #[non_exhaustive]
    Other {
        /// `UXIVE_EVENT_*`.
        kind: u16,
        /// The body of the event, as the driver wrote it.
        body: [u64; 4],
    },
}

impl Report {
    /// Size of an event, a header of 8 bytes and its body.
    pub(crate) const BYTES: usize = 40;

    /// Decodes an event. `slot` returns the slot of an offset.
    pub(crate) fn new(
        bytes: &[u8; Self::BYTES],
        slot: impl FnOnce(u64) -> io::Result<u32>,
    ) -> io::Result<Self> {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..][..8]);
            u64::from_ne_bytes(word)
        };
        let kind = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let body = [word(1), word(2), word(3), word(4)];
        let [first, second, third, _] = body;

        Ok(match kind {
            0 => Self::Fault {
                address: first,
                code: second,
                count: third,
            },
            UXIVE_EVENT_QUARANTINED => Self::Quarantined {
                slot: slot(first)?,
                reason: second,
            },
            UXIVE_EVENT_RELEASED => Self::Released { slot: slot(first)? },
            UXIVE_EVENT_EXHAUSTED => Self::Exhausted { resource: first },
            UXIVE_EVENT_DROPPED => Self::Dropped { count: first },
            UXIVE_EVENT_AFU_ERROR => Self::AfuError {
                code: first,
                count: second,
            },
            UXIVE_EVENT_GONE => Self::Gone { reason: first },
            UXIVE_EVENT_STORM => Self::Storm {
                slot: slot(first)?,
                count: second,
                export: third,
            },
            kind => Self::Other { kind, body },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: u16, body: [u64; 4]) -> Report {
        let mut bytes = [0; Report::BYTES];

        bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        for (to, from) in bytes[8..].chunks_mut(8).zip(body) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        Report::new(&bytes, |offset| Ok(offset as u32 / 10)).unwrap()
    }

    #[test]
    fn events_are_told_by_their_type() {
        assert_eq!(
            report(0x40, [70, 2, 0, 0]),
            Report::Quarantined { slot: 7, reason: 2 }
        );
        assert_eq!(report(0x41, [20, 0, 0, 0]), Report::Released { slot: 2 });
        assert_eq!(report(0x43, [9, 0, 0, 0]), Report::Dropped { count: 9 });
        assert_eq!(
            report(0, [1, 2, 3, 0]),
            Report::Fault {
                address: 1,
                code: 2,
                count: 3
            }
        );
        assert_eq!(
            report(0x46, [30, 5, 6, 0]),
            Report::Storm {
                slot: 3,
                count: 5,
                export: 6
            }
        );
        assert_eq!(
            report(0x7f, [1, 2, 3, 4]),
            Report::Other {
                kind: 0x7f,
                body: [1, 2, 3, 4]
            }
        );
    }
}
