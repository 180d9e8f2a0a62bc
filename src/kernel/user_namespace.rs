// SPDX-License-Identifier: GPL-2.0

//! User namespaces. Would be `rust/kernel/user_namespace.rs`; the crate has only the user's number of
//! `task.rs`.
//!
//! C header: [`include/linux/user_namespace.h`](srctree/include/linux/user_namespace.h)

use super::bindings as extra;
use kernel::{
    alloc::Flags,
    bindings,
    prelude::*,
    task::Kuid, //
};

/// A user namespace other than the initial one.
pub(crate) struct UserNamespace {
    /// The number of the namespace, which no other ever has.
    pub(crate) id: u64,
    /// The user who made it, or who was the effective user of the task that did.
    pub(crate) owner: Kuid,
}

impl UserNamespace {
    /// Returns that of the calling task and those above it, the innermost first.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn all_of_current(flags: Flags) -> Result<KVec<Self>> {
        let mut all = KVec::new();
        // SAFETY: The function has no requirements.
        let mut namespace = unsafe { bindings::current_user_ns() };

        loop {
            // SAFETY: The namespace is that of the task's credentials, which only the task itself
            // changes, and which it does not while it is here; or one above, which lives as long. Where
            // it lies in the tree, and who owns it, does not change.
            let (parent, owner) = unsafe { ((*namespace).parent, (*namespace).owner) };
            if parent.is_null() {
                return Ok(all);
            }
            let owner = Kuid::from_raw(owner);
            // SAFETY: As above.
            let id = unsafe { extra::uxive_user_ns_id(namespace) };

            all.push(Self { id, owner }, flags)?;
            namespace = parent;
        }
    }
}
