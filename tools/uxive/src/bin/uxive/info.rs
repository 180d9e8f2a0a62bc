// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive info`: the driver, its limits and what is in use of them.

use crate::{
    arguments::{
        format,
        Format, //
    },
    failed,
    open,
    Outcome, //
};
use lexopt::Parser;
use uxive::{
    Info,
    Usage, //
};

pub(crate) const HELP: &str = "\
NAME
    uxive info - tell of the driver, its limits and what is in use of them

SYNOPSIS
    uxive info [--json]

DESCRIPTION
    Opens a context and shows what the driver tells of it: the sizes of
    pages, and how many interrupts, event queues and exports there are and can
    be: in one context, in all contexts of this user, and in all contexts. Root
    changes limits in /sys/class/misc/uxive.

OPTIONS
    --json  the same as one JSON object, which uxive(1) describes

EXIT STATUS
    0  done
    1  the driver is not loaded, or its file is not for this user
    2  this is no way to call it
";

pub(crate) fn run(arguments: &mut Parser) -> Outcome {
    let Some(format) = format(arguments)? else {
        return Ok(HELP.into());
    };
    let info = open()?
        .info()
        .map_err(|error| failed("/dev/uxive", error))?;

    Ok(match format {
        Format::Table => text(&info),
        Format::Json => json(&info),
    })
}

fn json(info: &Info) -> String {
    let usage = |Usage { used, max }| format!("{{\"used\": {used}, \"max\": {max}}}");
    let both = |user, all| format!("\"user\": {}, \"all\": {}", usage(user), usage(all));

    format!(
        "{{\n  \"features\": \"{:#x}\",\n  \"page_size\": {},\n  \"trigger_page_size\": {},\n  \
         \"interrupts\": {{\"context\": {}, {}}},\n  \"queues\": {{{}}},\n  \"exports\": {{{}}}\n}}\n",
        info.features,
        info.page_size,
        info.esb_page_size,
        usage(info.irqs),
        both(info.irqs_user, info.irqs_total),
        both(info.queues_user, info.queues_total),
        both(info.exports_user, info.exports_total)
    )
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
