// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: where the machine has no VP left, the first interrupt of a context
 * fails with ENOSPC, and so does user drain. Contexts that have a VP do not
 * notice, a refused call succeeds once there is a VP again, after a second at most,
 * and a closed context returns its VP. The log has a refusal once a second.
 * The driver takes VPs in blocks, so that it leaves KVM large ones, and keeps one.
 *
 * hoarder.ko takes them all. For kernels that it is built for.
 */
#include "uxive_selftest.h"
#include <misc/uxive.h>

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

/* The driver takes so many VPs at a time. */
#define BLOCK		64

/* Contexts that have a VP each. */
struct crowd {
	int fd[4 * BLOCK];
	int count;
};

/* Opens up to @most more. Stops at the first that gets no VP. Returns what that one got, or 0. */
static int crowd_open(struct crowd *crowd, int most)
{
	for (; most > 0 && crowd->count < (int)ARRAY_SIZE(crowd->fd); most--) {
		int fd = ux_open(), ret = ux_fill(fd, 1);

		progress();
		if (ret) {
			close(fd);
			return ret;
		}
		crowd->fd[crowd->count++] = fd;
	}
	return 0;
}

static void crowd_close(struct crowd *crowd)
{
	while (crowd->count)
		close(crowd->fd[--crowd->count]);
}

TEST_F(novp, without_one_a_new_context_is_enospc_and_no_other)
{
	int old = ux_open(), leaving = ux_open(), kernel = ux_open(), user = ux_open();
	struct crowd crowd = {};
	int efd = event_new();
	__u64 offset;
	void *pages;

	ASSERT_EQ(0, ux_fill(leaving, 1));
	ASSERT_EQ(0, ux_fill(old, 1));
	ASSERT_EQ(0, ux_bind(old, slot_offset(0), efd));
	pages = ux_map(old, IRQ_BASE, 2 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);

	ASSERT_EQ(0, module_load(HOARDER_MODULE));
	/* Those of blocks that the driver has already. */
	EXPECT_EQ(-ENOSPC, crowd_open(&crowd, INT_MAX));
	TH_LOG("%ld VPs taken, %d were at hand", hoarded(), crowd.count);
	EXPECT_LT(0, crowd.count);
	EXPECT_GT(2 * BLOCK, crowd.count);
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

	/* Another's end is room for one, at once, and for one only. */
	close(leaving);
	EXPECT_EQ(0, ux_user_drain(user, event_new()));
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
	crowd_close(&crowd);
	close(old);
	close(kernel);
	close(user);
}

