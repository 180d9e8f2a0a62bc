// SPDX-License-Identifier: GPL-2.0
/*
 * Exports: making the file, and taking back the pages of one that RECEIVERS
 * processes have mapped and touched, as many as may. The processes are made only
 * once: each maps N exports for each way to take them back.
 */
#include "bench.h"

#include <misc/uxive.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECEIVERS 128
/* Interrupts of a call for many. A touch brings the pages of as many. */
#define MANY 64

/* Exports of @count interrupts each. */
struct lent {
	int count;
	__u32 id[N];
	int fd[N];
};

static void lend(struct lent *lent, int i, int fd, __u32 start)
{
	struct uxive_export arg = {
		.size = sizeof(arg), .kind = UXIVE_EXPORT_FILE, .start = start,
		.count = lent->count,
	};

	must(ioctl(fd, UXIVE_IOC_EXPORT, &arg));
	lent->id[i] = arg.id;
	lent->fd[i] = arg.fd;
}

static void free_slot(int fd, __u32 slot, __u64 base)
{
	__u64 offset = base + (__u64)slot * DEVICE_PAGE;

	must(ioctl(fd, OCXL_IOCTL_IRQ_FREE, &offset));
}

/* Allocates @count interrupts of a context that has none. Returns the offset of the first. */
static __u64 allocate_many(int fd, int count)
{
	struct uxive_irq_alloc_many arg = { .size = sizeof(arg), .count = count };
	struct uxive_info info = { .size = sizeof(info) };

	must(ioctl(fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg));
	must(ioctl(fd, UXIVE_IOC_INFO, &info));
	return info.trigger.offset;
}

static void receive(const struct lent *lent)
{
	size_t size = (size_t)lent->count * DEVICE_PAGE;

	for (int i = 0; i < N; i++) {
		char *pages = must(mmap(NULL, size, PROT_WRITE, MAP_SHARED, lent->fd[i], 0));

		for (int page = 0; page < lent->count; page += MANY)
			load64(pages + (size_t)page * DEVICE_PAGE);
	}
}

static void hang_on(int ready, int end)
{
	char byte = 0;

	must(write(ready, &byte, 1));
	/* Until the other end is closed. */
	must(read(end, &byte, 1));
	_exit(0);
}

void bench_export(void)
{
	struct op *export_op = new_op("export");
	struct op *revoke_op = new_op("revoke_128");
	struct op *free_op = new_op("free_128");
	struct op *free_many_op = new_op("free_many64_128");
	struct op *free_all_op = new_op("free_all64_128");
	static struct lent revoked = { .count = 1 }, freed = { .count = 1 };
	static struct lent many = { .count = MANY }, all = { .count = 2 * MANY };
	static pid_t receivers[RECEIVERS];
	static int scattered[N];
	int fd = open_driver(), large = open_driver(), ready[2], end[2];
	__u64 base = allocate_many(fd, N);

	allocate_many(large, N * MANY);
	must(pipe(ready));
	must(pipe(end));
	lock_memory(true);
	for (int i = 0; i < N; i++)
		MEASURE(export_op, lend(&revoked, i, fd, 0));
	lock_memory(false);
	for (int i = 0; i < N; i++) {
		lend(&freed, i, fd, i);
		lend(&many, i, large, i * MANY);
		/* Every second interrupt is there when they are freed, no two side by side. */
		scattered[i] = open_driver();
		allocate_many(scattered[i], 2 * MANY);
		lend(&all, i, scattered[i], 0);
		for (int slot = 1; slot < 2 * MANY; slot += 2)
			free_slot(scattered[i], slot, base);
	}

	for (int i = 0; i < RECEIVERS; i++) {
		char byte;

		receivers[i] = must(fork());
		if (!receivers[i]) {
			close(end[1]);
			receive(&revoked);
			receive(&freed);
			receive(&many);
			receive(&all);
			hang_on(ready[1], end[0]);
		}
		must(read(ready[0], &byte, 1));
	}
	for (int i = 0; i < N; i++) {
		struct uxive_revoke revoke = { .size = sizeof(revoke), .id = revoked.id[i] };
		struct uxive_irq_free_many free_many = {
			.size = sizeof(free_many), .start = i * MANY, .count = MANY,
		};
		struct uxive_irq_free_all rest = { .size = sizeof(rest) };
		int result;

		MEASURE(revoke_op, result = ioctl(fd, UXIVE_IOC_REVOKE, &revoke));
		must(result);
		MEASURE(free_op, free_slot(fd, i, base));
		MEASURE(free_many_op, result = ioctl(large, UXIVE_IOC_IRQ_FREE_MANY, &free_many));
		must(result);
		MEASURE(free_all_op, result = ioctl(scattered[i], UXIVE_IOC_IRQ_FREE_ALL, &rest));
		must(result);
	}

	close(end[1]);
	for (int i = 0; i < RECEIVERS; i++)
		must(waitpid(receivers[i], NULL, 0));
	for (int i = 0; i < N; i++) {
		close(revoked.fd[i]);
		close(freed.fd[i]);
		close(many.fd[i]);
		close(all.fd[i]);
		close(scattered[i]);
	}
	close(end[0]);
	close(ready[0]);
	close(ready[1]);
	close(large);
	close(fd);
}
