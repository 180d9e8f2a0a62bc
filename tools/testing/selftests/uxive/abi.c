// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: /dev/uxive answers ocxl's interrupt ioctls, bit for bit, and every
 * refusal is the documented errno and leaves what was there before.
 */
#include "uxive_selftest.h"

FIXTURE(abi) {
	int fd;
	void *readonly;
	void *unmapped;
	void *half;
	void *beyond;
};

FIXTURE_SETUP(abi)
{
	long page = sysconf(_SC_PAGESIZE);

	self->fd = ux_open();
	ASSERT_LE(0, self->fd);

	self->readonly = mmap(NULL, 2 * page, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->readonly);
	self->unmapped = self->readonly + page;
	ASSERT_EQ(0, munmap(self->unmapped, page));

	/* A structure that begins in a good page and ends in none. */
	self->half = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->half);
	ASSERT_EQ(0, munmap(self->half + page, page));
	self->half += page - 4;

	/* No process has this address. */
	self->beyond = (void *)(1UL << 62);
}

FIXTURE_TEARDOWN(abi)
{
	close(self->fd);
}

TEST(numbers_and_layout_are_those_of_ocxl)
{
	EXPECT_EQ(0x4008ca11U, OCXL_IOCTL_IRQ_ALLOC);
	EXPECT_EQ(0x8008ca12U, OCXL_IOCTL_IRQ_FREE);
	EXPECT_EQ(0x8010ca13U, OCXL_IOCTL_IRQ_SET_FD);
	EXPECT_EQ(16UL, sizeof(struct ocxl_ioctl_irq_fd));
	EXPECT_EQ(0UL, offsetof(struct ocxl_ioctl_irq_fd, irq_offset));
	EXPECT_EQ(8UL, offsetof(struct ocxl_ioctl_irq_fd, eventfd));
	EXPECT_EQ(12UL, offsetof(struct ocxl_ioctl_irq_fd, reserved));
}

TEST(the_node_is_a_misc_device_for_root_only)
{
	struct stat st;

	ASSERT_EQ(0, stat(UXIVE_DEV, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600U, st.st_mode & 07777);
	EXPECT_EQ(0U, st.st_uid);
	EXPECT_EQ(10U, major(st.st_rdev)) TH_LOG("not the misc major");
	EXPECT_EQ(0, access("/sys/class/misc/uxive", F_OK));
}

TEST_F(abi, alloc_takes_the_lowest_free_slot)
{
	__u64 offset;

	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		EXPECT_EQ(slot_offset(i), offset);
	}
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(2)));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	EXPECT_EQ(slot_offset(1), offset);
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	EXPECT_EQ(slot_offset(2), offset);
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	EXPECT_EQ(slot_offset(4), offset);
}

TEST_F(abi, contexts_have_slots_of_their_own)
{
	int other = ux_open();
	__u64 offset;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	ASSERT_EQ(0, ux_alloc(other, &offset));
	EXPECT_EQ(slot_offset(0), offset);
	ASSERT_EQ(0, ux_alloc(other, &offset));
	EXPECT_EQ(-EINVAL, ux_free(self->fd, offset));
	EXPECT_EQ(1, ux_count(self->fd));
	EXPECT_EQ(2, ux_count(other));
	close(other);
	EXPECT_EQ(0, ux_free(self->fd, slot_offset(0)));
}

TEST_F(abi, fdinfo_lists_the_interrupts)
{
	struct ux_irq irqs[8];

	EXPECT_EQ(0, ux_irqs(self->fd, irqs, 8));
	ASSERT_EQ(0, ux_fill(self->fd, 8));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(3)));

	ASSERT_EQ(7, ux_irqs(self->fd, irqs, 8));
	for (int i = 0; i < 7; i++) {
		EXPECT_EQ(slot_offset(i < 3 ? i : i + 1), irqs[i].offset);
		EXPECT_NE(0ULL, irqs[i].lisn);
		for (int j = 0; j < i; j++) {
			EXPECT_NE(irqs[j].lisn, irqs[i].lisn)
				TH_LOG("slots %d and %d", j, i);
		}
	}
}

TEST_F(abi, alloc_to_a_bad_pointer_allocates_nothing)
{
	void *bad[] = {
		NULL, self->unmapped, self->readonly, self->half, self->beyond,
	};
	__u64 offset;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, ux_alloc(self->fd, bad[i]))
			TH_LOG("pointer %zu", i);
		EXPECT_EQ(0, ux_count(self->fd)) TH_LOG("pointer %zu", i);
	}
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	EXPECT_EQ(slot_offset(0), offset);
}

TEST_F(abi, free_and_set_fd_of_a_bad_pointer_change_nothing)
{
	void *bad[] = { NULL, self->unmapped, self->half, self->beyond };
	int efd = event_new();
	void *page;
	__u64 offset;

	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	ASSERT_EQ(0, ux_bind(self->fd, offset, efd));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_FREE, bad[i]))
			TH_LOG("pointer %zu", i);
		EXPECT_EQ(-EFAULT, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, bad[i]))
			TH_LOG("pointer %zu", i);
	}
	EXPECT_EQ(1, ux_count(self->fd));
	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	EXPECT_EQ(1, event_wait(efd));
}

