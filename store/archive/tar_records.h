/*
 * tar_records.h - the pax records of a tar's entry as the archive has them, and
 * what they say that libarchive's interface does not: the names of xattrs before
 * they are decoded, and times before 1970. Pure.
 *
 * A pax record ends its key at the first '=', so writers encode the names of
 * xattrs, each in its own way:
 *   SCHILY.xattr.NAME      GNU tar: '%' is %25 and '=' is %3D, nothing else is.
 *                          star, Go, Python: as it is, which '=' is not allowed in.
 *   LIBARCHIVE.xattr.NAME  bsdtar: URL-encoded, the value in base64 without padding,
 *                          beside a SCHILY.xattr that is not encoded.
 */
#ifndef VARVE_TAR_RECORDS_H
#define VARVE_TAR_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

struct tar_record {
	const char *key; /* any bytes but '='; no NUL after it */
	size_t key_len;
	const char *value; /* any bytes */
	size_t value_len;
	bool global; /* of a global header */
};

/* 0 to go on, else the walk ends with it. */
typedef int (*tar_record_fn)(void *arg, const struct tar_record *r);
/*
 * headers: an entry, from its first extended header on; what comes behind its own
 * header does not matter. Calls fn for each record up to that. -EBADMSG where a
 * record is malformed, else 0 or what fn returned.
 */
MUST_CHECK int tar_records_walk(const void *headers, size_t len, tar_record_fn fn, void *arg);

/* Seconds in decimal, "-1.5" as { -2, 500000000 }; digits beyond 9 are cut. -EINVAL, -ERANGE. */
MUST_CHECK int tar_record_time(const char *text, size_t len, struct timespec *out);

/*
 * How many entries a SCHILY.acl text has, malformed ones among them; named: but those
 * for the owner, the group and others, which the mode has.
 */
size_t tar_acl_entries(const char *text, size_t len, bool named);

/* Append an xattr's name as SCHILY.xattr keys have it, and back. -ENOMEM. */
MUST_CHECK int tar_xattr_encode(const char *name, size_t len, struct buf *out);
MUST_CHECK int tar_xattr_decode(const char *key, size_t len, struct buf *out);
/* Append name and value of a LIBARCHIVE.xattr, without its prefix. -EINVAL, -ENOMEM. */
MUST_CHECK int tar_xattr_libarchive(const struct tar_record *r, size_t prefix_len,
				    struct buf *out_name, struct buf *out_value);

#endif
