// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The part of `<linux/kvm.h>` that is used here, as powerpc has it. A test compares it with the
//! header.

use core::{
    marker::PhantomData,
    ptr::from_mut, //
};
use std::{
    io,
    os::fd::{
        AsFd,
        AsRawFd, //
    }, //
};

/// An ioctl that takes a `T`, or a number if `T` is `()`.
pub(crate) struct Call<T> {
    pub(crate) request: u32,
    argument: PhantomData<T>,
}

// As powerpc's `_IOC()` has them.
const NONE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

const fn call<T>(direction: u32, number: u8) -> Call<T> {
    const KVMIO: u32 = 0xae;

    Call {
        request: direction << 29 | (size_of::<T>() as u32) << 16 | KVMIO << 8 | number as u32,
        argument: PhantomData,
    }
}

pub(crate) const KVM_CREATE_VM: Call<()> = call(NONE, 0x01);
pub(crate) const KVM_GET_VCPU_MMAP_SIZE: Call<()> = call(NONE, 0x04);
pub(crate) const KVM_CREATE_VCPU: Call<()> = call(NONE, 0x41);
pub(crate) const KVM_SET_USER_MEMORY_REGION: Call<MemoryRegion> = call(WRITE, 0x46);
pub(crate) const KVM_IRQFD: Call<Irqfd> = call(WRITE, 0x76);
pub(crate) const KVM_IOEVENTFD: Call<IoEventfd> = call(WRITE, 0x79);
pub(crate) const KVM_RUN: Call<()> = call(NONE, 0x80);
pub(crate) const KVM_SET_REGS: Call<Regs> = call(WRITE, 0x82);
pub(crate) const KVM_ENABLE_CAP: Call<EnableCap> = call(WRITE, 0xa3);
pub(crate) const KVM_GET_ONE_REG: Call<OneReg> = call(WRITE, 0xab);
pub(crate) const KVM_SET_ONE_REG: Call<OneReg> = call(WRITE, 0xac);
pub(crate) const KVM_GET_STATS_FD: Call<()> = call(NONE, 0xce);
pub(crate) const KVM_CREATE_DEVICE: Call<CreateDevice> = call(READ | WRITE, 0xe0);
pub(crate) const KVM_SET_DEVICE_ATTR: Call<DeviceAttr> = call(WRITE, 0xe1);

pub(crate) const KVM_VM_PPC_HV: usize = 1;
pub(crate) const KVM_DEV_TYPE_XICS: u32 = 3;
pub(crate) const KVM_DEV_TYPE_XIVE: u32 = 9;
pub(crate) const KVM_CAP_PPC_PAPR: u32 = 68;
pub(crate) const KVM_CAP_IRQ_XICS: u32 = 92;
pub(crate) const KVM_CAP_PPC_IRQ_XIVE: u32 = 169;
pub(crate) const KVM_EXIT_MMIO: u32 = 6;
pub(crate) const KVM_EXIT_PAPR_HCALL: u32 = 19;
pub(crate) const KVM_IRQFD_FLAG_DEASSIGN: u32 = 1;
pub(crate) const KVM_REG_PPC_LPCR_64: u64 = 0x1030_0000_0000_00b5;
pub(crate) const KVM_DEV_XICS_GRP_SOURCES: u32 = 1;
pub(crate) const KVM_XICS_PRIORITY_SHIFT: u32 = 32;
pub(crate) const KVM_DEV_XIVE_GRP_SOURCE: u32 = 2;
pub(crate) const KVM_DEV_XIVE_GRP_SOURCE_CONFIG: u32 = 3;
pub(crate) const KVM_DEV_XIVE_GRP_EQ_CONFIG: u32 = 4;
pub(crate) const KVM_XIVE_SOURCE_SERVER_SHIFT: u32 = 3;
pub(crate) const KVM_XIVE_SOURCE_EISN_SHIFT: u32 = 33;
pub(crate) const KVM_XIVE_EQ_SERVER_SHIFT: u32 = 3;
pub(crate) const KVM_XIVE_EQ_ALWAYS_NOTIFY: u32 = 1;
pub(crate) const KVM_XIVE_TIMA_PAGE_OFFSET: u64 = 0;
pub(crate) const KVM_XIVE_ESB_PAGE_OFFSET: u64 = 4;

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
pub(crate) struct MemoryRegion {
    pub(crate) slot: u32,
    pub(crate) flags: u32,
    pub(crate) guest_phys_addr: u64,
    pub(crate) memory_size: u64,
    pub(crate) userspace_addr: u64,
}

/// `struct kvm_irqfd`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Irqfd {
    pub(crate) fd: u32,
    pub(crate) gsi: u32,
    pub(crate) flags: u32,
    pub(crate) resamplefd: u32,
    pub(crate) pad: [u8; 16],
}

/// `struct kvm_ioeventfd`.
#[repr(C)]
pub(crate) struct IoEventfd {
    pub(crate) datamatch: u64,
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) fd: i32,
    pub(crate) flags: u32,
    pub(crate) pad: [u8; 36],
}

