// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: /dev/uxive answers ocxl's interrupt ioctls, bit for bit, and its own,
 * whose structures can grow; every refusal is the documented errno and leaves
 * what was there before.
 */
#include "uxive_selftest.h"
#include <assert.h>
#include <linux/vfio.h>

/*
 * Fields follow each other without holes, at multiples of their size. So the
 * layout does not depend on an ABI's alignment, and 32-bit programs have the
 * same.
 */
#define LAYOUT(type, field, at)							\
	static_assert(offsetof(struct type, field) == (at), #type "." #field)

static_assert(sizeof(struct ocxl_ioctl_irq_fd) == 16, "size");
LAYOUT(ocxl_ioctl_irq_fd, irq_offset, 0);
LAYOUT(ocxl_ioctl_irq_fd, eventfd, 8);
LAYOUT(ocxl_ioctl_irq_fd, reserved, 12);

static_assert(sizeof(struct ocxl_ioctl_features) == 32, "size");
LAYOUT(ocxl_ioctl_features, flags, 0);

static_assert(sizeof(struct uxive_window) == 24, "size");
LAYOUT(uxive_window, offset, 0);
LAYOUT(uxive_window, length, 8);
LAYOUT(uxive_window, stride, 16);

static_assert(sizeof(struct uxive_info) == 160, "size");
LAYOUT(uxive_info, size, 0);
LAYOUT(uxive_info, flags, 4);
LAYOUT(uxive_info, features, 8);
LAYOUT(uxive_info, drain_formats, 16);
LAYOUT(uxive_info, page_size, 20);
LAYOUT(uxive_info, esb_page_size, 24);
LAYOUT(uxive_info, max_irqs, 28);
LAYOUT(uxive_info, irqs, 32);
LAYOUT(uxive_info, max_irqs_user, 36);
LAYOUT(uxive_info, irqs_user, 40);
LAYOUT(uxive_info, max_irqs_total, 44);
LAYOUT(uxive_info, irqs_total, 48);
LAYOUT(uxive_info, max_queues_user, 52);
LAYOUT(uxive_info, queues_user, 56);
LAYOUT(uxive_info, max_queues_total, 60);
LAYOUT(uxive_info, queues_total, 64);
LAYOUT(uxive_info, max_exports_user, 68);
LAYOUT(uxive_info, exports_user, 72);
LAYOUT(uxive_info, max_exports_total, 76);
LAYOUT(uxive_info, exports_total, 80);
LAYOUT(uxive_info, reserved, 84);
LAYOUT(uxive_info, trigger, 88);
LAYOUT(uxive_info, esb, 112);
LAYOUT(uxive_info, queue, 136);

static_assert(sizeof(struct uxive_user_drain) == 48, "size");
LAYOUT(uxive_user_drain, size, 0);
LAYOUT(uxive_user_drain, flags, 4);
LAYOUT(uxive_user_drain, eventfd, 8);
LAYOUT(uxive_user_drain, format, 12);
LAYOUT(uxive_user_drain, queue_offset, 16);
LAYOUT(uxive_user_drain, queue_entries, 24);
LAYOUT(uxive_user_drain, esb_offset, 32);
LAYOUT(uxive_user_drain, esb_stride, 40);

static_assert(sizeof(struct uxive_irq_alloc) == 24, "size");
LAYOUT(uxive_irq_alloc, size, 0);
LAYOUT(uxive_irq_alloc, flags, 4);
LAYOUT(uxive_irq_alloc, chip, 8);
LAYOUT(uxive_irq_alloc, reserved, 12);
LAYOUT(uxive_irq_alloc, offset, 16);

static_assert(sizeof(struct uxive_export) == 32, "size");
LAYOUT(uxive_export, size, 0);
LAYOUT(uxive_export, flags, 4);
LAYOUT(uxive_export, kind, 8);
LAYOUT(uxive_export, start, 12);
LAYOUT(uxive_export, count, 16);
LAYOUT(uxive_export, id, 20);
LAYOUT(uxive_export, fd, 24);
LAYOUT(uxive_export, max_rate, 28);

static_assert(sizeof(struct uxive_export_info) == 32, "size");
LAYOUT(uxive_export_info, size, 0);
LAYOUT(uxive_export_info, flags, 4);
LAYOUT(uxive_export_info, kind, 8);
LAYOUT(uxive_export_info, mode, 12);
LAYOUT(uxive_export_info, count, 16);
LAYOUT(uxive_export_info, page_size, 20);
LAYOUT(uxive_export_info, stride, 24);

static_assert(sizeof(struct uxive_revoke) == 16, "size");
LAYOUT(uxive_revoke, size, 0);
LAYOUT(uxive_revoke, flags, 4);
LAYOUT(uxive_revoke, id, 8);
LAYOUT(uxive_revoke, reserved, 12);

static_assert(sizeof(struct uxive_irq_alloc_many) == 32, "size");
LAYOUT(uxive_irq_alloc_many, size, 0);
LAYOUT(uxive_irq_alloc_many, flags, 4);
LAYOUT(uxive_irq_alloc_many, chip, 8);
LAYOUT(uxive_irq_alloc_many, count, 12);
LAYOUT(uxive_irq_alloc_many, start, 16);
LAYOUT(uxive_irq_alloc_many, reserved, 20);
LAYOUT(uxive_irq_alloc_many, eventfds, 24);

static_assert(sizeof(struct uxive_irq_free_many) == 16, "size");
LAYOUT(uxive_irq_free_many, size, 0);
LAYOUT(uxive_irq_free_many, flags, 4);
LAYOUT(uxive_irq_free_many, start, 8);
LAYOUT(uxive_irq_free_many, count, 12);

static_assert(sizeof(struct uxive_set_irqs) == 24, "size");
LAYOUT(uxive_set_irqs, size, 0);
LAYOUT(uxive_set_irqs, flags, 4);
LAYOUT(uxive_set_irqs, start, 8);
LAYOUT(uxive_set_irqs, count, 12);
LAYOUT(uxive_set_irqs, data, 16);

static_assert(sizeof(struct uxive_range) == 16, "size");
LAYOUT(uxive_range, size, 0);
LAYOUT(uxive_range, flags, 4);
LAYOUT(uxive_range, count, 8);
LAYOUT(uxive_range, fd, 12);

static_assert(sizeof(struct uxive_arm) == 8, "size");
LAYOUT(uxive_arm, size, 0);
LAYOUT(uxive_arm, flags, 4);

static_assert(sizeof(struct uxive_irq_free_all) == 8, "size");
LAYOUT(uxive_irq_free_all, size, 0);
LAYOUT(uxive_irq_free_all, flags, 4);

/* The same as ocxl's header, with the length in place of its reserved field. */
static_assert(sizeof(struct uxive_event_header) == sizeof(struct ocxl_kernel_event_header), "size");
LAYOUT(uxive_event_header, type, offsetof(struct ocxl_kernel_event_header, type));
LAYOUT(uxive_event_header, flags, offsetof(struct ocxl_kernel_event_header, flags));
LAYOUT(uxive_event_header, length, offsetof(struct ocxl_kernel_event_header, reserved));

static_assert(sizeof(struct ocxl_kernel_event_header) == 8, "size");
LAYOUT(ocxl_kernel_event_header, type, 0);
LAYOUT(ocxl_kernel_event_header, flags, 2);
LAYOUT(ocxl_kernel_event_header, reserved, 4);

static_assert(sizeof(struct uxive_event_quarantine) == 32, "size");
LAYOUT(uxive_event_quarantine, offset, 0);
LAYOUT(uxive_event_quarantine, reason, 8);
LAYOUT(uxive_event_quarantine, reserved, 16);

static_assert(sizeof(struct uxive_event_exhausted) == 32, "size");
LAYOUT(uxive_event_exhausted, resource, 0);
LAYOUT(uxive_event_exhausted, reserved, 8);

static_assert(sizeof(struct uxive_event_dropped) == 32, "size");
LAYOUT(uxive_event_dropped, count, 0);
LAYOUT(uxive_event_dropped, reserved, 8);

/* The size that libocxl reads: ocxl's header and its largest body. */
static_assert(sizeof(struct uxive_event) == 40, "size");
static_assert(sizeof(struct uxive_event) == sizeof(struct ocxl_kernel_event_header) +
	      sizeof(struct ocxl_kernel_event_xsl_fault_error), "size");
LAYOUT(uxive_event, header, 0);
LAYOUT(uxive_event, quarantine, 8);
LAYOUT(uxive_event, exhausted, 8);
LAYOUT(uxive_event, dropped, 8);
LAYOUT(uxive_event, body, 8);

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
	self->half = before_a_hole(4);

	/* No process has this address. */
	self->beyond = (void *)(1UL << 62);
}

