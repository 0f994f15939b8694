/* Snapshots in buckets: what is where, there and back. */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <string.h>

#include "store/share/pull.h"
#include "store/share/push.h"
#include "store/remote/share_ids.h"

/* ---- what is in a bucket ---- */

/* The snapshot of this store that is the same: its id, or "". */
static void local_of(struct api_call *c, const char *bucket, const struct share_id *id,
		     char out[SNAPSHOT_ID_SIZE])
{
	struct snapshot s = { 0 };

	if (share_ids_from(c->api->store->kv, bucket, id, out) < 0 ||
	    snapshots_get(c->api->store->snapshots, out, &s, NULL) < 0)
		out[0] = '\0';
	snapshot_fini(&s);
}

/* name: "" where it is asked for by id. */
static json_t *record_json(struct api_call *c, struct remote *r, const char *name,
			   const struct share_record *rec)
{
	const struct share_snapshot *s = &rec->snapshot;
	char id[SHARE_ID_SIZE], local[SNAPSHOT_ID_SIZE], created[TIME_TEXT_SIZE];

	share_id_text(&rec->id, id);
	local_of(c, remote_uuid(r), &rec->id, local);
	time_to_text(s->created_at_ms, created);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "name", name, "id", id,
			 "remote", remote_name(r), "source", s->source, "contentHash",
			 s->content_hash, "createdAt", created, "sizeBytes",
			 (json_int_t)s->size_bytes, "fileCount", (json_int_t)s->file_count,
			 "snapshotID", local[0] ? json_string(local) : json_null());
}

struct names {
	struct api_list list;
	struct remote *r;
};

static int list_name(void *arg, const char *name, const struct share_record *rec)
{
	struct names *n = arg;

	return api_list_wants(&n->list, name)
		       ? api_list_add(&n->list, record_json(n->list.c, n->r, name, rec))
		       : 0;
}

int api_remote_snapshots(struct api_call *c, struct error *err)
{
	struct names n = { .r = NULL };
	int rc = api_query(c, err, API_LIST_QUERY, NULL);

	if (rc == 0)
		rc = api_remote_get(c, api_capture(c, 0), &n.r, err);
	if (rc < 0)
		return rc;
	rc = api_list_begin(&n.list, c, err);
	if (rc == 0) {
		rc = remote_each_name(n.r, list_name, &n, err);
		rc = api_list_end(&n.list, api_share_failure(c, false, rc), err);
	}
	remotes_release(c->api->remotes, n.r);
	return rc;
}

int api_remote_snapshot_get(struct api_call *c, struct error *err)
{
	const char *reference = api_capture(c, 1);
	struct share_record rec;
	struct share_id id;
	struct remote *r;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_remote_get(c, api_capture(c, 0), &r, err);
	if (rc < 0)
		return rc;
	rc = api_share_failure(c, false, remote_resolve(r, reference, &rec, err));
	if (rc == 0) {
		bool by_id = share_id_parse(reference, &id) == 0;

		rc = api_result(c, 200, record_json(c, r, by_id ? "" : reference, &rec), err);
		share_record_fini(&rec);
	}
	remotes_release(c->api->remotes, r);
	return rc;
}

int api_remote_snapshot_delete(struct api_call *c, struct error *err)
{
	struct remote *r;
	bool deleted;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_remote_get(c, api_capture(c, 0), &r, err);
	if (rc < 0)
		return rc;
	rc = api_share_failure(c, false, remote_remove(r, api_capture(c, 1), &deleted, err));
	remotes_release(c->api->remotes, r);
	return rc < 0 ? rc : api_result(c, 200, json_pack("{s:b}", "deleted", deleted), err);
}

/* ---- push and pull ---- */

static json_t *pushed_json(const struct remote *r, const char *name, const struct push_result *p)
{
	char id[SHARE_ID_SIZE];

	share_id_text(&p->id, id);
	return json_pack("{s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "remote", remote_name(r),
			 "id", id, "name", name, "existed", p->existed, "chunks",
			 (json_int_t)p->chunks, "nodes", (json_int_t)p->nodes, "packs",
			 (json_int_t)p->packs, "bytes", (json_int_t)p->bytes, "damagedPacks",
			 (json_int_t)p->damaged);
}

