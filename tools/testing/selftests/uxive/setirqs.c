// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: one call raises, masks, unmasks and binds a block of interrupts with the
 * semantics of VFIO, all of it or nothing. An interrupt that is rung while it is
 * masked gives exactly one event when it is unmasked.
 *
 * To show that a ring caused no event, a test rings the last slot, the fence: the
 * queue is in order, so all before the fence has been handled.
 *
 * The suite `faults` shows that each step of the calls can fail.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_fixture.h"

#define IRQS	8
#define FENCE	(IRQS - 1)
#define KINDS	(UXIVE_SET_DATA_NONE | UXIVE_SET_DATA_BOOL | UXIVE_SET_DATA_EVENTFD)
#define ACTIONS	(UXIVE_SET_MASK | UXIVE_SET_UNMASK | UXIVE_SET_TRIGGER)

#define MASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_MASK)
#define UNMASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK)
#define TRIGGER	(UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER)
#define BIND	(UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER)

/* Interrupts in the slots from 0 on, each with an eventfd of its own. */
struct own_bells {
	int fd;
	__s32 efd[IRQS];
	void *pages;
};

static bool own_bells_open(struct own_bells *bells, int fd)
{
	__u32 start;

	bells->fd = fd;
	events_new(bells->efd, IRQS);
	if (ux_alloc_many(fd, IRQS, bells->efd, &start) || start)
		return false;
	bells->pages = ux_map(fd, IRQ_BASE, IRQS * STRIDE);
	return bells->pages != MAP_FAILED;
}

static void own_bells_close(struct own_bells *bells)
{
	munmap(bells->pages, IRQS * STRIDE);
	close(bells->fd);
	events_close(bells->efd, IRQS);
}

static void ring_slot(const struct own_bells *bells, int slot)
{
	ring(bells->pages + slot * STRIDE);
}

/* When this returns, all earlier rings have been handled; false if the fence is mute. */
static bool fence(const struct own_bells *bells)
{
	ring_slot(bells, FENCE);
	return event_wait(bells->efd[FENCE]) == 1;
}

/* The events of a slot until now, including that of the last ring. */
static long came(const struct own_bells *bells, int slot)
{
	return fence(bells) ? event_read(bells->efd[slot]) : -1;
}

static int mask(const struct own_bells *bells, int slot)
{
	return ux_set_irqs(bells->fd, MASK, slot, 1, NULL);
}

static int unmask(const struct own_bells *bells, int slot)
{
	return ux_set_irqs(bells->fd, UNMASK, slot, 1, NULL);
}

static bool is_masked(int fd, int slot)
{
	const char *rest = fdinfo_of_irq(fd, slot_offset(slot));

	return rest && strstr(rest, " masked\n");
}

#define EXPECT_SET_IRQS(error, ...)						\
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, error, ux_set_irqs(__VA_ARGS__))

FIXTURE(set) {
	struct own_bells bells;
	struct use before;
};

FIXTURE_SETUP(set)
{
	catch_touches();
	pin_to_cpu(0);
	/* Contexts of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(all_irqs(), 0));
	self->before = use_now();
	ASSERT_TRUE(own_bells_open(&self->bells, ux_open()));
}

FIXTURE_TEARDOWN(set)
{
	own_bells_close(&self->bells);
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TABLES_EMPTY();
}

/* All are unmasked, bound to their own, and nothing is left to come. */
#define EXPECT_ALL_RING() do {							\
	EXPECT_EQ(-1, first_mute(self->bells.fd, 0, self->bells.efd, IRQS));	\
	for (int __slot = 0; __slot < IRQS; __slot++)				\
		EXPECT_FALSE(is_masked(self->bells.fd, __slot));		\
} while (0)

/* The call. */

TEST_F(set, takes_one_kind_of_data_and_one_action)
{
	const __u32 good[] = {
		MASK, UNMASK, TRIGGER, BIND,
		UXIVE_SET_DATA_BOOL | UXIVE_SET_MASK, UXIVE_SET_DATA_BOOL | UXIVE_SET_UNMASK,
		UXIVE_SET_DATA_BOOL | UXIVE_SET_TRIGGER,
	};
	/* Of the fence, 0 for each byte: leave alone. */
	__u8 bools[IRQS] = {};
	int fd = self->bells.fd, accepted = 0;

	for (__u32 flags = 0; flags < 64; flags++) {
		const void *data = flags & UXIVE_SET_DATA_EVENTFD ? (void *)self->bells.efd :
				   flags & UXIVE_SET_DATA_BOOL ? bools : NULL;
		bool is_good = false;
		int ret = ux_set_irqs(fd, flags, 0, IRQS - 1, data);

		for (size_t i = 0; i < ARRAY_SIZE(good); i++)
			is_good = is_good || good[i] == flags;
		EXPECT_EQ(is_good ? 0 : -EINVAL, ret) TH_LOG("flags %#x", flags);
		accepted += !ret;
		/* It was masked, or raised. */
		EXPECT_EQ(0, ux_set_irqs(fd, UNMASK, 0, IRQS, NULL));
		for (int slot = 0; slot < IRQS - 1; slot++) {
			EXPECT_EQ(flags == TRIGGER, came(&self->bells, slot))
				TH_LOG("flags %#x, slot %d", flags, slot);
		}
	}
	EXPECT_EQ(ARRAY_SIZE(good), accepted);
	for (int bit = 6; bit < 32; bit++) {
		EXPECT_SET_IRQS(EINVAL, fd, TRIGGER | 1U << bit, 0, 1, NULL)
			TH_LOG("bit %d", bit);
	}
	EXPECT_ALL_RING();
}

