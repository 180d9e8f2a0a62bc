// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a context: decode, check, call.

use crate::{
    argument::{
        self,
        Argument,
        SET_ACTIONS,
        SET_DATA, //
    },
    file::ContextFile,
    kernel_ext::{
        eventfd::EventFd,
        file::AccessMode, //
    },
    layout::{
        Window,
        MAX_RANGE, //
    },
    uapi::{
        self,
        *, //
    },
    xive::Location, //
};
use core::ops::Range;
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
    let mut eventfds = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
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

impl uxive_window {
    fn new(window: Window, stride: u64) -> Self {
        Self {
            offset: window.base(),
            length: window.len(),
            stride,
        }
    }
}

/// A call of one of uxive's own ioctls.
struct Call<'a> {
    file: &'a ContextFile,
    access: AccessMode,
    user: UserPtr,
}

#[inline(never)]
fn info(call: &Call<'_>) -> Result {
    let mut argument = Argument::<uxive_info>::read(call.user)?;
    let uxive_info { size, flags, .. } = argument.value;
    let file = call.file;
    let (platform, account) = (&file.device().platform, file.context().account());
    let layout = file.layout();
    let quota = account.quota();
    let (max_irqs, max_queues) = (platform.max_sources(), quota.max_queues());
    let max_exports = quota.max_exports();

    argument.value = uxive_info {
        size,
        flags,
        features: match file.has_afu() {
            true => u64::from(UXIVE_FEATURE_AFU),
            false => 0,
        },
        drain_formats: UXIVE_DRAIN_XIVE,
        page_size: PAGE_SIZE as u32,
        esb_page_size: Window::ESB.stride() as u32,
        max_irqs: file.context().max_irqs() as u32,
        irqs: file.context().slots().counts().0 as u32,
        max_irqs_user: max_irqs.user as u32,
        irqs_user: account.irqs().sources_in_use() as u32,
        max_irqs_total: max_irqs.total as u32,
        irqs_total: platform.sources_in_use() as u32,
        max_queues_user: max_queues.user as u32,
        queues_user: account.queues() as u32,
        max_queues_total: max_queues.total as u32,
        queues_total: quota.queues() as u32,
        max_exports_user: max_exports.user as u32,
        exports_user: account.exports() as u32,
        max_exports_total: max_exports.total as u32,
        exports_total: quota.exports() as u32,
        reserved: 0,
        trigger: uxive_window::new(layout.trigger(), Window::TRIGGER.stride()),
        esb: uxive_window::new(layout.esb(), ESB_STRIDE),
        queue: uxive_window::new(layout.queue(), size_of::<u32>() as u64),
    };
    argument.write()
}

#[inline(never)]
fn user_drain(call: &Call<'_>) -> Result {
    let mut argument = Argument::<uxive_user_drain>::read(call.user)?;
    let drain = &mut argument.value;
    if drain.format != UXIVE_DRAIN_XIVE {
        return Err(EINVAL);
    }
    let eventfd = drain.eventfd;

    drain.queue_offset = Window::QUEUE.base();
    drain.queue_entries = call.file.layout().queue_size().entries() as u64;
    drain.esb_offset = Window::ESB.base();
    drain.esb_stride = ESB_STRIDE;

    // Written before anything is set up, so that a copy that fails has changed nothing.
    argument.write()?;
    call.file.set_user_drain(optional_eventfd(eventfd)?)
}

fn arm(call: &Call<'_>) -> Result {
    Argument::<uxive_arm>::read(call.user)?;
    call.file.arm()
}

/// Returns where interrupts are to come from: by `flags` the chip or the node of the number `id`.
///
/// # Errors
///
/// `EINVAL` if the flags and the number contradict each other, `ENODEV` if there is no such chip or node.
fn location(file: &ContextFile, flags: u32, id: u32) -> Result<Location> {
    match (flags & (UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE), id) {
        (0, 0) => Ok(Location::Anywhere),
        (UXIVE_ALLOC_CHIP, id) => file.device().platform.chip(id),
        (UXIVE_ALLOC_NODE, id) => file.device().platform.node(id),
        _ => Err(EINVAL),
    }
}

#[inline(never)]
fn irq_alloc_from(call: &Call<'_>) -> Result {
    let mut argument = Argument::<uxive_irq_alloc>::read(call.user)?;
    let alloc = &argument.value;
    let location = location(call.file, alloc.flags, alloc.chip)?;
    if alloc.reserved != 0 {
        return Err(EINVAL);
    }

    let irq = call.file.allocate(location)?;
    argument.value.offset = irq.offset();
    irq.commit(argument.write())
}

