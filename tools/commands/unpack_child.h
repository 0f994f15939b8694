/*
 * unpack_child.h - unpacking of a tar stream as it comes: varve-store does it in a process of
 * its own (inspect/unpack.h), which is sent the bytes.
 */
#ifndef VARVE_TOOLS_UNPACK_CHILD_H
#define VARVE_TOOLS_UNPACK_CHILD_H

#include <stddef.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct unpack_child;

/* dir is made; it must be empty or not there (-ENOTEMPTY). */
MUST_CHECK int unpack_child_start(const char *dir, struct unpack_child **out, struct error *err);
/* An export_write_fn. -EPIPE where unpacking failed; unpack_child_finish tells why. */
int unpack_child_write(void *child, const void *data, size_t len);
/* No more bytes come: wait and free u. 0 or the failure of unpacking. */
MUST_CHECK int unpack_child_finish(struct unpack_child *u, struct error *err);

#endif
