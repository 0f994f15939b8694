/*
 * far_buckets.h - the buckets that lazily pulled chunks come from (far.c), each opened once and
 * kept open while it is the one that is configured.
 *
 * A bucket that is *old* serves only the requests that are under way: it failed, was removed or
 * changed. When the last of them has ended, it is released, but not by its own thread, which that
 * might end.
 *
 * Thread-safe. Its lock is a leaf: nothing is waited for under it.
 */
#ifndef VARVE_LAZY_FAR_BUCKETS_H
#define VARVE_LAZY_FAR_BUCKETS_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/names/snapshot.h"
#include "store/remote/remotes.h"

struct far_bucket {
	/* Fixed. */
	struct remote *r;	 /* a reference */
	struct object_store *os; /* of r */
	/* Private. */
	LIST_ENTRY(far_bucket) link;
	char uuid[SNAPSHOT_ID_SIZE];
	unsigned users; /* requests, and who is about to make some */
	bool old;
};
LIST_HEAD(far_bucket_list, far_bucket);

struct far_buckets {
	struct remotes *rs; /* borrowed */
	pthread_mutex_t lock;
	struct far_bucket_list all; /* guarded by lock, as what is private in it */
	int64_t logged_ms;	    /* guarded by lock: that one cannot be opened */
};
/* It hears of changes of `rs` until remotes_close, after which it may be ended. */
void far_buckets_init(struct far_buckets *b, struct remotes *rs);
void far_buckets_fini(struct far_buckets *b);

/*
 * The bucket of that uuid, with the caller as a user. Waits for the network where it is not open
 * yet. -EIO: it cannot be opened, which is logged; -ENOMEM.
 */
MUST_CHECK int far_bucket_use(struct far_buckets *b, const char *uuid, struct far_bucket **out);
/* One more user, of a bucket that has one. */
void far_bucket_share(struct far_buckets *b, struct far_bucket *o);
/* `failed`: another remote that is the same bucket may do better. */
void far_bucket_leave(struct far_buckets *b, struct far_bucket *o, bool failed);
/* Release those that are old and unused. Not from a bucket's thread. */
void far_buckets_tidy(struct far_buckets *b);

#endif
