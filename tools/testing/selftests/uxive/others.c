// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: while programs have as many event queues as the limits allow, KVM has the
 * VPs that it needs: a guest still starts.
 *
 * For kernels whose kvm.ko and kvm-hv.ko are there, and hoarder.ko.
 */
#include "uxive_fixture.h"
#include <linux/kvm.h>

#define KVM_MODULE	"/modules/kvm.ko"
#define KVM_HV_MODULE	"/modules/kvm-hv.ko"

/* The driver takes so many VPs at a time. */
#define BLOCK		64

#define QUEUE_BYTES	(64L << 10)

#define GUESTS		20
#define GUEST_MEMORY	0x100000UL
#define PRIORITY	6

/* A guest of one CPU, which has an event queue. */
struct guest {
	int vm, xive, cpu;
	void *memory;
};

/* Sets an attribute of the guest's XIVE. */
static int xive_set(struct guest *guest, __u32 group, __u64 number, const void *value)
{
	struct kvm_device_attr attr = {
		.group = group, .attr = number, .addr = (uintptr_t)value,
	};

	return ux_ioctl(guest->xive, KVM_SET_DEVICE_ATTR, &attr);
}

/* As a VMM does it, up to where the guest could run. Returns 0 or the error of a step. */
static int guest_start(struct guest *guest, int kvm)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_XIVE };
	struct kvm_enable_cap papr = { .cap = KVM_CAP_PPC_PAPR };
	struct kvm_enable_cap irq = { .cap = KVM_CAP_PPC_IRQ_XIVE };
	struct kvm_userspace_memory_region memory = { .memory_size = GUEST_MEMORY };
	struct kvm_ppc_xive_eq queue = {
		.flags = KVM_XIVE_EQ_ALWAYS_NOTIFY, .qshift = 16, .qaddr = 0, .qtoggle = 1,
	};
	int ret;

	*guest = (struct guest){ .vm = -1, .xive = -1, .cpu = -1 };
	guest->memory = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guest->memory == MAP_FAILED)
		return -errno;
	memory.userspace_addr = (uintptr_t)guest->memory;
	guest->vm = ioctl(kvm, KVM_CREATE_VM, KVM_VM_PPC_HV);
	if (guest->vm < 0)
		return -errno;
	ret = ux_ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &memory) ?:
	      ux_ioctl(guest->vm, KVM_CREATE_DEVICE, &device);
	if (ret)
		return ret;
	guest->xive = device.fd;
	guest->cpu = ioctl(guest->vm, KVM_CREATE_VCPU, 0);
	if (guest->cpu < 0)
		return -errno;
	irq.args[0] = guest->xive;
	/* The second takes a block of VPs, one for each CPU that the guest may have. */
	return ux_ioctl(guest->cpu, KVM_ENABLE_CAP, &papr) ?:
	       ux_ioctl(guest->cpu, KVM_ENABLE_CAP, &irq) ?:
	       xive_set(guest, KVM_DEV_XIVE_GRP_EQ_CONFIG, PRIORITY, &queue);
}

static void guest_end(struct guest *guest)
{
	close(guest->cpu);
	close(guest->xive);
	close(guest->vm);
	munmap(guest->memory, GUEST_MEMORY);
}

/* How many VPs there are for others, seen by what hoarder.ko gets; -1 if that cannot be told. */
static long vps_for_others(void)
{
	long vps;

	if (module_load(HOARDER_MODULE))
		return -1;
	vps = file_number("/sys/module/hoarder/parameters/vps");
	return module_unload("hoarder") ? -1 : vps;
}

FIXTURE(others) {
	struct limits limits;
	struct use before;
	int kvm;
};

FIXTURE_SETUP(others)
{
	if (access(KVM_HV_MODULE, R_OK) || access(HOARDER_MODULE, R_OK))
		SKIP(return, "there is no kvm-hv.ko or no hoarder.ko for this kernel");
	ASSERT_TRUE(limits_save(&self->limits));
	self->before = use_now();
	ASSERT_EQ(0, module_load(KVM_MODULE));
	ASSERT_EQ(0, module_load(KVM_HV_MODULE));
	ASSERT_TRUE(becomes(access("/dev/kvm", R_OK | W_OK), 0));
	self->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->kvm);
}

FIXTURE_TEARDOWN(others)
{
	close(self->kvm);
	module_unload("hoarder");
	/* Guests may be on their way out. */
	EXPECT_TRUE(becomes(module_unload("kvm_hv"), 0));
	EXPECT_TRUE(becomes(module_unload("kvm"), 0));
	EXPECT_TRUE(limits_restore(&self->limits));
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TRUE(becomes(limit_get("queues"), 0));
}

/* How it is if all are taken. */
TEST_F(others, without_vps_no_guest_starts)
{
	struct guest guest;

	ASSERT_EQ(0, module_load(HOARDER_MODULE));
	EXPECT_EQ(-ENOSPC, guest_start(&guest, self->kvm));
	guest_end(&guest);
	ASSERT_EQ(0, module_unload("hoarder"));
	EXPECT_EQ(0, guest_start(&guest, self->kvm));
	guest_end(&guest);
}

TEST_F(others, guests_start_when_programs_have_all_queues)
{
	const struct rlimit files = { 20000, 20000 };
	long memory = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	long most = limit_get("max_queues");
	int fd, ret = 0, *fds = calloc(most, sizeof(*fds));
	struct guest guest[GUESTS];
	long count, before, left;

	ASSERT_TRUE(fds);
	if (memory / 5 * 4 < most * QUEUE_BYTES)
		SKIP(return, "the machine has no memory for so many queues");
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	/* The limit of the user would come first. */
	ASSERT_EQ(0, limit_set("max_queues_per_user", most + 1));
	ASSERT_EQ(0, limit_set("max_queue_bytes", memory));
	ASSERT_EQ(0, limit_set("max_queue_bytes_per_user", memory));
	/* The driver keeps a block of VPs. */
	fd = ux_open();
	ASSERT_EQ(0, ux_fill(fd, 1));
	close(fd);
	before = vps_for_others();
	ASSERT_LT(0, before);

	for (count = 0; ; count++) {
		fd = ux_open();
		ASSERT_LE(0, fd);
		ret = ux_fill(fd, 1);
		if (ret || count == most)
			break;
		fds[count] = fd;
		progress();
	}
	EXPECT_ERRNO(OCXL_IOCTL_IRQ_ALLOC, ENFILE, ret);
	EXPECT_EQ(most, count);
	close(fd);

	for (int i = 0; i < GUESTS; i++) {
		ASSERT_EQ(0, guest_start(&guest[i], self->kvm)) TH_LOG("guest %d", i);
		progress();
	}
	for (int i = 0; i < GUESTS; i++)
		guest_end(&guest[i]);
	/* The programs have theirs in as few blocks as can be, of which the driver had one. */
	left = vps_for_others();
	TH_LOG("%ld queues: of %ld VPs others have %ld", count, before, left);
	EXPECT_EQ(before + BLOCK - (count + BLOCK - 1) / BLOCK * BLOCK, left);
	EXPECT_LT(before / 2, left);
	for (long i = 0; i < count; i++) {
		close(fds[i]);
		progress();
	}
	free(fds);
}

TEST_HARNESS_MAIN
