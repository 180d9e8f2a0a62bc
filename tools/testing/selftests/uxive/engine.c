// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the events of a context come through its one hardware queue, one
 * entry for each, drained by the kernel or by the program, and rung on any CPU.
 * None is lost when the queue wraps, when the program blocks, when a CPU goes
 * away or when another context storms. One context's queue does not affect
 * another's.
 */
#include "uxive_faults.h"
#include "uxive_fixture.h"
#include <sys/epoll.h>

#define ESB_STRIDE	(2 * STRIDE)
#define ENTRIES		16384U

static int user_drain(int fd, int efd, struct uxive_user_drain *arg)
{
	*arg = ux_drain_arg(efd);
	return ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, arg);
}

/* A context that drains its own queue, with interrupts in the slots from 0 on. */
static bool user_open(struct uxive_drain *user, unsigned long irqs)
{
	return drain_open(user, ux_open(), irqs) && user->esb_stride == ESB_STRIDE;
}

/*
 * The next interrupt, by the protocol: look, arm, look again, block. -1 if an
 * event does not come in time, which is a lost one. Counts how often it blocked.
 */
static int user_next(struct uxive_drain *user, int spins, long *blocked)
{
	int irq = -1;

	while (irq < 0) {
		for (int i = 0; i < spins && irq < 0; i++)
			irq = uxive_drain_try_next(user);
		if (irq >= 0)
			break;
		irq = uxive_drain_arm_and_look(user);
		if (irq >= 0 || errno != EAGAIN)
			break;
		if (!event_wait(user->eventfd))
			break;
		++*blocked;
	}
	return irq;
}

/* A thread that rings in turn, each time its last ring was acknowledged. */
struct sender {
	pthread_t thread;
	unsigned int cpu;
	unsigned long irqs;
	void *pages;
	size_t stride;
	long rings;
	atomic_long acked;
	atomic_bool stop;
};

static void *sender_run(void *arg)
{
	struct sender *sender = arg;

	pin_to_cpu(sender->cpu);
	for (long n = 0; n < sender->rings; n++) {
		ring(sender->pages + n % sender->irqs * sender->stride);
		while (atomic_load(&sender->acked) <= n) {
			if (atomic_load(&sender->stop))
				return NULL;
			sched_yield();
		}
	}
	return NULL;
}

/* The CPU that is farthest from CPU 0: on another chip, if there is one. */
static unsigned int far_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) - 1;
}

/* Each chip has a million LISNs. */
static bool same_chip(__u64 lisn, __u64 other)
{
	return lisn >> 20 == other >> 20;
}

/*
 * A source is one of the chip whose CPU allocates it. Slots 0 to @irqs stay in
 * use, but every second one gets a source that is near to the far CPU.
 */
static bool spread(int fd, unsigned long irqs)
{
	bool done = true;

	for (unsigned long i = 1; i < irqs; i += 2)
		done = done && !ux_free(fd, slot_offset(i));
	pin_to_cpu(far_cpu());
	done = done && !ux_fill(fd, irqs / 2);
	pin_to_cpu(0);
	return done;
}

FIXTURE(user) {
	struct uxive_drain user;
};

FIXTURE_VARIANT(user) {
	bool other_cpu;
	int spins;
};

FIXTURE_VARIANT_ADD(user, same_cpu_always_blocking) {
	.other_cpu = false,
	.spins = 1,
};

FIXTURE_VARIANT_ADD(user, other_cpu_polling) {
	.other_cpu = true,
	.spins = 1000,
};

FIXTURE_VARIANT_ADD(user, other_cpu_on_the_edge) {
	.other_cpu = true,
	.spins = 3,
};

FIXTURE_SETUP(user)
{
	pin_to_cpu(0);
	ASSERT_TRUE(user_open(&self->user, 64));
	ASSERT_TRUE(spread(self->user.fd, 64));
}

FIXTURE_TEARDOWN(user)
{
	drain_close(&self->user);
}

TEST_F(user, acknowledged_rings_are_neither_lost_nor_doubled)
{
	struct sender sender = {
		.cpu = variant->other_cpu ? far_cpu() : 0,
		.irqs = 64, .pages = self->user.esb, .stride = ESB_STRIDE,
		.rings = rings_to_send(),
	};
	long blocked = 0, n;

	ASSERT_EQ(0, pthread_create(&sender.thread, NULL, sender_run, &sender));
	for (n = 0; n < sender.rings; n++) {
		int irq = user_next(&self->user, variant->spins, &blocked);

		if (irq != n % 64)
			break;
		uxive_drain_eoi(&self->user, irq);
		atomic_fetch_add(&sender.acked, 1);
		progress();
	}
	atomic_store(&sender.stop, true);
	pthread_join(sender.thread, NULL);
	EXPECT_EQ(sender.rings, n);
	EXPECT_EQ(-1, uxive_drain_try_next(&self->user));
	/* It did not only poll. */
	EXPECT_LT(0, blocked);
	TH_LOG("%ld rings from CPU %u, blocked %ld times", n, sender.cpu, blocked);
}

FIXTURE(kernel) {
	int fd;
	int efd[64];
	void *pages;
};

FIXTURE_VARIANT(kernel) {
	bool other_cpu;
};

FIXTURE_VARIANT_ADD(kernel, same_cpu) {
	.other_cpu = false,
};

FIXTURE_VARIANT_ADD(kernel, other_cpu) {
	.other_cpu = true,
};

