#include "store/chunk/chunk_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/wire.h"
#include "store/chunk/chunker.h"
#include "store/chunk/codec.h"

#define CACHE_BYTES (8u << 20)

struct fixture {
	char dir[64];
	struct kv *kv;
	struct guard *guard;
	struct chunk_store *cs;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void open_stores(struct fixture *fx)
{
	struct kv_options opt = { .mode = KV_READ_WRITE };
	struct error err = ERROR_INIT;

	if (kv_open(fx->dir, &opt, &fx->kv, &err) != 0)
		fail_msg("%s", error_text(&err));
	fx->guard = guard_new();
	fx->cs = chunk_store_new(fx->kv, fx->guard, CODEC_LEVEL_DEFAULT, CACHE_BYTES);
	assert_non_null(fx->cs);
}

static void close_stores(struct fixture *fx)
{
	chunk_store_free(fx->cs);
	guard_free(fx->guard);
	kv_close(fx->kv);
}

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	strcpy(fx->dir, "/tmp/test-chunks-XXXXXX");
	assert_non_null(mkdtemp(fx->dir));
	open_stores(fx);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	close_stores(fx);
	nftw(fx->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(fx);
	return 0;
}

/* Chunk number n: its length and bytes follow from n; half of it compresses. */
static size_t make_chunk(unsigned n, uint8_t *out)
{
	uint64_t x = n * 0x9e3779b97f4a7c15ull + 1;
	size_t len = 1 + (n * 7919u) % 60000;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		out[i] = i % 2 ? (uint8_t)n : (uint8_t)(x >> 32);
	}
	return len;
}

static struct digest put(struct fixture *fx, unsigned n, uint32_t *out_stored)
{
	struct chunk_put_result res;
	uint8_t *raw = malloc(CHUNK_MAX);
	size_t len = make_chunk(n, raw);

	assert_int_equal(chunk_store_put(fx->cs, raw, len, &res), 0);
	if (out_stored)
		*out_stored = res.stored_bytes;
	free(raw);
	return res.digest;
}

static void expect_chunk(const struct chunk *c, unsigned n)
{
	uint8_t *raw = malloc(CHUNK_MAX);
	size_t len = make_chunk(n, raw);

	assert_int_equal(c->len, len);
	assert_memory_equal(c->data, raw, len);
	free(raw);
}

static void chunk_is_named_by_its_hash_and_comes_back(void **state)
{
	struct fixture *fx = *state;
	struct digest want;
	struct chunk *c;
	uint8_t *raw = malloc(CHUNK_MAX);

	for (unsigned n = 0; n < 50; n++) {
		size_t len = make_chunk(n, raw);
		struct digest d = put(fx, n, NULL);
		assert_int_equal(hash_bytes(raw, len, &want), 0);
		assert_true(digest_equal(&d, &want));
		for (int again = 0; again < 2; again++) {
			assert_int_equal(chunk_store_get(fx->cs, &d, &c), 0);
			expect_chunk(c, n);
			chunk_unref(c);
		}
	}
	free(raw);
}

static void second_put_stores_nothing(void **state)
{
	struct fixture *fx = *state;
	uint32_t first, second;
	struct digest a = put(fx, 20, &first);
	struct digest b = put(fx, 20, &second);

	assert_true(digest_equal(&a, &b));
	assert_true(first > 0);
	assert_int_equal(second, 0);
	assert_int_equal(kv_flush_content(fx->kv), 0);
	put(fx, 20, &second);
	assert_int_equal(second, 0);
}

/* The i-th of some small chunks, of which some are equal. */
static void batched(struct chunk_batch *b, unsigned i, struct chunk_put_result *out)
{
	unsigned raw[16] = { i % 150 };

	assert_int_equal(chunk_batch_put(b, raw, sizeof(raw), out), 0);
}

