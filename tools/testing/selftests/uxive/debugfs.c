// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: root, and nobody else, sees the driver's state in debugfs, correct at
 * any time, and does not disturb it by looking.
 */
#include "uxive_faults.h"
#include "uxive_fixture.h"
#include <sys/fsuid.h>
#include <sys/prctl.h>

#define ENTRIES		16384
#define COLUMNS		12
#define SPARES		256
#define SOMEBODY	1000

/* The type of a column. Lower case: or "-". */
enum {
	NUMBER = 'N', NUMBER_OR_NONE = 'n',
	HEX = 'X', HEX_OR_NONE = 'x',	/* 0x before the digits */
	PQ = 'P', WORD = 'W',
	REST = 'R',	/* all that is left of the line */
};

static const struct table {
	const char *name, *heading, *columns;
} tables[] = {
	{ "contexts", "context pid uid state drain irqs quarantined max-irqs comm\n",
	  "NNNWWNNNR" },
	/* A context without an AFU has no messages: afu_ims.c has those. */
	{ "slots",
	  "context slot offset lisn chip eisn pq eventfd rings state message message-pq\n",
	  "NNXXNNPWnWWW" },
	{ "queues", "context vp drain armed index generation high-water deferred\n", "NXWWnnnn" },
	{ "quarantine", "context slot lisn vp reason\n", "NnxxR" },
	{ "reserve", "chip spare\n", "NN" },
	{ "exports", "context id start count\n", "NNNN" },
};

static const char words[] = " open closing kernel user bound none live quarantined yes no - ";

static bool is_column(const char *text, char kind)
{
	size_t length = strlen(text);
	char word[32];

	if ((kind == NUMBER_OR_NONE || kind == HEX_OR_NONE) && !strcmp(text, "-"))
		return true;
	switch (kind) {
	case NUMBER:
	case NUMBER_OR_NONE:
		return length && strspn(text, "0123456789") == length;
	case HEX:
	case HEX_OR_NONE:
		return length > 2 && !strncmp(text, "0x", 2) &&
		       strspn(text + 2, "0123456789abcdef") == length - 2;
	case PQ:
		return length == 2 && strspn(text, "01") == 2;
	case WORD:
		return (size_t)snprintf(word, sizeof(word), " %s ", text) < sizeof(word) &&
		       length && strstr(words, word);
	default:
		return strspn(text, "\n\t") == 0;
	}
}

/* An address of the kernel has 16 digits. Nothing in the tables has as many. */
static bool has_address(const char *line)
{
	for (size_t digits; *line; line += digits + 1) {
		digits = strspn(line, "0123456789abcdefABCDEF");
		if (digits >= 16)
			return true;
		if (!line[digits])
			break;
	}
	return false;
}

struct row {
	char text[256];
	char *at[COLUMNS];
};

static long number(const struct row *row, int column)
{
	return strtol(row->at[column], NULL, 0);
}

/* Splits a line in the columns of @table; false if it is no such line. */
static bool row_read(const struct table *table, const char *line, struct row *row)
{
	int columns = strlen(table->columns), i;
	char *next = row->text;

	if (has_address(line) || strlen(line) >= sizeof(row->text) || !strchr(line, '\n'))
		return false;
	snprintf(row->text, sizeof(row->text), "%.*s", (int)strcspn(line, "\n"), line);
	for (i = 0; next && i < columns; i++) {
		row->at[i] = next;
		next = table->columns[i] == REST ? NULL : strchr(next, ' ');
		if (next)
			*next++ = 0;
		if (!is_column(row->at[i], table->columns[i]))
			return false;
	}
	return i == columns && !next;
}

/* The one line of @name whose first columns are @context and, unless that is negative, @slot. */
static bool row_of(const char *name, long context, long slot, struct row *row)
{
	const struct table *table = tables;
	char start[64], line[256];
	int length = snprintf(start, sizeof(start), "%ld ", context);

	if (slot >= 0)
		snprintf(start + length, sizeof(start) - length, "%ld ", slot);
	while (strcmp(table->name, name))
		table++;
	return debug_lines(name, start, line, sizeof(line)) == 1 && row_read(table, line, row);
}

#define EXPECT_COLUMN(row, column, text)	EXPECT_STREQ(text, (row)->at[column])

