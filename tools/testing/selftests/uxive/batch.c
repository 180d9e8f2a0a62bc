// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: one call allocates or frees many interrupts as single calls do, all of
 * them or none: in the slots and from the chip that the program wants, bound as
 * they come, up to the limits, and also in races.
 *
 * The suite `faults` shows that each step of the calls can fail.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_fixture.h"

#define CPUS		64
#define NODES		64
/* How many lie around a page that is touched, and are mapped with it. */
#define AROUND		64
/* Those of the first AFU that have a message. */
#define MESSAGES	63

FIXTURE(batch) {
	int fd, efd;
	struct use before;
	struct limits limits;
};

FIXTURE_SETUP(batch)
{
	catch_touches();
	/* Contexts of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(all_irqs(), 0));
	ASSERT_TRUE(limits_save(&self->limits));
	self->before = use_now();
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	self->efd = event_new();
	ASSERT_LE(0, self->efd);
}

FIXTURE_TEARDOWN(batch)
{
	close(self->fd);
	close(self->efd);
	EXPECT_TRUE(limits_restore(&self->limits));
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TABLES_EMPTY();
}

/* A count of 1 is a call like OCXL_IOCTL_IRQ_ALLOC, the last is all that a context can have. */
TEST_F(batch, of_any_size_up_to_the_limit_come_and_go_in_one_call)
{
	static struct ux_irq irqs[SLOTS];
	const __u32 counts[] = { 1, 2, 3, 63, 64, 65, 1000, SLOTS - 1, SLOTS };
	__u32 start;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		__u32 count = counts[i];

		for (int round = 0; round < 2; round++) {
			ASSERT_EQ(0, ux_alloc_many(self->fd, count, NULL, &start))
				TH_LOG("%u", count);
			EXPECT_EQ(0U, start);
			ASSERT_EQ((int)count, ux_irqs(self->fd, irqs, SLOTS));
			for (__u32 slot = 0; slot < count; slot++)
				ASSERT_EQ(slot_offset(slot), irqs[slot].offset);
			EXPECT_EQ(count, irqs_of(self->fd));
			EXPECT_EQ(count, total_irqs(self->fd));
			ASSERT_EQ(0, ux_free_many(self->fd, 0, count));
			EXPECT_EQ(0, ux_count(self->fd));
			EXPECT_EQ(0, total_irqs(self->fd));
			progress();
		}
	}
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
		     ux_alloc_many(self->fd, SLOTS + 1, NULL, &start));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
		     ux_alloc_many(self->fd, 1U << 31, NULL, &start));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
		     ux_alloc_many(self->fd, ~0U, NULL, &start));
	EXPECT_EQ(0, total_irqs(self->fd));
}

TEST_F(batch, each_of_a_full_one_rings)
{
	static struct ux_irq irqs[SLOTS];
	__s32 *efds = malloc(SLOTS * sizeof(*efds)), by[128];
	__u32 start;
	void *pages;

	/* Each slot has a pair of eventfds in common with no other. */
	for (int i = 0; i < 128; i++)
		by[i] = event_new();
	pages = ux_map(self->fd, IRQ_BASE, WINDOW);
	ASSERT_NE(MAP_FAILED, pages);
	for (int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < SLOTS; i++)
			efds[i] = by[round ? i / 128 : i % 128];
		ASSERT_EQ(0, ux_alloc_many(self->fd, SLOTS, efds, &start));
		ASSERT_EQ((int)SLOTS, ux_irqs(self->fd, irqs, SLOTS));
		/* No source is in two slots. */
		qsort(irqs, SLOTS, sizeof(*irqs), lisn_order);
		for (unsigned int i = 1; i < SLOTS; i++)
			ASSERT_NE(irqs[i - 1].lisn, irqs[i].lisn);
		for (unsigned int i = 0; i < SLOTS; i++) {
			ASSERT_EQ(0, touch(pages + i * STRIDE))
				TH_LOG("slot %u", i);
			progress();
		}
		for (int i = 0; i < 128; i++) {
			long count = 0;

			while (count < 128) {
				long more = event_wait(by[i]);

				ASSERT_LT(0, more) TH_LOG("eventfd %d after %ld", i, count);
				count += more;
				progress();
			}
			EXPECT_EQ(128, count) TH_LOG("eventfd %d", i);
		}
		ASSERT_EQ(0, ux_free_many(self->fd, 0, SLOTS));
		EXPECT_EQ(SIGBUS, touch(pages));
		EXPECT_EQ(SIGBUS, touch(pages + WINDOW - STRIDE));
	}
	munmap(pages, WINDOW);
	for (int i = 0; i < 128; i++)
		close(by[i]);
	free(efds);
}

TEST_F(batch, lies_in_the_lowest_range_that_is_free)
{
	__u32 start;

	ASSERT_EQ(0, ux_alloc_many(self->fd, 20, NULL, &start));
	/* Holes of 1, 2 and 4 at 2, 5 and 10. */
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(2)));
	ASSERT_EQ(0, ux_free_many(self->fd, 5, 2));
	ASSERT_EQ(0, ux_free_many(self->fd, 10, 4));

	ASSERT_EQ(0, ux_alloc_many(self->fd, 3, NULL, &start));
	EXPECT_EQ(10U, start);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 2, NULL, &start));
	EXPECT_EQ(5U, start);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 2, NULL, &start));
	EXPECT_EQ(20U, start);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 1, NULL, &start));
	EXPECT_EQ(2U, start);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 1, NULL, &start));
	EXPECT_EQ(13U, start);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 1, NULL, &start));
	EXPECT_EQ(22U, start);
	/* Single calls go on in the same table. */
	ASSERT_EQ(0, ux_free_many(self->fd, 7, 3));
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 2, NULL, &start));
	EXPECT_EQ(8U, start);
	EXPECT_EQ(23, ux_count(self->fd));
	ASSERT_EQ(0, ux_free_many(self->fd, 0, 23));
}

