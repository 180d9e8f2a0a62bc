// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: whatever a program does, and however it ends, all its resources are
 * freed: slots, limits, LISNs, Linux interrupts, eventfds; none twice or too
 * early.
 *
 * Resources in use show from outside by the ids of new eventfds (see
 * events_in_use), /sys/kernel/irq, and the LISNs of a new context. The suite
 * `limits`, which runs last, shows that the limits are whole again.
 */
#include "uxive_fixture.h"
#include <sys/timerfd.h>

#define IRQS	16

FIXTURE(lifetime) {
	struct use before;
};

FIXTURE_SETUP(lifetime)
{
	catch_touches();
	/* Contexts of tests before may still be on their way out. */
	ASSERT_TRUE(becomes(all_irqs(), 0));
	self->before = use_now();
}

FIXTURE_TEARDOWN(lifetime)
{
}

/* A context with everything in it, and nothing that would clean it up. */
static int make_use(int irqs)
{
	int fd = ux_open(), efd;
	void *window;

	if (fd < 0 || ux_fill(fd, irqs))
		return -1;
	window = ux_map(fd, IRQ_BASE, WINDOW);
	if (window == MAP_FAILED)
		return -1;
	for (int i = 0; i < irqs; i++) {
		efd = event_new();
		if (ux_bind(fd, slot_offset(i), efd) || touch(window + i * STRIDE) ||
		    event_wait(efd) != 1)
			return -1;
	}
	return fd;
}

TEST_F(lifetime, close_returns_all)
{
	int efd = event_new();
	int fd = ux_open();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(fd, IRQS));
	for (int i = 0; i < IRQS; i++) {
		ASSERT_EQ(0, ux_bind(fd, slot_offset(i), efd))
			TH_LOG("slot %d", i);
	}
	close(efd);
	close(fd);
	EXPECT_ALL_RETURNED(self->before);
}

/* Defect 2 of ocxl: the eventfd that another one replaces is never released. */
TEST_F(lifetime, set_fd_releases_the_eventfd_it_replaces)
{
	int fd = ux_open(), held;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(fd, 1));
	for (int n = 0; n < 100; n++) {
		int efd = event_new();

		ASSERT_EQ(0, ux_bind(fd, IRQ_BASE, efd));
		/* A refused binding must not hold it either. */
		ASSERT_EQ(-EINVAL, ux_bind(fd, slot_offset(1), efd));
		close(efd);
	}
	held = events_in_use() - self->before.events;
	EXPECT_EQ(1, held) TH_LOG("of 100 eventfds %d are held", held);
	ASSERT_EQ(0, ux_bind(fd, IRQ_BASE, -1));
	held = events_in_use() - self->before.events;
	EXPECT_EQ(0, held) TH_LOG("of 100 eventfds %d are held", held);

	/* And so does freeing. */
	for (int n = 0; n < 100; n++) {
		int efd = event_new();

		ASSERT_EQ(0, ux_bind(fd, IRQ_BASE, efd));
		close(efd);
		ASSERT_EQ(0, ux_free(fd, IRQ_BASE));
		ASSERT_EQ(0, ux_fill(fd, 1));
	}
	EXPECT_EQ(held, events_in_use() - self->before.events);
	close(fd);
	EXPECT_ALL_RETURNED(self->before);
}

TEST_F(lifetime, a_mapping_holds_the_context)
{
	int fd = ux_open(), efd = event_new();
	void *page;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(fd, 1));
	ASSERT_EQ(0, ux_bind(fd, IRQ_BASE, efd));
	page = ux_map(fd, IRQ_BASE, 2 * STRIDE);
	ASSERT_NE(MAP_FAILED, page);

	/* Closed, not touched before, and half of it unmapped: still good. */
	close(fd);
	ASSERT_EQ(0, munmap(page + STRIDE, STRIDE));
	for (int n = 0; n < 10; n++) {
		ring(page);
		ASSERT_EQ(1, event_wait(efd));
	}
	close(efd);
	EXPECT_NE(self->before.events, events_in_use());
	ASSERT_EQ(0, munmap(page, STRIDE));
	EXPECT_ALL_RETURNED(self->before);
}

