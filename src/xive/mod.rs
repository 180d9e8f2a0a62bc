// SPDX-License-Identifier: GPL-2.0

//! XIVE's interrupt sources and event queues, as the driver gets them through OPAL.
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
    bindings as extra,
    kernel_ext::{
        bypass,
        cpu,
        irqdomain::ChildDomain,
        msi::{
            BridgeId,
            MessageDomain, //
        },
        of,
        work::Worker, //
    }, //
};
use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    static_lock_class,
    sync::{
        Arc,
        Mutex, //
    }, //
};

mod bridge;
mod eisn;
mod error;
mod esb;
mod guest;
mod messages;
mod pool;
mod refusal;
mod source;
mod table;
mod vp;
mod vps;

use bridge::Bridge;
pub(crate) use eisn::{
    QueueSize,
    SourceKind,
    MAX_SOURCES, //
};
pub(crate) use error::{
    AllocError,
    QuiesceError,
    Resource, //
};
pub(crate) use guest::GuestSource;
pub(crate) use messages::MessagePool;
use pool::{
    Chip,
    Pool,
    Sources,
    SpareSource, //
};
pub(crate) use pool::{
    ChipId,
    Location, //
};
use refusal::LastRefusal;
pub(crate) use source::{
    MsiMsg,
    Source, //
};
pub(crate) use table::{
    EisnTable,
    MessageEisnTable, //
};
use vp::VpPool;
pub(crate) use vp::{
    EscalationHandler,
    EventQueue,
    LeakMark,
    QueueMemory, //
};

/// OPAL's name for the interrupt controller in the device tree. The kernel's own driver matches it
/// too, in `arch/powerpc/sysdev/xive/native.c`.
const OPAL_XIVE_COMPATIBLE: &CStr = c"ibm,opal-xive-pe";

/// OPAL's name for the messages of a host bridge: the number of the first, and how many there are. The
/// kernel allocates those of `arch/powerpc/platforms/powernv/pci-ioda.c` from them.
const MSI_RANGES: &CStr = c"ibm,opal-msi-ranges";

/// The name of the chip of Linux interrupts that are made for KVM. If it is not mended, KVM takes an
/// interrupt for one that firmware ends if the name begins so, and else refuses it. It looks at nothing
/// more, and XIVE is what it wants to know of: firmware ends none of these.
const GUEST_CHIP: &CStr = c"PNV-XIVE";

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
    #[pin]
    vps: VpPool,
    /// Of what belongs to a VP. Innermost, see `file.rs`.
    #[pin]
    queue_refusal: Mutex<LastRefusal>,
    /// The host bridges of functions that have messages. Innermost, see `file.rs`.
    #[pin]
    bridges: Mutex<KVec<(BridgeId, Arc<Bridge>)>>,
    /// Linux interrupts of sources that guests have, if the kernel has irq bypass.
    guest_irqs: Option<Arc<ChildDomain>>,
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
            refusal: LastRefusal::default(),
            held: 0,
        };
        let guest_irqs = match bypass::is_available() {
            true => Some(ChildDomain::new(GUEST_CHIP)?),
            false => None,
        };
        let platform = Arc::pin_init(
            try_pin_init!(Self {
                guest_irqs,
                sources <- Worker::new(static_lock_class!(), try_pin_init!(Sources {
                    pool <- new_mutex!(pool, "uxive_pool"),
                }? Error)),
                vps <- VpPool::new(),
                queue_refusal <- new_mutex!(LastRefusal::default(), "uxive_queue_refusal"),
                bridges <- new_mutex!(KVec::new(), "uxive_bridges"),
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
        of::has_compatible(OPAL_XIVE_COMPATIBLE)
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

    /// Returns the spares of the `index`-th chip, if there are so many chips.
    pub(crate) fn reserve(&self, index: usize) -> Option<ReserveView> {
        let pool = self.sources.pool.lock();
        let chip = pool.chips.get(index)?;

        Some(ReserveView {
            chip: chip.id,
            spares: chip.spares.len(),
        })
    }

    /// Returns how many Linux interrupts the online CPUs have room for. Beyond it Linux still makes
    /// some, which never fire.
    pub(crate) fn linux_irqs() -> usize {
        // Each CPU has a queue of a page. An interrupt needs an entry of it, and one entry stays
        // free.
        (PAGE_SIZE / size_of::<u32>() - 1).saturating_mul(cpu::online().weight() as usize)
    }

    /// Returns the host bridge that `domain` is of.
    ///
    /// # Errors
    ///
    /// `ENODEV` if firmware does not tell how many messages it has, `ENOMEM` if there is no memory.
    fn bridge(&self, domain: &MessageDomain) -> Result<Arc<Bridge>> {
        let bridges = &mut *self.bridges.lock();
        let id = domain.bridge();

        if let Some((_, known)) = bridges.iter().find(|(known, _)| *known == id) {
            return Ok(known.clone());
        }
        let [_, messages] = domain.bridge_cells(MSI_RANGES)?;
        let bridge = Arc::new(Bridge::new(messages as usize), GFP_KERNEL)?;
        bridges.push((id, bridge.clone()), GFP_KERNEL)?;
        Ok(bridge)
    }

    /// Remembers that firmware, or the kernel, has refused a step of setting up an event queue.
    #[cold]
    fn queue_refused(&self, refusal: impl Into<AllocError>) {
        self.queue_refusal.lock().remember(refusal.into());
    }

    /// Takes a source.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::allocate`].
    #[inline(always)]
    fn take(&self, location: Location) -> Result<SpareSource, AllocError> {
        let pool = &mut *self.sources.pool.lock();

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

    /// Takes a source back.
    #[inline]
    fn put(&self, spare: SpareSource) {
        self.sources.pool.lock().put(spare);
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
