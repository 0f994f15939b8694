/*
 * prefetch_use_internal.h - a use, as prefetch.c fetches and notes it and prefetch_make.c reads it.
 */
#ifndef VARVE_SHARE_PREFETCH_USE_INTERNAL_H
#define VARVE_SHARE_PREFETCH_USE_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "store/bucket/object_store.h"
#include "store/chunk/digest_set.h"
#include "store/layout/hot.h"
#include "store/layout/share_key.h"
#include "store/remote/place_map.h"
#include "store/lazy/prefetch.h"

struct segment {
	struct object_request rq;
	struct use *use;
	bool past; /* any cache on the way, which has given something wrong */
	bool good; /* guarded by lock: its frames are known */
};

struct use {
	TAILQ_ENTRY(use) link;
	struct prefetch *p;
	struct remote *remote; /* a reference; of who ends the use */
	struct object_store *os;
	char uuid[SNAPSHOT_ID_SIZE], key[SHARE_KEY_SIZE];
	struct digest root;
	struct share_packs packs;
	uint64_t size_bytes; /* of the snapshot's files */
	int64_t begun_ms;
	struct hot_header header; /* written before the first segment is in `frames` */
	struct segment segments[HOT_SEGMENTS_MAX];
	struct object_request own; /* the first look; without an object of its own, */
	struct share_id parent;	   /* that of this snapshot is used; or none */
	char from[SHARE_KEY_SIZE]; /* what is read */
	struct object_request put; /* what the use leaves */
	struct buf body;
	/* guarded by p->lock */
	bool ended;
	unsigned pending;	 /* requests */
	struct place_map frames; /* by digest: offset in the object, length */
	struct digest_set seen;	 /* chunks that were read, */
	struct buf order;	 /* struct digest: in this order */
	int64_t first_ms;	 /* 0: nothing was read yet */
	bool cut_short;
	uint64_t hit_bytes, missed_bytes;
	unsigned missed;
};

struct prefetch {
	struct store *s;    /* borrowed */
	struct remotes *rs; /* borrowed */
	unsigned trace_ms;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;	     /* a segment came; the thread has something to do; stopped */
	TAILQ_HEAD(, use) uses;	     /* guarded by lock */
	unsigned n_uses;	     /* guarded by lock; until they are freed */
	bool stopped;		     /* guarded by lock */
	struct prefetch_stats stats; /* guarded by lock */
};

/* Where segment i is in what its request gave; NULL: not all of it. */
static inline const uint8_t *segment_bytes(const struct use *u, unsigned i)
{
	const struct hot_segment *h = &u->header.segments[i];
	const struct buf *data = &u->segments[i].rq.data;
	size_t at = i ? 0 : h->offset;

	return u->segments[i].rq.result == 0 && data->len >= at + h->len ? data->data + at : NULL;
}

#endif
