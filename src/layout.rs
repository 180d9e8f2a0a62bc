// SPDX-License-Identifier: GPL-2.0

//! The offsets of a context file: which window an offset lies in, and at which index.
//!
//! Pure arithmetic. Windows lie at fixed offsets, far apart, below 2^44 so that 32-bit programs
//! reach them by `mmap2`. Offset 0 is never an interrupt, since libocxl takes it for "none".

use crate::xive::{
    QueueSize,
    SourceKind,
    MAX_SOURCES, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// The most interrupts that one context can have: as many as a small event queue has entries.
pub(crate) const MAX_IRQS: usize = QueueSize::SMALL.entries();

/// The most interrupts that a range can have, which is what there are in all.
pub(crate) const MAX_RANGE: usize = MAX_SOURCES;

/// How many neighbouring interrupts a fault considers: the touched one and those around it that are
/// allocated are mapped at once.
const FAULT_AROUND: usize = 64;

/// How many it considers of those that came in one call with it. A fault holds the lock of the slots as
/// long as it takes to map them, and looks at no signal meanwhile.
const FAULT_JOINED: usize = 256;

/// Returns the number of mappable pages of an event queue.
const fn queue_pages(size: QueueSize) -> usize {
    size.bytes().div_ceil(PAGE_SIZE)
}

/// Which windows a file has: those of [`Window`], as far as it needs them.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    slots: usize,
}

impl Layout {
    /// Returns the layout of a file with so many slots, at most [`MAX_RANGE`].
    pub(crate) const fn new(slots: usize) -> Self {
        Self { slots }
    }

    /// Returns the number of slots.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Returns the size of its event queue.
    pub(crate) fn queue_size(&self) -> QueueSize {
        QueueSize::of(self.slots)
    }

    /// Returns the trigger pages.
    pub(crate) fn trigger(&self) -> Window {
        Window::TRIGGER.first(self.slots)
    }

    /// Returns the pages of the sources, of two for each slot.
    pub(crate) fn esb(&self) -> Window {
        Window::ESB.first(4 * self.slots)
    }

    /// Returns the event queue.
    pub(crate) fn queue(&self) -> Window {
        Window::QUEUE.first(queue_pages(self.queue_size()))
    }

    /// Returns the kind of the page that begins at `offset`, in a window or before the first one.
    #[inline(always)]
    pub(crate) fn resolve(&self, offset: u64) -> Option<Place> {
        if let Some(index) = Window::TRIGGER.index(offset) {
            Some(Place::Trigger(index))
        } else if let Some(page) = Window::ESB.index(offset) {
            let (source, index) = SourceKind::of_eisn(page / 2, self.queue_size());

            Some(Place::Esb(source, index))
        } else if offset < Window::TRIGGER.base() {
            Some(Place::Mmio)
        } else {
            Window::QUEUE.index(offset).map(|_| Place::Queue)
        }
    }

    /// Returns the area in which all of the `len` bytes at `offset` lie. That of an AFU's MMIO has
    /// `mmio_size` bytes.
    pub(crate) fn area(&self, offset: u64, len: u64, mmio_size: u64) -> Option<Area> {
        let end = offset.checked_add(len)?;

        if self.trigger().contains(offset, len) {
            Some(Area::Trigger)
        } else if self.esb().contains(offset, len) {
            Some(Area::Esb)
        } else if self.queue().contains(offset, len) {
            Some(Area::Queue)
        } else {
            (end <= mmio_size).then_some(Area::Mmio)
        }
    }
}

/// The kinds of pages of a context file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A page of the AFU's MMIO.
    Mmio,
    /// The trigger page of a slot.
    Trigger(usize),
    /// A page of the pair of a source of a slot.
    Esb(SourceKind, usize),
    /// A page of the event queue.
    Queue,
}

/// The areas of a context file that can be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Area {
    Mmio,
    Trigger,
    Esb,
    Queue,
}

/// Pages at regular distances in a context file.
///
/// The page of an index is the first of its stride; with pages smaller than the stride nothing
/// lies behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    base: u64,
    stride: u64,
    count: usize,
}

