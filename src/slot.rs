// SPDX-License-Identifier: GPL-2.0

//! One interrupt of a context: its source, its pages, and its place in the event queue.

use crate::{
    kernel_ext::mapping::{
        Fault,
        FaultResult,
        FileMapping,
        MappedPages, //
    },
    layout::Window,
    platform::Source,
    queue::Queue, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// An interrupt that a context owns.
///
/// When dropped, its pages leave every mapping, then the source is taken out of the queue, and then
/// it is given back. May sleep.
pub(crate) struct Slot {
    /// Both pages if the program drains the queue, in the windows [`Window::TRIGGER`] and
    /// [`Window::ESB`]; else only the trigger page, in the first.
    source: MappedPages<Source, 2>,
    queue: Arc<Queue>,
    index: usize,
}

impl Slot {
    /// Makes slot `index` of `source`, whose pages can be mapped in `mapping`. It is off until
    /// [`Self::attach`].
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there can be no such slot.
    #[inline]
    pub(crate) fn new(
        source: Source,
        queue: Arc<Queue>,
        index: usize,
        mapping: Arc<FileMapping>,
    ) -> Result<Self> {
        let trigger = Window::TRIGGER.page(index).ok_or(ENOSPC)?;
        let esb = if queue.is_user_drained() {
            esb_pages(index).ok_or(ENOSPC)?
        } else {
            0..0
        };

        Ok(Self {
            source: MappedPages::new(source, mapping, [trigger, esb]),
            queue,
            index,
        })
    }

    /// Has its events go to the queue.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::attach`].
    pub(crate) fn attach(&self) -> Result {
        self.queue.attach(self.index, &self.source)
    }

    /// Places the trigger page in a mapping of the window of trigger pages.
    pub(crate) fn insert_trigger(&self, fault: &Fault<'_>) -> FaultResult {
        match Window::TRIGGER.offset(self.index) {
            Some(offset) => fault.insert(&self.source, offset),
            None => FaultResult::SIGBUS,
        }
    }

    /// Places both pages in a mapping of the window of ESBs, if the program may have them.
    pub(crate) fn insert_esb(&self, fault: &Fault<'_>) -> FaultResult {
        let touched = fault.offset();
        let other = esb_pages(self.index)
            .into_iter()
            .flat_map(|pages| pages.step_by(Window::ESB.stride() as usize))
            .filter(|&offset| offset != touched);

        for offset in other {
            fault.insert(&self.source, offset);
        }
        fault.insert(&self.source, touched)
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.source.lisn()
    }
}

/// Returns the offsets of the trigger and the management page of slot `index` in [`Window::ESB`].
fn esb_pages(index: usize) -> Option<Range<u64>> {
    Some(Window::ESB.page(2 * index)?.start..Window::ESB.page(2 * index + 1)?.end)
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.source.withdraw();
        self.queue.detach(self.index, &self.source);
    }
}
