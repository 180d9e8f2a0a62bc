// SPDX-License-Identifier: GPL-2.0

//! The registers of an AFU and its message store, from one reset of the function to the next.
//!
//! [`Parts`] are the BARs that they lie in, mapped as long as the driver is bound to the function.
//! While the function is reset, or cannot be reached after an error, an access may be an error of
//! the machine. So the AFU is [cut off](Hardware::cut_off) before that, and never used again;
//! another is made afterwards.
//!
//! The device can return any value for a read, so nothing that is read here is used as an address
//! or a length. Offsets come from the checked [`Descriptor`].

use super::descriptor::{
    self,
    Descriptor, //
};
use crate::{
    kernel_ext::{
        bar::UserBar,
        io::RuntimeBase, //
    },
    xive::{
        MessagePool,
        MsiMsg, //
    }, //
};
use core::ops::Range;
use kernel::{
    device::Bound,
    io::{
        register,
        Io,
        IoCapable,
        IoLoc,
        MmioBackend,
        Region, //
    },
    new_mutex,
    pci::{
        self,
        DevresBar, //
    },
    prelude::*,
    revocable::Revocable,
    sync::{
        Arc,
        Mutex, //
    }, //
};

register! {
    /// The number of a reset that the driver asks for.
    RESET(u32) @ 0x100 {
        31:0 number => u32;
    }

    /// The reset that the AFU has carried out last.
    RESET_DONE(u32) @ 0x104 {
        31:0 number => u32;
    }

    /// The number of a question of the driver, whether the AFU is there.
    PING(u32) @ 0x108 {
        31:0 number => u32;
    }

    /// The question that the AFU has answered last.
    PONG(u32) @ 0x10c {
        31:0 number => u32;
    }
}

/// Base of the registers of a context.
struct ControlBlock;

register! {
    /// A request of the driver.
    REQUEST(u32) @ ControlBlock + 0x00 {
        /// Counts requests.
        31:1 number;
        /// Whether it is to attach the context; else it is to detach it.
        0:0 attach => bool;
    }

    /// The last request that the AFU has carried out.
    STATE(u32) @ ControlBlock + 0x04 {
        31:1 number;
        0:0 attach => bool;
    }

    /// The number by which cookies know the context.
    PASID(u32) @ ControlBlock + 0x08 {
        19:0 pasid;
    }

    /// How many errors the AFU has reported, modulo 2^32. It counts after it has written the others.
    ERRORS(u32) @ ControlBlock + 0x0c {
        31:0 count => u32;
    }

    ERROR_KIND(u32) @ ControlBlock + 0x10 {
        31:0 kind => u32;
    }

    ERROR_ADDRESS(u64) @ ControlBlock + 0x18 {
        63:0 offset => u64;
    }

    ERROR_CODE(u64) @ ControlBlock + 0x20 {
        63:0 code => u64;
    }
}

/// Base of the registers of an entry of the message store, which are those of one of an MSI-X table.
struct ImsEntryPlace;

register! {
    ADDRESS_LOW(u32) @ ImsEntryPlace + 0x0 {
        31:0 address => u32;
    }

    ADDRESS_HIGH(u32) @ ImsEntryPlace + 0x4 {
        31:0 address => u32;
    }

    DATA(u32) @ ImsEntryPlace + 0x8 {
        31:0 data => u32;
    }

    CONTROL(u32) @ ImsEntryPlace + 0xc {
        0:0 masked => bool;
    }
}

/// Base of the register that says whose a slot is.
struct Cookie;

register! {
    OWNER(u64) @ Cookie + 0x0 {
        /// Whether the slot is in use.
        63:63 valid => bool;
        51:32 pasid;
        /// A queue of the AFU, or 0 for any.
        31:0 queue_id;
    }
}

/// How often an error is read once more, until it is the same as before.
const ERROR_READS: usize = 4;

/// The value of a read where there is nothing. The driver never writes it, so an AFU never answers
/// it.
const NOTHING: u32 = u32::MAX;

/// Returns the number that comes after `number`, and is not [`NOTHING`].
pub(super) fn next_number(number: u32) -> u32 {
    match number.wrapping_add(1) {
        NOTHING => 0,
        next => next,
    }
}

/// So many requests have different numbers, none of which gives a request the value [`NOTHING`].
const REQUESTS: u32 = NOTHING >> 1;

