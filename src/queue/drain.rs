// SPDX-License-Identifier: GPL-2.0

//! The handler of a queue's escalation, and the targets of the events that it finds.

use super::{
    cursor::{
        drain,
        slice,
        Arming,
        Cursor,
        Next,
        BUDGET, //
    },
    rate::{
        Moderation,
        Pass,
        Rate,
        Step,
        Storm, //
    }, //
};
use crate::{
    events::{
        Event,
        EventLog, //
    },
    kernel_ext::{
        eventfd::EventFd,
        fault::injectable,
        irq::{
            BoundedHandler,
            Remaining, //
        },
        lock::SpinLockIrqSave,
        task,
        work::{
            Work,
            Worker, //
        }, //
    },
    layout::Window,
    trace::{
        self,
        Delivery, //
    },
    xive::{
        EisnTable,
        EventQueue,
        MessageEisnTable,
        Platform,
        QueueSize,
        QuiesceError,
        SourceKind, //
    }, //
};
use kernel::{
    interrupt::LocalInterruptDisabled,
    prelude::*,
    sync::Arc,
    time::{
        msecs_to_jiffies,
        Delta,
        Instant, //
    }, //
};

/// The reader of the queue.
pub(super) enum Consumer {
    /// The kernel, from here on.
    Kernel(Cursor),
    /// The program, which is told by its eventfd, if it has one, and by `poll`.
    User {
        eventfd: Option<EventFd>,
        arming: Arming,
        /// Behind the entries that were in the queue when it was armed last.
        cursor: Cursor,
    },
}

impl Consumer {
    /// Returns whether the next event will escalate, once the last escalation has been handled.
    pub(super) fn is_armed(&self) -> bool {
        match self {
            Self::Kernel(_) => true,
            Self::User { arming, .. } => arming.armed,
        }
    }
}

/// How the next event of a source is kept while its slot is masked.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    /// No event was on its way when the slot was masked: the next one waits in the source.
    parked: bool,
    /// An event that was on its way has come, and its interrupt has not been ended.
    came: bool,
}

/// Where the events of a slot go.
#[derive(Clone, Copy)]
pub(super) enum Sink {
    /// To the eventfd, if there is one.
    EventFd,
    /// As [`Self::EventFd`], until a guest comes that has the same eventfd.
    Bypass,
    /// Nowhere: they are held back until the slot is unmasked.
    Masked { generic: Kept, message: Kept },
    /// To a guest, which has the slot's only source. With `is_sent` an event from before that, which was
    /// sent to the queue, is not taken from there yet.
    Guest { is_sent: bool },
}

impl Sink {
    /// Returns whether it is bound for irq bypass.
    fn is_bypass(self) -> bool {
        matches!(self, Self::Bypass | Self::Guest { .. })
    }
}

/// The exports that a slot is in.
#[derive(Clone, Copy, Default)]
pub(super) struct InExports {
    /// How many.
    pub(super) exports: u32,
    /// The one with which its events are counted; 0 if it is in none.
    pub(super) counted_with: u32,
}

/// The target of the events of a slot.
pub(super) enum Target {
    /// The program has the slot.
    Live {
        eventfd: Option<EventFd>,
        /// How many events there were.
        rings: u64,
        sink: Sink,
        lent: InExports,
    },
    /// Nothing: the sources are switched off, and should have none.
    Off {
        strays: u64,
        /// How many of them [`Self::strayed`] has returned.
        counted: u64,
    },
}

impl Target {
    /// The target of a new slot.
    pub(super) fn new() -> Self {
        Self::Live {
            eventfd: None,
            rings: 0,
            sink: Sink::EventFd,
            lent: InExports::default(),
        }
    }

    /// Discards events from now on. Returns the eventfd that was signalled and the export that events were
    /// counted with, or 0, unless it was closed before.
    pub(super) fn close(&mut self) -> Option<(Option<EventFd>, u32)> {
        let Self::Live { eventfd, lent, .. } = self else {
            return None;
        };
        let closed = (eventfd.take(), lent.counted_with);

        *self = Self::Off {
            strays: 0,
            counted: 0,
        };
        Some(closed)
    }

    /// Returns how many events were discarded since this was called last.
    fn strayed(&mut self) -> u64 {
        match self {
            Self::Live { .. } => 0,
            Self::Off { strays, counted } => {
                strays.wrapping_sub(core::mem::replace(counted, *strays))
            }
        }
    }
}

