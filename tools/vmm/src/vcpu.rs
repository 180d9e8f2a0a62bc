// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A virtual CPU, and why it stopped.

use crate::{
    abi,
    vm::{
        made,
        Vm, //
    }, //
};
use core::{
    arch::asm,
    mem::offset_of,
    ptr::{
        from_mut,
        null_mut,
        NonNull, //
    }, //
};
use rustix::mm::{
    mmap,
    munmap,
    MapFlags,
    ProtFlags, //
};
use std::{
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd,
        OwnedFd, //
    },
    sync::Arc, //
};

pub use abi::Regs;

/// The guest has its interrupts in the byte order in which it was built (ILE). Power ISA, book III,
/// "Logical Partitioning Control Register".
const LPCR_ILE: u64 = 1 << 25;

/// Why a virtual CPU stopped, if `KVM_RUN` succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The guest has called (`sc 1`), and the call is not one of KVM's own.
    Hypercall {
        /// Its number, register 3.
        number: u64,
        /// Registers 4 to 12.
        arguments: [u64; 9],
    },
    /// The guest has touched an address that no memslot has. [`Vcpu::run`] goes on behind that.
    Mmio {
        /// The guest's address.
        address: u64,
        /// The number of bytes.
        length: u32,
        /// The bytes, if it was a store.
        stored: Option<[u8; 8]>,
    },
    /// `KVM_EXIT_*` of this number.
    Other(u32),
}

/// A virtual CPU. One thread at a time runs it, by [`Vcpu::run`].
///
/// # Invariants
///
/// `run` is KVM's `struct kvm_run` of this virtual CPU. KVM changes it during `KVM_RUN` only.
#[derive(Debug)]
pub struct Vcpu {
    file: OwnedFd,
    run: NonNull<abi::Run>,
    vm: Arc<Vm>,
}

