// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: where the machine has no VP left, the first interrupt of a context
 * fails with ENOSPC, and so does user drain. Contexts that have a VP do not
 * notice, a refused call succeeds once there is a VP again, after a second at most,
 * and a closed context returns its VP. The log has a refusal once a second.
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
	if (access(HOARDER_MODULE, R_OK))
		SKIP(return, "there is no hoarder.ko for this kernel");
}

FIXTURE_TEARDOWN(novp)
{
	module_unload("hoarder");
}

/* How many VPs hoarder.ko has got; -1 if it is not loaded. */
static long hoarded(void)
{
	return file_number("/sys/module/hoarder/parameters/vps");
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

TEST_F(novp, without_one_a_new_context_is_enospc_and_no_other)
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
		EXPECT_EQ(-ENOSPC, ux_user_drain(user, event_new()));
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

	/* Another's end is room for one, and one only: after the second of the refusal. */
	close(leaving);
	EXPECT_TRUE(becomes(ux_user_drain(user, event_new()), 0));
	EXPECT_EQ(-ENOSPC, ux_alloc(kernel, &offset));

	ASSERT_EQ(0, module_unload("hoarder"));
	EXPECT_EQ(0, ux_alloc(user, &offset));
	ASSERT_TRUE(becomes(ux_alloc(kernel, &offset), 0));
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

/* Firmware and the kernel say each time that there is none. */
TEST_F(novp, refusals_do_not_fill_the_log)
{
	int held[4], log, taken = 0, refused = 0;
	long start;

	for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
		held[i] = ux_open();
		ASSERT_EQ(0, ux_fill(held[i], 1));
	}
	ASSERT_EQ(0, module_load(HOARDER_MODULE));
	log = log_open();
	start = clock_ns();
	/* One goes and may come again, which has a VP; one more comes, which has none. */
	for (int n = 0; clock_ns() - start < STORM_NS; n++) {
		int *fd = &held[n % ARRAY_SIZE(held)], more = ux_open(), ret;

		close(*fd);
		*fd = ux_open();
		for (int i = 0; i < 2; i++) {
			int next = i ? more : *fd;

			ret = n % 2 ? ux_user_drain(next, -1) : ux_fill(next, 1);
			EXPECT_TRUE(!ret || ret == -ENOSPC) TH_LOG("%d", ret);
			taken += !ret;
			refused += !!ret;
		}
		close(more);
		progress();
	}
	TH_LOG("%d taken, %d refused", taken, refused);
	EXPECT_LT(0, taken);
	EXPECT_LT(0, refused);
	EXPECT_A_LINE_A_SECOND(log, "OPAL failed to allocate VCPUs", start);
	ASSERT_EQ(0, module_unload("hoarder"));
	for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
		close(held[i]);
		held[i] = ux_open();
		EXPECT_TRUE(becomes(ux_fill(held[i], 1), 0));
		close(held[i]);
	}
	close(log);
}

/* How many VPs there are, seen by what hoarder.ko gets; -1 if that cannot be told. */
static long vps_there(void)
{
	long vps;

	if (module_load(HOARDER_MODULE))
		return -1;
	vps = hoarded();
	return module_unload("hoarder") ? -1 : vps;
}

TEST_F(novp, contexts_give_theirs_back)
{
	long before = vps_there();

	ASSERT_LT(0, before);
	for (int n = 0; n < 100; n++) {
		int fd = ux_open();

		ASSERT_EQ(0, n % 2 ? ux_user_drain(fd, event_new()) : ux_fill(fd, 1));
		close(fd);
		progress();
	}
	/* Contexts may be on their way out. */
	EXPECT_TRUE(becomes(vps_there(), before));
	TH_LOG("%ld VPs before and after 100 contexts", before);
}

TEST_HARNESS_MAIN
