// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: trace events report each step of an interrupt's life, in order, with
 * the same context, slot and LISN as elsewhere.
 *
 * For kernels with tracing, debugfs and fault injection. The suite `tracing` has
 * trace-cmd and perf look on at a_ring_is_seen_all_its_way.
 */
#include "uxive_faults.h"
#include "uxive_fixture.h"

#include <consumer.h>

#define INSTANCE	"/sys/kernel/tracing/instances/uxive_selftest"
#define LINES		64
#define LINE		256

static bool prepared;

/*
 * The traced lines of a context, each the event and its text, without task and
 * time. Returns how many there are, and fills the first of @lines.
 */
static int traced(long context, char lines[LINES][LINE])
{
	char line[LINE], mark[32];
	FILE *file = fopen(INSTANCE "/trace", "r");
	int count = 0;

	snprintf(mark, sizeof(mark), " context=%ld ", context);
	while (file && fgets(line, sizeof(line), file)) {
		char *event = strstr(line, " uxive_");

		if (!event || !strstr(event, mark))
			continue;
		event[strcspn(event, "\n")] = 0;
		if (count < LINES)
			snprintf(lines[count], LINE, "%s", event + 1);
		count++;
	}
	if (file)
		fclose(file);
	return count;
}

/* How many lines of a context begin with @start, which is for a context's number. */
static int traced_lines(long context, const char *start)
{
	char lines[LINES][LINE], text[LINE];
	int count = traced(context, lines), found = 0;

	snprintf(text, sizeof(text), start, context);
	for (int i = 0; i < count && i < LINES; i++)
		found += !strncmp(lines[i], text, strlen(text));
	return found;
}

FIXTURE(trace) {
	char lines[LINES][LINE];
	int fd, efd, nth;
	int count, checked;
	long id;
};

/* Expects this as the next traced line. */
#define NEXT(...) do {							\
	char __text[LINE];						\
									\
	snprintf(__text, sizeof(__text), __VA_ARGS__);			\
	ASSERT_LT(self->checked, self->count) TH_LOG("not traced: %s", __text); \
	EXPECT_STREQ(__text, self->lines[self->checked]);		\
	self->checked++;						\
} while (0)

/* Reads the traced lines of the context. */
#define LOOK() do {							\
	self->count = traced(self->id, self->lines);			\
	self->checked = 0;						\
	ASSERT_GE(LINES, self->count);					\
} while (0)

#define NO_MORE() do {							\
	if (self->checked < self->count)				\
		TH_LOG("traced too: %s", self->lines[self->checked]);	\
	ASSERT_EQ(self->checked, self->count);				\
} while (0)

FIXTURE_SETUP(trace)
{
	catch_touches();
	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepared) TH_LOG("faults cannot be selected by their stack");
	rmdir(INSTANCE);
	ASSERT_EQ(0, mkdir(INSTANCE, 0700)) {
		TH_LOG("the kernel has no tracing, or tracefs is not mounted");
	}
	/* The clocks of CPUs may differ; this one is an order. */
	ASSERT_TRUE(write_file(INSTANCE, "trace_clock", "counter"));
	ASSERT_TRUE(write_file(INSTANCE, "events/uxive/enable", "1"));
	ASSERT_TRUE(select_faults(DRIVER));
	self->fd = ux_open();
	self->efd = event_new();
	self->id = ux_context(self->fd);
	ASSERT_LT(0, self->id);
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, self->nth);
}

FIXTURE_TEARDOWN(trace)
{
	close(self->nth);
	close(self->efd);
	close(self->fd);
	select_faults(0);
	EXPECT_EQ(0, rmdir(INSTANCE));
}

