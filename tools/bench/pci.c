// SPDX-License-Identifier: GPL-2.0
/* PCI functions, and which driver they are bound to. */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define DRIVERS "/sys/bus/pci/drivers"

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s: %m", path);
	close(fd);
}

const char *pci_find(const char *wanted)
{
	DIR *directory = opendir(DEVICES);
	static char address[256];
	struct dirent *entry;
	char path[300];

	if (!directory)
		die("%s: %m", DEVICES);
	while ((entry = readdir(directory))) {
		char id[sizeof("0x0000")] = "";
		int fd;

		snprintf(path, sizeof(path), DEVICES "/%s/device", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, id, sizeof(id) - 1) > 0 && !strcmp(id, wanted)) {
			snprintf(address, sizeof(address), "%s", entry->d_name);
			closedir(directory);
			close(fd);
			return address;
		}
		close(fd);
	}
	die("there is no PCI device %s", wanted);
}

void pci_bind(const char *address, const char *driver_name)
{
	char path[300];

	snprintf(path, sizeof(path), DEVICES "/%s/driver_override", address);
	write_file(path, driver_name);
	snprintf(path, sizeof(path), DRIVERS "/%s/bind", driver_name);
	write_file(path, address);
}

void pci_unbind(const char *address, const char *driver_name)
{
	char path[300];

	snprintf(path, sizeof(path), DRIVERS "/%s/unbind", driver_name);
	write_file(path, address);
	snprintf(path, sizeof(path), DEVICES "/%s/driver_override", address);
	write_file(path, "\n");
}
