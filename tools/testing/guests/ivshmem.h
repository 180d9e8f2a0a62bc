/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory of the device ivshmem, which its server and the guest have in common. It is a
 * BAR for the guest, where no store is conditional: each field has one writer.
 */
#ifndef IVSHMEM_H
#define IVSHMEM_H

#include <linux/types.h>

#define VECTORS 4

/* How the guest waits for its interrupts: as a thread that sleeps, or without rest. */
enum { SLEEP, SPIN, STOP };

struct shared {
	/* By the server: what the guest does. */
	__u64 command;
	/* By the guest: it has its interrupts. */
	__u64 ready;
	/* By the guest: how often each vector came. */
	__u64 taken[VECTORS];
};

static inline __u64 get(__u64 *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void put(__u64 *field, __u64 value)
{
	__atomic_store_n(field, value, __ATOMIC_RELAXED);
}

#endif /* IVSHMEM_H */
