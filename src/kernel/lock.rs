// SPDX-License-Identifier: GPL-2.0

//! A spinlock for data that hard interrupt handlers share with others.
//!
//! Would go to `rust/kernel/sync/lock/spinlock.rs`. As `kernel::sync::SpinLockIrq`, but it saves
//! and restores whether interrupts are disabled, where that one counts how often they were: it
//! takes half the instructions.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use core::cell::UnsafeCell;
use kernel::{
    bindings,
    interrupt::LocalInterruptDisabled,
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

/// A spinlock that keeps interrupts disabled while it is held, as `spin_lock_irqsave()` does.
///
/// It takes a closure and gives no guard. With guards, a caller could drop the outer of two such
/// locks first, which would enable interrupts while the inner one is held. Closures nest.
///
/// Not with `CONFIG_PREEMPT_RT`, where a spinlock sleeps: the module does not build there.
///
/// # Invariants
///
/// `lock` is initialized. A reference to `data` is made only while it is held.
#[pin_data]
pub(crate) struct SpinLockIrqSave<T> {
    #[pin]
    lock: Opaque<bindings::spinlock_t>,
    data: UnsafeCell<T>,
}

// SAFETY: Sending the lock sends the data, and the lock itself is not bound to a thread.
unsafe impl<T: Send> Send for SpinLockIrqSave<T> {}

// SAFETY: One thread at a time has a reference to the data, by the type invariants.
unsafe impl<T: Send> Sync for SpinLockIrqSave<T> {}

impl<T> SpinLockIrqSave<T> {
    /// Makes a lock that guards `data`, of the lock class `class`.
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        // INVARIANT: The lock is initialized here.
        pin_init!(Self {
            lock <- Opaque::ffi_init(|lock| {
                // SAFETY: The place is valid, and the name and the class are static.
                unsafe {
                    bindings::__spin_lock_init(lock, name.as_char_ptr(), class.as_ptr());
                }
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// Returns the inner lock, with which the outer one begins.
    ///
    /// The functions that take it are those to which C's macros expand with `CONFIG_SMP`, which the
    /// driver depends on. A helper in C would double the cost of the lock.
    fn raw(&self) -> *mut bindings::raw_spinlock_t {
        const {
            // A `spinlock_t` is another structure there.
            assert!(!cfg!(CONFIG_PREEMPT_RT));
        }
        self.lock.get().cast()
    }

    /// Calls `f` with the lock held, and so with interrupts disabled. May be called in any context.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: Initialized by the type invariants.
        let flags = unsafe { bindings::_raw_spin_lock_irqsave(self.raw()) };
        // SAFETY: The lock is held, so nobody else has a reference to the data.
        let result = f(unsafe { &mut *self.data.get() });

        // SAFETY: The lock was taken above, which returned the flags.
        unsafe { bindings::_raw_spin_unlock_irqrestore(self.raw(), flags) };
        result
    }

    /// As [`Self::with`], where interrupts are disabled already.
    #[inline(always)]
    pub(crate) fn with_disabled<R>(
        &self,
        _disabled: &LocalInterruptDisabled,
        f: impl FnOnce(&mut T) -> R,
    ) -> R {
        // SAFETY: Initialized by the type invariants. Interrupts are disabled while `_disabled` is
        // borrowed, so that no handler on this CPU waits for the lock.
        unsafe { bindings::_raw_spin_lock(self.raw()) };
        // SAFETY: The lock is held, so nobody else has a reference to the data.
        let result = f(unsafe { &mut *self.data.get() });

        // SAFETY: The lock was taken above.
        unsafe { bindings::_raw_spin_unlock(self.raw()) };
        result
    }
}