TEST_F(batch, without_a_range_that_is_free_is_enospc)
{
	__u32 start;

	ASSERT_EQ(0, ux_alloc_many(self->fd, SLOTS, NULL, &start));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC, ux_alloc_many(self->fd, 1, NULL, &start));
	/* Every second one: half of all are free, and no two together. */
	for (unsigned int i = 0; i < SLOTS; i += 2) {
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(i)));
		progress();
	}
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC, ux_alloc_many(self->fd, 2, NULL, &start));
	EXPECT_EQ(SLOTS / 2, irqs_of(self->fd));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 1, NULL, &start));
	EXPECT_EQ(0U, start);
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(SLOTS - 1)));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 2, NULL, &start));
	EXPECT_EQ(SLOTS - 2, start);
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC, ux_alloc_many(self->fd, 2, NULL, &start));
	EXPECT_EQ(SLOTS / 2 + 2, irqs_of(self->fd));
}

TEST_F(batch, begins_where_it_is_wanted_or_is_ebusy)
{
	const struct {
		__u32 start, count;
		int ret;
	} cases[] = {
		{ 100, 10, 0 },
		{ 100, 10, -EBUSY },
		{ 99, 2, -EBUSY },
		{ 109, 1, -EBUSY },
		{ 109, 100, -EBUSY },
		{ 90, 11, -EBUSY },
		{ 0, SLOTS, -EBUSY },
		{ 90, 10, 0 },
		{ 110, 1, 0 },
		{ 0, 1, 0 },
		{ SLOTS - 1, 1, 0 },
		{ SLOTS - 1, 1, -EBUSY },
		{ SLOTS - 65, 64, 0 },
		{ SLOTS - 66, 2, -EBUSY },
		/* Where there can be none, and more than there can be anywhere. */
		{ SLOTS, 1, -EINVAL },
		{ SLOTS - 1, 2, -EINVAL },
		{ 1, SLOTS, -EINVAL },
		{ ~0U, 1, -EINVAL },
		{ ~0U, 2, -EINVAL },
		{ 1U << 31, 1, -EINVAL },
		{ 1, ~0U, -EINVAL },
		{ 0, SLOTS + 1, -EINVAL },
		{ 1U << 31, 1U << 31, -EINVAL },
	};
	long irqs = 0;
	__u32 start;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int ret = ux_alloc_at(self->fd, cases[i].start, cases[i].count);

		EXPECT_EQ(cases[i].ret, ret) TH_LOG("%u at %u", cases[i].count, cases[i].start);
		irqs += ret ? 0 : cases[i].count;
		EXPECT_EQ(irqs, irqs_of(self->fd)) TH_LOG("case %zu", i);
	}
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EBUSY, ux_alloc_at(self->fd, 0, 1));
	/* The same slots are free as before: the next get 1 to 89. */
	ASSERT_EQ(0, ux_alloc_many(self->fd, 89, NULL, &start));
	EXPECT_EQ(1U, start);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 1, NULL, &start));
	EXPECT_EQ(111U, start);
	ASSERT_EQ(0, ux_free_many(self->fd, 0, 112));
	/* A refused first call has not chosen who drains the queue. */
	close(self->fd);
	self->fd = ux_open();
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL, ux_alloc_at(self->fd, SLOTS, 1));
	EXPECT_EQ(0, ux_user_drain(self->fd, -1));
}

/* The CPUs of the machine: the chip of each, or -1, and the node, 0 for a kernel without nodes. */
static int read_cpus(int *chips, int *nodes)
{
	int count = 0;

	for (int cpu = 0; cpu < CPUS; cpu++) {
		chips[cpu] = chip_of_cpu(cpu);
		count += chips[cpu] >= 0;
		nodes[cpu] = access("/sys/devices/system/node", F_OK) ? 0 : -1;
		for (int node = 0; chips[cpu] >= 0 && node < NODES; node++)
			if (!access(path_of(CPU_SYSFS "cpu%d/node%d", cpu, node), F_OK))
				nodes[cpu] = node;
	}
	return count;
}

/*
 * The chip of all interrupts of a context, -1 if they are of several. LISNs have its
 * number in their upper bits.
 */
static long chip_of_all(int fd)
{
	struct ux_irq irqs[AROUND];
	int count = ux_irqs(fd, irqs, AROUND);
	long chip = count > 0 ? (long)(irqs[0].lisn >> 20) : -1;

	for (int i = 0; i < count && i < AROUND; i++)
		if ((long)(irqs[i].lisn >> 20) != chip)
			return -1;
	return chip;
}

/* The chip that a single call takes from for the chip of the number @chip. */
static long chip_of_single(long chip)
{
	int fd = ux_open();
	__u64 offset;
	long of = ux_alloc_on(fd, chip, &offset) ? -1 : chip_of_all(fd);

	close(fd);
	return of;
}