/// The targets of the events of all slots.
pub(super) struct Targets {
    /// With their generic sources, if the kernel drains the queue.
    pub(super) routes: EisnTable<Target>,
    /// The messages of slots that have one.
    pub(super) messages: MessageEisnTable<Rate>,
    pub(super) moderation: Moderation,
}

impl Targets {
    /// Makes empty tables, of sources of `platform`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(super) fn new(platform: &Arc<Platform>) -> Result<Self> {
        Ok(Self {
            routes: EisnTable::new(platform, BUDGET)?,
            messages: MessageEisnTable::new(platform, 0)?,
            moderation: Moderation::default(),
        })
    }

    /// Makes events of slot `index` of `context` signal `eventfd`, which gets the old one.
    #[inline(always)]
    pub(super) fn bind(
        &mut self,
        context: u64,
        index: usize,
        eventfd: &mut Option<EventFd>,
    ) -> Result {
        match &mut self.routes.get_mut(index).ok_or(EINVAL)?.with {
            Target::Live { sink, .. } if sink.is_bypass() => Err(EBUSY),
            Target::Live { eventfd: bound, .. } => {
                trace::bind(context, index, eventfd.is_some());
                core::mem::swap(bound, eventfd);
                Ok(())
            }
            Target::Off { .. } => Err(EINVAL),
        }
    }

    /// Binds slot `index` for irq bypass; the eventfd stays.
    pub(super) fn begin_bypass(&mut self, index: usize) -> Result {
        match &mut self.routes.get_mut(index).ok_or(EINVAL)?.with {
            Target::Live {
                sink: sink @ Sink::EventFd,
                ..
            } => {
                *sink = Sink::Bypass;
                Ok(())
            }
            Target::Live { .. } => Err(EBUSY),
            Target::Off { .. } => Err(EINVAL),
        }
    }

    /// Exchanges the eventfd of slot `index` of `context`, which is bound for irq bypass.
    pub(super) fn exchange(&mut self, context: u64, index: usize, eventfd: &mut Option<EventFd>) {
        if let Some(Target::Live { eventfd: bound, .. }) =
            self.routes.get_mut(index).map(|route| &mut route.with)
        {
            trace::bind(context, index, eventfd.is_some());
            core::mem::swap(bound, eventfd);
        }
    }

    /// Ends what [`Self::begin_bypass`] began. If a guest had the source and it did not come back, the slot
    /// stays as it is until it is freed.
    pub(super) fn end_bypass(&mut self, index: usize) {
        if let Some(Target::Live {
            sink: sink @ Sink::Bypass,
            ..
        }) = self.routes.get_mut(index).map(|route| &mut route.with)
        {
            *sink = Sink::EventFd;
        }
    }

    /// Has events of slot `index` wait in its source, which is a `kind`, for a guest to be given it. None
    /// that was sent before ends an interrupt any more.
    pub(super) fn give(&mut self, index: usize, kind: SourceKind) -> Result {
        let was_held = self.moderation.is_held(kind, index);
        let route = self.routes.get_mut(index).ok_or(EINVAL)?;
        if !matches!(route.with, Target::Live { .. }) {
            return Err(EINVAL);
        }
        let was_sent = match kind {
            SourceKind::Ipi => route.hold(),
            SourceKind::Msi => self.messages.get(index).ok_or(EINVAL)?.hold(),
        };

        if let Target::Live { sink, .. } = &mut route.with {
            *sink = Sink::Guest {
                // That of a source which was held back is not in the queue any more.
                is_sent: was_sent && !was_held,
            };
        }
        self.moderation.forget(index);
        Ok(())
    }

    /// Has events of slot `index` come again, after its source was given to a guest, and sends one. The
    /// source is a `kind`, off, and routed to the queue.
    pub(super) fn take_back_from_guest(&mut self, index: usize, kind: SourceKind) {
        let Some(route) = self.routes.get_mut(index) else {
            return;
        };
        let Target::Live { sink, .. } = &mut route.with else {
            return;
        };
        let is_sent = matches!(sink, Sink::Guest { is_sent: true });

        *sink = Sink::Bypass;
        // One that is still in the queue is the one, since a source has no second entry there.
        match (kind, self.messages.get(index)) {
            (SourceKind::Ipi, _) => route.resume(is_sent),
            (SourceKind::Msi, Some(message)) => message.resume(is_sent),
            (SourceKind::Msi, None) => (),
        }
    }

    /// Holds events of slot `index` back from now on.
    pub(super) fn mask(&mut self, index: usize) -> Result {
        let route = self.routes.get_mut(index).ok_or(EINVAL)?;
        let message = self.messages.get(index);

        match &route.with {
            Target::Live { sink, .. } => match sink {
                Sink::EventFd => (),
                Sink::Masked { .. } => return Ok(()),
                // P and Q are a guest's, or will be.
                Sink::Bypass | Sink::Guest { .. } => return Err(EBUSY),
            },
            Target::Off { .. } => return Err(EINVAL),
        }
        // An event that was sent already, or that the rate holds back, has P set. It comes later,
        // and is held back then. Without such an event, setting P holds events back: PQ=01 would
        // drop them.
        let parked = |parked| Kept {
            parked,
            came: false,
        };
        let generic = parked(route.park());
        let message = parked(message.is_some_and(|message| message.park()));

        if let Target::Live { sink, .. } = &mut route.with {
            *sink = Sink::Masked { generic, message };
        }
        Ok(())
    }

    /// Lets events of slot `index` of `context` through again, but for one of its message if it returns
    /// that: it is for [`Self::unmask_message`].
    pub(super) fn unmask(&mut self, context: u64, index: usize) -> Result<Option<Kept>> {
        let route = self.routes.get_mut(index).ok_or(EINVAL)?;
        let Target::Live {
            eventfd,
            rings,
            sink,
            lent,
        } = &mut route.with
        else {
            return Err(EINVAL);
        };
        let export = lent.counted_with;
        let &mut Sink::Masked { generic, message } = sink else {
            return Ok(None);
        };

        *sink = Sink::EventFd;
        if generic.came {
            *rings = rings.wrapping_add(1);
            signal(context, index, eventfd.as_ref());
        }
        // An event that was sent and has not come yet will come, and its interrupt is ended then.
        // Ending it here, too, would allow two entries of a source in the queue.
        if generic.parked || generic.came && !self.moderation.hold_lent(export, index) {
            route.end_interrupt();
        }
        Ok((message.came || message.parked).then_some(message))
    }

    /// Lets the event of the message of slot `index` of `context` through that [`Self::unmask`] has left.
    pub(super) fn unmask_message(&mut self, context: u64, index: usize, kept: Kept) {
        if kept.came {
            if let Some(Target::Live { eventfd, rings, .. }) =
                self.routes.get_mut(index).map(|route| &mut route.with)
            {
                *rings = rings.wrapping_add(1);
                signal(context, index, eventfd.as_ref());
            }
            self.moderation.end_message(&mut self.messages, index);
        } else if let Some(message) = self.messages.get(index) {
            message.end_interrupt();
        }
    }

    /// Ends the interrupt of the entry `eisn` of a queue of `size`, and signals its eventfd.
    #[inline]
    fn deliver(&mut self, context: u64, size: QueueSize, eisn: usize) {
        let (origin, index) = SourceKind::of_eisn(eisn, size);
        // No route if the slot was freed since the event.
        let Some(route) = self.routes.get_mut(index) else {
            trace::ring(context, index, Delivery::Freed);
            return;
        };

        match &mut route.with {
            Target::Live {
                sink: sink @ (Sink::Masked { .. } | Sink::Guest { .. }),
                ..
            } => {
                keep(context, index, sink, origin);
                return;
            }
            Target::Live { lent, .. } => match (origin, lent.counted_with) {
                (SourceKind::Ipi, 0) => route.end_interrupt(),
                (SourceKind::Ipi, export) if self.moderation.hold_lent(export, index) => (),
                (SourceKind::Ipi, _) => route.end_interrupt(),
                (SourceKind::Msi, _) => self.moderation.end_message(&mut self.messages, index),
            },
            // The interrupt is not ended, as that would switch the source on.
            Target::Off { .. } => (),
        }
        match &mut route.with {
            Target::Live { eventfd, rings, .. } => {
                *rings = rings.wrapping_add(1);
                signal(context, index, eventfd.as_ref());
            }
            Target::Off { strays, .. } => {
                trace::ring(context, index, Delivery::Off);
                *strays = strays.wrapping_add(1);
            }
        }
    }
}

