/* Strings of any bytes (names of files, messages that quote them) as JSON. */
#include "snapshotd/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/base64.h"
#include "store/base/buf.h"
#include "store/base/utf8.h"

json_t *api_text_n(const void *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	json_t *j = json_stringn(len ? s : "", len); /* an empty buffer has no data */

	if (j)
		return j;
	if (utf8_append_valid(&b, s, len) < 0)
		return NULL;
	return json_stringn((const char *)b.data, b.len);
}

json_t *api_text(const char *s)
{
	return api_text_n(s, strlen(s));
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
	    base64_encode(s, text.len, &base64) < 0 ||
	    json_object_set_new(o, (const char *)key.data,
				json_stringn((const char *)base64.data, base64.len)) ||
	    json_object_set_new(o, name, api_text(s)))
		return -ENOMEM;
	return 0;
}
