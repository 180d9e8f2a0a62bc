// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: an interrupt that is bound for irq bypass goes to the guest that has an irqfd
 * of its eventfd, and comes back when the guest goes, whatever ends it, in any order. Of
 * rings that are acknowledged each is an event, on one side or the other; at most one
 * more comes when it is given to a guest, and one when it comes back.
 *
 * consumer.ko stands in for KVM and a guest, here "guest". The suite `guests_bypass` has
 * real ones.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_fixture.h"
#include "uxive_guest.h"

#define IRQS	4
#define MASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_MASK)
#define UNMASK	(UXIVE_SET_DATA_NONE | UXIVE_SET_UNMASK)

#define EXPECT_SET_IRQS(error, ...)						\
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, error, ux_set_irqs(__VA_ARGS__))
#define EXPECT_BYPASS(error, fd, slot, efd)					\
	EXPECT_ERRNO(UXIVE_IOC_SET_IRQS, error, bind_bypass(fd, slot, efd))

/* The word at the end of its line in fdinfo. */
static bool is_shown(int fd, int slot, const char *state)
{
	const char *rest = fdinfo_of_irq(fd, slot_offset(slot));

	return rest && strstr(rest, state);
}

static bool is_in_debugfs(int fd, int slot, const char *state)
{
	char start[64], line[256] = "";

	if (access(DEBUG_UXIVE, F_OK))
		return true;
	snprintf(start, sizeof(start), "%ld %d ", ux_context(fd), slot);
	return debug_lines("slots", start, line, sizeof(line)) == 1 && strstr(line, state);
}

FIXTURE(bypass) {
	struct bells bells;
	struct use before;
	struct limits limits;
	__s32 efds[IRQS];
	int guest;
	/* How it was switched before. */
	long was_on;
};

FIXTURE_SETUP(bypass)
{
	catch_touches();
	ASSERT_EQ(0, module_load(CONSUMER_MODULE));
	self->was_on = limit_get("bypass");
	ASSERT_LE(0, self->was_on);
	ASSERT_TRUE(switch_bypass(true));
	ASSERT_TRUE(limits_save(&self->limits));
	ASSERT_TRUE(becomes(all_irqs(), 0));
	self->before = use_now();
	ASSERT_TRUE(bells_open(&self->bells, IRQS));
	events_new(self->efds, IRQS);
	self->guest = guest_open();
	ASSERT_LE(0, self->guest);
}

FIXTURE_TEARDOWN(bypass)
{
	close(self->guest);
	if (self->bells.fd >= 0)
		bells_close(&self->bells);
	events_close(self->efds, IRQS);
	EXPECT_TRUE(limits_restore(&self->limits));
	EXPECT_TRUE(becomes(limit_get("bypasses"), 0));
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TABLES_EMPTY();
	EXPECT_TRUE(switch_bypass(self->was_on));
	EXPECT_EQ(0, module_unload("consumer"));
}

/* Slot 0 gives one event to the guest for a ring, and none to its eventfd. */
#define EXPECT_OF_GUEST(efd) do {						\
	int __efd = (efd);							\
										\
	EXPECT_TRUE(guest_has(self->guest));					\
	guest_take(self->guest);						\
	/* From before the guest had it. */					\
	event_read(__efd);							\
	for (int __i = 0; __i < 3; __i++) {					\
		ring(self->bells.window);					\
		EXPECT_EQ(1, guest_wait(self->guest));				\
	}									\
	EXPECT_EQ(0, event_read(__efd));					\
	EXPECT_TRUE(is_shown(self->bells.fd, 0, " guest\n"));			\
	EXPECT_TRUE(is_in_debugfs(self->bells.fd, 0, " guest "));		\
} while (0)

/*
 * It gives one to the eventfd for a ring, and one more at most, which was sent before. That may be
 * ahead of the others all the way.
 */
