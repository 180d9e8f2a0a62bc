// SPDX-License-Identifier: GPL-2.0

//! The driver of PCI functions that are AFUs, and their nodes, `/dev/ocxl/<name>...`.
//!
//! The node of a function belongs to an [`AfuNode`], which stays as long as the driver is bound and
//! knows the [`Afu`] that there is at present. When the function is about to be reset, or there was an
//! error on the way to it, that one ends as if it were unbound; when the function can be used again,
//! another takes its place.
//!
//! # Locks
//!
//! The PCI core holds the lock of the device in its callbacks; no lock of the driver is held around
//! it. [`AfuNode::current`] guards which AFU there is; nothing is taken under it. [`Shared::class`]
//! guards that there is one class; registering the class takes locks under it.

use crate::{
    afu::{
        descriptor::{
            self,
            Descriptor,
            Function,
            MsixTable, //
        },
        Afu,
        Parts, //
    },
    context::ContextKind,
    device::Device,
    events::Gone,
    file::ContextFile,
    kernel_ext::{
        attribute::Attribute,
        bar::memory_len,
        class::{
            Class,
            ClassDevice,
            ClassDeviceOptions,
            ClassOptions, //
        },
        global::module_global,
        io::RuntimeBase,
        mapping::FileMapping,
        pci::{
            find_capability,
            restore_state,
            save_state,
            CapabilityId,
            ChannelState,
            DmaOwnership,
            Driver,
            EnabledFunction,
            ErrorResult, //
        }, //
    },
    limits::MaxRate,
    operations::{
        ContextDevice,
        ContextOperations, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Core, //
    },
    io::{
        register,
        Io, //
    },
    new_mutex,
    pci,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// How many AFUs the driver can drive.
const MAX_AFUS: u32 = 256;

/// The class of AFUs: that of ocxl, which libocxl knows.
type AfuClass = Arc<Class<AfuOperations>>;

/// The parts that all bound functions share.
#[pin_data]
pub(crate) struct Shared {
    device: Arc<Device>,
    /// From the first function on.
    #[pin]
    class: Mutex<Option<AfuClass>>,
}

impl Shared {
    /// Makes them for contexts of `device`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new(device: Arc<Device>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                device,
                class <- new_mutex!(None, "uxive_class"),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Returns the class of AFUs.
    ///
    /// # Errors
    ///
    /// Those of [`Class::new`]: `EBUSY` if another driver has it.
    fn class(&self) -> Result<AfuClass> {
        let mut class = self.class.lock();

        if let Some(class) = &*class {
            return Ok(class.clone());
        }
        let new = Class::new(ClassOptions {
            name: c"ocxl",
            mode: 0o600,
            max_devices: MAX_AFUS,
        })?;
        Ok(class.insert(Arc::new(new, GFP_KERNEL)?).clone())
    }
}

/// The device behind the node of an AFU, as long as the driver is bound to the function.
#[pin_data]
pub(crate) struct AfuNode {
    parts: Arc<Parts>,
    message_rate: Arc<MaxRate>,
    /// The AFU since the last reset, or the AFU that the reset ended.
    #[pin]
    current: Mutex<Arc<Afu>>,
}

impl AfuNode {
    fn new(parts: Arc<Parts>, message_rate: Arc<MaxRate>, afu: Arc<Afu>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                parts,
                message_rate,
                current <- new_mutex!(afu, "uxive_afu"),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the AFU that there is at present.
    fn afu(&self) -> Arc<Afu> {
        self.current.lock().clone()
    }

    /// Makes the node open `afu` from now on.
    fn replace(&self, afu: Arc<Afu>) {
        let old = core::mem::replace(&mut *self.current.lock(), afu);

        // Dropped with no lock held.
        drop(old);
    }

    fn descriptor(&self) -> &Descriptor {
        &self.parts.descriptor
    }
}

impl ContextDevice for Arc<AfuNode> {
    const MAY_GO: bool = true;

    fn open(&self, mapping: Arc<FileMapping>) -> Result<impl PinInit<ContextFile, Error>> {
        let shared = shared::get().ok_or(ENODEV)?;

        ContextFile::new(
            mapping,
            shared.device.clone(),
            shared.device.user()?,
            ContextKind::Open,
            Some(self.afu()),
        )
    }
}

/// The operations of its files.
type AfuOperations = ContextOperations<Arc<AfuNode>>;

/// Its attributes: those of ocxl, and one more.
static ATTRIBUTES: [Attribute<AfuOperations, ClassDevice<AfuOperations>>; 5] = [
    Attribute::read_only(c"global_mmio_size", |node: &Arc<AfuNode>| {
        let global = &node.descriptor().global;
        (global.end - global.start) as usize
    }),
    Attribute::read_only(c"pp_mmio_size", |node: &Arc<AfuNode>| {
        node.descriptor().mmio_size as usize
    }),
    Attribute::text(c"afu_version", |node: &Arc<AfuNode>, f| {
        write!(f, "{}:{}", node.descriptor().major, node.descriptor().minor)
    }),
    Attribute::text(c"contexts", |node: &Arc<AfuNode>, f| {
        write!(
            f,
            "{}/{}",
            node.afu().contexts(),
            node.descriptor().contexts
        )
    }),
    Attribute::writable(
        c"max_message_rate",
        |node: &Arc<AfuNode>| node.message_rate.get() as usize,
        |node: &Arc<AfuNode>, rate| node.message_rate.set(rate),
    ),
];

module_global! {
    /// For functions that are bound. No AFU refers to it: it refers to contexts that are quarantined,
    /// and those to their AFU.
    pub(crate) shared: Arc<Shared>
}

/// The driver of functions that are AFUs. It has no table of them: the administrator binds one, by
/// `driver_override` or `new_id` in sysfs.
pub(crate) struct AfuDriver;

kernel::pci_device_table!(
    NO_TABLE,
    @none,
    // Of an empty table the PCI core takes no `new_id`. This is no function's: a class has 24 bits.
    [pci::DeviceId::from_class(u32::MAX, u32::MAX)]
);

/// A node whose AFU can have contexts, until this is dropped. The hardware is mapped as long.
struct RunningAfu(Arc<AfuNode>);

impl Drop for RunningAfu {
    fn drop(&mut self) {
        self.0.afu().stop(Gone::Unbound);
    }
}

/// A function that the driver is bound to.
pub(crate) struct BoundAfu<'bound> {
    device: ClassDevice<AfuOperations>,
    running: RunningAfu,
    /// Whether the machine goes down: the AFU must not run again. Touched with the device lock
    /// held.
    is_down: Atomic<bool>,
    // Switches MSI-X off: after the store was cleared.
    _vectors: pci::IrqVectorRegistration<'bound>,
    _enabled: EnabledFunction<'bound>,
    // Given back when the function can do no DMA any more.
    _dma: DmaOwnership<'bound>,
}

#[vtable]
impl Driver for AfuDriver {
    type IdInfo = ();
    type Data<'bound> = BoundAfu<'bound>;
    const NAME: &'static CStr = c"uxive";
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &NO_TABLE;
    const DRIVER_MANAGED_DMA: bool = true;

    fn probe<'bound>(
        function: &'bound pci::Device<Core<'_>>,
        _id_info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        BoundAfu::new(function)
    }

    /// Host bridges may be switched off after this: an access to an AFU behind one would be an
    /// error of the machine.
    fn shutdown<'bound>(function: &'bound pci::Device<Core<'_>>, this: Pin<&BoundAfu<'bound>>) {
        this.is_down.store(true, Relaxed);
        this.device.remove_area(function);
        this.running.0.afu().stop(Gone::Unbound);
    }

    fn reset_prepare<'bound>(
        function: &'bound pci::Device<Core<'_>>,
        this: Pin<&BoundAfu<'bound>>,
    ) {
        this.device.remove_area(function);
        this.running.0.afu().stop(Gone::Reset);
    }

    fn reset_done<'bound>(function: &'bound pci::Device<Core<'_>>, this: Pin<&BoundAfu<'bound>>) {
        this.run_again(function);
    }

    fn error_detected<'bound>(
        function: &'bound pci::Device<Core<'_>>,
        this: Pin<&BoundAfu<'bound>>,
        state: ChannelState,
    ) -> ErrorResult {
        let (reason, result) = match state {
            ChannelState::PermanentFailure => (Gone::Unbound, ErrorResult::Disconnect),
            // Whatever the error was, the AFU may have missed a write, and has to begin anew.
            ChannelState::Normal | ChannelState::Frozen => (Gone::Reset, ErrorResult::NeedReset),
        };

        this.device.remove_area(function);
        this.running.0.afu().abandon(reason);
        result
    }

    fn slot_reset<'bound>(
        function: &'bound pci::Device<Core<'_>>,
        _this: Pin<&BoundAfu<'bound>>,
    ) -> ErrorResult {
        restore_state(function);
        ErrorResult::Recovered
    }

    fn resume<'bound>(function: &'bound pci::Device<Core<'_>>, this: Pin<&BoundAfu<'bound>>) {
        this.run_again(function);
    }
}

