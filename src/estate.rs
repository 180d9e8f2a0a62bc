// SPDX-License-Identifier: GPL-2.0

//! What a context has: its slots and its event queue.
//!
//! Apart from the context, since it may have to stay when that is closed: what hardware does not let
//! go of is quarantined, and given back when it does. Whoever has an [`Estate`] can look at it and
//! quiesce it; only a [`Context`](crate::context::Context) can add to it.

use crate::{
    afu::AfuContext,
    events::{
        Event,
        EventLog, //
    },
    export::Exports,
    kernel_ext::{
        ratelimit::may_log,
        task::TaskName, //
    },
    layout::{
        Layout,
        Window,
        MAX_IRQS, //
    },
    queue::Queue,
    quota::Account,
    slot::{
        DyingSlot,
        Slot,
        SlotView, //
    },
    trace,
    xive::QuiesceError, //
};
use core::ops::Range;
use kernel::{
    bitmap::BitmapVec,
    current,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        MutexGuard,
        SetOnce, //
    },
    task::Kuid, //
};

/// Who opened a context, as that was then.
pub(crate) struct Opener {
    /// The process, as the initial namespace numbers it.
    pub(crate) pid: i32,
    pub(crate) uid: Kuid,
    pub(crate) name: TaskName,
}

impl Opener {
    /// Returns the caller.
    fn current() -> Self {
        Self {
            pid: current!().tgid(),
            uid: Kuid::current_euid(),
            name: TaskName::current(),
        }
    }
}

/// What is at an index of a context.
enum Entry {
    /// Nothing, or a slot that is being made or torn down.
    Empty,
    /// An interrupt that the program has.
    Live(Slot),
    /// One that it has had, and what does not come to rest.
    Quarantined(DyingSlot, QuiesceError),
}

/// The slots of a context.
struct SlotTable {
    /// The indices in use. One stays in use while its slot is being made or torn down, so that
    /// nobody gets an offset at which an old page may still be, and while it is quarantined.
    taken: BitmapVec,
    /// How many that are.
    used: usize,
    /// All indices below this are in use.
    first_free: usize,
    /// The slots by index; the table grows as far as it is used.
    entries: KVVec<Entry>,
    /// How many are quarantined.
    quarantined: usize,
}

/// How many entries the table grows by.
const GROWTH: usize = 64;

impl SlotTable {
    /// Takes the lowest free index into use, and makes sure that there is an entry for it.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if `limit` are in use, `ENOMEM` if there is no memory.
    #[inline(always)]
    fn reserve(&mut self, limit: usize) -> Result<usize> {
        if self.used >= limit {
            return Err(ENOSPC);
        }
        let index = self.next_free(self.first_free).ok_or(ENOSPC)?;

        if index >= self.entries.len() {
            grow(&mut self.entries, GROWTH)?;
        }
        self.taken.set_bit(index);
        self.used += 1;
        self.first_free = index + 1;
        Ok(index)
    }

    /// Takes `count` consecutive indices into use, from `start` on or else the lowest that are free, and
    /// makes sure that there are entries for them.
    ///
    /// # Errors
    ///
    /// As [`Self::reserve`], also if there are no such indices; `EINVAL` if there cannot be any at
    /// `start`, `EBUSY` if one of them is in use.
    fn reserve_range(
        &mut self,
        start: Option<usize>,
        count: usize,
        limit: usize,
    ) -> Result<Range<usize>> {
        let range = match start {
            Some(start) => {
                let end = start.checked_add(count).ok_or(EINVAL)?;
                if end > self.taken.len() {
                    return Err(EINVAL);
                }
                if self.free_from(start).len() < count {
                    return Err(EBUSY);
                }
                start..end
            }
            None => self.find_range(count).ok_or(ENOSPC)?,
        };
        if count > limit.saturating_sub(self.used) {
            return Err(ENOSPC);
        }

        let missing = range.end.saturating_sub(self.entries.len());
        grow(&mut self.entries, missing.next_multiple_of(GROWTH))?;
        for index in range.clone() {
            self.taken.set_bit(index);
        }
        self.used += count;
        Ok(range)
    }

