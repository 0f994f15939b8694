/*
 * remarks.h - what an import or export did not carry over as it was: how often,
 * by kind, and the first path of each kind. A plain value; the caller locks.
 * What would lose content is an error instead.
 */
#ifndef VARVE_REMARKS_H
#define VARVE_REMARKS_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/macros.h"

enum remark_kind {
	REMARK_XATTR_HIDDEN,	 /* import: kept, but a mount does not show it */
	REMARK_XATTR_UNREADABLE, /* import: listed by the directory, but not readable */
	REMARK_ACL_ENTRY,	 /* import: for a name unknown to this host, or not POSIX */
	REMARK_ARCHIVE,		 /* import: what libarchive warned of */
	REMARK_VANISHED,	 /* import: a file that disappeared while it was read */
	REMARK_MOUNT,		 /* import: mounted below the directory, left out as asked */
	REMARK_SOCKET,		 /* export: a tar has no form for it */
	REMARK_KINDS
};

#define REMARK_PATH_SIZE 256u

struct remarks {
	struct {
		uint64_t count;
		char first[REMARK_PATH_SIZE]; /* a prefix of the path; any bytes but NUL */
	} kinds[REMARK_KINDS];
};

void remarks_add(struct remarks *r, enum remark_kind kind, const char *path, size_t len);
/*
 * [{"kind", "text", "count", "first"}] for each kind that occurred; NULL when out
 * of memory. "first" has '?' for control characters and bytes that are not UTF-8.
 */
json_t *remarks_to_json(const struct remarks *r);

#endif
