/* From a request to its outcome: hits, waiting, and snapshots with a name. */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/build/image_cache.h"
#include "store/base/log.h"

/* ---- waiting ---- */

static int outcome_of(const struct build *bd, struct build_outcome *out, struct error *err)
{
	memcpy(out->build_id, bd->id, sizeof(out->build_id));
	memcpy(out->snapshot_id, bd->snapshot_id, sizeof(out->snapshot_id));
	out->cached = false;
	out->failed_step = bd->failed_step;
	if (bd->state == BUILD_READY)
		return 0;
	return error_set(err, -ECHILD, "%s", bd->error.msg);
}

static int wait_for(struct build *bd, const struct build_request *rq, struct build_outcome *out,
		    struct error *err)
{
	int rc = build_log_follow(bd->log, rq->log, rq->cancelled, rq->arg);

	if (rc == -ECANCELED)
		return error_set(err, rc, "nobody waits for build %s any more", bd->id);
	if (rc < 0) {
		log_warn("the log of build %s cannot be read: %s", bd->id, strerror(-rc));
		rc = build_log_follow(bd->log, NULL, rq->cancelled, rq->arg);
	}
	return rc < 0 ? error_set_errno(err, rc, "build %s", bd->id) : outcome_of(bd, out, err);
}

int builds_wait(struct builds *b, const char *build_id, const struct build_request *rq,
		struct build_outcome *out, struct error *err)
{
	struct build *bd = builds_find(b, build_id);
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	json_t *j = NULL;
	int rc;

	*out = (struct build_outcome){ 0 };
	if (bd) {
		rc = wait_for(bd, rq, out, err);
		build_unref(bd);
		return rc;
	}
	rc = builds_get(b, build_id, &j, err);
	json_decref(j);
	if (rc < 0)
		return rc;
	if (buf_printf(&path, "%s/%s.log", b->dir, build_id) < 0 || !buf_cstr(&path))
		return error_set(err, -ENOMEM, "out of memory");
	if (rq->log && (rc = build_log_replay((char *)path.data, rq->log, rq->arg)) < 0)
		log_debug("%s: %s", (char *)path.data, strerror(-rc));
	return build_record_outcome(b, build_id, out, err);
}

/* ---- requests ---- */

/* An image without steps is its base. */
static int base_as_image(struct builds *b, const struct snapshot *base, struct build_outcome *out)
{
	if (snapshots_touch(b->opt.store->snapshots, base->id) < 0)
		log_debug("snapshot %s is not marked as used", base->id);
	memcpy(out->snapshot_id, base->id, sizeof(out->snapshot_id));
	out->cached = true;
	return 1;
}

/* 1: *out is the image. 0: *base is what to build upon. -ECHILD: it cannot be built. */
static int look_up(struct builds *b, const struct manifest *m, const struct build_request *rq,
		   struct build_base *base, struct build_outcome *out, struct error *err)
{
	struct image_entry e;
	struct snapshot s = { 0 };
	int found = -ENOENT, rc = builds_base(b, m, base, err);

	*out = (struct build_outcome){ 0 };
	if (rc < 0 && rc != -ENOENT && rc != -EBUSY)
		return rc;
	if (rc == 0 && m->n_steps == 0)
		return base_as_image(b, &base->snap, out);
	if (!rq->force && m->n_steps)
		found = image_cache_find(b->opt.store, m->key, rc == 0 ? base->id : NULL, &e, &s);
	if (found == 0) {
		memcpy(out->snapshot_id, s.id, sizeof(out->snapshot_id));
		out->cached = true;
		snapshot_fini(&s);
		return 1;
	}
	return rc < 0 ? error_set(err, -ECHILD, "%s", error_text(err)) : 0;
}

/* 1: *out is the image. 0: *bd is its build, referenced. */
static int find_or_join(struct builds *b, const struct manifest *m, const struct build_request *rq,
			struct build **bd, struct build_outcome *out, struct error *err)
{
	struct build_base base = { 0 };
	struct error own = ERROR_INIT;
	int rc;

