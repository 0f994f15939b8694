#include "snapshotd/api/api.h"

#include <errno.h>
#include <string.h>

#include "snapshotd/build/image_cache.h"
#include "store/base/log.h"
#include "store/remote/lazy_index.h"
#include "store/lazy/presence.h"
#include "store/share/pull.h"

/* What the image cache keeps is no snapshot of anybody's; nor are the checkpoints of a build. */
static bool is_cache_entry(struct api_call *c, const struct snapshot *s)
{
	return image_cache_owns(s) ||
	       (!s->name[0] && builds_owns_mount(c->api->builds, s->mount_id));
}

struct listing {
	struct api_list list;
	bool all; /* cache entries, too */
};

static int list_snapshot(void *arg, const struct snapshot *s)
{
	struct listing *l = arg;

	if ((!l->all && is_cache_entry(l->list.c, s)) || !api_list_wants(&l->list, s->id))
		return 0;
	return api_list_add(&l->list, api_snapshot_json(l->list.c, s));
}

static int reply_snapshot(struct api_call *c, const char *name_or_id, struct error *err)
{
	struct snapshot s = { 0 };
	json_t *j;
	int rc = snapshots_get(c->api->store->snapshots, name_or_id, &s, err);

	if (rc < 0)
		return rc;
	j = api_snapshot_json(c, &s);
	snapshot_fini(&s);
	return api_result(c, 200, j, err);
}

/* By name or id; or pull it. */
static int find_snapshot(struct api_call *c, const char *text, struct snapshot *out,
			 struct error *err)
{
	char remote[REMOTE_NAME_MAX + 1];
	struct progress *p = NULL;
	const char *reference;
	int rc;

	if (!reference_split(text, remote, &reference))
		return snapshots_get(c->api->store->snapshots, text, out, err);
	p = strcmp(http_method(c->rq), "POST") == 0 ? api_progress(c, err) : api_cancellation(c);
	if (!p)
		return err->code;
	rc = pull_find(c->api->store, c->api->remotes, text, p, out, err);
	return api_share_failure(c, true, rc);
}

int api_ready_snapshot(struct api_call *c, const char *name_or_id, struct snapshot *out,
		       struct error *err)
{
	struct snapshot s = { 0 };
	int rc = find_snapshot(c, name_or_id, &s, err);

	if (rc < 0)
		return rc;
	if (s.status == SNAPSHOT_READY) {
		*out = s;
		return 0;
	}
	if (s.status == SNAPSHOT_BUILDING)
		error_set(err, -EBUSY, "snapshot %s is still being built", name_or_id);
	else
		error_set(err, -EBUSY, "snapshot %s has failed: %s", name_or_id, s.error);
	snapshot_fini(&s);
	return -EBUSY;
}

int api_hold_snapshot(struct api_call *c, const char *name_or_id, struct snapshot *out,
		      struct store_hold *hold, struct error *err)
{
	char id[SNAPSHOT_ID_SIZE];
	struct snapshot s = { 0 };
	int rc = api_ready_snapshot(c, name_or_id, &s, err);

	if (rc < 0)
		return rc;
	memcpy(id, s.id, sizeof(id));
	snapshot_fini(&s);
	return store_hold_snapshot(c->api->store, id, out, hold, err);
}

int api_name_free(struct api_call *c, const char *name, struct error *err)
{
	struct snapshot s = { 0 };
	int rc = snapshot_name_check(name, err);

	if (rc < 0)
		return rc;
	rc = snapshots_get(c->api->store->snapshots, name, &s, NULL);
	if (rc == 0) {
		snapshot_fini(&s);
		return error_set(err, -EEXIST, "a snapshot named \"%s\" exists already", name);
	}
	return rc == -ENOENT ? 0 : error_set_errno(err, rc, "snapshot %s", name);
}

int api_snapshots_list(struct api_call *c, struct error *err)
{
	struct listing l = { .all = false };
	int rc = api_query(c, err, "all", API_LIST_QUERY, NULL);

	if (rc == 0)
		rc = query_bool(&c->query, "all", &l.all, err);
	if (rc == 0)
		rc = api_list_begin(&l.list, c, err);
	if (rc < 0)
		return rc;
	rc = snapshots_each(c->api->store->snapshots, list_snapshot, &l, err);
	return api_list_end(&l.list, rc, err);
}

/* How much of a snapshot is here. Only its own call tells: it walks the tree. */
static int tell_presence(struct api_call *c, const char *id, json_t *o, struct error *err)
{
	struct lazy_index *ix = remotes_index(c->api->remotes);
	struct store *store = c->api->store;
	struct snapshot s = { 0 };
	struct store_hold hold;
	struct presence here;
	int rc;

	if (!ix || !lazy_index_count(ix, NULL))
		return 0;
	rc = store_hold_snapshot(store, id, &s, &hold, err);
	if (rc == -ENOENT || rc == -EINVAL)
		return 0; /* it was deleted meanwhile, or has no tree */
	if (rc < 0)
		return rc;
	rc = presence_of(store, &s.root, api_cancellation(c), &here, err);
	store_release(store, &hold);
	snapshot_fini(&s);
	if (rc == 0)
		return presence_tell(&here, o);
	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	log_warn("snapshot %s: %s", id, error_text(err));
	return 0; /* a damaged tree's record can be read */
}

