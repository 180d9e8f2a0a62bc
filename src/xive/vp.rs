// SPDX-License-Identifier: GPL-2.0

//! VPs, their event queues, and the escalations of these.

use super::{
    esb::{
        populate,
        OFF_TRIES,
        PQ_MASK,
        PQ_OFF, //
    },
    refusal::LastRefusal,
    vps::{
        TakenVp,
        VpBlocks,
        BLOCK, //
    },
    AllocError,
    Platform,
    QueueSize,
    QuiesceError,
    Resource,
    Source,
    SourceKind, //
};
use crate::{
    bindings as extra,
    kernel_ext::{
        cpuhp::CpuDeadList,
        fault::injectable,
        irq::{
            BoundedHandler,
            IrqHandler,
            IrqMapping, //
        },
        kthread::KthreadWorker,
        mapping::UserPages,
        mmio::in_be64,
        pages::ContiguousPages,
        ratelimit::pr_warn_ratelimited, //
    }, //
};
use core::mem::ManuallyDrop;
use kernel::{
    error::to_result,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex,
        SetOnce, //
    }, //
};

/// The priority at which sources are routed to our VPs: the lowest but one, as 7 is the gather
/// queue of single escalation. VPs that never run have nothing to prioritize.
const PRIORITY: u8 = 6;

/// The VPs that OPAL has given to us.
///
/// A VP that comes back is disabled, and is handed out anew as it is. OPAL does more when it gives a
/// block back and out again: it clears the state in which hardware keeps a VP that does not run on a
/// CPU (NVT). Disabling a VP leaves one thing in that which an earlier queue has left: that an event of
/// our priority is pending (IPB). Nothing but running the VP on a CPU would take that. So each VP of
/// ours has it from its first event to its end, and escalates all the same. Its ENDs OPAL does not
/// touch then. Disabling the queue and the VP has cleared both that we use, the one of our priority
/// and the gather queue.
#[pin_data(PinnedDrop)]
pub(super) struct VpPool {
    /// Innermost, see `file.rs`.
    #[pin]
    blocks: Mutex<VpBlocks>,
    /// Held by a caller that asks OPAL for a block, while others that need one wait; see `file.rs`.
    #[pin]
    refusal: Mutex<LastRefusal>,
}

impl VpPool {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            blocks <- new_mutex!(VpBlocks::new(), "uxive_vps"),
            refusal <- new_mutex!(LastRefusal::default(), "uxive_vp_refusal"),
        })
    }

    /// Takes a VP of the blocks that we have, or of a new one.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when OPAL has no block left, or had none a moment ago; `ENOMEM` if there is no memory.
    #[inline]
    fn take(&self) -> Result<TakenVp, AllocError> {
        let taken = self.blocks.lock().take();

        match taken {
            Some(taken) => Ok(taken),
            None => self.take_of_new_block(),
        }
    }

    #[cold]
    fn take_of_new_block(&self) -> Result<TakenVp, AllocError> {
        // One asks at a time: of many that need a VP each would have a block otherwise.
        let mut refusal = self.refusal.lock();
        {
            let mut blocks = self.blocks.lock();

            // The last one that asked may have left some.
            if let Some(taken) = blocks.take() {
                return Ok(taken);
            }
            blocks.reserve()?;
        }

        // SAFETY: There is a `Platform`, so OPAL and XIVE are there.
        let first = refusal.ask(
            || match unsafe { extra::xive_native_alloc_vp_block(BLOCK) } {
                extra::XIVE_INVALID_VP => Err(NO_VP),
                first => Ok(first),
            },
        )?;
        let mut blocks = self.blocks.lock();

        // Does not fail: there is room, and only the holder of the other lock fills it.
        blocks.add(first)?;
        blocks.take().ok_or(NO_VP)
    }

    /// Takes a VP back, which must be disabled.
    fn put(&self, taken: TakenVp) {
        let surplus = self.blocks.lock().put(taken);

        if let Some(first) = surplus {
            Self::give_back(first);
        }
    }

    /// Gives a block back to OPAL, of which no VP is taken any more.
    fn give_back(first: u32) {
        // SAFETY: It is out of the blocks that we have, and all its VPs are disabled.
        unsafe { extra::xive_native_free_vp_block(first) };
    }
}

