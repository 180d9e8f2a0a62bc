// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a program that holds one of an owner's eventfds, and can have anything
 * depend on it, holds up neither other interrupts of the owner nor other contexts.
 * Waiters of an eventfd wake with interrupts off: the driver signals one at least,
 * and leaves the others to a run outside of the interrupt when that took long. It
 * loses no event by that.
 */
#include "uxive_fixture.h"

#include <linux/aio_abi.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Interrupts that signal the eventfd that others hold, and those with one of their own. */
#define HELD	32
#define OWN	8
#define IRQS	(HELD + OWN)
#define WAITERS	fewer_with_lockdep(10000, 2000)
#define EPOLLS	400
#define AIOS	1000

/*
 * Ways to hold an eventfd. Each tells by the socket when it does, and goes on
 * until it is killed.
 */

static void held(int sock)
{
	if (write(sock, "", 1) != 1)
		_exit(3);
}

static void check(bool is)
{
	if (!is)
		_exit(4);
}

static void depend(int ep, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	check(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
}

static void raise_files(void)
{
	struct rlimit files = { 20000, 20000 };

	check(!setrlimit(RLIMIT_NOFILE, &files));
}

/* An epoll that has the eventfd @waiters times. */
static int epoll_that_has(int efd, long waiters)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	for (long i = 0; i < waiters; i++)
		depend(ep, dup(efd));
	return ep;
}

static void by_not_reading(int efd, int sock)
{
	(void)efd;
	held(sock);
	for (;;)
		pause();
}

static void by_filling(int efd, int sock)
{
	const __u64 most = 0xfffffffffffffffe;

	fcntl(efd, F_SETFL, 0);
	check(write(efd, &most, sizeof(most)) == sizeof(most));
	held(sock);
	/* Each time that somebody has read it. */
	for (;;)
		check(write(efd, &most, sizeof(most)) == sizeof(most));
}

static void by_many_in_one_epoll(int efd, int sock)
{
	raise_files();
	epoll_that_has(efd, WAITERS);
	held(sock);
	for (;;)
		pause();
}

static void by_many_epolls_in_one(int efd, int sock)
{
	int all = epoll_create1(EPOLL_CLOEXEC);

	raise_files();
	for (int i = 0; i < EPOLLS; i++)
		depend(all, epoll_that_has(efd, 1));
	held(sock);
	for (;;)
		pause();
}

static void by_a_chain_of_epolls(int efd, int sock)
{
	int ep = epoll_that_has(efd, 1);

	/* The kernel refuses longer ones. */
	for (int i = 0; i < 3; i++) {
		int next = epoll_create1(EPOLL_CLOEXEC);

		depend(next, ep);
		ep = next;
	}
	held(sock);
	for (;;)
		pause();
}

/* Many requests to poll it, which signal @result when they are done, and are made anew. */
static void by_requests(int efd, int result, int sock)
{
	static struct iocb iocbs[AIOS], *list[AIOS];
	static struct io_event events[AIOS];
	aio_context_t context = 0;
	long done = AIOS;

	check(!syscall(SYS_io_setup, AIOS, &context));
	for (int i = 0; i < AIOS; i++) {
		iocbs[i] = (struct iocb){
			.aio_data = i, .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = efd,
			.aio_buf = POLLIN, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = result,
		};
		list[i] = &iocbs[i];
	}
	for (;;) {
		for (long sent = 0, now; sent < done; sent += now) {
			now = syscall(SYS_io_submit, context, done - sent, list + sent);
			check(now > 0);
		}
		if (sock >= 0)
			held(sock);
		sock = -1;
		done = syscall(SYS_io_getevents, context, 1, AIOS, events, NULL);
		check(done > 0);
		for (long i = 0; i < done; i++)
			list[i] = &iocbs[events[i].data];
	}
}

static void by_requests_that_signal_another(int efd, int sock)
{
	by_requests(efd, event_new(), sock);
}

static void by_requests_that_signal_itself(int efd, int sock)
{
	by_requests(efd, efd, sock);
}

FIXTURE(holders) {
	int fd, efd, own[OWN];
	void *pages;
	struct bells other;
	pid_t holder;
};

FIXTURE_VARIANT(holders) {
	void (*hold)(int efd, int sock);
	/* It adds no counts by that. */
	bool counts;
};

FIXTURE_VARIANT_ADD(holders, not_read) {
	.hold = by_not_reading,
	.counts = true,
};

FIXTURE_VARIANT_ADD(holders, full) {
	.hold = by_filling,
};

FIXTURE_VARIANT_ADD(holders, many_in_one_epoll) {
	.hold = by_many_in_one_epoll,
	.counts = true,
};

FIXTURE_VARIANT_ADD(holders, many_epolls_in_one) {
	.hold = by_many_epolls_in_one,
	.counts = true,
};

FIXTURE_VARIANT_ADD(holders, chain_of_epolls) {
	.hold = by_a_chain_of_epolls,
	.counts = true,
};

FIXTURE_VARIANT_ADD(holders, aio) {
	.hold = by_requests_that_signal_another,
	.counts = true,
};

FIXTURE_VARIANT_ADD(holders, aio_of_itself) {
	.hold = by_requests_that_signal_itself,
};

