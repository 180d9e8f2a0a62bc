// SPDX-License-Identifier: GPL-2.0

//! Events of a context other than its interrupts, told to the program by `read` and `poll`.
//!
//! # Locks
//!
//! One mutex, [`EventLog::pending`], guards all that there is. Nothing is taken under it, and user
//! memory is not copied under it: a reader takes an event out, copies it, and comes back to say that
//! it is done, or to put the event back. The room of an event that is out is not given to another,
//! so it can always be put back.
//!
//! A reader looks at the log and queues itself under the mutex. Adding an event, or putting one
//! back, takes the mutex too, and wakes all readers after that. So no reader waits while there is
//! an event, even if others that were woken do not read it.
//!
//! epoll and io_uring queue up once, by their first look at a file, for all that it may ever be
//! ready for. So [`EventLog::pollers`] is there from the beginning, before there is a queue that
//! wakes them.

use crate::{
    kernel_ext::{
        file::PollEvents,
        mapping::FileMapping, //
    },
    uapi::{
        ocxl_event_type_OCXL_AFU_EVENT_XSL_FAULT_ERROR as AFU_FAULT,
        OCXL_KERNEL_EVENT_FLAG_LAST as FLAG_LAST,
        *, //
    },
    xive::{
        QuiesceError,
        Resource, //
    }, //
};
use kernel::{
    fs::File,
    iov::IovIterDest,
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        poll::{
            PollCondVarBox,
            PollTable, //
        },
        Arc,
        CondVar,
        Mutex, //
    }, //
};

/// How many events a log has room for.
const CAPACITY: usize = 32;

/// Something to tell the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The interrupt that was at `offset` was put into quarantine.
    Quarantined { offset: u64, reason: QuiesceError },
    /// It has left it, and was freed.
    Released { offset: u64 },
    /// Firmware had no more of this, so a call failed.
    Exhausted(Resource),
    /// So many events found no room. Made by the log.
    Dropped(u64),
    /// The AFU touched what it may not, at this offset in the context's MMIO: `count` times since the
    /// last of these; `code` is that of the last.
    AfuFault { address: u64, code: u64, count: u64 },
    /// The AFU had another error, `count` times since the last of these; `code` is that of the last.
    AfuError { code: u64, count: u64 },
    /// There is no AFU any more.
    Gone(Gone),
    /// The message of the interrupt at `offset` came `count` times in a period, and was held back for the
    /// rest of it; or those in `export`, unless that is 0, came so often together.
    Storm {
        offset: u64,
        count: u64,
        export: u32,
    },
}

/// Why there is no AFU any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The driver was unbound from its function, or that was removed.
    Unbound = UXIVE_GONE_UNBOUND as isize,
    /// It has not answered for some seconds, or what is read of it says that it is not there.
    Silent = UXIVE_GONE_SILENT as isize,
    /// Its function is reset.
    Reset = UXIVE_GONE_RESET as isize,
}

/// The record that is read for an event: a [`uxive_event`], with the body as words.
#[repr(C)]
#[derive(IntoBytes, FromBytes)]
struct Record {
    header: uxive_event_header,
    body: [u64; 4],
}

const _: () = assert!(size_of::<Record>() == size_of::<uxive_event>());

