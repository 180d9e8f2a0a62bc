// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a program that has the file of an export rings the exported interrupts,
 * by a store, and can do nothing else with it. When an interrupt is freed, the
 * export revoked, or the owner gone, the store raises SIGBUS in all processes at
 * once, and never rings another interrupt. poll() on the file reports its end.
 *
 * faults.c has the tests of steps that fail. Tests of an accelerator are skipped
 * where the machine has none.
 *
 * Care: as in mapping.c, only pages that are gone are given to system calls.
 */
#include "uxive_faults.h"
#include "uxive_afu.h"
#include "uxive_fixture.h"
#include <linux/mman.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

/* Somebody who is not root. */
#define ALICE		1001
#define BELLS		8
/* As many as an export can have. */
#define MAPPINGS	128

/* A context with BELLS interrupts, each with an eventfd, and what it exports. */
FIXTURE(doorbell) {
	int fd;
	int efd[BELLS];
};

FIXTURE_SETUP(doorbell)
{
	catch_touches();
	self->fd = ux_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ux_fill(self->fd, BELLS));
	ASSERT_EQ(0, bind_each(self->fd, self->efd, BELLS));
}

FIXTURE_TEARDOWN(doorbell)
{
	close(self->fd);
	for (int i = 0; i < BELLS; i++)
		close(self->efd[i]);
	EXPECT_EQ(0, all_exports());
	EXPECT_TRUE(becomes(all_irqs(), 0));
}

/* All of @count pages of a file of an export. */
static void *map_bells(int fd, unsigned long count)
{
	return ux_map(fd, 0, count * STRIDE);
}

/* The errnos with which two system calls touch a page that is gone, by writing and by reading. */
static int errno_of_write(void *page)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int ret = read(zero, page, 8) < 0 ? -errno : 0;

	close(zero);
	return ret;
}

static int errno_of_read(void *page)
{
	int pipes[2], ret;

	if (pipe(pipes))
		return -1;
	ret = write(pipes[1], page, 8) < 0 ? -errno : 0;
	close(pipes[0]);
	close(pipes[1]);
	return ret;
}

static bool is_gone(void *page)
{
	return touch(page) == SIGBUS && errno_of_write(page) == -EFAULT &&
	       errno_of_read(page) == -EFAULT;
}

/* A process that was sent the file of an export, in the name of @uid, and has touched its pages. */
struct receiver {
	pid_t pid;
	int sock;
};

/* Its exit status: 0 if all pages of @gone, a bit each, and no others are gone at the end. */
static void receiver_run(int sock, int count, uid_t uid)
{
	unsigned int gone;
	void *bells;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setuid(uid))
		_exit(100);
	fd = fd_receive(sock);
	bells = map_bells(fd, count);
	if (bells == MAP_FAILED)
		_exit(101);
	close(fd);
	for (int i = 0; i < count; i++)
		if (touch(bells + i * STRIDE))
			_exit(102);
	if (write(sock, "t", 1) != 1 || read(sock, &gone, sizeof(gone)) != sizeof(gone))
		_exit(103);
	for (int i = 0; i < count; i++)
		if (gone & 1U << i ? !is_gone(bells + i * STRIDE) : touch(bells + i * STRIDE))
			_exit(1 + i);
	_exit(0);
}

static bool receiver_start(struct receiver *receiver, int fd, int count, uid_t uid)
{
	int socks[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		return false;
	receiver->pid = fork();
	if (!receiver->pid) {
		/* Files that the child inherited must not be what it rings by. */
		for (int other = 3; other < 64; other++)
			if (other != socks[1])
				close(other);
		receiver_run(socks[1], count, uid);
	}
	close(socks[1]);
	receiver->sock = socks[0];
	return receiver->pid > 0 && fd_send(receiver->sock, fd) &&
	       read(receiver->sock, &byte, 1) == 1;
}

static int receiver_end(struct receiver *receiver, unsigned int gone)
{
	bool told = write(receiver->sock, &gone, sizeof(gone)) == sizeof(gone);

	close(receiver->sock);
	return told ? child_status(receiver->pid) : -1;
}

TEST_F(doorbell, whoever_is_sent_the_file_rings)
{
	struct receiver receivers[2];
	int fd = ux_export(self->fd, 2, 3, NULL);

	ASSERT_LE(0, fd);
	ASSERT_TRUE(receiver_start(&receivers[0], fd, 3, 0));
	for (int i = 0; i < BELLS; i++) {
		bool rung = i >= 2 && i < 5;

		EXPECT_EQ(rung, rung ? event_wait(self->efd[i]) : event_read(self->efd[i]))
			TH_LOG("slot %d", i);
	}
	/* Nor need it be one who may open the node. */
	ASSERT_TRUE(receiver_start(&receivers[1], fd, 3, ALICE));
	close(fd);
	for (int i = 2; i < 5; i++) {
		EXPECT_EQ(1, event_wait(self->efd[i]))
			TH_LOG("slot %d", i);
	}
	for (int n = 0; n < 2; n++) {
		EXPECT_EQ(0, receiver_end(&receivers[n], 0));
		for (int i = 2; i < 5; i++) {
			EXPECT_EQ(1, event_wait(self->efd[i]))
				TH_LOG("slot %d", i);
		}
	}
}

TEST_F(doorbell, each_page_rings_its_own_interrupt)
{
	int fd = ux_export(self->fd, 1, BELLS - 1, NULL);
	void *all = map_bells(fd, BELLS - 1);
	void *tail = ux_map(fd, 3 * STRIDE, 2 * STRIDE);

	ASSERT_NE(MAP_FAILED, all);
	ASSERT_NE(MAP_FAILED, tail);
	for (int i = 0; i < BELLS - 1; i++) {
		EXPECT_EQ(0, touch(all + i * STRIDE));
		EXPECT_EQ(1, event_wait(self->efd[i + 1])) TH_LOG("page %d", i);
	}
	for (int i = 3; i < 5; i++) {
		EXPECT_EQ(0, touch(tail + (i - 3) * STRIDE));
		EXPECT_EQ(1, event_wait(self->efd[i + 1])) TH_LOG("tail, page %d", i);
	}
	EXPECT_EQ(0, event_read(self->efd[0]));
	munmap(all, (BELLS - 1) * STRIDE);
	munmap(tail, 2 * STRIDE);
	close(fd);
}

/*
 * A batch, too. Its owner maps it with one fault, and must not wait for the
 * receivers.
 */
TEST_F(doorbell, a_bundle_comes_64_at_a_time)
{
	const int count = 128;
	__u32 start;
	void *bells;
	long before;
	int fd;

	ASSERT_EQ(0, ux_free_many(self->fd, 0, BELLS));
	ASSERT_EQ(0, ux_alloc_many(self->fd, count, NULL, &start));
	fd = ux_export(self->fd, 0, count, NULL);
	bells = map_bells(fd, count);
	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_EQ(0, touch(bells + 5 * STRIDE));
	before = faults();
	for (int i = 0; i < 64; i++)
		ring(bells + i * STRIDE);
	EXPECT_EQ(before, faults());
	for (int i = count - 1; i >= 64; i--)
		ring(bells + i * STRIDE);
	EXPECT_EQ(before + 1, faults());
	munmap(bells, count * STRIDE);
	close(fd);
}

/* Waiting for the end of an export. */

#define ALL_EVENTS	(POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDBAND)

/* An epoll that watches @fd for all there is, with @flags; or a negative errno. */
static int epoll_of(int fd, unsigned int flags)
{
	struct epoll_event event = { .events = ALL_EVENTS | flags };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : epoll;
}

/* The events of an epoll within @timeout; 0 for none. */
static int epoll_next(int epoll, int timeout)
{
	struct epoll_event event = {};

	return epoll_wait(epoll, &event, 1, timeout) < 0 ? -1 : (int)event.events;
}

enum wait { BY_POLL, BY_LEVEL, BY_EDGE, WAITS };

/* A thread that waits. */
struct waiter {
	pthread_t thread;
	enum wait wait;
	int fd;
	void *bell;
	atomic_int tid;
	/* The events that it got, and those of a second call; whether nothing woke it. */
	int events, again;
	bool late;
	/* The signal of its first store after that, or 0. */
	int sig;
};

static void *wait_for_its_end(void *data)
{
	struct pollfd pfd = { .events = ALL_EVENTS };
	struct waiter *waiter = data;
	long start = clock_ms();
	int epoll = -1;

	if (waiter->wait != BY_POLL)
		epoll = epoll_of(waiter->fd, waiter->wait == BY_EDGE ? EPOLLET : 0);
	pfd.fd = waiter->fd;
	atomic_store(&waiter->tid, syscall(SYS_gettid));
	if (waiter->wait == BY_POLL)
		waiter->events = poll(&pfd, 1, WATCHDOG_MS) == 1 ? pfd.revents : -1;
	else
		waiter->events = epoll_next(epoll, WATCHDOG_MS);
	/* poll() looks once more when its time is up. */
	waiter->late = clock_ms() - start >= WATCHDOG_MS;
	waiter->sig = touch(waiter->bell);
	waiter->again = epoll < 0 ? polled(waiter->fd, ALL_EVENTS) : epoll_next(epoll, 0);
	close(epoll);
	return NULL;
}

/* Starts one of each, and sees all of them wait. @bell: a page of @fd. */
static bool waiters_start(struct waiter *waiters, int fd, void *bell)
{
	bool wait = true;

	for (enum wait way = 0; way < WAITS; way++) {
		waiters[way] = (struct waiter){ .wait = way, .fd = fd, .bell = bell };
		if (pthread_create(&waiters[way].thread, NULL, wait_for_its_end, &waiters[way]))
			abort();
	}
	for (enum wait way = 0; way < WAITS; way++)
		wait = wait && becomes(!!atomic_load(&waiters[way].tid), true) &&
		       becomes(process_state(waiters[way].tid), 'S');
	return wait;
}

static bool waiters_wait(struct waiter *waiters)
{
	for (enum wait way = 0; way < WAITS; way++)
		if (process_state(waiters[way].tid) != 'S')
			return false;
	return true;
}

/* Which of them was not woken by the end, as it should be; -1 if all were. */
static int waiters_end(struct waiter *waiters)
{
	int wrong = -1;

	for (enum wait way = 0; way < WAITS; way++) {
		struct waiter *waiter = &waiters[way];

		pthread_join(waiter->thread, NULL);
		if (waiter->events != POLLHUP || waiter->late || waiter->sig != SIGBUS ||
		    waiter->again != (way == BY_EDGE ? 0 : POLLHUP))
			wrong = way;
	}
	return wrong;
}

TEST_F(doorbell, polled_it_tells_of_its_end_and_nothing_else)
{
	__u32 id, other_id;
	int fd = ux_export(self->fd, 0, 2, &id), other = ux_export(self->fd, 0, 2, &other_id);
	int level = epoll_of(fd, 0), edge = epoll_of(fd, EPOLLET), later;
	void *bells = map_bells(fd, 2);
	__u64 offset;

#define EXPECT_NOTHING_TOLD() do {						\
	EXPECT_EQ(0, polled(fd, ALL_EVENTS));						\
	EXPECT_EQ(0, epoll_next(level, 0));					\
	EXPECT_EQ(0, epoll_next(edge, 0));					\
} while (0)

	ASSERT_LE(0, level);
	ASSERT_LE(0, edge);
	ASSERT_NE(MAP_FAILED, bells);
	EXPECT_NOTHING_TOLD();
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, touch(bells + i * STRIDE));
		ASSERT_EQ(1, event_wait(self->efd[i]));
	}
	EXPECT_NOTHING_TOLD();
	/* Freeing all interrupts does not revoke the export. */
	ASSERT_EQ(0, ux_free_many(self->fd, 0, 2));
	EXPECT_TRUE(is_gone(bells));
	EXPECT_NOTHING_TOLD();
	ASSERT_EQ(0, ux_alloc(self->fd, &offset));
	EXPECT_NOTHING_TOLD();
	ASSERT_EQ(0, ux_revoke(self->fd, other_id));
	EXPECT_EQ(POLLHUP, polled(other, ALL_EVENTS));
	EXPECT_NOTHING_TOLD();

	ASSERT_EQ(0, ux_revoke(self->fd, id));
	EXPECT_EQ(POLLHUP, epoll_next(edge, 0));
	for (int n = 0; n < 3; n++) {
		EXPECT_EQ(POLLHUP, polled(fd, ALL_EVENTS));
		EXPECT_EQ(POLLHUP, epoll_next(level, 0));
		EXPECT_EQ(0, epoll_next(edge, 0));
	}
	/* A program that polls later is told, too. */
	later = epoll_of(fd, EPOLLET);
	EXPECT_EQ(POLLHUP, epoll_next(later, 0));
	munmap(bells, 2 * STRIDE);
	close(fd);
	/* A file that is gone tells nothing. */
	EXPECT_EQ(0, epoll_next(level, 0));
	EXPECT_EQ(0, epoll_next(edge, 0));
	EXPECT_EQ(0, epoll_next(later, 0));
	close(level);
	close(edge);
	close(later);
	close(other);
}

