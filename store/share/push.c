/*
 * What of a snapshot the bucket lacks, by the snapshots that it has already, and the record that
 * names it all. The order of requests, on which the safety of collections rests: push_intent.h.
 */
#include "store/share/push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/lazy/pins.h"
#include "store/share/hooks.h"
#include "store/share/push_content.h"
#include "store/share/push_intent.h"
#include "store/share/relied.h"
#include "store/share/repair.h"
#include "store/remote/share_ids.h"
#include "store/remote/share_walk.h"
#include "store/tree/record.h"

#define BASES_MAX 4u
#define HOOKED_TRIES 8u /* snapshots that hooks lead to, and that may be gone */
#define TRIES 5
#define KNOWN_NODES_MAX ((size_t)64 << 20)

/* A snapshot of the bucket that the new one may share content with. */
struct base {
	struct share_record rec;
	struct share_meta meta;
	bool is_other; /* it is in the alternate */
};

struct push {
	struct store *s;
	struct remote *r;
	struct object_store *os;
	const struct snapshot *snap;
	struct progress *p;
	/* To repair: what is there, and its packs of no use; else NULL. */
	const struct share_record *old;
	const struct share_packs *bad;
	bool misled; /* what is there says wrong places, or lacks nodes */
	struct push_intent i;
	struct base bases[BASES_MAX]; /* the first is the nearest ancestor, if is_child */
	unsigned n_bases;
	bool is_child;
	struct place_map present;
	struct share_packs borrowed; /* those of bases that may be in the alternate */
	struct digest_set known;     /* nodes of the first base */
	uint64_t hooks_from;
	struct push_survey survey;
	struct push_content content;
	struct push_result res;
};

static void base_fini(struct base *b)
{
	share_record_fini(&b->rec);
	share_meta_fini(&b->meta);
}

static void push_fini(struct push *x)
{
	for (unsigned i = 0; i < x->n_bases; i++)
		base_fini(&x->bases[i]);
	push_intent_end(&x->i);
	place_map_fini(&x->present);
	share_packs_fini(&x->borrowed);
	digest_set_fini(&x->known);
	push_content_fini(&x->content);
}

/* ---- what is there ---- */

/* The only place that is said of a chunk: two that differ may be of two chunks. */
static bool only_place(const struct share_meta *m, const struct digest *d, struct share_place *out)
{
	struct share_place other;

	if (!share_meta_find(m, d, 0, out))
		return false;
	for (unsigned i = 1; share_meta_find(m, d, i, &other); i++)
		if (pack_id_cmp(&other.pack, &out->pack) != 0 || other.offset != out->offset)
			return false;
	return true;
}

/* Whether what lies in a pack counts as there, for a record that names it. */
static bool is_usable(const struct push *x, const struct share_record *rec,
		      const struct pack_id *pack)
{
	return share_packs_has(&rec->packs, pack) && !share_packs_has(&x->i.gone, pack) &&
	       !(x->bad && share_packs_has(x->bad, pack));
}

struct learn {
	struct push *x;
	const struct base *b;
	struct digest_set *nodes; /* NULL: they do not matter */
	struct relied *relied;	  /* what is to be confirmed first; NULL: nothing */
};

static int learn_chunk(void *arg, const struct digest *d)
{
	const struct learn *l = arg;
	struct share_place at;

	if (!only_place(&l->b->meta, d, &at) || !is_usable(l->x, &l->b->rec, &at.pack))
		return 0;
	return l->relied ? relied_add(l->relied, d, &at) : place_map_add(&l->x->present, d, &at);
}

static int learn_node(void *arg, const struct share_node *n)
{
	const struct learn *l = arg;

	if (l->nodes)
		digest_set_add(l->nodes, &n->digest);
	return 0;
}

/*
 * Learn from a base; with footers: only what these confirm. What is not in its own tree does not
 * count, though its metadata has it of an ancestor: nobody may need that any more, so that it went
 * when its pack was rewritten.
 */
static int learn_base(struct push *x, const struct base *b, struct digest_set *nodes, bool footers,
		      struct error *err)
{
	struct relied relied = { .v = BUF_INIT };
	struct learn l = { x, b, nodes, footers ? &relied : NULL };
	struct share_walk w = { .meta = &b->meta,
				.root = b->rec.root,
				.memory = KNOWN_NODES_MAX,
				.p = x->p,
				.chunk = learn_chunk,
				.node = learn_node,
				.arg = &l };
	size_t denied;
	int rc = b->is_other || b->rec.alternate.bucket[0]
			 ? share_packs_add_all(&x->borrowed, &b->rec.packs)
			 : 0;
	int checked;

	if (rc < 0)
		return rc;
	rc = share_walk_run(&w, err);

