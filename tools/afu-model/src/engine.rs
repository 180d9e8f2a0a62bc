// SPDX-License-Identifier: GPL-2.0

//! The accelerator: attaches contexts as the driver asks, and carries out the commands that their
//! programs write.
//!
//! One thread does all the work, a command of each context in turn. It reads the driver's requests
//! only when the doorbell is rung, so a driver that forgets to ring is found out. Programs have no
//! doorbell, so the thread watches the tails of attached contexts.
//!
//! The shared memory may change at any time, so each value is read once. The model decides by its
//! own copy.

use std::{
    sync::atomic::Ordering::{
        Acquire,
        Relaxed,
        Release, //
    },
    time::Duration, //
};

use crate::{
    layout::{
        self,
        command,
        control,
        global,
        mmio,
        Layout,
        GLOBAL,
        MMIO_SIZE,
        PING,
        PONG,
        RESET,
        RESET_DONE, //
    },
    misbehave::{
        Act,
        Misbehaviour, //
    },
    server::{
        End,
        Machine, //
    },
    sys::Memory, //
};

/// How long to sleep between two looks at the tails.
const IDLE: Duration = Duration::from_micros(50);
/// How long while no context is attached. A test that wants the AFU to misbehave cannot ring.
const UNUSED: Duration = Duration::from_millis(10);

/// The value of a load from a function that is not there.
const NOTHING: u32 = u32::MAX;

const PASID_MASK: u32 = 0xf_ffff;
const COOKIE_IN_USE: u64 = 1 << 63;

// Kinds of errors, in a control block.
const ADDRESS_FAULT: u32 = 1;
const OTHER: u32 = 2;

// Codes of other errors. The first is of the hardware interface, the rest the model's own.
const BAD_COOKIE: u64 = 1;
const BAD_TAIL: u64 = 2;
const BAD_OPCODE: u64 = 3;
const BAD_HANDLE: u64 = 4;
const BAD_SLOT: u64 = 5;

const COPY: u32 = 1;
const FILL: u32 = 2;
const CHECKSUM: u32 = 3;
const RAISE: u32 = 4;
const ERROR: u32 = 5;

const DONE: u64 = 1;
const FAILED: u64 = 2;

/// An error of a context, as the model reports it: kind, address, code.
struct Fault(u32, u64, u64);

/// A context's work.
#[derive(Clone, Copy)]
struct Attached {
    pasid: u32,
    /// Commands completed.
    head: u64,
    /// A wrong tail that was reported already.
    bad_tail: Option<u64>,
}

#[derive(Default)]
struct Context {
    /// The last request that was carried out.
    request: u32,
    attached: Option<Attached>,
}

struct Command {
    opcode: u32,
    queue: u32,
    source: u64,
    destination: u64,
    length: u64,
    value: u64,
    handle: u64,
}

pub(crate) struct Engine {
    layout: Layout,
    memory: Memory,
    machine: Machine,
    contexts: Vec<Context>,
    misbehaviour: Misbehaviour,
    reset: u32,
    doorbells: u64,
    completed: u64,
    /// For the bytes of a copy or checksum, which may overlap with what is written.
    buffer: Vec<u8>,
}

impl Engine {
    pub(crate) fn new(layout: Layout, memory: Memory, machine: Machine) -> Self {
        Self {
            contexts: (0..layout.contexts()).map(|_| Context::default()).collect(),
            layout,
            memory,
            machine,
            misbehaviour: Misbehaviour::default(),
            reset: 0,
            doorbells: 0,
            completed: 0,
            buffer: Vec::new(),
        }
    }

    /// Works until the machine is gone.
    pub(crate) fn run(mut self) -> std::io::Result<()> {
        let mut busy = false;

        loop {
            match self.turn(busy) {
                Ok(more) => busy = more,
                Err(End::Gone) => return Ok(()),
                Err(End::Failed(error)) => return Err(error),
            }
        }
    }

    /// Does one turn, and returns whether there may be more to do.
    fn turn(&mut self, busy: bool) -> Result<bool, End> {
        let rung = self.machine.hear(self.pause(busy))?;

        if rung > 0 {
            self.doorbells += rung;
            self.memory
                .u64(GLOBAL + global::DOORBELLS)
                .store(self.doorbells, Release);
            self.obey()?;
        }
        match self.misbehaviour.look(&self.memory, &self.layout) {
            Some(Act::Raise(entry)) => self.raise_entry(entry)?,
            Some(Act::Detach) => self.carry_out_requests()?,
            Some(Act::Answer) => self.answer_again(),
            Some(Act::Vanish(time)) => self.vanish(time)?,
            None => {}
        }
        if let Some(entry) = self.misbehaviour.storm {
            self.raise_entry(entry)?;
        }
        let mut more = false;
        for context in 0..self.contexts.len() {
            more |= self.work(context)?;
        }
        Ok(more)
    }