#[pinned_drop]
impl PinnedDrop for VpPool {
    fn drop(self: Pin<&mut Self>) {
        let mut blocks = self.blocks.lock();

        // A block of which a VP was leaked stays.
        while let Some(first) = blocks.remove_spare() {
            Self::give_back(first);
        }
    }
}

/// There is no VP.
const NO_VP: AllocError = AllocError::Exhausted(Resource::VirtualProcessor);

/// A VP. It must be disabled when it is dropped, or leaked.
///
/// # Invariants
///
/// OPAL has allocated it to us, and nothing else uses it.
struct Vp {
    number: u32,
    /// `None` if it is leaked.
    taken: Option<TakenVp>,
    platform: Arc<Platform>,
}

impl Vp {
    /// # Errors
    ///
    /// Those of [`VpPool::take`]; the error of a refusal of another step of setting up a queue a moment
    /// ago.
    fn new(platform: &Arc<Platform>) -> Result<Self, AllocError> {
        platform.queue_refusal.lock().admit()?;
        let taken = injectable!(uxive_alloc_vp, NO_VP, platform.vps.take())?;

        // INVARIANT: It is of a block of ours, and in no other hands.
        Ok(Self {
            number: taken.number,
            taken: Some(taken),
            platform: platform.clone(),
        })
    }

    /// Keeps it from being used again, or being given back with its block.
    fn leak(&mut self) {
        self.taken = None;
    }
}

impl Drop for Vp {
    fn drop(&mut self) {
        if let Some(taken) = self.taken {
            self.platform.vps.put(taken);
        }
    }
}

/// Whether a queue was leaked, for its owner to know when it is gone.
#[derive(Clone)]
pub(crate) struct LeakMark(Arc<SetOnce<()>>);

