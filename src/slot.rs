// SPDX-License-Identifier: GPL-2.0

//! One interrupt of a context: its sources, their pages, and its place in the event queue.
//!
//! One that a program allocates has a generic source, which is rung by a store to its trigger page. In
//! a context of an AFU it has a message as well, for the AFU to send, or only that. Both do the same.
//!
//! A [`Slot`] is an interrupt that the program has. When it is freed it becomes a [`DyingSlot`],
//! which can only be given back, and not before it has gone quiet.

use crate::{
    afu::ImsEntry,
    kernel_ext::{
        mapping::{
            Fault,
            FaultResult,
            FileMapping,
            MappedPages,
            View, //
        },
        ratelimit::pr_warn_ratelimited, //
    },
    layout::Window,
    limits::IrqCharge,
    queue::{
        Queue,
        RouteState,
        RouteView, //
    },
    slots::{
        Detached,
        Reservation,
        Slots, //
    },
    trace,
    xive::{
        GuestSource,
        QuiesceError,
        Source,
        SourceKind, //
    }, //
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The slot table of a context.
pub(crate) type ContextSlots = Slots<Slot, QuarantinedSlot>;

/// A slot that is in no table any more, or not yet, and has its index.
pub(crate) type DetachedSlot<'a> = Detached<'a, Slot, QuarantinedSlot>;

/// An index for a slot that will be made.
pub(crate) type SlotReservation<'a> = Reservation<'a, Slot, QuarantinedSlot>;

/// A slot that failed to quiesce.
pub(crate) struct QuarantinedSlot {
    pub(crate) slot: DyingSlot,
    pub(crate) reason: QuiesceError,
}

/// An interrupt that a context owns.
///
/// When dropped, it is retired and quiesced, or leaked if that fails. May sleep.
pub(crate) struct Slot(DyingSlot);

/// The state of a slot at one moment.
pub(crate) struct SlotView {
    /// Of the generic source, if it has one.
    pub(crate) generic: Option<SourceView>,
    /// Of the message, if it has one.
    pub(crate) message: Option<SourceView>,
    /// Not if the program drains the queue, or the slot is retired.
    pub(crate) route: Option<RouteView>,
}

/// The state of a source at one moment.
pub(crate) struct SourceView {
    pub(crate) lisn: u32,
    pub(crate) chip: u32,
    /// P and Q of the ESB, as bits 1 and 0.
    pub(crate) pq: u64,
}

impl SourceView {
    fn new(source: &Source) -> Self {
        Self {
            lisn: source.lisn(),
            chip: source.chip().as_u32(),
            pq: source.pq(),
        }
    }
}

/// A message of an AFU, which it sends for a slot.
pub(crate) struct MessageSlot {
    // Closed before the source that it names can be another's.
    entry: ImsEntry,
    /// Its pages, in [`Window::ESB`] if the program drains the queue: if there is only one, in the
    /// place of both.
    source: MappedPages<Source, 2>,
}

impl MessageSlot {
    /// Makes the message of slot `index`, which the AFU will send from `entry`, which is closed.
    pub(crate) fn new(
        source: Source,
        entry: ImsEntry,
        queue: &Queue,
        index: usize,
        mapping: Arc<FileMapping>,
    ) -> Result<KBox<Self>> {
        let eisn = SourceKind::Msi.eisn(index, queue.size())? as usize;
        let pages = match (queue.is_user_drained(), source.has_trigger_page()) {
            (false, _) => [None, None],
            (true, true) => [esb_pages(eisn), None],
            (true, false) => [Window::ESB.page(2 * eisn), Window::ESB.page(2 * eisn + 1)],
        };
        let pages = pages.map(|range| range.unwrap_or(0..0));
        let source = MappedPages::new(source, mapping, pages);

        Ok(KBox::new(Self { entry, source }, GFP_KERNEL_ACCOUNT)?)
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Lets the AFU send the message, for work of `queue_id`.
    ///
    /// # Errors
    ///
    /// Those of [`ImsEntry::open`].
    pub(crate) fn open(&self, queue_id: u32) -> Result {
        let message = self.source.message().ok_or(EINVAL)?;

        self.entry.open(message, queue_id)
    }
}

impl Slot {
    /// Makes slot `index` of `source`, whose pages can be mapped in `mapping`, and of `message`;
    /// either can be missing. Both must be attached to `queue` for that index, and charged to its
    /// user.
    #[inline(always)]
    pub(crate) fn new(
        source: Option<Source>,
        message: Option<KBox<MessageSlot>>,
        queue: Arc<Queue>,
        index: usize,
        mapping: Arc<FileMapping>,
    ) -> Self {
        let queue = ChargedQueue {
            queue,
            irqs: u32::from(source.is_some()) + u32::from(message.is_some()),
        };
        let trigger = Window::TRIGGER.page(index).unwrap_or(0..0);
        let esb = if queue.is_user_drained() {
            esb_pages(index).unwrap_or(0..0)
        } else {
            0..0
        };

        Self(DyingSlot {
            source: source.map(|source| MappedPages::new(source, mapping, [trigger, esb])),
            message,
            queue,
            index: index as u32,
            joined: false,
            quiesced: false,
        })
    }

    /// Notes that it came in one call with the slot of the index before.
    pub(crate) fn join(&mut self) {
        self.0.joined = true;
    }

    /// Returns whether it came in one call with the slot of the index before, if that is still there.
    pub(crate) fn is_joined(&self) -> bool {
        self.0.joined
    }

    /// Raises the interrupt: that of the source that is rung by a store, or else of the message.
    pub(crate) fn trigger(&self) {
        match (&self.0.source, &self.0.message) {
            (Some(source), _) => source.trigger(),
            (None, Some(message)) => message.source.trigger(),
            (None, None) => (),
        }
    }

    /// Places the trigger page in a mapping of the window of trigger pages.
    pub(crate) fn insert_trigger(&self, fault: &Fault<'_>) -> FaultResult {
        match (&self.0.source, Window::TRIGGER.offset(self.0.index())) {
            (Some(source), Some(offset)) => fault.insert(source, offset),
            _ => FaultResult::SIGBUS,
        }
    }

    /// Makes `view` show the trigger page, as long as the program has the interrupt.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has none, or the view does not cover it.
    pub(crate) fn show_trigger(&self, view: &View) -> Result {
        view.show(self.0.source.as_ref().ok_or(EINVAL)?)
    }

    /// Returns whether `view` shows the trigger page.
    pub(crate) fn is_shown_in(&self, view: &View) -> bool {
        self.0
            .source
            .as_ref()
            .is_some_and(|source| view.shows(source))
    }

    /// Places the trigger page at `offset` in a mapping of the file of `view`, if that shows it there.
    pub(crate) fn insert_in_view(
        &self,
        view: &View,
        fault: &Fault<'_>,
        offset: u64,
    ) -> FaultResult {
        match &self.0.source {
            Some(source) => view.insert(fault, source, offset),
            None => FaultResult::SIGBUS,
        }
    }

    /// Places the pages of the source `origin` in a mapping of the window of ESBs, if the program may
    /// have them.
    pub(crate) fn insert_esb(&self, origin: SourceKind, fault: &Fault<'_>) -> FaultResult {
        let touched = fault.offset();
        let insert = |offset| match (origin, &self.0.source, &self.0.message) {
            (SourceKind::Ipi, Some(source), _) => fault.insert(source, offset),
            (SourceKind::Msi, _, Some(message)) => fault.insert(&message.source, offset),
            _ => FaultResult::SIGBUS,
        };
        let other = (origin.eisn(self.0.index(), self.0.queue.size()).ok())
            .and_then(|eisn| esb_pages(eisn as usize))
            .into_iter()
            .flat_map(|pages| pages.step_by(Window::ESB.stride() as usize))
            .filter(|&offset| offset != touched);

        for offset in other {
            insert(offset);
        }
        insert(touched)
    }

    /// Returns the LISN of the source that is rung by a store, or else of the message.
    #[inline]
    pub(crate) fn lisn(&self) -> u32 {
        self.0.lisn()
    }

    /// Returns the LISN of the source that is rung by a store, if the slot has one.
    pub(crate) fn generic_lisn(&self) -> Option<u32> {
        Some(self.0.source.as_deref()?.lisn())
    }

    /// Returns the LISN of the message, if the slot has one.
    pub(crate) fn message_lisn(&self) -> Option<u32> {
        Some(self.0.message.as_ref()?.source().lisn())
    }

    /// Returns where its events go, unless the program drains the queue.
    pub(crate) fn route_state(&self) -> Option<RouteState> {
        Some(self.0.queue.route_view(self.0.index())?.state)
    }

    /// Returns its source, as a guest can have it. It must be dropped before the slot.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has two: a guest has one for an interrupt.
    pub(crate) fn for_guest(&self) -> Result<(SourceKind, GuestSource)> {
        match (&self.0.source, &self.0.message) {
            (Some(source), None) => Ok((SourceKind::Ipi, source.for_guest())),
            (None, Some(message)) => Ok((SourceKind::Msi, message.source.for_guest())),
            _ => Err(EINVAL),
        }
    }

    /// Tells how the slot stands.
    pub(crate) fn view(&self) -> SlotView {
        self.0.view()
    }

    /// Removes its pages from all mappings, and lets no fault insert them again. Its events still
    /// come. May sleep.
    pub(crate) fn withdraw(&mut self) {
        self.0.withdraw();
    }

    /// As [`Self::withdraw`], of many.
    pub(crate) fn withdraw_many<'a>(slots: impl Iterator<Item = &'a mut Self>) {
        MappedPages::withdraw_many(slots.filter_map(|Self(slot)| {
            if let Some(message) = &mut slot.message {
                message.source.withdraw();
            }
            slot.source.as_mut()
        }));
    }

    /// Takes the interrupt from the program: when this returns no mapping reaches its pages. Then
    /// quiesces it, so that it can be dropped. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`DyingSlot::quiesce`]: the slot must be [retired](Self::retire) and kept.
    #[inline(always)]
    pub(crate) fn give_back(&mut self) -> Result<(), QuiesceError> {
        self.0.withdraw();
        trace::zap(self.0.queue.context(), self.0.index(), self.lisn());
        self.0.quiesce()
    }

    /// Returns the slot as one that can only be given back.
    pub(crate) fn retire(self) -> DyingSlot {
        self.0
    }
}

/// An interrupt that a context has had, which hardware may still use.
///
/// If it is dropped before it has quiesced, it is leaked with all that hardware uses of it.
pub(crate) struct DyingSlot {
    /// Both pages if the program drains the queue, in the windows [`Window::TRIGGER`] and
    /// [`Window::ESB`]; else only the trigger page, in the first. None if it has a message only.
    source: Option<MappedPages<Source, 2>>,
    message: Option<KBox<MessageSlot>>,
    // Dropped after both: only when these are back may others have as many again.
    queue: ChargedQueue,
    index: u32,
    joined: bool,
    quiesced: bool,
}

/// The queue of a slot, whose user is charged for the sources of the slot as long as this lives.
struct ChargedQueue {
    queue: Arc<Queue>,
    /// How many sources.
    irqs: u32,
}

impl Deref for ChargedQueue {
    type Target = Queue;

    #[inline]
    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for ChargedQueue {
    #[inline]
    fn drop(&mut self) {
        drop(IrqCharge::recover(self.queue.user(), self.irqs as usize));
    }
}

impl DyingSlot {
    #[inline]
    fn index(&self) -> usize {
        self.index as usize
    }

    /// Removes its pages from all mappings, and lets no fault insert them again. May sleep.
    #[inline]
    fn withdraw(&mut self) {
        if let Some(source) = &mut self.source {
            source.withdraw();
        }
        if let Some(message) = &mut self.message {
            message.source.withdraw();
        }
    }

    /// Quiesces the interrupt, so that it can be dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::detach`]: this must be called again later.
    #[inline(always)]
    pub(crate) fn quiesce(&mut self) -> Result<(), QuiesceError> {
        match (&self.source, &self.message) {
            (Some(source), None) => self.queue.detach(self.index(), Some(source), None)?,
            (source, Some(message)) => self.quiesce_message(source.as_deref(), message)?,
            (None, None) => (),
        }
        self.quiesced = true;
        Ok(())
    }

    /// As [`Self::quiesce`], with a message.
    #[cold]
    #[inline(never)]
    fn quiesce_message(
        &self,
        source: Option<&Source>,
        message: &MessageSlot,
    ) -> Result<(), QuiesceError> {
        message.entry.close();
        self.queue
            .detach(self.index(), source, Some(message.source()))
    }

    /// As [`Slot::lisn`].
    #[inline]
    pub(crate) fn lisn(&self) -> u32 {
        match (&self.source, &self.message) {
            (Some(source), _) => source.lisn(),
            (None, Some(message)) => message.source.lisn(),
            (None, None) => 0,
        }
    }

    /// Tells how the slot stands.
    pub(crate) fn view(&self) -> SlotView {
        SlotView {
            generic: self.source.as_deref().map(SourceView::new),
            message: self
                .message
                .as_ref()
                .map(|message| SourceView::new(message.source())),
            route: self.queue.route_view(self.index()),
        }
    }
}

/// Returns the offsets of the trigger and the management page of an EISN in [`Window::ESB`].
fn esb_pages(eisn: usize) -> Option<Range<u64>> {
    Some(Window::ESB.page(2 * eisn)?.start..Window::ESB.page(2 * eisn + 1)?.end)
}

impl DyingSlot {
    /// Tries a last time to quiesce the interrupt. If that fails it is leaked.
    #[cold]
    #[inline(never)]
    fn quiesce_or_leak(&mut self) {
        self.withdraw();
        if self.quiesce().is_ok() {
            return;
        }
        let (lisn, context) = (self.lisn(), self.queue.context());
        pr_warn_ratelimited!(
            "context {context}: interrupt {lisn:#x} does not go quiet, and is not given back\n"
        );
        if let Some(source) = &self.source {
            source.leak();
        }
        if let Some(message) = &self.message {
            message.source.leak();
        }
        self.queue.leak();
        // Its sources stay charged.
        self.queue.irqs = 0;
    }
}

impl Drop for DyingSlot {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.quiesced {
            self.quiesce_or_leak();
        }
    }
}
