// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Two processes. The owner of an interrupt gives the other one a doorbell: a file by which it can
 * ring that interrupt, and do nothing else. Later it takes the doorbell back.
 */
#include <err.h>
#include <fcntl.h>
#include <misc/uxive.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The other process may fail, so nothing is waited for without an end. */
#define PATIENCE_MS 10000

/* A message of one byte that brings a file. */
struct parcel {
	char byte;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} rights;
	struct iovec data;
	struct msghdr message;
};

static void wrap(struct parcel *parcel)
{
	*parcel = (struct parcel) {
		.data = { &parcel->byte, 1 },
		.message = {
			.msg_iov = &parcel->data, .msg_iovlen = 1,
			.msg_control = &parcel->rights, .msg_controllen = sizeof(parcel->rights),
		},
	};
}

static void give(int socket, int fd)
{
	struct parcel parcel;
	struct cmsghdr *rights = &parcel.rights.header;

	wrap(&parcel);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
	if (sendmsg(socket, &parcel.message, MSG_NOSIGNAL) != 1)
		err(1, "cannot send the doorbell");
}

static int take(int socket)
{
	struct parcel parcel;
	struct cmsghdr *rights;
	int fd;

	wrap(&parcel);
	if (recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC) != 1)
		err(1, "cannot receive the doorbell");
	rights = CMSG_FIRSTHDR(&parcel.message);
	if (!rights || rights->cmsg_type != SCM_RIGHTS)
		errx(1, "the message has no doorbell");
	memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
	return fd;
}

static void wait_for(int fd, short events, const char *failure)
{
	struct pollfd file = { .fd = fd, .events = events };

	if (poll(&file, 1, PATIENCE_MS) != 1)
		errx(1, "%s", failure);
}

/* It has no context, and needs no right to open the node. */
static int ringer(int socket)
{
	int doorbell = take(socket);
	__u64 *page = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_WRITE, MAP_SHARED, doorbell, 0);

	if (page == MAP_FAILED)
		err(1, "cannot map the doorbell");
	__atomic_store_n(page, 0, __ATOMIC_RELEASE);

	/* POLLHUP tells that the doorbell was revoked. A store would raise SIGBUS from then on. */
	wait_for(doorbell, 0, "the doorbell is not revoked");
	return 0;
}

static int owner(int socket)
{
	int context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	__s32 event = eventfd(0, EFD_CLOEXEC);
	/* Allocates and binds one. */
	struct uxive_irq_alloc_many alloc = {
		.size = sizeof(alloc), .count = 1, .eventfds = (uintptr_t)&event,
	};
	struct uxive_export export = {
		.size = sizeof(export), .kind = UXIVE_EXPORT_FILE, .count = 1,
	};
	struct uxive_revoke revoke = { .size = sizeof(revoke) };
	__u64 count;

	if (context < 0 || event < 0)
		err(1, "/dev/uxive");
	if (ioctl(context, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc))
		err(1, "cannot allocate an interrupt");
	export.start = alloc.start;
	if (ioctl(context, UXIVE_IOC_EXPORT, &export))
		err(1, "cannot export the interrupt");
	give(socket, export.fd);
	close(export.fd);

	wait_for(event, POLLIN, "nobody rings");
	if (read(event, &count, sizeof(count)) != sizeof(count))
		err(1, "cannot read the eventfd");
	revoke.id = export.id;
	if (ioctl(context, UXIVE_IOC_REVOKE, &revoke))
		err(1, "cannot revoke the doorbell");
	printf("doorbell: %lu interrupt of another process\n", (unsigned long)count);
	return count != 1;
}

int main(void)
{
	int sockets[2], status, failed;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		err(1, "socketpair");
	/* Before the context is opened, so that the child has nothing of it. */
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		close(sockets[0]);
		return ringer(sockets[1]);
	}
	close(sockets[1]);
	failed = owner(sockets[0]);
	if (waitpid(child, &status, 0) != child || status)
		errx(1, "the other process failed");
	return failed;
}
