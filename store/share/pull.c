#include "store/share/pull.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/bucket/object_window.h"
#include "store/layout/share_key.h"
#include "store/lazy/prefetch.h"
#include "store/share/pull_content.h"
#include "store/remote/share_ids.h"

/* What was pulled without a name goes when it has not been used for so long. */
#define UNNAMED_TTL_S (30 * 24 * 60 * 60)

struct pull {
	struct store *s;
	struct remote *r;
	const struct pull_options *opt;
	const struct share_record *rec;
	bool by_name; /* rec is what the name's entry has of it */
	struct progress *p;
};

/* The snapshot that was pulled or pushed before, if it is still here. 1, 0 or a failure. */
static int find_local(struct store *s, struct remote *r, const struct share_record *rec,
		      struct snapshot *out)
{
	char local[SNAPSHOT_ID_SIZE];
	int rc = share_ids_from(s->kv, remote_uuid(r), &rec->id, local);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	rc = snapshots_get(s->snapshots, local, out, NULL);
	if (rc == 0)
		return 1;
	return rc == -ENOENT ? share_ids_drop(s->kv, remote_uuid(r), local, &rec->id) : rc;
}

/* The parent is named where it is here, too. */
static void find_parent(struct store *s, struct remote *r, const struct share_record *rec,
			char out[SNAPSHOT_ID_SIZE])
{
	if (share_id_is_none(&rec->snapshot.parent) ||
	    share_ids_from(s->kv, remote_uuid(r), &rec->snapshot.parent, out) < 0)
		out[0] = '\0';
}

/* Without a name: that is given, or moved, afterwards. */
static int write_record(struct store *s, struct remote *r, const struct share_record *rec,
			const struct pull_content *c, struct snapshot *out, struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct snapshot snap = { 0 };
	int rc = b ? 0 : -ENOMEM;

	share_snapshot_to(&rec->snapshot, &snap);
	id_random(snap.id);
	snap.name[0] = '\0';
	/* Not what it was there: what this host has not built is not in its cache of images. */
	strcpy(snap.source, PULL_SOURCE);
	snap.status = SNAPSHOT_READY;
	snap.has_root = true;
	snap.root = rec->root;
	snap.last_used_at_ms = clock_ms();
	snap.ttl_seconds = UNNAMED_TTL_S; /* give_name takes it away */
	snap.new_bytes = c->bytes;
	find_parent(s, r, rec, snap.parent);
	if (rc == 0)
		rc = share_ids_put(s->kv, b, remote_uuid(r), snap.id, &rec->id);
	if (rc == 0)
		rc = snapshots_put(s->snapshots, &snap, b, err);
	if (rc < 0)
		snapshot_fini(&snap);
	else
		*out = snap;
	return rc;
}

/* What a lazy pull writes beside the tree: the disk is waited for there while nodes are decoded. */
struct noting {
	const struct pull *x;
	const struct share_meta *meta;
	pthread_t thread;
	bool started;
	int rc;
	struct error err;
};

static void *note_locs(void *arg)
{
	struct noting *n = arg;

	/* A program that knows nothing of far chunks would take them for damage. */
	n->rc = store_need_format(n->x->s, STORE_FORMAT_FAR, &n->err);
	if (n->rc == 0)
		n->rc = lazy_index_add(n->x->opt->index, remote_uuid(n->x->r), n->meta, &n->err);
	if (n->rc < 0)
		n->err.code = n->rc; /* which not every failure does */
	return NULL;
}

static void begin_noting(struct noting *n)
{
	lazy_index_hold(n->x->opt->index);
	n->started = pthread_create(&n->thread, NULL, note_locs, n) == 0;
	if (n->started)
		pthread_setname_np(n->thread, "varve-locs");
	else
		note_locs(n);
}

/* Its failure, where `rc` is none. */
static int end_noting(struct noting *n, int rc, struct error *err)
{
	if (n->started)
		pthread_join(n->thread, NULL);
	return rc == 0 && n->rc < 0 ? error_set(err, n->rc, "%s", error_text(&n->err)) : rc;
}

/* The tree, and the record unless there is one. */
static int pull_tree(const struct pull *x, struct pull_content *c, struct pull_result *out,
		     struct error *err)
{
	struct noting noting = { .x = x, .meta = c->meta };
	struct guard_session session;
	int rc;

	guard_session_begin_slow(x->s->guard, &session);
	if (c->lazy)
		begin_noting(&noting);
	rc = pull_content_run(c, err);
	if (c->lazy)
		rc = end_noting(&noting, rc, err);
	if (rc < 0)
		snapshots_note_garbage(x->s->snapshots, c->bytes);
	else if (!out->existed)
		rc = write_record(x->s, x->r, x->rec, c, &out->snapshot, err);
	if (c->lazy)
		lazy_index_release(x->opt->index);
	guard_session_end(x->s->guard, &session);
	return rc;
}

