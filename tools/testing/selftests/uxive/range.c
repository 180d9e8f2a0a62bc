// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a range is a file with a number of slots, up to 65536, that can be handed to
 * another program. Each slot rings. The user of the context that it is made from is charged
 * as long as anybody has the file, and the file gives no access to anything else of the
 * maker's.
 *
 * The suite `faults` shows that each step of the calls can fail.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_fixture.h"

#include <grp.h>

/* The most slots of a range. */
#define MOST		65536U
/* Two who are not root. */
#define ALICE		1001
#define BOB		1002

#define MASK		(UXIVE_SET_DATA_NONE | UXIVE_SET_MASK)
#define UNMASK		(UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK)
#define TRIGGER		(UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER)
#define BIND		(UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER)

FIXTURE(range) {
	int fd, efd;
	int fds;
	struct use before;
	struct limits limits;
};

/* All may open the node for now. */
FIXTURE_SETUP(range)
{
	catch_touches();
	/* Contexts of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(all_irqs(), 0));
	ASSERT_TRUE(limits_save(&self->limits));
	ASSERT_EQ(0, chmod(UXIVE_DEV, 0666));
	self->before = use_now();
	self->fds = fds_open();
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	self->efd = event_new();
	ASSERT_LE(0, self->efd);
}

FIXTURE_TEARDOWN(range)
{
	close(self->fd);
	close(self->efd);
	EXPECT_EQ(0, chmod(UXIVE_DEV, 0600));
	EXPECT_TRUE(limits_restore(&self->limits));
	EXPECT_EQ(self->fds, fds_open());
	EXPECT_TRUE(becomes(limit_get("queues"), 0));
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TABLES_EMPTY();
}

/* A range that @uid makes with the context @fd; or a negative errno. */
static int range_as(uid_t uid, int fd, __u32 count)
{
	int range;

	if (seteuid(uid))
		return -errno;
	range = ux_range(fd, count);
	return seteuid(0) ? -errno : range;
}

/* Whether the interrupt in a slot rings @efd, and nothing else does; binds it. */
static bool rings(int fd, __u32 slot, int efd)
{
	void *page = ux_map(fd, slot_offset(slot), STRIDE);
	bool rang;

	if (page == MAP_FAILED)
		return false;
	rang = !ux_bind(fd, slot_offset(slot), efd) && !event_read(efd) && !touch(page) &&
	       event_wait(efd) == 1;
	munmap(page, STRIDE);
	return rang;
}

/* The file of a range. */

TEST_F(range, is_a_file_with_slots_of_its_own)
{
	const __u32 counts[] = { 1, 2, 100, SLOTS, SLOTS + 1, MOST };

	ASSERT_EQ(0, ux_fill(self->fd, 3));
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int fd = ux_range(self->fd, counts[i]);
		struct uxive_info info;

		ASSERT_LE(0, fd) TH_LOG("%u slots", counts[i]);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
		EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
		EXPECT_NE(ux_context(self->fd), ux_context(fd));
		EXPECT_LT(0, ux_context(fd));
		EXPECT_EQ(0, ux_count(fd));
		EXPECT_EQ(counts[i], fdinfo_number(fd, "uxive-range"));
		EXPECT_EQ(-1, fdinfo_number(self->fd, "uxive-range"));
		info = info_of(fd);
		EXPECT_EQ(0U, info.irqs);
		EXPECT_EQ(3U, info.irqs_user);
		EXPECT_EQ(3U, info.irqs_total);
		EXPECT_EQ(counts[i], info.max_irqs);
		EXPECT_EQ(IRQ_BASE, info.trigger.offset);
		EXPECT_EQ(STRIDE, info.trigger.stride);
		EXPECT_EQ(counts[i] * STRIDE, info.trigger.length) TH_LOG("%u", counts[i]);
		/* There is nothing to be read, and nothing to be written. */
		EXPECT_EQ(0, poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0));
		EXPECT_EQ(-1, write(fd, &info, 40));
		EXPECT_EQ(EINVAL, errno);
		close(fd);
	}
	EXPECT_EQ(3, ux_count(self->fd));
}

/* As an export, see doorbell.c. */
TEST_F(range, has_an_inode_of_its_own)
{
	int fd[2] = { ux_range(self->fd, 1), ux_range(self->fd, 1) };
	struct stat own[2], shared;

	ASSERT_EQ(0, fstat(self->efd, &shared));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, fstat(fd[i], &own[i]));
		EXPECT_EQ(shared.st_dev, own[i].st_dev);
		EXPECT_NE(shared.st_ino, own[i].st_ino);
		EXPECT_EQ(0, own[i].st_mode & S_IFMT);
	}
	EXPECT_NE(own[0].st_ino, own[1].st_ino);
	close(fd[0]);
	close(fd[1]);
}

TEST_F(range, of_no_slots_or_too_many_is_refused)
{
	const struct uxive_range bad[] = {
		{ .count = 0 }, { .count = MOST + 1 }, { .count = 1U << 31 }, { .count = ~0U },
		{ .count = 1, .flags = 1 }, { .count = 1, .flags = 1U << 31 },
	};
	int fds = fds_open();

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct uxive_range arg = bad[i];

		arg.size = sizeof(arg);
		EXPECT_ERRNO(UXIVE_IOC_RANGE, EINVAL, ux_ioctl(self->fd, UXIVE_IOC_RANGE, &arg))
			TH_LOG("case %zu", i);
		EXPECT_EQ(fds, fds_open());
	}
}

