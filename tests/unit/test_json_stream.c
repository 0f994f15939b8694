#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>

#include "snapshotd/http/json_stream.h"
#include "store/base/utf8.h"

struct sink {
	struct buf got;
	size_t largest;
	int fail_after; /* writes; 0: never */
};

static int take(void *arg, const void *data, size_t len)
{
	struct sink *s = arg;

	s->largest = MAX(s->largest, len);
	if (s->fail_after && --s->fail_after == 0)
		return -EPIPE;
	return buf_append(&s->got, data, len);
}

static void check(const char *data, size_t len)
{
	CLEANUP(buf_fini_p) struct buf want = BUF_INIT;
	struct sink sink = { .got = BUF_INIT };
	struct json_stream js = { .write = take, .arg = &sink };
	json_t *j;

	assert_int_equal(json_stream_string(&js, data, len), 0);
	assert_int_equal(json_stream_flush(&js), 0);
	assert_true(sink.largest <= 64 << 10);
	j = json_loadb((char *)sink.got.data, sink.got.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	assert_non_null(j);
	assert_int_equal(utf8_append_valid(&want, data, len), 0);
	assert_int_equal(json_string_length(j), want.len);
	if (want.len)
		assert_memory_equal(json_string_value(j), want.data, want.len);
	json_decref(j);
	buf_fini(&sink.got);
	json_stream_fini(&js);
}

static void any_bytes_are_a_string(void **state)
{
	static const char *const texts[] = { "",
					     "plain",
					     "\"quoted\\\"",
					     "\b\f\n\r\t\x01\x1f\x7f",
					     "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
					     "\xff\xc3",
					     "a\xc3(b",
					     "\xed\xa0\x80" };
	char all[256], *big = malloc(300000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		check(texts[i], strlen(texts[i]));
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	check(all, sizeof(all));
	memset(big, 1, 300000); /* six bytes each */
	check(big, 300000);
	memset(big, 'x', 300000);
	check(big, 300000);
	for (size_t i = 0; i + 3 <= 300000; i += 3) /* characters across all borders */
		memcpy(big + i, "\xe2\x82\xac", 3);
	check(big + 1, 299990);
	free(big);
}

static void a_failure_ends_it(void **state)
{
	struct sink sink = { .got = BUF_INIT, .fail_after = 2 };
	struct json_stream js = { .write = take, .arg = &sink };
	char *big = calloc(1, 300000);

	(void)state;
	assert_int_equal(json_stream_string(&js, big, 300000), -EPIPE);
	buf_fini(&sink.got);
	json_stream_fini(&js);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_bytes_are_a_string),
		cmocka_unit_test(a_failure_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
