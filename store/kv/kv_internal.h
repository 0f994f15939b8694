/*
 * kv_internal.h - an opened database as the files of this room see it; nothing else includes it.
 *
 * kv.c opens and closes it and says what a failure means. kv_read.c, kv_write.c, kv_iter.c and
 * kv_compact.c stand on kv.c; none of them calls another.
 *
 * Heads. This RocksDB (7.8) reads the value of a blob at every step of an
 * iterator and for every test of presence. So a chunk is two entries of the
 * chunk family, written by one batch and thus in one memtable and one file:
 *
 *   0x00 key -> u32 length of the value, its first KV_HEAD_SIZE bytes,
 *               u8 note (absent: 0)                                     (head)
 *   0x01 key -> value                                                   (blob)
 *
 * kv_has and kv_iter_new_heads look only at heads. Callers see plain keys.
 */
#ifndef VARVE_KV_INTERNAL_H
#define VARVE_KV_INTERNAL_H

#include <assert.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <string.h>

#include "store/kv/kv.h"

/* Content families, whose writes kv_flush_content makes permanent. */
#define KV_CONTENT_COUNT 2
_Static_assert(KV_CHUNK == 0 && KV_NODE == 1, "content families come first");

/* How many writes have begun, and how many are done. */
struct content_count {
	_Atomic uint64_t begun, done;
};

/* Of the entries of a chunk. */
enum { HEAD_PREFIX = 0, BLOB_PREFIX = 1 };
#define HEAD_LENGTH_SIZE 4

/* A chunk's key with its prefix. */
struct chunk_key {
	char b[1 + KV_CHUNK_KEY_MAX];
	size_t len;
};

static inline void make_chunk_key(struct chunk_key *k, int prefix, const void *key, size_t klen)
{
	assert(klen <= KV_CHUNK_KEY_MAX);
	k->b[0] = (char)prefix;
	if (klen > 0)
		memcpy(k->b + 1, key, klen);
	k->len = 1 + klen;
}

/* An opened database. A reader replaces its own when the writer has removed one of its files. */
struct kv_db {
	rocksdb_t *db;
	rocksdb_column_family_handle_t *cf[KV_FAMILY_COUNT];
	rocksdb_column_family_handle_t *cf_default; /* RocksDB insists on it; empty */
	struct kv_db *older; /* replaced, but values and iterators may still use it */
};

struct kv {
	/* Stored under reopen_lock with release, loaded with acquire; never changes for a writer.
	 */
	_Atomic(struct kv_db *) current;
	pthread_mutex_t reopen_lock;
	char *dir, *scratch_dir; /* what a reader opens again */
	rocksdb_cache_t *cache;
	size_t write_buffer_bytes; /* of all families */
	rocksdb_readoptions_t *read;
	rocksdb_readoptions_t *read_chunk;	    /* one value, without the database's checksum */
	rocksdb_readoptions_t *read_scan;	    /* leaves the block cache alone */
	rocksdb_readoptions_t *read_heads;	    /* as read_scan, ends where the heads end */
	rocksdb_writeoptions_t *write[KV_SYNC + 1]; /* by enum kv_durability */
	enum kv_mode mode;

	/* How kv_flush_content knows what to do; see kv_write.c. */
	struct content_count unlogged[KV_CONTENT_COUNT]; /* writes without the log so far */
	_Atomic uint64_t unlogged_bytes; /* of them; says when to look at the throttle */
	struct content_count logged;	 /* content writes to the log so far */
	_Atomic uint64_t logged_bytes;	 /* of them, since the last flush */
	_Atomic bool log_failed;	 /* so did the last write to the log; see kv_sync_log */
	pthread_mutex_t flush_lock;
	/* guarded by flush_lock: so many of the writes done are permanent already */
	uint64_t flushed[KV_CONTENT_COUNT];
	uint64_t log_synced;

	pthread_mutex_t compact_lock;  /* one kv_compact_content at a time */
	_Atomic bool compact_stopping; /* kv_compact_stop was called */
	_Atomic int64_t last_log_s;    /* failures are logged once a second */
};

static inline struct kv_db *kv_current(struct kv *kv)
{
	return atomic_load_explicit(&kv->current, memory_order_acquire);
}

/* For a reader that failed on `seen`: reopen the database, unless that has been done. */
int kv_reopen(struct kv *kv, const struct kv_db *seen);

/* Turns RocksDB's text into -errno and frees it. */
int kv_take_failure(char *text, char *out, size_t out_size);
/* As above for an operation on an open database; logs it. */
int kv_failure(struct kv *kv, const char *what, char *text);

#endif