TEST_F(doorbell, who_waits_for_its_end_is_woken_by_it)
{
	const int rounds = 20;
	int waited = 0;

	for (int n = 0; n < rounds; n++) {
		struct waiter waiters[WAITS];
		__u32 id, other_id;
		int fd = ux_export(self->fd, 0, 1, &id);
		int other = ux_export(self->fd, 0, 1, &other_id);
		void *bell = map_bells(fd, 1);

		ASSERT_NE(MAP_FAILED, bell);
		ASSERT_EQ(0, touch(bell));
		ASSERT_TRUE(waiters_start(waiters, fd, bell));
		/* Not by others. */
		ASSERT_EQ(1, event_wait(self->efd[0]));
		ASSERT_EQ(0, ux_revoke(self->fd, other_id));
		close(other);
		waited += waiters_wait(waiters);
		ASSERT_EQ(0, ux_revoke(self->fd, id));
		ASSERT_EQ(-1, waiters_end(waiters)) TH_LOG("round %d", n);
		munmap(bell, STRIDE);
		close(fd);
		progress();
	}
	EXPECT_EQ(rounds, waited);
}

/* A file that is closed while an epoll has it is taken out of that. */
TEST_F(doorbell, an_epoll_does_not_keep_it)
{
	__u32 id;

	for (int n = 0; n < 20; n++) {
		int fd = ux_export(self->fd, 0, 1, &id), epoll = epoll_of(fd, n % 2 ? EPOLLET : 0);

		ASSERT_LE(0, epoll);
		close(fd);
		EXPECT_EQ(0, total_exports(self->fd));
		EXPECT_EQ(-ENOENT, ux_revoke(self->fd, id));
		EXPECT_EQ(0, epoll_next(epoll, 0));
		close(epoll);
	}
}

static int try_ioctl(int fd, unsigned int cmd, void *arg)
{
	return ioctl(fd, cmd, arg) ? -errno : 0;
}

TEST_F(doorbell, it_can_be_mapped_and_nothing_else)
{
	int fd = ux_export(self->fd, 0, 1, NULL), flags = fcntl(fd, F_GETFL);
	char path[64], page[4096] = {}, target[64] = {};
	const unsigned int sizes[] = { 0, 8, 16, 24, 32, 136 };
	unsigned int tried = 0;
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLPRI | POLLOUT };
	struct stat stat;

	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_EQ(O_RDWR, flags & O_ACCMODE);
	/* On powerpc a direction has three bits. */
	for (unsigned int n = 0; n < 8 * 256 * ARRAY_SIZE(sizes); n++) {
		unsigned int size = sizes[n / 2048];
		unsigned int cmd = _IOC(n / 256 % 8, UXIVE_MAGIC, n % 256, size);

		if (cmd == UXIVE_IOC_EXPORT_INFO)
			continue;
		ASSERT_EQ(-ENOTTY, try_ioctl(fd, cmd, page))
			TH_LOG("number %x, size %u", n % 256, size);
		tried++;
	}
	TH_LOG("%u ioctls are ENOTTY", tried);
	EXPECT_ERRNO(ioctl, ENOTTY, try_ioctl(fd, OCXL_IOCTL_IRQ_ALLOC, page));

	EXPECT_ERRNO(read, EINVAL, read(fd, page, sizeof(page)) < 0 ? -errno : 0);
	EXPECT_ERRNO(write, EINVAL, write(fd, page, sizeof(page)) < 0 ? -errno : 0);
	EXPECT_EQ(-1, pread(fd, page, 8, 0));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_NE(0, ftruncate(fd, STRIDE));
	EXPECT_NE(0, fallocate(fd, 0, 0, STRIDE));
	EXPECT_NE(0, fchmod(fd, 0777));
	ASSERT_EQ(0, fstat(fd, &stat));
	EXPECT_EQ(0, stat.st_size);
	/* It has nothing to say, and takes nothing. */
	EXPECT_EQ(0, poll(&pfd, 1, 0));

	/* It cannot be opened anew, with other rights or none of its own. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	EXPECT_LT(0, readlink(path, target, sizeof(target) - 1));
	EXPECT_STREQ("anon_inode:[uxive-doorbell]", target);
	EXPECT_EQ(-1, open(path, O_RDWR));

	/* Whose it is, and which interrupt, is nobody's business. */
	EXPECT_EQ(0, lines_with(fdinfo_path(fd), "uxive"));
	EXPECT_EQ(0, lines_with(fdinfo_path(fd), "lisn"));
	EXPECT_EQ(0, event_read(self->efd[0]));
	close(fd);
}

TEST_F(doorbell, mappings_are_shared_and_for_writing_and_within_it)
{
	const struct {
		int prot, flags, refused;
	} cases[] = {
		{ PROT_WRITE, MAP_SHARED, 0 },
		{ PROT_WRITE, MAP_SHARED_VALIDATE, 0 },
		{ PROT_WRITE, MAP_PRIVATE, EINVAL },
		{ PROT_READ, MAP_PRIVATE, EINVAL },
		{ PROT_NONE, MAP_PRIVATE, EINVAL },
		{ PROT_READ, MAP_SHARED, EINVAL },
		{ PROT_READ | PROT_WRITE, MAP_SHARED, EINVAL },
		{ PROT_NONE, MAP_SHARED, EINVAL },
		{ PROT_EXEC, MAP_SHARED, EPERM },
		{ PROT_WRITE | PROT_EXEC, MAP_SHARED, EPERM },
		{ PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, EPERM },
	};
	const struct {
		__u64 offset;
		size_t length;
		bool refused;
	} places[] = {
		{ 0, STRIDE, false },
		{ 0, 3 * STRIDE, false },
		{ 2 * STRIDE, STRIDE, false },
		{ 0, 4 * STRIDE, true },
		{ STRIDE, 3 * STRIDE, true },
		{ 3 * STRIDE, STRIDE, true },
		{ IRQ_BASE, STRIDE, true },
		{ 1ULL << 48, STRIDE, true },
		{ (1ULL << 63) - 2 * STRIDE, STRIDE, true },
	};
	int fd = ux_export(self->fd, 2, 3, NULL);
	void *page;

	ASSERT_LE(0, fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int ret = try_map(fd, 0, STRIDE, cases[i].prot, cases[i].flags);

		switch (cases[i].refused) {
		case EINVAL:
			EXPECT_ERRNO(mmap, EINVAL, ret) TH_LOG("case %zu", i);
			break;
		case EPERM:
			EXPECT_ERRNO(mmap, EPERM, ret) TH_LOG("case %zu", i);
			break;
		default:
			EXPECT_EQ(0, ret) TH_LOG("case %zu", i);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int ret = try_map(fd, places[i].offset, places[i].length, PROT_WRITE, MAP_SHARED);

		if (places[i].refused) {
			EXPECT_ERRNO(mmap, EINVAL, ret)
				TH_LOG("place %zu", i);
		} else {
			EXPECT_EQ(0, ret)
				TH_LOG("place %zu", i);
		}
	}

	page = ux_map(fd, 0, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_ERRNO(mprotect, EACCES, mprotect(page, STRIDE, PROT_READ) ? -errno : 0);
	EXPECT_ERRNO(mprotect, EACCES, mprotect(page, STRIDE, PROT_READ | PROT_WRITE) ? -errno : 0);
	EXPECT_ERRNO(mprotect, EACCES, mprotect(page, STRIDE, PROT_WRITE | PROT_EXEC) ? -errno : 0);
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd[2]));
	munmap(page, STRIDE);
	close(fd);
}

/* Any program that has the file can ask, as long as it has it. */
TEST_F(doorbell, it_tells_what_it_is)
{
	const __u32 counts[] = { 1, 3, BELLS };
	struct uxive_export_info info;
	__u32 id;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		fd = ux_export(self->fd, BELLS - counts[i], counts[i], &id);
		ASSERT_LE(0, fd);
		for (int revoked = 0; revoked < 2; revoked++) {
			ASSERT_EQ(0, ux_export_info(fd, &info));
			EXPECT_EQ(sizeof(info), info.size);
			EXPECT_EQ(0, info.flags);
			EXPECT_EQ(UXIVE_EXPORT_FILE, info.kind);
			EXPECT_EQ(O_RDWR, info.mode);
			EXPECT_EQ(counts[i], info.count);
			EXPECT_EQ(sysconf(_SC_PAGESIZE), info.page_size);
			EXPECT_EQ(STRIDE, info.stride);
			if (!revoked)
				ASSERT_EQ(0, ux_revoke(self->fd, id));
		}
		close(fd);
	}
	/* A context has another. */
	EXPECT_ERRNO(UXIVE_IOC_EXPORT_INFO, ENOTTY, ux_export_info(self->fd, &info));
}

TEST_F(doorbell, only_interrupts_are_exported)
{
	const struct {
		__u32 start, count;
	} cases[] = {
		{ 0, 0 }, { 0, BELLS + 1 }, { BELLS, 1 }, { BELLS - 1, 2 }, { 2, 2 }, { 0, BELLS },
		{ 3, 1 }, { SLOTS - 1, 1 }, { SLOTS, 1 }, { 0, SLOTS }, { 0, ~0U }, { ~0U, 1 },
		{ 1, ~0U }, { ~0U, ~0U }, { 1U << 31, 1U << 31 },
	};
	struct uxive_revoke revoke = { .size = sizeof(revoke), .id = 1, .reserved = 1 };
	int empty = ux_open(), fd;
	__u32 id;

	ASSERT_EQ(0, ux_free(self->fd, slot_offset(3)));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		EXPECT_ERRNO(UXIVE_IOC_EXPORT, EINVAL,
			     ux_export(self->fd, cases[i].start, cases[i].count, NULL))
			TH_LOG("case %zu", i);
	}
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EINVAL, ux_export(empty, 0, 1, NULL));
	close(empty);
	for (__u32 kind = 0; kind < 64; kind++) {
		struct uxive_export export = { .size = sizeof(export), .kind = kind, .count = 1 };

		if (kind == UXIVE_EXPORT_FILE)
			export.flags = 1;
		EXPECT_ERRNO(UXIVE_IOC_EXPORT, EINVAL,
			     ux_ioctl(self->fd, UXIVE_IOC_EXPORT, &export))
			TH_LOG("kind %u", kind);
	}
	EXPECT_EQ(0, total_exports(self->fd));
	EXPECT_EQ(0, lines_with(fdinfo_path(self->fd), "uxive-export"));

	fd = ux_export(self->fd, 4, BELLS - 4, &id);
	EXPECT_LE(0, fd);
	revoke.id = id;
	EXPECT_ERRNO(UXIVE_IOC_REVOKE, EINVAL, ux_ioctl(self->fd, UXIVE_IOC_REVOKE, &revoke));
	EXPECT_EQ(1, total_exports(self->fd));
	close(fd);
}

TEST_F(doorbell, a_freed_interrupt_is_gone_everywhere_at_once)
{
	struct receiver receivers[4];
	int fd = ux_export(self->fd, 2, 3, NULL), other = ux_export(self->fd, 3, 1, NULL);
	void *bells = map_bells(fd, 3), *again = map_bells(fd, 3), *alone = map_bells(other, 1);

	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_NE(MAP_FAILED, again);
	ASSERT_NE(MAP_FAILED, alone);
	for (int n = 0; n < 4; n++)
		ASSERT_TRUE(receiver_start(&receivers[n], fd, 3, n % 2 ? ALICE : 0));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, touch(bells + i * STRIDE));
	ASSERT_EQ(0, touch(alone));

	ASSERT_EQ(0, ux_free(self->fd, slot_offset(3)));
	EXPECT_TRUE(is_gone(bells + STRIDE));
	/* Where it was not touched before, too. */
	EXPECT_TRUE(is_gone(again + STRIDE));
	EXPECT_TRUE(is_gone(alone));
	for (int n = 0; n < 4; n++)
		EXPECT_EQ(0, receiver_end(&receivers[n], 1 << 1));

	/* The others of the bundle are as they were. */
	for (int i = 0; i < 3; i += 2) {
		while (event_read(self->efd[2 + i]))
			;
		EXPECT_EQ(0, touch(bells + i * STRIDE));
		EXPECT_EQ(1, event_wait(self->efd[2 + i]));
	}
	/* Both exports still count, although pages are gone. */
	EXPECT_EQ(2, total_exports(self->fd));
	munmap(bells, 3 * STRIDE);
	munmap(again, 3 * STRIDE);
	munmap(alone, STRIDE);
	close(fd);
	close(other);
}

