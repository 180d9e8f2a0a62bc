// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO: an MSI of QEMU's `edu` device, and an MSI-X of the function that is an
 * AFU to uxive, bound to an eventfd. VFIO binds when it allocates.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"

/* Registers of edu: a write raises an interrupt, and the next register acknowledges it. */
#define EDU_RAISE 0x60

struct function {
	const char *address;
	int container, group, device;
};

/* Hands the first function with that device id to vfio-pci. It has no driver. */
static struct function take(const char *id)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct function function = { .address = pci_find(id) };
	char path[300], link[300] = "", group_path[400];

	pci_bind(function.address, "vfio-pci");

	snprintf(path, sizeof(path), DEVICES "/%s/iommu_group", function.address);
	must(readlink(path, link, sizeof(link) - 1));
	snprintf(group_path, sizeof(group_path), "/dev/vfio%s", strrchr(link, '/'));

	function.container = must(open("/dev/vfio/vfio", O_RDWR));
	function.group = must(open(group_path, O_RDWR));
	must(ioctl(function.group, VFIO_GROUP_GET_STATUS, &status));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("the group is not viable");
	must(ioctl(function.group, VFIO_GROUP_SET_CONTAINER, &function.container));
	must(ioctl(function.container, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU));
	function.device = must(ioctl(function.group, VFIO_GROUP_GET_DEVICE_FD, function.address));
	return function;
}

/* Leaves a function to the drivers that are made for it. */
static void give_back(const struct function *function)
{
	close(function->device);
	close(function->group);
	close(function->container);
	pci_unbind(function->address, "vfio-pci");
}

static void *map_registers(int device)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	__u16 command;

	must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config));
	must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar));
	must(pread(device, &command, sizeof(command), config.offset + PCI_COMMAND));
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	must(pwrite(device, &command, sizeof(command), config.offset + PCI_COMMAND));
	return must(mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset));
}

/* Binds the first interrupt of a kind to an eventfd, or frees it if that is -1. */
static int set_irqs(int device, __u32 kind, int eventfd)
{
	struct {
		struct vfio_irq_set set;
		int eventfd;
	} arg = {
		.set = {
			.argsz = eventfd < 0 ? sizeof(arg.set) : sizeof(arg),
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
				 (eventfd < 0 ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD),
			.index = kind,
			.count = eventfd < 0 ? 0 : 1,
		},
		.eventfd = eventfd,
	};

	return ioctl(device, VFIO_DEVICE_SET_IRQS, &arg);
}

static void measure_set_irqs(const char *enable_name, const char *disable_name, int device,
			     __u32 kind, int eventfd)
{
	struct op *enable = new_op(enable_name);
	struct op *disable = new_op(disable_name);
	int result;

	for (int i = 0; i < N; i++) {
		MEASURE(enable, result = set_irqs(device, kind, eventfd));
		must(result);
		MEASURE(disable, result = set_irqs(device, kind, -1));
		must(result);
	}
}

void bench_vfio(void)
{
	struct function edu = take(PCI_EDU);
	struct bell bell = {
		.kind = BY_REGISTER,
		.page = map_registers(edu.device) + EDU_RAISE,
		.fd = must(eventfd(0, EFD_CLOEXEC)),
	};

	measure_set_irqs("alloc_bind", "free", edu.device, VFIO_PCI_MSI_IRQ_INDEX, bell.fd);
	must(set_irqs(edu.device, VFIO_PCI_MSI_IRQ_INDEX, bell.fd));
	measure_ring_read("ring_read", &bell, 1);
	measure_ring_blocked("ring_blocked_read", &bell, false);
	measure_ring_blocked("ring_blocked_poll", &bell, true);
}

/*
 * VFIO's counterpart of uxive's message slot. It is always the first one: on
 * this machine VFIO cannot add a vector to MSI-X that is on, it frees all and
 * begins anew.
 */
void bench_vfio_afu(void)
{
	struct function afu = take(PCI_AFU);
	int event = must(eventfd(0, EFD_CLOEXEC));

	measure_set_irqs("ims_alloc_bind", "ims_free", afu.device, VFIO_PCI_MSIX_IRQ_INDEX, event);
	give_back(&afu);
}