#[inline(never)]
fn irq_alloc_many(call: &Call<'_>) -> Result {
    let mut argument = Argument::<uxive_irq_alloc_many>::read(call.user)?;
    let alloc = &argument.value;
    let location = location(call.file, alloc.flags, alloc.chip)?;
    let count = alloc.count as usize;
    let start = match (alloc.flags & UXIVE_ALLOC_AT != 0, alloc.start) {
        (true, start) => Some(start as usize),
        (false, 0) => None,
        (false, _) => return Err(EINVAL),
    };
    let end = start.unwrap_or(0) + count;
    if count == 0 || alloc.reserved != 0 || start.is_some() && end > call.file.layout().slots() {
        return Err(EINVAL);
    }
    // Before there is memory for as many.
    if count > call.file.context().max_irqs() {
        return Err(ENOSPC);
    }
    let eventfds = match alloc.eventfds {
        0 => KVVec::new(),
        address => optional_eventfds(address, count)?,
    };

    let irqs = call.file.allocate_many(location, start, count, eventfds)?;
    argument.value.start = irqs.start() as u32;
    irqs.commit(argument.write())
}

#[inline(never)]
fn irq_free_many(call: &Call<'_>) -> Result {
    let uxive_irq_free_many { start, count, .. } =
        Argument::<uxive_irq_free_many>::read(call.user)?.value;

    call.file.free_many(slots(start, count)?)
}

fn irq_free_all(call: &Call<'_>) -> Result {
    Argument::<uxive_irq_free_all>::read(call.user)?;
    call.file.free_all();
    Ok(())
}

/// Returns the `count` slots from `start` on.
///
/// # Errors
///
/// `EINVAL` if those are none, or there can be no such slots.
fn slots(start: u32, count: u32) -> Result<Range<usize>> {
    let slots = start as usize..start as usize + count as usize;

    match slots.is_empty() || slots.end > MAX_RANGE {
        true => Err(EINVAL),
        false => Ok(slots),
    }
}

#[inline(never)]
fn set_irqs(call: &Call<'_>) -> Result {
    let set = Argument::<uxive_set_irqs>::read(call.user)?.value;
    let (data, action) = (set.flags & SET_DATA, set.flags & SET_ACTIONS);
    let range = slots(set.start, set.count)?;

    if (data, action) == (UXIVE_SET_DATA_EVENTFD, UXIVE_SET_TRIGGER) {
        let mut eventfds = optional_eventfds(set.data, range.len())?;
        return call.file.bind_many(range, &mut eventfds);
    }
    let bools = bools(data, set.data, range.len())?;
    let chosen = |place: usize| bools.get(place).is_none_or(|&chosen| chosen != 0);
    match action {
        UXIVE_SET_TRIGGER => call.file.trigger_many(range, &chosen),
        UXIVE_SET_MASK => call.file.mask_many(range, &chosen, true),
        UXIVE_SET_UNMASK => call.file.mask_many(range, &chosen, false),
        _ => Err(EINVAL),
    }
}

/// Returns which of `count` interrupts are meant, by the flag of [`SET_DATA`] and the address of the
/// data: all if it says of none.
///
/// # Errors
///
/// `EINVAL` if the data are of another kind, `EFAULT` if they do not lie in accessible memory,
/// `ENOMEM`.
fn bools(kind: u32, address: u64, count: usize) -> Result<KVVec<u8>> {
    let mut bools = KVVec::new();

    match (kind, address) {
        (UXIVE_SET_DATA_NONE, 0) => (),
        (UXIVE_SET_DATA_BOOL, address) => {
            bools.resize(count, 0, GFP_KERNEL_ACCOUNT)?;
            let user = UserPtr::from_addr(usize::try_from(address).map_err(|_| EFAULT)?);
            UserSlice::new(user, count)
                .reader()
                .read_slice(&mut bools)?;
        }
        _ => return Err(EINVAL),
    }
    Ok(bools)
}

#[inline(never)]
fn ims_alloc(call: &Call<'_>) -> Result {
    let mut argument = Argument::<uxive_ims_alloc>::read(call.user)?;
    let alloc = &argument.value;
    // A cookie has 0 for any queue, which a call asks for without the flag.
    if alloc.reserved != 0 || (alloc.flags & UXIVE_IMS_QUEUE != 0) != (alloc.queue != 0) {
        return Err(EINVAL);
    }
    let (queue, eventfd) = (alloc.queue, optional_eventfd(alloc.eventfd)?);

    let irq = call.file.allocate_message(queue, eventfd)?;
    argument.value.offset = irq.offset();
    argument.value.slot = irq.index() as u32;
    irq.commit(argument.write())
}

#[inline(never)]
fn export(call: &Call<'_>) -> Result {
    let mut argument = Argument::<uxive_export>::read(call.user)?;
    let export = &argument.value;
    let (start, count) = (export.start as usize, export.count as usize);
    if export.kind != UXIVE_EXPORT_FILE || export.reserved != 0 {
        return Err(EINVAL);
    }

    let (file, id) = call.file.export(start, count, call.access)?;
    argument.value.fd = file.fd() as i32;
    argument.value.id = id;
    argument.write()?;
    file.install();
    Ok(())
}

