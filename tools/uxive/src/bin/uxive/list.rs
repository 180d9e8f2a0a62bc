// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive list`: the contexts of all processes.
//!
//! Who has a context is told by the fdinfo of processes; what is left of those that nobody has a
//! descriptor of, by debugfs, to root. Each is read at another moment, so a line may be of the past.

use crate::{
    failed,
    options::Options,
    Outcome, //
};
use std::{
    collections::BTreeMap,
    fs,
    path::Path, //
};

pub(crate) const HELP: &str = "\
NAME
    uxive list - list the contexts of all processes

SYNOPSIS
    uxive list

DESCRIPTION
    Shows a line for each context, by its number, which is that in the kernel's
    log:

    CONTEXT  its number
    IRQS     interrupts that it has
    MASKED   how many of these are masked
    EXPORTS  exports of its doorbells that were not revoked
    STATE    open, or closing while something of it is in quarantine
    DRAIN    who drains its event queue: kernel, user, or - without a queue
    AFU      its accelerator
    HELD BY  the processes that have it open: process, name, descriptors

    Processes that this user may not look into are left out. STATE and DRAIN, and
    contexts that no process has a descriptor of, which are mapped or closing, are
    shown to root if debugfs is mounted; ? stands for what is not known.

EXIT STATUS
    0  done
    1  /proc cannot be read
    2  this is no way to call it
";

const DEBUGFS: &str = "/sys/kernel/debug/uxive/contexts";

/// What is known of a context. Nothing stands for what is not known.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Row {
    irqs: usize,
    masked: Option<usize>,
    exports: Option<usize>,
    state: Option<String>,
    drain: Option<String>,
    afu: Option<String>,
    holders: Vec<String>,
    opener: String,
}

pub(crate) fn run(words: &[String]) -> Outcome {
    Options::read(words, &[])?;
    let mut rows = processes(Path::new("/proc")).map_err(|error| failed("/proc", error))?;

    // Without debugfs, or the right to read it, there is less to show.
    if let Ok(text) = fs::read_to_string(DEBUGFS) {
        add_debugfs(&text, &mut rows);
    }
    Ok(table(&rows))
}

/// Returns the contexts that processes have descriptors of.
fn processes(proc: &Path) -> std::io::Result<BTreeMap<u64, Row>> {
    let mut rows = BTreeMap::<u64, Row>::new();

    for process in fs::read_dir(proc)? {
        let process = process?.path();
        let pid = process
            .file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok());
        // Processes end meanwhile, and some are not for this user.
        let (Some(pid), Ok(files)) = (pid, fs::read_dir(process.join("fdinfo"))) else {
            continue;
        };
        let mut held = BTreeMap::<u64, Vec<String>>::new();
        for file in files.flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            if let Some((context, row)) = fdinfo(&text) {
                let holders = std::mem::take(&mut rows.entry(context).or_default().holders);
                rows.insert(context, Row { holders, ..row });
                held.entry(context)
                    .or_default()
                    .push(file.file_name().to_string_lossy().into_owned());
            }
        }
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        for (context, mut files) in held {
            files.sort_by_key(|file| file.parse::<u32>().ok());
            let holder = format!("{pid} {} ({})", name.trim_end(), files.join(" "));
            rows.entry(context).or_default().holders.push(holder);
        }
    }
    Ok(rows)
}

/// Returns what the fdinfo of a descriptor says, if it is that of a context, and its number.
fn fdinfo(text: &str) -> Option<(u64, Row)> {
    let values = |key: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(key)?.strip_prefix(":\t"))
    };
    let context = values("uxive-context").next()?.parse().ok()?;
    let masked = values("uxive-irq").filter(|irq| irq.ends_with(" masked"));

    let row = Row {
        irqs: values("uxive-irqs").next()?.parse().ok()?,
        masked: Some(masked.count()),
        exports: Some(values("uxive-export").count()),
        afu: values("uxive-afu")
            .next()
            .and_then(|afu| afu.split(" pasid:").next())
            .map(String::from),
        ..Default::default()
    };
    Some((context, row))
}