/* Two interrupts, so that one of them is not slot 0. */
TEST_F(trace, a_ring_is_seen_all_its_way)
{
	struct ux_irq irqs[2] = {};
	void *page;

	ASSERT_EQ(0, ux_fill(self->fd, 2));
	ASSERT_EQ(2, ux_irqs(self->fd, irqs, 2));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(1), self->efd));
	page = ux_map(self->fd, slot_offset(1), STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	ASSERT_EQ(1, event_wait(self->efd));
	/* The handler may not have returned yet. */
	ASSERT_TRUE(becomes(traced_lines(self->id, "uxive_drain: context=%ld "), 1));
	ASSERT_EQ(0, ux_free(self->fd, slot_offset(1)));
	munmap(page, STRIDE);
	close(self->fd);

	LOOK();
	for (int i = 0; i < 2; i++)
		NEXT("uxive_alloc: context=%ld slot=%d lisn=0x%lx offset=0x%lx ret=0",
		     self->id, i, irqs[i].lisn, irqs[i].offset);
	NEXT("uxive_bind: context=%ld slot=1 eventfd=1", self->id);
	NEXT("uxive_fault: context=%ld slot=1 offset=0x%lx result=mapped",
	     self->id, irqs[1].offset);
	NEXT("uxive_ring: context=%ld slot=1 delivery=eventfd", self->id);
	NEXT("uxive_drain: context=%ld entries=1 more=0", self->id);
	for (int i = 1; i >= 0; i--) {
		NEXT("uxive_free: context=%ld slot=%d lisn=0x%lx", self->id, i, irqs[i].lisn);
		NEXT("uxive_zap: context=%ld slot=%d lisn=0x%lx", self->id, i, irqs[i].lisn);
	}
	NO_MORE();
}

TEST_F(trace, a_program_that_drains_is_seen_to_arm)
{
	struct uxive_user_drain arg = ux_drain_arg(self->efd);
	struct ux_irq irq = {};
	__u32 *queue;
	void *page;

	ASSERT_EQ(0, ux_ioctl(self->fd, UXIVE_IOC_USER_DRAIN, &arg));
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(1, ux_irqs(self->fd, &irq, 1));
	page = mmap(NULL, arg.esb_stride, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
		    arg.esb_offset);
	ASSERT_NE(MAP_FAILED, page);
	queue = mmap(NULL, 4 * arg.queue_entries, PROT_READ, MAP_SHARED, self->fd,
		     arg.queue_offset);
	ASSERT_NE(MAP_FAILED, queue);
	ring(page);
	ASSERT_EQ(1, event_wait(self->efd));
	EXPECT_NE(0, __atomic_load_n(queue, __ATOMIC_RELAXED));
	ASSERT_EQ(0, ux_arm(self->fd));
	ASSERT_EQ(0, ux_arm(self->fd));
	munmap(queue, 4 * arg.queue_entries);
	munmap(page, arg.esb_stride);
	close(self->fd);

	LOOK();
	NEXT("uxive_alloc: context=%ld slot=0 lisn=0x%lx offset=0x%lx ret=0",
	     self->id, irq.lisn, irq.offset);
	NEXT("uxive_fault: context=%ld slot=0 offset=0x%lx result=mapped",
	     self->id, arg.esb_offset);
	NEXT("uxive_wake: context=%ld eventfd=1", self->id);
	NEXT("uxive_fault: context=%ld slot=-1 offset=0x%lx result=mapped",
	     self->id, arg.queue_offset);
	NEXT("uxive_arm: context=%ld armed_before=0", self->id);
	NEXT("uxive_arm: context=%ld armed_before=1", self->id);
	NEXT("uxive_free: context=%ld slot=0 lisn=0x%lx", self->id, irq.lisn);
	NEXT("uxive_zap: context=%ld slot=0 lisn=0x%lx", self->id, irq.lisn);
	NO_MORE();
}

TEST_F(trace, a_guest_is_seen_to_come_and_to_go)
{
	long was_on = limit_get("bypass");
	struct ux_irq irq = {};
	int guest;

	ASSERT_EQ(0, module_load("/modules/consumer.ko"));
	ASSERT_EQ(0, limit_set("bypass", 1));
	guest = open("/dev/consumer", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, guest);
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(1, ux_irqs(self->fd, &irq, 1));
	ASSERT_EQ(0, ux_set_irqs(self->fd, UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER |
				 UXIVE_SET_BYPASS, 0, 1, &self->efd));
	ASSERT_EQ(0, ioctl(guest, CONSUMER_REGISTER, self->efd));
	ASSERT_EQ(0, ioctl(guest, CONSUMER_UNREGISTER, 0));
	ASSERT_EQ(1, event_wait(self->efd));
	close(guest);
	EXPECT_EQ(0, limit_set("bypass", was_on));
	EXPECT_EQ(0, module_unload("consumer"));

	LOOK();
	NEXT("uxive_alloc: context=%ld slot=0 lisn=0x%lx offset=0x%lx ret=0", self->id, irq.lisn,
	     irq.offset);
	NEXT("uxive_bind: context=%ld slot=0 eventfd=1", self->id);
	for (int connected = 1; connected >= 0; connected--)
		NEXT("uxive_bypass: context=%ld slot=0 lisn=0x%lx connected=%d", self->id,
		     irq.lisn, connected);
	NEXT("uxive_ring: context=%ld slot=0 delivery=eventfd", self->id);
}

