// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: where there is no XIVE under OPAL the module refuses to load, with
 * ENODEV and one line in the kernel log that says why, and leaves nothing.
 *
 * For a machine booted with xive=off.
 */
#include "uxive_selftest.h"

/* Lines of the driver about XIVE among the records that @kmsg has not read. */
static int complaints(int kmsg)
{
	char record[8192];
	int lines = 0;
	ssize_t len;

	for (;;) {
		len = read(kmsg, record, sizeof(record) - 1);
		if (len < 0)
			return errno == EAGAIN ? lines : -errno;
		record[len] = 0;
		lines += strstr(record, "uxive") && strstr(record, "XIVE");
	}
}

TEST(the_machine_is_booted_without_xive)
{
	char cmdline[4096] = {};
	int fd = open("/proc/cmdline", O_RDONLY);

	ASSERT_LT(0, read(fd, cmdline, sizeof(cmdline) - 1));
	EXPECT_NE(NULL, strstr(cmdline, "xive=off"));
}

TEST(loading_is_enodev_and_says_why)
{
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	ASSERT_LE(0, kmsg);
	ASSERT_EQ(0, access(UXIVE_MODULE, R_OK));
	for (int n = 0; n < 3; n++) {
		ASSERT_EQ(0, lseek(kmsg, 0, SEEK_END));
		EXPECT_ERRNO(init_module, ENODEV, module_load(UXIVE_MODULE));
		EXPECT_EQ(1, complaints(kmsg));
	}
}

TEST(nothing_is_left_of_it)
{
	EXPECT_ERRNO(init_module, ENODEV, module_load(UXIVE_MODULE));
	EXPECT_EQ(-ENOENT, ux_open());
	EXPECT_EQ(-1, access("/sys/class/misc/uxive", F_OK));
	EXPECT_EQ(-1, access("/sys/module/uxive", F_OK));
}

TEST_HARNESS_MAIN
