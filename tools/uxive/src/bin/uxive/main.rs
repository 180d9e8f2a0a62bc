// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The command `uxive`: looks at the driver, rings, and measures.
//!
//! Each command has a file, with its help. An error is one line on standard error. Text of others
//! is shown as printable ASCII, see [`text`].

mod bench;
mod info;
mod list;
mod options;
mod ring;
mod text;

use std::{
    env,
    ffi::OsString,
    io::{
        self,
        ErrorKind,
        Write, //
    },
    process::ExitCode, //
};

const HELP: &str = "\
NAME
    uxive - look at, ring and measure interrupts of the uxive driver

SYNOPSIS
    uxive info
    uxive list
    uxive ring {--fd N | --socket PATH} [--index N] [--times N]
    uxive bench [--rings N]
    uxive help [info | list | ring | bench]

DESCRIPTION
    info     tells of the driver, its limits and what is in use of them
    list     lists the contexts of all processes
    ring     rings a doorbell that another program has exported
    bench    measures how long a ring takes to arrive

EXIT STATUS
    0  done
    1  it did not work, and standard error says why
    2  this is no way to call it
    3  ring: the owner has taken the doorbell back
";

/// Why the command failed.
enum Failure {
    /// The words of the call were wrong.
    Usage(String),
    /// Something did not work.
    Failed(String),
    /// The doorbell was taken back after so many rings.
    TakenBack(u64),
}

/// The result of a command: its output.
type Outcome = Result<String, Failure>;

/// Runs one command, with the words of the call.
type Command = fn(&[OsString]) -> Outcome;

/// The commands: name, help and function.
const COMMANDS: [(&str, &str, Command); 4] = [
    ("info", info::HELP, info::run),
    ("list", list::HELP, list::run),
    ("ring", ring::HELP, ring::run),
    ("bench", bench::HELP, bench::run),
];

/// Returns an error that names the failed step.
fn failed(what: &str, error: io::Error) -> Failure {
    Failure::Failed(format!("{what}: {error}"))
}

/// Opens the driver's file.
fn open() -> Result<uxive::Context, Failure> {
    uxive::Context::open().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::Failed("/dev/uxive: the driver is not loaded".into()),
        ErrorKind::PermissionDenied => {
            Failure::Failed("/dev/uxive: its mode says that it is not for this user".into())
        }
        _ => failed("/dev/uxive", error),
    })
}

fn run(arguments: &[OsString]) -> Outcome {
    let asks = |word: &OsString| word == "--help" || word == "-h";
    let Some((name, options)) = arguments.split_first() else {
        return Err(Failure::Usage("nothing is asked of it".into()));
    };
    let (name, help) = match options.first() {
        Some(about) if name == "help" => (about, true),
        None if name == "help" || asks(name) => return Ok(HELP.into()),
        _ => (name, options.iter().any(asks)),
    };

    match COMMANDS.iter().find(|(known, ..)| name == known) {
        Some((_, text, _)) if help => Ok((*text).into()),
        Some((.., command)) => command(options),
        None => Err(Failure::Usage(format!(
            "{} is nothing that it does",
            text::escaped(name.as_encoded_bytes())
        ))),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let outcome = run(&arguments).and_then(|text| {
        match io::stdout().write_all(text.as_bytes()) {
            // The reader of a pipe may have closed it.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(failed("standard output", error))
            }
            _ => Ok(()),
        }
    });

    let (status, text) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(text)) => (1, text),
        Err(Failure::Usage(text)) => (2, format!("{text}; see uxive help")),
        Err(Failure::TakenBack(rings)) => {
            let text = format!("the owner has taken the doorbell back, after {rings} rings");
            (3, text)
        }
    };
    eprintln!("uxive: {text}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(arguments: &[&str]) -> Result<String, u8> {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.into()).collect();

        run(&arguments).map_err(|failure| match failure {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::TakenBack(_) => 3,
        })
    }

    #[test]
    fn help_is_that_of_what_is_asked_about() {
        for arguments in [&["help"][..], &["--help"], &["-h"]] {
            assert_eq!(outcome(arguments), Ok(HELP.into()));
        }
        for arguments in [&["help", "ring"][..], &["ring", "--help"], &["ring", "-h"]] {
            assert_eq!(outcome(arguments), Ok(ring::HELP.into()));
        }
    }

    #[test]
    fn what_it_does_not_know_is_no_way_to_call_it() {
        for arguments in [
            &[][..],
            &["sing"],
            &["help", "sing"],
            &["info", "--all"],
            &["list", "all"],
            &["ring"],
            &["ring", "--fd"],
            &["ring", "--fd", "3", "--socket", "x"],
            &["ring", "--fd", "-1"],
            &["ring", "--fd", "3", "--index", "65536"],
            &["bench", "--rings", "0"],
            &["bench", "--rings", "5", "--rings", "6"],
        ] {
            assert_eq!(outcome(arguments), Err(2), "{arguments:?}");
        }
    }
}
