/*
 * unpack.h - a tar stream of plain files and directories into a directory.
 * For OCI layouts: whatever else a stream may hold is refused, and nothing is
 * ever written outside the directory.
 */
#ifndef VARVE_TOOLS_UNPACK_H
#define VARVE_TOOLS_UNPACK_H

#include <stddef.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct unpack;

/*
 * Bytes are unpacked by a thread as they come. dir is made; it must be empty
 * or not there (-ENOTEMPTY).
 */
MUST_CHECK int unpack_new(const char *dir, struct unpack **out, struct error *err);
/* An export_write_fn. -EPIPE where unpacking failed; unpack_finish tells why. */
int unpack_write(void *unpack, const void *data, size_t len);
/* No more bytes come: wait and free u. 0 or the failure of unpacking. */
MUST_CHECK int unpack_finish(struct unpack *u, struct error *err);

#endif
