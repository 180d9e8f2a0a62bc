// SPDX-License-Identifier: GPL-2.0

//! The machine's side, played over a real socket: driver and program in one.

use std::{
    fs,
    io::ErrorKind,
    os::{
        fd::AsFd,
        unix::net::{
            UnixListener,
            UnixStream, //
        }, //
    },
    sync::atomic::{
        AtomicU32,
        Ordering::{
            Acquire,
            Relaxed,
            Release, //
        }, //
    },
    thread::{
        self,
        JoinHandle, //
    },
    time::{
        Duration,
        Instant, //
    }, //
};

use crate::{
    engine::crc32,
    layout::{
        command,
        control,
        global,
        mmio,
        Layout,
        DESCRIPTOR_SIZE,
        FLAGS,
        GLOBAL,
        MMIO_SIZE,
        NAME,
        PING,
        PONG,
        RESET,
        RESET_DONE, //
    },
    options,
    serve,
    sys::{
        receive,
        wait,
        Event,
        Memory, //
    }, //
};

/// Turns a missing event into a failure.
const WATCHDOG: Duration = Duration::from_secs(10);
const CONTEXTS: u32 = 3;
const SLOTS: u32 = 5;
const PASID: u32 = 0xabcde;
const COPY: u32 = 1;
const FILL: u32 = 2;
const CHECKSUM: u32 = 3;
const RAISE: u32 = 4;
const ERROR: u32 = 5;
const DONE: u64 = 1;
const FAILED: u64 = 2;

#[derive(Clone, Copy, Default)]
struct Command {
    opcode: u32,
    queue: u32,
    source: u64,
    destination: u64,
    length: u64,
    value: u64,
    handle: u64,
}

struct Machine {
    layout: Layout,
    stream: UnixStream,
    memory: Memory,
    doorbell: Event,
    vectors: Vec<Event>,
    model: JoinHandle<std::io::Result<()>>,
}

