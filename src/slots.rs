// SPDX-License-Identifier: GPL-2.0

//! The slot table of a context: which indices are in use, and what is at each.
//!
//! An index is in use from its reservation until that is dropped. In between a slot may be entered at
//! it, which is live until it is taken out, or quarantined. An index stays in use while its slot is being
//! made or torn down, so that no new slot gets an offset at which an old page may still be mapped.
//!
//! Knows nothing of what a slot is: `L` is one that is live, `Q` one that is quarantined.

use core::ops::Range;
use kernel::{
    bitmap::BitmapVec,
    new_mutex,
    prelude::*,
    sync::{
        Mutex,
        MutexGuard, //
    }, //
};

/// The entry of an index.
enum Entry<L, Q> {
    /// Nothing, or a slot that is being made or torn down.
    Empty,
    /// A slot that the program has.
    Live(L),
    /// A slot that failed to quiesce when it was freed.
    Quarantined(Q),
}

struct Table<L, Q> {
    /// The indices in use.
    taken: BitmapVec,
    /// How many indices are in use.
    used: usize,
    /// All indices below this are in use.
    first_free: usize,
    /// The slots by index; the table grows as far as it is used.
    entries: KVVec<Entry<L, Q>>,
    /// How many are quarantined.
    quarantined: usize,
}

/// How many entries the table grows by.
const GROWTH: usize = 64;

