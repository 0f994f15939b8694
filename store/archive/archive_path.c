#include "store/archive/archive_path.h"

#include <errno.h>
#include <string.h>

#include "store/tree/key.h"

const char *archive_path_next(const char **path, const char *end, size_t *len)
{
	const char *start = *path;
	const char *slash = memchr(start, '/', (size_t)(end - start));
	const char *stop = slash ? slash : end;

	*len = (size_t)(stop - start);
	while (stop < end && *stop == '/')
		stop++;
	*path = stop;
	return start;
}

static bool is_dots(const char *name, size_t len, size_t dots)
{
	return len == dots && memcmp(name, "..", dots) == 0;
}

int archive_path_clean(const char *path, size_t len, struct buf *out)
{
	const char *end = len ? path + len : path; /* path may be NULL if len is 0 */

	buf_clear(out);
	if (len > ARCHIVE_PATH_MAX)
		return -ENAMETOOLONG;
	while (path < end) {
		size_t n;
		const char *name = archive_path_next(&path, end, &n);

		if (n == 0 || is_dots(name, n, 1))
			continue;
		if (is_dots(name, n, 2) || memchr(name, '\0', n))
			return -EINVAL;
		if (n > NAME_LEN_MAX)
			return -ENAMETOOLONG;
		int r = out->len ? buf_append(out, "/", 1) : 0;
		if (r == 0)
			r = buf_append(out, name, n);
		if (r < 0)
			return r;
	}
	return 0;
}

enum whiteout archive_whiteout(const char *name, size_t len, const char **hidden,
			       size_t *hidden_len)
{
	static const char prefix[] = ".wh.", opaque[] = ".wh..wh..opq";
	const size_t skip = sizeof(prefix) - 1;

	if (len < skip || memcmp(name, prefix, skip) != 0)
		return WHITEOUT_NONE;
	if (len == sizeof(opaque) - 1 && memcmp(name, opaque, len) == 0)
		return WHITEOUT_OPAQUE;
	*hidden = name + skip;
	*hidden_len = len - skip;
	if (*hidden_len >= skip && memcmp(*hidden, prefix, skip) == 0)
		return WHITEOUT_IGNORE;
	if (*hidden_len == 0 || is_dots(*hidden, *hidden_len, 1) ||
	    is_dots(*hidden, *hidden_len, 2))
		return WHITEOUT_BAD;
	return WHITEOUT_NAME;
}