TEST_F(set, takes_a_block_of_interrupts_and_nothing_beside)
{
	const struct {
		__u32 start, count;
	} blocks[] = {
		{ 0, IRQS + 1 }, { IRQS, 1 }, { IRQS - 1, 2 }, { SLOTS - 1, 1 }, { SLOTS, 1 },
		{ ~0U, 1 }, { ~0U, 2 }, { 1, ~0U }, { 0, ~0U }, { 1U << 31, 1U << 31 },
		/* A count of 0 frees all, which is said by the flags and a start of 0. */
		{ 1, 0 }, { ~0U, 0 },
		/* 3 is freed. */
		{ 3, 1 }, { 0, IRQS }, { 2, 2 }, { 3, 2 },
	};
	__u8 bools[IRQS + 1] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
	int fd = self->bells.fd;

	ASSERT_EQ(0, ux_free(fd, slot_offset(3)));
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
		__u32 start = blocks[i].start, count = blocks[i].count;

		EXPECT_SET_IRQS(EINVAL, fd, TRIGGER, start, count, NULL)
			TH_LOG("%u at %u", count, start);
		EXPECT_SET_IRQS(EINVAL, fd, MASK, start, count, NULL)
			TH_LOG("%u at %u", count, start);
		EXPECT_SET_IRQS(EINVAL, fd, UNMASK, start, count, NULL)
			TH_LOG("%u at %u", count, start);
		if (count > IRQS + 1)
			continue;
		EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_MASK, start, count,
				bools)
			TH_LOG("%u at %u", count, start);
		EXPECT_SET_IRQS(EINVAL, fd, BIND, start, count < IRQS ? count : IRQS,
				self->bells.efd)
			TH_LOG("%u at %u", count, start);
	}
	/* There is no data without data, and nothing to do with count 0. */
	EXPECT_SET_IRQS(EINVAL, fd, TRIGGER, 0, 1, bools);
	EXPECT_SET_IRQS(EINVAL, fd, TRIGGER, 0, 0, bools);
	EXPECT_SET_IRQS(EINVAL, fd, TRIGGER, 0, 0, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, MASK, 0, 0, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, UNMASK, 0, 0, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, BIND, 0, 0, self->bells.efd);
	EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_TRIGGER, 0, 0, bools);
	EXPECT_EQ(IRQS - 1, ux_count(fd));
	ASSERT_EQ(0, ux_alloc_at(fd, 3, 1));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(3), self->bells.efd[3]));
	EXPECT_ALL_RING();
}

TEST_F(set, of_data_in_no_memory_changes_nothing)
{
	int fd = self->bells.fd, other = event_new();

	for (int there = 0; there < IRQS; there++) {
		__u8 *bools = before_a_hole(there);
		__s32 *efds = before_a_hole(there * sizeof(*efds));

		for (int i = 0; i < there; i++) {
			bools[i] = 1;
			efds[i] = i % 2 ? other : -1;
		}
		EXPECT_SET_IRQS(EFAULT, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_TRIGGER, 0, IRQS,
				bools);
		EXPECT_SET_IRQS(EFAULT, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_MASK, 0, IRQS, bools);
		EXPECT_SET_IRQS(EFAULT, fd, BIND, 0, IRQS, efds);
		EXPECT_ALL_RING();
	}
	EXPECT_SET_IRQS(EFAULT, fd, BIND, 0, 1, NULL);
	EXPECT_SET_IRQS(EFAULT, fd, BIND, 0, 1, (void *)(1UL << 62));
	EXPECT_EQ(0, event_read(other));
	close(other);
	EXPECT_EQ(self->before.events + IRQS, events_in_use());
}

/* Raising. */

TEST_F(set, raises_all_of_a_block)
{
	struct own_bells *bells = &self->bells;

	ASSERT_EQ(0, ux_set_irqs(bells->fd, TRIGGER, 2, 3, NULL));
	for (int slot = 0; slot < FENCE; slot++) {
		EXPECT_EQ(slot >= 2 && slot < 5, came(bells, slot))
			TH_LOG("slot %d", slot);
	}
	ASSERT_EQ(0, ux_set_irqs(bells->fd, TRIGGER, 0, IRQS, NULL));
	for (int slot = 0; slot < IRQS; slot++) {
		EXPECT_EQ(1, event_wait(bells->efd[slot]))
			TH_LOG("slot %d", slot);
	}
	EXPECT_ALL_RING();
}

