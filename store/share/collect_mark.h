/*
 * collect_mark.h - which packs of a bucket are in use: what records name.
 *
 * A record is read once, however often mark_run is called: one that was ready stays in use, one
 * that was not never becomes ready. So what the mark has is in use, or was when mark_run was called
 * first. A deleted record still counts for `grace_s` after its deletion, by the service's clock,
 * for those who read it when it was deleted; and as long as an instance of the daemon pins it.
 *
 * A pack that was repacked stays in use, and so does the one that has its chunks now: `moved` says
 * which that is.
 *
 * In memory: 24 bytes a range of packs, 16 a record, 44 a pack that was repacked; all bounded.
 */
#ifndef VARVE_SHARE_COLLECT_MARK_H
#define VARVE_SHARE_COLLECT_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_packs.h"
#include "store/layout/share_record.h"
#include "store/share/collect_moved.h"

#define MARK_RANGES_MAX (1u << 20)
#define MARK_RECORDS_MAX (2u << 20)
/* An instance that wrote its pins so lately is alive, however short the grace is. */
#define MARK_PINS_S (60 * 60)

struct mark {
	/* in */
	struct object_store *os;
	int64_t grace_s;
	int64_t free_s; /* see `old` */
	/* out: mark_fini */
	struct share_packs live;
	struct share_packs meta; /* of these: whose nodes and locations are in use */
	struct buf users;	 /* struct share_id, ascending: the records that are in use */
	struct collect_moved moved;
	struct buf seen; /* struct share_id, ascending: records that were read */
	struct buf old;	 /* struct share_id: of no use, and not written for free_s */
	uint64_t ready;	 /* records that were, when they were read */
};

/*
 * Read what was not read yet, and all pins. Whatever cannot be read or understood is a failure:
 * -EBADMSG, -ENOTSUP, or the bucket's. -EFBIG: more than the bounds above. -ECANCELED.
 */
MUST_CHECK int mark_run(struct mark *m, struct progress *p, struct error *err);
void mark_fini(struct mark *m);
/* A record that was read; one that is in use. */
bool mark_has_seen(const struct mark *m, const struct share_id *id);
bool mark_uses(const struct mark *m, const struct share_id *id);

#endif
