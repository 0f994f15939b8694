/*
 * Walks over snapshot records. There may be a hundred thousand, each with the
 * configuration of an image, so a walk keeps only an age and an id of each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/chunk/digest_set.h"
#include "store/names/snapshot_internal.h"

#define SEEN_MAX_BYTES ((size_t)1 << 30)

struct listed {
	int64_t created_at_ms;
	char id[SNAPSHOT_ID_SIZE];
};

static int by_age(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	if (x->created_at_ms != y->created_at_ms)
		return x->created_at_ms < y->created_at_ms ? 1 : -1;
	return strcmp(x->id, y->id);
}

static int list_record(struct buf *list, const struct kv_iter *it, struct error *err)
{
	struct snapshot s;
	struct listed l = { 0 };
	size_t klen, vlen;
	const char *key = (const char *)kv_iter_key(it, &klen);
	const uint8_t *value = kv_iter_value(it, &vlen);
	int rc = snapshot_decode(value, vlen, &s);

	if (rc != 0)
		return error_set_errno(err, rc, "the record \"%.*s\" is damaged",
				       (int)MIN(klen, (size_t)SNAPSHOT_NAME_MAX), key);
	l.created_at_ms = s.created_at_ms;
	memcpy(l.id, s.id, sizeof(l.id));
	snapshot_fini(&s);
	rc = buf_append(list, &l, sizeof(l));
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot list snapshots");
}

static int list_all(struct snapshots *ss, struct buf *list, struct error *err)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new(ss->kv, KV_META);
	size_t plen = strlen(RECORD_PREFIX), len;
	int rc = 0;

	if (!it)
		return error_set_errno(err, -ENOMEM, "cannot list snapshots");
	for (kv_iter_seek(it, RECORD_PREFIX, plen); rc == 0 && kv_iter_valid(it);
	     kv_iter_next(it)) {
		const uint8_t *key = kv_iter_key(it, &len);

		if (len < plen || memcmp(key, RECORD_PREFIX, plen) != 0)
			break;
		rc = list_record(list, it, err);
	}
	if (rc != 0)
		return rc;
	rc = kv_iter_status(it);
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot list snapshots");
}

int snapshots_each(struct snapshots *ss, snapshot_fn fn, void *arg, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	int rc = list_all(ss, &list, err);
	const struct listed *l = (const struct listed *)list.data;
	size_t n = list.len / sizeof(*l);

	if (rc == 0 && n)
		qsort(list.data, n, sizeof(*l), by_age);
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

static int append(void *arg, const struct snapshot *s)
{
	struct buf *list = arg;
	int rc = buf_append(list, s, sizeof(*s));

	if (rc == 0)
		json_incref(s->config);
	return rc;
}

int snapshots_history(struct snapshots *ss, const char *name_or_id, struct snapshot **out,
		      size_t *out_n, struct error *err)
{
	struct buf list = BUF_INIT;
	int rc = snapshots_history_each(ss, name_or_id, append, &list, err);

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