#define EXPECT_OF_HOST(efd) do {						\
	int __efd = (efd), __more, __events = 0;				\
										\
	guest_take(self->guest);						\
	for (int __rings = 1; __rings <= 4; __rings++) {			\
		ring(self->bells.window);					\
		EXPECT_LE(1, __more = event_wait(__efd));			\
		__events += __more;						\
		EXPECT_GE(__rings + 1, __events);				\
	}									\
	EXPECT_EQ(0, guest_take(self->guest));					\
} while (0)

/*
 * As bells_mute(), after slot 0 came back from a guest: an event that was sent then may be under
 * way still. Of a new interrupt there is none.
 */
static int bells_mute_anew(const struct bells *bells)
{
	if (ux_free(bells->fd, slot_offset(0)) || ux_alloc_at(bells->fd, 0, 1) ||
	    ux_bind(bells->fd, slot_offset(0), bells->efd))
		return 0;
	event_read(bells->efd);
	return bells_mute(bells);
}

TEST_F(bypass, is_a_feature_that_root_switches)
{
	int fd = self->bells.fd;

	EXPECT_EQ(UXIVE_FEATURE_BYPASS, info_of(fd).features);
	ASSERT_TRUE(switch_bypass(false));
	EXPECT_EQ(0, limit_get("bypass"));
	EXPECT_EQ(0, info_of(fd).features);
	EXPECT_BYPASS(EOPNOTSUPP, fd, 0, self->efds[0]);
	EXPECT_EQ(-ERANGE, limit_set("bypass", 2));
	EXPECT_EQ(0, limit_get("bypass"));
	ASSERT_TRUE(switch_bypass(true));
	EXPECT_EQ(1, limit_get("bypass"));

	/* One that is bound stays so. */
	ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
	ASSERT_TRUE(switch_bypass(false));
	ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
	EXPECT_OF_GUEST(self->efds[0]);
}

TEST_F(bypass, is_asked_for_one_interrupt_and_an_eventfd)
{
	__s32 two[] = { self->efds[0], self->efds[1] }, none = -1;
	__u8 bools[] = { 1 };
	int fd = self->bells.fd, drained = ux_open(), pipes[2], closed = dup(fd);

	ASSERT_EQ(0, pipe(pipes));
	close(closed);
	EXPECT_SET_IRQS(EINVAL, fd, BYPASS, 0, 2, two);
	EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_BYPASS, 0, 1, two);
	EXPECT_SET_IRQS(EINVAL, fd, MASK | UXIVE_SET_BYPASS, 0, 1, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, UNMASK | UXIVE_SET_BYPASS, 0, 1, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER | UXIVE_SET_BYPASS,
			0, 1, NULL);
	EXPECT_SET_IRQS(EINVAL, fd, UXIVE_SET_DATA_BOOL | UXIVE_SET_TRIGGER | UXIVE_SET_BYPASS,
			0, 1, bools);
	EXPECT_SET_IRQS(EFAULT, fd, BYPASS, 0, 1, NULL);
	EXPECT_SET_IRQS(EBADF, fd, BYPASS, 0, 1, &none);
	EXPECT_BYPASS(EBADF, fd, 0, closed);
	EXPECT_BYPASS(EINVAL, fd, 0, pipes[0]);
	EXPECT_BYPASS(EINVAL, fd, IRQS, self->efds[0]);
	EXPECT_BYPASS(EINVAL, fd, SLOTS - 1, self->efds[0]);
	ASSERT_EQ(0, ux_user_drain(drained, -1));
	ASSERT_EQ(0, ux_fill(drained, 1));
	EXPECT_BYPASS(EINVAL, drained, 0, self->efds[0]);
	close(drained);

	/* Nothing has changed. */
	EXPECT_EQ(0, limit_get("bypasses"));
	EXPECT_EQ(-1, bells_mute(&self->bells));
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(bypass, needs_an_interrupt_and_an_eventfd_that_are_free)
{
	int fd = self->bells.fd;

	ASSERT_EQ(0, ux_set_irqs(fd, MASK, 0, 1, NULL));
	EXPECT_BYPASS(EBUSY, fd, 0, self->efds[0]);
	ASSERT_EQ(0, ux_set_irqs(fd, UNMASK, 0, 1, NULL));
	ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
	EXPECT_TRUE(is_shown(fd, 0, " bypass\n"));
	EXPECT_TRUE(is_in_debugfs(fd, 0, " bypass "));
	EXPECT_BYPASS(EBUSY, fd, 0, self->efds[1]);
	EXPECT_BYPASS(EBUSY, fd, 1, self->efds[0]);
	EXPECT_EQ(1, limit_get("bypasses"));

	/* The guest masks it, if it likes: the call is refused for all. */
	EXPECT_SET_IRQS(EBUSY, fd, MASK, 0, IRQS, NULL);
	for (int slot = 1; slot < IRQS; slot++)
		EXPECT_FALSE(is_shown(fd, slot, " masked\n"));
	EXPECT_EQ(0, ux_set_irqs(fd, MASK, 1, IRQS - 1, NULL));
	EXPECT_EQ(0, ux_set_irqs(fd, UNMASK, 0, IRQS, NULL));

	/* 1 is bound to what it was. */
	ring(self->bells.window + STRIDE);
	EXPECT_EQ(1, event_wait(self->bells.efd));
	EXPECT_OF_HOST(self->efds[0]);
	ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->bells.efd));
	EXPECT_EQ(0, limit_get("bypasses"));
	EXPECT_FALSE(is_shown(fd, 0, " bypass\n"));
	EXPECT_EQ(-1, bells_mute(&self->bells));
}

