/*
 * A ring of jobs under one mutex. Workers sleep on `work`, a producer that
 * finds the ring full sleeps on `room`, pool_drain sleeps on `idle`.
 */
#include "store/base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct job {
	void (*fn)(void *arg);
	void *arg;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work; /* a job was queued, or stop was set */
	pthread_cond_t room; /* a job left the ring */
	pthread_cond_t idle; /* nothing is queued or running */
	/* guarded by lock: */
	struct job *ring;
	size_t cap, head, queued;
	unsigned running;
	bool stop;
	/* constant after pool_new: */
	unsigned n_threads;
	pthread_t threads[];
};

static void *worker(void *arg)
{
	struct pool *p = arg;

	pthread_setname_np(pthread_self(), "varve-worker");
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->queued == 0 && !p->stop)
			pthread_cond_wait(&p->work, &p->lock);
		if (p->queued == 0)
			break;
		struct job job = p->ring[p->head];
		p->head = (p->head + 1) % p->cap;
		p->queued--;
		p->running++;
		pthread_cond_signal(&p->room);
		pthread_mutex_unlock(&p->lock);
		job.fn(job.arg);
		pthread_mutex_lock(&p->lock);
		p->running--;
		if (p->queued == 0 && p->running == 0)
			pthread_cond_broadcast(&p->idle);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Threads inherit the mask of their creator: signals stay with the program's own threads. */
static bool start_threads(struct pool *p, unsigned n_threads)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (p->n_threads < n_threads) {
		if (pthread_create(&p->threads[p->n_threads], NULL, worker, p) != 0)
			break;
		p->n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return p->n_threads == n_threads;
}

struct pool *pool_new(unsigned n_threads, size_t queue_cap)
{
	struct pool *p;

	n_threads = MAX(n_threads, 1u);
	queue_cap = MAX(queue_cap, (size_t)1);
	p = calloc(1, sizeof(*p) + n_threads * sizeof(p->threads[0]));
	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->room, NULL);
	pthread_cond_init(&p->idle, NULL);
	p->cap = queue_cap;
	p->ring = calloc(queue_cap, sizeof(*p->ring));
	if (!p->ring || !start_threads(p, n_threads)) {
		pool_free(p);
		return NULL;
	}
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->idle);
	pthread_cond_destroy(&p->room);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p->ring);
	free(p);
}

void pool_submit(struct pool *p, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&p->lock);
	while (p->queued == p->cap)
		pthread_cond_wait(&p->room, &p->lock);
	p->ring[(p->head + p->queued) % p->cap] = (struct job){ fn, arg };
	p->queued++;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void pool_drain(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	while (p->queued > 0 || p->running > 0)
		pthread_cond_wait(&p->idle, &p->lock);
	pthread_mutex_unlock(&p->lock);
}
