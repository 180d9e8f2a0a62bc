// SPDX-License-Identifier: GPL-2.0
/* Several threads that take events from one queue. */
#include <err.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <uxive_drain.h>

#define WORKERS 4
#define IRQS 64
/* One interrupt more, which ends the threads. */
#define END IRQS

static struct uxive_drain drain;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int handled;

static void *work(void *unused)
{
	int irq;

	while ((irq = uxive_drain_wait_shared(&drain, &lock, -1)) >= 0) {
		uxive_drain_eoi(&drain, irq);
		if (irq == END) {
			/* For the next thread. */
			uxive_drain_ring(&drain, END);
			return unused;
		}
		atomic_fetch_add(&handled, 1);
	}
	err(1, "cannot wait");
}

int main(void)
{
	struct uxive_irq_alloc_many alloc = { .size = sizeof(alloc), .count = IRQS + 1 };
	int context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC), n;
	pthread_t workers[WORKERS];

	if (context < 0 || event < 0)
		err(1, "/dev/uxive");
	if (uxive_drain_open(&drain, context, event, IRQS + 1) ||
	    ioctl(context, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc))
		err(1, "cannot drain a queue");
	for (n = 0; n < WORKERS; n++)
		if (pthread_create(&workers[n], NULL, work, NULL))
			errx(1, "cannot start a thread");

	for (n = 0; n < IRQS; n++)
		uxive_drain_ring(&drain, n);
	while (atomic_load(&handled) < IRQS)
		usleep(1000);

	uxive_drain_ring(&drain, END);
	for (n = 0; n < WORKERS; n++)
		pthread_join(workers[n], NULL);
	printf("workers: %d threads took %d events\n", WORKERS, atomic_load(&handled));
	return 0;
}