impl LeakMark {
    /// Makes the mark of a queue that is not leaked.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Arc::new(SetOnce::new(), GFP_KERNEL_ACCOUNT)?))
    }

    fn set(&self) {
        self.0.populate(());
    }

    /// Returns whether the queue was leaked, or will be when it is dropped.
    pub(crate) fn is_set(&self) -> bool {
        SetOnce::as_ref(&self.0).is_some()
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
    fn new(platform: &Platform, lisn: u32) -> Result<Self> {
        let mut data = extra::xive_irq_data::default();

        populate(lisn, &mut data, |error| platform.queue_refused(error))?;

        // INVARIANT: Filled above.
        Ok(Self { data })
    }

    fn load(&self, offset: u32) -> u64 {
        // SAFETY: Mapped by the type invariants; all offsets lie within a page of 4 KiB.
        unsafe { in_be64(self.data.eoi_mmio.wrapping_byte_add(offset as usize)) }
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
/// The VP is enabled unless it is being set up, and `memory` is the only queue configured for it, at
/// [`PRIORITY`].
struct VpQueue {
    size: QueueSize,
    xive: extra::xive_q,
    leaked: LeakMark,
    vp: Vp,
    // Freed when no hardware writes to it any more.
    memory: ManuallyDrop<ContiguousPages>,
}

impl VpQueue {
    fn new(
        platform: &Arc<Platform>,
        size: QueueSize,
        leaked: LeakMark,
    ) -> Result<Self, AllocError> {
        let memory = ContiguousPages::new(size.order())?;
        let vp = Vp::new(platform)?;

        // INVARIANT: Without a queue until it is configured below. Dropped from here on, it is disabled,
        // however far it came: the next owner of the VP finds it so.
        let mut queue = Self {
            size,
            xive: extra::xive_q::default(),
            leaked,
            vp,
            memory: ManuallyDrop::new(memory),
        };

        // Before the queue: this decides which interrupt the queue will escalate to.
        injectable!(
            uxive_enable_vp,
            EIO,
            // SAFETY: The VP is ours.
            to_result(unsafe { extra::xive_native_enable_vp(queue.vp.number, true) })
                .inspect_err(|&error| platform.queue_refused(error))
        )?;
        injectable!(
            uxive_configure_queue,
            EIO,
            // SAFETY: The VP is ours and enabled. The memory is zeroed, aligned and of the size that
            // is told, and lives until the queue is disabled.
            to_result(unsafe {
                extra::xive_native_configure_queue(
                    queue.vp.number,
                    &mut queue.xive,
                    PRIORITY,
                    queue.memory.as_ptr().cast(),
                    size.order(),
                    true,
                )
            })
            .inspect_err(|&error| platform.queue_refused(error))
        )?;
        Ok(queue)
    }

    /// Stops hardware from writing to the memory.
    ///
    /// # Errors
    ///
    /// `EIO` if firmware refuses: hardware may still write there.
    fn disable(&mut self) -> Result {
        injectable!(
            uxive_disable_vp,
            EIO,
            // SAFETY: The VP is ours. If setting up the queue failed, the number of the escalation is 0
            // and there is nothing to wait for.
            to_result(unsafe {
                if self.xive.esc_irq != 0 {
                    extra::xive_native_sync_queue(self.xive.esc_irq);
                }
                extra::xive_native_disable_vp(self.vp.number)
            })
        )?;
        // SAFETY: As above.
        unsafe { extra::xive_native_disable_queue(self.vp.number, &mut self.xive, PRIORITY) };

        // That one returns nothing.
        let mut flags = u64::from(extra::OPAL_XIVE_EQ_ENABLED);
        injectable!(
            uxive_get_queue_info,
            EIO,
            // SAFETY: As above. A null pointer is for what is not wanted.
            to_result(unsafe {
                extra::xive_native_get_queue_info(
                    self.vp.number,
                    PRIORITY.into(),
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                    &mut flags,
                )
            })
        )?;
        match flags & u64::from(extra::OPAL_XIVE_EQ_ENABLED) {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }
}

impl Drop for VpQueue {
    fn drop(&mut self) {
        if !self.leaked.is_set() && self.disable().is_err() {
            let vp = self.vp.number;
            pr_warn_ratelimited!(
                "VP {vp:#x}: firmware does not disable it, it is not given back\n"
            );
            self.leaked.set();
        }
        // Hardware may write to the memory of one that is leaked for as long as the machine runs.
        if self.leaked.is_set() {
            self.vp.leak();
            return;
        }
        // SAFETY: It is not used again.
        unsafe { ManuallyDrop::drop(&mut self.memory) };
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
    /// Sets up a VP with an empty queue of `size`. `leaked` is set when it is leaked.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the machine has no VP left, or had none a moment ago; `ENOMEM` if there is no
    /// memory; `EIO` if firmware refuses, or did a moment ago.
    pub(crate) fn new(
        platform: &Arc<Platform>,
        size: QueueSize,
        leaked: LeakMark,
    ) -> Result<Self, AllocError> {
        let queue = VpQueue::new(platform, size, leaked)?;
        let escalation = EscalationEsb::new(platform, queue.xive.esc_irq)?;

        platform.queue_refusal.lock().forget();
        Ok(Self { escalation, queue })
    }

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

    /// Routes `source` here, which is that of slot `index` and of the kind `origin`. It must be
    /// off.
    ///
    /// # Errors
    ///
    /// `ENXIO` if firmware refuses, `ENOSPC` if `index` is beyond what the queue has entries for.
    #[inline]
    pub(crate) fn route(&self, source: &Source, origin: SourceKind, index: usize) -> Result {
        self.route_lisn(source.lisn, origin, index)
    }

    /// As [`Self::route`], of the source `lisn`, which is ours.
    #[inline(always)]
    pub(super) fn route_lisn(&self, lisn: u32, origin: SourceKind, index: usize) -> Result {
        let eisn = origin.eisn(index, self.queue.size)?;

        injectable!(
            uxive_route_source,
            ENXIO,
            // SAFETY: The LISN and the VP are ours, and the VP has a queue at this priority.
            to_result(unsafe {
                extra::xive_native_configure_irq(lisn, self.queue.vp.number, PRIORITY, eisn)
            })
        )
    }

    /// Lets the next event escalate, that is, call the handler.
    ///
    /// An event whose entry was written before this does not escalate: the caller has to look at
    /// the queue again afterwards. Entries written before are visible to it then.
    pub(crate) fn unmask_escalation(&self) {
        self.escalation.load(extra::XIVE_ESB_SET_PQ_00);
    }

    /// Keeps events from escalating until the escalation is unmasked. Returns `false` if one has
    /// escalated before: the handler will be called for it.
    pub(crate) fn hold_escalation(&self) -> bool {
        // An escalation leaves P set.
        self.escalation.load(extra::XIVE_ESB_SET_PQ_10) & u64::from(extra::XIVE_ESB_VAL_P) == 0
    }

    /// Keeps events from escalating.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Escalation`] if the ESe says otherwise.
    pub(crate) fn mask_escalation(&self) -> Result<(), QuiesceError> {
        injectable!(uxive_mask_escalation, QuiesceError::Escalation, 'tried: {
            for _ in 0..OFF_TRIES {
                self.escalation.load(extra::XIVE_ESB_SET_PQ_01);
                if self.escalation.load(extra::XIVE_ESB_GET) & PQ_MASK == PQ_OFF {
                    break 'tried Ok(());
                }
            }
            Err(QuiesceError::Escalation)
        })
    }

    /// Returns whether an escalation is on its way to the handler, or has not been unmasked since.
    pub(crate) fn escalation_pending(&self) -> bool {
        self.escalation.load(extra::XIVE_ESB_GET) & u64::from(extra::XIVE_ESB_VAL_P) != 0
    }

    pub(crate) fn vp(&self) -> u32 {
        self.queue.vp.number
    }

    /// Leaks the VP and the memory when the queue is dropped: for a queue to which hardware may
    /// still write.
    pub(crate) fn leak(&self) {
        self.queue.leaked.set();
    }
}

/// The memory of an event queue, for a program that reads it.
pub(crate) struct QueueMemory(pub(crate) Arc<EventQueue>);

// SAFETY: The queue owns the memory, and is referred to here.
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
    /// Makes `queue` call the handler that `handler` makes when it escalates; `name` appears in
    /// `/proc/interrupts`. `thread` does the rest of its work.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, those of `handler`, and those of `request_irq`.
    pub(crate) fn new<'a, I>(
        queue: EventQueue,
        name: CString,
        handlers: Arc<CpuDeadList<IrqHandler<H>>>,
        thread: Arc<KthreadWorker>,
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

        let irq = IrqHandler::request(mapping, name, handlers, thread, handler(queue.clone()))?;

        Ok(Self { irq, queue })
    }

    pub(crate) fn handler(&self) -> &H {
        self.irq.handler()
    }

    /// Waits until the handler is not running in hard interrupt context.
    pub(crate) fn synchronize(&self) {
        self.irq.synchronize();
    }

    /// Leaks the interrupt, without a handler, and the queue when this is dropped: for a queue
    /// whose escalation does not go quiet.
    pub(crate) fn leak(&self) {
        self.queue.leak();
        let data = self.irq.leak().cast::<extra::xive_irq_data>();

        // Without this, freeing the handler would wait for an interrupt that may never come.
        //
        // SAFETY: The data is XIVE's, and is there as long as `self`. The interrupt is disabled: if
        // one comes nevertheless, XIVE writes the same values.
        unsafe {
            (&raw mut (*data).saved_p).write(false);
            (&raw mut (*data).stale_p).write(true);
        }
    }
}
