// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A thread that waits for an eventfd, and another that rings: the sender stores to what was mapped
//! once, and calls nobody.

use std::{
    io,
    thread, //
};
use uxive::{
    Context,
    Event, //
};

const RINGS: u64 = 1000;

fn main() -> io::Result<()> {
    let context = Context::open()?;
    let (irq, event) = (context.alloc()?, Event::new()?);
    let (answer, answered) = (context.alloc()?, Event::new()?);

    irq.bind(&event)?;
    answer.bind(&answered)?;
    thread::scope(|scope| {
        scope.spawn(|| -> io::Result<()> {
            for _ in 0..RINGS {
                event.wait(None)?;
                answer.ring();
            }
            Ok(())
        });
        for _ in 0..RINGS {
            irq.ring();
            answered.wait(None)?;
        }
        Ok::<(), io::Error>(())
    })?;
    println!("{RINGS} rings, each answered by another");
    Ok(())
}
