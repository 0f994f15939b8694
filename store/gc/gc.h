/* gc.h - mark and sweep of chunks and nodes, beside live mounts and writers (guard.h). */
#ifndef VARVE_GC_H
#define VARVE_GC_H

#include "store/base/progress.h"
#include "store/store.h"

struct gc_options {
	size_t filter_bytes; /* 0: at least 16 MiB, and enough to keep one in 100 in error */
	/* Called between small pieces of work, never inside a lock: it may sleep. */
	void (*pace)(void *arg);
	void *arg;
	/* NULL, or called for each chunk that is marked, some of them more than once. */
	void (*chunk)(void *arg, const struct digest *d);
	bool compact; /* also rewrite files to give the space back (default of the API: true) */
	bool dry_run; /* only say what would go: the removed_ members count that, and nothing does
		       */
};
struct gc_result {
	uint64_t expired_snapshots;
	uint64_t marked_nodes, marked_chunks;
	uint64_t removed_nodes, removed_chunks;
	uint64_t removed_bytes; /* stored bytes of what was removed */
};
/*
 * Delete expired snapshots, then remove the nodes and chunks that no snapshot,
 * pin or hold reaches. A damaged tree ends the collection before any node or
 * chunk is removed (-EBADMSG or -ENODATA, err names the snapshot); expired
 * snapshots are deleted by then. -EBUSY if one already runs, or what began to write before
 * the last one still does. A sweep starts where the last one stopped, after a crash too.
 * *out is also written where all was removed and only compacting failed.
 * With dry_run it is the same but for all that is written: what a false positive keeps differs.
 */
MUST_CHECK int gc_run(struct store *s, const struct gc_options *opt, struct progress *p,
		      struct gc_result *out, struct error *err);
#endif