TEST_F(abi, an_offset_is_checked_whole)
{
	const struct {
		const char *what;
		__u64 offset;
	} bad[] = {
		{ "zero", 0 },
		{ "slot number instead of offset", 1 },
		{ "misaligned by 1", slot_offset(1) + 1 },
		{ "misaligned by 8", slot_offset(1) + 8 },
		{ "misaligned by 4 KiB", slot_offset(1) + 4096 },
		{ "misaligned by half a slot", slot_offset(1) + STRIDE / 2 },
		{ "below the window", IRQ_BASE - STRIDE },
		{ "just above the window", slot_offset(SLOTS) },
		{ "a window above the window", slot_offset(1) + WINDOW },
		{ "bit 41", slot_offset(1) | 1ULL << 41 },
		{ "bit 48", slot_offset(1) | 1ULL << 48 },
		{ "bit 63", slot_offset(1) | 1ULL << 63 },
		{ "without the base", slot_offset(1) - IRQ_BASE },
		{ "minus one", ~0ULL },
		{ "minus a slot", -STRIDE },
		{ "never allocated", slot_offset(3) },
		{ "last slot, never allocated", slot_offset(SLOTS - 1) },
		{ "freed", slot_offset(2) },
	};
	int efd = event_new(), other = event_new();
	void *page;

	ASSERT_EQ(0, ux_fill(self->fd, 3));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(2)));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(1), efd));

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EINVAL, ux_free(self->fd, bad[i].offset))
			TH_LOG("IRQ_FREE: %s", bad[i].what);
		EXPECT_EQ(-EINVAL, ux_bind(self->fd, bad[i].offset, other))
			TH_LOG("IRQ_SET_FD: %s", bad[i].what);
		EXPECT_EQ(-EINVAL, ux_bind(self->fd, bad[i].offset, -1))
			TH_LOG("IRQ_SET_FD, unbind: %s", bad[i].what);
		ASSERT_EQ(2, ux_count(self->fd)) TH_LOG("%s", bad[i].what);
	}

	/* And the neighbour of all these still rings where it was bound. */
	page = ux_map(self->fd, slot_offset(1), STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_EQ(0, event_read(other));
}

TEST_F(abi, set_fd_refuses_what_is_no_eventfd_and_keeps_the_old_one)
{
	struct ocxl_ioctl_irq_fd arg = { .reserved = 1 };
	int efd = event_new(), other = event_new();
	int closed = dup(efd), pipes[2];
	__u64 offset;
	void *page;

	ASSERT_EQ(0, pipe(pipes));
	close(closed);
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	ASSERT_EQ(0, ux_bind(self->fd, offset, efd));

	EXPECT_EQ(-EBADF, ux_bind(self->fd, offset, closed));
	EXPECT_EQ(-EBADF, ux_bind(self->fd, offset, -2));
	EXPECT_EQ(-EBADF, ux_bind(self->fd, offset, INT32_MIN));
	EXPECT_EQ(-EBADF, ux_bind(self->fd, offset, INT32_MAX));
	EXPECT_EQ(-EINVAL, ux_bind(self->fd, offset, pipes[0]));
	EXPECT_EQ(-EINVAL, ux_bind(self->fd, offset, self->fd));

	arg.irq_offset = offset;
	arg.eventfd = other;
	EXPECT_EQ(-EINVAL, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));
	arg.reserved = 1U << 31;
	EXPECT_EQ(-EINVAL, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));
	arg.eventfd = -1;
	EXPECT_EQ(-EINVAL, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));

	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_EQ(0, event_read(other));
}

TEST_F(abi, set_fd_binds_replaces_and_unbinds)
{
	int efd = event_new();
	const __u64 offset[] = { slot_offset(0), slot_offset(1) };

	ASSERT_EQ(0, ux_fill(self->fd, 2));
	EXPECT_EQ(0, ux_bind(self->fd, offset[0], -1)) TH_LOG("nothing bound");
	EXPECT_EQ(0, ux_bind(self->fd, offset[0], efd));
	EXPECT_EQ(0, ux_bind(self->fd, offset[0], efd)) TH_LOG("same again");
	EXPECT_EQ(0, ux_bind(self->fd, offset[1], efd)) TH_LOG("shared");
	EXPECT_EQ(0, ux_bind(self->fd, offset[0], event_new()));
	EXPECT_EQ(0, ux_bind(self->fd, offset[0], -1));
	EXPECT_EQ(0, ux_bind(self->fd, offset[0], -1)) TH_LOG("twice");
}

TEST_F(abi, unknown_ioctls_are_enotty)
{
	const struct {
		const char *what;
		unsigned int cmd;
	} unknown[] = {
		{ "zero", 0 },
		{ "all ones", ~0U },
		{ "terminal's", 0x402c7413 },
		{ "another magic", _IOR(0xcb, 0x11, __u64) },
		{ "another size", _IOR(OCXL_MAGIC, 0x11, __u32) },
		{ "another direction", _IOW(OCXL_MAGIC, 0x11, __u64) },
		{ "IRQ_FREE, both directions", _IOWR(OCXL_MAGIC, 0x12, __u64) },
		{ "IRQ_SET_FD, short", _IOW(OCXL_MAGIC, 0x13, __u64) },
		{ "unassigned", _IO(OCXL_MAGIC, 0x2f) },
		{ "ATTACH, without an AFU", OCXL_IOCTL_ATTACH },
		{ "GET_METADATA, without an AFU", OCXL_IOCTL_GET_METADATA },
	};
	char arg[256] = {};

	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(-ENOTTY, ux_ioctl(self->fd, unknown[i].cmd, arg))
			TH_LOG("%s", unknown[i].what);
		/* Known or not is decided before the argument is looked at. */
		EXPECT_EQ(-ENOTTY, ux_ioctl(self->fd, unknown[i].cmd, NULL))
			TH_LOG("%s, NULL", unknown[i].what);
	}
	EXPECT_EQ(0, ux_count(self->fd));
}

TEST_F(abi, a_context_has_nothing_to_read)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLIN };
	char byte = 0;

	EXPECT_EQ(0, poll(&pfd, 1, 0));
	EXPECT_EQ(-1, read(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
}

TEST_HARNESS_MAIN
