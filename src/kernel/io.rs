// SPDX-License-Identifier: GPL-2.0

//! Registers relative to a base that is known at run time only.
//!
//! Would go to `rust/kernel/io/register.rs`, where the base of a register is a constant of a type. A
//! [`RuntimeBase`] is a value: an offset that a device tells, or that depends on an index. Accesses
//! are checked at run time, by `Io::try_read` and its kin.

use core::marker::PhantomData;
use kernel::io::{
    register::{
        RelativeRegister,
        WithBase, //
    },
    IoLoc,
    Region, //
};

/// Where the registers that are relative to `B` begin in a region, in bytes.
pub(crate) struct RuntimeBase<B> {
    offset: usize,
    _base: PhantomData<B>,
}

impl<B> RuntimeBase<B> {
    pub(crate) fn new(offset: usize) -> Self {
        Self {
            offset,
            _base: PhantomData,
        }
    }

    /// Returns the location of the register `T`.
    pub(crate) fn at<T>(&self) -> RuntimeRegisterLoc<T>
    where
        T: RelativeRegister + WithBase<BaseFamily = B>,
    {
        RuntimeRegisterLoc {
            base: self.offset,
            _register: PhantomData,
        }
    }
}

/// The location of a register that is relative to a [`RuntimeBase`].
pub(crate) struct RuntimeRegisterLoc<T> {
    base: usize,
    _register: PhantomData<T>,
}

impl<const SIZE: usize, T: RelativeRegister> IoLoc<Region<SIZE>, T> for RuntimeRegisterLoc<T> {
    type IoType = T::Storage;

    fn offset(self) -> usize {
        // No region reaches as far as where this would overflow.
        self.base.saturating_add(T::OFFSET)
    }
}
