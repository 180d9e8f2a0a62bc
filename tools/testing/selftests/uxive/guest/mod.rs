// SPDX-License-Identifier: GPL-2.0

//! A guest for selftests, and how often it leaves.

use rustix::mm::ProtFlags;
use std::{
    os::fd::AsFd,
    path::Path,
    sync::{
        mpsc::{
            channel,
            RecvTimeoutError, //
        },
        Arc, //
    },
    thread,
    time::Duration, //
};
use vmm::{
    guest::MOST_CPUS,
    Call,
    Cpu,
    Exits,
    Guest,
    Outcome,
    Pages, //
};

pub const PAGE: u64 = 64 * 1024;

/// Turns a lost event into a failure instead of a hang.
pub const WATCHDOG: Option<Duration> = Some(Duration::from_secs(100));

/// A number of rings. A kernel with lockdep takes ten times as long for each.
pub fn rings(count: u64) -> u64 {
    if Path::new("/proc/lockdep").exists() {
        count / 10
    } else {
        count
    }
}

/// Runs a routine that ends, and returns its result.
pub fn done(cpu: &mut Cpu, call: Call) -> u64 {
    match cpu.call(call).unwrap() {
        Outcome::Done(result) => result,
        other => panic!("{call:x?}: {other:x?}"),
    }
}

/// Runs a routine, and returns its result and its exits, that by which it ends among them.
pub fn counted(cpu: &mut Cpu, call: Call) -> (u64, Exits) {
    let before = cpu.exits().unwrap();
    let result = done(cpu, call);

    (result, cpu.exits().unwrap() - before)
}

/// How many events the guests have taken.
fn taken(guests: &[&Guest]) -> u64 {
    let of = |guest: &Guest| {
        (0..MOST_CPUS)
            .map(|cpu| guest.taken(cpu) + guest.drained(cpu))
            .sum::<u64>()
    };

    guests.iter().map(|guest| of(guest)).sum()
}

/// Stops guests if `run` does not end, and they take no more events.
pub fn watched<T>(guests: &[&Guest], run: impl FnOnce() -> T) -> T {
    let (running, ended) = channel::<()>();

    thread::scope(|scope| {
        scope.spawn(move || {
            let mut before = None;

            while ended.recv_timeout(WATCHDOG.unwrap()) == Err(RecvTimeoutError::Timeout) {
                let now = Some(taken(guests));

                if now == before {
                    for guest in guests {
                        (0..MOST_CPUS).for_each(|cpu| guest.stop(cpu));
                    }
                    break;
                }
                before = now;
            }
        });
        let result = run();
        drop(running);
        result
    })
}

/// A guest whose virtual CPUs have its memory mapped.
pub fn guest(cpus: u32) -> (Guest, Vec<Cpu>) {
    let (guest, mut cpus) = Guest::new(cpus).unwrap();
    let address = guest.counter_address(0);

    for cpu in &mut cpus {
        done(cpu, Call::Load { address });
    }
    (guest, cpus)
}

/// Maps doorbells for a guest, which are for writing only.
pub fn doorbells(file: impl AsFd, offset: u64, count: u64) -> Arc<Pages> {
    let offsets = offset..offset + count * PAGE;

    Arc::new(Pages::of(file, ProtFlags::WRITE, offsets).unwrap())
}
