// SPDX-License-Identifier: GPL-2.0

//! Accelerators (AFUs): PCI functions whose contexts programs open.
//!
//! An [`Afu`] is a function that the driver is bound to, from one reset of it to the next. It stays
//! in memory as long as a context of it is open, also after the function is gone. A context has a
//! place in it, an [`AfuContext`], and is known here as its [`Client`].
//!
//! `Documentation/driver-api/uxive-afu.rst` specifies AFUs. The descriptor is checked once
//! (`descriptor`); the registers and the store of messages are behind [`Hardware`]. While an AFU
//! has contexts the driver asks it ten times a second whether it is there, and takes the errors
//! that it reports. There is no interrupt for that, by which a broken AFU could load the machine.
//!
//! # Locks
//!
//! [`State::places`] guards which context has which place, from [`Afu::reserve`] to the drop of an
//! [`AfuContext`]. Under it are taken, one at a time: `inserting` of a client's mapping and of each view
//! of it; the `views` of the mapping, for a look-up; the `i_mmap_rwsem` of these; and its event log. The
//! mutex of the store in [`Hardware`] is innermost,
//! and taken under 1 of `file.rs` at most. Neither is held when interrupts are taken from
//! [guests](crate::bypass).

pub(crate) mod descriptor;
mod hardware;

use crate::{
    bypass::Bypasses,
    events::{
        Event,
        EventLog,
        Gone, //
    },
    kernel_ext::{
        bar::MappedBar,
        fault::injectable,
        mapping::FileMapping,
        work::{
            Work,
            Worker, //
        }, //
    },
    limits::MaxRate,
    xive::{
        MessagePool,
        MsiMsg,
        Platform,
        QuiesceError, //
    }, //
};
use descriptor::Descriptor;
pub(crate) use hardware::Parts;
use hardware::{
    next_number,
    AfuError,
    Hardware,
    ADDRESS_FAULT, //
};
use kernel::{
    device::Bound,
    new_mutex,
    pci,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    static_lock_class,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta, //
    }, //
};

/// How often an AFU that has contexts is looked after, in milliseconds.
const POLL_MS: u32 = 100;

/// After so many polls without an answer an AFU is gone.
const SILENT_POLLS: u32 = 50;

/// How long an AFU has for a reset, and to attach a context, in milliseconds.
const ANSWER_TRIES: usize = 1000;

/// The parts of a context that its AFU needs.
struct Client {
    /// Where it is told of the AFU.
    events: Arc<EventLog>,
    /// Where the AFU's MMIO and all else is mapped.
    mapping: Arc<FileMapping>,
    /// Its interrupts that guests can have.
    bypasses: Arc<Bypasses>,
}

/// The state of a place, as the driver has asked the AFU for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attachment {
    /// The AFU was not asked to attach it, or has detached it.
    Detached,
    /// It was asked to attach it.
    Attached,
    /// It was asked to detach it, and will confirm that by this state.
    Detaching(u32),
}

/// A place for a context.
struct Place {
    /// A context has it, open or closed.
    taken: bool,
    /// The context, while it is open.
    client: Option<Client>,
    attachment: Attachment,
    /// How many requests there were, to tell the answers apart.
    requests: u32,
    /// How many errors were reported to the program, modulo 2^32.
    errors: u32,
}

impl Place {
    /// One that is free.
    fn new() -> Self {
        Self {
            taken: false,
            client: None,
            attachment: Attachment::Detached,
            requests: 0,
            errors: 0,
        }
    }
}

/// The places of an AFU.
struct Places {
    places: KVec<Place>,
    taken: u32,
    /// The last question whether it is there, and how many polls ago that was.
    ping: u32,
    silent: u32,
}

impl Places {
    fn get(&mut self, index: u32) -> Result<&mut Place> {
        self.places.get_mut(index as usize).ok_or(EINVAL)
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        self.places.iter().filter_map(|place| place.client.as_ref())
    }
}

/// The finding of a poll of an AFU.
enum Finding {
    /// It is there. If it is `in_use` it has contexts, and must be polled again.
    There { in_use: bool },
    /// It does not answer any more.
    Silent,
    /// All contexts are ended, and nothing may touch it.
    Over,
}

/// Why an AFU is taken to be gone.
enum Lost {
    /// It does not answer any more.
    Silent,
    /// Reads of it say that there is nothing.
    Absent,
}

