// SPDX-License-Identifier: GPL-2.0

//! Promise: the Rust library keeps the driver's promises. Acknowledged rings are neither lost nor
//! doubled, whether the program drains the queue by itself or is told by eventfds.

mod cpu;
mod ktap;

use cpu::pin_to_cpu;
use std::{
    os::fd::AsFd,
    panic::catch_unwind,
    path::Path,
    process::ExitCode,
    sync::atomic::{
        AtomicBool,
        AtomicUsize,
        Ordering, //
    },
    thread,
    time::Duration, //
};
use uxive::{
    Context,
    Drain,
    Event, //
};

const IRQS: u32 = 64;

/// Turns a lost event into a failure instead of a hang.
const WATCHDOG: Option<Duration> = Some(Duration::from_secs(100));

/// How many rings show that none is lost. A kernel with lockdep takes ten times as long for each.
fn rings_to_send() -> usize {
    if Path::new("/proc/lockdep").exists() {
        10_000
    } else {
        100_000
    }
}

/// Sets the flag when it is dropped, so that no thread outlives a test that has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Rings in turn from a thread on `cpu`, each time the last ring was acknowledged. `next` takes the
/// next event, which must be of the same number that `ring` was given.
fn ring_and_acknowledge(cpu: usize, ring: impl Fn(usize) + Sync, mut next: impl FnMut(usize)) {
    const IRQS: usize = self::IRQS as usize;
    let rings = rings_to_send();
    let acknowledged = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);

    pin_to_cpu(0);
    thread::scope(|scope| {
        let _stop = Stop(&stop);

        scope.spawn(|| {
            pin_to_cpu(cpu);
            for n in 0..rings {
                ring(n % IRQS);
                while acknowledged.load(Ordering::Acquire) <= n {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::yield_now();
                }
            }
        });
        for n in 0..rings {
            next(n % IRQS);
            acknowledged.store(n + 1, Ordering::Release);
        }
    });
}

fn drain_acknowledged(cpu: usize, spins: usize) {
    let mut drain = Context::open().unwrap().drain(IRQS).unwrap();
    let doorbells: Vec<_> = (0..IRQS).map(|slot| drain.doorbell(slot)).collect();
    let mut waited = 0;

    let ring = |index: usize| doorbells[index].ring();
    ring_and_acknowledge(cpu, ring, |expected| {
        let mut slot = (0..spins).find_map(|_| drain.try_next());

        if slot.is_none() {
            waited += 1;
            slot = drain.wait(WATCHDOG).unwrap();
        }
        assert_eq!(slot, Some(expected as u32));
        drain.eoi(expected as u32);
    });
    assert_eq!(drain.try_next(), None);
    ktap::log(&format!("{} rings, waited {waited} times", rings_to_send()));
}

fn a_drain_on_the_ringers_cpu_blocks_and_loses_nothing() {
    drain_acknowledged(0, 0);
}

fn a_drain_on_another_cpu_polls_and_loses_nothing() {
    drain_acknowledged(1, 1_000_000);
}

fn drain(irqs: u32) -> Drain {
    Context::open().unwrap().drain(irqs).unwrap()
}

fn a_ring_before_the_eoi_is_one_more_event_after_it() {
    let mut drain = drain(2);

    for _ in 0..3 {
        drain.ring(1);
    }
    assert_eq!(drain.try_next(), Some(1));
    assert_eq!(drain.try_next(), None);
    drain.eoi(1);
    assert_eq!(drain.wait(WATCHDOG).unwrap(), Some(1));
    drain.eoi(1);
    assert_eq!(drain.try_next(), None);
}

fn the_generation_flips_at_every_wrap() {
    let mut drain = drain(2);

    for n in 0..4 * 16384 {
        assert_eq!(drain.try_next(), None);
        drain.ring(n % 2);
        assert_eq!(drain.try_next(), Some(n % 2), "event {n}");
        drain.eoi(n % 2);
    }
}