impl Record {
    fn new(event: Event, last: bool) -> Self {
        let (kind, body) = match event {
            Event::Quarantined { offset, reason } => {
                let reason = match reason {
                    QuiesceError::Source => UXIVE_QUARANTINE_SOURCE,
                    // Others are those of contexts that are closed, which nobody reads.
                    _ => UXIVE_QUARANTINE_EVENTS,
                };
                (UXIVE_EVENT_QUARANTINED, [offset, reason.into(), 0, 0])
            }
            Event::Released { offset } => (UXIVE_EVENT_RELEASED, [offset, 0, 0, 0]),
            Event::Exhausted(resource) => {
                let resource = match resource {
                    Resource::Interrupt => UXIVE_RESOURCE_IRQ,
                    Resource::VirtualProcessor => UXIVE_RESOURCE_VP,
                    Resource::Message => UXIVE_RESOURCE_MESSAGE,
                };
                (UXIVE_EVENT_EXHAUSTED, [resource.into(), 0, 0, 0])
            }
            Event::Dropped(count) => (UXIVE_EVENT_DROPPED, [count, 0, 0, 0]),
            Event::AfuFault {
                address,
                code,
                count,
            } => (AFU_FAULT, [address, code, count, 0]),
            Event::AfuError { code, count } => (UXIVE_EVENT_AFU_ERROR, [code, count, 0, 0]),
            Event::Gone(reason) => (UXIVE_EVENT_GONE, [reason as u64, 0, 0, 0]),
            Event::Storm {
                offset,
                count,
                export,
            } => (UXIVE_EVENT_STORM, [offset, count, export.into(), 0]),
        };

        Self {
            header: uxive_event_header {
                type_: kind as u16,
                flags: if last { FLAG_LAST as u16 } else { 0 },
                // Those of ocxl's own are as it has them.
                length: match kind {
                    AFU_FAULT => 0,
                    _ => size_of::<Self>() as u32,
                },
            },
            body,
        }
    }
}

/// The events that were not read yet, the oldest first.
struct Pending {
    // Made with room for `CAPACITY`, and never more than that.
    events: KVec<Event>,
    /// How many are out: taken, and neither done with nor put back.
    out: usize,
    /// How many found no room, after all of `events`.
    dropped: u64,
    /// The event that comes after all of these, and needs no room.
    end: Option<Event>,
    /// No event will follow those that are there.
    ended: bool,
}

impl Pending {
    fn new() -> Result<Self> {
        Ok(Self {
            events: KVec::with_capacity(CAPACITY, GFP_KERNEL_ACCOUNT)?,
            out: 0,
            dropped: 0,
            end: None,
            ended: false,
        })
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.dropped == 0 && self.end.is_none()
    }

    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.events.len().saturating_add(self.out))
    }

    /// Adds an event, or counts it if there is no room; none after the end. Does not allocate memory.
    fn add(&mut self, event: Event) {
        if self.ended {
            return;
        }
        // There must also be room for the event that tells of the dropped ones.
        if self.dropped > 0 && self.room() >= 2 {
            let dropped = core::mem::take(&mut self.dropped);
            let _ = self.events.push_within_capacity(Event::Dropped(dropped));
        }
        if self.dropped > 0 || self.room() == 0 {
            self.dropped = self.dropped.saturating_add(1);
        } else {
            let _ = self.events.push_within_capacity(event);
        }
    }

    /// Adds an event if there is room, and none was dropped before it. Returns whether it did.
    fn offer(&mut self, event: Event) -> bool {
        let taken = self.dropped == 0 && self.room() > 0;

        if taken {
            self.add(event);
        }
        taken
    }

    /// Adds the last event, for which there is always room.
    fn end(&mut self, event: Event) {
        if !core::mem::replace(&mut self.ended, true) {
            self.end = Some(event);
        }
    }

    /// Takes the oldest event out, and tells whether it is the last.
    ///
    /// The caller must call [`Self::done`] or [`Self::put_back`] after it.
    fn take(&mut self) -> Option<(Event, bool)> {
        let event = match self.events.remove(0) {
            Ok(event) => event,
            Err(_) if self.dropped > 0 => Event::Dropped(core::mem::take(&mut self.dropped)),
            Err(_) => self.end.take()?,
        };

        self.out = self.out.saturating_add(1);
        Some((event, self.is_empty()))
    }

    /// An event that was taken has been read.
    fn done(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// An event that was taken has not been read: it is the oldest again. Does not allocate memory.
    fn put_back(&mut self, event: Event) {
        self.out = self.out.saturating_sub(1);
        match event {
            // It may have had no room of its own.
            Event::Dropped(count) if self.room() == 0 => {
                self.dropped = self.dropped.saturating_add(count);
            }
            Event::Gone(_) => self.end = Some(event),
            event => {
                let _ = self.events.insert_within_capacity(0, event);
            }
        }
    }
}

