// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the driver works with each of the kernel's options for interrupts and
 * CPUs. With threadirqs its interrupts are handled at once as ever; and CPUs
 * that come after it was loaded, of a chip that had none before, ring, wait and
 * allocate as others do, and may go again.
 *
 * For a machine that was booted with threadirqs and maxcpus=1 and has two CPUs, of
 * a chip each. Elsewhere the tests are skipped.
 */
#include "uxive_fixture.h"

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

/* One interrupt, from @chip or from wherever the kernel likes. */
static bool bell_open(struct bells *bell, long chip)
{
	__u64 offset;

	*bell = (struct bells){ .fd = ux_open(), .efd = event_new(), .irqs = 1 };
	return !ux_alloc_on(bell->fd, chip, &offset) && offset == IRQ_BASE && bells_bind(bell);
}

/* How many of RINGS rings did not count as one event each. */
static int bell_lost(struct bells *bell)
{
	int lost = 0;

	for (int n = 0; n < RINGS; n++) {
		lost += touch(bell->window) || event_wait(bell->efd) != 1;
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
static long chip_of(const struct bells *bell)
{
	struct ux_irq irq;

	return ux_irqs(bell->fd, &irq, 1) == 1 ? (long)(irq.lisn >> 20) : -1;
}

FIXTURE(late) {
	struct bells bell;
	struct uxive_drain drain;
};

FIXTURE_SETUP(late)
{
	if (!booted_so())
		SKIP(return, "the machine was booted otherwise");
	catch_touches();
	ASSERT_TRUE(bell_open(&self->bell, -1));
	ASSERT_TRUE(drain_open(&self->drain, ux_open(), 1));
}

FIXTURE_TEARDOWN(late)
{
	drain_close(&self->drain);
	bells_close(&self->bell);
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
	struct ringer ringer = { .bells = &self->bell, .timeout = WATCHDOG_MS };
	struct bells there, home;
	long amid, chip;

	ASSERT_STREQ("0", file_line(CPU_SYSFS "online"));
	ASSERT_STREQ("1", file_line(CPU_SYSFS "offline"));
	ASSERT_EQ(0, ringer_start(&ringer));
	for (int n = 0; n < ROUNDS; n++) {
		amid = atomic_load(&ringer.rings);
		ASSERT_EQ(0, cpu_online(1, true)) TH_LOG("round %d", n);
		ASSERT_STREQ("0-1", file_line(CPU_SYSFS "online"));
		EXPECT_TRUE(becomes(atomic_load(&ringer.rings) > amid, true));

		pin_to_cpu(1);
		ASSERT_EQ(1, sched_getcpu());
		EXPECT_EQ(0, drain_lost(&self->drain)) TH_LOG("round %d", n);
		/* An interrupt allocated there is of that chip, unless another is asked for. */
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
		bells_close(&home);
		ASSERT_TRUE(bell_open(&home, chip)) TH_LOG("round %d, chip %ld", n, chip);
		EXPECT_EQ(chip_of(&home), chip_of(&there)) TH_LOG("round %d", n);
		EXPECT_EQ(0, bell_lost(&home)) TH_LOG("round %d", n);
		EXPECT_EQ(0, drain_lost(&self->drain)) TH_LOG("round %d", n);
		bells_close(&there);
		bells_close(&home);
	}
	ringer_stop(&ringer);
	TH_LOG("%ld rings beside", atomic_load(&ringer.rings));
	EXPECT_FALSE(atomic_load(&ringer.lost));
}

TEST_HARNESS_MAIN
