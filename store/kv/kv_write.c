/*
 * Permanence. Content (chunk, node) is written without the log: an import then
 * writes each byte once, and kv_flush_content moves the memtables to files. But
 * each small checkpoint would leave a small file in either family, and pay for
 * several syncs. So the first LOGGED_CONTENT_MAX bytes after a flush still go to
 * the log, and while that is enough, a flush is one sync of the log. Counters say
 * what is not permanent yet: writes begun and writes done. A flush makes
 * permanent what was done when it began, and has something to do while more has
 * begun than that. So a caller that finds a value and then flushes has it
 * permanent, even if its writer has not returned yet. Flushes wait for each
 * other: the second finds that the first has done its work.
 *
 * Neither counter counts KV_REPLACE. Its value replaces an equivalent one, which
 * is in the same memtable or an older place, and was counted. A flush for that
 * one writes out both, and a crash before it leaves the old one, whose blob file
 * cannot go before a compaction has seen the new one in a file.
 *
 * Locks: compact_lock, then flush_lock; both are held during I/O, which is
 * their purpose. Readers and writers take neither.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/base/wire.h"
#include "store/kv/kv_internal.h"

#define HEAD_SIZE_MAX (HEAD_LENGTH_SIZE + KV_HEAD_SIZE + 1)
#define LOGGED_CONTENT_MAX (8u << 20)
/* Free bytes that a write leaves, for blocks and metadata of the log. */
#define LOG_ROOM (256u << 10)
/* Bytes without the log between two looks; full buffers that make a writer wait. */
#define THROTTLE_EVERY (4u << 20)
#define THROTTLE_FULL_BUFFERS 2
#define THROTTLE_WAIT_US 2000
#define THROTTLE_WAITS_MAX 5000 /* 10 s: then let RocksDB say what is wrong */

struct kv_batch {
	rocksdb_writebatch_t *wb;
	size_t bytes, count;
	bool has_content[KV_CONTENT_COUNT];
};

struct kv_batch *kv_batch_new(void)
{
	struct kv_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->wb = rocksdb_writebatch_create();
	return b;
}

void kv_batch_free(struct kv_batch *b)
{
	if (!b)
		return;
	rocksdb_writebatch_destroy(b->wb);
	free(b);
}

void kv_batch_clear(struct kv_batch *b)
{
	rocksdb_writebatch_clear(b->wb);
	b->bytes = b->count = 0;
	memset(b->has_content, 0, sizeof(b->has_content));
}

static void count_entry(struct kv_batch *b, enum kv_family f, size_t bytes)
{
	b->bytes += bytes;
	b->count++;
	if (f < KV_CONTENT_COUNT)
		b->has_content[f] = true;
}

void kv_batch_put(struct kv *kv, struct kv_batch *b, enum kv_family f, const void *key, size_t klen,
		  const void *val, size_t vlen)
{
	if (f != KV_CHUNK) {
		count_entry(b, f, klen + vlen);
		rocksdb_writebatch_put_cf(b->wb, kv_current(kv)->cf[f], key, klen, val, vlen);
		return;
	}
	kv_batch_put_noted(kv, b, key, klen, val, vlen, 0);
}

static void put_head(struct kv *kv, struct kv_batch *b, const void *key, size_t klen,
		     const struct kv_head *head)
{
	uint8_t value[HEAD_SIZE_MAX];
	size_t len = HEAD_LENGTH_SIZE;
	struct chunk_key k;

	wire_set32(value, head->value_len);
	if (head->len > 0)
		memcpy(value + len, head->bytes, head->len);
	len += head->len;
	if (head->note)
		value[len++] = head->note;
	make_chunk_key(&k, HEAD_PREFIX, key, klen);
	rocksdb_writebatch_put_cf(b->wb, kv_current(kv)->cf[KV_CHUNK], k.b, k.len,
				  (const char *)value, len);
	count_entry(b, KV_CHUNK, k.len + len);
}

void kv_batch_put_noted(struct kv *kv, struct kv_batch *b, const void *key, size_t klen,
			const void *val, size_t vlen, uint8_t note)
{
	struct kv_head head = { .value_len = (uint32_t)vlen, .note = note };
	struct chunk_key k;

	assert(vlen <= UINT32_MAX);
	head.len = MIN(vlen, (size_t)KV_HEAD_SIZE);
	if (head.len > 0)
		memcpy(head.bytes, val, head.len);
	put_head(kv, b, key, klen, &head);
	make_chunk_key(&k, BLOB_PREFIX, key, klen);
	rocksdb_writebatch_put_cf(b->wb, kv_current(kv)->cf[KV_CHUNK], k.b, k.len, val, vlen);
	b->bytes += vlen;
}

