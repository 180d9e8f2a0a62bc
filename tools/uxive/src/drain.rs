// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A context whose program drains the event queue by itself.

use crate::{
    abi,
    context::{
        extent,
        info,
        Context,
        Info, //
    },
    doorbell::Doorbell,
    esb::Esbs,
    event::Event,
    export::Export,
    mapping::Mapping,
    queue::Queue,
    report::Report,
    uapi, //
};
use core::{
    sync::atomic::AtomicU32,
    time::Duration, //
};
use rustix::{
    io::Errno,
    mm::ProtFlags, //
};
use std::{
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd, //
    },
    sync::Arc, //
};

/// The mapped event queue.
///
/// # Invariants
///
/// `entries` entries are mapped readable at the beginning of `mapping`.
#[derive(Debug)]
struct Entries {
    mapping: Mapping,
    entries: usize,
}

impl AsRef<[AtomicU32]> for Entries {
    #[inline]
    fn as_ref(&self) -> &[AtomicU32] {
        // SAFETY: By the type invariants the memory is mapped while `self` is borrowed,
        // page-aligned and thus aligned, and any bytes are valid entries. Only hardware writes it,
        // a whole entry at once, as atomics may change. Loads of this size need not write.
        unsafe { core::slice::from_raw_parts(self.mapping.address().cast().as_ptr(), self.entries) }
    }
}

/// A context that drains its own event queue, with interrupts in the slots from 0 on.
///
/// The pages of all slots are mapped, which takes addresses and no memory, because an accelerator
/// may raise interrupts that the program has allocated by other means.
///
/// Ringing has the two exceptions of [`Irq`](crate::Irq), and [`Drain::eoi`] has them as well: they
/// raise `SIGBUS` when another process that has the context's file has freed the interrupt, or the
/// context's accelerator is gone.
///
/// A program that also waits for other descriptors calls [`Drain::arm_and_look`] until that returns
/// `None`, and then blocks for all of them and [`Drain::event`]. A readable [`Drain::event`] must
/// be read, by [`Event::wait`], or it remains readable and the program spins.
#[derive(Debug)]
pub struct Drain {
    context: Context,
    event: Event,
    queue: Queue<Entries>,
    // How many slots have an interrupt that is never freed.
    irqs: u32,
    esbs: Esbs,
    // The mapping that `esbs` refers to.
    pages: Arc<Mapping>,
}

