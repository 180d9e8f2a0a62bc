// SPDX-License-Identifier: GPL-2.0

//! A context: one open file of `/dev/uxive` or of an AFU, and what a program can do with it.
//!
//! # Life
//!
//! A [`Context`] is open, for the file and each mapping of it refer to it. What it has is its
//! [`Estate`]. With the last reference the context goes, and only the estate can be left, which knows
//! nothing but to give back: at once as a rule, or when hardware lets go of it.
//!
//! # Locks
//!
//! From the outermost to the innermost:
//!
//! 1. [`Context::setup`], a mutex: guards that the context gets one queue only. Held while that is
//!    set up or given back, but not while user memory is copied: who has that may keep the copy
//!    waiting, and with it all who have the file.
//! 2. `mmap_lock` or the VMA lock of a process: held by the kernel when it calls the fault handler.
//!    Under it, in a fault of a file that was exported, that of the [export](mod@crate::export): guards
//!    whose interrupts the file rings. A fault holds it until the page is inserted, so that none is
//!    inserted after the export was revoked.
//! 3. `slots` of the estate, a mutex: guards its table of slots. Look-up and insertion of a page by a
//!    fault happen under it, and freeing takes it too, so that a page is never inserted after its
//!    slot has left the table. It may be held while memory is allocated, but not while user memory
//!    is copied, which may need 2.
//! 4. `views` of the context's own mapping, a mutex: guards which exports show pages of it.
//! 5. `i_mmap_rwsem` of the context's own mapping, or of an export's: taken by the kernel when a page
//!    is withdrawn from user mappings. Of the above at most 1 and 4 are held then.
//! 6. The drain of the context's queue, a spinlock taken in hard interrupt context: guards the place
//!    in the queue and what becomes of the events of which slot. The lock of the eventfd nests in it.
//!
//! An [AFU](crate::afu) has locks of its own, listed there. Of the above 1 and 2 are taken under none
//! of them, and at most 1 is held where they are taken. Those of a [BAR](crate::kernel_ext::bar) come
//! before 4, and the one of a part of it is taken by a fault under 3.
//!
//! Six kinds of mutex are for themselves: nothing of this driver is taken under them, and of the
//! above at most 1 is held. That of [`Shared::afus`] guards that there is one class of AFUs; that of
//! the [registry](crate::registry) which contexts there are; that of [`Platform`] the sources that it
//! has; that of [`Quota`] its users, and is taken when a queue or an export comes or goes; that of an
//! [event log](crate::events) what there is to tell a program; that of the exports of an estate which
//! there are. The CPU hotplug lock is taken under 1; what is called under it takes 6.

