// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: an accelerator may go at any moment, or misbehave, and its programs
 * are told. Their pages and interrupts end at once, all is freed with their last
 * reference, and later programs see nothing of it. A context that the AFU has not
 * detached is given to nobody else.
 *
 * An AFU goes in five ways: the driver is unbound from the function, the
 * function is removed, it does not answer, it is reset, or it is recovered from
 * an error of its host bridge. Tests ask the model to misbehave. The first AFU
 * must have 32 contexts of 63 slots, and a bus for itself, as it could not be
 * reset otherwise.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#define CONTEXTS	32
#define SLOTS_EACH	63
#define IRQS		4
/* This interrupt is never raised. */
#define QUIET		(IRQS - 1)
/* For how long an AFU is away at most, and its end is waited for, in milliseconds. */
#define AWAY_MS		60000
/* How long an AFU is away that must not count as gone, with room for a host that stalls. */
#define SHORT_MS	2000
#define SHORT_MOST_MS	4000
#define SHORT_TRIES	10
/* How many unread events there is room for. */
#define ROOM		32
#define PAGE		(64UL << 10)
#define QUEUE_BYTES	(64UL << 10)
#define OCXL_FAULT	OCXL_AFU_EVENT_XSL_FAULT_ERROR
#define EVENT		sizeof(struct uxive_event)
#define RACERS		4

enum end { UNBIND, REMOVE, SILENT, RESET, RECOVER };

/* Whether the function has a driver all the time, and its node stays. */
static bool stays_bound(enum end end)
{
	return end >= SILENT;
}

/* Whether another AFU takes its place by itself. */
static bool begins_anew(enum end end)
{
	return end >= RESET;
}

/* The driver's line about a function that can be used again after a reset. */
#define WAS_RESET	": it was reset\n"
#define IS_OF_NO_USE	": it cannot be used after a reset"
#define RESETS		"uxive selftest: the function is to be reset"

/* Loads; returns 0 or the signal that the load raised. */
static int load(const void *page, __u64 *value)
{
	int sig = sigsetjmp(touch_env, 0);

	if (!sig) {
		__atomic_store_n(&touching, 1, __ATOMIC_RELAXED);
		*value = mmio_read64(page, 0);
	}
	__atomic_store_n(&touching, 0, __ATOMIC_RELAXED);
	return sig;
}

static int look(const void *page)
{
	__u64 value;

	return load(page, &value);
}

/* Removes the function; returns the file by which it is found again. */
static bool function_remove(const struct afu_function *function, char *rescan)
{
	char real[PATH_MAX];

	if (!realpath(function_path(function, ""), real))
		return false;
	*strrchr(real, '/') = 0;
	snprintf(rescan, PATH_MAX, "%.4000s/rescan", real);
	return !file_write(function_path(function, "remove"), "1");
}

/* How many contexts the AFU counts; -1 if it does not tell. */
static int contexts_used(const struct afu_function *function)
{
	int used, most;

	if (sscanf(file_line(afu_path(function, "contexts")), "%d/%d", &used, &most) != 2 ||
	    most != CONTEXTS)
		return -1;
	return used;
}

/* Waits for an event and reads it, or returns a negative errno. */
static int read_event(int fd, struct uxive_event *event)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t length;

	memset(event, 0, sizeof(*event));
	if (poll(&pfd, 1, WATCHDOG_MS) != 1)
		return -ETIMEDOUT;
	length = read(fd, event, sizeof(*event));
	return length < 0 ? -errno : (length == EVENT ? 0 : -EIO);
}

/* Waits for the end of its AFU, however slow the driver is to find that. */
static bool hangs_up(int fd)
{
	struct pollfd pfd = { .fd = fd };

	return poll(&pfd, 1, AWAY_MS) == 1 && pfd.revents & POLLHUP;
}

/* Waits for the end, and reads on to the last event. 0 or a negative errno. */
static int read_gone(int fd, __u64 *reason)
{
	struct uxive_event event;
	int ret;

	if (!hangs_up(fd))
		return -ETIMEDOUT;
	do {
		ret = read_event(fd, &event);
	} while (!ret && event.header.type != UXIVE_EVENT_GONE);
	*reason = event.gone.reason;
	if (!ret && event.header.flags != OCXL_KERNEL_EVENT_FLAG_LAST)
		return -EPROTO;
	return ret;
}

/*
 * A context with all that one can have: attached, its MMIO mapped, interrupts that
 * are bound and mapped. Of each mapping the first page is touched and the last not.
 */
struct seat {
	int fd, efd[IRQS];
	long id;
	__u32 pasid;
	size_t mmio_size;
	void *mmio, *triggers;
	/* If the program drains. */
	void *esb, *queue;
	size_t esb_stride;
};

static bool seat_take(struct seat *seat, const struct afu_function *function, bool user_drain)
{
	struct uxive_user_drain drain = ux_drain_arg(-1);
	struct ocxl_ioctl_metadata metadata;
	__u64 offset;

	*seat = (struct seat){ .fd = afu_open(function) };
	if (seat->fd < 0 || afu_metadata(seat->fd, &metadata) || afu_attach(seat->fd))
		return false;
	seat->id = ux_context(seat->fd);
	seat->pasid = metadata.pasid;
	seat->mmio_size = metadata.pp_mmio_size;
	if (user_drain && ux_ioctl(seat->fd, UXIVE_IOC_USER_DRAIN, &drain))
		return false;
	for (int i = 0; i < IRQS; i++) {
		seat->efd[i] = eventfd(0, EFD_CLOEXEC);
		/* All of an AFU's come with a message, the last one has only that. */
		if (i == IRQS - 1 ? afu_ims_alloc(seat->fd, -1, &offset, NULL) :
				    ux_alloc(seat->fd, &offset))
			return false;
		if (offset != slot_offset(i) ||
		    (!user_drain && ux_bind(seat->fd, offset, seat->efd[i])))
			return false;
	}

	seat->mmio = afu_map(seat->fd);
	seat->triggers = ux_map(seat->fd, IRQ_BASE, IRQS * STRIDE);
	if (seat->mmio == MAP_FAILED || seat->triggers == MAP_FAILED || touch(seat->triggers))
		return false;
	if (mmio_read64(seat->mmio, AFU_PASID) != seat->pasid)
		return false;
	if (!user_drain)
		return true;

	seat->esb_stride = drain.esb_stride;
	seat->esb = mmap(NULL, IRQS * drain.esb_stride, PROT_READ | PROT_WRITE, MAP_SHARED,
			 seat->fd, drain.esb_offset);
	seat->queue = mmap(NULL, QUEUE_BYTES, PROT_READ, MAP_SHARED, seat->fd,
			   drain.queue_offset);
	return seat->esb != MAP_FAILED && seat->queue != MAP_FAILED &&
	       !look(seat->esb + drain.esb_stride / 2) && !look(seat->queue);
}

static void seat_unmap(struct seat *seat)
{
	munmap(seat->mmio, seat->mmio_size);
	munmap(seat->triggers, IRQS * STRIDE);
	if (seat->queue) {
		munmap(seat->esb, IRQS * seat->esb_stride);
		munmap(seat->queue, QUEUE_BYTES);
	}
}

static void seat_leave(struct seat *seat)
{
	seat_unmap(seat);
	for (int i = 0; i < IRQS; i++)
		close(seat->efd[i]);
	close(seat->fd);
}

/* How many of its pages are there after all, of those that were touched and of others. */
static int seat_pages(const struct seat *seat)
{
	int there = 0;

	for (size_t at = 0; at < seat->mmio_size; at += PAGE) {
		there += look(seat->mmio + at) != SIGBUS;
		there += touch(seat->mmio + at) != SIGBUS;
	}
	for (int i = 0; i < IRQS; i++)
		there += touch(seat->triggers + i * STRIDE) != SIGBUS;
	if (!seat->queue)
		return there;
	for (int i = 0; i < IRQS; i++) {
		there += touch(seat->esb + i * seat->esb_stride) != SIGBUS;
		there += look(seat->esb + i * seat->esb_stride + seat->esb_stride / 2) != SIGBUS;
	}
	return there + (look(seat->queue) != SIGBUS);
}

/* Resources of the machine in use before the AFU is bound, to compare with afterwards. */
struct before {
	long irqs, vp, queues;
	int linux_irqs, eventfds;
};

static struct before count_all(void)
{
	return (struct before){
		.irqs = all_irqs(),
		.vp = lowest_vp(),
		.queues = limit_get("queues"),
		.linux_irqs = linux_irqs(),
		.eventfds = events_in_use(),
	};
}

