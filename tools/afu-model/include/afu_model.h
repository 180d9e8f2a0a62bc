/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The interface of the model AFU, IBM,MEMCPY3, for programs: the MMIO of a
 * context and the global MMIO. All numbers are little-endian; offsets are in
 * bytes.
 *
 * A program writes a command into entry `tail % AFU_COMMANDS`, then the next
 * tail, with a store barrier between them, since the AFU watches the tail. The
 * AFU writes result and status, then the next head, then raises the interrupt
 * of the handle. It takes no command while tail is more than AFU_COMMANDS ahead
 * of head.
 */
#ifndef AFU_MODEL_H
#define AFU_MODEL_H

#include <linux/types.h>

/* The MMIO of a context. "AFU": written by it, at attach or as it works. */

#define AFU_TAIL	0x0000	/* u64: commands submitted so far */
#define AFU_HEAD	0x0008	/* u64, AFU: commands completed so far */
#define AFU_PASID	0x0010	/* u64, AFU */
#define AFU_DATA_OFFSET	0x0018	/* u64, AFU: where the data area begins */
#define AFU_DATA_SIZE	0x0020	/* u64, AFU: its bytes */
#define AFU_HANDLE	0x0400	/* u64 each: handles of the context's interrupts */
#define AFU_HANDLES	256
#define AFU_COMMAND	0x1000	/* struct afu_command each */
#define AFU_COMMANDS	64

/**
 * struct afu_command - a command for the AFU
 * @opcode: AFU_COPY and so on.
 * @queue: Queue id. A slot with the cookie of another queue is not raised.
 * @source: Byte offset in the data area, of copy and checksum.
 * @destination: Byte offset in the data area, of copy and fill.
 * @length: Bytes; source and destination may overlap.
 * @value: Fill: the byte. Raise: the slot. Error: the code.
 * @handle: Handle of the interrupt that signals completion; 0 for none.
 * @result: Written by the AFU: of checksum, the CRC-32 as zlib's.
 * @status: Written by the AFU: AFU_PENDING until it is AFU_DONE or AFU_FAILED.
 */
struct afu_command {
	__u32 opcode;
	__u32 queue;
	__u64 source;
	__u64 destination;
	__u64 length;
	__u64 value;
	__u64 handle;
	__u64 result;
	__u64 status;
};

#define AFU_COPY	1
#define AFU_FILL	2
#define AFU_CHECKSUM	3
#define AFU_RAISE	4
#define AFU_ERROR	5

#define AFU_PENDING	0
#define AFU_DONE	1
#define AFU_FAILED	2

/*
 * Errors reach the program by read() of its context: a fault with the offset in
 * the MMIO of the first byte outside the data area, or one of these codes (or
 * that of AFU_ERROR).
 */
#define AFU_BAD_COOKIE	1	/* the slot is for other work, or unused */
#define AFU_BAD_TAIL	2	/* it is more than AFU_COMMANDS ahead */
#define AFU_BAD_OPCODE	3
#define AFU_BAD_HANDLE	4	/* it is not in the table, or its slot does not exist */
#define AFU_BAD_SLOT	5	/* the context has no such slot */

/*
 * The global MMIO, for tests. To have the AFU misbehave: write AFU_MISBEHAVE and
 * its arguments, then another number than before to AFU_GO, and wait until
 * AFU_GO_DONE has it.
 */

#define AFU_DOORBELLS	0x00	/* u64, AFU: doorbells received */
#define AFU_COMPLETED	0x08	/* u64, AFU: commands completed, of all contexts */
#define AFU_MISBEHAVE	0x10	/* u32 */
#define AFU_GO		0x14	/* u32 */
#define AFU_ARGUMENT	0x18	/* u64 */
#define AFU_ARGUMENT2	0x20	/* u64 */
#define AFU_GO_DONE	0x28	/* u32, AFU */

#define AFU_SPURIOUS	1	/* raise entry AFU_ARGUMENT of the store once */
#define AFU_STORM	2	/* raise entry AFU_ARGUMENT without pause */
#define AFU_STOP_STORM	3
#define AFU_LATE	4	/* raise slot AFU_ARGUMENT2 behind context AFU_ARGUMENT's detach */
#define AFU_NO_DETACH	5	/* do not confirm the detach of context AFU_ARGUMENT */
#define AFU_DO_DETACH	6	/* confirm pending detaches, and later ones at once */
#define AFU_VANISH	7	/* answer nothing for AFU_ARGUMENT milliseconds, but AFU_RETURN */
#define AFU_VANISH_HALF	8	/* the same, when half of the next copy is done */
#define AFU_GARBAGE	9	/* pseudo-random bytes of seed AFU_ARGUMENT for a descriptor */
#define AFU_RESTORE	10	/* the descriptor as it was */
#define AFU_DROP_NO_DMA	11	/* a descriptor without that promise */
#define AFU_RETURN	12	/* answer again, also requests of the meantime */
#define AFU_ABSENT	13	/* answer nothing but all ones, as a function that is not there */

#endif /* AFU_MODEL_H */
