// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: an interrupt whose message lies in the store of an AFU is like all
 * others of its context: no event is lost, and freeing leaves no trace. The AFU
 * can raise it for that context only, and only as often as the machine bears.
 */
#include "uxive_afu.h"
#include "uxive_faults.h"
#include "uxive_fixture.h"

#define SLOTS_1		63
#define CONTEXTS_2	23
#define SLOTS_2		89
#define RINGS		1000
#define ROUNDS		250
#define AT_ONCE		4
#define DRAINED		10000
#define MAX_STEPS	500
/* The EISN of slot 0's message. */
#define MESSAGES	16384
/* Loads from a management page. */
#define ESB_LOAD_EOI	0x000
#define ESB_GET		0x800

/* One whose events are read without waiting. */
static bool context_open(struct afu_context *context, const struct afu_function *function)
{
	return afu_context_open(context, function) && !fcntl(context->fd, F_SETFL, O_NONBLOCK);
}

/* Has the AFU raise a slot for work of a queue. Returns the status of the command. */
static __u64 raise_for(const struct afu_context *context, __u32 slot, __u32 queue)
{
	struct afu_command command = { .opcode = AFU_RAISE, .value = slot, .queue = queue };

	return afu_do(context->mmio, &command);
}

/* A message for work of @queue. */
static int alloc_for(int fd, int efd, __u32 queue, __u64 *offset, __u32 *slot)
{
	struct uxive_ims_alloc arg = {
		.size = sizeof(arg), .flags = UXIVE_IMS_QUEUE, .eventfd = efd, .queue = queue,
	};
	int ret = ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, &arg);

	*offset = arg.offset;
	*slot = arg.slot;
	return ret;
}

/* Waits for the next event and tells whether it is of @type. */
static bool comes_event(int fd, unsigned int type, struct uxive_event *event)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	*event = (struct uxive_event){};
	if (poll(&pfd, 1, WATCHDOG_MS) != 1)
		return false;
	*event = next_event(fd);
	return event->header.type == type;
}

/* The store of an AFU, as root sees it. */
struct store {
	void *memory, *table;
	size_t memory_length, table_length;
	__u32 slots;
};

static bool store_open(struct store *store, const struct afu_function *function)
{
	store->memory = afu_map_bar(function, 2, &store->memory_length);
	if (store->memory == MAP_FAILED)
		return false;
	store->table = afu_map_bar(function, mmio_read32(store->memory, 0x68),
				   &store->table_length);
	store->slots = mmio_read32(store->memory, 0x2c);
	return store->table != MAP_FAILED;
}

static void store_close(struct store *store)
{
	munmap(store->memory, store->memory_length);
	munmap(store->table, store->table_length);
}

static void *store_entry(const struct store *store, __u32 pasid, __u32 slot)
{
	return store->table + mmio_read64(store->memory, 0x70) + 16 * (pasid * store->slots + slot);
}

static void *store_cookie(const struct store *store, __u32 pasid, __u32 slot)
{
	return store->memory + mmio_read64(store->memory, 0x60) + 8 * (pasid * store->slots + slot);
}

/* Whether an entry is masked and without an address, data or cookie. */
static bool store_is_clear(const struct store *store, __u32 pasid, __u32 slot)
{
	void *entry = store_entry(store, pasid, slot);

	return !mmio_read32(entry, 0) && !mmio_read32(entry, 4) && !mmio_read32(entry, 8) &&
	       mmio_read32(entry, 12) & 1 && !mmio_read64(store_cookie(store, pasid, slot), 0);
}

FIXTURE(ims) {
	struct afu_function function[AFU_MOST];
	struct afu_held held;
	struct afu_context context;
	struct store store;
	void *global;
	int functions, events;
};

FIXTURE_SETUP(ims)
{
	catch_touches();
	self->functions = afu_functions(self->function);
	ASSERT_LE(1, self->functions);
	for (int i = 0; i < self->functions; i++)
		if (afu_is_bound(&self->function[i]))
			afu_unbind(&self->function[i]);
	self->held = afu_held();
	self->events = events_in_use();
	for (int i = 0; i < self->functions; i++)
		ASSERT_EQ(0, afu_bind(&self->function[i]));
	ASSERT_EQ(0, all_irqs());
	self->global = afu_map_global(self->function);
	ASSERT_NE(MAP_FAILED, self->global);
	ASSERT_TRUE(context_open(&self->context, self->function));
	ASSERT_TRUE(store_open(&self->store, self->function));
}

FIXTURE_TEARDOWN(ims)
{
	__u32 pasid = self->context.pasid;
	int left = 0;

	module_unload("hoarder");
	afu_misbehave(self->global, AFU_STOP_STORM, 0, 0);
	afu_context_close(&self->context);
	EXPECT_TRUE(becomes(all_irqs(), 0));
	/* Nothing can be sent any more. */
	for (__u32 slot = 0; slot < SLOTS_1; slot++)
		left += !store_is_clear(&self->store, pasid, slot);
	EXPECT_EQ(0, left);
	store_close(&self->store);
	munmap(self->global, 64 << 10);
	EXPECT_TABLES_EMPTY();
	EXPECT_TRUE(becomes(events_in_use(), self->events));
	for (int i = 0; i < self->functions; i++)
		EXPECT_EQ(0, afu_unbind(&self->function[i]));
	EXPECT_TRUE(afu_holds_no_more(&self->held));
}

/* Calls that fail leave nothing: neither an interrupt nor something in the store. */
#define EXPECT_NOTHING_LEFT() do {						\
	EXPECT_EQ(0, irqs_of(self->context.fd));				\
	EXPECT_EQ(0, all_irqs());						\
	EXPECT_TRUE(store_is_clear(&self->store, self->context.pasid, 0));	\
} while (0)