/// `struct kvm_regs`: the registers of a virtual CPU.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs, reason = "they are the processor's")]
pub struct Regs {
    pub pc: u64,
    pub cr: u64,
    pub ctr: u64,
    pub lr: u64,
    pub xer: u64,
    pub msr: u64,
    pub srr0: u64,
    pub srr1: u64,
    pub pid: u64,
    pub sprg: [u64; 8],
    pub gpr: [u64; 32],
}

/// `struct kvm_enable_cap`.
#[repr(C)]
pub(crate) struct EnableCap {
    pub(crate) cap: u32,
    pub(crate) flags: u32,
    pub(crate) args: [u64; 4],
    pub(crate) pad: [u8; 64],
}

/// `struct kvm_one_reg`.
#[repr(C)]
pub(crate) struct OneReg {
    pub(crate) id: u64,
    pub(crate) addr: u64,
}

/// `struct kvm_create_device`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct CreateDevice {
    pub(crate) kind: u32,
    pub(crate) fd: u32,
    pub(crate) flags: u32,
}

/// `struct kvm_device_attr`.
#[repr(C)]
pub(crate) struct DeviceAttr {
    pub(crate) flags: u32,
    pub(crate) group: u32,
    pub(crate) attr: u64,
    pub(crate) addr: u64,
}

/// `struct kvm_ppc_xive_eq`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct XiveEq {
    pub(crate) flags: u32,
    pub(crate) qshift: u32,
    pub(crate) qaddr: u64,
    pub(crate) qtoggle: u32,
    pub(crate) qindex: u32,
    pub(crate) pad: [u64; 5],
}

/// The beginning of `struct kvm_run`.
#[repr(C)]
pub(crate) struct Run {
    request_interrupt_window: u8,
    immediate_exit: u8,
    padding: [u8; 6],
    pub(crate) exit_reason: u32,
    ready_for_interrupt_injection: u8,
    if_flag: u8,
    flags: u16,
    cr8: u64,
    apic_base: u64,
    pub(crate) exit: RunExit,
}

/// The union in `struct kvm_run`.
#[repr(C)]
pub(crate) union RunExit {
    pub(crate) mmio: Mmio,
    pub(crate) papr_hcall: PaprHcall,
}

/// `mmio` in `struct kvm_run`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Mmio {
    pub(crate) phys_addr: u64,
    pub(crate) data: [u8; 8],
    pub(crate) len: u32,
    pub(crate) is_write: u8,
}

/// `papr_hcall` in `struct kvm_run`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PaprHcall {
    pub(crate) nr: u64,
    pub(crate) ret: u64,
    pub(crate) args: [u64; 9],
}

/// `struct kvm_stats_header`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct StatsHeader {
    pub(crate) flags: u32,
    pub(crate) name_size: u32,
    pub(crate) num_desc: u32,
    pub(crate) id_offset: u32,
    pub(crate) desc_offset: u32,
    pub(crate) data_offset: u32,
}

/// The beginning of `struct kvm_stats_desc`, which the name follows.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct StatsDesc {
    pub(crate) flags: u32,
    pub(crate) exponent: i16,
    pub(crate) size: u16,
    pub(crate) offset: u32,
    pub(crate) bucket_size: u32,
}