TEST_F(range, that_cannot_be_told_of_leaves_nothing)
{
	struct uxive_range *arg = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fds = fds_open(), null;
	struct rlimit old, now;

	ASSERT_NE(MAP_FAILED, arg);
	*arg = (struct uxive_range){ .size = sizeof(*arg), .count = 10 };
	ASSERT_EQ(0, mprotect(arg, sizeof(*arg), PROT_READ));
	for (int n = 0; n < 10; n++)
		EXPECT_ERRNO(UXIVE_IOC_RANGE, EFAULT, ux_ioctl(self->fd, UXIVE_IOC_RANGE, arg));
	EXPECT_EQ(fds, fds_open());
	munmap(arg, sysconf(_SC_PAGESIZE));

	/* All descriptors below this one, which is the lowest that is free, are in use. */
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	close(null);
	now = (struct rlimit){ .rlim_cur = null, .rlim_max = old.rlim_max };
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &now));
	for (int n = 0; n < 10; n++)
		EXPECT_ERRNO(UXIVE_IOC_RANGE, EMFILE, ux_range(self->fd, 10));
	now.rlim_cur++;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &now));
	EXPECT_EQ(null, ux_range(self->fd, 10));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	close(null);
	EXPECT_EQ(fds, fds_open());
	if (!access(DEBUG_UXIVE, F_OK))
		EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 1));
}

TEST_F(range, is_neither_an_afu_nor_makes_another)
{
	int fd = ux_range(self->fd, 10), afu;
	struct afu_function functions[AFU_MOST];
	struct ocxl_ioctl_metadata metadata;
	__u64 offset;

	ASSERT_LE(0, fd);
	EXPECT_ERRNO(ioctl, ENOTTY, afu_attach(fd));
	EXPECT_ERRNO(ioctl, ENOTTY, afu_metadata(fd, &metadata));
	EXPECT_ERRNO(ioctl, ENOTTY, afu_ims_alloc(fd, -1, &offset, NULL));
	EXPECT_ERRNO(UXIVE_IOC_RANGE, ENOTTY, ux_range(fd, 10));
	EXPECT_EQ(MAP_FAILED, ux_map(fd, 0, STRIDE));
	close(fd);
	if (afu_functions(functions) < 1)
		SKIP(return, "no AFU");
	ASSERT_EQ(0, afu_bind_anew(&functions[0]));
	afu = afu_open(&functions[0]);
	ASSERT_LE(0, afu);
	EXPECT_ERRNO(UXIVE_IOC_RANGE, ENOTTY, ux_range(afu, 10));
	close(afu);
	EXPECT_EQ(0, afu_unbind(&functions[0]));
}

TEST_F(range, ends_with_its_last_slot)
{
	const __u32 counts[] = { 1, 2, 63, 64, 65, 1000 };
	__u32 start;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		__u32 count = counts[i];
		int fd = ux_range(self->fd, count);
		void *pages;

		ASSERT_LE(0, fd);
		pages = ux_map(fd, IRQ_BASE, count * STRIDE);
		ASSERT_NE(MAP_FAILED, pages);
		EXPECT_EQ(MAP_FAILED, ux_map(fd, IRQ_BASE, (count + 1) * STRIDE));
		EXPECT_EQ(MAP_FAILED, ux_map(fd, slot_offset(count), STRIDE));
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
			     ux_alloc_many(fd, count + 1, NULL, &start));
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL, ux_alloc_at(fd, count, 1));
		EXPECT_EQ(0, ux_count(fd));
		/* One by one, and all in one. */
		ASSERT_EQ(0, ux_fill(fd, count));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_fill(fd, 1));
		EXPECT_EQ(0, touch(pages + (count - 1) * STRIDE));
		ASSERT_EQ(0, ux_free_many(fd, 0, count));
		EXPECT_EQ(SIGBUS, touch(pages + (count - 1) * STRIDE));
		ASSERT_EQ(0, ux_alloc_many(fd, count, NULL, &start));
		EXPECT_EQ(0U, start);
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
			     ux_alloc_many(fd, 1, NULL, &start));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EINVAL, ux_free(fd, slot_offset(count)));
		EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_MANY, EINVAL, ux_free_many(fd, count, 1));
		EXPECT_TRUE(rings(fd, count - 1, self->efd));
		munmap(pages, count * STRIDE);
		close(fd);
	}
}

/*
 * A call for more consecutive slots than are free is refused, whatever slots are in
 * use. A kernel with RUST_BITMAP_HARDENED stops if the driver looks beyond the last
 * slot.
 */