impl Window {
    /// The trigger pages of the interrupts, by slot.
    pub(crate) const TRIGGER: Self = Self::new(1 << 40, 64 * 1024, MAX_RANGE);

    /// The pages of the sources of a user-drained context: those of EISN `n` at `2 * n`, the trigger
    /// page, and `2 * n + 1`, the management page.
    pub(crate) const ESB: Self = Self::new(2 << 40, 64 * 1024, 4 * MAX_RANGE);

    /// The event queue of a user-drained context, page by page.
    pub(crate) const QUEUE: Self =
        Self::new(3 << 40, PAGE_SIZE as u64, queue_pages(QueueSize::LARGE));

    const fn new(base: u64, stride: u64, count: usize) -> Self {
        // All windows together lie below 2^44, so nothing overflows in the functions below.
        assert!(base + stride * count as u64 <= 1 << 44);
        assert!(stride >= PAGE_SIZE as u64);
        Self {
            base,
            stride,
            count,
        }
    }

    /// Returns the window of its first pages, `count` at most.
    fn first(self, count: usize) -> Self {
        Self {
            count: self.count.min(count),
            ..self
        }
    }

    /// Returns the window of a file that shows the trigger pages of `count` slots and nothing else, if
    /// a context can have so many.
    pub(crate) fn of_doorbells(count: usize) -> Option<Self> {
        (count <= Self::TRIGGER.count).then_some(Self {
            base: 0,
            stride: Self::TRIGGER.stride,
            count,
        })
    }

    /// Returns the offset of the first page, in bytes.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// Returns the distance of the pages, in bytes.
    pub(crate) const fn stride(&self) -> u64 {
        self.stride
    }

    /// Returns the distance from the first page to the end of the last one's stride, in bytes.
    pub(crate) const fn len(&self) -> u64 {
        self.stride * self.count as u64
    }

    /// Returns the offsets of all bytes.
    pub(crate) const fn all(&self) -> Range<u64> {
        self.base..self.base + self.len()
    }

    /// Returns the offset of the page of `index`, if there can be one.
    pub(crate) fn offset(&self, index: usize) -> Option<u64> {
        (index < self.count).then(|| self.base + index as u64 * self.stride)
    }

    /// Returns the offsets of the bytes of the page of `index`, if there can be one.
    pub(crate) fn page(&self, index: usize) -> Option<Range<u64>> {
        let offset = self.offset(index)?;

        Some(offset..offset + PAGE_SIZE as u64)
    }

    /// Returns the index of the page that is at `offset` exactly.
    pub(crate) fn index(&self, offset: u64) -> Option<usize> {
        let within = offset.checked_sub(self.base)?;

        (within < self.len() && within % self.stride == 0).then(|| (within / self.stride) as usize)
    }

    /// Returns the indices of the pages that begin at one of `offsets`.
    #[inline]
    pub(crate) fn indices(&self, offsets: Range<u64>) -> Range<usize> {
        let index = |offset: u64| {
            let within = offset.saturating_sub(self.base).min(self.len());
            within.div_ceil(self.stride) as usize
        };

        index(offsets.start)..index(offsets.end)
    }

    /// Returns which indices, if they came in one call with `index`, are mapped with it.
    #[inline]
    pub(crate) fn near(index: usize) -> Range<usize> {
        let first = index - index % FAULT_JOINED;

        first..first + FAULT_JOINED
    }

    /// Returns the indices around and without `index`, and those of `joined`, whose pages lie at
    /// offsets that are `covered`.
    #[inline(always)]
    pub(crate) fn around(
        &self,
        index: usize,
        joined: Range<usize>,
        covered: Range<u64>,
    ) -> impl Iterator<Item = usize> {
        let covered = self.indices(covered);
        let first = index - index % FAULT_AROUND;
        let around = first.min(joined.start)..(first + FAULT_AROUND).max(joined.end);

        (around.start.max(covered.start)..around.end.min(covered.end))
            .filter(move |&other| other != index)
    }

    /// Returns whether all of the `len` bytes at `offset` lie in it.
    pub(crate) fn contains(&self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);

