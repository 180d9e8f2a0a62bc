// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a context, a user and all users together reach exactly their limits
 * of interrupts and of event queues, each with its errno and also in races.
 * Root can change the limits at any time. All that a free, a close or a kill
 * returns can be had again at once.
 *
 * Run last: that all can be had also shows that no earlier suite has left any.
 */
#include "uxive_fixture.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#define MAX_QUEUES	65536
#define DEFAULT_QUEUES	16384
#define MAX_EXPORTS	65536
#define MAX_BYPASSES	65536

/* The most slots of a range, whose queue is a large one, and what queues have. */
#define MOST_SLOTS	65536
#define SMALL_QUEUE	(64L << 10)
#define LARGE_QUEUE	(2L << 20)

/* Two who are not root. */
#define ALICE		1001
#define BOB		1002

static int alloc(int fd)
{
	__u64 offset;

	return ux_alloc(fd, &offset);
}

/* From any chip and from one; returns what both do. */
static int alloc_on(int fd)
{
	__u64 offset;
	int ret = ux_alloc_on(fd, -1, &offset);

	return ux_alloc_on(fd, 0, &offset) == ret ? ret : -1000;
}

/* By each call that allocates; returns what all do. */
static int alloc_by_any(int fd)
{
	int ret = alloc(fd);

	return alloc_on(fd) == ret ? ret : -1000;
}

/* Likewise by each that makes a queue. */
static int queue_by_any(int fd)
{
	int ret = alloc_by_any(fd);

	return ux_user_drain(fd, -1) == ret ? ret : -1000;
}

/* The machine's memory in bytes: the most that queues can have. */
static long all_memory(void)
{
	return sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

/* The number that a limit can be set to at most. */
static long highest_limit(size_t limit)
{
	const long highest[LIMITS] = {
		SLOTS, TOTAL, TOTAL, MAX_QUEUES, MAX_QUEUES, all_memory(), all_memory(),
		MAX_EXPORTS, MAX_EXPORTS, UINT32_MAX, MAX_BYPASSES, MAX_BYPASSES,
	};

	return highest[limit];
}

/* A context gets no more interrupts, or one that has no queue gets none. */
#define EXPECT_NO_IRQ(error, fd)					\
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC and UXIVE_IOC_IRQ_ALLOC, error, alloc_by_any(fd))
#define EXPECT_NO_QUEUE(error, fd)					\
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC and UXIVE_IOC_IRQ_ALLOC and UXIVE_IOC_USER_DRAIN, \
		     error, queue_by_any(fd))

FIXTURE(limits) {
	struct limits limits;
	int fd[6];
};

FIXTURE_SETUP(limits)
{
	ASSERT_TRUE(limits_save(&self->limits));
	/* All may open the node for now. */
	ASSERT_EQ(0, chmod(UXIVE_DEV, 0666));
	for (size_t i = 0; i < ARRAY_SIZE(self->fd); i++) {
		self->fd[i] = ux_open();
		ASSERT_LE(0, self->fd[i]);
	}
}

FIXTURE_TEARDOWN(limits)
{
	for (size_t i = 0; i < ARRAY_SIZE(self->fd); i++)
		close(self->fd[i]);
	EXPECT_EQ(0, seteuid(0));
	EXPECT_EQ(0, chmod(UXIVE_DEV, 0600));
	EXPECT_TRUE(limits_restore(&self->limits));
	EXPECT_TRUE(becomes(limit_get("irqs"), 0));
	EXPECT_TRUE(becomes(limit_get("queues"), 0));
	EXPECT_TRUE(becomes(limit_get("queue_bytes"), 0));
}

TEST_F(limits, defaults_are_half_for_a_user)
{
	long part = all_memory() / 8 > 64 << 20 ? all_memory() / 8 : 64 << 20;
	long linux_irqs = sysconf(_SC_NPROCESSORS_ONLN) * (sysconf(_SC_PAGESIZE) / 4 - 1);
	long queues = linux_irqs / 2 < DEFAULT_QUEUES ? linux_irqs / 2 : DEFAULT_QUEUES;

	EXPECT_EQ(SLOTS, limit_get("max_irqs_per_context"));
	EXPECT_EQ(TOTAL / 2, limit_get("max_irqs_per_user"));
	EXPECT_EQ(TOTAL, limit_get("max_irqs"));
	EXPECT_EQ(queues / 2, limit_get("max_queues_per_user"));
	EXPECT_EQ(queues, limit_get("max_queues"));
	part -= part % sysconf(_SC_PAGESIZE);
	EXPECT_EQ(part / 2, limit_get("max_queue_bytes_per_user"));
	EXPECT_EQ(part, limit_get("max_queue_bytes"));
}

TEST_F(limits, they_are_exact_and_room_returns)
{
	const int *fd = self->fd;
	struct uxive_info info;
	__u64 offset;

	/* Two users, of whom neither is at a limit of its own. */
	ASSERT_EQ(0, limit_set("max_irqs_per_user", TOTAL));
	close(fd[5]);
	self->fd[5] = ux_open_as(ALICE);

	/* One context up to its own limit. */
	ASSERT_EQ(0, ux_fill(fd[0], SLOTS - 1));
	ASSERT_EQ(0, ux_alloc(fd[0], &offset));
	EXPECT_EQ(slot_offset(SLOTS - 1), offset);
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENOSPC, ux_alloc_on(fd[0], -1, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENOSPC, ux_alloc_on(fd[0], 0, &offset));
	ASSERT_EQ(0, ux_info(fd[0], &info));
	EXPECT_EQ(info.max_irqs, info.irqs);
	EXPECT_EQ(info.max_irqs, info.irqs_total);
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[0], &offset));
	EXPECT_EQ((int)SLOTS, ux_count(fd[0]));
	ASSERT_EQ(0, ux_free(fd[0], slot_offset(7)));
	ASSERT_EQ(0, ux_alloc(fd[0], &offset));
	EXPECT_EQ(slot_offset(7), offset);
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[0], &offset));

	/* Others up to the limit over all: the rest, but one. */
	progress();
	ASSERT_EQ(0, ux_fill(fd[1], 1000));
	ASSERT_EQ(0, ux_fill(fd[2], SLOTS));
	progress();
	ASSERT_EQ(0, ux_fill(fd[4], SLOTS));
	progress();
	ASSERT_EQ(0, ux_fill(fd[5], TOTAL - 3 * SLOTS - 1001));
	progress();
	ASSERT_EQ(0, ux_alloc(fd[3], &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENFILE, ux_alloc(fd[3], &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENFILE, ux_alloc(fd[1], &offset));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENFILE, ux_alloc_on(fd[1], -1, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENFILE, ux_alloc_on(fd[1], 0, &offset));
	ASSERT_EQ(0, ux_info(fd[1], &info));
	EXPECT_EQ(1000, info.irqs);
	EXPECT_EQ(info.max_irqs_total, info.irqs_total);
	EXPECT_EQ(1, ux_count(fd[3]));
	EXPECT_EQ(1000, ux_count(fd[1]));

	/* One context frees an interrupt, and another can have it. */
	ASSERT_EQ(0, ux_free(fd[0], slot_offset(5)));
	ASSERT_EQ(0, ux_alloc(fd[3], &offset));
	EXPECT_EQ(slot_offset(1), offset);
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENFILE, ux_alloc(fd[3], &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENFILE, ux_alloc(fd[0], &offset));

	/* The same by its end. */
	close(fd[1]);
	ASSERT_EQ(0, ux_fill(fd[3], 1000));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENFILE, ux_alloc(fd[3], &offset));

	/* Those are limits of the driver, of which programs are not told by events. */
	for (size_t i = 0; i < ARRAY_SIZE(self->fd); i++) {
		struct pollfd pfd = { .fd = fd[i], .events = POLLIN };

		EXPECT_EQ(i != 1 ? 0 : 1, poll(&pfd, 1, 0)) TH_LOG("context %zu", i);
	}
}

