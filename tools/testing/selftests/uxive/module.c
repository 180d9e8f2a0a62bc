// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the module comes and goes cleanly, and never under a user: an open
 * file, or a mapping that outlives it, keeps it loaded (EWOULDBLOCK).
 *
 * For kernels with the driver as a module, loaded; the suite leaves it so.
 */
#include "uxive_selftest.h"

static int load(void)
{
	return module_load(UXIVE_MODULE);
}

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
		load();
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
	EXPECT_EQ(0, load());
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
	EXPECT_EQ(0, load());
}

TEST_F_TIMEOUT(module, it_comes_and_goes_ten_times, LONG_TEST)
{
	int irqs = linux_irqs();
	struct ux_irq first = {};

	for (int n = 0; n < 10; n++) {
		int fd = ux_open(), efd = event_new();
		struct ux_irq irq;
		void *page;

		ASSERT_LE(0, fd) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_fill(fd, 1));
		/* The lowest that firmware has: others would mean that it has not got all back. */
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
		ASSERT_EQ(0, load());
		ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
	}
	EXPECT_EQ(-EEXIST, load());
}

TEST_HARNESS_MAIN
