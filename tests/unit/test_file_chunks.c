/* file_chunks: which extents a file gets, however its bytes are fed. */
#include "tests/unit/ingest_fixture.h"

#include "store/tree/file_chunks.h"

#define KIB 1024u
#define EXTENTS_MAX 4096

struct extents {
	struct {
		uint64_t offset;
		struct extent_rec e;
	} list[EXTENTS_MAX];
	size_t n;
	uint64_t cuts[EXTENTS_MAX];
	size_t n_cuts;
	uint64_t stop_at;
};

static int collect(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct extents *x = arg;

	assert_true(x->n < EXTENTS_MAX);
	if (x->n)
		assert_true(x->list[x->n - 1].offset + x->list[x->n - 1].e.len <= offset);
	x->list[x->n].offset = offset;
	x->list[x->n++].e = *e;
	return 0;
}

static int at_cut(void *arg, uint64_t offset)
{
	struct extents *x = arg;

	x->cuts[x->n_cuts++] = offset;
	return x->stop_at && offset >= x->stop_at;
}

static struct file_chunks *writer(struct scratch *s, struct pool *pool)
{
	struct file_chunks_options opt = {
		.chunks = s->store->chunks, .pool = pool, .emit = collect, .at_cut = at_cut
	};
	struct file_chunks *fc = file_chunks_new(&opt);

	assert_non_null(fc);
	return fc;
}

/* Bytes that do not repeat: an xorshift from seed. */
static uint8_t *noise(size_t len, uint64_t seed)
{
	uint8_t *p = malloc(len);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		p[i] = (uint8_t)(seed >> 32);
	}
	return p;
}

static void assert_same_extents(const struct extents *a, const struct extents *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_int_equal(a->list[i].offset, b->list[i].offset);
		assert_int_equal(a->list[i].e.kind, b->list[i].e.kind);
		assert_int_equal(a->list[i].e.len, b->list[i].e.len);
		if (a->list[i].e.kind == EXTENT_CHUNK)
			assert_true(digest_equal(&a->list[i].e.digest, &b->list[i].e.digest));
	}
}

static void feed_whole(struct file_chunks *fc, struct extents *x, const uint8_t *data, size_t len)
{
	memset(x, 0, sizeof(*x));
	file_chunks_begin(fc, x);
	assert_int_equal(file_chunks_feed(fc, 0, data, len), 0);
	assert_int_equal(file_chunks_end(fc, len), 0);
}

static void extents_follow_the_rules(void **state)
{
	/* One run of data [start, start + len) in a file of `size` bytes. */
	static const struct {
		uint64_t start, len, size;
		size_t n;
		enum extent_kind first;
	} cases[] = {
		{ 0, 1, 1, 1, EXTENT_INLINE },
		{ 0, INLINE_MAX, INLINE_MAX, 1, EXTENT_INLINE },
		{ 0, INLINE_MAX + 1, INLINE_MAX + 1, 1, EXTENT_CHUNK },
		{ 0, 10, 11, 1, EXTENT_CHUNK }, /* a hole at the end */
		{ 4096, 10, 4106, 1, EXTENT_CHUNK },
		{ 0, CHUNK_AVG, CHUNK_AVG, 1, EXTENT_CHUNK },
		{ 100, CHUNK_AVG, CHUNK_AVG + 100, 1, EXTENT_CHUNK },
		{ 0, 0, 0, 0, EXTENT_CHUNK },
		{ 0, 0, 1 << 20, 0, EXTENT_CHUNK },
	};
	struct scratch *s = *state;
	struct file_chunks *fc = writer(s, NULL);
	struct extents *x = malloc(sizeof(*x));
	uint8_t *data = noise(1 << 20, 1);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(x, 0, sizeof(*x));
		file_chunks_begin(fc, x);
		assert_int_equal(file_chunks_feed(fc, cases[i].start, data, cases[i].len), 0);
		assert_int_equal(file_chunks_end(fc, cases[i].size), 0);
		assert_int_equal(x->n, cases[i].n);
		if (x->n) {
			assert_int_equal(x->list[0].e.kind, cases[i].first);
			assert_int_equal(x->list[0].offset, cases[i].start);
			assert_int_equal(x->list[0].e.len, cases[i].len);
		}
	}
	free(data);
	free(x);
	file_chunks_free(fc);
}

