// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive list`: the contexts of all processes.
//!
//! The fdinfo of processes tells who has a context. A context without a descriptor shows only in
//! debugfs, to root. The two are read at different moments, so a line may be out of date.

use crate::{
    arguments::{
        format,
        Format, //
    },
    failed,
    text::{
        escaped,
        json,
        unambiguous,
        word, //
    },
    Outcome, //
};
use lexopt::Parser;
use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    path::Path,
    str::FromStr, //
};

pub(crate) const HELP: &str = "\
NAME
    uxive list - list the contexts of all processes

SYNOPSIS
    uxive list [--json]

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
    HELD BY  the processes that have it open: process, name, descriptors. A name
             is in quotes if it is not one word of printable ASCII without \"
             and \\, and has these escaped then, and other bytes as \\n or \\x1b

    Processes that this user may not look into are left out. STATE and DRAIN, and
    contexts that no process has a descriptor of, which are mapped or closing, are
    shown to root if debugfs is mounted; ? stands for what is not known.

OPTIONS
    --json  the same as one JSON object, which uxive(1) describes

EXIT STATUS
    0  done
    1  /proc cannot be read
    2  this is no way to call it
";

const DEBUGFS: &str = "/sys/kernel/debug/uxive/contexts";

/// A process that has a context open. Anybody may have chosen the name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Holder {
    pid: u32,
    name: Vec<u8>,
    files: Vec<u32>,
}

/// The process that opened a context, with its name as debugfs shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Opener {
    pid: Option<u32>,
    name: Vec<u8>,
}

/// The data about a context; `None` for unknown values.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Row {
    irqs: usize,
    masked: Option<usize>,
    exports: Option<usize>,
    state: Option<String>,
    drain: Option<String>,
    afu: Option<Vec<u8>>,
    holders: Vec<Holder>,
    opener: Option<Opener>,
}

pub(crate) fn run(arguments: &mut Parser) -> Outcome {
    let Some(format) = format(arguments)? else {
        return Ok(HELP.into());
    };
    let mut rows = processes(Path::new("/proc")).map_err(|error| failed("/proc", error))?;

    // Without debugfs, or the right to read it, there is less to show.
    if let Ok(text) = fs::read(DEBUGFS) {
        add_debugfs(&text, &mut rows);
    }
    Ok(match format {
        Format::Table => table(&rows),
        Format::Json => object(&rows),
    })
}

/// Returns the contexts that processes have descriptors of.
fn processes(proc: &Path) -> std::io::Result<BTreeMap<u64, Row>> {
    let mut rows = BTreeMap::<u64, Row>::new();

    for process in fs::read_dir(proc)? {
        let process = process?.path();
        let pid = process
            .file_name()
            .and_then(|name| number::<u32>(name.as_encoded_bytes()));
        // A process may end meanwhile, or belong to another user.
        let (Some(pid), Ok(files)) = (pid, fs::read_dir(process.join("fdinfo"))) else {
            continue;
        };
        let mut held = BTreeMap::<u64, Vec<u32>>::new();
        for file in files.flatten() {
            let text = fs::read(file.path()).unwrap_or_default();
            let fd = number(file.file_name().as_encoded_bytes());
            if let (Some((context, row)), Some(fd)) = (fdinfo(&text), fd) {
                let holders = std::mem::take(&mut rows.entry(context).or_default().holders);
                rows.insert(context, Row { holders, ..row });
                held.entry(context).or_default().push(fd);
            }
        }
        let name = fs::read(process.join("comm")).unwrap_or_default();
        for (context, files) in held {
            let holder = holder(pid, &name, files);
            rows.entry(context).or_default().holders.push(holder);
        }
    }
    Ok(rows)
}

/// Returns a process with its descriptors. `comm` is the content of its file of that name: any
/// bytes, and a newline.
fn holder(pid: u32, comm: &[u8], mut files: Vec<u32>) -> Holder {
    files.sort_unstable();
    Holder {
        pid,
        name: comm.strip_suffix(b"\n").unwrap_or(comm).into(),
        files,
    }
}

/// Returns the number that these digits are.
fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the lines of a file of the kernel.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);

    text.split(|&byte| byte == b'\n')
}

/// Returns the number and the data of a context from the fdinfo of its descriptor; `None` for
/// another file.
fn fdinfo(text: &[u8]) -> Option<(u64, Row)> {
    let values = |key: &'static str| {
        lines(text).filter_map(move |line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":\t"))
    };
    let context = number(values("uxive-context").next()?)?;
    let masked = values("uxive-irq").filter(|irq| irq.ends_with(b" masked"));

    let row = Row {
        irqs: number(values("uxive-irqs").next()?)?,
        masked: Some(masked.count()),
        exports: Some(values("uxive-export").count()),
        // All before the last of these is the name.
        afu: values("uxive-afu").next().map(|afu| {
            let end = afu.windows(PASID.len()).rposition(|part| part == PASID);
            afu[..end.unwrap_or(afu.len())].into()
        }),
        ..Default::default()
    };
    Some((context, row))
}

