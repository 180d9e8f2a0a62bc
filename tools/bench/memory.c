// SPDX-License-Identifier: GPL-2.0
/* Memory that contexts and interrupts take, as the fall of the machine's free memory. */
#include "bench.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONTEXTS 512

/*
 * Allocators keep freed memory for a while. So as many objects as ever lived at
 * once are made first, and only those after them count.
 */
#define BEFORE (2 * CONTEXTS)

/* All free memory, also the per-CPU pages that /proc/meminfo leaves out. */
static __u64 free_memory(void)
{
	__u64 pages = 0;
	char line[200];
	FILE *file;

	/* The kernel frees some things late. */
	sleep(1);
	file = fopen("/proc/zoneinfo", "r");
	if (!file)
		die("/proc/zoneinfo: %m");
	while (fgets(line, sizeof(line), file)) {
		unsigned long n;

		if (sscanf(line, " nr_free_pages %lu", &n) == 1 ||
		    sscanf(line, " count: %lu", &n) == 1)
			pages += n;
	}
	fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

static void memory_of_contexts(const char *name, bool with_interrupt, unsigned int before)
{
	static int fds[BEFORE + CONTEXTS];
	__u64 free = 0;

	for (unsigned int i = 0; i < before + CONTEXTS; i++) {
		if (i == before)
			free = free_memory();
		fds[i] = open_driver();
		if (with_interrupt)
			allocate(fds[i]);
	}
	record_bytes(name, (free - free_memory()) / CONTEXTS);
	for (unsigned int i = 0; i < before + CONTEXTS; i++)
		close(fds[i]);
}

static void memory_of_interrupts(const char *name)
{
	/* ocxl has 2000 interrupts in all. uxive's are small, so only many of them show. */
	unsigned int count = strcmp(driver, "ocxl") ? 28 * CONTEXTS : 448;
	int fd = open_driver();
	__u64 free;

	for (unsigned int i = 0; i < BEFORE + CONTEXTS; i++)
		allocate(fd);
	free = free_memory();
	for (unsigned int i = 0; i < count; i++)
		allocate(fd);
	record_bytes(name, (free - free_memory()) / count);
	close(fd);
}

/* The contexts here have more memory of queues than a user may by default. */
static void raise_limit(void)
{
	FILE *file = fopen("/sys/class/misc/uxive/max_queue_bytes_per_user", "w");

	/* Another driver has no such limit. */
	if (!file)
		return;
	if (fprintf(file, "%u", (BEFORE + CONTEXTS + 1) << 16) < 0 || fclose(file))
		die("max_queue_bytes_per_user: %m");
}

void bench_memory(void)
{
	struct rlimit limit = { BEFORE + CONTEXTS + 16, BEFORE + CONTEXTS + 16 };

	raise_limit();
	must(setrlimit(RLIMIT_NOFILE, &limit));
	memory_of_contexts("memory_context", false, CONTEXTS);
	memory_of_contexts("memory_context_with_one", true, BEFORE);
	memory_of_interrupts("memory_interrupt");
}