/// The events of a context.
#[pin_data]
pub(crate) struct EventLog {
    #[pin]
    pending: Mutex<Pending>,
    /// The threads that wait for an event in `read`.
    #[pin]
    readers: CondVar,
    /// That of the file, which has those that wait for anything by `poll` and its kin.
    mapping: Arc<FileMapping>,
}

impl EventLog {
    /// Makes an empty log, with room for all that it will ever hold, of the file whose mapping is `mapping`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(mapping: Arc<FileMapping>) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                pending <- new_mutex!(Pending::new()?, "uxive_events"),
                readers <- new_condvar!("uxive_event_readers"),
                mapping,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the pollers of the file.
    pub(crate) fn pollers(&self) -> &PollCondVarBox {
        self.mapping.pollers()
    }

    /// Wakes all, also those with `EPOLLEXCLUSIVE`: a single one might wait for something else.
    fn wake(&self) {
        self.readers.notify_all();
        self.pollers().notify_all();
    }

    /// Tells the program of `event`, or of one more that was dropped. To be called in process
    /// context; waits for no reader, and allocates no memory.
    pub(crate) fn report(&self, event: Event) {
        self.pending.lock().add(event);
        self.wake();
    }

    /// Tells the program of `event` if there is room for it. Returns whether there was. As
    /// [`Self::report`] otherwise.
    pub(crate) fn offer(&self, event: Event) -> bool {
        let taken = self.pending.lock().offer(event);

        if taken {
            self.wake();
        }
        taken
    }

    /// Tells the program of `event` as the last one ever. As [`Self::report`] otherwise.
    pub(crate) fn end(&self, event: Event) {
        self.pending.lock().end(event);
        self.wake();
    }

    /// Returns [`PollEvents::READABLE`] if there is an event, and [`PollEvents::HANG_UP`] after the
    /// [end](Self::end). Wakes pollers of `file` at either.
    pub(crate) fn poll(&self, file: &File, table: &PollTable<'_>) -> PollEvents {
        // Before looking, or an event in between would wake nobody.
        table.register_wait(file, self.pollers());

        let pending = self.pending.lock();
        let readable = match pending.is_empty() {
            true => PollEvents::NONE,
            false => PollEvents::READABLE,
        };
        match pending.ended {
            true => readable | PollEvents::HANG_UP,
            false => readable,
        }
    }

    /// Copies events to `to`, the oldest first: as many whole ones as fit, or up to the last. If there
    /// is none, waits for one if it `may_wait`. Returns the number of bytes.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no room for one event.
    /// - `ENODEV` if there is none, and none will come.
    /// - `EAGAIN` if there is none, and it may not wait.
    /// - `ERESTARTSYS` if a signal came first.
    /// - `EFAULT` if the first could not be copied. An event that could not be copied stays.
    pub(crate) fn read(&self, to: &mut IovIterDest<'_>, may_wait: bool) -> Result<usize> {
        let mut len = 0;
        if to.len() < size_of::<Record>() {
            return Err(EINVAL);
        }

        let mut taken = Some(self.take(may_wait)?);
        while let Some((event, last)) = taken {
            let mut record = Record::new(event, last);
            let copied = to.copy_to_iter(record.as_mut_bytes());

            let mut pending = self.pending.lock();
            if copied < size_of::<Record>() {
                pending.put_back(event);
                drop(pending);
                // Others may have found nothing meanwhile.
                self.wake();
                return if len > 0 { Ok(len) } else { Err(EFAULT) };
            }
            pending.done();
            len += copied;
            // Events that came since the last one are for the next call, which will find them.
            taken = if last || to.len() < size_of::<Record>() {
                None
            } else {
                pending.take()
            };
        }
        Ok(len)
    }

