// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The command `uxive`: looks at the driver, rings, and measures.
//!
//! Each command has a file, with its help. An error is one line on standard error. Text of others
//! is shown as printable ASCII, see [`text`].

mod arguments;
mod bench;
mod info;
mod list;
mod ring;
mod text;

use lexopt::{
    Arg::{
        Long,
        Short,
        Value, //
    },
    Parser, //
};
use std::{
    ffi::OsStr,
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
    uxive info [--json]
    uxive list [--json]
    uxive ring {--fd N | --socket PATH} [--index N] [--times N]
    uxive bench [--rings N]
    uxive help [info | list | ring | bench]
    uxive --version

DESCRIPTION
    info     tells of the driver, its limits and what is in use of them
    list     lists the contexts of all processes
    ring     rings a doorbell that another program has exported
    bench    measures how long a ring takes to arrive

OPTIONS
    -h, --help     describes the command, as uxive help does
    -V, --version  tells the version of the command

    Values may be written as --fd 3 or --fd=3. If an option is there twice the
    last one counts.

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

/// Runs one command, with the arguments of the call that are left.
type Command = fn(&mut Parser) -> Outcome;

/// The commands: name, help and function.
const COMMANDS: [(&str, &str, Command); 4] = [
    ("info", info::HELP, info::run),
    ("list", list::HELP, list::run),
    ("ring", ring::HELP, ring::run),
    ("bench", bench::HELP, bench::run),
];

/// Returns an error that names the failed step. The number of the error is left out.
fn failed(what: &str, error: io::Error) -> Failure {
    let text = error.to_string();
    let cause = text.split(" (os error ").next().unwrap_or_default();

    Failure::Failed(format!("{what}: {cause}"))
}

/// Opens the driver's file.
fn open() -> Result<uxive::Context, Failure> {
    uxive::Context::open().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::Failed("/dev/uxive: the driver is not loaded".into()),
        ErrorKind::PermissionDenied => {
            Failure::Failed("/dev/uxive: this user may not open it, see uxive(4)".into())
        }
        _ => failed("/dev/uxive", error),
    })
}

/// Returns the help and the function of a command.
fn command(name: &OsStr) -> Result<(&'static str, Command), Failure> {
    let found = COMMANDS.iter().find(|(known, ..)| name == *known);

    found.map(|&(_, help, run)| (help, run)).ok_or_else(|| {
        Failure::Usage(format!(
            "{} is nothing that it does",
            text::escaped(name.as_encoded_bytes())
        ))
    })
}

fn help(arguments: &mut Parser) -> Outcome {
    match arguments.next()? {
        None | Some(Short('h') | Long("help")) => Ok(HELP.into()),
        Some(Value(name)) => command(&name).map(|(help, _)| help.into()),
        Some(argument) => Err(argument.unexpected().into()),
    }
}

fn run(arguments: &mut Parser) -> Outcome {
    match arguments.next()? {
        None => Err(Failure::Usage("nothing is asked of it".into())),
        Some(Short('h') | Long("help")) => Ok(HELP.into()),
        Some(Short('V') | Long("version")) => {
            Ok(concat!("uxive ", env!("CARGO_PKG_VERSION"), "\n").into())
        }
        Some(Value(name)) if name == "help" => help(arguments),
        Some(Value(name)) => command(&name).and_then(|(_, run)| run(arguments)),
        Some(argument) => Err(argument.unexpected().into()),
    }
}

fn main() -> ExitCode {
    let outcome = run(&mut Parser::from_env()).and_then(|text| {
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
        run(&mut Parser::from_args(arguments)).map_err(|failure| match failure {
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
    fn the_version_is_that_of_the_crate() {
        for argument in ["--version", "-V"] {
            let said = outcome(&[argument]).unwrap();
            assert_eq!(said, format!("uxive {}\n", env!("CARGO_PKG_VERSION")));
        }
    }

    #[test]
    fn an_error_is_told_in_words() {
        let Failure::Failed(text) = failed("x", io::Error::from_raw_os_error(2)) else {
            panic!("that is no failure");
        };
        assert_eq!(text, "x: No such file or directory");
    }

    #[test]
    fn what_it_does_not_know_is_no_way_to_call_it() {
        for arguments in [
            &[][..],
            &["sing"],
            &["help", "sing"],
            &["--json"],
            &["info", "--all"],
            &["info", "--json=1"],
            &["list", "all"],
            &["ring"],
            &["ring", "--fd"],
            &["ring", "--fd", "3", "--socket", "x"],
            &["ring", "--fd", "-1"],
            &["ring", "--fd", "3", "--index", "65536"],
            &["bench", "--rings", "0"],
            &["bench", "--rings=5", "6"],
        ] {
            assert_eq!(outcome(arguments), Err(2), "{arguments:?}");
        }
    }
}
