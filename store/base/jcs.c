#include "store/base/jcs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define INTEGER_MAX (((json_int_t)1 << 53) - 1)

struct member {
	const char *name;
	json_t *value;
};

/*
 * The order of UTF-16 code units, in UTF-8. It is the order of the bytes except
 * in one place: characters beyond U+FFFF (first byte F0 and up) are surrogates,
 * D800 to DFFF, and so come before U+E000 to U+FFFF (first byte EE, EF). Two
 * valid texts first differ either in the first byte of a character or in a
 * later byte of two that begin alike, so moving EE and EF behind F4 does it.
 */
static int utf16_weight(char c)
{
	uint8_t b = (uint8_t)c;

	return b == 0xee || b == 0xef ? b + 7 : b;
}

static int compare_members(const void *a, const void *b)
{
	const char *s = ((const struct member *)a)->name;
	const char *t = ((const struct member *)b)->name;

	while (*s && *s == *t) {
		s++;
		t++;
	}
	return utf16_weight(*s) - utf16_weight(*t);
}

static bool is_plain(char c)
{
	return (uint8_t)c >= 0x20 && c != '"' && c != '\\';
}

static int put_escape(struct buf *out, char c)
{
	switch (c) {
	case '"':
		return buf_append(out, "\\\"", 2);
	case '\\':
		return buf_append(out, "\\\\", 2);
	case '\b':
		return buf_append(out, "\\b", 2);
	case '\t':
		return buf_append(out, "\\t", 2);
	case '\n':
		return buf_append(out, "\\n", 2);
	case '\f':
		return buf_append(out, "\\f", 2);
	case '\r':
		return buf_append(out, "\\r", 2);
	}
	return buf_printf(out, "\\u%04x", (unsigned)(uint8_t)c);
}

static int put_string(struct buf *out, const char *s, size_t len)
{
	const char *end = s + len;
	int r = buf_append(out, "\"", 1);

	while (r == 0 && s < end) {
		const char *from = s;
		while (s < end && is_plain(*s))
			s++;
		r = buf_append(out, from, (size_t)(s - from));
		if (r == 0 && s < end)
			r = put_escape(out, *s++);
	}
	return r < 0 ? r : buf_append(out, "\"", 1);
}

static int put_value(struct buf *out, const json_t *j, unsigned depth, struct error *err);

static int put_array(struct buf *out, const json_t *j, unsigned depth, struct error *err)
{
	json_t *v;
	size_t i;
	int r = buf_append(out, "[", 1);

	json_array_foreach(j, i, v) {
		if (r == 0 && i > 0)
			r = buf_append(out, ",", 1);
		if (r == 0)
			r = put_value(out, v, depth + 1, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : buf_append(out, "]", 1);
}

static int put_members(struct buf *out, const struct member *m, size_t n, unsigned depth,
		       struct error *err)
{
	int r = buf_append(out, "{", 1);

	for (size_t i = 0; i < n && r == 0; i++) {
		if (i > 0)
			r = buf_append(out, ",", 1);
		if (r == 0)
			r = put_string(out, m[i].name, strlen(m[i].name));
		if (r == 0)
			r = buf_append(out, ":", 1);
		if (r == 0)
			r = put_value(out, m[i].value, depth + 1, err);
	}
	return r < 0 ? r : buf_append(out, "}", 1);
}

static int put_object(struct buf *out, const json_t *j, unsigned depth, struct error *err)
{
	size_t n = 0;
	const char *name;
	json_t *v;
	struct member *m = calloc(json_object_size(j) + 1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	json_object_foreach((json_t *)j, name, v)
		m[n++] = (struct member){ name, v };
	qsort(m, n, sizeof(*m), compare_members);
	int r = put_members(out, m, n, depth, err);
	free(m);
	return r;
}

static int put_value(struct buf *out, const json_t *j, unsigned depth, struct error *err)
{
	if (depth > JCS_DEPTH_MAX)
		return error_set(err, -EINVAL, "JSON of more than %d levels", JCS_DEPTH_MAX);
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return put_object(out, j, depth, err);
	case JSON_ARRAY:
		return put_array(out, j, depth, err);
	case JSON_STRING:
		return put_string(out, json_string_value(j), json_string_length(j));
	case JSON_INTEGER: {
		json_int_t v = json_integer_value(j);
		if (v > INTEGER_MAX || v < -INTEGER_MAX)
			return error_set(err, -EINVAL,
					 "the number %" JSON_INTEGER_FORMAT " is beyond 2^53", v);
		return buf_printf(out, "%" JSON_INTEGER_FORMAT, v);
	}
	case JSON_REAL:
		return error_set(err, -EINVAL, "the number %g is not a whole one",
				 json_real_value(j));
	case JSON_TRUE:
		return buf_append(out, "true", 4);
	case JSON_FALSE:
		return buf_append(out, "false", 5);
	case JSON_NULL:
		return buf_append(out, "null", 4);
	}
	return -EINVAL;
}

int jcs_dump(const json_t *j, struct buf *out, struct error *err)
{
	return put_value(out, j, 1, err);
}

int jcs_hash(const json_t *j, char out[DIGEST_HEX_SIZE], struct error *err)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	struct digest d;
	int r = jcs_dump(j, &text, err);

	if (r == 0)
		r = hash_bytes(text.data, text.len, &d);
	if (r == 0)
		digest_to_hex(&d, out);
	return r;
}
