// SPDX-License-Identifier: GPL-2.0

//! Messages of a PCI function as XIVE sources, routed to our event queues.
//!
//! A message is a source of the function's host bridge (PHB), with an ESB: the function raises it by
//! writing the message, where a program raises others by a store to their trigger page. The irq core
//! allocates the source for us, maps its ESB and frees both, and does nothing else with it, see
//! [`msi`](crate::kernel_ext::msi). So we can route it as we route our own. KVM tells the irq core
//! by `irq_set_vcpu_affinity()` that an interrupt goes to a VP, so that the irq core does not end
//! or move it. We need not: the irq core has not started ours.
//!
//! The irq core switches a source off when it makes it. When it frees it, it changes nothing, not
//! even the route. The source is off then, and its next owner switches it off again and routes it
//! anew; but the VP may be gone by then. So the route is taken out first.
//!
//! The lock of a pool is as that of [`Platform`]: see `file.rs`. The irq core's are taken under it.

use super::{
    bridge::{
        Bridge,
        BridgeCharge, //
    },
    esb::{
        has_two_pages,
        Esb,
        ESB_PAGE,
        ESB_SHIFT, //
    },
    refusal::LastRefusal,
    AllocError,
    ChipId,
    Platform,
    Resource, //
};
use crate::{
    bindings as extra,
    kernel_ext::{
        fault::injectable,
        msi::{
            MessageDomain,
            MsiIrq, //
        },
        ratelimit::pr_warn_ratelimited,
        work::{
            Work,
            Worker, //
        }, //
    }, //
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    device::Bound,
    error::to_result,
    new_mutex,
    pci,
    prelude::*,
    static_lock_class,
    sync::{
        Arc,
        Mutex,
        SetOnce,
        UniqueArc, //
    }, //
};

/// The most messages of a function that are kept for new interrupts.
const SPARES: usize = 64;

/// With fewer spare messages than this a function gets more, up to [`SPARES_FILLED`].
const SPARES_LOW: usize = SPARES / 4;

/// How many spare messages a function is given, with room left for some that come back.
const SPARES_FILLED: usize = SPARES / 2;

/// The priority of a source that is not routed.
const NOT_ROUTED: u8 = 0xff;

/// How many pages of 64 KiB an ESB has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// One, for stores as a trigger page and for loads as a management page.
    One,
    /// The trigger page, and the management page right after it.
    Two,
}

impl Pages {
    /// # Errors
    ///
    /// `EIO` if firmware tells something else.
    fn of(data: &extra::xive_irq_data) -> Result<Self> {
        if has_two_pages(data) {
            return Ok(Self::Two);
        }
        let aligned = data.eoi_page != 0 && data.eoi_page % ESB_PAGE as u64 == 0;

        if aligned && data.esb_shift == ESB_SHIFT - 1 && data.trig_page == data.eoi_page {
            Ok(Self::One)
        } else {
            Err(EIO)
        }
    }
}

/// The source that is behind a message. It is off when it is made, and must be off when it is
/// dropped.
///
/// # Invariants
///
/// `lisn` is that of `message`, nothing else refers to it, and `esb` is its ESB, mapped as long as
/// `message` lives.
pub(crate) struct MessageSource {
    pub(super) message: ManuallyDrop<MsiIrq>,
    pub(super) lisn: u32,
    pub(super) esb: Esb,
    leaked: SetOnce<()>,
    charge: BridgeCharge,
    /// The pool that it was taken from. `None` while it is a spare there.
    pool: Option<Arc<MessagePool>>,
}

impl MessageSource {
    /// # Errors
    ///
    /// `EIO` if the message is not XIVE's, or firmware tells of an ESB that is of no use here.
    fn new(message: MsiIrq, charge: BridgeCharge) -> Result<UniqueArc<Self>> {
        // SAFETY: Valid as long as the message.
        let irq = unsafe { message.source().as_ref() };
        // SAFETY: An interrupt has a chip.
        if !unsafe { extra::is_xive_irq(irq.chip.cast()) } {
            return Err(EIO);
        }
        // SAFETY: This is what XIVE has there, and nobody changes it.
        let data = unsafe { &*irq.chip_data.cast::<extra::xive_irq_data>() };

        // INVARIANT: XIVE calls the LISN so, has mapped both pages for the irq core, and unmaps them
        // when the message goes.
        Ok(UniqueArc::new(
            Self {
                lisn: u32::try_from(irq.hwirq).map_err(|_| EIO)?,
                esb: Self::esb(data)?,
                message: ManuallyDrop::new(message),
                leaked: SetOnce::new(),
                charge,
                pool: None,
            },
            GFP_KERNEL,
        )?)
    }

