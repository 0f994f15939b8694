#include "snapshotd/build/image_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "snapshotd/state/json_record.h"
#include "store/base/buf.h"
#include "store/base/log.h"
#include "store/base/jcs.h"

bool image_cache_owns(const struct snapshot *s)
{
	return !s->name[0] && strcmp(s->source, IMAGE_CACHE_SOURCE) == 0;
}

/* ---- what a base is ---- */

static bool is_proxy(const char *name)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "ftp_proxy", "all_proxy",
					     "no_proxy" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

/* A new reference; NULL when out of memory. */
static json_t *env_without_proxies(const json_t *env)
{
	json_t *o = json_object(), *value;
	const char *name;
	int rc = 0;

	json_object_foreach((json_t *)env, name, value)
		if (!is_proxy(name))
			rc |= json_object_set(o, name, value);
	if (rc == 0)
		return o;
	json_decref(o);
	return NULL;
}

/*
 * A config as text: canonical. One that has what canonical JSON cannot write (a
 * real, say) is text that is the same for the same config here.
 */
static json_t *config_text(const json_t *config)
{
	CLEANUP(buf_fini_p) struct buf canonical = BUF_INIT;
	int rc = config ? jcs_dump(config, &canonical, NULL) : 0;
	json_t *j;
	char *text;

	if (rc == 0)
		return json_stringn(canonical.len ? (const char *)canonical.data : "",
				    canonical.len);
	if (rc != -EINVAL)
		return NULL;
	text = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
	j = text ? json_string(text) : NULL;
	free(text);
	return j;
}

int image_base_id(const struct snapshot *base, const json_t *build_env, char out[DIGEST_HEX_SIZE])
{
	json_auto_t *list = NULL;
	char root[DIGEST_HEX_SIZE];
	struct utsname host;

	if (uname(&host) < 0)
		return -errno;
	digest_to_hex(&base->root, root);
	/* Another number where steps come to do something else. */
	list = json_pack("[s, s, o, o, s]", "varve base 2", root, config_text(base->config),
			 env_without_proxies(build_env), host.machine);
	return list ? jcs_hash(list, out, NULL) : -ENOMEM;
}

/* ---- finding ---- */

static int copy_text(const json_t *j, const char *name, char *out, size_t size)
{
	const char *text = json_record_text(j, name);

	if (strlen(text) >= size)
		return -EBADMSG;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

static uint64_t get_u64(const json_t *j, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(j, name));

	return v > 0 ? (uint64_t)v : 0;
}

static int entry_read(const char *key, const json_t *j, struct image_entry *e)
{
	*e = (struct image_entry){
		.n_steps = get_u64(j, "steps"),
		.new_bytes = get_u64(j, "newBytes"),
		.created_at_ms = (int64_t)get_u64(j, "createdAtMs"),
	};
	if (strlen(key) >= sizeof(e->key) ||
	    copy_text(j, "snapshot", e->snapshot_id, sizeof(e->snapshot_id)) < 0 ||
	    copy_text(j, "baseID", e->base_id, sizeof(e->base_id)) < 0)
		return -EBADMSG;
	memcpy(e->key, key, strlen(key) + 1);
	return 0;
}

/* The snapshot of a record, if it is there and ready; the record is dropped where it is gone. */
static int find_ready(struct store *s, enum meta_kind kind, const char *key, const char *id,
		      struct snapshot *out)
{
	struct snapshot snap = { 0 };
	int rc = snapshots_get(s->snapshots, id, &snap, NULL);

	if (rc == -ENOENT && meta_del(s->kv, kind, key, KV_LOG) < 0)
		log_debug("%s%s names a snapshot that is gone", meta_prefix(kind), key);
	if (rc == 0 && snap.status != SNAPSHOT_READY) {
		snapshot_fini(&snap);
		rc = -ENOENT;
	}
	if (rc == 0)
		*out = snap;
	return rc;
}

/* It is in use, so gc is to leave it for as long as any other. */
static void note_use(struct store *s, const struct snapshot *snap)
{
	int rc = snapshots_touch(s->snapshots, snap->id);

	if (rc == 0 && image_cache_owns(snap) && snap->ttl_seconds &&
	    snap->ttl_seconds != IMAGE_CACHE_TTL_S)
		rc = snapshots_pin(s->snapshots, snap->id, snap->pinned, IMAGE_CACHE_TTL_S, NULL);
	if (rc < 0)
		log_debug("snapshot %s is not marked as used: %s", snap->id, strerror(-rc));
}

int image_cache_find(struct store *s, const char *key, const char *base_id, struct image_entry *out,
		     struct snapshot *snap)
{
	json_auto_t *j = NULL;
	struct image_entry e;
	int rc = json_record_get(s->kv, META_IMAGE, key, &j);

	if (rc == 0)
		rc = entry_read(key, j, &e);
	if (rc == 0 && (!e.base_id[0] || (base_id && strcmp(base_id, e.base_id) != 0)))
		rc = -ENOENT;
	if (rc == 0)
		rc = find_ready(s, META_IMAGE, key, e.snapshot_id, snap);
	if (rc < 0)
		return rc;
	note_use(s, snap);
	*out = e;
	return 0;
}

int image_cache_find_step(struct store *s, const char *step_key, struct snapshot *snap)
{
	json_auto_t *j = NULL;
	int rc = json_record_get(s->kv, META_IMAGE_STEP, step_key, &j);

	if (rc == 0)
		rc = find_ready(s, META_IMAGE_STEP, step_key, json_record_text(j, "snapshot"),
				snap);
	if (rc == 0)
		note_use(s, snap);
	return rc;
}