	if (nodes && w.lacks) /* not all that is below them is there */
		x->misled = true;
	if (rc == -EFBIG) /* what it has met is there */
		rc = 0;
	/* What was read before damage was met is there nevertheless. */
	checked = relied_check(&relied, x->os, &x->present, &denied, err);
	relied_fini(&relied);
	return rc < 0 ? rc : checked;
}

/* A base that cannot be read is none: content is uploaded that may be there. 1: it is one. */
static int read_base(struct push *x, struct remote *at, const struct share_id *id, struct base *b,
		     struct error *err)
{
	int rc = remote_read_record(at, id, &b->rec, err);

	if (rc < 0)
		return rc == -ENOENT || rc == -EBADMSG || rc == -ENOTSUP ? 0 : rc;
	if (!share_id_equal(&b->rec.id, id))
		rc = -EBADMSG;
	else if (b->rec.state == SHARE_READY)
		rc = remote_check_alternate(at, &b->rec, err);
	if (rc == 0 && b->rec.state == SHARE_READY)
		rc = share_meta_fetch(remote_objects(at), OBJECT_PUSH, &b->rec, &b->meta, err);
	b->is_other = at != x->r;
	if (rc == 0 && b->rec.state == SHARE_READY)
		return 1;
	share_record_fini(&b->rec);
	*b = (struct base){ 0 };
	return rc == 0 || rc == -ENOENT || rc == -EBADMSG || rc == -ENOTSUP ? 0 : rc;
}

static int add_base(struct push *x, struct remote *at, const struct share_id *id, struct error *err)
{
	int rc = read_base(x, at, id, &x->bases[x->n_bases], err);

	x->n_bases += rc == 1;
	return rc;
}

/* A snapshot of this host, if it is in the bucket, or in its alternate. */
static int add_local(struct push *x, const char *local, struct error *err)
{
	struct remote *const at[] = { x->r, remote_alternate(x->r) };
	struct share_id id;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(at) && at[i] && rc == 0; i++)
		if (share_ids_to(x->s->kv, remote_uuid(at[i]), local, &id) == 0)
			rc = add_base(x, at[i], &id, err);
	return rc;
}

/* The snapshot itself, if the alternate has it, or its nearest ancestor that is there. */
static int add_ancestor(struct push *x, struct error *err)
{
	struct snapshot *list;
	size_t n;
	int rc = snapshots_history(x->s->snapshots, x->snap->id, &list, &n, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; rc >= 0 && i < n && !x->n_bases; i++)
		rc = add_local(x, list[i].id, err);
	snapshots_list_free(list, n);
	x->is_child = x->n_bases == 1;
	return MIN(rc, 0);
}

struct recent {
	struct push *x;
	unsigned n, most; /* at most BASES_MAX */
	struct {
		int64_t used_ms;
		struct share_id id;
	} v[BASES_MAX];
};

/* Keep those of the most recent snapshots. */
static int note_recent(void *arg, const char *local, const struct share_id *remote)
{
	struct recent *r = arg;
	struct snapshot s;
	unsigned at = r->n;

	if (strcmp(local, r->x->snap->id) == 0 ||
	    snapshots_get(r->x->s->snapshots, local, &s, NULL) < 0)
		return 0;
	while (at > 0 && r->v[at - 1].used_ms < s.created_at_ms)
		at--;
	if (at < r->most) {
		unsigned moved = r->n - at < r->most - at ? r->n - at : r->most - at - 1;

		memmove(&r->v[at + 1], &r->v[at], moved * sizeof(r->v[0]));
		r->v[at].used_ms = s.created_at_ms;
		r->v[at].id = *remote;
		r->n = MIN(r->n + 1, r->most);
	}
	snapshot_fini(&s);
	return 0;
}

/* Without an ancestor: the snapshots that this host has shared or pulled last. */
static int add_recent(struct push *x, struct remote *at, struct error *err)
{
	struct recent r = { .x = x, .most = BASES_MAX - x->n_bases };
	int rc = share_ids_each(x->s->kv, remote_uuid(at), note_recent, &r);

	for (unsigned i = 0; rc >= 0 && i < r.n; i++)
		rc = add_base(x, at, &r.v[i].id, err);
	return MIN(rc, 0);
}

/*
 * Whether to write only what the first base lacks. Otherwise its nodes are written anew, with all
 * locations, so that a reader needs few containers, and these are not mostly outdated.
 */
static bool is_delta(const struct push *x)
{
	const struct base *b = &x->bases[0];
	size_t newer = 0;

	if (!x->is_child || b->rec.n_meta == 0 || b->rec.n_meta >= SHARE_META_MAX ||
	    share_packs_meet(&b->rec.packs, &x->i.gone) || x->misled ||
	    (x->bad && share_packs_meet(&b->rec.packs, x->bad)))
		return false;
	for (unsigned i = 0; i + 1 < b->meta.n; i++)
		newer += b->meta.packs[i].bytes.len;
	return newer <= b->meta.packs[b->meta.n - 1].bytes.len / 2 + (64u << 10);
}