FIXTURE_SETUP(kernel)
{
	pin_to_cpu(0);
	self->fd = ux_open();
	ASSERT_EQ(0, ux_fill(self->fd, 64));
	ASSERT_TRUE(spread(self->fd, 64));
	ASSERT_EQ(0, bind_each(self->fd, self->efd, 64));
	self->pages = ux_map(self->fd, IRQ_BASE, 64 * STRIDE);
	ASSERT_NE(MAP_FAILED, self->pages);
}

FIXTURE_TEARDOWN(kernel)
{
	munmap(self->pages, 64 * STRIDE);
	close(self->fd);
	events_close(self->efd, 64);
}

TEST_F(kernel, acknowledged_rings_are_neither_lost_nor_doubled)
{
	struct sender sender = {
		.cpu = variant->other_cpu ? far_cpu() : 0,
		.irqs = 64, .pages = self->pages, .stride = STRIDE,
		.rings = rings_to_send(),
	};
	struct ux_irq irqs[64];
	int remote = 0;
	long n;

	ASSERT_EQ(64, ux_irqs(self->fd, irqs, 64));
	for (int i = 0; i < 64; i++)
		remote += !same_chip(irqs[i].lisn, irqs[0].lisn);
	EXPECT_EQ(chip_of_cpu(0) == chip_of_cpu(far_cpu()) ? 0 : 32, remote);

	ASSERT_EQ(0, pthread_create(&sender.thread, NULL, sender_run, &sender));
	for (n = 0; n < sender.rings; n++) {
		if (event_wait(self->efd[n % 64]) != 1)
			break;
		atomic_fetch_add(&sender.acked, 1);
		progress();
	}
	atomic_store(&sender.stop, true);
	pthread_join(sender.thread, NULL);
	EXPECT_EQ(sender.rings, n);
	for (int i = 0; i < 64; i++)
		EXPECT_EQ(0, event_read(self->efd[i]));
	TH_LOG("%ld rings from CPU %u, %d of 64 sources on another chip", n, sender.cpu, remote);
}

/* For tests that need nothing but time. */
FIXTURE(engine) {
};

FIXTURE_SETUP(engine)
{
}

FIXTURE_TEARDOWN(engine)
{
}

/*
 * The second ring comes at any moment of the handler's run for the first, also
 * between its last look and the unmasking of the escalation. Each CPU rings, as
 * one of them is interrupted by the escalation.
 */
TEST_F(engine, kernel_drain_loses_no_ring_at_any_distance)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long n = 0, together = 0;
	struct bells bells;

	ASSERT_TRUE(bells_open(&bells, 2));
	for (int cpu = 0; cpu < cpus; cpu++) {
		pin_to_cpu(cpu);
		for (long left = rings_to_send() / cpus; left > 0; left -= 2) {
			long count;

			ring(bells.window);
			for (long distance = n / 2 % 1000; distance; distance--)
				asm volatile("" : : : "memory");
			ring(bells.window + STRIDE);
			count = event_wait(bells.efd);
			together += count == 2;
			if (count == 1)
				count += event_wait(bells.efd);
			ASSERT_EQ(2, count)
				TH_LOG("cpu %d, ring %ld", cpu, n);
			n += 2;
			progress();
		}
	}
	EXPECT_EQ(0, event_read(bells.efd));
	TH_LOG("%ld rings from %d CPUs in turn, %ld pairs came as one", n, cpus, together);
	bells_close(&bells);
}

TEST_F(engine, waiting_takes_each_acknowledged_ring)
{
	struct uxive_drain user;
	struct sender sender = {
		.cpu = 1 % sysconf(_SC_NPROCESSORS_ONLN), .irqs = 4, .stride = ESB_STRIDE,
		.rings = rings_to_send() / 10,
	};
	long n;

	ASSERT_TRUE(user_open(&user, 4));
	EXPECT_EQ(-1, uxive_drain_wait(&user, 1));
	EXPECT_EQ(ETIMEDOUT, errno);
	sender.pages = user.esb;
	ASSERT_EQ(0, pthread_create(&sender.thread, NULL, sender_run, &sender));
	for (n = 0; n < sender.rings; n++) {
		int irq = uxive_drain_wait(&user, WATCHDOG_MS);

		if (irq != n % 4)
			break;
		uxive_drain_eoi(&user, irq);
		atomic_fetch_add(&sender.acked, 1);
		progress();
	}
	atomic_store(&sender.stop, true);
	pthread_join(sender.thread, NULL);
	EXPECT_EQ(sender.rings, n);
	EXPECT_EQ(-1, uxive_drain_try_next(&user));
	drain_close(&user);
}

TEST_F(engine, the_generation_flips_at_every_wrap)
{
	struct uxive_drain user;

	ASSERT_TRUE(user_open(&user, 2));
	for (unsigned int n = 0; n < 8 * ENTRIES; n++) {
		ASSERT_EQ(-1, uxive_drain_try_next(&user));
		uxive_drain_ring(&user, n % 2);
		ASSERT_EQ((int)(n % 2), uxive_drain_try_next(&user))
			TH_LOG("event %u", n);
		uxive_drain_eoi(&user, n % 2);
		progress();
	}
	drain_close(&user);
}

