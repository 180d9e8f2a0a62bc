// SPDX-License-Identifier: GPL-2.0

//! A reader's place in an event queue, and when to look at it once more.
//!
//! Knows neither the queue nor what its entries are for.

use crate::{
    kernel_ext::{
        clock::TimeSlice,
        irq::Remaining, //
    },
    xive::QueueSize, //
};
use kernel::prelude::*;

/// How many entries are handled at a time, with interrupts off.
pub(super) const BUDGET: usize = 64;

/// Beyond which time no further entry is handled with them, in microseconds: an eventfd that is
/// signalled wakes any number of waiters. As long as it takes to signal 64 with few waiters, or more.
const SLICE_US: u32 = 100;

/// Returns the time for the entries that are handled at a time.
pub(super) fn slice() -> TimeSlice {
    TimeSlice::of_micros(SLICE_US)
}

/// The result of a look at the queue.
pub(super) enum Next {
    /// The EISN of the next entry, which was taken.
    Entry(usize),
    /// Hardware has not written it yet.
    Empty,
    /// There is one, and no time for it.
    Late,
}

/// A reader's place in an event queue.
pub(super) struct Cursor {
    size: QueueSize,
    pub(super) index: usize,
    /// The generation that entries of the present pass have, in bit 31.
    pub(super) generation: u32,
}

impl Cursor {
    const GENERATION: u32 = 1 << 31;

    pub(super) fn new(size: QueueSize) -> Self {
        Self {
            size,
            index: 0,
            generation: Self::GENERATION,
        }
    }

    /// Takes the next entry, which `read` gets by its index, unless `slice` is over.
    #[inline(always)]
    pub(super) fn next(&mut self, read: impl FnOnce(usize) -> u32, slice: &mut TimeSlice) -> Next {
        let entry = read(self.index);

        if (entry ^ self.generation) & Self::GENERATION != 0 {
            return Next::Empty;
        }
        if slice.is_over() {
            return Next::Late;
        }
        self.index = self.index.wrapping_add(1) & (self.size.entries() - 1);
        if self.index == 0 {
            self.generation ^= Self::GENERATION;
        }
        Next::Entry((entry & !Self::GENERATION) as usize)
    }

    /// Returns the place behind all entries that hardware has written to a queue of `size`, which
    /// `read` gets by their index.
    ///
    /// It is found in the queue alone, since any number of passes may have gone since the last
    /// look.
    pub(super) fn behind_all(size: QueueSize, read: impl Fn(usize) -> u32) -> Self {
        let generation = read(0) & Self::GENERATION;
        let (mut low, mut high) = (1, size.entries());

        // Those of the present pass come first, and have the generation of the first entry. If all
        // have it the pass is over.
        while low < high {
            let middle = low + (high - low) / 2;

            match read(middle) & Self::GENERATION == generation {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        match low == size.entries() {
            true => Self {
                size,
                index: 0,
                generation: generation ^ Self::GENERATION,
            },
            false => Self {
                size,
                index: low,
                generation,
            },
        }
    }

    /// Returns whether hardware has written the next entry.
    pub(super) fn has_next(&self, read: impl FnOnce(usize) -> u32) -> bool {
        (read(self.index) ^ self.generation) & Self::GENERATION == 0
    }
}

/// A piece of kernel drain: handles up to [`BUDGET`] entries, which `next` takes from the queue, in
/// the time that there is.
///
/// Called when the escalation has fired, which masks it. When the queue is empty this calls
/// `unmask`, and looks at the queue once more, before it returns [`Remaining::Nothing`].
///
/// If entries are left after that, this calls `hold`, which masks the escalation again and returns
/// `false` if it has fired. Then the handler will be called, and they are left to it. Another that
/// went on with them would unmask the escalation while it is on its way, so that nobody could tell that
/// it is, and the queue could go before it arrives.
#[inline(always)]
pub(super) fn drain(
    mut next: impl FnMut() -> Next,
    mut handle: impl FnMut(usize),
    unmask: impl FnOnce(),
    hold: impl FnOnce() -> bool,
) -> Remaining {
    let mut unmask = Some(unmask);

    for _ in 0..BUDGET {
        match (next(), unmask.take()) {
            (Next::Entry(eisn), unused) => {
                unmask = unused;
                handle(eisn);
            }
            (Next::Empty, Some(unmask)) => unmask(),
            (Next::Empty, None) => return Remaining::Nothing,
            (Next::Late, unused) => {
                unmask = unused;
                break;
            }
        }
    }
    match unmask.is_some() || hold() {
        true => Remaining::Some,
        false => Remaining::Nothing,
    }
}

/// Whether the next event is told to the program that drains a queue.
pub(super) struct Arming {
    pub(super) armed: bool,
}

impl Arming {
    /// Armed, as the escalation of a new queue is unmasked.
    pub(super) fn new() -> Self {
        Self { armed: true }
    }

    /// The escalation has fired, which masks it. Returns whether to tell the program.
    pub(super) fn fired(&mut self) -> bool {
        core::mem::take(&mut self.armed)
    }

    /// The program is about to block. Returns whether the escalation must be unmasked; otherwise it
    /// is unmasked already.
    pub(super) fn arm(&mut self) -> bool {
        !core::mem::replace(&mut self.armed, true)
    }
}

#[kunit_tests(uxive_queue)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn entry(generation: u32, eisn: u32) -> u32 {
        generation << 31 | eisn
    }