/// Takes note of an event that does not go to the eventfd. Its interrupt is not ended.
#[cold]
#[inline(never)]
fn keep(context: u64, index: usize, sink: &mut Sink, origin: SourceKind) {
    match sink {
        Sink::EventFd | Sink::Bypass => (),
        Sink::Masked { generic, message } => {
            trace::ring(context, index, Delivery::Masked);
            match origin {
                SourceKind::Ipi => generic.came = true,
                SourceKind::Msi => message.came = true,
            }
        }
        // From before the guest had the source. It was sent one for this.
        Sink::Guest { is_sent } => {
            trace::ring(context, index, Delivery::Guest);
            *is_sent = false;
        }
    }
}

/// Signals the eventfd of a slot, if there is one.
#[inline(always)]
fn signal(context: u64, index: usize, eventfd: Option<&EventFd>) {
    match eventfd {
        Some(eventfd) => {
            trace::ring(context, index, Delivery::EventFd);
            eventfd.signal();
        }
        None => trace::ring(context, index, Delivery::Unbound),
    }
}

pub(super) struct DrainState {
    pub(super) consumer: Consumer,
    pub(super) slots: Targets,
    /// The escalation must stay masked.
    pub(super) closing: bool,
    /// A run of the handler has left some work, and nobody has done it since. The escalation is masked
    /// as long as that is so.
    pub(super) has_rest: bool,
    /// How often a run of the handler has left some work.
    pub(super) deferred: u64,
    /// How many entries were handled since the queue was empty.
    pub(super) backlog: usize,
    /// The highest value of `backlog`.
    pub(super) high_water: usize,
}

