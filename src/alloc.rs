// SPDX-License-Identifier: GPL-2.0

//! Making interrupts, and freeing them.
//!
//! There is one way to make interrupts, for one, for many, and for one of a message only: indices
//! are reserved; the interrupts are made, which nobody else knows yet; the caller's `tell` tells the
//! program of them; and they are committed if that succeeded, or else given back.
//!
//! `tell` is called in between, and gets the index. To hand the caller an interrupt that it commits
//! would move all parts of it twice more, which takes as long as making the slot of them.

use crate::{
    afu::ImsEntry,
    file::{
        ContextFile,
        FirstQueue, //
    },
    kernel_ext::{
        eventfd::EventFd, //
    },
    layout::Window,
    limits::IrqCharge,
    queue::Queue,
    slot::{
        DetachedSlot,
        MessageSlot,
        Slot,
        SlotReservation, //
    },
    trace,
    xive::{
        Location,
        Source, //
    }, //
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The queue with which a call makes interrupts.
enum QueueForSlots<'a> {
    /// The queue that the context has.
    Present(&'a Arc<Queue>),
    /// A queue that it will have if the call succeeds.
    First(FirstUse<'a>),
}

impl QueueForSlots<'_> {
    /// The call has succeeded: the context has the queue from now on.
    #[inline]
    fn commit(&self) {
        if let Self::First(first) = self {
            first.commit();
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
    file: &'a ContextFile,
    queue: Arc<Queue>,
}

impl FirstUse<'_> {
    /// See [`QueueForSlots::commit`].
    #[cold]
    fn commit(&self) {
        let mut setup = self.file.setup();
        let context = self.file.context();

        if context.queue().is_none() {
            context.set_queue(self.queue.clone());
        }
        *setup = None;
    }
}

impl Drop for FirstUse<'_> {
    fn drop(&mut self) {
        let context = self.file.context();
        let mut setup = self.file.setup();
        let Some(first) = &mut *setup else {
            return;
        };

        first.users -= 1;
        if first.users > 0 {
            return;
        }
        // If hardware is not quiet, the context keeps the queue for later interrupts.
        if !context.slots().is_quiet() || self.queue.quiesce(0).is_err() {
            context.set_queue(self.queue.clone());
        }
        *setup = None;
    }
}

/// Interrupts of consecutive slots that the program was not told of yet. When dropped they are given back.
struct NewIrqs<'a> {
    file: &'a ContextFile,
    made: KVVec<DetachedSlot<'a>>,
    // Dropped last.
    queue: QueueForSlots<'a>,
}

impl NewIrqs<'_> {
    /// Gives them to the program if `tell` tells it of the first index; otherwise gives them back.
    ///
    /// # Errors
    ///
    /// That of `tell`.
    fn commit(mut self, tell: impl FnOnce(usize) -> Result) -> Result {
        let context = self.file.context();

        tell(self.made.first().map_or(0, DetachedSlot::index))?;
        self.queue.commit();
        for made in &self.made {
            let offset = Window::TRIGGER.offset(made.index()).unwrap_or(0);

            trace::alloc(
                context.id(),
                made.index(),
                made.slot().map_or(0, Slot::lisn),
                offset,
            );
        }
        context.slots().enter(core::mem::take(&mut self.made));
        Ok(())
    }
}

impl Drop for NewIrqs<'_> {
    fn drop(&mut self) {
        let made = core::mem::take(&mut self.made);

        if !made.is_empty() {
            retire_many(self.file, made);
        }
    }
}

/// The parts of an interrupt, once the queue has it. Its sources are charged to the queue's user until
/// the slot that is made of them goes.
struct Made<'a> {
    source: Option<Source>,
    message: Option<KBox<MessageSlot>>,
    // Dropped last.
    reservation: SlotReservation<'a>,
}

impl<'a> Made<'a> {
    /// Takes a source at `location` for an index that is reserved, and the message of the index if the AFU
    /// has one, whose events `queue` takes. `charge` is for the source.
    ///
    /// # Errors
    ///
    /// Those of [`IrqCharge::add_one`], [`Source::new`], [`Queue::attach`], [`message`] and [`open`].
    #[inline(always)]
    fn new(
        file: &ContextFile,
        queue: &Arc<Queue>,
        location: Location,
        mut charge: IrqCharge<'a>,
        reservation: SlotReservation<'a>,
    ) -> Result<Self> {
        let index = reservation.index();
        let message = match entry(file, index) {
            None => None,
            Some(entry) => {
                charge.add_one()?;
                Some(message(file, entry, queue, index)?)
            }
        };
        let source = Source::new(&file.device().platform, location)
            .map_err(|refusal| file.refused(refusal))?;
        queue.attach(index, &source)?;

        let made = Self {
            source: Some(source),
            message,
            reservation,
        };
        charge.forget();
        if let Some(message) = &made.message {
            if let Err(error) = open(file, queue, index, message, 0, None) {
                made.undo(file, queue);
                return Err(error);
            }
        }
        Ok(made)
    }

