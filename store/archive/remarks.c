#include "store/archive/remarks.h"

#include <string.h>

#include "store/base/utf8.h"

static const struct {
	const char *kind, *text;
} words[REMARK_KINDS] = {
	[REMARK_XATTR_HIDDEN] = { "xattrHidden", "extended attributes kept that no mount shows" },
	[REMARK_XATTR_UNREADABLE] = { "xattrUnreadable",
				      "extended attributes left out: listed but not readable" },
	[REMARK_ACL_ENTRY] = { "aclEntry",
			       "ACL entries left out: malformed, unknown names or not POSIX" },
	[REMARK_ARCHIVE] = { "archive", "entries that the archive has not quite right" },
	[REMARK_VANISHED] = { "vanished", "files left out that vanished meanwhile" },
	[REMARK_MOUNT] = { "mount", "mounts left out" },
	[REMARK_SOCKET] = { "socket", "sockets left out: a tar has no form for them" },
};

void remarks_add(struct remarks *r, enum remark_kind kind, const char *path, size_t len)
{
	char *first = r->kinds[kind].first;

	if (r->kinds[kind].count++ > 0)
		return;
	len = MIN(len, (size_t)REMARK_PATH_SIZE - 1);
	memcpy(first, path, len);
	first[len] = '\0';
}

/* One '?' for each byte that is not part of a printable character. */
static json_t *printable(const char *s)
{
	char text[REMARK_PATH_SIZE];
	size_t n = 0, left = strlen(s);

	while (left > 0) {
		size_t len = utf8_len(s, left);

		if (len == 0 || (len == 1 && ((unsigned char)*s < ' ' || *s == 0x7f))) {
			text[n++] = '?';
			len = 1;
		} else {
			memcpy(text + n, s, len);
			n += len;
		}
		s += len;
		left -= len;
	}
	return json_stringn(text, n);
}

json_t *remarks_to_json(const struct remarks *r)
{
	json_t *list = json_array();

	for (unsigned k = 0; list && k < REMARK_KINDS; k++) {
		if (r->kinds[k].count == 0)
			continue;
		json_t *one = json_pack("{s:s, s:s, s:I, s:o}", "kind", words[k].kind, "text",
					words[k].text, "count", (json_int_t)r->kinds[k].count,
					"first", printable(r->kinds[k].first));
		if (json_array_append_new(list, one) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}
