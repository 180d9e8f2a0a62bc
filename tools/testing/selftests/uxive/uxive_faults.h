/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Faults that are injected, Documentation/fault-injection: by their number in one
 * thread (fail-nth), or by chance. For kernels that have FAULT_INJECTION,
 * FAULT_INJECTION_STACKTRACE_FILTER and FAIL_FUNCTION.
 */
#ifndef UXIVE_FAULTS_H
#define UXIVE_FAULTS_H

#include "uxive_selftest.h"
#include <sys/klog.h>

static inline bool write_file(const char *dir, const char *name, const char *value)
{
	return !file_write(path_of("%s/%s", dir, name), value);
}

/* The address range of the kernel's functions from one name to the next but. */
static inline bool kernel_functions(const char *first, const char *last, char *start, char *end)
{
	unsigned long long from = 0, to = 0, address;
	bool in_last = false;
	char symbol[128];
	FILE *file = fopen("/proc/kallsyms", "r");

	/* The symbols of the kernel proper come in the order of their addresses. */
	while (file && !to && fscanf(file, "%llx %*c %127s%*[^\n]", &address, symbol) == 2) {
		if (!strcmp(symbol, first))
			from = address;
		if (in_last && strcmp(symbol, last))
			to = address;
		in_last = in_last || !strcmp(symbol, last);
	}
	if (file)
		fclose(file);
	sprintf(start, "%llu", from);
	sprintf(end, "%llu", to);
	return from && from < to;
}

#define FAILSLAB	"/sys/kernel/debug/failslab"
#define FAIL_PAGE_ALLOC	"/sys/kernel/debug/fail_page_alloc"
#define FAIL_USERCOPY	"/sys/kernel/debug/fail_usercopy"
#define FAIL_FUNCTION	"/sys/kernel/debug/fail_function"
#define INJECTABLE	"/sys/kernel/debug/error_injection/list"
#define DEBUG_UXIVE	"/sys/kernel/debug/uxive"

/* The injectors with a stack filter. */
static const char * const injectors[] = { FAILSLAB, FAIL_PAGE_ALLOC, FAIL_USERCOPY };

#define INJECTORS	ARRAY_SIZE(injectors)

/* Steps that can be made to fail. */
enum {
	KMALLOC = 1,
	MEMORY = 2,	/* all of it */
	USER_COPY = 4,
	DRIVER = 8,	/* the driver's calls of firmware and of the irq core */
};

/* How the names of the driver's injectable functions begin. */
#define FUNCTIONS	"uxive_"

#define FUNCTION_SIZE	64

/* Reads the next injectable function of the driver in @list; false if there is none. */
static inline bool next_function(FILE *list, char function[FUNCTION_SIZE])
{
	while (list && fscanf(list, "%63s%*[^\n]", function) == 1)
		if (!strncmp(function, FUNCTIONS, strlen(FUNCTIONS)))
			return true;
	return false;
}

/*
 * Gives fail_function those whose names begin with @start, or none if it is NULL.
 * Functions given earlier are withdrawn first: they are gone if the module was
 * unloaded. That waits for a grace period of RCU for each, so these are expedited.
 */
static inline bool inject_functions(const char *start)
{
	FILE *list = start ? fopen(INJECTABLE, "r") : NULL;
	char function[FUNCTION_SIZE];
	bool done, any = !start;

	done = !file_write("/sys/kernel/rcu_expedited", "1") &&
	       write_file(FAIL_FUNCTION, "inject", " ") &&
	       !file_write("/sys/kernel/rcu_expedited", "0");
	while (done && next_function(list, function)) {
		if (strncmp(function, start, strlen(start)))
			continue;
		done = write_file(FAIL_FUNCTION, "inject", function);
		any = true;
	}
	if (list)
		fclose(list);
	return done && any;
}

static inline bool select_faults(int what)
{
	const bool on[] = { what & (KMALLOC | MEMORY), what & MEMORY, what & USER_COPY };
	bool done = write_file(FAILSLAB, "cache-filter", what & KMALLOC ? "Y" : "N");

	/* No stack lies within an empty range. */
	for (unsigned int i = 0; i < INJECTORS; i++)
		done = done && write_file(injectors[i], "require-start", on[i] ? "0" : "1") &&
		       write_file(injectors[i], "require-end",
				  on[i] ? "18446744073709551615" : "1");
	return done && inject_functions(what & DRIVER ? FUNCTIONS : NULL);
}

/*
 * Two functions of the kernel continue when an allocation fails, and WARN about
 * it later: the table of irq descriptors (irq_insert_desc) and the files of
 * /proc/irq (register_irq_proc). Neither is this driver's to mend. So the
 * second and what it calls never fail, and where an irq is made, only kmalloc
 * does: the table takes its memory from a cache of its own.
 */