/// Adds what the table in debugfs says. Its columns may have become more.
fn add_debugfs(text: &str, rows: &mut BTreeMap<u64, Row>) {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let column = |name| names.iter().position(|&other| other == name);

    for line in lines {
        // The last column is the name of a process, which may have spaces.
        let words: Vec<_> = line.splitn(names.len(), ' ').collect();
        let word = |name| words.get(column(name)?).copied();
        let (Some(Ok(context)), Some(Ok(irqs))) = (
            word("context").map(str::parse),
            word("irqs").map(str::parse),
        ) else {
            continue;
        };
        let row = rows.entry(context).or_insert_with(|| Row {
            irqs,
            ..Default::default()
        });
        row.state = word("state").map(String::from);
        row.drain = word("drain").map(String::from);
        row.opener = [word("pid"), word("comm")]
            .map(|word| word.unwrap_or("?"))
            .join(" ");
    }
}

fn table(rows: &BTreeMap<u64, Row>) -> String {
    let number = |count: Option<usize>| count.map_or("?".into(), |count| count.to_string());
    let word = |word: &Option<String>, none: &str| word.clone().unwrap_or(none.into());
    let mut lines = vec![[
        "CONTEXT", "IRQS", "MASKED", "EXPORTS", "STATE", "DRAIN", "AFU", "HELD BY",
    ]
    .map(String::from)];

    for (context, row) in rows {
        let holders = match row.holders.as_slice() {
            [] => format!("no descriptor; opened by {}", row.opener),
            holders => holders.join(", "),
        };
        lines.push([
            context.to_string(),
            row.irqs.to_string(),
            number(row.masked),
            number(row.exports),
            word(&row.state, "?"),
            word(&row.drain, "?"),
            word(&row.afu, "-"),
            holders,
        ]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    lines
        .iter()
        .map(|line| {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FDINFO: &str =
        "pos:\t0\nflags:\t0100002\nuxive-context:\t12\nuxive-afu:\tIBM,MEMCPY3 pasid:0 attached\n\
        uxive-irqs:\t2\nuxive-deferred:\t0\nuxive-irq:\toffset:10000000000 lisn:14 masked\n\
        uxive-irq:\toffset:10000010000 lisn:15\nuxive-export:\tid:1 start:0 count:2\n";

    #[test]
    fn the_fdinfo_of_a_context_is_read() {
        let (context, row) = fdinfo(FDINFO).unwrap();

        assert_eq!(context, 12);
        assert_eq!((row.irqs, row.masked, row.exports), (2, Some(1), Some(1)));
        assert_eq!(row.afu.as_deref(), Some("IBM,MEMCPY3"));
        assert_eq!(fdinfo("pos:\t0\neventfd-count: 0\n"), None);
    }

    #[test]
    fn debugfs_adds_contexts_that_nobody_has_a_descriptor_of() {
        let mut rows = BTreeMap::from([fdinfo(FDINFO).unwrap()]);

        add_debugfs(
            "context pid uid state drain irqs quarantined max-irqs comm\n\
             12 840 0 open kernel 2 0 16384 worker\n13 841 0 closing user 1 1 16384 two words\n",
            &mut rows,
        );
        assert_eq!(rows[&12].state.as_deref(), Some("open"));
        assert_eq!(rows[&13].drain.as_deref(), Some("user"));
        assert_eq!((rows[&13].irqs, rows[&13].masked), (1, None));
        assert_eq!(rows[&13].opener, "841 two words");
    }

    #[test]
    fn columns_are_as_wide_as_what_they_have() {
        let (context, mut row) = fdinfo(FDINFO).unwrap();

        row.holders = vec!["7 a (3 4)".into(), "8 b (5)".into()];
        assert_eq!(
            table(&BTreeMap::from([(context, row)])),
            "CONTEXT  IRQS  MASKED  EXPORTS  STATE  DRAIN  AFU          HELD BY\n\
             12       2     1       1        ?      ?      IBM,MEMCPY3  7 a (3 4), 8 b (5)\n"
        );
    }
}
