// SPDX-License-Identifier: GPL-2.0

//! uxive: user-space interrupts for POWER's XIVE.
//!
//! The module, the device `/dev/uxive` and the driver of AFUs. Calls go one way: an ioctl (`ioctl`), a
//! fault or a read comes to the context of the open file (`context`). What that has is its estate
//! (`estate`): an event queue (`queue`), slots (`slot`), each of which owns an interrupt of the machine
//! (`xive`), a place in an AFU if it is of one (`afu`), what there is to tell the program
//! (`events`), and files by which others ring its interrupts (`export`). All are in the registry
//! (`registry`), which keeps what hardware does not let go of, and charged to their user (`quota`);
//! root sees them (`debug`).

use crate::{
    afu::{
        AfuDriver,
        AfuNode, //
    },
    context::{
        Context,
        Shared, //
    },
    estate::ContextKind,
    kernel_ext::{
        attribute::Attribute,
        fault::FaultControl,
        file::{
            AccessMode,
            FileOperations,
            NewMapping,
            PollEvents, //
        },
        mapping::{
            Fault,
            FaultResult,
            FileMapping, //
        },
        misc::{
            MiscOptions,
            MiscRegistration, //
        },
        pci, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    fs::File,
    iov::IovIterDest,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        poll::PollTable,
        Arc, //
    }, //
};

mod afu;
mod argument;
mod context;
mod debug;
mod estate;
mod events;
mod export;
mod ioctl;
#[path = "kernel/mod.rs"]
mod kernel_ext;
mod layout;
mod queue;
mod quota;
mod registry;
mod slot;
mod tally;
mod trace;
mod uapi;
mod xive;

module! {
    type: Uxive,
    name: "uxive",
    authors: ["The uxive authors"],
    description: "User-space interrupts for POWER's XIVE",
    license: "GPL",
}

/// A device whose files are contexts.
trait ContextDevice: Send + Sync + 'static {
    /// Whether it can be gone while files are open.
    const MAY_GO: bool;

    /// Makes the context of a file that is being opened, whose mapping is `mapping`.
    fn open(&self, mapping: Arc<FileMapping>) -> Result<Pin<KBox<Context>>>;
}

impl ContextDevice for Arc<Shared> {
    const MAY_GO: bool = false;

    fn open(&self, mapping: Arc<FileMapping>) -> Result<Pin<KBox<Context>>> {
        Context::new(mapping, self.clone(), ContextKind::Open, None)
    }
}

impl ContextDevice for Arc<AfuNode> {
    const MAY_GO: bool = true;

    fn open(&self, mapping: Arc<FileMapping>) -> Result<Pin<KBox<Context>>> {
        let shared = afu::shared::get().ok_or(ENODEV)?;

        Context::new(mapping, shared, ContextKind::Open, Some(&self.afu()))
    }
}

/// The operations of the files of a device: `/dev/uxive`, or that of an AFU.
struct ContextFile<D>(PhantomData<D>);

#[vtable]
impl<D: ContextDevice> FileOperations for ContextFile<D> {
    type Device = D;
    type Data = Pin<KBox<Context>>;

    fn open(device: &D, mapping: Arc<FileMapping>) -> Result<Pin<KBox<Context>>> {
        device.open(mapping)
    }

    #[inline]
    fn ioctl(context: Pin<&Context>, access: AccessMode, cmd: u32, arg: usize) -> Result<isize> {
        if D::MAY_GO && context.is_gone() {
            return Err(ENODEV);
        }
        ioctl::dispatch(&context, access, cmd, arg)
    }

    fn read(context: Pin<&Context>, to: &mut IovIterDest<'_>, may_wait: bool) -> Result<usize> {
        context.read(to, may_wait)
    }

    fn poll(context: Pin<&Context>, file: &File, table: PollTable<'_>) -> PollEvents {
        context.poll(file, &table)
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

/// Files of `/dev/uxive`, and ranges.
type DeviceFile = ContextFile<Arc<Shared>>;

/// The limits, and what is in use of them.
static ATTRIBUTES: [Attribute<DeviceFile>; 9] = [
    Attribute::writable(
        c"max_irqs_per_context",
        |shared: &Arc<Shared>| shared.quota.max_irqs_per_context(),
        |shared: &Arc<Shared>, limit| shared.quota.set_max_irqs_per_context(limit),
    ),
    Attribute::writable(
        c"max_irqs_per_user",
        |shared: &Arc<Shared>| shared.platform.max_sources().user,
        |shared: &Arc<Shared>, limit| shared.platform.set_max_sources(|max| &mut max.user, limit),
    ),
    Attribute::writable(
        c"max_irqs",
        |shared: &Arc<Shared>| shared.platform.max_sources().total,
        |shared: &Arc<Shared>, limit| shared.platform.set_max_sources(|max| &mut max.total, limit),
    ),
    Attribute::writable(
        c"max_queues_per_user",
        |shared: &Arc<Shared>| shared.quota.max_queues().user,
        |shared: &Arc<Shared>, limit| shared.quota.set_max_queues(|max| &mut max.user, limit),
    ),
    Attribute::writable(
        c"max_queues",
        |shared: &Arc<Shared>| shared.quota.max_queues().total,
        |shared: &Arc<Shared>, limit| shared.quota.set_max_queues(|max| &mut max.total, limit),
    ),
    Attribute::writable(
        c"max_exports_per_user",
        |shared: &Arc<Shared>| shared.quota.max_exports().user,
        |shared: &Arc<Shared>, limit| shared.quota.set_max_exports(|max| &mut max.user, limit),
    ),
    Attribute::writable(
        c"max_exports",
        |shared: &Arc<Shared>| shared.quota.max_exports().total,
        |shared: &Arc<Shared>, limit| shared.quota.set_max_exports(|max| &mut max.total, limit),
    ),
    Attribute::read_only(c"irqs", |shared: &Arc<Shared>| {
        shared.platform.sources_in_use()
    }),
    Attribute::read_only(c"queues", |shared: &Arc<Shared>| shared.quota.queues()),
];

#[pin_data]
struct Uxive {
    // Unbound first, from all that are AFUs.
    #[pin]
    afus: pci::Registration<AfuDriver>,
    shared: afu::shared::Guard,
    _debug: debug::DebugFiles,
    #[pin]
    device: MiscRegistration<DeviceFile>,
    _faults: FaultControl,
}

impl kernel::InPlaceModule for Uxive {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Not for everyone: a store to a trigger page that is not 8 bytes wide is an error of the
        // machine, which may stop it.
        let options = MiscOptions {
            name: c"uxive",
            nodename: c"uxive",
            mode: 0o600,
        };

        try_pin_init!(Self {
            // First, since what follows can be made to fail.
            _faults: FaultControl::new(c"fail_uxive"),
            shared: afu::shared::guard()?,
            // Binds no function as long as there is nothing shared.
            afus <- pci::Registration::new(module),
            // The last that can fail. Who opens a node uses the module, which goes if loading fails.
            device <- MiscRegistration::new(options, &ATTRIBUTES, Shared::new()?),
            _debug: debug::DebugFiles::new(device.device()),
            _: {
                shared.set(device.device().clone());
                afus.attach();
            },
        }? Error)
    }
}
