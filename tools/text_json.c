/* text_json.c - bytes that need not be UTF-8 as JSON and back. */
#include <errno.h>
#include <string.h>

#include "tools/text.h"

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *text_json(const char *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	for (size_t i = 0; i < len;) {
		uint32_t cp = 0;
		size_t n = text_utf8(s + i, len - i, &cp);
		int r = n == 0 || cp == 0 ? buf_append_str(&b, "\xef\xbf\xbd")
					  : buf_append(&b, s + i, n);
		if (r < 0)
			return NULL;
		i += n ? n : 1;
	}
	return json_stringn(b.len ? (const char *)b.data : "", b.len);
}

static int base64_encode(const uint8_t *p, size_t len, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i += 3) {
		size_t left = len - i;
		uint32_t v = (uint32_t)p[i] << 16;
		if (left > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			v |= p[i + 2];
		char quad[4] = { base64_digits[v >> 18], base64_digits[v >> 12 & 63],
				 left > 1 ? base64_digits[v >> 6 & 63] : '=',
				 left > 2 ? base64_digits[v & 63] : '=' };
		r = buf_append(out, quad, sizeof(quad));
	}
	return r;
}

static int base64_decode(const char *s, size_t len, struct buf *out)
{
	uint32_t v = 0;
	int bits = 0;

	while (len > 0 && s[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++) {
		const char *digit = s[i] ? strchr(base64_digits, s[i]) : NULL;
		if (!digit)
			return -EBADMSG;
		v = v << 6 | (uint32_t)(digit - base64_digits);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		uint8_t byte = (uint8_t)(v >> bits);
		int r = buf_append(out, &byte, 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int base64_key(const char *key, struct buf *out)
{
	return buf_printf(out, "%sBase64", key) < 0 || !buf_cstr(out) ? -ENOMEM : 0;
}

int text_json_set(json_t *o, const char *key, const char *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf name = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf base64 = BUF_INIT;

	if (json_object_set_new(o, key, text_json(s, len)))
		return -ENOMEM;
	if (text_is_utf8(s, len))
		return 0;
	if (base64_key(key, &name) < 0 || base64_encode((const uint8_t *)s, len, &base64) < 0 ||
	    json_object_set_new(o, (const char *)name.data,
				json_stringn((const char *)base64.data, base64.len)))
		return -ENOMEM;
	return 0;
}

int text_json_get(const json_t *o, const char *key, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf name = BUF_INIT;

	if (base64_key(key, &name) < 0)
		return -ENOMEM;
	const json_t *v = json_object_get(o, (const char *)name.data);
	if (json_is_string(v))
		return base64_decode(json_string_value(v), json_string_length(v), out);
	v = json_object_get(o, key);
	if (!json_is_string(v))
		return -ENOENT;
	return buf_append(out, json_string_value(v), json_string_length(v));
}