/// Separates the name of an AFU from its PASID in fdinfo.
const PASID: &[u8] = b" pasid:";

/// Adds the data of the table in debugfs, which may have more columns than these.
fn add_debugfs(text: &[u8], rows: &mut BTreeMap<u64, Row>) {
    let mut lines = lines(text);
    let space = |&byte: &u8| byte == b' ';
    let names: Vec<_> = lines.next().unwrap_or_default().split(space).collect();
    let column = |name: &str| names.iter().position(|&other| other == name.as_bytes());

    for line in lines {
        // The last column is the name of a process, which may have spaces, and is escaped.
        let words: Vec<_> = line.splitn(names.len(), space).collect();
        let cell = |name| words.get(column(name)?).copied();
        let (Some(context), Some(irqs)) = (
            cell("context").and_then(number),
            cell("irqs").and_then(number),
        ) else {
            continue;
        };
        let row = rows.entry(context).or_insert_with(|| Row {
            irqs,
            ..Default::default()
        });
        row.state = cell("state").map(escaped);
        row.drain = cell("drain").map(escaped);
        row.opener = Some(Opener {
            pid: cell("pid").and_then(number),
            name: cell("comm").unwrap_or(b"?").into(),
        });
    }
}

impl Holder {
    fn text(&self) -> String {
        format!(
            "{} {} ({})",
            self.pid,
            word(&self.name),
            list(&self.files, " ")
        )
    }

    fn object(&self) -> String {
        let (name, files) = (json(&unambiguous(&self.name)), list(&self.files, ", "));

        format!(
            "{{\"pid\": {}, \"name\": {name}, \"fds\": [{files}]}}",
            self.pid
        )
    }
}

impl Opener {
    /// Escaped once more: with quotes alone its end would be ambiguous.
    fn text(&self) -> String {
        let pid = self.pid.map_or("?".into(), |pid| pid.to_string());

        format!("{pid} {}", word(&self.name))
    }

    fn object(&self) -> String {
        let name = json(&escaped(&self.name));

        format!("{{\"pid\": {}, \"name\": {name}}}", or_null(self.pid))
    }
}

fn list<T: Display>(items: &[T], between: &str) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();

    items.join(between)
}

fn or_null(value: Option<impl Display>) -> String {
    value.map_or("null".into(), |value| value.to_string())
}

/// Returns the table as JSON: a line for each context.
fn object(rows: &BTreeMap<u64, Row>) -> String {
    let contexts: Vec<_> = rows
        .iter()
        .map(|(context, row)| {
            let holders: Vec<_> = row.holders.iter().map(Holder::object).collect();
            let afu = row.afu.as_ref().map(|afu| json(&unambiguous(afu)));

            format!(
                "\n  {{\"context\": {context}, \"irqs\": {}, \"masked\": {}, \"exports\": {}, \
                 \"state\": {}, \"drain\": {}, \"afu\": {}, \"opener\": {}, \"holders\": [{}]}}",
                row.irqs,
                or_null(row.masked),
                or_null(row.exports),
                or_null(row.state.as_deref().map(json)),
                or_null(row.drain.as_deref().map(json)),
                or_null(afu),
                or_null(row.opener.as_ref().map(Opener::object)),
                list(&holders, ", ")
            )
        })
        .collect();

    format!("{{\"contexts\": [{}\n]}}\n", list(&contexts, ","))
}

