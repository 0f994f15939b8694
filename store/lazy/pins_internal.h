/*
 * pins_internal.h - pins.c, which has the thread, and pins_buckets.c, what that writes and reads.
 */
#ifndef VARVE_SHARE_PINS_INTERNAL_H
#define VARVE_SHARE_PINS_INTERNAL_H

#include <pthread.h>

#include "store/lazy/pins.h"

enum pin_state { PIN_UNREAD, PIN_HOLDS, PIN_GONE };

/* A push that the index has a container of. */
struct pin {
	struct share_id id;
	enum pin_state state;
	struct share_packs packs; /* PIN_HOLDS: of its record */
};

struct pinned_bucket {
	char uuid[SNAPSHOT_ID_SIZE];
	struct share_id node; /* written with both locks, read with either */
	/* guarded by work: */
	uint64_t counter;
	struct pin *v; /* ascending */
	size_t n;
	bool changed; /* since the last writing that was acknowledged */
	/* guarded by lock: */
	int64_t acked_ms; /* when the last one that was acknowledged began, boottime; 0: none */
	uint64_t epoch;	  /* how often what was held before is held no more */
	unsigned pushes;  /* under way */
	size_t n_pins;
};

struct pins {
	struct pins_options opt;
	pthread_t thread;
	bool started;
	pthread_mutex_t work;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* guarded by lock: */
	bool stopping, changed;
	struct pinned_bucket *buckets[REMOTES_MAX]; /* they stay */
	size_t n_buckets;
	struct pins_stats stats;
	/* The thread's own: */
	int64_t again_ms; /* how long to wait after a failure */
};

/* ---- pins_buckets.c ---- */

/* Found, or made. NULL: no memory, or too many. With the lock held. */
struct pinned_bucket *pins_bucket_locked(struct pins *p, const char *uuid);
/* The same without it. */
struct pinned_bucket *pins_bucket(struct pins *p, const char *uuid);
/* The i-th of those that there are now, or NULL. */
struct pinned_bucket *pins_bucket_at(struct pins *p, size_t i);

/* ---- ... with work held ---- */

/* Let each bucket's pins be what the index has containers of. -ENOMEM. */
MUST_CHECK int pins_renew(struct pins *p);
/* Write them to a bucket. -EROFS: it is read-only; its other failures. */
MUST_CHECK int pins_write(struct pins *p, struct pinned_bucket *b, struct error *err);
void pins_drop(struct pin *v, size_t n);

#endif
