// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the driver does not mind how the kernel was told to handle interrupts
 * and CPUs. With threadirqs its interrupts are handled at once as ever; and CPUs
 * that come after it was loaded, of a chip that had none before, ring, wait and
 * allocate as others do, and may go again.
 *
 * For a machine that was booted with threadirqs and maxcpus=1 and has two CPUs, of
 * a chip each. Elsewhere the tests are skipped.
 */
#include "uxive_selftest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <uxive_drain.h>

#define RINGS		200
#define ROUNDS		5

static bool booted_so(void)
{
	return strstr(file_line("/proc/cmdline"), "threadirqs maxcpus=1");
}

/* Threads of the kernel that handle interrupts, whose names contain @text. */
static int irq_threads(const char *text)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int count = 0;

	while (proc && (entry = readdir(proc))) {
		const char *name = file_line(path_of("/proc/%s/comm", entry->d_name));

		count += !strncmp(name, "irq/", 4) && strstr(name, text);
	}
	if (proc)
		closedir(proc);
	return count;
}

/* A context with an interrupt that is bound and mapped. */
struct bell {
	int fd, efd;
	void *page;
};

static bool bell_open(struct bell *bell, long chip)
{
	__u64 offset;

	*bell = (struct bell){ .fd = ux_open(), .efd = event_new() };
	if (ux_alloc_on(bell->fd, chip, &offset) || ux_bind(bell->fd, offset, bell->efd))
		return false;
	bell->page = ux_map(bell->fd, offset, STRIDE);
	return bell->page != MAP_FAILED;
}

static void bell_close(struct bell *bell)
{
	munmap(bell->page, STRIDE);
	close(bell->fd);
	close(bell->efd);
}

/* How many of RINGS rings did not count as one event each. */
static int bell_lost(struct bell *bell)
{
	int lost = 0;

	for (int n = 0; n < RINGS; n++) {
		lost += touch(bell->page) || event_wait(bell->efd) != 1;
		progress();
	}
	return lost;
}

/* The same of a program that drains, and blocks for each. */
static int drain_lost(struct uxive_drain *drain)
{
	int lost = 0;

	for (int n = 0; n < RINGS; n++) {
		lost += touch(uxive_drain_trigger(drain, 0)) ||
			uxive_drain_wait(drain, WATCHDOG_MS) != 0;
		uxive_drain_eoi(drain, 0);
		progress();
	}
	return lost;
}

/* The chip of the interrupt of a context: LISNs have its number in their upper bits. */
static long chip_of(const struct bell *bell)
{
	struct ux_irq irq;

	return ux_irqs(bell->fd, &irq, 1) == 1 ? (long)(irq.lisn >> 20) : -1;
}

/* Rings all the time. */
struct ringer {
	pthread_t thread;
	struct bell *bell;
	atomic_bool stop, lost;
	atomic_long acked;
};

static void *ringer_run(void *arg)
{
	struct ringer *ringer = arg;

	while (!atomic_load(&ringer->stop)) {
		if (touch(ringer->bell->page) || event_wait(ringer->bell->efd) != 1)
			atomic_store(&ringer->lost, true);
		atomic_fetch_add(&ringer->acked, 1);
	}
	return NULL;
}

FIXTURE(late) {
	struct bell bell;
	struct uxive_drain drain;
};

FIXTURE_SETUP(late)
{
	if (!booted_so())
		SKIP(return, "the machine was booted otherwise");
	catch_touches();
	ASSERT_TRUE(bell_open(&self->bell, -1));
	ASSERT_EQ(0, uxive_drain_open(&self->drain, ux_open(), event_new(), 1));
	ASSERT_EQ(0, ux_fill(self->drain.fd, 1));
}

FIXTURE_TEARDOWN(late)
{
	uxive_drain_close(&self->drain);
	close(self->drain.fd);
	close(self->drain.eventfd);
	bell_close(&self->bell);
	cpu_online(1, false);
	EXPECT_EQ(0, all_irqs());
}

TEST_F(late, interrupts_have_no_thread)
{
	/* Others have. */
	EXPECT_LT(0, irq_threads(""));
	EXPECT_EQ(0, irq_threads("uxive"));
	EXPECT_EQ(0, bell_lost(&self->bell));
	EXPECT_EQ(0, drain_lost(&self->drain));
	EXPECT_EQ(0, irq_threads("uxive"));
}

TEST_F(late, a_cpu_that_comes_is_as_good_as_the_first)
{
	struct ringer ringer = { .bell = &self->bell };
	struct bell there, home;
	long amid, chip;

	ASSERT_STREQ("0", file_line(CPU_SYSFS "online"));
	ASSERT_STREQ("1", file_line(CPU_SYSFS "offline"));
	ASSERT_EQ(0, pthread_create(&ringer.thread, NULL, ringer_run, &ringer));
	for (int n = 0; n < ROUNDS; n++) {
		amid = atomic_load(&ringer.acked);
		ASSERT_EQ(0, cpu_online(1, true)) TH_LOG("round %d", n);
		ASSERT_STREQ("0-1", file_line(CPU_SYSFS "online"));
		EXPECT_TRUE(becomes(atomic_load(&ringer.acked) > amid, true));

		pin_to_cpu(1);
		ASSERT_EQ(1, sched_getcpu());
		EXPECT_EQ(0, drain_lost(&self->drain)) TH_LOG("round %d", n);
		/* What is asked for there is of that chip, unless another is wanted. */
		chip = chip_of_cpu(1);
		ASSERT_TRUE(bell_open(&there, -1));
		ASSERT_TRUE(bell_open(&home, 0));
		EXPECT_NE(chip_of(&home), chip_of(&there)) TH_LOG("round %d", n);
		EXPECT_EQ(0, bell_lost(&there)) TH_LOG("round %d", n);
		EXPECT_EQ(0, bell_lost(&home)) TH_LOG("round %d", n);
		pin_to_cpu(0);
		EXPECT_EQ(0, bell_lost(&there)) TH_LOG("round %d", n);

		/* It goes with contexts that were made on it, and the chip is still one. */
		ASSERT_EQ(0, cpu_online(1, false)) TH_LOG("round %d", n);
		EXPECT_EQ(0, bell_lost(&there)) TH_LOG("round %d", n);
		bell_close(&home);
		ASSERT_TRUE(bell_open(&home, chip)) TH_LOG("round %d, chip %ld", n, chip);
		EXPECT_EQ(chip_of(&home), chip_of(&there)) TH_LOG("round %d", n);
		EXPECT_EQ(0, bell_lost(&home)) TH_LOG("round %d", n);
		EXPECT_EQ(0, drain_lost(&self->drain)) TH_LOG("round %d", n);
		bell_close(&there);
		bell_close(&home);
	}
	atomic_store(&ringer.stop, true);
	pthread_join(ringer.thread, NULL);
	TH_LOG("%ld rings beside", atomic_load(&ringer.acked));
	EXPECT_FALSE(atomic_load(&ringer.lost));
}

TEST_HARNESS_MAIN
