// SPDX-License-Identifier: GPL-2.0

//! Promise: the Rust library owns what it allocates. An interrupt lives exactly as long as its
//! object, and a doorbell that was given away returns an error once it was taken back.

mod ktap;

use rustix::net::{
    sendmsg,
    SendAncillaryBuffer,
    SendAncillaryMessage,
    SendFlags, //
};
use std::{
    collections::HashSet,
    env,
    fs::{
        self,
        OpenOptions, //
    },
    io::{
        self,
        IoSlice, //
    },
    os::{
        fd::{
            AsFd,
            OwnedFd, //
        },
        unix::{
            net::UnixStream,
            process::ExitStatusExt, //
        },
    },
    process::{
        Command,
        ExitCode,
        ExitStatus,
        Stdio, //
    },
    sync::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    },
    thread,
    time::Duration, //
};
use uxive::{
    Accelerator,
    Batch,
    Context,
    Endian,
    Event,
    Irqs,
    Origin,
    Receiver,
    Which, //
};

const EIO: i32 = 5;
const EFAULT: i32 = 14;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const ENOSPC: i32 = 28;
const SIGBUS: i32 = 7;

/// Turns a lost event into a failure instead of a hang.
const WATCHDOG: Option<Duration> = Some(Duration::from_secs(100));
const NOT_AT_ALL: Option<Duration> = Some(Duration::ZERO);

/// The argument that turns this program into the receiver.
const RECEIVE: &str = "receive";

#[track_caller]
fn assert_errno<T>(result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("it worked, and was to fail with {errno}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno)),
    }
}

fn irqs(context: &Context) -> u32 {
    context.info().unwrap().irqs.used
}

/// Sets the flag when it is dropped, so that no thread outlives a test that has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Interrupts with an eventfd each.
struct Bound {
    irqs: Irqs,
    events: Vec<Event>,
}

impl Bound {
    fn new(context: &Context, count: u32) -> Self {
        let events: Vec<_> = (0..count).map(|_| Event::new().unwrap()).collect();
        let fds: Vec<_> = events.iter().map(|event| Some(event.as_fd())).collect();
        let batch = Batch {
            events: &fds,
            ..Default::default()
        };

        Self {
            irqs: context.alloc_many(count, &batch).unwrap(),
            events,
        }
    }

    /// Takes the count of one, which was rung; it is then `count`, and nothing came of others.
    #[track_caller]
    fn arrived(&self, index: usize, count: u64) {
        assert_eq!(self.events[index].wait(WATCHDOG).unwrap(), Some(count));
        for event in &self.events {
            assert_eq!(event.wait(NOT_AT_ALL).unwrap(), None);
        }
    }

    /// After a ring without effect: another interrupt's event is the first that comes.
    fn nothing_arrived(&self, context: &Context) {
        let (other, event) = (context.alloc().unwrap(), Event::new().unwrap());

        other.bind(&event).unwrap();
        other.ring();
        assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
        for event in &self.events {
            assert_eq!(event.wait(NOT_AT_ALL).unwrap(), None);
        }
    }
}

fn an_interrupt_lives_as_long_as_its_object() {
    let context = Context::open().unwrap();
    let (first, second) = (context.alloc().unwrap(), context.alloc().unwrap());

    assert_eq!((first.slot(), second.slot()), (0, 1));
    assert_eq!(irqs(&context), 2);
    drop(first);
    assert_eq!(irqs(&context), 1);
    assert_eq!(context.alloc().unwrap().slot(), 0);
    second.free().unwrap();
    assert_eq!(irqs(&context), 0);
}

fn an_interrupt_keeps_its_context() {
    let event = Event::new().unwrap();
    let irq = Context::open().unwrap().alloc().unwrap();

    irq.bind(&event).unwrap();
    irq.ring();
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
}

fn threads_ring_what_they_borrow() {
    const RINGS: u64 = 10_000;
    let context = Context::open().unwrap();
    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    let (arrived, stop) = (AtomicU64::new(0), AtomicBool::new(false));

    irq.bind(&event).unwrap();
    thread::scope(|scope| {
        let _stop = Stop(&stop);

        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    irq.ring();
                    thread::yield_now();
                }
            });
        }
        while arrived.load(Ordering::Relaxed) < RINGS {
            let count = event.wait(WATCHDOG).unwrap();
            arrived.fetch_add(count.unwrap(), Ordering::Relaxed);
        }
    });
    irq.free().unwrap();
    ktap::log(&format!("{} rings arrived", arrived.into_inner()));
}

