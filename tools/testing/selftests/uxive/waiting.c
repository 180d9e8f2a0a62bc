// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a program that waits by epoll with any of its triggers or by io_uring,
 * for an eventfd or for the context itself, is told of each event by the rules of
 * that call. One thread gets an event, even if several are woken. Several threads
 * may drain one queue by the documented protocol. No event is lost.
 *
 * Events of a context come from the model AFU, which reports an error when it is
 * asked to; without an AFU those tests are skipped.
 */
#include "uxive_afu.h"
#include "uxive_fixture.h"

#include <liburing.h>
#include <sys/epoll.h>

#define EVENT	sizeof(struct uxive_event)
/* Of an AFU, one after the other. The driver looks for each every 100 ms. */
#define TOLD	20

/* io_uring */

static bool uring_open(struct io_uring *uring)
{
	return !io_uring_queue_init(64, uring, 0);
}

/* The next completion, within the watchdog; 0 or a negative errno. */
static int uring_next(struct io_uring *uring, struct io_uring_cqe *copy)
{
	struct __kernel_timespec limit = { .tv_sec = WATCHDOG_MS / 1000 };
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe_timeout(uring, &cqe, &limit);

	if (ret)
		return ret;
	*copy = *cqe;
	io_uring_cqe_seen(uring, cqe);
	return 0;
}

/* The result of the next completion, which must be the last of its request. */
static int uring_result(struct io_uring *uring)
{
	struct io_uring_cqe cqe;
	int ret = uring_next(uring, &cqe);

	if (ret)
		return ret;
	return cqe.flags & IORING_CQE_F_MORE ? -EPROTO : cqe.res;
}

/* There is no completion, also none that the kernel has not delivered yet. */
static bool uring_quiet(struct io_uring *uring)
{
	struct io_uring_cqe *cqe;

	return io_uring_get_events(uring) >= 0 && io_uring_peek_cqe(uring, &cqe) == -EAGAIN;
}

/* Submits the poll or read in @sqe; @data names it for a cancel. */
static bool uring_submit(struct io_uring *uring, struct io_uring_sqe *sqe, __u64 data)
{
	io_uring_sqe_set_data64(sqe, data);
	return io_uring_submit(uring) == 1;
}

/* Cancels a request, and sees that it ends by that. */
static bool uring_cancel(struct io_uring *uring, __u64 data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(uring);
	struct io_uring_cqe cqe;
	bool ended = false, told = false;

	io_uring_prep_cancel64(sqe, data, 0);
	if (!uring_submit(uring, sqe, 0))
		return false;
	for (int i = 0; i < 2; i++) {
		if (uring_next(uring, &cqe))
			return false;
		/* A worker that waits in the driver is interrupted. */
		if (cqe.user_data == data)
			ended = (cqe.res == -ECANCELED || cqe.res == -EINTR) &&
				!(cqe.flags & IORING_CQE_F_MORE);
		else
			told = !cqe.res || cqe.res == -EALREADY;
	}
	return ended && told;
}

/* Waiting for a descriptor to be ready, in one of the ways that there are. */

enum way { LEVEL, EDGE, ONE_SHOT, URING_ONCE, URING_EVER };

struct watch {
	enum way way;
	int fd;
	unsigned int events;
	int epoll;
	struct io_uring uring;
};

static bool watch_submit(struct watch *watch)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&watch->uring);

	if (watch->way == URING_ONCE)
		io_uring_prep_poll_add(sqe, watch->fd, watch->events);
	else
		io_uring_prep_poll_multishot(sqe, watch->fd, watch->events);
	return uring_submit(&watch->uring, sqe, 1);
}

static bool watch_control(struct watch *watch, int operation)
{
	static const unsigned int flags[] = { [EDGE] = EPOLLET, [ONE_SHOT] = EPOLLONESHOT };
	struct epoll_event event = { .events = watch->events };

	if (watch->way != LEVEL)
		event.events |= flags[watch->way];
	return !epoll_ctl(watch->epoll, operation, watch->fd, &event);
}

static bool watch_open(struct watch *watch, enum way way, int fd, unsigned int events)
{
	*watch = (struct watch){ .way = way, .fd = fd, .events = events, .epoll = -1 };
	if (way >= URING_ONCE)
		return uring_open(&watch->uring) && watch_submit(watch);
	watch->epoll = epoll_create1(EPOLL_CLOEXEC);
	return watch_control(watch, EPOLL_CTL_ADD);
}

static void watch_close(struct watch *watch)
{
	if (watch->way >= URING_ONCE)
		io_uring_queue_exit(&watch->uring);
	else
		close(watch->epoll);
}

/* The events that come within the watchdog's time; 0 for none, or a negative errno. */
static int watch_told(struct watch *watch)
{
	struct epoll_event event;
	struct io_uring_cqe cqe;
	bool more, ever;
	int ret;

	if (watch->way >= URING_ONCE) {
		ret = uring_next(&watch->uring, &cqe);
		if (ret == -ETIME)
			return 0;
		if (ret)
			return ret;
		more = cqe.flags & IORING_CQE_F_MORE;
		ever = watch->way == URING_EVER;
		return more == ever ? cqe.res : -EPROTO;
	}
	ret = epoll_wait(watch->epoll, &event, 1, WATCHDOG_MS);
	if (ret < 0)
		return -errno;
	return ret ? event.events : 0;
}

