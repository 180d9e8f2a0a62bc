// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: every step can fail; its errno is a documented one, it leaves what
 * was there before, and the next try works.
 *
 * Each call is repeated with its first, second, third, ... allocation of memory,
 * copy from or to the user, or call of firmware or of the irq core failing, until
 * it succeeds because it has no more of them (Documentation/fault-injection,
 * fail-nth). For kernels that have FAULT_INJECTION_STACKTRACE_FILTER and
 * FAIL_FUNCTION.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_fixture.h"
#include <sys/inotify.h>

#define KUNIT		"/sys/module/kunit/parameters"
#define MAX_STEPS	500

static bool prepared;

/* A call that is repeated: which step is to fail, whether it did, the errors. */
struct steps {
	int nth;	/* /proc/thread-self/fail-nth */
	int step;
	bool hit;
	int fatal, unexpected;
	/* By error. */
	bool seen[128];
};

FIXTURE(faults) {
	int fd;
	struct use before;
	long vp;
	struct steps steps;
};

FIXTURE_SETUP(faults)
{
	catch_touches();
	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepared) TH_LOG("faults cannot be selected by their stack");
	ASSERT_TRUE(select_faults(MEMORY | USER_COPY | DRIVER));
	/* Contexts of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(all_irqs(), 0));
	self->before = use_now();
	self->vp = lowest_vp();
	ASSERT_LT(0, self->vp);
	self->steps.nth = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, self->steps.nth);
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(faults)
{
	close(self->steps.nth);
	close(self->fd);
	select_faults(0);
	/* If the test has not come to it. */
	write_file(FAILSLAB, "probability", "0");
	write_file(FAILSLAB, "task-filter", "N");
	/* Nothing is left, neither here nor with firmware. */
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TABLES_EMPTY();
	EXPECT_EQ(0, all_irqs());
	EXPECT_EQ(self->vp, lowest_vp());
}

/* Before the call: its next step is to fail; false once it has no more. */
static bool next_fault(struct steps *steps)
{
	if ((steps->step && !steps->hit) || steps->step == MAX_STEPS)
		return false;
	progress();
	arm(steps->nth, ++steps->step);
	return true;
}

/* Right after it. */
static void end_fault(struct steps *steps, int ret)
{
	steps->hit = disarm(steps->nth);
	if (ret >= 0)
		return;
	steps->fatal++;
	/* Without a fault it must succeed. */
	if (steps->hit && ret > -128)
		steps->seen[-ret] = true;
	else
		steps->unexpected = ret;
}

/*
 * All steps of @call have been tried, and they failed with each of these errors,
 * which are documented for it (see EXPECT_ERRNO), and no other.
 */
#define EXPECT_FAULTS(call, ...) do {					\
	const int errors[] = { __VA_ARGS__ };				\
									\
	TH_LOG(#call ": %d steps, of which %d are fatal",		\
	       self->steps.step - 1, self->steps.fatal);		\
	EXPECT_FALSE(self->steps.hit);					\
	EXPECT_EQ(0, self->steps.unexpected);				\
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {	\
		EXPECT_TRUE(self->steps.seen[errors[i]])		\
			TH_LOG("%s did not come", strerror(errors[i]));	\
		self->steps.seen[errors[i]] = false;			\
	}								\
	for (int error = 0; error < 128; error++) {			\
		EXPECT_FALSE(self->steps.seen[error])			\
			TH_LOG("%s came", strerror(error));		\
	}								\
} while (0)

TEST_F(faults, open_fails_clean)
{
	/* Not the copy of the path. */
	ASSERT_TRUE(select_faults(MEMORY | DRIVER));
	while (next_fault(&self->steps)) {
		int fd = ux_open();

		end_fault(&self->steps, fd);
		if (fd < 0)
			continue;
		EXPECT_EQ(0, ux_fill(fd, 1));
		close(fd);
	}
	EXPECT_FAULTS(open, ENOMEM);
}

TEST_F(faults, alloc_leaves_nothing_behind)
{
	__u64 offset;

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	for (;;) {
		/* The first interrupt of a context, which sets up the queue. */
		int fd = ux_open(), ret;

		ASSERT_LE(0, fd);
		if (!next_fault(&self->steps)) {
			close(fd);
			break;
		}
		ret = ux_alloc(fd, &offset);
		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? 0 : 1, ux_count(fd));
		/* No queue is left either. */
		if (ret)
			EXPECT_EQ(self->before.linux_irqs, linux_irqs());
		if (ret)
			ASSERT_EQ(0, ux_alloc(fd, &offset));
		EXPECT_EQ(IRQ_BASE, offset);
		close(fd);
		EXPECT_TRUE(becomes(linux_irqs(), self->before.linux_irqs));
	}
	EXPECT_FAULTS(OCXL_IOCTL_IRQ_ALLOC, ENOMEM, EFAULT, ENOSPC, EIO, ENXIO);
}

