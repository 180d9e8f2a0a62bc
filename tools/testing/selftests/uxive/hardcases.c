// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: nothing that the rest of the kernel can do with a context, its
 * descriptors, its mappings or its owner reaches a wrong trigger page, harms
 * another program, or leaks the owner's resources: fork, exec, passing on,
 * stopping, freezing, tracing, dumping, direct I/O, moving, advising, locking,
 * sealing, loss of rights, namespaces, limits, and death in mid-ring.
 *
 * Care: a trigger page must not be accessed in the pieces in which the kernel
 * copies. Only calls that refuse the mapping before they touch it are given a
 * page that exists; calls that copy get empty slots.
 */
#include "uxive_afu.h"
#include "uxive_fixture.h"
#include <grp.h>
#include <linux/elf.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define IRQS	4

/* The result of a call that returns -1 on error: 0, more, or a negative errno. */
#define said(call) ({							\
	long __ret;							\
									\
	errno = 0;							\
	__ret = (long)(call);						\
	__ret == -1 ? -errno : __ret;					\
})

static bool fresh_context_rings(void)
{
	struct bells bells;
	bool rings = bells_open(&bells, 2) && bells_mute(&bells) < 0;

	bells_close(&bells);
	return rings;
}

FIXTURE(hard) {
	struct use before;
	struct bells bells;
};

FIXTURE_SETUP(hard)
{
	catch_touches();
	ASSERT_TRUE(fresh_context_rings());
	self->before = use_now();
	ASSERT_LE(0, self->before.irqs);
	ASSERT_TRUE(bells_open(&self->bells, IRQS));
}

/* After each test all is as before it, and the driver serves the next one. */
FIXTURE_TEARDOWN(hard)
{
	bells_close(&self->bells);
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TRUE(fresh_context_rings());
}

/* The page of slot @i. */
#define PAGE(i) (self->bells.window + (i) * STRIDE)

/* All interrupts of the test's own context ring, with one event each. */
#define EXPECT_ALL_RING()						\
	EXPECT_EQ(-1, bells_mute(&self->bells))

/* One byte to and from another process. */

static bool tell(int fd)
{
	return write(fd, "", 1) == 1;
}

static bool told(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 1;
}

/* Processes. */

TEST_F(hard, a_child_that_ends_harms_no_parent)
{
	long before;

	EXPECT_ALL_RING();
	for (int n = 0; n < 20; n++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			if (bells_mute(&self->bells) >= 0)
				_exit(1);
			/* The address space ends in each possible way. */
			if (n % 4 == 1)
				raise(SIGKILL);
			if (n % 4 == 2)
				execl("/proc/self/exe", "hardcases", "nothing", NULL);
			if (n % 4 == 3)
				munmap(self->bells.window, IRQS * STRIDE);
			_exit(0);
		}
		ASSERT_EQ(n % 4 == 1 ? -SIGKILL : 0, child_status(pid));
		/* The parent's pages are where they were: nothing faults. */
		faults();
		before = faults();
		for (int i = 0; i < IRQS; i++)
			ring(PAGE(i));
		EXPECT_EQ(before, faults());
		for (long seen = 0, count; seen < IRQS; seen += count) {
			count = event_wait(self->bells.efd);
			ASSERT_LT(0, count);
		}
	}
}

TEST_F(hard, an_inherited_mapping_rings_on_when_the_owner_is_killed)
{
	int up[2], down[2], efd = event_new();
	pid_t owner, heir;

	ASSERT_EQ(0, pipe(up));
	ASSERT_EQ(0, pipe(down));
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	owner = fork();
	ASSERT_LE(0, owner);
	if (!owner) {
		int fd = ux_open();
		void *page;

		if (ux_fill(fd, 1) || ux_bind(fd, IRQ_BASE, efd))
			_exit(1);
		page = ux_map(fd, IRQ_BASE, STRIDE);
		if (page == MAP_FAILED)
			_exit(2);
		heir = fork();
		if (heir) {
			if (write(up[1], &heir, sizeof(heir)) != sizeof(heir))
				_exit(3);
			for (;;)
				pause();
		}
		/* Only the mapping is left of the context. */
		close(fd);
		for (int n = 0; n < 10; n++)
			if (!told(down[0]) || touch(page))
				_exit(4);
		_exit(0);
	}
	ASSERT_EQ((ssize_t)sizeof(heir), read(up[0], &heir, sizeof(heir)));
	ASSERT_EQ(0, kill(owner, SIGKILL));
	ASSERT_EQ(-SIGKILL, child_status(owner));
	for (int n = 0; n < 10; n++) {
		EXPECT_EQ(self->before.irqs + IRQS + 1, total_irqs(self->bells.fd));
		ASSERT_TRUE(tell(down[1]));
		ASSERT_EQ(1, event_wait(efd)) TH_LOG("ring %d", n);
	}
	EXPECT_EQ(0, child_status(heir));
	close(efd);
	EXPECT_ALL_RING();
}

/* The program after exec, which knows only the numbers of descriptors. */
static int exec_ring(int fd, int efd)
{
	struct bells bells = { .fd = fd, .efd = efd, .irqs = IRQS };
	__u64 offset;

	catch_touches();
	if (ux_count(fd) != IRQS)
		return 1;
	bells.window = ux_map(fd, IRQ_BASE, IRQS * STRIDE);
	if (bells.window == MAP_FAILED || bells_mute(&bells) >= 0)
		return 2;
	if (ux_alloc(fd, &offset) || offset != slot_offset(IRQS) || ux_free(fd, IRQ_BASE))
		return 3;
	return touch(bells.window) == SIGBUS ? 0 : 4;
}

TEST_F(hard, a_context_without_cloexec_works_in_the_new_program)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		char fd[16], efd[16];
		struct bells bells;

		if (!bells_open(&bells, IRQS) || bells_mute(&bells) >= 0)
			_exit(10);
		fcntl(bells.fd, F_SETFD, 0);
		fcntl(bells.efd, F_SETFD, 0);
		snprintf(fd, sizeof(fd), "%d", bells.fd);
		snprintf(efd, sizeof(efd), "%d", bells.efd);
		execl("/proc/self/exe", "hardcases", "ring", fd, efd, NULL);
		_exit(11);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_ALL_RING();
}

/* Descriptors on their way. */

TEST_F(hard, a_context_is_whole_when_it_arrives_after_its_sender_closed_it)
{
	struct bells bells;
	int socks[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	ASSERT_TRUE(bells_open(&bells, IRQS));
	EXPECT_EQ(-1, bells_mute(&bells));
	ASSERT_TRUE(fd_send(socks[0], bells.fd));
	munmap(bells.window, IRQS * STRIDE);
	close(bells.fd);
	EXPECT_EQ(self->before.irqs + 2 * IRQS, total_irqs(self->bells.fd));

	bells.fd = fd_receive(socks[1]);
	EXPECT_EQ(IRQS, ux_count(bells.fd));
	bells.window = ux_map(bells.fd, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, bells.window);
	EXPECT_EQ(-1, bells_mute(&bells));
	bells_close(&bells);
	close(socks[0]);
	close(socks[1]);
}

TEST_F(hard, a_context_that_never_arrives_goes)
{
	struct rlimit files, none;
	struct bells bells;
	int socks[2];

	for (int way = 0; way < 3; way++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
		ASSERT_TRUE(bells_open(&bells, IRQS));
		EXPECT_EQ(-1, bells_mute(&bells));
		ASSERT_TRUE(fd_send(socks[0], bells.fd));
		bells_close(&bells);
		EXPECT_EQ(self->before.irqs + 2 * IRQS, total_irqs(self->bells.fd));
		if (way == 1) {
			/* A socket that is in its own queue: the kernel's collector finds it. */
			ASSERT_TRUE(fd_send(socks[0], socks[1]));
		} else if (way == 2) {
			/* The receiver has no room for it. */
			ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &files));
			none = (struct rlimit){ .rlim_cur = 0, .rlim_max = files.rlim_max };
			ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
			EXPECT_EQ(-1, fd_receive(socks[1]));
			ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
			EXPECT_TRUE(becomes(total_irqs(self->bells.fd), self->before.irqs + IRQS));
		}
		/* The last one to be closed, not being in flight, calls the collector. */
		close(socks[1]);
		close(socks[0]);
		EXPECT_TRUE(becomes(total_irqs(self->bells.fd), self->before.irqs + IRQS))
			TH_LOG("way %d", way);
	}
	EXPECT_ALL_RING();
}

