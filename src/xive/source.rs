// SPDX-License-Identifier: GPL-2.0

//! One interrupt source.

use super::{
    esb::{
        Esb,
        ESB_PAGE,
        OFF_TRIES,
        PQ_OFF, //
    },
    messages::MessageSource,
    pool::{
        Holder,
        SpareSource, //
    },
    AllocError,
    ChipId,
    Location,
    MessagePool,
    QuiesceError, //
};
use crate::kernel_ext::{
    bindings as extra,
    fault::may_fail,
    mapping::UserPages, //
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

/// An interrupt source. Off when it is made, and to be switched off before it is dropped, or
/// [leaked](Self::leak) if that cannot be done.
///
/// # Invariants
///
/// `esb` is the ESB of `lisn`, which no other source has, and is either that of `message`, an [`Arc`]
/// that belongs to this object, or was allocated to us by OPAL.
pub(crate) struct Source {
    pub(super) lisn: u32,
    leaked: SetOnce<()>,
    pub(super) esb: Esb,
    // Keeps the ESB mapped, if there is one. Not an `Arc`, so that dropping it need not be considered
    // where most sources are dropped, which have none.
    pub(super) message: Option<NonNull<MessageSource>>,
    // Keeps the ESBs mapped, by way of the platform.
    pub(super) holder: Arc<Holder>,
}

// SAFETY: A source may be used and dropped on any thread.
unsafe impl Send for Source {}

// SAFETY: What a shared reference allows are single loads and stores of a device and calls of OPAL,
// which may happen at the same time.
unsafe impl Sync for Source {}

impl Source {
    /// Allocates a source at `location` for `holder`.
    ///
    /// # Errors
    ///
    /// - `EDQUOT` when the holder has as many as it may, `ENFILE` when all together have.
    /// - `ENOSPC` when there is none left at `location`.
    /// - Those of [`EsbWindow::new`](super::esb::EsbWindow::new).
    #[inline(always)]
    pub(crate) fn new(holder: &Arc<Holder>, location: Location) -> Result<Self, AllocError> {
        let SpareSource { lisn, esb } = holder.take(location)?;

        // INVARIANT: Those of `SpareSource`.
        Ok(Self {
            lisn,
            leaked: SetOnce::new(),
            esb,
            message: None,
            holder: holder.clone(),
        })
    }

    /// Allocates for `holder` the source of a message of the function that `pool` belongs to. A message
    /// that comes while the source is off is lost: the function is to hold it back as long.
    ///
    /// # Errors
    ///
    /// - `EDQUOT` when the holder has as many as it may, `ENFILE` when all together have.
    /// - Those of [`MessagePool::take`].
    pub(crate) fn of_message(
        holder: &Arc<Holder>,
        pool: &Arc<MessagePool>,
    ) -> Result<Self, AllocError> {
        holder.charge()?;
        let message: Arc<_> = pool.take().inspect_err(|_| holder.discharge())?.into();

        // INVARIANT: Those of `MessageSource`.
        Ok(Self {
            lisn: message.lisn,
            leaked: SetOnce::new(),
            esb: message.esb,
            message: NonNull::new(Arc::into_raw(message).cast_mut()),
            holder: holder.clone(),
        })
    }

    /// Returns its message, if it is the source of one.
    pub(super) fn message_source(&self) -> Option<ArcBorrow<'_, MessageSource>> {
        let message = self.message?;

        // SAFETY: By the type invariants it was an `Arc`, and only `drop` makes it one again.
        Some(unsafe { ArcBorrow::from_raw(message.as_ptr()) })
    }

    /// Returns what the function has to write to raise the source, if it is that of a message.
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

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.lisn
    }

    /// Returns the chip.
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
        self.esb.load(extra::XIVE_ESB_SET_PQ_00);
    }

    /// Switches the source off. When this returns, its last event has reached the queue.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Source`] if its ESB says otherwise.
    #[inline(always)]
    pub(crate) fn switch_off(&self) -> Result<(), QuiesceError> {
        for _ in 0..OFF_TRIES {
            self.esb.load(extra::XIVE_ESB_SET_PQ_01);
            // SAFETY: The LISN is ours.
            unsafe { extra::xive_native_sync_source(self.lisn) };
            if self.esb.pq() == PQ_OFF {
                return may_fail(QuiesceError::Source);
            }
        }
        Err(QuiesceError::Source)
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
        // One that is still in a [`MessageEisnTable`] goes with that.
        if let Some(message) = Arc::into_unique_or_drop(message) {
            MessageSource::put(Pin::into_inner(message));
        }
        self.holder.discharge();
    }

    /// Has the LISN not be given back when the source is dropped, nor used again.
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
        self.holder.put(SpareSource {
            lisn: self.lisn,
            esb: self.esb,
        });
    }
}

// SAFETY: The address is that of the ESB, one or two pages of device memory which serve nothing but
// our LISN until that is given back, when the source is dropped.
//
// Of two the first is the trigger page, for any program. The second, the management page, is for one
// that drains the queue that the source is routed to: it can overrun that queue, and no other. A page
// that is both, as a message can have it, is for that one only.
unsafe impl UserPages for Source {
    const DEVICE: bool = true;

    fn phys(&self) -> u64 {
        self.esb.phys
    }

    fn len(&self) -> u64 {
        (ESB_PAGE as u64) << self.esb.trigger_before
    }
}

/// What a PCI function writes to raise an interrupt.
pub(crate) struct MsiMsg {
    /// Where to, on its bus.
    pub(crate) address: u64,
    /// What, in 4 bytes.
    pub(crate) data: u32,
}
