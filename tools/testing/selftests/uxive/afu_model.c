// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: the AFUs of the emulated machine are what the driver may expect of
 * an AFU, seen as root sees a PCI function without a driver, by the BARs in
 * sysfs. All else about the model is tested on the host.
 */
#include "uxive_afu.h"

#define DOORBELL	12
#define VECTORS		(1 + 32 * 63)
#define PASID		0x12345
#define DOORBELLS	100000

static const struct afu_function first = { .address = "0000:01:00.0" };

/* At the beginning of BAR 2. */
struct page {
	__u64 magic;
	__u16 layout;
	__u8 major;
	__u8 minor;
	__u32 flags;
	char name[24];
	__u32 contexts;
	__u32 slots;
	__u64 mmio_offset;
	__u64 mmio_size;
	__u64 mmio_stride;
	__u64 global_offset;
	__u64 global_size;
	__u64 control_offset;
	__u64 cookie_offset;
	__u32 store_bar;
	__u32 reserved;
	__u64 store_offset;
	__u32 doorbell_bar;
	__u32 doorbell_offset;
	__u32 doorbell_value;
	__u8 reserved2[0x7c];
	__u32 reset;
	__u32 reset_done;
	__u32 ping;
	__u32 pong;
};

struct control {
	__u32 request;
	__u32 state;
	__u32 pasid;
	__u32 errors;
	__u32 error_kind;
	__u32 reserved;
	__u64 error_address;
	__u64 error_code;
	__u8 reserved2[0x18];
};

#define read_once(x)		__atomic_load_n(&(x), __ATOMIC_ACQUIRE)
/* All that was written before is in memory when the AFU sees this. */
#define write_once(x, value)	({					\
	__atomic_thread_fence(__ATOMIC_SEQ_CST);			\
	__atomic_store_n(&(x), value, __ATOMIC_RELAXED);		\
	__atomic_thread_fence(__ATOMIC_SEQ_CST);			\
})

static __u32 config_read(int config, int at)
{
	__u32 value = 0;

	return pread(config, &value, sizeof(value), at) == sizeof(value) ? value : 0;
}

static void config_write(int config, int at, __u32 value)
{
	if (pwrite(config, &value, sizeof(value), at) != sizeof(value))
		abort();
}

/* Where the capability is in the configuration space; 0 if there is none. */
static int msix_at(int config)
{
	int at = config_read(config, 0x34) & 0xff;

	while (at && (config_read(config, at) & 0xff) != 0x11)
		at = config_read(config, at) >> 8 & 0xff;
	return at;
}

/* The first AFU, as root sees it. */
struct afu {
	size_t length[3];
	char *registers;
	char *memory;
	struct page *page;
	struct control *control;
	char *global;
	char *mmio;
};

static void doorbell(struct afu *afu)
{
	write_once(*(__u32 *)(afu->registers + DOORBELL), afu->page->doorbell_value);
}

FIXTURE(afu)
{
	struct afu afu;
};

FIXTURE_SETUP(afu)
{
	__u32 reset;

	ASSERT_TRUE(afu_enable(&first, "1"));
	self->afu.registers = afu_map_bar(&first, 0, &self->afu.length[0]);
	ASSERT_NE(MAP_FAILED, self->afu.registers);
	self->afu.memory = afu_map_bar(&first, 2, &self->afu.length[2]);
	ASSERT_NE(MAP_FAILED, self->afu.memory);
	self->afu.page = (void *)self->afu.memory;
	self->afu.control = (void *)(self->afu.memory + self->afu.page->control_offset);
	self->afu.global = self->afu.memory + self->afu.page->global_offset;
	self->afu.mmio = self->afu.memory + self->afu.page->mmio_offset;

	reset = self->afu.page->reset + 1;
	write_once(self->afu.page->reset, reset);
	doorbell(&self->afu);
	ASSERT_TRUE(becomes(read_once(self->afu.page->reset_done), reset));
}

FIXTURE_TEARDOWN(afu)
{
	munmap(self->afu.registers, self->afu.length[0]);
	munmap(self->afu.memory, self->afu.length[2]);
	EXPECT_TRUE(afu_enable(&first, "0"));
}

/* Whether the AFU has carried out the request: attach context 0 or detach it. */
static bool request(struct afu *afu, bool attach)
{
	struct control *control = afu->control;
	__u32 number = (read_once(control->state) >> 1) + 1;
	__u32 request = number << 1 | attach;

	control->pasid = PASID;
	write_once(control->request, request);
	doorbell(afu);
	return becomes(read_once(control->state), request);
}

