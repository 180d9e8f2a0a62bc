/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * User drain: a program takes the events of a uxive context from memory by
 * itself. Documentation/userspace-api/uxive-user-drain.rst describes the
 * protocol, and why nothing is lost.
 *
 *	struct uxive_drain drain;
 *	int slot;
 *
 *	uxive_drain_open(&drain, fd, efd, irqs);
 *	while ((slot = uxive_drain_wait(&drain, -1)) >= 0) {
 *		uxive_drain_eoi(&drain, slot);
 *		handle(slot);
 *	}
 *	uxive_drain_close(&drain);
 *
 * An interrupt is named by its slot: 0 for the one at the first offset of the
 * window of trigger pages, 1 for the next. Those that OCXL_IOCTL_IRQ_ALLOC
 * makes in a new context have the slots 0, 1, 2 and so on.
 *
 * Functions that can fail return -1 and set errno. One thread at a time may
 * take events; several threads use uxive_drain_wait_shared(), which lets one of
 * them do so. Any thread may ring and end interrupts.
 *
 * For C from C99 on, and for C++ from C++11 on.
 */
#ifndef UXIVE_DRAIN_H
#define UXIVE_DRAIN_H

#include <errno.h>
#include <misc/uxive.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "uxive_drain.h is for ppc64le"
#endif

/* Q in a value loaded from a management page, whose bytes are in big-endian order. */
#define UXIVE_DRAIN_ESB_Q	((__u64)UXIVE_ESB_Q << 56)

/**
 * struct uxive_drain - a context whose queue the program drains
 * @queue: The entries, written by hardware, in big-endian order.
 * @mask: Their number less one.
 * @next: Index of the entry that is written next.
 * @generation: Bit 31 as that entry will have it.
 * @esb: Trigger page of slot 0.
 * @esb_stride: Distance of the pages of consecutive slots.
 * @esb_length: Length of the mapping at @esb.
 * @fd: The context, the caller's.
 * @eventfd: Signalled when the armed queue has an entry, the caller's.
 */
struct uxive_drain {
	__u32 *queue;
	__u32 mask;
	__u32 next;
	__u32 generation;
	char *esb;
	__u64 esb_stride;
	__u64 esb_length;
	int fd;
	int eventfd;
};

static inline __u64 uxive_drain_queue_length(const struct uxive_drain *drain)
{
	return (drain->mask + 1ULL) * sizeof(*drain->queue);
}

/**
 * uxive_drain_open() - have the program drain the queue of a context
 * @drain: The result.
 * @fd: The context. It must not have an interrupt yet.
 * @eventfd: To be signalled when the armed queue has an entry.
 * @irqs: How many slots, from 0 on, the program can reach. A slot need not be
 *	allocated before it is used. Message slots of an AFU begin at
 *	queue_entries of struct uxive_user_drain, 16384: a program that takes
 *	such events adds one for each message slot to that number.
 *
 * The descriptors remain the caller's. A context whose queue could not be
 * mapped is of no use any more.
 *
 * Return: 0, or -1 with errno EINVAL if @irqs is 0, before anything is done, or
 * as of UXIVE_IOC_USER_DRAIN and mmap().
 */
static inline int uxive_drain_open(struct uxive_drain *drain, int fd, int eventfd,
				   unsigned int irqs)
{
	struct uxive_user_drain arg;
	void *queue, *esb;
	int error;

	if (!irqs) {
		errno = EINVAL;
		return -1;
	}
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg);
	arg.eventfd = eventfd;
	arg.format = UXIVE_DRAIN_XIVE;
	if (ioctl(fd, UXIVE_IOC_USER_DRAIN, &arg))
		return -1;

	drain->mask = (__u32)(arg.queue_entries - 1);
	drain->next = 0;
	drain->generation = UXIVE_ENTRY_GENERATION;
	drain->esb_stride = arg.esb_stride;
	drain->esb_length = irqs * arg.esb_stride;
	drain->fd = fd;
	drain->eventfd = eventfd;

	queue = mmap(NULL, uxive_drain_queue_length(drain), PROT_READ, MAP_SHARED, fd,
		     (off_t)arg.queue_offset);
	if (queue == MAP_FAILED)
		return -1;
	esb = mmap(NULL, drain->esb_length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)arg.esb_offset);
	if (esb == MAP_FAILED) {
		error = errno;
		munmap(queue, uxive_drain_queue_length(drain));
		errno = error;
		return -1;
	}
	drain->queue = (__u32 *)queue;
	drain->esb = (char *)esb;
	return 0;
}