/*
 * Files of each kind in the queues of sockets that nobody has but their queues: one
 * that is in its own, or two, each in that of the other.
 */
TEST_F(hard, what_is_in_flight_in_a_cycle_goes)
{
	enum { CONTEXT, RANGE, OWN_EXPORT, ITS_EXPORT, FILES };
	long irqs = self->before.irqs + IRQS;

	for (int sockets = 1; sockets <= 2; sockets++) {
		struct pollfd pfd = { .events = POLLIN };
		int socks[2][2], files[FILES];
		struct bells bells;
		void *page;

		for (int i = 0; i < sockets; i++)
			ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks[i]));
		ASSERT_TRUE(bells_open(&bells, IRQS));
		files[CONTEXT] = bells.fd;
		files[RANGE] = ux_range(self->bells.fd, 3);
		ASSERT_EQ(0, ux_fill(files[RANGE], 3));
		files[OWN_EXPORT] = ux_export(self->bells.fd, 0, 2, NULL);
		files[ITS_EXPORT] = ux_export(bells.fd, 0, 2, NULL);
		/* One whose owner is in flight, too, and that is mapped: by a duplicate. */
		pfd.fd = dup(files[ITS_EXPORT]);
		page = ux_map(pfd.fd, 0, STRIDE);
		ASSERT_NE(MAP_FAILED, page);
		for (int i = 0; i < FILES; i++) {
			ASSERT_LE(0, files[i]);
			ASSERT_TRUE(fd_send(socks[i % sockets][0], files[i]));
		}
		/* A file sent to the first of a pair is in the queue of the second. */
		for (int i = 0; i < sockets; i++)
			ASSERT_TRUE(fd_send(socks[i][0], socks[(i + 1) % sockets][1]));
		bells_close(&bells);
		for (int i = RANGE; i < FILES; i++)
			close(files[i]);
		EXPECT_EQ(irqs + IRQS + 3, total_irqs(self->bells.fd));
		EXPECT_EQ(2, total_exports(self->bells.fd));
		EXPECT_EQ(0, poll(&pfd, 1, 0));
		EXPECT_EQ(0, touch(page));

		for (int i = 0; i < sockets; i++) {
			close(socks[i][1]);
			close(socks[i][0]);
		}
		/* The collector is a work of the kernel's, which comes a little later. */
		EXPECT_TRUE(becomes(total_irqs(self->bells.fd), irqs))
			TH_LOG("%d sockets", sockets);
		EXPECT_TRUE(becomes(total_exports(self->bells.fd), 0))
			TH_LOG("%d sockets", sockets);
		EXPECT_EQ(1, poll(&pfd, 1, WATCHDOG_MS));
		EXPECT_EQ(POLLHUP, pfd.revents);
		EXPECT_EQ(SIGBUS, touch(page));
		munmap(page, STRIDE);
		close(pfd.fd);
	}
	EXPECT_ALL_RING();
}

/* By pidfd_getfd(), before its owner is killed; after that it fails. */
TEST_F(hard, a_context_that_was_taken_from_its_owner_outlives_it)
{
	struct bells bells = { .irqs = IRQS };
	int up[2], pidfd, theirs, bell;
	siginfo_t info;
	long events;
	__u64 offset;
	__u32 id;
	pid_t pid;

	ASSERT_EQ(0, pipe(up));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!bells_open(&bells, IRQS) || bells_mute(&bells) >= 0 ||
		    write(up[1], &bells.fd, sizeof(bells.fd)) != sizeof(bells.fd))
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ((ssize_t)sizeof(theirs), read(up[0], &theirs, sizeof(theirs)));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	bells.fd = syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	ASSERT_LE(0, bells.fd);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	/* Dead, and not reaped; then reaped. */
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-ESRCH, said(syscall(SYS_pidfd_getfd, pidfd, theirs, 0)));
	ASSERT_EQ(-SIGKILL, child_status(pid));
	EXPECT_EQ(-ESRCH, said(syscall(SYS_pidfd_getfd, pidfd, theirs, 0)));

	/* The context works fully, although its eventfds have no other owner. */
	EXPECT_EQ(self->before.irqs + 2 * IRQS, total_irqs(self->bells.fd));
	EXPECT_EQ(IRQS, ux_count(bells.fd));
	bells.window = ux_map(bells.fd, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, bells.window);
	EXPECT_EQ(0, touch(bells.window));
	bells.efd = event_new();
	for (int i = IRQS - 1; i >= 0; i--) {
		ASSERT_EQ(0, ux_bind(bells.fd, slot_offset(i), bells.efd));
		EXPECT_EQ(0, touch(bells.window + i * STRIDE));
		/* That of before may come late, and count, too. */
		events = event_wait(bells.efd);
		EXPECT_TRUE(events == 1 || (events == 2 && !i)) TH_LOG("%ld, slot %d", events, i);
	}
	EXPECT_EQ(0, ux_alloc(bells.fd, &offset));
	EXPECT_EQ(0, ux_free(bells.fd, offset));
	bell = ux_export(bells.fd, 0, 1, &id);
	EXPECT_LE(0, bell);
	EXPECT_EQ(0, ux_revoke(bells.fd, id));
	close(bell);
	close(pidfd);
	close(up[0]);
	close(up[1]);
	bells_close(&bells);
	EXPECT_TRUE(becomes(total_irqs(self->bells.fd), self->before.irqs + IRQS));
	EXPECT_ALL_RING();
}

/* An owner that does not run. */

TEST_F(hard, a_stopped_owner_harms_nobody_and_goes_on_when_continued)
{
	const __u64 full = 0xfffffffffffffffe;
	int socks[2], status, fd;
	void *theirs;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pollfd pfd = { .events = POLLERR };
		struct bells bells;

		if (!bells_open(&bells, IRQS) || !fd_send(socks[1], bells.fd))
			_exit(1);
		event_add(bells.efd, full);
		raise(SIGSTOP);
		/* Rings in the meantime were counted as far as there was room. */
		pfd.fd = bells.efd;
		if (poll(&pfd, 1, WATCHDOG_MS) != 1 || event_read(bells.efd) != -1)
			_exit(2);
		/* Two that came late may count too, but not all of these. */
		for (int i = 0; i < IRQS; i++) {
			int efd = event_new();

			if (ux_bind(bells.fd, slot_offset(i), efd))
				_exit(3);
			for (int n = 0; n < 10; n++)
				if (touch(bells.window + i * STRIDE) || event_wait(efd) < 1)
					_exit(4);
		}
		_exit(0);
	}
	fd = fd_receive(socks[0]);
	theirs = ux_map(fd, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, theirs);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	for (int n = 0; n < 250; n++) {
		for (int i = 0; i < IRQS; i++)
			ASSERT_EQ(0, touch(theirs + i * STRIDE));
		ASSERT_EQ(-1, bells_mute(&self->bells)) TH_LOG("round %d", n);
	}
	/* Nor does it keep others from freeing, or from getting more. */
	ASSERT_EQ(0, ux_free(fd, slot_offset(IRQS - 1)));
	EXPECT_EQ(SIGBUS, touch(theirs + (IRQS - 1) * STRIDE));
	EXPECT_TRUE(fresh_context_rings());
	ASSERT_EQ(0, ux_fill(fd, 1));

	ASSERT_EQ(0, kill(pid, SIGCONT));
	EXPECT_EQ(0, child_status(pid));
	munmap(theirs, IRQS * STRIDE);
	close(fd);
	close(socks[0]);
	close(socks[1]);
	EXPECT_ALL_RING();
}

/* A control group for the one process that the test freezes. */
#define CGROUP		"/sys/fs/cgroup/uxive"

static bool can_freeze(void)
{
	return !access("/sys/fs/cgroup/cgroup.procs", F_OK);
}

static bool is_frozen(void)
{
	return lines_with(CGROUP "/cgroup.events", "frozen 1\n") == 1;
}

static bool freeze_process(pid_t pid)
{
	char number[16];

	mkdir(CGROUP, 0700);
	snprintf(number, sizeof(number), "%d", pid);
	return !file_write(CGROUP "/cgroup.procs", number) &&
	       !file_write(CGROUP "/cgroup.freeze", "1") && becomes(is_frozen(), true);
}

/* How an owner waits when it is frozen: for an eventfd, or for the queue that it drains. */
enum wait { IN_READ, IN_POLL, IN_DRAIN, IN_POLL_OF_CONTEXT, WAITS };

/* An owner, and what it has passed on. */
struct owner {
	pid_t pid;
	struct bells bells;
};

/* Exit statuses: 0 if every interrupt rang twice, and no more. */

