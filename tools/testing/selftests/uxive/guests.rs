// SPDX-License-Identifier: GPL-2.0

//! Promise: a guest of KVM rings interrupts, drains queues and ends interrupts as a program does,
//! by pages that its VMM shows it, and leaves the guest to populate them only. Pages that are taken
//! away are gone in the guest as well, which stops with `EFAULT`, and its VMM can have it go on.
//!
//! Each test prints how often virtual CPUs left the guest.

mod cpu;
mod guest;
mod ktap;
mod kvm;

use cpu::pin_to_cpu;
use guest::{
    counted,
    done,
    doorbells,
    guest,
    rings,
    watched,
    PAGE,
    WATCHDOG, //
};
use rustix::{
    event::{
        poll,
        PollFd,
        PollFlags, //
    },
    mm::ProtFlags, //
};
use std::{
    fs,
    io,
    os::fd::{
        AsFd,
        OwnedFd, //
    },
    panic::{
        catch_unwind,
        AssertUnwindSafe, //
    },
    process::{
        Command,
        ExitCode, //
    },
    sync::{
        atomic::{
            AtomicU64,
            Ordering, //
        },
        Arc, //
    },
    thread, //
};
use uxive::{
    Batch,
    Context,
    Event, //
};
use vmm::{
    guest::SLOT_SHOWN,
    Call,
    Cpu,
    Exit,
    Guest,
    Outcome,
    Pages, //
};

const ALL_ONES: u64 = u64::MAX;
const EFAULT: Option<i32> = Some(14);

/// Where P and Q of an interrupt are read, behind its trigger page.
const GET: u64 = PAGE + 0x800;

fn load(cpu: &mut Cpu, address: u64) -> u64 {
    done(cpu, Call::Load { address })
}

fn is_efault(outcome: io::Result<Outcome>) -> bool {
    outcome.is_err_and(|error| error.raw_os_error() == EFAULT)
}

fn the_first_store_to_a_doorbell_is_an_exit_and_no_other() {
    let rings = rings(200_000);

    pin_to_cpu(0);
    let context = Context::open().unwrap();
    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    irq.bind(&event).unwrap();
    let (guest, mut cpus) = guest(1);
    let cpu = &mut cpus[0];
    let pages = doorbells(irq.export().unwrap(), 0, 1);
    let page = guest.show(SLOT_SHOWN, 0, &pages).unwrap();

    pin_to_cpu(1);
    let (_, first) = counted(cpu, Call::Ring { page, times: 1 });
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
    let (_, more) = counted(cpu, Call::Ring { page, times: rings });
    assert!(event.wait(WATCHDOG).unwrap().is_some());
    // The same without a doorbell: stores to memory.
    let memory = guest.counter_address(0);
    let (_, control) = counted(
        cpu,
        Call::Ring {
            page: memory,
            times: rings,
        },
    );
    ktap::log(&format!("first store: {first}"));
    ktap::log(&format!("{rings} stores: {more}"));
    ktap::log(&format!("{rings} stores to memory: {control}"));
    assert_eq!((first.own(), more.own(), control.own()), (2, 1, 1));
}

