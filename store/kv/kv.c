/*
 * Opening: how each family is tuned, and why.
 *
 * chunk: values are large, compressed already and immutable, so they live in
 * blob files and the sorted tables hold only keys; a compaction then moves
 * about 100 bytes a chunk. Blob garbage collection is off except during
 * kv_compact_content: digests are spread evenly, so every ordinary compaction
 * meets references to the oldest blob files and would copy them again and
 * again, though nothing in them is garbage.
 *
 * node: small values, read one at a time: 4 KiB blocks, Bloom filter.
 *
 * Filters and indexes are in parts: one for a table with half a million keys is
 * larger than a shard of the block cache, and would be read whole, with its
 * checksum computed, for every lookup of a key.
 *
 * A reader beside a running writer opens the database read-only: without its
 * lock, replaying the log into memory. (A secondary instance is meant for that,
 * but in RocksDB 7.8 it reads blobs through a dangling reference.) It keeps
 * every table open, so the writer may remove it; blob files are opened late, and
 * if one has gone, or a file goes during the open, it opens the database again.
 *
 * One set of write buffers bounds the memory of a writer; the log is bounded so
 * that the families that are written rarely (meta, upper) get flushed, too.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/log.h"
#include "store/kv/kv_internal.h"

#define BLOCK_CACHE_DEFAULT (64u << 20)
#define WRITE_BUFFERS_DEFAULT (64u << 20)
#define BLOOM_BITS_PER_KEY 10
/*
 * Size of the parts of filters and indexes. A shard of the cache takes no block
 * larger than itself.
 */
#define META_BLOCK_SIZE (32u << 10)
#define CACHE_SHARD_BITS 3
#define MIN_BLOB_SIZE 256
#define BLOB_FILE_SIZE (256ull << 20)
#define LOG_SIZE_MAX (64ull << 20)
#define OPEN_FILES_MAX 512
#define BACKGROUND_JOBS 2
/*
 * Threads that open a family's files, started anew for each family at each open, though most
 * find no file (16 of them, the default, make 60 threads and more). A writer opens at most 16 files
 * of a family here, a reader all.
 */
#define OPENING_THREADS_WRITER 1
#define OPENING_THREADS_READER 2
/* More than the throttle in kv_write.c lets fill up, because full buffers stall every family. */
#define WRITE_BUFFERS_MAX 8
/*
 * RocksDB logs its start and nothing else: Debian compiles its checks in, and one ends the process
 * when two lines cannot be written, as on a full disk. What fails is in what a call returns.
 */
#define ROCKSDB_LOG_START_ONLY 5
/* How often a reader tries to open if files vanish meanwhile; compactions remove them in bursts. */
#define READER_ATTEMPTS 10
#define READER_RETRY_US 20000

static const char *const family_names[KV_FAMILY_COUNT] = {
	[KV_CHUNK] = "chunk",
	[KV_NODE] = "node",
	[KV_META] = "meta",
	[KV_UPPER] = "upper",
};

/*
 * A family's buffer as a part of the memory of all: content may have two full
 * buffers, which are being written out, and one that is being filled (the
 * throttle in kv_write.c).
 */
static const size_t write_buffer_part[KV_FAMILY_COUNT] = {
	[KV_CHUNK] = 4,
	[KV_NODE] = 8,
	[KV_META] = 16,
	[KV_UPPER] = 8,
};

int kv_take_failure(char *text, char *out, size_t out_size)
{
	int r = -EIO;

	snprintf(out, out_size, "%s", text);
	if (strstr(text, "No space left"))
		r = -ENOSPC;
	else if (strstr(text, "Corruption"))
		r = -EBADMSG;
	rocksdb_free(text);
	return r;
}

int kv_failure(struct kv *kv, const char *what, char *text)
{
	char reason[512];
	struct timespec now;
	int r = kv_take_failure(text, reason, sizeof(reason));

	/* On a full disk every operation fails: say so once a second. */
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_exchange_explicit(&kv->last_log_s, now.tv_sec, memory_order_relaxed) !=
	    now.tv_sec)
		log_error("database: %s: %s", what, reason);
	return r;
}

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), end_len = strlen(end);

	return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/*
 * RocksDB takes a directory without CURRENT for a new database and deletes the
 * files in it. Refuse that if they hold data.
 */
static int check_dir(const char *dir, enum kv_mode mode, struct error *err)
{
	bool has_current = false, has_data = false;
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d && errno == ENOENT && mode == KV_READ_WRITE)
		return 0;
	if (!d)
		return error_set_errno(err, -errno, "open database %s", dir);
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, "CURRENT") == 0)
			has_current = true;
		if (ends_with(e->d_name, ".sst") || ends_with(e->d_name, ".blob"))
			has_data = true;
	}
	closedir(d);
	if (has_current)
		return 0;
	if (has_data)
		return error_set(err, -EBADMSG, "%s: damaged: the file CURRENT is missing", dir);
	if (mode == KV_READ_ONLY)
		return error_set(err, -ENOENT, "%s: no database there", dir);
	return 0;
}

