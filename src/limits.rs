// SPDX-License-Identifier: GPL-2.0

//! How much each user and all users together may have: interrupts, event queues, the memory of these,
//! exports; and how often events may come.
//!
//! A context is charged to the user who opened it, also if others use it later. This is the
//! effective user, who was allowed to open the file, as for namespaces in the kernel (ucounts). Users
//! are told apart by their number in the kernel, which is the same in all user namespaces. Root is a user
//! like others, and no capability exempts: a program that may change the limits needs no exemption.
//!
//! A user who makes a user namespace is many users in it. So a context is charged to the owners of the
//! user namespaces that its opener is in as well, as ucounts does. Those of root are containers of
//! different users: what is in such a namespace is charged to that, not to root.

use crate::{
    counter::Counter,
    kernel_ext::{
        bypass,
        pages::total_ram,
        user_namespace::UserNamespace, //
    },
    layout::MAX_IRQS,
    xive::{
        Platform,
        QueueSize,
        MAX_SOURCES, //
    }, //
};
use kernel::{
    new_mutex,
    page::PAGE_SIZE,
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
        Mutex, //
    },
    task::Kuid, //
};

/// The most event queues that the limits can be set to, and how many there may be by default. Each takes
/// a VP, of which a POWER9 has about 130,000 for each chip. KVM wants a block of 2048 for a guest as a rule.
const MAX_QUEUES: usize = 65536;
const DEFAULT_QUEUES: usize = 16384;

/// The part of the machine's memory that event queues may have by default, and how many bytes they
/// may have at least.
const QUEUE_MEMORY_PART: usize = 8;
const MIN_QUEUE_MEMORY: usize = 64 << 20;

/// The most exports that the limits can be set to, and what they are by default.
const MAX_EXPORTS: usize = 65536;
const DEFAULT_EXPORTS: usize = 4096;

/// The most interrupts bound for irq bypass that the limits can be set to, and what they are by default.
/// Each that a guest has is a Linux interrupt, too, whose memory is charged to nobody.
const MAX_BYPASSES: usize = 65536;
const DEFAULT_BYPASSES: usize = 4096;

/// How many events may come in a second where that is limited, if root sets nothing else.
const DEFAULT_RATE: u32 = 100_000;

/// How many events may come in a second, which root can change.
pub(crate) struct MaxRate(Atomic<u32>);

impl MaxRate {
    /// Sets it to the rate by default.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self(Atomic::new(DEFAULT_RATE)), GFP_KERNEL)?)
    }

    /// Returns it.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Changes it.
    ///
    /// # Errors
    ///
    /// `ERANGE` if it has more than 32 bits.
    pub(crate) fn set(&self, rate: u64) -> Result {
        self.0
            .store(u32::try_from(rate).map_err(|_| ERANGE)?, Relaxed);
        Ok(())
    }
}

/// The kinds of resources that are limited.
#[derive(Clone, Copy)]
pub(crate) enum LimitKind {
    /// Interrupt sources. A slot that an AFU can ring both ways has two.
    Irq,
    Queue,
    /// Memory of event queues, in bytes.
    QueueMemory,
    Export,
    /// Interrupts that are bound for irq bypass.
    Bypass,
}

/// Something of each kind.
struct PerKind<T> {
    irqs: T,
    queues: T,
    queue_memory: T,
    exports: T,
    bypasses: T,
}

impl<T> PerKind<T> {
    #[inline]
    fn of(&self, kind: LimitKind) -> &T {
        match kind {
            LimitKind::Irq => &self.irqs,
            LimitKind::Queue => &self.queues,
            LimitKind::QueueMemory => &self.queue_memory,
            LimitKind::Export => &self.exports,
            LimitKind::Bypass => &self.bypasses,
        }
    }
}

/// A payer: it is charged, and has the limits of a user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Payer {
    /// A user, by its number in the kernel.
    User(u32),
    /// All in a user namespace that root owns, by its number.
    Namespace(u64),
}

impl Payer {
    /// Returns who is charged for what is in a namespace.
    fn of_namespace(namespace: &UserNamespace) -> Self {
        match namespace.owner.into_raw().val {
            0 => Self::Namespace(namespace.id),
            owner => Self::User(owner),
        }
    }
}

/// How much of each kind a payer has.
type Usage = PerKind<Atomic<usize>>;

