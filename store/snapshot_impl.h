/* snapshot_impl.h - what the files behind snapshot.h share. */
#ifndef VARVE_SNAPSHOT_IMPL_H
#define VARVE_SNAPSHOT_IMPL_H

#include <stddef.h>

#include "store/base/macros.h"
#include "store/snapshot.h"

/* *out: malloc'd JSON text, *out_len bytes. -ENOMEM. */
MUST_CHECK int snapshot_encode(const struct snapshot *s, char **out, size_t *out_len);
/* -EBADMSG where the text is no record of a version we know. *out: snapshot_fini. */
MUST_CHECK int snapshot_decode(const void *text, size_t len, struct snapshot *out);

#endif
