/*
 * One set of rules, record_flaw, holds for what is written and for what is read, so that nobody
 * writes what nobody reads.
 */
#include "store/layout/share_record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/layout/share_format.h"
#include "store/layout/share_json.h"
#include "store/layout/vpk.h"

static const char *const state_names[] = {
	[SHARE_READY] = "ready",
	[SHARE_ABORTED] = "aborted",
	[SHARE_DELETED] = "deleted",
};

void share_record_fini(struct share_record *r)
{
	share_packs_fini(&r->packs);
	json_decref(r->snapshot.config);
	r->snapshot.config = NULL;
}

void share_register_fini(struct share_register *r)
{
	share_record_fini(&r->record);
}

static bool meta_is_valid(const struct share_record *r)
{
	if (r->n_meta == 0 || r->n_meta > SHARE_META_MAX)
		return false;
	for (unsigned i = 0; i < r->n_meta; i++) {
		if (!share_packs_has(&r->packs, &r->meta[i]))
			return false;
		for (unsigned j = 0; j < i; j++) {
			if (pack_id_cmp(&r->meta[i], &r->meta[j]) == 0)
				return false;
		}
	}
	return true;
}

/* Printable ASCII, as Varve's own values are: it may be shown on a terminal. */
static bool text_is_plain(const char *s)
{
	for (; *s; s++) {
		if (*s < ' ' || *s > '~')
			return false;
	}
	return true;
}

static const char *snapshot_flaw(const struct share_snapshot *s)
{
	if (s->name[0] && snapshot_name_check(s->name, NULL) != 0)
		return "name";
	if (!text_is_plain(s->source))
		return "source";
	if (!text_is_plain(s->content_hash))
		return "contentHash";
	return s->config && !json_is_object(s->config) ? "config" : NULL;
}

static bool alternate_is_valid(const struct share_record *r)
{
	if (!r->alternate.bucket[0])
		return !r->alternate.url[0];
	return share_uuid_is_valid(r->alternate.bucket) && text_is_plain(r->alternate.url);
}

/* The member that breaks a rule, or NULL. */
static const char *record_flaw(const struct share_record *r)
{
	if ((unsigned)r->state >= ARRAY_SIZE(state_names))
		return "state";
	if (share_id_is_none(&r->id))
		return "id";
	if (share_id_is_none(&r->nonce))
		return "nonce";
	if (r->epoch > SHARE_GENERATION_MAX)
		return "epoch";
	if (r->state == SHARE_ABORTED)
		return NULL;
	if (!alternate_is_valid(r))
		return "alternate";
	return meta_is_valid(r) ? snapshot_flaw(&r->snapshot) : "meta";
}

/* ---- writing ---- */

static json_t *snapshot_json(const struct share_snapshot *s)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();
	if (!o)
		return NULL;
	int rc = share_json_set_text(o, "name", s->name);
	if (!share_id_is_none(&s->parent))
		rc |= share_json_set_id(o, "parent", &s->parent);
	rc |= share_json_set_text(o, "source", s->source);
	rc |= share_json_set_text(o, "contentHash", s->content_hash);
	rc |= json_object_set_new(o, "createdAtMs", json_integer(s->created_at_ms));
	rc |= share_json_set_u64(o, "sizeBytes", s->size_bytes);
	rc |= share_json_set_u64(o, "fileCount", s->file_count);
	if (s->config)
		rc |= json_object_set(o, "config", s->config);
	return rc == 0 ? STEAL(o) : NULL;
}