TEST_F(batch, comes_from_the_chip_or_the_node_that_is_asked_for)
{
	int chips[CPUS], nodes[CPUS], others = 0;
	struct uxive_irq_alloc single;
	__u32 start;

	ASSERT_LT(0, read_cpus(chips, nodes));
	for (int cpu = 0; cpu < CPUS; cpu++) {
		long wanted;

		if (chips[cpu] < 0)
			continue;
		ASSERT_LE(0, nodes[cpu])
			TH_LOG("CPU %d is of no node", cpu);
		wanted = chip_of_single(chips[cpu]);
		ASSERT_LE(0, wanted);
		others += chips[cpu] != chips[0];
		/* Wherever the caller runs. */
		for (int from = 0; from < CPUS; from++) {
			if (chips[from] < 0)
				continue;
			pin_to_cpu(from);
			ASSERT_EQ(0, ux_alloc_many_of(self->fd, UXIVE_ALLOC_CHIP, chips[cpu],
						      AROUND, NULL, &start));
			EXPECT_EQ(wanted, chip_of_all(self->fd)) TH_LOG("chip %d", chips[cpu]);
			ASSERT_EQ(0, ux_free_many(self->fd, start, AROUND));
			ASSERT_EQ(0, ux_alloc_many_of(self->fd, UXIVE_ALLOC_NODE, nodes[cpu],
						      AROUND, NULL, &start));
			EXPECT_EQ(wanted, chip_of_all(self->fd)) TH_LOG("node %d", nodes[cpu]);
			ASSERT_EQ(0, ux_free_many(self->fd, start, AROUND));
			single = (struct uxive_irq_alloc){
				.size = sizeof(single), .flags = UXIVE_ALLOC_NODE,
				.chip = nodes[cpu],
			};
			ASSERT_EQ(0, ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC, &single));
			EXPECT_EQ(wanted, chip_of_all(self->fd)) TH_LOG("node %d", nodes[cpu]);
			ASSERT_EQ(0, ux_free(self->fd, single.offset));
			start = 7;
			ASSERT_EQ(0, ux_alloc_many_of(self->fd,
						      UXIVE_ALLOC_NODE | UXIVE_ALLOC_AT,
						      nodes[cpu], 3, NULL, &start));
			EXPECT_EQ(7U, start);
			EXPECT_EQ(wanted, chip_of_all(self->fd)) TH_LOG("node %d", nodes[cpu]);
			ASSERT_EQ(0, ux_free_many(self->fd, start, 3));
		}
		/* Unless it is asked for, the caller's own is preferred. */
		pin_to_cpu(cpu);
		ASSERT_EQ(0, ux_alloc_many(self->fd, AROUND, NULL, &start));
		EXPECT_EQ(wanted, chip_of_all(self->fd)) TH_LOG("CPU %d", cpu);
		ASSERT_EQ(0, ux_free_many(self->fd, start, AROUND));
	}
	TH_LOG("%d CPUs are on another chip than the first", others);
}

TEST_F(batch, from_no_chip_or_node_allocates_nothing)
{
	const __u32 flags[] = { UXIVE_ALLOC_CHIP, UXIVE_ALLOC_NODE };
	int chips[CPUS], nodes[CPUS], last = 0;
	__u32 start = 0;

	ASSERT_LT(0, read_cpus(chips, nodes));
	for (int cpu = 0; cpu < CPUS; cpu++) {
		last = chips[cpu] > last ? chips[cpu] : last;
		last = nodes[cpu] > last ? nodes[cpu] : last;
	}

	const __u32 absent[] = { last + 1, last + 256, 1U << 31, INT32_MAX, ~0U };

	for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
		for (size_t by = 0; by < ARRAY_SIZE(flags); by++) {
			struct uxive_irq_alloc single = {
				.size = sizeof(single), .flags = flags[by], .chip = absent[i],
			};

			EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENODEV,
				     ux_alloc_many_of(self->fd, flags[by], absent[i], 3, NULL,
						      &start))
				TH_LOG("%u", absent[i]);
			EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENODEV,
				     ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC, &single))
				TH_LOG("%u", absent[i]);
		}
	}
	EXPECT_EQ(0, irqs_of(self->fd));
	EXPECT_EQ(0, total_irqs(self->fd));
	/* The refused calls have not chosen who drains the queue. */
	EXPECT_EQ(0, ux_user_drain(self->fd, -1));
}

TEST_F(batch, that_is_malformed_changes_nothing)
{
	const struct uxive_irq_alloc_many allocs[] = {
		{ .count = 0 },
		{ .count = 0, .flags = UXIVE_ALLOC_AT, .start = 1 },
		{ .count = 2, .start = 1 },
		{ .count = 2, .reserved = 1 },
		{ .count = 2, .reserved = 1U << 31 },
		{ .count = 2, .chip = 1 },
		{ .count = 2, .chip = 1, .flags = UXIVE_ALLOC_AT },
		{ .count = 2, .flags = UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE },
		{ .count = 2, .flags = 8 },
		{ .count = SLOTS, .start = 1, .flags = UXIVE_ALLOC_AT },
		{ .count = ~0U, .flags = UXIVE_ALLOC_AT },
		{ .count = ~0U, .start = ~0U, .flags = UXIVE_ALLOC_AT },
		{ .count = 2, .flags = 1U << 31 },
	};
	const struct uxive_irq_free_many frees[] = {
		{ .start = 0, .count = 0 },
		{ .start = 2, .count = 0 },
		{ .start = 0, .count = 3, .flags = 1 },
		{ .start = 0, .count = 3, .flags = 1U << 31 },
	};
	int before;

	ASSERT_EQ(0, ux_fill(self->fd, 3));
	before = events_in_use();
	for (size_t i = 0; i < ARRAY_SIZE(allocs); i++) {
		struct uxive_irq_alloc_many arg = allocs[i];

		arg.size = sizeof(arg);
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL,
			     ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg))
			TH_LOG("case %zu", i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(frees); i++) {
		struct uxive_irq_free_many arg = frees[i];

		arg.size = sizeof(arg);
		EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_MANY, EINVAL,
			     ux_ioctl(self->fd, UXIVE_IOC_IRQ_FREE_MANY, &arg))
			TH_LOG("case %zu", i);
	}
	EXPECT_EQ(3, ux_count(self->fd));
	EXPECT_EQ(3, total_irqs(self->fd));
	EXPECT_EQ(before, events_in_use());
}