fn table(rows: &BTreeMap<u64, Row>) -> String {
    // All of it is ASCII by now, so that bytes are columns.
    let number = |count: Option<usize>| count.map_or("?".into(), |count| count.to_string());
    let known = |word: &Option<String>| word.clone().unwrap_or("?".into());
    let mut lines = vec![[
        "CONTEXT", "IRQS", "MASKED", "EXPORTS", "STATE", "DRAIN", "AFU", "HELD BY",
    ]
    .map(String::from)];

    for (context, row) in rows {
        let holders = match row.holders.as_slice() {
            [] => format!(
                "no descriptor; opened by {}",
                row.opener.as_ref().map_or("?".into(), Opener::text)
            ),
            holders => list(&holders.iter().map(Holder::text).collect::<Vec<_>>(), ", "),
        };
        lines.push([
            context.to_string(),
            row.irqs.to_string(),
            number(row.masked),
            number(row.exports),
            known(&row.state),
            known(&row.drain),
            row.afu.as_ref().map_or("-".into(), |afu| word(afu)),
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

    const FDINFO: &[u8] =
        b"pos:\t0\nflags:\t0100002\nuxive-context:\t12\nuxive-afu:\tIBM,MEMCPY3 pasid:0 attached\n\
        uxive-irqs:\t2\nuxive-deferred:\t0\nuxive-irq:\toffset:10000000000 lisn:14 masked\n\
        uxive-irq:\toffset:10000010000 lisn:15\nuxive-export:\tid:1 start:0 count:2\n";

    fn opener(rows: &BTreeMap<u64, Row>, context: u64) -> String {
        rows[&context].opener.as_ref().unwrap().text()
    }

    #[test]
    fn the_fdinfo_of_a_context_is_read() {
        let (context, row) = fdinfo(FDINFO).unwrap();

        assert_eq!(context, 12);
        assert_eq!((row.irqs, row.masked, row.exports), (2, Some(1), Some(1)));
        assert_eq!(row.afu.as_deref(), Some(&b"IBM,MEMCPY3"[..]));
        assert_eq!(fdinfo(b"pos:\t0\neventfd-count: 0\n"), None);
    }

    #[test]
    fn debugfs_adds_contexts_that_nobody_has_a_descriptor_of() {
        let mut rows = BTreeMap::from([fdinfo(FDINFO).unwrap()]);

        add_debugfs(
            b"context pid uid state drain irqs quarantined max-irqs comm\n\
             12 840 0 open kernel 2 0 16384 worker\n13 841 0 closing user 1 1 16384 two words\n",
            &mut rows,
        );
        assert_eq!(rows[&12].state.as_deref(), Some("open"));
        assert_eq!(rows[&13].drain.as_deref(), Some("user"));
        assert_eq!((rows[&13].irqs, rows[&13].masked), (1, None));
        assert_eq!(opener(&rows, 13), r#"841 "two words""#);
    }

    #[test]
    fn columns_are_as_wide_as_what_they_have() {
        let (context, mut row) = fdinfo(FDINFO).unwrap();

        row.holders = vec![holder(7, b"a\n", vec![4, 3]), holder(8, b"b\n", vec![5])];
        assert_eq!(
            table(&BTreeMap::from([(context, row)])),
            "CONTEXT  IRQS  MASKED  EXPORTS  STATE  DRAIN  AFU          HELD BY\n\
             12       2     1       1        ?      ?      IBM,MEMCPY3  7 a (3 4), 8 b (5)\n"
        );
    }

    #[test]
    fn json_has_the_same_and_null_for_unknown_values() {
        let (context, mut row) = fdinfo(FDINFO).unwrap();

        assert_eq!(object(&BTreeMap::new()), "{\"contexts\": [\n]}\n");
        row.holders = vec![holder(7, b"a \"\n\xff\n", vec![4, 3])];
        let mut rows = BTreeMap::from([(context, row)]);
        add_debugfs(
            b"context pid state drain irqs comm\n13 841 closing - 1 two\\n words\n",
            &mut rows,
        );
        assert_eq!(
            object(&rows),
            concat!(
                "{\"contexts\": [\n",
                r#"  {"context": 12, "irqs": 2, "masked": 1, "exports": 1, "state": null, "#,
                r#""drain": null, "afu": "IBM,MEMCPY3", "opener": null, "#,
                r#""holders": [{"pid": 7, "name": "a \"\\n\\xff", "fds": [3, 4]}]},"#,
                "\n",
                r#"  {"context": 13, "irqs": 1, "masked": null, "exports": null, "state": "closing", "#,
                r#""drain": "-", "afu": null, "opener": {"pid": 841, "name": "two\\n words"}, "#,
                r#""holders": []}"#,
                "\n]}\n"
            )
        );
    }

    #[test]
    fn a_name_forges_nothing() {
        let (context, row) = fdinfo(FDINFO).unwrap();
        let by = |name: &[u8]| holder(7, name, vec![3]);
        let holder = |name: &[u8]| by(name).text();
        let table = |name: &[u8]| {
            let holders = vec![by(name)];
            table(&BTreeMap::from([(
                context,
                Row {
                    holders,
                    ..row.clone()
                },
            )]))
        };

        // The name itself ends in a newline.
        assert_eq!(holder(b"a\n\n"), r#"7 "a\n" (3)"#);
        assert_eq!(holder(b"x (3), 1 init\n"), r#"7 "x (3), 1 init" (3)"#);
        assert_eq!(holder(b"\xff\xfe\n"), r#"7 "\xff\xfe" (3)"#);
        for name in [
            &b"a\n13 9 9 9 open\n"[..],
            b"\x1b]0;x\x07\n",
            b"\xff\n",
            b"\n",
        ] {
            assert_eq!(table(name).lines().count(), 2);
            assert!(table(name)
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
        }
    }

    #[test]
    fn what_is_not_text_hides_no_context() {
        let fdinfo = |name: &[u8]| {
            let text = [
                b"uxive-context:\t12\nuxive-afu:\t",
                name,
                b" pasid:0 gone\nuxive-irqs:\t2\n",
            ];
            fdinfo(&text.concat())
        };
        let mut rows = BTreeMap::from([fdinfo(b"\xff \x1b").unwrap()]);

        assert_eq!(rows[&12].afu.as_deref(), Some(&b"\xff \x1b"[..]));
        assert!(table(&rows).contains(r#"  "\xff \x1b"  "#));
        add_debugfs(
            b"context pid state irqs comm\n12 840 open 2 \xff\n13 841 \x1b 1 a\xff \x07b\n",
            &mut rows,
        );
        assert_eq!(rows[&12].state.as_deref(), Some("open"));
        assert_eq!(rows[&13].state.as_deref(), Some(r"\x1b"));
        assert_eq!(opener(&rows, 13), r#"841 "a\xff \x07b""#);
    }
}