static void set_table_options(rocksdb_options_t *o, enum kv_family f, rocksdb_cache_t *cache)
{
	rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();

	rocksdb_block_based_options_set_block_cache(t, cache);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
	rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 1);
	rocksdb_block_based_options_set_format_version(t, 5);
	rocksdb_block_based_options_set_index_type(
		t, rocksdb_block_based_table_index_type_two_level_index_search);
	rocksdb_block_based_options_set_metadata_block_size(t, META_BLOCK_SIZE);
	rocksdb_block_based_options_set_pin_top_level_index_and_filter(t, 1);
	if (f == KV_CHUNK || f == KV_NODE) {
		rocksdb_block_based_options_set_filter_policy(
			t, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
		rocksdb_block_based_options_set_partition_filters(t, 1);
		rocksdb_block_based_options_set_block_size(t, 4096);
	}
	rocksdb_options_set_block_based_table_factory(o, t);
	rocksdb_block_based_options_destroy(t);
}

static void set_database_options(rocksdb_options_t *o, const struct kv *kv)
{
	bool writes = kv->mode == KV_READ_WRITE;

	rocksdb_options_set_create_if_missing(o, writes);
	rocksdb_options_set_create_missing_column_families(o, writes);
	rocksdb_options_set_max_background_jobs(o, BACKGROUND_JOBS);
	rocksdb_options_set_db_write_buffer_size(o, kv->write_buffer_bytes);
	rocksdb_options_set_max_total_wal_size(o, LOG_SIZE_MAX);
	rocksdb_options_set_max_open_files(o, writes ? OPEN_FILES_MAX : -1);
	rocksdb_options_set_max_file_opening_threads(o, writes ? OPENING_THREADS_WRITER
							       : OPENING_THREADS_READER);
	if (!writes)
		rocksdb_options_set_db_log_dir(o, kv->scratch_dir);
	/* Files of a directory were mostly stored one after the other: let the kernel read ahead.
	 */
	rocksdb_options_set_advise_random_on_open(o, 0);
	/* Write out early what the flush will have to wait for. */
	rocksdb_options_set_bytes_per_sync(o, 1u << 20);
	rocksdb_options_set_keep_log_file_num(o, 4);
	rocksdb_options_set_max_log_file_size(o, 4u << 20);
	rocksdb_options_set_info_log_level(o, ROCKSDB_LOG_START_ONLY);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
}

static rocksdb_options_t *new_options(const struct kv *kv, enum kv_family f)
{
	rocksdb_options_t *o = rocksdb_options_create();

	set_database_options(o, kv);
	set_table_options(o, f, kv->cache);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_write_buffer_size(o, kv->write_buffer_bytes / write_buffer_part[f]);
	rocksdb_options_set_max_write_buffer_number(o, WRITE_BUFFERS_MAX);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
	if (f == KV_CHUNK) {
		rocksdb_options_set_enable_blob_files(o, 1);
		rocksdb_options_set_min_blob_size(o, MIN_BLOB_SIZE);
		rocksdb_options_set_blob_file_size(o, BLOB_FILE_SIZE);
		rocksdb_options_set_blob_compression_type(o, rocksdb_no_compression);
	}
	return o;
}

static int open_failure(char *text, const char *dir, struct error *err)
{
	char reason[sizeof(err->msg)];
	bool busy = strstr(text, "lock file") || strstr(text, "lock hold by current process");
	bool invalid = strncmp(text, "Invalid argument", strlen("Invalid argument")) == 0;
	int r = kv_take_failure(text, reason, sizeof(reason));

	if (busy)
		return error_set(err, -EBUSY, "%s: in use by another process", dir);
	return error_set(err, invalid ? -EINVAL : r, "open database %s: %s", dir, reason);
}

/* RocksDB's open with our families; *text is set on failure. */
static void open_families(const struct kv *kv, struct kv_db *db, char **text)
{
	enum { COUNT = KV_FAMILY_COUNT + 1 };
	rocksdb_column_family_handle_t *handles[COUNT] = { NULL };
	rocksdb_options_t *options[COUNT];
	const char *names[COUNT];

	for (int f = 0; f < KV_FAMILY_COUNT; f++) {
		names[f] = family_names[f];
		options[f] = new_options(kv, (enum kv_family)f);
	}
	names[KV_FAMILY_COUNT] = "default";
	options[KV_FAMILY_COUNT] = new_options(kv, KV_META);
	const rocksdb_options_t *const *family_options = (const rocksdb_options_t *const *)options;
	if (kv->mode == KV_READ_ONLY)
		db->db = rocksdb_open_for_read_only_column_families(
			options[KV_META], kv->dir, COUNT, names, family_options, handles, 0, text);
	else
		db->db = rocksdb_open_column_families(options[KV_META], kv->dir, COUNT, names,
						      family_options, handles, text);
	for (int i = 0; i < COUNT; i++)
		rocksdb_options_destroy(options[i]);
	memcpy(db->cf, handles, sizeof(db->cf));
	db->cf_default = handles[KV_FAMILY_COUNT];
}

static void close_database(struct kv_db *db)
{
	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		rocksdb_column_family_handle_destroy(db->cf[f]);
	rocksdb_column_family_handle_destroy(db->cf_default);
	rocksdb_close(db->db); /* flushes what is in memory */
	free(db);
}