TEST_F(engine, a_full_context_sees_each_interrupt_once)
{
	static unsigned char seen[ENTRIES];
	struct uxive_drain user;
	unsigned int n;

	ASSERT_TRUE(user_open(&user, ENTRIES));
	for (n = 0; n < ENTRIES; n++)
		ring(uxive_drain_trigger(&user, n));
	/* All are pending at once: as many entries as there is room for. */
	for (n = 0; n < ENTRIES; n++) {
		int irq = uxive_drain_try_next(&user);

		ASSERT_LE(0, irq);
		ASSERT_GT((int)ENTRIES, irq);
		ASSERT_EQ(0, seen[irq]);
		seen[irq] = 1;
		progress();
	}
	EXPECT_EQ(-1, uxive_drain_try_next(&user));
	drain_close(&user);
}

TEST_F(engine, a_full_context_is_drained_by_the_kernel)
{
	int fd = ux_open(), efd = event_new();
	unsigned long n;
	long count = 0;
	void *pages;

	ASSERT_EQ(0, ux_fill(fd, ENTRIES));
	for (n = 0; n < ENTRIES; n++) {
		ASSERT_EQ(0, ux_bind(fd, slot_offset(n), efd));
		progress();
	}
	pages = ux_map(fd, IRQ_BASE, ENTRIES * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (n = 0; n < ENTRIES; n++)
		ring(pages + n * STRIDE);
	while (count < ENTRIES) {
		long more = event_wait(efd);

		ASSERT_LT(0, more);
		count += more;
		progress();
	}
	/* One more event, which comes after all others: none is under way any more. */
	ring(pages);
	ASSERT_EQ(1, event_wait(efd));
	EXPECT_EQ(ENTRIES, count);
	munmap(pages, ENTRIES * STRIDE);
	close(fd);
}

TEST_F(engine, an_overrun_queue_is_its_owners_loss_only)
{
	struct uxive_drain user;
	struct bells bells;

	ASSERT_TRUE(bells_open(&bells, 1));
	ASSERT_TRUE(user_open(&user, 2));

	/* Ends unread events, more often than the queue has room for. */
	for (unsigned int n = 0; n < 3 * ENTRIES; n++) {
		ring(uxive_drain_trigger(&user, n % 2));
		uxive_drain_eoi(&user, n % 2);
		progress();
		if (n % 1000 == 0)
			ASSERT_EQ(-1, bells_mute(&bells));
	}
	for (int n = 0; n < 1000; n++) {
		ASSERT_EQ(-1, bells_mute(&bells));
		progress();
	}
	drain_close(&user);
	bells_close(&bells);
}

/* The most entries that one run of the handler takes: it looks twice, for 64 each time. */
#define RUN 128

/* How many interrupts a burst rings: more than are handled with interrupts off. */
#define BURST 256

/*
 * Rings all, one after the other. If the escalation comes to another CPU they
 * pile up while it handles the first. On a machine with one CPU they cannot:
 * there each store is interrupted by what it has raised.
 */
static void burst(void *pages)
{
	for (int i = 0; i < BURST; i++)
		ring(pages + i * STRIDE);
}

/* A context with as many interrupts as a burst rings, all of them mapped. */
static bool burst_open(int *fd, int efd, void **pages)
{
	*fd = ux_open();
	if (*fd < 0 || ux_fill(*fd, BURST))
		return false;
	*pages = ux_map(*fd, IRQ_BASE, BURST * STRIDE);
	if (*pages == MAP_FAILED)
		return false;
	for (int i = 0; i < BURST; i++) {
		/* Take the page fault now, so that a burst takes none. */
		ring(*pages + i * STRIDE);
		if (ux_bind(*fd, slot_offset(i), efd))
			return false;
	}
	/* Comes after all those. */
	ring(*pages + (BURST - 1) * STRIDE);
	return event_wait(efd) > 0;
}

static long times_fired(int irq)
{
	int cpu;

	return times_fired_on(irq, &cpu);
}

TEST_F(engine, a_storm_does_not_starve_another_context)
{
	int storm_fd, storm_efd = event_new();
	struct bells bells;
	/* One of them is not where the escalation comes to. */
	struct storm storm[2] = {
		{ .cpu = 0, .irqs = BURST }, { .cpu = far_cpu(), .irqs = BURST },
	};
	void *pages;
	const int rings = fewer_with_lockdep(1000, 100);
	long first, last, events, runs, amid = 0;
	int irq = -1;

	/* Others may be on their way out. */
	ASSERT_TRUE(becomes(escalations(NULL, 0), 0));
	ASSERT_TRUE(burst_open(&storm_fd, storm_efd, &pages));
	ASSERT_EQ(1, escalations(&irq, 1));
	ASSERT_TRUE(bells_open(&bells, 1));
	first = ux_deferred(storm_fd);
	last = first;
	ASSERT_LE(0, first)
		TH_LOG("fdinfo has no line uxive-deferred");

	for (int i = 0; i < 2; i++) {
		storm[i].pages = pages;
		ASSERT_EQ(0, storm_start(&storm[i]));
	}
	for (int n = 0; n < rings; n++) {
		long before = last;

		ASSERT_EQ(-1, bells_mute(&bells)) TH_LOG("ring %d", n);
		last = ux_deferred(storm_fd);
		amid += last != before;
		progress();
		/* For the storm, if there is one CPU. */
		sched_yield();
	}
	for (int i = 0; i < 2; i++)
		storm_stop(&storm[i]);

	/* The storm was one, at the same time, and it got through, too. */
	if (far_cpu() != 0) {
		EXPECT_LT(first, last);
		EXPECT_LT(0, amid);
	}
	events = event_read(storm_efd);
	runs = times_fired(irq) + ux_deferred(storm_fd);
	EXPECT_LT(0, events);
	/* No run held a CPU for longer than it may. */
	EXPECT_LE(events, RUN * runs);
	/* But for those that the host itself held up for longer than a run may take. */
	EXPECT_GE(rings / 10, ux_deferred(bells.fd));
	TH_LOG("%d rings; %ld events of a storm in %ld runs, %ld deferred, amid %ld rings", rings,
	       events, runs, last - first, amid);

	munmap(pages, BURST * STRIDE);
	close(storm_fd);
	bells_close(&bells);
}

/* Real-time programs. */

#define RT_RINGS	500
/* How many wait for the first event, so that the handler is still at it when the others come. */
#define RT_WAITERS	900
#define MAX_CPUS	16

/*
 * Normal threads get nothing while real-time ones run, or as before if @nothing is
 * false. Returns false if this kernel has no such switch.
 */
static bool real_time_takes_all(bool nothing)
{
	static long runtime[MAX_CPUS];
	bool done = true;

	for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
		char path[64];

		snprintf(path, sizeof(path),
			 "/sys/kernel/debug/sched/fair_server/cpu%d/runtime", cpu);
		if (access(path, F_OK))
			return done && cpu > 0;
		if (nothing)
			runtime[cpu] = file_number(path);
		done = !file_write(path, nothing ? "0" : path_of("%ld", runtime[cpu])) && done;
	}
	return done;
}