TEST_F(doorbell, freed_in_one_call_they_are_gone_alike)
{
	struct uxive_irq_free_many many = { .size = sizeof(many), .start = 2, .count = 3 };
	/* One export has all freed slots, the other only one of them. */
	int fd = ux_export(self->fd, 0, BELLS, NULL), other = ux_export(self->fd, 4, 2, NULL);
	void *bells = map_bells(fd, BELLS), *pair = map_bells(other, 2);

	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_NE(MAP_FAILED, pair);
	for (int i = 0; i < BELLS; i++)
		ASSERT_EQ(0, touch(bells + i * STRIDE));
	ASSERT_EQ(0, touch(pair));
	ASSERT_EQ(0, ux_ioctl(self->fd, UXIVE_IOC_IRQ_FREE_MANY, &many));
	for (int i = 0; i < BELLS; i++) {
		EXPECT_EQ(i >= 2 && i < 5 ? SIGBUS : 0, touch(bells + i * STRIDE))
			TH_LOG("page %d", i);
	}
	EXPECT_TRUE(is_gone(pair));
	EXPECT_EQ(0, touch(pair + STRIDE));
	ASSERT_EQ(0, ux_free_all(self->fd));
	for (int i = 0; i < BELLS; i++) {
		EXPECT_TRUE(is_gone(bells + i * STRIDE))
			TH_LOG("page %d", i);
	}
	EXPECT_TRUE(is_gone(pair + STRIDE));
	munmap(bells, BELLS * STRIDE);
	munmap(pair, 2 * STRIDE);
	close(fd);
	close(other);
}

TEST_F(doorbell, a_range_exports_as_a_context_does)
{
	struct uxive_range range = { .size = sizeof(range), .count = 20000 };
	struct uxive_irq_alloc_many alloc = {
		.size = sizeof(alloc), .flags = UXIVE_ALLOC_AT, .start = 19998, .count = 2,
	};
	void *bells;
	__u32 id;
	int fd;

	ASSERT_EQ(0, ux_ioctl(self->fd, UXIVE_IOC_RANGE, &range));
	ASSERT_EQ(0, ux_ioctl(range.fd, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc));
	ASSERT_EQ(0, ux_bind(range.fd, slot_offset(19999), self->efd[0]));
	EXPECT_EQ(-EINVAL, ux_export(range.fd, 19999, 2, NULL));
	fd = ux_export(range.fd, 19998, 2, &id);
	bells = map_bells(fd, 2);
	ASSERT_NE(MAP_FAILED, bells);
	EXPECT_EQ(0, touch(bells + STRIDE));
	EXPECT_EQ(1, event_wait(self->efd[0]));
	/* It is the range's, not its maker's. */
	EXPECT_EQ(-ENOENT, ux_revoke(self->fd, id));
	EXPECT_EQ(1, lines_with(fdinfo_path(range.fd), "uxive-export:"));
	EXPECT_EQ(0, lines_with(fdinfo_path(self->fd), "uxive-export:"));
	close(range.fd);
	EXPECT_TRUE(is_gone(bells));
	EXPECT_TRUE(is_gone(bells + STRIDE));
	EXPECT_EQ(0, total_exports(self->fd));
	munmap(bells, 2 * STRIDE);
	close(fd);
}

TEST_F(doorbell, freeing_touches_no_other_page)
{
	int fd = ux_export(self->fd, 0, 3, NULL), other = ux_export(self->fd, 2, 1, NULL);
	void *bells = map_bells(fd, 3), *alone = map_bells(other, 1);
	long before;

	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_NE(MAP_FAILED, alone);
	ASSERT_EQ(0, touch(bells));
	ASSERT_EQ(0, touch(alone));
	faults();
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
	before = faults();
	ring(bells);
	ring(bells + 2 * STRIDE);
	ring(alone);
	EXPECT_EQ(before, faults());
	munmap(bells, 3 * STRIDE);
	munmap(alone, STRIDE);
	close(fd);
	close(other);
}

/* The slot is the first that is free, and the LISN one of those that were freed last. */
TEST_F(doorbell, what_comes_in_its_place_is_not_rung)
{
	int fd = ux_export(self->fd, 0, 3, NULL), next;
	void *bells = map_bells(fd, 3), *page;
	__u64 offset;

	ASSERT_NE(MAP_FAILED, bells);
	for (int n = 0; n < 20; n++) {
		/* Touched before, or not. */
		if (n % 2)
			touch(bells + STRIDE);
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
		ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		ASSERT_EQ(slot_offset(1), offset);
		ASSERT_EQ(0, ux_bind(self->fd, offset, self->efd[1]));
		EXPECT_TRUE(is_gone(bells + STRIDE)) TH_LOG("round %d", n);
		EXPECT_EQ(0, touch(bells)) TH_LOG("round %d", n);
		EXPECT_EQ(1, event_wait(self->efd[0])) TH_LOG("round %d", n);
		/* Nor does a neighbour's fault bring it. */
		EXPECT_EQ(SIGBUS, touch(bells + STRIDE)) TH_LOG("round %d", n);
		EXPECT_EQ(0, event_read(self->efd[1])) TH_LOG("round %d", n);
	}
	/* Ringing the new interrupt takes an export of it. */
	next = ux_export(self->fd, 1, 1, NULL);
	page = map_bells(next, 1);
	EXPECT_EQ(0, touch(page));
	EXPECT_EQ(1, event_wait(self->efd[1]));
	EXPECT_EQ(SIGBUS, touch(bells + STRIDE));
	munmap(page, STRIDE);
	munmap(bells, 3 * STRIDE);
	close(next);
	close(fd);
}

TEST_F(doorbell, revoked_it_is_gone_everywhere_at_once)
{
	struct receiver receivers[4];
	__u32 id, other_id, third_id;
	int fd = ux_export(self->fd, 2, 3, &id), other = ux_export(self->fd, 2, 1, &other_id);
	void *bells = map_bells(fd, 3), *again = map_bells(fd, 3), *alone = map_bells(other, 1);
	void *later;

	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_NE(MAP_FAILED, again);
	ASSERT_NE(MAP_FAILED, alone);
	EXPECT_NE(0, id);
	EXPECT_NE(0, other_id);
	EXPECT_NE(id, other_id);
	for (int n = 0; n < 4; n++)
		ASSERT_TRUE(receiver_start(&receivers[n], fd, 3, n % 2 ? ALICE : 0));
	ASSERT_EQ(0, touch(bells));
	ASSERT_EQ(0, touch(alone));
	ASSERT_EQ(0, ux_revoke(self->fd, id));
	for (int i = 0; i < 3; i++) {
		EXPECT_TRUE(is_gone(bells + i * STRIDE));
		EXPECT_TRUE(is_gone(again + i * STRIDE));
	}
	/* A new mapping gives nothing, either. */
	later = map_bells(fd, 3);
	ASSERT_NE(MAP_FAILED, later);
	EXPECT_TRUE(is_gone(later));
	for (int n = 0; n < 4; n++)
		EXPECT_EQ(0, receiver_end(&receivers[n], 7));
	EXPECT_EQ(1, total_exports(self->fd));

	/* Another export of the same interrupt, and the owner's own pages, are as they were. */
	while (event_read(self->efd[2]))
		;
	EXPECT_EQ(0, touch(alone));
	EXPECT_EQ(1, event_wait(self->efd[2]));

	EXPECT_ERRNO(UXIVE_IOC_REVOKE, ENOENT, ux_revoke(self->fd, id));
	EXPECT_ERRNO(UXIVE_IOC_REVOKE, ENOENT, ux_revoke(self->fd, 0));
	EXPECT_ERRNO(UXIVE_IOC_REVOKE, ENOENT, ux_revoke(self->fd, ~0U));
	munmap(bells, 3 * STRIDE);
	munmap(again, 3 * STRIDE);
	munmap(later, 3 * STRIDE);
	close(fd);

	/* A number is not used again. */
	fd = ux_export(self->fd, 2, 1, &third_id);
	EXPECT_LT(other_id, third_id);
	close(fd);
	EXPECT_ERRNO(UXIVE_IOC_REVOKE, ENOENT, ux_revoke(self->fd, third_id));
	munmap(alone, STRIDE);
	close(other);
}

TEST_F(doorbell, one_owner_does_not_revoke_for_another)
{
	int other = ux_open(), fd, theirs;
	__u32 id, their_id;
	void *bell;

	ASSERT_EQ(0, ux_fill(other, 1));
	fd = ux_export(self->fd, 0, 1, &id);
	bell = map_bells(fd, 1);
	EXPECT_EQ(-ENOENT, ux_revoke(other, id));
	theirs = ux_export(other, 0, 1, &their_id);
	/* Each counts its own. */
	EXPECT_EQ(id, their_id);
	EXPECT_EQ(0, ux_revoke(other, their_id));
	EXPECT_EQ(0, touch(bell));
	EXPECT_EQ(1, event_wait(self->efd[0]));
	munmap(bell, STRIDE);
	close(theirs);
	close(fd);
	close(other);
}

TEST_F(doorbell, its_last_reference_ends_it)
{
	__u32 id;
	int fd = ux_export(self->fd, 0, 2, &id), copy = dup(fd);
	void *bells = map_bells(fd, 2);
	char line[64];

	ASSERT_NE(MAP_FAILED, bells);
	snprintf(line, sizeof(line), "uxive-export:\tid:%u start:0 count:2\n", id);
	EXPECT_EQ(1, lines_with(fdinfo_path(self->fd), line));
	close(fd);
	close(copy);
	/* The mapping is one, too. */
	EXPECT_EQ(1, lines_with(fdinfo_path(self->fd), line));
	EXPECT_EQ(1, total_exports(self->fd));
	EXPECT_EQ(0, touch(bells + STRIDE));
	EXPECT_EQ(1, event_wait(self->efd[1]));
	munmap(bells, STRIDE);
	EXPECT_EQ(1, total_exports(self->fd));
	munmap(bells + STRIDE, STRIDE);
	EXPECT_EQ(0, total_exports(self->fd));
	EXPECT_EQ(0, lines_with(fdinfo_path(self->fd), "uxive-export"));
	EXPECT_EQ(-ENOENT, ux_revoke(self->fd, id));
	EXPECT_EQ(BELLS, ux_count(self->fd));
}

TEST_F(doorbell, the_owner_sees_what_it_has_exported)
{
	__u32 id[3];
	int fd[3] = {
		ux_export(self->fd, 0, 1, &id[0]), ux_export(self->fd, 2, 5, &id[1]),
		ux_export(self->fd, 2, 5, &id[2]),
	};
	static const char * const ranges[] = {
		"start:0 count:1", "start:2 count:5", "start:2 count:5",
	};
	static const char * const rows[] = { "0 1", "2 5", "2 5" };
	struct uxive_info info;
	char text[80];

	ASSERT_EQ(0, ux_info(self->fd, &info));
	EXPECT_EQ(3, info.exports_user);
	EXPECT_EQ(3, info.exports_total);
	EXPECT_EQ(limit_get("max_exports_per_user"), info.max_exports_user);
	EXPECT_EQ(limit_get("max_exports"), info.max_exports_total);
	EXPECT_EQ(3, lines_with(fdinfo_path(self->fd), "uxive-export:"));
	EXPECT_EQ(3, debug_lines("exports", "", NULL, 0));
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "uxive-export:\tid:%u %s\n", id[i], ranges[i]);
		EXPECT_EQ(1, lines_with(fdinfo_path(self->fd), text)) TH_LOG("%s", text);
		snprintf(text, sizeof(text), "%ld %u %s\n", ux_context(self->fd), id[i], rows[i]);
		EXPECT_EQ(1, debug_lines("exports", text, NULL, 0)) TH_LOG("%s", text);
	}
	ASSERT_EQ(0, ux_revoke(self->fd, id[1]));
	EXPECT_EQ(2, lines_with(fdinfo_path(self->fd), "uxive-export:"));
	EXPECT_EQ(2, debug_lines("exports", "", NULL, 0));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	EXPECT_EQ(0, debug_lines("exports", "", NULL, 0));
}

