// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a context: decode, check, call.

use crate::{
    alloc,
    argument::{
        self,
        Argument, //
    },
    command::{
        ChipChoice,
        Chosen,
        Command,
        SetAction,
        MAX_SIZE, //
    },
    file::ContextFile,
    kernel_ext::{
        eventfd::EventFd,
        file::AccessMode, //
    },
    layout::Window,
    limits::LimitKind,
    uapi::{
        self,
        *, //
    },
    xive::Location, //
};
use core::{
    mem::offset_of,
    ops::Range, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Distance of the pairs of pages of consecutive interrupts in the window of ESBs.
const ESB_STRIDE: u64 = 2 * Window::ESB.stride();

/// Returns the eventfds that are the `count` descriptors at `address`, of which one is -1 where there is
/// none.
///
/// # Errors
///
/// `EFAULT` if they do not lie in accessible memory, `ENOMEM`, those of [`EventFd::from_fd`].
fn optional_eventfds(address: u64, count: usize) -> Result<KVVec<Option<EventFd>>> {
    let user = UserPtr::from_addr(usize::try_from(address).map_err(|_| EFAULT)?);
    let length = count.checked_mul(size_of::<i32>()).ok_or(EFAULT)?;
    let mut reader = UserSlice::new(user, length).reader();
    let mut eventfds = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    let mut some = [0_i32; 64];

    while !reader.is_empty() {
        let length = reader.len().min(size_of_val(&some));
        let bytes = some.as_mut_bytes().get_mut(..length).ok_or(EFAULT)?;

        reader.read_slice(bytes)?;
        for &fd in some.iter().take(length / size_of::<i32>()) {
            eventfds.push_within_capacity(optional_eventfd(fd)?)?;
        }
    }
    Ok(eventfds)
}

/// Returns the eventfd that is the descriptor `fd`, or none for -1.
///
/// # Errors
///
/// Those of [`EventFd::from_fd`].
fn optional_eventfd(fd: i32) -> Result<Option<EventFd>> {
    match fd {
        -1 => Ok(None),
        fd => EventFd::from_fd(fd).map(Some),
    }
}

/// Returns how a program is told of a window of a file.
fn described(window: Window, stride: u64) -> uxive_window {
    uxive_window {
        offset: window.base(),
        length: window.len(),
        stride,
    }
}

/// Returns where interrupts are to come from.
///
/// # Errors
///
/// `ENODEV` if there is no such chip or node.
fn location(file: &ContextFile, chips: ChipChoice) -> Result<Location> {
    match chips {
        ChipChoice::Any => Ok(Location::Anywhere),
        ChipChoice::Chip(chip) => file.device().platform.chip(chip),
        ChipChoice::Node(node) => file.device().platform.node(node),
    }
}

/// Returns the bytes that choose among `count` interrupts; none if all are chosen.
///
/// # Errors
///
/// `EFAULT` if they do not lie in accessible memory, `ENOMEM`.
fn chosen_bytes(chosen: Chosen, count: usize) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::new();

    if let Chosen::Bytes(address) = chosen {
        bytes.resize(count, 0, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        let user = UserPtr::from_addr(usize::try_from(address).map_err(|_| EFAULT)?);
        UserSlice::new(user, count)
            .reader()
            .read_slice(&mut bytes)?;
    }
    Ok(bytes)
}

#[inline(never)]
fn info(file: &ContextFile, argument: &Argument<'_>) -> Result {
    let (context, layout) = (file.context(), file.layout());
    let [irqs, queues, exports] = [LimitKind::Irq, LimitKind::Queue, LimitKind::Export]
        .map(|kind| context.user().limits().counter(kind));
    let of_user = |kind| context.user().in_use(kind) as u32;

    let mut features = 0;

    if file.has_afu() {
        features |= UXIVE_FEATURE_AFU;
    }
    if context.user().limits().has_bypass() {
        features |= UXIVE_FEATURE_BYPASS;
    }
    argument.write(uxive_info {
        size: argument.size(),
        flags: 0,
        features: u64::from(features),
        drain_formats: UXIVE_DRAIN_XIVE,
        page_size: PAGE_SIZE as u32,
        esb_page_size: Window::ESB.stride() as u32,
        max_irqs: context.max_irqs() as u32,
        irqs: context.slots().counts().0 as u32,
        max_irqs_user: irqs.user() as u32,
        irqs_user: of_user(LimitKind::Irq),
        max_irqs_total: irqs.total() as u32,
        irqs_total: irqs.in_use() as u32,
        max_queues_user: queues.user() as u32,
        queues_user: of_user(LimitKind::Queue),
        max_queues_total: queues.total() as u32,
        queues_total: queues.in_use() as u32,
        max_exports_user: exports.user() as u32,
        exports_user: of_user(LimitKind::Export),
        max_exports_total: exports.total() as u32,
        exports_total: exports.in_use() as u32,
        reserved: 0,
        trigger: described(layout.trigger(), Window::TRIGGER.stride()),
        esb: described(layout.esb(), ESB_STRIDE),
        queue: described(layout.queue(), size_of::<u32>() as u64),
    })
}

#[inline(never)]
fn user_drain(file: &ContextFile, argument: &Argument<'_>, eventfd: i32) -> Result {
    // Written before anything is set up, so that a copy that fails has changed nothing.
    argument.write(uxive_user_drain {
        size: argument.size(),
        flags: 0,
        eventfd,
        format: UXIVE_DRAIN_XIVE,
        queue_offset: Window::QUEUE.base(),
        queue_entries: file.layout().queue_size().entries() as u64,
        esb_offset: Window::ESB.base(),
        esb_stride: ESB_STRIDE,
    })?;
    file.set_user_drain(optional_eventfd(eventfd)?)
}

/// Returns the offset of the trigger page of slot `index`, in bytes.
fn offset(index: usize) -> u64 {
    Window::TRIGGER.offset(index).unwrap_or(0)
}

#[inline(never)]
fn irq_alloc_from(file: &ContextFile, argument: &Argument<'_>, chips: ChipChoice) -> Result {
    alloc::allocate(file, location(file, chips)?, |index| {
        argument.write_field(offset_of!(uxive_irq_alloc, offset), &offset(index))
    })
}

#[inline(never)]
fn irq_alloc_many(
    file: &ContextFile,
    argument: &Argument<'_>,
    chips: ChipChoice,
    start: Option<usize>,
    count: usize,
    eventfds: Option<u64>,
) -> Result {
    let location = location(file, chips)?;
    if start.is_some_and(|start| start + count > file.layout().slots()) {
        return Err(EINVAL);
    }
    // Before there is memory for as many.
    if count > file.context().max_irqs() {
        return Err(ENOSPC);
    }
    let eventfds = match eventfds {
        None => KVVec::new(),
        Some(address) => optional_eventfds(address, count)?,
    };

    alloc::allocate_many(file, location, start, count, eventfds, |start| {
        argument.write_field(offset_of!(uxive_irq_alloc_many, start), &(start as u32))
    })
}

#[inline(never)]
fn set_irqs(file: &ContextFile, slots: Range<usize>, action: SetAction) -> Result {
    let chosen = match action {
        SetAction::Bind(address) => {
            let mut eventfds = optional_eventfds(address, slots.len())?;
            return file.bind_many(slots, &mut eventfds);
        }
        SetAction::Bypass(address) => {
            let user = UserPtr::from_addr(usize::try_from(address).map_err(|_| EFAULT)?);
            let fd = UserSlice::new(user, size_of::<i32>()).reader().read()?;

            return file.bind_bypass(slots.start, EventFd::two_from_fd(fd)?);
        }
        SetAction::Trigger(chosen) | SetAction::Mask(chosen) | SetAction::Unmask(chosen) => chosen,
    };
    let bytes = chosen_bytes(chosen, slots.len())?;
    let chosen = |place: usize| bytes.get(place).is_none_or(|&byte| byte != 0);

    match action {
        SetAction::Mask(_) => file.mask_many(slots, &chosen, true),
        SetAction::Unmask(_) => file.mask_many(slots, &chosen, false),
        _ => file.trigger_many(slots, &chosen),
    }
}

#[inline(never)]
fn ims_alloc(file: &ContextFile, argument: &Argument<'_>, queue: u32, eventfd: i32) -> Result {
    alloc::allocate_message(file, queue, optional_eventfd(eventfd)?, |index| {
        argument.write_field(offset_of!(uxive_ims_alloc, offset), &offset(index))?;
        argument.write_field(offset_of!(uxive_ims_alloc, slot), &(index as u32))
    })
}

#[inline(never)]
fn export(
    file: &ContextFile,
    argument: &Argument<'_>,
    slots: Range<usize>,
    max_rate: u32,
    access: AccessMode,
) -> Result {
    let (exported, id) = file.export(slots, max_rate, access)?;

    argument.write_field(offset_of!(uxive_export, id), &id)?;
    argument.write_field(offset_of!(uxive_export, fd), &(exported.fd() as i32))?;
    exported.install();
    Ok(())
}

/// Carries out a command of a file with the mode `access`.
fn carry_out(
    command: Command,
    file: &ContextFile,
    access: AccessMode,
    argument: &Argument<'_>,
) -> Result {
    match command {
        Command::Info => info(file, argument),
        Command::UserDrain { eventfd } => user_drain(file, argument, eventfd),
        Command::Arm => file.arm(),
        Command::IrqAlloc { chips } => irq_alloc_from(file, argument, chips),
        Command::IrqAllocMany {
            chips,
            start,
            count,
            eventfds,
        } => irq_alloc_many(file, argument, chips, start, count, eventfds),
        Command::IrqFreeMany { slots } => alloc::free_many(file, slots),
        Command::IrqFreeAll => {
            alloc::free_all(file);
            Ok(())
        }
        Command::SetIrqs { slots, action } => set_irqs(file, slots, action),
        Command::ImsAlloc { queue, eventfd } => ims_alloc(file, argument, queue, eventfd),
        Command::Export { slots, max_rate } => export(file, argument, slots, max_rate, access),
        Command::Revoke { id } => file.revoke(id),
    }
}

// Each ioctl stays a function of its own: inlined into one, all would save the registers and have
// the stack that the largest needs.

#[inline(never)]
fn irq_alloc(file: &ContextFile, user: UserPtr) -> Result {
    alloc::allocate(file, Location::Anywhere, |index| {
        UserSlice::new(user, size_of::<u64>())
            .writer()
            .write(&offset(index))
    })
}

#[inline(never)]
fn irq_free(file: &ContextFile, user: UserPtr) -> Result {
    alloc::free(
        file,
        UserSlice::new(user, size_of::<u64>()).reader().read()?,
    )
}

#[inline(never)]
fn irq_set_fd(file: &ContextFile, user: UserPtr) -> Result {
    let bytes: [u64; 2] = UserSlice::new(user, size_of::<[u64; 2]>())
        .reader()
        .read()?;
    let ocxl_ioctl_irq_fd {
        irq_offset,
        eventfd,
        reserved,
    } = zerocopy::transmute!(bytes);

    if reserved != 0 {
        return Err(EINVAL);
    }
    file.bind(irq_offset, optional_eventfd(eventfd)?)
}

#[inline(never)]
fn attach(file: &ContextFile, user: UserPtr) -> Result {
    // `amr`, which storage keys the AFU may use, is of no effect: it does not reach the program's memory.
    let ocxl_ioctl_attach {
        amr: _,
        reserved1,
        reserved2,
        reserved3,
    } = argument::read(user)?;

    if (reserved1, reserved2, reserved3) != (0, 0, 0) {
        return Err(EINVAL);
    }
    file.attach()
}

#[inline(never)]
fn get_metadata(file: &ContextFile, user: UserPtr) -> Result {
    let metadata = file.metadata()?;

    let metadata = ocxl_ioctl_metadata {
        version: 0,
        afu_version_major: metadata.version_major,
        afu_version_minor: metadata.version_minor,
        pasid: metadata.pasid,
        pp_mmio_size: metadata.mmio_size,
        global_mmio_size: metadata.global_size,
        reserved: [0; 13],
    };
    argument::write(user, metadata)
}

#[inline(never)]
fn get_features(user: UserPtr) -> Result {
    // One is defined, P9_WAIT, by which an AFU wakes a thread. No AFU here does.
    argument::write(user, ocxl_ioctl_features { flags: [0; 4] })
}

/// Carries out `UXIVE_IOC_RANGE`. The file that it makes has the operations of a room above.
pub(crate) type RangeIoctl = fn(&ContextFile, AccessMode, UserPtr) -> Result;

/// Carries out the ioctl `cmd` with the argument `arg`, of a file with the mode `access`, or has `range`
/// do so.
///
/// # Errors
///
/// - `ENOTTY` if there is no such ioctl.
/// - `EFAULT` if `arg` does not point to accessible memory.
/// - `EINVAL` if a reserved field is not zero.
/// - `EBADF` if the file is not open for writing, which all but `UXIVE_IOC_INFO` of uxive's own need.
/// - Those of [`Argument::read`], [`Command::decoder`] and [`EventFd::from_fd`], and of what the ioctl
///   does: [`ContextFile`].
// Inlined into the callback of each kind of file.
#[inline(always)]
pub(crate) fn dispatch(
    file: &ContextFile,
    access: AccessMode,
    cmd: u32,
    arg: usize,
    range: RangeIoctl,
) -> Result<isize> {
    let user = UserPtr::from_addr(arg);

    // With their path: a name without one, if it does not exist, would match any number.
    match cmd {
        uapi::OCXL_IOCTL_IRQ_ALLOC => irq_alloc(file, user)?,
        uapi::OCXL_IOCTL_IRQ_FREE => irq_free(file, user)?,
        uapi::OCXL_IOCTL_IRQ_SET_FD => irq_set_fd(file, user)?,
        _ => dispatch_other(file, access, cmd, user, range)?,
    }
    Ok(0)
}

/// Carries out the ioctls that are not called for each interrupt. Apart, so that the frequent ones
/// do not pay for decoding these.
#[inline(never)]
fn dispatch_other(
    file: &ContextFile,
    access: AccessMode,
    cmd: u32,
    user: UserPtr,
    range: RangeIoctl,
) -> Result {
    match cmd {
        uapi::UXIVE_IOC_RANGE => return range(file, access, user),
        uapi::OCXL_IOCTL_GET_FEATURES => return get_features(user),
        uapi::OCXL_IOCTL_ATTACH if file.has_afu() => return attach(file, user),
        uapi::OCXL_IOCTL_GET_METADATA if file.has_afu() => return get_metadata(file, user),
        uapi::UXIVE_IOC_IMS_ALLOC if !file.has_afu() => return Err(ENOTTY),
        _ => (),
    }
    let decode = Command::decoder(cmd).ok_or(ENOTTY)?;
    // Ocxl's ioctls need no access for writing, as in ocxl.
    if cmd != uapi::UXIVE_IOC_INFO && !access.can_write() {
        return Err(EBADF);
    }

    let mut buffer = [0; MAX_SIZE];
    let argument = Argument::read(user, &mut buffer)?;
    carry_out(decode(argument.bytes())?, file, access, &argument)
}