/* Threads of SCHED_FIFO that do nothing, one on each CPU but that of the test. */
struct spinner {
	pthread_t thread;
	int cpu;
	atomic_bool *stop;
};

static bool is_real_time(int priority)
{
	struct sched_param param = { .sched_priority = priority };

	return !sched_setscheduler(0, priority ? SCHED_FIFO : SCHED_OTHER, &param);
}

static void *spin(void *arg)
{
	struct spinner *spinner = arg;

	pin_to_cpu(spinner->cpu);
	if (!is_real_time(10))
		abort();
	while (!atomic_load(spinner->stop))
		;
	return NULL;
}

/*
 * The first ring has the handler wake many, and the others come meanwhile: so a thread has
 * to see to them. Where a slow host lets them come later, this is tried again.
 */
TEST_F(engine, real_time_programs_do_not_hold_up_events)
{
	const int rings = fewer_with_lockdep(RT_RINGS, 100), tries = 20;
	int fd = ux_open(), efd = event_new(), first = event_new();
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), irq = -1, busy, own;
	struct spinner spinners[MAX_CPUS] = {};
	static int waiters[RT_WAITERS];
	int epoll = epoll_create1(EPOLL_CLOEXEC), turn = 0;
	long events, start, end, before, deferred = 0;
	atomic_bool stop = false;
	void *pages;

	for (int i = 0; i < RT_WAITERS; i++) {
		struct epoll_event wanted = { .events = EPOLLIN };

		waiters[i] = dup(first);
		ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, waiters[i], &wanted));
	}
	ASSERT_GE(MAX_CPUS, cpus);
	/* Others may be on their way out. */
	ASSERT_TRUE(becomes(escalations(NULL, 0), 0));
	ASSERT_EQ(0, ux_fill(fd, rings));
	ASSERT_EQ(1, escalations(&irq, 1));
	pages = ux_map(fd, IRQ_BASE, rings * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int i = 1; i < rings; i++)
		ring(pages + i * STRIDE);
	/* The queue keeps their order: when this comes, the others are over. */
	ASSERT_EQ(0, ux_bind(fd, slot_offset(0), first));
	ring(pages);
	ASSERT_EQ(1, event_wait(first));
	for (int i = 1; i < rings; i++)
		ASSERT_EQ(0, ux_bind(fd, slot_offset(i), efd));
	if (!real_time_takes_all(true)) {
		real_time_takes_all(false);
		SKIP(return, "this kernel cannot starve normal threads");
	}
	before = ux_deferred(fd);

	/* Not where the escalation comes to: each ring would be handled before the next. */
	ASSERT_LT(0, times_fired_on(irq, &busy));
	own = (busy + 1) % cpus;
	pin_to_cpu(own);
	for (int i = 0; i < cpus; i++) {
		spinners[i] = (struct spinner){ .cpu = i, .stop = &stop };
		if (i != own)
			ASSERT_EQ(0, pthread_create(&spinners[i].thread, NULL, spin, &spinners[i]));
	}
	usleep(10000);
	/* From here to the end no normal thread runs, this one included. */
	ASSERT_TRUE(is_real_time(10));
	do {
		events = 0;
		start = clock_ms();
		for (int i = 0; i < rings; i++)
			ring(pages + i * STRIDE);
		while (events < rings && clock_ms() - start < WATCHDOG_MS)
			events += event_read(efd) + event_read(first);
		end = clock_ms();
		deferred = ux_deferred(fd) - before;
		/* The threads have their share anew after that. */
		usleep(200000);
	} while (events == rings && !deferred && cpus > 1 && ++turn < tries);
	atomic_store(&stop, true);
	EXPECT_TRUE(is_real_time(0));
	EXPECT_TRUE(real_time_takes_all(false));
	for (int i = 0; i < cpus; i++)
		if (i != own)
			pthread_join(spinners[i].thread, NULL);

	EXPECT_EQ(rings, events);
	EXPECT_EQ(0, event_read(efd) + event_read(first));
	/* With one CPU each is handled before the next. */
	if (cpus > 1)
		EXPECT_LT(0, deferred);
	TH_LOG("%ld of %d events in %ld ms, %ld runs deferred, in turn %d", events, rings,
	       end - start, deferred, turn);
	for (int i = 0; i < RT_WAITERS; i++)
		close(waiters[i]);
	close(epoll);
	close(first);
	munmap(pages, rings * STRIDE);
}

