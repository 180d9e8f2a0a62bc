// SPDX-License-Identifier: GPL-2.0

//! The blocks of VPs that firmware has given to us, and which VPs of each are free.
//!
//! Firmware has a buddy allocator, and hands out blocks of a power of two VPs. KVM asks for one block
//! for each VM, with a VP for each CPU that the VM may have. A driver that took single VPs would leave
//! KVM a pool in pieces: the VPs that programs hold for long lie scattered between those that were
//! given back. It would also waste VPs: firmware's smallest block has two of each chip. So the driver takes blocks of [`BLOCK`], and hands out their VPs one by one. The lowest
//! block that has one left gives it, so that the others become free as a whole.
//!
//! A smaller block is not asked for if there is none of [`BLOCK`]. Firmware has at most so few VPs left
//! then, or only scattered ones, and KVM finds no room for a VM either: what is left is not for us.

use kernel::prelude::*;

/// How many VPs a block has. Their numbers follow each other.
pub(super) const BLOCK: u32 = u64::BITS;

/// How many blocks are kept that are free as a whole. With none, a program that opens and closes a single
/// context would have firmware take a block and give it again, each time.
const SPARE_BLOCKS: usize = 1;

/// A VP that was [taken](VpBlocks::take), and must be put back once, or leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TakenVp {
    pub(super) number: u32,
    /// Which block it is of.
    block: usize,
}

/// A block of VPs.
struct Block {
    first: u32,
    /// Bit n is set if VP `first + n` is free.
    free: u64,
}

impl Block {
    fn is_spare(&self) -> bool {
        self.free == u64::MAX
    }
}

/// The blocks of VPs that we have.
pub(super) struct VpBlocks {
    /// A block stays at its index.
    blocks: KVVec<Option<Block>>,
    /// No block before this one has a VP that is free.
    lowest: usize,
    /// How many are free as a whole.
    spares: usize,
}

impl VpBlocks {
    pub(super) const fn new() -> Self {
        Self {
            blocks: KVVec::new(),
            lowest: 0,
            spares: 0,
        }
    }

    /// Takes a VP, if one is free.
    pub(super) fn take(&mut self) -> Option<TakenVp> {
        let mut from_lowest = self.blocks.iter_mut().enumerate().skip(self.lowest);
        let found = from_lowest.find_map(|(at, block)| match block {
            Some(block) if block.free != 0 => Some((at, block)),
            _ => None,
        });
        let Some((at, block)) = found else {
            self.lowest = self.blocks.len();
            return None;
        };
        let index = block.free.trailing_zeros();

        self.lowest = at;
        self.spares -= usize::from(block.is_spare());
        block.free &= !(1 << index);
        Some(TakenVp {
            number: block.first.wrapping_add(index),
            block: at,
        })
    }

    /// Takes a VP back, which firmware has disabled. Returns the first VP of a block that firmware has to be
    /// given back, if there are spares enough without it.
    pub(super) fn put(&mut self, vp: TakenVp) -> Option<u32> {
        let entry = self.blocks.get_mut(vp.block)?;
        let block = entry.as_mut()?;
        let first = block.first;

        block.free |= 1 << (vp.number.wrapping_sub(first) % BLOCK);
        self.lowest = self.lowest.min(vp.block);
        if !block.is_spare() {
            return None;
        }
        if self.spares < SPARE_BLOCKS {
            self.spares += 1;
            return None;
        }
        *entry = None;
        Some(first)
    }

