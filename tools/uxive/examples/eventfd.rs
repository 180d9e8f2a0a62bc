// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A thread that waits for an eventfd, and another that rings: it stores to a mapped page, without
//! a system call.

use std::{
    io,
    panic::resume_unwind,
    thread,
    time::Duration, //
};
use uxive::{
    Context,
    Event, //
};

const RINGS: u64 = 1000;

/// Returns when the event was signalled. It has a time limit, since the other thread may have
/// failed.
fn wait(event: &Event) -> io::Result<()> {
    match event.wait(Some(Duration::from_secs(10)))? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn main() -> io::Result<()> {
    let context = Context::open()?;
    let (irq, event) = (context.alloc()?, Event::new()?);
    let (answer, answered) = (context.alloc()?, Event::new()?);

    irq.bind(&event)?;
    answer.bind(&answered)?;
    thread::scope(|scope| {
        let answering = scope.spawn(|| -> io::Result<()> {
            for _ in 0..RINGS {
                wait(&event)?;
                answer.ring();
            }
            Ok(())
        });
        for _ in 0..RINGS {
            irq.ring();
            wait(&answered)?;
        }
        answering
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    println!("{RINGS} rings, each answered by another");
    Ok(())
}
