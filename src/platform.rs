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

use crate::{
    kernel_ext::{
        bindings as extra,
        cpuhp::CpuDeadList,
        fault::may_fail,
        irq::{
            BoundedHandler,
            IrqHandler,
            IrqMapping, //
        },
        mapping::UserPages,
        pages::ContiguousPages,
        ratelimit::may_log,
        work::{
            Work,
            Worker, //
        }, //
    },
    tally::{
        Limits,
        Tally, //
    }, //
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    cpumask::Cpumask,
    error::to_result,
    ffi,
    fmt,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        Arc,
        ArcBorrow,
        LockedBy,
        Mutex,
        SetOnce, //
    }, //
};

mod messages;

pub(crate) use messages::MessagePool;
use messages::MessageSource;

/// What OPAL calls the interrupt controller in the device tree. The kernel's own driver matches it
/// too, in `arch/powerpc/sysdev/xive/native.c`.
const OPAL_XIVE_COMPATIBLE: &CStr = c"ibm,opal-xive-pe";

/// The priority at which sources are routed to our VPs: the lowest but one, as 7 is the gather
/// queue of single escalation. VPs that never run have nothing to prioritize.
const PRIORITY: u8 = 6;

/// The size of an event queue: firmware knows four, of which these are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSize {
    /// A power of two.
    entries: usize,
}

impl QueueSize {
    /// 64 KiB.
    pub(crate) const SMALL: Self = Self { entries: 1 << 14 };

    /// 2 MiB.
    pub(crate) const LARGE: Self = Self { entries: 1 << 19 };

    /// Returns the size that a queue of so many sources, at most [`MAX_SOURCES`], is to have.
    pub(crate) const fn of(sources: usize) -> Self {
        if sources <= Self::SMALL.entries {
            Self::SMALL
        } else {
            Self::LARGE
        }
    }

    /// Returns the number of entries, of 4 bytes.
    pub(crate) const fn entries(self) -> usize {
        self.entries
    }

    /// Returns the size in bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.entries * size_of::<u32>()
    }

    /// Returns the size in bytes, as a power of two.
    fn order(self) -> u32 {
        self.bytes().ilog2()
    }
}

/// The bits of an ESB, as loads from the management page return them.
const PQ_MASK: u64 = (extra::XIVE_ESB_VAL_P | extra::XIVE_ESB_VAL_Q) as u64;

/// PQ=01: an ESB that is off.
const PQ_OFF: u64 = extra::XIVE_ESB_VAL_Q as u64;

/// Distance of the ESBs of consecutive LISNs of a chip, as a power of two: two pages of 64 KiB.
const ESB_SHIFT: u32 = 17;

/// Size of each of the two pages of an ESB: offset of the management page.
const ESB_PAGE: usize = 0x10000;

/// How many ESBs the kernel maps at a time, as a power of two: 1 GiB of them.
const ESB_WINDOW_SHIFT: u32 = 13;

/// The most sources that are taken from OPAL: a small part of the million that each chip has.
pub(crate) const MAX_SOURCES: usize = 65536;

/// The most sources of a chip that are kept for new interrupts instead of being given back to OPAL.
///
/// OPAL looks for a free LISN from the first on, which takes the longer the more are in use.
const SPARES_PER_CHIP: usize = 256;

/// With fewer spare sources than this a chip gets more, up to [`SPARES_FILLED`].
const SPARES_LOW: usize = SPARES_PER_CHIP / 2;

/// How many spare sources a chip is given, with room left for some that come back.
const SPARES_FILLED: usize = SPARES_PER_CHIP / 4 * 3;

/// How often a source or an escalation that is to be off is switched off before that has failed.
const OFF_TRIES: usize = 8;

/// What does not come to rest, and so cannot be given back: `UXIVE_QUARANTINE_*` but for the last.
/// `trace.h` knows the numbers, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuiesceError {
    /// The ESB of a source does not read PQ=01 after that was set.
    Source = 1,
    /// Events of a source that is off reach the queue.
    Events = 2,
    /// An escalation is on its way and does not arrive, or cannot be masked.
    Escalation = 3,
    /// An AFU does not confirm that it has let go of a context.
    Afu = 4,
}

impl fmt::Display for QuiesceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "its ESB cannot be switched off",
            Self::Events => "its events keep coming",
            Self::Escalation => "its escalation does not come to rest",
            Self::Afu => "its AFU does not confirm that it was detached",
        })
    }
}

/// What firmware has a number of to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Sources of the chip that was asked for, or of any.
    Interrupt,
    /// VPs.
    VirtualProcessor,
    /// Messages of a PCI host bridge.
    Message,
}

/// Why something could not be allocated.
pub(crate) enum AllocError {
    /// Firmware has no more: `ENOSPC`.
    Exhausted(Resource),
    /// Anything else. `ENOSPC` here is a limit of the driver.
    Other(Error),
}

impl From<Error> for AllocError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<kernel::alloc::AllocError> for AllocError {
    fn from(error: kernel::alloc::AllocError) -> Self {
        Self::Other(error.into())
    }
}

impl From<AllocError> for Error {
    fn from(refusal: AllocError) -> Self {
        match refusal {
            AllocError::Exhausted(_) => ENOSPC,
            AllocError::Other(error) => error,
        }
    }
}

/// A chip of the machine, as OPAL numbers them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChipId(u32);

impl ChipId {
    /// Returns the number of the chip.
    pub(crate) fn as_u32(self) -> u32 {
        self.0
    }

    /// Returns the chip that the caller runs on, or did a moment ago, if firmware tells.
    fn current() -> Option<Self> {
        Self::of_cpu(CpuId::current())
    }

    /// Returns the chip of a CPU that is possible.
    fn of_cpu(cpu: CpuId) -> Option<Self> {
        // SAFETY: The caller vouches for the CPU, and there is nothing else to the call.
        let chip = unsafe { bindings::cpu_to_chip_id(cpu.as_u32() as ffi::c_int) };

        u32::try_from(chip).ok().map(Self)
    }
}