    /// Returns the lowest free index from `start` on.
    // A bitmap panics if asked from its end on, where the kernel is built with
    // `CONFIG_RUST_BITMAP_HARDENED`.
    #[inline(always)]
    fn next_free(&self, start: usize) -> Option<usize> {
        match start < self.taken.len() {
            true => self.taken.next_zero_bit(start),
            false => None,
        }
    }

    /// Returns the indices from `start` on that are free without one in between that is in use.
    ///
    /// `start` is less than how many there can be.
    fn free_from(&self, start: usize) -> Range<usize> {
        start..self.taken.next_bit(start).unwrap_or(self.taken.len())
    }

    /// Returns the lowest `count` consecutive indices that are free.
    fn find_range(&self, count: usize) -> Option<Range<usize>> {
        let mut from = self.first_free;

        loop {
            let free = self.free_from(self.next_free(from)?);
            if free.len() >= count {
                return Some(free.start..free.start + count);
            }
            from = free.end;
        }
    }

    /// Gives an index back.
    #[inline(always)]
    fn release(&mut self, index: usize) {
        self.taken.clear_bit(index);
        self.used -= 1;
        self.first_free = self.first_free.min(index);
    }

    /// Returns the slot `index` if the program has it.
    fn live(&self, index: usize) -> Option<&Slot> {
        match self.entries.get(index)? {
            Entry::Live(slot) => Some(slot),
            _ => None,
        }
    }

    /// Takes out the entry of the slot `index` if the program has it.
    #[inline(always)]
    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(index)?;

        match entry {
            Entry::Live(_) => Some(core::mem::replace(entry, Entry::Empty)),
            _ => None,
        }
    }
}

/// Adds `count` empty entries.
///
/// # Errors
///
/// `ENOMEM` if there is no memory.
#[inline(never)]
fn grow(entries: &mut KVVec<Entry>, count: usize) -> Result {
    entries.reserve(count, GFP_KERNEL_ACCOUNT)?;
    for _ in 0..count {
        entries.push_within_capacity(Entry::Empty)?;
    }
    Ok(())
}

/// A slot that is in no table any more, and still has its index.
pub(crate) struct DetachedSlot<'a> {
    // As it was in the table, since each move of a slot counts in what freeing one costs.
    entry: Entry,
    reserved: ReservedIndex<'a>,
}

impl<'a> DetachedSlot<'a> {
    /// Takes a slot that was not entered.
    pub(crate) fn new(slot: Slot, reserved: ReservedIndex<'a>) -> Self {
        Self {
            entry: Entry::Live(slot),
            reserved,
        }
    }

    /// Returns the slot.
    pub(crate) fn slot(&self) -> Option<&Slot> {
        match &self.entry {
            Entry::Live(slot) => Some(slot),
            _ => None,
        }
    }

    /// Returns its index.
    pub(crate) fn index(&self) -> usize {
        self.reserved.index
    }

    /// Enters the slot, which others do not know yet. Does not fail: see [`ReservedIndex::fill`].
    pub(crate) fn enter(self) {
        let estate = self.reserved.estate;

        self.enter_in(&mut estate.slots.lock());
    }

    /// As [`Self::enter`], in the table of its estate.
    fn enter_in(self, table: &mut SlotTable) {
        let Self { entry, reserved } = self;

        if let Some(place) = table.entries.get_mut(reserved.index) {
            *place = entry;
        }
        // The index belongs to the entry from now on.
        core::mem::forget(reserved);
    }
}

/// What a context has.
///
/// # Locks
///
/// See `context.rs`.
#[pin_data]
pub(crate) struct Estate {
    id: u64,
    kind: ContextKind,
    layout: Layout,
    opener: Opener,
    /// What all that follows is charged to.
    account: Arc<Account>,
    /// Where the events of the slots go. Comes with the first of them.
    queue: SetOnce<Arc<Queue>>,
    #[pin]
    slots: Mutex<SlotTable>,
    /// What there is to tell the program.
    #[pin]
    events: EventLog,
    /// By which others ring it.
    #[pin]
    exports: Exports,
    /// Its place in an AFU. Given back last.
    afu: Option<AfuContext>,
}

