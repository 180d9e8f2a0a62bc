/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fixtures of several suites: resources in use and limits before a test, contexts
 * with interrupts that ring, programs that drain, and threads that ring or take CPUs
 * away meanwhile.
 */
#ifndef UXIVE_FIXTURE_H
#define UXIVE_FIXTURE_H

#include "uxive_selftest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uxive_drain.h>

/* Before and after a test. */

/* How much is in use of the resources that contexts take. */
struct use {
	long irqs;
	int linux_irqs;
	int events;
};

static inline struct use use_now(void)
{
	return (struct use){ all_irqs(), linux_irqs(), events_in_use() };
}

/* All is as it was before; contexts may still be on their way out. */
#define EXPECT_ALL_RETURNED(before) do {				\
	const struct use was_ = (before);				\
									\
	EXPECT_TRUE(becomes(all_irqs(), was_.irqs))			\
		TH_LOG("an interrupt is still held");			\
	EXPECT_TRUE(becomes(linux_irqs(), was_.linux_irqs))		\
		TH_LOG("a Linux interrupt is still held");		\
	EXPECT_TRUE(becomes(events_in_use(), was_.events))		\
		TH_LOG("an eventfd is still held");			\
} while (0)

static const char * const limit_names[] = {
	"max_irqs_per_context", "max_irqs_per_user", "max_irqs",
	"max_queues_per_user", "max_queues",
	"max_queue_bytes_per_user", "max_queue_bytes",
	"max_exports_per_user", "max_exports", "max_export_rate",
	"max_bypasses_per_user", "max_bypasses",
};

#define LIMITS		ARRAY_SIZE(limit_names)

/* The limits as they are before a test. */
struct limits {
	long saved[LIMITS];
};

static inline bool limits_save(struct limits *limits)
{
	for (size_t i = 0; i < LIMITS; i++) {
		limits->saved[i] = limit_get(limit_names[i]);
		if (limits->saved[i] < 0)
			return false;
	}
	return true;
}

static inline bool limits_restore(const struct limits *limits)
{
	bool done = true;

	for (size_t i = 0; i < LIMITS; i++)
		done = !limit_set(limit_names[i], limits->saved[i]) && done;
	return done;
}

/* Contexts that the kernel drains. */

/* One whose interrupts, in the slots from 0 on, are mapped and signal one eventfd. */
struct bells {
	int fd, efd;
	long id;
	unsigned long irqs;
	void *window;
};

/* Binds and maps the allocated interrupts. */
static inline bool bells_bind(struct bells *bells)
{
	bells->id = ux_context(bells->fd);
	for (unsigned long i = 0; i < bells->irqs; i++)
		if (ux_bind(bells->fd, slot_offset(i), bells->efd))
			return false;
	bells->window = ux_map(bells->fd, IRQ_BASE, bells->irqs * STRIDE);
	return bells->id >= 0 && bells->window != MAP_FAILED;
}

static inline bool bells_open(struct bells *bells, unsigned long irqs)
{
	*bells = (struct bells){ .fd = ux_open(), .efd = event_new(), .irqs = irqs };
	return bells->fd >= 0 && bells->efd >= 0 && !ux_fill(bells->fd, irqs) && bells_bind(bells);
}

static inline void bells_close(struct bells *bells)
{
	munmap(bells->window, bells->irqs * STRIDE);
	close(bells->fd);
	close(bells->efd);
}

/* The first interrupt whose ring does not count as one event, or -1. */
static inline int bells_mute(const struct bells *bells)
{
	for (unsigned long i = 0; i < bells->irqs; i++)
		if (touch(bells->window + i * STRIDE) || event_wait(bells->efd) != 1)
			return i;
	return -1;
}

/* Eventfds that are one interrupt's each. */

static inline void events_new(__s32 *efds, int count)
{
	for (int i = 0; i < count; i++)
		efds[i] = event_new();
}

static inline void events_close(const __s32 *efds, int count)
{
	for (int i = 0; i < count; i++)
		close(efds[i]);
}

