// SPDX-License-Identifier: GPL-2.0

//! Callbacks for CPUs that have gone offline.
//!
//! Would go to `rust/kernel/cpuhp.rs`. The crate has nothing of CPU hotplug.
//!
//! C header: [`include/linux/cpuhotplug.h`](srctree/include/linux/cpuhotplug.h)

use super::fault::injectable;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// Something that wants to know when a CPU has gone offline.
///
/// # Safety
///
/// The node that [`Self::from_node`] takes is embedded in the object that it returns.
pub(crate) unsafe trait OnCpuDead: Sync {
    /// Called on another CPU when one has gone offline, with the CPU hotplug lock held. May sleep.
    fn cpu_dead(&self);

    /// Returns the object in which `node` is embedded.
    ///
    /// # Safety
    ///
    /// `node` must be embedded in a valid object of this type.
    unsafe fn from_node<'a>(node: NonNull<bindings::hlist_node>) -> &'a Self;
}

/// A list of objects of type `T` that are told when a CPU has gone offline.
///
/// # Invariants
///
/// `state` is a dynamic hotplug state with `T`'s callback.
pub(crate) struct CpuDeadList<T: OnCpuDead> {
    state: bindings::cpuhp_state,
    _t: PhantomData<fn(T)>,
}

impl<T: OnCpuDead> CpuDeadList<T> {
    /// Makes an empty list; `name` appears in sysfs.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too many such lists in the kernel.
    pub(crate) fn new(name: &'static CStr) -> Result<Arc<Self>> {
        let state = injectable!(uxive_setup_cpu_dead, ENOSPC, {
            // SAFETY: With `multi_instance` the callback is called with a node; its C type leaves
            // that out, as the C macro for this does, too.
            let state = unsafe {
                let callback: unsafe extern "C" fn(
                    ffi::c_uint,
                    *mut bindings::hlist_node,
                ) -> ffi::c_int = Self::callback;
                bindings::__cpuhp_setup_state(
                    bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN,
                    name.as_char_ptr(),
                    false,
                    None,
                    Some(core::mem::transmute::<
                        unsafe extern "C" fn(ffi::c_uint, *mut bindings::hlist_node) -> ffi::c_int,
                        unsafe extern "C" fn(ffi::c_uint) -> ffi::c_int,
                    >(callback)),
                    true,
                )
            };
            to_result(state).map(|()| state)
        })?;

        // INVARIANT: Set up above.
        let list = Self {
            state,
            _t: PhantomData,
        };
        Ok(Arc::new(list, GFP_KERNEL)?)
    }

    /// # Safety
    ///
    /// `node` must be embedded in a valid object of type `T`, which is removed again before it
    /// goes, and not be in a list.
    pub(super) unsafe fn add(&self, node: &Opaque<bindings::hlist_node>) {
        // SAFETY: The state is set up; the caller vouches for the node. This fails only if there is
        // a callback for CPUs that come online, and there is none.
        unsafe { bindings::__cpuhp_state_add_instance(self.state, node.get(), false) };
    }

    /// # Safety
    ///
    /// `node` must be in this list.
    pub(super) unsafe fn remove(&self, node: &Opaque<bindings::hlist_node>) {
        // SAFETY: By the contract of this function. Waits for a callback that is running.
        unsafe { bindings::__cpuhp_state_remove_instance(self.state, node.get(), false) };
    }

    /// # Safety
    ///
    /// `node` must be in a list of this type.
    unsafe extern "C" fn callback(
        _cpu: ffi::c_uint,
        node: *mut bindings::hlist_node,
    ) -> ffi::c_int {
        // SAFETY: Nodes in the list are embedded in valid objects, see `add`.
        unsafe { T::from_node(NonNull::new_unchecked(node)) }.cpu_dead();
        0
    }
}

impl<T: OnCpuDead> Drop for CpuDeadList<T> {
    fn drop(&mut self) {
        // SAFETY: The state is set up by the type invariants. The list is empty, as each object in
        // it refers to it.
        unsafe { bindings::__cpuhp_remove_state(self.state, false) };
    }
}