    /// Answers nothing for some time, or until a test has it return.
    fn vanish(&self, time: Duration) -> Result<(), End> {
        self.machine
            .ignore(time, || self.misbehaviour.is_to_return(&self.memory))
    }

    fn pause(&self, busy: bool) -> Duration {
        if busy || self.misbehaviour.storm.is_some() {
            Duration::ZERO
        } else if self.contexts.iter().any(|it| it.attached.is_some()) {
            IDLE
        } else {
            UNUSED
        }
    }

    /// Carries out the requests that the driver has rung for.
    fn obey(&mut self) -> Result<(), End> {
        let reset = self.memory.u32(RESET).load(Acquire);

        if reset != self.reset {
            self.reset(reset);
        }
        self.carry_out_requests()?;
        self.answer(PONG, self.memory.u32(PING).load(Acquire));
        Ok(())
    }

    /// Writes an answer to the driver, who reads it at `offset`.
    fn answer(&self, offset: usize, answer: u32) {
        let answer = if self.misbehaviour.absent {
            NOTHING
        } else {
            answer
        };

        self.memory.u32(offset).store(answer, Release);
    }

    /// Writes all answers once more.
    fn answer_again(&self) {
        self.answer(RESET_DONE, self.reset);
        for (index, context) in self.contexts.iter().enumerate() {
            self.answer(self.layout.control(index) + control::STATE, context.request);
        }
        self.answer(PONG, self.memory.u32(PING).load(Acquire));
    }

    fn reset(&mut self, number: u32) {
        self.reset = number;
        self.misbehaviour.reset();
        for (index, context) in self.contexts.iter_mut().enumerate() {
            let block = self.layout.control(index);

            // The reset cancels earlier requests.
            context.request = self.memory.u32(block + control::REQUEST).load(Relaxed);
            context.attached = None;
        }
        self.answer_again();
    }

    fn carry_out_requests(&mut self) -> Result<(), End> {
        for index in 0..self.contexts.len() {
            let block = self.layout.control(index);
            let request = self.memory.u32(block + control::REQUEST).load(Acquire);
            let attach = request & 1 == 1;

            if request == self.contexts[index].request
                || !attach && self.misbehaviour.no_detach.contains(&index)
            {
                continue;
            }
            self.contexts[index] = Context {
                request,
                attached: attach.then(|| self.attach(index)),
            };
            self.answer(block + control::STATE, request);
            if !attach {
                if let Some(entry) = self.misbehaviour.late.remove(&index) {
                    self.raise_entry(entry)?;
                }
            }
        }
        Ok(())
    }

    /// Attaches a context: its MMIO is as new.
    fn attach(&self, index: usize) -> Attached {
        let base = self.layout.mmio(index);
        let block = self.layout.control(index);
        let pasid = self.memory.u32(block + control::PASID).load(Relaxed) & PASID_MASK;

        self.memory.fill(base, MMIO_SIZE, 0);
        for (at, value) in [
            (mmio::PASID, pasid.into()),
            (mmio::DATA_OFFSET, mmio::DATA as u64),
            (mmio::DATA_SIZE, mmio::DATA_LENGTH as u64),
        ] {
            self.memory.u64(base + at).store(value, Relaxed);
        }
        Attached {
            pasid,
            head: 0,
            bad_tail: None,
        }
    }

    /// Carries out the next command of a context, if there is one. Returns whether there was.
    fn work(&mut self, index: usize) -> Result<bool, End> {
        let Some(attached) = self.contexts[index].attached.as_mut() else {
            return Ok(false);
        };
        let base = self.layout.mmio(index);
        let tail = self.memory.u64(base + mmio::TAIL).load(Acquire);
        let Attached { pasid, head, .. } = *attached;

        if tail == head {
            return Ok(false);
        }
        if tail.wrapping_sub(head) > mmio::COMMANDS {
            if attached.bad_tail.replace(tail) != Some(tail) {
                self.report(index, Fault(OTHER, 0, BAD_TAIL));
            }
            return Ok(false);
        }
        let next = head.wrapping_add(1);
        attached.head = next;
        attached.bad_tail = None;

        let entry = base + mmio::COMMAND + (head % mmio::COMMANDS) as usize * command::SIZE;
        let command = self.fetch(entry);
        let status = match self.carry_out(index, pasid, &command)? {
            Ok(result) => {
                self.memory
                    .u64(entry + command::RESULT)
                    .store(result, Relaxed);
                DONE
            }
            Err(fault) => {
                self.report(index, fault);
                FAILED
            }
        };
        self.memory
            .u64(entry + command::STATUS)
            .store(status, Release);
        self.completed += 1;
        self.memory
            .u64(GLOBAL + global::COMPLETED)
            .store(self.completed, Release);
        self.memory.u64(base + mmio::HEAD).store(next, Release);
        if command.handle != 0 {
            let raised = match self.slot_of(base, command.handle) {
                Some(slot) => self.raise(index, pasid, command.queue, slot, BAD_HANDLE)?,
                None => Err(Fault(OTHER, 0, BAD_HANDLE)),
            };
            if let Err(fault) = raised {
                self.report(index, fault);
            }
        }
        Ok(true)
    }

