// SPDX-License-Identifier: GPL-2.0

//! The event queue of a context, and how it is drained.
//!
//! Hardware writes an entry to the queue for each event of a source, with a number for the slot and
//! the source: see [`SourceKind`]. The first entry after the escalation was unmasked calls the
//! handler.
//!
//! Kernel drain, the default: the handler walks the new entries, ends each interrupt and signals
//! its eventfd, in pieces of [`BUDGET`](cursor::BUDGET): the first in hard interrupt context, others
//! from a thread of the class `SCHED_FIFO`, as programs of that class would keep others from the CPU.
//! So that a storm in one context leaves the CPU to others, that thread works for a part of the time,
//! and a workqueue for the rest. Only when the queue is empty
//! is the escalation unmasked, and the queue looked at once more: an entry written before that did
//! not escalate, one written after it does.
//!
//! User drain: the program reads the queue and ends interrupts by itself. The handler signals one
//! eventfd and leaves the escalation masked until the program arms it again, before it blocks.
//!
//! Messages of an AFU are counted, and events of exported interrupts. If they come too often in a
//! period, their interrupts are not ended before the next period, so no more events come: `rate`.
//!
//! The queue cannot overflow. A source has at most one entry in it, since a further event waits
//! in the source until the interrupt is ended, and there are at least as many entries as sources. A
//! program that drains by itself can end interrupts that it has not seen, and so overrun its own
//! queue, to its own loss.

use crate::{
    events::EventLog,
    kernel_ext::{
        chunks::Room,
        cpu,
        cpuhp::CpuDeadList,
        eventfd::EventFd,
        fault::injectable,
        file::PollEvents,
        irq::IrqHandler,
        kthread::KthreadWorker,
        lock::SpinLockIrqSave,
        ratelimit::pr_warn_ratelimited,
        work::Worker, //
    },
    limits::{
        MaxRate,
        QueueCharge,
        UserCharge, //
    },
    trace,
    xive::{
        AllocError,
        EisnTable,
        EscalationHandler,
        EventQueue,
        LeakMark,
        Platform,
        QueueMemory,
        QueueSize,
        QuiesceError,
        Source,
        SourceKind, //
    }, //
};
use core::ops::Range;
use cursor::{
    Arming,
    Cursor, //
};
use drain::{
    flush,
    with_state,
    Consumer,
    Drain,
    DrainHandler,
    DrainState,
    Sink,
    Target,
    Targets, //
};
pub(crate) use guest::GuestSlot;
use kernel::{
    bitmap::BitmapVec,
    prelude::*,
    rbtree::RBTreeNode,
    static_lock_class,
    str::CString,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use rate::{
    Left,
    Lent,
    Rate, //
};

mod cursor;
mod drain;
mod guest;
mod rate;

/// How many milliseconds a queue that is dropped before it is quiet has to quiesce.
const LAST_TRIES: usize = 10;

/// All queues.
pub(crate) struct QueueList {
    /// For when a CPU goes offline.
    dead: Arc<CpuDeadList<IrqHandler<DrainHandler>>>,
    /// They drain what is too much for an interrupt.
    threads: KVec<Arc<KthreadWorker>>,
}

impl QueueList {
    /// Makes an empty list, with a thread for each CPU that is online.
    ///
    /// # Errors
    ///
    /// Those of [`CpuDeadList::new`] and [`KthreadWorker::new`].
    pub(crate) fn new() -> Result<Self> {
        let mut threads = KVec::new();

        for number in 0..cpu::online().weight() {
            threads.push(KthreadWorker::new(c"uxive", number)?, GFP_KERNEL)?;
        }
        Ok(Self {
            dead: CpuDeadList::new(c"misc/uxive:dead")?,
            threads,
        })
    }

    /// Returns the thread for the queue of `context`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if there is none, which does not happen: a CPU is online.
    fn thread(&self, context: u64) -> Result<Arc<KthreadWorker>> {
        let count = self.threads.len().max(1) as u64;
        let thread = self.threads.get((context % count) as usize);

        Ok(thread.ok_or(ENXIO)?.clone())
    }
}

/// The state of a queue at one moment.
pub(crate) struct QueueView {
    pub(crate) vp: u32,
    /// The next event calls the handler, or tells the program that drains the queue.
    pub(crate) armed: bool,
    /// Only if the kernel drains the queue.
    pub(crate) kernel: Option<KernelDrainView>,
}

/// The state of the kernel's drain of a queue at one moment.
pub(crate) struct KernelDrainView {
    /// The index of the entry that is written next, and the generation that it will have.
    pub(crate) index: usize,
    pub(crate) generation: u32,
    /// The most entries that were handled without the queue being empty in between.
    pub(crate) high_water: usize,
    /// How often there was more to do than may be done in hard interrupt context.
    pub(crate) deferred: u64,
}

/// Where the events of a slot go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteState {
    /// To its eventfd.
    Live,
    /// Nowhere: they are held back.
    Masked,
    /// To its eventfd, until there is a guest.
    Bypass,
    /// To a guest.
    Guest,
}

