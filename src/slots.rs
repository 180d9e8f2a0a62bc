// SPDX-License-Identifier: GPL-2.0

//! The slot table of a context: which indices are in use, and what is at each.
//!
//! An index is in use from its reservation until that is dropped. In between a slot may be entered at
//! it, which is live until it is taken out, or quarantined. An index stays in use while its slot is being
//! made or torn down, so that no new slot gets an offset at which an old page may still be mapped.
//!
//! Knows nothing of what a slot is: `L` is one that is live, `Q` one that is quarantined.
//!
//! The table has a lock, which faults of other programs need, too. So it is held for some slots at a
//! time only, however many there are: [`PIECE`], or as many as there is time for.

use crate::{
    indices::Indices,
    kernel_ext::{
        chunks::{
            Chunks,
            Room,
            CHUNK, //
        },
        clock::TimeSlice, //
    }, //
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Mutex,
        MutexGuard, //
    }, //
};

/// How many slots are moved with the lock held.
const PIECE: usize = 256;

/// How many slots are looked at with the lock held.
const LOOK: usize = 8 * PIECE;

/// How long the lock is held for other work on many slots, in microseconds.
const SLICE_US: u32 = 100;

/// Returns the parts of `range`, of `size` indices each.
fn pieces(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = range;

    (start..end)
        .step_by(size)
        .map(move |start| start..start.saturating_add(size).min(end))
}

/// The entry of an index.
#[derive(Default)]
enum Entry<L, Q> {
    /// Nothing, or a slot that is being made or torn down.
    #[default]
    Empty,
    /// A slot that the program has.
    Live(L),
    /// A slot that failed to quiesce when it was freed.
    Quarantined(Q),
}

struct Table<L, Q> {
    /// The indices in use.
    taken: Indices,
    /// How many indices are in use.
    used: usize,
    /// All indices below this are in use.
    first_free: usize,
    /// The slots by index; the table grows as far as it is used.
    entries: Chunks<Entry<L, Q>>,
    /// How many are live.
    live: usize,
    /// How many are quarantined, with one that is being [tried](Slots::try_quarantined).
    quarantined: usize,
}

impl<L, Q> Table<L, Q> {
    /// Makes one of `count` indices, all of which are free.
    const fn new(count: usize) -> Self {
        Self {
            taken: Indices::new(count),
            used: 0,
            first_free: 0,
            entries: Chunks::new(),
            live: 0,
            quarantined: 0,
        }
    }

    /// Takes the lowest free index into use, and makes sure that there is an entry for it.
    #[inline(always)]
    fn reserve(&mut self, limit: usize) -> Result<usize> {
        if self.used >= limit {
            return Err(ENOSPC);
        }
        let index = self.taken.next_free(self.first_free).ok_or(ENOSPC)?;

        if self.entries.get(index).is_none() {
            self.grow(index)?;
        }
        self.taken.take_one(index)?;
        self.used += 1;
        self.first_free = index + 1;
        Ok(index)
    }

    /// Takes `count` consecutive indices into use, from `start` on or else the lowest that are free.
    /// There may be no entries for them.
    fn reserve_range(
        &mut self,
        start: Option<usize>,
        count: usize,
        limit: usize,
    ) -> Result<Range<usize>> {
        let range = match start {
            Some(start) => {
                let end = start.checked_add(count).ok_or(EINVAL)?;
                if start >= self.taken.count() || end > self.taken.count() {
                    return Err(EINVAL);
                }
                if !self.taken.are_free(start..end) {
                    return Err(EBUSY);
                }
                start..end
            }
            None => {
                let start = self.taken.find(self.first_free, count).ok_or(ENOSPC)?;

                start..start + count
            }
        };
        if count > limit.saturating_sub(self.used) {
            return Err(ENOSPC);
        }

        self.taken.take(range.clone())?;
        self.used += count;
        Ok(range)
    }