/* Zeros [from, to) in a file of 512 KiB; holes is what must be a hole then. */
static void only_aligned_blocks_of_zeros_become_holes(void **state)
{
	static const struct {
		size_t from, to, hole_from, hole_to;
	} cases[] = {
		{ 64 * KIB, 128 * KIB, 64 * KIB, 128 * KIB },
		{ 64 * KIB, 128 * KIB - 1, 0, 0 },
		{ 64 * KIB + 1, 128 * KIB, 0, 0 },
		{ 30 * KIB, 200 * KIB, 64 * KIB, 192 * KIB },
		{ 0, 512 * KIB, 0, 512 * KIB },
		{ 0, 64 * KIB, 0, 64 * KIB },
		{ 448 * KIB, 512 * KIB, 448 * KIB, 512 * KIB },
	};
	struct scratch *s = *state;
	struct file_chunks *fc = writer(s, NULL);
	struct extents *x = malloc(sizeof(*x));

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t *data = noise(512 * KIB, 2);
		uint64_t covered = 0;

		memset(data + cases[i].from, 0, cases[i].to - cases[i].from);
		feed_whole(fc, x, data, 512 * KIB);
		for (size_t k = 0; k < x->n; k++) {
			uint64_t a = x->list[k].offset, b = a + x->list[k].e.len;

			assert_true(b <= cases[i].hole_from || a >= cases[i].hole_to);
			covered += b - a;
		}
		assert_int_equal(covered, 512 * KIB - (cases[i].hole_to - cases[i].hole_from));
		free(data);
	}
	free(x);
	file_chunks_free(fc);
}

static void a_partial_block_of_zeros_at_the_end_stays(void **state)
{
	struct scratch *s = *state;
	struct file_chunks *fc = writer(s, NULL);
	struct extents *x = malloc(sizeof(*x));
	uint8_t *data = calloc(1, 100 * KIB);

	feed_whole(fc, x, data, 100 * KIB);
	assert_int_equal(x->n, 1);
	assert_int_equal(x->list[0].offset, 64 * KIB);
	assert_int_equal(x->list[0].e.len, 36 * KIB);
	free(data);
	free(x);
	file_chunks_free(fc);
}

static void how_bytes_are_fed_does_not_matter(void **state)
{
	struct scratch *s = *state;
	size_t len = 3000 * KIB + 17;
	uint8_t *data = noise(len, 3);
	struct extents *whole = malloc(sizeof(*whole)), *parts = malloc(sizeof(*parts));
	struct pool *pool = pool_new(2, 8);

	memset(data + 640 * KIB, 0, 200 * KIB);
	for (int with_pool = 0; with_pool < 2; with_pool++) {
		struct file_chunks *fc = writer(s, with_pool ? pool : NULL);

		feed_whole(fc, whole, data, len);
		assert_true(whole->n > 8);
		for (unsigned seed = 1; seed < 5; seed++) {
			memset(parts, 0, sizeof(*parts));
			srandom(seed);
			file_chunks_begin(fc, parts);
			for (size_t at = 0, n; at < len; at += n) {
				n = 1 + (size_t)random() % (seed * 50000);
				n = MIN(n, len - at);
				assert_int_equal(file_chunks_feed(fc, at, data + at, n), 0);
			}
			assert_int_equal(file_chunks_end(fc, len), 0);
			assert_same_extents(whole, parts);
		}
		file_chunks_free(fc);
	}
	pool_free(pool);
	free(whole);
	free(parts);
	free(data);
}

