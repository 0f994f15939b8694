/*
 * collect_world.h - pushes, collections and deletions as actors on a model_bucket, what must hold
 * after each request, and the lies that take a rule away.
 *
 * Pushes use the real push_intent.h, with containers that hold nothing; collections are the real
 * ones.
 */
#ifndef VARVE_TESTS_COLLECT_WORLD_H
#define VARVE_TESTS_COLLECT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>

#include <cmocka.h>

#include "store/layout/share_key.h"
#include "store/share/collect.h"
#include "store/share/push_intent.h"
#include "tests/unit/model_bucket.h"

#define PUSHERS 4
#define COLLECTORS 2
#define DELETERS 2
#define READY_MAX 400
#define GIVE_UP_S 600
#define FREE_S (OBJECT_DATE_MAX + 100)

/* What is left out. */
enum rule {
	ALL_RULES,
	WAIT_FOR_OLDER_PUSHES,
	MARK_AGAIN,
	MARK_AFTER_THE_WAIT,
	READ_BASES_NOW,
	NAME_PACKS_ONCE,
	ABORT_BY_THE_RECORD,
	FENCE_BY_DATE,
	HEED_THE_CONDEMNED,
	LOOK_FOR_DONE,
	READ_THE_EPOCH_AGAIN,
	LIST_WITHOUT_DELAY,
	RULES
};
struct ready {
	struct share_id id;
	struct share_packs packs;
};

/* What an actor has seen, for the lies. */
struct memory {
	char undone[SHARE_KEY_SIZE]; /* end of a round, which it has not seen */
	bool published;		     /* the round that it works on is there */
	uint64_t published_at;
	bool declared; /* it has written its intent, and not looked at the epoch since */
	char epoch_key[SHARE_KEY_SIZE];
	struct share_packs base; /* as it was read once */
};

struct world {
	struct model m;
	struct remote *r;
	enum rule without;
	struct memory memory[ACTORS_MAX];
	struct ready ready[READY_MAX];
	size_t n_ready;
	struct pack_id packs[READY_MAX]; /* some that were written */
	size_t n_packs;
	char violation[200];
	uint64_t pushed, deleted, collected, packs_deleted, given_up, freed;
};

/* The ids that are drawn belong to the seed, too. */
static struct model *ids_of;
ssize_t getrandom(void *out, size_t len, unsigned flags)
{
	uint8_t *b = out;

	(void)flags;
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(ids_of ? model_random(ids_of, 256) : (unsigned)rand());
	return (ssize_t)len;
}

static struct world *world_of(struct model *m)
{
	return CONTAINER_OF(m, struct world, m);
}

