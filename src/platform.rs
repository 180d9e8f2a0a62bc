// SPDX-License-Identifier: GPL-2.0

//! What the driver asks of the machine: XIVE's interrupt sources and event queues, through OPAL.
//!
//! The one place that names OPAL, XIVE and powernv.
//!
//! An interrupt source is known by its LISN (logical interrupt source number). It has an ESB (event
//! state buffer) of two bits, P (pending) and Q (queued), behind two pages of 64 KiB: the trigger
//! page, where an 8-byte store raises the interrupt, and the management page, where loads read and
//! set P and Q. PQ=01 is off. An event sets P, and is routed; another while P is set only sets Q.
//! The EOI (end of interrupt) clears P, and sends the event that Q stands for. Only the trigger page
//! may reach a program.
//!
//! A source is routed to a VP (virtual processor) at a priority, which has an event queue: memory
//! in which hardware writes an entry per event, with the number (EISN) that the source was given.
//! The VPs of this driver never run on a CPU. So each event makes the queue's END (event
//! notification descriptor) escalate: it raises an interrupt of its own, with an ESB of its own,
//! the ESe, and that one goes to Linux.
//!
//! C headers: `arch/powerpc/include/asm/{xive,xive-regs}.h`; the other user of these interfaces is
//! KVM, `arch/powerpc/kvm/book3s_xive_native.c`.

