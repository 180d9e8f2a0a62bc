// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A device of KVM.

use crate::{
    abi,
    vm::{
        made,
        Vm, //
    }, //
};
use core::ptr::from_mut;
use std::{
    io,
    os::fd::OwnedFd, //
};

/// Makes a device, `KVM_DEV_TYPE_*`.
pub(crate) fn create(vm: &Vm, kind: u32) -> io::Result<OwnedFd> {
    let mut device = abi::CreateDevice {
        kind,
        ..Default::default()
    };

    // SAFETY: There is no address in it.
    unsafe { abi::ioctl(vm, abi::KVM_CREATE_DEVICE, &mut device) }?;
    // SAFETY: The call has made it.
    Ok(unsafe { made(device.fd as i32) })
}

/// Sets an attribute of a device. The value must be what the group has: KVM reads no more of it.
pub(crate) fn set<T>(device: &OwnedFd, group: u32, attr: u64, value: &mut T) -> io::Result<()> {
    let mut argument = abi::DeviceAttr {
        flags: 0,
        group,
        attr,
        addr: from_mut(value) as u64,
    };

    // SAFETY: The callers give the value that the group has.
    unsafe { abi::ioctl(device, abi::KVM_SET_DEVICE_ATTR, &mut argument) }?;
    Ok(())
}