static bool begins(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

static bool ends(const char *s, const char *with)
{
	return strlen(s) >= strlen(with) && strcmp(s + strlen(s) - strlen(with), with) == 0;
}

/* ---- what must hold ---- */

static void check(struct world *w)
{
	for (size_t i = 0; i < w->n_ready && !w->violation[0]; i++) {
		struct share_packs_cursor c = { 0 };
		struct pack_id p;

		while (share_packs_next(&w->ready[i].packs, &c, &p)) {
			char key[SHARE_KEY_SIZE], id[SHARE_ID_SIZE];

			share_key_pack(&p, key);
			share_id_text(&w->ready[i].id, id);
			if (!model_find(&w->m, key))
				snprintf(w->violation, sizeof(w->violation),
					 "step %llu: %.40s lacks %.100s",
					 (unsigned long long)w->m.step, id, key);
		}
	}
}

static void forget_ready(struct world *w, const struct share_id *id)
{
	for (size_t i = 0; i < w->n_ready; i++) {
		if (!share_id_equal(&w->ready[i].id, id))
			continue;
		share_packs_fini(&w->ready[i].packs);
		w->ready[i] = w->ready[--w->n_ready];
		w->deleted++;
		return;
	}
}

static void note_record(struct world *w, const struct object_request *r)
{
	struct share_record rec;

	if (share_record_decode(r->body, r->len, &rec, NULL) < 0)
		abort();
	if (rec.state != SHARE_READY) {
		forget_ready(w, &rec.id);
	} else if (w->n_ready < READY_MAX) {
		w->ready[w->n_ready++] = (struct ready){ rec.id, rec.packs };
		rec.packs = (struct share_packs){ 0 };
		w->pushed++;
	}
	share_record_fini(&rec);
}

static struct memory *memory_of(struct world *w, const struct actor *a)
{
	return &w->memory[a - w->m.actors];
}

static void made(struct model *m, struct actor *a, const struct object_request *r)
{
	struct world *w = world_of(m);

	if (r->op == OBJECT_DELETE) {
		w->packs_deleted += begins(r->names[0], "pack/") ? r->n_names : 0;
		check(w);
	}
	if ((r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE) && begins(r->key, "snap/")) {
		note_record(w, r);
		check(w);
	}
	if (r->op != OBJECT_PUT_ONCE || !a)
		return;
	if (begins(r->key, "push/"))
		memory_of(w, a)->declared = true;
	if (!begins(r->key, "gc/"))
		return;
	memory_of(w, a)->published = !ends(r->key, ".done");
	memory_of(w, a)->published_at = m->step;
	snprintf(memory_of(w, a)->undone, sizeof(memory_of(w, a)->undone), "%s.done", r->key);
}

/* ---- lies ---- */

static bool is_collector(const struct actor *a)
{
	return a - a->m->actors >= PUSHERS && a - a->m->actors < PUSHERS + COLLECTORS;
}

static bool lie_to_collector(struct world *w, struct memory *mem, struct object_request *r)
{
	char intent[SHARE_KEY_SIZE];

	if (r->op == OBJECT_GET && ends(r->key, ".done") && !model_find(&w->m, r->key) &&
	    !mem->published) {
		snprintf(mem->undone, sizeof(mem->undone), "%s", r->key);
		mem->published = true;
		mem->published_at = w->m.step;
	}
	switch (w->without) {
	case LOOK_FOR_DONE:
		if (r->op != OBJECT_GET || strcmp(r->key, mem->undone) != 0)
			return false;
		r->result = -ENOENT;
		return true;
	case ABORT_BY_THE_RECORD:
		if (r->op != OBJECT_PUT_ONCE || !begins(r->key, "snap/"))
			return false;
		snprintf(intent, sizeof(intent), "push/%s", r->key + strlen("snap/"));
		model_erase(&w->m, intent);
		return true;
	default:
		return false;
	}
}

static bool lie_to_pusher(struct world *w, struct memory *mem, struct object_request *r)
{
	const struct model_object *o;

	if (w->without == HEED_THE_CONDEMNED)
		return r->op == OBJECT_GET && ends(r->key, ".done");
	if (w->without != READ_THE_EPOCH_AGAIN || r->op != OBJECT_LIST ||
	    strcmp(r->key, "gc/") != 0)
		return false;
	if (!mem->declared) {
		size_t i = model_index(&w->m, "gc/");

		o = i < w->m.n && begins(w->m.v[i].key, "gc/") ? &w->m.v[i] : NULL;
		snprintf(mem->epoch_key, sizeof(mem->epoch_key), "%s", o ? o->key : "");
		return false;
	}
	mem->declared = false;
	r->entries = calloc(1, sizeof(*r->entries));
	r->n_entries = mem->epoch_key[0] != '\0';
	r->entries[0].key = r->n_entries ? strdup(mem->epoch_key) : NULL;
	return true;
}

static bool lie(struct model *m, struct actor *a, struct object_request *r)
{
	struct world *w = world_of(m);
	struct memory *mem = memory_of(w, a);

	r->result = 0;
	return is_collector(a) ? lie_to_collector(w, mem, r)
			       : a - m->actors < PUSHERS && lie_to_pusher(w, mem, r);
}

static bool hidden(struct model *m, struct actor *a, const struct object_request *r,
		   const struct model_object *o)
{
	struct world *w = world_of(m);
	const struct memory *mem = memory_of(w, a);

	if (!is_collector(a))
		return false;
	switch (w->without) {
	case WAIT_FOR_OLDER_PUSHES:
		return begins(r->key, "push/");
	case LIST_WITHOUT_DELAY:
		return begins(r->key, "push/") && m->step - o->created < 40;
	case MARK_AGAIN:
		return begins(r->key, "snap/") && mem->published;
	case MARK_AFTER_THE_WAIT:
		return begins(r->key, "snap/") && mem->published && o->created > mem->published_at;
	default:
		return false;
	}
}

/* ---- actors ---- */

static int write_pack(struct world *w, struct push_intent *i, uint32_t number,
		      struct share_packs *out)
{
	struct pack_id p = { i->intent.id, number };
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	bool again = w->without == NAME_PACKS_ONCE && w->n_packs && model_chance(&w->m, 500);
	int rc = -ENOENT;

	if (again)
		p = w->packs[model_random(&w->m, (unsigned)w->n_packs)];
	share_key_pack(&p, key);
	if (again) /* it has the same bytes: is it there? */
		rc = object_get(&w->m.base, OBJECT_PUSH, key, 0, &text, NULL, NULL);
	if (rc == -ENOENT)
		rc = object_put(&w->m.base, OBJECT_PUSH, key, "pack", 4, NULL);
	if (rc < 0)
		return rc;
	w->packs[w->n_packs < READY_MAX ? w->n_packs++ : model_random(&w->m, READY_MAX)] = p;
	return share_packs_add(out, &p);
}

/* What a base has, as push.c takes it. */
static int use_base(struct world *w, struct memory *mem, struct push_intent *i,
		    struct share_packs *out)
{
	const struct share_packs *has = &mem->base;
	struct share_packs_cursor c = { 0 };
	struct share_record rec = { 0 };
	struct pack_id p;
	int rc = 0;

	if (w->n_ready == 0)
		return 0;
	if (w->without != READ_BASES_NOW || has->n == 0 || model_chance(&w->m, 400)) {
		size_t recent = MIN(w->n_ready, 4u);
		struct share_id id =
			w->ready[w->n_ready - 1 - model_random(&w->m, (unsigned)recent)].id;

		rc = remote_read_record(w->r, &id, &rec, NULL);
		if (rc < 0)
			return rc == -ENOENT ? 0 : rc;
		share_packs_fini(&mem->base);
		if (rec.state == SHARE_READY)
			rc = share_packs_add_all(&mem->base, &rec.packs);
		share_record_fini(&rec);
	}
	while (rc == 0 && share_packs_next(has, &c, &p))
		if (!share_packs_has(&i->gone, &p) && model_chance(&w->m, 600))
			rc = share_packs_add(out, &p);
	return rc;
}

static void push(struct actor *a)
{
	struct world *w = world_of(a->m);
	struct push_intent i = { .r = w->r };
	struct share_record rec = { .state = SHARE_READY };
	int rc;

	memory_of(w, a)->declared = false;
	rc = push_intent_declare(&i, NULL);
	if (rc == 0)
		rc = use_base(w, memory_of(w, a), &i, &rec.packs);
	for (unsigned n = 0; rc == 0 && n < 1 + model_random(a->m, 2); n++)
		rc = write_pack(w, &i, n, &rec.packs);
	if (rc == 0) {
		struct share_packs_cursor c = { 0 };

		rec.id = i.intent.id;
		rec.nonce = i.intent.nonce;
		rec.epoch = i.intent.epoch;
		share_packs_next(&rec.packs, &c, &rec.meta[0]);
		rec.n_meta = 1;
		rc = push_intent_decide(&i, &rec, NULL);
	}
	push_intent_end(&i);
	share_record_fini(&rec);
}

static void pause_a_turn(void *arg)
{
	struct actor *a = arg;

	if (!a->dead)
		model_yield(a);
}

static void collect(struct actor *a)
{
	struct world *w = world_of(a->m);
	struct memory *mem = memory_of(w, a);
	const struct collect_options opt = {
		.give_up_s = GIVE_UP_S, .free_s = FREE_S, .pause = pause_a_turn, .pause_arg = a
	};
	struct collect_result res;

	mem->undone[0] = '\0';
	mem->published = false;
	w->collected += collect_run(w->r, &opt, NULL, &res, NULL) == 0;
	w->given_up += res.given_up;
	w->freed += res.freed;
}

static void delete_one(struct actor *a)
{
	struct world *w = world_of(a->m);
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_record rec;
	struct share_id id;
	char key[SHARE_KEY_SIZE];
	int rc;

	if (w->n_ready < 3)
		return;
	id = w->ready[w->n_ready - 1 - model_random(a->m, MIN((unsigned)w->n_ready, 5u))].id;
	if (remote_read_record(w->r, &id, &rec, NULL) < 0)
		return;
	rec.state = SHARE_DELETED;
	rc = share_record_encode(&rec, &text, NULL);
	share_key_of_id(SHARE_KEY_SNAP, &id, key);
	if (rc == 0)
		rc = object_put(&a->m->base, OBJECT_CONTROL, key, text.data, text.len, NULL);
	(void)rc;
	share_record_fini(&rec);
}

/* ---- the whole ---- */

static void world_init(struct world *w, uint64_t seed, enum rule without)
{
#ifdef __SANITIZE_THREAD__
	skip(); /* there is one thread, with many stacks */
#endif
	*w = (struct world){ .without = without };
	model_init(&w->m, seed);
	ids_of = &w->m;
	assert_int_equal(remote_open_store("model", &w->m.base, &w->r, NULL), 0);
	w->m.faults = true;
	w->m.no_fence = without == FENCE_BY_DATE;
	w->m.made = made;
	w->m.lie = lie;
	w->m.hidden = hidden;
	for (int i = 0; i < PUSHERS; i++)
		model_add_actor(&w->m, push, NULL);
	for (int i = 0; i < COLLECTORS; i++)
		model_add_actor(&w->m, collect, NULL);
	for (int i = 0; i < DELETERS; i++)
		model_add_actor(&w->m, delete_one, NULL);
}

static void world_fini(struct world *w)
{
	model_fini(&w->m);
	remote_close(w->r);
	for (size_t i = 0; i < w->n_ready; i++)
		share_packs_fini(&w->ready[i].packs);
	for (size_t i = 0; i < ACTORS_MAX; i++)
		share_packs_fini(&w->memory[i].base);
	ids_of = NULL;
}

#endif
