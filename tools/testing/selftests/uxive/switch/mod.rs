// SPDX-License-Identifier: GPL-2.0

//! irq bypass, which root switches on and off.

use std::fs;

/// Calls a function while irq bypass is on, which it is by default only if KVM is mended.
pub fn with_bypass<T>(function: impl FnOnce() -> T) -> T {
    const SWITCH: &str = "/sys/class/misc/uxive/bypass";
    let before = fs::read(SWITCH).unwrap();

    fs::write(SWITCH, "1").unwrap();
    let result = function();
    fs::write(SWITCH, before).unwrap();
    result
}
