// SPDX-License-Identifier: GPL-2.0
/*
 * The server of QEMU's device ivshmem-doorbell: it hands out eventfds that are bound to
 * interrupts of uxive, so a store to a trigger page interrupts the guest. It starts QEMU,
 * rings each vector many times, each time after the guest has counted the last one, and
 * tells how often the guest exited and the host was interrupted meanwhile.
 *
 *   ivshmem QEMU ARGUMENT...
 *
 * with -chardev socket,id=ivshmem,path=/tmp/ivshmem and -device ivshmem-doorbell among the
 * arguments. QEMU's docs/specs/ivshmem-spec.rst has the protocol.
 *
 * Where the driver has irq bypass it rings once more with that. QEMU does not know of it
 * either, and the host is not interrupted.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <misc/uxive.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ivshmem.h"

#define SOCKET		"/tmp/ivshmem"
#define MEMORY		0x100000
#define PROTOCOL	0
/* The number of the one client. */
#define CLIENT		0
/* How often each vector is rung in a row of rings. */
#define ROUNDS		250
/* For how many seconds the guest may boot, or be silent after a ring. */
#define WATCHDOG	600

static int context;
static bool has_bypass;
static int eventfds[VECTORS];
static void *triggers[VECTORS];
static struct shared *shared;
static pid_t qemu;

static void make_interrupts(void)
{
	struct uxive_info info = { .size = sizeof(info) };
	struct uxive_irq_alloc_many alloc = {
		.size = sizeof(alloc),
		.flags = UXIVE_ALLOC_AT,
		.count = VECTORS,
		.eventfds = (uintptr_t)eventfds,
	};

	for (int i = 0; i < VECTORS; i++) {
		eventfds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (eventfds[i] < 0)
			err(1, "cannot make an eventfd");
	}
	context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	if (context < 0 || ioctl(context, UXIVE_IOC_INFO, &info) ||
	    ioctl(context, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc))
		err(1, "cannot allocate interrupts");
	has_bypass = info.features & UXIVE_FEATURE_BYPASS;
	for (int i = 0; i < VECTORS; i++) {
		off_t offset = info.trigger.offset + i * info.trigger.stride;

		triggers[i] = mmap(NULL, info.page_size, PROT_WRITE, MAP_SHARED, context, offset);
		if (triggers[i] == MAP_FAILED)
			err(1, "cannot map a trigger page");
	}
}

/* Binds the interrupts to their eventfds anew: @bypass is UXIVE_SET_BYPASS or 0. */
static void bind_all(__u32 bypass)
{
	for (int i = 0; i < VECTORS; i++) {
		struct uxive_set_irqs bind = {
			.size = sizeof(bind),
			.flags = UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER | bypass,
			.start = i,
			.count = 1,
			.data = (uintptr_t)&eventfds[i],
		};

		if (ioctl(context, UXIVE_IOC_SET_IRQS, &bind))
			err(1, "cannot bind an eventfd%s", bypass ? " for irq bypass" : "");
	}
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Ends the program if QEMU has ended, or if there is nothing of the guest for too long. */
static void watch(double begun)
{
	if (waitpid(qemu, NULL, WNOHANG) == qemu)
		errx(1, "QEMU has ended");
	if (now() - begun > WATCHDOG)
		errx(1, "nothing from the guest for %d s", WATCHDOG);
}

/* Sends a number, with a descriptor unless that is -1. */
static void send_number(int client, __s64 number, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(fd))];
	} control = {
		.header = {
			.cmsg_len = CMSG_LEN(sizeof(fd)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		},
	};
	__u64 sent = htole64(number);
	struct iovec data = { .iov_base = &sent, .iov_len = sizeof(sent) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	if (sendmsg(client, &message, 0) != sizeof(sent))
		err(1, "cannot send to the client");
}

static int listener(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		err(1, SOCKET);
	return fd;
}

/* Gives the client all that it asks for. There are no other clients to tell it of. */
static void serve(int listener)
{
	struct pollfd connected = { .fd = listener, .events = POLLIN };
	int memory = memfd_create("ivshmem", MFD_CLOEXEC);
	double begun = now();
	int client;

	if (memory < 0 || ftruncate(memory, MEMORY))
		err(1, "cannot make memory");
	shared = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (shared == MAP_FAILED)
		err(1, "cannot map memory");
	while (poll(&connected, 1, 100) != 1)
		watch(begun);
	client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (client < 0)
		err(1, "accept");
	send_number(client, PROTOCOL, -1);
	send_number(client, CLIENT, -1);
	send_number(client, -1, memory);
	for (int i = 0; i < VECTORS; i++)
		send_number(client, CLIENT, eventfds[i]);
}

static void ring(void *trigger)
{
	asm volatile("std %1,0(%0)" : : "b"(trigger), "r"(0UL) : "memory");
}

/* Returns when the guest has made the field larger than @number. */
static void await(__u64 *field, __u64 number)
{
	double begun = now();

	while (get(field) <= number)
		watch(begun);
}

/* A counter of KVM, of all virtual CPUs of all guests. */
static long exits(const char *name)
{
	char path[64];
	long count;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s", name);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%ld", &count) != 1)
		err(1, "%s", path);
	fclose(file);
	return count;
}

