// SPDX-License-Identifier: GPL-2.0

//! A context: the resources that it owns, and its end.
//!
//! It is apart from the [file](crate::file), since it may outlive that: resources that fail to
//! quiesce are quarantined, and given back when they have gone quiet. A reference to a [`Context`]
//! is enough to look at it and to quiesce it; only its file can add to it.

use crate::{
    afu::AfuContext,
    bypass::Bypasses,
    events::{
        Event,
        EventLog, //
    },
    export::Exports,
    kernel_ext::{
        mapping::FileMapping,
        ratelimit::pr_warn_ratelimited,
        task::TaskName, //
    },
    layout::{
        Layout,
        Window,
        MAX_IRQS, //
    },
    limits::UserCharge,
    queue::Queue,
    slot::{
        ContextSlots,
        DetachedSlot,
        QuarantinedSlot,
        Slot,
        SlotView, //
    },
    trace,
    xive::QuiesceError, //
};
use kernel::{
    current,
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    },
    task::Kuid, //
};

/// Of how many slots the pages are withdrawn in one call.
const WITHDRAWN_AT_ONCE: usize = 256;

/// The process that opened a context, as it was then.
pub(crate) struct Opener {
    /// Its number in the initial namespace.
    pub(crate) pid: i32,
    pub(crate) uid: Kuid,
    pub(crate) name: TaskName,
}

impl Opener {
    /// Returns the caller.
    fn current() -> Self {
        Self {
            pid: current!().tgid(),
            uid: Kuid::current_euid(),
            name: TaskName::current(),
        }
    }
}

/// A context, with all that it owns.
///
/// # Locks
///
/// See `file.rs`.
#[pin_data]
pub(crate) struct Context {
    id: u64,
    kind: ContextKind,
    layout: Layout,
    opener: Opener,
    /// The user to whom all that follows is charged.
    user: Arc<UserCharge>,
    /// Where the events of the slots go. Comes with the first of them.
    queue: SetOnce<Arc<Queue>>,
    slots: Arc<ContextSlots>,
    /// Those of them that guests can be given. Each is freed when it is none of these.
    bypasses: Arc<Bypasses>,
    /// The events that the program has not read yet.
    events: Arc<EventLog>,
    /// Its files by which other programs ring it.
    exports: Arc<Exports>,
    /// Its place in an AFU. Given back last.
    afu: Option<AfuContext>,
}

/// The kinds of contexts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextKind {
    /// An open file of a device.
    Open,
    /// A range, of so many slots.
    Range(usize),
}