	err = err ? err : &own; /* its text is needed here */
	rc = look_up(b, m, rq, &base, out, err);
	if (rc == 0)
		rc = space_check(&b->opt.store->space, SPACE_GROWTH, 0, err);
	if (rc == 0)
		rc = builds_join(b, m, rq, base.id, NULL, bd, out, err);
	build_base_fini(&base);
	return rc;
}

int builds_resolve(struct builds *b, const struct manifest *m, const struct build_request *rq,
		   struct build_outcome *out, struct error *err)
{
	struct build *bd = NULL;
	int rc = find_or_join(b, m, rq, &bd, out, err);

	if (rc == 0) {
		rc = wait_for(bd, rq, out, err);
		build_unref(bd);
	}
	return rc < 0 ? rc : 0;
}

int builds_start(struct builds *b, const struct manifest *m, const struct build_request *rq,
		 struct build_outcome *out, struct error *err)
{
	struct build *bd = NULL;
	int rc = find_or_join(b, m, rq, &bd, out, err);

	build_unref(bd);
	return rc < 0 ? rc : 0;
}

/* ---- snapshots with a name ---- */

/*
 * Whether name belongs to another image, from which it is to be taken: 1. Not from
 * what was made otherwise: that would be lost. -EEXIST, -EBUSY.
 */
static int takes_name(struct builds *b, const char *name, struct error *err)
{
	struct snapshot old = { 0 };
	int rc = snapshots_get(b->opt.store->snapshots, name, &old, NULL);

	if (rc < 0 || strcmp(old.name, name) != 0 || old.status == SNAPSHOT_FAILED)
		rc = rc == -ENOENT || rc == 0 ? 0 : error_set_errno(err, rc, "snapshot %s", name);
	else if (old.status == SNAPSHOT_BUILDING)
		rc = error_set(err, -EBUSY, "a snapshot named \"%s\" is being built already", name);
	else if (strcmp(old.source, IMAGE_CACHE_SOURCE) != 0)
		rc = error_set(err, -EEXIST,
			       "the snapshot \"%s\" exists and was not built: it is not replaced; "
			       "rename or remove it first",
			       name);
	else if (old.pinned)
		rc = error_set(err, -EBUSY, "the snapshot \"%s\" is pinned: it is not replaced",
			       name);
	else
		rc = 1;
	snapshot_fini(&old);
	return rc;
}

/* The record, with its name if it has one yet; one that failed gives its name up. */
static int put_named(struct builds *b, struct snapshot *s, struct error *err)
{
	struct snapshots *ss = b->opt.store->snapshots;
	struct snapshot old = { 0 };
	int rc = s->name[0] ? snapshot_name_check(s->name, err) : 0;

	if (rc < 0)
		return rc;
	if (!s->name[0])
		return snapshots_put(ss, s, NULL, err);
	if (snapshots_get(ss, s->name, &old, NULL) == 0) {
		if (old.status == SNAPSHOT_FAILED && strcmp(old.name, s->name) == 0)
			rc = snapshots_delete(ss, old.id, err);
		snapshot_fini(&old);
		if (rc < 0 && rc != -ENOENT)
			return rc;
	}
	return snapshots_put(ss, s, NULL, err);
}

/* The image is there: the record is ready at once. */
static int put_ready(struct builds *b, const char *image_id, const struct build_request *rq,
		     struct snapshot *s, struct error *err)
{
	struct snapshots *ss = b->opt.store->snapshots;
	struct snapshot image = { 0 };
	struct store_hold hold;
	int rc = store_hold_snapshot(b->opt.store, image_id, &image, &hold, err);

