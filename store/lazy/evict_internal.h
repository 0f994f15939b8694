/* evict_internal.h - what evict.c (chunks) and evict_ask.c (buckets) share. */
#ifndef VARVE_SHARE_EVICT_INTERNAL_H
#define VARVE_SHARE_EVICT_INTERNAL_H

#include <pthread.h>

#include "store/chunk/recent.h"
#include "store/lazy/evict.h"

/* What is held of each bucket that has answered. */
struct evict_answers {
	struct pins_held held[REMOTES_MAX];
	size_t n;
};

struct evictor {
	struct evictor_options opt;
	struct recent *recent;
	/* Of the one thread that evicts: */
	struct digest next; /* where the next pass begins */
	int64_t look_ms;    /* not before, monotonic */
	int64_t again_ms;   /* how long to wait after a run that was not enough */
	/* Of the thread that asks: */
	pthread_t thread;
	bool started;
	char silent[REMOTES_MAX][SNAPSHOT_ID_SIZE]; /* buckets that have not answered */
	size_t n_silent;
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t wake;
	/* guarded by lock: */
	bool stopping;
	bool wanted, asking; /* an ask; it is under way */
	bool answered;	     /* an ask has ended, and nobody has taken what came of it */
	int64_t asked_ms;    /* when the last one began, monotonic */
	struct evict_answers answers;
	struct evictor_stats stats;
};

void evict_answers_fini(struct evict_answers *a);
/* Start the thread that asks. -EAGAIN, -ENOMEM. */
MUST_CHECK int evict_ask_start(struct evictor *e);
/* Whether buckets have answered; else have them asked. Quick. */
bool evict_ask_is_done(struct evictor *e);
/* Take the answers that there are: evict_answers_fini. */
void evict_ask_take(struct evictor *e, struct evict_answers *out);

#endif