/* The debugfs tables have no context, but for those of tests. */
#define EXPECT_NOTHING_LEFT(before) do {				\
	const __typeof__(before) was_ = (before);			\
								\
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));	\
	EXPECT_EQ(0, debug_lines("slots", "", NULL, 0));		\
	EXPECT_EQ(0, debug_lines("queues", "", NULL, 0));		\
	EXPECT_EQ(0, debug_lines("quarantine", "", NULL, 0));		\
	EXPECT_EQ(was_.irqs, all_irqs());				\
	EXPECT_EQ(was_.queues, limit_get("queues"));		\
	EXPECT_EQ(was_.vp, lowest_vp());				\
	EXPECT_TRUE(becomes(linux_irqs(), was_.linux_irqs));	\
	EXPECT_TRUE(becomes(events_in_use(), was_.eventfds));	\
} while (0)

/* The first AFU, bound, and how the machine was before. */
struct stage {
	struct afu_function functions[AFU_MOST];
	int count;
	struct before before;
	char rescan[PATH_MAX];
	void *global;
};

/* Makes an AFU, whose memory must be enabled, return if it is away. */
static bool call_back_enabled(const struct afu_function *function)
{
	size_t length;
	void *memory = afu_map_bar(function, 2, &length);
	bool back = memory != MAP_FAILED &&
		    afu_misbehave(memory + mmio_read64(memory, 0x48), AFU_RETURN, 0, 0);

	munmap(memory, length);
	return back;
}

/* The same of one without a driver. */
static bool call_back(const struct afu_function *function)
{
	bool back;

	if (!afu_enable(function, "1"))
		return false;
	back = call_back_enabled(function);
	return afu_enable(function, "0") && back;
}

/* Has the function be reset: when this returns it has been. */
static bool function_reset(const struct afu_function *function)
{
	return !file_write(function_path(function, "reset"), "1");
}

static bool stage_bind(struct stage *stage)
{
	if (!call_back(stage->functions) || !becomes(afu_bind(stage->functions), 0))
		return false;
	stage->global = afu_map_global(stage->functions);
	return stage->global != MAP_FAILED;
}

static bool stage_set(struct stage *stage)
{
	catch_touches();
	stage->count = afu_functions(stage->functions);
	stage->before = count_all();
	return stage->count && stage->before.vp > 0 && !debug_lines("contexts", "", NULL, 0) &&
	       stage_bind(stage);
}

static bool stage_unbind(struct stage *stage)
{
	munmap(stage->global, PAGE);
	return !afu_unbind(stage->functions);
}

/* Makes the AFU go. The driver itself declares a silent one gone, a while later. */
static bool stage_end(struct stage *stage, enum end end)
{
	switch (end) {
	case UNBIND:
		return !afu_unbind(stage->functions);
	case REMOVE:
		return function_remove(stage->functions, stage->rescan);
	case RESET:
		return function_reset(stage->functions);
	case RECOVER:
		return afu_pe_failed(stage->functions, "1000000");
	default:
		return afu_misbehave(stage->global, AFU_VANISH, AWAY_MS, 0);
	}
}

/* Whether the AFU answers requests after it was told to return. */
static bool stage_answers(struct stage *stage)
{
	return afu_misbehave(stage->global, AFU_RETURN, 0, 0) &&
	       afu_misbehave(stage->global, AFU_STOP_STORM, 0, 0);
}

/* Waits until the AFU works again after a reset, or resets it once more. */
static bool stage_begins_anew(struct stage *stage)
{
	munmap(stage->global, PAGE);
	/* One that is away does not answer to the driver either. Another reset cures this. */
	if (!becomes(logged(RESETS, WAS_RESET) + logged(RESETS, IS_OF_NO_USE), 1) ||
	    !log_line(NO_MORE_ERRORS) || !call_back_enabled(stage->functions))
		return false;
	if (!logged(RESETS, WAS_RESET) && !function_reset(stage->functions))
		return false;
	stage->global = afu_map_global(stage->functions);
	return stage->global != MAP_FAILED;
}

/* Makes it return, if it is away, and binds it again. */
static bool stage_return(struct stage *stage, enum end end)
{
	if (begins_anew(end))
		return stage_begins_anew(stage);
	if (stays_bound(end) && (!stage_answers(stage) || afu_unbind(stage->functions)))
		return false;
	/* By all buses: that of the bridge alone is for when the test is over. */
	if (end == REMOVE && (file_write("/sys/bus/pci/rescan", "1") ||
			      !becomes(access(function_path(stage->functions, "driver_override"),
					      F_OK), 0)))
		return false;
	munmap(stage->global, PAGE);
	return stage_bind(stage);
}

FIXTURE(gone) {
	struct stage stage;
};

FIXTURE_VARIANT(gone) {
	enum end end;
	__u64 reason;
};

FIXTURE_VARIANT_ADD(gone, unbound) {
	.end = UNBIND,
	.reason = UXIVE_GONE_UNBOUND,
};

FIXTURE_VARIANT_ADD(gone, removed) {
	.end = REMOVE,
	.reason = UXIVE_GONE_UNBOUND,
};

FIXTURE_VARIANT_ADD(gone, silent) {
	.end = SILENT,
	.reason = UXIVE_GONE_SILENT,
};

FIXTURE_VARIANT_ADD(gone, reset) {
	.end = RESET,
	.reason = UXIVE_GONE_RESET,
};

FIXTURE_VARIANT_ADD(gone, recovered) {
	.end = RECOVER,
	.reason = UXIVE_GONE_RESET,
};

FIXTURE_SETUP(gone)
{
	ASSERT_TRUE(stage_set(&self->stage));
	ASSERT_TRUE(log_line(RESETS));
}

/*
 * A function that is found again before the last file of the removed one is closed
 * has no PE after that, and so no new messages: pnv_pci_release_device() takes the
 * PE from the function that now has the address. Another removal cures this.
 */
FIXTURE_TEARDOWN(gone)
{
	EXPECT_TRUE(stage_unbind(&self->stage));
	if (variant->end == REMOVE) {
		EXPECT_TRUE(function_remove(self->stage.functions, self->stage.rescan));
		EXPECT_EQ(0, file_write(self->stage.rescan, "1"));
	}
	EXPECT_NOTHING_LEFT(self->stage.before);
}

/* A thread that waits for something of a context. */
struct waiter {
	pthread_t thread;
	atomic_int id;
	struct seat *seat;
	/* The event that woke it. */
	atomic_long woken;
	__u64 reason;
};

static void *wait_for_events(void *data)
{
	struct waiter *waiter = data;
	struct uxive_event event;
	long last = 0;
	ssize_t length;

	waiter->id = gettid();
	while ((length = read(waiter->seat->fd, &event, EVENT)) == EVENT) {
		last = event.header.type;
		waiter->reason = event.gone.reason;
	}
	waiter->woken = length < 0 && errno == ENODEV ? last : -1;
	return NULL;
}

/* POLLHUP cannot be left out. */
static void *wait_by_poll(void *data)
{
	struct waiter *waiter = data;
	struct pollfd pfd = { .fd = waiter->seat->fd };

	waiter->id = gettid();
	waiter->woken = poll(&pfd, 1, -1) == 1 ? pfd.revents : -1;
	return NULL;
}

static void *wait_by_epoll(void *data)
{
	struct waiter *waiter = data;
	struct epoll_event event = {};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	waiter->id = gettid();
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, waiter->seat->fd, &event) ||
	    epoll_wait(epoll, &event, 1, -1) != 1)
		event.events = -1;
	waiter->woken = event.events;
	close(epoll);
	return NULL;
}

static void *wait_for_interrupt(void *data)
{
	struct waiter *waiter = data;
	__u64 count = 0;

	waiter->id = gettid();
	if (read(waiter->seat->efd[QUIET], &count, sizeof(count)) != sizeof(count))
		count = -1;
	waiter->woken = count;
	return NULL;
}

/* Does not wait, but rings as fast as it can. */
static void *ring_to_the_end(void *data)
{
	struct waiter *waiter = data;
	int sig;

	waiter->id = gettid();
	do {
		sig = touch(waiter->seat->triggers);
	} while (!sig);
	waiter->woken = sig;
	return NULL;
}

/* A child that has the seat's mappings and file, and reports when it may. */
struct heir {
	pid_t child;
	int go;
};

static bool heir_start(struct heir *heir, const struct seat *seat)
{
	int go[2];
	char byte;

	if (pipe2(go, O_CLOEXEC))
		return false;
	heir->go = go[1];
	heir->child = fork();
	if (heir->child)
		return heir->child > 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(go[0], &byte, 1) != 1)
		_exit(-1);
	_exit(seat_pages(seat) + (afu_attach(seat->fd) != -ENODEV));
}

static int heir_status(struct heir *heir)
{
	return write(heir->go, "", 1) == 1 ? child_status(heir->child) : -1;
}

