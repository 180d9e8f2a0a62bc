// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Numbers of `misc/uxive.h`, which describes them.

pub(crate) const UXIVE_DRAIN_XIVE: u32 = 0x1;
pub(crate) const UXIVE_ENTRY_GENERATION: u32 = 0x8000_0000;
pub(crate) const UXIVE_ENTRY_NUMBER: u32 = 0x7fff_ffff;
pub(crate) const UXIVE_ESB_SET_PQ_00: usize = 0xc00;
pub(crate) const UXIVE_ESB_Q: u64 = 0x1;
pub(crate) const UXIVE_ALLOC_CHIP: u32 = 0x1;
pub(crate) const UXIVE_ALLOC_NODE: u32 = 0x2;
pub(crate) const UXIVE_ALLOC_AT: u32 = 0x4;
pub(crate) const UXIVE_SET_DATA_NONE: u32 = 0x01;
pub(crate) const UXIVE_SET_DATA_BOOL: u32 = 0x02;
pub(crate) const UXIVE_SET_DATA_EVENTFD: u32 = 0x04;
pub(crate) const UXIVE_SET_MASK: u32 = 0x08;
pub(crate) const UXIVE_SET_UNMASK: u32 = 0x10;
pub(crate) const UXIVE_SET_TRIGGER: u32 = 0x20;
pub(crate) const UXIVE_SET_BYPASS: u32 = 0x40;
pub(crate) const UXIVE_IMS_QUEUE: u32 = 0x1;
pub(crate) const UXIVE_EXPORT_FILE: u32 = 1;
pub(crate) const UXIVE_EVENT_QUARANTINED: u16 = 0x40;
pub(crate) const UXIVE_EVENT_RELEASED: u16 = 0x41;
pub(crate) const UXIVE_EVENT_EXHAUSTED: u16 = 0x42;
pub(crate) const UXIVE_EVENT_DROPPED: u16 = 0x43;
pub(crate) const UXIVE_EVENT_AFU_ERROR: u16 = 0x44;
pub(crate) const UXIVE_EVENT_GONE: u16 = 0x45;
pub(crate) const UXIVE_EVENT_STORM: u16 = 0x46;
