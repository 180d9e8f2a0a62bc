// SPDX-License-Identifier: GPL-2.0

//! How much each user and all users together may have: interrupts, event queues, exports.
//!
//! A context is charged to the user who opened it, also if others use it later. This is the
//! effective user: it was allowed to open the file, and the kernel's own limits per user (ucounts)
//! go by it. Users are told apart by their number in the kernel, which is the same in all user
//! namespaces. Root is a user like others, and no capability exempts: a program that may change the
//! limits needs no exemption.

use crate::{
    counter::Counter,
    layout::MAX_IRQS,
    xive::{
        Platform,
        MAX_SOURCES, //
    }, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
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

/// The most event queues that the limits can be set to.
const MAX_QUEUES: usize = 65536;

/// The most exports that the limits can be set to, and what they are by default.
const MAX_EXPORTS: usize = 65536;
const DEFAULT_EXPORTS: usize = 4096;

/// The kinds of resources that are limited.
#[derive(Clone, Copy)]
pub(crate) enum LimitKind {
    /// Interrupt sources. A slot that an AFU can ring both ways has two.
    Irq,
    Queue,
    Export,
}

/// Something of each kind.
struct PerKind<T> {
    irqs: T,
    queues: T,
    exports: T,
}

impl<T> PerKind<T> {
    #[inline]
    fn of(&self, kind: LimitKind) -> &T {
        match kind {
            LimitKind::Irq => &self.irqs,
            LimitKind::Queue => &self.queues,
            LimitKind::Export => &self.exports,
        }
    }
}

/// How much of each kind a user has.
type User = PerKind<Atomic<usize>>;

/// A user who is charged for contexts.
struct KnownUser {
    /// How many [`UserCharge`]s refer to it.
    charges: usize,
    user: Arc<User>,
}

/// The limits, and the users with how much each has.
#[pin_data]
pub(crate) struct Limits {
    max_irqs_per_context: Atomic<u32>,
    counters: PerKind<Counter>,
    /// By the number of the user in the kernel. Innermost, see `file.rs`.
    #[pin]
    users: Mutex<RBTree<u32, KnownUser>>,
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
            // Each needs a Linux interrupt. The other half of these is for the rest of the machine.
            queues: Counter::new(Platform::linux_irqs() / 2, MAX_QUEUES),
            exports: Counter::new(DEFAULT_EXPORTS, MAX_EXPORTS),
        };

        Arc::pin_init(
            pin_init!(Self {
                max_irqs_per_context: Atomic::new(MAX_IRQS as u32),
                counters,
                users <- new_mutex!(RBTree::new(), "uxive_users"),
            }),
            GFP_KERNEL,
        )
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

    /// Returns how many of a kind there are and may be.
    pub(crate) fn counter(&self, kind: LimitKind) -> &Counter {
        self.counters.of(kind)
    }
}

/// The user to whom a context is charged. The limits know a user as long as one of these exists.
pub(crate) struct UserCharge {
    limits: Arc<Limits>,
    uid: u32,
    user: Arc<User>,
}

impl UserCharge {
    /// Makes the charge of the caller, who opens a context.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn of_caller(limits: Arc<Limits>) -> Result<Arc<Self>> {
        let uid = Kuid::current_euid().into_raw().val;
        let user = Self::join(&limits, uid)?;

        // If there is no memory for it, the value is dropped, which takes the mutex.
        Ok(Arc::new(Self { limits, uid, user }, GFP_KERNEL_ACCOUNT)?)
    }

    /// Counts a charge of the user `uid`.
    fn join(limits: &Limits, uid: u32) -> Result<Arc<User>> {
        let users = &mut *limits.users.lock();

        if let Some(known) = users.get_mut(&uid) {
            known.charges += 1;
            return Ok(known.user.clone());
        }
        let user = User {
            irqs: Atomic::new(0),
            queues: Atomic::new(0),
            exports: Atomic::new(0),
        };
        let user = Arc::new(user, GFP_KERNEL_ACCOUNT)?;
        let known = KnownUser {
            charges: 1,
            user: user.clone(),
        };
        users.try_create_and_insert(uid, known, GFP_KERNEL_ACCOUNT)?;
        Ok(user)
    }

    /// Returns the limits.
    #[inline]
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how many of a kind the user has.
    pub(crate) fn in_use(&self, kind: LimitKind) -> usize {
        self.user.of(kind).load(Relaxed)
    }

    /// Counts one more of a kind, as long as what is returned lives.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if the user has as many as it may, `ENFILE` if all together have.
    pub(crate) fn charge(self: &Arc<Self>, kind: LimitKind) -> Result<Charge> {
        (self.limits.counter(kind)).charge(self.user.of(kind), 1)?;
        Ok(Charge {
            user: self.clone(),
            kind,
        })
    }

    /// Counts `count` more interrupts, as long as what is returned lives.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if the user may not have so many more, `ENFILE` if all together may not.
    #[inline]
    pub(crate) fn charge_irqs(&self, count: usize) -> Result<IrqCharge<'_>> {
        (self.limits.counters.irqs).charge(&self.user.irqs, count)?;
        Ok(IrqCharge { user: self, count })
    }
}

impl Drop for UserCharge {
    fn drop(&mut self) {
        let users = &mut *self.limits.users.lock();

        if let Some(known) = users.get_mut(&self.uid) {
            known.charges -= 1;
            if known.charges == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

/// An event queue or an export of a user, counted until this is dropped.
pub(crate) struct Charge {
    user: Arc<UserCharge>,
    kind: LimitKind,
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
        let UserCharge { limits, user, .. } = &*self.user;

        limits.counter(self.kind).uncharge(user.of(self.kind), 1);
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
        self.user.charge_irqs(1)?.forget();
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

    /// Has them stay counted until what [`Self::recover`] returns is dropped.
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
        let UserCharge { limits, user, .. } = self.user;

        limits.counters.irqs.uncharge(&user.irqs, self.count);
    }
}
