/*
 * What of a snapshot the bucket lacks, and the record that names it all. The order of requests, on
 * which the safety of collections rests: push_intent.h.
 */
#include "store/share/push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/lazy/pins.h"
#include "store/share/hooks.h"
#include "store/share/push_bases.h"
#include "store/share/push_content.h"
#include "store/share/push_intent.h"
#include "store/share/repair.h"
#include "store/remote/share_ids.h"

#define TRIES 5

struct push {
	struct store *s;
	struct remote *r;
	struct object_store *os;
	const struct snapshot *snap;
	struct progress *p;
	struct push_intent i;
	struct push_bases b;
	uint64_t hooks_from;
	struct push_survey survey;
	struct push_content content;
	struct push_result res;
};

static void push_fini(struct push *x)
{
	push_intent_end(&x->i);
	push_bases_fini(&x->b);
	push_content_fini(&x->content);
}

/* ---- upload ---- */

static void plan(struct push *x)
{
	x->content = (struct push_content){
		.s = x->s,
		.os = x->os,
		.id = x->i.intent.id,
		.root = x->snap->root,
		.present = &x->b.present,
		.with_below = push_bases_is_delta(&x->b) && !x->b.known.full ? &x->b.known : NULL,
		.p = x->p,
	};
}

/* The hooks of what has been uploaded, and of what it uses of others, with its new nodes. */
static int write_hooks(struct push *x)
{
	const struct hook_sample *all = &x->survey.all;

	return all->bytes >= x->hooks_from ? hooks_write(x->r, all, &x->i.intent.id) : 0;
}

static int make_record(struct push *x, struct share_record *rec, struct error *err)
{
	const struct share_record *base = x->content.with_below ? &x->b.bases[0].rec : NULL;
	struct share_id parent = x->b.old ? x->b.old->snapshot.parent : (struct share_id){ 0 };
	int rc = 0;

	*rec = (struct share_record){ .state = SHARE_READY,
				      .id = x->i.intent.id,
				      .nonce = x->i.intent.nonce,
				      .epoch = x->i.intent.epoch,
				      .root = x->snap->root };
	memcpy(rec->meta, x->content.meta, sizeof(rec->meta));
	memcpy(rec->meta_bytes, x->content.meta_bytes, sizeof(rec->meta_bytes));
	rec->n_meta = x->content.n_meta;
	for (unsigned i = 0; base && i < base->n_meta; i++) {
		if (rec->n_meta == SHARE_META_MAX)
			return -EFBIG;
		rec->meta_bytes[rec->n_meta] = base->meta_bytes[i];
		rec->meta[rec->n_meta++] = base->meta[i];
	}
	for (size_t i = 0; rc == 0 && i < x->content.packs.n; i++)
		rc = share_packs_add_range(&rec->packs, &x->content.packs.v[i]);
	for (size_t i = 0; rc == 0 && base && i < base->packs.n; i++)
		rc = share_packs_add_range(&rec->packs, &base->packs.v[i]);
	if (x->b.is_child && !x->b.bases[0].is_other)
		parent = x->b.bases[0].rec.id;
	share_snapshot_from(&rec->snapshot, x->snap, &parent);
	if (rc == 0 && share_packs_meet(&rec->packs, &x->b.borrowed))
		rc = remote_borrow(x->r, rec, err);
	return rc;
}

static int note_ids(struct store *s, struct remote *r, const struct snapshot *snap,
		    const struct share_id *id)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? share_ids_put(s->kv, b, remote_uuid(r), snap->id, id) : -ENOMEM;

	return rc < 0 ? rc : kv_write(s->kv, b, KV_LOG);
}

/* One attempt, with an id of its own. -EAGAIN: again. */
static int push_once(struct push *x, struct share_record *rec, struct error *err)
{
	int rc;

	rc = push_intent_declare(&x->i, err);
	if (rc == 0)
		rc = push_bases_learn(&x->b, err);
	plan(x);
	if (rc == 0)
		rc = push_content_survey(&x->content, &x->survey, err);
	if (rc == 0 && x->survey.unknown.bytes >= x->hooks_from)
		rc = push_bases_learn_hooked(&x->b, &x->survey.unknown, err);
	if (rc == 0)
		rc = push_content_run(&x->content, err);
	if (rc == 0)
		rc = write_hooks(x);
	if (rc == 0)
		rc = make_record(x, rec, err);
	if (rc == 0)
		rc = push_intent_decide(&x->i, rec, err);
	if (rc == 0)
		rc = note_ids(x->s, x->r, x->snap, &x->i.intent.id);
	return rc;
}