/// What has an estate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextKind {
    /// An open file of a device.
    Open,
    /// A range, of so many slots.
    Range(usize),
}

impl Estate {
    /// Makes that of a context which has nothing yet and which the caller has just opened.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(
        id: u64,
        kind: ContextKind,
        account: Arc<Account>,
        afu: Option<AfuContext>,
    ) -> Result<Arc<Self>> {
        let layout = Layout::new(match kind {
            ContextKind::Open => MAX_IRQS,
            ContextKind::Range(slots) => slots,
        });
        let table = SlotTable {
            taken: BitmapVec::new(layout.slots(), GFP_KERNEL_ACCOUNT)?,
            used: 0,
            first_free: 0,
            entries: KVVec::new(),
            quarantined: 0,
        };

        Arc::pin_init(
            try_pin_init!(Self {
                id,
                kind,
                layout,
                opener: Opener::current(),
                account,
                queue: SetOnce::new(),
                slots <- new_mutex!(table, "uxive_slots"),
                events <- EventLog::new(),
                exports <- Exports::new(),
                afu,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the number of the context. No other has had it since the driver was loaded.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns what kind of context it is.
    pub(crate) fn kind(&self) -> ContextKind {
        self.kind
    }

    /// Returns which windows the file has.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns who opened the context.
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Returns what the context is charged to.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Returns what there is to tell the program.
    pub(crate) fn events(&self) -> &EventLog {
        &self.events
    }

    /// Returns the files by which others ring it.
    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Returns its place in an AFU, if it is a context of one.
    #[inline]
    pub(crate) fn afu(&self) -> Option<&AfuContext> {
        self.afu.as_ref()
    }

    /// Returns whether there is no AFU any more, of which this was a context's.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        match self.afu() {
            None => false,
            Some(place) => place.is_gone(),
        }
    }

    /// Returns the event queue, if there is one yet.
    #[inline]
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        self.queue.as_ref()
    }

    /// Enters the event queue. There must be none.
    pub(crate) fn set_queue(&self, queue: Arc<Queue>) {
        self.queue.populate(queue);
    }

    /// Returns how many interrupts the context may have at present.
    #[inline(always)]
    pub(crate) fn max_irqs(&self) -> usize {
        let limit = self.account.quota().max_irqs_per_context();

        match (self.kind, &self.afu) {
            (ContextKind::Open, None) => limit,
            // The queue has room for two sources of each.
            (ContextKind::Open, Some(_)) => limit.min(MAX_IRQS / 2),
            (ContextKind::Range(slots), _) => slots,
        }
    }

    /// Takes the lowest free index into use.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the context has as many as it may, `ENOMEM` if there is no memory.
    #[inline(always)]
    pub(crate) fn reserve(&self) -> Result<ReservedIndex<'_>> {
        let index = self.slots.lock().reserve(self.max_irqs())?;

        Ok(ReservedIndex {
            estate: self,
            index,
        })
    }

    /// Takes `count` consecutive indices into use, from `start` on or else the lowest that are free.
    ///
    /// # Errors
    ///
    /// As [`Self::reserve`], also if no so many indices on end are free; `EINVAL` if there cannot be any
    /// at `start`, `EBUSY` if one of them is in use.
    pub(crate) fn reserve_range(
        &self,
        start: Option<usize>,
        count: usize,
    ) -> Result<ReservedRange<'_>> {
        let limit = self.max_irqs();
        let range = self.slots.lock().reserve_range(start, count, limit)?;

        Ok(ReservedRange {
            estate: self,
            range,
        })
    }

    /// Enters slots of `self`, as [`DetachedSlot::enter`] does.
    pub(crate) fn enter(&self, mut slots: KVVec<DetachedSlot<'_>>) {
        let table = &mut *self.slots.lock();

        for slot in slots.drain_all() {
            slot.enter_in(table);
        }
    }

    /// Takes the slots in `range` out of the table, to be [retired](Self::retire_many).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the program does not have all of them, `ENOMEM` if there is no memory: none is taken.
    pub(crate) fn take_range(&self, range: Range<usize>) -> Result<KVVec<DetachedSlot<'_>>> {
        // No memory for what there cannot be.
        if range.end > self.slots.lock().entries.len() {
            return Err(EINVAL);
        }
        let mut taken = KVVec::with_capacity(range.len(), GFP_KERNEL_ACCOUNT)?;
        let slots = &mut *self.slots.lock();

        if range.clone().any(|index| slots.live(index).is_none()) {
            return Err(EINVAL);
        }
        self.take_from(slots, range, &mut taken)?;
        Ok(taken)
    }

    /// As [`Self::take_range`], of all slots that the program has.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory: none is taken.
    pub(crate) fn take_all(&self) -> Result<KVVec<DetachedSlot<'_>>> {
        let slots = &mut *self.slots.lock();
        let all = 0..slots.entries.len();
        let live = all.clone().filter(|&index| slots.live(index).is_some());
        let mut taken = KVVec::with_capacity(live.count(), GFP_KERNEL_ACCOUNT)?;

        self.take_from(slots, all, &mut taken)?;
        Ok(taken)
    }

    /// Moves the slots in `range` that the program has from `slots`, which are those of `self`, to
    /// `taken`, which has room for them.
    fn take_from<'a>(
        &'a self,
        slots: &mut SlotTable,
        range: Range<usize>,
        taken: &mut KVVec<DetachedSlot<'a>>,
    ) -> Result {
        for index in range {
            if let Some(entry) = slots.take(index) {
                let reserved = ReservedIndex {
                    estate: self,
                    index,
                };
                taken.push_within_capacity(DetachedSlot { entry, reserved })?;
            }
        }
        Ok(())
    }

    /// Takes the slot `index` out of the table if the program has it, to be [retired](Self::retire).
    #[inline(always)]
    pub(crate) fn take(&self, index: usize) -> Option<DetachedSlot<'_>> {
        let entry = self.slots.lock().take(index)?;
        let reserved = ReservedIndex {
            estate: self,
            index,
        };

        Some(DetachedSlot { entry, reserved })
    }

    /// Gives back a slot, and its index; or quarantines them. May sleep.
    ///
    /// When this returns, no mapping reaches its pages, and its eventfd is not signalled.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if they are quarantined: [`Self::retry`] is to be called later.
    #[inline(always)]
    pub(crate) fn retire(&self, mut taken: DetachedSlot<'_>) -> Result<(), QuiesceError> {
        let Entry::Live(slot) = &mut taken.entry else {
            return Ok(());
        };

        trace::free(self.id, taken.reserved.index, slot.lisn());
        // Dropped with its index, which goes last.
        match slot.give_back() {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.quarantine(taken, reason);
                Err(reason)
            }
        }
    }

    /// As [`Self::retire`], of many at once. They are slots of `self`.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if one is quarantined.
    pub(crate) fn retire_many(
        &self,
        mut taken: KVVec<DetachedSlot<'_>>,
    ) -> Result<(), QuiesceError> {
        let mut result = Ok(());

        Slot::withdraw_many(taken.iter_mut().filter_map(|taken| match &mut taken.entry {
            Entry::Live(slot) => Some(slot),
            _ => None,
        }));
        for slot in taken.drain_all() {
            result = self.retire(slot).and(result);
        }
        result
    }

    /// Keeps a slot that does not come to rest, and says so.
    #[cold]
    #[inline(never)]
    fn quarantine(&self, taken: DetachedSlot<'_>, reason: QuiesceError) {
        let DetachedSlot { entry, reserved } = taken;
        let Entry::Live(slot) = entry else {
            return;
        };
        let offset = Window::TRIGGER.offset(reserved.index).unwrap_or(0);

        self.log(reason, Some(slot.lisn()));
        trace::quarantine(self.id, reserved.index, slot.lisn(), reason as u32);
        reserved.quarantine(slot.retire(), reason);
        self.events.report(Event::Quarantined { offset, reason });
    }

    /// Returns the slots that the program has. No other comes or goes as long as this is held.
    pub(crate) fn lock(&self) -> LiveSlots<'_> {
        LiveSlots(self.slots.lock())
    }

    /// Returns how many interrupts the program has, and how many slots are quarantined.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let slots = self.lock();

        (slots.iter().count(), slots.0.quarantined)
    }

    /// Tells how a slot stands, the first from `index` on that there is, or only that is quarantined,
    /// its index, and what does not come to rest if it is.
    pub(crate) fn next_slot(
        &self,
        index: usize,
        quarantined: bool,
    ) -> Option<(usize, SlotView, Option<QuiesceError>)> {
        let slots = self.slots.lock();
        let mut entries = slots.entries.iter().enumerate().skip(index);

        entries.find_map(|(index, entry)| match entry {
            Entry::Live(slot) if !quarantined => Some((index, slot.view(), None)),
            Entry::Quarantined(slot, reason) => Some((index, slot.view(), Some(*reason))),
            _ => None,
        })
    }

    /// Tries once more to give back the slots that are quarantined.
    pub(crate) fn retry(&self) {
        if self.is_quiet() {
            return;
        }
        let mut index = 0;

        loop {
            let quiesced = {
                let slots = &mut *self.slots.lock();
                let Some(entry) = slots.entries.get_mut(index) else {
                    return;
                };

                match entry {
                    Entry::Quarantined(slot, reason) => match slot.quiesce() {
                        Ok(()) => {
                            slots.quarantined -= 1;
                            trace::quarantine_end(self.id, index, slot.lisn());
                            Some(core::mem::replace(entry, Entry::Empty))
                        }
                        Err(now) => {
                            *reason = now;
                            None
                        }
                    },
                    _ => None,
                }
            };

            // The source goes back with none of our locks held, and its index after it.
            if let Some(slot) = quiesced {
                let offset = Window::TRIGGER.offset(index).unwrap_or(0);

                drop(slot);
                self.slots.lock().release(index);
                self.events.report(Event::Released { offset });
            }
            index += 1;
        }
    }

    /// Retires all slots that the program has.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] if one is quarantined.
    pub(crate) fn retire_all(&self) -> Result<(), QuiesceError> {
        let count = self.slots.lock().entries.len();
        let mut result = Ok(());

        for slot in (0..count).filter_map(|index| self.take(index)) {
            result = self.retire(slot).and(result);
        }
        result
    }

    /// Withdraws the pages of all slots, which are kept and signal nothing any more.
    fn withdraw_all(&self) {
        let count = self.slots.lock().entries.len();

        for index in 0..count {
            let Some(DetachedSlot {
                entry: Entry::Live(mut slot),
                reserved,
            }) = self.take(index)
            else {
                continue;
            };

            slot.withdraw();
            if let Some(queue) = self.queue() {
                // There is nothing to unbind if the program has drained the queue.
                drop(queue.bind(index, None));
            }
            reserved.fill(|| slot);
        }
    }

    /// Returns whether no slot is quarantined.
    pub(crate) fn is_quiet(&self) -> bool {
        self.slots.lock().quarantined == 0
    }

    /// Takes all that there is from the program, whose context is closed, and brings it to rest, so
    /// that it can be dropped. An AFU that is yet to let go of it, and an escalation that is on its
    /// way, are each given `tries` milliseconds. May sleep.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`]: this is to be called again later.
    pub(crate) fn quiesce(&self, tries: usize) -> Result<(), QuiesceError> {
        // Until it does it may ring what it was given: nothing of that may be another's.
        if let Some(Err(reason)) = self.afu.as_ref().map(|afu| afu.detach(tries)) {
            self.withdraw_all();
            return Err(reason);
        }
        // No new one comes, since the context is closed. One may have been quarantined before.
        let _ = self.retire_all();
        if !self.is_quiet() {
            return Err(QuiesceError::Source);
        }
        match self.queue() {
            Some(queue) => queue.quiesce(tries),
            None => Ok(()),
        }
    }

    /// Says that the context is closed and quarantined, if no slot has said so already.
    pub(crate) fn log_quarantine(&self, reason: QuiesceError) {
        trace::context_quarantine(self.id, reason as u32);
        if matches!(reason, QuiesceError::Escalation | QuiesceError::Afu) {
            self.log(reason, None);
        }
    }

    /// Says that something is quarantined: the interrupt `lisn`, the event queue, or all.
    fn log(&self, reason: QuiesceError, lisn: Option<u32>) {
        if !may_log() {
            return;
        }
        let Self { id, opener, .. } = self;
        let Opener { pid, name, .. } = opener;
        match lisn {
            Some(lisn) => pr_warn!(
                "context {id} (pid {pid}, {name}): interrupt {lisn:#x} is quarantined: {reason}\n"
            ),
            None if reason == QuiesceError::Afu => pr_warn!(
                "context {id} (pid {pid}, {name}): it is quarantined with all it has: {reason}\n"
            ),
            None => pr_warn!(
                "context {id} (pid {pid}, {name}): its event queue is quarantined: {reason}\n"
            ),
        }
    }
}