void kv_batch_note(struct kv *kv, struct kv_batch *b, const void *key, size_t klen,
		   const struct kv_head *head, uint8_t note)
{
	struct kv_head noted = *head;

	noted.note = note;
	put_head(kv, b, key, klen, &noted);
}

void kv_batch_del(struct kv *kv, struct kv_batch *b, enum kv_family f, const void *key, size_t klen)
{
	struct chunk_key k;

	count_entry(b, f, klen);
	if (f != KV_CHUNK) {
		rocksdb_writebatch_delete_cf(b->wb, kv_current(kv)->cf[f], key, klen);
		return;
	}
	make_chunk_key(&k, HEAD_PREFIX, key, klen);
	rocksdb_writebatch_delete_cf(b->wb, kv_current(kv)->cf[f], k.b, k.len);
	k.b[0] = BLOB_PREFIX;
	rocksdb_writebatch_delete_cf(b->wb, kv_current(kv)->cf[f], k.b, k.len);
}

void kv_batch_del_range(struct kv *kv, struct kv_batch *b, enum kv_family f, const void *from,
			size_t from_len, const void *to, size_t to_len)
{
	count_entry(b, f, from_len + to_len);
	if (f != KV_CHUNK) {
		rocksdb_writebatch_delete_range_cf(b->wb, kv_current(kv)->cf[f], from, from_len, to,
						   to_len);
		return;
	}
	for (int prefix = HEAD_PREFIX; prefix <= BLOB_PREFIX; prefix++) {
		struct chunk_key first, end;
		make_chunk_key(&first, prefix, from, from_len);
		make_chunk_key(&end, prefix, to, to_len);
		rocksdb_writebatch_delete_range_cf(b->wb, kv_current(kv)->cf[f], first.b, first.len,
						   end.b, end.len);
	}
}

size_t kv_batch_bytes(const struct kv_batch *b)
{
	return b->bytes;
}

size_t kv_batch_count(const struct kv_batch *b)
{
	return b->count;
}

static bool batch_has_content(const struct kv_batch *b)
{
	return b->has_content[KV_CHUNK] || b->has_content[KV_NODE];
}

/* Relaxed: the budget is approximate. */
static bool fits_in_log(struct kv *kv, const struct kv_batch *b)
{
	uint64_t used =
		atomic_fetch_add_explicit(&kv->logged_bytes, b->bytes, memory_order_relaxed);

	return used + b->bytes <= LOGGED_CONTENT_MAX;
}

/*
 * Count one more write, begun or done. A reader of the value has, through
 * RocksDB, seen what came before its write, so also the count of begun writes.
 * Release pairs with the acquire in flush_content_locked: a write that is
 * counted as done is in the database.
 */
static void count_content_write(struct content_count *logged, struct content_count *unlogged,
				const struct kv_batch *b, enum kv_durability d, bool is_done)
{
	if (d == KV_REPLACE || !batch_has_content(b))
		return;
	for (int f = 0; f < KV_CONTENT_COUNT; f++) {
		struct content_count *c = d == KV_NO_LOG ? &unlogged[f] : logged;
		if (d == KV_NO_LOG && !b->has_content[f])
			continue;
		atomic_fetch_add_explicit(is_done ? &c->done : &c->begun, 1, memory_order_acq_rel);
		if (d != KV_NO_LOG)
			return;
	}
}

/*
 * Wait if an import outruns the disk. Look every THROTTLE_EVERY bytes, and sleep
 * while several full buffers wait to be written. Without this RocksDB would
 * stall all writers, and so the mounts, for as long as a flush takes.
 */
static void throttle(struct kv *kv, const struct kv_batch *b)
{
	uint64_t before =
		atomic_fetch_add_explicit(&kv->unlogged_bytes, b->bytes, memory_order_relaxed);

	if (before / THROTTLE_EVERY != (before + b->bytes) / THROTTLE_EVERY)
		kv_throttle(kv);
}

void kv_throttle(struct kv *kv)
{
	const struct kv_db *db = kv_current(kv);

	for (int waited = 0; waited < THROTTLE_WAITS_MAX; waited++) {
		uint64_t full = 0;
		for (int f = 0; f < KV_CONTENT_COUNT; f++) {
			uint64_t n = 0;
			if (rocksdb_property_int_cf(db->db, db->cf[f],
						    "rocksdb.num-immutable-mem-table", &n) == 0)
				full += n;
		}
		if (full < THROTTLE_FULL_BUFFERS)
			return;
		usleep(THROTTLE_WAIT_US);
	}
}

