// SPDX-License-Identifier: GPL-2.0
/*
 * Ping-pong: two processes send each other one message at a time. Measures the
 * work of the sender, of the receiver, and of the interrupt in between.
 *
 * The machine has one CPU, so all of that comes one after the other:
 *
 *	sender:    before, [sends], after, [goes to wait ...
 *	receiver:                              ... has waited], end
 *
 * Both processes are SCHED_BATCH, so the woken one runs when the other one waits,
 * not before. A process waits once for each message that it receives. So the
 * second piece is the work of one receiver, although each process does a half of
 * it.
 *
 * The interrupt comes right behind the store that rings, so it is the first piece
 * less the store. The cost of the store alone is measured without an interrupt,
 * where the receiver polls its queue in memory. A polling receiver lets the other
 * process run by sched_yield(), which it would not need on a CPU of its own. That
 * call is reported apart; the receiver's work is then the look that finds the
 * event, and the EOI.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uxive_drain.h>

/* For pages that are touched for the first time. */
#define WARM_UP 16

/* An interrupt takes more than this; all else that a sender measures takes less. */
#define INTERRUPT_TICKS 500

/*
 * How many messages may come without an interrupt: the receiver, which has sent one
 * before, was preempted by the tick before it armed its queue again.
 */
#define MAX_UNARMED (N / 8)

/* A way from one process to the other: one end receives, the other sends. */
struct channel {
	int read_fd, write_fd;
	__u32 *word;
	__u32 seen;
	void *trigger;
	struct uxive_drain drain;
};

/* Memory of both processes. */
struct shared {
	__u32 words[2];
	/* Of the last message that the child has received. */
	__u64 found, end;
};

struct game {
	/* By which the parent receives, and the child. */
	struct channel channels[2];
	struct shared *shared;
	struct op *send, *interrupt, *receive, *yield;
};

/* The cost of the store alone, less the overhead of measuring. */
static struct op *store;

static __always_inline void store_to_trigger(struct channel *channel)
{
	store64(channel->trigger, 0);
}

static __always_inline void write_count(struct channel *channel)
{
	static const __u64 one = 1;

	if (write(channel->write_fd, &one, sizeof(one)) != sizeof(one))
		die("write: %m");
}