/// The slots that a program has, while none comes or goes.
pub(crate) struct LiveSlots<'a>(MutexGuard<'a, SlotTable>);

impl LiveSlots<'_> {
    /// Returns the slot `index`, if the program has it.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&Slot> {
        self.0.live(index)
    }

    /// Makes sure that the program has all slots in `range`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it does not.
    pub(crate) fn require(&self, mut range: Range<usize>) -> Result {
        match range.all(|index| self.get(index).is_some()) {
            true => Ok(()),
            false => Err(EINVAL),
        }
    }

    /// Returns the slots that came in one call with slot `index`, as far as they are still there.
    #[inline]
    pub(crate) fn joined(&self, index: usize) -> Range<usize> {
        let is_joined = |index| self.get(index).is_some_and(Slot::is_joined);
        let mut range = index..index + 1;

        while range.start > 0 && is_joined(range.start) {
            range.start -= 1;
        }
        while is_joined(range.end) {
            range.end += 1;
        }
        range
    }

    /// Returns all of them, with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        (0..self.0.entries.len()).filter_map(|index| Some((index, self.get(index)?)))
    }
}

/// Consecutive indices in use that have no slots. Given back when dropped.
pub(crate) struct ReservedRange<'a> {
    estate: &'a Estate,
    range: Range<usize>,
}