impl<'bound> BoundAfu<'bound> {
    /// Makes an AFU of a function, and registers its files.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it is no AFU, or none that can be used, or does not answer.
    /// - `EBUSY` if another driver has the class of such devices, a BAR, or the DMA of a function
    ///   that the host bridge cannot tell from this one.
    /// - `ENOMEM` if there is no memory, `ENOSPC` if the machine has no interrupt left.
    fn new(function: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let shared = shared::get().ok_or(ENODEV)?;

        let dma = claim_dma(function)?;
        let enabled = EnabledFunction::new(function)?;
        let (bar, descriptor) = read_descriptor(function)?;
        let name =
            CString::try_from_fmt(fmt!("{}.{}.0", descriptor.name, function.as_ref().name()))?;
        let class = shared.class().inspect_err(|&error| {
            if error == EBUSY {
                dev_err!(function, "another driver has the class ocxl\n");
            }
        })?;
        let parts = Arc::new(Parts::new(function, bar, descriptor)?, GFP_KERNEL)?;
        let rate = MaxRate::new()?;
        let platform = &shared.device.platform;
        let afu = Afu::start(platform, function, parts.clone(), rate.clone())?;

        function.set_master();
        let types = pci::IrqTypes::default().with(pci::IrqType::MsiX);
        let vectors = function.alloc_irq_vectors(1, 1, types)?;
        save_state(function);
        // From its node on it can have contexts, also if a later step of binding fails.
        let node = AfuNode::new(parts.clone(), rate, afu)?;
        let running = RunningAfu(node.clone());
        let options = ClassDeviceOptions {
            name: &name,
            attributes: &ATTRIBUTES,
            area: c"global_mmio_area",
            bar: parts.mmio(),
            part: parts.descriptor.global.clone(),
        };
        let device = ClassDevice::new(&class, function, &options, node)?;

        Ok(Self {
            device,
            running,
            is_down: Atomic::new(false),
            _vectors: vectors,
            _enabled: enabled,
            _dma: dma,
        })
    }

