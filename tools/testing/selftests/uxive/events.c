// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the events of a context are read from its file in order, each by one
 * reader and whole. A lost event is counted, and a waiting reader is woken.
 *
 * Fault injection (fail_function in debugfs) provokes events: it tells the driver
 * that firmware has no more virtual processors or interrupts. A first
 * allocation that fails leaves its context without a queue, so it can fail any
 * number of times. For kernels that have FAULT_INJECTION_STACKTRACE_FILTER and
 * FAIL_FUNCTION.
 */
#include "uxive_faults.h"
#include "uxive_fixture.h"
#include <linux/io_uring.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* How many unread events there is room for. */
#define CAPACITY	32
#define EVENT		sizeof(struct uxive_event)

/* Reading: the number of bytes or a negative errno. */

static long ux_read(int fd, void *buf, size_t size)
{
	ssize_t len = read(fd, buf, size);

	return len < 0 ? -errno : len;
}

static bool is_event(const struct uxive_event *event, int type, __u64 first, bool last)
{
	return event->header.type == type && event->header.length == sizeof(*event) &&
	       event->header.flags == (last ? OCXL_KERNEL_EVENT_FLAG_LAST : 0) &&
	       event->body[0] == first && !event->body[1] && !event->body[2] &&
	       !event->body[3];
}

/* That there are no virtual processors. */
static bool is_no_vp(const struct uxive_event *event, bool last)
{
	return is_event(event, UXIVE_EVENT_EXHAUSTED, UXIVE_RESOURCE_VP, last);
}

/* The one event that there is to read is that. */
static bool reads_one(int fd)
{
	struct uxive_event event;

	return read_now(fd, &event, sizeof(event)) == EVENT && is_no_vp(&event, true) &&
	       read_now(fd, &event, sizeof(event)) == -EAGAIN;
}

#define READABLE	(POLLIN | POLLRDNORM)

/* Provoking. */

/* The @nth step of the driver from here on fails for this thread; 0: none. */
static void fail_nth(int nth)
{
	static __thread int fd, owner;
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	/* A child's own is another. */
	if (owner != gettid()) {
		fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);
		owner = gettid();
	}
	if (pwrite(fd, text, len, 0) != len)
		abort();
}

/* In which step the driver is told that there is no VP; 0 until that is known. */
static int vp_step;

/* Reports an event to @fd, which has had no interrupt yet. */
static bool provoke(int fd)
{
	__u64 offset;
	int ret;

	fail_nth(vp_step);
	ret = ux_alloc(fd, &offset);
	fail_nth(0);
	progress();
	return ret == -ENOSPC;
}

static bool provoke_many(int fd, int count)
{
	while (count-- > 0)
		if (!provoke(fd))
			return false;
	return true;
}

/* The driver's steps are those that fail, and no others. */
static bool find_vp_step(void)
{
	bool found = false;

	/* A stack of no depth lies within no range. */
	for (unsigned int i = 0; i < INJECTORS; i++)
		if (!write_file(injectors[i], "require-start", "1") ||
		    !write_file(injectors[i], "stacktrace-depth", "0"))
			return false;
	if (!write_file(FAIL_FUNCTION, "verbose", "0") || !inject_functions(FUNCTIONS))
		return false;
	for (vp_step = 0; !found && vp_step < 20;) {
		int fd = ux_open();

		vp_step++;
		found = provoke(fd);
		close(fd);
	}
	return inject_functions(NULL) && found;
}

FIXTURE(events) {
	int fd;
	void *page, *readonly, *unmapped, *half;
};

FIXTURE_SETUP(events)
{
	long page = sysconf(_SC_PAGESIZE);

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_LT(0, vp_step) TH_LOG("no step of the driver fails as for want of a VP");
	ASSERT_TRUE(inject_functions(FUNCTIONS));
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	self->page = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	ASSERT_NE(MAP_FAILED, self->page);
	self->unmapped = self->page + page;
	self->readonly = self->page + 2 * page;
	ASSERT_EQ(0, munmap(self->unmapped, page));
	ASSERT_EQ(0, mprotect(self->readonly, page, PROT_READ));
	/* The first half of an event is writable. */
	self->half = self->unmapped - EVENT / 2;
}

FIXTURE_TEARDOWN(events)
{
	EXPECT_TRUE(fail_all(0));
	EXPECT_TRUE(inject_functions(NULL));
	close(self->fd);
}

/* One thread. */

