// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the driver takes a PCI function if it is asked to and the function is
 * an AFU that can be used, and leaves no trace of one that is not. Programs find
 * of an AFU what ocxl's have found, and each has its own part of the MMIO.
 */
#include "uxive_afu.h"
#include "uxive_edu.h"
#include "uxive_faults.h"

#define PAGE		(64UL << 10)
#define GLOBAL_SIZE	(64UL << 10)
#define MMIO_SIZE	(256UL << 10)
#define PROCESSES	8
#define GARBAGES	200
#define MAX_STEPS	500

/* A fresh MMIO has this many words that are not 0, below their end. */
#define FRESH_WORDS	(AFU_DATA_SIZE / 8 + 1)

/* How many there are since the last call that name a function; the last one is @line. */
static int log_read(int log, const struct afu_function *function, char *line, size_t size)
{
	char record[1024];
	int count = 0;
	ssize_t length;

	*line = 0;
	while ((length = read(log, record, sizeof(record) - 1)) > 0) {
		record[length] = 0;
		record[strcspn(record, "\n")] = 0;
		if (!strstr(record, function->address))
			continue;
		snprintf(line, size, "%s", record);
		count++;
	}
	return count;
}

FIXTURE(binding) {
	struct afu_function function[AFU_MOST];
	struct afu_held held;
	int functions, log;
	void *memory, *global;
	size_t length;
};

/* As it is found: nothing is bound, and root reaches the BARs of the first function. */
FIXTURE_SETUP(binding)
{
	catch_touches();
	self->functions = afu_functions(self->function);
	ASSERT_LE(1, self->functions);
	for (int i = 0; i < self->functions; i++) {
		if (afu_is_bound(&self->function[i]))
			afu_unbind(&self->function[i]);
		ASSERT_EQ(0, afu_override(&self->function[i], ""));
	}
	ASSERT_TRUE(afu_enable(self->function, "1"));
	self->memory = afu_map_bar(self->function, 2, &self->length);
	ASSERT_NE(MAP_FAILED, self->memory);
	self->global = self->memory + mmio_read64(self->memory, 0x48);
	self->log = log_open();
	self->held = afu_held();
	ASSERT_EQ(0, self->held.regions);
	ASSERT_EQ(0, self->held.nodes);
}

FIXTURE_TEARDOWN(binding)
{
	EXPECT_TRUE(afu_misbehave(self->global, AFU_RESTORE, 0, 0));
	munmap(self->memory, self->length);
	close(self->log);
	for (int i = 0; i < self->functions; i++) {
		EXPECT_FALSE(afu_is_bound(&self->function[i]));
		afu_override(&self->function[i], "");
	}
	EXPECT_TRUE(afu_holds_no_more(&self->held));
	EXPECT_TRUE(afu_enable(self->function, "0"));
}

/* Has all drivers look at the function, as when it is plugged in. */
static bool offer(const struct afu_function *function)
{
	file_write("/sys/bus/pci/drivers_probe", function->address);
	return afu_is_bound(function);
}

TEST_F(binding, only_who_is_asked_for_is_bound)
{
	struct afu_function *function = self->function;

	EXPECT_FALSE(offer(function));
	EXPECT_ERRNO(bind, ENODEV, file_write(AFU_DRIVER "bind", function->address));
	ASSERT_EQ(0, afu_override(function, "vfio-pci"));
	EXPECT_FALSE(offer(function));
	EXPECT_ERRNO(bind, ENODEV, file_write(AFU_DRIVER "bind", function->address));

	ASSERT_EQ(0, afu_override(function, "uxive"));
	EXPECT_TRUE(offer(function));
	EXPECT_EQ(0, access(afu_path(function, NULL), F_OK));
	EXPECT_EQ(1, is_master(function));
	EXPECT_EQ(0, afu_unbind(function));
	EXPECT_NE(0, access(afu_path(function, NULL), F_OK));
	EXPECT_EQ(0, is_master(function));
	/* Not by itself, once it was. */
	EXPECT_FALSE(offer(function));
}

TEST_F(binding, a_new_id_is_bound)
{
	/* That of another device, and of this one for another driver. */
	ASSERT_EQ(0, file_write(AFU_DRIVER "new_id", "1af4 1111"));
	EXPECT_FALSE(offer(self->function));
	ASSERT_EQ(0, afu_override(self->function, "vfio-pci"));
	ASSERT_EQ(0, file_write(AFU_DRIVER "new_id", "1af4 1110"));
	EXPECT_FALSE(afu_is_bound(self->function));
	ASSERT_EQ(0, afu_override(self->function, ""));
	EXPECT_TRUE(offer(self->function));

	for (int i = 0; i < self->functions; i++) {
		int fd = afu_open(&self->function[i]);

		EXPECT_LE(0, fd);
		EXPECT_EQ(0, afu_attach(fd));
		close(fd);
	}
	EXPECT_EQ(0, file_write(AFU_DRIVER "remove_id", "1af4 1110"));
	EXPECT_EQ(0, file_write(AFU_DRIVER "remove_id", "1af4 1111"));
	for (int i = 0; i < self->functions; i++)
		EXPECT_EQ(0, afu_unbind(&self->function[i]));
	EXPECT_FALSE(offer(self->function));
}

TEST_F(binding, a_module_takes_what_it_is_to_take)
{
	struct afu_function *function = self->function;
	int fd;

	if (access(UXIVE_MODULE, R_OK))
		SKIP(return, "the driver is built in");
	ASSERT_TRUE(becomes(module_unload("uxive"), 0));
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	EXPECT_FALSE(afu_is_bound(function));

	/* Bound, with no file open, it goes; the function is as before. */
	ASSERT_EQ(0, afu_bind(function));
	ASSERT_EQ(0, access(afu_path(function, NULL), F_OK));
	ASSERT_TRUE(becomes(module_unload("uxive"), 0));
	EXPECT_FALSE(afu_is_bound(function));
	EXPECT_TRUE(afu_holds_no_more(&self->held));
	EXPECT_NE(0, access("/sys/class/ocxl", F_OK));

	/* A new driver binds a function whose override names it. */
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	ASSERT_TRUE(becomes(access(afu_path(function, NULL), F_OK), 0));
	fd = afu_open(function);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, afu_attach(fd));
	EXPECT_ERRNO(delete_module, EWOULDBLOCK, module_unload("uxive"));
	close(fd);
	EXPECT_EQ(0, afu_unbind(function));
	ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
}

/* Bindings that are refused. */

