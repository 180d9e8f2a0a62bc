// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Two guests, each of a process of its own, ring each other by doorbells that their VMMs have passed
//! on, and count how often they leave for that.

use rustix::mm::ProtFlags;
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
        Command,
        Stdio, //
    },
    sync::Arc, //
};
use uxive::{
    Context,
    Event,
    Receiver, //
};
use vmm::{
    guest::SLOT_SHOWN,
    Call,
    Guest,
    Outcome,
    Pages, //
};

const PAGE: u64 = 64 * 1024;
/// The number of the guest's interrupt.
const NUMBER: u32 = 0x20;
/// Rings that populate the pages, and those that are counted.
const FIRST: u64 = 10;
const ROUNDS: u64 = 10_000;

/// Runs one of the two, whose VMMs speak by `socket`. `serve`: it rings first.
fn play(name: &str, mut socket: UnixStream, serve: bool) -> io::Result<()> {
    // An interrupt that rings this guest, by its eventfd, and a file by which the other may ring it.
    let context = Context::open()?;
    let (irq, event) = (context.alloc()?, Event::new()?);
    let (guest, mut cpus) = Guest::new(1)?;
    // Without irq bypass each ring interrupts the host, which then raises the guest's interrupt.
    let bypass = irq.bind_bypass(&event).is_ok();
    if !bypass {
        irq.bind(&event)?;
    }
    guest.irqfd(&event, NUMBER, 0)?;
    irq.export()?.send(&socket)?;

    // The same of the other guest, as a memslot of this one.
    let file = Receiver::receive_file(&socket)?;
    let pages = Arc::new(Pages::of(&file, ProtFlags::WRITE, 0..PAGE)?);
    let page = guest.show(SLOT_SHOWN, 0, &pages)?;
    let cpu = &mut cpus[0];

    // The guest begins by an exit of another kind, for its memory. By bypass it has an event to begin
    // with, whether it was rung or not.
    let begun = u64::from(bypass);
    cpu.call(Call::Time {
        page: guest.counter_address(0),
        taken: begun,
    })?;
    socket.write_all(b"!")?;
    socket.read_exact(&mut [0])?;

    let populated = begun + FIRST;
    for (from, to) in [(begun, populated), (populated, populated + ROUNDS)] {
        let call = Call::Play {
            page,
            from,
            to,
            serve,
        };
        let before = cpu.exits()?;

        match cpu.call(call)? {
            Outcome::Done(_) if from == populated => println!(
                "{name}: rang {ROUNDS} times, was rung {ROUNDS} times: {}",
                cpu.exits()? - before
            ),
            Outcome::Done(_) => (),
            other => return Err(io::Error::other(format!("{name}: {other:?}"))),
        }
        // The other guest must be there as long as this one may ring it.
        socket.write_all(b"!")?;
        socket.read_exact(&mut [0])?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    const CHILD: &str = "PAIR_SOCKET_IS_STDIN";

    if env::var_os(CHILD).is_some() {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        return play("second guest", UnixStream::from(socket), false);
    }
    let (ours, theirs) = UnixStream::pair()?;
    let mut second = Command::new(env::current_exe()?)
        .env(CHILD, "")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;

    play("first guest", ours, true)?;
    match second.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("the second guest failed")),
    }
}
