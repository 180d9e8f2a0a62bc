// SPDX-License-Identifier: GPL-2.0

//! One interrupt of a context: its source, its pages, and its place in the event queue.
//!
//! A [`Slot`] is an interrupt that the program has. When that is over it becomes a [`RetiredSlot`],
//! which can only be given back, and that not before hardware is done with it.

use crate::{
    kernel_ext::{
        mapping::{
            Fault,
            FaultResult,
            FileMapping,
            MappedPages, //
        },
        ratelimit::may_log,
        trace, //
    },
    layout::Window,
    platform::{
        NotQuiet,
        Source, //
    },
    queue::{
        Queue,
        RouteView, //
    }, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// An interrupt that a context owns.
///
/// When dropped, it is retired and settled, or kept for good if that fails. May sleep.
pub(crate) struct Slot(RetiredSlot);

/// How a slot stands at one moment.
pub(crate) struct SlotView {
    pub(crate) lisn: u32,
    pub(crate) chip: u32,
    /// P and Q of the ESB, as bits 1 and 0.
    pub(crate) pq: u64,
    /// Not if the program drains the queue, or the slot is retired.
    pub(crate) route: Option<RouteView>,
}

impl Slot {
    /// Makes slot `index` of `source`, which is attached to `queue` as that, and whose pages can be
    /// mapped in `mapping`.
    #[inline(always)]
    pub(crate) fn new(
        source: Source,
        queue: Arc<Queue>,
        index: usize,
        mapping: Arc<FileMapping>,
    ) -> Self {
        let trigger = Window::TRIGGER.page(index).unwrap_or(0..0);
        let esb = if queue.is_user_drained() {
            esb_pages(index).unwrap_or(0..0)
        } else {
            0..0
        };

        Self(RetiredSlot {
            source: MappedPages::new(source, mapping, [trigger, esb]),
            queue,
            index,
            settled: false,
        })
    }

    /// Places the trigger page in a mapping of the window of trigger pages.
    pub(crate) fn insert_trigger(&self, fault: &Fault<'_>) -> FaultResult {
        match Window::TRIGGER.offset(self.0.index) {
            Some(offset) => fault.insert(&self.0.source, offset),
            None => FaultResult::SIGBUS,
        }
    }

    /// Places both pages in a mapping of the window of ESBs, if the program may have them.
    pub(crate) fn insert_esb(&self, fault: &Fault<'_>) -> FaultResult {
        let touched = fault.offset();
        let other = esb_pages(self.0.index)
            .into_iter()
            .flat_map(|pages| pages.step_by(Window::ESB.stride() as usize))
            .filter(|&offset| offset != touched);

        for offset in other {
            fault.insert(&self.0.source, offset);
        }
        fault.insert(&self.0.source, touched)
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.0.lisn()
    }

    /// Tells how the slot stands.
    pub(crate) fn view(&self) -> SlotView {
        self.0.view()
    }

    /// Takes the interrupt from the program: when this returns no mapping reaches its pages. Then
    /// brings it to rest, so that it can be dropped. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`RetiredSlot::settle`]: the slot is to be kept as what [`Self::retire`] returns.
    #[inline]
    pub(crate) fn give_back(&mut self) -> Result<(), NotQuiet> {
        self.0.source.withdraw();
        trace::zap(self.0.queue.context(), self.0.index, self.lisn());
        self.0.settle()
    }

    /// Returns the slot as one that can only be given back.
    pub(crate) fn retire(self) -> RetiredSlot {
        self.0
    }
}

/// An interrupt that a context has had, of which hardware may not know yet.
///
/// When dropped without having come to rest it is kept for good, and with it what the hardware uses.
pub(crate) struct RetiredSlot {
    /// Both pages if the program drains the queue, in the windows [`Window::TRIGGER`] and
    /// [`Window::ESB`]; else only the trigger page, in the first.
    source: MappedPages<Source, 2>,
    queue: Arc<Queue>,
    index: usize,
    settled: bool,
}

impl RetiredSlot {
    /// Brings the interrupt to rest, so that it can be dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::detach`]: this is to be called again later.
    #[inline]
    pub(crate) fn settle(&mut self) -> Result<(), NotQuiet> {
        self.queue.detach(self.index, &self.source)?;
        self.settled = true;
        Ok(())
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.source.lisn()
    }

    /// Tells how the slot stands.
    pub(crate) fn view(&self) -> SlotView {
        SlotView {
            lisn: self.source.lisn(),
            chip: self.source.chip().as_u32(),
            pq: self.source.pq(),
            route: self.queue.route_view(self.index),
        }
    }
}

/// Returns the offsets of the trigger and the management page of slot `index` in [`Window::ESB`].
fn esb_pages(index: usize) -> Option<Range<u64>> {
    Some(Window::ESB.page(2 * index)?.start..Window::ESB.page(2 * index + 1)?.end)
}

impl Drop for RetiredSlot {
    #[inline]
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.source.withdraw();
        if self.settle().is_err() {
            if may_log() {
                let (lisn, context) = (self.source.lisn(), self.queue.context());
                pr_warn!(
                    "context {context}: interrupt {lisn:#x} does not come to rest, and is not given back\n"
                );
            }
            self.source.keep();
            self.queue.keep();
        }
    }
}