/* Interrupts of the host that the driver has taken, on all CPUs. */
static long driver_interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[4096];
	long count = 0;

	if (!file)
		err(1, "/proc/interrupts");
	while (fgets(line, sizeof(line), file)) {
		char *at = strchr(line, ':'), *end;

		if (!at || !strstr(line, "uxive"))
			continue;
		for (at++; ; at = end) {
			long more = strtol(at, &end, 10);

			if (end == at)
				break;
			count += more;
		}
	}
	fclose(file);
	return count;
}

struct counters {
	long exits, ticks, interrupts, handled;
};

static struct counters counters(void)
{
	return (struct counters){
		.exits = exits("sum_exits"),
		.ticks = exits("dec_exits"),
		.interrupts = exits("ext_intr_exits"),
		.handled = driver_interrupts(),
	};
}

/*
 * Each ring is acknowledged before the next one, so none may be lost. An interrupt that has
 * just changed its way may come @more times. Returns how often the host was interrupted.
 */
static long ring_all(const char *way, const char *guest, int command, unsigned int more)
{
	struct counters before, after;
	__u64 begun[VECTORS];
	double time = now();

	put(&shared->command, command);
	before = counters();
	for (int i = 0; i < VECTORS; i++)
		begun[i] = get(&shared->taken[i]);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < VECTORS; i++) {
			__u64 taken = get(&shared->taken[i]);

			ring(triggers[i]);
			await(&shared->taken[i], taken);
		}
	after = counters();
	for (int i = 0; i < VECTORS; i++) {
		__u64 taken = get(&shared->taken[i]) - begun[i];

		if (taken < ROUNDS || taken > ROUNDS + more)
			errx(1, "vector %d came %ld times for %d rings", i, taken, ROUNDS);
	}
	printf("%s, the guest %s: %d rings of %d vectors, all taken, in %.1f s;\n", way, guest,
	       VECTORS * ROUNDS, VECTORS, now() - time);
	printf("  the guest exited %ld times (%ld by its host's tick, %ld by interrupts), ",
	       after.exits - before.exits, after.ticks - before.ticks,
	       after.interrupts - before.interrupts);
	printf("the driver had %ld interrupts\n", after.handled - before.handled);
	fflush(stdout);
	return after.handled - before.handled;
}

static void ring_bypassed(void)
{
	bind_all(UXIVE_SET_BYPASS);
	if (ring_all("irq bypass", "waits", SLEEP, 1) || ring_all("irq bypass", "runs", SPIN, 0))
		errx(1, "the host was interrupted");
	bind_all(0);
	ring_all("irqfd again", "waits", SLEEP, 1);
}

int main(int argc, char **argv)
{
	int listening, status;

	if (argc < 2)
		errx(1, "usage: ivshmem QEMU ARGUMENT...");
	make_interrupts();
	listening = listener();
	qemu = fork();
	if (qemu < 0)
		err(1, "fork");
	if (!qemu) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(argv[1], argv + 1);
		err(1, "%s", argv[1]);
	}
	serve(listening);
	await(&shared->ready, 0);
	ring_all("irqfd", "waits", SLEEP, 0);
	ring_all("irqfd", "runs", SPIN, 0);
	if (has_bypass)
		ring_bypassed();
	else
		printf("irq bypass is off\n");
	put(&shared->command, STOP);
	if (waitpid(qemu, &status, 0) != qemu || status)
		errx(1, "QEMU has ended with status %#x", status);
	return 0;
}