TEST_F(limits, a_context_ends_at_a_limit_that_root_has_set)
{
	ASSERT_EQ(0, limit_set("max_irqs_per_context", 3));
	EXPECT_EQ(3, info_of(self->fd[0]).max_irqs);
	ASSERT_EQ(0, ux_fill(self->fd[0], 3));
	EXPECT_NO_IRQ(ENOSPC, self->fd[0]);
	/* That is no other's matter. */
	ASSERT_EQ(0, ux_fill(self->fd[1], 3));
	EXPECT_NO_IRQ(ENOSPC, self->fd[1]);
	EXPECT_EQ(3, info_of(self->fd[0]).irqs);
	EXPECT_EQ(6, info_of(self->fd[0]).irqs_total);
}

TEST_F(limits, a_user_ends_at_its_limit_over_all_its_contexts)
{
	int alice[3], bob = ux_open_as(BOB);

	for (int i = 0; i < 3; i++)
		alice[i] = ux_open_as(ALICE);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 5));
	ASSERT_EQ(0, ux_fill(alice[0], 3));
	ASSERT_EQ(0, ux_fill(alice[1], 2));
	for (int i = 0; i < 3; i++) {
		EXPECT_NO_IRQ(EDQUOT, alice[i]);
		EXPECT_EQ(5, info_of(alice[i]).irqs_user);
		EXPECT_EQ(5, info_of(alice[i]).max_irqs_user);
	}
	/* The first one that was refused has left no queue. */
	EXPECT_EQ(2, info_of(alice[2]).queues_user);
	EXPECT_EQ(0, info_of(alice[2]).irqs);
	EXPECT_EQ(0, ux_user_drain(alice[2], -1));
	EXPECT_NO_IRQ(EDQUOT, alice[2]);

	/* Others have their own, root too. */
	EXPECT_EQ(0, info_of(bob).irqs_user);
	ASSERT_EQ(0, ux_fill(bob, 5));
	EXPECT_NO_IRQ(EDQUOT, bob);
	ASSERT_EQ(0, ux_fill(self->fd[0], 5));
	EXPECT_NO_IRQ(EDQUOT, self->fd[0]);
	EXPECT_EQ(15, limit_get("irqs"));

	/* One context frees an interrupt, and another can have it. */
	ASSERT_EQ(0, ux_free(alice[0], slot_offset(1)));
	ASSERT_EQ(0, ux_fill(alice[2], 1));
	EXPECT_NO_IRQ(EDQUOT, alice[0]);
	close(alice[1]);
	ASSERT_EQ(0, ux_fill(alice[0], 2));
	EXPECT_NO_IRQ(EDQUOT, alice[0]);
	close(alice[0]);
	close(alice[2]);
	close(bob);
}

TEST_F(limits, all_users_end_at_the_limit_over_all)
{
	int alice = ux_open_as(ALICE), bob = ux_open_as(BOB);

	ASSERT_EQ(0, limit_set("max_irqs", 7));
	EXPECT_EQ(7, info_of(bob).max_irqs_total);
	ASSERT_EQ(0, ux_fill(alice, 4));
	ASSERT_EQ(0, ux_fill(bob, 3));
	EXPECT_NO_IRQ(ENFILE, alice);
	EXPECT_NO_IRQ(ENFILE, bob);
	EXPECT_NO_IRQ(ENFILE, self->fd[0]);
	EXPECT_EQ(7, info_of(bob).irqs_total);
	EXPECT_EQ(4, info_of(alice).irqs_user);
	EXPECT_EQ(0, info_of(self->fd[0]).queues_user);
	close(alice);
	ASSERT_EQ(0, ux_fill(self->fd[0], 4));
	EXPECT_NO_IRQ(ENFILE, bob);
	close(bob);
}

TEST_F(limits, queues_of_a_user_end_at_its_limit)
{
	int alice[4], bob = ux_open_as(BOB);

	ASSERT_EQ(0, limit_set("max_queues_per_user", 2));
	/* A context that has no interrupt has no queue. */
	for (int i = 0; i < 4; i++)
		alice[i] = ux_open_as(ALICE);
	EXPECT_EQ(0, info_of(alice[0]).queues_user);
	ASSERT_EQ(0, ux_fill(alice[0], 2));
	ASSERT_EQ(0, ux_user_drain(alice[1], -1));
	EXPECT_EQ(2, info_of(alice[2]).queues_user);
	EXPECT_EQ(2, info_of(alice[2]).max_queues_user);
	EXPECT_NO_QUEUE(EDQUOT, alice[2]);
	EXPECT_NO_QUEUE(EDQUOT, alice[3]);
	EXPECT_EQ(2, info_of(alice[2]).irqs_user);
	/* Those that have one go on. */
	EXPECT_EQ(0, ux_fill(alice[0], 2));
	EXPECT_EQ(0, ux_fill(alice[1], 2));
	EXPECT_EQ(0, ux_fill(bob, 1));
	EXPECT_EQ(3, limit_get("queues"));

	/* It goes with the context, not with the last interrupt. */
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, ux_free(alice[0], slot_offset(i)));
	EXPECT_NO_QUEUE(EDQUOT, alice[2]);
	close(alice[0]);
	EXPECT_EQ(0, ux_user_drain(alice[2], -1));
	EXPECT_NO_QUEUE(EDQUOT, alice[3]);
	for (int i = 1; i < 4; i++)
		close(alice[i]);
	close(bob);
}

