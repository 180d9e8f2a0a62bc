/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for every uxive selftest: the numbers of the file's layout, the
 * ioctls as functions that return 0 or a negative errno, a trigger store that
 * survives SIGBUS, and waiting that cannot hang.
 *
 * No test decides by timing. A ring is acknowledged when its eventfd counts;
 * WATCHDOG_MS only turns a lost event into a failure instead of a hang, and
 * STALL_S a test that makes no progress: neither measures how fast the host is.
 * To show that an event went nowhere, a test rings the same interrupt again:
 * the kernel handles one source in order, so the second event proves that the
 * first one has been handled.
 */
#ifndef UXIVE_SELFTEST_H
#define UXIVE_SELFTEST_H

#define _GNU_SOURCE
/* One stream, so that a test's messages stand next to its result. */
#define TH_LOG_STREAM stdout

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <misc/ocxl.h>
#include <misc/uxive.h>
#include "kselftest.h"
#include "uxive_files.h"

/* For how many seconds a test may make no progress. */
#define STALL_S		240
/* How often it is told that a test still runs: the testbed takes silence for a hang. */
#define TELL_S		60

/* Memory, all 0, that the processes of a test share. */
static inline void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

/* How far the test is. */
static unsigned long *steps_done;

static void __attribute__((constructor)) steps_init(void)
{
	steps_done = shared_memory(sizeof(*steps_done));
}

/*
 * A step of a test is done. Long loops with a bounded number of turns call this in each
 * turn. A thread that runs until it is stopped must not, since it goes on in a test
 * that hangs.
 */
static inline void progress(void)
{
	__atomic_fetch_add(steps_done, 1, __ATOMIC_RELAXED);
}

/*
 * The harness calls this in place of poll() to wait for the end of a test. If it returns
 * 0, the harness kills the test and reports a timeout: here when the test has stalled,
 * however long it ran.
 */
static int poll_for_end(struct pollfd *fds, nfds_t count, int timeout)
{
	unsigned long before, now = 0;
	int stalled = 0, ret;

	(void)timeout;
	for (int seconds = 1; stalled < STALL_S; seconds++) {
		before = now;
		ret = poll(fds, count, 1000);
		if (ret)
			return ret;
		now = __atomic_load_n(steps_done, __ATOMIC_RELAXED);
		stalled = now == before ? stalled + 1 : 0;
		if (seconds % TELL_S == 0)
			ksft_print_msg("after %d s: %lu steps\n", seconds, now);
	}
	ksft_print_msg("no progress for %d s\n", STALL_S);
	return 0;
}

#define poll(fds, count, timeout)	poll_for_end(fds, count, timeout)
#include "kselftest_harness.h"
#undef poll

#define UXIVE_DEV	"/dev/uxive"
#define UXIVE_MODULE	"/modules/uxive.ko"
#define OCXL_MODULE	"/modules/ocxl.ko"
#define HOARDER_MODULE	"/modules/hoarder.ko"

/* The trigger window of a context: slot k lies at IRQ_BASE + k * STRIDE. */
#define IRQ_BASE	0x10000000000ULL
#define STRIDE		(64UL << 10)
#define SLOTS		16384UL
#define WINDOW		(SLOTS * STRIDE)
/* The limit over all contexts. */
#define TOTAL		65536UL

/* Less than STALL_S, so that a test reports the missing event. */
#define WATCHDOG_MS	100000

/*
 * Expects that @call was refused with @error. The documentation must list it for @call,
 * and make lint asks for a test of each listed one. Several calls that all return @ret
 * have " and " between them.
 */