/// The state of a slot in the kernel's drain.
pub(crate) struct RouteView {
    /// An eventfd is signalled.
    pub(crate) bound: bool,
    pub(crate) state: RouteState,
    /// How many events were handled.
    pub(crate) rings: u64,
}

/// The charge of a queue: until that is gone, or for ever if it is leaked.
struct LeakableCharge {
    charge: QueueCharge,
    leaked: LeakMark,
}

impl Drop for LeakableCharge {
    fn drop(&mut self) {
        if self.leaked.is_set() {
            self.charge.leak();
        }
    }
}

/// The event queue of a context, with the targets of its events.
pub(crate) struct Queue {
    escalation: EscalationHandler<DrainHandler>,
    user_drained: bool,
    // Given back after the queue itself.
    charge: LeakableCharge,
}

impl Queue {
    /// Sets up the empty queue of `context`, of `size`, which the kernel drains; the number appears in
    /// `/proc/interrupts`. `events` are told of storms.
    ///
    /// # Errors
    ///
    /// Those of [`EventQueue::new`] and [`EscalationHandler::new`].
    pub(crate) fn new(
        platform: &Arc<Platform>,
        all: &QueueList,
        context: u64,
        size: QueueSize,
        charge: QueueCharge,
        events: Arc<EventLog>,
    ) -> Result<Arc<Self>, AllocError> {
        let consumer = Consumer::Kernel(Cursor::new(size));

        Self::with_consumer(platform, all, context, size, charge, events, consumer)
    }