/* ---- the whole ---- */

/* Whether the snapshot is in the bucket, ready. 1 and *out, 0, or a failure. */
static int find_pushed(struct store *s, struct remote *r, const struct snapshot *snap,
		       struct share_record *out, struct error *err)
{
	struct share_id id;
	int rc = share_ids_to(s->kv, remote_uuid(r), snap->id, &id);

	if (rc < 0)
		return rc == -ENOENT ? 0 : error_set_errno(err, rc, "read what was pushed");
	rc = remote_read_record(r, &id, out, err);
	if (rc == 0 && out->state == SHARE_READY)
		return 1;
	if (rc == 0)
		share_record_fini(out);
	if (rc == 0 || rc == -ENOENT) /* deleted there */
		rc = share_ids_drop(s->kv, remote_uuid(r), snap->id, &id);
	return rc;
}

/* ---- the same tree ---- */

struct twin {
	struct store *s;
	const struct snapshot *snap;
	struct share_id id;
};

static int is_twin(void *arg, const char *local, const struct share_id *remote)
{
	struct twin *t = arg;
	struct snapshot s;
	int rc;

	if (snapshots_get(t->s->snapshots, local, &s, NULL) < 0)
		return 0;
	rc = s.has_root && digest_equal(&s.root, &t->snap->root) &&
	     (s.config == t->snap->config || json_equal(s.config, t->snap->config));
	if (rc)
		t->id = *remote;
	snapshot_fini(&s);
	return rc;
}

/* Another snapshot of the same tree and config that is in the bucket is this one there, too. */
static int find_twin(struct store *s, struct remote *r, const struct snapshot *snap,
		     struct share_record *out, struct error *err)
{
	struct twin t = { .s = s, .snap = snap };
	int rc = share_ids_each(s->kv, remote_uuid(r), is_twin, &t);

	if (rc <= 0)
		return rc;
	rc = remote_read_record(r, &t.id, out, err);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (out->state == SHARE_READY)
		return (rc = note_ids(s, r, snap, &t.id)) < 0 ? rc : 1;
	share_record_fini(out);
	return 0;
}

/* What a push is given, and whether it replaces what is there. */
struct pushing {
	struct store *s;
	struct remote *r;
	const struct snapshot *snap;
	struct progress *p;
	const struct share_record *old; /* as in push_bases.h */
	const struct share_packs *bad;
	bool misled;
	uint64_t hooks_from;
};

static int push_tries(const struct pushing *g, const struct share_id *node,
		      struct share_record *rec, struct push_result *out, struct error *err)
{
	int rc = -EAGAIN;

	for (int tries = 0; tries < TRIES && rc == -EAGAIN; tries++) {
		struct push x = { .s = g->s,
				  .r = g->r,
				  .os = remote_objects(g->r),
				  .i = { .r = g->r, .node = *node },
				  .snap = g->snap,
				  .p = g->p,
				  .b = { .s = g->s,
					 .r = g->r,
					 .snap = g->snap,
					 .p = g->p,
					 .gone = &x.i.gone,
					 .old = g->old,
					 .bad = g->bad,
					 .misled = g->misled },
				  .hooks_from = g->hooks_from };

		if (err)
			*err = (struct error)ERROR_INIT; /* of the attempt before */
		rc = push_once(&x, rec, err);
		out->id = x.i.intent.id;
		out->chunks = x.content.chunks;
		out->nodes = x.content.nodes;
		out->packs = x.content.n_packs;
		out->bytes = x.content.bytes;
		if (rc < 0)
			share_record_fini(rec);
		push_fini(&x);
	}
	return rc == -EAGAIN ? error_set(err, rc,
					 "collections of the bucket have ended it %d times: try "
					 "again later",
					 TRIES)
			     : rc;
}

/* Meanwhile the bucket is told often that this host lives. */
static int push_new(const struct pushing *g, struct share_record *rec, struct push_result *out,
		    struct error *err)
{
	struct pins *pins = remote_pins(g->r);
	struct share_id node;
	int rc = pins_push_begin(pins, remote_uuid(g->r), &node);

	if (rc < 0)
		return rc;
	rc = push_tries(g, &node, rec, out, err);
	pins_push_end(pins, remote_uuid(g->r));
	return rc;
}