#define EXPECT_ERRNO(call, error, ret)					\
	__EXPECT(-(error), "-" #error, ret, #call ": " #ret, ==, 0)

/* For tests that are skipped where the kernel, which is not the one for debugging, has none. */
#define NO_FAULTS	"the kernel has no fault injection"

static inline bool can_inject_faults(void)
{
	return !access("/proc/thread-self/fail-nth", F_OK) &&
	       !access("/sys/kernel/debug/fail_function", F_OK);
}

/*
 * How often a loop that is long goes round: @fewer times on a kernel with lockdep, which
 * takes ten times as long for each and is there for what else it sees.
 */
static inline long fewer_with_lockdep(long count, long fewer)
{
	return access("/proc/lockdep", F_OK) ? count : fewer;
}

/* How many rings show that none is lost. */
static inline long rings_to_send(void)
{
	return fewer_with_lockdep(100000, 10000);
}

static inline __u64 slot_offset(unsigned long slot)
{
	return IRQ_BASE + slot * STRIDE;
}

/* The ioctls: 0 or a negative errno. */

static inline int ux_open(void)
{
	int fd = open(UXIVE_DEV, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int ux_ioctl(int fd, unsigned int cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static inline int ux_alloc(int fd, __u64 *offset)
{
	return ux_ioctl(fd, OCXL_IOCTL_IRQ_ALLOC, offset);
}

/* From @chip, or from wherever the kernel likes if that is negative. */
static inline int ux_alloc_on(int fd, long chip, __u64 *offset)
{
	struct uxive_irq_alloc arg = {
		.size = sizeof(arg),
		.flags = chip < 0 ? 0 : UXIVE_ALLOC_CHIP,
		.chip = chip < 0 ? 0 : chip,
	};
	int ret = ux_ioctl(fd, UXIVE_IOC_IRQ_ALLOC, &arg);

	*offset = arg.offset;
	return ret;
}

/* Allocates @count interrupts; returns 0 or the first errno. */
static inline int ux_fill(int fd, unsigned long count)
{
	__u64 offset;
	int ret = 0;

	while (!ret && count--)
		ret = ux_alloc(fd, &offset);
	return ret;
}

static inline int ux_free(int fd, __u64 offset)
{
	return ux_ioctl(fd, OCXL_IOCTL_IRQ_FREE, &offset);
}

static inline int ux_bind(int fd, __u64 offset, int efd)
{
	struct ocxl_ioctl_irq_fd arg = { .irq_offset = offset, .eventfd = efd };

	return ux_ioctl(fd, OCXL_IOCTL_IRQ_SET_FD, &arg);
}

/* Returns the new file or a negative errno; the number goes to @id if that is not NULL. */
static inline int ux_export(int fd, __u32 start, __u32 count, __u32 *id)
{
	struct uxive_export arg = {
		.size = sizeof(arg), .kind = UXIVE_EXPORT_FILE, .start = start, .count = count,
	};
	int ret = ux_ioctl(fd, UXIVE_IOC_EXPORT, &arg);

	if (id)
		*id = arg.id;
	return ret ? ret : arg.fd;
}

static inline int ux_export_info(int fd, struct uxive_export_info *info)
{
	*info = (struct uxive_export_info){ .size = sizeof(*info) };
	return ux_ioctl(fd, UXIVE_IOC_EXPORT_INFO, info);
}

static inline int ux_revoke(int fd, __u32 id)
{
	struct uxive_revoke arg = { .size = sizeof(arg), .id = id };

	return ux_ioctl(fd, UXIVE_IOC_REVOKE, &arg);
}

/*
 * Allocates @count interrupts, each bound to its of @efds unless that is NULL; with
 * UXIVE_ALLOC_AT from slot *@start on. The first slot is returned there.
 */
static inline int ux_alloc_many_of(int fd, __u32 flags, __u32 chip, __u32 count, const __s32 *efds,
				   __u32 *start)
{
	struct uxive_irq_alloc_many arg = {
		.size = sizeof(arg),
		.flags = flags,
		.chip = chip,
		.count = count,
		.start = flags & UXIVE_ALLOC_AT ? *start : 0,
		.eventfds = (uintptr_t)efds,
	};
	int ret = ux_ioctl(fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg);

	*start = arg.start;
	return ret;
}

static inline int ux_alloc_many(int fd, __u32 count, const __s32 *efds, __u32 *start)
{
	return ux_alloc_many_of(fd, 0, 0, count, efds, start);
}

static inline int ux_alloc_at(int fd, __u32 start, __u32 count)
{
	return ux_alloc_many_of(fd, UXIVE_ALLOC_AT, 0, count, NULL, &start);
}

static inline int ux_free_many(int fd, __u32 start, __u32 count)
{
	struct uxive_irq_free_many arg = { .size = sizeof(arg), .start = start, .count = count };

	return ux_ioctl(fd, UXIVE_IOC_IRQ_FREE_MANY, &arg);
}

static inline int ux_set_irqs(int fd, __u32 flags, __u32 start, __u32 count, const void *data)
{
	struct uxive_set_irqs arg = {
		.size = sizeof(arg),
		.flags = flags,
		.start = start,
		.count = count,
		.data = (uintptr_t)data,
	};

	return ux_ioctl(fd, UXIVE_IOC_SET_IRQS, &arg);
}

static inline int ux_free_all(int fd)
{
	struct uxive_irq_free_all arg = { .size = sizeof(arg) };

	return ux_ioctl(fd, UXIVE_IOC_IRQ_FREE_ALL, &arg);
}

/* The argument of UXIVE_IOC_USER_DRAIN. */
static inline struct uxive_user_drain ux_drain_arg(int efd)
{
	return (struct uxive_user_drain){
		.size = sizeof(struct uxive_user_drain), .eventfd = efd, .format = UXIVE_DRAIN_XIVE,
	};
}

/* For a program that needs not know where the queue lies. */
static inline int ux_user_drain(int fd, int efd)
{
	struct uxive_user_drain arg = ux_drain_arg(efd);

	return ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, &arg);
}

static inline int ux_arm(int fd)
{
	struct uxive_arm arg = { .size = sizeof(arg) };

	return ux_ioctl(fd, UXIVE_IOC_ARM, &arg);
}

/* Returns the descriptor of a new range, or a negative errno. */
static inline int ux_range(int fd, __u32 count)
{
	struct uxive_range arg = { .size = sizeof(arg), .count = count, .fd = -1 };
	int ret = ux_ioctl(fd, UXIVE_IOC_RANGE, &arg);

	return ret ? ret : arg.fd;
}

static inline int ux_info(int fd, struct uxive_info *info)
{
	*info = (struct uxive_info){ .size = sizeof(*info) };
	return ux_ioctl(fd, UXIVE_IOC_INFO, info);
}

/* The kernel's INFO about a context; all ones if the call fails. */
static inline struct uxive_info info_of(int fd)
{
	struct uxive_info info;

	if (ux_info(fd, &info))
		memset(&info, 0xff, sizeof(info));
	return info;
}

/* How many interrupts a context has, and all contexts; -1 if that is not told. */

static inline long irqs_of(int fd)
{
	return (__s32)info_of(fd).irqs;
}

static inline long total_irqs(int fd)
{
	return (__s32)info_of(fd).irqs_total;
}

/* Likewise of the exports of all contexts. */
static inline long total_exports(int fd)
{
	return (__s32)info_of(fd).exports_total;
}

/* The same, whether there is a context or not. */

static inline long all_irqs(void)
{
	int fd = ux_open();
	long total = total_irqs(fd);

	close(fd);
	return total;
}

static inline long all_exports(void)
{
	int fd = ux_open();
	long total = total_exports(fd);

	close(fd);
	return total;
}

static inline void *ux_map(int fd, __u64 offset, size_t length)
{
	return mmap(NULL, length, PROT_WRITE, MAP_SHARED, fd, offset);
}

/* Maps and unmaps; 0 or the errno of the refusal. */
static inline int try_map(int fd, __u64 offset, size_t length, int prot, int flags)
{
	void *page = mmap(NULL, length, prot, flags, fd, offset);

	if (page == MAP_FAILED)
		return -errno;
	munmap(page, length);
	return 0;
}

/* Limits and their use: files in sysfs that have a number. */

#define UXIVE_SYSFS	"/sys/class/misc/uxive/"

static inline const char *limit_path(const char *name)
{
	return path_of(UXIVE_SYSFS "%s", name);
}

/* -1 if there is no such file, or something else in it. */
static inline long limit_get(const char *name)
{
	return file_number(limit_path(name));
}

/* 0 or a negative errno. */
static inline int limit_write(const char *name, const char *text)
{
	return file_write(limit_path(name), text);
}

static inline int limit_set(const char *name, long limit)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld\n", limit);
	return limit_write(name, text);
}

/* A context in fdinfo. */

struct ux_irq {
	__u64 offset;
	__u64 lisn;
	bool masked;
};

static inline const char *fdinfo_path(int fd)
{
	return path_of("/proc/self/fdinfo/%d", fd);
}

/*
 * Returns the number of interrupts, -1 if fdinfo does not have the promised
 * form, and fills the first @max of @irqs.
 */
static inline int ux_irqs(int fd, struct ux_irq *irqs, int max)
{
	char line[256], tail;
	unsigned long long offset, lisn;
	int count = -1, listed = 0, end;
	FILE *file = fopen(fdinfo_path(fd), "r");

	if (!file)
		return -1;

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "uxive-irqs:\t%d%c", &count, &tail) == 2)
			continue;
		if (strncmp(line, "uxive-irq:", 10))
			continue;
		if (sscanf(line, "uxive-irq:\toffset:%llx lisn:%llx%n",
			   &offset, &lisn, &end) != 2 ||
		    (strcmp(line + end, "\n") && strcmp(line + end, " masked\n"))) {
			count = -1;
			break;
		}
		if (listed < max)
			irqs[listed] = (struct ux_irq){ offset, lisn, line[end] == ' ' };
		listed++;
	}
	fclose(file);
	return count == listed ? count : -1;
}

