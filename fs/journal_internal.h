/* journal_internal.h - shared by journal.c (the file) and journal_apply.c (what is in it). */
#ifndef VARVE_FS_JOURNAL_INTERNAL_H
#define VARVE_FS_JOURNAL_INTERNAL_H

#include <stdbool.h>

#include "fs/journal.h"

#define JOURNAL_HEAD 32u
#define JOURNAL_RECORD 8u /* length and CRC */

/* One change, decoded; pointers into the payload. val NULL: deleted. */
struct journal_entry {
	const uint8_t *key, *val;
	uint32_t klen, vlen;
};

static inline size_t journal_align(size_t n)
{
	return (n + 7) & ~(size_t)7;
}
void journal_head_put(uint8_t *segment, uint64_t number, uint64_t before);
/* The segment's number, or 0 where it has no valid head. */
uint64_t journal_head_get(const uint8_t *segment, uint64_t *out_before);
uint32_t journal_record_crc(uint64_t number, const void *payload, size_t len);
/* Bytes of the segment up to the end of its last good record. */
size_t journal_segment_end(const uint8_t *segment, uint64_t number);

/*
 * Write segment `number`, of `len` bytes with its head, to the database in one
 * synced batch that says so; or, number 0, the payload of one operation.
 * Epochs below min_epoch are left out.
 */
MUST_CHECK int journal_apply(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t number,
			     const uint8_t *data, size_t len, uint32_t min_epoch);
/* Number of the last segment that was applied; 0: none. */
MUST_CHECK int journal_applied(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t *out);

#endif
