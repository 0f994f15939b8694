/* write_all.h - write bytes to a descriptor, all of them. */
#ifndef VARVE_WRITE_ALL_H
#define VARVE_WRITE_ALL_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

/*
 * Each calls write(2) or pwrite(2) until all is written, also after a signal. 0, or -errno of the
 * call that failed; some may be written then. -EIO: a call wrote nothing and said no error.
 */
MUST_CHECK int write_all(int fd, const void *data, size_t len);
MUST_CHECK int pwrite_all(int fd, const void *data, size_t len, uint64_t pos);

#endif
