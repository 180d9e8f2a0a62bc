// SPDX-License-Identifier: GPL-2.0
/*
 * The ringer of the demonstration, see owner.c. It owns no interrupt and no
 * eventfd: it gets a context's file and the offsets of trigger pages through
 * the socket that is its standard input, maps the pages and stores to them.
 */
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/types.h>

#include "demo.h"

static int receive(struct request *request)
{
	int context;
	char control[CMSG_SPACE(sizeof(context))];
	struct iovec data = { request, sizeof(*request) };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *rights;

	if (recvmsg(STDIN_FILENO, &message, 0) != sizeof(*request))
		err(1, "ringer: got no request");
	rights = CMSG_FIRSTHDR(&message);
	if (!rights || rights->cmsg_type != SCM_RIGHTS)
		errx(1, "ringer: got no context");
	memcpy(&context, CMSG_DATA(rights), sizeof(context));
	return context;
}

/* One store of 8 bytes: this is the ring. A compiler might split or drop one of C. */
static void ring(void *trigger)
{
	asm volatile("std %1,0(%0)" : : "b"(trigger), "r"(0UL) : "memory");
}

int main(void)
{
	void *triggers[INTERRUPTS];
	unsigned long sent = 0;
	struct request request;
	int context, i;
	char ack;

	context = receive(&request);
	for (i = 0; i < INTERRUPTS; i++) {
		triggers[i] = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_WRITE,
				   MAP_SHARED, context, request.offsets[i]);
		if (triggers[i] == MAP_FAILED)
			err(1, "ringer: cannot map a trigger page");
	}
	printf("ringer: mapped the trigger pages, storing to each %d times\n", ROUNDS);
	fflush(stdout);

	while (sent < INTERRUPTS * ROUNDS) {
		ring(triggers[sent++ % INTERRUPTS]);
		if (recv(STDIN_FILENO, &ack, 1, 0) != 1)
			break;
	}
	if (send(STDIN_FILENO, &sent, sizeof(sent), 0) != sizeof(sent))
		err(1, "ringer: cannot report");
	return 0;
}