int api_snapshot_get(struct api_call *c, struct error *err)
{
	struct snapshot s = { 0 };
	json_t *j;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = snapshots_get(c->api->store->snapshots, api_capture(c, 0), &s, err);
	if (rc < 0)
		return rc;
	j = api_snapshot_json(c, &s);
	if (j && s.status == SNAPSHOT_READY)
		rc = tell_presence(c, s.id, j, err);
	snapshot_fini(&s);
	if (rc == 0)
		return api_result(c, 200, j, err);
	json_decref(j);
	return rc;
}

int api_snapshot_history(struct api_call *c, struct error *err)
{
	struct listing l = { .all = true };
	int rc = api_list_begin_plain(&l.list, c, err);

	if (rc < 0)
		return rc;
	rc = snapshots_history_each(c->api->store->snapshots, api_capture(c, 0), list_snapshot, &l,
				    err);
	return api_list_end(&l.list, rc, err);
}

#define PATCH_UNSET UINT64_MAX

struct patch {
	const char *name; /* NULL: not given */
	bool replace;	  /* also where another snapshot has it, which is deleted */
	bool pinned;
	uint64_t ttl; /* seconds, or PATCH_UNSET */
	bool has_pinned;
};

static int patch_parse(struct api_call *c, struct patch *p, json_t **body, struct error *err)
{
	const struct field fields[] = {
		{ "name", FIELD_STRING, &p->name, false },
		{ "replace", FIELD_BOOL, &p->replace, false },
		{ "pinned", FIELD_BOOL, &p->pinned, false },
		{ "ttl", FIELD_U64, &p->ttl, false },
	};
	int rc;

	*p = (struct patch){ .ttl = PATCH_UNSET };
	rc = api_body(c, fields, ARRAY_SIZE(fields), body, err);
	if (rc < 0)
		return rc;
	p->has_pinned = json_is_boolean(json_object_get(*body, "pinned"));
	if (p->name && (p->has_pinned || p->ttl != PATCH_UNSET))
		rc = error_set(err, -EINVAL, "give either name, or pinned and ttl");
	else if (!p->name && !p->has_pinned && p->ttl == PATCH_UNSET)
		rc = error_set(err, -EINVAL, "nothing to change: give name, or pinned and ttl");
	else if (p->replace && !p->name)
		rc = error_set(err, -EINVAL, "replace goes with name");
	if (rc < 0) {
		json_decref(*body);
		*body = NULL;
	}
	return rc;
}

static int pin(struct api_call *c, const struct snapshot *s, const struct patch *p,
	       struct error *err)
{
	bool pinned = p->has_pinned ? p->pinned : s->pinned;
	int64_t ttl = p->ttl == PATCH_UNSET ? s->ttl_seconds : (int64_t)p->ttl;

	return snapshots_pin(c->api->store->snapshots, s->id, pinned, ttl, err);
}

static int rename_to(struct api_call *c, const struct snapshot *s, const struct patch *p,
		     struct error *err)
{
	struct snapshots *ss = c->api->store->snapshots;

	return p->replace ? snapshots_replace(ss, s->id, p->name, err)
			  : snapshots_rename(ss, s->id, p->name, err);
}

/* Renamed by a daemon that has died, it may be the one of the new name. */
static bool is_unclear(struct api_call *c, const struct patch *p)
{
	struct snapshot s = { 0 };
	const bool is_there = c->once.again && p->name &&
			      snapshots_get(c->api->store->snapshots, p->name, &s, NULL) == 0;

	snapshot_fini(&s);
	return is_there;
}

int api_snapshot_patch(struct api_call *c, struct error *err)
{
	struct snapshots *ss = c->api->store->snapshots;
	struct snapshot s = { 0 };
	json_t *body = NULL;
	struct patch p = { 0 };
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = patch_parse(c, &p, &body, err);
	if (rc == 0)
		rc = snapshots_get(ss, api_capture(c, 0), &s, err);
	if (rc == -ENOENT && is_unclear(c, &p))
		rc = error_set(err, -EBUSY,
			       "this request has begun before, and whether the snapshot \"%s\" is "
			       "what it renamed is not known: snapshotd has ended meanwhile",
			       p.name);
	if (rc == 0)
		rc = p.name ? rename_to(c, &s, &p, err) : pin(c, &s, &p, err);
	if (rc == 0)
		rc = reply_snapshot(c, s.id, err);
	snapshot_fini(&s);
	json_decref(body);
	return rc;
}

/* Whether a checkpoint is being sealed into s right now, not only left so by a crash. */
static bool is_being_sealed(struct api_call *c, const struct snapshot *s)
{
	struct mount_entry *e;
	struct mount_info info;

	if (s->status != SNAPSHOT_BUILDING || !s->mount_id[0] ||
	    mounts_get(c->api->mounts, s->mount_id, &e, NULL) < 0)
		return false;
	mount_get_info(mount_entry_mount(e), &info);
	mounts_put(c->api->mounts, e);
	return info.sealing;
}

int api_snapshot_delete(struct api_call *c, struct error *err)
{
	struct snapshots *ss = c->api->store->snapshots;
	struct snapshot s = { 0 };
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = snapshots_get(ss, api_capture(c, 0), &s, err);
	if (rc < 0)
		return rc;
	if (is_being_sealed(c, &s))
		rc = error_set(err, -EBUSY, "snapshot %s is still being built", api_capture(c, 0));
	else
		rc = snapshots_delete(ss, s.id, err);
	if (rc == 0 && s.name[0])
		image_cache_release(c->api->store, s.content_hash);
	snapshot_fini(&s);
	return rc < 0 ? rc : api_no_content(c);
}
