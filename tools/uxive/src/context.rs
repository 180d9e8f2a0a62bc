// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A context: an open file of the driver, which owns interrupts.
//!
//! All objects made from a context share its file and its mapping of all trigger pages, so each
//! works as long as it lives.

use crate::{
    abi,
    drain::Drain,
    event,
    irq::{
        Batch,
        Irq,
        Irqs,
        Origin, //
    },
    mapping::Mapping,
    report::Report, //
};
use core::{
    ops::Range,
    ptr::NonNull,
    time::Duration, //
};
use rustix::{
    fd::FromRawFd,
    io::Errno,
    mm::ProtFlags, //
};
use std::{
    fs::OpenOptions,
    io,
    os::fd::{
        AsFd,
        BorrowedFd,
        OwnedFd, //
    },
    sync::Arc, //
};

const PATH: &str = "/dev/uxive";

/// How much of something is in use, and how much may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// How many there are.
    pub used: u32,
    /// How many there can be.
    pub max: u32,
}

/// A window of a context's file: pages that can be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Window {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// The distance of its items.
    pub stride: u64,
}

/// The driver's data about itself and a context, at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Features that this driver has: `UXIVE_FEATURE_*`.
    pub features: u64,
    /// Page size of the kernel in bytes.
    pub page_size: u32,
    /// Size of a trigger page in bytes.
    pub esb_page_size: u32,
    /// Interrupts of the context.
    pub irqs: Usage,
    /// Interrupts of all contexts of the user who opened it.
    pub irqs_user: Usage,
    /// Interrupts of all contexts.
    pub irqs_total: Usage,
    /// Event queues of all contexts of the user.
    pub queues_user: Usage,
    /// Event queues of all contexts.
    pub queues_total: Usage,
    /// Exports of all contexts of the user.
    pub exports_user: Usage,
    /// Exports of all contexts.
    pub exports_total: Usage,
    /// The window of the trigger pages.
    pub trigger: Window,
    /// The window of the ESBs, for a program that drains by itself.
    pub esb: Window,
    /// The window of the event queue, likewise.
    pub queue: Window,
}

/// The file of a context and its trigger pages.
///
/// # Invariants
///
/// `pages` maps `slots` trigger pages, for writing, `stride` bytes from one to the next.
#[derive(Debug)]
pub(crate) struct Shared {
    file: OwnedFd,
    pages: Mapping,
    offset: u64,
    stride: u64,
    slots: u32,
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

pub(crate) fn info(file: impl AsFd) -> io::Result<abi::Info> {
    let mut info = abi::Info {
        size: abi::size::<abi::Info>(),
        ..Default::default()
    };

    abi::call(file, &mut info)?;
    Ok(info)
}

/// Returns the offsets of a window, as the driver reports it, and how many strides it has.
///
/// `EIO` if there is no such window: a stride is whole ESB pages, one at least.
pub(crate) fn extent(window: &abi::Window) -> io::Result<(Range<u64>, u32)> {
    const PAGE: u64 = 64 * 1024;
    let end = window.offset.checked_add(window.length);
    let slots = window
        .length
        .checked_div(window.stride)
        .filter(|_| window.stride & (PAGE - 1) == 0)
        .and_then(|slots| u32::try_from(slots).ok());

    match (end, slots) {
        (Some(end), Some(slots)) => Ok((window.offset..end, slots)),
        _ => Err(Errno::IO.into()),
    }
}

impl Shared {
    fn new(file: OwnedFd) -> io::Result<Self> {
        let window = info(&file)?.trigger;
        let (offsets, slots) = extent(&window)?;

        // INVARIANT: The window has that many strides.
        Ok(Self {
            pages: Mapping::new(&file, ProtFlags::WRITE, offsets)?,
            file,
            offset: window.offset,
            stride: window.stride,
            slots,
        })
    }

    /// Returns the slot whose trigger page is at an offset that the driver told.
    pub(crate) fn slot(&self, offset: u64) -> io::Result<u32> {
        offset
            .checked_sub(self.offset)
            .and_then(|within| within.checked_div(self.stride))
            .and_then(|slot| u32::try_from(slot).ok())
            .filter(|&slot| slot < self.slots)
            .ok_or_else(|| Errno::IO.into())
    }

