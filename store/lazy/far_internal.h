/*
 * far_internal.h - far.c, which hands out chunks, and far_windows.c, which has the windows that
 * they come in.
 */
#ifndef VARVE_SHARE_FAR_INTERNAL_H
#define VARVE_SHARE_FAR_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "store/bucket/object_store.h"
#include "store/layout/share_key.h"
#include "store/lazy/far.h"
#include "store/lazy/far_buckets.h"
#include "store/remote/moved.h"

#define FAR_LOG_EVERY_MS 10000
#define FAR_AHEAD 4u /* windows that are fetched before they are asked for */

enum window_state { FAR_LOADING, FAR_READY, FAR_FAILED };

struct window {
	TAILQ_ENTRY(window) link;
	struct far *far;
	struct far_bucket *from;
	struct object_request rq;
	char key[SHARE_KEY_SIZE];
	struct pack_id pack;
	uint32_t offset, len; /* in the container */
	uint32_t aim;	      /* bytes that it was to have */
	/* guarded by far->lock */
	enum window_state state;
	unsigned users;
	unsigned run; /* how many windows before it were asked for in order */
	bool ahead;   /* nobody has asked for it yet */
};

struct far {
	struct source source;
	struct lazy_index *ix;	   /* borrowed */
	struct remotes *rs;	   /* borrowed */
	struct prefetch *prefetch; /* borrowed; or NULL */
	struct moved *moved;	   /* containers that were found gone */
	pthread_mutex_t lock;
	pthread_cond_t changed;		     /* a window's state, or stopped */
	TAILQ_HEAD(windows, window) windows; /* guarded by lock */
	size_t bytes;			     /* guarded by lock; of all windows */
	bool stopped;			     /* guarded by lock */
	struct far_stats stats;		     /* guarded by lock */
	int64_t logged_ms;		     /* guarded by lock */
	struct far_buckets buckets;
};

/* Windows to submit, once the lock is not held. */
struct submits {
	struct window *v[SOURCE_ITEMS_MAX * (FAR_AHEAD + 1)];
	size_t n;
};
/* Without the lock. */
void far_windows_submit(struct submits *s);

/* ---- with the lock held ---- */

/* The one that has all of that, or will; or NULL. */
struct window *far_window_find(struct far *f, const struct share_loc *at);
/* A new one; its request is in s. See window_new for `ahead` and `past`. NULL. */
struct window *far_window_begin(struct far *f, struct far_bucket *from, const struct share_loc *at,
				bool ahead, bool past, struct submits *s);
/* If somebody reads on and on: have what follows w ready. */
void far_window_ahead(struct far *f, struct far_bucket *from, const struct window *w,
		      struct submits *s);
/* One user less. */
void far_window_release(struct far *f, struct window *w);

/* ---- without it ---- */

/* Until the caller's window is there. 0, -ECANCELED, -ENODATA (gone), -EBADMSG, -EIO. */
MUST_CHECK int far_window_wait(struct far *f, struct window *w);
/* When nobody uses one. */
void far_windows_free(struct far *f);
/* A failure of a remote: of its credentials, its service or the way there. */
bool far_is_of_remote(int rc);

#endif