/* Whether a function is refused, with one line that has @says and with nothing left. */
static bool is_refused(int log, const struct afu_function *function, const char *says)
{
	struct afu_held before = afu_held(), after;
	char line[1024];
	int ret, lines;

	log_read(log, function, line, sizeof(line));
	ret = afu_bind(function);
	progress();
	lines = log_read(log, function, line, sizeof(line));
	after = afu_held();
	if (!ret)
		afu_unbind(function);
	if (ret == -ENODEV && lines == 1 && strstr(line, says) && !afu_is_bound(function) &&
	    !memcmp(&before, &after, sizeof(before)))
		return true;
	ksft_print_msg("%d, %d lines, last: %s\n", ret, lines, line);
	return false;
}

TEST_F(binding, what_can_program_dma_is_refused)
{
	struct afu_function edus[2], *edu = edus;
	int count = pci_functions(EDU_ID, edus, 2);

	/* Not the neighbour of an AFU. */
	while (count && edu->address[strlen(edu->address) - 1] != '0')
		edu++, count--;
	if (!count)
		SKIP(return, "the machine has no edu: make test gives it one");
	/* The PCI core logs lines of its own the first time, which must not count. */
	ASSERT_TRUE(afu_enable(edu, "1"));
	EXPECT_TRUE(is_refused(self->log, edu, "it is no AFU: it has no MSI-X"));
	EXPECT_EQ(0, afu_override(edu, ""));
	EXPECT_TRUE(afu_enable(edu, "0"));
}

/* Functions that the host bridge cannot tell from the second AFU: behind the same port. */
enum neighbour { RNG = '1', EDU = '2' };

static bool neighbour_of(const struct afu_function *function, enum neighbour which,
			 struct afu_function *neighbour)
{
	*neighbour = *function;
	neighbour->address[strlen(neighbour->address) - 1] = which;
	return !access(function_path(neighbour, ""), F_OK);
}

/* 0 or a negative errno. */
static int neighbour_write(const struct afu_function *neighbour, const char *file)
{
	return file_write(path_of("/sys/bus/pci/drivers/virtio-pci/%s", file), neighbour->address);
}

/* Whether the AFU can send an interrupt to its program. */
static bool messages_pass(const struct afu_function *function)
{
	struct afu_command raise = { .opcode = AFU_RAISE };
	int fd = afu_open(function), efd = event_new();
	void *mmio = MAP_FAILED;
	bool passed = false;
	__u64 offset;

	if (!afu_attach(fd) && !afu_ims_alloc(fd, efd, &offset, NULL))
		mmio = afu_map(fd);
	if (mmio != MAP_FAILED) {
		passed = afu_do(mmio, &raise) == AFU_DONE && event_wait(efd) == 1;
		munmap(mmio, MMIO_SIZE);
	}
	close(fd);
	close(efd);
	return passed;
}

/* Interrupts are no DMA. */
TEST_F(binding, its_dma_is_nobody_elses)
{
	struct afu_function *function = self->function + 1, neighbour;
	char line[1024];

	if (self->functions < 2 || !neighbour_of(function, RNG, &neighbour))
		SKIP(return, "no AFU has a neighbour: make test gives one to the second");
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(0, neighbour_write(&neighbour, "bind"));
		log_read(self->log, function, line, sizeof(line));
		EXPECT_ERRNO(bind, EBUSY, afu_bind(function));
		/* The driver core has a line for all errors but ENODEV. */
		EXPECT_EQ(2, log_read(self->log, function, line, sizeof(line)));
		EXPECT_FALSE(afu_is_bound(function));
		EXPECT_TRUE(afu_is_bound(&neighbour));
		ASSERT_EQ(0, neighbour_write(&neighbour, "unbind"));

		ASSERT_EQ(0, afu_bind(function));
		EXPECT_ERRNO(bind, EBUSY, neighbour_write(&neighbour, "bind"));
		EXPECT_FALSE(afu_is_bound(&neighbour));

		EXPECT_TRUE(messages_pass(function));
		EXPECT_EQ(0, afu_unbind(function));
	}
	/* A later step that fails gives the DMA ownership back. */
	for (int i = 0; i < 2; i++) {
		size_t length;
		void *memory;

		ASSERT_TRUE(afu_enable(function, "1"));
		memory = afu_map_bar(function, 2, &length);
		ASSERT_NE(MAP_FAILED, memory);
		ASSERT_TRUE(afu_misbehave(memory + mmio_read64(memory, 0x48),
					  i ? AFU_RESTORE : AFU_DROP_NO_DMA, 0, 0));
		munmap(memory, length);
		ASSERT_TRUE(afu_enable(function, "0"));
		if (i == 0)
			EXPECT_ERRNO(bind, ENODEV, afu_bind(function));
	}
	ASSERT_EQ(0, neighbour_write(&neighbour, "bind"));
	ASSERT_EQ(0, neighbour_write(&neighbour, "unbind"));
	EXPECT_EQ(0, afu_override(function, ""));
}

/*
 * Has edu copy the 8 bytes at the begin of a page, there to or from there. Returns
 * whether it says that it has done so, and the page was where it was.
 */
static bool edu_copies(void *edu, const __u64 *page, __u64 direction)
{
	__u64 memory = physical(page);

	return edu_moves(edu, BYPASS + memory, sizeof(*page), direction) && memory &&
	       physical(page) == memory;
}

/* Shown by a neighbour that the host bridge cannot tell from it, since the model does no DMA. */
TEST_F(binding, its_dma_goes_nowhere)
{
	enum { FREE = 0x1111, SECRET = 0x2222, KEPT = 0x3333 };
	struct afu_function *function = self->function + 1, neighbour;
	size_t length;
	__u64 *page;
	void *edu;

	if (self->functions < 2 || !neighbour_of(function, EDU, &neighbour))
		SKIP(return, "no AFU has an edu beside it: make test gives one to the second");
	ASSERT_TRUE(afu_enable(&neighbour, "1"));
	ASSERT_TRUE(make_master(&neighbour));
	edu = afu_map_bar(&neighbour, 0, &length);
	ASSERT_NE(MAP_FAILED, edu);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, page);

	for (int round = 0; round < 2; round++) {
		/* Without a driver it reaches all, either way. */
		__atomic_store_n(page, FREE, __ATOMIC_RELAXED);
		ASSERT_TRUE(edu_copies(edu, page, 0));
		__atomic_store_n(page, KEPT, __ATOMIC_RELAXED);
		ASSERT_TRUE(edu_copies(edu, page, EDU_TO_MEMORY));
		EXPECT_EQ(FREE, __atomic_load_n(page, __ATOMIC_RELAXED));

		ASSERT_EQ(0, afu_bind(function));
		__atomic_store_n(page, SECRET, __ATOMIC_RELAXED);
		EXPECT_TRUE(edu_copies(edu, page, 0));
		__atomic_store_n(page, KEPT, __ATOMIC_RELAXED);
		EXPECT_TRUE(edu_copies(edu, page, EDU_TO_MEMORY));
		EXPECT_EQ(KEPT, __atomic_load_n(page, __ATOMIC_RELAXED));
		EXPECT_TRUE(messages_pass(function));
		EXPECT_EQ(0, afu_unbind(function));

		EXPECT_TRUE(edu_copies(edu, page, EDU_TO_MEMORY));
		EXPECT_NE(KEPT, __atomic_load_n(page, __ATOMIC_RELAXED));
		EXPECT_NE(SECRET, __atomic_load_n(page, __ATOMIC_RELAXED));
	}
	munmap(page, PAGE);
	munmap(edu, length);
	EXPECT_TRUE(afu_enable(&neighbour, "0"));
	EXPECT_EQ(0, afu_override(function, ""));
}

