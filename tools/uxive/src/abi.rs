// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The driver's ioctls: the structures of `misc/ocxl.h` and `misc/uxive.h`, and how they are passed.

use core::marker::PhantomData;
use rustix::ioctl::{
    ioctl,
    CompileTimeOpcode,
    Direction,
    NoArg,
    Opcode,
    Updater, //
};
use std::{
    io,
    os::fd::AsFd, //
};

/// The argument of an ioctl.
///
/// # Safety
///
/// With the ioctl of this number the kernel reads and writes no more than a `Self` at the argument,
/// and leaves a valid `Self` there.
pub(crate) unsafe trait Argument {
    const DIRECTION: Direction;
    const NUMBER: u8;
}

const MAGIC: u8 = 0xca;

struct Number<T>(PhantomData<T>);

impl<T: Argument> CompileTimeOpcode for Number<T> {
    const OPCODE: Opcode = Opcode::from_components(T::DIRECTION, MAGIC, T::NUMBER, size_of::<T>());
}

/// Calls the ioctl that has arguments of this type.
pub(crate) fn call<T: Argument>(file: impl AsFd, argument: &mut T) -> io::Result<()> {
    // SAFETY: An implementation of `Argument` promises what the kernel does with it.
    Ok(unsafe { ioctl(file, Updater::<Number<T>, T>::new(argument)) }?)
}

/// `UXIVE_IOC_ARM`.
pub(crate) fn arm(file: impl AsFd) -> io::Result<()> {
    struct Arm;

    impl CompileTimeOpcode for Arm {
        const OPCODE: Opcode = Opcode::none::<()>(MAGIC, 0x42);
    }
    // SAFETY: The kernel looks at no argument of this ioctl.
    Ok(unsafe { ioctl(file, NoArg::<Arm>::new()) }?)
}

macro_rules! arguments {
    ($($(#[$meta:meta])* $number:literal $direction:ident $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Default, Debug)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        // SAFETY: That is the structure which the kernel's headers have for the number. It consists of
        // integers, of which all values are valid, and memory at an address in it is only read.
        unsafe impl Argument for $name {
            const DIRECTION: Direction = Direction::$direction;
            const NUMBER: u8 = $number;
        }
    )*};
}

arguments! {
    /// `OCXL_IOCTL_IRQ_ALLOC`.
    0x11 Read IrqAlloc { offset: u64 }
    /// `OCXL_IOCTL_IRQ_FREE`.
    0x12 Write IrqFree { offset: u64 }
    /// `OCXL_IOCTL_IRQ_SET_FD`.
    0x13 Write IrqSetFd { offset: u64, eventfd: i32, reserved: u32 }
    /// `UXIVE_IOC_USER_DRAIN`.
    0x41 ReadWrite UserDrain {
        size: u32,
        flags: u32,
        eventfd: i32,
        reserved: u32,
        queue_offset: u64,
        queue_entries: u64,
        esb_offset: u64,
        esb_stride: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_the_documented_sizes() {
        assert_eq!(size_of::<IrqAlloc>(), 8);
        assert_eq!(size_of::<IrqFree>(), 8);
        assert_eq!(size_of::<IrqSetFd>(), 16);
        assert_eq!(size_of::<UserDrain>(), 48);
    }
}