TEST_F(limits, queues_of_all_users_end_at_the_limit_over_all)
{
	int alice[2] = { ux_open_as(ALICE), ux_open_as(ALICE) }, bob = ux_open_as(BOB);

	ASSERT_EQ(0, limit_set("max_queues", 2));
	EXPECT_EQ(2, info_of(bob).max_queues_total);
	ASSERT_EQ(0, ux_fill(alice[0], 1));
	ASSERT_EQ(0, ux_user_drain(self->fd[0], -1));
	EXPECT_NO_QUEUE(ENFILE, alice[1]);
	EXPECT_NO_QUEUE(ENFILE, bob);
	EXPECT_EQ(2, info_of(bob).queues_total);
	EXPECT_EQ(0, info_of(bob).queues_user);
	EXPECT_EQ(1, info_of(alice[1]).queues_user);
	close(alice[0]);
	EXPECT_EQ(0, ux_user_drain(bob, -1));
	EXPECT_NO_QUEUE(ENFILE, alice[1]);
	close(alice[1]);
	close(bob);
}

/* One of @uid, without a queue, which will have so many bytes; or a negative errno. */
static int open_for_queue(uid_t uid, long bytes)
{
	int fd = ux_open_as(uid), range;

	if (bytes == SMALL_QUEUE || fd < 0)
		return fd;
	range = ux_range(fd, MOST_SLOTS);
	close(fd);
	return range;
}

TEST_F(limits, memory_of_the_queues_of_a_user_ends_at_its_limit)
{
	int alice[5], bob = open_for_queue(BOB, LARGE_QUEUE);

	ASSERT_EQ(0, limit_set("max_queue_bytes_per_user", LARGE_QUEUE + 2 * SMALL_QUEUE));
	for (int i = 0; i < 5; i++)
		alice[i] = open_for_queue(ALICE, i < 2 ? LARGE_QUEUE : SMALL_QUEUE);
	EXPECT_EQ(0, limit_get("queue_bytes"));
	ASSERT_EQ(0, ux_user_drain(alice[0], -1));
	EXPECT_EQ(LARGE_QUEUE, fdinfo_number(alice[0], "uxive-queue-bytes"));
	EXPECT_NO_QUEUE(EDQUOT, alice[1]);
	ASSERT_EQ(0, ux_fill(alice[2], 2));
	EXPECT_EQ(SMALL_QUEUE, fdinfo_number(alice[2], "uxive-queue-bytes"));
	EXPECT_NO_QUEUE(EDQUOT, alice[1]);
	ASSERT_EQ(0, ux_fill(alice[3], 1));
	for (int i = 1; i < 5; i += 3) {
		EXPECT_NO_QUEUE(EDQUOT, alice[i]);
		EXPECT_EQ(0, fdinfo_number(alice[i], "uxive-queue-bytes"));
	}
	/* A refused queue counts in neither way. */
	EXPECT_EQ(LARGE_QUEUE + 2 * SMALL_QUEUE, limit_get("queue_bytes"));
	EXPECT_EQ(3, info_of(alice[4]).queues_user);
	EXPECT_EQ(3, limit_get("queues"));
	/* Contexts with a queue go on, and so does another user. */
	EXPECT_EQ(0, ux_fill(alice[2], 2));
	ASSERT_EQ(0, ux_fill(bob, 1));
	EXPECT_EQ(2 * LARGE_QUEUE + 2 * SMALL_QUEUE, limit_get("queue_bytes"));

	/* The room of a small one is room for a small one, that of a large one for both. */
	close(alice[2]);
	EXPECT_NO_QUEUE(EDQUOT, alice[1]);
	ASSERT_EQ(0, ux_user_drain(alice[4], -1));
	close(alice[0]);
	ASSERT_EQ(0, ux_fill(alice[1], 1));
	alice[0] = open_for_queue(ALICE, SMALL_QUEUE);
	EXPECT_NO_QUEUE(EDQUOT, alice[0]);
	for (int i = 0; i < 5; i++)
		close(i == 2 ? -1 : alice[i]);
	close(bob);
}

TEST_F(limits, memory_of_all_queues_ends_at_the_limit_over_all)
{
	int alice = open_for_queue(ALICE, LARGE_QUEUE), bob = open_for_queue(BOB, SMALL_QUEUE);

	ASSERT_EQ(0, limit_set("max_queue_bytes", LARGE_QUEUE + SMALL_QUEUE));
	ASSERT_EQ(0, ux_fill(alice, 1));
	ASSERT_EQ(0, ux_user_drain(self->fd[0], -1));
	EXPECT_NO_QUEUE(ENFILE, bob);
	EXPECT_NO_QUEUE(ENFILE, self->fd[1]);
	EXPECT_EQ(LARGE_QUEUE + SMALL_QUEUE, limit_get("queue_bytes"));
	EXPECT_EQ(0, info_of(bob).queues_user);
	close(alice);
	EXPECT_EQ(0, ux_user_drain(bob, -1));
	EXPECT_EQ(2 * SMALL_QUEUE, limit_get("queue_bytes"));
	alice = open_for_queue(ALICE, LARGE_QUEUE);
	EXPECT_NO_QUEUE(ENFILE, alice);
	close(bob);
	EXPECT_EQ(0, ux_fill(alice, 1));
	close(alice);
}

/* Of queues and of their memory, the limit of the user tells first. */
TEST_F(limits, a_limit_of_the_user_comes_before_one_of_all)
{
	const struct {
		const char *of_user, *of_all;
		long user, all;
	} cases[] = {
		{ "max_queues_per_user", "max_queue_bytes", 1, SMALL_QUEUE },
		{ "max_queue_bytes_per_user", "max_queues", SMALL_QUEUE, 1 },
		{ "max_queues_per_user", "max_queues", 1, 1 },
		{ "max_queue_bytes_per_user", "max_queue_bytes", SMALL_QUEUE, SMALL_QUEUE },
	};

	ASSERT_EQ(0, ux_fill(self->fd[0], 1));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int alice = ux_open_as(ALICE);

		ASSERT_EQ(0, limit_set(cases[i].of_user, cases[i].user));
		ASSERT_EQ(0, limit_set(cases[i].of_all, cases[i].all));
		EXPECT_NO_QUEUE(EDQUOT, self->fd[1]);
		EXPECT_NO_QUEUE(ENFILE, alice);
		EXPECT_EQ(1, limit_get("queues"));
		EXPECT_EQ(SMALL_QUEUE, limit_get("queue_bytes"));
		ASSERT_TRUE(limits_restore(&self->limits));
		close(alice);
	}
}

