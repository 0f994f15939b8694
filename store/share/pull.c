#include "store/share/pull.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/share/pull_content.h"
#include "store/share/share_ids.h"

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

static int write_record(struct store *s, struct remote *r, const struct share_record *rec,
			const char *name, const struct pull_content *c, struct snapshot *out,
			struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct snapshot snap = { 0 };
	int rc = b ? 0 : -ENOMEM;

	share_snapshot_to(&rec->snapshot, &snap);
	id_random(snap.id);
	snprintf(snap.name, sizeof(snap.name), "%s", name ? name : "");
	snap.status = SNAPSHOT_READY;
	snap.has_root = true;
	snap.root = rec->root;
	snap.last_used_at_ms = clock_ms();
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

static int pull_new(struct store *s, struct remote *r, const struct share_record *rec,
		    const char *name, struct progress *p, struct pull_result *out,
		    struct error *err)
{
	struct pull_content c = { .s = s, .os = remote_objects(r), .root = rec->root, .p = p };
	struct guard_session session;
	struct share_meta meta;
	int rc = share_meta_fetch(c.os, OBJECT_BACKGROUND, rec, &meta, err);

	if (rc < 0)
		return rc;
	c.meta = &meta;
	for (unsigned i = 0; i < meta.n; i++)
		c.bytes += meta.packs[i].bytes.len;
	guard_session_begin_slow(s->guard, &session);
	rc = pull_content_run(&c, err);
	if (rc == 0)
		rc = write_record(s, r, rec, name, &c, &out->snapshot, err);
	else
		snapshots_note_garbage(s->snapshots, c.bytes);
	guard_session_end(s->guard, &session);
	share_meta_fini(&meta);
	out->chunks = c.chunks;
	out->nodes = c.nodes;
	out->bytes = c.bytes;
	return rc;
}

/*
 * It is here. Where it already has another name, a second snapshot of the same tree gets the new
 * one: what people have named stays.
 */
static int use_local(struct store *s, struct remote *r, const struct share_record *rec,
		     const char *name, struct snapshot *local, struct error *err)
{
	const struct pull_content nothing = { .root = local->root };
	struct guard_session session;
	struct store_hold hold;
	struct snapshot old;
	int rc;

	if (!name || strcmp(local->name, name) == 0)
		return 0;
	rc = store_hold_snapshot(s, local->id, &old, &hold, err);
	if (rc < 0)
		return rc;
	snapshot_fini(local);
	*local = (struct snapshot){ 0 };
	if (old.name[0]) {
		guard_session_begin(s->guard, &session);
		rc = write_record(s, r, rec, name, &nothing, local, err);
		guard_session_end(s->guard, &session);
	} else {
		rc = snapshots_rename(s->snapshots, old.id, name, err);
		if (rc == 0)
			rc = snapshots_get(s->snapshots, old.id, local, err);
	}
	store_release(s, &hold);
	snapshot_fini(&old);
	return rc;
}

int pull_snapshot(struct store *s, struct remote *r, const char *reference, const char *name,
		  struct progress *p, struct pull_result *out, struct error *err)
{
	struct share_record rec;
	int rc = name ? snapshot_name_check(name, err) : 0;

	*out = (struct pull_result){ 0 };
	if (p)
		p->phase = "pulling";
	if (rc == 0)
		rc = remote_resolve(r, reference, &rec, err);
	if (rc < 0)
		return error_prefix(err, rc, "pull %s from %s", reference, remote_name(r));
	rc = find_local(s, r, &rec, &out->snapshot);
	out->existed = rc == 1;
	if (rc == 1)
		rc = use_local(s, r, &rec, name, &out->snapshot, err);
	else if (rc == 0)
		rc = pull_new(s, r, &rec, name, p, out, err);
	share_record_fini(&rec);
	return rc < 0 ? error_prefix(err, rc, "pull %s from %s", reference, remote_name(r)) : 0;
}
