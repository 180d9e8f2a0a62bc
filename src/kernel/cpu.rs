// SPDX-License-Identifier: GPL-2.0

//! Which CPUs there are, and where.
//!
//! Would go to `rust/kernel/cpumask.rs`, which has masks of CPUs but not those of the machine, and
//! to `rust/kernel/cpu.rs`, which has no NUMA nodes.
//!
//! C headers: [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h),
//! [`include/linux/topology.h`](srctree/include/linux/topology.h)

use super::bindings as extra;
use kernel::{
    bindings,
    cpu::CpuId,
    cpumask::Cpumask,
    ffi, //
};

/// Returns the CPUs that can be brought online.
pub(crate) fn possible() -> &'static Cpumask {
    // SAFETY: The mask is set at boot and not changed later.
    unsafe { Cpumask::from_raw(&raw const bindings::__cpu_possible_mask) }
}

/// Returns the CPUs that are online. They may be others a moment later.
pub(crate) fn online() -> &'static Cpumask {
    // SAFETY: The mask is there forever, and its bits are changed by atomic operations.
    unsafe { Cpumask::from_raw(&raw const bindings::__cpu_online_mask) }
}

/// Returns the NUMA node of a CPU, if that is [possible].
pub(crate) fn node_of(cpu: CpuId) -> Option<i32> {
    // SAFETY: The CPU is possible.
    (possible().test(cpu)).then(|| unsafe { extra::uxive_cpu_to_node(cpu.as_u32() as ffi::c_int) })
}