TEST_F(bypass, connects_a_guest_that_comes_first_or_later)
{
	int fd = self->bells.fd, irqs = linux_irqs();

	for (int first = 0; first < 2; first++) {
		ASSERT_EQ(0, first ? guest_register(self->guest, self->efds[0]) : 0);
		ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
		if (!first) {
			EXPECT_OF_HOST(self->efds[0]);
			EXPECT_EQ(irqs, linux_irqs());
			ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
		}
		/* One event, whatever there was before. */
		EXPECT_EQ(1, guest_wait(self->guest));
		EXPECT_EQ(irqs + 1, linux_irqs());
		EXPECT_OF_GUEST(self->efds[0]);
		ASSERT_EQ(0, guest_unregister(self->guest));
		EXPECT_EQ(1, event_wait(self->efds[0]));
		EXPECT_TRUE(is_shown(fd, 0, " bypass\n"));
		EXPECT_EQ(irqs, linux_irqs());
		EXPECT_OF_HOST(self->efds[0]);
		ASSERT_EQ(0, ux_bind(fd, slot_offset(0), -1));
	}
}

TEST_F(bypass, loses_no_ring_that_came_before)
{
	int fd = self->bells.fd;

	for (int round = 0; round < 100; round++) {
		ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
		/* It may be in the queue still when the guest comes. */
		ring(self->bells.window);
		ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
		ASSERT_EQ(1, guest_wait(self->guest));
		ring(self->bells.window);
		/* The guest has not ended it when it goes. */
		ASSERT_EQ(0, guest_unregister(self->guest));
		ASSERT_LE(1, event_wait(self->efds[0]));
		guest_take(self->guest);
		ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->bells.efd));
		ring(self->bells.window);
		ASSERT_LE(1, event_wait(self->bells.efd));
		event_read(self->efds[0]);
		ring(self->bells.window);
		ASSERT_LE(1, event_wait(self->bells.efd));
	}
	EXPECT_EQ(-1, bells_mute_anew(&self->bells));
}

enum end {
	SET_FD, SET_IRQS, FREE, FREE_MANY, FREE_ALL, CLOSE, GUEST_GOES, ENDS,
};