    /// Makes sure that there is an entry for `index`.
    #[inline(never)]
    fn grow(&mut self, index: usize) -> Result {
        if let Some(capacity) = self.entries.missing(index) {
            self.entries.grow(index, &mut Room::new(index, capacity)?);
        }
        Ok(())
    }

    /// Gives an index back.
    #[inline(always)]
    fn release(&mut self, index: usize) {
        self.taken.release_one(index);
        self.used -= 1;
        self.first_free = self.first_free.min(index);
    }

    /// Returns the slot `index` if it is live.
    fn live(&self, index: usize) -> Option<&L> {
        match self.entries.get(index)? {
            Entry::Live(slot) => Some(slot),
            _ => None,
        }
    }

    /// Takes out the entry of the slot `index` if it is live.
    #[inline(always)]
    fn take(&mut self, index: usize) -> Option<Entry<L, Q>> {
        let entry = self.entries.get_mut(index)?;

        match entry {
            Entry::Live(_) => {
                self.live -= 1;
                Some(core::mem::replace(entry, Entry::Empty))
            }
            _ => None,
        }
    }
}

/// A slot table.
#[pin_data]
pub(crate) struct Slots<L, Q> {
    #[pin]
    table: Mutex<Table<L, Q>>,
}

impl<L, Q> Slots<L, Q> {
    /// Makes one of `count` indices, all of which are free.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(count: usize) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            table <- new_mutex!(Table::new(count), "uxive_slots"),
        }? Error)
    }

    /// Takes the lowest free index into use.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if `limit` are in use, or all; `ENOMEM` if there is no memory.
    #[inline(always)]
    pub(crate) fn reserve(&self, limit: usize) -> Result<Reservation<'_, L, Q>> {
        let index = self.table.lock().reserve(limit)?;

        Ok(Reservation { slots: self, index })
    }

    /// Takes `count` consecutive indices into use, from `start` on or else the lowest that are free.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` if more than `limit` were in use then, or fewer consecutive ones are free.
    /// - `EINVAL` if there are no such indices from `start` on, `EBUSY` if one of them is in use.
    /// - `ENOMEM` if there is no memory.
    pub(crate) fn reserve_range(
        &self,
        start: Option<usize>,
        count: usize,
        limit: usize,
    ) -> Result<Reservations<'_, L, Q>> {
        let range = self.table.lock().reserve_range(start, count, limit)?;
        let reservations = Reservations {
            slots: self,
            range: range.clone(),
        };

        // Entries for many take time.
        for piece in pieces(range, PIECE) {
            let table = &mut *self.table.lock();

            for chunk in piece.start / CHUNK..piece.end.div_ceil(CHUNK) {
                table.grow(chunk * CHUNK)?;
            }
        }
        Ok(reservations)
    }

    /// Enters slots of `self`, as [`Detached::enter`] does, piece by piece.
    pub(crate) fn enter(&self, mut slots: KVVec<Detached<'_, L, Q>>) {
        let pieces = slots.len().div_ceil(PIECE);
        let mut slots = slots.drain_all();

        for _ in 0..pieces {
            let table = &mut *self.table.lock();

            for slot in slots.by_ref().take(PIECE) {
                slot.enter_in(table);
            }
        }
    }

    /// Takes out the slot `index` if it is live.
    #[inline(always)]
    pub(crate) fn take(&self, index: usize) -> Option<Detached<'_, L, Q>> {
        let entry = self.table.lock().take(index)?;
        let reservation = Reservation { slots: self, index };

        Some(Detached { entry, reservation })
    }

    /// Makes sure that all slots in `range` are live, piece by piece.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not.
    pub(crate) fn require(&self, range: Range<usize>) -> Result {
        for mut piece in pieces(range, LOOK) {
            let slots = self.lock();

            if !piece.all(|index| slots.get(index).is_some()) {
                return Err(EINVAL);
            }
        }
        Ok(())
    }

    /// Calls `each` for the slots in `range`, with `None` for one that is not live. Meanwhile no slot comes or
    /// goes, but some may between one call and the next.
    ///
    /// # Errors
    ///
    /// The first of `each`, which is not called again.
    pub(crate) fn for_each(
        &self,
        mut range: Range<usize>,
        mut each: impl FnMut(usize, Option<&L>) -> Result,
    ) -> Result {
        while !range.is_empty() {
            let slots = self.lock();
            let mut slice = TimeSlice::of_micros(SLICE_US);

            for index in range.by_ref() {
                each(index, slots.get(index))?;
                if slice.is_over() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes out the slots in `range`.
    ///
    /// Not all of many at the same moment. If another takes one out meanwhile, those that were taken are
    /// entered again: of two that want the same slots, one gets all of its own.
    ///
    /// # Errors
    ///
    /// `EINVAL` if not all of them are live, `ENOMEM` if there is no memory: none is taken.
    pub(crate) fn take_range(&self, range: Range<usize>) -> Result<KVVec<Detached<'_, L, Q>>> {
        // Before memory is allocated for slots that cannot exist; and nothing changes if one is missing
        // to begin with.
        self.require(range.clone())?;
        let mut taken = KVVec::with_capacity(range.len(), GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;

        // From the lowest on, as all do it: the call that takes the first one that two want gets the others.
        for piece in pieces(range, PIECE) {
            let are_live = {
                let table = &mut *self.table.lock();
                let are_live = piece.clone().all(|index| table.live(index).is_some());

                if are_live {
                    self.take_from(table, piece, &mut taken)?;
                }
                are_live
            };
            if !are_live {
                self.enter(taken);
                return Err(EINVAL);
            }
        }
        Ok(taken)
    }

    /// Takes out the first slots from `index` on that are live, some of them. Returns from where on there
    /// are more.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory: none is taken.
    pub(crate) fn take_some(&self, index: usize) -> Result<(KVVec<Detached<'_, L, Q>>, usize)> {
        let mut taken = KVVec::with_capacity(PIECE, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        let end = index.saturating_add(PIECE);

        self.take_from(&mut self.table.lock(), index..end, &mut taken)?;
        Ok((taken, end))
    }

    /// Moves the slots in `range` that are live from `table`, which is that of `self`, to `taken`, which
    /// has room for them.
    fn take_from<'a>(
        &'a self,
        table: &mut Table<L, Q>,
        range: Range<usize>,
        taken: &mut KVVec<Detached<'a, L, Q>>,
    ) -> Result {
        for index in range {
            if let Some(entry) = table.take(index) {
                let reservation = Reservation { slots: self, index };
                taken.push_within_capacity(Detached { entry, reservation })?;
            }
        }
        Ok(())
    }

    /// Takes out the slot `index` if it is quarantined and `is_over` says that this is over. It is in no
    /// table while that is called, without the lock.
    pub(crate) fn try_quarantined(
        &self,
        index: usize,
        is_over: impl FnOnce(&mut Q) -> bool,
    ) -> Option<(Q, Reservation<'_, L, Q>)> {
        let mut slot = {
            let table = &mut *self.table.lock();
            let entry = table.entries.get_mut(index)?;

            if !matches!(entry, Entry::Quarantined(_)) {
                return None;
            }
            match core::mem::take(entry) {
                Entry::Quarantined(slot) => slot,
                _ => return None,
            }
        };
        let is_over = is_over(&mut slot);
        let table = &mut *self.table.lock();

        if !is_over {
            *table.entries.get_mut(index)? = Entry::Quarantined(slot);
            return None;
        }
        table.quarantined -= 1;
        Some((slot, Reservation { slots: self, index }))
    }

    /// Returns the slots that are live. No other comes or goes as long as this is held.
    pub(crate) fn lock(&self) -> LiveSlots<'_, L, Q> {
        LiveSlots(self.table.lock())
    }

    /// Calls `live` or `quarantined` for each slot from `index` on, until one returns something.
    /// Returns that, and the index of the slot.
    pub(crate) fn find<T>(
        &self,
        index: usize,
        live: impl Fn(&L) -> Option<T>,
        quarantined: impl Fn(&Q) -> Option<T>,
    ) -> Option<(usize, T)> {
        pieces(index..self.len(), LOOK).find_map(|piece| {
            let table = self.table.lock();
            let mut piece = piece;

            piece.find_map(|index| {
                let found = match table.entries.get(index)? {
                    Entry::Empty => None,
                    Entry::Live(slot) => live(slot),
                    Entry::Quarantined(slot) => quarantined(slot),
                };
                Some((index, found?))
            })
        })
    }

    /// Returns how many entries there can be: no index from this on has had a slot.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().entries.capacity()
    }

    /// Returns how many slots are live, and how many are quarantined.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.table.lock();

        (table.live, table.quarantined)
    }

    /// Returns whether no slot is quarantined.
    pub(crate) fn is_quiet(&self) -> bool {
        self.table.lock().quarantined == 0
    }
}

