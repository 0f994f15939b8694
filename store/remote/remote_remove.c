/*
 * Removing. A name that a push was told to stand for a snapshot that is there already must not lead
 * to one that is deleted at this moment. So who deletes marks the snapshot first (gone/ID), lists
 * the names then, and deletes it only if none of them stands for it; and who has given it a name
 * looks for the mark afterwards (remote_give_name). One of the two sees the other, or both do: then
 * the snapshot is spared, but its name goes to a copy of it, and who gave it deletes the snapshot.
 * The mark stays until the record's key is freed: a snapshot that was spared gets no more names.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/log.h"
#include "store/layout/share_key.h"
#include "store/remote/remote.h"
#include "store/remote/remote_state_internal.h"

/* The names that stand for a snapshot. */
struct names_of {
	struct share_id id;
	struct buf names; /* char[SNAPSHOT_NAME_MAX + 1] each */
};

static int note_name_of(void *arg, const char *name, const struct share_record *rec)
{
	struct names_of *n = arg;
	char copy[SNAPSHOT_NAME_MAX + 1] = "";

	if (!share_id_equal(&rec->id, &n->id))
		return 0;
	snprintf(copy, sizeof(copy), "%s", name);
	return buf_append(&n->names, copy, sizeof(copy));
}

/* What a first use reads of it. If it stays, a collection takes it away with the record. */
static void drop_hot(struct remote *r, const struct share_id *id)
{
	struct error err = ERROR_INIT;
	char key[SHARE_KEY_SIZE];

	share_key_of_id(SHARE_KEY_HOT, id, key);
	if (object_delete(r->os, OBJECT_CONTROL, key, &err) < 0)
		log_debug("%s stays: %s", key, error_text(&err));
}

/* Its record says that it was deleted; it keeps the lists, for those who read it right now. */
static int bury(struct remote *r, const struct share_id *id, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_record rec;
	char key[SHARE_KEY_SIZE];
	int rc = remote_read_record(r, id, &rec, err);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (rec.state == SHARE_READY) {
		rec.state = SHARE_DELETED;
		share_key_of_id(SHARE_KEY_SNAP, id, key);
		rc = share_record_encode(&rec, &text, err);
		if (rc == 0)
			rc = object_put(r->os, OBJECT_CONTROL, key, text.data, text.len, err);
		if (rc == 0)
			drop_hot(r, id);
	}
	share_record_fini(&rec);
	return rc;
}

/* ---- the mark ---- */

int remote_mark_gone(struct remote *r, const struct share_id *id, struct error *err)
{
	char key[SHARE_KEY_SIZE];

	share_key_of_id(SHARE_KEY_GONE, id, key);
	return object_put(r->os, OBJECT_CONTROL, key, "", 0, err);
}

int remote_stays(struct remote *r, const struct share_id *id, struct error *err)
{
	char snap[SHARE_KEY_SIZE], gone[SHARE_KEY_SIZE];
	struct object_request rq[] = {
		{ .op = OBJECT_GET,
		  .priority = OBJECT_CONTROL,
		  .key = snap,
		  .max_len = SHARE_RECORD_MAX },
		{ .op = OBJECT_GET, .priority = OBJECT_CONTROL, .key = gone },
	};
	struct share_record rec;
	int rc = 0;

	share_key_of_id(SHARE_KEY_SNAP, id, snap);
	share_key_of_id(SHARE_KEY_GONE, id, gone);
	object_run(r->os, rq, ARRAY_SIZE(rq));
	for (size_t i = 0; i < ARRAY_SIZE(rq) && rc == 0; i++)
		if (rq[i].result < 0 && rq[i].result != -ENOENT)
			rc = error_set(err, rq[i].result, "%s", error_text(&rq[i].err));
	if (rc == 0 && rq[0].result == 0 && rq[1].result == -ENOENT)
		rc = share_record_decode(rq[0].data.data, rq[0].data.len, &rec, err);
	else
		rec.state = SHARE_DELETED;
	object_request_fini(&rq[0]);
	object_request_fini(&rq[1]);
	if (rc < 0 || rec.state != SHARE_READY)
		return rc;
	share_record_fini(&rec);
	return 1;
}

