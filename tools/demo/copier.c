// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that use an accelerator, here the model AFU: each opens a context of
 * it, has it copy data and checksum the copy, and sleeps until its interrupt
 * comes. Written against libocxl, which does not know that this is another
 * driver.
 *
 *	demo-copier
 */
#include <err.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <afu_model.h>
#include <libocxl.h>

#define PROCESSES 4
#define ROUNDS 32
#define LENGTH (64 << 10)
#define WATCHDOG_MS 10000
#define LITTLE OCXL_MMIO_LITTLE_ENDIAN

/* The work that a process has done, in memory shared with the one that prints it. */
struct report {
	pid_t process;
	unsigned int pasid;
	unsigned long commands;
	unsigned long bytes;
	unsigned long interrupts;
	unsigned long checksums;
};

static __u64 get(ocxl_mmio_h mmio, off_t offset)
{
	uint64_t value;

	if (ocxl_mmio_read64(mmio, offset, LITTLE, &value))
		errx(1, "cannot read MMIO at %#lx", offset);
	return value;
}

static void put(ocxl_mmio_h mmio, off_t offset, __u64 value)
{
	if (ocxl_mmio_write64(mmio, offset, LITTLE, value))
		errx(1, "cannot write MMIO at %#lx", offset);
}

/* Other data for each process and round. */
static __u64 word(unsigned int seed, unsigned int at)
{
	return ((__u64)seed << 32 | at) * 0x9e3779b97f4a7c15;
}

/* As zlib has it. */
static __u32 crc32(__u32 crc, __u64 data)
{
	static __u32 table[256];
	int n, bit;

	for (n = 0; !table[255] && n < 256; n++)
		for (table[n] = n, bit = 0; bit < 8; bit++)
			table[n] = table[n] >> 1 ^ (table[n] & 1 ? 0xedb88320 : 0);
	for (n = 0; n < 8; n++, data >>= 8)
		crc = crc >> 8 ^ table[(crc ^ data) & 0xff];
	return crc;
}

/* Has the AFU carry out a command, and sleeps until it has. Returns the result. */
static __u64 carry_out(ocxl_afu_h afu, ocxl_mmio_h mmio, ocxl_irq_h irq,
		       struct afu_command command, struct report *report)
{
	__u64 number = get(mmio, AFU_TAIL), *words = (__u64 *)&command;
	off_t entry = AFU_COMMAND + number % AFU_COMMANDS * sizeof(command);
	ocxl_event event;
	unsigned int n;

	command.handle = ocxl_irq_get_handle(afu, irq);
	for (n = 0; n < sizeof(command) / sizeof(*words); n++)
		put(mmio, entry + n * sizeof(*words), words[n]);
	put(mmio, AFU_TAIL, number + 1);

	if (ocxl_afu_event_check(afu, WATCHDOG_MS, &event, 1) != 1 ||
	    event.type != OCXL_EVENT_IRQ || event.irq.irq != irq)
		errx(1, "no interrupt came");
	if (get(mmio, entry + offsetof(struct afu_command, status)) != AFU_DONE)
		errx(1, "the AFU could not do it");
	report->commands++;
	report->interrupts += event.irq.count;
	return get(mmio, entry + offsetof(struct afu_command, result));
}

/* One of the programs. */
static void work(struct report *report)
{
	const struct afu_command copy = {
		.opcode = AFU_COPY, .destination = LENGTH, .length = LENGTH,
	};
	const struct afu_command checksum = {
		.opcode = AFU_CHECKSUM, .source = LENGTH, .length = LENGTH,
	};
	unsigned int round, at;
	ocxl_irq_h irqs[2];
	ocxl_mmio_h mmio;
	ocxl_afu_h afu;
	off_t data;

	if (ocxl_afu_open("IBM,MEMCPY3", &afu) || ocxl_afu_attach(afu, OCXL_ATTACH_FLAGS_NONE) ||
	    ocxl_mmio_map(afu, OCXL_PER_PASID_MMIO, &mmio))
		errx(1, "cannot use the AFU");
	for (at = 0; at < 2; at++) {
		if (ocxl_irq_alloc(afu, NULL, &irqs[at]))
			errx(1, "cannot allocate an interrupt");
		put(mmio, AFU_HANDLE + 8 * irqs[at], ocxl_irq_get_handle(afu, irqs[at]));
	}
	report->process = getpid();
	report->pasid = ocxl_afu_get_pasid(afu);
	data = get(mmio, AFU_DATA_OFFSET);

	for (round = 0; round < ROUNDS; round++) {
		unsigned int seed = getpid() * ROUNDS + round;
		__u32 crc = ~0;

		for (at = 0; at < LENGTH; at += 8)
			put(mmio, data + at, word(seed, at));
		carry_out(afu, mmio, irqs[0], copy, report);
		for (at = 0; at < LENGTH; at += 8) {
			if (get(mmio, data + LENGTH + at) != word(seed, at))
				errx(1, "what was copied differs at byte %u", at);
			crc = crc32(crc, word(seed, at));
		}
		report->bytes += LENGTH;
		if (carry_out(afu, mmio, irqs[1], checksum, report) == (__u32)~crc)
			report->checksums++;
	}
	ocxl_afu_close(afu);
}

int main(void)
{
	struct report *reports = mmap(NULL, PROCESSES * sizeof(*reports), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int n, status, failed = 0;

	if (reports == MAP_FAILED)
		err(1, "cannot share memory");
	for (n = 0; n < PROCESSES; n++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (!pid) {
			work(&reports[n]);
			return 0;
		}
	}
	for (n = 0; n < PROCESSES; n++)
		if (wait(&status) < 0 || status)
			failed = 1;

	printf("process  pasid  commands     bytes  interrupts  checksums\n");
	for (n = 0; n < PROCESSES; n++) {
		struct report *report = &reports[n];
		int good = report->checksums == ROUNDS;

		printf("%7d  %5u  %8lu  %8lu  %10lu  %s\n", report->process, report->pasid,
		       report->commands, report->bytes, report->interrupts,
		       good ? "ok" : "wrong");
		failed |= !good;
	}
	return failed;
}