/// A slot that is in no table any more, and still has its index.
pub(crate) struct Detached<'a, L, Q> {
    // As it was in the table: each further move of a slot would make freeing slower.
    entry: Entry<L, Q>,
    // Dropped last.
    reservation: Reservation<'a, L, Q>,
}

impl<'a, L, Q> Detached<'a, L, Q> {
    /// Takes a slot that was not entered.
    pub(crate) fn new(slot: L, reservation: Reservation<'a, L, Q>) -> Self {
        Self {
            entry: Entry::Live(slot),
            reservation,
        }
    }

    /// Returns the slot.
    pub(crate) fn slot(&self) -> Option<&L> {
        match &self.entry {
            Entry::Live(slot) => Some(slot),
            _ => None,
        }
    }

    /// Returns the slot.
    #[inline]
    pub(crate) fn slot_mut(&mut self) -> Option<&mut L> {
        match &mut self.entry {
            Entry::Live(slot) => Some(slot),
            _ => None,
        }
    }

    /// Returns its index.
    pub(crate) fn index(&self) -> usize {
        self.reservation.index
    }

    /// Enters the slot. Does not fail: the entry was made with the reservation.
    pub(crate) fn enter(self) {
        let slots = self.reservation.slots;

        self.enter_in(&mut slots.table.lock());
    }

