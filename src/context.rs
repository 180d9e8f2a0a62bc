// SPDX-License-Identifier: GPL-2.0

//! A context: what one open file of `/dev/uxive` owns.
//!
//! The file, and each mapping of it, refers to the context. With the last reference everything
//! that the context has is given back, however that comes about.
//!
//! # Locks
//!
//! From the outermost to the innermost:
//!
//! 1. `mmap_lock` or the VMA lock of a process: held by the kernel when it calls the fault handler.
//! 2. [`Context::slots`], a mutex: guards the table of slots. Look-up and insertion of a page by a
//!    fault happen under it, and freeing takes it too, so that a page is never inserted after its
//!    slot has left the table. It may be held while memory is allocated, but not while user memory
//!    is copied, which may need 1.
//! 3. `i_mmap_rwsem` of the context's own mapping: taken by the kernel when a page is withdrawn
//!    from user mappings. Nothing of this driver is held then.
//! 4. The eventfd of a slot, a spinlock taken in hard interrupt context: guards which eventfd the
//!    interrupt signals. The lock of the eventfd itself nests in it.

use crate::{
    kernel_ext::{
        eventfd::EventFd,
        file::NewMapping,
        mapping::{
            Fault,
            FaultResult,
            FileMapping, //
        }, //
    },
    layout,
    quota::Quota,
    slot::Slot, //
};
use kernel::{
    id_pool::IdPool,
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// The slots of a context.
struct SlotTable {
    /// The indices in use. One stays in use while its slot is being made or torn down, during
    /// which the entry is empty, so that nobody gets an offset at which an old page may still be.
    ids: IdPool,
    /// The slots by index; the table grows as far as it is used.
    entries: KVVec<Option<Slot>>,
}

impl SlotTable {
    /// Returns the slot at `offset` of the file.
    fn get(&mut self, offset: u64) -> Option<&mut Option<Slot>> {
        let entry = self.entries.get_mut(layout::trigger_index(offset)?)?;

        entry.is_some().then_some(entry)
    }

    /// Takes the lowest free index into use, and makes sure that there is an entry for it.
    fn reserve(&mut self) -> Result<usize> {
        let id = self.ids.find_unused_id(0).ok_or(ENOSPC)?;
        let index = id.as_usize();

        while self.entries.len() <= index {
            self.entries.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(id.acquire())
    }
}

/// What one open file owns.
#[pin_data]
pub(crate) struct Context {
    mapping: Arc<FileMapping>,
    total: Arc<Quota>,
    #[pin]
    slots: Mutex<SlotTable>,
}

impl Context {
    /// Makes a context that owns nothing yet.
    ///
    /// `mapping` is that of its file; `total` limits the interrupts of all contexts together.
    pub(crate) fn new(mapping: Arc<FileMapping>, total: Arc<Quota>) -> Result<Pin<KBox<Self>>> {
        let ids = IdPool::with_capacity(layout::MAX_IRQS, GFP_KERNEL_ACCOUNT)?;

        KBox::pin_init(
            pin_init!(Self {
                mapping,
                total,
                slots <- new_mutex!(SlotTable { ids, entries: KVVec::new() }, "uxive_slots"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Allocates an interrupt, which nobody finds until [`NewSlot::publish`] is called.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the context, the driver or the machine has no more.
    /// - `ENOMEM`, `EIO`: see [`Interrupt::new`](crate::platform::Interrupt::new).
    pub(crate) fn allocate(&self) -> Result<NewSlot<'_>> {
        let charge = self.total.charge()?;
        let index = self.slots.lock().reserve()?;
        let reserved = ReservedIndex {
            context: self,
            index,
        };
        let offset = layout::trigger_offset(index).ok_or(ENOSPC)?;

        Ok(NewSlot {
            slot: Slot::new(self.mapping.clone(), offset, charge)?,
            reserved,
        })
    }

    /// Frees the interrupt at `offset`. May sleep.
    ///
    /// When this returns, no mapping reaches its trigger page and its eventfd is not signalled.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn free(&self, offset: u64) -> Result {
        let slot = self
            .slots
            .lock()
            .get(offset)
            .and_then(Option::take)
            .ok_or(EINVAL)?;
        let index = layout::trigger_index(offset).ok_or(EINVAL)?;

        // Given back only after the slot is torn down.
        let _reserved = ReservedIndex {
            context: self,
            index,
        };
        drop(slot);
        Ok(())
    }

    /// Has the interrupt at `offset` signal `eventfd` from now on, or nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such interrupt.
    pub(crate) fn bind(&self, offset: u64, eventfd: Option<EventFd>) -> Result {
        let old = match self.slots.lock().get(offset) {
            Some(Some(slot)) => slot.bind(eventfd),
            _ => return Err(EINVAL),
        };

        // May free it, which is not to be done under a lock.
        drop(old);
        Ok(())
    }

    /// Handles a page fault in a mapping of the file.
    pub(crate) fn fault(&self, fault: &Fault<'_>) -> FaultResult {
        match self.slots.lock().get(fault.offset()) {
            Some(Some(slot)) => fault.insert(slot.source()),
            _ => FaultResult::SIGBUS,
        }
    }

    /// Checks a mapping that is about to be made: anywhere in the window, for writing only.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not.
    pub(crate) fn mmap(&self, area: &NewMapping<'_>) -> Result {
        if !layout::in_trigger_window(area.offset(), area.len()) {
            return Err(EINVAL);
        }
        area.require_write_only()
    }

    /// Lists the interrupts in `/proc/<pid>/fdinfo/<fd>`.
    pub(crate) fn show(&self, m: &SeqFile) {
        let slots = self.slots.lock();
        let live = || slots.entries.iter().flatten();

        seq_print!(m, "uxive-irqs:\t{}\n", live().count());
        for slot in live() {
            seq_print!(
                m,
                "uxive-irq:\toffset:{:x} lisn:{:x}\n",
                slot.offset(),
                slot.lisn()
            );
        }
    }
}

/// An index in use that has no slot. Given back when dropped.
struct ReservedIndex<'a> {
    context: &'a Context,
    index: usize,
}

impl Drop for ReservedIndex<'_> {
    fn drop(&mut self) {
        self.context.slots.lock().ids.release_id(self.index);
    }
}

/// An interrupt that is allocated but not in the table. Freed when dropped.
pub(crate) struct NewSlot<'a> {
    // Dropped before the index is given back.
    slot: Slot,
    reserved: ReservedIndex<'a>,
}

impl NewSlot<'_> {
    /// Returns the offset of its trigger page in the context file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.slot.offset()
    }

    /// Puts it into the table. Does not fail: `reserve` has made the entry.
    pub(crate) fn publish(self) {
        let Self { slot, reserved } = self;

        if let Some(entry) = reserved
            .context
            .slots
            .lock()
            .entries
            .get_mut(reserved.index)
        {
            *entry = Some(slot);
            // The index belongs to the entry from now on.
            core::mem::forget(reserved);
        }
    }
}
