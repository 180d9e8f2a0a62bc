// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a mapping of the trigger window reaches the trigger pages of this
 * context's live interrupts, for stores only, and nothing else: an empty slot
 * is SIGBUS (EFAULT in a system call), and no page outlives its interrupt.
 *
 * Care: the kernel copies to user memory in pieces of any width, and a trigger
 * page takes only 8 bytes. So only empty slots are given to system calls.
 */
#include "uxive_selftest.h"
#include <linux/mman.h>

FIXTURE(mapping) {
	int fd;
	int efd;
};

/* A context with one interrupt, in slot 0. */
FIXTURE_SETUP(mapping)
{
	catch_touches();
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	self->efd = event_new();
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), self->efd));
}

FIXTURE_TEARDOWN(mapping)
{
	close(self->fd);
}

/* Defect 5 of ocxl: a private mapping of a trigger page is accepted. */
TEST_F(mapping, only_shared_and_only_for_writing)
{
	const struct {
		int prot, flags;
		bool refused;
	} cases[] = {
		{ PROT_WRITE, MAP_SHARED, false },
		{ PROT_WRITE, MAP_SHARED_VALIDATE, false },
		{ PROT_WRITE, MAP_PRIVATE, true },
		{ PROT_READ, MAP_PRIVATE, true },
		{ PROT_NONE, MAP_PRIVATE, true },
		{ PROT_READ, MAP_SHARED, true },
		{ PROT_READ | PROT_WRITE, MAP_SHARED, true },
		{ PROT_EXEC, MAP_SHARED, true },
		{ PROT_WRITE | PROT_EXEC, MAP_SHARED, true },
		{ PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, true },
		{ PROT_NONE, MAP_SHARED, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int ret = try_map(self->fd, IRQ_BASE, STRIDE, cases[i].prot, cases[i].flags);

		if (cases[i].refused) {
			EXPECT_ERRNO(mmap, EINVAL, ret)
				TH_LOG("case %zu", i);
		} else {
			EXPECT_EQ(0, ret)
				TH_LOG("case %zu", i);
		}
	}
}

TEST_F(mapping, only_within_the_window)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	const struct {
		__u64 offset;
		size_t length;
		bool refused;
	} cases[] = {
		{ IRQ_BASE, page, false },
		{ IRQ_BASE, WINDOW, false },
		{ slot_offset(SLOTS - 1), STRIDE, false },
		{ slot_offset(7), 100 * STRIDE, false },
		{ 0, STRIDE, true },
		{ IRQ_BASE - STRIDE, STRIDE, true },
		{ IRQ_BASE - STRIDE, 2 * STRIDE, true },
		{ IRQ_BASE, WINDOW + page, true },
		{ slot_offset(1), WINDOW, true },
		{ slot_offset(SLOTS - 1), 2 * STRIDE, true },
		{ slot_offset(SLOTS), STRIDE, true },
		{ IRQ_BASE + page / 2, STRIDE, true },
		{ IRQ_BASE | 1ULL << 48, STRIDE, true },
		{ IRQ_BASE | 1ULL << 62, STRIDE, true },
		{ IRQ_BASE, 0, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int ret = try_map(self->fd, cases[i].offset, cases[i].length, PROT_WRITE,
				  MAP_SHARED);

		if (cases[i].refused) {
			EXPECT_ERRNO(mmap, EINVAL, ret)
				TH_LOG("case %zu", i);
		} else {
			EXPECT_EQ(0, ret)
				TH_LOG("case %zu", i);
		}
	}
}

TEST_F(mapping, a_descriptor_without_write_access_cannot_map)
{
	const int modes[] = { O_RDONLY, O_WRONLY, O_ACCMODE };
	struct uxive_info info;

	ASSERT_EQ(0, ux_info(self->fd, &info));
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		const __u64 offsets[] = { IRQ_BASE, info.esb.offset, info.queue.offset };
		int fd = open(UXIVE_DEV, modes[i]);

		ASSERT_LE(0, fd);
		for (size_t at = 0; at < ARRAY_SIZE(offsets); at++) {
			EXPECT_ERRNO(mmap, EACCES,
				     try_map(fd, offsets[at], STRIDE, PROT_WRITE, MAP_SHARED))
				TH_LOG("mode %x, window %zu", modes[i], at);
			EXPECT_ERRNO(mmap, EACCES,
				     try_map(fd, offsets[at], STRIDE, PROT_READ | PROT_WRITE,
					     MAP_SHARED))
				TH_LOG("mode %x, window %zu", modes[i], at);
			/* Nor can it be mapped first, and made writable later. */
			for (int prot = PROT_NONE; prot <= PROT_READ; prot++) {
				int ret = try_map(fd, offsets[at], STRIDE, prot, MAP_SHARED);

				EXPECT_EQ(modes[i] == O_RDONLY ? -EINVAL : -EACCES, ret)
					TH_LOG("mode %x, window %zu", modes[i], at);
			}
		}
		close(fd);
	}
}