#define CONTEXTS 16

/* Writes to a file of /proc/irq: 0 or a negative errno. */
static int set_affinity(int irq, const char *name, const char *value)
{
	return file_write(path_of("/proc/irq/%d/%s", irq, name), value);
}

struct affinity {
	pthread_t thread;
	int irqs[CONTEXTS];
	long refused, other;
	atomic_bool stop;
};

static void *affinity_run(void *arg)
{
	static const char * const masks[] = { "1", "2", "3" };
	struct affinity *affinity = arg;

	for (long n = 0; !atomic_load(&affinity->stop); n++) {
		if (set_affinity(affinity->irqs[n % CONTEXTS], "smp_affinity",
				 masks[n % ARRAY_SIZE(masks)]) == -EPERM)
			affinity->refused++;
		else
			affinity->other++;
	}
	return NULL;
}

/*
 * While a CPU is taken down all others are stopped, so stores of programs come
 * before or after. Only a device's store can hit the moment in between. The
 * driver looks at every queue then because of that; this test does not show the
 * need.
 */
TEST_F(engine, a_cpu_that_goes_takes_no_event_with_it)
{
	int fd[CONTEXTS], efd[CONTEXTS];
	struct affinity affinity = { 0 };
	struct hotplug hotplug = {};
	void *page[CONTEXTS];
	long rings = 0, turns = 0, now;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU only");
	ASSERT_EQ(0, access("/sys/devices/system/cpu/cpu1/online", W_OK));
	/* Escalations are spread over the CPUs. */
	for (int i = 0; i < CONTEXTS; i++) {
		fd[i] = ux_open();
		efd[i] = event_new();
		ASSERT_EQ(0, ux_fill(fd[i], 1));
		ASSERT_EQ(0, ux_bind(fd[i], slot_offset(0), efd[i]));
		page[i] = ux_map(fd[i], IRQ_BASE, STRIDE);
		ASSERT_NE(MAP_FAILED, page[i]);
	}
	/* Others may be on their way out. */
	ASSERT_TRUE(becomes(escalations(affinity.irqs, CONTEXTS), CONTEXTS));
	ASSERT_EQ(0, pthread_create(&hotplug.thread, NULL, hotplug_run, &hotplug));
	ASSERT_EQ(0, pthread_create(&affinity.thread, NULL, affinity_run, &affinity));
	while ((now = atomic_load(&hotplug.turns)) < 30 && !atomic_load(&hotplug.error)) {
		/* The rings would go on without the CPUs. */
		if (now > turns)
			progress();
		turns = now;
		for (int i = 0; i < CONTEXTS; i++) {
			ring(page[i]);
			ASSERT_EQ(1, event_wait(efd[i]))
				TH_LOG("context %d, ring %ld, CPU went and came %ld times", i,
				       rings, atomic_load(&hotplug.turns));
			rings++;
		}
	}
	atomic_store(&hotplug.stop, true);
	pthread_join(hotplug.thread, NULL);
	atomic_store(&affinity.stop, true);
	pthread_join(affinity.thread, NULL);
	EXPECT_EQ(0, atomic_load(&hotplug.error));
	EXPECT_EQ(0, affinity.other);
	EXPECT_LT(0, affinity.refused);
	TH_LOG("%ld rings, CPUs went and came %ld times, %ld changes of affinity were refused",
	       rings, atomic_load(&hotplug.turns), affinity.refused);
	for (int i = 0; i < CONTEXTS; i++) {
		munmap(page[i], STRIDE);
		close(fd[i]);
		close(efd[i]);
	}
}

/* Whether a program that drains by itself is told of an event. */
static bool is_told(const struct uxive_drain *user)
{
	struct pollfd pfd = { .fd = user->fd, .events = POLLPRI };

	return poll(&pfd, 1, 0) || event_read(user->eventfd);
}

/* A program that waits gets no false event, and gets the next one. */
TEST_F(engine, a_cpu_that_goes_brings_no_event)
{
	struct uxive_drain user[CONTEXTS];
	void *page[CONTEXTS];

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU only");
	for (int i = 0; i < CONTEXTS; i++) {
		ASSERT_TRUE(user_open(&user[i], 1));
		page[i] = ux_map(user[i].fd, IRQ_BASE, STRIDE);
		ASSERT_NE(MAP_FAILED, page[i]);
		/* Half of them have had one, and were armed since. */
		if (i % 2) {
			ring(page[i]);
			ASSERT_EQ(1, event_wait(user[i].eventfd));
			ASSERT_EQ(0, uxive_drain_try_next(&user[i]));
			uxive_drain_eoi(&user[i], 0);
			ASSERT_EQ(-1, uxive_drain_arm_and_look(&user[i]));
		}
	}
	for (int turn = 0; turn < 3; turn++) {
		ASSERT_EQ(0, cpu_online(1, false));
		for (int i = 0; i < CONTEXTS; i++) {
			EXPECT_FALSE(is_told(&user[i]))
				TH_LOG("turn %d, context %d", turn, i);
		}
		ASSERT_EQ(0, cpu_online(1, true));
	}
	for (int i = 0; i < CONTEXTS; i++) {
		ring(page[i]);
		EXPECT_EQ(1, event_wait(user[i].eventfd)) TH_LOG("context %d", i);
		EXPECT_EQ(0, uxive_drain_try_next(&user[i]));
		munmap(page[i], STRIDE);
		drain_close(&user[i]);
	}
}