TEST_F(lifetime, a_duplicate_holds_the_context)
{
	int fd = make_use(1), copy = dup(fd);

	ASSERT_LE(0, copy);
	close(fd);
	EXPECT_EQ(1, ux_count(copy));
	EXPECT_EQ(0, ux_free(copy, IRQ_BASE));
	close(copy);
}

TEST_F(lifetime, exit_returns_all_fifty_times)
{
	for (int n = 0; n < 50; n++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(make_use(8) < 0);
		ASSERT_EQ(0, child_status(pid)) TH_LOG("cycle %d", n);
		progress();
	}
	EXPECT_ALL_RETURNED(self->before);
}

TEST_F(lifetime, kill_returns_all)
{
	for (int n = 0; n < 5; n++) {
		int pipes[2];
		char byte;
		pid_t pid;

		ASSERT_EQ(0, pipe(pipes));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			byte = make_use(IRQS) < 0;
			if (write(pipes[1], &byte, 1) == 1)
				for (;;)
					pause();
			_exit(1);
		}
		ASSERT_EQ(1, read(pipes[0], &byte, 1));
		ASSERT_EQ(0, byte);
		EXPECT_NE(self->before.events, events_in_use());
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(-SIGKILL, child_status(pid));
		close(pipes[0]);
		close(pipes[1]);
	}
	EXPECT_ALL_RETURNED(self->before);
}

/* The program after exec: says that it is there, and stays until told to go. */
static int stay(void)
{
	char byte = 0;

	return write(STDOUT_FILENO, &byte, 1) != 1 || read(STDIN_FILENO, &byte, 1) < 0;
}

