// SPDX-License-Identifier: GPL-2.0

//! The interrupts of a context that guests can be given: those that are bound for irq bypass. There are
//! none any more when its AFU is gone.
//!
//! # Locks
//!
//! [`Bypasses::table`], a mutex, guards which interrupts these are. It is held while a producer is
//! registered or unregistered, and so while a guest is given an interrupt or loses it. A call that frees
//! an interrupt waits for it, and finds no guest after that, and so does the end of an AFU. Of `file.rs`
//! and of `afu.rs` nothing is held where it is taken; 5 of `file.rs` is taken under it, and given back
//! before a producer is registered.
//!
//! Under it the irq bypass manager takes its own mutex, one for all. With that the manager calls
//! KVM, which takes the lock of the guest and, to tell the irq core, that of the interrupt's descriptor, a
//! raw spinlock; and it calls us, in [`GuestSlot`]. There the irq core's mutex of domains is taken, and
//! 8 of `file.rs`, none of them under the other, and firmware is called, to wait for an event under way
//! and to change the route. This is the one place where firmware is called under a lock that other
//! programs wait for: the manager gives no other. The program that brings a guest, or takes it away, may
//! be another than that of the interrupt: then the manager's mutex comes first, and `table` is not taken.
//! So no callback takes it.

use crate::{
    kernel_ext::{
        bypass::ProducerRegistration,
        eventfd::EventFd, //
    },
    limits::Charge,
    queue::{
        GuestSlot,
        Queue, //
    },
    xive::{
        GuestSource,
        SourceKind, //
    }, //
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        MutexGuard, //
    }, //
};

/// An interrupt that is bound for irq bypass. No guest has it any more when this was dropped.
struct Bypass {
    /// Until it is dropped.
    producer: Option<Pin<KBox<ProducerRegistration<GuestSlot>>>>,
    queue: Arc<Queue>,
    index: usize,
    _charge: Charge,
}

impl Drop for Bypass {
    fn drop(&mut self) {
        drop(self.producer.take());
        self.queue.end_bypass(self.index);
    }
}

/// Those of a context.
struct Table {
    /// By the index of the slot.
    bypasses: RBTree<usize, Bypass>,
    /// None is bound any more.
    ended: bool,
}

/// The interrupts of a context that are bound for irq bypass.
#[pin_data]
pub(crate) struct Bypasses {
    /// How many there are, with one that is being bound.
    count: Atomic<usize>,
    /// See the head of this file.
    #[pin]
    table: Mutex<Table>,
}

impl Bypasses {
    /// Makes the table of a context, without any.
    pub(crate) fn new() -> impl PinInit<Self> {
        let table = Table {
            bypasses: RBTree::new(),
            ended: false,
        };

        pin_init!(Self {
            count: Atomic::new(0),
            table <- new_mutex!(table, "uxive_bypasses"),
        })
    }

    /// Keeps interrupts from being bound, and guests from losing one by that.
    pub(crate) fn lock(&self) -> LockedBypasses<'_> {
        LockedBypasses {
            count: &self.count,
            table: self.table.lock(),
        }
    }

    /// Takes slot `index`, which is in no table any more, from a guest that has it. May sleep.
    #[inline(always)]
    pub(crate) fn release(&self, index: usize) {
        // One that is being bound now was counted before its slot was looked up, and so before it was
        // taken out.
        if self.count.load(Relaxed) != 0 {
            self.release_one(index);
        }
    }

    #[cold]
    #[inline(never)]
    fn release_one(&self, index: usize) {
        self.lock().unbind(index..index + 1);
    }

    /// As [`Self::release`], of all slots.
    pub(crate) fn release_all(&self) {
        if self.count.load(Relaxed) != 0 {
            self.lock().unbind(0..usize::MAX);
        }
    }

    /// Takes all slots from guests that have them, and has none be bound any more. May sleep.
    pub(crate) fn end(&self) {
        let mut bypasses = self.lock();

        bypasses.table.ended = true;
        bypasses.unbind(0..usize::MAX);
    }

    /// Makes events of slot `index`, of which `source` returns the one that it has, signal the eventfd to
    /// which there are two references, or go to a guest that has the same. May sleep.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if the AFU is gone.
    /// - Those of `source`; `EINVAL` if there is no such slot, or the program drains the queue.
    /// - `EBUSY` if it is masked, or is bound for irq bypass already; or if another interrupt is bound so
    ///   to this eventfd.
    /// - `ENOMEM` if there is no memory, `EOPNOTSUPP` if the kernel has no irq bypass.
    /// - `ENXIO` if there is a guest, and it is not given the interrupt.
    pub(crate) fn bind(
        &self,
        queue: &Arc<Queue>,
        index: usize,
        source: impl FnOnce() -> Result<(SourceKind, GuestSource)>,
        [own, shared]: [EventFd; 2],
        charge: Charge,
    ) -> Result {
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        // Declared before the guard: what is replaced is dropped after that.
        let mut eventfd = Some(own);
        let mut bound = self.lock();
        if bound.table.ended {
            return Err(ENODEV);
        }
        // Before the slot is looked up: see `release`.
        let counted = Counted::new(&self.count);

        let (kind, source) = source()?;
        let guest = GuestSlot::new(queue.clone(), index, kind, source);
        queue.begin_bypass(index)?;
        let mut bypass = Bypass {
            producer: None,
            queue: queue.clone(),
            index,
            _charge: charge,
        };

        let producer = ProducerRegistration::new(shared, guest).map_err(|error| match error {
            EBUSY | ENOMEM | EOPNOTSUPP => error,
            // That of a consumer, which may be any.
            _ => ENXIO,
        })?;
        bypass.producer = Some(producer);
        queue.exchange(index, &mut eventfd);
        bound.table.bypasses.insert(node.into_node(index, bypass));
        core::mem::forget(counted);
        Ok(())
    }
}

/// The interrupts of a context that are bound for irq bypass, while none comes or goes.
pub(crate) struct LockedBypasses<'a> {
    count: &'a Atomic<usize>,
    table: MutexGuard<'a, Table>,
}

impl LockedBypasses<'_> {
    /// Returns the first slot in `range` that is bound so.
    fn next(&self, range: &Range<usize>) -> Option<usize> {
        let (&index, _) = (self.table.bypasses.cursor_lower_bound(&range.start)?).current();

        range.contains(&index).then_some(index)
    }

    /// Returns whether one of the slots in `range` is `chosen` and bound so.
    pub(crate) fn any(&self, mut range: Range<usize>, chosen: impl Fn(usize) -> bool) -> bool {
        while let Some(index) = self.next(&range) {
            if chosen(index) {
                return true;
            }
            range.start = index + 1;
        }
        false
    }

    /// Takes the slots in `range` from guests that have them. They are bound to their eventfds as others
    /// are. May sleep.
    pub(crate) fn unbind(&mut self, range: Range<usize>) {
        while let Some(index) = self.next(&range) {
            drop(self.table.bypasses.remove(&index));
            self.count.fetch_sub(1, Relaxed);
        }
    }
}

/// One that is counted until this is dropped.
struct Counted<'a>(&'a Atomic<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a Atomic<usize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
