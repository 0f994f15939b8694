/*
 * evict.h - keeps a store below a size by deleting chunks that a bucket has, too: what is read of
 * them later is fetched again (far.h).
 *
 * A chunk is *clean* if the index (lazy_index.h) says where it lies in a bucket, in a pack that a
 * snapshot lists whose pin holds at that moment (pins.h). Only clean chunks are deleted, those
 * first that were not read of late (store/chunk/recent.h). Nodes stay. Without the bucket no pin
 * holds, so nothing is deleted.
 *
 * What was pushed from here is clean, too: the metadata of its containers is fetched into the
 * index, once, when there is something to evict.
 *
 * Writers: an eviction is a collection of garbage to the guard (store/chunk/guard.h), in which
 * nothing is marked and only what is clean is swept. So whoever found a chunk present in a session
 * keeps it until a record names it, and then the index keeps its location. It does not run beside a
 * collection, nor between lazy_index_mark_begin and _end: the caller sees to that.
 *
 * A crash at any moment leaves chunks that are here, or that the index, which is permanent before
 * the first of them is deleted, knows a location of.
 */
#ifndef VARVE_SHARE_EVICT_H
#define VARVE_SHARE_EVICT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/remote/lazy_index.h"
#include "store/lazy/pins.h"
#include "store/remote/remotes.h"
#include "store/store.h"

struct evictor_options {
	struct store *store; /* borrowed, as what follows */
	struct remotes *remotes;
	struct lazy_index *index;
	struct pins *pins;
	uint64_t limit_bytes; /* of the database's files; not 0 */
	bool no_thread;	      /* only evictor_ask asks; for tests */
};

struct evictor;
/* Before the store's first chunk is read; starts the thread that asks. NULL: no memory. */
struct evictor *evictor_new(const struct evictor_options *opt);
/* Ends the thread, after remotes_stop soon; before pins_close. NULL is accepted. */
void evictor_stop(struct evictor *e);
void evictor_free(struct evictor *e); /* when nobody reads any more; NULL is accepted */

/*
 * Whether the store is too large, it is time to try, and the buckets have answered. If they were
 * not asked yet, the thread begins to. Quick.
 */
bool evictor_is_due(struct evictor *e);
/*
 * Ask the buckets what may be deleted. Waits for the network; one thread at a time. A bucket that
 * does not answer holds nothing: what only it has is kept.
 */
void evictor_ask(struct evictor *e);

struct evict_result {
	uint64_t chunks, bytes; /* deleted; bytes of their frames */
	uint64_t clean;		/* of the chunks that were looked at */
	bool enough;		/* the store is as small as it should be */
};
/*
 * Delete clean chunks, by what the buckets have answered, until the store is an eighth below its
 * limit, and give the space back. One thread at a time. Does not wait for the network. -EBUSY: a
 * collection runs, or what began before the last one still writes; -ECANCELED; failures of the
 * database.
 */
struct evict_options {
	/* Called between small pieces of work, without locks: it may sleep. NULL: not. */
	void (*pace)(void *arg);
	void *arg;
	struct progress *p; /* or NULL */
};
MUST_CHECK int evictor_run(struct evictor *e, const struct evict_options *opt,
			   struct evict_result *out, struct error *err);

struct evictor_stats {
	uint64_t limit_bytes;
	uint64_t runs, chunks, bytes; /* since it was made */
};
void evictor_get_stats(struct evictor *e, struct evictor_stats *out);

#endif