TEST_F(gone, all_that_a_program_has_ends_and_it_is_told)
{
	static void *(* const waits[])(void *) = {
		wait_for_events, wait_by_poll, wait_by_epoll, wait_for_interrupt, ring_to_the_end
	};
	enum { EVENTS, POLL, EPOLL, INTERRUPT, RINGS, WAITERS };
	struct afu_command quiet = { .opcode = AFU_RAISE, .value = QUIET };
	struct stage *stage = &self->stage;
	struct waiter waiters[WAITERS] = {};
	struct seat bells, drained, next;
	struct heir heirs[2];
	struct uxive_event event;
	struct ocxl_ioctl_metadata metadata;
	struct uxive_info info = { .size = sizeof(info) };
	struct uxive_ims_alloc ims = { .size = sizeof(ims), .eventfd = -1 };
	__u64 offset, reason, features[4];
	void *map;
	long irqs;
	char path[64];
	int ret, fd;

	ASSERT_TRUE(seat_take(&bells, stage->functions, false));
	ASSERT_TRUE(seat_take(&drained, stage->functions, true));
	irqs = all_irqs();
	ASSERT_TRUE(heir_start(&heirs[0], &bells));
	ASSERT_TRUE(heir_start(&heirs[1], &drained));
	for (int i = 0; i < WAITERS; i++) {
		waiters[i].seat = &bells;
		ASSERT_EQ(0, pthread_create(&waiters[i].thread, NULL, waits[i], &waiters[i]));
		ASSERT_TRUE(i == RINGS ? becomes(waiters[i].id != 0, true) :
			    becomes(is_waiting(waiters[i].id), true));
	}
	ASSERT_TRUE(afu_misbehave(stage->global, AFU_STORM, bells.pasid * SLOTS_EACH + 1, 0));
	ASSERT_NE(0, event_wait(bells.efd[1]));
	ASSERT_EQ(0, polled(drained.fd, POLLIN) & POLLHUP);

	ASSERT_TRUE(stage_end(stage, variant->end));
	for (int i = 0; i < WAITERS; i++)
		if (i != INTERRUPT)
			ASSERT_EQ(0, pthread_join(waiters[i].thread, NULL));
	EXPECT_EQ(UXIVE_EVENT_GONE, waiters[EVENTS].woken);
	EXPECT_EQ(variant->reason, waiters[EVENTS].reason);
	EXPECT_EQ(POLLHUP, waiters[POLL].woken);
	EXPECT_EQ(EPOLLHUP, waiters[EPOLL].woken);
	EXPECT_EQ(SIGBUS, waiters[RINGS].woken);

	/* In its turn, as the last. Contexts are ended one after the other. */
	EXPECT_TRUE(becomes(polled(drained.fd, POLLIN), (POLLIN | POLLHUP)));
	EXPECT_EQ(0, read_gone(drained.fd, &reason));
	EXPECT_EQ(variant->reason, reason);
	EXPECT_EQ(POLLHUP, polled(drained.fd, POLLIN));
	for (int i = 0; i < 2; i++)
		EXPECT_ERRNO(read, ENODEV, read_event(drained.fd, &event));

	/* No page, old or new, here or in a child. */
	EXPECT_EQ(0, seat_pages(&bells));
	EXPECT_EQ(0, seat_pages(&drained));
	EXPECT_EQ(0, heir_status(&heirs[0]));
	EXPECT_EQ(0, heir_status(&heirs[1]));
	map = ux_map(bells.fd, IRQ_BASE, STRIDE);
	EXPECT_EQ(SIGBUS, touch(map));
	munmap(map, STRIDE);
	ret = write(bells.efd[0], bells.mmio, 8);
	EXPECT_EQ(-1, ret);
	EXPECT_EQ(EFAULT, errno);

	fd = bells.fd;
	offset = slot_offset(0);
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, ENODEV, afu_attach(fd));
	EXPECT_ERRNO(OCXL_IOCTL_GET_METADATA, ENODEV, afu_metadata(fd, &metadata));
	EXPECT_ERRNO(OCXL_IOCTL_GET_FEATURES, ENODEV,
		     ux_ioctl(fd, OCXL_IOCTL_GET_FEATURES, features));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENODEV, ux_alloc(fd, &offset));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, ENODEV, ux_bind(fd, slot_offset(0), bells.efd[0]));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, ENODEV, ux_free(fd, slot_offset(0)));
	EXPECT_ERRNO(UXIVE_IOC_INFO, ENODEV, ux_ioctl(fd, UXIVE_IOC_INFO, &info));
	EXPECT_ERRNO(UXIVE_IOC_USER_DRAIN, ENODEV, ux_user_drain(fd, -1));
	EXPECT_ERRNO(UXIVE_IOC_ARM, ENODEV, ux_arm(drained.fd));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC, ENODEV, ux_alloc_on(fd, -1, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENODEV, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, &ims));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_ALLOC_MANY, ENODEV, ux_alloc_at(fd, 10, 2));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_MANY, ENODEV, ux_free_many(fd, 0, 1));
	EXPECT_ERRNO(UXIVE_IOC_IRQ_FREE_ALL, ENODEV, ux_free_all(fd));
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, ENODEV,
		     ux_set_irqs(fd, UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER, 0, 1, NULL));

	/* It cannot be opened, by its node or by an old descriptor's path. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!begins_anew(variant->end)) {
		if (stays_bound(variant->end)) {
			EXPECT_ERRNO(open, ENODEV, afu_open(stage->functions));
		} else {
			/* There is no node any more. */
			EXPECT_EQ(-ENOENT, afu_open(stage->functions));
		}
		ret = open(path, O_RDWR);
		EXPECT_EQ(-1, ret);
		EXPECT_TRUE(errno == ENODEV || errno == ENXIO) TH_LOG("errno %d", errno);
	}

	/* The global MMIO is gone, too. Only a silent AFU's can be touched anew. */
	EXPECT_EQ(variant->end == SILENT ? 0 : SIGBUS, look(stage->global));

	/* Bound again while these files are open, the AFU serves others. */
	EXPECT_EQ(irqs, all_irqs());
	if (stays_bound(variant->end) && !begins_anew(variant->end)) {
		/* One that comes back raises nothing. */
		ASSERT_TRUE(stage_answers(stage));
		for (int i = 0; i < IRQS; i++) {
			fcntl(bells.efd[i], F_SETFL, O_NONBLOCK);
			if (i != QUIET)
				event_read(bells.efd[i]);
			EXPECT_TRUE(afu_misbehave(stage->global, AFU_SPURIOUS,
						  bells.pasid * SLOTS_EACH + i, 0));
		}
		EXPECT_TRUE(stage_answers(stage));
		for (int i = 0; i < IRQS - 1; i++)
			EXPECT_EQ(0, event_read(bells.efd[i]));
	}
	ASSERT_TRUE(stage_return(stage, variant->end));
	ASSERT_TRUE(seat_take(&next, stage->functions, false));
	EXPECT_EQ(bells.pasid, next.pasid);
	for (size_t at = mmio_read64(next.mmio, AFU_DATA_OFFSET); at < next.mmio_size; at += 8) {
		if (mmio_read64(next.mmio, at)) {
			EXPECT_EQ(0, at);
			break;
		}
	}
	EXPECT_EQ(0, seat_pages(&bells));
	EXPECT_EQ(-ENODEV, afu_attach(bells.fd));
	/* That of the seat's own taking. */
	EXPECT_LE(1, event_wait(next.efd[0]));
	/*
	 * The function keeps a message pending that the AFU raised while nobody had the
	 * slot, and sends it when the slot has an owner: before this one. This one
	 * itself may still come then.
	 */
	EXPECT_EQ(AFU_DONE, afu_do(next.mmio, &quiet));
	EXPECT_LE(1, event_wait(next.efd[QUIET]));
	for (int i = 0; i < IRQS; i++) {
		struct afu_command raise = { .opcode = AFU_RAISE, .value = i };

		if (polled(next.efd[i], POLLIN) & POLLIN)
			event_read(next.efd[i]);
		EXPECT_EQ(AFU_DONE, afu_do(next.mmio, &raise));
		EXPECT_EQ(1, event_wait(next.efd[i]));
	}

	/* Nobody was woken by an interrupt that was none. */
	EXPECT_EQ(0, waiters[INTERRUPT].woken);
	fcntl(bells.efd[QUIET], F_SETFL, 0);
	event_add(bells.efd[QUIET], 7);
	ASSERT_EQ(0, pthread_join(waiters[INTERRUPT].thread, NULL));
	EXPECT_EQ(7, waiters[INTERRUPT].woken);

	/* At the last close all of it is back; the other is as before. */
	seat_leave(&drained);
	seat_leave(&bells);
	EXPECT_EQ(1, debug_lines("contexts", "", NULL, 0));
	EXPECT_EQ(2 * IRQS - 1, all_irqs() - stage->before.irqs);
	EXPECT_EQ(1, contexts_used(stage->functions));
	touch(next.triggers);
	EXPECT_EQ(1, event_wait(next.efd[0]));
	seat_leave(&next);
}

