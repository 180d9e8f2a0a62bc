// SPDX-License-Identifier: GPL-2.0

//! Stands in for the kernel crate on the host, as far as the driver's pure rooms need it.
//!
//! The crate is named `kernel`, so that the rooms compile unchanged. Memory does not run out here.
//! A mutex is the standard library's, zerocopy the kernel's own.

/// The page size of the testbed's kernels.
pub mod page {
    pub const PAGE_SIZE: usize = 1 << 16;
}

/// The C types, as of 64-bit Linux everywhere.
pub mod ffi {
    pub use core::ffi::{
        c_int,
        c_uchar,
        c_uint,
        c_ulonglong,
        c_ushort, //
    };
}

pub mod error {
    /// An errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(pub i32);

    impl From<core::num::TryFromIntError> for Error {
        fn from(_: core::num::TryFromIntError) -> Self {
            Self(-22)
        }
    }

    impl std::fmt::Display for Error {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "error {}", self.0)
        }
    }

    impl std::error::Error for Error {}

    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    macro_rules! errors {
        ($($name:ident: $number:literal;)*) => {
            /// `include/uapi/asm-generic/errno{-base,}.h`
            pub mod code {
                $(pub const $name: super::Error = super::Error(-$number);)*
            }
        };
    }

    errors! {
        EIO: 5;
        ENXIO: 6;
        E2BIG: 7;
        EBADF: 9;
        ENOMEM: 12;
        EFAULT: 14;
        EBUSY: 16;
        ENODEV: 19;
        EINVAL: 22;
        ENFILE: 23;
        ENOTTY: 25;
        ENOSPC: 28;
        ERANGE: 34;
        EDQUOT: 122;
    }
}

pub mod alloc {
    use super::error::Result;
    use std::ops::{
        Deref,
        DerefMut, //
    };

    /// How memory is allocated.
    pub struct Flags;

    impl std::ops::BitOr for Flags {
        type Output = Self;

        fn bitor(self, _: Self) -> Self {
            self
        }
    }

    /// A vector of which each growth may fail.
    pub struct KVVec<T>(Vec<T>);

    impl<T> Default for KVVec<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T> KVVec<T> {
        pub const fn new() -> Self {
            Self(Vec::new())
        }

        pub fn with_capacity(capacity: usize, _: Flags) -> Result<Self> {
            Ok(Self(Vec::with_capacity(capacity)))
        }

        pub fn reserve(&mut self, additional: usize, _: Flags) -> Result {
            self.0.reserve(additional);
            Ok(())
        }

        pub fn push(&mut self, value: T, _: Flags) -> Result {
            self.0.push(value);
            Ok(())
        }

        /// Does not grow, as in the kernel.
        pub fn push_within_capacity(&mut self, value: T) -> Result {
            if self.0.len() == self.0.capacity() {
                return Err(super::error::code::ENOMEM);
            }
            self.0.push(value);
            Ok(())
        }

        pub fn drain_all(&mut self) -> std::vec::Drain<'_, T> {
            self.0.drain(..)
        }
    }

    impl<T> Deref for KVVec<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> DerefMut for KVVec<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0
        }
    }
}

pub mod fmt {
    pub use std::fmt::{
        Arguments,
        Debug,
        Display,
        Formatter,
        Result, //
    };
}

#[macro_export]
macro_rules! fmt {
    ($($arguments:tt)*) => {
        ::core::format_args!($($arguments)*)
    };
}

#[macro_export]
macro_rules! pr_info {
    ($($arguments:tt)*) => {
        print!($($arguments)*)
    };
}

pub mod init {
    /// An initializer of a value in its place.
    pub trait PinInit<T, E>: FnOnce() -> Result<T, E> {}

    impl<T, E, F: FnOnce() -> Result<T, E>> PinInit<T, E> for F {}
}

pub mod str {
    use super::{
        error::Result,
        fmt, //
    };

    /// Bytes that are shown as text.
    pub struct BStr<'a>(&'a [u8]);

    impl<'a> BStr<'a> {
        pub fn from_bytes(bytes: &'a [u8]) -> Self {
            Self(bytes)
        }
    }

    impl fmt::Display for BStr<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0.escape_ascii(), f)
        }
    }

    pub struct CString(String);

    impl CString {
        pub fn try_from_fmt(text: fmt::Arguments<'_>) -> Result<Self> {
            Ok(Self(text.to_string()))
        }

        pub fn to_bytes(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
}

pub mod sync {
    pub mod atomic {
        pub use std::sync::atomic::Ordering::Relaxed;
        use std::sync::atomic::{
            AtomicUsize,
            Ordering, //
        };

        /// Of a `usize`, the only one that is needed here.
        pub struct Atomic<T>(AtomicUsize, std::marker::PhantomData<T>);

        impl Atomic<usize> {
            pub const fn new(value: usize) -> Self {
                Self(AtomicUsize::new(value), std::marker::PhantomData)
            }

            pub fn load(&self, order: Ordering) -> usize {
                self.0.load(order)
            }

            pub fn store(&self, value: usize, order: Ordering) {
                self.0.store(value, order);
            }

            pub fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
                self.0.fetch_sub(value, order)
            }

            pub fn cmpxchg(&self, old: usize, new: usize, order: Ordering) -> Result<usize, usize> {
                self.0.compare_exchange(old, new, order, order)
            }
        }
    }

    use super::{
        alloc::Flags,
        init::PinInit, //
    };

    pub struct Mutex<T>(pub std::sync::Mutex<T>);

    pub use std::sync::MutexGuard;

    impl<T> Mutex<T> {
        pub fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }

    pub struct Arc<T>(std::sync::Arc<T>);

    impl<T> Arc<T> {
        pub fn pin_init<E>(init: impl PinInit<T, E>, _: Flags) -> Result<Self, E> {
            Ok(Self(std::sync::Arc::new(init()?)))
        }
    }

    impl<T> std::ops::Deref for Arc<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}

#[macro_export]
macro_rules! new_mutex {
    ($value:expr, $name:literal) => {
        $crate::sync::Mutex(std::sync::Mutex::new($value))
    };
}

#[macro_export]
macro_rules! try_pin_init {
    (Self { $($field:ident <- $value:expr),* $(,)? }? $error:ty) => {
        move || -> ::core::result::Result<Self, $error> { Ok(Self { $($field: $value),* }) }
    };
}

pub mod prelude {
    pub use super::{
        alloc::{
            Flags,
            KVVec, //
        },
        error::{
            code::*,
            Error,
            Result, //
        },
        fmt,
        init::PinInit,
        pr_info,
        try_pin_init, //
    };
    pub use macros::{
        kunit_tests,
        pin_data, //
    };
    pub use zerocopy::{
        FromBytes,
        IntoBytes, //
    };
    pub use zerocopy_derive::{
        FromBytes,
        IntoBytes, //
    };

    pub const GFP_KERNEL: Flags = Flags;
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags;
    pub const __GFP_NOWARN: Flags = Flags;
}