/// Where sources are to come from.
#[derive(Clone, Copy)]
pub(crate) enum Location {
    /// The caller's chip, or any other if that has none left.
    Anywhere,
    /// This chip.
    Chip(ChipId),
    /// The chips of a NUMA node.
    Node(i32),
}

/// A source that is allocated and in nobody's hands: off and quiet.
///
/// # Invariants
///
/// OPAL has allocated `lisn` to us, nothing else refers to it, and `esb` is its ESB.
struct SpareSource {
    lisn: u32,
    esb: Esb,
}

/// A chip that has CPUs.
struct Chip {
    id: ChipId,
    /// The NUMA node of its CPUs.
    node: i32,
    // Never more than the capacity that it is made with, `SPARES_PER_CHIP`.
    spares: KVec<SpareSource>,
}

impl Chip {
    /// Finds the chips of the machine.
    fn all() -> Result<KVec<Self>> {
        let mut chips: KVec<Self> = KVec::new();
        // SAFETY: The mask is set at boot and not changed later.
        let possible = unsafe { Cpumask::from_raw(&raw const bindings::__cpu_possible_mask) };
        let cpus = (0..nr_cpu_ids()).filter_map(CpuId::from_u32);

        for cpu in cpus.filter(|&cpu| possible.test(cpu)) {
            let Some(id) = ChipId::of_cpu(cpu) else {
                continue;
            };
            if chips.iter().all(|chip| chip.id != id) {
                // SAFETY: The CPU is possible.
                let node = unsafe { extra::uxive_cpu_to_node(cpu.as_u32() as ffi::c_int) };
                let spares = KVec::with_capacity(SPARES_PER_CHIP, GFP_KERNEL)?;
                chips.push(Self { id, node, spares }, GFP_KERNEL)?;
            }
        }
        Ok(chips)
    }
}

/// The sources that OPAL has allocated to us.
struct Pool {
    chips: KVec<Chip>,
    windows: KVec<EsbWindow>,
    /// How many there are, spares included. At most [`MAX_SOURCES`].
    held: usize,
    /// How many are in somebody's hands, and may be.
    tally: Tally,
}

impl Pool {
    fn chip(&mut self, id: ChipId) -> Option<&mut Chip> {
        self.chips.iter_mut().find(|chip| chip.id == id)
    }

    /// Takes a spare source of any chip.
    fn take_any_spare(&mut self) -> Option<SpareSource> {
        self.chips.iter_mut().find_map(|chip| chip.spares.pop())
    }

    /// Takes a spare source of `chip`, or else one from OPAL, and has `low` called if there are few
    /// left.
    #[inline]
    fn take(&mut self, id: ChipId, low: impl FnOnce()) -> Result<SpareSource, AllocError> {
        let chip = self.chip(id).ok_or(ENODEV)?;
        let spare = chip.spares.pop();

        if chip.spares.len() < SPARES_LOW {
            low();
        }
        match spare {
            Some(spare) => Ok(spare),
            None => self.allocate(id.0),
        }
    }

    /// Allocates a source of `chip`, as OPAL numbers them or "any", from OPAL.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when we have as many as we may, or the chip has none left; those of
    /// [`EsbWindow::new`].
    fn allocate(&mut self, chip: u32) -> Result<SpareSource, AllocError> {
        const EXHAUSTED: AllocError = AllocError::Exhausted(Resource::Interrupt);

        if self.held >= MAX_SOURCES {
            let other = self.take_any_spare().ok_or(ENOSPC)?;
            self.release(other);
        }

        may_fail(EXHAUSTED)?;
        // SAFETY: `Platform::new` has shown that OPAL and XIVE are there.
        let lisn = unsafe { extra::xive_native_alloc_irq_on_chip(chip) };

        // Every failure is reported as 0.
        if lisn == 0 {
            return Err(EXHAUSTED);
        }
        match self.esb(lisn) {
            Ok(esb) => {
                self.held += 1;
                // INVARIANT: OPAL gave it to us just now.
                Ok(SpareSource { lisn, esb })
            }
            Err(error) => {
                // SAFETY: As above.
                unsafe { extra::xive_native_free_irq(lisn) };
                Err(error.into())
            }
        }
    }

    /// Gives a source back to OPAL.
    fn release(&mut self, spare: SpareSource) {
        // SAFETY: It is ours, and nothing refers to it.
        unsafe { extra::xive_native_free_irq(spare.lisn) };
        self.held -= 1;
    }

    /// Keeps a source for a new interrupt, or gives it back to OPAL if there are enough of its chip.
    fn put(&mut self, spare: SpareSource) {
        match self.chip(spare.esb.chip) {
            Some(chip) if chip.spares.len() < SPARES_PER_CHIP => {
                // Does not fail: there is room, and nothing is allocated.
                let _ = chip.spares.push_within_capacity(spare);
            }
            _ => self.release(spare),
        }
    }

    /// Returns the ESB of `lisn`.
    fn esb(&mut self, lisn: u32) -> Result<Esb> {
        match self.windows.iter().position(|window| window.covers(lisn)) {
            Some(at) => self.windows.get(at),
            None => {
                self.windows.push(EsbWindow::new(lisn)?, GFP_KERNEL)?;
                self.windows.last()
            }
        }
        .ok_or(EIO)?
        .esb(lisn)
    }
}

/// Where sources are taken from and put back to.
#[pin_data(PinnedDrop)]
struct Sources {
    /// Innermost but for what OPAL takes, see `context.rs`.
    #[pin]
    pool: Mutex<Pool>,
}

