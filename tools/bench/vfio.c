// SPDX-License-Identifier: GPL-2.0
/* VFIO: an MSI of QEMU's `edu` device, bound to an eventfd. Its driver binds when it allocates. */
#include "bench.h"

#include <dirent.h>
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
#define EDU "0x11e8"

/* Registers of edu: a write raises an interrupt, and the next register acknowledges it. */
#define EDU_RAISE 0x60

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s: %m", path);
	close(fd);
}

static const char *find_edu(void)
{
	DIR *directory = opendir(DEVICES);
	static char address[256];
	struct dirent *entry;
	char path[300];

	if (!directory)
		die("%s: %m", DEVICES);
	while ((entry = readdir(directory))) {
		char id[sizeof(EDU)] = "";
		int fd;

		snprintf(path, sizeof(path), DEVICES "/%s/device", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, id, sizeof(EDU) - 1) > 0 && !strcmp(id, EDU)) {
			snprintf(address, sizeof(address), "%s", entry->d_name);
			closedir(directory);
			close(fd);
			return address;
		}
		close(fd);
	}
	die("there is no edu device");
}

/* Hands the device to vfio-pci. Returns its descriptor. */
static int open_edu(void)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	const char *address = find_edu();
	char path[300], link[300] = "", group_path[400];
	int container, group;

	snprintf(path, sizeof(path), DEVICES "/%s/driver_override", address);
	write_file(path, "vfio-pci");
	write_file("/sys/bus/pci/drivers_probe", address);

	snprintf(path, sizeof(path), DEVICES "/%s/iommu_group", address);
	must(readlink(path, link, sizeof(link) - 1));
	snprintf(group_path, sizeof(group_path), "/dev/vfio%s", strrchr(link, '/'));

	container = must(open("/dev/vfio/vfio", O_RDWR));
	group = must(open(group_path, O_RDWR));
	must(ioctl(group, VFIO_GROUP_GET_STATUS, &status));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("the group is not viable");
	must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	must(ioctl(container, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU));
	return must(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address));
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

/* Binds the MSI to an eventfd, or frees it if that is -1. */
static int set_irqs(int device, int eventfd)
{
	struct {
		struct vfio_irq_set set;
		int eventfd;
	} arg = {
		.set = {
			.argsz = eventfd < 0 ? sizeof(arg.set) : sizeof(arg),
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
				 (eventfd < 0 ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD),
			.index = VFIO_PCI_MSI_IRQ_INDEX,
			.count = eventfd < 0 ? 0 : 1,
		},
		.eventfd = eventfd,
	};

	return ioctl(device, VFIO_DEVICE_SET_IRQS, &arg);
}

void bench_vfio(void)
{
	struct op *enable = new_op("alloc_bind");
	struct op *disable = new_op("free");
	int device = open_edu();
	struct bell bell = {
		.kind = BY_REGISTER,
		.page = map_registers(device) + EDU_RAISE,
		.fd = must(eventfd(0, EFD_CLOEXEC)),
	};
	int result;

	for (int i = 0; i < N; i++) {
		MEASURE(enable, result = set_irqs(device, bell.fd));
		must(result);
		MEASURE(disable, result = set_irqs(device, -1));
		must(result);
	}
	must(set_irqs(device, bell.fd));
	measure_ring_read("ring_read", &bell, 1);
	measure_ring_blocked("ring_blocked_read", &bell, false);
	measure_ring_blocked("ring_blocked_poll", &bell, true);
}
