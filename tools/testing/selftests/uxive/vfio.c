// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: devices that do DMA are for the kernel's VFIO, which gives a program the device
 * whole, and the device the memory that the program maps for it, and no more. The driver
 * has no part in that: these tests hold the kernel to what the documentation says of it.
 * A program waits for such a device and for interrupts of the driver in one place.
 *
 * By VFIO_SPAPR_TCE_v2_IOMMU, with two of QEMU's edu behind one host bridge, in two PEs,
 * each beside another function. A kernel without VFIO's modules, or a machine without
 * these devices, skips all.
 *
 * Not tried, for the kernel has defects there: to unregister memory that is mapped, of
 * which it warns, and to create a window for whose table there is no memory, which stays
 * on the program's account.
 */
#include "uxive_edu.h"

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#define EDUS		2
#define VFIO_DRIVER	"/sys/bus/pci/drivers/vfio-pci/"
#define NOBODY		65534

#define PAGE		(64UL << 10)
#define PAGES		16
#define READ		VFIO_DMA_MAP_FLAG_READ
#define WRITE		VFIO_DMA_MAP_FLAG_WRITE

/* In the first window: the page by which a test fills and reads the device's buffer. */
#define PARCEL		0x10000ULL
/* Other places there. */
#define HERE		0x200000ULL
#define THERE		0x400000ULL
/* Where the second window begins. */
#define SECOND		BYPASS

/* In the order of loading. */
static const char * const modules[] = {
	"vfio", "vfio_iommu_spapr_tce", "vfio-pci-core", "vfio-pci",
};

struct edu {
	struct afu_function function;
	int group, device;
	void *registers;
	size_t length;
};

/* The calls: 0 or more, or a negative errno. */

static int vfio_call(int fd, unsigned long call, void *arg)
{
	int ret = ioctl(fd, call, arg);

	return ret < 0 ? -errno : ret;
}

static int map(int container, void *memory, __u64 iova, __u64 size, __u32 flags)
{
	struct vfio_iommu_type1_dma_map arg = {
		.argsz = sizeof(arg), .flags = flags,
		.vaddr = (uintptr_t)memory, .iova = iova, .size = size,
	};

	return vfio_call(container, VFIO_IOMMU_MAP_DMA, &arg);
}

static int unmap(int container, __u64 iova, __u64 size)
{
	struct vfio_iommu_type1_dma_unmap arg = {
		.argsz = sizeof(arg), .iova = iova, .size = size,
	};

	return vfio_call(container, VFIO_IOMMU_UNMAP_DMA, &arg);
}

static int register_memory(int container, void *memory, __u64 size)
{
	struct vfio_iommu_spapr_register_memory arg = {
		.argsz = sizeof(arg), .vaddr = (uintptr_t)memory, .size = size,
	};

	return vfio_call(container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &arg);
}

static int unregister_memory(int container, void *memory, __u64 size)
{
	struct vfio_iommu_spapr_register_memory arg = {
		.argsz = sizeof(arg), .vaddr = (uintptr_t)memory, .size = size,
	};

	return vfio_call(container, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, &arg);
}

static int window_create(int container, __u32 shift, __u64 size, __u64 *start)
{
	struct vfio_iommu_spapr_tce_create arg = {
		.argsz = sizeof(arg), .page_shift = shift, .window_size = size, .levels = 1,
	};
	int ret = vfio_call(container, VFIO_IOMMU_SPAPR_TCE_CREATE, &arg);

	*start = arg.start_addr;
	return ret;
}

static int window_remove(int container, __u64 start)
{
	struct vfio_iommu_spapr_tce_remove arg = { .argsz = sizeof(arg), .start_addr = start };

	return vfio_call(container, VFIO_IOMMU_SPAPR_TCE_REMOVE, &arg);
}

static int windows(int container, struct vfio_iommu_spapr_tce_info *info)
{
	*info = (struct vfio_iommu_spapr_tce_info){ .argsz = sizeof(*info) };
	return vfio_call(container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, info);
}

static int eeh(int container, __u32 op)
{
	struct vfio_eeh_pe_op arg = { .argsz = sizeof(arg), .op = op };

	return vfio_call(container, VFIO_EEH_PE_OP, &arg);
}