/* However often they are run into. */
TEST_F(limits, they_are_no_matter_for_the_log)
{
	int log = log_open(), tries = 0;
	long start = clock_ns();

	ASSERT_EQ(0, limit_set("max_irqs_per_context", 3));
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 5));
	ASSERT_EQ(0, limit_set("max_queues", 2));
	ASSERT_EQ(0, ux_fill(self->fd[0], 3));
	ASSERT_EQ(0, ux_fill(self->fd[1], 2));
	for (; clock_ns() - start < STORM_NS; tries++) {
		EXPECT_NO_IRQ(ENOSPC, self->fd[0]);
		EXPECT_NO_IRQ(EDQUOT, self->fd[1]);
		EXPECT_NO_QUEUE(ENFILE, self->fd[2]);
		progress();
	}
	TH_LOG("%d times", tries);
	EXPECT_EQ(0, log_lines(log, "xive"));
	close(log);
}

TEST_F(limits, one_that_is_lowered_waits_until_enough_is_given_back)
{
	const struct {
		const char *name;
		int error;
	} cases[] = {
		{ "max_irqs_per_context", -ENOSPC },
		{ "max_irqs_per_user", -EDQUOT },
		{ "max_irqs", -ENFILE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		long before = limit_get(cases[i].name);
		int fd = self->fd[i];
		__u64 offset;

		ASSERT_EQ(0, ux_fill(fd, 5));
		ASSERT_EQ(0, limit_set(cases[i].name, 3));
		EXPECT_EQ(3, limit_get(cases[i].name));
		/* Nothing is taken away. */
		EXPECT_EQ(5, ux_count(fd));
		for (int slot = 0; slot < 3; slot++) {
			EXPECT_EQ(cases[i].error, ux_alloc(fd, &offset))
				TH_LOG("%s", cases[i].name);
			ASSERT_EQ(0, ux_free(fd, slot_offset(slot)));
		}
		EXPECT_EQ(0, ux_alloc(fd, &offset));
		EXPECT_EQ(cases[i].error, ux_alloc(fd, &offset));
		/* None at all, and one more. */
		ASSERT_EQ(0, limit_set(cases[i].name, 0));
		ASSERT_EQ(0, ux_free(fd, slot_offset(0)));
		EXPECT_EQ(cases[i].error, ux_alloc(fd, &offset));
		ASSERT_EQ(0, limit_set(cases[i].name, 4));
		EXPECT_EQ(0, ux_fill(fd, 2));
		EXPECT_EQ(cases[i].error, ux_alloc(fd, &offset));
		ASSERT_EQ(0, limit_set(cases[i].name, before));
		EXPECT_EQ(0, ux_fill(fd, 1));
		while (ux_count(fd) > 0)
			ASSERT_EQ(0, ux_free(fd, slot_offset(ux_count(fd) - 1)));
	}
}

TEST_F(limits, queues_wait_alike)
{
	const struct {
		const char *name;
		int error;
		long one;
	} cases[] = {
		{ "max_queues_per_user", -EDQUOT, 1 },
		{ "max_queues", -ENFILE, 1 },
		{ "max_queue_bytes_per_user", -EDQUOT, SMALL_QUEUE },
		{ "max_queue_bytes", -ENFILE, SMALL_QUEUE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		long before = limit_get(cases[i].name);
		int fd[4], last = ux_open();

		for (int n = 0; n < 4; n++) {
			fd[n] = ux_open();
			ASSERT_EQ(0, ux_user_drain(fd[n], -1));
		}
		ASSERT_EQ(0, limit_set(cases[i].name, 2 * cases[i].one));
		EXPECT_EQ(4, limit_get("queues"));
		EXPECT_EQ(4 * SMALL_QUEUE, limit_get("queue_bytes"));
		for (int n = 0; n < 3; n++) {
			EXPECT_EQ(cases[i].error, ux_user_drain(last, -1))
				TH_LOG("%s", cases[i].name);
			close(fd[n]);
		}
		EXPECT_EQ(0, ux_user_drain(last, -1));
		ASSERT_EQ(0, limit_set(cases[i].name, before));
		close(fd[3]);
		close(last);
	}
}

TEST_F(limits, take_numbers_within_their_range_and_nothing_else)
{
	const char * const bad[] = { "\n", "x", "-1", "1x", "1 2", "0x", "1.5" };
	const char * const huge[] = {
		"9223372036854775807", "18446744073709551615", "18446744073709551616",
		"18446744073709551617", "99999999999999999999999999",
	};

	for (size_t i = 0; i < LIMITS; i++) {
		const char *name = limit_names[i];
		int fd = open(limit_path(name), O_WRONLY | O_CLOEXEC);

		EXPECT_ERRNO(write, EFAULT, write(fd, (void *)(1UL << 62), 2) < 0 ? -errno : 0);
		close(fd);
		for (size_t n = 0; n < ARRAY_SIZE(bad); n++) {
			EXPECT_ERRNO(write, EINVAL, limit_write(name, bad[n]))
				TH_LOG("%s: %s", name, bad[n]);
		}
		for (size_t n = 0; n < ARRAY_SIZE(huge); n++) {
			EXPECT_ERRNO(write, ERANGE, limit_write(name, huge[n]))
				TH_LOG("%s: %s", name, huge[n]);
		}
		for (long more = 1; more <= 1L << 32; more <<= 16) {
			EXPECT_ERRNO(write, ERANGE, limit_set(name, highest_limit(i) + more))
				TH_LOG("%s, %ld more", name, more);
		}
		EXPECT_EQ(self->limits.saved[i], limit_get(name));
		EXPECT_EQ(0, limit_set(name, highest_limit(i)));
		EXPECT_EQ(highest_limit(i), limit_get(name));
		EXPECT_EQ(0, limit_write(name, "0x10"));
		EXPECT_EQ(16, limit_get(name));
		EXPECT_EQ(0, limit_write(name, "0"));
		EXPECT_EQ(0, limit_get(name));
	}
}

TEST_F(limits, all_can_read_and_only_root_can_write)
{
	const char * const use[] = { "irqs", "queues", "queue_bytes", "bypasses" };

	for (size_t i = 0; i < ARRAY_SIZE(use); i++) {
		EXPECT_EQ(0, limit_get(use[i]));
		EXPECT_EQ(-EACCES, limit_write(use[i], "0"));
	}
	ASSERT_EQ(0, seteuid(ALICE));
	for (size_t i = 0; i < LIMITS; i++) {
		EXPECT_EQ(self->limits.saved[i], limit_get(limit_names[i]));
		EXPECT_EQ(-EACCES, limit_write(limit_names[i], "1"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(use); i++)
		EXPECT_EQ(0, limit_get(use[i]));
	ASSERT_EQ(0, seteuid(0));
	for (size_t i = 0; i < LIMITS; i++)
		EXPECT_EQ(self->limits.saved[i], limit_get(limit_names[i]));
}

static bool file_has(const char *path, const char *text)
{
	FILE *file = fopen(path, "r");
	char line[1024];
	bool has = false;

	while (file && !has && fgets(line, sizeof(line), file))
		has = strstr(line, text);
	if (file)
		fclose(file);
	return has;
}

TEST_F(limits, another_user_sees_how_much_there_is_in_all)
{
	char fdinfo[64];
	pid_t pid;

	snprintf(fdinfo, sizeof(fdinfo), "/proc/%d/fdinfo/%d", getpid(), self->fd[0]);
	ASSERT_EQ(0, ux_fill(self->fd[0], 3));
	ASSERT_EQ(0, access(fdinfo, R_OK));
	ASSERT_EQ(0, access("/sys/kernel/debug/uxive/contexts", R_OK));
	pid = fork();
	if (!pid) {
		bool all, others;

		if (setresuid(BOB, BOB, BOB))
			_exit(1);
		all = limit_get("irqs") == 3 && limit_get("queues") == 1 &&
		      limit_get("queue_bytes") == SMALL_QUEUE;
		/* As of each interrupt of the machine: how often it came. */
		all = all && file_has("/proc/interrupts", " uxive-");
		others = !access("/sys/kernel/debug/uxive/contexts", R_OK) ||
			 !access(fdinfo, R_OK);
		_exit(all ? others ? 3 : 0 : 2);
	}
	EXPECT_EQ(0, child_status(pid));
}

/*
 * The user of the context does not matter: a child of another user inherits it,
 * or it is passed on.
 */
TEST_F(limits, who_opened_a_context_is_charged)
{
	int alice = ux_open_as(ALICE), bob = ux_open_as(BOB), sock[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, sock));
	pid = fork();
	if (!pid) {
		int passed, own;
		bool done;

		/* Its own from the time on that it is BOB, and no other. */
		if (setresuid(BOB, BOB, BOB))
			_exit(1);
		passed = fd_receive(sock[1]);
		own = ux_open();
		done = passed >= 0 && own >= 0 && !ux_fill(passed, 2) &&
		       !ux_fill(alice, 3) && !ux_fill(own, 4);
		/* Nor does it come back when the user of the program does. */
		_exit(!done || info_of(own).irqs_user != 4 || info_of(passed).irqs_user != 2);
	}
	ASSERT_LT(0, pid);
	ASSERT_TRUE(fd_send(sock[0], self->fd[0]));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(3, info_of(alice).irqs_user);
	EXPECT_EQ(1, info_of(alice).queues_user);
	EXPECT_EQ(2, info_of(self->fd[0]).irqs_user);
	EXPECT_EQ(1, info_of(self->fd[0]).queues_user);
	/* The contexts that the child opened have gone with it. */
	EXPECT_TRUE(becomes(info_of(bob).irqs_user, 0));
	EXPECT_EQ(0, info_of(bob).queues_user);
	EXPECT_EQ(5, limit_get("irqs"));

	/* A context is charged to the user that the program is when it opens it. */
	ASSERT_EQ(0, setresuid(ALICE, BOB, 0));
	EXPECT_EQ(0, ux_fill(alice, 1));
	close(bob);
	bob = ux_open();
	EXPECT_EQ(0, ux_fill(bob, 1));
	ASSERT_EQ(0, setresuid(0, 0, 0));
	EXPECT_EQ(4, info_of(alice).irqs_user);
	EXPECT_EQ(1, info_of(bob).irqs_user);
	close(alice);
	close(bob);
	close(sock[0]);
	close(sock[1]);
}

/* A user is counted from 0 when nothing of it was left. */
TEST_F(limits, a_user_who_comes_back_has_nothing)
{
	for (uid_t uid = ALICE; uid < ALICE + 100; uid++) {
		int fd = ux_open_as(uid);

		EXPECT_EQ(0, info_of(fd).irqs_user);
		EXPECT_EQ(0, info_of(fd).queues_user);
		ASSERT_EQ(0, ux_fill(fd, 2));
		EXPECT_EQ(2, info_of(fd).irqs_user);
		close(fd);
		fd = ux_open_as(uid);
		EXPECT_EQ(0, info_of(fd).irqs_user);
		EXPECT_EQ(0, info_of(fd).queues_user);
		close(fd);
	}
}

/* User namespaces. The users of the one that this process is in are 0 to @users - 1. */
#define NO_NAMESPACES	"the kernel has no user namespaces"

static unsigned int users;

/*
 * Returns what @body returns, 0 to 200, which root of a user namespace that @owner makes
 * runs with the context @fd. The users there are @count of those here, from @first on.
 */
static int in_namespace(uid_t owner, uid_t first, unsigned int count, int (*body)(int fd), int fd)
{
	int ready[2], go[2], status;
	char word[64];
	pid_t pid;

	if (pipe(ready) || pipe(go))
		return -errno;
	pid = fork();
	if (!pid) {
		users = count;
		/* Dumpable, so that root of the namespace around may write its maps. */
		if (setresuid(owner, owner, owner) || unshare(CLONE_NEWUSER) ||
		    prctl(PR_SET_DUMPABLE, 1) || write(ready[1], "", 1) != 1 ||
		    read(go[0], word, 1) != 1 || setresgid(0, 0, 0) || setresuid(0, 0, 0))
			_exit(250);
		_exit(body(fd));
	}
	close(ready[1]);
	snprintf(word, sizeof(word), "0 %u %u", first, count);
	if (read(ready[0], &status, 1) != 1 ||
	    file_write(path_of("/proc/%d/uid_map", pid), word) ||
	    file_write(path_of("/proc/%d/gid_map", pid), word) || write(go[1], "", 1) != 1)
		kill(pid, SIGKILL);
	status = child_status(pid);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
	return status;
}

/* How many interrupts a context takes until the limit of a user; 100 if it is another. */
static int taken(int fd)
{
	int count = 0, ret;

	while (!(ret = alloc(fd)))
		count++;
	return ret == -EDQUOT ? count : 100;
}

/* As many as the users of a namespace get together, each by a context of its own. */
static int taken_by_all(int fd __maybe_unused)
{
	int count = 0;

	for (uid_t user = 0; user < users; user++)
		count += taken(ux_open_as(user));
	return count;
}

/* Likewise by ranges that they make of a context. */
static int taken_by_ranges(int fd)
{
	int count = 0;

	for (uid_t user = 0; user < users; user++) {
		int range = seteuid(user) ? -1 : ux_range(fd, 100);

		count += seteuid(0) ? 100 : taken(range);
	}
	return count;
}

/* Likewise queues, by one interrupt each. */
static int queues_by_all(int fd __maybe_unused)
{
	int count = 0;

	for (uid_t user = 0; user < users; user++) {
		int ret = alloc(ux_open_as(user));

		count += ret == -EDQUOT ? 0 : ret ? 100 : 1;
	}
	return count;
}

/* By half of the users, in a namespace within that the user 3 makes. */
static int taken_within(int fd)
{
	return in_namespace(3, users / 2, users / 2, taken_by_all, fd);
}

TEST_F(limits, a_user_namespace_is_charged_to_its_owner)
{
	int alice = ux_open_as(ALICE);

	if (access("/proc/self/ns/user", F_OK))
		SKIP(return, NO_NAMESPACES);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 4));
	EXPECT_EQ(4, in_namespace(ALICE, 100000, 10, taken_by_all, -1));
	ASSERT_EQ(0, ux_fill(alice, 3));
	EXPECT_EQ(1, in_namespace(ALICE, 100000, 10, taken_by_all, -1));
	ASSERT_EQ(0, ux_fill(alice, 1));
	EXPECT_EQ(0, in_namespace(ALICE, 100000, 10, taken_by_all, -1));
	/* Herself within is no second one to pay. */
	close(alice);
	EXPECT_EQ(4, in_namespace(ALICE, ALICE, 1, taken_by_all, -1));
	/* A namespace of another, in which she is a user. */
	EXPECT_EQ(4, in_namespace(BOB, ALICE, 1, taken_by_all, -1));

	ASSERT_EQ(0, limit_set("max_queues_per_user", 3));
	EXPECT_EQ(3, in_namespace(ALICE, 100000, 10, queues_by_all, -1));
	EXPECT_TRUE(becomes(limit_get("irqs"), 0));
}

TEST_F(limits, one_in_another_is_charged_to_both_owners)
{
	int outer = ux_open_as(ALICE), inner = ux_open_as(200003);

	if (access("/proc/self/ns/user", F_OK))
		SKIP(return, NO_NAMESPACES);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 4));
	ASSERT_EQ(0, ux_fill(outer, 1));
	EXPECT_EQ(3, in_namespace(ALICE, 100000, 10, taken_within, -1));
	/* The owner within, who has some without. */
	ASSERT_EQ(0, ux_fill(inner, 2));
	EXPECT_EQ(2, in_namespace(0, 200000, 10, taken_within, -1));
	close(outer);
	close(inner);
}

