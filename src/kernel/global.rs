// SPDX-License-Identifier: GPL-2.0

//! Values of the module for callbacks that are given none.
//!
//! The driver core calls a driver with the device only. The module sets the value before it
//! registers the driver, and takes it out after it has unregistered it, since a static is never
//! dropped.
//!
//! Would go to `rust/kernel/sync/lock/global.rs`. It is made of a lock by `kernel::sync::global_lock!`,
//! which unsafe code has to initialize. A `kernel::sync::SetOnce` does not fit: it is never emptied.

/// Declares a static, in a module `$name` of its own, which has a value as long as a guard lives.
///
/// `guard()` returns the guard, once: `EBUSY` after that. Its `set(value)` sets the value. `get()` returns
/// a clone of it, if there is one.
macro_rules! module_global {
    ($(#[$attribute:meta])* $visibility:vis $name:ident: $type:ty) => {
        $(#[$attribute])*
        $visibility mod $name {
            use super::*;
            use kernel::sync::atomic::{
                Acquire,
                Atomic,
                Full,
                Release, //
            };

            kernel::sync::global_lock! {
                // SAFETY: `guard` initializes it before it sets `READY`, without which nobody uses it,
                // and before it returns the guard.
                unsafe(uninit) static VALUE: Mutex<Option<$type>> = None;
            }

            static TAKEN: Atomic<bool> = Atomic::new(false);
            static READY: Atomic<bool> = Atomic::new(false);

            /// As long as it lives there can be a value.
            pub(crate) struct Guard(());

            /// Makes the guard, once in the life of the module. There is no value yet.
            ///
            /// # Errors
            ///
            /// `EBUSY` if it was made before.
            pub(crate) fn guard() -> Result<Guard> {
                if TAKEN.xchg(true, Full) {
                    return Err(EBUSY);
                }
                // SAFETY: Nobody has come here before.
                unsafe { VALUE.init() };
                READY.store(true, Release);
                Ok(Guard(()))
            }

            impl Guard {
                /// Sets the value.
                pub(crate) fn set(&self, value: $type) {
                    let before = VALUE.lock().replace(value);

                    // Not under the lock.
                    drop(before);
                }
            }

            /// Returns the value.
            pub(crate) fn get() -> Option<$type> {
                if !READY.load(Acquire) {
                    return None;
                }
                VALUE.lock().clone()
            }

            impl Drop for Guard {
                fn drop(&mut self) {
                    let value = VALUE.lock().take();

                    // Not under the lock.
                    drop(value);
                }
            }
        }
    };
}

pub(crate) use module_global;
