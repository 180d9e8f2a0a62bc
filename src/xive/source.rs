// SPDX-License-Identifier: GPL-2.0

//! One interrupt source.

use super::{
    esb::{
        Esb,
        ESB_PAGE, //
    },
    guest::GuestSource,
    messages::MessageSource,
    pool::SpareSource,
    AllocError,
    ChipId,
    Location,
    MessagePool,
    Platform,
    QuiesceError, //
};
use crate::{
    bindings as extra,
    kernel_ext::mapping::UserPages, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        SetOnce, //
    }, //
};

/// An interrupt source. It is off when it is made, and must be switched off before it is dropped,
/// or [leaked](Self::leak) if that fails.
///
/// # Invariants
///
/// `esb` is the ESB of `lisn`, which no other source has, and is either that of `message`, an [`Arc`]
/// that belongs to this object, or was allocated to us by OPAL.
pub(crate) struct Source {
    pub(super) lisn: u32,
    leaked: SetOnce<()>,
    pub(super) esb: Esb,
    // Keeps the ESB mapped, if there is one. Most sources have none: it is not an `Arc`, so that
    // dropping those costs nothing.
    pub(super) message: Option<NonNull<MessageSource>>,
    // Keeps the ESBs mapped.
    pub(super) platform: Arc<Platform>,
}

// SAFETY: A source may be used and dropped on any thread.
unsafe impl Send for Source {}

// SAFETY: A shared reference allows only single loads and stores of a device, and calls of OPAL.
// They may happen at the same time.
unsafe impl Sync for Source {}

impl Source {
    /// Allocates a source at `location`.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` when there is none left at `location`.
    /// - Those of [`EsbWindow::new`](super::esb::EsbWindow::new).
    #[inline(always)]
    pub(crate) fn new(platform: &Arc<Platform>, location: Location) -> Result<Self, AllocError> {
        let SpareSource { lisn, esb } = platform.take(location)?;

        // INVARIANT: Those of `SpareSource`.
        Ok(Self {
            lisn,
            leaked: SetOnce::new(),
            esb,
            message: None,
            platform: platform.clone(),
        })
    }

    /// Allocates the source of a message of the function that `pool` belongs to. A message
    /// that comes while the source is off is lost: the function must hold it back until then.
    ///
    /// # Errors
    ///
    /// Those of [`MessagePool::take`].
    pub(crate) fn of_message(
        platform: &Arc<Platform>,
        pool: &Arc<MessagePool>,
    ) -> Result<Self, AllocError> {
        let message: Arc<_> = pool.take()?.into();

        // INVARIANT: Those of `MessageSource`.
        Ok(Self {
            lisn: message.lisn,
            leaked: SetOnce::new(),
            esb: message.esb,
            message: NonNull::new(Arc::into_raw(message).cast_mut()),
            platform: platform.clone(),
        })
    }

    /// Returns its message, if it is the source of one.
    pub(super) fn message_source(&self) -> Option<ArcBorrow<'_, MessageSource>> {
        let message = self.message?;

        // SAFETY: By the type invariants it was an `Arc`, and only `drop` makes it one again.
        Some(unsafe { ArcBorrow::from_raw(message.as_ptr()) })
    }

    /// Returns the message that raises the source, if it is the source of one.
    pub(crate) fn message(&self) -> Option<MsiMsg> {
        let source = self.message_source()?;

        Some(MsiMsg {
            address: source.message.address(),
            data: source.message.data(),
        })
    }

    /// Returns whether its trigger page is another than its management page.
    pub(crate) fn has_trigger_page(&self) -> bool {
        self.esb.trigger_before != 0
    }

    pub(crate) fn lisn(&self) -> u32 {
        self.lisn
    }

    pub(crate) fn chip(&self) -> ChipId {
        self.esb.chip
    }

    /// Returns P and Q of the ESB, as bits 1 and 0, and leaves them alone.
    pub(crate) fn pq(&self) -> u64 {
        self.esb.pq()
    }

    /// Raises the interrupt, as a store to the trigger page does.
    pub(crate) fn trigger(&self) {
        self.esb.trigger();
    }

    /// Switches the source on: stores to the trigger page raise it from now on.
    pub(crate) fn switch_on(&self) {
        self.esb.switch_on();
    }

    /// Has events of the source wait in it from now on. Returns whether it is idle: each event that it
    /// has sent has come, and its interrupt was ended.
    ///
    /// None of an idle source comes any more before an interrupt of it is ended, and that nobody does
    /// without an event.
    #[inline]
    pub(crate) fn hold(&self) -> bool {
        self.esb.load(extra::XIVE_ESB_SET_PQ_10) & u64::from(extra::XIVE_ESB_VAL_P) == 0
    }

    /// Switches the source off. When this returns, its last event has reached the queue.
    ///
    /// Calls firmware, which waits for that event, unless the source `is_idle`: see [`Self::hold`].
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Source`] if its ESB says otherwise.
    #[inline(always)]
    pub(crate) fn switch_off(&self, is_idle: bool) -> Result<(), QuiesceError> {
        self.esb.switch_off(self.lisn, is_idle)
    }

    /// Returns the source as a guest can have it. It must be dropped before `self`.
    pub(crate) fn for_guest(&self) -> GuestSource {
        GuestSource::new(
            self.platform.clone(),
            self.lisn,
            self.esb,
            self.message_source().map(Arc::from),
        )
    }

    /// Gives `message`, its own, back unless it is leaked.
    #[cold]
    fn drop_message(&mut self, message: NonNull<MessageSource>) {
        // SAFETY: By the type invariants it was an `Arc`, and is made one only here, in `drop`.
        let message = unsafe { Arc::from_raw(message.as_ptr()) };

        if self.leaked.as_ref().is_some() {
            message.leak();
            return;
        }
        // A message that is still in a [`MessageEisnTable`] is dropped with its entry there.
        if let Some(message) = Arc::into_unique_or_drop(message) {
            MessageSource::put(Pin::into_inner(message));
        }
    }

    /// Leaks the LISN when the source is dropped: it is neither given back nor used again.
    pub(crate) fn leak(&self) {
        self.leaked.populate(());
    }
}

impl Drop for Source {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(message) = self.message {
            return self.drop_message(message);
        }
        if self.leaked.as_ref().is_some() {
            return;
        }
        // INVARIANT: Nothing refers to the source any more.
        self.platform.put(SpareSource {
            lisn: self.lisn,
            esb: self.esb,
        });
    }
}

// SAFETY: The address is that of the ESB, one or two pages of device memory which serve nothing but
// our LISN until that is given back, when the source is dropped.
//
// With two pages the first is the trigger page, for any program. The second, the management page,
// is for the program that drains the queue to which the source is routed: it can overrun that
// queue, and no other. A message can have one page that is both: it is for that program only.
unsafe impl UserPages for Source {
    const DEVICE: bool = true;

    fn phys(&self) -> u64 {
        self.esb.phys
    }

    fn len(&self) -> u64 {
        (ESB_PAGE as u64) << self.esb.trigger_before
    }
}

/// The message that a PCI function writes to raise an interrupt.
pub(crate) struct MsiMsg {
    /// The address on its bus.
    pub(crate) address: u64,
    /// The data, 4 bytes.
    pub(crate) data: u32,
}