fn four_cpus_ring_64_doorbells_and_lose_nothing() {
    const CPUS: u32 = 4;
    const EACH: u32 = 16;
    const IRQS: u32 = CPUS * EACH;
    let rounds = rings(200);

    pin_to_cpu(0);
    let mut drain = Context::open().unwrap().drain(IRQS).unwrap();
    let (guest, cpus) = guest(CPUS);
    let pages = doorbells(drain.export(0, IRQS).unwrap(), 0, IRQS.into());
    let page = guest.show(SLOT_SHOWN, 0, &pages).unwrap();
    let mut events = [0; IRQS as usize];

    thread::scope(|scope| {
        let guest = &guest;
        let ringers: Vec<_> = (0..CPUS)
            .zip(cpus)
            .map(|(number, mut cpu)| {
                let first = number * EACH;

                scope.spawn(move || {
                    pin_to_cpu(number as usize);
                    let call = Call::RingAndWait {
                        pages: page + u64::from(first) * PAGE,
                        count: EACH.into(),
                        counters: guest.counter_address(first),
                        from: 0,
                        to: rounds,
                    };
                    counted(&mut cpu, call)
                })
            })
            .collect();

        for _ in 0..u64::from(IRQS) * rounds {
            let Some(slot) = drain.wait(WATCHDOG).unwrap() else {
                (0..CPUS).for_each(|cpu| guest.stop(cpu));
                break;
            };
            drain.eoi(slot);
            events[slot as usize] += 1;
            guest.counter(slot).fetch_add(1, Ordering::SeqCst);
        }
        for ringer in ringers {
            let (result, exits) = ringer.join().unwrap();

            ktap::log(&format!(
                "{} rings of {EACH} doorbells: {exits}",
                result * u64::from(EACH)
            ));
            assert_eq!(result, rounds);
            // One for each page. A fault that another CPU disturbs is taken again.
            assert!((EACH + 1..EACH + 5).contains(&(exits.own() as u32)));
        }
    });
    assert!(events.iter().all(|&events| events == rounds), "{events:?}");
    assert_eq!(drain.try_next(), None);
}

fn a_range_is_one_sparse_memslot_populated_on_demand() {
    const SLOTS: u32 = 1024;
    const IRQS: u32 = 4;
    const EMPTY: u32 = SLOTS - 1;
    let access = ProtFlags::READ | ProtFlags::WRITE;

    pin_to_cpu(0);
    let context = Context::open().unwrap();
    let drain = context.range(SLOTS).unwrap().drain(IRQS).unwrap();
    let info = drain.info().unwrap();
    let (esb, queue) = (info.esb, info.queue);
    let (guest, mut cpus) = guest(1);
    let cpu = &mut cpus[0];

    // The ESBs of all slots, and behind them the queue.
    let queue_at = u64::from(SLOTS) * esb.stride;
    let pages = Arc::new(Pages::reserve((queue_at + queue.length) as usize).unwrap());
    pages
        .place(0, &drain, access, esb.offset..esb.offset + queue_at)
        .unwrap();
    let offsets = queue.offset..queue.offset + queue.length;
    pages
        .place(queue_at as usize, &drain, ProtFlags::READ, offsets)
        .unwrap();
    let base = guest.show(SLOT_SHOWN, 0, &pages).unwrap();
    guest.queue(0, base + queue_at, base);
    let at = |slot: u32| base + u64::from(slot) * esb.stride;

    pin_to_cpu(1);
    let touched = |cpu: &mut Cpu| -> u64 {
        let touch = |slot| {
            counted(
                cpu,
                Call::Load {
                    address: at(slot) + GET,
                },
            )
        };
        (0..IRQS)
            .map(touch)
            .map(|(pq, exits)| {
                assert_eq!(pq, 0);
                exits.own()
            })
            .sum()
    };
    let (first, second) = (touched(cpu), touched(cpu));
    ktap::log(&format!(
        "first touch of {IRQS} pages: {first} exits, second: {second}"
    ));
    assert_eq!((first, second), (2 * u64::from(IRQS), u64::from(IRQS)));

    // It rings, takes the event and ends the interrupt.
    done(
        cpu,
        Call::Store {
            address: at(2),
            value: 0,
        },
    );
    assert_eq!(load(cpu, at(2) + GET), 2);
    assert_eq!(done(cpu, Call::Drain { events: 1 }), 1);
    assert_eq!(load(cpu, at(2) + GET), 0);

    // The queue is hardware's to write.
    assert!(is_efault(cpu.call(Call::Store {
        address: base + queue_at,
        value: 0
    })));
    // A slot gets a page by the interrupt that is allocated there, and the guest goes on.
    assert!(is_efault(cpu.call(Call::Load {
        address: at(EMPTY) + GET
    })));
    assert!(is_efault(cpu.resume()));
    let file = drain.as_fd().try_clone_to_owned().unwrap();
    let other = Context::try_from(file).unwrap();
    let there = Batch {
        start: Some(EMPTY),
        ..Default::default()
    };
    let irqs = other.alloc_many(1, &there).unwrap();
    assert_eq!(cpu.resume().unwrap(), Outcome::Done(0));
    irqs.free().unwrap();
    assert!(is_efault(cpu.call(Call::Load {
        address: at(EMPTY) + GET
    })));
}