/* Bytes that this process has locked. */
static long locked_bytes(void)
{
	const char *found = line_after("/proc/self/status", "VmLck:");

	return found ? atol(found) << 10 : -1;
}

/* Groups and devices. */

static int container_open(void)
{
	return open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
}

/* The number of a function's group; -1 if it has none. */
static int group_of(const struct afu_function *function)
{
	char link[PATH_MAX] = "";

	if (readlink(function_path(function, "iommu_group"), link, sizeof(link) - 1) < 0)
		return -1;
	return atoi(strrchr(link, '/') + 1);
}

static int group_open(const struct afu_function *function)
{
	return open(path_of("/dev/vfio/%d", group_of(function)), O_RDWR | O_CLOEXEC);
}

static bool group_is_viable(int group)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	return !vfio_call(group, VFIO_GROUP_GET_STATUS, &status) &&
	       status.flags & VFIO_GROUP_FLAGS_VIABLE;
}

static int group_attach(int group, int container)
{
	return vfio_call(group, VFIO_GROUP_SET_CONTAINER, &container);
}

static int group_detach(int group)
{
	return vfio_call(group, VFIO_GROUP_UNSET_CONTAINER, NULL);
}

static int take_iommu(int container)
{
	return vfio_call(container, VFIO_SET_IOMMU, (void *)VFIO_SPAPR_TCE_v2_IOMMU);
}

static struct vfio_region_info region(const struct edu *edu, __u32 index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	if (vfio_call(edu->device, VFIO_DEVICE_GET_REGION_INFO, &info))
		abort();
	return info;
}

/* Lets it decode its registers and do DMA. */
static bool edu_enable(const struct edu *edu)
{
	__u64 at = region(edu, VFIO_PCI_CONFIG_REGION_INDEX).offset + PCI_COMMAND;
	__u16 command;

	if (pread(edu->device, &command, sizeof(command), at) != sizeof(command))
		return false;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	return pwrite(edu->device, &command, sizeof(command), at) == sizeof(command);
}

/* Opens the device and maps its registers. */
static bool edu_open(struct edu *edu)
{
	struct vfio_region_info bar;

	edu->device = ioctl(edu->group, VFIO_GROUP_GET_DEVICE_FD, edu->function.address);
	if (edu->device < 0 || !edu_enable(edu))
		return false;
	bar = region(edu, VFIO_PCI_BAR0_REGION_INDEX);
	edu->length = bar.size;
	edu->registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, edu->device,
			      bar.offset);
	return edu->registers != MAP_FAILED;
}

/* Closes it, if it is open; the group stays. */
static void edu_close(struct edu *edu)
{
	if (edu->device < 0)
		return;
	munmap(edu->registers, edu->length);
	close(edu->device);
	edu->device = -1;
}

/* Those behind one host bridge, each in a group that it shares with one other function. */
static int find_edus(struct edu *edus)
{
	struct afu_function found[8];
	int count = pci_functions(EDU_ID, found, ARRAY_SIZE(found)), edu = 0;

	for (int i = 0; i < count && edu < EDUS; i++) {
		int group = group_of(&found[i]);

		/* Beside "." and "..". */
		if (entries_of(path_of("/sys/kernel/iommu_groups/%d/devices", group)) == 4 &&
		    (!edu || (group_of(&edus[0].function) != group &&
			      !strncmp(edus[0].function.address, found[i].address, 4))))
			edus[edu++].function = found[i];
	}
	return edu;
}

/* The function that shares the group of @function. */
static bool find_sibling(const struct afu_function *function, struct afu_function *sibling)
{
	DIR *directory = opendir(function_path(function, "iommu_group/devices"));
	struct dirent *entry;
	bool found = false;

	while (directory && !found && (entry = readdir(directory))) {
		found = entry->d_name[0] != '.' && strcmp(entry->d_name, function->address);
		if (found)
			snprintf(sibling->address, sizeof(sibling->address), "%.15s",
				 entry->d_name);
	}
	if (directory)
		closedir(directory);
	return found;
}

static int unbind_from(const struct afu_function *function, const char *driver)
{
	return afu_override(function, "") ?:
	       file_write(path_of("/sys/bus/pci/drivers/%s/unbind", driver), function->address);
}

static int bind_to(const struct afu_function *function, const char *driver)
{
	return afu_override(function, driver) ?:
	       file_write(path_of("/sys/bus/pci/drivers/%s/bind", driver), function->address);
}

