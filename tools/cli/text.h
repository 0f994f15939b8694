/* text.h - how values read on a terminal and in arguments: sizes, times, names. Pure. */
#ifndef VARVE_TOOLS_TEXT_H
#define VARVE_TOOLS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/* Bytes of the valid UTF-8 sequence at s (1..4), or 0; *cp is its code point. len >= 1. */
size_t text_utf8(const char *s, size_t len, uint32_t *cp);
bool text_is_utf8(const char *s, size_t len);

/*
 * Append s so that a terminal shows it as one line and nothing else: control
 * characters, bytes that are not UTF-8 and characters that turn the direction
 * of writing become \n, \t, \xHH or \u{H}.
 */
MUST_CHECK int text_escape(struct buf *out, const char *s, size_t len);

/* Columns that s takes on a terminal. */
size_t text_width(const char *s, size_t len);
/* Append s, or where it is wider than `width` columns its two ends around an ellipsis. */
MUST_CHECK int text_shorten(struct buf *out, const char *s, size_t len, size_t width);

#define TEXT_SIZE_MAX 16
/* "512 B", "1.5 KiB", "215 MiB". */
void text_size(uint64_t bytes, char out[TEXT_SIZE_MAX]);
/* "1048576", "64K", "10MiB", "1.5G" (powers of 1024). -EINVAL, -ERANGE. */
MUST_CHECK int text_parse_size(const char *s, uint64_t *out);
/* "90", "90s", "15m", "12h", "7d", "2w". -EINVAL, -ERANGE. */
MUST_CHECK int text_parse_duration(const char *s, int64_t *out_seconds);
/* Digits only. -EINVAL, -ERANGE. */
MUST_CHECK int text_parse_count(const char *s, uint64_t *out);

#define TEXT_TIME_MAX 40
/* Local time, "2026-11-22 21:53:00". */
void text_time(int64_t unix_seconds, char out[TEXT_TIME_MAX]);
/* ISO 8601 in UTC, with nanoseconds where they are not 0. */
void text_time_iso(int64_t unix_seconds, uint32_t nsec, char out[TEXT_TIME_MAX]);
/* The Unix time of "2026-11-22T21:53:00[.123]Z". -EINVAL. */
MUST_CHECK int text_parse_time_iso(const char *s, int64_t *out_unix_seconds);

#define TEXT_MODE_MAX 11
/* "-rwxr-xr-x", as ls writes it. */
void text_mode(uint32_t mode, char out[TEXT_MODE_MAX]);
/* "file", "directory", "symlink", ... */
const char *text_type(uint32_t mode);

#endif