/* How many lines of @name a context has. */
static int lines_of(const char *name, long context)
{
	char start[32];

	snprintf(start, sizeof(start), "%ld ", context);
	return debug_lines(name, start, NULL, 0);
}

static int table_open(const char *name, int flags)
{
	return open(path_of(DEBUG_UXIVE "/%s", name), flags | O_CLOEXEC);
}

/* All of a file from its beginning, read @step bytes at a time, with a 0 behind; NULL on errors. */
static char *read_all(int fd, size_t step, size_t *length)
{
	size_t size = 1 << 16;
	char *text = malloc(size);
	ssize_t got;

	*length = 0;
	if (lseek(fd, 0, SEEK_SET))
		return NULL;
	while ((got = read(fd, text + *length, step)) > 0) {
		*length += got;
		if (size - *length <= step)
			text = realloc(text, size *= 2);
	}
	text[*length] = 0;
	return got ? NULL : text;
}

/*
 * Whether @text is a table as it should be: the heading, then lines in the order
 * of their first and, in tables with slots, second column, each once. Returns their
 * number, -1 if not.
 */
static int text_check(const struct table *table, char *text)
{
	char *end, *line = text, kept;
	bool good = true;
	long last = -1;
	int count = -1;

	while (good && *line) {
		struct row row;
		long at;

		end = strchr(line, '\n');
		if (!end)
			break;
		kept = end[1];
		end[1] = 0;
		if (count < 0) {
			good = !strcmp(line, table->heading);
		} else {
			good = row_read(table, line, &row);
			at = good ? number(&row, 0) * (ENTRIES + 1) : -1;
			/* Lines without a slot come after all slots. */
			if (good && !strncmp(table->heading, "context slot ", 13))
				at += strcmp(row.at[1], "-") ? number(&row, 1) : ENTRIES;
			good = good && at > last;
			last = at;
		}
		if (!good)
			ksft_print_msg("%s: %s", table->name, line);
		end[1] = kept;
		line = end + 1;
		count++;
	}
	return good && !*line ? count : -1;
}

/* The same of all of a table, read @step bytes at a time. */
static int table_check(const struct table *table, size_t step)
{
	int fd = table_open(table->name, O_RDONLY);
	size_t length;
	char *text = read_all(fd, step, &length);
	int count = text ? text_check(table, text) : -1;

	free(text);
	close(fd);
	return count;
}

