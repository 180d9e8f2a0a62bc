// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a store to a trigger page becomes exactly one count of the eventfd
 * that is bound to it, from any process and any CPU, and of no other; none is
 * lost, none is doubled, whatever state the eventfds are in.
 */
#include "uxive_fixture.h"
#include <sys/epoll.h>

#define IRQS	64
#define RINGS	1000

FIXTURE(ring) {
	int fd;
	int efd[IRQS];
	void *window;
};

/* 64 interrupts, each bound to an eventfd of its own, in one mapping. */
FIXTURE_SETUP(ring)
{
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ux_fill(self->fd, IRQS));
	ASSERT_EQ(0, bind_each(self->fd, self->efd, IRQS));
	self->window = ux_map(self->fd, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, self->window);
}

FIXTURE_TEARDOWN(ring)
{
	munmap(self->window, IRQS * STRIDE);
	close(self->fd);
}

/* The trigger page of interrupt @i. */
#define PAGE(i) (self->window + (i) * STRIDE)

/* The first interrupt whose eventfd has an event that nobody expects, or -1. */
static int stray(const int *efd)
{
	for (int i = 0; i < IRQS; i++)
		if (event_read(efd[i]))
			return i;
	return -1;
}

TEST_F(ring, acknowledged_rings_are_neither_lost_nor_doubled)
{
	for (int i = 0; i < IRQS; i++) {
		pin_to_cpu(i % sysconf(_SC_NPROCESSORS_ONLN));
		for (int n = 0; n < RINGS; n++) {
			ring(PAGE(i));
			ASSERT_EQ(1, event_wait(self->efd[i]))
				TH_LOG("interrupt %d, ring %d", i, n);
			progress();
		}
	}
	EXPECT_EQ(-1, stray(self->efd));
	TH_LOG("%d rings on each of %d interrupts, each acknowledged", RINGS, IRQS);
}

TEST_F(ring, interrupts_ring_in_turn)
{
	/* Neighbours back to back, so that a mixed-up slot shows. */
	for (int n = 0; n < 50; n++) {
		for (int i = 0; i < IRQS; i++)
			ring(PAGE(i));
		for (int i = 0; i < IRQS; i++) {
			ASSERT_EQ(1, event_wait(self->efd[i]))
				TH_LOG("interrupt %d, round %d", i, n);
		}
	}
	EXPECT_EQ(-1, stray(self->efd));
}

TEST_F(ring, pending_triggers_coalesce_but_never_vanish)
{
	long seen;

	for (int n = 0; n < 100; n++)
		ring(PAGE(0));
	seen = event_wait(self->efd[0]);
	EXPECT_LE(1, seen);
	EXPECT_GE(100, seen);

	/* Whatever is still under way, the next one arrives too. */
	ring(PAGE(0));
	seen += event_wait(self->efd[0]);
	EXPECT_LE(2, seen);
	EXPECT_GE(101, seen);

	ring(PAGE(1));
	EXPECT_EQ(1, event_wait(self->efd[1]));
}

TEST_F(ring, another_process_rings)
{
	int socks[2], ack = eventfd(0, 0);
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int fd;
		void *page;
		__u64 go;

		/* The ringer has only the file that it gets by the socket. */
		close(self->fd);
		fd = fd_receive(socks[1]);
		page = ux_map(fd, slot_offset(5), STRIDE);
		if (fd < 0 || page == MAP_FAILED)
			_exit(1);
		close(fd);
		for (int n = 0; n < 100; n++) {
			ring(page);
			if (read(ack, &go, sizeof(go)) != sizeof(go))
				_exit(2);
		}
		_exit(0);
	}
	ASSERT_TRUE(fd_send(socks[0], self->fd));
	for (int n = 0; n < 100; n++) {
		ASSERT_EQ(1, event_wait(self->efd[5])) TH_LOG("ring %d", n);
		event_add(ack, 1);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(-1, stray(self->efd));
}