/* The status of a command of context 0, once it is completed. */
static __u64 carry_out(struct afu *afu, struct afu_command command, __u64 *result)
{
	__u64 *tail = (void *)(afu->mmio + AFU_TAIL), *head = (void *)(afu->mmio + AFU_HEAD);
	struct afu_command *entry = (void *)(afu->mmio + AFU_COMMAND);
	__u64 number = *tail;

	entry += number % AFU_COMMANDS;
	*entry = command;
	write_once(*tail, number + 1);
	if (!becomes(read_once(*head), number + 1))
		return AFU_PENDING;
	*result = entry->result;
	return entry->status;
}

static __u32 crc32(const __u8 *bytes, size_t length)
{
	__u32 crc = ~0;

	while (length--) {
		crc ^= *bytes++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

TEST_F(afu, the_descriptor_says_what_the_machine_was_given)
{
	struct page *page = self->afu.page;

	EXPECT_EQ(0, memcmp(&page->magic, "UXIVEAFU", 8));
	EXPECT_EQ(1, page->layout);
	EXPECT_EQ(1, page->major);
	EXPECT_EQ(0, page->minor);
	EXPECT_EQ(1, page->flags);
	EXPECT_STREQ("IBM,MEMCPY3", page->name);
	EXPECT_EQ(32, page->contexts);
	EXPECT_EQ(63, page->slots);
	EXPECT_GE(self->afu.length[2],
		  page->mmio_offset + 31 * page->mmio_stride + page->mmio_size);
	EXPECT_EQ(0, page->doorbell_bar);
	EXPECT_EQ(DOORBELL, page->doorbell_offset);
}

TEST_F(afu, msix_has_a_vector_for_each_slot_and_one)
{
	int config = open(function_path(&first, "config"), O_RDONLY | O_CLOEXEC);
	int msix = msix_at(config);

	ASSERT_NE(0, msix);
	EXPECT_EQ(VECTORS, (config_read(config, msix) >> 16 & 0x7ff) + 1);
	/* The store is the table behind its first entry. */
	EXPECT_EQ(self->afu.page->store_bar, config_read(config, msix + 4) & 7);
	EXPECT_EQ(self->afu.page->store_offset, (config_read(config, msix + 4) & ~7) + 16);
	close(config);
}

TEST_F(afu, a_raised_slot_is_pending_at_its_vector)
{
	const __u64 slots[] = { 0, 5, 62 };
	int config = open(function_path(&first, "config"), O_RDWR | O_CLOEXEC);
	int msix = msix_at(config);
	struct afu_command work = {};
	__u32 control, command, vector, *pending;
	__u64 *cookies, *handles, result, errors = self->afu.control->errors;
	char *table;

	ASSERT_NE(0, msix);
	table = afu_map_bar(&first, 1, &self->afu.length[1]);
	ASSERT_NE(MAP_FAILED, table);
	pending = (void *)(table + (config_read(config, msix + 8) & ~7));
	ASSERT_TRUE(request(&self->afu, true));
	handles = (void *)(self->afu.mmio + AFU_HANDLE);
	cookies = (void *)(self->afu.memory + self->afu.page->cookie_offset);

	/* No message leaves the function: not a bus master, each vector masked. */
	command = config_read(config, 4);
	config_write(config, 4, command & ~4);
	control = config_read(config, msix);
	config_write(config, msix, control | 0x80000000);

	for (size_t n = 0; n < ARRAY_SIZE(slots); n++) {
		work.opcode = n ? AFU_RAISE : AFU_FILL;
		work.value = slots[n];
		work.handle = n ? 0 : 0x1234;
		handles[slots[n]] = 0x1234;
		cookies[slots[n]] = 1ULL << 63 | (__u64)(PASID + 1) << 32;
		carry_out(&self->afu, work, &result);
		EXPECT_TRUE(becomes(read_once(self->afu.control->errors), errors + n + 1));
		EXPECT_EQ(AFU_BAD_COOKIE, self->afu.control->error_code);
		cookies[slots[n]] = 1ULL << 63 | (__u64)PASID << 32;
		EXPECT_EQ(AFU_DONE, carry_out(&self->afu, work, &result));
		vector = slots[n] + 1;
		EXPECT_TRUE(becomes(read_once(pending[vector / 32]), 1U << vector % 32));

		/* Unmasked it is sent, to nowhere, and nothing is left of it. */
		write_once(*(__u32 *)(table + 16 * vector + 12), 0);
		EXPECT_TRUE(becomes(read_once(pending[vector / 32]), 0));
		write_once(*(__u32 *)(table + 16 * vector + 12), 1);
		cookies[slots[n]] = 0;
	}
	for (int n = 0; n < (VECTORS + 31) / 32; n++)
		EXPECT_EQ(0, pending[n]);

	config_write(config, msix, control);
	config_write(config, 4, command);
	ASSERT_TRUE(request(&self->afu, false));
	munmap(table, self->afu.length[1]);
	close(config);
}

TEST_F(afu, it_answers_a_ping)
{
	for (int n = 0; n < 100; n++) {
		__u32 ping = self->afu.page->ping + 1;

		write_once(self->afu.page->ping, ping);
		doorbell(&self->afu);
		ASSERT_TRUE(becomes(read_once(self->afu.page->pong), ping));
	}
}

TEST_F(afu, a_context_copies_and_checksums)
{
	struct afu_command copy = {
		.opcode = AFU_COPY,
		.source = 1,
		.destination = 70000,
		.length = 65537,
	};
	struct afu_command checksum = {
		.opcode = AFU_CHECKSUM,
		.source = copy.destination,
		.length = copy.length,
	};
	__u32 errors = self->afu.control->errors;
	__u64 result = 0;
	__u8 *data;

	ASSERT_TRUE(request(&self->afu, true));
	EXPECT_EQ(PASID, *(__u64 *)(self->afu.mmio + AFU_PASID));
	data = (__u8 *)self->afu.mmio + *(__u64 *)(self->afu.mmio + AFU_DATA_OFFSET);
	for (unsigned int n = 0; n < copy.length; n++)
		data[copy.source + n] = n * 13 + n / 256;

	EXPECT_EQ(AFU_DONE, carry_out(&self->afu, copy, &result));
	for (unsigned int n = 0; n < copy.length; n++) {
		ASSERT_EQ((__u8)(n * 13 + n / 256), data[copy.destination + n])
			TH_LOG("byte %u", n);
	}
	EXPECT_EQ(0, data[copy.destination - 1]);
	EXPECT_EQ(0, data[copy.destination + copy.length]);
	EXPECT_EQ(AFU_DONE, carry_out(&self->afu, checksum, &result));
	EXPECT_EQ(crc32(data + copy.destination, copy.length), result);

	ASSERT_TRUE(request(&self->afu, false));
	EXPECT_EQ(errors, self->afu.control->errors);
}

TEST_F(afu, a_copy_from_outside_is_an_error)
{
	__u64 size, result;

	ASSERT_TRUE(request(&self->afu, true));
	size = *(__u64 *)(self->afu.mmio + AFU_DATA_SIZE);
	for (int n = 0; n < 3; n++) {
		struct afu_command copy = {
			.opcode = AFU_COPY,
			.source = size - n,
			.length = n + 1,
		};
		__u32 errors = read_once(self->afu.control->errors);

		EXPECT_EQ(AFU_FAILED, carry_out(&self->afu, copy, &result));
		EXPECT_EQ(errors + 1, read_once(self->afu.control->errors));
		EXPECT_EQ(1, self->afu.control->error_kind);
		EXPECT_EQ(*(__u64 *)(self->afu.mmio + AFU_DATA_OFFSET) + size,
			  self->afu.control->error_address);
	}
	ASSERT_TRUE(request(&self->afu, false));
}

TEST_F(afu, every_doorbell_is_heard_once)
{
	__u64 *heard = (void *)(self->afu.global + AFU_DOORBELLS);
	__u64 before = read_once(*heard);

	for (int n = 0; n < DOORBELLS; n++) {
		doorbell(&self->afu);
		progress();
	}
	EXPECT_TRUE(becomes(read_once(*heard), before + DOORBELLS));

	/* None comes late: an AFU that answers the ping has handled all before it. */
	self->afu.page->ping++;
	doorbell(&self->afu);
	ASSERT_TRUE(becomes(read_once(self->afu.page->pong), self->afu.page->ping));
	EXPECT_EQ(before + DOORBELLS + 1, read_once(*heard));
}

TEST_HARNESS_MAIN