TEST_F(range, without_room_on_end_is_enospc_whatever_lies_in_it)
{
	__u32 start;

	/* Bitmaps of one word and of many are different in the kernel. */
	for (__u32 count = 1; count <= 66; count += count < 8 || count >= 62 ? 1 : 9) {
		int fd = ux_range(self->fd, count);

		ASSERT_LE(0, fd);
		/* One slot is in use, each in turn. */
		for (__u32 used = 0; used < count; used++) {
			__u32 most = used > count - 1 - used ? used : count - 1 - used;

			ASSERT_EQ(0, ux_alloc_at(fd, used, 1));
			EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
				     ux_alloc_many(fd, most + 1, NULL, &start))
				TH_LOG("%u of %u", used, count);
			if (most)
				EXPECT_EQ(0, ux_alloc_many(fd, most, NULL, &start));
			ASSERT_EQ(0, ux_free_all(fd));
		}
		ASSERT_EQ(0, ux_fill(fd, count));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_fill(fd, 1));
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOSPC,
			     ux_alloc_many(fd, 1, NULL, &start));
		close(fd);
	}
}

TEST_F(range, has_interrupts_at_the_slots_that_are_wanted)
{
	const __u32 slots[] = { 0, 1, 77, SLOTS - 1, SLOTS, 40000, MOST - 2, MOST - 1 };
	int fd = ux_range(self->fd, MOST);
	struct ux_irq irqs[ARRAY_SIZE(slots)];
	__u64 offset;
	void *pages;

	ASSERT_LE(0, fd);
	pages = ux_map(fd, IRQ_BASE, MOST * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int i = ARRAY_SIZE(slots) - 1; i >= 0; i--) {
		ASSERT_EQ(0, ux_alloc_at(fd, slots[i], 1)) TH_LOG("slot %u", slots[i]);
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EBUSY, ux_alloc_at(fd, slots[i], 1));
	}
	ASSERT_EQ((int)ARRAY_SIZE(slots), ux_irqs(fd, irqs, ARRAY_SIZE(slots)));
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		int efd = event_new();

		EXPECT_EQ(slot_offset(slots[i]), irqs[i].offset);
		ASSERT_EQ(0, ux_bind(fd, slot_offset(slots[i]), efd));
		EXPECT_EQ(0, touch(pages + slots[i] * STRIDE));
		EXPECT_EQ(1, event_wait(efd)) TH_LOG("slot %u", slots[i]);
		ASSERT_EQ(0, ux_bind(fd, slot_offset(slots[i]), -1));
		close(efd);
	}
	EXPECT_EQ(SIGBUS, touch(pages + 2 * STRIDE));
	EXPECT_EQ(SIGBUS, touch(pages + (MOST - 3) * STRIDE));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EBUSY, ux_alloc_at(fd, 0, MOST));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL, ux_alloc_at(fd, MOST, 1));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EINVAL, ux_alloc_at(fd, 1, MOST));
	/* Without a wish, a call gets the lowest. */
	ASSERT_EQ(0, ux_alloc(fd, &offset));
	EXPECT_EQ(slot_offset(2), offset);
	ASSERT_EQ(0, ux_free(fd, slot_offset(MOST - 1)));
	EXPECT_EQ(SIGBUS, touch(pages + (MOST - 1) * STRIDE));
	EXPECT_EQ(0, touch(pages + (MOST - 2) * STRIDE));
	munmap(pages, MOST * STRIDE);
	close(fd);
}

/* Memory in large pieces: the machine may have none, although it has much memory. */

/*
 * Has each allocation of pages of @order or more fail for this task. With @verbose the kernel logs
 * those that have no __GFP_NOWARN.
 */
static bool no_pages(int make_it_fail, const char *order, const char *verbose)
{
	return write_file(FAIL_PAGE_ALLOC, "task-filter", "Y") &&
	       write_file(FAIL_PAGE_ALLOC, "times", "-1") &&
	       write_file(FAIL_PAGE_ALLOC, "min-order", order) &&
	       write_file(FAIL_PAGE_ALLOC, "verbose", verbose) &&
	       write_file(FAIL_PAGE_ALLOC, "probability", "100") &&
	       pwrite(make_it_fail, "1", 1, 0) == 1;
}

static bool pages_again(int make_it_fail)
{
	return pwrite(make_it_fail, "0", 1, 0) == 1 &&
	       write_file(FAIL_PAGE_ALLOC, "probability", "0") &&
	       write_file(FAIL_PAGE_ALLOC, "verbose", "0") &&
	       write_file(FAIL_PAGE_ALLOC, "min-order", "0") &&
	       write_file(FAIL_PAGE_ALLOC, "task-filter", "N");
}

/* The size of the queue is that of the program's range. */
TEST_F(range, without_memory_for_its_queue_is_not_in_the_log)
{
	int make_it_fail = open("/proc/thread-self/make-it-fail", O_RDWR), log, fd, alloc, drain;
	char order[8];
	__u64 offset;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepare_faults() && select_faults(MEMORY));
	snprintf(order, sizeof(order), "%d", __builtin_ctzl((2L << 20) / sysconf(_SC_PAGESIZE)));
	fd = ux_range(self->fd, MOST);
	ASSERT_LE(0, fd);
	log = log_open();
	ASSERT_TRUE(no_pages(make_it_fail, order, "1"));
	alloc = ux_alloc(fd, &offset);
	drain = ux_user_drain(fd, -1);
	EXPECT_TRUE(pages_again(make_it_fail));
	select_faults(0);
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOMEM, alloc);
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, ENOMEM, drain);
	EXPECT_EQ(0, log_lines(log, "forcing a failure"));
	EXPECT_EQ(0, ux_fill(fd, 1));
	EXPECT_EQ(1U, info_of(self->fd).queues_total);
	close(fd);
	close(log);
	close(make_it_fail);
}

