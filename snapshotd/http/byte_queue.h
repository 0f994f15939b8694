/*
 * byte_queue.h - a bounded queue of bytes between two threads: the one that
 * makes a streamed reply and the one that sends it.
 *
 * One reader, one writer at a time. Either side may go first; the other learns
 * of it at its next call.
 */
#ifndef VARVE_SNAPSHOTD_BYTE_QUEUE_H
#define VARVE_SNAPSHOTD_BYTE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "store/base/macros.h"

struct byte_queue;
struct byte_queue *byte_queue_new(size_t capacity); /* NULL when out of memory */
void byte_queue_free(struct byte_queue *q);

/*
 * Waits until all of it is in, or has been read where there is no room for it.
 * -EPIPE: the reader has gone.
 */
MUST_CHECK int byte_queue_write(struct byte_queue *q, const void *data, size_t len);
/* As much as there is room for within timeout_ms: bytes (> 0), -EAGAIN, -EPIPE. */
MUST_CHECK ssize_t byte_queue_write_some(struct byte_queue *q, const void *data, size_t len,
					 int timeout_ms);
/* All or nothing, without waiting; leaves half of the queue free. -EAGAIN, -EPIPE. */
MUST_CHECK int byte_queue_try_write(struct byte_queue *q, const void *data, size_t len);
/* No more bytes. failed: the reader gets -EIO instead of the end. First call counts. */
void byte_queue_end(struct byte_queue *q, bool failed);

/* Bytes read (> 0), 0 at the end, -EAGAIN after timeout_ms without any, -EIO. */
MUST_CHECK ssize_t byte_queue_read(struct byte_queue *q, void *out, size_t max, int timeout_ms);
/* The reader has gone: writers waiting and to come get -EPIPE. */
void byte_queue_abandon(struct byte_queue *q);

#endif
