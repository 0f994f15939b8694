#include "snapshotd/sandbox/sandbox_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/kv/meta_version.h"

#ifndef SANDBOX_RECORD_VERSION
#define SANDBOX_RECORD_VERSION 1
#endif

const char *const sandbox_status_names[] = {
	[SANDBOX_RUNNING] = "running",
	[SANDBOX_STOPPED] = "stopped",
	[SANDBOX_FAILED] = "failed",
};

int sandbox_records_check(struct kv *kv, struct error *err)
{
	static const enum meta_kind kinds[] = { META_SANDBOX, META_CHECKPOINT, META_PATCH };
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !rc; i++)
		rc = meta_check_versions(kv, kinds[i], SANDBOX_RECORD_VERSION, err);
	return rc;
}

void sandbox_config_fini(struct sandbox_config *c)
{
	json_decref(c->envs);
	c->envs = NULL;
}

void sandbox_config_copy(struct sandbox_config *to, const struct sandbox_config *from)
{
	*to = *from;
	json_incref(to->envs);
}

void sandbox_record_fini(struct sandbox_record *r)
{
	sandbox_config_fini(&r->config);
	json_decref(r->metadata);
	json_decref(r->image);
	r->metadata = r->image = NULL;
}

void checkpoint_record_fini(struct checkpoint_record *r)
{
	sandbox_config_fini(&r->config);
}

void patch_record_fini(struct patch_record *r)
{
	free(r->script);
	free(r->description);
	r->script = r->description = NULL;
}

/* ---- to JSON ---- */

static int set_text(json_t *o, const char *name, const char *s)
{
	return *s ? json_object_set_new(o, name, json_string(s)) : 0;
}

static int set_number(json_t *o, const char *name, uint64_t n)
{
	return n ? json_object_set_new(o, name, json_integer((json_int_t)n)) : 0;
}

static int set_object(json_t *o, const char *name, json_t *v)
{
	return v ? json_object_set(o, name, v) : 0;
}

static int set_config(json_t *o, const struct sandbox_config *c)
{
	int rc = set_text(o, "template", c->template_id);

	rc |= set_number(o, "memoryMB", c->memory_mb);
	rc |= set_number(o, "diskMB", c->disk_mb);
	rc |= json_object_set_new(o, "cpus", json_real(c->cpus));
	if (c->shared_cache)
		rc |= json_object_set_new(o, "sharedCache", json_true());
	return rc | set_object(o, "envs", c->envs);
}

/* Takes o. rc: of what was set in it. */
static int encode(json_t *o, int rc, char **out)
{
	char *text = o && rc == 0 ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (!text)
		return -ENOMEM;
	*out = text;
	return 0;
}

int sandbox_record_encode(const struct sandbox_record *r, char **out)
{
	json_t *o = json_pack("{s:i, s:s, s:s}", "version", SANDBOX_RECORD_VERSION, "id", r->id,
			      "status", sandbox_status_names[r->status]);
	int rc = set_text(o, "reason", r->reason);

	if (r->idle)
		rc |= json_object_set_new(o, "idle", json_true());
	rc |= set_text(o, "mount", r->mount_id);
	rc |= set_text(o, "snapshot", r->snapshot_id);
	rc |= set_text(o, "snapshotName", r->snapshot_name);
	rc |= set_text(o, "contentHash", r->content_hash);
	rc |= set_number(o, "startedAtMs", (uint64_t)r->started_at_ms);
	rc |= set_number(o, "endedAtMs", (uint64_t)r->ended_at_ms);
	rc |= set_number(o, "timeout", r->timeout_s);
	rc |= set_config(o, &r->config);
	rc |= set_object(o, "metadata", r->metadata);
	rc |= set_object(o, "config", r->image);
	return encode(o, rc, out);
}

int checkpoint_record_encode(const struct checkpoint_record *r, char **out)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:s}", "version", SANDBOX_RECORD_VERSION, "id",
			      r->id, "sandbox", r->sandbox_id, "name", r->name);
	int rc = set_number(o, "sequence", r->sequence);

	rc |= set_number(o, "createdAtMs", (uint64_t)r->created_at_ms);
	return encode(o, rc | set_config(o, &r->config), out);
}