#define OCXL_FIRST	"uxive selftest: ocxl is loaded first"

/* With the real ocxl. If uxive comes first, ocxl is refused. */
TEST_F(binding, an_afu_is_refused_where_ocxl_has_the_class)
{
	struct afu_function *function = self->function;
	char line[1024];

	if (access(OCXL_MODULE, R_OK))
		SKIP(return, "the kernel has no ocxl");
	if (access(UXIVE_MODULE, R_OK))
		SKIP(return, "the driver is built in: it has the class from the first AFU on");
	ASSERT_TRUE(becomes(module_unload("uxive"), 0));
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
	ASSERT_NE(0, access("/sys/class/ocxl", F_OK));
	ASSERT_EQ(0, module_load(OCXL_MODULE));
	ASSERT_EQ(0, access("/sys/class/ocxl", F_OK));
	ASSERT_TRUE(log_line(OCXL_FIRST));
	log_read(self->log, function, line, sizeof(line));
	EXPECT_ERRNO(bind, EBUSY, afu_bind(function));
	/* The driver core has a line for all errors but ENODEV. */
	EXPECT_EQ(2, log_read(self->log, function, line, sizeof(line)));
	EXPECT_EQ(1, logged(OCXL_FIRST, "another driver has the class ocxl"));
	EXPECT_FALSE(afu_is_bound(function));
	EXPECT_TRUE(afu_holds_no_more(&self->held));

	/* It can be bound once ocxl has gone. */
	ASSERT_EQ(0, module_unload("ocxl"));
	ASSERT_EQ(0, afu_bind(function));
	EXPECT_EQ(0, access(afu_path(function, NULL), F_OK));
	EXPECT_EQ(0, afu_unbind(function));
}

TEST_F(binding, the_function_of_another_driver_is_refused)
{
	struct afu_function serial[1];

	/* The testbed's own, by which this is read. */
	if (pci_functions("0x1af4 0x1043", serial, 1) != 1 &&
	    pci_functions("0x1af4 0x1003", serial, 1) != 1)
		SKIP(return, "there is none");
	EXPECT_ERRNO(bind, EBUSY, afu_bind(serial));
	EXPECT_EQ(0, afu_override(serial, ""));
	EXPECT_TRUE(afu_is_bound(serial));
}

/* The descriptor, as the model has written it and as a test does. */

#define DESCRIPTOR_BYTES	256

static void descriptor_write(void *memory, const void *bytes)
{
	__u64 word;

	for (int at = 0; at < DESCRIPTOR_BYTES; at += sizeof(word)) {
		memcpy(&word, bytes + at, sizeof(word));
		__atomic_store_n((__u64 *)(memory + at), word, __ATOMIC_RELAXED);
	}
	__sync_synchronize();
}

static void descriptor_read(const void *memory, void *bytes)
{
	__u64 word;

	for (int at = 0; at < DESCRIPTOR_BYTES; at += sizeof(word)) {
		word = __atomic_load_n((const __u64 *)(memory + at), __ATOMIC_RELAXED);
		memcpy(bytes + at, &word, sizeof(word));
	}
}

/* A changed field: @size bytes at @at become @value. @says is in the driver's complaint. */
struct change {
	int at, size;
	__u64 value;
	const char *says;
};

