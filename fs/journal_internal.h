/* journal_internal.h - shared by journal.c (the file) and journal_apply.c (what is in it). */
#ifndef VARVE_FS_JOURNAL_INTERNAL_H
#define VARVE_FS_JOURNAL_INTERNAL_H

#include <stdbool.h>

#include "fs/journal.h"

#define JOURNAL_HEAD 48u
#define JOURNAL_RECORD 8u /* length and CRC */

/* One change, decoded; pointers into the payload. val NULL: deleted. */
struct journal_entry {
	const uint8_t *key, *val;
	uint32_t klen, vlen;
};

enum journal_payload { JOURNAL_DELETE, JOURNAL_PUT, JOURNAL_DATA, JOURNAL_DATA_SYNCED };

static inline size_t journal_align(size_t n)
{
	return (n + 7) & ~(size_t)7;
}
#define JOURNAL_BOOT_SIZE 16
struct journal_head {
	uint64_t number, before;
	uint8_t boot[JOURNAL_BOOT_SIZE];
};
void journal_head_put(uint8_t *segment, const struct journal_head *h);
/* False where the segment has no valid head. */
bool journal_head_get(const uint8_t *segment, struct journal_head *out);
/* Zeros where the kernel does not tell. */
void journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE]);
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
/*
 * Data that counts: what follows the last "synced". All segments are gone
 * through with fd -1, which finds that, and then with the data file, which
 * writes what counts to it.
 */
struct journal_data_scan {
	uint64_t synced_number;
	size_t synced_at; /* 0: none was met */
	bool any;	  /* data after it */
};
MUST_CHECK int journal_scan_data(const uint8_t *segment, uint64_t number, size_t len,
				 struct journal_data_scan *s, int fd);
/* Number of the last segment that was applied; 0: none. */
MUST_CHECK int journal_applied(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t *out);

#endif