/* Loads a module, unless a test that was killed has left it. */
static int load_anew(const char *name)
{
	int ret = module_load(path_of("/modules/%s.ko", name));

	return ret == -EEXIST ? 0 : ret;
}

FIXTURE(vfio) {
	struct edu edu[EDUS];
	int container;
	/* One more, for tests that want it. */
	int other;
	/* The page at PARCEL, and those of the tests. */
	__u64 *parcel;
	void *memory;
};

/* Takes an edu for the container, registers all of the memory and maps the parcel. */
static bool start(struct edu *edu, int container, void *memory)
{
	edu->group = group_open(&edu->function);
	return !group_attach(edu->group, container) && !take_iommu(container) &&
	       !register_memory(container, memory, PAGES * PAGE) &&
	       !map(container, memory, PARCEL, PAGE, READ | WRITE) && edu_open(edu);
}

FIXTURE_SETUP(vfio)
{
	self->container = -1;
	self->other = -1;
	for (int i = 0; i < EDUS; i++) {
		self->edu[i].group = -1;
		self->edu[i].device = -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++)
		if (access(path_of("/modules/%s.ko", modules[i]), R_OK))
			SKIP(return, "the kernel has no VFIO");
	if (find_edus(self->edu) != EDUS)
		SKIP(return, "the machine has no such devices: make test gives them to base");
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++)
		ASSERT_EQ(0, load_anew(modules[i]));
	for (int i = 0; i < EDUS; i++) {
		if (afu_is_bound(&self->edu[i].function))
			unbind_from(&self->edu[i].function, "vfio-pci");
		ASSERT_EQ(0, bind_to(&self->edu[i].function, "vfio-pci"));
	}
	self->container = container_open();
	ASSERT_LE(0, self->container);
	self->parcel = shared_memory(PAGES * PAGE);
	self->memory = (void *)self->parcel + PAGE;
	ASSERT_EQ(0, locked_bytes());
	ASSERT_TRUE(start(&self->edu[0], self->container, self->parcel));
}

FIXTURE_TEARDOWN(vfio)
{
	if (self->container < 0)
		return;
	for (int i = 0; i < EDUS; i++) {
		edu_close(&self->edu[i]);
		close(self->edu[i].group);
	}
	close(self->container);
	close(self->other);
	EXPECT_EQ(0, locked_bytes());
	for (int i = 0; i < EDUS; i++)
		EXPECT_EQ(0, unbind_from(&self->edu[i].function, "vfio-pci"));
	for (int i = ARRAY_SIZE(modules) - 1; i >= 0; i--) {
		char name[32];

		snprintf(name, sizeof(name), "%s", modules[i]);
		for (char *at = name; (at = strchr(at, '-')); )
			*at = '_';
		EXPECT_TRUE(becomes(module_unload(name), 0)) TH_LOG("%s", name);
	}
}

/* DMA. */

static __u64 value_at(const __u64 *memory)
{
	return __atomic_load_n(memory, __ATOMIC_RELAXED);
}

static void set_value(__u64 *memory, __u64 value)
{
	__atomic_store_n(memory, value, __ATOMIC_RELAXED);
}

/*
 * Has a device try @memory by that address. Returns READ, WRITE, both or 0, or -1 if it does
 * not do as it is told. It shows the bytes that it has read by the parcel, which it can reach.
 */
static int reach(const struct edu *edu, __u64 *parcel, __u64 iova, __u64 *memory)
{
	static __u64 secret = 0x5ec2e70000;
	int done = 0;

	set_value(memory, ++secret);
	if (!edu_moves(edu->registers, iova, sizeof(secret), 0))
		return -1;
	set_value(memory, 0);
	if (!edu_moves(edu->registers, iova, sizeof(secret), EDU_TO_MEMORY))
		return -1;
	if (value_at(memory) == secret)
		return READ | WRITE;
	if (value_at(memory))
		done |= WRITE;
	set_value(parcel, -1);
	if (!edu_moves(edu->registers, PARCEL, sizeof(secret), EDU_TO_MEMORY) ||
	    value_at(parcel) == -1UL)
		return -1;
	if (value_at(parcel) == secret)
		done |= READ;
	return done;
}

