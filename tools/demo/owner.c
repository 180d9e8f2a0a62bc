// SPDX-License-Identifier: GPL-2.0
/*
 * The owner of some interrupts: allocates them, each bound to an eventfd, and
 * waits for all of them at once. It gives the ringer, an unrelated process that
 * connects to its socket, a doorbell: a file that can be mapped to ring them, and
 * nothing else. In the end it revokes that. Each ring is acknowledged before the
 * next one is sent, because two that meet in the interrupt controller are one
 * interrupt by design.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <misc/uxive.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "demo.h"

#define WATCHDOG_MS 10000

struct irq {
	int eventfd;
	unsigned long received;
};

static struct irq irqs[INTERRUPTS];

static void own(int context, int epoll)
{
	__s32 eventfds[INTERRUPTS];
	struct uxive_irq_alloc_many alloc = {
		.size = sizeof(alloc),
		.flags = UXIVE_ALLOC_AT,
		.count = INTERRUPTS,
		.eventfds = (uintptr_t)eventfds,
	};

	for (int i = 0; i < INTERRUPTS; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		eventfds[i] = eventfd(0, EFD_CLOEXEC);
		if (eventfds[i] < 0)
			err(1, "cannot make an eventfd");
		irqs[i].eventfd = eventfds[i];
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, eventfds[i], &event))
			err(1, "cannot wait for an eventfd");
	}
	if (ioctl(context, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc))
		err(1, "cannot allocate interrupts");
}

/* The numbers by which the machine knows the interrupts are in fdinfo. */
static void tell_lisns(int context)
{
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", context);
	file = fopen(path, "r");
	if (!file)
		err(1, "%s", path);
	printf("owner %d: allocated %d interrupts in one call, LISNs", getpid(), INTERRUPTS);
	while (fgets(line, sizeof(line), file)) {
		unsigned long long offset, lisn;

		if (sscanf(line, "uxive-irq: offset:%llx lisn:%llx", &offset, &lisn) == 2)
			printf(" %#llx", lisn);
	}
	fclose(file);
	printf(", each with an eventfd\n");
	fflush(stdout);
}

static int listener(void)
{
	struct sockaddr_un address;
	socklen_t length = demo_address(&address);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || listen(fd, 1))
		err(1, "cannot listen");
	return fd;
}

/* The descriptor is the ringer's only from then on. */
static void give_away(int doorbell, int socket)
{
	char control[CMSG_SPACE(sizeof(doorbell))] = { 0 };
	struct iovec data = { "", 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(doorbell));
	memcpy(CMSG_DATA(rights), &doorbell, sizeof(doorbell));
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != 1)
		err(1, "cannot pass the doorbell to the ringer");
	close(doorbell);
}

static void say(int socket, char what)
{
	if (send(socket, &what, 1, MSG_NOSIGNAL) != 1)
		err(1, "the ringer has hung up");
}

/* Returns how many rings have arrived. */
static unsigned long wait_for_rings(int epoll, int socket)
{
	unsigned long received = 0;

	while (received < INTERRUPTS * ROUNDS) {
		struct epoll_event event;
		struct irq *irq;
		__u64 count;

		if (epoll_wait(epoll, &event, 1, WATCHDOG_MS) != 1) {
			say(socket, LOST);
			break;
		}
		irq = &irqs[event.data.u32];
		if (read(irq->eventfd, &count, sizeof(count)) != sizeof(count))
			err(1, "cannot read an eventfd");
		irq->received += count;
		received += count;
		say(socket, ARRIVED);
	}
	return received;
}

int main(void)
{
	struct uxive_export export = {
		.size = sizeof(export), .kind = UXIVE_EXPORT_FILE, .count = INTERRUPTS,
	};
	struct uxive_revoke revoke = { .size = sizeof(revoke) };
	int context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int listening = listener(), ringer;
	unsigned long sent, received;

	if (context < 0)
		err(1, "/dev/uxive");
	if (epoll < 0)
		err(1, "epoll");
	own(context, epoll);
	tell_lisns(context);

	if (ioctl(context, UXIVE_IOC_EXPORT, &export))
		err(1, "cannot export the interrupts");
	ringer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (ringer < 0)
		err(1, "there is no ringer");
	give_away(export.fd, ringer);

	received = wait_for_rings(epoll, ringer);
	if (recv(ringer, &sent, sizeof(sent), 0) != sizeof(sent))
		errx(1, "the ringer did not say how often it rang");
	revoke.id = export.id;
	if (ioctl(context, UXIVE_IOC_REVOKE, &revoke))
		err(1, "cannot revoke the doorbell");
	say(ringer, REVOKED);
	/* Until it has tried: closing the context would revoke it, too. */
	if (recv(ringer, &sent, sizeof(sent), 0) != sizeof(sent))
		errx(1, "the ringer did not say how often it rang in the end");

	printf("owner: received");
	for (int i = 0; i < INTERRUPTS; i++)
		printf(" %lu", irqs[i].received);
	printf("\nrings sent %lu, received %lu, lost %ld\n", sent, received,
	       (long)(sent - received));
	return sent != received || !sent;
}
