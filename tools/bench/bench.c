// SPDX-License-Identifier: GPL-2.0
/*
 * The measuring program in the emulated machine: a run does one part for one
 * driver. `bench PART DRIVER [OP]`: OP is the operation to put marks around,
 * for the profiler.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_OPS 32

const char *driver;
static const char *marked;
static struct op ops[MAX_OPS];
static unsigned int op_count;
static __u64 overhead;

/* An operation without a name is measured and not printed. */
struct op *new_op(const char *name)
{
	static struct op forgotten;
	struct op *op = name ? &ops[op_count++] : &forgotten;

	if (op_count > MAX_OPS)
		die("more than %d operations", MAX_OPS);
	op->count = 0;
	op->name = name;
	op->unit = "ticks";
	op->marked = marked && name && !strcmp(marked, name);
	/* Touched now, not in the first measurement. */
	memset(op->samples, 0xff, sizeof(op->samples));
	return op;
}

void record(struct op *op, __u64 ticks)
{
	if (op->count == N)
		die("%s: more than %d samples", op->name, N);
	op->samples[op->count++] = ticks > overhead ? ticks - overhead : 0;
}

void record_bytes(const char *name, __u64 bytes)
{
	struct op *op = new_op(name);

	op->unit = "bytes";
	op->samples[op->count++] = bytes;
}

void lock_memory(bool lock)
{
	must(lock ? mlockall(MCL_CURRENT | MCL_FUTURE) : munlockall());
}

static void measure_overhead(void)
{
	struct op nothing = { .name = "nothing" };

	for (int i = 0; i < N; i++)
		MEASURE(&nothing, ;);
	overhead = nothing.samples[0];
	for (int i = 0; i < N; i++)
		if (nothing.samples[i] < overhead)
			overhead = nothing.samples[i];
}

static long futex(__u32 *word, int operation, __u32 value)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static inline void ring(const struct bell *bell)
{
	static const __u64 one = 1;

	if (bell->kind == BY_PAGE) {
		store64(bell->page, 0);
	} else if (bell->kind == BY_REGISTER) {
		store32(bell->page, 1);
	} else if (bell->kind == BY_WRITE) {
		write(bell->write_fd, &one, sizeof(one));
	} else {
		__atomic_add_fetch(bell->futex, 1, __ATOMIC_RELEASE);
		futex(bell->futex, FUTEX_WAKE, 1);
	}
}

/* After a ring of edu, tells it that it was seen: the register after the one that rings. */
static void acknowledge(const struct bell *bell)
{
	if (bell->kind == BY_REGISTER)
		store32(bell->page + sizeof(__u32), 1);
}

/* From the ring until read() returns, in one thread. */
void measure_ring_read(const char *name, const struct bell *bells, unsigned int count)
{
	struct op *op = new_op(name);
	__u64 value;

	/* A first ring, unmeasured, touches the pages. */
	for (unsigned int i = 0; i < count; i++) {
		ring(&bells[i]);
		must(read(bells[i].fd, &value, sizeof(value)));
		acknowledge(&bells[i]);
	}
	for (int i = 0; i < N; i++) {
		const struct bell *bell = &bells[i % count];
		long result;

		MEASURE(op, ring(bell); result = read(bell->fd, &value, sizeof(value)));
		if (result != sizeof(value))
			die("%s: read() returned %ld", name, result);
		acknowledge(bell);
	}
}

/*
 * Makes a thread that this one wakes run at once. With equal priorities a few
 * instructions more or less would decide that.
 */
void yield_to_woken(bool yield)
{
	must(setpriority(PRIO_PROCESS, gettid(), yield ? 19 : 0));
}

struct waiter {
	const struct bell *bell;
	bool poll;
	struct op *op;
	int done;
	__u64 woken;
};

static void *wait_for_rings(void *argument)
{
	struct waiter *waiter = argument;
	const struct bell *bell = waiter->bell;
	__u32 seen = 0;
	__u64 value = 1;

	for (int i = 0; i < N; i++) {
		if (bell->kind == BY_FUTEX) {
			while (__atomic_load_n(bell->futex, __ATOMIC_ACQUIRE) == seen)
				futex(bell->futex, FUTEX_WAIT, seen);
			seen++;
		} else {
			struct pollfd pollfd = { .fd = bell->fd, .events = POLLIN };

			if (waiter->poll)
				poll(&pollfd, 1, -1);
			read(bell->fd, &value, sizeof(value));
		}
		waiter->woken = timebase();
		mark_end(waiter->op);
		value = 1;
		must(write(waiter->done, &value, sizeof(value)));
	}
	return NULL;
}

/* From the ring until another thread, which was blocked, has been woken by it and has read. */
void measure_ring_blocked(const char *name, const struct bell *bell, bool poll)
{
	struct waiter waiter = {
		.bell = bell,
		.poll = poll,
		.op = new_op(name),
		.done = must(eventfd(0, 0)),
	};
	pthread_t thread;
	__u64 value;

	if (pthread_create(&thread, NULL, wait_for_rings, &waiter))
		die("%s: no thread", name);
	yield_to_woken(true);
	for (int i = 0; i < N; i++) {
		__u64 begin;

		usleep(SETTLE_US);
		mark_begin(waiter.op);
		begin = timebase();
		ring(bell);
		must(read(waiter.done, &value, sizeof(value)));
		record(waiter.op, waiter.woken - begin);
		acknowledge(bell);
	}
	pthread_join(thread, NULL);
	yield_to_woken(false);
	close(waiter.done);
}

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "interrupts", bench_interrupts },
	{ "ready", bench_ready },
	{ "open_close", bench_open_close },
	{ "batch", bench_batch },
	{ "export", bench_export },
	{ "many", bench_many },
	{ "drain", bench_drain },
	{ "ims", bench_ims },
	{ "held", bench_held },
	{ "memory", bench_memory },
	{ "vfio", bench_vfio },
	{ "vfio_afu", bench_vfio_afu },
	{ "scale", bench_scale },
	{ "pingpong", bench_pingpong },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	void (*run)(void) = NULL;

	driver = "bench";
	for (int i = 0; argc >= 3 && parts[i].name; i++)
		if (!strcmp(argv[1], parts[i].name))
			run = parts[i].run;
	if (!run)
		die("usage: bench PART DRIVER [OP]");
	driver = argv[2];
	marked = argv[3];

	measure_overhead();
	run();
	for (unsigned int i = 0; i < op_count; i++) {
		printf("%s %s %s", ops[i].name, driver, ops[i].unit);
		for (unsigned int j = 0; j < ops[i].count; j++)
			printf(" %llu", (unsigned long long)ops[i].samples[j]);
		printf("\n");
	}
	return 0;
}