/* It tells of nothing now. */
static bool watch_quiet(struct watch *watch)
{
	struct epoll_event event;

	if (watch->way >= URING_ONCE)
		return uring_quiet(&watch->uring);
	return epoll_wait(watch->epoll, &event, 1, 0) == 0;
}

/* Rearms a one-shot watch. */
static bool watch_again(struct watch *watch)
{
	if (watch->way == ONE_SHOT)
		return watch_control(watch, EPOLL_CTL_MOD);
	return watch->way != URING_ONCE || watch_submit(watch);
}

/* Takes the one event that there is, of slot 0, and arms. */
static bool drain_one(struct uxive_drain *drain)
{
	if (uxive_drain_try_next(drain))
		return false;
	uxive_drain_eoi(drain, 0);
	return uxive_drain_arm_and_look(drain) < 0 && errno == EAGAIN;
}

/* A context of the first AFU, which can be made to tell of errors. */
struct teller {
	struct afu_function function;
	struct afu_context context;
};

static bool there_is_an_afu(void)
{
	struct afu_function functions[AFU_MOST];

	return afu_functions(functions) > 0;
}

static bool teller_open(struct teller *teller)
{
	struct afu_function functions[AFU_MOST];

	*teller = (struct teller){ .context = { .fd = -1, .mmio = MAP_FAILED } };
	if (afu_functions(functions) < 1)
		return false;
	teller->function = functions[0];
	if (!afu_is_bound(&teller->function) && afu_bind(&teller->function))
		return false;
	return afu_context_open(&teller->context, &teller->function);
}

static bool teller_close(struct teller *teller)
{
	afu_context_close(&teller->context);
	return !afu_is_bound(&teller->function) || !afu_unbind(&teller->function);
}

/* One event, which comes soon. */
static bool teller_tell(struct teller *teller, __u64 code)
{
	struct afu_command error = { .opcode = AFU_ERROR, .value = code };

	return afu_do(teller->context.mmio, &error) == AFU_FAILED;
}

static bool is_error(const struct uxive_event *event, __u64 code)
{
	return event->header.type == UXIVE_EVENT_AFU_ERROR && event->afu_error.code == code &&
	       event->afu_error.count == 1;
}

static bool takes(int fd, __u64 code)
{
	struct uxive_event event;

	return read_now(fd, &event, EVENT) == EVENT && is_error(&event, code);
}

/* Every way, for all that can be waited for. */

FIXTURE(way) {
	struct watch watch;
};

FIXTURE_VARIANT(way) {
	enum way way;
};

FIXTURE_VARIANT_ADD(way, epoll_level) {
	.way = LEVEL,
};

FIXTURE_VARIANT_ADD(way, epoll_edge) {
	.way = EDGE,
};

FIXTURE_VARIANT_ADD(way, epoll_one_shot) {
	.way = ONE_SHOT,
};

FIXTURE_VARIANT_ADD(way, io_uring_once) {
	.way = URING_ONCE,
};

FIXTURE_VARIANT_ADD(way, io_uring_multishot) {
	.way = URING_EVER,
};

FIXTURE_SETUP(way)
{
}

FIXTURE_TEARDOWN(way)
{
}

TEST_F(way, tells_of_each_ring_of_an_eventfd)
{
	long rings = fewer_with_lockdep(10000, 1000), n;
	struct bells bell;

	ASSERT_TRUE(bells_open(&bell, 1));
	ASSERT_TRUE(watch_open(&self->watch, variant->way, bell.efd, POLLIN));
	for (n = 0; n < rings; n++) {
		if (n % 16 == 0)
			ASSERT_TRUE(watch_quiet(&self->watch));
		/* One that comes meanwhile, and one that is there already. */
		if (n % 2)
			ring(bell.window);
		if (n)
			ASSERT_TRUE(watch_again(&self->watch));
		if (n % 2 == 0)
			ring(bell.window);
		ASSERT_EQ(POLLIN, watch_told(&self->watch))
			TH_LOG("ring %ld", n);
		ASSERT_EQ(1, event_read(bell.efd));
		progress();
	}
	EXPECT_TRUE(watch_quiet(&self->watch));
	TH_LOG("%ld rings, each told once", n);
	watch_close(&self->watch);
	bells_close(&bell);
}

/*
 * An event that nobody has read: level triggers always tell, others with the
 * next event or when asked again.
 */
