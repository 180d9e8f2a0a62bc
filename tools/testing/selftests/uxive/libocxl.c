// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: programs that are written against libocxl, as Debian has it, drive
 * an AFU here and need not know whose driver it is.
 *
 * So this one is linked to that library and calls it, and makes no ioctl of its
 * own: of the other headers it takes only how functions are bound. The expected
 * results are those that <libocxl.h> and the library's source document.
 *
 * A handle is an address to store to, which an AFU on PCI cannot do. It raises
 * the message of the interrupt whose handle was written to its table, see
 * afu_model.h. A program can store to the handle in its place.
 */
#include "uxive_afu.h"
#include <libocxl.h>

/* Of the first AFU: each context has message slots for fewer interrupts than MANY. */
#define SLOTS_OF_FIRST	63
#define MANY		64
#define PROCESSES	32
#define COPIES		100
#define IRQS		4
#define CONTEXT_MMIO	(256 << 10)
#define GLOBAL_MMIO	(64 << 10)
#define KIB_64		(64 << 10)
#define LITTLE		OCXL_MMIO_LITTLE_ENDIAN

FIXTURE(libocxl) {
	struct afu_function functions[AFU_MOST];
	int count;
	/* The one with the most slots. */
	const struct afu_function *last;
};

FIXTURE_SETUP(libocxl)
{
	catch_touches();
	ASSERT_TRUE(becomes(all_irqs(), 0));
	self->count = afu_functions(self->functions);
	ASSERT_LE(1, self->count);
	self->last = &self->functions[self->count - 1];
	for (int n = 0; n < self->count; n++) {
		/* A test that was killed has left it bound. */
		afu_unbind(&self->functions[n]);
		ASSERT_EQ(0, afu_bind(&self->functions[n]));
	}
}

FIXTURE_TEARDOWN(libocxl)
{
	for (int n = 0; n < self->count; n++)
		EXPECT_EQ(0, afu_unbind(&self->functions[n]));
	EXPECT_TRUE(becomes(all_irqs(), 0));
}

/* An open context, attached, with its MMIO; NULL if that fails. */
static ocxl_afu_h afu_ready(const struct afu_function *function, ocxl_mmio_h *mmio)
{
	ocxl_afu_h afu;

	if (ocxl_afu_open_from_dev(afu_path(function, NULL), &afu))
		return NULL;
	if (!ocxl_afu_attach(afu, OCXL_ATTACH_FLAGS_NONE) &&
	    !ocxl_mmio_map(afu, OCXL_PER_PASID_MMIO, mmio))
		return afu;
	ocxl_afu_close(afu);
	return NULL;
}

static __u64 get(ocxl_mmio_h mmio, off_t offset)
{
	__u64 value = ~0ULL;

	return ocxl_mmio_read64(mmio, offset, LITTLE, &value) ? ~0ULL : value;
}

static void put(ocxl_mmio_h mmio, off_t offset, __u64 value)
{
	if (ocxl_mmio_write64(mmio, offset, LITTLE, value))
		abort();
}

/* Allocates an interrupt, and tells the AFU its handle. */
static bool irq_new(ocxl_afu_h afu, ocxl_mmio_h mmio, void *info, ocxl_irq_h *irq)
{
	if (ocxl_irq_alloc(afu, info, irq))
		return false;
	put(mmio, AFU_HANDLE + *irq * sizeof(__u64), ocxl_irq_get_handle(afu, *irq));
	return true;
}

/* Has the AFU carry out a command. Returns where that is. */
static off_t submit(ocxl_mmio_h mmio, const struct afu_command *command)
{
	__u64 number = get(mmio, AFU_TAIL);
	off_t entry = AFU_COMMAND + number % AFU_COMMANDS * sizeof(*command);
	const __u64 *words = (const __u64 *)command;

	/* The first is two numbers of 32 bits. */
	for (size_t n = 0; n < sizeof(*command) / sizeof(*words); n++)
		put(mmio, entry + n * sizeof(*words), words[n]);
	put(mmio, AFU_TAIL, number + 1);
	return entry;
}

static __u64 status_of(ocxl_mmio_h mmio, off_t entry)
{
	return get(mmio, entry + offsetof(struct afu_command, status));
}

