// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a kernel that takes the machine over, by kexec or after a crash, has all
 * of it, even if interrupts rang when it began. The driver loads, interrupts ring,
 * and none from before comes, except for one message that was pending in an AFU.
 *
 * This goes on through three kernels: the first leaves programs that ring to kexec,
 * the second to a crash, the third ends it. The last two run the suites that are
 * named by the arguments. All three give one document of results: the command line
 * of a kernel names the job to continue (guest/init), and which of the three the
 * kernel is.
 */
#include "uxive_afu.h"

#include <linux/kexec.h>
#include <linux/reboot.h>
#include <uxive_drain.h>

#define IRQS		4
#define EVENTS		20
#define RAISES		10
#define IMAGE		"/vmlinux"
#define INITRAMFS	"/tmp/initramfs"
/* Memory that the second kernel reserves for the third. */
#define RESERVED	"crashkernel=384M@256M"
/* Between these lines the testbed takes a crash for no complaint. */
#define CRASHES		"uxive selftest: the machine is to crash"
#define TAKEN_OVER	"uxive selftest: the machine was taken over"

enum kernel { FIRST, AFTER_KEXEC, AFTER_CRASH };

/* Programs that ring without end and outlive the test. @done: events that came. */

/* One that cannot go on ends, and does nothing more. */
static void or_exit(bool good)
{
	if (!good)
		_exit(1);
}

/* Interrupts with an eventfd each. */
static void ring_eventfds(unsigned long *done)
{
	int fd = ux_open(), efds[IRQS];
	void *pages;

	or_exit(!ux_fill(fd, IRQS));
	pages = ux_map(fd, IRQ_BASE, IRQS * STRIDE);
	or_exit(pages != MAP_FAILED);
	for (int i = 0; i < IRQS; i++) {
		efds[i] = event_new();
		or_exit(!ux_bind(fd, slot_offset(i), efds[i]));
	}
	for (;;) {
		for (int i = 0; i < IRQS; i++)
			ring(pages + i * STRIDE);
		for (int i = 0; i < IRQS; i++)
			*done += event_read(efds[i]);
	}
}

/* A queue that was armed, with events in it that are not drained, and more behind them. */
static void ring_armed(unsigned long *done)
{
	int fd = ux_open(), efd = event_new();
	struct uxive_drain drain;

	or_exit(!uxive_drain_open(&drain, fd, efd, IRQS) && !ux_fill(fd, IRQS));
	or_exit(uxive_drain_arm_and_look(&drain) == -1);
	uxive_drain_ring(&drain, 0);
	or_exit(event_wait(efd) == 1);
	for (;; ++*done)
		for (int i = 0; i < IRQS; i++)
			uxive_drain_ring(&drain, i);
}

/* A queue that is drained, and armed each time. */
static void ring_drained(unsigned long *done)
{
	int fd = ux_open(), efd = event_new();
	struct uxive_drain drain;

	or_exit(!uxive_drain_open(&drain, fd, efd, 1) && !ux_fill(fd, 1));
	for (;; ++*done) {
		uxive_drain_ring(&drain, 0);
		or_exit(uxive_drain_wait(&drain, -1) == 0);
		uxive_drain_eoi(&drain, 0);
	}
}

/* An accelerator that sends a message as often as it may. */
static void storm(const struct afu_function *function, unsigned long *done)
{
	struct ocxl_ioctl_metadata metadata;
	int fd, efd = event_new();
	__u64 offset;
	void *global;
	__u32 slot;

	or_exit(!afu_bind(function));
	fd = afu_open(function);
	or_exit(fd >= 0 && !afu_attach(fd) && !afu_metadata(fd, &metadata));
	or_exit(!afu_ims_alloc(fd, efd, &offset, &slot));
	global = afu_map_global(function);
	or_exit(global != MAP_FAILED);
	/* Entries of the store are those of context 0 first. */
	or_exit(metadata.pasid == 0 && afu_misbehave(global, AFU_STORM, slot, 0));
	for (;;)
		*done += event_wait(efd);
}

TEST(all_ring_on)
{
	static void (* const rings[])(unsigned long *done) = {
		ring_eventfds, ring_armed, ring_drained,
	};
	struct afu_function functions[AFU_MOST];
	int afus = afu_functions(functions), all = ARRAY_SIZE(rings) + afus;
	unsigned long *done = shared_memory(sizeof(*done) * all);

	ASSERT_LE(1, afus);
	for (int i = 0; i < all; i++) {
		if (fork())
			continue;
		/* The reader of the test's output waits until all have closed it. */
		for (int fd = 0; fd < 3; fd++)
			dup2(open("/dev/null", O_RDWR), fd);
		if (i < afus)
			storm(functions + i, done + i);
		else
			rings[i - afus](done + i);
	}
	for (int i = 0; i < all; i++) {
		EXPECT_TRUE(becomes(__atomic_load_n(done + i, __ATOMIC_RELAXED) >= EVENTS, true))
			TH_LOG("program %d: %lu", i, done[i]);
	}
}

/*
 * These contexts are the first to have the interrupts, and the AFU's slot, that
 * rang when the last kernel ended.
 */
