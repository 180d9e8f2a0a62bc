// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A VMM gives a guest a doorbell, counts how often the guest leaves for it, takes it away, and has
//! the guest go on.

use rustix::mm::ProtFlags;
use std::{
    io,
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
    Exit,
    Guest,
    Outcome,
    Pages, //
};

const PAGE: u64 = 64 * 1024;
const EFAULT: Option<i32> = Some(14);

fn main() -> io::Result<()> {
    // The doorbell: an interrupt, an eventfd that tells of it, and a file by which others ring it.
    let context = Context::open()?;
    let (irq, event) = (context.alloc()?, Event::new()?);
    irq.bind(&event)?;
    let doorbell = irq.export()?;

    // The VMM maps it, and shows it to the guest as a memslot. Nothing is touched before the guest
    // does. Trigger pages are for writing only.
    let pages = Arc::new(Pages::of(&doorbell, ProtFlags::WRITE, 0..PAGE)?);
    let (guest, mut cpus) = Guest::new(1)?;
    let page = guest.show(SLOT_SHOWN, 0, &pages)?;
    let cpu = &mut cpus[0];

    // The guest begins by an exit of another kind, for its memory.
    cpu.call(Call::Load { address: 0 })?;
    for times in [1, 10_000] {
        let before = cpu.exits()?;

        cpu.call(Call::Ring { page, times })?;
        println!("{times} rings: {}", cpu.exits()? - before);
        event.wait(Some(Duration::from_secs(10)))?;
    }

    // Once it is revoked KVM_RUN is an error, which does not say where. The VMM puts memory in the
    // doorbell's place, in which the guest's stores end, and lets it go on.
    doorbell.revoke()?;
    match cpu.call(Call::Ring { page, times: 1 }) {
        Err(error) if error.raw_os_error() == EFAULT => println!("revoked: {error}"),
        other => println!("revoked, but: {other:?}"),
    }
    pages.place_memory(0, PAGE as usize)?;
    println!("memory in its place: {:?}", cpu.resume()?);

    // Or it deletes the memslot: each store is then the VMM's, which drops it here.
    guest.vm().delete(SLOT_SHOWN)?;
    let mut outcome = cpu.call(Call::Ring { page, times: 3 })?;
    while let Outcome::Exit(Exit::Mmio { address, .. }) = outcome {
        println!("no memslot: a store to {address:#x}");
        outcome = cpu.resume()?;
    }
    println!("and on: {outcome:?}");
    Ok(())
}