TEST_F(set, raises_those_that_are_selected)
{
	const __u8 bools[] = { 1, 0, 2, 0, 0xff, 0 };
	struct own_bells *bells = &self->bells;

	ASSERT_EQ(0, ux_set_irqs(bells->fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_TRIGGER, 1, 6, bools));
	for (int slot = 0; slot < FENCE; slot++) {
		EXPECT_EQ(slot % 2, came(bells, slot))
			TH_LOG("slot %d", slot);
	}
	EXPECT_ALL_RING();
}

/* Binding. */

TEST_F(set, binds_a_block_and_lets_the_old_ones_go)
{
	struct own_bells *bells = &self->bells;
	__s32 old[3], new[3] = { event_new(), -1, event_new() };

	memcpy(old, bells->efd + 2, sizeof(old));
	ASSERT_EQ(0, ux_set_irqs(bells->fd, BIND, 2, 3, new));
	for (int i = 0; i < 3; i++) {
		ring_slot(bells, 2 + i);
		EXPECT_EQ(0, came(bells, 2 + i));
		EXPECT_EQ(new[i] >= 0, new[i] < 0 ? 0 : event_read(new[i]));
		close(old[i]);
		bells->efd[2 + i] = event_new();
	}
	/* Three have taken the places of those that were closed. */
	EXPECT_EQ(self->before.events + IRQS + 2, events_in_use());
	ASSERT_EQ(0, ux_set_irqs(bells->fd, BIND, 0, IRQS, bells->efd));
	close(new[0]);
	close(new[2]);
	EXPECT_ALL_RING();
	EXPECT_EQ(self->before.events + IRQS, events_in_use());
}

TEST_F(set, with_one_bad_eventfd_leaves_bound_what_was)
{
	struct own_bells *bells = &self->bells;
	int other = event_new(), closed = dup(other), pipes[2], held;

	ASSERT_EQ(0, pipe(pipes));
	close(closed);

	const struct {
		int fd, ret;
	} bad[] = {
		{ closed, -EBADF }, { -2, -EBADF }, { INT32_MIN, -EBADF }, { INT32_MAX, -EBADF },
		{ pipes[0], -EINVAL }, { bells->fd, -EINVAL },
	};

	/* One is bound to nothing, and must stay so. */
	ASSERT_EQ(0, ux_bind(bells->fd, slot_offset(4), -1));
	held = events_in_use();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		for (int at = 0; at < FENCE; at++) {
			__s32 efds[FENCE];

			for (int slot = 0; slot < FENCE; slot++)
				efds[slot] = slot % 3 ? other : -1;
			efds[at] = bad[i].fd;
			EXPECT_EQ(bad[i].ret, ux_set_irqs(bells->fd, BIND, 0, FENCE, efds))
				TH_LOG("%d at %d", bad[i].fd, at);
			for (int slot = 0; slot < FENCE; slot++) {
				ring_slot(bells, slot);
				EXPECT_EQ(slot != 4, came(bells, slot)) TH_LOG("slot %d", slot);
			}
			EXPECT_EQ(0, event_read(other));
		}
	}
	EXPECT_EQ(held, events_in_use());
	EXPECT_SET_IRQS(EBADF, bells->fd, BIND, 0, 1, &closed);
	EXPECT_SET_IRQS(EINVAL, bells->fd, BIND, 0, 1, pipes);
	ASSERT_EQ(0, ux_bind(bells->fd, slot_offset(4), bells->efd[4]));
	EXPECT_ALL_RING();
	close(other);
	close(pipes[0]);
	close(pipes[1]);
}

/* Masking. */

TEST_F(set, a_ring_while_masked_comes_once_when_unmasked)
{
	const int rings[] = { 1, 2, 3, 1000 };
	struct own_bells *bells = &self->bells;

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		ASSERT_EQ(0, mask(bells, 0));
		EXPECT_TRUE(is_masked(bells->fd, 0));
		for (int n = 0; n < rings[i]; n++) {
			ring_slot(bells, 0);
			if (n < 10) {
				EXPECT_EQ(0, came(bells, 0))
					TH_LOG("ring %d", n);
			}
		}
		EXPECT_EQ(0, came(bells, 0));
		ASSERT_EQ(0, unmask(bells, 0));
		EXPECT_EQ(1, event_wait(bells->efd[0])) TH_LOG("%d rings", rings[i]);
		EXPECT_EQ(0, came(bells, 0));
		EXPECT_ALL_RING();
	}
}

TEST_F(set, masking_without_a_ring_brings_nothing)
{
	struct own_bells *bells = &self->bells;

	for (int n = 0; n < 100; n++) {
		ASSERT_EQ(0, mask(bells, 0));
		ASSERT_EQ(0, unmask(bells, 0));
	}
	EXPECT_EQ(0, came(bells, 0));
	/* Nor does it of one that was never masked. */
	ASSERT_EQ(0, unmask(bells, 1));
	EXPECT_EQ(0, came(bells, 1));
	EXPECT_ALL_RING();
}