/* The escalations that Linux has counted on all CPUs for a context; -1 if there is no line. */
static long interrupts_of(long context)
{
	char name[32], line[1024], *at, *end;
	FILE *file = fopen("/proc/interrupts", "r");
	long sum = -1;

	snprintf(name, sizeof(name), " uxive-%ld\n", context);
	while (file && sum < 0 && fgets(line, sizeof(line), file)) {
		size_t length = strlen(line);

		if (length < strlen(name) || strcmp(line + length - strlen(name), name))
			continue;
		sum = 0;
		for (at = strchr(line, ':') + 1;; at = end) {
			long count = strtol(at, &end, 10);

			if (end == at)
				break;
			sum += count;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

FIXTURE(debugfs) {
};

FIXTURE_SETUP(debugfs)
{
	catch_touches();
}

FIXTURE_TEARDOWN(debugfs)
{
}

TEST_F(debugfs, root_only)
{
	struct stat stat;
	int status;
	pid_t child;
	int dir = open(DEBUG_UXIVE, O_PATH | O_DIRECTORY);

	ASSERT_LE(0, dir);
	ASSERT_EQ(0, fstat(dir, &stat));
	EXPECT_EQ(0, stat.st_uid);
	EXPECT_EQ(0, stat.st_mode & 0022);
	EXPECT_EQ(-1, openat(dir, "new", O_CREAT | O_WRONLY, 0600));
	EXPECT_EQ(-1, unlinkat(dir, "slots", 0));
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		ASSERT_EQ(0, fstatat(dir, tables[i].name, &stat, 0));
		EXPECT_EQ(S_IFREG | 0400, stat.st_mode) TH_LOG("%s", tables[i].name);
		EXPECT_EQ(0, stat.st_uid);
	}
	/* Root may open what it may not write. */
	status = table_open("contexts", O_WRONLY);
	EXPECT_EQ(-1, write(status, "1", 1));
	close(status);

	/* An ordinary user, who has got even past the directories. */
	child = fork();
	if (!child) {
		int refused = 0;

		if (setgid(SOMEBODY) || setuid(SOMEBODY))
			_exit(100);
		for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
			refused += openat(dir, tables[i].name, O_RDONLY) < 0 && errno == EACCES;
		_exit(refused);
	}
	EXPECT_EQ(ARRAY_SIZE(tables), child_status(child));
	close(dir);
}

TEST_F(debugfs, each_has_its_heading)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		EXPECT_LE(0, table_check(&tables[i], 4096));
}

/* A process of SOMEBODY that is called @name and has a context with @irqs interrupts. */
struct owner {
	pid_t pid;
	long context;
	int release;	/* closed, it ends */
};

static void owner_process(const char *name, int irqs, int ready, int release)
{
	char byte;
	long id;
	int fd;

	prctl(PR_SET_NAME, name);
	/* The node is for root to open. */
	if (seteuid(SOMEBODY) || setfsuid(0) != SOMEBODY)
		_exit(1);
	fd = ux_open();
	if (seteuid(0) || fd < 0 || ux_fill(fd, irqs))
		_exit(2);
	/* The table shows the process that opened it, with its name at that time. */
	prctl(PR_SET_NAME, "another");
	id = ux_context(fd);
	if (write(ready, &id, sizeof(id)) != sizeof(id))
		_exit(3);
	_exit(read(release, &byte, 1));
}

static bool owner_start(struct owner *owner, const char *name, int irqs)
{
	int ready[2], release[2];
	bool started;

	if (pipe(ready) || pipe(release))
		return false;
	owner->pid = fork();
	if (!owner->pid) {
		close(release[1]);
		owner_process(name, irqs, ready[1], release[0]);
	}
	close(ready[1]);
	close(release[0]);
	owner->release = release[1];
	started = read(ready[0], &owner->context, sizeof(long)) == sizeof(long);
	close(ready[0]);
	return started;
}

static int owner_end(struct owner *owner)
{
	close(owner->release);
	return child_status(owner->pid);
}

TEST_F(debugfs, a_context_is_shown_with_who_opened_it)
{
	/* The name is last, and always on one line. */
	static const struct {
		const char *name, *shown;
	} names[] = {
		{ "owner", "owner" },
		{ "two  words", "two  words" },
		{ " 1 2 open user ", " 1 2 open user " },
		{ "", "" },
		{ "fifteen letters, cut", "fifteen letters" },
		{ "a\nb\rc\td", "a\\nb\\rc\\td" },
		{ "\x01\x7f\x80\xff", "\\x01\\x7f\\x80\\xff" },
		{ "%s%n%p", "%s%n%p" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct owner owner;
		struct row row;

		ASSERT_TRUE(owner_start(&owner, names[i].name, i));
		ASSERT_TRUE(row_of("contexts", owner.context, -1, &row)) TH_LOG("%zu", i);
		EXPECT_EQ(owner.pid, number(&row, 1));
		EXPECT_EQ(SOMEBODY, number(&row, 2));
		EXPECT_COLUMN(&row, 3, "open");
		EXPECT_COLUMN(&row, 4, i ? "kernel" : "-");
		EXPECT_EQ((long)i, number(&row, 5));
		EXPECT_EQ(0, number(&row, 6));
		EXPECT_EQ((long)SLOTS, number(&row, 7));
		EXPECT_COLUMN(&row, 8, names[i].shown);
		EXPECT_EQ((int)i, lines_of("slots", owner.context));
		EXPECT_EQ(i ? 1 : 0, lines_of("queues", owner.context));
		EXPECT_EQ(0, owner_end(&owner));
	}
}

/* As all contexts have it, and as each file says it. */
TEST_F(debugfs, the_memory_of_queues_is_that_of_the_queues)
{
	const __u32 slots[] = { 0, 1, SLOTS, SLOTS + 1, 65536 };
	long bytes = 0;
	int owner = ux_open(), fd[2 * ARRAY_SIZE(slots)];

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		__u32 count = slots[i / 2];

		fd[i] = count ? ux_range(owner, count) : ux_open();
		ASSERT_EQ(bytes, limit_get("queue_bytes"));
		ASSERT_EQ(0, i % 2 ? ux_user_drain(fd[i], -1) : ux_fill(fd[i], 1));
		EXPECT_EQ(count > SLOTS ? 2 << 20 : 64 << 10,
			  fdinfo_number(fd[i], "uxive-queue-bytes"));
		bytes += fdinfo_number(fd[i], "uxive-queue-bytes");
		EXPECT_EQ(1, lines_of("queues", ux_context(fd[i])));
	}
	EXPECT_EQ(bytes, limit_get("queue_bytes"));
	EXPECT_EQ((long)ARRAY_SIZE(fd), limit_get("queues"));
	EXPECT_EQ(0, fdinfo_number(owner, "uxive-queue-bytes"));
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	close(owner);
	EXPECT_TRUE(becomes(limit_get("queue_bytes"), 0));
}

TEST_F(debugfs, contexts_come_in_the_order_of_their_numbers)
{
	int fd[20];
	long last = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = ux_open();
		ASSERT_LE(0, fd[i]);
		/* Closes some that are not neighbours. */
		if (i % 3 == 2)
			close(fd[i / 3]);
	}
	for (size_t i = ARRAY_SIZE(fd) / 3; i < ARRAY_SIZE(fd); i++) {
		long id = ux_context(fd[i]);

		EXPECT_LT(last, id);
		last = id;
		EXPECT_EQ(1, lines_of("contexts", id));
		ASSERT_EQ(0, ux_fill(fd[i], 2));
	}
	/* table_check() looks at their order. */
	EXPECT_EQ(14, table_check(&tables[0], 4096));
	EXPECT_EQ(28, table_check(&tables[1], 4096));
	EXPECT_EQ(14, table_check(&tables[2], 4096));
	for (size_t i = ARRAY_SIZE(fd) / 3; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	EXPECT_EQ(0, table_check(&tables[0], 4096));
}

/* A context that the kernel drains, whose interrupts are bound to one eventfd. */
FIXTURE(kernel) {
	struct bells bells;
};

#define IRQS	64

FIXTURE_SETUP(kernel)
{
	catch_touches();
	ASSERT_TRUE(bells_open(&self->bells, IRQS));
	ASSERT_LT(0, self->bells.id);
}

FIXTURE_TEARDOWN(kernel)
{
	bells_close(&self->bells);
	for (size_t i = 0; i < 4; i++)
		EXPECT_EQ(0, lines_of(tables[i].name, self->bells.id));
	EXPECT_EQ(-1, interrupts_of(self->bells.id));
}

/* Rings each of @count, and waits until all of them have counted. */
static bool ring_all(void *pages, int efd, int count)
{
	long counted = 0, more;

	for (int i = 0; i < count; i++)
		ring(pages + i * STRIDE);
	while (counted < count && (more = event_wait(efd)))
		counted += more;
	return counted == count;
}

TEST_F(kernel, slots_are_those_that_the_program_has)
{
	struct ux_irq irqs[IRQS];
	struct uxive_info info;
	struct row row;

	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(7)));
	ASSERT_EQ(IRQS - 1, ux_irqs(self->bells.fd, irqs, IRQS));
	ASSERT_EQ(0, ux_info(self->bells.fd, &info));
	EXPECT_EQ(IRQS - 1, lines_of("slots", self->bells.id));
	EXPECT_EQ((int)info.irqs_total, debug_lines("slots", "", NULL, 0));
	ASSERT_TRUE(row_of("contexts", self->bells.id, -1, &row));
	EXPECT_EQ(getpid(), number(&row, 1));
	EXPECT_EQ(0, number(&row, 2));
	EXPECT_EQ((long)info.irqs, number(&row, 5));
	EXPECT_EQ((long)info.max_irqs, number(&row, 7));
	for (int i = 0; i < IRQS - 1; i++) {
		int slot = i < 7 ? i : i + 1;

		ASSERT_TRUE(row_of("slots", self->bells.id, slot, &row));
		EXPECT_EQ(irqs[i].offset, (__u64)number(&row, 2));
		EXPECT_EQ(irqs[i].lisn, (__u64)number(&row, 3));
		EXPECT_EQ(slot, number(&row, 5));
		EXPECT_COLUMN(&row, 6, "00");
		EXPECT_COLUMN(&row, 7, "bound");
		EXPECT_EQ(0, number(&row, 8));
		EXPECT_COLUMN(&row, 9, "live");
	}
}

