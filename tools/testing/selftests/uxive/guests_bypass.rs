// SPDX-License-Identifier: GPL-2.0

//! Promise: an interrupt that is bound for irq bypass reaches a guest without the host. Each
//! acknowledged ring is one event of the guest, or of the eventfd while there is no guest. The guest
//! or the interrupt goes first, and the other lives on.
//!
//! KVM as released has defects on this way. So a virtual CPU has ended its interrupts before one is
//! taken away, and each irqfd is for a source that is there.

mod cpu;
mod guest;
mod ktap;
mod kvm;
mod switch;

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
    env,
    fs,
    io::{
        self,
        BufRead,
        BufReader, //
    },
    process::{
        Command,
        ExitCode,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    }, //
};
use switch::with_bypass;
use uxive::{
    Context,
    Event,
    Irq, //
};
use vmm::{
    guest::SLOT_SHOWN,
    Call,
    Cpu,
    Exits,
    Guest,
    Outcome, //
};

const NUMBER: u32 = 0x20;
const EFAULT: Option<i32> = Some(14);

/// The argument with which this program is a VMM that runs until it is killed.
const VMM: &str = "vmm";

fn sysfs(name: &str) -> String {
    let path = format!("/sys/class/misc/uxive/{name}");

    fs::read_to_string(path).unwrap().trim().into()
}

/// Waits until it is so.
fn becomes(is: impl Fn() -> bool) -> bool {
    let end = Instant::now() + WATCHDOG.unwrap();

    while !is() && Instant::now() < end {
        thread::yield_now();
    }
    is()
}

/// An interrupt, its eventfd, and a guest with one virtual CPU that can have both.
struct Pair {
    irq: Irq,
    event: Event,
    guest: Guest,
    cpus: Vec<Cpu>,
}

impl Pair {
    fn new() -> Self {
        let context = Context::open().unwrap();
        let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
        let (guest, cpus) = guest(1);

        Self {
            irq,
            event,
            guest,
            cpus,
        }
    }

    /// Gives the interrupt to the guest, in either order.
    fn connect(&self, guest_first: bool) {
        if !guest_first {
            self.irq.bind_bypass(&self.event).unwrap();
        }
        self.guest.irqfd(&self.event, NUMBER, 0).unwrap();
        if guest_first {
            self.irq.bind_bypass(&self.event).unwrap();
        }
    }
}

/// Has the virtual CPU of a guest end its routine when this is dropped, also if a promise is broken.
struct Running<'a> {
    guest: &'a Guest,
    /// Wakes it, if it has ceded.
    irq: Option<&'a Irq>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.guest.stop(0);
        if let Some(irq) = self.irq {
            irq.ring();
        }
    }
}

/// As [`running_on`], of a guest whose pages are there all the while.
fn running(
    guest: &Guest,
    cpu: &mut Cpu,
    irq: &Irq,
    wait: Call,
    run: impl FnOnce(),
) -> (u64, Exits) {
    let (taken, exits, again) = running_on(guest, cpu, irq, wait, run);

    assert_eq!(again, 0);
    (taken, exits)
}

/// Runs the virtual CPU on a host's CPU of its own, while `run` is called. Returns how many events it has
/// taken, its exits, and how often it was run again after `EFAULT`: KVM looks for a page, has it placed,
/// looks again (`hva_to_pfn_remapped()`), and gives up if the page was withdrawn in between, as the pages
/// of an ESB are when an interrupt comes or goes.
fn running_on(
    guest: &Guest,
    cpu: &mut Cpu,
    irq: &Irq,
    wait: Call,
    run: impl FnOnce(),
) -> (u64, Exits, u64) {
    thread::scope(|scope| {
        let taking = scope.spawn(|| {
            pin_to_cpu(1);
            let before = cpu.exits().unwrap();
            let mut outcome = cpu.call(wait);
            let mut again = 0;

            while outcome.as_ref().err().and_then(io::Error::raw_os_error) == EFAULT {
                again += 1;
                assert!(again < 100, "its page does not come");
                outcome = cpu.resume();
            }
            match outcome.unwrap() {
                Outcome::Done(taken) => (taken, cpu.exits().unwrap() - before, again),
                other => panic!("{other:x?}"),
            }
        });
        let running = Running {
            guest,
            irq: matches!(wait, Call::Cede).then_some(irq),
        };

        watched(&[guest], run);
        drop(running);
        taking.join().unwrap()
    })
}

