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
//! 2. [`Context::setup`], a mutex: guards that the context gets one queue only. Held while that is
//!    set up; never taken by a fault, so that what setting up takes is not below 1.
//! 3. [`Context::slots`], a mutex: guards the table of slots. Look-up and insertion of a page by a
//!    fault happen under it, and freeing takes it too, so that a page is never inserted after its
//!    slot has left the table. It may be held while memory is allocated, but not while user memory
//!    is copied, which may need 1.
//! 4. `i_mmap_rwsem` of the context's own mapping: taken by the kernel when a page is withdrawn
//!    from user mappings. Of this driver at most 2 is held then.
//! 5. The drain of the context's queue, a spinlock taken in hard interrupt context: guards the place
//!    in the queue and which slot signals which eventfd. The lock of the eventfd nests in it.
//!
//! The two mutexes of [`Platform`], for spare sources and for mapped ESBs, are taken with neither 3
//! nor 5 held, and nothing of this driver is taken under them. The CPU hotplug lock is taken under 2,
//! and what is called under it only queues work.

use crate::{
    kernel_ext::{
        eventfd::EventFd,
        file::NewMapping,
        mapping::{
            Fault,
            FaultResult,
            FileMapping,
            MappedPage, //
        }, //
    },
    layout::{
        Window,
        MAX_IRQS,
        QUEUE_PAGES, //
    },
    platform::{
        Platform,
        QueuePage, //
    },
    queue::{
        Queue,
        QueueList, //
    },
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
        Mutex,
        SetOnce, //
    }, //
};

/// The most interrupts that all contexts together can have: a small part of the million that each
/// chip of a machine has.
const MAX_IRQS_TOTAL: u32 = 65536;

/// What all contexts share.
pub(crate) struct Shared {
    platform: Arc<Platform>,
    queues: QueueList,
    irqs: Arc<Quota>,
}

impl Shared {
    /// Finds out what machine this is.
    ///
    /// # Errors
    ///
    /// Those of [`Platform::new`] and [`QueueList::new`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        let shared = Self {
            platform: Platform::new()?,
            queues: QueueList::new()?,
            irqs: Quota::new(MAX_IRQS_TOTAL)?,
        };

        Ok(Arc::new(shared, GFP_KERNEL)?)
    }
}

/// How many neighbouring interrupts a fault considers: the touched one and those around it that are
/// allocated are mapped at once.
const FAULT_AROUND: usize = 64;

/// The slots of a context.
struct SlotTable {
    /// The indices in use. One stays in use while its slot is being made or torn down, during
    /// which the entry is empty, so that nobody gets an offset at which an old page may still be.
    ids: IdPool,
    /// All indices below this are in use.
    first_free: usize,
    /// The slots by index; the table grows as far as it is used.
    entries: KVVec<Option<Slot>>,
    /// The queue's memory, if the program drains it.
    queue_pages: KVec<MappedPage<QueuePage>>,
}

impl SlotTable {
    /// Returns the slot at `offset` of the file.
    fn get(&mut self, offset: u64) -> Option<&mut Option<Slot>> {
        let entry = self.entries.get_mut(Window::TRIGGER.index(offset)?)?;

        entry.is_some().then_some(entry)
    }

    /// Takes the lowest free index into use, and makes sure that there is an entry for it.
    fn reserve(&mut self) -> Result<usize> {
        let id = self.ids.find_unused_id(self.first_free).ok_or(ENOSPC)?;
        let index = id.as_usize();

        while self.entries.len() <= index {
            self.entries.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        self.first_free = index + 1;
        Ok(id.acquire())
    }

    /// Gives an index back.
    fn release(&mut self, index: usize) {
        self.ids.release_id(index);
        self.first_free = self.first_free.min(index);
    }
}

/// What one open file owns.
#[pin_data]
pub(crate) struct Context {
    mapping: Arc<FileMapping>,
    shared: Arc<Shared>,
    /// Where the events of the slots go. Comes with the first of them.
    queue: SetOnce<Arc<Queue>>,
    #[pin]
    setup: Mutex<()>,
    #[pin]
    slots: Mutex<SlotTable>,
}

impl Context {
    /// Makes a context that owns nothing yet; `mapping` is that of its file.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(mapping: Arc<FileMapping>, shared: Arc<Shared>) -> Result<Pin<KBox<Self>>> {
        let table = SlotTable {
            ids: IdPool::with_capacity(MAX_IRQS, GFP_KERNEL_ACCOUNT)?,
            first_free: 0,
            entries: KVVec::new(),
            queue_pages: KVec::new(),
        };