TEST_F(way, tells_of_what_is_left_as_it_should)
{
	struct bells bell;

	ASSERT_TRUE(bells_open(&bell, 1));
	ring(bell.window);
	ASSERT_TRUE(becomes(event_count(bell.efd), 1));
	/* It was there first. */
	ASSERT_TRUE(watch_open(&self->watch, variant->way, bell.efd, POLLIN));
	for (int n = 2; n < 100; n++) {
		ASSERT_EQ(POLLIN, watch_told(&self->watch));
		ASSERT_TRUE(variant->way == LEVEL ? watch_told(&self->watch) == POLLIN :
						    watch_quiet(&self->watch));
		ring(bell.window);
		if (variant->way == EDGE || variant->way == URING_EVER)
			continue;
		/* Ways that tell once do not tell of the next event. */
		ASSERT_TRUE(becomes(event_count(bell.efd), n));
		if (variant->way != LEVEL)
			ASSERT_TRUE(watch_quiet(&self->watch));
		ASSERT_TRUE(watch_again(&self->watch));
	}
	ASSERT_EQ(POLLIN, watch_told(&self->watch));
	EXPECT_EQ(99, event_read(bell.efd));
	EXPECT_TRUE(watch_quiet(&self->watch));
	watch_close(&self->watch);
	bells_close(&bell);
}

TEST_F(way, tells_of_each_escalation_of_a_queue)
{
	long rings = fewer_with_lockdep(10000, 1000), n;
	struct uxive_drain drain;

	ASSERT_TRUE(drain_open(&drain, ux_open(), 1));
	ASSERT_TRUE(watch_open(&self->watch, variant->way, drain.fd, POLLIN | POLLPRI));
	for (n = 0; n < rings; n++) {
		if (n)
			ASSERT_TRUE(watch_again(&self->watch));
		if (n % 16 == 0)
			ASSERT_TRUE(watch_quiet(&self->watch));
		ring(uxive_drain_trigger(&drain, 0));
		ASSERT_EQ(POLLPRI, watch_told(&self->watch))
			TH_LOG("ring %ld", n);
		ASSERT_TRUE(drain_one(&drain));
		progress();
	}
	EXPECT_TRUE(watch_quiet(&self->watch));
	TH_LOG("%ld rings, each told once", n);
	watch_close(&self->watch);
	drain_close(&drain);
}

/* They ask once, and then the file has nothing that could become ready. */
TEST_F(way, tells_of_a_queue_that_came_later)
{
	struct uxive_drain drain;
	int fd = ux_open();

	ASSERT_TRUE(watch_open(&self->watch, variant->way, fd, POLLPRI));
	ASSERT_TRUE(drain_open(&drain, fd, 1));
	ASSERT_TRUE(watch_quiet(&self->watch));
	for (int n = 0; n < 3; n++) {
		ring(uxive_drain_trigger(&drain, 0));
		ASSERT_EQ(POLLPRI, watch_told(&self->watch));
		ASSERT_TRUE(drain_one(&drain));
		ASSERT_TRUE(watch_again(&self->watch));
	}
	EXPECT_TRUE(watch_quiet(&self->watch));
	watch_close(&self->watch);
	drain_close(&drain);
}

TEST_F(way, tells_of_each_event_of_a_context)
{
	struct teller teller;
	int n;

	if (!there_is_an_afu())
		SKIP(return, "there is no AFU");
	ASSERT_TRUE(teller_open(&teller));
	ASSERT_TRUE(watch_open(&self->watch, variant->way, teller.context.fd, POLLIN | POLLPRI));
	for (n = 0; n < TOLD; n++) {
		ASSERT_TRUE(watch_quiet(&self->watch));
		ASSERT_TRUE(teller_tell(&teller, n));
		ASSERT_EQ(POLLIN, watch_told(&self->watch));
		ASSERT_TRUE(takes(teller.context.fd, n));
		ASSERT_TRUE(watch_again(&self->watch));
		progress();
	}
	EXPECT_TRUE(watch_quiet(&self->watch));
	TH_LOG("%d events, each told once", n);
	watch_close(&self->watch);
	EXPECT_TRUE(teller_close(&teller));
}

/* The end is told even if it is not asked for. */
TEST_F(way, tells_of_the_end)
{
	struct uxive_event event;
	struct teller teller;
	bool at_once;

	if (!there_is_an_afu())
		SKIP(return, "there is no AFU");
	ASSERT_TRUE(teller_open(&teller));
	ASSERT_TRUE(watch_open(&self->watch, variant->way, teller.context.fd, 0));
	EXPECT_TRUE(watch_quiet(&self->watch));
	ASSERT_EQ(0, afu_unbind(&teller.function));
	EXPECT_EQ(POLLHUP, watch_told(&self->watch));
	EXPECT_EQ(EVENT, read_now(teller.context.fd, &event, EVENT));
	EXPECT_EQ(UXIVE_EVENT_GONE, event.header.type);
	EXPECT_EQ(-ENODEV, read_now(teller.context.fd, &event, EVENT));
	/* There it stays. */
	ASSERT_TRUE(watch_again(&self->watch));
	at_once = variant->way != EDGE && variant->way != URING_EVER;
	EXPECT_TRUE(at_once ? watch_told(&self->watch) == POLLHUP : watch_quiet(&self->watch));
	watch_close(&self->watch);
	EXPECT_TRUE(teller_close(&teller));
}

/* Reading by io_uring. */

enum reading { PLAIN, FIXED, WORKER, EVER };

#define BUFFERS		8
#define BUFFER		64
#define GROUP		7

struct reader {
	enum reading reading;
	struct io_uring uring;
	struct io_uring_buf_ring *buffers;
	char memory[BUFFERS][BUFFER];
	bool pending;
};