/// An error as an AFU reports it.
pub(super) struct AfuError {
    /// How many there were, modulo 2^32.
    pub(super) count: u32,
    pub(super) kind: u32,
    /// Offset in the MMIO of the context, in bytes.
    pub(super) address: u64,
    pub(super) code: u64,
}

/// An [error](AfuError) that is an access where the AFU may not.
pub(super) const ADDRESS_FAULT: u32 = 1;

/// A BAR, mapped into the kernel.
struct MappedRegisters {
    number: usize,
    io: DevresBar,
}

/// The parts of a function that its AFU uses, as long as the driver is bound.
pub(crate) struct Parts {
    pub(crate) descriptor: Descriptor,
    bars: KVec<MappedRegisters>,
    mmio: UserBar,
}

impl Parts {
    /// Takes the parts of a function that `descriptor` describes; `bar` is the BAR that has it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another driver has a BAR, `ENOMEM` if there is no memory.
    pub(crate) fn new<'a>(
        function: &'a pci::Device<Bound>,
        bar: pci::Bar<'a>,
        descriptor: Descriptor,
    ) -> Result<Self> {
        let mut bars = KVec::with_capacity(3, GFP_KERNEL)?;
        let first = MappedRegisters {
            number: descriptor::BAR,
            io: bar.into_devres()?,
        };

        bars.push(first, GFP_KERNEL)?;
        // Without slots there is no store, and its BAR need not exist.
        let store = (!descriptor.store.is_empty()).then_some(descriptor.store_bar);
        for number in [store, Some(descriptor.doorbell.bar)].into_iter().flatten() {
            if bars.iter().all(|bar| bar.number != number) {
                let io = function
                    .iomap_region(number as u32, c"uxive")?
                    .into_devres()?;
                bars.push(MappedRegisters { number, io }, GFP_KERNEL)?;
            }
        }
        Ok(Self {
            descriptor,
            bars,
            mmio: UserBar::new(function, descriptor::BAR as u32)?,
        })
    }

    /// Returns the memory of the BAR that has what programs map.
    pub(crate) fn mmio(&self) -> &UserBar {
        &self.mmio
    }
}

/// The hardware of an AFU, until it is [cut off](Self::cut_off).
pub(super) struct Hardware {
    parts: Arc<Parts>,
    /// Revoked when it is cut off.
    reach: Pin<KBox<Revocable<()>>>,
    messages: Arc<MessagePool>,
    /// Guards the message store; see `afu.rs`.
    store: Pin<KBox<Mutex<Store>>>,
}

/// Whether entries of the store may be written. Not when the function is about to be another's.
struct Store {
    closed: bool,
}