TEST_F(ims, a_call_is_checked_whole)
{
	const __u32 known = sizeof(struct uxive_ims_alloc), page_size = sysconf(_SC_PAGESIZE);
	const __u32 small[] = { 0, 1, 4, 8, known - 8, known - 1 };
	const __u32 large[] = { known, known + 1, known + 64, page_size };
	struct uxive_ims_alloc *arg = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = self->context.fd, efd = event_new(), null = open("/dev/null", O_RDWR);
	const struct uxive_ims_alloc good = { .size = known, .eventfd = efd };
	char *bytes = (char *)arg;

	ASSERT_NE(MAP_FAILED, arg);
	ASSERT_EQ(0, munmap(bytes + page_size, page_size));
#define EXPECT_REFUSED(error, pointer) do {					\
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, error,				\
		     ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, pointer));		\
	EXPECT_NOTHING_LEFT();							\
	*arg = good;								\
} while (0)

	*arg = good;
	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		arg->size = small[i];
		EXPECT_REFUSED(EINVAL, arg);
	}
	for (int bit = 1; bit < 32; bit++) {
		arg->flags = 1U << bit;
		EXPECT_REFUSED(EINVAL, arg);
	}
	arg->reserved = 1;
	EXPECT_REFUSED(EINVAL, arg);
	/* A queue without the flag for it, and the number that stands for any queue. */
	arg->queue = 1;
	EXPECT_REFUSED(EINVAL, arg);
	arg->flags = UXIVE_IMS_QUEUE;
	EXPECT_REFUSED(EINVAL, arg);
	arg->eventfd = -2;
	EXPECT_REFUSED(EBADF, arg);
	arg->eventfd = 1000;
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, EBADF, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, arg));
	EXPECT_NOTHING_LEFT();
	*arg = good;
	arg->eventfd = null;
	EXPECT_REFUSED(EINVAL, arg);
	arg->eventfd = fd;
	EXPECT_REFUSED(EINVAL, arg);
	/* Of more than the kernel knows only zeros. */
	for (__u32 at = known; at < known + 70; at++) {
		arg->size = known + 70;
		bytes[at] = 1;
		EXPECT_REFUSED(E2BIG, arg);
		bytes[at] = 0;
	}
	arg->size = page_size + 1;
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, E2BIG, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, arg));
	EXPECT_NOTHING_LEFT();
	*arg = good;
	EXPECT_REFUSED(EFAULT, NULL);
	EXPECT_REFUSED(EFAULT, (void *)(1UL << 62));
	for (__u32 room = 2; room < known; room += 6) {
		memcpy(bytes + page_size - room, &good, room);
		EXPECT_REFUSED(EFAULT, bytes + page_size - room);
	}
	/* The offset cannot be told: then it is taken back. */
	ASSERT_EQ(0, mprotect(arg, page_size, PROT_READ));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, EFAULT, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, arg));
	EXPECT_NOTHING_LEFT();
	ASSERT_EQ(0, mprotect(arg, page_size, PROT_READ | PROT_WRITE));

	for (size_t i = 0; i < ARRAY_SIZE(large); i++) {
		memset(arg, 0, page_size);
		*arg = good;
		arg->size = large[i];
		EXPECT_EQ(0, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, arg));
		EXPECT_EQ(large[i], arg->size);
		EXPECT_EQ(efd, arg->eventfd);
		EXPECT_EQ(slot_offset(0), arg->offset);
		EXPECT_EQ(0, arg->slot);
		EXPECT_EQ(1, irqs_of(fd));
		EXPECT_TRUE(afu_raise(self->context.mmio, arg->slot));
		EXPECT_EQ(1, event_wait(efd));
		EXPECT_EQ(0, ux_free(fd, arg->offset));
		EXPECT_NOTHING_LEFT();
	}
	munmap(arg, page_size);
	close(efd);
	close(null);
}

TEST_F(ims, a_file_for_reading_has_none)
{
	int fd = open(afu_path(self->function, NULL), O_RDONLY | O_CLOEXEC);
	struct ocxl_ioctl_metadata metadata;
	__u64 offset;

	ASSERT_LE(0, fd);
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, EBADF, afu_ims_alloc(fd, -1, &offset, NULL));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, EBADF, ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, NULL));
	EXPECT_EQ(0, irqs_of(fd));
	/* The calls of ocxl work as with ocxl. */
	EXPECT_EQ(0, afu_metadata(fd, &metadata));
	EXPECT_EQ(0, afu_attach(fd));
	EXPECT_EQ(0, ux_alloc(fd, &offset));
	close(fd);
}

TEST_F(ims, a_context_has_its_slots_and_no_more)
{
	int fd = self->context.fd, efds[SLOTS_1];
	__u64 offsets[SLOTS_1], offset;
	__u32 slot;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < SLOTS_1; i++) {
			efds[i] = event_new();
			ASSERT_EQ(0, afu_ims_alloc(fd, efds[i], &offsets[i], &slot));
			EXPECT_EQ((__u32)i, slot);
			EXPECT_EQ(slot_offset(i), offsets[i]);
		}
		EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENOSPC, afu_ims_alloc(fd, -1, &offset, &slot));
		EXPECT_EQ(SLOTS_1, irqs_of(fd));
		for (int i = 0; i < SLOTS_1; i++) {
			ASSERT_TRUE(afu_raise(self->context.mmio, i));
			EXPECT_EQ(1, event_wait(efds[i])) TH_LOG("slot %d", i);
		}
		for (int i = 0; i < SLOTS_1; i++)
			EXPECT_EQ(0, event_read(efds[i]));

		/* One that is freed is the next; one without a message can still be had. */
		EXPECT_EQ(0, ux_free(fd, offsets[17]));
		EXPECT_EQ(0, afu_ims_alloc(fd, efds[17], &offset, &slot));
		EXPECT_EQ(17, slot);
		EXPECT_TRUE(afu_raise(self->context.mmio, 17));
		EXPECT_EQ(1, event_wait(efds[17]));
		EXPECT_EQ(0, ux_alloc(fd, &offset));
		EXPECT_EQ(slot_offset(SLOTS_1), offset);
		EXPECT_EQ(0, ux_free(fd, offset));

		for (int i = 0; i < SLOTS_1; i++) {
			EXPECT_EQ(0, ux_free(fd, offsets[i]));
			EXPECT_ERRNO(OCXL_IOCTL_IRQ_FREE, EINVAL, ux_free(fd, offsets[i]));
			close(efds[i]);
		}
		EXPECT_NOTHING_LEFT();
	}
}

/* As many as the contexts have slots, or until there are no more messages. */
static long take_all(const int *fds, int contexts, int *errors)
{
	long count = 0;
	__u64 offset;

	for (int i = 0; i < contexts; i++) {
		int ret;

		for (; !(ret = afu_ims_alloc(fds[i], -1, &offset, NULL)); count++)
			progress();
		errors[-ret]++;
	}
	return count;
}

/* How many messages the host bridge of a function has, as firmware says; -1 if it does not. */
static long bridge_messages(const struct afu_function *function)
{
	const char *path = path_of("/sys/class/pci_bus/%.4s:00/of_node/ibm,opal-msi-ranges",
				   function->address);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	__be32 range[2];
	ssize_t size = read(fd, range, sizeof(range));

	close(fd);
	return size == sizeof(range) ? (long)be32toh(range[1]) : -1;
}

/* A device that is no AFU, behind the host bridge of one; returns whether there is one. */
static bool device_beside(const struct afu_function *function, struct afu_function *neighbour)
{
	struct afu_function found[AFU_MOST];
	int count = pci_functions("0x1234 0x11e8", found, AFU_MOST);

	for (int i = 0; i < count; i++) {
		*neighbour = found[i];
		if (!strncmp(neighbour->address, function->address, 4))
			return true;
	}
	return false;
}