/* Owners that go. */

/* How one does. */
enum { CLOSED, KILLED, EXECED };

FIXTURE(owner) {
	pid_t pid;
	int sock;
	int fd;
	void *bells;
};

FIXTURE_VARIANT(owner) {
	bool user_drain;
	int end;
};

FIXTURE_VARIANT_ADD(owner, closed) { .end = CLOSED };
FIXTURE_VARIANT_ADD(owner, killed) { .end = KILLED };
FIXTURE_VARIANT_ADD(owner, execed) { .end = EXECED };
FIXTURE_VARIANT_ADD(owner, drains_and_is_closed) { .end = CLOSED, .user_drain = true };
FIXTURE_VARIANT_ADD(owner, drains_and_is_killed) { .end = KILLED, .user_drain = true };

/* Exports four interrupts and hands the file over. Ends as it is told. */
static void exporter_run(int sock, bool user_drain)
{
	int fd = ux_open(), bells;
	char how;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (user_drain && ux_user_drain(fd, -1))
		_exit(1);
	if (ux_fill(fd, 4))
		_exit(2);
	bells = ux_export(fd, 0, 4, NULL);
	if (bells < 0 || !fd_send(sock, bells))
		_exit(3);
	/* It does not keep it, either. */
	close(bells);
	if (read(sock, &how, 1) != 1)
		_exit(4);
	switch (how) {
	case CLOSED:
		close(fd);
		if (write(sock, "c", 1) != 1 || read(sock, &how, 1) != 1)
			_exit(5);
		_exit(0);
	case EXECED:
		execl("/proc/self/exe", "doorbell", "--wait", NULL);
		_exit(6);
	default:
		pause();
	}
	_exit(7);
}

FIXTURE_SETUP(owner)
{
	int socks[2];

	catch_touches();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (!self->pid) {
		close(socks[0]);
		/* Of the program that it may become, too. */
		dup2(socks[1], STDIN_FILENO);
		exporter_run(STDIN_FILENO, variant->user_drain);
	}
	close(socks[1]);
	self->sock = socks[0];
	self->fd = fd_receive(self->sock);
	ASSERT_LE(0, self->fd);
	self->bells = map_bells(self->fd, 4);
	ASSERT_NE(MAP_FAILED, self->bells);
}

FIXTURE_TEARDOWN(owner)
{
	munmap(self->bells, 4 * STRIDE);
	close(self->fd);
	close(self->sock);
	EXPECT_EQ(0, all_exports());
}

TEST_F(owner, that_is_gone_is_not_rung_and_not_kept)
{
	char how = variant->end, byte;
	struct receiver receiver;
	void *later;

	ASSERT_EQ(0, touch(self->bells + STRIDE));
	ASSERT_TRUE(receiver_start(&receiver, self->fd, 4, ALICE));
	ASSERT_EQ(4, all_irqs());
	ASSERT_EQ(1, all_exports());
	ASSERT_EQ(1, write(self->sock, &how, 1));
	if (how == KILLED) {
		ASSERT_EQ(0, kill(self->pid, SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(self->pid));
	} else {
		ASSERT_EQ(1, read(self->sock, &byte, 1));
		EXPECT_EQ('c', byte);
	}
	for (int i = 0; i < 4; i++) {
		EXPECT_TRUE(is_gone(self->bells + i * STRIDE))
			TH_LOG("page %d", i);
	}
	later = map_bells(self->fd, 4);
	ASSERT_NE(MAP_FAILED, later);
	EXPECT_TRUE(is_gone(later));
	EXPECT_EQ(0, receiver_end(&receiver, 15));

	/*
	 * The files of its exports keep nothing of it: no interrupt, no queue,
	 * no context, no charge.
	 */
	EXPECT_EQ(0, all_irqs());
	EXPECT_EQ(0, all_exports());
	EXPECT_EQ(0, limit_get("queues"));
	EXPECT_EQ(0, debug_lines("contexts", "", NULL, 0));
	munmap(later, 4 * STRIDE);
	if (how != KILLED) {
		ASSERT_EQ(1, write(self->sock, "e", 1));
		EXPECT_EQ(0, child_status(self->pid));
	}
}

TEST_F(owner, that_is_gone_is_told_to_who_waits)
{
	struct waiter waiters[WAITS];
	char how = variant->end, byte;

	ASSERT_EQ(0, polled(self->fd, ALL_EVENTS));
	ASSERT_EQ(0, touch(self->bells));
	ASSERT_TRUE(waiters_start(waiters, self->fd, self->bells));
	ASSERT_TRUE(waiters_wait(waiters));
	ASSERT_EQ(1, write(self->sock, &how, 1));
	if (how == KILLED) {
		ASSERT_EQ(0, kill(self->pid, SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(self->pid));
	} else {
		ASSERT_EQ(1, read(self->sock, &byte, 1));
	}
	EXPECT_EQ(POLLHUP, polled(self->fd, ALL_EVENTS));
	EXPECT_EQ(-1, waiters_end(waiters));
	/* The end is reported although nothing is left of the context. */
	EXPECT_EQ(0, debug_lines("contexts", "", NULL, 0));
	EXPECT_EQ(POLLHUP, polled(self->fd, ALL_EVENTS));
	if (how != KILLED) {
		ASSERT_EQ(1, write(self->sock, "e", 1));
		EXPECT_EQ(0, child_status(self->pid));
	}
}

TEST_F(doorbell, a_program_that_drains_is_rung_and_withdraws_alike)
{
	struct uxive_user_drain arg = ux_drain_arg(event_new());
	int owner = ux_open(), fd;
	const __u32 *queue;
	__u32 id;
	void *bells;

	ASSERT_EQ(0, ux_ioctl(owner, UXIVE_IOC_USER_DRAIN, &arg));
	ASSERT_EQ(0, ux_fill(owner, 3));
	queue = mmap(NULL, 4 * arg.queue_entries, PROT_READ, MAP_SHARED, owner, arg.queue_offset);
	ASSERT_NE(MAP_FAILED, queue);
	fd = ux_export(owner, 1, 2, &id);
	bells = map_bells(fd, 2);
	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_EQ(0, touch(bells + STRIDE));
	ASSERT_EQ(1, event_wait(arg.eventfd));
	EXPECT_EQ(0x80000002, be32toh(__atomic_load_n(queue, __ATOMIC_ACQUIRE)));
	/* An export has trigger pages only, and nothing behind the last one. */
	EXPECT_EQ(-EINVAL, try_map(fd, 2 * STRIDE, STRIDE, PROT_WRITE, MAP_SHARED));
	EXPECT_EQ(-EINVAL, try_map(fd, arg.esb_offset, STRIDE, PROT_WRITE, MAP_SHARED));

	ASSERT_EQ(0, ux_free(owner, slot_offset(2)));
	EXPECT_TRUE(is_gone(bells + STRIDE));
	ASSERT_EQ(0, touch(bells));
	ASSERT_EQ(0, ux_revoke(owner, id));
	EXPECT_TRUE(is_gone(bells));
	munmap((void *)queue, 4 * arg.queue_entries);
	munmap(bells, 2 * STRIDE);
	close(fd);
	close(owner);
	close(arg.eventfd);
}

/* Mappings that are made otherwise. */

TEST_F(doorbell, a_child_maps_it_anew_and_loses_it_alike)
{
	__u32 id;
	int fd = ux_export(self->fd, 0, 2, &id), socks[2];
	void *bells = map_bells(fd, 2);
	char byte;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_EQ(0, touch(bells));
	ASSERT_EQ(1, event_wait(self->efd[0]));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* It has the file, and not the mapping. */
		if (touch(bells) != SIGSEGV || touch(bells + STRIDE) != SIGSEGV)
			_exit(1);
		bells = map_bells(fd, 2);
		if (bells == MAP_FAILED || touch(bells))
			_exit(2);
		if (write(socks[1], "t", 1) != 1 || read(socks[1], &byte, 1) != 1)
			_exit(3);
		_exit(is_gone(bells) && is_gone(bells + STRIDE) ? 0 : 4);
	}
	ASSERT_EQ(1, read(socks[0], &byte, 1));
	EXPECT_EQ(1, event_wait(self->efd[0]));
	/* The parent has its own as before. */
	ASSERT_EQ(0, touch(bells));
	EXPECT_EQ(1, event_wait(self->efd[0]));
	ASSERT_EQ(0, ux_revoke(self->fd, id));
	EXPECT_TRUE(is_gone(bells));
	ASSERT_EQ(1, write(socks[0], "r", 1));
	EXPECT_EQ(0, child_status(pid));
	munmap(bells, 2 * STRIDE);
	close(fd);
	close(socks[0]);
	close(socks[1]);
}

TEST_F(doorbell, moved_shrunk_or_in_parts_it_is_withdrawn_alike)
{
	int fd = ux_export(self->fd, 0, BELLS, NULL);
	void *bells = map_bells(fd, BELLS), *moved, *room, *ret;

	ASSERT_NE(MAP_FAILED, bells);
	room = mmap(NULL, 4 * STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	for (int i = 0; i < BELLS; i++)
		ASSERT_EQ(0, touch(bells + i * STRIDE));
	for (int i = 0; i < BELLS; i++)
		ASSERT_EQ(1, event_wait(self->efd[i]));

	ret = mremap(bells, BELLS * STRIDE, 2 * BELLS * STRIDE, MREMAP_MAYMOVE);
	EXPECT_ERRNO(mremap, EFAULT, ret == MAP_FAILED ? -errno : 0);
	moved = mremap(bells + 4 * STRIDE, 4 * STRIDE, 4 * STRIDE,
		       MREMAP_MAYMOVE | MREMAP_FIXED, room);
	ASSERT_EQ(room, moved);
	ASSERT_EQ(0, munmap(bells + STRIDE, STRIDE));
	EXPECT_EQ(SIGSEGV, touch(bells + STRIDE));
	for (int i = 0; i < BELLS; i++) {
		void *page = i < 4 ? bells + i * STRIDE : moved + (i - 4) * STRIDE;

		if (i == 1)
			continue;
		EXPECT_EQ(0, touch(page)) TH_LOG("page %d", i);
		EXPECT_EQ(1, event_wait(self->efd[i])) TH_LOG("page %d", i);
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(i)));
		EXPECT_TRUE(is_gone(page)) TH_LOG("page %d", i);
	}
	munmap(bells, 4 * STRIDE);
	munmap(moved, 4 * STRIDE);
	close(fd);
}

/*
 * How many there can be: each makes freeing and revoking take longer.
 */

static int errno_of(bool failed)
{
	return failed ? -errno : 0;
}

/* Maps it until that is refused, @most times, and touches each mapping. Returns how often. */
static int map_all(int fd, int most)
{
	for (int n = 0; n < most; n++) {
		void *bell = map_bells(fd, 1);

		if (bell == MAP_FAILED)
			return errno == ENOMEM ? n : -1;
		if (touch(bell))
			return -1;
		progress();
	}
	return most;
}