/* name NULL: the snapshot's own. */
static int push_run(struct api_call *c, struct remote *r, const char *name, struct push_options opt,
		    struct error *err)
{
	struct snapshot s = { 0 };
	struct push_result res;
	struct progress *p;
	int rc = api_ready_snapshot(c, api_capture(c, 0), &s, err);

	if (rc < 0)
		return rc;
	name = name ? name : s.name;
	opt.name = *name ? name : NULL;
	if (opt.name)
		rc = snapshot_name_check(name, err);
	if (rc == 0)
		rc = api_share_failure(c, false, remote_writable(r, err));
	p = rc == 0 ? api_progress(c, err) : NULL;
	if (rc == 0 && !p)
		rc = err->code;
	if (rc == 0) {
		rc = push_snapshot(c->api->store, r, s.id, &opt, p, &res, err);
		metrics_work(&c->api->metrics, METRICS_PUSH, rc < 0);
		rc = api_share_failure(c, false, rc);
	}
	if (rc == 0)
		rc = api_result(c, 200, pushed_json(r, name, &res), err);
	snapshot_fini(&s);
	return rc;
}

int api_push(struct api_call *c, struct error *err)
{
	const char *remote = NULL, *name = NULL;
	bool no_replace = false, repair = false;
	const struct field fields[] = {
		{ "remote", FIELD_STRING, &remote, true },
		{ "name", FIELD_STRING, &name, false },
		{ "noReplace", FIELD_BOOL, &no_replace, false },
		{ "repair", FIELD_BOOL, &repair, false },
	};
	json_t *body = NULL;
	struct remote *r = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0)
		rc = api_remote_get(c, remote, &r, err);
	if (rc == 0) {
		const struct push_options opt = { .only_new = no_replace, .repair = repair };

		rc = push_run(c, r, name, opt, err);
		remotes_release(c->api->remotes, r);
	}
	json_decref(body);
	return rc;
}

/* SnapshotInfo, and how it came. */
static json_t *pulled_json(struct api_call *c, const char *remote, const struct pull_result *p)
{
	json_t *j = api_snapshot_json(c, &p->snapshot);
	json_t *how = json_pack("{s:s, s:b, s:I, s:I, s:I}", "remote", remote, "existed",
				p->existed, "chunks", (json_int_t)p->chunks, "nodes",
				(json_int_t)p->nodes, "bytes", (json_int_t)p->bytes);

	if (j && json_object_set_new(j, "pulled", how) == 0)
		return j;
	json_decref(j);
	return NULL;
}

static int pull_run(struct api_call *c, struct remote *r, const char *reference, const char *name,
		    bool lazy, struct error *err)
{
	struct share_record rec;
	const struct pull_options opt = { .name = name && *name ? name : NULL,
					  .same_name = !name,
					  .move_name = true,
					  .record = &rec,
					  .index = remotes_index(c->api->remotes),
					  .prefetch = c->api->prefetch,
					  .lazy = lazy };
	struct pull_result res;
	struct progress *p;
	int rc = opt.name ? snapshot_name_check(name, err) : 0;

	/* While a failure still has a status. */
	if (rc == 0)
		rc = api_share_failure(c, false, remote_resolve(r, reference, &rec, err));
	if (rc < 0)
		return rc;
	p = api_progress(c, err);
	rc = p ? pull_snapshot(c->api->store, r, reference, &opt, p, &res, err) : err->code;
	share_record_fini(&rec);
	if (!p)
		return rc;
	metrics_work(&c->api->metrics, METRICS_PULL, rc < 0);
	if (rc < 0)
		return api_share_failure(c, false, rc);
	rc = api_result(c, res.existed ? 200 : 201, pulled_json(c, remote_name(r), &res), err);
	snapshot_fini(&res.snapshot);
	return rc;
}

int api_pull(struct api_call *c, struct error *err)
{
	const char *remote = NULL, *snapshot = NULL, *name = NULL;
	bool lazy = false;
	const struct field fields[] = {
		{ "remote", FIELD_STRING, &remote, true },
		{ "snapshot", FIELD_STRING, &snapshot, true },
		{ "name", FIELD_STRING, &name, false },
		{ "lazy", FIELD_BOOL, &lazy, false },
	};
	json_t *body = NULL;
	struct remote *r = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0)
		rc = api_remote_get(c, remote, &r, err);
	if (rc == 0) {
		rc = pull_run(c, r, snapshot, name, lazy, err);
		remotes_release(c->api->remotes, r);
	}
	json_decref(body);
	return rc;
}
