#include "store/share/push_bases.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/remote/share_ids.h"
#include "store/remote/share_walk.h"
#include "store/share/relied.h"

#define HOOKED_TRIES 8u /* snapshots that hooks lead to, and that may be gone */
#define KNOWN_NODES_MAX ((size_t)64 << 20)

static void base_fini(struct base *b)
{
	share_record_fini(&b->rec);
	share_meta_fini(&b->meta);
}

void push_bases_fini(struct push_bases *x)
{
	for (unsigned i = 0; i < x->n_bases; i++)
		base_fini(&x->bases[i]);
	loc_map_fini(&x->present);
	share_packs_fini(&x->borrowed);
	digest_set_fini(&x->known);
}

/* The only location that is said of a chunk: two that differ may be of two chunks. */
static bool only_loc(const struct share_meta *m, const struct digest *d, struct share_loc *out)
{
	struct share_loc other;

	if (!share_meta_find(m, d, 0, out))
		return false;
	for (unsigned i = 1; share_meta_find(m, d, i, &other); i++)
		if (pack_id_cmp(&other.pack, &out->pack) != 0 || other.offset != out->offset)
			return false;
	return true;
}

/* Whether what lies in a pack counts as there, for a record that names it. */
static bool is_usable(const struct push_bases *x, const struct share_record *rec,
		      const struct pack_id *pack)
{
	return share_packs_has(&rec->packs, pack) && !share_packs_has(x->gone, pack) &&
	       !(x->bad && share_packs_has(x->bad, pack));
}

struct learn {
	struct push_bases *x;
	const struct base *b;
	struct digest_set *nodes; /* NULL: they do not matter */
	struct relied *relied;	  /* what is to be confirmed first; NULL: nothing */
};

static int learn_chunk(void *arg, const struct digest *d)
{
	const struct learn *l = arg;
	struct share_loc at;

	if (!only_loc(&l->b->meta, d, &at) || !is_usable(l->x, &l->b->rec, &at.pack))
		return 0;
	return l->relied ? relied_add(l->relied, d, &at) : loc_map_add(&l->x->present, d, &at);
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
static int learn_base(struct push_bases *x, const struct base *b, struct digest_set *nodes,
		      bool footers, struct error *err)
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
	checked = relied_check(&relied, remote_objects(x->r), &x->present, &denied, err);
	relied_fini(&relied);
	return rc < 0 ? rc : checked;
}

/* A base that cannot be read is none: content is uploaded that may be there. 1: it is one. */
static int read_base(struct push_bases *x, struct remote *at, const struct share_id *id,
		     struct base *b, struct error *err)
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

static int add_base(struct push_bases *x, struct remote *at, const struct share_id *id,
		    struct error *err)
{
	int rc = read_base(x, at, id, &x->bases[x->n_bases], err);

	x->n_bases += rc == 1;
	return rc;
}

/* A snapshot of this host, if it is in the bucket, or in its alternate. */
static int add_local(struct push_bases *x, const char *local, struct error *err)
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
static int add_ancestor(struct push_bases *x, struct error *err)
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
	struct push_bases *x;
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
static int add_recent(struct push_bases *x, struct remote *at, struct error *err)
{
	struct recent r = { .x = x, .most = BASES_MAX - x->n_bases };
	int rc = share_ids_each(x->s->kv, remote_uuid(at), note_recent, &r);

	for (unsigned i = 0; rc >= 0 && i < r.n; i++)
		rc = add_base(x, at, &r.v[i].id, err);
	return MIN(rc, 0);
}

bool push_bases_is_delta(const struct push_bases *x)
{
	const struct base *b = &x->bases[0];
	size_t newer = 0;

	if (!x->is_child || b->rec.n_meta == 0 || b->rec.n_meta >= SHARE_META_MAX ||
	    share_packs_meet(&b->rec.packs, x->gone) || x->misled ||
	    (x->bad && share_packs_meet(&b->rec.packs, x->bad)))
		return false;
	for (unsigned i = 0; i + 1 < b->meta.n; i++)
		newer += b->meta.packs[i].bytes.len;
	return newer <= b->meta.packs[b->meta.n - 1].bytes.len / 2 + (64u << 10);
}

int push_bases_learn(struct push_bases *x, struct error *err)
{
	struct remote *other = remote_alternate(x->r);
	int rc;

	digest_set_init(&x->known, KNOWN_NODES_MAX);
	rc = x->old ? MIN(add_base(x, x->r, &x->old->id, err), 0) : 0;

	if (rc == 0 && x->n_bases == 0)
		rc = add_ancestor(x, err);
	if (rc == 0 && x->n_bases == 0)
		rc = add_recent(x, x->r, err);
	if (rc == 0 && !x->is_child && !x->old && other)
		rc = add_recent(x, other, err);
	for (unsigned i = 0; rc == 0 && i < x->n_bases; i++)
		rc = learn_base(x, &x->bases[i],
				i == 0 && push_bases_is_delta(x) ? &x->known : NULL, x->old != NULL,
				err);
	return rc;
}

/* ---- what others have pushed ---- */

/* One at a time is in memory. */
static int learn_hooked(struct push_bases *x, const struct share_id *id, struct error *err)
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
static uint32_t open_hooks(const struct push_bases *x, const struct hook_sample *s)
{
	struct share_loc at;
	uint32_t open = 0;

	for (unsigned i = 0; i < MIN(s->n, HOOKS_ASKED); i++)
		open |= loc_map_get(&x->present, &s->v[i], &at) ? 0 : 1u << i;
	return open;
}

int push_bases_learn_hooked(struct push_bases *x, const struct hook_sample *unknown,
			    struct error *err)
{
	struct hook_votes votes = { 0 };
	struct share_id id;
	unsigned used = 0;
	int rc = hooks_ask(x->r, unknown, &votes);

	for (unsigned i = 0; i < HOOKED_TRIES && used < BASES_MAX && rc == 0; i++) {
		if (!hook_votes_next(&votes, open_hooks(x, unknown), &id))
			break;
		rc = learn_hooked(x, &id, err);
		used += rc == 0;
		if (rc == -ENOENT || rc == -EBADMSG)
			rc = 0;
	}
	hook_votes_fini(&votes);
	return rc;
}
