// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The interrupt controller of a guest that does not know XIVE: XICS, which KVM emulates upon XIVE.
//!
//! `Documentation/virt/kvm/devices/xics.rst` describes it. The guest takes and ends events by
//! hypercalls, `H_XIRR` and `H_EOI`, which are KVM's own.

use crate::{
    abi,
    device,
    vcpu::Vcpu,
    vm::Vm, //
};
use std::{
    io,
    os::fd::{
        AsRawFd,
        OwnedFd, //
    }, //
};

/// The priority of all events.
const PRIORITY: u64 = 5;

/// A guest's XICS, whose sources have the numbers from 16 on.
#[derive(Debug)]
pub struct Xics(OwnedFd);

impl Xics {
    /// Makes the device.
    pub fn new(vm: &Vm) -> io::Result<Self> {
        device::create(vm, abi::KVM_DEV_TYPE_XICS).map(Self)
    }

    /// Connects a virtual CPU of a number.
    pub fn connect(&self, vcpu: &mut Vcpu, number: u32) -> io::Result<()> {
        let arguments = [self.0.as_raw_fd() as u64, u64::from(number), 0, 0];

        vcpu.enable(abi::KVM_CAP_IRQ_XICS, arguments)
    }

    /// Makes a source, whose events go to a virtual CPU.
    pub fn source(&self, number: u32, vcpu: u32) -> io::Result<()> {
        let mut state = PRIORITY << abi::KVM_XICS_PRIORITY_SHIFT | u64::from(vcpu);

        device::set(
            &self.0,
            abi::KVM_DEV_XICS_GRP_SOURCES,
            number.into(),
            &mut state,
        )
    }
}