/* Has hoarder.ko take messages for a device. Returns how many it has; -1 if it is not loaded. */
static long hoard_messages(const struct afu_function *device, unsigned int most)
{
	char parameters[64];

	snprintf(parameters, sizeof(parameters), "neighbour=%s most=%u", device->address, most);
	if (module_load_with(HOARDER_MODULE, parameters))
		return -1;
	return file_number("/sys/module/hoarder/parameters/messages");
}

TEST_F(ims, half_of_a_host_bridge_is_for_others)
{
	struct afu_function neighbour;
	long most, total, taken;
	struct uxive_event event;
	int fds[CONTEXTS_2];

	if (self->functions < 2)
		SKIP(return, "there is no AFU with more slots than messages");
	total = bridge_messages(&self->function[1]);
	ASSERT_LT(1000, total);
	/* The driver's part, but for the one with which MSI-X of the function works. */
	most = total / 2 - 1;
	/* The second time all are there again. */
	for (int round = 0; round < fewer_with_lockdep(2, 1); round++) {
		int errors[128] = {};
		__u64 offset;

		for (int i = 0; i < CONTEXTS_2; i++) {
			fds[i] = afu_open(&self->function[1]);
			ASSERT_LE(0, fds[i]);
			ASSERT_EQ(0, afu_attach(fds[i]));
		}
		taken = take_all(fds, CONTEXTS_2, errors);
		EXPECT_EQ(CONTEXTS_2, errors[ENOSPC]);
		EXPECT_EQ(taken, all_irqs());
		TH_LOG("round %d: of %ld messages %ld for %d slots", round, total, taken,
		       CONTEXTS_2 * SLOTS_2);
		EXPECT_EQ(most, taken);

		/* The driver may have no more, and the event says so. */
		EXPECT_TRUE(comes_event(fds[CONTEXTS_2 - 1], UXIVE_EVENT_EXHAUSTED, &event));
		EXPECT_EQ(UXIVE_RESOURCE_MESSAGE, event.exhausted.resource);
		/* An interrupt that needs a message, too, fails. Freeing one makes room for one. */
		EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fds[CONTEXTS_2 - 1], &offset));
		EXPECT_EQ(0, ux_free(fds[0], slot_offset(5)));
		EXPECT_EQ(0, afu_ims_alloc(fds[0], -1, &offset, NULL));
		EXPECT_EQ(slot_offset(5), offset);
		/* The other bridge has some. */
		EXPECT_EQ(0, afu_ims_alloc(self->context.fd, -1, &offset, NULL));
		EXPECT_EQ(0, ux_free(self->context.fd, offset));
		/* And so has this one, for a device that is no AFU: all the others. */
		if (device_beside(&self->function[1], &neighbour) &&
		    !access(HOARDER_MODULE, R_OK)) {
			EXPECT_EQ(total - total / 2, hoard_messages(&neighbour, UINT_MAX));
			EXPECT_EQ(0, module_unload("hoarder"));
		}

		for (int i = 0; i < CONTEXTS_2; i++)
			close(fds[i]);
		EXPECT_TRUE(becomes(all_irqs(), 0));
	}
}

/* The driver's part counts all functions behind a bridge, and no more than those. */
TEST_F(ims, a_host_bridge_that_others_have_emptied_has_none)
{
	struct afu_function neighbour;
	struct afu_context context;
	__u64 offset;
	long hoarded;

	if (self->functions < 2 || access(HOARDER_MODULE, R_OK) ||
	    !device_beside(&self->function[1], &neighbour))
		SKIP(return, "there is no hoarder.ko, or no device beside an AFU");
	hoarded = hoard_messages(&neighbour, UINT_MAX);
	ASSERT_LT(bridge_messages(&self->function[1]) / 2, hoarded);
	ASSERT_TRUE(context_open(&context, &self->function[1]));
	/* Those that the driver has kept. */
	for (int n = 0; !afu_ims_alloc(context.fd, -1, &offset, NULL); n++)
		ASSERT_GT(SLOTS_2 - 1, n);
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENOSPC, afu_ims_alloc(context.fd, -1, &offset, NULL));
	ASSERT_EQ(0, module_unload("hoarder"));
	EXPECT_TRUE(becomes(afu_ims_alloc(context.fd, -1, &offset, NULL), 0));
	afu_context_close(&context);
}

/* More than the driver keeps for new interrupts: the bridge has some again, each time. */
#define GIVEN_BACK	70
#define MIN_ROUNDS	20
/* The contexts that have all their messages, and one that has none. */
#define FULL		3

TEST_F(ims, refusals_do_not_fill_the_log)
{
	int fds[FULL + 1], errors[128] = {}, log, rounds = 0, refused = 0;
	struct afu_function neighbour;
	__u64 offset;
	long start;

	if (self->functions < 2 || access(HOARDER_MODULE, R_OK) ||
	    !device_beside(&self->function[1], &neighbour))
		SKIP(return, "there is no hoarder.ko, or no device beside an AFU");
	for (int i = 0; i <= FULL; i++) {
		fds[i] = afu_open(&self->function[1]);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, afu_attach(fds[i]));
	}
	EXPECT_EQ(FULL * SLOTS_2, take_all(fds, FULL, errors));
	/* The bridge itself has no more, and the kernel says so each time. */
	ASSERT_LT(0, hoard_messages(&neighbour, UINT_MAX));
	log = log_open();
	start = clock_ns();
	for (; rounds < MIN_ROUNDS || clock_ns() - start < STORM_NS; rounds++) {
		int ret, taken = 0;

		for (int slot = 0; slot < GIVEN_BACK; slot++)
			ux_free(fds[0], slot_offset(slot));
		while (!(ret = afu_ims_alloc(fds[0], -1, &offset, NULL)) && taken < SLOTS_2)
			taken++;
		EXPECT_TRUE(!ret || ret == -ENOSPC) TH_LOG("%d", ret);
		/* One more than there are. */
		while (!(ret = afu_ims_alloc(fds[FULL], -1, &offset, NULL)) && taken < 2 * SLOTS_2)
			taken++;
		EXPECT_EQ(-ENOSPC, ret);
		refused += !!ret;
		progress();
	}
	TH_LOG("%d rounds, %d refused", rounds, refused);
	EXPECT_A_LINE_A_SECOND(log, "failed to find a free MSI", start);
	EXPECT_EQ(0, module_unload("hoarder"));
	for (int i = 0; i <= FULL; i++)
		close(fds[i]);
	EXPECT_TRUE(becomes(all_irqs(), 0));
	close(log);
}

