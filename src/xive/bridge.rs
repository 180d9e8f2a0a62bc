// SPDX-License-Identifier: GPL-2.0

//! How many messages of a PCI host bridge (PHB) the driver has, of all its functions behind the bridge.
//!
//! A bridge has 2040 or 4088 messages, which all functions behind it share: a disk that is bound when
//! they are gone gets none. So the driver takes half of them at most.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// The part of the messages that the driver takes at most.
const PART: usize = 2;

/// A host bridge.
pub(super) struct Bridge {
    taken: Atomic<usize>,
    limit: usize,
}

impl Bridge {
    /// Makes one that has so many messages.
    pub(super) fn new(messages: usize) -> Self {
        Self {
            taken: Atomic::new(0),
            limit: messages / PART,
        }
    }

    /// Returns whether the driver may have one more message.
    pub(super) fn has_room(&self) -> bool {
        self.taken.load(Relaxed) < self.limit
    }
}

/// A message of a bridge, counted until this is dropped.
pub(super) struct BridgeCharge {
    bridge: Arc<Bridge>,
    count: usize,
}

impl BridgeCharge {
    /// Counts one more message, if the driver may have it.
    pub(super) fn new(bridge: &Arc<Bridge>) -> Option<Self> {
        let mut taken = bridge.taken.load(Relaxed);

        while taken < bridge.limit {
            match bridge.taken.cmpxchg(taken, taken + 1, Relaxed) {
                Ok(_) => return Some(Self::counted(bridge)),
                Err(now) => taken = now,
            }
        }
        None
    }

    /// Counts one more, whether the driver may have it or not: one that the PCI core allocates for us.
    pub(super) fn of_pci_core(bridge: &Arc<Bridge>) -> Self {
        bridge.taken.fetch_add(1, Relaxed);
        Self::counted(bridge)
    }

    fn counted(bridge: &Arc<Bridge>) -> Self {
        Self {
            bridge: bridge.clone(),
            count: 1,
        }
    }

    /// Leaves it counted for ever.
    pub(super) fn leak(&mut self) {
        self.count = 0;
    }
}

impl Drop for BridgeCharge {
    fn drop(&mut self) {
        self.bridge.taken.fetch_sub(self.count, Relaxed);
    }
}

#[kunit_tests(uxive_bridge)]
mod tests {
    use super::*;

    fn bridge(messages: usize) -> Result<Arc<Bridge>> {
        Ok(Arc::new(Bridge::new(messages), GFP_KERNEL)?)
    }

    #[test]
    fn half_is_for_others() -> Result {
        for (messages, most) in [(0, 0), (1, 0), (2, 1), (9, 4), (2040, 1020)] {
            let bridge = bridge(messages)?;
            let mut held = KVec::new();
            while let Some(charge) = BridgeCharge::new(&bridge) {
                assert!(held.len() < most);
                held.push(charge, GFP_KERNEL)?;
            }
            assert_eq!((held.len(), bridge.has_room()), (most, false));
            // One that goes is room for one.
            if held.pop().is_some() {
                assert!(bridge.has_room());
                let another = BridgeCharge::new(&bridge);
                assert!(another.is_some() && BridgeCharge::new(&bridge).is_none());
            }
        }
        Ok(())
    }

    #[test]
    fn one_of_the_pci_core_counts_in_any_case() -> Result {
        let bridge = bridge(4)?;
        let cores = [0; 3].map(|_| BridgeCharge::of_pci_core(&bridge));
        assert!(BridgeCharge::new(&bridge).is_none());
        drop(cores);
        assert!(BridgeCharge::new(&bridge).is_some());
        assert_eq!(bridge.taken.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn a_leaked_one_counts_for_ever() -> Result {
        let bridge = bridge(4)?;
        let mut leaked = BridgeCharge::new(&bridge).ok_or(ENOSPC)?;
        leaked.leak();
        drop(leaked);
        let other = BridgeCharge::new(&bridge);
        assert!(other.is_some() && BridgeCharge::new(&bridge).is_none());
        Ok(())
    }
}
