// SPDX-License-Identifier: GPL-2.0

//! A domain of Linux interrupts on top of the default one, for interrupts that another takes.
//!
//! Would go to `rust/kernel/irq/domain.rs`. The crate has no domains.
//!
//! Linux only keeps a record of such an interrupt. It has a number that cannot be requested, and so is
//! never activated nor started. The one that takes it calls `irq_set_vcpu_affinity()`, which does nothing
//! here: the owner of the interrupt has done all that there is to do.
//!
//! C header: [`include/linux/irqdomain.h`](srctree/include/linux/irqdomain.h)

use super::{
    bindings as extra,
    fault::injectable, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    ffi,
    prelude::*,
    sync::Arc, //
};

/// The domain.
///
/// # Invariants
///
/// `domain` was made with `chip`, and has no interrupts when this is dropped.
pub(crate) struct ChildDomain {
    domain: NonNull<bindings::irq_domain>,
    // Referred to by the domain.
    _chip: KBox<bindings::irq_chip>,
}

// SAFETY: A domain is not bound to a thread.
unsafe impl Send for ChildDomain {}

// SAFETY: The C side synchronizes what is done to a domain.
unsafe impl Sync for ChildDomain {}

impl ChildDomain {
    /// Makes it, with a chip called `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(name: &'static CStr) -> Result<Arc<Self>> {
        let chip = bindings::irq_chip {
            name: name.as_char_ptr(),
            irq_set_vcpu_affinity: Some(Self::set_vcpu_affinity),
            ..pin_init::zeroed()
        };
        let mut chip = KBox::new(chip, GFP_KERNEL)?;
        // SAFETY: The chip lives until the domain is removed.
        let domain = unsafe { extra::uxive_irq_domain_create_child(&raw mut *chip) };

        // INVARIANT: Made just now. An interrupt refers to this object.
        Ok(Arc::new(
            Self {
                domain: NonNull::new(domain).ok_or(ENOMEM)?,
                _chip: chip,
            },
            GFP_KERNEL,
        )?)
    }

    /// Makes the Linux interrupt of the interrupt that has the number `hwirq` in the default domain.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, `EINVAL` if the default domain refuses.
    ///
    /// # Safety
    ///
    /// The caller must own `hwirq`, with no other Linux interrupt of it, as long as the object lives.
    pub(crate) unsafe fn allocate(self: &Arc<Self>, mut hwirq: u32) -> Result<ChildIrq> {
        let virq = injectable!(uxive_alloc_child_irq, ENOMEM, {
            // SAFETY: The domain is valid by the type invariants, and takes a pointer to the number.
            let virq = unsafe {
                bindings::__irq_domain_alloc_irqs(
                    self.domain.as_ptr(),
                    -1,
                    1,
                    bindings::NUMA_NO_NODE,
                    (&raw mut hwirq).cast(),
                    false,
                    core::ptr::null(),
                )
            };
            to_result(virq).map(|()| virq)
        })?;

        // INVARIANT: Made just now.
        Ok(ChildIrq {
            virq: virq as ffi::c_uint,
            _domain: self.clone(),
        })
    }

    /// Called with interrupts off, under the lock of the interrupt's descriptor.
    ///
    /// # Safety
    ///
    /// It has no requirements.
    unsafe extern "C" fn set_vcpu_affinity(
        _data: *mut bindings::irq_data,
        _info: *mut ffi::c_void,
    ) -> ffi::c_int {
        0
    }
}

impl Drop for ChildDomain {
    fn drop(&mut self) {
        // SAFETY: Valid by the type invariants, and without interrupts.
        unsafe { bindings::irq_domain_remove(self.domain.as_ptr()) };
    }
}

/// A Linux interrupt of a [`ChildDomain`].
///
/// # Invariants
///
/// `virq` was allocated there, and is this object's.
pub(crate) struct ChildIrq {
    virq: ffi::c_uint,
    _domain: Arc<ChildDomain>,
}

impl ChildIrq {
    /// Returns its number.
    pub(crate) fn number(&self) -> u32 {
        self.virq
    }
}

impl Drop for ChildIrq {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariants.
        unsafe { bindings::irq_domain_free_irqs(self.virq, 1) };
    }
}