/* *rec is what is there; it becomes what is there then. 1: it was whole. */
static int push_repair(const struct pushing *g, struct share_record *rec, struct push_result *out,
		       struct error *err)
{
	struct share_packs CLEANUP(share_packs_fini_p) bad = { 0 };
	struct share_record old = *rec;
	struct pushing anew = *g;
	bool unreadable = false;
	size_t denied = 0;
	int rc = remote_check_alternate(g->r, rec, err); /* else all that it borrows seems lost */

	if (rc == 0)
		rc = repair_find_bad(g->r, rec, g->p, &bad, err);
	if (rc == 0)
		rc = repair_find_misled(g->r, rec, &denied, &unreadable, err);
	out->damaged = share_packs_count(&bad) + denied;
	if (!out->damaged && unreadable)
		out->damaged = 1;
	if (rc < 0 || !out->damaged)
		return rc < 0 ? rc : 1;
	rc = remote_deletable(g->r, err);
	if (rc < 0)
		return rc;
	out->existed = false;
	*rec = (struct share_record){ 0 };
	anew.old = &old;
	anew.bad = &bad;
	anew.misled = denied > 0 || unreadable;
	rc = push_new(&anew, rec, out, err);
	if (rc == 0)
		rc = repair_replace(g->r, &old, rec, err);
	share_record_fini(&old);
	return rc;
}

/*
 * The snapshot anew, in the place of one that is deleted at this moment, and the name, which stands
 * for that. Who deletes it may have spared it because of the name: then it is deleted here.
 */
static int give_name_anew(const struct pushing *g, const struct push_options *opt,
			  struct share_record *rec, struct push_result *out, struct error *err)
{
	struct share_record dead = *rec;
	struct pushing anew = *g;
	int rc = share_ids_drop(g->s->kv, remote_uuid(g->r), g->snap->id, &dead.id);

	anew.old = &dead;
	*rec = (struct share_record){ 0 };
	out->existed = false;
	if (err)
		*err = (struct error)ERROR_INIT;
	if (rc == 0)
		rc = push_new(&anew, rec, out, err);
	if (rc == 0)
		rc = remote_give_name(g->r, opt->name, rec, opt->only_new, &dead.id, err);
	if (rc == 0 || rc == -EIDRM)
		(void)!remote_delete_unnamed(g->r, &dead.id, NULL);
	share_record_fini(&dead);
	return rc;
}

static int give_name(const struct pushing *g, const struct push_options *opt,
		     struct share_record *rec, struct push_result *out, struct error *err)
{
	int rc = remote_give_name(g->r, opt->name, rec, opt->only_new, NULL, err);

	for (int tries = 1; tries < TRIES && rc == -EIDRM; tries++)
		rc = give_name_anew(g, opt, rec, out, err);
	return rc == -EIDRM ? error_set(err, -EAGAIN,
					"others have deleted it %d times while it got its name: "
					"try again later",
					TRIES)
			    : rc;
}

static int push_held(const struct pushing *g, const struct push_options *opt,
		     struct push_result *out, struct error *err)
{
	struct share_record rec = { 0 };
	int rc = find_pushed(g->s, g->r, g->snap, &rec, err);

	if (rc == 0)
		rc = find_twin(g->s, g->r, g->snap, &rec, err);
	*out = (struct push_result){ .existed = rc == 1, .id = rec.id };
	if (rc == 0)
		rc = push_new(g, &rec, out, err);
	else if (rc == 1 && opt->repair)
		rc = push_repair(g, &rec, out, err);
	if (rc >= 0 && opt->name)
		rc = give_name(g, opt, &rec, out, err);
	share_record_fini(&rec);
	return MIN(rc, 0);
}

int push_snapshot(struct store *s, struct remote *r, const char *snapshot,
		  const struct push_options *opt, struct progress *p, struct push_result *out,
		  struct error *err)
{
	struct store_hold hold;
	struct snapshot snap;
	struct pushing g = { .s = s,
			     .r = r,
			     .snap = &snap,
			     .p = p,
			     .hooks_from = opt->hooks_from ? opt->hooks_from : HOOKS_FROM };
	int rc = remote_writable(r, err);

	if (rc == 0 && opt->name)
		rc = snapshot_name_check(opt->name, err);
	if (rc == 0)
		rc = store_hold_snapshot(s, snapshot, &snap, &hold, err);
	if (rc < 0)
		return rc;
	if (p)
		p->phase = "pushing";
	rc = push_held(&g, opt, out, err);
	store_release(s, &hold);
	snapshot_fini(&snap);
	if (rc == 0)
		return 0;
	return error_prefix(err, rc, "push %s to %s", snap.name[0] ? snap.name : snapshot,
			    remote_name(r));
}