#define MANY		200
#define CPUS_GO		"uxive selftest: a CPU goes while queues are closed"

/*
 * An escalation on its way while its queue is torn down would reach a CPU as an
 * interrupt unknown to Linux, and block all later ones. Of two CPUs the one that is
 * left takes it before it can tear the queue down: there a few rounds are enough.
 */
TEST_F(engine, queues_that_are_closed_when_a_cpu_has_gone_leave_no_interrupt)
{
	static struct uxive_drain user[MANY];
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), rounds = cpus > 2 ? 100 : 5;
	static void *page[MANY];

	if (cpus < 2)
		SKIP(return, "there is one CPU only");
	ASSERT_TRUE(log_line(CPUS_GO));
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < MANY; i++) {
			ASSERT_TRUE(user_open(&user[i], 1));
			page[i] = ux_map(user[i].fd, IRQ_BASE, STRIDE);
			ASSERT_NE(MAP_FAILED, page[i]);
			touch(page[i]);
			ASSERT_EQ(1, event_wait(user[i].eventfd));
			ASSERT_EQ(0, uxive_drain_try_next(&user[i]));
			uxive_drain_eoi(&user[i], 0);
			ASSERT_EQ(-1, uxive_drain_arm_and_look(&user[i]));
		}
		ASSERT_EQ(0, cpu_online(1, false));
		for (int i = 0; i < MANY; i++)
			ring(page[i]);
		for (int i = 0; i < MANY; i++) {
			munmap(page[i], STRIDE);
			drain_close(&user[i]);
		}
		ASSERT_EQ(0, cpu_online(1, true));
		ASSERT_EQ(0, logged(CPUS_GO, "without descriptor")) TH_LOG("round %d", round);
		progress();
	}
	TH_LOG("%d rounds of %d queues", rounds, MANY);
}

/* An escalation that is on its way while its CPU is changed could get lost. */
TEST_F(engine, the_affinity_of_an_escalation_is_fixed)
{
	static const struct {
		const char *name, *value;
	} writes[] = {
		{ "smp_affinity", "1" },
		{ "smp_affinity", "2" },
		{ "smp_affinity_list", "0" },
		{ "smp_affinity_list", "1" },
	};
	struct bells bells;
	int irq;

	ASSERT_TRUE(bells_open(&bells, 1));
	ASSERT_TRUE(becomes(escalations(&irq, 1), 1));
	for (int n = 0; n < 1000; n++) {
		int i = n % ARRAY_SIZE(writes);

		ring(bells.window);
		ASSERT_EQ(-EPERM, set_affinity(irq, writes[i].name, writes[i].value))
			TH_LOG("%s to %s", writes[i].value, writes[i].name);
		ASSERT_EQ(1, event_wait(bells.efd))
			TH_LOG("ring %d", n);
	}
	bells_close(&bells);
}

TEST_F(engine, contexts_go_with_rings_in_flight)
{
	const int contexts = fewer_with_lockdep(1000, 200);
	int before = linux_irqs();

	for (int n = 0; n < contexts; n++) {
		struct uxive_drain user;

		progress();
		if (n % 2) {
			int fd = ux_open(), efd = event_new();
			void *pages;

			ASSERT_EQ(0, ux_fill(fd, 4));
			ASSERT_EQ(0, ux_bind(fd, slot_offset(n % 4), efd));
			pages = ux_map(fd, IRQ_BASE, 4 * STRIDE);
			ASSERT_NE(MAP_FAILED, pages);
			for (int i = 0; i < 4; i++)
				ring(pages + i * STRIDE);
			close(fd);
			munmap(pages, 4 * STRIDE);
			close(efd);
			continue;
		}
		/* Never rung, pending, told and not armed again, armed again. */
		ASSERT_TRUE(user_open(&user, 4));
		if (n % 8)
			ring(uxive_drain_trigger(&user, 0));
		if (n % 8 > 2)
			ASSERT_EQ(1, event_wait(user.eventfd));
		if (n % 8 > 4) {
			ASSERT_EQ(0, uxive_drain_try_next(&user));
			uxive_drain_eoi(&user, 0);
			ASSERT_EQ(0, uxive_drain_arm(&user));
			ring(uxive_drain_trigger(&user, 1));
		}
		drain_close(&user);
	}
	EXPECT_TRUE(becomes(linux_irqs(), before));
}

/*
 * Teardown, from every state that a queue may be in. Each of these makes a
 * context, brings it there and closes it. @hit counts how often it was there:
 * not every state can be had for certain.
 */
#define MUST(what) must(what, #what)

static void must(bool is, const char *what)
{
	if (is)
		return;
	ksft_print_msg("not so: %s\n", what);
	abort();
}

/* P and Q of an interrupt, without changing them. */
static unsigned int esb_pq(const struct uxive_drain *user, unsigned int irq)
{
	__u64 *page = uxive_drain_trigger(user, irq) + STRIDE + 0x800;

	return __builtin_bswap64(__atomic_load_n(page, __ATOMIC_RELAXED));
}