TEST_F(faults, further_allocs_leave_nothing_behind)
{
	__u64 offset;

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	while (next_fault(&self->steps)) {
		int ret = ux_alloc(self->fd, &offset);

		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? 1 : 2, ux_count(self->fd));
		if (ret)
			ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		EXPECT_EQ(slot_offset(1), offset);
		ASSERT_EQ(0, ux_free(self->fd, offset));
	}
	EXPECT_FAULTS(OCXL_IOCTL_IRQ_ALLOC, EFAULT, ENXIO);
}

TEST_F(faults, alloc_on_a_chip_leaves_nothing_behind)
{
	__u64 offset;

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	for (;;) {
		int fd = ux_open(), ret;

		ASSERT_LE(0, fd);
		if (!next_fault(&self->steps)) {
			close(fd);
			break;
		}
		ret = ux_alloc_on(fd, 0, &offset);
		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? 0 : 1, ux_count(fd));
		if (ret)
			ASSERT_EQ(0, ux_alloc_on(fd, 0, &offset));
		EXPECT_EQ(IRQ_BASE, offset);
		close(fd);
		EXPECT_TRUE(becomes(linux_irqs(), self->before.linux_irqs));
	}
	EXPECT_FAULTS(UXIVE_IOC_IRQ_ALLOC, ENOMEM, EFAULT, ENOSPC, EIO, ENXIO);
}

TEST_F(faults, user_drain_leaves_nothing_behind)
{
	int efd = event_new();

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	for (;;) {
		struct uxive_user_drain arg = ux_drain_arg(efd);
		int fd = ux_open(), ret;

		ASSERT_LE(0, fd);
		if (!next_fault(&self->steps)) {
			close(fd);
			break;
		}
		ret = ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, &arg);
		end_fault(&self->steps, ret);
		arg = ux_drain_arg(efd);
		if (ret)
			ASSERT_EQ(0, ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, &arg));
		EXPECT_EQ(0, ux_fill(fd, 1));
		close(fd);
		EXPECT_TRUE(becomes(linux_irqs(), self->before.linux_irqs));
	}
	EXPECT_FAULTS(UXIVE_IOC_USER_DRAIN, ENOMEM, EFAULT, ENOSPC, EIO);
	close(efd);
}

TEST_F(faults, info_and_features_can_be_asked_again)
{
	struct ocxl_ioctl_features features;
	struct uxive_info info;

	while (next_fault(&self->steps))
		end_fault(&self->steps, ux_info(self->fd, &info));
	EXPECT_FAULTS(UXIVE_IOC_INFO, EFAULT);

	self->steps = (struct steps){ .nth = self->steps.nth };
	while (next_fault(&self->steps))
		end_fault(&self->steps,
			  ux_ioctl(self->fd, OCXL_IOCTL_GET_FEATURES, &features));
	EXPECT_FAULTS(OCXL_IOCTL_GET_FEATURES, EFAULT);
}

TEST_F(faults, set_fd_keeps_the_old_eventfd)
{
	int old = event_new(), new = event_new();
	void *page;

	ASSERT_EQ(0, ux_fill(self->fd, 1));
	page = ux_map(self->fd, IRQ_BASE, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, old));
	while (next_fault(&self->steps)) {
		int ret = ux_bind(self->fd, IRQ_BASE, new);

		end_fault(&self->steps, ret);
		ring(page);
		EXPECT_EQ(1, event_wait(ret ? old : new));
		EXPECT_EQ(0, event_read(ret ? new : old));
		ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, old));
	}
	EXPECT_FAULTS(OCXL_IOCTL_IRQ_SET_FD, EFAULT);
	munmap(page, STRIDE);
	close(old);
	close(new);
}

TEST_F(faults, free_needs_no_memory)
{
	/* Removing a descriptor from its table cannot fail. Hardware can: see quarantine.c. */
	ASSERT_TRUE(select_faults(USER_COPY));
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	while (next_fault(&self->steps)) {
		int ret = ux_free(self->fd, IRQ_BASE);

		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? 1 : 0, ux_count(self->fd));
		ASSERT_EQ(0, ret ? 0 : ux_fill(self->fd, 1));
	}
	EXPECT_FAULTS(OCXL_IOCTL_IRQ_FREE, EFAULT);
}

/* Of so many, each with an eventfd of its own. */
#define BATCH	5

struct batch {
	__s32 efds[BATCH];
};

