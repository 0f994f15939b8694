/* bytes_json: names of any bytes as JSON and back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/bytes_json.h"

static void any_bytes_survive_json(void **state)
{
	static const char *const cases[] = { "",      "plain",	"gr\xc3\xbc\xc3\x9f", "\xff",
					     "a\xff", "ab\xff", "abc\xff\xfe",	      "\xc3" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		size_t len = strlen(cases[i]);
		json_t *o = json_object();
		assert_int_equal(bytes_json_set(o, "path", cases[i], len), 0);
		assert_non_null(json_object_get(o, "path"));
		assert_int_equal(json_object_get(o, "pathBase64") != NULL,
				 !bytes_json_is_exact(cases[i], len));
		assert_int_equal(bytes_json_get(o, "path", &b), 0);
		assert_int_equal(b.len, len);
		if (len)
			assert_memory_equal(b.data, cases[i], len);
		json_decref(o);
	}
}

static void bad_base64_is_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	json_t *o = json_pack("{s:s, s:s}", "path", "x", "pathBase64", "a*==");

	(void)state;
	assert_int_equal(bytes_json_get(o, "path", &b), -EBADMSG);
	assert_int_equal(bytes_json_get(o, "other", &b), -ENOENT);
	json_decref(o);
}

/* As two names of one directory may be told apart by these bytes alone. */
static void what_the_text_loses_is_in_base64(void **state)
{
	json_t *o = json_object();

	(void)state;
	assert_int_equal(bytes_json_set(o, "name", "caf\xe9", 4), 0);
	assert_string_equal(json_string_value(json_object_get(o, "name")), "caf\xef\xbf\xbd");
	assert_string_equal(json_string_value(json_object_get(o, "nameBase64")), "Y2Fm6Q==");
	assert_int_equal(bytes_json_set(o, "target", "x\0y", 3), 0);
	assert_int_equal(json_string_length(json_object_get(o, "target")), 3);
	assert_null(json_object_get(o, "targetBase64"));
	json_decref(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_bytes_survive_json),
		cmocka_unit_test(bad_base64_is_refused),
		cmocka_unit_test(what_the_text_loses_is_in_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