/// The object of the work item that polls an AFU.
#[pin_data]
struct State {
    function: ARef<pci::Device>,
    hardware: Hardware,
    /// See the head of this file.
    #[pin]
    places: Mutex<Places>,
    gone: SetOnce<Gone>,
    /// How often the message of a slot may come.
    message_rate: Arc<MaxRate>,
}

impl State {
    /// Ends all contexts: their programs and guests reach nothing any more, and programs are told.
    /// Returns whether no other caller was first. May sleep.
    fn end(&self, reason: Gone) -> bool {
        let is_first = self.close(reason);

        // The others do this, too, so that none returns before all is over.
        for index in 0..self.hardware.descriptor().contexts {
            let bypasses = self.bypasses(index);

            // Guests lose interrupts with no lock held.
            if let Some(bypasses) = bypasses {
                bypasses.end();
            }
        }
        let reason = self.gone.as_ref().copied().unwrap_or(reason);
        for client in self.places.lock().clients() {
            client.events.end(Event::Gone(reason));
        }
        is_first
    }

    /// Closes all mappings. Returns whether that was not done before. May sleep.
    fn close(&self, reason: Gone) -> bool {
        let places = self.places.lock();

        if !self.gone.populate(reason) {
            return false;
        }
        // All of them before pollers of one are woken, for a program may have several.
        for client in places.clients() {
            client.mapping.begin_close();
        }
        for client in places.clients() {
            client.mapping.close();
        }
        true
    }

    /// Returns the interrupts that guests can have of the context in place `index`, if one is open there.
    fn bypasses(&self, index: u32) -> Option<Arc<Bypasses>> {
        let places = &mut *self.places.lock();
        let client = places.get(index).ok()?.client.as_ref()?;

        Some(client.bypasses.clone())
    }

    /// Ends all contexts of an AFU that is not there. May sleep.
    fn lose(&self, lost: Lost) {
        if !self.end(Gone::Silent) {
            return;
        }
        match lost {
            Lost::Silent => dev_warn!(
                self.function,
                "it does not answer any more: its contexts are ended\n"
            ),
            Lost::Absent => dev_warn!(
                self.function,
                "it is not there any more: its contexts are ended\n"
            ),
        }
        // If it comes back it must send no message: all contexts are ended.
        self.hardware.close_store();
    }

    /// Looks after the AFU.
    ///
    /// # Errors
    ///
    /// - `ENXIO` if what is read of it says that it is not there.
    /// - `ENODEV` if it is cut off.
    fn poll(&self) -> Result<Finding> {
        let places = &mut *self.places.lock();

        // It may be out of reach soon, and there is nobody to tell of it.
        if self.gone.as_ref().is_some() {
            return Ok(Finding::Over);
        }
        let answered = self.hardware.pong()? == places.ping;

        if answered {
            places.silent = 0;
            places.ping = next_number(places.ping);
            self.hardware.ping(places.ping)?;
        } else {
            places.silent += 1;
        }
        for (index, place) in (0..).zip(&mut places.places) {
            let Some(Client { events, .. }) = &place.client else {
                continue;
            };

            // Only of an AFU that has answered: one that is not there may read as anything.
            if answered
                && place.attachment != Attachment::Detached
                && self.hardware.errors(index)? != place.errors
            {
                let error = self.hardware.error(index)?;
                // If there is no room it is told with later errors, when the program has read some.
                if events.offer(event(&error, place.errors)) {
                    place.errors = error.count;
                }
            }
        }
        Ok(match places.silent < SILENT_POLLS {
            true => Finding::There {
                in_use: places.taken > 0,
            },
            false => Finding::Silent,
        })
    }
}

/// Returns the event that tells of the errors of a context after the first `told`.
fn event(error: &AfuError, told: u32) -> Event {
    let count = error.count.wrapping_sub(told).into();

    match error.kind {
        ADDRESS_FAULT => Event::AfuFault {
            address: error.address,
            code: error.code,
            count,
        },
        _ => Event::AfuError {
            code: error.code,
            count,
        },
    }
}

