/*
 * deferred.h - a queue of requests that wait for something and so are answered
 * by threads of their own. A thread takes all requests queued for one session
 * at once, and no other thread serves that session meanwhile. So requests that
 * come while it waits are answered together, and slow sessions delay others
 * only when they occupy all threads.
 */
#ifndef VARVE_FS_DEFERRED_H
#define VARVE_FS_DEFERRED_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/macros.h"

struct session;
struct fuse_req;

struct deferred_request {
	struct deferred_request *next;
	struct session *session; /* referenced while it waits */
	struct fuse_req *req;
	uint64_t ino, off;		 /* seek; stale: ino */
	uint64_t unique;		 /* stale: the request's number; req is NULL */
	int whence;			 /* seek */
	_Alignas(8) uint8_t request[64]; /* its first bytes; seek: all, to be parked (parked.h) */
};

#define DEFERRED_THREADS 4

struct deferred;
struct deferred_worker {
	struct deferred *owner;
	pthread_t thread;
	const struct session *serving; /* guarded by the owner's lock; NULL: idle */
};

struct deferred {
	struct deferred_worker workers[DEFERRED_THREADS];
	unsigned n_started;
	/* Answers and frees every request of the list; all are of one session. */
	void (*run)(struct deferred_request *list);
	const char *name;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;  /* something may be taken, or stop */
	struct deferred_request *head, **tail;
	bool stop;
};

void deferred_init(struct deferred *d, const char *name,
		   void (*run)(struct deferred_request *list));
/* -errno. The threads inherit the signal mask. */
MUST_CHECK int deferred_start(struct deferred *d);
/* Takes ownership of q (malloc'd). */
void deferred_push(struct deferred *d, struct deferred_request *q);
/* Answers what is queued and ends the threads. */
void deferred_fini(struct deferred *d);

#endif