fn a_guest_drains_its_queue_and_ends_interrupts_by_itself() {
    let rounds = rings(2_000);
    let access = ProtFlags::READ | ProtFlags::WRITE;

    pin_to_cpu(0);
    let drain = Context::open().unwrap().drain(1).unwrap();
    let info = drain.info().unwrap();
    let (esb, queue) = (info.esb, info.queue);
    let (guest, mut cpus) = guest(2);
    let map = |access, offset, length| {
        Arc::new(Pages::of(&drain, access, offset..offset + length).unwrap())
    };
    let esbs = guest
        .show(SLOT_SHOWN, 0, &map(access, esb.offset, esb.stride))
        .unwrap();
    let queue_pages = map(ProtFlags::READ, queue.offset, queue.length);
    let queue = guest.show(SLOT_SHOWN + 1, 1 << 32, &queue_pages).unwrap();
    guest.queue(1, queue, esbs);

    let (mut drainer, mut ringer) = (cpus.pop().unwrap(), cpus.pop().unwrap());
    let mut run = |from, to| {
        let ring = Call::RingAndWait {
            pages: esbs,
            count: 1,
            counters: guest.taken_address(1, true),
            from,
            to,
        };

        thread::scope(|scope| {
            let drainer = scope.spawn(|| {
                pin_to_cpu(1);
                counted(&mut drainer, Call::Drain { events: to })
            });
            let rung = watched(&[&guest], || counted(&mut ringer, ring));
            (rung, drainer.join().unwrap())
        })
    };
    let (rung, drained) = run(0, 10);
    ktap::log(&format!("10 rings: {}; taken: {}", rung.1, drained.1));
    // Its first touch of each page: the ringer's trigger page, the drainer's queue and management
    // page.
    assert!(rung.1.own() <= 2 && drained.1.own() <= 3);
    let (rung, drained) = run(10, rounds);
    ktap::log(&format!(
        "{} rings: {}; taken: {}",
        rounds - 10,
        rung.1,
        drained.1
    ));
    assert_eq!((rung.0, drained.0), (rounds, rounds));
    assert_eq!((rung.1.own(), drained.1.own()), (1, 1));
}

fn a_load_before_any_store_is_efault() {
    let context = Context::open().unwrap();
    let irq = context.alloc().unwrap();
    let (guest, mut cpus) = guest(1);
    let cpu = &mut cpus[0];
    let pages = doorbells(irq.export().unwrap(), 0, 1);
    let page = guest.show(SLOT_SHOWN, 0, &pages).unwrap();

    assert!(is_efault(cpu.call(Call::Load { address: page })));
    assert!(is_efault(cpu.resume()));
    done(cpu, Call::Ring { page, times: 1 });
    assert_eq!(load(cpu, page), ALL_ONES);
}

