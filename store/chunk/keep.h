/*
 * keep.h - chunks that came from afar, on their way to the database.
 *
 * Who reads one does not wait for the write: a thread does that, many chunks at once, a little
 * later. Until then it is found here. Nobody relies on such a chunk being in the database, so one
 * that is lost on the way is fetched again. The thread begins with the first chunk. Thread-safe;
 * private to chunk_store.
 */
#ifndef VARVE_KEEP_H
#define VARVE_KEEP_H

#include <stdbool.h>
#include <stddef.h>

#include "store/chunk/source.h"

#define KEEP_BYTES ((size_t)16 << 20) /* of frames on their way: more are not taken */

struct keep;
/* At most SOURCE_ITEMS_MAX items a call, each once. Failures are its own to handle. */
typedef void (*keep_write_fn)(void *arg, const struct source_item *items, size_t n);
/* NULL when out of memory. */
struct keep *keep_new(keep_write_fn write, void *arg);
/* Writes what is on its way. Nobody adds any more. NULL is accepted. */
void keep_free(struct keep *k);

/* Take over the frame; false: that cannot be done now, and it stays the caller's. */
MUST_CHECK bool keep_add(struct keep *k, const struct digest *d, struct source_frame *frame);
/* A copy of a frame that is on its way; false: none such is, or there is no memory. */
MUST_CHECK bool keep_get(struct keep *k, const struct digest *d, struct source_frame *out);
/* Wait until all that was added before is written. */
void keep_flush(struct keep *k);

#endif