int patch_record_encode(const struct patch_record *r, char **out)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:s}", "version", SANDBOX_RECORD_VERSION, "id",
			      r->id, "snapshot", r->snapshot_id, "script", r->script);
	int rc = set_text(o, "description", r->description);

	rc |= set_number(o, "sequence", r->sequence);
	return encode(o, rc | set_number(o, "createdAtMs", (uint64_t)r->created_at_ms), out);
}

/* ---- from JSON ---- */

/* One record being read; bad once a member is not as it must be. */
struct reader {
	json_t *o;
	bool bad;
};

static void reader_open(struct reader *r, const void *text, size_t len)
{
	json_t *version;

	r->o = json_loadb(text, len, 0, NULL);
	version = json_object_get(r->o, "version");
	r->bad = !json_is_integer(version) || json_integer_value(version) != SANDBOX_RECORD_VERSION;
}

static void get_text(struct reader *r, const char *name, char *out, size_t size)
{
	json_t *v = json_object_get(r->o, name);

	if (v && (!json_is_string(v) || json_string_length(v) >= size))
		r->bad = true;
	else if (v)
		memcpy(out, json_string_value(v), json_string_length(v) + 1);
}

static uint64_t get_number(struct reader *r, const char *name)
{
	json_t *v = json_object_get(r->o, name);

	if (v && (!json_is_integer(v) || json_integer_value(v) < 0))
		r->bad = true;
	return v && !r->bad ? (uint64_t)json_integer_value(v) : 0;
}

/* A new reference or NULL. */
static json_t *get_object(struct reader *r, const char *name)
{
	json_t *v = json_object_get(r->o, name);

	if (v && !json_is_object(v))
		r->bad = true;
	return json_incref(v);
}

static void get_config(struct reader *r, struct sandbox_config *c)
{
	json_t *cpus = json_object_get(r->o, "cpus");

	get_text(r, "template", c->template_id, sizeof(c->template_id));
	c->memory_mb = get_number(r, "memoryMB");
	c->disk_mb = get_number(r, "diskMB");
	if (cpus && (!json_is_number(cpus) || json_number_value(cpus) < 0))
		r->bad = true;
	c->cpus = cpus ? json_number_value(cpus) : 0;
	c->shared_cache = json_is_true(json_object_get(r->o, "sharedCache"));
	c->envs = get_object(r, "envs");
	if (c->envs && envs_check(c->envs, NULL) < 0)
		r->bad = true;
}

static void get_status(struct reader *r, enum sandbox_status *out)
{
	const char *s = json_string_value(json_object_get(r->o, "status"));

	for (int i = 0; s && i <= SANDBOX_FAILED; i++) {
		if (strcmp(s, sandbox_status_names[i]) == 0) {
			*out = (enum sandbox_status)i;
			return;
		}
	}
	r->bad = true;
}

int sandbox_record_decode(const void *text, size_t len, struct sandbox_record *out)
{
	struct sandbox_record s = { 0 };
	struct reader r;

	reader_open(&r, text, len);
	get_text(&r, "id", s.id, sizeof(s.id));
	get_status(&r, &s.status);
	s.idle = s.status == SANDBOX_STOPPED && json_is_true(json_object_get(r.o, "idle"));
	get_text(&r, "reason", s.reason, sizeof(s.reason));
	get_text(&r, "mount", s.mount_id, sizeof(s.mount_id));
	get_text(&r, "snapshot", s.snapshot_id, sizeof(s.snapshot_id));
	get_text(&r, "snapshotName", s.snapshot_name, sizeof(s.snapshot_name));
	get_text(&r, "contentHash", s.content_hash, sizeof(s.content_hash));
	s.started_at_ms = (int64_t)get_number(&r, "startedAtMs");
	s.ended_at_ms = (int64_t)get_number(&r, "endedAtMs");
	s.timeout_s = get_number(&r, "timeout");
	get_config(&r, &s.config);
	s.metadata = get_object(&r, "metadata");
	s.image = get_object(&r, "config");
	json_decref(r.o);
	if (r.bad || !sandbox_id_is_valid(s.id)) {
		sandbox_record_fini(&s);
		return -EBADMSG;
	}
	*out = s;
	return 0;
}