TEST_F(limits, a_range_is_not_charged_to_a_user_who_comes_along)
{
	int alice = ux_open_as(ALICE);

	if (access("/proc/self/ns/user", F_OK))
		SKIP(return, NO_NAMESPACES);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 4));
	ASSERT_EQ(0, ux_fill(alice, 4));
	EXPECT_EQ(4, in_namespace(ALICE, 100000, 10, taken_by_ranges, self->fd[0]));
	EXPECT_TRUE(becomes(info_of(self->fd[0]).irqs_user, 0));
	ASSERT_EQ(0, ux_fill(self->fd[0], 3));
	EXPECT_EQ(1, in_namespace(ALICE, 100000, 10, taken_by_ranges, self->fd[0]));
	EXPECT_EQ(4, info_of(alice).irqs_user);
	close(alice);
}

static int taken_pipe[2], end_pipe[2];

static int taken_and_held(int fd)
{
	int count = taken_by_all(fd);
	char word;

	return write(taken_pipe[1], "", 1) == 1 && read(end_pipe[0], &word, 1) == 1 ? count : 100;
}

TEST_F(limits, namespaces_of_root_have_an_account_each)
{
	pid_t pid;
	char word;

	if (access("/proc/self/ns/user", F_OK))
		SKIP(return, NO_NAMESPACES);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 4));
	ASSERT_EQ(0, pipe(taken_pipe));
	ASSERT_EQ(0, pipe(end_pipe));
	pid = fork();
	if (!pid)
		_exit(in_namespace(0, 200000, 10, taken_and_held, -1));
	close(taken_pipe[1]);
	ASSERT_EQ(1, read(taken_pipe[0], &word, 1));
	EXPECT_EQ(4, limit_get("irqs"));
	EXPECT_EQ(4, in_namespace(0, 300000, 10, taken_by_all, -1));
	/* Root has none of them. */
	EXPECT_EQ(0, info_of(self->fd[0]).irqs_user);
	EXPECT_EQ(4, taken(self->fd[0]));
	EXPECT_EQ(8, limit_get("irqs"));
	EXPECT_EQ(1, write(end_pipe[1], "", 1));
	EXPECT_EQ(4, child_status(pid));
	close(taken_pipe[0]);
	close(end_pipe[0]);
	close(end_pipe[1]);
}

