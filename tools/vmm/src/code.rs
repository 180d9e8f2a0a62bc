// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The guest's program, in assembler: exception vectors, and routines that the VMM starts by
//! setting registers.
//!
//! It runs at address 0 in real mode, little-endian. A routine takes its arguments in registers 14
//! to 18, since KVM sets 3 to 12 when a guest goes on behind a hypercall. It ends with the
//! hypercall [`DONE`], whose first argument is its result. Register 13 has the address of the
//! virtual CPU's block, in which all its variables are.
//!
//! Hypercalls: *Power Architecture Platform Requirements* (PAPR), "Hypervisor Call Functions";
//! numbers from 0xf000 on are the platform's own. XIVE's registers: the kernel's
//! `arch/powerpc/include/asm/xive-regs.h`.

use core::{
    arch::global_asm,
    ptr::addr_of,
    slice, //
};

/// The hypercall by which a routine ends.
pub(crate) const DONE: u64 = 0xf100;
/// The hypercall of an unexpected exception, with its vector, SRR0, SRR1, DAR and DSISR.
pub(crate) const EXCEPTION: u64 = 0xf104;

// Where the routines are.
pub(crate) const RING: u64 = 0x2000;
pub(crate) const RING_UNTIL_STOPPED: u64 = 0x2100;
pub(crate) const RING_AND_WAIT: u64 = 0x2200;
pub(crate) const LOAD: u64 = 0x2300;
pub(crate) const STORE: u64 = 0x2400;
pub(crate) const STORE_WORD: u64 = 0x2500;
pub(crate) const DRAIN: u64 = 0x2600;
pub(crate) const WAIT: u64 = 0x2700;
pub(crate) const CEDE: u64 = 0x2800;
pub(crate) const PLAY: u64 = 0x2900;
pub(crate) const TIME: u64 = 0x2a00;

/// How many instructions a round of `TIME` has.
pub const TIME_ROUND: u64 = 8;

// The variables of a virtual CPU, by their offsets in its block.
pub(crate) const STOP: usize = 0x00;
pub(crate) const PROGRESS: usize = 0x08;
pub(crate) const TIMA: usize = 0x10;
const SAVED: usize = 0x20;
/// Timebase before the store of the routine `TIME`, behind it, and when the last interrupt came.
pub(crate) const SENT: usize = 0x18;
pub(crate) const STORED: usize = 0x70;
pub(crate) const CAME: usize = 0x78;
/// The reader of the queue in which KVM's events arrive, and that of a queue that the driver maps.
pub(crate) const EVENTS: usize = 0x80;
pub(crate) const MAPPED: usize = 0xc0;
pub(crate) const BLOCK: usize = 0x100;

// The variables of a queue's reader.
pub(crate) const QUEUE: usize = 0x00;
const NEXT: usize = 0x08;
pub(crate) const GENERATION: usize = 0x10;
pub(crate) const ESBS: usize = 0x18;
pub(crate) const TAKEN: usize = 0x20;
pub(crate) const LAST: usize = 0x28;

