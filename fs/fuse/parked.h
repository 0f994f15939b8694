/*
 * parked.h - requests that want something of the far source (store/chunk/want.h).
 *
 * A serving thread does not wait for it: it parks a copy of the request, with what the run has
 * noted, and goes on. Threads of this pool take what is parked of one session, have all of it
 * fetched with one call, and run each request again from its start. So no lock and no serving
 * thread is held while the source is asked, and an operation sees the layers as they are then,
 * whatever was exchanged meanwhile.
 *
 * Bounded: PARKED_THREADS for all sessions, started when they are first needed; PARKED_MAX
 * requests and PARKED_BYTES of a session, beyond which a request gets ENOMEM. Fair: a session
 * gets another thread only while it has fewer than there are free ones (session_turns.c), so one
 * whose source is slow has half of them, and those that wait longest come first.
 *
 * A session's end drops its requests, and FUSE_INTERRUPT answers one with EINTR; neither waits
 * for the source. A write that has begun is not interrupted: it goes on once it can.
 *
 * Locks: `lock` is held for a look or a change of lists. The session pool's lock may be taken
 * under it, never the other way round.
 */
#ifndef VARVE_FS_PARKED_H
#define VARVE_FS_PARKED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fs/fuse/suspects.h"
#include "fs/host/keeper.h"
#include "store/chunk/want.h"

#define PARKED_THREADS 16u
#define PARKED_MAX 1024u
#define PARKED_BYTES (8u << 20)
/* How often a request may find gone what was fetched for it, before it gets EIO. */
#define PARKED_AGAIN_MAX 8u
#define PARKED_INTERRUPTS 64u

struct session;
struct parked;
TAILQ_HEAD(parked_list, parked);

/* A session's part; guarded by the pool's lock. Zeroed: none is parked. */
struct parked_session {
	unsigned n; /* from the first parking until answered, the next two as well */
	unsigned writes;
	size_t bytes;
	/*
	 * Requests that were to be interrupted while they were not parked: one of them may be
	 * about to be. Most have been answered. By number, the latest ones.
	 */
	uint64_t interrupted[PARKED_INTERRUPTS];
	unsigned n_interrupted;
};

struct parked_worker {
	struct parked_pool *owner;
	pthread_t thread;
	struct session *serving;     /* guarded by the pool's lock; NULL: idle, or it has ended */
	struct parked_list fetching; /* guarded by it, too */
	/* The thread's: for whom it fetches, as suspects.h has it. */
	struct suspects *suspects;
	char connection[KEEPER_NAME_MAX + 1];
};

struct parked_pool {
	/* Run a request (of which *request is the owner's copy) again. */
	void (*run)(struct session *s, void *request, size_t n);
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;  /* something may be taken, or stop */
	bool stop;
	unsigned n_started, busy;
	struct parked_list queue;
	struct parked_worker workers[PARKED_THREADS];
};

void parked_init(struct parked_pool *p, void (*run)(struct session *s, void *request, size_t n));
/* Every session has ended. */
void parked_fini(struct parked_pool *p);

/*
 * Park the request of n bytes, which this thread handles: what its run has noted is what it
 * waits for. True: it is parked, or was dropped with its session. False: answer it with *error.
 */
MUST_CHECK bool parked_add(struct session *s, const void *request, size_t n, int *error);
/* True: answer the request of that number with EINTR; it is parked no longer. */
MUST_CHECK bool parked_interrupt(struct session *s, uint64_t unique);
/* The session ends: drop what is parked of it. What comes from now on is dropped at once. */
void parked_end(struct session *s);
/* Writes that are parked, or run again and not answered yet. */
unsigned parked_writes(struct session *s);

#endif
