/*
 * export_stream.h - ordered output that fetches and decodes chunks ahead.
 * Private to export*.c. Belongs to one thread, which also calls the sink.
 */
#ifndef VARVE_EXPORT_STREAM_H
#define VARVE_EXPORT_STREAM_H

#include <stdint.h>

#include "store/export/export.h"
#include "store/tree/record.h"

struct export_stream;
/* NULL when out of memory. Bytes go to fn(arg). */
struct export_stream *export_stream_new(struct store *s, export_write_fn fn, void *arg);
void export_stream_free(struct export_stream *es);
DEFINE_CLEANUP(struct export_stream *, export_stream_free)

/*
 * The buffer for bytes that come before the next chunk. After appending, the
 * caller calls export_stream_flow.
 */
struct buf *export_stream_buf(struct export_stream *es);
/* Pass the buffer on once it is large. Fails if the sink or a chunk has failed. */
MUST_CHECK int export_stream_flow(struct export_stream *es);
/* Add the data of one extent of inode ino. */
MUST_CHECK int export_stream_extent(struct export_stream *es, uint64_t ino,
				    const struct extent_rec *e);
/* Write all that is left. */
MUST_CHECK int export_stream_end(struct export_stream *es);
/* The inode whose chunk failed, and the chunk (NULL: not asked); 0: none did. */
uint64_t export_stream_failed_ino(const struct export_stream *es, struct digest *out_chunk);

#endif
