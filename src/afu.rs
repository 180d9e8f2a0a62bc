// SPDX-License-Identifier: GPL-2.0

//! Accelerators (AFUs): PCI functions whose contexts programs open, `/dev/ocxl/<name>...`.
//!
//! An [`Afu`] is a function that the driver is bound to, from one reset of it to the next, and what
//! may be left of one: it stays as long as a context of it is open. A context has a place in it, an
//! [`AfuContext`], which its estate has, so that it is kept with all else until the AFU confirms
//! that it has let go.
//!
//! The node belongs to an [`AfuNode`], which stays as long as the driver is bound and knows the AFU
//! that there is at present. When the function is about to be reset, or there was an error on the
//! way to it, that one ends as if it were unbound; when the function can be used again, another
//! takes its place.
//!
//! What an AFU has to be is in `Documentation/driver-api/uxive-afu.rst`. Its descriptor is checked
//! once (`descriptor`); its registers and its store of messages are behind [`Hardware`]. While it
//! has contexts the driver asks it ten times a second whether it is there, and takes the errors it
//! reports. There is no interrupt for that: nothing that a broken AFU does can load the machine by
//! it.
//!
//! # Locks
//!
//! [`AfuNode::current`] guards which AFU there is; nothing is taken under it.
//!
//! [`State::places`] guards who has which place, from [`Afu::reserve`] to the drop of an
//! [`AfuContext`]. Under it are taken, one at a time: the slots of an estate (3 of `context.rs`);
//! the `views` of its mapping (4), and under that the `i_mmap_rwsem` of that and of its exports
//! (5); its event log; which exports it has; and the drain of its queue. The mutex of the store in
//! [`Hardware`] is innermost, and taken under 1 of `context.rs` at most.
//!
//! The callbacks of the PCI core hold the lock of the device, which none of the others is held
//! around.

mod descriptor;
mod hardware;

use crate::{
    context::Shared,
    estate::Estate,
    events::{
        Event,
        Gone, //
    },
    kernel_ext::{
        attribute::Attribute,
        bar::{
            memory_len,
            MappedBar, //
        },
        class::{
            ClassDevice,
            ClassDeviceOptions, //
        },
        fault::may_fail,
        global::module_global,
        mapping::FileMapping,
        pci::{
            restore_state,
            save_state,
            ChannelState,
            DmaOwnership,
            Driver,
            EnabledFunction,
            ErrorResult, //
        },
        work::{
            Work,
            Worker, //
        }, //
    },
    layout::Window,
    xive::{
        MessagePool,
        MsiMsg,
        QuiesceError, //
    },
    ContextFile, //
};
use descriptor::{
    Descriptor,
    Function,
    MsixTable, //
};
use hardware::{
    next_number,
    AfuError,
    Hardware,
    Parts,
    ADDRESS_FAULT, //
};
use kernel::{
    device::{
        Bound,
        Core, //
    },
    io::Io,
    new_mutex,
    pci,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    static_lock_class,
    str::CString,
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

/// How often the message of a slot may come in a second, if root sets nothing else.
const MESSAGE_RATE: u32 = 100_000;

/// What is known of an open context.
struct Member {
    estate: Arc<Estate>,
    mapping: Arc<FileMapping>,
}

/// How a place stands with the AFU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attachment {
    /// It was not asked to attach it, or has detached it.
    Detached,
    /// It was asked to.
    Attached,
    /// It was asked to detach it, and will confirm that by this state.
    Detaching(u32),
}

/// A place for a context.
struct Place {
    /// A context has it, open or closed.
    taken: bool,
    /// The context, while it is open.
    member: Option<Member>,
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
            member: None,
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
}

/// What the poll of an AFU finds.
enum Finding {
    /// It is there. Whether there are contexts, so that it is to be looked after.
    There { in_use: bool },
    /// It does not answer any more.
    Silent,
    /// All contexts are ended, and nobody is to touch it.
    Over,
}

/// What the poll of an AFU works on.
#[pin_data]
struct State {
    function: ARef<pci::Device>,
    hardware: Hardware,
    /// See the head of this file.
    #[pin]
    places: Mutex<Places>,
    gone: SetOnce<Gone>,
    /// In a second.
    message_rate: Atomic<u32>,
}