TEST_F(ims, an_interrupt_is_rung_by_a_store_and_by_the_afu)
{
	struct afu_command fill = { .opcode = AFU_FILL, .length = 64, .value = 1 };
	struct afu_context *context = &self->context;
	struct uxive_info info;
	int efds[8];
	char *window;

	for (int i = 0; i < 8; i++) {
		__u64 offset;

		efds[i] = event_new();
		ASSERT_EQ(0, ux_alloc(context->fd, &offset));
		EXPECT_EQ(slot_offset(i), offset);
		ASSERT_EQ(0, ux_bind(context->fd, offset, efds[i]));
	}
	ASSERT_EQ(0, ux_info(context->fd, &info));
	EXPECT_EQ(8, info.irqs);
	EXPECT_EQ(16, info.irqs_total);
	EXPECT_EQ(16, info.irqs_user);

	window = ux_map(context->fd, IRQ_BASE, WINDOW);
	ASSERT_NE(MAP_FAILED, window);
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 8; i++) {
			ring(window + i * STRIDE);
			ASSERT_EQ(1, event_wait(efds[i]));
			ASSERT_TRUE(afu_raise(context->mmio, i));
			ASSERT_EQ(1, event_wait(efds[i]));
			/* By its handle, as libocxl's programs do. */
			fill.handle = (__u64)(window + i * STRIDE);
			mmio_write64(context->mmio, AFU_HANDLE + 8 * i, fill.handle);
			ASSERT_EQ(AFU_DONE, afu_do(context->mmio, &fill));
			ASSERT_EQ(1, event_wait(efds[i]));
			progress();
		}
	}
	/* Freed, it is rung in neither way. */
	EXPECT_EQ(0, ux_free(context->fd, slot_offset(3)));
	EXPECT_EQ(SIGBUS, touch(window + 3 * STRIDE));
	EXPECT_EQ(AFU_FAILED, raise_for(context, 3, 0));
	EXPECT_TRUE(store_is_clear(&self->store, context->pasid, 3));
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(0, event_read(efds[i]));
		close(efds[i]);
	}
	munmap(window, WINDOW);
}

TEST_F(ims, all_kinds_live_side_by_side)
{
	struct afu_context *context = &self->context;
	int efds[40], fd = context->fd;
	char *window;

	/* By turns: a message only, and one of each. */
	for (int i = 0; i < 40; i++) {
		__u64 offset;
		__u32 slot;

		efds[i] = event_new();
		if (i % 2) {
			ASSERT_EQ(0, ux_alloc(fd, &offset));
			ASSERT_EQ(0, ux_bind(fd, offset, efds[i]));
		} else {
			ASSERT_EQ(0, afu_ims_alloc(fd, efds[i], &offset, &slot));
			EXPECT_EQ((__u32)i, slot);
		}
		EXPECT_EQ(slot_offset(i), offset);
	}
	window = ux_map(fd, IRQ_BASE, WINDOW);
	ASSERT_NE(MAP_FAILED, window);
	for (int i = 0; i < 40; i++) {
		if (i % 2) {
			ring(window + i * STRIDE);
			EXPECT_EQ(1, event_wait(efds[i]));
		} else {
			/* An interrupt that is only a message has no page. */
			EXPECT_EQ(SIGBUS, touch(window + i * STRIDE));
		}
		EXPECT_TRUE(afu_raise(context->mmio, i));
		EXPECT_EQ(1, event_wait(efds[i]));
	}
	/* Another eventfd, and none. */
	EXPECT_EQ(0, ux_bind(fd, slot_offset(0), efds[1]));
	EXPECT_TRUE(afu_raise(context->mmio, 0));
	EXPECT_EQ(1, event_wait(efds[1]));
	EXPECT_EQ(0, ux_bind(fd, slot_offset(0), -1));
	EXPECT_TRUE(afu_raise(context->mmio, 0));
	EXPECT_TRUE(afu_raise(context->mmio, 1));
	EXPECT_EQ(1, event_wait(efds[1]));
	EXPECT_EQ(0, event_read(efds[0]));

	for (int i = 0; i < 40; i += 3)
		EXPECT_EQ(0, ux_free(fd, slot_offset(i)));
	for (int i = 0; i < 40; i++) {
		EXPECT_EQ(i % 3 ? AFU_DONE : AFU_FAILED, raise_for(context, i, 0));
		if (i % 3)
			EXPECT_EQ(1, event_wait(efds[i])) TH_LOG("slot %d", i);
		close(efds[i]);
	}
	munmap(window, WINDOW);
}

TEST_F(ims, the_cookie_names_context_and_queue)
{
	const __u32 queues[] = { 1, 7, 0x80000000, ~0U };
	struct afu_context *context = &self->context, other;
	struct uxive_event event;
	int efd = event_new();
	__u64 offset, its;
	void *cookie;
	__u32 slot;

	ASSERT_TRUE(context_open(&other, self->function));
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		ASSERT_EQ(0, alloc_for(context->fd, efd, queues[i], &offset, &slot));
		cookie = store_cookie(&self->store, context->pasid, slot);
		EXPECT_EQ(1ULL << 63 | (__u64)context->pasid << 32 | queues[i],
			  mmio_read64(cookie, 0));
		EXPECT_EQ(AFU_DONE, raise_for(context, slot, queues[i]));
		EXPECT_EQ(1, event_wait(efd));
		for (size_t k = 0; k < ARRAY_SIZE(queues); k++) {
			__u32 wrong = k == i ? 0 : queues[k];

			EXPECT_EQ(AFU_FAILED, raise_for(context, slot, wrong));
			EXPECT_TRUE(comes_event(context->fd, UXIVE_EVENT_AFU_ERROR, &event));
			EXPECT_EQ(AFU_BAD_COOKIE, event.afu_error.code);
			EXPECT_EQ(1, event.afu_error.count);
		}
		EXPECT_EQ(0, event_read(efd));
		EXPECT_EQ(0, ux_free(context->fd, offset));
	}

	/* By default it is all of the context's, and nobody else's. */
	ASSERT_EQ(0, afu_ims_alloc(context->fd, efd, &offset, &slot));
	cookie = store_cookie(&self->store, context->pasid, slot);
	its = mmio_read64(cookie, 0);
	EXPECT_EQ(1ULL << 63 | (__u64)context->pasid << 32, its);
	EXPECT_EQ(AFU_DONE, raise_for(context, slot, 5));
	EXPECT_EQ(1, event_wait(efd));
	EXPECT_EQ(AFU_FAILED, raise_for(&other, slot, 0));
	EXPECT_TRUE(comes_event(other.fd, UXIVE_EVENT_AFU_ERROR, &event));
	EXPECT_EQ(AFU_BAD_COOKIE, event.afu_error.code);
	mmio_write64(cookie, 0, 1ULL << 63 | (__u64)other.pasid << 32);
	__sync_synchronize();
	EXPECT_EQ(AFU_FAILED, raise_for(context, slot, 0));
	EXPECT_TRUE(comes_event(context->fd, UXIVE_EVENT_AFU_ERROR, &event));
	mmio_write64(cookie, 0, its);
	__sync_synchronize();
	EXPECT_EQ(AFU_DONE, raise_for(context, slot, 0));
	EXPECT_EQ(1, event_wait(efd));
	afu_context_close(&other);
	close(efd);
}