TEST(what_rang_before_does_not_come)
{
	struct afu_command raise = { .opcode = AFU_RAISE };
	struct afu_function functions[AFU_MOST];
	int afus = afu_functions(functions);
	int fd = ux_open(), efds[IRQS];
	void *pages;

	ASSERT_LE(1, afus);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ux_fill(fd, IRQS));
	pages = ux_map(fd, IRQ_BASE, IRQS * STRIDE);
	ASSERT_NE(MAP_FAILED, pages);
	for (int i = 0; i < IRQS; i++) {
		efds[i] = event_new();
		ASSERT_EQ(0, ux_bind(fd, slot_offset(i), efds[i]));
	}
	/* The second event of each shows that the first was not late. */
	for (int n = 0; n < 2; n++) {
		for (int i = 0; i < IRQS; i++) {
			EXPECT_EQ(0, event_read(efds[i]));
			ring(pages + i * STRIDE);
			EXPECT_EQ(1, event_wait(efds[i]));
		}
	}
	munmap(pages, IRQS * STRIDE);
	close(fd);

	for (int i = 0; i < afus; i++) {
		long events = 0;
		__u64 offset;
		void *mmio;
		__u32 slot;

		ASSERT_EQ(0, afu_bind(functions + i));
		fd = afu_open(functions + i);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, afu_attach(fd));
		ASSERT_EQ(0, afu_ims_alloc(fd, efds[0], &offset, &slot));
		ASSERT_EQ(0, slot);
		mmio = afu_map(fd);
		ASSERT_NE(MAP_FAILED, mmio);
		for (int n = 0; n < RAISES; n++) {
			long more;

			EXPECT_EQ(AFU_DONE, afu_do(mmio, &raise));
			more = event_wait(efds[0]);
			ASSERT_LE(1, more);
			events += more;
		}
		/* A pending message goes to the next owner of the slot. */
		EXPECT_GE(RAISES + 1, events);
		close(fd);
		EXPECT_EQ(0, afu_unbind(functions + i));
	}
}

/* Results, as lines of one document through all kernels. */

static int results;

static void result(bool good, const char *name, enum kernel kernel)
{
	static const char * const when[] = { "before", "after_kexec", "after_a_crash" };

	printf("%sok %d %s_%s\n", good ? "" : "not ", ++results, name, when[kernel]);
	fflush(stdout);
	if (!good)
		exit(KSFT_FAIL);
}

/* Runs a selftest, as a part of this document. */
static bool passes(const char *path, const char *arguments)
{
	char line[PATH_MAX];
	FILE *output;

	snprintf(line, sizeof(line), "%s %s", path, arguments);
	output = popen(line, "r");

	while (output && fgets(line, sizeof(line), output)) {
		printf("    %s", line);
		fflush(stdout);
	}
	return output && pclose(output) == 0;
}

/* Has another kernel ready, with the files of this one. @words: of its command line. */
static bool image_load(unsigned long flags, const char *words)
{
	char line[1024], *end;
	int image, initramfs;

	/* Without the words that are for this kernel only. */
	snprintf(line, sizeof(line), "%.255s", file_line("/proc/cmdline"));
	end = strstr(line, " " RESERVED) ?: strstr(line, " RESUME=") ?: line + strlen(line);
	snprintf(end, line + sizeof(line) - end, " %s", words);
	if (system("cd / && find . -xdev | cpio -o -H newc >" INITRAMFS " 2>/dev/null"))
		return false;
	image = open(IMAGE, O_RDONLY | O_CLOEXEC);
	initramfs = open(INITRAMFS, O_RDONLY | O_CLOEXEC);
	if (!syscall(SYS_kexec_file_load, image, initramfs, strlen(line) + 1, line, flags))
		return true;
	printf("# kexec_file_load: %s\n", strerror(errno));
	return false;
}

/* Has everything ring, and is replaced by the next kernel. */
static void leave(enum kernel kernel)
{
	const char *job = getenv("JOB");
	char words[128];

	snprintf(words, sizeof(words), "%s RESUME=%s KERNEL=%d",
		 kernel == FIRST ? RESERVED : "", job ?: "", kernel + 1);
	result(job && image_load(kernel == FIRST ? 0 : KEXEC_FILE_ON_CRASH, words) &&
	       passes(program_invocation_name, "-r global.all_ring_on"), "left", kernel);
	if (kernel == FIRST) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			LINUX_REBOOT_CMD_KEXEC, NULL);
	} else {
		log_line(CRASHES);
		file_write("/proc/sysrq-trigger", "c");
	}
	result(false, "next", kernel);
}

int main(int argc, char **argv)
{
	enum kernel kernel = atoi(getenv("KERNEL") ?: "0");
	int suites = argc - 1;

	/* One of the tests above. */
	if (argc > 1 && *argv[1] == '-')
		return test_harness_run(argc, argv);

	switch (kernel) {
	case FIRST:
		printf("KTAP version 1\n1..%d\n", 1 + (1 + suites + 1) + (1 + suites));
		break;
	case AFTER_KEXEC:
		results = 1;
		break;
	case AFTER_CRASH:
		results = 1 + (1 + suites + 1);
		log_line(TAKEN_OVER);
		break;
	}
	if (kernel != FIRST) {
		result((!access(UXIVE_DEV, F_OK) || !module_load(UXIVE_MODULE)) &&
		       passes(program_invocation_name, "-r global.what_rang_before_does_not_come"),
		       "loaded", kernel);
		for (int i = 1; i <= suites; i++) {
			char path[PATH_MAX];

			snprintf(path, sizeof(path), "/tests/%s", argv[i]);
			result(passes(path, ""), argv[i], kernel);
		}
	}
	if (kernel != AFTER_CRASH)
		leave(kernel);
	return KSFT_PASS;
}
