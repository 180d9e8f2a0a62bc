// SPDX-License-Identifier: GPL-2.0

//! Promise: a guest that stores 4 bytes to a doorbell, which XIVE does not take, gets a machine
//! check. The guest and the host live on.
//!
//! The kernel switches lockdep off then, so this is not for kernels that have it. Nor is it for the
//! emulated POWER10, which takes the store.

mod ktap;
mod kvm;

use rustix::mm::ProtFlags;
use std::{
    fs,
    process::ExitCode,
    sync::Arc,
    time::Duration, //
};
use uxive::{
    Context,
    Event, //
};
use vmm::{
    guest::SLOT_SHOWN,
    Call,
    Guest,
    Outcome,
    Pages, //
};

const PAGE: u64 = 64 * 1024;
const MACHINE_CHECK: u64 = 0x200;
const WATCHDOG: Option<Duration> = Some(Duration::from_secs(100));

fn a_store_of_4_bytes_is_one_of_the_guest() {
    let context = Context::open().unwrap();
    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    irq.bind(&event).unwrap();
    let pages = Pages::of(irq.export().unwrap(), ProtFlags::WRITE, 0..PAGE).unwrap();
    let (guest, mut cpus) = Guest::new(1).unwrap();
    let page = guest.show(SLOT_SHOWN, 0, &Arc::new(pages)).unwrap();
    let cpu = &mut cpus[0];
    let log = |line: &str| fs::write("/dev/kmsg", format!("uxive selftest: {line}\n")).unwrap();
    let ring = Call::Ring { page, times: 1 };
    let word = Call::StoreWord {
        address: page,
        value: 0,
    };

    assert_eq!(cpu.call(ring).unwrap(), Outcome::Done(0));
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
    log("a guest has a machine check");
    let outcome = cpu.call(word).unwrap();
    log("no more guest has a machine check");
    ktap::log(&format!("{outcome:x?}"));
    assert!(matches!(
        outcome,
        Outcome::Exception {
            vector: MACHINE_CHECK,
            ..
        }
    ));
    // The guest and the host go on.
    assert_eq!(cpu.call(ring).unwrap(), Outcome::Done(0));
    assert!(event.wait(WATCHDOG).unwrap().is_some());
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    kvm::with(|| tests![a_store_of_4_bytes_is_one_of_the_guest])
}
