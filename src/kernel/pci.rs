// SPDX-License-Identifier: GPL-2.0

//! PCI drivers that are told of resets, errors and the end of the machine's run.
//!
//! Would go to `rust/kernel/pci.rs`. `kernel::pci` calls a driver to probe and to unbind a function
//! only. [`Driver`] and [`Adapter`] are like those of `kernel::pci`, and add the callbacks of
//! `struct pci_driver` for resets, errors and shutdown. The PCI core holds the device lock in each
//! callback: for one function no two run at a time, and none runs unless the function is bound.
//!
//! `kernel::pci` also enables a function and makes it a bus master, and undoes neither:
//! [`EnabledFunction`] does. It has no list of capabilities: see [`find_capability`].
//! [`DmaOwnership`] is for drivers of functions that do no DMA.
//!
//! C headers: [`include/linux/pci.h`](srctree/include/linux/pci.h),
//! [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use super::{
    bindings as extra,
    fault::injectable, //
};
use core::{
    mem::offset_of,
    ptr::from_ref, //
};
use kernel::{
    bindings,
    build_error,
    device::{
        self,
        Core,
        CoreInternal, //
    },
    device_id::RawDeviceIdIndex,
    driver,
    error::{
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    ffi,
    pci,
    prelude::*,
    types::Opaque, //
};

/// The state of the channel to a function: `pci_channel_state_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelState {
    /// It is open.
    Normal,
    /// Reads give all ones, writes and DMA go nowhere. It may be opened again.
    Frozen,
    /// As frozen, and it will not be opened again. The function is about to be removed.
    PermanentFailure,
}

impl ChannelState {
    /// Takes a state that is unknown here for a permanent failure.
    fn from_raw(state: bindings::pci_channel_state_t) -> Self {
        match state {
            bindings::pci_channel_io_normal => Self::Normal,
            bindings::pci_channel_io_frozen => Self::Frozen,
            _ => Self::PermanentFailure,
        }
    }
}

/// The answer of a driver to an error: `pci_ers_result_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ErrorResult {
    /// The function can be used after a reset only.
    NeedReset = bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
    /// The function can be used no more.
    Disconnect = bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
    /// The function can be used again.
    Recovered = bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
}

/// A driver of PCI functions, see [`kernel::pci::Driver`].
#[vtable]
pub(crate) trait Driver {
    /// The driver's data of each device id.
    type IdInfo: 'static;

    /// The driver's data of a function that it is bound to.
    type Data<'bound>: Send + 'bound;

    /// The name of the driver.
    const NAME: &'static CStr;

    /// The device ids that the driver knows.
    const ID_TABLE: pci::IdTable<Self::IdInfo>;

    /// Whether the driver does no DMA by the kernel's DMA API. Then the function is bound also if
    /// another one of its IOMMU group has a driver that has its DMA, or a program has it; see
    /// [`DmaOwnership`].
    const DRIVER_MANAGED_DMA: bool = false;