TEST_F(bypass, ends_with_the_binding_the_interrupt_the_file_and_the_guest)
{
	__s32 efd = self->bells.efd;

	for (enum end end = 0; end < ENDS; end++) {
		int fd = self->bells.fd;
		bool is_freed;

		ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
		ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
		EXPECT_OF_GUEST(self->efds[0]);
		/* Not ended by the guest. */
		ring(self->bells.window);
		switch (end) {
		case SET_FD:
			EXPECT_EQ(0, ux_bind(fd, slot_offset(0), efd));
			EXPECT_OF_HOST(efd);
			break;
		case SET_IRQS:
			EXPECT_EQ(0, ux_set_irqs(fd, BIND, 0, 1, &efd));
			EXPECT_OF_HOST(efd);
			break;
		case FREE:
			EXPECT_EQ(0, ux_free(fd, slot_offset(0)));
			break;
		case FREE_MANY:
			EXPECT_EQ(0, ux_free_many(fd, 0, 1));
			break;
		case FREE_ALL:
			EXPECT_EQ(0, ux_free_all(fd));
			ASSERT_EQ(0, ux_alloc_at(fd, 1, IRQS - 1));
			break;
		case CLOSE:
			bells_close(&self->bells);
			break;
		default:
			close(self->guest);
			self->guest = guest_open();
			EXPECT_LE(1, event_wait(self->efds[0]));
			EXPECT_OF_HOST(self->efds[0]);
			EXPECT_EQ(0, ux_bind(fd, slot_offset(0), efd));
		}
		EXPECT_TRUE(becomes(limit_get("bypasses"), 0));
		EXPECT_FALSE(guest_has(self->guest));
		guest_take(self->guest);
		event_read(self->efds[0]);
		is_freed = end == FREE || end == FREE_MANY || end == FREE_ALL;
		ASSERT_TRUE(end != CLOSE || bells_open(&self->bells, IRQS));
		ASSERT_EQ(0, is_freed ? ux_alloc_at(fd, 0, 1) : 0);
		for (int slot = 0; slot < IRQS; slot++)
			ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(slot), efd));
		EXPECT_EQ(-1, bells_mute_anew(&self->bells)) TH_LOG("end %d", end);
		ASSERT_EQ(0, end == GUEST_GOES ? 0 : guest_unregister(self->guest));
	}
}

TEST_F(bypass, ends_with_the_program)
{
	for (int both = 0; both < 2; both++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			int guest = both ? guest_open() : self->guest, efd = event_new();
			struct bells bells;

			if (!bells_open(&bells, 1) || bind_bypass(bells.fd, 0, efd) ||
			    guest_register(guest, efd) || !guest_has(guest))
				_exit(1);
			for (;;) {
				ring(bells.window);
				guest_take(guest);
			}
		}
		ASSERT_TRUE(becomes(limit_get("bypasses"), 1));
		usleep(10000);
		kill(pid, SIGKILL);
		EXPECT_EQ(-SIGKILL, child_status(pid));
		EXPECT_TRUE(becomes(limit_get("bypasses"), 0));
		EXPECT_FALSE(guest_has(self->guest));
	}
}

TEST_F(bypass, refused_by_the_guest_leaves_what_was)
{
	int fd = self->bells.fd;

	ASSERT_EQ(0, guest_call(self->guest, CONSUMER_REFUSE, EAGAIN));
	ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
	for (int round = 0; round < 3; round++) {
		EXPECT_BYPASS(ENXIO, fd, 0, self->efds[0]);
		EXPECT_FALSE(is_shown(fd, 0, " bypass\n"));
		EXPECT_OF_HOST(self->bells.efd);
		EXPECT_EQ(0, event_read(self->efds[0]));
	}
	EXPECT_EQ(0, limit_get("bypasses"));
	ASSERT_EQ(0, guest_unregister(self->guest));

	/* That the guest learns of, and the interrupt is the program's. */
	ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
	EXPECT_EQ(-EAGAIN, guest_register(self->guest, self->efds[0]));
	EXPECT_TRUE(is_shown(fd, 0, " bypass\n"));
	EXPECT_OF_HOST(self->efds[0]);
	ASSERT_EQ(0, guest_call(self->guest, CONSUMER_REFUSE, 0));
	ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
	EXPECT_OF_GUEST(self->efds[0]);
}