FIXTURE_SETUP(holders)
{
	int socks[2];
	char ready;

	pin_to_cpu(0);
	self->fd = ux_open();
	self->efd = event_new();
	ASSERT_EQ(0, ux_fill(self->fd, IRQS));
	for (int i = 0; i < HELD; i++)
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(i), self->efd));
	events_new(self->own, OWN);
	for (int i = 0; i < OWN; i++)
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(HELD + i), self->own[i]));
	self->pages = ux_map(self->fd, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, self->pages);
	ASSERT_TRUE(bells_open(&self->other, 1));

	/* The holder has the eventfd, and nothing else of the owner. */
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	self->holder = fork();
	ASSERT_LE(0, self->holder);
	if (!self->holder) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		munmap(self->pages, IRQS * STRIDE);
		bells_close(&self->other);
		events_close(self->own, OWN);
		close(self->fd);
		close(self->efd);
		variant->hold(fd_receive(socks[1]), socks[1]);
	}
	ASSERT_TRUE(fd_send(socks[0], self->efd));
	close(socks[1]);
	/* It may have failed. */
	ASSERT_EQ(1, read(socks[0], &ready, 1));
	close(socks[0]);
}

FIXTURE_TEARDOWN(holders)
{
	EXPECT_EQ(0, kill(self->holder, SIGKILL));
	/* It was there until now. */
	EXPECT_EQ(-SIGKILL, child_status(self->holder));
	munmap(self->pages, IRQS * STRIDE);
	events_close(self->own, OWN);
	close(self->fd);
	close(self->efd);
	bells_close(&self->other);
}

TEST_F(holders, lose_no_event_of_the_owner)
{
	for (int n = 0; n < 3; n++) {
		for (int i = 0; i < HELD; i++) {
			long count;

			ring(self->pages + i * STRIDE);
			count = variant->counts ? event_wait(self->efd) : 1;
			ASSERT_EQ(1, count) TH_LOG("interrupt %d, ring %d", i, n);
			progress();
		}
		for (int i = 0; i < OWN; i++) {
			ring(self->pages + (HELD + i) * STRIDE);
			ASSERT_EQ(1, event_wait(self->own[i])) TH_LOG("interrupt %d", HELD + i);
		}
	}
	if (variant->counts)
		EXPECT_EQ(0, event_read(self->efd));
}

TEST_F(holders, hold_up_no_other_interrupt)
{
	struct storm storm = {
		.cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1, .pages = self->pages, .irqs = HELD,
	};
	const int rings = fewer_with_lockdep(20, 5);

	ASSERT_EQ(0, storm_start(&storm));
	for (int n = 0; n < rings; n++) {
		int i = n % OWN;

		/* One of the same context, which is behind the storm, and another context. */
		ring(self->pages + (HELD + i) * STRIDE);
		ASSERT_EQ(1, event_wait(self->own[i])) TH_LOG("ring %d", n);
		ASSERT_EQ(-1, bells_mute(&self->other)) TH_LOG("ring %d", n);
		progress();
		/* For the storm, if there is one CPU. */
		sched_yield();
	}
	storm_stop(&storm);

	/* Free, bind and mask do not wait for the holder. */
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), self->own[0]));
	ASSERT_EQ(0, ux_set_irqs(self->fd, UXIVE_SET_DATA_NONE | UXIVE_SET_MASK, 0, HELD, NULL));
	ASSERT_EQ(0, ux_set_irqs(self->fd, UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK, 0, HELD, NULL));
	ASSERT_EQ(0, ux_free_many(self->fd, 0, HELD));
	EXPECT_EQ(OWN, irqs_of(self->fd));
}

/* How often a Linux interrupt whose line ends in @name came, on all CPUs together. */
static long escalations_of(const char *name)
{
	FILE *file = fopen("/proc/interrupts", "r");
	long sum = 0, count;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		char *next = strchr(line, ':'), *last = strrchr(line, ' ');
		int at;

		if (!next || !last || strncmp(last + 1, name, strlen(name)) ||
		    last[1 + strlen(name)] != '\n')
			continue;
		for (next++; sscanf(next, "%ld%n", &count, &at) == 1; next += at)
			sum += count;
	}
	if (file)
		fclose(file);
	return sum;
}

#define BURST	256

/* Without that a run would handle 64, or 128, and have interrupts off all the time. */
TEST(waiters_that_take_long_end_a_run)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), efd = event_new();
	struct bells bells;
	char name[32];
	long events = 0, runs;

	if (cpus < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_TRUE(bells_open(&bells, BURST));
	/* Takes the page faults, and leaves no event under way. */
	ASSERT_EQ(-1, bells_mute(&bells));
	for (int i = 0; i < BURST; i++)
		ASSERT_EQ(0, ux_bind(bells.fd, slot_offset(i), efd));
	raise_files();
	ASSERT_LE(0, epoll_that_has(efd, WAITERS));

	snprintf(name, sizeof(name), "uxive-%ld", bells.id);
	/* They pile up on the other CPU than that which handles them. */
	for (int cpu = 0; cpu < 2; cpu++) {
		long before = escalations_of(name) + ux_deferred(bells.fd);
		long more = 0;

		pin_to_cpu(cpu);
		for (int i = 0; i < BURST; i++)
			ring(bells.window + i * STRIDE);
		while (more < BURST) {
			long count = event_wait(efd);

			ASSERT_LT(0, count);
			more += count;
			progress();
		}
		ASSERT_EQ(BURST, more);
		events += more;
		/* The last one may be under way. */
		usleep(100000);
		runs = escalations_of(name) + ux_deferred(bells.fd) - before;
		TH_LOG("%ld events in %ld runs", more, runs);
		EXPECT_LE(more, 3 * runs);
	}
	close(efd);
	bells_close(&bells);
}

TEST_HARNESS_MAIN