#define EXPECT_REACH(flags, edu, iova, memory)				\
	EXPECT_EQ(flags, reach(edu, self->parcel, iova, memory))
#define EXPECT_REACHES(edu, iova, memory)				\
	EXPECT_REACH(READ | WRITE, edu, iova, memory)
#define EXPECT_DOES_NOT_REACH(edu, iova, memory)			\
	EXPECT_REACH(0, edu, iova, memory)

/* Windows. */

TEST_F(vfio, there_are_two_windows_with_pages_from_4k_to_1g)
{
	struct vfio_iommu_spapr_tce_info info;

	ASSERT_EQ(0, windows(self->container, &info));
	EXPECT_EQ(VFIO_IOMMU_SPAPR_INFO_DDW, info.flags);
	EXPECT_EQ(0, info.dma32_window_start);
	EXPECT_EQ(1U << 31, info.dma32_window_size);
	EXPECT_EQ(2, info.ddw.max_dynamic_windows_supported);
	EXPECT_LE(1, info.ddw.levels);
	EXPECT_EQ(1ULL << 12 | 1ULL << 16 | 1ULL << 21 | 1ULL << 30, info.ddw.pgsizes);
}

TEST_F(vfio, a_window_is_made_and_removed_with_each_page_size)
{
	struct vfio_iommu_spapr_tce_info info;
	long before = locked_bytes(), tables;
	__u64 start, third;

	ASSERT_EQ(0, windows(self->container, &info));
	for (int shift = 0; shift < 64; shift++) {
		/* Room for 64 pages. */
		__u64 size = shift < 58 ? 64ULL << shift : 1ULL << 63;

		if (!(info.ddw.pgsizes & 1ULL << shift)) {
			EXPECT_EQ(-EINVAL, window_create(self->container, shift, size, &start))
				TH_LOG("pages of 1 << %d", shift);
			continue;
		}
		ASSERT_EQ(0, window_create(self->container, shift, size, &start))
			TH_LOG("pages of 1 << %d", shift);
		EXPECT_EQ(SECOND, start);
		tables = locked_bytes() - before;
		EXPECT_LT(0, tables);
		EXPECT_EQ(-ENOSPC, window_create(self->container, shift, size, &third));
		ASSERT_EQ(0, window_remove(self->container, start));
		EXPECT_EQ(before, locked_bytes());
		EXPECT_EQ(-EINVAL, window_remove(self->container, start));
		EXPECT_EQ(-ENXIO, map(self->container, self->memory, start, PAGE, READ));
	}
	EXPECT_EQ(-EINVAL, window_create(self->container, 16, 3 * PAGE, &start));
	EXPECT_EQ(-EINVAL, window_create(self->container, 16, 0, &start));
	EXPECT_EQ(before, locked_bytes());
}

TEST_F(vfio, the_first_window_can_be_made_anew)
{
	struct edu *edu = self->edu;
	__u64 start;

	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory);
	/* With what is mapped. */
	ASSERT_EQ(0, window_remove(self->container, 0));
	EXPECT_EQ(-ENXIO, map(self->container, self->memory, HERE, PAGE, READ));
	set_value(self->memory, 0);
	ASSERT_TRUE(edu_moves(edu->registers, HERE, sizeof(__u64), EDU_TO_MEMORY));
	EXPECT_EQ(0, value_at(self->memory));

	ASSERT_EQ(0, window_create(self->container, 16, 1ULL << 30, &start));
	EXPECT_EQ(0, start);
	ASSERT_EQ(0, map(self->container, self->parcel, PARCEL, PAGE, READ | WRITE));
	EXPECT_DOES_NOT_REACH(edu, HERE, self->memory);
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory);
}

/* Mappings. */

