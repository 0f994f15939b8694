/*
 * object_threads.h - threads that do requests, for a backend whose calls wait.
 *
 * Whoever submits goes on at once; a thread is made when a request finds none idle, up to
 * OBJECT_THREADS. The lowest priority number goes first. Those of OBJECT_PUSH and above have half
 * of the threads at most, so a reader finds one however many of them stand still.
 */
#ifndef VARVE_OBJECT_THREADS_H
#define VARVE_OBJECT_THREADS_H

#include "store/bucket/object_store.h"

#define OBJECT_THREADS 8u
#define OBJECT_THREADS_SLOW (OBJECT_THREADS / 2)

struct object_threads;
/*
 * perform(os, r) does a request and calls its `done`; on several threads at once. NULL when out of
 * memory.
 */
struct object_threads *object_threads_new(struct object_store *os,
					  void (*perform)(struct object_store *os,
							  struct object_request *r));
/* If no thread can be made, the caller's does it. One that waits while `os` is stopped is
 * -ECANCELED. */
void object_threads_submit(struct object_threads *t, struct object_request *r);
/* Those that have not begun are -ECANCELED; waits for the others. NULL is accepted. */
void object_threads_free(struct object_threads *t);

#endif
