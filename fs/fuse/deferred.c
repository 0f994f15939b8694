#include "fs/fuse/deferred.h"

void deferred_init(struct deferred *d, const char *name, void (*run)(struct deferred_request *list))
{
	*d = (struct deferred){ .name = name, .run = run };
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->cond, NULL);
	d->tail = &d->head;
}

static bool is_served_locked(const struct deferred *d, const struct session *s)
{
	for (unsigned i = 0; i < DEFERRED_THREADS; i++)
		if (d->workers[i].serving == s)
			return true;
	return false;
}

/* Unlink all requests queued for s, in order. */
static struct deferred_request *unlink_locked(struct deferred *d, const struct session *s)
{
	struct deferred_request *list = NULL, **end = &list, **p = &d->head;

	while (*p) {
		struct deferred_request *q = *p;

		if (q->session != s) {
			p = &q->next;
			continue;
		}
		*p = q->next;
		q->next = NULL;
		*end = q;
		end = &q->next;
	}
	d->tail = p;
	return list;
}

/* The requests of the session that has waited longest; NULL when it ends. */
static struct deferred_request *take(struct deferred_worker *w)
{
	struct deferred *d = w->owner;
	struct deferred_request *q;

	pthread_mutex_lock(&d->lock);
	if (w->serving) {
		w->serving = NULL;
		if (d->head) /* there may be more for the session just served */
			pthread_cond_signal(&d->cond);
	}
	for (;;) {
		for (q = d->head; q && is_served_locked(d, q->session);)
			q = q->next;
		if (q || (d->stop && !d->head))
			break;
		pthread_cond_wait(&d->cond, &d->lock);
	}
	if (q) {
		w->serving = q->session;
		q = unlink_locked(d, w->serving);
	}
	if (d->stop) /* wake others for what this one has left */
		pthread_cond_broadcast(&d->cond);
	pthread_mutex_unlock(&d->lock);
	return q;
}

static void *thread_main(void *arg)
{
	struct deferred_worker *w = arg;
	struct deferred_request *list;

	pthread_setname_np(pthread_self(), w->owner->name);
	while ((list = take(w)))
		w->owner->run(list);
	return NULL;
}

int deferred_start(struct deferred *d)
{
	int r = 0;

	while (!r && d->n_started < DEFERRED_THREADS) {
		struct deferred_worker *w = &d->workers[d->n_started];

		w->owner = d;
		r = -pthread_create(&w->thread, NULL, thread_main, w);
		d->n_started += r == 0;
	}
	return r;
}

void deferred_push(struct deferred *d, struct deferred_request *q)
{
	q->next = NULL;
	pthread_mutex_lock(&d->lock);
	*d->tail = q;
	d->tail = &q->next;
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
}

void deferred_fini(struct deferred *d)
{
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_broadcast(&d->cond);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < d->n_started; i++)
		pthread_join(d->workers[i].thread, NULL);
	pthread_cond_destroy(&d->cond);
	pthread_mutex_destroy(&d->lock);
}
