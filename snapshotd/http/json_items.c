#include "snapshotd/http/json_items.h"

#include <errno.h>
#include <string.h>

static size_t skip_space(const char *text, size_t at, size_t len)
{
	while (at < len && text[at] && strchr(" \t\r\n", text[at]))
		at++;
	return at;
}

int json_items_each(const char *text, size_t len, size_t item_max, json_item_fn fn, void *arg)
{
	size_t at = skip_space(text, 0, len);
	int rc = 0;

	if (at == len || text[at] != '[')
		return -EBADMSG;
	at = skip_space(text, at + 1, len);
	for (bool first = true; at < len && (!first || text[at] != ']'); first = false) {
		json_error_t why;
		json_t *item = json_loadb(text + at, MIN(len - at, item_max),
					  JSON_DISABLE_EOF_CHECK, &why);

		rc = item ? fn(arg, item) : -EBADMSG;
		json_decref(item);
		if (rc != 0)
			return rc;
		at = skip_space(text, at + (size_t)why.position, len);
		if (at < len && text[at] == ']')
			break;
		if (at == len || text[at] != ',')
			return -EBADMSG;
		at = skip_space(text, at + 1, len);
	}
	return at < len && skip_space(text, at + 1, len) == len ? 0 : -EBADMSG;
}