/* Likewise the arrays of a call, and the tables, of as many slots as the program says. */
TEST_F(range, without_memory_for_a_call_is_not_in_the_log)
{
	int make_it_fail = open("/proc/thread-self/make-it-fail", O_RDWR), ret[5], fd, logs[2];
	__s32 *efds = malloc(MOST * sizeof(*efds));
	__u32 start;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepare_faults() && select_faults(MEMORY));
	for (__u32 i = 0; i < MOST; i++)
		efds[i] = -1;
	ASSERT_EQ(0, limit_set("max_irqs_per_user", MOST));
	fd = ux_range(self->fd, MOST);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 2; i++)
		logs[i] = log_open();
	/* The arrays that a call copies; the table of slots; then, with that, what was made. */
	ASSERT_EQ(0, ux_fill(fd, 1));
	ASSERT_TRUE(no_pages(make_it_fail, "0", "0"));
	ret[0] = ux_alloc_many_of(fd, UXIVE_ALLOC_AT, 0, MOST - 1, efds, &(__u32){ 1 });
	ret[1] = ux_alloc_many_of(fd, UXIVE_ALLOC_AT, 0, MOST - 1, NULL, &(__u32){ 1 });
	ASSERT_TRUE(pages_again(make_it_fail));
	ASSERT_EQ(0, ux_free_all(fd));
	ASSERT_EQ(0, ux_alloc_many(fd, MOST, NULL, &start));
	ASSERT_TRUE(no_pages(make_it_fail, "0", "0"));
	ret[2] = ux_set_irqs(fd, BIND, 0, MOST, efds);
	ret[3] = ux_free_many(fd, 0, MOST);
	ASSERT_TRUE(pages_again(make_it_fail));
	ASSERT_EQ(0, ux_free_many(fd, 0, MOST));
	ASSERT_TRUE(no_pages(make_it_fail, "0", "0"));
	ret[4] = ux_alloc_many(fd, MOST, NULL, &start);
	ASSERT_TRUE(pages_again(make_it_fail));
	select_faults(0);
	for (size_t i = 0; i < ARRAY_SIZE(ret); i++) {
		EXPECT_EQ(-ENOMEM, ret[i])
			TH_LOG("call %zu", i);
	}
	/* Of pages and of kmalloc. */
	EXPECT_EQ(0, log_lines(logs[0], "mode:0x"));
	EXPECT_EQ(0, log_lines(logs[1], "SLUB: Unable to allocate memory"));
	EXPECT_EQ(0, ux_alloc_many(fd, MOST, efds, &start));
	close(fd);
	close(logs[0]);
	close(logs[1]);
	close(make_it_fail);
	free(efds);
}

/* 65,536 slots. */

#define SIDE	256U

/*
 * Slot i and slot j have the same eventfd in at most one of two rounds. So what all
 * eventfds count in both rounds shows that each slot came once. A kernel without
 * lockdep, which is fast, goes on until the queue has wrapped: firmware knows none
 * between 16384 and 524288 entries.
 */
TEST_F(range, of_65536_slots_is_drained_by_the_kernel)
{
	int fd = ux_range(self->fd, MOST), rounds = fewer_with_lockdep(10, 2);
	struct ux_irq *irqs = malloc(MOST * sizeof(*irqs));
	__s32 *efds = malloc(MOST * sizeof(*efds)), by[SIDE];
	__u32 start;
	void *pages;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", MOST));
	for (__u32 i = 0; i < SIDE; i++)
		by[i] = event_new();
	for (__u32 i = 0; i < MOST; i++)
		efds[i] = by[i % SIDE];
	ASSERT_EQ(0, ux_alloc_many(fd, MOST, efds, &start));
	EXPECT_EQ(0U, start);
	EXPECT_EQ(MOST, info_of(fd).irqs);
	EXPECT_EQ(MOST, info_of(self->fd).irqs_user);
	EXPECT_EQ(0U, info_of(self->fd).irqs);
	ASSERT_EQ((int)MOST, ux_irqs(fd, irqs, MOST));
	qsort(irqs, MOST, sizeof(*irqs), lisn_order);
	for (__u32 i = 1; i < MOST; i++)
		ASSERT_NE(irqs[i - 1].lisn, irqs[i].lisn);
	pages = ux_map(fd, IRQ_BASE, MOST * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);

	for (int round = 0; round < rounds; round++) {
		for (__u32 i = 0; i < MOST; i++) {
			ASSERT_EQ(0, touch(pages + i * STRIDE))
				TH_LOG("slot %u", i);
			progress();
		}
		for (__u32 i = 0; i < SIDE; i++) {
			long count = 0;

			while (count < SIDE) {
				long more = event_wait(by[i]);

				ASSERT_LT(0, more) TH_LOG("eventfd %u after %ld", i, count);
				count += more;
				progress();
			}
			EXPECT_EQ(SIDE, count) TH_LOG("eventfd %u", i);
		}
		for (__u32 i = 0; i < MOST; i++)
			efds[i] = by[round % 2 ? i % SIDE : i / SIDE];
		ASSERT_EQ(0, ux_set_irqs(fd, BIND, 0, MOST, efds));
	}
	ring(pages);
	EXPECT_EQ(1, event_wait(by[0]));
	for (__u32 i = 0; i < SIDE; i++)
		EXPECT_EQ(0, event_read(by[i]));
	munmap(pages, MOST * STRIDE);
	close(fd);
	for (__u32 i = 0; i < SIDE; i++)
		close(by[i]);
	free(irqs);
	free(efds);
}

