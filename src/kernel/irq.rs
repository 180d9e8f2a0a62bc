// SPDX-License-Identifier: GPL-2.0

//! Linux interrupts for hardware interrupt numbers that belong to no device.
//!
//! Would go to `rust/kernel/irq/domain.rs`. `kernel::irq::Registration` serves interrupts that a
//! bound device has; these are made from a number that the platform handed out. `kernel::irq::Flags`
//! cannot be used here: their value is private to the crate.
//!
//! A handler bounds what it does in hard interrupt context and leaves the rest to work items, which
//! come and go with the handler. The handler is told when a CPU has gone offline: an interrupt that it
//! was about to take may have been lost.
//!
//! C headers: [`include/linux/irqdomain.h`](srctree/include/linux/irqdomain.h),
//! [`include/linux/interrupt.h`](srctree/include/linux/interrupt.h),
//! [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::{
    cpuhp::{
        CpuDeadList,
        OnCpuDead, //
    },
    fault::injectable,
    kthread::{
        KthreadItem,
        KthreadWork,
        KthreadWorker, //
    },
    work::{
        Work,
        Worker, //
    }, //
};
use core::{
    marker::PhantomPinned,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    container_of,
    error::to_result,
    ffi,
    interrupt::LocalInterruptDisabled,
    irq::IrqReturn,
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        Arc,
        SetOnce, //
    },
    types::Opaque, //
};

/// The Linux interrupt of a hardware interrupt of the default domain.
///
/// # Invariants
///
/// `virq` is the mapping of a hardware interrupt, made by this object, and is not used by another.
pub(crate) struct IrqMapping {
    virq: u32,
}

impl IrqMapping {
    /// Makes the Linux interrupt of the hardware interrupt `hwirq`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: the C side says only that it failed, and memory is all that can be lacking.
    ///
    /// # Safety
    ///
    /// The caller must own `hwirq` and have no other mapping of it. It must keep `hwirq` until the
    /// object is dropped, and forever if the handler is [leaked](IrqHandler::leak).
    pub(crate) unsafe fn new(hwirq: u32) -> Result<Self> {
        let virq = injectable!(uxive_map_irq, ENOMEM, {
            // SAFETY: A null domain is the default one, a null affinity is none. The caller owns
            // `hwirq`.
            let virq = unsafe {
                bindings::irq_create_mapping_affinity(
                    core::ptr::null_mut(),
                    hwirq as bindings::irq_hw_number_t,
                    core::ptr::null(),
                )
            };
            match virq {
                0 => Err(ENOMEM),
                _ => Ok(virq),
            }
        })?;

        // INVARIANT: The mapping was made just now, and the caller has no other.
        Ok(Self { virq })
    }

    /// Returns the interrupt controller's data of the interrupt, valid as long as `self`.
    pub(crate) fn chip_data(&self) -> *mut ffi::c_void {
        // SAFETY: The interrupt exists, so it has an `irq_data`.
        unsafe { (*bindings::irq_get_irq_data(self.virq)).chip_data }
    }
}

impl Drop for IrqMapping {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours by the type invariants.
        unsafe { bindings::irq_dispose_mapping(self.virq) };
    }
}

/// Whether a handler has left work to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// Nothing.
    Nothing,
    /// Some work: [`BoundedHandler::run_rest`] must be called, in process context.
    Some,
}

/// A handler of an interrupt whose work comes in bounded pieces.
///
/// It refers to nothing that may be freed before it: an [`IrqHandler`] can be forgotten.
pub(crate) trait BoundedHandler: Send + Sync + 'static {
    /// Does one piece of the work. Called in hard interrupt context.
    fn run(&self, disabled: &LocalInterruptDisabled) -> Remaining;

    /// Does one piece of the work that was left, if some is left still.
    ///
    /// Called by a thread of the class `SCHED_FIFO`, for as long as it returns [`Remaining::Some`]. When
    /// that has worked long enough a workqueue calls this, too, maybe at the same time: so another may
    /// have done the rest. An interrupt may come when it is done.
    fn run_rest(&self) -> Remaining;

    /// Called when a CPU has gone offline, and the interrupt may have been lost with it. If it was,
    /// does as [`Self::run`]; otherwise returns [`Remaining::Nothing`].
    ///
    /// Called in process context, with the CPU hotplug lock held, and maybe while the others are.
    fn cpu_dead(&self) -> Remaining;
}