static int await_count(enum wait wait, int sock)
{
	struct pollfd pfd = { .events = POLLIN };
	struct bells bells;

	if (!bells_open(&bells, IRQS) || fcntl(bells.efd, F_SETFL, 0) ||
	    !fd_send(sock, bells.fd) || !fd_send(sock, bells.efd))
		return 1;
	pfd.fd = bells.efd;
	if (wait == IN_POLL && poll(&pfd, 1, -1) != 1)
		return 2;
	return event_read(bells.efd) == 2 * IRQS ? 0 : 3;
}

static int await_queue(enum wait wait, int sock)
{
	struct pollfd pfd = { .events = POLLPRI };
	struct uxive_drain user = {};
	int seen[IRQS] = {};

	if (!drain_open(&user, ux_open(), IRQS) ||
	    !fd_send(sock, user.fd) || !fd_send(sock, user.eventfd))
		return 1;
	pfd.fd = user.fd;
	if (wait == IN_POLL_OF_CONTEXT && (uxive_drain_arm(&user) || poll(&pfd, 1, -1) != 1))
		return 2;
	for (int n = 0; n < 2 * IRQS; n++) {
		int slot = uxive_drain_wait(&user, -1);

		if (slot < 0 || slot >= IRQS || ++seen[slot] > 2)
			return 3;
		uxive_drain_eoi(&user, slot);
	}
	return uxive_drain_try_next(&user) < 0 ? 0 : 4;
}

/* Starts an owner, freezes it where it waits, and has each interrupt rung twice. */
static bool owner_freeze(struct owner *owner, enum wait wait)
{
	bool counts = wait == IN_READ || wait == IN_POLL;
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, socks))
		return false;
	owner->pid = fork();
	if (!owner->pid) {
		/* A test that fails leaves none. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit((counts ? await_count : await_queue)(wait, socks[1]));
	}
	close(socks[1]);
	owner->bells = (struct bells){ .irqs = IRQS };
	owner->bells.fd = fd_receive(socks[0]);
	owner->bells.efd = fd_receive(socks[0]);
	close(socks[0]);
	owner->bells.window = ux_map(owner->bells.fd, IRQ_BASE, IRQS * STRIDE);
	if (owner->bells.window == MAP_FAILED || !becomes(process_state(owner->pid), 'S') ||
	    !freeze_process(owner->pid))
		return false;
	for (int n = 0; n < 2 * IRQS; n++) {
		if (touch(owner->bells.window + n % IRQS * STRIDE))
			return false;
		/* Another one that comes before it is counted would be one with it. */
		if (counts && !becomes(event_count(owner->bells.efd), n + 1))
			return false;
	}
	return true;
}

TEST_F(hard, what_rings_for_a_frozen_owner_is_there_when_it_thaws)
{
	if (!can_freeze())
		SKIP(return, "the kernel has no control groups");
	for (enum wait wait = 0; wait < WAITS; wait++) {
		struct owner owner;

		ASSERT_TRUE(owner_freeze(&owner, wait)) TH_LOG("wait %d", wait);
		EXPECT_ALL_RING();
		EXPECT_TRUE(fresh_context_rings());
		/* It takes no part in any of this. */
		EXPECT_TRUE(is_frozen());
		ASSERT_EQ(0, file_write(CGROUP "/cgroup.freeze", "0"));
		EXPECT_EQ(0, child_status(owner.pid)) TH_LOG("wait %d", wait);
		bells_close(&owner.bells);
		EXPECT_TRUE(becomes(rmdir(CGROUP), 0));
	}
	EXPECT_ALL_RING();
}

TEST_F(hard, killed_while_frozen_it_leaves_none)
{
	if (!can_freeze())
		SKIP(return, "the kernel has no control groups");
	for (enum wait wait = 0; wait < WAITS; wait++) {
		struct owner owner;

		ASSERT_TRUE(owner_freeze(&owner, wait)) TH_LOG("wait %d", wait);
		bells_close(&owner.bells);
		EXPECT_EQ(self->before.irqs + 2 * IRQS, total_irqs(self->bells.fd));
		ASSERT_EQ(0, kill(owner.pid, SIGKILL));
		EXPECT_EQ(-SIGKILL, child_status(owner.pid));
		EXPECT_TRUE(becomes(total_irqs(self->bells.fd), self->before.irqs + IRQS));
		EXPECT_TRUE(becomes(rmdir(CGROUP), 0));
	}
	EXPECT_ALL_RING();
}

/* Another process that looks in. */

TEST_F(hard, a_debugger_has_no_access_to_a_window)
{
	struct uxive_drain user = {};
	void *places[IRQS + 4];
	static long word = 1;
	long value = 0;
	struct iovec here = { &value, 8 }, there = { &word, 8 };
	char path[64];
	int status, mem;
	pid_t pid;

	munmap(self->bells.window, IRQS * STRIDE);
	self->bells.window = ux_map(self->bells.fd, IRQ_BASE, (IRQS + 1) * STRIDE);
	ASSERT_NE(MAP_FAILED, self->bells.window);
	ASSERT_EQ(0, uxive_drain_open(&user, ux_open(), event_new(), 1));
	ASSERT_EQ(0, ux_fill(user.fd, 1));
	/* Present, and not in the child's page table, and an empty slot. */
	for (int i = 0; i <= IRQS; i++)
		places[i] = PAGE(i);
	/* Present: the pages of user drain. */
	places[IRQS + 1] = uxive_drain_trigger(&user, 0);
	places[IRQS + 2] = uxive_drain_trigger(&user, 0) + STRIDE;
	places[IRQS + 3] = user.queue;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (touch(PAGE(0)) || touch(uxive_drain_trigger(&user, 0)) ||
		    uxive_drain_wait(&user, WATCHDOG_MS) != 0)
			_exit(1);
		uxive_drain_eoi(&user, 0);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(1);
		raise(SIGSTOP);
		if (word != 3 || bells_mute(&self->bells) >= 0)
			_exit(2);
		/* A word that had arrived would have made an event, or would prevent a new one. */
		if (uxive_drain_try_next(&user) >= 0 || touch(uxive_drain_trigger(&user, 0)) ||
		    uxive_drain_wait(&user, WATCHDOG_MS) != 0)
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(1, event_wait(self->bells.efd));
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDWR);
	ASSERT_LE(0, mem);

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		for (int at = 0; at < 16; at += 8) {
			struct iovec window = { places[i] + at, 8 };

			EXPECT_EQ(-EIO, said(ptrace(PTRACE_PEEKDATA, pid, window.iov_base, NULL)));
			EXPECT_EQ(-EIO, said(ptrace(PTRACE_POKEDATA, pid, window.iov_base, 0L)));
			EXPECT_EQ(-EIO, said(pread(mem, &value, 8, (off_t)window.iov_base)));
			EXPECT_EQ(-EIO, said(pwrite(mem, &value, 8, (off_t)window.iov_base)));
			EXPECT_EQ(-EFAULT,
				  said(process_vm_readv(pid, &here, 1, &window, 1, 0)));
			EXPECT_EQ(-EFAULT,
				  said(process_vm_writev(pid, &here, 1, &window, 1, 0)));
		}
	}
	/* Had a word arrived the next event would not be the first. */
	EXPECT_EQ(0, event_read(self->bells.efd));
	EXPECT_ALL_RING();

	/* The calls work on other memory, so they are the right ones. */
	errno = 0;
	EXPECT_EQ(1, ptrace(PTRACE_PEEKDATA, pid, &word, NULL));
	EXPECT_EQ(0, errno);
	EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, pid, &word, 2L));
	EXPECT_EQ(8, pread(mem, &value, 8, (off_t)&word));
	EXPECT_EQ(8, process_vm_readv(pid, &here, 1, &there, 1, 0));
	EXPECT_EQ(2, value);
	value = 3;
	EXPECT_EQ(8, process_vm_writev(pid, &here, 1, &there, 1, 0));
	/* With an empty slot on its own side it gets no further. */
	here.iov_base = PAGE(IRQS);
	EXPECT_EQ(-EFAULT, said(process_vm_readv(pid, &here, 1, &there, 1, 0)));
	EXPECT_EQ(-EFAULT, said(process_vm_writev(pid, &here, 1, &there, 1, 0)));
	close(mem);
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, pid, NULL, 0L));
	EXPECT_EQ(0, child_status(pid));
	munmap(PAGE(IRQS), STRIDE);
	uxive_drain_close(&user);
	close(user.fd);
	close(user.eventfd);
}