impl Machine {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let layout = Layout::new(CONTEXTS, SLOTS).unwrap();
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = std::env::temp_dir().join(format!("afu-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let model = thread::spawn(move || serve(&listener, layout));
        let stream = UnixStream::connect(&path).unwrap();
        fs::remove_file(path).unwrap();

        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        let next = |number| {
            let (found, file) = receive(&stream).unwrap();
            assert_eq!(found, number);
            file
        };
        assert!(next(0).is_none(), "version");
        assert!(next(1).is_none(), "the machine's number");
        let memory = Memory::map(next(-1).unwrap()).unwrap();
        let doorbell = Event::received(next(0).unwrap());
        let vectors = (0..=CONTEXTS * SLOTS)
            .map(|_| Event::received(next(1).unwrap()))
            .collect();

        Self {
            layout,
            stream,
            memory,
            doorbell,
            vectors,
            model,
        }
    }

    /// A machine with all contexts attached. Every slot is in use, and its handle is its number
    /// plus 100.
    fn attached() -> Self {
        let machine = Self::new();

        for context in 0..CONTEXTS as usize {
            machine.attach(context, 1);
        }
        machine
    }

    fn attach(&self, context: usize, number: u32) {
        let block = self.layout.control(context);

        self.memory
            .u32(block + control::PASID)
            .store(PASID + context as u32, Relaxed);
        self.request(context, number << 1 | 1);
        self.confirmed(context, number << 1 | 1);
        for slot in 0..u64::from(SLOTS) {
            self.set_cookie(context, slot, PASID + context as u32, 0);
            self.memory
                .u64(self.layout.mmio(context) + mmio::HANDLE + slot as usize * 8)
                .store(100 + slot, Relaxed);
        }
    }

    fn set_cookie(&self, context: usize, slot: u64, pasid: u32, queue: u32) {
        let entry = self.layout.entry(context, slot).unwrap();
        let cookie = 1 << 63 | u64::from(pasid) << 32 | u64::from(queue);

        self.memory
            .u64(self.layout.cookie(entry))
            .store(cookie, Release);
    }

    fn ring(&self) {
        self.doorbell.signal().unwrap();
    }

    fn request(&self, context: usize, request: u32) {
        let block = self.layout.control(context);

        self.memory
            .u32(block + control::REQUEST)
            .store(request, Release);
        self.ring();
    }

    fn state(&self, context: usize) -> u32 {
        let block = self.layout.control(context);
        self.memory.u32(block + control::STATE).load(Acquire)
    }

    fn confirmed(&self, context: usize, request: u32) {
        becomes(|| self.state(context) == request);
    }

    /// Rings, and returns when the model has handled this ring and all before it.
    fn ping(&self) {
        let number = self.memory.u32(PING).load(Relaxed) + 1;

        self.memory.u32(PING).store(number, Release);
        self.ring();
        becomes(|| self.memory.u32(PONG).load(Acquire) == number);
    }

    fn reset(&self, number: u32) {
        self.memory.u32(RESET).store(number, Release);
        self.ring();
        becomes(|| self.memory.u32(RESET_DONE).load(Acquire) == number);
    }

    fn misbehave(&self, what: u32, argument: u64, argument2: u64) {
        let number = self.ask(what, argument, argument2);

        becomes(|| self.is_heard(number));
    }

    /// Returns the number of the request.
    fn ask(&self, what: u32, argument: u64, argument2: u64) -> u32 {
        let at = |offset| GLOBAL + offset;
        let number = self.memory.u32(at(global::GO)).load(Relaxed) + 1;

        self.memory.u32(at(global::MISBEHAVE)).store(what, Relaxed);
        self.memory
            .u64(at(global::ARGUMENT))
            .store(argument, Relaxed);
        self.memory
            .u64(at(global::ARGUMENT2))
            .store(argument2, Relaxed);
        self.memory.u32(at(global::GO)).store(number, Release);
        number
    }

    fn is_heard(&self, number: u32) -> bool {
        self.memory.u32(GLOBAL + global::GO_DONE).load(Acquire) == number
    }

    fn entry(&self, context: usize, number: u64) -> usize {
        let index = (number % mmio::COMMANDS) as usize;
        self.layout.mmio(context) + mmio::COMMAND + index * command::SIZE
    }

    fn tail(&self, context: usize) -> u64 {
        self.memory
            .u64(self.layout.mmio(context) + mmio::TAIL)
            .load(Relaxed)
    }

    fn head(&self, context: usize) -> u64 {
        self.memory
            .u64(self.layout.mmio(context) + mmio::HEAD)
            .load(Acquire)
    }

    /// Returns the command's number.
    fn submit(&self, context: usize, command: Command) -> u64 {
        let number = self.tail(context);
        let entry = self.entry(context, number);

        self.memory
            .u32(entry + command::OPCODE)
            .store(command.opcode, Relaxed);
        self.memory
            .u32(entry + command::QUEUE)
            .store(command.queue, Relaxed);
        for (at, value) in [
            (command::SOURCE, command.source),
            (command::DESTINATION, command.destination),
            (command::LENGTH, command.length),
            (command::VALUE, command.value),
            (command::HANDLE, command.handle),
            (command::RESULT, 0),
            (command::STATUS, 0),
        ] {
            self.memory.u64(entry + at).store(value, Relaxed);
        }
        self.memory
            .u64(self.layout.mmio(context) + mmio::TAIL)
            .store(number + 1, Release);
        number
    }

    /// Has a command carried out, and returns its status and result.
    fn carry_out(&self, context: usize, command: Command) -> (u64, u64) {
        let number = self.submit(context, command);
        let entry = self.entry(context, number);

        becomes(|| self.head(context) == number + 1);
        (
            self.memory.u64(entry + command::STATUS).load(Relaxed),
            self.memory.u64(entry + command::RESULT).load(Relaxed),
        )
    }

    fn data(&self, context: usize) -> Vec<u8> {
        let mut data = vec![0; mmio::DATA_LENGTH];

        self.memory
            .read(self.layout.mmio(context) + mmio::DATA, &mut data);
        data
    }

    /// Fills the data area with a pattern, and returns it.
    fn pattern(&self, context: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..mmio::DATA_LENGTH)
            .map(|at| (at * 7 + at / 251 + context) as u8)
            .collect();

        self.memory
            .write(self.layout.mmio(context) + mmio::DATA, &data);
        data
    }