    fn esb(data: &extra::xive_irq_data) -> Result<Esb> {
        let pages = Pages::of(data)?;
        let mapped = match pages {
            Pages::One => data.eoi_mmio,
            // The irq core maps `1 << esb_shift` from the trigger page on: both.
            Pages::Two => data.trig_mmio.wrapping_byte_add(ESB_PAGE),
        };

        Ok(Esb {
            phys: data.trig_page,
            management: NonNull::new(mapped.cast()).ok_or(EIO)?,
            chip: ChipId(u32::try_from(data.src_chip).map_err(|_| EIO)?),
            trigger_before: u8::from(pages == Pages::Two),
            eoi_store: super::esb::eoi_store(data),
        })
    }

    /// Gives `source`, which is off, back to where it came from. May sleep.
    pub(super) fn put(mut source: UniqueArc<Self>) {
        if let Some(pool) = source.pool.take() {
            pool.put(source);
        }
    }

    /// Leaks the message when this is dropped.
    pub(super) fn leak(&self) {
        self.leaked.populate(());
    }
}

impl Drop for MessageSource {
    fn drop(&mut self) {
        if self.leaked.as_ref().is_some() {
            self.charge.leak();
            return;
        }
        let unrouted = injectable!(
            uxive_unroute_message,
            EIO,
            // SAFETY: The LISN is ours until the message is dropped, after this.
            to_result(unsafe { extra::xive_native_configure_irq(self.lisn, 0, NOT_ROUTED, 0) })
        );
        if unrouted.is_err() {
            // Not freed, since its route may lead to a VP that is gone.
            let lisn = self.lisn;
            pr_warn_ratelimited!(
                "interrupt {lisn:#x}: firmware does not take its route, it is not given back\n"
            );
            self.charge.leak();
            return;
        }
        // SAFETY: It is not used again.
        unsafe { ManuallyDrop::drop(&mut self.message) };
    }
}

/// The spare messages of a function: allocated, and used by no context.
struct Spares {
    /// `None` if the function is no longer ours.
    domain: Option<MessageDomain>,
    bridge: Arc<Bridge>,
    /// Of the interrupt that the PCI core has to make MSI-X work, as long as the function is ours.
    own: Option<BridgeCharge>,
    /// How many there are, those of contexts included, and how many the function has places for.
    held: usize,
    needed: usize,
    // Not longer than the capacity that it is made with.
    sources: KVec<UniqueArc<MessageSource>>,
    /// Of a message.
    refusal: LastRefusal,
}

impl Spares {
    /// Returns whether to ask the PHB for a spare message.
    fn may_ask(&self) -> bool {
        self.domain.is_some()
            && self.held < self.needed
            && self.bridge.has_room()
            && self.refusal.check().is_ok()
    }

    /// Allocates a source. As [`MessagePool::take`].
    fn allocate(&mut self) -> Result<UniqueArc<MessageSource>, AllocError> {
        const EXHAUSTED: AllocError = AllocError::Exhausted(Resource::Message);

        let domain = self.domain.as_ref().ok_or(ENODEV)?;
        let charge = BridgeCharge::new(&self.bridge).ok_or(EXHAUSTED)?;
        let message = self.refusal.ask(|| {
            domain.allocate().map_err(|error| match error {
                ENOSPC => EXHAUSTED,
                // The C side calls a refusal of firmware an invalid argument.
                EINVAL => EIO.into(),
                error => error.into(),
            })
        })?;

        let source = MessageSource::new(message, charge)?;
        self.held += 1;
        Ok(source)
    }

    /// Keeps a source for a new interrupt, or returns it if there are enough.
    fn put(&mut self, source: UniqueArc<MessageSource>) -> Option<UniqueArc<MessageSource>> {
        if self.domain.is_some() && self.sources.len() < SPARES {
            // Does not fail: there is room, and nothing is allocated.
            let _ = self.sources.push_within_capacity(source);
            return None;
        }
        self.held -= 1;
        Some(source)
    }
}

/// The spare messages of a function, and how they come to their number.
#[pin_data]
struct Reserve {
    #[pin]
    spares: Mutex<Spares>,
}

impl Reserve {
    /// Adds a spare source, unless there are enough. Returns whether it did.
    fn add_spare(&self) -> bool {
        let spares = &mut *self.spares.lock();

        if spares.sources.len() >= SPARES_FILLED || !spares.may_ask() {
            return false;
        }
        match spares.allocate() {
            Ok(source) => spares.put(source).is_none(),
            Err(_) => false,
        }
    }
}

impl Work for Reserve {
    fn run(worker: &Worker<Self>) {
        while worker.add_spare() {}
    }
}

