/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for selftests of accelerators: the PCI functions of the model AFU,
 * binding and unbinding, their files, and the model's commands.
 */
#ifndef UXIVE_AFU_H
#define UXIVE_AFU_H

#include "uxive_selftest.h"

#include <endian.h>

#include <afu_model.h>

#define PCI_DEVICES	"/sys/bus/pci/devices/"
#define AFU_DRIVER	"/sys/bus/pci/drivers/uxive/"
#define AFU_NAME	"IBM,MEMCPY3"
#define AFU_MOST	2

/* A PCI function, "0000:00:00.0". */
struct afu_function {
	char address[16];
};

/* A file of a function, or of the bridge that it is behind; without a name its directory. */
static inline const char *function_path(const struct afu_function *function, const char *name)
{
	return path_of(PCI_DEVICES "%s/%s", function->address, name);
}

/* Finds functions of the vendor and device @id, "0x1af4 0x1110". Returns how many there are. */
static inline int pci_functions(const char *id, struct afu_function *functions, int most)
{
	DIR *directory = opendir(PCI_DEVICES);
	struct dirent *entry;
	int count = 0;

	while (directory && (entry = readdir(directory)) && count < most) {
		char found[64];

		snprintf(found, sizeof(found), "%.15s",
			 file_line(path_of(PCI_DEVICES "%s/vendor", entry->d_name)));
		snprintf(found + strlen(found), 20, " %.15s",
			 file_line(path_of(PCI_DEVICES "%s/device", entry->d_name)));
		if (!strcmp(found, id))
			snprintf(functions[count++].address, sizeof(functions->address), "%.15s",
				 entry->d_name);
	}
	if (directory)
		closedir(directory);
	return count;
}

/* The model AFUs, in the order of their addresses. */
static inline int afu_functions(struct afu_function *functions)
{
	int count = pci_functions("0x1af4 0x1110", functions, AFU_MOST);

	if (count == 2 && strcmp(functions[0].address, functions[1].address) > 0) {
		struct afu_function first = functions[1];

		functions[1] = functions[0];
		functions[0] = first;
	}
	return count;
}

/* Sets the only driver that may be bound; "" allows those whose table has the function. */
static inline int afu_override(const struct afu_function *function, const char *driver)
{
	char line[64];

	snprintf(line, sizeof(line), "%s\n", driver);
	return file_write(function_path(function, "driver_override"), line);
}

/* 0 or a negative errno: that of the driver if it refuses. */
static inline int afu_bind(const struct afu_function *function)
{
	int ret = afu_override(function, "uxive");

	return ret ? ret : file_write(AFU_DRIVER "bind", function->address);
}

/* Clears the override, so that loading the driver again does not bind it. */
static inline int afu_unbind(const struct afu_function *function)
{
	int ret = afu_override(function, "");

	return ret ? ret : file_write(AFU_DRIVER "unbind", function->address);
}

/* The node of the AFU, or of a file of it in sysfs. */
static inline const char *afu_path(const struct afu_function *function, const char *attribute)
{
	static __thread char path[PATH_MAX];

	if (attribute)
		snprintf(path, sizeof(path), "/sys/class/ocxl/" AFU_NAME ".%s.0/%s",
			 function->address, attribute);
	else
		snprintf(path, sizeof(path), "/dev/ocxl/" AFU_NAME ".%s.0", function->address);
	return path;
}