/* Has the AFU be away in the middle of a copy. */
static bool copy_half(struct stage *stage, struct seat *seat)
{
	struct afu_command copy = { .opcode = AFU_COPY, .destination = PAGE, .length = PAGE };
	size_t data = mmio_read64(seat->mmio, AFU_DATA_OFFSET);

	for (size_t at = 0; at < PAGE; at += 8)
		mmio_write64(seat->mmio, data + at, 0x5a);
	if (!afu_misbehave(stage->global, AFU_VANISH_HALF, AWAY_MS, 0))
		return false;
	afu_submit(seat->mmio, &copy);
	return becomes(mmio_read64(seat->mmio, data + PAGE), 0x5a) &&
	       !mmio_read64(seat->mmio, data + 2 * PAGE - 8);
}

/* However many events were not read. */
TEST_F(gone, a_full_log_has_room_for_the_end)
{
	struct afu_command error = { .opcode = AFU_ERROR };
	struct stage *stage = &self->stage;
	int events = 0, last = -1, flags = 0, ret;
	unsigned long count = 0, errors = 0;
	struct uxive_event event;
	__u64 reason = 0;
	struct seat seat;
	size_t length;
	void *memory;
	__u32 ping;

	ASSERT_TRUE(seat_take(&seat, stage->functions, false));
	memory = afu_map_bar(stage->functions, 2, &length);
	ASSERT_NE(MAP_FAILED, memory);
	ping = afu_ping(memory);
	/*
	 * More often than there is room for. Between two of the driver's looks there is one at
	 * least, but it may be found by either.
	 */
	for (int looks = 0; looks < ROOM + 8; usleep(10000)) {
		errors += afu_do(seat.mmio, &error) == AFU_FAILED;
		if (afu_ping(memory) == ping)
			continue;
		ping = afu_ping(memory);
		looks++;
		progress();
	}
	munmap(memory, length);
	ASSERT_TRUE(stage_end(stage, variant->end));
	ASSERT_TRUE(hangs_up(seat.fd));
	while (!(ret = read_event(seat.fd, &event))) {
		EXPECT_NE(UXIVE_EVENT_DROPPED, event.header.type);
		if (event.header.type == UXIVE_EVENT_AFU_ERROR)
			count += event.afu_error.count;
		last = event.header.type;
		flags = event.header.flags;
		reason = event.gone.reason;
		events++;
	}
	TH_LOG("%lu of %lu errors in %d events", count, errors, events - 1);
	EXPECT_EQ(-ENODEV, ret);
	EXPECT_EQ(UXIVE_EVENT_GONE, last);
	EXPECT_EQ(variant->reason, reason);
	EXPECT_EQ(OCXL_KERNEL_EVENT_FLAG_LAST, flags);
	EXPECT_EQ(ROOM + 1, events);
	seat_leave(&seat);
	ASSERT_TRUE(stage_return(stage, variant->end));
}

/* Has the interrupt of a slot given to a guest. Returns the guest, or -1. */
static int guest_of(int fd, int slot, int efd)
{
	int guest = guest_open();

	if (guest >= 0 && !bind_bypass(fd, slot, efd) && !guest_register(guest, efd) &&
	    guest_wait(guest) == 1)
		return guest;
	close(guest);
	return -1;
}

TEST_F(gone, guests_have_its_interrupts_no_more)
{
	/* The first is a message. There is none for those beyond the slots of the AFU. */
	static const int slots[] = { 0, SLOTS_EACH };
	struct stage *stage = &self->stage;
	int guests[ARRAY_SIZE(slots)];
	long was_on = limit_get("bypass");
	struct afu_context context;
	__u64 offset, reason = 0;
	__s32 efds[] = { event_new(), event_new() };
	void *page;

	ASSERT_EQ(0, module_load(CONSUMER_MODULE));
	ASSERT_TRUE(switch_bypass(true));
	ASSERT_TRUE(afu_context_open(&context, stage->functions));
	ASSERT_EQ(0, afu_ims_alloc(context.fd, -1, &offset, NULL));
	ASSERT_EQ(0, ux_alloc_at(context.fd, SLOTS_EACH, 1));
	page = ux_map(context.fd, slot_offset(SLOTS_EACH), STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		guests[i] = guest_of(context.fd, slots[i], efds[i]);
		ASSERT_LE(0, guests[i]);
	}
	for (int rings = 0; rings < 2; rings++) {
		ASSERT_TRUE(afu_raise(context.mmio, 0));
		ring(page);
		/* The last is not ended by the guest. */
		for (size_t i = 0; i < ARRAY_SIZE(slots) && !rings; i++)
			ASSERT_EQ(1, guest_wait(guests[i]));
	}
	ASSERT_TRUE(stage_end(stage, variant->end));
	ASSERT_EQ(0, read_gone(context.fd, &reason));
	EXPECT_EQ(variant->reason, reason);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		EXPECT_FALSE(guest_has(guests[i])) TH_LOG("slot %d", slots[i]);
		EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, ENODEV,
			     bind_bypass(context.fd, slots[i], efds[i]));
		/* One event is sent when it comes back. */
		EXPECT_LE(1, event_wait(efds[i]));
		guest_take(guests[i]);
	}
	EXPECT_EQ(0, limit_get("bypasses"));
	/* Nor does a guest that comes now get any. */
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		EXPECT_EQ(0, guest_unregister(guests[i]));
		EXPECT_EQ(0, guest_register(guests[i], efds[i]));
		EXPECT_FALSE(guest_has(guests[i]));
	}
	munmap(page, STRIDE);
	afu_context_close(&context);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		close(guests[i]);
		close(efds[i]);
	}
	EXPECT_TRUE(switch_bypass(was_on));
	EXPECT_EQ(0, module_unload("consumer"));
	ASSERT_TRUE(stage_return(stage, variant->end));
}

/* A child that has a context and rings, until it is killed. */
static pid_t holder_start(struct stage *stage, bool user_drain, bool half)
{
	pid_t child;
	int ready[2];
	char byte = 0;

	if (pipe(ready))
		return -1;
	child = fork();
	if (!child) {
		struct seat seat;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		if (seat_take(&seat, stage->functions, user_drain) &&
		    (!half || copy_half(stage, &seat)) && write(ready[1], "", 1) == 1)
			for (;; usleep(1000))
				touch(seat.triggers);
		_exit(1);
	}
	close(ready[1]);
	if (child > 0 && read(ready[0], &byte, 1) != 1) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		child = -1;
	}
	close(ready[0]);
	return child;
}

TEST_F(gone, in_mid_command_its_holders_may_be_killed_before_or_after)
{
	struct stage *stage = &self->stage;
	pid_t before, after, drained;
	struct seat watch;
	__u64 reason;

	ASSERT_TRUE(seat_take(&watch, stage->functions, false));
	/* One that is closed while its AFU is silent, and not gone yet. */
	ASSERT_TRUE(log_line(QUARANTINES));
	drained = holder_start(stage, true, false);
	after = holder_start(stage, false, false);
	ASSERT_LT(0, drained);
	ASSERT_LT(0, after);
	before = holder_start(stage, false, true);
	ASSERT_LT(0, before);
	kill(before, SIGKILL);
	if (variant->end != SILENT)
		ASSERT_TRUE(stage_end(stage, variant->end));
	ASSERT_EQ(0, read_gone(watch.fd, &reason));
	EXPECT_EQ(variant->reason, reason);
	EXPECT_EQ(-SIGKILL, child_status(before));
	kill(after, SIGKILL);
	kill(drained, SIGKILL);
	EXPECT_EQ(-SIGKILL, child_status(after));
	EXPECT_EQ(-SIGKILL, child_status(drained));

	/* None waits for an AFU that is gone. */
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 1));
	log_line(NO_MORE_QUARANTINES);
	seat_leave(&watch);
	EXPECT_EQ(0, debug_lines("contexts", "", NULL, 0));
	EXPECT_EQ(stage->before.irqs, all_irqs());
	ASSERT_TRUE(stage_return(stage, variant->end));
	ASSERT_TRUE(seat_take(&watch, stage->functions, false));
	seat_leave(&watch);
}

/* Has up to @count contexts take all messages that there are. Returns how many those are. */
static int take_messages(const struct afu_function *function, int *fds, int count)
{
	int taken = 0, ret = 0;
	__u64 offset;

	for (int i = 0; i < count; i++) {
		fds[i] = ret ? -1 : afu_open(function);
		while (!ret && fds[i] >= 0) {
			ret = afu_ims_alloc(fds[i], -1, &offset, NULL);
			taken += !ret;
			progress();
			/* It has as many as the AFU has slots for it. */
			if (ret == -ENOSPC && taken % SLOTS_EACH == 0)
				break;
		}
		if (ret == -ENOSPC && taken % SLOTS_EACH == 0)
			ret = 0;
	}
	return ret ? ret : taken;
}

