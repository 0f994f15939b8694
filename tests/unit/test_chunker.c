#include "store/chunk/chunker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/macros.h"
#include "store/chunk/chunker_gear.h"

#define DATA_SIZE (32u << 20)

static uint64_t splitmix64(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static void fill_random(uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i + 8 <= len; i += 8) {
		uint64_t v = splitmix64(&seed);
		memcpy(p + i, &v, 8);
	}
}

static int setup(void **state)
{
	uint8_t *data = malloc(DATA_SIZE);

	fill_random(data, DATA_SIZE, 1);
	*state = data;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

struct cuts {
	size_t at[4096]; /* ends of chunks */
	size_t n;
};

static void cut_all(const uint8_t *data, size_t len, struct cuts *out)
{
	size_t at = 0;

	out->n = 0;
	while (at < len) {
		size_t chunk = chunker_cut(data + at, len - at);
		assert_in_range(chunk, 1, CHUNK_MAX);
		at += chunk;
		assert_true(at <= len && out->n < ARRAY_SIZE(out->at));
		out->at[out->n++] = at;
	}
}

/* One byte a time, straight from the definition in chunker.c. */
static size_t reference_cut(const uint8_t *data, size_t len)
{
	uint64_t hash = 0;

	if (len <= CHUNK_MIN)
		return len;
	for (size_t i = CHUNK_MIN - 64; i < len && i < CHUNK_MAX; i++) {
		hash = (hash << 1) + chunker_gear[data[i]];
		uint64_t zeros = i < CHUNK_AVG ? 18 : 14;
		if (i >= CHUNK_MIN && (hash << 1) >> (64 - zeros) == 0)
			return i + 1;
	}
	return MIN(len, (size_t)CHUNK_MAX);
}

static void gear_table_is_what_its_seed_generates(void **state)
{
	uint64_t seed = CHUNKER_GEAR_SEED;
	(void)state;

	for (int i = 0; i < 256; i++)
		assert_true(chunker_gear[i] == splitmix64(&seed));
}

static void cuts_match_the_definition(void **state)
{
	const uint8_t *data = *state;
	static const size_t lengths[] = { 0,	 1,	16383, 16384, 16385,  16386,
					  65535, 65536, 65537, 65539, 262143, 262144 };

	for (size_t at = 0; at < DATA_SIZE - CHUNK_MAX; at += 77777)
		assert_int_equal(chunker_cut(data + at, CHUNK_MAX),
				 reference_cut(data + at, CHUNK_MAX));
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (size_t at = 0; at < 64 * 1001; at += 1001)
			assert_int_equal(chunker_cut(data + at, lengths[i]),
					 reference_cut(data + at, lengths[i]));
	}
}

/* Guards the format: other cuts would store everything anew. */
static void cuts_of_known_data_never_change(void **state)
{
	const uint8_t *data = *state;
	static const size_t known[] = { 58137, 81323, 177314, 244555, 308280, 342316 };
	struct cuts c;

	cut_all(data, 1u << 20, &c);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		assert_int_equal(c.at[i], known[i]);
}

static void lengths_gather_around_the_target(void **state)
{
	const uint8_t *data = *state;
	size_t prev = 0, near = 0, at_max = 0;
	struct cuts c;

	cut_all(data, DATA_SIZE, &c);
	for (size_t i = 0; i < c.n; i++) {
		size_t len = c.at[i] - prev;
		prev = c.at[i];
		assert_true(len > CHUNK_MIN || i == c.n - 1);
		near += len >= CHUNK_AVG / 2 && len <= CHUNK_AVG * 2;
		at_max += len == CHUNK_MAX;
	}
	size_t mean = DATA_SIZE / c.n;
	assert_in_range(mean, 60u << 10, 84u << 10);
	assert_true(near * 100 / c.n >= 80);
	assert_true(at_max <= 1);
}

static void cutting_from_any_earlier_cut_gives_the_same_cuts(void **state)
{
	const uint8_t *data = *state;
	struct cuts all, rest;

	cut_all(data, 4u << 20, &all);
	for (size_t i = 0; i < all.n - 1; i++) {
		cut_all(data + all.at[i], (4u << 20) - all.at[i], &rest);
		assert_int_equal(rest.n, all.n - 1 - i);
		for (size_t j = 0; j < rest.n; j++)
			assert_int_equal(rest.at[j] + all.at[i], all.at[i + 1 + j]);
	}
}

static void insertion_moves_only_cuts_nearby(void **state)
{
	const uint8_t *data = *state;
	const size_t len = 8u << 20, at = 3u << 20, extra = 5;
	uint8_t *edited = malloc(len + extra);
	struct cuts before, after;
	size_t shared = 0;

	memcpy(edited, data, at);
	memset(edited + at, 'x', extra);
	memcpy(edited + at + extra, data + at, len - at);
	cut_all(data, len, &before);
	cut_all(edited, len + extra, &after);
	for (size_t i = 0; i < before.n; i++) {
		size_t want = before.at[i] > at ? before.at[i] + extra : before.at[i];
		for (size_t j = 0; j < after.n; j++)
			shared += after.at[j] == want;
	}
	assert_true(shared + 6 >= before.n);
	free(edited);
}

static void uniform_data_is_cut_at_the_maximum(void **state)
{
	uint8_t *data = malloc(CHUNK_MAX * 2);
	(void)state;

	for (int byte = 0; byte < 256; byte += 51) {
		memset(data, byte, CHUNK_MAX * 2);
		size_t len = chunker_cut(data, CHUNK_MAX * 2);
		assert_true(len == CHUNK_MAX || len == CHUNK_MIN + 1);
	}
	memset(data, 0, CHUNK_MAX * 2);
	assert_int_equal(chunker_cut(data, CHUNK_MAX * 2), CHUNK_MAX);
	free(data);
}

static void zero_means_every_byte_is_zero(void **state)
{
	uint8_t data[200] = { 0 };
	(void)state;

	for (size_t len = 0; len <= sizeof(data); len++) {
		assert_true(chunker_is_zero(data, len));
		for (size_t i = 0; i < len; i++) {
			data[i] = 1;
			assert_false(chunker_is_zero(data, len));
			data[i] = 0;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gear_table_is_what_its_seed_generates),
		cmocka_unit_test(cuts_match_the_definition),
		cmocka_unit_test(cuts_of_known_data_never_change),
		cmocka_unit_test(lengths_gather_around_the_target),
		cmocka_unit_test(cutting_from_any_earlier_cut_gives_the_same_cuts),
		cmocka_unit_test(insertion_moves_only_cuts_nearby),
		cmocka_unit_test(uniform_data_is_cut_at_the_maximum),
		cmocka_unit_test(zero_means_every_byte_is_zero),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