TEST_F(faults, a_batch_leaves_nothing_behind)
{
	struct batch batch;
	int held;

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	events_new(batch.efds, BATCH);
	held = events_in_use();
	for (;;) {
		/* The first interrupts of a context, which set up the queue. */
		int fd = ux_open(), ret;
		__u32 start;

		ASSERT_LE(0, fd);
		if (!next_fault(&self->steps)) {
			close(fd);
			break;
		}
		ret = ux_alloc_many(fd, BATCH, batch.efds, &start);
		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? 0 : BATCH, ux_count(fd));
		ASSERT_EQ(ret ? 0 : BATCH, total_irqs(fd));
		EXPECT_EQ(held, events_in_use());
		/* No queue is left either. */
		if (ret)
			EXPECT_EQ(self->before.linux_irqs, linux_irqs());
		if (ret)
			ASSERT_EQ(0, ux_alloc_many(fd, BATCH, batch.efds, &start));
		EXPECT_EQ(0U, start);
		ASSERT_EQ(-1, first_mute(fd, start, batch.efds, BATCH))
			TH_LOG("step %d", self->steps.step);
		close(fd);
		EXPECT_TRUE(becomes(linux_irqs(), self->before.linux_irqs));
	}
	EXPECT_FAULTS(UXIVE_IOC_IRQ_ALLOC_MANY, ENOMEM, EFAULT, ENOSPC, EIO, ENXIO);
	events_close(batch.efds, BATCH);
}

TEST_F(faults, further_batches_leave_nothing_behind)
{
	struct batch first, batch;
	__u32 start = 0;
	int held;

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	events_new(first.efds, BATCH);
	events_new(batch.efds, BATCH);
	ASSERT_EQ(0, ux_alloc_many(self->fd, BATCH, first.efds, &start));
	/* At the end, and from the chip and where it is asked for: there the table grows. */
	for (int at = 0; at < 2; at++) {
		__u32 flags = at ? UXIVE_ALLOC_CHIP | UXIVE_ALLOC_AT : 0;

		held = events_in_use();
		while (next_fault(&self->steps)) {
			int ret;

			start = at ? 1000 + 64 * self->steps.step : 0;
			ret = ux_alloc_many_of(self->fd, flags, 0, BATCH, batch.efds, &start);
			end_fault(&self->steps, ret);
			ASSERT_EQ(ret ? BATCH : 2 * BATCH, ux_count(self->fd));
			ASSERT_EQ(ret ? BATCH : 2 * BATCH, total_irqs(self->fd));
			EXPECT_EQ(held, events_in_use());
			if (ret) {
				start = at ? 1000 + 64 * self->steps.step : 0;
				ASSERT_EQ(0, ux_alloc_many_of(self->fd, flags, 0, BATCH,
							      batch.efds, &start));
			}
			EXPECT_EQ(at ? 1000U + 64 * self->steps.step : BATCH, start);
			ASSERT_EQ(-1, first_mute(self->fd, start, batch.efds, BATCH));
			ASSERT_EQ(-1, first_mute(self->fd, 0, first.efds, BATCH));
			ASSERT_EQ(0, ux_free_many(self->fd, start, BATCH));
		}
		EXPECT_FAULTS(UXIVE_IOC_IRQ_ALLOC_MANY, EFAULT, ENXIO);
		self->steps = (struct steps){ .nth = self->steps.nth };
	}
	events_close(first.efds, BATCH);
	events_close(batch.efds, BATCH);
}

TEST_F(faults, a_batch_is_freed_whole_or_not_at_all)
{
	struct batch batch;
	__u32 start;

	/* Hardware that does not go quiet is tested in quarantine.c. */
	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY));
	events_new(batch.efds, BATCH);
	ASSERT_EQ(0, ux_alloc_many(self->fd, BATCH, batch.efds, &start));
	while (next_fault(&self->steps)) {
		int ret = ux_free_many(self->fd, 0, BATCH);

		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? BATCH : 0, ux_count(self->fd));
		ASSERT_EQ(ret ? BATCH : 0, total_irqs(self->fd));
		if (!ret)
			ASSERT_EQ(0, ux_alloc_many(self->fd, BATCH, batch.efds, &start));
		ASSERT_EQ(-1, first_mute(self->fd, 0, batch.efds, BATCH));
	}
	EXPECT_FAULTS(UXIVE_IOC_IRQ_FREE_MANY, EFAULT);
	events_close(batch.efds, BATCH);
}

#define BIND	(UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER)
#define MASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_MASK)
#define UNMASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK)

