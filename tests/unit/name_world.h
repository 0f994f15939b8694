/*
 * name_world.h - a collect_world in which snapshots have names: hosts give names to what is there
 * already, while others remove names and snapshots.
 *
 * What must hold: a name that somebody was told to be given stands for its snapshot, and that is
 * ready, until somebody else changes the name, or deletes the snapshot by its id.
 */
#ifndef VARVE_TESTS_NAME_WORLD_H
#define VARVE_TESTS_NAME_WORLD_H

#include "tests/unit/collect_world.h"

#define NAMES 3
#define UNSURE_STEPS 200 /* a request that got no answer is made before these are over */

static const char *const name_of[NAMES] = { "a", "b", "c" };

struct name_state {
	bool promised; /* it stands for: */
	struct share_id id;
	unsigned busy; /* operations that change it now */
	uint64_t n;    /* and all that did */
	uint64_t unsure_until;
};

struct name_world {
	struct world w;
	struct name_state names[NAMES];
	struct share_id going[READY_MAX]; /* deleted by id */
	size_t n_going;
	uint64_t listed_at[ACTORS_MAX]; /* step of its first list of names; 0: none yet */
	uint64_t given, refused, removed;
};

static struct name_world *names_of(struct model *m)
{
	return CONTAINER_OF(world_of(m), struct name_world, w);
}

/* ---- what must hold ---- */

static bool is_ready(struct model *m, const struct share_id *id)
{
	const struct model_object *o;
	struct share_record rec;
	char key[SHARE_KEY_SIZE];
	bool ready;

	share_key_of_id(SHARE_KEY_SNAP, id, key);
	o = model_find(m, key);
	if (!o || share_record_decode(o->body.data, o->body.len, &rec, NULL) < 0)
		return false;
	ready = rec.state == SHARE_READY;
	share_record_fini(&rec);
	return ready;
}

static bool stands_for(struct model *m, const char *name, const struct share_id *id)
{
	struct share_register e;
	char prefix[SHARE_KEY_SIZE];
	size_t i;
	bool same;

	snprintf(prefix, sizeof(prefix), "name/%s/", name);
	i = model_index(m, prefix);
	if (i >= m->n || !begins(m->v[i].key, prefix) ||
	    share_register_decode(m->v[i].body.data, m->v[i].body.len, &e, NULL) < 0)
		return false;
	same = e.has_record && share_id_equal(&e.record.id, id);
	share_register_fini(&e);
	return same;
}

static void check_names(struct name_world *n)
{
	for (int i = 0; i < NAMES && !n->w.violation[0]; i++) {
		const struct name_state *s = &n->names[i];

		if (s->promised &&
		    (!stands_for(&n->w.m, name_of[i], &s->id) || !is_ready(&n->w.m, &s->id)))
			snprintf(n->w.violation, sizeof(n->w.violation),
				 "step %llu: name %s is lost", (unsigned long long)n->w.m.step,
				 name_of[i]);
	}
}

static void made_names(struct model *m, struct actor *a, const struct object_request *r)
{
	made(m, a, r);
	check_names(names_of(m));
}

/* ---- lies ---- */

static bool lie_of_names(struct model *m, struct actor *a, struct object_request *r)
{
	if (world_of(m)->without == MARK_WHAT_GOES && r->op == OBJECT_PUT &&
	    begins(r->key, "gone/")) {
		r->result = 0;
		return true;
	}
	if (world_of(m)->without == LOOK_AFTER_NAMING && r->op == OBJECT_GET &&
	    begins(r->key, "gone/")) {
		r->result = -ENOENT;
		return true;
	}
	return lie(m, a, r);
}

static bool hidden_name(struct model *m, struct actor *a, const struct object_request *r,
			const struct model_object *o)
{
	uint64_t *at = &names_of(m)->listed_at[a - m->actors];

	if (*at == 0 && strcmp(r->key, "name/") == 0)
		*at = m->step;
	if (world_of(m)->without == LIST_AFTER_THE_MARK && begins(r->key, "name/") && *at &&
	    o->created > *at)
		return true;
	return hidden(m, a, r, o);
}

/* ---- actors ---- */

static bool is_going(const struct name_world *n, const struct share_id *id)
{
	for (size_t i = 0; i < n->n_going; i++)
		if (share_id_equal(&n->going[i], id))
			return true;
	return false;
}

/* Which one it is; 0: another one goes on. */
static uint64_t begin_change(struct name_state *s)
{
	s->promised = false;
	s->n++;
	return s->busy++ ? 0 : s->n;
}

static void end_change(struct name_world *n, struct name_state *s, int rc)
{
	s->busy--;
	if (rc < 0)
		s->unsure_until = n->w.m.step + UNSURE_STEPS;
}

static struct share_id some_ready(struct world *w)
{
	unsigned recent = MIN((unsigned)w->n_ready, 3u);

	return w->ready[w->n_ready - 1 - model_random(&w->m, recent)].id;
}