use crate::kernel_ext::{
    bindings as extra,
    cpuhp::CpuDeadList,
    irq::{
        BoundedHandler,
        IrqHandler,
        IrqMapping, //
    },
    mapping::UserPage,
    pages::ContiguousPages, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    cpu::CpuId,
    error::to_result,
    ffi,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// What OPAL calls the interrupt controller in the device tree. The kernel's own driver matches it
/// too, in `arch/powerpc/sysdev/xive/native.c`.
const OPAL_XIVE_COMPATIBLE: &CStr = c"ibm,opal-xive-pe";

/// The priority at which sources are routed to our VPs: the lowest but one, as 7 is the gather
/// queue of single escalation. VPs that never run have nothing to prioritize.
const PRIORITY: u8 = 6;

/// The queue size, as a power of two in bytes, that every XIVE supports along with 4 KiB.
const QUEUE_ORDER: u32 = 16;

/// The size of an event queue in bytes.
pub(crate) const QUEUE_BYTES: usize = 1 << QUEUE_ORDER;

/// The number of entries, of 4 bytes, that an event queue has room for.
pub(crate) const QUEUE_ENTRIES: usize = QUEUE_BYTES / size_of::<u32>();

/// Distance of the ESBs of consecutive LISNs of a chip, as a power of two: two pages of 64 KiB.
const ESB_SHIFT: u32 = 17;

/// Offset of the management page in an ESB.
const ESB_MANAGEMENT: usize = 0x10000;

/// How many ESBs the kernel maps at a time, as a power of two: 1 GiB of them.
const ESB_WINDOW_SHIFT: u32 = 13;

/// The most sources that are kept for new interrupts instead of being given back to OPAL.
///
/// OPAL looks for a free LISN from the first on, which takes the longer the more are in use.
const RESERVE_PER_CHIP: usize = 256;

/// A chip of the machine, as OPAL numbers them, or "any".
#[derive(Clone, Copy, PartialEq, Eq)]
struct ChipId(u32);

impl ChipId {
    const ANY: Self = Self(extra::OPAL_XIVE_ANY_CHIP);

    /// Returns the chip that the caller runs on, or did a moment ago.
    fn current() -> Self {
        let cpu = CpuId::current().as_u32();

        // SAFETY: Any CPU number may be asked for.
        match u32::try_from(unsafe { bindings::cpu_to_chip_id(cpu as ffi::c_int) }) {
            Ok(chip) => Self(chip),
            Err(_) => Self::ANY,
        }
    }
}

/// A source that is allocated and not in use: off and quiet.
///
/// # Invariants
///
/// OPAL has allocated `lisn` to us, nothing else refers to it, and `esb` is its ESB.
struct SpareSource {
    lisn: u32,
    esb: Esb,
}

/// Sources of a chip that are not in use and not given back to OPAL.
struct Reserve {
    chip: ChipId,
    // Never more than the capacity that it is made with.
    spares: KVec<SpareSource>,
}

impl Reserve {
    fn new(chip: ChipId) -> Result<Self> {
        Ok(Self {
            chip,
            spares: KVec::with_capacity(RESERVE_PER_CHIP, GFP_KERNEL)?,
        })
    }
}

/// The machine, of which this driver has interrupts.
#[pin_data(PinnedDrop)]
pub(crate) struct Platform {
    /// Guards the reserves; innermost, see `context.rs`.
    #[pin]
    reserves: Mutex<KVec<Reserve>>,
    /// Guards the list of mapped ESBs; innermost, likewise.
    #[pin]
    windows: Mutex<KVec<EsbWindow>>,
}

#[pinned_drop]
impl PinnedDrop for Platform {
    fn drop(self: Pin<&mut Self>) {
        for spare in self.reserves.lock().iter().flat_map(|r| r.spares.iter()) {
            // SAFETY: OPAL gave it to us, and nothing refers to it.
            unsafe { extra::xive_native_free_irq(spare.lisn) };
        }
    }
}

impl Platform {
    /// Checks that the kernel drives XIVE through OPAL, in a way that this driver can use.
    ///
    /// # Errors
    ///
    /// - `ENODEV` under a hypervisor, on POWER8, and when booted with `xive=off`; also where XIVE
    ///   has no single escalation, without which firmware for POWER10 misroutes escalations.
    /// - `ENOMEM` if there is no memory.
    pub(crate) fn new() -> Result<Arc<Self>> {
        // SAFETY: The variable is set at boot and not changed later.
        if !unsafe { extra::__xive_enabled } {
            return Err(ENODEV);
        }

        // `__xive_enabled` is set in pseries guests too, where there is no OPAL to ask.
        //
        // SAFETY: Null pointers mean the whole tree and any type. The string is NUL-terminated.
        let node = unsafe {
            bindings::of_find_compatible_node(
                core::ptr::null_mut(),
                core::ptr::null(),
                OPAL_XIVE_COMPATIBLE.as_char_ptr(),
            )
        };
        // SAFETY: The node is null, which is allowed, or the search took a reference to it.
        unsafe { extra::uxive_of_node_put(node) };

        // SAFETY: The function has no requirements.
        if node.is_null() || !unsafe { extra::xive_native_has_single_escalation() } {
            return Err(ENODEV);
        }

        let platform = Arc::pin_init(
            pin_init!(Self {
                windows <- new_mutex!(KVec::new(), "uxive_windows"),
                reserves <- new_mutex!(KVec::new(), "uxive_reserves"),
            }),
            GFP_KERNEL,
        )?;
        platform.add_reserve(ChipId::current())?;
        Ok(platform)
    }

    /// Makes and fills the reserve of `chip`, as far as OPAL has LISNs.
    fn add_reserve(&self, chip: ChipId) -> Result {
        let mut reserve = Reserve::new(chip)?;

        while reserve.spares.len() < RESERVE_PER_CHIP {
            let Ok(spare) = self.allocate(chip) else {
                break;
            };
            reserve.spares.push_within_capacity(spare)?;
        }
        Ok(self.reserves.lock().push(reserve, GFP_KERNEL)?)
    }

    /// Allocates a source of `chip` from OPAL.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the chip has none left; those of [`EsbWindow::new`].
    fn allocate(&self, chip: ChipId) -> Result<SpareSource> {
        // SAFETY: `new` has shown that OPAL and XIVE are there.
        let lisn = unsafe { extra::xive_native_alloc_irq_on_chip(chip.0) };

        // Every failure is reported as 0.
        if lisn == 0 {
            return Err(ENOSPC);
        }
        match self.esb(lisn) {
            // INVARIANT: OPAL gave it to us just now.
            Ok(esb) => Ok(SpareSource { lisn, esb }),
            Err(error) => {
                // SAFETY: As above.
                unsafe { extra::xive_native_free_irq(lisn) };
                Err(error)
            }
        }
    }

    /// Takes a source from the reserve of `chip`.
    fn take_spare(&self, chip: ChipId) -> Option<SpareSource> {
        self.reserves
            .lock()
            .iter_mut()
            .find(|reserve| reserve.chip == chip)?
            .spares
            .pop()
    }

    /// Puts a source into the reserve of `chip`, or gives it back to OPAL if that is full.
    fn put_spare(&self, chip: ChipId, spare: SpareSource) {
        let lisn = spare.lisn;

        if self.try_put_spare(chip, spare).is_err() {
            // SAFETY: It is ours, and nothing refers to it. This masks it, too.
            unsafe { extra::xive_native_free_irq(lisn) };
        }
    }

    fn try_put_spare(&self, chip: ChipId, spare: SpareSource) -> Result {
        let mut reserves = self.reserves.lock();

        if let Some(reserve) = reserves.iter_mut().find(|reserve| reserve.chip == chip) {
            return Ok(reserve.spares.push_within_capacity(spare)?);
        }
        let mut reserve = Reserve::new(chip)?;
        reserve.spares.push_within_capacity(spare)?;
        Ok(reserves.push(reserve, GFP_KERNEL)?)
    }

    /// Returns the ESB of `lisn`.
    fn esb(&self, lisn: u32) -> Result<Esb> {
        let mut windows = self.windows.lock();

        if let Some(window) = windows.iter().find(|window| window.covers(lisn)) {
            return window.esb(lisn);
        }
        let window = EsbWindow::new(lisn)?;
        let esb = window.esb(lisn)?;
        windows.push(window, GFP_KERNEL)?;
        Ok(esb)
    }
}

/// The ESBs of some consecutive LISNs of a chip, mapped into the kernel.
///
/// Each chip has its ESBs in one range of physical addresses, in the order of its LISNs, so that
/// their addresses need not be asked from firmware one by one. Mapped when first needed, unmapped
/// with the [`Platform`].
///
/// # Invariants
///
/// `virt` is where the ESBs of the `1 << ESB_WINDOW_SHIFT` LISNs that share `number` are mapped, and
/// `phys` their physical address.
struct EsbWindow {
    number: u32,
    phys: u64,
    virt: NonNull<u8>,
    store_eoi: bool,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for EsbWindow {}

impl EsbWindow {
    const LEN: usize = 1 << (ESB_WINDOW_SHIFT + ESB_SHIFT);

    /// Maps the ESBs around that of `lisn`, which must be ours.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if it cannot be mapped, `EIO` if firmware tells something else than two pages of
    /// 64 KiB, trigger page first, of which the second may not reach a program.
    fn new(lisn: u32) -> Result<Self> {
        let mut data = extra::xive_irq_data::default();

        // SAFETY: `data` is valid for writes, and the function asks firmware about any LISN.
        to_result(unsafe { extra::xive_native_populate_irq_data(lisn, &mut data) })?;
        let (trigger, management) = (data.trig_page, data.eoi_page);
        let fit = data.esb_shift == ESB_SHIFT
            && trigger % (1 << ESB_SHIFT) == 0
            && management == trigger + ESB_MANAGEMENT as u64;
        let store_eoi = data.flags & u64::from(extra::XIVE_IRQ_FLAG_STORE_EOI) != 0;
        // SAFETY: `data` was filled above.
        unsafe { extra::xive_cleanup_irq_data(&mut data) };
        if !fit {
            return Err(EIO);
        }

        let first = lisn >> ESB_WINDOW_SHIFT << ESB_WINDOW_SHIFT;
        let phys = trigger - (u64::from(lisn - first) << ESB_SHIFT);
        // SAFETY: The range holds ESBs only: firmware lays out those of a chip one after another,
        // and a chip has a multiple of this many.
        let virt = unsafe { bindings::ioremap(phys, Self::LEN) };

        // INVARIANT: Just mapped.
        Ok(Self {
            number: lisn >> ESB_WINDOW_SHIFT,
            phys,
            virt: NonNull::new(virt.cast()).ok_or(ENOMEM)?,
            store_eoi,
        })
    }

    fn covers(&self, lisn: u32) -> bool {
        lisn >> ESB_WINDOW_SHIFT == self.number
    }

    /// Returns the ESB of `lisn`.
    fn esb(&self, lisn: u32) -> Result<Esb> {
        if !self.covers(lisn) {
            return Err(EIO);
        }
        let offset = ((lisn & ((1 << ESB_WINDOW_SHIFT) - 1)) as usize) << ESB_SHIFT;

        // INVARIANT: The LISN is covered, so its ESB lies in the window.
        Ok(Esb {
            phys: self.phys + offset as u64,
            // SAFETY: As above.
            virt: unsafe { self.virt.add(offset) },
            store_eoi: self.store_eoi,
        })
    }
}

impl Drop for EsbWindow {
    fn drop(&mut self) {
        // SAFETY: Mapped by the type invariants. Whoever has an `Esb` of it keeps the `Platform`.
        unsafe { bindings::iounmap(self.virt.as_ptr().cast()) };
    }
}

/// The ESB of a source.
///
/// # Invariants
///
/// `virt` is where the two pages are mapped as long as the `Platform` lives, which the owner of the
/// object keeps.
#[derive(Clone, Copy)]
struct Esb {
    phys: u64,
    virt: NonNull<u8>,
    store_eoi: bool,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for Esb {}

impl Esb {
    /// Loads from the management page, which sets P and Q as `offset` says. Returns their old
    /// values.
    fn load(&self, offset: u32) -> u64 {
        // SAFETY: Mapped by the type invariants; all offsets lie within a page of 4 KiB.
        unsafe { extra::uxive_in_be64(self.management(offset)) }
    }

    fn management(&self, offset: u32) -> *mut ffi::c_void {
        self.virt
            .as_ptr()
            .wrapping_add(ESB_MANAGEMENT + offset as usize)
            .cast()
    }

    /// Ends the interrupt: one that came meanwhile is sent now.
    fn eoi(&self) {
        if self.store_eoi {
            // SAFETY: Mapped by the type invariants, and the hardware has this store.
            unsafe { extra::uxive_out_be64(self.management(extra::XIVE_ESB_STORE_EOI), 0) };
        } else if self.load(extra::XIVE_ESB_SET_PQ_00) & u64::from(extra::XIVE_ESB_VAL_Q) != 0 {
            // SAFETY: The trigger page is the first of the two that are mapped.
            unsafe { extra::uxive_out_be64(self.virt.as_ptr().cast(), 0) };
        }
    }
}

/// An interrupt source. Off when it is made, and to be switched off before it is dropped.
///
/// # Invariants
///
/// OPAL has allocated `lisn` to us, nothing else refers to it, and `esb` is its ESB.
pub(crate) struct Source {
    lisn: u32,
    esb: Esb,
    chip: ChipId,
    // Keeps the ESBs mapped.
    platform: Arc<Platform>,
}

// SAFETY: A source may be used and dropped on any thread.
unsafe impl Send for Source {}

// SAFETY: What a shared reference allows are single loads and stores of a device and calls of OPAL,
// which may happen at the same time.
unsafe impl Sync for Source {}

impl Source {
    /// Allocates a source of the caller's chip, or of any if that has none left.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the machine has none left; those of [`EsbWindow::new`].
    pub(crate) fn new(platform: &Arc<Platform>) -> Result<Arc<Self>> {
        let own = ChipId::current();
        let (chip, spare) = match platform.take_spare(own) {
            Some(spare) => (own, spare),
            None => match platform.allocate(own) {
                Ok(spare) => (own, spare),
                Err(_) => (ChipId::ANY, platform.allocate(ChipId::ANY)?),
            },
        };

        // INVARIANT: Those of `SpareSource`.
        let source = Self {
            lisn: spare.lisn,
            esb: spare.esb,
            chip,
            platform: platform.clone(),
        };
        Ok(Arc::new(source, GFP_KERNEL_ACCOUNT)?)
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.lisn
    }

    /// Switches the source on: stores to the trigger page raise it from now on.
    pub(crate) fn switch_on(&self) {
        self.esb.load(extra::XIVE_ESB_SET_PQ_00);
    }

    /// Switches the source off. When this returns, its last event has reached the queue.
    pub(crate) fn switch_off(&self) {
        self.esb.load(extra::XIVE_ESB_SET_PQ_01);
        // SAFETY: The LISN is ours.
        unsafe { extra::xive_native_sync_source(self.lisn) };
    }

    /// Ends the interrupt, so that the next event is routed.
    pub(crate) fn eoi(&self) {
        self.esb.eoi();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // INVARIANT: Nothing refers to the source any more.
        let spare = SpareSource {
            lisn: self.lisn,
            esb: self.esb,
        };
        self.platform.put_spare(self.chip, spare);
    }
}

/// The trigger page of a source, for a program.
pub(crate) struct TriggerPage(pub(crate) Arc<Source>);

// SAFETY: The address is that of device memory which serves nothing but our LISN until that is
// freed, when the last reference to the source is dropped.
unsafe impl UserPage for TriggerPage {
    const DEVICE: bool = true;

    fn phys(&self) -> u64 {
        self.0.esb.phys
    }
}

/// The management page of a source, for a program that drains the queue that the source is routed
/// to. Such a program can overrun that queue, and no other.
pub(crate) struct ManagementPage(pub(crate) Arc<Source>);

// SAFETY: As for `TriggerPage`.
unsafe impl UserPage for ManagementPage {
    const DEVICE: bool = true;

    fn phys(&self) -> u64 {
        self.0.esb.phys + ESB_MANAGEMENT as u64
    }
}

/// A block of one VP.
///
/// # Invariants
///
/// OPAL has allocated it to us.
struct VpBlock(u32);

impl VpBlock {
    /// # Errors
    ///
    /// `ENOSPC` when the machine has none left.
    fn new() -> Result<Self> {
        // SAFETY: There is a `Platform`, so OPAL and XIVE are there.
        match unsafe { extra::xive_native_alloc_vp_block(1) } {
            extra::XIVE_INVALID_VP => Err(ENOSPC),
            // INVARIANT: OPAL gave it to us just now.
            vp => Ok(Self(vp)),
        }
    }
}

impl Drop for VpBlock {
    fn drop(&mut self) {
        // SAFETY: It is ours by the type invariants.
        unsafe { extra::xive_native_free_vp_block(self.0) };
    }
}

/// The ESe: the ESB of an escalation interrupt.
///
/// # Invariants
///
/// `data` was filled by `xive_native_populate_irq_data`, so its management page is mapped.
struct EscalationEsb {
    data: extra::xive_irq_data,
}

impl EscalationEsb {
    fn new(lisn: u32) -> Result<Self> {
        let mut data = extra::xive_irq_data::default();

        // SAFETY: `data` is valid for writes, and the function asks firmware about any LISN.
        to_result(unsafe { extra::xive_native_populate_irq_data(lisn, &mut data) })?;

        // INVARIANT: Filled above.
        Ok(Self { data })
    }

    fn load(&self, offset: u32) -> u64 {
        // SAFETY: Mapped by the type invariants; all offsets lie within a page of 4 KiB.
        unsafe { extra::uxive_in_be64(self.data.eoi_mmio.wrapping_byte_add(offset as usize)) }
    }
}

impl Drop for EscalationEsb {
    fn drop(&mut self) {
        // SAFETY: Filled by the type invariants.
        unsafe { extra::xive_cleanup_irq_data(&mut self.data) };
    }
}

/// A VP with a queue.
///
/// # Invariants
///
/// The VP is enabled, and `memory` is the only queue configured for it, at [`PRIORITY`].
struct VpQueue {
    xive: extra::xive_q,
    vp: VpBlock,
    // Freed last, when no hardware writes to it any more.
    memory: ContiguousPages,
}

impl VpQueue {
    fn new() -> Result<Self> {
        let memory = ContiguousPages::new(QUEUE_ORDER)?;
        let vp = VpBlock::new()?;

        // Before the queue: this decides which interrupt the queue will escalate to.
        //
        // SAFETY: The VP is ours.
        to_result(unsafe { extra::xive_native_enable_vp(vp.0, true) })?;

        // INVARIANT: Just enabled, and without a queue until the call below.
        let mut queue = Self {
            xive: extra::xive_q::default(),
            vp,
            memory,
        };
        // SAFETY: The VP is ours and enabled. The memory is zeroed, aligned and of the size that
        // is told, and lives until the queue is disabled.
        to_result(unsafe {
            extra::xive_native_configure_queue(
                queue.vp.0,
                &mut queue.xive,
                PRIORITY,
                queue.memory.as_ptr().cast(),
                QUEUE_ORDER,
                true,
            )
        })?;
        Ok(queue)
    }
}

impl Drop for VpQueue {
    fn drop(&mut self) {
        // SAFETY: The VP is ours and enabled. If setting up the queue failed, the number of the
        // escalation is 0 and there is nothing to wait for.
        unsafe {
            if self.xive.esc_irq != 0 {
                extra::xive_native_sync_queue(self.xive.esc_irq);
            }
            extra::xive_native_disable_vp(self.vp.0);
            extra::xive_native_disable_queue(self.vp.0, &mut self.xive, PRIORITY);
        }
    }
}

/// An event queue, which sources are routed to, and its escalation.
pub(crate) struct EventQueue {
    // Unmapped before the queue that it belongs to goes.
    escalation: EscalationEsb,
    queue: VpQueue,
}

// SAFETY: A VP, its memory and the mapping of its ESe may be used and dropped on any thread.
unsafe impl Send for EventQueue {}

// SAFETY: A shared reference allows calls of OPAL, single loads from the device, and volatile reads
// of the memory only.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// Sets up a VP with an empty queue.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the machine has no VP left, `ENOMEM` if there is no memory, `EIO` if firmware
    /// refuses.
    pub(crate) fn new() -> Result<Self> {
        let queue = VpQueue::new()?;

        Ok(Self {
            escalation: EscalationEsb::new(queue.xive.esc_irq)?,
            queue,
        })
    }

    /// Returns the entry at `index`, modulo the size of the queue, as hardware has written it.
    ///
    /// Bit 31 is the generation: 1 in the first pass through the queue, flipped in each one after.
    /// The other bits are the EISN.
    pub(crate) fn entry(&self, index: usize) -> u32 {
        let entries: *const u32 = self.queue.memory.as_ptr().cast();

        // SAFETY: The memory has `QUEUE_BYTES`. The volatile read of an aligned word corresponds to
        // `READ_ONCE()`, so that hardware writes it is no data race.
        u32::from_be(unsafe { entries.add(index % QUEUE_ENTRIES).read_volatile() })
    }

    /// Routes `source`, which must be off, here: its events appear as `eisn`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if firmware refuses.
    pub(crate) fn route(&self, source: &Source, eisn: u32) -> Result {
        // SAFETY: The LISN and the VP are ours, and the VP has a queue at this priority.
        to_result(unsafe {
            extra::xive_native_configure_irq(source.lisn, self.queue.vp.0, PRIORITY, eisn)
        })
    }

    /// Lets the next event escalate, that is, call the handler.
    ///
    /// An event whose entry was written before this does not escalate: the caller has to look at
    /// the queue again afterwards. Entries written before are visible to it then.
    pub(crate) fn unmask_escalation(&self) {
        self.escalation.load(extra::XIVE_ESB_SET_PQ_00);
    }

    /// Keeps events from escalating.
    pub(crate) fn mask_escalation(&self) {
        self.escalation.load(extra::XIVE_ESB_SET_PQ_01);
    }

    /// Returns whether an escalation is on its way to the handler, or has not been unmasked since.
    pub(crate) fn escalation_pending(&self) -> bool {
        self.escalation.load(extra::XIVE_ESB_GET) & u64::from(extra::XIVE_ESB_VAL_P) != 0
    }
}

/// A page of the memory of an event queue, for a program that reads it.
pub(crate) struct QueuePage {
    queue: Arc<EventQueue>,
    offset: usize,
}

impl QueuePage {
    /// Returns the `index`-th page of `queue`, if it has that many.
    pub(crate) fn new(queue: Arc<EventQueue>, index: usize) -> Option<Self> {
        let offset = index.checked_mul(PAGE_SIZE)?;

        (offset < QUEUE_BYTES).then_some(Self { queue, offset })
    }
}

// SAFETY: The offset lies within the memory, which is the queue's as long as that is referred to.
unsafe impl UserPage for QueuePage {
    const DEVICE: bool = false;

    fn phys(&self) -> u64 {
        self.queue.queue.memory.phys() + self.offset as u64
    }
}

/// The handler that an event queue escalates to.
pub(crate) struct EscalationHandler<H: BoundedHandler> {
    // Freed before the queue that the interrupt belongs to.
    irq: Pin<KBox<IrqHandler<H>>>,
    _queue: Arc<EventQueue>,
}

impl<H: BoundedHandler> EscalationHandler<H> {
    /// Has the handler that `handler` makes called when `queue` escalates.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, those of `handler`, and those of `request_irq`.
    pub(crate) fn new<'a, I>(
        queue: EventQueue,
        handlers: Arc<CpuDeadList<IrqHandler<H>>>,
        handler: impl FnOnce(Arc<EventQueue>) -> I,
    ) -> Result<Self>
    where
        I: PinInit<H, Error> + 'a,
        H: 'a,
    {
        let queue = Arc::new(queue, GFP_KERNEL_ACCOUNT)?;

        // SAFETY: The interrupt belongs to the queue, of which this is the only handler since it
        // came by value. The mapping is dropped before the queue, here and in `Self`.
        let mapping = unsafe { IrqMapping::new(queue.queue.xive.esc_irq) }?;

        // Linux would do the EOI after the handler. An event that came since the handler looked
        // at the queue would be lost then, as this interrupt cannot be sent again by software. The
        // handler does it when it should be done.
        //
        // SAFETY: The interrupt was mapped in the default domain, which is XIVE's when XIVE is
        // enabled. It has not been started, so nobody else uses its `xive_irq_data`.
        unsafe {
            let data = mapping.chip_data().cast::<extra::xive_irq_data>();
            (*data).flags |= u64::from(extra::XIVE_IRQ_FLAG_NO_EOI);
        }

        let irq = IrqHandler::request(mapping, c"uxive", handlers, handler(queue.clone()))?;

        Ok(Self { irq, _queue: queue })
    }

    /// Returns the handler.
    pub(crate) fn handler(&self) -> &H {
        self.irq.handler()
    }

    /// Waits until the handler is not running in hard interrupt context.
    pub(crate) fn synchronize(&self) {
        self.irq.synchronize();
    }
}