FIXTURE_TEARDOWN(abi)
{
	close(self->fd);
}

TEST(ioctls_have_the_published_numbers)
{
	EXPECT_EQ(0x4008ca11U, OCXL_IOCTL_IRQ_ALLOC);
	EXPECT_EQ(0x8008ca12U, OCXL_IOCTL_IRQ_FREE);
	EXPECT_EQ(0x8010ca13U, OCXL_IOCTL_IRQ_SET_FD);
	EXPECT_EQ(0x4020ca16U, OCXL_IOCTL_GET_FEATURES);
	EXPECT_EQ(0x2000ca40U, UXIVE_IOC_INFO);
	EXPECT_EQ(0x2000ca41U, UXIVE_IOC_IRQ_ALLOC);
	EXPECT_EQ(0x2000ca42U, UXIVE_IOC_IRQ_ALLOC_MANY);
	EXPECT_EQ(0x2000ca43U, UXIVE_IOC_IMS_ALLOC);
	EXPECT_EQ(0x2000ca44U, UXIVE_IOC_IRQ_FREE_MANY);
	EXPECT_EQ(0x2000ca45U, UXIVE_IOC_IRQ_FREE_ALL);
	EXPECT_EQ(0x2000ca46U, UXIVE_IOC_SET_IRQS);
	EXPECT_EQ(0x2000ca48U, UXIVE_IOC_USER_DRAIN);
	EXPECT_EQ(0x2000ca49U, UXIVE_IOC_ARM);
	EXPECT_EQ(0x2000ca4aU, UXIVE_IOC_RANGE);
	EXPECT_EQ(0x2000ca4bU, UXIVE_IOC_EXPORT);
	EXPECT_EQ(0x2000ca4cU, UXIVE_IOC_REVOKE);
	EXPECT_EQ(0x2000ca4dU, UXIVE_IOC_EXPORT_INFO);
}

/* Programs for VFIO know these flags. */
TEST(set_irqs_has_the_flags_of_vfio)
{
	EXPECT_EQ(VFIO_IRQ_SET_DATA_NONE, UXIVE_SET_DATA_NONE);
	EXPECT_EQ(VFIO_IRQ_SET_DATA_BOOL, UXIVE_SET_DATA_BOOL);
	EXPECT_EQ(VFIO_IRQ_SET_DATA_EVENTFD, UXIVE_SET_DATA_EVENTFD);
	EXPECT_EQ(VFIO_IRQ_SET_ACTION_MASK, UXIVE_SET_MASK);
	EXPECT_EQ(VFIO_IRQ_SET_ACTION_UNMASK, UXIVE_SET_UNMASK);
	EXPECT_EQ(VFIO_IRQ_SET_ACTION_TRIGGER, UXIVE_SET_TRIGGER);
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
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EINVAL, ux_free(self->fd, offset));
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

