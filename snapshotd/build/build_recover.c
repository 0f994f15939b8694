/*
 * What a former daemon left: builds that it did not finish become failed, with
 * their logs; their mounts and the checkpoints that no cache entry names go;
 * snapshots that waited for them become failed, which frees their names, or ready
 * where the image is there. Where this daemon is the successor of one that died,
 * builds are to begin again instead, at the first step that is not cached, and such
 * snapshots wait on.
 */
#include "snapshotd/build/builds_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshotd/build/image_cache.h"
#include "snapshotd/state/json_record.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define REASON "snapshotd stopped during the build"
#define RESTARTS_MAX 3 /* one that ends the daemon each time is to end */

void builds_drop_mount(struct builds *b, struct mount_entry *e)
{
	struct error err = ERROR_INIT;

	if (mounts_drop(b->opt.mounts, e, &err) < 0) {
		log_error("the mount of a build stays: %s", error_text(&err));
		mounts_put(b->opt.mounts, e);
	}
}

struct recovery {
	struct builds *b;
	json_t *kept_ids;   /* a set: builds whose mounts are to be kept */
	json_t *mounted;    /* a set: those that have one */
	json_t *mount_ids;  /* a set: mounts that were discarded */
	json_t *unfinished; /* ids to records: builds that are to go on */
};

/* ---- records ---- */

static int end_record(struct builds *b, const char *id, const json_t *record, const char *why,
		      bool keep)
{
	json_auto_t *j = json_copy((json_t *)record);
	json_int_t step = json_integer_value(json_object_get(record, "step"));
	int rc = j ? 0 : -1;

	rc |= json_object_set_new(j, "state", json_string(build_state_name(BUILD_FAILED)));
	rc |= json_object_set_new(j, "error", json_string(why));
	rc |= json_object_set_new(j, "failedStep", step ? json_integer(step) : json_null());
	rc |= json_object_set_new(j, "endedAtMs", json_integer(clock_ms()));
	if (!keep)
		rc |= json_object_set_new(j, "mountID", json_null());
	if (rc)
		return -ENOMEM;
	log_info("build %s: %s", id, why);
	return json_record_put(b->opt.store->kv, META_BUILD, id, j, KV_LOG);
}

/* Whether a build that has ended has left a mount, which may be discarded since. */
static bool is_kept(struct recovery *r, const char *id, const json_t *record)
{
	json_auto_t *j = NULL;
	const char *mount_id = json_record_text(record, "mountID");
	struct mount_entry *e;

	if (!mount_id[0])
		return false;
	if (mounts_get(r->b->opt.mounts, mount_id, &e, NULL) == 0) {
		mounts_put(r->b->opt.mounts, e);
		return true;
	}
	j = json_copy((json_t *)record);
	if (!j || json_object_set_new(j, "mountID", json_null()) ||
	    json_record_put(r->b->opt.store->kv, META_BUILD, id, j, KV_LOG) < 0)
		log_debug("build %s names a mount that is gone", id);
	return false;
}

static bool goes_on(const struct recovery *r, const json_t *record)
{
	return r->b->opt.goes_on && json_record_int(record, "restarts") < RESTARTS_MAX;
}

static int recover_record(void *arg, const char *id, const json_t *j)
{
	struct recovery *r = arg;
	enum build_state s = BUILD_FAILED;
	bool keep = json_is_true(json_object_get(j, "keepFailed"));
	int rc = 0;

	if (build_state_parse(json_record_text(j, "state"), &s) < 0)
		s = BUILD_QUEUED; /* of a later version, perhaps */
	if (build_state_after_crash(s) != s && goes_on(r, j))
		return json_object_set(r->unfinished, id, (json_t *)j) ? -ENOMEM : 0;
	if (build_state_after_crash(s) != s)
		rc = end_record(r->b, id, j, REASON, keep);
	else
		keep = is_kept(r, id, j);
	if (rc == 0 && keep && json_object_set_new(r->kept_ids, id, json_true()))
		rc = -ENOMEM;
	return rc;
}

/* ---- mounts ---- */

/* The id of the build whose mount is at `place`, or NULL; malloc'd. */
static char *build_of_place(const struct builds *b, const char *place)
{
	size_t len = strlen(b->dir);
	const char *end;

	if (strncmp(place, b->dir, len) != 0 || place[len] != '/')
		return NULL;
	place += len + 1;
	end = strchr(place, '/');
	return end && strcmp(end, "/root") == 0 ? strndup(place, (size_t)(end - place)) : NULL;
}

/* The record of a build whose mount is kept names it. */
static void note_kept(struct recovery *r, const char *id, const char *mount_id)
{
	json_auto_t *j = NULL;

	if (json_record_get(r->b->opt.store->kv, META_BUILD, id, &j) < 0 ||
	    json_object_set_new(j, "mountID", json_string(mount_id)) ||
	    json_record_put(r->b->opt.store->kv, META_BUILD, id, j, KV_LOG) < 0)
		log_warn("build %s does not name the mount %s that it left", id, mount_id);
}