/* The radix MMU has no pages that can be written and not be read. */
TEST_F(mapping, a_load_is_all_ones_and_rings_nothing)
{
	__u64 *page = ux_map(self->fd, IRQ_BASE, STRIDE);

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, touch(page));
	ASSERT_EQ(1, event_wait(self->efd));
	for (size_t i = 0; i < sysconf(_SC_PAGESIZE) / sizeof(*page); i += 64) {
		EXPECT_EQ(~0ULL, __atomic_load_n(&page[i], __ATOMIC_RELAXED))
			TH_LOG("word %zu", i);
	}
	ASSERT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));
}

TEST_F(mapping, mprotect_cannot_add_read_or_exec)
{
	const int refused[] = {
		PROT_READ, PROT_READ | PROT_WRITE, PROT_EXEC,
		PROT_WRITE | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC,
	};
	void *page = ux_map(self->fd, IRQ_BASE, STRIDE);

	ASSERT_NE(MAP_FAILED, page);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		EXPECT_ERRNO(mprotect, EACCES, mprotect(page, STRIDE, refused[i]) ? -errno : 0)
			TH_LOG("case %zu", i);
	}
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));

	EXPECT_EQ(0, mprotect(page, STRIDE, PROT_NONE));
	EXPECT_EQ(SIGSEGV, touch(page));
	EXPECT_EQ(0, mprotect(page, STRIDE, PROT_WRITE));
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));
}

TEST_F(mapping, the_whole_window_is_populated_as_it_is_touched)
{
	const int irqs = 1000;
	void *window = ux_map(self->fd, IRQ_BASE, WINDOW);
	long before, first, second;

	/* Mapped first and filled later: the mapping follows. */
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, ux_fill(self->fd, irqs - 1));
	for (int i = 1; i < irqs; i++) {
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(i), self->efd))
			TH_LOG("slot %d", i);
		progress();
	}

	before = faults();
	for (int i = 0; i < irqs; i++) {
		ASSERT_EQ(0, touch(window + i * STRIDE)) TH_LOG("slot %d", i);
		ASSERT_EQ(1, event_wait(self->efd)) TH_LOG("slot %d", i);
		progress();
	}
	first = faults() - before;
	before = faults();
	for (int i = 0; i < irqs; i++) {
		ASSERT_EQ(0, touch(window + i * STRIDE)) TH_LOG("slot %d", i);
		ASSERT_EQ(1, event_wait(self->efd)) TH_LOG("slot %d", i);
		progress();
	}
	second = faults() - before;
	/* A fault brings the 64 pages around, as far as they are allocated. */
	EXPECT_LE(irqs / 64, first);
	EXPECT_GT(irqs / 4, first);
	EXPECT_GT(10, second);

	EXPECT_EQ(SIGBUS, touch(window + irqs * STRIDE));
	EXPECT_EQ(SIGBUS, touch(window + WINDOW - STRIDE));
	EXPECT_EQ(SIGBUS, touch(window + WINDOW - 8));
	EXPECT_EQ(0, event_read(self->efd));
}