/// The handler of a queue's escalation, with a work item that lets go what is held back.
pub(super) type DrainHandler = Worker<Drain>;

/// The parts of the handler of a queue's escalation.
#[pin_data]
pub(super) struct Drain {
    /// The number of the context.
    pub(super) context: u64,
    pub(super) queue: Arc<EventQueue>,
    /// Where the program is told of storms.
    pub(super) events: Arc<EventLog>,
    /// Innermost lock of the driver, taken in hard interrupt context; see `file.rs`.
    #[pin]
    pub(super) state: SpinLockIrqSave<DrainState>,
}

impl Drain {
    /// Handles up to [`BUDGET`] entries if the kernel drains the queue, as far as there is time for
    /// them, and takes their number from `left`. Leaves the escalation alone.
    fn flush_some(&self, state: &mut DrainState, left: &mut usize) -> Remaining {
        let Consumer::Kernel(cursor) = &mut state.consumer else {
            return Remaining::Nothing;
        };
        let mut slice = slice();

        for _ in 0..BUDGET {
            match cursor.next(|index| self.queue.entry(index), &mut slice) {
                Next::Entry(eisn) => {
                    *left = left.saturating_sub(1);
                    state.slots.deliver(self.context, self.queue.size(), eisn);
                }
                Next::Empty => return Remaining::Nothing,
                Next::Late => break,
            }
        }
        Remaining::Some
    }

    /// Forgets slot `index`, whose source is off and flushed, if no entry of it comes any more. There
    /// may have been `expected` since this was called last.
    pub(super) fn forget(
        &self,
        state: &mut DrainState,
        index: usize,
        expected: u64,
    ) -> Result<(), QuiesceError> {
        if let Some(route) = state.slots.routes.get_mut(index) {
            let strayed = route.with.strayed();

            injectable!(
                uxive_forget_slot,
                QuiesceError::Events,
                match strayed > expected {
                    true => Err(QuiesceError::Events),
                    false => Ok(()),
                }
            )?;
        }
        state.slots.routes.remove(index);
        Ok(())
    }

    /// Returns whether an escalation is on its way to the handler.
    pub(super) fn in_flight(&self) -> bool {
        let armed = self.state.with(|state| state.consumer.is_armed());

        armed && self.queue.escalation_pending()
    }

    /// Returns whether an escalation was lost, after which it is masked as if it had fired.
    fn has_lost_escalation(&self, state: &DrainState) -> bool {
        let read = |index| self.queue.entry(index);
        let has_event = match &state.consumer {
            Consumer::Kernel(cursor) => cursor.has_next(read),
            Consumer::User { arming, cursor, .. } => arming.armed && cursor.has_next(read),
        };

        // An escalation that is on its way reaches the handler.
        has_event && !state.closing && self.queue.hold_escalation()
    }

