// SPDX-License-Identifier: GPL-2.0
/*
 * A program that takes its events from memory: one process rings, another
 * drains the event queue, and a third, which has started them, counts how often
 * they enter the kernel for that. It reads /proc/interrupts, and makes the
 * kernel trace their system calls and the driver's events. As a check that
 * these count, the drainer also blocks for one event.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uxive_drain.h>

#define SLOTS 16
#define EVENTS 10000
#define TRACING "/sys/kernel/tracing/"
#define WATCHDOG_S 30

/* The progress of each process, in memory that all three share. */
struct state {
	/* Steps that the counter allows, and steps that drainer and ringer have done. */
	atomic_int allowed, drained, rung;
	/* Events of the first step. */
	atomic_ulong taken;
};

enum { READY = 1, POLLED, BLOCKED, ENDED };

static struct state *state;
static struct uxive_drain drain;

static void allow(int step, atomic_int *done)
{
	atomic_store(&state->allowed, step);
	while (atomic_load(done) < step)
		usleep(1000);
}

/* Without a system call. */
static void wait_for(int step)
{
	while (atomic_load(&state->allowed) < step)
		;
}

static void write_trace(const char *file, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), TRACING "%s", file);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(1, "%s", path);
	close(fd);
}

/* Lines of a file that have @text; it never returns -1. */
static unsigned long lines(const char *path, const char *text, unsigned long *first_number)
{
	FILE *file = fopen(path, "r");
	unsigned long count = 0;
	char line[1024];

	if (!file)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), file)) {
		char *next = strchr(line, ':');

		if (line[0] == '#' || !strstr(line, text))
			continue;
		count++;
		/* Of /proc/interrupts: those of all CPUs. */
		for (next = next ? next + 1 : NULL; first_number && next;) {
			char *end;
			unsigned long number = strtoul(next, &end, 10);

			if (end == next)
				break;
			*first_number += number;
			next = end;
		}
	}
	fclose(file);
	return count;
}

/* How often the queue's interrupt has come, which each context has one of. */
static unsigned long irqs_of(const char *name)
{
	unsigned long count = 0;

	if (lines("/proc/interrupts", name, &count) != 1)
		errx(1, "/proc/interrupts has not one line of %s", name);
	return count;
}

static void take_events(void)
{
	unsigned long taken = 0;
	int slot;

	/* A new queue is armed, so the very first event signals the eventfd. */
	while (taken < 1) {
		slot = uxive_drain_try_next(&drain);
		if (slot >= 0) {
			uxive_drain_eoi(&drain, slot);
			taken++;
		}
	}
	atomic_store(&state->drained, READY);

	wait_for(POLLED);
	for (taken = 0; taken < EVENTS;) {
		slot = uxive_drain_try_next(&drain);
		if (slot < 0)
			continue;
		uxive_drain_eoi(&drain, slot);
		atomic_store(&state->taken, ++taken);
	}
	atomic_store(&state->drained, POLLED);

	wait_for(BLOCKED);
	slot = uxive_drain_wait(&drain, -1);
	if (slot < 0)
		err(1, "drainer: cannot wait");
	uxive_drain_eoi(&drain, slot);
	atomic_store(&state->drained, BLOCKED);
	wait_for(ENDED);
}

/* A ring of an interrupt that was not ended yet would merge with the last one. */
static void send_events(void)
{
	uxive_drain_ring(&drain, 0);
	atomic_store(&state->rung, READY);

	wait_for(POLLED);
	for (unsigned long rung = 0; rung < EVENTS; rung++) {
		while (rung >= atomic_load(&state->taken) + SLOTS)
			;
		uxive_drain_ring(&drain, rung % SLOTS);
	}
	atomic_store(&state->rung, POLLED);

	wait_for(BLOCKED);
	usleep(100000);
	uxive_drain_ring(&drain, 0);
	atomic_store(&state->rung, BLOCKED);
	wait_for(ENDED);
}

static pid_t start(void (*run)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		alarm(WATCHDOG_S);
		/* Maps the pages in this process, by loads, which do not ring. */
		for (int slot = 0; slot < SLOTS; slot++) {
			__u64 *trigger = uxive_drain_trigger(&drain, slot);

			__atomic_load_n(trigger, __ATOMIC_RELAXED);
		}
		run();
		_exit(0);
	}
	return pid;
}

/* Lets both take a step, and prints its cost. Returns how often the kernel was entered. */
static unsigned long count(int step, const char *what, const char *name)
{
	unsigned long irqs = irqs_of(name), calls, driver;

	write_trace("trace", "");
	write_trace("tracing_on", "1");
	allow(step, &state->drained);
	write_trace("tracing_on", "0");
	irqs = irqs_of(name) - irqs;
	calls = lines(TRACING "trace", "sys_enter:", NULL);
	driver = lines(TRACING "trace", "uxive_", NULL);
	printf("drainer: %s: %lu interrupts, %lu system calls, %lu trace events of the driver\n",
	       what, irqs, calls, driver);
	fflush(stdout);
	return irqs + calls + driver;
}

static unsigned long number_of_context(int context)
{
	unsigned long number = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", context);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "uxive-context: %lu", &number) == 1)
			break;
	if (file)
		fclose(file);
	return number;
}

int main(void)
{
	struct uxive_irq_alloc_many alloc = { .size = sizeof(alloc), .count = SLOTS };
	int context = open("/dev/uxive", O_RDWR | O_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC), status, failed = 0;
	unsigned long polled, blocked;
	char name[32], filter[96], what[64];
	pid_t pids[2];

	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	if (context < 0 || event < 0 || state == MAP_FAILED)
		err(1, "/dev/uxive");
	if (uxive_drain_open(&drain, context, event, SLOTS) ||
	    ioctl(context, UXIVE_IOC_IRQ_ALLOC_MANY, &alloc))
		err(1, "cannot drain a queue");
	snprintf(name, sizeof(name), " uxive-%lu\n", number_of_context(context));

	pids[0] = start(take_events);
	pids[1] = start(send_events);
	while (atomic_load(&state->drained) < READY)
		usleep(1000);

	snprintf(filter, sizeof(filter), "common_pid == %d || common_pid == %d", pids[0], pids[1]);
	write_trace("tracing_on", "0");
	write_trace("events/raw_syscalls/sys_enter/filter", filter);
	write_trace("events/raw_syscalls/sys_enter/enable", "1");
	write_trace("events/uxive/enable", "1");

	snprintf(what, sizeof(what), "%d events, polled in memory", EVENTS);
	polled = count(POLLED, what, name);
	blocked = count(BLOCKED, "1 event, which it blocked for", name);
	allow(ENDED, &state->allowed);
	write_trace("events/uxive/enable", "0");
	write_trace("events/raw_syscalls/sys_enter/enable", "0");

	for (int i = 0; i < 2; i++)
		failed |= waitpid(pids[i], &status, 0) != pids[i] || status;
	if (failed || atomic_load(&state->taken) != EVENTS)
		errx(1, "the drainer or its ringer failed");
	printf("events %lu, kernel entries %lu\n", atomic_load(&state->taken), polled);
	return polled || !blocked;
}
