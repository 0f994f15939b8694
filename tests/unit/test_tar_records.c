/* Pax records, as archives of all kinds have them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/archive/tar_header.h"
#include "store/archive/tar_records.h"

static void times_are_exact_or_refused(void **state)
{
	static const struct {
		const char *text;
		int result;
		int64_t sec;
		long nsec;
	} cases[] = {
		{ "0", 0, 0, 0 },
		{ "1.5", 0, 1, 500000000 },
		{ "-1", 0, -1, 0 },
		{ "-0.5", 0, -1, 500000000 },
		{ "-0.000000001", 0, -1, 999999999 },
		{ "-1.25", 0, -2, 750000000 },
		{ "12.1234567899", 0, 12, 123456789 },
		{ "12.", 0, 12, 0 },
		{ "9223372036854775807", 0, INT64_MAX, 0 },
		{ "-9223372036854775808", 0, INT64_MIN, 0 },
		{ "9223372036854775808", -ERANGE, 0, 0 },
		{ "-9223372036854775808.5", -ERANGE, 0, 0 },
		{ "", -EINVAL, 0, 0 },
		{ "-", -EINVAL, 0, 0 },
		{ ".5", -EINVAL, 0, 0 },
		{ "1e3", -EINVAL, 0, 0 },
		{ "1.5x", -EINVAL, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct timespec t = { 7, 7 };
		int r = tar_record_time(cases[i].text, strlen(cases[i].text), &t);

		if (r != cases[i].result)
			fail_msg("%s: %d", cases[i].text, r);
		if (r == 0) {
			assert_int_equal(t.tv_sec, cases[i].sec);
			assert_int_equal(t.tv_nsec, cases[i].nsec);
		}
	}
}

static void names_of_xattrs_come_back(void **state)
{
	static const char *const names[] = { "user.a",	 "user.a=b", "user.%",	   "user.%3D",
					     "user.%25", "user.=%=", "user.%%253D" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct buf coded = BUF_INIT, back = BUF_INIT;

		assert_int_equal(tar_xattr_encode(names[i], strlen(names[i]), &coded), 0);
		assert_null(memchr(coded.data, '=', coded.len));
		assert_int_equal(tar_xattr_decode((char *)coded.data, coded.len, &back), 0);
		assert_string_equal(buf_cstr(&back), names[i]);
		buf_fini(&coded);
		buf_fini(&back);
	}
}

static int count(void *arg, const struct tar_record *r)
{
	int *n = arg;

	*n += r->global ? 100 : 1;
	return 0;
}

/* A header of this type with a body; exact memory, so that a sanitizer sees reads beyond. */
static void put_header(struct buf *b, char type, const char *body, size_t claim)
{
	struct tar_member m = { .type = (enum tar_type)type,
				.path = "x",
				.path_len = 1,
				.size = claim ? claim : strlen(body) };

	assert_int_equal(tar_put_header(b, &m), 0);
	assert_int_equal(buf_append_str(b, body), 0);
	assert_int_equal(tar_put_padding(b, strlen(body)), 0);
}

static int walk(const struct buf *b, size_t len, int *n)
{
	char *exact = malloc(len + 1);

	memcpy(exact, b->data, len);
	*n = 0;
	int r = tar_records_walk(exact, len, count, n);
	free(exact);
	return r;
}

static void headers_are_walked_up_to_the_entry(void **state)
{
	struct buf b = BUF_INIT;
	int n;

	(void)state;
	put_header(&b, 'g', "13 comment=x\n", 0);
	put_header(&b, 'x', "6 a=b\n9 cd=e=f\n", 0);
	put_header(&b, 'L', "a long name", 0);
	put_header(&b, 'x', "6 e=\n\n", 0);
	put_header(&b, '0', "", 0);
	put_header(&b, 'x', "6 n=o\n", 0);
	assert_int_equal(walk(&b, b.len, &n), 0);
	assert_int_equal(n, 103);
	for (size_t len = 0; len < b.len; len++) {
		int r = walk(&b, len, &n);

		assert_true(r == 0 || r == -EBADMSG);
	}
	buf_fini(&b);
}

static void malformed_records_are_refused(void **state)
{
	static const char *const bodies[] = {
		"x",	     "6 a=b",  "7 a=b\n",  "5 a=b\n", "6 abc\n",
		"0 a=b\n",   " a=b\n", "6a=b\n\n", "3 =\n",   "99999999999999999999999 a=b\n",
		"6 a=b\n\n", "1 ",     "2 \n"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		struct buf b = BUF_INIT;
		int n;

		put_header(&b, 'x', bodies[i], 0);
		if (walk(&b, b.len, &n) != -EBADMSG)
			fail_msg("%s", bodies[i]);
		buf_fini(&b);
	}
	struct buf b = BUF_INIT;
	int n;

	put_header(&b, 'x', "6 a=b\n", 100000);
	assert_int_equal(walk(&b, b.len, &n), -EBADMSG);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_exact_or_refused),
		cmocka_unit_test(names_of_xattrs_come_back),
		cmocka_unit_test(headers_are_walked_up_to_the_entry),
		cmocka_unit_test(malformed_records_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
