// SPDX-License-Identifier: GPL-2.0
/*
 * The only program of a Linux guest, its init: it takes the vectors of QEMU's device ivshmem
 * through VFIO, which any kernel for guests has, and counts them in the device's memory.
 * The guest's kernel knows nothing of the host's driver.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ivshmem.h"

#define DEVICES "/sys/bus/pci/devices"
/* Registers, vectors, memory. */
#define MEMORY_REGION VFIO_PCI_BAR2_REGION_INDEX

static void text(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t length = fd < 0 ? -1 : read(fd, buffer, size - 1);

	if (length < 0)
		err(1, "%s", path);
	buffer[length] = 0;
	close(fd);
}

static void tell(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, what, strlen(what)) < 0)
		err(1, "%s", path);
	close(fd);
}

/* The device's name in sysfs. */
static char *find(void)
{
	DIR *devices = opendir(DEVICES);
	struct dirent *entry;

	while (devices && (entry = readdir(devices))) {
		char path[300], value[16];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), DEVICES "/%s/device", entry->d_name);
		text(path, value, sizeof(value));
		if (!strcmp(value, "0x1110\n"))
			return entry->d_name;
	}
	errx(1, "there is no ivshmem");
}

/* The device, which VFIO has then. */
static int device(const char *name)
{
	int container = open("/dev/vfio/vfio", O_RDWR), group, fd;
	char path[300], target[300] = "";

	if (container < 0)
		err(1, "/dev/vfio/vfio");
	snprintf(path, sizeof(path), DEVICES "/%s/driver_override", name);
	tell(path, "vfio-pci");
	tell("/sys/bus/pci/drivers_probe", name);
	snprintf(path, sizeof(path), DEVICES "/%s/iommu_group", name);
	if (readlink(path, target, sizeof(target) - 1) < 0)
		err(1, "%s", path);
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(target, '/'));
	group = open(path, O_RDWR);
	if (group < 0)
		err(1, "%s", path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU))
		err(1, "VFIO has no container for %s", path);
	fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
	if (fd < 0)
		err(1, "VFIO does not hand over %s", name);
	return fd;
}

static struct shared *map_memory(int device)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = MEMORY_REGION };
	struct shared *shared;

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		err(1, "the device has no memory");
	shared = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);
	if (shared == MAP_FAILED)
		err(1, "cannot map the device's memory");
	return shared;
}

static void take_vectors(int device, struct pollfd *eventfds)
{
	union {
		struct vfio_irq_set set;
		char bytes[sizeof(struct vfio_irq_set) + VECTORS * sizeof(__s32)];
	} irqs = {
		.set = {
			.argsz = sizeof(irqs),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = VECTORS,
		},
	};

	for (int i = 0; i < VECTORS; i++) {
		eventfds[i].fd = eventfd(0, EFD_NONBLOCK);
		eventfds[i].events = POLLIN;
		memcpy(irqs.set.data + i * sizeof(__s32), &eventfds[i].fd, sizeof(__s32));
	}
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs))
		err(1, "cannot have the device's vectors");
}

int main(void)
{
	struct pollfd eventfds[VECTORS];
	struct shared *shared;
	__u64 command;
	int fd;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	if (mount("none", "/proc", "proc", 0, NULL) || mount("none", "/sys", "sysfs", 0, NULL) ||
	    mount("none", "/dev", "devtmpfs", 0, NULL))
		err(1, "cannot mount");
	fd = device(find());
	shared = map_memory(fd);
	take_vectors(fd, eventfds);
	printf("guest: ready\n");
	fflush(stdout);
	put(&shared->ready, 1);
	while ((command = get(&shared->command)) != STOP) {
		if (command == SLEEP && poll(eventfds, VECTORS, 100) < 0)
			err(1, "poll");
		for (int i = 0; i < VECTORS; i++) {
			__u64 count;

			if (read(eventfds[i].fd, &count, sizeof(count)) == sizeof(count))
				put(&shared->taken[i], get(&shared->taken[i]) + count);
			else if (errno != EAGAIN)
				err(1, "read");
		}
	}
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