TEST_F(bypass, is_limited)
{
	int fd = self->bells.fd;

	ASSERT_EQ(0, limit_set("max_bypasses_per_user", 2));
	for (int slot = 0; slot < 2; slot++)
		ASSERT_EQ(0, bind_bypass(fd, slot, self->efds[slot]));
	EXPECT_BYPASS(EDQUOT, fd, 2, self->efds[2]);
	ASSERT_EQ(0, limit_set("max_bypasses_per_user", 4));
	ASSERT_EQ(0, limit_set("max_bypasses", 2));
	EXPECT_BYPASS(ENFILE, fd, 2, self->efds[2]);
	ASSERT_EQ(0, ux_free(fd, slot_offset(0)));
	ASSERT_EQ(0, bind_bypass(fd, 2, self->efds[2]));
	EXPECT_EQ(2, limit_get("bypasses"));
	EXPECT_EQ(-ERANGE, limit_set("max_bypasses", 65537));
	ASSERT_EQ(0, ux_alloc_at(fd, 0, 1));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->bells.efd));
}

TEST_F(bypass, of_an_export_outlives_its_revocation)
{
	int fd = self->bells.fd, file;
	void *page;
	__u32 id;

	ASSERT_EQ(0, limit_set("max_export_rate", 1000));
	file = ux_export(fd, 0, 1, &id);
	ASSERT_LE(0, file);
	page = ux_map(file, 0, STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	/* As many as make it be held back, for a tenth of a second. */
	for (int i = 0; i < 100; i++) {
		ring(page);
		ASSERT_EQ(1, event_wait(self->bells.efd));
	}
	ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
	ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
	EXPECT_EQ(1, guest_wait(self->guest));
	for (int i = 0; i < 500; i++) {
		ring(page);
		ASSERT_EQ(1, guest_wait(self->guest));
	}
	ASSERT_EQ(0, ux_revoke(fd, id));
	EXPECT_EQ(SIGBUS, touch(page));
	EXPECT_OF_GUEST(self->efds[0]);
	munmap(page, STRIDE);
	close(file);
}

TEST_F(bypass, is_for_a_message_of_an_accelerator_and_not_for_two_sources)
{
	struct afu_function function[AFU_MOST];
	struct afu_context context;
	__u32 slot;
	__u64 offset;

	ASSERT_LE(1, afu_functions(function));
	ASSERT_EQ(0, afu_bind(&function[0]));
	ASSERT_TRUE(afu_context_open(&context, &function[0]));
	ASSERT_EQ(0, afu_ims_alloc(context.fd, self->efds[1], &offset, &slot));
	for (int first = 0; first < 2; first++) {
		ASSERT_EQ(0, first ? guest_register(self->guest, self->efds[0]) : 0);
		ASSERT_EQ(0, bind_bypass(context.fd, slot, self->efds[0]));
		ASSERT_EQ(0, first ? 0 : guest_register(self->guest, self->efds[0]));
		EXPECT_TRUE(guest_has(self->guest));
		EXPECT_EQ(1, guest_wait(self->guest));
		for (int i = 0; i < 10; i++) {
			ASSERT_TRUE(afu_raise(context.mmio, slot));
			EXPECT_EQ(1, guest_wait(self->guest));
		}
		EXPECT_EQ(0, event_read(self->efds[0]));
		ASSERT_EQ(0, guest_unregister(self->guest));
		EXPECT_EQ(1, event_wait(self->efds[0]));
		for (int i = 0; i < 10; i++) {
			ASSERT_TRUE(afu_raise(context.mmio, slot));
			EXPECT_EQ(1, event_wait(self->efds[0]));
		}
		EXPECT_EQ(0, guest_take(self->guest));
		ASSERT_EQ(0, ux_bind(context.fd, offset, self->efds[1]));
	}
	/* Freed while the guest has it. */
	ASSERT_EQ(0, bind_bypass(context.fd, slot, self->efds[0]));
	ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
	ASSERT_EQ(0, ux_free(context.fd, offset));
	EXPECT_FALSE(guest_has(self->guest));

	ASSERT_EQ(0, ux_alloc(context.fd, &offset));
	EXPECT_BYPASS(EINVAL, context.fd, (offset - IRQ_BASE) / STRIDE, self->efds[0]);
	afu_context_close(&context);
	ASSERT_EQ(0, afu_unbind(&function[0]));
}

/* Failures. */

TEST_F(bypass, that_cannot_be_given_stays)
{
	static const struct {
		const char *function;
		int error;
	} steps[] = {
		{ "uxive_hold_source", ENXIO }, { "uxive_alloc_child_irq", ENOMEM },
	};
	int fd = self->bells.fd;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepare_faults() && fail_all(0));
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		ASSERT_TRUE(inject_functions(steps[i].function));
		ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
		ASSERT_TRUE(fail_all(1));
		EXPECT_BYPASS(steps[i].error, fd, 0, self->efds[0]);
		EXPECT_FALSE(guest_has(self->guest));
		EXPECT_OF_HOST(self->bells.efd);
		ASSERT_EQ(0, guest_unregister(self->guest));
		ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
		ASSERT_TRUE(fail_all(1));
		EXPECT_GT(0, guest_register(self->guest, self->efds[0]));
		EXPECT_OF_HOST(self->efds[0]);
		ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->bells.efd));
	}
	ASSERT_TRUE(fail_all(0) && inject_functions(NULL));
	EXPECT_EQ(-1, bells_mute_anew(&self->bells));
}