/* What a name stands for. 1: *out was deleted; 0: it was not, or the name is free. */
static int stands_for_deleted(struct remote *r, const char *name, struct share_id *out,
			      struct error *err)
{
	struct share_record rec;
	int rc = remote_resolve(r, name, &rec, err);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	*out = rec.id;
	share_record_fini(&rec);
	rc = remote_read_record(r, out, &rec, err);
	if (rc == -EBADMSG || rc == -ENOTSUP) /* it may be whole for others */
		return 0;
	if (rc < 0)
		return rc == -ENOENT ? 1 : rc;
	rc = rec.state != SHARE_READY;
	share_record_fini(&rec);
	return rc;
}

/*
 * A name that is taken is free nevertheless if what it stands for was deleted: who gave it that
 * name was stopped before it looked for the mark.
 */
static int set_new_name(struct remote *r, const char *name, const struct share_record *rec,
			const struct share_id *instead, struct error *err)
{
	struct share_id deleted;
	int rc = instead ? remote_replace_name(r, name, rec, instead, err)
			 : remote_set_name(r, name, rec, true, err);

	if (rc != -EEXIST || remote_is_permanent(r))
		return rc;
	rc = stands_for_deleted(r, name, &deleted, err);
	if (rc < 0)
		return rc;
	if (err)
		*err = (struct error)ERROR_INIT;
	return rc == 1 ? remote_replace_name(r, name, rec, &deleted, err)
		       : remote_set_name(r, name, rec, true, err);
}

int remote_give_name(struct remote *r, const char *name, const struct share_record *rec,
		     bool only_new, const struct share_id *instead, struct error *err)
{
	int rc = only_new ? set_new_name(r, name, rec, instead, err)
			  : remote_set_name(r, name, rec, false, err);

	if (rc == 0)
		rc = remote_stays(r, &rec->id, err);
	if (rc == 0)
		return error_set(err, -EIDRM, "it was deleted from remote %s at this moment",
				 r->name);
	return MIN(rc, 0);
}

/* ---- deleting ---- */

/* Unless a name stands for it: 1, and the names; else 0, and it is marked. */
static int mark_unnamed(struct remote *r, struct names_of *n, struct error *err)
{
	int rc = remote_each_name(r, note_name_of, n, err);

	if (rc == 0 && n->names.len == 0)
		rc = remote_mark_gone(r, &n->id, err);
	if (rc == 0 && n->names.len == 0)
		rc = remote_each_name(r, note_name_of, n, err);
	return rc == 0 && n->names.len ? 1 : rc;
}

int remote_delete_unnamed(struct remote *r, const struct share_id *id, struct error *err)
{
	struct names_of n = { .id = *id };
	int rc = remote_deletable(r, err);

	if (rc == 0)
		rc = mark_unnamed(r, &n, err);
	buf_fini(&n.names);
	return rc == 0 ? bury(r, id, err) : rc;
}

/* With the names that stand for it. */
static int delete_by_id(struct remote *r, const struct share_id *id, struct error *err)
{
	const size_t size = SNAPSHOT_NAME_MAX + 1;
	struct names_of n = { .id = *id };
	int rc = remote_mark_gone(r, id, err);

	if (rc == 0)
		rc = remote_each_name(r, note_name_of, &n, err);
	for (size_t at = 0; at + size <= n.names.len && rc == 0; at += size)
		rc = remote_drop_name(r, (const char *)n.names.data + at, id, err);
	buf_fini(&n.names);
	return rc == 0 ? bury(r, id, err) : rc;
}

int remote_remove(struct remote *r, const char *reference, bool *out_deleted, struct error *err)
{
	struct share_record rec;
	struct share_id id;
	int rc = remote_writable(r, err);

	if (rc == 0)
		rc = remote_deletable(r, err);
	if (rc == 0)
		rc = remote_resolve(r, reference, &rec, err);
	if (rc < 0)
		return rc;
	id = rec.id;
	share_record_fini(&rec);
	if (share_id_parse(reference, &id) == 0) {
		rc = delete_by_id(r, &id, err);
	} else {
		rc = remote_drop_name(r, reference, &id, err);
		if (rc == 0)
			rc = remote_delete_unnamed(r, &id, err);
	}
	*out_deleted = rc == 0;
	return MIN(rc, 0);
}