TEST_F(abi, fdinfo_tells_the_memory_of_the_queue)
{
	int fd = ux_open();

	EXPECT_EQ(0, fdinfo_number(self->fd, "uxive-queue-bytes"));
	ASSERT_EQ(0, ux_fill(self->fd, 2));
	EXPECT_EQ(64 << 10, fdinfo_number(self->fd, "uxive-queue-bytes"));
	/* It stays when there is no interrupt any more. */
	ASSERT_EQ(0, ux_free_all(self->fd));
	EXPECT_EQ(64 << 10, fdinfo_number(self->fd, "uxive-queue-bytes"));
	ASSERT_EQ(0, ux_user_drain(fd, -1));
	EXPECT_EQ(64 << 10, fdinfo_number(fd, "uxive-queue-bytes"));
	close(fd);
}

TEST_F(abi, alloc_to_a_bad_pointer_allocates_nothing)
{
	void *bad[] = {
		NULL, self->unmapped, self->readonly, self->half, self->beyond,
	};
	__u64 offset;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EFAULT, ux_alloc(self->fd, bad[i]))
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
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EFAULT,
			     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_FREE, bad[i]))
			TH_LOG("pointer %zu", i);
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EFAULT,
			     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, bad[i]))
			TH_LOG("pointer %zu", i);
	}
	EXPECT_EQ(1, ux_count(self->fd));
	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	EXPECT_EQ(1, event_wait(efd));
}

/*
 * Defects 3 and 4 of ocxl: an offset is truncated to the number of an interrupt,
 * from above, so that with bit 48 it names one, and from below.
 */
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
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EINVAL, ux_free(self->fd, bad[i].offset))
			TH_LOG("IRQ_FREE: %s", bad[i].what);
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL,
			     ux_bind(self->fd, bad[i].offset, other))
			TH_LOG("IRQ_SET_FD: %s", bad[i].what);
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL, ux_bind(self->fd, bad[i].offset, -1))
			TH_LOG("IRQ_SET_FD, unbind: %s", bad[i].what);
		ASSERT_EQ(2, ux_count(self->fd)) TH_LOG("%s", bad[i].what);
	}

	/* Its neighbour still rings the eventfd that it was bound to. */
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

	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EBADF, ux_bind(self->fd, offset, closed));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EBADF, ux_bind(self->fd, offset, -2));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EBADF, ux_bind(self->fd, offset, INT32_MIN));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EBADF, ux_bind(self->fd, offset, INT32_MAX));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL, ux_bind(self->fd, offset, pipes[0]));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL, ux_bind(self->fd, offset, self->fd));

	arg.irq_offset = offset;
	arg.eventfd = other;
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL,
		     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));
	arg.reserved = 1U << 31;
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL,
		     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));
	arg.eventfd = -1;
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL,
		     ux_ioctl(self->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));

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
		{ "ENABLE_P9_WAIT, without an AFU", OCXL_IOCTL_ENABLE_P9_WAIT },
		{ "GET_FEATURES, short", _IOR(OCXL_MAGIC, 0x16, __u64) },
		{ "ARM, with an argument", _IOW(UXIVE_MAGIC, 0x42, __u32) },
		{ "INFO, in one direction", _IOR(UXIVE_MAGIC, 0x40, struct uxive_info) },
		{ "unassigned", _IOWR(UXIVE_MAGIC, 0x7f, struct uxive_info) },
	};
	char arg[256] = {};

	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_ERRNO(ioctl, ENOTTY, ux_ioctl(self->fd, unknown[i].cmd, arg))
			TH_LOG("%s", unknown[i].what);
		/* Known or not is decided before the argument is looked at. */
		EXPECT_ERRNO(ioctl, ENOTTY, ux_ioctl(self->fd, unknown[i].cmd, NULL))
			TH_LOG("%s, NULL", unknown[i].what);
	}
	EXPECT_EQ(0, ux_count(self->fd));
}

/* Ways to open a file. The last is for neither reading nor writing. */
static const struct {
	int flags;
	bool writes;
} modes[] = {
	{ O_RDONLY, false }, { O_WRONLY, true }, { O_RDWR, true }, { O_ACCMODE, false },
};

static int open_for(int mode)
{
	return open(UXIVE_DEV, modes[mode].flags | O_CLOEXEC);
}

static int opened_for(int fd)
{
	return fcntl(fd, F_GETFL) & O_ACCMODE;
}