    fn fetch(&self, entry: usize) -> Command {
        let u32 = |at| self.memory.u32(entry + at).load(Relaxed);
        let u64 = |at| self.memory.u64(entry + at).load(Relaxed);

        Command {
            opcode: u32(command::OPCODE),
            queue: u32(command::QUEUE),
            source: u64(command::SOURCE),
            destination: u64(command::DESTINATION),
            length: u64(command::LENGTH),
            value: u64(command::VALUE),
            handle: u64(command::HANDLE),
        }
    }

    /// Returns the command's result, or its error.
    fn carry_out(
        &mut self,
        index: usize,
        pasid: u32,
        command: &Command,
    ) -> Result<Result<u64, Fault>, End> {
        let base = self.layout.mmio(index);
        let data = |start| {
            layout::data(start, command.length)
                .map(|range| base + range.start..base + range.end)
                .map_err(|address| Fault(ADDRESS_FAULT, address, 0))
        };

        match command.opcode {
            COPY => match (data(command.source), data(command.destination)) {
                (Ok(from), Ok(to)) => {
                    self.copy(from.start, to.start, to.len())?;
                    Ok(Ok(0))
                }
                (Err(fault), _) | (_, Err(fault)) => Ok(Err(fault)),
            },
            FILL => Ok(data(command.destination).map(|to| {
                self.memory.fill(to.start, to.len(), command.value as u8);
                0
            })),
            CHECKSUM => Ok(data(command.source).map(|from| {
                self.buffer.resize(from.len(), 0);
                self.memory.read(from.start, &mut self.buffer);
                crc32(&self.buffer).into()
            })),
            RAISE => {
                let raised = self.raise(index, pasid, command.queue, command.value, BAD_SLOT)?;
                Ok(raised.map(|()| 0))
            }
            ERROR => Ok(Err(Fault(OTHER, 0, command.value))),
            _ => Ok(Err(Fault(OTHER, 0, BAD_OPCODE))),
        }
    }

    fn copy(&mut self, from: usize, to: usize, length: usize) -> Result<(), End> {
        self.buffer.resize(length, 0);
        self.memory.read(from, &mut self.buffer);
        let (first, second) = self.buffer.split_at(length / 2);
        self.memory.write(to, first);
        if let Some(time) = self.misbehaviour.vanish_half.take() {
            self.vanish(time)?;
        }
        self.memory.write(to + first.len(), second);
        Ok(())
    }

    /// A handle is an address. A function on PCI cannot store to it, so this looks up the slot with
    /// that handle.
    fn slot_of(&self, base: usize, handle: u64) -> Option<u64> {
        let handles = base + mmio::HANDLE;

        (0..mmio::HANDLES)
            .find(|index| self.memory.u64(handles + index * 8).load(Acquire) == handle)
            .map(|index| index as u64)
    }

    /// Raises a slot of a context, if it exists and its cookie is for this work.
    fn raise(
        &self,
        index: usize,
        pasid: u32,
        queue: u32,
        slot: u64,
        absent: u64,
    ) -> Result<Result<(), Fault>, End> {
        let Some(entry) = self.layout.entry(index, slot) else {
            return Ok(Err(Fault(OTHER, 0, absent)));
        };
        let cookie = self.memory.u64(self.layout.cookie(entry)).load(Acquire);
        let (its_pasid, its_queue) = ((cookie >> 32) as u32 & PASID_MASK, cookie as u32);

        if cookie & COOKIE_IN_USE == 0 || its_pasid != pasid || its_queue != 0 && its_queue != queue
        {
            return Ok(Err(Fault(OTHER, 0, BAD_COOKIE)));
        }
        self.raise_entry(entry).map(Ok)
    }

    /// Raises an entry of the message store, whichever context owns it.
    fn raise_entry(&self, entry: usize) -> Result<(), End> {
        self.machine.raise(entry + 1)
    }

    fn report(&self, index: usize, Fault(kind, address, code): Fault) {
        let block = self.layout.control(index);
        let errors = self.memory.u32(block + control::ERRORS);

        self.memory
            .u32(block + control::ERROR_KIND)
            .store(kind, Relaxed);
        self.memory
            .u64(block + control::ERROR_ADDRESS)
            .store(address, Relaxed);
        self.memory
            .u64(block + control::ERROR_CODE)
            .store(code, Relaxed);
        errors.store(errors.load(Relaxed).wrapping_add(1), Release);
    }
}

/// CRC-32 as in zlib.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < table.len() {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = value >> 1 ^ if value & 1 == 1 { 0xedb8_8320 } else { 0 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };

    !bytes.iter().fold(!0, |crc, byte| {
        crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}
