// SPDX-License-Identifier: GPL-2.0

//! The event queue of a context, and how it is drained.
//!
//! Hardware writes an entry to the queue for each event of a source, with a number that says of which
//! slot and which of its sources it is: see [`SourceKind`]. The first one after the escalation was unmasked
//! calls the handler.
//!
//! Kernel drain, the default: the handler walks the new entries, ends each interrupt and signals
//! its eventfd, in pieces of [`BUDGET`]: the first in hard interrupt context, others from a
//! workqueue, so that a storm in one context leaves the CPU to others. Only when the queue is empty
//! is the escalation unmasked, and the queue looked at once more: an entry written before that did
//! not escalate, one written after it does.
//!
//! User drain: the program reads the queue and ends interrupts by itself. The handler signals one
//! eventfd and leaves the escalation masked until the program arms it again, before it blocks.
//!
//! Messages of an AFU are counted, as a broken one sends them without a pause. One that comes too often
//! in a period is not ended before the next begins, and so not sent again: [`Queue::moderate`].
//!
//! The queue cannot overflow. A source has at most one entry in it, since a further event waits
//! in the source until the interrupt is ended, and there are at least as many entries as sources. A
//! program that drains by itself can end interrupts that it has not seen, and so overrun its own
//! queue, to its own loss.

