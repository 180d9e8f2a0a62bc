/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Measuring by the timebase. On the emulated machine it counts instructions:
 * QEMU's -icount shift=1 makes each one last 2 ns, which are 1.024 ticks.
 *
 * An operation is measured N times, less the cost of reading the timebase
 * twice. The samples are kept until all is done and are then printed, a line
 * for an operation: its name, the driver, the unit, samples.
 */
#ifndef UXIVE_BENCH_H
#define UXIVE_BENCH_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Samples of an operation, and interrupts that a measured context has. */
#define N 64

#define DEVICE_PAGE 65536

struct op {
	const char *name;
	const char *unit;
	bool marked;
	unsigned int count;
	__u64 samples[N];
};

/* Ends the program, with a line that says why. */
#define die(format, ...) \
	do { \
		fprintf(stderr, "%s: " format "\n", driver, ##__VA_ARGS__); \
		exit(1); \
	} while (0)

/* Ends the program if a call returned -1. */
#define must(call) \
	({ \
		__typeof__(call) result_ = (call); \
		if ((long)result_ == -1) \
			die("%s: %m", #call); \
		result_; \
	})

static inline __u64 timebase(void)
{
	__u64 ticks;

	asm volatile("mfspr %0,268" : "=r"(ticks) : : "memory");
	return ticks;
}

/* Device pages are accessed by one instruction, of the width that is said. */

static inline __u64 load64(const void *address)
{
	__u64 value;

	asm volatile("ld %0,0(%1)" : "=r"(value) : "b"(address) : "memory");
	return value;
}

static inline void store64(void *address, __u64 value)
{
	asm volatile("std %1,0(%0)" : : "b"(address), "r"(value) : "memory");
}

static inline void store32(void *address, __u32 value)
{
	asm volatile("stw %1,0(%0)" : : "b"(address), "r"(value) : "memory");
}

/*
 * Instructions that do nothing, between which the profiler counts. No
 * compiler makes them.
 */
static inline void mark_begin(const struct op *op)
{
	if (op->marked)
		asm volatile("ori 20,20,0" : : : "memory");
}

static inline void mark_end(const struct op *op)
{
	if (op->marked)
		asm volatile("ori 21,21,0" : : : "memory");
}

/* Measures the statements after the first argument once. */
#define MEASURE(series, ...) \
	do { \
		struct op *op_ = (series); \
		__u64 begin_, end_; \
		mark_begin(op_); \
		begin_ = timebase(); \
		__VA_ARGS__; \
		end_ = timebase(); \
		mark_end(op_); \
		record(op_, end_ - begin_); \
	} while (0)

/* Long enough for everything that others do on the machine's only CPU to be done. */
#define SETTLE_US 10000

/* Of the driver that this run measures. */
extern const char *driver;

struct op *new_op(const char *name);
void record(struct op *op, __u64 ticks);
void record_bytes(const char *name, __u64 bytes);

/* Keeps the program's own page faults out of the measurement. */
void lock_memory(bool lock);

void yield_to_woken(bool yield);

/* A way to ring, at `page`, at `write_fd` or at `futex`, and the descriptor to read afterwards. */
struct bell {
	enum { BY_PAGE, BY_REGISTER, BY_WRITE, BY_FUTEX } kind;
	void *page;
	int write_fd;
	int fd;
	__u32 *futex;
};

void measure_ring_read(const char *name, const struct bell *bells, unsigned int count);
void measure_ring_blocked(const char *name, const struct bell *bell, bool poll);

/* PCI functions: the first with a device id, and which driver it is bound to. */

#define PCI_EDU "0x11e8"
/* ivshmem-doorbell, which the model AFU is behind. */
#define PCI_AFU "0x1110"

const char *pci_find(const char *wanted);
void pci_bind(const char *address, const char *driver_name);
void pci_unbind(const char *address, const char *driver_name);

/* Parts of the program, each for one way to be run. */
int open_driver(void);
__u64 allocate(int fd);
void bind_eventfd(int fd, __u64 offset, int eventfd);
void bench_interrupts(void);
void bench_ready(void);
void bench_open_close(void);
void bench_batch(void);
void bench_export(void);
void bench_many(void);
void bench_drain(void);
void bench_ims(void);
void bench_held(void);
void bench_memory(void);
void bench_vfio(void);
void bench_vfio_afu(void);
void bench_scale(void);
void bench_pingpong(void);

#endif
