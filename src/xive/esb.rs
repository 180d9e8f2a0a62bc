// SPDX-License-Identifier: GPL-2.0

//! The ESB of an interrupt source, and where those of a chip are mapped.

use super::{
    ChipId,
    QuiesceError, //
};
use crate::{
    bindings as extra,
    kernel_ext::{
        fault::injectable,
        mmio::in_be64, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    ffi,
    prelude::*, //
};

/// The bits of an ESB, as loads from the management page return them.
pub(super) const PQ_MASK: u64 = (extra::XIVE_ESB_VAL_P | extra::XIVE_ESB_VAL_Q) as u64;

/// PQ=01: an ESB that is off.
pub(super) const PQ_OFF: u64 = extra::XIVE_ESB_VAL_Q as u64;

/// Distance of the ESBs of consecutive LISNs of a chip, as a power of two: two pages of 64 KiB.
pub(super) const ESB_SHIFT: u32 = 17;

/// Size of each of the two pages of an ESB: offset of the management page.
pub(super) const ESB_PAGE: usize = 0x10000;

/// How many ESBs the kernel maps at a time, as a power of two: 1 GiB of them.
const ESB_WINDOW_SHIFT: u32 = 13;

/// How many tries there are to switch a source or an escalation off.
pub(super) const OFF_TRIES: usize = 8;

/// Asks firmware about `lisn`, and maps its ESB into `data`, for `xive_cleanup_irq_data` to undo. Calls
/// `refused` if that fails, which is in the log then: see [`LastRefusal`](super::refusal::LastRefusal).
///
/// # Errors
///
/// `EIO` if firmware refuses, `ENOMEM` if the ESB cannot be mapped.
pub(super) fn populate(
    lisn: u32,
    data: &mut extra::xive_irq_data,
    refused: impl FnOnce(Error),
) -> Result {
    injectable!(
        uxive_populate_esb,
        EIO,
        // SAFETY: `data` is valid for writes, and any LISN may be asked for.
        to_result(unsafe { extra::xive_native_populate_irq_data(lisn, data) })
            // The C side calls a refusal an invalid argument.
            .map_err(|error| if error == EINVAL { EIO } else { error })
            .inspect_err(|&error| refused(error))
    )
}

/// Returns whether an ESB has two pages of 64 KiB, the trigger page first. Sources of some devices
/// have one page for both. Such a source is not for programs: one that may ring it could switch it
/// off, too.
pub(super) fn has_two_pages(data: &extra::xive_irq_data) -> bool {
    data.esb_shift == ESB_SHIFT
        && data.trig_page != 0
        && data.trig_page % (1 << ESB_SHIFT) == 0
        && data.trig_page.checked_add(ESB_PAGE as u64) == Some(data.eoi_page)
}

/// Returns the [`Esb::eoi_store`] of the interrupt.
pub(super) fn eoi_store(data: &extra::xive_irq_data) -> u16 {
    if data.flags & u64::from(extra::XIVE_IRQ_FLAG_STORE_EOI) == 0 {
        return 0;
    }
    extra::XIVE_ESB_STORE_EOI as u16
}

/// The ESBs of some consecutive LISNs of a chip, mapped into the kernel.
///
/// Each chip has its ESBs in one range of physical addresses, in the order of its LISNs, so that
/// their addresses need not be asked from firmware one by one. Mapped when first needed, unmapped
/// with the [`Platform`](super::Platform).
///
/// # Invariants
///
/// `virt` is where the ESBs of the `1 << ESB_WINDOW_SHIFT` LISNs that share `number` are mapped, and
/// `phys` their physical address.
pub(super) struct EsbWindow {
    number: u32,
    chip: ChipId,
    phys: u64,
    virt: NonNull<u8>,
    eoi_store: u16,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for EsbWindow {}

impl EsbWindow {
    const LEN: usize = 1 << (ESB_WINDOW_SHIFT + ESB_SHIFT);

    /// Maps the ESBs around that of `lisn`, which must be ours. `refused` is as for [`populate`].
    ///
    /// # Errors
    ///
    /// `ENOMEM` if it cannot be mapped, `EIO` if firmware tells of another layout than two pages of
    /// 64 KiB, the trigger page first. Programs may have the first one only.
    pub(super) fn new(lisn: u32, refused: impl FnOnce(Error)) -> Result<Self> {
        let mut data = extra::xive_irq_data::default();

        populate(lisn, &mut data, refused)?;
        let (trigger, fit) = (data.trig_page, has_two_pages(&data));
        let eoi_store = eoi_store(&data);
        // SAFETY: `data` was filled above.
        unsafe { extra::xive_cleanup_irq_data(&mut data) };
        if !fit {
            return Err(EIO);
        }
        let chip = ChipId(u32::try_from(data.src_chip).map_err(|_| EIO)?);

        let first = lisn >> ESB_WINDOW_SHIFT << ESB_WINDOW_SHIFT;
        let before = u64::from(lisn - first) << ESB_SHIFT;
        let phys = trigger.checked_sub(before).ok_or(EIO)?;
        let virt = injectable!(
            uxive_map_esbs,
            ENOMEM,
            // SAFETY: The range holds ESBs only: firmware lays out those of a chip one after another,
            // and a chip has a multiple of this many.
            NonNull::new(unsafe { bindings::ioremap(phys, Self::LEN) }).ok_or(ENOMEM)
        )?;

        // INVARIANT: Just mapped.
        Ok(Self {
            number: lisn >> ESB_WINDOW_SHIFT,
            chip,
            phys,
            virt: virt.cast(),
            eoi_store,
        })
    }

    pub(super) fn covers(&self, lisn: u32) -> bool {
        lisn >> ESB_WINDOW_SHIFT == self.number
    }

    /// Returns the ESB of `lisn`.
    pub(super) fn esb(&self, lisn: u32) -> Result<Esb> {
        if !self.covers(lisn) {
            return Err(EIO);
        }
        let offset = ((lisn & ((1 << ESB_WINDOW_SHIFT) - 1)) as usize) << ESB_SHIFT;

        // INVARIANT: The LISN is covered, so its ESB lies in the window.
        Ok(Esb {
            phys: self.phys + offset as u64,
            // SAFETY: As above.
            management: unsafe { self.virt.add(offset + ESB_PAGE) },
            chip: self.chip,
            trigger_before: 1,
            eoi_store: self.eoi_store,
        })
    }
}

impl Drop for EsbWindow {
    fn drop(&mut self) {
        // SAFETY: Mapped by the type invariants. The owner of an `Esb` of it keeps the `Platform`.
        unsafe { bindings::iounmap(self.virt.as_ptr().cast()) };
    }
}

/// The ESB of a source.
///
/// # Invariants
///
/// `management` is where the management page is mapped. The trigger page lies `trigger_before`
/// pages before it: 1, or 0 if it is the same page. Both are mapped as long as the `Platform`
/// lives, or the message if it is the source of one; the owner of the object keeps that alive.
/// `phys` is the address of the trigger page.
#[derive(Clone, Copy)]
pub(super) struct Esb {
    pub(super) phys: u64,
    pub(super) management: NonNull<u8>,
    pub(super) chip: ChipId,
    pub(super) trigger_before: u8,
    /// Where a store to the management page ends the interrupt, or 0 if a load does.
    // No `bool` or `Option`: the compiler would tell `Option<Esb>` by it, and move each part by itself.
    pub(super) eoi_store: u16,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for Esb {}

// SAFETY: A shared reference allows only single loads and stores of a device.
unsafe impl Sync for Esb {}

impl Esb {
    pub(super) fn management(&self, offset: u32) -> *mut ffi::c_void {
        self.management
            .as_ptr()
            .wrapping_add(offset as usize)
            .cast()
    }

    /// Loads from the management page, which sets P and Q as `offset` says. Returns their old
    /// values.
    #[inline]
    pub(super) fn load(&self, offset: u32) -> u64 {
        // SAFETY: Mapped by the type invariants; all offsets lie within a page of 4 KiB.
        unsafe { in_be64(self.management(offset)) }
    }

    /// Returns P and Q, as bits 1 and 0, and leaves them alone.
    pub(super) fn pq(&self) -> u64 {
        self.load(extra::XIVE_ESB_GET) & PQ_MASK
    }

    /// Events are sent from now on.
    pub(super) fn switch_on(&self) {
        self.load(extra::XIVE_ESB_SET_PQ_00);
    }

    /// As [`Source::switch_off`](super::Source::switch_off), of the source `lisn`, whose ESB it is.
    #[inline(always)]
    pub(super) fn switch_off(&self, lisn: u32, is_idle: bool) -> Result<(), QuiesceError> {
        injectable!(uxive_switch_off_source, QuiesceError::Source, 'tried: {
            for _ in 0..OFF_TRIES {
                self.load(extra::XIVE_ESB_SET_PQ_01);
                if !is_idle {
                    // SAFETY: The LISN is that of the owner of the ESB.
                    unsafe { extra::xive_native_sync_source(lisn) };
                }
                if self.pq() == PQ_OFF {
                    break 'tried Ok(());
                }
            }
            Err(QuiesceError::Source)
        })
    }

    /// Ends the interrupt: one that came meanwhile is sent now.
    #[inline]
    pub(super) fn eoi(&self) {
        if self.eoi_store != 0 {
            // SAFETY: Mapped by the type invariants, and the hardware has this store.
            unsafe { extra::uxive_out_be64(self.management(self.eoi_store.into()), 0) };
        } else if self.load(extra::XIVE_ESB_SET_PQ_00) & u64::from(extra::XIVE_ESB_VAL_Q) != 0 {
            self.trigger();
        }
    }

    /// Raises the interrupt.
    #[inline]
    pub(super) fn trigger(&self) {
        let before = usize::from(self.trigger_before) * ESB_PAGE;
        let trigger = self.management.as_ptr().wrapping_sub(before);

        // SAFETY: The trigger page is mapped there, by the type invariants.
        unsafe { extra::uxive_out_be64(trigger.cast(), 0) };
    }

    /// Sets P, so that events wait in Q from now on. Returns whether P was set before: an event was sent,
    /// and its interrupt was not ended. One that was in Q is forgotten.
    pub(super) fn hold(&self) -> bool {
        self.load(extra::XIVE_ESB_SET_PQ_10) & u64::from(extra::XIVE_ESB_VAL_P) != 0
    }

    /// Sets P, as if an event had been sent: events that come until the interrupt is ended wait in
    /// Q. Returns `false` if an event was sent before.
    pub(super) fn park(&self) -> bool {
        let sent = |pq: u64| pq & u64::from(extra::XIVE_ESB_VAL_P) != 0;

        // Reads first, since the second load sets Q to 0: an event in Q would be lost.
        !sent(self.pq()) && !self.hold()
    }
}

#[kunit_tests(uxive_esb)]
mod tests {
    use super::*;

    fn esb(esb_shift: u32, trig_page: u64, eoi_page: u64) -> extra::xive_irq_data {
        extra::xive_irq_data {
            esb_shift,
            trig_page,
            eoi_page,
            ..Default::default()
        }
    }

    #[test]
    fn two_pages_can_be_told_apart() {
        assert!(has_two_pages(&esb(17, 0x6_0000_0000, 0x6_0001_0000)));
    }

    #[test]
    fn one_page_for_both_is_refused() {
        assert!(!has_two_pages(&esb(17, 0x6_0000_0000, 0x6_0000_0000)));
        assert!(!has_two_pages(&esb(16, 0x6_0000_0000, 0x6_0000_0000)));
    }

    #[test]
    fn other_layouts_are_refused() {
        // The management page first, pages of another size, pages that are not aligned.
        assert!(!has_two_pages(&esb(17, 0x6_0001_0000, 0x6_0000_0000)));
        assert!(!has_two_pages(&esb(13, 0x6_0000_0000, 0x6_0000_1000)));
        assert!(!has_two_pages(&esb(17, 0x6_0001_0000, 0x6_0002_0000)));
        assert!(!has_two_pages(&esb(17, 0, 0)));
        // No trigger page: the kernel has mapped none.
        assert!(!has_two_pages(&esb(17, 0, 0x1_0000)));
    }
}