impl Work for State {
    fn run(worker: &Worker<Self>) {
        match worker.poll() {
            Ok(Finding::There { in_use: true }) => worker.queue_after(msecs_to_jiffies(POLL_MS)),
            Ok(Finding::There { in_use: false } | Finding::Over) => (),
            Ok(Finding::Silent) => worker.lose(Lost::Silent),
            Err(ENXIO) => worker.lose(Lost::Absent),
            // Cut off, and all ended.
            Err(_) => (),
        }
    }
}

/// A PCI function that is an AFU, from one reset to the next.
#[pin_data]
pub(crate) struct Afu {
    /// Its work is to look after the AFU.
    #[pin]
    state: Worker<State>,
}

impl Afu {
    /// Makes the AFU with `parts`, and resets it, so that it has no contexts. The message of a slot may
    /// come as often as `message_rate` says.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it does not answer.
    /// - `ENOMEM` if there is no memory.
    pub(crate) fn start(
        platform: &Arc<Platform>,
        function: &pci::Device<Bound>,
        parts: Arc<Parts>,
        message_rate: Arc<MaxRate>,
    ) -> Result<Arc<Self>> {
        let messages = MessagePool::new(platform, function, parts.descriptor.messages())?;
        let afu = Self::new(function, Hardware::new(parts, messages)?, message_rate)
            .and_then(|afu| afu.reset().map(|()| afu));

        afu.map_err(|error| match error {
            ENOMEM => ENOMEM,
            _ => {
                dev_err!(function, "it does not answer\n");
                ENODEV
            }
        })
    }

