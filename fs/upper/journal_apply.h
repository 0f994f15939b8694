/*
 * journal_apply.h - from a journal to the family `upper` of the database.
 *
 * Under (id, epoch 0): u64 number of the last segment that is in
 * the database, then the last change of epoch as in a payload, if there was one.
 * A segment counts if all before it do, whole.
 */
#ifndef VARVE_FS_JOURNAL_APPLY_H
#define VARVE_FS_JOURNAL_APPLY_H

#include <stdint.h>

#include "fs/upper/journal_format.h"
#include "fs/upper/journal_requests.h"
#include "store/kv/kv.h"

struct journal_target {
	struct kv *kv;
	const uint8_t *id;
	uint32_t min_epoch;	     /* changes of older ones are left out */
	struct journal_epoch change; /* the last one that the database knows */
	/* Logged and not answered, borrowed: each batch says which. */
	const struct journal_requests *requests;
};
/*
 * Write a segment to the database in one synced batch that says that all up to
 * number `applied` are there.
 */
MUST_CHECK int journal_apply(struct journal_target *t, const struct journal_segment *s,
			     uint64_t applied);
/* The same of the changes of one operation. */
MUST_CHECK int journal_apply_changes(struct journal_target *t, const struct buf *changes);
/* Say alone that all up to a number are there. */
MUST_CHECK int journal_put_applied(struct journal_target *t, uint64_t applied);
/* Number of the last segment that was applied, 0: none, and the last change of epoch. */
MUST_CHECK int journal_get_applied(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t *out,
				   struct journal_epoch *out_change);

#endif