TEST_F(batch, is_bound_as_it_comes)
{
	__s32 efds[100];
	__u32 start;

	events_new(efds, 100);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 100, efds, &start));
	EXPECT_EQ(-1, first_mute(self->fd, start, efds, 100));
	/* The program's descriptors are no longer the driver's concern. */
	EXPECT_EQ(self->before.events + 100, events_in_use() - 1);
	ASSERT_EQ(0, ux_free_many(self->fd, start, 100));
	events_close(efds, 100);
	EXPECT_EQ(self->before.events, events_in_use() - 1);
}

TEST_F(batch, has_no_eventfd_where_there_is_minus_one)
{
	__s32 efds[8] = { -1, event_new(), -1, -1, event_new(), -1, -1, self->efd };
	__u32 start;
	void *pages;

	/* One eventfd for two interrupts. */
	efds[5] = efds[4];
	ASSERT_EQ(0, ux_alloc_many(self->fd, 8, efds, &start));
	pages = ux_map(self->fd, slot_offset(start), 8 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(0, touch(pages + i * STRIDE));
		if (efds[i] >= 0) {
			EXPECT_EQ(1, event_wait(efds[i]))
				TH_LOG("slot %d", i);
		}
	}
	/* Of the other slots nothing is left to come: the last one's event came last. */
	EXPECT_EQ(0, event_read(efds[1]));
	EXPECT_EQ(0, event_read(efds[4]));
	EXPECT_EQ(0, event_read(efds[7]));
	munmap(pages, 8 * STRIDE);
	ASSERT_EQ(0, ux_free_many(self->fd, start, 8));
	close(efds[1]);
	close(efds[4]);
}

TEST_F(batch, whose_eventfds_lie_in_no_memory_allocates_nothing)
{
	/* How many the call is told of, and how many lie before the hole. */
	const struct {
		__u32 count, there;
	} cases[] = {
		{ 1, 0 }, { 8, 0 }, { 8, 1 }, { 8, 7 }, { 64, 63 }, { 1000, 999 },
		{ SLOTS, 0 }, { SLOTS, 1 }, { SLOTS, SLOTS / 2 }, { SLOTS, SLOTS - 1 },
	};
	__u32 start;
	__s32 *efds;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		efds = before_a_hole(cases[i].there * sizeof(*efds));
		for (__u32 n = 0; n < cases[i].there; n++)
			efds[n] = self->efd;
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EFAULT,
			     ux_alloc_many(self->fd, cases[i].count, efds, &start))
			TH_LOG("%u of %u", cases[i].there, cases[i].count);
		progress();
		EXPECT_EQ(0, total_irqs(self->fd));
		EXPECT_EQ(0, irqs_of(self->fd));
	}
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EFAULT,
		     ux_alloc_many(self->fd, 8, (__s32 *)(1UL << 62), &start));
	EXPECT_EQ(0, irqs_of(self->fd));

	/* Good are: one that ends with the last byte of a page, at an odd address, in two pages. */
	efds = before_a_hole(8 * sizeof(*efds));
	memset(efds, 0xff, 8 * sizeof(*efds));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 8, efds, &start));
	ASSERT_EQ(0, ux_free_many(self->fd, start, 8));
	efds = before_a_hole(8 * sizeof(*efds) + 1);
	memset(efds, 0xff, 8 * sizeof(*efds) + 1);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 8, efds, &start));
	ASSERT_EQ(0, ux_free_many(self->fd, start, 8));
	efds = before_a_hole(2 * sysconf(_SC_PAGESIZE)) + sysconf(_SC_PAGESIZE) - 18;
	memset(efds, 0xff, 8 * sizeof(*efds));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 8, efds, &start));
	ASSERT_EQ(0, ux_free_many(self->fd, start, 8));
}

TEST_F(batch, with_one_bad_eventfd_allocates_and_holds_nothing)
{
	__s32 efds[65];
	int held, pipes[2], closed;
	__u32 start;

	events_new(efds, 65);
	held = events_in_use();
	ASSERT_EQ(0, pipe(pipes));
	closed = dup(efds[0]);
	close(closed);

	const struct {
		int fd, ret;
	} bad[] = {
		{ closed, -EBADF }, { -2, -EBADF }, { INT32_MIN, -EBADF }, { INT32_MAX, -EBADF },
		{ pipes[0], -EINVAL }, { self->fd, -EINVAL },
	};
	const int places[] = { 0, 1, 31, 63, 64 };

	/* In a new context, and in one that has some. */
	for (int some = 0; some < 2; some++) {
		ASSERT_EQ(0, some ? ux_fill(self->fd, 3) : 0);
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			for (size_t at = 0; at < ARRAY_SIZE(places); at++) {
				__s32 good = efds[places[at]];

				efds[places[at]] = bad[i].fd;
				EXPECT_EQ(bad[i].ret,
					  ux_alloc_many(self->fd, 65, efds, &start))
					TH_LOG("%d at %d", bad[i].fd, places[at]);
				efds[places[at]] = good;
				EXPECT_EQ(3 * some, irqs_of(self->fd));
				EXPECT_EQ(3 * some, total_irqs(self->fd));
			}
		}
		EXPECT_EQ(held, events_in_use());
	}
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EBADF, ux_alloc_many(self->fd, 1, &closed, &start));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL,
		     ux_alloc_many(self->fd, 1, &pipes[1], &start));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 65, efds, &start));
	EXPECT_EQ(3U, start);
	EXPECT_EQ(-1, first_mute(self->fd, start, efds, 65));
	events_close(efds, 65);
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(batch, that_fails_can_be_tried_again_with_the_same_argument)
{
	struct uxive_irq_alloc_many arg = { .size = sizeof(arg), .count = 3 }, before = arg;

	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 3));
	EXPECT_EQ(-EDQUOT, ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg));
	EXPECT_EQ(0, memcmp(&before, &arg, sizeof(arg)));
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 4));
	EXPECT_EQ(0, ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg));
	EXPECT_EQ(1, arg.start);
	EXPECT_EQ(4, ux_count(self->fd));
}