impl Usage {
    fn is_none(&self) -> bool {
        let Self {
            irqs,
            queues,
            queue_memory,
            exports,
            bypasses,
        } = self;
        let mut counts = [irqs, queues, queue_memory, exports, bypasses].into_iter();

        counts.all(|count| count.load(Relaxed) == 0)
    }
}

/// A payer who is charged for a context.
struct KnownPayer {
    /// How many [`UserCharge`]s refer to it.
    charges: usize,
    usage: Arc<Usage>,
}

impl KnownPayer {
    /// Leaked queues stay the payer's, also when it comes back.
    fn may_go(&self) -> bool {
        self.charges == 0 && self.usage.is_none()
    }
}

/// Those that are charged, and the last one that was.
struct Payers {
    known: RBTree<Payer, KnownPayer>,
    /// Is kept while no other comes to be charged no more: a program may open one context after the
    /// other.
    last: Option<Payer>,
}

impl Payers {
    /// Counts a charge of a payer that is known. Returns how much it has.
    fn charge(&mut self, payer: Payer) -> Option<Arc<Usage>> {
        let known = self.known.get_mut(&payer)?;

        known.charges += 1;
        Some(known.usage.clone())
    }

    /// Counts a charge of a payer less.
    fn leave(&mut self, payer: Payer) {
        let Some(known) = self.known.get_mut(&payer) else {
            return;
        };

        known.charges -= 1;
        if !known.may_go() || self.last == Some(payer) {
            return;
        }
        // The one before may have come again.
        if let Some(before) = self.last.replace(payer) {
            if self.known.get(&before).is_some_and(KnownPayer::may_go) {
                self.known.remove(&before);
            }
        }
    }
}

/// The limits, and the users with how much each has.
#[pin_data]
pub(crate) struct Limits {
    max_irqs_per_context: Atomic<u32>,
    /// Of the interrupts of an export together.
    max_export_rate: Arc<MaxRate>,
    /// Whether interrupts can be bound for irq bypass.
    bypass: Atomic<bool>,
    counters: PerKind<Counter>,
    /// Innermost, see `file.rs`.
    #[pin]
    payers: Mutex<Payers>,
}