TEST_F(doorbell, its_mappings_end_at_a_limit)
{
	int fd = ux_export(self->fd, 0, 4, NULL), other = ux_export(self->fd, 0, 4, NULL);
	void *four = map_bells(fd, 4), *bells[MAPPINGS], *own[2 * MAPPINGS], *room, *spot;
	long before;

	ASSERT_NE(MAP_FAILED, four);
	for (int i = 1; i < MAPPINGS; i++) {
		bells[i] = map_bells(fd, 1);
		ASSERT_NE(MAP_FAILED, bells[i]) TH_LOG("mapping %d", i);
	}
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, touch(four + i * STRIDE));
	room = mmap(NULL, 4 * STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	spot = mmap(NULL, STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	ASSERT_NE(MAP_FAILED, spot);

	/* Neither one more, nor one in parts. */
	EXPECT_ERRNO(mmap, ENOMEM, try_map(fd, 0, STRIDE, PROT_WRITE, MAP_SHARED));
	EXPECT_ERRNO(munmap, ENOMEM, errno_of(munmap(four + STRIDE, STRIDE)));
	EXPECT_ERRNO(munmap, ENOMEM, errno_of(munmap(four, STRIDE)));
	EXPECT_ERRNO(munmap, ENOMEM, errno_of(munmap(four + 3 * STRIDE, STRIDE)));
	EXPECT_ERRNO(mmap, ENOMEM,
		     errno_of(mmap(four + STRIDE, STRIDE, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED));
	EXPECT_ERRNO(mprotect, ENOMEM, errno_of(mprotect(four + STRIDE, STRIDE, PROT_NONE)));
	EXPECT_ERRNO(madvise, EAGAIN, errno_of(madvise(four + STRIDE, STRIDE, MADV_RANDOM)));
	EXPECT_ERRNO(mremap, ENOMEM,
		     errno_of(mremap(four, 4 * STRIDE, 2 * STRIDE, 0) == MAP_FAILED));
	EXPECT_ERRNO(mremap, ENOMEM,
		     errno_of(mremap(four + STRIDE, STRIDE, STRIDE, MREMAP_MAYMOVE | MREMAP_FIXED,
				     spot) == MAP_FAILED));
	before = faults();
	for (int i = 0; i < 4; i++)
		ring(four + i * STRIDE);
	EXPECT_EQ(before, faults());

	/* Others are not affected: another export of the same, and the owner's own mappings. */
	EXPECT_EQ(MAPPINGS, map_all(other, MAPPINGS + 1));
	for (int i = 0; i < 2 * MAPPINGS; i++) {
		own[i] = ux_map(self->fd, IRQ_BASE, STRIDE);
		ASSERT_NE(MAP_FAILED, own[i]);
		ASSERT_EQ(0, touch(own[i]));
	}
	for (int i = 0; i < 2 * MAPPINGS; i++)
		munmap(own[i], STRIDE);

	/* One that goes, is moved or replaced as a whole makes place for one. */
	ASSERT_EQ(four, mmap(four, 4 * STRIDE, PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(room, mremap(four, 4 * STRIDE, 4 * STRIDE, MREMAP_MAYMOVE | MREMAP_FIXED, room));
	EXPECT_EQ(-ENOMEM, try_map(fd, 0, STRIDE, PROT_WRITE, MAP_SHARED));
	for (int n = 0; n < 3; n++) {
		ASSERT_EQ(0, munmap(bells[1], STRIDE));
		bells[1] = map_bells(fd, 1);
		ASSERT_NE(MAP_FAILED, bells[1]);
		EXPECT_EQ(-ENOMEM, try_map(fd, 0, STRIDE, PROT_WRITE, MAP_SHARED));
	}

	/* Parts count: one in the middle makes three of one, and two when it goes. */
	ASSERT_EQ(0, munmap(bells[1], STRIDE));
	ASSERT_EQ(0, munmap(bells[2], STRIDE));
	ASSERT_EQ(0, mprotect(room + STRIDE, STRIDE, PROT_NONE));
	EXPECT_EQ(0, map_all(fd, 1));
	ASSERT_EQ(room + STRIDE,
		  mmap(room + STRIDE, STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		       -1, 0));
	EXPECT_EQ(1, map_all(fd, 2));
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(i == 1 ? SIGSEGV : 0, touch(room + i * STRIDE))
			TH_LOG("page %d", i);
	}

	ASSERT_EQ(0, ux_free_many(self->fd, 0, 4));
	EXPECT_TRUE(is_gone(room));
	EXPECT_TRUE(is_gone(room + 3 * STRIDE));
	EXPECT_TRUE(is_gone(bells[MAPPINGS - 1]));
	close(fd);
	close(other);
}

/* A process tells its number, and how often it has mapped an export. */
struct mapped {
	int number, count;
};

/* A process that maps it @most times at most, and tells how often it did. Killed, or it ends. */
static pid_t mapper_start(int number, int fd, int most, int told, int end)
{
	struct mapped mapped = { .number = number };
	pid_t pid = fork();
	char byte;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mapped.count = map_all(fd, most);
	if (write(told, &mapped, sizeof(mapped)) != sizeof(mapped))
		_exit(1);
	_exit(read(end, &byte, 1) == 1 ? 0 : 2);
}

TEST_F(doorbell, its_mappings_count_in_all_processes_until_these_end)
{
	enum { MAPPERS = 8, EACH = 40 };
	int fd = ux_export(self->fd, 0, 1, NULL), other = ux_export(self->fd, 0, 1, NULL);
	int told[2], end[2], sum = 0, most = 0;
	pid_t mappers[MAPPERS], idle;
	struct mapped mapped;
	int counts[MAPPERS];

	ASSERT_EQ(0, pipe(told));
	ASSERT_EQ(0, pipe(end));
	/* They race. */
	for (int i = 0; i < MAPPERS; i++)
		mappers[i] = mapper_start(i, fd, EACH, told[1], end[0]);
	for (int i = 0; i < MAPPERS; i++) {
		ASSERT_EQ((ssize_t)sizeof(mapped), read(told[0], &mapped, sizeof(mapped)));
		ASSERT_LE(0, mapped.count);
		counts[mapped.number] = mapped.count;
		sum += mapped.count;
		most += mapped.count == EACH;
	}
	TH_LOG("%d processes made %d mappings; %d were not refused one", MAPPERS, sum, most);
	EXPECT_EQ(MAPPINGS, sum);
	EXPECT_GT(MAPPERS, most);
	EXPECT_EQ(0, map_all(fd, 1));
	/* A child has none of them, and takes none away when it ends. */
	EXPECT_EQ(1, map_all(other, 1));
	idle = mapper_start(MAPPERS, fd, 1, told[1], end[0]);
	ASSERT_EQ((ssize_t)sizeof(mapped), read(told[0], &mapped, sizeof(mapped)));
	EXPECT_EQ(0, mapped.count);
	ASSERT_EQ(0, kill(idle, SIGKILL));
	ASSERT_EQ(-SIGKILL, child_status(idle));
	EXPECT_EQ(0, map_all(fd, 1));
	EXPECT_EQ(MAPPINGS - 1, map_all(other, MAPPINGS));

	/* Killed they give back all of theirs, and so they do at their end. */
	for (int i = 0; i < MAPPERS / 2; i++) {
		ASSERT_EQ(0, kill(mappers[i], SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(mappers[i]));
	}
	sum = 0;
	for (int i = MAPPERS / 2; i < MAPPERS; i++)
		sum += counts[i];
	EXPECT_EQ(MAPPINGS - sum, map_all(fd, MAPPINGS));
	for (int i = MAPPERS / 2; i < MAPPERS; i++)
		ASSERT_EQ(1, write(end[1], "e", 1));
	for (int i = MAPPERS / 2; i < MAPPERS; i++)
		EXPECT_EQ(0, child_status(mappers[i]));
	EXPECT_EQ(sum, map_all(fd, MAPPINGS));
	close(fd);
	close(other);
	for (int i = 0; i < 2; i++) {
		close(told[i]);
		close(end[i]);
	}
}

/* A security module labels an inode, and all eventfds and the like share one. */
TEST_F(doorbell, it_has_an_inode_of_its_own)
{
	int fd[2] = { ux_export(self->fd, 0, 1, NULL), ux_export(self->fd, 0, 1, NULL) };
	struct stat own[2], shared;

	ASSERT_EQ(0, fstat(self->efd[0], &shared));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, fstat(fd[i], &own[i]));
		EXPECT_EQ(shared.st_dev, own[i].st_dev);
		EXPECT_NE(shared.st_ino, own[i].st_ino);
		EXPECT_EQ(0, own[i].st_mode & S_IFMT);
	}
	EXPECT_NE(own[0].st_ino, own[1].st_ino);
	close(fd[0]);
	close(fd[1]);
}

TEST_F(doorbell, neither_a_lock_nor_advice_keeps_it)
{
	__u32 id;
	int fd = ux_export(self->fd, 0, 1, &id);
	void *bell = mmap(NULL, STRIDE, PROT_WRITE, MAP_SHARED | MAP_LOCKED | MAP_POPULATE, fd, 0);

	ASSERT_NE(MAP_FAILED, bell);
	EXPECT_EQ(0, mlock(bell, STRIDE));
	EXPECT_EQ(0, touch(bell));
	EXPECT_EQ(1, event_wait(self->efd[0]));
	EXPECT_ERRNO(madvise, EINVAL, madvise(bell, STRIDE, MADV_DONTNEED) ? -errno : 0);
	EXPECT_ERRNO(madvise, EINVAL, madvise(bell, STRIDE, MADV_DOFORK) ? -errno : 0);
	EXPECT_ERRNO(madvise, EINVAL, madvise(bell, STRIDE, MADV_DODUMP) ? -errno : 0);
	EXPECT_EQ(0, touch(bell));
	EXPECT_EQ(1, event_wait(self->efd[0]));
	ASSERT_EQ(0, ux_revoke(self->fd, id));
	EXPECT_TRUE(is_gone(bell));
	munmap(bell, STRIDE);
	close(fd);
}

/* How often they ring. */

/* Events that a tenth of a second has room for, by the limit of root and by that of an owner. */
#define ROOTS_EVENTS	10
#define OWNERS_EVENTS	2

#define MASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_MASK)
#define UNMASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK)

/* As ux_export(), of interrupts that come no more than @max_rate times in a second. */
static int export_slowly(int fd, __u32 start, __u32 count, __u32 max_rate, __u32 *id)
{
	struct uxive_export arg = {
		.size = sizeof(arg), .kind = UXIVE_EXPORT_FILE, .start = start, .count = count,
		.max_rate = max_rate,
	};
	int ret = ux_ioctl(fd, UXIVE_IOC_EXPORT, &arg);

	*id = arg.id;
	return ret ? ret : arg.fd;
}

/* Waits for the next event of a context; its type is NO_EVENT if none comes. */
static struct uxive_event event_of(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	poll(&pfd, 1, WATCHDOG_MS);
	return next_event(fd);
}

/* A process that was sent the file of an export, and rings all of it without a pause. */
struct stormer {
	pid_t pid;
	struct storm_count {
		atomic_bool stop;
		atomic_long rounds;
	} *count;
};

static bool stormer_start(struct stormer *stormer, int fd, int count)
{
	stormer->count = shared_memory(sizeof(*stormer->count));
	stormer->pid = fork();
	if (!stormer->pid) {
		void *bells;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bells = setuid(ALICE) ? MAP_FAILED : map_bells(fd, count);
		if (bells == MAP_FAILED)
			_exit(1);
		while (!atomic_load(&stormer->count->stop)) {
			for (int i = 0; i < count; i++)
				if (touch(bells + i * STRIDE))
					_exit(2);
			atomic_fetch_add(&stormer->count->rounds, 1);
		}
		_exit(0);
	}
	return stormer->pid > 0;
}

/* Returns how many rounds there were, -1 if it did not end well. */
static long stormer_end(struct stormer *stormer)
{
	long rounds;

	atomic_store(&stormer->count->stop, true);
	rounds = child_status(stormer->pid) ? -1 : atomic_load(&stormer->count->rounds);
	munmap(stormer->count, sizeof(*stormer->count));
	return rounds;
}

/* The most events since @start by a limit of @events in a tenth of a second. */
static long most_since(long start, long events)
{
	/* That in which it began, and the one in which it ends. */
	return ((clock_ms() - start) / 100 + 2) * events;
}

TEST_F(doorbell, a_receiver_that_storms_is_held_back)
{
	const int bells = 4, turns = 20;
	struct limits limits;
	struct stormer stormer;
	struct uxive_event event;
	long start, events = 0, each[4] = {}, before, most, rounds;
	int fd, other;
	void *own = ux_map(self->fd, IRQ_BASE, BELLS * STRIDE), *page;
	__u32 id, other_id;

	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	ASSERT_TRUE(limits_save(&limits));
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, limit_set("max_export_rate", 10 * ROOTS_EVENTS));
	fd = ux_export(self->fd, 0, bells, &id);
	other = ux_export(self->fd, bells, 1, &other_id);
	ASSERT_LE(0, fd);
	page = map_bells(other, 1);
	ASSERT_NE(MAP_FAILED, page);
	ASSERT_TRUE(stormer_start(&stormer, fd, bells));
	event = event_of(self->fd);
	ASSERT_EQ(UXIVE_EVENT_STORM, event.header.type);
	EXPECT_EQ(ROOTS_EVENTS, event.storm.count);
	EXPECT_EQ(id, event.storm.export_id);
	EXPECT_EQ(0, event.storm.reserved);
	EXPECT_GT(slot_offset(bells), event.storm.offset);

	/*
	 * Each of the interrupts gets its turn, and the limit holds for all of them
	 * together. Those that nobody else rings come at once as ever, and so does one of
	 * another export that keeps to the limit.
	 */
	for (int i = 0; i < bells; i++)
		event_read(self->efd[i]);
	start = clock_ms();
	before = atomic_load(&stormer.count->rounds);
	for (int turn = 0; turn < turns; turn++) {
		usleep(100000);
		ring(own + (bells + 1) * STRIDE);
		ASSERT_EQ(1, event_wait(self->efd[bells + 1])) TH_LOG("turn %d", turn);
		ASSERT_EQ(0, touch(page));
		ASSERT_EQ(1, event_wait(self->efd[bells])) TH_LOG("turn %d", turn);
		progress();
	}
	for (int i = 0; i < bells; i++) {
		each[i] = event_read(self->efd[i]);
		events += each[i];
	}
	/* Each may have been on its way when there was no more room. */
	most = most_since(start, ROOTS_EVENTS) + bells;
	EXPECT_GE(most, events);
	for (int i = 0; i < bells; i++)
		EXPECT_LT(events / bells / 2, each[i]);
	/* It did storm. */
	EXPECT_LT(10 * most, atomic_load(&stormer.count->rounds) - before);
	while ((event = next_event(self->fd)).header.type != NO_EVENT)
		EXPECT_EQ(id, event.storm.export_id);
	rounds = stormer_end(&stormer);
	EXPECT_LT(0, rounds);
	TH_LOG("%ld events in %ld ms, %ld at most; %ld rounds of 4 rings", events,
	       clock_ms() - start, most, rounds);

	/* None is lost: the last ring of each comes, and what is rung after it. */
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < bells; i++)
			event_read(self->efd[i]);
		for (int i = 0; i < bells; i++)
			ring(own + i * STRIDE);
		for (int i = 0; i < bells; i++)
			ASSERT_LT(0, event_wait(self->efd[i]));
	}
	munmap(own, BELLS * STRIDE);
	munmap(page, STRIDE);
	close(fd);
	close(other);
	ASSERT_TRUE(limits_restore(&limits));
}