TEST_F(events, without_one_read_is_eagain_if_it_may_not_wait)
{
	struct uxive_event event;
	int flags = fcntl(self->fd, F_GETFL);

	EXPECT_EQ(0, polled(self->fd, ~0));
	EXPECT_ERRNO(read, EAGAIN, read_now(self->fd, &event, sizeof(event)));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, flags | O_NONBLOCK));
	EXPECT_ERRNO(read, EAGAIN, ux_read(self->fd, &event, sizeof(event)));

	ASSERT_TRUE(provoke(self->fd));
	EXPECT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_TRUE(is_no_vp(&event, true));
	EXPECT_EQ(-EAGAIN, ux_read(self->fd, &event, sizeof(event)));

	/* As it was opened, too. */
	close(self->fd);
	self->fd = open(UXIVE_DEV, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(-EAGAIN, ux_read(self->fd, &event, sizeof(event)));
}

TEST_F(events, below_one_event_is_einval_and_takes_nothing)
{
	char bytes[EVENT];

	/* Whether there is one or not. */
	for (int round = 0; round < 2; round++) {
		for (size_t size = 0; size < EVENT; size++) {
			EXPECT_ERRNO(read, EINVAL, ux_read(self->fd, bytes, size))
				TH_LOG("%zu bytes", size);
		}
		if (!round)
			ASSERT_TRUE(provoke(self->fd));
	}
	EXPECT_TRUE(reads_one(self->fd));
}

TEST_F(events, a_bad_pointer_is_efault_and_takes_nothing)
{
	void * const bad[] = { NULL, self->unmapped, self->readonly, self->half };
	struct uxive_event event;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_TRUE(provoke(self->fd));
		for (int n = 0; n < 3; n++) {
			EXPECT_ERRNO(read, EFAULT, ux_read(self->fd, bad[i], EVENT))
				TH_LOG("pointer %zu", i);
		}
		EXPECT_EQ(READABLE, polled(self->fd, ~0));
		EXPECT_TRUE(reads_one(self->fd));
	}

	/* Those that could be copied are read, and the others stay. */
	ASSERT_TRUE(provoke_many(self->fd, 3));
	EXPECT_EQ(EVENT, ux_read(self->fd, self->half - EVENT, 3 * EVENT));
	EXPECT_TRUE(is_no_vp(self->half - EVENT, false));
	EXPECT_EQ(EVENT, ux_read(self->fd, &event, EVENT));
	EXPECT_TRUE(is_no_vp(&event, false));
	EXPECT_TRUE(reads_one(self->fd));
}

/* A full log has room for what is put back, and a count of drops is one of them. */
TEST_F(events, a_bad_pointer_loses_nothing_of_a_full_log)
{
	struct uxive_event events[CAPACITY + 2];

	ASSERT_TRUE(provoke_many(self->fd, CAPACITY + 7));
	for (int n = 0; n < 3; n++)
		EXPECT_EQ(-EFAULT, ux_read(self->fd, self->unmapped, sizeof(events)));
	EXPECT_EQ(CAPACITY * EVENT, ux_read(self->fd, events, CAPACITY * EVENT));
	for (int i = 0; i < CAPACITY; i++)
		EXPECT_TRUE(is_no_vp(&events[i], false));

	for (int n = 0; n < 3; n++)
		EXPECT_EQ(-EFAULT, ux_read(self->fd, self->unmapped, sizeof(events)));
	EXPECT_EQ(EVENT, ux_read(self->fd, events, sizeof(events)));
	EXPECT_TRUE(is_event(events, UXIVE_EVENT_DROPPED, 7, true));
	EXPECT_EQ(-EAGAIN, read_now(self->fd, events, sizeof(events)));
}

TEST_F(events, as_many_whole_ones_as_fit_and_the_last_is_marked)
{
	struct uxive_event events[4];
	char *bytes = (char *)events;

	ASSERT_TRUE(provoke_many(self->fd, 3));
	memset(events, 0xaa, sizeof(events));
	EXPECT_EQ(2 * EVENT, ux_read(self->fd, events, 3 * EVENT - 1));
	EXPECT_TRUE(is_no_vp(&events[0], false));
	EXPECT_TRUE(is_no_vp(&events[1], false));
	for (size_t i = 2 * EVENT; i < sizeof(events); i++)
		EXPECT_EQ((char)0xaa, bytes[i]);

	EXPECT_EQ(EVENT, ux_read(self->fd, events, sizeof(events)));
	EXPECT_TRUE(is_no_vp(&events[0], true));

	ASSERT_TRUE(provoke_many(self->fd, 2));
	EXPECT_EQ(2 * EVENT, ux_read(self->fd, events, sizeof(events)));
	EXPECT_TRUE(is_no_vp(&events[0], false));
	EXPECT_TRUE(is_no_vp(&events[1], true));
}

