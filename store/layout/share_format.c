#include "store/layout/share_format.h"

#include <errno.h>
#include <string.h>

#include "store/layout/share_json.h"

#define FEATURES_MAX 256u
#define MOVED "moved"

static const char what[] = "the bucket's format";

/* A UUID as id_random writes it: 8-4-4-4-12 lower-case hex digits. */
static bool uuid_is_valid(const char *s)
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

int share_format_encode(const struct share_format *f, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();

	if (!uuid_is_valid(f->uuid))
		return error_set(err, -EINVAL, "%s: uuid is wrong", what);
	json_t *features = json_array();
	if (!o || json_object_set_new(o, "uuid", json_string(f->uuid)) != 0 ||
	    (f->moved && json_array_append_new(features, json_string(MOVED)) != 0) ||
	    json_object_set_new(o, "features", STEAL(features)) != 0) {
		json_decref(features);
		return error_set_errno(err, -ENOMEM, "%s", what);
	}
	return share_json_dump(o, what, SHARE_FORMAT_MAX, out, err);
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
		if (!readable)
			return error_set(
				err, -ENOTSUP,
				"the bucket needs \"%s\", which this program does not know", name);
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
	if (!uuid_is_valid(f.uuid))
		share_get_fail(&fields, "uuid", -EBADMSG);
	r = share_fields_check(&fields, what, err);
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