impl Drain {
    pub(crate) fn new(context: Context, irqs: u32) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);

        // Checked before user drain, which cannot be undone.
        if irqs == 0 {
            return Err(Errno::INVAL.into());
        }
        let event = Event::new()?;
        let mut argument = abi::UserDrain {
            size: abi::size::<abi::UserDrain>(),
            eventfd: event.as_fd().as_raw_fd(),
            format: uapi::UXIVE_DRAIN_XIVE,
            ..Default::default()
        };

        let window = info(&context)?.esb;
        abi::call(&context, &mut argument)?;
        let abi::UserDrain {
            queue_offset,
            queue_entries,
            ..
        } = argument;

        let length = queue_entries.checked_mul(size_of::<AtomicU32>() as u64);
        let end = length.and_then(|length| queue_offset.checked_add(length));
        let offsets = queue_offset..end.ok_or_else(invalid)?;
        // INVARIANT: The mapping is as long as that many entries.
        let entries = Entries {
            mapping: Mapping::new(&context, ProtFlags::READ, offsets)?,
            entries: usize::try_from(queue_entries).map_err(|_| invalid())?,
        };
        let queue = Queue::new(entries).ok_or_else(invalid)?;

        // Maps the slot of every possible entry; the second half are messages.
        let (offsets, slots) = extent(&window)?;
        let pages = Arc::new(Mapping::new(
            &context,
            ProtFlags::READ | ProtFlags::WRITE,
            offsets,
        )?);
        let stride = usize::try_from(window.stride).map_err(|_| invalid())?;
        // SAFETY: This is a mapping of the window from its beginning, of this length and with this
        // stride, as the driver told. It lives as long as the object beside it.
        let esbs = unsafe { Esbs::new(pages.address(), stride, slots) };

        // Nothing here frees them, so a doorbell, which keeps the context, can always be rung.
        let mut argument = abi::IrqAllocMany {
            size: abi::size::<abi::IrqAllocMany>(),
            flags: uapi::UXIVE_ALLOC_AT,
            count: irqs,
            ..Default::default()
        };
        abi::call(&context, &mut argument)?;
        Ok(Self {
            context,
            event,
            queue,
            irqs,
            esbs,
            pages,
        })
    }

    /// Takes the next event and returns the slot of its interrupt, if there is one.
    ///
    /// The interrupt can be sent again once [`Drain::eoi`] has ended it. All that the ringer wrote
    /// before it rang is visible afterwards.
    ///
    /// For a message of an accelerator this is its slot plus the number of entries of the queue,
    /// 16384. [`Drain::eoi`] takes the same number.
    #[inline]
    pub fn try_next(&mut self) -> Option<u32> {
        self.queue.try_next()
    }

    /// Ends the interrupt of a slot, of which an event was taken.
    ///
    /// If it was rung again since it was sent, that becomes an event of its own now.
    ///
    /// # Panics
    ///
    /// If there can be no such slot, which no event has.
    #[inline]
    pub fn eoi(&self, slot: u32) {
        self.esbs.eoi(slot);
    }

    /// Rings the interrupt of a slot.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn ring(&self, slot: u32) {
        self.within(slot);
        self.esbs.ring(slot);
    }

    #[inline]
    fn within(&self, slot: u32) {
        assert!(slot < self.irqs, "slot {slot} of {}", self.irqs);
    }

    /// Returns a doorbell of a slot, for other threads.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn doorbell(&self, slot: u32) -> Doorbell {
        self.within(slot);
        // SAFETY: The trigger page of each slot lies in that mapping, which is for writing, too.
        unsafe { Doorbell::new(self.esbs.trigger(slot), self.pages.clone()) }
    }

    /// Returns an export of the doorbells of `count` slots from `start` on, for another program.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_EXPORT`.
    pub fn export(&self, start: u32, count: u32) -> io::Result<Export> {
        Export::new(self.context.shared(), start, count, 0)
    }

    /// Has the next event signal [`Drain::event`], once.
    ///
    /// Events that are in the queue when this returns may not have signalled it.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_ARM`.
    pub fn arm(&self) -> io::Result<()> {
        let mut argument = abi::Arm {
            size: abi::size::<abi::Arm>(),
            ..Default::default()
        };

        abi::call(&self.context, &mut argument)
    }

    /// Arms the queue and takes the next event. If there is none, the next one signals.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_ARM`.
    pub fn arm_and_look(&mut self) -> io::Result<Option<u32>> {
        self.arm()?;
        Ok(self.try_next())
    }

    /// Takes the next event, and blocks until there is one.
    ///
    /// Returns `None` when the time is up, which begins anew if the eventfd was signalled without an
    /// event.
    ///
    /// # Errors
    ///
    /// Those of [`Drain::arm`] and [`Event::wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<u32>> {
        let mut slot = self.try_next();

        while slot.is_none() {
            slot = self.arm_and_look()?;
            if slot.is_some() {
                break;
            }
            if self.event.wait(timeout)?.is_none() {
                break;
            }
            slot = self.try_next();
        }
        Ok(slot)
    }

    /// Returns the eventfd that an armed queue signals.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Tells of the driver and the context.
    ///
    /// # Errors
    ///
    /// Those of [`Context::info`].
    pub fn info(&self) -> io::Result<Info> {
        self.context.info()
    }

    /// Blocks until the context has an event other than interrupts, as [`Context::report`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Context::report`].
    pub fn report(&self, timeout: Option<Duration>) -> io::Result<Option<Report>> {
        self.context.report(timeout)
    }
}

/// The file of the context. Before an interrupt is freed by it, its events must have been taken and
/// ended.
impl AsFd for Drain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.context.as_fd()
    }
}
