// SPDX-License-Identifier: GPL-2.0

//! Work items that are cancelled when their object is dropped.
//!
//! Would go to `rust/kernel/workqueue.rs`. `kernel::workqueue` takes a reference to an object for
//! as long as its work item is queued, and cannot cancel it. So it serves neither an object that
//! must not outlive its owner nor one that must be gone before its module is unloaded.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::{
    marker::PhantomPinned,
    ops::Deref, //
};
use kernel::{
    bindings,
    container_of,
    ffi,
    prelude::*,
    static_lock_class,
    sync::LockClassKey,
    time::Jiffies,
    types::Opaque, //
};

/// The function of a work item, and the object that it works on.
///
/// The object refers to nothing that may be freed before it: a [`Worker`] can be forgotten with its
/// work item queued.
pub(crate) trait Work: Send + Sync + Sized + 'static {
    /// Called from a workqueue once after each time that the item was queued, or once for several.
    /// Never called twice at a time. May sleep.
    fn run(worker: &Worker<Self>);
}

/// An object with a work item. When it is dropped, the work item is not running and never will.
///
/// # Invariants
///
/// `work` is initialized with [`Self::run`].
#[pin_data(PinnedDrop)]
pub(crate) struct Worker<T: Work> {
    // Dropped after `PinnedDrop::drop` has cancelled the work.
    #[pin]
    object: T,
    #[pin]
    work: Opaque<bindings::delayed_work>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A work item is not bound to a thread, and `T` is `Send`.
unsafe impl<T: Work> Send for Worker<T> {}

// SAFETY: A shared reference gives access to `object`, which is `Sync`, and allows to queue the work
// item, which the C side synchronizes.
unsafe impl<T: Work> Sync for Worker<T> {}

impl<T: Work> Worker<T> {
    /// Puts `object` together with a work item that is not queued, of the lock class `class`. Each
    /// kind of object has a class of its own, since the work item of one may drop another.
    pub(crate) fn new<'a, E>(
        class: Pin<&'static LockClassKey>,
        object: impl PinInit<T, E> + 'a,
    ) -> impl PinInit<Self, E> + 'a
    where
        T: 'a,
        E: From<core::convert::Infallible> + 'a,
    {
        try_pin_init!(Self {
            object <- object,
            work <- Opaque::ffi_init(move |work: *mut bindings::delayed_work| {
                // SAFETY: `work` is valid for writes and pinned, and the callback fits it. The timer
                // is embedded in a `delayed_work`, started by the workqueue only, and irq-safe.
                unsafe {
                    bindings::init_work_with_key(
                        &raw mut (*work).work,
                        Some(Self::run),
                        false,
                        c"Worker::work".as_char_ptr(),
                        class.as_ptr(),
                    );
                    bindings::timer_init_key(
                        &raw mut (*work).timer,
                        Some(bindings::delayed_work_timer_fn),
                        bindings::TIMER_IRQSAFE,
                        c"Worker::timer".as_char_ptr(),
                        static_lock_class!().as_ptr(),
                    );
                }
            }),
            _pin: PhantomPinned,
        }? E)
    }

    /// Queues the work item, on any CPU. May be called in any context.
    pub(crate) fn queue(&self) {
        self.queue_after(0);
    }

    /// Queues the work item after `delay`, unless it is queued already. May be called in any
    /// context.
    pub(crate) fn queue_after(&self, delay: Jiffies) {
        // SAFETY: The work item is initialized by the type invariants, and cancelled before it
        // goes. The workqueue exists for ever.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as ffi::c_int,
                bindings::system_dfl_wq,
                self.work.get(),
                delay,
            )
        };
    }

    /// # Safety
    ///
    /// To be called only with the work item of a `Worker`.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work item is that of a field of the object, which cancels it before it goes.
        T::run(unsafe {
            let work = container_of!(work, bindings::delayed_work, work);
            &*container_of!(Opaque::cast_from(work), Self, work)
        });
    }
}

impl<T: Work> Deref for Worker<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

#[pinned_drop]
impl<T: Work> PinnedDrop for Worker<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialized by the type invariants. Nobody but the work item itself can queue it
        // any more; cancelling waits for it and keeps it from that.
        unsafe { bindings::cancel_delayed_work_sync(self.work.get()) };
    }
}
