// SPDX-License-Identifier: GPL-2.0

//! How often events may come that others raise: messages of an AFU, as a broken one sends them
//! without a pause, and exported interrupts, which all that have the file can ring.
//!
//! Events are counted in periods of [`PERIOD`], by message or by export. The last one for which a
//! period has room is delivered as the others were, but its interrupt is not ended before the
//! period is over: it is held back. No further event of that source comes meanwhile, and one comes
//! then if any was raised. In the next period as many are let go as it has room for.
//!
//! An interrupt that is in several exports is counted with one of them, of that with the lowest rate.
//! When that ends it is counted there still, as long as it is in another: ending an export is no
//! work with the others.
//!
//! Without a storm there is nothing to do but to count: the clock is read at the first event of a
//! period and at the last one, and a work item runs only while something is held back.

use super::drain::Target;
use crate::{
    limits::MaxRate,
    xive::{
        EisnTable,
        MessageEisnTable,
        SourceKind, //
    }, //
};
use core::ops::Range;
use kernel::{
    bitmap::BitmapVec,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::Arc,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long events are counted together.
const PERIOD: Delta = Delta::from_millis(100);

/// How many periods a second has.
const PERIODS: u32 = 10;

/// How many slots are looked at under the drain's lock at a time.
const STEP: usize = 64;

/// How often some events come.
pub(super) struct Rate {
    max: Arc<MaxRate>,
    /// In a second, if that is less than `max`.
    own: u32,
    /// When the period began: at its first event, or when events of the last were let go.
    began: Option<Instant<Monotonic>>,
    /// In that period, as far as it had room.
    count: u32,
    /// How many came when it had none: each slot of an export may have one on its way then. They count in
    /// the next.
    over: u32,
    /// How many that are held back it may let go.
    room: u32,
    /// Some were held back in it.
    has_held: bool,
    /// The program was told, and some have been held back in each period since.
    told: bool,
}

impl Rate {
    /// Makes one at which `max` events may come in a second, and no more than `own`.
    pub(super) fn new(max: Arc<MaxRate>, own: u32) -> Self {
        Self {
            max,
            own,
            began: None,
            count: 0,
            over: 0,
            room: 0,
            has_held: false,
            told: false,
        }
    }

    /// Returns how many events a period has room for.
    fn limit(&self) -> u32 {
        // One can come, or there would be nothing to count.
        (self.max.get().min(self.own) / PERIODS).max(1)
    }

    /// Returns how long the period will go on.
    fn rest(&self, now: Instant<Monotonic>) -> Option<Delta> {
        let rest = self.began? + PERIOD - now;

        (rest > Delta::from_nanos(0)).then_some(rest)
    }

    /// Begins a period.
    fn begin(&mut self, now: Instant<Monotonic>) {
        self.told &= self.has_held;
        self.has_held = false;
        self.began = Some(now);
    }

    /// Counts an event. If it was the last that the period has room for, returns how long that will go
    /// on.
    fn count(&mut self, now: impl Fn() -> Instant<Monotonic>) -> Option<Delta> {
        let limit = self.limit();

        if self.count != 0 && self.count.saturating_add(1) < limit {
            self.count += 1;
            return None;
        }

        let now = now();
        if self.rest(now).is_none() {
            if self.has_held {
                // Those that are held back come first.
                self.over = self.over.saturating_add(1);
                return Some(Delta::from_nanos(0));
            }
            self.begin(now);
            self.count = 0;
            self.over = 0;
        }
        match self.count < limit {
            true => self.count += 1,
            false => self.over = self.over.saturating_add(1),
        }
        if self.count < limit {
            return None;
        }
        self.has_held = true;
        self.rest(now)
    }

    /// Begins a period in which events are let go that are held back, unless the last goes on.
    ///
    /// # Errors
    ///
    /// For how long it does.
    fn begin_release(&mut self, now: Instant<Monotonic>) -> Result<(), Delta> {
        if let Some(rest) = self.rest(now) {
            return Err(rest);
        }
        let limit = self.limit();

        self.has_held = true;
        self.begin(now);
        self.count = self.over.min(limit);
        self.over -= self.count;
        // Each that is let go brings an event if it was raised meanwhile.
        self.room = limit - self.count;
        Ok(())
    }

    /// Returns whether the period has room to let one go, and if so whether to tell the program.
    fn release(&mut self) -> Option<bool> {
        if self.room == 0 {
            self.has_held = true;
            return None;
        }
        self.room -= 1;
        Some(!core::mem::replace(&mut self.told, true))
    }
}

/// The slots of which a source is held back.
#[derive(Default)]
struct Held {
    /// Not before there is one that could be.
    slots: Option<BitmapVec>,
}

impl Held {
    /// Returns below which index slots have room.
    fn len(&self) -> usize {
        self.slots.as_ref().map_or(0, BitmapVec::len)
    }

    #[inline]
    fn clear(&mut self, index: usize) {
        if let Some(slots) = &mut self.slots {
            if index < slots.len() {
                slots.clear_bit(index);
            }
        }
    }

    /// Returns whether slot `index` is held back.
    fn has(&self, index: usize) -> bool {
        self.next(&(index..index + 1)).is_some()
    }

    /// Returns the first slot of `range` that is held back.
    fn next(&self, range: &Range<usize>) -> Option<usize> {
        let slots = self.slots.as_ref()?;
        if range.is_empty() || range.start >= slots.len() {
            return None;
        }

        slots
            .next_bit(range.start)
            .filter(|index| range.contains(index))
    }
}

/// Interrupts that are exported, with how often they come all together.
pub(super) struct Lent {
    slots: Range<usize>,
    rate: Rate,
    /// How many slots are counted with it.
    counted: u32,
    /// It stays until no slot is counted with it any more.
    has_ended: bool,
    /// One of its slots may be held back.
    holds: bool,
    /// The first for which the last period had no room: the next one begins there.
    first: usize,
}

impl Lent {
    pub(super) fn new(slots: Range<usize>, rate: Rate) -> Self {
        Self {
            first: slots.start,
            slots,
            rate,
            counted: 0,
            has_ended: false,
            holds: false,
        }
    }
}

/// An export that has left. To be dropped outside of the lock.
pub(super) type Left = Option<RBTreeNode<u32, Lent>>;

/// The events of a queue that are held back.
#[derive(Default)]
pub(super) struct Moderation {
    generic: Held,
    messages: Held,
    /// By the number of the export, which is not 0.
    exports: RBTree<u32, Lent>,
    /// Something was held back: after this time it can be let go.
    wake: Option<Delta>,
}

/// A storm of which the program is told.
pub(super) struct Storm {
    /// One of the slots.
    pub(super) index: usize,
    /// The export, or 0 if it is one of messages.
    pub(super) export: u32,
    /// How many events a period has room for.
    pub(super) count: u32,
}

/// Where a [`Pass`] goes on.
enum Place {
    /// At the first export from this number on.
    From(u32),
    /// At the slots of this export that are in the ranges.
    In(u32, [Range<usize>; 2]),
    /// At the messages from this slot on.
    Messages(usize),
    Over,
}

/// A walk over the slots that are held back.
pub(super) struct Pass {
    now: Instant<Monotonic>,
    place: Place,
    /// After which time the next one is due.
    pub(super) next: Option<Delta>,
}

impl Pass {
    /// Begins one at `now`.
    pub(super) fn new(now: Instant<Monotonic>) -> Self {
        Self {
            now,
            place: Place::From(0),
            next: None,
        }
    }

    fn is_due_after(&mut self, rest: Delta) {
        self.next = Some(self.next.map_or(rest, |next| next.min(rest)));
    }
}

/// The state of a [`Pass`].
pub(super) enum Step {
    /// There may be more.
    More(Option<Storm>),
    Over,
}

impl Moderation {
    fn held(&mut self, origin: SourceKind) -> &mut Held {
        match origin {
            SourceKind::Ipi => &mut self.generic,
            SourceKind::Msi => &mut self.messages,
        }
    }

    /// Returns whether slots below `end` can be held back.
    pub(super) fn has_room(&mut self, origin: SourceKind, end: usize) -> bool {
        self.held(origin).len() >= end
    }

    /// Makes room for as many slots as `larger` has, which gets the old memory. Neither allocates nor
    /// frees memory.
    pub(super) fn grow(&mut self, origin: SourceKind, larger: &mut Option<BitmapVec>) {
        let held = self.held(origin);
        let Some(new) = larger else {
            return;
        };

        // Another may have been faster.
        if new.len() > held.len() {
            if let Some(old) = &held.slots {
                new.copy_and_extend(old);
            }
            core::mem::swap(&mut held.slots, larger);
        }
    }

    /// Returns after which time a [`Pass`] is due, unless this has told that since something was held
    /// back last.
    #[inline]
    pub(super) fn wake(&mut self) -> Option<Delta> {
        self.wake.take()
    }

    fn wake_after(&mut self, rest: Delta) {
        self.wake = Some(self.wake.map_or(rest, |wake| wake.min(rest)));
    }

    /// Holds slot `index` back for `rest`. Returns `false` if there is no room for it.
    fn hold(&mut self, origin: SourceKind, index: usize, rest: Delta) -> bool {
        match &mut self.held(origin).slots {
            Some(slots) if index < slots.len() => slots.set_bit(index),
            _ => return false,
        }
        self.wake_after(rest);
        true
    }

    /// Returns whether the source of slot `index` that is an `origin` is held back.
    pub(super) fn is_held(&mut self, origin: SourceKind, index: usize) -> bool {
        self.held(origin).has(index)
    }

    /// Forgets slot `index`, which is freed or given to a guest.
    #[inline]
    pub(super) fn forget(&mut self, index: usize) {
        self.generic.clear(index);
        self.messages.clear(index);
    }

    /// Counts an event of slot `index`, which is counted with `export`. Returns whether it is held back.
    #[cold]
    #[inline(never)]
    pub(super) fn hold_lent(&mut self, export: u32, index: usize) -> bool {
        let Some(lent) = self.exports.get_mut(&export) else {
            return false;
        };
        let Some(rest) = lent.rate.count(Instant::now) else {
            return false;
        };

        lent.holds = true;
        self.hold(SourceKind::Ipi, index, rest)
    }

    /// Ends the interrupt of a message, unless it has come too often.
    pub(super) fn end_message(&mut self, messages: &mut MessageEisnTable<Rate>, index: usize) {
        if let Some(message) = messages.get_mut(index) {
            let rest = message.with.count(Instant::now);

            if !rest.is_some_and(|rest| self.hold(SourceKind::Msi, index, rest)) {
                message.end_interrupt();
            }
        }
    }

    /// Enters the export of a number that none has had.
    pub(super) fn enter(&mut self, export: RBTreeNode<u32, Lent>) {
        self.exports.insert(export);
    }

    /// Ends the export `id`. Slots that are counted with it are in others.
    pub(super) fn leave(&mut self, id: u32) -> Left {
        if let Some(lent) = self.exports.get_mut(&id) {
            lent.has_ended = true;
        }
        self.remove_unused(id)
    }

    /// Takes out the export `id` if it has ended and no slot is counted with it.
    fn remove_unused(&mut self, id: u32) -> Left {
        let lent = self.exports.get(&id)?;

        match lent.has_ended && lent.counted == 0 {
            true => self.exports.remove_node(&id),
            false => None,
        }
    }

    /// Counts one slot less with the export `id`, if that is not 0.
    #[inline]
    pub(super) fn uncount(&mut self, id: u32) -> Left {
        match id {
            0 => None,
            _ => self.uncount_one(id),
        }
    }

    #[cold]
    #[inline(never)]
    fn uncount_one(&mut self, id: u32) -> Left {
        if let Some(lent) = self.exports.get_mut(&id) {
            lent.counted = lent.counted.saturating_sub(1);
        }
        self.remove_unused(id)
    }

    /// Has events of slot `index`, which is in the export `id` now, counted with that, unless it is in
    /// another with a rate that is no higher.
    pub(super) fn lend(&mut self, routes: &mut EisnTable<Target>, index: usize, id: u32) -> Left {
        let Some(Target::Live { lent, .. }) = routes.get_mut(index).map(|route| &mut route.with)
        else {
            return None;
        };
        let own = |id| self.exports.get(&id).map_or(u32::MAX, |lent| lent.rate.own);

        lent.exports = lent.exports.saturating_add(1);
        if lent.counted_with != 0 && own(lent.counted_with) <= own(id) {
            return None;
        }
        let before = core::mem::replace(&mut lent.counted_with, id);
        let is_held = self.generic.has(index);
        if let Some(lent) = self.exports.get_mut(&id) {
            lent.counted = lent.counted.saturating_add(1);
            lent.holds |= is_held;
        }
        if is_held {
            self.wake_after(PERIOD);
        }
        self.uncount(before)
    }

    /// Takes slot `index` out of an export. If it is in no other its events are not counted any more, and
    /// it is let go.
    pub(super) fn take_back(&mut self, routes: &mut EisnTable<Target>, index: usize) -> Left {
        let Some(Target::Live { lent, .. }) = routes.get_mut(index).map(|route| &mut route.with)
        else {
            return None;
        };

        lent.exports = lent.exports.saturating_sub(1);
        if lent.exports != 0 {
            return None;
        }
        let id = core::mem::take(&mut lent.counted_with);
        if self.generic.has(index) {
            self.generic.clear(index);
            end_generic(routes, index);
        }
        self.uncount(id)
    }

    /// Ends interrupts of slots that are held back, as far as their periods have room: the next step of
    /// `pass`.
    pub(super) fn release(
        &mut self,
        routes: &EisnTable<Target>,
        messages: &mut MessageEisnTable<Rate>,
        pass: &mut Pass,
    ) -> Step {
        for _ in 0..STEP {
            let storm = match &mut pass.place {
                &mut Place::From(id) => {
                    pass.place = self.enter_next(id, pass);
                    None
                }
                Place::In(id, rest) => {
                    let id = *id;
                    let found = rest.iter_mut().find_map(|rest| {
                        let index = self.generic.next(rest)?;
                        rest.start = index + 1;
                        Some(index)
                    });
                    let result = match found {
                        Some(index) => self.release_lent(routes, id, index),
                        None => Err(None),
                    };

                    result.unwrap_or_else(|wait| {
                        if let Some(wait) = wait {
                            pass.is_due_after(wait);
                        }
                        pass.place = id.checked_add(1).map_or(Place::Messages(0), Place::From);
                        None
                    })
                }
                Place::Messages(from) => {
                    let Some(index) = self.messages.next(&(*from..self.messages.len())) else {
                        pass.place = Place::Over;
                        return Step::Over;
                    };

                    *from = index + 1;
                    self.release_message(messages, index, pass)
                }
                Place::Over => return Step::Over,
            };

            if storm.is_some() {
                return Step::More(storm);
            }
        }
        Step::More(None)
    }

    /// Enters the first export from number `from` on, if something is due there. Returns where to go on.
    fn enter_next(&mut self, from: u32, pass: &mut Pass) -> Place {
        let Some(mut cursor) = self.exports.cursor_lower_bound_mut(&from) else {
            return Place::Messages(0);
        };
        let (&id, lent) = cursor.current_mut();
        let next = id.checked_add(1).map_or(Place::Messages(0), Place::From);

        if !lent.holds {
            return next;
        }
        if let Err(rest) = lent.rate.begin_release(pass.now) {
            pass.is_due_after(rest);
            return next;
        }
        // Until something is held back again.
        lent.holds = false;
        Place::In(
            id,
            [lent.first..lent.slots.end, lent.slots.start..lent.first],
        )
    }

    /// Ends the interrupt of slot `index`, if it is held back for the export `id`.
    ///
    /// # Errors
    ///
    /// There is no room for more; after which time there is.
    fn release_lent(
        &mut self,
        routes: &EisnTable<Target>,
        id: u32,
        index: usize,
    ) -> Result<Option<Storm>, Option<Delta>> {
        // It has left: its slots were let go.
        let lent = self.exports.get_mut(&id).ok_or(None)?;
        match routes.get(index).map(|route| &route.with) {
            Some(Target::Live { lent, .. }) if lent.counted_with == id => (),
            _ => return Ok(None),
        }

        let Some(is_new) = lent.rate.release() else {
            lent.holds = true;
            lent.first = index;
            return Err(Some(PERIOD));
        };
        let count = lent.rate.limit();
        self.generic.clear(index);
        end_generic(routes, index);
        Ok(is_new.then_some(Storm {
            index,
            export: id,
            count,
        }))
    }

    /// Ends the interrupt of the message of slot `index`, which is held back, if that is due.
    fn release_message(
        &mut self,
        messages: &mut MessageEisnTable<Rate>,
        index: usize,
        pass: &mut Pass,
    ) -> Option<Storm> {
        let mut is_new = Some(false);
        let mut count = 0;

        if let Some(message) = messages.get_mut(index) {
            let rate = &mut message.with;

            if let Err(rest) = rate.begin_release(pass.now) {
                pass.is_due_after(rest);
                return None;
            }
            is_new = rate.release();
            count = rate.limit();
            match is_new {
                Some(_) => message.end_interrupt(),
                None => pass.is_due_after(PERIOD),
            }
        }
        let is_new = is_new?;
        self.messages.clear(index);
        is_new.then_some(Storm {
            index,
            export: 0,
            count,
        })
    }
}

/// Ends the interrupt of the generic source of slot `index`, unless that is switched off.
fn end_generic(routes: &EisnTable<Target>, index: usize) {
    if let Some(route) = routes.get(index) {
        // A source that is off would be switched on by that.
        if matches!(route.with, Target::Live { .. }) {
            route.end_interrupt();
        }
    }
}

#[kunit_tests(uxive_rate)]
mod tests {
    use super::*;

    const MS: Delta = Delta::from_millis(1);

    /// A rate of `limit` events in a period, and a time to begin at.
    fn rate(limit: u32) -> Result<(Rate, Instant<Monotonic>)> {
        let max = MaxRate::new()?;
        max.set((limit * PERIODS).into())?;
        Ok((Rate::new(max, u32::MAX), Instant::now()))
    }

    /// Counts `count` events at `now`. Returns after how many of them one was held back.
    fn count(rate: &mut Rate, now: Instant<Monotonic>, count: u32) -> Option<u32> {
        (1..=count).find(|_| rate.count(|| now).is_some())
    }

    /// Lets up to `most` go in a pass at `now`. Returns how many it did.
    fn release(rate: &mut Rate, now: Instant<Monotonic>, most: u32) -> Result<usize, Delta> {
        rate.begin_release(now)?;
        Ok((0..most).filter(|_| rate.release().is_some()).count())
    }

    #[test]
    fn the_last_of_a_period_is_held_back() -> Result {
        let (mut rate, now) = rate(5)?;
        assert_eq!(count(&mut rate, now, 10), Some(5));
        assert_eq!(rate.rest(now), Some(PERIOD));
        assert_eq!(rate.rest(now + MS), Some(PERIOD - MS));
        assert!(rate.rest(now + PERIOD).is_none());
        Ok(())
    }

    #[test]
    fn slow_events_are_not_held_back() -> Result {
        let (mut rate, mut now) = rate(5)?;
        // As many as fit, evenly: the fifth is in the next period.
        for _ in 0..100 {
            assert_eq!(count(&mut rate, now, 1), None);
            now = now + Delta::from_millis(25);
        }
        Ok(())
    }

    #[test]
    fn one_in_a_period_is_the_least() -> Result {
        let (mut rate, mut now) = rate(0)?;
        for _ in 0..3 {
            assert_eq!(count(&mut rate, now, 1), Some(1));
            assert_eq!(release(&mut rate, now + MS, 1), Err(PERIOD - MS));
            now = now + PERIOD;
            assert_eq!(release(&mut rate, now, 2), Ok(1));
        }
        Ok(())
    }

    #[test]
    fn a_period_lets_go_as_many_as_it_has_room_for() -> Result {
        let (mut rate, mut now) = rate(3)?;
        assert_eq!(count(&mut rate, now, 3), Some(3));
        for _ in 0..3 {
            now = now + PERIOD;
            assert_eq!(release(&mut rate, now, 9), Ok(3));
            // An event of the first to be let go does not keep the others back.
            assert!(release(&mut rate, now + MS, 9).is_err());
        }
        Ok(())
    }

    #[test]
    fn the_others_are_let_go_although_the_first_has_come_again() -> Result {
        let (mut rate, now) = rate(3)?;
        assert_eq!(count(&mut rate, now, 3), Some(3));
        let pass = now + PERIOD;
        assert_eq!(release(&mut rate, pass, 1), Ok(1));
        assert_eq!(count(&mut rate, pass + MS, 1), None);
        assert!(rate.release().is_some() && rate.release().is_some());
        assert!(rate.release().is_none());
        Ok(())
    }

    #[test]
    fn events_that_were_too_many_count_in_the_next_period() -> Result {
        let (mut rate, mut now) = rate(3)?;
        // Of seven slots each had one on its way.
        assert_eq!(count(&mut rate, now, 3), Some(3));
        for _ in 0..4 {
            assert_eq!(count(&mut rate, now, 1), Some(1));
        }
        for let_go in [0, 2, 3] {
            now = now + PERIOD;
            assert_eq!(release(&mut rate, now, 9), Ok(let_go));
        }
        Ok(())
    }

    #[test]
    fn a_limit_that_is_lowered_holds_from_then_on() -> Result {
        let (mut rate, now) = rate(10_000)?;
        assert_eq!(count(&mut rate, now, 9000), None);
        rate.max.set((2 * PERIODS).into())?;
        // In the same period there is no room.
        assert_eq!(count(&mut rate, now + MS, 1), Some(1));
        assert_eq!(release(&mut rate, now + PERIOD, 1), Ok(1));

        // Nor is there less of it long after.
        rate.max.set((10_000 * PERIODS).into())?;
        let later = now + PERIOD + PERIOD;
        assert_eq!(count(&mut rate, later, 9000), None);
        rate.max.set((2 * PERIODS).into())?;
        assert_eq!(count(&mut rate, later + PERIOD, 3), Some(2));
        Ok(())
    }

    #[test]
    fn it_is_told_once_until_a_period_had_room() -> Result {
        let (mut rate, mut now) = rate(2)?;
        for told in [true, false, false] {
            assert_eq!(count(&mut rate, now, 2), Some(2));
            now = now + PERIOD;
            assert_eq!(rate.begin_release(now), Ok(()));
            assert_eq!(rate.release(), Some(told));
        }
        assert_eq!(count(&mut rate, now, 1), None);
        now = now + PERIOD;
        // The second begins a period of its own, since the first was long ago.
        assert_eq!(count(&mut rate, now, 1), None);
        assert_eq!(count(&mut rate, now, 1), Some(1));
        assert_eq!(rate.begin_release(now + PERIOD), Ok(()));
        assert_eq!(rate.release(), Some(true));

        // Nor is one begun by the first event a part of the last storm.
        now = now + PERIOD + PERIOD + PERIOD;
        assert_eq!(count(&mut rate, now, 2), Some(2));
        assert_eq!(rate.begin_release(now + PERIOD), Ok(()));
        assert_eq!(rate.release(), Some(true));
        Ok(())
    }

    #[test]
    fn those_that_are_held_back_come_first_if_they_are_let_go_late() -> Result {
        let (mut rate, now) = rate(3)?;
        assert_eq!(count(&mut rate, now, 3), Some(3));
        let late = now + PERIOD + MS;
        assert_eq!(count(&mut rate, late, 1), Some(1));
        assert_eq!(release(&mut rate, late + MS, 9), Ok(2));
        Ok(())
    }

    #[test]
    fn the_owner_can_have_less_and_not_more() -> Result {
        let max = MaxRate::new()?;
        max.set(100)?;
        for (own, limit) in [(1, 1), (50, 5), (100, 10), (1000, 10), (u32::MAX, 10)] {
            assert_eq!(Rate::new(max.clone(), own).limit(), limit);
        }
        let rate = Rate::new(max.clone(), u32::MAX);
        max.set(0)?;
        assert_eq!(rate.limit(), 1);
        max.set(u32::MAX.into())?;
        assert_eq!(rate.limit(), u32::MAX / PERIODS);
        assert_eq!(max.set(1 << 32), Err(ERANGE));
        Ok(())
    }

    #[test]
    fn slots_are_found_from_anywhere() -> Result {
        let mut moderation = Moderation::default();
        assert!(!moderation.hold(SourceKind::Ipi, 0, PERIOD));
        for (len, old) in [(64, None), (1024, Some(64))] {
            let mut larger = Some(BitmapVec::new(len, GFP_KERNEL)?);
            moderation.grow(SourceKind::Ipi, &mut larger);
            assert_eq!(larger.map(|larger| larger.len()), old);
            assert!(moderation.hold(SourceKind::Ipi, 63, PERIOD));
        }
        let mut smaller = Some(BitmapVec::new(64, GFP_KERNEL)?);
        moderation.grow(SourceKind::Ipi, &mut smaller);
        assert!(moderation.has_room(SourceKind::Ipi, 1024));
        assert!(!moderation.has_room(SourceKind::Msi, 1024));
        assert!(moderation.hold(SourceKind::Ipi, 1023, MS));
        assert_eq!(moderation.wake(), Some(MS));
        assert!(moderation.wake().is_none());

        let held = &mut moderation.generic;
        assert_eq!(held.next(&(0..1024)), Some(63));
        assert_eq!(held.next(&(64..1024)), Some(1023));
        assert_eq!(held.next(&(64..1023)), None);
        assert!(held.has(63) && !held.has(64) && !held.has(5000));
        assert_eq!(held.next(&(1024..1024)), None);
        moderation.forget(63);
        moderation.forget(5000);
        assert_eq!(moderation.generic.next(&(0..1024)), Some(1023));
        Ok(())
    }
}
