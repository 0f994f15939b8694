/* Canonical JSON: the bytes of RFC 8785, and what has none. */
#include "store/base/jcs.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/vectors.h"

static void check_text(const char *json, const char *expected)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	json_t *j = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	assert_non_null(j);
	assert_int_equal(jcs_dump(j, &b, NULL), 0);
	assert_int_equal(b.len, strlen(expected));
	assert_memory_equal(b.data, expected, b.len);
	json_decref(j);
}

static void strings_have_only_the_escapes_that_they_need(void **state)
{
	(void)state;
	check_text("\"\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001b\\u001F\"",
		   "\"\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001b\\u001f\"");
	check_text("\"\\/\\\"\\\\\\u0022\\u005c\"", "\"/\\\"\\\\\\\"\\\\\"");
	check_text("\"\\u007f\\u0080\\u2028\\uFEFF\"", "\"\x7f\xc2\x80\xe2\x80\xa8\xef\xbb\xbf\"");
	check_text("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"");
	check_text("\"e\\u0301\"", "\"e\xcc\x81\""); /* no normalisation */
	check_text("\"\"", "\"\"");
}

static void members_are_in_utf16_order(void **state)
{
	(void)state;
	/* The example of RFC 8785, 3.2.3. */
	check_text("{\"\\u20ac\": 1, \"\\r\": 2, \"\\ufb33\": 3, \"1\": 4, \"\\ud83d\\ude00\": 5,"
		   " \"\\u0080\": 6, \"\\u00f6\": 7}",
		   "{\"\\r\":2,\"1\":4,\"\xc2\x80\":6,\"\xc3\xb6\":7,\"\xe2\x82\xac\":1,"
		   "\"\xf0\x9f\x98\x80\":5,\"\xef\xac\xb3\":3}");
	check_text("{\"ab\":1,\"a\":2,\"\":3,\"B\":4}", "{\"\":3,\"B\":4,\"a\":2,\"ab\":1}");
	check_text("[{\"b\":{\"d\":1,\"c\":2},\"a\":[]}, [ ] ,{ }]",
		   "[{\"a\":[],\"b\":{\"c\":2,\"d\":1}},[],{}]");
}

static void whole_numbers_up_to_2_53_are_written_plainly(void **state)
{
	(void)state;
	check_text("[0,-0,1,-1,9007199254740991,-9007199254740991,true,false,null]",
		   "[0,0,1,-1,9007199254740991,-9007199254740991,true,false,null]");
}

static void check_refused(const char *json, const char *why)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error err = ERROR_INIT;
	json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);

	assert_non_null(j);
	assert_int_equal(jcs_dump(j, &b, &err), -EINVAL);
	if (!strstr(err.msg, why))
		fail_msg("\"%s\" lacks \"%s\"", err.msg, why);
	json_decref(j);
}

static void other_numbers_are_refused(void **state)
{
	(void)state;
	check_refused("1.5", "1.5 is not a whole");
	check_refused("[1.0]", "not a whole");
	check_refused("{\"a\":{\"b\":1e3}}", "1000 is not a whole");
	check_refused("9007199254740992", "9007199254740992 is beyond");
	check_refused("[[-9007199254740992]]", "beyond");
	check_refused("9223372036854775807", "beyond");
}

static void depth_is_bounded(void **state)
{
	char text[2 * JCS_DEPTH_MAX + 3];
	(void)state;
	size_t n = JCS_DEPTH_MAX;
	memset(text, '[', n);
	memset(text + n, ']', n);
	text[2 * n] = '\0';
	check_text(text, text);
	n++;
	memset(text, '[', n);
	memset(text + n, ']', n);
	text[2 * n] = '\0';
	check_refused(text, "128 levels");
}

static void vectors_are_met(void **state)
{
	json_t *all = vectors_load(), *v;
	size_t i;
	(void)state;

	json_array_foreach(json_object_get(all, "jcs"), i, v) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		char key[DIGEST_HEX_SIZE];
		assert_int_equal(jcs_dump(json_object_get(v, "value"), &b, NULL), 0);
		assert_string_equal(buf_cstr(&b), vector_text(v, "canonical"));
		assert_int_equal(jcs_hash(json_object_get(v, "value"), key, NULL), 0);
		assert_string_equal(key, vector_text(v, "key"));
	}
	assert_true(i >= 5);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_have_only_the_escapes_that_they_need),
		cmocka_unit_test(members_are_in_utf16_order),
		cmocka_unit_test(whole_numbers_up_to_2_53_are_written_plainly),
		cmocka_unit_test(other_numbers_are_refused),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(vectors_are_met),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