TEST_F(mapping, a_slot_rings_its_own_interrupt)
{
	/* Slots 0 to 7, mapped in one, in parts, and each alone. */
	void *all = ux_map(self->fd, IRQ_BASE, 8 * STRIDE);
	void *tail = ux_map(self->fd, slot_offset(5), 3 * STRIDE);
	int efd[8];

	ASSERT_NE(MAP_FAILED, all);
	ASSERT_NE(MAP_FAILED, tail);
	ASSERT_EQ(0, ux_fill(self->fd, 7));
	for (int i = 0; i < 8; i++) {
		efd[i] = event_new();
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(i), efd[i]));
	}
	for (int i = 0; i < 8; i++) {
		void *alone = ux_map(self->fd, slot_offset(i), STRIDE);

		ASSERT_NE(MAP_FAILED, alone);
		EXPECT_EQ(0, touch(alone));
		EXPECT_EQ(1, event_wait(efd[i])) TH_LOG("alone, slot %d", i);
		EXPECT_EQ(0, touch(all + i * STRIDE));
		EXPECT_EQ(1, event_wait(efd[i])) TH_LOG("all, slot %d", i);
		if (i >= 5) {
			EXPECT_EQ(0, touch(tail + (i - 5) * STRIDE));
			EXPECT_EQ(1, event_wait(efd[i])) TH_LOG("tail, slot %d", i);
		}
	}
}

TEST_F(mapping, an_empty_slot_is_efault_in_a_system_call)
{
	void *empty = ux_map(self->fd, slot_offset(SLOTS - 1), STRIDE);
	int zero = open("/dev/zero", O_RDONLY), pipes[2];
	struct ocxl_ioctl_irq_fd *arg = empty;

	ASSERT_NE(MAP_FAILED, empty);
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(-1, read(zero, empty, 8));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, write(pipes[1], empty, 8));
	EXPECT_EQ(EFAULT, errno);

	/*
	 * The driver's own copies come here too, and the fault handler takes
	 * its lock: a copy under that lock would never return.
	 */
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EFAULT,
		     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_ALLOC, empty));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EFAULT, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_FREE, empty));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EFAULT,
		     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, arg));
	EXPECT_EQ(1, ux_count(self->fd));
}

TEST_F(mapping, a_freed_slot_is_sigbus_until_it_is_allocated_again)
{
	void *page = ux_map(self->fd, IRQ_BASE, STRIDE);
	__u64 offset;

	ASSERT_NE(MAP_FAILED, page);
	for (int n = 0; n < 50; n++) {
		ASSERT_EQ(0, touch(page)) TH_LOG("round %d", n);
		ASSERT_EQ(1, event_wait(self->efd)) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
		ASSERT_EQ(SIGBUS, touch(page)) TH_LOG("round %d", n);
		ASSERT_EQ(SIGBUS, touch(page)) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		ASSERT_EQ(IRQ_BASE, offset);
		ASSERT_EQ(0, ux_bind(self->fd, offset, self->efd));
	}
}

TEST_F(mapping, sigbus_uncaught_ends_the_process)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		void *window = ux_map(self->fd, IRQ_BASE, 4 * STRIDE);

		signal(SIGBUS, SIG_DFL);
		ring(window);
		ring(window + 2 * STRIDE);
		_exit(0);
	}
	EXPECT_EQ(-SIGBUS, child_status(pid));
	EXPECT_EQ(1, event_wait(self->efd));
}

TEST_F(mapping, every_mapping_loses_a_freed_page)
{
	void *one = ux_map(self->fd, IRQ_BASE, STRIDE);
	void *two = ux_map(self->fd, IRQ_BASE, WINDOW);
	int socks[2];
	char byte;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, one);
	ASSERT_NE(MAP_FAILED, two);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		void *page = ux_map(fd_receive(socks[1]), IRQ_BASE, STRIDE);

		if (page == MAP_FAILED || touch(page))
			_exit(1);
		/* Mapped and populated here too; now the parent frees. */
		if (write(socks[1], "m", 1) != 1 || read(socks[1], &byte, 1) != 1)
			_exit(2);
		_exit(touch(page) == SIGBUS ? 0 : 3);
	}
	ASSERT_TRUE(fd_send(socks[0], self->fd));
	ASSERT_EQ(1, read(socks[0], &byte, 1));
	EXPECT_EQ(1, event_wait(self->efd));
	EXPECT_EQ(0, touch(one));
	EXPECT_EQ(1, event_wait(self->efd));
	EXPECT_EQ(0, touch(two));
	EXPECT_EQ(1, event_wait(self->efd));

	ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
	EXPECT_EQ(SIGBUS, touch(one));
	EXPECT_EQ(SIGBUS, touch(two));
	ASSERT_EQ(1, write(socks[0], "f", 1));
	EXPECT_EQ(0, child_status(pid));
}

