// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: where the machine has no VP left, the first interrupt of a context
 * is ENOSPC and so is user drain; contexts that have theirs do not notice, and
 * what was refused succeeds once there is one again. And a context that goes
 * gives its VP back.
 *
 * hoarder.ko takes them all. For kernels that it is built for.
 */
#include "uxive_selftest.h"
#include <misc/uxive.h>

#define HOARDER_MODULE	"/modules/hoarder.ko"

FIXTURE(novp) {
};

FIXTURE_SETUP(novp)
{
	ASSERT_EQ(0, access(HOARDER_MODULE, R_OK));
}

FIXTURE_TEARDOWN(novp)
{
	module_unload("hoarder");
}

/* How many VPs hoarder.ko has got; -1 if it is not loaded. */
static long hoarded(void)
{
	FILE *file = fopen("/sys/module/hoarder/parameters/vps", "r");
	long vps;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &vps) != 1)
		vps = -1;
	fclose(file);
	return vps;
}

static int user_drain(int fd)
{
	struct uxive_user_drain arg = { .size = sizeof(arg), .eventfd = event_new() };

	return ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, &arg);
}

/* How often a context has told that there is none; -1 if it told anything else. */
static int told_of_none(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct uxive_event event;
	int count = 0;

	for (; poll(&pfd, 1, 0) > 0; count++)
		if (read(fd, &event, sizeof(event)) != sizeof(event) ||
		    event.header.type != UXIVE_EVENT_EXHAUSTED ||
		    event.exhausted.resource != UXIVE_RESOURCE_VP)
			return -1;
	return count;
}

TEST_F_TIMEOUT(novp, without_one_a_new_context_is_enospc_and_no_other, LONG_TEST)
{
	int old = ux_open(), leaving = ux_open(), kernel = ux_open(), user = ux_open();
	int efd = event_new();
	__u64 offset;
	void *pages;

	ASSERT_EQ(0, ux_fill(leaving, 1));
	ASSERT_EQ(0, ux_fill(old, 1));
	ASSERT_EQ(0, ux_bind(old, slot_offset(0), efd));
	pages = ux_map(old, IRQ_BASE, 2 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);

	ASSERT_EQ(0, module_load(HOARDER_MODULE));
	TH_LOG("%ld VPs taken", hoarded());
	for (int n = 0; n < 3; n++) {
		EXPECT_EQ(-ENOSPC, ux_alloc(kernel, &offset));
		EXPECT_EQ(-ENOSPC, user_drain(user));
	}
	EXPECT_EQ(0, ux_count(kernel));
	EXPECT_EQ(3, told_of_none(kernel));
	EXPECT_EQ(3, told_of_none(user));
	EXPECT_EQ(0, told_of_none(old));

	/* The one that was there before does all that it did. */
	ring(pages);
	EXPECT_EQ(1, event_wait(efd));
	ASSERT_EQ(0, ux_alloc(old, &offset));
	ASSERT_EQ(slot_offset(1), offset);
	ASSERT_EQ(0, ux_bind(old, offset, efd));
	ring(pages + STRIDE);
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_EQ(0, ux_free(old, slot_offset(0)));

	/* Another's end is room for one, and one only. */
	close(leaving);
	EXPECT_TRUE(becomes(user_drain(user), 0));
	EXPECT_EQ(-ENOSPC, ux_alloc(kernel, &offset));

	ASSERT_EQ(0, module_unload("hoarder"));
	EXPECT_EQ(0, ux_alloc(user, &offset));
	ASSERT_EQ(0, ux_alloc(kernel, &offset));
	EXPECT_EQ(slot_offset(0), offset);
	munmap(pages, 2 * STRIDE);
	pages = ux_map(kernel, IRQ_BASE, STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, ux_bind(kernel, offset, efd));
	ring(pages);
	EXPECT_EQ(1, event_wait(efd));
	munmap(pages, STRIDE);
	close(old);
	close(kernel);
	close(user);
}

/* The same as @before, seen by what hoarder.ko gets; waits for contexts on their way out. */
static bool all_there(long before)
{
	for (int n = 0; n < 10; n++) {
		long now;

		if (module_load(HOARDER_MODULE))
			return false;
		now = hoarded();
		if (module_unload("hoarder"))
			return false;
		if (now == before)
			return true;
		usleep(100000);
	}
	return false;
}

TEST_F_TIMEOUT(novp, contexts_give_theirs_back, LONG_TEST)
{
	long before;

	ASSERT_EQ(0, module_load(HOARDER_MODULE));
	before = hoarded();
	ASSERT_EQ(0, module_unload("hoarder"));
	ASSERT_LT(0, before);
	for (int n = 0; n < 100; n++) {
		int fd = ux_open();

		ASSERT_EQ(0, n % 2 ? user_drain(fd) : ux_fill(fd, 1));
		close(fd);
	}
	EXPECT_TRUE(all_there(before));
	TH_LOG("%ld VPs before and after 100 contexts", before);
}

TEST_HARNESS_MAIN