impl Context {
    /// Makes a context that owns nothing yet, which the caller has just opened; `mapping` is that of its
    /// file.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(
        id: u64,
        kind: ContextKind,
        user: Arc<UserCharge>,
        afu: Option<AfuContext>,
        mapping: &Arc<FileMapping>,
    ) -> Result<Arc<Self>> {
        let layout = Layout::new(match kind {
            ContextKind::Open => MAX_IRQS,
            ContextKind::Range(slots) => slots,
        });

        Arc::pin_init(
            try_pin_init!(Self {
                id,
                kind,
                layout,
                opener: Opener::current(),
                user,
                queue: SetOnce::new(),
                slots: Arc::pin_init(ContextSlots::new(layout.slots()), GFP_KERNEL_ACCOUNT)?,
                bypasses: Arc::pin_init(Bypasses::new(), GFP_KERNEL_ACCOUNT)?,
                events: EventLog::new(mapping.clone())?,
                exports: Arc::pin_init(Exports::new(*id), GFP_KERNEL_ACCOUNT)?,
                afu,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the number of the context. No other has had it since the driver was loaded.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn kind(&self) -> ContextKind {
        self.kind
    }

    /// Returns which windows the file has.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Returns the user to whom the context is charged.
    pub(crate) fn user(&self) -> &Arc<UserCharge> {
        &self.user
    }

    pub(crate) fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// Returns the files by which others ring it.
    pub(crate) fn exports(&self) -> &Arc<Exports> {
        &self.exports
    }

    #[inline]
    pub(crate) fn slots(&self) -> &Arc<ContextSlots> {
        &self.slots
    }

    /// Returns the interrupts that guests can be given.
    #[inline]
    pub(crate) fn bypasses(&self) -> &Arc<Bypasses> {
        &self.bypasses
    }

    /// Returns its place in an AFU, if it is a context of one.
    #[inline]
    pub(crate) fn afu(&self) -> Option<&AfuContext> {
        self.afu.as_ref()
    }

    /// Returns the event queue, if there is one yet.
    #[inline]
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        self.queue.as_ref()
    }

    /// Enters the event queue. There must be none.
    pub(crate) fn set_queue(&self, queue: Arc<Queue>) {
        self.queue.populate(queue);
    }

    /// Returns how many interrupts the context may have at present.
    #[inline(always)]
    pub(crate) fn max_irqs(&self) -> usize {
        let limit = self.user.limits().max_irqs_per_context();

        match (self.kind, &self.afu) {
            (ContextKind::Open, None) => limit,
            // The queue has room for two sources of each.
            (ContextKind::Open, Some(_)) => limit.min(MAX_IRQS / 2),
            (ContextKind::Range(slots), _) => slots,
        }
    }

    /// Gives back a slot and its index, or quarantines both. May sleep.
    ///
    /// When this returns, no mapping and no guest reaches its pages, and its eventfd is not signalled.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if they are quarantined: [`Self::retry`] must be called later.
    #[inline(always)]
    pub(crate) fn retire(&self, mut taken: DetachedSlot<'_>) -> Result<(), QuiesceError> {
        let index = taken.index();
        let Some(slot) = taken.slot_mut() else {
            return Ok(());
        };

        trace::free(self.id, index, slot.lisn());
        // Before P and Q are changed, which are a guest's if one has it.
        self.bypasses.release(index);
        // Dropped with its index, which goes last.
        match slot.give_back() {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.quarantine(taken, reason);
                Err(reason)
            }
        }
    }

    /// As [`Self::retire`], of many at once. They are slots of `self`.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if one is quarantined.
    pub(crate) fn retire_many(
        &self,
        mut taken: KVVec<DetachedSlot<'_>>,
    ) -> Result<(), QuiesceError> {
        let mut result = Ok(());

        // Opening and closing an export of the context waits for each of these.
        for some in taken.chunks_mut(WITHDRAWN_AT_ONCE) {
            Slot::withdraw_many(some.iter_mut().filter_map(DetachedSlot::slot_mut));
        }
        for slot in taken.drain_all() {
            result = self.retire(slot).and(result);
        }
        result
    }

    /// Quarantines a slot, and says so.
    #[cold]
    #[inline(never)]
    fn quarantine(&self, taken: DetachedSlot<'_>, reason: QuiesceError) {
        let index = taken.index();
        let lisn = taken.slot().map_or(0, Slot::lisn);
        let offset = Window::TRIGGER.offset(index).unwrap_or(0);

        self.log(reason, Some(lisn));
        trace::quarantine(self.id, index, lisn, reason as u32);
        taken.quarantine(|slot| QuarantinedSlot {
            slot: slot.retire(),
            reason,
        });
        self.events.report(Event::Quarantined { offset, reason });
    }

    /// Returns the state of the first slot from `index` on, or of the first that is `quarantined`;
    /// with its index, and the part that fails to quiesce if it is quarantined.
    pub(crate) fn next_slot(
        &self,
        index: usize,
        quarantined: bool,
    ) -> Option<(usize, SlotView, Option<QuiesceError>)> {
        let (index, (view, reason)) = self.slots.find(
            index,
            |slot| (!quarantined).then(|| (slot.view(), None)),
            |QuarantinedSlot { slot, reason }| Some((slot.view(), Some(*reason))),
        )?;

        Some((index, view, reason))
    }

    /// Tries once more to give back the slots that are quarantined.
    pub(crate) fn retry(&self) {
        if self.slots.is_quiet() {
            return;
        }
        let mut from = 0;

        while let Some((index, ())) = self.slots.find(from, |_| None, |_| Some(())) {
            from = index + 1;
            let quiesced = self.slots.try_quarantined(index, |quarantined| {
                let QuarantinedSlot { slot, reason } = quarantined;

                match slot.quiesce() {
                    Ok(()) => true,
                    Err(now) => {
                        *reason = now;
                        false
                    }
                }
            });

            // The source goes back with none of our locks held, and its index after it.
            if let Some((QuarantinedSlot { slot, .. }, reservation)) = quiesced {
                let offset = Window::TRIGGER.offset(index).unwrap_or(0);

                trace::quarantine_end(self.id, index, slot.lisn());
                drop(slot);
                drop(reservation);
                self.events.report(Event::Released { offset });
            }
        }
    }

    /// Retires all slots that the program has.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if one is quarantined.
    pub(crate) fn retire_all(&self) -> Result<(), QuiesceError> {
        let mut result = Ok(());

        for slot in (0..self.slots.len()).filter_map(|index| self.slots.take(index)) {
            result = self.retire(slot).and(result);
        }
        result
    }

    /// Withdraws the pages of all slots, which are kept and signal nothing any more.
    fn withdraw_all(&self) {
        for index in 0..self.slots.len() {
            let Some(mut taken) = self.slots.take(index) else {
                continue;
            };

            if let Some(slot) = taken.slot_mut() {
                slot.withdraw();
            }
            if let Some(queue) = self.queue() {
                // There is nothing to unbind if the program has drained the queue.
                let _ = queue.bind(index, &mut None);
            }
            taken.enter();
        }
    }

    /// Takes all resources from the program, whose context is closed, and quiesces them, so that
    /// the context can be dropped. Waits `tries` milliseconds for the AFU to detach it, and as long
    /// for an escalation that is on its way. May sleep.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if it fails to quiesce: this must be called again later.
    pub(crate) fn quiesce(&self, tries: usize) -> Result<(), QuiesceError> {
        self.bypasses.release_all();
        // Until the AFU has detached the context it may ring all interrupts that it was given: none
        // may be given to another context.
        if let Some(Err(reason)) = self.afu.as_ref().map(|afu| afu.detach(tries)) {
            self.withdraw_all();
            return Err(reason);
        }
        // No new one comes, since the context is closed. One may have been quarantined before.
        let _ = self.retire_all();
        if !self.slots.is_quiet() {
            return Err(QuiesceError::Source);
        }
        match self.queue() {
            Some(queue) => queue.quiesce(tries),
            None => Ok(()),
        }
    }

    /// Logs that the context is closed and quarantined, unless a line of a slot has said so
    /// already.
    pub(crate) fn log_quarantine(&self, reason: QuiesceError) {
        trace::context_quarantine(self.id, reason as u32);
        if matches!(reason, QuiesceError::Escalation | QuiesceError::Afu) {
            self.log(reason, None);
        }
    }

    /// Says that something is quarantined: the interrupt `lisn`, the event queue, or all.
    fn log(&self, reason: QuiesceError, lisn: Option<u32>) {
        let Self { id, opener, .. } = self;
        let Opener { pid, name, .. } = opener;
        match lisn {
            Some(lisn) => pr_warn_ratelimited!(
                "context {id} (pid {pid}, {name}): interrupt {lisn:#x} is quarantined: {reason}\n"
            ),
            None if reason == QuiesceError::Afu => pr_warn_ratelimited!(
                "context {id} (pid {pid}, {name}): it is quarantined with all it has: {reason}\n"
            ),
            None => pr_warn_ratelimited!(
                "context {id} (pid {pid}, {name}): its event queue is quarantined: {reason}\n"
            ),
        }
    }
}