TEST_F(events, one_may_be_scattered)
{
	struct uxive_event events[2] = {};
	struct iovec iov[2 * EVENT];

	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){ (char *)events + i, 1 };
	ASSERT_TRUE(provoke_many(self->fd, 2));
	EXPECT_EQ(2 * (ssize_t)EVENT, readv(self->fd, iov, ARRAY_SIZE(iov)));
	EXPECT_TRUE(is_no_vp(&events[0], false));
	EXPECT_TRUE(is_no_vp(&events[1], true));
}

TEST_F(events, there_is_no_position)
{
	struct uxive_event event;

	ASSERT_TRUE(provoke(self->fd));
	EXPECT_EQ(-1, pread(self->fd, &event, sizeof(event), 0));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_TRUE(reads_one(self->fd));
}

TEST_F(events, what_finds_no_room_is_counted)
{
	struct uxive_event events[CAPACITY + 2];

	for (int dropped = 0; dropped < 40; dropped += 13) {
		ASSERT_TRUE(provoke_many(self->fd, CAPACITY + dropped));
		EXPECT_EQ((CAPACITY + !!dropped) * EVENT,
			  ux_read(self->fd, events, sizeof(events)));
		for (int i = 0; i < CAPACITY; i++)
			EXPECT_TRUE(is_no_vp(&events[i], !dropped && i == CAPACITY - 1));
		if (dropped) {
			EXPECT_TRUE(is_event(&events[CAPACITY], UXIVE_EVENT_DROPPED, dropped,
					     true));
		}
		EXPECT_EQ(-EAGAIN, read_now(self->fd, events, sizeof(events)));
	}
}

TEST_F(events, drops_are_told_where_they_happened)
{
	struct uxive_event events[CAPACITY + 2];

	ASSERT_TRUE(provoke_many(self->fd, CAPACITY + 5));
	/* Room for one is not enough: there are two to tell. */
	ASSERT_EQ(EVENT, ux_read(self->fd, events, EVENT));
	ASSERT_TRUE(provoke(self->fd));
	ASSERT_EQ(EVENT, ux_read(self->fd, events, EVENT));
	ASSERT_TRUE(provoke(self->fd));

	EXPECT_EQ(CAPACITY * EVENT, ux_read(self->fd, events, sizeof(events)));
	for (int i = 0; i < CAPACITY - 2; i++)
		EXPECT_TRUE(is_no_vp(&events[i], false));
	EXPECT_TRUE(is_event(&events[CAPACITY - 2], UXIVE_EVENT_DROPPED, 6, false));
	EXPECT_TRUE(is_no_vp(&events[CAPACITY - 1], true));
}

/* In one context, without the worker that gets new interrupts from firmware meanwhile. */
TEST_F(events, what_firmware_has_no_more_of_is_told)
{
	struct uxive_event events[4];
	int ret, shielded = 1 << 30;
	__u64 offset;

	ASSERT_TRUE(provoke(self->fd));
	fail_nth(vp_step);
	ret = ux_user_drain(self->fd, -1);
	fail_nth(0);
	EXPECT_EQ(-ENOSPC, ret);

	/* A thread with its own number of steps to go does not fail as all others do. */
	fail_nth(shielded);
	ASSERT_TRUE(fail_all(-1));
	for (int n = 0; n < 4096; n++) {
		progress();
		fail_nth(shielded);
		ret = ux_alloc(self->fd, &offset);
		fail_nth(0);
		if (ret)
			break;
		/* Takes a source of the reserve, and is refused in a later step. */
		ret = ux_alloc(self->fd, &offset);
		if (ret != -ENXIO)
			break;
	}
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_EQ(-ENOSPC, ux_alloc_on(self->fd, 0, &offset));
	ASSERT_TRUE(fail_all(0));
	EXPECT_EQ(0, ux_alloc(self->fd, &offset));

	EXPECT_EQ(4 * EVENT, ux_read(self->fd, events, sizeof(events)));
	EXPECT_TRUE(is_no_vp(&events[0], false));
	EXPECT_TRUE(is_no_vp(&events[1], false));
	EXPECT_TRUE(is_event(&events[2], UXIVE_EVENT_EXHAUSTED, UXIVE_RESOURCE_IRQ, false));
	EXPECT_TRUE(is_event(&events[3], UXIVE_EVENT_EXHAUSTED, UXIVE_RESOURCE_IRQ, true));
}