/* One of each ioctl, in an order in which they work. Files left open are closed with the test. */
TEST_F(abi, what_changes_something_needs_a_file_for_writing)
{
	struct ocxl_ioctl_irq_fd bind = { .irq_offset = IRQ_BASE };
	struct uxive_user_drain drain = ux_drain_arg(-1);
	struct uxive_irq_alloc_many many = { .size = sizeof(many), .count = 2 };
	struct uxive_ims_alloc ims = { .size = sizeof(ims), .eventfd = -1 };
	struct uxive_irq_free_many free = { .size = sizeof(free), .start = 3, .count = 1 };
	struct uxive_set_irqs set = {
		.size = sizeof(set), .flags = UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER, .count = 1,
	};
	struct uxive_irq_alloc alloc = { .size = sizeof(alloc) };
	struct uxive_export export = {
		.size = sizeof(export), .kind = UXIVE_EXPORT_FILE, .count = 1,
	};
	struct uxive_arm arm = { .size = sizeof(arm) };
	struct uxive_irq_free_all all = { .size = sizeof(all) };
	struct uxive_revoke revoke = { .size = sizeof(revoke), .id = 1 };
	struct uxive_range range = { .size = sizeof(range), .count = 2 };
	struct uxive_info info = { .size = sizeof(info) };
	struct ocxl_ioctl_features features;
	__u64 offset, freed = slot_offset(1);
	const struct {
		const char *name;
		unsigned int cmd;
		void *arg;
		bool writes;
		int ret;
	} calls[] = {
		{ "OCXL IRQ_ALLOC", OCXL_IOCTL_IRQ_ALLOC, &offset, false, 0 },
		{ "OCXL IRQ_ALLOC", OCXL_IOCTL_IRQ_ALLOC, &offset, false, 0 },
		{ "OCXL IRQ_SET_FD", OCXL_IOCTL_IRQ_SET_FD, &bind, false, 0 },
		{ "OCXL IRQ_FREE", OCXL_IOCTL_IRQ_FREE, &freed, false, 0 },
		{ "OCXL GET_FEATURES", OCXL_IOCTL_GET_FEATURES, &features, false, 0 },
		{ "INFO", UXIVE_IOC_INFO, &info, false, 0 },
		/* The kernel drains it, as an interrupt was allocated. */
		{ "USER_DRAIN", UXIVE_IOC_USER_DRAIN, &drain, true, -EBUSY },
		{ "ARM", UXIVE_IOC_ARM, &arm, true, -EINVAL },
		{ "IRQ_ALLOC", UXIVE_IOC_IRQ_ALLOC, &alloc, true, 0 },
		{ "IRQ_ALLOC_MANY", UXIVE_IOC_IRQ_ALLOC_MANY, &many, true, 0 },
		{ "IRQ_FREE_MANY", UXIVE_IOC_IRQ_FREE_MANY, &free, true, 0 },
		{ "SET_IRQS", UXIVE_IOC_SET_IRQS, &set, true, 0 },
		{ "RANGE", UXIVE_IOC_RANGE, &range, true, 0 },
		{ "EXPORT", UXIVE_IOC_EXPORT, &export, true, 0 },
		{ "REVOKE", UXIVE_IOC_REVOKE, &revoke, true, 0 },
		/* There is no AFU, which is checked first. */
		{ "IMS_ALLOC", UXIVE_IOC_IMS_ALLOC, &ims, false, -ENOTTY },
	};

	for (size_t mode = 0; mode < ARRAY_SIZE(modes); mode++) {
		int fd = open_for(mode), efd = event_new(), fds;

		ASSERT_LE(0, fd);
		bind.eventfd = efd;
		many.start = 0;
		fds = fds_open();
		for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
			bool refused = calls[i].writes && !modes[mode].writes;

			EXPECT_EQ(refused ? -EBADF : calls[i].ret,
				  ux_ioctl(fd, calls[i].cmd, calls[i].arg))
				TH_LOG("%s, mode %zu", calls[i].name, mode);
			/* Before the argument is looked at. */
			if (refused) {
				EXPECT_EQ(-EBADF, ux_ioctl(fd, calls[i].cmd, NULL))
					TH_LOG("%s, mode %zu, NULL", calls[i].name, mode);
			}
		}
		ASSERT_EQ(0, ux_info(fd, &info));
		EXPECT_EQ(0U, info.exports_total);
		if (modes[mode].writes) {
			EXPECT_EQ(1, event_wait(efd));
			EXPECT_EQ(3, ux_count(fd));
			EXPECT_EQ(modes[mode].flags, opened_for(range.fd));
			EXPECT_EQ(modes[mode].flags, opened_for(export.fd));
			close(range.fd);
			close(export.fd);
		} else {
			EXPECT_EQ(1, ux_count(fd));
			EXPECT_EQ(fds, fds_open());
			EXPECT_EQ(0, event_read(efd));
		}
		close(fd);
		close(efd);
	}
}

TEST_F(abi, each_of_its_own_ioctls_refuses_a_file_for_reading)
{
	int fd = open_for(0);
	int refused = 0;
	__u64 offset;
	__u32 start;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(fd, 1));
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EBADF, ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, NULL));
	EXPECT_ERRNO(UXIVE_IOC_ARM, EBADF, ux_ioctl(fd, UXIVE_IOC_ARM, NULL));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, EBADF, ux_alloc_on(fd, -1, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, EBADF, ux_alloc_many(fd, 1, NULL, &start));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_MANY, EBADF, ux_free_many(fd, 0, 1));
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, EBADF,
		     ux_set_irqs(fd, UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER, 0, 1, NULL));
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, EBADF,
		     ux_set_irqs(fd, UXIVE_SET_DATA_NONE | UXIVE_SET_MASK, 0, 1, NULL));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_ALL, EBADF, ux_free_all(fd));
	EXPECT_ERRNO(UXIVE_IOC_RANGE, EBADF, ux_range(fd, 1));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EBADF, ux_export(fd, 0, 1, NULL));
	EXPECT_ERRNO(UXIVE_IOC_REVOKE, EBADF, ux_revoke(fd, 1));
	EXPECT_EQ(1, ux_count(fd));

	/*
	 * All present and future calls: each number of uxive's range, with any
	 * direction and size.
	 */
	for (unsigned int number = 0x40; number < 0x80; number++) {
		for (unsigned int rest = 0; rest < 8 * 64; rest++) {
			char arg[4096] = {};
			int ret = ux_ioctl(fd, _IOC(rest % 8, UXIVE_MAGIC, number, rest / 8 * 8),
					   arg);

			if (_IOC(rest % 8, UXIVE_MAGIC, number, rest / 8 * 8) == UXIVE_IOC_INFO) {
				EXPECT_EQ(-EINVAL, ret);
				continue;
			}
			refused += ret == -EBADF;
			EXPECT_TRUE(ret == -ENOTTY || ret == -EBADF)
				TH_LOG("number %x, %x: %d", number, rest, ret);
		}
	}
	/* No other number is one of them by its direction or size. */
	EXPECT_EQ(10, refused);
	EXPECT_EQ(1, ux_count(fd));
	close(fd);
}

