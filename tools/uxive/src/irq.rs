// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Owned interrupts: an [`Irq`] or [`Irqs`] rings, and nothing rings after it is freed.

use crate::{
    abi,
    context::Shared,
    esb,
    export::Export,
    uapi, //
};
use core::{
    num::NonZeroU32,
    ops::Range, //
};
use rustix::io::Errno;
use std::{
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd, //
    },
    sync::Arc,
    vec::Vec, //
};

/// Where an interrupt comes from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// The chip that the caller runs on, or another if that has none left.
    #[default]
    Any,
    /// The chip of this number, `physical_package_id` of its CPUs in sysfs, and no other.
    Chip(u32),
    /// The chips of the NUMA node of this number, and no other.
    Node(u32),
}

impl Origin {
    pub(crate) fn flags(self) -> (u32, u32) {
        match self {
            Self::Any => (0, 0),
            Self::Chip(chip) => (uapi::UXIVE_ALLOC_CHIP, chip),
            Self::Node(node) => (uapi::UXIVE_ALLOC_NODE, node),
        }
    }
}

/// Options for allocating many interrupts. Later versions may have more: the rest is
/// `..Default::default()`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Batch<'a> {
    /// Where they come from.
    pub origin: Origin,
    /// The first slot; `None` takes the lowest range that is free.
    pub start: Option<u32>,
    /// The eventfd of each interrupt, or `None`. Empty: no interrupt has one.
    pub events: &'a [Option<BorrowedFd<'a>>],
}

/// Which of many interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Which<'a> {
    /// All of them.
    All,
    /// Each for which there is `true`, from the first one on.
    Each(&'a [bool]),
}

/// Interrupts in consecutive slots, freed when they are dropped.
#[derive(Debug)]
struct Owned {
    shared: Arc<Shared>,
    slots: Range<u32>,
}

impl Owned {
    fn release(&mut self) -> io::Result<()> {
        let Range { start, end } = core::mem::take(&mut self.slots);

        match end - start {
            0 => Ok(()),
            1 => {
                let offset = self.shared.offset(start);
                abi::call(&self.shared, &mut abi::IrqFree { offset })
            }
            count => {
                let mut argument = abi::IrqFreeMany {
                    size: abi::size::<abi::IrqFreeMany>(),
                    start,
                    count,
                    ..Default::default()
                };
                abi::call(&self.shared, &mut argument)
            }
        }
    }

    #[inline]
    fn ring(&self, slot: u32) {
        // SAFETY: The page is part of the mapping, which is for writing and lives as long as
        // `shared`. All pages of a context that a program can write are a device's.
        unsafe { esb::ring(self.shared.page(slot)) };
    }

    fn bind(&self, slot: u32, eventfd: i32) -> io::Result<()> {
        let mut argument = abi::IrqSetFd {
            offset: self.shared.offset(slot),
            eventfd,
            ..Default::default()
        };

        abi::call(&self.shared, &mut argument)
    }

    /// Calls `UXIVE_IOC_SET_IRQS` for `count` slots from `start` on.
    fn set(&self, flags: u32, start: u32, count: u32, data: u64) -> io::Result<()> {
        let mut argument = abi::SetIrqs {
            size: abi::size::<abi::SetIrqs>(),
            flags,
            start,
            count,
            data,
        };

        abi::call(&self.shared, &mut argument)
    }