TEST_F(mapping, freeing_touches_no_other_page)
{
	int other = ux_open(), efd = event_new();
	void *mine, *neighbour, *theirs;
	long before;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(1), self->efd));
	ASSERT_EQ(0, ux_fill(other, 1));
	ASSERT_EQ(0, ux_bind(other, IRQ_BASE, efd));
	mine = ux_map(self->fd, IRQ_BASE, 2 * STRIDE);
	theirs = ux_map(other, IRQ_BASE, STRIDE);
	ASSERT_NE(MAP_FAILED, mine);
	ASSERT_NE(MAP_FAILED, theirs);
	neighbour = mine + STRIDE;
	ASSERT_EQ(0, touch(neighbour));
	ASSERT_EQ(1, event_wait(self->efd));
	ASSERT_EQ(0, touch(theirs));
	ASSERT_EQ(1, event_wait(efd));

	/*
	 * The same offset in another context has a page table of its own to be
	 * zapped from: neither page needs to fault in again.
	 */
	faults();
	ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
	before = faults();
	ring(neighbour);
	ring(theirs);
	EXPECT_EQ(before, faults());
	EXPECT_EQ(1, event_wait(self->efd));
	EXPECT_EQ(1, event_wait(efd));
	close(other);
}

TEST_F(mapping, a_part_can_be_unmapped)
{
	void *window = ux_map(self->fd, IRQ_BASE, 8 * STRIDE);

	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, ux_fill(self->fd, 7));
	for (int i = 0; i < 8; i++) {
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(i), self->efd));
		ASSERT_EQ(0, touch(window + i * STRIDE));
		ASSERT_EQ(1, event_wait(self->efd));
	}
	ASSERT_EQ(0, munmap(window + 2 * STRIDE, 3 * STRIDE));
	for (int i = 0; i < 8; i++) {
		bool gone = i >= 2 && i < 5;

		EXPECT_EQ(gone ? SIGSEGV : 0, touch(window + i * STRIDE))
			TH_LOG("slot %d", i);
		if (!gone)
			EXPECT_EQ(1, event_wait(self->efd)) TH_LOG("slot %d", i);
	}
	/* The remaining pages still belong to their slots. */
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(6)));
	EXPECT_EQ(SIGBUS, touch(window + 6 * STRIDE));
	EXPECT_EQ(0, touch(window + 7 * STRIDE));
	EXPECT_EQ(1, event_wait(self->efd));
}

