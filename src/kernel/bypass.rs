// SPDX-License-Identifier: GPL-2.0

//! Producers of irq bypass: interrupts that a guest can be given.
//!
//! Would go to `rust/kernel/irq/bypass.rs`. The crate has no irq bypass.
//!
//! A producer and a consumer are registered with the same eventfd: the producer would signal it, and
//! the consumer, KVM, would raise an interrupt of a guest for it. The manager then connects them, and
//! the interrupt goes to the guest without either.
//!
//! The manager has one mutex for all, which it holds while it calls a producer. A lock that a producer
//! takes then must not be held while one is registered or dropped.
//!
//! C header: [`include/linux/irqbypass.h`](srctree/include/linux/irqbypass.h)

use super::{
    bindings as extra,
    eventfd::EventFd, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomPinned, //
};
use kernel::{
    container_of,
    error::to_result,
    ffi,
    prelude::*,
    types::Opaque, //
};

/// Returns whether this kernel has irq bypass.
pub(crate) fn is_available() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { extra::uxive_has_irq_bypass() }
}

/// Returns whether KVM takes an interrupt for what it is. One that does not looks at the name of the
/// interrupt's chip, and leaves it to the producer to end the interrupt when it has connected.
pub(crate) fn kvm_takes_any_chip() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { extra::uxive_kvm_takes_any_chip() }
}

/// An interrupt that a consumer can be given. No two of these calls are made at the same time.
pub(crate) trait Producer: Send + 'static {
    /// Gets the interrupt ready for a consumer. Returns the Linux interrupt for it.
    ///
    /// # Errors
    ///
    /// The consumer does not get it.
    fn connect(&mut self) -> Result<u32>;

    /// Takes the interrupt back from the consumer, or from one that has refused it.
    fn disconnect(&mut self);

    /// A consumer was connected or disconnected, or has refused.
    fn start(&mut self);
}

/// The registration of a producer. A consumer is disconnected when it is dropped. May sleep.
///
/// # Invariants
///
/// `raw` is registered with `eventfd`, and `producer` is used by the callbacks only.
#[pin_data(PinnedDrop)]
pub(crate) struct ProducerRegistration<P> {
    #[pin]
    raw: Opaque<extra::irq_bypass_producer>,
    producer: UnsafeCell<P>,
    // The manager knows it by its address.
    eventfd: EventFd,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The manager serializes what is done to a producer, which may be sent to any thread.
unsafe impl<P: Producer> Send for ProducerRegistration<P> {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl<P: Producer> Sync for ProducerRegistration<P> {}

impl<P: Producer> ProducerRegistration<P> {
    /// Registers `producer` with `eventfd`. If a consumer is there, both are connected when this returns.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if the eventfd has a producer, `ENOMEM` if there is no memory.
    /// - `EOPNOTSUPP` if the kernel has no irq bypass.
    /// - Those of [`Producer::connect`] and of the consumer, which may be any.
    pub(crate) fn new(eventfd: EventFd, producer: P) -> Result<Pin<KBox<Self>>> {
        let raw = extra::irq_bypass_producer {
            add_consumer: Some(Self::add_consumer),
            del_consumer: Some(Self::del_consumer),
            start: Some(Self::start),
            ..Default::default()
        };

        KBox::pin_init(
            try_pin_init!(&this in Self {
                raw: Opaque::new(raw),
                producer: UnsafeCell::new(producer),
                eventfd,
                _pin: PhantomPinned,
                _: {
                    // SAFETY: The object is pinned, all fields are initialized, and `drop` unregisters
                    // it. The eventfd is valid as long.
                    to_result(unsafe {
                        let this = this.as_ptr();
                        extra::uxive_irq_bypass_register((*this).raw.get(), (*this).eventfd.as_ptr())
                    })?;
                },
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Calls `what` with the producer of a callback.
    ///
    /// # Safety
    ///
    /// To be called only in a callback of `raw`, which is registered as in [`Self::new`].
    unsafe fn with<R>(raw: *mut extra::irq_bypass_producer, what: impl FnOnce(&mut P) -> R) -> R {
        // SAFETY: The field of an object that is initialized.
        let this = unsafe { container_of!(Opaque::cast_from(raw), Self, raw) };

        // SAFETY: Only callbacks use it, and the manager holds its mutex while it calls one.
        what(unsafe { &mut *(*this).producer.get() })
    }

    /// # Safety
    ///
    /// To be called as a callback of a producer that is registered.
    unsafe extern "C" fn add_consumer(
        raw: *mut extra::irq_bypass_producer,
        _consumer: *mut extra::irq_bypass_consumer,
    ) -> ffi::c_int {
        // SAFETY: By the contract of this function.
        match unsafe { Self::with(raw, P::connect) } {
            Ok(virq) => {
                // SAFETY: As above. The consumer reads it when this has returned.
                unsafe { (*raw).irq = virq as ffi::c_int };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::add_consumer`].
    unsafe extern "C" fn del_consumer(
        raw: *mut extra::irq_bypass_producer,
        _consumer: *mut extra::irq_bypass_consumer,
    ) {
        // SAFETY: By the contract of this function.
        unsafe { Self::with(raw, P::disconnect) };
    }

    /// # Safety
    ///
    /// As for [`Self::add_consumer`].
    unsafe extern "C" fn start(raw: *mut extra::irq_bypass_producer) {
        // SAFETY: By the contract of this function.
        unsafe { Self::with(raw, P::start) };
    }
}

#[pinned_drop]
impl<P> PinnedDrop for ProducerRegistration<P> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariants.
        unsafe { extra::uxive_irq_bypass_unregister(self.raw.get()) };
    }
}