TEST_F(kernel, rings_are_counted)
{
	struct row row;

	for (int n = 1; n <= 100; n++) {
		ring(self->bells.window + STRIDE);
		ASSERT_EQ(1, event_wait(self->bells.efd));
		ASSERT_TRUE(row_of("slots", self->bells.id, 1, &row));
		ASSERT_EQ(n, number(&row, 8));
		ASSERT_STREQ("00", row.at[6]);
	}
	/* Also those that go nowhere. */
	ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(1), -1));
	for (int n = 101; n <= 110; n++) {
		ring(self->bells.window + STRIDE);
		ASSERT_TRUE(becomes((row_of("slots", self->bells.id, 1, &row), number(&row, 8)),
				    n));
		EXPECT_COLUMN(&row, 7, "none");
	}
	ASSERT_EQ(0, ux_bind(self->bells.fd, slot_offset(1), self->bells.efd));
	ASSERT_TRUE(row_of("slots", self->bells.id, 1, &row));
	EXPECT_COLUMN(&row, 7, "bound");
	EXPECT_EQ(110, number(&row, 8));
	/* No other did, and one that comes in its place begins anew. */
	ASSERT_TRUE(row_of("slots", self->bells.id, 2, &row));
	EXPECT_EQ(0, number(&row, 8));
	ASSERT_EQ(0, ux_free(self->bells.fd, slot_offset(1)));
	EXPECT_EQ(IRQS - 1, lines_of("slots", self->bells.id));
	ASSERT_EQ(0, ux_fill(self->bells.fd, 1));
	ASSERT_TRUE(row_of("slots", self->bells.id, 1, &row));
	EXPECT_EQ(0, number(&row, 8));
	EXPECT_COLUMN(&row, 7, "none");
}

