/*
 * chunk_store.h - content-addressed chunks: put once, get by digest.
 *
 * Owns: deduplication, compression, the cache of decoded chunks. Thread-safe.
 */
#ifndef VARVE_CHUNK_STORE_H
#define VARVE_CHUNK_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/chunk/chunk.h"
#include "store/chunk/guard.h"
#include "store/base/hash.h"
#include "store/kv/kv.h"
#include "store/base/space.h"

struct chunk_store;

/* Borrows kv and guard. cache_bytes bounds the decoded chunks kept; 0 keeps none. */
struct chunk_store *chunk_store_new(struct kv *kv, struct guard *guard, int zstd_level,
				    size_t cache_bytes);
/*
 * Refuse new chunks (-ENOSPC) when the disk has no room for them. Borrows sp. Call
 * before the first put.
 */
void chunk_store_limit(struct chunk_store *cs, struct space *sp);
/*
 * Ask this source (source.h; borrowed) too for what the database does not have. What it gives
 * is verified, and kept in the database where there is room. Call before the first get.
 */
struct source;
void chunk_store_set_far(struct chunk_store *cs, struct source *far);
/* Note there what is read (recent.h; borrowed). Call before the first get. */
struct recent;
void chunk_store_set_recent(struct chunk_store *cs, struct recent *r);
/* Chunks that were handed out stay alive. NULL is accepted. */
void chunk_store_free(struct chunk_store *cs);

struct chunk_put_result {
	struct digest digest;
	uint32_t stored_bytes; /* frame bytes newly written; 0 if it existed */
};

/*
 * Store raw[0..len), 1 <= len <= CHUNK_MAX. The caller is inside a guard
 * session. The write is KV_NO_LOG: kv_flush_content() before a record refers
 * to it.
 */
MUST_CHECK int chunk_store_put(struct chunk_store *cs, const void *raw, size_t len,
			       struct chunk_put_result *out);

/*
 * Puts of one thread whose chunks are written together. For small chunks: one
 * by one, each would cost a write and wait for the writes of other threads. A
 * put may write earlier puts; chunk_batch_write writes the rest. Nobody can get
 * a chunk before it is written, and freeing the batch drops what is not
 * written. Use a batch within one guard session; otherwise as chunk_store_put.
 */
struct chunk_batch;
struct chunk_batch *chunk_batch_new(struct chunk_store *cs);
void chunk_batch_free(struct chunk_batch *b);
DEFINE_CLEANUP(struct chunk_batch *, chunk_batch_free)
MUST_CHECK int chunk_batch_put(struct chunk_batch *b, const void *raw, size_t len,
			       struct chunk_put_result *out);
MUST_CHECK int chunk_batch_write(struct chunk_batch *b);

/*
 * Say that a record will refer to a chunk that already exists (the caller holds
 * another reference to it, such as a tree that contains it). The caller is
 * inside a guard session.
 */
void chunk_store_touch(struct chunk_store *cs, const struct digest *d);

/*
 * From the cache, the database or the far source. 0; -ENODATA if the chunk is missing;
 * -EBADMSG if the frame does not decode, its checksum fails or its length lies; -EIO;
 * -ENOMEM. A frame of the database with a checksum (codec.h) is not rehashed: the
 * checksum finds disk errors, chunk_store_verify finds the rest. -EINPROGRESS: only the far source
 * may have it, and this thread may not wait; it is noted (want.h).
 */
MUST_CHECK int chunk_store_get(struct chunk_store *cs, const struct digest *d, struct chunk **out);
/*
 * As chunk_store_get, into out, which has room for the chunk's len bytes; -EBADMSG if its
 * length differs. For data that is read once: it uses a cached chunk, but adds
 * none.
 */
MUST_CHECK int chunk_store_read(struct chunk_store *cs, const struct digest *d, void *out,
				size_t len);
/*
 * Get all of them from the far source, into the cache and the database: each result is 0 or a
 * failure as of chunk_store_get. The thread may wait (want.h).
 */
struct source_item;
void chunk_store_fetch(struct chunk_store *cs, struct source_item *items, size_t n);
/* As chunk_store_get, but without waiting: NULL on a cache miss. */
struct chunk *chunk_store_cached(struct chunk_store *cs, const struct digest *d);

/*
 * Bypass the cache and rehash what the database has: for verify. Errors as for chunk_store_get, and
 * -EBADMSG if the bytes do not hash to d. Outputs the lengths of the chunk and
 * its frame.
 */
MUST_CHECK int chunk_store_verify(struct chunk_store *cs, const struct digest *d, uint32_t *out_raw,
				  uint32_t *out_stored);

/*
 * Decode a frame of this store, as codec_decode, with the dictionary that it
 * names. Also -EBADMSG if that dictionary is missing or damaged.
 */
MUST_CHECK int chunk_store_decode(struct chunk_store *cs, const void *frame, size_t len, void *out,
				  size_t out_len);

/*
 * A chunk as it travels between stores: append its frame, one that needs no dictionary, to out.
 * What the database has is checked as by chunk_store_get.
 */
MUST_CHECK int chunk_store_frame(struct chunk_store *cs, const struct digest *d, struct buf *out);
/*
 * Store such a frame, which may come from anywhere: -EBADMSG unless it needs no dictionary and
 * decodes to bytes that hash to d. Otherwise as chunk_store_put; *out_stored: frame bytes newly
 * written, 0 if the chunk existed.
 */
MUST_CHECK int chunk_store_put_frame(struct chunk_store *cs, const struct digest *d,
				     const void *frame, size_t len, uint32_t *out_stored);

/* Wait until what came from the far source before this is in the database, if there is room. */
void chunk_store_flush_kept(struct chunk_store *cs);

/* Does the database have it? 1, 0, or a failure. */
MUST_CHECK int chunk_store_has(struct chunk_store *cs, const struct digest *d);

/* Chunks newly stored since this store was opened. */
uint64_t chunk_store_stored(const struct chunk_store *cs);

/* Bytes in the cache. Chunks that it dropped but somebody still uses are not counted. */
size_t chunk_store_cached_bytes(struct chunk_store *cs);

#endif
