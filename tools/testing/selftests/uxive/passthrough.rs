// SPDX-License-Identifier: GPL-2.0

//! Promise: KVM passes interrupts of XIVE through to a guest and back, as the patches of the
//! testbed mend it. `make kvm-patches` shows what each of these tests is without its patch.
//!
//! The interrupts are those of the module `producer`: the driver has no part in it.

mod cpu;
#[allow(
    dead_code,
    reason = "most of it is for guests that have pages of the driver"
)]
mod guest;
mod ktap;
mod kvm;

use core::{
    arch::asm,
    sync::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    }, //
};
use cpu::pin_to_cpu;
use guest::rings;
use rustix::event::{
    eventfd,
    EventfdFlags, //
};
use std::{
    env,
    fs::{
        File,
        OpenOptions, //
    },
    hint::{
        black_box,
        spin_loop, //
    },
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd, //
    },
    process::{
        Command,
        ExitCode, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    }, //
};
use vmm::{
    Call,
    Guest,
    Memory,
    Outcome,
    Regs,
    Vcpu,
    Vm,
    Xics,
    Xive, //
};

const EINVAL: Option<i32> = Some(22);
const PAGE: usize = 64 * 1024;
/// The guest's number of the interrupt, and that of another source.
const NUMBER: u32 = 0x20;
const OTHER: u32 = 0x11;
/// How long an event may take that is to come, and how long is waited for none.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// An eventfd, as VFIO has one for each vector.
struct Trigger(File);

impl Trigger {
    fn new() -> Self {
        Self(eventfd(0, EventfdFlags::CLOEXEC).unwrap().into())
    }

    fn signal(&self) {
        (&self.0).write_all(&1u64.to_ne_bytes()).unwrap();
    }
}

/// An interrupt that can be passed through.
struct Producer(File);

impl Producer {
    fn new() -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/producer");

        Self(file.unwrap())
    }

    /// Connects it to the guest whose irqfd is that eventfd.
    fn connect(&self, trigger: &Trigger) -> io::Result<()> {
        (&self.0).write_all(format!("produce {}", trigger.0.as_raw_fd()).as_bytes())
    }

    fn disconnect(&self) {
        (&self.0).write_all(b"end").unwrap();
    }

    fn ring(&self) {
        (&self.0).write_all(b"ring").unwrap();
    }

    /// Reads P and Q.
    fn pq(&self) -> u64 {
        let mut digit = [0];

        (&self.0).read_exact(&mut digit).unwrap();
        u64::from(digit[0] - b'0')
    }
}

/// Reads P and Q of a source by the pages that KVM shows.
fn pq(xive: &Xive) -> u64 {
    u64::from_be(xive.esbs().load((2 * NUMBER as usize + 1) * PAGE + 0x800))
}

/// Sets P and Q of a source to 0 by the same page.
fn unmask(xive: &Xive) {
    xive.esbs().load((2 * NUMBER as usize + 1) * PAGE + 0xc00);
}

/// A guest that takes interrupts.
struct Taker<'a> {
    guest: &'a Guest,
    /// Events that were counted.
    seen: u64,
    /// Events that came beside those that were to come.
    spurious: u64,
}

impl Taker<'_> {
    fn wait(&self, events: u64, time: Duration) -> bool {
        let end = Instant::now() + time;

        while self.guest.taken(0) < events {
            if Instant::now() > end {
                return false;
            }
            spin_loop();
        }
        true
    }

    /// Expects one event.
    fn takes(&mut self, what: &str) {
        assert!(self.wait(self.seen + 1, LONG), "{what}: no event came");
        self.seen += 1;
    }

    /// Counts events that nobody expects.
    fn settles(&mut self) {
        while self.wait(self.seen + 1, SHORT) {
            self.seen += 1;
            self.spurious += 1;
        }
    }
}