/* The line of /proc/self/smaps that begins with @key, of the mapping at @at. */
static bool smaps_line(const void *at, const char *key, char *line, size_t size)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool here = false, found = false;

	while (file && !found && fgets(line, size, file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)at;
		else
			found = here && !strncmp(line, key, strlen(key));
	}
	if (file)
		fclose(file);
	return found;
}

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"
#define CORE		"/tmp/uxive.core"

/* Replaces the text of a file, and returns the old one. */
static bool exchange(const char *path, const char *now, char *old, size_t size)
{
	int fd = open(path, O_RDWR);
	ssize_t got = read(fd, old, size - 1);
	bool written;

	if (got >= 0)
		old[got] = '\0';
	written = pwrite(fd, now, strlen(now), 0) == (ssize_t)strlen(now);
	close(fd);
	return got >= 0 && written;
}

/* The program header of the segment at @at in a core file; false if there is none. */
static bool core_segment(int core, const void *at, struct elf64_phdr *header)
{
	struct elf64_hdr elf;

	if (pread(core, &elf, sizeof(elf), 0) != sizeof(elf) ||
	    memcmp(elf.e_ident, ELFMAG, SELFMAG) || elf.e_type != ET_CORE)
		return false;
	for (int i = 0; i < elf.e_phnum; i++) {
		if (pread(core, header, sizeof(*header), elf.e_phoff + i * sizeof(*header)) !=
		    sizeof(*header))
			return false;
		if (header->p_type == PT_LOAD && header->p_vaddr == (unsigned long)at)
			return true;
	}
	return false;
}

TEST_F(hard, a_process_dumps_core_without_its_windows)
{
	char line[256], old[256], text[16] = {};
	struct uxive_drain user = {};
	struct elf64_phdr segment;
	const void *windows[3];
	void *plain;
	int core, status;
	pid_t pid;

	/* Every kind of window, and a page that does belong into a dump. */
	plain = shared_memory(STRIDE);
	memcpy(plain, "dump me", sizeof("dump me"));
	ASSERT_EQ(0, uxive_drain_open(&user, ux_open(), event_new(), 1));
	ASSERT_EQ(0, ux_fill(user.fd, 1));
	ring(uxive_drain_trigger(&user, 0));
	ASSERT_EQ(1, event_wait(user.eventfd));
	ASSERT_EQ(0, uxive_drain_try_next(&user));
	EXPECT_ALL_RING();
	windows[0] = self->bells.window;
	windows[1] = user.esb;
	windows[2] = (const void *)user.queue;
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(smaps_line(windows[i], "VmFlags:", line, sizeof(line)));
		EXPECT_TRUE(strstr(line, " io ") && strstr(line, " pf ") && strstr(line, " de "))
			TH_LOG("window %d: %s", i, line);
		/* May not be made executable, nor the trigger pages readable. */
		EXPECT_FALSE(strstr(line, " me ") || (!i && strstr(line, " mr ")))
			TH_LOG("window %d: %s", i, line);
		ASSERT_TRUE(smaps_line(windows[i], "Rss:", line, sizeof(line)));
		EXPECT_EQ(0, atol(line + 4));
	}

	unlink(CORE);
	ASSERT_TRUE(exchange(CORE_PATTERN, CORE "\n", old, sizeof(old)));
	pid = fork();
	if (!pid) {
		struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
		char was[64];

		setrlimit(RLIMIT_CORE, &all);
		/* All kinds of memory that a process can ask to have dumped. */
		if (!exchange("/proc/self/coredump_filter", "0xff", was, sizeof(was)))
			_exit(1);
		if (bells_mute(&self->bells) >= 0)
			_exit(2);
		abort();
	}
	waitpid(pid, &status, 0);
	ASSERT_TRUE(exchange(CORE_PATTERN, old, line, sizeof(line)));
	ASSERT_LT(0, pid);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && WCOREDUMP(status));

	core = open(CORE, O_RDONLY);
	ASSERT_LE(0, core);
	ASSERT_TRUE(core_segment(core, plain, &segment));
	EXPECT_EQ(STRIDE, segment.p_filesz);
	EXPECT_LT(0, pread(core, text, sizeof(text) - 1, segment.p_offset));
	EXPECT_STREQ("dump me", text);
	for (int i = 0; i < 3; i++) {
		if (core_segment(core, windows[i], &segment))
			EXPECT_EQ(0, segment.p_filesz) TH_LOG("window %d", i);
	}
	close(core);
	unlink(CORE);
	munmap(plain, STRIDE);
	uxive_drain_close(&user);
	close(user.fd);
	close(user.eventfd);
	EXPECT_ALL_RING();
}

/* The kernel as a user of pages. */

/* Calls that take hold of a page without copying: 0, more, or a negative errno. */
static long by_vmsplice(void *page)
{
	struct iovec iov = { page, 8 };
	int pipes[2];
	long ret;

	if (pipe(pipes))
		abort();
	ret = said(vmsplice(pipes[1], &iov, 1, SPLICE_F_NONBLOCK));
	close(pipes[0]);
	close(pipes[1]);
	return ret;
}

static long by_io_uring(void *page)
{
	struct io_uring_params params = {};
	struct iovec iov = { page, 8 };
	int uring = syscall(SYS_io_uring_setup, 1, &params);
	long ret;

	if (uring < 0)
		abort();
	ret = said(syscall(SYS_io_uring_register, uring, IORING_REGISTER_BUFFERS, &iov, 1));
	close(uring);
	return ret;
}

/* A disk in memory. Direct I/O pins the pages that it copies. */
#define DISK	"/dev/ram0"

static long by_direct_read(void *page)
{
	int disk = open(DISK, O_RDONLY | O_DIRECT);
	long ret;

	if (disk < 0)
		abort();
	ret = said(pread(disk, page, STRIDE, 0));
	close(disk);
	return ret;
}

static long by_direct_write(void *page)
{
	int disk = open(DISK, O_WRONLY | O_DIRECT);
	long ret;

	if (disk < 0)
		abort();
	ret = said(pwrite(disk, page, STRIDE, 0));
	close(disk);
	return ret;
}

/* Shared: known by its page, which need not be read for a wake. */
static long by_futex(void *page)
{
	return said(syscall(SYS_futex, page, FUTEX_WAKE, 1, NULL, NULL, 0));
}

TEST_F(hard, no_user_of_pages_gets_hold_of_a_window)
{
	const struct {
		const char *name;
		long (*hold)(void *page);
	} users[] = {
		{ "vmsplice", by_vmsplice },
		{ "io_uring", by_io_uring },
		{ "a read from a disk", by_direct_read },
		{ "a write to a disk", by_direct_write },
		{ "futex", by_futex },
	};
	void *plain = shared_memory(STRIDE);

	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(1)));
	ASSERT_EQ(0, touch(PAGE(0)));
	ASSERT_EQ(1, event_wait(self->bells.efd));
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		EXPECT_LE(0, users[i].hold(plain)) TH_LOG("%s", users[i].name);
		/* A page that is there, and an empty slot. */
		EXPECT_EQ(-EFAULT, users[i].hold(PAGE(0))) TH_LOG("%s", users[i].name);
		EXPECT_EQ(-EFAULT, users[i].hold(PAGE(1))) TH_LOG("%s", users[i].name);
	}
	munmap(plain, STRIDE);
	EXPECT_EQ(0, event_read(self->bells.efd));
	ASSERT_EQ(0, ux_fill(self->bells.fd, 1));
	ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(1), self->bells.efd));
	EXPECT_ALL_RING();
}

TEST_F(hard, no_program_handles_the_faults_of_a_window)
{
	struct uffdio_register range = {};
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_copy copy = { .len = STRIDE };
	struct uxive_drain user = {};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	void *plain = shared_memory(STRIDE);

	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	ASSERT_EQ(0, uxive_drain_open(&user, ux_open(), event_new(), 1));
	for (__u64 mode = 1; mode <= UFFD_API_REGISTER_MODES; mode++) {
		const struct uffdio_range windows[] = {
			{ (unsigned long)self->bells.window, IRQS * STRIDE },
			{ (unsigned long)user.esb, user.esb_length },
			{ (unsigned long)user.queue, uxive_drain_queue_length(&user) },
		};

		for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
			range = (struct uffdio_register){ .range = windows[i], .mode = mode };
			EXPECT_EQ(-EINVAL, said(ioctl(uffd, UFFDIO_REGISTER, &range)))
				TH_LOG("mode %llx of window %zu", mode, i);
		}
	}
	range = (struct uffdio_register){
		.range = { (unsigned long)plain, STRIDE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	EXPECT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &range));
	/* Nor is a page put there by force. */
	copy.src = (unsigned long)&uffd & -STRIDE;
	copy.dst = (unsigned long)PAGE(0);
	EXPECT_EQ(-ENOENT, said(ioctl(uffd, UFFDIO_COPY, &copy)));
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(1)));
	EXPECT_EQ(SIGBUS, touch(PAGE(1)));
	ASSERT_EQ(0, ux_fill(self->bells.fd, 1));
	ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(1), self->bells.efd));
	EXPECT_ALL_RING();
	close(uffd);
	munmap(plain, STRIDE);
	uxive_drain_close(&user);
	close(user.fd);
	close(user.eventfd);
}

