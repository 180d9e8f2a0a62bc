// SPDX-License-Identifier: GPL-2.0

//! A spinlock for data that hard interrupt handlers share with others.
//!
//! Would go to `rust/kernel/sync/lock/spinlock.rs`. As `kernel::sync::SpinLockIrq`, but it saves
//! and restores whether interrupts are disabled, where that one counts how often they were: it
//! takes half the instructions.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use kernel::{
    bindings,
    ffi,
    prelude::*,
    sync::{
        lock::{
            Backend,
            Lock, //
        },
        LockClassKey, //
    }, //
};

/// A spinlock that keeps interrupts disabled while it is held, as `spin_lock_irqsave()` does.
///
/// It takes a closure and gives no guard. With guards, a caller could drop the outer of two such
/// locks first, which would enable interrupts while the inner one is held. Closures nest.
///
/// Not with `CONFIG_PREEMPT_RT`, where a spinlock sleeps: the module does not build there.
#[pin_data]
pub(crate) struct SpinLockIrqSave<T> {
    #[pin]
    lock: Lock<T, IrqSave>,
}

impl<T> SpinLockIrqSave<T> {
    /// Makes a lock that guards `data`, of the lock class `class`.
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            lock <- Lock::new(data, name, class),
        })
    }

    /// Calls `f` with the lock held, and so with interrupts disabled. May be called in any context.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R
    where
        T: Unpin,
    {
        f(&mut self.lock.lock())
    }
}

/// The backend of [`SpinLockIrqSave`].
///
/// Calls the functions that C's macros expand to with `CONFIG_SMP`, which the driver depends on. A
/// helper in C would double the cost of the lock.
struct IrqSave;

impl IrqSave {
    /// Returns the inner lock, with which the outer one begins.
    #[inline]
    fn raw(lock: *mut bindings::spinlock_t) -> *mut bindings::raw_spinlock_t {
        const {
            // A `spinlock_t` is another structure there.
            assert!(!cfg!(CONFIG_PREEMPT_RT));
        }
        lock.cast()
    }
}

// SAFETY: The spinlock ensures mutual exclusion. `relock` is the default, which calls `lock`.
unsafe impl Backend for IrqSave {
    type State = bindings::spinlock_t;
    type GuardState = ffi::c_ulong;

    #[inline]
    unsafe fn init(
        ptr: *mut Self::State,
        name: *const ffi::c_char,
        key: *mut bindings::lock_class_key,
    ) {
        // SAFETY: The caller vouches for the pointers.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> ffi::c_ulong {
        // SAFETY: The caller promises that the lock is initialized.
        unsafe { bindings::_raw_spin_lock_irqsave(Self::raw(ptr)) }
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, &flags: &ffi::c_ulong) {
        // SAFETY: The caller owns the lock, and `flags` comes from acquiring it.
        unsafe { bindings::_raw_spin_unlock_irqrestore(Self::raw(ptr), flags) }
    }

    #[inline(always)]
    unsafe fn try_lock(_ptr: *mut Self::State) -> Option<ffi::c_ulong> {
        build_error!("nobody has needed to try a SpinLockIrqSave so far")
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: The caller promises that the lock is initialized.
            unsafe { bindings::spin_assert_is_held(ptr) }
        }
    }
}