/* Changes of the model's descriptor, in the order of the fields, and the complaint of each. */
static const struct change changes[] = {
	{ 0x08, 2, 0, "version 0 " },
	{ 0x08, 2, 2, "version 2 " },
	{ 0x08, 2, 0x100, "version 256 " },
	{ 0x10, 8, 0, "name" },
	{ 0x28, 4, 0, "0 contexts" },
	{ 0x28, 4, 513, "513 contexts" },
	{ 0x28, 4, ~0U, "4294967295 contexts" },
	{ 0x28, 4, 512, "BAR 2 has no room for its contexts' MMIO" },
	{ 0x28, 4, 52, "BAR 2 has no room for its contexts' MMIO" },
	{ 0x28, 4, 33, "BAR 1 has no room for its message store" },
	{ 0x2c, 4, 2048, "2048 slots" },
	{ 0x2c, 4, ~0U, "4294967295 slots" },
	{ 0x2c, 4, 2047, "no room for its message store" },
	{ 0x2c, 4, 1 << 31, "2147483648 slots" },
	{ 0x30, 8, 1, "offset 0x1 of its contexts' MMIO is no multiple" },
	{ 0x30, 8, 0x30000 + 4096, "is no multiple" },
	{ 0x30, 8, 0x30000 + 0x8000, "is no multiple" },
	{ 0x30, 8, 0, "configuration page and its contexts' MMIO overlap" },
	{ 0x30, 8, 0x10000, "overlap" },
	{ 0x30, 8, 0x20000, "contexts' MMIO and its global MMIO overlap" },
	{ 0x30, 8, 0x1000000, "no room" },
	{ 0x30, 8, 1ULL << 63, "no room" },
	{ 0x30, 8, -0x10000ULL, "no room" },
	{ 0x38, 8, 0, "size of 0x0" },
	{ 0x38, 8, 4096, "size of 0x1000" },
	{ 0x38, 8, 0x18000, "size of 0x18000" },
	{ 0x38, 8, 0x60000, "stride of 0x50000" },
	{ 0x38, 8, (1ULL << 30) + 0x10000, "size of 0x40010000" },
	{ 0x38, 8, 1ULL << 63, "size of " },
	{ 0x38, 8, -0x10000ULL, "size of " },
	{ 0x40, 8, 0, "stride of 0x0" },
	{ 0x40, 8, 0x30000, "stride of 0x30000" },
	{ 0x40, 8, 0x48000, "stride of 0x48000" },
	{ 0x40, 8, 1ULL << 20, "no room" },
	{ 0x40, 8, 1ULL << 59, "no room" },
	{ 0x40, 8, -0x10000ULL, "no room" },
	{ 0x48, 8, 8, "is no multiple" },
	{ 0x48, 8, 0, "overlap" },
	{ 0x48, 8, 0x10000, "overlap" },
	{ 0x48, 8, 0x30000, "overlap" },
	/* Between two contexts, where nobody is, and in the last of them. */
	{ 0x48, 8, 0x70000, "overlap" },
	{ 0x48, 8, 0xa10000, "overlap" },
	{ 0x48, 8, -0x10000ULL, "no room" },
	{ 0x50, 8, 0, "no global MMIO, but at offset 0x20000" },
	{ 0x50, 8, 8, "size of 0x8" },
	{ 0x50, 8, 0x20000, "overlap" },
	{ 0x50, 8, (1ULL << 30) + 0x10000, "size of" },
	{ 0x50, 8, -0x10000ULL, "size of" },
	{ 0x58, 8, 0x10020, "is no multiple" },
	{ 0x58, 8, 0, "overlap" },
	{ 0x58, 8, 0xff80, "overlap" },
	{ 0x58, 8, 0x1f840, "overlap" },
	{ 0x58, 8, 0x30000, "overlap" },
	{ 0x58, 8, 0x70000, "overlap" },
	{ 0x58, 8, 0xfffff0000, "no room" },
	{ 0x58, 8, -0x40ULL, "no room" },
	{ 0x60, 8, 0x10801, "is no multiple" },
	{ 0x60, 8, 0x100, "overlap" },
	{ 0x60, 8, 0x10400, "control blocks and its cookies overlap" },
	{ 0x60, 8, 0x1f000, "overlap" },
	{ 0x60, 8, 0x80000, "overlap" },
	{ 0x60, 8, -8ULL, "no room" },
	{ 0x68, 4, 6, "no BAR 6 for its message store" },
	{ 0x68, 4, ~0U, "no BAR 4294967295 for its message store" },
	{ 0x68, 4, 0, "BAR 0 has no room for its message store" },
	/* The upper half of a 64-bit BAR, and one that is not there. */
	{ 0x68, 4, 3, "BAR 3 has no room" },
	{ 0x68, 4, 5, "BAR 5 has no room" },
	{ 0x68, 4, 2, "overlap" },
	{ 0x70, 8, 0, "message store and its MSI-X table overlap" },
	{ 0x70, 8, 24, "is no multiple" },
	{ 0x70, 8, 1ULL << 40, "no room" },
	{ 0x70, 8, -16ULL, "no room" },
	{ 0x78, 4, 6, "no BAR 6 for its doorbell" },
	{ 0x78, 4, 4, "BAR 4 has no room for its doorbell" },
	{ 0x78, 4, 1, "overlap" },
	{ 0x78, 4, 2, "configuration page and its doorbell overlap" },
	{ 0x7c, 4, 14, "is no multiple" },
	{ 0x7c, 4, 1 << 20, "no room" },
	{ 0x7c, 4, ~3U, "no room" },
};

static void descriptor_change(void *bytes, const struct change *change)
{
	__u64 value = htole64(change->value);

	memcpy(bytes + change->at, &value, change->size);
}

TEST_F(binding, each_rule_of_the_descriptor_is_kept)
{
	static const char bad[] = "/. :%\\\n\x7f\x80\xff";
	__u8 good[DESCRIPTOR_BYTES], bytes[DESCRIPTOR_BYTES];
	int tried = 0, fd;

#define EXPECT_REFUSED(what) do {						\
	const char *__what = what;						\
										\
	descriptor_write(self->memory, bytes);					\
	EXPECT_TRUE(is_refused(self->log, self->function, __what))		\
		TH_LOG("descriptor %d, which is to be: %s", tried, __what);	\
	memcpy(bytes, good, sizeof(bytes));					\
	tried++;								\
} while (0)

	/* The PCI core logs lines of its own the first time, which must not count. */
	ASSERT_EQ(0, afu_bind(self->function));
	ASSERT_EQ(0, afu_unbind(self->function));
	ASSERT_TRUE(afu_holds_no_more(&self->held));
	descriptor_read(self->memory, good);
	memcpy(bytes, good, sizeof(bytes));

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		descriptor_change(bytes, &changes[i]);
		EXPECT_REFUSED(changes[i].says);
	}
	for (int at = 0; at < 8; at++) {
		bytes[at] ^= 1 << at;
		EXPECT_REFUSED("does not begin with an AFU's descriptor");
	}
	bytes[0x0c] = 0;
	EXPECT_REFUSED("can start DMA");
	for (int bit = 1; bit < 32; bit++) {
		bytes[0x0c + bit / 8] |= 1 << bit % 8;
		EXPECT_REFUSED("are not known");
	}
	for (size_t i = 0; i + 1 < sizeof(bad); i++) {
		bytes[0x10 + i] = bad[i];
		EXPECT_REFUSED("its name is not");
	}
	/* Something behind its end, and none. */
	bytes[0x27] = 'x';
	EXPECT_REFUSED("its name is not");
	memset(bytes + 0x10, 'x', 24);
	EXPECT_REFUSED("its name is not");
	for (int at = 0x6c; at < DESCRIPTOR_BYTES; at++) {
		if (at == 0x70)
			at = 0x84;
		bytes[at] = 0x80;
		EXPECT_REFUSED("reserved");
	}
	TH_LOG("%d broken descriptors tried", tried);

	/* With the good descriptor it is bound. */
	descriptor_write(self->memory, good);
	ASSERT_EQ(0, afu_bind(self->function));
	fd = afu_open(self->function);
	EXPECT_EQ(0, afu_attach(fd));
	close(fd);
	EXPECT_EQ(0, afu_unbind(self->function));
}

TEST_F(binding, garbage_is_refused)
{
	ASSERT_EQ(0, afu_bind(self->function));
	ASSERT_EQ(0, afu_unbind(self->function));
	ASSERT_TRUE(afu_holds_no_more(&self->held));
	for (int seed = 0; seed < GARBAGES; seed++) {
		ASSERT_TRUE(afu_misbehave(self->global, AFU_GARBAGE, seed, 0));
		EXPECT_TRUE(is_refused(self->log, self->function,
				       "does not begin with an AFU's descriptor"))
			TH_LOG("seed %d", seed);
	}
	TH_LOG("%d times garbage refused", GARBAGES);
	ASSERT_TRUE(afu_misbehave(self->global, AFU_RESTORE, 0, 0));
	ASSERT_TRUE(afu_misbehave(self->global, AFU_DROP_NO_DMA, 0, 0));
	EXPECT_TRUE(is_refused(self->log, self->function, "its MMIO can start DMA"));
	ASSERT_TRUE(afu_misbehave(self->global, AFU_RESTORE, 0, 0));
	EXPECT_EQ(0, afu_bind(self->function));
	EXPECT_EQ(0, afu_unbind(self->function));
}