/*
 * Fifty processes at one limit. Each takes until it is refused; then they give
 * and take; then all hold what they have, until half of them leave and the
 * others are killed.
 */
#define RACERS		50
#define RACE_MOST	64
#define RACE_ROUNDS	20
/* A queue takes the kernel a thousand times longer to set up than an interrupt. */
#define RACE_QUEUE_ROUNDS	3

/* Memory that the racers share. */
struct track {
	int waiting, go;		/* Those at the line, and how often they were sent off. */
	int held;			/* Each is counted while it is certainly held. */
	int over, unexpected;
};

struct race {
	const char *limit;		/* Its name. */
	long value, unit;		/* How many it allows, and how each counts. */
	int error;			/* The errno of a racer that comes too late. */
	int shared;			/* The context of all, or -1 if each has its own. */
	bool queues;			/* Of these, each with a context, instead of interrupts. */
	int users;
	struct track *track;
};

struct racer {
	const struct race *race;
	int fd;
	int count;
	__u64 held[RACE_MOST];		/* Offsets, or descriptors of contexts. */
};

static bool racer_take(struct racer *racer)
{
	const struct race *race = racer->race;
	__u64 item = 0;
	int ret = 0;

	if (race->queues) {
		int fd = ux_open();

		item = fd;
		ret = fd < 0 ? fd :
		      racer->count % 2 ? ux_user_drain(fd, -1) : ux_fill(fd, 1);
		if (ret && fd >= 0)
			close(fd);
	} else {
		ret = ux_alloc(racer->fd, &item);
	}
	if (ret) {
		if (ret != -race->error)
			__atomic_store_n(&race->track->unexpected, ret, __ATOMIC_SEQ_CST);
		return false;
	}
	progress();
	racer->held[racer->count++] = item;
	if (__atomic_add_fetch(&race->track->held, 1, __ATOMIC_SEQ_CST) > race->value)
		__atomic_store_n(&race->track->over, 1, __ATOMIC_SEQ_CST);
	return true;
}

