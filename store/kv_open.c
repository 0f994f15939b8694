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
 * One write buffer set bounds the memory of a writer; the log is bounded so
 * that the families that are written rarely (meta, upper) get flushed, too.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/kv_impl.h"

#define BLOCK_CACHE_DEFAULT (64u << 20)
#define BLOOM_BITS_PER_KEY 10
#define MIN_BLOB_SIZE 256
#define BLOB_FILE_SIZE (256ull << 20)
#define LOG_SIZE_MAX (64ull << 20)
#define OPEN_FILES_MAX 512
#define BACKGROUND_JOBS 2
#define ROCKSDB_LOG_WARN 2

static const char *const family_names[KV_FAMILY_COUNT] = {
	[KV_CHUNK] = "chunk",
	[KV_NODE] = "node",
	[KV_META] = "meta",
	[KV_UPPER] = "upper",
};

static const size_t write_buffer_bytes[KV_FAMILY_COUNT] = {
	[KV_CHUNK] = 64u << 20,
	[KV_NODE] = 16u << 20,
	[KV_META] = 4u << 20,
	[KV_UPPER] = 16u << 20,
};

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), end_len = strlen(end);

	return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/*
 * RocksDB takes a directory without CURRENT for a new database and deletes the
 * files in it. Refuse that where they hold data.
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
	if (f == KV_CHUNK || f == KV_NODE) {
		rocksdb_block_based_options_set_filter_policy(
			t, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
		rocksdb_block_based_options_set_block_size(t, 4096);
	}
	rocksdb_options_set_block_based_table_factory(o, t);
	rocksdb_block_based_options_destroy(t);
}

static void set_database_options(rocksdb_options_t *o, enum kv_mode mode)
{
	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_create_missing_column_families(o, 1);
	rocksdb_options_set_max_background_jobs(o, BACKGROUND_JOBS);
	rocksdb_options_set_max_total_wal_size(o, LOG_SIZE_MAX);
	/* A reader keeps every file open, so that the writer may remove it. */
	rocksdb_options_set_max_open_files(o, mode == KV_READ_ONLY ? -1 : OPEN_FILES_MAX);
	/* Write out early what the flush will have to wait for. */
	rocksdb_options_set_bytes_per_sync(o, 1u << 20);
	rocksdb_options_set_keep_log_file_num(o, 4);
	rocksdb_options_set_max_log_file_size(o, 4u << 20);
	rocksdb_options_set_info_log_level(o, ROCKSDB_LOG_WARN);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
}

static rocksdb_options_t *new_options(enum kv_family f, enum kv_mode mode, rocksdb_cache_t *cache)
{
	rocksdb_options_t *o = rocksdb_options_create();

	set_database_options(o, mode);
	set_table_options(o, f, cache);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_write_buffer_size(o, write_buffer_bytes[f]);
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

static int open_database(struct kv *kv, const char *dir, const struct kv_options *opt,
			 struct error *err)
{
	enum { COUNT = KV_FAMILY_COUNT + 1 };
	rocksdb_column_family_handle_t *handles[COUNT];
	rocksdb_options_t *options[COUNT];
	const char *names[COUNT];
	char *text = NULL;

	for (int f = 0; f < KV_FAMILY_COUNT; f++) {
		names[f] = family_names[f];
		options[f] = new_options((enum kv_family)f, opt->mode, kv->cache);
	}
	names[KV_FAMILY_COUNT] = "default";
	options[KV_FAMILY_COUNT] = new_options(KV_META, opt->mode, kv->cache);
	const rocksdb_options_t *const *const_options = (const rocksdb_options_t *const *)options;
	if (opt->mode == KV_READ_ONLY)
		kv->db = rocksdb_open_as_secondary_column_families(options[KV_META], dir,
								   opt->scratch_dir, COUNT, names,
								   const_options, handles, &text);
	else
		kv->db = rocksdb_open_column_families(options[KV_META], dir, COUNT, names,
						      const_options, handles, &text);
	for (int i = 0; i < COUNT; i++)
		rocksdb_options_destroy(options[i]);
	if (text)
		return open_failure(text, dir, err);
	memcpy(kv->cf, handles, sizeof(kv->cf));
	kv->cf_default = handles[KV_FAMILY_COUNT];
	return 0;
}

static void create_access_options(struct kv *kv)
{
	kv->read = rocksdb_readoptions_create();
	kv->read_scan = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(kv->read_scan, 0);
	kv->read_heads = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(kv->read_heads, 0);
	rocksdb_readoptions_set_iterate_upper_bound(kv->read_heads, "\x01", 1);
	for (int d = KV_NO_LOG; d <= KV_SYNC; d++)
		kv->write[d] = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(kv->write[KV_NO_LOG], 1);
	rocksdb_writeoptions_set_sync(kv->write[KV_SYNC], 1);
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
	pthread_mutex_init(&kv->flush_lock, NULL);
	pthread_mutex_init(&kv->compact_lock, NULL);
	kv->mode = opt->mode;
	kv->cache = rocksdb_cache_create_lru(opt->block_cache_bytes ? opt->block_cache_bytes
								    : BLOCK_CACHE_DEFAULT);
	create_access_options(kv);
	r = open_database(kv, dir, opt, err);
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
	if (kv->db) {
		for (int f = 0; f < KV_FAMILY_COUNT; f++)
			rocksdb_column_family_handle_destroy(kv->cf[f]);
		rocksdb_column_family_handle_destroy(kv->cf_default);
		rocksdb_close(kv->db); /* flushes what is in memory */
	}
	rocksdb_readoptions_destroy(kv->read);
	rocksdb_readoptions_destroy(kv->read_scan);
	rocksdb_readoptions_destroy(kv->read_heads);
	for (int d = KV_NO_LOG; d <= KV_SYNC; d++)
		rocksdb_writeoptions_destroy(kv->write[d]);
	rocksdb_cache_destroy(kv->cache);
	pthread_mutex_destroy(&kv->compact_lock);
	pthread_mutex_destroy(&kv->flush_lock);
	free(kv);
}
