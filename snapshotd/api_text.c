/* Strings of any bytes (names of files, messages that quote them) as JSON. */
#include "snapshotd/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"

/* Length of the well-formed UTF-8 character in s[0..max), max > 0 (Unicode, table 3-7), or 0. */
static size_t utf8_len(const unsigned char *s, size_t max)
{
	size_t n = s[0] < 0x80	 ? 1
		   : s[0] < 0xc2 ? 0
		   : s[0] < 0xe0 ? 2
		   : s[0] < 0xf0 ? 3
		   : s[0] < 0xf5 ? 4
				 : 0;

	if (n > max)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

json_t *api_text_n(const void *s, size_t len)
{
	static const char replacement[] = "\xef\xbf\xbd";
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const unsigned char *p = s;
	json_t *j = json_stringn(s, len);

	if (j)
		return j;
	for (size_t i = 0; i < len;) {
		size_t n = utf8_len(p + i, len - i);

		if (buf_append(&b, n ? p + i : (const void *)replacement,
			       n ? n : sizeof(replacement) - 1) < 0)
			return NULL;
		i += n ? n : 1;
	}
	return json_stringn((const char *)b.data, b.len);
}

json_t *api_text(const char *s)
{
	return api_text_n(s, strlen(s));
}

/* RFC 4648, section 4. */
static int base64_append(struct buf *out, const char *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)data;
	int rc = 0;

	for (size_t i = 0; i < len && rc == 0; i += 3) {
		size_t left = len - i;
		unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0u);
		char quad[4] = { digits[v >> 18], digits[v >> 12 & 63],
				 left > 1 ? digits[v >> 6 & 63] : '=',
				 left > 2 ? digits[v & 63] : '=' };

		rc = buf_append(out, quad, sizeof(quad));
	}
	return rc;
}

int api_set_path(json_t *o, const char *name, const char *prefix, const char *path)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf base64 = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf key = BUF_INIT;
	const char *s;
	json_t *j;

	if (buf_append_str(&text, prefix) < 0 || buf_append_str(&text, path) < 0 ||
	    !(s = buf_cstr(&text)))
		return -ENOMEM;
	j = json_string(s);
	if (j)
		return json_object_set_new(o, name, j) ? -ENOMEM : 0;
	if (buf_printf(&key, "%sBase64", name) < 0 || !buf_cstr(&key) ||
	    base64_append(&base64, s, text.len) < 0 ||
	    json_object_set_new(o, (const char *)key.data,
				json_stringn((const char *)base64.data, base64.len)) ||
	    json_object_set_new(o, name, api_text(s)))
		return -ENOMEM;
	return 0;
}