    /// As [`Self::new`], of a message only, which the AFU sends for work of `queue_id` and which is
    /// bound to `eventfd`.
    fn of_message(
        file: &ContextFile,
        queue: &Arc<Queue>,
        queue_id: u32,
        eventfd: Option<EventFd>,
        charge: IrqCharge<'a>,
        reservation: SlotReservation<'a>,
    ) -> Result<Self> {
        let index = reservation.index();
        let message = message(file, entry(file, index).ok_or(ENOSPC)?, queue, index)?;

        charge.forget();
        let opened = open(file, queue, index, &message, queue_id, eventfd);
        let made = Self {
            source: None,
            message: Some(message),
            reservation,
        };
        match opened {
            Ok(()) => Ok(made),
            Err(error) => {
                made.undo(file, queue);
                Err(error)
            }
        }
    }

    /// Returns the LISN of the source that is rung by a store, or else of the message.
    fn lisn(&self) -> u32 {
        match (&self.source, &self.message) {
            (Some(source), _) => source.lisn(),
            (None, Some(message)) => message.source().lisn(),
            (None, None) => 0,
        }
    }

    /// Makes the slot.
    fn into_slot(self, file: &ContextFile, queue: &Arc<Queue>) -> DetachedSlot<'a> {
        let Self {
            source,
            message,
            reservation,
        } = self;
        let index = reservation.index();
        let slot = Slot::new(
            source,
            message,
            queue.clone(),
            index,
            file.mapping().clone(),
        );

        DetachedSlot::new(slot, reservation)
    }

    /// Gives the interrupt to the program if `tell` tells it of the index; otherwise gives it back.
    ///
    /// # Errors
    ///
    /// That of `tell`.
    // The slot is made in its place in the table.
    #[inline(always)]
    fn commit(
        self,
        file: &ContextFile,
        queue: &QueueForSlots<'_>,
        tell: impl FnOnce(usize) -> Result,
    ) -> Result {
        let index = self.reservation.index();

        if let Err(error) = tell(index) {
            self.undo(file, queue);
            return Err(error);
        }
        queue.commit();
        trace::alloc(
            file.context().id(),
            index,
            self.lisn(),
            Window::TRIGGER.offset(index).unwrap_or(0),
        );
        let Self {
            source,
            message,
            reservation,
        } = self;

        reservation.fill(|| {
            Slot::new(
                source,
                message,
                Arc::clone(queue),
                index,
                file.mapping().clone(),
            )
        });
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn undo(self, file: &ContextFile, queue: &Arc<Queue>) {
        retire(file, self.into_slot(file, queue));
    }
}

/// Returns the entry of the AFU's message store for slot `index`, if it has one.
#[inline]
fn entry(file: &ContextFile, index: usize) -> Option<ImsEntry> {
    file.context().afu()?.entry(index)
}

/// Makes the message of slot `index`, to be sent from `entry`.
///
/// # Errors
///
/// Those of [`Source::of_message`] and [`MessageSlot::new`].
#[cold]
#[inline(never)]
fn message(
    file: &ContextFile,
    entry: ImsEntry,
    queue: &Arc<Queue>,
    index: usize,
) -> Result<KBox<MessageSlot>> {
    let source = Source::of_message(&file.device().platform, entry.messages())
        .map_err(|refusal| file.refused(refusal))?;

    MessageSlot::new(source, entry, queue, index, file.mapping().clone())
}

/// Attaches `message` of slot `index` to `queue`, binds the index to `eventfd` if there is one, and lets
/// the AFU send the message for work of `queue_id`.
///
/// # Errors
///
/// Those of [`Queue::attach_message`], [`Queue::bind`] and [`MessageSlot::open`].
#[cold]
#[inline(never)]
fn open(
    file: &ContextFile,
    queue: &Queue,
    index: usize,
    message: &MessageSlot,
    queue_id: u32,
    eventfd: Option<EventFd>,
) -> Result {
    let rate = file.context().afu().ok_or(ENOTTY)?.message_rate();

    queue.attach_message(index, message.source(), rate)?;
    bind(queue, index, eventfd)?;
    message.open(queue_id)
}

