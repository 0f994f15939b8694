/*
 * kv.h - the key-value database of a store (RocksDB); the only module that
 * calls RocksDB. Thread-safe unless said otherwise. Failures of the database
 * are reported as -EIO (-EBADMSG for a checksum mismatch, -ENOSPC if the disk
 * is full) with its text in err or the log.
 */
#ifndef VARVE_KV_H
#define VARVE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"

enum kv_family { KV_CHUNK, KV_NODE, KV_META, KV_UPPER, KV_FAMILY_COUNT };

enum kv_mode {
	KV_READ_WRITE, /* one process; creates the database if it is missing */
	KV_READ_ONLY,  /* beside a running daemon too; sees what was flushed or logged at open */
};

struct kv_options {
	enum kv_mode mode;
	size_t block_cache_bytes;  /* 0: 64 MiB */
	size_t write_buffer_bytes; /* of all families together, about; 0: 64 MiB */
	const char *scratch_dir; /* KV_READ_ONLY: a private directory for the reader's own files */
};

struct kv;
/*
 * -EBUSY if another process writes it; -ENOENT if KV_READ_ONLY finds no
 * database; -EBADMSG if it is damaged; -EINVAL if it is not ours.
 */
MUST_CHECK int kv_open(const char *dir, const struct kv_options *opt, struct kv **out,
		       struct error *err);
void kv_close(struct kv *kv);

/* A value that the database lends; release it soon. A zeroed struct is empty. */
struct kv_value {
	const uint8_t *data;
	size_t len;
	void *pin;
};
void kv_value_release(struct kv_value *v);

/*
 * 0, -ENOENT, or a failure. A chunk's value is not checked against the
 * database's checksum, because it has a better one of its own (codec.h); all
 * other values are.
 */
MUST_CHECK int kv_get(struct kv *kv, enum kv_family f, const void *key, size_t klen,
		      struct kv_value *out);
/* 1 present, 0 absent, or a failure. Reads no chunk's value. */
MUST_CHECK int kv_has(struct kv *kv, enum kv_family f, const void *key, size_t klen);

/* What is known of a chunk's value without reading it. */
#define KV_HEAD_SIZE 8
struct kv_head {
	uint8_t bytes[KV_HEAD_SIZE]; /* the first ones */
	size_t len;		     /* of bytes: fewer if the value is shorter */
	uint32_t value_len;
	uint8_t note; /* kv_batch_put_noted */
};
/* 0, -ENOENT, -EBADMSG or a failure. */
MUST_CHECK int kv_get_head(struct kv *kv, const void *key, size_t klen, struct kv_head *out);

/*
 * A group of writes that is applied whole or not at all. Not thread-safe. Keys
 * of the chunk family have at most KV_CHUNK_KEY_MAX bytes.
 */
#define KV_CHUNK_KEY_MAX 64
struct kv_batch;
struct kv_batch *kv_batch_new(void);
void kv_batch_free(struct kv_batch *b);
DEFINE_CLEANUP(struct kv_batch *, kv_batch_free)
void kv_batch_clear(struct kv_batch *b);
/* The batch copies keys and values. */
void kv_batch_put(struct kv *kv, struct kv_batch *b, enum kv_family f, const void *key, size_t klen,
		  const void *val, size_t vlen);
void kv_batch_del(struct kv *kv, struct kv_batch *b, enum kv_family f, const void *key,
		  size_t klen);
/*
 * Put a chunk's value with a note: a byte kept beside it that can be read
 * without it (kv_get_head); kv_batch_put notes 0. kv_batch_note writes a new
 * note alone, for the value whose head was read.
 */
void kv_batch_put_noted(struct kv *kv, struct kv_batch *b, const void *key, size_t klen,
			const void *val, size_t vlen, uint8_t note);
void kv_batch_note(struct kv *kv, struct kv_batch *b, const void *key, size_t klen,
		   const struct kv_head *head, uint8_t note);
/* Delete keys in [from, to). */
void kv_batch_del_range(struct kv *kv, struct kv_batch *b, enum kv_family f, const void *from,
			size_t from_len, const void *to, size_t to_len);