/// Calls an ioctl with a structure. Returns its result, which is not negative.
///
/// # Safety
///
/// KVM uses the memory at addresses that the structure has: the caller answers for that.
pub(crate) unsafe fn ioctl<T>(file: impl AsFd, call: Call<T>, argument: &mut T) -> io::Result<i32> {
    // The C libraries differ in the type of a request.
    // SAFETY: By the header the call takes a `T`, all of whose values are valid, and that is what
    // is there. The caller promises the rest.
    match unsafe {
        libc::ioctl(
            file.as_fd().as_raw_fd(),
            call.request as _,
            from_mut(argument),
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Calls an ioctl with a number. Returns its result, which is not negative.
pub(crate) fn ioctl_number(file: impl AsFd, call: Call<()>, number: usize) -> io::Result<i32> {
    // SAFETY: By the header the call takes a number, and touches no memory of the caller.
    match unsafe { libc::ioctl(file.as_fd().as_raw_fd(), call.request as _, number) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    /// The header, as bindgen has read it.
    #[allow(
        dead_code,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unsafe_op_in_unsafe_fn,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        reason = "it is the kernel's"
    )]
    mod header {
        include!(env!("VMM_KVM"));
    }

    macro_rules! same {
        ($($name:ident),* $(,)?) => {
            $(assert_eq!(u64::from($name), header::$name as u64, stringify!($name));)*
        };
    }

    macro_rules! same_calls {
        ($($name:ident),* $(,)?) => {
            $(assert_eq!($name.request, header::$name as u32, stringify!($name));)*
        };
    }

    #[test]
    fn numbers_are_the_headers() {
        assert_eq!(KVM_VM_PPC_HV, header::KVM_VM_PPC_HV as usize);
        assert_eq!(KVM_DEV_TYPE_XICS, header::kvm_device_type_KVM_DEV_TYPE_XICS);
        assert_eq!(KVM_DEV_TYPE_XIVE, header::kvm_device_type_KVM_DEV_TYPE_XIVE);
        same!(
            KVM_CAP_PPC_PAPR,
            KVM_CAP_IRQ_XICS,
            KVM_CAP_PPC_IRQ_XIVE,
            KVM_EXIT_MMIO,
            KVM_EXIT_PAPR_HCALL,
            KVM_IRQFD_FLAG_DEASSIGN,
            KVM_REG_PPC_LPCR_64,
            KVM_DEV_XICS_GRP_SOURCES,
            KVM_XICS_PRIORITY_SHIFT,
            KVM_DEV_XIVE_GRP_SOURCE,
            KVM_DEV_XIVE_GRP_SOURCE_CONFIG,
            KVM_DEV_XIVE_GRP_EQ_CONFIG,
            KVM_XIVE_SOURCE_SERVER_SHIFT,
            KVM_XIVE_SOURCE_EISN_SHIFT,
            KVM_XIVE_EQ_SERVER_SHIFT,
            KVM_XIVE_EQ_ALWAYS_NOTIFY,
            KVM_XIVE_TIMA_PAGE_OFFSET,
            KVM_XIVE_ESB_PAGE_OFFSET,
        );
    }

    #[test]
    fn calls_are_the_headers() {
        same_calls!(
            KVM_CREATE_VM,
            KVM_GET_VCPU_MMAP_SIZE,
            KVM_CREATE_VCPU,
            KVM_SET_USER_MEMORY_REGION,
            KVM_IRQFD,
            KVM_IOEVENTFD,
            KVM_RUN,
            KVM_SET_REGS,
            KVM_ENABLE_CAP,
            KVM_GET_ONE_REG,
            KVM_SET_ONE_REG,
            KVM_GET_STATS_FD,
            KVM_CREATE_DEVICE,
            KVM_SET_DEVICE_ATTR,
        );
    }

    macro_rules! same_layout {
        ($ours:ident, $theirs:ident: $($field:ident $(as $their:ident)?),* $(,)?) => {
            assert_eq!(size_of::<$ours>(), size_of::<header::$theirs>(), stringify!($theirs));
            same_fields!($ours, $theirs: $($field $(as $their)?),*);
        };
    }

    macro_rules! same_fields {
        ($ours:ident, $theirs:ident: $($field:ident $(as $their:ident)?),* $(,)?) => {
            $(assert_eq!(
                offset_of!($ours, $field),
                same_fields!(@offset $theirs $field $($their)?),
                stringify!($theirs.$field)
            );)*
        };
        (@offset $theirs:ident $field:ident) => { offset_of!(header::$theirs, $field) };
        (@offset $theirs:ident $field:ident $their:ident) => {
            offset_of!(header::$theirs, $their)
        };
    }

    #[test]
    fn structures_are_the_headers() {
        same_layout!(MemoryRegion, kvm_userspace_memory_region:
            slot, flags, guest_phys_addr, memory_size, userspace_addr);
        same_layout!(Irqfd, kvm_irqfd: fd, gsi, flags);
        same_layout!(IoEventfd, kvm_ioeventfd: datamatch, addr, len, fd, flags, pad);
        same_layout!(Regs, kvm_regs:
            pc, cr, ctr, lr, xer, msr, srr0, srr1, pid, sprg as sprg0, gpr);
        same_layout!(EnableCap, kvm_enable_cap: cap, flags, args, pad);
        same_layout!(OneReg, kvm_one_reg: id, addr);
        same_layout!(CreateDevice, kvm_create_device: kind as type_, fd, flags);
        same_layout!(DeviceAttr, kvm_device_attr: flags, group, attr, addr);
        same_layout!(XiveEq, kvm_ppc_xive_eq: flags, qshift, qaddr, qtoggle, qindex, pad);
        same_layout!(StatsHeader, kvm_stats_header:
            flags, name_size, num_desc, id_offset, desc_offset, data_offset);
    }

    #[test]
    fn beginnings_of_structures_are_the_headers() {
        same_fields!(StatsDesc, kvm_stats_desc: flags, exponent, size, offset, bucket_size);
        assert_eq!(
            size_of::<StatsDesc>(),
            offset_of!(header::kvm_stats_desc, __bindgen_anon_1)
        );
    }

    #[test]
    fn exits_are_the_headers() {
        macro_rules! same_exit {
            ($($exit:ident: $($field:ident),*;)*) => {$($(
                assert_eq!(
                    offset_of!(Run, exit.$exit.$field),
                    offset_of!(header::kvm_run, __bindgen_anon_1.$exit.$field),
                    stringify!($exit.$field)
                );
            )*)*};
        }

        assert_eq!(
            offset_of!(Run, exit_reason),
            offset_of!(header::kvm_run, exit_reason)
        );
        same_exit! {
            mmio: phys_addr, data, len, is_write;
            papr_hcall: nr, ret, args;
        }
    }
}