    /// As [`Self::enter`], in the table of its reservation.
    fn enter_in(self, table: &mut Table<L, Q>) {
        let Self { entry, reservation } = self;

        if let Some(place) = table.entries.get_mut(reservation.index) {
            *place = entry;
            table.live += 1;
        }
        // The index belongs to the entry from now on.
        core::mem::forget(reservation);
    }

    /// Enters what `quarantined` makes of the slot as one that is quarantined.
    pub(crate) fn quarantine(self, quarantined: impl FnOnce(L) -> Q) {
        let Self { entry, reservation } = self;
        let Entry::Live(slot) = entry else {
            return;
        };
        let table = &mut *reservation.slots.table.lock();

        if let Some(place) = table.entries.get_mut(reservation.index) {
            *place = Entry::Quarantined(quarantined(slot));
            table.quarantined += 1;
        }
        core::mem::forget(reservation);
    }
}

/// The slots that are live, while none comes or goes.
pub(crate) struct LiveSlots<'a, L, Q>(MutexGuard<'a, Table<L, Q>>);

impl<L, Q> LiveSlots<'_, L, Q> {
    /// Returns the slot `index`, if it is live.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&L> {
        self.0.live(index)
    }

    /// Returns the slots around and with `index`, which lies `within`, that do so too, are live and each
    /// `is_joined` to the one before.
    #[inline]
    pub(crate) fn joined(
        &self,
        index: usize,
        within: Range<usize>,
        is_joined: impl Fn(&L) -> bool,
    ) -> Range<usize> {
        let is_joined = |index| self.get(index).is_some_and(&is_joined);
        let mut range = index..index + 1;

        while range.start > within.start && is_joined(range.start) {
            range.start -= 1;
        }
        while range.end < within.end && is_joined(range.end) {
            range.end += 1;
        }
        range
    }
}