/* A passed descriptor has no more rights, either. */
TEST_F(abi, what_is_lent_is_open_for_no_more)
{
	int fd = open(UXIVE_DEV, O_WRONLY | O_CLOEXEC), lent[3], other;
	const __u64 offsets[] = { 0, IRQ_BASE };
	char path[64];

	ASSERT_LE(0, fd);
	lent[0] = ux_range(fd, 2);
	ASSERT_EQ(0, ux_fill(fd, 1));
	ASSERT_EQ(0, ux_fill(lent[0], 1));
	lent[1] = ux_export(fd, 0, 1, NULL);
	lent[2] = ux_export(lent[0], 0, 1, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(lent); i++) {
		ASSERT_LE(0, lent[i]);
		EXPECT_EQ(O_WRONLY, opened_for(lent[i]));
		/* Which fcntl() cannot change. */
		EXPECT_EQ(0, fcntl(lent[i], F_SETFL, O_RDWR | O_NONBLOCK));
		EXPECT_EQ(O_WRONLY, opened_for(lent[i]));
		for (size_t at = 0; at < ARRAY_SIZE(offsets); at++) {
			void *page = ux_map(lent[i], offsets[at], STRIDE);

			EXPECT_ERRNO(mmap, EACCES, page == MAP_FAILED ? -errno : 0)
				TH_LOG("file %zu", i);
		}
		snprintf(path, sizeof(path), "/proc/self/fd/%d", lent[i]);
		for (size_t mode = 0; mode < ARRAY_SIZE(modes); mode++) {
			EXPECT_EQ(-1, open(path, modes[mode].flags | O_CLOEXEC));
			EXPECT_EQ(ENXIO, errno);
		}
	}
	/* The file of a context leads to the node, so opening it gives another context. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, other);
	EXPECT_EQ(0, ux_count(other));
	EXPECT_NE(ux_context(fd), ux_context(other));
	close(other);
	for (size_t i = 0; i < ARRAY_SIZE(lent); i++)
		close(lent[i]);
	close(fd);
}

TEST_F(abi, ocxl_features_are_not_offered)
{
	void *bad[] = {
		NULL, self->unmapped, self->readonly, self->half, self->beyond,
	};
	struct ocxl_ioctl_features features;

	memset(&features, 0xff, sizeof(features));
	EXPECT_EQ(0, ux_ioctl(self->fd, OCXL_IOCTL_GET_FEATURES, &features));
	for (size_t i = 0; i < ARRAY_SIZE(features.flags); i++) {
		EXPECT_EQ(0, features.flags[i])
			TH_LOG("word %zu", i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_ERRNO(OCXL_IOCTL_GET_FEATURES, EFAULT,
			     ux_ioctl(self->fd, OCXL_IOCTL_GET_FEATURES, bad[i]))
			TH_LOG("pointer %zu", i);
	}
}

/* Events have a test of their own, where they can be had. */
TEST_F(abi, a_context_begins_with_nothing_to_read)
{
	struct pollfd pfd = { .fd = self->fd, .events = ~0 };
	struct uxive_event event;

	EXPECT_EQ(0, poll(&pfd, 1, 0));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	EXPECT_ERRNO(read, EINVAL, read(self->fd, &event, sizeof(event) - 1) < 0 ? -errno : 0);
	EXPECT_ERRNO(read, EAGAIN, read(self->fd, &event, sizeof(event)) < 0 ? -errno : 0);
}

TEST_F(abi, a_context_takes_nothing)
{
	struct uxive_event event = {};

	EXPECT_ERRNO(write, EINVAL, write(self->fd, &event, sizeof(event)) < 0 ? -errno : 0);
}

static bool is_window(const struct uxive_window *window, __u64 offset, __u64 length,
		      __u64 stride)
{
	return window->offset == offset && window->length == length &&
	       window->stride == stride;
}

TEST_F(abi, info_tells_of_the_interface)
{
	/* Half of those that the CPUs, all of which are online, have room for. */
	long linux_irqs = sysconf(_SC_NPROCESSORS_ONLN) * (sysconf(_SC_PAGESIZE) / 4 - 1) / 2;
	struct uxive_info info;

	ASSERT_EQ(0, ux_info(self->fd, &info));
	EXPECT_EQ(sizeof(info), info.size);
	EXPECT_EQ(0, info.flags);
	EXPECT_EQ(limit_get("bypass") ? UXIVE_FEATURE_BYPASS : 0, info.features);
	EXPECT_EQ(UXIVE_DRAIN_XIVE, info.drain_formats);
	EXPECT_EQ(sysconf(_SC_PAGESIZE), info.page_size);
	EXPECT_EQ(STRIDE, info.esb_page_size);
	EXPECT_EQ(SLOTS, info.max_irqs);
	EXPECT_EQ(TOTAL, info.max_irqs_total);
	EXPECT_EQ(0, info.irqs);
	EXPECT_EQ(0, info.reserved);
	EXPECT_EQ(TOTAL / 2, info.max_irqs_user);
	EXPECT_EQ(linux_irqs < 16384 ? linux_irqs : 16384, info.max_queues_total);
	EXPECT_EQ(info.max_queues_total / 2, info.max_queues_user);
	EXPECT_EQ(4096, info.max_exports_total);
	EXPECT_EQ(2048, info.max_exports_user);
	EXPECT_EQ(0, info.exports_user);
	EXPECT_EQ(0, info.exports_total);
	EXPECT_TRUE(is_window(&info.trigger, IRQ_BASE, WINDOW, STRIDE));
	/* The window has room for messages of an AFU, behind the other slots. */
	EXPECT_TRUE(is_window(&info.esb, 2 * IRQ_BASE, 4 * WINDOW, 2 * STRIDE));
	EXPECT_TRUE(is_window(&info.queue, 3 * IRQ_BASE, 4 * SLOTS, 4));
}

TEST_F(abi, info_tells_windows_that_can_be_mapped_whole_and_no_further)
{
	struct uxive_info info;

	ASSERT_EQ(0, ux_info(self->fd, &info));
	const struct {
		const struct uxive_window *window;
		int prot;
	} cases[] = {
		{ &info.trigger, PROT_WRITE },
		{ &info.esb, PROT_READ | PROT_WRITE },
		{ &info.queue, PROT_READ },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		__u64 offset = cases[i].window->offset, length = cases[i].window->length;
		void *window = mmap(NULL, length, cases[i].prot, MAP_SHARED, self->fd, offset);

		EXPECT_NE(MAP_FAILED, window) TH_LOG("window %zu", i);
		munmap(window, length);
		EXPECT_EQ(MAP_FAILED, mmap(NULL, length + info.page_size, cases[i].prot,
					   MAP_SHARED, self->fd, offset)) TH_LOG("window %zu", i);
	}
}

TEST_F(abi, info_counts_what_is_in_use)
{
	int other = ux_open();
	/* Contexts of tests before may still be on their way out. */
	long before = total_irqs(self->fd);

	while (!becomes(total_irqs(self->fd), before))
		before = total_irqs(self->fd);
	EXPECT_EQ(0, irqs_of(other));
	ASSERT_EQ(0, ux_fill(self->fd, 3));
	ASSERT_EQ(0, ux_fill(other, 2));
	EXPECT_EQ(3, irqs_of(self->fd));
	EXPECT_EQ(2, irqs_of(other));
	EXPECT_EQ(before + 5, total_irqs(self->fd));
	EXPECT_EQ(before + 5, total_irqs(other));

	ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
	EXPECT_EQ(2, irqs_of(self->fd));
	EXPECT_EQ(before + 4, total_irqs(other));
	/* A call that fails uses nothing. */
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EFAULT, ux_alloc(self->fd, self->readonly));
	EXPECT_EQ(2, irqs_of(self->fd));
	EXPECT_EQ(before + 4, total_irqs(self->fd));

	close(other);
	EXPECT_TRUE(becomes(total_irqs(self->fd), before + 2));
	EXPECT_EQ(2, irqs_of(self->fd));
}