/// Takes a doorbell from a guest that stores to it all the time, again and again. `make` returns
/// the doorbell and the way to take it away.
fn taken_from_a_running_guest<T: FnOnce(&Pages)>(make: impl Fn() -> (Arc<Pages>, T)) {
    const ROUNDS: usize = 20;
    let mut hits = 0;

    for _ in 0..ROUNDS {
        pin_to_cpu(0);
        let (pages, take) = make();
        let (guest, mut cpus) = guest(1);
        let page = guest.show(SLOT_SHOWN, 0, &pages).unwrap();
        let mut cpu = cpus.pop().unwrap();

        thread::scope(|scope| {
            let guest = &guest;
            let running = scope.spawn(move || {
                pin_to_cpu(1);
                (cpu.call(Call::RingUntilStopped { page }), cpu)
            });
            while guest.progress(0) == 0 && !running.is_finished() {
                thread::yield_now();
            }
            let before = guest.progress(0);
            let taken = catch_unwind(AssertUnwindSafe(|| take(&pages)));
            // An interrupt that comes in its place is not rung.
            let next = Context::open().unwrap();
            let (irq, event) = (next.alloc().unwrap(), Event::new().unwrap());
            irq.bind(&event).unwrap();
            if taken.is_err() {
                guest.stop(0);
            }
            let (outcome, mut cpu) = running.join().unwrap();
            assert!(is_efault(outcome));
            hits += usize::from(guest.progress(0) > before);
            for _ in 0..2 {
                irq.ring();
                assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
            }
            // It stays so.
            assert!(is_efault(cpu.resume()));
        });
    }
    ktap::log(&format!(
        "{ROUNDS} times, in {hits} the guest stored after the call had begun"
    ));
    assert!(hits > ROUNDS / 2);
}

fn a_revoked_one_is_gone_under_a_running_guest() {
    taken_from_a_running_guest(|| {
        let context = Context::open().unwrap();
        let irq = context.alloc().unwrap();
        let export = irq.export().unwrap();

        (doorbells(&export, 0, 1), move |_: &Pages| {
            export.revoke().unwrap();
            drop((irq, context));
        })
    });
}

fn a_freed_one_is_gone_under_a_running_guest() {
    taken_from_a_running_guest(|| {
        let context = Context::open().unwrap();
        let irq = context.alloc().unwrap();

        (doorbells(&context, irq.offset(), 1), move |_: &Pages| {
            irq.free().unwrap();
        })
    });
}

fn one_of_a_closed_context_is_gone_under_a_running_guest() {
    taken_from_a_running_guest(|| {
        let drain = Context::open().unwrap().drain(1).unwrap();

        (
            doorbells(drain.export(0, 1).unwrap(), 0, 1),
            move |_: &Pages| drop(drain),
        )
    });
}

fn an_unmapped_one_is_gone_under_a_running_guest() {
    taken_from_a_running_guest(|| {
        let context = Context::open().unwrap();
        let irq = context.alloc().unwrap();
        let export = irq.export().unwrap();

        (doorbells(&export, 0, 1), move |pages: &Pages| {
            pages.withdraw(0, PAGE as usize).unwrap();
            drop((irq, context));
        })
    });
}

fn one_of_an_unplugged_accelerator_is_gone_under_a_running_guest() {
    const FUNCTION: &str = "0000:01:00.0";
    let device = format!("/sys/bus/pci/devices/{FUNCTION}");
    let driver = "/sys/bus/pci/drivers/uxive";

    taken_from_a_running_guest(|| {
        fs::write(format!("{device}/driver_override"), "uxive\n").unwrap();
        fs::write(format!("{driver}/bind"), FUNCTION).unwrap();
        let path = format!("/dev/ocxl/IBM,MEMCPY3.{FUNCTION}.0");
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let context = Context::try_from(OwnedFd::from(file)).unwrap();
        let irq = context.alloc().unwrap();

        (doorbells(&context, irq.offset(), 1), move |_: &Pages| {
            fs::write(format!("{driver}/unbind"), FUNCTION).unwrap();
            drop((irq, context));
        })
    });
    fs::write(format!("{device}/driver_override"), "\n").unwrap();
}