    /// Takes an event out of the log, when there is one.
    fn take(&self, may_wait: bool) -> Result<(Event, bool)> {
        let mut pending = self.pending.lock();

        loop {
            if let Some(taken) = pending.take() {
                return Ok(taken);
            }
            if pending.ended {
                return Err(ENODEV);
            }
            if !may_wait {
                return Err(EAGAIN);
            }
            // Even if there is an event by now: a reader that is killed leaves it to others.
            if self.readers.wait_interruptible(&mut pending) {
                return Err(ERESTARTSYS);
            }
        }
    }
}

#[kunit_tests(uxive_events)]
mod tests {
    use super::*;

    fn numbered(offset: u64) -> Event {
        Event::Released { offset }
    }

    fn full() -> Result<Pending> {
        let mut pending = Pending::new()?;
        for n in 0..CAPACITY as u64 {
            pending.add(numbered(n));
        }
        Ok(pending)
    }

    /// Reads all, and returns how many there were; each is compared with what `expected` makes of its
    /// place.
    fn read_all(pending: &mut Pending, expected: impl Fn(u64) -> Event) -> u64 {
        let mut count = 0;
        while let Some((event, last)) = pending.take() {
            pending.done();
            assert_eq!(event, expected(count));
            assert_eq!(last, pending.is_empty());
            count += 1;
        }
        count
    }

    #[test]
    fn a_record_is_as_the_header_says() {
        assert_eq!(size_of::<Record>(), 40);

        let reason = QuiesceError::Events;
        let offset = 1 << 40;
        for (event, kind, body) in [
            (
                Event::Quarantined { offset, reason },
                0x40,
                [offset, 2, 0, 0],
            ),
            (Event::Released { offset }, 0x41, [offset, 0, 0, 0]),
            (Event::Exhausted(Resource::Interrupt), 0x42, [1, 0, 0, 0]),
            (
                Event::Exhausted(Resource::VirtualProcessor),
                0x42,
                [2, 0, 0, 0],
            ),
            (Event::Exhausted(Resource::Message), 0x42, [3, 0, 0, 0]),
            (Event::Dropped(7), 0x43, [7, 0, 0, 0]),
            (
                Event::AfuFault {
                    address: 5,
                    code: 6,
                    count: 7,
                },
                0,
                [5, 6, 7, 0],
            ),
            (Event::AfuError { code: 6, count: 7 }, 0x44, [6, 7, 0, 0]),
            (Event::Gone(Gone::Unbound), 0x45, [1, 0, 0, 0]),
            (Event::Gone(Gone::Silent), 0x45, [2, 0, 0, 0]),
            (Event::Gone(Gone::Reset), 0x45, [3, 0, 0, 0]),
            (
                Event::Storm {
                    offset,
                    count: 7,
                    export: 8,
                },
                0x46,
                [offset, 7, 8, 0],
            ),
        ] {
            for last in [false, true] {
                let record = Record::new(event, last);
                let length = if kind == 0 { 0 } else { 40 };
                assert_eq!((record.header.type_, record.body), (kind, body));
                assert_eq!(record.header.flags, u16::from(last));
                assert_eq!(record.header.length, length);
            }
        }
    }

    #[test]
    fn an_empty_log_has_nothing() -> Result {
        let mut pending = Pending::new()?;
        assert!(pending.is_empty());
        assert!(pending.take().is_none());
        assert_eq!(pending.out, 0);
        Ok(())
    }