/* The next event is one of this interrupt, and says all that there is to say. */
static bool irq_came(ocxl_afu_h afu, ocxl_irq_h irq, void *info)
{
	ocxl_event event = {};

	return ocxl_afu_event_check(afu, WATCHDOG_MS, &event, 1) == 1 &&
	       event.type == OCXL_EVENT_IRQ && event.irq.irq == irq && event.irq.info == info &&
	       event.irq.handle == ocxl_irq_get_handle(afu, irq) && event.irq.count == 1;
}

static bool nothing_came(ocxl_afu_h afu)
{
	ocxl_event event;

	return !ocxl_afu_event_check(afu, 0, &event, 1);
}

/* A byte of data that is not that of other places or seeds. */
static __u64 word_of(__u64 seed, size_t word)
{
	return (seed << 32 | word) * 0x9e3779b97f4a7c15ULL;
}

static off_t data_at(ocxl_mmio_h mmio, off_t offset)
{
	return get(mmio, AFU_DATA_OFFSET) + offset;
}

static void fill(ocxl_mmio_h mmio, off_t offset, size_t length, __u64 seed)
{
	off_t base = data_at(mmio, offset);

	for (size_t at = 0; at < length; at += sizeof(__u64))
		put(mmio, base + at, word_of(seed, at / sizeof(__u64)));
}

/* How many bytes of that are there, from the first on. */
static size_t filled(ocxl_mmio_h mmio, off_t offset, size_t length, __u64 seed)
{
	off_t base = data_at(mmio, offset);

	for (size_t at = 0; at < length; at += sizeof(__u64)) {
		__u64 word = get(mmio, base + at), wanted = word_of(seed, at / sizeof(__u64));

		for (size_t byte = 0; byte < sizeof(word); byte++)
			if (((const __u8 *)&word)[byte] != ((const __u8 *)&wanted)[byte])
				return at + byte;
	}
	return length;
}

TEST_F(libocxl, an_afu_is_opened_by_name_path_function_and_index)
{
	for (int n = 0; n < self->count; n++) {
		const char *address = self->functions[n].address;
		const ocxl_identifier *identifier;
		char path[PATH_MAX];
		ocxl_afu_h afu;

		snprintf(path, sizeof(path), "%s", afu_path(&self->functions[n], NULL));
		ASSERT_EQ(OCXL_OK, ocxl_afu_open_from_dev(path, &afu));
		EXPECT_STREQ(path, ocxl_afu_get_device_path(afu));
		EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));

		ASSERT_EQ(OCXL_OK, ocxl_afu_open_specific(AFU_NAME, address, -1, &afu));
		EXPECT_STREQ(path, ocxl_afu_get_device_path(afu));
		EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));

		ASSERT_EQ(OCXL_OK, ocxl_afu_open_specific(AFU_NAME, address, 0, &afu));
		EXPECT_STREQ(path, ocxl_afu_get_device_path(afu));
		identifier = ocxl_afu_get_identifier(afu);
		EXPECT_STREQ(AFU_NAME, identifier->afu_name);
		EXPECT_EQ(0, identifier->afu_index);
		snprintf(path, sizeof(path), "/sys/class/ocxl/" AFU_NAME ".%s.0", address);
		EXPECT_STREQ(path, ocxl_afu_get_sysfs_path(afu));
		EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
	}
}

TEST_F(libocxl, what_is_not_there_is_no_device)
{
	const char *address = self->functions[0].address;
	ocxl_afu_h afu;

	EXPECT_EQ(OCXL_NO_DEV, ocxl_afu_open("IBM,OTHER", &afu));
	EXPECT_EQ(OCXL_NO_DEV, ocxl_afu_open_specific(AFU_NAME, "00ff:00:00.0", -1, &afu));
	EXPECT_EQ(OCXL_NO_DEV, ocxl_afu_open_specific(AFU_NAME, address, 1, &afu));
	EXPECT_EQ(OCXL_NO_DEV, ocxl_afu_open_from_dev("/dev/ocxl/" AFU_NAME, &afu));
	EXPECT_EQ(OCXL_NO_DEV, ocxl_afu_open_from_dev("/dev/null", &afu));
	EXPECT_EQ(OCXL_INVALID_AFU, afu);
}

