// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A whole guest: memory with its program, XIVE, virtual CPUs.

use crate::{
    abi,
    code,
    memory::Memory,
    pages::Pages,
    stats::{
        Exits,
        Stats, //
    },
    vcpu::{
        Exit,
        Regs,
        Vcpu, //
    },
    vm::{
        made,
        Vm, //
    },
    xive::{
        Xive,
        PAGE, //
    }, //
};
pub use code::TIME_ROUND;
use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};
use std::{
    fs::File,
    io,
    os::fd::AsFd,
    sync::Arc, //
};

// Where things are in the guest. The memory is at 0, and the program at its beginning.
const BLOCKS: usize = 0x4000;
const COUNTERS: usize = 0x8000;
const QUEUES: usize = 0x10_0000;
const MEMORY: usize = 0x100_0000;
const ESBS: u64 = 1 << 40;
const TIMA: u64 = 2 << 40;
/// The first address that a guest leaves to pages that the VMM shows it.
pub const SHOWN: u64 = 3 << 40;

// The memslots of a guest.
const SLOT_MEMORY: u32 = 0;
const SLOT_ESBS: u32 = 1;
const SLOT_TIMA: u32 = 2;
/// The first memslot that is left to pages that the VMM shows the guest.
pub const SLOT_SHOWN: u32 = 3;

/// How many virtual CPUs a guest can have.
pub const MOST_CPUS: u32 = 8;
/// How many interrupts a guest has, and how many [counters](Guest::counter).
pub const INTERRUPTS: u32 = 64;

/// The machine state of the guest: 64 bits, machine checks taken, little-endian.
const MSR: u64 = 1 << 63 | 1 << 12 | 1 << 0;

/// A guest, seen by its VMM. Its virtual CPUs are apart, for threads of their own.
#[derive(Debug)]
pub struct Guest {
    vm: Arc<Vm>,
    xive: Xive,
    memory: Memory,
}

impl Guest {
    /// Makes a guest with so many virtual CPUs.
    pub fn new(cpus: u32) -> io::Result<(Self, Vec<Cpu>)> {
        if cpus > MOST_CPUS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let vm = Vm::new()?;
        let guest = Self {
            xive: Xive::new(&vm, INTERRUPTS)?,
            memory: Memory::new(MEMORY)?,
            vm,
        };

        guest.memory.write(0, code::code());
        guest.vm.show_memory(SLOT_MEMORY, 0, &guest.memory)?;
        guest.vm.show(SLOT_ESBS, ESBS, guest.xive.esbs())?;
        guest.vm.show(SLOT_TIMA, TIMA, guest.xive.tima())?;
        let cpus = (0..cpus).map(|number| guest.cpu(number));
        let cpus = cpus.collect::<io::Result<_>>()?;
        Ok((guest, cpus))
    }

    fn cpu(&self, number: u32) -> io::Result<Cpu> {
        let mut vcpu = Vcpu::new(&self.vm, number)?;
        let queue = (QUEUES as u64) + u64::from(number) * PAGE;
        let stats = abi::ioctl_number(&vcpu, abi::KVM_GET_STATS_FD, 0)?;

        self.xive.connect(&mut vcpu, number, queue)?;
        // The guest's operating system has the third page of the TIMA.
        self.variable(number, code::TIMA)
            .store(TIMA + 2 * PAGE, Ordering::Relaxed);
        self.reader(number, code::EVENTS, queue, ESBS);
        Ok(Cpu {
            vcpu,
            number,
            // SAFETY: The call makes one.
            stats: Stats::new(File::from(unsafe { made(stats) }))?,
        })
    }

    fn variable(&self, cpu: u32, at: usize) -> &AtomicU64 {
        self.memory.word(BLOCKS + cpu as usize * code::BLOCK + at)
    }

    fn reader(&self, cpu: u32, reader: usize, queue: u64, esbs: u64) {
        for (at, value) in [
            (code::QUEUE, queue),
            (code::GENERATION, 1 << 31),
            (code::ESBS, esbs),
        ] {
            self.variable(cpu, reader + at)
                .store(value, Ordering::Relaxed);
        }
    }

    /// The virtual machine.
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// The interrupt controller.
    pub fn xive(&self) -> &Xive {
        &self.xive
    }

