// SPDX-License-Identifier: GPL-2.0

//! A model of an accelerator (AFU), on the host side of the socket of QEMU's `ivshmem-doorbell`: a
//! copy engine in the manner of IBM's MEMCPY3, which can be told to misbehave.
//!
//! ```text
//!     afu-model SOCKET [--contexts C] [--slots S]
//!     qemu-system-ppc64 … -chardev socket,id=afu,path=SOCKET
//!             -device ivshmem-doorbell,vectors=C * S + 1,chardev=afu
//! ```
//!
//! It prints `ready` when the machine may be started, serves that one machine, and ends with it.
//! `layout` has the layout of the memory that the machine sees, `server` passes that memory to it,
//! `engine` does the work of the AFU, `misbehave` its faults. `include/afu_model.h` is the
//! interface for programs in C.

mod engine;
mod layout;
mod misbehave;
mod server;
mod sys;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io,
    os::unix::net::UnixListener,
    process::ExitCode, //
};

use crate::{
    engine::Engine,
    layout::Layout,
    server::{
        End,
        Machine, //
    },
    sys::Memory, //
};

/// Files that the model has open beside the vectors' eventfds: a handful, rounded up.
const OTHER_FILES: u64 = 32;

struct Options {
    socket: String,
    layout: Layout,
}

fn options(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut arguments = arguments.into_iter();
    let (mut socket, mut contexts, mut slots) = (None, 32, 63);

    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--contexts" => &mut contexts,
            "--slots" => &mut slots,
            _ if socket.is_none() && !argument.starts_with('-') => {
                socket = Some(argument);
                continue;
            }
            _ => return Err(format!("what is {argument}?")),
        };
        *number = arguments
            .next()
            .and_then(|text| text.parse().ok())
            .ok_or(format!("{argument} needs a number"))?;
    }
    Ok(Options {
        socket: socket.ok_or("usage: afu-model SOCKET [--contexts C] [--slots S]")?,
        layout: Layout::new(contexts, slots)?,
    })
}

/// Serves one machine until it is gone.
fn serve(listener: &UnixListener, layout: Layout) -> io::Result<()> {
    let memory = Memory::new(layout.size())?;

    memory.write(0, &layout.descriptor());
    match Machine::accept(listener, &memory, layout.vectors()) {
        Ok(machine) => Engine::new(layout, memory, machine).run(),
        Err(End::Gone) => Ok(()),
        Err(End::Failed(error)) => Err(error),
    }
}

fn run(options: &Options) -> Result<(), String> {
    let limit = sys::raise_file_limit().map_err(|error| error.to_string())?;
    let needed = options.layout.vectors() as u64 + OTHER_FILES;

    if limit < needed {
        return Err(format!("{needed} files to open, but the limit is {limit}"));
    }
    let listener = UnixListener::bind(&options.socket)
        .map_err(|error| format!("{}: {error}", options.socket))?;
    println!("ready");
    let served = serve(&listener, options.layout);
    // The socket has no more use. Another process may have removed it.
    let _ = fs::remove_file(&options.socket);
    served.map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("afu-model: {error}");
            ExitCode::FAILURE
        }
    }
}