static bool reader_open(struct reader *reader, enum reading reading)
{
	int ret;

	*reader = (struct reader){ .reading = reading };
	if (!uring_open(&reader->uring))
		return false;
	reader->buffers = io_uring_setup_buf_ring(&reader->uring, BUFFERS, GROUP, 0, &ret);
	if (!reader->buffers)
		return false;
	for (int i = 0; i < BUFFERS; i++)
		io_uring_buf_ring_add(reader->buffers, reader->memory[i], BUFFER, i,
				      io_uring_buf_ring_mask(BUFFERS), i);
	io_uring_buf_ring_advance(reader->buffers, BUFFERS);
	return true;
}

/* Has a read wait, unless a multishot one does. */
static bool reader_start(struct reader *reader, int fd, size_t size)
{
	enum reading reading = reader->reading;
	struct io_uring_sqe *sqe;

	if (reader->pending)
		return true;
	if (reading == FIXED && io_uring_register_files(&reader->uring, &fd, 1) == -EBUSY)
		io_uring_register_files_update(&reader->uring, 0, &fd, 1);
	sqe = io_uring_get_sqe(&reader->uring);
	if (reading == EVER)
		io_uring_prep_read_multishot(sqe, fd, 0, -1, GROUP);
	else
		io_uring_prep_read(sqe, reading == FIXED ? 0 : fd, reader->memory[0], size, -1);
	if (reading == FIXED)
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	if (reading == WORKER)
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	reader->pending = true;
	return uring_submit(&reader->uring, sqe, 1);
}

/* How much it has read, with a copy of the data; or a negative errno. */
static int reader_end(struct reader *reader, void *data, size_t size)
{
	struct io_uring_cqe cqe;
	int ret = uring_next(&reader->uring, &cqe), buffer = 0;

	if (ret)
		return ret;
	reader->pending = cqe.flags & IORING_CQE_F_MORE;
	if (cqe.flags & IORING_CQE_F_BUFFER) {
		buffer = cqe.flags >> IORING_CQE_BUFFER_SHIFT;
		memcpy(data, reader->memory[buffer], size);
		io_uring_buf_ring_add(reader->buffers, reader->memory[buffer], BUFFER, buffer,
				      io_uring_buf_ring_mask(BUFFERS), 0);
		io_uring_buf_ring_advance(reader->buffers, 1);
	} else {
		memcpy(data, reader->memory[0], size);
	}
	return cqe.res;
}

FIXTURE(reading) {
	struct reader reader;
};

FIXTURE_VARIANT(reading) {
	enum reading reading;
};

FIXTURE_VARIANT_ADD(reading, plain) {
	.reading = PLAIN,
};

FIXTURE_VARIANT_ADD(reading, fixed_file) {
	.reading = FIXED,
};

FIXTURE_VARIANT_ADD(reading, by_a_worker) {
	.reading = WORKER,
};

FIXTURE_VARIANT_ADD(reading, multishot) {
	.reading = EVER,
};

FIXTURE_SETUP(reading)
{
	ASSERT_TRUE(reader_open(&self->reader, variant->reading));
}

FIXTURE_TEARDOWN(reading)
{
	io_uring_queue_exit(&self->reader.uring);
}

TEST_F(reading, takes_each_ring_of_an_eventfd)
{
	long rings = fewer_with_lockdep(10000, 1000), n;
	struct bells bell;

	ASSERT_TRUE(bells_open(&bell, 1));
	for (n = 0; n < rings; n++) {
		__u64 count = 0;

		/* One that comes meanwhile, and one that is there already. */
		if (n % 2)
			ring(bell.window);
		ASSERT_TRUE(reader_start(&self->reader, bell.efd, sizeof(count)));
		if (n % 16 == 0)
			ASSERT_TRUE(uring_quiet(&self->reader.uring));
		if (n % 2 == 0)
			ring(bell.window);
		ASSERT_EQ(sizeof(count), reader_end(&self->reader, &count, sizeof(count)))
			TH_LOG("ring %ld", n);
		ASSERT_EQ(1, count);
		ASSERT_EQ(variant->reading == EVER, self->reader.pending);
		progress();
	}
	EXPECT_TRUE(uring_quiet(&self->reader.uring));
	EXPECT_EQ(0, event_read(bell.efd));
	TH_LOG("%ld rings, each read once", n);
	bells_close(&bell);
}

TEST_F(reading, takes_each_event_of_a_context)
{
	struct uxive_event event;
	struct teller teller;
	int n;

	if (!there_is_an_afu())
		SKIP(return, "there is no AFU");
	ASSERT_TRUE(teller_open(&teller));
	/* Which is for read() and its kin, and not for io_uring. */
	ASSERT_EQ(0, fcntl(teller.context.fd, F_SETFL, O_RDWR | O_NONBLOCK));
	for (n = 0; n < TOLD; n++) {
		if (n == TOLD / 2)
			ASSERT_EQ(0, fcntl(teller.context.fd, F_SETFL, O_RDWR));
		ASSERT_TRUE(reader_start(&self->reader, teller.context.fd, EVENT));
		ASSERT_TRUE(uring_quiet(&self->reader.uring));
		ASSERT_TRUE(teller_tell(&teller, n));
		ASSERT_EQ(EVENT, reader_end(&self->reader, &event, EVENT))
			TH_LOG("event %d", n);
		ASSERT_TRUE(is_error(&event, n));
		ASSERT_EQ(variant->reading == EVER, self->reader.pending);
		progress();
	}
	EXPECT_TRUE(uring_quiet(&self->reader.uring));
	EXPECT_EQ(-EAGAIN, read_now(teller.context.fd, &event, EVENT));
	TH_LOG("%d events, each read once", n);
	EXPECT_TRUE(teller_close(&teller));
}

