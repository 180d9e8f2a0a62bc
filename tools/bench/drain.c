// SPDX-License-Identifier: GPL-2.0
/* User drain: the program reads the event queue by itself. */
#include "bench.h"

#include <errno.h>
#include <misc/uxive.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A load from this offset of a management page ends the interrupt, and tells P
 * and Q as they were, big-endian.
 */
#define ESB_SET_PQ_00 0xc00
#define ESB_Q 0x0100000000000000UL

#define GENERATION 0x80000000u

struct queue {
	int fd;
	int eventfd;
	__u32 *entries;
	__u32 mask;
	__u32 next;
	/* As the entry that comes next will have it, in bit 31. */
	__u32 generation;
	/* Of slot 0; the pages of the others follow at this distance. */
	char *trigger;
	char *management;
	__u64 stride;
};

static void set_up(struct queue *queue)
{
	struct uxive_user_drain arg = { .size = sizeof(arg) };
	size_t length;

	queue->fd = open_driver();
	queue->eventfd = must(eventfd(0, EFD_CLOEXEC));
	arg.eventfd = queue->eventfd;
	must(ioctl(queue->fd, UXIVE_IOC_USER_DRAIN, &arg));

	queue->mask = arg.queue_entries - 1;
	queue->generation = GENERATION;
	length = arg.queue_entries * sizeof(*queue->entries);
	if (length < DEVICE_PAGE)
		length = DEVICE_PAGE;
	queue->entries = must(mmap(NULL, length, PROT_READ, MAP_SHARED, queue->fd,
				   arg.queue_offset));
	queue->stride = arg.esb_stride;
	for (int i = 0; i < N; i++)
		allocate(queue->fd);
	queue->trigger = must(mmap(NULL, N * queue->stride, PROT_READ | PROT_WRITE, MAP_SHARED,
				   queue->fd, arg.esb_offset));
	queue->management = queue->trigger + queue->stride / 2;
}

static inline __u32 next_entry(const struct queue *queue)
{
	__u32 entry;

	asm volatile("lwbrx %0,0,%1"
		     : "=r"(entry) : "r"(&queue->entries[queue->next]) : "memory");
	return entry;
}

/* Hardware has written it: the generation flips with each pass through the queue. */
static inline bool is_new(const struct queue *queue, __u32 entry)
{
	return !((entry ^ queue->generation) & GENERATION);
}

/* Takes the new entry and ends its interrupt. Returns its slot. */
static inline __u32 take(struct queue *queue, __u32 entry)
{
	__u32 slot = entry & ~GENERATION;
	__u64 offset = slot * queue->stride;

	/* What the ringer wrote before it rang is to be read after the entry. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	queue->next = (queue->next + 1) & queue->mask;
	if (!queue->next)
		queue->generation ^= GENERATION;
	if (load64(queue->management + offset + ESB_SET_PQ_00) & ESB_Q)
		store64(queue->trigger + offset, 0);
	return slot;
}

static inline __u32 wait_and_take(struct queue *queue)
{
	__u32 entry;

	do
		entry = next_entry(queue);
	while (!is_new(queue, entry));
	return take(queue, entry);
}

static void *trigger_page(const struct queue *queue, __u32 slot)
{
	return queue->trigger + slot * queue->stride;
}

/* From the ring until the entry has been seen in memory and the interrupt ended. */
static void measure_poll(struct queue *queue)
{
	struct op *op = new_op("ring_user_drain");
	__u32 slot;

	/* Once before, for the pages to be there. */
	for (int i = 0; i < N; i++) {
		store64(trigger_page(queue, i), 0);
		wait_and_take(queue);
	}
	for (int i = 0; i < N; i++) {
		void *trigger = trigger_page(queue, i);

		MEASURE(op, store64(trigger, 0); slot = wait_and_take(queue));
		if (slot != (__u32)i)
			die("rang slot %d, got slot %u", i, slot);
	}
}

struct waiter {
	struct queue *queue;
	struct op *arm;
	struct op *wake;
	int done;
	__u64 woken;
};

static void *wait_armed(void *argument)
{
	struct waiter *waiter = argument;
	struct queue *queue = waiter->queue;

	for (int i = 0; i < N; i++) {
		__u64 value;
		int result;

		MEASURE(waiter->arm, result = ioctl(queue->fd, UXIVE_IOC_ARM));
		must(result);
		if (is_new(queue, next_entry(queue)))
			die("an event without a ring");
		must(read(queue->eventfd, &value, sizeof(value)));
		if (!is_new(queue, next_entry(queue)))
			die("woken without an event");
		take(queue, next_entry(queue));
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
static void measure_armed(struct queue *queue)
{
	struct waiter waiter = {
		.queue = queue,
		.arm = new_op("arm"),
		.wake = new_op("arm_block_wake"),
		.done = must(eventfd(0, EFD_CLOEXEC)),
	};
	pthread_t thread;
	__u64 value = 1;

	/* An event from before the first arming may have signalled the eventfd. */
	must(write(queue->eventfd, &value, sizeof(value)));
	must(read(queue->eventfd, &value, sizeof(value)));
	if (pthread_create(&thread, NULL, wait_armed, &waiter))
		die("no thread");
	yield_to_woken(true);
	for (int i = 0; i < N; i++) {
		__u64 begin;

		usleep(SETTLE_US);
		mark_begin(waiter.wake);
		begin = timebase();
		store64(trigger_page(queue, 0), 0);
		must(read(waiter.done, &value, sizeof(value)));
		record(waiter.wake, waiter.arm->samples[i] + waiter.woken - begin);
	}
	pthread_join(thread, NULL);
	yield_to_woken(false);
}

void bench_drain(void)
{
	static struct queue queue;

	set_up(&queue);
	measure_poll(&queue);
	measure_armed(&queue);
	close(queue.fd);
}