static int judge_record(void *arg, struct object_request *rq, struct error *err)
{
	const struct pull *x = arg;
	struct share_record now;
	bool ready;
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		return error_set(err, rc, "%s", error_text(&rq->err));
	if (rc == 0)
		rc = share_record_decode(rq->data.data, rq->data.len, &now, err);
	if (rc < 0 && rc != -ENOENT)
		return error_prefix(err, rc, "%s", rq->key);
	ready = rc == 0 && now.state == SHARE_READY;
	if (rc == 0)
		share_record_fini(&now);
	return ready ? 0
		     : error_set(err, -ENOENT,
				 "the name stands for a snapshot that was deleted from remote %s, "
				 "whose data may go at any time: \"varve pull\" fetches what is "
				 "still there",
				 remote_name(x->r));
}

/*
 * The metadata. What is to be read later must stay, so the record that a name's entry has a copy of
 * is looked at meanwhile.
 */
static int fetch_meta(const struct pull *x, struct object_store *os, struct share_meta *out,
		      struct error *err)
{
	const enum object_priority priority = x->opt->lazy ? OBJECT_DEMAND : OBJECT_BACKGROUND;
	CLEANUP(object_window_free_p) struct object_window *w = NULL;
	char key[SHARE_KEY_SIZE];
	const struct object_request get = {
		.op = OBJECT_GET, .priority = priority, .key = key, .max_len = SHARE_RECORD_MAX
	};
	int rc = 0, judged;

	if (x->by_name && x->opt->lazy) {
		share_key_of_id(SHARE_KEY_SNAP, &x->rec->id, key);
		w = object_window_new(os, 1);
		rc = w ? object_window_add(w, &get, judge_record, (void *)x, err) : -ENOMEM;
	}
	if (rc == 0)
		rc = share_meta_fetch(os, priority, x->rec, out, err);
	if (!w || (rc < 0 && rc != -ENOENT))
		return rc;
	/* That it was deleted says why its metadata is gone. */
	judged = object_window_drain(w, err);
	if (rc == 0 && judged < 0)
		share_meta_fini(out);
	return judged < 0 ? judged : rc;
}

static int pull_it(const struct pull *x, struct pull_result *out, struct error *err)
{
	struct pull_content c = { .s = x->s,
				  .os = remote_objects(x->r),
				  .root = x->rec->root,
				  .lazy = x->opt->lazy,
				  .p = x->p };
	struct share_meta meta;
	int rc = remote_check_alternate(x->r, x->rec, err);

	if (rc < 0)
		return rc;
	if (c.lazy)
		prefetch_begin(x->opt->prefetch, x->r, x->rec);
	rc = fetch_meta(x, c.os, &meta, err);
	if (rc < 0)
		return rc;
	c.meta = &meta;
	for (unsigned i = 0; i < meta.n; i++)
		c.bytes += meta.packs[i].bytes.len;
	rc = pull_tree(x, &c, out, err);
	share_meta_fini(&meta);
	out->chunks = c.chunks;
	out->nodes = c.nodes;
	out->bytes = c.bytes;
	return rc;
}

/* A snapshot that is here already, but may have been pulled lazily: fetch what it lacks. */
static int complete(const struct pull *x, struct pull_result *out, struct error *err)
{
	struct store_hold hold;
	struct snapshot s;
	int rc;

	if (x->opt->lazy || !x->opt->index || !x->rec->n_meta ||
	    !lazy_index_has(x->opt->index, remote_uuid(x->r), &x->rec->meta[0]))
		return 0;
	rc = store_hold_snapshot(x->s, out->snapshot.id, &s, &hold, err);
	if (rc < 0)
		return rc;
	rc = pull_it(x, out, err);
	store_release(x->s, &hold);
	snapshot_fini(&s);
	return rc;
}

/* ---- names ---- */

/* The snapshot that has the name and may give it up: 1 and its id. 0: nobody has it. -EEXIST. */
static int find_giver(struct store *s, struct remote *r, const struct pull_options *opt,
		      char out[SNAPSHOT_ID_SIZE], struct error *err)
{
	struct snapshot holder;
	struct share_id id;
	int rc = snapshots_get(s->snapshots, opt->name, &holder, NULL);

	if (rc < 0)
		return rc == -ENOENT ? 0 : error_set_errno(err, rc, "snapshot %s", opt->name);
	memcpy(out, holder.id, SNAPSHOT_ID_SIZE);
	snapshot_fini(&holder);
	if (opt->move_name && share_ids_to(s->kv, remote_uuid(r), out, &id) == 0)
		return 1;
	return error_set(err, -EEXIST,
			 "a snapshot named \"%s\" exists already, and remote %s does not have it: "
			 "give another name (--name)",
			 opt->name, remote_name(r));
}