TEST_F(events, each_context_has_its_own)
{
	struct uxive_event event;
	int other = ux_open();

	ASSERT_TRUE(provoke(self->fd));
	EXPECT_EQ(0, polled(other, ~0) & READABLE);
	EXPECT_EQ(-EAGAIN, read_now(other, &event, sizeof(event)));
	EXPECT_TRUE(reads_one(self->fd));
	close(other);
}

/* poll() */

TEST_F(events, poll_says_readable_until_all_is_read)
{
	struct uxive_event event;

	EXPECT_EQ(0, polled(self->fd, ~0));
	ASSERT_TRUE(provoke_many(self->fd, 2));
	EXPECT_EQ(READABLE, polled(self->fd, ~0));
	ASSERT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(READABLE, polled(self->fd, ~0));
	ASSERT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(0, polled(self->fd, ~0));

	/* A count of drops is something to read, too. */
	ASSERT_TRUE(provoke_many(self->fd, CAPACITY + 1));
	for (int n = 0; n < CAPACITY; n++)
		ASSERT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(READABLE, polled(self->fd, ~0));
	ASSERT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(0, polled(self->fd, ~0));
}

TEST_F(events, poll_tells_a_drained_queue_and_an_event_apart)
{
	struct uxive_event event;
	__u64 offset;
	void *page;

	ASSERT_TRUE(provoke(self->fd));
	ASSERT_EQ(0, ux_user_drain(self->fd, -1));
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(READABLE, polled(self->fd, ~0));
	ring(page);
	EXPECT_TRUE(becomes(polled(self->fd, ~0), READABLE | POLLPRI));
	ASSERT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(POLLPRI, polled(self->fd, ~0));
	ASSERT_EQ(0, ux_arm(self->fd));
	EXPECT_EQ(0, polled(self->fd, ~0));
	munmap(page, STRIDE);
}

TEST_F(events, no_signal_tells_of_one)
{
	struct uxive_user_drain drain = ux_drain_arg(event_new());
	int fds[] = { self->fd, drain.eventfd }, on = 1;
	sigset_t told, pending;
	__u64 offset;
	void *page;

	ASSERT_EQ(0, sigemptyset(&told));
	ASSERT_EQ(0, sigaddset(&told, SIGIO));
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &told, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_EQ(0, fcntl(fds[i], F_SETOWN, getpid()));
		EXPECT_EQ(0, fcntl(fds[i], F_SETFL, O_RDWR | O_ASYNC));
		EXPECT_EQ(0, fcntl(fds[i], F_GETFL) & O_ASYNC);
		EXPECT_ERRNO(ioctl, ENOTTY, ux_ioctl(fds[i], FIOASYNC, &on));
	}

	ASSERT_TRUE(provoke(self->fd));
	ASSERT_EQ(0, ux_ioctl(self->fd, UXIVE_IOC_USER_DRAIN, &drain));
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	page = ux_map(self->fd, offset, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	EXPECT_EQ(1, event_wait(drain.eventfd));
	EXPECT_EQ(READABLE | POLLPRI, polled(self->fd, ~0));
	ASSERT_EQ(0, sigpending(&pending));
	EXPECT_EQ(0, sigismember(&pending, SIGIO));
	munmap(page, STRIDE);
}

TEST_F(events, epoll_tells_of_each_once_if_asked_so)
{
	struct epoll_event edge = { .events = EPOLLIN | EPOLLET }, level = { .events = EPOLLIN };
	int edges = epoll_create1(EPOLL_CLOEXEC), levels = epoll_create1(EPOLL_CLOEXEC);
	struct uxive_event event;

	ASSERT_EQ(0, epoll_ctl(edges, EPOLL_CTL_ADD, self->fd, &edge));
	ASSERT_EQ(0, epoll_ctl(levels, EPOLL_CTL_ADD, self->fd, &level));
	EXPECT_EQ(0, epoll_wait(edges, &edge, 1, 0));
	for (int n = 0; n < 3; n++) {
		ASSERT_TRUE(provoke(self->fd));
		EXPECT_EQ(1, epoll_wait(edges, &edge, 1, 0));
		EXPECT_EQ(EPOLLIN, edge.events);
		EXPECT_EQ(0, epoll_wait(edges, &edge, 1, 0));
		for (int again = 0; again < 2; again++) {
			EXPECT_EQ(1, epoll_wait(levels, &level, 1, 0));
			EXPECT_EQ(EPOLLIN, level.events);
		}
	}
	for (int n = 0; n < 3; n++)
		ASSERT_EQ(EVENT, ux_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(0, epoll_wait(levels, &level, 1, 0));
	close(edges);
	close(levels);
}

/* Threads that wait. */

static atomic_int caught;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&caught, 1);
}