TEST_F(reading, ends_with_the_context)
{
	struct uxive_event event;
	struct teller teller;

	if (!there_is_an_afu())
		SKIP(return, "there is no AFU");
	ASSERT_TRUE(teller_open(&teller));
	ASSERT_TRUE(reader_start(&self->reader, teller.context.fd, EVENT));
	ASSERT_TRUE(uring_quiet(&self->reader.uring));
	ASSERT_EQ(0, afu_unbind(&teller.function));
	EXPECT_EQ(EVENT, reader_end(&self->reader, &event, EVENT));
	EXPECT_EQ(UXIVE_EVENT_GONE, event.header.type);
	ASSERT_TRUE(reader_start(&self->reader, teller.context.fd, EVENT));
	EXPECT_EQ(-ENODEV, reader_end(&self->reader, &event, EVENT));
	EXPECT_FALSE(self->reader.pending);
	EXPECT_TRUE(teller_close(&teller));
}

TEST_F(reading, can_be_cancelled)
{
	struct uxive_event event;
	int fd = ux_open();

	for (int n = 0; n < 100; n++) {
		ASSERT_TRUE(reader_start(&self->reader, fd, EVENT));
		ASSERT_TRUE(uring_quiet(&self->reader.uring));
		ASSERT_TRUE(uring_cancel(&self->reader.uring, 1))
			TH_LOG("round %d", n);
		self->reader.pending = false;
	}
	EXPECT_EQ(-EAGAIN, read_now(fd, &event, EVENT));
	close(fd);
}

/* A request has the file, and nothing else does. */
TEST_F(reading, keeps_the_context_until_it_is_over)
{
	long before = all_irqs();
	int fd = ux_open();

	ASSERT_EQ(0, ux_fill(fd, 3));
	ASSERT_TRUE(reader_start(&self->reader, fd, EVENT));
	ASSERT_TRUE(uring_quiet(&self->reader.uring));
	close(fd);
	EXPECT_EQ(before + 3, all_irqs());
	ASSERT_TRUE(uring_cancel(&self->reader.uring, 1));
	if (variant->reading == FIXED)
		ASSERT_EQ(0, io_uring_unregister_files(&self->reader.uring));
	EXPECT_TRUE(becomes(all_irqs(), before));
}

/* io_uring takes POLLPRI for a reason to try a read again, and that stays. */
TEST_F(reading, waits_while_a_queue_is_not_armed)
{
	struct uxive_event event;
	struct uxive_drain drain;
	struct teller teller;

	if (!there_is_an_afu())
		SKIP(return, "there is no AFU");
	ASSERT_TRUE(teller_open(&teller));
	ASSERT_EQ(0, uxive_drain_open(&drain, teller.context.fd, event_new(), 1));
	ASSERT_EQ(0, ux_fill(teller.context.fd, 1));
	ring(uxive_drain_trigger(&drain, 0));
	ASSERT_EQ(1, event_wait(drain.eventfd));
	for (int n = 0; n < 10; n++) {
		ASSERT_TRUE(reader_start(&self->reader, teller.context.fd, EVENT));
		ASSERT_TRUE(uring_quiet(&self->reader.uring));
		ASSERT_TRUE(teller_tell(&teller, n));
		ASSERT_EQ(EVENT, reader_end(&self->reader, &event, EVENT));
		ASSERT_TRUE(is_error(&event, n));
	}
	/* It was so all the time. */
	EXPECT_EQ(0, event_read(drain.eventfd));
	EXPECT_TRUE(drain_one(&drain));
	uxive_drain_close(&drain);
	close(drain.eventfd);
	EXPECT_TRUE(teller_close(&teller));
}