impl Sources {
    /// Adds a spare source of the `index`-th chip, unless it has enough. Returns whether it did.
    fn add_spare(&self, index: usize) -> bool {
        let pool = &mut *self.pool.lock();
        let wanting = |chip: &&Chip| chip.spares.len() < SPARES_FILLED;

        // Spares are not worth giving up others for.
        if pool.held >= MAX_SOURCES {
            return false;
        }
        let Some(chip) = pool.chips.get(index).filter(wanting).map(|chip| chip.id) else {
            return false;
        };
        let Ok(spare) = pool.allocate(chip.0) else {
            return false;
        };
        pool.put(spare);
        true
    }

    /// Brings the spare sources of each chip to their number, as far as OPAL has any.
    fn fill(&self) {
        let chips = self.pool.lock().chips.len();

        for index in 0..chips {
            while self.add_spare(index) {}
        }
    }
}

impl Work for Sources {
    fn run(worker: &Worker<Self>) {
        worker.fill();
    }
}

#[pinned_drop]
impl PinnedDrop for Sources {
    fn drop(self: Pin<&mut Self>) {
        let mut pool = self.pool.lock();

        while let Some(spare) = pool.take_any_spare() {
            pool.release(spare);
        }
    }
}

/// How many spare sources there are of a chip.
pub(crate) struct ReserveView {
    pub(crate) chip: ChipId,
    pub(crate) spares: usize,
}

/// The machine, of which this driver has interrupts.
#[pin_data]
pub(crate) struct Platform {
    /// Its work is to fill up the spare sources.
    #[pin]
    sources: Worker<Sources>,
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
        if !Self::has_xive() {
            pr_info!("this machine has no XIVE under OPAL, or it is switched off\n");
            return Err(ENODEV);
        }
        // SAFETY: XIVE is there.
        if !unsafe { extra::xive_native_has_single_escalation() } {
            pr_info!("this machine's firmware has no single escalation for XIVE\n");
            return Err(ENODEV);
        }

        let pool = Pool {
            chips: Chip::all()?,
            windows: KVec::new(),
            held: 0,
            tally: Tally::new(MAX_SOURCES, MAX_SOURCES),
        };
        let platform = Arc::pin_init(
            try_pin_init!(Self {
                sources <- Worker::new(static_lock_class!(), try_pin_init!(Sources {
                    pool <- new_mutex!(pool, "uxive_pool"),
                }? Error)),
            }? Error),
            GFP_KERNEL,
        )?;
        platform.sources.fill();
        Ok(platform)
    }

    /// Returns whether the kernel drives XIVE through OPAL.
    fn has_xive() -> bool {
        // SAFETY: The variable is set at boot and not changed later.
        if !unsafe { extra::__xive_enabled } {
            return false;
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

        !node.is_null()
    }

    /// Returns the chip of the number `id`, which is the `physical_package_id` of its CPUs in sysfs.
    ///
    /// # Errors
    ///
    /// `ENODEV` if no CPU of the machine is on such a chip.
    pub(crate) fn chip(&self, id: u32) -> Result<Location> {
        let mut pool = self.sources.pool.lock();

        Ok(Location::Chip(pool.chip(ChipId(id)).ok_or(ENODEV)?.id))
    }

    /// Returns the chips of the NUMA node of the number `id`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if no CPU of the machine is on such a node.
    pub(crate) fn node(&self, id: u32) -> Result<Location> {
        let node = i32::try_from(id).map_err(|_| ENODEV)?;
        let pool = self.sources.pool.lock();

        match pool.chips.iter().any(|chip| chip.node == node) {
            true => Ok(Location::Node(node)),
            false => Err(ENODEV),
        }
    }

    /// Returns how many sources are in somebody's hands.
    pub(crate) fn sources_in_use(&self) -> usize {
        self.sources.pool.lock().tally.in_use()
    }

    /// Tells what is kept of the `index`-th chip, if there are as many.
    pub(crate) fn reserve(&self, index: usize) -> Option<ReserveView> {
        let pool = self.sources.pool.lock();
        let chip = pool.chips.get(index)?;

        Some(ReserveView {
            chip: chip.id,
            spares: chip.spares.len(),
        })
    }

    /// Returns how many sources can be in somebody's hands.
    pub(crate) fn max_sources(&self) -> Limits {
        self.sources.pool.lock().tally.limits()
    }

    /// Changes a limit of sources, see [`Tally::set_limit`].
    ///
    /// # Errors
    ///
    /// `ERANGE` if that is more than [`MAX_SOURCES`].
    pub(crate) fn set_max_sources(
        &self,
        which: fn(&mut Limits) -> &mut usize,
        limit: u64,
    ) -> Result {
        self.sources.pool.lock().tally.set_limit(which, limit)
    }

    /// Returns how many Linux interrupts the online CPUs have room for. Beyond it Linux still makes
    /// some, which never fire.
    pub(crate) fn linux_irqs() -> usize {
        // SAFETY: The mask is valid for ever. It may change meanwhile, which does not matter.
        let online = unsafe { Cpumask::from_raw(&raw const bindings::__cpu_online_mask) };

        // Each CPU has a queue of a page, which an interrupt needs an entry of, and is full with one
        // entry left.
        (PAGE_SIZE / size_of::<u32>() - 1).saturating_mul(online.weight() as usize)
    }

    /// Takes a source from `pool`, which is that of `self`.
    #[inline]
    fn take(&self, pool: &mut Pool, location: Location) -> Result<SpareSource, AllocError> {
        match location {
            Location::Anywhere => {
                let own = ChipId::current().map(|own| pool.take(own, || self.sources.queue()));

                match own {
                    Some(Ok(spare)) => Ok(spare),
                    _ => match pool.take_any_spare() {
                        Some(spare) => Ok(spare),
                        None => pool.allocate(extra::OPAL_XIVE_ANY_CHIP),
                    },
                }
            }
            Location::Chip(chip) => pool.take(chip, || self.sources.queue()),
            Location::Node(node) => self.take_of_node(pool, node),
        }
    }

    /// As [`Self::take`], of the first chip of `node` that has any left.
    #[cold]
    fn take_of_node(&self, pool: &mut Pool, node: i32) -> Result<SpareSource, AllocError> {
        let mut taken = Err(AllocError::Other(ENODEV));

        for index in 0..pool.chips.len() {
            match pool.chips.get(index) {
                Some(chip) if chip.node == node => {
                    taken = pool.take(chip.id, || self.sources.queue());
                }
                _ => continue,
            }
            if taken.is_ok() {
                break;
            }
        }
        taken
    }
}