static void catch_usr1(int flags)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = flags };

	atomic_store(&caught, 0);
	if (sigaction(SIGUSR1, &act, NULL))
		abort();
}

/* A thread that makes one call, to read or to poll. */
struct waiter {
	pthread_t thread;
	long (*call)(struct waiter *waiter);
	int fd;
	struct uxive_event event;
	long ret;
	atomic_int tid, done;
};

static long waiter_read(struct waiter *waiter)
{
	return ux_read(waiter->fd, &waiter->event, sizeof(waiter->event));
}

static long waiter_poll(struct waiter *waiter)
{
	struct pollfd pfd = { .fd = waiter->fd, .events = POLLIN };
	int ret = poll(&pfd, 1, -1);

	return ret < 0 ? -errno : pfd.revents;
}

static void *waiter_run(void *arg)
{
	struct waiter *waiter = arg;

	atomic_store(&waiter->tid, gettid());
	waiter->ret = waiter->call(waiter);
	atomic_store(&waiter->done, 1);
	return NULL;
}

/* Returns when it waits. */
static bool waiter_start(struct waiter *waiter, long (*call)(struct waiter *waiter), int fd)
{
	*waiter = (struct waiter){ .call = call, .fd = fd };
	return !pthread_create(&waiter->thread, NULL, waiter_run, waiter) &&
	       becomes(is_waiting(atomic_load(&waiter->tid)), true);
}

/* The return value of its call; -ETIMEDOUT if it has not returned. */
static long waiter_end(struct waiter *waiter)
{
	if (!becomes(atomic_load(&waiter->done), 1))
		return -ETIMEDOUT;
	pthread_join(waiter->thread, NULL);
	return waiter->ret;
}

TEST_F(events, an_event_wakes_who_reads)
{
	struct waiter waiter;

	for (int n = 0; n < 3; n++) {
		ASSERT_TRUE(waiter_start(&waiter, waiter_read, self->fd));
		ASSERT_TRUE(provoke(self->fd));
		ASSERT_EQ(EVENT, waiter_end(&waiter));
		EXPECT_TRUE(is_no_vp(&waiter.event, true));
	}
}

TEST_F(events, an_event_wakes_who_polls)
{
	struct waiter waiters[3];

	for (int i = 0; i < 3; i++)
		ASSERT_TRUE(waiter_start(&waiters[i], waiter_poll, self->fd));
	ASSERT_TRUE(provoke(self->fd));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(POLLIN, waiter_end(&waiters[i]));
	EXPECT_TRUE(reads_one(self->fd));
}

/* Not only the first of them that queued up. */
TEST_F(events, as_many_events_wake_as_many_readers)
{
	struct waiter waiters[4], poller;

	ASSERT_TRUE(waiter_start(&poller, waiter_poll, self->fd));
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(waiter_start(&waiters[i], waiter_read, self->fd));
	/* One event more than readers: a poller may come too late for the others. */
	ASSERT_TRUE(provoke_many(self->fd, 5));
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(EVENT, waiter_end(&waiters[i]));
	ASSERT_EQ(POLLIN, waiter_end(&poller));
	EXPECT_TRUE(reads_one(self->fd));
	EXPECT_EQ(0, polled(self->fd, ~0));
}

TEST_F(events, a_signal_interrupts)
{
	struct waiter waiter;

	catch_usr1(0);
	ASSERT_TRUE(waiter_start(&waiter, waiter_read, self->fd));
	pthread_kill(waiter.thread, SIGUSR1);
	EXPECT_ERRNO(read, EINTR, waiter_end(&waiter));
	EXPECT_EQ(1, atomic_load(&caught));

	/* Nothing is lost by that. */
	ASSERT_TRUE(provoke(self->fd));
	EXPECT_TRUE(reads_one(self->fd));
}

