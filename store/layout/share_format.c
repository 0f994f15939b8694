#include "store/layout/share_format.h"

#include <errno.h>
#include <string.h>

#include "store/base/base64.h"
#include "store/layout/share_json.h"

#define FEATURES_MAX 256u
#define ALTERNATES "alternates"
#define MOVED "moved"
#define MOVED_META "moved-meta"
#define SEALED "sealed"
#define PERMANENT "permanent" /* after a '?' */
#define CIPHER "aes-256-gcm-4k"

static const char what[] = "the bucket's format";

/* 8-4-4-4-12 lower-case hex digits. */
bool share_uuid_is_valid(const char *s)
{
	for (size_t i = 0; i < SNAPSHOT_ID_SIZE - 1; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		bool hex = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f');
		if (dash ? s[i] != '-' : !hex)
			return false;
	}
	return s[SNAPSHOT_ID_SIZE - 1] == '\0';
}

static bool feature_is_valid(const char *s)
{
	size_t len = strlen(s);
	return len > 0 && len <= SHARE_FEATURE_MAX &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* ---- keys ---- */

static int set_keys(json_t *sealed, const struct share_format *f)
{
	json_t *list = json_array();
	int rc = list ? 0 : -ENOMEM;

	for (unsigned i = 0; i < f->n_keys && rc == 0; i++) {
		struct buf CLEANUP(buf_fini_p) text = BUF_INIT;

		rc = base64_encode(f->keys[i], sizeof(f->keys[i]), &text);
		if (rc == 0 &&
		    json_array_append_new(list, json_stringn((char *)text.data, text.len)) != 0)
			rc = -ENOMEM;
	}
	if (rc < 0)
		json_decref(list);
	else if (json_object_set_new(sealed, "keys", list) != 0)
		rc = -ENOMEM;
	return rc;
}

static int read_key(const json_t *v, uint8_t out[BUCKET_KEY_WRAPPED])
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	int rc = json_is_string(v)
			 ? base64_decode_n(json_string_value(v), json_string_length(v), &bytes)
			 : -EINVAL;

	if (rc < 0 || bytes.len != BUCKET_KEY_WRAPPED)
		return rc == -ENOMEM ? rc : -EBADMSG;
	memcpy(out, bytes.data, bytes.len);
	return 0;
}

static int read_sealed(const json_t *o, struct share_format *f, struct error *err)
{
	const json_t *sealed = json_object_get(o, SEALED), *keys = json_object_get(sealed, "keys");
	const char *cipher = json_string_value(json_object_get(sealed, "cipher"));
	int rc = 0;

	if (!sealed && !f->sealed)
		return 0;
	if (!sealed || !f->sealed || !cipher || !json_is_array(keys) || !json_array_size(keys) ||
	    json_array_size(keys) > SHARE_KEYS_MAX)
		return error_set(err, -EBADMSG, "%s: \"" SEALED "\" is missing or wrong", what);
	if (strcmp(cipher, CIPHER) != 0)
		return error_set(err, -ENOTSUP,
				 "the bucket is encrypted by \"%.80s\", which this program does "
				 "not know",
				 cipher);
	for (size_t i = 0; i < json_array_size(keys) && rc == 0; i++)
		rc = read_key(json_array_get(keys, i), f->keys[f->n_keys++]);
	return rc < 0 ? error_set(err, rc, "%s: a key is wrong", what) : 0;
}

/* ---- all ---- */

int share_format_encode(const struct share_format *f, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();
	json_t *features = json_array(), *sealed;

	if (!share_uuid_is_valid(f->uuid)) {
		json_decref(features);
		return error_set(err, -EINVAL, "%s: uuid is wrong", what);
	}
	if ((f->alternates && json_array_append_new(features, json_string(ALTERNATES)) != 0) ||
	    (f->moved && json_array_append_new(features, json_string(MOVED)) != 0) ||
	    (f->moved_meta && json_array_append_new(features, json_string(MOVED_META)) != 0) ||
	    (f->permanent && json_array_append_new(features, json_string("?" PERMANENT)) != 0) ||
	    (f->sealed && json_array_append_new(features, json_string(SEALED)) != 0)) {
		json_decref(features);
		return error_set_errno(err, -ENOMEM, "%s", what);
	}
	if (!o || json_object_set_new(o, "features", features) != 0 ||
	    json_object_set_new(o, "uuid", json_string(f->uuid)) != 0)
		return error_set_errno(err, -ENOMEM, "%s", what);
	if (f->sealed) {
		sealed = json_pack("{s:s}", "cipher", CIPHER);
		if (!sealed || json_object_set_new(o, SEALED, sealed) != 0 ||
		    set_keys(sealed, f) < 0)
			return error_set_errno(err, -ENOMEM, "%s", what);
	}
	return share_json_dump(o, what, SHARE_FORMAT_MAX, out, err);
}