FIXTURE(afu) {
	struct stage stage;
	struct afu_function *function;
};

FIXTURE_SETUP(afu)
{
	ASSERT_TRUE(stage_set(&self->stage));
	self->function = self->stage.functions;
}

FIXTURE_TEARDOWN(afu)
{
	EXPECT_TRUE(stage_unbind(&self->stage));
	EXPECT_NOTHING_LEFT(self->stage.before);
}

TEST_F(afu, all_messages_are_there_again_when_the_last_file_is_closed)
{
	const int contexts = fewer_with_lockdep(CONTEXTS, 8);
	int fds[CONTEXTS], taken[3];

	for (int round = 0; round < 3; round++) {
		taken[round] = take_messages(self->function, fds, contexts);
		EXPECT_EQ(taken[0], taken[round]);
		if (round < 2) {
			ASSERT_TRUE(stage_end(&self->stage, round ? REMOVE : UNBIND));
			EXPECT_EQ(self->stage.before.irqs + taken[0], all_irqs());
		}
		for (int i = 0; i < contexts; i++)
			close(fds[i]);
		EXPECT_EQ(self->stage.before.irqs, all_irqs());
		if (round < 2)
			ASSERT_TRUE(stage_return(&self->stage, round ? REMOVE : UNBIND));
	}
	TH_LOG("%d messages, before and after", taken[0]);
	EXPECT_EQ(contexts * SLOTS_EACH, taken[0]);
}

/* Results of the threads while the AFU came and went. */
struct race {
	struct stage *stage;
	atomic_bool over;
	atomic_long opened, refused, ended, signals, events, wrong;
	atomic_int error;
};

/* Whether to go on: a call did what it should, or the AFU is gone. */
static bool race_goes_on(struct race *race, int ret)
{
	if (!ret)
		return true;
	if (ret == -ENODEV) {
		race->ended++;
	} else {
		race->error = ret;
		race->wrong++;
	}
	return false;
}

static void race_once(struct race *race, int fd)
{
	struct ocxl_ioctl_metadata metadata;
	struct uxive_event event;
	__u64 offset, message, pasid;
	void *mmio, *triggers;
	int efd = event_new();

	if (!race_goes_on(race, afu_metadata(fd, &metadata)) ||
	    !race_goes_on(race, afu_attach(fd)) ||
	    !race_goes_on(race, ux_alloc(fd, &offset)) ||
	    !race_goes_on(race, afu_ims_alloc(fd, efd, &message, NULL)) ||
	    !race_goes_on(race, ux_bind(fd, offset, efd)))
		goto out;
	mmio = mmap(NULL, metadata.pp_mmio_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	triggers = ux_map(fd, offset, STRIDE);
	if (mmio == MAP_FAILED || triggers == MAP_FAILED) {
		race->wrong++;
		goto out;
	}
	for (int n = 0; n < 20; n++) {
		race->signals += !!touch(triggers);
		/* It may go now, but is no other's. */
		if (load(mmio + AFU_PASID, &pasid))
			race->signals++;
		else
			race->wrong += pasid != metadata.pasid;
		if (read(fd, &event, EVENT) == EVENT)
			race->events++;
	}
	munmap(mmio, metadata.pp_mmio_size);
	munmap(triggers, STRIDE);
	if (race_goes_on(race, ux_free(fd, offset)))
		race_goes_on(race, ux_free(fd, message));
out:
	close(efd);
}

static void *opener_run(void *data)
{
	struct race *race = data;

	while (!race->over) {
		int fd = open(afu_path(race->stage->functions, NULL),
			      O_RDWR | O_CLOEXEC | O_NONBLOCK);

		if (fd >= 0) {
			race->opened++;
			race_once(race, fd);
			close(fd);
		} else if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
			race->refused++;
		} else {
			race->error = -errno;
			race->wrong++;
		}
	}
	return NULL;
}

/* Threads that store to it all the time, and how often one was ended by a reset. */
struct storers {
	struct afu_function *function;
	atomic_bool over;
	atomic_int storing;
	atomic_long stores, ended, wrong;
};

#define STORERS	2

/* Stores to the page until that is gone, which it has to be before the function is. */
static void store_to_the_end(struct storers *storers, void *page)
{
	if (page == MAP_FAILED || touch(page)) {
		storers->wrong++;
		return;
	}
	storers->storing++;
	while (!storers->over) {
		if (touch(page)) {
			storers->ended++;
			break;
		}
		storers->stores++;
	}
	storers->storing--;
}

static void *store_to_its_context(void *data)
{
	struct storers *storers = data;

	while (!storers->over) {
		struct ocxl_ioctl_metadata metadata;
		int fd = afu_open(storers->function);
		void *mmio;

		if (fd >= 0 && !afu_metadata(fd, &metadata) && !afu_attach(fd)) {
			mmio = mmap(NULL, metadata.pp_mmio_size, PROT_READ | PROT_WRITE, MAP_SHARED,
				    fd, 0);
			store_to_the_end(storers, mmio == MAP_FAILED ? mmio : mmio + PAGE);
			munmap(mmio, metadata.pp_mmio_size);
		} else {
			storers->wrong += errno != ENODEV;
		}
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *store_to_all_contexts(void *data)
{
	struct storers *storers = data;

	while (!storers->over) {
		void *global = afu_map_global(storers->function);

		/* The file is away as long. */
		if (global == MAP_FAILED)
			continue;
		store_to_the_end(storers, global + PAGE - 8);
		munmap(global, PAGE);
	}
	return NULL;
}

TEST_F(afu, nothing_reaches_it_while_it_is_reset)
{
	static void *(* const ways[])(void *) = { store_to_its_context, store_to_all_contexts };
	enum { WAYS = sizeof(ways) / sizeof(*ways), RESET_ROUNDS = 8 };
	struct storers storers = { .function = self->function };
	struct race race = { .stage = &self->stage };
	pthread_t threads[WAYS][STORERS], racers[RACERS];

	for (int i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_create(&racers[i], NULL, opener_run, &race));
	for (int i = 0; i < WAYS * STORERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i / STORERS][i % STORERS], NULL,
					    ways[i / STORERS], &storers));
	for (int round = 0; round < RESET_ROUNDS; round++) {
		long opened = race.opened;

		/* All of them are at it. */
		EXPECT_TRUE(becomes(storers.storing, WAYS * STORERS));
		EXPECT_TRUE(becomes(race.opened > opened, true));
		progress();
		ASSERT_TRUE(log_line(RESETS));
		ASSERT_TRUE(function_reset(self->function));
		EXPECT_EQ(1, logged(RESETS, WAS_RESET));
	}
	EXPECT_TRUE(becomes(storers.storing, WAYS * STORERS));
	storers.over = true;
	race.over = true;
	for (int i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_join(racers[i], NULL));
	for (int i = 0; i < WAYS * STORERS; i++)
		ASSERT_EQ(0, pthread_join(threads[i / STORERS][i % STORERS], NULL));
	TH_LOG("%ld stores; %ld opened, %ld not, %ld ENODEV, %ld SIGBUS", storers.stores,
	       race.opened, race.refused, race.ended, race.signals);
	EXPECT_EQ(RESET_ROUNDS * WAYS * STORERS, storers.ended);
	EXPECT_EQ(0, storers.wrong);
	EXPECT_EQ(0, race.wrong) TH_LOG("the last error was %d", race.error);
	EXPECT_LT(0, race.ended + race.signals);
	munmap(self->stage.global, PAGE);
	self->stage.global = afu_map_global(self->function);
	EXPECT_NE(MAP_FAILED, self->stage.global);
}

TEST_F(afu, one_that_does_not_answer_after_a_reset_is_gone_until_the_next)
{
	struct seat seat;
	__u64 reason;

	ASSERT_TRUE(seat_take(&seat, self->function, false));
	ASSERT_EQ(0, file_write(afu_path(self->function, "max_message_rate"), "777"));
	ASSERT_TRUE(log_line(RESETS));
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_VANISH, AWAY_MS, 0));
	ASSERT_TRUE(stage_end(&self->stage, RESET));
	EXPECT_EQ(1, logged(RESETS, IS_OF_NO_USE));
	EXPECT_EQ(0, read_gone(seat.fd, &reason));
	EXPECT_EQ(UXIVE_GONE_RESET, reason);
	seat_leave(&seat);
	EXPECT_ERRNO(open, ENODEV, afu_open(self->function));
	EXPECT_NE(0, access(afu_path(self->function, "global_mmio_area"), F_OK));

	ASSERT_TRUE(stage_return(&self->stage, RESET));
	EXPECT_EQ(1, logged(RESETS, WAS_RESET));
	ASSERT_TRUE(seat_take(&seat, self->function, false));
	/* The limits that root has set are unchanged. */
	EXPECT_STREQ("777", file_line(afu_path(self->function, "max_message_rate")));
	seat_leave(&seat);
}