/// Rings, and waits until the guest has taken an event for it.
fn ring(irq: &Irq, guest: &Guest) -> bool {
    let before = guest.taken(0);

    irq.ring();
    let comes = becomes(|| guest.taken(0) > before);
    if !comes {
        // P and Q tell where it is.
        ktap::log(&fs::read_to_string("/sys/kernel/debug/uxive/slots").unwrap_or_default());
    }
    comes
}

/// The host rings a guest.
fn reaches_a_guest(wait: Call, guest_first: bool) {
    let rounds = rings(10_000);
    let mut pair = Pair::new();

    pin_to_cpu(0);
    pair.connect(guest_first);
    let Pair {
        irq,
        event,
        guest,
        cpus,
    } = &mut pair;
    let (taken, exits) = running(guest, &mut cpus[0], irq, wait, || {
        // That which is sent for certain.
        assert!(becomes(|| guest.taken(0) == 1));
        for _ in 0..rounds {
            assert!(ring(irq, guest));
        }
    });
    ktap::log(&format!("{rounds} rings, {taken} taken, {exits}"));
    match wait {
        Call::Wait => {
            assert_eq!(taken, rounds + 1);
            // The first touch of its page, and the call at the end.
            assert!(exits.own() <= 4, "{exits}");
            // No more than others cause.
            assert!(exits.interrupts < rounds / 10, "{exits}");
        }
        _ => assert!((rounds + 1..=rounds + 2).contains(&taken), "{taken}"),
    }
    assert_eq!(guest.last(0), NUMBER.into());
    assert_eq!(event.wait(Some(Duration::from_nanos(1))).unwrap(), None);
    // After that the eventfd is the program's again.
    guest.vm().no_irqfd(&*event, NUMBER).unwrap();
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
    irq.ring();
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
}

fn a_guest_that_runs_is_rung_without_the_host() {
    reaches_a_guest(Call::Wait, false);
}

fn a_guest_that_comes_first_is_rung_as_well() {
    reaches_a_guest(Call::Wait, true);
}

fn a_guest_that_has_ceded_is_woken() {
    reaches_a_guest(Call::Cede, false);
}

/// A guest rings another, and neither leaves for it.
fn a_guest_rings_a_guest() {
    let rounds = rings(10_000);
    let mut pair = Pair::new();

    pin_to_cpu(0);
    pair.connect(false);
    let (ringer, mut ringers) = guest(1);
    let Pair {
        irq, guest, cpus, ..
    } = &mut pair;
    let pages = doorbells(irq.export().unwrap(), 0, 1);
    let page = ringer.show(SLOT_SHOWN, 0, &pages).unwrap();
    ringer
        .vm()
        .show_memory(SLOT_SHOWN + 1, 4 << 40, guest.memory())
        .unwrap();
    let counters = (4 << 40) + guest.taken_address(0, false);
    let mut rung = Exits::default();

    let (taken, exits) = running(guest, &mut cpus[0], irq, Call::Wait, || {
        assert!(becomes(|| guest.taken(0) == 1));
        let mut ring = |from, to| {
            let call = Call::RingAndWait {
                pages: page,
                count: 1,
                counters,
                from,
                to,
            };

            counted(&mut ringers[0], call)
        };
        // The first store to the page exits.
        assert_eq!(ring(1, 2).0, 2);
        let (result, exits) = ring(2, rounds);
        assert_eq!(result, rounds);
        rung = exits;
    });
    ktap::log(&format!("{rounds} rings: {rung}; taken: {exits}"));
    assert_eq!(taken, rounds);
    assert_eq!(rung.own(), 1);
    assert!(exits.own() <= 4, "{exits}");
}

