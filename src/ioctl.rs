// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a context: decode, check, call.
//!
//! Numbers and layouts are ocxl's, see `include/uapi/misc/ocxl.h` in the kernel, and those of
//! `include/uapi/misc/uxive.h`.

use crate::{
    context::Context,
    kernel_ext::{
        eventfd::EventFd,
        file::AccessMode, //
    },
    layout::{
        Window,
        MAX_RANGE, //
    },
    platform::Location, //
};
use core::ops::Range;
use kernel::{
    ioctl::{
        _IO,
        _IOR,
        _IOW,
        _IOWR, //
    },
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceWriter, //
    },
    uapi, //
};

/// `OCXL_MAGIC`
const MAGIC: u32 = 0xca;

/// `UXIVE_VERSION`
const VERSION: u32 = 4;

/// `OCXL_IOCTL_ATTACH`: has the AFU work for the program.
const ATTACH: u32 = _IOW::<[u64; 4]>(MAGIC, 0x10);

/// Distance of the pairs of pages of consecutive interrupts in the window of ESBs.
const ESB_STRIDE: u64 = 2 * Window::ESB.stride();

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
    fn run(self, context: &Context) -> Result {
        if self.reserved != 0 {
            return Err(EINVAL);
        }
        context.bind(self.irq_offset, optional_eventfd(self.eventfd)?)
    }
}

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

/// `OCXL_IOCTL_GET_METADATA`: tells what AFU there is.
const GET_METADATA: u32 = _IOR::<Metadata>(MAGIC, 0x14);

/// `struct ocxl_ioctl_metadata`
#[repr(C)]
#[derive(IntoBytes, FromBytes)]
struct Metadata {
    /// Of the structure: 0, of which all fields are here.
    version: u16,
    afu_version_major: u8,
    afu_version_minor: u8,
    pasid: u32,
    pp_mmio_size: u64,
    global_mmio_size: u64,
    reserved: [u64; 13],
}

/// `OCXL_IOCTL_GET_FEATURES`: tells which of ocxl's optional features there are.
const GET_FEATURES: u32 = _IOR::<Features>(MAGIC, 0x16);

/// `struct ocxl_ioctl_features`: words of flags.
type Features = [u64; 4];

/// One feature is defined, P9_WAIT, by which an AFU wakes a thread. No AFU here does.
const NO_FEATURES: Features = [0; 4];

/// `UXIVE_IOC_INFO`: tells about the interface, its limits and present use.
const INFO: u32 = _IOWR::<Info>(MAGIC, 0x40);

/// `UXIVE_IOC_USER_DRAIN`: has the program drain the event queue.
const USER_DRAIN: u32 = _IOWR::<UserDrain>(MAGIC, 0x41);

/// `UXIVE_IOC_ARM`: has the next event signal the eventfd of a user-drained queue.
const ARM: u32 = _IO(MAGIC, 0x42);

/// `UXIVE_IOC_IRQ_ALLOC`: allocates an interrupt, of a given chip if the program wants that.
const IRQ_ALLOC_FROM: u32 = _IOWR::<IrqAlloc>(MAGIC, 0x43);

/// `UXIVE_IOC_IRQ_ALLOC_MANY`: allocates interrupts of consecutive slots.
const IRQ_ALLOC_MANY: u32 = _IOWR::<IrqAllocMany>(MAGIC, 0x45);

/// `UXIVE_IOC_IRQ_FREE_MANY`: frees interrupts of consecutive slots.
const IRQ_FREE_MANY: u32 = _IOW::<IrqFreeMany>(MAGIC, 0x46);

/// `UXIVE_IOC_SET_IRQS`: raises, masks, unmasks or binds interrupts of consecutive slots.
const SET_IRQS: u32 = _IOW::<SetIrqs>(MAGIC, 0x47);

/// `UXIVE_IOC_RANGE`: makes a range, which is a new file.
const RANGE: u32 = _IOWR::<MakeRange>(MAGIC, 0x48);

/// `UXIVE_IOC_IMS_ALLOC`: allocates an interrupt that the AFU sends as a message.
const IMS_ALLOC: u32 = _IOWR::<ImsAlloc>(MAGIC, 0x44);

/// `UXIVE_IOC_EXPORT`: makes a file by which others ring interrupts.
const EXPORT: u32 = _IOWR::<Export>(MAGIC, 0x49);