TEST_F(bypass, that_does_not_come_back_is_freed_and_no_more)
{
	static const char * const steps[] = { "uxive_switch_off_source", "uxive_route_source" };
	int fd = self->bells.fd;
	__s32 efd = self->bells.efd;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepare_faults() && fail_all(0));
	ASSERT_TRUE(log_line(QUARANTINES));
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		ASSERT_TRUE(inject_functions(steps[i]));
		ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
		ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
		EXPECT_OF_GUEST(self->efds[0]);
		ASSERT_TRUE(fail_all(1));
		ASSERT_EQ(0, guest_unregister(self->guest));
		EXPECT_EQ(1, logged(QUARANTINES, "does not come back from a guest"));
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_SET_FD, EIO, ux_bind(fd, slot_offset(0), efd));
		EXPECT_SET_IRQS(EIO, fd, BIND, 0, 1, &efd);
		EXPECT_BYPASS(EBUSY, fd, 0, self->efds[0]);
		EXPECT_SET_IRQS(EBUSY, fd, MASK, 0, 1, NULL);
		ASSERT_EQ(0, ux_free(fd, slot_offset(0)));
		EXPECT_TRUE(becomes(debug_lines("quarantine", "", NULL, 0), 0));
		ASSERT_EQ(0, ux_alloc_at(fd, 0, 1));
		ASSERT_EQ(0, ux_bind(fd, slot_offset(0), efd));
		EXPECT_EQ(-1, bells_mute(&self->bells));
		ASSERT_TRUE(log_line(QUARANTINES));
	}
	ASSERT_TRUE(fail_all(0) && inject_functions(NULL));
	ASSERT_TRUE(log_line(NO_MORE_QUARANTINES));
}

/* Races. */

/* Rings slot 0, each time that its last ring has come on one side or the other. */
struct fire {
	pthread_t thread;
	const struct bells *bells;
	int guest, efd;
	atomic_bool stop, lost;
	atomic_long rings, host, taken;
};

static long fire_events(struct fire *fire)
{
	long host = event_read(fire->efd), taken = guest_take(fire->guest);

	atomic_fetch_add(&fire->host, host);
	atomic_fetch_add(&fire->taken, taken);
	return host + taken;
}

static void *fire_run(void *arg)
{
	struct fire *fire = arg;

	while (!atomic_load(&fire->stop) && !atomic_load(&fire->lost)) {
		ring(fire->bells->window);
		atomic_fetch_add(&fire->rings, 1);
		if (!becomes(fire_events(fire) > 0, true))
			atomic_store(&fire->lost, true);
	}
	return NULL;
}