impl Hardware {
    /// Takes the hardware of a function that can be reached.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(super) fn new(parts: Arc<Parts>, messages: Arc<MessagePool>) -> Result<Self> {
        Ok(Self {
            parts,
            reach: KBox::pin_init(Revocable::new(()), GFP_KERNEL)?,
            messages,
            store: KBox::pin_init(
                new_mutex!(Store { closed: false }, "uxive_store"),
                GFP_KERNEL,
            )?,
        })
    }

    /// Stops all accesses to the function from now on, and waits for those that are under way.
    pub(super) fn cut_off(&self) {
        self.reach.revoke();
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.parts.descriptor
    }

    pub(super) fn mmio(&self) -> &UserBar {
        self.parts.mmio()
    }

    /// Returns where messages for the store come from.
    pub(super) fn messages(&self) -> &Arc<MessagePool> {
        &self.messages
    }

    /// Calls `access` with BAR `number`. It must not sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is cut off or the driver not bound any more.
    fn with_bar<R>(
        &self,
        number: usize,
        access: impl FnOnce(&pci::Bar<'_>) -> Result<R>,
    ) -> Result<R> {
        let mut bars = self.parts.bars.iter();
        let bar = bars.find(|bar| bar.number == number).ok_or(ENODEV)?;
        let _reach = self.reach.try_access().ok_or(ENODEV)?;
        let io = bar.io.try_access().ok_or(ENODEV)?;

        access(&io)
    }

    /// Reads a register of [`descriptor::BAR`].
    ///
    /// # Errors
    ///
    /// Those of [`Self::with_bar`].
    fn read<T, L>(&self, location: L) -> Result<T>
    where
        L: IoLoc<Region, T>,
        MmioBackend: IoCapable<L::IoType>,
    {
        self.with_bar(descriptor::BAR, |bar| bar.try_read(location))
    }

    /// As [`Self::read`], of one in which the AFU answers.
    ///
    /// # Errors
    ///
    /// `ENXIO` if it does not, since there is nothing there.
    fn read_answer<T, L>(&self, location: L) -> Result<T>
    where
        L: IoLoc<Region, T, IoType = u32>,
        T: Copy + Into<u32>,
    {
        let answer = self.read(location)?;

        match answer.into() {
            NOTHING => Err(ENXIO),
            _ => Ok(answer),
        }
    }

    /// Writes a register of [`descriptor::BAR`], as [`Self::read`].
    fn write<T, L>(&self, location: L, value: T) -> Result
    where
        L: IoLoc<Region, T>,
        MmioBackend: IoCapable<L::IoType>,
    {
        self.with_bar(descriptor::BAR, |bar| bar.try_write(location, value))
    }

    /// Rings the AFU's doorbell: the AFU looks at the registers that were written before.
    fn ring(&self) -> Result {
        let doorbell = &self.descriptor().doorbell;

        self.with_bar(doorbell.bar, |bar| {
            bar.try_write32(doorbell.value, doorbell.offset as usize)
        })
    }

    /// Asks the AFU to forget all contexts. [`Self::is_reset`] tells when it has.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it is cut off or the driver not bound any more, as everywhere here.
    /// - `ENXIO` if it is not there, as everywhere where an answer of it is read.
    pub(super) fn reset(&self) -> Result<u32> {
        // Differs from its last answer, which may have been to a driver that was bound before.
        let number = next_number(self.read_answer(RESET_DONE)?.number());

        // The AFU answers with this after the reset: no request will have that value.
        for context in 0..self.descriptor().contexts {
            self.write(self.control_block(context)?.at(), REQUEST::zeroed())?;
        }
        self.write(RESET, RESET::zeroed().with_number(number))?;
        self.ring()?;
        Ok(number)
    }

    /// Returns whether the AFU has carried out the reset `number`.
    pub(super) fn is_reset(&self, number: u32) -> Result<bool> {
        Ok(self.read_answer(RESET_DONE)?.number() == number)
    }

    /// Asks the AFU whether it is there, as question `number`.
    pub(super) fn ping(&self, number: u32) -> Result {
        self.write(PING, PING::zeroed().with_number(number))?;
        self.ring()
    }

    /// Returns the number of the last question that the AFU has answered.
    pub(super) fn pong(&self) -> Result<u32> {
        Ok(self.read_answer(PONG)?.number())
    }

    /// Returns where the registers of a context are.
    fn control_block(&self, context: u32) -> Result<RuntimeBase<ControlBlock>> {
        let offset = self.descriptor().control_block(context).ok_or(EINVAL)?;

        Ok(RuntimeBase::new(offset as usize))
    }

    /// Asks the AFU to attach or detach a context, as request `number` of it. Returns what
    /// [`Self::state`] is when it has.
    pub(super) fn request(&self, context: u32, attach: bool, number: u32) -> Result<u32> {
        let block = self.control_block(context)?;
        let request = REQUEST::zeroed()
            .try_with_number(number % REQUESTS)?
            .with_attach(attach);

        if attach {
            self.write(block.at(), PASID::zeroed().try_with_pasid(context)?)?;
        }
        self.write(block.at(), request)?;
        self.ring()?;
        Ok(request.into_raw())
    }

    /// Returns the last request for a context that the AFU has carried out.
    pub(super) fn state(&self, context: u32) -> Result<u32> {
        let block = self.control_block(context)?;

        Ok(self.read_answer(block.at::<STATE>())?.into_raw())
    }

    /// Returns how many errors of a context the AFU has reported, modulo 2^32.
    pub(super) fn errors(&self, context: u32) -> Result<u32> {
        let block = self.control_block(context)?;
        let errors = self.read(block.at::<ERRORS>())?.count();

        // The count can have this value. If so, other registers show that the AFU is there.
        if errors == NOTHING {
            self.pong()?;
        }
        Ok(errors)
    }

    /// Returns the last error of a context. It is of one piece unless the AFU has one after the
    /// other.
    pub(super) fn error(&self, context: u32) -> Result<AfuError> {
        let mut error = self.read_error(context)?;

        for _ in 0..ERROR_READS {
            let again = self.read_error(context)?;
            if again.count == error.count {
                return Ok(again);
            }
            error = again;
        }
        Ok(error)
    }

    fn read_error(&self, context: u32) -> Result<AfuError> {
        let block = self.control_block(context)?;

        Ok(AfuError {
            kind: self.read(block.at::<ERROR_KIND>())?.kind(),
            address: self.read(block.at::<ERROR_ADDRESS>())?.offset(),
            code: self.read(block.at::<ERROR_CODE>())?.code(),
            count: self.errors(context)?,
        })
    }

    /// Returns where the MMIO of a context lies in [`Self::mmio`].
    pub(super) fn mmio_of(&self, context: u32) -> Result<Range<u64>> {
        self.descriptor().mmio(context).ok_or(EINVAL)
    }

    /// Returns where the message and the cookie of a slot are.
    fn slot(
        &self,
        context: u32,
        slot: u32,
    ) -> Result<(RuntimeBase<ImsEntryPlace>, RuntimeBase<Cookie>)> {
        let entry = self.descriptor().store_entry(context, slot).ok_or(EINVAL)?;
        let cookie = self.descriptor().cookie(context, slot).ok_or(EINVAL)?;

        Ok((
            RuntimeBase::new(entry as usize),
            RuntimeBase::new(cookie as usize),
        ))
    }

    /// Lets the AFU send `message` as that of `slot` from now on, for work of a context and its
    /// queue `queue_id`, 0 for any.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the store is [closed](Self::close_store), `EINVAL` if there is no such slot.
    pub(super) fn open_entry(
        &self,
        context: u32,
        slot: u32,
        message: MsiMsg,
        queue_id: u32,
    ) -> Result {
        let (entry, cookie) = self.slot(context, slot)?;
        let owner = OWNER::zeroed()
            .with_valid(true)
            .try_with_pasid(u64::from(context))?
            .with_queue_id(queue_id);
        let store = self.store.lock();

        if store.closed {
            return Err(ENODEV);
        }
        self.write(cookie.at(), owner)?;
        self.with_bar(self.descriptor().store_bar, |bar| {
            let (low, high) = (message.address as u32, (message.address >> 32) as u32);

            bar.try_write(entry.at(), ADDRESS_LOW::zeroed().with_address(low))?;
            bar.try_write(entry.at(), ADDRESS_HIGH::zeroed().with_address(high))?;
            bar.try_write(entry.at(), DATA::zeroed().with_data(message.data))?;
            // One that the AFU wanted to send meanwhile is sent now.
            bar.try_write(entry.at(), CONTROL::zeroed().with_masked(false))
        })
    }

    /// Stops the AFU from sending the message for `slot` of a context. When this returns, the last
    /// one has been sent.
    pub(super) fn close_entry(&self, context: u32, slot: u32) {
        let store = self.store.lock();

        // The whole of one that is closed was cleared, and may be out of reach.
        if !store.closed {
            let _ = self.clear_entry(context, slot);
        }
    }

    /// As [`Self::close_entry`], with the lock held.
    fn clear_entry(&self, context: u32, slot: u32) -> Result {
        let (entry, cookie) = self.slot(context, slot)?;

        self.with_bar(self.descriptor().store_bar, |bar| {
            // Masked first, so that no half-cleared entry is sent. The read-back makes a message
            // that is on its way arrive first.
            bar.try_write(entry.at(), CONTROL::zeroed().with_masked(true))?;
            bar.try_read(entry.at::<CONTROL>())?;
            bar.try_write(entry.at(), ADDRESS_LOW::zeroed())?;
            bar.try_write(entry.at(), ADDRESS_HIGH::zeroed())?;
            bar.try_write(entry.at(), DATA::zeroed())
        })?;
        self.write(cookie.at(), OWNER::zeroed())
    }

    /// Clears all entries of the store.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the driver is not bound any more.
    pub(super) fn clear_store(&self) -> Result {
        let _store = self.store.lock();

        self.clear_all()
    }

    /// As [`Self::clear_store`], with the lock held.
    fn clear_all(&self) -> Result {
        for context in 0..self.descriptor().contexts {
            for slot in 0..self.descriptor().slots {
                self.clear_entry(context, slot)?;
            }
        }
        Ok(())
    }

    /// Clears all entries of the store and has none be opened any more, nor a message be allocated.
    pub(super) fn close_store(&self) {
        {
            let mut store = self.store.lock();

            store.closed = true;
            // Fails if the AFU is out of reach, and so cannot send, or if the store was closed
            // before.
            let _ = self.clear_all();
        }
        self.messages.close();
    }
}
