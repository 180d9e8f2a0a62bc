/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * User interface of uxive beyond the ioctls that it shares with ocxl, see
 * <misc/ocxl.h>. Documentation/userspace-api/uxive.rst describes both.
 */
#ifndef _UAPI_MISC_UXIVE_H
#define _UAPI_MISC_UXIVE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* ocxl has 0x10 to 0x2f of this type, uxive 0x40 to 0x7f. */
#define UXIVE_MAGIC 0xCA

/**
 * struct uxive_user_drain - argument of UXIVE_IOC_USER_DRAIN
 * @size: In: size of the structure. A program built with a later header, whose
 *	structure is larger, may set only what lies within the size that the
 *	kernel knows; other bytes must be 0.
 * @flags: In: none defined, must be 0.
 * @eventfd: In: eventfd to signal when the armed queue has an entry.
 * @reserved: In: must be 0.
 * @queue_offset: Out: offset at which the event queue can be mapped.
 * @queue_entries: Out: number of 4-byte entries of the queue, a power of two.
 * @esb_offset: Out: offset at which the pages of the interrupts can be mapped.
 * @esb_stride: Out: distance of the pages of consecutive interrupts in bytes.
 *	Each has its trigger page first, its management page at half of that.
 */
struct uxive_user_drain {
	__u32 size;
	__u32 flags;
	__s32 eventfd;
	__u32 reserved;
	__u64 queue_offset;
	__u64 queue_entries;
	__u64 esb_offset;
	__u64 esb_stride;
};

/* Has the program drain the event queue of the context by itself. */
#define UXIVE_IOC_USER_DRAIN	_IOWR(UXIVE_MAGIC, 0x41, struct uxive_user_drain)

/* Has the next entry in a user-drained queue signal the eventfd, once. */
#define UXIVE_IOC_ARM		_IO(UXIVE_MAGIC, 0x42)

#endif /* _UAPI_MISC_UXIVE_H */