/* One that the AFU changes when it was read has no effect any more. */
TEST_F(binding, the_descriptor_is_read_once)
{
	struct ocxl_ioctl_metadata before, after;
	int fd;

	ASSERT_EQ(0, afu_bind(self->function));
	fd = afu_open(self->function);
	ASSERT_EQ(0, afu_metadata(fd, &before));
	ASSERT_TRUE(afu_misbehave(self->global, AFU_GARBAGE, 1, 0));
	ASSERT_EQ(0, afu_metadata(fd, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	EXPECT_EQ(0, afu_attach(fd));
	EXPECT_EQ(before.pasid, mmio_read64(afu_map(fd), AFU_PASID));
	close(fd);
	ASSERT_TRUE(afu_misbehave(self->global, AFU_RESTORE, 0, 0));
	EXPECT_EQ(0, afu_unbind(self->function));
}

/* A call has failed with each of these errors, each by some step, and with no other. */
#define EXPECT_FAULTS(call, ...) do {						\
	const int errors[] = { __VA_ARGS__ };					\
										\
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {		\
		EXPECT_TRUE(seen[errors[i]])					\
			TH_LOG(#call ": %s did not come", strerror(errors[i]));	\
		seen[errors[i]] = false;					\
	}									\
	for (int error = 0; error < 128; error++) {				\
		EXPECT_FALSE(seen[error])					\
			TH_LOG(#call ": %s came", strerror(error));		\
	}									\
} while (0)

TEST_F(binding, a_failed_step_leaves_nothing)
{
	static const int kinds[] = { DRIVER, KMALLOC };
	int nth = open("/proc/thread-self/fail-nth", O_RDWR), fd;
	bool hit, seen[128] = {};

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	/*
	 * The class of AFUs is made with the first AFU, and then stays: a new
	 * driver makes it again.
	 */
	if (!access(UXIVE_MODULE, R_OK)) {
		ASSERT_TRUE(becomes(module_unload("uxive"), 0));
		ASSERT_EQ(0, module_load(UXIVE_MODULE));
		ASSERT_TRUE(becomes(access(UXIVE_DEV, F_OK), 0));
	}
	ASSERT_TRUE(prepare_faults());
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int step, fatal = 0;

		ASSERT_TRUE(select_faults(kinds[i]));
		for (step = 1; step < MAX_STEPS; step++) {
			int ret;

			progress();
			ASSERT_EQ(0, afu_override(self->function, "uxive"));
			arm(nth, step);
			ret = file_write(AFU_DRIVER "bind", self->function->address);
			hit = disarm(nth);
			if (ret) {
				EXPECT_TRUE(hit) TH_LOG("step %d", step);
				seen[-ret & 127] = true;
				fatal++;
			} else {
				fd = afu_open(self->function);
				/* devtmpfs says to nobody that it had no memory for a node. */
				if (fd != -ENOENT || !hit || kinds[i] == DRIVER)
					EXPECT_EQ(0, afu_attach(fd)) TH_LOG("step %d", step);
				close(fd);
				EXPECT_EQ(0, afu_unbind(self->function));
			}
			EXPECT_FALSE(afu_is_bound(self->function));
			EXPECT_TRUE(afu_holds_no_more(&self->held)) TH_LOG("step %d", step);
			EXPECT_EQ(0, debug_lines("contexts", "", NULL, 0));
			if (!hit)
				break;
		}
		TH_LOG("%s: %d steps, of which %d are fatal", i ? "kmalloc" : "driver",
		       step - 1, fatal);
		EXPECT_LT(0, fatal);
		EXPECT_GT(MAX_STEPS, step);
	}
	EXPECT_FAULTS(bind, ENOMEM, EBUSY, ENOSPC, ENODEV);
	select_faults(0);
	close(nth);
}

/* With the first AFU bound. */

FIXTURE(afu) {
	struct afu_function function[AFU_MOST];
	struct afu_held held;
};

FIXTURE_SETUP(afu)
{
	catch_touches();
	ASSERT_LE(1, afu_functions(self->function));
	if (afu_is_bound(self->function))
		afu_unbind(self->function);
	self->held = afu_held();
	ASSERT_EQ(0, afu_bind(self->function));
}

FIXTURE_TEARDOWN(afu)
{
	EXPECT_EQ(0, afu_unbind(self->function));
	EXPECT_TRUE(afu_holds_no_more(&self->held));
	EXPECT_EQ(0, all_irqs());
	if (!access(DEBUG_UXIVE, F_OK))
		EXPECT_EQ(0, debug_lines("contexts", "", NULL, 0));
}

/* The whole of an attribute. */
static const char *attribute(const struct afu_function *function, const char *name)
{
	static char text[64];
	int fd = open(afu_path(function, name), O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[length < 0 ? 0 : length] = 0;
	return text;
}

TEST_F(afu, node_and_attributes_are_as_ocxl_has_them)
{
	static const char * const names[] = {
		"global_mmio_size", "pp_mmio_size", "afu_version", "contexts",
	};
	char device[PATH_MAX], parent[PATH_MAX], number[32];
	struct stat stat_node, stat_file;

	ASSERT_EQ(0, stat(afu_path(self->function, NULL), &stat_node));
	EXPECT_EQ(S_IFCHR | 0600, stat_node.st_mode);
	EXPECT_EQ(0, stat_node.st_uid);
	snprintf(number, sizeof(number), "%u:%u\n", major(stat_node.st_rdev),
		 minor(stat_node.st_rdev));
	EXPECT_STREQ(number, attribute(self->function, "dev"));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ASSERT_EQ(0, stat(afu_path(self->function, names[i]), &stat_file));
		EXPECT_EQ(S_IFREG | 0444, stat_file.st_mode) TH_LOG("%s", names[i]);
	}
	EXPECT_STREQ("65536\n", attribute(self->function, "global_mmio_size"));
	EXPECT_STREQ("262144\n", attribute(self->function, "pp_mmio_size"));
	EXPECT_STREQ("1:0\n", attribute(self->function, "afu_version"));
	EXPECT_STREQ("0/32\n", attribute(self->function, "contexts"));
	ASSERT_EQ(0, stat(afu_path(self->function, "global_mmio_area"), &stat_file));
	EXPECT_EQ(S_IFREG | 0600, stat_file.st_mode);
	EXPECT_EQ(GLOBAL_SIZE, stat_file.st_size);

	/* By which libocxl finds the function of a node. */
	ASSERT_NE(NULL, realpath(function_path(self->function, ""), parent));
	ASSERT_NE(NULL, realpath(afu_path(self->function, "device"), device));
	EXPECT_STREQ(parent, device);
}

TEST_F(afu, contexts_are_counted_and_one_too_many_is_refused)
{
	int fds[32], fd;
	char text[32];

	for (int i = 0; i < 32; i++) {
		fds[i] = afu_open(self->function);
		ASSERT_LE(0, fds[i]);
		/* An open context takes a place, attached or not. */
		if (i % 2)
			ASSERT_EQ(0, afu_attach(fds[i]));
		snprintf(text, sizeof(text), "%d/32\n", i + 1);
		EXPECT_STREQ(text, attribute(self->function, "contexts"));
	}
	for (int i = 0; i < 32; i++) {
		EXPECT_ERRNO(open, ENOSPC, afu_open(self->function));
		close(fds[i]);
		ASSERT_TRUE(becomes(strcmp("31/32\n", attribute(self->function, "contexts")), 0));
		fd = afu_open(self->function);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, afu_attach(fd));
		fds[i] = fd;
	}
	EXPECT_ERRNO(open, ENOSPC, afu_open(self->function));
	for (int i = 32; i--; ) {
		close(fds[i]);
		snprintf(text, sizeof(text), "%d/32\n", i);
		EXPECT_TRUE(becomes(strcmp(text, attribute(self->function, "contexts")), 0));
	}
}

TEST_F(afu, global_mmio_is_one_for_all)
{
	void *one = afu_map_global(self->function), *other = afu_map_global(self->function);
	int fd = open(afu_path(self->function, "global_mmio_area"), O_RDWR | O_CLOEXEC), status;
	pid_t child;

	ASSERT_NE(MAP_FAILED, one);
	ASSERT_NE(MAP_FAILED, other);
	mmio_write64(one, AFU_ARGUMENT, 0x1122334455667788);
	EXPECT_EQ(0x1122334455667788, mmio_read64(other, AFU_ARGUMENT));
	child = fork();
	if (!child) {
		void *its = afu_map_global(self->function);

		mmio_write64(its, AFU_ARGUMENT2, mmio_read64(its, AFU_ARGUMENT) + 1);
		_exit(0);
	}
	status = child_status(child);
	EXPECT_EQ(0, status);
	EXPECT_EQ(0x1122334455667789, mmio_read64(other, AFU_ARGUMENT2));

	/* Nothing but this. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, GLOBAL_SIZE, PROT_READ, MAP_SHARED, fd, GLOBAL_SIZE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * GLOBAL_SIZE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, GLOBAL_SIZE, PROT_READ, MAP_PRIVATE, fd, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, GLOBAL_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
	close(fd);

	/* Unbound nobody reaches it; bound again, it is mapped anew. */
	ASSERT_EQ(0, afu_unbind(self->function));
	EXPECT_EQ(SIGBUS, touch(one + AFU_ARGUMENT));
	EXPECT_EQ(SIGBUS, touch(other));
	ASSERT_EQ(0, afu_bind(self->function));
	EXPECT_EQ(SIGBUS, touch(one + AFU_ARGUMENT));
	munmap(one, GLOBAL_SIZE);
	munmap(other, GLOBAL_SIZE);
}

TEST_F(afu, attach_works_once)
{
	struct ocxl_ioctl_attach arg = {};
	int fd = afu_open(self->function);

	ASSERT_LE(0, fd);
	for (int i = 1; i < 4; i++) {
		__u64 words[4] = {};

		words[i] = 1ULL << 16 * i;
		EXPECT_ERRNO(OCXL_IOCTL_ATTACH, EINVAL, ux_ioctl(fd, OCXL_IOCTL_ATTACH, words));
	}
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, EFAULT, ux_ioctl(fd, OCXL_IOCTL_ATTACH, NULL));
	/* The authority mask is of no meaning here. */
	arg.amr = ~0ULL;
	EXPECT_EQ(0, ux_ioctl(fd, OCXL_IOCTL_ATTACH, &arg));
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, EIO, ux_ioctl(fd, OCXL_IOCTL_ATTACH, &arg));
	arg.reserved1 = 1;
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, EINVAL, ux_ioctl(fd, OCXL_IOCTL_ATTACH, &arg));
	close(fd);
}

