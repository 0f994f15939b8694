#include "fs/deferred.h"

void deferred_init(struct deferred *d, const char *name, void (*run)(struct deferred_request *list))
{
	*d = (struct deferred){ .name = name, .run = run };
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->cond, NULL);
	d->tail = &d->head;
}

/* The whole queue; NULL when it ends. */
static struct deferred_request *take(struct deferred *d)
{
	struct deferred_request *list;

	pthread_mutex_lock(&d->lock);
	while (!d->head && !d->stop)
		pthread_cond_wait(&d->cond, &d->lock);
	list = d->head;
	d->head = NULL;
	d->tail = &d->head;
	pthread_mutex_unlock(&d->lock);
	return list;
}

static void *thread_main(void *arg)
{
	struct deferred *d = arg;
	struct deferred_request *list;

	pthread_setname_np(pthread_self(), d->name);
	while ((list = take(d)))
		d->run(list);
	return NULL;
}

int deferred_start(struct deferred *d)
{
	int r = pthread_create(&d->thread, NULL, thread_main, d);

	d->started = r == 0;
	return -r;
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
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
	if (d->started)
		pthread_join(d->thread, NULL);
	pthread_cond_destroy(&d->cond);
	pthread_mutex_destroy(&d->lock);
}