static int learn_bases(struct push *x, struct error *err)
{
	struct remote *other = remote_alternate(x->r);
	int rc = x->old ? MIN(add_base(x, x->r, &x->old->id, err), 0) : 0;

	if (rc == 0 && x->n_bases == 0)
		rc = add_ancestor(x, err);
	if (rc == 0 && x->n_bases == 0)
		rc = add_recent(x, x->r, err);
	if (rc == 0 && !x->is_child && !x->old && other)
		rc = add_recent(x, other, err);
	for (unsigned i = 0; rc == 0 && i < x->n_bases; i++)
		rc = learn_base(x, &x->bases[i], i == 0 && is_delta(x) ? &x->known : NULL,
				x->old != NULL, err);
	return rc;
}

/* ---- what others have pushed ---- */

/* One at a time is in memory. */
static int learn_hooked(struct push *x, const struct share_id *id, struct error *err)
{
	struct base b = { 0 };
	int rc = read_base(x, x->r, id, &b, err);

	if (rc == 1)
		rc = learn_base(x, &b, NULL, true, err);
	else if (rc == 0)
		rc = -ENOENT;
	base_fini(&b);
	return rc;
}

/* The hooks whose chunks are not known to be there. */
static uint32_t open_hooks(const struct push *x)
{
	const struct hook_sample *s = &x->survey.unknown;
	struct share_place at;
	uint32_t open = 0;

	for (unsigned i = 0; i < MIN(s->n, HOOKS_ASKED); i++)
		open |= place_map_get(&x->present, &s->v[i], &at) ? 0 : 1u << i;
	return open;
}

/*
 * Snapshots of other hosts that share much with what is to be uploaded: first the one that has most
 * of it, by the hooks, then the one that has most of the rest.
 */
static int learn_by_hooks(struct push *x, struct error *err)
{
	struct hook_votes votes = { 0 };
	struct share_id id;
	unsigned used = 0;
	int rc = 0;

	if (x->survey.unknown.bytes >= x->hooks_from)
		rc = hooks_ask(x->r, &x->survey.unknown, &votes);
	for (unsigned i = 0; i < HOOKED_TRIES && used < BASES_MAX && rc == 0; i++) {
		if (!hook_votes_next(&votes, open_hooks(x), &id))
			break;
		rc = learn_hooked(x, &id, err);
		used += rc == 0;
		if (rc == -ENOENT || rc == -EBADMSG)
			rc = 0;
	}
	hook_votes_fini(&votes);
	return rc;
}

/* ---- upload ---- */

static void plan(struct push *x)
{
	x->content = (struct push_content){
		.s = x->s,
		.os = x->os,
		.id = x->i.intent.id,
		.root = x->snap->root,
		.present = &x->present,
		.with_below = is_delta(x) && !x->known.full ? &x->known : NULL,
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
	const struct share_record *base = x->content.with_below ? &x->bases[0].rec : NULL;
	struct share_id parent = x->old ? x->old->snapshot.parent : (struct share_id){ 0 };
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
	if (x->is_child && !x->bases[0].is_other)
		parent = x->bases[0].rec.id;
	share_snapshot_from(&rec->snapshot, x->snap, &parent);
	if (rc == 0 && share_packs_meet(&rec->packs, &x->borrowed))
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

	digest_set_init(&x->known, KNOWN_NODES_MAX);
	rc = push_intent_declare(&x->i, err);
	if (rc == 0)
		rc = learn_bases(x, err);
	plan(x);
	if (rc == 0)
		rc = push_content_survey(&x->content, &x->survey, err);
	if (rc == 0)
		rc = learn_by_hooks(x, err);
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
	const struct share_record *old; /* as in struct push */
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
				  .old = g->old,
				  .bad = g->bad,
				  .misled = g->misled,
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
	size_t denied = 0;
	int rc = repair_find_bad(g->r, rec, g->p, &bad, err);

	if (rc == 0)
		rc = repair_find_misled(g->r, rec, &denied, err);
	out->damaged = share_packs_count(&bad) + denied;
	if (rc < 0 || !out->damaged)
		return rc < 0 ? rc : 1;
	rc = remote_deletable(g->r, err);
	if (rc < 0)
		return rc;
	out->existed = false;
	*rec = (struct share_record){ 0 };
	anew.old = &old;
	anew.bad = &bad;
	anew.misled = denied > 0;
	rc = push_new(&anew, rec, out, err);
	if (rc == 0)
		rc = repair_replace(g->r, &old, rec, err);
	share_record_fini(&old);
	return rc;
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
		rc = remote_set_name(g->r, opt->name, &rec, opt->only_new, err);
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