use crate::{
    afu::{
        Afu,
        AfuFile,
        ImsEntry,
        Metadata, //
    },
    estate::{
        ContextKind,
        DetachedSlot,
        Estate,
        ReservedIndex,
        ReservedRange, //
    },
    events::Event,
    export::{
        ExportFile,
        ExportOperations,
        ExportRange, //
    },
    kernel_ext::{
        anon::NewFile,
        bar::MappedBar,
        class::Class,
        eventfd::EventFd,
        file::{
            AccessMode,
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
        Layout,
        Window,
        MAX_RANGE, //
    },
    queue::{
        Queue,
        QueueList, //
    },
    quota::{
        Account,
        ExportCharge,
        QueueCharge,
        Quota, //
    },
    registry::Registry,
    slot::{
        MessageSlot,
        Slot, //
    },
    trace,
    xive::{
        AllocError,
        Location,
        Platform,
        QueueMemory,
        Source,
        SourceKind, //
    },
    DeviceFile, //
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    fs::File,
    iov::IovIterDest,
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
#[pin_data]
pub(crate) struct Shared {
    // Gone before what the contexts were made with.
    #[pin]
    registry: Registry,
    pub(crate) platform: Arc<Platform>,
    pub(crate) quota: Arc<Quota>,
    queues: QueueList,
    /// The class of AFUs, from the first one on.
    #[pin]
    afus: Mutex<Option<AfuClass>>,
}

/// The class of AFUs: that of ocxl, which libocxl knows.
type AfuClass = Arc<Class<AfuFile>>;

impl Shared {
    /// Finds out what machine this is.
    ///
    /// # Errors
    ///
    /// Those of [`Platform::new`], [`Quota::new`] and [`QueueList::new`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        let platform = Platform::new()?;

        Arc::pin_init(
            try_pin_init!(Self {
                quota: Quota::new(platform.clone())?,
                platform,
                queues: QueueList::new()?,
                registry <- Registry::new(),
                afus <- new_mutex!(None, "uxive_afus"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Returns the class of AFUs.
    ///
    /// # Errors
    ///
    /// Those of [`Class::new`]: `EBUSY` if another driver has it.
    pub(crate) fn afu_class(&self) -> Result<AfuClass> {
        let mut class = self.afus.lock();

        if let Some(class) = &*class {
            return Ok(class.clone());
        }
        Ok(class
            .insert(Arc::new(Class::new(c"ocxl")?, GFP_KERNEL)?)
            .clone())
    }

    /// Returns all contexts.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// How many neighbouring interrupts a fault considers: the touched one and those around it that are
/// allocated are mapped at once, and so are all that came in one call with it.
const FAULT_AROUND: usize = 64;

/// An open file.
#[pin_data(PinnedDrop)]
pub(crate) struct Context {
    estate: Arc<Estate>,
    /// The queue's memory, if the program drains it.
    queue_memory: SetOnce<MappedPages<QueueMemory, 1>>,
    /// Its part of the AFU's MMIO, once it is attached.
    mmio: SetOnce<MappedBar>,
    mapping: Arc<FileMapping>,
    #[pin]
    setup: Mutex<Option<FirstQueue>>,
    shared: Arc<Shared>,
}

/// The queue of a context that is yet to be told of its first interrupt.
///
/// Others can use it, too: who is first may wait for user memory as long as it likes.
struct FirstQueue {
    queue: Arc<Queue>,
    /// How many calls make interrupts with it.
    users: usize,
}

/// What a call makes interrupts with.
enum QueueForSlots<'a> {
    /// The queue that the context has.
    Present(&'a Arc<Queue>),
    /// One that it will have if the call succeeds.
    First(FirstUse<'a>),
}

impl QueueForSlots<'_> {
    /// The call has succeeded: the context has the queue from now on.
    fn commit(&self) {
        if let Self::First(first) = self {
            let mut setup = first.context.setup.lock();

            if first.context.estate.queue().is_none() {
                first.context.estate.set_queue(first.queue.clone());
            }
            *setup = None;
        }
    }
}

impl Deref for QueueForSlots<'_> {
    type Target = Arc<Queue>;

    fn deref(&self) -> &Arc<Queue> {
        match self {
            Self::Present(queue) => queue,
            Self::First(first) => &first.queue,
        }
    }
}

/// A use of a [`FirstQueue`]. When dropped it is over; the last one gives the queue back, unless a call
/// has succeeded.
struct FirstUse<'a> {
    context: &'a Context,
    queue: Arc<Queue>,
}

impl Drop for FirstUse<'_> {
    fn drop(&mut self) {
        let estate = &self.context.estate;
        let mut setup = self.context.setup.lock();
        let Some(first) = &mut *setup else {
            return;
        };

        first.users -= 1;
        if first.users > 0 {
            return;
        }
        // If it has to wait for hardware it can as well be used.
        if !estate.is_quiet() || self.queue.quiesce(0).is_err() {
            estate.set_queue(self.queue.clone());
        }
        *setup = None;
    }
}

impl Context {
    /// Makes a context of a `kind` that owns nothing yet, of `afu` if there is one; `mapping` is that of its
    /// file.
    ///
    /// # Errors
    ///
    /// - `ENOMEM` if there is no memory.
    /// - `ENOSPC` if the AFU has no more contexts, `ENODEV` if it is gone.
    pub(crate) fn new(
        mapping: Arc<FileMapping>,
        shared: Arc<Shared>,
        kind: ContextKind,
        afu: Option<&Arc<Afu>>,
    ) -> Result<Pin<KBox<Self>>> {
        let account = Account::of_caller(shared.quota.clone())?;
        let place = match afu {
            None => None,
            Some(afu) => Some(Afu::reserve(afu)?),
        };

        let context = KBox::pin_init(
            try_pin_init!(Self {
                queue_memory: SetOnce::new(),
                mmio: SetOnce::new(),
                mapping,
                setup <- new_mutex!(None, "uxive_setup"),
                // Last of what can fail, as an estate is to be closed.
                estate: shared.registry.open(kind, account, place)?,
                shared,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )?;
        if let Some(place) = context.estate.afu() {
            place.enter(&context.estate, &context.mapping)?;
        }
        Ok(context)
    }

    /// Returns whether there is no AFU any more, of which this was a context.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.estate.is_gone()
    }

    /// Returns whether this is a context of an AFU.
    pub(crate) fn has_afu(&self) -> bool {
        self.estate.afu().is_some()
    }

    /// Has the AFU work for the program: its MMIO can be touched from now on.
    ///
    /// # Errors
    ///
    /// - `ENOTTY` if this is no context of an AFU.
    /// - `EIO` if it was attached before, or the AFU has not confirmed it in time.
    /// - `ENODEV` if the AFU is gone, `ENOMEM` if there is no memory.
    pub(crate) fn attach(&self) -> Result {
        let place = self.estate.afu().ok_or(ENOTTY)?;
        let mmio = place.map_mmio(self.mapping.clone())?;

        place.attach()?;
        self.mmio.populate(mmio);
        Ok(())
    }

    /// Tells what AFU this is a context of.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if it is of none.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        Ok(self.estate.afu().ok_or(ENOTTY)?.metadata())
    }

    /// Allocates an interrupt at `location`, and has `tell` tell the program its offset, in bytes. If that
    /// fails the interrupt is freed. In a context of an AFU it comes with the message of its slot, as far
    /// as the AFU has such.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the context has no more, or there are no more at `location`.
    /// - `EDQUOT`: the user has no more interrupts or, for the first one, event queues.
    /// - `ENFILE`: all together have no more of either.
    /// - `ENOMEM`, `EIO`, `ENXIO`: see [`Source::new`], [`Queue::attach`] and, for the first interrupt,
    ///   [`Queue::new`].
    /// - Those of `tell`.
    pub(crate) fn allocate(
        &self,
        location: Location,
        tell: &mut dyn FnMut(u64) -> Result,
    ) -> Result {
        match self.estate.queue() {
            Some(queue) => self
                .allocate_from(queue, location, tell)
                .inspect_err(|&error| trace::alloc_failed(self.estate.id(), error)),
            None => self.allocate_many(location, None, 1, KVVec::new(), &mut |index| {
                tell(Window::TRIGGER.offset(index).ok_or(ENOSPC)?)
            }),
        }
    }

    /// Allocates `count` interrupts of consecutive slots at `location`: from the slot `start` on, or else the
    /// lowest that are free. They are bound to `eventfds`, as far as there are any. `tell` is given the
    /// first slot. All or nothing.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: a slot from `start` on is in use.
    /// - `EINVAL`: there can be no such slots, or there are eventfds and the program drains by itself.
    /// - Otherwise as [`Self::allocate`], `ENOSPC` also if there are no so many free slots on end.
    pub(crate) fn allocate_many(
        &self,
        location: Location,
        start: Option<usize>,
        count: usize,
        mut eventfds: KVVec<Option<EventFd>>,
        tell: &mut dyn FnMut(usize) -> Result,
    ) -> Result {
        self.allocate_with_queue(location, start, count, &mut eventfds, tell)
            .inspect_err(|&error| trace::alloc_failed(self.estate.id(), error))
    }

    /// As [`Self::allocate_many`], of which a failure has to be told.
    fn allocate_with_queue(
        &self,
        location: Location,
        start: Option<usize>,
        count: usize,
        eventfds: &mut KVVec<Option<EventFd>>,
        tell: &mut dyn FnMut(usize) -> Result,
    ) -> Result {
        let queue = self.queue_for_slots()?;
        let reserved = self.estate.reserve_range(start, count)?;
        let mut made = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;

        let start = reserved.start();
        // Told when nothing else can fail, for a call that fails is to leave its argument alone.
        let result = self
            .make_many(&queue, location, reserved, eventfds, &mut made)
            .and_then(|()| tell(start));
        match result {
            Ok(()) => {
                queue.commit();
                self.estate.enter(made);
            }
            Err(_) => self.retire_many(made),
        }
        result
    }

    /// Makes a slot for each index of `reserved`, for [`Self::allocate_many`], as far as nothing fails.
    fn make_many<'a>(
        &self,
        queue: &Arc<Queue>,
        location: Location,
        reserved: ReservedRange<'a>,
        eventfds: &mut KVVec<Option<EventFd>>,
        made: &mut KVVec<DetachedSlot<'a>>,
    ) -> Result {
        let mut eventfds = eventfds.drain_all();

        for reserved in reserved {
            let index = reserved.get();
            let offset = Window::TRIGGER.offset(index).ok_or(ENOSPC)?;
            let message = match self.entry(index) {
                None => None,
                Some(entry) => Some(self.message(entry, queue, index)?),
            };
            let source = Source::new(self.estate.account().irqs(), location)
                .map_err(|refusal| self.refused(refusal))?;
            let lisn = source.lisn();
            queue.attach(index, &source)?;

            let mapping = self.mapping.clone();
            let mut slot = Slot::new(source, message, queue.clone(), index, mapping);
            if !made.is_empty() {
                slot.join();
            }
            made.push_within_capacity(DetachedSlot::new(slot, reserved))?;
            if let Some(slot) = made.last().and_then(DetachedSlot::slot) {
                slot.open_message()?;
            }
            if let Some(Some(eventfd)) = eventfds.next() {
                // Another thread of the program may have bound one meanwhile, which goes.
                drop(queue.bind(index, Some(eventfd))?);
            }
            trace::alloc(self.estate.id(), index, lisn, offset);
        }
        Ok(())
    }

    /// Allocates an interrupt that is a message only, which the AFU sends for work of `queue_id`, and
    /// binds it to `eventfd`. `tell` is given its offset, in bytes, and its slot. All or nothing.
    ///
    /// # Errors
    ///
    /// - `ENOTTY` if this is no context of an AFU.
    /// - `ENOSPC`: the context, the AFU or the host bridge has no more.
    /// - Otherwise as [`Self::allocate`], `EINVAL` for an eventfd of a program that drains by itself.
    pub(crate) fn allocate_message(
        &self,
        queue_id: u32,
        eventfd: Option<EventFd>,
        tell: &mut dyn FnMut(u64, usize) -> Result,
    ) -> Result {
        if self.estate.afu().is_none() {
            return Err(ENOTTY);
        }
        self.allocate_message_with_queue(queue_id, eventfd, tell)
            .inspect_err(|&error| trace::alloc_failed(self.estate.id(), error))
    }

    /// As [`Self::allocate_message`], of which a failure has to be told.
    fn allocate_message_with_queue(
        &self,
        queue_id: u32,
        eventfd: Option<EventFd>,
        tell: &mut dyn FnMut(u64, usize) -> Result,
    ) -> Result {
        let queue = self.queue_for_slots()?;
        let (offset, made) = self.make_message(&queue, queue_id, eventfd)?;

        let result = tell(offset, made.index());
        match result {
            Ok(()) => {
                queue.commit();
                made.enter();
            }
            Err(_) => self.retire(made),
        }
        result
    }

    /// Returns the queue for slots that are to be made. The first ones set it up.
    ///
    /// # Errors
    ///
    /// Those of [`QueueCharge::new`] and [`Queue::new`].
    fn queue_for_slots(&self) -> Result<QueueForSlots<'_>> {
        if let Some(queue) = self.estate.queue() {
            return Ok(QueueForSlots::Present(queue));
        }
        let setup = &mut *self.setup.lock();
        if let Some(queue) = self.estate.queue() {
            return Ok(QueueForSlots::Present(queue));
        }
        let queue = match setup {
            Some(first) => {
                first.users += 1;
                first.queue.clone()
            }
            None => {
                let queue = Queue::new(
                    &self.shared.platform,
                    &self.shared.queues,
                    self.estate.id(),
                    self.layout().queue_size(),
                    QueueCharge::new(self.estate.account().clone())?,
                )
                .map_err(|refusal| self.refused(refusal))?;
                let first = FirstQueue {
                    queue: queue.clone(),
                    users: 1,
                };
                *setup = Some(first);
                queue
            }
        };

        Ok(QueueForSlots::First(FirstUse {
            context: self,
            queue,
        }))
    }

    /// As [`Self::allocate`], with the context's queue.
    #[inline]
    fn allocate_from(
        &self,
        queue: &Arc<Queue>,
        location: Location,
        tell: &mut dyn FnMut(u64) -> Result,
    ) -> Result {
        let reserved = self.estate.reserve()?;
        let index = reserved.get();
        let offset = Window::TRIGGER.offset(index).ok_or(ENOSPC)?;
        let message = match self.entry(index) {
            None => None,
            Some(entry) => Some(self.message(entry, queue, index)?),
        };
        let source = Source::new(self.estate.account().irqs(), location)
            .map_err(|refusal| self.refused(refusal))?;
        let lisn = source.lisn();
        queue.attach(index, &source)?;

        // Told before others can find it, so that nobody frees it if this fails.
        let told = match &message {
            None => tell(offset),
            Some(message) => Self::open(message, queue, index, 0).and_then(|()| tell(offset)),
        };
        let slot = || Slot::new(source, message, queue.clone(), index, self.mapping.clone());
        if let Err(error) = told {
            self.undo(slot(), reserved);
            return Err(error);
        }
        trace::alloc(self.estate.id(), index, lisn, offset);
        reserved.fill(slot);
        Ok(())
    }

    /// Has the AFU send the message of slot `index`, for work of `queue_id`.
    #[cold]
    fn open(message: &MessageSlot, queue: &Queue, index: usize, queue_id: u32) -> Result {
        queue.attach_message(index, message.source())?;
        message.open(queue_id)
    }

    /// Makes the slot of a message, for [`Self::allocate_message`], and its offset.
    fn make_message(
        &self,
        queue: &Arc<Queue>,
        queue_id: u32,
        eventfd: Option<EventFd>,
    ) -> Result<(u64, DetachedSlot<'_>)> {
        let reserved = self.estate.reserve()?;
        let index = reserved.get();
        let offset = Window::TRIGGER.offset(index).ok_or(ENOSPC)?;
        let message = self.message(self.entry(index).ok_or(ENOSPC)?, queue, index)?;
        let lisn = message.source().lisn();
        queue.attach_message(index, message.source())?;

        let bound = match eventfd {
            None => Ok(()),
            // Another program's thread may have bound one meanwhile, which goes.
            eventfd => queue.bind(index, eventfd).map(drop),
        };
        // The AFU may send it from here on.
        let open = bound.and_then(|()| message.open(queue_id));
        let slot = Slot::of_message(message, queue.clone(), index);
        if let Err(error) = open {
            self.undo(slot, reserved);
            return Err(error);
        }
        trace::alloc(self.estate.id(), index, lisn, offset);
        Ok((offset, DetachedSlot::new(slot, reserved)))
    }

    /// Returns the entry of the AFU's message store for slot `index`, if it has one.
    #[inline]
    fn entry(&self, index: usize) -> Option<ImsEntry> {
        self.estate.afu()?.entry(index)
    }

    /// Makes the message of slot `index`, to be sent from `entry`.
    #[cold]
    #[inline(never)]
    fn message(
        &self,
        entry: ImsEntry,
        queue: &Arc<Queue>,
        index: usize,
    ) -> Result<KBox<MessageSlot>> {
        let source = Source::of_message(self.estate.account().irqs(), entry.messages())
            .map_err(|refusal| self.refused(refusal))?;

        MessageSlot::new(source, entry, queue, index, self.mapping.clone())
    }

    /// Gives back a slot that the program could not be told of.
    #[cold]
    fn undo(&self, slot: Slot, reserved: ReservedIndex<'_>) {
        self.retire(DetachedSlot::new(slot, reserved));
    }

    /// Gives back a slot, now or when hardware lets go of it.
    #[inline(always)]
    fn retire(&self, slot: DetachedSlot<'_>) {
        if self.estate.retire(slot).is_err() {
            self.shared.registry.retry_later();
        }
    }

    /// As [`Self::retire`], of many at once.
    fn retire_many(&self, slots: KVVec<DetachedSlot<'_>>) {
        if self.estate.retire_many(slots).is_err() {
            self.shared.registry.retry_later();
        }
    }

    /// Tells the program if firmware has no more of something. Returns the error of the call.
    fn refused(&self, refusal: AllocError) -> Error {
        if let AllocError::Exhausted(resource) = refusal {
            self.estate.events().report(Event::Exhausted(resource));
        }
        refusal.into()
    }

    /// Frees the interrupt at `offset`. May sleep.
    ///
    /// When this returns, no mapping reaches its trigger page and its eventfd is not signalled. If
    /// hardware does not let go of it, it is quarantined, which the program need not care about.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn free(&self, offset: u64) -> Result {
        let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;
        let slot = self.estate.take(index).ok_or(EINVAL)?;

        self.retire(slot);
        Ok(())
    }

    /// Frees the interrupts of the slots in `range`, as [`Self::free`] does, or none.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one of them does not exist, `ENOMEM` if there is no memory.
    pub(crate) fn free_many(&self, range: Range<usize>) -> Result {
        self.retire_many(self.estate.take_range(range)?);
        Ok(())
    }

    /// Frees all interrupts, as [`Self::free`] does.
    pub(crate) fn free_all(&self) {
        let result = match self.estate.take_all() {
            Ok(all) => self.estate.retire_many(all),
            // This does not fail for want of memory.
            Err(_) => self.estate.retire_all(),
        };

        if result.is_err() {
            self.shared.registry.retry_later();
        }
    }

    /// Has the interrupt at `offset` signal `eventfd` from now on, or nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such interrupt, or the program drains the queue by itself.
    pub(crate) fn bind(&self, offset: u64, eventfd: Option<EventFd>) -> Result {
        let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;
        let queue = self.estate.queue().ok_or(EINVAL)?;

        // The queue knows which slots there are. The old eventfd may be freed, outside its lock.
        drop(queue.bind(index, eventfd)?);
        Ok(())
    }

    /// Has the interrupts of the slots in `range` signal `eventfds`, one each or none. All or nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one of them does not exist, or the program drains the queue by itself.
    pub(crate) fn bind_many(
        &self,
        range: Range<usize>,
        eventfds: &mut [Option<EventFd>],
    ) -> Result {
        let queue = self.kernel_drained()?;
        let slots = self.estate.lock();

        slots.require(range.clone())?;
        // Nothing fails from here on: as long as the lock is held, all of them stay. The old ones take
        // the places of the new, and may be freed when the caller drops them.
        for (index, eventfd) in range.zip(eventfds) {
            *eventfd = queue.bind(index, eventfd.take())?;
        }
        Ok(())
    }

    /// Holds back events of those slots in `range` that are `chosen` by their place in it, if `masked`,
    /// or else lets them through again: one, if any came meanwhile. All or nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::bind_many`].
    pub(crate) fn mask_many(
        &self,
        range: Range<usize>,
        chosen: &dyn Fn(usize) -> bool,
        masked: bool,
    ) -> Result {
        let queue = self.kernel_drained()?;
        let slots = self.estate.lock();

        slots.require(range.clone())?;
        // Nor does this fail.
        for (_, index) in range.enumerate().filter(|&(place, _)| chosen(place)) {
            match masked {
                true => queue.mask(index)?,
                false => queue.unmask(index)?,
            }
        }
        Ok(())
    }

    /// Raises the interrupts of those slots in `range` that are `chosen` by their place in it. All or
    /// nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one in `range` does not exist.
    pub(crate) fn trigger_many(
        &self,
        range: Range<usize>,
        chosen: &dyn Fn(usize) -> bool,
    ) -> Result {
        let slots = self.estate.lock();

        slots.require(range.clone())?;
        for (_, index) in range.enumerate().filter(|&(place, _)| chosen(place)) {
            if let Some(slot) = slots.get(index) {
                slot.trigger();
            }
        }
        Ok(())
    }

    /// Returns the queue.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none yet, or the program drains it.
    fn kernel_drained(&self) -> Result<&Arc<Queue>> {
        let queue = self.estate.queue().ok_or(EINVAL)?;

        match queue.is_user_drained() {
            true => Err(EINVAL),
            false => Ok(queue),
        }
    }

    /// Has the program drain the queue by itself; `eventfd` is signalled, if there is one, when the
    /// queue is armed and there is an event. It is armed to begin with.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if there is a queue already: an interrupt was allocated, or this was called before.
    /// - Those of [`QueueCharge::new`] and [`Queue::new_user_drained`].
    pub(crate) fn set_user_drain(&self, eventfd: Option<EventFd>) -> Result {
        let setup = self.setup.lock();
        if setup.is_some() || self.estate.queue().is_some() {
            return Err(EBUSY);
        }

        let queue = Queue::new_user_drained(
            &self.shared.platform,
            &self.shared.queues,
            self.estate.id(),
            self.layout().queue_size(),
            QueueCharge::new(self.estate.account().clone())?,
            eventfd,
            self.estate.events().pollers().clone(),
        )
        .map_err(|refusal| self.refused(refusal))?;
        let memory = MappedPages::new(
            queue.memory(),
            self.mapping.clone(),
            [self.layout().queue().all()],
        );

        self.queue_memory.populate(memory);
        self.estate.set_queue(queue);
        Ok(())
    }

    /// Has the next event in a user-drained queue signal its eventfd.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the program does not drain the queue.
    pub(crate) fn arm(&self) -> Result {
        self.estate.queue().ok_or(EINVAL)?.arm()
    }

    /// Makes a file by which others ring the `count` interrupts from slot `start` on. `tell` is given
    /// its descriptor and the number by which [`Self::revoke`] knows it. It is open for what this one
    /// is, by its `access`. All or nothing.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if not all of them are interrupts that are rung by a store, or there is none.
    /// - `EDQUOT` if the user has as many exports as it may, `ENFILE` if all together have.
    /// - `ENOSPC` if the context has made as many as there are numbers.
    /// - Those of [`NewFile::new`], and what `tell` returns.
    pub(crate) fn export(
        &self,
        start: usize,
        count: usize,
        access: AccessMode,
        tell: &mut dyn FnMut(u32, u32) -> Result,
    ) -> Result {
        let range = ExportRange::new(start, count)?;
        let charge = ExportCharge::new(self.estate.account().clone())?;
        let mut id = 0;
        let file = NewFile::new::<ExportOperations>(c"[uxive-doorbell]", access, |mapping| {
            let host = self.mapping.clone();
            let export = ExportFile::new(&self.estate, host, mapping, range, charge)?;
            id = export.id();
            Ok(export)
        })?;

        tell(file.fd(), id)?;
        trace::export(self.estate.id(), id, start, count);
        file.install();
        Ok(())
    }

    /// Ends the export `id`: when this returns no mapping of its file reaches an interrupt, and none
    /// ever will. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, or it was ended before.
    pub(crate) fn revoke(&self, id: u32) -> Result {
        self.estate.exports().get(id).ok_or(ENOENT)?.end()
    }

    /// Returns the events that `file`, which is that of the context, is ready for.
    pub(crate) fn poll(&self, file: &File, table: &PollTable<'_>) -> PollEvents {
        // First, as this has it woken by the queue, too: what comes after the look there wakes.
        let events = self.estate.events().poll(file, table);

        match self.estate.queue() {
            Some(queue) => events | queue.poll(),
            None => events,
        }
    }

    /// Copies events to `to`, see [`EventLog::read`](crate::events::EventLog::read).
    ///
    /// # Errors
    ///
    /// Those of that.
    pub(crate) fn read(&self, to: &mut IovIterDest<'_>, may_wait: bool) -> Result<usize> {
        self.estate.events().read(to, may_wait)
    }

    /// Handles a page fault in a mapping of the file.
    pub(crate) fn fault(&self, fault: &Fault<'_>) -> FaultResult {
        let (touched, result) = (fault.offset(), self.insert(fault));

        trace::fault(
            self.estate.id(),
            self.layout().slot(touched),
            touched,
            result,
        );
        result
    }

    /// Places the page that was touched.
    #[inline]
    fn insert(&self, fault: &Fault<'_>) -> FaultResult {
        let slots = self.estate.lock();
        let slot = |index: usize| slots.get(index);
        let touched = fault.offset();

        // Told under the lock: what is inserted before that is withdrawn after it.
        if self.is_gone() {
            return FaultResult::SIGBUS;
        }
        if let Some(index) = Window::TRIGGER.index(touched) {
            let Some(wanted) = slot(index) else {
                return FaultResult::SIGBUS;
            };
            let joined = slots.joined(index);
            for neighbour in neighbours(Window::TRIGGER, index, joined, fault).filter_map(slot) {
                // The others would fail, too.
                if neighbour.insert_trigger(fault).is_oom() {
                    break;
                }
            }
            wanted.insert_trigger(fault)
        } else if let Some(index) = Window::ESB.index(touched) {
            let (origin, index) = SourceKind::of_eisn(index / 2, self.layout().queue_size());

            match slot(index) {
                Some(slot) => slot.insert_esb(origin, fault),
                None => FaultResult::SIGBUS,
            }
        } else if touched < Window::TRIGGER.base() {
            match self.mmio.as_ref() {
                Some(mmio) => mmio.insert(fault, touched),
                None => FaultResult::SIGBUS,
            }
        } else {
            match self.queue_memory.as_ref() {
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
        let (layout, offset, len) = (self.layout(), area.offset(), area.len());

        if layout.trigger().contains(offset, len) {
            area.require_write_only()
        } else if layout.esb().contains(offset, len) {
            area.require_writable()
        } else if layout.queue().contains(offset, len) {
            area.require_read_only()
        } else if self.is_mmio(area) {
            area.require_not_executable()
        } else {
            Err(EINVAL)
        }
    }

    /// Returns whether a mapping is of the AFU's MMIO, at offset 0 of the file.
    fn is_mmio(&self, area: &NewMapping<'_>) -> bool {
        let Some(place) = self.estate.afu() else {
            return false;
        };
        let end = area.offset().checked_add(area.len());

        end.is_some_and(|end| end <= place.metadata().mmio_size)
    }

    /// Makes a range: a file that is a context of its own, with `slots` slots. It is charged to the caller,
    /// and its first interrupt brings a queue that has room for as many as it can have. It is open for
    /// what this one is, by its `access`.
    ///
    /// # Errors
    ///
    /// - `ENOTTY` if this is a range itself, or a context of an AFU.
    /// - `EINVAL` if `slots` is 0 or more than [`MAX_RANGE`].
    /// - Those of [`NewFile::new`] and [`Self::new`].
    pub(crate) fn make_range(&self, slots: usize, access: AccessMode) -> Result<NewFile> {
        if self.estate.kind() != ContextKind::Open || self.has_afu() {
            return Err(ENOTTY);
        }
        if slots == 0 || slots > MAX_RANGE {
            return Err(EINVAL);
        }
        NewFile::new::<DeviceFile>(c"[uxive-range]", access, |mapping| {
            Self::new(
                mapping,
                self.shared.clone(),
                ContextKind::Range(slots),
                None,
            )
        })
    }

    /// Returns which windows the file has.
    #[inline]
    pub(crate) fn layout(&self) -> Layout {
        self.estate.layout()
    }

    /// Returns how many interrupts the context has.
    pub(crate) fn irqs(&self) -> usize {
        self.estate.lock().iter().count()
    }

    /// Returns how many it may have at present.
    pub(crate) fn max_irqs(&self) -> usize {
        self.estate.max_irqs()
    }

    /// Returns what the context is charged to.
    pub(crate) fn account(&self) -> &Account {
        self.estate.account()
    }

    /// Returns the machine, which knows how many interrupts all contexts together have.
    pub(crate) fn platform(&self) -> &Platform {
        &self.shared.platform
    }

    /// Lists the interrupts in `/proc/<pid>/fdinfo/<fd>`.
    pub(crate) fn show(&self, m: &SeqFile) {
        seq_print!(m, "uxive-context:\t{}\n", self.estate.id());
        if let ContextKind::Range(slots) = self.estate.kind() {
            seq_print!(m, "uxive-range:\t{slots}\n");
        }
        if let Some(place) = self.estate.afu() {
            place.show(m);
        }

        let slots = self.estate.lock();
        seq_print!(m, "uxive-irqs:\t{}\n", slots.iter().count());
        if let Some(drain) = self.estate.queue().and_then(|queue| queue.view().kernel) {
            seq_print!(m, "uxive-deferred:\t{}\n", drain.deferred);
        }
        for (index, slot) in slots.iter() {
            let offset = Window::TRIGGER.base() + index as u64 * Window::TRIGGER.stride();
            seq_print!(m, "uxive-irq:\toffset:{offset:x}");
            if let Some(lisn) = slot.generic_lisn() {
                seq_print!(m, " lisn:{lisn:x}");
            }
            if let Some(lisn) = slot.message_lisn() {
                seq_print!(m, " message:{lisn:x}");
            }
            if slot.is_masked() {
                seq_print!(m, " masked");
            }
            seq_print!(m, "\n");
        }
        drop(slots);
        self.estate.exports().show(m);
    }
}

#[pinned_drop]
impl PinnedDrop for Context {
    fn drop(self: Pin<&mut Self>) {
        if let Some(place) = self.estate.afu() {
            place.leave();
        }
        self.estate.exports().end_all();
        self.shared.registry.close(&self.estate);
    }
}

/// Returns the indices around and without `index`, and those of `joined`, whose pages in `window` the
/// mapping of `fault` covers.
pub(crate) fn neighbours(
    window: Window,
    index: usize,
    joined: Range<usize>,
    fault: &Fault<'_>,
) -> impl Iterator<Item = usize> {
    let covered = window.indices(fault.covered());
    let first = index - index % FAULT_AROUND;
    let around = first.min(joined.start)..(first + FAULT_AROUND).max(joined.end);

    (around.start.max(covered.start)..around.end.min(covered.end))
        .filter(move |&other| other != index)
}