/// `UXIVE_IOC_REVOKE`: ends what such a file can do.
const REVOKE: u32 = _IOW::<Revoke>(MAGIC, 0x4a);

/// A structure of `<misc/uxive.h>`. It begins with its size, as the program knows it, and flags;
/// later versions have more fields at the end.
trait Extensible: FromBytes + IntoBytes {
    /// The size of the first version that was published.
    const FIRST_SIZE: usize;

    /// The flags that there are.
    const FLAGS: u32;

    /// Returns the flags that are set.
    fn flags(&self) -> u32;
}

/// An [`Extensible`] structure that the argument of an ioctl points to.
struct Argument<T> {
    value: T,
    origin: UserSliceWriter,
}

impl<T: Extensible> Argument<T> {
    /// Reads the structure at `user`. Fields that the program does not know are 0.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if its size is less than that of the first version, or it has unknown flags.
    /// - `E2BIG` if it is larger than the structure here and has anything but zeros beyond, for
    ///   which the program expects something that this driver does not do; or than a page.
    /// - `EFAULT` if it does not lie in accessible memory.
    fn read(user: UserPtr) -> Result<Self> {
        let size = UserSlice::new(user, size_of::<u32>())
            .reader()
            .read::<u32>()? as usize;
        if size < T::FIRST_SIZE {
            return Err(EINVAL);
        }
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }

        // Comes with the structure once more. Another thread may have changed it: the first counts.
        let (mut reader, origin) = UserSlice::new(user, size).reader_writer();
        let mut value = T::new_zeroed();
        reader.read_slice_partial(value.as_mut_bytes(), 0)?;
        let mut beyond = [0; 64];
        while !reader.is_empty() {
            let len = reader.read_slice_partial(&mut beyond, 0)?;
            if beyond.iter().take(len).any(|&byte| byte != 0) {
                return Err(E2BIG);
            }
        }
        if value.flags() & !T::FLAGS != 0 {
            return Err(EINVAL);
        }
        Ok(Self { value, origin })
    }

    /// Writes the structure back, as far as the program knows it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it does not lie in writable memory.
    fn write(&mut self) -> Result {
        let bytes = self.value.as_mut_bytes();

        self.origin.write_slice_partial(bytes, 0).map(drop)
    }
}

/// `struct uxive_window`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct WindowInfo {
    offset: u64,
    length: u64,
    stride: u64,
}

impl WindowInfo {
    fn new(window: Window, stride: u64) -> Self {
        Self {
            offset: window.base(),
            length: window.len(),
            stride,
        }
    }
}

/// `struct uxive_info`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct Info {
    size: u32,
    flags: u32,
    version: u32,
    page_size: u32,
    esb_page_size: u32,
    max_irqs: u32,
    max_irqs_total: u32,
    irqs: u32,
    irqs_total: u32,
    reserved: u32,
    trigger: WindowInfo,
    esb: WindowInfo,
    queue: WindowInfo,
    max_irqs_user: u32,
    irqs_user: u32,
    max_queues_user: u32,
    queues_user: u32,
    max_queues_total: u32,
    queues_total: u32,
    max_exports_user: u32,
    exports_user: u32,
    max_exports_total: u32,
    exports_total: u32,
}

impl Extensible for Info {
    const FIRST_SIZE: usize = 112;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl Info {
    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let Self { size, flags, .. } = argument.value;
        let (platform, account) = (context.platform(), context.account());
        let layout = context.layout();
        let quota = account.quota();
        let (max_irqs, max_queues) = (platform.max_sources(), quota.max_queues());
        let max_exports = quota.max_exports();

        argument.value = Self {
            size,
            flags,
            version: VERSION,
            page_size: PAGE_SIZE as u32,
            esb_page_size: Window::ESB.stride() as u32,
            max_irqs: context.max_irqs() as u32,
            max_irqs_total: max_irqs.total as u32,
            irqs: context.irqs() as u32,
            irqs_total: platform.sources_in_use() as u32,
            reserved: 0,
            trigger: WindowInfo::new(layout.trigger(), Window::TRIGGER.stride()),
            esb: WindowInfo::new(layout.esb(), ESB_STRIDE),
            queue: WindowInfo::new(layout.queue(), size_of::<u32>() as u64),
            max_irqs_user: max_irqs.user as u32,
            irqs_user: account.irqs().sources_in_use() as u32,
            max_queues_user: max_queues.user as u32,
            queues_user: account.queues() as u32,
            max_queues_total: max_queues.total as u32,
            queues_total: quota.queues() as u32,
            max_exports_user: max_exports.user as u32,
            exports_user: account.exports() as u32,
            max_exports_total: max_exports.total as u32,
            exports_total: quota.exports() as u32,
        };
        argument.write()
    }
}