/**
 * uxive_drain_close() - undo the mappings
 * @drain: The context, as uxive_drain_open() has set it up.
 */
static inline void uxive_drain_close(struct uxive_drain *drain)
{
	munmap(drain->queue, uxive_drain_queue_length(drain));
	munmap(drain->esb, drain->esb_length);
}

/**
 * uxive_drain_trigger() - the trigger page of a slot
 * @drain: The context.
 * @slot: The slot, less than the number that uxive_drain_open() was told.
 *
 * An 8-byte store to the page rings, as uxive_drain_ring() does. A full barrier
 * must precede it if the ring announces data in memory.
 *
 * Return: the address of the page.
 */
static inline void *uxive_drain_trigger(const struct uxive_drain *drain, unsigned int slot)
{
	return drain->esb + slot * drain->esb_stride;
}

/**
 * uxive_drain_ring() - raise an interrupt of one's own
 * @drain: The context.
 * @slot: Its slot, which must have an interrupt: it is SIGBUS otherwise.
 *
 * All that the thread wrote before is visible to the thread that takes the
 * event.
 */
static inline void uxive_drain_ring(const struct uxive_drain *drain, unsigned int slot)
{
	__u64 *trigger = (__u64 *)uxive_drain_trigger(drain, slot);

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(trigger, 0, __ATOMIC_RELAXED);
}

/* This is one instruction on all processors. Before POWER10 a load and a swap would be several. */
static inline __u32 uxive_drain_load_be32(const __u32 *address)
{
	__u32 value;

	__asm__ __volatile__("lwbrx %0,%y1" : "=r"(value) : "Z"(*address));
	return value;
}

/**
 * uxive_drain_try_next() - take the next event, if there is one
 * @drain: The context.
 *
 * The interrupt can be sent again once uxive_drain_eoi() has ended it. All that
 * the ringer wrote before it rang is visible afterwards.
 *
 * Return: the slot, or -1 if the queue is empty; errno stays as it is.
 */
static inline int uxive_drain_try_next(struct uxive_drain *drain)
{
	__u32 entry = uxive_drain_load_be32(&drain->queue[drain->next]);

	if ((entry ^ drain->generation) & UXIVE_ENTRY_GENERATION)
		return -1;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	drain->next = (drain->next + 1) & drain->mask;
	if (!drain->next)
		drain->generation ^= UXIVE_ENTRY_GENERATION;
	return (int)(entry & UXIVE_ENTRY_NUMBER);
}

/**
 * uxive_drain_eoi() - end an interrupt
 * @drain: The context.
 * @slot: Its slot, of which an event was taken, less than the number that
 *	uxive_drain_open() was told.
 *
 * If it was rung again since it was sent, that becomes an event of its own now.
 * All that this thread wrote before is visible to the thread that takes that
 * event.
 */