TEST_F(trace, an_export_is_seen_to_begin_to_be_touched_and_to_end)
{
	struct ux_irq irqs[3] = {};
	int fd[2];
	__u32 id;
	void *bells;

	ASSERT_EQ(0, ux_fill(self->fd, 3));
	ASSERT_EQ(3, ux_irqs(self->fd, irqs, 3));
	fd[0] = ux_export(self->fd, 1, 2, &id);
	bells = ux_map(fd[0], 0, 2 * STRIDE);
	ASSERT_NE(MAP_FAILED, bells);
	ring(bells + STRIDE);
	ASSERT_TRUE(becomes(traced_lines(self->id, "uxive_drain: context=%ld "), 1));
	ASSERT_EQ(0, ux_revoke(self->fd, id));
	fd[1] = ux_export(self->fd, 0, 1, NULL);
	munmap(bells, 2 * STRIDE);
	close(fd[0]);
	close(fd[1]);

	LOOK();
	for (int i = 0; i < 3; i++)
		NEXT("uxive_alloc: context=%ld slot=%d lisn=0x%lx offset=0x%lx ret=0",
		     self->id, i, irqs[i].lisn, irqs[i].offset);
	NEXT("uxive_export: context=%ld id=1 start=1 count=2", self->id);
	/* Its offset is that in the owner's file. */
	NEXT("uxive_fault: context=%ld slot=2 offset=0x%lx result=mapped",
	     self->id, irqs[2].offset);
	NEXT("uxive_ring: context=%ld slot=2 delivery=unbound", self->id);
	NEXT("uxive_drain: context=%ld entries=1 more=0", self->id);
	NEXT("uxive_revoke: context=%ld id=1", self->id);
	NEXT("uxive_export: context=%ld id=2 start=0 count=1", self->id);
	NEXT("uxive_revoke: context=%ld id=2", self->id);
	NO_MORE();
}

TEST_F(trace, what_does_not_succeed_is_seen)
{
	struct ux_irq irq = {};
	void *pages;
	int ret;

	arm(self->nth, 1);
	ret = ux_fill(self->fd, 1);
	EXPECT_GT(0, ret);
	ASSERT_TRUE(disarm(self->nth));
	ASSERT_EQ(0, ux_fill(self->fd, 1));
	ASSERT_EQ(1, ux_irqs(self->fd, &irq, 1));
	/* The program cannot be told the offset. */
	EXPECT_EQ(-EFAULT, ux_ioctl(self->fd, OCXL_IOCTL_IRQ_ALLOC, (void *)8));
	pages = ux_map(self->fd, IRQ_BASE, 2 * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	EXPECT_EQ(SIGBUS, touch(pages + STRIDE));
	ring(pages);
	ASSERT_TRUE(becomes(traced_lines(self->id, "uxive_drain: context=%ld "), 1));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), self->efd));
	ASSERT_EQ(0, ux_bind(self->fd, slot_offset(0), -1));

	LOOK();
	NEXT("uxive_alloc: context=%ld slot=-1 lisn=0x0 offset=0x0 ret=%d", self->id, ret);
	NEXT("uxive_alloc: context=%ld slot=0 lisn=0x%lx offset=0x%lx ret=0",
	     self->id, irq.lisn, irq.offset);
	/* Nobody has learned its LISN. */
	ASSERT_LE(self->checked + 2, self->count);
	for (int i = 0; i < 2; i++)
		*strstr(self->lines[self->checked + i], " lisn=") = 0;
	NEXT("uxive_free: context=%ld slot=1", self->id);
	NEXT("uxive_zap: context=%ld slot=1", self->id);
	NEXT("uxive_alloc: context=%ld slot=-1 lisn=0x0 offset=0x0 ret=%d", self->id, -EFAULT);
	NEXT("uxive_fault: context=%ld slot=1 offset=0x%lx result=SIGBUS",
	     self->id, slot_offset(1));
	NEXT("uxive_fault: context=%ld slot=0 offset=0x%lx result=mapped",
	     self->id, slot_offset(0));
	NEXT("uxive_ring: context=%ld slot=0 delivery=unbound", self->id);
	NEXT("uxive_drain: context=%ld entries=1 more=0", self->id);
	NEXT("uxive_bind: context=%ld slot=0 eventfd=1", self->id);
	NEXT("uxive_bind: context=%ld slot=0 eventfd=0", self->id);
	NO_MORE();
	munmap(pages, 2 * STRIDE);
}

