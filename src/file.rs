// SPDX-License-Identifier: GPL-2.0

//! One open file of `/dev/uxive` or of an AFU, or a range, and what a program can do with it.
//!
//! # Life
//!
//! A [`ContextFile`] exists while the file is open; each mapping of it keeps the file open. It owns
//! its [`Context`]. The file goes with the last reference. The context only gives its resources
//! back then: at once as a rule, or later when they have gone quiet.
//!
//! # Locks
//!
//! From the outermost to the innermost:
//!
//! 1. [`ContextFile::setup`], a mutex: guards that the context gets one queue only. Held while that is
//!    set up or given back, but not while user memory is copied: the program can make the copy
//!    wait, and with it all others that have the file.
//! 2. `mmap_lock` or the VMA lock of a process: held by the kernel when it calls the fault handler. Of
//!    the driver's own nothing is held where they are taken, but for 1.
//! 3. `inserting` of the [mapping](crate::kernel_ext::mapping) of the file, held by a fault: no page is
//!    inserted after the mapping was closed. Closing it takes nothing under it.
//! 4. The owner of an [export](mod@crate::export), a mutex: guards whose interrupts its file rings. Held
//!    by a fault in that file. Another mutex of the export comes before it, for those only that end the
//!    export: held until no page is mapped.
//! 5. That of the [slot table](crate::slots), a mutex. Look-up and insertion of a page by a fault happen
//!    under it, and freeing takes it too, so that a page is never inserted after its slot has left the
//!    table. It may be held while memory is allocated, but not while user memory is copied, which may
//!    need 2.
//! 6. `views` of the file's own mapping, a mutex: guards which exports show pages of it. Nothing is
//!    taken under it.
//! 7. `i_mmap_rwsem` of the file's own mapping, or of an export's: taken by the kernel when a page
//!    is withdrawn from user mappings. Of the above at most 1 is held then, and that of the end of an export.
//! 8. The drain of the context's queue, a spinlock taken in hard interrupt context: guards the place
//!    in the queue, and where the events of each slot go. The lock of the eventfd nests in it.
//!
//! The mutex of [interrupts that guests can have](crate::bypass) comes before 5, and of the above nothing
//! is held where it is taken. That is where all is said of the locks of others that are taken under it.
//!
//! An [AFU](crate::afu) has locks of its own, listed there. Of the above 3, 6, 7 and 8 are taken under
//! them, and at most 1 is held where they are taken: for the first interrupt of a context of an AFU it
//! waits for them. Those of a [BAR](crate::kernel_ext::bar) come before 6, and the one of a part of it is
//! taken by a fault under 3.
//!
//! Eight kinds of mutex are for themselves: nothing of this driver is taken under them, and of the
//! above at most 1 is held. That of the [registry](crate::registry) guards which contexts there are;
//! of the four of [`Platform`](crate::xive::Platform) one guards the sources that it has, one which VPs
//! it has, one what firmware has refused of queues, and one which host bridges there are; that of
//! [`Limits`](crate::limits::Limits) its payers, and is taken when a context is opened or is gone; that
//! of an [event log](crate::events) what there is to tell a program; that of the
//! [exports](crate::export::Exports) of a context which there are. The CPU hotplug lock is taken under
//! 1; what is called under it takes 8.
//!
//! `Platform` has a fifth mutex, taken under 1: of those that need a VP when it has none, one asks firmware
//! for a block, and the others wait for the answer, which is theirs, too. Under it is taken that of the
//! VPs, but not while firmware is asked, so that no other waits for that.

use crate::{
    afu::{
        Afu,
        Metadata, //
    },
    context::{
        Context,
        ContextKind, //
    },
    device::Device,
    events::Event,
    export::{
        ExportFile,
        ExportOperations,
        ExportRange,
        Lender, //
    },
    kernel_ext::{
        anon::NewFile,
        bar::MappedBar,
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
        Area,
        Layout,
        Place,
        Window, //
    },
    limits::UserCharge,
    queue::{
        Queue,
        RouteState, //
    },
    slot::Slot,
    trace,
    xive::{
        AllocError,
        QueueMemory, //
    }, //
};
use core::ops::Range;
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
        MutexGuard,
        SetOnce, //
    }, //
};