/*
 * Structures that grow. A call is tried with each structure of a malformed
 * kind, in a context of its own. The result is the outcome that all have, or
 * the first that differs.
 */

/* Pages that end where nothing is mapped. */
#define ROOM	(2UL << 16)

struct growing {
	unsigned int cmd;
	const void *good;	/* The structure, well-formed but for its size. */
	__u32 known;		/* Its size. */
	__u32 first;		/* That of its first version. */
	__u32 flags;		/* Those that there are. */
	void *end;		/* Of the pages. */
	bool exports;		/* It is for a context with an interrupt, and an export. */
	bool of_export;		/* It is for the file of that. */
	bool drained;		/* It is for a context that drains by itself. */
	unsigned int irqs;	/* Interrupts that it is about. */
	bool only_read;		/* Nothing is returned in it. */
};

/* The structure, as if it were @size bytes, with @room for it. */
static void *place(const struct growing *call, __u32 size, size_t room)
{
	void *arg = call->end - room;

	memset(call->end - ROOM, 0, ROOM);
	memcpy(arg, call->good, room < call->known ? room : call->known);
	memcpy(arg, &size, room < sizeof(size) ? room : sizeof(size));
	return arg;
}

/* The context that calls are tried on, and its export: others once one has succeeded. */
static int tried_fd = -1, tried_bell = -1;

static void try_anew(const struct growing *call)
{
	tried_fd = ux_open();
	if (call->drained && ux_user_drain(tried_fd, -1))
		abort();
	if (ux_fill(tried_fd, call->exports ? 1 : call->irqs))
		abort();
	if (call->exports) {
		tried_bell = ux_export(tried_fd, 0, 1, NULL);
		if (tried_bell < 0)
			abort();
	}
}

static int try_once(const struct growing *call, void *arg)
{
	unsigned int irqs = call->exports ? 1 : call->irqs;
	struct uxive_info info;
	int fds, ret;

	if (tried_fd < 0)
		try_anew(call);
	fds = fds_open();
	ret = ux_ioctl(call->of_export ? tried_bell : tried_fd, call->cmd, arg);
	if (!ret && call->cmd == UXIVE_IOC_RANGE)
		close(((struct uxive_range *)arg)->fd);
	if (!ret && call->cmd == UXIVE_IOC_EXPORT)
		close(((struct uxive_export *)arg)->fd);
	/* A call that fails leaves nothing. */
	if (ret && (ux_count(tried_fd) != (int)irqs || fds_open() != fds ||
		    ux_info(tried_fd, &info) || info.exports_total != call->exports))
		ret = -1000;
	if (!ret) {
		close(tried_bell);
		close(tried_fd);
		tried_bell = -1;
		tried_fd = -1;
	}
	progress();
	return ret;
}

static int first_other(int all, int ret, int wanted)
{
	return all == wanted ? ret : all;
}

static int try_too_small(const struct growing *call)
{
	const __u32 sizes[] = { 0, 1, 4, 8, call->first - 8, call->first - 1 };
	int all = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (sizes[i] < call->first)
			all = first_other(all, try_once(call, place(call, sizes[i], ROOM)),
					  -EINVAL);
	}
	return all;
}

static int try_unknown_flags(const struct growing *call)
{
	int all = -EINVAL;

	for (int bit = 0; bit < 32; bit++) {
		__u32 *arg = place(call, call->known, ROOM);

		arg[1] |= 1U << bit;
		if (!(call->flags & 1U << bit))
			all = first_other(all, try_once(call, arg), -EINVAL);
	}
	return all;
}

/*
 * Larger by up to some hundred bytes, one of which is not 0. With few bytes each is
 * tried in turn. With many, which the driver reads 64 at a time, the ends of each 64,
 * the last, and some between are tried.
 */
static int try_unknown_fields(const struct growing *call)
{
	const __u32 larger[] = { 1, 8, 63, 64, 65, 300 };
	int all = -E2BIG;

	for (size_t i = 0; i < ARRAY_SIZE(larger); i++) {
		for (__u32 at = 0; at < larger[i]; at++) {
			bool end = at % 64 == 0 || at % 64 == 63 || at == larger[i] - 1;
			char *arg;

			if (larger[i] > 65 && !end && at % 17)
				continue;
			arg = place(call, call->known + larger[i], ROOM);
			arg[call->known + at] = 1;
			all = first_other(all, try_once(call, arg), -E2BIG);
		}
	}
	return all;
}

static int try_too_large(const struct growing *call)
{
	const __u32 page = sysconf(_SC_PAGESIZE);
	const __u32 sizes[] = { page + 1, page + 8, 1U << 31, ~0U };
	int all = -E2BIG;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		all = first_other(all, try_once(call, place(call, sizes[i], ROOM)), -E2BIG);
	return all;
}

