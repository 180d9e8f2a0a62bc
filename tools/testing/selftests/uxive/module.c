// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the module comes and goes cleanly, and never under a user: an open
 * file, or a mapping that outlives it, keeps it loaded (EWOULDBLOCK).
 *
 * For kernels with the driver as a module, loaded; the suite leaves it so.
 */
#include "uxive_faults.h"

static int unload(void)
{
	return module_unload("uxive");
}

static bool is_loaded(void)
{
	return !access("/sys/module/uxive/refcnt", F_OK);
}

FIXTURE(module) {
};

FIXTURE_SETUP(module)
{
	ASSERT_TRUE(is_loaded());
	ASSERT_EQ(0, access(UXIVE_MODULE, R_OK));
	/* Files of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
}

FIXTURE_TEARDOWN(module)
{
	if (!is_loaded())
		module_load(UXIVE_MODULE);
}

TEST_F(module, an_open_file_keeps_it)
{
	int fd = ux_open();

	ASSERT_LE(0, fd);
	EXPECT_ERRNO(delete_module, EWOULDBLOCK, unload());
	/* The refusal has harmed nothing. */
	EXPECT_EQ(0, access(UXIVE_DEV, F_OK));
	EXPECT_EQ(0, ux_fill(fd, 1));
	close(fd);
	EXPECT_TRUE(becomes(unload(), 0));
	EXPECT_EQ(0, module_load(UXIVE_MODULE));
}

TEST_F(module, a_mapping_keeps_it)
{
	int fd = ux_open(), efd = event_new();
	void *page;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(fd, 1));
	ASSERT_EQ(0, ux_bind(fd, IRQ_BASE, efd));
	page = ux_map(fd, IRQ_BASE, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	close(fd);
	EXPECT_ERRNO(delete_module, EWOULDBLOCK, unload());
	ring(page);
	EXPECT_EQ(1, event_wait(efd));
	munmap(page, STRIDE);
	EXPECT_TRUE(becomes(unload(), 0));
	EXPECT_EQ(0, module_load(UXIVE_MODULE));
}

TEST_F(module, it_comes_and_goes_ten_times)
{
	int irqs = linux_irqs();
	struct ux_irq first = {};

	for (int n = 0; n < 10; n++) {
		int fd = ux_open(), efd = event_new();
		struct ux_irq irq;
		void *page;

		ASSERT_LE(0, fd) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_fill(fd, 1));
		/*
		 * The lowest that firmware has: a higher one would mean that
		 * some were not returned.
		 */
		ASSERT_EQ(1, ux_irqs(fd, &irq, 1));
		if (n == 1)
			first = irq;
		EXPECT_EQ(n ? first.lisn : irq.lisn, irq.lisn) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_bind(fd, IRQ_BASE, efd));
		page = ux_map(fd, IRQ_BASE, STRIDE);
		ASSERT_NE(MAP_FAILED, page);
		ring(page);
		ASSERT_EQ(1, event_wait(efd)) TH_LOG("round %d", n);
		/* One more is under way when all goes. */
		ring(page);
		munmap(page, STRIDE);
		close(fd);
		close(efd);

		ASSERT_TRUE(becomes(unload(), 0)) TH_LOG("round %d", n);
		EXPECT_FALSE(is_loaded());
		EXPECT_TRUE(becomes(access(UXIVE_DEV, F_OK), -1));
		EXPECT_EQ(ENOENT, errno);
		EXPECT_EQ(-1, access("/sys/class/misc/uxive", F_OK));
		EXPECT_EQ(-ENOENT, unload());
		EXPECT_EQ(irqs, linux_irqs());
		ASSERT_EQ(0, module_load(UXIVE_MODULE));
		ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
		progress();
	}
	EXPECT_EQ(-EEXIST, module_load(UXIVE_MODULE));
}

