// SPDX-License-Identifier: GPL-2.0

//! Whom a context is charged to, and how much each user and all together may have.
//!
//! A context is charged to the user who opened it, also if others use it later. This is the
//! effective user: it was allowed to open the file, and the kernel's own limits per user (ucounts)
//! go by it. Users are told apart by their number in the kernel, which is the same in all user
//! namespaces. Root is a user like others, and no capability exempts: a program that may change the
//! limits needs no exemption.
//!
//! Event queues and exports are counted here, interrupts where they are taken from, by [`Platform`],
//! and those of a context with its slots.

use crate::{
    layout::MAX_IRQS,
    tally::{
        Limits,
        Tally, //
    },
    xive::{
        Holder,
        Platform, //
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

/// A user who has contexts.
struct User {
    accounts: usize,
    counts: Counted<usize>,
    irqs: Arc<Holder>,
}

/// Something of each kind that is counted here.
#[derive(Default)]
struct Counted<T> {
    queues: T,
    exports: T,
}

/// One of these kinds.
#[derive(Clone, Copy)]
enum LimitKind {
    Queue,
    Export,
}

impl<T> Counted<T> {
    fn of(&mut self, kind: LimitKind) -> &mut T {
        match kind {
            LimitKind::Queue => &mut self.queues,
            LimitKind::Export => &mut self.exports,
        }
    }
}

/// The users, and how much each has.
struct Users {
    /// By the number of the user in the kernel.
    users: RBTree<u32, User>,
    tallies: Counted<Tally>,
}

/// The limits, and who has how much of what they limit.
#[pin_data]
pub(crate) struct Quota {
    platform: Arc<Platform>,
    max_irqs_per_context: Atomic<u32>,
    /// Innermost, see `file.rs`.
    #[pin]
    users: Mutex<Users>,
}

impl Quota {
    /// Sets the limits to what they are by default.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(platform: Arc<Platform>) -> Result<Arc<Self>> {
        let users = Users {
            users: RBTree::new(),
            tallies: Counted {
                // Each needs a Linux interrupt. The other half of these is for the rest of the machine.
                queues: Tally::new(Platform::linux_irqs() / 2, MAX_QUEUES),
                exports: Tally::new(DEFAULT_EXPORTS, MAX_EXPORTS),
            },
        };

        Arc::pin_init(
            pin_init!(Self {
                platform,
                max_irqs_per_context: Atomic::new(MAX_IRQS as u32),
                users <- new_mutex!(users, "uxive_users"),
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

    /// Returns how many event queues there are.
    pub(crate) fn queues(&self) -> usize {
        self.users.lock().tallies.queues.in_use()
    }

    /// Returns how many event queues there can be.
    pub(crate) fn max_queues(&self) -> Limits {
        self.users.lock().tallies.queues.limits()
    }

    /// Changes a limit of event queues, see [`Tally::set_limit`].
    ///
    /// # Errors
    ///
    /// `ERANGE` if that is more than [`MAX_QUEUES`].
    pub(crate) fn set_max_queues(
        &self,
        which: fn(&mut Limits) -> &mut usize,
        limit: u64,
    ) -> Result {
        self.users.lock().tallies.queues.set_limit(which, limit)
    }

    /// Returns how many exports there are.
    pub(crate) fn exports(&self) -> usize {
        self.users.lock().tallies.exports.in_use()
    }

    /// Returns how many exports there can be.
    pub(crate) fn max_exports(&self) -> Limits {
        self.users.lock().tallies.exports.limits()
    }

    /// Changes a limit of exports, see [`Tally::set_limit`].
    ///
    /// # Errors
    ///
    /// `ERANGE` if that is more than [`MAX_EXPORTS`].
    pub(crate) fn set_max_exports(
        &self,
        which: fn(&mut Limits) -> &mut usize,
        limit: u64,
    ) -> Result {
        self.users.lock().tallies.exports.set_limit(which, limit)
    }
}

/// The account to which a context is charged: that of its user, who is known here as long as it
/// exists.
pub(crate) struct Account {
    quota: Arc<Quota>,
    uid: u32,
    irqs: Arc<Holder>,
}

impl Account {
    /// Makes an account of the caller.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn of_caller(quota: Arc<Quota>) -> Result<Arc<Self>> {
        let uid = Kuid::current_euid().into_raw().val;
        let irqs = Self::join(&quota, uid)?;

        // If there is no memory for it, the account is dropped, which takes the mutex.
        Ok(Arc::new(Self { quota, uid, irqs }, GFP_KERNEL_ACCOUNT)?)
    }

    /// Counts an account of the user `uid`.
    fn join(quota: &Quota, uid: u32) -> Result<Arc<Holder>> {
        let users = &mut quota.users.lock().users;

        if let Some(user) = users.get_mut(&uid) {
            user.accounts += 1;
            return Ok(user.irqs.clone());
        }
        let irqs = Arc::new(Holder::new(quota.platform.clone()), GFP_KERNEL_ACCOUNT)?;
        let user = User {
            accounts: 1,
            counts: Counted::default(),
            irqs: irqs.clone(),
        };
        users.try_create_and_insert(uid, user, GFP_KERNEL_ACCOUNT)?;
        Ok(irqs)
    }

    /// Returns the limits.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Returns for whom the interrupts of the user are counted.
    pub(crate) fn irqs(&self) -> &Arc<Holder> {
        &self.irqs
    }

    /// Returns how many event queues the user has.
    pub(crate) fn queues(&self) -> usize {
        self.count(LimitKind::Queue)
    }

    /// Returns how many exports the user has.
    pub(crate) fn exports(&self) -> usize {
        self.count(LimitKind::Export)
    }

    fn count(&self, kind: LimitKind) -> usize {
        let users = &mut self.quota.users.lock().users;

        users
            .get_mut(&self.uid)
            .map_or(0, |user| *user.counts.of(kind))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let users = &mut self.quota.users.lock().users;

        if let Some(user) = users.get_mut(&self.uid) {
            user.accounts -= 1;
            if user.accounts == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

/// Something that an account has, counted until it is dropped.
struct Charge {
    account: Arc<Account>,
    kind: LimitKind,
}

impl Charge {
    fn new(account: Arc<Account>, kind: LimitKind) -> Result<Self> {
        {
            let Users { users, tallies } = &mut *account.quota.users.lock();
            // It has this account.
            let user = users.get_mut(&account.uid).ok_or(EDQUOT)?;
            let (tally, own) = (tallies.of(kind), user.counts.of(kind));

            tally.check(*own)?;
            *own = tally.add(*own);
        }
        Ok(Self { account, kind })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Users { users, tallies } = &mut *self.account.quota.users.lock();

        if let Some(user) = users.get_mut(&self.account.uid) {
            let own = user.counts.of(self.kind);
            *own = tallies.of(self.kind).remove(*own);
        }
    }
}

/// An event queue of an account, counted until it is dropped.
pub(crate) struct QueueCharge {
    _charge: Charge,
}

impl QueueCharge {
    /// Counts one more.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if the user has as many as it may, `ENFILE` if all together have.
    pub(crate) fn new(account: Arc<Account>) -> Result<Self> {
        Ok(Self {
            _charge: Charge::new(account, LimitKind::Queue)?,
        })
    }
}

/// An export of an account, counted until it is dropped.
pub(crate) struct ExportCharge {
    _charge: Charge,
}

impl ExportCharge {
    /// Counts one more.
    ///
    /// # Errors
    ///
    /// `EDQUOT` if the user has as many as it may, `ENFILE` if all together have.
    pub(crate) fn new(account: Arc<Account>) -> Result<Self> {
        Ok(Self {
            _charge: Charge::new(account, LimitKind::Export)?,
        })
    }
}
