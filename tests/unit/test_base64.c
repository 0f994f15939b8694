/* Base64: RFC 4648's examples, every length, and one encoding for each value. */
#include "store/base/base64.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *text, *encoded;
} examples[] = {
	{ "", "" },
	{ "f", "Zg==" },
	{ "fo", "Zm8=" },
	{ "foo", "Zm9v" },
	{ "foob", "Zm9vYg==" },
	{ "fooba", "Zm9vYmE=" },
	{ "foobar", "Zm9vYmFy" },
	{ "\xff\xef\xbe", "/+++" },
};

static void examples_of_the_rfc_go_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		const char *text = examples[i].text, *encoded = examples[i].encoded;
		assert_int_equal(base64_encode(text, strlen(text), &b), 0);
		assert_string_equal(buf_cstr(&b), encoded);
		buf_clear(&b);
		assert_int_equal(base64_decode(encoded, &b), 0);
		assert_string_equal(buf_cstr(&b), text);
		assert_int_equal(base64_check(encoded, strlen(encoded)), strlen(text));
	}
}

static void bytes_of_any_length_survive(void **state)
{
	uint8_t bytes[300];
	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 151 + i / 7);
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
		CLEANUP(buf_fini_p) struct buf back = BUF_INIT;
		assert_int_equal(base64_encode(bytes, n, &text), 0);
		assert_int_equal(text.len, (n + 2) / 3 * 4);
		assert_int_equal(buf_append(&back, "kept", 4), 0);
		assert_int_equal(base64_decode_n((const char *)text.data, text.len, &back), 0);
		assert_int_equal(back.len, n + 4);
		assert_memory_equal(back.data, "kept", 4);
		assert_true(n == 0 || memcmp(back.data + 4, bytes, n) == 0);
	}
}

static void anything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"A",	 "AB",	 "ABC",	    "=",	  "==",	      "====",
		"A===",	 "AB=C", "=AAA",    "Zg==Zg==",	  "Zh==",     "Zm9=",
		"Zm8",	 "Zg=",	 "Zg",	    "Zm9v\n",	  "\nZm9v",   "Zm 9",
		"Zm9v ", "Zm-_", "Zm9\xc3", "Zm9vYg==\n", "Zm9v====", "Z=9v",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		assert_int_equal(buf_append(&b, "kept", 4), 0);
		if (base64_decode(bad[i], &b) != -EINVAL ||
		    base64_check(bad[i], strlen(bad[i])) >= 0)
			fail_msg("\"%s\" is taken", bad[i]);
		assert_int_equal(b.len, 4);
	}
	assert_true(base64_check("Zm9\0", 4) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(examples_of_the_rfc_go_both_ways),
		cmocka_unit_test(bytes_of_any_length_survive),
		cmocka_unit_test(anything_else_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