/// Runs a guest that takes interrupts on CPU 1, by `Call::Wait` or `Call::Cede`.
fn taking(call: Call, test: impl FnOnce(&mut Taker<'_>, &Trigger, &Producer)) {
    let (guest, mut cpus) = Guest::new(1).unwrap();
    let (trigger, producer) = (Trigger::new(), Producer::new());

    guest.irqfd(&trigger.0, NUMBER, 0).unwrap();
    pin_to_cpu(0);
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            pin_to_cpu(1);
            cpus[0].call(call)
        });
        let mut taker = Taker {
            guest: &guest,
            seen: 0,
            spurious: 0,
        };

        // A test that fails must not leave the guest running.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test(&mut taker, &trigger, &producer);
        }));
        guest.stop(0);
        producer.disconnect();
        // Wakes it, if it has ceded.
        trigger.signal();
        unmask(guest.xive());
        let outcome = running.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:x?}");
    });
}

fn comes_and_goes(call: Call) {
    let (cycles, each) = (rings(200), 20);

    taking(call, |taker, trigger, producer| {
        trigger.signal();
        taker.takes("the first signal");
        for cycle in 0..cycles {
            producer.connect(trigger).unwrap();
            taker.settles();
            for _ in 0..each {
                producer.ring();
                taker.takes("a ring");
            }
            producer.disconnect();
            taker.settles();
            trigger.signal();
            taker.takes("a signal after it");
            assert!(
                taker.spurious <= 2 * (cycle + 1),
                "{} spurious",
                taker.spurious
            );
        }
        ktap::log(&format!(
            "{cycles} cycles, {} events, {} of them spurious",
            taker.seen, taker.spurious
        ));
    });
}

fn an_interrupt_comes_and_goes_under_a_guest_that_runs() {
    comes_and_goes(Call::Wait);
}

fn an_interrupt_comes_and_goes_under_a_guest_that_has_ceded() {
    comes_and_goes(Call::Cede);
}

/// The guest ends an event at the source whose number it has, so there can be one only.
fn has_its_number(event: impl FnOnce(&Trigger, &Producer)) {
    taking(Call::Wait, |taker, trigger, producer| {
        taker.guest.xive().source(OTHER, 0).unwrap();
        taker.guest.xive().route(NUMBER, 0, OTHER).unwrap();
        producer.connect(trigger).unwrap();
        event(trigger, producer);
        taker.takes("an event");
        assert_eq!(taker.guest.last(0), OTHER.into());
    });
}

fn an_event_has_the_number_that_the_guest_chose() {
    has_its_number(|_, producer| producer.ring());
}

fn an_event_after_it_has_that_number() {
    has_its_number(|trigger, producer| {
        producer.disconnect();
        trigger.signal();
    });
}

/// The guest has yet to end an event when the interrupt is switched, both ways.
fn an_event_under_way_is_not_forgotten() {
    let (guest, mut cpus) = Guest::new(1).unwrap();
    let (trigger, producer) = (Trigger::new(), Producer::new());
    let xive = guest.xive();

    guest.irqfd(&trigger.0, NUMBER, 0).unwrap();
    trigger.signal();
    while pq(xive) != 2 {
        thread::yield_now();
    }
    producer.connect(&trigger).unwrap();
    assert_eq!(pq(xive), 2);
    producer.ring();
    assert_eq!((pq(xive), producer.pq()), (3, 3));
    producer.disconnect();
    assert_eq!(pq(xive), 3);

    thread::scope(|scope| {
        let running = scope.spawn(|| cpus[0].call(Call::Wait));
        let end = Instant::now() + LONG;

        while guest.taken(0) < 2 && Instant::now() < end {
            thread::yield_now();
        }
        guest.stop(0);
        running.join().unwrap().unwrap();
    });
    assert_eq!((guest.taken(0), pq(xive)), (2, 0));
}

