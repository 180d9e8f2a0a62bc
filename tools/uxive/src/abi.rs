// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The driver's ioctls: the structures of `misc/ocxl.h` and `misc/uxive.h`, and how they are passed.

use core::ptr::from_mut;
use std::{
    io,
    os::fd::{
        AsFd,
        AsRawFd, //
    }, //
};

/// The argument of an ioctl.
///
/// # Safety
///
/// With the ioctl of this number the kernel reads and writes no more than a `Self` at the argument,
/// and leaves a valid `Self` there.
pub(crate) unsafe trait Argument: Sized {
    const DIRECTION: Direction;
    const NUMBER: u8;
    /// The size that the number tells.
    const ENCODED_SIZE: usize = match Self::DIRECTION {
        Direction::None => 0,
        _ => size_of::<Self>(),
    };
}

/// The direction of an argument, as powerpc's `_IOC()` has it. Uxive's own numbers have none.
pub(crate) enum Direction {
    None = 1,
    Read = 2,
    Write = 4,
}

/// Computes powerpc's `_IOC()`. No other machine has the driver.
const fn request(direction: Direction, number: u8, size: usize) -> u32 {
    const MAGIC: u32 = 0xca;

    (direction as u32) << 29 | (size as u32) << 16 | MAGIC << 8 | number as u32
}

/// Calls the ioctl that has arguments of this type.
pub(crate) fn call<T: Argument>(file: impl AsFd, argument: &mut T) -> io::Result<()> {
    let request = const { request(T::DIRECTION, T::NUMBER, T::ENCODED_SIZE) };

    // The C libraries differ in the type of a request.
    // SAFETY: An implementation of `Argument` promises what the kernel does with it.
    match unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request as _, from_mut(argument)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
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
    /// `OCXL_IOCTL_ATTACH`.
    0x10 Write Attach { amr: u64, reserved: [u64; 3] }
    /// `OCXL_IOCTL_IRQ_ALLOC`.
    0x11 Read IrqAlloc { offset: u64 }
    /// `OCXL_IOCTL_IRQ_FREE`.
    0x12 Write IrqFree { offset: u64 }
    /// `OCXL_IOCTL_IRQ_SET_FD`.
    0x13 Write IrqSetFd { offset: u64, eventfd: i32, reserved: u32 }
    /// `OCXL_IOCTL_GET_METADATA`.
    0x14 Read Metadata {
        version: u16,
        afu_version_major: u8,
        afu_version_minor: u8,
        pasid: u32,
        pp_mmio_size: u64,
        global_mmio_size: u64,
        reserved: [u64; 13],
    }
    /// `UXIVE_IOC_INFO`.
    0x40 None Info {
        size: u32,
        flags: u32,
        features: u64,
        drain_formats: u32,
        page_size: u32,
        esb_page_size: u32,
        max_irqs: u32,
        irqs: u32,
        max_irqs_user: u32,
        irqs_user: u32,
        max_irqs_total: u32,
        irqs_total: u32,
        max_queues_user: u32,
        queues_user: u32,
        max_queues_total: u32,
        queues_total: u32,
        max_exports_user: u32,
        exports_user: u32,
        max_exports_total: u32,
        exports_total: u32,
        reserved: u32,
        trigger: Window,
        esb: Window,
        queue: Window,
    }
    /// `UXIVE_IOC_IRQ_ALLOC`.
    0x41 None IrqAllocFrom { size: u32, flags: u32, chip: u32, reserved: u32, offset: u64 }
    /// `UXIVE_IOC_IRQ_ALLOC_MANY`.
    0x42 None IrqAllocMany {
        size: u32,
        flags: u32,
        chip: u32,
        count: u32,
        start: u32,
        reserved: u32,
        eventfds: u64,
    }
    /// `UXIVE_IOC_IMS_ALLOC`.
    0x43 None ImsAlloc {
        size: u32,
        flags: u32,
        eventfd: i32,
        queue: u32,
        offset: u64,
        slot: u32,
        reserved: u32,
    }
    /// `UXIVE_IOC_IRQ_FREE_MANY`.
    0x44 None IrqFreeMany { size: u32, flags: u32, start: u32, count: u32 }
    /// `UXIVE_IOC_SET_IRQS`.
    0x46 None SetIrqs { size: u32, flags: u32, start: u32, count: u32, data: u64 }
    /// `UXIVE_IOC_USER_DRAIN`.
    0x48 None UserDrain {
        size: u32,
        flags: u32,
        eventfd: i32,
        format: u32,
        queue_offset: u64,
        queue_entries: u64,
        esb_offset: u64,
        esb_stride: u64,
    }
    /// `UXIVE_IOC_ARM`.
    0x49 None Arm { size: u32, flags: u32 }
    /// `UXIVE_IOC_RANGE`.
    0x4a None Range { size: u32, flags: u32, count: u32, fd: i32 }
    /// `UXIVE_IOC_EXPORT`.
    0x4b None Export {
        size: u32,
        flags: u32,
        kind: u32,
        start: u32,
        count: u32,
        id: u32,
        fd: i32,
        max_rate: u32,
    }
    /// `UXIVE_IOC_REVOKE`.
    0x4c None Revoke { size: u32, flags: u32, id: u32, reserved: u32 }
    /// `UXIVE_IOC_EXPORT_INFO`.
    0x4d None ExportInfo {
        size: u32,
        flags: u32,
        kind: u32,
        mode: u32,
        count: u32,
        page_size: u32,
        stride: u64,
    }
}

/// `struct uxive_window`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Window {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) stride: u64,
}

/// Returns the size of an argument, for its first field.
pub(crate) const fn size<T: Argument>() -> u32 {
    size_of::<T>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_the_documented_sizes() {
        assert_eq!(size_of::<Attach>(), 32);
        assert_eq!(size_of::<Metadata>(), 128);
        assert_eq!(size_of::<ImsAlloc>(), 32);
        assert_eq!(size_of::<IrqAlloc>(), 8);
        assert_eq!(size_of::<IrqFree>(), 8);
        assert_eq!(size_of::<IrqSetFd>(), 16);
        assert_eq!(size_of::<Info>(), 160);
        assert_eq!(size_of::<Arm>(), 8);
        assert_eq!(size_of::<UserDrain>(), 48);
        assert_eq!(size_of::<IrqAllocFrom>(), 24);
        assert_eq!(size_of::<IrqAllocMany>(), 32);
        assert_eq!(size_of::<IrqFreeMany>(), 16);
        assert_eq!(size_of::<SetIrqs>(), 24);
        assert_eq!(size_of::<Range>(), 16);
        assert_eq!(size_of::<Export>(), 32);
        assert_eq!(size_of::<ExportInfo>(), 32);
        assert_eq!(size_of::<Revoke>(), 16);
    }

    /// Compares them with the numbers of a C compiler for powerpc.
    #[test]
    fn requests_are_those_of_the_headers() {
        fn number<T: Argument>() -> u32 {
            request(T::DIRECTION, T::NUMBER, T::ENCODED_SIZE)
        }

        assert_eq!(number::<Attach>(), 0x8020_ca10);
        assert_eq!(number::<Metadata>(), 0x4080_ca14);
        assert_eq!(number::<IrqAlloc>(), 0x4008_ca11);
        assert_eq!(number::<IrqSetFd>(), 0x8010_ca13);
        assert_eq!(number::<Info>(), 0x2000_ca40);
        assert_eq!(number::<Arm>(), 0x2000_ca49);
    }
}
