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
//! 1. [`Context::setup`], a mutex: guards that the context gets one queue only. Held while that is
//!    set up, and until the program has been told of the first interrupt, which may take 2. So a
//!    fault never takes it.
//! 2. `mmap_lock` or the VMA lock of a process: held by the kernel when it calls the fault handler.
//! 3. [`Context::slots`], a mutex: guards the table of slots. Look-up and insertion of a page by a
//!    fault happen under it, and freeing takes it too, so that a page is never inserted after its
//!    slot has left the table. It may be held while memory is allocated, but not while user memory
//!    is copied, which may need 2.
//! 4. `i_mmap_rwsem` of the context's own mapping: taken by the kernel when a page is withdrawn
//!    from user mappings. Of this driver at most 1 is held then.
//! 5. The drain of the context's queue, a spinlock taken in hard interrupt context: guards the place
//!    in the queue and which slot signals which eventfd. The lock of the eventfd nests in it.
//!
//! The mutex of [`Platform`] for the sources that it has is taken with neither 3 nor 5 held, and
//! nothing of this driver is taken under it. The CPU hotplug lock is taken under 1, and what is
//! called under it only queues work.

use crate::{
    kernel_ext::{
        eventfd::EventFd,
        file::{
            NewMapping,
            PollEvents, //
        },
        mapping::{
            Fault,
            FaultResult,
            FileMapping,
            MappedPages, //
        }, //
    },
    layout::{
        Window,
        MAX_IRQS, //
    },
    platform::{
        ChipId,
        Platform,
        QueueMemory,
        Source, //
    },
    queue::{
        Queue,
        QueueList, //
    },
    slot::Slot, //
};
use kernel::{
    fs::File,
    id_pool::IdPool,
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        poll::PollTable,
        Arc,
        Mutex,
        SetOnce, //
    }, //
};

/// What all contexts share.
pub(crate) struct Shared {
    platform: Arc<Platform>,
    queues: QueueList,
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
    queue_memory: Option<MappedPages<QueueMemory, 1>>,
}

impl SlotTable {
    /// Takes the lowest free index into use, and makes sure that there is an entry for it.
    fn reserve(&mut self) -> Result<usize> {
        let id = self.ids.find_unused_id(self.first_free).ok_or(ENOSPC)?;
        let index = id.as_usize();

        if index >= self.entries.capacity() {
            self.entries.reserve(FAULT_AROUND, GFP_KERNEL_ACCOUNT)?;
        }
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
            queue_memory: None,
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

    /// Returns the chip of the number `id`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub(crate) fn chip(&self, id: u32) -> Result<ChipId> {
        self.shared.platform.chip(id)
    }

    /// Allocates an interrupt of `chip`, or by default of the caller's chip if that has any left, and
    /// has `tell` tell the program its offset, in bytes. If that fails the interrupt is freed.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the context, the driver, the machine or the chip has no more.
    /// - `ENODEV`, `ENOMEM`, `EIO`, `ENXIO`: see [`Source::new`], [`Slot::attach`] and, for the first
    ///   interrupt, [`Queue::new`].
    /// - Those of `tell`.
    pub(crate) fn allocate(
        &self,
        chip: Option<ChipId>,
        tell: &mut dyn FnMut(u64) -> Result,
    ) -> Result {
        // The first interrupt comes with the queue, or with neither if something fails.
        let _setup;
        let mut first = None;
        let queue = match self.queue.as_ref() {
            Some(queue) => queue,
            None => {
                _setup = self.setup.lock();
                match self.queue.as_ref() {
                    Some(queue) => queue,
                    None => first.insert(Queue::new(&self.shared.platform, &self.shared.queues)?),
                }
            }
        };
        let reserved = ReservedIndex::new(self)?;
        let source = Source::new(&self.shared.platform, chip)?;
        let slot = Slot::new(source, queue.clone(), reserved.index, self.mapping.clone())?;
        slot.attach()?;

        // Before others can find it, so that nobody frees it if this fails.
        tell(Window::TRIGGER.offset(reserved.index).ok_or(ENOSPC)?)?;
        reserved.fill(slot);
        if let Some(queue) = first {
            self.queue.populate(queue);
        }
        Ok(())
    }