static void what_a_batch_has_is_stored_when_it_is_written(void **state)
{
	struct fixture *fx = *state;
	struct chunk_batch *b = chunk_batch_new(fx->cs);
	struct chunk_put_result res[200];
	uint64_t bytes = 0;

	for (unsigned i = 0; i < 200; i++) {
		batched(b, i, &res[i]);
		bytes += res[i].stored_bytes;
		assert_int_equal(res[i].stored_bytes != 0, i < 150);
	}
	/* Some were written on the way; the last one of them all was not. */
	assert_int_equal(chunk_store_has(fx->cs, &res[0].digest), 1);
	assert_int_equal(chunk_store_has(fx->cs, &res[149].digest), 0);
	assert_int_equal(chunk_batch_write(b), 0);
	assert_int_equal(chunk_store_stored(fx->cs), 150);
	for (unsigned i = 0; i < 200; i++) {
		uint32_t raw, stored;

		assert_int_equal(chunk_store_verify(fx->cs, &res[i].digest, &raw, &stored), 0);
		assert_int_equal(raw, 64);
		bytes -= i < 150 ? stored : 0;
	}
	assert_int_equal(bytes, 0);
	/* Another time nothing is new, and a batch that is dropped leaves nothing. */
	batched(b, 7, &res[0]);
	assert_int_equal(res[0].stored_bytes, 0);
	assert_int_equal(chunk_batch_put(b, "dropped", 7, &res[0]), 0);
	chunk_batch_free(b);
	assert_int_equal(chunk_store_has(fx->cs, &res[0].digest), 0);
	assert_int_equal(chunk_store_stored(fx->cs), 150);
}

static void a_batch_of_large_chunks_is_written_soon(void **state)
{
	struct fixture *fx = *state;
	struct chunk_batch *b = chunk_batch_new(fx->cs);
	struct chunk_put_result first, res;
	uint64_t x = 88172645463325252ull;
	uint64_t raw[8192];

	for (unsigned i = 0; i < 5; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(raw); k++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			raw[k] = x;
		}
		assert_int_equal(chunk_batch_put(b, raw, sizeof(raw), i ? &res : &first), 0);
	}
	assert_int_equal(chunk_store_has(fx->cs, &first.digest), 1);
	assert_int_equal(chunk_store_has(fx->cs, &res.digest), 0);
	chunk_batch_free(b);
}

static void largest_chunk_is_accepted(void **state)
{
	struct fixture *fx = *state;
	uint8_t *raw = calloc(1, CHUNK_MAX);
	struct chunk_put_result res;
	struct chunk *c;

	assert_int_equal(chunk_store_put(fx->cs, raw, CHUNK_MAX, &res), 0);
	assert_int_equal(chunk_store_get(fx->cs, &res.digest, &c), 0);
	assert_int_equal(c->len, CHUNK_MAX);
	chunk_unref(c);
	free(raw);
}

static void a_chunk_is_read_into_a_place_past_the_cache(void **state)
{
	struct fixture *fx = *state;
	uint8_t *raw = malloc(CHUNK_MAX), *got = malloc(CHUNK_MAX);
	size_t len = make_chunk(7, raw);
	struct digest d = put(fx, 7, NULL);

	for (int cached = 0; cached < 2; cached++) {
		struct chunk *c = NULL;
		memset(got, 0, len);
		assert_int_equal(chunk_store_read(fx->cs, &d, got, len), 0);
		assert_memory_equal(got, raw, len);
		assert_int_equal(chunk_store_read(fx->cs, &d, got, len - 1), -EBADMSG);
		assert_int_equal(chunk_store_read(fx->cs, &d, got, len + 1), -EBADMSG);
		c = chunk_store_cached(fx->cs, &d);
		assert_int_equal(c != NULL, cached);
		chunk_unref(c);
		assert_int_equal(chunk_store_get(fx->cs, &d, &c), 0); /* for the second time */
		chunk_unref(c);
	}
	free(raw);
	free(got);
}

