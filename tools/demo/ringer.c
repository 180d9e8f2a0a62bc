// SPDX-License-Identifier: GPL-2.0
/*
 * The ringer of the demonstration, see owner.c. It owns no interrupt and no
 * eventfd, and has no context: it is given a doorbell over a socket, maps it and
 * stores to its pages. It tries once more when it was told that the doorbell is
 * revoked.
 */
#include <err.h>
#include <linux/types.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "demo.h"

/* Of trigger pages in a doorbell, in bytes. */
#define STRIDE 65536

/* The owner may be about to listen. */
#define TRIES 100
#define WAIT_US 100000

static sigjmp_buf before_store;
static unsigned long sent;

static int connect_to_owner(void)
{
	struct sockaddr_un address;
	socklen_t length = demo_address(&address);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	for (int i = 0; i < TRIES; i++) {
		if (!connect(fd, (struct sockaddr *)&address, length))
			return fd;
		usleep(WAIT_US);
	}
	err(1, "ringer: there is no owner");
}

static int receive(int owner)
{
	int doorbell;
	char control[CMSG_SPACE(sizeof(doorbell))], byte;
	struct iovec data = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *rights;

	if (recvmsg(owner, &message, 0) != 1)
		err(1, "ringer: got no message");
	rights = CMSG_FIRSTHDR(&message);
	if (!rights || rights->cmsg_type != SCM_RIGHTS)
		errx(1, "ringer: got no doorbell");
	memcpy(&doorbell, CMSG_DATA(rights), sizeof(doorbell));
	return doorbell;
}

/* One store of 8 bytes: this is the ring. A compiler might split or drop one of C. */
static void ring(void *trigger)
{
	asm volatile("std %1,0(%0)" : : "b"(trigger), "r"(0UL) : "memory");
}

static void on_sigbus(int signal)
{
	siglongjmp(before_store, signal);
}

static char hear(int owner)
{
	char what;

	if (recv(owner, &what, 1, 0) != 1)
		errx(1, "ringer: the owner has hung up");
	return what;
}

static void tell(int owner)
{
	if (send(owner, &sent, sizeof(sent), MSG_NOSIGNAL) != sizeof(sent))
		err(1, "ringer: cannot report");
}

int main(void)
{
	int owner = connect_to_owner();
	int doorbell = receive(owner);
	void *triggers = mmap(NULL, INTERRUPTS * STRIDE, PROT_WRITE, MAP_SHARED, doorbell, 0);
	char heard = ARRIVED;

	if (triggers == MAP_FAILED)
		err(1, "ringer: cannot map the doorbell");
	printf("ringer %d: mapped the doorbell, storing to each of %d pages %d times\n",
	       getpid(), INTERRUPTS, ROUNDS);
	fflush(stdout);

	while (sent < INTERRUPTS * ROUNDS && heard == ARRIVED) {
		ring(triggers + sent++ % INTERRUPTS * STRIDE);
		heard = hear(owner);
	}
	tell(owner);

	if (hear(owner) != REVOKED)
		errx(1, "ringer: the owner did not revoke the doorbell");
	signal(SIGBUS, on_sigbus);
	if (sigsetjmp(before_store, 1)) {
		printf("ringer: stored once more: SIGBUS, for the doorbell was revoked\n");
	} else {
		ring(triggers);
		printf("ringer: rang a doorbell that was revoked\n");
		sent++;
	}
	fflush(stdout);
	tell(owner);
	return 0;
}