/* Rings, and expects that it comes, until a storm is told of; NO_EVENT after @most rings. */
static struct uxive_event ring_until_told(int fd, void *page, int efd, int most)
{
	struct uxive_event event = next_event(fd);

	for (int n = 0; n < most && event.header.type == NO_EVENT; n++) {
		if (touch(page) || !event_wait(efd))
			abort();
		event = next_event(fd);
	}
	return event;
}

TEST_F(doorbell, the_owner_sets_less_and_the_least_counts)
{
	struct limits limits;
	struct uxive_event event;
	int slow, fast, last;
	__u32 slow_id, fast_id, last_id;
	void *page;

	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	ASSERT_TRUE(limits_save(&limits));
	fast = ux_export(self->fd, 0, 3, &fast_id);
	slow = export_slowly(self->fd, 1, 2, 10 * OWNERS_EVENTS, &slow_id);
	last = ux_export(self->fd, 2, 1, &last_id);
	ASSERT_LE(0, fast);
	ASSERT_LE(0, slow);
	ASSERT_LE(0, last);
	page = map_bells(fast, 3);
	ASSERT_NE(MAP_FAILED, page);

	/* By whichever file it is rung. */
	for (int i = 1; i < 3; i++) {
		event = ring_until_told(self->fd, page + i * STRIDE, self->efd[i],
					i == 1 ? 1000 : 3 * OWNERS_EVENTS);
		/* Told once. */
		if (i == 1) {
			EXPECT_EQ(UXIVE_EVENT_STORM, event.header.type);
			EXPECT_EQ(slow_id, event.storm.export_id);
			EXPECT_EQ(OWNERS_EVENTS, event.storm.count);
			EXPECT_EQ(slot_offset(1), event.storm.offset);
		}
		/* Until it is held back once more. */
		ASSERT_EQ(0, touch(page + i * STRIDE));
	}
	/* When it ends, they are held to that as long as they are in another. */
	ASSERT_EQ(0, ux_revoke(self->fd, slow_id));
	for (int i = 1; i < 3; i++)
		ASSERT_LT(0, event_wait(self->efd[i]));
	usleep(300000);
	while (next_event(self->fd).header.type != NO_EVENT)
		;
	event = ring_until_told(self->fd, page + STRIDE, self->efd[1], 1000);
	EXPECT_EQ(UXIVE_EVENT_STORM, event.header.type);
	EXPECT_EQ(slow_id, event.storm.export_id);
	ASSERT_EQ(0, touch(page + STRIDE));
	munmap(page, 3 * STRIDE);
	close(fast);
	close(last);
	/* Nothing stays held back. */
	ASSERT_EQ(1, event_wait(self->efd[1]));
	fast = ux_export(self->fd, 0, 3, &fast_id);
	last = ux_export(self->fd, 2, 1, &last_id);
	page = map_bells(fast, 3);
	ASSERT_NE(MAP_FAILED, page);
	while (next_event(self->fd).header.type != NO_EVENT)
		;
	for (int i = 0; i < 3; i++) {
		event = ring_until_told(self->fd, page + i * STRIDE, self->efd[i], 100);
		EXPECT_EQ(NO_EVENT, event.header.type) TH_LOG("slot %d", i);
	}

	/* That of root holds for exports that are there, and is a limit to that of the owner. */
	ASSERT_EQ(0, limit_set("max_export_rate", 10 * ROOTS_EVENTS));
	event = ring_until_told(self->fd, page, self->efd[0], 100000);
	ASSERT_EQ(UXIVE_EVENT_STORM, event.header.type);
	EXPECT_EQ(fast_id, event.storm.export_id);
	EXPECT_EQ(ROOTS_EVENTS, event.storm.count);
	ASSERT_EQ(0, ux_revoke(self->fd, fast_id));
	munmap(page, 3 * STRIDE);
	close(slow);
	slow = export_slowly(self->fd, 0, 1, 100000, &slow_id);
	page = map_bells(slow, 1);
	ASSERT_NE(MAP_FAILED, page);
	event = ring_until_told(self->fd, page, self->efd[0], 100000);
	ASSERT_EQ(UXIVE_EVENT_STORM, event.header.type);
	EXPECT_EQ(slow_id, event.storm.export_id);
	EXPECT_EQ(ROOTS_EVENTS, event.storm.count);
	munmap(page, STRIDE);
	close(slow);
	close(fast);
	close(last);
	ASSERT_TRUE(limits_restore(&limits));
}

TEST_F(doorbell, only_what_others_can_ring_is_held_back)
{
	__u32 first_id, second_id;
	int first, second;
	void *own = ux_map(self->fd, IRQ_BASE, BELLS * STRIDE);
	__u64 offset;

	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	ASSERT_NE(MAP_FAILED, own);
	for (int turn = 0; turn < 2; turn++) {
		first = export_slowly(self->fd, 0, 4, 1, &first_id);
		second = export_slowly(self->fd, 2, 4, 1, &second_id);
		ASSERT_LE(0, first);
		ASSERT_LE(0, second);
		/* The next of this index is in neither, whichever ends. */
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(3)));
		ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		ASSERT_EQ(slot_offset(3), offset);
		ASSERT_EQ(0, ux_bind(self->fd, offset, self->efd[3]));
		ASSERT_EQ(0, ux_revoke(self->fd, turn ? second_id : first_id));
		for (int i = 0; i < BELLS; i++) {
			bool is_lent = turn ? i < 3 : i == 2 || i == 4 || i == 5;
			struct uxive_event event;

			event = ring_until_told(self->fd, own + i * STRIDE, self->efd[i],
						is_lent ? 1000 : 30);
			EXPECT_EQ(is_lent ? UXIVE_EVENT_STORM : NO_EVENT, event.header.type)
				TH_LOG("slot %d, turn %d", i, turn);
			/* Told once in a storm: the next one is another. */
			usleep(250000);
			while (next_event(self->fd).header.type != NO_EVENT)
				;
		}
		close(first);
		close(second);
		for (int i = 0; i < BELLS; i++)
			event_read(self->efd[i]);
	}
	munmap(own, BELLS * STRIDE);
}

/* How many interrupts two exports have; the second comes behind the first. */
#define MANY_HELD	400
#define FEW_HELD	10

TEST_F(doorbell, a_storm_of_many_does_not_keep_others_from_their_turn)
{
	int owner = ux_open(), many_efd = event_new(), efd[FEW_HELD], many, few;
	struct stormer stormers[2];
	long each[FEW_HELD] = {}, least = 0, all = 0;
	__u32 id;

	ASSERT_EQ(0, ux_fill(owner, MANY_HELD + FEW_HELD));
	for (int i = 0; i < MANY_HELD + FEW_HELD; i++) {
		int fd = i < MANY_HELD ? many_efd : event_new();

		if (i >= MANY_HELD)
			efd[i - MANY_HELD] = fd;
		ASSERT_EQ(0, ux_bind(owner, slot_offset(i), fd));
	}
	/* One in a period, and half of them. */
	many = export_slowly(owner, 0, MANY_HELD, 10, &id);
	few = export_slowly(owner, MANY_HELD, FEW_HELD, 10 * FEW_HELD / 2, &id);
	ASSERT_TRUE(stormer_start(&stormers[0], many, MANY_HELD));
	ASSERT_TRUE(stormer_start(&stormers[1], few, FEW_HELD));
	while (least < 5 && all < 20 * FEW_HELD) {
		usleep(50000);
		least = LONG_MAX;
		for (int i = 0; i < FEW_HELD; i++) {
			long more = event_read(efd[i]);

			each[i] += more;
			all += more;
			least = each[i] < least ? each[i] : least;
			if (more)
				progress();
		}
	}
	EXPECT_LE(5, least);
	TH_LOG("each had its turn %ld times in %ld events", least, all);
	EXPECT_LT(0, event_read(many_efd));
	for (int i = 0; i < 2; i++)
		EXPECT_LT(0, stormer_end(&stormers[i]));
	close(owner);
	close(many);
	close(few);
	for (int i = 0; i < FEW_HELD; i++)
		close(efd[i]);
	close(many_efd);
}

TEST_F(doorbell, held_back_it_can_be_masked_freed_and_revoked)
{
	void *own = ux_map(self->fd, IRQ_BASE, BELLS * STRIDE);
	struct uxive_event event;
	__u64 offset;
	__u32 id;

	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	ASSERT_NE(MAP_FAILED, own);
	for (int round = 0; round < 4; round++) {
		/* One in a tenth of a second: each is held back. */
		int fd = export_slowly(self->fd, 0, 2, 1, &id);
		void *page = map_bells(fd, 2);

		ASSERT_NE(MAP_FAILED, page);
		ASSERT_EQ(0, touch(page));
		ASSERT_EQ(1, event_wait(self->efd[0]));
		ASSERT_EQ(0, touch(page));
		switch (round) {
		case 0:
			/* It waits for both. */
			ASSERT_EQ(0, ux_set_irqs(self->fd, MASK, 0, 1, NULL));
			/* A slow program may have been told before, which holds the next back. */
			if (event_read(self->efd[0]))
				ASSERT_EQ(0, touch(page));
			event = event_of(self->fd);
			EXPECT_EQ(UXIVE_EVENT_STORM, event.header.type);
			usleep(200000);
			EXPECT_EQ(0, event_read(self->efd[0]));
			ASSERT_EQ(0, ux_set_irqs(self->fd, UNMASK, 0, 1, NULL));
			ASSERT_EQ(1, event_wait(self->efd[0]));
			break;
		case 1:
			/* The next in its place is none of the export. */
			ASSERT_EQ(0, ux_free(self->fd, slot_offset(0)));
			ASSERT_EQ(0, ux_alloc(self->fd, &offset));
			ASSERT_EQ(slot_offset(0), offset);
			ASSERT_EQ(0, ux_bind(self->fd, offset, self->efd[0]));
			/* An event of the last one has come by then. */
			usleep(200000);
			while (next_event(self->fd).header.type != NO_EVENT)
				;
			event_read(self->efd[0]);
			for (int n = 0; n < 50; n++) {
				ring(own);
				ASSERT_EQ(1, event_wait(self->efd[0])) TH_LOG("ring %d", n);
			}
			/* Nor held back by it, which would be told of. */
			EXPECT_EQ(NO_EVENT, next_event(self->fd).header.type);
			break;
		case 2:
			ASSERT_EQ(0, ux_revoke(self->fd, id));
			ASSERT_EQ(1, event_wait(self->efd[0]));
			break;
		default:
			/* With its context. */
			break;
		}
		while (next_event(self->fd).header.type != NO_EVENT)
			;
		munmap(page, 2 * STRIDE);
		close(fd);
	}
	munmap(own, BELLS * STRIDE);
}