/* Binds those in the slots from 0 on, each to a new one. */
static inline int bind_each(int fd, __s32 *efds, int count)
{
	int ret = 0;

	events_new(efds, count);
	for (int i = 0; !ret && i < count; i++)
		ret = ux_bind(fd, slot_offset(i), efds[i]);
	return ret;
}

/* The first slot of [@start, @start + @count) that does not ring its own eventfd once, or -1. */
static inline int first_mute(int fd, __u32 start, const __s32 *efds, int count)
{
	void *pages = ux_map(fd, slot_offset(start), count * STRIDE);
	int mute = pages == MAP_FAILED ? (int)start : -1;

	for (int i = 0; i < count && mute < 0; i++)
		if (touch(pages + i * STRIDE) || event_wait(efds[i]) != 1)
			mute = start + i;
	for (int i = 0; i < count && mute < 0; i++)
		if (event_read(efds[i]))
			mute = start + i;
	if (pages != MAP_FAILED)
		munmap(pages, count * STRIDE);
	return mute;
}

/* Contexts that the program drains. */

/* @fd: a new one. Its interrupts are in the slots from 0 on. */
static inline bool drain_open(struct uxive_drain *drain, int fd, unsigned long irqs)
{
	return fd >= 0 && !uxive_drain_open(drain, fd, event_new(), irqs) && !ux_fill(fd, irqs);
}

static inline void drain_close(struct uxive_drain *drain)
{
	uxive_drain_close(drain);
	close(drain->fd);
	close(drain->eventfd);
}

/* Threads. */

/*
 * Rings slot 0, each time that its last ring has come, until it is stopped or one does
 * not come.
 */
struct ringer {
	pthread_t thread;
	/* The context: of a program that drains, or else of one that the kernel drains. */
	struct uxive_drain *drain;
	const struct bells *bells;
	/* How long it waits: WATCHDOG_MS, or -1 where clocks leap. */
	int timeout;
	atomic_bool stop, lost;
	atomic_long rings;
};

static inline bool ringer_comes(const struct ringer *ringer)
{
	struct pollfd pfd = { .events = POLLIN };
	int slot;

	if (ringer->drain) {
		slot = uxive_drain_wait(ringer->drain, ringer->timeout);
		uxive_drain_eoi(ringer->drain, 0);
		return slot == 0;
	}
	pfd.fd = ringer->bells->efd;
	return ringer->timeout < 0 ? poll(&pfd, 1, -1) == 1 && event_read(pfd.fd) == 1 :
				     event_wait(pfd.fd) == 1;
}

static inline void *ringer_run(void *arg)
{
	struct ringer *ringer = arg;
	void *page = ringer->drain ? uxive_drain_trigger(ringer->drain, 0) : ringer->bells->window;

	while (!atomic_load(&ringer->stop) && !atomic_load(&ringer->lost)) {
		if (touch(page) || !ringer_comes(ringer))
			atomic_store(&ringer->lost, true);
		atomic_fetch_add(&ringer->rings, 1);
	}
	return NULL;
}

static inline int ringer_start(struct ringer *ringer)
{
	return pthread_create(&ringer->thread, NULL, ringer_run, ringer);
}

static inline void ringer_stop(struct ringer *ringer)
{
	atomic_store(&ringer->stop, true);
	pthread_join(ringer->thread, NULL);
}

/* Rings all of some interrupts, one after the other, whether they come or not. */
struct storm {
	pthread_t thread;
	unsigned int cpu;
	void *pages;
	unsigned long irqs;
	atomic_bool stop;
};

static inline void *storm_run(void *arg)
{
	struct storm *storm = arg;

	pin_to_cpu(storm->cpu);
	while (!atomic_load(&storm->stop))
		for (unsigned long i = 0; i < storm->irqs; i++)
			ring(storm->pages + i * STRIDE);
	return NULL;
}

static inline int storm_start(struct storm *storm)
{
	return pthread_create(&storm->thread, NULL, storm_run, storm);
}

