// SPDX-License-Identifier: GPL-2.0

//! Doorbells that travel: files by which others ring some interrupts of a context, and do nothing else.
//!
//! A program exports interrupts, and hands the file to other programs. The file is an
//! [`ExportFile`]. It refers to the [`Export`], as does the [table](Exports) of the context's
//! exports. Until the export is ended it has an [`Owner`]: a [`View`] of the trigger pages, and the
//! slots that they belong to. Dropping the view withdraws all pages from all mappings of the file
//! at once.
//!
//! A slot that is freed leaves the view with its page. The next slot with its index is not shown,
//! nor the next one with its LISN.
//!
//! An export ends when it is revoked, when its file is gone, or with its context. If the file is
//! left, it rings nothing, and keeps neither the context nor its account. A program that polls the
//! file gets a hang-up: when the export ends, and when the AFU is gone, although the export is
//! there until the owner closes its context.
//!
//! # Locks
//!
//! [`Export::owner`] guards the owner: see `file.rs`. The owner is not dropped under it, as it may have
//! the last reference to the slots. Under [`Export::ending`] the owner is taken out, and its pages are
//! withdrawn. [`Exports::table`] guards which exports there are; no lock is taken under it, and no
//! export is dropped.
//!
//! A poll first enters the pollers of the file, then looks whether the export has ended. It is woken
//! when all pages are withdrawn, or when the mapping that the view shows is closed; no lock is held
//! for that.

use crate::{
    argument::Argument,
    command,
    kernel_ext::{
        fault::injectable,
        file::{
            AccessMode,
            FileOperations,
            NewMapping,
            PollEvents, //
        },
        mapping::{
            Fault,
            FaultResult,
            FileMapping,
            View, //
        }, //
    },
    layout::Window,
    limits::Charge,
    queue::{
        Lending,
        Queue, //
    },
    slot::{
        ContextSlots,
        Slot, //
    },
    trace,
    uapi::{
        uxive_export_info,
        UXIVE_EXPORT_FILE,
        UXIVE_IOC_EXPORT_INFO, //
    }, //
};
use core::ops::Range;
use kernel::{
    fs::File,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollTable,
        Arc,
        Mutex, //
    },
    uaccess::UserPtr, //
};

/// The most mappings that the file of an export may have. Receivers make them, and withdrawing a page
/// takes the owner about 1,000 instructions for each.
const MAX_MAPPINGS: usize = 128;

/// The trigger pages that an export shows: those of consecutive slots.
#[derive(Clone, Copy)]
pub(crate) struct ExportRange {
    start: usize,
    count: usize,
    /// Where they are in the file.
    window: Window,
}

impl ExportRange {
    /// Makes the part of `count` slots from `start` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none of them, or a context cannot have them all.
    pub(crate) fn new(start: usize, count: usize) -> Result<Self> {
        let last = (start.checked_add(count))
            .and_then(|end| end.checked_sub(1))
            .ok_or(EINVAL)?;
        if count == 0 || Window::TRIGGER.offset(last).is_none() {
            return Err(EINVAL);
        }

        Ok(Self {
            start,
            count,
            window: Window::of_doorbells(count).ok_or(EINVAL)?,
        })
    }

    fn slots(&self) -> Range<usize> {
        self.start..self.start + self.count
    }
}

/// The owner of the interrupts that an export rings.
struct Owner {
    view: View,
    lending: Lending,
    slots: Arc<ContextSlots>,
    exports: Arc<Exports>,
    range: Range<usize>,
    /// All slots are freed next.
    ends_with_context: bool,
    _charge: Charge,
}

impl Owner {
    /// Shows all slots, whose events are counted from now on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if not all of them are interrupts that are rung by a store.
    fn lend(&self) -> Result {
        // One that is freed before all are shown is shown no more: the view knows already.
        self.slots.for_each(self.range.clone(), |index, slot| {
            slot.ok_or(EINVAL)?.show_trigger(&self.view)?;
            self.lending.add(index);
            Ok(())
        })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A slot that has come since, in the place of one that was freed, is not shown.
        let take_back = |index, slot: Option<&Slot>| {
            if slot.is_some_and(|slot| slot.is_shown_in(&self.view)) {
                self.lending.remove(index);
            }
            Ok(())
        };

        if !self.ends_with_context {
            // Does not fail, as the function does not.
            let _ = self.slots.for_each(self.range.clone(), take_back);
        }
    }
}

/// The parts of a context whose interrupts are exported.
pub(crate) struct Lender<'a> {
    pub(crate) exports: &'a Arc<Exports>,
    pub(crate) slots: &'a Arc<ContextSlots>,
    pub(crate) queue: &'a Arc<Queue>,
    /// Where the pages are.
    pub(crate) host: &'a Arc<FileMapping>,
}

