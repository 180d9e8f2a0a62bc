// SPDX-License-Identifier: GPL-2.0

//! Rings into and out of a guest, by uxive or by KVM's own eventfds, which is named by the argument.
//!
//! The machine has one CPU, so a guest that is rung while it runs is rung by itself. Host and guest have
//! the same timebase. A line is printed for an operation, as `bench.h` says:
//!
//! - `guest_send`: the guest's store, until its next instruction;
//! - `guest_to_guest`: from the store until the handler of the guest's interrupt begins;
//! - `guest_to_host`: from the store until `read()` of the eventfd returns in a thread of the host;
//! - `host_send`: the host's store, or `write()` to the eventfd;
//! - `host_to_guest`: from there until the handler begins in the guest, which was preempted.
//!
//! On a machine of two CPUs one more is measured, and only that:
//!
//! - `guest_to_idle_cpu`: as `guest_to_host`, but of a reader on the other CPU, which is idle. The guest goes
//!   on meanwhile, and what it does itself is taken off.

use core::arch::asm;
use rustix::{
    mm::ProtFlags,
    process::{
        sched_setaffinity,
        CpuSet, //
    }, //
};
use std::{
    env,
    fs,
    io,
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::Duration, //
};
use uxive::{
    Context,
    Event,
    Irq, //
};
use vmm::{
    guest::{
        Times,
        SLOT_SHOWN,
        TIME_ROUND, //
    },
    Call,
    Cpu,
    Guest,
    Outcome,
    Pages, //
};

const PAGE: u64 = 64 * 1024;
/// Samples of an operation, and those before, which populate pages.
const N: usize = 64;
const WARM_UP: usize = 8;
/// The guest's interrupt.
const NUMBER: u32 = 0x20;
/// An address of the guest that no memslot has.
const HOLE: u64 = 5 << 40;
/// An instruction takes so many ticks of the timebase, as a fraction.
const TICKS: (u64, u64) = (1024, 1000);
/// Long enough for everything else on the machine's only CPU to be done.
const SETTLE: Duration = Duration::from_millis(10);

fn timebase() -> u64 {
    let ticks;

    // SAFETY: It reads a register that programs may read.
    unsafe { asm!("mfspr {}, 268", out(reg) ticks) };
    ticks
}

/// Has this thread run at once when it is woken, also where a guest runs. Others of its kind would wait for
/// the next tick.
fn run_at_once() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };

    // SAFETY: The structure lives as long as the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has this thread run on one CPU.
fn pin_to_cpu(cpu: usize) {
    let mut set = CpuSet::new();

    set.set(cpu);
    sched_setaffinity(None, &set).expect("a CPU");
}

/// The cost of reading the timebase.
fn overhead() -> u64 {
    (0..N)
        .map(|_| {
            let before = timebase();
            timebase() - before
        })
        .min()
        .unwrap_or(0)
}

/// A way to ring, and the eventfd that is signalled by it or, where it rings the guest, is KVM's.
struct Bell {
    event: Event,
    /// Where the guest stores.
    page: u64,
    irq: Option<Irq>,
}

impl Bell {
    /// Makes one of `driver`. One that rings into the guest does so by irq bypass.
    fn new(driver: &str, guest: &Guest, into_guest: bool) -> io::Result<Self> {
        let event = Event::new()?;

        if driver == "ioeventfd" {
            guest.vm().ioeventfd(&event, HOLE)?;
            return Ok(Self {
                event,
                page: HOLE,
                irq: None,
            });
        }
        let irq = Context::open()?.alloc()?;
        if into_guest {
            irq.bind_bypass(&event)?;
        } else {
            irq.bind(&event)?;
        }
        let export = irq.export()?;
        let pages = Arc::new(Pages::of(export, ProtFlags::WRITE, 0..PAGE)?);
        Ok(Self {
            event,
            page: guest.show(SLOT_SHOWN, 0, &pages)?,
            irq: Some(irq),
        })
    }

    /// Rings from the host.
    fn ring(&self) {
        match &self.irq {
            Some(irq) => irq.ring(),
            None => {
                rustix::io::write(self.event.as_fd(), &1u64.to_ne_bytes()).expect("eventfd");
            }
        }
    }
}

/// Samples of operations, printed in the end.
struct Samples(Vec<(&'static str, Vec<u64>)>);

impl Samples {
    fn add(&mut self, name: &'static str, ticks: u64) {
        let ticks = ticks.saturating_sub(overhead());

        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, samples)) => samples.push(ticks),
            None => self.0.push((name, vec![ticks])),
        }
    }

    fn print(&self, driver: &str) {
        for (name, samples) in &self.0 {
            print!("{name} {driver} ticks");
            for ticks in &samples[WARM_UP..] {
                print!(" {ticks}");
            }
            println!();
        }
    }
}

