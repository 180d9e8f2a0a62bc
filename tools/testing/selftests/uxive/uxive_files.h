/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files of the kernel that are read and written whole, in sysfs, procfs and debugfs:
 * a line, a number, a line among many.
 */
#ifndef UXIVE_FILES_H
#define UXIVE_FILES_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include "kselftest.h"

/* A path, valid until this thread asks for the next one. */
__printf(1, 2) static inline const char *path_of(const char *format, ...)
{
	static __thread char path[PATH_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	return path;
}

/* Writes a text by one call: 0 or a negative errno. */
static inline int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = fd < 0 ? -errno : 0;
	ssize_t length = strlen(text), written;

	if (ret)
		return ret;
	written = write(fd, text, length);
	if (written != length)
		ret = written < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

/* Reads the first line of a file. Returns "" if that cannot be done. */
static inline const char *file_line(const char *path)
{
	static __thread char line[1024];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, line, sizeof(line) - 1);

	close(fd);
	line[length < 0 ? 0 : length] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return line;
}

/* The number that is all of a file; -1 if there is no such file, or something else in it. */
static inline long file_number(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), end = 0;
	char text[32] = {};
	long number = -1;

	if (read(fd, text, sizeof(text) - 1) < 1 || sscanf(text, "%ld\n%n", &number, &end) != 1 ||
	    text[end] || !strchr(text, '\n'))
		number = -1;
	close(fd);
	return number;
}

/*
 * The text after @key in the first line that begins with it; NULL if none does. It stays
 * valid until this thread asks for the next one.
 */
static inline const char *line_after(const char *path, const char *key)
{
	static __thread char line[512];
	const char *found = NULL;
	FILE *file = fopen(path, "r");

	while (file && !found && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			found = line + strlen(key);
	if (file)
		fclose(file);
	return found;
}

/* How many lines have the text; -1 if there is no line at all. */
static inline int lines_with(const char *path, const char *text)
{
	int count = 0, lines = 0;
	FILE *file = fopen(path, "r");
	char line[1024];

	for (; file && fgets(line, sizeof(line), file); lines++)
		count += !!strstr(line, text);
	if (file)
		fclose(file);
	return lines ? count : -1;
}

/* The entries of a directory. */
static inline int entries_of(const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* Opens the kernel's log, for lines that come from now on. */
static inline int log_open(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (lseek(log, 0, SEEK_END))
		abort();
	return log;
}

/*
 * Counts the lines with the text since the log was opened or read last; INT_MAX if there
 * were more lines than the log holds.
 */
static inline int log_lines(int log, const char *text)
{
	char record[4096];
	ssize_t length;
	int count = 0;

	while ((length = read(log, record, sizeof(record) - 1)) >= 0) {
		record[length] = '\0';
		count += !!strstr(record, text);
	}
	return errno == EAGAIN ? count : INT_MAX;
}

#endif /* UXIVE_FILES_H */