/// Somebody whose sources are counted together: a user.
pub(crate) struct Holder {
    /// How many it has.
    in_use: LockedBy<usize, Pool>,
    platform: Arc<Platform>,
}

impl Holder {
    /// Makes one that has no sources.
    pub(crate) fn new(platform: Arc<Platform>) -> Self {
        Self {
            in_use: LockedBy::new(&platform.sources.pool, 0),
            platform,
        }
    }

    /// Returns how many sources it has.
    pub(crate) fn sources_in_use(&self) -> usize {
        *self.in_use.access(&*self.platform.sources.pool.lock())
    }

    /// Counts a source that is not taken from the platform's pool, if limits allow it.
    ///
    /// # Errors
    ///
    /// `EDQUOT` when it has as many as it may, `ENFILE` when all together have.
    fn charge(&self) -> Result {
        let pool = &mut *self.platform.sources.pool.lock();
        let own = *self.in_use.access(pool);

        pool.tally.check(own)?;
        *self.in_use.access_mut(pool) = pool.tally.add(own);
        Ok(())
    }

    /// Counts such a source no more.
    fn discharge(&self) {
        let pool = &mut *self.platform.sources.pool.lock();
        let own = *self.in_use.access(pool);

        *self.in_use.access_mut(pool) = pool.tally.remove(own);
    }

    /// Takes a source as [`Platform::take`] does, if limits allow it.
    #[inline(always)]
    fn take(&self, location: Location) -> Result<SpareSource, AllocError> {
        let pool = &mut *self.platform.sources.pool.lock();

        let own = *self.in_use.access(pool);

        pool.tally.check(own)?;
        let taken = self.platform.take(pool, location);
        if taken.is_ok() {
            *self.in_use.access_mut(pool) = pool.tally.add(own);
        }
        taken
    }

    /// Takes a source back.
    #[inline(always)]
    fn put(&self, spare: SpareSource) {
        let pool = &mut *self.platform.sources.pool.lock();

        let own = *self.in_use.access(pool);

        *self.in_use.access_mut(pool) = pool.tally.remove(own);
        pool.put(spare);
    }
}

/// Asks firmware about `lisn`, and maps its ESB into `data`, for `xive_cleanup_irq_data` to undo.
///
/// # Errors
///
/// `EIO` if firmware refuses, `ENOMEM` if the ESB cannot be mapped.
fn populate(lisn: u32, data: &mut extra::xive_irq_data) -> Result {
    may_fail(EIO)?;
    // SAFETY: `data` is valid for writes, and any LISN may be asked for.
    to_result(unsafe { extra::xive_native_populate_irq_data(lisn, data) })
        // The C side calls a refusal an invalid argument.
        .map_err(|error| if error == EINVAL { EIO } else { error })
}

/// Returns whether an ESB has two pages of 64 KiB, the trigger page first. A source that has one page
/// for both, as those of some devices, is not for programs: who may ring it could switch it off, too.
fn has_two_pages(data: &extra::xive_irq_data) -> bool {
    data.esb_shift == ESB_SHIFT
        && data.trig_page != 0
        && data.trig_page % (1 << ESB_SHIFT) == 0
        && data.trig_page.checked_add(ESB_PAGE as u64) == Some(data.eoi_page)
}