/* All of them as often as it takes to go through the queue, and once more. */
TEST_F(range, of_65536_slots_holds_a_ring_of_each_until_it_is_read)
{
	unsigned char *seen = calloc(MOST, 1);
	int fd = ux_range(self->fd, MOST), passes;
	struct uxive_drain user;
	__u32 start;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", MOST));
	ASSERT_EQ(0, uxive_drain_open(&user, fd, self->efd, MOST));
	EXPECT_LE(MOST, user.mask + 1);
	EXPECT_EQ(0U, user.mask & (user.mask + 1));
	ASSERT_EQ(0, ux_alloc_many(fd, MOST, NULL, &start));
	passes = (user.mask + 1) / MOST + 1;
	TH_LOG("%u entries, %d passes", user.mask + 1, passes);
	ASSERT_GT(100, passes);
	for (int pass = 1; pass <= passes; pass++) {
		for (__u32 i = 0; i < MOST; i++) {
			ASSERT_EQ(0, touch(uxive_drain_trigger(&user, i)))
				TH_LOG("slot %u", i);
			progress();
		}
		/* All are pending, and nobody has looked. */
		for (__u32 n = 0; n < MOST; n++) {
			int slot = uxive_drain_try_next(&user);

			ASSERT_LE(0, slot) TH_LOG("pass %d, entry %u", pass, n);
			ASSERT_GT((int)MOST, slot);
			ASSERT_EQ(pass - 1, seen[slot]) TH_LOG("pass %d, slot %d", pass, slot);
			seen[slot] = pass;
			progress();
		}
		EXPECT_EQ(-1, uxive_drain_try_next(&user));
		for (__u32 i = 0; i < MOST; i++)
			uxive_drain_eoi(&user, i);
		EXPECT_EQ(-1, uxive_drain_try_next(&user));
		/* So that the next pass begins elsewhere in the queue. */
		for (__u32 i = 0; i < 1000; i++) {
			ring(uxive_drain_trigger(&user, MOST - 1 - i));
			ASSERT_EQ((int)(MOST - 1 - i), uxive_drain_wait(&user, WATCHDOG_MS));
			uxive_drain_eoi(&user, MOST - 1 - i);
			progress();
		}
	}
	uxive_drain_close(&user);
	close(fd);
	free(seen);
}

TEST_F(range, of_65536_slots_comes_and_goes_again)
{
	__u32 start;

	ASSERT_EQ(0, limit_set("max_irqs_per_user", MOST));
	for (int n = 0; n < 3; n++) {
		int fd = ux_range(self->fd, MOST);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ux_alloc_many(fd, MOST, NULL, &start));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_fill(self->fd, 1));
		EXPECT_TRUE(rings(fd, MOST - 1, self->efd));
		progress();
		if (n)
			ASSERT_EQ(0, n == 1 ? ux_free_many(fd, 0, MOST) :
					      ux_free_all(fd));
		EXPECT_EQ(n ? 0U : MOST, info_of(fd).irqs);
		close(fd);
		EXPECT_TRUE(becomes(total_irqs(self->fd), 0));
		progress();
	}
	ASSERT_EQ(0, ux_fill(self->fd, 1));
}

/* One mapping that is populated on demand: a touch brings those around, and others later. */
TEST_F(range, is_populated_as_it_is_touched)
{
	int fd = ux_range(self->fd, MOST);
	void *pages;
	long before;

	ASSERT_LE(0, fd);
	pages = ux_map(fd, IRQ_BASE, MOST * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	/* Mapped first and filled later. */
	for (__u32 at = 0; at < MOST; at += MOST / 16)
		ASSERT_EQ(0, ux_alloc_at(fd, at, 64));
	for (__u32 at = 0; at < MOST; at += MOST / 16) {
		touch(pages + (at + 64) * STRIDE);
		faults();
		before = faults();
		for (__u32 slot = at; slot < at + 64; slot++)
			ring(pages + slot * STRIDE);
		EXPECT_EQ(before + 1, faults()) TH_LOG("slot %u", at);
		EXPECT_EQ(SIGBUS, touch(pages + (at + 64) * STRIDE));
	}
	munmap(pages, MOST * STRIDE);
	close(fd);
}

/* To others. */

/* The rest of a test in a process of another user, which was sent the range. */
static int use_as_another(int sock, int efd)
{
	int fd, other;
	__u32 start;
	void *pages;

	if (setgroups(0, NULL) || setresgid(BOB, BOB, BOB) || setresuid(BOB, BOB, BOB))
		return 1;
	fd = fd_receive(sock);
	if (fd < 0 || info_of(fd).max_irqs != 100)
		return 2;
	/* The maker's interrupt is there, and the other slots have room. */
	pages = ux_map(fd, IRQ_BASE, 100 * STRIDE);
	if (pages == MAP_FAILED || touch(pages) || event_wait(efd) != 1)
		return 3;
	if (ux_count(fd) != 1 || ux_alloc_many(fd, 98, NULL, &start) || start != 1)
		return 4;
	if (!rings(fd, 50, efd) || ux_free(fd, slot_offset(0)) || touch(pages) != SIGBUS)
		return 5;
	/* It is not charged to this one. */
	other = ux_open();
	if (other < 0 || info_of(other).irqs_user || info_of(other).queues_user)
		return 6;
	if (info_of(fd).irqs_user != 98 + 3 || info_of(fd).irqs != 98)
		return 7;
	return ux_fill(fd, 2) || ux_fill(fd, 1) != -ENOSPC ? 8 : 0;
}

TEST_F(range, that_was_sent_to_another_user_is_as_good_as_its_makers)
{
	int socks[2], maker = ux_open_as(ALICE), fd = range_as(ALICE, maker, 100);
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(maker, 3));
	ASSERT_EQ(0, ux_fill(fd, 1));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->efd));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* The child keeps only the range that is sent. */
		close(fd);
		close(maker);
		close(self->fd);
		_exit(use_as_another(socks[1], self->efd));
	}
	ASSERT_TRUE(fd_send(socks[0], fd));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(100U, info_of(fd).irqs);
	EXPECT_EQ(103U, info_of(maker).irqs_user);
	EXPECT_EQ(2U, info_of(maker).queues_user);
	EXPECT_EQ(3, ux_count(maker));
	EXPECT_EQ(0U, info_of(self->fd).irqs_user);
	close(fd);
	EXPECT_TRUE(becomes(info_of(maker).irqs_user, 3U));
	EXPECT_TRUE(becomes(info_of(maker).queues_user, 1U));
	close(maker);
	close(socks[0]);
	close(socks[1]);
}

