// SPDX-License-Identifier: GPL-2.0

//! Promise: two guests of two VMMs, each a process of its own, ring each other by doorbells that were
//! passed on by a socket. Each ring that is answered before the next is one event, and a doorbell that is
//! revoked under fire rings nothing any more. By irq bypass neither side leaves its guest; by KVM's irqfd
//! the ringer does not.
//!
//! Each test prints how often virtual CPUs left the guest.

mod cpu;
mod guest;
mod ktap;
mod kvm;
mod switch;

use cpu::pin_to_cpu;
use guest::{
    counted,
    done,
    doorbells,
    guest,
    rings,
    watched, //
};
use std::{
    env,
    io::{
        self,
        Read,
        Write, //
    },
    os::{
        fd::{
            AsFd,
            OwnedFd, //
        },
        unix::net::UnixStream, //
    },
    process::{
        Child,
        Command,
        ExitCode,
        Stdio, //
    },
    thread,
    time::Duration, //
};
use switch::with_bypass;
use uxive::{
    Context,
    Event,
    Export,
    Irq,
    Receiver, //
};
use vmm::{
    guest::SLOT_SHOWN,
    Call,
    Cpu,
    Guest, //
};

const NUMBER: u32 = 0x20;
const EFAULT: Option<i32> = Some(14);
/// Rings that populate pages.
const FIRST: u64 = 10;

/// A VMM with a guest, an interrupt that rings it, and a doorbell of the other's guest.
struct Side {
    socket: UnixStream,
    guest: Guest,
    cpu: Cpu,
    export: Export,
    page: u64,
    irq: Irq,
    _event: Event,
}

impl Side {
    /// One that runs on a host's `cpu`, and is rung by irq bypass or by the irqfd alone.
    fn new(socket: UnixStream, cpu: usize, bypass: bool) -> Self {
        pin_to_cpu(cpu);
        let (irq, event) = (
            Context::open().unwrap().alloc().unwrap(),
            Event::new().unwrap(),
        );
        let (guest, mut cpus) = guest(1);
        if bypass {
            irq.bind_bypass(&event).unwrap();
        } else {
            irq.bind(&event).unwrap();
        }
        guest.irqfd(&event, NUMBER, 0).unwrap();
        let export = irq.export().unwrap();
        export.send(&socket).unwrap();
        let theirs = Receiver::receive_file(&socket).unwrap();
        let page = guest.show(SLOT_SHOWN, 0, &doorbells(theirs, 0, 1)).unwrap();

        Self {
            socket,
            guest,
            cpu: cpus.pop().unwrap(),
            export,
            page,
            irq,
            _event: event,
        }
    }

    /// Waits until the other side has come here, too.
    fn meet(&mut self) {
        self.socket.write_all(b"!").unwrap();
        self.socket.read_exact(&mut [0]).unwrap();
    }

    fn play(&mut self, serve: bool, bypass: bool) {
        let rounds = rings(10_000);
        // By bypass one event is sent for certain when the guest gets the interrupt. The other must not
        // take that for a ring.
        let first = u64::from(bypass);
        let (guest, cpu) = (&self.guest, &mut self.cpu);
        if bypass {
            let memory = guest.counter_address(0);
            let call = Call::Time {
                page: memory,
                taken: first,
            };
            watched(&[guest], || done(cpu, call));
        }
        self.meet();

        let populated = first + FIRST;
        for (from, to) in [(first, populated), (populated, populated + rounds)] {
            let call = Call::Play {
                page: self.page,
                from,
                to,
                serve,
            };
            let (guest, cpu) = (&self.guest, &mut self.cpu);
            let (taken, exits) = watched(&[guest], || counted(cpu, call));

            println!("# {} rings, {} taken: {exits}", to - from, taken - from);
            assert_eq!((taken, self.guest.last(0)), (to, NUMBER.into()));
            if from == populated {
                assert_eq!(exits.own(), 1);
                // Others of the machine may interrupt it.
                assert!(!bypass || exits.interrupts < rounds / 10, "{exits}");
            }
            self.meet();
        }
    }
}