static void missing_chunk_is_enodata(void **state)
{
	struct fixture *fx = *state;
	struct digest d = { { 1 } };
	struct chunk *c = NULL;
	uint32_t raw, stored;
	uint8_t byte;

	assert_int_equal(chunk_store_get(fx->cs, &d, &c), -ENODATA);
	assert_int_equal(chunk_store_read(fx->cs, &d, &byte, 1), -ENODATA);
	assert_int_equal(chunk_store_verify(fx->cs, &d, &raw, &stored), -ENODATA);
	assert_int_equal(chunk_store_has(fx->cs, &d), 0);
	assert_null(c);
}

static void put_frame(struct fixture *fx, const struct digest *d, const void *frame, size_t len)
{
	struct kv_batch *b = kv_batch_new();

	kv_batch_put(fx->kv, b, KV_CHUNK, d->b, DIGEST_SIZE, frame, len);
	assert_int_equal(kv_write(fx->kv, b, KV_LOG), 0);
	kv_batch_free(b);
}

static void frames_that_lie_are_refused(void **state)
{
	static const uint8_t frames[][16] = {
		{ 7 },			   /* unknown codec */
		{ 0, 200, 0, 0, 0 },	   /* raw, of another length */
		{ 1, 0, 0, 0, 0 },	   /* empty */
		{ 1, 1, 0, 4, 0 },	   /* longer than CHUNK_MAX */
		{ 1, 255, 255, 255, 255 }, /* much longer */
		{ 1, 100, 0, 0, 0, 1, 2 }, /* no zstd */
	};
	struct fixture *fx = *state;
	struct chunk *c = NULL;
	uint32_t raw, stored;
	uint8_t place[100];

	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		struct digest d = { { (uint8_t)i } };
		put_frame(fx, &d, frames[i], sizeof(frames[i]));
		assert_int_equal(chunk_store_get(fx->cs, &d, &c), -EBADMSG);
		assert_int_equal(chunk_store_read(fx->cs, &d, place, sizeof(place)), -EBADMSG);
		assert_int_equal(chunk_store_verify(fx->cs, &d, &raw, &stored), -EBADMSG);
	}
	assert_null(c);
}

/* Flips one bit in each of the database's blob files, at the same place. */
static void damage_blobs(struct fixture *fx, off_t at)
{
	DIR *d = opendir(fx->dir);
	struct dirent *e;
	uint8_t byte;

	while ((e = readdir(d))) {
		if (!strstr(e->d_name, ".blob"))
			continue;
		int fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
	}
	closedir(d);
}

static void flipped_bits_on_disk_are_found_by_a_plain_read(void **state)
{
	struct fixture *fx = *state;
	uint8_t *raw = malloc(2 * CHUNK_MIN);

	for (int compressible = 0; compressible < 2; compressible++) {
		struct chunk_put_result res;
		struct chunk *c = NULL;
		uint64_t x = 99;
		teardown(state);
		setup(state);
		fx = *state;
		for (size_t i = 0; i < 2 * CHUNK_MIN; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			raw[i] = compressible ? (x >> 32) % 5 : (uint8_t)(x >> 32);
		}
		assert_int_equal(chunk_store_put(fx->cs, raw, 2 * CHUNK_MIN, &res), 0);
		assert_true((res.stored_bytes < 2 * CHUNK_MIN) == compressible);
		assert_int_equal(kv_compact_content(fx->kv), 0); /* which moves it to a file */
		close_stores(fx);
		damage_blobs(fx, 5000);
		open_stores(fx);
		assert_int_equal(chunk_store_get(fx->cs, &res.digest, &c), -EBADMSG);
		assert_null(c);
		assert_int_equal(chunk_store_read(fx->cs, &res.digest, raw, 2 * CHUNK_MIN),
				 -EBADMSG);
	}
	free(raw);
}