TEST_F(ims, a_freed_one_is_out_of_the_store)
{
	struct afu_context *context = &self->context;
	__u64 entry = context->pasid * SLOTS_1, offset;
	int efd = event_new(), other = event_new();
	struct uxive_event event;
	long late = 0;
	__u32 slot;

	/* One that shows that all before it was handled. */
	ASSERT_EQ(0, afu_ims_alloc(context->fd, efd, &offset, &slot));
	ASSERT_EQ(0, afu_ims_alloc(context->fd, other, &offset, &slot));
	ASSERT_EQ(1, slot);
	for (int round = 0; round < 50; round++) {
		void *at = store_entry(&self->store, context->pasid, 0);

		EXPECT_FALSE(store_is_clear(&self->store, context->pasid, 0));
		EXPECT_EQ(0, mmio_read32(at, 12) & 1);
		EXPECT_TRUE(afu_raise(context->mmio, 0));
		EXPECT_EQ(1, event_wait(efd));
		/* With one under way, or at rest. */
		if (round % 2)
			EXPECT_TRUE(afu_raise(context->mmio, 0));
		EXPECT_EQ(0, ux_free(context->fd, slot_offset(0)));
		event_read(efd);
		EXPECT_TRUE(store_is_clear(&self->store, context->pasid, 0));
		EXPECT_EQ(AFU_FAILED, raise_for(context, 0, 0));
		EXPECT_TRUE(comes_event(context->fd, UXIVE_EVENT_AFU_ERROR, &event));
		EXPECT_EQ(AFU_BAD_COOKIE, event.afu_error.code);
		/* Nor does an AFU get through that does not care. */
		ASSERT_TRUE(afu_misbehave(self->global, AFU_SPURIOUS, entry, 0));
		EXPECT_TRUE(afu_raise(context->mmio, 1));
		EXPECT_EQ(1, event_wait(other));
		EXPECT_EQ(0, event_read(efd));

		/*
		 * A message that it kept pending is sent to the next owner of
		 * the slot, as one event.
		 */
		ASSERT_EQ(0, afu_ims_alloc(context->fd, efd, &offset, &slot));
		ASSERT_EQ(0, slot);
		EXPECT_TRUE(afu_raise(context->mmio, 1));
		EXPECT_EQ(1, event_wait(other));
		late += event_read(efd);
		EXPECT_GE(round + 1, late);
		progress();
	}
	TH_LOG("50 raised while masked, of which %ld came once allocated again", late);
	EXPECT_EQ(0, ux_free(context->fd, slot_offset(0)));
	close(efd);
	close(other);
}

TEST_F(ims, what_is_pending_at_set_up_is_not_lost)
{
	int efd = event_new();

	for (int round = 0; round < 20; round++) {
		struct afu_context context;
		__u64 offset;
		__u32 slot;

		ASSERT_TRUE(context_open(&context, self->function));
		/* Raised before it is anybody's: the AFU keeps it. */
		for (int i = 0; i < 3; i++)
			ASSERT_TRUE(afu_misbehave(self->global, AFU_SPURIOUS,
						  context.pasid * SLOTS_1 + i, 0));
		for (int i = 0; i < 3; i++) {
			ASSERT_EQ(0, afu_ims_alloc(context.fd, efd, &offset, &slot));
			ASSERT_EQ((__u32)i, slot);
			EXPECT_EQ(1, event_wait(efd)) TH_LOG("round %d, slot %d", round, i);
		}
		/* It works from then on, and can be freed and closed. */
		for (int i = 0; i < 3; i++) {
			EXPECT_TRUE(afu_raise(context.mmio, i));
			EXPECT_EQ(1, event_wait(efd)) TH_LOG("round %d, slot %d", round, i);
		}
		if (round % 2)
			EXPECT_EQ(0, ux_free(context.fd, slot_offset(0)));
		afu_context_close(&context);
	}
	TH_LOG("60 raised before they were allocated, none lost");
	close(efd);
}

TEST_F(ims, no_ring_is_lost)
{
	struct afu_command raise = { .opcode = AFU_RAISE };
	struct afu_context *context = &self->context;
	long single = 0, together = 0;
	int efds[AT_ONCE];
	__u64 offset, last = 0;
	__u32 slot;

	for (int i = 0; i < AT_ONCE; i++) {
		efds[i] = event_new();
		ASSERT_EQ(0, afu_ims_alloc(context->fd, efds[i], &offset, &slot));
		ASSERT_EQ((__u32)i, slot);
	}
	for (int n = 0; n < RINGS; n++) {
		ASSERT_TRUE(afu_raise(context->mmio, 0));
		ASSERT_EQ(1, event_wait(efds[0])) TH_LOG("ring %d", n);
		single++;
		progress();
	}
	for (int n = 0; n < ROUNDS; n++) {
		for (int i = 0; i < AT_ONCE; i++) {
			raise.value = i;
			last = afu_submit(context->mmio, &raise);
		}
		for (int i = 0; i < AT_ONCE; i++) {
			ASSERT_EQ(1, event_wait(efds[i])) TH_LOG("round %d, slot %d", n, i);
			together++;
		}
		ASSERT_EQ(AFU_DONE, afu_wait(context->mmio, last));
		progress();
	}
	for (int i = 0; i < AT_ONCE; i++) {
		EXPECT_EQ(0, event_read(efds[i]));
		close(efds[i]);
	}
	TH_LOG("%ld rings one by one, %ld by %d at once, none lost", single, together, AT_ONCE);
}

TEST_F(ims, no_ring_is_lost_to_a_cpu_that_goes)
{
	struct hotplug hotplug = {};
	struct afu_context *context = &self->context;
	long rings = 0, turns = 0, now;
	int efds[AT_ONCE];
	__u64 offset;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU only");
	for (int i = 0; i < AT_ONCE; i++) {
		efds[i] = event_new();
		ASSERT_EQ(0, afu_ims_alloc(context->fd, efds[i], &offset, NULL));
	}
	ASSERT_EQ(0, pthread_create(&hotplug.thread, NULL, hotplug_run, &hotplug));
	while ((now = atomic_load(&hotplug.turns)) < 20 && !atomic_load(&hotplug.error)) {
		bool lost = !afu_raise(context->mmio, rings % AT_ONCE) ||
			    event_wait(efds[rings % AT_ONCE]) != 1;

		/* The rings would go on without the CPUs. */
		if (now > turns)
			progress();
		turns = now;
		EXPECT_FALSE(lost) TH_LOG("ring %ld", rings);
		if (lost)
			break;
		rings++;
	}
	atomic_store(&hotplug.stop, true);
	pthread_join(hotplug.thread, NULL);
	EXPECT_EQ(0, hotplug.error);
	TH_LOG("%ld rings while CPUs went %ld times", rings, atomic_load(&hotplug.turns));
	for (int i = 0; i < AT_ONCE; i++)
		close(efds[i]);
}