int share_format_rekey(const void *text, size_t len, const struct share_format *f, struct buf *out,
		       struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	int rc = share_json_load(text, len, what, SHARE_FORMAT_MAX, &o, err);
	json_t *sealed = json_object_get(o, SEALED);

	if (rc < 0)
		return rc;
	if (!json_is_object(sealed))
		return error_set(err, -EINVAL, "the bucket is not encrypted");
	rc = set_keys(sealed, f);
	if (rc < 0)
		return error_set_errno(err, rc, "%s", what);
	return share_json_dump(o, what, SHARE_FORMAT_MAX, out, err);
}

int share_format_about(const void *text, size_t len, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	int rc = share_json_load(text, len, what, SHARE_FORMAT_MAX, &o, err);
	const json_t *features = json_object_get(o, "features");
	const char *uuid = json_string_value(json_object_get(o, "uuid"));
	const char *cipher =
		json_string_value(json_object_get(json_object_get(o, SEALED), "cipher"));

	if (rc < 0)
		return rc;
	if (!uuid || !cipher)
		return error_set(err, -EINVAL, "the bucket is not encrypted");
	rc = buf_printf(out, "%s %s ", uuid, cipher);
	for (size_t i = 0; i < json_array_size(features) && rc == 0; i++) {
		const char *name = json_string_value(json_array_get(features, i));

		rc = buf_printf(out, "%s%s", i ? "," : "", name ? name : "");
	}
	return rc < 0 || !buf_cstr(out) ? error_set_errno(err, -ENOMEM, "%s", what) : 0;
}

static int read_features(const json_t *list, struct share_format *f, struct error *err)
{
	if (!json_is_array(list) || json_array_size(list) > FEATURES_MAX)
		return error_set(err, -EBADMSG, "%s: \"features\" is missing or wrong", what);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));
		bool readable = name && name[0] == '?';
		if (readable)
			name++;
		if (!name || !feature_is_valid(name))
			return error_set(err, -EBADMSG, "%s: a feature has no valid name", what);
		if (!readable && strcmp(name, MOVED) == 0) {
			f->moved = true;
			continue;
		}
		if (!readable && strcmp(name, ALTERNATES) == 0) {
			f->alternates = true;
			continue;
		}
		if (!readable && strcmp(name, MOVED_META) == 0) {
			f->moved_meta = true;
			continue;
		}
		if (!readable && strcmp(name, SEALED) == 0) {
			f->sealed = true;
			continue;
		}
		if (!readable)
			return error_set(
				err, -ENOTSUP,
				"the bucket needs \"%s\", which this program does not know", name);
		if (strcmp(name, PERMANENT) == 0) {
			f->permanent = true;
			continue;
		}
		if (!f->read_only_for[0])
			memcpy(f->read_only_for, name, strlen(name) + 1);
	}
	return 0;
}

int share_format_decode(const void *text, size_t len, struct share_format *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_format f = { 0 };

	int r = share_json_load(text, len, what, SHARE_FORMAT_MAX, &o, err);
	if (r != 0)
		return r;
	r = read_features(json_object_get(o, "features"), &f, err);
	if (r != 0)
		return r;
	struct share_fields fields = { .o = o };
	share_get_text(&fields, "uuid", f.uuid, sizeof(f.uuid));
	if (!share_uuid_is_valid(f.uuid))
		share_get_fail(&fields, "uuid", -EBADMSG);
	r = share_fields_check(&fields, what, err);
	if (r == 0)
		r = read_sealed(o, &f, err);
	if (r == 0)
		*out = f;
	return r;
}

int share_format_writable(const struct share_format *f, struct error *err)
{
	if (!f->read_only_for[0])
		return 0;
	return error_set(err, -EROFS,
			 "the bucket is read-only for this program, which does not know \"%s\"",
			 f->read_only_for);
}