        KBox::pin_init(
            pin_init!(Self {
                mapping,
                shared,
                queue: SetOnce::new(),
                setup <- new_mutex!((), "uxive_setup"),
                slots <- new_mutex!(table, "uxive_slots"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the queue, which is set up if there is none yet.
    fn queue(&self) -> Result<&Arc<Queue>> {
        if let Some(queue) = self.queue.as_ref() {
            return Ok(queue);
        }
        let _setup = self.setup.lock();
        if self.queue.as_ref().is_none() {
            self.queue.populate(Queue::new(&self.shared.queues)?);
        }
        self.queue.as_ref().ok_or(ENOMEM)
    }

    /// Allocates an interrupt, which nobody finds until [`NewSlot::publish`] is called.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the context, the driver or the machine has no more.
    /// - `ENOMEM`, `EIO`, `ENXIO`: see [`Slot::new`] and, for the first interrupt, [`Queue::new`].
    pub(crate) fn allocate(&self) -> Result<NewSlot<'_>> {
        let charge = self.shared.irqs.charge()?;
        let queue = self.queue()?;
        let index = self.slots.lock().reserve()?;
        let reserved = ReservedIndex {
            context: self,
            index,
        };

        Ok(NewSlot {
            slot: Slot::new(
                &self.shared.platform,
                queue.clone(),
                index,
                self.mapping.clone(),
                charge,
            )?,
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
        let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;

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
    /// `EINVAL` if there is no such interrupt, or the program drains the queue by itself.
    pub(crate) fn bind(&self, offset: u64, eventfd: Option<EventFd>) -> Result {
        let old = match self.slots.lock().get(offset) {
            Some(Some(slot)) => slot.bind(eventfd)?,
            _ => return Err(EINVAL),
        };

        // May free it, which is not to be done under a lock.
        drop(old);
        Ok(())
    }

    /// Has the program drain the queue by itself; `eventfd` is signalled when the queue is armed
    /// and there is an event. It is armed to begin with.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if there is a queue already: an interrupt was allocated, or this was called before.
    /// - Those of [`Queue::new_user_drained`].
    pub(crate) fn set_user_drain(&self, eventfd: EventFd) -> Result {
        let _setup = self.setup.lock();
        if self.queue.as_ref().is_some() {
            return Err(EBUSY);
        }

        let queue = Queue::new_user_drained(&self.shared.queues, eventfd)?;
        let mut pages = KVec::with_capacity(QUEUE_PAGES, GFP_KERNEL_ACCOUNT)?;
        for index in 0..QUEUE_PAGES {
            let page = queue.page(index).ok_or(EINVAL)?;
            let offset = Window::QUEUE.offset(index).ok_or(EINVAL)?;
            pages.push(
                MappedPage::new(page, self.mapping.clone(), offset)?,
                GFP_KERNEL_ACCOUNT,
            )?;
        }

        self.slots.lock().queue_pages = pages;
        self.queue.populate(queue);
        Ok(())
    }

    /// Has the next event in a user-drained queue signal its eventfd.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the program does not drain the queue.
    pub(crate) fn arm(&self) -> Result {
        self.queue.as_ref().ok_or(EINVAL)?.arm()
    }

    /// Handles a page fault in a mapping of the file.
    pub(crate) fn fault(&self, fault: &Fault<'_>) -> FaultResult {
        let slots = self.slots.lock();
        let touched = fault.offset();
        let slot = |index: usize| slots.entries.get(index).and_then(Option::as_ref);

        if let Some(index) = Window::TRIGGER.index(touched) {
            let Some(wanted) = slot(index) else {
                return FaultResult::SIGBUS;
            };
            for neighbour in neighbours(index, fault).filter_map(slot) {
                neighbour.insert_trigger(fault);
            }
            wanted.insert_trigger(fault)
        } else if let Some(index) = Window::ESB.index(touched) {
            match slot(index / 2) {
                Some(slot) => slot.insert_esb(fault),
                None => FaultResult::SIGBUS,
            }
        } else {
            let index = Window::QUEUE.index(touched);

            match index.and_then(|index| slots.queue_pages.get(index)) {
                Some(page) => fault.insert(page),
                None => FaultResult::SIGBUS,
            }
        }
    }

    /// Checks a mapping that is about to be made: part of a window, and used as that may be.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not.
    pub(crate) fn mmap(&self, area: &NewMapping<'_>) -> Result {
        match Window::containing(area.offset(), area.len()) {
            Some(Window::TRIGGER) => area.require_write_only(),
            Some(Window::ESB) => area.require_writable(),
            Some(Window::QUEUE) => area.require_read_only(),
            _ => Err(EINVAL),
        }
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

/// Returns the slots, around and without `index`, whose trigger pages the mapping of `fault` covers.
fn neighbours(index: usize, fault: &Fault<'_>) -> impl Iterator<Item = usize> {
    let covered = Window::TRIGGER.indices(fault.covered());
    let first = index - index % FAULT_AROUND;

    (first.max(covered.start)..(first + FAULT_AROUND).min(covered.end))
        .filter(move |&other| other != index)
}

/// An index in use that has no slot. Given back when dropped.
struct ReservedIndex<'a> {
    context: &'a Context,
    index: usize,
}

impl Drop for ReservedIndex<'_> {
    fn drop(&mut self) {
        self.context.slots.lock().release(self.index);
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