/* A page of memory that is there when the test says so. */
struct late {
	int uffd;
	void *page, *content;
};

static bool late_open(struct late *late)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	late->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	late->page = mmap(NULL, STRIDE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	late->content = mmap(NULL, STRIDE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	range.range = (struct uffdio_range){ (unsigned long)late->page, STRIDE };
	return late->uffd >= 0 && late->page != MAP_FAILED && late->content != MAP_FAILED &&
	       !ioctl(late->uffd, UFFDIO_API, &api) && !ioctl(late->uffd, UFFDIO_REGISTER, &range);
}

static void late_close(struct late *late)
{
	close(late->uffd);
	munmap(late->page, STRIDE);
	munmap(late->content, STRIDE);
}

static void late_serve(const struct late *late)
{
	struct uffdio_copy copy = {
		.dst = (unsigned long)late->page,
		.src = (unsigned long)late->content,
		.len = STRIDE,
	};

	ioctl(late->uffd, UFFDIO_COPY, &copy);
}

/* Waits for a touch of the page: 0 for a load, 1 for a store, -1 if @done comes first. */
static int late_touched(const struct late *late, const atomic_bool *done)
{
	struct uffd_msg msg;

	while (!atomic_load(done)) {
		if (read(late->uffd, &msg, sizeof(msg)) == sizeof(msg))
			return !!(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE);
		sched_yield();
	}
	return -1;
}

/* An ioctl whose argument is such a page. */
struct late_ioctl {
	pthread_t thread;
	int fd, ret;
	unsigned int cmd;
	void *arg;
	atomic_bool done;
};

static void *late_ioctl_run(void *arg)
{
	struct late_ioctl *call = arg;

	call->ret = ux_ioctl(call->fd, call->cmd, call->arg);
	atomic_store(&call->done, true);
	return NULL;
}

/* All that another process can do with a context. Each call must return, with any result. */
static int use_all(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLPRI };
	int efd = event_new(), range, export;
	struct uxive_info info;
	__u64 offset = 0;
	__u32 id, start;
	void *window;

	if (ux_info(fd, &info))
		return 1;
	ux_arm(fd);
	if (ux_alloc(fd, &offset) || ux_bind(fd, offset, efd))
		return 2;
	if (ux_user_drain(fd, -1) != -EBUSY)
		return 3;
	window = ux_map(fd, offset, STRIDE);
	if (window == MAP_FAILED || touch(window) || event_wait(efd) != 1)
		return 4;
	export = ux_export(fd, (offset - IRQ_BASE) / STRIDE, 1, &id);
	if (export < 0 || ux_revoke(fd, id))
		return 5;
	if (ux_free(fd, offset) || touch(window) != SIGBUS)
		return 6;
	if (ux_alloc_many(fd, 2, NULL, &start) ||
	    ux_set_irqs(fd, UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER, start, 2, NULL) ||
	    ux_free_many(fd, start, 2))
		return 7;
	range = ux_range(fd, 1);
	/* One of an accelerator makes none. */
	if ((range < 0 && range != -ENOTTY) || ux_count(fd) < 0)
		return 8;
	return poll(&pfd, 1, 0) < 0 ? 9 : 0;
}

/* Whether another process is held up by nothing now. Says where it is if it does not come back. */
static bool holds_up_nobody(int fd)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(use_all(fd));
	if (!becomes(waitpid(pid, &status, WNOHANG), pid)) {
		ksft_print_msg("another process does not come back\n");
		return false;
	}
	if (status)
		ksft_print_msg("another process ended with %x\n", status);
	return !status;
}

#define TRIES 1000

/*
 * A program that waits for its own memory holds up nobody, both where the driver reads
 * the argument and where it writes it. For the latter the page goes after it was read.
 */
TEST_F(hard, no_ioctl_that_waits_for_memory_holds_up_another)
{
	/*
	 * The call makes the first interrupt (else there are others); it reads
	 * or writes its argument; it is an AFU's.
	 */
	enum { FIRST = 1, READS = 2, WRITES = 4, AFU = 8 };
	const struct {
		const char *name;
		unsigned int cmd, flags, size;
		union {
			__u64 words[4];
			struct ocxl_ioctl_irq_fd fd;
			struct uxive_irq_alloc_many many;
			struct uxive_irq_free_many free;
			struct uxive_set_irqs set;
			struct uxive_range range;
			struct uxive_export export;
			struct uxive_ims_alloc ims;
		} arg;
	} calls[] = {
		{ "IRQ_ALLOC of ocxl", OCXL_IOCTL_IRQ_ALLOC, FIRST | WRITES, 0, {} },
		{ "IRQ_FREE", OCXL_IOCTL_IRQ_FREE, READS, 0, { .words = { IRQ_BASE } } },
		{ "IRQ_SET_FD", OCXL_IOCTL_IRQ_SET_FD, READS, 0,
		  { .fd = { .irq_offset = IRQ_BASE, .eventfd = self->bells.efd } } },
		{ "GET_METADATA", OCXL_IOCTL_GET_METADATA, FIRST | WRITES | AFU, 0, {} },
		{ "GET_FEATURES", OCXL_IOCTL_GET_FEATURES, FIRST | WRITES, 0, {} },
		{ "INFO", UXIVE_IOC_INFO, FIRST | READS, sizeof(struct uxive_info), {} },
		{ "USER_DRAIN", UXIVE_IOC_USER_DRAIN, READS, sizeof(struct uxive_user_drain), {} },
		{ "ARM", UXIVE_IOC_ARM, READS, sizeof(struct uxive_arm), {} },
		{ "IRQ_ALLOC", UXIVE_IOC_IRQ_ALLOC, FIRST | READS | WRITES,
		  sizeof(struct uxive_irq_alloc), {} },
		{ "IRQ_ALLOC", UXIVE_IOC_IRQ_ALLOC, READS | WRITES,
		  sizeof(struct uxive_irq_alloc), {} },
		{ "IRQ_ALLOC_MANY", UXIVE_IOC_IRQ_ALLOC_MANY, FIRST | READS | WRITES,
		  sizeof(struct uxive_irq_alloc_many), { .many.count = 3 } },
		{ "IRQ_ALLOC_MANY", UXIVE_IOC_IRQ_ALLOC_MANY, READS | WRITES,
		  sizeof(struct uxive_irq_alloc_many), { .many.count = 3 } },
		{ "IRQ_FREE_MANY", UXIVE_IOC_IRQ_FREE_MANY, READS,
		  sizeof(struct uxive_irq_free_many), { .free.count = 1 } },
		{ "IRQ_FREE_ALL", UXIVE_IOC_IRQ_FREE_ALL, READS,
		  sizeof(struct uxive_irq_free_all), {} },
		{ "SET_IRQS", UXIVE_IOC_SET_IRQS, READS, sizeof(struct uxive_set_irqs),
		  { .set = { .flags = UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER, .count = 1 } } },
		{ "RANGE", UXIVE_IOC_RANGE, FIRST | READS | WRITES, sizeof(struct uxive_range),
		  { .range.count = 5 } },
		{ "IMS_ALLOC", UXIVE_IOC_IMS_ALLOC, FIRST | READS | WRITES | AFU,
		  sizeof(struct uxive_ims_alloc), { .ims.eventfd = -1 } },
		{ "EXPORT", UXIVE_IOC_EXPORT, READS | WRITES, sizeof(struct uxive_export),
		  { .export = { .kind = UXIVE_EXPORT_FILE, .count = 1 } } },
		{ "REVOKE", UXIVE_IOC_REVOKE, READS, sizeof(struct uxive_revoke), {} },
	};
	struct afu_function functions[AFU_MOST];
	int afus = afu_functions(functions);
	struct late late;

	ASSERT_TRUE(late_open(&late));
	if (afus)
		ASSERT_EQ(0, afu_bind(&functions[0]));
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		unsigned int flags = calls[i].flags;
		bool read = !(flags & READS), written = !(flags & WRITES);
		int tries = 0, pause = 0;

		if (flags & AFU && !afus)
			continue;

		while (!(read && written) && tries++ < TRIES) {
			struct late_ioctl call = {
				.fd = flags & AFU ? afu_open(&functions[0]) : ux_open(),
				.cmd = calls[i].cmd,
				.arg = late.page,
			};
			int touched, made;

			ASSERT_LE(0, call.fd);
			if (!(flags & FIRST))
				ASSERT_EQ(0, ux_fill(call.fd, 1));
			memcpy(late.content, &calls[i].arg, sizeof(calls[i].arg));
			/* Those of uxive begin with their size. */
			if (calls[i].size)
				*(__u32 *)late.content = calls[i].size;
			madvise(late.page, STRIDE, MADV_DONTNEED);
			/* The number of a file that the call makes. */
			made = dup(call.fd);
			close(made);
			ASSERT_EQ(0, pthread_create(&call.thread, NULL, late_ioctl_run, &call));
			while ((touched = late_touched(&late, &call.done)) == 0) {
				bool free = read || holds_up_nobody(call.fd);

				late_serve(&late);
				ASSERT_TRUE(free) TH_LOG("%s reads", calls[i].name);
				read = true;
				for (int n = 0; n < pause && !atomic_load(&call.done); n++)
					sched_yield();
				madvise(late.page, STRIDE, MADV_DONTNEED);
			}
			if (touched == 1) {
				written = holds_up_nobody(call.fd);
				late_serve(&late);
				ASSERT_TRUE(written) TH_LOG("%s writes", calls[i].name);
			} else {
				/* It had written before its page was taken, or did not. */
				pause = pause ? 0 : tries % 8;
			}
			pthread_join(call.thread, NULL);
			close(made);
			close(call.fd);
			progress();
		}
		EXPECT_TRUE(read && written)
			TH_LOG("%s was not met where it %s", calls[i].name,
			       read ? "writes" : "reads");
	}
	late_close(&late);
	if (afus)
		EXPECT_EQ(0, afu_unbind(&functions[0]));
}