/* Each limit comes in the middle of a batch, and one less fits. */
TEST_F(batch, that_a_limit_comes_in_the_middle_of_allocates_nothing)
{
	const struct {
		const char *name;
		int error;
	} cases[] = {
		{ "max_irqs_per_context", -ENOSPC },
		{ "max_irqs_per_user", -EDQUOT },
		{ "max_irqs", -ENFILE },
	};
	struct uxive_info info;
	__u32 start;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		long before = limit_get(cases[i].name);
		int fd = ux_open();

		ASSERT_EQ(0, limit_set(cases[i].name, 100));
		EXPECT_EQ(cases[i].error, ux_alloc_many(fd, 101, NULL, &start))
			TH_LOG("%s", cases[i].name);
		ASSERT_EQ(0, ux_info(fd, &info));
		EXPECT_EQ(0, info.irqs);
		EXPECT_EQ(0, info.irqs_user);
		EXPECT_EQ(0, info.irqs_total);
		EXPECT_EQ(0, info.queues_user);
		ASSERT_EQ(0, ux_alloc_many(fd, 60, NULL, &start));
		EXPECT_EQ(cases[i].error, ux_alloc_many(fd, 41, NULL, &start));
		EXPECT_EQ(cases[i].error, ux_alloc_many(fd, SLOTS - 60, NULL, &start));
		EXPECT_EQ(60, irqs_of(fd));
		EXPECT_EQ(60, limit_get("irqs"));
		ASSERT_EQ(0, ux_alloc_many(fd, 40, NULL, &start));
		EXPECT_EQ(60U, start);
		EXPECT_EQ(cases[i].error, ux_alloc_many(fd, 1, NULL, &start));
		ASSERT_EQ(0, ux_free_many(fd, 10, 10));
		EXPECT_EQ(cases[i].error, ux_alloc_many(fd, 11, NULL, &start));
		ASSERT_EQ(0, ux_alloc_many(fd, 10, NULL, &start));
		EXPECT_EQ(10U, start);
		ASSERT_EQ(0, limit_set(cases[i].name, before));
		close(fd);
		ASSERT_TRUE(becomes(all_irqs(), 0));
	}
	/* For make lint, which looks for each by name. */
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 2));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EDQUOT, ux_alloc_many(self->fd, 3, NULL, &start));
	ASSERT_EQ(0, limit_set("max_irqs", 1));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENFILE, ux_alloc_many(self->fd, 2, NULL, &start));
	ASSERT_EQ(0, limit_set("max_queues", 0));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENFILE, ux_alloc_many(self->fd, 1, NULL, &start));
	EXPECT_EQ(0, irqs_of(self->fd));
	EXPECT_EQ(0, limit_get("irqs"));
	EXPECT_EQ(0, limit_get("queues"));
}

/* How many slots that came in one call a touch maps: those of a piece. */
#define PIECE 256

TEST_F(batch, is_populated_piece_by_piece)
{
	const struct {
		__u32 start, count;
	} cases[] = {
		{ 0, 64 }, { 64, 64 }, { 128, 1 }, { 192, 17 },
		/* Beyond those that a page has around it. */
		{ 10, 64 }, { 300, 1000 }, { 0, fewer_with_lockdep(SLOTS - 1, 2000) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		__u32 start = cases[i].start, count = cases[i].count;
		long pieces = (start + count - 1) / PIECE - start / PIECE + 1;

		/* Whichever of them it is. */
		for (__u32 first = 0; first < count; first += count > 1 ? count - 1 : 1) {
			void *pages = ux_map(self->fd, IRQ_BASE, WINDOW);
			long before;

			ASSERT_NE(MAP_FAILED, pages);
			ASSERT_EQ(0, ux_alloc_at(self->fd, start, count));
			for (__u32 slot = 0; slot < count; slot++) {
				ASSERT_EQ(0, ux_bind(self->fd, slot_offset(start + slot),
						     self->efd));
				progress();
			}
			/* Memory that only the first call needs. */
			touch(pages + (SLOTS - 1) * STRIDE);
			faults();
			before = faults();
			ring(pages + (start + first) * STRIDE);
			EXPECT_EQ(before + 1, faults()) TH_LOG("case %zu", i);
			for (__u32 slot = 0; slot < count; slot++)
				ring(pages + (start + slot) * STRIDE);
			EXPECT_EQ(before + pieces, faults()) TH_LOG("case %zu", i);
			ASSERT_EQ(0, ux_free_many(self->fd, start, count));
			for (__u32 slot = 0; slot < count; slot++)
				ASSERT_EQ(SIGBUS, touch(pages + (start + slot) * STRIDE));
			progress();
			munmap(pages, WINDOW);
			event_read(self->efd);
		}
	}
}

TEST_F(batch, is_freed_whole_or_not_at_all)
{
	const struct {
		__u32 start, count;
	} refused[] = {
		{ 0, 65 }, { 63, 2 }, { 64, 1 }, { 20, 1 }, { 20, 2 }, { 0, 64 }, { 19, 2 },
		{ 21, 64 }, { SLOTS - 1, 1 }, { SLOTS, 1 }, { SLOTS - 1, 2 }, { ~0U, 1 },
		{ ~0U, 2 }, { 1, ~0U }, { 0, ~0U }, { 1U << 31, 1U << 31 }, { 65536, 1 },
	};
	__s32 efds[64];
	__u32 start;
	void *pages;

	events_new(efds, 64);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 64, efds, &start));
	ASSERT_EQ(-1, first_mute(self->fd, 0, efds, 64));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(20)));
	pages = ux_map(self->fd, IRQ_BASE, 64 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int i = 0; i < 64; i++)
		ASSERT_EQ(i == 20 ? SIGBUS : 0, touch(pages + i * STRIDE));
	for (int i = 0; i < 64; i++)
		ASSERT_EQ(1, i == 20 ? 1 : event_wait(efds[i]));

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		long before = faults();

		EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_MANY, EINVAL,
			     ux_free_many(self->fd, refused[i].start, refused[i].count))
			TH_LOG("%u at %u", refused[i].count, refused[i].start);
		ASSERT_EQ(63, irqs_of(self->fd));
		/* All of them ring as before, and not one page was taken away. */
		before = faults();
		for (int slot = 0; slot < 64; slot++)
			if (slot != 20)
				ring(pages + slot * STRIDE);
		EXPECT_EQ(before, faults());
		for (int slot = 0; slot < 64; slot++)
			ASSERT_EQ(1, slot == 20 ? 1 : event_wait(efds[slot]));
	}

	ASSERT_EQ(0, ux_free_many(self->fd, 21, 43));
	ASSERT_EQ(0, ux_free_many(self->fd, 5, 10));
	for (int slot = 0; slot < 64; slot++) {
		bool left = slot < 5 || (slot >= 15 && slot < 20);

		EXPECT_EQ(left ? 0 : SIGBUS, touch(pages + slot * STRIDE)) TH_LOG("%d", slot);
		EXPECT_EQ(left ? 1 : 0, left ? event_wait(efds[slot]) : event_read(efds[slot]));
	}
	EXPECT_EQ(10, ux_count(self->fd));
	/* The eventfds of the freed interrupts are released. */
	munmap(pages, 64 * STRIDE);
	events_close(efds, 64);
	EXPECT_EQ(self->before.events + 10, events_in_use() - 1);
}