TEST_F(events, a_signal_restarts_if_it_is_to)
{
	struct waiter waiter;

	catch_usr1(SA_RESTART);
	ASSERT_TRUE(waiter_start(&waiter, waiter_read, self->fd));
	for (int n = 1; n < 4; n++) {
		pthread_kill(waiter.thread, SIGUSR1);
		ASSERT_TRUE(becomes(atomic_load(&caught), n));
		ASSERT_TRUE(becomes(is_waiting(waiter.tid), true));
		EXPECT_EQ(0, atomic_load(&waiter.done));
	}
	ASSERT_TRUE(provoke(self->fd));
	ASSERT_EQ(EVENT, waiter_end(&waiter));
	EXPECT_TRUE(is_no_vp(&waiter.event, true));
}

/* Ways in which a process does not run for a while, without a signal that it handles. */
enum pause { STOPPED, ATTACHED, SEIZED, PAUSES };

/* Pauses a child. Returns whether that came about. */
static bool pause_child(pid_t pid, enum pause way)
{
	int status;

	if (way == STOPPED)
		kill(pid, SIGSTOP);
	else if (ptrace(way == SEIZED ? PTRACE_SEIZE : PTRACE_ATTACH, pid, NULL, NULL))
		return false;
	if (way == SEIZED && ptrace(PTRACE_INTERRUPT, pid, NULL, NULL))
		return false;
	return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status);
}

/* Pauses a child, and has it go on. Returns whether all of that came about. */
static bool pause_and_go_on(pid_t pid, enum pause way)
{
	int status;

	if (!pause_child(pid, way))
		return false;
	if (way != STOPPED)
		return !ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return !kill(pid, SIGCONT) && waitpid(pid, &status, WCONTINUED) == pid &&
	       WIFCONTINUED(status);
}

TEST_F(events, who_is_stopped_or_traced_waits_on)
{
	for (int polls = 0; polls < 2; polls++) {
		for (enum pause way = 0; way < PAUSES; way++) {
			struct waiter waiter = { .fd = self->fd };
			pid_t pid = fork();

			ASSERT_LE(0, pid);
			if (!pid) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				if (polls)
					_exit(waiter_poll(&waiter) == POLLIN ? 0 : 1);
				if (waiter_read(&waiter) != EVENT)
					_exit(2);
				_exit(is_no_vp(&waiter.event, true) ? 0 : 3);
			}
			ASSERT_TRUE(becomes(is_waiting(pid), true));
			for (int n = 0; n < 3; n++) {
				ASSERT_TRUE(pause_and_go_on(pid, way))
					TH_LOG("way %d, round %d", way, n);
				/* In the call, not behind it. */
				ASSERT_TRUE(becomes(is_waiting(pid), true))
					TH_LOG("way %d, round %d", way, n);
			}
			ASSERT_TRUE(provoke(self->fd));
			EXPECT_EQ(0, child_status(pid)) TH_LOG("way %d, polls %d", way, polls);
			if (polls)
				EXPECT_TRUE(reads_one(self->fd));
		}
	}
	EXPECT_EQ(0, polled(self->fd, ~0));
}

/* A handler of SIGCONT is one as others are. */
TEST_F(events, who_handles_being_continued_is_interrupted_or_reads_on)
{
	for (int restart = 0; restart < 2; restart++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			struct sigaction act = {
				.sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0,
			};
			struct waiter waiter = { .fd = self->fd };

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sigaction(SIGCONT, &act, NULL);
			if (waiter_read(&waiter) != (restart ? (long)EVENT : -EINTR))
				_exit(1);
			_exit(atomic_load(&caught) == 1 ? 0 : 2);
		}
		ASSERT_TRUE(becomes(is_waiting(pid), true));
		ASSERT_TRUE(pause_child(pid, STOPPED));
		/* Not waited for here: the child may have ended already. */
		ASSERT_EQ(0, kill(pid, SIGCONT));
		if (restart) {
			ASSERT_TRUE(becomes(is_waiting(pid), true));
			ASSERT_TRUE(provoke(self->fd));
		}
		EXPECT_EQ(0, child_status(pid)) TH_LOG("restart %d", restart);
	}
	EXPECT_EQ(0, polled(self->fd, ~0));
}

TEST_F(events, a_descriptor_that_is_closed_elsewhere_leaves_who_reads)
{
	int other = dup(self->fd);
	struct waiter waiter;

	ASSERT_TRUE(waiter_start(&waiter, waiter_read, self->fd));
	close(self->fd);
	self->fd = other;
	EXPECT_EQ(0, atomic_load(&waiter.done));
	ASSERT_TRUE(provoke(other));
	ASSERT_EQ(EVENT, waiter_end(&waiter));

	/* The last one is closed: the file stays until the call is over. */
	ASSERT_TRUE(waiter_start(&waiter, waiter_read, self->fd));
	close(self->fd);
	catch_usr1(0);
	pthread_kill(waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, waiter_end(&waiter));
	self->fd = -1;
}

