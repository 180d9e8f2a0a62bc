// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A context: an open file of the driver, which owns interrupts.

use crate::{
    abi,
    drain::Drain,
    esb,
    mapping::Mapping, //
};
use core::ptr::NonNull;
use rustix::{
    mm::ProtFlags,
    param::page_size, //
};
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd, //
    },
    sync::Arc, //
};

const PATH: &str = "/dev/uxive";

/// An open file of the driver.
///
/// Its interrupts are freed when it is dropped and the last mapping of it is gone.
#[derive(Debug)]
pub struct Context {
    file: File,
}

/// An interrupt of a context, which is named by the offset of its trigger page in the file.
///
/// It is a name, and owns nothing: it may be freed, and its name given to another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Irq(u64);

impl Irq {
    /// Returns the interrupt whose trigger page is at `offset`, as other programs know it.
    pub fn from_offset(offset: u64) -> Self {
        Self(offset)
    }

    /// Returns the offset of the trigger page.
    pub fn offset(self) -> u64 {
        self.0
    }
}

impl Context {
    /// Opens `/dev/uxive`.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(PATH)?;

        Ok(Self { file })
    }

    /// Allocates an interrupt. It signals nothing until it is bound.
    pub fn allocate(&self) -> io::Result<Irq> {
        let mut argument = abi::IrqAlloc::default();

        abi::call(self, &mut argument)?;
        Ok(Irq(argument.offset))
    }

    /// Frees an interrupt. Its page leaves all mappings: ringing it raises `SIGBUS` from now on.
    pub fn free(&self, irq: Irq) -> io::Result<()> {
        abi::call(
            self,
            &mut abi::IrqFree {
                offset: irq.offset(),
            },
        )
    }

    /// Has the interrupt signal an eventfd, instead of the one before if there was one.
    pub fn bind(&self, irq: Irq, eventfd: impl AsFd) -> io::Result<()> {
        self.set_fd(irq, eventfd.as_fd().as_raw_fd())
    }

    /// Has the interrupt signal nothing.
    pub fn unbind(&self, irq: Irq) -> io::Result<()> {
        self.set_fd(irq, -1)
    }

    fn set_fd(&self, irq: Irq, eventfd: i32) -> io::Result<()> {
        let mut argument = abi::IrqSetFd {
            offset: irq.offset(),
            eventfd,
            ..Default::default()
        };

        abi::call(self, &mut argument)
    }

    /// Maps the trigger page of an interrupt.
    pub fn doorbell(&self, irq: Irq) -> io::Result<Doorbell> {
        let offsets = irq.offset()..irq.offset().saturating_add(page_size() as u64);
        let mapping = Mapping::new(&self.file, ProtFlags::WRITE, offsets)?;
        let page = mapping.address().cast();

        // INVARIANT: The mapping is a page for writing.
        Ok(Doorbell {
            page,
            _mapping: Arc::new(mapping),
        })
    }

    /// Has the program drain the context's event queue by itself, and allocates `irqs` interrupts,
    /// in the slots from 0 on.
    ///
    /// Fails with `EBUSY` if the context has an interrupt, or had one.
    pub fn drain(self, irqs: u32) -> io::Result<Drain> {
        Drain::new(self, irqs)
    }
}

impl AsFd for Context {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Rings one interrupt, from any thread.
///
/// It keeps the context's file in use. Ringing an interrupt that has been freed raises `SIGBUS`.
///
/// # Invariants
///
/// `page` is the beginning of a page of `_mapping`, which is a part of a context for writing.
#[derive(Clone, Debug)]
pub struct Doorbell {
    page: NonNull<u64>,
    _mapping: Arc<Mapping>,
}

// SAFETY: The page belongs to the process, not to a thread.
unsafe impl Send for Doorbell {}

// SAFETY: Each access is one store to a device, which it orders by itself.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// # Safety
    ///
    /// `page` must be the beginning of a page of `mapping`, which must be a part of a context for
    /// writing.
    pub(crate) unsafe fn new(page: NonNull<u64>, mapping: Arc<Mapping>) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            page,
            _mapping: mapping,
        }
    }

    /// Rings. What the thread wrote before is visible to who takes the event.
    #[inline]
    pub fn ring(&self) {
        // SAFETY: By the type invariants the page is mapped for writing while `self` is borrowed.
        // What a program can write in a context are pages of a device.
        unsafe { esb::ring(self.page) };
    }
}
