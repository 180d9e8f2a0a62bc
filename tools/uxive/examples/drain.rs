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

    // Rings that come while one is not ended yet are one event, so there may be less than rings. The
    // last ring of each thread is an event in any case, and when none comes for a second that was it.
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