TEST(io_uring_reads_fail_as_others_do)
{
	struct uxive_event event;
	struct io_uring_sqe *sqe;
	struct io_uring uring;
	struct teller teller;

	if (!there_is_an_afu())
		SKIP(return, "there is no AFU");
	ASSERT_TRUE(uring_open(&uring));
	ASSERT_TRUE(teller_open(&teller));
	sqe = io_uring_get_sqe(&uring);
	io_uring_prep_read(sqe, teller.context.fd, &event, EVENT - 1, -1);
	ASSERT_TRUE(uring_submit(&uring, sqe, 1));
	EXPECT_EQ(-EINVAL, uring_result(&uring));

	sqe = io_uring_get_sqe(&uring);
	io_uring_prep_read(sqe, teller.context.fd, &event, EVENT, -1);
	sqe->rw_flags = RWF_NOWAIT;
	ASSERT_TRUE(uring_submit(&uring, sqe, 1));
	EXPECT_EQ(-EAGAIN, uring_result(&uring));

	/* An event that comes meanwhile, and cannot be copied, stays. */
	sqe = io_uring_get_sqe(&uring);
	io_uring_prep_read(sqe, teller.context.fd, NULL, EVENT, -1);
	ASSERT_TRUE(uring_submit(&uring, sqe, 1));
	EXPECT_TRUE(uring_quiet(&uring));
	ASSERT_TRUE(teller_tell(&teller, 1));
	EXPECT_EQ(-EFAULT, uring_result(&uring));
	EXPECT_TRUE(takes(teller.context.fd, 1));

	sqe = io_uring_get_sqe(&uring);
	io_uring_prep_write(sqe, teller.context.fd, &event, EVENT, -1);
	ASSERT_TRUE(uring_submit(&uring, sqe, 1));
	EXPECT_EQ(-EINVAL, uring_result(&uring));
	EXPECT_TRUE(teller_close(&teller));
	io_uring_queue_exit(&uring);
}

/* Threads with an epoll each, one of which takes the event. */

#define WAITERS 4

enum source { EVENTFD, QUEUE, LOG };

struct crowd {
	enum source source;
	struct bells bell;
	struct uxive_drain drain;
	struct teller teller;
	pthread_mutex_t lock;
	int fd, stop;
	atomic_long woken, taken;
	atomic_int tid[WAITERS];
};

struct member {
	pthread_t thread;
	struct crowd *crowd;
	int number;
};

static long crowd_take(struct crowd *crowd)
{
	struct uxive_event event;
	long taken;

	if (crowd->source == LOG)
		return read_now(crowd->fd, &event, EVENT) == EVENT;
	if (!event_read(crowd->fd))
		return 0;
	if (crowd->source == EVENTFD)
		return 1;
	pthread_mutex_lock(&crowd->lock);
	taken = drain_one(&crowd->drain);
	pthread_mutex_unlock(&crowd->lock);
	return taken;
}

static void *member_run(void *arg)
{
	struct member *member = arg;
	struct crowd *crowd = member->crowd;
	struct epoll_event event = { .events = EPOLLEXCLUSIVE | EPOLLIN, .data.fd = crowd->fd };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, crowd->fd, &event))
		abort();
	event = (struct epoll_event){ .events = EPOLLIN, .data.fd = crowd->stop };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, crowd->stop, &event))
		abort();
	atomic_store(&crowd->tid[member->number], gettid());
	while (epoll_wait(epoll, &event, 1, -1) == 1 && event.data.fd != crowd->stop) {
		atomic_fetch_add(&crowd->woken, 1);
		atomic_fetch_add(&crowd->taken, crowd_take(crowd));
	}
	close(epoll);
	return NULL;
}

static bool crowd_waits(struct crowd *crowd)
{
	for (int i = 0; i < WAITERS; i++)
		if (!is_waiting(atomic_load(&crowd->tid[i])))
			return false;
	return true;
}

FIXTURE(exclusive) {
	struct crowd crowd;
};

FIXTURE_VARIANT(exclusive) {
	enum source source;
};

FIXTURE_VARIANT_ADD(exclusive, eventfd) {
	.source = EVENTFD,
};

FIXTURE_VARIANT_ADD(exclusive, queue) {
	.source = QUEUE,
};

FIXTURE_VARIANT_ADD(exclusive, events) {
	.source = LOG,
};

FIXTURE_SETUP(exclusive)
{
	struct crowd *crowd = &self->crowd;

	if (variant->source == LOG && !there_is_an_afu())
		SKIP(return, "there is no AFU");
	*crowd = (struct crowd){ .source = variant->source, .stop = event_new(),
				 .lock = PTHREAD_MUTEX_INITIALIZER };
	switch (variant->source) {
	case EVENTFD:
		ASSERT_TRUE(bells_open(&crowd->bell, 1));
		crowd->fd = crowd->bell.efd;
		break;
	case QUEUE:
		ASSERT_TRUE(drain_open(&crowd->drain, ux_open(), 1));
		crowd->fd = crowd->drain.eventfd;
		break;
	case LOG:
		ASSERT_TRUE(teller_open(&crowd->teller));
		crowd->fd = crowd->teller.context.fd;
	}
}

FIXTURE_TEARDOWN(exclusive)
{
	switch (variant->source) {
	case EVENTFD:
		bells_close(&self->crowd.bell);
		break;
	case QUEUE:
		drain_close(&self->crowd.drain);
		break;
	case LOG:
		EXPECT_TRUE(teller_close(&self->crowd.teller));
	}
}