TEST_F(libocxl, contexts_run_out_by_name_on_all_and_by_path_on_one)
{
	ocxl_afu_h afus[512], more;
	int total = 0, opened = 0;

	for (int n = 0; n < self->count; n++) {
		const char *contexts = file_line(afu_path(&self->functions[n], "contexts"));

		ASSERT_EQ(0, strncmp(contexts, "0/", 2));
		total += atoi(contexts + 2);
	}
	ASSERT_GE(ARRAY_SIZE(afus), total);

	for (; opened < total && !ocxl_afu_open(AFU_NAME, &afus[opened]); opened++)
		progress();
	EXPECT_EQ(total, opened);
	EXPECT_EQ(OCXL_NO_MORE_CONTEXTS, ocxl_afu_open(AFU_NAME, &more));
	for (int n = 0; n < self->count; n++)
		EXPECT_EQ(OCXL_NO_MORE_CONTEXTS,
			  ocxl_afu_open_from_dev(afu_path(&self->functions[n], NULL), &more));
	TH_LOG("%d contexts of %d AFUs", opened, self->count);

	/* A context that is closed can be opened again. */
	ASSERT_LT(0, opened);
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afus[--opened]));
	ASSERT_EQ(OCXL_OK, ocxl_afu_open(AFU_NAME, &afus[opened]));
	for (int n = 0; n <= opened; n++)
		EXPECT_EQ(OCXL_OK, ocxl_afu_close(afus[n]));
}

TEST_F(libocxl, a_context_is_attached_once)
{
	ocxl_afu_h afu;
	ocxl_mmio_h mmio;

	ASSERT_EQ(OCXL_OK, ocxl_afu_open(AFU_NAME, &afu));
	EXPECT_EQ(OCXL_NO_CONTEXT, ocxl_mmio_map(afu, OCXL_PER_PASID_MMIO, &mmio));
	EXPECT_EQ(OCXL_OK, ocxl_afu_set_ppc64_amr(afu, ~0ULL));
	EXPECT_EQ(OCXL_OK, ocxl_afu_attach(afu, OCXL_ATTACH_FLAGS_NONE));
	EXPECT_EQ(OCXL_INTERNAL_ERROR, ocxl_afu_attach(afu, OCXL_ATTACH_FLAGS_NONE));
	EXPECT_EQ(OCXL_OK, ocxl_mmio_map(afu, OCXL_PER_PASID_MMIO, &mmio));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, the_metadata_is_that_of_the_afu)
{
	ocxl_mmio_h mmio, mmio2;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	ocxl_afu_h afu2 = afu_ready(self->functions, &mmio2);
	uint8_t major = 0xff, minor = 0xff;

	ASSERT_NE(NULL, afu);
	ASSERT_NE(NULL, afu2);
	ocxl_afu_get_version(afu, &major, &minor);
	EXPECT_EQ(1, major);
	EXPECT_EQ(0, minor);
	EXPECT_EQ(CONTEXT_MMIO, ocxl_mmio_size(afu, OCXL_PER_PASID_MMIO));
	EXPECT_EQ(GLOBAL_MMIO, ocxl_mmio_size(afu, OCXL_GLOBAL_MMIO));
	/* The AFU says by which it knows the context. */
	EXPECT_EQ(get(mmio, AFU_PASID), ocxl_afu_get_pasid(afu));
	EXPECT_EQ(get(mmio2, AFU_PASID), ocxl_afu_get_pasid(afu2));
	EXPECT_NE(ocxl_afu_get_pasid(afu), ocxl_afu_get_pasid(afu2));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu2));
}

