/* Strings of any bytes (names of files, messages that quote them) as JSON. */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <string.h>

#include "store/base/bytes_json.h"

json_t *api_text(const char *s)
{
	return bytes_json(s, strlen(s));
}

int api_set_path(json_t *o, const char *name, const char *prefix, const char *path)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;

	if (buf_append_str(&text, prefix) < 0 || buf_append_str(&text, path) < 0)
		return -ENOMEM;
	return bytes_json_set(o, name, text.data, text.len);
}