static void verify_rehashes(void **state)
{
	struct fixture *fx = *state;
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	struct digest good = put(fx, 3, NULL), wrong = { { 9 } };
	uint32_t raw = 0, stored = 0;
	uint8_t bytes[100] = { 0 };

	assert_int_equal(chunk_store_verify(fx->cs, &good, &raw, &stored), 0);
	assert_int_equal(raw, 1 + 3 * 7919u);
	assert_in_range(stored, CODEC_HEADER_SIZE + 1, raw);
	assert_int_equal(codec_encode(3, bytes, sizeof(bytes), &frame), 0);
	put_frame(fx, &wrong, frame.data, frame.len);
	assert_int_equal(chunk_store_verify(fx->cs, &wrong, &raw, &stored), -EBADMSG);
}

static void cache_shares_chunks_and_stays_within_its_bound(void **state)
{
	struct fixture *fx = *state;
	struct digest d = put(fx, 5, NULL);
	struct chunk *a, *b;

	assert_int_equal(chunk_store_get(fx->cs, &d, &a), 0);
	assert_int_equal(chunk_store_get(fx->cs, &d, &b), 0);
	assert_ptr_equal(a, b);
	chunk_unref(b);
	for (unsigned n = 100; n < 900; n++) {
		struct digest other = put(fx, n, NULL);
		assert_int_equal(chunk_store_get(fx->cs, &other, &b), 0);
		chunk_unref(b);
		assert_true(chunk_store_cached_bytes(fx->cs) <= CACHE_BYTES);
	}
	assert_true(chunk_store_cached_bytes(fx->cs) > CACHE_BYTES / 2);
	/* Evicted long ago, but ours. */
	expect_chunk(a, 5);
	chunk_store_free(fx->cs);
	fx->cs = NULL;
	expect_chunk(a, 5);
	chunk_unref(a);
}

static void least_recently_used_chunk_goes_first(void **state)
{
	struct fixture *fx = *state;
	struct digest keep = put(fx, 5, NULL);
	struct chunk *first, *again;

	assert_int_equal(chunk_store_get(fx->cs, &keep, &first), 0);
	for (unsigned n = 100; n < 900; n++) {
		struct digest other = put(fx, n, NULL);
		assert_int_equal(chunk_store_get(fx->cs, &other, &again), 0);
		chunk_unref(again);
		assert_int_equal(chunk_store_get(fx->cs, &keep, &again), 0);
		assert_ptr_equal(again, first);
		chunk_unref(again);
	}
	chunk_unref(first);
}

static void cache_of_nothing_still_reads(void **state)
{
	struct fixture *fx = *state;
	struct chunk_store *cs = chunk_store_new(fx->kv, fx->guard, 3, 0);
	struct digest d = put(fx, 5, NULL);
	struct chunk *c;

	assert_int_equal(chunk_store_get(cs, &d, &c), 0);
	expect_chunk(c, 5);
	chunk_unref(c);
	assert_int_equal(chunk_store_cached_bytes(cs), 0);
	chunk_store_free(cs);
}

#define SHARED_CHUNKS 200

struct reader {
	struct fixture *fx;
	const struct digest *digests;
	unsigned seed;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	struct chunk *held[8] = { NULL };

	for (int i = 0; i < 1000; i++) {
		unsigned n = (unsigned)rand_r(&r->seed) % SHARED_CHUNKS;
		struct chunk **slot = &held[i % 8];
		chunk_unref(*slot);
		assert_int_equal(chunk_store_get(r->fx->cs, &r->digests[n], slot), 0);
		assert_int_equal((*slot)->len, 1 + (n * 7919u) % 60000);
	}
	for (int i = 0; i < 8; i++)
		chunk_unref(held[i]);
	return NULL;
}