/// Returns whether the interrupt is ended by a store.
fn has_store_eoi(data: &extra::xive_irq_data) -> bool {
    data.flags & u64::from(extra::XIVE_IRQ_FLAG_STORE_EOI) != 0
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
    chip: ChipId,
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

        populate(lisn, &mut data)?;
        let (trigger, fit) = (data.trig_page, has_two_pages(&data));
        let store_eoi = has_store_eoi(&data);
        // SAFETY: `data` was filled above.
        unsafe { extra::xive_cleanup_irq_data(&mut data) };
        if !fit {
            return Err(EIO);
        }
        let chip = ChipId(u32::try_from(data.src_chip).map_err(|_| EIO)?);

        let first = lisn >> ESB_WINDOW_SHIFT << ESB_WINDOW_SHIFT;
        let before = u64::from(lisn - first) << ESB_SHIFT;
        let phys = trigger.checked_sub(before).ok_or(EIO)?;
        may_fail(ENOMEM)?;
        // SAFETY: The range holds ESBs only: firmware lays out those of a chip one after another,
        // and a chip has a multiple of this many.
        let virt = unsafe { bindings::ioremap(phys, Self::LEN) };

        // INVARIANT: Just mapped.
        Ok(Self {
            number: lisn >> ESB_WINDOW_SHIFT,
            chip,
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
            management: unsafe { self.virt.add(offset + ESB_PAGE) },
            chip: self.chip,
            trigger_before: 1,
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
/// `management` is where the management page is mapped, and the trigger page lies `trigger_before`
/// pages before it: 1, or 0 if it is the same. Both are mapped as long as the `Platform` lives, or the
/// message if the source is that of one, which the owner of the object keeps. `phys` is the address of
/// the trigger page.
#[derive(Clone, Copy)]
struct Esb {
    phys: u64,
    management: NonNull<u8>,
    chip: ChipId,
    trigger_before: u8,
    store_eoi: bool,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for Esb {}

// SAFETY: What a shared reference allows are single loads and stores of a device.
unsafe impl Sync for Esb {}

impl Esb {
    fn management(&self, offset: u32) -> *mut ffi::c_void {
        self.management
            .as_ptr()
            .wrapping_add(offset as usize)
            .cast()
    }

    /// Loads from the management page, which sets P and Q as `offset` says. Returns their old
    /// values.
    #[inline]
    fn load(&self, offset: u32) -> u64 {
        // SAFETY: Mapped by the type invariants; all offsets lie within a page of 4 KiB.
        unsafe { extra::uxive_in_be64(self.management(offset)) }
    }

    /// Returns P and Q, as bits 1 and 0, and leaves them alone.
    fn pq(&self) -> u64 {
        self.load(extra::XIVE_ESB_GET) & PQ_MASK
    }

    /// Ends the interrupt: one that came meanwhile is sent now.
    #[inline]
    fn eoi(&self) {
        if self.store_eoi {
            // SAFETY: Mapped by the type invariants, and the hardware has this store.
            unsafe { extra::uxive_out_be64(self.management(extra::XIVE_ESB_STORE_EOI), 0) };
        } else if self.load(extra::XIVE_ESB_SET_PQ_00) & u64::from(extra::XIVE_ESB_VAL_Q) != 0 {
            self.trigger();
        }
    }

    /// Raises the interrupt.
    #[inline]
    fn trigger(&self) {
        let before = usize::from(self.trigger_before) * ESB_PAGE;
        let trigger = self.management.as_ptr().wrapping_sub(before);

        // SAFETY: The trigger page is mapped there, by the type invariants.
        unsafe { extra::uxive_out_be64(trigger.cast(), 0) };
    }

    /// Sets P, as if an event had been sent: those that come until the interrupt is ended wait in Q.
    /// Returns whether that is all that waits, and no event was sent before.
    fn park(&self) -> bool {
        let sent = |pq: u64| pq & u64::from(extra::XIVE_ESB_VAL_P) != 0;

        // What Q has is not to be lost, which the load sets to 0.
        !sent(self.pq()) && !sent(self.load(extra::XIVE_ESB_SET_PQ_10))
    }
}

/// An interrupt source. Off when it is made, and to be switched off before it is dropped, or
/// [leaked](Self::leak) if that cannot be done.
///
/// # Invariants
///
/// `esb` is the ESB of `lisn`, which no other source has, and is either that of `message`, an [`Arc`]
/// that belongs to this object, or was allocated to us by OPAL.
pub(crate) struct Source {
    lisn: u32,
    leaked: SetOnce<()>,
    esb: Esb,
    // Keeps the ESB mapped, if there is one. Not an `Arc`, so that dropping it need not be considered
    // where most sources are dropped, which have none.
    message: Option<NonNull<MessageSource>>,
    // Keeps the ESBs mapped, by way of the platform.
    holder: Arc<Holder>,
}

// SAFETY: A source may be used and dropped on any thread.
unsafe impl Send for Source {}

// SAFETY: What a shared reference allows are single loads and stores of a device and calls of OPAL,
// which may happen at the same time.
unsafe impl Sync for Source {}

impl Source {
    /// Allocates a source at `location` for `holder`.
    ///
    /// # Errors
    ///
    /// - `EDQUOT` when the holder has as many as it may, `ENFILE` when all together have.
    /// - `ENOSPC` when there is none left at `location`.
    /// - Those of [`EsbWindow::new`].
    #[inline(always)]
    pub(crate) fn new(holder: &Arc<Holder>, location: Location) -> Result<Self, AllocError> {
        let SpareSource { lisn, esb } = holder.take(location)?;

        // INVARIANT: Those of `SpareSource`.
        Ok(Self {
            lisn,
            leaked: SetOnce::new(),
            esb,
            message: None,
            holder: holder.clone(),
        })
    }

    /// Allocates for `holder` the source of a message of the function that `pool` belongs to. A message
    /// that comes while the source is off is lost: the function is to hold it back as long.
    ///
    /// # Errors
    ///
    /// - `EDQUOT` when the holder has as many as it may, `ENFILE` when all together have.
    /// - Those of [`MessagePool::take`].
    pub(crate) fn of_message(
        holder: &Arc<Holder>,
        pool: &Arc<MessagePool>,
    ) -> Result<Self, AllocError> {
        holder.charge()?;
        let message: Arc<_> = pool.take().inspect_err(|_| holder.discharge())?.into();

        // INVARIANT: Those of `MessageSource`.
        Ok(Self {
            lisn: message.lisn,
            leaked: SetOnce::new(),
            esb: message.esb,
            message: NonNull::new(Arc::into_raw(message).cast_mut()),
            holder: holder.clone(),
        })
    }

    /// Returns its message, if it is the source of one.
    fn message_source(&self) -> Option<ArcBorrow<'_, MessageSource>> {
        let message = self.message?;

        // SAFETY: By the type invariants it was an `Arc`, and only `drop` makes it one again.
        Some(unsafe { ArcBorrow::from_raw(message.as_ptr()) })
    }

    /// Returns what the function has to write to raise the source, if it is that of a message.
    pub(crate) fn message(&self) -> Option<MsiMsg> {
        let source = self.message_source()?;

        Some(MsiMsg {
            address: source.message.address(),
            data: source.message.data(),
        })
    }

    /// Returns whether its trigger page is another than its management page.
    pub(crate) fn has_trigger_page(&self) -> bool {
        self.esb.trigger_before != 0
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.lisn
    }

    /// Returns the chip.
    pub(crate) fn chip(&self) -> ChipId {
        self.esb.chip
    }

    /// Returns P and Q of the ESB, as bits 1 and 0, and leaves them alone.
    pub(crate) fn pq(&self) -> u64 {
        self.esb.pq()
    }

    /// Raises the interrupt, as a store to the trigger page does.
    pub(crate) fn trigger(&self) {
        self.esb.trigger();
    }

    /// Switches the source on: stores to the trigger page raise it from now on.
    pub(crate) fn switch_on(&self) {
        self.esb.load(extra::XIVE_ESB_SET_PQ_00);
    }

    /// Switches the source off. When this returns, its last event has reached the queue.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Source`] if its ESB says otherwise.
    #[inline(always)]
    pub(crate) fn switch_off(&self) -> Result<(), QuiesceError> {
        for _ in 0..OFF_TRIES {
            self.esb.load(extra::XIVE_ESB_SET_PQ_01);
            // SAFETY: The LISN is ours.
            unsafe { extra::xive_native_sync_source(self.lisn) };
            if self.esb.pq() == PQ_OFF {
                return may_fail(QuiesceError::Source);
            }
        }
        Err(QuiesceError::Source)
    }

    /// Gives `message`, its own, back unless it is leaked.
    #[cold]
    fn drop_message(&mut self, message: NonNull<MessageSource>) {
        // SAFETY: By the type invariants it was an `Arc`, and is made one only here, in `drop`.
        let message = unsafe { Arc::from_raw(message.as_ptr()) };

        if self.leaked.as_ref().is_some() {
            message.leak();
            return;
        }
        // One that is still in a [`MessageEisnTable`] goes with that.
        if let Some(message) = Arc::into_unique_or_drop(message) {
            MessageSource::put(Pin::into_inner(message));
        }
        self.holder.discharge();
    }

    /// Has the LISN not be given back when the source is dropped, nor used again.
    pub(crate) fn leak(&self) {
        self.leaked.populate(());
    }
}

impl Drop for Source {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(message) = self.message {
            return self.drop_message(message);
        }
        if self.leaked.as_ref().is_some() {
            return;
        }
        // INVARIANT: Nothing refers to the source any more.
        self.holder.put(SpareSource {
            lisn: self.lisn,
            esb: self.esb,
        });
    }
}

// SAFETY: The address is that of the ESB, one or two pages of device memory which serve nothing but
// our LISN until that is given back, when the source is dropped.
//
// Of two the first is the trigger page, for any program. The second, the management page, is for one
// that drains the queue that the source is routed to: it can overrun that queue, and no other. A page
// that is both, as a message can have it, is for that one only.
unsafe impl UserPages for Source {
    const DEVICE: bool = true;

    fn phys(&self) -> u64 {
        self.esb.phys
    }

    fn len(&self) -> u64 {
        (ESB_PAGE as u64) << self.esb.trigger_before
    }
}

/// What a PCI function writes to raise an interrupt.
pub(crate) struct MsiMsg {
    /// Where to, on its bus.
    pub(crate) address: u64,
    /// What, in 4 bytes.
    pub(crate) data: u32,
}

/// Which of the sources of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// Rung by a store to its trigger page, with an interrupt of XIVE's own.
    Ipi,
    /// Rung by a message of a device.
    Msi,
}

impl SourceKind {
    /// Returns the EISN of the source of slot `index` in a queue of `size`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if that is beyond what the queue has entries for.
    #[inline]
    pub(crate) fn eisn(self, index: usize, size: QueueSize) -> Result<u32> {
        if index >= size.entries() {
            return Err(ENOSPC);
        }
        Ok(match self {
            Self::Ipi => index as u32,
            Self::Msi => (size.entries() + index) as u32,
        })
    }

    /// Returns the slot and the source that `eisn` stands for in a queue of `size`.
    #[inline]
    pub(crate) fn of_eisn(eisn: usize, size: QueueSize) -> (Self, usize) {
        match eisn.checked_sub(size.entries()) {
            None => (Self::Ipi, eisn),
            Some(index) => (Self::Msi, index),
        }
    }
}

/// What is entered for a slot, and its source that is routed to an event queue if it has one.
pub(crate) struct EisnEntry<T, K = ()> {
    esb: Option<Esb>,
    pub(crate) with: T,
    // Keeps the ESB mapped, where [`EisnTable`] does not.
    _keep: K,
}

impl<T, K> EisnEntry<T, K> {
    /// Ends the interrupt of the source, so that its next event is routed.
    #[inline]
    pub(crate) fn end_interrupt(&self) {
        if let Some(esb) = &self.esb {
            esb.eoi();
        }
    }

    /// Has events of the source wait until [`Self::end_interrupt`], of which one is sent then. Returns
    /// `false` if one was sent before, which will come.
    pub(crate) fn park(&self) -> bool {
        self.esb.as_ref().is_some_and(Esb::park)
    }
}

/// The slots whose sources are routed to an event queue, each with a `T`, and slots without such.
///
/// Has the ESBs only, and keeps them mapped: a slot is to be removed before its sources are dropped,
/// for what is done here to one that is no longer ours would be done to another's.
pub(crate) struct EisnTable<T, K = ()> {
    entries: KVVec<Option<EisnEntry<T, K>>>,
    // Keeps the ESBs mapped but for those of messages.
    platform: Arc<Platform>,
}

/// As [`EisnTable`], of messages only.
pub(crate) type MessageEisnTable<T> = EisnTable<T, Arc<MessageSource>>;

impl<T, K> EisnTable<T, K> {
    /// Makes an empty table with room for slots below `capacity`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(platform: &Arc<Platform>, capacity: usize) -> Result<Self> {
        let mut entries = KVVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?;

        while entries.len() < capacity {
            entries.push_within_capacity(None)?;
        }
        Ok(Self {
            entries,
            platform: platform.clone(),
        })
    }

    /// Returns below which index slots have room.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Changes places with `larger`, which is empty, and keeps what it has. Neither allocates nor
    /// frees memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `larger` is smaller, or another machine's.
    pub(crate) fn grow(&mut self, larger: &mut Self) -> Result {
        let same = Arc::ptr_eq(&self.platform, &larger.platform);

        if !same || larger.capacity() < self.capacity() {
            return Err(EINVAL);
        }
        core::mem::swap(self, larger);
        for (to, from) in self.entries.iter_mut().zip(&mut larger.entries) {
            core::mem::swap(to, from);
        }
        Ok(())
    }

    /// Returns the place of slot `index`, for it to be entered. Neither allocates nor frees memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room.
    #[inline(always)]
    fn place(&mut self, index: usize) -> Result<&mut Option<EisnEntry<T, K>>> {
        self.entries.get_mut(index).ok_or(ENOMEM)
    }

    /// Takes out slot `index`.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        self.entries.get_mut(index)?.take().map(|route| route.with)
    }

    /// Returns slot `index`, if it is entered.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&EisnEntry<T, K>> {
        self.entries.get(index)?.as_ref()
    }

    /// As [`Self::get`].
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut EisnEntry<T, K>> {
        self.entries.get_mut(index)?.as_mut()
    }
}