#[inline(never)]
fn revoke(call: &Call<'_>) -> Result {
    let uxive_revoke { id, reserved, .. } = Argument::<uxive_revoke>::read(call.user)?.value;
    if reserved != 0 {
        return Err(EINVAL);
    }

    call.file.revoke(id)
}

/// One of uxive's own ioctls.
struct Command {
    number: u32,
    /// It changes something, so it needs a file that is open for writing.
    writes: bool,
    /// It exists in contexts of AFUs only.
    of_afu: bool,
    run: fn(&Call<'_>) -> Result,
}

impl Command {
    /// One that changes something.
    const fn new(number: u32, run: fn(&Call<'_>) -> Result) -> Self {
        Self {
            number,
            writes: true,
            of_afu: false,
            run,
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// `EBADF` if the file is not open for what the ioctl does.
    fn carry_out(&self, call: &Call<'_>) -> Result {
        match self.writes && !call.access.can_write() {
            true => Err(EBADF),
            false => (self.run)(call),
        }
    }
}

/// Uxive's own ioctls, but for that of ranges (`operations`). Ocxl's ioctls are not here: as in
/// ocxl, they need no access for writing.
static COMMANDS: [Command; 11] = [
    Command {
        writes: false,
        ..Command::new(UXIVE_IOC_INFO, info)
    },
    Command::new(UXIVE_IOC_USER_DRAIN, user_drain),
    Command::new(UXIVE_IOC_ARM, arm),
    Command::new(UXIVE_IOC_IRQ_ALLOC, irq_alloc_from),
    Command::new(UXIVE_IOC_IRQ_ALLOC_MANY, irq_alloc_many),
    Command::new(UXIVE_IOC_IRQ_FREE_MANY, irq_free_many),
    Command::new(UXIVE_IOC_IRQ_FREE_ALL, irq_free_all),
    Command::new(UXIVE_IOC_SET_IRQS, set_irqs),
    Command {
        of_afu: true,
        ..Command::new(UXIVE_IOC_IMS_ALLOC, ims_alloc)
    },
    Command::new(UXIVE_IOC_EXPORT, export),
    Command::new(UXIVE_IOC_REVOKE, revoke),
];

// Each ioctl stays a function of its own: inlined into one, all would save the registers and have
// the stack that the largest needs.

#[inline(never)]
fn irq_alloc(file: &ContextFile, user: UserPtr) -> Result {
    let irq = file.allocate(Location::Anywhere)?;
    let told = UserSlice::new(user, size_of::<u64>())
        .writer()
        .write(&irq.offset());

    irq.commit(told)
}

#[inline(never)]
fn irq_free(file: &ContextFile, user: UserPtr) -> Result {
    file.free(UserSlice::new(user, size_of::<u64>()).reader().read()?)
}

#[inline(never)]
fn irq_set_fd(file: &ContextFile, user: UserPtr) -> Result {
    let ocxl_ioctl_irq_fd {
        irq_offset,
        eventfd,
        reserved,
    } = argument::read(user)?;

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

/// Carries out the ioctl `cmd` with the argument `arg`, of a file with the mode `access`.
///
/// # Errors
///
/// - `ENOTTY` if there is no such ioctl.
/// - `EFAULT` if `arg` does not point to accessible memory.
/// - `EINVAL` if a reserved field is not zero.
/// - Those of [`Command::carry_out`], [`Argument::read`] and [`EventFd::from_fd`], and of what the ioctl
///   does: [`ContextFile`].
// Inlined into the callback of each kind of file.
#[inline(always)]
pub(crate) fn dispatch(
    file: &ContextFile,
    access: AccessMode,
    cmd: u32,
    arg: usize,
) -> Result<isize> {
    let user = UserPtr::from_addr(arg);

    // With their path: what has none in a pattern, and does not exist, would be any number.
    match cmd {
        uapi::OCXL_IOCTL_IRQ_ALLOC => irq_alloc(file, user)?,
        uapi::OCXL_IOCTL_IRQ_FREE => irq_free(file, user)?,
        uapi::OCXL_IOCTL_IRQ_SET_FD => irq_set_fd(file, user)?,
        _ => dispatch_other(cmd, &Call { file, access, user })?,
    }
    Ok(0)
}

/// Carries out the ioctls that are not called for each interrupt. Apart, so that the frequent ones
/// do not pay for decoding these.
#[inline(never)]
fn dispatch_other(cmd: u32, call: &Call<'_>) -> Result {
    let &Call { file, user, .. } = call;

    match cmd {
        uapi::OCXL_IOCTL_GET_FEATURES => get_features(user),
        uapi::OCXL_IOCTL_ATTACH if file.has_afu() => attach(file, user),
        uapi::OCXL_IOCTL_GET_METADATA if file.has_afu() => get_metadata(file, user),
        cmd => COMMANDS
            .iter()
            .find(|command| command.number == cmd && (!command.of_afu || file.has_afu()))
            .ok_or(ENOTTY)?
            .carry_out(call),
    }
}
