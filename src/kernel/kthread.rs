// SPDX-License-Identifier: GPL-2.0

//! Threads of the class `SCHED_FIFO`, for short work that must not wait for programs of that class.
//!
//! Would go to `rust/kernel/kthread.rs`. The crate has workqueues only, whose threads are of the
//! normal class: a program of a real-time class keeps them from its CPU.
//!
//! The threads have the priority of those of interrupt handlers, 50, and belong to no CPU: the
//! scheduler finds one that does something less urgent. As they keep programs from it, a thread works
//! for [`SHARE`] of each [`PERIOD`] only. Meanwhile a workqueue goes on with the work, if it gets a CPU.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use super::fault::injectable;
use core::{
    marker::PhantomPinned,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    container_of,
    error::from_err_ptr,
    ffi,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};

/// How long the times are counted together for which a thread has worked.
const PERIOD: Delta = Delta::from_millis(100);

/// For how long a thread sleeps at a time when it may not work.
const NAP: Delta = Delta::from_millis(1);

/// For how long a thread works in a period. It goes beyond by one piece of work.
const SHARE: Delta = Delta::from_millis(10);

/// The node of a thread that may be on any.
const NUMA_NO_NODE: ffi::c_int = -1;

/// For how long a thread has worked.
struct Usage {
    epoch: Instant<Monotonic>,
    /// When the period ends, in nanoseconds after `epoch`.
    end: Atomic<i64>,
    /// For how long it has worked in it, in nanoseconds.
    used: Atomic<i64>,
}

impl Usage {
    fn new(epoch: Instant<Monotonic>) -> Self {
        Self {
            epoch,
            end: Atomic::new(0),
            used: Atomic::new(0),
        }
    }

    fn nanos(&self, at: Instant<Monotonic>) -> i64 {
        (at - self.epoch).as_nanos()
    }

    /// Returns for how long the thread may not work from `now` on.
    fn pause(&self, now: Instant<Monotonic>) -> Option<Delta> {
        let rest = self.end.load(Relaxed) - self.nanos(now);

        (rest > 0 && self.used.load(Relaxed) >= SHARE.as_nanos()).then(|| Delta::from_nanos(rest))
    }

    /// Notes that it has worked from `began` to `ended`. Only the thread itself calls this.
    fn add(&self, began: Instant<Monotonic>, ended: Instant<Monotonic>) {
        let spent = (ended - began).as_nanos();

        if self.nanos(began) >= self.end.load(Relaxed) {
            self.used.store(spent, Relaxed);
            self.end
                .store(self.nanos(began) + PERIOD.as_nanos(), Relaxed);
        } else {
            self.used.store(self.used.load(Relaxed) + spent, Relaxed);
        }
    }
}

/// A thread that does the work of items.
///
/// # Invariants
///
/// `worker` is valid and its thread runs, until the object is dropped.
pub(crate) struct KthreadWorker {
    worker: NonNull<bindings::kthread_worker>,
    usage: Usage,
}

// SAFETY: The C side takes items of any thread, under a lock of its own, and may destroy a worker on any
// but its own. Items hold a reference, and each is cancelled before that goes; the thread itself drops
// none.
unsafe impl Send for KthreadWorker {}

// SAFETY: As above. Of the rest there are atomics only.
unsafe impl Sync for KthreadWorker {}

impl KthreadWorker {
    /// Starts the thread `<name>/<number>`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, `EINTR` if the caller is killed.
    pub(crate) fn new(name: &CStr, number: u32) -> Result<Arc<Self>> {
        let worker = injectable!(
            uxive_start_thread,
            ENOMEM,
            // SAFETY: The format and the name are NUL-terminated, and the arguments are those that it
            // names. Both are read before the function returns.
            from_err_ptr(unsafe {
                bindings::kthread_create_worker_on_node(
                    0,
                    NUMA_NO_NODE,
                    c"%s/%u".as_char_ptr(),
                    name.as_char_ptr(),
                    number,
                )
            })
        )?;
        let worker = NonNull::new(worker).ok_or(ENOMEM)?;

        // INVARIANT: Made above, and its thread begins to run here.
        //
        // SAFETY: The worker is new and has a thread.
        unsafe {
            let thread = worker.as_ref().task;
            bindings::sched_set_fifo(thread);
            bindings::wake_up_process(thread);
        }
        let worker = Self {
            worker,
            usage: Usage::new(Instant::now()),
        };
        Ok(Arc::new(worker, GFP_KERNEL)?)
    }
}

impl Drop for KthreadWorker {
    fn drop(&mut self) {
        // SAFETY: Valid by the type invariants. No item is queued, as each refers to the worker.
        unsafe { bindings::kthread_destroy_worker(self.worker.as_ptr()) };
    }
}

/// The function of an item for a [`KthreadWorker`].
pub(crate) trait KthreadWork: Send + Sync + Sized + 'static {
    /// Does a short piece of the work, if there is some. Returns whether there is more. Never called twice
    /// at a time.
    fn run(&self) -> bool;

    /// Has a workqueue do the work as well, as the thread pauses. Called in any context.
    fn help(&self);
}