TEST_F(vfio, pages_that_are_mapped_are_reached_and_no_others)
{
	struct edu *edu = self->edu;

	for (int shift = 12; shift <= 16; shift += 4) {
		/* Smaller ones the kernel makes as large as a page of its own can tell of. */
		__u64 page = 1ULL << shift, size = PAGE / 8 * page, start, iova;
		/* With 4K three of a page of the kernel's. */
		void *before = self->memory, *mapped = before + page, *after = mapped + page;

		ASSERT_EQ(0, window_create(self->container, shift, size, &start));
		iova = start + 5 * page;
		ASSERT_EQ(0, map(self->container, mapped, iova, page, READ | WRITE));
		EXPECT_REACHES(edu, iova, mapped);
		EXPECT_REACHES(edu, iova + page - 8, mapped + page - 8);
		EXPECT_DOES_NOT_REACH(edu, iova - page, before);
		EXPECT_DOES_NOT_REACH(edu, iova + page, after);
		/* Another in its place. */
		ASSERT_EQ(0, map(self->container, after, iova, page, READ | WRITE));
		EXPECT_REACHES(edu, iova, after);
		EXPECT_DOES_NOT_REACH(edu, iova, mapped);
		ASSERT_EQ(0, unmap(self->container, iova, page));
		EXPECT_DOES_NOT_REACH(edu, iova, after);

		/* Up to the end of the window, by whole pages. */
		iova = start + size - page;
		ASSERT_EQ(0, map(self->container, mapped, iova, page, READ | WRITE));
		EXPECT_REACHES(edu, iova, mapped);
		EXPECT_EQ(-ENXIO, map(self->container, mapped, start + size, page, READ));
		EXPECT_EQ(-EINVAL, map(self->container, mapped, start, page / 2, READ));
		EXPECT_EQ(-EINVAL, map(self->container, mapped + page / 2, start, page, READ));
		/* The kernel returns 1 for this. */
		EXPECT_NE(0, map(self->container, mapped, start + page / 2, page, READ));
		EXPECT_EQ(-EINVAL, unmap(self->container, start, page / 2));
		/* With what is mapped. */
		ASSERT_EQ(0, window_remove(self->container, start));
		EXPECT_DOES_NOT_REACH(edu, iova, mapped);
		progress();
	}
}

TEST_F(vfio, what_is_mapped_to_be_read_is_not_written)
{
	struct edu *edu = self->edu;

	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ));
	EXPECT_REACH(READ, edu, HERE, self->memory);
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory);
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ));
	EXPECT_REACH(READ, edu, HERE, self->memory);
	/* PowerNV lets a device read what it may write. */
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, WRITE));
	EXPECT_EQ(WRITE, reach(edu, self->parcel, HERE, self->memory) & WRITE);

	EXPECT_EQ(-EINVAL, map(self->container, self->memory, THERE, PAGE, 0));
	EXPECT_EQ(-EINVAL, map(self->container, self->memory, THERE, PAGE, READ | 1U << 2));
	EXPECT_DOES_NOT_REACH(edu, THERE, self->memory);
}

/* The kernel base has no huge pages to give. */
TEST_F(vfio, a_large_page_needs_memory_of_large_pages)
{
	const __u64 large = 2UL << 20;
	void *memory = shared_memory(2 * large), *aligned;
	__u64 start;

	aligned = (void *)(((uintptr_t)memory + large - 1) & -large);
	ASSERT_EQ(0, register_memory(self->container, aligned, large));
	ASSERT_EQ(0, window_create(self->container, 21, 64 * large, &start));
	EXPECT_EQ(-EINVAL, map(self->container, aligned, start, large, READ | WRITE));
	EXPECT_DOES_NOT_REACH(self->edu, start, aligned);
	/* The same memory in small ones. */
	ASSERT_EQ(0, map(self->container, aligned, HERE, large, READ | WRITE));
	EXPECT_REACHES(self->edu, HERE + large - 8, aligned + large - 8);
	ASSERT_EQ(0, unmap(self->container, HERE, large));
	ASSERT_EQ(0, unregister_memory(self->container, aligned, large));
	munmap(memory, 2 * large);
}

/* The last lines show how far it reaches without VFIO. */
TEST_F(vfio, a_device_is_confined_until_it_is_given_back)
{
	struct afu_function *function = &self->edu[1].function;
	struct edu *edu = self->edu;
	__u64 there;
	size_t length;
	void *bar;

	set_value(self->memory, 0);
	there = BYPASS + physical(self->memory);
	ASSERT_NE(BYPASS, there);
	EXPECT_DOES_NOT_REACH(edu, there, self->memory);
	EXPECT_DOES_NOT_REACH(edu, there - BYPASS, self->memory);
	EXPECT_EQ(there, BYPASS + physical(self->memory));

	ASSERT_EQ(0, unbind_from(function, "vfio-pci"));
	ASSERT_TRUE(afu_enable(function, "1"));
	ASSERT_TRUE(make_master(function));
	bar = afu_map_bar(function, 0, &length);
	ASSERT_NE(MAP_FAILED, bar);
	set_value(self->parcel, 0x5ec2e7);
	set_value(self->memory, 0);
	ASSERT_TRUE(edu_moves(bar, BYPASS + physical(self->parcel), sizeof(__u64), 0));
	ASSERT_TRUE(edu_moves(bar, there, sizeof(__u64), EDU_TO_MEMORY));
	EXPECT_EQ(0x5ec2e7, value_at(self->memory));
	munmap(bar, length);
	EXPECT_TRUE(afu_enable(function, "0"));
	ASSERT_EQ(0, bind_to(function, "vfio-pci"));
}