    /// Takes the next entry, without looking at the time.
    fn next(cursor: &mut Cursor, read: impl FnOnce(usize) -> u32) -> Option<usize> {
        match cursor.next(read, &mut slice()) {
            Next::Entry(eisn) => Some(eisn),
            _ => None,
        }
    }

    #[test]
    fn empty_queue_has_nothing() {
        assert!(next(&mut Cursor::new(QueueSize::SMALL), |_| 0).is_none());
    }

    #[test]
    fn entries_come_in_order() {
        let mut cursor = Cursor::new(QueueSize::SMALL);
        assert_eq!(
            next(&mut cursor, |index| entry(1, 7 + index as u32)),
            Some(7)
        );
        assert_eq!(
            next(&mut cursor, |index| entry(1, 7 + index as u32)),
            Some(8)
        );
        assert_eq!(next(&mut cursor, |_| entry(0, 9)), None);
        assert_eq!(
            next(&mut cursor, |index| entry(1, 7 + index as u32)),
            Some(9)
        );
    }

    #[test]
    fn largest_eisn() {
        assert_eq!(
            next(&mut Cursor::new(QueueSize::SMALL), |_| u32::MAX),
            Some(0x7fff_ffff)
        );
    }

    #[test]
    fn generation_flips_at_each_wrap() {
        let mut cursor = Cursor::new(QueueSize::SMALL);
        for pass in 0..5 {
            let generation = (pass & 1) ^ 1;
            for index in 0..QueueSize::SMALL.entries() {
                assert_eq!(next(&mut cursor, |_| entry(generation ^ 1, 0)), None);
                assert_eq!(
                    next(&mut cursor, |at| entry(generation, at as u32)),
                    Some(index)
                );
            }
        }
    }

    #[test]
    fn the_place_behind_all_is_found_after_any_number_of_passes() {
        let entries = QueueSize::SMALL.entries();

        for passes in 0..5 {
            for more in [0, 1, 2, 3, 64, 1000, entries / 2, entries - 1] {
                // Hardware has written this many since the queue was set up.
                let written = passes * entries + more;
                let read = |written: usize| {
                    move |index: usize| {
                        let passes = (written + entries - 1 - index) / entries;
                        entry(passes as u32 & 1, 0)
                    }
                };
                let cursor = Cursor::behind_all(QueueSize::SMALL, read(written));

                assert_eq!(cursor.index, more);
                assert!(!cursor.has_next(read(written)));
                assert!(cursor.has_next(read(written + 1)));
            }
        }
    }

    /// A queue and its escalation, as hardware and the irq core keep them. An event comes by itself
    /// at a step that the test chooses.
    struct Machine {
        entries: Cell<usize>,
        masked: Cell<bool>,
        /// The escalation has fired, and the handler was not called for it yet.
        fired: Cell<bool>,
        steps_to_event: Cell<usize>,
    }

    impl Machine {
        fn new(masked: bool, steps_to_event: usize) -> Self {
            Self {
                entries: Cell::new(0),
                masked: Cell::new(masked),
                fired: Cell::new(false),
                steps_to_event: Cell::new(steps_to_event),
            }
        }

        fn event(&self) {
            self.entries.set(self.entries.get() + 1);
            if !self.masked.replace(true) {
                self.fired.set(true);
            }
        }

        fn step(&self) {
            let left = self.steps_to_event.get();
            if left == 1 {
                self.event();
            }
            self.steps_to_event.set(left.saturating_sub(1));
        }

        fn take(&self) -> Option<usize> {
            self.step();
            let entries = self.entries.get();
            self.entries.set(entries.saturating_sub(1));
            (entries > 0).then_some(0)
        }

        /// As [`Self::take`], but of no more than `left`.
        fn take_in_time(&self, left: &Cell<usize>) -> Next {
            self.step();
            match (self.entries.get(), left.get()) {
                (0, _) => Next::Empty,
                (_, 0) => Next::Late,
                (entries, in_time) => {
                    self.entries.set(entries - 1);
                    left.set(in_time - 1);
                    Next::Entry(0)
                }
            }
        }

        fn unmask(&self) {
            self.step();
            self.masked.set(false);
        }