/// An object with an item for a thread. When it is dropped, the item is not at work and never will.
///
/// # Invariants
///
/// `work` is initialized with [`Self::run`], and queued to `worker` only.
#[pin_data(PinnedDrop)]
pub(crate) struct KthreadItem<T: KthreadWork> {
    // Dropped after `PinnedDrop::drop` has cancelled the item.
    #[pin]
    object: T,
    #[pin]
    work: Opaque<bindings::kthread_work>,
    worker: Arc<KthreadWorker>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: An item is not bound to the thread that queues it, and `T` is `Send`.
unsafe impl<T: KthreadWork> Send for KthreadItem<T> {}

// SAFETY: A shared reference gives access to `object`, which is `Sync`, and allows to queue the item,
// which the C side synchronizes.
unsafe impl<T: KthreadWork> Sync for KthreadItem<T> {}

impl<T: KthreadWork> KthreadItem<T> {
    /// Puts `object` together with an item for `worker` that is not queued.
    pub(crate) fn new<'a, E>(
        worker: Arc<KthreadWorker>,
        object: impl PinInit<T, E> + 'a,
    ) -> impl PinInit<Self, E> + 'a
    where
        T: 'a,
        E: From<core::convert::Infallible> + 'a,
    {
        try_pin_init!(Self {
            object <- object,
            work <- Opaque::ffi_init(|work: *mut bindings::kthread_work| {
                // As `kthread_init_work()`, which is a macro.
                //
                // SAFETY: `work` is valid for writes, and the list head in it is pinned.
                unsafe {
                    work.write(bindings::kthread_work {
                        func: Some(Self::run),
                        ..pin_init::zeroed()
                    });
                    let node = &raw mut (*work).node;
                    (*node).next = node;
                    (*node).prev = node;
                }
            }),
            worker,
            _pin: PhantomPinned,
        }? E)
    }

    /// Queues the item. May be called in any context.
    pub(crate) fn queue(&self) {
        if self.worker.usage.pause(Instant::now()).is_some() {
            self.object.help();
        }
        // SAFETY: The item is initialized by the type invariants, and cancelled before it goes. The
        // worker is valid by its own.
        unsafe { bindings::kthread_queue_work(self.worker.worker.as_ptr(), self.work.get()) };
    }

    /// # Safety
    ///
    /// To be called only with the item of a `KthreadItem`, by its thread.
    unsafe extern "C" fn run(work: *mut bindings::kthread_work) {
        // SAFETY: The item is that of a field of the object, which cancels it before it goes.
        let item = unsafe { &*container_of!(Opaque::cast_from(work), Self, work) };
        let usage = &item.worker.usage;
        let began = Instant::now();

        if let Some(pause) = usage.pause(began) {
            // It may have been queued before the pause. For a while only: the next one needs help, too, and
            // one that is cancelled waits.
            item.object.help();
            fsleep(pause.min(NAP));
            return item.queue();
        }
        let more = item.object.run();

        usage.add(began, Instant::now());
        if more {
            item.queue();
        }
    }
}

impl<T: KthreadWork> Deref for KthreadItem<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

#[pinned_drop]
impl<T: KthreadWork> PinnedDrop for KthreadItem<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialized by the type invariants. Nobody but the item itself can queue it any
        // more; cancelling waits for it and keeps it from that.
        unsafe { bindings::kthread_cancel_work_sync(self.work.get()) };
    }
}

#[kunit_tests(kthread_share)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_a_share_of_each_period() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let piece = Delta::from_millis(3);
        let mut now = start;

        assert_eq!(usage.pause(now), None);
        for _ in 0..3 {
            usage.add(now, now + piece);
            now = now + piece;
            assert_eq!(usage.pause(now), None);
        }
        usage.add(now, now + piece);
        now = now + piece;
        assert_eq!(usage.pause(now), Some(start + PERIOD - now));
        let last = Delta::from_nanos(1);
        assert_eq!(usage.pause(start + PERIOD - last), Some(last));
        assert_eq!(usage.pause(start + PERIOD), None);
        // The next begins with the next piece of work.
        now = start + PERIOD + PERIOD;
        usage.add(now, now + SHARE);
        assert_eq!(usage.pause(now + SHARE), Some(PERIOD - SHARE));
        assert_eq!(usage.pause(now + PERIOD - last), Some(last));
        assert_eq!(usage.pause(now + PERIOD), None);
    }

    /// Work that takes a while, once.
    struct Probe {
        takes: Delta,
        runs: Atomic<u32>,
        helped: Atomic<u32>,
    }

    impl KthreadWork for Probe {
        fn run(&self) -> bool {
            fsleep(self.takes);
            self.runs.fetch_add(1, Relaxed);
            false
        }

        fn help(&self) {
            self.helped.fetch_add(1, Relaxed);
        }
    }

    fn probe(worker: &Arc<KthreadWorker>, takes: Delta) -> Result<Pin<KBox<KthreadItem<Probe>>>> {
        let probe = Probe {
            takes,
            runs: Atomic::new(0),
            helped: Atomic::new(0),
        };

        KBox::pin_init(
            KthreadItem::new(worker.clone(), Ok::<_, Error>(probe)),
            GFP_KERNEL,
        )
    }

    #[test]
    fn an_item_that_was_queued_before_a_pause_is_helped_in_it() -> Result {
        let worker = KthreadWorker::new(c"kthread_share", 0)?;
        let mut helped = 0;

        // Where all is so slow that the period is over at once there is no pause: try again.
        for _ in 0..100 {
            let long = probe(&worker, SHARE + NAP)?;
            let next = probe(&worker, Delta::from_nanos(0))?;
            long.queue();
            next.queue();
            while next.runs.load(Relaxed) == 0 {
                fsleep(NAP);
            }
            assert_eq!(long.runs.load(Relaxed), 1);
            helped = next.helped.load(Relaxed);
            if helped != 0 && long.helped.load(Relaxed) == 0 {
                break;
            }
        }
        assert!(helped != 0);
        Ok(())
    }
}
