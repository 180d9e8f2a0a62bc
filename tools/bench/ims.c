// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts that an AFU sends from its own store, bound to an eventfd: each is
 * allocated and freed before the next, as VFIO's are. The context has another
 * interrupt before, so that the cost of the first one is not measured.
 */
#include "bench.h"

#include <fcntl.h>
#include <misc/uxive.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int ims_alloc(int fd, int eventfd, __u64 *offset)
{
	struct uxive_ims_alloc arg = { .size = sizeof(arg), .eventfd = eventfd };
	int result = ioctl(fd, UXIVE_IOC_IMS_ALLOC, &arg);

	*offset = arg.offset;
	return result;
}

void bench_ims(void)
{
	struct op *alloc_bind = new_op("ims_alloc_bind");
	struct op *free_op = new_op("ims_free");
	const char *address = pci_find(PCI_AFU);
	int event = must(eventfd(0, EFD_CLOEXEC));
	char path[300];
	__u64 offset;
	int fd;

	pci_bind(address, "uxive");
	snprintf(path, sizeof(path), "/dev/ocxl/IBM,MEMCPY3.%s.0", address);
	fd = must(open(path, O_RDWR | O_CLOEXEC));
	must(ims_alloc(fd, event, &offset));
	/* The driver makes messages in advance, when the machine is idle. */
	usleep(SETTLE_US);

	lock_memory(true);
	for (int i = 0; i < N; i++) {
		int result;

		MEASURE(alloc_bind, result = ims_alloc(fd, event, &offset));
		must(result);
		MEASURE(free_op, result = ioctl(fd, OCXL_IOCTL_IRQ_FREE, &offset));
		must(result);
	}
	lock_memory(false);
	close(fd);
	pci_unbind(address, "uxive");
}