TEST_F(afu, metadata_are_of_version_0)
{
	struct {
		struct ocxl_ioctl_metadata metadata;
		__u8 behind[64];
	} arg;
	struct ocxl_ioctl_metadata *page = mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE |
						MAP_ANONYMOUS, -1, 0);
	int fds[2] = { afu_open(self->function), afu_open(self->function) };
	__u32 pasids[2];

	ASSERT_LE(0, fds[1]);
	EXPECT_EQ(128, sizeof(arg.metadata));
	for (int i = 0; i < 2; i++) {
		memset(&arg, 0xff, sizeof(arg));
		ASSERT_EQ(0, ux_ioctl(fds[i], OCXL_IOCTL_GET_METADATA, &arg));
		EXPECT_EQ(0, arg.metadata.version);
		EXPECT_EQ(1, arg.metadata.afu_version_major);
		EXPECT_EQ(0, arg.metadata.afu_version_minor);
		EXPECT_EQ(MMIO_SIZE, arg.metadata.pp_mmio_size);
		EXPECT_EQ(GLOBAL_SIZE, arg.metadata.global_mmio_size);
		for (size_t k = 0; k < ARRAY_SIZE(arg.metadata.reserved); k++)
			EXPECT_EQ(0, arg.metadata.reserved[k]);
		for (size_t k = 0; k < sizeof(arg.behind); k++)
			EXPECT_EQ(0xff, arg.behind[k]);
		pasids[i] = arg.metadata.pasid;
	}
	EXPECT_NE(pasids[0], pasids[1]);
	EXPECT_ERRNO(OCXL_IOCTL_GET_METADATA, EFAULT,
		     ux_ioctl(fds[0], OCXL_IOCTL_GET_METADATA, NULL));
	EXPECT_ERRNO(OCXL_IOCTL_GET_METADATA, EFAULT,
		     ux_ioctl(fds[0], OCXL_IOCTL_GET_METADATA, page));
	munmap(page, 1 << 16);
	close(fds[0]);
	close(fds[1]);
}

