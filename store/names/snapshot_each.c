/*
 * Walks over snapshot records. There may be a hundred thousand, each with the
 * configuration of an image, so a walk keeps only an age and an id of each.
 */
#include <errno.h>
#include <string.h>

#include "store/base/listed.h"
#include "store/chunk/digest_set.h"
#include "store/names/snapshot_internal.h"

#define SEEN_MAX_BYTES ((size_t)1 << 30)

static int list_record(void *arg, const struct snapshot *s)
{
	return listed_add(arg, -s->created_at_ms, s->id);
}

int snapshots_each(struct snapshots *ss, snapshot_fn fn, void *arg, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	int rc = snapshots_each_record(ss, list_record, &list, err);
	size_t n;
	const struct listed *l = listed_sort(&list, &n);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct snapshot s;

		rc = snapshots_get(ss, l[i].id, &s, NULL);
		if (rc == -ENOENT) {
			rc = 0;
		} else if (rc == 0) {
			rc = fn(arg, &s);
			snapshot_fini(&s);
		} else {
			error_set_errno(err, rc, "cannot read the record of snapshot %s", l[i].id);
		}
	}
	return rc;
}

/* A damaged record may name its own descendant as parent: stop there. */
static bool is_new(struct digest_set *seen, const char *id)
{
	struct digest d;

	return hash_bytes(id, strlen(id), &d) == 0 && digest_set_add(seen, &d) && !seen->full;
}

int snapshots_history_each(struct snapshots *ss, const char *name_or_id, snapshot_fn fn, void *arg,
			   struct error *err)
{
	char parent[SNAPSHOT_ID_SIZE];
	struct digest_set seen;
	struct snapshot s = { 0 };
	int rc = snapshots_get(ss, name_or_id, &s, err);

	digest_set_init(&seen, SEEN_MAX_BYTES);
	while (rc == 0 && is_new(&seen, s.id)) {
		memcpy(parent, s.parent, sizeof(parent));
		rc = fn(arg, &s);
		snapshot_fini(&s);
		if (rc != 0 || !parent[0])
			break;
		rc = snapshots_get(ss, parent, &s, NULL);
		if (rc == -ENOENT) { /* deleted */
			rc = 0;
			break;
		}
		if (rc != 0)
			error_set_errno(err, rc, "cannot read the record of snapshot %s", parent);
	}
	snapshot_fini(&s);
	digest_set_fini(&seen);
	return rc;
}

int snapshots_history(struct snapshots *ss, const char *name_or_id, struct snapshot **out,
		      size_t *out_n, struct error *err)
{
	struct buf list = BUF_INIT;
	int rc = snapshots_history_each(ss, name_or_id, snapshot_append, &list, err);

	struct snapshot *l = (struct snapshot *)list.data;
	size_t n = list.len / sizeof(*l);

	if (rc != 0) {
		snapshots_list_free(l, n);
		return rc;
	}
	*out = l;
	*out_n = n;
	return 0;
}