TEST_F(range, goes_on_when_its_maker_is_killed)
{
	int socks[2], fd, alice;
	__u32 start;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int maker = ux_open_as(ALICE), range = range_as(ALICE, maker, 1000);

		if (range < 0 || ux_fill(maker, 10) || ux_fill(range, 500) ||
		    !fd_send(socks[1], range))
			_exit(1);
		for (;;)
			pause();
	}
	fd = fd_receive(socks[0]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(510, total_irqs(self->fd));
	EXPECT_TRUE(rings(fd, 499, self->efd));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(-SIGKILL, child_status(pid));
	EXPECT_TRUE(becomes(total_irqs(self->fd), 500));

	EXPECT_TRUE(rings(fd, 499, self->efd));
	ASSERT_EQ(0, ux_alloc_many(fd, 500, NULL, &start));
	EXPECT_EQ(500U, start);
	EXPECT_TRUE(rings(fd, 999, self->efd));
	/* The maker is charged. */
	alice = ux_open_as(ALICE);
	EXPECT_EQ(1000U, info_of(alice).irqs_user);
	EXPECT_EQ(1U, info_of(alice).queues_user);
	EXPECT_EQ(0U, info_of(self->fd).irqs_user);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 1000));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_fill(alice, 1));
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	close(fd);
	EXPECT_TRUE(becomes(info_of(alice).irqs_user, 0U));
	EXPECT_EQ(0, ux_fill(alice, 1));
	close(alice);
	close(socks[0]);
	close(socks[1]);
}

TEST_F(range, is_freed_with_the_last_that_has_it)
{
	int socks[2], fd = ux_range(self->fd, 100), copy;
	__u32 start;
	void *page;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_alloc_many(fd, 100, NULL, &start));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(99), self->efd));

	/* A copy, a message that nobody has read, a mapping. */
	copy = dup(fd);
	close(fd);
	EXPECT_EQ(100, ux_count(copy));
	ASSERT_TRUE(fd_send(socks[0], copy));
	close(copy);
	EXPECT_EQ(100, total_irqs(self->fd));
	fd = fd_receive(socks[1]);
	EXPECT_EQ(100, ux_count(fd));
	page = ux_map(fd, slot_offset(99), STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	close(fd);
	EXPECT_EQ(100, total_irqs(self->fd));
	ring(page);
	EXPECT_EQ(1, event_wait(self->efd));
	ASSERT_EQ(0, munmap(page, STRIDE));
	EXPECT_TRUE(becomes(total_irqs(self->fd), 0));

	/* With the socket that it is in. */
	fd = ux_range(self->fd, 100);
	ASSERT_EQ(0, ux_alloc_many(fd, 100, NULL, &start));
	ASSERT_TRUE(fd_send(socks[0], fd));
	close(fd);
	EXPECT_EQ(100, total_irqs(self->fd));
	close(socks[0]);
	close(socks[1]);
	EXPECT_TRUE(becomes(total_irqs(self->fd), 0));
}

TEST_F(range, and_its_maker_end_without_each_other)
{
	int maker = ux_open(), fd = ux_range(maker, 10), second = ux_range(maker, 10);

	ASSERT_LE(0, fd);
	ASSERT_LE(0, second);
	ASSERT_EQ(0, ux_fill(maker, 2));
	ASSERT_EQ(0, ux_fill(fd, 3));
	ASSERT_EQ(0, ux_fill(second, 4));
	close(second);
	EXPECT_TRUE(becomes(total_irqs(self->fd), 5));
	EXPECT_TRUE(rings(maker, 1, self->efd));
	EXPECT_TRUE(rings(fd, 2, self->efd));
	close(maker);
	EXPECT_TRUE(becomes(total_irqs(self->fd), 3));
	EXPECT_TRUE(rings(fd, 2, self->efd));
	ASSERT_EQ(0, ux_fill(fd, 7));
	EXPECT_TRUE(rings(fd, 9, self->efd));
	close(fd);
}

