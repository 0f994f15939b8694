#include "tools/cli/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <wchar.h>

size_t text_utf8(const char *s, size_t len, uint32_t *cp)
{
	const uint8_t *p = (const uint8_t *)s;
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n;

	if (p[0] < 0x80) {
		*cp = p[0];
		return 1;
	}
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if ((p[0] & 0xf0) == 0xe0)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (len < n)
		return 0;
	uint32_t c = p[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*cp = c;
	return n;
}

bool text_is_utf8(const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint32_t cp;
		size_t n = text_utf8(s + i, len - i, &cp);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

/* Controls (C0, DEL, C1), line and paragraph separators, marks that reorder text. */
static bool is_harmful(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x061c || cp == 0x200e ||
	       cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

int text_escape(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint32_t cp = 0;
		size_t n = text_utf8(s + i, len - i, &cp);
		int r;
		if (n == 0)
			r = buf_printf(out, "\\x%02x", (uint8_t)s[i]);
		else if (!is_harmful(cp))
			r = buf_append(out, s + i, n);
		else if (cp == '\n')
			r = buf_append_str(out, "\\n");
		else if (cp == '\t')
			r = buf_append_str(out, "\\t");
		else if (cp < 0x80)
			r = buf_printf(out, "\\x%02x", (unsigned)cp);
		else
			r = buf_printf(out, "\\u{%x}", (unsigned)cp);
		if (r < 0)
			return r;
		i += n ? n : 1;
	}
	return 0;
}

/* The character at s: its bytes, at least one, and its columns. */
static size_t next_char(const char *s, size_t len, size_t *width)
{
	uint32_t cp = 0;
	size_t n = text_utf8(s, len, &cp);
	int w = n > 1 ? wcwidth((wchar_t)cp) : 1;

	*width = w < 0 ? 1 : (size_t)w;
	return n ? n : 1;
}

size_t text_width(const char *s, size_t len)
{
	size_t width = 0, w;

	for (size_t i = 0; i < len; width += w)
		i += next_char(s + i, len - i, &w);
	return width;
}

int text_shorten(struct buf *out, const char *s, size_t len, size_t width)
{
	size_t total = text_width(s, len), at = 0, head_end = 0, tail_start = len, w;

	if (total <= width)
		return buf_append(out, s, len);
	size_t room = width ? width - 1 : 0, head = room - room / 2, tail = room / 2;
	for (size_t i = 0; i < len; at += w) {
		size_t n = next_char(s + i, len - i, &w);
		if (at + w <= head)
			head_end = i + n;
		/* What follows begins with no mark that belongs to the character before. */
		if (tail_start == len && w > 0 && total - at <= tail)
			tail_start = i;
		i += n;
	}
	if (buf_append(out, s, head_end) < 0 || (width && buf_append_str(out, "\xe2\x80\xa6") < 0))
		return -ENOMEM;
	return buf_append(out, s + tail_start, len - tail_start);
}

void text_size(uint64_t bytes, char out[TEXT_SIZE_MAX])
{
	static const char unit[] = "KMGTPE";
	double v = (double)bytes;
	int u = -1;

	if (bytes < 1024) {
		snprintf(out, TEXT_SIZE_MAX, "%u B", (unsigned)bytes);
		return;
	}
	while (v >= 1023.5 && u < (int)sizeof(unit) - 2) {
		v /= 1024;
		u++;
	}
	if (u < 0) { /* 1024 exactly never gets here, but rounding is not to be trusted */
		v /= 1024;
		u = 0;
	}
	snprintf(out, TEXT_SIZE_MAX, v < 9.95 ? "%.1f %ciB" : "%.0f %ciB", v, unit[u]);
}

/* The number at s (decimal, digits and at most one point) and where it ends. */
static int parse_decimal(const char *s, double *out, const char **end)
{
	size_t n = strspn(s, "0123456789.");
	char *stop;

	if (n == 0 || s[0] == '.')
		return -EINVAL;
	*out = strtod(s, &stop);
	if (stop != s + n)
		return -EINVAL;
	*end = stop;
	return 0;
}

int text_parse_count(const char *s, uint64_t *out)
{
	if (*s == '\0' || s[strspn(s, "0123456789")] != '\0')
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(s, NULL, 10);
	if (errno == ERANGE)
		return -ERANGE;
	*out = v;
	return 0;
}

int text_parse_size(const char *s, uint64_t *out)
{
	static const char unit[] = "KMGTPE";
	const char *end;
	double v;

	if (text_parse_count(s, out) == 0)
		return 0;
	int r = parse_decimal(s, &v, &end);
	if (r < 0)
		return r;
	if (*end != '\0' && *end != 'B') {
		char c = *end >= 'a' && *end <= 'z' ? (char)(*end - 'a' + 'A') : *end;
		const char *u = strchr(unit, c);
		if (!u)
			return -EINVAL;
		for (const char *p = unit; p <= u; p++)
			v *= 1024;
		end++;
		if (*end == 'i')
			end++;
	}
	if (*end == 'B' || *end == 'b')
		end++;
	if (*end != '\0')
		return -EINVAL;
	if (v >= 18446744073709551616.0)
		return -ERANGE;
	*out = (uint64_t)v;
	return 0;
}

int text_parse_duration(const char *s, int64_t *out_seconds)
{
	static const struct {
		char letter;
		int seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
	const char *end;
	double v;
	int r = parse_decimal(s, &v, &end);

	if (r < 0)
		return r;
	if (*end != '\0') {
		size_t i = 0;
		while (i < ARRAY_SIZE(units) && units[i].letter != *end)
			i++;
		if (i == ARRAY_SIZE(units) || end[1] != '\0')
			return -EINVAL;
		v *= units[i].seconds;
	}
	if (v > 1e15)
		return -ERANGE;
	*out_seconds = (int64_t)v;
	return 0;
}

void text_time(int64_t unix_seconds, char out[TEXT_TIME_MAX])
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(out, TEXT_TIME_MAX, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(out, TEXT_TIME_MAX, "@%lld", (long long)unix_seconds);
}

void text_time_iso(int64_t unix_seconds, uint32_t nsec, char out[TEXT_TIME_MAX])
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;
	size_t n = 0;

	if (gmtime_r(&t, &tm))
		n = strftime(out, TEXT_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	if (n == 0 || n > 24) {
		snprintf(out, TEXT_TIME_MAX, "@%lld", (long long)unix_seconds);
		return;
	}
	if (nsec)
		snprintf(out + n, TEXT_TIME_MAX - n, ".%09uZ", (unsigned)(nsec % 1000000000u));
	else
		snprintf(out + n, TEXT_TIME_MAX - n, "Z");
}

int text_parse_time_iso(const char *s, int64_t *out_unix_seconds)
{
	struct tm tm = { 0 };
	const char *end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end)
		return -EINVAL;
	if (*end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	if (strcmp(end, "Z") != 0)
		return -EINVAL;
	*out_unix_seconds = (int64_t)timegm(&tm);
	return 0;
}

static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return '-';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	}
	return '?';
}

void text_mode(uint32_t mode, char out[TEXT_MODE_MAX])
{
	static const char rwx[] = "rwxrwxrwx";

	out[0] = type_letter(mode);
	for (int i = 0; i < 9; i++)
		out[i + 1] = mode & (0400u >> i) ? rwx[i] : '-';
	if (mode & S_ISUID)
		out[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[9] = mode & S_IXOTH ? 't' : 'T';
	out[10] = '\0';
}

const char *text_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	}
	return "unknown";
}