/* Both widths and orders at an offset that the AFU leaves alone, and no byte beyond the end. */
static bool mmio_works(ocxl_mmio_h mmio, size_t size, off_t at)
{
	const __u64 value = 0x0123456789abcdef;
	uint64_t wide = 0;
	uint32_t narrow = 0;

	return !ocxl_mmio_write64(mmio, at, LITTLE, value) &&
	       !ocxl_mmio_read64(mmio, at, LITTLE, &wide) && wide == value &&
	       !ocxl_mmio_read64(mmio, at, OCXL_MMIO_BIG_ENDIAN, &wide) &&
	       wide == __builtin_bswap64(value) &&
	       !ocxl_mmio_read32(mmio, at, LITTLE, &narrow) && narrow == (__u32)value &&
	       !ocxl_mmio_write32(mmio, at + 4, OCXL_MMIO_BIG_ENDIAN, 0x76543210) &&
	       !ocxl_mmio_read64(mmio, at, LITTLE, &wide) && wide == 0x1032547689abcdef &&
	       !ocxl_mmio_read64(mmio, size - 8, LITTLE, &wide) &&
	       !ocxl_mmio_read32(mmio, size - 4, LITTLE, &narrow) &&
	       ocxl_mmio_read64(mmio, size - 4, LITTLE, &wide) == OCXL_OUT_OF_BOUNDS &&
	       ocxl_mmio_write64(mmio, size, LITTLE, 0) == OCXL_OUT_OF_BOUNDS &&
	       ocxl_mmio_read32(mmio, size, LITTLE, &narrow) == OCXL_OUT_OF_BOUNDS &&
	       ocxl_mmio_write32(mmio, size, LITTLE, 0) == OCXL_OUT_OF_BOUNDS;
}