	if (rc < 0)
		return rc;
	build_become_ready(s, &image);
	memcpy(s->build_id, image.build_id, sizeof(s->build_id));
	rc = put_named(b, s, err);
	if (rc == 0 && !s->name[0]) {
		rc = snapshots_replace(ss, s->id, rq->name, err);
		if (rc == 0)
			snprintf(s->name, sizeof(s->name), "%s", rq->name);
		else if (snapshots_delete(ss, s->id, NULL) < 0)
			log_debug("snapshot %s is gone already", s->id);
	}
	store_release(b->opt.store, &hold);
	snapshot_fini(&image);
	return rc;
}

static void set_build_id(void *arg, struct snapshot *s)
{
	memcpy(s->build_id, arg, sizeof(s->build_id));
}

/* The image is not there: the record first, then the build that is to finish it. */
static int put_building(struct builds *b, const struct manifest *m, const struct build_request *rq,
			const char *base_id, struct snapshot *s, struct build_outcome *oc,
			struct error *err)
{
	struct snapshots *ss = b->opt.store->snapshots;
	struct named named = { .id = "" };
	struct build *bd = NULL;

	if (!s->name[0])
		snprintf(s->takes, sizeof(s->takes), "%s", rq->name);
	int rc = put_named(b, s, err);

	if (rc < 0)
		return rc;
	memcpy(named.id, s->id, sizeof(named.id));
	memcpy(named.take, s->takes, sizeof(named.take));
	rc = builds_join(b, m, rq, base_id, &named, &bd, oc, err);
	if (rc == 0) {
		memcpy(s->build_id, bd->id, sizeof(s->build_id));
		rc = snapshots_update(ss, s->id, set_build_id, bd->id, NULL, NULL, err);
		build_unref(bd);
		return rc == -ENOENT ? 0 : rc;
	}
	if (snapshots_delete(ss, s->id, NULL) < 0)
		log_debug("snapshot %s is gone already", s->id);
	s->id[0] = '\0';
	return rc == 1 ? put_ready(b, oc->snapshot_id, rq, s, err) : rc;
}

int builds_snapshot(struct builds *b, const struct manifest *m, const char *name,
		    const struct build_request *rq, struct build_outcome *oc, struct snapshot *out,
		    struct error *err)
{
	struct snapshot s = { .status = SNAPSHOT_BUILDING };
	struct build_base base = { 0 };
	struct error own = ERROR_INIT;
	int rc = snapshot_name_check(name, err);

	if (rc == 0 && rq->replace)
		rc = takes_name(b, name, err);
	if (rc < 0)
		return rc;
	if (rc == 0)		      /* else it gets its name from the other, in the end */
		strcpy(s.name, name); /* checked */
	strcpy(s.source, IMAGE_CACHE_SOURCE);
	memcpy(s.content_hash, m->key, sizeof(s.content_hash));
	err = err ? err : &own;
	rc = look_up(b, m, rq, &base, oc, err);
	if (rc >= 0)
		memcpy(s.parent, base.snap.id, sizeof(s.parent));
	if (rc == 1)
		rc = put_ready(b, oc->snapshot_id, rq, &s, err);
	else if (rc == 0)
		rc = put_building(b, m, rq, base.id, &s, oc, err);
	if (rc == 0 && image_cache_put_manifest(b->opt.store, m->key, m->json) < 0)
		log_warn("the manifest of snapshot %s is not kept", name);
	build_base_fini(&base);
	if (rc < 0)
		snapshot_fini(&s);
	else
		*out = s;
	return rc;
}

json_t *builds_manifest(struct builds *b, const char *key)
{
	return key[0] ? image_cache_manifest(b->opt.store, key) : NULL;
}

int builds_images(struct builds *b, json_record_fn fn, void *arg, struct error *err)
{
	return image_cache_each(b->opt.store, fn, arg, err);
}

int builds_image_delete(struct builds *b, const char *key, struct error *err)
{
	return image_cache_forget(b->opt.store, key, err);
}
