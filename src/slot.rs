// SPDX-License-Identifier: GPL-2.0

//! One interrupt of a context: its source, its trigger page, and the eventfd that it signals.

use crate::{
    kernel_ext::{
        eventfd::EventFd,
        mapping::{
            FileMapping,
            MappedPage, //
        }, //
    },
    platform::Interrupt,
    quota::Charge, //
};
use kernel::{
    irq::{
        Handler,
        IrqReturn, //
    },
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    }, //
};

/// Signals an eventfd, if there is one, whenever the interrupt fires.
#[pin_data]
struct Notifier {
    /// Innermost lock of the driver, taken in hard interrupt context; see `context.rs`.
    #[pin]
    eventfd: SpinLockIrq<Option<EventFd>>,
}

impl Handler for Notifier {
    fn handle(&self) -> IrqReturn {
        if let Some(eventfd) = &*self.eventfd.lock() {
            eventfd.signal();
        }
        IrqReturn::Handled
    }
}

/// An interrupt that a context owns.
///
/// Dropped from top to bottom: the trigger page leaves every mapping before the source is freed,
/// the source is freed before others may have the room. May sleep.
pub(crate) struct Slot {
    source: MappedPage<Interrupt<Notifier>>,
    _charge: Charge,
}

impl Slot {
    /// Allocates an interrupt whose trigger page can be mapped at `offset` of `mapping`.
    ///
    /// # Errors
    ///
    /// Those of [`Interrupt::new`].
    pub(crate) fn new(mapping: Arc<FileMapping>, offset: u64, charge: Charge) -> Result<Self> {
        let interrupt = Interrupt::new(try_pin_init!(Notifier {
            eventfd <- new_spinlock_irq!(None, "uxive_eventfd"),
        }? Error))?;

        Ok(Self {
            source: MappedPage::new(interrupt, mapping, offset)?,
            _charge: charge,
        })
    }

    /// Returns the source, for the fault handler to insert.
    pub(crate) fn source(&self) -> &MappedPage<impl crate::kernel_ext::mapping::DevicePage> {
        &self.source
    }

    /// Returns the offset of the trigger page in the context file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.source.lisn()
    }

    /// Has the interrupt signal `eventfd` from now on, or nothing. Returns the one before.
    ///
    /// The handler does not use that one any more. It is for the caller to drop, outside locks.
    pub(crate) fn bind(&self, eventfd: Option<EventFd>) -> Option<EventFd> {
        core::mem::replace(&mut *self.source.handler().eventfd.lock(), eventfd)
    }
}