/// Returns the error for an interrupt that is bound for irq bypass still, although it was unbound.
fn not_back(error: Error) -> Error {
    match error {
        EBUSY => EIO,
        error => error,
    }
}

/// An open file.
#[pin_data(PinnedDrop)]
pub(crate) struct ContextFile {
    /// The queue's memory, if the program drains it. Before the context, which is charged for it.
    queue_memory: SetOnce<MappedPages<QueueMemory, 1>>,
    context: Arc<Context>,
    /// Its part of the AFU's MMIO, once it is attached.
    mmio: SetOnce<MappedBar>,
    mapping: Arc<FileMapping>,
    #[pin]
    setup: Mutex<Option<FirstQueue>>,
    device: Arc<Device>,
}

/// The queue of a context whose program was not told of its first interrupt yet.
///
/// Other calls can use it, too: the first one may wait for user memory without an end.
pub(crate) struct FirstQueue {
    pub(crate) queue: Arc<Queue>,
    /// How many calls make interrupts with it.
    pub(crate) users: usize,
}

impl ContextFile {
    /// Makes that of a context of a `kind` that owns nothing yet, of `afu` if there is one; `mapping` is
    /// that of the file.
    ///
    /// # Errors
    ///
    /// - `ENOMEM` if there is no memory.
    /// - `ENOSPC` if the AFU has no more contexts, `ENODEV` if it is gone.
    pub(crate) fn new(
        mapping: Arc<FileMapping>,
        device: Arc<Device>,
        user: Arc<UserCharge>,
        kind: ContextKind,
        afu: Option<Arc<Afu>>,
    ) -> Result<impl PinInit<Self, Error>> {
        let place = match &afu {
            None => None,
            Some(afu) => Some(Afu::reserve(afu)?),
        };

        Ok(try_pin_init!(Self {
            queue_memory: SetOnce::new(),
            mmio: SetOnce::new(),
            setup <- new_mutex!(None, "uxive_setup"),
            // The last step that can fail, since a context that was opened must be closed.
            context: device.registry().open(kind, user, place, &mapping)?,
            mapping,
            device,
        }? Error)
        .pin_chain(|file| match file.context.afu() {
            None => Ok(()),
            Some(place) => place.enter(
                file.context.events().clone(),
                file.mapping.clone(),
                file.context.bypasses().clone(),
            ),
        }))
    }

    /// Returns whether there is no AFU any more, of which this was a context.
    pub(crate) fn is_gone(&self) -> bool {
        self.mapping.is_closed()
    }

    /// Returns whether this is a context of an AFU.
    pub(crate) fn has_afu(&self) -> bool {
        self.context.afu().is_some()
    }

    /// Attaches the context to the AFU: its MMIO can be touched from now on.
    ///
    /// # Errors
    ///
    /// - `ENOTTY` if this is no context of an AFU.
    /// - `EIO` if it was attached before, or the AFU has not confirmed it in time.
    /// - `ENODEV` if the AFU is gone, `ENOMEM` if there is no memory.
    pub(crate) fn attach(&self) -> Result {
        let place = self.context.afu().ok_or(ENOTTY)?;
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
        Ok(self.context.afu().ok_or(ENOTTY)?.metadata())
    }

    /// Tells the program if firmware has no more of something. Returns the error of the call.
    pub(crate) fn refused(&self, refusal: AllocError) -> Error {
        if let AllocError::Exhausted(resource) = refusal {
            self.context.events().report(Event::Exhausted(resource));
        }
        refusal.into()
    }

    /// Makes the interrupt at `offset` signal `eventfd` from now on, or nothing. A guest that has it loses
    /// it.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such interrupt, or the program drains the queue by itself.
    /// - `EIO` if a guest had it, and it did not come back.
    pub(crate) fn bind(&self, offset: u64, mut eventfd: Option<EventFd>) -> Result {
        let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;
        let queue = self.context.queue().ok_or(EINVAL)?;

        // The queue knows which slots there are. The old eventfd may be freed, outside its lock.
        match queue.bind(index, &mut eventfd) {
            Err(EBUSY) => self.rebind(queue, index, &mut eventfd),
            result => result,
        }
    }