static void racer_give(struct racer *racer)
{
	const struct race *race = racer->race;
	__u64 item = racer->held[--racer->count];

	__atomic_sub_fetch(&race->track->held, 1, __ATOMIC_SEQ_CST);
	if (race->queues ? close(item) : ux_free(racer->fd, item))
		__atomic_store_n(&race->track->unexpected, -errno, __ATOMIC_SEQ_CST);
}

static void racer_wait(const struct race *race, int start)
{
	__atomic_add_fetch(&race->track->waiting, 1, __ATOMIC_SEQ_CST);
	progress();
	while (__atomic_load_n(&race->track->go, __ATOMIC_SEQ_CST) < start)
		usleep(1000);
}

static void racer_process(const struct race *race, int number)
{
	struct racer racer = { .race = race };
	uid_t uid = ALICE + number % race->users;
	unsigned int seed = number;

	if (setresuid(uid, uid, uid) || prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(1);
	racer.fd = race->shared < 0 ? ux_open() : race->shared;
	/* So that no refused first interrupt takes its queue along, which is slow. */
	if (race->shared < 0 && !race->queues && ux_user_drain(racer.fd, -1))
		_exit(1);
	racer_wait(race, 1);
	while (racer.count < RACE_MOST && racer_take(&racer))
		;
	racer_wait(race, 2);
	for (int round = 0; round < (race->queues ? RACE_QUEUE_ROUNDS : RACE_ROUNDS); round++) {
		progress();
		if (racer.count && rand_r(&seed) % 2)
			racer_give(&racer);
		else if (racer.count < RACE_MOST)
			racer_take(&racer);
	}
	racer_wait(race, 3);
	while (racer.count < RACE_MOST && racer_take(&racer))
		;
	racer_wait(race, 4);
	if (number % 2)
		_exit(0);
	pause();
}

/*
 * How many the kernel says that they hold. By memory where that is limited: a queue that
 * has none is counted for a moment, too.
 */
static long race_in_use(const struct race *race)
{
	if (race->unit)
		return limit_get("queue_bytes") / race->unit;
	return limit_get(race->queues ? "queues" : "irqs");
}

/* Starts the racers, and checks the kernel's counts until all are at the line again. */
static void race_go(const struct race *race, int start)
{
	__atomic_store_n(&race->track->go, start, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&race->track->waiting, __ATOMIC_SEQ_CST) < (start + 1) * RACERS) {
		if (race_in_use(race) > race->value)
			race->track->over = 1;
		usleep(1000);
	}
}

/* The name of the first thing that is not as promised, or NULL. */
static const char *race_run(struct race *race)
{
	const char *wrong = NULL;
	pid_t pids[RACERS];

	race->track = shared_memory(sizeof(*race->track));
	if (limit_set(race->limit, race->value * (race->unit ?: 1)))
		return "setting up";
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (!pids[i])
			racer_process(race, i);
	}
	for (int start = 0; !wrong && start < 4; start++) {
		race_go(race, start);
		if (race_in_use(race) != race->track->held)
			wrong = "what the kernel says that they hold";
		else if (start % 2 && race->track->held != race->value)
			wrong = "what they hold who were all refused more";
	}
	if (!wrong && race->track->over)
		wrong = "more than the limit at a time";
	if (!wrong && race->track->unexpected)
		wrong = strerror(-race->track->unexpected);
	race->track->go = 4;
	for (int i = 0; i < RACERS; i++) {
		if (i % 2 == 0 || wrong)
			kill(pids[i], SIGKILL);
		if (child_status(pids[i]) != (i % 2 ? 0 : -SIGKILL) && !wrong)
			wrong = "the end of a racer";
	}
	munmap(race->track, sizeof(*race->track));
	return wrong;
}

TEST_F(limits, fifty_race_for_the_interrupts_of_a_context)
{
	struct race race = {
		.limit = "max_irqs_per_context", .value = 129, .error = ENOSPC,
		.shared = self->fd[0], .users = 5,
	};
	const char *wrong = race_run(&race);

	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_EQ(129, info_of(self->fd[0]).irqs);
	EXPECT_EQ(129, info_of(self->fd[0]).irqs_user);
	close(self->fd[0]);
	EXPECT_TRUE(becomes(limit_get("irqs"), 0));
	EXPECT_TRUE(becomes(limit_get("queues"), 0));
	EXPECT_EQ(0, info_of(self->fd[1]).irqs_user);
}

static bool nothing_is_left(int fd)
{
	struct uxive_info info;

	return becomes(limit_get("irqs"), 0) && becomes(limit_get("queues"), 0) &&
	       !ux_info(fd, &info) && !info.irqs_total && !info.queues_total &&
	       !info.irqs_user && !info.queues_user;
}

TEST_F(limits, fifty_race_for_the_interrupts_of_a_user)
{
	struct race race = {
		.limit = "max_irqs_per_user", .value = 129, .error = EDQUOT,
		.shared = -1, .users = 1,
	};
	int alice = ux_open_as(ALICE);
	const char *wrong = race_run(&race);

	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_TRUE(nothing_is_left(alice));
	close(alice);
}

TEST_F(limits, fifty_race_for_the_interrupts_of_all)
{
	struct race race = {
		.limit = "max_irqs", .value = 129, .error = ENFILE,
		.shared = -1, .users = 5,
	};
	int alice = ux_open_as(ALICE);
	const char *wrong = race_run(&race);

	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_TRUE(nothing_is_left(alice));
	close(alice);
}