/// A handler with its interrupt, to which work items lead back.
///
/// # Invariants
///
/// `virq` exists as long as the object.
#[pin_data]
struct Bounded<H> {
    virq: u32,
    #[pin]
    handler: H,
}

impl<H: BoundedHandler> Bounded<H> {
    /// Waits until the handler is not running in hard interrupt context.
    fn synchronize(&self) {
        // SAFETY: The interrupt exists by the type invariants.
        unsafe { bindings::synchronize_hardirq(self.virq) };
    }

    /// Does a piece of the work in process context. Returns whether there is more.
    fn go_on(&self) -> bool {
        // The handler that queued this may not have returned yet.
        self.synchronize();
        self.handler.run_rest() == Remaining::Some
    }
}

impl<H: BoundedHandler> Work for Bounded<H> {
    fn run(worker: &Worker<Self>) {
        if worker.go_on() {
            worker.queue();
        }
    }
}

impl<H: BoundedHandler> KthreadWork for Worker<Bounded<H>> {
    fn run(&self) -> bool {
        self.go_on()
    }

    fn help(&self) {
        self.queue();
    }
}

/// A handler with the work items that do the rest of its work.
type Item<H> = KthreadItem<Worker<Bounded<H>>>;

/// A handler that is called when the interrupt of an [`IrqMapping`] fires.
///
/// Freed when dropped: the handler is not running then and will not be called again. May sleep.
///
/// # Invariants
///
/// `handle` is registered for the mapping with the address of `item`, which only `handle`,
/// `cpu_dead` and its own work queue. `dead_node` is in `dead_list`. `mapping` is there until the
/// object is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct IrqHandler<H: BoundedHandler> {
    // Dropped after `PinnedDrop::drop` has freed the handler, and before the mapping.
    #[pin]
    item: Item<H>,
    mapping: Option<IrqMapping>,
    // Referred to by the C side until the handler is freed.
    _name: CString,
    leaked: SetOnce<()>,
    #[pin]
    dead_node: Opaque<bindings::hlist_node>,
    dead_list: Arc<CpuDeadList<Self>>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: All fields may be used and dropped on any thread; an interrupt is not bound to one.
unsafe impl<H: BoundedHandler> Send for IrqHandler<H> {}

// SAFETY: A shared reference gives access to `item` only, which is `Sync`.
unsafe impl<H: BoundedHandler> Sync for IrqHandler<H> {}