static bool fire_start(struct fire *fire)
{
	return !pthread_create(&fire->thread, NULL, fire_run, fire);
}

/* Waits until no event is under way. */
static void fire_stop(struct fire *fire)
{
	atomic_store(&fire->stop, true);
	pthread_join(fire->thread, NULL);
	usleep(100000);
	fire_events(fire);
}

/* It was the guest's, and the host's, while it was rung, and was given and taken back so often. */
#define EXPECT_NO_RING_LOST(of, cycles) do {					\
	struct fire *__fire = (of);						\
	long __rings = atomic_load(&__fire->rings), __cycles = (cycles);	\
	long __host = atomic_load(&__fire->host);				\
	long __taken = atomic_load(&__fire->taken);				\
										\
	EXPECT_FALSE(atomic_load(&__fire->lost));				\
	TH_LOG("%ld cycles, %ld rings, %ld events of the host, %ld of the guest",	\
	       __cycles, __rings, __host, __taken);				\
	EXPECT_LE(__rings, __host + __taken);					\
	EXPECT_GE(__rings + 2 * __cycles, __host + __taken);			\
	EXPECT_LT(0, __taken);							\
	EXPECT_LT(0, __host);							\
} while (0)

TEST_F(bypass, loses_no_ring_while_a_guest_comes_and_goes)
{
	const int cycles = fewer_with_lockdep(10000, 1000);
	struct fire fire = {
		.bells = &self->bells, .guest = self->guest, .efd = self->efds[0],
	};

	ASSERT_EQ(0, bind_bypass(self->bells.fd, 0, self->efds[0]));
	ASSERT_TRUE(fire_start(&fire));
	for (int cycle = 0; cycle < cycles && !atomic_load(&fire.lost); cycle++) {
		progress();
		EXPECT_EQ(0, guest_register(self->guest, self->efds[0]));
		EXPECT_EQ(0, guest_unregister(self->guest));
	}
	fire_stop(&fire);
	EXPECT_NO_RING_LOST(&fire, cycles);
}

/* New ones, whose escalation comes to another CPU than the first, which cannot go. That, or -1. */
static int bells_elsewhere(struct bells *bells)
{
	int irq = -1, cpu = 0;

	for (int tries = 0; tries < 100 && cpu <= 0; tries++) {
		bells_close(bells);
		if (!bells_open(bells, IRQS) || !becomes(escalations(&irq, 1), 1) ||
		    bells_mute(bells) != -1)
			return -1;
		times_fired_on(irq, &cpu);
	}
	return cpu;
}

TEST_F(bypass, outlives_the_cpu_that_the_escalation_came_to)
{
	const int turns = fewer_with_lockdep(10, 4);

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU only");
	for (int turn = 0; turn < turns; turn++) {
		/* It is the guest's before the CPU goes, and the host's before that is back. */
		bool given = turn & 1, taken_back = turn & 2;
		int cpu = bells_elsewhere(&self->bells);

		ASSERT_LT(0, cpu);
		ASSERT_EQ(0, bind_bypass(self->bells.fd, 0, self->efds[0]));
		ASSERT_EQ(0, given ? guest_register(self->guest, self->efds[0]) : 0);
		/* On its way to wherever it goes. */
		ring(self->bells.window);
		ASSERT_EQ(0, cpu_online(cpu, false));
		ASSERT_EQ(0, given ? 0 : guest_register(self->guest, self->efds[0]));
		ASSERT_LE(1, guest_wait(self->guest));
		EXPECT_OF_GUEST(self->efds[0]);
		ASSERT_EQ(0, taken_back ? guest_unregister(self->guest) : 0);
		if (taken_back)
			EXPECT_OF_HOST(self->efds[0]);
		ASSERT_EQ(0, cpu_online(cpu, true));
		ASSERT_EQ(0, taken_back ? 0 : guest_unregister(self->guest));
		EXPECT_OF_HOST(self->efds[0]);
		ASSERT_EQ(0, guest_register(self->guest, self->efds[0]));
		EXPECT_OF_GUEST(self->efds[0]);
		ASSERT_EQ(0, guest_unregister(self->guest));
		EXPECT_LE(1, event_wait(self->efds[0]));
		progress();
	}
}