/// The guest and the host get the interrupt in turn, and each ring comes where it is rung.
fn no_ring_is_lost_while_the_guest_comes_and_goes() {
    // Each of KVM's calls waits for two grace periods.
    let cycles = rings(500);
    let mut pair = Pair::new();

    pin_to_cpu(0);
    pair.connect(false);
    let Pair {
        irq,
        event,
        guest,
        cpus,
    } = &mut pair;
    let mut of_host = 0;
    let (taken, exits, again) = running_on(guest, &mut cpus[0], irq, Call::Wait, || {
        assert!(becomes(|| guest.taken(0) == 1));
        for _ in 0..cycles {
            assert!(ring(irq, guest));
            guest.vm().no_irqfd(&*event, NUMBER).unwrap();
            assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
            irq.ring();
            of_host += event.wait(WATCHDOG).unwrap().unwrap();

            let before = guest.taken(0);
            guest.vm().irqfd(&*event, NUMBER).unwrap();
            assert!(becomes(|| guest.taken(0) > before));
        }
    });
    ktap::log(&format!(
        "{cycles} cycles: {of_host} of the host, {taken} taken, {exits}, EFAULT {again} times"
    ));
    assert_eq!((of_host, taken), (cycles, 2 * cycles + 1));
}

/// The guest keeps its irqfd while the interrupt is bound otherwise, and given to it again. Each ring comes,
/// and one event for certain when it is given.
fn no_ring_is_lost_while_the_interrupt_comes_and_goes() {
    let cycles = rings(2_000);
    let mut pair = Pair::new();
    let other = Event::new().unwrap();

    pin_to_cpu(0);
    pair.connect(false);
    let Pair {
        irq,
        event,
        guest,
        cpus,
    } = &mut pair;
    let (taken, exits, again) = running_on(guest, &mut cpus[0], irq, Call::Wait, || {
        assert!(becomes(|| guest.taken(0) == 1));
        for cycle in 0..cycles {
            assert!(ring(irq, guest));
            match cycle % 2 {
                0 => irq.unbind().unwrap(),
                _ => irq.bind(&other).unwrap(),
            }
            let before = guest.taken(0);
            irq.bind_bypass(&*event).unwrap();
            assert!(becomes(|| guest.taken(0) > before));
        }
    });
    ktap::log(&format!(
        "{cycles} cycles: {taken} taken, {exits}, EFAULT {again} times"
    ));
    assert!((2 * cycles + 1..=4 * cycles + 1).contains(&taken));
}

/// Each of the two goes first.
fn either_can_go_first() {
    for round in 0..rings(50) {
        let pair = Pair::new();

        pair.connect(round % 2 == 0);
        let Pair {
            irq,
            event,
            guest,
            cpus,
        } = pair;
        match round / 2 % 3 {
            0 => {
                drop((guest, cpus));
                event.wait(WATCHDOG).unwrap();
                irq.ring();
                assert!(event.wait(WATCHDOG).unwrap().is_some());
            }
            1 => {
                irq.free().unwrap();
                drop((guest, cpus));
            }
            _ => {
                drop(event);
                drop((guest, cpus));
                irq.ring();
            }
        }
    }
    assert!(becomes(|| sysfs("bypasses") == "0"));
}

/// The VMM that is killed.
fn vmm() {
    let mut pair = Pair::new();

    pair.connect(false);
    let Pair {
        irq, guest, cpus, ..
    } = &mut pair;
    running(guest, &mut cpus[0], irq, Call::Wait, || {
        assert!(ring(irq, guest));
        println!("ready");
        loop {
            ring(irq, guest);
        }
    });
}

fn a_vmm_that_is_killed_leaves_nothing() {
    for _ in 0..rings(10).max(2) {
        let mut vmm = Command::new("/proc/self/exe")
            .arg(VMM)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();

        BufReader::new(vmm.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(
            (line.as_str(), sysfs("bypasses").as_str()),
            ("ready\n", "1")
        );
        vmm.kill().unwrap();
        vmm.wait().unwrap();
        assert!(becomes(|| sysfs("bypasses") == "0" && sysfs("irqs") == "0"));
    }
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    if env::args().nth(1).as_deref() == Some(VMM) {
        vmm();
        return ExitCode::FAILURE;
    }
    kvm::with(|| {
        with_bypass(|| {
            tests![
                a_guest_that_runs_is_rung_without_the_host,
                a_guest_that_comes_first_is_rung_as_well,
                a_guest_that_has_ceded_is_woken,
                a_guest_rings_a_guest,
                no_ring_is_lost_while_the_guest_comes_and_goes,
                no_ring_is_lost_while_the_interrupt_comes_and_goes,
                either_can_go_first,
                a_vmm_that_is_killed_leaves_nothing,
            ]
        })
    })
}