/* User drain: what the program reads and writes by itself. */

static __u64 esb_load(const void *management, int at)
{
	return be64toh(__atomic_load_n((const __u64 *)(management + at), __ATOMIC_RELAXED));
}

struct reader {
	__u32 *queue, mask, next, generation;
};

/* The next entry; -1 if there is none within the watchdog's time. */
static long reader_next(struct reader *reader)
{
	__u32 entry;

	if (!becomes((be32toh(__atomic_load_n(&reader->queue[reader->next], __ATOMIC_ACQUIRE)) ^
		      reader->generation) >> 31, 0))
		return -1;
	entry = be32toh(reader->queue[reader->next]);
	reader->next = (reader->next + 1) & reader->mask;
	if (!reader->next)
		reader->generation ^= 1U << 31;
	return entry & ~(1U << 31);
}

TEST_F(ims, a_program_drains_messages_by_itself)
{
	struct uxive_user_drain drain = ux_drain_arg(-1);
	struct afu_command raise = { .opcode = AFU_RAISE };
	struct reader reader = { .generation = 1U << 31 };
	void *management[2], *trigger, *page;
	struct afu_context context;
	long events = 0;
	__u64 offset, its;
	int efd = event_new();
	__u32 slot;

	ASSERT_TRUE(context_open(&context, self->function));
	ASSERT_EQ(0, ux_ioctl(context.fd, UXIVE_IOC_USER_DRAIN, &drain));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, EINVAL, afu_ims_alloc(context.fd, efd, &offset, &slot));
	EXPECT_EQ(0, irqs_of(context.fd));
	/* A message only, and one of each kind. */
	ASSERT_EQ(0, afu_ims_alloc(context.fd, -1, &offset, &slot));
	ASSERT_EQ(0, ux_alloc(context.fd, &offset));
	reader.mask = drain.queue_entries - 1;
	reader.queue = mmap(NULL, 4 * drain.queue_entries, PROT_READ, MAP_SHARED, context.fd,
			    drain.queue_offset);
	ASSERT_NE(MAP_FAILED, (void *)reader.queue);
	for (int i = 0; i < 2; i++) {
		its = drain.esb_offset + (MESSAGES + i) * drain.esb_stride + drain.esb_stride / 2;
		management[i] = mmap(NULL, STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, context.fd,
				     its);
		ASSERT_NE(MAP_FAILED, management[i]);
		EXPECT_EQ(0, esb_load(management[i], ESB_GET));
	}

	/* Past the end of the queue is not reached: it would take 32,768. */
	for (int n = 0; n < DRAINED; n++) {
		int i = n % 2;

		raise.value = i;
		afu_submit(context.mmio, &raise);
		ASSERT_EQ(MESSAGES + i, reader_next(&reader)) TH_LOG("event %d", n);
		ASSERT_EQ(0, esb_load(management[i], ESB_LOAD_EOI));
		ASSERT_TRUE(becomes(mmio_read64(context.mmio, AFU_HEAD), (__u64)n + 1));
		events++;
		progress();
	}
	/* A message that comes before the last one is ended becomes one more event afterwards. */
	for (int n = 0; n < 10; n++) {
		ASSERT_TRUE(afu_raise(context.mmio, 0));
		/* Or the machine may find both at once. */
		ASSERT_TRUE(becomes(esb_load(management[0], ESB_GET), 2));
		ASSERT_TRUE(afu_raise(context.mmio, 0));
		ASSERT_TRUE(becomes(esb_load(management[0], ESB_GET), 3));
		ASSERT_EQ(MESSAGES, reader_next(&reader));
		esb_load(management[0], ESB_LOAD_EOI);
		ASSERT_EQ(MESSAGES, reader_next(&reader)) TH_LOG("round %d", n);
		esb_load(management[0], ESB_LOAD_EOI);
		EXPECT_EQ(0, esb_load(management[0], ESB_GET));
		events += 2;
	}
	/* The other way to ring that slot has its own number. */
	page = ux_map(context.fd, slot_offset(1), STRIDE);
	ASSERT_NE(MAP_FAILED, page);
	ring(page);
	EXPECT_EQ(1, reader_next(&reader));
	/* As of any other, the trigger page comes before the management page. */
	trigger = mmap(NULL, STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, context.fd,
		       drain.esb_offset + MESSAGES * drain.esb_stride);
	ASSERT_NE(MAP_FAILED, trigger);
	EXPECT_EQ(0, touch(trigger));
	EXPECT_EQ(MESSAGES, reader_next(&reader));
	esb_load(management[0], ESB_LOAD_EOI);

	EXPECT_EQ(0, ux_free(context.fd, slot_offset(0)));
	EXPECT_EQ(SIGBUS, touch(management[0]));
	EXPECT_EQ(SIGBUS, touch(trigger));
	TH_LOG("%ld events of messages drained", events);
	munmap(trigger, STRIDE);
	munmap(page, STRIDE);
	munmap(management[0], STRIDE);
	munmap(management[1], STRIDE);
	munmap(reader.queue, 4 * drain.queue_entries);
	afu_context_close(&context);
	close(efd);
}

/* Storms. */

static bool message_rate(const struct afu_function *function, const char *rate)
{
	return !file_write(afu_path(function, "max_message_rate"), rate);
}

/* The limit in a tenth of a second, and for how many tenths the storm goes on. */
#define STORM_LIMIT	2
#define STORM_PERIODS	40

