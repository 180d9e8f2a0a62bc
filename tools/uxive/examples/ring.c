// SPDX-License-Identifier: GPL-2.0 OR MIT
/* One interrupt: allocates it, binds it to an eventfd, rings it and waits for it. */
#include <err.h>
#include <fcntl.h>
#include <misc/ocxl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC);
	struct ocxl_ioctl_irq_fd bind = { .eventfd = event };
	__u64 offset, count, *trigger;

	if (context < 0 || event < 0)
		err(1, "/dev/uxive");
	if (ioctl(context, OCXL_IOCTL_IRQ_ALLOC, &offset))
		err(1, "cannot allocate an interrupt");
	bind.irq_offset = offset;
	if (ioctl(context, OCXL_IOCTL_IRQ_SET_FD, &bind))
		err(1, "cannot bind the interrupt");
	trigger = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_WRITE, MAP_SHARED, context, offset);
	if (trigger == MAP_FAILED)
		err(1, "cannot map the trigger page");

	/* One store of 8 bytes rings. Another thread or process can do the same. */
	__atomic_store_n(trigger, 0, __ATOMIC_RELEASE);

	if (read(event, &count, sizeof(count)) != sizeof(count))
		err(1, "cannot read the eventfd");
	printf("ring: %lu interrupt\n", (unsigned long)count);
	return count != 1;
}