TEST_F(exclusive, waiters_take_each_event_once)
{
	struct epoll_event urgent = { .events = EPOLLEXCLUSIVE | EPOLLPRI };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct crowd *crowd = &self->crowd;
	struct member members[WAITERS];
	long rounds = fewer_with_lockdep(300, 30), n;

	EXPECT_EQ(-1, epoll_ctl(epoll, EPOLL_CTL_ADD, crowd->fd, &urgent));
	EXPECT_EQ(EINVAL, errno);
	close(epoll);
	for (int i = 0; i < WAITERS; i++) {
		members[i] = (struct member){ .crowd = crowd, .number = i };
		ASSERT_EQ(0, pthread_create(&members[i].thread, NULL, member_run, &members[i]));
	}
	for (n = 0; n < rounds; n++) {
		ASSERT_TRUE(becomes(crowd_waits(crowd), true));
		switch (variant->source) {
		case EVENTFD:
			ring(crowd->bell.window);
			break;
		case QUEUE:
			ring(uxive_drain_trigger(&crowd->drain, 0));
			break;
		case LOG:
			ASSERT_TRUE(teller_tell(&crowd->teller, n));
		}
		ASSERT_TRUE(becomes(atomic_load(&crowd->taken), n + 1))
			TH_LOG("round %ld", n);
		progress();
	}
	ASSERT_TRUE(becomes(crowd_waits(crowd), true));
	event_add(crowd->stop, 1);
	for (int i = 0; i < WAITERS; i++)
		pthread_join(members[i].thread, NULL);
	EXPECT_EQ(rounds, atomic_load(&crowd->taken));
	/* An eventfd wakes one thread, a context all of them. */
	if (variant->source == LOG) {
		EXPECT_LE(rounds, atomic_load(&crowd->woken));
		EXPECT_GE(rounds * WAITERS, atomic_load(&crowd->woken));
	} else {
		EXPECT_EQ(rounds, atomic_load(&crowd->woken));
	}
	TH_LOG("%ld events, %ld times one of %d was woken", n, atomic_load(&crowd->woken), WAITERS);
}

/* The end is everybody's. */
TEST_F(exclusive, waiters_are_all_woken_at_the_end)
{
	struct crowd *crowd = &self->crowd;
	struct member members[WAITERS];

	if (variant->source != LOG)
		SKIP(return, "only an AFU goes");
	for (int i = 0; i < WAITERS; i++) {
		members[i] = (struct member){ .crowd = crowd, .number = i };
		ASSERT_EQ(0, pthread_create(&members[i].thread, NULL, member_run, &members[i]));
	}
	ASSERT_TRUE(becomes(crowd_waits(crowd), true));
	ASSERT_EQ(0, afu_unbind(&crowd->teller.function));
	/* They go on being told. */
	EXPECT_TRUE(becomes(atomic_load(&crowd->woken) >= WAITERS, true));
	event_add(crowd->stop, 1);
	for (int i = 0; i < WAITERS; i++)
		pthread_join(members[i].thread, NULL);
}

/* User drain from several threads. */

#define DRAINERS	4
#define RINGERS		2
#define SLOTS_EACH	16
#define IRQS		(RINGERS * SLOTS_EACH)
/* The thread that takes this ends. */
#define END_SLOT	IRQS

struct shared {
	struct uxive_drain drain;
	pthread_mutex_t lock;
	atomic_long handled[IRQS];
	atomic_long interrupted;
	atomic_bool stop, failed;
};

struct worker {
	pthread_t thread;
	struct shared *shared;
	int number;
	atomic_long done;
};

static void *drainer_run(void *arg)
{
	struct worker *worker = arg;
	struct shared *shared = worker->shared;
	int slot;

	for (;;) {
		slot = uxive_drain_wait_shared(&shared->drain, &shared->lock, WATCHDOG_MS);
		if (slot < 0 && errno == EINTR) {
			atomic_fetch_add(&shared->interrupted, 1);
			continue;
		}
		if (slot < 0 || slot > END_SLOT)
			break;
		uxive_drain_eoi(&shared->drain, slot);
		if (slot == END_SLOT) {
			ring(uxive_drain_trigger(&shared->drain, END_SLOT));
			return NULL;
		}
		atomic_fetch_add(&shared->handled[slot], 1);
		atomic_fetch_add(&worker->done, 1);
	}
	atomic_store(&shared->failed, true);
	return NULL;
}

/* Rings each of its slots, and again when all of these were handled. */
static void *worker_rings(void *arg)
{
	struct worker *worker = arg;
	struct shared *shared = worker->shared;
	int first = worker->number * SLOTS_EACH;
	long rounds = rings_to_send() / IRQS;

	pin_to_cpu(worker->number % sysconf(_SC_NPROCESSORS_ONLN));
	for (long n = 0; n < rounds; n++) {
		for (int slot = first; slot < first + SLOTS_EACH; slot++)
			ring(uxive_drain_trigger(&shared->drain, slot));
		for (int slot = first; slot < first + SLOTS_EACH; slot++)
			while (atomic_load(&shared->handled[slot]) <= n) {
				if (atomic_load(&shared->failed))
					return NULL;
				sched_yield();
			}
		atomic_fetch_add(&worker->done, SLOTS_EACH);
		progress();
	}
	return NULL;
}

static void ignore_signal(int sig)
{
	(void)sig;
}

static void interrupt_all(struct worker *drainers)
{
	for (int i = 0; i < DRAINERS; i++)
		pthread_kill(drainers[i].thread, SIGUSR1);
}

FIXTURE(threads) {
	struct shared shared;
	struct worker drainers[DRAINERS];
};

FIXTURE_VARIANT(threads) {
	bool signals;
};

