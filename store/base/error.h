/*
 * error.h - an error value that gains context on its way up and is printed
 * once, at the edge.
 *
 * A caller owns a `struct error` (usually on its stack, ERROR_INIT) and passes
 * its address down; NULL is accepted everywhere and means "only the code".
 */
#ifndef VARVE_BASE_ERROR_H
#define VARVE_BASE_ERROR_H

#include "store/base/macros.h"

struct error {
	int code;      /* 0 or -errno */
	char msg[512]; /* NUL-terminated, one line, no trailing newline */
};

#define ERROR_INIT    \
	{             \
		0, "" \
	}

/* Set code (-errno) and message; returns code, so `return error_set(...)`. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As error_set, with ": strerror(-code)" appended. */
int error_set_errno(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Put context before the message ("context: message"); returns code. If err
 * holds no message yet, strerror(-code) stands for it.
 */
int error_prefix(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The message, or strerror() of the code if none was set. Never NULL. */
const char *error_text(const struct error *err);

#endif