/// A source that the guest has masked is masked by either interrupt.
fn a_masked_source_stays_masked() {
    let (vm, trigger, producer) = (Vm::new().unwrap(), Trigger::new(), Producer::new());
    let xive = Xive::new(&vm, NUMBER + 1).unwrap();

    xive.make(NUMBER).unwrap();
    vm.irqfd(&trigger.0, NUMBER).unwrap();
    assert_eq!(pq(&xive), 1);
    producer.connect(&trigger).unwrap();
    producer.ring();
    assert_eq!((pq(&xive), producer.pq()), (1, 1));
    producer.disconnect();
    assert_eq!(pq(&xive), 1);
}

/// `source` is another source of the guest, in the same block of 1024 or not.
fn is_refused(source: u32) {
    let (vm, trigger, producer) = (Vm::new().unwrap(), Trigger::new(), Producer::new());
    let xive = Xive::new(&vm, NUMBER + 1).unwrap();

    xive.make(source).unwrap();
    vm.irqfd(&trigger.0, NUMBER).unwrap();
    assert_eq!(
        producer
            .connect(&trigger)
            .map_err(|error| error.raw_os_error()),
        Err(EINVAL)
    );
    // It can be made a source later, which is nobody's but the guest's.
    xive.make(NUMBER).unwrap();
    unmask(&xive);
    trigger.signal();
    let end = Instant::now() + LONG;
    while pq(&xive) != 2 {
        assert!(Instant::now() < end, "P and Q are {}", pq(&xive));
    }
    producer.disconnect();
    assert_eq!(pq(&xive), 2);
    unmask(&xive);
    producer.connect(&trigger).unwrap();
    producer.disconnect();
}

fn an_irqfd_of_no_block_is_refused() {
    is_refused(1024);
}

fn an_irqfd_of_no_source_is_refused() {
    is_refused(OTHER);
}

/// Touches the management page that KVM shows, while the interrupt is disconnected.
fn a_page_of_an_interrupt_goes_with_it() {
    let rounds = rings(2_000);
    let (guest, _cpus) = Guest::new(1).unwrap();
    let (trigger, producer) = (Trigger::new(), Producer::new());
    let xive = guest.xive();
    // The rounds in which the page can be touched, in which that has begun, in which it has ended.
    let [go, begun, gone] = [0, 0, 0].map(AtomicU64::new);
    let over = AtomicBool::new(false);
    let (mut during, mut stale) = (0, 0);

    guest.irqfd(&trigger.0, NUMBER, 0).unwrap();
    thread::scope(|scope| {
        let touching = scope.spawn(|| {
            let mut random = 1u64;

            pin_to_cpu(1);
            for round in 1.. {
                while go.load(Ordering::Acquire) != round {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    spin_loop();
                }
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                for _ in 0..(random >> 33) % 4000 {
                    black_box(());
                }
                begun.store(round, Ordering::Release);
                black_box(pq(xive));
                gone.store(round, Ordering::Release);
            }
        });

        pin_to_cpu(0);
        for round in 1..=rounds {
            // After that no page is mapped.
            producer.connect(&trigger).unwrap();
            go.store(round, Ordering::Release);
            producer.disconnect();
            during += u64::from(begun.load(Ordering::Acquire) == round);
            while gone.load(Ordering::Acquire) != round && !touching.is_finished() {
                spin_loop();
            }
            // The interrupt is masked, PQ=01, and the guest's own is not.
            assert_eq!(producer.pq(), 1);
            stale += u64::from(pq(xive) != 0);
        }
        over.store(true, Ordering::Relaxed);
    });
    ktap::log(&format!(
        "{rounds} disconnects, during {during} the page was touched, after {stale} it was another's"
    ));
    assert!(during > rounds / 50);
    assert_eq!(stale, 0);
}