/* For qsort(). */
static inline int lisn_order(const void *one, const void *other)
{
	__u64 a = ((const struct ux_irq *)one)->lisn, b = ((const struct ux_irq *)other)->lisn;

	return a < b ? -1 : a > b;
}

static inline int ux_count(int fd)
{
	return ux_irqs(fd, NULL, 0);
}

/* The text behind @key in fdinfo of a file; NULL if there is none. */
static inline const char *fdinfo_of(int fd, const char *key)
{
	char start[64];

	snprintf(start, sizeof(start), "%s:", key);
	return line_after(fdinfo_path(fd), start);
}

/* The same of an interrupt. */
static inline const char *fdinfo_of_irq(int fd, __u64 offset)
{
	char start[64];

	snprintf(start, sizeof(start), "uxive-irq:\toffset:%llx ", (unsigned long long)offset);
	return line_after(fdinfo_path(fd), start);
}

/* The number behind @key; -1 if there is none. */
static inline long fdinfo_number(int fd, const char *key)
{
	const char *found = fdinfo_of(fd, key);

	return found ? atol(found) : -1;
}

/*
 * How often the kernel's drain of a context was continued outside hard
 * interrupt context; -1 if fdinfo does not say.
 */
static inline long ux_deferred(int fd)
{
	return fdinfo_number(fd, "uxive-deferred");
}

