/*
 * share_format.h - the object `format`: what a bucket is, and what it asks of who uses it. Pure.
 *
 *   {"varve": 1, "uuid": random, "features": ["NAME", "?NAME", ...]}
 * A feature changes the formats or the rules. Who does not know one refuses the bucket by that name
 * (-ENOTSUP); if its name begins with '?' it may read, but not write. The features that there are:
 *
 *   moved   chunks may be elsewhere than their records say (share_moved.h)
 */
#ifndef VARVE_SHARE_FORMAT_H
#define VARVE_SHARE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"

#define SHARE_FORMAT_MAX (64u << 10)
#define SHARE_FEATURE_MAX 64u /* characters of one's name: [a-z0-9-], after the '?' */

struct share_format {
	char uuid[SNAPSHOT_ID_SIZE];
	bool moved;
	/* An unknown feature that forbids writing (without its '?'), or "". */
	char read_only_for[SHARE_FEATURE_MAX + 1];
};
/* With all features but unknown ones. -EINVAL, -ENOMEM. */
MUST_CHECK int share_format_encode(const struct share_format *f, struct buf *out,
				   struct error *err);
/* -ENOTSUP: another "varve" or an unknown feature, named in err; -EBADMSG; -EFBIG; -ENOMEM. */
MUST_CHECK int share_format_decode(const void *text, size_t len, struct share_format *out,
				   struct error *err);
/* 0, or -EROFS with the feature's name: before the first write to a bucket. */
MUST_CHECK int share_format_writable(const struct share_format *f, struct error *err);

#endif