/// Interrupts of a context that others can ring.
#[pin_data]
pub(crate) struct Export {
    id: u32,
    range: ExportRange,
    /// Until the export is ended.
    #[pin]
    owner: Mutex<Option<Owner>>,
    #[pin]
    ending: Mutex<()>,
    /// Its pages are withdrawn.
    has_ended: Atomic<bool>,
    /// That of its file.
    mapping: Arc<FileMapping>,
}

impl Export {
    /// Ends it: when this returns no mapping of its file reaches an interrupt. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is ended.
    pub(crate) fn end(&self) -> Result {
        let owner = self.withdraw()?;
        let exports = owner.exports.clone();

        // Not under the lock: it may have the last reference to the slots.
        drop(owner);
        // Only now: an export that is not in the table rings nothing.
        drop(exports.remove(self.id));
        Ok(())
    }

    /// As [`Self::end`], when all others of the context end, too, and all slots will be freed.
    fn end_with_context(&self) -> Result {
        self.withdraw()?.ends_with_context = true;
        Ok(())
    }

    /// Withdraws all pages, and takes out the owner.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is ended.
    fn withdraw(&self) -> Result<Owner> {
        let owner = {
            // A second caller does not return before all pages are withdrawn. A fault does not wait for
            // that.
            let _ending = self.ending.lock();
            let mut owner = self.owner.lock().take().ok_or(ENOENT)?;

            owner.view.withdraw();
            owner
        };

        self.has_ended.store(true, Relaxed);
        self.mapping.pollers().notify_all();
        trace::revoke(owner.exports.context, self.id);
        Ok(owner)
    }

    /// Returns [`PollEvents::HANG_UP`] when it is ended: no page can be reached any more, and none will;
    /// or when the mapping that it shows is closed, as the AFU is gone. Wakes pollers of `file`
    /// then.
    fn poll(&self, file: &File, table: &PollTable<'_>) -> PollEvents {
        // Before looking, or an end in between would wake nobody.
        table.register_wait(file, self.mapping.pollers());

        match &*self.owner.lock() {
            Some(Owner { view, .. }) if view.is_closed() => PollEvents::HANG_UP,
            None if self.has_ended.load(Relaxed) => PollEvents::HANG_UP,
            _ => PollEvents::NONE,
        }
    }

    /// Places the page that was touched, and those around it.
    fn insert(&self, fault: &Fault<'_>) -> FaultResult {
        let owner = self.owner.lock();
        let Some(Owner {
            view,
            slots,
            exports,
            ..
        }) = &*owner
        else {
            return FaultResult::SIGBUS;
        };
        let ExportRange { start, window, .. } = self.range;
        let slots = slots.lock();
        let insert = |index: usize| match (slots.get(start + index), window.offset(index)) {
            (Some(slot), Some(offset)) => slot.insert_in_view(view, fault, offset),
            _ => FaultResult::SIGBUS,
        };

        let Some(index) = window.index(fault.offset()) else {
            return FaultResult::SIGBUS;
        };
        // Not all that came in one call: the owner's revoke waits for this, and any program that
        // has the file can fault.
        for neighbour in window.around(index, index..index + 1, fault.covered()) {
            if insert(neighbour).is_oom() {
                break;
            }
        }
        let result = insert(index);
        let slot = start + index;
        let offset = Window::TRIGGER.offset(slot).unwrap_or(0);
        trace::fault(exports.context, Some(slot), offset, result);
        result
    }
}

/// The exports of a context that are not ended.
#[pin_data]
pub(crate) struct Exports {
    /// The number of the context.
    context: u64,
    /// See the head of this file.
    #[pin]
    table: Mutex<Table>,
}

struct Table {
    by_id: RBTree<u32, Arc<Export>>,
    last_id: u32,
}

/// The state of an export.
pub(crate) struct ExportView {
    pub(crate) id: u32,
    /// The first slot.
    pub(crate) start: usize,
    pub(crate) count: usize,
}

impl Exports {
    /// Makes the table of `context`, without any.
    pub(crate) fn new(context: u64) -> impl PinInit<Self> {
        let table = Table {
            by_id: RBTree::new(),
            last_id: 0,
        };

        pin_init!(Self {
            context,
            table <- new_mutex!(table, "uxive_exports"),
        })
    }

    /// Returns a number that none has had, and is not 0.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if all have been used.
    fn next_id(&self) -> Result<u32> {
        let last_id = &mut self.table.lock().last_id;

        *last_id = injectable!(
            uxive_number_export,
            ENOSPC,
            last_id.checked_add(1).ok_or(ENOSPC)
        )?;
        Ok(*last_id)
    }

