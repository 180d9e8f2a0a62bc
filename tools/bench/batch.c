// SPDX-License-Identifier: GPL-2.0
/*
 * N interrupts in one call; a sample is the cost of one of them. They are
 * bound, mapped and touched before they are freed, as in the measurement of
 * single frees. The context has another interrupt before, so that the cost of
 * the first one is not measured.
 */
#include "bench.h"

#include <misc/uxive.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* As MEASURE, each of N. */
#define MEASURE_EACH(series, ...) \
	do { \
		struct op *each_ = (series); \
		__u64 from_; \
		mark_begin(each_); \
		from_ = timebase(); \
		__VA_ARGS__; \
		from_ = timebase() - from_; \
		mark_end(each_); \
		record(each_, from_ / N); \
	} while (0)

void bench_batch(void)
{
	struct op *alloc_op = new_op("alloc_batch64");
	struct op *free_op = new_op("free_batch64");
	int fd = open_driver();
	__u64 first = allocate(fd);
	int event = must(eventfd(0, EFD_CLOEXEC));

	for (int round = 0; round < N; round++) {
		struct uxive_irq_alloc_many alloc = { .size = sizeof(alloc), .count = N };
		struct uxive_irq_free_many free = { .size = sizeof(free), .count = N };
		__u64 offset = first;
		int result;
		void *page;

		lock_memory(true);
		MEASURE_EACH(alloc_op, result = ioctl(fd, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc));
		lock_memory(false);
		must(result);
		free.start = alloc.start;
		for (int i = 0; i < N; i++)
			bind_eventfd(fd, offset += DEVICE_PAGE, event);
		page = must(mmap(NULL, N * DEVICE_PAGE, PROT_WRITE, MAP_SHARED, fd,
				 first + DEVICE_PAGE));
		load64(page);
		MEASURE_EACH(free_op, result = ioctl(fd, UXIVE_IOC_IRQ_FREE_MANY, &free));
		must(result);
		must(munmap(page, N * DEVICE_PAGE));
	}
	close(fd);
}
