/*
 * collect_moved.h - all packs of a bucket that were repacked, and where their chunks went: the
 * headers of its objects moved/PUSH-N. A part of a collection.
 *
 * Each object is read once, however often collect_moved_read is called: what it says never changes.
 */
#ifndef VARVE_SHARE_COLLECT_MOVED_H
#define VARVE_SHARE_COLLECT_MOVED_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_moved.h"
#include "store/layout/share_packs.h"

#define COLLECT_MOVED_MAX (1u << 20)

struct collect_moved {
	struct object_store *os; /* in */
	struct buf heads; /* struct share_moved_head, ascending by `from`; collect_moved_fini */
};

/*
 * What was not read yet. One that cannot be read or understood is a failure: -EBADMSG, -ENOTSUP, or
 * the bucket's. -EFBIG: more than COLLECT_MOVED_MAX; -ECANCELED.
 */
MUST_CHECK int collect_moved_read(struct collect_moved *m, struct progress *p, struct error *err);
void collect_moved_fini(struct collect_moved *m);

/* Whether a pack was repacked; *out may be NULL. */
bool collect_moved_get(const struct collect_moved *m, const struct pack_id *pack,
		       struct share_moved_head *out);
/* Add to `packs` all that have chunks of these now. -ENOMEM. */
MUST_CHECK int collect_moved_targets(const struct collect_moved *m, struct share_packs *packs);
/* Add to `packs` all that were repacked into these. -ENOMEM. */
MUST_CHECK int collect_moved_sources(const struct collect_moved *m, struct share_packs *packs);
/* How many moves, one after another, have led to this pack; at most SHARE_MOVED_HOPS. */
unsigned collect_moved_depth(const struct collect_moved *m, const struct pack_id *pack);

#endif