impl<L, Q> Table<L, Q> {
    /// Makes one of `count` indices, all of which are free.
    fn new(count: usize) -> Result<Self> {
        Ok(Self {
            taken: BitmapVec::new(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?,
            used: 0,
            first_free: 0,
            entries: KVVec::new(),
            quarantined: 0,
        })
    }

    /// Takes the lowest free index into use, and makes sure that there is an entry for it.
    #[inline(always)]
    fn reserve(&mut self, limit: usize) -> Result<usize> {
        if self.used >= limit {
            return Err(ENOSPC);
        }
        let index = self.next_free(self.first_free).ok_or(ENOSPC)?;

        if index >= self.entries.len() {
            self.grow(GROWTH)?;
        }
        self.taken.set_bit(index);
        self.used += 1;
        self.first_free = index + 1;
        Ok(index)
    }

    /// Takes `count` consecutive indices into use, from `start` on or else the lowest that are free, and
    /// makes sure that there are entries for them.
    fn reserve_range(
        &mut self,
        start: Option<usize>,
        count: usize,
        limit: usize,
    ) -> Result<Range<usize>> {
        let range = match start {
            Some(start) => {
                let end = start.checked_add(count).ok_or(EINVAL)?;
                if start >= self.taken.len() || end > self.taken.len() {
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
        self.grow(missing.next_multiple_of(GROWTH))?;
        for index in range.clone() {
            self.taken.set_bit(index);
        }
        self.used += count;
        Ok(range)
    }

    /// Adds `count` empty entries.
    #[inline(never)]
    fn grow(&mut self, count: usize) -> Result {
        self.entries
            .reserve(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        for _ in 0..count {
            self.entries.push_within_capacity(Entry::Empty)?;
        }
        Ok(())
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
            Entry::Live(_) => Some(core::mem::replace(entry, Entry::Empty)),
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
            table <- new_mutex!(Table::new(count)?, "uxive_slots"),
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

        Ok(Reservations { slots: self, range })
    }

    /// Enters slots of `self`, as [`Detached::enter`] does.
    pub(crate) fn enter(&self, mut slots: KVVec<Detached<'_, L, Q>>) {
        let table = &mut *self.table.lock();

        for slot in slots.drain_all() {
            slot.enter_in(table);
        }
    }

    /// Takes out the slot `index` if it is live.
    #[inline(always)]
    pub(crate) fn take(&self, index: usize) -> Option<Detached<'_, L, Q>> {
        let entry = self.table.lock().take(index)?;
        let reservation = Reservation { slots: self, index };

        Some(Detached { entry, reservation })
    }

    /// Takes out the slots in `range`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if not all of them are live, `ENOMEM` if there is no memory: none is taken.
    pub(crate) fn take_range(&self, range: Range<usize>) -> Result<KVVec<Detached<'_, L, Q>>> {
        // Before memory is allocated for slots that cannot exist.
        if range.end > self.len() {
            return Err(EINVAL);
        }
        let mut taken = KVVec::with_capacity(range.len(), GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        let table = &mut *self.table.lock();

        if range.clone().any(|index| table.live(index).is_none()) {
            return Err(EINVAL);
        }
        self.take_from(table, range, &mut taken)?;
        Ok(taken)
    }

    /// Takes out all slots that are live.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory: none is taken.
    pub(crate) fn take_all(&self) -> Result<KVVec<Detached<'_, L, Q>>> {
        let table = &mut *self.table.lock();
        let all = 0..table.entries.len();
        let live = all.clone().filter(|&index| table.live(index).is_some());
        let mut taken = KVVec::with_capacity(live.count(), GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;

        self.take_from(table, all, &mut taken)?;
        Ok(taken)
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

    /// Takes out the slot `index` if it is quarantined and `is_over` says that this is over.
    pub(crate) fn take_quarantined(
        &self,
        index: usize,
        is_over: impl FnOnce(&mut Q) -> bool,
    ) -> Option<(Q, Reservation<'_, L, Q>)> {
        let table = &mut *self.table.lock();
        let entry = table.entries.get_mut(index)?;

        match entry {
            Entry::Quarantined(slot) => is_over(slot).then_some(())?,
            _ => return None,
        }
        let Entry::Quarantined(slot) = core::mem::replace(entry, Entry::Empty) else {
            return None;
        };
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
        let table = self.table.lock();
        let mut entries = table.entries.iter().enumerate().skip(index);

        entries.find_map(|(index, entry)| {
            let found = match entry {
                Entry::Empty => None,
                Entry::Live(slot) => live(slot),
                Entry::Quarantined(slot) => quarantined(slot),
            };
            Some((index, found?))
        })
    }

    /// Returns how many entries there are: no index from this on has had a slot.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().entries.len()
    }

    /// Returns how many slots are live, and how many are quarantined.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let slots = self.lock();

        (slots.iter().count(), slots.0.quarantined)
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

    /// Makes sure that all slots in `range` are live.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not.
    pub(crate) fn require(&self, mut range: Range<usize>) -> Result {
        match range.all(|index| self.get(index).is_some()) {
            true => Ok(()),
            false => Err(EINVAL),
        }
    }

    /// Returns the slots around and with `index` that are live and each `is_joined` to the one before.
    #[inline]
    pub(crate) fn joined(&self, index: usize, is_joined: impl Fn(&L) -> bool) -> Range<usize> {
        let is_joined = |index| self.get(index).is_some_and(&is_joined);
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &L)> {
        (0..self.0.entries.len()).filter_map(|index| Some((index, self.get(index)?)))
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
        if self.range.is_empty() {
            return;
        }
        let table = &mut *self.slots.table.lock();

        for index in self.range.clone() {
            table.release(index);
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
        if let Some(entry) = self.slots.table.lock().entries.get_mut(self.index) {
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
        for (index, &slot) in slots.lock().iter() {
            all.push((index, slot), GFP_KERNEL)?;
        }
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
        let taken = slots.take_all()?;
        assert_eq!((taken.len(), slots.counts()), (3, (0, 0)));
        slots.enter(taken);
        assert_eq!(slots.counts(), (3, 0));
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
        assert!(slots.lock().require(0..3).is_err());
        assert_eq!(slots.find(0, |_| None, |&slot| Some(slot)), Some((1, 11)));
        assert_eq!(slots.find(1, |&slot| Some(slot), |_| None), Some((2, 2)));
        for index in [0, 1, 7, 1000] {
            assert!(slots.take_quarantined(index, |_| false).is_none());
        }
        let (slot, reservation) = slots.take_quarantined(1, |_| true).ok_or(EINVAL)?;
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
        let joined = |index| slots.lock().joined(index, |&slot| slot == 1);
        for index in 0..4 {
            assert_eq!(joined(index), 0..4);
        }
        assert_eq!((joined(4), joined(5), joined(6)), (4..6, 4..6, 6..7));
        drop(slots.take(2));
        assert_eq!((joined(0), joined(3)), (0..2, 2..4));
        Ok(())
    }
}