/// Consecutive indices in use that have no slots. Given back when dropped.
pub(crate) struct Reservations<'a, L, Q> {
    slots: &'a Slots<L, Q>,
    range: Range<usize>,
}

impl<'a, L, Q> Iterator for Reservations<'a, L, Q> {
    type Item = Reservation<'a, L, Q>;

    /// Takes out the first one.
    fn next(&mut self) -> Option<Self::Item> {
        Some(Reservation {
            slots: self.slots,
            index: self.range.next()?,
        })
    }
}

impl<L, Q> Drop for Reservations<'_, L, Q> {
    fn drop(&mut self) {
        for piece in pieces(self.range.clone(), LOOK) {
            let table = &mut *self.slots.table.lock();

            table.used -= piece.len();
            table.first_free = table.first_free.min(piece.start);
            table.taken.release(piece);
        }
    }
}

/// An index in use that has no slot. Given back when dropped.
pub(crate) struct Reservation<'a, L, Q> {
    slots: &'a Slots<L, Q>,
    index: usize,
}

impl<L, Q> Reservation<'_, L, Q> {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Enters the slot that `slot` makes. Does not fail: the entry was made with the reservation.
    // Made in its place, for it takes as much to copy it.
    #[inline(always)]
    pub(crate) fn fill(self, slot: impl FnOnce() -> L) {
        let table = &mut *self.slots.table.lock();

        if let Some(entry) = table.entries.get_mut(self.index) {
            table.live += 1;
            // The old entry is empty. Dropping it would check that, and copy the new one.
            core::mem::forget(core::mem::replace(entry, Entry::Live(slot())));
        }
        // The index belongs to the entry from now on.
        core::mem::forget(self);
    }
}

impl<L, Q> Drop for Reservation<'_, L, Q> {
    #[inline(always)]
    fn drop(&mut self) {
        self.slots.table.lock().release(self.index);
    }
}

