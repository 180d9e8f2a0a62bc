// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a context: decode, check, call.
//!
//! Numbers and layouts are ocxl's, see `include/uapi/misc/ocxl.h` in the kernel.

use crate::{
    context::Context,
    kernel_ext::eventfd::EventFd, //
};
use kernel::{
    ioctl::{
        _IOC_SIZE,
        _IOR,
        _IOW, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceReader, //
    }, //
};

/// `OCXL_MAGIC`
const MAGIC: u32 = 0xca;

/// `OCXL_IOCTL_IRQ_ALLOC`: allocates an interrupt, returns the offset of its trigger page.
const IRQ_ALLOC: u32 = _IOR::<u64>(MAGIC, 0x11);

/// `OCXL_IOCTL_IRQ_FREE`: frees the interrupt at an offset.
const IRQ_FREE: u32 = _IOW::<u64>(MAGIC, 0x12);

/// `OCXL_IOCTL_IRQ_SET_FD`: binds the interrupt at an offset to an eventfd.
const IRQ_SET_FD: u32 = _IOW::<IrqFd>(MAGIC, 0x13);

/// `struct ocxl_ioctl_irq_fd`
#[repr(C)]
struct IrqFd {
    irq_offset: u64,
    eventfd: i32,
    reserved: u32,
}

impl IrqFd {
    /// Value of `eventfd` that unbinds.
    const UNBIND: i32 = -1;

    fn read(reader: &mut UserSliceReader) -> Result<Self> {
        Ok(Self {
            irq_offset: reader.read()?,
            eventfd: reader.read()?,
            reserved: reader.read()?,
        })
    }
}

/// Carries out the ioctl `cmd` with the argument `arg`.
///
/// # Errors
///
/// `ENOTTY` if there is no such ioctl, `EFAULT` if `arg` does not point to accessible memory, and
/// those of [`Context::allocate`], [`Context::free`], [`Context::bind`] and [`EventFd::from_fd`].
/// `IRQ_SET_FD` returns `EINVAL` if the reserved field is not zero.
pub(crate) fn dispatch(context: &Context, cmd: u32, arg: usize) -> Result<isize> {
    let user = UserSlice::new(UserPtr::from_addr(arg), _IOC_SIZE(cmd));

    match cmd {
        IRQ_ALLOC => {
            let slot = context.allocate()?;

            // Told to the program before the interrupt can be found: if that fails, it is freed
            // again, and no other thread can have got hold of it.
            user.writer().write(&slot.offset())?;
            slot.publish();
        }
        IRQ_FREE => context.free(user.reader().read()?)?,
        IRQ_SET_FD => {
            let irq_fd = IrqFd::read(&mut user.reader())?;
            if irq_fd.reserved != 0 {
                return Err(EINVAL);
            }

            let eventfd = match irq_fd.eventfd {
                IrqFd::UNBIND => None,
                fd => Some(EventFd::from_fd(fd)?),
            };
            context.bind(irq_fd.irq_offset, eventfd)?;
        }
        _ => return Err(ENOTTY),
    }
    Ok(0)
}