TEST_F(lifetime, exec_returns_all)
{
	int up[2], down[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe2(up, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(down, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (make_use(IRQS) < 0 || dup2(up[1], STDOUT_FILENO) < 0 ||
		    dup2(down[0], STDIN_FILENO) < 0)
			_exit(2);
		execl("/proc/self/exe", "lifetime", "stay", NULL);
		_exit(3);
	}
	close(up[1]);
	ASSERT_EQ(1, read(up[0], &byte, 1));
	/* The process lives on, and has nothing any more. */
	EXPECT_ALL_RETURNED(self->before);
	close(down[1]);
	EXPECT_EQ(0, child_status(pid));
}

/*
 * Races against IRQ_FREE. A driver that looks something up, releases its lock
 * and then uses it fails only if a free comes in between. By chance that
 * happens once in thousands of rounds. So chance is helped: a thread on one CPU
 * is interrupted somewhere in its call by a timer, whose real-time waiter holds
 * it there while the owner, on another CPU, frees, or the other way round. The
 * hold ends a millisecond later at the latest: a correct driver may make the
 * owner wait for the call. The timer closes in on the moment that decides who
 * wins.
 */
#define RACE_ROUNDS	240
#define RACE_HOLD_NS	1000000L
#define RACE_STEP_NS	128L
#define RACE_MAX_NS	5000000L

struct race {
	int fd;
	void *page;
	/* The eventfd of the interrupt before the call, and the one that SET_FD binds. */
	int old, new;
	/* The interrupted call, its result (0 or not), and how far it is. */
	int (*call)(struct race *race);
	int ret;
	enum { BEFORE, WITHIN, AFTER } phase;
	/* When to interrupt, and the way this is going to change. */
	long delay, step;
	unsigned int seed;
	/* Eventfds that order a round, the timer's between them, ... */
	int go, timer, held, done;
	/* ... and how often the owner has begun and ended. */
	int begun, ended;
	int caught, errors;
	pthread_t caller, holder;
};

static void *race_caller(void *arg)
{
	struct race *race = arg;

	pin_to_cpu(1);
	for (int n = 0; n < RACE_ROUNDS; n++) {
		struct itimerspec when = {};

		race->errors += event_read(race->go) != 1;
		when.it_value.tv_nsec = race->delay;
		race->errors += !!timerfd_settime(race->timer, 0, &when, NULL);
		__atomic_store_n(&race->phase, WITHIN, __ATOMIC_SEQ_CST);
		race->ret = race->call(race);
		__atomic_store_n(&race->phase, AFTER, __ATOMIC_SEQ_CST);
		event_add(race->done, 1);
	}
	return NULL;
}

static void *race_holder(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct race *race = arg;

	pin_to_cpu(1);
	race->errors += !!pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
	for (int n = 0; n < RACE_ROUNDS; n++) {
		long end;

		race->errors += event_read(race->timer) < 1;
		race->caught += __atomic_load_n(&race->phase, __ATOMIC_SEQ_CST) == WITHIN;
		event_add(race->held, 1);
		while (__atomic_load_n(&race->begun, __ATOMIC_SEQ_CST) <= n)
			;
		end = clock_ns() + RACE_HOLD_NS;
		while (__atomic_load_n(&race->ended, __ATOMIC_SEQ_CST) <= n && clock_ns() < end)
			;
	}
	return NULL;
}

static int race_start(struct race *race, int (*call)(struct race *race))
{
	race->call = call;
	race->seed = 1;
	race->old = -1;
	race->delay = 10000;
	race->go = eventfd(0, EFD_CLOEXEC);
	race->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	race->held = eventfd(0, EFD_CLOEXEC);
	race->done = eventfd(0, EFD_CLOEXEC);
	race->fd = ux_open();
	race->page = ux_map(race->fd, IRQ_BASE, STRIDE);
	if (race->timer < 0 || race->fd < 0 || race->page == MAP_FAILED)
		return -1;
	pin_to_cpu(0);
	return pthread_create(&race->holder, NULL, race_holder, race) ||
	       pthread_create(&race->caller, NULL, race_caller, race);
}

/* The call won: interrupt it earlier. It lost: later. Again: in larger steps. */
static void race_aim(struct race *race, bool won)
{
	long jitter = rand_r(&race->seed) % RACE_STEP_NS;

	if (won)
		race->step = race->step < 0 ? 2 * race->step : -jitter;
	else
		race->step = race->step > 0 ? 2 * race->step : jitter;
	race->delay += race->step;
	if (race->delay < 1 || race->delay > RACE_MAX_NS) {
		race->delay = 1 + rand_r(&race->seed) % 10000;
		race->step = 0;
	}
}

/* One round: allocates, then calls @own within the other call, and returns its result. */
static int race_round(struct race *race, int (*own)(struct race *race))
{
	int ret;

	race->errors += !!ux_fill(race->fd, 1);
	race->errors += !!ux_bind(race->fd, IRQ_BASE, race->old);
	race->phase = BEFORE;
	event_add(race->go, 1);
	race->errors += event_read(race->held) != 1;
	__atomic_add_fetch(&race->begun, 1, __ATOMIC_SEQ_CST);
	ret = own(race);
	__atomic_add_fetch(&race->ended, 1, __ATOMIC_SEQ_CST);
	race->errors += event_read(race->done) != 1;
	progress();
	return ret;
}

static void race_end(struct race *race)
{
	pthread_join(race->holder, NULL);
	pthread_join(race->caller, NULL);
	munmap(race->page, STRIDE);
	close(race->go);
	close(race->timer);
	close(race->held);
	close(race->done);
	close(race->fd);
}

static int race_touch(struct race *race)
{
	return touch(race->page);
}

static int race_free(struct race *race)
{
	return ux_free(race->fd, IRQ_BASE);
}

/*
 * Defect 1 of ocxl: its fault handler finds the page under a lock, and inserts
 * it without.
 */
TEST_F(lifetime, no_touch_succeeds_after_free_returned)
{
	static struct race race;
	int rang = 0, bus = 0, stale = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, race_start(&race, race_touch));
	for (int n = 0; n < RACE_ROUNDS; n++) {
		race.errors += !!race_round(&race, race_free);
		race_aim(&race, !race.ret);
		rang += race.ret == 0;
		bus += race.ret == SIGBUS;
		/* Freed, and the touch is over: is there a page left? */
		stale += touch(race.page) != SIGBUS;
	}
	race_end(&race);
	TH_LOG("%d touches rang, %d took SIGBUS, %d were caught half-way; after the free %d rang",
	       rang, bus, race.caught, stale);
	EXPECT_EQ(0, race.errors);
	EXPECT_EQ(0, stale);
	/* The test counts only if the free came before, within and after the call. */
	EXPECT_LT(0, rang);
	EXPECT_LT(0, bus);
	EXPECT_LT(0, race.caught);
	EXPECT_ALL_RETURNED(self->before);
}

/* The same defect in IRQ_FREE: a page that is withdrawn while it can still be found. */
TEST_F(lifetime, no_touch_during_free_outlives_it)
{
	static struct race race;
	int rang = 0, bus = 0, stale = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, race_start(&race, race_free));
	for (int n = 0; n < RACE_ROUNDS; n++) {
		int sig = race_round(&race, race_touch);

		race_aim(&race, sig);
		race.errors += !!race.ret;
		rang += sig == 0;
		bus += sig == SIGBUS;
		stale += touch(race.page) != SIGBUS;
	}
	race_end(&race);
	TH_LOG("%d frees were caught half-way, %d touches rang, %d took SIGBUS; then %d rang",
	       race.caught, rang, bus, stale);
	EXPECT_EQ(0, race.errors);
	EXPECT_EQ(0, stale);
	EXPECT_LT(0, rang);
	EXPECT_LT(0, bus);
	EXPECT_LT(0, race.caught);
	EXPECT_ALL_RETURNED(self->before);
}

