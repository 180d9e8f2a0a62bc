// SPDX-License-Identifier: GPL-2.0

//! The driver's trace events.
//!
//! They are declared in `trace.h`, which says what they record; these functions raise them. An
//! event that is not enabled costs the test of a static key, and nothing without
//! `CONFIG_TRACEPOINTS`. All may be raised in hard interrupt context and under spinlocks.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use crate::{
    bindings as extra,
    kernel_ext::mapping::FaultResult, //
};
use kernel::{
    ffi::c_int,
    prelude::*, //
};

/// Declares the function that raises an event of `trace.h`, with the arguments that it has there.
///
/// As `kernel::tracepoint::declare_trace!`, which looks for events among the kernel crate's own
/// bindings, but safe: none of ours takes a pointer.
macro_rules! declare_trace {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?);)*) => {$(
        fn $name($($arg: $type),*) {
            #[cfg(CONFIG_TRACEPOINTS)]
            kernel::macros::paste! {
                // SAFETY: The key is that of the event, made by `trace.c`.
                let enabled = unsafe {
                    kernel::jump_label::static_branch_unlikely!(
                        extra::[<__tracepoint_ $name>],
                        kernel::bindings::tracepoint,
                        key
                    )
};

                if enabled {
                    // SAFETY: The function has no requirements: it records plain numbers.
                    unsafe { extra::[<rust_do_trace_ $name>]($($arg),*) };
                }
            }

            #[cfg(not(CONFIG_TRACEPOINTS))]
            let _ = ($($arg,)*);
        }
    )*};
}

declare_trace! {
    fn uxive_alloc(context: u64, slot: c_int, lisn: u32, offset: u64, ret: c_int);
    fn uxive_bind(context: u64, slot: c_int, eventfd: bool);
    fn uxive_bypass(context: u64, slot: c_int, lisn: u32, connected: bool);
    fn uxive_fault(context: u64, slot: c_int, offset: u64, result: u32);
    fn uxive_ring(context: u64, slot: c_int, delivery: u32);
    fn uxive_drain(context: u64, entries: u32, more: bool);
    fn uxive_wake(context: u64, eventfd: bool);
    fn uxive_arm(context: u64, armed: bool);
    fn uxive_free(context: u64, slot: c_int, lisn: u32);
    fn uxive_zap(context: u64, slot: c_int, lisn: u32);
    fn uxive_quarantine(context: u64, slot: c_int, lisn: u32, reason: u32);
    fn uxive_quarantine_end(context: u64, slot: c_int, lisn: u32);
    fn uxive_export(context: u64, id: u32, start: u32, count: u32);
    fn uxive_revoke(context: u64, id: u32);
}

/// The outcome of an event.
#[derive(Clone, Copy)]
pub(crate) enum Delivery {
    /// Its eventfd was signalled.
    EventFd = extra::uxive_delivery_UXIVE_DELIVERY_EVENTFD as isize,
    /// Nothing: there is no eventfd.
    Unbound = extra::uxive_delivery_UXIVE_DELIVERY_UNBOUND as isize,
    /// Nothing: its source is switched off.
    Off = extra::uxive_delivery_UXIVE_DELIVERY_OFF as isize,
    /// Nothing: its slot was freed.
    Freed = extra::uxive_delivery_UXIVE_DELIVERY_FREED as isize,
    /// Nothing yet: its slot is masked.
    Masked = extra::uxive_delivery_UXIVE_DELIVERY_MASKED as isize,
    /// Nothing: a guest has its source, and was sent an event for it.
    Guest = extra::uxive_delivery_UXIVE_DELIVERY_GUEST as isize,
}

/// Returns the number of a slot for an event: -1 if there is none.
fn number(slot: Option<usize>) -> c_int {
    slot.map_or(-1, |slot| slot as c_int)
}

/// The program has an interrupt.
pub(crate) fn alloc(context: u64, slot: usize, lisn: u32, offset: u64) {
    uxive_alloc(context, number(Some(slot)), lisn, offset, 0);
}

/// The program could not have one.
pub(crate) fn alloc_failed(context: u64, error: Error) {
    uxive_alloc(context, number(None), 0, 0, error.to_errno());
}

/// An interrupt signals an eventfd from now on, or nothing.
pub(crate) fn bind(context: u64, slot: usize, eventfd: bool) {
    uxive_bind(context, number(Some(slot)), eventfd);
}

/// A guest gets the source of a slot by irq bypass, if it is `connected`, or has it no more.
pub(crate) fn bypass(context: u64, slot: usize, lisn: u32, connected: bool) {
    uxive_bypass(context, number(Some(slot)), lisn, connected);
}

/// A page was touched: one of `slot`, or of none.
pub(crate) fn fault(context: u64, slot: Option<usize>, offset: u64, result: FaultResult) {
    uxive_fault(context, number(slot), offset, result.into_raw());
}

/// The kernel has taken an event from the queue.
pub(crate) fn ring(context: u64, slot: usize, delivery: Delivery) {
    uxive_ring(context, number(Some(slot)), delivery as u32);
}

/// A run of the handler has handled `entries`, and there may be `more`.
pub(crate) fn drain(context: u64, entries: usize, more: bool) {
    uxive_drain(context, entries as u32, more);
}

/// A program that drains its queue is told of events: pollers are woken, and `eventfd` says whether
/// one was signalled.
pub(crate) fn wake(context: u64, eventfd: bool) {
    uxive_wake(context, eventfd);
}

/// A program arms its queue, to be told of the next event; `armed` if it was armed before.
pub(crate) fn arm(context: u64, armed: bool) {
    uxive_arm(context, armed);
}

/// An interrupt is being freed.
pub(crate) fn free(context: u64, slot: usize, lisn: u32) {
    uxive_free(context, number(Some(slot)), lisn);
}

/// No mapping reaches the pages of an interrupt any more.
pub(crate) fn zap(context: u64, slot: usize, lisn: u32) {
    uxive_zap(context, number(Some(slot)), lisn);
}

/// A slot fails to quiesce, and is quarantined.
pub(crate) fn quarantine(context: u64, slot: usize, lisn: u32, reason: u32) {
    uxive_quarantine(context, number(Some(slot)), lisn, reason);
}

/// It has gone quiet.
pub(crate) fn quarantine_end(context: u64, slot: usize, lisn: u32) {
    uxive_quarantine_end(context, number(Some(slot)), lisn);
}

/// A closed context fails to quiesce, and is quarantined.
pub(crate) fn context_quarantine(context: u64, reason: u32) {
    uxive_quarantine(context, number(None), 0, reason);
}

/// It has gone quiet.
pub(crate) fn context_quarantine_end(context: u64) {
    uxive_quarantine_end(context, number(None), 0);
}

/// Others can ring `count` interrupts from slot `start` on.
pub(crate) fn export(context: u64, id: u32, start: usize, count: usize) {
    uxive_export(context, id, start as u32, count as u32);
}

/// They cannot any more.
pub(crate) fn revoke(context: u64, id: u32) {
    uxive_revoke(context, id);
}