#define RESUMED_MODULE	"/modules/resumed.ko"

/* Whose driver was bound too late to be told of the error, has the AFU begin anew all the same. */
TEST_F(afu, one_that_is_bound_while_its_function_recovers_begins_anew)
{
	char parameters[64];
	struct seat seat, next;
	__u64 reason = 0;

	if (access(RESUMED_MODULE, R_OK))
		SKIP(return, "there is no resumed.ko for this kernel");
	snprintf(parameters, sizeof(parameters), "function=%s", self->function->address);
	ASSERT_TRUE(seat_take(&seat, self->function, false));
	ASSERT_TRUE(log_line(RESETS));
	ASSERT_EQ(0, module_load_with(RESUMED_MODULE, parameters));
	ASSERT_EQ(0, module_unload("resumed"));
	EXPECT_EQ(1, logged(RESETS, WAS_RESET));
	/* From here on nobody shares a place with the next owner. */
	EXPECT_NE(0, polled(seat.fd, POLLIN) & POLLHUP);
	EXPECT_EQ(0, seat_pages(&seat));
	ASSERT_TRUE(seat_take(&next, self->function, false));
	EXPECT_EQ(seat.pasid, next.pasid);
	EXPECT_EQ(0, read_gone(seat.fd, &reason));
	EXPECT_EQ(UXIVE_GONE_RESET, reason);
	seat_leave(&seat);
	seat_leave(&next);
	munmap(self->stage.global, PAGE);
	self->stage.global = afu_map_global(self->function);
	EXPECT_NE(MAP_FAILED, self->stage.global);
}

TEST_F(afu, what_reads_as_all_ones_is_not_there)
{
	struct seat seat;
	__u64 reason;
	int fd;

	ASSERT_TRUE(seat_take(&seat, self->function, false));
	fd = afu_open(self->function);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(log_line(RESETS));
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_ABSENT, 0, 0));
	/* Not EIO, as of one that is there and slow. */
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, ENODEV, afu_attach(fd));
	EXPECT_EQ(0, read_gone(seat.fd, &reason));
	EXPECT_EQ(UXIVE_GONE_SILENT, reason);
	EXPECT_EQ(0, read_gone(fd, &reason));
	EXPECT_EQ(1, logged(RESETS, ": it is not there any more"));
	EXPECT_EQ(0, seat_pages(&seat));
	close(fd);
	seat_leave(&seat);
	EXPECT_EQ(0, debug_lines("contexts", "", NULL, 0));

	/* Nor is one like that bound. */
	EXPECT_EQ(0, afu_unbind(self->function));
	EXPECT_ERRNO(bind, ENODEV, afu_bind(self->function));
	munmap(self->stage.global, PAGE);
	ASSERT_TRUE(stage_bind(&self->stage));
}

TEST_F(afu, all_may_be_in_use_while_it_comes_and_goes)
{
	const int rounds = fewer_with_lockdep(50, 25);
	struct race race = { .stage = &self->stage };
	pthread_t threads[RACERS];
	long opened = 0;

	for (int i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, opener_run, &race));
	for (int round = 0; round < rounds; round++) {
		/* Each round hits the threads at another moment. */
		EXPECT_TRUE(becomes(race.opened > opened, true));
		opened = race.opened;
		progress();
		usleep(round * 10000 / rounds);
		ASSERT_EQ(0, afu_unbind(self->function));
		ASSERT_EQ(0, afu_bind(self->function));
	}
	race.over = true;
	for (int i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	TH_LOG("%d rounds: %ld opened, %ld not, %ld ENODEV, %ld SIGBUS, %ld events",
	       rounds, race.opened, race.refused, race.ended, race.signals, race.events);
	EXPECT_EQ(0, race.wrong) TH_LOG("the last error was %d", race.error);
	EXPECT_LT(0, race.ended + race.signals);
}

#define BINDERS	4

/* Has an interrupt given to a guest and takes it back, until there is no AFU. */
struct binder {
	pthread_t thread;
	int fd, slot, efd, guest;
	atomic_long binds;
	/* It was the guest's at the end. */
	bool was_bound;
	int error;
};

static void *binder_run(void *arg)
{
	struct binder *binder = arg;
	int fd = binder->fd, slot = binder->slot, ret;

	do {
		ret = bind_bypass(fd, slot, binder->efd);
		binder->was_bound = !ret;
		atomic_fetch_add(&binder->binds, !ret);
		if (!ret && slot != SLOTS_EACH)
			ret = ux_bind(fd, slot_offset(slot), -1);
		else if (!ret)
			ret = ux_free(fd, slot_offset(slot)) ?: ux_alloc_at(fd, slot, 1);
	} while (!ret);
	binder->error = ret;
	return NULL;
}

TEST_F(afu, guests_are_given_interrupts_while_it_goes)
{
	const int rounds = fewer_with_lockdep(50, 25);
	struct binder binders[BINDERS];
	long was_on = limit_get("bypass"), binds = 0;
	int taken = 0;

	ASSERT_EQ(0, module_load(CONSUMER_MODULE));
	ASSERT_TRUE(switch_bypass(true));
	for (int i = 0; i < BINDERS; i++) {
		binders[i].guest = guest_open();
		binders[i].efd = event_new();
		ASSERT_EQ(0, guest_register(binders[i].guest, binders[i].efd));
	}
	for (int round = 0; round < rounds; round++) {
		int fd = afu_open(self->function);
		__u64 offset;

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, afu_ims_alloc(fd, -1, &offset, NULL));
		ASSERT_EQ(0, ux_alloc_at(fd, SLOTS_EACH, BINDERS - 1));
		for (int i = 0; i < BINDERS; i++) {
			struct binder *binder = &binders[i];

			binder->fd = fd;
			binder->slot = i ? SLOTS_EACH + i - 1 : 0;
			atomic_store(&binder->binds, 0);
			ASSERT_EQ(0, pthread_create(&binder->thread, NULL, binder_run, binder));
		}
		for (int i = 0; i < BINDERS; i++)
			EXPECT_TRUE(becomes(atomic_load(&binders[i].binds) > 0, true));
		progress();
		usleep(round * 10000 / rounds);
		ASSERT_EQ(0, afu_unbind(self->function));
		for (int i = 0; i < BINDERS; i++) {
			EXPECT_FALSE(guest_has(binders[i].guest));
			pthread_join(binders[i].thread, NULL);
			EXPECT_EQ(-ENODEV, binders[i].error);
			EXPECT_FALSE(guest_has(binders[i].guest));
			binds += atomic_load(&binders[i].binds);
			taken += binders[i].was_bound;
			guest_take(binders[i].guest);
		}
		EXPECT_EQ(0, limit_get("bypasses"));
		close(fd);
		ASSERT_EQ(0, afu_bind(self->function));
	}
	TH_LOG("%d rounds, bound %ld times, %d were a guest's at the end", rounds, binds, taken);
	EXPECT_LT(0, taken);
	for (int i = 0; i < BINDERS; i++) {
		close(binders[i].guest);
		close(binders[i].efd);
	}
	EXPECT_TRUE(switch_bypass(was_on));
	EXPECT_EQ(0, module_unload("consumer"));
}

/* Errors of an AFU. */

TEST_F(afu, a_fault_is_read_with_its_address)
{
	struct afu_command copy = { .opcode = AFU_COPY, .length = 1 };
	struct uxive_event event;
	struct seat seat, other;
	__u64 data, size;

	ASSERT_TRUE(seat_take(&seat, self->function, false));
	ASSERT_TRUE(seat_take(&other, self->function, false));
	EXPECT_EQ(0, polled(seat.fd, POLLIN));
	data = mmio_read64(seat.mmio, AFU_DATA_OFFSET);
	size = mmio_read64(seat.mmio, AFU_DATA_SIZE);
	for (int n = 0; n < 3; n++) {
		copy.source = size + n;
		EXPECT_EQ(AFU_FAILED, afu_do(seat.mmio, &copy));
		ASSERT_EQ(0, read_event(seat.fd, &event));
		EXPECT_EQ(OCXL_FAULT, event.header.type);
		EXPECT_EQ(OCXL_KERNEL_EVENT_FLAG_LAST, event.header.flags);
		/* As ocxl has it. */
		EXPECT_EQ(0, event.header.length);
		EXPECT_EQ(data + size + n, event.fault.addr);
		EXPECT_EQ(1, event.fault.count);
	}
	EXPECT_EQ(0, polled(seat.fd, POLLIN));
	/* The other one's are its own. */
	EXPECT_EQ(0, polled(other.fd, POLLIN));
	seat_leave(&seat);
	seat_leave(&other);
}

