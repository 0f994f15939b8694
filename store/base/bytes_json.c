#include "store/base/bytes_json.h"

#include <errno.h>
#include <string.h>

#include "store/base/base64.h"
#include "store/base/utf8.h"

bool bytes_json_is_exact(const void *bytes, size_t len)
{
	const char *s = bytes;

	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_len(s + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

json_t *bytes_json(const void *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (bytes_json_is_exact(s, len))
		return json_stringn(len ? s : "", len); /* an empty buffer has no data */
	if (utf8_append_valid(&b, s, len) < 0)
		return NULL;
	return json_stringn((const char *)b.data, b.len);
}

json_t *bytes_json_base64(const void *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (base64_encode(s, len, &b) < 0)
		return NULL;
	return json_stringn(b.len ? (const char *)b.data : "", b.len);
}

/* "keyBase64", in out. */
static const char *base64_key(const char *key, struct buf *out)
{
	return buf_printf(out, "%sBase64", key) < 0 ? NULL : buf_cstr(out);
}

int bytes_json_set(json_t *o, const char *key, const void *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf name = BUF_INIT;

	if (json_object_set_new(o, key, bytes_json(s, len)))
		return -ENOMEM;
	if (bytes_json_is_exact(s, len))
		return 0;
	const char *base64 = base64_key(key, &name);
	if (!base64 || json_object_set_new(o, base64, bytes_json_base64(s, len)))
		return -ENOMEM;
	return 0;
}

int bytes_json_get(const json_t *o, const char *key, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf name = BUF_INIT;
	const char *base64 = base64_key(key, &name);
	const json_t *v;

	if (!base64)
		return -ENOMEM;
	v = json_object_get(o, base64);
	if (json_is_string(v)) {
		int r = base64_decode_n(json_string_value(v), json_string_length(v), out);
		return r == -EINVAL ? -EBADMSG : r;
	}
	v = json_object_get(o, key);
	if (!json_is_string(v))
		return -ENOENT;
	return buf_append(out, json_string_value(v), json_string_length(v));
}