        fn hold(&self) -> bool {
            self.step();
            !self.masked.replace(true)
        }
    }

    /// `before` entries are there, one more comes at `step`, and there is time for `in_time`.
    fn drained(before: usize, step: usize, in_time: usize) -> (usize, Remaining, Machine) {
        let machine = Machine::new(true, step);
        machine.entries.set(before);
        let (handled, left) = (Cell::new(0), Cell::new(in_time));
        let remaining = drain(
            || machine.take_in_time(&left),
            |_| handled.set(handled.get() + 1),
            || machine.unmask(),
            || machine.hold(),
        );

        (handled.get(), remaining, machine)
    }

    /// Returns whether those that are left are another run's, in hard interrupt context or outside, but
    /// not of both: the one outside may unmask the escalation.
    fn has_one_next_run(remaining: Remaining, machine: &Machine) -> bool {
        match remaining {
            Remaining::Some => machine.masked.get() && !machine.fired.get(),
            Remaining::Nothing => machine.entries.get() == 0 || machine.fired.get(),
        }
    }

    #[test]
    fn no_event_is_left_whenever_it_comes() {
        for before in 0..BUDGET + 2 {
            for step in 0..BUDGET + 4 {
                let (handled, remaining, machine) = drained(before, step, usize::MAX);

                assert!(handled <= BUDGET);
                assert!(has_one_next_run(remaining, &machine));
            }
        }
    }

    #[test]
    fn no_event_is_left_when_there_is_no_time() {
        for before in 0..8 {
            for step in 0..12 {
                for in_time in 0..8 {
                    let (handled, remaining, machine) = drained(before, step, in_time);

                    assert!(handled <= in_time);
                    assert!(has_one_next_run(remaining, &machine));
                }
            }
        }
    }

    #[test]
    fn an_entry_for_which_there_is_no_time_is_not_taken() {
        let mut cursor = Cursor::new(QueueSize::SMALL);
        let mut over = TimeSlice::of_micros(0);

        assert!(matches!(
            cursor.next(|_| entry(1, 7), &mut over),
            Next::Entry(7)
        ));
        while !over.is_over() {}
        assert!(matches!(
            cursor.next(|_| entry(0, 8), &mut over),
            Next::Empty
        ));
        assert!(matches!(
            cursor.next(|_| entry(1, 8), &mut over),
            Next::Late
        ));
        assert_eq!(next(&mut cursor, |_| entry(1, 8)), Some(8));
    }

    #[test]
    fn an_empty_queue_is_unmasked_once() {
        let unmasked = Cell::new(0);
        let remaining = drain(
            || Next::Empty,
            |_| (),
            || unmasked.set(unmasked.get() + 1),
            || false,
        );

        assert!(remaining == Remaining::Nothing);
        assert_eq!(unmasked.get(), 1);
    }

    #[test]
    fn a_storm_uses_up_the_budget_and_stays_masked() {
        let (handled, unmasked) = (Cell::new(0), Cell::new(false));
        let remaining = drain(
            || Next::Entry(0),
            |_| handled.set(handled.get() + 1),
            || unmasked.set(true),
            || false,
        );

        assert!(remaining == Remaining::Some);
        assert_eq!(handled.get(), BUDGET);
        assert!(!unmasked.get());
    }

    /// The program looks, arms, looks again and blocks, while the handler is called `delay` steps
    /// after the escalation has fired.
    fn program_gets_event(arming: &mut Arming, machine: &Machine, delay: usize) -> bool {
        let mut signalled = false;
        let mut waited = 0;
        let mut pass = |arming: &mut Arming| {
            if machine.fired.get() {
                waited += 1;
                if waited > delay {
                    machine.fired.set(false);
                    signalled |= arming.fired();
                }
            }
        };

        pass(arming);
        let mut seen = machine.take().is_some();
        pass(arming);
        if arming.arm() {
            machine.unmask();
        }
        pass(arming);
        seen |= machine.take().is_some();
        // Blocked: whatever is to come comes now.
        while machine.steps_to_event.get() > 0 {
            machine.step();
        }
        for _ in 0..=delay {
            pass(arming);
        }
        seen || signalled
    }

    #[test]
    fn no_event_leaves_the_program_blocked() {
        for masked in [false, true] {
            for step in 1..6 {
                for delay in 0..6 {
                    let machine = Machine::new(masked, step);
                    let mut arming = Arming { armed: !masked };

                    assert!(program_gets_event(&mut arming, &machine, delay));
                }
            }
        }
    }

    #[test]
    fn the_program_is_told_once_for_each_arming() {
        let mut arming = Arming::new();

        assert!(!arming.arm());
        assert!(arming.fired());
        assert!(!arming.fired());
        assert!(arming.arm());
        assert!(!arming.arm());
        assert!(arming.fired());
    }
}