TEST_F(limits, fifty_race_for_the_queues_of_a_user)
{
	struct race race = {
		.limit = "max_queues_per_user", .value = 77, .error = EDQUOT,
		.shared = -1, .queues = true, .users = 1,
	};
	int alice = ux_open_as(ALICE);
	const char *wrong = race_run(&race);

	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_TRUE(nothing_is_left(alice));
	close(alice);
}

TEST_F(limits, fifty_race_for_the_memory_of_queues_of_a_user)
{
	struct race race = {
		.limit = "max_queue_bytes_per_user", .value = 77, .unit = SMALL_QUEUE,
		.error = EDQUOT, .shared = -1, .queues = true, .users = 1,
	};
	int alice = ux_open_as(ALICE);
	const char *wrong = race_run(&race);

	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_TRUE(nothing_is_left(alice));
	EXPECT_EQ(0, limit_get("queue_bytes"));
	close(alice);
}

TEST_F(limits, fifty_race_for_the_queues_of_all)
{
	struct race race = {
		.limit = "max_queues", .value = 77, .error = ENFILE,
		.shared = -1, .queues = true, .users = 5,
	};
	int alice = ux_open_as(ALICE);
	const char *wrong = race_run(&race);

	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_TRUE(nothing_is_left(alice));
	close(alice);
}

static bool drop_sys_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = {};

	if (syscall(SYS_capget, &header, caps))
		return false;
	caps[0].effective &= ~(1U << CAP_SYS_ADMIN);
	return !syscall(SYS_capset, &header, caps);
}

static void write_number(int fd, long number)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%ld", number);

	if (pwrite(fd, text, len, 0) != len)
		abort();
}

/*
 * A context needs one file, as others do. The kernel corrects its count of files in
 * steps of 32 for each CPU, so the count is moved by two, or once by one, between
 * finding the limit and trying.
 */
TEST_F(limits, open_at_the_limit_of_files_is_enfile)
{
	int max_fd = open("/proc/sys/fs/file-max", O_RDWR), refused = 0, held = 0;
	char text[32] = {};
	long old;

	ASSERT_LT(0, read(max_fd, text, sizeof(text) - 1));
	old = atol(text);
	pin_to_cpu(0);
	ASSERT_TRUE(drop_sys_admin());
	for (int i = 0; i < 100; i++) {
		int null = -1, ret;
		long limit = 0;

		while (null < 0 && limit < 10000) {
			write_number(max_fd, ++limit);
			null = open("/dev/null", O_RDONLY);
		}
		close(null);
		write_number(max_fd, old);
		for (int more = i == 50 ? 1 : 2; more; more--)
			held += open("/dev/null", O_RDONLY) >= 0;

		write_number(max_fd, limit);
		ret = ux_open();
		write_number(max_fd, old);
		if (ret < 0) {
			EXPECT_ERRNO(open, ENFILE, ret);
			refused++;
		} else {
			EXPECT_EQ(0, ux_fill(ret, 1));
			close(ret);
		}
	}
	TH_LOG("refused %d times of 100, beside %d files", refused, held);
	EXPECT_LT(0, refused);
	close(max_fd);
}

#define CGROUP		"/sys/fs/cgroup"
#define CGROUP_BYTES	(24L << 20)

/*
 * Opens contexts that have a queue, in the cgroup, until that is refused. Returns
 * the errno. The caller must be exempt from the OOM killer, which acts before a
 * refusal if there is a process to kill.
 */
static int fill_cgroup(int *count)
{
	char pid[16];
	int ret = 0, fd;

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (file_write("/proc/self/oom_score_adj", "-1000") ||
	    file_write(CGROUP "/uxive/cgroup.procs", pid))
		return 0;
	while (!ret) {
		fd = ux_open();
		ret = fd < 0 ? fd : *count % 2 ? ux_user_drain(fd, -1) : ux_fill(fd, 1);
		*count += !ret;
		progress();
	}
	return -ret;
}

TEST_F(limits, memory_is_charged_to_the_cgroup_of_the_caller)
{
	struct rlimit files = { 4096, 4096 };
	char number[16], pid[16];
	int *count, fd;
	pid_t child;

	/* Be they switched off. */
	if (lines_with("/proc/kallsyms", " mem_cgroup_from_task\n") < 1)
		SKIP(return, "the kernel has no memory cgroups");
	mount("none", CGROUP, "cgroup2", 0, NULL);
	ASSERT_EQ(0, file_write(CGROUP "/cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(CGROUP "/uxive", 0700));
	snprintf(number, sizeof(number), "%ld", CGROUP_BYTES);
	ASSERT_EQ(0, file_write(CGROUP "/uxive/memory.max", number));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	/* Memory must be the limit that is reached. */
	for (size_t i = 0; i < LIMITS; i++)
		ASSERT_EQ(0, limit_set(limit_names[i], highest_limit(i)));
	count = shared_memory(sizeof(*count));

	/* From here on the testbed takes reports of the OOM killer for no complaint. */
	ASSERT_TRUE(log_line("uxive selftest: a cgroup runs out of memory"));
	child = fork();
	if (!child)
		_exit(fill_cgroup(count));
	EXPECT_EQ(ENOMEM, child_status(child));
	TH_LOG("%d queues in %ld MiB", *count, CGROUP_BYTES >> 20);
	EXPECT_LT(0, *count);
	/* Each has 64 KiB at least. */
	EXPECT_LE(*count, CGROUP_BYTES >> 16);
	EXPECT_TRUE(becomes(limit_get("queues"), 0));
	EXPECT_TRUE(becomes(limit_get("irqs"), 0));

	/* Likewise where a process can be killed: it is the one that took too much. */
	child = fork();
	if (!child) {
		snprintf(pid, sizeof(pid), "%d", getpid());
		while (!file_write(CGROUP "/uxive/cgroup.procs", pid)) {
			fd = ux_open();
			if (fd < 0 || ux_fill(fd, 1))
				_exit(ENOMEM);
		}
		_exit(0);
	}
	fd = child_status(child);
	EXPECT_TRUE(fd == -SIGKILL || fd == ENOMEM) TH_LOG("status %d", fd);
	log_line("uxive selftest: no more cgroup runs out of memory");
	EXPECT_TRUE(becomes(limit_get("queues"), 0));
	EXPECT_TRUE(becomes(limit_get("irqs"), 0));

	/* Others have noticed nothing. */
	EXPECT_EQ(0, ux_fill(self->fd[0], 100));
	EXPECT_TRUE(becomes(rmdir(CGROUP "/uxive"), 0));
}

TEST_HARNESS_MAIN