/// `struct uxive_user_drain`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct UserDrain {
    size: u32,
    flags: u32,
    eventfd: i32,
    reserved: u32,
    queue_offset: u64,
    queue_entries: u64,
    esb_offset: u64,
    esb_stride: u64,
}

impl Extensible for UserDrain {
    const FIRST_SIZE: usize = 48;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl UserDrain {
    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let drain = &mut argument.value;
        if drain.reserved != 0 {
            return Err(EINVAL);
        }
        let eventfd = drain.eventfd;

        drain.queue_offset = Window::QUEUE.base();
        drain.queue_entries = context.layout().queue_size().entries() as u64;
        drain.esb_offset = Window::ESB.base();
        drain.esb_stride = ESB_STRIDE;

        // Written before anything is set up, so that a copy that fails has changed nothing.
        argument.write()?;
        context.set_user_drain(optional_eventfd(eventfd)?)
    }
}

/// `struct uxive_irq_alloc`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct IrqAlloc {
    size: u32,
    flags: u32,
    chip: u32,
    reserved: u32,
    offset: u64,
}

impl Extensible for IrqAlloc {
    const FIRST_SIZE: usize = 24;
    const FLAGS: u32 = ALLOC_CHIP | ALLOC_NODE;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// `UXIVE_ALLOC_CHIP`
const ALLOC_CHIP: u32 = 1 << 0;

/// `UXIVE_ALLOC_NODE`
const ALLOC_NODE: u32 = 1 << 1;

/// `UXIVE_ALLOC_AT`
const ALLOC_AT: u32 = 1 << 2;

/// Returns where interrupts are to come from: by `flags` the chip or the node of the number `id`.
///
/// # Errors
///
/// `EINVAL` if the flags and the number contradict each other, `ENODEV` if there is no such chip or node.
fn location(context: &Context, flags: u32, id: u32) -> Result<Location> {
    match (flags & (ALLOC_CHIP | ALLOC_NODE), id) {
        (0, 0) => Ok(Location::Anywhere),
        (ALLOC_CHIP, id) => context.platform().chip(id),
        (ALLOC_NODE, id) => context.platform().node(id),
        _ => Err(EINVAL),
    }
}

impl IrqAlloc {
    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let alloc = &argument.value;
        let location = location(context, alloc.flags, alloc.chip)?;
        if alloc.reserved != 0 {
            return Err(EINVAL);
        }

        context.allocate(location, &mut |offset| {
            argument.value.offset = offset;
            argument.write()
        })
    }
}

/// `struct uxive_irq_alloc_many`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct IrqAllocMany {
    size: u32,
    flags: u32,
    chip: u32,
    count: u32,
    start: u32,
    reserved: u32,
    eventfds: u64,
}

impl Extensible for IrqAllocMany {
    const FIRST_SIZE: usize = 32;
    const FLAGS: u32 = ALLOC_CHIP | ALLOC_NODE | ALLOC_AT;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl IrqAllocMany {
    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let alloc = &argument.value;
        let location = location(context, alloc.flags, alloc.chip)?;
        let count = alloc.count as usize;
        let start = match (alloc.flags & ALLOC_AT != 0, alloc.start) {
            (true, start) => Some(start as usize),
            (false, 0) => None,
            (false, _) => return Err(EINVAL),
        };
        let end = start.unwrap_or(0) + count;
        if count == 0 || alloc.reserved != 0 || start.is_some() && end > context.layout().slots() {
            return Err(EINVAL);
        }
        // Before there is memory for as many.
        if count > context.max_irqs() {
            return Err(ENOSPC);
        }
        let eventfds = match alloc.eventfds {
            0 => KVVec::new(),
            address => optional_eventfds(address, count)?,
        };

        context.allocate_many(location, start, count, eventfds, &mut |start| {
            argument.value.start = start as u32;
            argument.write()
        })
    }
}

