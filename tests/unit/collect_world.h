/*
 * collect_world.h - pushes, collections and deletions as actors on a model_bucket, what must hold
 * after each request, and the lies that take a rule away.
 *
 * Pushes use the real push_intent.h, with small content of their own (collect_content.h);
 * collections are the real ones.
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
#include "tests/unit/collect_content.h"
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
	HEED_THE_REPACKED,
	SAY_WHERE_FIRST,
	LOOK_THROUGH_MOVES,
	USE_THE_TREE_ALONE,
	KEEP_METADATA_FIRST,
	KEEP_METADATA_IN_USE,
	RULES,
	MARK_WHAT_GOES = RULES, /* from here on: name_world.h */
	LOOK_AFTER_NAMING,
	LIST_AFTER_THE_MARK,
	ALL_KNOWN_RULES
};
struct ready {
	struct share_id id;
	struct share_packs packs;
	struct pack_id meta[SHARE_META_MAX];
	unsigned n_meta;
	struct uses uses;
};

/* What an actor has seen, for the lies. */
struct memory {
	char undone[SHARE_KEY_SIZE]; /* end of a round, which it has not seen */
	bool published;		     /* the round that it works on is there */
	uint64_t published_at;
	bool declared; /* it has written its intent, and not looked at the epoch since */
	char epoch_key[SHARE_KEY_SIZE];
	/* A base, as it was read once: */
	struct share_packs base;
	struct pack_id base_meta[SHARE_META_MAX];
	unsigned n_base_meta;
	struct uses base_uses;
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
	struct share_id copies[READY_MAX]; /* pushes whose packs collectors have written */
	size_t n_copies;
	uint64_t pushed, deleted, collected, packs_deleted, given_up, freed, moved, moved_again,
		kept;
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

static void lacks(struct world *w, const struct ready *r, const char *what,
		  const struct pack_id *pack)
{
	char key[SHARE_KEY_SIZE], id[SHARE_ID_SIZE];

	share_key_pack(pack, key);
	share_id_text(&r->id, id);
	snprintf(w->violation, sizeof(w->violation), "step %llu: %.40s lacks %s%.100s",
		 (unsigned long long)w->m.step, id, what, key);
}

static void check(struct world *w)
{
	char key[SHARE_KEY_SIZE];

	for (size_t i = 0; i < w->n_ready && !w->violation[0]; i++) {
		const struct ready *r = &w->ready[i];

		for (unsigned k = 0; k < r->n_meta; k++) {
			share_key_pack(&r->meta[k], key);
			if (model_find(&w->m, key))
				continue;
			share_key_meta(&r->meta[k], key);
			if (!model_find(&w->m, key))
				lacks(w, r, "", &r->meta[k]);
		}
		for (size_t k = 0; k < r->uses.n; k++)
			if (!content_is_there(&w->m, &r->uses.v[k]))
				lacks(w, r, "a chunk of ", &r->uses.v[k].at.pack);
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

static void note_ready(struct world *w, struct share_record *rec)
{
	struct ready *r = &w->ready[w->n_ready++];
	struct share_meta meta;

	*r = (struct ready){ .id = rec->id, .packs = rec->packs, .n_meta = rec->n_meta };
	memcpy(r->meta, rec->meta, sizeof(r->meta));
	rec->packs = (struct share_packs){ 0 };
	w->pushed++;
	if (!content_meta(&w->m, rec, &meta) || content_of(&meta, &rec->root, &r->uses) < 0)
		lacks(w, r, "its tree: ", &r->meta[0]);
	share_meta_fini(&meta);
}

static void note_record(struct world *w, const struct object_request *r)
{
	struct share_record rec;

	if (share_record_decode(r->body, r->len, &rec, NULL) < 0)
		abort();
	if (rec.state != SHARE_READY) {
		forget_ready(w, &rec.id);
	} else if (w->n_ready < READY_MAX) {
		note_ready(w, &rec);
	}
	share_record_fini(&rec);
}

static struct memory *memory_of(struct world *w, const struct actor *a)
{
	return &w->memory[a - w->m.actors];
}

static bool is_collector(const struct actor *a)
{
	return a - a->m->actors >= PUSHERS && a - a->m->actors < PUSHERS + COLLECTORS;
}

static void note_copy(struct world *w, const char *key)
{
	struct share_key k;

	if (w->n_copies < READY_MAX && share_key_parse(key, &k) == 0)
		w->copies[w->n_copies++] = k.pack.push;
}

/* Of a pack that a collector has written. */
static bool is_of_copy(const struct world *w, const char *key)
{
	struct share_key k;

	if (share_key_parse(key, &k) < 0)
		return false;
	for (size_t i = 0; i < w->n_copies; i++)
		if (share_id_equal(&w->copies[i], &k.pack.push))
			return true;
	return false;
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
	if (r->op == OBJECT_PUT && begins(r->key, "pack/") && a && is_collector(a))
		note_copy(w, r->key);
	w->kept += r->op == OBJECT_PUT && begins(r->key, "meta/");
	if (r->op == OBJECT_PUT_ONCE && begins(r->key, "moved/")) {
		w->moved++;
		w->moved_again += is_of_copy(w, r->key);
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

/* A record without its ancestors' metadata. */
static bool hide_old_meta(struct world *w, struct object_request *r)
{
	const struct model_object *o = model_find(&w->m, r->key);
	struct share_record rec;

	if (!o || share_record_decode(o->body.data, o->body.len, &rec, NULL) < 0)
		return false;
	rec.n_meta = MIN(rec.n_meta, 1u);
	if (share_record_encode(&rec, &r->data, NULL) < 0)
		abort();
	share_record_fini(&rec);
	return true;
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
	case KEEP_METADATA_FIRST:
		return r->op == OBJECT_PUT && begins(r->key, "meta/");
	case KEEP_METADATA_IN_USE:
		return r->op == OBJECT_GET && begins(r->key, "snap/") && hide_old_meta(w, r);
	case SAY_WHERE_FIRST:
		return r->op == OBJECT_PUT_ONCE && begins(r->key, "moved/");
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

/* A round without what is repacked. */
static bool shorten_round(struct world *w, struct object_request *r)
{
	const struct model_object *o = model_find(&w->m, r->key);
	struct share_round round, less;
	int rc = o ? share_round_decode(o->body.data, o->body.len, &round, NULL) : -ENOENT;

	if (rc < 0)
		return false;
	less = round;
	less.condemned = less.repacked = (struct share_packs){ 0 };
	rc = share_packs_add_all(&less.condemned, &round.condemned);
	if (rc < 0 || share_round_encode(&less, &r->data, NULL) < 0)
		abort();
	share_round_fini(&round);
	share_round_fini(&less);
	return true;
}

static bool lie_to_pusher(struct world *w, struct memory *mem, struct object_request *r)
{
	const struct model_object *o;

	if (w->without == HEED_THE_REPACKED)
		return r->op == OBJECT_GET && begins(r->key, "gc/") && !ends(r->key, ".done") &&
		       shorten_round(w, r);
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
	case LOOK_THROUGH_MOVES:
		return begins(r->key, "moved/");
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
		      struct share_packs *out, struct uses *uses)
{
	struct pack_id p = { i->intent.id, number };
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	bool again = w->without == NAME_PACKS_ONCE && w->n_packs && model_chance(&w->m, 500);
	int rc = -ENOENT;

	if (again)
		p = w->packs[model_random(&w->m, (unsigned)w->n_packs)];
	share_key_pack(&p, key);
	if (again) /* it has the same bytes: is it there? */
		rc = object_get(&w->m.base, OBJECT_PUSH, key, 0, &bytes, NULL, NULL);
	if (rc == 0)
		rc = content_of_pack(&p, &bytes, uses);
	if (rc == -ENOENT) {
		content_make_pack(&w->m, &p, uses, &bytes);
		rc = object_put(&w->m.base, OBJECT_PUSH, key, bytes.data, bytes.len, NULL);
	}
	if (rc < 0)
		return rc;
	w->packs[w->n_packs < READY_MAX ? w->n_packs++ : model_random(&w->m, READY_MAX)] = p;
	return share_packs_add(out, &p);
}

static int write_meta(struct world *w, struct share_record *rec, uint32_t number, struct uses *uses,
		      size_t from)
{
	struct pack_id p = { rec->id, number };
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_pack(&p, key);
	content_make_meta(&w->m, &p, uses, from, &rec->root, &bytes);
	rc = object_put(&w->m.base, OBJECT_PUSH, key, bytes.data, bytes.len, NULL);
	memmove(&rec->meta[1], &rec->meta[0], rec->n_meta * sizeof(p));
	rec->meta[0] = p;
	rec->n_meta++;
	return rc < 0 ? rc : share_packs_add(&rec->packs, &p);
}

/* Some snapshot of the newest, as it is now. */
static int read_base(struct world *w, struct memory *mem)
{
	size_t recent = MIN(w->n_ready, 4u);
	struct share_id id = w->ready[w->n_ready - 1 - model_random(&w->m, (unsigned)recent)].id;
	struct share_record rec = { 0 };
	struct share_meta meta;
	int rc = remote_read_record(w->r, &id, &rec, NULL);

	share_packs_fini(&mem->base);
	mem->base_uses.n = 0;
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (rec.state == SHARE_READY)
		rc = share_meta_fetch(&w->m.base, OBJECT_PUSH, &rec, &meta, NULL);
	if (rec.state == SHARE_READY && rc == 0) {
		rc = content_of(&meta, w->without == USE_THE_TREE_ALONE ? NULL : &rec.root,
				&mem->base_uses);
		share_meta_fini(&meta);
		if (rc == 0)
			rc = share_packs_add_all(&mem->base, &rec.packs);
		memcpy(mem->base_meta, rec.meta, sizeof(rec.meta));
		mem->n_base_meta = rec.n_meta;
	}
	share_record_fini(&rec);
	return rc == -ENOENT ? 0 : rc;
}

/* What a base has, as push.c takes it: its metadata with all that it names, or single chunks. */
static int use_base(struct world *w, struct memory *mem, struct push_intent *i,
		    struct share_record *rec, struct uses *uses)
{
	const struct share_packs *has = &mem->base;
	bool delta;
	int rc = 0;

	if (w->n_ready == 0)
		return 0;
	if (w->without != READ_BASES_NOW || has->n == 0 || model_chance(&w->m, 400))
		rc = read_base(w, mem);
	delta = has->n && mem->n_base_meta < 3 && model_chance(&w->m, 300) &&
		!share_packs_meet(has, &i->gone);
	if (rc == 0 && delta) {
		rc = share_packs_add_all(&rec->packs, has);
		memcpy(rec->meta, mem->base_meta, sizeof(rec->meta));
		rec->n_meta = mem->n_base_meta;
	}
	for (size_t k = 0; rc == 0 && k < mem->base_uses.n && uses->n < USES_MAX / 2; k++) {
		const struct use *u = &mem->base_uses.v[k];

		if (!share_packs_has(has, &u->at.pack) || share_packs_has(&i->gone, &u->at.pack) ||
		    model_chance(&w->m, 500))
			continue;
		uses->v[uses->n++] = *u;
		rc = share_packs_add(&rec->packs, &u->at.pack);
	}
	return rc;
}

static void push(struct actor *a)
{
	struct world *w = world_of(a->m);
	struct push_intent i = { .r = w->r };
	struct share_record rec = { .state = SHARE_READY };
	struct uses uses = { .n = 0 };
	uint32_t n = 0;
	size_t from;
	int rc;

	memory_of(w, a)->declared = false;
	rc = push_intent_declare(&i, NULL);
	rec.id = i.intent.id;
	rec.nonce = i.intent.nonce;
	rec.epoch = i.intent.epoch;
	if (rc == 0)
		rc = use_base(w, memory_of(w, a), &i, &rec, &uses);
	from = rec.n_meta ? uses.n : 0; /* its base's metadata has the others */
	for (; rc == 0 && n < 1 + model_random(a->m, 2); n++)
		rc = write_pack(w, &i, n, &rec.packs, &uses);
	if (rc == 0)
		rc = write_meta(w, &rec, n, &uses, from);
	if (rc == 0)
		rc = push_intent_decide(&i, &rec, NULL);
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