#[kunit_tests(uxive_slots)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    type Numbers = Slots<u32, u32>;

    fn table(count: usize) -> Result<Arc<Numbers>> {
        Arc::pin_init(Slots::new(count), GFP_KERNEL)
    }

    /// Enters a slot at the lowest free index.
    fn enter(slots: &Numbers, slot: u32, limit: usize) -> Result<usize> {
        let reservation = slots.reserve(limit)?;
        let index = reservation.index();

        reservation.fill(|| slot);
        Ok(index)
    }

    fn all(slots: &Numbers) -> Result<KVVec<(usize, u32)>> {
        let mut all = KVVec::new();
        slots.for_each(0..slots.len(), |index, slot| match slot {
            Some(&slot) => Ok(all.push((index, slot), GFP_KERNEL)?),
            None => Ok(()),
        })?;
        Ok(all)
    }

    #[test]
    fn the_lowest_free_index_is_next() -> Result {
        let slots = table(200)?;
        for index in 0..200 {
            assert_eq!(enter(&slots, index as u32, 200), Ok(index));
        }
        assert_eq!(enter(&slots, 0, 200), Err(ENOSPC));
        assert_eq!(enter(&slots, 0, 1000), Err(ENOSPC));
        for index in [150, 3, 70] {
            drop(slots.take(index));
            assert!(slots.lock().get(index).is_none());
            assert!(slots.take(index).is_none());
        }
        for index in [3, 70, 150] {
            assert_eq!(enter(&slots, 7, 200), Ok(index));
        }
        assert_eq!(slots.counts(), (200, 0));
        Ok(())
    }

    #[test]
    fn a_limit_counts_what_is_in_use() -> Result {
        let slots = table(10)?;
        let reserved = slots.reserve(2)?;
        let detached = Detached::new(1, slots.reserve(2)?);
        // Neither has a slot in the table.
        assert_eq!(slots.counts(), (0, 0));
        assert_eq!(enter(&slots, 2, 2), Err(ENOSPC));
        assert_eq!(slots.reserve_range(None, 2, 3).err(), Some(ENOSPC));
        drop(reserved);
        assert_eq!(enter(&slots, 3, 2), Ok(0));
        detached.enter();
        assert_eq!(&all(&slots)?[..], &[(0, 3), (1, 1)]);
        Ok(())
    }

    #[test]
    fn an_index_is_in_use_while_its_slot_is_torn_down() -> Result {
        let slots = table(10)?;
        for slot in 0..3 {
            enter(&slots, slot, 10)?;
        }
        let taken = slots.take(1).ok_or(EINVAL)?;
        assert_eq!((taken.index(), taken.slot()), (1, Some(&1)));
        assert_eq!(enter(&slots, 9, 10), Ok(3));
        drop(taken);
        assert_eq!(enter(&slots, 9, 10), Ok(1));
        Ok(())
    }

    #[test]
    fn ranges_lie_where_there_is_room() -> Result {
        let slots = table(130)?;
        let reserve = |start, count| {
            let mut reserved = slots.reserve_range(start, count, 130)?;
            Ok(reserved.next().ok_or(EINVAL)?.index())
        };
        for index in [4, 5, 100] {
            slots
                .reserve_range(Some(index), 1, 130)?
                .for_each(|one| one.fill(|| 0));
        }
        for (start, count, found) in [
            (None, 1, Ok(0)),
            (None, 4, Ok(0)),
            (None, 5, Ok(6)),
            (None, 94, Ok(6)),
            (None, 95, Err(ENOSPC)),
            (Some(0), 4, Ok(0)),
            (Some(0), 5, Err(EBUSY)),
            (Some(5), 1, Err(EBUSY)),
            (Some(101), 29, Ok(101)),
            (Some(101), 30, Err(EINVAL)),
            (Some(130), 0, Err(EINVAL)),
            (Some(usize::MAX), 2, Err(EINVAL)),
        ] {
            assert_eq!(reserve(start, count), found);
        }
        // All of these were given back.
        assert_eq!(reserve(None, 4), Ok(0));
        Ok(())
    }

    #[test]
    fn a_range_that_is_dropped_half_way_leaves_what_was_filled() -> Result {
        let slots = table(20)?;
        let mut range = slots.reserve_range(None, 5, 20)?;
        for slot in 0..2 {
            range.next().ok_or(EINVAL)?.fill(|| slot);
        }
        drop(range);
        assert_eq!(&all(&slots)?[..], &[(0, 0), (1, 1)]);
        assert_eq!(enter(&slots, 2, 20), Ok(2));
        Ok(())
    }

    #[test]
    fn all_in_a_range_are_taken_or_none() -> Result {
        let slots = table(20)?;
        for slot in 0..6 {
            enter(&slots, slot, 20)?;
        }
        drop(slots.take(3));
        for bad in [0..4, 3..4, 5..7, 6..65, 0..usize::MAX] {
            assert_eq!(slots.take_range(bad).err(), Some(EINVAL));
            assert_eq!(slots.counts(), (5, 0));
        }
        assert_eq!(slots.take_range(4..6)?.len(), 2);
        assert_eq!(&all(&slots)?[..], &[(0, 0), (1, 1), (2, 2)]);
        let (taken, end) = slots.take_some(0)?;
        assert_eq!((taken.len(), slots.counts()), (3, (0, 0)));
        assert!(end >= slots.len());
        slots.enter(taken);
        assert_eq!(slots.counts(), (3, 0));
        Ok(())
    }

    #[test]
    fn many_are_taken_and_entered_piece_by_piece() -> Result {
        const MANY: usize = 3 * PIECE + 5;

        let slots = table(MANY)?;
        for (number, reservation) in slots.reserve_range(None, MANY, MANY)?.enumerate() {
            reservation.fill(|| number as u32);
        }
        drop(slots.take(2 * PIECE));
        assert_eq!(slots.take_range(0..MANY).err(), Some(EINVAL));
        assert_eq!(slots.counts(), (MANY - 1, 0));
        assert_eq!(enter(&slots, 2 * PIECE as u32, MANY), Ok(2 * PIECE));
        let taken = slots.take_range(0..MANY)?;
        assert_eq!((taken.len(), slots.counts()), (MANY, (0, 0)));
        assert!(taken
            .iter()
            .enumerate()
            .all(|(at, slot)| slot.index() == at));
        assert_eq!(slots.reserve_range(None, 1, MANY).err(), Some(ENOSPC));
        slots.enter(taken);
        assert_eq!(slots.counts(), (MANY, 0));

        let (mut from, mut freed) = (0, 0);
        while from < slots.len() {
            let (taken, end) = slots.take_some(from)?;
            assert!(end > from);
            (from, freed) = (end, freed + taken.len());
        }
        assert_eq!((freed, slots.counts()), (MANY, (0, 0)));
        Ok(())
    }

    #[test]
    fn quarantine_ends_when_it_is_over() -> Result {
        let slots = table(20)?;
        for slot in 0..3 {
            enter(&slots, slot, 20)?;
        }
        slots.take(1).ok_or(EINVAL)?.quarantine(|slot| slot + 10);
        assert_eq!((slots.counts(), slots.is_quiet()), ((2, 1), false));
        assert!(slots.lock().get(1).is_none() && slots.take(1).is_none());
        assert!(slots.require(0..3).is_err());
        assert_eq!(slots.find(0, |_| None, |&slot| Some(slot)), Some((1, 11)));
        assert_eq!(slots.find(1, |&slot| Some(slot), |_| None), Some((2, 2)));
        for index in [0, 1, 7, 1000] {
            assert!(slots.try_quarantined(index, |_| false).is_none());
        }
        assert_eq!((slots.counts(), slots.is_quiet()), ((2, 1), false));
        // Nobody takes it for quiet while it is tried, and what is found out is kept.
        assert!(slots
            .try_quarantined(1, |slot| {
                *slot = 11;
                assert!(!slots.is_quiet() && slots.try_quarantined(1, |_| true).is_none());
                false
            })
            .is_none());
        let (slot, reservation) = slots.try_quarantined(1, |_| true).ok_or(EINVAL)?;
        assert_eq!((slot, slots.is_quiet()), (11, true));
        assert_eq!(enter(&slots, 5, 20), Ok(3));
        drop(reservation);
        assert_eq!(enter(&slots, 5, 20), Ok(1));
        Ok(())
    }

    #[test]
    fn joined_slots_are_found_from_each_of_them() -> Result {
        let slots = table(20)?;
        // Joined to the one before are the odd ones.
        for slot in [0, 1, 1, 1, 0, 1, 0] {
            enter(&slots, slot, 20)?;
        }
        let within = |index, range| slots.lock().joined(index, range, |&slot| slot == 1);
        let joined = |index| within(index, 0..20);
        for index in 0..4 {
            assert_eq!(joined(index), 0..4);
        }
        assert_eq!((joined(4), joined(5), joined(6)), (4..6, 4..6, 6..7));
        assert_eq!((within(1, 1..20), within(1, 0..2)), (1..4, 0..2));
        assert_eq!((within(2, 2..3), within(5, 5..6)), (2..3, 5..6));
        drop(slots.take(2));
        assert_eq!((joined(0), joined(3)), (0..2, 2..4));
        Ok(())
    }
}