TEST_F(ims, a_storm_is_held_back)
{
	struct afu_context *context = &self->context, other;
	int efd = event_new(), its = event_new();
	struct uxive_event event;
	__u64 entry, offset;
	__u32 slot, ping;

	ASSERT_TRUE(context_open(&other, self->function));
	ASSERT_EQ(0, afu_ims_alloc(context->fd, efd, &offset, &slot));
	ASSERT_EQ(0, afu_ims_alloc(other.fd, its, &offset, &slot));
	entry = context->pasid * SLOTS_1;
	for (int round = 0; round < 3; round++) {
		long storm, rings = 0, told = 1;

		ASSERT_TRUE(message_rate(self->function, "20"));
		ASSERT_TRUE(afu_misbehave(self->global, AFU_STORM, entry, 0));
		do {
			ASSERT_TRUE(comes_event(context->fd, UXIVE_EVENT_STORM, &event));
			/* The first may still have been of the rate before. */
		} while (event.storm.count != STORM_LIMIT);
		EXPECT_EQ(slot_offset(0), event.storm.offset);

		/*
		 * The storm goes on without more reports, and a context that keeps to the
		 * rate works as ever. A model that is held up for a while ends a storm and
		 * begins another, but not often.
		 */
		event_read(efd);
		for (storm = 0; storm < STORM_LIMIT * STORM_PERIODS; rings++) {
			long more;

			ASSERT_TRUE(afu_raise(other.mmio, 0));
			ASSERT_EQ(1, event_wait(its)) TH_LOG("ring %ld", rings);
			more = event_read(efd);
			if (more)
				progress();
			storm += more;
			usleep(100000);
		}
		while ((event = next_event(context->fd)).header.type != NO_EVENT) {
			EXPECT_EQ(UXIVE_EVENT_STORM, event.header.type);
			told++;
		}
		EXPECT_GE(STORM_PERIODS / 4, told);
		ASSERT_TRUE(afu_misbehave(self->global, AFU_STOP_STORM, 0, 0));
		TH_LOG("round %d: %ld events of the storm, told %ld times; %ld rings of another",
		       round, storm, told, rings);

		/*
		 * Its last events come: the driver holds back no more, and the machine has
		 * handled all that was raised before the other's second event. Then all is
		 * as before.
		 */
		ASSERT_TRUE(message_rate(self->function, "100000"));
		ping = afu_ping(self->store.memory);
		ASSERT_TRUE(becomes(afu_ping(self->store.memory) - ping >= 3, true));
		for (int n = 0; n < 2; n++) {
			ASSERT_TRUE(afu_raise(other.mmio, 0));
			ASSERT_EQ(1, event_wait(its));
		}
		event_read(efd);
		for (int n = 0; n < 50; n++) {
			ASSERT_TRUE(afu_raise(context->mmio, 0));
			ASSERT_EQ(1, event_wait(efd)) TH_LOG("ring %d", n);
		}
		while (next_event(other.fd).header.type != NO_EVENT)
			;
	}
	afu_context_close(&other);
	close(efd);
	close(its);
}

TEST_F(ims, it_is_freed_in_the_middle_of_a_storm)
{
	static const char * const rates[] = { "1000", "100000", "4294967295" };
	struct afu_context *context = &self->context, other;
	int efd = event_new(), its = event_new();
	__u64 entry, offset;
	__u32 slot;

	ASSERT_TRUE(context_open(&other, self->function));
	ASSERT_EQ(0, afu_ims_alloc(other.fd, its, &offset, &slot));
	entry = context->pasid * SLOTS_1;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		long events = 0;

		ASSERT_TRUE(message_rate(self->function, rates[i]));
		ASSERT_TRUE(afu_misbehave(self->global, AFU_STORM, entry, 0));
		for (int round = 0; round < 50; round++) {
			ASSERT_EQ(0, afu_ims_alloc(context->fd, efd, &offset, &slot));
			ASSERT_EQ(0, slot);
			ASSERT_LT(0, event_wait(efd));
			events++;
			ASSERT_EQ(0, ux_free(context->fd, offset));
			events += event_read(efd);
			/* Not one more: the other's come after it. */
			ASSERT_TRUE(afu_raise(other.mmio, 0));
			ASSERT_EQ(1, event_wait(its));
			EXPECT_EQ(0, event_read(efd)) TH_LOG("round %d", round);
			progress();
		}
		ASSERT_TRUE(afu_misbehave(self->global, AFU_STOP_STORM, 0, 0));
		TH_LOG("at most %s a second: freed 50 times, %ld events", rates[i], events);
	}
	ASSERT_TRUE(message_rate(self->function, "100000"));
	afu_context_close(&other);
	close(efd);
	close(its);
}