int checkpoint_record_decode(const void *text, size_t len, struct checkpoint_record *out)
{
	struct checkpoint_record c = { 0 };
	struct reader r;

	reader_open(&r, text, len);
	get_text(&r, "id", c.id, sizeof(c.id));
	get_text(&r, "sandbox", c.sandbox_id, sizeof(c.sandbox_id));
	get_text(&r, "name", c.name, sizeof(c.name));
	c.sequence = get_number(&r, "sequence");
	c.created_at_ms = (int64_t)get_number(&r, "createdAtMs");
	get_config(&r, &c.config);
	json_decref(r.o);
	if (r.bad || !c.id[0] || !sandbox_id_is_valid(c.sandbox_id)) {
		checkpoint_record_fini(&c);
		return -EBADMSG;
	}
	*out = c;
	return 0;
}

int patch_record_decode(const void *text, size_t len, struct patch_record *out)
{
	struct patch_record p = { 0 };
	struct reader r;
	json_t *script, *description;

	reader_open(&r, text, len);
	get_text(&r, "id", p.id, sizeof(p.id));
	get_text(&r, "snapshot", p.snapshot_id, sizeof(p.snapshot_id));
	p.sequence = get_number(&r, "sequence");
	p.created_at_ms = (int64_t)get_number(&r, "createdAtMs");
	script = json_object_get(r.o, "script");
	description = json_object_get(r.o, "description");
	r.bad |= !json_is_string(script) || (description && !json_is_string(description));
	if (!r.bad) {
		p.script = strdup(json_string_value(script));
		p.description = strdup(description ? json_string_value(description) : "");
	}
	json_decref(r.o);
	if (r.bad || !p.id[0] || !p.snapshot_id[0] || !p.script || !p.description) {
		bool bad = r.bad || (p.script && p.description);

		patch_record_fini(&p);
		return bad ? -EBADMSG : -ENOMEM;
	}
	*out = p;
	return 0;
}

/* ---- ids and names ---- */

void sandbox_id_random(char out[SANDBOX_ID_SIZE])
{
	char uuid[SNAPSHOT_ID_SIZE];

	id_random(uuid);
	sandbox_id_of(uuid, out);
}

void sandbox_id_of(const char uuid[SNAPSHOT_ID_SIZE], char out[SANDBOX_ID_SIZE])
{
	size_t n = 3;

	/* Sixteen of its digits, without the two places that are not random. */
	memcpy(out, "sb-", 3);
	for (size_t i = 0; n < SANDBOX_ID_SIZE - 1; i++)
		if (uuid[i] != '-' && i != 14 && i != 19)
			out[n++] = uuid[i];
	out[n] = '\0';
}

bool sandbox_id_is_valid(const char *s)
{
	return strncmp(s, "sb-", 3) == 0 && strlen(s) == SANDBOX_ID_SIZE - 1 &&
	       strspn(s + 3, "0123456789abcdef") == SANDBOX_ID_SIZE - 4;
}

int checkpoint_name_check(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > CHECKPOINT_NAME_MAX)
		return error_set(err, -EINVAL, "a checkpoint's name has 1 to %d bytes",
				 CHECKPOINT_NAME_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return error_set(err, -EINVAL,
					 "a checkpoint's name has no control characters");
	return 0;
}

int envs_check(const json_t *envs, struct error *err)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)envs, name, v) {
		if (!*name || strchr(name, '='))
			return error_set(err, -EINVAL,
					 "envs: \"%.100s\" cannot be the name of a variable", name);
		if (!json_is_string(v))
			return error_set(err, -EINVAL, "envs: \"%.100s\" must be a string", name);
	}
	return 0;
}

/* ---- the database ---- */

int record_put(struct kv *kv, enum meta_kind kind, const char *id, char *json, enum kv_durability d)
{
	int rc = meta_put(kv, kind, id, json, strlen(json), d);

	free(json);
	return rc;
}