/* Nor does it keep its program from being killed. */
TEST_F(hard, an_ioctl_that_waits_for_memory_can_be_killed)
{
	int up[2];

	ASSERT_EQ(0, pipe(up));
	for (int first = 0; first < 2; first++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			struct late_ioctl call = {
				.fd = first ? ux_open() : self->bells.fd,
				.cmd = OCXL_IOCTL_IRQ_ALLOC,
			};
			struct late late;

			if (!late_open(&late))
				_exit(1);
			call.arg = late.page;
			pthread_create(&call.thread, NULL, late_ioctl_run, &call);
			if (late_touched(&late, &call.done) != 1 || !tell(up[1]))
				_exit(2);
			pause();
		}
		ASSERT_TRUE(told(up[0]));
		kill(pid, SIGKILL);
		EXPECT_EQ(-SIGKILL, child_status(pid));
		EXPECT_EQ(IRQS, ux_count(self->bells.fd));
	}
	close(up[0]);
	close(up[1]);
	EXPECT_ALL_RING();
}

TEST_F(hard, a_freed_page_is_efault_for_all_that_copy)
{
	int pipes[2], socks[2], file = open("/tmp", O_TMPFILE | O_RDWR | O_DIRECT, 0600);
	struct iovec iov = { PAGE(1), 8 };
	__u64 word = 1;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	ASSERT_EQ(8, pwrite(file, &word, 8, 0));
	ASSERT_EQ(8, write(pipes[1], &word, 8));
	ASSERT_EQ(8, write(socks[1], &word, 8));
	/* It was there: one that is left would be found. */
	EXPECT_ALL_RING();
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(1)));

	EXPECT_EQ(-EFAULT, said(pread(file, PAGE(1), 8, 0)));
	EXPECT_EQ(-EFAULT, said(pwrite(file, PAGE(1), 8, 0)));
	EXPECT_EQ(-EFAULT, said(vmsplice(pipes[0], &iov, 1, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(-EFAULT, said(recv(socks[0], PAGE(1), 8, MSG_DONTWAIT)));
	EXPECT_EQ(-EFAULT, said(send(socks[0], PAGE(1), 8, MSG_DONTWAIT)));
	EXPECT_EQ(-EFAULT, said(getrandom(PAGE(1), 8, 0)));
	EXPECT_EQ(-EFAULT, said(open(PAGE(1), O_RDONLY)));
	close(file);
	for (int i = 0; i < 2; i++) {
		close(pipes[i]);
		close(socks[i]);
	}
	ASSERT_EQ(0, ux_fill(self->bells.fd, 1));
	ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(1), self->bells.efd));
	EXPECT_ALL_RING();
}

TEST_F(hard, a_context_is_neither_end_of_a_pipe)
{
	int fd = self->bells.fd, pipes[2], zero = open("/dev/zero", O_RDWR);

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_TRUE(tell(pipes[1]));
	EXPECT_EQ(-EINVAL, said(splice(fd, NULL, pipes[1], NULL, 8, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(-EINVAL, said(splice(pipes[0], NULL, fd, NULL, 1, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(-EINVAL, said(sendfile(pipes[1], fd, NULL, 8)));
	EXPECT_EQ(-EINVAL, said(sendfile(fd, zero, NULL, 8)));
	EXPECT_EQ(-EINVAL, said(ftruncate(fd, 0)));
	EXPECT_EQ(-ENODEV, said(fallocate(fd, 0, IRQ_BASE, STRIDE)));
	close(pipes[0]);
	close(pipes[1]);
	close(zero);
	EXPECT_ALL_RING();
}

/* Calls of a process on its own mappings. */

TEST_F(hard, no_advice_harms_a_window)
{
	int self_fd = syscall(SYS_pidfd_open, getpid(), 0);
	int taken = 0;

	ASSERT_LE(0, self_fd);
	/* Those that there are, and room for some that will be. */
	for (int advice = 0; advice < 110; advice = advice == 30 ? 100 : advice + 1) {
		struct iovec iov = { self->bells.window, IRQS * STRIDE };

		taken += !madvise(iov.iov_base, iov.iov_len, advice);
		EXPECT_ALL_RING() TH_LOG("after advice %d", advice);
		syscall(SYS_process_madvise, self_fd, &iov, 1, advice, 0);
		EXPECT_ALL_RING() TH_LOG("after advice %d to a process", advice);
	}
	/* Some are taken: the range was one that advice can be given for. */
	EXPECT_LT(0, taken);
	/* No advice brings a window into a core dump, or its pages into use. */
	EXPECT_EQ(-EINVAL, said(madvise(PAGE(0), STRIDE, MADV_DODUMP)));
	EXPECT_EQ(-EINVAL, said(madvise(PAGE(0), STRIDE, MADV_POPULATE_WRITE)));
	EXPECT_GT(0, said(madvise(PAGE(0), STRIDE, MADV_POPULATE_READ)));
	close(self_fd);
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(2)));
	EXPECT_EQ(SIGBUS, touch(PAGE(2)));
}

TEST_F(hard, locked_in_memory_it_rings_and_is_withdrawn_alike)
{
	void *later;

	ASSERT_EQ(0, mlock(self->bells.window, IRQS * STRIDE));
	EXPECT_ALL_RING();
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_ALL_RING();
	later = ux_map(self->bells.fd, IRQ_BASE, WINDOW);
	ASSERT_NE(MAP_FAILED, later);
	EXPECT_EQ(0, touch(later));
	EXPECT_EQ(1, event_wait(self->bells.efd));
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(0)));
	EXPECT_EQ(SIGBUS, touch(later));
	EXPECT_EQ(SIGBUS, touch(PAGE(0)));
	munmap(later, WINDOW);
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, touch(PAGE(1)));
	EXPECT_EQ(1, event_wait(self->bells.efd));
}

TEST_F(hard, what_is_left_of_a_shrunk_mapping_loses_its_pages)
{
	EXPECT_ALL_RING();
	ASSERT_EQ(self->bells.window,
		  mremap(self->bells.window, IRQS * STRIDE, 2 * STRIDE, 0));
	EXPECT_EQ(SIGSEGV, touch(PAGE(2)));
	EXPECT_EQ(0, touch(PAGE(0)));
	EXPECT_EQ(1, event_wait(self->bells.efd));
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(3)));
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(0)));
	EXPECT_EQ(SIGBUS, touch(PAGE(0)));
	EXPECT_EQ(0, touch(PAGE(1)));
	EXPECT_EQ(1, event_wait(self->bells.efd));
	/* The room that it gave up is not had back. */
	EXPECT_ERRNO(mremap, EFAULT,
		     said(mremap(self->bells.window, 2 * STRIDE, IRQS * STRIDE, 0)));
}