    /// The memory, which is at the guest's address 0.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Shows pages to the guest, `at` bytes behind [`SHOWN`]. Returns their address there.
    pub fn show(&self, slot: u32, at: u64, pages: &Arc<Pages>) -> io::Result<u64> {
        self.vm.show(slot, SHOWN + at, pages)?;
        Ok(SHOWN + at)
    }

    /// Has signals of an eventfd interrupt a virtual CPU: event `number`, below [`INTERRUPTS`].
    pub fn irqfd(&self, event: impl AsFd, number: u32, cpu: u32) -> io::Result<()> {
        self.xive.source(number, cpu)?;
        self.vm.irqfd(event, number)
    }

    /// Tells a virtual CPU of an event queue that the driver has mapped, and of the ESBs of its
    /// interrupts: guest addresses. [`Call::Drain`] reads it.
    pub fn queue(&self, cpu: u32, queue: u64, esbs: u64) {
        self.reader(cpu, code::MAPPED, queue, esbs);
    }

    /// Has the routine of a virtual CPU end, if it is one that does.
    pub fn stop(&self, cpu: u32) {
        self.variable(cpu, code::STOP).store(1, Ordering::SeqCst);
    }

    /// Undoes [`Guest::stop`], for the next routine.
    pub fn unstop(&self, cpu: u32) {
        self.variable(cpu, code::STOP).store(0, Ordering::SeqCst);
    }

    /// When the routine [`Call::Time`] of a virtual CPU did its work.
    pub fn times(&self, cpu: u32) -> Times {
        let at = |variable| self.variable(cpu, variable).load(Ordering::SeqCst);

        Times {
            sent: at(code::SENT),
            stored: at(code::STORED),
            came: at(code::CAME),
        }
    }

    /// How far the routine of a virtual CPU has come: stores, or rounds.
    pub fn progress(&self, cpu: u32) -> u64 {
        self.variable(cpu, code::PROGRESS).load(Ordering::SeqCst)
    }

    /// How many interrupts a virtual CPU has taken.
    pub fn taken(&self, cpu: u32) -> u64 {
        self.variable(cpu, code::EVENTS + code::TAKEN)
            .load(Ordering::SeqCst)
    }

    /// How many events a virtual CPU has taken from the queue that the driver maps.
    pub fn drained(&self, cpu: u32) -> u64 {
        self.variable(cpu, code::MAPPED + code::TAKEN)
            .load(Ordering::SeqCst)
    }

    /// The number of the last interrupt that a virtual CPU has taken.
    pub fn last(&self, cpu: u32) -> u64 {
        self.variable(cpu, code::EVENTS + code::LAST)
            .load(Ordering::SeqCst)
    }

    /// A counter in the guest's memory, for [`Call::RingAndWait`].
    pub fn counter(&self, index: u32) -> &AtomicU64 {
        assert!(index < INTERRUPTS, "counter {index} of {INTERRUPTS}");
        self.memory.word(COUNTERS + index as usize * 8)
    }

    /// The address of a counter in the guest.
    pub fn counter_address(&self, index: u32) -> u64 {
        (COUNTERS + index as usize * 8) as u64
    }

    /// The address in the guest of the number of interrupts, or with `mapped` of events, that a
    /// virtual CPU has taken.
    pub fn taken_address(&self, cpu: u32, mapped: bool) -> u64 {
        let reader = if mapped { code::MAPPED } else { code::EVENTS };

        (BLOCKS + cpu as usize * code::BLOCK + reader + code::TAKEN) as u64
    }
}

