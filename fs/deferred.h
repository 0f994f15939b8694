/*
 * deferred.h - a queue of requests that wait for something and so are answered
 * by a thread of their own. The thread takes all that is queued at once.
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
	uint64_t ino, off; /* seek */
	int whence;	   /* seek */
};

struct deferred {
	pthread_t thread;
	bool started;
	/* Answers and frees every request of the list. */
	void (*run)(struct deferred_request *list);
	const char *name;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;
	struct deferred_request *head, **tail;
	bool stop;
};

void deferred_init(struct deferred *d, const char *name,
		   void (*run)(struct deferred_request *list));
/* -errno. The thread inherits the signal mask. */
MUST_CHECK int deferred_start(struct deferred *d);
/* Takes ownership of q (malloc'd). */
void deferred_push(struct deferred *d, struct deferred_request *q);
/* Answers what is queued, ends the thread. */
void deferred_fini(struct deferred *d);

#endif