    /// Makes sure that [`Self::add`] succeeds.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(super) fn reserve(&mut self) -> Result {
        if self.blocks.iter().all(Option::is_some) {
            self.blocks.push(None, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Adds the block whose first VP is `first`. Its VPs must be disabled.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room for it.
    pub(super) fn add(&mut self, first: u32) -> Result {
        let mut entries = self.blocks.iter_mut().enumerate();
        let (at, entry) = entries.find(|(_, entry)| entry.is_none()).ok_or(ENOMEM)?;

        *entry = Some(Block {
            first,
            free: u64::MAX,
        });
        self.lowest = self.lowest.min(at);
        self.spares += 1;
        Ok(())
    }

    /// Removes a block that is free as a whole, if there is one. Returns its first VP.
    pub(super) fn remove_spare(&mut self) -> Option<u32> {
        let is_spare = |block: &Option<Block>| block.as_ref().is_some_and(Block::is_spare);
        let spare = self.blocks.iter_mut().find(|block| is_spare(block))?;

        self.spares -= 1;
        spare.take().map(|block| block.first)
    }
}

#[kunit_tests(uxive_vps)]
mod tests {
    use super::*;

    const FIRST: u32 = 0x4600_0400;
    const SECOND: u32 = 0x4600_0800;

    fn add(blocks: &mut VpBlocks, first: u32) {
        assert_eq!(blocks.reserve(), Ok(()));
        assert_eq!(blocks.add(first), Ok(()));
    }

    fn number(vp: Option<TakenVp>) -> Option<u32> {
        vp.map(|vp| vp.number)
    }

    /// Takes all VPs of a block, which come one after the other. Returns the last of them.
    fn take_all(blocks: &mut VpBlocks, first: u32) -> Option<TakenVp> {
        let mut last = None;
        for n in 0..BLOCK {
            last = blocks.take();
            assert_eq!(number(last), Some(first + n));
        }
        last
    }

    /// The VP `number` of the block at `block`.
    fn vp(number: u32, block: usize) -> TakenVp {
        TakenVp { number, block }
    }

    #[test]
    fn a_block_is_handed_out_one_by_one() {
        let mut blocks = VpBlocks::new();
        assert_eq!(blocks.take(), None);
        add(&mut blocks, FIRST);
        assert_eq!(take_all(&mut blocks, FIRST), Some(vp(FIRST + 63, 0)));
        assert_eq!(blocks.take(), None);
        // One that comes back is the next.
        for n in [5, 0, 63] {
            assert_eq!(blocks.put(vp(FIRST + n, 0)), None);
            assert_eq!(number(blocks.take()), Some(FIRST + n));
        }
        // Of several the lowest.
        for n in [9, 3, 40] {
            assert_eq!(blocks.put(vp(FIRST + n, 0)), None);
        }
        for n in [3, 9, 40] {
            assert_eq!(number(blocks.take()), Some(FIRST + n));
        }
        assert_eq!(blocks.take(), None);
    }

    #[test]
    fn a_single_context_leaves_the_block_where_it_is() -> Result {
        let mut blocks = VpBlocks::new();
        add(&mut blocks, FIRST);
        for _ in 0..100 {
            let taken = blocks.take().ok_or(ENOSPC)?;
            assert_eq!(taken, vp(FIRST, 0));
            assert_eq!(blocks.put(taken), None);
        }
        // Nor does one more than a block has, that comes and goes.
        take_all(&mut blocks, FIRST);
        assert_eq!(blocks.take(), None);
        add(&mut blocks, SECOND);
        for _ in 0..100 {
            let taken = blocks.take().ok_or(ENOSPC)?;
            assert_eq!(taken, vp(SECOND, 1));
            assert_eq!(blocks.put(taken), None);
        }
        Ok(())
    }

    #[test]
    fn all_but_one_of_the_free_blocks_go_back() {
        let mut blocks = VpBlocks::new();
        for first in [FIRST, SECOND] {
            add(&mut blocks, first);
            take_all(&mut blocks, first);
        }
        for n in 0..BLOCK {
            assert_eq!(blocks.put(vp(FIRST + n, 0)), None);
        }
        for n in 0..BLOCK - 1 {
            assert_eq!(blocks.put(vp(SECOND + n, 1)), None);
        }
        assert_eq!(blocks.put(vp(SECOND + 63, 1)), Some(SECOND));
        // The other one is used further, and a new one comes to the place of the last.
        take_all(&mut blocks, FIRST);
        assert_eq!(blocks.take(), None);
        add(&mut blocks, SECOND + 64);
        assert_eq!(blocks.take(), Some(vp(SECOND + 64, 1)));
        assert_eq!(blocks.blocks.len(), 2);
    }

    #[test]
    fn the_lowest_block_fills_first() {
        let mut blocks = VpBlocks::new();
        for first in [FIRST, SECOND] {
            add(&mut blocks, first);
            take_all(&mut blocks, first);
        }
        // Holes in both: those of the first are filled, and the second becomes free.
        for n in 0..BLOCK / 2 {
            assert_eq!(blocks.put(vp(SECOND + n, 1)), None);
            assert_eq!(blocks.put(vp(FIRST + 2 * n, 0)), None);
        }
        for n in 0..BLOCK / 2 {
            assert_eq!(number(blocks.take()), Some(FIRST + 2 * n));
        }
        for n in BLOCK / 2..BLOCK {
            assert_eq!(blocks.put(vp(SECOND + n, 1)), None);
        }
        assert_eq!(blocks.remove_spare(), Some(SECOND));
        assert_eq!(blocks.remove_spare(), None);
        assert_eq!(blocks.take(), None);
    }

    #[test]
    fn one_that_is_leaked_keeps_its_block() {
        let mut blocks = VpBlocks::new();
        add(&mut blocks, FIRST);
        let last = take_all(&mut blocks, FIRST);
        assert_eq!(last, Some(vp(FIRST + 63, 0)));
        for n in 0..BLOCK - 1 {
            assert_eq!(blocks.put(vp(FIRST + n, 0)), None);
        }
        assert_eq!(blocks.remove_spare(), None);
        // The others are used.
        for n in 0..BLOCK - 1 {
            assert_eq!(number(blocks.take()), Some(FIRST + n));
        }
        assert_eq!(blocks.take(), None);
    }

    #[test]
    fn none_is_had_twice() -> Result {
        const BLOCKS: usize = 5;
        let mut blocks = VpBlocks::new();
        // Bit n of each is VP n of the block at that index.
        let mut held = [0_u64; BLOCKS];
        let first = |at: usize| FIRST + BLOCK * at as u32;
        let mut random = 1_u64;
        // Many are taken, and then put back in any order.
        for step in 0..6000 {
            random = (random.wrapping_mul(6364136223846793005)).wrapping_add(1442695040888963407);
            let (at, index) = (
                (random >> 40) as usize % BLOCKS,
                (random >> 50) as u32 % BLOCK,
            );
            if step % 2000 >= 300 {
                if held[at] & 1 << index != 0 {
                    held[at] &= !(1 << index);
                    let given_back = blocks.put(vp(first(at) + index, at));
                    assert!(given_back.is_none() || given_back == Some(first(at)));
                    assert!(given_back.is_none() || held[at] == 0);
                }
            } else {
                let entries = || blocks.blocks.iter().zip(&held);
                if entries().all(|(block, &held)| block.is_none() || held == u64::MAX) {
                    assert_eq!(blocks.take(), None);
                    let next = blocks.blocks.iter().position(Option::is_none);
                    let next = next.unwrap_or(blocks.blocks.len());
                    add(&mut blocks, first(next));
                }
                let TakenVp { number, block } = blocks.take().ok_or(ENOSPC)?;
                assert_eq!(number / BLOCK, first(block) / BLOCK);
                assert_eq!(held[block] & 1 << (number % BLOCK), 0);
                held[block] |= 1 << (number % BLOCK);
            }
            let used = held.iter().filter(|&&held| held != 0).count();
            let there = blocks.blocks.iter().flatten().count();
            assert!(there == used || there == used + 1);
        }
        // All come back but one block, which is spare.
        for (at, &held) in held.iter().enumerate() {
            for index in (0..BLOCK).filter(|index| held & 1 << index != 0) {
                blocks.put(vp(first(at) + index, at));
            }
        }
        assert_eq!(blocks.blocks.iter().flatten().count(), 1);
        assert!(blocks.remove_spare().is_some() && blocks.remove_spare().is_none());
        Ok(())
    }
}
