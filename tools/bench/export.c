// SPDX-License-Identifier: GPL-2.0
/*
 * Exports: making the file, and revoking one that RECEIVERS processes have mapped
 * and touched. The processes are made only once: each maps N exports, which are
 * then revoked one after the other.
 */
#include "bench.h"

#include <misc/uxive.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECEIVERS 1000

static void receive(void *const *pages, int ready, int end)
{
	char byte = 0;

	for (int i = 0; i < N; i++)
		load64(pages[i]);
	must(write(ready, &byte, 1));
	/* Until the other end is closed. */
	must(read(end, &byte, 1));
	_exit(0);
}

void bench_export(void)
{
	struct op *export_op = new_op("export");
	struct op *revoke_op = new_op("revoke_1000");
	static pid_t receivers[RECEIVERS];
	static __u32 ids[N];
	static void *pages[N];
	static int fds[N];
	int fd = open_driver(), ready[2], end[2];

	allocate(fd);
	must(pipe(ready));
	must(pipe(end));
	lock_memory(true);
	for (int i = 0; i < N; i++) {
		struct uxive_export arg = {
			.size = sizeof(arg), .kind = UXIVE_EXPORT_FILE, .count = 1,
		};
		int result;

		MEASURE(export_op, result = ioctl(fd, UXIVE_IOC_EXPORT, &arg));
		must(result);
		ids[i] = arg.id;
		fds[i] = arg.fd;
	}
	lock_memory(false);
	for (int i = 0; i < N; i++)
		pages[i] = must(mmap(NULL, DEVICE_PAGE, PROT_WRITE, MAP_SHARED, fds[i], 0));

	for (int i = 0; i < RECEIVERS; i++) {
		char byte;

		receivers[i] = must(fork());
		if (!receivers[i]) {
			close(end[1]);
			receive(pages, ready[1], end[0]);
		}
		must(read(ready[0], &byte, 1));
	}
	for (int i = 0; i < N; i++) {
		struct uxive_revoke arg = { .size = sizeof(arg), .id = ids[i] };
		int result;

		MEASURE(revoke_op, result = ioctl(fd, UXIVE_IOC_REVOKE, &arg));
		must(result);
	}

	close(end[1]);
	for (int i = 0; i < RECEIVERS; i++)
		must(waitpid(receivers[i], NULL, 0));
	for (int i = 0; i < N; i++) {
		must(munmap(pages[i], DEVICE_PAGE));
		close(fds[i]);
	}
	close(end[0]);
	close(ready[0]);
	close(ready[1]);
	close(fd);
}