    #[test]
    fn events_come_in_order_and_the_last_is_told() -> Result {
        let mut pending = full()?;
        assert_eq!(read_all(&mut pending, numbered), CAPACITY as u64);
        Ok(())
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_in_its_place() -> Result {
        let mut pending = full()?;
        for n in 0..5 {
            pending.add(numbered(100 + n));
        }
        // Reading one event makes room for one, but not for the count of dropped ones and this one.
        assert!(pending.take().is_some());
        pending.done();
        pending.add(numbered(105));
        assert!(pending.take().is_some());
        pending.done();
        pending.add(numbered(106));

        let count = read_all(&mut pending, |n| match n {
            0..30 => numbered(n + 2),
            30 => Event::Dropped(6),
            _ => numbered(106),
        });
        assert_eq!(count, 32);
        Ok(())
    }

    #[test]
    fn drops_alone_are_an_event() -> Result {
        let mut pending = full()?;
        pending.add(numbered(100));
        for _ in 0..CAPACITY {
            assert!(matches!(
                pending.take(),
                Some((Event::Released { .. }, false))
            ));
            pending.done();
        }
        assert!(!pending.is_empty());
        assert_eq!(pending.take(), Some((Event::Dropped(1), true)));
        assert!(pending.is_empty());
        Ok(())
    }

    #[test]
    fn what_was_not_read_comes_first_again() -> Result {
        let mut pending = full()?;
        for _ in 0..3 {
            assert_eq!(pending.take(), Some((numbered(0), false)));
            pending.put_back(numbered(0));
        }
        assert_eq!(read_all(&mut pending, numbered), CAPACITY as u64);
        Ok(())
    }

    #[test]
    fn what_is_put_back_has_kept_its_room() -> Result {
        let mut pending = full()?;
        for n in 0..CAPACITY as u64 {
            assert_eq!(pending.take().map(|(event, _)| event), Some(numbered(n)));
        }
        // All are out, by as many readers.
        pending.add(numbered(100));
        pending.add(numbered(101));
        // One more takes the count, for which there is no room but its own.
        assert_eq!(pending.take(), Some((Event::Dropped(2), true)));
        pending.put_back(Event::Dropped(2));
        for n in (0..CAPACITY as u64).rev() {
            pending.put_back(numbered(n));
        }
        assert_eq!(pending.out, 0);
        let count = read_all(&mut pending, |n| match n {
            0..32 => numbered(n),
            _ => Event::Dropped(2),
        });
        assert_eq!(count, 33);
        Ok(())
    }

    #[test]
    fn a_count_that_was_not_read_is_not_lost() -> Result {
        let mut pending = full()?;
        pending.add(numbered(100));
        for _ in 0..CAPACITY {
            pending.take();
            pending.done();
        }
        assert_eq!(pending.take(), Some((Event::Dropped(1), true)));
        pending.put_back(Event::Dropped(1));
        assert_eq!(pending.take(), Some((Event::Dropped(1), true)));

        for n in 0..CAPACITY as u64 {
            pending.add(numbered(n));
        }
        pending.put_back(Event::Dropped(1));
        let count = read_all(&mut pending, |n| match n {
            0 => Event::Dropped(1),
            1..32 => numbered(n - 1),
            _ => Event::Dropped(1),
        });
        assert_eq!(count, 33);
        Ok(())
    }

    #[test]
    fn the_end_finds_room_and_nothing_comes_after_it() -> Result {
        let mut pending = full()?;
        let end = Event::Gone(Gone::Silent);
        pending.add(numbered(100));
        pending.end(end);
        pending.end(Event::Gone(Gone::Unbound));
        pending.add(numbered(101));
        for n in 0..CAPACITY as u64 {
            assert_eq!(pending.take(), Some((numbered(n), false)));
            pending.done();
        }
        assert_eq!(pending.take(), Some((Event::Dropped(1), false)));
        pending.done();
        for _ in 0..3 {
            assert_eq!(pending.take(), Some((end, true)));
            assert!(pending.take().is_none());
            pending.put_back(end);
        }
        assert_eq!(pending.take(), Some((end, true)));
        pending.done();
        pending.add(numbered(102));
        pending.end(end);
        assert!(pending.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_offered_is_taken_if_there_is_room() -> Result {
        let mut pending = full()?;
        assert!(!pending.offer(numbered(100)));
        pending.add(numbered(100));
        for n in 0..2 {
            assert_eq!(pending.take(), Some((numbered(n), false)));
            pending.done();
        }
        // Not before what tells of the one that was dropped.
        assert!(!pending.offer(numbered(101)));
        let count = read_all(&mut pending, |n| match n {
            0..30 => numbered(n + 2),
            _ => Event::Dropped(1),
        });
        assert_eq!(count, 31);
        assert!(pending.offer(numbered(102)));
        assert_eq!(pending.take(), Some((numbered(102), true)));
        Ok(())
    }
}
