// SPDX-License-Identifier: GPL-2.0
/*
 * For how long others are held up: by one run of the handler, when many ring at
 * once an eventfd that many wait for; and by calls that work on as many
 * interrupts as there are. Each row has one sample, the longest.
 *
 * While a call runs a thread with a higher priority sleeps a moment, and
 * touches a page of the same context, which takes the lock of its slots, again
 * and again. It is late by as long as interrupts are off, and its touch takes
 * as long as the lock is held.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <misc/uxive.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define IRQ_BASE	0x10000000000ULL
#define AT_ONCE		64
#define WAITERS		10000
/* Of 65,536, some are the driver's reserve. */
#define ALL		65000
/* As many as can be made before the kernel finds that it was not let run for too long. */
#define SOME		10000
/* How long the thread sleeps, and in ticks. */
#define MOMENT_NS	30000
#define MOMENT		(MOMENT_NS * 512 / 1000)

static void record_one(const char *name, __u64 ticks)
{
	struct op *op = new_op(name);

	record(op, ticks);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s: %m", path);
	close(fd);
}

/*
 * Above workers of the kernel, which take the CPU for long while a lock is held:
 * such as gets new interrupts from firmware. Not for long, for then the kernel
 * lets them run nevertheless.
 */
static void be_urgent(bool urgent)
{
	struct sched_param priority = { .sched_priority = urgent ? 10 : 0 };

	must(sched_setscheduler(0, urgent ? SCHED_FIFO : SCHED_OTHER, &priority));
	/* Workers that had to wait run now. */
	usleep(10 * SETTLE_US);
}

static void raise_limits(void)
{
	struct rlimit files = { WAITERS + 100, WAITERS + 100 };

	must(setrlimit(RLIMIT_NOFILE, &files));
	write_file("/sys/class/misc/uxive/max_irqs_per_user", "65536");
}

/* An epoll in which the eventfd is @waiters times. */
static int wait_often(int eventfd, int waiters)
{
	struct epoll_event event = { .events = EPOLLIN };
	int ep = must(epoll_create1(EPOLL_CLOEXEC));

	for (int i = 0; i < waiters; i++)
		must(epoll_ctl(ep, EPOLL_CTL_ADD, must(dup(eventfd)), &event));
	return ep;
}

static void empty(int eventfd)
{
	__u64 value;

	must(read(eventfd, &value, sizeof(value)));
}

/* The longest time between two looks at the clock, while no other program is let run. */
static void measure_storms(const char *ring_name, const char *storm_name, const char *write_name,
			   int waiters)
{
	int fd = open_driver(), event = must(eventfd(0, EFD_CLOEXEC));
	__u64 offset, value = 1, begin, end;
	char text[64];
	void *pages;

	for (int i = 0; i < AT_ONCE; i++) {
		offset = allocate(fd);
		bind_eventfd(fd, offset, event);
	}
	pages = must(mmap(NULL, AT_ONCE * DEVICE_PAGE, PROT_WRITE, MAP_SHARED, fd, IRQ_BASE));
	load64(pages);
	wait_often(event, waiters);
	for (int round = 0; round < 2; round++) {
		begin = timebase();
		must(write(event, &value, sizeof(value)));
		end = timebase();
		empty(event);
	}
	record_one(write_name, end - begin);
	for (int round = 0; round < 2; round++) {
		begin = timebase();
		store64(pages, 0);
		end = timebase();
		empty(event);
	}
	record_one(ring_name, end - begin);

	snprintf(text, sizeof(text), "%lx %d", (unsigned long)pages, AT_ONCE);
	fd = must(open("/sys/module/atonce/parameters/ring", O_WRONLY | O_CLOEXEC));
	/* Above the threads to which the handler leaves the rest. */
	must(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 60 }));
	begin = timebase();
	must(write(fd, text, strlen(text)));
	end = timebase();
	must(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){}));
	record_one(storm_name, end - begin);
	/* The others come, when they are let. */
	for (value = 0; value < AT_ONCE;) {
		__u64 more;

		must(read(event, &more, sizeof(more)));
		value += more;
	}
}

struct watch {
	pthread_t thread;
	int fd;
	atomic_bool stop;
	__u64 late, touch;
	unsigned int count;
};

static sigjmp_buf missing;

static void page_is_missing(int signal)
{
	(void)signal;
	siglongjmp(missing, 1);
}

/* Its slot may be free, which the lock tells, too. */
static void touch(void *page)
{
	if (!sigsetjmp(missing, 0))
		load64(page);
}

static void *watch_run(void *argument)
{
	const struct timespec moment = { .tv_nsec = MOMENT_NS };
	struct watch *watch = argument;
	__u64 begin, took;

	while (!atomic_load(&watch->stop)) {
		void *page = must(mmap(NULL, DEVICE_PAGE, PROT_WRITE, MAP_SHARED, watch->fd,
				       IRQ_BASE));

		begin = timebase();
		nanosleep(&moment, NULL);
		took = timebase() - begin - MOMENT;
		if (took > watch->late)
			watch->late = took;
		begin = timebase();
		touch(page);
		took = timebase() - begin;
		if (took > watch->touch)
			watch->touch = took;
		must(munmap(page, DEVICE_PAGE));
		watch->count++;
	}
	return NULL;
}

static struct watch watch;

static void watch_start(void)
{
	struct sched_param priority = { .sched_priority = 50 };
	pthread_attr_t attr;

	atomic_store(&watch.stop, false);
	watch.late = 0;
	watch.touch = 0;
	watch.count = 0;
	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &priority);
	if (pthread_create(&watch.thread, &attr, watch_run, &watch))
		die("no thread");
}