static void feeding_may_restart_at_any_cut_of_a_long_segment(void **state)
{
	struct scratch *s = *state;
	size_t len = 2000 * KIB;
	uint8_t *data = noise(len, 4);
	struct extents *whole = malloc(sizeof(*whole)), *tail = malloc(sizeof(*tail));
	struct file_chunks *fc = writer(s, NULL);

	feed_whole(fc, whole, data, len);
	for (size_t i = 1; i < whole->n; i++) {
		uint64_t cut = whole->list[i].offset;

		memset(tail, 0, sizeof(*tail));
		file_chunks_begin(fc, tail);
		assert_int_equal(file_chunks_resume(fc, cut), 0);
		assert_int_equal(file_chunks_feed(fc, cut, data + cut, len - cut), 0);
		assert_int_equal(file_chunks_end(fc, len), 0);
		assert_int_equal(tail->n, whole->n - i);
		assert_int_equal(tail->list[0].offset, cut);
		assert_true(digest_equal(&tail->list[0].e.digest, &whole->list[i].e.digest));
	}
	file_chunks_free(fc);
	free(whole);
	free(tail);
	free(data);
}

static void a_change_touches_only_chunks_near_it(void **state)
{
	struct scratch *s = *state;
	size_t len = 4000 * KIB;
	uint8_t *data = noise(len, 5);
	struct extents *old = malloc(sizeof(*old)), *now = malloc(sizeof(*now));
	struct extents *part = malloc(sizeof(*part));
	struct file_chunks *fc = writer(s, NULL);
	size_t from = 0, k = 0;

	feed_whole(fc, old, data, len);
	data[2000 * KIB] ^= 1;
	feed_whole(fc, now, data, len);
	while (old->list[from + 1].offset <= 2000 * KIB / CHUNK_ZERO_RUN * CHUNK_ZERO_RUN)
		from++;
	/* Feed from the cut before the change until a cut after it is an old one. */
	memset(part, 0, sizeof(*part));
	part->stop_at = 2100 * KIB;
	uint64_t at = old->list[from].offset;
	file_chunks_begin(fc, part);
	assert_int_equal(file_chunks_resume(fc, at), 0);
	assert_int_equal(file_chunks_feed(fc, at, data + at, len - at), 1);
	assert_int_equal(file_chunks_end(fc, len), 0);
	assert_true(part->n >= 1 && part->n < 8);
	while (now->list[k].offset != at)
		k++;
	for (size_t i = 0; i < part->n; i++)
		assert_true(digest_equal(&part->list[i].e.digest, &now->list[k + i].e.digest));
	assert_int_equal(part->cuts[part->n_cuts - 1], now->list[k + part->n].offset);
	file_chunks_free(fc);
	free(old);
	free(now);
	free(part);
	free(data);
}

static void a_stop_drops_the_rest_and_feeding_can_go_on_behind(void **state)
{
	struct scratch *s = *state;
	size_t len = 1000 * KIB;
	uint8_t *data = noise(len, 6);
	struct extents *x = calloc(1, sizeof(*x));
	struct file_chunks *fc = writer(s, NULL);

	x->stop_at = 1;
	file_chunks_begin(fc, x);
	assert_int_equal(file_chunks_feed(fc, 0, data, len), 1);
	assert_int_equal(x->n, 1);
	assert_int_equal(x->n_cuts, 1);
	x->stop_at = 0;
	assert_int_equal(file_chunks_feed(fc, 2 * len, data, 1000), 0);
	assert_int_equal(file_chunks_end(fc, 3 * len), 0);
	assert_int_equal(x->n, 2);
	assert_int_equal(x->list[1].offset, 2 * len);
	assert_int_equal(x->list[1].e.len, 1000);
	file_chunks_free(fc);
	free(x);
	free(data);
}

static void wrong_order_is_refused(void **state)
{
	struct scratch *s = *state;
	struct file_chunks *fc = writer(s, NULL);
	struct extents *x = calloc(1, sizeof(*x));

	file_chunks_begin(fc, x);
	assert_int_equal(file_chunks_feed(fc, 100, "abc", 3), 0);
	assert_int_equal(file_chunks_feed(fc, 101, "abc", 3), -EINVAL);
	assert_int_equal(file_chunks_end(fc, 1000), -EINVAL);
	file_chunks_begin(fc, x);
	assert_int_equal(file_chunks_feed(fc, 0, "abc", 3), 0);
	assert_int_equal(file_chunks_end(fc, 2), -EINVAL);
	file_chunks_begin(fc, x);
	assert_int_equal(file_chunks_feed(fc, UINT64_MAX - 1, "abc", 3), -EINVAL);
	file_chunks_free(fc);
	free(x);
}