size_t kv_batch_bytes(const struct kv_batch *b);
size_t kv_batch_count(const struct kv_batch *b);

enum kv_durability {
	KV_NO_LOG, /* lost in any crash until kv_flush_content(); chunk and node only */
	/*
	 * Lost in a crash until RocksDB writes it out at some later time; nobody waits
	 * for that. Only for a value that replaces an equivalent one: either will do.
	 */
	KV_REPLACE,
	KV_LOG,	 /* survives a crash of the process */
	KV_SYNC, /* survives a power cut */
};
MUST_CHECK int kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);

/*
 * Make every write to chunk and node so far permanent: sync the log if little was
 * written since the last call (kv_write.c says how), else flush memtables to synced
 * files.
 */
MUST_CHECK int kv_flush_content(struct kv *kv);
/* Wait while several write buffers of content are full, as KV_NO_LOG writes do now and then. */
void kv_throttle(struct kv *kv);
/* Make every KV_LOG write so far survive a power cut. */
MUST_CHECK int kv_sync_log(struct kv *kv);

/* Ordered iteration over one family as of kv_iter_new. Not thread-safe. */
struct kv_iter;
struct kv_iter *kv_iter_new(struct kv *kv, enum kv_family f);
/*
 * The same over [from, to) alone, positioned at its first key; not for the chunk
 * family. It does not read beyond `to`, where many deleted keys may lie.
 */
struct kv_iter *kv_iter_new_range(struct kv *kv, enum kv_family f, const void *from,
				  size_t from_len, const void *to, size_t to_len);
void kv_iter_free(struct kv_iter *it);
DEFINE_CLEANUP(struct kv_iter *, kv_iter_free)
void kv_iter_seek(struct kv_iter *it, const void *key, size_t klen); /* first key >= key */
bool kv_iter_valid(const struct kv_iter *it);
void kv_iter_next(struct kv_iter *it);
/* Pointers live until the next move. */
const uint8_t *kv_iter_key(const struct kv_iter *it, size_t *len);
const uint8_t *kv_iter_value(const struct kv_iter *it, size_t *len);
/*
 * As kv_iter_new, but a pass over the values' heads alone: kv_iter_value lends
 * the first KV_HEAD_SIZE bytes of a value (fewer if it is shorter). For the
 * chunk family this reads no chunk, which kv_iter_new does at every step.
 */
struct kv_iter *kv_iter_new_heads(struct kv *kv, enum kv_family f);
/* Length of the whole value, for either kind of iterator. */
size_t kv_iter_value_len(const struct kv_iter *it);
/* 0, or the failure that ended the iteration. */
MUST_CHECK int kv_iter_status(const struct kv_iter *it);

/*
 * Reclaim the space of deleted and replaced values of chunk and node
 * (compaction; slow). -ECANCELED after kv_compact_stop.
 */
MUST_CHECK int kv_compact_content(struct kv *kv);
/*
 * The quick part of that: remove only files whose values are all garbage. Values
 * that are replaced in the order in which they were written leave such files.
 */
MUST_CHECK int kv_compact_replaced(struct kv *kv);
/* End a run of either and let no more begin, because the store is about to close. */
void kv_compact_stop(struct kv *kv);

/*
 * Copy the database as it is at one moment between the call and its return to `dir`, absolute,
 * which must not exist, but its parent: files that never change by hard links, so on the same
 * filesystem; the rest is little. It has content only as far as kv_flush_content made it
 * permanent. What is there is not synced.
 */
MUST_CHECK int kv_copy(struct kv *kv, const char *dir);

struct kv_stats {
	uint64_t live_bytes[KV_FAMILY_COUNT]; /* estimated: files, blobs, unflushed writes */
	uint64_t garbage_bytes;		/* of these: in blobs that a compaction would give back */
	uint64_t keys[KV_FAMILY_COUNT]; /* estimated */
	uint64_t cache_bytes;
};
void kv_stats(struct kv *kv, struct kv_stats *out);

#endif