/// Binds slot `index`, which was just made, to `eventfd` if there is one.
///
/// # Errors
///
/// Those of [`Queue::bind`].
fn bind(queue: &Queue, index: usize, eventfd: Option<EventFd>) -> Result {
    match eventfd {
        None => Ok(()),
        // This replaces one that another thread of the program may have bound meanwhile.
        mut eventfd => queue.bind(index, &mut eventfd),
    }
}

/// Makes an interrupt at `location`. In a context of an AFU it comes with the message of its slot, as
/// far as the AFU has such.
///
/// # Errors
///
/// - `ENOSPC`: the context has no more, or there are no more at `location`.
/// - `EDQUOT`: the user has no more interrupts or, for the first one, event queues or memory for them.
/// - `ENFILE`: all together have no more of either.
/// - `ENOMEM`, `EIO`, `ENXIO`: see [`Source::new`], [`Queue::attach`] and, for the first interrupt,
///   [`Queue::new`].
/// - That of `tell`: the interrupt is given back.
#[inline(always)]
pub(crate) fn allocate(
    file: &ContextFile,
    location: Location,
    tell: impl FnOnce(usize) -> Result,
) -> Result {
    make(file, location, tell).inspect_err(|&error| trace::alloc_failed(file.context().id(), error))
}

/// As [`allocate`], which traces its failures.
#[inline(always)]
fn make(file: &ContextFile, location: Location, tell: impl FnOnce(usize) -> Result) -> Result {
    let (queue, charge, reservation) = reserve(file)?;

    Made::new(file, &queue, location, charge, reservation)?.commit(file, &queue, tell)
}

/// Makes an interrupt that is a message only, which the AFU sends for work of `queue_id`, and binds it
/// to `eventfd`.
///
/// # Errors
///
/// - `ENOTTY` if this is no context of an AFU.
/// - `ENOSPC`: the context, the AFU or the host bridge has no more.
/// - Otherwise as [`allocate`], `EINVAL` for an eventfd of a program that drains by itself.
pub(crate) fn allocate_message(
    file: &ContextFile,
    queue_id: u32,
    eventfd: Option<EventFd>,
    tell: impl FnOnce(usize) -> Result,
) -> Result {
    make_message(file, queue_id, eventfd, tell)
        .inspect_err(|&error| trace::alloc_failed(file.context().id(), error))
}

/// As [`allocate_message`], which traces its failures.
fn make_message(
    file: &ContextFile,
    queue_id: u32,
    eventfd: Option<EventFd>,
    tell: impl FnOnce(usize) -> Result,
) -> Result {
    if !file.has_afu() {
        return Err(ENOTTY);
    }
    let (queue, charge, reservation) = reserve(file)?;

    Made::of_message(file, &queue, queue_id, eventfd, charge, reservation)?
        .commit(file, &queue, tell)
}

/// Takes the queue, a charge and an index for an interrupt that will be made.
#[inline(always)]
fn reserve(file: &ContextFile) -> Result<(QueueForSlots<'_>, IrqCharge<'_>, SlotReservation<'_>)> {
    let (queue, context) = (queue_for_slots(file)?, file.context());
    let reservation = context.slots().reserve(context.max_irqs())?;

    Ok((queue, context.user().charge_irqs(1)?, reservation))
}

/// Makes `count` interrupts of consecutive slots at `location`: from the slot `start` on, or else the
/// lowest that are free. They are bound to `eventfds`, as far as there are any. All or nothing.
///
/// # Errors
///
/// - `EBUSY`: a slot from `start` on is in use.
/// - `EINVAL`: there can be no such slots, or there are eventfds and the program drains by itself.
/// - Otherwise as [`allocate`], `ENOSPC` also if fewer consecutive slots are free.
pub(crate) fn allocate_many(
    file: &ContextFile,
    location: Location,
    start: Option<usize>,
    count: usize,
    eventfds: KVVec<Option<EventFd>>,
    tell: impl FnOnce(usize) -> Result,
) -> Result {
    make_many(file, location, start, count, eventfds)
        .and_then(|irqs| irqs.commit(tell))
        .inspect_err(|&error| trace::alloc_failed(file.context().id(), error))
}

