#include "store/bucket/object_window.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct slot {
	struct object_request r;
	struct object_window *w;
	object_taken_fn taken;
	void *arg;
	bool is_done; /* guarded by the window's lock */
};

struct object_window {
	struct object_store *os;
	pthread_mutex_t lock;
	pthread_cond_t done;
	unsigned width, first, n; /* a ring: n slots from `first` on are under way */
	int failed;		  /* the first failure */
	struct slot slots[];
};

struct object_window *object_window_new(struct object_store *os, unsigned width)
{
	struct object_window *w = calloc(1, sizeof(*w) + width * sizeof(w->slots[0]));

	if (!w)
		return NULL;
	w->os = os;
	w->width = width;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->done, NULL);
	return w;
}

static void note_done(struct object_request *r)
{
	struct slot *s = r->arg;
	struct object_window *w = s->w;

	pthread_mutex_lock(&w->lock);
	s->is_done = true;
	pthread_cond_signal(&w->done);
	pthread_mutex_unlock(&w->lock);
}

/* Take the oldest one; its place is free then. */
static int take_oldest(struct object_window *w, struct error *err)
{
	struct slot *s = &w->slots[w->first];
	int rc;

	pthread_mutex_lock(&w->lock);
	while (!s->is_done)
		pthread_cond_wait(&w->done, &w->lock);
	pthread_mutex_unlock(&w->lock);
	rc = s->taken(s->arg, &s->r, w->failed ? NULL : err);
	object_request_fini(&s->r);
	w->first = (w->first + 1) % w->width;
	w->n--;
	if (w->failed == 0)
		w->failed = rc;
	return w->failed;
}

int object_window_add(struct object_window *w, const struct object_request *in,
		      object_taken_fn taken, void *arg, struct error *err)
{
	int rc = w->n == w->width ? take_oldest(w, err) : w->failed;
	struct slot *s = &w->slots[(w->first + w->n) % w->width];

	if (rc != 0)
		return rc;
	*s = (struct slot){ .r = *in, .w = w, .taken = taken, .arg = arg };
	s->r.done = note_done;
	s->r.arg = s;
	w->n++;
	object_submit(w->os, &s->r);
	return 0;
}

int object_window_drain(struct object_window *w, struct error *err)
{
	int rc = w->failed;

	while (w->n)
		rc = take_oldest(w, err);
	return rc;
}

void object_window_free(struct object_window *w)
{
	if (!w)
		return;
	while (w->n)
		(void)!take_oldest(w, NULL);
	pthread_cond_destroy(&w->done);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