static inline int afu_open(const struct afu_function *function)
{
	int fd = open(afu_path(function, NULL), O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int afu_attach(int fd)
{
	struct ocxl_ioctl_attach arg = {};

	return ux_ioctl(fd, OCXL_IOCTL_ATTACH, &arg);
}

static inline int afu_metadata(int fd, struct ocxl_ioctl_metadata *metadata)
{
	memset(metadata, 0xff, sizeof(*metadata));
	return ux_ioctl(fd, OCXL_IOCTL_GET_METADATA, metadata);
}

/* An interrupt that is a message only; its slot is returned there if that is wanted. */
static inline int afu_ims_alloc(int fd, int efd, __u64 *offset, __u32 *slot)
{
	struct uxive_ims_alloc arg = { .size = sizeof(arg), .eventfd = efd };
	int ret = ux_ioctl(fd, UXIVE_IOC_IMS_ALLOC, &arg);

	*offset = arg.offset;
	if (slot)
		*slot = arg.slot;
	return ret;
}

/* The MMIO of a context, all of it; MAP_FAILED if that is refused. */
static inline void *afu_map(int fd)
{
	struct ocxl_ioctl_metadata metadata;

	if (afu_metadata(fd, &metadata))
		return MAP_FAILED;
	return mmap(NULL, metadata.pp_mmio_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* A program's context: attached, with its MMIO. */
struct afu_context {
	int fd;
	__u32 pasid;
	size_t length;
	void *mmio;
};

static inline bool afu_context_open(struct afu_context *context,
				    const struct afu_function *function)
{
	struct ocxl_ioctl_metadata metadata;

	*context = (struct afu_context){ .fd = afu_open(function), .mmio = MAP_FAILED };
	if (context->fd < 0 || afu_attach(context->fd) || afu_metadata(context->fd, &metadata))
		return false;
	context->pasid = metadata.pasid;
	context->length = metadata.pp_mmio_size;
	context->mmio = afu_map(context->fd);
	return context->mmio != MAP_FAILED;
}

static inline void afu_context_close(struct afu_context *context)
{
	if (context->mmio != MAP_FAILED)
		munmap(context->mmio, context->length);
	if (context->fd >= 0)
		close(context->fd);
}

/* The MMIO for all contexts; MAP_FAILED if that is refused. */
static inline void *afu_map_global(const struct afu_function *function)
{
	int fd = open(afu_path(function, "global_mmio_area"), O_RDWR | O_CLOEXEC);
	void *global = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	return global;
}

/* Single accesses, which the compiler leaves as they are. */

static inline __u64 mmio_read64(const void *mmio, size_t offset)
{
	return le64toh(__atomic_load_n((const __u64 *)(mmio + offset), __ATOMIC_RELAXED));
}

static inline __u32 mmio_read32(const void *mmio, size_t offset)
{
	return le32toh(__atomic_load_n((const __u32 *)(mmio + offset), __ATOMIC_RELAXED));
}

static inline void mmio_write64(void *mmio, size_t offset, __u64 value)
{
	__atomic_store_n((__u64 *)(mmio + offset), htole64(value), __ATOMIC_RELAXED);
}

static inline void mmio_write32(void *mmio, size_t offset, __u32 value)
{
	__atomic_store_n((__u32 *)(mmio + offset), htole32(value), __ATOMIC_RELAXED);
}

/* Has the model misbehave. Returns whether it has understood. */
static inline bool afu_misbehave(void *global, __u32 how, __u64 argument, __u64 argument2)
{
	__u32 go = mmio_read32(global, AFU_GO) + 1;

	mmio_write32(global, AFU_MISBEHAVE, how);
	mmio_write64(global, AFU_ARGUMENT, argument);
	mmio_write64(global, AFU_ARGUMENT2, argument2);
	__sync_synchronize();
	mmio_write32(global, AFU_GO, go);
	return becomes(mmio_read32(global, AFU_GO_DONE), go);
}

/* The driver's last question whether the AFU is there. @memory: its BAR 2. */
static inline __u32 afu_ping(const void *memory)
{
	return mmio_read32(memory, 0x108);
}

/* Submits a command. Returns its number. */
static inline __u64 afu_submit(void *mmio, const struct afu_command *command)
{
	__u64 number = mmio_read64(mmio, AFU_TAIL);
	size_t entry = AFU_COMMAND + number % AFU_COMMANDS * sizeof(*command);

	mmio_write32(mmio, entry + offsetof(struct afu_command, opcode), command->opcode);
	mmio_write32(mmio, entry + offsetof(struct afu_command, queue), command->queue);
	mmio_write64(mmio, entry + offsetof(struct afu_command, source), command->source);
	mmio_write64(mmio, entry + offsetof(struct afu_command, destination), command->destination);
	mmio_write64(mmio, entry + offsetof(struct afu_command, length), command->length);
	mmio_write64(mmio, entry + offsetof(struct afu_command, value), command->value);
	mmio_write64(mmio, entry + offsetof(struct afu_command, handle), command->handle);
	mmio_write64(mmio, entry + offsetof(struct afu_command, status), AFU_PENDING);
	__sync_synchronize();
	mmio_write64(mmio, AFU_TAIL, number + 1);
	return number;
}

/* Waits until a command is completed: behind those of all other processes. Returns its status. */
static inline __u64 afu_wait(void *mmio, __u64 number)
{
	size_t entry = AFU_COMMAND + number % AFU_COMMANDS * sizeof(struct afu_command);
	long end = clock_ms() + WATCHDOG_MS;

	for (; mmio_read64(mmio, AFU_HEAD) <= number; usleep(1000))
		if (clock_ms() >= end)
			return AFU_PENDING;
	return mmio_read64(mmio, entry + offsetof(struct afu_command, status));
}

/* Submits one, waits, and returns its status. */
static inline __u64 afu_do(void *mmio, const struct afu_command *command)
{
	return afu_wait(mmio, afu_submit(mmio, command));
}

/* Has the AFU raise a slot. Returns whether it did. */
static inline bool afu_raise(void *mmio, __u32 slot)
{
	struct afu_command command = { .opcode = AFU_RAISE, .value = slot };

	return afu_do(mmio, &command) == AFU_DONE;
}

/* A function as root sees it, with a driver or without. */

/* Lets the BARs of a function without a driver be read and written. */
static inline bool afu_enable(const struct afu_function *function, const char *on)
{
	return !file_write(function_path(function, "enable"), on);
}

/* A BAR, all of it; MAP_FAILED if that is refused. */
static inline void *afu_map_bar(const struct afu_function *function, int bar, size_t *length)
{
	int fd = open(path_of(PCI_DEVICES "%s/resource%d", function->address, bar),
		      O_RDWR | O_CLOEXEC);
	struct stat stat;
	void *map;

	*length = 0;
	if (fd < 0 || fstat(fd, &stat))
		return MAP_FAILED;
	*length = stat.st_size;
	map = mmap(NULL, *length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map;
}

static inline bool afu_is_bound(const struct afu_function *function)
{
	return !access(function_path(function, "driver"), F_OK);
}

/* Binds it, whether a test that was killed has left it bound or not. */
static inline int afu_bind_anew(const struct afu_function *function)
{
	if (afu_is_bound(function))
		afu_unbind(function);
	return afu_bind(function);
}

/* Errors of a host bridge. */

#define EEH_DEBUG	"/sys/kernel/debug/powerpc/"
/*
 * The kernel logs where it has found the error. Outside these lines the testbed
 * complains of that.
 */
#define ERRORS		"uxive selftest: an error of a host bridge is injected"
#define NO_MORE_ERRORS	"uxive selftest: no more error of a host bridge is injected"

/*
 * Makes the kernel believe that the host bridge found an error of the function's PE.
 * The kernel recovers the PE, or gives it up after more than @most such errors.
 */
static inline bool afu_pe_failed(const struct afu_function *function, const char *most)
{
	unsigned int domain, pe;
	char line[64];

	if (sscanf(function->address, "%x:", &domain) != 1 ||
	    sscanf(file_line(function_path(function, "eeh_pe_config_addr")), "0x%x", &pe) != 1)
		return false;
	snprintf(line, sizeof(line), "%x:%x", domain, pe);
	return log_line(ERRORS) && !file_write(EEH_DEBUG "eeh_max_freezes", most) &&
	       !file_write(EEH_DEBUG "eeh_force_recover", line);
}

/* Resources of the machine that a driver holds as long as it is bound. */
struct afu_held {
	int irqs;
	int regions;
	int nodes;
};

static inline struct afu_held afu_held(void)
{
	struct afu_held held = {
		.irqs = linux_irqs(), .regions = lines_with("/proc/iomem", " : uxive\n"),
	};
	DIR *class = opendir("/sys/class/ocxl");
	struct dirent *entry;

	while (class && (entry = readdir(class)))
		held.nodes += entry->d_name[0] != '.';
	if (class)
		closedir(class);
	return held;
}

/* Whether no more is held than @before. Some resources are freed a little later. */
static inline bool afu_holds_no_more(const struct afu_held *before)
{
	struct afu_held now = afu_held();

	return becomes((now = afu_held(), !memcmp(&now, before, sizeof(now))), true);
}

#endif /* UXIVE_AFU_H */
