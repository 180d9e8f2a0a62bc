// SPDX-License-Identifier: GPL-2.0
/* Takes events from memory, and enters the kernel only to block. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <uxive_drain.h>

#define IRQS 64

int main(void)
{
	struct uxive_irq_alloc_many alloc = { .size = sizeof(alloc), .count = IRQS };
	int context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC);
	struct uxive_drain drain;
	int irq, taken;

	if (context < 0 || event < 0)
		err(1, "/dev/uxive");
	/* The context has no interrupt yet. */
	if (uxive_drain_open(&drain, context, event, IRQS))
		err(1, "cannot drain the queue");
	if (ioctl(context, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc))
		err(1, "cannot allocate interrupts");

	for (irq = 0; irq < IRQS; irq++)
		uxive_drain_ring(&drain, irq);

	for (taken = 0; taken < IRQS; taken++) {
		irq = uxive_drain_wait(&drain, -1);
		if (irq < 0)
			err(1, "cannot wait");
		/* From here on the interrupt can be sent again. */
		uxive_drain_eoi(&drain, irq);
	}
	printf("drain: %d events\n", taken);
	uxive_drain_close(&drain);
	return 0;
}
