// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Gives a doorbell, and nothing else, to another program, and takes it back while that rings.

use std::{
    env,
    io,
    os::{
        fd::OwnedFd,
        unix::net::UnixStream, //
    },
    process::{
        Command,
        Stdio, //
    },
    time::Duration, //
};
use uxive::{
    Context,
    Event,
    Receiver, //
};

/// The other program: its standard input is the socket.
fn ringer() -> io::Result<()> {
    let doorbell = Receiver::receive(io::stdin())?;
    let mut rings = 0u64;

    let error = loop {
        match doorbell.ring(0) {
            Ok(()) => rings += 1,
            Err(error) => break error,
        }
    };
    println!("ringer: {rings} rings, then: {error}");
    Ok(())
}

fn owner() -> io::Result<()> {
    let context = Context::open()?;
    let (irq, event) = (context.alloc()?, Event::new()?);
    let (ours, theirs) = UnixStream::pair()?;
    let mut ringer = Command::new(env::current_exe()?)
        .arg("ringer")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;

    irq.bind(&event)?;
    let export = irq.export()?;
    export.send(&ours)?;

    let mut arrived = 0;
    while arrived < 100 {
        // The ringer may have failed.
        arrived += event
            .wait(Some(Duration::from_secs(10)))?
            .ok_or(io::ErrorKind::TimedOut)?;
    }
    export.revoke()?;
    // Takes the rings from before that.
    while let Some(count) = event.wait(Some(Duration::from_millis(100)))? {
        arrived += count;
    }
    println!("owner: {arrived} arrived, some for several rings");
    match ringer.wait()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("the ringer ended with {status}"))),
    }
}

fn main() -> io::Result<()> {
    match env::args().nth(1) {
        None => owner(),
        Some(_) => ringer(),
    }
}
