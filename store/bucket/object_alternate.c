/*
 * A read of a pack goes to one of the two, and to the other one if it is not there. If the
 * alternate cannot say, the bucket is asked whether it has rewritten the pack, by one byte of each
 * of the two objects that may say so.
 *
 * Each of these requests may end on a thread of either backend. So both are stopped, and all that
 * is under way has ended, before one of them is closed.
 */
#include "store/bucket/object_alternate.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACKS "pack/PP/" /* so many characters before the push's id (layout/share_key.h) */
#define PUSH_LEN 32u
#define REMEMBERED 64u
#define KEY_SIZE 64u /* of a pack's name and what is before it */

struct alternate_store {
	struct object_store base;
	struct object_store *_Atomic other; /* NULL: it is not there, for this reason: */
	pthread_mutex_t lock;		    /* a leaf */
	pthread_cond_t ended;		    /* n_passed is 0 */
	struct error why;		    /* guarded by lock */
	char pushes[REMEMBERED][PUSH_LEN];  /* guarded by lock: that `other` has, the last ones */
	unsigned n_pushes;		    /* guarded by lock: in all */
	unsigned n_passed;		    /* guarded by lock: requests under way */
};

/* Where a read of a pack is. */
enum stage { AT_INNER, AT_OTHER, AT_MOVED, AT_META };

struct passed {
	struct object_request in;
	struct object_request *out;
	struct alternate_store *store;
	enum stage stage;
	bool asked_inner, asked_other; /* and it is not there, or cannot be asked */
	int failure;		       /* of the other one; 0: it has said that it is not there */
	struct error why;
	char key[KEY_SIZE];
};

