// SPDX-License-Identifier: GPL-2.0

//! The interrupt sources that OPAL has allocated to us.

use super::{
    esb::{
        Esb,
        EsbWindow, //
    },
    refusal::LastRefusal,
    AllocError,
    Resource,
    MAX_SOURCES, //
};
use crate::{
    bindings as extra,
    kernel_ext::{
        cpu,
        fault::injectable,
        work::{
            Work,
            Worker, //
        }, //
    }, //
};
use core::num::NonZeroU32;
use kernel::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    ffi,
    prelude::*,
    sync::Mutex, //
};

/// The most sources of a chip that are kept for new interrupts instead of being given back to OPAL.
///
/// OPAL looks for a free LISN from the first on, which takes the longer the more are in use.
const SPARES_PER_CHIP: usize = 256;

/// With fewer spare sources than this a chip gets more, up to [`SPARES_FILLED`].
const SPARES_LOW: usize = SPARES_PER_CHIP / 2;

/// How many spare sources a chip is given, with room left for some that come back.
const SPARES_FILLED: usize = SPARES_PER_CHIP / 4 * 3;

/// A chip of the machine, as OPAL numbers them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChipId(pub(super) u32);

impl ChipId {
    /// Returns the number of the chip.
    pub(crate) fn as_u32(self) -> u32 {
        self.0
    }

    /// Returns the chip that the caller runs on, or did a moment ago, if firmware tells.
    pub(super) fn current() -> Option<Self> {
        Self::of_cpu(CpuId::current())
    }

    /// Returns the chip of a CPU that is possible.
    fn of_cpu(cpu: CpuId) -> Option<Self> {
        // SAFETY: The caller vouches for the CPU, and there is nothing else to the call.
        let chip = unsafe { bindings::cpu_to_chip_id(cpu.as_u32() as ffi::c_int) };

        u32::try_from(chip).ok().map(Self)
    }
}

/// Where sources are to come from.
#[derive(Clone, Copy)]
pub(crate) enum Location {
    /// The caller's chip, or any other if that has none left.
    Anywhere,
    /// This chip.
    Chip(ChipId),
    /// The chips of a NUMA node.
    Node(i32),
}

/// A source that is allocated, and used by no context: off and quiet.
///
/// # Invariants
///
/// OPAL has allocated `lisn` to us, nothing else refers to it, and `esb` is its ESB.
pub(super) struct SpareSource {
    pub(super) lisn: u32,
    pub(super) esb: Esb,
}

/// A chip that has CPUs.
pub(super) struct Chip {
    pub(super) id: ChipId,
    /// The NUMA node of its CPUs.
    pub(super) node: i32,
    // Never more than the capacity that it is made with, `SPARES_PER_CHIP`.
    pub(super) spares: KVec<SpareSource>,
}

impl Chip {
    /// Finds the chips of the machine.
    pub(super) fn all() -> Result<KVec<Self>> {
        let mut chips: KVec<Self> = KVec::new();
        let cpus = (0..nr_cpu_ids()).filter_map(CpuId::from_u32);

        for cpu in cpus {
            let Some(node) = cpu::node_of(cpu) else {
                continue;
            };
            let Some(id) = ChipId::of_cpu(cpu) else {
                continue;
            };
            if chips.iter().all(|chip| chip.id != id) {
                let spares = KVec::with_capacity(SPARES_PER_CHIP, GFP_KERNEL)?;
                chips.push(Self { id, node, spares }, GFP_KERNEL)?;
            }
        }
        Ok(chips)
    }
}

/// The sources that OPAL has allocated to us.
pub(super) struct Pool {
    pub(super) chips: KVec<Chip>,
    pub(super) windows: KVec<EsbWindow>,
    /// Of a window. To have no LISN left is not in the log.
    pub(super) refusal: LastRefusal,
    /// How many there are, spares included. At most [`MAX_SOURCES`].
    pub(super) held: usize,
}

impl Pool {
    pub(super) fn chip(&mut self, id: ChipId) -> Option<&mut Chip> {
        self.chips.iter_mut().find(|chip| chip.id == id)
    }

    /// Takes a spare source of any chip.
    pub(super) fn take_any_spare(&mut self) -> Option<SpareSource> {
        self.chips.iter_mut().find_map(|chip| chip.spares.pop())
    }