TEST_F(batch, that_is_freed_is_sigbus_in_every_process)
{
	int ready[2], go[2];
	__u32 start;
	void *pages;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 100, NULL, &start));
	pages = ux_map(self->fd, IRQ_BASE, 100 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int bus = 0;

		for (int i = 0; i < 100; i++)
			if (touch(pages + i * STRIDE))
				_exit(101);
		if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(102);
		for (int i = 0; i < 100; i++)
			bus += touch(pages + i * STRIDE) == SIGBUS;
		_exit(bus);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(0, touch(pages + i * STRIDE));
	ASSERT_EQ(0, ux_free_many(self->fd, 1, 98));
	ASSERT_EQ(1, write(go[1], "g", 1));
	EXPECT_EQ(98, child_status(pid));
	EXPECT_EQ(0, touch(pages));
	EXPECT_EQ(SIGBUS, touch(pages + STRIDE));
	EXPECT_EQ(0, touch(pages + 99 * STRIDE));
	munmap(pages, 100 * STRIDE);
}

TEST_F(batch, of_a_program_that_drains_comes_in_its_queue)
{
	__s32 efds[3] = { -1, self->efd, -1 };
	unsigned char seen[200] = {};
	struct uxive_drain user;
	__u32 start;

	ASSERT_EQ(0, uxive_drain_open(&user, self->fd, self->efd, 300));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL, ux_alloc_many(self->fd, 3, efds, &start));
	EXPECT_EQ(0, irqs_of(self->fd));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 100, NULL, &start));
	EXPECT_EQ(0U, start);
	ASSERT_EQ(0, ux_alloc_at(self->fd, 100, 100));
	for (int i = 0; i < 200; i++)
		ring(uxive_drain_trigger(&user, i));
	for (int i = 0; i < 200; i++) {
		int slot = uxive_drain_wait(&user, WATCHDOG_MS);

		ASSERT_LE(0, slot);
		ASSERT_GT(200, slot);
		ASSERT_EQ(0, seen[slot]++);
		uxive_drain_eoi(&user, slot);
	}
	EXPECT_EQ(-1, uxive_drain_try_next(&user));
	ASSERT_EQ(0, ux_free_many(self->fd, 50, 100));
	EXPECT_EQ(SIGBUS, touch(uxive_drain_trigger(&user, 50)));
	EXPECT_EQ(SIGBUS, touch(uxive_drain_trigger(&user, 149)));
	ring(uxive_drain_trigger(&user, 49));
	EXPECT_EQ(49, uxive_drain_wait(&user, WATCHDOG_MS));
	ring(uxive_drain_trigger(&user, 150));
	EXPECT_EQ(150, uxive_drain_wait(&user, WATCHDOG_MS));
	uxive_drain_close(&user);
}

TEST_F(batch, can_be_shared_with_single_calls)
{
	__u32 start;

	ASSERT_EQ(0, ux_fill(self->fd, 2));
	ASSERT_EQ(0, ux_alloc_many(self->fd, 3, NULL, &start));
	EXPECT_EQ(2U, start);
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	EXPECT_EQ(6, ux_count(self->fd));
	/* Freed across the calls that made them. */
	ASSERT_EQ(0, ux_free_many(self->fd, 1, 2));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(3)));
	ASSERT_EQ(0, ux_free_many(self->fd, 4, 2));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(0)));
	EXPECT_EQ(0, ux_count(self->fd));
}

/* Accelerators. */

