/*
 * ingest_internal.h - one import under way: what ingest_dir, ingest_tar and
 * ingest_oci share. Private to ingest*.c.
 *
 * The thread that imports reads names and (of archives) data; a pool of workers
 * chunks, hashes, compresses and stores. Small files travel in batches, big ones
 * chunk by chunk. Memory is bounded by the pool's queue, apart from the
 * namespace (ingest_tree.h).
 */
#ifndef VARVE_INGEST_INTERNAL_H
#define VARVE_INGEST_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/pool.h"
#include "store/tree/file_chunks.h"
#include "store/import/ingest.h"
#include "store/import/ingest_tree.h"

#define INGEST_MAX_BYTES (1ull << 40) /* if the options say 0 */
#define INGEST_READ_SIZE (256u << 10) /* one read of file data */
#define INGEST_STREAMS 4	      /* big files that may be in the pool at a time */
#define INGEST_SMALL_MAX (128u << 10) /* larger files go chunk by chunk */

struct ingest_batch;

/* A worker's tools; kept in a list while no job uses them. */
struct ingest_scratch {
	struct ingest_scratch *next;
	struct file_chunks *chunks; /* synchronous */
	uint8_t *buffer;	    /* INGEST_READ_SIZE */
};

/* A big file on its way through the pool. */
struct ingest_stream {
	struct file_chunks *chunks; /* of the pool */
	struct ingest_inode *inode; /* NULL: free */
};

struct ingest {
	struct store *store;
	struct progress *progress; /* may be NULL */
	unsigned threads;
	bool one_file_system;
	uint64_t max_bytes, max_entries, max_meta;

	struct guard_session session;
	struct ingest_tree *tree;
	struct pool *pool;
	uint64_t entries; /* counted so far, replaced ones too */
	_Atomic uint64_t bytes;
	_Atomic uint64_t meta_bytes; /* see ingest_count_meta */
	atomic_bool failed;

	pthread_mutex_t lock;
	struct error first;	     /* guarded by lock: the failure that ended it */
	struct ingest_scratch *idle; /* guarded by lock */
	uint64_t new_bytes;	     /* guarded by lock: of scratches that were freed */
	bool whole;		     /* the caller has the root; else what is stored is garbage */
	struct remarks remarks;	     /* guarded by lock */

	struct ingest_batch *batch;
	struct ingest_stream streams[INGEST_STREAMS];
	unsigned next_stream;
};

/* ---- its state (ingest_state.c); calls nothing of the sections below ---- */

/* Keep the first failure, with a message; returns code. From any thread. */
int ingest_fail(struct ingest *in, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As ingest_fail: "what PATH: strerror". */
int ingest_fail_at(struct ingest *in, int code, const struct ingest_inode *i, const char *what);

/* Count what does not come over as it was. From any thread. */
void ingest_remark(struct ingest *in, enum remark_kind kind, const char *path);
/* The same, of an inode with a name. */
void ingest_remark_at(struct ingest *in, enum remark_kind kind, const struct ingest_inode *i);

/* Count one more entry. Checks limits, cancellation and failures of workers; reports progress. */
MUST_CHECK int ingest_count_entry(struct ingest *in);
/* Report progress if it is due; from the importing thread. */
void ingest_tick(struct ingest *in);
/* Count n more bytes of data. From any thread. */
MUST_CHECK int ingest_count_bytes(struct ingest *in, uint64_t n);
/*
 * Count n more bytes of memory that live until the end: xattrs, the targets of
 * a tar's symlinks, and, roughly, the extents of what goes through
 * ingest_file_feed. From any thread.
 */
MUST_CHECK int ingest_count_meta(struct ingest *in, uint64_t n);

/* Synchronous tools for a job; NULL when out of memory. From any thread. */
struct ingest_scratch *ingest_scratch_get(struct ingest *in);
void ingest_scratch_put(struct ingest *in, struct ingest_scratch *sc);
/* Free the idle ones, and count the new bytes that they stored. */
void ingest_scratch_free(struct ingest *in);

/* file_chunks_emit_fn: arg is the inode. */
int ingest_emit_extent(void *inode, uint64_t offset, const struct extent_rec *e);

/* ---- data to the workers (ingest_file.c) ---- */

/*
 * One file's data from the importing thread, either kind: begin, feed in
 * ascending order, end with the size. Failures are kept by ingest_fail, those
 * of workers show up later.
 */
struct ingest_file {
	struct ingest *in;
	struct ingest_inode *inode;
	struct ingest_stream *stream; /* NULL: goes into the batch */
};
MUST_CHECK int ingest_file_begin(struct ingest_file *f, struct ingest *in, struct ingest_inode *i,
				 uint64_t size_hint);
MUST_CHECK int ingest_file_feed(struct ingest_file *f, uint64_t offset, const void *data,
				size_t len);
MUST_CHECK int ingest_file_end(struct ingest_file *f, uint64_t size);
/* Hand the current batch to the workers. */
MUST_CHECK int ingest_file_flush(struct ingest *in);
/* Wait until all data fed so far is in extents. */
MUST_CHECK int ingest_file_wait(struct ingest *in);
void ingest_file_drop_batch(struct ingest *in);

/* ---- the whole (ingest.c) ---- */

/* fini must follow, also after a failure. */
MUST_CHECK int ingest_init(struct ingest *in, struct store *s, const struct ingest_options *opt,
			   bool indexed, struct progress *p, struct error *err);
void ingest_fini(struct ingest *in);
/*
 * Call when the source has been read, with the result of reading it (0 or
 * -errno). Wait for the workers, then report the failure that was kept, or write
 * the tree, flush and fill out.
 */
MUST_CHECK int ingest_finish(struct ingest *in, int result, struct ingest_result *out,
			     struct error *err);

#endif