static __always_inline void wake_word(struct channel *channel)
{
	__atomic_add_fetch(channel->word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, channel->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static __always_inline __u64 read_count(struct channel *channel)
{
	__u64 count;

	if (read(channel->read_fd, &count, sizeof(count)) != sizeof(count))
		die("read: %m");
	return 0;
}

static __always_inline __u64 wait_for_word(struct channel *channel)
{
	while (__atomic_load_n(channel->word, __ATOMIC_ACQUIRE) == channel->seen)
		syscall(SYS_futex, channel->word, FUTEX_WAIT, channel->seen, NULL, NULL, 0);
	channel->seen++;
	return 0;
}

static __always_inline __u64 drain_blocking(struct channel *channel)
{
	int slot = uxive_drain_try_next(&channel->drain);
	__u64 count;

	while (slot < 0) {
		slot = uxive_drain_arm_and_look(&channel->drain);
		if (slot >= 0)
			break;
		if (read(channel->drain.eventfd, &count, sizeof(count)) != sizeof(count))
			die("read: %m");
		slot = uxive_drain_try_next(&channel->drain);
	}
	uxive_drain_eoi(&channel->drain, slot);
	return 0;
}

static __always_inline __u64 drain_polling(struct channel *channel)
{
	__u64 found;
	int slot;

	for (;;) {
		found = timebase();
		slot = uxive_drain_try_next(&channel->drain);
		if (slot >= 0)
			break;
		sched_yield();
	}
	uxive_drain_eoi(&channel->drain, slot);
	return found;
}

typedef void send_by(struct channel *channel);
/* Returns when the look began that has found the message, if it polls. */
typedef __u64 receive_by(struct channel *channel);

static __always_inline void return_them(struct game *game, send_by send, receive_by receive)
{
	for (;;) {
		__u64 found = receive(&game->channels[1]);
		__u64 end = timebase();

		mark_end(game->receive);
		game->shared->found = found;
		game->shared->end = end;
		send(&game->channels[0]);
	}
}

/* Returns whether the message came by an interrupt, if it is to. */
static __always_inline bool send_and_wait(struct game *game, bool measured, send_by send,
					  receive_by receive)
{
	struct shared *shared = game->shared;
	__u64 before, after;

	mark_begin(game->send);
	before = timebase();
	send(&game->channels[1]);
	after = timebase();
	mark_end(game->send);
	mark_begin(game->receive);
	receive(&game->channels[0]);
	if (game->interrupt && after - before < INTERRUPT_TICKS)
		return false;
	if (!measured)
		return true;

	if (game->interrupt) {
		record(game->interrupt, after - before - store->samples[0]);
		record(game->send, after - before);
		game->send->samples[game->send->count - 1] = store->samples[game->send->count - 1];
	} else {
		record(game->send, after - before);
	}
	if (game->yield) {
		record(game->yield, shared->found - after);
		after = shared->found;
	}
	record(game->receive, shared->end - after);
	return true;
}

/* A child that ends before it is killed has failed, and said why. */
static void child_ended(int signal)
{
	(void)signal;
	_exit(1);
}

static __always_inline void play(struct game *game, send_by send, receive_by receive)
{
	int unarmed = 0;
	pid_t child;

	must(signal(SIGCHLD, child_ended) == SIG_ERR ? -1 : 0);
	child = must(fork());
	if (!child)
		return_them(game, send, receive);
	for (int i = 0; i < WARM_UP + N;) {
		if (send_and_wait(game, i >= WARM_UP, send, receive))
			i++;
		else if (++unarmed > MAX_UNARMED)
			die("%d messages came without an interrupt", unarmed);
	}
	signal(SIGCHLD, SIG_DFL);
	must(kill(child, SIGKILL));
	must(waitpid(child, NULL, 0));
}

static void open_eventfd(struct channel *channel)
{
	int fd = open_driver();
	__u64 offset = allocate(fd);

	channel->read_fd = must(eventfd(0, EFD_CLOEXEC));
	bind_eventfd(fd, offset, channel->read_fd);
	channel->trigger = must(mmap(NULL, DEVICE_PAGE, PROT_WRITE, MAP_SHARED, fd, offset));
}

static void open_drain(struct channel *channel)
{
	int fd = open_driver();

	must(uxive_drain_open(&channel->drain, fd, must(eventfd(0, EFD_CLOEXEC)), 1));
	allocate(fd);
	channel->trigger = uxive_drain_trigger(&channel->drain, 0);
}

static void open_pipe(struct channel *channel)
{
	int fds[2];

	if (!strcmp(driver, "pipe")) {
		must(pipe(fds));
		channel->read_fd = fds[0];
		channel->write_fd = fds[1];
	} else {
		channel->read_fd = must(eventfd(0, EFD_CLOEXEC));
		channel->write_fd = channel->read_fd;
	}
}

static struct game *new_game(void (*open_channel)(struct channel *channel))
{
	struct game *game = calloc(1, sizeof(*game));

	game->shared = must(mmap(NULL, sizeof(*game->shared), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	for (int i = 0; i < 2; i++) {
		game->channels[i].word = &game->shared->words[i];
		if (open_channel)
			open_channel(&game->channels[i]);
	}
	return game;
}

static void bench_uxive(void)
{
	struct game *game = new_game(open_drain);

	/* Nobody arms the queue again, so its only interrupt comes while warming up. */
	game->send = new_op("pingpong_poll_send");
	game->yield = new_op("pingpong_poll_yield");
	game->receive = new_op("pingpong_poll_receive");
	play(game, store_to_trigger, drain_polling);
	store = game->send;

	game = new_game(open_drain);
	game->send = new_op("pingpong_drain_send");
	game->interrupt = new_op("pingpong_drain_interrupt");
	game->receive = new_op("pingpong_drain_receive");
	play(game, store_to_trigger, drain_blocking);

	game = new_game(open_eventfd);
	game->send = new_op("pingpong_send");
	game->interrupt = new_op("pingpong_interrupt");
	game->receive = new_op("pingpong_receive");
	play(game, store_to_trigger, read_count);
}

void bench_pingpong(void)
{
	struct sched_param parameters = { 0 };
	struct game *game;

	must(sched_setscheduler(0, SCHED_BATCH, &parameters));
	if (!strcmp(driver, "uxive")) {
		bench_uxive();
		return;
	}
	game = new_game(strcmp(driver, "futex") ? open_pipe : NULL);
	game->send = new_op("pingpong_send");
	game->receive = new_op("pingpong_receive");
	if (strcmp(driver, "futex"))
		play(game, write_count, read_count);
	else
		play(game, wake_word, wait_for_word);
}