TEST_F(doorbell, an_owner_that_drains_by_itself_is_not_limited)
{
	struct uxive_drain drain;
	int owner = ux_open(), fd;
	void *page;
	__u32 id;

	ASSERT_EQ(0, fcntl(owner, F_SETFL, O_NONBLOCK));
	ASSERT_TRUE(drain_open(&drain, owner, 1));
	fd = export_slowly(owner, 0, 1, 1, &id);
	page = map_bells(fd, 1);
	ASSERT_NE(MAP_FAILED, page);
	for (int n = 0; n < 100; n++) {
		long number;

		ASSERT_EQ(0, touch(page));
		ASSERT_TRUE(becomes((number = uxive_drain_try_next(&drain)) >= 0, true));
		ASSERT_EQ(0, number);
		uxive_drain_eoi(&drain, number);
	}
	EXPECT_EQ(NO_EVENT, next_event(owner).header.type);
	munmap(page, STRIDE);
	close(fd);
	drain_close(&drain);
}

/* Limits. */

static const char * const export_limits[] = { "max_exports_per_user", "max_exports" };

TEST_F(doorbell, exports_end_at_their_limits)
{
	long saved[] = { limit_get(export_limits[0]), limit_get(export_limits[1]) };
	int fd[8], other, theirs;
	__u32 id;

	EXPECT_EQ(4096, saved[1]);
	EXPECT_EQ(saved[1] / 2, saved[0]);
	for (int i = 0; i < 2; i++) {
		EXPECT_ERRNO(write, ERANGE, limit_set(export_limits[i], 65537));
		EXPECT_ERRNO(write, EINVAL, limit_write(export_limits[i], "some"));
		EXPECT_EQ(0, limit_set(export_limits[i], 65536));
	}
	ASSERT_EQ(0, limit_set(export_limits[0], 3));
	for (int i = 0; i < 3; i++) {
		fd[i] = ux_export(self->fd, 0, 1, &id);
		ASSERT_LE(0, fd[i]);
	}
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EDQUOT, ux_export(self->fd, 0, 1, NULL));
	/* Of all contexts of the user. */
	other = ux_open();
	ASSERT_EQ(0, ux_fill(other, 1));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EDQUOT, ux_export(other, 0, 1, NULL));
	/* One that is revoked does not count, though its file is there. */
	ASSERT_EQ(0, ux_revoke(self->fd, id));
	fd[3] = ux_export(other, 0, 1, NULL);
	EXPECT_LE(0, fd[3]);
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EDQUOT, ux_export(self->fd, 0, 1, NULL));
	close(fd[0]);
	fd[0] = ux_export(self->fd, 0, 1, NULL);
	EXPECT_LE(0, fd[0]);
	close(other);

	/* Another user has its own. */
	ASSERT_EQ(0, chmod(UXIVE_DEV, 0666));
	ASSERT_EQ(0, seteuid(ALICE));
	theirs = ux_open();
	ASSERT_EQ(0, ux_fill(theirs, 1));
	ASSERT_EQ(0, seteuid(0));
	ASSERT_EQ(0, chmod(UXIVE_DEV, 0600));
	/* The owner is charged, even if another user calls. */
	fd[4] = ux_export(theirs, 0, 1, NULL);
	EXPECT_LE(0, fd[4]);
	ASSERT_EQ(0, limit_set(export_limits[1], total_exports(self->fd)));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, ENFILE, ux_export(theirs, 0, 1, NULL));
	ASSERT_EQ(0, limit_set(export_limits[1], total_exports(self->fd) + 1));
	fd[5] = ux_export(theirs, 0, 1, NULL);
	EXPECT_LE(0, fd[5]);
	close(theirs);

	for (int i = 0; i < 6; i++)
		close(fd[i]);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, limit_set(export_limits[i], saved[i]));
}

TEST_F(doorbell, without_a_descriptor_left_it_is_emfile)
{
	struct rlimit saved, none;
	int fd = dup(0);

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &saved));
	none = saved;
	none.rlim_cur = fd;
	close(fd);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EMFILE, ux_export(self->fd, 0, 1, NULL));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &saved));
	EXPECT_EQ(0, total_exports(self->fd));
}

/* Races. The counts of each show that the race has happened. */

/* A thread that stores all the time, to a page that comes and goes. */
struct touches {
	pthread_t thread;
	void *page;
	/* The main thread's stage: it does nothing, is about to withdraw the page, has done so. */
	atomic_int stage;
	atomic_bool stop;
	atomic_long rounds, stored, stored_amid, refused, stored_after;
};

enum { QUIET, AMID, AFTER };

static void *touch_on(void *data)
{
	struct touches *storm = data;

	while (!storm->stop) {
		int before = storm->stage, sig = touch(storm->page);

		if (sig)
			storm->refused++;
		else if (before == AFTER)
			storm->stored_after++;
		else if (before == AMID)
			storm->stored_amid++;
		else
			storm->stored++;
		storm->rounds++;
	}
	return NULL;
}

/* Lets it go round @count times, or until something is wrong. */
static bool storm_goes_round(struct touches *storm, int count)
{
	long start = storm->rounds;

	return becomes(storm->rounds >= start + count, true);
}

#define STORMS		2

struct storms {
	struct touches storm[STORMS];
};

static bool storms_start(struct storms *storms, void *page)
{
	bool started = true;

	for (int i = 0; i < STORMS; i++) {
		storms->storm[i].page = page;
		started = started && !pthread_create(&storms->storm[i].thread, NULL, touch_on,
						     &storms->storm[i]);
	}
	return started;
}

static void storms_stage(struct storms *storms, int stage)
{
	for (int i = 0; i < STORMS; i++)
		storms->storm[i].stage = stage;
}

static bool storms_go_round(struct storms *storms, int count)
{
	bool done = true;

	for (int i = 0; i < STORMS; i++)
		done = storm_goes_round(&storms->storm[i], count) && done;
	return done;
}

/* Ends both. Afterwards the first one has the sums of their counts. */
static struct touches *storms_end(struct storms *storms)
{
	struct touches *all = &storms->storm[0];

	for (int i = 0; i < STORMS; i++) {
		struct touches *storm = &storms->storm[i];

		storm->stop = true;
		pthread_join(storm->thread, NULL);
		if (!i)
			continue;
		all->stored += storm->stored;
		all->stored_amid += storm->stored_amid;
		all->refused += storm->refused;
		all->stored_after += storm->stored_after;
	}
	return all;
}

/*
 * Replaces the mapping of the last export by one of a new export, once no thread
 * is still about to store to it.
 */
static bool map_over(struct storms *storms, void *page, int fd)
{
	storms_stage(storms, QUIET);
	return storms_go_round(storms, 2) &&
	       mmap(page, STRIDE, PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == page &&
	       storms_go_round(storms, 3);
}

/* The LISN of the interrupt at @offset; 0 if there is none. */
static __u64 lisn_at(int fd, __u64 offset)
{
	struct ux_irq irqs[BELLS + 1] = {};
	int count = ux_irqs(fd, irqs, ARRAY_SIZE(irqs));

	for (int i = 0; i < count && i < (int)ARRAY_SIZE(irqs); i++)
		if (irqs[i].offset == offset)
			return irqs[i].lisn;
	return 0;
}

/* How many rounds at least. */
static int least_rounds(void)
{
	return fewer_with_lockdep(400, 100);
}

/*
 * Two threads store to the doorbell of an interrupt without pause while that is
 * freed; at once a stranger has an interrupt, and the owner another one. Often
 * the stranger's has the LISN, and always the owner's the slot.
 */
TEST_F(doorbell, a_stranger_is_never_rung)
{
	int stranger = ux_open(), efd = event_new(), same_lisn = 0, same_slot = 0, amid_rounds = 0;
	int rounds = least_rounds();
	void *page = mmap(NULL, STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct storms storms = {};
	struct touches *all;

	ASSERT_NE(MAP_FAILED, page);
	/* Its queue is there: the next one is quick. */
	ASSERT_EQ(0, ux_fill(stranger, 1));
	ASSERT_TRUE(storms_start(&storms, page));
	for (int n = 0; n < rounds; n++) {
		int fd = ux_export(self->fd, 0, 1, NULL);
		__u64 lisn = lisn_at(self->fd, slot_offset(0)), theirs, offset;
		long amid = storms.storm[0].stored_amid + storms.storm[1].stored_amid;

		ASSERT_LE(0, fd);
		ASSERT_TRUE(map_over(&storms, page, fd));
		storms_stage(&storms, AMID);
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(0)));
		storms_stage(&storms, AFTER);
		ASSERT_EQ(0, ux_alloc(stranger, &theirs));
		ASSERT_EQ(0, ux_bind(stranger, theirs, efd));
		ASSERT_EQ(0, ux_alloc(self->fd, &offset));
		ASSERT_EQ(0, ux_bind(self->fd, offset, efd));
		same_lisn += lisn_at(stranger, theirs) == lisn;
		same_slot += offset == slot_offset(0);
		amid_rounds += storms.storm[0].stored_amid + storms.storm[1].stored_amid != amid;
		ASSERT_TRUE(storms_go_round(&storms, 3));
		progress();
		/*
		 * A stray ring would show by now: it is of the same source,
		 * which is handled in order.
		 */
		EXPECT_EQ(0, event_read(efd)) TH_LOG("round %d", n);
		ASSERT_EQ(0, ux_bind(self->fd, offset, self->efd[0]));
		ASSERT_EQ(0, ux_free(stranger, theirs));
		close(fd);
		rounds += more_rounds(rounds, n + 1 == rounds && !amid_rounds);
	}
	all = storms_end(&storms);
	TH_LOG("%d rounds: %ld stores before, %ld amid (in %d rounds), %ld after; %ld refused",
	       rounds, all->stored, all->stored_amid, amid_rounds, all->stored_after, all->refused);
	TH_LOG("the LISN came back to the stranger %d times, the slot to the owner %d times",
	       same_lisn, same_slot);
	EXPECT_EQ(0, all->stored_after);
	EXPECT_EQ(rounds, same_slot);
	EXPECT_LT(rounds / 4, same_lisn);
	EXPECT_LT(0, amid_rounds);
	EXPECT_LT(0, all->refused);
	EXPECT_EQ(0, event_read(efd));
	munmap(page, STRIDE);
	close(efd);
	close(stranger);
}