TEST_F(faults, set_irqs_leaves_bound_what_was)
{
	struct batch old, new;
	__u32 start;
	int held;

	events_new(old.efds, BATCH);
	events_new(new.efds, BATCH);
	ASSERT_EQ(0, ux_alloc_many(self->fd, BATCH, old.efds, &start));
	held = events_in_use();
	while (next_fault(&self->steps)) {
		int ret = ux_set_irqs(self->fd, BIND, 0, BATCH, new.efds);

		end_fault(&self->steps, ret);
		ASSERT_EQ(-1, first_mute(self->fd, 0, ret ? old.efds : new.efds, BATCH));
		for (int i = 0; i < BATCH; i++)
			EXPECT_EQ(0, event_read(ret ? new.efds[i] : old.efds[i]));
		ASSERT_EQ(0, ux_set_irqs(self->fd, BIND, 0, BATCH, old.efds));
		EXPECT_EQ(held, events_in_use());
	}
	EXPECT_FAULTS(UXIVE_IOC_SET_IRQS, EFAULT);
	events_close(old.efds, BATCH);
	events_close(new.efds, BATCH);
}

TEST_F(faults, set_irqs_masks_all_or_none)
{
	const __u32 actions[] = { UXIVE_SET_MASK, UXIVE_SET_UNMASK, UXIVE_SET_TRIGGER };
	const __u8 bools[BATCH] = { 1, 0, 1, 0, 1 };
	struct ux_irq irqs[BATCH];
	struct batch batch;
	__u32 start;
	void *pages;

	events_new(batch.efds, BATCH);
	ASSERT_EQ(0, ux_alloc_many(self->fd, BATCH, batch.efds, &start));
	pages = ux_map(self->fd, IRQ_BASE, BATCH * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (size_t action = 0; action < ARRAY_SIZE(actions); action++) {
		bool unmasks = actions[action] == UXIVE_SET_UNMASK;
		bool raises = actions[action] == UXIVE_SET_TRIGGER;

		__u32 before = unmasks ? MASK : UNMASK;

		self->steps = (struct steps){ .nth = self->steps.nth };
		ASSERT_EQ(0, ux_set_irqs(self->fd, before, 0, BATCH, NULL));
		while (next_fault(&self->steps)) {
			int ret = ux_set_irqs(self->fd, UXIVE_SET_DATA_BOOL | actions[action], 0,
					      BATCH, bools);

			end_fault(&self->steps, ret);
			ASSERT_EQ(BATCH, ux_irqs(self->fd, irqs, BATCH));
			for (int i = 0; i < BATCH; i++) {
				bool done = !ret && !raises && bools[i];

				EXPECT_EQ(unmasks != done, irqs[i].masked)
					TH_LOG("step %d, slot %d", self->steps.step, i);
				if (raises && !ret && bools[i])
					EXPECT_EQ(1, event_wait(batch.efds[i]));
			}
			ASSERT_EQ(0, ux_set_irqs(self->fd, UNMASK, 0, BATCH, NULL));
			ASSERT_EQ(-1, first_mute(self->fd, 0, batch.efds, BATCH));
			ASSERT_EQ(0, ux_set_irqs(self->fd, before, 0, BATCH, NULL));
		}
		EXPECT_FAULTS(UXIVE_IOC_SET_IRQS, EFAULT);
	}
	munmap(pages, BATCH * STRIDE);
	events_close(batch.efds, BATCH);
}

/*
 * Makes every kmalloc of this task fail, or ends that. The kernel makes up for a single
 * failure where memory can come from elsewhere, as for a table.
 */
static bool starve(int make_it_fail, bool starved)
{
	if (starved)
		return write_file(FAILSLAB, "task-filter", "Y") &&
		       write_file(FAILSLAB, "times", "-1") &&
		       write_file(FAILSLAB, "probability", "100") &&
		       pwrite(make_it_fail, "1", 1, 0) == 1;
	return pwrite(make_it_fail, "0", 1, 0) == 1 && write_file(FAILSLAB, "probability", "0") &&
	       write_file(FAILSLAB, "task-filter", "N");
}

TEST_F(faults, calls_for_many_without_memory_change_nothing)
{
	int make_it_fail = open("/proc/thread-self/make-it-fail", O_RDWR);
	int alloc, plain, free, bind, mask, range;
	const __u8 bools[BATCH] = { 1, 1, 1, 1, 1 };
	struct batch old, new;
	__u32 start;

	ASSERT_LE(0, make_it_fail);
	ASSERT_TRUE(select_faults(KMALLOC));
	events_new(old.efds, BATCH);
	events_new(new.efds, BATCH);
	ASSERT_EQ(0, ux_alloc_many(self->fd, BATCH, old.efds, &start));
	ASSERT_TRUE(starve(make_it_fail, true));
	alloc = ux_alloc_many(self->fd, BATCH, new.efds, &start);
	plain = ux_alloc_many(self->fd, BATCH, NULL, &start);
	free = ux_free_many(self->fd, 0, BATCH);
	bind = ux_set_irqs(self->fd, BIND, 0, BATCH, new.efds);
	mask = ux_set_irqs(self->fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_MASK, 0, BATCH, bools);
	range = ux_range(self->fd, 10);
	ASSERT_TRUE(starve(make_it_fail, false));
	EXPECT_EQ(BATCH, ux_count(self->fd));
	EXPECT_EQ(BATCH, total_irqs(self->fd));
	EXPECT_EQ(-1, first_mute(self->fd, 0, old.efds, BATCH));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOMEM, alloc);
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENOMEM, plain);
	EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_MANY, ENOMEM, free);
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, ENOMEM, bind);
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, ENOMEM, mask);
	EXPECT_ERRNO(UXIVE_IOC_RANGE, ENOMEM, range);

	/* To free all needs none. */
	ASSERT_TRUE(starve(make_it_fail, true));
	free = ux_free_all(self->fd);
	ASSERT_TRUE(starve(make_it_fail, false));
	EXPECT_EQ(0, free);
	EXPECT_EQ(0, ux_count(self->fd));
	EXPECT_EQ(0, total_irqs(self->fd));
	events_close(old.efds, BATCH);
	events_close(new.efds, BATCH);
	close(make_it_fail);
}