TEST_F(batch, of_an_afu_comes_with_messages_as_far_as_there_are)
{
	struct afu_function functions[AFU_MOST];
	struct afu_context context;
	void *pages;
	__s32 efds[100];
	__u32 start;
	int fd;

	if (afu_functions(functions) < 1)
		SKIP(return, "no AFU");
	ASSERT_EQ(0, afu_bind_anew(&functions[0]));
	ASSERT_TRUE(afu_context_open(&context, &functions[0]));
	fd = context.fd;
	events_new(efds, 100);
	ASSERT_EQ(0, ux_alloc_many(fd, 100, efds, &start));
	EXPECT_EQ(0U, start);
	EXPECT_EQ(100, irqs_of(fd));
	/* Each of those that have a message counts twice. */
	EXPECT_EQ(100 + MESSAGES, total_irqs(fd));
	pages = ux_map(fd, IRQ_BASE, 100 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (__u32 slot = 0; slot < 100; slot++) {
		ring(pages + slot * STRIDE);
		ASSERT_EQ(1, event_wait(efds[slot])) TH_LOG("slot %u", slot);
		if (slot >= MESSAGES)
			continue;
		ASSERT_TRUE(afu_raise(context.mmio, slot)) TH_LOG("slot %u", slot);
		ASSERT_EQ(1, event_wait(efds[slot])) TH_LOG("slot %u", slot);
	}
	for (__u32 slot = 0; slot < 100; slot++)
		EXPECT_EQ(0, event_read(efds[slot]));
	ASSERT_EQ(0, ux_free_many(fd, 10, 80));
	EXPECT_EQ(20 + 10, total_irqs(fd));
	EXPECT_EQ(SIGBUS, touch(pages + 10 * STRIDE));
	/* None of those messages can be sent any more, others can. */
	EXPECT_TRUE(afu_raise(context.mmio, 9));
	EXPECT_EQ(1, event_wait(efds[9]));
	EXPECT_FALSE(afu_raise(context.mmio, 10));
	EXPECT_EQ(0, event_read(efds[10]));

	/* A limit comes in the middle of a slot that has both. */
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 35));
	EXPECT_EQ(-EDQUOT, ux_alloc_at(fd, 10, 3));
	EXPECT_EQ(30, total_irqs(fd));
	ASSERT_EQ(0, ux_alloc_at(fd, 10, 2));
	EXPECT_EQ(34, total_irqs(fd));
	EXPECT_EQ(-ENOSPC, ux_alloc_at(fd, 100, SLOTS / 2 + 1));
	munmap(pages, 100 * STRIDE);
	afu_context_close(&context);
	events_close(efds, 100);
	EXPECT_TRUE(becomes(all_irqs(), 0));
	EXPECT_EQ(0, afu_unbind(&functions[0]));
}

/* Races. */

#define ROUNDS	400
#define RACERS	4

/* The owner of each slot, or 0. All racers have the same context. */
static atomic_int owners[SLOTS];

struct racer {
	pthread_t thread;
	int fd, id;
	bool batches;
	long calls, refused, errors;
};

static void *racer_run(void *arg)
{
	struct racer *racer = arg;
	unsigned int seed = racer->id;

	pin_to_cpu(racer->id % 2);
	for (int n = 0; n < ROUNDS; n++) {
		__u32 count = racer->batches ? 1 + rand_r(&seed) % 32 : 1, start = 0;
		__u64 offset;
		int ret;

		progress();
		if (racer->batches && n % 4 == 3) {
			start = rand_r(&seed) % 64;
			ret = ux_alloc_at(racer->fd, start, count);
			racer->refused += ret == -EBUSY;
			if (ret == -EBUSY)
				continue;
		} else if (racer->batches) {
			ret = ux_alloc_many(racer->fd, count, NULL, &start);
		} else {
			ret = ux_alloc(racer->fd, &offset);
			start = (offset - IRQ_BASE) / STRIDE;
		}
		racer->errors += !!ret;
		if (ret || start + count > SLOTS)
			continue;
		racer->calls++;
		/* Nobody else has one of them. */
		for (__u32 slot = start; slot < start + count; slot++)
			racer->errors += atomic_exchange(&owners[slot], racer->id + 1) != 0;
		sched_yield();
		for (__u32 slot = start; slot < start + count; slot++)
			racer->errors += atomic_exchange(&owners[slot], 0) != racer->id + 1;
		racer->errors += racer->batches ? !!ux_free_many(racer->fd, start, count) :
						  !!ux_free(racer->fd, offset);
	}
	return NULL;
}

TEST_F(batch, shares_no_slot_with_calls_that_race_it)
{
	struct racer racers[RACERS] = {};
	long refused = 0;

	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ .fd = self->fd, .id = i, .batches = i < 3 };
		ASSERT_EQ(0, pthread_create(&racers[i].thread, NULL, racer_run, &racers[i]));
	}
	for (int i = 0; i < RACERS; i++) {
		pthread_join(racers[i].thread, NULL);
		EXPECT_EQ(0, racers[i].errors) TH_LOG("racer %d", i);
		EXPECT_LT(0, racers[i].calls) TH_LOG("racer %d", i);
		refused += racers[i].refused;
	}
	TH_LOG("%ld of %d calls found their slots in use", refused, 3 * ROUNDS / 4);
	EXPECT_LT(0, refused);
	EXPECT_EQ(0, ux_count(self->fd));
	EXPECT_EQ(0, total_irqs(self->fd));
}

/* A range that one call frees. */
struct freer {
	int fd;
	__u32 start, count;
	int ret;
};

static int free_these(int fd, __u32 start, __u32 count)
{
	return count == 1 ? ux_free(fd, slot_offset(start)) : ux_free_many(fd, start, count);
}

static void free_all_of(void *arg)
{
	struct freer *freer = arg;

	freer->ret = free_these(freer->fd, freer->start, freer->count);
}

/*
 * Two calls free ranges that overlap: exactly one of them succeeds, and the other
 * frees nothing. The first one waits longer the next time, so that they meet.
 */
