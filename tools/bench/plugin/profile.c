// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin that counts, for each instruction of the emulated machine, how
 * often it ran between two marks that the measuring program makes. For every
 * such region it writes a line: the total, then address=count for each
 * instruction that ran. Made for one CPU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "qemu.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 7;

/* As the guest's bench.h has them: ori 20,20,0 and ori 21,21,0. */
#define MARK_BEGIN 0x62940000
#define MARK_END 0x62b50000

#define BUCKETS 0x10000

/* One per address; programs that share an address share it too. */
struct counter {
	struct counter *next;
	__u64 address;
	__u64 count;
};

static struct counter *buckets[BUCKETS];
static struct counter **ran;
static size_t ran_count, counter_count;
static int inside;
static FILE *out;

static struct counter *counter_of(__u64 address)
{
	struct counter **at = &buckets[(address >> 2) % BUCKETS];

	while (*at && (*at)->address != address)
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		ran = realloc(ran, ++counter_count * sizeof(*ran));
		if (!*at || !ran)
			abort();
		(*at)->address = address;
	}
	return *at;
}

static void execute(unsigned int cpu, void *data)
{
	struct counter *counter = data;

	(void)cpu;
	if (inside && !counter->count++)
		ran[ran_count++] = counter;
}

static void begin(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	inside = 1;
}

static void end(unsigned int cpu, void *data)
{
	__u64 total = 0;

	(void)cpu;
	(void)data;
	if (!inside)
		return;
	inside = 0;
	for (size_t i = 0; i < ran_count; i++)
		total += ran[i]->count;
	fprintf(out, "%llu", (unsigned long long)total);
	for (size_t i = 0; i < ran_count; i++) {
		fprintf(out, " %llx=%llu", (unsigned long long)ran[i]->address,
			(unsigned long long)ran[i]->count);
		ran[i]->count = 0;
	}
	fprintf(out, "\n");
	ran_count = 0;
}

static void translate(struct qemu_plugin_tb *tb, void *data)
{
	(void)data;
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		__u32 word = 0;

		qemu_plugin_insn_data(insn, &word, sizeof(word));
		if (word == MARK_END)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, end, 0, NULL);
		qemu_plugin_register_vcpu_insn_exec_cb(insn, execute, 0,
						       counter_of(qemu_plugin_insn_vaddr(insn)));
		if (word == MARK_BEGIN)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, 0, NULL);
	}
}

static void finish(void *data)
{
	(void)data;
	fclose(out);
}

/* The argument is out=FILE. */
EXPORT int qemu_plugin_install(__u64 id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return 1;
	out = fopen(argv[0] + 4, "w");
	if (!out)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate, NULL);
	qemu_plugin_register_atexit_cb(id, finish, NULL);
	return 0;
}