TEST_F(hard, freeing_harms_nothing_that_was_mapped_over_a_window)
{
	struct bells other;
	char *plain;
	void *over;
	long before;

	ASSERT_TRUE(bells_open(&other, 1));
	EXPECT_EQ(-1, bells_mute(&other));
	EXPECT_ALL_RING();
	plain = mmap(PAGE(1), 2 * STRIDE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(PAGE(1), plain);
	memset(plain, 0x5a, 2 * STRIDE);
	over = mmap(PAGE(3), STRIDE, PROT_WRITE, MAP_SHARED | MAP_FIXED, other.fd, IRQ_BASE);
	ASSERT_EQ(PAGE(3), over);
	ASSERT_EQ(0, touch(over));
	ASSERT_EQ(1, event_wait(other.efd));

	for (int i = 1; i < IRQS; i++)
		ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(i)));
	for (size_t i = 0; i < 2 * STRIDE; i++) {
		ASSERT_EQ(0x5a, plain[i])
			TH_LOG("byte %zu", i);
	}
	faults();
	before = faults();
	ring(over);
	EXPECT_EQ(before, faults());
	EXPECT_EQ(1, event_wait(other.efd));
	EXPECT_EQ(0, touch(PAGE(0)));
	EXPECT_EQ(1, event_wait(self->bells.efd));

	/* And it is the other's to free. */
	ASSERT_EQ(0, ux_free(other.fd, IRQ_BASE));
	EXPECT_EQ(SIGBUS, touch(over));
	bells_close(&other);
}

TEST_F(hard, a_mapping_made_nonlinear_reaches_the_slots_it_shows)
{
	const __u64 page = sysconf(_SC_PAGESIZE);
	int efd[IRQS];

	EXPECT_ALL_RING();
	for (int i = 0; i < IRQS; i++) {
		efd[i] = event_new();
		ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(i), efd[i]));
	}
	/* Slot 2 where slot 0 was. */
	ASSERT_EQ(0, remap_file_pages(PAGE(0), STRIDE, 0, slot_offset(2) / page, 0));
	EXPECT_EQ(0, touch(PAGE(0)));
	EXPECT_EQ(1, event_wait(efd[2]));
	EXPECT_EQ(0, touch(PAGE(1)));
	EXPECT_EQ(1, event_wait(efd[1]));
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(2)));
	EXPECT_EQ(SIGBUS, touch(PAGE(0)));
	EXPECT_EQ(SIGBUS, touch(PAGE(2)));
	EXPECT_EQ(0, event_read(efd[0]));
	/* It cannot leave the window. */
	EXPECT_EQ(-EINVAL, said(remap_file_pages(PAGE(1), STRIDE, 0,
						 slot_offset(SLOTS) / page, 0)));
	EXPECT_EQ(-EINVAL, said(remap_file_pages(PAGE(1), STRIDE, 0, 0, 0)));
	EXPECT_EQ(0, touch(PAGE(3)));
	EXPECT_EQ(1, event_wait(efd[3]));
	for (int i = 0; i < IRQS; i++)
		close(efd[i]);
}

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

TEST_F(hard, a_sealed_mapping_loses_pages_and_goes_with_its_process)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		struct bells bells;

		if (!bells_open(&bells, IRQS) || bells_mute(&bells) >= 0)
			_exit(1);
		if (syscall(SYS_mseal, bells.window, IRQS * STRIDE, 0))
			_exit(2);
		if (said(munmap(bells.window, STRIDE)) != -EPERM || bells_mute(&bells) >= 0)
			_exit(3);
		if (ux_free(bells.fd, IRQ_BASE) || touch(bells.window) != SIGBUS)
			_exit(4);
		_exit(touch(bells.window + STRIDE) || event_wait(bells.efd) != 1 ? 5 : 0);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_ALL_RING();
}

/* Rights. */

/* Does all that a context is for; true if it all works. */
static bool in_full_use(const struct bells *bells)
{
	__u64 offset;
	void *page;
	bool works;

	if (bells_mute(bells) >= 0 || ux_alloc(bells->fd, &offset) ||
	    ux_bind(bells->fd, offset, bells->efd))
		return false;
	page = ux_map(bells->fd, offset, STRIDE);
	works = page != MAP_FAILED && !touch(page) && event_wait(bells->efd) == 1 &&
		!ux_free(bells->fd, offset) && touch(page) == SIGBUS;
	munmap(page, STRIDE);
	return works;
}

TEST_F(hard, a_context_outlives_the_rights_that_opened_it)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			_exit(1);
		/* A process that has lost the rights cannot open another. */
		if (ux_open() != -EACCES)
			_exit(2);
		_exit(in_full_use(&self->bells) ? 0 : 3);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_ALL_RING();
}

TEST_F(hard, a_context_goes_along_into_a_new_user_namespace)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		struct bells bells;

		if (!bells_open(&bells, IRQS) || !in_full_use(&bells))
			_exit(1);
		if (unshare(CLONE_NEWUSER) || getuid() != 65534)
			_exit(2);
		_exit(in_full_use(&bells) ? 0 : 3);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_ALL_RING();
}

TEST_F(hard, another_user_namespace_can_what_its_descriptors_can)
{
	struct bells bells;
	int socks[2], blind = open(UXIVE_DEV, O_RDONLY | O_CLOEXEC);
	pid_t pid;

	ASSERT_LE(0, blind);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Has all capabilities there, no right here, and nothing inherited. */
		bells_close(&self->bells);
		close(blind);
		close(socks[0]);
		if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534) || unshare(CLONE_NEWUSER))
			_exit(1);
		bells.irqs = IRQS;
		bells.fd = fd_receive(socks[1]);
		bells.efd = fd_receive(socks[1]);
		blind = fd_receive(socks[1]);
		bells.window = ux_map(bells.fd, IRQ_BASE, IRQS * STRIDE);
		if (bells.window == MAP_FAILED || !in_full_use(&bells))
			_exit(2);
		/* Not opened for writing, so it does not let ring. */
		if (ux_fill(blind, 1) || said(ux_map(blind, IRQ_BASE, STRIDE)) != -EACCES)
			_exit(3);
		_exit(ux_open() == -EACCES ? 0 : 4);
	}
	close(socks[1]);
	EXPECT_TRUE(fd_send(socks[0], self->bells.fd));
	EXPECT_TRUE(fd_send(socks[0], self->bells.efd));
	EXPECT_TRUE(fd_send(socks[0], blind));
	EXPECT_EQ(0, child_status(pid));
	close(socks[0]);
	close(blind);
	EXPECT_ALL_RING();
}

TEST_F(hard, a_context_works_where_its_node_is_out_of_sight)
{
	int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	char empty[] = "/tmp/uxive.XXXXXX";
	pid_t pid;

	ASSERT_LE(0, home);
	ASSERT_TRUE(mkdtemp(empty));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (unshare(CLONE_NEWNS | CLONE_FILES | CLONE_SYSVSEM))
			_exit(1);
		if (!in_full_use(&self->bells))
			_exit(2);
		if (chroot(empty) || chdir("/") || ux_open() != -ENOENT)
			_exit(3);
		if (!in_full_use(&self->bells))
			_exit(4);
		if (setns(home, CLONE_NEWNS) || !in_full_use(&self->bells))
			_exit(5);
		_exit(0);
	}
	EXPECT_EQ(0, child_status(pid));
	rmdir(empty);
	close(home);
	EXPECT_ALL_RING();
}

/* Limits of the process. */

TEST_F(hard, open_without_a_descriptor_left_is_emfile)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct rlimit old, now;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	close(null);
	/* All below are in use: this one is the lowest that is free. */
	now = (struct rlimit){ .rlim_cur = null, .rlim_max = old.rlim_max };
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &now));
	for (int n = 0; n < 100; n++)
		EXPECT_EQ(-EMFILE, ux_open());
	EXPECT_ALL_RING();
	/* A context takes one descriptor, not two. */
	now.rlim_cur++;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &now));
	EXPECT_EQ(null, ux_open());
	EXPECT_EQ(-EMFILE, ux_open());
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_EQ(0, ux_fill(null, 1));
	close(null);
}

