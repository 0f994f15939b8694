/*
 * pool.h - a bounded pool of worker threads.
 *
 * pool_submit blocks while `queue_cap` jobs wait, so a producer cannot outrun
 * the workers and memory stays bounded. Jobs start in the order of submission.
 */
#ifndef VARVE_BASE_POOL_H
#define VARVE_BASE_POOL_H

#include <stddef.h>

#include "store/base/macros.h"

struct pool;

/* NULL when out of memory or threads. Threads block all signals. */
struct pool *pool_new(unsigned n_threads, size_t queue_cap);
/* Runs what is queued, then joins. NULL is accepted. */
void pool_free(struct pool *p);
DEFINE_CLEANUP(struct pool *, pool_free)

/* fn(arg) runs once on some worker. Must not be called from a worker of p. */
void pool_submit(struct pool *p, void (*fn)(void *arg), void *arg);
/* Returns when nothing is queued or running. */
void pool_drain(struct pool *p);

#endif