/* The number of a context, as debugfs and /proc/interrupts have it; -1 if that is not told. */
static inline long ux_context(int fd)
{
	return fdinfo_number(fd, "uxive-context");
}

static inline long clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static inline long clock_ms(void)
{
	return clock_ns() / 1000000;
}

/* How long a test provokes lines of the log: a line that comes once a second comes twice. */
#define STORM_NS	3000000000L

/*
 * Counts the lines of @log that have @text: at least one, and no more than one for each
 * second since @start, by the machine's own clock. The log was opened at @start.
 */
#define EXPECT_A_LINE_A_SECOND(log, text, start) do {			\
	const char *text_ = (text);					\
	int lines_ = log_lines(log, text_);				\
	long seconds_ = (clock_ns() - (start)) / 1000000000;		\
									\
	TH_LOG("%d lines in %ld s: %s", lines_, seconds_, text_);	\
	EXPECT_LE(1, lines_);						\
	EXPECT_GE(seconds_ + 1, lines_);				\
} while (0)

/* The events of poll() on a file now: @events and those reported unasked; -1 if it fails. */
static inline int polled(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, 0) < 0 ? -1 : (unsigned short)pfd.revents;
}

/* Eventfds. */

static inline int event_new(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Reads the count of the eventfd; -1 if it is full. */
static inline long event_read(int efd)
{
	long count;

	return read(efd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/*
 * Waits for the next event and reads the count; 0 if nothing woke us. poll()
 * looks once more when its time is up, so the clock shows an event that counted
 * without a wake-up.
 */
static inline long event_wait(int efd)
{
	struct pollfd pfd = { .fd = efd, .events = POLLIN };
	long start = clock_ms();

	if (poll(&pfd, 1, WATCHDOG_MS) != 1)
		return 0;
	if (clock_ms() - start >= WATCHDOG_MS)
		return 0;
	return event_read(efd);
}

/* The count, which stays; -1 if fdinfo does not say. */
static inline long event_count(int efd)
{
	const char *count = fdinfo_of(efd, "eventfd-count");

	return count ? strtol(count, NULL, 16) : -1;
}

static inline void event_add(int efd, __u64 count)
{
	if (write(efd, &count, sizeof(count)) != sizeof(count))
		abort();
}

/*
 * The kernel numbers live eventfds with the lowest free ids. So the highest id
 * of a batch of new ones tells how many older ones are still held, be it only
 * by a driver.
 */
static inline int events_in_use(void)
{
	int efd[16], id, top = -1;

	for (size_t i = 0; i < ARRAY_SIZE(efd); i++) {
		efd[i] = event_new();
		id = fdinfo_number(efd[i], "eventfd-id");
		top = id > top ? id : top;
	}
	for (size_t i = 0; i < ARRAY_SIZE(efd); i++)
		close(efd[i]);
	return top;
}

/* Waits until @now is @wanted; false if that does not happen. */
#define becomes(now, wanted) ({						\
	long __end = clock_ms() + WATCHDOG_MS;				\
	bool __is;							\
									\
	while (!(__is = (now) == (wanted)) && clock_ms() < __end)	\
		usleep(1000);						\
	__is;								\
})

/* Events of a context. */

/* Reads without waiting, also if the file would wait: the bytes, or a negative errno. */
static inline long read_now(int fd, void *buf, size_t size)
{
	struct iovec iov = { buf, size };
	ssize_t len = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	return len < 0 ? -errno : len;
}

#define NO_EVENT	0xff

/* The next event of a file that does not wait; its type is NO_EVENT if there is none. */
static inline struct uxive_event next_event(int fd)
{
	struct uxive_event event;

	if (read(fd, &event, sizeof(event)) != sizeof(event))
		event.header.type = NO_EVENT;
	return event;
}

/* Triggers. */

/* One 8-byte store: the only access that a trigger page takes. */
static inline void ring(void *page)
{
	asm volatile("std %1,0(%0)" : : "b"(page), "r"(0UL) : "memory");
}

static __maybe_unused __thread sigjmp_buf touch_env;
static __maybe_unused __thread sig_atomic_t touching;

static inline void touch_caught(int sig)
{
	if (__atomic_load_n(&touching, __ATOMIC_RELAXED))
		siglongjmp(touch_env, sig);
	/* Not ours: let it kill. */
	signal(sig, SIG_DFL);
}

static inline void catch_touches(void)
{
	/* SA_NODEFER: leaving by siglongjmp need not restore the mask. */
	struct sigaction act = {
		.sa_handler = touch_caught,
		.sa_flags = SA_NODEFER,
	};

	if (sigaction(SIGBUS, &act, NULL) || sigaction(SIGSEGV, &act, NULL))
		abort();
}

/* Rings; returns 0 or the signal that the store raised. */
static __maybe_unused int touch(void *page)
{
	int sig = sigsetjmp(touch_env, 0);

	if (!sig) {
		__atomic_store_n(&touching, 1, __ATOMIC_RELAXED);
		ring(page);
	}
	__atomic_store_n(&touching, 0, __ATOMIC_RELAXED);
	return sig;
}

/* Page faults of this thread that needed no disk. */
static inline long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt;
}

