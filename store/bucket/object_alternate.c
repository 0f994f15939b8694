#include "store/bucket/object_alternate.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PACKS "pack/PP/" /* so many characters before the push's id (layout/share_key.h) */
#define PUSH_LEN 32u
#define REMEMBERED 64u

struct alternate_store {
	struct object_store base;
	struct object_store *other; /* NULL: it could not be opened: */
	struct error why;
	pthread_mutex_t lock;		   /* a leaf */
	char pushes[REMEMBERED][PUSH_LEN]; /* guarded by lock: that `other` has, the last ones */
	unsigned n_pushes;		   /* guarded by lock: in all */
	_Atomic bool closing;
};

struct passed {
	struct object_request in;
	struct object_request *out;
	struct alternate_store *store;
	bool at_other, again; /* where it was sent; it is the second attempt */
};

static bool begins(const char *key, const char *with)
{
	return strncmp(key, with, strlen(with)) == 0;
}

static bool is_pack(const char *key)
{
	return begins(key, "pack/") && strlen(key) > strlen(PACKS) + PUSH_LEN;
}

static bool is_remembered(struct alternate_store *s, const char *key)
{
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < MIN(s->n_pushes, REMEMBERED) && !found; i++)
		found = memcmp(s->pushes[i], key + strlen(PACKS), PUSH_LEN) == 0;
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void remember(struct alternate_store *s, const char *key)
{
	if (is_remembered(s, key))
		return;
	pthread_mutex_lock(&s->lock);
	memcpy(s->pushes[s->n_pushes % REMEMBERED], key + strlen(PACKS), PUSH_LEN);
	s->n_pushes = s->n_pushes + 1 < 2 * REMEMBERED ? s->n_pushes + 1 : REMEMBERED;
	pthread_mutex_unlock(&s->lock);
}

static void send(struct passed *p)
{
	object_submit(p->at_other ? p->store->other : p->store->base.inner, &p->in);
}

static void answered(struct object_request *in)
{
	struct passed *p = in->arg;
	struct alternate_store *s = p->store;

	if (in->result == -ENOENT && s->other && !p->again && !s->closing) {
		object_request_fini(in);
		p->in = *p->out;
		p->in.done = answered;
		p->in.arg = p;
		p->in.waits = false; /* this thread may be one that does not wait */
		p->again = true;
		p->at_other = !p->at_other;
		send(p);
		return;
	}
	if (in->result == 0 && p->at_other)
		remember(s, in->key);
	if (in->result == -ENOENT && !s->other && !is_pack(in->key))
		in->result = error_set(&in->err, -EIO, "%.100s: absent, and its alternate: %s",
				       in->key, error_text(&s->why));
	object_pass_state(&s->base, s->base.inner);
	object_pass_answer(p->out, in);
	p->out->done(p->out);
	free(p);
}

static bool concerns(const struct alternate_store *s, const struct object_request *r)
{
	if (r->op != OBJECT_GET)
		return false;
	return is_pack(r->key) ||
	       (!s->other && (begins(r->key, "moved/") || begins(r->key, "meta/")));
}

static void alternate_submit(struct object_store *os, struct object_request *r)
{
	struct alternate_store *s = CONTAINER_OF(os, struct alternate_store, base);
	struct passed *p = calloc(1, sizeof(*p));

	if (!p) {
		r->result = error_set(&r->err, -ENOMEM, "out of memory");
		r->done(r);
		return;
	}
	*p = (struct passed){ .in = *r, .out = r, .store = s };
	p->in.done = answered;
	p->in.arg = p;
	p->again = !concerns(s, r);
	p->at_other = !p->again && s->other && is_remembered(s, r->key);
	send(p);
}

static void alternate_close(struct object_store *os)
{
	struct alternate_store *s = CONTAINER_OF(os, struct alternate_store, base);

	s->closing = true; /* nothing more goes to `other` once `inner` is closed */
	object_store_stop(os);
	if (s->other)
		object_store_stop(s->other);
	object_store_close(os->inner);
	object_store_close(s->other);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct object_store_ops ops = { .submit = alternate_submit, .close = alternate_close };

int object_alternate_open(struct object_store *inner, struct object_store *other,
			  const struct error *why, struct object_store **out, struct error *err)
{
	struct alternate_store *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->base.ops = &ops;
	s->base.inner = inner;
	s->base.read_only = inner->read_only;
	s->base.has_clock = inner->has_clock;
	s->other = other;
	if (why)
		s->why = *why;
	pthread_mutex_init(&s->lock, NULL);
	*out = &s->base;
	return 0;
}
