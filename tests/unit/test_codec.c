#include "store/chunk/codec.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/wire.h"

static void fill_random(uint8_t *p, size_t len)
{
	uint64_t x = 88172645463325252ull;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = (uint8_t)(x >> 32);
	}
}

static void fill_text(uint8_t *p, size_t len)
{
	static const char words[] = "layer upon layer of fine sediment ";

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)words[(i + i / 97) % (sizeof(words) - 1)];
}

enum { RAW = 0, ZSTD = 1, EITHER = -1 };

static void round_trip(int level, const uint8_t *raw, size_t len, int want_codec)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	uint8_t *out = malloc(len + 1);

	assert_int_equal(buf_append_str(&b, "before"), 0);
	assert_int_equal(codec_encode(level, raw, len, &b), 0);
	assert_memory_equal(b.data, "before", 6);
	const uint8_t *frame = b.data + 6;
	size_t frame_len = b.len - 6;
	if (want_codec != EITHER)
		assert_int_equal(frame[0], want_codec);
	assert_true(frame_len <= len + CODEC_HEADER_SIZE);
	assert_int_equal(codec_raw_len(frame, frame_len), len);
	assert_int_equal(codec_decode(frame, frame_len, out, len), 0);
	if (len > 0)
		assert_memory_equal(out, raw, len);
	free(out);
}

static void data_round_trips_at_all_sizes_and_levels(void **state)
{
	static const size_t sizes[] = { 0, 1, 5, 63, 64, 65, 4096, 65536, 262144 };
	static const int levels[] = { 1, CODEC_LEVEL_DEFAULT, 9 };
	uint8_t *raw = malloc(262144);
	(void)state;

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (size_t l = 0; l < ARRAY_SIZE(levels); l++) {
			fill_random(raw, sizes[s]);
			round_trip(levels[l], raw, sizes[s], RAW);
			fill_text(raw, sizes[s]);
			round_trip(levels[l], raw, sizes[s], sizes[s] >= 4096 ? ZSTD : EITHER);
		}
	}
	free(raw);
}

static void only_compressed_frames_carry_a_checksum(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	uint8_t raw[4096], out[4096];
	(void)state;

	fill_random(raw, sizeof(raw));
	assert_int_equal(codec_encode(3, raw, sizeof(raw), &b), 0);
	assert_false(codec_has_checksum(b.data, b.len));
	buf_clear(&b);
	fill_text(raw, sizeof(raw));
	assert_int_equal(codec_encode(3, raw, sizeof(raw), &b), 0);
	assert_true(codec_has_checksum(b.data, b.len));
	for (size_t len = 0; len < 9; len++)
		assert_false(codec_has_checksum(b.data, len));
	b.data[b.len - 1] ^= 1;
	assert_int_equal(codec_decode(b.data, b.len, out, sizeof(out)), -EBADMSG);
}

static void saving_less_than_a_thirty_second_is_stored_raw(void **state)
{
	uint8_t raw[32768];
	(void)state;

	/* The zeros at the end are all that can be saved. */
	fill_random(raw, sizeof(raw));
	memset(raw + sizeof(raw) - 900, 0, 900);
	round_trip(CODEC_LEVEL_DEFAULT, raw, sizeof(raw), RAW);
	memset(raw + sizeof(raw) - 1400, 0, 1400);
	round_trip(CODEC_LEVEL_DEFAULT, raw, sizeof(raw), ZSTD);
}

static void malformed_frames_are_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	uint8_t raw[4096], out[4096];
	(void)state;

	fill_text(raw, sizeof(raw));
	assert_int_equal(codec_encode(3, raw, sizeof(raw), &b), 0);
	for (size_t len = 0; len < b.len; len++) {
		if (len < CODEC_HEADER_SIZE)
			assert_int_equal(codec_raw_len(b.data, len), -EBADMSG);
		assert_int_equal(codec_decode(b.data, len, out, sizeof(out)), -EBADMSG);
	}
	assert_int_equal(codec_decode(b.data, b.len, out, sizeof(out) - 1), -EBADMSG);
	b.data[0] = 3;
	assert_int_equal(codec_raw_len(b.data, b.len), -EBADMSG);
	b.data[0] = 0; /* raw, but shorter than it says */
	assert_int_equal(codec_raw_len(b.data, b.len), -EBADMSG);
	b.data[0] = 1;
	wire_set32(b.data + 1, 100); /* claims less than it holds */
	assert_int_equal(codec_decode(b.data, b.len, out, 100), -EBADMSG);
	wire_set32(b.data + 1, 4097); /* claims more */
	uint8_t more[4097];
	assert_int_equal(codec_decode(b.data, b.len, more, sizeof(more)), -EBADMSG);
}

#define SAMPLES 400u
#define SAMPLE_SIZE 2000u

/* Samples of lines that each has, with a number of its own. */
static uint8_t *common_samples(size_t sizes[SAMPLES])
{
	uint8_t *all = calloc(SAMPLES, SAMPLE_SIZE);
	uint64_t x = 1;

	for (unsigned i = 0; i < SAMPLES; i++) {
		char *p = (char *)all + i * SAMPLE_SIZE;
		for (unsigned n = 0, line = 0; n + 100 < SAMPLE_SIZE; line++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			n += (unsigned)snprintf(p + n, 100, "layer %x is of the year %u: %u\n",
						line * 2654435761u, line * 7919 % 2000,
						(unsigned)(x >> 48));
		}
		sizes[i] = SAMPLE_SIZE;
	}
	return all;
}

