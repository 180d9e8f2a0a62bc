// SPDX-License-Identifier: GPL-2.0

//! Messages of a PCI function that have no fixed place: of an interrupt message store (IMS).
//!
//! Would go to `rust/kernel/pci/irq.rs`, which has the vectors of MSI and MSI-X only.
//!
//! The PCI core makes the interrupts of the MSI and the MSI-X capability, and writes their messages
//! there. A [`MsiIrq`] comes from the same domain, that of the host bridge, and its owner writes it
//! to wherever the function has a place for it. There is no domain of the function's own in between:
//! it would be for a chip that masks and unmasks at that place, and nobody would call that.
//!
//! Linux only keeps a record of the interrupt. It has a number that cannot be requested, and so is
//! never activated nor started. The irq core, CPU hotplug, suspend and kexec skip interrupts that
//! are not started. An interrupt that nobody has requested has no directory in `/proc/irq`, so
//! nothing moves it to another CPU. Its owner routes it with the interrupt controller: see
//! [`MsiIrq::source`].
//!
//! C headers: [`include/linux/irqdomain.h`](srctree/include/linux/irqdomain.h),
//! [`include/linux/msi.h`](srctree/include/linux/msi.h)

use super::{
    bindings as extra,
    fault::injectable, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    device,
    error::to_result,
    ffi,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// Returns the device as the C side has it.
fn as_raw(dev: &device::Device) -> *mut bindings::device {
    // A `Device` is transparent.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// Where messages of a PCI function come from: the domain of its host bridge.
///
/// # Invariants
///
/// `domain` is what is described at [`Self::new`], and valid as long as the device.
pub(crate) struct MessageDomain {
    dev: ARef<device::Device>,
    domain: NonNull<bindings::irq_domain>,
}

// SAFETY: A domain is not bound to a thread.
unsafe impl Send for MessageDomain {}

// SAFETY: The C side synchronizes what is done to a domain.
unsafe impl Sync for MessageDomain {}

impl MessageDomain {
    /// # Errors
    ///
    /// `ENODEV` if the function cannot have messages.
    ///
    /// # Safety
    ///
    /// The domain of the function's host bridge must stay as long as the function is referred to, and
    /// need nothing but the descriptor to make an interrupt; so it is on powernv. Others want to
    /// prepare the device first.
    pub(crate) unsafe fn new(dev: &pci::Device<device::Bound>) -> Result<Self> {
        let dev: ARef<device::Device> = AsRef::<device::Device<_>>::as_ref(dev).into();
        // SAFETY: The device is valid. Its domain was set before a driver was bound to it.
        let domain = NonNull::new(unsafe { (*as_raw(&dev)).msi.domain }).ok_or(ENODEV)?;

        // SAFETY: Valid as the device is, by the contract of the function.
        if unsafe { domain.as_ref() }.flags & bindings::IRQ_DOMAIN_FLAG_MSI_PARENT == 0 {
            return Err(ENODEV);
        }

        // INVARIANT: The caller promises it.
        Ok(Self { dev, domain })
    }

    /// Returns which host bridge it is of.
    pub(crate) fn bridge(&self) -> BridgeId {
        BridgeId(self.domain.as_ptr().addr())
    }

    /// Returns the first cells of the property `name` that the host bridge has in the device tree.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it has no such property, or a shorter one.
    pub(crate) fn bridge_cells<const N: usize>(&self, name: &CStr) -> Result<[u32; N]> {
        let mut cells = [0; N];

        // SAFETY: The domain and its node are valid by the type invariants, and there may be no node. The
        // name is NUL-terminated, and there is room for so many cells.
        to_result(unsafe {
            bindings::fwnode_property_read_u32_array(
                self.domain.as_ref().fwnode,
                name.as_char_ptr(),
                cells.as_mut_ptr(),
                N,
            )
        })
        .map_err(|_| ENODEV)?;
        Ok(cells)
    }

    /// Makes a message. May sleep.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` if the host bridge has no more, of which it writes a line to the log.
    /// - `ENOMEM` if there is no memory, `EIO` if the message cannot be composed.
    pub(crate) fn allocate(&self) -> Result<MsiIrq> {
        let desc = Descriptor::new(self.dev.clone())?;
        let mut info = bindings::msi_alloc_info {
            desc: desc.raw.as_ptr(),
            ..Default::default()
        };

        let virq = injectable!(uxive_alloc_message, ENOSPC, {
            // SAFETY: The domain is valid by the type invariants, and `info` what it takes.
            let virq = unsafe {
                bindings::__irq_domain_alloc_irqs(
                    self.domain.as_ptr(),
                    -1,
                    1,
                    bindings::NUMA_NO_NODE,
                    (&raw mut info).cast(),
                    false,
                    core::ptr::null(),
                )
            };
            to_result(virq).map(|()| virq)
        })?;

        // INVARIANT: Just allocated.
        let mut message = MsiIrq {
            virq: virq as ffi::c_uint,
            address: 0,
            data: 0,
            desc,
        };
        message.compose()?;
        Ok(message)
    }
}

/// A host bridge, as far as it is told from others: each has a domain of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BridgeId(usize);

/// The descriptor by which the domain knows the device of a message.
///
/// # Invariants
///
/// `raw` was made for `dev` by `uxive_msi_desc_new`, and is this object's.
struct Descriptor {
    raw: NonNull<bindings::msi_desc>,
    // Referred to by the other.
    _dev: ARef<device::Device>,
}

impl Descriptor {
    fn new(dev: ARef<device::Device>) -> Result<Self> {
        // SAFETY: The device is valid, and stays as long as the descriptor.
        let raw = unsafe { extra::uxive_msi_desc_new(as_raw(&dev)) };

        // INVARIANT: Made just now.
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            _dev: dev,
        })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariants, and made by `kmalloc`.
        unsafe { bindings::kfree(self.raw.as_ptr().cast()) };
    }
}