/* Known or not is decided before the argument is looked at. */
TEST_F(afu, a_context_without_an_afu_knows_none_of_it)
{
	struct uxive_ims_alloc ims = { .size = sizeof(ims), .eventfd = -1 };
	struct ocxl_ioctl_metadata metadata;
	int fd = ux_open();

	ASSERT_LE(0, fd);
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, ENOTTY, afu_attach(fd));
	EXPECT_ERRNO(OCXL_IOCTL_ATTACH, ENOTTY, ux_ioctl(fd, OCXL_IOCTL_ATTACH, NULL));
	EXPECT_ERRNO(OCXL_IOCTL_GET_METADATA, ENOTTY, afu_metadata(fd, &metadata));
	EXPECT_ERRNO(OCXL_IOCTL_GET_METADATA, ENOTTY, ux_ioctl(fd, OCXL_IOCTL_GET_METADATA, NULL));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENOTTY, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, &ims));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENOTTY, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, NULL));
	EXPECT_EQ(0, ux_count(fd));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, MMIO_SIZE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

/* How a system call that reads or writes there ends: 0 or a negative errno. */
static int call_into(void *address, bool write_it)
{
	int ends[2], ret;
	__u64 word = 0;

	if (pipe(ends))
		abort();
	if (write_it && write(ends[1], &word, sizeof(word)) != sizeof(word))
		abort();
	ret = write_it ? read(ends[0], address, sizeof(word)) :
			 write(ends[1], address, sizeof(word));
	ret = ret < 0 ? -errno : 0;
	close(ends[0]);
	close(ends[1]);
	return ret;
}

TEST_F(afu, mmio_is_there_from_attach_to_close)
{
	int fd = afu_open(self->function);
	void *mmio;

	ASSERT_LE(0, fd);
	mmio = afu_map(fd);
	ASSERT_NE(MAP_FAILED, mmio);
	for (unsigned long at = 0; at < MMIO_SIZE; at += 64 << 10) {
		EXPECT_EQ(SIGBUS, touch(mmio + at));
		EXPECT_EQ(-EFAULT, call_into(mmio + at, true));
		EXPECT_EQ(-EFAULT, call_into(mmio + at, false));
	}
	ASSERT_EQ(0, afu_attach(fd));
	for (unsigned long at = 0; at < MMIO_SIZE; at += 64 << 10) {
		EXPECT_EQ(0, touch(mmio + at));
		EXPECT_EQ(0, call_into(mmio + at, true));
		EXPECT_EQ(0, call_into(mmio + at, false));
	}
	/* A mapping keeps the context, as it does its interrupts. */
	close(fd);
	EXPECT_EQ(0, touch(mmio));
	EXPECT_STREQ("1/32\n", attribute(self->function, "contexts"));
	munmap(mmio, MMIO_SIZE);
	EXPECT_TRUE(becomes(strcmp("0/32\n", attribute(self->function, "contexts")), 0));
}

TEST_F(afu, mmio_is_mapped_as_it_may_be)
{
	const struct {
		const char *what;
		size_t length;
		int protection, flags;
		__u64 offset;
		bool good;
	} tries[] = {
		{ "all", MMIO_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, true },
		{ "to read", MMIO_SIZE, PROT_READ, MAP_SHARED, 0, true },
		{ "to write", MMIO_SIZE, PROT_WRITE, MAP_SHARED, 0, true },
		{ "a page", 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, 0, true },
		{ "the last", 64 << 10, PROT_READ, MAP_SHARED, MMIO_SIZE - (64 << 10), true },
		{ "more", MMIO_SIZE + 1, PROT_READ, MAP_SHARED, 0, false },
		{ "across the end", 128 << 10, PROT_READ, MAP_SHARED, MMIO_SIZE - (64 << 10),
		  false },
		{ "behind", 64 << 10, PROT_READ, MAP_SHARED, MMIO_SIZE, false },
		{ "the next", MMIO_SIZE, PROT_READ, MAP_SHARED, 0x50000, false },
		{ "up to the triggers", IRQ_BASE, PROT_READ, MAP_SHARED, 0, false },
		{ "far", 64 << 10, PROT_READ, MAP_SHARED, 1ULL << 62, false },
		{ "to execute", MMIO_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, 0, false },
		{ "private", MMIO_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, false },
		{ "private, to read", MMIO_SIZE, PROT_READ, MAP_PRIVATE, 0, false },
	};

	for (int attached = 0; attached < 2; attached++) {
		int fd = afu_open(self->function);

		ASSERT_LE(0, fd);
		if (attached)
			ASSERT_EQ(0, afu_attach(fd));
		for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
			void *map = mmap(NULL, tries[i].length, tries[i].protection,
					 tries[i].flags, fd, tries[i].offset);

			if (!tries[i].good) {
				EXPECT_ERRNO(mmap, EINVAL, map == MAP_FAILED ? -errno : 0)
					TH_LOG("%s", tries[i].what);
				continue;
			}
			EXPECT_NE(MAP_FAILED, map) TH_LOG("%s", tries[i].what);
			/* Nor later. */
			EXPECT_EQ(-1, mprotect(map, tries[i].length, PROT_READ | PROT_EXEC));
			munmap(map, tries[i].length);
		}
		close(fd);
	}
}

/* The word at an index of what process @number has written in round @round. */
static __u64 pattern(unsigned int number, unsigned int round, size_t index)
{
	return ((__u64)number << 56 | (__u64)round << 48 | index) * 0x9e3779b97f4a7c15 | 1;
}

/* Words of a fresh MMIO that are not as they should be. */
static long not_fresh(const void *mmio, __u32 pasid)
{
	long wrong = mmio_read64(mmio, AFU_PASID) != pasid;

	for (size_t at = 0; at < MMIO_SIZE; at += 8)
		if (at < AFU_PASID || at >= FRESH_WORDS * 8)
			wrong += !!mmio_read64(mmio, at);
	return wrong;
}

struct meeting {
	int arrived, left, failed;
};

/* Waits for all others; false if they do not come. */
static bool meet(int *place, int count)
{
	__atomic_add_fetch(place, 1, __ATOMIC_SEQ_CST);
	return becomes(__atomic_load_n(place, __ATOMIC_SEQ_CST) >= count, true);
}

/* Writes all of its own, and finds there what it has written when all have done so. */
static int write_and_read(const struct afu_function *function, int number, int round,
			  struct meeting *meeting)
{
	struct ocxl_ioctl_metadata metadata;
	int fd = afu_open(function);
	void *mmio;