/* In no memory, in memory that ends within it, in memory that cannot be written. */
static int try_bad_pointers(const struct growing *call)
{
	void *const pointers[] = { NULL, call->end, (void *)(1UL << 62) };
	const size_t rooms[] = { 2, 4, 8, 12, call->known - 8, call->known - 1 };
	int all = -EFAULT;

	for (size_t i = 0; i < ARRAY_SIZE(pointers); i++)
		all = first_other(all, try_once(call, pointers[i]), -EFAULT);
	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
		if (rooms[i] < call->known)
			all = first_other(all, try_once(call, place(call, call->known, rooms[i])),
					  -EFAULT);
	}
	/* The known part has room, the zeros beyond it have none. */
	all = first_other(all, try_once(call, place(call, call->known + 64, call->known + 8)),
			  -EFAULT);

	place(call, call->known, ROOM);
	mprotect(call->end - ROOM, ROOM, PROT_READ);
	if (!call->only_read)
		all = first_other(all, try_once(call, call->end - ROOM), -EFAULT);
	mprotect(call->end - ROOM, ROOM, PROT_READ | PROT_WRITE);
	return all;
}

/*
 * Of the size that older programs know, of the kernel's, right before the hole,
 * and larger, with zeros beyond.
 */
static int try_good_sizes(const struct growing *call)
{
	const __u32 page = sysconf(_SC_PAGESIZE);
	const __u32 sizes[] = {
		call->first, call->known, call->known + 1, call->known + 64, page
	};
	int all = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *arg = place(call, sizes[i], sizes[i]);

		all = first_other(all, try_once(call, arg), 0);
		/* Nothing is written beyond. */
		for (__u32 at = call->known; at < sizes[i]; at++)
			all = first_other(all, arg[at], 0);
	}
	return all;
}

FIXTURE(structure) {
	struct growing call;
};

FIXTURE_VARIANT(structure) {
	struct growing call;
};

/* Of the ioctl @ioctl, whose argument is a @type with the fields @fields. */
#define GROWING(ioctl, type, fields, ...) {				\
	.cmd = ioctl, .good = &(const type)fields,			\
	.known = sizeof(type), .first = sizeof(type), __VA_ARGS__	\
}

#define FIELDS(...)	{ __VA_ARGS__ }

FIXTURE_VARIANT_ADD(structure, info) {
	.call = GROWING(UXIVE_IOC_INFO, struct uxive_info, FIELDS()),
};

FIXTURE_VARIANT_ADD(structure, user_drain) {
	.call = GROWING(UXIVE_IOC_USER_DRAIN, struct uxive_user_drain,
			FIELDS(.eventfd = -1, .format = UXIVE_DRAIN_XIVE)),
};

FIXTURE_VARIANT_ADD(structure, arm) {
	.call = GROWING(UXIVE_IOC_ARM, struct uxive_arm,
			FIELDS(), .drained = true, .only_read = true),
};

FIXTURE_VARIANT_ADD(structure, irq_alloc) {
	.call = GROWING(UXIVE_IOC_IRQ_ALLOC, struct uxive_irq_alloc,
			FIELDS(), .flags = UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE),
};

FIXTURE_VARIANT_ADD(structure, irq_alloc_on_chip) {
	.call = GROWING(UXIVE_IOC_IRQ_ALLOC, struct uxive_irq_alloc,
			FIELDS(.flags = UXIVE_ALLOC_CHIP),
			.flags = UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE),
};

FIXTURE_VARIANT_ADD(structure, irq_alloc_many) {
	.call = GROWING(UXIVE_IOC_IRQ_ALLOC_MANY, struct uxive_irq_alloc_many,
			FIELDS(.count = 3),
			.flags = UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE | UXIVE_ALLOC_AT),
};

FIXTURE_VARIANT_ADD(structure, irq_free_many) {
	.call = GROWING(UXIVE_IOC_IRQ_FREE_MANY, struct uxive_irq_free_many,
			FIELDS(.start = 1, .count = 2),
			.irqs = 3, .only_read = true),
};

FIXTURE_VARIANT_ADD(structure, irq_free_all) {
	.call = GROWING(UXIVE_IOC_IRQ_FREE_ALL, struct uxive_irq_free_all,
			FIELDS(), .irqs = 3, .only_read = true),
};

FIXTURE_VARIANT_ADD(structure, set_irqs) {
	.call = GROWING(UXIVE_IOC_SET_IRQS, struct uxive_set_irqs,
			FIELDS(.flags = UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER,
			       .start = 1, .count = 2),
			.flags = 0x3f, .irqs = 3, .only_read = true),
};

FIXTURE_VARIANT_ADD(structure, range) {
	.call = GROWING(UXIVE_IOC_RANGE, struct uxive_range,
			FIELDS(.count = 3)),
};

FIXTURE_VARIANT_ADD(structure, export) {
	.call = GROWING(UXIVE_IOC_EXPORT, struct uxive_export,
			FIELDS(.kind = UXIVE_EXPORT_FILE, .count = 1),
			.exports = true),
};

FIXTURE_VARIANT_ADD(structure, export_info) {
	.call = GROWING(UXIVE_IOC_EXPORT_INFO, struct uxive_export_info,
			FIELDS(), .exports = true, .of_export = true),
};

FIXTURE_VARIANT_ADD(structure, revoke) {
	.call = GROWING(UXIVE_IOC_REVOKE, struct uxive_revoke,
			FIELDS(.id = 1),
			.exports = true, .only_read = true),
};

FIXTURE_SETUP(structure)
{
	self->call = variant->call;
	self->call.end = before_a_hole(ROOM) + ROOM;
}

FIXTURE_TEARDOWN(structure)
{
}

TEST_F(structure, may_be_larger_or_older)
{
	EXPECT_EQ(0, try_good_sizes(&self->call));
}

