// SPDX-License-Identifier: GPL-2.0

//! Refusals of firmware and of the kernel, which are remembered for a second.
//!
//! Some of the functions that allocate something write a line to the log each time that they
//! refuse it, and have no limit for that. Programs can have the driver call them as often as they
//! like:
//!
//! | function | says that |
//! |---|---|
//! | `xive_native_alloc_vp_block` | there is no VP left, or no page for more; OPAL says it too |
//! | `xive_native_enable_vp`, `xive_native_configure_queue` | OPAL refuses a VP or its queue |
//! | `xive_native_populate_irq_data` | OPAL does not know an interrupt |
//! | `pnv_irq_domain_alloc` | a PHB has no message left |
//! | `pnv_msi_compose_msg` | OPAL refuses a message |
//!
//! So after a refusal none of these is called again for a second, and the next calls of programs
//! fail alike, whatever was given back to firmware meanwhile. VPs of its blocks and spare messages the
//! driver hands out meanwhile. `ENOMEM` is not remembered: programs are killed
//! before the kernel has no memory left for its own small structures. Only `xive_native_alloc_vp_block`
//! does not tell whether it lacks a VP or a page.
//!
//! Those that give something back write such lines too, of a VP for instance that OPAL does not
//! disable. It is never used again then, so that there are no more lines than VPs.

use super::AllocError;
use kernel::{
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// For how long a refusal is remembered.
const REMEMBERED: Delta = Delta::from_secs(1);

/// The last refusal of something, if there was one.
#[derive(Default)]
pub(super) struct LastRefusal(Option<(Instant<Monotonic>, AllocError)>);

impl LastRefusal {
    /// Makes sure that it was not refused a moment ago.
    ///
    /// # Errors
    ///
    /// That of the refusal.
    pub(super) fn check(&self) -> Result<(), AllocError> {
        match self.0 {
            Some((at, refusal)) if at.elapsed() < REMEMBERED => Err(refusal),
            _ => Ok(()),
        }
    }

    /// As [`Self::check`], for callers that ask without a lock. When the refusal is over one of them asks,
    /// and the others are refused meanwhile: all of them would have as many lines logged.
    ///
    /// # Errors
    ///
    /// That of the refusal.
    pub(super) fn admit(&mut self) -> Result<(), AllocError> {
        self.check()?;
        if let Some((at, _)) = &mut self.0 {
            *at = Instant::now();
        }
        Ok(())
    }

    /// Forgets the refusal, as it is given again.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// Remembers that it was refused just now, unless memory was lacking.
    pub(super) fn remember(&mut self, refusal: AllocError) {
        if refusal != AllocError::Other(ENOMEM) {
            self.0 = Some((Instant::now(), refusal));
        }
    }

    /// Returns what `ask` does, or what it did if that was a refusal a moment ago.
    pub(super) fn ask<T>(
        &mut self,
        ask: impl FnOnce() -> Result<T, AllocError>,
    ) -> Result<T, AllocError> {
        self.check()?;
        ask().inspect_err(|&refusal| self.remember(refusal))
    }
}

#[kunit_tests(uxive_refusal)]
mod tests {
    use super::*;
    use crate::xive::Resource;
    use kernel::time::{
        delay::fsleep,
        ClockSource, //
    };

    const NO_VP: AllocError = AllocError::Exhausted(Resource::VirtualProcessor);
    const BROKEN: AllocError = AllocError::Other(EIO);

    /// Returns what comes of asking for something that would be given, and whether it was asked for.
    fn ask(last: &mut LastRefusal) -> (Result<u32, AllocError>, bool) {
        let mut asked = false;
        let result = last.ask(|| {
            asked = true;
            Ok(1)
        });

        (result, asked)
    }

    /// Waits until times before now are times of the clock, too: it begins with the kernel, which may run these
    /// tests at once.
    fn wait_for_the_clock() {
        while Monotonic::ktime_get() < REMEMBERED.as_nanos() {
            fsleep(Delta::from_millis(20));
        }
    }

    /// As if `last` had been `age` earlier.
    fn aged(last: LastRefusal, age: Delta) -> LastRefusal {
        LastRefusal(last.0.map(|(at, refusal)| (at - age, refusal)))
    }

    #[test]
    fn a_success_is_no_refusal() {
        let mut last = LastRefusal::default();
        for _ in 0..3 {
            assert_eq!(ask(&mut last), (Ok(1), true));
        }
        assert_eq!(last.check(), Ok(()));
    }

    #[test]
    fn one_asks_when_it_is_over() {
        wait_for_the_clock();
        let mut last = LastRefusal::default();
        assert_eq!((last.admit(), last.admit()), (Ok(()), Ok(())));
        last.remember(NO_VP);
        assert_eq!(last.admit(), Err(NO_VP));
        last = aged(last, REMEMBERED);
        assert_eq!((last.admit(), last.admit()), (Ok(()), Err(NO_VP)));
        last.forget();
        assert_eq!((last.admit(), last.admit()), (Ok(()), Ok(())));
    }

    #[test]
    fn a_refusal_is_repeated_without_asking() {
        for refusal in [NO_VP, BROKEN] {
            let mut last = LastRefusal::default();
            assert_eq!(last.ask(|| Err::<u32, _>(refusal)), Err(refusal));
            assert_eq!(last.check(), Err(refusal));
            assert_eq!(ask(&mut last), (Err(refusal), false));
        }
    }

    #[test]
    fn a_lack_of_memory_is_none() {
        let mut last = LastRefusal::default();
        assert_eq!(
            last.ask(|| Err::<u32, _>(ENOMEM.into())),
            Err(ENOMEM.into())
        );
        assert_eq!(ask(&mut last), (Ok(1), true));
    }

    #[test]
    fn it_is_forgotten_after_a_second() {
        wait_for_the_clock();
        let mut last = LastRefusal::default();
        last.remember(NO_VP);
        last = aged(last, REMEMBERED - Delta::from_millis(500));
        assert_eq!(ask(&mut last), (Err(NO_VP), false));
        last = aged(last, Delta::from_millis(500));
        assert_eq!(ask(&mut last), (Ok(1), true));
    }

    #[test]
    fn the_last_one_counts() {
        wait_for_the_clock();
        let mut last = LastRefusal::default();
        last.remember(NO_VP);
        last = aged(last, REMEMBERED);
        assert_eq!(last.ask(|| Err::<u32, _>(BROKEN)), Err(BROKEN));
        assert_eq!(ask(&mut last), (Err(BROKEN), false));
    }
}
