// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A program that drains its event queue by itself: four threads ring, one takes the events from
//! memory, and the kernel is called only to block when there are none.

use std::{
    io,
    thread,
    time::Duration, //
};
use uxive::Context;

const RINGERS: u32 = 4;
const RINGS: u32 = 1000;

fn main() -> io::Result<()> {
    let mut drain = Context::open()?.drain(RINGERS)?;
    let ringers: Vec<_> = (0..RINGERS)
        .map(|slot| {
            let doorbell = drain.doorbell(slot);
            thread::spawn(move || {
                for _ in 0..RINGS {
                    doorbell.ring();
                    thread::yield_now();
                }
            })
        })
        .collect();
    let mut events = [0; RINGERS as usize];

    // Rings that come before the last one is ended merge into one event, so there may be fewer
    // events than rings. The last ring of each thread always becomes an event. A second without one
    // means the end.
    while let Some(slot) = drain.wait(Some(Duration::from_secs(1)))? {
        drain.eoi(slot);
        events[slot as usize] += 1;
    }
    for ringer in ringers {
        let _ = ringer.join();
    }
    for (slot, events) in events.iter().enumerate() {
        println!("slot {slot}: {RINGS} rings, {events} events");
    }
    Ok(())
}
