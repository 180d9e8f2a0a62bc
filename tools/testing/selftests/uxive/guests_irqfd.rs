// SPDX-License-Identifier: GPL-2.0

//! Promise: a guest rings another by a doorbell whose eventfd is KVM's irqfd. Each acknowledged
//! ring is one interrupt. The ringer stays in its guest; the host is interrupted for each ring.

mod cpu;
mod guest;
mod ktap;
mod kvm;

use cpu::pin_to_cpu;
use guest::{
    counted,
    doorbells,
    guest,
    rings,
    watched,
    WATCHDOG, //
};
use std::{
    process::ExitCode,
    thread, //
};
use uxive::{
    Context,
    Event, //
};
use vmm::{
    guest::SLOT_SHOWN,
    Call, //
};

/// A guest rings a doorbell, whose eventfd interrupts another guest.
fn interrupts_another_guest(wait: Call) {
    const NUMBER: u32 = 0x20;
    let rounds = rings(500);

    pin_to_cpu(0);
    let context = Context::open().unwrap();
    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    irq.bind(&event).unwrap();
    let ((ringer, mut ringers), (taker, mut takers)) = (guest(1), guest(1));
    taker.irqfd(&event, NUMBER, 0).unwrap();
    let pages = doorbells(irq.export().unwrap(), 0, 1);
    let page = ringer.show(SLOT_SHOWN, 0, &pages).unwrap();
    ringer
        .vm()
        .show_memory(SLOT_SHOWN + 1, 4 << 40, taker.memory())
        .unwrap();

    thread::scope(|scope| {
        let taking = scope.spawn(|| {
            pin_to_cpu(1);
            counted(&mut takers[0], wait)
        });
        let mut ring = |from, to| {
            let counters = (4 << 40) + taker.taken_address(0, false);
            let call = Call::RingAndWait {
                pages: page,
                count: 1,
                counters,
                from,
                to,
            };

            watched(&[&ringer, &taker], || counted(&mut ringers[0], call))
        };
        ring(0, 1);
        let (result, rung) = ring(1, rounds);
        taker.stop(0);
        // Wakes it, if it has ceded.
        irq.ring();
        let (taken, took) = taking.join().unwrap();
        ktap::log(&format!("{} rings: {rung}; taken: {took}", rounds - 1));
        assert_eq!(result, rounds);
        assert!(
            (rounds..=rounds + 1).contains(&taken),
            "{taken} taken of {rounds}"
        );
        assert_eq!((taker.taken(0), taker.last(0)), (taken, NUMBER.into()));
        assert_eq!(rung.own(), 1);
    });
    // After that the eventfd is the program's again.
    taker.vm().no_irqfd(&event, NUMBER).unwrap();
    irq.ring();
    assert!(event.wait(WATCHDOG).unwrap().is_some());
}

fn an_eventfd_interrupts_a_guest_that_runs() {
    interrupts_another_guest(Call::Wait);
}

fn an_eventfd_interrupts_a_guest_that_has_ceded() {
    interrupts_another_guest(Call::Cede);
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    kvm::with(|| {
        tests![
            an_eventfd_interrupts_a_guest_that_runs,
            an_eventfd_interrupts_a_guest_that_has_ceded,
        ]
    })
}