TEST_F(kernel, escalations_have_a_line_in_proc_interrupts)
{
	struct row row;

	EXPECT_EQ(0, interrupts_of(self->bells.id));
	for (int n = 1; n <= 20; n++) {
		ring(self->bells.window + n * STRIDE);
		ASSERT_EQ(1, event_wait(self->bells.efd));
		/* debugfs takes the handler's lock, so the handler is done after this. */
		ASSERT_TRUE(row_of("queues", self->bells.id, -1, &row));
		ASSERT_EQ(n, interrupts_of(self->bells.id));
	}
}

TEST_F(kernel, the_place_in_the_queue_wraps)
{
	struct row row;
	long n = 0;

	ASSERT_TRUE(row_of("queues", self->bells.id, -1, &row));
	EXPECT_LT(0, number(&row, 1));
	EXPECT_COLUMN(&row, 2, "kernel");
	EXPECT_COLUMN(&row, 3, "yes");
	EXPECT_EQ(0, number(&row, 4));
	EXPECT_EQ(1, number(&row, 5));
	EXPECT_EQ(0, number(&row, 6));
	EXPECT_EQ(0, number(&row, 7));

	/* One at a time the queue is empty before each. */
	for (; n < 10; n++) {
		ring(self->bells.window);
		ASSERT_EQ(1, event_wait(self->bells.efd));
		ASSERT_TRUE(row_of("queues", self->bells.id, -1, &row));
		EXPECT_EQ(n + 1, number(&row, 4));
		EXPECT_EQ(1, number(&row, 6));
		EXPECT_COLUMN(&row, 3, "yes");
	}
	for (; n < 2 * ENTRIES + 100; n += IRQS) {
		ASSERT_TRUE(ring_all(self->bells.window, self->bells.efd, IRQS));
		progress();
		if (n % 1024 > IRQS && (n + IRQS) % ENTRIES > 2 * IRQS)
			continue;
		ASSERT_TRUE(row_of("queues", self->bells.id, -1, &row));
		ASSERT_EQ((n + IRQS) % ENTRIES, number(&row, 4));
		ASSERT_EQ((n + IRQS) / ENTRIES % 2 ? 0 : 1, number(&row, 5));
	}
	ASSERT_TRUE(row_of("queues", self->bells.id, -1, &row));
	EXPECT_LE(1, number(&row, 6));
	EXPECT_GE(n, number(&row, 6));
	EXPECT_EQ(ux_deferred(self->bells.fd), number(&row, 7));
	ASSERT_TRUE(row_of("slots", self->bells.id, IRQS - 1, &row));
	EXPECT_EQ((n - 10) / IRQS, number(&row, 8));
	TH_LOG("%ld rings", n);
}