static int refuse(void *arg, uint64_t offset, const struct extent_rec *e)
{
	(void)arg;
	(void)offset;
	(void)e;
	return -ENOSPC;
}

static void a_failure_of_emit_is_returned_and_forgotten_at_begin(void **state)
{
	struct scratch *s = *state;
	struct pool *pool = pool_new(2, 8);
	struct file_chunks_options opt = { .chunks = s->store->chunks,
					   .pool = pool,
					   .emit = refuse };
	struct file_chunks *fc = file_chunks_new(&opt);
	uint8_t *data = noise(600 * KIB, 7);

	file_chunks_begin(fc, NULL);
	int r = file_chunks_feed(fc, 0, data, 600 * KIB);
	assert_true(r == 0 || r == -ENOSPC); /* when the first chunk is done is open */
	assert_int_equal(file_chunks_end(fc, 600 * KIB), -ENOSPC);
	file_chunks_begin(fc, NULL);
	assert_int_equal(file_chunks_end(fc, 0), 0);
	file_chunks_free(fc);
	pool_free(pool);
	free(data);
}

static void gathered_chunks_are_the_same_and_stored_by_the_flush(void **state)
{
	struct scratch *s = *state;
	struct file_chunks_options opt = { .chunks = s->store->chunks,
					   .emit = collect,
					   .gather = true };
	struct file_chunks *fc = file_chunks_new(&opt), *plain = writer(s, NULL);
	struct extents *x = calloc(1, sizeof(*x)), *y = calloc(1, sizeof(*y));
	uint8_t *data = noise(3000, 21);

	assert_non_null(fc);
	file_chunks_begin(fc, x);
	assert_int_equal(file_chunks_feed(fc, 0, data, 3000), 0);
	assert_int_equal(file_chunks_end(fc, 3000), 0);
	assert_int_equal(x->n, 1);
	assert_int_equal(chunk_store_has(s->store->chunks, &x->list[0].e.digest), 0);
	assert_int_equal(file_chunks_flush(fc), 0);
	assert_int_equal(chunk_store_has(s->store->chunks, &x->list[0].e.digest), 1);
	assert_int_equal(file_chunks_flush(fc), 0);
	file_chunks_begin(plain, y);
	assert_int_equal(file_chunks_feed(plain, 0, data, 3000), 0);
	assert_int_equal(file_chunks_end(plain, 3000), 0);
	assert_int_equal(y->n, 1);
	assert_true(digest_equal(&x->list[0].e.digest, &y->list[0].e.digest));
	assert_true(file_chunks_new_bytes(fc) > 0);
	assert_int_equal(file_chunks_new_bytes(plain), 0);
	assert_int_equal(file_chunks_flush(plain), 0);
	file_chunks_free(fc);
	file_chunks_free(plain);
	free(x);
	free(y);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extents_follow_the_rules),
		cmocka_unit_test(only_aligned_blocks_of_zeros_become_holes),
		cmocka_unit_test(a_partial_block_of_zeros_at_the_end_stays),
		cmocka_unit_test(how_bytes_are_fed_does_not_matter),
		cmocka_unit_test(feeding_may_restart_at_any_cut_of_a_long_segment),
		cmocka_unit_test(a_change_touches_only_chunks_near_it),
		cmocka_unit_test(a_stop_drops_the_rest_and_feeding_can_go_on_behind),
		cmocka_unit_test(wrong_order_is_refused),
		cmocka_unit_test(a_failure_of_emit_is_returned_and_forgotten_at_begin),
		cmocka_unit_test(gathered_chunks_are_the_same_and_stored_by_the_flush),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