fn a_batch_is_allocated_bound_and_freed_as_one() {
    let context = Context::open().unwrap();
    let bound = Bound::new(&context, 64);

    assert_eq!((bound.irqs.slots(), irqs(&context)), (0..64, 64));
    for index in [0, 63, 7] {
        bound.irqs.ring(index);
        bound.arrived(index as usize, 1);
    }
    bound.irqs.free().unwrap();
    assert_eq!(irqs(&context), 0);
}

fn a_batch_is_all_or_nothing() {
    let context = Context::open().unwrap();
    let event = Event::new().unwrap();
    let at = |start| Batch {
        start: Some(start),
        ..Default::default()
    };

    let first = context.alloc_many(4, &at(10)).unwrap();
    assert_eq!(first.slots(), 10..14);
    assert_errno(context.alloc_many(4, &at(7)), EBUSY);
    assert_errno(context.alloc_many(u32::MAX, &Batch::default()), ENOSPC);
    assert_errno(context.alloc_many(0, &Batch::default()), EINVAL);
    // One eventfd for two interrupts.
    let batch = Batch {
        events: &[Some(event.as_fd())],
        ..Default::default()
    };
    assert_errno(context.alloc_many(2, &batch), EINVAL);
    assert_eq!(irqs(&context), 4);
    drop(first);
    assert_eq!(irqs(&context), 0);
}

fn interrupts_come_from_where_they_are_wanted() {
    let context = Context::open().unwrap();

    context.alloc_from(Origin::Chip(0)).unwrap();
    context.alloc_from(Origin::Node(0)).unwrap();
    assert_errno(context.alloc_from(Origin::Chip(4000)), ENODEV);
    let batch = Batch {
        origin: Origin::Node(4000),
        ..Default::default()
    };
    assert_errno(context.alloc_many(2, &batch), ENODEV);
}

fn a_masked_interrupt_comes_once_when_it_is_unmasked() {
    let context = Context::open().unwrap();
    let bound = Bound::new(&context, 3);

    bound.irqs.mask(Which::Each(&[false, true])).unwrap();
    for index in [1, 1, 1, 0] {
        bound.irqs.ring(index);
    }
    bound.arrived(0, 1);
    bound.irqs.unmask(Which::All).unwrap();
    bound.arrived(1, 1);
    bound
        .irqs
        .raise(Which::Each(&[false, false, true]))
        .unwrap();
    bound.arrived(2, 1);

    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    irq.bind(&event).unwrap();
    irq.mask().unwrap();
    irq.ring();
    bound.irqs.ring(2);
    bound.arrived(2, 1);
    assert_eq!(event.wait(NOT_AT_ALL).unwrap(), None);
    irq.unmask().unwrap();
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
}

fn eventfds_of_many_change_in_one_call() {
    let context = Context::open().unwrap();
    let bound = Bound::new(&context, 3);
    let event = Event::new().unwrap();

    bound.irqs.bind(1, &[Some(event.as_fd()), None]).unwrap();
    for index in [2, 1] {
        bound.irqs.ring(index);
    }
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
    bound.nothing_arrived(&context);
    // There is no interrupt of index 3.
    assert_errno(bound.irqs.bind(2, &[None, None]), EINVAL);
    bound.irqs.ring(0);
    bound.arrived(0, 1);
}

fn a_range_is_a_context_of_its_own() {
    let context = Context::open().unwrap();
    let range = context.range(65536).unwrap();
    let last = Batch {
        start: Some(65535),
        ..Default::default()
    };
    let (irqs_of_range, event) = (range.alloc_many(1, &last).unwrap(), Event::new().unwrap());

    assert_eq!((irqs(&range), irqs(&context)), (1, 0));
    drop(context);
    irqs_of_range.bind(0, &[Some(event.as_fd())]).unwrap();
    irqs_of_range.ring(0);
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
}

fn a_range_can_be_drained() {
    let range = Context::open().unwrap().range(65536).unwrap();
    let mut drain = range.drain(1000).unwrap();

    for slot in [0, 999] {
        drain.ring(slot);
        assert_eq!(drain.wait(WATCHDOG).unwrap(), Some(slot));
        drain.eoi(slot);
    }
}

/// The driver's part of an accelerator, to which it is bound as long as this lives.
struct Afu {
    address: String,
}