TEST_F(range, of_who_is_killed_amid_its_use_returns)
{
	unsigned int seed = 1;

	for (int n = 0; n < 20; n++) {
		int pipes[2];
		char byte;
		pid_t pid;

		ASSERT_EQ(0, pipe(pipes));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (bool told = false;; told = true) {
				int fd = ux_range(self->fd, 2000);
				void *pages = ux_map(fd, IRQ_BASE, 2000 * STRIDE);
				__u32 start;

				if (pages == MAP_FAILED || ux_alloc_many(fd, 200, NULL, &start))
					_exit(1);
				for (int i = 0; i < 200; i++)
					ring(pages + i * STRIDE);
				if (!told && write(pipes[1], "k", 1) != 1)
					_exit(2);
				munmap(pages, 2000 * STRIDE);
				close(fd);
			}
		}
		ASSERT_EQ(1, read(pipes[0], &byte, 1));
		usleep(rand_r(&seed) % 10000);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(pid)) TH_LOG("round %d", n);
		ASSERT_TRUE(becomes(total_irqs(self->fd), 0)) TH_LOG("round %d", n);
		close(pipes[0]);
		close(pipes[1]);
		progress();
	}
	EXPECT_TRUE(becomes(info_of(self->fd).queues_user, 0U));
}

TEST_F(range, keeps_the_driver)
{
	int fd;

	if (access(UXIVE_MODULE, R_OK))
		SKIP(return, "the driver is built in");
	fd = ux_range(self->fd, 10);
	ASSERT_LE(0, fd);
	close(self->fd);
	EXPECT_ERRNO(delete_module, EWOULDBLOCK, module_unload("uxive"));
	EXPECT_EQ(0, ux_fill(fd, 10));
	EXPECT_TRUE(rings(fd, 9, self->efd));
	close(fd);
	self->fd = ux_open();
}

/* Nothing else. */

TEST_F(range, reaches_nothing_of_its_maker)
{
	int fd = ux_range(self->fd, 20), ours = event_new();
	struct ux_irq own[10], other[3];
	__u32 start;
	void *mine, *theirs;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_alloc_many(self->fd, 10, NULL, &start));
	for (int slot = 0; slot < 10; slot++)
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(slot), ours));
	mine = ux_map(self->fd, IRQ_BASE, 10 * STRIDE);
	theirs = ux_map(fd, IRQ_BASE, 20 * STRIDE);
	ASSERT_NE(MAP_FAILED, mine);
	ASSERT_NE(MAP_FAILED, theirs);
	for (int slot = 0; slot < 10; slot++) {
		ASSERT_EQ(0, touch(mine + slot * STRIDE));
		ASSERT_EQ(1, event_wait(ours));
	}

	/* Where the maker has interrupts, the range has none. */
	for (int with_some = 0; with_some < 2; with_some++) {
		EXPECT_EQ(-EINVAL, ux_free(fd, slot_offset(0)));
		EXPECT_EQ(-EINVAL, ux_bind(fd, slot_offset(0), self->efd));
		EXPECT_EQ(-EINVAL, ux_free_many(fd, 0, 10));
		EXPECT_EQ(-EINVAL, ux_set_irqs(fd, MASK, 0, 1, NULL));
		EXPECT_EQ(-EINVAL, ux_set_irqs(fd, TRIGGER, 0, 10, NULL));
		EXPECT_EQ(SIGBUS, touch(theirs));
		EXPECT_EQ(SIGBUS, touch(theirs + 9 * STRIDE));
		if (!with_some)
			ASSERT_EQ(0, ux_alloc_at(fd, 3, 3));
	}
	ASSERT_EQ(3, ux_irqs(fd, other, 3));
	ASSERT_EQ(10, ux_irqs(self->fd, own, 10));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(slot_offset(3 + i), other[i].offset);
		for (int j = 0; j < 10; j++)
			EXPECT_NE(own[j].lisn, other[i].lisn);
	}

	/* The same numbers, and not the same interrupts. */
	ASSERT_EQ(0, ux_set_irqs(fd, MASK, 3, 3, NULL));
	EXPECT_TRUE(rings(self->fd, 3, ours));
	ASSERT_EQ(0, ux_set_irqs(fd, UNMASK, 3, 3, NULL));
	EXPECT_TRUE(rings(fd, 4, self->efd));
	EXPECT_EQ(0, event_read(ours));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(4)));
	EXPECT_TRUE(rings(fd, 4, self->efd));
	EXPECT_EQ(SIGBUS, touch(mine + 4 * STRIDE));
	ASSERT_EQ(0, ux_free(fd, slot_offset(5)));
	EXPECT_TRUE(rings(self->fd, 5, ours));
	EXPECT_EQ(SIGBUS, touch(theirs + 5 * STRIDE));
	ASSERT_EQ(0, ux_free_all(fd));
	EXPECT_EQ(0, ux_count(fd));
	EXPECT_EQ(9, ux_count(self->fd));
	EXPECT_TRUE(rings(self->fd, 9, ours));
	EXPECT_EQ(0, event_read(self->efd));
	munmap(mine, 10 * STRIDE);
	munmap(theirs, 20 * STRIDE);
	close(fd);
	close(ours);
}

