// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: an interrupt, VP or queue that fails to quiesce is quarantined, with
 * its slot. It is counted and reported, tried again, and freed once it is quiet.
 * The program and others do not notice.
 *
 * Failures to quiesce are injected, since QEMU's XIVE always goes quiet. For
 * kernels that have FAULT_INJECTION_STACKTRACE_FILTER and FAIL_FUNCTION.
 */
#include "uxive_faults.h"
#include "uxive_fixture.h"

#define IRQS	2

static bool prepared;

FIXTURE(quarantine) {
	int nth;	/* /proc/thread-self/fail-nth */
	struct use before;
	long vp;
};

FIXTURE_SETUP(quarantine)
{
	catch_touches();
	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepared) TH_LOG("faults cannot be selected by their stack");
	ASSERT_TRUE(log_line(QUARANTINES));
	ASSERT_TRUE(select_faults(DRIVER));
	ASSERT_TRUE(fail_all(0));
	ASSERT_EQ(0, debug_lines("quarantine", "", NULL, 0));
	self->before = use_now();
	self->vp = lowest_vp();
	ASSERT_LT(0, self->vp);
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, self->nth);
}

FIXTURE_TEARDOWN(quarantine)
{
	close(self->nth);
	fail_all(0);
	/* All comes back by itself. */
	EXPECT_TRUE(becomes(debug_lines("quarantine", "", NULL, 0), 0));
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_EQ(self->before.irqs, all_irqs());
	EXPECT_EQ(self->vp, lowest_vp());
	select_faults(0);
	log_line(NO_MORE_QUARANTINES);
}

TEST_F(quarantine, a_slot_that_does_not_come_to_rest_is_kept)
{
	static const char * const reasons[] = {
		"its ESB cannot be switched off", "its events keep coming"
	};

	for (unsigned int step = 0, tries = 0; step < ARRAY_SIZE(reasons);) {
		char start[64], kept[256], slot[256], context[256];
		struct bells bells;
		struct uxive_event event;
		int kept_lines, contexts;
		__u64 offset;

		ASSERT_TRUE(bells_open(&bells, IRQS));
		ASSERT_EQ(0, fcntl(bells.fd, F_SETFL, O_NONBLOCK));
		ring(bells.window);
		ASSERT_EQ(1, event_wait(bells.efd));

		/* For the program it is freed. */
		arm(self->nth, step + 1);
		EXPECT_EQ(0, ux_free(bells.fd, slot_offset(0)));
		ASSERT_TRUE(disarm(self->nth));
		EXPECT_EQ(SIGBUS, touch(bells.window));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EINVAL, ux_free(bells.fd, slot_offset(0)));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EINVAL,
			     ux_bind(bells.fd, slot_offset(0), bells.efd));
		EXPECT_EQ(IRQS - 1, ux_count(bells.fd));
		event = next_event(bells.fd);
		EXPECT_EQ(UXIVE_EVENT_QUARANTINED, event.header.type);
		EXPECT_EQ(slot_offset(0), event.quarantine.offset);
		EXPECT_EQ(step ? UXIVE_QUARANTINE_EVENTS : UXIVE_QUARANTINE_SOURCE,
			  event.quarantine.reason);

		/*
		 * Root sees it in debugfs. Other interrupts work as before; its
		 * slot is given to none.
		 */
		snprintf(start, sizeof(start), "%ld ", bells.id);
		kept_lines = debug_lines("quarantine", start, kept, sizeof(kept));
		contexts = debug_lines("contexts", start, context, sizeof(context));
		snprintf(start, sizeof(start), "%ld 0 ", bells.id);
		debug_lines("slots", start, slot, sizeof(slot));
		ASSERT_EQ(0, ux_alloc(bells.fd, &offset));
		if (debug_lines("quarantine", start, NULL, 0) != 1) {
			/* It was tried again in the middle of this. */
			ASSERT_GT(20, tries++);
			bells_close(&bells);
			continue;
		}
		EXPECT_EQ(1, kept_lines);
		EXPECT_TRUE(strstr(kept, reasons[step])) TH_LOG("%s", kept);
		EXPECT_EQ(1, contexts);
		EXPECT_TRUE(strstr(context, " open kernel 1 1 ")) TH_LOG("%s", context);
		EXPECT_TRUE(strstr(slot, "quarantined")) TH_LOG("%s", slot);
		EXPECT_EQ(slot_offset(IRQS), offset);
		ring(bells.window + STRIDE);
		EXPECT_EQ(1, event_wait(bells.efd));

		/* Once quiet it is freed, and can be had again. */
		ASSERT_EQ(1, poll(&(struct pollfd){ .fd = bells.fd, .events = POLLIN }, 1,
				  WATCHDOG_MS));
		event = next_event(bells.fd);
		EXPECT_EQ(UXIVE_EVENT_RELEASED, event.header.type);
		EXPECT_EQ(slot_offset(0), event.quarantine.offset);
		EXPECT_EQ(0, debug_lines("quarantine", "", NULL, 0));
		ASSERT_EQ(0, ux_alloc(bells.fd, &offset));
		EXPECT_EQ(slot_offset(0), offset);
		ASSERT_EQ(0, ux_bind(bells.fd, offset, bells.efd));
		ring(bells.window);
		EXPECT_EQ(1, event_wait(bells.efd));
		bells_close(&bells);
		step++;
	}
}