    /// As [`Self::bind`], of slot `index`, which was bound for irq bypass.
    #[cold]
    #[inline(never)]
    fn rebind(&self, queue: &Queue, index: usize, eventfd: &mut Option<EventFd>) -> Result {
        let mut bypasses = self.context.bypasses().lock();

        bypasses.unbind(index..index + 1);
        queue.bind(index, eventfd).map_err(not_back)
    }

    /// Makes the interrupts of the slots in `range` signal `eventfds`, one each or none. Guests that have
    /// them lose them. All or nothing.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if one of them does not exist, or the program drains the queue by itself.
    /// - `EIO` if a guest had one, and it did not come back.
    pub(crate) fn bind_many(
        &self,
        range: Range<usize>,
        eventfds: &mut [Option<EventFd>],
    ) -> Result {
        let queue = self.kernel_drained()?;
        let slots = self.context.slots();
        let mut eventfds = eventfds.iter_mut();
        // None is bound for irq bypass meanwhile.
        let mut bypasses = self.context.bypasses().lock();

        slots.require(range.clone())?;
        bypasses.unbind(range.clone());
        slots.for_each(range.clone(), |_, slot| {
            match slot.and_then(Slot::route_state) {
                Some(RouteState::Guest) => Err(EIO),
                _ => Ok(()),
            }
        })?;
        // Nothing fails from here on: one that is freed meanwhile might have been so after this. The old
        // ones take the places of the new, and may be freed when the caller drops them.
        slots.for_each(range, |index, slot| match (eventfds.next(), slot) {
            (Some(eventfd), Some(_)) => queue.bind(index, eventfd),
            _ => Ok(()),
        })
    }

    /// Makes the interrupt of slot `index` signal the eventfd to which there are two references, or go to
    /// a guest that has the same.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP` if irq bypass is off.
    /// - `EDQUOT` if the user has bound as many interrupts so as it may, `ENFILE` if all together have.
    /// - Those of [`Bypasses::bind`](crate::bypass::Bypasses::bind).
    pub(crate) fn bind_bypass(&self, index: usize, eventfds: [EventFd; 2]) -> Result {
        if !self.device.limits.has_bypass() {
            return Err(EOPNOTSUPP);
        }
        let queue = self.kernel_drained()?;
        let charge = self.context.user().charge_bypass()?;
        let slots = self.context.slots();
        let source = || slots.lock().get(index).ok_or(EINVAL)?.for_guest();

        (self.context.bypasses()).bind(queue, index, source, eventfds, charge)
    }

    /// Holds back events of those slots in `range` that are `chosen` by their place in it, if `masked`,
    /// or else lets them through again: one, if any came meanwhile. All or nothing.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if one of them does not exist, or the program drains the queue by itself.
    /// - `EBUSY` if one that would be masked is bound for irq bypass: a guest may have it.
    pub(crate) fn mask_many(
        &self,
        range: Range<usize>,
        chosen: &dyn Fn(usize) -> bool,
        masked: bool,
    ) -> Result {
        let queue = self.kernel_drained()?;
        let (slots, start) = (self.context.slots(), range.start);
        // None is bound for irq bypass meanwhile.
        let bypasses = self.context.bypasses().lock();

        slots.require(range.clone())?;
        if masked && bypasses.any(range.clone(), |index| chosen(index - start)) {
            return Err(EBUSY);
        }
        // This does not fail, either.
        slots.for_each(range, |index, slot| match slot {
            Some(_) if chosen(index - start) && masked => queue.mask(index),
            Some(_) if chosen(index - start) => queue.unmask(index),
            _ => Ok(()),
        })
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
        let (slots, start) = (self.context.slots(), range.start);

        slots.require(range.clone())?;
        slots.for_each(range, |index, slot| {
            match slot {
                Some(slot) if chosen(index - start) => slot.trigger(),
                _ => (),
            }
            Ok(())
        })
    }

    /// Returns the queue.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none yet, or the program drains it.
    fn kernel_drained(&self) -> Result<&Arc<Queue>> {
        let queue = self.context.queue().ok_or(EINVAL)?;

        match queue.is_user_drained() {
            true => Err(EINVAL),
            false => Ok(queue),
        }
    }

