/*
 * prefetch_use_internal.h - a use, as prefetch_object.c fetches it, prefetch.c notes it and
 * prefetch_make.c reads it.
 */
#ifndef VARVE_SHARE_PREFETCH_USE_INTERNAL_H
#define VARVE_SHARE_PREFETCH_USE_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "store/bucket/object_store.h"
#include "store/chunk/digest_set.h"
#include "store/layout/hot.h"
#include "store/layout/share_key.h"
#include "store/remote/loc_map.h"
#include "store/lazy/prefetch.h"

/* The object comes in ranges of about so many bytes; the first has the header. */
#define USE_RANGE (2u << 20)
#define USE_RANGE_MAX (USE_RANGE + HOT_SEGMENT_MAX / 2)
#define USE_RANGES 32u

struct range {
	struct object_request rq;
	struct use *use;
};

/* Bytes of the object, of the use's and of whoever was given a frame of them. */
struct piece {
	_Atomic unsigned refs;
	struct buf bytes;
};
/* Takes over the bytes, also without memory: NULL. */
struct piece *piece_new(struct buf *bytes);
struct piece *piece_ref(struct piece *p);
void piece_unref(struct piece *p); /* NULL is accepted */

struct segment {
	struct object_request rq; /* past a cache on the way, which has given something wrong */
	struct use *use;
	bool past;
	struct piece *piece; /* that has all of it, from `at` on; or NULL */
	size_t at;
	bool good; /* guarded by lock: its frames are known, the piece stays */
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
	struct piece *head;	  /* the first range's; or NULL */
	struct segment segments[HOT_SEGMENTS_MAX];
	struct object_request first; /* without an object of its own, */
	bool first_past;
	struct range ranges[USE_RANGES]; /* what follows */
	struct share_id parent;		 /* that of this snapshot is used; or none */
	char from[SHARE_KEY_SIZE];	 /* what is read */
	struct object_request put;	 /* what the use leaves */
	struct buf body;
	/* guarded by p->lock */
	bool ended;
	unsigned pending;	/* requests */
	struct loc_map frames;	/* by digest: offset in the object, length */
	struct digest_set seen; /* chunks that were read, */
	struct buf order;	/* struct digest: in this order */
	int64_t first_ms;	/* 0: nothing was read yet */
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

/* Not of prefetch_new's counting yet, or no longer. */
void use_free(struct use *u);
/* With the lock held: if it has ended, and nobody has a part in it. */
void use_free_if_over(struct use *u);
/* Ask for its object. One request is under way, of the caller's counting. */
void use_fetch_object(struct use *u);

/* Of a segment that has a piece. */
static inline const uint8_t *segment_bytes(const struct use *u, unsigned i)
{
	return u->segments[i].piece->bytes.data + u->segments[i].at;
}

#endif
