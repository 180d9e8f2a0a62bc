// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a context: decode, check, call.
//!
//! Numbers and layouts are ocxl's, see `include/uapi/misc/ocxl.h` in the kernel, and those of
//! `include/uapi/misc/uxive.h`.

use crate::{
    context::Context,
    kernel_ext::eventfd::EventFd,
    layout::Window,
    platform::QUEUE_ENTRIES, //
};
use kernel::{
    ioctl::{
        _IO,
        _IOC_SIZE,
        _IOR,
        _IOW,
        _IOWR, //
    },
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
    uapi, //
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
#[derive(FromBytes)]
struct IrqFd {
    irq_offset: u64,
    eventfd: i32,
    reserved: u32,
}

impl IrqFd {
    /// Value of `eventfd` that unbinds.
    const UNBIND: i32 = -1;

    fn run(self, context: &Context) -> Result {
        if self.reserved != 0 {
            return Err(EINVAL);
        }
        let eventfd = match self.eventfd {
            Self::UNBIND => None,
            fd => Some(EventFd::from_fd(fd)?),
        };

        context.bind(self.irq_offset, eventfd)
    }
}

/// `UXIVE_IOC_USER_DRAIN`: has the program drain the event queue.
const USER_DRAIN: u32 = _IOWR::<UserDrain>(MAGIC, 0x41);

/// `UXIVE_IOC_ARM`: has the next event signal the eventfd of a user-drained queue.
const ARM: u32 = _IO(MAGIC, 0x42);

/// `struct uxive_user_drain`
///
/// `size`, `flags`, `eventfd` and `reserved`, then what is written back.
#[repr(C)]
struct UserDrain([u32; 4], [u64; 4]);

impl UserDrain {
    /// Carries out the ioctl on the structure at `arg`.
    #[inline(never)]
    fn run(context: &Context, arg: UserPtr) -> Result {
        let size: u32 = UserSlice::new(arg, size_of::<u32>()).reader().read()?;
        let known = size_of::<Self>();
        if (size as usize) < known {
            return Err(EINVAL);
        }
        if size as usize > PAGE_SIZE {
            return Err(E2BIG);
        }

        let (mut reader, mut writer) = UserSlice::new(arg, size as usize).reader_writer();
        reader.skip(size_of::<u32>())?;
        let (flags, eventfd, reserved): (u32, i32, u32) =
            (reader.read()?, reader.read()?, reader.read()?);
        reader.skip(known - (size as usize - reader.len()))?;
        while !reader.is_empty() {
            if reader.read::<u8>()? != 0 {
                return Err(E2BIG);
            }
        }
        if flags != 0 || reserved != 0 {
            return Err(EINVAL);
        }

        // Written before anything is set up, so that a copy that fails has changed nothing.
        writer.write(&[size, flags, eventfd as u32, reserved])?;
        writer.write(&[
            Window::QUEUE.base(),
            QUEUE_ENTRIES as u64,
            Window::ESB.base(),
            2 * Window::ESB.stride(),
        ])?;
        context.set_user_drain(match eventfd {
            IrqFd::UNBIND => None,
            fd => Some(EventFd::from_fd(fd)?),
        })
    }
}

/// Returns whether `cmd` is `known`, but for the size of its structure, which may grow.
fn is_grown(cmd: u32, known: u32) -> bool {
    const SIZE: u32 = uapi::_IOC_SIZEMASK << uapi::_IOC_SIZESHIFT;

    (cmd ^ known) & !SIZE == 0
}

// Each ioctl stays a function of its own: inlined into one, all would save the registers and have
// the stack that the largest needs.

#[inline(never)]
fn irq_alloc(context: &Context, arg: UserSlice) -> Result {
    context.allocate(None, |offset| arg.writer().write(&offset))
}

#[inline(never)]
fn irq_free(context: &Context, arg: UserSlice) -> Result {
    context.free(arg.reader().read()?)
}

#[inline(never)]
fn irq_set_fd(context: &Context, arg: UserSlice) -> Result {
    let words: [u64; 2] = arg.reader().read()?;
    let irq_fd: IrqFd = zerocopy::transmute!(words);
    irq_fd.run(context)
}

/// Carries out the ioctl `cmd` with the argument `arg`.
///
/// # Errors
///
/// `ENOTTY` if there is no such ioctl, `EFAULT` if `arg` does not point to accessible memory, and
/// those of [`Context::allocate`], [`Context::free`], [`Context::bind`] and [`EventFd::from_fd`].
/// `IRQ_SET_FD` returns `EINVAL` if the reserved field is not zero.
#[inline]
pub(crate) fn dispatch(context: &Context, cmd: u32, arg: usize) -> Result<isize> {
    let user = UserSlice::new(UserPtr::from_addr(arg), _IOC_SIZE(cmd));

    match cmd {
        IRQ_ALLOC => irq_alloc(context, user)?,
        IRQ_FREE => irq_free(context, user)?,
        IRQ_SET_FD => irq_set_fd(context, user)?,
        cmd if is_grown(cmd, USER_DRAIN) => UserDrain::run(context, UserPtr::from_addr(arg))?,
        ARM => context.arm()?,
        _ => return Err(ENOTTY),
    }
    Ok(0)
}