impl Afu {
    /// `None` if the machine has none.
    fn bind() -> Option<Self> {
        let functions = fs::read_dir("/sys/bus/pci/devices").ok()?;
        let function = functions.flatten().map(|entry| entry.path()).find(|path| {
            let is = |name, id| fs::read_to_string(path.join(name)).is_ok_and(|it| it.trim() == id);

            is("vendor", "0x1af4") && is("device", "0x1110")
        })?;
        let address = function.file_name()?.to_str()?.to_owned();

        fs::write(function.join("driver_override"), "uxive").unwrap();
        fs::write("/sys/bus/pci/drivers/uxive/bind", &address).unwrap();
        Some(Self { address })
    }

    fn open(&self) -> OwnedFd {
        let nodes = fs::read_dir("/dev/ocxl").unwrap().flatten();
        let mut paths = nodes.map(|entry| entry.path());
        let path = paths.find(|path| path.to_string_lossy().contains(&self.address));
        let mut options = OpenOptions::new();

        (options.read(true).write(true).open(path.unwrap()).unwrap()).into()
    }
}

impl Drop for Afu {
    fn drop(&mut self) {
        let path = format!("/sys/bus/pci/devices/{}/driver_override", self.address);

        let _ = fs::write(path, "\n");
        let _ = fs::write("/sys/bus/pci/drivers/uxive/unbind", &self.address);
    }
}

fn a_message_of_an_accelerator_can_be_ended() {
    let Some(afu) = Afu::bind() else {
        ktap::log("the machine has no accelerator");
        return;
    };
    let accelerator = Accelerator::try_from(afu.open()).unwrap();
    let file = accelerator.as_fd().try_clone_to_owned().unwrap();
    let mut drain = accelerator.into_context().drain(4).unwrap();
    let accelerator = Accelerator::try_from(file).unwrap();
    let message = accelerator.message(None, None).unwrap();

    message.raise().unwrap();
    let told = drain.wait(WATCHDOG).unwrap();
    assert_eq!((message.message_slot(), told), (4, Some(16384 + 4)));
    drain.eoi(16384 + 4);
    drain.ring(3);
    assert_eq!(drain.wait(WATCHDOG).unwrap(), Some(3));
    drain.eoi(3);
}

/// Registers of the model accelerator, see `afu_model.h`: commands submitted, the first command, its
/// opcode and its value. It raises the message slot that the value tells.
const TAIL: u64 = 0;
const OPCODE: u64 = 0x1000;
const VALUE: u64 = OPCODE + 32;
const RAISE: u32 = 4;

fn an_accelerator_raises_a_message() {
    let Some(afu) = Afu::bind() else {
        ktap::log("the machine has no accelerator");
        return;
    };
    let accelerator = Accelerator::try_from(afu.open()).unwrap();
    let event = Event::new().unwrap();
    let message = accelerator.message(None, Some(event.as_fd())).unwrap();
    let metadata = accelerator.metadata().unwrap();
    let registers = accelerator.attach().unwrap();
    let slot = message.message_slot().into();

    assert_eq!(registers.length(), metadata.registers);
    registers.write_u64(VALUE, slot, Endian::Little);
    registers.write_u32(OPCODE, RAISE, Endian::Little);
    registers.write_u64(TAIL, 1, Endian::Little);
    assert_eq!(event.wait(WATCHDOG).unwrap(), Some(1));
    assert_errno(accelerator.attach(), EIO);
    message.free().unwrap();
}

fn a_file_of_another_kind_is_no_context() {
    let file = OwnedFd::from(fs::File::open("/proc/self/exe").unwrap());

    assert!(Context::try_from(file).is_err());
    let context = Context::open().unwrap();
    let file = context.as_fd().try_clone_to_owned().unwrap();
    assert_errno(Accelerator::try_from(file), ENOTTY);
}

fn nothing_befalls_a_context() {
    let context = Context::open().unwrap();

    assert_eq!(
        context.report(Some(Duration::from_millis(1))).unwrap(),
        None
    );
}

/// Gives the doorbells away, to this program.
fn received(irqs: &Irqs) -> (uxive::Export, Receiver) {
    let export = irqs.export().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();

    export.send(&ours).unwrap();
    let receiver = Receiver::receive(&theirs).unwrap();
    assert_eq!(receiver.count(), irqs.count());
    (export, receiver)
}

