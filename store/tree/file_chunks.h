/*
 * file_chunks.h - from a file's bytes to its extents, streaming.
 *
 * The one place that decides which extents a file has. Import and checkpoint
 * both use it, so they agree:
 *   - what is fed is data, what is left out is a hole;
 *   - a block of CHUNK_ZERO_RUN bytes, aligned in the file to that size, that is
 *     fed whole and is all zeros becomes a hole as well. Partial blocks (at the
 *     ends of a run of data, or of the file) never do;
 *   - each maximal run of data that is left, a segment, is cut as chunker.h says;
 *   - a file that is one segment from 0 to its size, and has at most INLINE_MAX
 *     bytes, is one EXTENT_INLINE.
 *
 * A writer belongs to one thread and serves one file after another. With a
 * pool, chunks are hashed, compressed and stored on its workers; emit is still
 * called in the feeding thread, in ascending order.
 *
 * Restarting in the middle (checkpoint). A cut depends only on the bytes before
 * it, so for a file that has changed, feeding may begin at an old cut, by these
 * rules:
 *   - the old segment there was longer than CHUNK_AVG, and so is the new one
 *     (say so with file_chunks_resume); otherwise feed from the segment's start;
 *   - the cut is not above the start of the aligned block that holds the first
 *     changed byte (that block may have become a hole);
 *   - a file that is now INLINE_MAX bytes or less is fed whole.
 * And it may end at an old cut, found with at_cut: if the data from there to
 * the end of its segment is unchanged, the old segment was longer than
 * CHUNK_AVG, and the segment still ends there, then the old chunks from there
 * on are right. (at_cut is called only in a new segment longer than CHUNK_AVG.)
 */
#ifndef VARVE_FILE_CHUNKS_H
#define VARVE_FILE_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"
#include "store/base/pool.h"
#include "store/chunk/chunk_store.h"
#include "store/tree/record.h"

/* An extent of the file; e->data lives during the call. Non-zero (-errno) is a failure. */
typedef int (*file_chunks_emit_fn)(void *arg, uint64_t offset, const struct extent_rec *e);
/*
 * The chunks below `offset` are settled and the next one starts there. 1: the
 * caller knows the rest of the segment; what was fed beyond is dropped. 0: go on.
 */
typedef int (*file_chunks_cut_fn)(void *arg, uint64_t offset);

struct file_chunks_options {
	struct chunk_store *chunks;
	struct pool *pool; /* NULL: everything in the feeding thread. Not a pool that it runs on */
	file_chunks_emit_fn emit;
	file_chunks_cut_fn at_cut; /* may be NULL */
	/* Without a pool: chunks are written together, the last ones by file_chunks_flush. */
	bool gather;
};

struct file_chunks;
/* NULL when out of memory. Holds about 1 MiB once it is used. */
struct file_chunks *file_chunks_new(const struct file_chunks_options *opt);
/* Waits for chunks under way. */
void file_chunks_free(struct file_chunks *fc);
DEFINE_CLEANUP(struct file_chunks *, file_chunks_free)

/* Start a file; `arg` goes to emit and at_cut. Drops a file that was not ended. */
void file_chunks_begin(struct file_chunks *fc, void *arg);

/*
 * Say that feeding goes on at `offset`, a cut inside a segment longer than
 * CHUNK_AVG. Ends the segment before it, as a gap would.
 */
MUST_CHECK int file_chunks_resume(struct file_chunks *fc, uint64_t offset);

/*
 * Feed bytes of the file at `offset`, which is not below what was fed before; a gap is a hole.
 * The caller is inside a guard session until file_chunks_end returns. 0, or 1 if at_cut
 * returned 1: then everything at and above the offset given to at_cut was dropped, this call's
 * data too as far as it lies there, and the caller goes on from that offset, with the next
 * changed place (resume or feed) or with file_chunks_end. Failures: -EINVAL (order), those of
 * chunk_store_put and of emit. After a failure only begin and free may follow.
 */
MUST_CHECK int file_chunks_feed(struct file_chunks *fc, uint64_t offset, const void *data,
				size_t len);

/*
 * End a file of `size` bytes (not less than was fed). Waits for its chunks and
 * emits the remaining extents. Also 1 if at_cut returned 1 on the way.
 */
MUST_CHECK int file_chunks_end(struct file_chunks *fc, uint64_t size);

/*
 * The two halves of file_chunks_end, for a caller with other things to do while
 * the pool works: everything but the waiting, then the waiting.
 */
MUST_CHECK int file_chunks_finish(struct file_chunks *fc, uint64_t size);
MUST_CHECK int file_chunks_wait(struct file_chunks *fc);

/* Write what is gathered. Does nothing without opt->gather. Failures as of chunk_store_put. */
MUST_CHECK int file_chunks_flush(struct file_chunks *fc);

/* Bytes of frames newly stored, over all files so far. */
uint64_t file_chunks_new_bytes(const struct file_chunks *fc);

#endif