fn waiting_ends_with_the_time() {
    let mut drain = drain(1);

    assert_eq!(drain.wait(Some(Duration::from_millis(1))).unwrap(), None);
    // Looked at and armed, it tells of the next event.
    assert_eq!(drain.arm_and_look().unwrap(), None);
    drain.ring(0);
    assert_eq!(drain.event().wait(WATCHDOG).unwrap(), Some(1));
    assert_eq!(drain.try_next(), Some(0));
}

fn eventfds_count_each_acknowledged_ring() {
    let context = Context::open().unwrap();
    let bound: Vec<_> = (0..IRQS)
        .map(|_| {
            let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
            irq.bind(&event).unwrap();
            (irq, event)
        })
        .collect();

    let ring = |index: usize| bound[index].0.ring();
    ring_and_acknowledge(1, ring, |expected| {
        assert_eq!(bound[expected].1.wait(WATCHDOG).unwrap(), Some(1));
    });
    for (irq, event) in bound {
        irq.free().unwrap();
        assert_eq!(event.wait(Some(Duration::ZERO)).unwrap(), None);
    }
}

fn a_bound_eventfd_gives_way_to_the_next() {
    let context = Context::open().unwrap();
    let (first, second) = (Event::new().unwrap(), Event::new().unwrap());
    let irq = context.alloc().unwrap();

    irq.bind(&first).unwrap();
    irq.ring();
    assert_eq!(first.wait(WATCHDOG).unwrap(), Some(1));
    irq.unbind().unwrap();
    irq.ring();
    irq.bind(&second).unwrap();
    // Comes after all earlier rings, which may have signalled either eventfd.
    irq.ring();
    assert!(second.wait(WATCHDOG).unwrap().is_some());
    assert_eq!(first.wait(Some(Duration::ZERO)).unwrap(), None);
}

fn what_others_allocate_in_the_context_is_taken_and_ended() {
    let mut drain = drain(2);
    let file = drain.as_fd().try_clone_to_owned().unwrap();
    let other = Context::try_from(file).unwrap();
    let irq = other.alloc().unwrap();

    assert_eq!(irq.slot(), 2);
    for _ in 0..3 {
        irq.ring();
        irq.ring();
        for _ in 0..2 {
            assert_eq!(drain.wait(WATCHDOG).unwrap(), Some(2));
            drain.eoi(2);
        }
    }
    assert_eq!(drain.try_next(), None);
    assert_eq!(drain.info().unwrap().irqs.used, 3);
}

fn a_drain_rings_what_it_has_allocated_only() {
    for slot in [2, 16384, u32::MAX] {
        let rung = catch_unwind(|| drain(2).ring(slot));
        let doorbell = catch_unwind(|| drop(drain(2).doorbell(slot)));

        assert!(rung.is_err() && doorbell.is_err(), "slot {slot}");
    }
}

fn errors_are_the_drivers() {
    const EBUSY: i32 = 16;
    const EINVAL: i32 = 22;
    let context = Context::open().unwrap();
    let file = context.as_fd().try_clone_to_owned().unwrap();

    // The refused call has not switched it to user drain.
    assert_eq!(context.drain(0).unwrap_err().raw_os_error(), Some(EINVAL));
    let context = Context::try_from(file).unwrap();
    drop(context.alloc().unwrap());
    assert_eq!(context.drain(1).unwrap_err().raw_os_error(), Some(EBUSY));
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    tests![
        a_drain_on_the_ringers_cpu_blocks_and_loses_nothing,
        a_drain_on_another_cpu_polls_and_loses_nothing,
        a_ring_before_the_eoi_is_one_more_event_after_it,
        the_generation_flips_at_every_wrap,
        waiting_ends_with_the_time,
        eventfds_count_each_acknowledged_ring,
        a_bound_eventfd_gives_way_to_the_next,
        what_others_allocate_in_the_context_is_taken_and_ended,
        a_drain_rings_what_it_has_allocated_only,
        errors_are_the_drivers,
    ]
}
