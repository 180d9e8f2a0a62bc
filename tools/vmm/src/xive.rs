// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The guest's interrupt controller: XIVE in native mode, by KVM's device.
//!
//! `Documentation/virt/kvm/devices/xive.rst` describes it. The guest works with hardware: it takes
//! events from a queue in its memory, ends them by loads from ESB pages, and sets its priority in
//! the TIMA. KVM shows both by mappings of the device, which become memslots.

use crate::{
    abi,
    device,
    pages::Pages,
    vcpu::Vcpu,
    vm::Vm, //
};
use rustix::{
    mm::ProtFlags,
    param::page_size, //
};
use std::{
    io,
    os::fd::{
        AsRawFd,
        OwnedFd, //
    },
    sync::Arc, //
};

/// Size of each page of XIVE that is mapped.
pub const PAGE: u64 = 64 * 1024;

/// The priority of all events. Hardware has eight, and firmware keeps the last one.
const PRIORITY: u64 = 6;

/// A load there sets P and Q to 0, and returns what they were.
const SET_PQ_00: u64 = 0xc00;

/// Pages of the TIMA; the guest's operating system uses the third.
const TIMA_PAGES: u64 = 4;

/// A guest's XIVE, whose sources have the numbers from 0 on.
#[derive(Debug)]
pub struct Xive {
    file: OwnedFd,
    esbs: Arc<Pages>,
    tima: Arc<Pages>,
}

impl Xive {
    /// Makes the device, for up to `sources` sources.
    ///
    /// The kernel's pages must be of 64 KiB: KVM's device counts in them.
    pub fn new(vm: &Vm, sources: u32) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let map = |file: &OwnedFd, page: u64, pages: u64| {
            Pages::of(file, access, page * PAGE..(page + pages) * PAGE).map(Arc::new)
        };

        if page_size() as u64 != PAGE {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = device::create(vm, abi::KVM_DEV_TYPE_XIVE)?;

        Ok(Self {
            esbs: map(&file, abi::KVM_XIVE_ESB_PAGE_OFFSET, 2 * u64::from(sources))?,
            tima: map(&file, abi::KVM_XIVE_TIMA_PAGE_OFFSET, TIMA_PAGES)?,
            file,
        })
    }

    /// The ESBs of all sources, two pages each: the trigger page, and the management page.
    pub fn esbs(&self) -> &Arc<Pages> {
        &self.esbs
    }

    /// The four pages of the TIMA.
    pub fn tima(&self) -> &Arc<Pages> {
        &self.tima
    }

    /// Connects a virtual CPU of a number, whose event queue is 64 KiB of the guest's memory.
    pub fn connect(&self, vcpu: &mut Vcpu, number: u32, queue: u64) -> io::Result<()> {
        let server = u64::from(number) << abi::KVM_XIVE_EQ_SERVER_SHIFT;
        let mut eq = abi::XiveEq {
            flags: abi::KVM_XIVE_EQ_ALWAYS_NOTIFY,
            qshift: PAGE.trailing_zeros(),
            qaddr: queue,
            qtoggle: 1,
            ..Default::default()
        };
        let arguments = [self.file.as_raw_fd() as u64, u64::from(number), 0, 0];

        vcpu.enable(abi::KVM_CAP_PPC_IRQ_XIVE, arguments)?;
        device::set(
            &self.file,
            abi::KVM_DEV_XIVE_GRP_EQ_CONFIG,
            server | PRIORITY,
            &mut eq,
        )
    }

    /// Makes a source, whose events go to a virtual CPU. They have the source's number.
    pub fn source(&self, number: u32, vcpu: u32) -> io::Result<()> {
        self.make(number)?;
        self.route(number, vcpu, number)
    }

    /// Makes a source that is masked and goes nowhere.
    pub fn make(&self, number: u32) -> io::Result<()> {
        let mut edge = 0u64;

        device::set(
            &self.file,
            abi::KVM_DEV_XIVE_GRP_SOURCE,
            number.into(),
            &mut edge,
        )
    }

    /// Has events of a source go to a virtual CPU, with any number, and unmasks it.
    pub fn route(&self, number: u32, vcpu: u32, event: u32) -> io::Result<()> {
        let eisn = u64::from(event) << abi::KVM_XIVE_SOURCE_EISN_SHIFT;
        let server = u64::from(vcpu) << abi::KVM_XIVE_SOURCE_SERVER_SHIFT;
        let management = (2 * u64::from(number) + 1) * PAGE;
        let mut config = eisn | server | PRIORITY;

        device::set(
            &self.file,
            abi::KVM_DEV_XIVE_GRP_SOURCE_CONFIG,
            number.into(),
            &mut config,
        )?;
        self.esbs.load((management + SET_PQ_00) as usize);
        Ok(())
    }
}