/* The program was told of an event, and has not armed the queue since. */
static void end_never_armed(long *hit)
{
	struct uxive_drain user;

	MUST(user_open(&user, 4));
	ring(uxive_drain_trigger(&user, 0));
	MUST(event_wait(user.eventfd) == 1);
	ring(uxive_drain_trigger(&user, 1));
	MUST(event_read(user.eventfd) == 0);
	drain_close(&user);
	++*hit;
}

static void end_armed(long *hit)
{
	struct uxive_drain user;

	MUST(user_open(&user, 4));
	ring(uxive_drain_trigger(&user, 0));
	MUST(event_wait(user.eventfd) == 1);
	MUST(uxive_drain_try_next(&user) == 0);
	uxive_drain_eoi(&user, 0);
	MUST(!ux_arm(user.fd));
	drain_close(&user);
	++*hit;
}

/* Armed, and then rung: the escalation is pending or has come, P and Q are set. */
static void end_pending(long *hit)
{
	struct uxive_drain user;

	MUST(user_open(&user, 4));
	for (int i = 0; i < 8; i++)
		ring(uxive_drain_trigger(&user, i % 4));
	*hit += esb_pq(&user, 3) == 3;
	drain_close(&user);
}

/* Some events were handled, and others are still to be. */
static void end_mid_drain(long *hit)
{
	int fd, efd = event_new();
	void *pages;
	long count;

	/* One that the escalation does not come to, now and then. */
	pin_to_cpu(rand() % sysconf(_SC_NPROCESSORS_ONLN));
	MUST(burst_open(&fd, efd, &pages));
	burst(pages);
	count = event_wait(efd);
	munmap(pages, BURST * STRIDE);
	close(fd);
	*hit += count > 0 && count < BURST;
	close(efd);
}

static void *ring_until_unmapped(void *arg)
{
	struct sender *sender = arg;

	pin_to_cpu(sender->cpu);
	for (long n = 0; !touch(sender->pages + n % sender->irqs * sender->stride); n++)
		atomic_fetch_add(&sender->acked, 1);
	return NULL;
}

/* The mapping is the last that refers to the context, and is in use to its end. */
static void end_user_mapped(long *hit)
{
	struct sender sender = { .cpu = far_cpu(), .irqs = 4 };
	struct uxive_drain user = { .eventfd = -1 };
	int efd = event_new();

	if (*hit % 2) {
		MUST(user_open(&user, 4));
		sender.stride = ESB_STRIDE;
		sender.pages = user.esb;
	} else {
		user.fd = ux_open();
		MUST(!ux_fill(user.fd, 4));
		for (int i = 0; i < 4; i++)
			MUST(!ux_bind(user.fd, slot_offset(i), efd));
		sender.stride = STRIDE;
		sender.pages = ux_map(user.fd, IRQ_BASE, 4 * STRIDE);
		MUST(sender.pages != MAP_FAILED);
	}
	close(user.fd);
	MUST(!pthread_create(&sender.thread, NULL, ring_until_unmapped, &sender));
	MUST(becomes(atomic_load(&sender.acked) > 0, true));
	if (user.eventfd >= 0) {
		MUST(uxive_drain_try_next(&user) >= 0);
		munmap(user.queue, ENTRIES * 4);
		close(user.eventfd);
	}
	munmap(sender.pages, 4 * sender.stride);
	pthread_join(sender.thread, NULL);
	close(efd);
	++*hit;
}

FIXTURE(teardown) {
	struct use before;
};

FIXTURE_VARIANT(teardown) {
	void (*cycle)(long *hit);
};

FIXTURE_VARIANT_ADD(teardown, never_armed) {
	.cycle = end_never_armed,
};

FIXTURE_VARIANT_ADD(teardown, armed) {
	.cycle = end_armed,
};

FIXTURE_VARIANT_ADD(teardown, pending) {
	.cycle = end_pending,
};

FIXTURE_VARIANT_ADD(teardown, mid_drain) {
	.cycle = end_mid_drain,
};

FIXTURE_VARIANT_ADD(teardown, user_mapped) {
	.cycle = end_user_mapped,
};

FIXTURE_SETUP(teardown)
{
	catch_touches();
	/* Contexts of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(all_irqs(), 0));
	self->before = use_now();
}

FIXTURE_TEARDOWN(teardown)
{
}

TEST_F(teardown, is_complete_and_harms_nobody)
{
	struct bells bells;
	long hit = 0;

	if (variant->cycle == end_mid_drain && far_cpu() == 0)
		SKIP(return, "with one CPU no drain is left half-way");
	ASSERT_TRUE(bells_open(&bells, 1));
	for (int n = 0; n < 100; n++) {
		variant->cycle(&hit);
		progress();
		ASSERT_EQ(-1, bells_mute(&bells)) TH_LOG("round %d", n);
	}
	/* Else this is the teardown from another state. */
	EXPECT_LT(0, hit);
	TH_LOG("100 contexts, %ld of them in this state", hit);
	bells_close(&bells);
	EXPECT_ALL_RETURNED(self->before);
}