static inline void uxive_drain_eoi(const struct uxive_drain *drain, unsigned int slot)
{
	__u64 *trigger = (__u64 *)uxive_drain_trigger(drain, slot);
	const char *management = (const char *)trigger + drain->esb_stride / 2;
	__u64 pq;

	/*
	 * After the load another thread may take the next event. The load is
	 * from a device, and only this barrier makes it wait for stores to
	 * memory.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	pq = __atomic_load_n((const __u64 *)(management + UXIVE_ESB_SET_PQ_00),
			     __ATOMIC_RELAXED);
	if (pq & UXIVE_DRAIN_ESB_Q)
		__atomic_store_n(trigger, 0, __ATOMIC_RELAXED);
}

/**
 * uxive_drain_arm() - have the next event signal the eventfd, once
 * @drain: The context.
 *
 * Events that are in the queue when this returns may not have signalled it.
 *
 * Return: 0, or -1 with errno as of UXIVE_IOC_ARM.
 */
static inline int uxive_drain_arm(const struct uxive_drain *drain)
{
	struct uxive_arm arg;

	arg.size = sizeof(arg);
	arg.flags = 0;
	return ioctl(drain->fd, UXIVE_IOC_ARM, &arg);
}

/**
 * uxive_drain_arm_and_look() - take the next event, or be told of it
 * @drain: The context.
 *
 * For programs that wait for other descriptors, too: with EAGAIN the eventfd
 * becomes readable with the next event. When it is, it must be read, or it
 * remains readable: poll() then returns at once, over and over.
 *
 * Return: the slot, or -1 with errno EAGAIN if the queue is empty, and armed,
 * or as of uxive_drain_arm().
 */
static inline int uxive_drain_arm_and_look(struct uxive_drain *drain)
{
	int slot;

	if (uxive_drain_arm(drain))
		return -1;
	slot = uxive_drain_try_next(drain);
	if (slot < 0)
		errno = EAGAIN;
	return slot;
}

/**
 * uxive_drain_wait() - take the next event, and block until there is one
 * @drain: The context.
 * @timeout: How many milliseconds to block at most, -1 for no limit. The time
 *	begins anew if the eventfd was signalled without an event.
 *
 * Return: the slot, or -1 with errno ETIMEDOUT, or as of uxive_drain_arm(),
 * poll() and read(): EINTR among them.
 */
static inline int uxive_drain_wait(struct uxive_drain *drain, int timeout)
{
	int slot = uxive_drain_try_next(drain);
	struct pollfd pollfd;
	__u64 count;

	pollfd.fd = drain->eventfd;
	pollfd.events = POLLIN;
	while (slot < 0) {
		slot = uxive_drain_arm_and_look(drain);
		if (slot >= 0 || errno != EAGAIN)
			break;
		switch (poll(&pollfd, 1, timeout)) {
		case -1:
			return -1;
		case 0:
			errno = ETIMEDOUT;
			return -1;
		}
		if (read(drain->eventfd, &count, sizeof(count)) < 0)
			return -1;
		slot = uxive_drain_try_next(drain);
	}
	return slot;
}

/**
 * uxive_drain_wait_shared() - uxive_drain_wait() for one of several threads
 * @drain: The context.
 * @lock: The lock of all threads that take its events, used for nothing else.
 * @timeout: As of uxive_drain_wait(). The time begins when the thread has the lock.
 *
 * One thread looks, arms and blocks, with the lock held. When it has an event it
 * releases the lock to the next thread, and handles the event meanwhile. A
 * handler that must not run in two threads at once for an interrupt calls
 * uxive_drain_eoi() last.
 *
 * A thread must not be cancelled in here. To end all threads, use an interrupt
 * for that: the thread that takes it ends it, rings it for the next thread, and
 * returns.
 *
 * Return: as of uxive_drain_wait(); or -1 with errno as of pthread_mutex_lock().
 */
static inline int uxive_drain_wait_shared(struct uxive_drain *drain, pthread_mutex_t *lock,
					  int timeout)
{
	int slot, error = pthread_mutex_lock(lock);

	if (error) {
		errno = error;
		return -1;
	}
	slot = uxive_drain_wait(drain, timeout);
	error = errno;
	pthread_mutex_unlock(lock);
	errno = error;
	return slot;
}

#endif /* UXIVE_DRAIN_H */
