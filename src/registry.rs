// SPDX-License-Identifier: GPL-2.0

//! All contexts: those that are open, and those that were closed and are quarantined.
//!
//! A context is entered when it is opened, so that nothing can fail when it is closed. Resources
//! that fail to quiesce are tried again every [`RETRY_MS`], and a last time when the module is
//! unloaded. If they fail then, too, the LISN, or the VP with its memory, is leaked until the
//! machine is started anew.

use crate::{
    afu::AfuContext,
    context::{
        Context,
        ContextKind, //
    },
    kernel_ext::{
        mapping::FileMapping,
        work::{
            Work,
            Worker, //
        }, //
    },
    limits::UserCharge,
    trace, //
};
use core::ops::Deref;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    static_lock_class,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta, //
    }, //
};

/// The time between two tries to give back quarantined resources, in milliseconds.
const RETRY_MS: u32 = 1000;

/// How often closing a context looks whether its AFU has detached it, and whether the last
/// escalation was handled, a millisecond apart.
const CLOSE_TRIES: usize = 1000;

/// How often unloading tries to give back quarantined resources, and how long it waits in between.
const UNLOAD_TRIES: usize = 30;
const UNLOAD_WAIT: Delta = Delta::from_millis(100);

/// A context.
#[derive(Clone)]
pub(crate) enum Registered {
    /// It is open.
    Open(Arc<Context>),
    /// It is closed and quarantined.
    Closing(Arc<Context>),
}

impl Deref for Registered {
    type Target = Context;

    fn deref(&self) -> &Context {
        match self {
            Self::Open(context) | Self::Closing(context) => context,
        }
    }
}

struct Contexts {
    by_id: RBTree<u64, Registered>,
    next_id: u64,
}

/// The contexts, and the object of the work item, which tries again to give back quarantined ones.
#[pin_data(PinnedDrop)]
struct Table {
    /// Guards which contexts there are; see `file.rs`.
    #[pin]
    contexts: Mutex<Contexts>,
}

impl Table {
    /// Returns the first context from number `id` on.
    fn next(&self, id: u64) -> Option<Registered> {
        let contexts = self.contexts.lock();
        let cursor = contexts.by_id.cursor_lower_bound(&id)?;

        Some(cursor.current().1.clone())
    }

    /// Takes out a context that is quiesced. May sleep.
    fn remove(&self, id: u64) {
        let node = self.contexts.lock().by_id.remove_node(&id);

        // Dropped without a lock: the last reference to a context frees a Linux interrupt.
        drop(node);
    }

    /// Tries once to give back all that is quarantined. Returns whether that was all.
    fn quiesce(&self) -> bool {
        let mut quiesced = true;
        let mut id = 0;

        while let Some(context) = self.next(id) {
            context.retry();
            match &context {
                Registered::Open(context) => quiesced &= context.slots().is_quiet(),
                Registered::Closing(context) => match context.quiesce(0) {
                    Ok(()) => {
                        trace::context_quarantine_end(context.id());
                        self.remove(context.id());
                    }
                    Err(_) => quiesced = false,
                },
            }
            id = context.id().saturating_add(1);
        }
        quiesced
    }
}

impl Work for Table {
    fn run(worker: &Worker<Self>) {
        if !worker.quiesce() {
            worker.queue_after(msecs_to_jiffies(RETRY_MS));
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Table {
    fn drop(self: Pin<&mut Self>) {
        for _ in 0..UNLOAD_TRIES {
            if self.quiesce() {
                return;
            }
            fsleep(UNLOAD_WAIT);
        }
        // The others log by themselves that they are leaked, when they are dropped now.
    }
}

/// All contexts.
#[pin_data]
pub(crate) struct Registry {
    #[pin]
    table: Worker<Table>,
}

impl Registry {
    /// Makes a registry without any.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let contexts = Contexts {
            by_id: RBTree::new(),
            next_id: 0,
        };

        try_pin_init!(Self {
            table <- Worker::new(static_lock_class!(), try_pin_init!(Table {
                contexts <- new_mutex!(contexts, "uxive_contexts"),
            }? Error)),
        })
    }

    /// Opens a context of a `kind` for the caller, charged to `user`, in its place of an AFU if it is
    /// of one; `mapping` is that of its file.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn open(
        &self,
        kind: ContextKind,
        user: Arc<UserCharge>,
        afu: Option<AfuContext>,
        mapping: &Arc<FileMapping>,
    ) -> Result<Arc<Context>> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let id = {
            let contexts = &mut *self.table.contexts.lock();
            contexts.next_id = contexts.next_id.wrapping_add(1);
            contexts.next_id
        };
        let context = Context::new(id, kind, user, afu, mapping)?;
        let node = node.into_node(id, Registered::Open(context.clone()));

        self.table.contexts.lock().by_id.insert(node);
        Ok(context)
    }

    /// Gives back all that `context` owns, and forgets it: now, or later when it has gone quiet.
    /// May sleep.
    pub(crate) fn close(&self, context: &Arc<Context>) {
        let Err(reason) = context.quiesce(CLOSE_TRIES) else {
            self.table.remove(context.id());
            return;
        };

        context.log_quarantine(reason);
        if let Some(entry) = self.table.contexts.lock().by_id.get_mut(&context.id()) {
            *entry = Registered::Closing(context.clone());
        }
        self.retry_later();
    }

    /// Queues another try to give back quarantined resources.
    pub(crate) fn retry_later(&self) {
        self.table.queue_after(msecs_to_jiffies(RETRY_MS));
    }

    /// Returns the first context from number `id` on.
    pub(crate) fn next(&self, id: u64) -> Option<Registered> {
        self.table.next(id)
    }
}
