// SPDX-License-Identifier: GPL-2.0

//! uxive: user-space interrupts for POWER's XIVE.
//!
//! The module and the device `/dev/uxive`. Calls go one way: an ioctl or a fault (`ioctl`) comes
//! to the context of the open file (`context`), which has slots (`slot`), each of which owns an
//! interrupt of the machine (`platform`).

use crate::{
    context::Context,
    kernel_ext::{
        file::{
            FileOperations,
            NewMapping, //
        },
        mapping::{
            Fault,
            FaultResult,
            FileMapping, //
        },
        misc::{
            MiscOptions,
            MiscRegistration, //
        }, //
    },
    quota::Quota, //
};
use kernel::{
    fs::File,
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        poll::PollTable,
        Arc, //
    }, //
};

mod context;
mod ioctl;
#[path = "kernel/mod.rs"]
mod kernel_ext;
mod layout;
mod platform;
mod quota;
mod slot;

module! {
    type: Uxive,
    name: "uxive",
    authors: ["The uxive authors"],
    description: "User-space interrupts for POWER's XIVE",
    license: "GPL",
}

/// The most interrupts that all contexts together can have.
///
/// The Linux interrupts of a CPU share an event queue of one page with 4-byte entries. Each needs
/// room for one event, and past that XIVE loses events without a sign. Half of the room of one
/// CPU is safe however few CPUs are online, and leaves the other half to the rest of the kernel.
const MAX_IRQS_TOTAL: u32 = (PAGE_SIZE / 4 / 2) as u32;

/// The operations of `/dev/uxive`.
struct ContextFile;

#[vtable]
impl FileOperations for ContextFile {
    type Device = Arc<Quota>;
    type Data = Pin<KBox<Context>>;

    fn open(total: &Arc<Quota>, mapping: Arc<FileMapping>) -> Result<Pin<KBox<Context>>> {
        Context::new(mapping, total.clone())
    }

    fn ioctl(context: Pin<&Context>, cmd: u32, arg: usize) -> Result<isize> {
        ioctl::dispatch(&context, cmd, arg)
    }

    // There are no events to read from a context yet, so it never becomes ready.
    fn poll(_context: Pin<&Context>, _file: &File, _table: PollTable<'_>) -> u32 {
        0
    }

    fn mmap(context: Pin<&Context>, area: &NewMapping<'_>) -> Result {
        context.mmap(area)
    }

    fn fault(context: Pin<&Context>, fault: &Fault<'_>) -> FaultResult {
        context.fault(fault)
    }

    fn show_fdinfo(context: Pin<&Context>, m: &SeqFile) {
        context.show(m);
    }
}

#[pin_data]
struct Uxive {
    #[pin]
    _device: MiscRegistration<ContextFile>,
}

impl kernel::InPlaceModule for Uxive {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Not for everyone: a store to a trigger page that is not 8 bytes wide is an error of the
        // machine, which may stop it.
        let options = MiscOptions {
            name: c"uxive",
            nodename: c"uxive",
            mode: 0o600,
        };

        try_pin_init!(Self {
            _: {
                platform::probe().inspect_err(|_| {
                    pr_info!("this machine has no XIVE under OPAL, or it is switched off\n");
                })?;
            },
            _device <- MiscRegistration::new(options, Quota::new(MAX_IRQS_TOTAL)?),
        }? Error)
    }
}