static void watch_stop(const char *name)
{
	atomic_store(&watch.stop, true);
	pthread_join(watch.thread, NULL);
	if (watch.count < 2)
		die("%s: was over before it was watched", name);
	record_one(name, watch.late > watch.touch ? watch.late : watch.touch);
}

/* The longest that others are held up by the statements after the first argument. */
#define WATCH(name, ...) \
	do { \
		watch_start(); \
		__VA_ARGS__; \
		watch_stop(name); \
	} while (0)

static void set_irqs(int fd, __u32 flags, __u32 start, __u32 count, const void *data)
{
	struct uxive_set_irqs arg = {
		.size = sizeof(arg), .flags = flags, .start = start, .count = count,
		.data = (unsigned long)data,
	};

	must(ioctl(fd, UXIVE_IOC_SET_IRQS, &arg));
}

static void read_all(const char *path)
{
	static char buffer[1 << 16];
	int fd = must(open(path, O_RDONLY | O_CLOEXEC));

	while (must(read(fd, buffer, sizeof(buffer))) > 0)
		;
	close(fd);
}

static void alloc_many(int fd, __u32 start, __u32 count)
{
	struct uxive_irq_alloc_many arg = {
		.size = sizeof(arg), .flags = UXIVE_ALLOC_AT, .start = start, .count = count,
	};

	must(ioctl(fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg));
}

static void alloc_some(int fd)
{
	for (int i = 1; i < SOME; i++)
		allocate(fd);
}

static void alloc_in_twos(int fd)
{
	for (int i = 0; i < 20; i++) {
		struct uxive_irq_alloc_many arg = { .size = sizeof(arg), .count = 2 };

		must(ioctl(fd, UXIVE_IOC_IRQ_ALLOC_MANY, &arg));
	}
}

static void touch_all(void *pages)
{
	for (int i = 0; i < ALL - 1; i++)
		load64(pages + i * (long)DEVICE_PAGE);
}

static void free_many(int fd, __u32 start, __u32 count)
{
	struct uxive_irq_free_many arg = { .size = sizeof(arg), .start = start, .count = count };

	must(ioctl(fd, UXIVE_IOC_IRQ_FREE_MANY, &arg));
}

static void free_all(int fd)
{
	struct uxive_irq_free_all arg = { .size = sizeof(arg) };

	must(ioctl(fd, UXIVE_IOC_IRQ_FREE_ALL, &arg));
}

static int export_many(int fd, __u32 start, __u32 count)
{
	struct uxive_export arg = {
		.size = sizeof(arg), .kind = UXIVE_EXPORT_FILE, .start = start, .count = count,
	};

	must(ioctl(fd, UXIVE_IOC_EXPORT, &arg));
	return arg.fd;
}

/* Slot 0 is watched; the others are as many as there are. */
static void measure_calls(void)
{
	struct uxive_range range = { .size = sizeof(range), .count = ALL, .fd = -1 };
	static __s32 eventfds[ALL];
	char fdinfo[64];
	void *pages;

	must(ioctl(open_driver(), UXIVE_IOC_RANGE, &range));
	watch.fd = range.fd;
	snprintf(fdinfo, sizeof(fdinfo), "/proc/self/fdinfo/%d", range.fd);
	for (int i = 0; i < ALL; i++)
		eventfds[i] = i ? eventfds[0] : must(eventfd(0, EFD_CLOEXEC));

	allocate(range.fd);
	alloc_many(range.fd, 1, ALL - SOME - 1);
	be_urgent(true);
	WATCH("held_alloc_many", alloc_many(range.fd, ALL - SOME, SOME));
	be_urgent(false);
	pages = must(mmap(NULL, (ALL - 1UL) * DEVICE_PAGE, PROT_WRITE, MAP_SHARED, range.fd,
			  IRQ_BASE + DEVICE_PAGE));
	WATCH("held_touch", touch_all(pages));
	WATCH("held_bind",
	      set_irqs(range.fd, UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER, 1, ALL - 1,
		       eventfds));
	WATCH("held_trigger",
	      set_irqs(range.fd, UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER, 1, ALL - 1, NULL));
	WATCH("held_mask",
	      set_irqs(range.fd, UXIVE_SET_DATA_NONE | UXIVE_SET_MASK, 1, ALL - 1, NULL));
	WATCH("held_unmask",
	      set_irqs(range.fd, UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK, 1, ALL - 1, NULL));
	WATCH("held_fdinfo", read_all(fdinfo));
	WATCH("held_export", close(export_many(range.fd, 1, ALL - 1)));
	WATCH("held_free_many", free_many(range.fd, 1, ALL / 2));
	WATCH("held_free_all", free_all(range.fd));

	allocate(range.fd);
	be_urgent(true);
	WATCH("held_alloc", alloc_some(range.fd));
	be_urgent(false);
	/* Every second one, so that two on end are found nowhere but behind all. */
	for (int i = 1; i < SOME; i += 2)
		free_many(range.fd, i, 1);
	WATCH("held_find", alloc_in_twos(range.fd));
}

void bench_held(void)
{
	struct sigaction action = { .sa_handler = page_is_missing, .sa_flags = SA_NODEFER };

	raise_limits();
	must(sigaction(SIGBUS, &action, NULL));
	lock_memory(true);
	/* If not urgent. */
	must(setpriority(PRIO_PROCESS, 0, -20));
	be_urgent(true);
	measure_storms("ring_0", "storm_0", "write_0", 0);
	measure_storms("ring_10000", "storm_10000", "write_10000", WAITERS);
	be_urgent(false);
	measure_calls();
}
