/* Named snapshots become what the build that they wait for has become. */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <string.h>

#include "snapshotd/state/json_record.h"
#include "store/base/log.h"

struct become {
	const struct snapshot *image; /* or NULL: failed */
	const char *build_id, *why;
	uint64_t new_bytes;
};

void build_become_ready(struct snapshot *s, const struct snapshot *image)
{
	s->status = SNAPSHOT_READY;
	s->has_root = true;
	s->root = image->root;
	s->size_bytes = image->size_bytes;
	s->file_count = image->file_count;
	json_decref(s->config);
	s->config = json_incref(image->config);
}

static void become(void *arg, struct snapshot *s)
{
	const struct become *b = arg;

	if (s->status != SNAPSHOT_BUILDING)
		return;
	memcpy(s->build_id, b->build_id, sizeof(s->build_id));
	if (b->image) {
		build_become_ready(s, b->image);
		s->new_bytes = b->new_bytes;
		return;
	}
	s->status = SNAPSHOT_FAILED;
	strncpy(s->error, b->why, sizeof(s->error) - 1);
}

static bool is_newer(struct snapshots *ss, const char *name, int64_t until_ms)
{
	struct snapshot holder = { 0 };

	if (snapshots_get(ss, name, &holder, NULL) < 0)
		return false;
	const bool newer = holder.created_at_ms > until_ms;

	snapshot_fini(&holder);
	return newer;
}

static void give_up_name(void *arg, struct snapshot *s)
{
	(void)arg;
	s->takes[0] = '\0';
}

int build_take_name(struct snapshots *ss, const char *id, const char *name, int64_t until_ms,
		    struct error *err)
{
	struct error why = ERROR_INIT;
	int rc = is_newer(ss, name, until_ms)
			 ? error_set(err, -EEXIST, "what has the name \"%s\" is newer", name)
			 : snapshots_replace(ss, id, name, err);

	/* Or a later daemon would replace whatever has the name by then. */
	if ((rc == -EBUSY || rc == -EEXIST) &&
	    snapshots_update(ss, id, give_up_name, NULL, NULL, NULL, &why) < 0 &&
	    why.code != -ENOENT)
		log_error("snapshot %s: %s", id, error_text(&why));
	return rc;
}

static void finish_one(struct builds *owner, const struct named *named, const struct become *to,
		       int64_t until_ms)
{
	struct snapshots *ss = owner->opt.store->snapshots;
	struct error err = ERROR_INIT;
	struct become b = *to;
	int rc = named->take[0] && !to->image
			 ? snapshots_delete(ss, named->id, &err) /* the other keeps the name */
			 : snapshots_update(ss, named->id, become, &b, NULL, NULL, &err);

	if (rc == 0 && named->take[0] && to->image)
		rc = build_take_name(ss, named->id, named->take, until_ms, &err);
	if (rc < 0 && rc != -ENOENT) /* deleted meanwhile */
		log_error("snapshot %s stays as it is: %s", named->id, error_text(&err));
}

void build_finish_named(struct build *bd, const struct named *named, size_t n)
{
	struct become to = { NULL, bd->id, bd->error.msg, bd->new_bytes };
	struct error err = ERROR_INIT;
	struct snapshot image = { 0 };
	struct store_hold hold;

	if (n && bd->state == BUILD_READY) {
		if (store_hold_snapshot(bd->owner->opt.store, bd->snapshot_id, &image, &hold,
					&err) == 0)
			to.image = &image;
		else
			to.why = error_text(&err);
	}
	for (size_t i = 0; i < n; i++)
		finish_one(bd->owner, &named[i], &to, INT64_MAX);
	if (to.image) {
		store_release(bd->owner->opt.store, &hold);
		snapshot_fini(&image);
	}
}

bool build_finish_late(struct builds *b, const struct snapshot *s)
{
	struct become to = { NULL, s->build_id, "", 0 };
	struct named named = { .id = "" };
	struct snapshot image = { 0 };
	struct store_hold hold;
	json_auto_t *j = NULL;

	if (!s->build_id[0] || json_record_get(b->opt.store->kv, META_BUILD, s->build_id, &j) < 0 ||
	    strcmp(json_record_text(j, "state"), build_state_name(BUILD_READY)) != 0 ||
	    store_hold_snapshot(b->opt.store, json_record_text(j, "snapshotID"), &image, &hold,
				NULL) < 0)
		return false;
	to.image = &image;
	memcpy(named.id, s->id, sizeof(named.id));
	memcpy(named.take, s->takes, sizeof(named.take));
	finish_one(b, &named, &to, s->created_at_ms);
	store_release(b->opt.store, &hold);
	snapshot_fini(&image);
	return true;
}