    /// Frees the interrupt at `offset`. May sleep.
    ///
    /// When this returns, no mapping reaches its trigger page and its eventfd is not signalled.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn free(&self, offset: u64) -> Result {
        let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;
        let slot = self
            .slots
            .lock()
            .entries
            .get_mut(index)
            .and_then(Option::take)
            .ok_or(EINVAL)?;

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
        let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;
        let queue = self.queue.as_ref().ok_or(EINVAL)?;

        // The queue knows which slots there are. The old eventfd may be freed, outside its lock.
        drop(queue.bind(index, eventfd)?);
        Ok(())
    }

    /// Has the program drain the queue by itself; `eventfd` is signalled, if there is one, when the
    /// queue is armed and there is an event. It is armed to begin with.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if there is a queue already: an interrupt was allocated, or this was called before.
    /// - Those of [`Queue::new_user_drained`].
    pub(crate) fn set_user_drain(&self, eventfd: Option<EventFd>) -> Result {
        let _setup = self.setup.lock();
        if self.queue.as_ref().is_some() {
            return Err(EBUSY);
        }

        let queue = Queue::new_user_drained(&self.shared.platform, &self.shared.queues, eventfd)?;
        let memory = MappedPages::new(queue.memory(), self.mapping.clone(), [Window::QUEUE.all()]);

        self.slots.lock().queue_memory = Some(memory);
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

    /// Returns the events that `file`, which is that of the context, is ready for.
    pub(crate) fn poll(&self, file: &File, table: &PollTable<'_>) -> PollEvents {
        match self.queue.as_ref() {
            Some(queue) => queue.poll(file, table),
            None => PollEvents::NONE,
        }
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
            match &slots.queue_memory {
                Some(memory) => fault.insert(memory, touched),
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

    /// Returns how many interrupts the context has.
    pub(crate) fn irqs(&self) -> usize {
        self.slots.lock().entries.iter().flatten().count()
    }

    /// Returns how many interrupts all contexts together have.
    pub(crate) fn irqs_total(&self) -> usize {
        self.shared.platform.sources_in_use()
    }

    /// Lists the interrupts in `/proc/<pid>/fdinfo/<fd>`.
    pub(crate) fn show(&self, m: &SeqFile) {
        let slots = self.slots.lock();
        let live = || {
            let slots = slots.entries.iter().enumerate();
            slots.filter_map(|(index, slot)| Some((Window::TRIGGER.offset(index)?, slot.as_ref()?)))
        };

        seq_print!(m, "uxive-irqs:\t{}\n", live().count());
        if let Some(queue) = self.queue.as_ref() {
            seq_print!(m, "uxive-deferred:\t{}\n", queue.deferred());
        }
        for (offset, slot) in live() {
            seq_print!(
                m,
                "uxive-irq:\toffset:{:x} lisn:{:x}\n",
                offset,
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

impl<'a> ReservedIndex<'a> {
    /// Takes the lowest free index of `context` into use.
    fn new(context: &'a Context) -> Result<Self> {
        let index = context.slots.lock().reserve()?;

        Ok(Self { context, index })
    }

    /// Enters the slot. Does not fail: `reserve` has made the entry.
    // Called by value it would copy the slot once more.
    #[inline(always)]
    fn fill(self, slot: Slot) {
        if let Some(entry) = self.context.slots.lock().entries.get_mut(self.index) {
            *entry = Some(slot);
        }
        // The index belongs to the entry from now on.
        core::mem::forget(self);
    }
}

impl Drop for ReservedIndex<'_> {
    fn drop(&mut self) {
        self.context.slots.lock().release(self.index);
    }
}
