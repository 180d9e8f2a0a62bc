// SPDX-License-Identifier: GPL-2.0

//! A view inside, for root: `/sys/kernel/debug/uxive/`.
//!
//! One table for each kind of object. A line is made from what is there at that moment, under the
//! locks that this takes, and written after they are released: the tables can be read while all is
//! in use, and a file as a whole is no snapshot.
//!
//! Documented in `Documentation/ABI/testing/debugfs-uxive`.

use crate::{
    device::Device,
    export::ExportView,
    kernel_ext::debugfs::{
        DebugDir,
        Records, //
    },
    layout::Window,
    queue::{
        QueueView,
        RouteState, //
    },
    registry::Registered,
    slot::{
        SlotView,
        SourceView, //
    },
    xive::{
        QuiesceError,
        ReserveView, //
    }, //
};
use kernel::{
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc, //
};

/// The files in debugfs.
pub(crate) struct DebugFiles {
    _dir: DebugDir<Device>,
}

impl DebugFiles {
    /// Makes them.
    pub(crate) fn new(device: &Arc<Device>) -> Self {
        let dir = DebugDir::new(c"uxive", device.clone());

        dir.table::<Contexts>(c"contexts");
        dir.table::<Slots>(c"slots");
        dir.table::<Queues>(c"queues");
        dir.table::<Exports>(c"exports");
        dir.table::<Quarantine>(c"quarantine");
        dir.table::<Reserve>(c"reserve");
        Self { _dir: dir }
    }
}

/// `contexts`: those that are open, and those that are closed and quarantined.
struct Contexts;

#[vtable]
impl Records for Contexts {
    type Source = Device;
    type Record = Registered;

    const HEADING: &'static str = "context pid uid state drain irqs quarantined max-irqs comm";

    fn next(device: &Device, from: u64) -> Option<(u64, Registered)> {
        let context = device.registry().next(from)?;

        Some((context.id(), context))
    }

    fn show(context: &Registered, m: &SeqFile) {
        let opener = context.opener();
        let state = match context {
            Registered::Open(_) => "open",
            Registered::Closing(_) => "closing",
        };
        let drain = match context.queue().map(|queue| queue.is_user_drained()) {
            None => "-",
            Some(false) => "kernel",
            Some(true) => "user",
        };
        let (irqs, quarantined) = context.slots().counts();
        let max_irqs = context.max_irqs();

        seq_print!(
            m,
            "{} {} {} {state} {drain} {irqs} {quarantined} {max_irqs} {}\n",
            context.id(),
            opener.pid,
            opener.uid.into_uid_in_current_ns(),
            opener.name
        );
    }
}

/// A slot, by the number of its context and its index.
struct SlotRecord {
    context: u64,
    index: usize,
    view: SlotView,
    quarantined: Option<QuiesceError>,
}

/// How far the number of a context is shifted in the number of a record, for an index to fit in.
const INDEX_BITS: u32 = 20;

/// The index in the number of a record that stands for what comes after all slots.
const LAST_INDEX: usize = (1 << INDEX_BITS) - 1;

/// Returns the first slot from record number `from` on, or the first that is `quarantined`, and its
/// number.
fn next_slot(device: &Device, from: u64, quarantined: bool) -> Option<(u64, SlotRecord)> {
    let mut context = device.registry().next(from >> INDEX_BITS)?;
    let mut index = match context.id() == from >> INDEX_BITS {
        true => from as usize & LAST_INDEX,
        false => 0,
    };

    loop {
        if let Some((index, view, quarantined)) = context.next_slot(index, quarantined) {
            let record = SlotRecord {
                context: context.id(),
                index,
                view,
                quarantined,
            };
            return Some((context.id() << INDEX_BITS | index as u64, record));
        }
        context = device.registry().next(context.id() + 1)?;
        index = 0;
    }
}

/// `slots`: the interrupts.
struct Slots;

#[vtable]
impl Records for Slots {
    type Source = Device;
    type Record = SlotRecord;

    const HEADING: &'static str =
        "context slot offset lisn chip eisn pq eventfd rings state message message-pq";

    fn next(device: &Device, from: u64) -> Option<(u64, SlotRecord)> {
        next_slot(device, from, false)
    }

    fn show(record: &SlotRecord, m: &SeqFile) {
        let SlotRecord {
            context,
            index,
            view,
            quarantined,
        } = record;
        let state = match (quarantined, &view.route) {
            (Some(_), _) => "quarantined",
            (None, Some(route)) => match route.state {
                RouteState::Live => "live",
                RouteState::Masked => "masked",
                RouteState::Bypass => "bypass",
                RouteState::Guest => "guest",
            },
            (None, None) => "live",
        };

        seq_print!(
            m,
            "{context} {index} {:#x} ",
            Window::TRIGGER.offset(*index).unwrap_or(0)
        );
        match &view.generic {
            None => seq_print!(m, "- - - - "),
            Some(SourceView { lisn, chip, pq }) => {
                seq_print!(m, "{lisn:#x} {chip} {index} {pq:02b} ");
            }
        }
        match &view.route {
            None => seq_print!(m, "- - "),
            Some(route) => {
                let bound = if route.bound { "bound" } else { "none" };
                seq_print!(m, "{bound} {} ", route.rings);
            }
        }
        match &view.message {
            None => seq_print!(m, "{state} - -\n"),
            Some(SourceView { lisn, pq, .. }) => {
                seq_print!(m, "{state} {lisn:#x} {pq:02b}\n");
            }
        }
    }
}

/// `queues`: the event queues.
struct Queues;