TEST_F(afu, an_error_is_read_with_its_code_by_whose_it_is)
{
	struct seat seats[3];
	struct uxive_event event;

	for (int i = 0; i < 3; i++)
		ASSERT_TRUE(seat_take(&seats[i], self->function, i == 1));
	for (int i = 0; i < 3; i++) {
		struct afu_command error = { .opcode = AFU_ERROR, .value = 1000 + i };

		EXPECT_EQ(AFU_FAILED, afu_do(seats[i].mmio, &error));
	}
	for (int i = 2; i >= 0; i--) {
		ASSERT_EQ(0, read_event(seats[i].fd, &event));
		EXPECT_EQ(UXIVE_EVENT_AFU_ERROR, event.header.type);
		EXPECT_EQ(EVENT, event.header.length);
		EXPECT_EQ(1000 + i, event.afu_error.code);
		EXPECT_EQ(1, event.afu_error.count);
		EXPECT_EQ(0, event.afu_error.reserved[0] | event.afu_error.reserved[1]);
		EXPECT_EQ(0, polled(seats[i].fd, POLLIN) & POLLIN);
		seat_leave(&seats[i]);
	}
}

TEST_F(afu, many_errors_are_all_counted)
{
	enum { MANY = 5000 };
	struct afu_command error = { .opcode = AFU_ERROR };
	struct uxive_event event;
	unsigned long count = 0;
	int events = 0;
	struct seat seat;

	ASSERT_TRUE(seat_take(&seat, self->function, false));
	for (int n = 0; n < MANY; n++) {
		error.value = n;
		ASSERT_EQ(AFU_FAILED, afu_do(seat.mmio, &error));
		progress();
	}
	while (count < MANY && !read_event(seat.fd, &event)) {
		ASSERT_EQ(UXIVE_EVENT_AFU_ERROR, event.header.type);
		EXPECT_LT(0, event.afu_error.count);
		count += event.afu_error.count;
		/* That of the last one of these. */
		EXPECT_EQ(count - 1, event.afu_error.code);
		events++;
	}
	TH_LOG("%lu errors in %d events", count, events);
	EXPECT_EQ(MANY, count);
	EXPECT_GT(MANY / 2, events);
	EXPECT_EQ(0, polled(seat.fd, POLLIN));
	seat_leave(&seat);
}

TEST_F(afu, errors_of_before_are_not_the_next_ones)
{
	struct afu_command error = { .opcode = AFU_ERROR, .value = 77 };
	struct uxive_event event;
	struct seat seat;

	for (int n = 0; n < 20; n++) {
		ASSERT_TRUE(seat_take(&seat, self->function, false));
		ASSERT_EQ(0, seat.pasid);
		EXPECT_EQ(AFU_FAILED, afu_do(seat.mmio, &error));
		if (n == 19) {
			ASSERT_EQ(0, read_event(seat.fd, &event));
			EXPECT_EQ(1, event.afu_error.count);
		}
		seat_leave(&seat);
	}
}

/* Contexts that an AFU does not detach. */

#define INSTANCE	"/sys/kernel/tracing/instances/uxive_selftest"

/* Begins to trace what is kept, if the kernel can. */
static bool trace_begin(void)
{
	/* That of a run that did not come to its end. */
	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0700))
		return false;
	return write_file(INSTANCE "/events/uxive", "uxive_quarantine/enable", "1") &&
	       write_file(INSTANCE "/events/uxive", "uxive_quarantine_end/enable", "1");
}

/* A context whose detach the AFU will not confirm, closed. */
static bool keep_one(struct stage *stage, struct seat *seat)
{
	if (!log_line(QUARANTINES) || !seat_take(seat, stage->functions, false) ||
	    !afu_misbehave(stage->global, AFU_NO_DETACH, seat->pasid, 0))
		return false;
	seat_leave(seat);
	return true;
}

#define EXPECT_KEPT(self, seat) do {					\
	char __start[32], __line[256] = "";				\
									\
	snprintf(__start, sizeof(__start), "%ld ", (seat).id);		\
	EXPECT_EQ(1, debug_lines("quarantine", __start, __line, sizeof(__line)));	\
	EXPECT_TRUE(strstr(__line, "its AFU does not confirm that it was detached"))	\
		TH_LOG("%s", __line);					\
	EXPECT_EQ(1, debug_lines("contexts", __start, __line, sizeof(__line)));	\
	EXPECT_TRUE(strstr(__line, " closing ")) TH_LOG("%s", __line);	\
	EXPECT_EQ(2 * IRQS - 1, all_irqs() - (self)->stage.before.irqs);	\
} while (0)

TEST_F(afu, a_context_that_is_not_detached_is_kept_until_it_is)
{
	struct seat kept, next;
	int fds[CONTEXTS - 1];
	struct ocxl_ioctl_metadata metadata;
	bool tracing = trace_begin();
	char text[80];

	ASSERT_TRUE(keep_one(&self->stage, &kept));
	EXPECT_EQ(1, logged(QUARANTINES, "its AFU does not confirm that it was detached"));
	EXPECT_KEPT(self, kept);
	EXPECT_EQ(1, contexts_used(self->function));
	snprintf(text, sizeof(text), "uxive_quarantine: context=%ld slot=-1 lisn=0x0 reason=afu\n",
		 kept.id);
	if (tracing)
		EXPECT_EQ(1, lines_with(INSTANCE "/trace", text));

	/* Its place is nobody's, and nor are its interrupts. */
	for (int i = 0; i < CONTEXTS - 1; i++) {
		fds[i] = afu_open(self->function);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, afu_metadata(fds[i], &metadata));
		EXPECT_NE(kept.pasid, metadata.pasid);
	}
	EXPECT_EQ(CONTEXTS, contexts_used(self->function));
	EXPECT_ERRNO(open, ENOSPC, afu_open(self->function));
	for (int i = 0; i < CONTEXTS - 1; i++)
		close(fds[i]);
	ASSERT_TRUE(seat_take(&next, self->function, false));
	for (int i = 0; i < IRQS; i++)
		ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_SPURIOUS,
					  kept.pasid * SLOTS_EACH + i, 0));
	EXPECT_EQ(1, event_wait(next.efd[0]));
	for (int i = 0; i < IRQS; i++) {
		struct afu_command raise = { .opcode = AFU_RAISE, .value = i };

		EXPECT_EQ(AFU_DONE, afu_do(next.mmio, &raise));
		EXPECT_EQ(1, event_wait(next.efd[i]));
	}
	seat_leave(&next);
	EXPECT_KEPT(self, kept);

	/* It is tried again. */
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_DO_DETACH, 0, 0));
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	EXPECT_TRUE(becomes(contexts_used(self->function), 0));
	EXPECT_TRUE(becomes(all_irqs(), self->stage.before.irqs));
	log_line(NO_MORE_QUARANTINES);
	snprintf(text, sizeof(text), "uxive_quarantine_end: context=%ld slot=-1 ", kept.id);
	if (tracing) {
		EXPECT_EQ(1, lines_with(INSTANCE "/trace", text));
		EXPECT_EQ(0, rmdir(INSTANCE));
	}
	ASSERT_TRUE(seat_take(&next, self->function, false));
	EXPECT_EQ(kept.pasid, next.pasid);
	EXPECT_EQ(1, event_wait(next.efd[0]));
	for (int i = 0; i < IRQS; i++) {
		struct afu_command raise = { .opcode = AFU_RAISE, .value = i };

		EXPECT_EQ(AFU_DONE, afu_do(next.mmio, &raise));
		EXPECT_EQ(1, event_wait(next.efd[i]));
	}
	seat_leave(&next);
}

/* How often the kernel has drained an event of slot 0 of a context; -1 if that is not told. */
static long rings_of(long context, char *eventfd)
{
	char start[32], line[256];
	long rings;

	snprintf(start, sizeof(start), "%ld 0 ", context);
	if (debug_lines("slots", start, line, sizeof(line)) != 1 ||
	    sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %15s %ld", eventfd, &rings) != 2)
		return -1;
	return rings;
}

TEST_F(afu, what_is_kept_signals_nobody)
{
	struct seat kept;
	char eventfd[16];
	int efd;

	ASSERT_TRUE(log_line(QUARANTINES));
	ASSERT_TRUE(seat_take(&kept, self->function, false));
	efd = dup(kept.efd[0]);
	ASSERT_EQ(0, fcntl(efd, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(1, event_wait(efd));
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_SPURIOUS, kept.pasid * SLOTS_EACH, 0));
	EXPECT_EQ(1, event_wait(efd));
	ASSERT_EQ(2, rings_of(kept.id, eventfd));
	EXPECT_STREQ("bound", eventfd);

	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_NO_DETACH, kept.pasid, 0));
	seat_leave(&kept);
	EXPECT_KEPT(self, kept);
	/* The AFU still sends, and the kernel still drains. */
	for (int n = 1; n <= 5; n++) {
		ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_SPURIOUS,
					  kept.pasid * SLOTS_EACH, 0));
		ASSERT_TRUE(becomes(rings_of(kept.id, eventfd), 2 + n));
		EXPECT_STREQ("none", eventfd);
	}
	EXPECT_EQ(0, event_read(efd));
	close(efd);
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_DO_DETACH, 0, 0));
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	log_line(NO_MORE_QUARANTINES);
}