TEST_F(doorbell, no_store_succeeds_after_revoke_returned)
{
	void *page = mmap(NULL, STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rounds = least_rounds(), amid_rounds = 0;
	struct storms storms = {};
	struct touches *all;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_TRUE(storms_start(&storms, page));
	for (int n = 0; n < rounds; n++) {
		long amid = storms.storm[0].stored_amid + storms.storm[1].stored_amid;
		__u32 id;
		int fd = ux_export(self->fd, 0, 1, &id);

		ASSERT_LE(0, fd);
		ASSERT_TRUE(map_over(&storms, page, fd));
		storms_stage(&storms, AMID);
		ASSERT_EQ(0, ux_revoke(self->fd, id));
		storms_stage(&storms, AFTER);
		amid_rounds += storms.storm[0].stored_amid + storms.storm[1].stored_amid != amid;
		ASSERT_TRUE(storms_go_round(&storms, 3));
		progress();
		close(fd);
		rounds += more_rounds(rounds, n + 1 == rounds && !amid_rounds);
	}
	all = storms_end(&storms);
	TH_LOG("%d rounds: %ld stores before, %ld amid (in %d rounds), %ld after; %ld refused",
	       rounds, all->stored, all->stored_amid, amid_rounds, all->stored_after, all->refused);
	EXPECT_EQ(0, all->stored_after);
	EXPECT_LT(0, amid_rounds);
	EXPECT_LT(0, all->refused);
	munmap(page, STRIDE);
}

/* A thread that begins to wait at about the time when the export is revoked. */
struct beginner {
	pthread_t thread;
	atomic_int fd, turn, done;
	atomic_long wait;
	/* It found nothing at first; it was told, before its time was up. */
	bool first, told;
};

static void *begin_to_wait(void *data)
{
	struct beginner *beginner = data;
	long start;
	int turn;

	for (int n = 1; (turn = atomic_load(&beginner->turn)) >= 0; sched_yield()) {
		struct pollfd pfd = { .events = ALL_EVENTS };
		int epoll;

		if (turn != n)
			continue;
		pfd.fd = beginner->fd;
		epoll = n % 2 ? -1 : epoll_of(pfd.fd, EPOLLET);
		start = clock_ms();
		take_turns(atomic_load(&beginner->wait));
		beginner->first = (epoll < 0 ? poll(&pfd, 1, 0) : epoll_next(epoll, 0)) == 0;
		if (!beginner->first)
			beginner->told = true;
		else if (epoll < 0)
			beginner->told = poll(&pfd, 1, WATCHDOG_MS) == 1 && pfd.revents == POLLHUP;
		else
			beginner->told = epoll_next(epoll, WATCHDOG_MS) == POLLHUP;
		if (clock_ms() - start >= WATCHDOG_MS)
			beginner->told = false;
		close(epoll);
		atomic_store(&beginner->done, n++);
	}
	return NULL;
}

TEST_F(doorbell, who_begins_to_wait_misses_no_end)
{
	int rounds = least_rounds(), waited = 0, found = 0;
	struct beginner beginner = {};
	struct aim aim = {};

	ASSERT_EQ(0, pthread_create(&beginner.thread, NULL, begin_to_wait, &beginner));
	for (int n = 1; n <= rounds; n++) {
		__u32 id;
		int fd = ux_export(self->fd, 0, 1, &id);

		ASSERT_LE(0, fd);
		atomic_store(&beginner.fd, fd);
		atomic_store(&beginner.wait, aim.lead);
		atomic_store(&beginner.turn, n);
		take_turns(-aim.lead);
		ASSERT_EQ(0, ux_revoke(self->fd, id));
		ASSERT_TRUE(becomes(atomic_load(&beginner.done), n));
		ASSERT_TRUE(beginner.told) TH_LOG("round %d", n);
		waited += beginner.first;
		found += !beginner.first;
		aim_after(&aim, !beginner.first);
		close(fd);
		progress();
		rounds += more_rounds(rounds, n == rounds && !(waited && found));
	}
	atomic_store(&beginner.turn, -1);
	pthread_join(beginner.thread, NULL);
	TH_LOG("%d rounds: in %d it had begun to wait, in %d it found the end", rounds, waited,
	       found);
	EXPECT_LT(0, waited);
	EXPECT_LT(0, found);
}

/* Revoking, freeing, closing and touching at once leave nothing behind, in any order. */
static void *end_exports(void *data)
{
	atomic_int *const fds = data;
	int fd = fds[0];

	for (int id = 1; id <= fds[1]; id++) {
		while (ux_revoke(fd, id) == -ENOENT && fds[2] < id)
			sched_yield();
	}
	return NULL;
}

TEST_F(doorbell, all_ends_may_race)
{
	const int rounds = fewer_with_lockdep(1000, 200);
	atomic_int fds[3] = { self->fd, rounds, 0 };
	pthread_t revoker;

	ASSERT_EQ(0, pthread_create(&revoker, NULL, end_exports, (void *)fds));
	for (int n = 1; n <= rounds; n++) {
		__u32 id;
		int fd = ux_export(self->fd, 0, 2, &id), sig;
		void *bells = map_bells(fd, 2);

		ASSERT_EQ(n, id);
		ASSERT_NE(MAP_FAILED, bells);
		sig = touch(bells);
		EXPECT_TRUE(!sig || sig == SIGBUS);
		ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
		EXPECT_EQ(SIGBUS, touch(bells + STRIDE));
		munmap(bells, 2 * STRIDE);
		close(fd);
		fds[2] = n;
		ASSERT_EQ(0, ux_fill(self->fd, 1));
		progress();
	}
	ASSERT_EQ(0, pthread_join(revoker, NULL));
	EXPECT_EQ(0, total_exports(self->fd));
}

/*
 * Two threads revoke the same export. A thread that is told that it is gone
 * looks at its pages.
 */
struct revoker {
	pthread_barrier_t *barrier;
	void *bell;
	__u32 id;
	int fd, ret, sig;
};

static void *revoke_and_look(void *arg)
{
	struct revoker *revoker = arg;

	pthread_barrier_wait(revoker->barrier);
	revoker->ret = ux_revoke(revoker->fd, revoker->id);
	revoker->sig = touch(revoker->bell);
	return NULL;
}

TEST_F(doorbell, who_revokes_it_second_finds_no_page_either)
{
	const int rounds = 50, mappings = MAPPINGS;
	pthread_barrier_t barrier;
	int second[2] = {};

	ASSERT_EQ(0, pthread_barrier_init(&barrier, NULL, 2));
	for (int n = 0; n < rounds; n++) {
		struct revoker revokers[2];
		pthread_t threads[2];
		void *bells[mappings];
		__u32 id;
		int fd = ux_export(self->fd, 0, 1, &id);

		/* Removing so many pages takes a while. */
		for (int i = 0; i < mappings; i++) {
			bells[i] = map_bells(fd, 1);
			ASSERT_NE(MAP_FAILED, bells[i]);
			ASSERT_EQ(0, touch(bells[i]));
			progress();
		}
		for (int i = 0; i < 2; i++) {
			revokers[i] = (struct revoker){
				.barrier = &barrier,
				.bell = bells[mappings - 1],
				.id = id,
				.fd = self->fd,
			};
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, revoke_and_look,
						    &revokers[i]));
		}
		for (int i = 0; i < 2; i++) {
			ASSERT_EQ(0, pthread_join(threads[i], NULL));
			EXPECT_EQ(SIGBUS, revokers[i].sig)
				TH_LOG("round %d, which got %d", n, revokers[i].ret);
			second[i] += revokers[i].ret == -ENOENT;
		}
		EXPECT_EQ(-ENOENT, revokers[0].ret + revokers[1].ret);
		for (int i = 0; i < mappings; i++)
			munmap(bells[i], STRIDE);
		close(fd);
		progress();
	}
	TH_LOG("the first thread was second %d times, the other %d times", second[0], second[1]);
	pthread_barrier_destroy(&barrier);
}

/* Many. */

#define RECEIVERS	1000
#define OF_EACH		125

/* Exports of one interrupt: each can be mapped so often only. */
TEST_F(doorbell, a_thousand_receivers_lose_it_by_one_call)
{
	int fds[RECEIVERS / OF_EACH], ready[2], go[2], ended = 0, wrong = 0;
	const int receivers = fewer_with_lockdep(RECEIVERS, 2 * OF_EACH);
	struct timespec start, end;
	char byte;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	for (int i = 0; i < receivers / OF_EACH; i++) {
		fds[i] = ux_export(self->fd, 0, 1, NULL);
		ASSERT_LE(0, fds[i]);
	}
	for (int i = 0; i < receivers; i++) {
		pid_t pid = fork();
		void *bell;

		ASSERT_LE(0, pid) TH_LOG("receiver %d", i);
		progress();
		if (pid)
			continue;
		close(go[1]);
		bell = map_bells(fds[i / OF_EACH], 1);
		if (bell == MAP_FAILED || touch(bell) || write(ready[1], "t", 1) != 1)
			_exit(1);
		/* One by one: all at once would wait for the lock of the pipe. */
		if (read(go[0], &byte, 1) != 1)
			_exit(2);
		_exit(is_gone(bell) ? 0 : 3);
	}
	for (int i = 0; i < receivers; i++) {
		ASSERT_EQ(1, read(ready[0], &byte, 1));
		progress();
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	EXPECT_EQ(0, ux_free(self->fd, slot_offset(0)));
	clock_gettime(CLOCK_MONOTONIC, &end);
	for (int i = 0; i < receivers; i++) {
		int status;

		ASSERT_EQ(1, write(go[1], "g", 1));
		status = child_status(-1);
		ended += !status;
		progress();
		wrong = status ? status : wrong;
	}
	TH_LOG("%d receivers, freed in %ld us of the emulated machine", ended,
	       (end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000);
	EXPECT_EQ(receivers, ended) TH_LOG("status %d", wrong);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < receivers / OF_EACH; i++)
		close(fds[i]);
}

TEST_F(doorbell, all_that_there_may_be_are_ended_by_close)
{
	const int most = limit_get("max_exports_per_user"), each = 512;
	struct rlimit saved, more = { most + 100, most + 100 };
	int owner = ux_open(), *fds = calloc(most, sizeof(*fds));
	void *bells;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &saved));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &more));
	ASSERT_EQ(0, ux_fill(owner, each));
	for (int i = 0; i < most; i++) {
		fds[i] = ux_export(owner, i % each, 1, NULL);
		ASSERT_LE(0, fds[i]) TH_LOG("export %d", i);
		progress();
	}
	EXPECT_EQ(-EDQUOT, ux_export(owner, 0, 1, NULL));
	EXPECT_EQ(most, lines_with(fdinfo_path(owner), "uxive-export:"));
	EXPECT_EQ(most, debug_lines("exports", "", NULL, 0));
	bells = map_bells(fds[most - 1], 1);
	ASSERT_EQ(0, touch(bells));
	close(owner);
	EXPECT_TRUE(is_gone(bells));
	EXPECT_EQ(0, total_exports(self->fd));
	for (int i = 0; i < most; i++)
		close(fds[i]);
	munmap(bells, STRIDE);
	free(fds);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &saved));
}

/* Accelerators. */

TEST_F(doorbell, of_an_accelerator_it_goes_with_that)
{
	struct waiter waiters[WAITS], others[WAITS];
	struct afu_function functions[AFU_MOST];
	int fd, bells_fd, other_fd, efd;
	__u64 offset, message;
	__u32 id, slot;
	void *bells, *untouched;

	if (afu_functions(functions) < 1)
		SKIP(return, "the machine has no accelerator");
	efd = event_new();
	ASSERT_EQ(0, afu_bind(&functions[0]));
	fd = afu_open(&functions[0]);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, afu_attach(fd));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, ux_alloc(fd, &offset));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(0), efd));
	ASSERT_EQ(0, afu_ims_alloc(fd, -1, &message, &slot));
	/* A message is not rung by a store. */
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EINVAL, ux_export(fd, 2, 1, NULL));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EINVAL, ux_export(fd, 0, 3, NULL));
	bells_fd = ux_export(fd, 0, 2, &id);
	other_fd = ux_export(fd, 0, 2, NULL);
	bells = map_bells(bells_fd, 2);
	untouched = map_bells(other_fd, 2);
	ASSERT_NE(MAP_FAILED, bells);
	ASSERT_NE(MAP_FAILED, untouched);
	ASSERT_EQ(0, touch(bells));
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_EQ(0, polled(bells_fd, ALL_EVENTS));
	ASSERT_TRUE(waiters_start(waiters, bells_fd, bells));
	ASSERT_TRUE(waiters_start(others, other_fd, untouched + STRIDE));
	ASSERT_TRUE(waiters_wait(waiters));

	ASSERT_EQ(0, afu_unbind(&functions[0]));
	EXPECT_EQ(POLLHUP, polled(bells_fd, ALL_EVENTS));
	EXPECT_EQ(-1, waiters_end(waiters));
	EXPECT_EQ(-1, waiters_end(others));
	EXPECT_TRUE(is_gone(bells));
	EXPECT_TRUE(is_gone(bells + STRIDE));
	EXPECT_TRUE(is_gone(untouched));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, ENODEV, ux_export(fd, 0, 1, NULL));
	EXPECT_ERRNO(UXIVE_IOC_REVOKE, ENODEV, ux_revoke(fd, id));
	/* Its owner has it until it closes. */
	EXPECT_EQ(2, all_exports());
	close(fd);
	EXPECT_TRUE(is_gone(bells));
	EXPECT_EQ(0, all_exports());
	munmap(bells, 2 * STRIDE);
	munmap(untouched, 2 * STRIDE);
	close(bells_fd);
	close(other_fd);
	close(efd);
}

/* As a program that an owner has become: says so, and waits until it may end. */
static int wait_for_end(void)
{
	char byte;

	return write(STDIN_FILENO, "c", 1) == 1 && read(STDIN_FILENO, &byte, 1) == 1 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--wait"))
		return wait_for_end();
	return test_harness_run(argc, argv);
}