/*
 * The lead of one of two racing threads, in turns of a loop. It adapts to the machine,
 * so that each thread is the first about as often.
 */
struct aim {
	long lead, step;
};

/*
 * If the leading thread was the first, the lead shrinks, else it grows, in steps that
 * double. The bound is beyond the time that a host with few CPUs makes one of them
 * wait.
 */
static inline void aim_after(struct aim *aim, bool led)
{
	bool less = aim->step < 0;

	if (aim->step && led == less)
		aim->step *= 2;
	else
		aim->step = led ? -50 : 50;
	aim->lead += aim->step;
	if (labs(aim->lead) > 1L << 26)
		*aim = (struct aim){};
}

/* Lets some time pass. */
static inline void take_turns(long turns)
{
	while (turns-- > 0)
		asm volatile("" : : : "memory");
}

/* Processes. */

static inline bool fd_send(int sock, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {};
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1;
}

static inline int fd_receive(int sock)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {};
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	int fd = -1;

	if (recvmsg(sock, &msg, 0) != 1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/* A context of @uid, who may open the node; or a negative errno. */
static inline int ux_open_as(uid_t uid)
{
	int fd;

	if (seteuid(uid))
		return -errno;
	fd = ux_open();
	return seteuid(0) ? -errno : fd;
}

/* The last @room bytes before where nothing is mapped. */
static inline void *before_a_hole(size_t room)
{
	size_t page = sysconf(_SC_PAGESIZE), length = (room + page - 1) / page * page;
	void *pages = mmap(NULL, length + page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || munmap(pages + length, page))
		abort();
	return pages + length - room;
}

/* Descriptors that this process has open. */
static inline int fds_open(void)
{
	return entries_of("/proc/self/fd");
}

/* Linux interrupts that exist, with a handler or without. */
static inline int linux_irqs(void)
{
	return entries_of("/sys/kernel/irq");
}

/* The exit status of a child, or minus the signal that killed it. */
static inline int child_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* As ps shows it of a process or thread; S where it waits until something comes. */
static inline char process_state(pid_t pid)
{
	char state;

	return sscanf(file_line(path_of("/proc/%d/stat", pid)), "%*d (%*[^)]) %c", &state) == 1 ?
	       state : '?';
}

/* It waits, interruptibly, as in read() and poll(). */
static inline bool is_waiting(pid_t tid)
{
	return process_state(tid) == 'S';
}

/* Writes a line to the kernel's log. */
static inline bool log_line(const char *line)
{
	return !file_write("/dev/kmsg", line);
}

/* Modules: 0 or a negative errno. */

static inline int module_load_with(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret = syscall(SYS_finit_module, fd, parameters, 0) ? -errno : 0;

	close(fd);
	return ret;
}

static inline int module_load(const char *path)
{
	return module_load_with(path, "");
}

static inline int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

/* CPUs. */

#define CPU_SYSFS	"/sys/devices/system/cpu/"

/* Takes a CPU up or down. 0 or a negative errno. */
static inline int cpu_online(int cpu, bool online)
{
	return file_write(path_of(CPU_SYSFS "cpu%d/online", cpu), online ? "1" : "0");
}

/* -1 if there is no such CPU, or it is down. */
static inline long chip_of_cpu(int cpu)
{
	return file_number(path_of(CPU_SYSFS "cpu%d/topology/physical_package_id", cpu));
}

static inline void pin_to_cpu(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

#endif /* UXIVE_SELFTEST_H */