static json_t *meta_json(const struct share_record *r)
{
	json_t *list = json_array();
	for (unsigned i = 0; list && i < r->n_meta; i++) {
		char text[PACK_ID_SIZE];
		pack_id_text(&r->meta[i], text);
		if (json_array_append_new(list, json_string(text)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static bool has_meta_bytes(const struct share_record *r)
{
	for (unsigned i = 0; i < r->n_meta; i++) {
		if (r->meta_bytes[i])
			return true;
	}
	return false;
}

static json_t *meta_bytes_json(const struct share_record *r)
{
	json_t *list = json_array();
	for (unsigned i = 0; list && i < r->n_meta; i++) {
		if (json_array_append_new(list, json_integer(r->meta_bytes[i])) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *alternate_json(const struct share_record *r)
{
	json_t *o = json_object();

	if (json_object_set_new(o, "bucket", json_string(r->alternate.bucket)) != 0 ||
	    share_json_set_text(o, "url", r->alternate.url) != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* NULL without memory. */
static json_t *record_json(const struct share_record *r)
{
	char root[DIGEST_HEX_SIZE];
	CLEANUP(share_json_free_p) json_t *o = json_object();
	if (!o)
		return NULL;
	int rc = json_object_set_new(o, "state", json_string(state_names[r->state]));
	rc |= share_json_set_id(o, "id", &r->id);
	rc |= share_json_set_id(o, "nonce", &r->nonce);
	rc |= share_json_set_u64(o, "epoch", r->epoch);
	if (r->state != SHARE_ABORTED) {
		digest_to_hex(&r->root, root);
		rc |= json_object_set_new(o, "root", json_string(root));
		rc |= share_json_set_packs(o, "packs", &r->packs);
		rc |= json_object_set_new(o, "meta", meta_json(r));
		if (has_meta_bytes(r))
			rc |= json_object_set_new(o, "metaBytes", meta_bytes_json(r));
		rc |= share_json_set_id(o, "hot", &r->hot);
		if (r->alternate.bucket[0])
			rc |= json_object_set_new(o, "alternate", alternate_json(r));
		rc |= json_object_set_new(o, "snapshot", snapshot_json(&r->snapshot));
	}
	return rc == 0 ? STEAL(o) : NULL;
}

static int make_record_json(const struct share_record *r, json_t **out, struct error *err)
{
	const char *flaw = record_flaw(r);
	if (flaw)
		return error_set(err, -EINVAL, "record of a snapshot: %s is wrong", flaw);
	*out = record_json(r);
	return *out ? 0 : error_set_errno(err, -ENOMEM, "record of a snapshot");
}

int share_record_encode(const struct share_record *r, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	int rc = make_record_json(r, &o, err);
	return rc == 0 ? share_json_dump(o, "record of a snapshot", SHARE_RECORD_MAX, out, err)
		       : rc;
}

int share_register_encode(const struct share_register *r, struct buf *out, struct error *err)
{
	static const char what[] = "entry of a register";
	CLEANUP(share_json_free_p) json_t *o = json_object();
	json_t *record = NULL;

	if (r->generation == 0 || r->generation > SHARE_GENERATION_MAX ||
	    share_id_is_none(&r->nonce) || (r->has_record && r->record.state != SHARE_READY))
		return error_set(err, -EINVAL, "%s breaks its rules", what);
	if (r->has_record) {
		int rc = make_record_json(&r->record, &record, err);
		if (rc != 0)
			return rc;
	}
	int bad = o ? 0 : -1;
	bad |= json_object_set_new(o, "record", record ? record : json_null());
	bad |= share_json_set_u64(o, "generation", r->generation);
	bad |= share_json_set_id(o, "prev", &r->prev);
	bad |= share_json_set_id(o, "nonce", &r->nonce);
	if (bad)
		return error_set_errno(err, -ENOMEM, "%s", what);
	return share_json_dump(o, what, SHARE_REGISTER_MAX, out, err);
}

/* ---- reading ---- */

static void get_state(struct share_fields *f, struct share_record *r)
{
	char text[16];
	share_get_text(f, "state", text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(state_names); i++) {
		if (strcmp(text, state_names[i]) == 0) {
			r->state = (enum share_state)i;
			return;
		}
	}
	share_get_fail(f, "state", -EBADMSG);
}

static void get_root(struct share_fields *f, struct digest *out)
{
	const char *s = json_string_value(json_object_get(f->o, "root"));
	if (!s || digest_from_hex(s, out) != 0)
		share_get_fail(f, "root", -EBADMSG);
}

static void get_meta(struct share_fields *f, struct share_record *r)
{
	const json_t *list = json_object_get(f->o, "meta");
	size_t n = json_array_size(list);
	if (n > SHARE_META_MAX) {
		share_get_fail(f, "meta", -EBADMSG);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(list, i));
		if (!s || pack_id_parse(s, &r->meta[i]) != 0)
			share_get_fail(f, "meta", -EBADMSG);
	}
	r->n_meta = (unsigned)n;
}

/* After get_meta. */
static void get_meta_bytes(struct share_fields *f, struct share_record *r)
{
	const json_t *list = json_object_get(f->o, "metaBytes");
	if (!list)
		return;
	if (json_array_size(list) != r->n_meta)
		share_get_fail(f, "metaBytes", -EBADMSG);
	for (unsigned i = 0; i < r->n_meta; i++) {
		const json_t *n = json_array_get(list, i);
		json_int_t bytes = json_integer_value(n);
		if (!json_is_integer(n) || bytes < 0 || bytes > VPK_SIZE_MAX)
			share_get_fail(f, "metaBytes", -EBADMSG);
		else
			r->meta_bytes[i] = (uint32_t)bytes;
	}
}

static void get_alternate(struct share_fields *outer, struct share_record *r)
{
	struct share_fields f = { .o = json_object_get(outer->o, "alternate") };

	if (!f.o)
		return;
	share_get_text(&f, "bucket", r->alternate.bucket, sizeof(r->alternate.bucket));
	share_get_text(&f, "url", r->alternate.url, sizeof(r->alternate.url));
	if (f.bad || !r->alternate.bucket[0])
		share_get_fail(outer, "alternate", -EBADMSG);
}

static void get_snapshot(struct share_fields *outer, struct share_snapshot *s)
{
	struct share_fields f = { .o = json_object_get(outer->o, "snapshot") };
	share_get_text(&f, "name", s->name, sizeof(s->name));
	share_get_id_or_none(&f, "parent", &s->parent);
	share_get_text(&f, "source", s->source, sizeof(s->source));
	share_get_text(&f, "contentHash", s->content_hash, sizeof(s->content_hash));
	s->created_at_ms = share_get_int(&f, "createdAtMs");
	s->size_bytes = share_get_number(&f, "sizeBytes", 0, INT64_MAX);
	s->file_count = share_get_number(&f, "fileCount", 0, INT64_MAX);
	s->config = json_incref(json_object_get(f.o, "config"));
	if (f.bad)
		share_get_fail(outer, f.bad, f.result);
}

/* What it has taken is dropped by the caller, whether it fails or not. */
static int read_record(const json_t *o, struct share_record *r, struct error *err)
{
	struct share_fields f = { .o = o };
	get_state(&f, r);
	share_get_id(&f, "id", &r->id);
	share_get_id(&f, "nonce", &r->nonce);
	r->epoch = share_get_number(&f, "epoch", 0, SHARE_GENERATION_MAX);
	if (!f.bad && r->state != SHARE_ABORTED) {
		get_root(&f, &r->root);
		share_get_packs(&f, "packs", &r->packs);
		get_meta(&f, r);
		get_meta_bytes(&f, r);
		share_get_id_or_none(&f, "hot", &r->hot);
		get_alternate(&f, r);
		get_snapshot(&f, &r->snapshot);
	}
	const char *flaw = f.bad ? NULL : record_flaw(r);
	if (flaw)
		share_get_fail(&f, flaw, -EBADMSG);
	return share_fields_check(&f, "record of a snapshot", err);
}

int share_record_decode(const void *text, size_t len, struct share_record *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_record r = { 0 };
	int rc = share_json_load(text, len, "record of a snapshot", SHARE_RECORD_MAX, &o, err);
	if (rc == 0)
		rc = read_record(o, &r, err);
	if (rc != 0) {
		share_record_fini(&r);
		return rc;
	}
	*out = r;
	return 0;
}

static int read_register(const json_t *o, struct share_register *r, struct error *err)
{
	struct share_fields f = { .o = o };
	const json_t *record = json_object_get(o, "record");

	r->generation = share_get_number(&f, "generation", 1, SHARE_GENERATION_MAX);
	share_get_id_or_none(&f, "prev", &r->prev);
	share_get_id(&f, "nonce", &r->nonce);
	if (!record)
		share_get_fail(&f, "record", -EBADMSG);
	int rc = share_fields_check(&f, "entry of a register", err);
	if (rc != 0 || json_is_null(record))
		return rc;
	r->has_record = true;
	rc = read_record(record, &r->record, err);
	if (rc == 0 && r->record.state != SHARE_READY)
		rc = error_set(err, -EBADMSG, "entry of a register names a snapshot that is %s",
			       state_names[r->record.state]);
	return rc;
}

int share_register_decode(const void *text, size_t len, struct share_register *out,
			  struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_register r = { 0 };
	int rc = share_json_load(text, len, "entry of a register", SHARE_REGISTER_MAX, &o, err);
	if (rc == 0)
		rc = read_register(o, &r, err);
	if (rc != 0) {
		share_register_fini(&r);
		return rc;
	}
	*out = r;
	return 0;
}

/* ---- local records ---- */

void share_snapshot_from(struct share_snapshot *out, const struct snapshot *s,
			 const struct share_id *parent)
{
	*out = (struct share_snapshot){
		.created_at_ms = s->created_at_ms,
		.size_bytes = s->size_bytes,
		.file_count = s->file_count,
		.config = json_incref(s->config),
	};
	if (parent)
		out->parent = *parent;
	memcpy(out->name, s->name, sizeof(out->name));
	memcpy(out->source, s->source, sizeof(out->source));
	memcpy(out->content_hash, s->content_hash, sizeof(out->content_hash));
}

void share_snapshot_to(const struct share_snapshot *s, struct snapshot *out)
{
	*out = (struct snapshot){
		.created_at_ms = s->created_at_ms,
		.size_bytes = s->size_bytes,
		.file_count = s->file_count,
		.config = json_incref(s->config),
	};
	memcpy(out->name, s->name, sizeof(out->name));
	memcpy(out->source, s->source, sizeof(out->source));
	memcpy(out->content_hash, s->content_hash, sizeof(out->content_hash));
}