/* Memory. */

TEST_F(vfio, memory_is_registered_before_it_is_mapped)
{
	void *memory = shared_memory(4 * PAGE);
	long before = locked_bytes();

	EXPECT_EQ(-EINVAL, map(self->container, memory, HERE, PAGE, READ));
	EXPECT_EQ(-ENOENT, unregister_memory(self->container, memory, 4 * PAGE));
	EXPECT_EQ(-EINVAL, register_memory(self->container, memory + 1, PAGE));
	EXPECT_EQ(-EINVAL, register_memory(self->container, memory, PAGE / 2));
	ASSERT_EQ(0, register_memory(self->container, memory, 2 * PAGE));
	EXPECT_EQ(before + 2 * PAGE, locked_bytes());
	EXPECT_EQ(-EBUSY, register_memory(self->container, memory, 2 * PAGE));
	/* Nor a part of it, or more. */
	EXPECT_EQ(-EINVAL, register_memory(self->container, memory, 4 * PAGE));
	EXPECT_EQ(-EINVAL, register_memory(self->container, memory + PAGE, PAGE));
	EXPECT_EQ(before + 2 * PAGE, locked_bytes());
	ASSERT_EQ(0, map(self->container, memory, HERE, 2 * PAGE, READ));
	EXPECT_EQ(-EINVAL, map(self->container, memory + 2 * PAGE, THERE, PAGE, READ));
	/* Mapping counts nothing more. */
	EXPECT_EQ(before + 2 * PAGE, locked_bytes());
	ASSERT_EQ(0, unmap(self->container, HERE, 2 * PAGE));
	ASSERT_EQ(0, unregister_memory(self->container, memory, 2 * PAGE));
	EXPECT_EQ(-EINVAL, map(self->container, memory, HERE, PAGE, READ));
	EXPECT_EQ(before, locked_bytes());
	munmap(memory, 4 * PAGE);
}

TEST_F(vfio, memory_and_tables_are_within_the_limit_of_locked_memory)
{
	void *memory = shared_memory(4 * PAGE);
	long before = locked_bytes(), tables;
	struct rlimit limit;
	__u64 start;

	ASSERT_EQ(0, window_create(self->container, 12, 1ULL << 28, &start));
	tables = locked_bytes() - before;
	ASSERT_LT(2 * PAGE, tables);
	ASSERT_EQ(0, window_remove(self->container, start));

	limit = (struct rlimit){ before + 3 * PAGE, before + tables };
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	/* Root may lock any amount. */
	ASSERT_EQ(0, register_memory(self->container, memory, 4 * PAGE));
	ASSERT_EQ(0, unregister_memory(self->container, memory, 4 * PAGE));
	ASSERT_EQ(0, seteuid(NOBODY));
	EXPECT_EQ(-ENOMEM, register_memory(self->container, memory, 4 * PAGE));
	EXPECT_EQ(before, locked_bytes());
	ASSERT_EQ(0, register_memory(self->container, memory, 3 * PAGE));
	EXPECT_EQ(-ENOMEM, register_memory(self->container, memory + 3 * PAGE, PAGE));
	ASSERT_EQ(0, unregister_memory(self->container, memory, 3 * PAGE));
	EXPECT_EQ(before, locked_bytes());

	EXPECT_EQ(-ENOMEM, window_create(self->container, 12, 1ULL << 28, &start));
	EXPECT_EQ(before, locked_bytes());
	limit.rlim_cur = before + tables;
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, window_create(self->container, 12, 1ULL << 28, &start));
	EXPECT_EQ(-ENOMEM, register_memory(self->container, memory, PAGE));
	ASSERT_EQ(0, window_remove(self->container, start));
	ASSERT_EQ(0, register_memory(self->container, memory, PAGE));
	EXPECT_EQ(before + PAGE, locked_bytes());
	ASSERT_EQ(0, seteuid(0));
	/* The teardown sees that the end of the container returns it. */
}

