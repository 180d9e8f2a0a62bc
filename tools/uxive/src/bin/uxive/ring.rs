// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive ring`: rings a doorbell that another program has exported.

use crate::{
    failed,
    options::Options,
    text::{
        escaped,
        word, //
    },
    Failure,
    Outcome, //
};
use std::{
    ffi::{
        OsStr,
        OsString, //
    },
    fs::read_link,
    os::{
        fd::BorrowedFd,
        unix::net::UnixStream, //
    }, //
};
use uxive::Receiver;

pub(crate) const HELP: &str = "\
NAME
    uxive ring - ring a doorbell that another program has exported

SYNOPSIS
    uxive ring {--fd N | --socket PATH} [--index N] [--times N]

DESCRIPTION
    Maps an export, the file by which a program gives away doorbells of its
    interrupts, and rings one of them.

OPTIONS
    --fd N         the export is the open file with this number, inherited from
                   who calls:  uxive ring --fd 5
    --socket PATH  connects to the UNIX stream socket at PATH, and is sent the
                   export there: a byte, and with it the file
                   (SCM_RIGHTS), as Export::send of the Rust library does
    --index N      which doorbell of the export, from 0 on; 0 by default
    --times N      how often, one after the other; 1 by default. Rings that come
                   before the last one was handled are one interrupt with it

EXIT STATUS
    0  it rang as often as it was to
    1  there is no export, or no doorbell of this index; what file there is
       instead is told
    2  this is no way to call it
    3  the owner has taken the doorbell back: the export is revoked, the
       interrupt freed, or the owner gone
";

/// The most interrupts that a context has.
const MOST: u32 = 65536;

pub(crate) fn run(words: &[OsString]) -> Outcome {
    let options = Options::read(words, &["--fd", "--socket", "--index", "--times"])?;
    let index = options.number("--index", 0..=MOST - 1)?.unwrap_or(0);
    let times = options.number("--times", 1..=u32::MAX)?.unwrap_or(1);
    let fd = options.number("--fd", 0..=i32::MAX as u32)?;

    let doorbells = match (fd, options.get("--socket")) {
        (Some(fd), None) => inherited(fd)?,
        (None, Some(path)) => sent(path)?,
        _ => return Err(Failure::Usage("ring needs one of --fd and --socket".into())),
    };
    if index >= doorbells.count() {
        let count = doorbells.count();
        return Err(Failure::Failed(format!(
            "the export has {count} doorbells, and none of index {index}"
        )));
    }
    for rings in 0..times {
        doorbells
            .ring(index)
            .map_err(|error| match error.raw_os_error() {
                Some(EFAULT) => Failure::TakenBack(rings.into()),
                _ => failed("ringing", error),
            })?;
    }
    Ok(match times {
        1 => "rang once\n".into(),
        _ => format!("rang {times} times\n"),
    })
}

const EFAULT: i32 = 14;
const ENOTTY: i32 = 25;

fn inherited(fd: u32) -> Result<Receiver, Failure> {
    // SAFETY: Nothing here closes a file that was inherited. If there is none of this number, the
    // kernel says so.
    let file = unsafe { BorrowedFd::borrow_raw(fd as i32) };

    // A copy, which fails if the file is not open.
    file.try_clone_to_owned()
        .and_then(Receiver::map)
        .map_err(|error| match error.raw_os_error() {
            Some(ENOTTY) => Failure::Failed(format!("file {fd} is {}no export", what_else(fd))),
            _ => failed(&format!("file {fd}"), error),
        })
}

/// Describes an open file that is no export, if its kind is known.
fn what_else(fd: u32) -> String {
    match read_link(format!("/proc/thread-self/fd/{fd}")) {
        Ok(link) => format!("{}, and ", word(link.as_os_str().as_encoded_bytes())),
        Err(_) => String::new(),
    }
}

fn sent(path: &OsStr) -> Result<Receiver, Failure> {
    let shown = escaped(path.as_encoded_bytes());
    let socket = UnixStream::connect(path).map_err(|error| failed(&shown, error))?;

    Receiver::receive(socket).map_err(|error| match error.raw_os_error() {
        Some(ENOTTY) => Failure::Failed(format!("{shown}: the file that was sent is no export")),
        _ => failed(&shown, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        os::fd::AsRawFd, //
    };

    /// Returns the error for an inherited file that cannot be rung.
    fn said(fd: i32) -> String {
        match inherited(fd as u32) {
            Err(Failure::Failed(text)) => text,
            _ => panic!("file {fd} was rung"),
        }
    }

    #[test]
    fn a_file_that_is_no_export_is_called_what_it_is() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();

        let fd = file.as_raw_fd();
        assert_eq!(said(fd), format!("file {fd} is /dev/null, and no export"));
        let fd = socket.as_raw_fd();
        let text = said(fd);
        assert!(
            text.starts_with(&format!("file {fd} is socket:[")),
            "{text}"
        );
        assert!(text.ends_with("], and no export"), "{text}");
        assert!(said(i32::MAX).contains("Bad file descriptor"));
    }
}