/// An interrupt that a PCI function raises by writing a message.
///
/// Freed when dropped; it can be forgotten instead, if the function may write for ever. Outlives
/// the function's driver, and the function.
///
/// # Invariants
///
/// `virq` was allocated by [`MessageDomain::allocate`] with `desc`, is this object's, and nothing but
/// `__irq_domain_alloc_irqs` was done to it.
pub(crate) struct MsiIrq {
    virq: ffi::c_uint,
    address: u64,
    data: u32,
    // Referred to by the interrupt. Freed when that is gone.
    desc: Descriptor,
}

// SAFETY: An interrupt is not bound to a thread.
unsafe impl Send for MsiIrq {}

// SAFETY: A shared reference gives away numbers, and a pointer for others to take care of.
unsafe impl Sync for MsiIrq {}

impl MsiIrq {
    /// Keeps the interrupt from being requested, and has the message composed.
    fn compose(&mut self) -> Result {
        let keep_off = bindings::IRQ_NOREQUEST | bindings::IRQ_NOPROBE | bindings::IRQ_NO_BALANCING;

        self.address = injectable!(uxive_compose_message, EIO, {
            // SAFETY: The interrupt is there, nobody else knows of it yet, and the descriptor with which
            // it was made stays until it goes.
            let address = unsafe {
                bindings::irq_modify_status(self.virq, 0, keep_off as ffi::c_ulong);
                extra::uxive_msi_compose(self.desc.raw.as_ptr(), self.virq, &mut self.data)
            };
            match address {
                0 => Err(EIO),
                _ => Ok(address),
            }
        })?;
        Ok(())
    }

    /// Returns the number of the Linux interrupt.
    pub(crate) fn number(&self) -> u32 {
        self.virq
    }

    /// Returns the address that the function has to write to, on its bus.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Returns the data that it has to write there, 4 bytes.
    pub(crate) fn data(&self) -> u32 {
        self.data
    }

    /// Returns the interrupt controller's data of the interrupt, valid as long as `self`.
    pub(crate) fn source(&self) -> NonNull<bindings::irq_data> {
        // SAFETY: The interrupt is there, so it has an `irq_data`, and a hierarchy of them does not
        // change as long as it is.
        unsafe {
            let mut data = bindings::irq_get_irq_data(self.virq);
            while !(*data).parent_data.is_null() {
                data = (*data).parent_data;
            }
            NonNull::new_unchecked(data)
        }
    }
}

impl Drop for MsiIrq {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariants.
        unsafe { bindings::irq_domain_free_irqs(self.virq, 1) };
    }
}
