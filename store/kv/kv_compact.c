/*
 * Giving space back. A deleted chunk leaves a tombstone; compacting the sorted
 * tables drops the references to its blob, and RocksDB counts the garbage a blob
 * file then holds and removes files that are garbage whole. Partly used blob files
 * have to be rewritten, which RocksDB does only for the oldest fraction of them. So:
 * compact the tables alone (cheap), then, while a good part of the blobs is garbage,
 * rewrite the oldest quarter; the space needed meanwhile stays a quarter of the
 * store, and what is rewritten becomes the youngest, so some rounds see every file.
 * A small store is done at once.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "store/kv/kv_internal.h"
#include "store/kv/kv_stalls.h"

#define SMALL_BYTES (1ull << 30)
#define GARBAGE_FRACTION 8 /* an eighth of the blobs: worth a rewrite */
#define ROUNDS_MAX 16
#define BOTTOMMOST_FORCE 2 /* BottommostLevelCompaction::kForce */

static uint64_t property(struct kv *kv, enum kv_family f, const char *name)
{
	uint64_t v = 0;

	if (rocksdb_property_int_cf(kv_current(kv)->db, kv_current(kv)->cf[f], name, &v) != 0)
		return 0;
	return v;
}

static int set_blob_gc(struct kv *kv, bool on, const char *age_cutoff)
{
	const char *const keys[] = { "enable_blob_garbage_collection",
				     "blob_garbage_collection_age_cutoff" };
	const char *const values[] = { on ? "true" : "false", age_cutoff };
	char *text = NULL;

	rocksdb_set_options_cf(kv_current(kv)->db, kv_current(kv)->cf[KV_CHUNK], 2, keys, values,
			       &text);
	return text ? kv_failure(kv, "configure", text) : 0;
}

/* The C interface drops the status of a compaction, so ask for failures afterwards. */
static int compact_family(struct kv *kv, enum kv_family f)
{
	if (atomic_load(&kv->compact_stopping))
		return -ECANCELED;
	uint64_t errors = property(kv, f, "rocksdb.background-errors");
	rocksdb_compactoptions_t *opt = rocksdb_compactoptions_create();

	rocksdb_compactoptions_set_bottommost_level_compaction(opt, BOTTOMMOST_FORCE);
	rocksdb_compactoptions_set_exclusive_manual_compaction(opt, 0);
	rocksdb_compact_range_cf_opt(kv_current(kv)->db, kv_current(kv)->cf[f], opt, NULL, 0, NULL,
				     0);
	rocksdb_compactoptions_destroy(opt);
	if (atomic_load(&kv->compact_stopping))
		return -ECANCELED;
	return property(kv, f, "rocksdb.background-errors") != errors ? -EIO : 0;
}

static int collect_blobs(struct kv *kv)
{
	int r = 0;

	for (int round = 0; r == 0 && round < ROUNDS_MAX; round++) {
		uint64_t total = property(kv, KV_CHUNK, "rocksdb.live-blob-file-size");
		uint64_t garbage = property(kv, KV_CHUNK, "rocksdb.live-blob-file-garbage-size");
		if (garbage <= total / GARBAGE_FRACTION)
			break;
		r = set_blob_gc(kv, true, total <= SMALL_BYTES ? "1.0" : "0.25");
		if (r == 0)
			r = compact_family(kv, KV_CHUNK);
	}
	int restored = set_blob_gc(kv, false, "0.0");
	return r < 0 ? r : restored;
}

int kv_compact_content(struct kv *kv)
{
	if (kv->mode == KV_READ_ONLY)
		return -EROFS;
	pthread_mutex_lock(&kv->compact_lock); /* held during I/O: compactions do not overlap */
	int r = compact_family(kv, KV_NODE);
	if (r == 0)
		r = compact_family(kv, KV_CHUNK);
	if (r == 0)
		r = collect_blobs(kv);
	pthread_mutex_unlock(&kv->compact_lock);
	return r;
}

int kv_compact_replaced(struct kv *kv)
{
	if (kv->mode == KV_READ_ONLY)
		return -EROFS;
	pthread_mutex_lock(&kv->compact_lock); /* as above */
	int r = compact_family(kv, KV_CHUNK);
	pthread_mutex_unlock(&kv->compact_lock);
	return r;
}

void kv_compact_stop(struct kv *kv)
{
	atomic_store(&kv->compact_stopping, true);
	rocksdb_disable_manual_compaction(kv_current(kv)->db);
}

void kv_stats(struct kv *kv, struct kv_stats *out)
{
	*out = (struct kv_stats){ 0 };
	for (int i = 0; i < KV_FAMILY_COUNT; i++) {
		enum kv_family f = (enum kv_family)i;
		out->live_bytes[i] = property(kv, f, "rocksdb.live-sst-files-size") +
				     property(kv, f, "rocksdb.live-blob-file-size") +
				     property(kv, f, "rocksdb.cur-size-all-mem-tables");
		out->keys[i] = property(kv, f, "rocksdb.estimate-num-keys");
	}
	out->garbage_bytes = property(kv, KV_CHUNK, "rocksdb.live-blob-file-garbage-size");
	out->keys[KV_CHUNK] /= 2; /* head and blob */
	out->cache_bytes = rocksdb_cache_get_usage(kv->cache);
}

void kv_get_stalls(struct kv *kv, struct kv_stalls *out)
{
	*out = (struct kv_stalls){ 0 };
	for (int i = 0; i < KV_FAMILY_COUNT; i++) {
		enum kv_family f = (enum kv_family)i;

		out->stopped |= property(kv, f, "rocksdb.is-write-stopped") != 0;
		out->rate_bytes =
			MAX(out->rate_bytes, property(kv, f, "rocksdb.actual-delayed-write-rate"));
		out->pending_bytes += property(kv, f, "rocksdb.estimate-pending-compaction-bytes");
		out->errors = MAX(out->errors, property(kv, f, "rocksdb.background-errors"));
	}
}