    /// Returns the offset of the trigger page of a slot.
    pub(crate) fn offset(&self, slot: u32) -> u64 {
        self.offset + u64::from(slot) * self.stride
    }

    /// Returns the trigger page of a slot.
    ///
    /// # Panics
    ///
    /// If there can be no such slot.
    #[inline]
    pub(crate) fn page(&self, slot: u32) -> NonNull<u64> {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        // SAFETY: By the type invariants the page of each of the slots lies in the mapping.
        unsafe {
            let bytes = slot as usize * self.stride as usize;
            self.pages.address().add(bytes).cast()
        }
    }
}

/// Returns the descriptor `fd` that the driver has made; `EIO` if the number is negative.
///
/// # Safety
///
/// An ioctl that makes a new descriptor must have succeeded and have told this.
pub(crate) unsafe fn made(fd: i32) -> io::Result<OwnedFd> {
    match fd {
        // SAFETY: It is new and nobody else's, as the caller promises.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Errno::IO.into()),
    }
}

/// An open file of the driver.
///
/// Each of its interrupts is owned by the object that allocates it, and freed with that object; at
/// the latest when no process has the file, or a mapping of it, any more.
///
/// # Examples
///
/// ```no_run
/// use uxive::{Context, Event};
///
/// let context = Context::open()?;
/// let (irq, event) = (context.alloc()?, Event::new()?);
///
/// irq.bind(&event)?;
/// irq.ring();
/// assert_eq!(event.wait(None)?, Some(1));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A freed interrupt cannot be rung:
///
/// ```compile_fail,E0382
/// # let context = uxive::Context::open()?;
/// let irq = context.alloc()?;
///
/// irq.free()?;
/// irq.ring();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Context {
    shared: Arc<Shared>,
}

impl Context {
    /// Opens `/dev/uxive`.
    ///
    /// # Errors
    ///
    /// Those of `open()`: that the driver is not loaded, or the file is not for this user. Those of
    /// `UXIVE_IOC_INFO`, and of `mmap()`: all trigger pages are mapped, which is `ENOMEM` if the program
    /// may not have as many addresses (`RLIMIT_AS`).
    pub fn open() -> io::Result<Self> {
        OwnedFd::from(OpenOptions::new().read(true).write(true).open(PATH)?).try_into()
    }

    /// Tells of the driver and the context.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_INFO`.
    pub fn info(&self) -> io::Result<Info> {
        let info = info(self)?;
        let usage = |used, max| Usage { used, max };
        let window = |window: abi::Window| Window {
            offset: window.offset,
            length: window.length,
            stride: window.stride,
        };

        Ok(Info {
            features: info.features,
            page_size: info.page_size,
            esb_page_size: info.esb_page_size,
            irqs: usage(info.irqs, info.max_irqs),
            irqs_user: usage(info.irqs_user, info.max_irqs_user),
            irqs_total: usage(info.irqs_total, info.max_irqs_total),
            queues_user: usage(info.queues_user, info.max_queues_user),
            queues_total: usage(info.queues_total, info.max_queues_total),
            exports_user: usage(info.exports_user, info.max_exports_user),
            exports_total: usage(info.exports_total, info.max_exports_total),
            trigger: window(info.trigger),
            esb: window(info.esb),
            queue: window(info.queue),
        })
    }

    /// Allocates an interrupt. It signals nothing until it is bound.
    ///
    /// # Errors
    ///
    /// Those of `OCXL_IOCTL_IRQ_ALLOC`.
    pub fn alloc(&self) -> io::Result<Irq> {
        let mut argument = abi::IrqAlloc::default();

        abi::call(self, &mut argument)?;
        Irq::new(&self.shared, argument.offset)
    }

    /// Allocates an interrupt of a chip or a node.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_IRQ_ALLOC`: `ENODEV` if there is no such chip or node.
    pub fn alloc_from(&self, origin: Origin) -> io::Result<Irq> {
        let (flags, chip) = origin.flags();
        let mut argument = abi::IrqAllocFrom {
            size: abi::size::<abi::IrqAllocFrom>(),
            flags,
            chip,
            ..Default::default()
        };

        abi::call(self, &mut argument)?;
        Irq::new(&self.shared, argument.offset)
    }