TEST_F(faults, a_range_leaves_nothing_behind)
{
	int fds = fds_open();

	while (next_fault(&self->steps)) {
		int fd = ux_range(self->fd, 10000);

		end_fault(&self->steps, fd);
		if (fd < 0) {
			EXPECT_EQ(fds, fds_open()) TH_LOG("step %d", self->steps.step);
			EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 1));
			continue;
		}
		EXPECT_EQ(fds + 1, fds_open());
		EXPECT_EQ(0, ux_fill(fd, 1));
		close(fd);
	}
	EXPECT_FAULTS(UXIVE_IOC_RANGE, ENOMEM, EFAULT, EACCES, EMFILE, ENFILE);
	EXPECT_EQ(0, ux_fill(self->fd, 1));
}

/* The queue of one that is large has other memory than that of a context. */
TEST_F(faults, a_batch_in_a_range_leaves_nothing_behind)
{
	struct batch batch;
	int held;

	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	events_new(batch.efds, BATCH);
	held = events_in_use();
	for (;;) {
		int fd = ux_range(self->fd, 65536), ret;
		__u32 start = 65536 - BATCH;

		ASSERT_LE(0, fd);
		if (!next_fault(&self->steps)) {
			close(fd);
			break;
		}
		ret = ux_alloc_many_of(fd, UXIVE_ALLOC_AT, 0, BATCH, batch.efds, &start);
		end_fault(&self->steps, ret);
		ASSERT_EQ(ret ? 0 : BATCH, ux_count(fd));
		ASSERT_EQ(ret ? 0 : BATCH, total_irqs(fd));
		EXPECT_EQ(held, events_in_use());
		if (ret) {
			EXPECT_EQ(self->before.linux_irqs, linux_irqs());
			start = 65536 - BATCH;
			ASSERT_EQ(0, ux_alloc_many_of(fd, UXIVE_ALLOC_AT, 0, BATCH, batch.efds,
						      &start));
		}
		ASSERT_EQ(-1, first_mute(fd, start, batch.efds, BATCH));
		close(fd);
		EXPECT_TRUE(becomes(linux_irqs(), self->before.linux_irqs));
	}
	EXPECT_FAULTS(UXIVE_IOC_IRQ_ALLOC_MANY, ENOMEM, EFAULT, ENOSPC, EIO, ENXIO);
	events_close(batch.efds, BATCH);
}

TEST_F(faults, read_loses_no_event)
{
	struct uxive_event event;
	__u64 offset;
	int ret;

	/* Something to read: that there is no VP. */
	ASSERT_TRUE(select_faults(DRIVER));
	for (int nth = 1; nth < MAX_STEPS; nth++) {
		arm(self->steps.nth, nth);
		ret = ux_alloc(self->fd, &offset);
		ASSERT_TRUE(disarm(self->steps.nth)) TH_LOG("no step is ENOSPC");
		if (ret == -ENOSPC)
			break;
		if (!ret) {
			close(self->fd);
			self->fd = ux_open();
		}
	}
	ASSERT_TRUE(select_faults(MEMORY | USER_COPY | DRIVER));
	while (next_fault(&self->steps)) {
		ret = read(self->fd, &event, sizeof(event)) < 0 ? -errno : 0;
		end_fault(&self->steps, ret);
		EXPECT_EQ(!!ret, poll(&(struct pollfd){ .fd = self->fd, .events = POLLIN }, 1, 0));
	}
	EXPECT_FAULTS(read, EFAULT);
	EXPECT_EQ(UXIVE_EVENT_EXHAUSTED, event.header.type);
	EXPECT_EQ(UXIVE_RESOURCE_VP, event.exhausted.resource);
}