#[vtable]
impl Records for Queues {
    type Source = Device;
    type Record = (u64, QueueView);

    const HEADING: &'static str = "context vp drain armed index generation high-water deferred";

    fn next(device: &Device, from: u64) -> Option<(u64, (u64, QueueView))> {
        let mut context = device.registry().next(from)?;

        loop {
            if let Some(queue) = context.queue() {
                return Some((context.id(), (context.id(), queue.view())));
            }
            context = device.registry().next(context.id() + 1)?;
        }
    }

    fn show((context, queue): &(u64, QueueView), m: &SeqFile) {
        let QueueView { vp, armed, kernel } = queue;
        let armed = if *armed { "yes" } else { "no" };

        match kernel {
            None => seq_print!(m, "{context} {vp:#x} user {armed} - - - -\n"),
            Some(drain) => {
                seq_print!(m, "{context} {vp:#x} kernel {armed} {} ", drain.index);
                seq_print!(m, "{} {} ", drain.generation, drain.high_water);
                seq_print!(m, "{}\n", drain.deferred);
            }
        }
    }
}

/// `exports`: the files by which others ring interrupts.
struct Exports;

/// How far the number of a context is shifted in the number of a record, for that of an export to fit
/// in. Of contexts after the first 2^31 none is listed, since a file has no position for them.
const EXPORT_BITS: u32 = u32::BITS;

#[vtable]
impl Records for Exports {
    type Source = Device;
    type Record = (u64, ExportView);

    const HEADING: &'static str = "context id start count";

    fn next(device: &Device, from: u64) -> Option<(u64, (u64, ExportView))> {
        let mut context = device.registry().next(from >> EXPORT_BITS)?;
        let mut id = match context.id() == from >> EXPORT_BITS {
            true => from as u32,
            false => 0,
        };

        loop {
            if context.id() >> (EXPORT_BITS - 1) != 0 {
                return None;
            }
            if let Some(export) = context.exports().next(id) {
                let number = context.id() << EXPORT_BITS | u64::from(export.id);
                return Some((number, (context.id(), export)));
            }
            context = device.registry().next(context.id() + 1)?;
            id = 0;
        }
    }

    fn show((context, export): &(u64, ExportView), m: &SeqFile) {
        let ExportView { id, start, count } = export;

        seq_print!(m, "{context} {id} {start} {count}\n");
    }
}

/// `quarantine`: slots, queues and contexts that fail to quiesce.
struct Quarantine;

/// Something in quarantine.
enum Quarantined {
    Slot(SlotRecord),
    /// The event queue of a context, if it has one, or all of it.
    Context(u64, Option<QueueView>, QuiesceError),
}

#[vtable]
impl Records for Quarantine {
    type Source = Device;
    type Record = Quarantined;

    const HEADING: &'static str = "context slot lisn vp reason";

    fn next(device: &Device, from: u64) -> Option<(u64, Quarantined)> {
        let slot = next_slot(device, from, true);
        let context = next_context(device, from);

        // In the order of their numbers.
        match (slot, context) {
            (Some((at, slot)), Some((behind, _))) if at < behind => {
                Some((at, Quarantined::Slot(slot)))
            }
            (_, Some((at, context))) => Some((at, context)),
            (slot, None) => slot.map(|(at, slot)| (at, Quarantined::Slot(slot))),
        }
    }

    fn show(record: &Quarantined, m: &SeqFile) {
        match record {
            Quarantined::Slot(slot) => {
                let SlotRecord { context, index, .. } = slot;
                let lisn = slot.view.generic.as_ref().or(slot.view.message.as_ref());
                let lisn = lisn.map_or(0, |source| source.lisn);
                seq_print!(m, "{context} {index} {lisn:#x} - ");
                if let Some(reason) = slot.quarantined {
                    seq_print!(m, "{reason}");
                }
                seq_print!(m, "\n");
            }
            Quarantined::Context(context, queue, reason) => {
                match queue {
                    None => seq_print!(m, "{context} - - - "),
                    Some(queue) => seq_print!(m, "{context} - - {:#x} ", queue.vp),
                }
                seq_print!(m, "{reason}\n");
            }
        }
    }
}

/// Returns the first context from record number `from` on that is quarantined for more than slots,
/// and its number.
fn next_context(device: &Device, from: u64) -> Option<(u64, Quarantined)> {
    let mut context = device.registry().next(from >> INDEX_BITS)?;

    loop {
        let id = context.id();
        let reason = match (&context, context.slots().counts()) {
            (Registered::Open(_), _) | (_, (_, 1..)) => None,
            _ if context.afu().is_some_and(|place| place.is_attached()) => Some(QuiesceError::Afu),
            _ => context.queue().map(|_| QuiesceError::Escalation),
        };
        if let Some(reason) = reason {
            let queue = context.queue().map(|queue| queue.view());
            let number = id << INDEX_BITS | LAST_INDEX as u64;
            return Some((number, Quarantined::Context(id, queue, reason)));
        }
        context = device.registry().next(id + 1)?;
    }
}

/// `reserve`: the LISNs that are kept for new interrupts.
struct Reserve;

#[vtable]
impl Records for Reserve {
    type Source = Device;
    type Record = ReserveView;

    const HEADING: &'static str = "chip spare";

    fn next(device: &Device, from: u64) -> Option<(u64, ReserveView)> {
        Some((from, device.platform.reserve(from as usize)?))
    }

    fn show(reserve: &ReserveView, m: &SeqFile) {
        seq_print!(m, "{} {}\n", reserve.chip.as_u32(), reserve.spares);
    }
}