TEST_F(set, masking_does_not_nest)
{
	struct own_bells *bells = &self->bells;

	ASSERT_EQ(0, mask(bells, 0));
	ring_slot(bells, 0);
	ASSERT_EQ(0, mask(bells, 0));
	ring_slot(bells, 0);
	ASSERT_EQ(0, mask(bells, 0));
	EXPECT_EQ(0, came(bells, 0));
	ASSERT_EQ(0, unmask(bells, 0));
	EXPECT_EQ(1, event_wait(bells->efd[0]));
	EXPECT_FALSE(is_masked(bells->fd, 0));
	ASSERT_EQ(0, unmask(bells, 0));
	ASSERT_EQ(0, unmask(bells, 0));
	EXPECT_EQ(0, came(bells, 0));
	EXPECT_ALL_RING();
}

TEST_F(set, masks_those_that_are_selected)
{
	const __u8 odd[] = { 0, 1, 0, 1, 0, 1, 0 }, some[] = { 1, 1, 0, 1 };
	struct own_bells *bells = &self->bells;

	ASSERT_EQ(0, ux_set_irqs(bells->fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_MASK, 0, FENCE, odd));
	for (int slot = 0; slot < FENCE; slot++) {
		EXPECT_EQ(slot % 2, is_masked(bells->fd, slot));
		ring_slot(bells, slot);
		EXPECT_EQ(slot % 2 == 0, came(bells, slot)) TH_LOG("slot %d", slot);
	}
	/* 0, 1 and 3, of which the first was not masked. */
	ASSERT_EQ(0, ux_set_irqs(bells->fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_UNMASK, 0, 4, some));
	for (int slot = 0; slot < FENCE; slot++) {
		EXPECT_EQ(slot == 1 || slot == 3, came(bells, slot))
			TH_LOG("slot %d", slot);
	}
	EXPECT_TRUE(is_masked(bells->fd, 5));
	ASSERT_EQ(0, ux_set_irqs(bells->fd, UNMASK, 0, IRQS, NULL));
	EXPECT_EQ(1, event_wait(bells->efd[5]));
	EXPECT_ALL_RING();
}

TEST_F(set, one_that_is_raised_while_masked_comes_when_unmasked)
{
	struct own_bells *bells = &self->bells;

	ASSERT_EQ(0, mask(bells, 0));
	for (int n = 0; n < 3; n++) {
		ASSERT_EQ(0, ux_set_irqs(bells->fd, TRIGGER, 0, 1, NULL));
		EXPECT_EQ(0, came(bells, 0));
	}
	ring_slot(bells, 0);
	ASSERT_EQ(0, unmask(bells, 0));
	EXPECT_EQ(1, event_wait(bells->efd[0]));
	EXPECT_ALL_RING();
}

TEST_F(set, one_that_is_bound_anew_while_masked_signals_the_new_eventfd)
{
	struct own_bells *bells = &self->bells;
	int old = bells->efd[0];

	/* By this call, and by the one of ocxl. */
	for (int n = 0; n < 2; n++) {
		int new = event_new();

		ASSERT_EQ(0, mask(bells, 0));
		ring_slot(bells, 0);
		EXPECT_EQ(0, came(bells, 0));
		ASSERT_EQ(0, n ? ux_bind(bells->fd, IRQ_BASE, new) :
				 ux_set_irqs(bells->fd, BIND, 0, 1, &new));
		EXPECT_TRUE(is_masked(bells->fd, 0));
		ring_slot(bells, 0);
		EXPECT_TRUE(fence(bells));
		EXPECT_EQ(0, event_read(new));
		ASSERT_EQ(0, unmask(bells, 0));
		EXPECT_EQ(1, event_wait(new));
		EXPECT_EQ(0, event_read(old));
		ASSERT_EQ(0, ux_bind(bells->fd, IRQ_BASE, old));
		close(new);
	}
	/* Where nothing is bound when it is unmasked, it is dropped as others are. */
	ASSERT_EQ(0, mask(bells, 0));
	ring_slot(bells, 0);
	ASSERT_EQ(0, ux_bind(bells->fd, IRQ_BASE, -1));
	ASSERT_EQ(0, unmask(bells, 0));
	EXPECT_TRUE(fence(bells));
	ASSERT_EQ(0, ux_bind(bells->fd, IRQ_BASE, old));
	EXPECT_EQ(0, came(bells, 0));
	EXPECT_ALL_RING();
}

