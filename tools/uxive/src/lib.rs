// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Interrupts of POWER's XIVE for programs, by the uxive driver.
//!
//! [`queue`] and [`esb`] are the protocol by which a program drains its own event queue: they work
//! on mapped memory, and need nothing but `core`. The feature `std`, which is on by default, adds
//! contexts and their objects.
#![cfg_attr(
    feature = "std",
    doc = "
- [`Context`], an open file of the driver, and the [`Irq`] and [`Irqs`] that are allocated in it.
  They own interrupts, so none is rung after it was freed. Two things can take an interrupt from
  its owner, and ringing raises `SIGBUS` then: another process that has the context's file, and an
  accelerator that goes, whose context it is;
- [`Event`], an eventfd that interrupts signal;
- [`Export`], a doorbell that is given to another program, and [`Receiver`], that doorbell there;
- [`Accelerator`], a context of one, with its [`Registers`], and each [`Message`] that it sends;
- [`Drain`], a context whose events the program takes from memory by itself, and [`Doorbell`],
  which rings it.
"
)]
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! # fn main() -> std::io::Result<()> {
//! let mut drain = uxive::Context::open()?.drain(8)?;
//! let doorbell = drain.doorbell(3);
//!
//! std::thread::spawn(move || doorbell.ring());
//! if let Some(slot) = drain.wait(None)? {
//!     drain.eoi(slot);
//!     assert_eq!(slot, 3);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! ```
//!
//! An error has the errno of a system call; `Documentation/userspace-api/uxive.rst` explains each.

#![no_std]
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(any(test, feature = "std"))]
extern crate std;

// For the example there to be compiled.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "std")]
mod abi;
#[cfg(feature = "std")]
mod accelerator;
#[cfg(feature = "std")]
mod context;
#[cfg(feature = "std")]
mod doorbell;
#[cfg(feature = "std")]
mod drain;
pub mod esb;
#[cfg(feature = "std")]
mod event;
#[cfg(feature = "std")]
mod export;
#[cfg(feature = "std")]
mod irq;
#[cfg(feature = "std")]
mod mapping;
pub mod queue;
#[cfg(feature = "std")]
mod report;
#[cfg_attr(
    not(feature = "std"),
    allow(dead_code, reason = "most are for what needs std")
)]
mod uapi;

#[cfg(feature = "std")]
pub use accelerator::{
    Accelerator,
    Endian,
    Metadata,
    Registers, //
};
#[cfg(feature = "std")]
pub use context::{
    Context,
    Info,
    Usage,
    Window, //
};
#[cfg(feature = "std")]
pub use doorbell::Doorbell;
#[cfg(feature = "std")]
pub use drain::Drain;
#[cfg(feature = "std")]
pub use event::Event;
#[cfg(feature = "std")]
pub use export::{
    Export,
    Receiver, //
};
#[cfg(feature = "std")]
pub use irq::{
    Batch,
    Irq,
    Irqs,
    Message,
    Origin,
    Which, //
};
#[cfg(feature = "std")]
pub use report::Report;
