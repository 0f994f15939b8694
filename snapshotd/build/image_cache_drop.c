/* Leaving the image cache: forgetting an image, what goes with it, and the list. */
#include "snapshotd/build/image_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/state/json_record.h"
#include "store/base/listed.h"
#include "store/base/log.h"

struct snapshot_list {
	struct snapshot *s;
	size_t n;
};

static struct snapshot *list_find(const struct snapshot_list *l, const char *id)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->s[i].id, id) == 0)
			return &l->s[i];
	return NULL;
}

static bool is_named_for(const struct snapshot *s, const char *key)
{
	return s->name[0] && strcmp(s->content_hash, key) == 0;
}

static bool has_children(const struct snapshot_list *l, const struct snapshot *s,
			 const char *but_child)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->s[i].parent, s->id) == 0 && strcmp(l->s[i].id, but_child) != 0)
			return true;
	return false;
}

/* The next collection takes it, unless it is used before. */
static void expire(void *arg, struct snapshot *s)
{
	(void)arg;
	s->ttl_seconds = 1;
	s->last_used_at_ms = 0;
}

/* s and the steps below it that nothing else was made from. */
static void expire_chain(struct store *store, const struct snapshot_list *l, struct snapshot *s)
{
	const char *child = "";

	while (s && image_cache_owns(s) && !has_children(l, s, child)) {
		int rc = snapshots_update(store->snapshots, s->id, expire, NULL, NULL, NULL, NULL);

		if (rc < 0 && rc != -ENOENT)
			log_warn("snapshot %s is kept for its time: %s", s->id, strerror(-rc));
		child = s->id;
		s = list_find(l, s->parent);
	}
}

static void release(struct store *s, const char *key, const char *image_id)
{
	struct snapshot_list l = { 0 };
	bool is_named = false;

	if (snapshots_list(s->snapshots, &l.s, &l.n, NULL) < 0)
		return;
	for (size_t i = 0; i < l.n && !is_named; i++)
		is_named = is_named_for(&l.s[i], key);
	if (!is_named)
		expire_chain(s, &l, list_find(&l, image_id));
	snapshots_list_free(l.s, l.n);
}

void image_cache_release(struct store *s, const char *key)
{
	json_auto_t *j = NULL;

	if (key[0] && json_record_get(s->kv, META_IMAGE, key, &j) == 0)
		release(s, key, json_record_text(j, "snapshot"));
}

int image_cache_forget(struct store *s, const char *key, struct error *err)
{
	json_auto_t *j = NULL;
	int rc = json_record_get(s->kv, META_IMAGE, key, &j);

	if (rc == -ENOENT)
		return error_set(err, rc, "no image with the key %.64s is cached", key);
	if (rc == 0)
		rc = meta_del(s->kv, META_IMAGE, key, KV_SYNC);
	if (rc < 0)
		return error_set_errno(err, rc, "image %.64s", key);
	release(s, key, json_record_text(j, "snapshot"));
	return 0;
}

/* ---- the list ---- */

/* A named snapshot that was built from key; newest first those of a key. */
struct named_for {
	char key[DIGEST_HEX_SIZE];
	char id[SNAPSHOT_ID_SIZE];
	int64_t created_at_ms;
};

struct listing {
	struct store *store;
	struct buf named; /* of struct named_for, by key */
	struct buf keys;  /* of struct listed */
};

static int note_named(void *arg, const struct snapshot *s)
{
	struct listing *li = arg;
	struct named_for n = { .created_at_ms = s->created_at_ms };

	if (!s->name[0] || !s->content_hash[0])
		return 0;
	memcpy(n.key, s->content_hash, sizeof(n.key));
	memcpy(n.id, s->id, sizeof(n.id));
	return buf_append(&li->named, &n, sizeof(n));
}

static int note_image(void *arg, const char *key, const json_t *j)
{
	(void)j;
	return listed_add(arg, 0, key);
}

static int compare_named(const void *a, const void *b)
{
	const struct named_for *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	if (order)
		return order;
	if (x->created_at_ms != y->created_at_ms)
		return x->created_at_ms < y->created_at_ms ? 1 : -1;
	return strcmp(x->id, y->id);
}

