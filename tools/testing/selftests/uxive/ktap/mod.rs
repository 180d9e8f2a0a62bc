// SPDX-License-Identifier: GPL-2.0

//! Selftests in Rust: a test is a function that panics if a promise is broken. The results are
//! told as KTAP.

use std::{
    panic::{
        self,
        UnwindSafe, //
    },
    process::ExitCode, //
};

/// Prints lines beside the results.
pub fn log(text: &str) {
    for line in text.lines() {
        println!("# {line}");
    }
}

/// Runs the tests, in their order.
pub fn run<T: Fn() + UnwindSafe + Copy>(tests: &[(&str, T)]) -> ExitCode {
    let mut failed = 0;

    panic::set_hook(Box::new(|info| log(&info.to_string())));
    println!("TAP version 13\n1..{}", tests.len());
    for (number, &(name, test)) in (1..).zip(tests) {
        let good = panic::catch_unwind(test).is_ok();

        println!("{} {number} {name}", if good { "ok" } else { "not ok" });
        failed += usize::from(!good);
    }
    log(&format!("pass:{} fail:{failed}", tests.len() - failed));
    ExitCode::from(u8::from(failed > 0))
}
