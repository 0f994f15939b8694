/*
 * model_bucket.h - a bucket in memory, and actors that take turns at random.
 *
 * Each actor runs the real code on a stack of its own. Each request is one step: before it, any
 * other actor may run, and time passes. Actors stall, and die at any request: from then on their
 * requests fail without effect. Replies get lost; requests are made long after their caller was
 * told that they timed out. The bucket itself keeps its promises (object_store.h), unless it is
 * told to lie: each rule of a protocol rests on some request, so a bucket that lies about it is the
 * protocol without the rule.
 */
#ifndef VARVE_TESTS_MODEL_BUCKET_H
#define VARVE_TESTS_MODEL_BUCKET_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "store/bucket/object_store.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define FIBER_LEAVE(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define FIBER_ENTER(save, bottom, size) __sanitizer_finish_switch_fiber(save, bottom, size)
#else
#define FIBER_LEAVE(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_ENTER(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#endif

#define ACTOR_STACK ((size_t)256 << 10)
#define ACTORS_MAX 8
#define LATE_MAX 8
#define LIST_PAGE 5u /* keys a LIST: so that lists take several */

struct model;
struct actor {
	struct model *m;
	void (*run)(struct actor *a); /* one operation; then again */
	void *state;		      /* the caller's */
	double weight;		      /* how often it is its turn */
	uint64_t asleep;	      /* until this step */
	bool busy, dead;
	/* private */
	ucontext_t context;
	void *stack, *fake_stack;
};

struct model_object {
	char *key;
	struct buf body;
	int64_t modified;
	uint64_t created; /* step */
	void *note;	  /* the test's; freed when the body changes */
};

/* A request that is made after its caller was told that it timed out. */
struct late_request {
	enum object_op op;
	char key[OBJECT_KEY_MAX + 1];
	struct buf body;
	int64_t signed_at;
	uint64_t at; /* step; 0: none */
};

struct model {
	struct object_store base;
	struct model_object *v; /* ascending by key */
	size_t n, cap;
	int64_t now; /* the service's clock */
	uint64_t step, random;
	bool faults;
	struct late_request late[LATE_MAX];
	struct actor actors[ACTORS_MAX];
	size_t n_actors;
	struct actor *current; /* NULL: the test itself; its requests are made at once */
	ucontext_t scheduler;
	const void *scheduler_bottom;
	size_t scheduler_size;
	/*
	 * Before a request of an actor is made. True: the answer is in r, and it is not made. The
	 * second is told what was made. Both may be NULL.
	 */
	bool (*lie)(struct model *m, struct actor *a, struct object_request *r);
	void (*made)(struct model *m, struct actor *a, const struct object_request *r);
	bool (*hidden)(struct model *m, struct actor *a, const struct object_request *r,
		       const struct model_object *o); /* in a LIST */
	bool no_fence;				      /* old dates are taken */
};

static inline unsigned model_random(struct model *m, unsigned below)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (unsigned)((m->random >> 11) % below);
}

static inline bool model_chance(struct model *m, unsigned per_mille)
{
	return model_random(m, 1000) < per_mille;
}

/* ---- objects ---- */