    /// Count of errors, and kind, address and code of the last one.
    fn errors(&self, context: usize) -> (u32, u32, u64, u64) {
        let block = self.layout.control(context);

        (
            self.memory.u32(block + control::ERRORS).load(Acquire),
            self.memory.u32(block + control::ERROR_KIND).load(Relaxed),
            self.memory
                .u64(block + control::ERROR_ADDRESS)
                .load(Relaxed),
            self.memory.u64(block + control::ERROR_CODE).load(Relaxed),
        )
    }

    fn vector(&self, context: usize, slot: u64) -> &Event {
        &self.vectors[self.layout.entry(context, slot).unwrap() + 1]
    }

    /// Waits until a slot is raised, which must be once, and no other one.
    fn raised(&self, context: usize, slot: u64) {
        let vector = self.vector(context, slot);

        assert_eq!(wait([vector.as_fd()], WATCHDOG).unwrap(), [true]);
        assert_eq!(vector.take().unwrap(), 1);
        self.nothing_raised();
    }

    fn nothing_raised(&self) {
        // The model answers after its other work, so that is done by now.
        self.ping();
        for (number, vector) in self.vectors.iter().enumerate() {
            assert_eq!(vector.take().unwrap(), 0, "vector {number}");
        }
    }

    fn ends(self) {
        drop(self.stream);
        becomes(|| self.model.is_finished());
        self.model.join().unwrap().unwrap();
    }
}

#[track_caller]
fn becomes(is: impl Fn() -> bool) {
    let begun = Instant::now();

    while !is() {
        assert!(begun.elapsed() < WATCHDOG, "it does not become so");
        thread::yield_now();
    }
}

#[test]
fn the_descriptor_is_that_of_the_interface() {
    let machine = Machine::new();
    let mut found = [0; DESCRIPTOR_SIZE];
    machine.memory.read(0, &mut found);
    let number = |at: usize, length: usize| {
        (0..length).fold(0, |sum, byte| {
            sum | u64::from(found[at + byte]) << (8 * byte)
        })
    };

    assert_eq!(&found[..8], b"UXIVEAFU");
    assert_eq!(number(0x08, 2), 1);
    assert_eq!(number(0x0a, 2), 1);
    assert_eq!(number(0x0c, 4), 1);
    assert_eq!(&found[0x10..][..NAME.len()], NAME.as_bytes());
    assert!(found[0x10 + NAME.len()..0x28].iter().all(|&byte| byte == 0));
    assert_eq!((number(0x28, 4), number(0x2c, 4)), (3, 5));
    // MMIO of contexts, global MMIO, control blocks and cookies do not meet.
    assert_eq!((number(0x38, 8), number(0x40, 8)), (0x40000, 0x50000));
    assert_eq!((number(0x58, 8), number(0x60, 8)), (0x10000, 0x10000 + 192));
    assert_eq!((number(0x48, 8), number(0x50, 8)), (0x20000, 0x10000));
    assert_eq!(number(0x30, 8), 0x30000);
    assert_eq!((number(0x68, 4), number(0x6c, 4)), (1, 0));
    assert_eq!(number(0x70, 8), 16);
    assert_eq!((number(0x78, 4), number(0x7c, 4)), (0, 12));
    assert!(found[0x80..].iter().all(|&byte| byte == 0));
    assert_eq!(machine.layout.size(), 2 << 20);
    machine.ends();
}

#[test]
fn numbers_of_contexts_and_slots_are_checked() {
    for (contexts, slots) in [(0, 1), (513, 1), (2, 1024), (512, u32::MAX)] {
        assert!(Layout::new(contexts, slots).is_err());
    }
    for (contexts, slots) in [(1, 2047), (1, 0), (512, 3), (23, 89)] {
        let layout = Layout::new(contexts, slots).unwrap();

        assert!(layout.cookie(layout.entries()) <= GLOBAL);
        assert!(layout.mmio(layout.contexts() - 1) + MMIO_SIZE <= layout.size());
        assert!(layout.size().is_power_of_two());
    }
}