/// `struct uxive_irq_free_many`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct IrqFreeMany {
    size: u32,
    flags: u32,
    start: u32,
    count: u32,
}

impl Extensible for IrqFreeMany {
    const FIRST_SIZE: usize = 16;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl IrqFreeMany {
    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let Self { start, count, .. } = Argument::<Self>::read(user)?.value;

        context.free_many(slots(start, count)?)
    }
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

/// `struct uxive_set_irqs`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct SetIrqs {
    size: u32,
    flags: u32,
    start: u32,
    count: u32,
    data: u64,
}

impl Extensible for SetIrqs {
    const FIRST_SIZE: usize = 24;
    const FLAGS: u32 = Self::DATA | Self::ACTIONS;

    fn flags(&self) -> u32 {
        self.flags
    }
}

// The flags have the numbers of `VFIO_IRQ_SET_*`.
impl SetIrqs {
    /// `UXIVE_SET_DATA_NONE`
    const NONE: u32 = 1 << 0;

    /// `UXIVE_SET_DATA_BOOL`
    const BOOL: u32 = 1 << 1;

    /// `UXIVE_SET_DATA_EVENTFD`
    const EVENTFD: u32 = 1 << 2;

    /// `UXIVE_SET_MASK`
    const MASK: u32 = 1 << 3;

    /// `UXIVE_SET_UNMASK`
    const UNMASK: u32 = 1 << 4;

    /// `UXIVE_SET_TRIGGER`
    const TRIGGER: u32 = 1 << 5;

    const DATA: u32 = Self::NONE | Self::BOOL | Self::EVENTFD;
    const ACTIONS: u32 = Self::MASK | Self::UNMASK | Self::TRIGGER;

    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let set = Argument::<Self>::read(user)?.value;
        let (kind, action) = (set.flags & Self::DATA, set.flags & Self::ACTIONS);

        if (kind, action, set.start, set.count, set.data) == (Self::NONE, Self::TRIGGER, 0, 0, 0) {
            context.free_all();
            return Ok(());
        }
        let range = slots(set.start, set.count)?;
        if (kind, action) == (Self::EVENTFD, Self::TRIGGER) {
            let mut eventfds = optional_eventfds(set.data, range.len())?;
            return context.bind_many(range, &mut eventfds);
        }