TEST_F(quarantine, of_many_only_the_one_that_does_not_come_to_rest_is_kept)
{
	bool kept[IRQS] = {}, hit;
	int step = 0;

	do {
		struct uxive_event event;
		struct bells bells;
		__u64 offset;

		progress();
		ASSERT_TRUE(bells_open(&bells, IRQS));
		ASSERT_EQ(0, fcntl(bells.fd, F_SETFL, O_NONBLOCK));
		for (int i = 0; i < IRQS; i++)
			ring(bells.window + i * STRIDE);
		arm(self->nth, ++step);
		/* For the program all are freed. */
		EXPECT_EQ(0, ux_free_many(bells.fd, 0, IRQS));
		hit = disarm(self->nth);
		EXPECT_EQ(0, ux_count(bells.fd));
		for (int i = 0; i < IRQS; i++)
			EXPECT_EQ(SIGBUS, touch(bells.window + i * STRIDE));
		event = next_event(bells.fd);
		EXPECT_EQ(hit ? UXIVE_EVENT_QUARANTINED : NO_EVENT, event.header.type);
		if (hit) {
			offset = event.quarantine.offset;
			ASSERT_GT(IRQS, (offset - IRQ_BASE) / STRIDE);
			kept[(offset - IRQ_BASE) / STRIDE] = true;
			ASSERT_EQ(1, poll(&(struct pollfd){ .fd = bells.fd, .events = POLLIN }, 1,
					  WATCHDOG_MS));
			event = next_event(bells.fd);
			EXPECT_EQ(UXIVE_EVENT_RELEASED, event.header.type);
			EXPECT_EQ(offset, event.quarantine.offset);
		}
		EXPECT_EQ(NO_EVENT, next_event(bells.fd).header.type);
		EXPECT_TRUE(becomes(total_irqs(bells.fd), 0));
		bells_close(&bells);
	} while (hit);
	TH_LOG("%d steps", step - 1);
	/* Each of them in its turn. */
	for (int i = 0; i < IRQS; i++)
		EXPECT_TRUE(kept[i]);
}

/*
 * Closes a context with its @step-th step failing; false if it has fewer. When it
 * is tried again that fails too, until the caller ends it.
 */
static bool close_fails(int nth, int fd, int step)
{
	bool hit;

	arm(nth, step);
	close(fd);
	hit = disarm(nth);
	return hit && fail_all(-1);
}

/*
 * Whether that step was one that firmware refuses: nothing is quarantined, and the VP is
 * leaked. The next one is the lowest then.
 */
static bool was_refused(long *vp)
{
	long before = *vp;

	if (debug_lines("contexts", "", NULL, 0) || !fail_all(0))
		return false;
	*vp = lowest_vp();
	return *vp != before;
}