static bool is_pack(const char *key)
{
	const size_t len = strlen(key);

	return strncmp(key, "pack/", strlen("pack/")) == 0 && len > strlen(PACKS) + PUSH_LEN &&
	       len < KEY_SIZE;
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

static void answered(struct object_request *in);

/* The next request of a read. What the one before has brought is not needed. */
static void send(struct passed *p, enum stage to)
{
	struct alternate_store *s = p->store;

	if (to == AT_MOVED || to == AT_META) {
		snprintf(p->key, sizeof(p->key), "%s%s", to == AT_MOVED ? "moved/" : "meta/",
			 p->out->key + strlen(PACKS));
		p->in = (struct object_request){ .op = OBJECT_GET,
						 .priority = p->out->priority,
						 .key = p->key,
						 .len = 1,
						 .timeout_ms = p->out->timeout_ms };
	} else {
		p->in = *p->out;
		p->in.waits = false; /* this thread may be one that does not wait */
	}
	p->in.done = answered;
	p->in.arg = p;
	p->stage = to;
	object_submit(to == AT_OTHER ? s->other : s->base.inner, &p->in);
}

static void end(struct passed *p)
{
	struct alternate_store *s = p->store;

	object_pass_state(&s->base, s->base.inner);
	object_pass_answer(p->out, &p->in);
	p->out->done(p->out);
	free(p);
	pthread_mutex_lock(&s->lock);
	if (--s->n_passed == 0)
		pthread_cond_broadcast(&s->ended);
	pthread_mutex_unlock(&s->lock);
}

/* What ends a read: `rc`, and nothing but its reason. */
static void end_with(struct passed *p, int rc)
{
	struct error why = p->why;

	object_request_fini(&p->in);
	p->in.result = rc;
	p->in.err = (struct error)ERROR_INIT;
	if (rc != -ENOENT)
		error_set(&p->in.err, rc, "%.100s is not there, and its alternate: %s", p->out->key,
			  error_text(&why));
	end(p);
}

/* A failure of the way to the other one, not of the object. */
static bool is_away(int rc)
{
	return rc < 0 && rc != -ENOENT && rc != -EBADMSG && rc != -EFBIG && rc != -ENOMEM &&
	       rc != -ECANCELED;
}

/* Neither has given it: the one that is left is asked, or who knows more. */
static void go_on(struct passed *p)
{
	struct alternate_store *s = p->store;

	object_request_fini(&p->in);
	if (!p->asked_inner) {
		send(p, AT_INNER);
	} else if (!p->asked_other && s->other) {
		send(p, AT_OTHER);
	} else if (!p->asked_other || p->failure) {
		if (!p->failure) {
			pthread_mutex_lock(&s->lock);
			p->why = s->why;
			pthread_mutex_unlock(&s->lock);
			p->failure = -EIO;
		}
		send(p, AT_MOVED);
	} else {
		end_with(p, -ENOENT);
	}
}

static void answered_pack(struct passed *p)
{
	const bool at_other = p->stage == AT_OTHER;
	const int rc = p->in.result;

	if (at_other)
		p->asked_other = true;
	else
		p->asked_inner = true;
	if (rc == 0 && at_other)
		remember(p->store, p->out->key);
	if (at_other && is_away(rc)) {
		p->failure = rc;
		p->why = p->in.err;
	} else if (rc != -ENOENT) {
		end(p);
		return;
	}
	go_on(p);
}

static void answered(struct object_request *in)
{
	struct passed *p = in->arg;

	if (p->stage == AT_INNER || p->stage == AT_OTHER) {
		answered_pack(p);
	} else if (in->result == 0 || in->result == -EBADMSG || in->result == -EFBIG) {
		end_with(p, -ENOENT); /* it was rewritten */
	} else if (in->result == -ENOENT && p->stage == AT_MOVED) {
		object_request_fini(in);
		send(p, AT_META);
	} else if (in->result == -ENOENT) {
		end_with(p, p->failure);
	} else {
		end(p);
	}
}

/* Not of a pack. */
static void passed_by(struct object_request *in)
{
	end(in->arg);
}

static void alternate_submit(struct object_store *os, struct object_request *r)
{
	struct alternate_store *s = CONTAINER_OF(os, struct alternate_store, base);
	struct passed *p = calloc(1, sizeof(*p));
	bool reads = r->op == OBJECT_GET && is_pack(r->key);

	if (!p) {
		r->result = error_set(&r->err, -ENOMEM, "out of memory");
		r->done(r);
		return;
	}
	pthread_mutex_lock(&s->lock);
	s->n_passed++;
	pthread_mutex_unlock(&s->lock);
	*p = (struct passed){ .in = *r, .out = r, .store = s };
	p->in.done = reads ? answered : passed_by;
	p->in.arg = p;
	p->stage = reads && s->other && is_remembered(s, r->key) ? AT_OTHER : AT_INNER;
	object_submit(p->stage == AT_OTHER ? s->other : s->base.inner, &p->in);
}

static void alternate_close(struct object_store *os)
{
	struct alternate_store *s = CONTAINER_OF(os, struct alternate_store, base);

	object_store_stop(os);
	if (s->other)
		object_store_stop(s->other);
	pthread_mutex_lock(&s->lock);
	while (s->n_passed)
		pthread_cond_wait(&s->ended, &s->lock);
	pthread_mutex_unlock(&s->lock);
	object_store_close(os->inner);
	object_store_close(s->other);
	pthread_cond_destroy(&s->ended);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct object_store_ops ops = { .submit = alternate_submit, .close = alternate_close };

int object_alternate_open(struct object_store *inner, const struct error *why,
			  struct object_store **out, struct error *err)
{
	struct alternate_store *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->base.ops = &ops;
	s->base.inner = inner;
	s->base.read_only = inner->read_only;
	s->base.has_clock = inner->has_clock;
	s->why = *why;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->ended, NULL);
	*out = &s->base;
	return 0;
}

void object_alternate_attach(struct object_store *os, struct object_store *other)
{
	CONTAINER_OF(os, struct alternate_store, base)->other = other;
}

void object_alternate_set_why(struct object_store *os, const struct error *why)
{
	struct alternate_store *s = CONTAINER_OF(os, struct alternate_store, base);

	pthread_mutex_lock(&s->lock);
	s->why = *why;
	pthread_mutex_unlock(&s->lock);
}
