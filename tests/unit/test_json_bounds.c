/* What a parser would make of JSON text, before it is let at it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "snapshotd/http/json_bounds.h"

static int check(const char *text, size_t values_max)
{
	struct error err = ERROR_INIT;
	size_t values = 0;
	int rc = json_bounds_check(text, strlen(text), values_max, &values, &err);

	if (rc < 0)
		assert_non_null(strstr(error_text(&err), "than"));
	else
		assert_true(values >= 1 && values <= values_max);
	return rc;
}

static void values_are_counted(void **state)
{
	static const struct {
		const char *text;
		size_t values; /* as many as have to be allowed */
	} cases[] = {
		{ "", 1 },
		{ "null", 1 },
		{ "\"a,b[{\\\",,\\\\\"", 1 },
		{ "[1,2,3]", 4 },
		{ "{\"a\":[{},{}],\"b,c\":\"]\"}", 7 },
		{ "[[],[],[]]", 7 },
		{ "\"never ends,,,[[", 1 },
		{ "\"\\", 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(check(cases[i].text, cases[i].values), 0);
		if (cases[i].values > 1)
			assert_int_equal(check(cases[i].text, cases[i].values - 1), -E2BIG);
	}
}

static void levels_are_counted(void **state)
{
	char text[2 * JSON_DEPTH_MAX + 3] = "";

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	assert_int_equal(check(text, 1000), 0);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	assert_int_equal(check(text, 1000), -E2BIG);
	assert_int_equal(check("]]]]}}}}[1]", 10), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_counted),
		cmocka_unit_test(levels_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