/* Groups. */

TEST_F(vfio, a_group_leaves_a_container_that_lives_and_comes_to_another)
{
	struct vfio_iommu_spapr_tce_info info;
	struct edu *edu = self->edu;
	int other = container_open();

	self->other = other;
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory);
	/* Not while the device is open. */
	EXPECT_EQ(-EBUSY, group_detach(edu->group));
	EXPECT_REACHES(edu, HERE, self->memory);
	edu_close(edu);
	ASSERT_EQ(0, group_detach(edu->group));
	EXPECT_EQ(0, locked_bytes());
	EXPECT_GT(0, windows(self->container, &info));
	EXPECT_GT(0, map(self->container, self->memory, HERE, PAGE, READ));

	/* It has nothing of the first one's there. */
	ASSERT_EQ(0, group_attach(edu->group, other));
	EXPECT_EQ(-EINVAL, group_attach(edu->group, self->container));
	ASSERT_EQ(0, take_iommu(other));
	ASSERT_EQ(0, register_memory(other, self->parcel, PAGES * PAGE));
	ASSERT_EQ(0, map(other, self->parcel, PARCEL, PAGE, READ | WRITE));
	ASSERT_TRUE(edu_open(edu));
	EXPECT_DOES_NOT_REACH(edu, HERE, self->memory);
	ASSERT_EQ(0, map(other, self->memory + PAGE, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory + PAGE);
	EXPECT_DOES_NOT_REACH(edu, HERE, self->memory);
	edu_close(edu);
	ASSERT_EQ(0, group_detach(edu->group));
	EXPECT_EQ(0, locked_bytes());
	close(edu->group);

	/* And back. */
	ASSERT_TRUE(start(edu, self->container, self->parcel));
	EXPECT_DOES_NOT_REACH(edu, HERE, self->memory + PAGE);
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory);
}

TEST_F(vfio, devices_of_two_pes_share_a_container_or_have_one_each)
{
	struct edu *edu = self->edu, *second = self->edu + 1;
	void *parcel = self->memory + 4 * PAGE;
	int other = container_open();

	self->other = other;
	second->group = group_open(&second->function);
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	ASSERT_EQ(0, group_attach(second->group, self->container));
	ASSERT_TRUE(edu_open(second));
	EXPECT_REACHES(edu, HERE, self->memory);
	EXPECT_REACHES(second, HERE, self->memory);
	ASSERT_EQ(0, unmap(self->container, HERE, PAGE));
	EXPECT_DOES_NOT_REACH(edu, HERE, self->memory);
	EXPECT_DOES_NOT_REACH(second, HERE, self->memory);

	/*
	 * The kernel empties the tables that they share when one of them leaves, a defect of
	 * it: the one that stays maps anew.
	 */
	edu_close(second);
	ASSERT_EQ(0, group_detach(second->group));
	ASSERT_EQ(0, map(self->container, self->parcel, PARCEL, PAGE, READ | WRITE));
	ASSERT_EQ(0, map(self->container, self->memory, HERE, PAGE, READ | WRITE));
	EXPECT_REACHES(edu, HERE, self->memory);

	ASSERT_EQ(0, group_attach(second->group, other));
	ASSERT_EQ(0, take_iommu(other));
	ASSERT_EQ(0, register_memory(other, self->parcel, PAGES * PAGE));
	ASSERT_EQ(0, map(other, parcel, PARCEL, PAGE, READ | WRITE));
	ASSERT_TRUE(edu_open(second));
	EXPECT_EQ(0, reach(second, parcel, HERE, self->memory));
	ASSERT_EQ(0, map(other, self->memory + PAGE, HERE, PAGE, READ | WRITE));
	EXPECT_EQ(READ | WRITE, reach(second, parcel, HERE, self->memory + PAGE));
	EXPECT_REACHES(edu, HERE, self->memory);
	EXPECT_DOES_NOT_REACH(edu, HERE, self->memory + PAGE);
	edu_close(second);
	ASSERT_EQ(0, group_detach(second->group));
	EXPECT_REACHES(edu, HERE, self->memory);
}