fn a_doorbell_that_was_received_rings() {
    const RINGS: usize = 10_000;
    let context = Context::open().unwrap();
    let bound = Bound::new(&context, 4);
    let (export, receiver) = received(&bound.irqs);

    // Its own references are not needed for it.
    drop(export);
    for ring in 0..RINGS {
        let index = ring % 4;
        match ring % 2 {
            0 => receiver.ring(index as u32).unwrap(),
            _ => receiver.store(index as u32),
        }
        assert_eq!(bound.events[index].wait(WATCHDOG).unwrap(), Some(1));
    }
}

fn a_file_of_another_kind_is_no_doorbell() {
    const PATH: &str = "/tmp/uxive-precious";
    const LENGTH: usize = 64 * 1024;
    let precious = vec![b'x'; LENGTH];

    fs::write(PATH, &precious).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(PATH)
        .unwrap();
    assert_errno(Receiver::map(&file), ENOTTY);
    assert_errno(Receiver::map(Event::new().unwrap()), ENOTTY);
    // The owner of interrupts gives away an export, never the context.
    assert_errno(Receiver::map(Context::open().unwrap()), ENOTTY);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut space = [0; rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    let data = [IoSlice::new(&[0])];
    sendmsg(&ours, &data, &mut control, SendFlags::empty()).unwrap();
    assert_errno(Receiver::receive(&theirs), ENOTTY);

    assert!(fs::read(PATH).unwrap() == precious);
    fs::remove_file(PATH).unwrap();
}

fn a_doorbell_that_was_taken_back_is_an_error() {
    let context = Context::open().unwrap();
    let bound = Bound::new(&context, 2);
    let (first, second) = (received(&bound.irqs), received(&bound.irqs));

    // Populated or not.
    first.1.ring(0).unwrap();
    bound.arrived(0, 1);
    first.0.revoke().unwrap();
    for index in 0..2 {
        assert_errno(first.1.ring(index), EFAULT);
    }
    bound.nothing_arrived(&context);

    second.1.ring(1).unwrap();
    bound.arrived(1, 1);
    bound.irqs.free().unwrap();
    let anew = Bound::new(&context, 2);
    for index in 0..2 {
        assert_errno(second.1.ring(index), EFAULT);
    }
    anew.nothing_arrived(&context);
}

fn a_doorbell_ends_with_its_owner() {
    let receiver = {
        let context = Context::open().unwrap();
        let bound = Bound::new(&context, 1);
        let (_export, receiver) = received(&bound.irqs);

        receiver.ring(0).unwrap();
        bound.arrived(0, 1);
        receiver
    };

    assert_errno(receiver.ring(0), EFAULT);
}

/// A thread that rings without a pause has an error from then on, and nothing worse.
fn a_doorbell_is_taken_back_while_it_is_rung() {
    const ROUNDS: u32 = 200;
    let context = Context::open().unwrap();
    let mut rung = 0;

    for _ in 0..ROUNDS {
        let bound = Bound::new(&context, 1);
        let (export, receiver) = received(&bound.irqs);
        let (ringing, stop) = (AtomicBool::new(false), AtomicBool::new(false));

        rung += thread::scope(|scope| {
            let _stop = Stop(&stop);
            let ringer = scope.spawn(|| {
                let mut rings = 0u64;

                while receiver.ring(0).is_ok() && !stop.load(Ordering::Relaxed) {
                    rings += 1;
                    ringing.store(true, Ordering::Relaxed);
                }
                assert_errno(receiver.ring(0), EFAULT);
                rings
            });
            while !ringing.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            export.revoke().unwrap();
            ringer.join().unwrap()
        });
        assert!(bound.events[0].wait(WATCHDOG).unwrap().is_some());
    }
    ktap::log(&format!(
        "{rung} rings before {ROUNDS} doorbells were taken back"
    ));
}

/// The other program: maps the export that comes by its standard input, and rings for each byte
/// that follows: `r` by a call, `s` by a store. Its status is the result of the last ring.
fn receive() -> ExitCode {
    let socket = io::stdin();
    let receiver = Receiver::receive(&socket).unwrap();
    let mut last = Ok(());
    let mut byte = [0];

    while rustix::io::read(&socket, &mut byte).unwrap() == 1 {
        match byte {
            [b'r'] => last = receiver.ring(0),
            _ => receiver.store(0),
        }
        rustix::io::write(&socket, &byte).unwrap();
    }
    match last {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(error.raw_os_error().unwrap_or(1) as u8),
    }
}

/// Makes another program ring. Returns how that ended when it rang once more after its interrupt
/// was freed.
fn other_program(way: u8) -> ExitStatus {
    let context = Context::open().unwrap();
    let bound = Bound::new(&context, 1);
    let export = bound.irqs.export().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .arg(RECEIVE)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut byte = [0];

    export.send(&ours).unwrap();
    for way in *b"rs" {
        rustix::io::write(&ours, &[way]).unwrap();
        assert_eq!(rustix::io::read(&ours, &mut byte).unwrap(), 1);
        bound.arrived(0, 1);
    }
    bound.irqs.free().unwrap();
    rustix::io::write(&ours, &[way]).unwrap();
    // Or nothing, if it has ended.
    let _ = rustix::io::read(&ours, &mut byte);
    drop(ours);
    child.wait().unwrap()
}

fn another_program_is_told_that_a_doorbell_was_taken_back() {
    assert_eq!(other_program(b'r').code(), Some(EFAULT));
}

fn another_program_that_stores_after_that_gets_sigbus() {
    assert_eq!(other_program(b's').signal(), Some(SIGBUS));
}

fn a_drained_context_exports_doorbells() {
    let mut drain = Context::open().unwrap().drain(4).unwrap();
    let export = drain.export(2, 2).unwrap();
    let receiver = Receiver::map(&export).unwrap();

    receiver.ring(1).unwrap();
    assert_eq!(drain.wait(WATCHDOG).unwrap(), Some(3));
    drain.eoi(3);
    export.revoke().unwrap();
    assert_errno(receiver.ring(1), EFAULT);
    assert_eq!(drain.try_next(), None);
}

fn a_doorbell_keeps_a_drained_context() {
    let drain = Context::open().unwrap().drain(64).unwrap();
    let doorbells: Vec<_> = (0..64).map(|slot| drain.doorbell(slot)).collect();

    drop(drain);
    for doorbell in doorbells {
        doorbell.ring();
    }
}

fn what_is_in_use_is_told() {
    let context = Context::open().unwrap();
    let before = context.info().unwrap();
    let bound = Bound::new(&context, 5);
    let after = context.info().unwrap();

    // Irq bypass, which root switches.
    assert_eq!(before.features & !2, 0);
    assert_eq!((before.irqs.used, after.irqs.used), (0, 5));
    assert_eq!(after.irqs_user.used, before.irqs_user.used + 5);
    assert_eq!(after.queues_total.used, before.queues_total.used + 1);
    let export = bound.irqs.export().unwrap();
    let exported = context.info().unwrap();
    assert_eq!(exported.exports_user.used, after.exports_user.used + 1);
    assert_eq!(exported.exports_total.used, after.exports_total.used + 1);
    drop(export);
    assert_eq!(context.info().unwrap().exports_user, after.exports_user);

    let slots: HashSet<_> = (0..3).map(|_| context.alloc().unwrap().slot()).collect();
    // Each was freed at once.
    assert_eq!(slots.len(), 1);
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    if env::args().any(|argument| argument == RECEIVE) {
        return receive();
    }
    tests![
        an_interrupt_lives_as_long_as_its_object,
        an_interrupt_keeps_its_context,
        threads_ring_what_they_borrow,
        a_batch_is_allocated_bound_and_freed_as_one,
        a_batch_is_all_or_nothing,
        interrupts_come_from_where_they_are_wanted,
        a_masked_interrupt_comes_once_when_it_is_unmasked,
        eventfds_of_many_change_in_one_call,
        a_range_is_a_context_of_its_own,
        a_range_can_be_drained,
        a_message_of_an_accelerator_can_be_ended,
        an_accelerator_raises_a_message,
        a_file_of_another_kind_is_no_context,
        nothing_befalls_a_context,
        a_doorbell_that_was_received_rings,
        a_file_of_another_kind_is_no_doorbell,
        a_doorbell_that_was_taken_back_is_an_error,
        a_doorbell_ends_with_its_owner,
        a_doorbell_is_taken_back_while_it_is_rung,
        another_program_is_told_that_a_doorbell_was_taken_back,
        another_program_that_stores_after_that_gets_sigbus,
        a_drained_context_exports_doorbells,
        a_doorbell_keeps_a_drained_context,
        what_is_in_use_is_told,
    ]
}