/// Has the guest store once, and take interrupts until there were `taken` in all.
fn store(cpu: &mut Cpu, page: u64, taken: u64) -> io::Result<()> {
    match cpu.call(Call::Time { page, taken })? {
        Outcome::Done(_) => Ok(()),
        other => Err(io::Error::other(format!("the guest came back: {other:x?}"))),
    }
}

/// A guest that rings itself.
fn guest_to_guest(driver: &str, samples: &mut Samples) -> io::Result<()> {
    let (guest, mut cpus) = Guest::new(1)?;
    let bell = Bell::new(driver, &guest, true)?;

    guest.irqfd(&bell.event, NUMBER, 0)?;
    if bell.irq.is_some() {
        // By irq bypass one event comes for certain. This store is to memory.
        store(&mut cpus[0], guest.counter_address(0), 1)?;
    }
    for _ in 0..WARM_UP + N {
        thread::sleep(SETTLE);
        store(&mut cpus[0], bell.page, guest.taken(0) + 1)?;
        let Times { sent, stored, came } = guest.times(0);
        samples.add("guest_send", stored.min(came) - sent);
        samples.add("guest_to_guest", came - sent);
    }
    Ok(())
}

/// A guest that rings a thread of the host.
fn guest_to_host(driver: &str, samples: &mut Samples) -> io::Result<()> {
    let (guest, mut cpus) = Guest::new(1)?;
    let bell = Bell::new(driver, &guest, false)?;

    for _ in 0..WARM_UP + N {
        let read = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                run_at_once().expect("SCHED_FIFO");
                bell.event.wait(None).expect("eventfd");
                let read = timebase();
                guest.stop(0);
                read
            });
            // The reader waits when this goes on.
            thread::sleep(SETTLE);
            store(&mut cpus[0], bell.page, u64::MAX).map(|()| reader.join().expect("a reader"))
        })?;
        guest.unstop(0);
        samples.add("guest_to_host", read - guest.times(0).sent);
    }
    Ok(())
}

/// A guest that rings a thread on another CPU.
fn guest_to_idle_cpu(driver: &str, samples: &mut Samples) -> io::Result<()> {
    // Interrupts come to the reader's CPU.
    fs::write("/proc/irq/default_smp_affinity", "1")?;
    pin_to_cpu(0);
    let (guest, mut cpus) = Guest::new(1)?;
    let bell = Bell::new(driver, &guest, false)?;

    for _ in 0..WARM_UP + N {
        let (read, rounds) = thread::scope(|scope| {
            let running = scope.spawn(|| {
                pin_to_cpu(1);
                // The reader waits when this goes on.
                thread::sleep(SETTLE);
                store(&mut cpus[0], bell.page, u64::MAX)
            });
            bell.event.wait(None)?;
            let (read, rounds) = (timebase(), guest.progress(0));
            guest.stop(0);
            running.join().expect("a guest").map(|()| (read, rounds))
        })?;
        guest.unstop(0);
        let own = rounds * TIME_ROUND * TICKS.0 / TICKS.1;
        let ticks = read - guest.times(0).sent;
        samples.add("guest_to_idle_cpu", ticks.saturating_sub(own));
    }
    Ok(())
}

/// A thread of the host that rings a guest.
fn host_to_guest(driver: &str, samples: &mut Samples) -> io::Result<()> {
    let (guest, mut cpus) = Guest::new(1)?;
    let bell = Bell::new(driver, &guest, true)?;
    let cpu = &mut cpus[0];

    guest.irqfd(&bell.event, NUMBER, 0)?;
    thread::scope(|scope| {
        let running = scope.spawn(|| cpu.call(Call::Wait));
        run_at_once()?;
        for _ in 0..WARM_UP + N {
            thread::sleep(SETTLE);
            let taken = guest.taken(0);
            let sent = timebase();
            bell.ring();
            let rung = timebase();
            while guest.taken(0) == taken && !running.is_finished() {
                thread::sleep(SETTLE);
            }
            samples.add("host_send", rung - sent);
            samples.add("host_to_guest", guest.times(0).came - sent);
        }
        guest.stop(0);
        running.join().expect("a guest").map(|_| ())
    })
}

fn main() -> io::Result<()> {
    let driver = env::args().nth(1).unwrap_or_default();
    let mut samples = Samples(Vec::new());

    if thread::available_parallelism()?.get() > 1 {
        guest_to_idle_cpu(&driver, &mut samples)?;
    } else {
        guest_to_guest(&driver, &mut samples)?;
        guest_to_host(&driver, &mut samples)?;
        host_to_guest(&driver, &mut samples)?;
    }
    samples.print(&driver);
    Ok(())
}