	if (fd < 0 || afu_metadata(fd, &metadata) || afu_attach(fd))
		return 1;
	mmio = afu_map(fd);
	if (mmio == MAP_FAILED || not_fresh(mmio, metadata.pasid))
		return 2;
	/* But the tail, which is a command. */
	for (size_t at = 8; at < MMIO_SIZE; at += 8)
		mmio_write64(mmio, at, pattern(number, round, at / 8));
	if (!meet(&meeting->arrived, PROCESSES * (round + 1)))
		return 3;
	for (size_t at = 8; at < MMIO_SIZE; at += 8)
		if (mmio_read64(mmio, at) != pattern(number, round, at / 8))
			return 4;
	if (mmio_read64(mmio, 0))
		return 5;
	return meet(&meeting->left, PROCESSES * (round + 1)) ? 0 : 6;
}

TEST_F(afu, each_process_has_its_own_mmio)
{
	struct meeting *meeting = shared_memory(sizeof(*meeting));
	pid_t children[PROCESSES];
	size_t length;
	__u64 before;
	char *memory;
	int fds[32];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PROCESSES; i++) {
			children[i] = fork();
			if (!children[i])
				_exit(write_and_read(self->function, i, round, meeting));
		}
		for (int i = 0; i < PROCESSES; i++) {
			EXPECT_EQ(0, child_status(children[i]))
				TH_LOG("round %d, process %d", round, i);
			progress();
		}
		ASSERT_TRUE(becomes(strcmp("0/32\n", attribute(self->function, "contexts")), 0));
	}

	/* A context that gets their place finds nothing of them. */
	for (int i = 0; i < 32; i++) {
		struct ocxl_ioctl_metadata metadata;
		void *mmio;

		fds[i] = afu_open(self->function);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, afu_metadata(fds[i], &metadata));
		ASSERT_EQ(0, afu_attach(fds[i]));
		mmio = afu_map(fds[i]);
		ASSERT_NE(MAP_FAILED, mmio);
		EXPECT_EQ(0, not_fresh(mmio, metadata.pasid)) TH_LOG("place %u", metadata.pasid);
		progress();
		munmap(mmio, MMIO_SIZE);
	}
	/* Nor has anybody written between them: root sees all. */
	memory = afu_map_bar(self->function, 2, &length);
	if (memory == MAP_FAILED) {
		TH_LOG("root cannot look: %d", errno);
	} else {
		__u64 first = mmio_read64(memory, 0x30), stride = mmio_read64(memory, 0x40);

		EXPECT_LT(MMIO_SIZE, stride);
		before = 0;
		for (int i = 0; i < 32; i++) {
			for (size_t at = MMIO_SIZE; at < stride; at += 8)
				before |= mmio_read64(memory, first + i * stride + at);
			progress();
		}
		EXPECT_EQ(0, before);
		munmap(memory, length);
	}
	for (int i = 0; i < 32; i++)
		close(fds[i]);
	munmap(meeting, sizeof(*meeting));
	TH_LOG("%d processes, 3 times, %lu bytes each", PROCESSES, MMIO_SIZE);
}

TEST_F(afu, bound_again_it_is_fresh)
{
	struct afu_command fill = { .opcode = AFU_FILL, .length = 4096, .value = 0x5a };

	for (int round = 0; round < 5; round++) {
		struct ocxl_ioctl_metadata metadata;
		int fd = afu_open(self->function);
		void *mmio;

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, afu_metadata(fd, &metadata));
		EXPECT_EQ(0, metadata.pasid);
		ASSERT_EQ(0, afu_attach(fd));
		mmio = afu_map(fd);
		ASSERT_NE(MAP_FAILED, mmio);
		EXPECT_EQ(0, not_fresh(mmio, 0)) TH_LOG("round %d", round);
		EXPECT_EQ(AFU_DONE, afu_do(mmio, &fill));
		EXPECT_EQ(0x5a, ((char *)mmio)[mmio_read64(mmio, AFU_DATA_OFFSET) + 4095]);
		/* With it open, or closed just now. */
		if (round % 2)
			munmap(mmio, MMIO_SIZE);
		if (round % 2)
			close(fd);
		ASSERT_EQ(0, afu_unbind(self->function));
		EXPECT_NE(0, access(afu_path(self->function, NULL), F_OK));
		EXPECT_NE(0, access("/sys/class/ocxl/" AFU_NAME, F_OK));
		ASSERT_EQ(0, afu_bind(self->function));
		EXPECT_STREQ("0/32\n", attribute(self->function, "contexts"));
		if (round % 2 == 0) {
			EXPECT_EQ(SIGBUS, touch(mmio));
			EXPECT_ERRNO(OCXL_IOCTL_ATTACH, ENODEV, afu_attach(fd));
			munmap(mmio, MMIO_SIZE);
			close(fd);
		}
	}
}

TEST_F(afu, a_failed_open_or_attach_leaves_nothing)
{
	int nth = open("/proc/thread-self/fail-nth", O_RDWR), fd, ret, steps[2] = {};
	bool hit, seen[128] = {};

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepare_faults());
	ASSERT_TRUE(select_faults(MEMORY | DRIVER));
	do {
		progress();
		arm(nth, ++steps[0]);
		fd = afu_open(self->function);
		hit = disarm(nth);
		if (fd >= 0) {
			close(fd);
		} else {
			EXPECT_TRUE(hit) TH_LOG("step %d", steps[0]);
			seen[-fd & 127] = true;
		}
		EXPECT_TRUE(becomes(strcmp("0/32\n", attribute(self->function, "contexts")), 0));
	} while (hit && steps[0] < MAX_STEPS);
	EXPECT_FAULTS(open, ENOMEM);

	ASSERT_TRUE(select_faults(MEMORY | DRIVER | USER_COPY));
	do {
		struct ocxl_ioctl_attach arg = {};

		fd = afu_open(self->function);
		ASSERT_LE(0, fd);
		progress();
		arm(nth, ++steps[1]);
		ret = ux_ioctl(fd, OCXL_IOCTL_ATTACH, &arg);
		hit = disarm(nth);
		if (ret) {
			EXPECT_TRUE(hit) TH_LOG("step %d", steps[1]);
			seen[-ret & 127] = true;
			EXPECT_EQ(0, afu_attach(fd)) TH_LOG("step %d", steps[1]);
		}
		close(fd);
	} while (hit && steps[1] < MAX_STEPS);
	EXPECT_FAULTS(OCXL_IOCTL_ATTACH, ENOMEM, EFAULT, ENODEV);
	select_faults(0);
	TH_LOG("open: %d steps, attach: %d", steps[0] - 1, steps[1] - 1);
	EXPECT_LT(1, steps[1]);
	close(nth);
}

TEST_HARNESS_MAIN