use crate::{
    kernel_ext::{
        cpuhp::CpuDeadList,
        eventfd::EventFd,
        fault::may_fail,
        file::PollEvents,
        irq::{
            BoundedHandler,
            IrqHandler,
            Remaining, //
        },
        lock::SpinLockIrqSave,
        ratelimit::may_log,
        trace::{
            self,
            Delivery, //
        }, //
    },
    quota::QueueCharge, //
    xive::{
        AllocError,
        EisnTable,
        EscalationHandler,
        EventQueue,
        MessageEisnTable,
        Platform,
        QueueMemory,
        QueueSize,
        QuiesceError,
        Source, //
        SourceKind,
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        poll::PollCondVarBox,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How many entries are handled at a time, with interrupts off.
const BUDGET: usize = 64;

/// How often a queue that goes without having come to rest is given a millisecond for that.
const LAST_TRIES: usize = 10;

/// A reader's place in an event queue.
struct Cursor {
    size: QueueSize,
    index: usize,
    /// The generation that entries of the present pass have, in bit 31.
    generation: u32,
}

impl Cursor {
    const GENERATION: u32 = 1 << 31;

    fn new(size: QueueSize) -> Self {
        Self {
            size,
            index: 0,
            generation: Self::GENERATION,
        }
    }

    /// Takes the next entry, which `read` gets by its index, and returns its EISN. `None` if
    /// hardware has not written it yet.
    #[inline]
    fn next(&mut self, read: impl FnOnce(usize) -> u32) -> Option<usize> {
        let entry = read(self.index);

        if (entry ^ self.generation) & Self::GENERATION != 0 {
            return None;
        }
        self.index = self.index.wrapping_add(1) & (self.size.entries() - 1);
        if self.index == 0 {
            self.generation ^= Self::GENERATION;
        }
        Some((entry & !Self::GENERATION) as usize)
    }

    /// Returns the place behind all entries that hardware has written to a queue of `size`, which
    /// `read` gets by their index.
    ///
    /// Found in the queue alone: any number of passes may have gone since somebody looked last.
    fn behind_all(size: QueueSize, read: impl Fn(usize) -> u32) -> Self {
        let generation = read(0) & Self::GENERATION;
        let (mut low, mut high) = (1, size.entries());

        // Those of the present pass come first, and have the generation of the first entry. If all
        // have it the pass is over.
        while low < high {
            let middle = low + (high - low) / 2;

            match read(middle) & Self::GENERATION == generation {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        match low == size.entries() {
            true => Self {
                size,
                index: 0,
                generation: generation ^ Self::GENERATION,
            },
            false => Self {
                size,
                index: low,
                generation,
            },
        }
    }

    /// Returns whether hardware has written the next entry.
    fn has_next(&self, read: impl FnOnce(usize) -> u32) -> bool {
        (read(self.index) ^ self.generation) & Self::GENERATION == 0
    }
}

/// A piece of kernel drain: handles up to [`BUDGET`] entries, which `next` takes from the queue.
///
/// To be called when the escalation has fired, which masks it. When the queue is empty `unmask` is
/// called, and the queue looked at once more, before [`Remaining::Nothing`] is returned.
#[inline]
fn drain(
    mut next: impl FnMut() -> Option<usize>,
    mut handle: impl FnMut(usize),
    unmask: impl FnOnce(),
) -> Remaining {
    let mut unmask = Some(unmask);

    for _ in 0..BUDGET {
        match (next(), unmask.take()) {
            (Some(eisn), unused) => {
                unmask = unused;
                handle(eisn);
            }
            (None, Some(unmask)) => unmask(),
            (None, None) => return Remaining::Nothing,
        }
    }
    Remaining::Some
}

/// Whether the program that drains a queue is to be told of the next event.
struct Arming {
    armed: bool,
}

impl Arming {
    /// Armed, as the escalation of a new queue is unmasked.
    fn new() -> Self {
        Self { armed: true }
    }

    /// The escalation has fired, which masks it. Returns whether to tell the program.
    fn fired(&mut self) -> bool {
        core::mem::take(&mut self.armed)
    }

    /// The program is about to block. Returns whether to unmask the escalation: else it is.
    fn arm(&mut self) -> bool {
        !core::mem::replace(&mut self.armed, true)
    }
}

/// Who reads the queue.
enum Consumer {
    /// The kernel, from here on.
    Kernel(Cursor),
    /// The program, which is told by its eventfd, if it has one, and by `poll`.
    User {
        eventfd: Option<EventFd>,
        pollers: Arc<PollCondVarBox>,
        arming: Arming,
        /// Behind what was in the queue when it was armed last.
        cursor: Cursor,
    },
}

impl Consumer {
    /// Returns whether the next event is to escalate, if the last escalation has been handled.
    fn is_armed(&self) -> bool {
        match self {
            Self::Kernel(_) => true,
            Self::User { arming, .. } => arming.armed,
        }
    }
}

/// How often messages may come: more of a slot within a period are held back until the next.
struct Moderation {
    period: u32,
    limit: u32,
    /// How many slots are held back.
    held: usize,
}

/// How often the message of a slot has come.
#[derive(Default)]
struct Rate {
    period: u32,
    /// In that period.
    count: u32,
    /// Its interrupt was not ended, so that no further event of it comes.
    held: bool,
    /// The program was told, and it has been held in each period since.
    told: bool,
}

impl Moderation {
    /// Ends the interrupt of a message, unless it has come too often.
    fn end_interrupt(&mut self, messages: &mut MessageEisnTable<Rate>, index: usize) {
        if let Some(message) = messages.get_mut(index) {
            match message.with.count(self) {
                false => message.end_interrupt(),
                true => self.held = self.held.saturating_add(1),
            }
        }
    }
}

impl Rate {
    /// Counts an event. Returns whether it was the last that this period has room for.
    fn count(&mut self, moderation: &Moderation) -> bool {
        let periods = moderation.period.wrapping_sub(self.period);

        if periods > 0 {
            if periods > 1 || self.count < moderation.limit {
                self.told = false;
            }
            self.period = moderation.period;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.held = self.count >= moderation.limit;
        self.held
    }
}

/// How the next event of a source is kept while its slot is masked.
#[derive(Clone, Copy, Default)]
struct Kept {
    /// None was on its way when the slot was masked, so that it waits in the source.
    parked: bool,
    /// One that was on its way has come, and its interrupt has not been ended.
    came: bool,
}

/// Whether the events of a slot are held back.
#[derive(Clone, Copy, Default)]
struct Mask {
    on: bool,
    generic: Kept,
    message: Kept,
}

/// What becomes of the events of a slot.
enum Target {
    /// The eventfd is signalled, if there is one.
    Live {
        eventfd: Option<EventFd>,
        /// How many events there were.
        rings: u64,
        mask: Mask,
    },
    /// Nothing: the sources are switched off, and should have none.
    Off {
        strays: u64,
        /// How many of them [`Self::strayed`] has returned.
        counted: u64,
    },
}

impl Target {
    /// That of a new slot.
    fn new() -> Self {
        Self::Live {
            eventfd: None,
            rings: 0,
            mask: Mask::default(),
        }
    }

    /// Has nothing become of events from now on. Returns what was signalled, if that is new.
    fn close(&mut self) -> Option<Option<EventFd>> {
        let Self::Live { eventfd, .. } = self else {
            return None;
        };
        let eventfd = eventfd.take();

        *self = Self::Off {
            strays: 0,
            counted: 0,
        };
        Some(eventfd)
    }

    /// Returns how many events there were since this was called last that came to nothing.
    fn strayed(&mut self) -> u64 {
        match self {
            Self::Live { .. } => 0,
            Self::Off { strays, counted } => {
                strays.wrapping_sub(core::mem::replace(counted, *strays))
            }
        }
    }
}

struct DrainState {
    consumer: Consumer,
    /// What becomes of the events of the slots, if the kernel drains the queue. With their generic
    /// sources.
    routes: EisnTable<Target>,
    /// The messages of slots that have one.
    messages: MessageEisnTable<Rate>,
    moderation: Moderation,
    /// The escalation is to stay masked.
    closing: bool,
    /// How often a run of the handler has left some work.
    deferred: u64,
    /// How many entries were handled since the queue was empty.
    backlog: usize,
    /// The most that were.
    high_water: usize,
}

impl DrainState {
    /// Ends the interrupt of the message of slot `index` if it is held back. Returns whether the program
    /// is to be told.
    fn release(&mut self, index: usize) -> bool {
        let Some(message) = self.messages.get_mut(index) else {
            return false;
        };

        if !core::mem::replace(&mut message.with.held, false) {
            return false;
        }
        self.moderation.held = self.moderation.held.saturating_sub(1);
        message.end_interrupt();
        !core::mem::replace(&mut message.with.told, true)
    }

    /// As [`Queue::mask`].
    fn mask(&mut self, index: usize) -> Result {
        let route = self.routes.get_mut(index).ok_or(EINVAL)?;
        let message = self.messages.get(index);

        match &route.with {
            Target::Live { mask, .. } if mask.on => return Ok(()),
            Target::Live { .. } => (),
            Target::Off { .. } => return Err(EINVAL),
        }
        // An event that was sent already, or waits to be sent until its rate allows it, has P set. It
        // comes, or its interrupt is ended then, as ever: it is held back when it comes. Otherwise P
        // set without an event is what holds them back: PQ=01 would drop them.
        let parked = |parked| Kept {
            parked,
            came: false,
        };
        let generic = parked(route.park());
        let message = parked(message.is_some_and(|message| message.park()));

        if let Target::Live { mask, .. } = &mut route.with {
            *mask = Mask {
                on: true,
                generic,
                message,
            };
        }
        Ok(())
    }

    /// As [`Queue::unmask`], of the queue of `context`.
    fn unmask(&mut self, context: u64, index: usize) -> Result {
        let route = self.routes.get_mut(index).ok_or(EINVAL)?;
        let Target::Live {
            eventfd,
            rings,
            mask,
        } = &mut route.with
        else {
            return Err(EINVAL);
        };
        let Mask {
            generic, message, ..
        } = core::mem::take(mask);

        for kept in [generic, message] {
            if kept.came {
                *rings = rings.wrapping_add(1);
                signal(context, index, eventfd.as_ref());
            }
        }
        // One that has not come yet will, and its interrupt be ended then: not twice, for there would
        // be two entries of a source in the queue.
        if generic.parked || generic.came {
            route.end_interrupt();
        }
        if message.came {
            self.moderation.end_interrupt(&mut self.messages, index);
        } else if message.parked {
            if let Some(message) = self.messages.get(index) {
                message.end_interrupt();
            }
        }
        Ok(())
    }
}

/// The handler of a queue's escalation.
#[pin_data]
struct Drain {
    /// The number of the context.
    context: u64,
    queue: Arc<EventQueue>,
    /// Innermost lock of the driver, taken in hard interrupt context; see `context.rs`.
    #[pin]
    state: SpinLockIrqSave<DrainState>,
}

/// Ends the interrupt of an entry, and signals its eventfd.
#[inline]
fn deliver(
    context: u64,
    size: QueueSize,
    routes: &mut EisnTable<Target>,
    messages: &mut MessageEisnTable<Rate>,
    moderation: &mut Moderation,
    eisn: usize,
) {
    let (origin, index) = SourceKind::of_eisn(eisn, size);
    // No route if the slot was freed since the event.
    let Some(route) = routes.get_mut(index) else {
        trace::ring(context, index, Delivery::Freed);
        return;
    };

    match &mut route.with {
        Target::Live { mask, .. } if mask.on => {
            trace::ring(context, index, Delivery::Masked);
            match origin {
                SourceKind::Ipi => mask.generic.came = true,
                SourceKind::Msi => mask.message.came = true,
            }
            return;
        }
        Target::Live { .. } => match origin {
            SourceKind::Ipi => route.end_interrupt(),
            SourceKind::Msi => moderation.end_interrupt(messages, index),
        },
        // That of a source that is off is not ended, for that would switch it on.
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

impl Drain {
    /// Handles all entries that are in the queue now, so that none is left of a source that is off.
    fn flush(&self) {
        // Others may keep ringing, but no more entries than there is room for are older than this.
        for _ in 0..self.queue.size().entries() / BUDGET {
            if self.state.with(|state| self.flush_some(state)) == Remaining::Nothing {
                break;
            }
        }
    }

    /// Handles up to [`BUDGET`] entries if the kernel drains the queue. Leaves the escalation alone.
    #[inline(always)]
    fn flush_some(&self, state: &mut DrainState) -> Remaining {
        if let Consumer::Kernel(cursor) = &mut state.consumer {
            for _ in 0..BUDGET {
                match cursor.next(|index| self.queue.entry(index)) {
                    Some(eisn) => {
                        deliver(
                            self.context,
                            self.queue.size(),
                            &mut state.routes,
                            &mut state.messages,
                            &mut state.moderation,
                            eisn,
                        );
                    }
                    None => return Remaining::Nothing,
                }
            }
            return Remaining::Some;
        }
        Remaining::Nothing
    }

    /// Forgets slot `index`, whose source is off and flushed, if no entry of it comes any more. There
    /// may have been `expected` since this was called last.
    fn forget(
        &self,
        state: &mut DrainState,
        index: usize,
        expected: u64,
    ) -> Result<(), QuiesceError> {
        if let Some(route) = state.routes.get_mut(index) {
            let strayed = route.with.strayed();

            may_fail(QuiesceError::Events)?;
            if strayed > expected {
                return Err(QuiesceError::Events);
            }
        }
        state.routes.remove(index);
        Ok(())
    }

    /// Returns whether the handler is yet to be called for an escalation.
    fn in_flight(&self) -> bool {
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

        // One that is on its way comes to the handler.
        has_event && !state.closing && self.queue.hold_escalation()
    }

    /// The escalation has fired, which masks it.
    #[inline(always)]
    fn fired(&self, state: &mut DrainState) -> Remaining {
        match &mut state.consumer {
            Consumer::Kernel(cursor) => {
                let mut backlog = state.backlog;
                let remaining = drain(
                    || cursor.next(|index| self.queue.entry(index)),
                    |eisn| {
                        backlog = backlog.wrapping_add(1);
                        deliver(
                            self.context,
                            self.queue.size(),
                            &mut state.routes,
                            &mut state.messages,
                            &mut state.moderation,
                            eisn,
                        );
                    },
                    || {
                        if !state.closing {
                            self.queue.unmask_escalation();
                        }
                    },
                );
                let handled = backlog.wrapping_sub(state.backlog);
                trace::drain(self.context, handled, remaining == Remaining::Some);
                state.high_water = state.high_water.max(backlog);
                state.backlog = match remaining {
                    Remaining::Nothing => 0,
                    Remaining::Some => backlog,
                };
                if remaining == Remaining::Some {
                    state.deferred = state.deferred.wrapping_add(1);
                }
                remaining
            }
            Consumer::User {
                eventfd,
                pollers,
                arming,
                ..
            } => {
                if arming.fired() {
                    trace::wake(self.context, eventfd.is_some());
                    if let Some(eventfd) = eventfd {
                        eventfd.signal();
                    }
                    pollers.notify_all();
                }
                Remaining::Nothing
            }
        }
    }
}

impl BoundedHandler for Drain {
    #[inline]
    fn run(&self) -> Remaining {
        self.state.with(|state| self.fired(state))
    }

    fn cpu_dead(&self) -> Remaining {
        self.state
            .with(|state| match self.has_lost_escalation(state) {
                true => self.fired(state),
                false => Remaining::Nothing,
            })
    }
}

/// All queues, for when a CPU goes offline.
pub(crate) struct QueueList(Arc<CpuDeadList<IrqHandler<Drain>>>);

impl QueueList {
    /// Makes an empty list.
    ///
    /// # Errors
    ///
    /// Those of [`CpuDeadList::new`].
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(CpuDeadList::new(c"misc/uxive:dead")?))
    }
}

/// How a queue stands at one moment.
pub(crate) struct QueueView {
    pub(crate) vp: u32,
    /// The next event calls the handler, or tells the program that drains the queue.
    pub(crate) armed: bool,
    /// Only if the kernel drains the queue.
    pub(crate) kernel: Option<KernelDrainView>,
}

/// How the kernel's drain of a queue stands at one moment.
pub(crate) struct KernelDrainView {
    /// The index of the entry that is written next, and the generation that it will have.
    pub(crate) index: usize,
    pub(crate) generation: u32,
    /// The most entries that were handled without the queue being empty in between.
    pub(crate) high_water: usize,
    /// How often there was more to do than may be done in hard interrupt context.
    pub(crate) deferred: u64,
}

/// What the kernel's drain knows of a slot.
pub(crate) struct RouteView {
    /// An eventfd is signalled.
    pub(crate) bound: bool,
    /// Events are held back.
    pub(crate) masked: bool,
    /// How many events were handled.
    pub(crate) rings: u64,
}

/// The event queue of a context, with who is to be told of which event.
pub(crate) struct Queue {
    escalation: EscalationHandler<Drain>,
    platform: Arc<Platform>,
    user_drained: bool,
    // Given back after the queue itself.
    _charge: QueueCharge,
}

impl Queue {
    /// Sets up the empty queue of `context`, of `size`, which the kernel drains; the number appears in
    /// `/proc/interrupts`.
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
    ) -> Result<Arc<Self>, AllocError> {
        let consumer = Consumer::Kernel(Cursor::new(size));

        Self::with_consumer(platform, all, context, size, charge, consumer)
    }

    /// Sets up that of one which the program drains, armed: the first event wakes `pollers`, and
    /// signals `eventfd`.
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
        eventfd: Option<EventFd>,
        pollers: Arc<PollCondVarBox>,
    ) -> Result<Arc<Self>, AllocError> {
        let consumer = Consumer::User {
            eventfd,
            pollers,
            arming: Arming::new(),
            cursor: Cursor::new(size),
        };

        Self::with_consumer(platform, all, context, size, charge, consumer)
    }

    fn with_consumer(
        platform: &Arc<Platform>,
        all: &QueueList,
        context: u64,
        size: QueueSize,
        charge: QueueCharge,
        consumer: Consumer,
    ) -> Result<Arc<Self>, AllocError> {
        let user_drained = matches!(consumer, Consumer::User { .. });
        let state = DrainState {
            consumer,
            routes: EisnTable::new(platform, BUDGET)?,
            messages: MessageEisnTable::new(platform, 0)?,
            moderation: Moderation {
                period: 0,
                limit: u32::MAX,
                held: 0,
            },
            closing: false,
            deferred: 0,
            backlog: 0,
            high_water: 0,
        };
        let drain = |queue| {
            try_pin_init!(Drain {
                context,
                queue,
                state <- SpinLockIrqSave::new(state, c"uxive_drain", static_lock_class!()),
            }? Error)
        };
        let name = CString::try_from_fmt(fmt!("uxive-{context}"))?;
        let escalation =
            EscalationHandler::new(EventQueue::new(size)?, name, all.0.clone(), drain)?;

        let queue = Self {
            escalation,
            platform: platform.clone(),
            user_drained,
            _charge: charge,
        };
        Ok(Arc::new(queue, GFP_KERNEL_ACCOUNT)?)
    }

    /// EisnTable `source` here, for slot `index`, which is new, and switches it on.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, `ENOSPC` if `index` is beyond the queue, those of
    /// [`EventQueue::route`].
    #[inline(always)]
    pub(crate) fn attach(&self, index: usize, source: &Source) -> Result {
        let drain = self.escalation.handler();

        drain.queue.route(source, SourceKind::Ipi, index)?;
        if !self.is_user_drained() {
            let entered = |state: &mut DrainState| match index < state.routes.capacity() {
                true => (state.routes.insert(index, Some(source), Target::new())).map(|()| true),
                false => Ok(false),
            };

            while !drain.state.with(entered)? {
                self.grow(index, |state| &mut state.routes)?;
            }
        }
        source.switch_on();
        Ok(())
    }

    /// EisnTable `source`, a message, here for slot `index`, which is new or has a generic source, and
    /// switches it on.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub(crate) fn attach_message(&self, index: usize, source: &Source) -> Result {
        let drain = self.escalation.handler();

        drain.queue.route(source, SourceKind::Msi, index)?;
        if !self.is_user_drained() {
            self.grow(index, |state| &mut state.routes)?;
            self.grow(index, |state| &mut state.messages)?;
            drain.state.with(|state| {
                state
                    .messages
                    .insert_message(index, source, Rate::default())?;
                match state.routes.get(index) {
                    None => state.routes.insert(index, None, Target::new()),
                    Some(_) => Ok(()),
                }
            })?;
        }
        source.switch_on();
        Ok(())
    }

    /// Makes room for slot `index` in a table of the drain, unless there is. It grows by doubling.
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
        let drain = self.escalation.handler();
        let capacity = (index + 1).next_power_of_two();

        if index < drain.state.with(|state| table(state).capacity()) {
            return Ok(());
        }
        // Memory is neither allocated nor freed under the lock.
        let mut larger = EisnTable::new(&self.platform, capacity)?;

        drain.state.with(|state| {
            let routes = table(state);

            // Another may have been faster.
            match larger.capacity() > routes.capacity() {
                true => routes.grow(&mut larger),
                false => Ok(()),
            }
        })
    }

    /// Begins a new period, in which the message of each slot may come `limit` times, at least 1. Calls
    /// `held` with the index of each that came as often in the last one, the first time in a row. To
    /// be called in process context, by one at a time.
    pub(crate) fn moderate(&self, limit: u32, mut held: impl FnMut(usize)) {
        let drain = self.escalation.handler();
        let count = drain.state.with(|state| {
            let moderation = &mut state.moderation;

            moderation.period = moderation.period.wrapping_add(1);
            moderation.limit = limit;
            match moderation.held {
                0 => 0,
                _ => state.messages.capacity(),
            }
        });

        for index in 0..count {
            if drain.state.with(|state| state.release(index)) {
                held(index);
            }
        }
    }

    /// Returns the number of the context.
    pub(crate) fn context(&self) -> u64 {
        self.escalation.handler().context
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
        (self.escalation.handler().state).with(|state| match &state.consumer {
            Consumer::User { arming, .. } if !arming.armed => PollEvents::PRIORITY,
            _ => PollEvents::NONE,
        })
    }

    /// Returns how large the queue is.
    #[inline]
    pub(crate) fn size(&self) -> QueueSize {
        self.escalation.handler().queue.size()
    }

    /// Returns the queue's memory.
    pub(crate) fn memory(&self) -> QueueMemory {
        QueueMemory(self.escalation.handler().queue.clone())
    }

    /// Tells how the queue stands.
    pub(crate) fn view(&self) -> QueueView {
        let drain = self.escalation.handler();
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

    /// Tells what the drain knows of slot `index`; nothing if the program drains the queue.
    pub(crate) fn route_view(&self, index: usize) -> Option<RouteView> {
        let view = |state: &mut DrainState| match &state.routes.get(index)?.with {
            Target::Live {
                eventfd,
                rings,
                mask,
            } => Some(RouteView {
                bound: eventfd.is_some(),
                masked: mask.on,
                rings: *rings,
            }),
            Target::Off { .. } => None,
        };

        self.escalation.handler().state.with(view)
    }

    /// Has the next event signal the eventfd, unless that is so already.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the kernel drains the queue.
    #[inline(never)]
    pub(crate) fn arm(&self) -> Result {
        let drain = self.escalation.handler();

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
    /// [`QuiesceError::Source`] and [`QuiesceError::Events`]: it is not forgotten, and this is to be called
    /// again later.
    #[inline(always)]
    pub(crate) fn detach(
        &self,
        index: usize,
        generic: Option<&Source>,
        message: Option<&Source>,
    ) -> Result<(), QuiesceError> {
        let drain = self.escalation.handler();
        // What is unbound is freed when this returns, outside the lock.
        let mut _eventfd = None;
        let mut expected = 0;
        let forgotten = drain.state.with(|state| {
            // Nothing becomes of it any more once the slot is closed.
            if message.is_some() {
                let rate = state.messages.remove(index);
                let held = rate.is_some_and(|rate| rate.held);
                state.moderation.held -= usize::from(held);
            }
            if let Some(route) = state.routes.get_mut(index) {
                let closed = route.with.close();
                // One that was on has P set as long as an entry is in the queue, and so no second.
                if closed.is_some() {
                    expected = u64::from(generic.is_some()) + u64::from(message.is_some());
                }
                _eventfd = closed.flatten();
            }

            // Only now, as handling an entry of a source that is off would switch it on.
            if let Some(source) = generic {
                source.switch_off()?;
            }
            if let Some(source) = message {
                source.switch_off()?;
            }
            match drain.flush_some(state) {
                Remaining::Nothing => drain.forget(state, index, expected).map(|()| true),
                Remaining::Some => Ok(false),
            }
        })?;

        if forgotten {
            return Ok(());
        }
        drain.flush();
        (drain.state).with(|state| drain.forget(state, index, expected))
    }

    /// Has events of slot `index` signal `eventfd` from now on, or nothing. Returns the one before.
    ///
    /// That one is signalled no more. It is for the caller to drop, outside locks.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such slot, or the program drains the queue.
    #[inline(always)]
    pub(crate) fn bind(
        &self,
        index: usize,
        mut eventfd: Option<EventFd>,
    ) -> Result<Option<EventFd>> {
        let drain = self.escalation.handler();

        drain.state.with(|state| {
            let route = state.routes.get_mut(index).ok_or(EINVAL)?;

            match &mut route.with {
                Target::Live { eventfd: bound, .. } => {
                    trace::bind(drain.context, index, eventfd.is_some());
                    core::mem::swap(bound, &mut eventfd);
                    Ok(())
                }
                Target::Off { .. } => Err(EINVAL),
            }
        })?;
        Ok(eventfd)
    }

    /// Holds events of slot `index` back from now on. Nothing changes if they are.
    ///
    /// # Errors
    ///
    /// As [`Self::bind`].
    pub(crate) fn mask(&self, index: usize) -> Result {
        self.escalation
            .handler()
            .state
            .with(|state| state.mask(index))
    }

    /// Lets events of slot `index` through again: for any number that came meanwhile from a source, one.
    /// Nothing changes if they are.
    ///
    /// # Errors
    ///
    /// As [`Self::bind`].
    pub(crate) fn unmask(&self, index: usize) -> Result {
        let drain = self.escalation.handler();

        drain.state.with(|state| state.unmask(drain.context, index))
    }

    /// Brings the escalation to rest: waits, `tries` times a millisecond, until one that is on its
    /// way has been handled, and masks it. All sources are off.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Escalation`]: nothing has changed, and this is to be called again later.
    pub(crate) fn quiesce(&self, tries: usize) -> Result<(), QuiesceError> {
        let drain = self.escalation.handler();

        for _ in 0..tries {
            if !drain.in_flight() {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        may_fail(QuiesceError::Escalation)?;
        if drain.in_flight() {
            return Err(QuiesceError::Escalation);
        }

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

    /// Has the VP and the memory not be given back with the queue: a source that is routed here does
    /// not come to rest.
    pub(crate) fn leak(&self) {
        self.escalation.handler().queue.leak();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let quiet = (self.escalation.handler().state).with(|state| state.closing);

        // What can wait has called this before. Freeing the interrupt would wait without an end.
        if !quiet && self.quiesce(LAST_TRIES).is_err() {
            if may_log() {
                let context = self.context();
                pr_warn!(
                    "context {context}: its event queue does not come to rest, and is not given back\n"
                );
            }
            self.escalation.leak();
        }
    }
}

#[kunit_tests(uxive_queue)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn entry(generation: u32, eisn: u32) -> u32 {
        generation << 31 | eisn
    }

    #[test]
    fn empty_queue_has_nothing() {
        assert!(Cursor::new(QueueSize::SMALL).next(|_| 0).is_none());
    }

    #[test]
    fn entries_come_in_order() {
        let mut cursor = Cursor::new(QueueSize::SMALL);
        assert_eq!(cursor.next(|index| entry(1, 7 + index as u32)), Some(7));
        assert_eq!(cursor.next(|index| entry(1, 7 + index as u32)), Some(8));
        assert_eq!(cursor.next(|_| entry(0, 9)), None);
        assert_eq!(cursor.next(|index| entry(1, 7 + index as u32)), Some(9));
    }

    #[test]
    fn largest_eisn() {
        assert_eq!(
            Cursor::new(QueueSize::SMALL).next(|_| u32::MAX),
            Some(0x7fff_ffff)
        );
    }

    #[test]
    fn generation_flips_at_each_wrap() {
        let mut cursor = Cursor::new(QueueSize::SMALL);
        for pass in 0..5 {
            let generation = (pass & 1) ^ 1;
            for index in 0..QueueSize::SMALL.entries() {
                assert_eq!(cursor.next(|_| entry(generation ^ 1, 0)), None);
                assert_eq!(cursor.next(|at| entry(generation, at as u32)), Some(index));
            }
        }
    }

    #[test]
    fn the_place_behind_all_is_found_after_any_number_of_passes() {
        let entries = QueueSize::SMALL.entries();

        for passes in 0..5 {
            for more in [0, 1, 2, 3, 64, 1000, entries / 2, entries - 1] {
                // Hardware has written this many since the queue was set up.
                let written = passes * entries + more;
                let read = |written: usize| {
                    move |index: usize| {
                        let passes = (written + entries - 1 - index) / entries;
                        entry(passes as u32 & 1, 0)
                    }
                };
                let cursor = Cursor::behind_all(QueueSize::SMALL, read(written));

                assert_eq!(cursor.index, more);
                assert!(!cursor.has_next(read(written)));
                assert!(cursor.has_next(read(written + 1)));
            }
        }
    }

    /// A queue and its escalation, as hardware and the irq core keep them. An event comes by itself
    /// at a step that the test chooses.
    struct Machine {
        entries: Cell<usize>,
        masked: Cell<bool>,
        /// The escalation has fired, and the handler is yet to be called.
        fired: Cell<bool>,
        steps_to_event: Cell<usize>,
    }

    impl Machine {
        fn new(masked: bool, steps_to_event: usize) -> Self {
            Self {
                entries: Cell::new(0),
                masked: Cell::new(masked),
                fired: Cell::new(false),
                steps_to_event: Cell::new(steps_to_event),
            }
        }

        fn event(&self) {
            self.entries.set(self.entries.get() + 1);
            if !self.masked.replace(true) {
                self.fired.set(true);
            }
        }

        fn step(&self) {
            let left = self.steps_to_event.get();
            if left == 1 {
                self.event();
            }
            self.steps_to_event.set(left.saturating_sub(1));
        }

        fn take(&self) -> Option<usize> {
            self.step();
            let entries = self.entries.get();
            self.entries.set(entries.saturating_sub(1));
            (entries > 0).then_some(0)
        }

        fn unmask(&self) {
            self.step();
            self.masked.set(false);
        }
    }

    #[test]
    fn no_event_is_left_whenever_it_comes() {
        for before in 0..BUDGET + 2 {
            for step in 0..BUDGET + 4 {
                let machine = Machine::new(true, step);
                machine.entries.set(before);
                let handled = Cell::new(0);
                let remaining = drain(
                    || machine.take(),
                    |_| handled.set(handled.get() + 1),
                    || machine.unmask(),
                );

                assert!(handled.get() <= BUDGET);
                // Those that are left are another run's, in hard interrupt context or outside.
                if machine.entries.get() > 0 {
                    assert!(remaining == Remaining::Some || machine.fired.get());
                }
            }
        }
    }

    #[test]
    fn an_empty_queue_is_unmasked_once() {
        let unmasked = Cell::new(0);
        let remaining = drain(|| None, |_| (), || unmasked.set(unmasked.get() + 1));

        assert!(remaining == Remaining::Nothing);
        assert_eq!(unmasked.get(), 1);
    }

    #[test]
    fn a_storm_uses_up_the_budget_and_stays_masked() {
        let (handled, unmasked) = (Cell::new(0), Cell::new(false));
        let remaining = drain(
            || Some(0),
            |_| handled.set(handled.get() + 1),
            || unmasked.set(true),
        );

        assert!(remaining == Remaining::Some);
        assert_eq!(handled.get(), BUDGET);
        assert!(!unmasked.get());
    }

    /// The program looks, arms, looks again and blocks, while the handler is called `delay` steps
    /// after the escalation has fired.
    fn program_gets_event(arming: &mut Arming, machine: &Machine, delay: usize) -> bool {
        let mut signalled = false;
        let mut waited = 0;
        let mut pass = |arming: &mut Arming| {
            if machine.fired.get() {
                waited += 1;
                if waited > delay {
                    machine.fired.set(false);
                    signalled |= arming.fired();
                }
            }
        };

        pass(arming);
        let mut seen = machine.take().is_some();
        pass(arming);
        if arming.arm() {
            machine.unmask();
        }
        pass(arming);
        seen |= machine.take().is_some();
        // Blocked: whatever is to come comes now.
        while machine.steps_to_event.get() > 0 {
            machine.step();
        }
        for _ in 0..=delay {
            pass(arming);
        }
        seen || signalled
    }

    #[test]
    fn no_event_leaves_the_program_blocked() {
        for masked in [false, true] {
            for step in 1..6 {
                for delay in 0..6 {
                    let machine = Machine::new(masked, step);
                    let mut arming = Arming { armed: !masked };

                    assert!(program_gets_event(&mut arming, &machine, delay));
                }
            }
        }
    }

    #[test]
    fn the_program_is_told_once_for_each_arming() {
        let mut arming = Arming::new();

        assert!(!arming.arm());
        assert!(arming.fired());
        assert!(!arming.fired());
        assert!(arming.arm());
        assert!(!arming.arm());
        assert!(arming.fired());
    }
}