TEST_F(set, one_that_is_freed_while_masked_leaves_nothing_to_the_next)
{
	struct own_bells *bells = &self->bells;

	for (int n = 0; n < 4; n++) {
		ASSERT_EQ(0, ux_set_irqs(bells->fd, MASK, 0, 3, NULL));
		/* With a ring to come, and without. */
		for (int slot = 0; n % 2 && slot < 3; slot++)
			ring_slot(bells, slot);
		if (n < 2) {
			ASSERT_EQ(0, ux_free_many(bells->fd, 0, 3));
		} else {
			for (int slot = 0; slot < 3; slot++)
				ASSERT_EQ(0, ux_free(bells->fd, slot_offset(slot)));
		}
		for (int slot = 0; slot < 3; slot++)
			EXPECT_EQ(0, came(bells, slot));
		EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, EINVAL, unmask(bells, 0));
		ASSERT_EQ(0, ux_alloc_at(bells->fd, 0, 3));
		ASSERT_EQ(0, ux_set_irqs(bells->fd, BIND, 0, 3, bells->efd));
		for (int slot = 0; slot < 3; slot++)
			EXPECT_EQ(0, came(bells, slot));
		EXPECT_ALL_RING();
	}
	/* The last one is left to the end of the context. */
	ASSERT_EQ(0, ux_set_irqs(bells->fd, MASK, 0, FENCE, NULL));
	for (int slot = 0; slot < FENCE; slot++)
		ring_slot(bells, slot);
}

TEST_F(set, all_of_a_full_context_are_masked_in_one_call)
{
	int fd = ux_open(), efd = event_new();
	void *pages = ux_map(fd, IRQ_BASE, WINDOW);
	__s32 *efds = malloc(SLOTS * sizeof(*efds));
	long count = 0;
	__u32 start;

	ASSERT_NE(MAP_FAILED, pages);
	for (unsigned int i = 0; i < SLOTS; i++)
		efds[i] = efd;
	ASSERT_EQ(0, ux_alloc_many(fd, SLOTS, efds, &start));
	ASSERT_EQ(0, ux_set_irqs(fd, MASK, 0, SLOTS, NULL));
	for (unsigned int i = 0; i < SLOTS; i += 2)
		ring(pages + i * STRIDE);
	ASSERT_EQ(0, ux_bind(fd, slot_offset(1), self->bells.efd[0]));
	ASSERT_EQ(0, ux_set_irqs(fd, UNMASK, 1, 1, NULL));
	ring(pages + STRIDE);
	ASSERT_EQ(1, event_wait(self->bells.efd[0]));
	EXPECT_EQ(0, event_read(efd));
	ASSERT_EQ(0, ux_set_irqs(fd, UNMASK, 0, SLOTS, NULL));
	while (count < (long)SLOTS / 2) {
		long more = event_wait(efd);

		ASSERT_LT(0, more) TH_LOG("after %ld", count);
		count += more;
	}
	ring(pages + STRIDE);
	ASSERT_EQ(1, event_wait(self->bells.efd[0]));
	EXPECT_EQ(0, event_read(efd));
	EXPECT_EQ(SLOTS / 2, count);
	munmap(pages, WINDOW);
	close(fd);
	close(efd);
	free(efds);
}

TEST_F(set, says_what_is_masked)
{
	struct own_bells *bells = &self->bells;
	char start[64], line[256];

	for (int masked = 0; masked < 3; masked++) {
		struct ux_irq irqs[IRQS] = {};

		ASSERT_EQ(0, ux_set_irqs(bells->fd, masked % 2 ? MASK : UNMASK, 2, 2, NULL));
		ASSERT_EQ(IRQS, ux_irqs(bells->fd, irqs, IRQS));
		for (int slot = 0; slot < IRQS; slot++) {
			bool is = masked % 2 && (slot == 2 || slot == 3);

			EXPECT_EQ(is, irqs[slot].masked);
			EXPECT_EQ(is, is_masked(bells->fd, slot));
			if (access(DEBUG_UXIVE, F_OK))
				continue;
			snprintf(start, sizeof(start), "%ld %d ", ux_context(bells->fd), slot);
			ASSERT_EQ(1, debug_lines("slots", start, line, sizeof(line)));
			EXPECT_EQ(is, !!strstr(line, " masked")) TH_LOG("%s", line);
		}
	}
}

/* The end of all. */

TEST_F(set, a_count_of_zero_frees_all)
{
	struct own_bells *bells = &self->bells;
	int fd = ux_open();

	/* Where there are none, too. */
	EXPECT_EQ(0, ux_free_all(fd));
	close(fd);

	EXPECT_ALL_RING();
	ASSERT_EQ(0, ux_free(bells->fd, slot_offset(4)));
	ASSERT_EQ(0, ux_set_irqs(bells->fd, MASK, 0, 2, NULL));
	ring_slot(bells, 1);
	ASSERT_EQ(0, ux_free_all(bells->fd));
	EXPECT_EQ(0, ux_count(bells->fd));
	EXPECT_EQ(0, total_irqs(bells->fd));
	for (int slot = 0; slot < IRQS; slot++)
		EXPECT_EQ(SIGBUS, touch(bells->pages + slot * STRIDE));
	for (int slot = 0; slot < IRQS; slot++)
		EXPECT_EQ(0, event_read(bells->efd[slot]));
	EXPECT_EQ(0, ux_free_all(bells->fd));

	/* It lives on. */
	ASSERT_EQ(0, ux_alloc_at(bells->fd, 0, IRQS));
	ASSERT_EQ(0, ux_set_irqs(bells->fd, BIND, 0, IRQS, bells->efd));
	EXPECT_ALL_RING();
}