#[test]
fn the_command_line_is_checked() {
    let parse = |line: &str| options(line.split_whitespace().map(String::from));
    let good = parse("--slots 7 path --contexts 2").unwrap();

    assert_eq!(good.socket, "path");
    assert_eq!((good.layout.contexts(), good.layout.slots()), (2, 7));
    assert_eq!(parse("path").unwrap().layout.vectors(), 2017);
    for line in ["", "a b", "a --slots", "a --slots x", "a --slots 64", "-x"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn attached_a_context_is_fresh() {
    let machine = Machine::new();
    let base = machine.layout.mmio(1);

    for round in 1..4 {
        machine.memory.fill(base, MMIO_SIZE, 0xaa);
        machine.attach(1, 2 * round);
        for (at, value) in [
            (mmio::TAIL, 0),
            (mmio::HEAD, 0),
            (mmio::PASID, u64::from(PASID) + 1),
            (mmio::DATA_OFFSET, 0x10000),
            (mmio::DATA_SIZE, 0x30000),
        ] {
            assert_eq!(machine.memory.u64(base + at).load(Relaxed), value);
        }
        assert!(machine.data(1).iter().all(|&byte| byte == 0));
        machine.carry_out(1, Command::default());
        machine.request(1, (2 * round + 1) << 1);
        machine.confirmed(1, (2 * round + 1) << 1);
    }
    machine.ends();
}

#[test]
fn without_a_doorbell_no_request_is_carried_out() {
    let machine = Machine::new();
    let block = machine.layout.control(0);

    machine
        .memory
        .u32(block + control::REQUEST)
        .store(3, Release);
    // Twice, so that the model has handled the request.
    machine.misbehave(0, 0, 0);
    machine.misbehave(0, 0, 0);
    assert_eq!(machine.state(0), 0);
    machine.ring();
    machine.confirmed(0, 3);
    machine.ends();
}

#[test]
fn copies_are_byte_for_byte() {
    let machine = Machine::attached();
    let mut expected = machine.pattern(1);
    let other = machine.pattern(2);

    for (from, to, length) in [
        (0, 1000, 1000),
        (3, 0x20001, 0xfffd),
        (10, 20, 1000), // overlapping, both ways
        (20, 10, 1000),
        (0, mmio::DATA_LENGTH - 1, 1),
        (mmio::DATA_LENGTH, 0, 0),
        (0, 0, mmio::DATA_LENGTH),
    ] {
        let copy = Command {
            opcode: COPY,
            source: from as u64,
            destination: to as u64,
            length: length as u64,
            ..Default::default()
        };
        assert_eq!(machine.carry_out(1, copy), (DONE, 0));
        expected.copy_within(from..from + length, to);
        assert!(machine.data(1) == expected, "{from} {to} {length}");
    }
    assert!(machine.data(2) == other);
    assert_eq!(machine.errors(1).0, 0);
    machine.ends();
}

#[test]
fn fills_are_byte_for_byte() {
    let machine = Machine::attached();
    let mut expected = machine.pattern(0);

    for (to, length, value) in [(5, 77, 0x1ee), (0, 0, 1), (1, mmio::DATA_LENGTH - 1, 0)] {
        let fill = Command {
            opcode: FILL,
            destination: to as u64,
            length: length as u64,
            value,
            ..Default::default()
        };
        assert_eq!(machine.carry_out(0, fill), (DONE, 0));
        expected[to..to + length].fill(value as u8);
        assert!(machine.data(0) == expected);
    }
    machine.ends();
}

#[test]
fn checksums_are_those_of_zlib() {
    let machine = Machine::attached();
    let data = machine.pattern(0);
    let checksum = |source, length| Command {
        opcode: CHECKSUM,
        source,
        length,
        ..Default::default()
    };

    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(machine.carry_out(0, checksum(7, 0)), (DONE, 0));
    assert_eq!(
        machine.carry_out(0, checksum(7, 100_000)),
        (DONE, crc32(&data[7..100_007]).into())
    );
    machine.ends();
}

#[test]
fn many_commands_are_carried_out_in_order() {
    let machine = Machine::attached();

    for number in 0..10 * mmio::COMMANDS {
        becomes(|| number - machine.head(0) < mmio::COMMANDS);
        machine.submit(
            0,
            Command {
                opcode: FILL,
                destination: number,
                length: 8,
                value: number,
                ..Default::default()
            },
        );
    }
    becomes(|| machine.head(0) == machine.tail(0));
    let data = machine.data(0);
    assert!((0..10 * 64).all(|at| data[at] == at as u8));
    assert_eq!(
        machine.memory.u64(GLOBAL + global::COMPLETED).load(Relaxed),
        640
    );
    machine.ends();
}

#[test]
fn a_handle_raises_its_slot_on_completion() {
    let machine = Machine::attached();

    for context in 0..CONTEXTS as usize {
        for slot in 0..u64::from(SLOTS) {
            let fill = Command {
                opcode: FILL,
                handle: 100 + slot,
                ..Default::default()
            };
            assert_eq!(machine.carry_out(context, fill).0, DONE);
            machine.raised(context, slot);
        }
    }
    // A handle of nobody, and one of a slot that the context does not have.
    let base = machine.layout.mmio(0);
    machine
        .memory
        .u64(base + mmio::HANDLE + SLOTS as usize * 8)
        .store(7, Relaxed);
    for (errors, handle) in [(1, 1), (2, 7)] {
        let fill = Command {
            opcode: FILL,
            handle,
            ..Default::default()
        };
        assert_eq!(machine.carry_out(0, fill).0, DONE);
        becomes(|| machine.errors(0) == (errors, 2, 0, 4));
    }
    machine.nothing_raised();
    machine.ends();
}

#[test]
fn raise_raises_only_for_work_that_the_cookie_is_for() {
    let machine = Machine::attached();
    let raise = |queue, value| Command {
        opcode: RAISE,
        queue,
        value,
        ..Default::default()
    };

    assert_eq!(machine.carry_out(1, raise(9, 4)).0, DONE);
    machine.raised(1, 4);
    machine.set_cookie(1, 4, PASID + 1, 9);
    assert_eq!(machine.carry_out(1, raise(9, 4)).0, DONE);
    machine.raised(1, 4);
    assert_eq!(machine.carry_out(1, raise(8, 4)).0, FAILED);
    assert_eq!(machine.errors(1), (1, 2, 0, 1));

    machine.set_cookie(1, 4, PASID, 0);
    assert_eq!(machine.carry_out(1, raise(0, 4)).0, FAILED);
    let entry = machine.layout.entry(1, 4).unwrap();
    // Of this context, but not in use.
    machine
        .memory
        .u64(machine.layout.cookie(entry))
        .store(u64::from(PASID + 1) << 32, Release);
    assert_eq!(machine.carry_out(1, raise(0, 4)).0, FAILED);
    assert_eq!(machine.errors(1), (3, 2, 0, 1));

    for value in [SLOTS.into(), u64::MAX] {
        assert_eq!(machine.carry_out(1, raise(0, value)).0, FAILED);
    }
    assert_eq!(machine.errors(1), (5, 2, 0, 5));
    machine.nothing_raised();
    machine.ends();
}

#[test]
fn errors_are_reported_with_the_interrupt() {
    let machine = Machine::attached();
    let size = mmio::DATA_LENGTH as u64;
    let good = Command {
        opcode: COPY,
        length: 16,
        handle: 102,
        ..Default::default()
    };
    #[rustfmt::skip]
    let cases = [
        (Command { opcode: ERROR, value: 0x1234_5678_9abc_def0, ..good }, (2, 0, 0x1234_5678_9abc_def0)),
        (Command { opcode: 0, ..good }, (2, 0, 3)),
        (Command { opcode: u32::MAX, ..good }, (2, 0, 3)),
        (Command { source: size - 15, ..good }, (1, 0x10000 + size, 0)),
        (Command { source: size + 5, ..good }, (1, 0x10000 + size + 5, 0)),
        (Command { destination: size, ..good }, (1, 0x10000 + size, 0)),
        (Command { destination: u64::MAX, ..good }, (1, u64::MAX, 0)),
        (Command { length: size + 1, ..good }, (1, 0x10000 + size, 0)),
        (Command { length: u64::MAX, ..good }, (1, 0x10000 + size, 0)),
        (Command { opcode: FILL, destination: 1, length: u64::MAX, ..good }, (1, 0x10000 + size, 0)),
        (Command { opcode: CHECKSUM, source: 1 << 63, ..good }, (1, (1 << 63) + 0x10000, 0)),
    ];
    let data = machine.pattern(2);

    for (errors, (command, (kind, address, code))) in (1..).zip(cases) {
        assert_eq!(machine.carry_out(2, command), (FAILED, 0));
        assert_eq!(machine.errors(2), (errors, kind, address, code));
        machine.raised(2, 2);
    }
    assert!(machine.data(2) == data);
    assert_eq!(machine.carry_out(2, good).0, DONE);
    machine.ends();
}

#[test]
fn a_tail_that_is_too_far_ahead_is_reported_once() {
    let machine = Machine::attached();
    let tail = machine.memory.u64(machine.layout.mmio(0) + mmio::TAIL);

    for (errors, wrong) in [(1, mmio::COMMANDS + 1), (2, u64::MAX)] {
        tail.store(wrong, Release);
        becomes(|| machine.errors(0).0 == errors);
        machine.ping();
        machine.ping();
        assert_eq!(machine.errors(0), (errors, 2, 0, 2));
    }
    assert_eq!(machine.head(0), 0);
    tail.store(0, Release);
    assert_eq!(
        machine.carry_out(
            0,
            Command {
                opcode: FILL,
                ..Default::default()
            }
        ),
        (DONE, 0)
    );
    machine.ends();
}

#[test]
fn the_model_survives_anything_in_its_memory() {
    let machine = Machine::attached();
    let mut seed = 1u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };

    for round in 0..20_000 {
        let context = random() as usize % CONTEXTS as usize;
        let base = match random() % 3 {
            0 => machine.layout.control(context),
            1 => machine.layout.mmio(context) + mmio::COMMAND,
            _ => machine.layout.mmio(context),
        };
        machine
            .memory
            .u64(base + random() as usize % 64 * 8)
            .store(random() >> (random() % 64), Relaxed);
        if round % 8 == 0 {
            machine.ring();
        }
    }
    machine.reset(1);
    for context in 0..CONTEXTS as usize {
        machine.attach(context, 0x4000_0000);
        assert_eq!(
            machine
                .carry_out(
                    context,
                    Command {
                        opcode: FILL,
                        handle: 100,
                        ..Default::default()
                    }
                )
                .0,
            DONE
        );
        becomes(|| machine.vector(context, 0).take().unwrap() > 0);
    }
    machine.ends();
}

#[test]
fn doorbells_are_counted_exactly() {
    let machine = Machine::new();
    let heard = || machine.memory.u64(GLOBAL + global::DOORBELLS).load(Acquire);

    for _ in 0..50_000 {
        machine.ring();
    }
    machine.request(0, 3);
    machine.confirmed(0, 3);
    for _ in 0..49_999 {
        machine.ring();
    }
    becomes(|| heard() >= 100_000);
    machine.misbehave(0, 0, 0);
    assert_eq!(heard(), 100_000);
    machine.ends();
}

#[test]
fn detached_a_context_is_left_alone() {
    let machine = Machine::attached();
    let fill = Command {
        opcode: FILL,
        length: 1,
        value: 1,
        handle: 100,
        ..Default::default()
    };

    machine.request(1, 2 << 1);
    machine.confirmed(1, 2 << 1);
    machine.submit(1, fill);
    assert_eq!(machine.carry_out(0, fill).0, DONE);
    machine.raised(0, 0);
    assert_eq!((machine.head(1), machine.data(1)[0]), (0, 0));
    machine.ends();
}

#[test]
fn a_reset_detaches_all() {
    let machine = Machine::attached();
    let fill = Command {
        opcode: FILL,
        handle: 100,
        ..Default::default()
    };

    machine.misbehave(2, 1, 0);
    machine.reset(77);
    for vector in &machine.vectors {
        vector.take().unwrap();
    }
    for context in 0..CONTEXTS as usize {
        assert_eq!(machine.state(context), 3);
        machine.submit(context, fill);
    }
    // The storm is over, too.
    machine.nothing_raised();
    assert!((0..CONTEXTS as usize).all(|context| machine.head(context) == 0));
    machine.attach(2, 2);
    assert_eq!(machine.carry_out(2, fill).0, DONE);
    machine.raised(2, 0);
    machine.ends();
}

#[test]
fn misbehaving_it_raises_entries_of_anybody() {
    let machine = Machine::new();

    machine.misbehave(1, 0, 0);
    machine.raised(0, 0);
    machine.misbehave(1, 14, 0);
    machine.raised(2, 4);
    machine.misbehave(1, 15, 0);
    machine.misbehave(1, u64::MAX, 0);
    machine.nothing_raised();
    machine.ends();
}

#[test]
fn misbehaving_it_storms() {
    let machine = Machine::new();

    machine.misbehave(2, 6, 0);
    for _ in 0..1000 {
        becomes(|| machine.vector(1, 1).take().unwrap() > 0);
    }
    machine.misbehave(3, 0, 0);
    machine.vector(1, 1).take().unwrap();
    machine.nothing_raised();
    machine.ends();
}

#[test]
fn misbehaving_it_raises_behind_a_detach() {
    let machine = Machine::attached();

    machine.misbehave(4, 2, 3);
    machine.nothing_raised();
    machine.request(0, 2 << 1);
    machine.confirmed(0, 2 << 1);
    machine.nothing_raised();
    machine.request(2, 2 << 1);
    machine.confirmed(2, 2 << 1);
    machine.raised(2, 3);
    // The next one only.
    machine.attach(2, 3);
    machine.request(2, 4 << 1);
    machine.confirmed(2, 4 << 1);
    machine.nothing_raised();
    machine.ends();
}

#[test]
fn misbehaving_it_confirms_no_detach() {
    let machine = Machine::attached();

    machine.misbehave(5, 1, 0);
    machine.request(1, 2 << 1);
    machine.request(0, 2 << 1);
    machine.confirmed(0, 2 << 1);
    machine.ping();
    assert_eq!(machine.state(1), 3);
    // It works on meanwhile.
    assert_eq!(
        machine
            .carry_out(
                1,
                Command {
                    opcode: FILL,
                    ..Default::default()
                }
            )
            .0,
        DONE
    );
    machine.misbehave(6, 0, 0);
    machine.confirmed(1, 2 << 1);
    machine.ends();
}

#[test]
fn misbehaving_it_vanishes_for_a_while() {
    let machine = Machine::attached();
    let begun = Instant::now();

    machine.misbehave(7, 300, 0);
    machine.ping();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    machine.ends();
}

#[test]
fn misbehaving_it_vanishes_in_the_middle_of_a_copy() {
    let machine = Machine::attached();
    let mut half = machine.pattern(0);
    let length = mmio::DATA_LENGTH / 2;
    let copy = Command {
        opcode: COPY,
        destination: length as u64,
        length: length as u64,
        ..Default::default()
    };

    machine.misbehave(8, 500, 0);
    let begun = Instant::now();
    machine.submit(0, copy);
    half.copy_within(..length / 2, length);
    becomes(|| machine.data(0) == half);
    assert_eq!(machine.head(0), 0);
    becomes(|| machine.head(0) == 1);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    half.copy_within(..length, length);
    assert!(machine.data(0) == half);
    machine.ends();
}

#[test]
fn misbehaving_it_returns_when_it_is_told_to() {
    let machine = Machine::attached();
    let begun = Instant::now();

    for round in 1..4 {
        machine.misbehave(7, 60_000, 0);
        machine.request(0, (2 * round) << 1);
        // The model ignores any other request, however long that stands.
        let number = machine.ask(1, 0, 0);
        thread::sleep(Duration::from_millis(50));
        assert!(!machine.is_heard(number));
        assert_eq!(machine.state(0), (2 * round - 1) << 1 | 1);

        // The doorbell of before has been heard when it answers.
        machine.misbehave(12, 0, 0);
        assert_eq!(machine.state(0), (2 * round) << 1);
        machine.attach(0, 2 * round + 1);
    }

    // The AFU vanishes in the middle of a copy, and completes it. An AFU that has not vanished has
    // nothing to do.
    let data = machine.pattern(1);
    machine.misbehave(8, 60_000, 0);
    machine.misbehave(12, 0, 0);
    machine.submit(
        1,
        Command {
            opcode: COPY,
            destination: 1,
            length: 100_000,
            ..Default::default()
        },
    );
    becomes(|| machine.data(1) != data);
    assert_eq!(machine.head(1), 0);
    machine.misbehave(12, 0, 0);
    becomes(|| machine.head(1) == 1);
    assert_eq!(machine.data(1)[1..=100_000], data[..100_000]);
    assert!(begun.elapsed() < Duration::from_secs(60));
    machine.ends();
}

#[test]
fn misbehaving_it_reads_as_if_it_were_not_there() {
    let machine = Machine::attached();
    let pong = || machine.memory.u32(PONG).load(Acquire);
    let reset_done = || machine.memory.u32(RESET_DONE).load(Acquire);

    machine.ping();
    machine.misbehave(13, 0, 0);
    becomes(|| pong() == u32::MAX && reset_done() == u32::MAX);
    assert!((0..CONTEXTS as usize).all(|context| machine.state(context) == u32::MAX));
    machine.memory.u32(PING).store(2, Release);
    machine.memory.u32(RESET).store(7, Release);
    machine.request(0, 2 << 1);
    machine.misbehave(3, 0, 0);
    assert_eq!(
        (pong(), reset_done(), machine.state(0)),
        (u32::MAX, u32::MAX, u32::MAX)
    );

    // The requests of the meantime were carried out.
    machine.misbehave(12, 0, 0);
    becomes(|| (pong(), reset_done(), machine.state(0)) == (2, 7, 2 << 1));
    machine.ends();
}

#[test]
fn misbehaving_it_spoils_its_descriptor() {
    let machine = Machine::new();
    let descriptor = || {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        machine.memory.read(0, &mut bytes);
        bytes
    };
    let good = descriptor();

    machine.misbehave(9, 1, 0);
    let one = descriptor();
    machine.misbehave(9, 2, 0);
    let two = descriptor();
    machine.misbehave(9, 1, 0);
    assert!(one == descriptor() && one != two && one != good);
    machine.misbehave(10, 0, 0);
    assert!(good == descriptor());
    machine.misbehave(11, 0, 0);
    assert_eq!(machine.memory.u32(FLAGS).load(Relaxed), 0);
    machine.misbehave(10, 0, 0);
    assert!(good == descriptor());
    machine.ends();
}

#[test]
fn it_ends_with_the_machine_in_mid_command() {
    let machine = Machine::attached();
    let data = machine.pattern(0);

    machine.misbehave(8, 60_000, 0);
    machine.submit(
        0,
        Command {
            opcode: COPY,
            destination: 1,
            length: 100_000,
            ..Default::default()
        },
    );
    becomes(|| machine.data(0) != data);
    machine.ends();
}

#[test]
fn a_machine_that_leaves_at_once_is_no_error() {
    let path = std::env::temp_dir().join(format!("afu-{}-leaves", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();

    drop(UnixStream::connect(&path).unwrap());
    fs::remove_file(&path).unwrap();
    serve(&listener, Layout::new(1, 1).unwrap()).unwrap();
    assert_eq!(
        UnixStream::connect(&path).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
