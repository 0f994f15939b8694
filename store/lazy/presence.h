/*
 * presence.h - how much of a snapshot is in this store, and how much in buckets alone.
 *
 * A *lazy* snapshot was pulled lazily, or its chunks may have been evicted since it was pushed: the
 * index says where they are. All its nodes are here, so its tree can be walked without a bucket.
 */
#ifndef VARVE_SHARE_PRESENCE_H
#define VARVE_SHARE_PRESENCE_H

#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/store.h"

/* Bytes of files, each distinct chunk once. */
struct presence {
	uint64_t here_bytes, far_bytes;
};
/*
 * Walks the whole tree; the caller holds the snapshot (store_hold_snapshot). Takes a moment: looks
 * each chunk up, and reads none. p may be NULL. -ECANCELED, or what the nodes' source says.
 */
MUST_CHECK int presence_of(struct store *s, const struct digest *root, struct progress *p,
			   struct presence *out, struct error *err);
/* Set "hereBytes" and "farBytes" in o. -ENOMEM. */
MUST_CHECK int presence_tell(const struct presence *p, json_t *o);

#endif
