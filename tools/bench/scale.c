// SPDX-License-Identifier: GPL-2.0
/* For scale: the kernel's own ways for one program to wake another. */
#include "bench.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void bench_scale(void)
{
	static __u32 word;
	struct bell bell = { .kind = BY_WRITE };
	int fds[2];

	if (!strcmp(driver, "futex")) {
		bell.kind = BY_FUTEX;
		bell.futex = &word;
		measure_ring_blocked("ring_blocked_read", &bell, false);
		return;
	}
	if (!strcmp(driver, "pipe")) {
		must(pipe(fds));
		bell.fd = fds[0];
		bell.write_fd = fds[1];
	} else {
		bell.fd = must(eventfd(0, EFD_CLOEXEC));
		bell.write_fd = bell.fd;
	}
	measure_ring_read("ring_read", &bell, 1);
	measure_ring_blocked("ring_blocked_read", &bell, false);
	measure_ring_blocked("ring_blocked_poll", &bell, true);
}