impl<H: BoundedHandler> IrqHandler<H> {
    /// Makes `mapping` call `handler` when it fires; `name` appears in `/proc/interrupts`. `thread` does
    /// the rest of its work.
    ///
    /// The affinity of the interrupt is never changed: with some interrupt controllers that may
    /// drop one that is on its way, and `cpu_dead` makes up only for CPUs that go offline.
    pub(crate) fn request<'a>(
        mapping: IrqMapping,
        name: CString,
        dead_list: Arc<CpuDeadList<Self>>,
        thread: Arc<KthreadWorker>,
        handler: impl PinInit<H, Error> + 'a,
    ) -> Result<Pin<KBox<Self>>>
    where
        H: 'a,
    {
        let virq = mapping.virq;
        let name_ptr = name.as_char_ptr();

        KBox::pin_init(
            try_pin_init!(&this in Self {
                // INVARIANT: The mapping is dropped after the item.
                item <- KthreadItem::new(
                    thread,
                    Worker::new(static_lock_class!(), try_pin_init!(Bounded {
                        virq,
                        handler <- handler,
                    }? Error)),
                ),
                mapping: Some(mapping),
                _name: name,
                leaked: SetOnce::new(),
                dead_node <- Opaque::zeroed(),
                dead_list,
                _pin: PhantomPinned,
                _: {
                    // SAFETY: The object is pinned and valid.
                    let item = unsafe { &raw mut (*this.as_ptr()).item };

                    // The detector of interrupts that nobody handles has nothing to detect: this
                    // handler handles each.
                    //
                    // SAFETY: The interrupt exists.
                    unsafe {
                        bindings::irq_modify_status(virq, 0, bindings::IRQ_NO_DEBUG as ffi::c_ulong);
                    }
                    injectable!(
                        uxive_request_irq,
                        ENOMEM,
                        // SAFETY: The callback matches the cookie, which is pinned and lives until the
                        // handler is freed, as the name does. All fields are initialized, so it may be
                        // called at once.
                        to_result(unsafe {
                            bindings::request_threaded_irq(
                                virq,
                                Some(Self::handle),
                                None,
                                (bindings::IRQF_NO_THREAD | bindings::IRQF_NOBALANCING)
                                    as ffi::c_ulong,
                                name_ptr,
                                item.cast(),
                            )
                        })
                    )?;
                    // SAFETY: The object is pinned and valid, and `drop` removes the node.
                    unsafe { dead_list.add(&(*this.as_ptr()).dead_node) };
                },
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    pub(crate) fn handler(&self) -> &H {
        &self.item.handler
    }

    /// Waits until the handler has returned to the irq core, if it is running in hard interrupt
    /// context.
    ///
    /// An interrupt that comes before that could be dropped as one that is being handled.
    pub(crate) fn synchronize(&self) {
        self.item.synchronize();
    }

    /// Disables the interrupt, and leaks its number when the object is dropped, without a handler:
    /// for an interrupt that hardware may still raise. If it does, the irq core masks it. Nothing
    /// refers to the module then, which may be unloaded.
    ///
    /// Returns the interrupt controller's data of the interrupt, valid as long as `self`. Freeing
    /// the handler waits until that data says that no interrupt is on its way.
    pub(crate) fn leak(&self) -> *mut ffi::c_void {
        let virq = self.item.virq;

        if self.leaked.populate(()) {
            // SAFETY: The interrupt exists by the invariants of `Bounded`. Waits for a handler that
            // is running.
            unsafe {
                bindings::disable_irq_nosync(virq);
                bindings::synchronize_hardirq(virq);
            }
        }
        // SAFETY: The interrupt exists, so it has an `irq_data`.
        unsafe { (*bindings::irq_get_irq_data(virq)).chip_data }
    }

    /// # Safety
    ///
    /// To be called only with the cookie with which [`Self::request`] registered it.
    unsafe extern "C" fn handle(
        _irq: ffi::c_int,
        cookie: *mut ffi::c_void,
    ) -> bindings::irqreturn_t {
        // SAFETY: The cookie is the item, which lives until the handler is freed.
        let item = unsafe { &*cookie.cast::<Item<H>>() };

        // SAFETY: Interrupts are disabled in a handler.
        let disabled = unsafe { LocalInterruptDisabled::assume_disabled() };

        if item.handler.run(disabled) == Remaining::Some {
            item.queue();
        }
        bindings::irqreturn_t(IrqReturn::Handled as ffi::c_uint)
    }
}

// SAFETY: The node is embedded in the object that is returned.
unsafe impl<H: BoundedHandler> OnCpuDead for IrqHandler<H> {
    fn cpu_dead(&self) {
        if self.item.handler.cpu_dead() == Remaining::Some {
            self.item.queue();
        }
    }

    unsafe fn from_node<'a>(node: NonNull<bindings::hlist_node>) -> &'a Self {
        // SAFETY: The caller promises that the node is embedded in a valid object.
        unsafe { &*container_of!(Opaque::cast_from(node.as_ptr()), Self, dead_node) }
    }
}

#[pinned_drop]
impl<H: BoundedHandler> PinnedDrop for IrqHandler<H> {
    fn drop(self: Pin<&mut Self>) {
        let virq = self.item.virq;
        let cookie = core::ptr::from_ref(&self.item);

        // SAFETY: In the list by the type invariants.
        unsafe { self.dead_list.remove(&self.dead_node) };
        // SAFETY: Registered with this cookie by the type invariants; the object is not moved. After
        // that only the work items themselves can queue them, and dropping `item` cancels those.
        unsafe { bindings::free_irq(virq, cookie.cast_mut().cast()) };
        if self.leaked.as_ref().is_some() {
            core::mem::forget(self.project().mapping.take());
        }
    }
}
