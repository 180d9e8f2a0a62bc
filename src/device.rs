// SPDX-License-Identifier: GPL-2.0

//! What all contexts share: the machine, the limits, the queues, and which contexts there are.

use crate::{
    queue::QueueList,
    quota::Quota,
    registry::Registry,
    xive::Platform, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What all contexts share.
#[pin_data]
pub(crate) struct Device {
    // Gone before what the contexts were made with.
    #[pin]
    registry: Registry,
    pub(crate) platform: Arc<Platform>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) queues: QueueList,
}

impl Device {
    /// Finds out what machine this is.
    ///
    /// # Errors
    ///
    /// Those of [`Platform::new`], [`Quota::new`] and [`QueueList::new`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        let platform = Platform::new()?;

        Arc::pin_init(
            try_pin_init!(Self {
                quota: Quota::new(platform.clone())?,
                platform,
                queues: QueueList::new()?,
                registry <- Registry::new(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Returns all contexts.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}