TEST_F(faults, mmap_is_enomem)
{
	int efd = event_new();

	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, efd));
	while (next_fault(&self->steps)) {
		void *window = ux_map(self->fd, IRQ_BASE, WINDOW);

		end_fault(&self->steps, window == MAP_FAILED ? -errno : 0);
		if (window == MAP_FAILED)
			continue;
		EXPECT_EQ(0, touch(window));
		EXPECT_EQ(1, event_wait(efd));
		munmap(window, WINDOW);
	}
	EXPECT_FAULTS(mmap, ENOMEM);
	close(efd);
}

TEST_F(faults, a_touch_is_sigbus_or_comes_through)
{
	int efd = event_new(), failed = 0;

	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, efd));
	for (unsigned long n = 1; n == 1 || self->steps.hit; n++) {
		void *window;
		int sig;

		/* Where nothing is, so that there are page tables to be made. */
		window = mmap((void *)(n << 40), WINDOW, PROT_WRITE,
			      MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd, IRQ_BASE);
		ASSERT_NE(MAP_FAILED, window);
		ASSERT_TRUE(next_fault(&self->steps));
		sig = touch(window);
		end_fault(&self->steps, 0);
		failed += self->steps.hit;
		EXPECT_TRUE(!sig || (self->steps.hit && sig == SIGBUS))
			TH_LOG("step %lu: signal %d", n, sig);
		/* Whatever it was, it has passed. */
		if (sig)
			sig = touch(window);
		EXPECT_EQ(0, sig);
		EXPECT_EQ(1, event_wait(efd));
		munmap(window, WINDOW);
	}
	TH_LOG("%d steps", failed);
	EXPECT_LT(0, failed);
	close(efd);
}

TEST_F(faults, export_leaves_nothing_behind)
{
	int efd = event_new(), lowest;
	struct uxive_event event;
	void *own;

	ASSERT_EQ(0, ux_fill(self->fd, 4));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(2), efd));
	lowest = dup(efd);
	close(lowest);
	while (next_fault(&self->steps)) {
		/* Of one ring in a tenth of a second. */
		struct uxive_export arg = {
			.size = sizeof(arg), .kind = UXIVE_EXPORT_FILE, .start = 1, .count = 3,
			.max_rate = 1,
		};
		int fd = ux_ioctl(self->fd, UXIVE_IOC_EXPORT, &arg);
		void *bells;

		end_fault(&self->steps, fd);
		fd = fd ?: arg.fd;
		if (fd < 0) {
			ASSERT_EQ(0, total_exports(self->fd)) TH_LOG("step %d", self->steps.step);
			fd = ux_export(self->fd, 1, 3, NULL);
		}
		/* No descriptor is lost. */
		ASSERT_EQ(lowest, fd) TH_LOG("step %d", self->steps.step);
		ASSERT_EQ(1, total_exports(self->fd));
		bells = ux_map(fd, 0, 3 * STRIDE);
		ASSERT_NE(MAP_FAILED, bells);
		EXPECT_EQ(0, touch(bells + STRIDE));
		EXPECT_EQ(1, event_wait(efd));
		munmap(bells, 3 * STRIDE);
		close(fd);
		ASSERT_EQ(0, total_exports(self->fd));
	}
	EXPECT_FAULTS(UXIVE_IOC_EXPORT, ENOMEM, EFAULT, EACCES, EMFILE, ENFILE, ENOSPC);

	/* Nothing of their rate is left. */
	own = ux_map(self->fd, IRQ_BASE, 4 * STRIDE);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	/* The next storm is told as one of its own. */
	usleep(300000);
	while (read(self->fd, &event, sizeof(event)) > 0)
		;
	for (int n = 0; n < 20; n++) {
		ring(own + 2 * STRIDE);
		ASSERT_EQ(1, event_wait(efd));
	}
	EXPECT_EQ(-1, read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(EAGAIN, errno);
	munmap(own, 4 * STRIDE);
	close(efd);
}

