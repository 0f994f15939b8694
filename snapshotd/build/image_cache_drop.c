/* Leaving the image cache: forgetting an image, what goes with it, and the list. */
#include "snapshotd/build/image_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/state/json_record.h"
#include "store/base/log.h"

static void json_freep(json_t **j)
{
	json_decref(*j);
}

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
	CLEANUP(json_freep) json_t *j = NULL;

	if (key[0] && json_record_get(s->kv, META_IMAGE, key, &j) == 0)
		release(s, key, json_record_text(j, "snapshot"));
}

int image_cache_forget(struct store *s, const char *key, struct error *err)
{
	CLEANUP(json_freep) json_t *j = NULL;
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

struct listing {
	struct snapshot_list l;
	json_t *out;
};

static json_t *names_for(const struct snapshot_list *l, const char *key)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n && a; i++) {
		if (is_named_for(&l->s[i], key) &&
		    json_array_append_new(a, json_string(l->s[i].name))) {
			json_decref(a);
			a = NULL;
		}
	}
	return a;
}

static int list_one(void *arg, const char *key, const json_t *j)
{
	struct listing *li = arg;
	const struct snapshot *s = list_find(&li->l, json_record_text(j, "snapshot"));
	char created[TIME_TEXT_SIZE], used[TIME_TEXT_SIZE];
	json_t *o;

	if (!s || s->status != SNAPSHOT_READY)
		return 0;
	time_to_text(s->created_at_ms, created);
	time_to_text(s->last_used_at_ms, used);
	o = json_pack("{s:s, s:s, s:s, s:o, s:O, s:I, s:I, s:I, s:s, s:s}", "key", key,
		      "snapshotID", s->id, "base", json_record_text(j, "base"), "names",
		      names_for(&li->l, key), "steps", json_object_get(j, "steps"), "sizeBytes",
		      (json_int_t)s->size_bytes, "newBytes",
		      json_integer_value(json_object_get(j, "newBytes")), "fileCount",
		      (json_int_t)s->file_count, "createdAt", created, "lastUsedAt", used);
	return json_array_append_new(li->out, o) ? -ENOMEM : 0;
}

int image_cache_list(struct store *s, json_t **out, struct error *err)
{
	struct listing li = { .out = json_array() };
	int rc = li.out ? snapshots_list(s->snapshots, &li.l.s, &li.l.n, err)
			: error_set(err, -ENOMEM, "out of memory");

	if (rc == 0) {
		rc = json_record_each(s->kv, META_IMAGE, list_one, &li);
		snapshots_list_free(li.l.s, li.l.n);
		if (rc < 0)
			error_set_errno(err, rc, "cannot list the images");
	}
	if (rc < 0)
		json_decref(li.out);
	else
		*out = li.out;
	return rc;
}

/* ---- at start ---- */

struct sweep {
	struct store *store;
	struct kv_batch *batch;
	struct snapshot_list l;
	enum meta_kind kind;
	json_t *keys; /* a set: those that builds and snapshots name */
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
	struct sweep *sw = arg;
	const char *key = json_record_text(j, "key");

	(void)name;
	return key[0] && json_object_set_new(sw->keys, key, json_true()) ? -ENOMEM : 0;
}

static int sweep_manifest(void *arg, const char *name, const json_t *j)
{
	struct sweep *sw = arg;

	(void)j;
	if (json_object_get(sw->keys, name))
		return 0;
	return meta_batch_del(sw->store->kv, sw->batch, META_MANIFEST, name);
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
	for (size_t i = 0; i < sw->l.n && rc == 0; i++)
		if (sw->l.s[i].content_hash[0] &&
		    json_object_set_new(sw->keys, sw->l.s[i].content_hash, json_true()))
			rc = -ENOMEM;
	if (rc == 0)
		rc = json_record_each(kv, META_BUILD, note_key, sw);
	if (rc == 0)
		rc = json_record_each(kv, META_MANIFEST, sweep_manifest, sw);
	return rc < 0 ? rc : kv_write(kv, sw->batch, KV_LOG);
}

int image_cache_sweep(struct store *s, struct error *err)
{
	struct sweep sw = { .store = s, .batch = kv_batch_new(), .keys = json_object() };
	int rc =
		sw.batch && sw.keys ? snapshots_list(s->snapshots, &sw.l.s, &sw.l.n, err) : -ENOMEM;

	if (rc == 0) {
		rc = sweep_all(&sw);
		snapshots_list_free(sw.l.s, sw.l.n);
		if (rc < 0)
			error_set_errno(err, rc, "cannot sweep the image cache");
	}
	json_decref(sw.keys);
	kv_batch_free(sw.batch);
	return rc;
}