TEST_F(batch, of_two_that_free_the_same_slot_exactly_one_wins)
{
	const struct {
		__u32 start, count, other_start, other_count;
	} cases[] = {
		{ 0, 64, 0, 64 }, { 0, 40, 24, 40 }, { 0, 64, 63, 1 }, { 0, 64, 0, 1 },
		/* More than are taken out at a time: one that fails puts some back. */
		{ 0, 3 * PIECE, 2 * PIECE, 3 * PIECE }, { 0, 4 * PIECE, 4 * PIECE - 1, 1 },
	};

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	pin_to_cpu(0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const __u32 end = cases[i].start + cases[i].count;
		const __u32 other_end = cases[i].other_start + cases[i].other_count;
		const __u32 all = end > other_end ? end : other_end;
		const int most = all > PIECE ? ROUNDS / 4 : ROUNDS;
		int rounds = fewer_with_lockdep(most, most / 4);
		int first = 0, second = 0;
		/* This thread leads. */
		struct aim aim = {};
		struct freer freer = {
			.fd = self->fd, .start = cases[i].other_start,
			.count = cases[i].other_count,
		};
		struct rival rival = { .act = free_all_of, .arg = &freer };

		ASSERT_EQ(0, rival_start(&rival));
		for (int n = 1; n <= rounds; n++) {
			__u32 start, rest;
			long left, freed;
			int ret;

			progress();
			ASSERT_EQ(0, ux_alloc_many(self->fd, all, NULL, &start));
			ASSERT_EQ(0U, start);
			rival_go(&rival, n, &aim);
			ret = free_these(self->fd, cases[i].start, cases[i].count);
			rival_wait(&rival, n);
			left = irqs_of(self->fd);
			first += !ret;
			second += !freer.ret;
			ASSERT_EQ(-EINVAL, ret + freer.ret)
				TH_LOG("case %zu, round %d: %d, %d", i, n, ret, freer.ret);
			freed = cases[i].count;
			if (ret)
				freed = cases[i].other_count;
			ASSERT_EQ(all - freed, left)
				TH_LOG("case %zu, round %d", i, n);
			aim_after(&aim, !ret);
			/* The rest lies in one piece or two. */
			for (rest = 0; rest < all && left; rest++)
				if (!ux_free(self->fd, slot_offset(rest)))
					left--;
			ASSERT_EQ(0, ux_count(self->fd));
			rounds += more_rounds(rounds, n == rounds && !(first && second));
		}
		rival_end(&rival);
		TH_LOG("case %zu: %d won by the one, %d by the other", i, first, second);
		EXPECT_EQ(rounds, first + second);
		EXPECT_LT(0, first);
		EXPECT_LT(0, second);
	}
	EXPECT_EQ(0, total_irqs(self->fd));
}

struct toucher {
	pthread_t thread;
	void *pages;
	atomic_bool stop;
	long rang, bus, other;
};

static void *toucher_run(void *arg)
{
	struct toucher *toucher = arg;

	pin_to_cpu(1);
	for (unsigned int n = 0; !atomic_load(&toucher->stop); n = n * 5 + 1) {
		int sig = touch(toucher->pages + n % 64 * STRIDE);

		toucher->rang += !sig;
		toucher->bus += sig == SIGBUS;
		toucher->other += sig && sig != SIGBUS;
	}
	return NULL;
}

TEST_F(batch, leaves_no_page_to_who_touches_it_all_the_time)
{
	struct toucher toucher = { .pages = ux_map(self->fd, IRQ_BASE, 64 * STRIDE) };
	const int rounds = fewer_with_lockdep(ROUNDS, ROUNDS / 4);
	__u32 start;

	ASSERT_NE(MAP_FAILED, toucher.pages);
	pin_to_cpu(0);
	ASSERT_EQ(0, pthread_create(&toucher.thread, NULL, toucher_run, &toucher));
	for (int n = 0; n < rounds; n++) {
		progress();
		ASSERT_EQ(0, ux_alloc_many(self->fd, 64, NULL, &start));
		ASSERT_EQ(0U, start);
		/* Touched by the other or by us, and then by the other while they are freed. */
		for (int slot = n % 8; slot < 64; slot += 8)
			ASSERT_EQ(0, touch(toucher.pages + slot * STRIDE));
		ASSERT_EQ(0, ux_free_many(self->fd, 0, 64));
		for (int slot = 0; slot < 64; slot++) {
			ASSERT_EQ(SIGBUS, touch(toucher.pages + slot * STRIDE))
				TH_LOG("round %d, slot %d", n, slot);
		}
	}
	atomic_store(&toucher.stop, true);
	pthread_join(toucher.thread, NULL);
	TH_LOG("the other rang %ld times, and took SIGBUS %ld times", toucher.rang, toucher.bus);
	EXPECT_LT(0, toucher.rang);
	EXPECT_LT(0, toucher.bus);
	EXPECT_EQ(0, toucher.other);
	munmap(toucher.pages, 64 * STRIDE);
}

/* Allocates, maps, rings and frees batches for ever. */
static void churn(int sock)
{
	__s32 efds[64];
	int fd = ux_open();
	__u32 start = 0;
	void *pages = ux_map(fd, IRQ_BASE, WINDOW);

	events_new(efds, 64);
	if (pages == MAP_FAILED || ux_alloc_many(fd, 1000, NULL, &start))
		_exit(1);
	for (bool told = false;; told = true) {
		if (ux_alloc_many(fd, 64, efds, &start))
			_exit(2);
		for (int i = 0; i < 64; i++)
			ring(pages + (start + i) * STRIDE);
		if (!told && write(sock, "c", 1) != 1)
			_exit(3);
		if (ux_free_many(fd, start, 64))
			_exit(4);
	}
}

TEST_F(batch, of_a_process_that_is_killed_returns)
{
	unsigned int seed = 1;

	for (int n = 0; n < 20; n++) {
		int pipes[2];
		char byte;
		pid_t pid;

		ASSERT_EQ(0, pipe(pipes));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			churn(pipes[1]);
		ASSERT_EQ(1, read(pipes[0], &byte, 1));
		/* At any moment. */
		usleep(rand_r(&seed) % 5000);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(pid)) TH_LOG("round %d", n);
		ASSERT_TRUE(becomes(total_irqs(self->fd), 0)) TH_LOG("round %d", n);
		close(pipes[0]);
		close(pipes[1]);
		progress();
	}
}

TEST_HARNESS_MAIN