/// A routine of the guest, with its arguments. Addresses are the guest's.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the routines explain their arguments")]
pub enum Call {
    /// Stores 8 bytes to a page so many times.
    Ring { page: u64, times: u64 },
    /// Stores 8 bytes to a page until it is stopped, and counts that as progress.
    RingUntilStopped { page: u64 },
    /// Rings `count` pages in turn, and waits for each until its counter is more than the number of
    /// the round; for all rounds from `from` to before `to`, which are progress. Returns the round
    /// that it came to: `to`, if it was not stopped.
    RingAndWait {
        pages: u64,
        count: u64,
        counters: u64,
        from: u64,
        to: u64,
    },
    /// Loads 8 bytes in big-endian order, and returns them.
    Load { address: u64 },
    /// Stores 8 bytes.
    Store { address: u64, value: u64 },
    /// Stores 4 bytes.
    StoreWord { address: u64, value: u32 },
    /// Takes events from the [queue](Guest::queue) and ends them, until there were so many. Returns
    /// how many there were.
    Drain { events: u64 },
    /// Takes interrupts until it is stopped, and never leaves the guest by itself. Returns how
    /// many.
    Wait,
    /// Takes interrupts until it is stopped, and cedes the CPU in between.
    Cede,
    /// Plays ping-pong with another guest: takes the events from number `from` to before `to`, and for
    /// each stores 8 bytes to a page, before it waits for the event if it serves, or else behind it.
    /// Returns how many were taken in all.
    Play {
        page: u64,
        from: u64,
        to: u64,
        serve: bool,
    },
    /// Stores 8 bytes to a page once, and takes [`Times`]. Returns when so many interrupts were taken
    /// in all, or it is stopped; the rounds until then, of [`TIME_ROUND`] instructions, are progress.
    Time { page: u64, taken: u64 },
}

/// When the routine [`Call::Time`] did its work, by the timebase of the host.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Before the store.
    pub sent: u64,
    /// Behind it.
    pub stored: u64,
    /// When the last interrupt came.
    pub came: u64,
}

impl Call {
    /// Returns where it is, and its arguments.
    fn registers(self) -> (u64, [u64; 5]) {
        match self {
            Self::Ring { page, times } => (code::RING, [page, times, 0, 0, 0]),
            Self::RingUntilStopped { page } => (code::RING_UNTIL_STOPPED, [page, 0, 0, 0, 0]),
            Self::RingAndWait {
                pages,
                count,
                counters,
                from,
                to,
            } => (code::RING_AND_WAIT, [pages, count, counters, from, to]),
            Self::Load { address } => (code::LOAD, [address, 0, 0, 0, 0]),
            Self::Store { address, value } => (code::STORE, [address, value, 0, 0, 0]),
            Self::StoreWord { address, value } => {
                (code::STORE_WORD, [address, value.into(), 0, 0, 0])
            }
            Self::Drain { events } => (code::DRAIN, [events, 0, 0, 0, 0]),
            Self::Wait => (code::WAIT, [0; 5]),
            Self::Cede => (code::CEDE, [0; 5]),
            Self::Play {
                page,
                from,
                to,
                serve,
            } => (code::PLAY, [page, from, to, serve.into(), 0]),
            Self::Time { page, taken } => (code::TIME, [page, taken, 0, 0, 0]),
        }
    }
}

/// How the guest has come back to its VMM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The routine has ended, with this result.
    Done(u64),
    /// The guest has got an exception that it does not expect.
    Exception {
        /// The vector: 0x200 is a machine check.
        vector: u64,
        /// The address of the instruction.
        address: u64,
    },
    /// Something else, for the VMM. [`Cpu::resume`] has the routine go on.
    Exit(Exit),
}

/// A virtual CPU of a guest.
#[derive(Debug)]
pub struct Cpu {
    vcpu: Vcpu,
    number: u32,
    stats: Stats,
}

impl Cpu {
    /// Runs a routine from its beginning.
    ///
    /// # Errors
    ///
    /// Those of [`Vcpu::run`].
    pub fn call(&mut self, call: Call) -> io::Result<Outcome> {
        let (pc, arguments) = call.registers();
        let mut regs = Regs {
            pc,
            msr: MSR,
            ..Default::default()
        };

        regs.gpr[14..19].copy_from_slice(&arguments);
        regs.gpr[13] = (BLOCKS + self.number as usize * code::BLOCK) as u64;
        self.vcpu.set_regs(regs)?;
        self.resume()
    }

    /// Goes on where the virtual CPU has stopped.
    ///
    /// # Errors
    ///
    /// Those of [`Vcpu::run`].
    pub fn resume(&mut self) -> io::Result<Outcome> {
        Ok(match self.vcpu.run()? {
            Exit::Hypercall {
                number: code::DONE,
                arguments: [result, ..],
            } => Outcome::Done(result),
            Exit::Hypercall {
                number: code::EXCEPTION,
                arguments: [vector, address, ..],
            } => Outcome::Exception { vector, address },
            exit => Outcome::Exit(exit),
        })
    }

    /// How often it has left the guest so far.
    pub fn exits(&self) -> io::Result<Exits> {
        self.stats.exits()
    }
}