    /// Gives the queue to the program to drain. `eventfd` is signalled, if there is one, when the
    /// queue is armed and there is an event. It is armed to begin with.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if there is a queue already: an interrupt was allocated, or this was called before.
    /// - Those of [`UserCharge::charge_queue`] and [`Queue::new_user_drained`].
    pub(crate) fn set_user_drain(&self, eventfd: Option<EventFd>) -> Result {
        let setup = self.setup.lock();
        if setup.is_some() || self.context.queue().is_some() {
            return Err(EBUSY);
        }

        let size = self.layout().queue_size();
        let queue = Queue::new_user_drained(
            &self.device.platform,
            &self.device.queues,
            self.context.id(),
            size,
            self.context.user().charge_queue(size)?,
            self.context.events().clone(),
            eventfd,
        )
        .map_err(|refusal| self.refused(refusal))?;
        let memory = MappedPages::new(
            queue.memory(),
            self.mapping.clone(),
            [self.layout().queue().all()],
        );

        self.queue_memory.populate(memory);
        self.context.set_queue(queue);
        Ok(())
    }

    /// Arms a user-drained queue: the next event signals its eventfd.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the program does not drain the queue.
    pub(crate) fn arm(&self) -> Result {
        self.context.queue().ok_or(EINVAL)?.arm()
    }

    /// Makes a file by which others ring the interrupts of `slots`, and returns the number by which
    /// [`Self::revoke`] knows it. Together they come no more often than `max_rate` in a second, or than
    /// root allows. It is open for what this one is, by its `access`. Dropped without being installed, it
    /// is ended.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if not all of them are interrupts that are rung by a store, or there is none.
    /// - `EDQUOT` if the user has as many exports as it may, `ENFILE` if all together have.
    /// - `ENOSPC` if the context has made as many as there are numbers.
    /// - `ENODEV` if the AFU is gone.
    /// - Those of [`NewFile::new`].
    pub(crate) fn export(
        &self,
        slots: Range<usize>,
        max_rate: u32,
        access: AccessMode,
    ) -> Result<(NewFile, u32)> {
        let (start, count) = (slots.start, slots.len());
        let range = ExportRange::new(start, count)?;
        let charge = self.context.user().charge_export()?;
        let mut id = 0;
        let file =
            NewFile::new::<ExportOperations, _, _>(c"[uxive-doorbell]", access, |mapping| {
                let lender = Lender {
                    exports: self.context.exports(),
                    slots: self.context.slots(),
                    // Without a queue there is no interrupt.
                    queue: self.context.queue().ok_or(EINVAL)?,
                    host: &self.mapping,
                };
                let export = ExportFile::new(&lender, mapping, range, max_rate, charge)?;
                id = export.id();
                Ok(export)
            })?;

        trace::export(self.context.id(), id, start, count);
        Ok((file, id))
    }

    /// Ends the export `id`: when this returns no mapping of its file reaches an interrupt, and none
    /// ever will. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, or it was ended before.
    pub(crate) fn revoke(&self, id: u32) -> Result {
        self.context.exports().get(id).ok_or(ENOENT)?.end()
    }

