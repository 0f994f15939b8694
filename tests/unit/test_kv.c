#include <pthread.h>

#include "tests/unit/kv_fixture.h"

static void get_returns_what_was_put_in_each_family(void **state)
{
	struct fixture *fx = *state;
	static const char *const values[] = { "c", "n", "m", "u" };

	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		put_str(fx->kv, (enum kv_family)f, "key", values[f]);
	for (int f = 0; f < KV_FAMILY_COUNT; f++) {
		expect(fx->kv, (enum kv_family)f, "key", values[f]);
		expect(fx->kv, (enum kv_family)f, "kex", NULL);
		expect(fx->kv, (enum kv_family)f, "key2", NULL);
	}
	reopen(fx);
	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		expect(fx->kv, (enum kv_family)f, "key", values[f]);
}

static void batch_applies_puts_deletes_and_ranges_in_order(void **state)
{
	struct fixture *fx = *state;

	for (int i = 0; i < KV_FAMILY_COUNT; i++) {
		enum kv_family f = (enum kv_family)i;
		struct kv_batch *b = kv_batch_new();
		put_str(fx->kv, f, "a", "1");
		put_str(fx->kv, f, "b", "2");
		put_str(fx->kv, f, "c", "3");
		put_str(fx->kv, f, "d", "4");
		kv_batch_del(fx->kv, b, f, "a", 1);
		kv_batch_del_range(fx->kv, b, f, "b", 1, "d", 1);
		kv_batch_put(fx->kv, b, f, "c", 1, "5", 1);
		assert_int_equal(kv_batch_count(b), 3);
		assert_true(kv_batch_bytes(b) >= 5);
		assert_int_equal(kv_write(fx->kv, b, KV_SYNC), 0);
		kv_batch_clear(b);
		assert_int_equal(kv_batch_count(b), 0);
		assert_int_equal(kv_batch_bytes(b), 0);
		kv_batch_free(b);
		expect(fx->kv, f, "a", NULL);
		expect(fx->kv, f, "b", NULL);
		expect(fx->kv, f, "c", "5");
		expect(fx->kv, f, "d", "4");
	}
}

static void iterator_of_a_range_ends_with_it(void **state)
{
	struct fixture *fx = *state;
	static const char *const keys[] = { "a", "b1", "b2", "c", "d" };
	static const char *const wanted[] = { "b1", "b2" };

	for (int f = KV_NODE; f < KV_FAMILY_COUNT; f++) {
		struct kv_iter *it;
		size_t n = 0, len;

		for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
			put_str(fx->kv, (enum kv_family)f, keys[k], "1");
		it = kv_iter_new_range(fx->kv, (enum kv_family)f, "b", 1, "c", 1);
		for (; kv_iter_valid(it); kv_iter_next(it), n++) {
			assert_true(n < ARRAY_SIZE(wanted));
			assert_memory_equal(kv_iter_key(it, &len), wanted[n], 2);
			assert_int_equal(len, 2);
		}
		assert_int_equal(kv_iter_status(it), 0);
		assert_int_equal(n, ARRAY_SIZE(wanted));
		kv_iter_free(it);
		it = kv_iter_new_range(fx->kv, (enum kv_family)f, "b3", 2, "c", 1);
		assert_false(kv_iter_valid(it));
		kv_iter_free(it);
	}
}

static void iterator_walks_keys_in_order_from_a_seek(void **state)
{
	struct fixture *fx = *state;
	static const char *const keys[] = { "a", "b", "c" };

	for (int i = 0; i < KV_FAMILY_COUNT; i++) {
		enum kv_family f = (enum kv_family)i;
		for (size_t k = ARRAY_SIZE(keys); k-- > 0;)
			put_str(fx->kv, f, keys[k], "0123456789");
		for (int heads = 0; heads < 2; heads++) {
			struct kv_iter *it =
				heads ? kv_iter_new_heads(fx->kv, f) : kv_iter_new(fx->kv, f);
			/* Written after the iterator was made: not seen. */
			put_str(fx->kv, f, "bb", "late");
			kv_iter_seek(it, "aa", 2);
			for (size_t k = 1; k < ARRAY_SIZE(keys); k++, kv_iter_next(it)) {
				size_t len;
				assert_true(kv_iter_valid(it));
				const uint8_t *key = kv_iter_key(it, &len);
				assert_int_equal(len, 1);
				assert_int_equal(key[0], keys[k][0]);
				const uint8_t *val = kv_iter_value(it, &len);
				assert_int_equal(len, heads ? KV_HEAD_SIZE : 10);
				assert_memory_equal(val, "0123456789", len);
				assert_int_equal(kv_iter_value_len(it), 10);
			}
			assert_false(kv_iter_valid(it));
			assert_int_equal(kv_iter_status(it), 0);
			kv_iter_seek(it, NULL, 0);
			assert_true(kv_iter_valid(it));
			kv_iter_free(it);
			struct kv_batch *b = kv_batch_new();
			kv_batch_del(fx->kv, b, f, "bb", 2);
			assert_int_equal(kv_write(fx->kv, b, KV_LOG), 0);
			kv_batch_free(b);
		}
	}
}