/* A context that goes with a message pending leaves at most that to the next in its place. */
TEST_F(ims, the_next_in_a_place_is_not_rung_by_the_last)
{
	int efd = event_new(), its = event_new();
	long late = 0, now;

	for (int round = 0; round < 30; round++) {
		struct afu_context one, other;
		__u64 offset;
		__u32 slot;

		ASSERT_TRUE(context_open(&one, self->function));
		ASSERT_EQ(0, afu_ims_alloc(one.fd, efd, &offset, &slot));
		for (int i = 0; i < 5; i++)
			EXPECT_TRUE(afu_raise(one.mmio, slot));
		/* Late, when the detach is confirmed. */
		if (round % 2)
			ASSERT_TRUE(afu_misbehave(self->global, AFU_LATE, one.pasid, slot));
		afu_context_close(&one);
		event_read(efd);

		ASSERT_TRUE(context_open(&other, self->function));
		EXPECT_EQ(one.pasid, other.pasid);
		ASSERT_EQ(0, afu_ims_alloc(other.fd, its, &offset, &slot));
		ASSERT_EQ(0, afu_ims_alloc(other.fd, efd, &offset, &slot));
		EXPECT_TRUE(afu_raise(other.mmio, slot));
		EXPECT_EQ(1, event_wait(efd));
		/* Of this round, or of the one before. */
		now = event_read(its);
		EXPECT_GE(1, now) TH_LOG("round %d", round);
		late += now;
		EXPECT_GE((round + 1) / 2, late) TH_LOG("round %d", round);
		afu_context_close(&other);
	}
	TH_LOG("15 raised after their context was detached, of which %ld came to the next", late);
	close(efd);
	close(its);
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

TEST_F(ims, a_failed_step_leaves_nothing)
{
	int nth = open("/proc/thread-self/fail-nth", O_RDWR), efd, ret, step;
	bool hit = true, seen[128] = {};
	__u64 offset;
	__u32 slot;

	if (!can_inject_faults())
		SKIP(return, NO_FAULTS);
	ASSERT_TRUE(prepare_faults());
	efd = event_new();
	ASSERT_TRUE(select_faults(KMALLOC | USER_COPY | DRIVER));
	/* The first of a context, or one more; a message, or one of each. */
	for (int way = 0; way < 4; way++) {
		int fatal = 0;

		hit = true;
		for (step = 1; hit && step < MAX_STEPS; step++) {
			struct afu_context context;
			int first = way & 1;

			progress();
			ASSERT_TRUE(context_open(&context, self->function));
			if (first)
				ASSERT_EQ(0, afu_ims_alloc(context.fd, -1, &offset, &slot));
			arm(nth, step);
			ret = way & 2 ? ux_alloc(context.fd, &offset) :
					afu_ims_alloc(context.fd, efd, &offset, &slot);
			hit = disarm(nth);
			if (ret) {
				EXPECT_TRUE(hit) TH_LOG("way %d, step %d: %d", way, step, ret);
				fatal++;
				seen[-ret & 127] = true;
				EXPECT_EQ(first, irqs_of(context.fd));
				EXPECT_EQ(first, all_irqs()) TH_LOG("way %d, step %d", way, step);
				EXPECT_TRUE(store_is_clear(&self->store, context.pasid, first))
					TH_LOG("way %d, step %d", way, step);
				ret = way & 2 ? ux_alloc(context.fd, &offset) :
						afu_ims_alloc(context.fd, efd, &offset, &slot);
				EXPECT_EQ(0, ret) TH_LOG("way %d, step %d", way, step);
			}
			if (way & 2)
				EXPECT_EQ(0, ux_bind(context.fd, offset, efd));
			EXPECT_EQ(slot_offset(first), offset);
			EXPECT_TRUE(afu_raise(context.mmio, first));
			EXPECT_EQ(1, event_wait(efd)) TH_LOG("way %d, step %d", way, step);
			afu_context_close(&context);
			EXPECT_TRUE(becomes(all_irqs(), 0));
		}
		TH_LOG("%s, %s: %d steps, of which %d are fatal", way & 2 ? "both" : "message",
		       way & 1 ? "one more" : "first", step - 2, fatal);
		EXPECT_FALSE(hit);
		EXPECT_LT(0, fatal);
		if (way == 1)
			EXPECT_FAULTS(UXIVE_IOC_IMS_ALLOC, ENOMEM, EFAULT, ENOSPC, EIO, ENXIO,
				      ENODEV);
	}
	EXPECT_FAULTS(OCXL_IOCTL_IRQ_ALLOC, ENOMEM, EFAULT, ENOSPC, EIO, ENXIO, ENODEV);
	select_faults(0);
	close(nth);
	close(efd);
}

TEST_F(ims, limits_hold_for_messages)
{
	long max_user = limit_get("max_irqs_per_user"), max = limit_get("max_irqs");
	long max_context = limit_get("max_irqs_per_context");
	int fd = self->context.fd;
	__u64 offset;

	ASSERT_EQ(0, limit_set("max_irqs_per_user", 5));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, afu_ims_alloc(fd, -1, &offset, NULL));
	/* One of each kind counts twice. */
	EXPECT_EQ(0, ux_alloc(fd, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, EDQUOT, afu_ims_alloc(fd, -1, &offset, NULL));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_alloc(fd, &offset));
	EXPECT_EQ(0, ux_free(fd, slot_offset(0)));
	/* There is room for one, and nothing is left of the other. */
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, EDQUOT, ux_alloc(fd, &offset));
	EXPECT_EQ(4, all_irqs());
	EXPECT_EQ(0, afu_ims_alloc(fd, -1, &offset, NULL));
	ASSERT_EQ(0, limit_set("max_irqs_per_user", max_user));

	ASSERT_EQ(0, limit_set("max_irqs", 5));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENFILE, afu_ims_alloc(fd, -1, &offset, NULL));
	ASSERT_EQ(0, limit_set("max_irqs", max));

	ASSERT_EQ(0, limit_set("max_irqs_per_context", 4));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENOSPC, afu_ims_alloc(fd, -1, &offset, NULL));
	ASSERT_EQ(0, limit_set("max_irqs_per_context", max_context));
	EXPECT_EQ(0, afu_ims_alloc(fd, -1, &offset, NULL));
}

TEST_F(ims, what_the_context_says_that_it_can_have_it_can)
{
	long max_context = limit_get("max_irqs_per_context");
	int fd = self->context.fd;
	__u64 offset;

	/* Its queue takes two events for each slot, and has as many entries as others. */
	EXPECT_EQ(SLOTS / 2, info_of(fd).max_irqs);
	ASSERT_EQ(0, ux_fill(fd, SLOTS / 2));
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENOSPC, ux_alloc(fd, &offset));
	EXPECT_ERRNO(UXIVE_IOC_IMS_ALLOC, ENOSPC, afu_ims_alloc(fd, -1, &offset, NULL));

	ASSERT_EQ(0, limit_set("max_irqs_per_context", SLOTS / 2 - 1));
	EXPECT_EQ(SLOTS / 2 - 1, info_of(fd).max_irqs);
	ASSERT_EQ(0, limit_set("max_irqs_per_context", max_context));
}

TEST_F(ims, messages_are_shown)
{
	char start[64], line[256], eventfd[16], state[16], message[16], pq[16], rest[80];
	unsigned long long offset, lisn, its;
	int fd = self->context.fd, efd = event_new(), chip, eisn, rings, columns;
	__u64 one, other;

	ASSERT_EQ(0, afu_ims_alloc(fd, efd, &one, NULL));
	ASSERT_EQ(0, ux_alloc(fd, &other));
	ASSERT_TRUE(afu_raise(self->context.mmio, 0));
	ASSERT_EQ(1, event_wait(efd));

	snprintf(line, sizeof(line), "\t%s pasid:%u attached\n", AFU_NAME, self->context.pasid);
	EXPECT_STREQ(line, fdinfo_of(fd, "uxive-afu"));
	columns = sscanf(fdinfo_of_irq(fd, one) ?: "", "message:%llx%79[^\n]", &its, rest);
	EXPECT_EQ(1, columns);
	columns = sscanf(fdinfo_of_irq(fd, other) ?: "", "lisn:%llx message:%llx%79[^\n]", &lisn,
			 &its, rest);
	EXPECT_EQ(2, columns);
	EXPECT_NE(lisn, its);

	if (access(DEBUG_UXIVE, F_OK))
		SKIP(goto out, "the kernel has no debugfs");
	/* A message only. */
	snprintf(start, sizeof(start), "%ld 0 ", ux_context(fd));
	ASSERT_EQ(1, debug_lines("slots", start, line, sizeof(line)));
	columns = sscanf(line, "%*d 0 %llx - - - - %15s %d %15s 0x%15s %15s%79[^\n]", &offset,
			 eventfd, &rings, state, message, pq, rest);
	EXPECT_EQ(6, columns) TH_LOG("%s", line);
	EXPECT_EQ(one, offset);
	EXPECT_STREQ("bound", eventfd);
	EXPECT_EQ(1, rings);
	EXPECT_STREQ("live", state);
	EXPECT_STREQ("00", pq);
	/* Both. */
	snprintf(start, sizeof(start), "%ld 1 ", ux_context(fd));
	ASSERT_EQ(1, debug_lines("slots", start, line, sizeof(line)));
	columns = sscanf(line, "%*d 1 %llx %llx %d %d %15s %15s %d %15s %llx %15s%79[^\n]",
			 &offset, &lisn, &chip, &eisn, pq, eventfd, &rings, state, &its, pq, rest);
	EXPECT_EQ(10, columns) TH_LOG("%s", line);
	EXPECT_EQ(1, eisn);
	EXPECT_STREQ("none", eventfd);
	EXPECT_STREQ("00", pq);
out:
	close(efd);
}

TEST_HARNESS_MAIN
