// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A small VMM on KVM-HV: enough to see what a guest can do with interrupts of the uxive driver.
//!
//! - [`Vm`], a virtual machine, and [`Pages`] and [`Memory`], which its memslots show;
//! - [`Vcpu`], a virtual CPU, and [`Exit`], why it stopped;
//! - [`Xive`], the guest's interrupt controller in native mode, and [`Xics`], the older one;
//! - [`Stats`] and [`Exits`], which count how often a virtual CPU left the guest;
//! - [`Guest`], all of them put together, with a program in assembler whose routines a [`Cpu`] runs.
//!
//! A bare-metal POWER9 or POWER10 runs it, with radix MMU, pages of 64 KiB, and `kvm-hv`. The crate
//! knows nothing of uxive: `examples/doorbell.rs` puts both together.

#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]
// On other machines only the tests of what is common to all are built.
#![cfg_attr(not(target_arch = "powerpc64"), allow(dead_code))]

mod abi;
mod memory;
mod pages;
mod stats;
mod vm;

#[cfg(target_arch = "powerpc64")]
mod code;
#[cfg(target_arch = "powerpc64")]
mod device;
#[cfg(target_arch = "powerpc64")]
pub mod guest;
#[cfg(target_arch = "powerpc64")]
mod vcpu;
#[cfg(target_arch = "powerpc64")]
mod xics;
#[cfg(target_arch = "powerpc64")]
mod xive;

pub use memory::Memory;
pub use pages::Pages;
pub use stats::{
    Exits,
    Stats, //
};
pub use vm::Vm;

#[cfg(target_arch = "powerpc64")]
pub use guest::{
    Call,
    Cpu,
    Guest,
    Outcome, //
};
#[cfg(target_arch = "powerpc64")]
pub use vcpu::{
    Exit,
    Regs,
    Vcpu, //
};
#[cfg(target_arch = "powerpc64")]
pub use xics::Xics;
#[cfg(target_arch = "powerpc64")]
pub use xive::Xive;