static void give_name(struct actor *a)
{
	struct name_world *n = names_of(a->m);
	struct name_state *s = &n->names[model_random(a->m, NAMES)];
	const struct share_id id = some_ready(&n->w);
	struct share_record rec;
	uint64_t mine;
	int rc = remote_read_record(n->w.r, &id, &rec, NULL);

	if (rc < 0)
		return;
	mine = begin_change(s);
	rc = rec.state == SHARE_READY
		     ? remote_give_name(n->w.r, name_of[s - n->names], &rec, false, NULL, NULL)
		     : -EIDRM;
	share_record_fini(&rec);
	end_change(n, s, rc);
	n->refused += rc == -EIDRM;
	if (rc < 0 || s->n != mine || n->w.m.step < s->unsure_until || is_going(n, &id))
		return;
	s->promised = true;
	s->id = id;
	n->given++;
	check_names(n);
}

static void push_or_name(struct actor *a)
{
	if (world_of(a->m)->n_ready && model_chance(a->m, 700))
		give_name(a);
	else
		push(a);
}

static void remove_by_id(struct name_world *n)
{
	const struct share_id id = some_ready(&n->w);
	char text[SHARE_ID_SIZE];
	bool deleted;

	if (n->n_going == READY_MAX)
		return;
	n->going[n->n_going++] = id;
	for (int i = 0; i < NAMES; i++)
		n->names[i].promised &= !share_id_equal(&n->names[i].id, &id);
	share_id_text(&id, text);
	n->removed += remote_remove(n->w.r, text, &deleted, NULL) == 0;
}

static void remove_one(struct actor *a)
{
	struct name_world *n = names_of(a->m);
	struct name_state *s = &n->names[model_random(a->m, NAMES)];
	bool deleted = false;
	int rc;

	n->listed_at[a - a->m->actors] = 0;
	if (n->w.n_ready < 3)
		return;
	if (model_chance(a->m, 200)) {
		remove_by_id(n);
		return;
	}
	begin_change(s);
	rc = remote_remove(n->w.r, name_of[s - n->names], &deleted, NULL);
	end_change(n, s, rc == -ENOENT ? 0 : rc);
	n->removed += rc == 0 && deleted;
}

/* 0, -EIDRM or another failure of remote_give_name; -ENOENT: it is not there any more. */
static int give_new_name(struct name_world *n, const char *name, const struct share_id *id,
			 const struct share_id *instead)
{
	struct share_record rec;
	int rc = remote_read_record(n->w.r, id, &rec, NULL);

	if (rc < 0)
		return rc;
	rc = rec.state == SHARE_READY ? remote_give_name(n->w.r, name, &rec, true, instead, NULL)
				      : -ENOENT;
	share_record_fini(&rec);
	return rc;
}

/* As a push does, but that another snapshot takes the place of the one that is deleted. */
static void give_new_name_or_another(struct actor *a)
{
	struct name_world *n = names_of(a->m);
	const char *name = name_of[model_random(a->m, NAMES)];
	struct share_id id, dead = { 0 };
	bool again = false;
	int rc = -EIDRM;

	for (int tries = 0; tries < 5 && rc == -EIDRM && n->w.n_ready; tries++) {
		id = some_ready(&n->w);
		if (again && share_id_equal(&id, &dead))
			continue;
		rc = give_new_name(n, name, &id, again ? &dead : NULL);
		if (again && (rc == 0 || rc == -EIDRM))
			(void)!remote_delete_unnamed(n->w.r, &dead, NULL);
		n->refused += rc == -EIDRM;
		again = true;
		dead = id;
	}
}

static void push_or_new_name(struct actor *a)
{
	if (world_of(a->m)->n_ready && model_chance(a->m, 700))
		give_new_name_or_another(a);
	else
		push(a);
}

/* Once everybody has ended: nobody would ever delete what is marked and has no name. */
static void check_marked(struct name_world *n)
{
	for (size_t i = 0; i < n->w.m.n && !n->w.violation[0]; i++) {
		const char *key = n->w.m.v[i].key;
		struct share_key k;
		int names = 0;

		if (!begins(key, "gone/") || share_key_parse(key, &k) < 0 ||
		    !is_ready(&n->w.m, &k.id))
			continue;
		for (int j = 0; j < NAMES; j++)
			names += stands_for(&n->w.m, name_of[j], &k.id);
		if (!names)
			snprintf(n->w.violation, sizeof(n->w.violation),
				 "%.60s: it is there, without a name", key);
	}
}

static void name_world_init(struct name_world *n, uint64_t seed, enum rule without)
{
	*n = (struct name_world){ .n_going = 0 };
	world_init(&n->w, seed, without);
	n->w.m.made = made_names;
	n->w.m.lie = lie_of_names;
	n->w.m.hidden = hidden_name;
	for (int i = 0; i < PUSHERS; i++)
		n->w.m.actors[i].run = push_or_name;
	for (int i = 0; i < DELETERS; i++)
		n->w.m.actors[PUSHERS + COLLECTORS + i].run = remove_one;
}

#endif
