// SPDX-License-Identifier: GPL-2.0

//! The parts that all contexts share: the machine, the limits, the queues, and the registry.

use crate::{
    limits::{
        Limits,
        UserCharge, //
    },
    queue::QueueList,
    registry::Registry,
    xive::Platform, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The parts that all contexts share.
#[pin_data]
pub(crate) struct Device {
    // Dropped first: contexts use the other parts.
    #[pin]
    registry: Registry,
    pub(crate) platform: Arc<Platform>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) queues: QueueList,
}

impl Device {
    /// Finds out what machine this is.
    ///
    /// # Errors
    ///
    /// Those of [`Platform::new`], [`Limits::new`] and [`QueueList::new`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        let platform = Platform::new()?;

        Arc::pin_init(
            try_pin_init!(Self {
                limits: Limits::new()?,
                platform,
                queues: QueueList::new()?,
                registry <- Registry::new(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Returns the charge of the caller, for a context that it opens.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn user(&self) -> Result<Arc<UserCharge>> {
        UserCharge::of_caller(self.limits.clone())
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}