TEST_F(ring, a_ring_that_nobody_waits_for_costs_nobody_else)
{
	__u64 offset;
	void *page;
	int efd = event_new();

	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	for (int n = 0; n < 100; n++) {
		ring(page);
		ring(PAGE(n % IRQS));
		ASSERT_EQ(1, event_wait(self->efd[n % IRQS]));
	}

	/* It still works: once bound, it rings. */
	ASSERT_EQ(0, ux_bind(self->fd, offset, efd));
	ring(page);
	ASSERT_LE(1, event_wait(efd));
	ring(page);
	ASSERT_LE(1, event_wait(efd));
	EXPECT_EQ(-1, stray(self->efd));
}

TEST_F(ring, after_rebinding_only_the_new_eventfd_counts)
{
	int old = self->efd[0];

	for (int n = 0; n < 100; n++) {
		int new = event_new();

		ring(PAGE(0));
		ASSERT_EQ(1, event_wait(old));
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), new));
		/* The next ring is handled after the last handling has ended. */
		ring(PAGE(0));
		ASSERT_EQ(1, event_wait(new));
		ring(PAGE(0));
		ASSERT_EQ(1, event_wait(new));
		ASSERT_EQ(0, event_read(old)) TH_LOG("round %d", n);
		close(old);
		old = new;
	}
}

TEST_F(ring, unbound_it_goes_nowhere)
{
	int old = self->efd[0], new = event_new();

	ring(PAGE(0));
	ASSERT_EQ(1, event_wait(old));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), -1));
	for (int n = 0; n < 100; n++)
		ring(PAGE(0));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), new));
	ring(PAGE(0));
	ASSERT_LE(1, event_wait(new));
	EXPECT_EQ(0, event_read(old));
	EXPECT_EQ(-1, stray(self->efd));
}

TEST_F(ring, a_slot_allocated_again_is_unbound)
{
	int new = event_new();
	__u64 offset;

	ASSERT_EQ(0, ux_free(self->fd, slot_offset(0)));
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	ASSERT_EQ(slot_offset(0), offset);
	ring(PAGE(0));
	ASSERT_EQ(0, ux_bind(self->fd, offset, new));
	ring(PAGE(0));
	ASSERT_LE(1, event_wait(new));
	ring(PAGE(0));
	ASSERT_LE(1, event_wait(new));
	EXPECT_EQ(-1, stray(self->efd));
}

TEST_F(ring, freed_it_signals_no_more)
{
	__u64 offset;

	for (int n = 0; n < 100; n++) {
		int new = event_new();

		/* This ring may still arrive, but no later one. */
		ring(PAGE(0));
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(0)));
		EXPECT_GE(1, event_read(self->efd[0]));
		ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		ASSERT_EQ(slot_offset(0), offset);
		ASSERT_EQ(0, ux_bind(self->fd, offset, new));
		ring(PAGE(0));
		ASSERT_EQ(1, event_wait(new)) TH_LOG("round %d", n);
		ASSERT_EQ(0, event_read(self->efd[0])) TH_LOG("round %d", n);
		close(self->efd[0]);
		self->efd[0] = new;
	}
}

TEST_F(ring, a_closed_eventfd_harms_nobody)
{
	int new = event_new();

	close(self->efd[0]);
	for (int n = 0; n < 100; n++)
		ring(PAGE(0));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), new));
	ring(PAGE(0));
	EXPECT_LE(1, event_wait(new));
	ring(PAGE(1));
	EXPECT_EQ(1, event_wait(self->efd[1]));
}

TEST_F(ring, who_has_an_eventfd_has_its_counts_and_nothing_else)
{
	int efd = self->efd[0], socks[2];
	__u64 offset;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		munmap(self->window, IRQS * STRIDE);
		close(self->fd);
		efd = fd_receive(socks[1]);
		if (ux_alloc(efd, &offset) != -ENOTTY || ux_map(efd, 0, STRIDE) != MAP_FAILED ||
		    ux_map(efd, IRQ_BASE, STRIDE) != MAP_FAILED ||
		    fdinfo_number(efd, "uxive-context") != -1)
			_exit(1);
		/* Events that are read here do not reach the owner; those added do. */
		if (event_wait(efd) != 1)
			_exit(2);
		event_add(efd, 5);
		_exit(0);
	}
	ASSERT_TRUE(fd_send(socks[0], efd));
	ring(PAGE(0));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(5, event_read(efd));
	EXPECT_EQ(-1, stray(self->efd));
	ring(PAGE(0));
	EXPECT_EQ(1, event_wait(efd));
}

