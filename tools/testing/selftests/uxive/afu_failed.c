// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: an accelerator whose PE has failed permanently is gone like one that
 * was unplugged, without another touch.
 *
 * Such a PE works again only after the next boot. The suite uses up the last AFU,
 * so it comes after all others that need it.
 */
#include "uxive_afu.h"

#define SLOT	1

TEST(a_permanent_failure_is_the_end_of_it)
{
	struct afu_command raise = { .opcode = AFU_RAISE, .value = SLOT };
	struct afu_function functions[AFU_MOST], *last;
	struct ocxl_ioctl_metadata metadata;
	struct uxive_event event = {};
	struct pollfd pfd = {};
	int count = afu_functions(functions), efd = event_new(), fd;
	long irqs = all_irqs();
	struct afu_held before;
	void *mmio, *triggers;
	__u64 offset;

	if (count < AFU_MOST)
		SKIP(return, "there is no AFU to spare");
	catch_touches();
	last = &functions[count - 1];
	before = afu_held();
	ASSERT_TRUE(becomes(afu_bind(last), 0));
	fd = afu_open(last);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, afu_attach(fd));
	ASSERT_EQ(0, afu_metadata(fd, &metadata));
	mmio = afu_map(fd);
	ASSERT_NE(MAP_FAILED, mmio);
	ASSERT_EQ(0, ux_alloc(fd, &offset));
	ASSERT_EQ(0, afu_ims_alloc(fd, efd, &offset, NULL));
	ASSERT_EQ(slot_offset(SLOT), offset);
	triggers = ux_map(fd, IRQ_BASE, STRIDE);
	ASSERT_NE(MAP_FAILED, triggers);
	ASSERT_EQ(0, touch(triggers));
	ASSERT_EQ(AFU_DONE, afu_do(mmio, &raise));
	EXPECT_EQ(1, event_wait(efd));

	ASSERT_TRUE(afu_pe_failed(last, "0"));
	pfd.fd = fd;
	EXPECT_EQ(1, poll(&pfd, 1, WATCHDOG_MS));
	EXPECT_EQ(POLLHUP, pfd.revents & POLLHUP);
	EXPECT_EQ(sizeof(event), read(fd, &event, sizeof(event)));
	EXPECT_EQ(UXIVE_EVENT_GONE, event.header.type);
	EXPECT_EQ(UXIVE_GONE_UNBOUND, event.gone.reason);
	EXPECT_EQ(-1, read(fd, &event, sizeof(event)));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(SIGBUS, touch(mmio));
	EXPECT_EQ(SIGBUS, touch(triggers));
	EXPECT_EQ(-ENODEV, ux_alloc(fd, &offset));

	/* The kernel removes the function, and the driver has nothing of it. */
	EXPECT_TRUE(becomes(access(function_path(last, ""), F_OK), -1));
	ASSERT_TRUE(log_line(NO_MORE_ERRORS));
	EXPECT_EQ(-ENOENT, afu_open(last));
	munmap(mmio, metadata.pp_mmio_size);
	munmap(triggers, STRIDE);
	close(fd);
	/* The function itself had an irq. */
	EXPECT_TRUE(becomes(linux_irqs() <= before.irqs, true));
	EXPECT_EQ(before.regions, afu_held().regions);
	EXPECT_EQ(before.nodes, afu_held().nodes);
	EXPECT_TRUE(becomes(all_irqs(), irqs));
	EXPECT_EQ(0, event_read(efd));
	close(efd);
}

TEST_HARNESS_MAIN