// SAFETY: The mapping belongs to the process, not to a thread.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// Makes the virtual CPU of a number, which is also XIVE's number of its server.
    pub fn new(vm: &Arc<Vm>, number: u32) -> io::Result<Self> {
        let made_fd = abi::ioctl_number(vm, abi::KVM_CREATE_VCPU, number as usize)?;
        // SAFETY: The call makes one.
        let file = unsafe { made(made_fd) };
        let (size, access) = (vm.run_size, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: Without `MAP_FIXED` the kernel chooses addresses that nothing is at.
        let run = unsafe { mmap(null_mut(), size, access, MapFlags::SHARED, &file, 0) }?;
        let mut vcpu = Self {
            file,
            // INVARIANT: That is what KVM maps there.
            run: NonNull::new(run.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            vm: vm.clone(),
        };

        vcpu.enable(abi::KVM_CAP_PPC_PAPR, [0; 4])?;
        let control = vcpu.one_reg(abi::KVM_REG_PPC_LPCR_64)? | LPCR_ILE;
        vcpu.set_one_reg(abi::KVM_REG_PPC_LPCR_64, control)?;
        Ok(vcpu)
    }

    /// Enables a capability, `KVM_CAP_*`.
    pub(crate) fn enable(&mut self, cap: u32, args: [u64; 4]) -> io::Result<()> {
        let mut argument = abi::EnableCap {
            cap,
            flags: 0,
            args,
            pad: [0; 64],
        };

        // SAFETY: The capabilities used here take no address.
        unsafe { abi::ioctl(&self.file, abi::KVM_ENABLE_CAP, &mut argument) }?;
        Ok(())
    }

    fn one_reg(&self, id: u64) -> io::Result<u64> {
        let mut value = 0u64;
        let addr = from_mut(&mut value) as u64;

        // SAFETY: Only registers of 64 bits are used here, and that is one.
        unsafe {
            abi::ioctl(
                &self.file,
                abi::KVM_GET_ONE_REG,
                &mut abi::OneReg { id, addr },
            )
        }?;
        Ok(value)
    }

    fn set_one_reg(&mut self, id: u64, mut value: u64) -> io::Result<()> {
        let addr = from_mut(&mut value) as u64;

        // SAFETY: Only registers of 64 bits are used here, and that is one.
        unsafe {
            abi::ioctl(
                &self.file,
                abi::KVM_SET_ONE_REG,
                &mut abi::OneReg { id, addr },
            )
        }?;
        Ok(())
    }

    /// Sets its registers.
    pub fn set_regs(&mut self, mut regs: Regs) -> io::Result<()> {
        // SAFETY: KVM takes its addresses as the guest's.
        unsafe { abi::ioctl(&self.file, abi::KVM_SET_REGS, &mut regs) }?;
        Ok(())
    }

    /// Runs the virtual CPU in this thread until there is something to do for the VMM.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the guest has touched a memslot where this process has no page, or none that can be
    /// used so. KVM does not say where. [`Vcpu::run`] has the guest try again.
    /// `EINTR`: a signal was handled.
    pub fn run(&mut self) -> io::Result<Exit> {
        kvm_run(self.as_fd())?;
        // SAFETY: By the type invariants that is KVM's structure, and KVM does not change it now.
        let run = unsafe { self.run.as_ref() };

        Ok(match run.exit_reason {
            abi::KVM_EXIT_PAPR_HCALL => {
                // SAFETY: The reason says that KVM has written this one.
                let call = unsafe { run.exit.papr_hcall };

                Exit::Hypercall {
                    number: call.nr,
                    arguments: call.args,
                }
            }
            abi::KVM_EXIT_MMIO => {
                // SAFETY: The reason says that KVM has written this one.
                let mmio = unsafe { run.exit.mmio };

                Exit::Mmio {
                    address: mmio.phys_addr,
                    length: mmio.len,
                    stored: (mmio.is_write != 0).then_some(mmio.data),
                }
            }
            reason => Exit::Other(reason),
        })
    }
}

/// Calls `KVM_RUN`.
///
/// By the system call itself and never inline: KVM-HV loads the guest's floating point and vector
/// registers. It saves those of the VMM before, but when this thread is switched out and in again,
/// the scheduler loads them (`restore_math()` in `__switch_to()`), the next entry into the guest
/// replaces them, and nothing restores them at the end. Linux 7.3 was seen to return with the
/// guest's once in 2,000 calls. So those that a call must preserve are named here, and saved by
/// this function.
#[inline(never)]
fn kvm_run(vcpu: BorrowedFd<'_>) -> io::Result<()> {
    let mut result = vcpu.as_raw_fd() as isize;

    // SAFETY: The call returns as others do (`Documentation/arch/powerpc/syscall64-abi.rst`): an
    // error is positive, and the summary overflow bit set. KVM writes memory of the guest, for
    // which `Vm::show` answers, and `struct kvm_run`, to which there is no reference now.
    unsafe {
        asm!(
            "sc",
            "bns+ 1f",
            "neg 3, 3",
            "1:",
            inout("r0") libc::SYS_ioctl => _,
            inout("r3") result,
            inout("r4") abi::KVM_RUN.request as usize => _,
            inout("r5") 0usize => _,
            out("f14") _, out("f15") _, out("f16") _, out("f17") _, out("f18") _, out("f19") _,
            out("f20") _, out("f21") _, out("f22") _, out("f23") _, out("f24") _, out("f25") _,
            out("f26") _, out("f27") _, out("f28") _, out("f29") _, out("f30") _, out("f31") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
            out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            clobber_abi("C"),
        );
    }
    match result {
        ..0 => Err(io::Error::from_raw_os_error(-result as i32)),
        _ => Ok(()),
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: It was mapped with this size, and no borrow is left.
        let _ = unsafe { munmap(self.run.as_ptr().cast(), self.vm.run_size) };
    }
}

impl AsFd for Vcpu {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

// All that is used of the mapping lies in its first page.
const _: () = assert!(offset_of!(abi::Run, exit) + size_of::<abi::RunExit>() < 4096);