/* Its queue is armed as it was left, and nobody arms it again. */
TEST_F(afu, a_queue_that_is_kept_signals_once_at_most)
{
	struct uxive_user_drain drain = ux_drain_arg(event_new());
	int fd = afu_open(self->function);
	struct ocxl_ioctl_metadata metadata;
	__u64 offset;

	ASSERT_TRUE(log_line(QUARANTINES));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, afu_metadata(fd, &metadata));
	ASSERT_EQ(0, afu_attach(fd));
	ASSERT_EQ(0, ux_ioctl(fd, UXIVE_IOC_USER_DRAIN, &drain));
	for (int i = 0; i < IRQS; i++)
		ASSERT_EQ(0, ux_alloc(fd, &offset));
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_NO_DETACH, metadata.pasid, 0));
	close(fd);
	for (int i = 0; i < IRQS; i++) {
		ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_SPURIOUS,
					  metadata.pasid * SLOTS_EACH + i, 0));
		if (!i)
			EXPECT_EQ(1, event_wait(drain.eventfd));
	}
	/* Once it is quiet, nothing is on its way any more. */
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_DO_DETACH, 0, 0));
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	EXPECT_EQ(0, event_read(drain.eventfd));
	close(drain.eventfd);
	log_line(NO_MORE_QUARANTINES);
}

TEST_F(afu, unbinding_ends_what_was_kept)
{
	struct seat kept, next;

	ASSERT_TRUE(keep_one(&self->stage, &kept));
	EXPECT_KEPT(self, kept);
	ASSERT_TRUE(stage_end(&self->stage, UNBIND));
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	EXPECT_TRUE(becomes(all_irqs(), self->stage.before.irqs));
	log_line(NO_MORE_QUARANTINES);
	ASSERT_TRUE(stage_return(&self->stage, UNBIND));
	EXPECT_EQ(0, contexts_used(self->function));
	/* The model does not forget what is wrong with it. */
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_DO_DETACH, 0, 0));
	ASSERT_TRUE(seat_take(&next, self->function, false));
	EXPECT_EQ(kept.pasid, next.pasid);
	seat_leave(&next);
}

TEST_F(afu, unloading_ends_what_was_kept)
{
	struct seat kept;

	ASSERT_TRUE(keep_one(&self->stage, &kept));
	EXPECT_KEPT(self, kept);
	munmap(self->stage.global, PAGE);
	if (access(UXIVE_MODULE, F_OK)) {
		ASSERT_TRUE(stage_end(&self->stage, UNBIND));
		ASSERT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	} else {
		ASSERT_EQ(0, module_unload("uxive"));
		/* Nothing is tried again. */
		sleep(2);
		EXPECT_EQ(self->stage.before.linux_irqs, linux_irqs());
		/* Loading binds the functions whose override names the driver. */
		ASSERT_EQ(0, module_load(UXIVE_MODULE));
		ASSERT_EQ(0, afu_unbind(self->function));
	}
	log_line(NO_MORE_QUARANTINES);
	ASSERT_TRUE(stage_bind(&self->stage));
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_DO_DETACH, 0, 0));
}

TEST_F(afu, an_open_file_keeps_the_module)
{
	struct seat seat;
	__u64 reason;

	if (access(UXIVE_MODULE, F_OK))
		SKIP(return, "the driver is built in");
	ASSERT_TRUE(seat_take(&seat, self->function, false));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("uxive"));
	/* One that is dead, too. */
	ASSERT_TRUE(stage_end(&self->stage, UNBIND));
	EXPECT_EQ(0, read_gone(seat.fd, &reason));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("uxive"));
	ASSERT_TRUE(stage_return(&self->stage, UNBIND));
	seat_leave(&seat);
}

/*
 * The AFU keeps a message that finds its slot masked, and sends it when the next context has the
 * slot opened. That is one event in that slot, and no other is rung by it.
 */
TEST_F(afu, an_interrupt_behind_the_detach_is_one_event_at_most)
{
	struct seat seat;
	long late = 0;

	for (int n = 0; n < 20; n++) {
		progress();
		ASSERT_TRUE(seat_take(&seat, self->function, n % 2));
		ASSERT_EQ(0, seat.pasid);
		ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_LATE, seat.pasid, 1 + n % 2));
		if (n % 2 == 0) {
			struct afu_command raise = { .opcode = AFU_RAISE, .value = QUIET };

			EXPECT_EQ(1, event_wait(seat.efd[0]));
			EXPECT_EQ(AFU_DONE, afu_do(seat.mmio, &raise));
			EXPECT_EQ(1, event_wait(seat.efd[QUIET]));
			for (int i = 1; i < QUIET; i++) {
				long now = polled(seat.efd[i], POLLIN) & POLLIN ?
					event_read(seat.efd[i]) : 0;

				/* Of one round before or, for slot 1, two. */
				EXPECT_GE(n > 0, now) TH_LOG("round %d, slot %d", n, i);
				late += now;
			}
			EXPECT_GE(n, late);
		}
		seat_leave(&seat);
	}
	TH_LOG("20 raised behind the detach, of which %ld came to the next", late);
	EXPECT_EQ(0, contexts_used(self->function));
	EXPECT_EQ(0, debug_lines("quarantine", "", NULL, 0));
}

/* An AFU that is slow. */

TEST_F(afu, an_attach_that_is_not_confirmed_in_time_is_undone)
{
	struct ocxl_ioctl_metadata metadata;
	struct uxive_event event;
	struct seat seat;
	void *mmio;
	int fd = afu_open(self->function);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_NONBLOCK));
	ASSERT_EQ(0, afu_metadata(fd, &metadata));
	mmio = afu_map(fd);
	ASSERT_NE(MAP_FAILED, mmio);
	ASSERT_TRUE(log_line(QUARANTINES));
	ASSERT_TRUE(afu_misbehave(self->stage.global, AFU_VANISH, AWAY_MS, 0));
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, EIO, afu_attach(fd));
	EXPECT_EQ(SIGBUS, look(mmio));
	/* Nor when it is confirmed after all. */
	EXPECT_TRUE(stage_answers(&self->stage));
	EXPECT_EQ(SIGBUS, look(mmio));
	EXPECT_EQ(-1, read(fd, &event, EVENT));
	EXPECT_EQ(EAGAIN, errno);
	munmap(mmio, metadata.pp_mmio_size);
	close(fd);
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	log_line(NO_MORE_QUARANTINES);
	EXPECT_TRUE(becomes(contexts_used(self->function), 0));
	ASSERT_TRUE(seat_take(&seat, self->function, false));
	EXPECT_EQ(0, seat.pasid);
	seat_leave(&seat);
}

TEST_F(afu, one_that_is_away_for_two_seconds_is_not_gone)
{
	struct afu_command fill = { .opcode = AFU_FILL, .length = 8, .value = 1 };

	for (int n = 0; n < SHORT_TRIES; n++) {
		int others = 0, refused = 0;
		struct seat seat;
		long begun, away;

		progress();
		ASSERT_TRUE(seat_take(&seat, self->function, false));
		begun = clock_ms();
		ASSERT_TRUE(copy_half(&self->stage, &seat));
		/* However often it is asked. */
		while (clock_ms() < begun + SHORT_MS) {
			int fd = afu_open(self->function);

			refused += fd < 0;
			others++;
			close(fd);
		}
		ASSERT_TRUE(stage_answers(&self->stage));
		away = clock_ms() - begun;
		if (away >= SHORT_MOST_MS) {
			TH_LOG("away for %ld ms, which tells nothing", away);
			seat_leave(&seat);
			ASSERT_TRUE(stage_return(&self->stage, SILENT));
			continue;
		}

		TH_LOG("%d others opened and closed within %ld ms", others, away);
		EXPECT_EQ(0, refused);
		EXPECT_EQ(1, mmio_read64(seat.mmio, AFU_HEAD));
		EXPECT_EQ(AFU_DONE, afu_do(seat.mmio, &fill));
		EXPECT_EQ(0, polled(seat.fd, POLLIN));
		EXPECT_EQ(0, afu_metadata(seat.fd, &(struct ocxl_ioctl_metadata){}));
		seat_leave(&seat);
		return;
	}
	SKIP(return, "the host is too slow to tell");
}

TEST_HARNESS_MAIN
