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

/*
 * How many single edits (insert, delete, replace, swap of neighbours) lead from
 * a to b, upper and lower case being the same: optimal string alignment. b has
 * at most SNAPSHOT_NAME_MAX bytes.
 */
size_t name_distance(const char *a, const char *b);

#endif