/* Index of the first key that is not before `key`. */
static inline size_t model_index(const struct model *m, const char *key)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(m->v[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static inline struct model_object *model_find(const struct model *m, const char *key)
{
	size_t i = model_index(m, key);

	return i < m->n && strcmp(m->v[i].key, key) == 0 ? &m->v[i] : NULL;
}

static inline void model_write(struct model *m, const char *key, const void *body, size_t len)
{
	struct model_object *o = model_find(m, key);

	if (!o) {
		size_t i = model_index(m, key);

		if (m->n == m->cap) {
			m->cap = m->cap ? 2 * m->cap : 64;
			m->v = reallocarray(m->v, m->cap, sizeof(*m->v));
		}
		memmove(m->v + i + 1, m->v + i, (m->n - i) * sizeof(*m->v));
		m->n++;
		o = &m->v[i];
		*o = (struct model_object){ .key = strdup(key), .created = m->step };
	}
	free(STEAL(o->note));
	buf_clear(&o->body);
	if (buf_append(&o->body, body, len) < 0)
		abort();
	o->modified = m->now;
}

static inline void model_erase(struct model *m, const char *key)
{
	struct model_object *o = model_find(m, key);

	if (!o)
		return;
	free(o->key);
	free(o->note);
	buf_fini(&o->body);
	m->n--;
	memmove(o, o + 1, (m->n - (size_t)(o - m->v)) * sizeof(*o));
}

/* ---- requests ---- */

/* How much of a key a LIST with a delimiter shows; 0: all of it. */
static inline size_t model_prefix(const struct object_request *r, const char *key)
{
	const char *end = r->delimited ? strchr(key + strlen(r->key), '/') : NULL;

	return end ? (size_t)(end - key) + 1 : 0;
}

/* It was shown, or comes before `after`. */
static inline bool model_is_past(const struct object_request *r, const char *key, size_t prefix)
{
	const struct object_entry *last = r->n_entries ? &r->entries[r->n_entries - 1] : NULL;

	if (prefix && last && last->is_prefix && strncmp(last->key, key, prefix) == 0)
		return true;
	if (prefix && r->after && strncmp(r->after, key, prefix) == 0)
		return true;
	return r->after && strcmp(key, r->after) <= 0;
}

static inline void model_list(struct model *m, struct object_request *r)
{
	unsigned max = r->max_keys ? MIN(r->max_keys, LIST_PAGE) : LIST_PAGE;

	r->entries = calloc(max, sizeof(*r->entries));
	for (size_t i = model_index(m, r->key); i < m->n; i++) {
		const struct model_object *o = &m->v[i];
		size_t prefix;

		if (strncmp(o->key, r->key, strlen(r->key)) != 0)
			break;
		prefix = model_prefix(r, o->key);
		if (model_is_past(r, o->key, prefix) ||
		    (m->current && m->hidden && m->hidden(m, m->current, r, o)))
			continue;
		if (r->n_entries == max) {
			r->more = true;
			break;
		}
		r->entries[r->n_entries++] =
			(struct object_entry){ .key = prefix ? strndup(o->key, prefix)
							     : strdup(o->key),
					       .is_prefix = prefix > 0,
					       .size = o->body.len,
					       .modified = o->modified };
	}
}

static inline int model_get(struct model *m, struct object_request *r)
{
	const struct model_object *o = model_find(m, r->key);
	size_t at, len;

	if (!o)
		return -ENOENT;
	r->size = o->body.len;
	len = r->len ? MIN(r->len, o->body.len) : o->body.len;
	at = r->from_end ? o->body.len - len : MIN((size_t)r->offset, o->body.len);
	return buf_append(&r->data, o->body.data + at, MIN(len, o->body.len - at));
}

static inline int model_make(struct model *m, struct object_request *r)
{
	bool old = r->signed_at && m->now - r->signed_at > OBJECT_DATE_MAX && !m->no_fence;

	switch (r->op) {
	case OBJECT_GET:
		return model_get(m, r);
	case OBJECT_LIST:
		model_list(m, r);
		return 0;
	case OBJECT_DELETE:
		for (size_t i = 0; i < r->n_names; i++)
			model_erase(m, r->names[i]);
		return 0;
	case OBJECT_PUT_ONCE:
		if (old || model_find(m, r->key))
			return old ? -ESTALE : -EEXIST;
		break;
	case OBJECT_PUT:
		if (old)
			return -ESTALE;
		break;
	}
	model_write(m, r->key, r->body, r->len);
	return 0;
}

static inline void model_make_and_tell(struct model *m, struct actor *a, struct object_request *r)
{
	r->result = model_make(m, r);
	if (r->result == 0 && m->made)
		m->made(m, a, r);
}

/* It will be made, but nobody is told. */
static inline bool model_delay(struct model *m, const struct object_request *r)
{
	for (size_t i = 0; i < LATE_MAX; i++) {
		struct late_request *l = &m->late[i];

		if (l->at || (r->op == OBJECT_DELETE && r->n_names != 1))
			continue;
		l->op = r->op;
		snprintf(l->key, sizeof(l->key), "%s",
			 r->op == OBJECT_DELETE ? r->names[0] : r->key);
		buf_clear(&l->body);
		if (r->len && buf_append(&l->body, r->body, r->len) < 0)
			abort();
		/* Any request is refused when it is too old. */
		l->signed_at = r->signed_at ? r->signed_at : m->now;
		l->at = m->step + 1 + model_random(m, 150);
		return true;
	}
	return false;
}

static inline void model_make_late(struct model *m)
{
	for (size_t i = 0; i < LATE_MAX; i++) {
		struct late_request *l = &m->late[i];
		const char *name = l->key;
		struct object_request r = { .op = l->op,
					    .key = l->key,
					    .body = l->body.data,
					    .len = l->body.len,
					    .signed_at = l->signed_at,
					    .names = &name,
					    .n_names = 1 };

		if (!l->at || l->at > m->step)
			continue;
		l->at = 0;
		if (l->op != OBJECT_DELETE || m->now - l->signed_at <= OBJECT_DATE_MAX)
			model_make_and_tell(m, NULL, &r);
	}
}

/* With faults. */
static inline void model_perform(struct model *m, struct actor *a, struct object_request *r)
{
	bool writes = r->op != OBJECT_GET && r->op != OBJECT_LIST;

	if (m->lie && m->lie(m, a, r))
		return;
	if (m->faults && model_chance(m, writes ? 40 : 5)) {
		if (writes && model_chance(m, 500))
			model_make_and_tell(m, a, r); /* the reply is lost */
		else if (writes && model_chance(m, 500))
			(void)!model_delay(m, r);
		object_request_fini(r);
		r->result = error_set(&r->err, -ETIMEDOUT, "no answer");
		return;
	}
	model_make_and_tell(m, a, r);
}

/* ---- actors ---- */

static inline void model_yield(struct actor *a)
{
	struct model *m = a->m;

	FIBER_LEAVE(&a->fake_stack, m->scheduler_bottom, m->scheduler_size);
	swapcontext(&a->context, &m->scheduler);
	FIBER_ENTER(a->fake_stack, &m->scheduler_bottom, &m->scheduler_size);
}

/* The worst moments are between what is read and what is written because of it. */
static inline void model_doze(struct actor *a, bool often)
{
	if (model_chance(a->m, often ? 60 : 10))
		a->asleep = a->m->step + (1u << model_random(a->m, 9));
	model_yield(a);
}

static inline void model_submit(struct object_store *os, struct object_request *r)
{
	struct model *m = CONTAINER_OF(os, struct model, base);
	struct actor *a = m->current;

	if (a && !a->dead)
		model_doze(a, r->op != OBJECT_GET);
	if (a && a->dead)
		r->result = error_set(&r->err, -ECANCELED, "dead");
	else if (a)
		model_perform(m, a, r);
	else
		model_make_and_tell(m, NULL, r);
	r->date = m->now;
	r->done(r);
}

static inline void model_close(struct object_store *os)
{
	(void)os; /* the model's owner frees it */
}

static struct actor *model_starting; /* makecontext passes no pointers */

static inline void model_actor_main(void)
{
	struct actor *a = model_starting;
	struct model *m = a->m;

	FIBER_ENTER(NULL, &m->scheduler_bottom, &m->scheduler_size);
	a->run(a);
	a->busy = false;
	FIBER_LEAVE(NULL, m->scheduler_bottom, m->scheduler_size);
	setcontext(&m->scheduler);
}

/* Let it go on until its next request, or until its operation is over. */
static inline void model_turn(struct actor *a)
{
	struct model *m = a->m;
	void *fake = NULL;

	if (!a->busy) {
		a->busy = true;
		a->dead = false;
		getcontext(&a->context);
		a->context.uc_stack.ss_sp = a->stack;
		a->context.uc_stack.ss_size = ACTOR_STACK;
		a->context.uc_link = NULL;
		makecontext(&a->context, model_actor_main, 0);
		model_starting = a;
	}
	m->current = a;
	FIBER_LEAVE(&fake, a->stack, ACTOR_STACK);
	swapcontext(&m->scheduler, &a->context);
	FIBER_ENTER(fake, NULL, NULL);
	m->current = NULL;
}

static inline struct actor *model_pick(struct model *m)
{
	static const double weights[] = { 0, 0.01, 0.2, 1, 1, 5 };
	double sum = 0, at;
	size_t i = 0;

	if (model_random(m, 60) == 0)
		for (size_t k = 0; k < m->n_actors; k++)
			m->actors[k].weight = weights[model_random(m, ARRAY_SIZE(weights))];
	for (size_t k = 0; k < m->n_actors; k++)
		sum += m->actors[k].weight;
	at = sum * model_random(m, 1000000) / 1e6;
	while (i + 1 < m->n_actors && (at -= m->actors[i].weight) >= 0)
		i++;
	return &m->actors[i];
}

/* One step of some actor. Idle ones begin only sometimes. */
static inline void model_step(struct model *m)
{
	struct actor *a = model_pick(m);

	m->step++;
	m->now += model_chance(m, 5) ? 500 : 1 + model_random(m, 20);
	model_make_late(m);
	if (a->asleep > m->step || (!a->busy && model_chance(m, 500)))
		return;
	if (a->busy && m->faults && model_chance(m, 2))
		a->dead = true;
	model_turn(a);
}

/* All die. */
static inline void model_kill(struct model *m)
{
	for (size_t i = 0; i < m->n_actors; i++) {
		m->actors[i].dead = true;
		while (m->actors[i].busy)
			model_turn(&m->actors[i]);
	}
}

static inline struct actor *model_add_actor(struct model *m, void (*run)(struct actor *a),
					    void *state)
{
	struct actor *a = &m->actors[m->n_actors++];

	*a = (struct actor){ .m = m, .run = run, .state = state, .weight = 1 };
	a->stack = malloc(ACTOR_STACK);
	return a;
}

static inline void model_init(struct model *m, uint64_t seed)
{
	static const struct object_store_ops ops = { model_submit, model_close };

	*m = (struct model){ .now = 1000000, .random = seed * 0x9E3779B97F4A7C15 | 1 };
	m->base.ops = &ops;
	m->base.has_clock = true;
	for (int i = 0; i < 20; i++)
		model_random(m, 2);
}

static inline void model_fini(struct model *m)
{
	model_kill(m);
	for (size_t i = 0; i < m->n_actors; i++)
		free(m->actors[i].stack);
	for (size_t i = 0; i < LATE_MAX; i++)
		buf_fini(&m->late[i].body);
	while (m->n)
		model_erase(m, m->v[m->n - 1].key);
	free(m->v);
}

#endif
