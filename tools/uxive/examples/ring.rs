// SPDX-License-Identifier: GPL-2.0 OR MIT

//! One interrupt: allocates it, binds it to an eventfd, rings it and waits for it.

use std::{
    io,
    time::Duration, //
};
use uxive::{
    Context,
    Event, //
};

fn main() -> io::Result<()> {
    let context = Context::open()?;
    let (irq, event) = (context.alloc()?, Event::new()?);

    irq.bind(&event)?;
    // One store of 8 bytes. Another thread can do the same.
    irq.ring();
    let count = event
        .wait(Some(Duration::from_secs(10)))?
        .ok_or(io::ErrorKind::TimedOut)?;
    println!("ring: {count} interrupt");
    // irq.ring() does not compile from here on.
    irq.free()
}