    /// Makes an AFU of the function again, after a reset. If it is no AFU, the last one stays gone.
    fn run_again(&self, function: &pci::Device<Core<'_>>) {
        if self.is_down.load(Relaxed) {
            return;
        }
        match self.try_run_again(function) {
            Ok(()) => dev_info!(function, "it was reset\n"),
            Err(error) => dev_err!(
                function,
                "it cannot be used after a reset: error {}\n",
                error.to_errno()
            ),
        }
    }

    /// As [`Self::run_again`].
    fn try_run_again(&self, function: &pci::Device<Core<'_>>) -> Result {
        let shared = shared::get().ok_or(ENODEV)?;
        let node = &self.running.0;

        // The driver is not told of an error that came before it was bound: the AFU has not ended.
        self.device.remove_area(function);
        node.afu().abandon(Gone::Reset);
        let (parts, rate) = (node.parts.clone(), node.message_rate.clone());
        let afu = Afu::start(&shared.device.platform, function, parts, rate)?;
        self.device.add_area(function)?;
        node.replace(afu);
        Ok(())
    }
}

/// Blocks DMA of the function, and of all that the host bridge cannot tell from it. An AFU declares
/// that it does none; the driver does not rely on that.
///
/// # Errors
///
/// `EBUSY` if another driver or a program has its DMA, `ENODEV` if nothing can block it, which the
/// log says.
fn claim_dma<'a>(function: &'a pci::Device<Core<'_>>) -> Result<DmaOwnership<'a>> {
    DmaOwnership::claim(function).inspect_err(|&error| match error {
        EBUSY => dev_err!(function, "another driver has the DMA of its IOMMU group\n"),
        _ => dev_err!(function, "its DMA cannot be blocked\n"),
    })
}