/* How many slots a context has: from the first on, and all of @chip; -1 if not. */
static int slots_of_chip(long context, long chip)
{
	FILE *file = fopen(DEBUG_UXIVE "/slots", "r");
	char start[32], line[256];
	struct row row;
	int count = 0;

	snprintf(start, sizeof(start), "%ld ", context);
	while (file && count >= 0 && fgets(line, sizeof(line), file)) {
		if (strncmp(line, start, strlen(start)))
			continue;
		if (row_read(&tables[1], line, &row) && number(&row, 1) == count &&
		    number(&row, 4) == chip)
			count++;
		else
			count = -1;
	}
	if (file)
		fclose(file);
	return file ? count : -1;
}

/* Each source says which chip it is of, and the reserve of that chip is less by it. */
TEST_F(debugfs, interrupts_come_from_the_reserve_of_their_chip)
{
	__u64 offsets[SPARES];
	int chips = 0;
	long chip, spare;

	for (chip = 0; chip < 256; chip++) {
		int fd = ux_open();
		struct row row;

		if (ux_alloc_on(fd, chip, &offsets[0]) == -ENODEV) {
			EXPECT_EQ(0, lines_of("reserve", chip));
			close(fd);
			continue;
		}
		chips++;
		progress();
		for (int i = 1; i < SPARES; i++)
			ASSERT_EQ(0, ux_alloc_on(fd, chip, &offsets[i]));
		EXPECT_EQ(SPARES, slots_of_chip(ux_context(fd), chip));
		/*
		 * The sources return to the chip's reserve, so that it is full
		 * and gets no new ones.
		 */
		close(fd);
		ASSERT_TRUE(row_of("reserve", chip, -1, &row));
		spare = number(&row, 1);
		EXPECT_EQ(SPARES, spare);
		fd = ux_open();
		for (int i = 0; i < 10; i++)
			ASSERT_EQ(0, ux_alloc_on(fd, chip, &offsets[i]));
		ASSERT_TRUE(row_of("reserve", chip, -1, &row));
		EXPECT_EQ(spare - 10, number(&row, 1));
		close(fd);
		ASSERT_TRUE(row_of("reserve", chip, -1, &row));
		EXPECT_EQ(spare, number(&row, 1));
	}
	EXPECT_LT(0, chips);
	EXPECT_EQ(chips, table_check(&tables[4], 4096));
}

TEST_F(debugfs, a_user_drained_queue_is_shown_as_the_program_has_it)
{
	struct uxive_drain drain;
	struct row row;
	long id;

	ASSERT_TRUE(drain_open(&drain, ux_open(), 4));
	id = ux_context(drain.fd);
	ASSERT_TRUE(row_of("contexts", id, -1, &row));
	EXPECT_COLUMN(&row, 4, "user");
	EXPECT_EQ(4, number(&row, 5));

	for (int round = 0; round < 3; round++) {
		ASSERT_TRUE(row_of("queues", id, -1, &row));
		EXPECT_COLUMN(&row, 2, "user");
		EXPECT_COLUMN(&row, 3, "yes");
		/* The kernel does not read it, and so does not know. */
		for (int i = 4; i < 8; i++)
			EXPECT_COLUMN(&row, i, "-");
		ASSERT_TRUE(row_of("slots", id, 2, &row));
		EXPECT_COLUMN(&row, 6, "00");
		EXPECT_COLUMN(&row, 7, "-");
		EXPECT_COLUMN(&row, 8, "-");

		/* An event that is not ended yet, and one that came since. */
		ring(uxive_drain_trigger(&drain, 2));
		ASSERT_EQ(1, event_wait(drain.eventfd));
		ASSERT_TRUE(row_of("slots", id, 2, &row));
		EXPECT_COLUMN(&row, 6, "10");
		ASSERT_TRUE(row_of("queues", id, -1, &row));
		EXPECT_COLUMN(&row, 3, "no");
		ring(uxive_drain_trigger(&drain, 2));
		ASSERT_TRUE(row_of("slots", id, 2, &row));
		EXPECT_COLUMN(&row, 6, "11");
		ASSERT_TRUE(row_of("slots", id, 1, &row));
		EXPECT_COLUMN(&row, 6, "00");

		/* The second is sent when the first is ended: looking has not changed that. */
		for (int i = 0; i < 2; i++) {
			EXPECT_EQ(2, uxive_drain_try_next(&drain));
			uxive_drain_eoi(&drain, 2);
			ASSERT_TRUE(row_of("slots", id, 2, &row));
			EXPECT_COLUMN(&row, 6, i ? "00" : "10");
		}
		EXPECT_EQ(-1, uxive_drain_try_next(&drain));
		ASSERT_EQ(0, ux_arm(drain.fd));
	}
	drain_close(&drain);
	for (size_t i = 0; i < 4; i++)
		EXPECT_EQ(0, lines_of(tables[i].name, id));
}