    /// Returns the export `id`.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<Export>> {
        self.table.lock().by_id.get(&id).cloned()
    }

    /// Takes out the export `id`.
    fn remove(&self, id: u32) -> Option<Arc<Export>> {
        let node = self.table.lock().by_id.remove_node(&id)?;

        Some(node.to_key_value().1)
    }

    /// Returns the state of the first export from number `id` on.
    pub(crate) fn next(&self, id: u32) -> Option<ExportView> {
        let table = self.table.lock();
        let cursor = table.by_id.cursor_lower_bound(&id)?;
        let (&id, export) = cursor.current();
        let ExportRange { start, count, .. } = export.range;

        Some(ExportView { id, start, count })
    }

    /// Ends all of them. No other comes, since the context is closed. May sleep.
    pub(crate) fn end_all(&self) {
        while let Some(ExportView { id, .. }) = self.next(0) {
            if let Some(export) = self.remove(id) {
                // Fails if its file is closed at this moment, which ends it.
                let _ = export.end_with_context();
            }
        }
    }

    /// Lists them in `/proc/<pid>/fdinfo/<fd>` of the context.
    pub(crate) fn show(&self, m: &SeqFile) {
        let mut from = 0;

        // One by one: closing the file of an export waits for the lock.
        while let Some(ExportView { id, start, count }) = self.next(from) {
            seq_print!(m, "uxive-export:\tid:{id} start:{start} count:{count}\n");
            let Some(next) = id.checked_add(1) else {
                break;
            };
            from = next;
        }
    }
}

/// The data of the file of an export. Dropping it ends the export.
pub(crate) struct ExportFile(Arc<Export>);

impl ExportFile {
    /// Exports `range` of the slots of `lender` to the file whose mapping is `mapping`. Together they come
    /// no more often than `max_rate` in a second, or than root allows.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if not all of them are interrupts that are rung by a store.
    /// - `ENOSPC` if there is no number left for it, `ENOMEM` if there is no memory.
    /// - `ENODEV` if the mapping of the lender is closed.
    pub(crate) fn new(
        lender: &Lender<'_>,
        mapping: Arc<FileMapping>,
        range: ExportRange,
        max_rate: u32,
        charge: Charge,
    ) -> Result<Self> {
        let &Lender {
            exports,
            slots,
            queue,
            host,
        } = lender;
        let ExportRange { start, window, .. } = range;
        let first = Window::TRIGGER.offset(start).ok_or(EINVAL)?;
        let view = View::new(
            host.clone(),
            mapping.clone(),
            first..first + window.len(),
            window.stride(),
        )?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let id = exports.next_id()?;
        let root_rate = charge.user().limits().max_export_rate().clone();
        let owner = Owner {
            view,
            lending: queue.lend(id, range.slots(), root_rate, max_rate)?,
            slots: slots.clone(),
            exports: exports.clone(),
            range: range.slots(),
            ends_with_context: false,
            _charge: charge,
        };
        owner.lend()?;
        let export = Arc::pin_init(
            pin_init!(Export {
                id,
                range,
                owner <- new_mutex!(Some(owner), "uxive_export"),
                ending <- new_mutex!((), "uxive_export_end"),
                has_ended: Atomic::new(false),
                mapping,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;

        let table = &mut *exports.table.lock();
        table.by_id.insert(node.into_node(id, export.clone()));
        Ok(Self(export))
    }

    /// Returns the number of the export. No other of its context has had it, and it is not 0.
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }
}

impl Drop for ExportFile {
    fn drop(&mut self) {
        // Fails if it was ended before.
        let _ = self.0.end();
    }
}

/// The operations of the file of an export: it can be mapped, and tells what it is and of the end.
pub(crate) struct ExportOperations;

#[vtable]
impl FileOperations for ExportOperations {
    type Data = ExportFile;

    const MAX_MAPPINGS: Option<usize> = Some(MAX_MAPPINGS);

    fn ioctl(this: Pin<&ExportFile>, access: AccessMode, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != UXIVE_IOC_EXPORT_INFO {
            return Err(ENOTTY);
        }
        let mut buffer = [0; command::MAX_SIZE];
        let argument = Argument::read(UserPtr::from_addr(arg), &mut buffer)?;
        command::structure::<uxive_export_info>(argument.bytes())?;
        let ExportRange { count, window, .. } = this.0.range;

        argument.write(uxive_export_info {
            size: argument.size(),
            flags: 0,
            kind: UXIVE_EXPORT_FILE,
            mode: access.as_flags(),
            count: count as u32,
            page_size: PAGE_SIZE as u32,
            stride: window.stride(),
        })?;
        Ok(0)
    }

    fn poll(this: Pin<&ExportFile>, file: &File, table: PollTable<'_>) -> PollEvents {
        this.0.poll(file, &table)
    }

    fn mmap(this: Pin<&ExportFile>, area: &NewMapping<'_>) -> Result {
        let end = area.offset().checked_add(area.len()).ok_or(EINVAL)?;
        if end > this.0.range.window.len() {
            return Err(EINVAL);
        }
        area.require_write_only()
    }

    fn fault(this: Pin<&ExportFile>, fault: &Fault<'_>) -> FaultResult {
        this.0.insert(fault)
    }
}
