// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a context has room for 16384 interrupts, all contexts together for
 * 65536, neither one more nor one less, and what is given back can be
 * had again at once.
 *
 * Run last: that all can be had shows too that no suite before has left any.
 */
#include "uxive_selftest.h"

FIXTURE(limits) {
	int fd[6];
};

FIXTURE_SETUP(limits)
{
	for (size_t i = 0; i < ARRAY_SIZE(self->fd); i++) {
		self->fd[i] = ux_open();
		ASSERT_LE(0, self->fd[i]);
	}
}

FIXTURE_TEARDOWN(limits)
{
	for (size_t i = 0; i < ARRAY_SIZE(self->fd); i++)
		close(self->fd[i]);
}

TEST_F_TIMEOUT(limits, they_are_exact_and_room_returns, LONG_TEST)
{
	const int *fd = self->fd;
	__u64 offset;

	/* One context up to its own limit. */
	ASSERT_EQ(0, ux_fill(fd[0], SLOTS - 1));
	ASSERT_EQ(0, ux_alloc(fd[0], &offset));
	EXPECT_EQ(slot_offset(SLOTS - 1), offset);
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[0], &offset));
	EXPECT_EQ((int)SLOTS, ux_count(fd[0]));
	ASSERT_EQ(0, ux_free(fd[0], slot_offset(7)));
	ASSERT_EQ(0, ux_alloc(fd[0], &offset));
	EXPECT_EQ(slot_offset(7), offset);
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[0], &offset));

	/* Others up to the limit over all: the rest, but one. */
	ASSERT_EQ(0, ux_fill(fd[1], 1000));
	ASSERT_EQ(0, ux_fill(fd[2], SLOTS));
	ASSERT_EQ(0, ux_fill(fd[4], SLOTS));
	ASSERT_EQ(0, ux_fill(fd[5], TOTAL - 3 * SLOTS - 1001));
	ASSERT_EQ(0, ux_alloc(fd[3], &offset));
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[3], &offset));
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[1], &offset));
	EXPECT_EQ(1, ux_count(fd[3]));
	EXPECT_EQ(1000, ux_count(fd[1]));

	/* What one context gives back, another can have. */
	ASSERT_EQ(0, ux_free(fd[0], slot_offset(5)));
	ASSERT_EQ(0, ux_alloc(fd[3], &offset));
	EXPECT_EQ(slot_offset(1), offset);
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[3], &offset));
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[0], &offset));

	/* The same by its end. */
	close(fd[1]);
	ASSERT_EQ(0, ux_fill(fd[3], 1000));
	EXPECT_EQ(-ENOSPC, ux_alloc(fd[3], &offset));
}

TEST_HARNESS_MAIN