TEST(an_index_is_free_of_its_last_owners_events)
{
	int fd = ux_open(), first = event_new(), second = event_new();
	void *pages;

	ASSERT_EQ(0, ux_fill(fd, 2));
	pages = ux_map(fd, IRQ_BASE, 2 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int n = 0; n < 1000; n++) {
		__u64 offset;

		ASSERT_EQ(0, ux_bind(fd, slot_offset(0), first));
		ring(pages);
		ASSERT_EQ(0, ux_free(fd, slot_offset(0)));
		ASSERT_EQ(0, ux_alloc(fd, &offset));
		ASSERT_EQ(slot_offset(0), offset);
		ASSERT_EQ(0, ux_bind(fd, offset, second));
		/* Comes after all that was under way. */
		ring(pages);
		ASSERT_EQ(1, event_wait(second));
	}
	EXPECT_EQ(0, event_read(second));
	munmap(pages, 2 * STRIDE);
	close(fd);
}

TEST(one_linux_interrupt_per_context)
{
	int fd = ux_open(), before = linux_irqs();

	ASSERT_EQ(0, ux_fill(fd, 1));
	EXPECT_EQ(before + 1, linux_irqs());
	ASSERT_EQ(0, ux_fill(fd, 100));
	EXPECT_EQ(before + 1, linux_irqs());
	close(fd);
	EXPECT_TRUE(becomes(linux_irqs(), before));
}

TEST(user_drain_is_chosen_once_and_before_the_first_interrupt)
{
	int fd = ux_open(), efd = event_new();
	struct uxive_user_drain arg;
	__u64 offset;

	EXPECT_ERRNO(UXIVE_IOC_ARM, EINVAL, ux_arm(fd));
	EXPECT_EQ(0, user_drain(fd, efd, &arg));
	EXPECT_EQ(ENTRIES, arg.queue_entries);
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EBUSY, user_drain(fd, efd, &arg));
	EXPECT_EQ(0, ux_arm(fd));
	EXPECT_EQ(0, ux_alloc(fd, &offset));
	/* Events have one way: to the program's own eyes. */
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL, ux_bind(fd, offset, efd));
	close(fd);

	fd = ux_open();
	EXPECT_EQ(0, ux_alloc(fd, &offset));
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EBUSY, user_drain(fd, efd, &arg));
	EXPECT_ERRNO(UXIVE_IOC_ARM, EINVAL, ux_arm(fd));
	close(fd);
}

TEST(windows_of_a_user_drained_context_have_their_uses)
{
	struct uxive_user_drain arg;
	int fd = ux_open();
	void *page;

	catch_touches();
	ASSERT_EQ(0, user_drain(fd, event_new(), &arg));
	ASSERT_EQ(0, ux_fill(fd, 1));

	EXPECT_EQ(MAP_FAILED, mmap(NULL, STRIDE, PROT_WRITE, MAP_SHARED, fd, arg.queue_offset));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, STRIDE, PROT_READ | PROT_EXEC, MAP_SHARED, fd,
				   arg.queue_offset));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, STRIDE, PROT_READ, MAP_PRIVATE, fd, arg.queue_offset));
	page = mmap(NULL, STRIDE, PROT_READ, MAP_SHARED, fd, arg.queue_offset);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(-1, mprotect(page, STRIDE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, __atomic_load_n((int *)page, __ATOMIC_RELAXED));
	munmap(page, STRIDE);

	EXPECT_EQ(MAP_FAILED, mmap(NULL, STRIDE, PROT_READ, MAP_SHARED, fd, arg.esb_offset));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, STRIDE, PROT_WRITE | PROT_EXEC, MAP_SHARED, fd,
				   arg.esb_offset));
	page = mmap(NULL, 2 * ESB_STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, arg.esb_offset);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(SIGBUS, touch(page + ESB_STRIDE));
	/* Freed, it is gone from this window, too. */
	ASSERT_EQ(0, ux_free(fd, slot_offset(0)));
	EXPECT_EQ(SIGBUS, touch(page));
	EXPECT_EQ(SIGBUS, touch(page + STRIDE));
	munmap(page, 2 * ESB_STRIDE);
	close(fd);
}

TEST(management_pages_are_for_user_drained_contexts)
{
	int fd = ux_open(), sink = event_new();
	void *page;

	catch_touches();
	ASSERT_EQ(0, ux_fill(fd, 1));
	page = mmap(NULL, ESB_STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2ULL << 40);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(SIGBUS, touch(page));
	EXPECT_EQ(SIGBUS, touch(page + STRIDE));
	munmap(page, ESB_STRIDE);
	/* There is no queue that it could read, either. */
	page = mmap(NULL, STRIDE, PROT_READ, MAP_SHARED, fd, 3ULL << 40);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(-1, write(sink, page, 8));
	EXPECT_EQ(EFAULT, errno);
	munmap(page, STRIDE);
	close(sink);
	close(fd);
}

TEST(one_touch_maps_the_allocated_neighbours)
{
	int fd = ux_open();
	void *pages;
	long before;

	catch_touches();
	ASSERT_EQ(0, ux_fill(fd, 64));
	ASSERT_EQ(0, ux_free(fd, slot_offset(7)));
	pages = ux_map(fd, IRQ_BASE, 64 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, touch(pages));
	before = faults();
	for (int i = 0; i < 64; i++)
		if (i != 7)
			EXPECT_EQ(0, touch(pages + i * STRIDE));
	EXPECT_EQ(before, faults());
	EXPECT_EQ(SIGBUS, touch(pages + 7 * STRIDE));
	munmap(pages, 64 * STRIDE);
	close(fd);
}

TEST_HARNESS_MAIN