/* A context with an interrupt that has rung, as it is closed; its LISN. */
static unsigned long rung_and_closed(int step)
{
	int fd = ux_open(), efd = event_new(), nth = open("/proc/thread-self/fail-nth", O_RDWR);
	struct ux_irq irq = {};
	void *page;

	if (ux_fill(fd, 1) || ux_bind(fd, IRQ_BASE, efd) || ux_irqs(fd, &irq, 1) != 1)
		return 0;
	page = ux_map(fd, IRQ_BASE, STRIDE);
	ring(page);
	munmap(page, STRIDE);
	if (event_wait(efd) != 1)
		return 0;
	if (step)
		arm(nth, step);
	close(fd);
	if (step && !disarm(nth))
		irq.lisn = 0;
	close(efd);
	close(nth);
	return irq.lisn;
}

static bool reload(void)
{
	return becomes(unload(), 0) && !module_load(UXIVE_MODULE) &&
	       becomes(access(UXIVE_DEV, F_OK), 0);
}

TEST_F(module, what_is_quarantined_is_waited_for)
{
	unsigned long lisn;
	int irqs;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	/* The lowest LISN that firmware has, and all others. */
	ASSERT_TRUE(reload());
	irqs = linux_irqs();
	lisn = rung_and_closed(0);
	ASSERT_NE(0, lisn);

	ASSERT_TRUE(log_line(QUARANTINES));
	/* A slot by its ESB and by its events, the queue by its escalation twice. */
	for (int step = 1; step <= 4; step++) {
		ASSERT_TRUE(prepare_faults());
		ASSERT_TRUE(select_faults(DRIVER));
		ASSERT_NE(0, rung_and_closed(step)) TH_LOG("step %d", step);
		ASSERT_EQ(1, debug_lines("quarantine", "", NULL, 0));
		ASSERT_TRUE(reload());
		EXPECT_EQ(irqs, linux_irqs());
		EXPECT_EQ(lisn, rung_and_closed(0)) TH_LOG("step %d", step);
		progress();
	}
	EXPECT_TRUE(select_faults(0));
	log_line(NO_MORE_QUARANTINES);
}

TEST_F(module, what_does_not_come_to_rest_is_left_to_the_hardware)
{
	unsigned long first, left;
	struct ux_irq irq = {};
	int irqs, efd, fd;
	void *page;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	efd = event_new();
	ASSERT_TRUE(reload());
	irqs = linux_irqs();
	first = rung_and_closed(0);
	ASSERT_EQ(0, lines_with("/proc/interrupts", " uxive-"));
	ASSERT_TRUE(log_line(QUARANTINES));
	ASSERT_TRUE(prepare_faults());
	ASSERT_TRUE(select_faults(DRIVER));
	fd = ux_open();
	ASSERT_EQ(0, ux_fill(fd, 1));
	ASSERT_EQ(1, ux_irqs(fd, &irq, 1));
	left = irq.lisn;
	EXPECT_EQ(first, left);
	ASSERT_TRUE(fail_all(-1));
	close(fd);
	ASSERT_TRUE(becomes(debug_lines("quarantine", "", NULL, 0), 1));

	/* Unloading succeeds, and logs what it has leaked. */
	ASSERT_TRUE(becomes(unload(), 0));
	EXPECT_EQ(1, logged(QUARANTINES, "queue does not go quiet, and is not given back"));
	EXPECT_EQ(2, logged(QUARANTINES, "does not go quiet, and is not given back"));
	log_line(NO_MORE_QUARANTINES);
	/* The Linux interrupt remains, and calls no code of the unloaded module. */
	EXPECT_EQ(irqs + 1, linux_irqs());
	EXPECT_EQ(0, lines_with("/proc/interrupts", " uxive-"));

	ASSERT_TRUE(fail_all(0) && select_faults(0));

	/* The next module works, and does not get the leaked interrupt. */
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
	for (int n = 0; n < 20; n++) {
		fd = ux_open();
		ASSERT_EQ(0, ux_fill(fd, 300));
		for (int slot = 0; slot < 300; slot++)
			ASSERT_EQ(0, ux_bind(fd, slot_offset(slot), efd));
		page = ux_map(fd, IRQ_BASE, STRIDE);
		ring(page);
		ASSERT_EQ(1, event_wait(efd));
		munmap(page, STRIDE);
		close(fd);
		progress();
	}
	EXPECT_EQ(0, lines_with("/proc/interrupts", " uxive-"));
	EXPECT_NE(left, rung_and_closed(0));
	close(efd);
}

TEST_HARNESS_MAIN
