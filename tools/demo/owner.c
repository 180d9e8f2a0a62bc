// SPDX-License-Identifier: GPL-2.0
/*
 * The owner of some interrupts: allocates them, binds each to an eventfd, and
 * waits for all of them at once. It starts the ringer, a process of its own,
 * which gets the context's file over a socket and rings by storing to the
 * trigger pages. Each ring is acknowledged before the next one is sent: two
 * that meet in the interrupt controller would be one interrupt by design.
 *
 *	demo-owner [path of the ringer]
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <misc/ocxl.h>

#include "demo.h"

#define WATCHDOG_MS 10000

struct irq {
	__u64 offset;
	int eventfd;
	unsigned long received;
};

static struct irq irqs[INTERRUPTS];

static void own(int context, int epoll)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct ocxl_ioctl_irq_fd bind = { 0 };
	int i;

	for (i = 0; i < INTERRUPTS; i++) {
		struct irq *irq = &irqs[i];

		if (ioctl(context, OCXL_IOCTL_IRQ_ALLOC, &irq->offset))
			err(1, "cannot allocate an interrupt");
		irq->eventfd = eventfd(0, EFD_CLOEXEC);
		if (irq->eventfd < 0)
			err(1, "cannot make an eventfd");
		bind.irq_offset = irq->offset;
		bind.eventfd = irq->eventfd;
		if (ioctl(context, OCXL_IOCTL_IRQ_SET_FD, &bind))
			err(1, "cannot bind an interrupt to its eventfd");
		event.data.u32 = i;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, irq->eventfd, &event))
			err(1, "cannot wait for an eventfd");
	}
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
	printf("owner: allocated %d interrupts, LISNs", INTERRUPTS);
	while (fgets(line, sizeof(line), file)) {
		unsigned long long offset, lisn;

		if (sscanf(line, "uxive-irq: offset:%llx lisn:%llx", &offset,
			   &lisn) == 2)
			printf(" %#llx", lisn);
	}
	fclose(file);
	printf(", each with an eventfd; waiting in epoll\n");
	fflush(stdout);
}

static pid_t start_ringer(const char *path, int context, int socket)
{
	struct request request = { 0 };
	char control[CMSG_SPACE(sizeof(context))] = { 0 };
	struct iovec data = { &request, sizeof(request) };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	pid_t pid = fork();
	int i;

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		execl(path, path, NULL);
		err(1, "%s", path);
	}

	for (i = 0; i < INTERRUPTS; i++)
		request.offsets[i] = irqs[i].offset;
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(context));
	memcpy(CMSG_DATA(rights), &context, sizeof(context));
	if (sendmsg(socket, &message, 0) != sizeof(request))
		err(1, "cannot pass the context to the ringer");
	return pid;
}

int main(int argc, char **argv)
{
	unsigned long sent = 0, received = 0;
	int context, epoll, sockets[2], i, status;
	pid_t ringer;

	context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	if (context < 0)
		err(1, "/dev/uxive");
	epoll = epoll_create1(EPOLL_CLOEXEC);
	/* The ringer finds its end as standard input. */
	if (epoll < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) ||
	    dup2(sockets[1], STDIN_FILENO) < 0)
		err(1, "cannot set up");
	close(sockets[1]);

	own(context, epoll);
	tell_lisns(context);
	ringer = start_ringer(argc > 1 ? argv[1] : "/bin/demo-ringer", context, sockets[0]);
	close(STDIN_FILENO);

	while (received < INTERRUPTS * ROUNDS) {
		struct epoll_event event;
		struct irq *irq;
		__u64 count;

		if (epoll_wait(epoll, &event, 1, WATCHDOG_MS) != 1)
			break;
		irq = &irqs[event.data.u32];
		if (read(irq->eventfd, &count, sizeof(count)) != sizeof(count))
			err(1, "cannot read an eventfd");
		irq->received += count;
		received += count;
		if (send(sockets[0], "", 1, MSG_NOSIGNAL) != 1)
			break;
	}

	/* A ringer that waits for a ring that was lost sees us hang up. */
	shutdown(sockets[0], SHUT_WR);
	if (recv(sockets[0], &sent, sizeof(sent), MSG_WAITALL) != sizeof(sent))
		errx(1, "the ringer did not say how often it rang");
	if (waitpid(ringer, &status, 0) != ringer || status)
		errx(1, "the ringer failed");

	printf("owner: received");
	for (i = 0; i < INTERRUPTS; i++)
		printf(" %lu", irqs[i].received);
	printf("\nrings sent %lu, received %lu, lost %ld\n", sent, received,
	       (long)(sent - received));
	return sent != received || !sent;
}