TEST_F(ring, one_eventfd_counts_for_many)
{
	int efd = self->efd[0];

	for (int i = 1; i < IRQS; i++) {
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(i), efd))
			TH_LOG("interrupt %d", i);
	}
	for (int i = 0; i < IRQS; i++) {
		ring(PAGE(i));
		ASSERT_EQ(1, event_wait(efd)) TH_LOG("interrupt %d", i);
	}
	/* Freeing one takes its share only. */
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
	ring(PAGE(2));
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_EQ(-1, stray(self->efd));
}

TEST_F(ring, contexts_do_not_cross)
{
	int other = ux_open(), efd[IRQS];
	void *window;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, ux_fill(other, IRQS));
	window = ux_map(other, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, bind_each(other, efd, IRQS));
	/* Twice each: the second shows where the first has gone. */
	for (int i = 0; i < 2 * IRQS; i++) {
		ring(PAGE(i / 2));
		ASSERT_EQ(1, event_wait(self->efd[i / 2]));
		ring(window + i / 2 * STRIDE);
		ASSERT_EQ(1, event_wait(efd[i / 2]));
	}
	EXPECT_EQ(-1, stray(self->efd));
	EXPECT_EQ(-1, stray(efd));

	close(other);
	munmap(window, IRQS * STRIDE);
	ring(PAGE(0));
	EXPECT_EQ(1, event_wait(self->efd[0]));
}

TEST_F(ring, epoll_names_the_interrupt)
{
	struct epoll_event event = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	ASSERT_LE(0, ep);
	for (int i = 0; i < IRQS; i++) {
		event.data.u32 = i;
		ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->efd[i], &event));
	}
	EXPECT_EQ(0, epoll_wait(ep, &event, 1, 0));
	for (unsigned int n = 0; n < 5 * IRQS; n++) {
		unsigned int i = n * 37 % IRQS;
		struct epoll_event seen[2];

		ring(PAGE(i));
		ASSERT_EQ(1, epoll_wait(ep, seen, 2, WATCHDOG_MS));
		EXPECT_EQ(i, seen[0].data.u32);
		EXPECT_EQ(1, event_read(self->efd[i]));
	}
	EXPECT_EQ(0, epoll_wait(ep, &event, 1, 0));
}

struct reader {
	int efd;
	pid_t tid;
	long seen;
};

static void *read_once(void *arg)
{
	struct reader *reader = arg;

	__atomic_store_n(&reader->tid, gettid(), __ATOMIC_RELEASE);
	reader->seen = event_read(reader->efd);
	return NULL;
}

TEST_F(ring, a_blocked_reader_is_woken)
{
	for (int n = 0; n < 20; n++) {
		struct reader reader = { .efd = eventfd(0, EFD_CLOEXEC) };
		pthread_t thread;

		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(n), reader.efd));
		ASSERT_EQ(0, pthread_create(&thread, NULL, read_once, &reader));
		ASSERT_TRUE(becomes(!__atomic_load_n(&reader.tid, __ATOMIC_ACQUIRE), 0));
		ASSERT_TRUE(becomes(is_waiting(reader.tid), true));
		ring(PAGE(n));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(1, reader.seen);
		close(reader.efd);
	}
}

TEST_F(ring, a_full_eventfd_blocks_nothing)
{
	const __u64 nearly_full = 0xfffffffffffffffe;
	struct pollfd pfd = { .fd = self->efd[0], .events = POLLERR };

	event_add(self->efd[0], nearly_full);
	ring(PAGE(0));
	/* Full is POLLERR, which wakes nobody, and more rings leave it so. */
	ASSERT_TRUE(becomes(poll(&pfd, 1, 0), 1)) TH_LOG("not counted");
	for (int n = 0; n < 100; n++) {
		ring(PAGE(0));
		ring(PAGE(1));
		ASSERT_EQ(1, event_wait(self->efd[1]));
	}
	EXPECT_EQ(-1, event_read(self->efd[0]));

	/* Drained, it counts again. */
	event_read(self->efd[0]);
	ring(PAGE(0));
	EXPECT_LE(1, event_wait(self->efd[0]));
}

TEST_HARNESS_MAIN