TEST_F(kernel, looking_does_not_disturb)
{
	struct uxive_drain drain;
	struct ringer ringers[2] = {
		{ .bells = &self->bells, .timeout = WATCHDOG_MS },
		{ .drain = &drain, .timeout = WATCHDOG_MS },
	};
	const int looks = fewer_with_lockdep(1000, 200);
	struct row row;

	ASSERT_TRUE(drain_open(&drain, ux_open(), 1));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, ringer_start(&ringers[i]));
	for (int n = 0; n < looks; n++) {
		EXPECT_EQ(IRQS + 1, table_check(&tables[1], 4096));
		EXPECT_EQ(2, table_check(&tables[2], 4096));
		progress();
		/* One CPU alone would not go on ringing by itself. */
		sched_yield();
	}
	for (int i = 0; i < 2; i++) {
		ringer_stop(&ringers[i]);
		EXPECT_FALSE(ringers[i].lost);
		EXPECT_LT(0, ringers[i].rings);
	}
	EXPECT_EQ(-1, uxive_drain_try_next(&drain));
	ASSERT_TRUE(row_of("slots", self->bells.id, 0, &row));
	EXPECT_EQ(ringers[0].rings, number(&row, 8));
	TH_LOG("%d looks, %ld and %ld rings meanwhile", looks, ringers[0].rings, ringers[1].rings);
	drain_close(&drain);
}

TEST_F(debugfs, a_long_table_is_whole_however_it_is_read)
{
	static const size_t steps[] = { 100, 4096, 60000 };
	char *whole = NULL, *again, part[300];
	const int slots = fewer_with_lockdep(SLOTS, SLOTS / 4);
	int fd = ux_open(), table = -1;
	size_t length, other;

	ASSERT_EQ(0, ux_fill(fd, slots));
	/* The last time the same file once more, from the beginning. */
	for (size_t i = 0; i <= ARRAY_SIZE(steps); i++) {
		if (i < ARRAY_SIZE(steps)) {
			close(table);
			table = table_open("slots", O_RDONLY);
		}
		again = read_all(table, steps[i % ARRAY_SIZE(steps)], &other);
		ASSERT_NE(NULL, again);
		progress();
		if (whole) {
			EXPECT_EQ(length, other);
			EXPECT_EQ(0, strcmp(whole, again));
			free(again);
		} else {
			whole = again;
			length = other;
		}
	}
	/* In ascending order, so none twice. */
	EXPECT_EQ(slots, text_check(&tables[1], whole));
	progress();
	EXPECT_LT(16 * sysconf(_SC_PAGESIZE) / (sysconf(_SC_PAGESIZE) / 4096), (long)length);
	for (int i = 0; i <= 8; i++) {
		size_t at = length / 8 * i, left = length - at;

		if (left > sizeof(part))
			left = sizeof(part);
		/* A read may end at a record. */
		for (size_t got = 0; got < left;) {
			ssize_t more = pread(table, part, left - got, at + got);

			ASSERT_LT(0, more) TH_LOG("at %zu", at + got);
			ASSERT_EQ(0, memcmp(whole + at + got, part, more));
			got += more;
		}
	}
	EXPECT_EQ(0, pread(table, part, sizeof(part), length));
	EXPECT_EQ(0, pread(table, part, sizeof(part), 2 * length));
	close(table);
	free(whole);
	close(fd);
	EXPECT_EQ(0, table_check(&tables[1], 4096));
}

