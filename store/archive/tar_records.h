/*
 * tar_records.h - the raw pax records of a tar's entry. They say what
 * libarchive's interface does not: the encoded names of xattrs, and times before
 * 1970. Pure.
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

/* 0 to go on; any other result ends the walk, which returns it. */
typedef int (*tar_record_fn)(void *arg, const struct tar_record *r);
/*
 * headers: an entry's bytes from its first extended header on; what follows the
 * entry's own header is ignored. Call fn for each record before that. Returns
 * -EBADMSG if a record is malformed, else 0 or what fn returned.
 */
MUST_CHECK int tar_records_walk(const void *headers, size_t len, tar_record_fn fn, void *arg);

/*
 * Seconds in decimal, "-1.5" as { -2, 500000000 }; digits after the ninth are
 * cut. -EINVAL, -ERANGE.
 */
MUST_CHECK int tar_record_time(const char *text, size_t len, struct timespec *out);

/*
 * The number of entries in a SCHILY.acl text, malformed ones included. named: leave
 * out those for the owner, the group and others, which the mode has too.
 */
size_t tar_acl_entries(const char *text, size_t len, bool named);

/* Append an xattr's name encoded for a SCHILY.xattr key, or decoded from one. -ENOMEM. */
MUST_CHECK int tar_xattr_encode(const char *name, size_t len, struct buf *out);
MUST_CHECK int tar_xattr_decode(const char *key, size_t len, struct buf *out);
/* Append name and value of a LIBARCHIVE.xattr, without its prefix. -EINVAL, -ENOMEM. */
MUST_CHECK int tar_xattr_libarchive(const struct tar_record *r, size_t prefix_len,
				    struct buf *out_name, struct buf *out_value);

#endif