global_asm!(
    ".pushsection .rodata.vmm_guest, \"a\"",
    ".balign 16",
    ".globl vmm_guest_code",
    ".hidden vmm_guest_code",
    "vmm_guest_code:",

    // Exceptions that nobody expects end the guest.
    ".macro vmm_unexpected vector",
    ".org vmm_guest_code + \\vector",
    "   li 4, \\vector",
    "   b vmm_exception",
    ".endm",
    ".irp vector, 0x100, 0x200, 0x300, 0x380, 0x400, 0x480",
    "vmm_unexpected \\vector",
    ".endr",

    // External interrupt: takes all events, and accepts the next ones.
    ".org vmm_guest_code + 0x500",
    "b vmm_external",
    ".irp vector, 0x600, 0x700, 0x800",
    "vmm_unexpected \\vector",
    ".endr",

    // Decrementer: not for two billion ticks more.
    ".org vmm_guest_code + 0x900",
    "   mtsprg 2, 3",
    "   lis 3, 0x7fff",
    "   mtdec 3",
    "   mfsprg 3, 2",
    "   rfid",
    ".irp vector, 0xa00, 0xc00, 0xd00, 0xe00, 0xf00, 0xf20, 0xf40, 0xf60",
    "vmm_unexpected \\vector",
    ".endr",

    ".org vmm_guest_code + 0x1000",
    "vmm_exception:",
    "   mfsrr0 5",
    "   mfsrr1 6",
    "   mfdar 7",
    "   mfdsisr 8",
    "   li 3, 0",
    "   ori 3, 3, {EXCEPTION}",
    "   sc 1",
    "   b .",
    // Ends a routine, with the result in register 4.
    "vmm_done:",
    "   li 3, 0",
    "   ori 3, 3, {DONE}",
    "   sc 1",
    "   b .",

    "vmm_external:",
    "   std 3, {SAVED}(13)",
    "   mftb 3",
    "   std 3, {CAME}(13)",
    "   std 4, {SAVED}+8(13)",
    "   std 5, {SAVED}+16(13)",
    "   std 6, {SAVED}+24(13)",
    "   std 7, {SAVED}+32(13)",
    "   std 8, {SAVED}+40(13)",
    "   std 9, {SAVED}+48(13)",
    "   std 10, {SAVED}+56(13)",
    "   mflr 3",
    "   std 3, {SAVED}+64(13)",
    "   mfcr 3",
    "   std 3, {SAVED}+72(13)",
    // Acknowledges: the load at TM_SPC_ACK_OS_REG raises the priority to that of the event.
    "   ld 3, {TIMA}(13)",
    "   lhz 4, 0x810(3)",
    "   addi 3, 13, {EVENTS}",
    "   bl vmm_drain",
    "   bl vmm_accept",
    "   ld 3, {SAVED}+72(13)",
    "   mtcr 3",
    "   ld 3, {SAVED}+64(13)",
    "   mtlr 3",
    "   ld 10, {SAVED}+56(13)",
    "   ld 9, {SAVED}+48(13)",
    "   ld 8, {SAVED}+40(13)",
    "   ld 7, {SAVED}+32(13)",
    "   ld 6, {SAVED}+24(13)",
    "   ld 5, {SAVED}+16(13)",
    "   ld 4, {SAVED}+8(13)",
    "   ld 3, {SAVED}(13)",
    "   rfid",

    // Sets the priority (CPPR) so that all events interrupt. Changes registers 3 and 4.
    "vmm_accept:",
    "   ld 3, {TIMA}(13)",
    "   li 4, 0xff",
    "   stb 4, 0x11(3)",
    "   blr",

    // Takes all events of a queue and ends each. Register 3 has the reader; changes 4 to 10.
    "vmm_drain:",
    "   ld 4, {QUEUE}(3)",
    "   ld 5, {NEXT}(3)",
    "   ld 6, {GENERATION}(3)",
    "1: lwbrx 7, 4, 5",
    "   xor 8, 7, 6",
    "   andis. 8, 8, 0x8000",
    "   bnelr",
    "   addi 5, 5, 4",
    "   clrldi. 5, 5, 48",
    "   bne 2f",
    "   xoris 6, 6, 0x8000",
    "2: std 5, {NEXT}(3)",
    "   std 6, {GENERATION}(3)",
    "   clrldi 7, 7, 33",
    "   std 7, {LAST}(3)",
    // Others see all that was written until now, when they see the next event.
    "   sync",
    "   sldi 8, 7, 17",
    "   ld 9, {ESBS}(3)",
    "   add 8, 8, 9",
    // SET_PQ_00 at the management page; if Q was set, the event is sent again.
    "   addis 9, 8, 1",
    "   li 10, 0xc00",
    "   ldbrx 9, 9, 10",
    "   andi. 9, 9, 1",
    "   beq 3f",
    "   std 9, 0(8)",
    "3: ld 9, {TAKEN}(3)",
    "   addi 9, 9, 1",
    "   std 9, {TAKEN}(3)",
    "   b 1b",

    // ring(page, times): stores, and does not wait.
    ".org vmm_guest_code + {RING}",
    "   mtctr 15",
    "1: std 15, 0(14)",
    "   bdnz 1b",
    "   sync",
    "   li 4, 0",
    "   b vmm_done",

    // ring_until_stopped(page): counts the stores.
    ".org vmm_guest_code + {RING_UNTIL_STOPPED}",
    "   li 4, 0",
    "1: std 4, 0(14)",
    "   addi 4, 4, 1",
    "   std 4, {PROGRESS}(13)",
    "   ld 5, {STOP}(13)",
    "   cmpdi 5, 0",
    "   beq 1b",
    "   b vmm_done",

    // ring_and_wait(pages, count, counters, from, to): rings each in turn, and waits for each until
    // its counter is more than the number of the round. Returns the round that it came to.
    ".org vmm_guest_code + {RING_AND_WAIT}",
    "   mr 8, 17",
    "1: li 9, 0",
    "   mr 10, 14",
    "   mr 11, 16",
    "2: sync",
    "   std 8, 0(10)",
    "3: ld 12, 0(11)",
    "   cmpld 12, 8",
    "   bgt 4f",
    "   ld 12, {STOP}(13)",
    "   cmpdi 12, 0",
    "   beq 3b",
    "   b 5f",
    "4: addis 10, 10, 1",
    "   addi 11, 11, 8",
    "   addi 9, 9, 1",
    "   cmpld 9, 15",
    "   blt 2b",
    "   addi 8, 8, 1",
    "   std 8, {PROGRESS}(13)",
    "   cmpld 8, 18",
    "   blt 1b",
    "5: mr 4, 8",
    "   b vmm_done",
    // load(address): returns the 8 bytes there.
    ".org vmm_guest_code + {LOAD}",
    "   ldbrx 4, 0, 14",
    "   b vmm_done",

    // store(address, value): 8 bytes.
    ".org vmm_guest_code + {STORE}",
    "   std 15, 0(14)",
    "   sync",
    "   b vmm_done",

    // store_word(address, value): 4 bytes.
    ".org vmm_guest_code + {STORE_WORD}",
    "   stw 15, 0(14)",
    "   sync",
    "   b vmm_done",

    // drain(events): polls the queue that the driver maps until so many events were taken.
    ".org vmm_guest_code + {DRAIN}",
    "1: addi 3, 13, {MAPPED}",
    "   bl vmm_drain",
    "   ld 4, {MAPPED}+{TAKEN}(13)",
    "   cmpld 4, 14",
    "   bge 2f",
    "   ld 5, {STOP}(13)",
    "   cmpdi 5, 0",
    "   beq 1b",
    "2: b vmm_done",

    // wait(): takes interrupts, and spins. Returns how many events were taken.
    ".org vmm_guest_code + {WAIT}",
    "   bl vmm_accept",
    "   mfmsr 4",
    "   ori 4, 4, 0x8000",
    "   mtmsrd 4, 1",
    "1: ld 5, {STOP}(13)",
    "   cmpdi 5, 0",
    "   beq 1b",
    "vmm_waited:",
    "   mfmsr 4",
    "   rldicl 4, 4, 48, 1",
    "   rotldi 4, 4, 16",
    "   mtmsrd 4, 1",
    "   ld 4, {EVENTS}+{TAKEN}(13)",
    "   b vmm_done",

    // cede(): takes interrupts, and gives the CPU back to the host meanwhile (H_CEDE).
    ".org vmm_guest_code + {CEDE}",
    "   bl vmm_accept",
    "1: ld 5, {STOP}(13)",
    "   cmpdi 5, 0",
    "   bne vmm_waited",
    "   li 3, 0xe0",
    "   sc 1",
    "   b 1b",

    // play(page, from, to, serve): takes interrupts. For each event from number `from` to before `to`
    // it stores, before it waits for the event if it serves, or else behind it. Returns how many events
    // were taken.
    ".org vmm_guest_code + {PLAY}",
    "   bl vmm_accept",
    "   mfmsr 4",
    "   ori 4, 4, 0x8000",
    "   mtmsrd 4, 1",
    "1: cmpdi 17, 0",
    "   beq 2f",
    "   sync",
    "   std 15, 0(14)",
    "2: ld 5, {STOP}(13)",
    "   cmpdi 5, 0",
    "   bne vmm_waited",
    "   ld 5, {EVENTS}+{TAKEN}(13)",
    "   cmpld 5, 15",
    "   ble 2b",
    "   addi 15, 15, 1",
    "   std 15, {PROGRESS}(13)",
    "   cmpdi 17, 0",
    "   bne 3f",
    "   sync",
    "   std 15, 0(14)",
    "3: cmpld 15, 16",
    "   blt 1b",
    "   b vmm_waited",

    // time(page, taken): stores once, with the time before and behind. Takes interrupts until so many
    // were taken, or it is stopped, and counts the rounds of TIME_ROUND instructions until then.
    ".org vmm_guest_code + {TIME}",
    "   bl vmm_accept",
    "   mfmsr 4",
    "   ori 4, 4, 0x8000",
    "   mtmsrd 4, 1",
    "   li 7, 0",
    "   std 7, {PROGRESS}(13)",
    "   sync",
    "   mftb 5",
    "   std 5, 0(14)",
    "   mftb 6",
    "   std 5, {SENT}(13)",
    "   std 6, {STORED}(13)",
    "1: addi 7, 7, 1",
    "   std 7, {PROGRESS}(13)",
    "   ld 5, {STOP}(13)",
    "   cmpdi 5, 0",
    "   bne vmm_waited",
    "   ld 5, {EVENTS}+{TAKEN}(13)",
    "   cmpld 5, 15",
    "   blt 1b",
    "   b vmm_waited",

    ".globl vmm_guest_code_end",
    ".hidden vmm_guest_code_end",
    "vmm_guest_code_end:",
    ".popsection",
    DONE = const DONE,
    EXCEPTION = const EXCEPTION,
    RING = const RING,
    RING_UNTIL_STOPPED = const RING_UNTIL_STOPPED,
    RING_AND_WAIT = const RING_AND_WAIT,
    LOAD = const LOAD,
    STORE = const STORE,
    STORE_WORD = const STORE_WORD,
    DRAIN = const DRAIN,
    WAIT = const WAIT,
    CEDE = const CEDE,
    PLAY = const PLAY,
    TIME = const TIME,
    STOP = const STOP,
    PROGRESS = const PROGRESS,
    TIMA = const TIMA,
    SAVED = const SAVED,
    SENT = const SENT,
    STORED = const STORED,
    CAME = const CAME,
    EVENTS = const EVENTS,
    MAPPED = const MAPPED,
    QUEUE = const QUEUE,
    NEXT = const NEXT,
    GENERATION = const GENERATION,
    ESBS = const ESBS,
    TAKEN = const TAKEN,
    LAST = const LAST,
);

extern "C" {
    static vmm_guest_code: u8;
    static vmm_guest_code_end: u8;
}

/// Returns the program, for the guest's address 0.
pub(crate) fn code() -> &'static [u8] {
    let (begin, end) = (addr_of!(vmm_guest_code), addr_of!(vmm_guest_code_end));

    // SAFETY: The assembler has placed both labels, the second behind the first one, around bytes
    // of the program that never change.
    unsafe { slice::from_raw_parts(begin, end.offset_from(begin) as usize) }
}
