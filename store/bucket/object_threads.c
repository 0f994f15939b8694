#include "store/bucket/object_threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PRIORITIES (OBJECT_BACKGROUND + 1)

STAILQ_HEAD(request_queue, object_request);

struct object_threads {
	struct object_store *os;
	void (*perform)(struct object_store *os, struct object_request *r);
	pthread_mutex_t lock;
	pthread_cond_t work; /* a request was queued, a slow one has ended, or closing */
	/* guarded by lock, as all below */
	struct request_queue queues[PRIORITIES];
	unsigned n, idle, slow; /* threads; that wait; that do something slow */
	bool closing;
	pthread_t threads[OBJECT_THREADS];
};

struct object_threads *object_threads_new(struct object_store *os,
					  void (*perform)(struct object_store *os,
							  struct object_request *r))
{
	struct object_threads *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->os = os;
	t->perform = perform;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	for (unsigned i = 0; i < PRIORITIES; i++)
		STAILQ_INIT(&t->queues[i]);
	return t;
}

static void cancel(struct object_request *r)
{
	r->result = error_set(&r->err, -ECANCELED, "the remote is being closed");
	r->done(r);
}

static bool is_slow(unsigned priority)
{
	return priority >= OBJECT_PUSH;
}

/* The next one that may begin, out of its queue; or NULL. */
static struct object_request *take_locked(struct object_threads *t)
{
	for (unsigned i = 0; i < PRIORITIES; i++) {
		struct object_request *r = STAILQ_FIRST(&t->queues[i]);

		if (!r || (is_slow(i) && t->slow == OBJECT_THREADS_SLOW))
			continue;
		STAILQ_REMOVE_HEAD(&t->queues[i], link);
		return r;
	}
	return NULL;
}

/* The lock is held, and let go of meanwhile. */
static void do_one(struct object_threads *t, struct object_request *r)
{
	const bool slow = is_slow(r->priority);

	t->slow += slow;
	pthread_mutex_unlock(&t->lock);
	if (atomic_load_explicit(&t->os->stopped, memory_order_relaxed))
		cancel(r);
	else
		t->perform(t->os, r);
	pthread_mutex_lock(&t->lock);
	t->slow -= slow;
}

static void *run(void *arg)
{
	struct object_threads *t = arg;

	pthread_setname_np(pthread_self(), "varve-bucket");
	pthread_mutex_lock(&t->lock);
	while (!t->closing) {
		struct object_request *r = take_locked(t);

		if (r) {
			do_one(t, r);
			continue;
		}
		t->idle++;
		pthread_cond_wait(&t->work, &t->lock);
		t->idle--;
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* Signals stay with the program's own threads. */
static void add_thread_locked(struct object_threads *t)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	t->n += pthread_create(&t->threads[t->n], NULL, run, t) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Another thread than those that are woken for what waits already. */
static bool wants_thread_locked(const struct object_threads *t)
{
	const struct object_request *r;
	unsigned waiting = 0;

	if (t->n == OBJECT_THREADS)
		return false;
	for (unsigned i = 0; i < PRIORITIES; i++)
		STAILQ_FOREACH(r, &t->queues[i], link)
	if (++waiting > t->idle)
		return true;
	return false;
}

void object_threads_submit(struct object_threads *t, struct object_request *r)
{
	bool closing, own = false;

	pthread_mutex_lock(&t->lock);
	closing = t->closing;
	if (!closing) {
		STAILQ_INSERT_TAIL(&t->queues[r->priority], r, link);
		if (wants_thread_locked(t))
			add_thread_locked(t);
		own = t->n == 0;
		if (own)
			STAILQ_REMOVE(&t->queues[r->priority], r, object_request, link);
		pthread_cond_signal(&t->work);
	}
	pthread_mutex_unlock(&t->lock);
	if (closing)
		cancel(r);
	else if (own)
		t->perform(t->os, r);
}

/* Also where every thread stands still. */
static void cancel_all(struct object_threads *t)
{
	struct object_request *r;

	for (unsigned i = 0; i < PRIORITIES; i++) {
		for (;;) {
			pthread_mutex_lock(&t->lock);
			r = STAILQ_FIRST(&t->queues[i]);
			if (r)
				STAILQ_REMOVE_HEAD(&t->queues[i], link);
			pthread_mutex_unlock(&t->lock);
			if (!r)
				break;
			cancel(r);
		}
	}
}

void object_threads_free(struct object_threads *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->closing = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	cancel_all(t);
	for (unsigned i = 0; i < t->n; i++)
		pthread_join(t->threads[i], NULL);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
