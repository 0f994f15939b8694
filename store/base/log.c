#include "store/base/log.h"
#include "store/base/log_journal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/base/utf8.h"

#define LOG_LINE_MAX 2048

/* Relaxed: a change of level need not be ordered with anything. */
static _Atomic int max_level = LOG_INFO;

static bool to_journal;

static const char *const level_names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warning",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

/* As syslog(3) numbers them. */
static const char priorities[] = {
	[LOG_ERROR] = '3',
	[LOG_WARN] = '4',
	[LOG_INFO] = '6',
	[LOG_DEBUG] = '7',
};

void log_detect_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, inode;
	struct stat st;

	to_journal = stream && sscanf(stream, "%llu:%llu", &dev, &inode) == 2 &&
		     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == inode;
}

static size_t put_time(char *out, size_t size)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return len + (size_t)snprintf(out + len, size - len, ".%03ldZ ", now.tv_nsec / 1000000);
}

/* One line, and text: neither a terminal nor a program that reads the log is to stumble. */
static void clean(char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n ? n : 1) {
		n = utf8_len(s + i, len - i);
		if (!n || s[i] == 0x7f)
			s[i] = '?';
		else if ((unsigned char)s[i] < ' ')
			s[i] = ' ';
	}
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	int saved_errno = errno;
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	size_t len = to_journal ? (size_t)snprintf(line, sizeof(line), "<%c>", priorities[level])
				: put_time(line, sizeof(line));
	len += (size_t)snprintf(line + len, sizeof(line) - len, "%s: ", level_names[level]);
	size_t start = len;
	va_start(ap, fmt);
	int n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 2);
	clean(line + start, len - start);
	line[len++] = '\n';
	/*
	 * One write, so that lines of several threads do not mix; there is nobody to report a
	 * failure to.
	 */
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
	errno = saved_errno;
}
