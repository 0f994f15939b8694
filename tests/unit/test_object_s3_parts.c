/* object_s3: signatures, how fast a service is asked, options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "store/bucket/object_s3.h"
#include "store/bucket/object_s3_pace.h"
#include "store/bucket/object_s3_sign.h"

/* --- signatures --- */

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST "examplebucket.s3.amazonaws.com"
#define DATE "20130524T000000Z"

/* The examples of "Signature Calculations for the Authorization Header" in Amazon's S3 API
 * reference. */
static void signatures_are_those_of_the_reference(void **state)
{
	static const struct s3_header with_range[] = { { "host", HOST },
						       { "range", "bytes=0-9" },
						       { "x-amz-content-sha256", EMPTY },
						       { "x-amz-date", DATE } };
	static const struct s3_header plain[] = { { "host", HOST },
						  { "x-amz-content-sha256", EMPTY },
						  { "x-amz-date", DATE } };
	static const struct {
		const char *path, *query;
		const struct s3_header *headers;
		size_t n;
		const char *names, *signature;
	} cases[] = {
		{ "/test.txt", "", with_range, 4, "host;range;x-amz-content-sha256;x-amz-date",
		  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
		{ "/", "lifecycle=", plain, 3, "host;x-amz-content-sha256;x-amz-date",
		  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
		{ "/", "max-keys=2&prefix=J", plain, 3, "host;x-amz-content-sha256;x-amz-date",
		  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct s3_signing s = { .method = "GET",
					.path = cases[i].path,
					.query = cases[i].query,
					.payload_sha256 = EMPTY,
					.region = "us-east-1",
					.headers = cases[i].headers,
					.n_headers = cases[i].n };
		struct buf got = BUF_INIT, want = BUF_INIT;

		s3_date_format(1369353600, s.date);
		assert_string_equal(s.date, DATE);
		assert_int_equal(s3_sign(&s, "AKIAIOSFODNN7EXAMPLE",
					 "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &got),
				 0);
		assert_true(buf_printf(&want,
				       "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/"
				       "us-east-1/s3/aws4_request, SignedHeaders=%s, Signature=%s",
				       cases[i].names, cases[i].signature) >= 0);
		assert_string_equal(buf_cstr(&got), buf_cstr(&want));
		buf_fini(&got);
		buf_fini(&want);
	}
}

static void a_long_secret_signs(void **state)
{
	struct s3_header h = { "host", HOST };
	struct s3_signing s = { .method = "GET",
				.path = "/",
				.query = "",
				.payload_sha256 = EMPTY,
				.region = "r",
				.date = DATE,
				.headers = &h,
				.n_headers = 1 };
	char secret[200];
	struct buf a = BUF_INIT, b = BUF_INIT;

	(void)state;
	memset(secret, 'x', sizeof(secret) - 1);
	secret[sizeof(secret) - 1] = '\0';
	assert_int_equal(s3_sign(&s, "k", secret, &a), 0);
	secret[150] = 'y'; /* behind a block of the hash */
	assert_int_equal(s3_sign(&s, "k", secret, &b), 0);
	assert_string_not_equal(buf_cstr(&a), buf_cstr(&b));
	buf_fini(&a);
	buf_fini(&b);
}

static void all_but_unreserved_characters_are_encoded(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(s3_encode("a/B-_.~ +=:%\xc3\xa4", false, &b), 0);
	assert_string_equal(buf_cstr(&b), "a%2FB-_.~%20%2B%3D%3A%25%C3%A4");
	buf_clear(&b);
	assert_int_equal(s3_encode("a/b&", true, &b), 0);
	assert_string_equal(buf_cstr(&b), "a/b%26");
	buf_fini(&b);
}

/* --- pace --- */

static void the_window_shrinks_once_for_a_burst_and_grows_with_time(void **state)
{
	struct s3_pace p;

	(void)state;
	s3_pace_init(&p, 64, 1, 1000);
	assert_int_equal(s3_pace_window(&p, 1000), 16);
	for (int i = 0; i < 16; i++) /* all sent before the first refusal came */
		s3_pace_throttled(&p, 1000, 1100 + i);
	assert_int_equal(s3_pace_window(&p, 1200), 11);
	s3_pace_throttled(&p, 1200, 1300);
	assert_int_equal(s3_pace_window(&p, 1300), 7);
	assert_int_equal(s3_pace_window(&p, 4300), 10);
	assert_int_equal(s3_pace_window(&p, 400000), 64);
	for (int64_t t = 500000; t < 500100; t++)
		s3_pace_throttled(&p, t, t);
	assert_int_equal(s3_pace_window(&p, 500100), 1);
}

static void a_small_limit_holds_from_the_start(void **state)
{
	struct s3_pace p;

	(void)state;
	s3_pace_init(&p, 2, 1, 0);
	assert_int_equal(s3_pace_window(&p, 0), 2);
	assert_int_equal(s3_pace_window(&p, 100000), 2);
}

static void pauses_grow_with_jitter_and_have_a_bound(void **state)
{
	struct s3_pace p;
	unsigned last = 0, longest = 0, different = 0;

	(void)state;
	s3_pace_init(&p, 64, 7, 0);
	for (int i = 0; i < 1000; i++) {
		unsigned next = s3_pace_backoff(&p, last, false);
		assert_in_range(next, 50, 5000);
		assert_true(next <= (last > 50 ? last : 50) * 3);
		different += next != last;
		longest = next > longest ? next : longest;
		last = next;
	}
	assert_true(longest > 2000);
	assert_true(different > 900);
	assert_in_range(s3_pace_backoff(&p, 0, true), 200, 600);
}

static unsigned retries_at(struct s3_pace *p, int64_t now)
{
	unsigned n = 0;

	while (s3_pace_take_retry(p, now))
		n++;
	return n;
}

static void retries_are_a_tenth_of_what_succeeds(void **state)
{
	struct s3_pace p;

	(void)state;
	s3_pace_init(&p, 64, 1, 0);
	retries_at(&p, 0);
	assert_int_equal(retries_at(&p, 0), 0);
	for (int i = 0; i < 101; i++)
		s3_pace_succeeded(&p, 0);
	assert_int_equal(retries_at(&p, 0), 10);
	assert_int_equal(retries_at(&p, 3100), 3); /* one a second in any case */
	s3_pace_succeeded(&p, 5);		   /* gives back what it took */
	assert_int_equal(retries_at(&p, 3100), 5);
	for (int i = 0; i < 100000; i++)
		s3_pace_succeeded(&p, 0);
	assert_in_range(retries_at(&p, 3100), 15, 25);
}

static void slow_reads_are_asked_twice_but_few(void **state)
{
	struct s3_pace p;
	unsigned hedges = 0;

	(void)state;
	s3_pace_init(&p, 64, 1, 0);
	assert_int_equal(s3_pace_hedge_after_ms(&p), 500);
	for (int i = 0; i < 128; i++)
		s3_pace_latency(&p, i < 100 ? 2000 : 100000);
	assert_int_equal(s3_pace_hedge_after_ms(&p), 100);
	for (int i = 0; i < 128; i++)
		s3_pace_latency(&p, 2000); /* the slow ones are forgotten */
	assert_int_equal(s3_pace_hedge_after_ms(&p), 20);
	for (int i = 0; i < 128; i++)
		s3_pace_latency(&p, INT64_C(60000000000));
	assert_int_equal(s3_pace_hedge_after_ms(&p), 2000);
	for (int i = 0; i < 1000; i++) {
		s3_pace_earn_hedge(&p);
		hedges += s3_pace_take_hedge(&p);
	}
	assert_in_range(hedges, 45, 55);
}

/* --- options --- */

static void options_that_make_no_sense_are_refused(void **state)
{
	static const struct object_s3_options bad[] = {
		{ .endpoint = "http://h", .bucket = NULL },
		{ .endpoint = "http://h", .bucket = "a/b" },
		{ .endpoint = "http://h", .bucket = "b", .prefix = "/p" },
		{ .endpoint = "http://h", .bucket = "b", .prefix = "p/" },
		{ .endpoint = "http://h", .bucket = "b", .prefix = "a//b" },
		{ .endpoint = "http://h", .bucket = "b", .prefix = "a b" },
		{ .endpoint = "ftp://h", .bucket = "b" },
		{ .endpoint = "http://", .bucket = "b" },
		{ .endpoint = "http://h/path", .bucket = "b" },
		{ .endpoint = "http://u@h", .bucket = "b" },
		{ .endpoint = "http://h", .bucket = "b", .region = "a b" },
		{ .endpoint = "http://h", .bucket = "b", .proxy = "h:80" },
		{ .endpoint = "http://[::1]", .bucket = "b" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct object_store *os = NULL;
		struct error err = ERROR_INIT;

		if (object_s3_open(&bad[i], &os, &err) != -EINVAL || !err.msg[0])
			fail_msg("case %zu: %s", i, error_text(&err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signatures_are_those_of_the_reference),
		cmocka_unit_test(a_long_secret_signs),
		cmocka_unit_test(all_but_unreserved_characters_are_encoded),
		cmocka_unit_test(the_window_shrinks_once_for_a_burst_and_grows_with_time),
		cmocka_unit_test(a_small_limit_holds_from_the_start),
		cmocka_unit_test(pauses_grow_with_jitter_and_have_a_bound),
		cmocka_unit_test(retries_are_a_tenth_of_what_succeeds),
		cmocka_unit_test(slow_reads_are_asked_twice_but_few),
		cmocka_unit_test(options_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
