/*
 * share_format.h - the object `format`: what a bucket is, and what it asks of who uses it. Pure.
 *
 *   {"varve": 1, "uuid": random, "features": ["NAME", "?NAME", ...],
 *    "sealed": {"cipher": "aes-256-gcm-4k", "keys": [base64, ...]}}
 * A feature changes the formats or the rules. Who does not know one refuses the bucket by that name
 * (-ENOTSUP); if its name begins with '?' it may read, but not write. Those that there are:
 *
 *   moved       chunks may be elsewhere than their records say (share_moved.h)
 *   moved-meta  nodes and locations may be in meta/PUSH-N in place of their container (share_key.h)
 *   alternates  packs that records name may be in another bucket (share_record.h: "alternate")
 *   ?permanent  nothing is deleted, and no name moves to another snapshot (remote.h); set when the
 *               bucket is made, or never
 *   sealed      all objects but this one are encrypted (sealed.h), and it has the member "sealed":
 *               the bucket's key, wrapped for each tenant's key that opens it (bucket_key.h)
 */
#ifndef VARVE_SHARE_FORMAT_H
#define VARVE_SHARE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/bucket/bucket_key.h"
#include "store/names/snapshot.h"

#define SHARE_FORMAT_MAX (64u << 10)
#define SHARE_FEATURE_MAX 64u /* characters of one's name: [a-z0-9-], after the '?' */
#define SHARE_KEYS_MAX 8u     /* of tenants */

struct share_format {
	char uuid[SNAPSHOT_ID_SIZE];
	bool moved, moved_meta, alternates;
	bool permanent;
	/* An unknown feature that forbids writing (without its '?'), or "". */
	char read_only_for[SHARE_FEATURE_MAX + 1];
	bool sealed;
	unsigned n_keys; /* wrapped keys; 0 unless sealed */
	uint8_t keys[SHARE_KEYS_MAX][BUCKET_KEY_WRAPPED];
};
bool share_uuid_is_valid(const char *s); /* as id_random writes it */
/* With all features but unknown ones. -EINVAL, -ENOMEM. */
MUST_CHECK int share_format_encode(const struct share_format *f, struct buf *out,
				   struct error *err);
/*
 * -ENOTSUP: another "varve", cipher or an unknown feature, named in err; -EBADMSG; -EFBIG; -ENOMEM.
 */
MUST_CHECK int share_format_decode(const void *text, size_t len, struct share_format *out,
				   struct error *err);
/* The same text but for the keys, which are those of f. -EINVAL: it is not sealed. */
MUST_CHECK int share_format_rekey(const void *text, size_t len, const struct share_format *f,
				  struct buf *out, struct error *err);
/*
 * What a wrapped key of a format is bound to, as a string: "UUID CIPHER FEATURE,FEATURE,...", so
 * that no key opens where one of them was changed. -EINVAL: it is not sealed.
 */
MUST_CHECK int share_format_about(const void *text, size_t len, struct buf *out, struct error *err);
/* 0, or -EROFS with the feature's name: before the first write to a bucket. */
MUST_CHECK int share_format_writable(const struct share_format *f, struct error *err);

#endif
