// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A virtual machine and its memslots.
//!
//! `Documentation/virt/kvm/api.rst` describes all calls.

use crate::{
    abi,
    memory::Memory,
    pages::Pages, //
};
use std::{
    collections::HashMap,
    fs::{
        File,
        OpenOptions, //
    },
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd,
        FromRawFd,
        OwnedFd, //
    },
    sync::{
        Arc,
        Mutex,
        PoisonError, //
    }, //
};

/// A virtual machine. Virtual CPUs and devices keep it.
///
/// # Invariants
///
/// `slots` has the pages of all memslots that KVM has: the guest reaches nothing else of this process.
#[derive(Debug)]
pub struct Vm {
    file: OwnedFd,
    /// Size of what a virtual CPU shares with this process.
    pub(crate) run_size: usize,
    slots: Mutex<HashMap<u32, (u64, Arc<Pages>)>>,
}

/// Takes the descriptor that an ioctl has made.
///
/// # Safety
///
/// An ioctl that makes a descriptor must have returned this.
pub(crate) unsafe fn made(fd: i32) -> OwnedFd {
    // SAFETY: It is new and nobody else's, as the caller promises.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl Vm {
    /// Makes a virtual machine, of KVM-HV and no other: the others have no XIVE.
    pub fn new() -> io::Result<Arc<Self>> {
        let kvm: File = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
        let file = abi::ioctl_number(&kvm, abi::KVM_CREATE_VM, abi::KVM_VM_PPC_HV)?;

        Ok(Arc::new(Self {
            // SAFETY: The call makes one.
            file: unsafe { made(file) },
            run_size: abi::ioctl_number(&kvm, abi::KVM_GET_VCPU_MMAP_SIZE, 0)? as usize,
            slots: Mutex::default(),
        }))
    }

    /// Shows pages to the guest, at a guest address. The pages live on until the slot is deleted,
    /// and what is mapped at their addresses later is the guest's, too.
    pub fn show(&self, slot: u32, address: u64, pages: &Arc<Pages>) -> io::Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);

        if slots.contains_key(&slot) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.set(slot, address, pages, pages.length())?;
        // INVARIANT: KVM has this slot now, too.
        slots.insert(slot, (address, pages.clone()));
        Ok(())
    }

    /// Shows memory to the guest.
    pub fn show_memory(&self, slot: u32, address: u64, memory: &Memory) -> io::Result<()> {
        self.show(slot, address, memory.pages())
    }

    /// Deletes a memslot: from now on an access there is `KVM_EXIT_MMIO`. No virtual CPU reaches
    /// the pages any more when this returns.
    pub fn delete(&self, slot: u32) -> io::Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (address, pages) = slots.get(&slot).ok_or(io::ErrorKind::NotFound)?;

        self.set(slot, *address, pages, 0)?;
        slots.remove(&slot);
        Ok(())
    }

    fn set(&self, slot: u32, address: u64, pages: &Pages, length: usize) -> io::Result<()> {
        let mut region = abi::MemoryRegion {
            slot,
            flags: 0,
            guest_phys_addr: address,
            memory_size: length as u64,
            userspace_addr: pages.address().as_ptr() as u64,
        };

        // SAFETY: The guest may write anything at those addresses: nobody relies on what pages
        // hold, and memory is used by atomics only. The callers keep the pages as long as KVM has
        // the slot.
        unsafe { abi::ioctl(&self.file, abi::KVM_SET_USER_MEMORY_REGION, &mut region) }?;
        Ok(())
    }

    /// Has an eventfd raise an interrupt of the guest, whenever it is signalled.
    pub fn irqfd(&self, event: impl AsFd, interrupt: u32) -> io::Result<()> {
        self.set_irqfd(event, interrupt, 0)
    }

    /// Undoes [`Vm::irqfd`].
    pub fn no_irqfd(&self, event: impl AsFd, interrupt: u32) -> io::Result<()> {
        self.set_irqfd(event, interrupt, abi::KVM_IRQFD_FLAG_DEASSIGN)
    }

    fn set_irqfd(&self, event: impl AsFd, interrupt: u32, flags: u32) -> io::Result<()> {
        let mut irqfd = abi::Irqfd {
            fd: event.as_fd().as_raw_fd() as u32,
            gsi: interrupt,
            flags,
            ..Default::default()
        };

        // SAFETY: There is no address in it.
        unsafe { abi::ioctl(&self.file, abi::KVM_IRQFD, &mut irqfd) }?;
        Ok(())
    }

    /// Signals an eventfd when the guest stores 8 bytes at an address that no memslot has.
    pub fn ioeventfd(&self, event: impl AsFd, address: u64) -> io::Result<()> {
        let mut argument = abi::IoEventfd {
            datamatch: 0,
            addr: address,
            len: 8,
            fd: event.as_fd().as_raw_fd(),
            flags: 0,
            pad: [0; 36],
        };

        // SAFETY: The address in it is the guest's.
        unsafe { abi::ioctl(&self.file, abi::KVM_IOEVENTFD, &mut argument) }?;
        Ok(())
    }
}

impl AsFd for Vm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
