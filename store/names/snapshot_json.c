#include "store/names/snapshot_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 1024 /* longer than any string field */

static const char *const status_names[] = {
	[SNAPSHOT_BUILDING] = "building",
	[SNAPSHOT_READY] = "ready",
	[SNAPSHOT_FAILED] = "failed",
};

static json_t *json_from_u64(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

/*
 * A string as JSON. An error text may quote a file name of any bytes, or be cut inside a
 * character. What is not UTF-8 becomes '?', which keeps the length, so that the text still
 * fits its field when it is read.
 */
static json_t *json_from_text(const char *s)
{
	json_t *j = json_string(s);
	if (j)
		return j;
	char ascii[TEXT_MAX];
	size_t n = 0;
	for (; s[n] && n + 1 < sizeof(ascii); n++)
		ascii[n] = (unsigned char)s[n] < 0x80 ? s[n] : '?';
	ascii[n] = '\0';
	return json_string(ascii);
}

static int set_text(json_t *o, const char *key, const char *s)
{
	return s[0] ? json_object_set_new(o, key, json_from_text(s)) : 0;
}

static int set_common(json_t *o, const struct snapshot *s)
{
	int rc = json_object_set_new(o, "id", json_string(s->id));
	rc |= json_object_set_new(o, "status", json_string(status_names[s->status]));
	rc |= json_object_set_new(o, "pinned", json_boolean(s->pinned));
	rc |= json_object_set_new(o, "sizeBytes", json_from_u64(s->size_bytes));
	rc |= json_object_set_new(o, "newBytes", json_from_u64(s->new_bytes));
	rc |= json_object_set_new(o, "fileCount", json_from_u64(s->file_count));
	rc |= set_text(o, "error", s->error);
	return rc;
}

static int set_root(json_t *o, const struct snapshot *s)
{
	char hex[DIGEST_HEX_SIZE];
	digest_to_hex(&s->root, hex);
	return json_object_set_new(o, "root", json_string(hex));
}

/* ---- the stored record ---- */

int snapshot_encode(const struct snapshot *s, char **out, size_t *out_len)
{
	json_auto_t *o = json_object();
	if (!o)
		return -ENOMEM;
	int rc = json_object_set_new(o, "version", json_integer(SNAPSHOT_RECORD_VERSION));
	rc |= set_common(o, s);
	rc |= set_text(o, "name", s->name);
	rc |= set_text(o, "parent", s->parent);
	rc |= set_text(o, "source", s->source);
	rc |= set_text(o, "mount", s->mount_id);
	rc |= set_text(o, "contentHash", s->content_hash);
	rc |= set_text(o, "buildID", s->build_id);
	rc |= set_text(o, "takes", s->name[0] ? "" : s->takes);
	rc |= json_object_set_new(o, "createdAtMs", json_integer(s->created_at_ms));
	rc |= json_object_set_new(o, "lastUsedAtMs", json_integer(s->last_used_at_ms));
	rc |= json_object_set_new(o, "ttlSeconds", json_integer(s->ttl_seconds));
	if (s->has_root)
		rc |= set_root(o, s);
	if (s->config)
		rc |= json_object_set(o, "config", s->config);
	char *text = rc == 0 ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	if (!text)
		return -ENOMEM;
	*out_len = strlen(text);
	*out = text;
	return 0;
}

/* Reads fields of one object; the first that is wrong sets failed. */
struct field_reader {
	const json_t *o;
	bool failed;
};

static void get_text(struct field_reader *r, const char *key, char *out, size_t size)
{
	const json_t *v = json_object_get(r->o, key);
	if (!v)
		return;
	if (!json_is_string(v) || json_string_length(v) >= size) {
		r->failed = true;
		return;
	}
	memcpy(out, json_string_value(v), json_string_length(v) + 1);
}

static int64_t get_int(struct field_reader *r, const char *key, int64_t min)
{
	const json_t *v = json_object_get(r->o, key);
	if (!json_is_integer(v) || json_integer_value(v) < min) {
		r->failed = true;
		return 0;
	}
	return json_integer_value(v);
}

static void get_status(struct field_reader *r, struct snapshot *s)
{
	char text[16] = "";
	get_text(r, "status", text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(status_names); i++) {
		if (strcmp(text, status_names[i]) == 0) {
			s->status = (enum snapshot_status)i;
			return;
		}
	}
	r->failed = true;
}

static void get_root(struct field_reader *r, struct snapshot *s)
{
	char hex[DIGEST_HEX_SIZE] = "";
	if (!json_object_get(r->o, "root"))
		return;
	get_text(r, "root", hex, sizeof(hex));
	if (digest_from_hex(hex, &s->root) != 0)
		r->failed = true;
	else
		s->has_root = true;
}

int snapshot_decode(const void *text, size_t len, struct snapshot *out)
{
	json_auto_t *o = json_loadb(text, len, 0, NULL);
	struct field_reader r = { .o = o };
	if (!json_is_object(o) || get_int(&r, "version", 0) != SNAPSHOT_RECORD_VERSION)
		return -EBADMSG;
	struct snapshot s = { 0 };
	get_text(&r, "id", s.id, sizeof(s.id));
	get_text(&r, "name", s.name, sizeof(s.name));
	get_text(&r, "parent", s.parent, sizeof(s.parent));
	get_text(&r, "source", s.source, sizeof(s.source));
	get_text(&r, "mount", s.mount_id, sizeof(s.mount_id));
	get_text(&r, "contentHash", s.content_hash, sizeof(s.content_hash));
	get_text(&r, "buildID", s.build_id, sizeof(s.build_id));
	get_text(&r, "takes", s.takes, sizeof(s.takes));
	get_text(&r, "error", s.error, sizeof(s.error));
	get_status(&r, &s);
	get_root(&r, &s);
	s.created_at_ms = get_int(&r, "createdAtMs", INT64_MIN);
	s.last_used_at_ms = get_int(&r, "lastUsedAtMs", INT64_MIN);
	s.ttl_seconds = get_int(&r, "ttlSeconds", 0);
	s.size_bytes = (uint64_t)get_int(&r, "sizeBytes", 0);
	s.new_bytes = (uint64_t)get_int(&r, "newBytes", 0);
	s.file_count = (uint64_t)get_int(&r, "fileCount", 0);
	s.pinned = json_is_true(json_object_get(o, "pinned"));
	json_t *config = json_object_get(o, "config");
	if (r.failed || !s.id[0] || (config && !json_is_object(config)))
		return -EBADMSG;
	s.config = json_incref(config);
	*out = s;
	return 0;
}

bool snapshot_may_be_unfinished(const void *text, size_t len)
{
	static const char building[] = "\"building\"", takes[] = "\"takes\"";

	return memmem(text, len, building, strlen(building)) ||
	       memmem(text, len, takes, strlen(takes));
}

/* ---- the API's object ---- */

static json_t *text_or_null(const char *s)
{
	return s[0] ? json_from_text(s) : json_null();
}

static int set_time(json_t *o, const char *key, int64_t ms)
{
	char text[TIME_TEXT_SIZE];
	time_to_text(ms, text);
	return json_object_set_new(o, key, json_string(text));
}

json_t *snapshot_to_json(const struct snapshot *s)
{
	json_auto_t *o = json_object();
	if (!o)
		return NULL;
	int rc = set_common(o, s);
	rc |= json_object_set_new(o, "name", json_string(s->name));
	rc |= json_object_set_new(o, "contentHash", json_from_text(s->content_hash));
	rc |= json_object_set_new(o, "checkpointId", json_string(s->id));
	rc |= json_object_set_new(o, "manifest", json_null());
	rc |= json_object_set_new(o, "buildID", text_or_null(s->build_id));
	rc |= set_time(o, "createdAt", s->created_at_ms);
	rc |= set_time(o, "lastUsedAt", s->last_used_at_ms);
	rc |= s->has_root ? set_root(o, s) : json_object_set_new(o, "root", json_null());
	rc |= json_object_set_new(o, "parent", text_or_null(s->parent));
	rc |= json_object_set_new(o, "source", text_or_null(s->source));
	rc |= json_object_set_new(o, "mountID", text_or_null(s->mount_id));
	rc |= json_object_set_new(o, "ttl", json_integer(s->ttl_seconds));
	rc |= s->config ? json_object_set(o, "config", s->config)
			: json_object_set_new(o, "config", json_null());
	return rc == 0 ? STEAL(o) : NULL;
}
