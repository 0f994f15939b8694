/*
 * prefetch.h - what a first use of a snapshot reads, fetched at once (hot.h has the object), and
 * noted for the hosts that use it later.
 *
 * A *use* begins when a snapshot is pulled lazily, and lasts PREFETCH_TRACE_MS from its first read
 * on. Its hot object, or that of its parent, comes as a few large ranges, side by side; a reader
 * that misses a chunk meanwhile waits for it here, rather than ask for the chunk alone. What is
 * read is noted, in order. If much of it was not in the hot object, the use ends with a better one,
 * which is written to the bucket: first what this use has read, then what only former ones did.
 *
 * An accelerator: whatever fails, chunks are fetched one by one. Nothing is believed: what it hands
 * out has been compared with its digest.
 *
 * Bounds: PREFETCH_USES uses, each with at most HOT_SIZE_MAX bytes of frames and PREFETCH_TRACED
 * digests; a use more is not begun. Thread-safe; no lock is held during a request.
 */
#ifndef VARVE_SHARE_PREFETCH_H
#define VARVE_SHARE_PREFETCH_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/chunk/source.h"
#include "store/layout/share_record.h"
#include "store/remote/remotes.h"
#include "store/store.h"

#define PREFETCH_USES 4u
#define PREFETCH_TRACE_MS (30 * 1000)
#define PREFETCH_TRACED 16384u /* chunks of a use */

struct prefetch;
/*
 * Starts a thread, which writes hot objects from the chunks that the store has by then. Borrows
 * both. trace_ms: PREFETCH_TRACE_MS, but for tests. -ENOMEM, -EAGAIN.
 */
MUST_CHECK int prefetch_new(struct store *s, struct remotes *rs, unsigned trace_ms,
			    struct prefetch **out);
/*
 * Nobody waits here any more, nor later; uses end without a hot object. After the far source was
 * stopped (far.h), before remotes_close, which ends the requests. NULL is accepted.
 */
void prefetch_stop(struct prefetch *p);
/* After remotes_close and when nobody calls any more. NULL is accepted. */
void prefetch_free(struct prefetch *p);

/* The bucket's snapshot of that record is about to be used. Does not wait. NULL is accepted. */
void prefetch_begin(struct prefetch *p, struct remote *r, const struct share_record *rec);

/* Which use reads: the bucket's uuid, and the pack that has the chunk. */
struct prefetch_chunk {
	const char *uuid;
	const struct pack_id *pack;
	const struct digest *digest;
};
/*
 * A chunk's frame, compared with its digest; waits for a hot object that may have it. -ENODATA: not
 * here, fetch it; -ECANCELED: stopped; -ENOMEM.
 */
MUST_CHECK int prefetch_get(struct prefetch *p, const struct prefetch_chunk *c,
			    struct source_frame *out);
/* The same without waiting: -ENODATA also where it may come yet. */
MUST_CHECK int prefetch_ready(struct prefetch *p, const struct prefetch_chunk *c,
			      struct source_frame *out);
/* A reader got the chunk, of so many bytes, from its container. */
void prefetch_missed(struct prefetch *p, const struct prefetch_chunk *c, size_t len);

/* End all uses now, as if their time were over. For tests. */
void prefetch_end(struct prefetch *p);

struct prefetch_stats {
	uint64_t uses;	       /* that are over, whatever they have left */
	uint64_t hits, misses; /* chunks that uses have read: from a hot object, and not */
	uint64_t bytes;	       /* of hot objects, fetched */
	uint64_t written;      /* hot objects */
};
void prefetch_stats(struct prefetch *p, struct prefetch_stats *out);

#endif