/// Reads the descriptor of a function, and checks it. Returns the BAR that it is in, too.
///
/// # Errors
///
/// `ENODEV` if the function is no AFU that can be used, which is said in a line of the log.
fn read_descriptor<'a>(function: &'a pci::Device<Core<'_>>) -> Result<(pci::Bar<'a>, Descriptor)> {
    let mut resources = [0; descriptor::BARS];
    for (number, size) in (0..).zip(&mut resources) {
        *size = memory_len(function, number)?;
    }
    let Ok(msix) = msix_table(function) else {
        dev_err!(function, "it is no AFU: it has no MSI-X\n");
        return Err(ENODEV);
    };
    if resources
        .get(descriptor::BAR)
        .is_none_or(|&size| size < descriptor::UNIT)
    {
        dev_err!(function, "it is no AFU: it has no descriptor\n");
        return Err(ENODEV);
    }

    let bar = function.iomap_region(descriptor::BAR as u32, c"uxive")?;
    let mut bytes = [0; descriptor::BYTES];
    for (offset, word) in (0..).step_by(size_of::<u32>()).zip(bytes.chunks_mut(4)) {
        word.copy_from_slice(&(&bar).try_read32(offset)?.to_le_bytes());
    }
    let function_parts = Function {
        bars: resources,
        msix,
    };
    match Descriptor::parse(&bytes, &function_parts) {
        Ok(descriptor) => Ok((bar, descriptor)),
        Err(fault) => {
            dev_err!(function, "it is no AFU that can be used: {fault}\n");
            Err(ENODEV)
        }
    }
}

/// Base of the registers of the MSI-X capability, see `include/uapi/linux/pci_regs.h`.
struct MsixCapability;

register! {
    MESSAGE_CONTROL(u16) @ MsixCapability + 0x2 {
        /// The number of the last entry of the table.
        10:0 last;
    }

    TABLE(u32) @ MsixCapability + 0x4 {
        /// In units of 8 bytes.
        31:3 offset;
        2:0 bar;
    }
}

/// Returns where the MSI-X table of a function lies.
///
/// # Errors
///
/// `ENODEV` if it has none.
fn msix_table(function: &pci::Device<Bound>) -> Result<MsixTable> {
    let offset = find_capability(function, CapabilityId::MsiX).ok_or(ENODEV)?;
    let capability = RuntimeBase::<MsixCapability>::new(offset);
    let config = function.config_space();
    let control = config.try_read(capability.at::<MESSAGE_CONTROL>())?;
    let table = config.try_read(capability.at::<TABLE>())?;

    Ok(MsixTable {
        bar: table.bar().get() as usize,
        offset: table.offset().get() << 3,
        entries: control.last().get() + 1,
    })
}