    /// Takes a spare source of `chip`, or else one from OPAL, and has `low` called if there are few
    /// left.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        id: ChipId,
        low: impl FnOnce(),
    ) -> Result<SpareSource, AllocError> {
        let chip = self.chip(id).ok_or(ENODEV)?;
        let spare = chip.spares.pop();

        if chip.spares.len() < SPARES_LOW {
            low();
        }
        match spare {
            Some(spare) => Ok(spare),
            None => self.allocate(id.0),
        }
    }

    /// Allocates a source of `chip`, as OPAL numbers them or "any", from OPAL.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when we have as many as we may, or the chip has none left; those of
    /// [`EsbWindow::new`].
    pub(super) fn allocate(&mut self, chip: u32) -> Result<SpareSource, AllocError> {
        const EXHAUSTED: AllocError = AllocError::Exhausted(Resource::Interrupt);

        if self.held >= MAX_SOURCES {
            let other = self.take_any_spare().ok_or(ENOSPC)?;
            self.release(other);
        }

        // Every failure is reported as 0.
        let allocated = injectable!(
            uxive_alloc_source,
            (),
            // SAFETY: `Platform::new` has shown that OPAL and XIVE are there.
            NonZeroU32::new(unsafe { extra::xive_native_alloc_irq_on_chip(chip) }).ok_or(())
        );
        let Ok(lisn) = allocated.map(NonZeroU32::get) else {
            return Err(EXHAUSTED);
        };
        match self.esb(lisn) {
            Ok(esb) => {
                self.held += 1;
                // INVARIANT: OPAL gave it to us just now.
                Ok(SpareSource { lisn, esb })
            }
            Err(error) => {
                // SAFETY: As above.
                unsafe { extra::xive_native_free_irq(lisn) };
                Err(error.into())
            }
        }
    }

    /// Gives a source back to OPAL.
    fn release(&mut self, spare: SpareSource) {
        // SAFETY: It is ours, and nothing refers to it.
        unsafe { extra::xive_native_free_irq(spare.lisn) };
        self.held -= 1;
    }

    /// Keeps a source for a new interrupt, or gives it back to OPAL if there are enough of its chip.
    #[inline]
    pub(super) fn put(&mut self, spare: SpareSource) {
        match self.chip(spare.esb.chip) {
            Some(chip) if chip.spares.len() < SPARES_PER_CHIP => {
                // Does not fail: there is room, and nothing is allocated.
                let _ = chip.spares.push_within_capacity(spare);
            }
            _ => self.release(spare),
        }
    }

    /// Returns the ESB of `lisn`.
    fn esb(&mut self, lisn: u32) -> Result<Esb> {
        match self.windows.iter().position(|window| window.covers(lisn)) {
            Some(at) => self.windows.get(at),
            None => {
                self.refusal.check()?;
                let window = EsbWindow::new(lisn, |error| self.refusal.remember(error.into()))?;
                self.windows.push(window, GFP_KERNEL)?;
                self.windows.last()
            }
        }
        .ok_or(EIO)?
        .esb(lisn)
    }
}

/// Where sources are taken from and put back to.
#[pin_data(PinnedDrop)]
pub(super) struct Sources {
    /// Innermost but for what OPAL takes, see `file.rs`.
    #[pin]
    pub(super) pool: Mutex<Pool>,
}

impl Sources {
    /// Adds a spare source of the `index`-th chip, unless it has enough. Returns whether it did.
    fn add_spare(&self, index: usize) -> bool {
        let pool = &mut *self.pool.lock();
        let wanting = |chip: &&Chip| chip.spares.len() < SPARES_FILLED;

        // Spares are not worth giving up others for.
        if pool.held >= MAX_SOURCES {
            return false;
        }
        let Some(chip) = pool.chips.get(index).filter(wanting).map(|chip| chip.id) else {
            return false;
        };
        let Ok(spare) = pool.allocate(chip.0) else {
            return false;
        };
        pool.put(spare);
        true
    }

    /// Brings the spare sources of each chip to their number, as far as OPAL has any.
    pub(super) fn fill(&self) {
        let chips = self.pool.lock().chips.len();

        for index in 0..chips {
            while self.add_spare(index) {}
        }
    }
}

impl Work for Sources {
    fn run(worker: &Worker<Self>) {
        worker.fill();
    }
}

#[pinned_drop]
impl PinnedDrop for Sources {
    fn drop(self: Pin<&mut Self>) {
        let mut pool = self.pool.lock();

        while let Some(spare) = pool.take_any_spare() {
            pool.release(spare);
        }
    }
}