/// In a second process: is rung by the first one's guest, revokes the doorbell, and is not rung again.
fn revoke(mut side: Side) {
    let (guest, mut cpu) = (&side.guest, side.cpu);
    let (taken, exits) = thread::scope(|scope| {
        let running = scope.spawn(move || {
            pin_to_cpu(1);
            counted(&mut cpu, Call::Wait)
        });
        watched(&[guest], || {
            while guest.taken(0) < FIRST && !running.is_finished() {
                thread::yield_now();
            }
        });
        side.export.revoke().unwrap();
        // Rings from before the call returned may be on their way.
        side.socket.write_all(b"!").unwrap();
        side.socket.read_exact(&mut [0]).unwrap();
        let last = settled(guest);
        // Its owner still rings it.
        side.irq.ring();
        watched(&[guest], || {
            while guest.taken(0) == last && !running.is_finished() {
                thread::yield_now();
            }
        });
        assert_eq!(guest.taken(0), last + 1);
        guest.stop(0);
        // Wakes it for the last time.
        running.join().unwrap()
    });

    println!("# taken {taken}: {exits}");
}

/// Returns how many interrupts the guest has taken, when no more come.
fn settled(guest: &Guest) -> u64 {
    let mut last = guest.taken(0);

    loop {
        thread::sleep(Duration::from_millis(20));
        match guest.taken(0) {
            now if now == last => return now,
            now => last = now,
        }
    }
}

/// Names the test whose second process this is; its socket is standard input.
const ROLE: &str = "GUESTS_PAIR_ROLE";
/// Is set for irq bypass.
const BYPASS: &str = "GUESTS_PAIR_BYPASS";

/// Starts the second process of a test.
fn second(role: &str, bypass: bool) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .env(ROLE, role)
        .envs(bypass.then_some((BYPASS, "")))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();

    (child, ours)
}

fn ring_each_other(bypass: bool) {
    let (mut child, socket) = second("play", bypass);

    Side::new(socket, 0, bypass).play(true, bypass);
    assert!(child.wait().unwrap().success());
}

fn two_guests_ring_each_other_by_bypass() {
    with_bypass(|| ring_each_other(true));
}

fn two_guests_ring_each_other_by_irqfds() {
    ring_each_other(false);
}

fn revoked_under_fire(bypass: bool) {
    const ROUNDS: usize = 20;
    let mut hits = 0;

    for _ in 0..ROUNDS {
        let (mut child, socket) = second("revoke", bypass);
        let mut side = Side::new(socket, 0, bypass);
        let (guest, cpu, page) = (&side.guest, &mut side.cpu, side.page);
        let outcome = watched(&[guest], || cpu.call(Call::RingUntilStopped { page }));

        assert!(outcome.is_err_and(|error| error.raw_os_error() == EFAULT));
        hits += usize::from(guest.progress(0) > FIRST);
        side.meet();
        assert!(child.wait().unwrap().success());
    }
    ktap::log(&format!("{ROUNDS} times, in {hits} the guest was storing"));
    assert_eq!(hits, ROUNDS);
}

fn a_doorbell_revoked_under_fire_rings_no_more_by_bypass() {
    with_bypass(|| revoked_under_fire(true));
}

fn a_doorbell_revoked_under_fire_rings_no_more_by_irqfd() {
    revoked_under_fire(false);
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    if let Ok(role) = env::var(ROLE) {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
        let bypass = env::var_os(BYPASS).is_some();
        let mut side = Side::new(socket, 1, bypass);

        match role.as_str() {
            "play" => side.play(false, bypass),
            _ => revoke(side),
        }
        return ExitCode::SUCCESS;
    }
    kvm::with(|| {
        tests![
            two_guests_ring_each_other_by_bypass,
            two_guests_ring_each_other_by_irqfds,
            a_doorbell_revoked_under_fire_rings_no_more_by_bypass,
            a_doorbell_revoked_under_fire_rings_no_more_by_irqfd,
        ]
    })
}
