// SPDX-License-Identifier: GPL-2.0

//! Nodes of the device tree.
//!
//! Would go to `rust/kernel/of.rs`. The crate has properties of a device's node, and no way to a node
//! without a device.
//!
//! C header: [`include/linux/of.h`](srctree/include/linux/of.h)

use kernel::{
    bindings,
    prelude::*, //
};

/// Returns whether a node of the tree is compatible with `compatible`.
pub(crate) fn has_compatible(compatible: &CStr) -> bool {
    // SAFETY: Null pointers mean the whole tree and any type. The string is NUL-terminated.
    let node = unsafe {
        bindings::of_find_compatible_node(
            core::ptr::null_mut(),
            core::ptr::null(),
            compatible.as_char_ptr(),
        )
    };
    if node.is_null() {
        return false;
    }

    // SAFETY: The search took a reference to the node.
    unsafe { bindings::fwnode_handle_put(&raw mut (*node).fwnode) };
    true
}
