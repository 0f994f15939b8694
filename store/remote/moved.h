/*
 * moved.h - chunks whose container is gone because a collection has repacked it (share/repack.h):
 * where they are now, as the objects moved/PUSH-N say (layout/share_moved.h). A cache of these.
 *
 * A container that was repacked can be repacked again with what it was merged with: then one such
 * object leads to the next. SHARE_MOVED_HOPS bounds that.
 *
 * Thread-safe. Threads that ask for the same container wait for one request. That there is no such
 * object is remembered, too, for MOVED_ABSENT_MS.
 */
#ifndef VARVE_REMOTE_MOVED_H
#define VARVE_REMOTE_MOVED_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_moved.h"
#include "store/remote/share_meta.h"

#define MOVED_ABSENT_MS 10000

struct moved;
/* max_bytes: of what it remembers, about. NULL when out of memory. */
struct moved *moved_new(size_t max_bytes);
void moved_free(struct moved *m);

/* Where to ask. `uuid` tells buckets apart in the cache. */
struct moved_bucket {
	struct object_store *os;
	const char *uuid;
	enum object_priority priority;
};

/* Follow what is known, without a request: whether *at has changed. */
bool moved_known(struct moved *m, const char *uuid, const struct digest *d, struct share_loc *at);
/*
 * The container at->pack is gone: *at becomes where the chunk is now. Waits for the network.
 * -ENOENT: nothing is said of it; the bucket's failures; -EBADMSG, -ENOTSUP.
 */
MUST_CHECK int moved_ask(struct moved *m, const struct moved_bucket *b, const struct digest *d,
			 struct share_loc *at, struct error *err);
/* The header alone, without the cache. -ENOENT: the container was not repacked. */
MUST_CHECK int moved_head(const struct moved_bucket *b, const struct pack_id *pack,
			  struct share_moved_head *out, struct error *err);

#endif