    /// Returns the events that `file`, which is that of the context, is ready for.
    pub(crate) fn poll(&self, file: &File, table: &PollTable<'_>) -> PollEvents {
        // First, as the queue wakes the same pollers: an event that comes after the look there
        // wakes.
        let events = self.context.events().poll(file, table);

        match self.context.queue() {
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
        self.context.events().read(to, may_wait)
    }

    /// Handles a page fault in a mapping of the file.
    #[inline(always)]
    pub(crate) fn fault(&self, fault: &Fault<'_>) -> FaultResult {
        let touched = fault.offset();
        let place = self.layout().resolve(touched);
        let result = match place {
            Some(place) => self.insert(place, fault),
            None => FaultResult::SIGBUS,
        };
        let slot = match place {
            Some(Place::Trigger(slot) | Place::Esb(_, slot)) => Some(slot),
            _ => None,
        };

        trace::fault(self.context.id(), slot, touched, result);
        result
    }

    /// Places the page that was touched, which is that of `place`.
    #[inline(always)]
    fn insert(&self, place: Place, fault: &Fault<'_>) -> FaultResult {
        match place {
            Place::Mmio => match self.mmio.as_ref() {
                Some(mmio) => mmio.insert(fault, fault.offset()),
                None => FaultResult::SIGBUS,
            },
            Place::Trigger(index) => {
                let slots = self.context.slots().lock();
                let Some(wanted) = slots.get(index) else {
                    return FaultResult::SIGBUS;
                };
                let joined = slots.joined(index, Window::near(index), Slot::is_joined);
                let around = Window::TRIGGER.around(index, joined, fault.covered());
                for neighbour in around.filter_map(|index| slots.get(index)) {
                    // The others would fail, too.
                    if neighbour.insert_trigger(fault).is_oom() {
                        break;
                    }
                }
                wanted.insert_trigger(fault)
            }
            Place::Esb(source, index) => match self.context.slots().lock().get(index) {
                Some(slot) => slot.insert_esb(source, fault),
                None => FaultResult::SIGBUS,
            },
            Place::Queue => match self.queue_memory.as_ref() {
                Some(memory) => fault.insert(memory, fault.offset()),
                None => FaultResult::SIGBUS,
            },
        }
    }

    /// Checks a mapping that is about to be made: it must be part of a window, with the access that
    /// the window allows.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not.
    pub(crate) fn mmap(&self, area: &NewMapping<'_>) -> Result {
        let mmio_size = match self.context.afu() {
            Some(place) => place.metadata().mmio_size,
            None => 0,
        };

        match self.layout().area(area.offset(), area.len(), mmio_size) {
            Some(Area::Mmio) => area.require_not_executable(),
            Some(Area::Trigger) => area.require_write_only(),
            Some(Area::Esb) => area.require_writable(),
            Some(Area::Queue) => area.require_read_only(),
            None => Err(EINVAL),
        }
    }

    /// Returns which windows the file has.
    pub(crate) fn layout(&self) -> Layout {
        self.context.layout()
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn mapping(&self) -> &Arc<FileMapping> {
        &self.mapping
    }

    /// Locks the set-up of the queue. The context gets none but by the guard.
    pub(crate) fn setup(&self) -> MutexGuard<'_, Option<FirstQueue>> {
        self.setup.lock()
    }

    /// Lists slot `index`, see [`Self::show`].
    fn show_slot(index: usize, slot: &Slot, m: &SeqFile) {
        let offset = Window::TRIGGER.base() + index as u64 * Window::TRIGGER.stride();

        seq_print!(m, "uxive-irq:\toffset:{offset:x}");
        if let Some(lisn) = slot.generic_lisn() {
            seq_print!(m, " lisn:{lisn:x}");
        }
        if let Some(lisn) = slot.message_lisn() {
            seq_print!(m, " message:{lisn:x}");
        }
        match slot.route_state() {
            None | Some(RouteState::Live) => (),
            Some(RouteState::Masked) => seq_print!(m, " masked"),
            Some(RouteState::Bypass) => seq_print!(m, " bypass"),
            Some(RouteState::Guest) => seq_print!(m, " guest"),
        }
        seq_print!(m, "\n");
    }

    /// Lists the interrupts in `/proc/<pid>/fdinfo/<fd>`.
    pub(crate) fn show(&self, m: &SeqFile) {
        seq_print!(m, "uxive-context:\t{}\n", self.context.id());
        if let ContextKind::Range(slots) = self.context.kind() {
            seq_print!(m, "uxive-range:\t{slots}\n");
        }
        if let Some(place) = self.context.afu() {
            place.show(m);
        }

        let slots = self.context.slots();
        seq_print!(m, "uxive-irqs:\t{}\n", slots.counts().0);
        let queue_bytes = self.context.queue().map_or(0, |queue| queue.size().bytes());
        seq_print!(m, "uxive-queue-bytes:\t{queue_bytes}\n");
        if let Some(drain) = self.context.queue().and_then(|queue| queue.view().kernel) {
            seq_print!(m, "uxive-deferred:\t{}\n", drain.deferred);
        }
        // Not all at one moment: faults, of others too, wait for this.
        let _ = slots.for_each(0..slots.len(), |index, slot| {
            if let Some(slot) = slot {
                Self::show_slot(index, slot, m);
            }
            Ok(())
        });
        self.context.exports().show(m);
    }
}

#[pinned_drop]
impl PinnedDrop for ContextFile {
    fn drop(self: Pin<&mut Self>) {
        if let Some(place) = self.context.afu() {
            place.leave();
        }
        self.context.exports().end_all();
        self.device.registry().close(&self.context);
    }
}
