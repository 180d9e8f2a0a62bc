// SPDX-License-Identifier: GPL-2.0

//! One interrupt of a context: its source, its trigger page, and its place in the event queue.

use crate::{
    kernel_ext::{
        eventfd::EventFd,
        mapping::{
            Fault,
            FaultResult,
            FileMapping,
            MappedPage, //
        }, //
    },
    layout::Window,
    platform::{
        ManagementPage,
        Platform,
        Source,
        TriggerPage, //
    },
    queue::Queue,
    quota::Charge, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The pages of an interrupt for a program that drains its queue.
struct EsbPages {
    trigger: MappedPage<TriggerPage>,
    management: MappedPage<ManagementPage>,
}

/// An interrupt that a context owns.
///
/// Dropped from top to bottom: its pages leave every mapping, the source is taken out of the queue
/// and freed, then others may have the room. May sleep.
pub(crate) struct Slot {
    trigger: MappedPage<TriggerPage>,
    esb: Option<EsbPages>,
    attachment: Attachment,
    _charge: Charge,
}

impl Slot {
    /// Allocates the interrupt of slot `index`, whose pages can be mapped in `mapping`.
    ///
    /// # Errors
    ///
    /// Those of [`Source::new`] and [`Queue::attach`].
    pub(crate) fn new(
        platform: &Arc<Platform>,
        queue: Arc<Queue>,
        index: usize,
        mapping: Arc<FileMapping>,
        charge: Charge,
    ) -> Result<Self> {
        let source = Source::new(platform)?;
        let offset = |window: Window, index| window.offset(index).ok_or(ENOSPC);
        let esb = if queue.is_user_drained() {
            Some(EsbPages {
                trigger: MappedPage::new(
                    TriggerPage(source.clone()),
                    mapping.clone(),
                    offset(Window::ESB, 2 * index)?,
                )?,
                management: MappedPage::new(
                    ManagementPage(source.clone()),
                    mapping.clone(),
                    offset(Window::ESB, 2 * index + 1)?,
                )?,
            })
        } else {
            None
        };

        Ok(Self {
            trigger: MappedPage::new(
                TriggerPage(source.clone()),
                mapping,
                offset(Window::TRIGGER, index)?,
            )?,
            esb,
            attachment: Attachment::new(queue, index, source)?,
            _charge: charge,
        })
    }

    /// Places the trigger page in a mapping of the window of trigger pages.
    pub(crate) fn insert_trigger(&self, fault: &Fault<'_>) -> FaultResult {
        fault.insert(&self.trigger)
    }

    /// Places both pages in a mapping of the window of ESBs, if the program may have them.
    pub(crate) fn insert_esb(&self, fault: &Fault<'_>) -> FaultResult {
        let Some(esb) = &self.esb else {
            return FaultResult::SIGBUS;
        };
        let trigger = fault.insert(&esb.trigger);
        let management = fault.insert(&esb.management);

        if fault.offset() == esb.trigger.offset() {
            trigger
        } else {
            management
        }
    }

    /// Returns the offset of the trigger page in the context file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.trigger.offset()
    }

    /// Returns the LISN.
    pub(crate) fn lisn(&self) -> u32 {
        self.trigger.0.lisn()
    }

    /// Has the interrupt signal `eventfd` from now on, or nothing. Returns the one before.
    ///
    /// That one is signalled no more. It is for the caller to drop, outside locks.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the program drains the queue.
    pub(crate) fn bind(&self, eventfd: Option<EventFd>) -> Result<Option<EventFd>> {
        self.attachment.queue.bind(self.attachment.index, eventfd)
    }
}

/// A source's place in the queue, given up when dropped.
struct Attachment {
    queue: Arc<Queue>,
    index: usize,
}

impl Attachment {
    fn new(queue: Arc<Queue>, index: usize, source: Arc<Source>) -> Result<Self> {
        queue.attach(index, source)?;
        Ok(Self { queue, index })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.queue.detach(self.index);
    }
}