/*
 * RocksDB's own check ends the process when a log is synced in which a write has failed, for want
 * of space, say. So it is not asked to until it has taken another write: it begins a new log for
 * that.
 */
static void note_log_write(struct kv *kv, bool failed)
{
	if (atomic_load_explicit(&kv->log_failed, memory_order_acquire) != failed)
		atomic_store_explicit(&kv->log_failed, failed, memory_order_release);
}

/*
 * Whether the log can take so much. Nor may RocksDB write to a log again in which a write has
 * failed, which it does now and then when it has recovered by itself: that, too, ends the process.
 * So a disk that is full is found here. True where the filesystem does not tell.
 */
static bool has_room(const struct kv *kv, size_t bytes)
{
	struct statvfs s;

	return statvfs(kv->dir, &s) < 0 || s.f_blocks == 0 ||
	       (uint64_t)s.f_bfree * s.f_frsize >= bytes + LOG_ROOM;
}

int kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	char *text = NULL;

	if (kv->mode == KV_READ_ONLY)
		return -EROFS;
	if (d == KV_NO_LOG && fits_in_log(kv, b))
		d = KV_LOG;
	if (d >= KV_LOG && !has_room(kv, b->bytes)) {
		text = strdup("IO error: No space left on device");
		return text ? kv_failure(kv, "write", text) : -ENOSPC;
	}
	if (d == KV_NO_LOG)
		throttle(kv, b);
	count_content_write(&kv->logged, kv->unlogged, b, d, false);
	rocksdb_write(kv_current(kv)->db, kv->write[d], b->wb, &text);
	if (d >= KV_LOG)
		note_log_write(kv, text != NULL);
	/* A failed write counts as done, too: nobody must wait for it. */
	count_content_write(&kv->logged, kv->unlogged, b, d, true);
	return text ? kv_failure(kv, "write", text) : 0;
}

static int flush_family(struct kv *kv, enum kv_family f)
{
	rocksdb_flushoptions_t *opt = rocksdb_flushoptions_create();
	char *text = NULL;

	rocksdb_flushoptions_set_wait(opt, 1);
	rocksdb_flush_cf(kv_current(kv)->db, opt, kv_current(kv)->cf[f], &text);
	rocksdb_flushoptions_destroy(opt);
	return text ? kv_failure(kv, "flush", text) : 0;
}

static int flush_content_locked(struct kv *kv)
{
	uint64_t log_done = atomic_load_explicit(&kv->logged.done, memory_order_acquire);
	uint64_t log_begun = atomic_load_explicit(&kv->logged.begun, memory_order_acquire);

	for (int f = 0; f < KV_CONTENT_COUNT; f++) {
		struct content_count *c = &kv->unlogged[f];
		uint64_t now = atomic_load_explicit(&c->done, memory_order_acquire);
		if (atomic_load_explicit(&c->begun, memory_order_acquire) == kv->flushed[f])
			continue;
		int r = flush_family(kv, (enum kv_family)f);
		if (r < 0)
			return r;
		kv->flushed[f] = now;
	}
	if (log_begun == kv->log_synced)
		return 0;
	int r = kv_sync_log(kv);
	if (r == 0)
		kv->log_synced = log_done;
	return r;
}

int kv_flush_content(struct kv *kv)
{
	if (kv->mode == KV_READ_ONLY)
		return -EROFS;
	atomic_store_explicit(&kv->logged_bytes, 0, memory_order_relaxed);
	pthread_mutex_lock(&kv->flush_lock);
	int r = flush_content_locked(kv);
	pthread_mutex_unlock(&kv->flush_lock);
	return r;
}

/* Write nothing to the log, which fails while it takes no writes. */
static int try_log(struct kv *kv)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();

	return b ? kv_write(kv, b, KV_LOG) : -ENOMEM;
}

int kv_sync_log(struct kv *kv)
{
	char *text = NULL;
	int rc;

	if (kv->mode == KV_READ_ONLY)
		return -EROFS;
	if (atomic_load_explicit(&kv->log_failed, memory_order_acquire) && (rc = try_log(kv)) < 0)
		return rc;
	rocksdb_flush_wal(kv_current(kv)->db, 1, &text);
	return text ? kv_failure(kv, "sync log", text) : 0;
}