/// Makes those of [`allocate_many`].
fn make_many(
    file: &ContextFile,
    location: Location,
    start: Option<usize>,
    count: usize,
    mut eventfds: KVVec<Option<EventFd>>,
) -> Result<NewIrqs<'_>> {
    let queue = queue_for_slots(file)?;
    let (slots, limit) = (file.context().slots(), file.context().max_irqs());
    let reservations = slots.reserve_range(start, count, limit)?;
    let mut irqs = NewIrqs {
        file,
        made: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?,
        queue,
    };
    let mut eventfds = eventfds.drain_all();
    let mut charge = file.context().user().charge_irqs(count)?;

    for reservation in reservations {
        let charge = charge.take_one()?;
        let made = Made::new(file, &irqs.queue, location, charge, reservation)?;
        let mut slot = made.into_slot(file, &irqs.queue);
        let index = slot.index();
        match slot.slot_mut() {
            Some(slot) if !irqs.made.is_empty() => slot.join(),
            _ => (),
        }
        irqs.made.push_within_capacity(slot)?;
        bind(&irqs.queue, index, eventfds.next().flatten())?;
    }
    Ok(irqs)
}

/// Returns the queue for slots that will be made. The first ones set it up.
///
/// # Errors
///
/// Those of [`UserCharge::charge_queue`](crate::limits::UserCharge::charge_queue) and [`Queue::new`].
#[inline]
fn queue_for_slots(file: &ContextFile) -> Result<QueueForSlots<'_>> {
    match file.context().queue() {
        Some(queue) => Ok(QueueForSlots::Present(queue)),
        None => first_queue(file),
    }
}

/// As [`queue_for_slots`], if there was none.
#[cold]
#[inline(never)]
fn first_queue(file: &ContextFile) -> Result<QueueForSlots<'_>> {
    let (context, device) = (file.context(), file.device());
    let setup = &mut *file.setup();
    if let Some(queue) = context.queue() {
        return Ok(QueueForSlots::Present(queue));
    }
    let queue = match setup {
        Some(first) => {
            first.users += 1;
            first.queue.clone()
        }
        None => {
            let size = file.layout().queue_size();
            let queue = Queue::new(
                &device.platform,
                &device.queues,
                context.id(),
                size,
                context.user().charge_queue(size)?,
                context.events().clone(),
            )
            .map_err(|refusal| file.refused(refusal))?;
            let first = FirstQueue {
                queue: queue.clone(),
                users: 1,
            };
            *setup = Some(first);
            queue
        }
    };

    Ok(QueueForSlots::First(FirstUse { file, queue }))
}

/// Gives back a slot: now, or later when it has gone quiet.
#[inline(always)]
fn retire(file: &ContextFile, slot: DetachedSlot<'_>) {
    if file.context().retire(slot).is_err() {
        file.device().registry().retry_later();
    }
}

/// As [`retire`], of many at once.
fn retire_many(file: &ContextFile, slots: KVVec<DetachedSlot<'_>>) {
    if file.context().retire_many(slots).is_err() {
        file.device().registry().retry_later();
    }
}

/// Frees the interrupt at `offset`. May sleep.
///
/// When this returns, no mapping reaches its trigger page and its eventfd is not signalled. If
/// it fails to quiesce, it is quarantined, which the program need not care about.
///
/// # Errors
///
/// `EINVAL` if there is none.
pub(crate) fn free(file: &ContextFile, offset: u64) -> Result {
    let index = Window::TRIGGER.index(offset).ok_or(EINVAL)?;
    let slot = file.context().slots().take(index).ok_or(EINVAL)?;

    retire(file, slot);
    Ok(())
}

/// Frees the interrupts of the slots in `range`, as [`free`] does, or none.
///
/// # Errors
///
/// `EINVAL` if one of them does not exist, `ENOMEM` if there is no memory.
pub(crate) fn free_many(file: &ContextFile, range: Range<usize>) -> Result {
    retire_many(file, file.context().slots().take_range(range)?);
    Ok(())
}

/// Frees all interrupts, as [`free`] does, some at a time.
pub(crate) fn free_all(file: &ContextFile) {
    let context = file.context();
    let slots = context.slots();
    let (mut from, mut result) = (0, Ok(()));

    while from < slots.len() {
        let Ok((some, end)) = slots.take_some(from) else {
            // This does not fail for want of memory.
            result = context.retire_all().and(result);
            break;
        };
        result = context.retire_many(some).and(result);
        from = end;
    }
    if result.is_err() {
        file.device().registry().retry_later();
    }
}
