/* Holds: the trees that this process reads, which a collection keeps. */
#include <errno.h>

#include "store/store_internal.h"

void store_hold(struct store *s, const struct digest *root, struct store_hold *h)
{
	h->root = *root;
	pthread_mutex_lock(&s->own->hold_lock);
	LIST_INSERT_HEAD(&s->own->holds, h, link);
	pthread_mutex_unlock(&s->own->hold_lock);
}

void store_release(struct store *s, struct store_hold *h)
{
	pthread_mutex_lock(&s->own->hold_lock);
	LIST_REMOVE(h, link);
	pthread_mutex_unlock(&s->own->hold_lock);
}

int store_holds(struct store *s, struct buf *out)
{
	const struct store_hold *h;
	int rc = 0;
	pthread_mutex_lock(&s->own->hold_lock);
	LIST_FOREACH(h, &s->own->holds, link)
	rc = rc ? rc : buf_append(out, &h->root, sizeof(h->root));
	pthread_mutex_unlock(&s->own->hold_lock);
	return rc;
}

/* 1 if the record still names the root that is held, 0, or a failure. */
static int still_names(struct store *s, const struct snapshot *held, struct error *err)
{
	struct snapshot now;
	int rc = snapshots_get(s->snapshots, held->id, &now, err);
	if (rc != 0)
		return rc;
	bool same = now.has_root && digest_equal(&now.root, &held->root);
	snapshot_fini(&now);
	return same;
}

int store_hold_snapshot(struct store *s, const char *name_or_id, struct snapshot *out,
			struct store_hold *h, struct error *err)
{
	for (;;) {
		struct snapshot snap;
		int rc = snapshots_get(s->snapshots, name_or_id, &snap, err);
		if (rc != 0)
			return rc;
		if (!snap.has_root) {
			rc = error_set(err, -EINVAL, "snapshot \"%s\" is %s", name_or_id,
				       snap.status == SNAPSHOT_FAILED ? "a failed one"
								      : "not ready yet");
			snapshot_fini(&snap);
			return rc;
		}
		store_hold(s, &snap.root, h);
		rc = still_names(s, &snap, err);
		if (rc == 1) {
			*out = snap;
			return 0;
		}
		store_release(s, h);
		snapshot_fini(&snap);
		if (rc < 0)
			return rc;
	}
}
