// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a context has room for 16384 interrupts, all contexts together for
 * 65536, neither one more nor one less, and what is given back can be
 * had again at once.
 *
 * Run last: that all can be had shows too that no suite before has left any.
 */
#include "uxive_selftest.h"
#include <linux/capability.h>

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
	struct uxive_info info;
	__u64 offset;

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
	ASSERT_EQ(0, ux_fill(fd[1], 1000));
	ASSERT_EQ(0, ux_fill(fd[2], SLOTS));
	ASSERT_EQ(0, ux_fill(fd[4], SLOTS));
	ASSERT_EQ(0, ux_fill(fd[5], TOTAL - 3 * SLOTS - 1001));
	ASSERT_EQ(0, ux_alloc(fd[3], &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[3], &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[1], &offset));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENOSPC, ux_alloc_on(fd[1], -1, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENOSPC, ux_alloc_on(fd[1], 0, &offset));
	ASSERT_EQ(0, ux_info(fd[1], &info));
	EXPECT_EQ(1000, info.irqs);
	EXPECT_EQ(info.max_irqs_total, info.irqs_total);
	EXPECT_EQ(1, ux_count(fd[3]));
	EXPECT_EQ(1000, ux_count(fd[1]));

	/* What one context gives back, another can have. */
	ASSERT_EQ(0, ux_free(fd[0], slot_offset(5)));
	ASSERT_EQ(0, ux_alloc(fd[3], &offset));
	EXPECT_EQ(slot_offset(1), offset);
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[3], &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[0], &offset));

	/* The same by its end. */
	close(fd[1]);
	ASSERT_EQ(0, ux_fill(fd[3], 1000));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd[3], &offset));

	/* Those are limits of the driver, of which programs are not told by events. */
	for (size_t i = 0; i < ARRAY_SIZE(self->fd); i++) {
		struct pollfd pfd = { .fd = fd[i], .events = POLLIN };

		EXPECT_EQ(i != 1 ? 0 : 1, poll(&pfd, 1, 0)) TH_LOG("context %zu", i);
	}
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
 * A context needs a second file, for its mappings. The kernel corrects its count
 * of files in steps of 32 for each CPU. So that now and then the first file is
 * within the limit and the second is not, the count is moved on by two, or once
 * by one, between finding the limit and trying.
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

TEST_HARNESS_MAIN
