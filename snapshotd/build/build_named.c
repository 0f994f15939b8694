/* Named snapshots become what the build that they wait for has become. */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <string.h>

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

static void finish_one(struct build *bd, const struct named *named, const struct become *to)
{
	struct snapshots *ss = bd->owner->opt.store->snapshots;
	struct error err = ERROR_INIT;
	struct become b = *to;
	int rc = named->take[0] && !to->image
			 ? snapshots_delete(ss, named->id, &err) /* the other keeps the name */
			 : snapshots_update(ss, named->id, become, &b, NULL, NULL, &err);

	if (rc == 0 && named->take[0] && to->image)
		rc = snapshots_replace(ss, named->id, named->take, &err);
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
		finish_one(bd, &named[i], &to);
	if (to.image) {
		store_release(bd->owner->opt.store, &hold);
		snapshot_fini(&image);
	}
}
