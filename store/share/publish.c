#include "store/share/publish.h"

#include <errno.h>
#include <string.h>

#include "store/share/pull.h"
#include "store/remote/share_ids.h"

#define IMAGE_TRIES 3

/* ---- what is to be done ---- */

int publish_wants(struct store *s, const char *uuid, const struct snapshot *snap)
{
	char name[SHARE_NOTE_SIZE];
	struct share_id id;
	int rc;

	if (snap->status != SNAPSHOT_READY || !snap->has_root || !snap->name[0])
		return 0;
	rc = share_note_get(s->kv, uuid, SHARE_NOTE_NAME, snap->id, name);
	if (rc == 0)
		return strcmp(name, snap->name) != 0;
	if (rc != -ENOENT)
		return rc;
	if (strcmp(snap->source, PULL_SOURCE) != 0)
		return 1;
	rc = share_ids_to(s->kv, uuid, snap->id, &id);
	return rc == -ENOENT ? 1 : MIN(rc, 0);
}

int publish_wants_image(struct store *s, const char *uuid, const char *key, const char *local)
{
	char noted[SHARE_NOTE_SIZE];
	int rc = share_note_get(s->kv, uuid, SHARE_NOTE_IMAGE, key, noted);

	if (rc == 0)
		return strcmp(noted, local) != 0;
	return rc == -ENOENT ? 1 : rc;
}

/* ---- doing it ---- */

/*
 * The name stands for another snapshot. It moves if that was shared or pulled here: then the newer
 * one has taken its place on this host.
 */
static int is_known(struct store *s, struct remote *r, const char *name, struct error *err)
{
	char local[SNAPSHOT_ID_SIZE];
	struct share_record rec;
	int rc = remote_resolve(r, name, &rec, err);

	if (rc < 0)
		return rc == -ENOENT ? 1 : rc; /* free again */
	rc = share_ids_from(s->kv, remote_uuid(r), &rec.id, local);
	share_record_fini(&rec);
	return rc == -ENOENT ? 0 : rc < 0 ? rc : 1;
}

int publish_snapshot(struct store *s, struct remote *r, const char *local, struct progress *p,
		     struct push_result *out, bool *out_taken, struct error *err)
{
	struct push_options opt = { .only_new = true };
	struct snapshot snap;
	int rc = snapshots_get(s->snapshots, local, &snap, err);

	if (rc < 0)
		return rc;
	snapshot_fini(&snap); /* its name stays */
	*out_taken = false;
	opt.name = snap.name[0] ? snap.name : NULL;
	rc = push_snapshot(s, r, local, &opt, p, out, err);
	if (rc == -EEXIST) {
		struct push_result first = *out;

		rc = remote_is_permanent(r) ? 0 : is_known(s, r, snap.name, err);
		if (rc < 0)
			return rc;
		*out_taken = rc == 0;
		opt.only_new = false;
		opt.name = *out_taken ? NULL : snap.name;
		rc = push_snapshot(s, r, local, &opt, p, out, err);
		if (rc == 0) { /* the first one moved the bytes */
			first.id = out->id;
			*out = first;
		}
	}
	if (rc < 0 || !snap.name[0])
		return rc;
	return share_note_put(s->kv, remote_uuid(r), SHARE_NOTE_NAME, local, snap.name);
}

/*
 * The image is set. If somebody is deleting that snapshot at this moment, which images do not
 * prevent, the deletion is completed here, and it is to be pushed anew: -EIDRM. What is spared, as
 * it has a name, stays the image.
 */
static int check_image(struct store *s, struct remote *r, const char *local,
		       const struct share_id *id, struct error *err)
{
	struct share_record rec;
	int rc = remote_is_permanent(r) ? 1 : remote_stays(r, id, err);
	bool spared = false;

	if (rc != 0)
		return MIN(rc, 0);
	rc = remote_delete_unnamed(r, id, err);
	if (rc >= 0)
		rc = remote_read_record(r, id, &rec, err);
	if (rc == 0) {
		spared = rec.state == SHARE_READY;
		share_record_fini(&rec);
	}
	if (spared || (rc < 0 && rc != -ENOENT))
		return rc;
	rc = share_ids_drop(s->kv, remote_uuid(r), local, id);
	return rc < 0 ? rc
		      : error_set(err, -EIDRM, "it was deleted from remote %s at this moment",
				  remote_name(r));
}

/* One attempt. As publish_image; -EIDRM: again. */
static int set_image(struct store *s, struct remote *r, const struct publish_image *i,
		     struct push_result *out, struct share_record *out_won, struct error *err)
{
	const struct push_options unnamed = { 0 };
	struct share_record rec;
	int rc = push_snapshot(s, r, i->local, &unnamed, i->progress, out, err);

	if (rc == 0)
		rc = remote_read_record(r, &out->id, &rec, err);
	if (rc < 0)
		return rc;
	rc = remote_set_image(r, i->key, &rec, i->replace, out_won, err);
	share_record_fini(&rec);
	if (rc == -EPERM)
		return 0; /* a permanent bucket keeps its first one */
	return rc == 0 ? check_image(s, r, i->local, &out->id, err) : rc;
}

int publish_image(struct store *s, struct remote *r, const struct publish_image *i,
		  struct push_result *out, struct share_record *out_won, struct error *err)
{
	int rc = -EIDRM, noted;

	for (int tries = 0; tries < IMAGE_TRIES && rc == -EIDRM; tries++) {
		if (err)
			*err = (struct error)ERROR_INIT;
		rc = set_image(s, r, i, out, out_won, err);
	}
	if (rc < 0)
		return rc == -EIDRM ? error_set(err, -EAGAIN, "%s", error_text(err)) : rc;
	/* Nobody else relies on it: what was there before this call is left. */
	if (rc == 1 && !out->existed && remote_delete_unnamed(r, &out->id, NULL) == 0)
		(void)!share_ids_drop(s->kv, remote_uuid(r), i->local, &out->id);
	noted = share_note_put(s->kv, remote_uuid(r), SHARE_NOTE_IMAGE, i->key, i->local);
	if (noted < 0 && rc == 1)
		share_record_fini(out_won);
	return noted < 0 ? error_set_errno(err, noted, "note the image") : rc;
}

/* ---- tidying ---- */

struct sweep {
	struct store *s;
	const char *uuid;
	enum share_note kind;
};

static int sweep_one(void *arg, const char *subject, const char *value)
{
	const struct sweep *w = arg;
	const char *local = w->kind == SHARE_NOTE_NAME ? subject : value;
	struct snapshot snap;
	int rc = snapshots_get(w->s->snapshots, local, &snap, NULL);

	if (rc == -ENOENT)
		return share_note_drop(w->s->kv, w->uuid, w->kind, subject);
	if (rc == 0)
		snapshot_fini(&snap);
	return rc;
}

int publish_sweep(struct store *s, const char *uuid)
{
	struct sweep w = { s, uuid, SHARE_NOTE_NAME };
	int rc = share_note_each(s->kv, uuid, w.kind, sweep_one, &w);

	w.kind = SHARE_NOTE_IMAGE;
	return rc < 0 ? rc : share_note_each(s->kv, uuid, w.kind, sweep_one, &w);
}