impl<T> EisnTable<T> {
    /// Enters slot `index` with a source or without, together with `with`. Neither allocates nor frees
    /// memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room, `EINVAL` if the source is that of a message, or another machine's.
    #[inline(always)]
    pub(crate) fn insert(&mut self, index: usize, source: Option<&Source>, with: T) -> Result {
        if let Some(source) = source {
            let platform = &source.holder.platform;

            if source.message.is_some() || !Arc::ptr_eq(platform, &self.platform) {
                return Err(EINVAL);
            }
        }
        *self.place(index)? = Some(EisnEntry {
            esb: source.map(|source| source.esb),
            with,
            _keep: (),
        });
        Ok(())
    }
}

impl<T> MessageEisnTable<T> {
    /// Enters slot `index` with `source`, together with `with`. Neither allocates nor frees memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room, `EINVAL` if the source is not that of a message.
    pub(crate) fn insert_message(&mut self, index: usize, source: &Source, with: T) -> Result {
        let message = source.message_source().ok_or(EINVAL)?;

        *self.place(index)? = Some(EisnEntry {
            esb: Some(message.esb),
            with,
            _keep: message.into(),
        });
        Ok(())
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
    fn new() -> Result<Self, AllocError> {
        const EXHAUSTED: AllocError = AllocError::Exhausted(Resource::VirtualProcessor);

        may_fail(EXHAUSTED)?;
        // SAFETY: There is a `Platform`, so OPAL and XIVE are there.
        match unsafe { extra::xive_native_alloc_vp_block(1) } {
            extra::XIVE_INVALID_VP => Err(EXHAUSTED),
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

        populate(lisn, &mut data)?;

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
    size: QueueSize,
    xive: extra::xive_q,
    leaked: SetOnce<()>,
    vp: ManuallyDrop<VpBlock>,
    // Freed last, when no hardware writes to it any more.
    memory: ManuallyDrop<ContiguousPages>,
}

impl VpQueue {
    fn new(size: QueueSize) -> Result<Self, AllocError> {
        let memory = ContiguousPages::new(size.order())?;
        let vp = VpBlock::new()?;

        may_fail(EIO)?;
        // Before the queue: this decides which interrupt the queue will escalate to.
        //
        // SAFETY: The VP is ours.
        to_result(unsafe { extra::xive_native_enable_vp(vp.0, true) })?;

        // INVARIANT: Just enabled, and without a queue until the call below.
        let mut queue = Self {
            size,
            xive: extra::xive_q::default(),
            leaked: SetOnce::new(),
            vp: ManuallyDrop::new(vp),
            memory: ManuallyDrop::new(memory),
        };
        may_fail(EIO)?;
        // SAFETY: The VP is ours and enabled. The memory is zeroed, aligned and of the size that
        // is told, and lives until the queue is disabled.
        to_result(unsafe {
            extra::xive_native_configure_queue(
                queue.vp.0,
                &mut queue.xive,
                PRIORITY,
                queue.memory.as_ptr().cast(),
                size.order(),
                true,
            )
        })?;
        Ok(queue)
    }

    /// Has hardware write to the memory no more.
    ///
    /// # Errors
    ///
    /// `EIO` if firmware refuses: hardware may still write there.
    fn disable(&mut self) -> Result {
        may_fail(EIO)?;
        // SAFETY: The VP is ours and enabled. If setting up the queue failed, the number of the
        // escalation is 0 and there is nothing to wait for.
        to_result(unsafe {
            if self.xive.esc_irq != 0 {
                extra::xive_native_sync_queue(self.xive.esc_irq);
            }
            extra::xive_native_disable_vp(self.vp.0)
        })?;
        // SAFETY: As above.
        unsafe { extra::xive_native_disable_queue(self.vp.0, &mut self.xive, PRIORITY) };

        // That one returns nothing.
        let mut flags = u64::from(extra::OPAL_XIVE_EQ_ENABLED);
        may_fail(EIO)?;
        // SAFETY: As above. A null pointer is for what is not wanted.
        to_result(unsafe {
            extra::xive_native_get_queue_info(
                self.vp.0,
                PRIORITY.into(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                &mut flags,
            )
        })?;
        match flags & u64::from(extra::OPAL_XIVE_EQ_ENABLED) {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }
}

impl Drop for VpQueue {
    fn drop(&mut self) {
        // Hardware may write to the memory for as long as the machine runs.
        if self.leaked.as_ref().is_some() {
            return;
        }
        if self.disable().is_err() {
            if may_log() {
                let vp = self.vp.0;
                pr_warn!("VP {vp:#x}: firmware does not disable it, it is not given back\n");
            }
            return;
        }
        // SAFETY: Neither is used again.
        unsafe {
            ManuallyDrop::drop(&mut self.vp);
            ManuallyDrop::drop(&mut self.memory);
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
    /// Sets up a VP with an empty queue of `size`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the machine has no VP left, `ENOMEM` if there is no memory, `EIO` if firmware
    /// refuses.
    pub(crate) fn new(size: QueueSize) -> Result<Self, AllocError> {
        let queue = VpQueue::new(size)?;

        Ok(Self {
            escalation: EscalationEsb::new(queue.xive.esc_irq)?,
            queue,
        })
    }

    /// Returns the size of the queue.
    #[inline]
    pub(crate) fn size(&self) -> QueueSize {
        self.queue.size
    }

    /// Returns the entry at `index`, modulo the size of the queue, as hardware has written it.
    ///
    /// Bit 31 is the generation: 1 in the first pass through the queue, flipped in each one after.
    /// The other bits are the EISN.
    pub(crate) fn entry(&self, index: usize) -> u32 {
        let entries: *const u32 = self.queue.memory.as_ptr().cast();

        let index = index & (self.queue.size.entries() - 1);

        // SAFETY: The memory has as many. The volatile read of an aligned word corresponds to
        // `READ_ONCE()`, so that hardware writes it is no data race.
        u32::from_be(unsafe { entries.add(index).read_volatile() })
    }

    /// EisnTable `source`, the one of slot `index` that has the `origin`, here. It must be off.
    ///
    /// # Errors
    ///
    /// `ENXIO` if firmware refuses, `ENOSPC` if `index` is beyond what the queue has entries for.
    #[inline]
    pub(crate) fn route(&self, source: &Source, origin: SourceKind, index: usize) -> Result {
        let eisn = origin.eisn(index, self.queue.size)?;

        may_fail(ENXIO)?;
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

    /// Keeps events from escalating until the escalation is unmasked. Returns whether there is none yet
    /// that the handler is to be called for.
    pub(crate) fn hold_escalation(&self) -> bool {
        // P set is what an escalation leaves behind.
        self.escalation.load(extra::XIVE_ESB_SET_PQ_10) & u64::from(extra::XIVE_ESB_VAL_P) == 0
    }

    /// Keeps events from escalating.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Escalation`] if the ESe says otherwise.
    pub(crate) fn mask_escalation(&self) -> Result<(), QuiesceError> {
        for _ in 0..OFF_TRIES {
            self.escalation.load(extra::XIVE_ESB_SET_PQ_01);
            if self.escalation.load(extra::XIVE_ESB_GET) & PQ_MASK == PQ_OFF {
                return may_fail(QuiesceError::Escalation);
            }
        }
        Err(QuiesceError::Escalation)
    }

    /// Returns whether an escalation is on its way to the handler, or has not been unmasked since.
    pub(crate) fn escalation_pending(&self) -> bool {
        self.escalation.load(extra::XIVE_ESB_GET) & u64::from(extra::XIVE_ESB_VAL_P) != 0
    }

    /// Returns the number of the VP.
    pub(crate) fn vp(&self) -> u32 {
        self.queue.vp.0
    }

    /// Has the VP and the memory not be given back when the queue is dropped: for one to which
    /// hardware may still write.
    pub(crate) fn leak(&self) {
        self.queue.leaked.populate(());
    }
}

/// The memory of an event queue, for a program that reads it.
pub(crate) struct QueueMemory(pub(crate) Arc<EventQueue>);

// SAFETY: The memory is the queue's as long as that is referred to.
unsafe impl UserPages for QueueMemory {
    const DEVICE: bool = false;

    fn phys(&self) -> u64 {
        self.0.queue.memory.phys()
    }

    fn len(&self) -> u64 {
        self.0.size().bytes().max(PAGE_SIZE) as u64
    }
}

/// The handler that an event queue escalates to.
pub(crate) struct EscalationHandler<H: BoundedHandler> {
    // Freed before the queue that the interrupt belongs to.
    irq: Pin<KBox<IrqHandler<H>>>,
    queue: Arc<EventQueue>,
}

impl<H: BoundedHandler> EscalationHandler<H> {
    /// Has the handler that `handler` makes called when `queue` escalates; `name` appears in
    /// `/proc/interrupts`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, those of `handler`, and those of `request_irq`.
    pub(crate) fn new<'a, I>(
        queue: EventQueue,
        name: CString,
        handlers: Arc<CpuDeadList<IrqHandler<H>>>,
        handler: impl FnOnce(Arc<EventQueue>) -> I,
    ) -> Result<Self>
    where
        I: PinInit<H, Error> + 'a,
        H: 'a,
    {
        let queue = Arc::new(queue, GFP_KERNEL_ACCOUNT)?;

        // SAFETY: The interrupt belongs to the queue, of which this is the only handler since it
        // came by value. The mapping is dropped before the queue, here and in `Self`; if the
        // handler is leaked, so is the queue, and with it the interrupt.
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

        let irq = IrqHandler::request(mapping, name, handlers, handler(queue.clone()))?;

        Ok(Self { irq, queue })
    }

    /// Returns the handler.
    pub(crate) fn handler(&self) -> &H {
        self.irq.handler()
    }

    /// Waits until the handler is not running in hard interrupt context.
    pub(crate) fn synchronize(&self) {
        self.irq.synchronize();
    }

    /// Has the interrupt stay, without a handler, when this is dropped, and the queue be leaked: for one
    /// whose escalation does not come to rest.
    pub(crate) fn leak(&self) {
        self.queue.leak();
        let data = self.irq.leak().cast::<extra::xive_irq_data>();

        // Or freeing the handler would wait for an interrupt that may never come.
        //
        // SAFETY: What XIVE keeps for the interrupt, which is there as long as `self`. It is disabled:
        // when one comes nevertheless XIVE writes the same.
        unsafe {
            (&raw mut (*data).saved_p).write(false);
            (&raw mut (*data).stale_p).write(true);
        }
    }
}

#[kunit_tests(uxive_platform)]
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