TEST_F(vfio, a_function_beside_one_with_a_driver_is_refused)
{
	struct afu_function sibling;
	struct edu *edu = self->edu;
	int rounds = 2;

	ASSERT_TRUE(find_sibling(&edu->function, &sibling));
	ASSERT_FALSE(afu_is_bound(&sibling));
	while (rounds--) {
		/* It is ours with all that is in the group. */
		EXPECT_EQ(-EBUSY, bind_to(&sibling, "virtio-pci"));
		EXPECT_FALSE(afu_is_bound(&sibling));
		EXPECT_REACHES(edu, PARCEL + 8, self->parcel + 1);
		edu_close(edu);
		close(edu->group);

		ASSERT_EQ(0, bind_to(&sibling, "virtio-pci"));
		edu->group = group_open(&edu->function);
		ASSERT_LE(0, edu->group);
		EXPECT_FALSE(group_is_viable(edu->group));
		EXPECT_EQ(-EPERM, group_attach(edu->group, self->container));
		ASSERT_EQ(0, unbind_from(&sibling, "virtio-pci"));
		EXPECT_TRUE(group_is_viable(edu->group));
		close(edu->group);
		ASSERT_TRUE(start(edu, self->container, self->parcel));
	}
	EXPECT_EQ(0, afu_override(&sibling, ""));
}

/* Errors of the bus. */

/* QEMU's host bridge finds no error, and its firmware injects none: all but that is tried. */
TEST_F(vfio, a_program_resets_the_pe_of_its_device)
{
	const __u32 resets[] = { VFIO_EEH_PE_RESET_HOT, VFIO_EEH_PE_RESET_FUNDAMENTAL };
	struct edu *edu = self->edu;

	if (ioctl(self->container, VFIO_CHECK_EXTENSION, VFIO_EEH) != 1)
		SKIP(return, "the kernel has no EEH");
	EXPECT_EQ(0, eeh(self->container, VFIO_EEH_PE_DISABLE));
	EXPECT_EQ(0, eeh(self->container, VFIO_EEH_PE_ENABLE));
	EXPECT_EQ(0, eeh(self->container, VFIO_EEH_PE_UNFREEZE_IO));
	EXPECT_EQ(0, eeh(self->container, VFIO_EEH_PE_UNFREEZE_DMA));
	EXPECT_EQ(-EINVAL, eeh(self->container, VFIO_EEH_PE_INJECT_ERR + 1));
	TH_LOG("to inject an error is %d here", eeh(self->container, VFIO_EEH_PE_INJECT_ERR));

	for (size_t i = 0; i < ARRAY_SIZE(resets); i++) {
		EXPECT_EQ(VFIO_EEH_PE_STATE_NORMAL, eeh(self->container, VFIO_EEH_PE_GET_STATE));
		EXPECT_EQ(1, is_master(&edu->function));
		ASSERT_EQ(0, eeh(self->container, resets[i]));
		/* Nothing can be set up while it lasts, and its registers must not be touched. */
		EXPECT_FALSE(edu_enable(edu));
		ASSERT_EQ(0, eeh(self->container, VFIO_EEH_PE_RESET_DEACTIVATE));
		EXPECT_EQ(VFIO_EEH_PE_STATE_NORMAL, eeh(self->container, VFIO_EEH_PE_GET_STATE));
		EXPECT_EQ(0, eeh(self->container, VFIO_EEH_PE_CONFIGURE));
		/* The device has forgotten; the host bridge has not. */
		EXPECT_EQ(0, is_master(&edu->function));
		ASSERT_TRUE(edu_enable(edu));
		EXPECT_REACHES(edu, PARCEL + 8, self->parcel + 1);
		progress();
	}
}

/* The one of the crate, which has uxive beside VFIO. */

#define EXAMPLE		"/bin/example-dma"

TEST_F(vfio, the_example_runs)
{
	pid_t pid = fork();

	if (!pid) {
		/* Its errors are told. */
		close(STDOUT_FILENO);
		execl(EXAMPLE, EXAMPLE, self->edu[1].function.address, NULL);
		_exit(127);
	}
	EXPECT_EQ(0, child_status(pid));
}

TEST_HARNESS_MAIN