static void a_dictionary_helps_and_is_needed(void **state)
{
	size_t sizes[SAMPLES];
	uint8_t *all = common_samples(sizes), out[SAMPLE_SIZE];
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT, plain = BUF_INIT, frame = BUF_INIT;
	CLEANUP(codec_dict_free_p) struct codec_dict *both = NULL, *reader = NULL, *other = NULL;
	(void)state;

	assert_int_equal(codec_dict_train(40000, 9, all, sizes, SAMPLES, &bytes), 0);
	assert_int_equal(codec_dict_new(bytes.data, bytes.len, 9, &both), 0);
	assert_int_equal(codec_dict_new(bytes.data, bytes.len, 0, &reader), 0);
	assert_int_equal(codec_dict_id(both), 40000);
	assert_int_equal(codec_encode(9, all, SAMPLE_SIZE, &plain), 0);
	assert_int_equal(codec_encode_dict(9, both, all, SAMPLE_SIZE, &frame), 0);
	assert_true(frame.len < plain.len * 3 / 4);
	assert_int_equal(codec_frame_dict(frame.data, frame.len), 40000);
	assert_int_equal(codec_frame_dict(plain.data, plain.len), 0);
	assert_true(codec_has_checksum(frame.data, frame.len));
	assert_int_equal(codec_decode_dict(frame.data, frame.len, reader, out, SAMPLE_SIZE), 0);
	assert_memory_equal(out, all, SAMPLE_SIZE);
	/* Not without it, nor with another, nor what needs none with it. */
	assert_int_equal(codec_decode(frame.data, frame.len, out, SAMPLE_SIZE), -EBADMSG);
	assert_int_equal(codec_decode_dict(plain.data, plain.len, reader, out, SAMPLE_SIZE),
			 -EBADMSG);
	buf_clear(&bytes);
	assert_int_equal(codec_dict_train(40001, 9, all, sizes, SAMPLES / 2, &bytes), 0);
	assert_int_equal(codec_dict_new(bytes.data, bytes.len, 0, &other), 0);
	assert_int_equal(codec_decode_dict(frame.data, frame.len, other, out, SAMPLE_SIZE),
			 -EBADMSG);
	/* What was compressed without one afterwards needs none. */
	buf_clear(&plain);
	assert_int_equal(codec_encode(9, all, SAMPLE_SIZE, &plain), 0);
	assert_int_equal(codec_decode(plain.data, plain.len, out, SAMPLE_SIZE), 0);
	free(all);
}

static void bad_dictionaries_are_refused(void **state)
{
	size_t sizes[SAMPLES];
	uint8_t *all = common_samples(sizes);
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;
	struct codec_dict *d;
	(void)state;

	assert_int_equal(codec_dict_train(40000, 9, all, sizes, 2, &bytes), -EINVAL);
	assert_int_equal(codec_dict_new("", 0, 9, &d), -EBADMSG);
	assert_int_equal(codec_dict_new(all, SAMPLE_SIZE, 9, &d), -EBADMSG);
	assert_int_equal(codec_dict_train(40000, 9, all, sizes, SAMPLES, &bytes), 0);
	memset(bytes.data + 8, 0xff, 64); /* its tables */
	assert_int_equal(codec_dict_new(bytes.data, bytes.len, 9, &d), -EBADMSG);
	free(all);
}

static void every_flipped_byte_is_refused_or_harmless(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	uint8_t raw[2048], out[2048];
	(void)state;

	fill_text(raw, sizeof(raw));
	assert_int_equal(codec_encode(3, raw, sizeof(raw), &b), 0);
	for (size_t i = 0; i < b.len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			b.data[i] ^= (uint8_t)(1 << bit);
			int r = codec_decode(b.data, b.len, out, sizeof(out));
			assert_true(r == 0 || r == -EBADMSG);
			b.data[i] ^= (uint8_t)(1 << bit);
		}
	}
}

static void *encode_and_decode(void *arg)
{
	uint8_t *raw = malloc(65536);
	(void)arg;

	fill_text(raw, 65536);
	for (int i = 0; i < 20; i++)
		round_trip(3, raw, 65536, ZSTD);
	free(raw);
	return NULL;
}

static void threads_keep_their_own_contexts(void **state)
{
	pthread_t threads[4];
	(void)state;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, encode_and_decode, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_round_trips_at_all_sizes_and_levels),
		cmocka_unit_test(only_compressed_frames_carry_a_checksum),
		cmocka_unit_test(saving_less_than_a_thirty_second_is_stored_raw),
		cmocka_unit_test(malformed_frames_are_refused),
		cmocka_unit_test(a_dictionary_helps_and_is_needed),
		cmocka_unit_test(bad_dictionaries_are_refused),
		cmocka_unit_test(every_flipped_byte_is_refused_or_harmless),
		cmocka_unit_test(threads_keep_their_own_contexts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
