/*
 * journal_format.h - the bytes of a journal (journal.h). The CRC is zlib's.
 *
 * Format, version 2, little-endian; two segments of JOURNAL_SEGMENT bytes each,
 * number N at place N % 2:
 *   head     char[8] "VARVEJ2", u64 number (from 1), u64 bytes of the segment
 *            numbered one less, u8[16] the kernel's boot id, u32 salt (random),
 *            u32 CRC-32 of these
 *   record   at multiples of 8: u32 length, u32 CRC-32 of (u32 salt, u64 number,
 *            payload), payload. A record that does not check ends the segment.
 *            Behind it may be anything: the salt keeps bytes that a user chose,
 *            in a name or a file, from passing for records.
 *   payload  u8 2 data: u64 position in the data file, bytes
 *            u8 3 data synced: all data logged before is on disk in the data file
 *            u8 4 operation: u64 `unique` of the FUSE request that it was done for
 *            (0: none), u64 number of the inode that it made (0: none), changes
 *            u8 5 change of epoch: u32 the one that ends, u32 the one that begins,
 *            u64 next inode number, u8 length and id of the snapshot to come
 *   change   u8 1 put or 0 delete, u16 key length, u32 value length, key, value;
 *            keys are the family's without the mount's id
 * Version 1 ("VARVEJ1") has the head's CRC in the salt's place, then u32 0, no salt
 * in records, and no payloads 4 and 5; one that begins with 0 or 1 is the changes
 * of an operation. It is read, never written.
 */
#ifndef VARVE_FS_JOURNAL_FORMAT_H
#define VARVE_FS_JOURNAL_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"

#define JOURNAL_SEGMENT (4u << 20)
#define JOURNAL_ID_SIZE 16
#define JOURNAL_VERSION 2u
#define JOURNAL_HEAD 48u
#define JOURNAL_RECORD 8u     /* length and CRC */
#define JOURNAL_OPERATION 17u /* what precedes an operation's changes */
#define JOURNAL_KEY_MAX 512u

enum journal_kind {
	JOURNAL_DELETE, /* 0 and 1 begin a change, and payloads of version 1 */
	JOURNAL_PUT,
	JOURNAL_DATA,
	JOURNAL_DATA_SYNCED,
	JOURNAL_OP,
	JOURNAL_EPOCH,
};

static inline size_t journal_align(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* An epoch has ended, and another begun. */
struct journal_epoch {
	uint32_t ended, begun;
	uint64_t next_ino;		    /* 0: not known (version 1) */
	char snapshot_id[SNAPSHOT_ID_SIZE]; /* what becomes of the one that ended; "": nothing */
};

#define JOURNAL_BOOT_SIZE 16
struct journal_head {
	uint64_t number, before;
	uint8_t boot[JOURNAL_BOOT_SIZE];
	uint32_t salt;
	unsigned version; /* JOURNAL_VERSION where it is to be put */
};
void journal_head_put(uint8_t out[JOURNAL_HEAD], const struct journal_head *h);
/* 0; -ENOENT where there is no valid head; -EINVAL where its version is not known. */
MUST_CHECK int journal_head_get(const uint8_t *segment, struct journal_head *out);
/* Zeros where the kernel does not tell. */
void journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE]);

/* CRC-32 of what a record's covers before the payload: of one segment, all have the same. */
uint32_t journal_seed(const struct journal_head *h);
/* The CRC of a record whose payload is in two parts. */
uint32_t journal_record_crc(uint32_t seed, const void *a, size_t a_len, const void *b,
			    size_t b_len);
/* Bytes of the segment, of which `size` are there, up to the end of its last good record. */
size_t journal_segment_end(const uint8_t *segment, size_t size, uint32_t seed);

/* A segment that was read: its records check. */
struct journal_segment {
	const uint8_t *data;
	size_t len; /* up to the end of its last good record */
	uint64_t number;
	unsigned version;
};
struct journal_record {
	enum journal_kind kind; /* DATA, DATA_SYNCED, OP or EPOCH */
	const uint8_t *body;	/* what follows the kind and fields below */
	size_t len;
	uint64_t unique, made_ino; /* OP */
	uint64_t pos;		   /* DATA */
	struct journal_epoch epoch;
};
/* Step from *at, JOURNAL_HEAD at first: 1 a record, 0 the end, -EBADMSG. */
MUST_CHECK int journal_record_next(const struct journal_segment *s, size_t *at,
				   struct journal_record *out);

/* Add a change to an operation. val NULL: deleted. -ENOMEM. */
MUST_CHECK int journal_change(struct buf *op, const void *key, size_t klen, const void *val,
			      size_t vlen);
/* One change, decoded; pointers into the payload. val NULL: deleted. */
struct journal_entry {
	const uint8_t *key, *val;
	uint32_t klen, vlen;
};
uint32_t journal_entry_epoch(const struct journal_entry *e);
struct wire_reader;
/* 1 a change, 0 the end, -EBADMSG. */
MUST_CHECK int journal_entry_next(struct wire_reader *r, struct journal_entry *out);

/* Encoded: what follows the kind in a payload. */
#define JOURNAL_EPOCH_MAX (4 + 4 + 8 + 1 + SNAPSHOT_ID_SIZE)
size_t journal_epoch_put(const struct journal_epoch *e, uint8_t out[JOURNAL_EPOCH_MAX]);
MUST_CHECK int journal_epoch_get(const uint8_t *p, size_t len, struct journal_epoch *out);

#endif
