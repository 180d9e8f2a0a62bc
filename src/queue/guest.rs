// SPDX-License-Identifier: GPL-2.0

//! A slot that a guest can be given: the steps that a consumer of irq bypass is connected and
//! disconnected by.
//!
//! The slot leaves the drain first: its events wait, and one that is in the queue still ends no interrupt
//! when it is taken from there, since that is the guest's by then. Then the source goes to the guest. Back
//! it is the other way round.
//!
//! Nobody waits here for the drain, as all that register a producer or a consumer wait for this. So an
//! event may be in the queue all the while: see [`Sink::Guest`](super::drain::Sink).

use super::{
    drain::with_state,
    Queue, //
};
use crate::{
    kernel_ext::{
        bypass::Producer,
        ratelimit::pr_warn_ratelimited, //
    },
    trace,
    xive::{
        GuestSource,
        SourceKind, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A slot that a guest can be given. It is bound for irq bypass, and not freed before this is dropped.
pub(crate) struct GuestSlot {
    source: GuestSource,
    kind: SourceKind,
    index: usize,
    queue: Arc<Queue>,
}

impl GuestSlot {
    /// Takes slot `index` of `queue`, which has one `source`, of this `kind`.
    pub(crate) fn new(
        queue: Arc<Queue>,
        index: usize,
        kind: SourceKind,
        source: GuestSource,
    ) -> Self {
        Self {
            source,
            kind,
            index,
            queue,
        }
    }

    /// Has the source back in the queue.
    fn take_back(&mut self) {
        let drain = self.queue.drain();
        let (index, kind, lisn) = (self.index, self.kind, self.source.lisn());

        match self.source.disconnect(&drain.queue, kind, index) {
            Ok(()) => with_state(drain, |state| {
                state.slots.take_back_from_guest(index, kind);
            }),
            // It stays as it is, and is quarantined when it is freed, if it does not go quiet then.
            Err(reason) => pr_warn_ratelimited!(
                "context {}: interrupt {lisn:#x} does not come back from a guest: {reason}\n",
                drain.context
            ),
        }
    }
}

impl Producer for GuestSlot {
    fn connect(&mut self) -> Result<u32> {
        let (drain, index) = (self.queue.drain(), self.index);
        let lisn = self.source.lisn();

        (drain.state).with(|state| state.slots.give(index, self.kind))?;
        let result = self.source.connect();
        trace::bypass(drain.context, index, lisn, result.is_ok());
        if result.is_err() {
            self.take_back();
        }
        result
    }

    fn disconnect(&mut self) {
        trace::bypass(self.queue.context(), self.index, self.source.lisn(), false);
        self.take_back();
    }

    fn start(&mut self) {
        self.source.start();
    }
}
