/* sealed_fd.h - bytes that a program in a container gets as a file. */
#ifndef VARVE_SNAPSHOTD_SEALED_FD_H
#define VARVE_SNAPSHOTD_SEALED_FD_H

#include <stddef.h>

#include "store/base/macros.h"

/*
 * A file in memory (close-on-exec), open at its start. Sealed: who gets it, root of a
 * container too, cannot write to it or make it grow. A descriptor, or -errno.
 */
MUST_CHECK int sealed_fd(const char *name, const void *data, size_t len);

#endif
