/* SPDX-License-Identifier: GPL-2.0 */
/* What the owner and the ringer of the demonstration agree on. */
#ifndef DEMO_H
#define DEMO_H

#define INTERRUPTS 8
#define ROUNDS 1000

/* Sent to the ringer, together with the context's file. */
struct request {
	__u64 offsets[INTERRUPTS];
};

#endif /* DEMO_H */
