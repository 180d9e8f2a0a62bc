// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive ring`: rings a doorbell that another program has exported.

use crate::{
    arguments::number,
    failed,
    text::{
        escaped,
        word, //
    },
    Failure,
    Outcome, //
};
use lexopt::{
    Arg::{
        Long,
        Short, //
    },
    Parser, //
};
use std::{
    ffi::OsStr,
    fs::{
        read,
        read_link, //
    },
    io::ErrorKind,
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

pub(crate) fn run(arguments: &mut Parser) -> Outcome {
    let (mut index, mut times, mut fd, mut socket) = (0, 1, None, None);

    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(HELP.into()),
            Long("fd") => fd = Some(number("--fd", arguments, 0..=i32::MAX as u32)?),
            Long("socket") => socket = Some(arguments.value()?),
            Long("index") => index = number("--index", arguments, 0..=MOST - 1)?,
            Long("times") => times = number("--times", arguments, 1..=u32::MAX)?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let doorbells = match (fd, socket) {
        (Some(fd), None) => inherited(fd)?,
        (None, Some(path)) => sent(&path)?,
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

const EBADF: i32 = 9;
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
            Some(EBADF) => Failure::Failed(format!("fd {fd} is not open")),
            Some(ENOTTY) => Failure::Failed(format!("fd {fd} is {}, not an export", kind(fd))),
            _ => failed(&format!("fd {fd}"), error),
        })
}

/// Returns what an open file is that is no export.
fn kind(fd: u32) -> String {
    let fdinfo = read(format!("/proc/thread-self/fdinfo/{fd}")).unwrap_or_default();
    let has = |key: &[u8]| {
        fdinfo
            .split(|&byte| byte == b'\n')
            .any(|line| line.starts_with(key))
    };
    let Ok(link) = read_link(format!("/proc/thread-self/fd/{fd}")) else {
        return "another file".into();
    };

    match link.as_os_str().as_encoded_bytes() {
        _ if has(b"uxive-range:") => "a range".into(),
        _ if has(b"uxive-context:") => "a context".into(),
        b"anon_inode:[eventfd]" => "an eventfd".into(),
        name if name.starts_with(b"socket:[") => "a socket".into(),
        name if name.starts_with(b"pipe:[") => "a pipe".into(),
        name => word(name),
    }
}

fn sent(path: &OsStr) -> Result<Receiver, Failure> {
    let shown = escaped(path.as_encoded_bytes());
    let says = |cause: &str| Failure::Failed(format!("{shown}: {cause}"));
    let socket = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => says("there is no such socket"),
        ErrorKind::ConnectionRefused => says("no program listens there"),
        _ => failed(&shown, error),
    })?;

    Receiver::receive(socket).map_err(|error| match (error.kind(), error.raw_os_error()) {
        (ErrorKind::UnexpectedEof, _) => says("the other program has sent nothing"),
        (ErrorKind::InvalidData, _) => says("the other program has sent no file"),
        (_, Some(ENOTTY)) => says("the file that was sent is not an export"),
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
            _ => panic!("fd {fd} was rung"),
        }
    }

    #[test]
    fn a_file_that_is_no_export_is_called_what_it_is() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();

        let fd = file.as_raw_fd();
        assert_eq!(said(fd), format!("fd {fd} is /dev/null, not an export"));
        let fd = socket.as_raw_fd();
        assert_eq!(said(fd), format!("fd {fd} is a socket, not an export"));
        assert_eq!(said(i32::MAX), "fd 2147483647 is not open");
    }
}
