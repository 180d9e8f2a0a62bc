// SPDX-License-Identifier: GPL-2.0

//! The event queue of a context, and how it is drained.
//!
//! Hardware writes an entry to the queue for each event of a source, with the index of its slot.
//! The first one after the escalation was unmasked calls the handler.
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
//! The queue cannot overflow. A source has at most one entry in it, since a further event waits
//! in the source until the interrupt is ended, and there are at least as many entries as sources. A
//! program that drains by itself can end interrupts that it has not seen, and so overrun its own
//! queue, to its own loss.

use crate::{
    kernel_ext::{
        cpuhp::CpuDeadList,
        eventfd::EventFd,
        irq::{
            BoundedHandler,
            IrqHandler,
            Remaining, //
        }, //
    },
    platform::{
        EscalationHandler,
        EventQueue,
        QueuePage,
        Source,
        QUEUE_ENTRIES, //
    }, //
};
use kernel::{
    interrupt::LocalInterruptDisabled,
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How many entries are handled at a time, with interrupts off.
const BUDGET: usize = 64;

/// How often teardown looks whether the last escalation was handled, a millisecond apart.
const QUIESCE_TRIES: usize = 1000;

/// A reader's place in an event queue.
struct Cursor {
    index: usize,
    /// The generation that entries of the present pass have.
    generation: u32,
}

impl Cursor {
    fn new() -> Self {
        Self {
            index: 0,
            generation: 1,
        }
    }

    /// Takes the next entry, which `read` gets by its index, and returns its EISN. `None` if
    /// hardware has not written it yet.
    fn next(&mut self, read: impl FnOnce(usize) -> u32) -> Option<usize> {
        let entry = read(self.index);

        if entry >> 31 != self.generation {
            return None;
        }
        self.index += 1;
        if self.index == QUEUE_ENTRIES {
            self.index = 0;
            self.generation ^= 1;
        }
        Some((entry & 0x7fff_ffff) as usize)
    }
}

/// What an event of a source means.
struct Route {
    source: Arc<Source>,
    eventfd: Option<EventFd>,
}

/// Who reads the queue.
enum Consumer {
    /// The kernel, from here on.
    Kernel(Cursor),
    /// The program. Its eventfd is signalled when `armed` and there is an event.
    User { eventfd: EventFd, armed: bool },
}

struct DrainState {
    consumer: Consumer,
    /// By EISN, which is the index of the slot.
    routes: KVVec<Option<Route>>,
    /// The escalation is to stay masked.
    closing: bool,
}

/// The handler of a queue's escalation.
#[pin_data]
struct Drain {
    queue: Arc<EventQueue>,
    /// Innermost lock of the driver, taken in hard interrupt context; see `context.rs`.
    #[pin]
    state: SpinLockIrq<DrainState>,
}

impl Drain {
    /// Handles up to [`BUDGET`] entries.
    fn drain(&self, cursor: &mut Cursor, routes: &[Option<Route>]) -> Remaining {
        for _ in 0..BUDGET {
            let Some(eisn) = cursor.next(|index| self.queue.entry(index)) else {
                return Remaining::Nothing;
            };
            // None if the slot was freed since the event.
            if let Some(Some(route)) = routes.get(eisn) {
                route.source.eoi();
                if let Some(eventfd) = &route.eventfd {
                    eventfd.signal();
                }
            }
        }
        Remaining::Some
    }

    /// Handles all entries that are in the queue now, so that none is left of a source that is off.
    fn flush(&self) {
        // Others may keep ringing, but no more entries than there is room for are older than this.
        for _ in 0..QUEUE_ENTRIES / BUDGET {
            let state = &mut *self.state.lock();

            let Consumer::Kernel(cursor) = &mut state.consumer else {
                break;
            };
            if self.drain(cursor, &state.routes) == Remaining::Nothing {
                break;
            }
        }
    }

    /// Returns whether the handler is yet to be called for an escalation.
    fn in_flight(&self) -> bool {
        let armed = match self.state.lock().consumer {
            Consumer::Kernel(_) => true,
            Consumer::User { armed, .. } => armed,
        };

        armed && self.queue.escalation_pending()
    }
}

impl BoundedHandler for Drain {
    fn run(&self, interrupts: &LocalInterruptDisabled) -> Remaining {
        let state = &mut *self.state.lock_with(interrupts);

        match &mut state.consumer {
            Consumer::User { eventfd, armed } => {
                if core::mem::take(armed) {
                    eventfd.signal();
                }
                Remaining::Nothing
            }
            Consumer::Kernel(cursor) => {
                // The escalation has fired, which masks it: it stays so until the queue is empty.
                if self.drain(cursor, &state.routes) == Remaining::Some {
                    return Remaining::Some;
                }
                if state.closing {
                    return Remaining::Nothing;
                }
                self.queue.unmask_escalation();
                self.drain(cursor, &state.routes)
            }
        }
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

/// The event queue of a context, with who is to be told of which event.
pub(crate) struct Queue {
    escalation: EscalationHandler<Drain>,
    user_drained: bool,
}

impl Queue {
    /// Sets up an empty queue that the kernel drains.
    ///
    /// # Errors
    ///
    /// Those of [`EventQueue::new`] and [`EscalationHandler::new`].
    pub(crate) fn new(all: &QueueList) -> Result<Arc<Self>> {
        Self::with_consumer(all, Consumer::Kernel(Cursor::new()))
    }

    /// Sets up an empty queue that the program drains, armed: the first event signals `eventfd`.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub(crate) fn new_user_drained(all: &QueueList, eventfd: EventFd) -> Result<Arc<Self>> {
        let armed = true;
        Self::with_consumer(all, Consumer::User { eventfd, armed })
    }

    fn with_consumer(all: &QueueList, consumer: Consumer) -> Result<Arc<Self>> {
        let user_drained = matches!(consumer, Consumer::User { .. });
        let escalation = EscalationHandler::new(EventQueue::new()?, all.0.clone(), |queue| {
            try_pin_init!(Drain {
                queue,
                state <- new_spinlock_irq!(
                    DrainState {
                        consumer,
                        routes: KVVec::new(),
                        closing: false,
                    },
                    "uxive_drain"
                ),
            }? Error)
        })?;

        let queue = Self {
            escalation,
            user_drained,
        };
        Ok(Arc::new(queue, GFP_KERNEL_ACCOUNT)?)
    }

    /// Routes `source` here, as slot `index`, and switches it on.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, `ENOSPC` if `index` is beyond the queue, those of
    /// [`EventQueue::route`].
    pub(crate) fn attach(&self, index: usize, source: Arc<Source>) -> Result {
        let drain = self.escalation.handler();

        if index >= QUEUE_ENTRIES {
            return Err(ENOSPC);
        }
        drain.queue.route(&source, index as u32)?;

        // The table grows by doubling. Memory is neither allocated nor freed under the lock.
        let mut larger: Option<KVVec<Option<Route>>> = None;
        loop {
            {
                let routes = &mut drain.state.lock().routes;

                if let Some(larger) = &mut larger {
                    if larger.capacity() > routes.capacity() {
                        core::mem::swap(larger, routes);
                        for route in larger.drain_all() {
                            routes.push_within_capacity(route)?;
                        }
                    }
                }
                if index < routes.capacity() {
                    while routes.len() <= index {
                        routes.push_within_capacity(None)?;
                    }
                    if let Some(route) = routes.get_mut(index) {
                        source.switch_on();
                        *route = Some(Route {
                            source,
                            eventfd: None,
                        });
                        return Ok(());
                    }
                }
            }
            let capacity = (index + 1).next_power_of_two().max(BUDGET);
            larger = Some(KVVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?);
        }
    }

    /// Returns whether the program drains the queue.
    pub(crate) fn is_user_drained(&self) -> bool {
        self.user_drained
    }

    /// Returns the `index`-th page of the queue's memory.
    pub(crate) fn page(&self, index: usize) -> Option<QueuePage> {
        QueuePage::new(self.escalation.handler().queue.clone(), index)
    }

    /// Has the next event signal the eventfd, unless that is so already.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the kernel drains the queue.
    pub(crate) fn arm(&self) -> Result {
        let drain = self.escalation.handler();

        // An escalation that came while the last one is being handled could be dropped.
        self.escalation.synchronize();

        match &mut drain.state.lock().consumer {
            Consumer::Kernel(_) => return Err(EINVAL),
            Consumer::User { armed: true, .. } => (),
            Consumer::User { armed, .. } => {
                *armed = true;
                drain.queue.unmask_escalation();
            }
        }
        Ok(())
    }

    /// Switches the source of slot `index` off and forgets it. May sleep.
    ///
    /// When this returns its eventfd is signalled no more, and no entry of it is in the queue unless
    /// the program drains that.
    pub(crate) fn detach(&self, index: usize) {
        let drain = self.escalation.handler();
        let mut remaining = Remaining::Nothing;
        let route = {
            let DrainState {
                consumer, routes, ..
            } = &mut *drain.state.lock();
            let route = routes.get_mut(index).and_then(Option::take);

            // Only now, as handling an entry of a source that is off would switch it on.
            if let Some(route) = &route {
                route.source.switch_off();
            }
            if let Consumer::Kernel(cursor) = consumer {
                remaining = drain.drain(cursor, routes);
            }
            route
        };

        if remaining == Remaining::Some {
            drain.flush();
        }
        // Freed outside the lock.
        drop(route);
    }

    /// Has events of slot `index` signal `eventfd` from now on, or nothing. Returns the one before.
    ///
    /// That one is signalled no more. It is for the caller to drop, outside locks.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such slot, or the program drains the queue.
    pub(crate) fn bind(&self, index: usize, eventfd: Option<EventFd>) -> Result<Option<EventFd>> {
        let DrainState {
            consumer, routes, ..
        } = &mut *self.escalation.handler().state.lock();

        match (consumer, routes.get_mut(index)) {
            (Consumer::Kernel(_), Some(Some(route))) => {
                Ok(core::mem::replace(&mut route.eventfd, eventfd))
            }
            _ => Err(EINVAL),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let drain = self.escalation.handler();

        // All sources are off and flushed. An escalation of theirs may be on its way still: Linux
        // has to take it before the interrupt can be freed.
        for _ in 0..QUIESCE_TRIES {
            if !drain.in_flight() {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        if drain.in_flight() {
            pr_warn!("an escalation was lost, its interrupt is freed without it\n");
        }

        let mut state = drain.state.lock();
        state.closing = true;
        drain.queue.mask_escalation();
    }
}

#[kunit_tests(uxive_queue)]
mod tests {
    use super::*;

    fn entry(generation: u32, eisn: u32) -> u32 {
        generation << 31 | eisn
    }

    #[test]
    fn empty_queue_has_nothing() {
        assert!(Cursor::new().next(|_| 0).is_none());
    }

    #[test]
    fn entries_come_in_order() {
        let mut cursor = Cursor::new();
        assert_eq!(cursor.next(|index| entry(1, 7 + index as u32)), Some(7));
        assert_eq!(cursor.next(|index| entry(1, 7 + index as u32)), Some(8));
        assert_eq!(cursor.next(|_| entry(0, 9)), None);
        assert_eq!(cursor.next(|index| entry(1, 7 + index as u32)), Some(9));
    }

    #[test]
    fn largest_eisn() {
        assert_eq!(Cursor::new().next(|_| u32::MAX), Some(0x7fff_ffff));
    }

    #[test]
    fn generation_flips_at_each_wrap() {
        let mut cursor = Cursor::new();
        for pass in 0..5 {
            let generation = (pass & 1) ^ 1;
            for index in 0..QUEUE_ENTRIES {
                assert_eq!(cursor.next(|_| entry(generation ^ 1, 0)), None);
                assert_eq!(cursor.next(|at| entry(generation, at as u32)), Some(index));
            }
        }
    }
}