/* The first of the key, or NULL. */
static const struct named_for *first_named(const struct listing *li, const char *key)
{
	const struct named_for *list = (const struct named_for *)li->named.data;
	size_t n = li->named.len / sizeof(*list), low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(list[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && strcmp(list[low].key, key) == 0 ? &list[low] : NULL;
}

static int add_name(struct listing *li, const char *id, json_t *names)
{
	struct snapshot s = { 0 };
	int rc = snapshots_get(li->store->snapshots, id, &s, NULL);

	if (rc == 0 && s.name[0] && json_array_append_new(names, json_string(s.name)))
		rc = -ENOMEM;
	snapshot_fini(&s);
	return rc == -ENOENT ? 0 : rc;
}

static int names_for(struct listing *li, const char *key, json_t *names)
{
	const struct named_for *n = first_named(li, key);
	const struct named_for *end =
		(const struct named_for *)(const void *)(li->named.data + li->named.len);
	int rc = names ? 0 : -ENOMEM;

	for (; rc == 0 && n && n < end && strcmp(n->key, key) == 0; n++)
		rc = add_name(li, n->id, names);
	return rc;
}

static json_t *image_to_json(const char *key, const json_t *j, const struct snapshot *s,
			     json_t *names)
{
	char created[TIME_TEXT_SIZE], used[TIME_TEXT_SIZE];

	time_to_text(s->created_at_ms, created);
	time_to_text(s->last_used_at_ms, used);
	return json_pack("{s:s, s:s, s:s, s:o, s:O, s:I, s:I, s:I, s:s, s:s}", "key", key,
			 "snapshotID", s->id, "base", json_record_text(j, "base"), "names",
			 json_incref(names), "steps", json_object_get(j, "steps"), "sizeBytes",
			 (json_int_t)s->size_bytes, "newBytes",
			 json_integer_value(json_object_get(j, "newBytes")), "fileCount",
			 (json_int_t)s->file_count, "createdAt", created, "lastUsedAt", used);
}

static int list_one(struct listing *li, const char *key, json_record_fn fn, void *arg)
{
	json_auto_t *j = NULL;
	json_auto_t *names = json_array();
	json_auto_t *o = NULL;
	struct snapshot s = { 0 };
	int rc = json_record_get(li->store->kv, META_IMAGE, key, &j);

	if (rc == 0)
		rc = snapshots_get(li->store->snapshots, json_record_text(j, "snapshot"), &s, NULL);
	if (rc == 0 && s.status != SNAPSHOT_READY)
		rc = -ENOENT;
	if (rc == 0)
		rc = names_for(li, key, names);
	if (rc == 0 && !(o = image_to_json(key, j, &s, names)))
		rc = -ENOMEM;
	snapshot_fini(&s);
	if (rc == 0)
		return fn(arg, key, o);
	return rc == -ENOENT ? 0 : rc;
}

int image_cache_each(struct store *s, json_record_fn fn, void *arg, struct error *err)
{
	struct listing li = { .store = s };
	int rc = snapshots_each(s->snapshots, note_named, &li, err);
	const struct listed *l;
	size_t n = 0;

	if (rc == 0)
		rc = json_record_each(s->kv, META_IMAGE, note_image, &li.keys);
	if (rc == 0 && li.named.len)
		qsort(li.named.data, li.named.len / sizeof(struct named_for),
		      sizeof(struct named_for), compare_named);
	l = listed_sort(&li.keys, &n);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = list_one(&li, l[i].id, fn, arg);
	buf_fini(&li.named);
	buf_fini(&li.keys);
	return rc < 0 ? error_set_errno(err, rc, "cannot list the images") : rc;
}

/* ---- what nothing names ---- */

struct sweep {
	struct store *store;
	struct kv_batch *batch;
	struct snapshot_list l;
	enum meta_kind kind;
};

static int sweep_entry(void *arg, const char *name, const json_t *j)
{
	struct sweep *sw = arg;

	if (list_find(&sw->l, json_record_text(j, "snapshot")))
		return 0;
	return meta_batch_del(sw->store->kv, sw->batch, sw->kind, name);
}

static int note_key(void *arg, const char *name, const json_t *j)
{
	const char *key = json_record_text(j, "key");

	(void)name;
	return key[0] && json_object_set_new(arg, key, json_true()) ? -ENOMEM : 0;
}

static int note_name(void *arg, const char *name, const json_t *j)
{
	(void)j;
	return json_object_set_new(arg, name, json_true()) ? -ENOMEM : 0;
}

/* The keys of all builds and snapshots that are recorded. */
static int list_keys(struct store *s, json_t *keys, struct error *err)
{
	struct snapshot *list = NULL;
	size_t n = 0;
	int rc = json_record_each(s->kv, META_BUILD, note_key, keys);

	if (rc == 0)
		rc = snapshots_list(s->snapshots, &list, &n, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (list[i].content_hash[0] &&
		    json_object_set_new(keys, list[i].content_hash, json_true()))
			rc = -ENOMEM;
	snapshots_list_free(list, n);
	return rc;
}

/* What was dropped and is named now: a record came meanwhile, before its manifest did. */
static int put_back(struct store *s, json_t *dropped, struct error *err)
{
	json_t *keys = json_object(), *manifest;
	const char *key;
	int rc = keys ? list_keys(s, keys, err) : -ENOMEM;

	json_object_foreach(dropped, key, manifest)
		if (rc == 0 && json_is_object(manifest) && json_object_get(keys, key))
			rc = image_cache_put_manifest(s, key, manifest);
	json_decref(keys);
	return rc;
}

/* The others of `all`; each is exchanged for its manifest. */
static int drop_unnamed(struct store *s, json_t *all, const json_t *keys)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	const char *key;
	json_t *value;
	bool any = false;
	int rc = b ? 0 : -ENOMEM;

	json_object_foreach(all, key, value) {
		if (rc < 0 || json_object_get(keys, key))
			continue;
		json_t *manifest = image_cache_manifest(s, key);

		if (manifest && json_object_set_new(all, key, manifest))
			rc = -ENOMEM;
		if (rc == 0)
			rc = meta_batch_del(s->kv, b, META_MANIFEST, key);
		any = true;
	}
	return rc < 0 || !any ? rc : kv_write(s->kv, b, KV_LOG);
}

/*
 * A manifest is put after the record that names it. So what is in the first list and not in the
 * second was named by nothing, and what is named in the third may have been put again before it
 * was dropped.
 */
int image_cache_sweep_manifests(struct store *s, struct error *err)
{
	json_t *all = json_object(), *keys = json_object();
	int rc = all && keys ? json_record_each(s->kv, META_MANIFEST, note_name, all) : -ENOMEM;

	if (rc == 0)
		rc = list_keys(s, keys, err);
	if (rc == 0)
		rc = drop_unnamed(s, all, keys);
	if (rc == 0)
		rc = put_back(s, all, err);
	json_decref(all);
	json_decref(keys);
	return rc < 0 ? error_set_errno(err, rc, "cannot sweep the manifests") : 0;
}

static int sweep_all(struct sweep *sw)
{
	struct kv *kv = sw->store->kv;
	int rc;

	sw->kind = META_IMAGE;
	rc = json_record_each(kv, sw->kind, sweep_entry, sw);
	sw->kind = META_IMAGE_STEP;
	if (rc == 0)
		rc = json_record_each(kv, sw->kind, sweep_entry, sw);
	return rc < 0 ? rc : kv_write(kv, sw->batch, KV_LOG);
}

int image_cache_sweep(struct store *s, struct error *err)
{
	struct sweep sw = { .store = s, .batch = kv_batch_new() };
	int rc = sw.batch ? snapshots_list(s->snapshots, &sw.l.s, &sw.l.n, err) : -ENOMEM;

	if (rc == 0) {
		rc = sweep_all(&sw);
		snapshots_list_free(sw.l.s, sw.l.n);
		if (rc < 0)
			error_set_errno(err, rc, "cannot sweep the image cache");
	}
	kv_batch_free(sw.batch);
	return rc < 0 ? rc : image_cache_sweep_manifests(s, err);
}