/* Give the name to a snapshot that has none. */
static int give_name(struct store *s, struct remote *r, const struct pull_options *opt,
		     struct snapshot *snap, struct error *err)
{
	char id[SNAPSHOT_ID_SIZE], giver[SNAPSHOT_ID_SIZE];
	int rc = find_giver(s, r, opt, giver, err);

	memcpy(id, snap->id, sizeof(id));
	if (rc == 0)
		rc = snapshots_rename(s->snapshots, id, opt->name, err);
	else if (rc == 1)
		rc = snapshots_move_name(s->snapshots, id, giver, opt->name, err);
	if (rc == 0 && snap->ttl_seconds == UNNAMED_TTL_S)
		rc = snapshots_pin(s->snapshots, id, snap->pinned, 0, err);
	if (rc < 0)
		return rc;
	snapshot_fini(snap);
	*snap = (struct snapshot){ 0 };
	return snapshots_get(s->snapshots, id, snap, err);
}

/*
 * It is here. Where it already has another name, a second snapshot of the same tree gets the new
 * one: what people have named stays.
 */
static int use_local(struct store *s, struct remote *r, const struct share_record *rec,
		     const struct pull_options *opt, struct snapshot *local, struct error *err)
{
	const struct pull_content nothing = { .root = local->root };
	struct guard_session session;
	struct store_hold hold;
	struct snapshot old;
	int rc;

	if (!opt->name || strcmp(local->name, opt->name) == 0)
		return 0;
	if (!local->name[0])
		return give_name(s, r, opt, local, err);
	rc = store_hold_snapshot(s, local->id, &old, &hold, err);
	if (rc < 0)
		return rc;
	snapshot_fini(local);
	*local = (struct snapshot){ 0 };
	guard_session_begin(s->guard, &session);
	rc = write_record(s, r, rec, &nothing, local, err);
	guard_session_end(s->guard, &session);
	store_release(s, &hold);
	snapshot_fini(&old);
	return rc < 0 ? rc : give_name(s, r, opt, local, err);
}

/* ---- the whole ---- */

static int pull_record(const struct pull *x, struct pull_result *out, struct error *err)
{
	const struct pull_options *opt = x->opt;
	char giver[SNAPSHOT_ID_SIZE];
	int rc = find_local(x->s, x->r, x->rec, &out->snapshot);

	if (rc < 0)
		return error_set_errno(err, rc, "the store");
	out->existed = rc == 1;
	if (rc == 1) {
		rc = complete(x, out, err);
		return rc < 0 ? rc : use_local(x->s, x->r, x->rec, opt, &out->snapshot, err);
	}
	if (opt->name && (rc = find_giver(x->s, x->r, opt, giver, err)) < 0)
		return rc;
	rc = pull_it(x, out, err);
	return rc == 0 && opt->name ? give_name(x->s, x->r, opt, &out->snapshot, err) : rc;
}

int pull_snapshot(struct store *s, struct remote *r, const char *reference,
		  const struct pull_options *opt, struct progress *p, struct pull_result *out,
		  struct error *err)
{
	struct pull_options o = *opt;
	struct share_record rec = { 0 };
	struct share_id id;
	int rc;

	*out = (struct pull_result){ 0 };
	if (p)
		p->phase = "pulling";
	if (o.same_name)
		o.name = share_id_parse(reference, &id) == 0 ? NULL : reference;
	rc = o.name ? snapshot_name_check(o.name, err) : 0;
	if (rc == 0 && !o.record)
		rc = remote_resolve(r, reference, &rec, err);
	if (rc == 0) {
		const struct pull x = { .s = s,
					.r = r,
					.opt = &o,
					.rec = o.record ? o.record : &rec,
					.by_name = share_id_parse(reference, &id) < 0,
					.p = p };

		rc = pull_record(&x, out, err);
		share_record_fini(&rec);
	}
	if (rc == 0)
		return 0;
	snapshot_fini(&out->snapshot);
	*out = (struct pull_result){ 0 };
	return error_prefix(err, rc, "pull %s from %s", reference, remote_name(r));
}

int pull_find(struct store *s, struct remotes *rs, const char *text, struct progress *p,
	      struct snapshot *out, struct error *err)
{
	char name[REMOTE_NAME_MAX + 1];
	struct pull_options unnamed = { 0 };
	struct pull_result res;
	const char *reference;
	struct remote *r;
	int rc;

	if (!rs || !reference_split(text, name, &reference))
		return snapshots_get(s->snapshots, text, out, err);
	rc = remotes_get(rs, name, &r, err);
	if (rc < 0)
		return rc;
	unnamed.index = remotes_index(rs);
	unnamed.prefetch = remotes_prefetch(rs);
	unnamed.lazy = unnamed.index != NULL;
	rc = pull_snapshot(s, r, reference, &unnamed, p, &res, err);
	remotes_release(rs, r);
	if (rc == 0)
		*out = res.snapshot; /* taken over */
	return rc;
}
