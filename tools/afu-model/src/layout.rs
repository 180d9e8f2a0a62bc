// SPDX-License-Identifier: GPL-2.0

//! Where things lie in the shared memory, which the machine sees as BAR 2, and the descriptor that
//! says so. Pure arithmetic; all offsets are in bytes.
//!
//! ```text
//!     0x00000  configuration page: descriptor, reset and ping
//!     0x10000  control blocks of the contexts, then the cookies of the slots
//!     0x20000  global MMIO
//!     0x30000  MMIO of the contexts, each with a page behind it that is nobody's
//! ```

use std::ops::Range;

pub(crate) const NAME: &str = "IBM,MEMCPY3";
/// MSI-X has no more vectors, and the first one is the machine's.
const MAX_ENTRIES: u32 = 2047;
const MAX_CONTEXTS: u32 = 512;

const PAGE: usize = 0x10000;
const CONTROL: usize = PAGE;
pub(crate) const GLOBAL: usize = 2 * PAGE;
const MMIO: usize = 3 * PAGE;
pub(crate) const MMIO_SIZE: usize = 4 * PAGE;
// The distance differs from the size: a driver that mixes them up, or maps a page too much, is
// found out.
const MMIO_STRIDE: usize = MMIO_SIZE + PAGE;

pub(crate) const DESCRIPTOR_SIZE: usize = 256;
pub(crate) const FLAGS: usize = 0x0c;
const NO_DMA: u32 = 1;

/// Registers in the configuration page.
pub(crate) const RESET: usize = 0x100;
pub(crate) const RESET_DONE: usize = 0x104;
pub(crate) const PING: usize = 0x108;
pub(crate) const PONG: usize = 0x10c;

/// In a context's control block.
const CONTROL_SIZE: usize = 64;
pub(crate) mod control {
    pub(crate) const REQUEST: usize = 0x00;
    pub(crate) const STATE: usize = 0x04;
    pub(crate) const PASID: usize = 0x08;
    pub(crate) const ERRORS: usize = 0x0c;
    pub(crate) const ERROR_KIND: usize = 0x10;
    pub(crate) const ERROR_ADDRESS: usize = 0x18;
    pub(crate) const ERROR_CODE: usize = 0x20;
}

/// In a context's MMIO.
pub(crate) mod mmio {
    pub(crate) const TAIL: usize = 0x0000;
    pub(crate) const HEAD: usize = 0x0008;
    pub(crate) const PASID: usize = 0x0010;
    pub(crate) const DATA_OFFSET: usize = 0x0018;
    pub(crate) const DATA_SIZE: usize = 0x0020;
    pub(crate) const HANDLE: usize = 0x0400;
    pub(crate) const HANDLES: usize = 256;
    pub(crate) const COMMAND: usize = 0x1000;
    pub(crate) const COMMANDS: u64 = 64;
    pub(crate) const DATA: usize = super::PAGE;
    pub(crate) const DATA_LENGTH: usize = super::MMIO_SIZE - DATA;
}

/// In a command.
pub(crate) mod command {
    pub(crate) const SIZE: usize = 64;
    pub(crate) const OPCODE: usize = 0x00;
    pub(crate) const QUEUE: usize = 0x04;
    pub(crate) const SOURCE: usize = 0x08;
    pub(crate) const DESTINATION: usize = 0x10;
    pub(crate) const LENGTH: usize = 0x18;
    pub(crate) const VALUE: usize = 0x20;
    pub(crate) const HANDLE: usize = 0x28;
    pub(crate) const RESULT: usize = 0x30;
    pub(crate) const STATUS: usize = 0x38;
}

/// In the global MMIO.
pub(crate) mod global {
    pub(crate) const DOORBELLS: usize = 0x00;
    pub(crate) const COMPLETED: usize = 0x08;
    pub(crate) const MISBEHAVE: usize = 0x10;
    pub(crate) const GO: usize = 0x14;
    pub(crate) const ARGUMENT: usize = 0x18;
    pub(crate) const ARGUMENT2: usize = 0x20;
    pub(crate) const GO_DONE: usize = 0x28;
}

/// The layout for a number of contexts, with a number of message slots each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    contexts: u32,
    slots: u32,
}

impl Layout {
    /// Returns an error, with the reason, if there is no layout for these numbers.
    pub(crate) fn new(contexts: u32, slots: u32) -> Result<Self, String> {
        if !(1..=MAX_CONTEXTS).contains(&contexts) {
            return Err(format!("contexts: 1 to {MAX_CONTEXTS}, not {contexts}"));
        }
        if contexts
            .checked_mul(slots)
            .is_none_or(|all| all > MAX_ENTRIES)
        {
            return Err(format!("contexts * slots: at most {MAX_ENTRIES}"));
        }
        Ok(Self { contexts, slots })
    }

    pub(crate) fn contexts(&self) -> usize {
        self.contexts as usize
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots as usize
    }

    pub(crate) fn entries(&self) -> usize {
        self.contexts() * self.slots()
    }

    /// Vectors of MSI-X: entry n of the store is that of vector n + 1.
    pub(crate) fn vectors(&self) -> usize {
        self.entries() + 1
    }

    /// A BAR is a power of two.
    pub(crate) fn size(&self) -> usize {
        (MMIO + self.contexts() * MMIO_STRIDE).next_power_of_two()
    }

    pub(crate) fn control(&self, context: usize) -> usize {
        CONTROL + context * CONTROL_SIZE
    }

    pub(crate) fn cookie(&self, entry: usize) -> usize {
        self.control(self.contexts()) + entry * 8
    }

    pub(crate) fn mmio(&self, context: usize) -> usize {
        MMIO + context * MMIO_STRIDE
    }

    /// The entry of the store of a context's slot, if it has such a slot.
    pub(crate) fn entry(&self, context: usize, slot: u64) -> Option<usize> {
        let slot = usize::try_from(slot).ok()?;

        (context < self.contexts() && slot < self.slots()).then(|| context * self.slots() + slot)
    }

    pub(crate) fn descriptor(&self) -> [u8; DESCRIPTOR_SIZE] {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);

        put(0x00, b"UXIVEAFU");
        put(0x08, &1u16.to_le_bytes());
        put(0x0a, &[1, 0]);
        put(FLAGS, &NO_DMA.to_le_bytes());
        put(0x10, NAME.as_bytes());
        put(0x28, &self.contexts.to_le_bytes());
        put(0x2c, &self.slots.to_le_bytes());
        for (at, offset) in [
            (0x30, MMIO),
            (0x38, MMIO_SIZE),
            (0x40, MMIO_STRIDE),
            (0x48, GLOBAL),
            (0x50, PAGE),
            (0x58, self.control(0)),
            (0x60, self.cookie(0)),
            (0x70, 16), // behind the entry of the machine's vector
        ] {
            put(at, &(offset as u64).to_le_bytes());
        }
        put(0x68, &1u32.to_le_bytes());
        // The doorbell is a register of ivshmem; its value names peer 0, the model, and vector 0.
        put(0x78, &0u32.to_le_bytes());
        put(0x7c, &12u32.to_le_bytes());
        put(0x80, &0u32.to_le_bytes());
        bytes
    }
}

/// Returns the range of a command's bytes in a context's MMIO if all lie in its data area; else the
/// offset of the first byte that does not.
pub(crate) fn data(start: u64, length: u64) -> Result<Range<usize>, u64> {
    let size = mmio::DATA_LENGTH as u64;

    if start <= size && length <= size - start {
        let start = mmio::DATA + start as usize;
        return Ok(start..start + length as usize);
    }
    Err((mmio::DATA as u64).saturating_add(start.max(size)))
}