impl ReservedRange<'_> {
    /// Returns the first one.
    pub(crate) fn start(&self) -> usize {
        self.range.start
    }
}

impl<'a> Iterator for ReservedRange<'a> {
    type Item = ReservedIndex<'a>;

    /// Takes out the first one.
    fn next(&mut self) -> Option<ReservedIndex<'a>> {
        Some(ReservedIndex {
            estate: self.estate,
            index: self.range.next()?,
        })
    }
}

impl Drop for ReservedRange<'_> {
    fn drop(&mut self) {
        if self.range.is_empty() {
            return;
        }
        let slots = &mut *self.estate.slots.lock();

        for index in self.range.clone() {
            slots.release(index);
        }
    }
}

/// An index in use that has no slot. Given back when dropped.
pub(crate) struct ReservedIndex<'a> {
    estate: &'a Estate,
    index: usize,
}

impl ReservedIndex<'_> {
    /// Returns the index.
    pub(crate) fn get(&self) -> usize {
        self.index
    }

    /// Enters the slot that `slot` makes. Does not fail: `reserve` has made the entry.
    // Made in its place, for it takes as much to copy it.
    #[inline(always)]
    pub(crate) fn fill(self, slot: impl FnOnce() -> Slot) {
        if let Some(entry) = self.estate.slots.lock().entries.get_mut(self.index) {
            // There is none to drop, and looking for that would copy the new one.
            core::mem::forget(core::mem::replace(entry, Entry::Live(slot())));
        }
        // The index belongs to the entry from now on.
        core::mem::forget(self);
    }

    /// Enters a slot that does not come to rest.
    fn quarantine(self, slot: DyingSlot, reason: QuiesceError) {
        let slots = &mut *self.estate.slots.lock();

        if let Some(entry) = slots.entries.get_mut(self.index) {
            *entry = Entry::Quarantined(slot, reason);
            slots.quarantined += 1;
        }
        core::mem::forget(self);
    }
}

impl Drop for ReservedIndex<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.estate.slots.lock().release(self.index);
    }
}
