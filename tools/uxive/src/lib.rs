// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Interrupts of POWER's XIVE for programs, by the uxive driver.
//!
//! [`queue`] and [`esb`] are the protocol by which a program drains its own event queue: they work
//! on memory that somebody has mapped, and need nothing but `core`. With the feature `std`, which
//! is on by default, [`Context`] is an open file of the driver and [`Drain`] one that drains its
//! own queue.
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
//! `Documentation/userspace-api/uxive.rst` describes the driver's interface and its errors.

#![no_std]
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "std")]
mod abi;
#[cfg(feature = "std")]
mod context;
#[cfg(feature = "std")]
mod drain;
pub mod esb;
#[cfg(feature = "std")]
mod event;
#[cfg(feature = "std")]
mod mapping;
pub mod queue;

#[cfg(feature = "std")]
pub use context::{
    Context,
    Doorbell,
    Irq, //
};
#[cfg(feature = "std")]
pub use drain::Drain;
#[cfg(feature = "std")]
pub use event::Event;