TEST_F(lifetime, of_two_frees_exactly_one_wins)
{
	static struct race race;
	int first = 0, second = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, race_start(&race, race_free));
	for (int n = 0; n < RACE_ROUNDS; n++) {
		int ret = race_round(&race, race_free);

		race_aim(&race, !race.ret);
		first += !race.ret && ret == -EINVAL;
		second += race.ret == -EINVAL && !ret;
	}
	race_end(&race);
	TH_LOG("%d won by the one, %d by the other, %d were caught half-way",
	       first, second, race.caught);
	EXPECT_EQ(0, race.errors);
	EXPECT_EQ(RACE_ROUNDS, first + second);
	EXPECT_LT(0, first);
	EXPECT_LT(0, second);
	EXPECT_LT(0, race.caught);
	EXPECT_ALL_RETURNED(self->before);
}

static int race_bind(struct race *race)
{
	int efd = event_new();
	int ret = ux_bind(race->fd, IRQ_BASE, efd);

	close(efd);
	return ret;
}

TEST_F(lifetime, a_free_during_set_fd_leaks_no_eventfd)
{
	static struct race race;
	int bound = 0, refused = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, race_start(&race, race_bind));
	for (int n = 0; n < RACE_ROUNDS; n++) {
		race.errors += !!race_round(&race, race_free);
		race_aim(&race, !race.ret);
		bound += !race.ret;
		refused += race.ret == -EINVAL;
	}
	race_end(&race);
	TH_LOG("%d were bound, %d refused, %d were caught half-way",
	       bound, refused, race.caught);
	EXPECT_EQ(0, race.errors);
	EXPECT_EQ(RACE_ROUNDS, bound + refused);
	EXPECT_LT(0, bound);
	EXPECT_LT(0, refused);
	EXPECT_LT(0, race.caught);
	EXPECT_ALL_RETURNED(self->before);
}

static int race_replace(struct race *race)
{
	return ux_bind(race->fd, IRQ_BASE, race->new);
}

/* Rings once; whether the new eventfd has counted that, -1 if not one has, and once. */
static int race_ring(struct race *race)
{
	struct pollfd pfds[] = {
		{ .fd = race->old, .events = POLLIN },
		{ .fd = race->new, .events = POLLIN },
	};
	long old, new;

	if (touch(race->page))
		return -1;
	poll(pfds, 2, WATCHDOG_MS);
	old = event_read(race->old);
	new = event_read(race->new);
	return old + new == 1 ? new : -1;
}

TEST_F(lifetime, a_ring_during_set_fd_counts_for_either_eventfd)
{
	static struct race race;
	int old = 0, new = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, race_start(&race, race_replace));
	for (int n = 0; n < RACE_ROUNDS; n++) {
		int by_new;

		race.old = event_new();
		race.new = event_new();
		by_new = race_round(&race, race_ring);
		ASSERT_LE(0, by_new) TH_LOG("round %d: lost, or counted twice", n);
		race_aim(&race, by_new);
		race.errors += !!race.ret;
		old += !by_new;
		new += by_new;
		/* The call is over. */
		ring(race.page);
		ASSERT_EQ(1, event_wait(race.new)) TH_LOG("round %d", n);
		ASSERT_EQ(0, event_read(race.old)) TH_LOG("round %d", n);
		close(race.old);
		close(race.new);
		ASSERT_EQ(0, ux_free(race.fd, IRQ_BASE));
	}
	race_end(&race);
	TH_LOG("%d rings counted for the old eventfd, %d for the new one, %d were caught half-way",
	       old, new, race.caught);
	EXPECT_EQ(0, race.errors);
	EXPECT_LT(0, old);
	EXPECT_LT(0, new);
	EXPECT_LT(0, race.caught);
	EXPECT_ALL_RETURNED(self->before);
}