TEST_F(faults, revoke_changes_nothing_or_ends_it)
{
	int efd = event_new(), fd, ret = 0;
	void *bell;
	__u32 id;

	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, efd));
	fd = ux_export(self->fd, 0, 1, &id);
	bell = ux_map(fd, 0, STRIDE);
	ASSERT_NE(MAP_FAILED, bell);
	while (next_fault(&self->steps)) {
		ret = ux_revoke(self->fd, id);
		end_fault(&self->steps, ret);
		if (!ret)
			break;
		EXPECT_EQ(0, touch(bell));
		EXPECT_EQ(1, event_wait(efd));
	}
	EXPECT_EQ(0, ret);
	EXPECT_FAULTS(UXIVE_IOC_REVOKE, EFAULT);
	EXPECT_EQ(SIGBUS, touch(bell));
	EXPECT_EQ(0, total_exports(self->fd));
	munmap(bell, STRIDE);
	close(fd);
	close(efd);
}

TEST_F(faults, a_touch_of_an_export_is_sigbus_or_comes_through)
{
	int efd = event_new(), failed = 0, fd;

	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(0, ux_bind(self->fd, IRQ_BASE, efd));
	fd = ux_export(self->fd, 0, 1, NULL);
	for (unsigned long n = 1; n == 1 || self->steps.hit; n++) {
		void *bell;
		int sig;

		bell = mmap((void *)(n << 40), STRIDE, PROT_WRITE,
			    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
		ASSERT_NE(MAP_FAILED, bell);
		ASSERT_TRUE(next_fault(&self->steps));
		sig = touch(bell);
		end_fault(&self->steps, 0);
		failed += self->steps.hit;
		EXPECT_TRUE(!sig || (self->steps.hit && sig == SIGBUS))
			TH_LOG("step %lu: signal %d", n, sig);
		if (sig)
			sig = touch(bell);
		EXPECT_EQ(0, sig);
		EXPECT_EQ(1, event_wait(efd));
		munmap(bell, STRIDE);
	}
	TH_LOG("%d steps", failed);
	EXPECT_LT(0, failed);
	close(fd);
	close(efd);
}

/*
 * Makes only the driver's own kmallocs fail: loading a module allocates much
 * more, by the kernel's own code.
 */
static bool select_faults_of_module(void)
{
	char line[256], start[32], end[32];
	unsigned long long address = 0;
	FILE *file = fopen("/proc/modules", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "uxive %*u %*u %*s Live %llx", &address) == 1)
			break;
	if (file)
		fclose(file);
	/* It moves by little when it is loaded again, and the kernel proper is far. */
	sprintf(start, "%llu", address - (1ULL << 32));
	sprintf(end, "%llu", address + (1ULL << 32));
	return address && select_faults(KMALLOC) &&
	       write_file(FAILSLAB, "require-start", start) &&
	       write_file(FAILSLAB, "require-end", end);
}

/* Keeps what can be injected of a driver that is loaded, for when it is not. */
static bool list_functions(FILE *list)
{
	FILE *injectable = fopen(INJECTABLE, "r");
	char function[FUNCTION_SIZE];
	int count = 0;

	for (; list && next_function(injectable, function); count++)
		fprintf(list, "%s\n", function);
	if (injectable)
		fclose(injectable);
	if (list)
		rewind(list);
	return count;
}

#define GATE_MODULE	"/modules/gate.ko"
#define GATE		"/sys/module/gate/parameters/"

/*
 * Starts a child that injects @function of the driver while the driver is loaded.
 * gate.ko holds the loading until that is done.
 */
static pid_t inject_when_loaded(const char *function)
{
	pid_t child = file_write(GATE "closed", "1") ? -1 : fork();

	if (!child) {
		bool done = becomes(*file_line(GATE "holding"), 'Y') && inject_functions(function);

		_exit(file_write(GATE "closed", "0") || !done);
	}
	return child;
}

/* The first thing that an unloaded driver has left, or NULL. */
static const char *left_behind(void)
{
	const char * const paths[] = { "/sys/module/uxive", "/sys/class/misc/uxive" };
	int states = lines_with(CPU_SYSFS "hotplug/states", "uxive");
	const char *left = states < 0 ? "unknown" : states ? "a state of CPU hotplug" : NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(paths); i++)
		if (!access(paths[i], F_OK))
			left = paths[i];
	if (lines_with(INJECTABLE, "uxive_"))
		left = INJECTABLE;
	return becomes(access(UXIVE_DEV, F_OK), -1) ? left : UXIVE_DEV;
}

/* The LISN of the first interrupt of a new context. */
static long first_lisn(void)
{
	struct ux_irq irq = {};
	int fd = ux_open();

	if (fd < 0 || ux_fill(fd, 1) || ux_irqs(fd, &irq, 1) != 1)
		return -1;
	close(fd);
	return irq.lisn;
}