/* ---- writing ---- */

/* What a record named until now is found no more: gc may take it soon. */
static void retire(struct store *s, enum meta_kind kind, const char *key, const char *new_id)
{
	json_auto_t *j = NULL;
	struct snapshot old = { 0 };

	if (json_record_get(s->kv, kind, key, &j) < 0 ||
	    strcmp(json_record_text(j, "snapshot"), new_id) == 0 ||
	    snapshots_get(s->snapshots, json_record_text(j, "snapshot"), &old, NULL) < 0)
		return;
	if (image_cache_owns(&old) &&
	    snapshots_pin(s->snapshots, old.id, old.pinned, IMAGE_CACHE_REPLACED_TTL_S, NULL) < 0)
		log_debug("snapshot %s of a replaced image is kept", old.id);
	snapshot_fini(&old);
}

static int put_image(struct store *s, struct kv_batch *b, const struct image_entry *e,
		     const char *base)
{
	json_auto_t *j =
		json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "snapshot", e->snapshot_id, "base",
			  base, "baseID", e->base_id, "steps", (json_int_t)e->n_steps, "newBytes",
			  (json_int_t)e->new_bytes, "createdAtMs", (json_int_t)e->created_at_ms);

	return j ? json_record_batch_put(s->kv, b, META_IMAGE, e->key, j) : -ENOMEM;
}

static int put_step(struct store *s, struct kv_batch *b, const char *key, const char *snapshot_id)
{
	json_auto_t *j = json_pack("{s:s}", "snapshot", snapshot_id);

	return j ? json_record_batch_put(s->kv, b, META_IMAGE_STEP, key, j) : -ENOMEM;
}

struct become {
	const struct image_entry *e; /* or NULL */
	const char *build_id;
	json_t *config;
};

/* A checkpoint becomes an entry of the cache. */
static void become_entry(void *arg, struct snapshot *s)
{
	const struct become *b = arg;

	json_decref(s->config);
	s->config = json_incref(b->config);
	strcpy(s->source, IMAGE_CACHE_SOURCE);
	strcpy(s->build_id, b->build_id);
	strcpy(s->content_hash, b->e ? b->e->key : "");
	s->mount_id[0] = '\0';
	s->ttl_seconds = IMAGE_CACHE_TTL_S;
}

int image_cache_put(struct store *s, const struct image_step *step, const struct image_entry *e,
		    struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct become become = { e, step->build_id, step->config };
	int rc = b ? put_step(s, b, step->key, step->snapshot_id) : -ENOMEM;

	if (rc == 0 && e)
		rc = put_image(s, b, e, step->base);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot record the image");
	retire(s, META_IMAGE_STEP, step->key, step->snapshot_id);
	if (e)
		retire(s, META_IMAGE, e->key, step->snapshot_id);
	rc = snapshots_update(s->snapshots, step->snapshot_id, become_entry, &become, b, NULL, err);
	return rc < 0 ? error_prefix(err, rc, "cannot record the image") : 0;
}

static void become_image(void *arg, struct snapshot *s)
{
	const struct image_entry *e = arg;

	strcpy(s->content_hash, e->key);
}

int image_cache_link(struct store *s, const struct image_entry *e, const char *base,
		     struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct image_entry entry = *e;
	int rc = b ? put_image(s, b, e, base) : -ENOMEM;

	if (rc < 0)
		return error_set_errno(err, rc, "cannot record the image");
	retire(s, META_IMAGE, e->key, e->snapshot_id);
	rc = snapshots_update(s->snapshots, e->snapshot_id, become_image, &entry, b, NULL, err);
	return rc < 0 ? error_prefix(err, rc, "cannot record the image") : 0;
}

struct moved {
	const char *from;
	json_t *list; /* {"key", "entry"} */
};

static int note_moved(void *arg, const char *key, const json_t *j)
{
	const struct moved *m = arg;

	if (strcmp(json_record_text(j, "snapshot"), m->from) != 0)
		return 0;
	return json_array_append_new(m->list, json_pack("{s:s, s:O}", "key", key, "entry", j))
		       ? -ENOMEM
		       : 0;
}

int image_cache_move(struct store *s, const char *from, const char *to, struct error *err)
{
	json_auto_t *list = json_array();
	struct moved m = { from, list };
	int rc = list ? json_record_each(s->kv, META_IMAGE, note_moved, &m) : -ENOMEM;
	json_t *one;
	size_t i;

	if (rc < 0)
		return error_set_errno(err, rc, "look for images");
	json_array_foreach(list, i, one) {
		const json_t *j = json_object_get(one, "entry");
		struct image_entry e;

		rc = entry_read(json_record_text(one, "key"), j, &e);
		if (rc < 0)
			continue; /* damaged: it is found by nobody */
		snprintf(e.snapshot_id, sizeof(e.snapshot_id), "%s", to);
		rc = image_cache_link(s, &e, json_record_text(j, "base"), err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int image_cache_put_manifest(struct store *s, const char *key, const json_t *manifest)
{
	return json_record_put(s->kv, META_MANIFEST, key, manifest, KV_LOG);
}

json_t *image_cache_manifest(struct store *s, const char *key)
{
	json_t *j = NULL;

	return json_record_get(s->kv, META_MANIFEST, key, &j) == 0 ? j : NULL;
}