static inline bool prepare_faults(void)
{
	char start[32], end[32];
	struct dirent *entry;
	bool done, kmalloc = false;
	DIR *caches;

	if (!kernel_functions("register_handler_proc", "register_irq_proc", start, end))
		return false;
	done = write_file(FAIL_FUNCTION, "verbose", "0") &&
	       write_file(FAIL_FUNCTION, "probability", "0");
	for (unsigned int i = 0; i < INJECTORS; i++)
		done = done && write_file(injectors[i], "verbose", "0") &&
		       write_file(injectors[i], "probability", "0") &&
		       write_file(injectors[i], "stacktrace-depth", "32") &&
		       write_file(injectors[i], "reject-start", start) &&
		       write_file(injectors[i], "reject-end", end);

	caches = opendir("/sys/kernel/slab");
	while (caches && (entry = readdir(caches))) {
		if (strncmp(entry->d_name, "kmalloc-", 8))
			continue;
		kmalloc |= !file_write(path_of("/sys/kernel/slab/%s/failslab", entry->d_name),
				       "1");
	}
	if (caches)
		closedir(caches);

	return done && kmalloc && write_file(FAILSLAB, "ignore-gfp-wait", "N") &&
	       write_file(FAIL_PAGE_ALLOC, "ignore-gfp-wait", "N") &&
	       write_file(FAIL_PAGE_ALLOC, "ignore-gfp-highmem", "N") &&
	       write_file(FAIL_PAGE_ALLOC, "min-order", "0");
}

/* The next @times calls of the driver's functions fail, in any task; -1: all. */
static inline bool fail_all(int times)
{
	char text[16];

	sprintf(text, "%d", times);
	return write_file(FAIL_FUNCTION, "times", text) &&
	       write_file(FAIL_FUNCTION, "probability", times ? "100" : "0");
}

/*
 * How many lines of a table in debugfs, its heading left out, begin with @start;
 * -1 if it cannot be read. The last one goes to @line, of @size bytes, if that is
 * not NULL.
 */
static inline int debug_lines(const char *table, const char *start, char *line, int size)
{
	FILE *file = fopen(path_of(DEBUG_UXIVE "/%s", table), "r");
	char buffer[256];
	bool heading = true;
	int count = 0;

	if (!file)
		return -1;
	while (fgets(buffer, sizeof(buffer), file)) {
		if (!heading && !strncmp(buffer, start, strlen(start))) {
			if (line)
				snprintf(line, size, "%s", buffer);
			count++;
		}
		heading = false;
	}
	fclose(file);
	return count;
}

/* The tables have no line, where there are any. Queues are given back a little later. */
#define EXPECT_TABLES_EMPTY() do {					\
	if (access(DEBUG_UXIVE, F_OK))					\
		break;							\
	EXPECT_TRUE(becomes(debug_lines("contexts", "", NULL, 0), 0));	\
	EXPECT_TRUE(becomes(limit_get("queues"), 0));			\
	EXPECT_EQ(0, debug_lines("slots", "", NULL, 0));		\
	EXPECT_EQ(0, debug_lines("queues", "", NULL, 0));		\
	EXPECT_EQ(0, debug_lines("quarantine", "", NULL, 0));		\
} while (0)

/* How many queues are counted that no context has: leaked, or just about to be given back. */
static inline long queues_without_context(void)
{
	return limit_get("queues") - debug_lines("queues", "", NULL, 0);
}

/*
 * How many queues were leaked. A context that was closed is out of the list a little before
 * its queue is given back or leaked: as many as were leaked when this was called last, or a
 * number that stays.
 */
static inline long leaked_queues(void)
{
	static long leaked;
	long now = queues_without_context();

	for (int same = 0; now != leaked && same < 10; same++) {
		long then = now;

		usleep(10000);
		now = queues_without_context();
		if (now != then)
			same = -1;
	}
	return leaked = now;
}

/* The VP of a context that is set up now: the lowest that is free of those that the driver has. */
static inline long lowest_vp(void)
{
	char start[32], line[256];
	int fd = ux_open();
	long vp = -1;

	leaked_queues();
	snprintf(start, sizeof(start), "%ld ", ux_context(fd));
	if (!ux_fill(fd, 1) && debug_lines("queues", start, line, sizeof(line)) == 1)
		sscanf(line, "%*u %lx", &vp);
	close(fd);
	return vp;
}

/* Lines for the log. Outside them the testbed takes a quarantine for a complaint. */
#define QUARANTINES		"uxive selftest: quarantines are injected"
#define NO_MORE_QUARANTINES	"uxive selftest: no more quarantines are injected"

/* Lines of the kernel's log since the last one that has @mark, that have @text. */
static inline int logged(const char *mark, const char *text)
{
	int size = klogctl(10, NULL, 0), count = 0;
	char *log = malloc(size + 1), *at = log;

	size = klogctl(3, log, size);
	log[size < 0 ? 0 : size] = 0;
	for (char *next = log; (next = strstr(next, mark)); next++)
		at = next;
	while ((at = strstr(at, text))) {
		at++;
		count++;
	}
	free(log);
	return count;
}

/* Lets the @nth step from here fail. */
static inline void arm(int fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	if (pwrite(fd, text, len, 0) != len)
		abort();
}

/* Ends what arm() began; true if the step has failed by now. */
static inline bool disarm(int fd)
{
	char text[16] = {};
	/* This reading may be the one that fails: then nothing before did. */
	bool hit = pread(fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;

	while (pwrite(fd, "0", 1, 0) != 1)
		;
	return hit;
}

#endif
