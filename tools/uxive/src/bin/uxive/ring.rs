// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive ring`: rings a doorbell that another program has exported.

use crate::{
    failed,
    options::Options,
    text::escaped,
    Failure,
    Outcome, //
};
use std::{
    ffi::{
        OsStr,
        OsString, //
    },
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
                   export there: a message of 4 bytes, the number of doorbells
                   in little-endian order, with the file (SCM_RIGHTS), as
                   Export::send of the Rust library does
    --index N      which doorbell of the export, from 0 on; 0 by default
    --times N      how often, one after the other; 1 by default. Rings that come
                   before the last one was handled are one interrupt with it

EXIT STATUS
    0  it rang as often as it was to
    1  there is no export, or no doorbell of this index
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
        (Some(fd), None) => inherited(fd, index + 1)?,
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

fn inherited(fd: u32, count: u32) -> Result<Receiver, Failure> {
    // SAFETY: Nothing here closes a file that was inherited. If there is none of this number, the
    // kernel says so.
    let file = unsafe { BorrowedFd::borrow_raw(fd as i32) };

    // A copy, as it can be had of an open file only.
    file.try_clone_to_owned()
        .and_then(|file| Receiver::map(file, count))
        .map_err(|error| failed(&format!("file {fd}"), error))
}

fn sent(path: &OsStr) -> Result<Receiver, Failure> {
    UnixStream::connect(path)
        .and_then(Receiver::receive)
        .map_err(|error| failed(&escaped(path.as_encoded_bytes()), error))
}