TEST_F(set, of_a_process_that_is_killed_leaves_nothing)
{
	for (int n = 0; n < 5; n++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			struct own_bells bells;

			if (!own_bells_open(&bells, ux_open()) ||
			    ux_set_irqs(bells.fd, MASK, 0, IRQS, NULL))
				_exit(1);
			for (int slot = 0; slot < IRQS; slot++)
				ring_slot(&bells, slot);
			kill(getpid(), SIGKILL);
			_exit(2);
		}
		ASSERT_EQ(-SIGKILL, child_status(pid));
		EXPECT_TRUE(becomes(total_irqs(self->bells.fd), IRQS));
	}
	EXPECT_ALL_RING();
}

/* User drain. */

TEST_F(set, a_program_that_drains_masks_by_itself)
{
	const __u8 bools[] = { 1, 0, 1 };
	__s32 efds[] = { -1, -1, -1 };
	struct uxive_drain user;
	int fd = ux_open();

	ASSERT_EQ(0, uxive_drain_open(&user, fd, self->bells.efd[0], 3));
	ASSERT_EQ(0, ux_fill(fd, 3));
	EXPECT_SET_IRQS(EINVAL, fd, MASK, 0, 3, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, UNMASK, 0, 3, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_MASK, 0, 3, bools);
	EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_UNMASK, 0, 3, bools);
	EXPECT_SET_IRQS(EINVAL, fd, BIND, 0, 3, efds);
	efds[1] = self->bells.efd[1];
	EXPECT_SET_IRQS(EINVAL, fd, BIND, 0, 3, efds);
	EXPECT_EQ(-1, uxive_drain_try_next(&user));

	/* It can be raised, and freed. */
	ASSERT_EQ(0, ux_set_irqs(fd, TRIGGER, 0, 2, NULL));
	for (int slot = 0; slot < 2; slot++) {
		EXPECT_EQ(slot, uxive_drain_wait(&user, WATCHDOG_MS));
		uxive_drain_eoi(&user, slot);
	}
	ASSERT_EQ(0, ux_set_irqs(fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_TRIGGER, 0, 3, bools));
	for (int slot = 0; slot < 3; slot += 2) {
		EXPECT_EQ(slot, uxive_drain_wait(&user, WATCHDOG_MS));
		uxive_drain_eoi(&user, slot);
	}
	EXPECT_EQ(-1, uxive_drain_try_next(&user));
	ASSERT_EQ(0, ux_free_all(fd));
	EXPECT_EQ(0, ux_count(fd));
	uxive_drain_close(&user);
	close(fd);
	event_read(self->bells.efd[0]);
	EXPECT_ALL_RING();
}

/* Accelerators. */