TEST_F(mapping, a_mapping_can_move_but_not_grow)
{
	void *old = ux_map(self->fd, IRQ_BASE, STRIDE);
	void *room = mmap(NULL, 2 * STRIDE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *new;

	ASSERT_NE(MAP_FAILED, old);
	ASSERT_NE(MAP_FAILED, room);
	ASSERT_EQ(0, touch(old));
	ASSERT_EQ(1, event_wait(self->efd));

	new = mremap(old, STRIDE, 2 * STRIDE, MREMAP_MAYMOVE);
	EXPECT_ERRNO(mremap, EFAULT, new == MAP_FAILED ? -errno : 0);
	/* Old size 0 would be a second mapping of a shared page. */
	new = mremap(old, 0, STRIDE, MREMAP_MAYMOVE);
	EXPECT_ERRNO(mremap, EFAULT, new == MAP_FAILED ? -errno : 0);
	/* And this would leave the first one behind. */
	new = mremap(old, STRIDE, STRIDE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	EXPECT_ERRNO(mremap, EINVAL, new == MAP_FAILED ? -errno : 0);
	EXPECT_EQ(0, touch(old));
	EXPECT_EQ(1, event_wait(self->efd));

	new = mremap(old, STRIDE, STRIDE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	ASSERT_EQ(room, new);
	EXPECT_EQ(SIGSEGV, touch(old));
	EXPECT_EQ(0, touch(new));
	EXPECT_EQ(1, event_wait(self->efd));
	ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
	EXPECT_EQ(SIGBUS, touch(new)) TH_LOG("stale where it moved to");
}

TEST_F(mapping, advice_neither_drops_a_page_nor_keeps_it)
{
	const struct {
		int advice;
		bool refused;
	} tries[] = {
		{ MADV_DONTNEED, true },
		{ MADV_DONTNEED_LOCKED, true },
		{ MADV_FREE, true },
		{ MADV_COLD, true },
		{ MADV_PAGEOUT, true },
		{ MADV_POPULATE_READ, true },
		{ MADV_POPULATE_WRITE, true },
		{ MADV_GUARD_INSTALL, true },
		{ MADV_WIPEONFORK, true },
		{ MADV_DODUMP, true },
		{ MADV_DOFORK, true },
		/* Ignored, or refused in more than one way. */
		{ MADV_NORMAL, false },
		{ MADV_RANDOM, false },
		{ MADV_SEQUENTIAL, false },
		{ MADV_WILLNEED, false },
		{ MADV_REMOVE, false },
		{ MADV_DONTDUMP, false },
		{ MADV_KEEPONFORK, false },
		{ MADV_MERGEABLE, false },
		{ MADV_UNMERGEABLE, false },
		{ MADV_HUGEPAGE, false },
		{ MADV_NOHUGEPAGE, false },
		{ MADV_COLLAPSE, false },
		{ MADV_GUARD_REMOVE, false },
	};
	void *page = ux_map(self->fd, IRQ_BASE, STRIDE);
	long before;

	ASSERT_NE(MAP_FAILED, page);
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		int ret;

		ASSERT_EQ(0, touch(page));
		ASSERT_EQ(1, event_wait(self->efd));
		ret = madvise(page, STRIDE, tries[i].advice) ? -errno : 0;
		if (tries[i].refused) {
			EXPECT_ERRNO(madvise, EINVAL, ret)
				TH_LOG("advice %d", tries[i].advice);
		}
		before = faults();
		ring(page);
		EXPECT_EQ(before, faults()) TH_LOG("advice %d", tries[i].advice);
		ASSERT_EQ(1, event_wait(self->efd));

		ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
		EXPECT_EQ(SIGBUS, touch(page)) TH_LOG("advice %d", tries[i].advice);
		ASSERT_EQ(0, ux_fill(self->fd, 1));
		ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, self->efd));
	}
}

TEST_F(mapping, a_child_does_not_have_what_is_advised_so)
{
	void *page = ux_map(self->fd, IRQ_BASE, STRIDE);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, madvise(page, STRIDE, MADV_DONTFORK));
	ASSERT_EQ(0, touch(page));
	ASSERT_EQ(1, event_wait(self->efd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(touch(page));
	EXPECT_EQ(SIGSEGV, child_status(pid));
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));
}

/* Memory that this process has locked, in KiB; -1 if the kernel does not say. */
static long locked(void)
{
	const char *size = line_after("/proc/self/status", "VmLck:");

	return size ? atol(size) : -1;
}

TEST_F(mapping, a_locked_page_goes_when_it_is_freed)
{
	const int flags[] = { MAP_LOCKED, MAP_POPULATE, MAP_LOCKED | MAP_POPULATE };
	void *page = ux_map(self->fd, IRQ_BASE, 2 * STRIDE);

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, locked());
	/* There is nothing to be kept in memory, in an empty slot or in another. */
	EXPECT_EQ(0, mlock(page, 2 * STRIDE));
	EXPECT_EQ(0, mlock2(page, 2 * STRIDE, MLOCK_ONFAULT));
	EXPECT_EQ(0, locked());
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));
	EXPECT_EQ(SIGBUS, touch(page + STRIDE));
	EXPECT_EQ(0, mlock(page, STRIDE));
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		void *other = mmap(NULL, 2 * STRIDE, PROT_WRITE, MAP_SHARED | flags[i],
				   self->fd, IRQ_BASE);

		ASSERT_NE(MAP_FAILED, other) TH_LOG("flags %zu", i);
		EXPECT_EQ(0, touch(other)) TH_LOG("flags %zu", i);
		EXPECT_EQ(1, event_wait(self->efd)) TH_LOG("flags %zu", i);
		EXPECT_EQ(SIGBUS, touch(other + STRIDE)) TH_LOG("flags %zu", i);
	}
	EXPECT_EQ(0, locked());

	ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
	EXPECT_EQ(SIGBUS, touch(page));
	EXPECT_EQ(0, munlock(page, 2 * STRIDE));
	EXPECT_EQ(SIGBUS, touch(page));
}