        let bools = set.bools(range.len())?;
        let chosen = |place: usize| bools.get(place).is_none_or(|&chosen| chosen != 0);
        match action {
            Self::TRIGGER => context.trigger_many(range, &chosen),
            Self::MASK => context.mask_many(range, &chosen, true),
            Self::UNMASK => context.mask_many(range, &chosen, false),
            _ => Err(EINVAL),
        }
    }

    /// Returns which of `count` interrupts are meant: all if it says of none.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the data are of another kind, `EFAULT` if they do not lie in accessible memory,
    /// `ENOMEM`.
    fn bools(&self, count: usize) -> Result<KVVec<u8>> {
        let mut bools = KVVec::new();

        match (self.flags & Self::DATA, self.data) {
            (Self::NONE, 0) => (),
            (Self::BOOL, address) => {
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
}

/// `struct uxive_range`
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct MakeRange {
    size: u32,
    flags: u32,
    count: u32,
    fd: i32,
}

impl Extensible for MakeRange {
    const FIRST_SIZE: usize = 16;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl MakeRange {
    #[inline(never)]
    fn run(context: &Context, access: AccessMode, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let range = context.make_range(argument.value.count as usize, access)?;

        argument.value.fd = range.fd() as i32;
        argument.write()?;
        range.install();
        Ok(())
    }
}

/// `struct uxive_ims_alloc`
#[repr(C)]
#[derive(IntoBytes, FromBytes)]
struct ImsAlloc {
    size: u32,
    flags: u32,
    eventfd: i32,
    queue: u32,
    offset: u64,
    slot: u32,
    reserved: u32,
}

impl Extensible for ImsAlloc {
    const FIRST_SIZE: usize = 32;
    const FLAGS: u32 = Self::QUEUE;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl ImsAlloc {
    /// `UXIVE_IMS_QUEUE`
    const QUEUE: u32 = 1 << 0;

    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let alloc = &argument.value;
        // In a cookie 0 is any queue, which is what there is without the flag.
        if alloc.reserved != 0 || (alloc.flags & Self::QUEUE != 0) != (alloc.queue != 0) {
            return Err(EINVAL);
        }
        let (queue, eventfd) = (alloc.queue, optional_eventfd(alloc.eventfd)?);

        context.allocate_message(queue, eventfd, &mut |offset, slot| {
            argument.value.offset = offset;
            argument.value.slot = slot as u32;
            argument.write()
        })
    }
}

/// `struct uxive_export`
#[repr(C)]
#[derive(IntoBytes, FromBytes)]
struct Export {
    size: u32,
    flags: u32,
    start: u32,
    count: u32,
    fd: i32,
    id: u32,
}

impl Extensible for Export {
    const FIRST_SIZE: usize = 24;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl Export {
    #[inline(never)]
    fn run(context: &Context, access: AccessMode, user: UserPtr) -> Result {
        let mut argument = Argument::<Self>::read(user)?;
        let (start, count) = (argument.value.start as usize, argument.value.count as usize);

        context.export(start, count, access, &mut |fd, id| {
            argument.value.fd = fd as i32;
            argument.value.id = id;
            argument.write()
        })
    }
}

/// `struct uxive_revoke`
#[repr(C)]
#[derive(IntoBytes, FromBytes)]
struct Revoke {
    size: u32,
    flags: u32,
    id: u32,
    reserved: u32,
}

impl Extensible for Revoke {
    const FIRST_SIZE: usize = 16;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

impl Revoke {
    #[inline(never)]
    fn run(context: &Context, user: UserPtr) -> Result {
        let Revoke { id, reserved, .. } = Argument::<Self>::read(user)?.value;
        if reserved != 0 {
            return Err(EINVAL);
        }

        context.revoke(id)
    }
}

/// What carries out an ioctl.
enum Run {
    Plain(fn(&Context, UserPtr) -> Result),
    /// Makes a file, which is given no more than the access that the caller's has.
    Lending(fn(&Context, AccessMode, UserPtr) -> Result),
}

/// One of uxive's own ioctls.
struct Command {
    number: u32,
    /// It changes something, so it needs a file that is open for writing.
    writes: bool,
    /// It exists in contexts of AFUs only.
    of_afu: bool,
    run: Run,
}

impl Command {
    /// One that tells something only.
    const fn reading(number: u32, run: fn(&Context, UserPtr) -> Result) -> Self {
        Self {
            number,
            writes: false,
            of_afu: false,
            run: Run::Plain(run),
        }
    }

    /// One that changes something.
    const fn writing(number: u32, run: fn(&Context, UserPtr) -> Result) -> Self {
        Self {
            number,
            writes: true,
            of_afu: false,
            run: Run::Plain(run),
        }
    }

    /// As [`Self::writing`], of contexts of AFUs only.
    const fn of_afu(number: u32, run: fn(&Context, UserPtr) -> Result) -> Self {
        Self {
            number,
            writes: true,
            of_afu: true,
            run: Run::Plain(run),
        }
    }

    /// One that makes a file.
    const fn lending(number: u32, run: fn(&Context, AccessMode, UserPtr) -> Result) -> Self {
        Self {
            number,
            writes: true,
            of_afu: false,
            run: Run::Lending(run),
        }
    }

    /// Returns whether this is `cmd`, but for the size of its structure, which may grow.
    fn is(&self, cmd: u32) -> bool {
        const SIZE: u32 = uapi::_IOC_SIZEMASK << uapi::_IOC_SIZESHIFT;
        let grows = match self.number & SIZE {
            0 => 0,
            _ => SIZE,
        };

        (cmd ^ self.number) & !grows == 0
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// `EBADF` if the file is not open for what the ioctl does.
    fn call(&self, context: &Context, access: AccessMode, user: UserPtr) -> Result {
        if self.writes && !access.can_write() {
            return Err(EBADF);
        }
        match self.run {
            Run::Plain(run) => run(context, user),
            Run::Lending(run) => run(context, access, user),
        }
    }
}

/// Uxive's own ioctls. Those of ocxl are as it has them: for whoever has the file.
static COMMANDS: [Command; 11] = [
    Command::reading(INFO, Info::run),
    Command::writing(USER_DRAIN, UserDrain::run),
    Command::writing(ARM, arm),
    Command::writing(IRQ_ALLOC_FROM, IrqAlloc::run),
    Command::writing(IRQ_ALLOC_MANY, IrqAllocMany::run),
    Command::writing(IRQ_FREE_MANY, IrqFreeMany::run),
    Command::writing(SET_IRQS, SetIrqs::run),
    Command::of_afu(IMS_ALLOC, ImsAlloc::run),
    Command::lending(RANGE, MakeRange::run),
    Command::lending(EXPORT, Export::run),
    Command::writing(REVOKE, Revoke::run),
];

// Each ioctl stays a function of its own: inlined into one, all would save the registers and have
// the stack that the largest needs.

#[inline(never)]
fn irq_alloc(context: &Context, user: UserPtr) -> Result {
    let mut writer = UserSlice::new(user, size_of::<u64>()).writer();

    context.allocate(Location::Anywhere, &mut |offset| writer.write(&offset))
}

#[inline(never)]
fn irq_free(context: &Context, user: UserPtr) -> Result {
    context.free(UserSlice::new(user, size_of::<u64>()).reader().read()?)
}

#[inline(never)]
fn irq_set_fd(context: &Context, user: UserPtr) -> Result {
    let words: [u64; 2] = UserSlice::new(user, size_of::<IrqFd>()).reader().read()?;
    let irq_fd: IrqFd = zerocopy::transmute!(words);

    irq_fd.run(context)
}

#[inline(never)]
fn attach(context: &Context, user: UserPtr) -> Result {
    // Which storage keys the AFU may use, of no effect: it does not reach the program's memory.
    let [_amr, reserved @ ..]: [u64; 4] = UserSlice::new(user, size_of::<[u64; 4]>())
        .reader()
        .read()?;

    if reserved != [0; 3] {
        return Err(EINVAL);
    }
    context.attach()
}

#[inline(never)]
fn get_metadata(context: &Context, user: UserPtr) -> Result {
    let metadata = context.metadata()?;
    let mut metadata = Metadata {
        version: 0,
        afu_version_major: metadata.version_major,
        afu_version_minor: metadata.version_minor,
        pasid: metadata.pasid,
        pp_mmio_size: metadata.mmio_size,
        global_mmio_size: metadata.global_size,
        reserved: [0; 13],
    };

    UserSlice::new(user, size_of::<Metadata>())
        .writer()
        .write_slice(metadata.as_mut_bytes())
}

#[inline(never)]
fn get_features(user: UserPtr) -> Result {
    UserSlice::new(user, size_of_val(&NO_FEATURES))
        .writer()
        .write(&NO_FEATURES)
}

fn arm(context: &Context, _user: UserPtr) -> Result {
    context.arm()
}

/// Carries out the ioctl `cmd` with the argument `arg`, of a file with the mode `access`.
///
/// # Errors
///
/// - `ENOTTY` if there is no such ioctl.
/// - `EFAULT` if `arg` does not point to accessible memory.
/// - `EINVAL` if a reserved field is not zero.
/// - Those of [`Command::call`], [`Argument::read`] and [`EventFd::from_fd`], and of what the ioctl
///   does: [`Context`].
// Inlined into the callback of each kind of file.
#[inline(always)]
pub(crate) fn dispatch(
    context: &Context,
    access: AccessMode,
    cmd: u32,
    arg: usize,
) -> Result<isize> {
    let user = UserPtr::from_addr(arg);

    match cmd {
        IRQ_ALLOC => irq_alloc(context, user)?,
        IRQ_FREE => irq_free(context, user)?,
        IRQ_SET_FD => irq_set_fd(context, user)?,
        _ => dispatch_other(context, access, cmd, user)?,
    }
    Ok(0)
}

/// Carries out those that are not for each interrupt: telling them apart is not for the others to pay.
#[inline(never)]
fn dispatch_other(context: &Context, access: AccessMode, cmd: u32, user: UserPtr) -> Result {
    match cmd {
        GET_FEATURES => get_features(user),
        ATTACH if context.has_afu() => attach(context, user),
        GET_METADATA if context.has_afu() => get_metadata(context, user),
        cmd => COMMANDS
            .iter()
            .find(|command| command.is(cmd) && (!command.of_afu || context.has_afu()))
            .ok_or(ENOTTY)?
            .call(context, access, user),
    }
}
