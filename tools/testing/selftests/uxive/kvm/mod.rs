// SPDX-License-Identifier: GPL-2.0

//! KVM's modules, which no machine has but one that loads them.

use std::{
    process::Command,
    thread,
    time::Duration, //
};

/// Loads or unloads modules. Guests on their way out may still use them.
fn modules(command: &str, names: [&str; 2]) {
    for name in names {
        let succeeds = || Command::new(command).arg(name).status().unwrap().success();
        let later = |_| {
            thread::sleep(Duration::from_millis(100));
            succeeds()
        };

        assert!(succeeds() || (0..100).any(later), "{command} {name}");
    }
}

/// Calls a function while KVM-HV is loaded.
pub fn with<T>(function: impl FnOnce() -> T) -> T {
    modules("insmod", ["/modules/kvm.ko", "/modules/kvm-hv.ko"]);
    let result = function();
    modules("rmmod", ["kvm_hv", "kvm"]);
    result
}