/* A user who may lock in memory as much as the limit says. */
#define ANYBODY		1000
#define LIMIT		(16 * STRIDE)

static int lock_limit(rlim_t limit)
{
	struct rlimit now = { limit, limit };

	return setrlimit(RLIMIT_MEMLOCK, &now);
}

/* Maps @length bytes, locked if @flags say so; they ring. 0 or a negative errno. */
static int map_and_ring(int fd, int efd, size_t length, int flags)
{
	void *page = mmap(NULL, length, PROT_WRITE, MAP_SHARED | flags, fd, IRQ_BASE);

	if (page == MAP_FAILED)
		return -errno;
	/* It stays mapped, so that it counts if anything does. */
	return touch(page) || event_wait(efd) != 1 ? -EIO : 0;
}

TEST_F(mapping, a_lock_is_held_against_the_limit_but_nothing_counts_in_it)
{
	void *page = ux_map(self->fd, IRQ_BASE, 2 * LIMIT);

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, lock_limit(LIMIT));
	ASSERT_EQ(0, seteuid(ANYBODY));

	/* Each call may ask for the whole of the limit, and gets it again. */
	for (int n = 0; n < 3; n++) {
		EXPECT_EQ(0, mlock(page, LIMIT));
		EXPECT_EQ(0, mlock2(page + LIMIT, LIMIT, MLOCK_ONFAULT));
		EXPECT_EQ(0, map_and_ring(self->fd, self->efd, LIMIT, MAP_LOCKED));
	}
	EXPECT_EQ(0, locked());
	EXPECT_ERRNO(mlock, ENOMEM, mlock(page, LIMIT + STRIDE) ? -errno : 0);
	EXPECT_ERRNO(mlock, ENOMEM, mlock2(page, LIMIT + STRIDE, MLOCK_ONFAULT) ? -errno : 0);
	EXPECT_ERRNO(mmap, EAGAIN,
		     map_and_ring(self->fd, self->efd, LIMIT + STRIDE, MAP_LOCKED));

	/* Of all that is mapped, which mappings of a window are part of. */
	EXPECT_ERRNO(mlockall, ENOMEM, mlockall(MCL_CURRENT) ? -errno : 0);
	EXPECT_EQ(0, locked());

	ASSERT_EQ(0, seteuid(0));
	EXPECT_EQ(0, mlock(page, 2 * LIMIT));
	EXPECT_EQ(0, map_and_ring(self->fd, self->efd, WINDOW, MAP_LOCKED));
	EXPECT_EQ(0, locked());
}

TEST_F(mapping, what_is_mapped_under_mcl_future_is_held_against_the_limit)
{
	int beyond, within[3];
	long after;

	/* Allocate the heap for this before it would be locked. */
	ASSERT_EQ(0, locked());
	ASSERT_EQ(0, lock_limit(LIMIT));
	ASSERT_EQ(0, seteuid(ANYBODY));
	ASSERT_EQ(0, mlockall(MCL_FUTURE));
	beyond = map_and_ring(self->fd, self->efd, WINDOW, 0);
	for (int n = 0; n < 3; n++)
		within[n] = map_and_ring(self->fd, self->efd, LIMIT / 2, 0);
	after = locked();
	ASSERT_EQ(0, munlockall());

	EXPECT_ERRNO(mmap, EAGAIN, beyond);
	for (int n = 0; n < 3; n++) {
		EXPECT_EQ(0, within[n])
			TH_LOG("mapping %d", n);
	}
	EXPECT_EQ(0, after);
}

