/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for selftests with QEMU's edu, a PCI device that does DMA: it moves bytes
 * between memory and a buffer of its own, and takes 100 ms for that.
 */
#ifndef UXIVE_EDU_H
#define UXIVE_EDU_H

#include "uxive_afu.h"

#define EDU_ID		"0x1234 0x11e8"

/* Its registers are big-endian. */
#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_BUFFER	0x40000
#define EDU_RUNS	1
#define EDU_TO_MEMORY	2
/* Where a device that is not confined finds all of the memory. */
#define BYPASS		0x800000000000000ULL
/* The frame of a page in /proc/self/pagemap. */
#define FRAME		0x7fffffffffffffULL

static inline void edu_write(void *edu, size_t offset, __u64 value)
{
	__atomic_store_n((__u64 *)(edu + offset), htobe64(value), __ATOMIC_RELAXED);
}

static inline __u64 edu_read(const void *edu, size_t offset)
{
	return be64toh(__atomic_load_n((const __u64 *)(edu + offset), __ATOMIC_RELAXED));
}

/*
 * Moves bytes between its buffer and an address of the bus; @direction is EDU_TO_MEMORY
 * or 0. Returns whether it says that it has done so: it says so of those that go nowhere.
 */
static inline bool edu_moves(void *edu, __u64 bus, size_t size, __u64 direction)
{
	edu_write(edu, EDU_SOURCE, direction ? EDU_BUFFER : bus);
	edu_write(edu, EDU_TARGET, direction ? bus : EDU_BUFFER);
	edu_write(edu, EDU_COUNT, size);
	__sync_synchronize();
	edu_write(edu, EDU_COMMAND, direction | EDU_RUNS);
	return becomes(edu_read(edu, EDU_COMMAND) & EDU_RUNS, 0);
}

/* Where a page of this process lies in memory; 0 if that cannot be told. */
static inline __u64 physical(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long size = sysconf(_SC_PAGESIZE);
	__u64 entry = 0;

	if (pread(fd, &entry, sizeof(entry), (__u64)page / size * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return (entry & FRAME) * size;
}

/* Whether a function may access memory; -1 if its configuration space cannot be read. */
static inline int is_master(const struct afu_function *function)
{
	int fd = open(function_path(function, "config"), O_RDONLY | O_CLOEXEC), ret;
	__u8 command = 0;

	ret = pread(fd, &command, 1, 4) == 1 ? !!(command & 4) : -1;
	close(fd);
	return ret;
}

/* Lets a function without a driver do DMA. */
static inline bool make_master(const struct afu_function *function)
{
	int fd = open(function_path(function, "config"), O_RDWR | O_CLOEXEC);
	__u8 command = 0;

	if (pread(fd, &command, 1, 4) == 1) {
		command |= 4;
		pwrite(fd, &command, 1, 4);
	}
	close(fd);
	return is_master(function) == 1;
}

#endif /* UXIVE_EDU_H */
