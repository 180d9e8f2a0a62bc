// SPDX-License-Identifier: GPL-2.0

//! The table of the sources that are routed to an event queue.

use super::{
    esb::Esb,
    messages::MessageSource,
    Platform,
    Source, //
};
use crate::kernel_ext::chunks::{
    Chunks,
    Room,
    CHUNK, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The entry of a slot: its data, and the ESB of its source if one is routed to the queue.
pub(crate) struct EisnEntry<T, K = ()> {
    esb: Option<Esb>,
    pub(crate) with: T,
    // Keeps the ESB mapped, where [`EisnTable`] does not.
    _keep: K,
}

impl<T, K> EisnEntry<T, K> {
    /// Ends the interrupt of the source, so that its next event is routed.
    #[inline]
    pub(crate) fn end_interrupt(&self) {
        if let Some(esb) = &self.esb {
            esb.eoi();
        }
    }

    /// Has events of the source wait in it from now on. Returns whether an event was sent before, and its
    /// interrupt was not ended. Another that waited is forgotten.
    pub(crate) fn hold(&self) -> bool {
        self.esb.as_ref().is_some_and(Esb::hold)
    }

    /// Switches the source on again, which is off and routed to the queue, and sends an event. If one
    /// `is_sent`, that is in the queue and not ended, it is that event.
    pub(crate) fn resume(&self, is_sent: bool) {
        let Some(esb) = &self.esb else {
            return;
        };

        if is_sent {
            esb.hold();
        } else {
            esb.switch_on();
            esb.trigger();
        }
    }

    /// Makes events of the source wait until [`Self::end_interrupt`], which sends one for all.
    /// Returns `false` if an event was sent before: it will come.
    pub(crate) fn park(&self) -> bool {
        self.esb.as_ref().is_some_and(Esb::park)
    }
}

/// The slots whose sources are routed to an event queue, each with a `T`, and slots without a
/// source.
///
/// It has the ESBs only, and keeps them mapped. A slot must be removed before its sources are
/// dropped: their LISNs may have another owner after that.
pub(crate) struct EisnTable<T, K = ()> {
    entries: Chunks<Option<EisnEntry<T, K>>>,
    // Keeps the ESBs mapped but for those of messages.
    platform: Arc<Platform>,
}

/// As [`EisnTable`], of messages only.
pub(crate) type MessageEisnTable<T> = EisnTable<T, Arc<MessageSource>>;

impl<T, K> EisnTable<T, K> {
    /// Makes an empty table with room for slots below `capacity`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(platform: &Arc<Platform>, capacity: usize) -> Result<Self> {
        let mut entries = Chunks::new();

        for index in (0..capacity).step_by(CHUNK) {
            if let Some(capacity) = entries.missing(index) {
                entries.grow(index, &mut Room::new(index, capacity)?);
            }
        }
        Ok(Self {
            entries,
            platform: platform.clone(),
        })
    }

    /// Returns what [`Room::new`] needs to know if there is no room for slot `index`.
    #[inline(always)]
    pub(crate) fn missing(&self, index: usize) -> Option<usize> {
        self.entries.missing(index)
    }

    /// Makes room for slot `index`, if there is none, with the memory of `room`, which was made for it
    /// and gets the memory that is left. Neither allocates nor frees memory.
    pub(crate) fn grow(&mut self, index: usize, room: &mut Room<Option<EisnEntry<T, K>>>) {
        self.entries.grow(index, room);
    }

    /// Returns the place where slot `index` is entered. Neither allocates nor frees memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room.
    #[inline(always)]
    fn place(&mut self, index: usize) -> Result<&mut Option<EisnEntry<T, K>>> {
        self.entries.get_mut(index).ok_or(ENOMEM)
    }

    /// Takes out slot `index`.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        self.entries.get_mut(index)?.take().map(|route| route.with)
    }

    /// Returns slot `index`, if it is entered.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&EisnEntry<T, K>> {
        self.entries.get(index)?.as_ref()
    }

    /// As [`Self::get`].
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut EisnEntry<T, K>> {
        self.entries.get_mut(index)?.as_mut()
    }
}

impl<T> EisnTable<T> {
    /// Enters slot `index` with a source or without, together with `with`. Neither allocates nor frees
    /// memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room, `EINVAL` if the source is that of a message, or another machine's.
    #[inline(always)]
    pub(crate) fn insert(&mut self, index: usize, source: Option<&Source>, with: T) -> Result {
        if let Some(source) = source {
            if source.message.is_some() || !Arc::ptr_eq(&source.platform, &self.platform) {
                return Err(EINVAL);
            }
        }
        *self.place(index)? = Some(EisnEntry {
            esb: source.map(|source| source.esb),
            with,
            _keep: (),
        });
        Ok(())
    }
}

impl<T> MessageEisnTable<T> {
    /// Enters slot `index` with `source`, together with `with`. Neither allocates nor frees memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room, `EINVAL` if the source is not that of a message.
    pub(crate) fn insert_message(&mut self, index: usize, source: &Source, with: T) -> Result {
        let message = source.message_source().ok_or(EINVAL)?;

        *self.place(index)? = Some(EisnEntry {
            esb: Some(message.esb),
            with,
            _keep: message.into(),
        });
        Ok(())
    }
}