/* Bytes that this process asked the system to read. */
static uint64_t read_so_far(void)
{
	unsigned long long rchar = 0;
	FILE *io = fopen("/proc/self/io", "r");

	if (!io)
		return 0;
	if (fscanf(io, "rchar: %llu", &rchar) != 1)
		rchar = 0;
	fclose(io);
	return rchar;
}

static void heads_and_presence_read_no_chunk(void **state)
{
	struct fixture *fx = *state;
	char key[16];
	int n = 0;

	put_big_values(fx);
	reopen(fx);
	uint64_t before = read_so_far();
	struct kv_iter *it = kv_iter_new_heads(fx->kv, KV_CHUNK);
	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it), n++)
		assert_int_equal(kv_iter_value_len(it), BIG_VALUE);
	kv_iter_free(it);
	assert_int_equal(n, BIG_COUNT);
	for (int i = 0; i < BIG_COUNT; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		assert_int_equal(kv_has(fx->kv, KV_CHUNK, key, strlen(key)), 1);
	}
	assert_true(read_so_far() - before < BIG_COUNT * BIG_VALUE / 20);
}

static void compaction_gives_back_the_space_of_deleted_chunks(void **state)
{
	struct fixture *fx = *state;
	struct kv_batch *b = kv_batch_new();
	struct kv_stats stats;
	char key[16];

	put_big_values(fx);
	kv_stats(fx->kv, &stats);
	assert_true(stats.live_bytes[KV_CHUNK] >= (uint64_t)BIG_COUNT * BIG_VALUE);
	assert_true(stats.keys[KV_CHUNK] >= BIG_COUNT * 9 / 10);
	uint64_t full = disk_bytes(fx->db);
	for (int i = 0; i < BIG_COUNT; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		if (i % 10 != 0)
			kv_batch_del(fx->kv, b, KV_CHUNK, key, strlen(key));
	}
	assert_int_equal(kv_write(fx->kv, b, KV_LOG), 0);
	kv_batch_free(b);
	assert_int_equal(kv_compact_content(fx->kv), 0);
	/* Obsolete files go when the database next looks; closing it looks. */
	reopen(fx);
	assert_true(disk_bytes(fx->db) < full / 5);
	for (int i = 0; i < BIG_COUNT; i++) {
		struct kv_value v = { 0 };
		snprintf(key, sizeof(key), "%06d", i);
		int r = kv_get(fx->kv, KV_CHUNK, key, strlen(key), &v);
		assert_int_equal(r, i % 10 == 0 ? 0 : -ENOENT);
		kv_value_release(&v);
	}
}

static void small_flushes_leave_no_file_each(void **state)
{
	struct fixture *fx = *state;
	struct dirent *e;
	int files = 0;

	for (int i = 0; i < 20; i++)
		write_small_content(fx);
	DIR *d = opendir(fx->db);
	while ((e = readdir(d)))
		files += strstr(e->d_name, ".sst") != NULL || strstr(e->d_name, ".blob") != NULL;
	closedir(d);
	assert_int_equal(files, 0);
}

struct writer {
	struct kv *kv;
	int id;
};

static void *write_and_flush(void *arg)
{
	struct writer *w = arg;
	char key[32];
	struct kv_value v;

	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "w%d-%d", w->id, i);
		put(w->kv, i % 2 ? KV_NODE : KV_CHUNK, key, key, strlen(key), KV_NO_LOG);
		assert_int_equal(kv_flush_content(w->kv), 0);
		assert_int_equal(kv_get(w->kv, i % 2 ? KV_NODE : KV_CHUNK, key, strlen(key), &v),
				 0);
		kv_value_release(&v);
	}
	return NULL;
}

static void threads_write_and_flush_at_once(void **state)
{
	struct fixture *fx = *state;
	struct writer writers[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		writers[i] = (struct writer){ fx->kv, i };
		assert_int_equal(pthread_create(&threads[i], NULL, write_and_flush, &writers[i]),
				 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(get_returns_what_was_put_in_each_family),
		TEST(batch_applies_puts_deletes_and_ranges_in_order),
		TEST(iterator_of_a_range_ends_with_it),
		TEST(iterator_walks_keys_in_order_from_a_seek),
		TEST(heads_and_presence_read_no_chunk),
		TEST(compaction_gives_back_the_space_of_deleted_chunks),
		TEST(small_flushes_leave_no_file_each),
		TEST(threads_write_and_flush_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
