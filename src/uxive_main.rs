// SPDX-License-Identifier: GPL-2.0

//! uxive: user-space interrupts for POWER's XIVE.
//!
//! The module and the device `/dev/uxive`. Calls go one way, and so do the arrows between the
//! rooms: no room imports one above it in this table. The lint `arrows` compares the table with the
//! code.
//!
//! | room | | imports |
//! |---|---|---|
//! | `driver` | the driver of AFUs, and their nodes | operations, file, device, context, afu, limits, events |
//! | `operations` | file operations of contexts | ioctl, file, device, context, layout, argument, command |
//! | `ioctl` | from bytes of a program to one call | alloc, file, limits, layout, argument, command |
//! | `debug` | debugfs | device, registry, export, slot, queue, layout |
//! | `alloc` | making interrupts, and freeing them | file, slot, afu, queue, limits, layout |
//! | `file` | an open file: binding, mappings, user drain | device, context, export, slot, afu, queue, limits, events, layout |
//! | `device` | what all contexts share | registry, queue, limits |
//! | `registry` | contexts, open or quarantined | context, afu, limits |
//! | `context` | what a context owns, and its end | bypass, export, slot, afu, queue, limits, events, layout |
//! | `export` | pages lent to others, and their revocation | slot, queue, limits, layout, argument, command |
//! | `slot` | an interrupt and its pages | afu, queue, limits, layout, slots |
//! | `afu` | an AFU, and the contexts that it works for | bypass, limits, events |
//! | `bypass` | interrupts that guests can be given | queue, limits |
//! | `queue` | the event queue, and its drain | limits, events, layout |
//! | `limits` | what users are charged for, and may have | counter, layout |
//! | `events` | what there is to tell a program |  |
//! | `argument` | an argument in the program's memory | command |
//! | `command` | what its bytes say | layout |
//! | `counter` | counting up to limits |  |
//! | `layout` | offsets in a file |  |
//! | `slots` | the table of slots | indices |
//! | `indices` | which of them are in use |  |
//!
//! All rooms may import `bindings`, `kernel_ext`, `trace`, `uapi` and `xive`, and each of these those
//! before it. Raw bindings are for `kernel_ext`, `trace` and `xive` alone: the first has the safe
//! wrappers that the kernel crate lacks, the last is what names OPAL and XIVE.

use crate::{
    device::Device,
    driver::AfuDriver,
    kernel_ext::{
        attribute::Attribute,
        misc::{
            MiscOptions,
            MiscRegistration, //
        },
        pci, //
    },
    limits::LimitKind,
    operations::DeviceOperations, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

mod afu;
mod alloc;
mod argument;
mod bindings;
mod bypass;
mod command;
mod context;
mod counter;
mod debug;
mod device;
mod driver;
mod events;
mod export;
mod file;
mod indices;
mod ioctl;
#[path = "kernel/mod.rs"]
mod kernel_ext;
mod layout;
mod limits;
mod operations;
mod queue;
mod registry;
mod slot;
mod slots;
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

/// The limits, and what is in use of them.
static ATTRIBUTES: [Attribute<DeviceOperations>; 17] = [
    Attribute::writable(
        c"max_irqs_per_context",
        |device: &Arc<Device>| device.limits.max_irqs_per_context(),
        |device: &Arc<Device>, limit| device.limits.set_max_irqs_per_context(limit),
    ),
    Attribute::writable(
        c"max_irqs_per_user",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Irq).user(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Irq).set_user(limit),
    ),
    Attribute::writable(
        c"max_irqs",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Irq).total(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Irq).set_total(limit),
    ),
    Attribute::writable(
        c"max_queues_per_user",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Queue).user(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Queue).set_user(limit),
    ),
    Attribute::writable(
        c"max_queues",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Queue).total(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Queue).set_total(limit),
    ),
    Attribute::writable(
        c"max_queue_bytes_per_user",
        |device: &Arc<Device>| device.limits.counter(LimitKind::QueueMemory).user(),
        |device: &Arc<Device>, limit| {
            device
                .limits
                .counter(LimitKind::QueueMemory)
                .set_user(limit)
        },
    ),
    Attribute::writable(
        c"max_queue_bytes",
        |device: &Arc<Device>| device.limits.counter(LimitKind::QueueMemory).total(),
        |device: &Arc<Device>, limit| {
            device
                .limits
                .counter(LimitKind::QueueMemory)
                .set_total(limit)
        },
    ),
    Attribute::writable(
        c"max_exports_per_user",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Export).user(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Export).set_user(limit),
    ),
    Attribute::writable(
        c"max_exports",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Export).total(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Export).set_total(limit),
    ),
    Attribute::writable(
        c"max_export_rate",
        |device: &Arc<Device>| device.limits.max_export_rate().get() as usize,
        |device: &Arc<Device>, rate| device.limits.max_export_rate().set(rate),
    ),
    Attribute::writable(
        c"bypass",
        |device: &Arc<Device>| device.limits.has_bypass().into(),
        |device: &Arc<Device>, on| device.limits.set_bypass(on),
    ),
    Attribute::writable(
        c"max_bypasses_per_user",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Bypass).user(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Bypass).set_user(limit),
    ),
    Attribute::writable(
        c"max_bypasses",
        |device: &Arc<Device>| device.limits.counter(LimitKind::Bypass).total(),
        |device: &Arc<Device>, limit| device.limits.counter(LimitKind::Bypass).set_total(limit),
    ),
    Attribute::read_only(c"bypasses", |device: &Arc<Device>| {
        device.limits.counter(LimitKind::Bypass).in_use()
    }),
    Attribute::read_only(c"irqs", |device: &Arc<Device>| {
        device.limits.counter(LimitKind::Irq).in_use()
    }),
    Attribute::read_only(c"queues", |device: &Arc<Device>| {
        device.limits.counter(LimitKind::Queue).in_use()
    }),
    Attribute::read_only(c"queue_bytes", |device: &Arc<Device>| {
        device.limits.counter(LimitKind::QueueMemory).in_use()
    }),
];

#[pin_data]
struct Uxive {
    // Unbound first, from all that are AFUs.
    #[pin]
    afus: pci::Registration<AfuDriver>,
    shared: driver::shared::Guard,
    functions: Arc<driver::Shared>,
    _debug: debug::DebugFiles,
    #[pin]
    device: MiscRegistration<DeviceOperations>,
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
            shared: driver::shared::guard()?,
            functions: driver::Shared::new(Device::new()?)?,
            // Binds no function as long as there is nothing shared.
            afus <- pci::Registration::new(module),
            // The last step that can fail: an open uses the module, which goes if loading fails.
            device <- MiscRegistration::new(options, &ATTRIBUTES, functions.device().clone()),
            _debug: debug::DebugFiles::new(device.device()),
            _: {
                shared.set(functions.clone());
                afus.attach();
            },
        }? Error)
    }
}