/* Four threads that do anything, on one context. */
#define CHAOS_THREADS	4
#define CHAOS_SLOTS	16

struct chaos {
	int fd;
	int efd;
	unsigned int seed;
	long steps;
	int unexpected;
	long done[6];
};

static void *chaos_run(void *arg)
{
	struct chaos *me = arg;
	void *window = MAP_FAILED;

	for (int n = 0; n < me->steps; n++) {
		unsigned int step = rand_r(&me->seed) % 6U;
		unsigned int slot = rand_r(&me->seed) % CHAOS_SLOTS;
		__u64 offset = slot_offset(slot);
		int ret = 0;

		switch (step) {
		case 0:
			/* More frees than room: slots stay few, and busy. */
			ret = ux_alloc(me->fd, &offset);
			if (!ret && offset >= slot_offset(CHAOS_SLOTS))
				ret = ux_free(me->fd, offset);
			break;
		case 1:
			ret = ux_free(me->fd, offset);
			break;
		case 2:
			ret = ux_bind(me->fd, offset, me->efd);
			break;
		case 3:
			ret = ux_bind(me->fd, offset, -1);
			break;
		case 4:
			if (window != MAP_FAILED)
				munmap(window, CHAOS_SLOTS * STRIDE);
			window = ux_map(me->fd, IRQ_BASE, CHAOS_SLOTS * STRIDE);
			ret = window == MAP_FAILED ? -errno : 0;
			break;
		case 5:
			if (window != MAP_FAILED)
				ret = touch(window + slot * STRIDE);
			if (ret == SIGBUS)
				ret = -EINVAL;
			break;
		}
		me->done[step] += !ret;
		progress();
		/* Another thread may have freed the slot, or all may be taken. */
		if (ret && ret != -EINVAL)
			me->unexpected = ret;
	}
	if (window != MAP_FAILED)
		munmap(window, CHAOS_SLOTS * STRIDE);
	return NULL;
}

TEST_F(lifetime, racing_threads_leave_nothing)
{
	struct chaos chaos[CHAOS_THREADS] = {};
	pthread_t threads[CHAOS_THREADS];
	int fd = ux_open(), efd = event_new();
	struct uxive_info info;
	const long steps = fewer_with_lockdep(10000, 2500);
	long done[6] = {};

	ASSERT_LE(0, fd);
	for (int i = 0; i < CHAOS_THREADS; i++) {
		chaos[i] = (struct chaos){
			.fd = fd, .efd = efd, .seed = i + 1, .steps = steps,
		};
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, chaos_run, &chaos[i]));
	}
	for (int i = 0; i < CHAOS_THREADS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, chaos[i].unexpected) TH_LOG("thread %d", i);
		for (int step = 0; step < 6; step++) {
			EXPECT_LT(0, chaos[i].done[step])
				TH_LOG("thread %d never did step %d", i, step);
			done[step] += chaos[i].done[step];
		}
	}
	TH_LOG("%ld steps: %ld allocated, %ld freed, %ld bound, %ld unbound, %ld mapped, %ld rang",
	       CHAOS_THREADS * steps, done[0], done[1], done[2], done[3], done[4], done[5]);

	/* After all that the context is as good as new. */
	for (int i = 0; i < CHAOS_SLOTS; i++)
		ux_free(fd, slot_offset(i));
	EXPECT_EQ(0, ux_count(fd));
	EXPECT_EQ(0, ux_info(fd, &info));
	EXPECT_EQ(0, info.irqs);
	EXPECT_EQ(0, info.irqs_total);
	close(fd);
	close(efd);
	EXPECT_ALL_RETURNED(self->before);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "stay"))
		return stay();
	return test_harness_run(argc, argv);
}