fn a_device_that_is_made_anew_is_left_alone() {
    let (vm, trigger, producer) = (Vm::new().unwrap(), Trigger::new(), Producer::new());
    let xive = Xive::new(&vm, NUMBER + 1).unwrap();

    xive.make(NUMBER).unwrap();
    vm.irqfd(&trigger.0, NUMBER).unwrap();
    producer.connect(&trigger).unwrap();
    drop(xive);
    // Its interrupts are freed, and that of the producer is masked.
    assert_eq!(producer.pq(), 1);
    let xive = Xive::new(&vm, NUMBER + 1).unwrap();
    xive.make(NUMBER).unwrap();
    unmask(&xive);
    trigger.signal();
    let end = Instant::now() + LONG;
    while pq(&xive) != 2 && Instant::now() < end {}
    producer.disconnect();
    assert_eq!(pq(&xive), 2);
    unmask(&xive);
    // The new one takes it as the old one did.
    producer.connect(&trigger).unwrap();
    producer.ring();
    assert_eq!(pq(&xive), 2);
    producer.disconnect();
}

/// A guest with XICS, which KVM emulates upon XIVE.
fn an_interrupt_comes_and_goes_under_a_guest_with_xics() {
    /// Counts events at the address in register 14, until the word behind is set.
    const PROGRAM: [u32; 18] = [
        0x3860_0068, // li 3, 0x68 (H_CPPR)
        0x3880_00ff, // li 4, 0xff
        0x4400_0022, // sc 1
        0x3860_0074, // 1: li 3, 0x74 (H_XIRR)
        0x4400_0022, // sc 1
        0x7885_0221, // clrldi. 5, 4, 40
        0x4182_0018, // beq 2f
        0x3860_0064, // li 3, 0x64 (H_EOI)
        0x4400_0022, // sc 1
        0xe8ae_0000, // ld 5, 0(14)
        0x38a5_0001, // addi 5, 5, 1
        0xf8ae_0000, // std 5, 0(14)
        0xe8ae_0008, // 2: ld 5, 8(14)
        0x2c25_0000, // cmpdi 5, 0
        0x4182_ffd4, // beq 1b
        0x3860_0000, // li 3, 0
        0x6063_f000, // ori 3, 3, 0xf000
        0x4400_0022, // sc 1
    ];
    const COUNT: usize = 0x4000;
    let (vm, trigger, producer) = (Vm::new().unwrap(), Trigger::new(), Producer::new());
    let memory = Memory::new(PAGE).unwrap();
    let xics = Xics::new(&vm).unwrap();
    let mut vcpu = Vcpu::new(&vm, 0).unwrap();
    let (cycles, each) = (rings(50), 10);
    let mut seen = 0;

    xics.connect(&mut vcpu, 0).unwrap();
    xics.source(NUMBER, 0).unwrap();
    vm.irqfd(&trigger.0, NUMBER).unwrap();
    start(&vm, &memory, &mut vcpu, &PROGRAM, COUNT as u64);
    pin_to_cpu(0);
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            pin_to_cpu(1);
            vcpu.run()
        });
        let count = || memory.word(COUNT).load(Ordering::SeqCst);
        let mut takes = |raise: &dyn Fn()| {
            // Another event that came beside the last one is not this one.
            thread::sleep(Duration::from_millis(1));
            seen = count();
            raise();
            let end = Instant::now() + LONG;
            while count() == seen && Instant::now() < end {
                spin_loop();
            }
            count() != seen
        };
        let mut all = true;

        for _ in 0..cycles {
            all &= takes(&|| trigger.signal());
            all &= producer.connect(&trigger).is_ok();
            for _ in 0..each {
                all &= takes(&|| producer.ring());
            }
            producer.disconnect();
            if !all {
                break;
            }
        }
        memory.word(COUNT + 8).store(1, Ordering::SeqCst);
        running.join().unwrap().unwrap();
        assert!(all, "an event did not come, or the interrupt was refused");
    });
}

/// Has a virtual CPU begin with a program that is all that the guest has.
fn start(vm: &Vm, memory: &Memory, vcpu: &mut Vcpu, program: &[u32], argument: u64) {
    // 64 bits, machine checks taken, little-endian.
    const MSR: u64 = 1 << 63 | 1 << 12 | 1 << 0;
    let code: Vec<_> = program.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut regs = Regs {
        pc: 0x2000,
        msr: MSR,
        ..Default::default()
    };

    memory.write(0x2000, &code);
    vm.show_memory(0, 0, memory).unwrap();
    regs.gpr[14] = argument;
    vcpu.set_regs(regs).unwrap();
}