FIXTURE_VARIANT_ADD(threads, undisturbed) {
	.signals = false,
};

FIXTURE_VARIANT_ADD(threads, interrupted) {
	.signals = true,
};

FIXTURE_SETUP(threads)
{
	struct sigaction act = { .sa_handler = ignore_signal };

	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	memset(&self->shared, 0, sizeof(self->shared));
	pthread_mutex_init(&self->shared.lock, NULL);
	ASSERT_TRUE(drain_open(&self->shared.drain, ux_open(), IRQS + 1));
}

FIXTURE_TEARDOWN(threads)
{
	drain_close(&self->shared.drain);
}

TEST_F(threads, share_a_queue_and_lose_nothing)
{
	struct worker ringers[RINGERS];
	long rung = 0, handled = 0;

	for (int i = 0; i < DRAINERS; i++) {
		self->drainers[i] = (struct worker){ .shared = &self->shared, .number = i };
		ASSERT_EQ(0, pthread_create(&self->drainers[i].thread, NULL, drainer_run,
					    &self->drainers[i]));
	}
	for (int i = 0; i < RINGERS; i++) {
		ringers[i] = (struct worker){ .shared = &self->shared, .number = i };
		ASSERT_EQ(0, pthread_create(&ringers[i].thread, NULL, worker_rings, &ringers[i]));
	}
	for (int i = 0; i < RINGERS; i++) {
		while (pthread_tryjoin_np(ringers[i].thread, NULL)) {
			if (variant->signals)
				interrupt_all(self->drainers);
			usleep(1000);
		}
		rung += ringers[i].done;
	}
	ASSERT_FALSE(atomic_load(&self->shared.failed));
	/* One of them waits for an event now, if none did before. */
	if (variant->signals)
		ASSERT_TRUE(becomes((interrupt_all(self->drainers),
				     atomic_load(&self->shared.interrupted) > 0), true));
	ring(uxive_drain_trigger(&self->shared.drain, END_SLOT));
	for (int i = 0; i < DRAINERS; i++) {
		ASSERT_EQ(0, pthread_join(self->drainers[i].thread, NULL));
		handled += self->drainers[i].done;
	}
	EXPECT_FALSE(atomic_load(&self->shared.failed));
	EXPECT_EQ(rings_to_send() / IRQS * IRQS, rung);
	EXPECT_EQ(rung, handled);
	for (int slot = 0; slot < IRQS; slot++)
		EXPECT_EQ(rung / IRQS, self->shared.handled[slot]);
	/* The last thread's ring, which nobody has taken. */
	EXPECT_EQ(END_SLOT, uxive_drain_wait(&self->shared.drain, WATCHDOG_MS));
	EXPECT_EQ(-1, uxive_drain_try_next(&self->shared.drain));
	TH_LOG("%ld rings; %ld, %ld, %ld, %ld by each thread; interrupted %ld times", rung,
	       self->drainers[0].done, self->drainers[1].done, self->drainers[2].done,
	       self->drainers[3].done, self->shared.interrupted);
}

/* Takes one of slot 0 and does not return before one of slot 1 was handled. */
struct handover {
	struct shared shared;
	atomic_int in_handler;
	long rounds;
};

static void *handover_run(void *arg)
{
	struct handover *handover = arg;
	struct shared *shared = &handover->shared;
	int slot;

	while ((slot = uxive_drain_wait_shared(&shared->drain, &shared->lock,
					       WATCHDOG_MS)) >= 0) {
		long before = atomic_load(&shared->handled[1]);

		uxive_drain_eoi(&shared->drain, slot);
		if (slot == 2) {
			ring(uxive_drain_trigger(&shared->drain, 2));
			return NULL;
		}
		if (slot == 0) {
			atomic_store(&handover->in_handler, 1);
			while (atomic_load(&shared->handled[1]) == before &&
			       !atomic_load(&shared->stop))
				sched_yield();
			atomic_store(&handover->in_handler, 0);
		}
		atomic_fetch_add(&shared->handled[slot], 1);
	}
	atomic_store(&shared->failed, true);
	return NULL;
}

TEST(a_thread_that_handles_holds_up_nobody)
{
	static struct handover handover;
	struct shared *shared = &handover.shared;
	pthread_t threads[2];
	long n;

	pthread_mutex_init(&shared->lock, NULL);
	ASSERT_TRUE(drain_open(&shared->drain, ux_open(), 3));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, handover_run, &handover));
	for (n = 0; n < 1000; n++) {
		ring(uxive_drain_trigger(&shared->drain, 0));
		ASSERT_TRUE(becomes(atomic_load(&handover.in_handler), 1));
		ring(uxive_drain_trigger(&shared->drain, 1));
		if (!becomes(atomic_load(&shared->handled[0]), n + 1))
			break;
		progress();
	}
	EXPECT_EQ(1000, n);
	EXPECT_EQ(n, atomic_load(&shared->handled[1]));
	atomic_store(&shared->stop, true);
	ring(uxive_drain_trigger(&shared->drain, 2));
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_FALSE(atomic_load(&shared->failed));
	TH_LOG("%ld handlers, each ended by another thread's", n);
	drain_close(&shared->drain);
}

TEST_HARNESS_MAIN