    /// Sets up that of one which the program drains, armed: the first event wakes the pollers of the
    /// file, and signals `eventfd`.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub(crate) fn new_user_drained(
        platform: &Arc<Platform>,
        all: &QueueList,
        context: u64,
        size: QueueSize,
        charge: QueueCharge,
        events: Arc<EventLog>,
        eventfd: Option<EventFd>,
    ) -> Result<Arc<Self>, AllocError> {
        let consumer = Consumer::User {
            eventfd,
            arming: Arming::new(),
            cursor: Cursor::new(size),
        };

        Self::with_consumer(platform, all, context, size, charge, events, consumer)
    }

    fn with_consumer(
        platform: &Arc<Platform>,
        all: &QueueList,
        context: u64,
        size: QueueSize,
        charge: QueueCharge,
        events: Arc<EventLog>,
        consumer: Consumer,
    ) -> Result<Arc<Self>, AllocError> {
        let user_drained = matches!(consumer, Consumer::User { .. });
        let charge = LeakableCharge {
            charge,
            leaked: LeakMark::new()?,
        };
        let state = DrainState {
            consumer,
            slots: Targets::new(platform)?,
            closing: false,
            has_rest: false,
            deferred: 0,
            backlog: 0,
            high_water: 0,
        };
        let drain = |queue| {
            let drain = try_pin_init!(Drain {
                context,
                queue,
                events,
                state <- SpinLockIrqSave::new(state, c"uxive_drain", static_lock_class!()),
            }? Error);

            Worker::new(static_lock_class!(), drain)
        };
        let name = CString::try_from_fmt(fmt!("uxive-{context}"))?;
        let thread = all.thread(context)?;
        let queue = EventQueue::new(platform, size, charge.leaked.clone())?;
        let escalation = EscalationHandler::new(queue, name, all.dead.clone(), thread, drain)?;

        let queue = Self {
            escalation,
            user_drained,
            charge,
        };
        Ok(Arc::new(queue, GFP_KERNEL_ACCOUNT)?)
    }

    /// Returns the user whose queue it is.
    #[inline]
    pub(crate) fn user(&self) -> &UserCharge {
        self.charge.charge.user()
    }

    /// Routes `source` here, for slot `index`, which is new, and switches it on.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, `ENOSPC` if `index` is beyond the queue, those of
    /// [`EventQueue::route`].
    #[inline(always)]
    pub(crate) fn attach(&self, index: usize, source: &Source) -> Result {
        let drain = self.drain();

        drain.queue.route(source, SourceKind::Ipi, index)?;
        if !self.is_user_drained() {
            let entered = |state: &mut DrainState| match state.slots.routes.missing(index) {
                None => (state
                    .slots
                    .routes
                    .insert(index, Some(source), Target::new()))
                .map(|()| true),
                Some(_) => Ok(false),
            };

            while !drain.state.with(entered)? {
                self.grow(index, |state| &mut state.slots.routes)?;
            }
        }
        source.switch_on();
        Ok(())
    }

    /// Routes `source`, a message, here for slot `index`, which is new or has a generic source, and
    /// switches it on. It may come no more often than `max_rate`.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub(crate) fn attach_message(
        &self,
        index: usize,
        source: &Source,
        max_rate: &Arc<MaxRate>,
    ) -> Result {
        let drain = self.drain();

        drain.queue.route(source, SourceKind::Msi, index)?;
        if !self.is_user_drained() {
            self.grow(index, |state| &mut state.slots.routes)?;
            self.grow(index, |state| &mut state.slots.messages)?;
            self.grow_held(SourceKind::Msi, index + 1)?;
            let rate = Rate::new(max_rate.clone(), u32::MAX);
            drain.state.with(|state| {
                state.slots.messages.insert_message(index, source, rate)?;
                match state.slots.routes.get(index) {
                    None => state.slots.routes.insert(index, None, Target::new()),
                    Some(_) => Ok(()),
                }
            })?;
        }
        source.switch_on();
        Ok(())
    }

    /// Makes room for slot `index` in a table of the drain, unless there is.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    #[inline(never)]
    fn grow<T, K>(
        &self,
        index: usize,
        table: fn(&mut DrainState) -> &mut EisnTable<T, K>,
    ) -> Result {
        let drain = self.drain();
        let missing = drain.state.with(|state| table(state).missing(index));

        if let Some(capacity) = missing {
            // Memory is neither allocated nor freed under the lock.
            let mut room = Room::new(index, capacity)?;

            drain
                .state
                .with(|state| table(state).grow(index, &mut room));
        }
        Ok(())
    }

    /// Makes room for slots below `end` to be held back.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    fn grow_held(&self, origin: SourceKind, end: usize) -> Result {
        let drain = self.drain();
        let has_room = |state: &mut DrainState| state.slots.moderation.has_room(origin, end);

        if !drain.state.with(has_room) {
            // Memory is neither allocated nor freed under the lock.
            let mut larger = Some(BitmapVec::new(end.next_power_of_two(), GFP_KERNEL_ACCOUNT)?);
            (drain.state).with(|state| state.slots.moderation.grow(origin, &mut larger));
        }
        Ok(())
    }

    /// Enters the export `id`, of a number that none has had, of some of `slots`. Together events of those
    /// that are [added](Lending::add) may come no more often than `max_rate`, or than `own_rate` in a
    /// second. Not if the program drains the queue.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn lend(
        self: &Arc<Self>,
        id: u32,
        slots: Range<usize>,
        max_rate: Arc<MaxRate>,
        own_rate: u32,
    ) -> Result<Lending> {
        if !self.user_drained {
            let lent = Lent::new(slots.clone(), Rate::new(max_rate, own_rate));
            let node = RBTreeNode::new(id, lent, GFP_KERNEL_ACCOUNT)?;

            self.grow_held(SourceKind::Ipi, slots.end)?;
            (self.drain().state).with(|state| state.slots.moderation.enter(node));
        }
        Ok(Lending {
            queue: self.clone(),
            id,
        })
    }

    fn drain(&self) -> &DrainHandler {
        self.escalation.handler()
    }

    pub(crate) fn context(&self) -> u64 {
        self.drain().context
    }

    /// Returns whether the program drains the queue.
    pub(crate) fn is_user_drained(&self) -> bool {
        self.user_drained
    }

    /// Returns [`PollEvents::PRIORITY`] if the program drains the queue, and there was an event since
    /// it was armed last.
    pub(crate) fn poll(&self) -> PollEvents {
        if !self.user_drained {
            return PollEvents::NONE;
        }
        (self.drain().state).with(|state| match &state.consumer {
            Consumer::User { arming, .. } if !arming.armed => PollEvents::PRIORITY,
            _ => PollEvents::NONE,
        })
    }

    /// Returns how large the queue is.
    #[inline]
    pub(crate) fn size(&self) -> QueueSize {
        self.drain().queue.size()
    }

    pub(crate) fn memory(&self) -> QueueMemory {
        QueueMemory(self.drain().queue.clone())
    }

    /// Returns the state of the queue.
    pub(crate) fn view(&self) -> QueueView {
        let drain = self.drain();
        let (armed, kernel) = drain.state.with(|state| match &state.consumer {
            Consumer::User { arming, .. } => (arming.armed, None),
            Consumer::Kernel(cursor) => (
                !drain.queue.escalation_pending(),
                Some(KernelDrainView {
                    index: cursor.index,
                    generation: cursor.generation >> 31,
                    high_water: state.high_water,
                    deferred: state.deferred,
                }),
            ),
        });

        QueueView {
            vp: drain.queue.vp(),
            armed,
            kernel,
        }
    }

    /// Returns the state of slot `index` in the drain; `None` if the program drains the queue.
    pub(crate) fn route_view(&self, index: usize) -> Option<RouteView> {
        let view = |state: &mut DrainState| match &state.slots.routes.get(index)?.with {
            Target::Live {
                eventfd,
                rings,
                sink,
                ..
            } => Some(RouteView {
                bound: eventfd.is_some(),
                state: match sink {
                    Sink::EventFd => RouteState::Live,
                    Sink::Masked { .. } => RouteState::Masked,
                    Sink::Bypass => RouteState::Bypass,
                    Sink::Guest { .. } => RouteState::Guest,
                },
                rings: *rings,
            }),
            Target::Off { .. } => None,
        };

        self.drain().state.with(view)
    }

    /// Makes the next event signal the eventfd, unless that is so already.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the kernel drains the queue.
    #[inline(never)]
    pub(crate) fn arm(&self) -> Result {
        let drain = self.drain();

        // An escalation that came while the last one is being handled could be dropped.
        self.escalation.synchronize();

        drain.state.with(|state| match &mut state.consumer {
            Consumer::Kernel(_) => Err(EINVAL),
            Consumer::User { arming, cursor, .. } => {
                trace::arm(drain.context, arming.armed);
                // The program looks at all of these, also if it was armed before.
                *cursor = Cursor::behind_all(drain.queue.size(), |index| drain.queue.entry(index));
                if arming.arm() {
                    drain.queue.unmask_escalation();
                }
                Ok(())
            }
        })
    }

    /// Switches the sources of slot `index` off and forgets it.
    ///
    /// When this returns its eventfd is signalled no more, and no entry of it is in the queue unless
    /// the program drains that.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Source`] and [`QuiesceError::Events`]: it is not forgotten, and this must be
    /// called again later.
    #[inline(always)]
    pub(crate) fn detach(
        &self,
        index: usize,
        generic: Option<&Source>,
        message: Option<&Source>,
    ) -> Result<(), QuiesceError> {
        let drain = self.drain();
        let are_idle = [generic, message].into_iter().flatten().all(Source::hold);
        // These are dropped when this returns, outside the lock.
        let (mut _eventfd, mut _export) = (None, None);
        let left = drain.state.with(|state| {
            // Once the slot is closed, its events are discarded.
            if message.is_some() {
                state.slots.messages.remove(index);
            }
            state.slots.moderation.forget(index);
            let mut was_open = self.user_drained;
            if let Some(route) = state.slots.routes.get_mut(index) {
                let closed = route.with.close();
                was_open = closed.is_some();
                if let Some((eventfd, export)) = closed {
                    _eventfd = eventfd;
                    _export = state.slots.moderation.uncount(export);
                }
            }

            if !are_idle || !was_open {
                // A source that was on has P set while an entry of it is in the queue, so there is
                // no second.
                let sources = u64::from(generic.is_some()) + u64::from(message.is_some());
                return Ok(Some(if was_open { sources } else { 0 }));
            }
            for source in [generic, message].into_iter().flatten() {
                source.switch_off(true)?;
            }
            drain.forget(state, index, 0).map(|()| None)
        })?;

        match left {
            None => Ok(()),
            Some(expected) => self.detach_busy(index, generic, message, expected),
        }
    }

    /// The rest of [`Self::detach`], if there may be events of the slot, which is closed: `expected` at
    /// most.
    #[cold]
    #[inline(never)]
    fn detach_busy(
        &self,
        index: usize,
        generic: Option<&Source>,
        message: Option<&Source>,
        expected: u64,
    ) -> Result<(), QuiesceError> {
        let drain = self.drain();

        // Only now that it is closed, as handling an entry of a source that is off would switch it
        // on. Without the lock, as firmware is called.
        for source in [generic, message].into_iter().flatten() {
            source.switch_off(false)?;
        }
        flush(drain);
        (drain.state).with(|state| drain.forget(state, index, expected))
    }

    /// Makes events of slot `index` signal `eventfd` from now on, or nothing, and replaces it by the old
    /// one.
    ///
    /// The old eventfd is signalled no more. The caller must drop it, outside locks.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such slot, or the program drains the queue.
    /// - `EBUSY` if it is bound for irq bypass.
    #[inline(always)]
    pub(crate) fn bind(&self, index: usize, eventfd: &mut Option<EventFd>) -> Result {
        let drain = self.drain();

        (drain.state).with(|state| state.slots.bind(drain.context, index, eventfd))
    }

    /// Binds slot `index` for irq bypass, without an eventfd of that yet: [`Self::exchange`] or
    /// [`Self::end_bypass`] comes next.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such slot, or the program drains the queue.
    /// - `EBUSY` if it is masked, or bound for irq bypass.
    pub(crate) fn begin_bypass(&self, index: usize) -> Result {
        (self.drain().state).with(|state| state.slots.begin_bypass(index))
    }

    /// Replaces the eventfd of slot `index`, which is bound for irq bypass. The caller must drop the old
    /// one, outside locks.
    pub(crate) fn exchange(&self, index: usize, eventfd: &mut Option<EventFd>) {
        let drain = self.drain();

        (drain.state).with(|state| state.slots.exchange(drain.context, index, eventfd));
    }

    /// Slot `index` is not bound for irq bypass any more, and no guest has it.
    pub(crate) fn end_bypass(&self, index: usize) {
        (self.drain().state).with(|state| state.slots.end_bypass(index));
    }

    /// Holds events of slot `index` back from now on. Nothing changes if they are.
    ///
    /// # Errors
    ///
    /// As [`Self::bind`].
    pub(crate) fn mask(&self, index: usize) -> Result {
        self.drain().state.with(|state| state.slots.mask(index))
    }

    /// Lets events of slot `index`, which is not freed meanwhile, through again: for any number that came
    /// meanwhile from a source, one. Nothing changes if they are.
    ///
    /// # Errors
    ///
    /// `EINVAL` as [`Self::bind`].
    pub(crate) fn unmask(&self, index: usize) -> Result {
        let drain = self.drain();
        let kept = with_state(drain, |state| state.slots.unmask(drain.context, index))?;

        // For itself, since an eventfd that is signalled wakes any number of waiters.
        if let Some(kept) = kept {
            with_state(drain, |state| {
                state.slots.unmask_message(drain.context, index, kept);
            });
        }
        Ok(())
    }

    /// Quiesces the escalation: waits, `tries` times a millisecond, until one that is on its way
    /// has been handled, and masks it. All sources must be off.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Escalation`]: nothing has changed, and this must be called again later.
    pub(crate) fn quiesce(&self, tries: usize) -> Result<(), QuiesceError> {
        let drain = self.drain();

        injectable!(uxive_await_escalation, QuiesceError::Escalation, {
            for _ in 0..tries {
                if !drain.in_flight() {
                    break;
                }
                fsleep(Delta::from_millis(1));
            }
            match drain.in_flight() {
                true => Err(QuiesceError::Escalation),
                false => Ok(()),
            }
        })?;

        drain.state.with(|state| {
            if let Err(reason) = drain.queue.mask_escalation() {
                // As it was. The queue of a context that is open is used further.
                if state.consumer.is_armed() {
                    drain.queue.unmask_escalation();
                }
                return Err(reason);
            }
            state.closing = true;
            Ok(())
        })
    }

    /// Leaks the VP and the memory when the queue is dropped: a source that is routed here does not
    /// go quiet.
    pub(crate) fn leak(&self) {
        self.drain().queue.leak();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let quiet = (self.drain().state).with(|state| state.closing);

        // Callers that can wait have quiesced it before. If it is not quiet, freeing the interrupt
        // would wait without an end.
        if !quiet && self.quiesce(LAST_TRIES).is_err() {
            let context = self.context();
            pr_warn_ratelimited!(
                "context {context}: its event queue does not go quiet, and is not given back\n"
            );
            self.escalation.leak();
        }
    }
}

/// An export of interrupts of a queue. Dropping it ends the export; slots that are in it still are
/// counted with it until they are freed.
pub(crate) struct Lending {
    queue: Arc<Queue>,
    id: u32,
}

impl Lending {
    /// Has events of slot `index`, which is there and not freed meanwhile, counted from now on.
    pub(crate) fn add(&self, index: usize) {
        self.with_slots(|slots| slots.moderation.lend(&mut slots.routes, index, self.id));
    }

    /// Takes slot `index` out, which was added and is not freed meanwhile. If others cannot ring it any
    /// more, its events are not counted, and it is not held back.
    pub(crate) fn remove(&self, index: usize) {
        self.with_slots(|slots| slots.moderation.take_back(&mut slots.routes, index));
    }

    fn with_slots(&self, what: impl FnOnce(&mut Targets) -> Left) {
        if !self.queue.user_drained {
            let drain = self.queue.drain();
            // An export that has left is dropped outside of the lock.
            let _left = with_state(drain, |state| what(&mut state.slots));
        }
    }
}

impl Drop for Lending {
    fn drop(&mut self) {
        self.with_slots(|slots| slots.moderation.leave(self.id));
    }
}