TEST_F(trace, a_quarantine_is_seen_to_begin_and_to_end)
{
	static const char * const reasons[] = { "source", "events", "escalation" };
	char lisns[ARRAY_SIZE(reasons)][32];

	/* The testbed takes a quarantine that was not announced for a complaint. */
	ASSERT_TRUE(log_line(QUARANTINES));
	for (int i = 0; i < 3; i++) {
		struct ux_irq irq = {};

		ASSERT_EQ(0, ux_fill(self->fd, 1));
		ASSERT_EQ(1, ux_irqs(self->fd, &irq, 1));
		snprintf(lisns[i], sizeof(lisns[i]), "slot=0 lisn=0x%lx", irq.lisn);
		/* With the last one the context goes: two steps are its slot's. */
		arm(self->nth, i + 1);
		EXPECT_EQ(0, i < 2 ? ux_free(self->fd, slot_offset(0)) : close(self->fd));
		ASSERT_TRUE(disarm(self->nth));
		ASSERT_TRUE(becomes(traced_lines(self->id, "uxive_quarantine_end: context=%ld "),
				    i + 1));
		ASSERT_TRUE(becomes(debug_lines("quarantine", "", NULL, 0), 0));
	}
	log_line(NO_MORE_QUARANTINES);

	LOOK();
	for (int i = 0; i < 3; i++) {
		const char *kept = i < 2 ? lisns[i] : "slot=-1 lisn=0x0";

		ASSERT_LT(self->checked, self->count);
		self->checked++;
		NEXT("uxive_free: context=%ld %s", self->id, lisns[i]);
		NEXT("uxive_zap: context=%ld %s", self->id, lisns[i]);
		NEXT("uxive_quarantine: context=%ld %s reason=%s", self->id, kept, reasons[i]);
		NEXT("uxive_quarantine_end: context=%ld %s", self->id, kept);
	}
	NO_MORE();
}

/* More than one run handles. */
#define STORM	128

/* The traced runs of the handler: the sum of their entries, and how often there were more. */
static long drained(long context, long *more)
{
	char line[LINE], mark[64];
	FILE *file = fopen(INSTANCE "/trace", "r");
	long sum = 0, entries;

	snprintf(mark, sizeof(mark), "uxive_drain: context=%ld entries=", context);
	*more = 0;
	while (file && fgets(line, sizeof(line), file)) {
		char *at = strstr(line, mark);
		int left;

		if (at && sscanf(at + strlen(mark), "%ld more=%d", &entries, &left) == 2) {
			sum += entries;
			*more += left;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

TEST_F(trace, runs_of_the_handler_add_up)
{
	/* One of them is not where the escalation comes to. */
	struct storm storms[2] = { { .cpu = 0, .irqs = STORM }, { .cpu = 1, .irqs = STORM } };
	long events = 0, entries, more;
	void *pages;

	/* An event for each ring would overflow the buffer. */
	ASSERT_TRUE(write_file(INSTANCE, "events/uxive/uxive_ring/enable", "0"));
	ASSERT_EQ(0, ux_fill(self->fd, STORM));
	for (int i = 0; i < STORM; i++)
		ASSERT_EQ(0, ux_bind(self->fd, slot_offset(i), self->efd));
	pages = ux_map(self->fd, IRQ_BASE, STORM * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int i = 0; i < 2; i++) {
		storms[i].pages = pages;
		ASSERT_EQ(0, storm_start(&storms[i]));
	}
	EXPECT_TRUE(becomes(ux_deferred(self->fd) > 0, true));
	for (int i = 0; i < 2; i++)
		storm_stop(&storms[i]);

	EXPECT_TRUE(becomes((events += event_read(self->efd),
			     drained(self->id, &more) == events &&
			     more == ux_deferred(self->fd)), true));
	entries = drained(self->id, &more);
	TH_LOG("%ld events; runs had %ld entries, and %ld left some", events, entries, more);
	munmap(pages, STORM * STRIDE);
}

int main(int argc, char **argv)
{
	prepared = prepare_faults();
	return test_harness_run(argc, argv);
}
