// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts of a context, by the ioctls that uxive and ocxl share: what they
 * cost when there are N of them, or almost as many as a context can have.
 */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <misc/ocxl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MANY 16384

/* Found once, so that measured opens only open. */
static const char *device(void)
{
	static char path[300];
	struct dirent *entry;
	DIR *directory;

	if (path[0])
		return path;
	if (!strcmp(driver, "uxive"))
		return "/dev/uxive";

	directory = opendir("/dev/ocxl");
	if (!directory)
		die("/dev/ocxl: %m");
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			snprintf(path, sizeof(path), "/dev/ocxl/%s", entry->d_name);
	closedir(directory);
	return path;
}

int open_driver(void)
{
	int fd = open(device(), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: %m", device());
	return fd;
}

__u64 allocate(int fd)
{
	__u64 offset;

	must(ioctl(fd, OCXL_IOCTL_IRQ_ALLOC, &offset));
	return offset;
}

void bind_eventfd(int fd, __u64 offset, int eventfd)
{
	struct ocxl_ioctl_irq_fd arg = { .irq_offset = offset, .eventfd = eventfd };

	must(ioctl(fd, OCXL_IOCTL_IRQ_SET_FD, &arg));
}

/* The pages of N interrupts, each in a mapping of its own. */
struct interrupts {
	int fd;
	__u64 offset[N];
	int eventfd[N];
	struct bell bell[N];
};

static void make_eventfds(struct interrupts *irqs)
{
	for (int i = 0; i < N; i++)
		irqs->eventfd[i] = must(eventfd(0, EFD_CLOEXEC));
}

static void measure_alloc(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	lock_memory(true);
	for (int i = 0; i < N; i++) {
		int result;

		MEASURE(op, result = ioctl(irqs->fd, OCXL_IOCTL_IRQ_ALLOC, &irqs->offset[i]));
		must(result);
	}
	lock_memory(false);
}

static void measure_bind(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	lock_memory(true);
	for (int i = 0; i < N; i++) {
		struct ocxl_ioctl_irq_fd arg = {
			.irq_offset = irqs->offset[i],
			.eventfd = irqs->eventfd[i],
		};
		int result;

		MEASURE(op, result = ioctl(irqs->fd, OCXL_IOCTL_IRQ_SET_FD, &arg));
		must(result);
	}
	lock_memory(false);
}

/* Allocate and bind: VFIO can only do both at once. */
static void measure_alloc_bind(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	lock_memory(true);
	for (int i = 0; i < N; i++)
		MEASURE(op, bind_eventfd(irqs->fd, allocate(irqs->fd), irqs->eventfd[i]));
	lock_memory(false);
}

static void measure_mmap(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	for (int i = 0; i < N; i++) {
		void *page;

		MEASURE(op, page = mmap(NULL, DEVICE_PAGE, PROT_WRITE, MAP_SHARED, irqs->fd,
					irqs->offset[i]));
		irqs->bell[i] = (struct bell) {
			.kind = BY_PAGE,
			.page = must(page),
			.fd = irqs->eventfd[i],
		};
	}
}

/* By a load, since a store would ring. */
static void measure_first_touch(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	for (int i = 0; i < N; i++)
		MEASURE(op, load64(irqs->bell[i].page));
}

/* The first store of all to a page, until the eventfd has been read. */
static void measure_first_ring(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	for (int i = 0; i < N; i++) {
		__u64 value;
		long result;

		MEASURE(op,
			store64(irqs->bell[i].page, 0);
			result = read(irqs->eventfd[i], &value, sizeof(value)));
		must(result);
	}
}

/* Of interrupts that are bound, mapped and touched. */
static void measure_free(struct interrupts *irqs, const char *name)
{
	struct op *op = new_op(name);

	for (int i = 0; i < N; i++) {
		int result;

		MEASURE(op, result = ioctl(irqs->fd, OCXL_IOCTL_IRQ_FREE, &irqs->offset[i]));
		must(result);
	}
	for (int i = 0; i < N; i++)
		must(munmap(irqs->bell[i].page, DEVICE_PAGE));
}

void bench_interrupts(void)
{
	static struct interrupts irqs;

	irqs.fd = open_driver();
	make_eventfds(&irqs);

	measure_alloc(&irqs, "alloc");
	measure_bind(&irqs, "bind");
	measure_mmap(&irqs, "mmap");
	measure_first_touch(&irqs, "first_touch");
	measure_ring_read("ring_read", irqs.bell, N);
	measure_ring_blocked("ring_blocked_read", &irqs.bell[0], false);
	measure_ring_blocked("ring_blocked_poll", &irqs.bell[0], true);
	measure_free(&irqs, "free");

	/* Once more, with the sources that the first round has freed. */
	measure_alloc(&irqs, "alloc_again");
	measure_bind(&irqs, NULL);
	measure_mmap(&irqs, NULL);
	measure_first_ring(&irqs, "first_ring");
	measure_free(&irqs, NULL);

	measure_alloc_bind(&irqs, "alloc_bind");
	close(irqs.fd);
}

void bench_many(void)
{
	static struct interrupts irqs;

	irqs.fd = open_driver();
	make_eventfds(&irqs);
	for (int i = 0; i < MANY - N; i++)
		allocate(irqs.fd);
	/* The driver gets new ones from firmware ahead of time, but not so many at once. */
	usleep(SETTLE_US);

	measure_alloc(&irqs, "alloc_at_16384");
	measure_bind(&irqs, NULL);
	measure_mmap(&irqs, NULL);
	measure_first_touch(&irqs, "first_touch_at_16384");
	measure_ring_read("ring_read_at_16384", irqs.bell, N);
	measure_free(&irqs, "free_at_16384");
	close(irqs.fd);
}

/* uxive maps many pages at a time, ocxl one. */
static int pages_per_mapping(void)
{
	return strcmp(driver, "uxive") ? 1 : N;
}

static void map_pages(int fd, const __u64 *offsets, void **pages)
{
	int step = pages_per_mapping();

	for (int i = 0; i < N; i += step) {
		void *mapping = must(mmap(NULL, step * DEVICE_PAGE, PROT_WRITE, MAP_SHARED, fd,
					  offsets[i]));

		for (int j = 0; j < step; j++)
			pages[i + j] = mapping + j * DEVICE_PAGE;
	}
}

static void unmap_pages(void **pages)
{
	int step = pages_per_mapping();

	for (int i = 0; i < N; i += step)
		must(munmap(pages[i], step * DEVICE_PAGE));
}

static void touch_pages(void **pages)
{
	for (int i = 0; i < N; i++)
		load64(pages[i]);
}

static int make_ready(__u64 *offsets, const int *eventfds, void **pages)
{
	int fd = open_driver();

	for (int i = 0; i < N; i++) {
		offsets[i] = allocate(fd);
		bind_eventfd(fd, offsets[i], eventfds[i]);
	}
	map_pages(fd, offsets, pages);
	touch_pages(pages);
	return fd;
}

/* From no context at all to N interrupts that can be rung; and only touching all their pages. */
void bench_ready(void)
{
	struct op *ready = new_op("ready64");
	struct op *touch = new_op("touch64");
	static void *pages[N];
	static __u64 offsets[N];
	static int eventfds[N];

	for (int i = 0; i < N; i++)
		eventfds[i] = must(eventfd(0, EFD_CLOEXEC));
	close(open_driver());
	for (int round = 0; round < N; round++) {
		int fd;

		MEASURE(ready, fd = make_ready(offsets, eventfds, pages));
		unmap_pages(pages);
		map_pages(fd, offsets, pages);
		MEASURE(touch, touch_pages(pages));
		unmap_pages(pages);
		close(fd);
	}
}

void bench_open_close(void)
{
	struct op *empty = new_op("open_close");
	struct op *one = new_op("open_close_with_one");

	close(open_driver());
	for (int i = 0; i < N; i++)
		MEASURE(empty, close(open_driver()));
	for (int i = 0; i < N; i++)
		MEASURE(one, int fd = open_driver(); allocate(fd); close(fd));
}