TEST_F(set, messages_of_an_afu_are_masked_and_raised_alike)
{
	struct afu_function functions[AFU_MOST];
	struct afu_context context;
	struct own_bells bells;
	__u64 offset;
	__u32 slot;
	long both;
	int efd;

	if (afu_functions(functions) < 1)
		SKIP(return, "no AFU");
	ASSERT_EQ(0, afu_bind_anew(&functions[0]));
	ASSERT_TRUE(afu_context_open(&context, &functions[0]));
	ASSERT_TRUE(own_bells_open(&bells, context.fd));
	/* The last one is a message only. */
	efd = event_new();
	ASSERT_EQ(0, afu_ims_alloc(bells.fd, efd, &offset, &slot));
	ASSERT_EQ(IRQS, slot);

	for (int n = 0; n < 3; n++) {
		/* One by the AFU, one by a store, one by both, and the message. */
		ASSERT_EQ(0, ux_set_irqs(bells.fd, MASK, 0, 3, NULL));
		ASSERT_EQ(0, ux_set_irqs(bells.fd, MASK, IRQS, 1, NULL));
		EXPECT_TRUE(is_masked(bells.fd, 0));
		EXPECT_FALSE(is_masked(bells.fd, 3));
		EXPECT_TRUE(is_masked(bells.fd, IRQS));
		for (int i = 0; i < 1 + 2 * n; i++) {
			ASSERT_TRUE(afu_raise(context.mmio, 0));
			ring_slot(&bells, 1);
			ASSERT_TRUE(afu_raise(context.mmio, 2));
			ring_slot(&bells, 2);
			ASSERT_TRUE(afu_raise(context.mmio, slot));
		}
		/* One that is not masked comes after them. */
		ASSERT_TRUE(afu_raise(context.mmio, 3));
		EXPECT_EQ(1, event_wait(bells.efd[3]));
		for (int i = 0; i < 3; i++) {
			EXPECT_EQ(0, came(&bells, i))
				TH_LOG("slot %d", i);
		}
		EXPECT_EQ(0, event_read(efd));

		ASSERT_EQ(0, ux_set_irqs(bells.fd, UNMASK, 0, IRQS + 1, NULL));
		EXPECT_EQ(1, event_wait(bells.efd[0]));
		EXPECT_EQ(1, event_wait(bells.efd[1]));
		/* Of two sources, each of which may have its event. */
		both = event_wait(bells.efd[2]);
		EXPECT_EQ(1, event_wait(efd));
		EXPECT_TRUE(fence(&bells));
		both += event_read(bells.efd[2]);
		EXPECT_TRUE(both == 1 || both == 2) TH_LOG("%ld", both);
		for (int i = 0; i < 2; i++) {
			EXPECT_EQ(0, came(&bells, i))
				TH_LOG("slot %d", i);
		}
		EXPECT_EQ(0, event_read(efd));
		for (__u32 i = 0; i < IRQS; i++) {
			ASSERT_TRUE(afu_raise(context.mmio, i));
			EXPECT_EQ(1, event_wait(bells.efd[i])) TH_LOG("slot %u", i);
		}
		ASSERT_TRUE(afu_raise(context.mmio, slot));
		EXPECT_EQ(1, event_wait(efd));
		EXPECT_EQ(-1, first_mute(bells.fd, 0, bells.efd, IRQS));
	}

	/* Raised by the program: the message too. */
	ASSERT_EQ(0, ux_set_irqs(bells.fd, TRIGGER, 0, IRQS + 1, NULL));
	for (int i = 0; i < IRQS; i++) {
		EXPECT_EQ(1, event_wait(bells.efd[i]))
			TH_LOG("slot %d", i);
	}
	EXPECT_EQ(1, event_wait(efd));
	/* Freed while masked, with a message to come. */
	ASSERT_EQ(0, ux_set_irqs(bells.fd, MASK, 0, IRQS + 1, NULL));
	ASSERT_TRUE(afu_raise(context.mmio, 0));
	ASSERT_TRUE(afu_raise(context.mmio, slot));
	ASSERT_EQ(0, ux_free(bells.fd, offset));
	ASSERT_EQ(0, ux_free(bells.fd, IRQ_BASE));
	ASSERT_EQ(0, ux_set_irqs(bells.fd, UNMASK, 1, FENCE, NULL));
	EXPECT_EQ(0, came(&bells, 0));
	EXPECT_EQ(0, event_read(efd));
	munmap(context.mmio, context.length);
	own_bells_close(&bells);
	close(efd);
	EXPECT_TRUE(becomes(all_irqs(), IRQS));
	EXPECT_EQ(0, afu_unbind(&functions[0]));
}

/* Races. */

/* A race may go on for this many times its planned length to hit its window. */
#define MOST_TIMES 100

/*
 * Rings in turn, each time after the last event has reached its eventfd, and counts
 * faults. Goes on until enough rings came while they were masked: on a host that is
 * busy with others the two seldom meet.
 */
struct observer {
	pthread_t thread;
	const struct own_bells *bells;
	int slots;
	long rings;
	/* Odd while they are masked. */
	atomic_long turn;
	atomic_long rang;
	atomic_bool done;
	long masked, early, lost, doubled;
};

static void *observer_run(void *arg)
{
	struct observer *observer = arg;

	pin_to_cpu(1);
	for (long n = 0; !observer->lost; n++) {
		int slot = n % observer->slots;
		long turn = atomic_load(&observer->turn), count;
		bool masked;

		ring_slot(observer->bells, slot);
		masked = turn % 2 && atomic_load(&observer->turn) == turn;
		observer->masked += masked;
		atomic_store(&observer->rang, n + 1);
		count = event_wait(observer->bells->efd[slot]);
		/* It may not come as long as they are. */
		observer->early += masked && atomic_load(&observer->turn) == turn;
		observer->lost += count < 1;
		observer->doubled += count > 1;
		if (n + 1 >= observer->rings && observer->masked > observer->rings / 100)
			break;
		if (n + 1 >= MOST_TIMES * observer->rings)
			break;
		progress();
	}
	atomic_store(&observer->done, true);
	return NULL;
}