static int recover_mounts(struct recovery *r)
{
	struct mount_entry **list = NULL;
	size_t n = 0;
	int rc = mounts_list(r->b->opt.mounts, &list, &n);

	for (size_t i = 0; i < n; i++) {
		struct mount_info info;
		char *id;

		mount_get_info(mount_entry_mount(list[i]), &info);
		id = build_of_place(r->b, info.mountpoint);
		if (id && json_object_get(r->kept_ids, id)) {
			note_kept(r, id, info.id);
			if (json_object_set_new(r->mounted, id, json_true()))
				rc = -ENOMEM;
		} else if (id) {
			if (json_object_set_new(r->mount_ids, info.id, json_true()))
				rc = -ENOMEM;
			builds_drop_mount(r->b, list[i]);
			list[i] = NULL;
		}
		if (list[i])
			mounts_put(r->b->opt.mounts, list[i]);
		free(id);
	}
	free(list);
	return rc;
}

/* Directories in which nothing is mounted any more. Those of kept mounts are not touched. */
static void remove_directories(struct recovery *r)
{
	DIR *d = opendir(r->b->dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char *root, *dir;

		if (e->d_name[0] == '.' || strchr(e->d_name, '.') ||
		    json_object_get(r->mounted, e->d_name))
			continue;
		root = builds_path(r->b, e->d_name, "/root");
		dir = builds_path(r->b, e->d_name, "");
		if (root && dir && ((rmdir(root) < 0 && errno != ENOENT) || rmdir(dir) < 0))
			log_warn("%s cannot be removed: %s", dir, strerror(errno));
		free(root);
		free(dir);
	}
	if (d)
		closedir(d);
}

/* ---- snapshots ---- */

static void fail_snapshot(void *arg, struct snapshot *s)
{
	(void)arg;
	if (s->status != SNAPSHOT_BUILDING)
		return;
	s->status = SNAPSHOT_FAILED;
	strcpy(s->error, REASON);
}

/* The image is there, and the former daemon died before it had the name. */
static int take_name(struct snapshots *ss, const struct snapshot *s)
{
	struct error err = ERROR_INIT;

	if (build_take_name(ss, s->id, s->takes, s->created_at_ms, &err) < 0)
		log_error("snapshot %s stays as it is: %s", s->id, error_text(&err));
	return 0;
}

static int recover_snapshot(void *arg, const struct snapshot *s)
{
	const struct recovery *r = arg;
	struct snapshots *ss = r->b->opt.store->snapshots;

	if ((s->name[0] || s->takes[0]) && s->build_id[0] &&
	    json_object_get(r->unfinished, s->build_id))
		return 0;
	if (s->takes[0] && s->status == SNAPSHOT_READY)
		return take_name(ss, s);
	if (s->status == SNAPSHOT_BUILDING && strcmp(s->source, IMAGE_CACHE_SOURCE) == 0 &&
	    build_finish_late(r->b, s))
		return 0;
	if (s->name[0] && s->status == SNAPSHOT_BUILDING &&
	    strcmp(s->source, IMAGE_CACHE_SOURCE) == 0)
		return snapshots_update(ss, s->id, fail_snapshot, NULL, NULL, NULL, NULL);
	/* It was to take its name from another, which keeps it. */
	if (!s->name[0] && s->status == SNAPSHOT_BUILDING &&
	    strcmp(s->source, IMAGE_CACHE_SOURCE) == 0)
		return snapshots_delete(ss, s->id, NULL);
	/* A step's checkpoint that no entry of the cache names. */
	if (!s->name[0] && s->mount_id[0] && json_object_get(r->mount_ids, s->mount_id))
		return snapshots_delete(ss, s->id, NULL);
	return 0;
}

struct failed {
	struct snapshots *ss;
	const char *id;
};

static int fail_waiting(void *arg, const struct snapshot *s)
{
	const struct failed *f = arg;

	if (strcmp(s->build_id, f->id) != 0)
		return 0;
	if (!s->name[0] && s->takes[0])
		return snapshots_delete(f->ss, s->id, NULL);
	return snapshots_update(f->ss, s->id, fail_snapshot, NULL, NULL, NULL, NULL);
}

/* One that was to go on and cannot: as if it had not been meant to. */
void builds_recover_failed(struct builds *b, const char *id, const char *why)
{
	struct failed f = { b->opt.store->snapshots, id };
	json_t *j = NULL;
	int rc = json_record_get(b->opt.store->kv, META_BUILD, id, &j);

	if (rc == 0)
		rc = end_record(b, id, j, why, false);
	if (rc == 0)
		rc = snapshots_each_unfinished(f.ss, fail_waiting, &f, NULL);
	if (rc < 0)
		log_error("build %s is not ended: %s", id, strerror(-rc));
	json_decref(j);
}

static int recover_snapshots(struct recovery *r)
{
	struct snapshots *ss = r->b->opt.store->snapshots;
	struct snapshot *list = NULL;
	size_t n = 0;

	if (!json_object_size(r->mount_ids))
		return snapshots_each_unfinished(ss, recover_snapshot, r, NULL);
	int rc = snapshots_list(ss, &list, &n, NULL);

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = recover_snapshot(r, &list[i]);
	snapshots_list_free(list, n);
	return rc;
}

int builds_recover(struct builds *b, json_t *unfinished, struct error *err)
{
	json_auto_t *kept = json_object();
	json_auto_t *mounted = json_object();
	json_auto_t *discarded = json_object();
	struct recovery r = { b, kept, mounted, discarded, unfinished };
	int rc = kept && mounted && discarded
			 ? json_record_each(b->opt.store->kv, META_BUILD, recover_record, &r)
			 : -ENOMEM;

	if (rc == 0)
		rc = recover_mounts(&r);
	if (rc == 0)
		rc = recover_snapshots(&r);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot clear what former builds left");
	remove_directories(&r);
	builds_prune(b);
	return 0;
}