static void threads_share_the_cache(void **state)
{
	struct fixture *fx = *state;
	struct digest digests[SHARED_CHUNKS];
	struct reader readers[4];
	pthread_t threads[4];

	/* A small one, so that they evict each other's chunks. */
	chunk_store_free(fx->cs);
	fx->cs = chunk_store_new(fx->kv, fx->guard, 1, 2u << 20);
	for (unsigned n = 0; n < SHARED_CHUNKS; n++)
		digests[n] = put(fx, n, NULL);
	for (unsigned i = 0; i < 4; i++) {
		readers[i] = (struct reader){ fx, digests, i };
		assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &readers[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(chunk_store_cached_bytes(fx->cs) <= 2u << 20);
}

/* Writers keep putting chunks that a collector, who finds no record, sweeps. */
struct sweeper {
	struct fixture *fx;
	_Atomic bool stop;
	_Atomic int swept;
};

static void sweep_all(struct sweeper *sw)
{
	struct fixture *fx = sw->fx;
	struct kv_iter *it = kv_iter_new_heads(fx->kv, KV_CHUNK);
	struct kv_batch *b = kv_batch_new();
	struct digest d;
	size_t len;

	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it)) {
		const uint8_t *key = kv_iter_key(it, &len);
		assert_int_equal(len, DIGEST_SIZE);
		memcpy(d.b, key, DIGEST_SIZE);
		if (!guard_sweep_lock(fx->guard, &d))
			continue;
		kv_batch_clear(b);
		kv_batch_del(fx->kv, b, KV_CHUNK, d.b, DIGEST_SIZE);
		assert_int_equal(kv_write(fx->kv, b, KV_NO_LOG), 0);
		guard_sweep_unlock(fx->guard, &d);
		atomic_fetch_add(&sw->swept, 1);
	}
	assert_int_equal(kv_iter_status(it), 0);
	kv_iter_free(it);
	kv_batch_free(b);
}

static void *sweep_often(void *arg)
{
	struct sweeper *sw = arg;

	while (!atomic_load(&sw->stop)) {
		assert_int_equal(guard_collect_begin(sw->fx->guard, 1u << 16), 0);
		guard_collect_wait(sw->fx->guard);
		sweep_all(sw);
		guard_collect_end(sw->fx->guard);
	}
	return NULL;
}

static void *put_and_check(void *arg)
{
	struct reader *r = arg;

	for (int i = 0; i < 100; i++) {
		struct guard_session s;
		struct digest mine[5];
		guard_session_begin(r->fx->guard, &s);
		for (int k = 0; k < 5; k++)
			mine[k] = put(r->fx, (unsigned)rand_r(&r->seed) % 60, NULL);
		/* Until the session ends each of them stays. */
		for (int k = 0; k < 5; k++)
			assert_int_equal(chunk_store_has(r->fx->cs, &mine[k]), 1);
		guard_session_end(r->fx->guard, &s);
	}
	return NULL;
}

static void chunks_of_running_sessions_are_not_swept(void **state)
{
	struct fixture *fx = *state;
	struct sweeper sw = { .fx = fx };
	struct reader writers[3];
	pthread_t threads[3], sweeper;

	assert_int_equal(pthread_create(&sweeper, NULL, sweep_often, &sw), 0);
	for (unsigned i = 0; i < 3; i++) {
		writers[i] = (struct reader){ fx, NULL, i };
		assert_int_equal(pthread_create(&threads[i], NULL, put_and_check, &writers[i]), 0);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&sw.stop, true);
	pthread_join(sweeper, NULL);
	assert_true(atomic_load(&sw.swept) > 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(chunk_is_named_by_its_hash_and_comes_back),
		TEST(second_put_stores_nothing),
		TEST(what_a_batch_has_is_stored_when_it_is_written),
		TEST(a_batch_of_large_chunks_is_written_soon),
		TEST(largest_chunk_is_accepted),
		TEST(a_chunk_is_read_into_a_place_past_the_cache),
		TEST(missing_chunk_is_enodata),
		TEST(frames_that_lie_are_refused),
		TEST(flipped_bits_on_disk_are_found_by_a_plain_read),
		TEST(verify_rehashes),
		TEST(cache_shares_chunks_and_stays_within_its_bound),
		TEST(least_recently_used_chunk_goes_first),
		TEST(cache_of_nothing_still_reads),
		TEST(threads_share_the_cache),
		TEST(chunks_of_running_sessions_are_not_swept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
