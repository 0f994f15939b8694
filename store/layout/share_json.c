#include "store/layout/share_json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1

int share_json_dump(json_t *o, const char *what, size_t max, struct buf *out, struct error *err)
{
	if (json_object_set_new(o, "varve", json_integer(VERSION)) != 0)
		return error_set_errno(err, -ENOMEM, "%s", what);
	size_t len = json_dumpb(o, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS);
	if (len == 0)
		return error_set(err, -EINVAL, "%s cannot be written as JSON", what);
	if (len > max)
		return error_set(err, -EFBIG, "%s has %zu bytes, at most %zu are allowed", what,
				 len, max);
	int r = buf_reserve(out, len);
	if (r != 0)
		return error_set_errno(err, r, "%s", what);
	if (json_dumpb(o, (char *)out->data + out->len, len, JSON_COMPACT | JSON_SORT_KEYS) != len)
		return error_set_errno(err, -ENOMEM, "%s", what);
	out->len += len;
	return 0;
}

int share_json_load(const void *text, size_t len, const char *what, size_t max, json_t **out,
		    struct error *err)
{
	json_error_t why;

	if (len > max)
		return error_set(err, -EFBIG, "%s has %zu bytes, at most %zu are allowed", what,
				 len, max);
	CLEANUP(share_json_free_p)
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!o)
		return json_error_code(&why) == json_error_out_of_memory
			       ? error_set_errno(err, -ENOMEM, "%s", what)
			       : error_set(err, -EBADMSG, "%s is no JSON object", what);
	const json_t *version = json_object_get(o, "varve");
	if (!json_is_integer(version))
		return error_set(err, -EBADMSG, "%s: \"varve\" is missing or wrong", what);
	if (json_integer_value(version) != VERSION)
		return error_set(err, -ENOTSUP, "%s is of version %lld, this program reads %d",
				 what, (long long)json_integer_value(version), VERSION);
	*out = STEAL(o);
	return 0;
}

/* ---- setters ---- */

int share_json_set_id(json_t *o, const char *key, const struct share_id *id)
{
	char text[SHARE_ID_SIZE];
	share_id_text(id, text);
	return json_object_set_new(o, key, share_id_is_none(id) ? json_null() : json_string(text));
}

int share_json_set_u64(json_t *o, const char *key, uint64_t v)
{
	return json_object_set_new(o, key, json_integer((json_int_t)MIN(v, (uint64_t)INT64_MAX)));
}

int share_json_set_text(json_t *o, const char *key, const char *s)
{
	return s[0] ? json_object_set_new(o, key, json_string(s)) : 0;
}

int share_json_set_packs(json_t *o, const char *key, const struct share_packs *p)
{
	return json_object_set_new(o, key, share_packs_to_json(p));
}

/* ---- getters ---- */

void share_get_fail(struct share_fields *f, const char *key, int result)
{
	if (f->bad)
		return;
	f->bad = key;
	f->result = result;
}

void share_get_id(struct share_fields *f, const char *key, struct share_id *out)
{
	const char *s = json_string_value(json_object_get(f->o, key));
	if (!s || share_id_parse(s, out) != 0)
		share_get_fail(f, key, -EBADMSG);
}

void share_get_id_or_none(struct share_fields *f, const char *key, struct share_id *out)
{
	const json_t *v = json_object_get(f->o, key);
	*out = (struct share_id){ 0 };
	if (v && !json_is_null(v))
		share_get_id(f, key, out);
}

int64_t share_get_int(struct share_fields *f, const char *key)
{
	const json_t *v = json_object_get(f->o, key);
	if (!json_is_integer(v))
		share_get_fail(f, key, -EBADMSG);
	return json_integer_value(v);
}

uint64_t share_get_number(struct share_fields *f, const char *key, uint64_t min, uint64_t max)
{
	int64_t v = share_get_int(f, key);
	if (v < 0 || (uint64_t)v < min || (uint64_t)v > max) {
		share_get_fail(f, key, -EBADMSG);
		return min;
	}
	return (uint64_t)v;
}

void share_get_text(struct share_fields *f, const char *key, char *out, size_t size)
{
	const json_t *v = json_object_get(f->o, key);
	const char *s = json_string_value(v);
	out[0] = '\0';
	if (!v)
		return;
	if (!s || json_string_length(v) >= size) {
		share_get_fail(f, key, -EBADMSG);
		return;
	}
	memcpy(out, s, json_string_length(v) + 1);
}

void share_get_packs(struct share_fields *f, const char *key, struct share_packs *out)
{
	int r = share_packs_from_json(json_object_get(f->o, key), out);
	if (r != 0)
		share_get_fail(f, key, r);
}

int share_fields_check(const struct share_fields *f, const char *what, struct error *err)
{
	if (!f->bad)
		return 0;
	if (f->result != -EBADMSG)
		return error_set_errno(err, f->result, "%s", what);
	return error_set(err, -EBADMSG, "%s: \"%s\" is missing or wrong", what, f->bad);
}