    /// Makes the AFU with `hardware`, with all places free.
    ///
    /// # Errors
    ///
    /// - `ENOMEM` if there is no memory.
    /// - `ENXIO` if it is not there.
    fn new(
        function: &pci::Device<Bound>,
        hardware: Hardware,
        message_rate: Arc<MaxRate>,
    ) -> Result<Arc<Self>> {
        let contexts = hardware.descriptor().contexts;
        let mut list = KVec::with_capacity(contexts as usize, GFP_KERNEL)?;
        for _ in 0..contexts {
            list.push(Place::new(), GFP_KERNEL)?;
        }
        let places = Places {
            places: list,
            taken: 0,
            // As if it had been asked: it is found to be there by the first answer after this.
            ping: hardware.pong()?,
            silent: 0,
        };

        Arc::pin_init(
            try_pin_init!(Self {
                state <- Worker::new(static_lock_class!(), try_pin_init!(State {
                    function: function.into(),
                    hardware,
                    places <- new_mutex!(places, "uxive_places"),
                    gone: SetOnce::new(),
                    message_rate,
                }? Error)),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Takes a free place of `afu`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is none, `ENODEV` if the AFU is gone.
    pub(crate) fn reserve(afu: &Arc<Self>) -> Result<AfuContext> {
        let places = &mut *afu.state.places.lock();
        let mut free = (0..).zip(&mut places.places);

        if afu.is_gone() {
            return Err(ENODEV);
        }
        let (index, place) = free.find(|(_, place)| !place.taken).ok_or(ENOSPC)?;
        place.taken = true;
        places.taken += 1;
        Ok(AfuContext {
            afu: afu.clone(),
            index,
        })
    }

    /// Returns whether the AFU is there no more.
    fn is_gone(&self) -> bool {
        self.state.gone.as_ref().is_some()
    }

    fn descriptor(&self) -> &Descriptor {
        self.state.hardware.descriptor()
    }

    /// Returns how many places are taken.
    pub(crate) fn contexts(&self) -> u32 {
        self.state.places.lock().taken
    }

    /// Ends all contexts, resets the AFU, and stops all accesses to the function. May sleep.
    pub(crate) fn stop(&self, reason: Gone) {
        self.state.end(reason);
        // It fails if the AFU is gone, and need not succeed.
        let _ = self.state.hardware.reset();
        self.state.hardware.close_store();
        self.state.hardware.cut_off();
    }

    /// As [`Self::stop`], of an AFU that is out of reach and cannot be reset.
    pub(crate) fn abandon(&self, reason: Gone) {
        self.state.hardware.cut_off();
        self.state.end(reason);
        self.state.hardware.close_store();
    }

    /// Makes the AFU forget all contexts.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it does not answer, `ENXIO` if it is not there.
    fn reset(&self) -> Result {
        let hardware = &self.state.hardware;
        let number = hardware.reset()?;

        for _ in 0..ANSWER_TRIES {
            if hardware.is_reset(number)? {
                return hardware.clear_store();
            }
            fsleep(Delta::from_millis(1));
        }
        Err(ENODEV)
    }
}

/// The metadata of an AFU, for a program.
pub(crate) struct Metadata {
    pub(crate) version_major: u8,
    pub(crate) version_minor: u8,
    pub(crate) pasid: u32,
    /// Of the context, in bytes.
    pub(crate) mmio_size: u64,
    /// Of the MMIO for all contexts, in bytes.
    pub(crate) global_size: u64,
}

/// The place of a context in an AFU.
///
/// When dropped it is given back, unless the AFU has not confirmed that the context is detached.
pub(crate) struct AfuContext {
    afu: Arc<Afu>,
    index: u32,
}

impl AfuContext {
    /// Enters the context that has just been opened here: `events` are told of the AFU, and `mapping` is
    /// closed and `bypasses` are ended with it.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is gone.
    pub(crate) fn enter(
        &self,
        events: Arc<EventLog>,
        mapping: Arc<FileMapping>,
        bypasses: Arc<Bypasses>,
    ) -> Result {
        {
            let places = &mut *self.afu.state.places.lock();

            // The end of all contexts, if it comes after this, finds the client.
            if self.afu.is_gone() {
                return Err(ENODEV);
            }
            places.get(self.index)?.client = Some(Client {
                events,
                mapping,
                bypasses,
            });
        }
        self.afu.state.queue();
        Ok(())
    }

    /// Returns how often the message of a slot may come.
    pub(crate) fn message_rate(&self) -> &Arc<MaxRate> {
        &self.afu.state.message_rate
    }

    /// Takes out the context, which is about to be closed.
    pub(crate) fn leave(&self) {
        let client = match self.afu.state.places.lock().get(self.index) {
            Ok(place) => place.client.take(),
            Err(_) => None,
        };

        // Dropped with no lock held.
        drop(client);
    }

    pub(crate) fn metadata(&self) -> Metadata {
        let descriptor = self.afu.descriptor();

        Metadata {
            version_major: descriptor.major,
            version_minor: descriptor.minor,
            pasid: self.index,
            mmio_size: descriptor.mmio_size,
            global_size: descriptor.global.end - descriptor.global.start,
        }
    }

    /// Returns the MMIO of the context for `mapping`, where it lies at offset 0.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is gone, `ENOMEM` if there is no memory.
    pub(crate) fn map_mmio(&self, mapping: Arc<FileMapping>) -> Result<MappedBar> {
        let hardware = &self.afu.state.hardware;

        MappedBar::new(hardware.mmio(), hardware.mmio_of(self.index)?, mapping, 0)
    }

    /// Asks the AFU to attach the context, and waits until it confirms. May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if it was attached before, or the AFU has not confirmed it in time; `ENODEV` if the
    /// AFU is gone.
    pub(crate) fn attach(&self) -> Result {
        let state = {
            let places = &mut *self.afu.state.places.lock();
            let place = places.get(self.index)?;

            if self.afu.is_gone() {
                return Err(ENODEV);
            }
            if place.attachment != Attachment::Detached {
                return Err(EIO);
            }
            // If the AFU is not there, the poll will find that out.
            place.errors = injectable!(
                uxive_read_afu_errors,
                ENODEV,
                self.afu.state.hardware.errors(self.index)
            )
            .map_err(|_| ENODEV)?;
            place.attachment = Attachment::Attached;
            self.request(place, true)?
        };

        // If it confirms later, the context is attached, and must be detached.
        match self.is_confirmed(state, ANSWER_TRIES)? {
            true => Ok(()),
            false if self.afu.is_gone() => Err(ENODEV),
            false => Err(EIO),
        }
    }

    /// Asks the AFU to attach or detach the context. Returns the state that confirms it.
    fn request(&self, place: &mut Place, attach: bool) -> Result<u32> {
        place.requests = place.requests.wrapping_add(1);
        self.afu
            .state
            .hardware
            .request(self.index, attach, place.requests)
    }

    /// Returns whether the AFU says `state` of the context, within `tries` milliseconds.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is gone.
    fn is_confirmed(&self, state: u32, tries: usize) -> Result<bool> {
        let afu = &self.afu.state;

        for _ in 0..=tries {
            match afu.hardware.state(self.index) {
                Ok(found) if found == state => return Ok(true),
                Ok(_) => (),
                Err(ENXIO) => {
                    afu.lose(Lost::Absent);
                    return Err(ENODEV);
                }
                Err(error) => return Err(error),
            }
            if tries == 0 || self.afu.is_gone() {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        Ok(false)
    }

    /// Detaches the context from the AFU, and waits `tries` milliseconds until it confirms. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Afu`] if it has not confirmed: this must be called again later.
    pub(crate) fn detach(&self, tries: usize) -> Result<(), QuiesceError> {
        // An AFU that is gone is not waited for: it gives this place to no other context.
        if self.afu.is_gone() {
            return Ok(());
        }
        match self.try_detach(tries) {
            Ok(false) if !self.afu.is_gone() => Err(QuiesceError::Afu),
            // Confirmed, or unbound meanwhile.
            _ => Ok(()),
        }
    }

    /// As [`Self::detach`]. Returns whether it is confirmed.
    fn try_detach(&self, tries: usize) -> Result<bool> {
        let state = {
            let places = &mut *self.afu.state.places.lock();
            let place = places.get(self.index)?;

            match place.attachment {
                Attachment::Detached => return Ok(true),
                Attachment::Detaching(state) => state,
                Attachment::Attached => {
                    let state = self.request(place, false)?;
                    place.attachment = Attachment::Detaching(state);
                    state
                }
            }
        };
        let confirmed = self.is_confirmed(state, tries)?;

        if confirmed {
            self.afu.state.places.lock().get(self.index)?.attachment = Attachment::Detached;
        }
        Ok(confirmed)
    }

    /// Returns whether the AFU may be working for the context.
    pub(crate) fn is_attached(&self) -> bool {
        match self.afu.state.places.lock().get(self.index) {
            Ok(place) => place.attachment != Attachment::Detached,
            Err(_) => false,
        }
    }

    /// Returns the entry of the message store for slot `index` of the context, if there is one.
    pub(crate) fn entry(&self, index: usize) -> Option<ImsEntry> {
        let slot = u32::try_from(index).ok()?;

        (slot < self.afu.descriptor().slots).then(|| ImsEntry {
            afu: self.afu.clone(),
            context: self.index,
            slot,
            open: Atomic::new(false),
        })
    }

    /// Shows the place in `/proc/<pid>/fdinfo/<fd>`.
    pub(crate) fn show(&self, m: &SeqFile) {
        let state = match (self.afu.state.gone.as_ref(), self.is_attached()) {
            (Some(_), _) => "gone",
            (None, true) => "attached",
            (None, false) => "detached",
        };

        seq_print!(
            m,
            "uxive-afu:\t{} pasid:{} {state}\n",
            self.afu.descriptor().name,
            self.index
        );
    }
}

impl Drop for AfuContext {
    fn drop(&mut self) {
        let places = &mut *self.afu.state.places.lock();

        if let Ok(place) = places.get(self.index) {
            if place.attachment == Attachment::Detached {
                place.taken = false;
                places.taken -= 1;
            }
        }
    }
}

/// The entry of an AFU's message store for a slot of a context. Closed when it is made.
pub(crate) struct ImsEntry {
    afu: Arc<Afu>,
    context: u32,
    slot: u32,
    open: Atomic<bool>,
}

impl ImsEntry {
    /// Returns where messages for it come from.
    pub(crate) fn messages(&self) -> &Arc<MessagePool> {
        self.afu.state.hardware.messages()
    }

    /// Lets the AFU send `message` for work of the context's queue `queue_id`, 0 for any.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is unbound.
    pub(crate) fn open(&self, message: MsiMsg, queue_id: u32) -> Result {
        let hardware = &self.afu.state.hardware;

        self.open.store(true, Relaxed);
        injectable!(
            uxive_open_ims_entry,
            ENODEV,
            hardware.open_entry(self.context, self.slot, message, queue_id)
        )
    }

    /// Stops the AFU from sending it. When this returns the last one has been sent.
    pub(crate) fn close(&self) {
        if !self.open.xchg(false, Relaxed) {
            return;
        }
        self.afu.state.hardware.close_entry(self.context, self.slot);
    }
}

impl Drop for ImsEntry {
    fn drop(&mut self) {
        self.close();
    }
}