    /// The escalation has fired, which masks it, or there is some work left since.
    #[inline(always)]
    fn fired(&self, state: &mut DrainState) -> Remaining {
        match &mut state.consumer {
            Consumer::Kernel(cursor) => {
                let (mut backlog, mut slice) = (state.backlog, slice());
                let remaining = drain(
                    || cursor.next(|index| self.queue.entry(index), &mut slice),
                    |eisn| {
                        backlog = backlog.wrapping_add(1);
                        state.slots.deliver(self.context, self.queue.size(), eisn);
                    },
                    || {
                        if !state.closing {
                            self.queue.unmask_escalation();
                        }
                    },
                    || state.closing || self.queue.hold_escalation(),
                );
                let handled = backlog.wrapping_sub(state.backlog);
                trace::drain(self.context, handled, remaining == Remaining::Some);
                state.high_water = state.high_water.max(backlog);
                state.backlog = match remaining {
                    Remaining::Nothing => 0,
                    Remaining::Some => backlog,
                };
                state.has_rest = remaining == Remaining::Some;
                if state.has_rest {
                    state.deferred = state.deferred.wrapping_add(1);
                }
                remaining
            }
            Consumer::User {
                eventfd, arming, ..
            } => {
                if arming.fired() {
                    trace::wake(self.context, eventfd.is_some());
                    if let Some(eventfd) = eventfd {
                        eventfd.signal();
                    }
                    self.events.pollers().notify_all();
                }
                Remaining::Nothing
            }
        }
    }
}

impl BoundedHandler for DrainHandler {
    #[inline]
    fn run(&self, disabled: &LocalInterruptDisabled) -> Remaining {
        let (remaining, wake) = (self.state).with_disabled(disabled, |state| {
            (self.fired(state), state.slots.moderation.wake())
        });

        if let Some(wake) = wake {
            let_go_after(self, wake);
        }
        remaining
    }

    fn run_rest(&self) -> Remaining {
        with_state(self, |state| match state.has_rest {
            true => self.fired(state),
            false => Remaining::Nothing,
        })
    }

    fn cpu_dead(&self) -> Remaining {
        with_state(self, |state| match self.has_lost_escalation(state) {
            true => self.fired(state),
            false => Remaining::Nothing,
        })
    }
}

/// Calls `what`, which may deliver events, with the state of `drain`. Sees to it that those which are
/// held back are let go later.
#[inline(always)]
pub(super) fn with_state<R>(drain: &DrainHandler, what: impl FnOnce(&mut DrainState) -> R) -> R {
    let (result, wake) = drain.state.with(|state| {
        let result = what(state);

        (result, state.slots.moderation.wake())
    });

    if let Some(wake) = wake {
        let_go_after(drain, wake);
    }
    result
}

/// Handles all entries that are in the queue now, so that none is left of a source that is off.
pub(super) fn flush(drain: &DrainHandler) {
    // Others may keep ringing, but no more entries than there is room for are older than this.
    let mut left = drain.queue.size().entries();

    while left > 0
        && with_state(drain, |state| drain.flush_some(state, &mut left)) == Remaining::Some
    {
        // The CPU may be needed: there can be many, and each can take long.
        task::cond_resched();
    }
}

/// Queues the work item, unless it is queued.
#[cold]
fn let_go_after(drain: &DrainHandler, delay: Delta) {
    let msecs = u32::try_from(delay.as_millis_ceil()).unwrap_or(u32::MAX);

    drain.queue_after(msecs_to_jiffies(msecs));
}

impl Work for Drain {
    fn run(worker: &Worker<Self>) {
        let mut pass = Pass::new(Instant::now());

        while let Step::More(storm) = worker.release(&mut pass) {
            if let Some(storm) = storm {
                worker.tell(&storm);
            }
        }
        if let Some(due) = pass.next {
            let_go_after(worker, due);
        }
    }
}

impl Drain {
    /// Ends interrupts that are held back, see [`Moderation::release`].
    fn release(&self, pass: &mut Pass) -> Step {
        self.state.with(|state| {
            let Targets {
                routes,
                messages,
                moderation,
            } = &mut state.slots;

            moderation.release(routes, messages, pass)
        })
    }

    /// Tells the program of a storm.
    fn tell(&self, storm: &Storm) {
        let &Storm {
            index,
            export,
            count,
        } = storm;

        self.events.report(Event::Storm {
            offset: Window::TRIGGER.offset(index).unwrap_or(0),
            count: count.into(),
            export,
        });
    }
}