/* Firmware and the kernel say each time that there is none. */
TEST_F(novp, refusals_do_not_fill_the_log)
{
	int log, taken = 0, refused = 0;
	struct crowd crowd = {};
	long start;

	ASSERT_EQ(0, crowd_open(&crowd, 1));
	ASSERT_EQ(0, module_load(HOARDER_MODULE));
	ASSERT_EQ(-ENOSPC, crowd_open(&crowd, INT_MAX));
	/* That was one refusal, which may be remembered. */
	sleep(1);
	log = log_open();
	start = clock_ns();
	/* One goes and may come again, which has a VP; one more comes, which has none. */
	for (int n = 0; clock_ns() - start < STORM_NS; n++) {
		int *fd = &crowd.fd[n % crowd.count], more = ux_open(), ret;

		close(*fd);
		*fd = ux_open();
		for (int i = 0; i < 2; i++) {
			int next = i ? more : *fd;

			ret = n % 2 ? ux_user_drain(next, -1) : ux_fill(next, 1);
			EXPECT_EQ(i ? -ENOSPC : 0, ret);
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
	for (int i = 0; i < crowd.count; i++) {
		close(crowd.fd[i]);
		crowd.fd[i] = ux_open();
		EXPECT_TRUE(becomes(ux_fill(crowd.fd[i], 1), 0));
	}
	crowd_close(&crowd);
	close(log);
}

#define INSTANCE	"/sys/kernel/tracing/instances/uxive_selftest"
#define OPAL_ENTRY	INSTANCE "/events/powerpc/opal_entry/"

/* Begins to trace the calls by which firmware gives and takes VPs, if the kernel can. */
static bool vp_trace_begin(void)
{
	/* That of a run that did not come to its end. */
	rmdir(INSTANCE);
	return !mkdir(INSTANCE, 0700) &&
	       !file_write(OPAL_ENTRY "filter", "opcode == 135 || opcode == 136") &&
	       !file_write(OPAL_ENTRY "enable", "1");
}

TEST_F(novp, a_context_that_comes_and_goes_makes_no_firmware_call)
{
	struct crowd crowd = {};

	/* The driver keeps a block. */
	ASSERT_EQ(0, crowd_open(&crowd, 1));
	crowd_close(&crowd);
	if (!vp_trace_begin())
		SKIP(return, "the kernel does not trace calls of firmware");
	for (int n = 0; n < 100; n++) {
		ASSERT_EQ(0, crowd_open(&crowd, 1 + n % 10));
		crowd_close(&crowd);
	}
	EXPECT_EQ(0, lines_with(INSTANCE "/trace", "opcode="));
	/* Four blocks are needed for so many, and three go back. */
	ASSERT_EQ(0, crowd_open(&crowd, 3 * BLOCK + 32));
	EXPECT_LE(2, lines_with(INSTANCE "/trace", "opcode=135"));
	EXPECT_GE(4, lines_with(INSTANCE "/trace", "opcode=135"));
	EXPECT_EQ(0, lines_with(INSTANCE "/trace", "opcode=136"));
	crowd_close(&crowd);
	EXPECT_EQ(lines_with(INSTANCE "/trace", "opcode=135"),
		  lines_with(INSTANCE "/trace", "opcode=136"));
	EXPECT_EQ(0, rmdir(INSTANCE));
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

/* As many VPs as the driver has are at hand: how many, and no more. */
static int vps_at_hand(struct crowd *crowd)
{
	int first = crowd->count, ret;

	if (module_load(HOARDER_MODULE))
		return -1;
	ret = crowd_open(crowd, INT_MAX);
	return module_unload("hoarder") || ret != -ENOSPC ? -1 : crowd->count - first;
}

TEST_F(novp, they_are_taken_and_given_back_in_blocks)
{
	struct crowd crowd = {};
	long before;
	int hand;

	/* The driver keeps a block. */
	ASSERT_EQ(0, crowd_open(&crowd, 1));
	crowd_close(&crowd);
	before = vps_there();
	ASSERT_LT(0, before);
	hand = vps_at_hand(&crowd);
	ASSERT_LT(0, hand);
	/* For as long the refusal is remembered. */
	sleep(1);

	/* One more than are at hand takes a block, and so does one more than that has. */
	ASSERT_EQ(0, crowd_open(&crowd, 1));
	EXPECT_EQ(before - BLOCK, vps_there());
	ASSERT_EQ(0, crowd_open(&crowd, BLOCK - 1));
	EXPECT_EQ(before - BLOCK, vps_there());
	ASSERT_EQ(0, crowd_open(&crowd, 1));
	EXPECT_EQ(before - 2 * BLOCK, vps_there());
	TH_LOG("%ld VPs, %d at hand; two blocks are taken by %d contexts", before, hand,
	       crowd.count);

	/* All come back but one block, also by contexts that drain by themselves. */
	crowd_close(&crowd);
	for (int n = 0; n < 100; n++) {
		int fd = ux_open();

		ASSERT_EQ(0, n % 2 ? ux_user_drain(fd, event_new()) : ux_fill(fd, 1));
		close(fd);
		progress();
	}
	/* Contexts may be on their way out. */
	EXPECT_TRUE(becomes(vps_there(), before));
}

TEST_HARNESS_MAIN