TEST_F(quarantine, a_context_is_closed_although_it_does_not_come_to_rest)
{
	int step = 1, queues = 0, tries = 0, refused = 0;

	for (;; step++) {
		struct bells bells;
		char start[32], line[256];
		bool hit;

		progress();
		ASSERT_TRUE(bells_open(&bells, IRQS));
		ring(bells.window);
		munmap(bells.window, IRQS * STRIDE);
		close(bells.efd);
		hit = close_fails(self->nth, bells.fd, step);

		snprintf(start, sizeof(start), "%ld ", bells.id);
		if (!hit) {
			EXPECT_EQ(0, debug_lines("contexts", start, NULL, 0));
			break;
		}
		if (was_refused(&self->vp)) {
			EXPECT_EQ(0, debug_lines("contexts", start, NULL, 0));
			refused++;
			continue;
		}
		if (debug_lines("contexts", start, line, sizeof(line)) != 1) {
			/* It was tried again before that was to fail, too. */
			ASSERT_GT(20, tries++);
			ASSERT_TRUE(fail_all(0));
			step--;
			continue;
		}
		EXPECT_TRUE(strstr(line, " closing kernel 0 ")) TH_LOG("%s", line);
		ASSERT_EQ(1, debug_lines("quarantine", start, line, sizeof(line)));
		queues += !!strstr(line, "its escalation does not go quiet");
		/* Its Linux interrupt and its VP are not another's. */
		EXPECT_EQ(self->before.linux_irqs + 1, linux_irqs());
		EXPECT_EQ(1, debug_lines("queues", start, NULL, 0));
		ASSERT_TRUE(fail_all(0));
		ASSERT_TRUE(becomes(debug_lines("contexts", start, NULL, 0), 0));
		EXPECT_TRUE(becomes(linux_irqs(), self->before.linux_irqs));
	}
	TH_LOG("%d steps, of which %d concern the queue and %d the VP", step - 1, queues, refused);
	EXPECT_EQ(2 * IRQS + queues + refused, step - 1);
	EXPECT_EQ(2, queues);
	EXPECT_EQ(2, refused);
}

TEST_F(quarantine, a_user_drained_context_is_closed_too)
{
	int step = 1, tries = 0, refused = 0;

	for (;; step++) {
		int fd = ux_open();

		progress();
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ux_user_drain(fd, -1));
		ASSERT_EQ(0, ux_fill(fd, IRQS));
		if (!close_fails(self->nth, fd, step))
			break;
		if (was_refused(&self->vp)) {
			refused++;
			continue;
		}
		if (debug_lines("quarantine", "", NULL, 0) != 1) {
			/* As above. */
			ASSERT_GT(20, tries++);
			step--;
		}
		ASSERT_TRUE(fail_all(0));
		ASSERT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
	}
	TH_LOG("%d steps", step - 1);
	/* The kernel does not read the queue, and so sees no events that keep coming. */
	EXPECT_EQ(IRQS + 2 + refused, step - 1);
	EXPECT_EQ(2, refused);
}

/* An interrupt whose offset cannot be told is freed at once, or quarantined. */
TEST_F(quarantine, an_alloc_that_cannot_be_undone_leaves_nothing)
{
	int step = 1, quarantined = 0, refused = 0;

	for (;; step++) {
		int fd = ux_open(), efd = event_new(), ret;
		__u64 offset;
		void *page;
		bool hit;

		progress();
		ASSERT_LE(0, fd);
		arm(self->nth, step);
		ret = ux_ioctl(fd, OCXL_IOCTL_IRQ_ALLOC, (void *)8);
		hit = disarm(self->nth);
		EXPECT_GT(0, ret);
		EXPECT_EQ(0, ux_count(fd));
		ASSERT_EQ(0, fcntl(fd, F_SETFL, O_NONBLOCK));
		quarantined += next_event(fd).header.type == UXIVE_EVENT_QUARANTINED;

		/* Whatever is left, the context is good for another. */
		ASSERT_EQ(0, ux_alloc(fd, &offset));
		ASSERT_EQ(0, ux_bind(fd, offset, efd));
		page = ux_map(fd, offset, STRIDE);
		ring(page);
		EXPECT_EQ(1, event_wait(efd)) TH_LOG("step %d", step);
		munmap(page, STRIDE);
		close(efd);
		close(fd);
		ASSERT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
		refused += was_refused(&self->vp);
		if (!hit)
			break;
	}
	TH_LOG("%d steps, %d quarantines, %d VPs are kept", step - 1, quarantined, refused);
	EXPECT_EQ(2, quarantined);
	EXPECT_EQ(2, refused);
}

TEST_F(quarantine, the_owner_may_be_killed)
{
	struct bells bells;
	char line[256];
	pid_t child;
	int ready[2];
	char byte;

	ASSERT_EQ(0, pipe(ready));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (bells_open(&bells, IRQS))
			write(ready[1], "", 1);
		pause();
		_exit(1);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	ASSERT_TRUE(fail_all(-1));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, child_status(child));
	ASSERT_TRUE(becomes(debug_lines("quarantine", "", NULL, 0), IRQS));
	ASSERT_EQ(1, debug_lines("contexts", "", line, sizeof(line)));
	EXPECT_TRUE(strstr(line, " closing kernel 0 2 ")) TH_LOG("%s", line);
	close(ready[0]);
	close(ready[1]);
}