    /// Called to bind the driver to a function.
    fn probe<'bound>(
        dev: &'bound pci::Device<Core<'_>>,
        id_info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// Called before the driver is unbound from a function, and before its data is dropped.
    fn unbind<'bound>(dev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
    }

    /// Called when the machine is about to halt, reboot or `kexec`. The driver must leave the
    /// function quiet. It stays bound. Processes and all other CPUs still run.
    fn shutdown<'bound>(_dev: &'bound pci::Device<Core<'_>>, _this: Pin<&Self::Data<'bound>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called before the function is reset. It is still there, and must not be touched from when
    /// this returns until [`Self::reset_done`].
    fn reset_prepare<'bound>(_dev: &'bound pci::Device<Core<'_>>, _this: Pin<&Self::Data<'bound>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called after the function was reset, or could not be. Its configuration space is as it was.
    fn reset_done<'bound>(_dev: &'bound pci::Device<Core<'_>>, _this: Pin<&Self::Data<'bound>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when there was an error on the way to the function. It must not be touched from when
    /// this returns until [`Self::slot_reset`]. Comes a second time when recovery fails.
    fn error_detected<'bound>(
        _dev: &'bound pci::Device<Core<'_>>,
        _this: Pin<&Self::Data<'bound>>,
        _state: ChannelState,
    ) -> ErrorResult {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called after an error when the function was reset, as [`Self::error_detected`] had asked
    /// for. Of its configuration space not more than the BARs is as it was; see [`restore_state`].
    fn slot_reset<'bound>(
        _dev: &'bound pci::Device<Core<'_>>,
        _this: Pin<&Self::Data<'bound>>,
    ) -> ErrorResult {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when all drivers of functions that had the error have said that they can be used
    /// again.
    fn resume<'bound>(_dev: &'bound pci::Device<Core<'_>>, _this: Pin<&Self::Data<'bound>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// An adapter for the registration of PCI drivers, by [`driver::Registration`].
pub(crate) struct Adapter<T: Driver>(T);

// SAFETY:
// - `bindings::pci_driver` is a C type declared as `repr(C)`.
// - `T::Data` is the type of the driver's device private data.
// - `struct pci_driver` embeds a `struct device_driver` at this offset.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = T::Data<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(Self::DriverType, driver);
}

// SAFETY: `unregister` is valid for an instance for which `register` was successful.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        pdrv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // Were it not, the compiler would say so here and not below.
        let err_handler: &'static bindings::pci_error_handlers = &Self::ERROR_HANDLERS;

        // SAFETY: The fields may be set as the driver is not registered yet; what they point to is
        // static. It stays where it is until it is unregistered.
        to_result(unsafe {
            let raw = pdrv.get();
            (*raw).name = name.as_char_ptr();
            (*raw).probe = Some(Self::probe_callback);
            (*raw).remove = Some(Self::remove_callback);
            (*raw).shutdown = Self::SHUTDOWN;
            (*raw).id_table = T::ID_TABLE.as_ptr();
            (*raw).err_handler = err_handler;
            (*raw).driver_managed_dma = T::DRIVER_MANAGED_DMA;
            bindings::__pci_register_driver(raw, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(pdrv: &Opaque<Self::DriverType>) {
        // SAFETY: It was registered, by the contract of this function.
        unsafe { bindings::pci_unregister_driver(pdrv.get()) }
    }
}

/// A driver that is registered until this is dropped, which unbinds it.
#[pin_data]
pub(crate) struct Registration<T: Driver + 'static> {
    #[pin]
    driver: driver::Registration<Adapter<T>>,
}

impl<T: Driver + 'static> Registration<T> {
    /// Registers the driver, as one of `module`. Its functions are probed.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is a driver of the name, `ENOMEM` or `EINVAL` if there is no memory.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- driver::Registration::new(T::NAME, module),
        }? Error)
    }

    /// Probes all functions that the driver could have and that have none: for a driver that has refused
    /// them until now. Functions that it refuses again stay without. May sleep.
    pub(crate) fn attach(&self) {
        // SAFETY: The name is NUL-terminated, and the bus is static.
        let driver = unsafe {
            bindings::driver_find(T::NAME.as_char_ptr(), &raw const bindings::pci_bus_type)
        };

        // Fails for a driver without a bus only.
        //
        // SAFETY: The driver is ours, since no other driver of the bus can have this name. It stays
        // registered as long as `self`.
        let _ = unsafe { bindings::driver_attach(driver) };
    }
}

/// A function that is bound to a driver `T`, and the driver's data of it.
type BoundFunction<'a, T> = (
    &'a pci::Device<CoreInternal<'a>>,
    Pin<&'a <T as Driver>::Data<'a>>,
);

