/*
 * journal_internal.h - shared by journal.c (appending), journal_recover.c (what a
 * former process left), journal_format.c (bytes) and journal_apply.c (to the database).
 */
#ifndef VARVE_FS_JOURNAL_INTERNAL_H
#define VARVE_FS_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fs/upper/journal.h"

/* ---- format ---- */

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

/* ---- the file ---- */

struct journal {
	struct kv *kv;
	int dir_fd;
	char *name;
	uint8_t id[JOURNAL_ID_SIZE];
	uint8_t boot[JOURNAL_BOOT_SIZE];

	_Atomic int data_fd;	/* -1: no data is logged */
	const char *data_name;	/* set before data_fd */
	_Atomic int data_error; /* sticks */
	_Atomic bool data_dir_synced;

	pthread_mutex_t lock;	     /* guards what follows */
	pthread_cond_t idle;	     /* not applying, or not held any more */
	int fd;			     /* -1: there is no file */
	uint64_t number;	     /* of the segment that is filled */
	uint32_t seed;		     /* its records' */
	size_t at;		     /* where its next record goes */
	size_t zeroed[2];	     /* bytes of each segment that the file has */
	uint64_t applied;	     /* number of the last segment in the database */
	size_t full_len;	     /* of the one before `number`, where that is not applied */
	struct journal_epoch change; /* the last one in the database */
	bool has_data;		     /* logged data may be nowhere else on disk */
	bool applying;		     /* the thread is at it */
	bool has_thread;	     /* to be joined */
	bool held;		     /* see journal_hold */
	int apply_error;	     /* of the last try, if that failed ... */
	int64_t retry_ms;	     /* ... and on the monotonic clock when there is another */
	uint32_t min_epoch;
	uint64_t appended; /* records */
	uint64_t synced;   /* of these, on disk */
	bool dir_synced;
	int sync_error; /* what the disk has of the file is not known; see journal_sync */
	pthread_t thread;
};
/* Bytes [0, len) of a segment; what the file does not have of them is zeros. */
MUST_CHECK int journal_read_segment(int fd, uint64_t number, uint8_t *out, size_t len);
MUST_CHECK int journal_sync_data_file(struct journal *j);
/* Close and remove. */
MUST_CHECK int journal_remove_file(struct journal *j);

/* ---- to the database ---- */

struct journal_target {
	struct kv *kv;
	const uint8_t *id;
	uint32_t min_epoch;	     /* changes of older ones are left out */
	struct journal_epoch change; /* the last one that the database knows */
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