TEST_F(structure, is_refused_for_a_size_that_no_version_had)
{
	EXPECT_EQ(-EINVAL, try_too_small(&self->call));
	EXPECT_EQ(-E2BIG, try_too_large(&self->call));
}

TEST_F(structure, is_refused_for_what_only_a_later_version_knows)
{
	EXPECT_EQ(-EINVAL, try_unknown_flags(&self->call));
	EXPECT_EQ(-E2BIG, try_unknown_fields(&self->call));
}

TEST_F(structure, is_refused_where_memory_is_not_the_programs)
{
	EXPECT_EQ(-EFAULT, try_bad_pointers(&self->call));
}

TEST_F(abi, user_drain_refuses_what_cannot_be)
{
	struct uxive_user_drain drain = ux_drain_arg(event_new());
	int other = open("/dev/null", O_RDWR), closed = dup(other);
	const __u32 formats[] = { 0, 2, 3, 1U << 31, ~0U };

	close(closed);
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		drain.format = formats[i];
		EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EINVAL,
			     ux_ioctl(self->fd, UXIVE_IOC_USER_DRAIN, &drain));
	}
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EBADF, ux_user_drain(self->fd, closed));
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EBADF, ux_user_drain(self->fd, -2));
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, EINVAL, ux_user_drain(self->fd, other));
	/* Nothing of that has set up a queue. */
	EXPECT_EQ(0, ux_user_drain(self->fd, event_new()));
}

TEST_F(abi, poll_tells_of_events_in_a_user_drained_queue)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLPRI };
	__u64 offset;
	void *page;

	ASSERT_EQ(0, ux_user_drain(self->fd, -1));
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(0, polled(self->fd, POLLIN | POLLPRI));
	ring(page);
	EXPECT_EQ(1, poll(&pfd, 1, WATCHDOG_MS));
	EXPECT_EQ(POLLPRI, polled(self->fd, POLLIN | POLLPRI));
	ASSERT_EQ(0, ux_arm(self->fd));
	EXPECT_EQ(0, polled(self->fd, POLLIN | POLLPRI));
	munmap(page, STRIDE);
}

/* The CPUs of the machine: the chip of each, or -1. */
#define CPUS	64

static int read_chips(int *chips)
{
	int count = 0;

	for (int cpu = 0; cpu < CPUS; cpu++) {
		chips[cpu] = chip_of_cpu(cpu);
		count += chips[cpu] >= 0;
	}
	return count;
}

/* Which chip the last allocated interrupt is of: LISNs have its number in their upper bits. */
static long lisn_chip(int fd)
{
	struct ux_irq irqs[16];
	int count = ux_irqs(fd, irqs, ARRAY_SIZE(irqs));

	return count < 1 || count > 16 ? -1 : (long)(irqs[count - 1].lisn >> 20);
}

TEST_F(abi, alloc_takes_from_the_chip_that_is_asked_for)
{
	int chips[CPUS], others = 0;
	long of_chip[CPUS];
	__u64 offset;

	ASSERT_LT(0, read_chips(chips));
	for (int cpu = 0; cpu < CPUS; cpu++) {
		int fd = ux_open();

		/* Wherever the caller runs, and for more than one. */
		for (int from = 0; chips[cpu] >= 0 && from < 4; from++) {
			pin_to_cpu(from);
			ASSERT_EQ(0, ux_alloc_on(fd, chips[cpu], &offset));
			EXPECT_EQ(slot_offset(from), offset);
			of_chip[cpu] = from ? of_chip[cpu] : lisn_chip(fd);
			EXPECT_EQ(of_chip[cpu], lisn_chip(fd)) TH_LOG("chip %d", chips[cpu]);
		}
		close(fd);
	}
	for (int cpu = 0; cpu < CPUS && chips[cpu] >= 0; cpu++) {
		EXPECT_EQ(chips[cpu] == chips[0], of_chip[cpu] == of_chip[0]);
		others += chips[cpu] != chips[0];
	}
	TH_LOG("%d CPUs are on another chip than the first", others);

	/* Unless it is asked for, the caller's own is preferred. */
	for (int cpu = 0; cpu < CPUS && chips[cpu] >= 0; cpu++) {
		int fd = ux_open();

		pin_to_cpu(cpu);
		ASSERT_EQ(0, ux_alloc_on(fd, -1, &offset));
		EXPECT_EQ(slot_offset(0), offset);
		EXPECT_EQ(of_chip[cpu], lisn_chip(fd)) TH_LOG("CPU %d", cpu);
		ASSERT_EQ(0, ux_alloc(fd, &offset));
		EXPECT_EQ(of_chip[cpu], lisn_chip(fd)) TH_LOG("CPU %d", cpu);
		close(fd);
	}
}

TEST_F(abi, alloc_from_no_chip_allocates_nothing)
{
	struct uxive_irq_alloc alloc = { .size = sizeof(alloc), .chip = 1 };
	int chips[CPUS], last = 0;
	__u64 offset;

	ASSERT_LT(0, read_chips(chips));
	for (int cpu = 0; cpu < CPUS; cpu++)
		last = chips[cpu] > last ? chips[cpu] : last;

	const __u32 absent[] = { last + 1, last + 256, 1U << 31, INT32_MAX, ~0U };

	for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
		EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENODEV,
			     ux_alloc_on(self->fd, absent[i], &offset))
			TH_LOG("chip %u", absent[i]);
	}
	/* The number of a chip without the flag that says so. */
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, EINVAL, ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC, &alloc));
	alloc = (struct uxive_irq_alloc){ .size = sizeof(alloc), .reserved = 1 };
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, EINVAL, ux_ioctl(self->fd, UXIVE_IOC_IRQ_ALLOC, &alloc));
	EXPECT_EQ(0, ux_count(self->fd));
	EXPECT_EQ(0, irqs_of(self->fd));

	/* The refused call has not chosen who drains the queue. */

	EXPECT_EQ(0, ux_user_drain(self->fd, event_new()));
}

TEST_HARNESS_MAIN
