// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a machine that a hypervisor pauses as a whole, for any time, loses no
 * event, and does not take an AFU for gone that answers before and after.
 *
 * The test asks the testbed for the pause by a line of its output: the token of the
 * boot, "pause" and the number of seconds. Elsewhere the test is skipped.
 */
#include "uxive_afu.h"
#include "uxive_fixture.h"

/* Longer than an AFU may be silent. */
#define PAUSE_S		9
#define SLOT		1

/* Asks for the pause. False if there is no token. */
static bool ask_for_pause(void)
{
	const char *token = file_line("/token");

	if (!*token)
		return false;
	printf("%s pause %d\n", token, PAUSE_S);
	fflush(stdout);
	return true;
}

/* The longest time that passed at once since @last until it was as long as the pause, in ms. */
static long see_pause(long last)
{
	long end = last + WATCHDOG_MS, longest = 0;

	while (longest < (PAUSE_S - 1) * 1000 && last < end) {
		long now = clock_ms();

		longest = now - last > longest ? now - last : longest;
		last = now;
	}
	return longest;
}

/* Whether it goes on ringing. */
static bool rings_on(struct ringer *ringer)
{
	long rings = atomic_load(&ringer->rings);

	return becomes(atomic_load(&ringer->rings) > rings + 10, true);
}

TEST(a_machine_that_is_paused_for_nine_seconds_goes_on)
{
	struct bells bells;
	struct uxive_drain drain;
	/* Without a clock, which leaps. */
	struct ringer ringers[] = {
		{ .bells = &bells, .timeout = -1 }, { .drain = &drain, .timeout = -1 },
	};
	struct afu_function function[AFU_MOST];
	struct ocxl_ioctl_metadata metadata;
	struct afu_context context, later;
	int fd, efd = event_new();
	size_t length;
	__u64 offset;
	__u32 asked;
	void *memory;
	long asked_at, longest;

	if (access("/token", R_OK))
		SKIP(return, "there is no testbed");
	if (afu_functions(function) < 1)
		SKIP(return, "the machine has no accelerator");
	if (!afu_is_bound(function))
		ASSERT_EQ(0, afu_bind(function));
	ASSERT_TRUE(afu_context_open(&context, function));
	fd = context.fd;
	for (int i = 0; i <= SLOT; i++)
		ASSERT_EQ(0, ux_alloc(fd, &offset));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(SLOT), efd));
	memory = afu_map_bar(function, 2, &length);
	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_TRUE(afu_raise(context.mmio, SLOT));
	ASSERT_EQ(1, event_wait(efd));
	ASSERT_TRUE(bells_open(&bells, 1));
	ASSERT_TRUE(drain_open(&drain, ux_open(), 1));
	for (size_t i = 0; i < ARRAY_SIZE(ringers); i++) {
		ASSERT_EQ(0, ringer_start(&ringers[i]));
		ASSERT_TRUE(rings_on(&ringers[i]));
	}

	/* It may come before this thread runs again. */
	asked_at = clock_ms();
	ASSERT_TRUE(ask_for_pause());
	longest = see_pause(asked_at);
	ASSERT_LE((PAUSE_S - 1) * 1000, longest);
	TH_LOG("it was paused for %ld ms", longest);
	/* The driver asks it some times more, and finds it there. */
	for (int n = 0; n < 3; n++) {
		asked = afu_ping(memory);
		EXPECT_TRUE(becomes(afu_ping(memory) != asked, true));
	}
	EXPECT_EQ(0, polled(fd, POLLIN));
	EXPECT_EQ(0, afu_metadata(fd, &metadata));
	EXPECT_TRUE(afu_raise(context.mmio, SLOT));
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_TRUE(afu_context_open(&later, function));
	afu_context_close(&later);
	for (size_t i = 0; i < ARRAY_SIZE(ringers); i++) {
		EXPECT_TRUE(rings_on(&ringers[i])) TH_LOG("ringer %zu", i);
		ringer_stop(&ringers[i]);
		EXPECT_FALSE(ringers[i].lost) TH_LOG("ringer %zu", i);
		TH_LOG("%ld rings", ringers[i].rings);
	}
	bells_close(&bells);
	drain_close(&drain);
	munmap(memory, length);
	afu_context_close(&context);
	close(efd);
	EXPECT_EQ(0, afu_unbind(function));
}

TEST_HARNESS_MAIN