impl Limits {
    /// Sets the limits to what they are by default.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let counters = PerKind {
            irqs: Counter::new(MAX_SOURCES, MAX_SOURCES),
            // Each needs a Linux interrupt, too. The other half of these is for the rest of the machine.
            queues: Counter::new(DEFAULT_QUEUES.min(Platform::linux_irqs() / 2), MAX_QUEUES),
            queue_memory: Counter::new(Self::default_queue_memory(), total_ram()),
            exports: Counter::new(DEFAULT_EXPORTS, MAX_EXPORTS),
            bypasses: Counter::new(DEFAULT_BYPASSES, MAX_BYPASSES),
        };
        let max_export_rate = MaxRate::new()?;

        Arc::pin_init(
            pin_init!(Self {
                max_irqs_per_context: Atomic::new(MAX_IRQS as u32),
                max_export_rate,
                // Others have defects there, by some of which a guest stops the machine.
                bypass: Atomic::new(bypass::is_available() && bypass::kvm_takes_any_chip()),
                counters,
                payers <- new_mutex!(
                    Payers {
                        known: RBTree::new(),
                        last: None,
                    },
                    "uxive_payers"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns how many bytes all event queues may have by default.
    fn default_queue_memory() -> usize {
        let part = (total_ram() / QUEUE_MEMORY_PART).max(MIN_QUEUE_MEMORY);

        part - part % PAGE_SIZE
    }

    /// Returns how many interrupts a context can have.
    #[inline]
    pub(crate) fn max_irqs_per_context(&self) -> usize {
        self.max_irqs_per_context.load(Relaxed) as usize
    }

    /// Changes how many interrupts a context can have. If one has more, none is taken away.
    ///
    /// # Errors
    ///
    /// `ERANGE` if that is more than [`MAX_IRQS`].
    pub(crate) fn set_max_irqs_per_context(&self, limit: u64) -> Result {
        if limit > MAX_IRQS as u64 {
            return Err(ERANGE);
        }
        self.max_irqs_per_context.store(limit as u32, Relaxed);
        Ok(())
    }

    /// Returns how often the interrupts of an export may come together.
    pub(crate) fn max_export_rate(&self) -> &Arc<MaxRate> {
        &self.max_export_rate
    }

    /// Returns whether interrupts can be bound for irq bypass.
    pub(crate) fn has_bypass(&self) -> bool {
        self.bypass.load(Relaxed)
    }

    /// Has interrupts be bound for irq bypass, or not. Those that are stay so.
    ///
    /// # Errors
    ///
    /// `ERANGE` if it is neither 0 nor 1, `EOPNOTSUPP` if the kernel has no irq bypass.
    pub(crate) fn set_bypass(&self, on: u64) -> Result {
        let on = match on {
            0 => false,
            1 if bypass::is_available() => true,
            1 => return Err(EOPNOTSUPP),
            _ => return Err(ERANGE),
        };

        self.bypass.store(on, Relaxed);
        Ok(())
    }

    /// Counts a charge of a payer, who must [leave](Self::leave) when it goes. Returns how much it has.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    fn join(&self, payer: Payer) -> Result<Arc<Usage>> {
        if let Some(usage) = self.payers.lock().charge(payer) {
            return Ok(usage);
        }
        // Allocated without the lock, for which others wait.
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let usage = Usage {
            irqs: Atomic::new(0),
            queues: Atomic::new(0),
            queue_memory: Atomic::new(0),
            exports: Atomic::new(0),
            bypasses: Atomic::new(0),
        };
        let usage = Arc::new(usage, GFP_KERNEL_ACCOUNT)?;
        let payers = &mut *self.payers.lock();

        if let Some(usage) = payers.charge(payer) {
            return Ok(usage);
        }
        let known = KnownPayer {
            charges: 1,
            usage: usage.clone(),
        };
        payers.known.insert(node.into_node(payer, known));
        Ok(usage)
    }

    fn leave(&self, payer: Payer) {
        self.payers.lock().leave(payer);
    }

    /// Returns how many of a kind there are and may be.
    #[inline]
    pub(crate) fn counter(&self, kind: LimitKind) -> &Counter {
        self.counters.of(kind)
    }
}

/// The user to whom a context is charged, with the owners of the user namespaces around.
pub(crate) struct UserCharge {
    limits: Arc<Limits>,
    user: Payer,
    own: Arc<Usage>,
    /// Those of owners of user namespaces: each once, and not that of the user.
    above: KVec<(Payer, Arc<Usage>)>,
}

impl UserCharge {
    /// Makes the charge of the caller, who opens a context.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn of_caller(limits: Arc<Limits>) -> Result<Arc<Self>> {
        let user = Payer::User(Kuid::current_euid().into_raw().val);
        let namespaces = UserNamespace::all_of_current(GFP_KERNEL_ACCOUNT)?;
        let mut charge = Self {
            own: limits.join(user)?,
            user,
            above: KVec::new(),
            limits,
        };

        // Has room in `above` before a payer joins: it leaves from there.
        for payer in namespaces.iter().map(Payer::of_namespace) {
            charge.above.reserve(1, GFP_KERNEL_ACCOUNT)?;
            if charge.payers().all(|other| other != payer) {
                let usage = charge.limits.join(payer)?;
                charge.above.push_within_capacity((payer, usage))?;
            }
        }
        Ok(Arc::new(charge, GFP_KERNEL_ACCOUNT)?)
    }

    fn payers(&self) -> impl Iterator<Item = Payer> + '_ {
        let above = self.above.iter().map(|&(payer, _)| payer);

        Iterator::chain(core::iter::once(self.user), above)
    }

    /// Returns the limits.
    #[inline]
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how many of a kind the user has.
    pub(crate) fn in_use(&self, kind: LimitKind) -> usize {
        self.own.of(kind).load(Relaxed)
    }

    #[inline(always)]
    fn add(&self, kind: LimitKind, count: usize) -> Result {
        let above = self.above.iter().map(|(_, usage)| usage.of(kind));

        (self.limits.counter(kind)).charge(self.own.of(kind), above, count)
    }

    #[inline(always)]
    fn subtract(&self, kind: LimitKind, count: usize) {
        let above = self.above.iter().map(|(_, usage)| usage.of(kind));

        (self.limits.counter(kind)).uncharge(self.own.of(kind), above, count);
    }

    /// Counts `count` more of a kind, until the returned charge is dropped.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if the user, or the owner of a user namespace around, may not have so many more, `ENFILE`
    /// if all together may not.
    fn charge(self: &Arc<Self>, kind: LimitKind, count: usize) -> Result<Charge> {
        self.add(kind, count)?;
        Ok(Charge {
            user: self.clone(),
            kind,
            count,
        })
    }

    /// Counts one more export, until the returned charge is dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::charge`].
    pub(crate) fn charge_export(self: &Arc<Self>) -> Result<Charge> {
        self.charge(LimitKind::Export, 1)
    }

    /// Counts one more interrupt that is bound for irq bypass, until the returned charge is dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::charge`].
    pub(crate) fn charge_bypass(self: &Arc<Self>) -> Result<Charge> {
        self.charge(LimitKind::Bypass, 1)
    }

    /// Counts one more event queue, and its memory, until the returned charge is dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::charge`]; `EDQUOT` if a user has reached one of the two limits and all have reached the
    /// other.
    pub(crate) fn charge_queue(self: &Arc<Self>, size: QueueSize) -> Result<QueueCharge> {
        let queue = match self.charge(LimitKind::Queue, 1) {
            Err(EDQUOT) => return Err(EDQUOT),
            queue => queue,
        };
        // Also if all have as many queues as they may: a limit of the user comes first.
        let memory = self.charge(LimitKind::QueueMemory, size.bytes());

        Ok(match (queue, memory) {
            (_, Err(EDQUOT)) => return Err(EDQUOT),
            (queue, memory) => QueueCharge {
                queue: queue?,
                memory: memory?,
            },
        })
    }

    /// Counts `count` more interrupts, until the returned charge is dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::charge`].
    #[inline(always)]
    pub(crate) fn charge_irqs(&self, count: usize) -> Result<IrqCharge<'_>> {
        self.add(LimitKind::Irq, count)?;
        Ok(IrqCharge { user: self, count })
    }
}