static int open_database(struct kv *kv, struct error *err)
{
	struct kv_db *db = calloc(1, sizeof(*db));

	if (!db)
		return error_set_errno(err, -ENOMEM, "open database %s", kv->dir);
	for (int attempt = 1;; attempt++) {
		char *text = NULL;
		open_families(kv, db, &text);
		if (!text)
			break;
		if (kv->mode == KV_READ_ONLY && attempt < READER_ATTEMPTS &&
		    strstr(text, "No such file")) {
			rocksdb_free(text);
			usleep(READER_RETRY_US);
			continue;
		}
		free(db);
		return open_failure(text, kv->dir, err);
	}
	db->older = kv_current(kv);
	atomic_store_explicit(&kv->current, db, memory_order_release);
	return 0;
}

int kv_reopen(struct kv *kv, const struct kv_db *seen)
{
	struct error err = ERROR_INIT;
	int r = 0;

	/* Held during I/O: others that failed on the same database wait for the new one. */
	pthread_mutex_lock(&kv->reopen_lock);
	if (kv_current(kv) == seen)
		r = open_database(kv, &err);
	pthread_mutex_unlock(&kv->reopen_lock);
	if (r < 0)
		log_error("database: %s", error_text(&err));
	return r;
}

static void create_access_options(struct kv *kv)
{
	kv->read = rocksdb_readoptions_create();
	kv->read_chunk = rocksdb_readoptions_create();
	rocksdb_readoptions_set_verify_checksums(kv->read_chunk, 0);
	kv->read_scan = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(kv->read_scan, 0);
	kv->read_heads = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(kv->read_heads, 0);
	rocksdb_readoptions_set_iterate_upper_bound(kv->read_heads, "\x01", 1);
	for (int d = KV_NO_LOG; d <= KV_SYNC; d++)
		kv->write[d] = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(kv->write[KV_NO_LOG], 1);
	rocksdb_writeoptions_disable_WAL(kv->write[KV_REPLACE], 1);
	rocksdb_writeoptions_set_sync(kv->write[KV_SYNC], 1);
}

static rocksdb_cache_t *new_cache(size_t bytes)
{
	rocksdb_lru_cache_options_t *o = rocksdb_lru_cache_options_create();

	rocksdb_lru_cache_options_set_capacity(o, bytes);
	rocksdb_lru_cache_options_set_num_shard_bits(o, CACHE_SHARD_BITS);
	rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(o);

	rocksdb_lru_cache_options_destroy(o);
	return cache;
}

static int init(struct kv *kv, const char *dir, const struct kv_options *opt)
{
	pthread_mutex_init(&kv->flush_lock, NULL);
	pthread_mutex_init(&kv->compact_lock, NULL);
	pthread_mutex_init(&kv->reopen_lock, NULL);
	kv->mode = opt->mode;
	kv->cache = new_cache(opt->block_cache_bytes ?: BLOCK_CACHE_DEFAULT);
	kv->write_buffer_bytes =
		opt->write_buffer_bytes ? opt->write_buffer_bytes : WRITE_BUFFERS_DEFAULT;
	create_access_options(kv);
	kv->dir = strdup(dir);
	kv->scratch_dir = strdup(opt->scratch_dir ? opt->scratch_dir : "");
	return kv->dir && kv->scratch_dir ? 0 : -ENOMEM;
}

int kv_open(const char *dir, const struct kv_options *opt, struct kv **out, struct error *err)
{
	int r;

	if (opt->mode == KV_READ_ONLY && !opt->scratch_dir)
		return error_set(err, -EINVAL, "a read-only database needs a scratch directory");
	r = check_dir(dir, opt->mode, err);
	if (r < 0)
		return r;
	struct kv *kv = calloc(1, sizeof(*kv));
	if (!kv)
		return error_set_errno(err, -ENOMEM, "open database %s", dir);
	r = init(kv, dir, opt);
	if (r < 0)
		error_set_errno(err, r, "open database %s", dir);
	else
		r = open_database(kv, err);
	if (r < 0) {
		kv_close(kv);
		return r;
	}
	*out = kv;
	return 0;
}

void kv_close(struct kv *kv)
{
	if (!kv)
		return;
	for (struct kv_db *db = kv_current(kv), *older; db; db = older) {
		older = db->older;
		close_database(db);
	}
	rocksdb_readoptions_destroy(kv->read);
	rocksdb_readoptions_destroy(kv->read_chunk);
	rocksdb_readoptions_destroy(kv->read_scan);
	rocksdb_readoptions_destroy(kv->read_heads);
	for (int d = KV_NO_LOG; d <= KV_SYNC; d++)
		rocksdb_writeoptions_destroy(kv->write[d]);
	rocksdb_cache_destroy(kv->cache);
	pthread_mutex_destroy(&kv->reopen_lock);
	pthread_mutex_destroy(&kv->compact_lock);
	pthread_mutex_destroy(&kv->flush_lock);
	free(kv->dir);
	free(kv->scratch_dir);
	free(kv);
}