TEST_F(libocxl, mmio_is_read_and_written_within_its_bounds)
{
	ocxl_mmio_h mmio, global;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	void *address;
	size_t size;

	ASSERT_NE(NULL, afu);
	ASSERT_EQ(OCXL_OK, ocxl_mmio_map(afu, OCXL_GLOBAL_MMIO, &global));
	EXPECT_TRUE(mmio_works(mmio, CONTEXT_MMIO, data_at(mmio, 64)));
	EXPECT_TRUE(mmio_works(global, GLOBAL_MMIO, AFU_ARGUMENT));

	ASSERT_EQ(OCXL_OK, ocxl_mmio_get_info(mmio, &address, &size));
	EXPECT_EQ(CONTEXT_MMIO, size);
	EXPECT_EQ(get(mmio, AFU_PASID), mmio_read64(address, AFU_PASID));
	ocxl_mmio_unmap(mmio);
	EXPECT_EQ(OCXL_INVALID_ARGS, ocxl_mmio_get_info(mmio, &address, &size));
	EXPECT_EQ(OCXL_INVALID_ARGS, ocxl_mmio_write64(mmio, 0, LITTLE, 0));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, parts_of_mmio_are_mapped)
{
	ocxl_mmio_h mmio, part, global;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	uint64_t value = 0;

	ASSERT_NE(NULL, afu);
	put(mmio, 2 * KIB_64 + 8, 0x5eed);
	ASSERT_EQ(OCXL_OK, ocxl_mmio_map_advanced(afu, OCXL_PER_PASID_MMIO, KIB_64, PROT_READ, 0,
						  2 * KIB_64, &part));
	EXPECT_EQ(OCXL_OK, ocxl_mmio_read64(part, 8, LITTLE, &value));
	EXPECT_EQ(0x5eed, value);
	EXPECT_EQ(OCXL_OUT_OF_BOUNDS, ocxl_mmio_read64(part, KIB_64, LITTLE, &value));
	ASSERT_EQ(OCXL_OK, ocxl_mmio_map_advanced(afu, OCXL_GLOBAL_MMIO, 0, PROT_READ, 0, 0,
						  &global));
	EXPECT_EQ(OCXL_OK, ocxl_mmio_read64(global, AFU_DOORBELLS, LITTLE, &value));
	EXPECT_LT(0, value);

	EXPECT_EQ(OCXL_NO_MEM, ocxl_mmio_map_advanced(afu, OCXL_PER_PASID_MMIO, CONTEXT_MMIO,
						      PROT_READ, 0, KIB_64, &part));
	EXPECT_EQ(OCXL_NO_MEM, ocxl_mmio_map_advanced(afu, OCXL_GLOBAL_MMIO, GLOBAL_MMIO,
						      PROT_READ, 0, KIB_64, &part));
	/* The driver refuses arguments that libocxl passes on. */
	EXPECT_EQ(OCXL_NO_MEM, ocxl_mmio_map_advanced(afu, OCXL_PER_PASID_MMIO, KIB_64,
						      PROT_READ | PROT_EXEC, 0, 0, &part));
	EXPECT_EQ(OCXL_INVALID_ARGS, ocxl_mmio_map_advanced(afu, OCXL_PER_PASID_MMIO, KIB_64,
							    PROT_READ, 1, 0, &part));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, each_of_64_interrupts_is_told_apart_whoever_raises_it)
{
	int by_afu = self->count == 2 ? MANY : SLOTS_OF_FIRST;
	ocxl_irq_h irqs[MANY];
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(self->last, &mmio);
	ocxl_event events[MANY];
	bool came[MANY] = {};
	int distinct = 0;

	ASSERT_NE(NULL, afu);
	for (int n = 0; n < MANY; n++) {
		ASSERT_TRUE(irq_new(afu, mmio, &irqs[n], &irqs[n]));
		EXPECT_EQ(n, irqs[n]);
	}
	for (int n = 0; n < MANY; n++) {
		__u64 handle = ocxl_irq_get_handle(afu, irqs[n]);
		struct afu_command raise = { .opcode = AFU_FILL, .handle = handle };

		if (n < by_afu) {
			submit(mmio, &raise);
			ASSERT_TRUE(irq_came(afu, irqs[n], &irqs[n]));
		}
		ring((void *)handle);
		ASSERT_TRUE(irq_came(afu, irqs[n], &irqs[n]));
	}
	EXPECT_TRUE(nothing_came(afu));

	/* All at once; each counts once. */
	for (int n = 0; n < MANY; n++)
		ring((void *)ocxl_irq_get_handle(afu, irqs[n]));
	while (distinct < MANY) {
		int count = ocxl_afu_event_check(afu, WATCHDOG_MS, events, MANY);

		ASSERT_LT(0, count);
		for (int n = 0; n < count; n++) {
			long irq = (ocxl_irq_h *)events[n].irq.info - irqs;

			ASSERT_EQ(OCXL_EVENT_IRQ, events[n].type);
			ASSERT_EQ(events[n].irq.irq, irq);
			EXPECT_EQ(1, events[n].irq.count);
			EXPECT_FALSE(came[irq]);
			came[irq] = true;
			distinct++;
		}
	}
	EXPECT_TRUE(nothing_came(afu));
	TH_LOG("%d by messages, %d by stores, %d at once", by_afu, MANY, distinct);
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, copies_complete_by_interrupts_from_the_afu)
{
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	ocxl_irq_h irqs[IRQS];

	ASSERT_NE(NULL, afu);
	for (int n = 0; n < IRQS; n++)
		ASSERT_TRUE(irq_new(afu, mmio, &irqs[n], &irqs[n]));
	for (int n = 0; n < 16; n++) {
		struct afu_command copy = {
			.opcode = AFU_COPY,
			.destination = KIB_64,
			.length = KIB_64,
			.handle = ocxl_irq_get_handle(afu, irqs[n % IRQS]),
		};
		off_t entry;

		fill(mmio, 0, KIB_64, n);
		entry = submit(mmio, &copy);
		ASSERT_TRUE(irq_came(afu, irqs[n % IRQS], &irqs[n % IRQS]));
		/* It does not come before the copy is there. */
		EXPECT_EQ(AFU_DONE, status_of(mmio, entry));
		ASSERT_EQ(KIB_64, filled(mmio, KIB_64, KIB_64, n));
		progress();
	}
	EXPECT_TRUE(nothing_came(afu));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, copies_complete_by_stores_to_the_handle)
{
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	ocxl_irq_h irqs[IRQS];

	ASSERT_NE(NULL, afu);
	for (int n = 0; n < IRQS; n++)
		ASSERT_TRUE(irq_new(afu, mmio, &irqs[n], &irqs[n]));
	for (int n = 0; n < 16; n++) {
		struct afu_command copy = {
			.opcode = AFU_COPY,
			.destination = KIB_64,
			.length = KIB_64,
		};
		off_t entry;

		fill(mmio, 0, KIB_64, n);
		entry = submit(mmio, &copy);
		/* The program rings, as an AFU on OpenCAPI would do. */
		ASSERT_TRUE(becomes(status_of(mmio, entry), AFU_DONE));
		ring((void *)ocxl_irq_get_handle(afu, irqs[n % IRQS]));
		ASSERT_TRUE(irq_came(afu, irqs[n % IRQS], &irqs[n % IRQS]));
		ASSERT_EQ(KIB_64, filled(mmio, KIB_64, KIB_64, n));
		progress();
	}
	EXPECT_TRUE(nothing_came(afu));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, a_message_and_a_store_at_once_count_twice)
{
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	__u64 handle, counted;
	ocxl_event event;
	ocxl_irq_h irq;

	ASSERT_NE(NULL, afu);
	ASSERT_TRUE(irq_new(afu, mmio, self, &irq));
	handle = ocxl_irq_get_handle(afu, irq);
	for (int n = 0; n < 200; n++) {
		struct afu_command work = { .opcode = AFU_FILL, .handle = handle };

		submit(mmio, &work);
		ring((void *)handle);
		for (counted = 0; counted < 2; counted += event.irq.count) {
			ASSERT_EQ(1, ocxl_afu_event_check(afu, WATCHDOG_MS, &event, 1));
			ASSERT_EQ(OCXL_EVENT_IRQ, event.type);
			ASSERT_EQ(irq, event.irq.irq);
		}
		ASSERT_EQ(2, counted);
	}
	EXPECT_TRUE(nothing_came(afu));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, an_address_fault_is_an_event_with_its_address)
{
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	struct afu_command copy = { .opcode = AFU_COPY, .length = 8 };
	ocxl_event event = {};
	off_t entry;

	ASSERT_NE(NULL, afu);
	for (int n = 0; n < 3; n++) {
		copy.source = get(mmio, AFU_DATA_SIZE) + 8 * n;
		entry = submit(mmio, &copy);
		ASSERT_EQ(1, ocxl_afu_event_check(afu, WATCHDOG_MS, &event, 1));
		EXPECT_EQ(AFU_FAILED, status_of(mmio, entry));
		EXPECT_EQ(OCXL_EVENT_TRANSLATION_FAULT, event.type);
		EXPECT_EQ(CONTEXT_MMIO + 8 * n, (__u64)event.translation_fault.addr);
		EXPECT_EQ(0, event.translation_fault.dsisr);
		EXPECT_EQ(1, event.translation_fault.count);
	}
	EXPECT_TRUE(nothing_came(afu));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, an_event_that_it_does_not_know_is_passed_over)
{
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(self->functions, &mmio);
	struct afu_command fault = { .opcode = AFU_COPY, .source = ~0ULL, .length = 8 };
	struct afu_command error = { .opcode = AFU_ERROR, .value = 77 };
	struct pollfd pollfd = { .events = POLLIN };
	ocxl_event event;
	ocxl_irq_h irq;

	ASSERT_NE(NULL, afu);
	ASSERT_TRUE(irq_new(afu, mmio, self, &irq));
	pollfd.fd = ocxl_afu_get_event_fd(afu);
	submit(mmio, &error);
	ASSERT_EQ(1, poll(&pollfd, 1, WATCHDOG_MS));
	EXPECT_TRUE(nothing_came(afu));
	EXPECT_EQ(0, poll(&pollfd, 1, 0));

	/* Later events are read. */
	submit(mmio, &error);
	ASSERT_EQ(1, poll(&pollfd, 1, WATCHDOG_MS));
	submit(mmio, &fault);
	ring((void *)ocxl_irq_get_handle(afu, irq));
	for (int seen = 0, unknown = 0; seen != 3;) {
		int count = ocxl_afu_event_check(afu, WATCHDOG_MS, &event, 1);

		unknown += !count;
		ASSERT_LE(0, count);
		ASSERT_GE(1, unknown);
		if (count)
			seen |= event.type == OCXL_EVENT_IRQ ? 1 : 2;
	}
	EXPECT_TRUE(nothing_came(afu));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, waiting_by_an_instruction_is_not_there)
{
	uint16_t thread;
	ocxl_afu_h afu;

	ASSERT_EQ(OCXL_OK, ocxl_afu_open(AFU_NAME, &afu));
	EXPECT_EQ(OCXL_NO_DEV, ocxl_afu_get_p9_thread_id(afu, &thread));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

TEST_F(libocxl, a_program_is_told_that_its_afu_is_gone)
{
	const struct afu_function *first = self->functions;
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(first, &mmio);
	ocxl_event event;
	ocxl_irq_h irq;
	pid_t child;

	ASSERT_NE(NULL, afu);
	ASSERT_TRUE(irq_new(afu, mmio, NULL, &irq));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		int count;

		/* Waits without limit; only the event that libocxl ignores interrupts that. */
		do
			count = ocxl_afu_event_check(afu, -1, &event, 1);
		while (!count);
		_exit(count == -1 ? 7 : 0);
	}
	ASSERT_EQ(0, afu_unbind(first));
	EXPECT_EQ(7, child_status(child));
	EXPECT_EQ(-1, ocxl_afu_event_check(afu, WATCHDOG_MS, &event, 1));
	EXPECT_EQ(OCXL_INTERNAL_ERROR, ocxl_irq_alloc(afu, NULL, &irq));
	EXPECT_EQ(OCXL_INTERNAL_ERROR, ocxl_afu_attach(afu, OCXL_ATTACH_FLAGS_NONE));

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(get(mmio, AFU_PASID) != 0);
	EXPECT_EQ(-SIGBUS, child_status(child));
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));

	/* It is an AFU again. */
	ASSERT_EQ(0, afu_bind(first));
	afu = afu_ready(first, &mmio);
	ASSERT_NE(NULL, afu);
	EXPECT_EQ(OCXL_OK, ocxl_afu_close(afu));
}

