// SPDX-License-Identifier: GPL-2.0
/* User drain: the program reads the event queue by itself. */
#include "bench.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uxive_drain.h>

static void set_up(struct uxive_drain *drain)
{
	int fd = open_driver();

	must(uxive_drain_open(drain, fd, must(eventfd(0, EFD_CLOEXEC)), N));
	for (int i = 0; i < N; i++)
		allocate(fd);
}

static inline int poll_and_take(struct uxive_drain *drain)
{
	int slot;

	do
		slot = uxive_drain_try_next(drain);
	while (slot < 0);
	uxive_drain_eoi(drain, slot);
	return slot;
}

/* From the ring until the entry has been seen in memory and the interrupt ended. */
static void measure_poll(struct uxive_drain *drain)
{
	struct op *op = new_op("ring_user_drain");
	int slot;

	/* Once before, for the pages to be there. */
	for (int i = 0; i < N; i++) {
		store64(uxive_drain_trigger(drain, i), 0);
		poll_and_take(drain);
	}
	for (int i = 0; i < N; i++) {
		void *trigger = uxive_drain_trigger(drain, i);

		MEASURE(op, store64(trigger, 0); slot = poll_and_take(drain));
		if (slot != i)
			die("rang slot %d, got slot %d", i, slot);
	}
}

struct waiter {
	struct uxive_drain *drain;
	struct op *arm;
	struct op *wake;
	int done;
	__u64 woken;
};

static void *wait_armed(void *argument)
{
	struct waiter *waiter = argument;
	struct uxive_drain *drain = waiter->drain;

	for (int i = 0; i < N; i++) {
		__u64 value;
		int result;

		MEASURE(waiter->arm, result = uxive_drain_arm(drain));
		must(result);
		if (uxive_drain_try_next(drain) >= 0)
			die("an event without a ring");
		must(read(drain->eventfd, &value, sizeof(value)));
		result = uxive_drain_try_next(drain);
		if (result < 0)
			die("woken without an event");
		uxive_drain_eoi(drain, result);
		waiter->woken = timebase();
		mark_end(waiter->wake);
		value = 1;
		must(write(waiter->done, &value, sizeof(value)));
	}
	return NULL;
}

/*
 * Arming, and from the ring until the thread that was blocked has taken the
 * entry and ended the interrupt. The profiler's marks are around the latter.
 */
static void measure_armed(struct uxive_drain *drain)
{
	struct waiter waiter = {
		.drain = drain,
		.arm = new_op("arm"),
		.wake = new_op("arm_block_wake"),
		.done = must(eventfd(0, EFD_CLOEXEC)),
	};
	pthread_t thread;
	__u64 value = 1;

	/* An event from before the first arming may have signalled the eventfd. */
	must(write(drain->eventfd, &value, sizeof(value)));
	must(read(drain->eventfd, &value, sizeof(value)));
	if (pthread_create(&thread, NULL, wait_armed, &waiter))
		die("no thread");
	yield_to_woken(true);
	for (int i = 0; i < N; i++) {
		__u64 begin;

		usleep(SETTLE_US);
		mark_begin(waiter.wake);
		begin = timebase();
		store64(uxive_drain_trigger(drain, 0), 0);
		must(read(waiter.done, &value, sizeof(value)));
		record(waiter.wake, waiter.arm->samples[i] + waiter.woken - begin);
	}
	pthread_join(thread, NULL);
	yield_to_woken(false);
}

void bench_drain(void)
{
	static struct uxive_drain drain;

	set_up(&drain);
	measure_poll(&drain);
	measure_armed(&drain);
	close(drain.fd);
}