/// Calls `KVM_RUN` with a value in a floating point and in a vector register, both of which a call
/// must preserve. Returns what is there then.
fn run_with(vcpu: BorrowedFd<'_>, value: u64) -> (u64, u64) {
    const KVM_RUN: usize = 0x2000_ae80;
    let (mut float, mut vector) = (value, !value);

    // SAFETY: The call changes nothing of this process but `struct kvm_run`, which nobody reads.
    unsafe {
        asm!(
            "mtvsrd 14, 14",
            "mtvsrd 52, 15",
            "sc",
            "mfvsrd 14, 14",
            "mfvsrd 15, 52",
            inout("r14") float,
            inout("r15") vector,
            inout("r0") libc::SYS_ioctl => _,
            inout("r3") vcpu.as_raw_fd() as isize => _,
            inout("r4") KVM_RUN => _,
            inout("r5") 0usize => _,
            out("f14") _,
            out("v20") _,
            clobber_abi("C"),
        );
    }
    (float, vector)
}

fn a_vmm_keeps_its_registers() {
    /// Counts down, makes a hypercall that is for the VMM, and begins anew.
    const PROGRAM: [u32; 7] = [
        0x3ca0_0040, // lis 5, 0x40
        0x7ca9_03a6, // mtctr 5
        0x4200_0000, // bdnz .
        0x3860_0000, // li 3, 0
        0x6063_f000, // ori 3, 3, 0xf000
        0x4400_0022, // sc 1
        0x4bff_ffe8, // b .-24
    ];
    let vm = Vm::new().unwrap();
    let memory = Memory::new(PAGE).unwrap();
    let mut vcpu = Vcpu::new(&vm, 0).unwrap();
    let over = AtomicBool::new(false);
    let calls = rings(100);

    start(&vm, &memory, &mut vcpu, &PROGRAM, 0);
    pin_to_cpu(0);
    let lost = thread::scope(|scope| {
        // Has the virtual CPU's thread switched out.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
        let lost = (1..=calls)
            .filter(|&call| run_with(vcpu.as_fd(), call) != (call, !call))
            .count();
        over.store(true, Ordering::Relaxed);
        lost
    });
    ktap::log(&format!("of {calls} calls {lost} changed registers"));
    assert_eq!(lost, 0);
}

fn main() -> ExitCode {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {{
            let tests: &[(&str, fn())] = &[$((stringify!($test), $test as fn())),*];
            // One alone, if it is named.
            let named = env::args().nth(1);
            let chosen: Vec<_> = tests
                .iter()
                .filter(|(name, _)| named.as_ref().is_none_or(|named| named == name))
                .copied()
                .collect();

            ktap::run(&chosen)
        }};
    }

    let load = |command, what| {
        assert!(Command::new(command).arg(what).status().unwrap().success());
    };

    kvm::with(|| {
        load("insmod", "/modules/producer.ko");
        let result = tests![
            an_interrupt_comes_and_goes_under_a_guest_that_runs,
            an_interrupt_comes_and_goes_under_a_guest_that_has_ceded,
            an_interrupt_comes_and_goes_under_a_guest_with_xics,
            an_event_has_the_number_that_the_guest_chose,
            an_event_after_it_has_that_number,
            an_event_under_way_is_not_forgotten,
            a_masked_source_stays_masked,
            an_irqfd_of_no_block_is_refused,
            an_irqfd_of_no_source_is_refused,
            a_page_of_an_interrupt_goes_with_it,
            a_device_that_is_made_anew_is_left_alone,
            a_vmm_keeps_its_registers,
        ];
        load("rmmod", "producer");
        result
    })
}
