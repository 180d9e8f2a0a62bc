// SPDX-License-Identifier: GPL-2.0

//! Faults of the AFU that a test requests by the global MMIO, with those that are still pending.
//! The engine asks here at each point where it can misbehave.

use std::{
    collections::{
        HashMap,
        HashSet, //
    },
    sync::atomic::Ordering::{
        Acquire,
        Relaxed,
        Release, //
    },
    time::Duration, //
};

use crate::{
    layout::{
        global,
        Layout,
        DESCRIPTOR_SIZE,
        FLAGS,
        GLOBAL, //
    },
    sys::Memory, //
};

/// Bounds the time that a test can ask for by mistake.
const LONGEST: Duration = Duration::from_secs(3600);

/// The one request that is seen by an AFU that is away.
const RETURN: u32 = 12;
const ABSENT: u32 = 13;

/// An action that the engine must take now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Raise this entry of the message store.
    Raise(usize),
    /// Look again which detaches are asked for.
    Detach,
    /// Answer the last request once more: the answer is another one now.
    Answer,
    /// Answer nothing for some time, or until it is to return.
    Vanish(Duration),
}

#[derive(Default)]
pub(crate) struct Misbehaviour {
    go: u32,
    /// The entry of the store that is raised without pause.
    pub(crate) storm: Option<usize>,
    /// Context → the entry to raise behind its next detach.
    pub(crate) late: HashMap<usize, usize>,
    /// Contexts whose detach is not confirmed.
    pub(crate) no_detach: HashSet<usize>,
    /// Answer like a function that is not there.
    pub(crate) absent: bool,
    /// For how long at most to vanish in the middle of the next copy.
    pub(crate) vanish_half: Option<Duration>,
}

impl Misbehaviour {
    /// Checks for a request of a test. The answer is given here, before the action, because an AFU
    /// that has vanished could not give it.
    pub(crate) fn look(&mut self, memory: &Memory, layout: &Layout) -> Option<Act> {
        let go = memory.u32(GLOBAL + global::GO).load(Acquire);

        if go == self.go {
            return None;
        }
        self.go = go;
        let act = self.take(memory, layout);
        memory.u32(GLOBAL + global::GO_DONE).store(go, Release);
        act
    }

    /// Returns whether a test asks a vanished AFU to return. The request is answered later, by
    /// [`Self::look`], when the AFU is back and has done what the driver rang for meanwhile.
    pub(crate) fn is_to_return(&self, memory: &Memory) -> bool {
        memory.u32(GLOBAL + global::GO).load(Acquire) != self.go
            && memory.u32(GLOBAL + global::MISBEHAVE).load(Relaxed) == RETURN
    }

    fn take(&mut self, memory: &Memory, layout: &Layout) -> Option<Act> {
        let argument = memory.u64(GLOBAL + global::ARGUMENT).load(Relaxed);
        let argument2 = memory.u64(GLOBAL + global::ARGUMENT2).load(Relaxed);
        let within = |limit| usize::try_from(argument).ok().filter(|&it| it < limit);
        let time = Duration::from_millis(argument).min(LONGEST);

        match memory.u32(GLOBAL + global::MISBEHAVE).load(Relaxed) {
            1 => return within(layout.entries()).map(Act::Raise),
            2 => self.storm = within(layout.entries()),
            3 => self.storm = None,
            4 => {
                if let Some(context) = within(layout.contexts()) {
                    self.late
                        .extend(layout.entry(context, argument2).map(|it| (context, it)));
                }
            }
            5 => self.no_detach.extend(within(layout.contexts())),
            6 => {
                self.no_detach.clear();
                return Some(Act::Detach);
            }
            7 => return Some(Act::Vanish(time)),
            8 => self.vanish_half = Some(time),
            9 => memory.write(0, &garbage(argument)),
            10 => memory.write(0, &layout.descriptor()),
            11 => memory.u32(FLAGS).store(0, Relaxed),
            RETURN | ABSENT => {
                self.absent = memory.u32(GLOBAL + global::MISBEHAVE).load(Relaxed) == ABSENT;
                return Some(Act::Answer);
            }
            _ => {}
        }
        None
    }

    /// Handles a reset: pending faults are dropped, lasting ones stay.
    pub(crate) fn reset(&mut self) {
        self.storm = None;
        self.late.clear();
        self.vanish_half = None;
    }
}

/// Pseudo-random bytes, by SplitMix64.
fn garbage(mut seed: u64) -> [u8; DESCRIPTOR_SIZE] {
    let mut bytes = [0; DESCRIPTOR_SIZE];

    for chunk in bytes.chunks_exact_mut(8) {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = seed;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ word >> 31).to_le_bytes());
    }
    bytes
}