/* Does all that changes a table, until killed. */
static void *change(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	for (;;) {
		int fd = ux_open(), efd = event_new(), irqs = 1 + rand_r(&seed) % 8;
		void *pages;

		if (rand_r(&seed) % 4 == 0)
			ux_user_drain(fd, -1);
		ux_fill(fd, irqs);
		pages = ux_map(fd, IRQ_BASE, irqs * STRIDE);
		for (int n = 0; n < 16; n++) {
			int slot = rand_r(&seed) % irqs;

			ux_bind(fd, slot_offset(slot), rand_r(&seed) % 2 ? efd : -1);
			touch(pages + slot * STRIDE);
			if (rand_r(&seed) % 4 == 0)
				ux_free(fd, slot_offset(slot));
			if (rand_r(&seed) % 4 == 0)
				ux_fill(fd, 1);
		}
		munmap(pages, irqs * STRIDE);
		close(efd);
		close(fd);
	}
	return NULL;
}

static pid_t changer(int number)
{
	pid_t pid = fork();
	pthread_t thread;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "a name 1 2 -");
		catch_touches();
		pthread_create(&thread, NULL, change, (void *)(number + 1000L));
		change((void *)(long)number);
	}
	return pid;
}

TEST_F(debugfs, tables_can_be_read_while_all_changes)
{
	const int passes = fewer_with_lockdep(300, 100);
	enum { CHANGERS = 3 };
	long seen[ARRAY_SIZE(tables)] = {};
	pid_t changers[CHANGERS], reader;
	int number = 0;

	for (int i = 0; i < CHANGERS; i++)
		changers[i] = changer(number++);
	/* Another reader, in steps that end within lines. */
	reader = fork();
	if (!reader) {
		for (int n = 0; n < passes; n++) {
			for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
				if (table_check(&tables[i], 100) < 0)
					_exit(1);
			progress();
		}
		_exit(0);
	}
	for (int n = 0; n < passes; n++) {
		for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
			int lines = table_check(&tables[i], 4096);

			EXPECT_LE(0, lines) TH_LOG("%s, pass %d", tables[i].name, n);
			seen[i] += lines;
			progress();
		}
		if (n % 10 == 9) {
			kill(changers[n / 10 % CHANGERS], SIGKILL);
			EXPECT_EQ(-SIGKILL, child_status(changers[n / 10 % CHANGERS]));
			changers[n / 10 % CHANGERS] = changer(number++);
		}
	}
	EXPECT_EQ(0, child_status(reader));
	for (int i = 0; i < CHANGERS; i++) {
		kill(changers[i], SIGKILL);
		EXPECT_EQ(-SIGKILL, child_status(changers[i]));
	}
	TH_LOG("%d passes: %ld contexts, %ld slots, %ld queues, %d processes", passes, seen[0],
	       seen[1], seen[2], number);
	for (int i = 0; i < 3; i++)
		EXPECT_LT(0, seen[i]);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, table_check(&tables[i], 4096));
}

TEST_F(debugfs, an_open_table_keeps_the_module)
{
	char byte;
	int fd, dir;

	if (access("/sys/module/uxive/refcnt", F_OK))
		SKIP(return, "the driver is built in");
	fd = table_open("slots", O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_ERRNO(delete_module, EWOULDBLOCK, module_unload("uxive"));
	EXPECT_EQ(1, read(fd, &byte, 1));
	EXPECT_EQ('c', byte);
	close(fd);

	/* The directory does not. */
	dir = open(DEBUG_UXIVE, O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, dir);
	EXPECT_TRUE(becomes(module_unload("uxive"), 0));
	EXPECT_EQ(-1, openat(dir, "slots", O_RDONLY));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, access(DEBUG_UXIVE, F_OK));
	close(dir);
	ASSERT_EQ(0, module_load(UXIVE_MODULE));
	for (size_t i = 0; i < 4; i++)
		EXPECT_EQ(0, table_check(&tables[i], 4096));
}

TEST_HARNESS_MAIN