/* The sums of the processes' work, in memory that all share. */
struct totals {
	int ready;
	unsigned long copies;
	unsigned long bytes;
	unsigned long irqs;
};

/* One of many programs. Returns its exit status. */
static int copy_beside_others(const struct afu_function *function, struct totals *totals)
{
	const size_t length = 4096;
	ocxl_irq_h irqs[IRQS];
	ocxl_mmio_h mmio;
	ocxl_afu_h afu = afu_ready(function, &mmio);

	if (!afu)
		return 1;
	for (int n = 0; n < IRQS; n++)
		if (!irq_new(afu, mmio, &irqs[n], &irqs[n]))
			return 2;
	__atomic_add_fetch(&totals->ready, 1, __ATOMIC_SEQ_CST);
	progress();
	/* The others may take a while. The test ends all if one does not come. */
	while (__atomic_load_n(&totals->ready, __ATOMIC_SEQ_CST) < PROCESSES)
		usleep(1000);

	for (int n = 0; n < COPIES; n++) {
		struct afu_command copy = {
			.opcode = AFU_COPY,
			.source = n * 512,
			.destination = KIB_64 + n * 1024,
			.length = length,
			.handle = ocxl_irq_get_handle(afu, irqs[n % IRQS]),
		};
		__u64 seed = getpid() * COPIES + n;

		fill(mmio, copy.source, length, seed);
		submit(mmio, &copy);
		if (!irq_came(afu, irqs[n % IRQS], &irqs[n % IRQS]))
			return 4;
		if (filled(mmio, copy.destination, length, seed) != length)
			return 5;
		__atomic_add_fetch(&totals->irqs, 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&totals->copies, 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&totals->bytes, length, __ATOMIC_SEQ_CST);
		progress();
	}
	if (!nothing_came(afu))
		return 6;
	return ocxl_afu_close(afu) == OCXL_OK ? 0 : 7;
}

TEST_F(libocxl, as_many_processes_as_there_are_contexts_copy_at_once)
{
	struct totals *totals = shared_memory(sizeof(*totals));
	pid_t children[PROCESSES];

	for (int n = 0; n < PROCESSES; n++) {
		children[n] = fork();
		ASSERT_LE(0, children[n]);
		if (!children[n])
			_exit(copy_beside_others(self->functions, totals));
	}
	for (int n = 0; n < PROCESSES; n++)
		EXPECT_EQ(0, child_status(children[n]));
	EXPECT_EQ(PROCESSES * COPIES, totals->copies);
	EXPECT_EQ(PROCESSES * COPIES, totals->irqs);
	TH_LOG("%d processes: %lu copies of %lu bytes, %lu interrupts", totals->ready,
	       totals->copies, totals->bytes, totals->irqs);
	EXPECT_STREQ("0/32", file_line(afu_path(self->functions, "contexts")));
	munmap(totals, sizeof(*totals));
}

TEST_HARNESS_MAIN
