/* archive_path.h - turns an untrusted name from an archive into a clean relative path. Pure. */
#ifndef VARVE_ARCHIVE_PATH_H
#define VARVE_ARCHIVE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

#define ARCHIVE_PATH_MAX 65536u

/*
 * Clean path[0..len) into out (cleared first): leading slashes, "." and empty
 * components are dropped, the rest joined by single slashes; empty is the root.
 * Bytes are kept as they are. -EINVAL for a ".." component or a NUL,
 * -ENAMETOOLONG for a component above 255 bytes or a path above
 * ARCHIVE_PATH_MAX, -ENOMEM.
 */
MUST_CHECK int archive_path_clean(const char *path, size_t len, struct buf *out);

/*
 * Cut the first component off *path (not empty): return it, set *len, and move
 * *path past it and its slashes.
 */
const char *archive_path_next(const char **path, const char *end, size_t *len);

/* What a name means in an OCI layer (image-spec layer.md, whiteouts). */
enum whiteout {
	WHITEOUT_NONE,
	WHITEOUT_NAME,	 /* .wh.NAME: NAME of the layers below is gone */
	WHITEOUT_OPAQUE, /* .wh..wh..opq: all names of the layers below are gone */
	WHITEOUT_IGNORE, /* .wh..wh.*: bookkeeping of aufs */
	WHITEOUT_BAD,	 /* .wh. followed by nothing, "." or ".." */
};
/* *hidden, *hidden_len: NAME, inside of name. */
enum whiteout archive_whiteout(const char *name, size_t len, const char **hidden,
			       size_t *hidden_len);

#endif