impl<T: Driver> Adapter<T> {
    const SHUTDOWN: Option<unsafe extern "C" fn(*mut bindings::pci_dev)> = if T::HAS_SHUTDOWN {
        Some(Self::shutdown_callback)
    } else {
        None
    };

    const ERROR_HANDLERS: bindings::pci_error_handlers = bindings::pci_error_handlers {
        error_detected: if T::HAS_ERROR_DETECTED {
            Some(Self::error_detected_callback)
        } else {
            None
        },
        slot_reset: if T::HAS_SLOT_RESET {
            Some(Self::slot_reset_callback)
        } else {
            None
        },
        reset_prepare: if T::HAS_RESET_PREPARE {
            Some(Self::reset_prepare_callback)
        } else {
            None
        },
        reset_done: if T::HAS_RESET_DONE {
            Some(Self::reset_done_callback)
        } else {
            None
        },
        resume: if T::HAS_RESUME {
            Some(Self::resume_callback)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// To be called by the PCI core as a callback of a driver that is registered by this adapter.
    unsafe extern "C" fn probe_callback(
        pdev: *mut bindings::pci_dev,
        id: *const bindings::pci_device_id,
    ) -> ffi::c_int {
        // SAFETY: The PCI core calls this with a valid device, which it is about to bind. Its id is
        // one of `T::ID_TABLE`, or a dynamic one, whose info is null or that of an id of the table.
        let (dev, info) = unsafe {
            (
                &*pdev.cast::<pci::Device<CoreInternal<'_>>>(),
                (*id.cast::<pci::DeviceId>()).info_unchecked_opt::<T::IdInfo>(),
            )
        };

        from_result(|| {
            let data = T::probe(dev, info);

            AsRef::<kernel::device::Device<_>>::as_ref(dev).set_drvdata(data)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::probe_callback`], with a device of which [`Self::probe_callback`] has
    /// returned 0 and which is not unbound before `'a` ends.
    unsafe fn bound<'a>(pdev: *mut bindings::pci_dev) -> BoundFunction<'a, T> {
        // SAFETY: The PCI core calls this with a valid device and its lock held. It is bound, so
        // that its data was set by `probe_callback`, of this type.
        unsafe {
            let dev = &*pdev.cast::<pci::Device<CoreInternal<'_>>>();
            let device: &kernel::device::Device<CoreInternal<'_>> = dev.as_ref();
            (dev, device.drvdata_borrow::<T::Data<'_>>())
        }
    }

    /// # Safety
    ///
    /// As for [`Self::bound`], as all that follow.
    unsafe extern "C" fn remove_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract of this function. The data goes after this.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::unbind(dev, data);
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn shutdown_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract of this function.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::shutdown(dev, data);
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn reset_prepare_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract of this function.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::reset_prepare(dev, data);
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn reset_done_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract of this function.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::reset_done(dev, data);
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn error_detected_callback(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        // SAFETY: By the contract of this function.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::error_detected(dev, data, ChannelState::from_raw(state)) as bindings::pci_ers_result_t
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn slot_reset_callback(
        pdev: *mut bindings::pci_dev,
    ) -> bindings::pci_ers_result_t {
        // SAFETY: By the contract of this function.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::slot_reset(dev, data) as bindings::pci_ers_result_t
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn resume_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract of this function.
        let (dev, data) = unsafe { Self::bound(pdev) };

        T::resume(dev, data);
    }
}

/// Returns the function as the C side has it. It may be changed through a shared reference.
fn as_raw(function: &pci::Device) -> *mut bindings::pci_dev {
    // A `pci::Device` is a transparent wrapper.
    from_ref(function).cast_mut().cast()
}

/// Kinds of capabilities of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CapabilityId {
    /// MSI-X.
    MsiX = bindings::PCI_CAP_ID_MSIX,
}

/// Returns where a capability of `function` begins in its configuration space, if it has it.
pub(crate) fn find_capability(
    function: &pci::Device<device::Bound>,
    id: CapabilityId,
) -> Option<usize> {
    // SAFETY: A `pci::Device` is valid.
    let offset = unsafe { bindings::pci_find_capability(as_raw(function), id as ffi::c_int) };

    (offset != 0).then_some(offset.into())
}

/// Saves the configuration space of `function`, for [`restore_state`].
pub(crate) fn save_state(function: &pci::Device<Core<'_>>) {
    // It fails only if there is no buffer for a capability, which is then not restored.
    //
    // SAFETY: A `pci::Device` is valid, and its lock is held.
    let _ = unsafe { bindings::pci_save_state(as_raw(function)) };
}

/// Restores the configuration space of `function`, and its MSI-X table, as they were
/// [saved](save_state) last.
pub(crate) fn restore_state(function: &pci::Device<Core<'_>>) {
    // SAFETY: As above.
    unsafe { bindings::pci_restore_state(as_raw(function)) };
}

/// A function whose memory is enabled.
///
/// When dropped the function is enabled no more, unless others have enabled it too, and can be no
/// bus master.
pub(crate) struct EnabledFunction<'a>(&'a pci::Device);

impl<'a> EnabledFunction<'a> {
    /// Enables the memory of `function`, which is being bound.
    ///
    /// # Errors
    ///
    /// Those of `pci_enable_device_mem`: `EINVAL` or `EIO` if it cannot be.
    pub(crate) fn new(function: &'a pci::Device<Core<'_>>) -> Result<Self> {
        function.enable_device_mem()?;
        Ok(Self(function))
    }
}

impl Drop for EnabledFunction<'_> {
    fn drop(&mut self) {
        // SAFETY: A `pci::Device` is valid. It was enabled when the object was made.
        unsafe {
            bindings::pci_clear_master(as_raw(self.0));
            bindings::pci_disable_device(as_raw(self.0));
        }
    }
}

/// The DMA of a function's IOMMU group, which is blocked: reads and writes by DMA of a function of
/// the group go nowhere, but for messages of interrupts.
///
/// As long as there is one, no function of the group has a driver that uses the kernel's DMA API,
/// and no program has the DMA of one.
///
/// # Invariants
///
/// It was claimed for the driver that the function is bound to, and that outlives the object.
pub(crate) struct DmaOwnership<'a>(&'a pci::Device);

impl<'a> DmaOwnership<'a> {
    /// Claims the DMA of the group of `function`, which is being bound, for its driver: functions
    /// of one group may share it.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if a function of the group has another driver that uses the kernel's DMA API, as
    ///   also that of `function` itself unless it is one of [`Driver::DRIVER_MANAGED_DMA`], if a
    ///   program has the DMA of one, or if the IOMMU does not block it.
    /// - `ENODEV` if there is no IOMMU, `ENOMEM` if there is no memory.
    pub(crate) fn claim(function: &'a pci::Device<Core<'_>>) -> Result<Self> {
        let raw = as_raw(function);

        let claimed = injectable!(
            uxive_own_dma,
            EBUSY,
            // SAFETY: A `pci::Device` is valid. While its lock is held `driver` does not change, and
            // is not null: it is being bound. The pointer is compared only.
            to_result(unsafe {
                let owner = (*raw).driver;
                extra::uxive_claim_dma_owner(&raw mut (*raw).dev, owner.cast())
            })
        );
        // Whose it is has no errno of its own.
        claimed.map_err(|error| match error {
            ENODEV | ENOMEM => error,
            _ => EBUSY,
        })?;
        // INVARIANT: Done above. A function is unbound before its driver goes.
        Ok(Self(function))
    }
}

impl Drop for DmaOwnership<'_> {
    fn drop(&mut self) {
        // SAFETY: It was claimed by the type invariants. The group of a function does not change
        // while it is bound.
        unsafe { extra::uxive_release_dma_owner(&raw mut (*as_raw(self.0)).dev) };
    }
}