TEST_F(set, no_ring_is_lost_to_who_masks_all_the_time)
{
	const int slots[] = { 1, FENCE };

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		struct observer observer = {
			.bells = &self->bells, .slots = slots[i],
			.rings = rings_to_send() / 2 / ARRAY_SIZE(slots),
		};
		unsigned int seed = 1;
		long masks = 0;

		ASSERT_EQ(0, pthread_create(&observer.thread, NULL, observer_run, &observer));
		while (!atomic_load(&observer.done)) {
			long rang = atomic_load(&observer.rang);

			ASSERT_EQ(0, ux_set_irqs(self->bells.fd, MASK, 0, slots[i], NULL));
			atomic_fetch_add(&observer.turn, 1);
			/* Until there was a ring, or for a while if that came before. */
			for (int spin = rand_r(&seed) % 2000; spin; spin--)
				if (atomic_load(&observer.rang) != rang)
					break;
			atomic_fetch_add(&observer.turn, 1);
			ASSERT_EQ(0, ux_set_irqs(self->bells.fd, UNMASK, 0, slots[i], NULL));
			masks++;
		}
		pthread_join(observer.thread, NULL);
		TH_LOG("%ld rings to %d slots, %ld of them while masked, %ld times masked",
		       atomic_load(&observer.rang), slots[i], observer.masked, masks);
		EXPECT_EQ(0, observer.lost) TH_LOG("after %ld", atomic_load(&observer.rang));
		EXPECT_EQ(0, observer.doubled);
		EXPECT_EQ(0, observer.early);
		EXPECT_LT(observer.rings / 100, observer.masked);
		EXPECT_GT(atomic_load(&observer.rang), observer.masked);
	}
	EXPECT_ALL_RING();
}

static void ring_first(void *arg)
{
	ring_slot(arg, 0);
}

TEST_F(set, an_event_on_its_way_comes_before_the_mask_or_after_it)
{
	struct rival rival = { .act = ring_first, .arg = &self->bells };
	int rounds = 400, before = 0, after = 0;
	/* The mask leads. */
	struct aim aim = {};

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, rival_start(&rival));
	for (int n = 1; n <= rounds; n++) {
		long first, then;

		rival_go(&rival, n, &aim);
		ASSERT_EQ(0, mask(&self->bells, 0));
		first = event_read(self->bells.efd[0]);
		rival_wait(&rival, n);
		/* When the call has returned nothing comes. */
		then = came(&self->bells, 0);
		ASSERT_EQ(0, then) TH_LOG("round %d", n);
		ASSERT_EQ(0, unmask(&self->bells, 0));
		ASSERT_EQ(1, first ? first : event_wait(self->bells.efd[0])) TH_LOG("round %d", n);
		ASSERT_EQ(0, came(&self->bells, 0)) TH_LOG("round %d", n);
		before += first;
		after += !first;
		aim_after(&aim, !first);
		progress();
		rounds += more_rounds(rounds, n == rounds && !(before && after));
	}
	rival_end(&rival);
	TH_LOG("%d came before the mask, %d after it", before, after);
	EXPECT_EQ(rounds, before + after);
	EXPECT_LT(0, before);
	EXPECT_LT(0, after);
	EXPECT_ALL_RING();
}

struct masker {
	pthread_t thread;
	int fd;
	atomic_bool stop;
	long done, refused, errors;
};

static void *masker_run(void *arg)
{
	struct masker *masker = arg;
	__s32 efds[2] = { event_new(), event_new() };

	pin_to_cpu(1);
	for (long n = 0; !atomic_load(&masker->stop); n++) {
		const __u32 flags[] = { MASK, UNMASK, TRIGGER, BIND };
		__u32 how = flags[n % 4];
		int ret = ux_set_irqs(masker->fd, how, 0, 2, how == BIND ? efds : NULL);

		masker->done += !ret;
		masker->refused += ret == -EINVAL;
		masker->errors += ret && ret != -EINVAL;
	}
	close(efds[0]);
	close(efds[1]);
	return NULL;
}

TEST_F(set, of_what_is_freed_meanwhile_touches_nothing_of_the_next)
{
	struct masker masker = { .fd = self->bells.fd };
	struct own_bells *bells = &self->bells;

	ASSERT_EQ(0, pthread_create(&masker.thread, NULL, masker_run, &masker));
	for (int n = 0; n < 1000; n++) {
		ASSERT_EQ(0, n % 2 ? ux_free_many(bells->fd, 0, 2) :
				     ux_free(bells->fd, slot_offset(n / 2 % 2)));
		if (n % 2 == 0)
			ASSERT_EQ(0, ux_free(bells->fd, slot_offset(1 - n / 2 % 2)));
		ASSERT_EQ(0, ux_alloc_at(bells->fd, 0, 2));
		ring_slot(bells, 0);
		ASSERT_TRUE(fence(bells)) TH_LOG("round %d", n);
		progress();
	}
	atomic_store(&masker.stop, true);
	pthread_join(masker.thread, NULL);
	TH_LOG("%ld calls were in time, %ld found nothing", masker.done, masker.refused);
	EXPECT_LT(0, masker.done);
	EXPECT_LT(0, masker.refused);
	EXPECT_EQ(0, masker.errors);
	ASSERT_EQ(0, ux_set_irqs(bells->fd, UNMASK, 0, IRQS, NULL));
	ASSERT_EQ(0, ux_set_irqs(bells->fd, BIND, 0, IRQS, bells->efd));
	/* Events that were held back may still come. */
	ASSERT_TRUE(fence(bells));
	event_read(bells->efd[0]);
	event_read(bells->efd[1]);
	EXPECT_ALL_RING();
}

TEST_HARNESS_MAIN