        offset >= self.base && end.is_some_and(|end| end <= self.base + self.len())
    }
}

#[kunit_tests(uxive_layout)]
mod tests {
    use super::*;

    /// Returns the slot whose page is at `offset`.
    fn slot(layout: &Layout, offset: u64) -> Option<usize> {
        match layout.resolve(offset)? {
            Place::Trigger(slot) | Place::Esb(_, slot) => Some(slot),
            Place::Mmio | Place::Queue => None,
        }
    }

    impl Window {
        const ALL: [Self; 3] = [Self::TRIGGER, Self::ESB, Self::QUEUE];
    }

    #[test]
    fn offset_and_index_are_inverse() {
        for window in Window::ALL {
            for index in 0..window.count {
                assert_eq!(
                    window.offset(index).and_then(|o| window.index(o)),
                    Some(index)
                );
            }
        }
    }

    #[test]
    fn pages_of_slots() {
        let context = Layout::new(MAX_IRQS);
        let slot_at = |offset| slot(&context, offset);
        let last = MAX_IRQS - 1;
        for slot in [0, 1, last] {
            let pages = [
                (context.trigger(), slot),
                (context.esb(), 2 * slot),
                (context.esb(), 2 * slot + 1),
                (context.esb(), 2 * (MAX_IRQS + slot)),
                (context.esb(), 2 * (MAX_IRQS + slot) + 1),
            ];
            for (window, index) in pages {
                assert_eq!(window.offset(index).and_then(slot_at), Some(slot));
            }
        }
        assert!(slot_at(Window::QUEUE.base()).is_none());
        assert!(slot_at(Window::TRIGGER.base() + 8).is_none());
    }

    #[test]
    fn every_window_is_resolved() {
        let context = Layout::new(MAX_IRQS);
        let (trigger, esb, queue) = (Window::TRIGGER, Window::ESB, Window::QUEUE);
        for (offset, place) in [
            (0, Some(Place::Mmio)),
            (trigger.base() - 1, Some(Place::Mmio)),
            (trigger.base(), Some(Place::Trigger(0))),
            (trigger.base() + trigger.stride() / 2, None),
            (esb.base(), Some(Place::Esb(SourceKind::Ipi, 0))),
            (
                esb.base() + esb.stride(),
                Some(Place::Esb(SourceKind::Ipi, 0)),
            ),
            (esb.base() + 1, None),
            (queue.base(), Some(Place::Queue)),
            (queue.base() + queue.len(), None),
            (u64::MAX, None),
        ] {
            assert_eq!(context.resolve(offset), place);
        }
    }

    #[test]
    fn an_area_has_all_of_a_mapping() {
        let context = Layout::new(4);
        let mmio = 0x10000;
        for (window, area) in [
            (context.trigger(), Area::Trigger),
            (context.esb(), Area::Esb),
            (context.queue(), Area::Queue),
        ] {
            let (base, len) = (window.base(), window.len());
            assert_eq!(context.area(base, len, mmio), Some(area));
            assert_eq!(context.area(base + len - 1, 1, mmio), Some(area));
            assert_eq!(context.area(base - 1, 2, mmio), None);
            assert_eq!(context.area(base, len + 1, mmio), None);
            assert_eq!(context.area(base, u64::MAX, mmio), None);
        }
        assert_eq!(context.area(0, mmio, mmio), Some(Area::Mmio));
        assert_eq!(context.area(1, mmio, mmio), None);
        assert_eq!(context.area(0, 1, 0), None);
    }

    #[test]
    fn neighbours_are_covered() {
        let (window, stride) = (Window::TRIGGER, Window::TRIGGER.stride());
        let around = |index, joined, pages: Range<u64>| {
            let offset = |page| window.base() + page * stride;
            let mut all = window.around(index, joined, offset(pages.start)..offset(pages.end));
            let (first, count) = (all.next(), all.by_ref().count());
            (first, count)
        };
        assert_eq!(around(70, 70..71, 0..1000), (Some(64), 62));
        assert_eq!(around(64, 64..65, 0..1000), (Some(65), 62));
        assert_eq!(around(70, 70..71, 69..72), (Some(69), 1));
        assert_eq!(around(70, 70..71, 70..71), (None, 0));
        assert_eq!(around(70, 10..200, 0..1000), (Some(10), 188));
        assert_eq!(around(70, 10..200, 20..90), (Some(20), 68));
    }