/// Where the messages of a PCI function are taken from and put back to.
///
/// It must be [closed](Self::close) before its driver is unbound. Messages that contexts have then
/// stay with them, and keep the pool.
#[pin_data]
pub(crate) struct MessagePool {
    /// Its work is to fill up the spare messages.
    #[pin]
    reserve: Worker<Reserve>,
}

impl MessagePool {
    /// Makes the pool of the function `dev`, which has places for `needed` messages, and has spare ones
    /// allocated soon.
    ///
    /// The function raises interrupts only if its MSI-X is enabled.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the function cannot have messages, `ENOMEM` if there is no memory.
    pub(crate) fn new(
        machine: &Platform,
        dev: &pci::Device<Bound>,
        needed: usize,
    ) -> Result<Arc<Self>> {
        // SAFETY: `Platform::new` has shown that this is powernv, whose PHBs stay.
        let domain = unsafe { MessageDomain::new(dev) }?;
        let bridge = machine.bridge(&domain)?;
        let spares = Spares {
            domain: Some(domain),
            own: Some(BridgeCharge::of_pci_core(&bridge)),
            bridge,
            held: 0,
            needed,
            sources: KVec::with_capacity(SPARES, GFP_KERNEL)?,
            refusal: LastRefusal::default(),
        };
        let pool = Arc::pin_init(
            try_pin_init!(Self {
                reserve <- Worker::new(static_lock_class!(), try_pin_init!(Reserve {
                    spares <- new_mutex!(spares, "uxive_messages"),
                }? Error)),
            }? Error),
            GFP_KERNEL,
        )?;

        pool.reserve.queue();
        Ok(pool)
    }

    /// Takes a source. May sleep.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` when the driver has as many of the PHB as it may, or the PHB has no more, or had none a
    ///   moment ago.
    /// - `ENODEV` if the pool is closed.
    /// - `ENOMEM` if there is no memory; `EIO` if firmware refuses, or did a moment ago.
    pub(super) fn take(self: &Arc<Self>) -> Result<UniqueArc<MessageSource>, AllocError> {
        let spares = &mut *self.reserve.spares.lock();
        let spare = spares.sources.pop();

        if spares.sources.len() < SPARES_LOW && spares.may_ask() {
            self.reserve.queue();
        }
        let mut source = match spare {
            Some(spare) => spare,
            None => spares.allocate()?,
        };
        source.pool = Some(self.clone());
        Ok(source)
    }

    /// Takes a source back.
    fn put(&self, source: UniqueArc<MessageSource>) {
        let surplus = self.reserve.spares.lock().put(source);

        // Freed outside the lock.
        drop(surplus);
    }

    /// Gives the spare messages back. From now on no more are allocated, and those that come back are
    /// freed.
    pub(crate) fn close(&self) {
        let (domain, own, sources) = {
            let spares = &mut *self.reserve.spares.lock();
            (
                spares.domain.take(),
                spares.own.take(),
                core::mem::replace(&mut spares.sources, KVec::new()),
            )
        };

        drop((sources, own, domain));
    }
}

#[kunit_tests(uxive_messages)]
mod tests {
    use super::*;

    fn pages(esb_shift: u32, trig_page: u64, eoi_page: u64) -> Result<Pages> {
        Pages::of(&extra::xive_irq_data {
            esb_shift,
            trig_page,
            eoi_page,
            ..Default::default()
        })
    }

    #[test]
    fn one_page_or_two_are_known() {
        assert_eq!(pages(16, 0x6_0001_0000, 0x6_0001_0000), Ok(Pages::One));
        assert_eq!(pages(17, 0x6_0002_0000, 0x6_0003_0000), Ok(Pages::Two));
    }

    #[test]
    fn other_layouts_are_refused() {
        // No trigger page: an event that came meanwhile could not be sent again.
        assert_eq!(pages(16, 0, 0x6_0001_0000), Err(EIO));
        assert_eq!(pages(17, 0, 0x6_0003_0000), Err(EIO));
        // Pages of another size, apart, in another order, not aligned, none.
        assert_eq!(pages(12, 0x6_0001_0000, 0x6_0001_0000), Err(EIO));
        assert_eq!(pages(17, 0x6_0001_0000, 0x6_0001_0000), Err(EIO));
        assert_eq!(pages(16, 0x6_0001_0000, 0x6_0002_0000), Err(EIO));
        assert_eq!(pages(17, 0x6_0001_0000, 0x6_0000_0000), Err(EIO));
        assert_eq!(pages(16, 0x6_0001_1000, 0x6_0001_1000), Err(EIO));
        assert_eq!(pages(16, 0, 0), Err(EIO));
    }
}
