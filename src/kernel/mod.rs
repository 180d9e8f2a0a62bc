// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of kernel interfaces that the `kernel` crate does not have yet.
//!
//! Each is written as a patch to that crate: it knows nothing of the driver, and says first in which
//! file of the crate it would be and what that lacks. The lint `wrappers` looks for both. Together
//! with `xive` and `trace`, this is the only place with `unsafe` code.

use crate::bindings;

pub(crate) mod anon;
pub(crate) mod attribute;
pub(crate) mod bar;
pub(crate) mod bypass;
pub(crate) mod chunks;
pub(crate) mod class;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod cpuhp;
pub(crate) mod debugfs;
pub(crate) mod eventfd;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod global;
pub(crate) mod io;
pub(crate) mod irq;
pub(crate) mod irqdomain;
pub(crate) mod kthread;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod misc;
pub(crate) mod mmio;
pub(crate) mod msi;
pub(crate) mod of;
pub(crate) mod pages;
pub(crate) mod pci;
pub(crate) mod ratelimit;
pub(crate) mod task;
pub(crate) mod user_namespace;
pub(crate) mod work;