    fn act(&self, action: u32, which: Which<'_>) -> io::Result<()> {
        let Range { start, end } = self.slots;

        match which {
            Which::All => self.set(uapi::UXIVE_SET_DATA_NONE | action, start, end - start, 0),
            Which::Each(flags) => {
                let count = within(&self.slots, 0, flags.len())?;
                // The kernel reads bytes that are 0 or not, which `bool` is.
                let data = flags.as_ptr() as u64;
                self.set(uapi::UXIVE_SET_DATA_BOOL | action, start, count, data)
            }
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // An error means that the interrupts were freed already, by another process or with the
        // accelerator.
        let _ = self.release();
    }
}

/// Returns `count` if that many slots from the `first` on are of `slots`.
fn within(slots: &Range<u32>, first: u32, count: usize) -> io::Result<u32> {
    u32::try_from(count)
        .ok()
        .filter(|&count| {
            first
                .checked_add(count)
                .is_some_and(|end| end <= slots.end - slots.start)
        })
        .ok_or_else(|| Errno::INVAL.into())
}

/// Returns the descriptors as the driver takes them.
fn raw(events: &[Option<BorrowedFd<'_>>]) -> Vec<i32> {
    let raw = |event: &Option<BorrowedFd<'_>>| event.map_or(-1, |event| event.as_raw_fd());

    events.iter().map(raw).collect()
}

/// An interrupt, freed when it is dropped.
///
/// All threads can ring it: they borrow it, or have an [`Arc`] of it. There are two exceptions, in
/// which ringing raises `SIGBUS`: another process that has the context's file has freed the
/// interrupt, or the context's accelerator is gone.
#[derive(Debug)]
pub struct Irq(Owned);

impl Irq {
    pub(crate) fn new(shared: &Arc<Shared>, offset: u64) -> io::Result<Self> {
        let slot = shared.slot(offset)?;

        Ok(Self(Owned {
            shared: shared.clone(),
            slots: slot..slot + 1,
        }))
    }

    /// Returns its slot in the context.
    pub fn slot(&self) -> u32 {
        self.0.slots.start
    }

    /// Returns the offset of its trigger page, which names it in the driver's ioctls.
    pub fn offset(&self) -> u64 {
        self.0.shared.offset(self.slot())
    }

    /// Rings. All that the thread wrote before is visible to the thread that takes the event.
    #[inline]
    pub fn ring(&self) {
        self.0.ring(self.0.slots.start);
    }

    /// Has the interrupt signal an eventfd, instead of the one before if there was one.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_SET_FD`.
    pub fn bind(&self, event: impl AsFd) -> io::Result<()> {
        self.0.bind(self.slot(), event.as_fd().as_raw_fd())
    }

    /// As [`Irq::bind`], but a guest of KVM that has an irqfd of the eventfd is given the interrupt, by irq
    /// bypass. It is taken from the guest when it is bound anew, unbound or freed.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`.
    pub fn bind_bypass(&self, event: impl AsFd) -> io::Result<()> {
        let events = [event.as_fd().as_raw_fd()];

        self.0.set(
            uapi::UXIVE_SET_DATA_EVENTFD | uapi::UXIVE_SET_TRIGGER | uapi::UXIVE_SET_BYPASS,
            self.slot(),
            1,
            events.as_ptr() as u64,
        )
    }

    /// Has the interrupt signal nothing.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_SET_FD`.
    pub fn unbind(&self) -> io::Result<()> {
        self.0.bind(self.slot(), -1)
    }

    /// Holds the interrupt back until it is unmasked. At most two events come then: one for all rings
    /// while it was masked, and one if an event was under way when it was masked.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`.
    pub fn mask(&self) -> io::Result<()> {
        self.0.act(uapi::UXIVE_SET_MASK, Which::All)
    }

    /// Undoes [`Irq::mask`].
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`.
    pub fn unmask(&self) -> io::Result<()> {
        self.0.act(uapi::UXIVE_SET_UNMASK, Which::All)
    }

    /// Returns an export of its doorbell, for another program.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_EXPORT`.
    pub fn export(&self) -> io::Result<Export> {
        Export::new(&self.0.shared, self.slot(), 1, 0)
    }

    /// As [`Irq::export`], but the interrupt comes no more than `max_rate` times in a second as long as
    /// there is the export, if root allows as many. If it is rung more often it comes late.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_EXPORT`.
    pub fn export_limited(&self, max_rate: NonZeroU32) -> io::Result<Export> {
        Export::new(&self.0.shared, self.slot(), 1, max_rate.get())
    }

    /// Frees the interrupt, which dropping does as well, and says whether that worked.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_FREE`: `EINVAL` if another process has freed it.
    pub fn free(mut self) -> io::Result<()> {
        self.0.release()
    }
}

/// An interrupt that only an accelerator can raise, by a message; freed when it is dropped.
#[derive(Debug)]
pub struct Message {
    owned: Owned,
    slot: u32,
}

impl Message {
    pub(crate) fn new(shared: &Arc<Shared>, offset: u64, slot: u32) -> io::Result<Self> {
        let index = shared.slot(offset)?;

        Ok(Self {
            owned: Owned {
                shared: shared.clone(),
                slots: index..index + 1,
            },
            slot,
        })
    }

    /// Returns its message slot, by which the accelerator knows it.
    pub fn message_slot(&self) -> u32 {
        self.slot
    }

    /// Returns the offset that names it in the driver's ioctls. No page is there.
    pub fn offset(&self) -> u64 {
        self.owned.shared.offset(self.owned.slots.start)
    }

    /// Has it signal an eventfd, instead of the one before if there was one.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_SET_FD`.
    pub fn bind(&self, event: impl AsFd) -> io::Result<()> {
        let fd = event.as_fd().as_raw_fd();

        self.owned.bind(self.owned.slots.start, fd)
    }

    /// Has it signal nothing.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_SET_FD`.
    pub fn unbind(&self) -> io::Result<()> {
        self.owned.bind(self.owned.slots.start, -1)
    }

    /// Has the kernel raise it, as the accelerator does.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`.
    pub fn raise(&self) -> io::Result<()> {
        self.owned.act(uapi::UXIVE_SET_TRIGGER, Which::All)
    }

    /// Holds it back until it is unmasked, as [`Irq::mask`] does.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`.
    pub fn mask(&self) -> io::Result<()> {
        self.owned.act(uapi::UXIVE_SET_MASK, Which::All)
    }

    /// Undoes [`Message::mask`].
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`.
    pub fn unmask(&self) -> io::Result<()> {
        self.owned.act(uapi::UXIVE_SET_UNMASK, Which::All)
    }

    /// Frees it, which dropping does as well, and says whether that worked. The accelerator has sent
    /// the last message when this returns.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_FREE`.
    pub fn free(mut self) -> io::Result<()> {
        self.owned.release()
    }
}

/// Interrupts in consecutive slots, freed when they are dropped.
///
/// They are named by their index here, from 0 on. Ringing has the two exceptions of [`Irq`].
#[derive(Debug)]
pub struct Irqs(Owned);

impl Irqs {
    pub(crate) fn new(shared: &Arc<Shared>, count: u32, batch: &Batch<'_>) -> io::Result<Self> {
        let (mut flags, chip) = batch.origin.flags();
        let events = raw(batch.events);

        if batch.start.is_some() {
            flags |= uapi::UXIVE_ALLOC_AT;
        }
        if !events.is_empty() && events.len() != count as usize {
            return Err(Errno::INVAL.into());
        }
        let mut argument = abi::IrqAllocMany {
            size: abi::size::<abi::IrqAllocMany>(),
            flags,
            chip,
            count,
            start: batch.start.unwrap_or(0),
            eventfds: match events.as_slice() {
                [] => 0,
                events => events.as_ptr() as u64,
            },
            ..Default::default()
        };

        abi::call(shared, &mut argument)?;
        Ok(Self(Owned {
            shared: shared.clone(),
            slots: argument.start..argument.start.saturating_add(count),
        }))
    }

    /// Returns how many there are.
    pub fn count(&self) -> u32 {
        self.0.slots.end - self.0.slots.start
    }

    /// Returns their slots in the context.
    pub fn slots(&self) -> Range<u32> {
        self.0.slots.clone()
    }

    #[inline]
    fn slot(&self, index: u32) -> u32 {
        assert!(
            index < self.count(),
            "interrupt {index} of {}",
            self.count()
        );
        self.0.slots.start + index
    }

    /// Rings one. All that the thread wrote before is visible to the thread that takes the event.
    ///
    /// # Panics
    ///
    /// If there is none of this index.
    #[inline]
    pub fn ring(&self, index: u32) {
        self.0.ring(self.slot(index));
    }

    /// Binds each from the `first` on to its eventfd, or to none, in place of the one before: all
    /// or none.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`; `EINVAL` if there are not as many.
    pub fn bind(&self, first: u32, events: &[Option<BorrowedFd<'_>>]) -> io::Result<()> {
        let count = within(&self.0.slots, first, events.len())?;
        let events = raw(events);

        self.0.set(
            uapi::UXIVE_SET_DATA_EVENTFD | uapi::UXIVE_SET_TRIGGER,
            self.0.slots.start + first,
            count,
            events.as_ptr() as u64,
        )
    }

    /// Has the kernel ring some of them.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`; `EINVAL` if there are not as many.
    pub fn raise(&self, which: Which<'_>) -> io::Result<()> {
        self.0.act(uapi::UXIVE_SET_TRIGGER, which)
    }

    /// Holds some of them back until they are unmasked. At most two events of each come then: one for
    /// all rings while it was masked, and one if an event was under way when it was masked.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`; `EINVAL` if there are not as many.
    pub fn mask(&self, which: Which<'_>) -> io::Result<()> {
        self.0.act(uapi::UXIVE_SET_MASK, which)
    }

    /// Undoes [`Irqs::mask`] for some of them.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_SET_IRQS`; `EINVAL` if there are not as many.
    pub fn unmask(&self, which: Which<'_>) -> io::Result<()> {
        self.0.act(uapi::UXIVE_SET_UNMASK, which)
    }

    /// Returns an export of the doorbells of all of them, for another program.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_EXPORT`.
    pub fn export(&self) -> io::Result<Export> {
        Export::new(&self.0.shared, self.0.slots.start, self.count(), 0)
    }

    /// As [`Irqs::export`], but all of them together come no more than `max_rate` times in a second as
    /// long as there is the export, if root allows as many. If they are rung more often they come late.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_EXPORT`.
    pub fn export_limited(&self, max_rate: NonZeroU32) -> io::Result<Export> {
        Export::new(
            &self.0.shared,
            self.0.slots.start,
            self.count(),
            max_rate.get(),
        )
    }

    /// Frees them, which dropping does as well, and says whether that worked.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_IRQ_FREE_MANY`: `EINVAL` if another process has freed one of them.
    pub fn free(mut self) -> io::Result<()> {
        self.0.release()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_are_those_that_are_owned() {
        for (first, count, result) in [
            (0, 0, Some(0)),
            (0, 4, Some(4)),
            (3, 1, Some(1)),
            (4, 0, Some(0)),
            (0, 5, None),
            (4, 1, None),
            (u32::MAX, 1, None),
            (0, 1 << 32, None),
        ] {
            assert_eq!(within(&(10..14), first, count).ok(), result);
        }
    }

    #[test]
    fn no_descriptor_is_minus_one() {
        let event = crate::Event::new().unwrap();
        let fd = event.as_fd();

        assert_eq!(raw(&[None, Some(fd)]), [-1, fd.as_raw_fd()]);
    }
}