    #[test]
    fn those_that_came_in_one_call_are_mapped_in_pieces() {
        for (index, near) in [(0, 0..256), (255, 0..256), (256, 256..512)] {
            assert_eq!(Window::near(index), near);
        }
        // A piece has all that are mapped around an index of it.
        assert_eq!(FAULT_JOINED % FAULT_AROUND, 0);
    }

    #[test]
    fn a_file_has_what_its_slots_need() {
        for (slots, entries) in [
            (1, 1 << 14),
            (MAX_IRQS, 1 << 14),
            (MAX_IRQS + 1, 1 << 19),
            (MAX_RANGE, 1 << 19),
        ] {
            let file = Layout::new(slots);
            assert_eq!(file.queue_size().entries(), entries);
            assert_eq!(file.queue().len(), 4 * entries as u64);
            assert_eq!(file.trigger().len(), (slots as u64) << 16);
            assert!(file.trigger().offset(slots).is_none());
            assert!(file.esb().offset(2 * slots).is_some());
            assert_eq!(
                file.esb()
                    .offset(2 * slots - 1)
                    .and_then(|o| slot(&file, o)),
                Some(slots - 1)
            );
        }
    }

    #[test]
    fn offset_zero_is_nothing() {
        for window in Window::ALL {
            assert!(window.index(0).is_none());
        }
    }

    #[test]
    fn windows_end() {
        for window in Window::ALL {
            assert!(window.offset(window.count).is_none());
            assert!(window.offset(usize::MAX).is_none());
            assert!(window.index(window.base + window.len()).is_none());
            assert!(window.index(u64::MAX).is_none());
        }
    }

    #[test]
    fn offsets_are_taken_whole() {
        for window in Window::ALL {
            assert!(window.index(window.base + 8).is_none());
            assert!(window.index(window.base - window.stride).is_none());
            for bit in 44..64 {
                assert!(window.index(window.base | 1 << bit).is_none());
            }
        }
    }

    #[test]
    fn indices_of_a_range() {
        for window in Window::ALL {
            let (base, stride, count) = (window.base, window.stride, window.count);
            assert_eq!(window.indices(base..base + stride), 0..1);
            assert_eq!(window.indices(base + 1..base + stride + 1), 1..count.min(2));
            assert_eq!(window.indices(0..u64::MAX), 0..count);
            assert!(window.indices(0..base).is_empty());
            assert!(window.indices(base + window.len()..u64::MAX).is_empty());
        }
    }

    #[test]
    fn doorbells_begin_at_zero_and_end_with_the_last() {
        for count in [1, 2, MAX_RANGE] {
            let Some(window) = Window::of_doorbells(count) else {
                panic!("{count} are too many");
            };
            let end = count as u64 * Window::TRIGGER.stride;
            assert_eq!(window.all(), 0..end);
            assert_eq!(window.index(0), Some(0));
            assert_eq!(window.index(end - window.stride), Some(count - 1));
            for nothing in [8, end, end + window.stride, u64::MAX] {
                assert!(window.index(nothing).is_none());
            }
            assert_eq!(window.indices(0..u64::MAX), 0..count);
        }
        assert!(Window::of_doorbells(MAX_RANGE + 1).is_none());
        assert!(Window::of_doorbells(usize::MAX).is_none());
    }

    #[test]
    fn ranges_lie_in_one_window() {
        for window in Window::ALL {
            let (base, len) = (window.base, window.len());
            assert!(window.contains(base, len));
            assert!(window.contains(base + len - 1, 1));
            assert!(!window.contains(base, len + 1));
            assert!(!window.contains(base - 1, 2));
            assert!(!window.contains(base, u64::MAX));
            assert!(!window.contains(u64::MAX, 1));
            assert!(!window.contains(0, 1));
        }
    }
}
