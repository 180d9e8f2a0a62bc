// SPDX-License-Identifier: GPL-2.0

//! How often messages of an AFU may come, as a broken one sends them without a pause.

use crate::xive::MessageEisnTable;

/// How often messages may come: more of a slot within a period are held back until the next.
pub(super) struct Moderation {
    period: u32,
    limit: u32,
    /// How many slots are held back.
    held: usize,
}

/// How often the message of a slot has come.
#[derive(Default)]
pub(super) struct Rate {
    period: u32,
    /// In that period.
    count: u32,
    /// Its interrupt was not ended, so that no further event of it comes.
    held: bool,
    /// The program was told, and it has been held in each period since.
    told: bool,
}

impl Moderation {
    /// One that lets all through.
    pub(super) fn new() -> Self {
        Self {
            period: 0,
            limit: u32::MAX,
            held: 0,
        }
    }

    /// Begins a new period, in which the message of each slot may come `limit` times. Returns whether
    /// there are some that are held back.
    pub(super) fn begin(&mut self, limit: u32) -> bool {
        self.period = self.period.wrapping_add(1);
        self.limit = limit;
        self.held > 0
    }

    /// Ends the interrupt of the message of slot `index` if it is held back. Returns whether to
    /// tell the program.
    pub(super) fn release(&mut self, messages: &mut MessageEisnTable<Rate>, index: usize) -> bool {
        let Some(message) = messages.get_mut(index) else {
            return false;
        };

        if !core::mem::replace(&mut message.with.held, false) {
            return false;
        }
        self.held = self.held.saturating_sub(1);
        message.end_interrupt();
        !core::mem::replace(&mut message.with.told, true)
    }

    /// Forgets the message of slot `index`.
    pub(super) fn forget(&mut self, messages: &mut MessageEisnTable<Rate>, index: usize) {
        let rate = messages.remove(index);
        let held = rate.is_some_and(|rate| rate.held);

        self.held = self.held.saturating_sub(usize::from(held));
    }

    /// Ends the interrupt of a message, unless it has come too often.
    pub(super) fn end_interrupt(&mut self, messages: &mut MessageEisnTable<Rate>, index: usize) {
        if let Some(message) = messages.get_mut(index) {
            match message.with.count(self) {
                false => message.end_interrupt(),
                true => self.held = self.held.saturating_add(1),
            }
        }
    }
}

impl Rate {
    /// Counts an event. Returns whether it was the last that this period has room for.
    fn count(&mut self, moderation: &Moderation) -> bool {
        let periods = moderation.period.wrapping_sub(self.period);

        if periods > 0 {
            if periods > 1 || self.count < moderation.limit {
                self.told = false;
            }
            self.period = moderation.period;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.held = self.count >= moderation.limit;
        self.held
    }
}
