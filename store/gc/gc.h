/* gc.h - mark and sweep of chunks and nodes, beside live mounts and writers (guard.h). */
#ifndef VARVE_GC_H
#define VARVE_GC_H

#include "store/base/progress.h"
#include "store/store.h"

struct gc_options {
	size_t filter_bytes; /* 0: 16 MiB, one part in 100 kept in error at 14 million digests */
	/* Called between small pieces of work, never inside a lock: it may sleep. */
	void (*pace)(void *arg);
	void *arg;
	bool compact; /* also rewrite files to give the space back (default of the API: true) */
};
struct gc_result {
	uint64_t expired_snapshots;
	uint64_t marked_nodes, marked_chunks;
	uint64_t removed_nodes, removed_chunks;
	uint64_t removed_bytes; /* stored bytes of what was removed */
};
/*
 * Remove what no snapshot or pin reaches. Damaged trees end the collection
 * before anything is removed (-EBADMSG or -ENODATA, err names the snapshot).
 * -EBUSY where one runs. After a crash the next one goes on: sweeping starts
 * where the last one stopped.
 */
MUST_CHECK int gc_run(struct store *s, const struct gc_options *opt, struct progress *p,
		      struct gc_result *out, struct error *err);
#endif