TEST_F(mapping, without_a_limit_nothing_is_locked)
{
	void *page = ux_map(self->fd, IRQ_BASE, STRIDE);

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, lock_limit(0));
	ASSERT_EQ(0, seteuid(ANYBODY));
	EXPECT_ERRNO(mlock, EPERM, mlock(page, STRIDE) ? -errno : 0);
	EXPECT_ERRNO(mlockall, EPERM, mlockall(MCL_FUTURE) ? -errno : 0);
	EXPECT_ERRNO(mmap, EPERM, map_and_ring(self->fd, self->efd, STRIDE, MAP_LOCKED));
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd));
}

#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"

/*
 * More than a process can have unless root lets it: by the context and by an export, in turn.
 * An export has as many as it may, then there is another.
 */
TEST_F(mapping, all_of_65000_mappings_lose_a_freed_page)
{
	const long count = fewer_with_lockdep(65000, 5000);
	int bell = -1;
	void **pages = calloc(count, sizeof(*pages));
	long max = file_number(MAX_MAP_COUNT), there = 0, muted = 0;
	char text[32];

	ASSERT_NE(NULL, pages);
	ASSERT_LT(0, max);
	snprintf(text, sizeof(text), "%ld\n", count + 1000);
	ASSERT_EQ(0, file_write(MAX_MAP_COUNT, text));
	for (long i = 0; i < count; i++) {
		if (i % (2 * 128) == 0) {
			/* Its mappings keep it. */
			close(bell);
			bell = ux_export(self->fd, 0, 1, NULL);
			ASSERT_LE(0, bell);
		}
		pages[i] = i % 2 ? ux_map(bell, 0, STRIDE) : ux_map(self->fd, IRQ_BASE, STRIDE);
		ASSERT_NE(MAP_FAILED, pages[i]) TH_LOG("mapping %ld", i);
		/* Another ring before this one is handled would be one with it. */
		muted += touch(pages[i]) || event_wait(self->efd) != 1;
		progress();
	}
	EXPECT_EQ(0, muted);
	ASSERT_EQ(0, ux_free(self->fd, IRQ_BASE));
	for (long i = 0; i < count; i++) {
		there += touch(pages[i]) != SIGBUS;
		progress();
	}
	EXPECT_EQ(0, there);
	/*
	 * The next interrupt in its slot shows in the context's mappings, and
	 * in none of the export's.
	 */
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, self->efd));
	EXPECT_EQ(0, touch(pages[count - 2]));
	EXPECT_EQ(1, event_wait(self->efd));
	EXPECT_EQ(SIGBUS, touch(pages[count - 1]));
	for (long i = 0; i < count; i++) {
		munmap(pages[i], STRIDE);
		progress();
	}
	snprintf(text, sizeof(text), "%ld\n", max);
	EXPECT_EQ(0, file_write(MAX_MAP_COUNT, text));
	free(pages);
	close(bell);
}

TEST_F(mapping, a_child_inherits_the_mapping_and_loses_pages_alike)
{
	void *window = ux_map(self->fd, IRQ_BASE, 2 * STRIDE);
	int socks[2];
	long rang = 0;
	char byte;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(1), self->efd));
	ASSERT_EQ(0, touch(window));
	ASSERT_EQ(1, event_wait(self->efd));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* One page that the parent has touched, and one that it has not. */
		if (touch(window) || touch(window + STRIDE))
			_exit(1);
		if (write(socks[1], "t", 1) != 1 || read(socks[1], &byte, 1) != 1)
			_exit(2);
		if (touch(window) != SIGBUS || touch(window + STRIDE))
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(1, read(socks[0], &byte, 1));
	while (rang < 2) {
		long count = event_wait(self->efd);

		ASSERT_LT(0, count);
		rang += count;
	}
	EXPECT_EQ(2, rang);
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(0)));
	ASSERT_EQ(1, write(socks[0], "f", 1));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(1, event_wait(self->efd));
}

TEST_HARNESS_MAIN