/// Revokes a doorbell that a guest stores to, and has the VMM mend it. The guest goes on.
fn survives_a_revoke(mend: impl FnOnce(&Guest, &Pages, &mut Cpu, u64) + Send) {
    pin_to_cpu(0);
    let context = Context::open().unwrap();
    let irq = context.alloc().unwrap();
    let export = irq.export().unwrap();
    let file = export.as_fd().try_clone_to_owned().unwrap();
    let pages = doorbells(&export, 0, 1);
    let (guest, mut cpus) = guest(1);
    let page = guest.show(SLOT_SHOWN, 0, &pages).unwrap();
    let mended = AtomicU64::new(0);

    thread::scope(|scope| {
        let running = scope.spawn(|| {
            let cpu = &mut cpus[0];

            pin_to_cpu(1);
            assert!(is_efault(cpu.call(Call::RingUntilStopped { page })));
            let before = guest.progress(0);
            // That is how the VMM knows which one it was. The guest may stop before that is told.
            let mut entry = [PollFd::new(&file, PollFlags::empty())];
            while poll(&mut entry, 0).unwrap() == 0 {
                assert!(is_efault(cpu.resume()));
            }
            assert!(entry[0].revents().contains(PollFlags::HUP));
            mend(&guest, &pages, cpu, page);
            mended.store(guest.progress(0), Ordering::SeqCst);
            (before, cpu.resume().unwrap())
        });
        while guest.progress(0) == 0 && !running.is_finished() {
            thread::yield_now();
        }
        export.revoke().unwrap();
        while !running.is_finished()
            && matches!(mended.load(Ordering::SeqCst), mended if mended == 0 || guest.progress(0) <= mended)
        {
            thread::yield_now();
        }
        guest.stop(0);
        let (before, outcome) = running.join().unwrap();
        let mended = mended.load(Ordering::SeqCst);
        ktap::log(&format!(
            "{before} stores, revoked, {mended} stores, mended, {outcome:?}"
        ));
        assert!(matches!(outcome, Outcome::Done(stores) if stores > mended));
    });
}

fn a_vmm_survives_a_revoke_by_memory_in_its_place() {
    survives_a_revoke(|_, pages, _, _| pages.place_memory(0, PAGE as usize).unwrap());
}

fn a_vmm_survives_a_revoke_by_deleting_the_memslot() {
    let context = Context::open().unwrap();
    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    irq.bind(&event).unwrap();
    let another = doorbells(irq.export().unwrap(), 0, 1);

    survives_a_revoke(|guest, _, cpu, page| {
        guest.vm().delete(SLOT_SHOWN).unwrap();
        // Each store is the VMM's, which may drop it.
        for _ in 0..3 {
            let Outcome::Exit(Exit::Mmio {
                address,
                length: 8,
                stored: Some(_),
            }) = cpu.resume().unwrap()
            else {
                panic!("no store of 8 bytes");
            };
            assert_eq!(address, page);
        }
        // Or it shows another doorbell there.
        guest.show(SLOT_SHOWN, 0, &another).unwrap();
    });
    assert!(event.wait(WATCHDOG).unwrap().is_some());
}

fn the_example_does_what_it_says() {
    let output = Command::new("/bin/example-doorbell").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();

    ktap::log(&said);
    assert!(output.status.success());
    for line in [
        "1 rings: 2 exits of its own, ",
        "10000 rings: 1 exits of its own, ",
        "revoked: Bad address ",
        "memory in its place: Done(0)",
        "no memslot: a store to ",
        "and on: Done(0)",
    ] {
        assert!(said.contains(line), "{line}");
    }
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    kvm::with(|| {
        tests![
            the_first_store_to_a_doorbell_is_an_exit_and_no_other,
            four_cpus_ring_64_doorbells_and_lose_nothing,
            a_range_is_one_sparse_memslot_populated_on_demand,
            a_guest_drains_its_queue_and_ends_interrupts_by_itself,
            a_load_before_any_store_is_efault,
            a_revoked_one_is_gone_under_a_running_guest,
            a_freed_one_is_gone_under_a_running_guest,
            one_of_a_closed_context_is_gone_under_a_running_guest,
            an_unmapped_one_is_gone_under_a_running_guest,
            one_of_an_unplugged_accelerator_is_gone_under_a_running_guest,
            a_vmm_survives_a_revoke_by_memory_in_its_place,
            a_vmm_survives_a_revoke_by_deleting_the_memslot,
            the_example_does_what_it_says,
        ]
    })
}