TEST_F(hard, mmap_beyond_the_address_space_is_enomem)
{
	struct rlimit old, now;
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages;
	void *page;

	ASSERT_EQ(1, fscanf(file, "%lu", &pages));
	fclose(file);
	ASSERT_EQ(0, getrlimit(RLIMIT_AS, &old));
	now = (struct rlimit){
		.rlim_cur = pages * sysconf(_SC_PAGESIZE) + WINDOW / 2,
		.rlim_max = old.rlim_max,
	};
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &now));
	for (int n = 0; n < 100; n++)
		EXPECT_ERRNO(mmap, ENOMEM, said(ux_map(self->bells.fd, IRQ_BASE, WINDOW)));
	/* A smaller mapping has room. */
	page = ux_map(self->bells.fd, IRQ_BASE, WINDOW / 4);
	EXPECT_NE(MAP_FAILED, page);
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->bells.efd));
	munmap(page, WINDOW / 4);
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &old));
	EXPECT_ALL_RING();
}

/* Death. */

#define MANY	1000

/* The kernel drains, and one thread for each of two CPUs rings. */
static void ring_until_killed(int sock)
{
	struct storm storms[2] = { { .cpu = 0, .irqs = MANY }, { .cpu = 1, .irqs = MANY } };
	struct bells bells;

	if (!bells_open(&bells, MANY) || !fd_send(sock, bells.efd))
		_exit(1);
	storms[0].pages = bells.window;
	storms[1].pages = bells.window;
	if (storm_start(&storms[1]))
		_exit(1);
	storm_run(&storms[0]);
}

TEST_F(hard, killed_while_it_rings_a_thousand_it_leaves_none)
{
	for (int n = 0; n < 5; n++) {
		long count, seen = 0;
		int socks[2], efd;
		pid_t pid;

		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			ring_until_killed(socks[1]);
		efd = fd_receive(socks[0]);
		while (seen < MANY) {
			count = event_wait(efd);
			ASSERT_LT(0, count);
			seen += count;
			progress();
		}
		EXPECT_EQ(self->before.irqs + IRQS + MANY, total_irqs(self->bells.fd));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(pid));
		EXPECT_TRUE(becomes(total_irqs(self->bells.fd), self->before.irqs + IRQS));
		/* Nothing signals the eventfd of a context that is gone. */
		event_read(efd);
		EXPECT_ALL_RING();
		EXPECT_EQ(0, event_read(efd));
		close(efd);
		close(socks[0]);
		close(socks[1]);
	}
}

/*
 * The program drains, and does not: each interrupt has an event in the queue
 * and one to come. Returns how many are in that state.
 */
static long leave_pending(void)
{
	struct uxive_drain user;
	long pending = 0;

	if (!drain_open(&user, ux_open(), MANY))
		return 0;
	for (int i = 0; i < MANY; i++) {
		__u64 *pq = uxive_drain_trigger(&user, i) + STRIDE + 0x800;

		ring(uxive_drain_trigger(&user, i));
		ring(uxive_drain_trigger(&user, i));
		pending += __builtin_bswap64(__atomic_load_n(pq, __ATOMIC_RELAXED)) == 3;
	}
	return pending;
}

TEST_F(hard, killed_with_a_thousand_pending_it_leaves_none)
{
	for (int n = 0; n < 5; n++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			if (leave_pending() == MANY)
				kill(getpid(), SIGKILL);
			_exit(1);
		}
		ASSERT_EQ(-SIGKILL, child_status(pid));
		EXPECT_TRUE(becomes(total_irqs(self->bells.fd), self->before.irqs + IRQS));
		EXPECT_ALL_RING();
		progress();
	}
}

/* Races of freeing against what copies or moves page tables. */

#define RACE_ROUNDS	100

struct interval {
	long begin, end;
};

static bool overlap(const struct interval *one, const struct interval *other)
{
	return one->begin < other->end && other->begin < one->end;
}

/* Frees slot 0 each time it is told, a while after. */
struct freer {
	pthread_t thread;
	int fd;
	unsigned int seed;
	atomic_int go, done;
	/* The longest while: grows to what it races against takes. */
	atomic_long within;
	struct interval free;
	int errors;
};

static void *freer_run(void *arg)
{
	struct freer *freer = arg;

	pin_to_cpu(1);
	for (int n = 1; n <= RACE_ROUNDS; n++) {
		long start;

		while (atomic_load(&freer->go) < n)
			sched_yield();
		start = clock_ns() + rand_r(&freer->seed) % (atomic_load(&freer->within) + 1);
		while (clock_ns() < start)
			;
		freer->free.begin = clock_ns();
		freer->errors += !!ux_free(freer->fd, IRQ_BASE);
		freer->free.end = clock_ns();
		atomic_store(&freer->done, n);
	}
	return NULL;
}

static bool freer_start(struct freer *freer, int fd)
{
	*freer = (struct freer){ .fd = fd, .seed = 1 };
	pin_to_cpu(0);
	return !pthread_create(&freer->thread, NULL, freer_run, freer);
}

static void freer_wait(struct freer *freer, int n)
{
	while (atomic_load(&freer->done) < n)
		sched_yield();
}

TEST_F(hard, no_child_is_born_with_a_page_that_is_being_freed)
{
	struct interval birth;
	struct freer freer;
	int overlaps = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_TRUE(freer_start(&freer, self->bells.fd));
	for (int n = 1; n <= RACE_ROUNDS; n++) {
		int pipes[2];
		pid_t pid;

		progress();
		ASSERT_EQ(0, pipe(pipes));
		ASSERT_EQ(-1, bells_mute(&self->bells)) TH_LOG("round %d", n);
		atomic_store(&freer.go, n);
		birth.begin = clock_ns();
		pid = fork();
		if (!pid)
			_exit(told(pipes[0]) && touch(PAGE(0)) == SIGBUS ? 0 : 1);
		birth.end = clock_ns();
		ASSERT_LT(0, pid);
		freer_wait(&freer, n);
		overlaps += overlap(&birth, &freer.free);
		atomic_store(&freer.within, birth.end - birth.begin);
		ASSERT_TRUE(tell(pipes[1]));
		ASSERT_EQ(0, child_status(pid)) TH_LOG("round %d", n);
		EXPECT_EQ(SIGBUS, touch(PAGE(0)));
		close(pipes[0]);
		close(pipes[1]);
		ASSERT_EQ(0, ux_fill(self->bells.fd, 1));
		ASSERT_EQ(0, ux_bind(self->bells.fd, IRQ_BASE, self->bells.efd));
	}
	pthread_join(freer.thread, NULL);
	TH_LOG("%d of %d births were during the free", overlaps, RACE_ROUNDS);
	EXPECT_EQ(0, freer.errors);
	EXPECT_LT(0, overlaps);
	EXPECT_ALL_RING();
}

TEST_F(hard, no_page_escapes_a_free_by_moving)
{
	void *home = self->bells.window, *away, *at = home;
	struct interval move = {};
	struct freer freer;
	int overlaps = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	away = mmap(NULL, IRQS * STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, away);
	ASSERT_TRUE(freer_start(&freer, self->bells.fd));
	for (int n = 1; n <= RACE_ROUNDS; n++) {
		void *to = at == home ? away : home;

		progress();
		self->bells.window = at;
		ASSERT_EQ(-1, bells_mute(&self->bells)) TH_LOG("round %d", n);
		atomic_store(&freer.go, n);
		/* As often as it takes until the free comes. */
		do {
			move.begin = clock_ns();
			if (mremap(at, IRQS * STRIDE, IRQS * STRIDE,
				   MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
				break;
			move.end = clock_ns();
			to = at;
			at = to == home ? away : home;
		} while (atomic_load(&freer.done) < n);
		freer_wait(&freer, n);
		overlaps += overlap(&move, &freer.free);
		atomic_store(&freer.within, move.end - move.begin);
		ASSERT_EQ(SIGBUS, touch(at)) TH_LOG("round %d", n);
		ASSERT_EQ(SIGSEGV, touch(to)) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_fill(self->bells.fd, 1));
		ASSERT_EQ(0, ux_bind(self->bells.fd, IRQ_BASE, self->bells.efd));
	}
	pthread_join(freer.thread, NULL);
	self->bells.window = at;
	TH_LOG("%d of %d moves were during the free", overlaps, RACE_ROUNDS);
	EXPECT_EQ(0, freer.errors);
	EXPECT_LT(0, overlaps);
	EXPECT_ALL_RING();
	munmap(at == home ? away : home, IRQS * STRIDE);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "ring"))
		return exec_ring(atoi(argv[2]), atoi(argv[3]));
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
	return test_harness_run(argc, argv);
}
