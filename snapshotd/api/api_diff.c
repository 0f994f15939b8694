/*
 * Differences are sent as they are found: a JSON array of any length, whose
 * first byte is sent with the first entry, so that a failure before it has a
 * status. A later one breaks the connection off.
 */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/diff/fsdiff.h"

#define BATCH_BYTES (32u << 10)

struct diff_reply {
	struct api_call *c;
	struct buf pending; /* not yet written */
	bool any;
};

/* Paths come without a leading '/', but for the root's own. */
static int set_path(json_t *o, const char *name, const char *path)
{
	return api_set_path(o, name, path[0] == '/' ? "" : "/", path);
}

static json_t *entry_to_json(const struct fsdiff_entry *e)
{
	json_t *j = json_pack("{s:s, s:I}", "change", fsdiff_change_name(e->change), "mode",
			      (json_int_t)e->mode);

	if (j && e->change == DIFF_OMITTED &&
	    json_object_set_new(j, "count", json_integer((json_int_t)e->count)) < 0) {
		json_decref(j);
		return NULL;
	}
	if (j && set_path(j, "path", e->path) == 0 &&
	    (!e->from || set_path(j, "from", e->from) == 0))
		return j;
	json_decref(j);
	return NULL;
}

static int diff_flush(struct diff_reply *r)
{
	int rc = 0;

	if (!http_stream_begun(r->c->rq))
		rc = http_stream_begin(r->c->rq, 200, "application/json");
	if (rc == 0)
		rc = http_stream_write(r->c->rq, r->pending.data, r->pending.len);
	buf_clear(&r->pending);
	return rc;
}

static int diff_entry(void *arg, const struct fsdiff_entry *e)
{
	struct diff_reply *r = arg;
	json_t *j = entry_to_json(e);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	int rc = -ENOMEM;

	json_decref(j);
	if (text)
		rc = buf_printf(&r->pending, "%s%s", r->any ? ",\n" : "[", text);
	free(text);
	r->any = true;
	if (rc == 0 && http_cancelled(r->c->rq))
		rc = -ECANCELED;
	if (rc == 0 && r->pending.len >= BATCH_BYTES)
		rc = diff_flush(r);
	return rc;
}

/* The rest of the array. */
static int diff_end(struct diff_reply *r)
{
	int rc = buf_append_str(&r->pending, r->any ? "]\n" : "[]\n");

	return rc < 0 ? rc : diff_flush(r);
}

/* The id of a snapshot that is ready: a diff names its sides by id, whatever is renamed meanwhile.
 */
static int side_id(struct api_call *c, size_t i, char out[SNAPSHOT_ID_SIZE], struct error *err)
{
	struct snapshot s = { 0 };
	int rc = api_ready_snapshot(c, api_capture(c, i), &s, err);

	if (rc < 0)
		return rc;
	memcpy(out, s.id, SNAPSHOT_ID_SIZE);
	snapshot_fini(&s);
	return 0;
}

int api_snapshots_diff(struct api_call *c, struct error *err)
{
	struct diff_reply r = { .c = c };
	char a[SNAPSHOT_ID_SIZE], b[SNAPSHOT_ID_SIZE];
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = side_id(c, 0, a, err);
	if (rc == 0)
		rc = side_id(c, 1, b, err);
	if (rc == 0)
		rc = fsdiff_snapshots(c->api->store, a, b, diff_entry, &r, err);
	if (rc == 0 && (rc = diff_end(&r)) < 0)
		error_set_errno(err, rc, "diff of %s and %s", api_capture(c, 0), api_capture(c, 1));
	buf_fini(&r.pending);
	return rc;
}

int api_mount_diff(struct api_call *c, struct error *err)
{
	struct diff_reply r = { .c = c };
	struct mount_entry *e;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = mounts_get(c->api->mounts, api_capture(c, 0), &e, err);
	if (rc < 0)
		return rc;
	rc = mount_diff(mount_entry_mount(e), diff_entry, &r, err);
	if (rc == 0 && (rc = diff_end(&r)) < 0)
		error_set_errno(err, rc, "diff of mount %s", api_capture(c, 0));
	mounts_put(c->api->mounts, e);
	buf_fini(&r.pending);
	return rc;
}
