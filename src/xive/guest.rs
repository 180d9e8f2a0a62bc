// SPDX-License-Identifier: GPL-2.0

//! A source that a guest of KVM can be given.
//!
//! KVM routes such a source to a vCPU. It wants a Linux interrupt for that, by which it finds the LISN
//! and the ESB. A message has one, which the irq core made with it. For another source one is made when
//! a guest comes, and freed when the guest has gone.
//!
//! From then on P and Q are the guest's, which ends interrupts by itself. So which events there were is
//! not known at either end: one is sent for certain after a guest was connected, and after it was
//! disconnected.

use super::{
    esb::Esb,
    messages::MessageSource,
    EventQueue,
    Platform,
    QuiesceError,
    SourceKind, //
};
use crate::{
    bindings as extra,
    kernel_ext::{
        bypass,
        fault::injectable,
        irqdomain::ChildIrq, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A source, as a guest can have it. It must be dropped before the source, and is not connected then.
///
/// # Invariants
///
/// `esb` is the ESB of `lisn`, which is that of `message` if there is one. `irq` is of `lisn`.
pub(crate) struct GuestSource {
    lisn: u32,
    // Freed before the source can be another's.
    irq: Option<ChildIrq>,
    connected: bool,
    esb: Esb,
    // These keep the ESB mapped.
    message: Option<Arc<MessageSource>>,
    platform: Arc<Platform>,
}

impl GuestSource {
    pub(super) fn new(
        platform: Arc<Platform>,
        lisn: u32,
        esb: Esb,
        message: Option<Arc<MessageSource>>,
    ) -> Self {
        Self {
            lisn,
            irq: None,
            connected: false,
            esb,
            message,
            platform,
        }
    }

    pub(crate) fn lisn(&self) -> u32 {
        self.lisn
    }

    /// Prepares the source for a guest: its events wait in it already. Returns the number of its Linux
    /// interrupt.
    ///
    /// # Errors
    ///
    /// `EIO` if events do not wait, `ENOMEM` if there is no memory, `EINVAL` if the irq core refuses.
    /// [`Self::disconnect`] must be called.
    pub(crate) fn connect(&mut self) -> Result<u32> {
        // An event that was sent before reaches the queue that it was sent to.
        injectable!(uxive_hold_source, EIO, {
            // SAFETY: The LISN is ours.
            unsafe { extra::xive_native_sync_source(self.lisn) };
            match self.esb.pq() & u64::from(extra::XIVE_ESB_VAL_P) {
                0 => Err(EIO),
                _ => Ok(()),
            }
        })?;

        let virq = match &self.message {
            Some(message) => {
                // XIVE's own callback for this, which the interrupt has, expects no event.
                self.esb.switch_off(self.lisn, true).map_err(|_| EIO)?;
                message.message.number()
            }
            None => {
                let domain = self.platform.guest_irqs.as_ref().ok_or(EOPNOTSUPP)?;
                // SAFETY: The LISN is ours and outlives `irq`, by the type invariants. There is no other
                // interrupt of one that is no message.
                let irq = unsafe { domain.allocate(self.lisn) }?;
                let virq = irq.number();

                self.irq = Some(irq);
                // The irq core has switched the source off. Rings were lost since.
                self.esb.load(extra::XIVE_ESB_SET_PQ_11);
                virq
            }
        };
        self.connected = true;
        Ok(virq)
    }

    /// Sends the event that is sent for certain, if a guest has the source now.
    pub(crate) fn start(&self) {
        if !self.connected {
            return;
        }
        if self.message.is_some() {
            self.esb.trigger();
        }
        // KVM leaves P set: no further event would come.
        if !bypass::kvm_takes_any_chip() {
            self.esb.eoi();
        }
    }

    /// Switches the source off, which a guest had or was about to have, and routes it to `queue`, as
    /// [`EventQueue::route`].
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Source`] if it does not go quiet, or firmware refuses: it is of no use any more.
    pub(crate) fn disconnect(
        &mut self,
        queue: &EventQueue,
        kind: SourceKind,
        index: usize,
    ) -> Result<(), QuiesceError> {
        self.connected = false;
        self.irq = None;
        self.esb.switch_off(self.lisn, false)?;
        (queue.route_lisn(self.lisn, kind, index)).map_err(|_| QuiesceError::Source)
    }
}