/* The maker, a range that the kernel drains, and one that the program drains. */
TEST_F(range, works_beside_another_and_the_maker)
{
	const __u32 counts[] = { 100, 300, 200 };
	int fds[] = { self->fd, ux_range(self->fd, 300), ux_range(self->fd, 200) };
	struct ux_irq *irqs = malloc(600 * sizeof(*irqs));
	struct uxive_drain user;
	int efds[2] = { event_new(), event_new() };
	void *pages[2];
	__u32 start;

	ASSERT_LE(0, fds[1]);
	ASSERT_LE(0, fds[2]);
	ASSERT_EQ(0, uxive_drain_open(&user, fds[2], self->efd, 200));
	for (int i = 0, at = 0; i < 3; at += counts[i++]) {
		ASSERT_EQ(0, ux_alloc_many(fds[i], counts[i], NULL, &start));
		EXPECT_EQ(0U, start);
		ASSERT_EQ((int)counts[i], ux_irqs(fds[i], irqs + at, counts[i]));
	}
	EXPECT_EQ(600U, info_of(self->fd).irqs_user);
	EXPECT_EQ(3U, info_of(self->fd).queues_user);
	qsort(irqs, 600, sizeof(*irqs), lisn_order);
	for (int i = 1; i < 600; i++)
		ASSERT_NE(irqs[i - 1].lisn, irqs[i].lisn);
	for (int i = 0; i < 2; i++) {
		pages[i] = ux_map(fds[i], IRQ_BASE, counts[i] * STRIDE);
		ASSERT_NE(MAP_FAILED, pages[i]);
		for (__u32 slot = 0; slot < counts[i]; slot++)
			ASSERT_EQ(0, ux_bind(fds[i], slot_offset(slot), efds[i]));
	}
	for (int n = 0; n < 2000; n++) {
		ring(pages[0] + n % 100 * STRIDE);
		ring(pages[1] + n % 300 * STRIDE);
		ring(uxive_drain_trigger(&user, n % 200));
		ASSERT_EQ(1, event_wait(efds[0])) TH_LOG("ring %d", n);
		ASSERT_EQ(1, event_wait(efds[1])) TH_LOG("ring %d", n);
		ASSERT_EQ(n % 200, uxive_drain_wait(&user, WATCHDOG_MS)) TH_LOG("ring %d", n);
		uxive_drain_eoi(&user, n % 200);
		progress();
	}
	EXPECT_EQ(-1, uxive_drain_try_next(&user));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, event_read(efds[i]));
		munmap(pages[i], counts[i] * STRIDE);
		close(efds[i]);
	}
	uxive_drain_close(&user);
	close(fds[1]);
	close(fds[2]);
	free(irqs);
}

/* Limits. */

TEST_F(range, is_charged_to_the_user_of_its_context)
{
	int alice = ux_open_as(ALICE), fd = range_as(ALICE, alice, 100), second;
	__u32 start;

	ASSERT_LE(0, fd);
	/* As a context, it has a queue from its first interrupt on. */
	EXPECT_EQ(0U, info_of(alice).queues_user);
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 50));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EDQUOT, ux_alloc_many(fd, 51, NULL, &start));
	EXPECT_EQ(0U, info_of(alice).irqs_user);
	ASSERT_EQ(0, ux_alloc_many(fd, 30, NULL, &start));
	EXPECT_EQ(1U, info_of(alice).queues_user);
	ASSERT_EQ(0, ux_fill(alice, 20));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_fill(fd, 1));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_fill(alice, 1));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EDQUOT, ux_alloc_at(fd, 90, 1));
	/* The maker is charged for each call. */
	EXPECT_EQ(50U, info_of(fd).irqs_user);
	EXPECT_EQ(0U, info_of(self->fd).irqs_user);

	ASSERT_EQ(0, limit_set("max_irqs", 50));
	ASSERT_EQ(0, limit_set("max_irqs_per_user", 100));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENFILE, ux_alloc_many(fd, 2, NULL, &start));
	EXPECT_EQ(30, ux_count(fd));
	ASSERT_EQ(0, limit_set("max_irqs", 1000));

	ASSERT_EQ(0, limit_set("max_queues_per_user", 2));
	second = range_as(ALICE, alice, 10);
	ASSERT_LE(0, second);
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_fill(second, 1));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EDQUOT, ux_alloc_many(second, 2, NULL, &start));
	close(fd);
	EXPECT_TRUE(becomes(info_of(alice).queues_user, 1U));
	EXPECT_EQ(0, ux_alloc_many(second, 2, NULL, &start));
	EXPECT_EQ(22U, info_of(alice).irqs_user);
	close(second);

	/* A new range is charged to the user of the context, even if another calls. */
	second = range_as(BOB, alice, 10);
	ASSERT_EQ(0, ux_fill(second, 5));
	EXPECT_EQ(25U, info_of(second).irqs_user);
	EXPECT_EQ(25U, info_of(alice).irqs_user);
	EXPECT_EQ(0U, info_of(self->fd).irqs_user);
	close(second);
	close(alice);
}

TEST_HARNESS_MAIN