impl State {
    /// Ends all contexts: their programs are told, and reach nothing any more. Returns whether that
    /// was not done before. May sleep.
    fn end(&self, reason: Gone) -> bool {
        let places = self.places.lock();

        // Under the lock, so that who comes second does not return before all is over.
        if !self.gone.populate(reason) {
            return false;
        }
        for member in places
            .places
            .iter()
            .filter_map(|place| place.member.as_ref())
        {
            // A fault that has not seen it is over then.
            drop(member.estate.lock());
            member.mapping.zap_all();
            member.estate.events().end(Event::Gone(reason));
            member.estate.exports().hang_up();
        }
        true
    }

    /// Ends all contexts of an AFU that is not there. May sleep.
    fn lose(&self, how: &str) {
        if self.end(Gone::Silent) {
            dev_warn!(self.function, "it {how}: its contexts are ended\n");
            // It may come back, to nobody.
            self.hardware.close_store();
        }
    }

    /// Looks after the AFU.
    ///
    /// # Errors
    ///
    /// - `ENXIO` if what is read of it says that it is not there.
    /// - `ENODEV` if it is cut off.
    fn poll(&self) -> Result<Finding> {
        let places = &mut *self.places.lock();
        // One can come, or there would be nothing to count.
        let limit = (self.message_rate.load(Relaxed) / (1000 / POLL_MS)).max(1);

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
            let Some(member) = &place.member else {
                continue;
            };
            let estate = &member.estate;

            if let Some(queue) = estate.queue() {
                queue.moderate(limit, |slot| {
                    let offset = Window::TRIGGER.offset(slot).unwrap_or(0);
                    estate.events().report(Event::Storm {
                        offset,
                        count: limit.into(),
                    });
                });
            }
            // What one that is not there seems to say is nothing.
            if answered
                && place.attachment != Attachment::Detached
                && self.hardware.errors(index)? != place.errors
            {
                let error = self.hardware.error(index)?;
                // Else with those that are to come, when the program has read some.
                if estate.events().offer(event(&error, place.errors)) {
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
            Ok(Finding::Silent) => worker.lose("does not answer any more"),
            Err(ENXIO) => worker.lose("is not there any more"),
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
    /// Makes the one with `parts` and has it forget all contexts, as it is before the first.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it does not answer.
    /// - `ENOMEM` if there is no memory.
    fn start(
        shared: &Shared,
        function: &pci::Device<Bound>,
        parts: Arc<Parts>,
    ) -> Result<Arc<Self>> {
        let messages = MessagePool::new(&shared.platform, function)?;
        let afu = Self::new(function, Hardware::new(parts, messages)?)
            .and_then(|afu| afu.reset().map(|()| afu));

        afu.map_err(|error| match error {
            ENOMEM => ENOMEM,
            _ => {
                dev_err!(function, "it does not answer\n");
                ENODEV
            }
        })
    }

    /// Makes the one with `hardware`, all of whose places are free.
    ///
    /// # Errors
    ///
    /// - `ENOMEM` if there is no memory.
    /// - `ENXIO` if it is not there.
    fn new(function: &pci::Device<Bound>, hardware: Hardware) -> Result<Arc<Self>> {
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
                    message_rate: Atomic::new(MESSAGE_RATE),
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
    #[inline]
    fn is_gone(&self) -> bool {
        self.state.gone.as_ref().is_some()
    }

    fn descriptor(&self) -> &Descriptor {
        self.state.hardware.descriptor()
    }

    /// Returns how many places are taken.
    fn contexts(&self) -> u32 {
        self.state.places.lock().taken
    }

    /// Ends all contexts, and has nothing touch the function any more. May sleep.
    fn stop(&self, reason: Gone) {
        self.state.end(reason);
        // It may be gone, and what is left of it is of no use.
        let _ = self.state.hardware.reset();
        self.state.hardware.close_store();
        self.state.hardware.cut_off();
    }

    /// As [`Self::stop`], of one that is out of reach and would not take what it is told.
    fn abandon(&self, reason: Gone) {
        self.state.hardware.cut_off();
        self.state.end(reason);
        self.state.hardware.close_store();
    }

    /// Has the AFU forget all contexts.
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

/// What the node of an AFU opens, as long as the driver is bound to the function.
#[pin_data]
pub(crate) struct AfuNode {
    parts: Arc<Parts>,
    /// The AFU since the last reset, or the one that has ended with that.
    #[pin]
    current: Mutex<Arc<Afu>>,
}

impl AfuNode {
    fn new(parts: Arc<Parts>, afu: Arc<Afu>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                parts,
                current <- new_mutex!(afu, "uxive_afu"),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the AFU that there is at present.
    pub(crate) fn afu(&self) -> Arc<Afu> {
        self.current.lock().clone()
    }

    /// Has the node open `afu` from now on.
    fn replace(&self, afu: Arc<Afu>) {
        let old = {
            let mut current = self.current.lock();
            let rate = current.state.message_rate.load(Relaxed);

            afu.state.message_rate.store(rate, Relaxed);
            core::mem::replace(&mut *current, afu)
        };

        // Dropped with no lock held.
        drop(old);
    }

    fn descriptor(&self) -> &Descriptor {
        &self.parts.descriptor
    }

    fn message_rate(&self) -> u32 {
        self.current.lock().state.message_rate.load(Relaxed)
    }

    fn set_message_rate(&self, rate: u32) {
        // With the lock held, or one that takes its place could be left with the old one.
        self.current.lock().state.message_rate.store(rate, Relaxed);
    }
}

/// What a program is told of its AFU.
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
/// When dropped it is given back, unless the AFU has not confirmed that it has let go of it.
pub(crate) struct AfuContext {
    afu: Arc<Afu>,
    index: u32,
}

impl AfuContext {
    /// Returns whether the AFU is there no more.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.afu.is_gone()
    }

    /// Enters the context that has just been opened here, to be told of the AFU.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is gone.
    pub(crate) fn enter(&self, estate: &Arc<Estate>, mapping: &Arc<FileMapping>) -> Result {
        {
            let places = &mut *self.afu.state.places.lock();

            // Whoever ends all contexts after this finds it.
            if self.is_gone() {
                return Err(ENODEV);
            }
            places.get(self.index)?.member = Some(Member {
                estate: estate.clone(),
                mapping: mapping.clone(),
            });
        }
        self.afu.state.queue();
        Ok(())
    }

    /// Takes out the context, which is about to be closed.
    pub(crate) fn leave(&self) {
        let member = match self.afu.state.places.lock().get(self.index) {
            Ok(place) => place.member.take(),
            Err(_) => None,
        };

        // Dropped with no lock held.
        drop(member);
    }

    /// Tells what the AFU is.
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

    /// Has the AFU attach the context. May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if it was attached before, or the AFU has not confirmed it in time; `ENODEV` if the
    /// AFU is gone.
    pub(crate) fn attach(&self) -> Result {
        let state = {
            let places = &mut *self.afu.state.places.lock();
            let place = places.get(self.index)?;

            if self.is_gone() {
                return Err(ENODEV);
            }
            if place.attachment != Attachment::Detached {
                return Err(EIO);
            }
            may_fail(EIO)?;
            // The poll sees to one that is not there.
            place.errors = self
                .afu
                .state
                .hardware
                .errors(self.index)
                .map_err(|_| ENODEV)?;
            place.attachment = Attachment::Attached;
            self.request(place, true)?
        };

        // If it confirms later, it is attached, and to be detached.
        match self.is_confirmed(state, ANSWER_TRIES)? {
            true => Ok(()),
            false if self.is_gone() => Err(ENODEV),
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
                    afu.lose("is not there any more");
                    return Err(ENODEV);
                }
                Err(error) => return Err(error),
            }
            if tries == 0 || self.is_gone() {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        Ok(false)
    }

    /// Has the AFU let go of the context, for which it is given `tries` milliseconds. May sleep.
    ///
    /// # Errors
    ///
    /// [`QuiesceError::Afu`] if it has not confirmed that: this is to be called again later.
    pub(crate) fn detach(&self, tries: usize) -> Result<(), QuiesceError> {
        // One that is gone is not waited for. It does not get this place again either.
        if self.is_gone() {
            return Ok(());
        }
        match self.try_detach(tries) {
            Ok(false) if !self.is_gone() => Err(QuiesceError::Afu),
            // Unbound meanwhile, else.
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

    /// Has the AFU send `message` for work of the context's queue `queue_id`, 0 for any.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the AFU is unbound.
    pub(crate) fn open(&self, message: MsiMsg, queue_id: u32) -> Result {
        may_fail(ENODEV)?;
        self.open.store(true, Relaxed);
        self.afu
            .state
            .hardware
            .open_entry(self.context, self.slot, message, queue_id)
    }

    /// Has the AFU not send it any more. When this returns the last one has been sent.
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

/// The files of an AFU.
pub(crate) type AfuFile = ContextFile<Arc<AfuNode>>;

/// Its attributes: those of ocxl, and one more.
static ATTRIBUTES: [Attribute<AfuFile, ClassDevice<AfuFile>>; 5] = [
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
        |node: &Arc<AfuNode>| node.message_rate() as usize,
        |node: &Arc<AfuNode>, rate| {
            node.set_message_rate(u32::try_from(rate).map_err(|_| ERANGE)?);
            Ok(())
        },
    ),
];

module_global! {
    /// What all contexts share, for functions that are bound. No AFU refers to it: it refers to
    /// what was not let go of, and that to its AFU.
    pub(crate) shared: Arc<Shared>
}

/// The driver of functions that are AFUs. It has no table of them: who wants it to drive one says
/// so, by `driver_override` or `new_id` in sysfs.
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
    device: ClassDevice<AfuFile>,
    running: RunningAfu,
    /// Whether the machine goes down, so that it is not to run again. Touched with the device lock
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

    /// Where the host bridges are switched off, to touch an AFU behind one is an error of the
    /// machine.
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
        let class = shared.afu_class().inspect_err(|&error| {
            if error == EBUSY {
                dev_err!(function, "another driver has the class ocxl\n");
            }
        })?;
        let parts = Arc::new(Parts::new(function, bar, descriptor)?, GFP_KERNEL)?;
        let afu = Afu::start(&shared, function, parts.clone())?;

        function.set_master();
        let types = pci::IrqTypes::default().with(pci::IrqType::MsiX);
        let vectors = function.alloc_irq_vectors(1, 1, types)?;
        save_state(function);
        // From its node on it can have contexts, also if a later step of binding fails.
        let node = AfuNode::new(parts.clone(), afu)?;
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

    /// Has the function be an AFU again, after a reset. If it is none, that of before stays gone.
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

        // Of an error before the driver was bound it was not told: what there is has not ended.
        self.device.remove_area(function);
        node.afu().abandon(Gone::Reset);
        let afu = Afu::start(&shared, function, node.parts.clone())?;
        self.device.add_area(function)?;
        node.replace(afu);
        Ok(())
    }
}

/// Has the function do no DMA, nor any that the host bridge cannot tell from it: what it is to keep
/// to is not only believed.
///
/// # Errors
///
/// `EBUSY` if another driver or a program has its DMA, `ENODEV` if nothing can block it, which is
/// said in a line of the log.
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

/// Registers of a PCI function's configuration space, see `include/uapi/linux/pci_regs.h`.
mod config {
    pub(super) const CAPABILITIES: usize = 0x34;
    pub(super) const CAPABILITY_MSIX: u8 = 0x11;
    pub(super) const MSIX_CONTROL: usize = 2;
    pub(super) const MSIX_TABLE: usize = 4;
}

/// Returns where the MSI-X table of a function lies.
///
/// # Errors
///
/// `ENODEV` if it has none.
fn msix_table(function: &pci::Device<Bound>) -> Result<MsixTable> {
    /// As many as fit into the configuration space: the list may be a ring.
    const MOST: usize = 48;
    let config = function.config_space();
    let mut at = config.try_read8(config::CAPABILITIES)?;

    for _ in 0..MOST {
        let capability = usize::from(at & !3);
        if capability == 0 {
            break;
        }
        if config.try_read8(capability)? == config::CAPABILITY_MSIX {
            let control = config.try_read16(capability + config::MSIX_CONTROL)?;
            let table = config.try_read32(capability + config::MSIX_TABLE)?;

            return Ok(MsixTable {
                bar: (table & 7) as usize,
                offset: table & !7,
                entries: (control & 0x7ff) + 1,
            });
        }
        at = config.try_read8(capability + 1)?;
    }
    Err(ENODEV)
}
