/*
 * out_file.h - a file that is written from its start to its end. A regular
 * file gets its name when it is whole, so a failure or a signal leaves
 * what was there before.
 */
#ifndef VARVE_TOOLS_OUT_FILE_H
#define VARVE_TOOLS_OUT_FILE_H

#include <stddef.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct out_file {
	int fd;
	char *path;	 /* owned; NULL: standard output */
	char *temporary; /* owned; NULL where fd is path itself */
};

#define OUT_FILE_NONE          \
	{                      \
		-1, NULL, NULL \
	}

/*
 * "-" is standard output, which must be no terminal (-EINVAL). One file at a
 * time: the signals that end a program are caught to remove it.
 */
MUST_CHECK int out_file_open(struct out_file *f, const char *path, struct error *err);
/* 0 or -errno. */
MUST_CHECK int out_file_write(struct out_file *f, const void *data, size_t len);
/*
 * Give it its name, or where `result` is a failure remove it. Returns result,
 * or the failure of this. Also after a failed out_file_open.
 */
MUST_CHECK int out_file_close(struct out_file *f, int result, struct error *err);

#endif
