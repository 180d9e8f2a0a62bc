// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive info`: the driver, its limits and what is in use of them.

use crate::{
    failed,
    open,
    options::Options,
    Outcome, //
};
use std::ffi::OsString;
use uxive::{
    Info,
    Usage, //
};

pub(crate) const HELP: &str = "\
NAME
    uxive info - tell of the driver, its limits and what is in use of them

SYNOPSIS
    uxive info

DESCRIPTION
    Opens a context and shows what the driver tells of it: the sizes of
    pages, and how many interrupts, event queues and exports there are and can
    be: in one context, in all contexts of this user, and in all contexts. Root
    changes limits in /sys/class/misc/uxive.

EXIT STATUS
    0  done
    1  the driver is not loaded, or its file is not for this user
    2  this is no way to call it
";

pub(crate) fn run(words: &[OsString]) -> Outcome {
    Options::read(words, &[])?;
    let info = open()?
        .info()
        .map_err(|error| failed("/dev/uxive", error))?;

    Ok(text(&info))
}

fn text(info: &Info) -> String {
    let rows = [
        ("interrupts, in a context", info.irqs),
        ("interrupts, of this user", info.irqs_user),
        ("interrupts, in all", info.irqs_total),
        ("event queues, of this user", info.queues_user),
        ("event queues, in all", info.queues_total),
        ("exports, of this user", info.exports_user),
        ("exports, in all", info.exports_total),
    ];
    let rows = rows.map(|(name, Usage { used, max })| format!("{name:<28}{used:>8}{max:>8}\n"));

    format!(
        "pages of {} bytes, trigger pages of {} bytes\n\n{:28}{:>8}{:>8}\n{}",
        info.page_size,
        info.esb_page_size,
        "",
        "in use",
        "limit",
        rows.concat()
    )
}