/* A CPU that goes and comes, once. */
struct leave {
	pthread_t thread;
	int cpu, error;
	atomic_bool is_over;
};

static void *leave_run(void *arg)
{
	struct leave *leave = arg;

	leave->error = cpu_online(leave->cpu, false) ?: cpu_online(leave->cpu, true);
	atomic_store(&leave->is_over, true);
	return NULL;
}

TEST_F(bypass, loses_no_ring_to_a_cpu_that_goes_while_a_guest_comes_and_goes)
{
	const int turns = fewer_with_lockdep(20, 5);

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU only");
	for (int turn = 0; turn < turns; turn++) {
		struct leave leave = { .cpu = bells_elsewhere(&self->bells) };
		struct fire fire = {
			.bells = &self->bells, .guest = self->guest, .efd = self->efds[0],
		};
		long cycles = 0, meanwhile = 0;

		ASSERT_LT(0, leave.cpu);
		ASSERT_EQ(0, bind_bypass(self->bells.fd, 0, self->efds[0]));
		ASSERT_TRUE(fire_start(&fire));
		ASSERT_EQ(0, pthread_create(&leave.thread, NULL, leave_run, &leave));
		do {
			EXPECT_EQ(0, guest_register(self->guest, self->efds[0]));
			EXPECT_EQ(0, guest_unregister(self->guest));
			cycles++;
			if (!atomic_load(&leave.is_over))
				meanwhile = cycles;
		} while (!atomic_load(&fire.lost) && (cycles < 10 || meanwhile == cycles));
		pthread_join(leave.thread, NULL);
		fire_stop(&fire);
		EXPECT_EQ(0, leave.error);
		EXPECT_NO_RING_LOST(&fire, cycles);
		EXPECT_LT(0, meanwhile);
		progress();
	}
}

struct visitor {
	int guest, efd;
	atomic_bool stop;
	atomic_long visits, met;
};

static void *visitor_run(void *arg)
{
	struct visitor *visitor = arg;

	while (!atomic_load(&visitor->stop)) {
		if (!guest_register(visitor->guest, visitor->efd)) {
			atomic_fetch_add(&visitor->met, guest_has(visitor->guest));
			guest_unregister(visitor->guest);
		}
		guest_take(visitor->guest);
		atomic_fetch_add(&visitor->visits, 1);
	}
	return NULL;
}

TEST_F(bypass, is_bound_and_freed_while_a_guest_comes_and_goes)
{
	const int rounds = fewer_with_lockdep(5000, 500);
	struct visitor visitor = { .guest = self->guest, .efd = self->efds[0] };
	int fd = self->bells.fd;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, visitor_run, &visitor));
	for (int round = 0; round < rounds; round++) {
		progress();
		ASSERT_EQ(0, bind_bypass(fd, 0, self->efds[0]));
		ring(self->bells.window);
		if (round % 2) {
			ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->bells.efd));
			event_read(self->bells.efd);
		} else {
			ASSERT_EQ(0, ux_free(fd, slot_offset(0)));
			ASSERT_EQ(0, ux_alloc_at(fd, 0, 1));
		}
	}
	atomic_store(&visitor.stop, true);
	pthread_join(thread, NULL);
	TH_LOG("%d rounds, %ld visits, %ld found it bound", rounds, atomic_load(&visitor.visits),
	       atomic_load(&visitor.met));
	EXPECT_LT(0, atomic_load(&visitor.met));
	ASSERT_EQ(0, ux_bind(fd, slot_offset(0), self->bells.efd));
	ring(self->bells.window);
	EXPECT_LE(1, event_wait(self->bells.efd));
	EXPECT_EQ(-1, bells_mute_anew(&self->bells));
}

TEST_HARNESS_MAIN