/* Whether a node of the driver has come since this was called last, if only for a moment. */
static bool node_came(int watch)
{
	union {
		struct inotify_event first;
		char bytes[4096];
	} buffer;
	bool came = false;
	ssize_t length;

	while ((length = read(watch, &buffer, sizeof(buffer))) > 0) {
		for (char *at = buffer.bytes; at < buffer.bytes + length;) {
			struct inotify_event *event = (struct inotify_event *)at;

			came = came || !strcmp(event->name, "uxive") ||
			       !strcmp(event->name, "ocxl");
			at += sizeof(*event) + event->len;
		}
	}
	return came;
}

/* A function of the driver that is called so often when it is loaded is called in a loop. */
#define MANY_CALLS	8

/*
 * For a driver that is a module. Loaded once more it takes the same LISNs. No node comes
 * as long as loading can still fail: a program that opened it would use a driver that
 * goes.
 */
TEST_F(faults, loading_leaves_nothing_behind)
{
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), last = 0, calls = 0;
	struct afu_function functions[AFU_MOST];
	char function[FUNCTION_SIZE] = "";
	FILE *list = tmpfile();
	long lisn;

	if (access(UXIVE_MODULE, R_OK))
		SKIP(return, "the driver is built in");
	close(self->fd);
	/* Its unit tests, which it brings along, have had their turn. */
	ASSERT_TRUE(write_file(KUNIT, "filter_glob", "none"));
	ASSERT_EQ(0, module_load(GATE_MODULE));
	ASSERT_TRUE(select_faults_of_module());
	ASSERT_TRUE(list_functions(list));
	ASSERT_TRUE(becomes(module_unload("uxive"), 0));
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
	lisn = first_lisn();
	ASSERT_TRUE(becomes(module_unload("uxive"), 0));
	ASSERT_LE(0, inotify_add_watch(watch, "/dev", IN_CREATE));

	/*
	 * First allocations fail, then calls of each function of the driver in turn: all of
	 * the first MANY_CALLS, and then each that has twice the number, since only the
	 * sources that are kept in store are as many, and they are made in one loop.
	 */
	do {
		self->steps.step = 0;
		while (next_fault(&self->steps)) {
			pid_t child = *function ? inject_when_loaded(function) : 0;
			int ret = module_load(UXIVE_MODULE);

			end_fault(&self->steps, ret);
			if (child)
				ASSERT_EQ(0, child_status(child));
			EXPECT_EQ(!ret, node_came(watch)) TH_LOG("step %d", self->steps.step);
			if (ret && !*function)
				last = self->steps.step;
			if (!ret) {
				EXPECT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
				EXPECT_LT(0, first_lisn()) TH_LOG("step %d", self->steps.step);
				ASSERT_TRUE(becomes(module_unload("uxive"), 0));
			}
			EXPECT_EQ(NULL, left_behind())
				TH_LOG("step %d left %s", self->steps.step, left_behind());
			if (!*function)
				continue;
			calls += self->steps.hit;
			if (self->steps.hit && self->steps.step >= MANY_CALLS)
				self->steps.step += self->steps.step - 1;
		}
		if (*function)
			continue;
		/* The driver core returns EINVAL when it has no memory for a directory. */
		EXPECT_FAULTS(init_module, ENOMEM, EINVAL);
		self->steps.fatal = 0;
		ASSERT_TRUE(select_faults(0));
	} while (next_function(list, function));
	self->steps.step = calls + 1;
	EXPECT_FAULTS(init_module, ENOSPC, EBUSY, ENOMEM);
	EXPECT_EQ(0, module_unload("gate"));
	fclose(list);

	/* No AFU's node comes, either: loading binds an AFU whose override names the driver. */
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	ASSERT_TRUE(select_faults_of_module());
	ASSERT_TRUE(becomes(module_unload("uxive"), 0));
	EXPECT_TRUE(node_came(watch));
	ASSERT_LT(0, afu_functions(functions));
	ASSERT_EQ(0, afu_override(&functions[0], "uxive"));
	arm(self->steps.nth, last);
	EXPECT_GT(0, module_load(UXIVE_MODULE));
	ASSERT_TRUE(disarm(self->steps.nth));
	EXPECT_FALSE(node_came(watch));

	EXPECT_TRUE(write_file(KUNIT, "filter_glob", "*"));
	EXPECT_EQ(0, module_load(UXIVE_MODULE));
	EXPECT_TRUE(node_came(watch));
	EXPECT_EQ(0, access(afu_path(&functions[0], NULL), F_OK));
	EXPECT_EQ(0, afu_unbind(&functions[0]));
	ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
	EXPECT_EQ(lisn, first_lisn());
	close(watch);
	EXPECT_TRUE(prepare_faults());
	self->fd = ux_open();
}

int main(int argc, char **argv)
{
	prepared = prepare_faults();
	return test_harness_run(argc, argv);
}