TEST_F(events, io_uring_reads_them)
{
	struct io_uring_params params = {};
	int uring = syscall(SYS_io_uring_setup, 1, &params);
	struct uxive_event event = {};
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	void *sq, *cq;

	ASSERT_LE(0, uring);
	sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_SQES);
	ASSERT_TRUE(sq != MAP_FAILED && cq != MAP_FAILED && sqe != MAP_FAILED);
	*sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_READ,
		.fd = self->fd,
		.off = -1,
		.addr = (unsigned long)&event,
		.len = sizeof(event),
	};
	((unsigned int *)(sq + params.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned int *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);

	/* Submitting does not wait. */
	ASSERT_EQ(1, syscall(SYS_io_uring_enter, uring, 1, 0, 0, NULL, 0));
	EXPECT_EQ(0, __atomic_load_n((unsigned int *)(cq + params.cq_off.tail), __ATOMIC_ACQUIRE));
	ASSERT_TRUE(provoke(self->fd));
	ASSERT_EQ(0, syscall(SYS_io_uring_enter, uring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	ASSERT_EQ(1, __atomic_load_n((unsigned int *)(cq + params.cq_off.tail), __ATOMIC_ACQUIRE));
	cqe = cq + params.cq_off.cqes;
	EXPECT_EQ((int)EVENT, cqe->res);
	EXPECT_TRUE(is_no_vp(&event, true));
	close(uring);
}

/* Races. */

/* Threads that read until they are interrupted, and count what they get. */
struct crowd {
	int fd;
	/* Events; and reads that found one at once, that slept, that failed on purpose. */
	atomic_long read, dropped, at_once, slept, failed;
	atomic_bool wrong, stop;
	/* They look again after a time that grows to this with each read, then begins anew. */
	long longest_ns;
};

/* How often the thread went to sleep. */
static long sleeps(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static void *crowd_run(void *arg)
{
	struct crowd *crowd = arg;
	struct uxive_event events[2];

	for (int n = 0; !atomic_load(&crowd->stop); n = (n + 1) % 100) {
		long begin = clock_ns(), before, len;

		while (clock_ns() - begin < crowd->longest_ns * n / 100)
			;
		before = sleeps();
		len = ux_read(crowd->fd, events, sizeof(events));
		atomic_fetch_add(sleeps() > before ? &crowd->slept : &crowd->at_once, 1);
		if (len == -EINTR)
			continue;
		if (len <= 0 || len % EVENT) {
			atomic_store(&crowd->wrong, true);
			break;
		}
		for (size_t i = 0; i < len / EVENT; i++) {
			if (events[i].header.type == UXIVE_EVENT_DROPPED)
				atomic_fetch_add(&crowd->dropped, events[i].dropped.count);
			else
				atomic_fetch_add(&crowd->read, 1);
		}
	}
	return NULL;
}

static bool crowd_end(struct crowd *crowd, pthread_t *threads, int count)
{
	atomic_store(&crowd->stop, true);
	for (int i = 0; i < count; i++)
		while (pthread_tryjoin_np(threads[i], NULL)) {
			pthread_kill(threads[i], SIGUSR1);
			usleep(1000);
		}
	return !atomic_load(&crowd->wrong);
}

static long crowd_count(struct crowd *crowd)
{
	return atomic_load(&crowd->read) + atomic_load(&crowd->dropped);
}

/* As becomes(), without a pause. */
static bool crowd_reaches(struct crowd *crowd, long count)
{
	long end = clock_ms() + WATCHDOG_MS;

	while (crowd_count(crowd) < count && clock_ms() < end)
		sched_yield();
	return crowd_count(crowd) == count;
}

TEST_F(events, each_comes_to_one_of_many_readers)
{
	const int rounds = 1000;
	struct crowd crowd = { .fd = self->fd };
	pthread_t threads[4];

	catch_usr1(0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, crowd_run, &crowd));
	ASSERT_TRUE(provoke_many(self->fd, rounds));
	EXPECT_TRUE(becomes(crowd_count(&crowd), rounds));
	EXPECT_TRUE(crowd_end(&crowd, threads, ARRAY_SIZE(threads)));
	EXPECT_EQ(rounds, crowd_count(&crowd));
	EXPECT_EQ(0, polled(self->fd, ~0));
	TH_LOG("%ld read, %ld dropped", crowd.read, crowd.dropped);
}

/*
 * In lock-step: the next event comes when the last one was read, and the reader
 * looks for it at a moment that moves from before it comes to after.
 */
TEST_F(events, no_wake_up_is_lost)
{
	const long rounds = 1000;
	struct crowd crowd = { .fd = self->fd };
	struct uxive_event events[CAPACITY];
	long n, begin = clock_ns();
	pthread_t thread;

	catch_usr1(0);
	ASSERT_TRUE(provoke_many(self->fd, CAPACITY));
	crowd.longest_ns = (clock_ns() - begin) / CAPACITY * 2;
	ASSERT_EQ(sizeof(events), ux_read(self->fd, events, sizeof(events)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, crowd_run, &crowd));
	for (n = 0; n < rounds; n++) {
		ASSERT_TRUE(provoke(self->fd));
		if (!crowd_reaches(&crowd, n + 1))
			break;
	}
	EXPECT_EQ(rounds, n);
	EXPECT_TRUE(crowd_end(&crowd, &thread, 1));
	/* It came both before the reader looked and when it slept. */
	EXPECT_LT(0, crowd.slept);
	EXPECT_LT(0, crowd.at_once);
	TH_LOG("%ld reads slept, %ld did not", crowd.slept, crowd.at_once);
}

/* A reader that fails to copy its event, again and again. */
static void *fail_to_read(void *arg)
{
	struct crowd *crowd = arg;

	while (!atomic_load(&crowd->stop))
		if (read_now(crowd->fd, NULL, EVENT) == -EFAULT)
			atomic_fetch_add(&crowd->failed, 1);
	return NULL;
}

/* Others look while the event is out, and find nothing. */
TEST_F(events, what_is_put_back_wakes_others)
{
	const long rounds = 1000;
	struct crowd crowd = { .fd = self->fd };
	pthread_t threads[2], failing;
	long n;

	catch_usr1(0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, crowd_run, &crowd));
	ASSERT_EQ(0, pthread_create(&failing, NULL, fail_to_read, &crowd));
	for (n = 0; n < rounds; n++) {
		ASSERT_TRUE(provoke(self->fd));
		if (!crowd_reaches(&crowd, n + 1))
			break;
	}
	EXPECT_EQ(rounds, n);
	EXPECT_TRUE(crowd_end(&crowd, threads, ARRAY_SIZE(threads)));
	pthread_join(failing, NULL);
	EXPECT_EQ(0, polled(self->fd, ~0));
	EXPECT_LT(0, crowd.failed);
	TH_LOG("%ld reads failed", crowd.failed);
}

/*
 * The first reader in line is woken and killed at the same moment. The event is
 * its own if it has reached its memory, else the next reader's.
 */
TEST_F(events, who_is_killed_takes_no_wake_up_along)
{
	struct uxive_event *heir = shared_memory(sizeof(*heir));
	int inherited = 0, taken = 0;

	for (int n = 0; n < 200; n++) {
		struct waiter next;
		pid_t first;

		memset(heir, 0, sizeof(*heir));
		first = fork();
		if (!first) {
			ux_read(self->fd, heir, sizeof(*heir));
			pause();
		}
		ASSERT_LT(0, first);
		ASSERT_TRUE(becomes(is_waiting(first), true));
		ASSERT_TRUE(waiter_start(&next, waiter_read, self->fd));

		/* In either order. */
		if (n % 2)
			kill(first, SIGKILL);
		ASSERT_TRUE(provoke(self->fd));
		if (n % 2 == 0)
			kill(first, SIGKILL);
		EXPECT_EQ(-SIGKILL, child_status(first));
		if (heir->header.type) {
			EXPECT_TRUE(is_no_vp(heir, true));
			EXPECT_EQ(0, atomic_load(&next.done));
			ASSERT_TRUE(provoke(self->fd));
			taken++;
		} else {
			inherited++;
		}
		ASSERT_EQ(EVENT, waiter_end(&next));
		ASSERT_EQ(0, polled(self->fd, ~0));
	}
	TH_LOG("%d went to the next, %d did not", inherited, taken);
	EXPECT_LT(0, inherited);
	munmap(heir, sizeof(*heir));
}

int main(int argc, char **argv)
{
	if (!can_inject_faults() || !find_vp_step())
		vp_step = 0;
	return test_harness_run(argc, argv);
}