impl Drop for UserCharge {
    fn drop(&mut self) {
        for payer in self.payers() {
            self.limits.leave(payer);
        }
    }
}

/// Some of a kind of a user, counted until this is dropped.
pub(crate) struct Charge {
    user: Arc<UserCharge>,
    kind: LimitKind,
    count: usize,
}

impl Charge {
    /// Returns the user.
    #[inline]
    pub(crate) fn user(&self) -> &UserCharge {
        &self.user
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.user.subtract(self.kind, self.count);
    }
}

impl Charge {
    /// Leaves it counted for ever.
    fn leak(&mut self) {
        self.count = 0;
    }
}

/// An event queue of a user with its memory, counted until this is dropped.
pub(crate) struct QueueCharge {
    queue: Charge,
    memory: Charge,
}

impl QueueCharge {
    /// Returns the user.
    #[inline]
    pub(crate) fn user(&self) -> &UserCharge {
        self.queue.user()
    }

    /// Leaves both counted for ever.
    pub(crate) fn leak(&mut self) {
        self.queue.leak();
        self.memory.leak();
    }
}

/// Interrupts of a user, counted until this is dropped.
///
/// Has no reference of its own to the user, as a slot reaches that by its queue: see [`Self::forget`].
pub(crate) struct IrqCharge<'a> {
    user: &'a UserCharge,
    count: usize,
}

impl<'a> IrqCharge<'a> {
    /// Counts one more.
    ///
    /// # Errors
    ///
    /// Those of [`UserCharge::charge_irqs`].
    pub(crate) fn add_one(&mut self) -> Result {
        self.user.add(LimitKind::Irq, 1)?;
        self.count += 1;
        Ok(())
    }

    /// Takes one of them out.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is none left.
    pub(crate) fn take_one(&mut self) -> Result<Self> {
        self.count = self.count.checked_sub(1).ok_or(ENOSPC)?;
        Ok(Self {
            user: self.user,
            count: 1,
        })
    }

    /// Leaves them counted, for [`Self::recover`].
    #[inline]
    pub(crate) fn forget(self) {
        core::mem::forget(self);
    }

    /// Returns the charge of `count` interrupts of `user` that was forgotten.
    #[inline]
    pub(crate) fn recover(user: &'a UserCharge, count: usize) -> Self {
        Self { user, count }
    }
}

impl Drop for IrqCharge<'_> {
    #[inline]
    fn drop(&mut self) {
        self.user.subtract(LimitKind::Irq, self.count);
    }
}