static inline void storm_stop(struct storm *storm)
{
	atomic_store(&storm->stop, true);
	pthread_join(storm->thread, NULL);
}

/* The Linux interrupts of escalations; returns how many there are. */
static inline int escalations(int *irqs, int max)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[512];
	int count = 0, irq;

	while (file && fgets(line, sizeof(line), file)) {
		char *name = strrchr(line, ' ');

		if (!name || strncmp(name, " uxive-", 7) || sscanf(line, "%d:", &irq) != 1)
			continue;
		if (count < max)
			irqs[count] = irq;
		count++;
	}
	if (file)
		fclose(file);
	return count;
}

/* How often a Linux interrupt came, on all CPUs together, and on which one: it stays there. */
static inline long times_fired_on(int irq, int *cpu)
{
	FILE *file = fopen("/proc/interrupts", "r");
	long sum = 0, count;
	char line[512];
	int number, at;

	*cpu = -1;
	while (file && fgets(line, sizeof(line), file)) {
		char *next = line;
		int column = 0;

		if (sscanf(next, "%d:%n", &number, &at) != 1 || number != irq)
			continue;
		for (next += at; sscanf(next, "%ld%n", &count, &at) == 1; next += at) {
			sum += count;
			if (count)
				*cpu = column;
			column++;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

/* Takes each CPU but the first down and up, in turn. */
struct hotplug {
	pthread_t thread;
	atomic_bool stop;
	atomic_long turns;
	/* The error that ended it before it was stopped. */
	atomic_int error;
};

static inline void *hotplug_run(void *arg)
{
	struct hotplug *hotplug = arg;
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), ret = 0;

	for (int n = 0; !ret && !atomic_load(&hotplug->stop); n++) {
		ret = cpu_online(1 + n % (cpus - 1), false);
		if (!ret)
			ret = cpu_online(1 + n % (cpus - 1), true);
		atomic_fetch_add(&hotplug->turns, !ret);
	}
	atomic_store(&hotplug->error, ret);
	return NULL;
}

#define MOST_ROUNDS	20000

/*
 * How many rounds more, if the window was not hit: on a host that runs one CPU of the
 * machine at a time it seldom is. Not for ever.
 */
static inline int more_rounds(int rounds, bool missed)
{
	return missed && rounds < MOST_ROUNDS ? 100 : 0;
}

/*
 * The second of two racing threads: in each round it acts once, on CPU 1, a
 * while after the start.
 */
struct rival {
	pthread_t thread;
	void (*act)(void *arg);
	void *arg;
	/* The round, or -1 at the end. */
	atomic_int go;
	atomic_int ready, done;
	/* How long a while is, in turns. */
	atomic_long wait;
};

static inline void *rival_run(void *arg)
{
	struct rival *rival = arg;

	pin_to_cpu(1);
	for (int n = 1;; n++) {
		int go;

		while ((go = atomic_load(&rival->go)) < n) {
			if (go < 0)
				return NULL;
			sched_yield();
		}
		atomic_store(&rival->ready, n);
		take_turns(atomic_load(&rival->wait));
		rival->act(rival->arg);
		atomic_store(&rival->done, n);
	}
}

static inline int rival_start(struct rival *rival)
{
	return pthread_create(&rival->thread, NULL, rival_run, rival);
}

/* Starts round @n of the rival. The caller's round begins when this returns. */
static inline void rival_go(struct rival *rival, int n, const struct aim *aim)
{
	atomic_store(&rival->wait, aim->lead);
	atomic_store(&rival->go, n);
	/* It runs. */
	while (atomic_load(&rival->ready) < n)
		;
	take_turns(-aim->lead);
}

static inline void rival_wait(struct rival *rival, int n)
{
	while (atomic_load(&rival->done) < n)
		sched_yield();
}

static inline void rival_end(struct rival *rival)
{
	atomic_store(&rival->go, -1);
	pthread_join(rival->thread, NULL);
}

#endif /* UXIVE_FIXTURE_H */