    /// Allocates `count` interrupts in consecutive slots, all or none.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_IRQ_ALLOC_MANY`; `EINVAL`, too, if there are eventfds for another number
    /// of interrupts.
    pub fn alloc_many(&self, count: u32, batch: &Batch<'_>) -> io::Result<Irqs> {
        Irqs::new(&self.shared, count, batch)
    }

    /// Makes a context of its own that has `count` slots, whose interrupts are charged to the user of
    /// this one. A program that is given its file can use exactly these slots.
    ///
    /// # Errors
    ///
    /// Those of `UXIVE_IOC_RANGE`.
    pub fn range(&self, count: u32) -> io::Result<Self> {
        let mut argument = abi::Range {
            size: abi::size::<abi::Range>(),
            count,
            ..Default::default()
        };

        abi::call(self, &mut argument)?;
        // SAFETY: The ioctl has just made it.
        unsafe { made(argument.fd) }?.try_into()
    }

    /// Has the program drain the context's event queue by itself, and allocates `irqs` interrupts,
    /// in the slots from 0 on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `irqs` is 0, before anything is done. Those of `UXIVE_IOC_USER_DRAIN`: `EBUSY` if the
    /// context has an interrupt, or had one. Those of `mmap()`, and of [`Context::alloc_many`].
    pub fn drain(self, irqs: u32) -> io::Result<Drain> {
        Drain::new(self, irqs)
    }

    /// Blocks until the context has an event other than interrupts, and returns it. `None` when the
    /// time is up.
    ///
    /// Only one thread at a time should wait: another may read the event first.
    ///
    /// # Errors
    ///
    /// Those of `read()` of a context: `ENODEV` if its accelerator is gone and all was told.
    /// [`io::ErrorKind::Interrupted`] when a signal was handled.
    pub fn report(&self, timeout: Option<Duration>) -> io::Result<Option<Report>> {
        let mut bytes = [0; Report::BYTES];

        // poll() reports POLLHUP for a context whose accelerator is gone.
        if !event::wait(self.as_fd(), timeout)? {
            return Ok(None);
        }
        if rustix::io::read(self, &mut bytes)? != bytes.len() {
            return Err(unknown("the driver tells part of an event"));
        }
        Ok(Some(Report::new(&bytes, |offset| {
            self.shared.slot(offset)
        })?))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Takes a context that was passed by another program, or that of an accelerator.
///
/// Its interrupts may disappear: the other program may have kept the file and free them, or the
/// accelerator may go. Ringing raises `SIGBUS` then.
impl TryFrom<OwnedFd> for Context {
    type Error = io::Error;

    /// # Errors
    ///
    /// `ENOTTY` if it is no context, as an export is none; `ENODEV` if its accelerator is gone;
    /// `EIO` if its answers are not this driver's. Those of `mmap()`.
    fn try_from(file: OwnedFd) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(file)?);

        Ok(Self { shared })
    }
}

impl AsFd for Context {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_whole_strides_of_whole_pages() {
        const PAGE: u64 = 64 * 1024;

        for (offset, length, stride, slots) in [
            (PAGE, 4 * PAGE, PAGE, Some(4)),
            (PAGE, 4 * PAGE, 2 * PAGE, Some(2)),
            (0, 4 * PAGE, 0, None),
            (0, 4 * PAGE, PAGE / 2, None),
            (0, 4 * PAGE, PAGE + 8, None),
            (0, PAGE << 32, PAGE, None),
            (u64::MAX, PAGE, PAGE, None),
        ] {
            let found = extent(&abi::Window {
                offset,
                length,
                stride,
            });

            match slots {
                Some(slots) => assert_eq!(found.unwrap(), (offset..offset + length, slots)),
                None => assert_eq!(found.unwrap_err().raw_os_error(), Some(libc::EIO)),
            }
        }
    }

    #[test]
    fn what_is_no_descriptor_was_not_made() {
        // SAFETY: There is no such descriptor, so it is nobody's.
        let error = unsafe { made(-1) }.unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
}