TEST_F(quarantine, many_are_kept_and_few_lines_logged)
{
	enum { MANY = 256 };
	int fd = ux_open(), other = ux_open(), log = log_open();
	char start[32];
	long begin;

	ASSERT_EQ(0, ux_fill(fd, MANY));
	snprintf(start, sizeof(start), "%ld ", ux_context(fd));
	begin = clock_ns();
	ASSERT_TRUE(fail_all(-1));
	close(fd);
	/* One is in no table while it is tried again. */
	EXPECT_TRUE(becomes(debug_lines("quarantine", start, NULL, 0), MANY));
	/* As long as it lasts. */
	sleep(3);
	EXPECT_TRUE(becomes(debug_lines("quarantine", start, NULL, 0), MANY));
	EXPECT_EQ(self->before.irqs + MANY, total_irqs(other));
	close(other);
	ASSERT_TRUE(fail_all(0));
	EXPECT_A_LINE_A_SECOND(log, "is quarantined", begin);
	close(log);
}

TEST_F(quarantine, lines_come_once_a_second_and_hide_no_other)
{
	int fd = ux_open(), log = log_open(), queue_log = log_open(), freed = 0;
	__u64 offset;
	long start;

	ASSERT_EQ(0, ux_fill(fd, 1));
	start = clock_ns();
	for (; clock_ns() - start < STORM_NS; freed++) {
		/* Meanwhile those of before are tried again, and given back. */
		ASSERT_TRUE(becomes(ux_alloc(fd, &offset), 0));
		arm(self->nth, 1);
		EXPECT_EQ(0, ux_free(fd, offset));
		ASSERT_TRUE(disarm(self->nth));
		progress();
	}
	/* In the same second as one of the others, or soon after. */
	close(fd);
	fd = ux_open();
	ASSERT_EQ(0, ux_user_drain(fd, -1));
	arm(self->nth, 1);
	close(fd);
	ASSERT_TRUE(disarm(self->nth));
	TH_LOG("%d interrupts and a queue quarantined", freed);
	EXPECT_A_LINE_A_SECOND(log, "is quarantined: its ESB cannot be switched off", start);
	EXPECT_EQ(1, log_lines(queue_log, "its event queue is quarantined"));
	close(log);
	close(queue_log);
}

#define REFUSALS "uxive selftest: firmware refuses"
#define QUEUE_BYTES	(64L << 10)

/* Hardware may still write to the memory of a VP that firmware does not disable. */
TEST(what_firmware_does_not_disable_is_not_given_back)
{
	long vp, queues, bytes = limit_get("queue_bytes");
	int nth, step = 1, kept = 0, fd = ux_open();
	bool failed = true;
	__u32 of_user;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepared && select_faults(DRIVER) && fail_all(0));
	vp = lowest_vp();
	queues = limit_get("queues");
	of_user = info_of(fd).queues_user;
	close(fd);
	nth = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, nth);
	ASSERT_TRUE(log_line(QUARANTINES) && log_line(REFUSALS));
	/* Each step of closing one, of which those before are quarantined and tried again. */
	for (; failed; step++) {
		int irqs = linux_irqs();
		struct bells bells;

		ASSERT_TRUE(bells_open(&bells, IRQS));
		munmap(bells.window, IRQS * STRIDE);
		close(bells.efd);
		arm(nth, step);
		close(bells.fd);
		failed = disarm(nth);
		ASSERT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));
		EXPECT_TRUE(becomes(linux_irqs(), irqs));
		if (was_refused(&vp)) {
			kept++;
			/* There is no other line of the kind for so long. */
			sleep(1);
		}
	}
	EXPECT_EQ(2, kept);
	/* They count against the limits, also of the user, who has no context in between. */
	EXPECT_EQ(queues + kept, limit_get("queues"));
	EXPECT_EQ(bytes + kept * QUEUE_BYTES, limit_get("queue_bytes"));
	fd = ux_open();
	EXPECT_EQ(of_user + kept, info_of(fd).queues_user);
	close(fd);
	EXPECT_TRUE(becomes(logged(REFUSALS, "firmware does not disable it, it is not given back"),
			    kept));
	TH_LOG("%d steps, %d VPs are kept", step - 2, kept);
	close(nth);
	select_faults(0);
	log_line(NO_MORE_QUARANTINES);
}

/* Queues that were leaked count as long as the module is loaded. */
static void load_again(void)
{
	if (module_unload("uxive") || module_load(UXIVE_MODULE))
		_exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	prepared = prepare_faults();
	/* The harness does not return. */
	if (prepared)
		atexit(load_again);
	return test_harness_run(argc, argv);
}
