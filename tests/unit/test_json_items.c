/* Lists are taken item by item, and nothing but a list is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "snapshotd/http/json_items.h"
#include "store/base/buf.h"

#define ITEM_MAX 40

static int append(void *arg, const json_t *item)
{
	char *text = json_dumps(item, JSON_COMPACT);
	int rc = text ? buf_printf(arg, "%s;", text) : -ENOMEM;

	free(text);
	return rc;
}

static void items_come_in_order(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "[]", "" },
		{ " [ ]\n", "" },
		{ "[{}]", "{};" },
		{ "\t[ {\"a\": 1} ,[ ],\n{\"b\":[\"]\"]}\n]  ", "{\"a\":1};[];{\"b\":[\"]\"]};" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf got = BUF_INIT;

		assert_int_equal(json_items_each(cases[i].text, strlen(cases[i].text), ITEM_MAX,
						 append, &got),
				 0);
		assert_string_equal(buf_cstr(&got), cases[i].want);
	}
}

static void what_is_no_list_is_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"{}",
		"[",
		"[{}",
		"[{},",
		"[{},]",
		"[,{}]",
		"[{} {}]",
		"[1]",
		"[{}]]",
		"[{}]x",
		"[]]",
		"[nul",
		"x[]",
		"[{\"a\":}]",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf got = BUF_INIT;

		assert_int_equal(
			json_items_each(cases[i], strlen(cases[i]), ITEM_MAX, append, &got),
			-EBADMSG);
	}
}

static int refuse(void *arg, const json_t *item)
{
	(void)item;
	return ++*(int *)arg == 2 ? -EPIPE : 0;
}

static void a_failure_ends_it(void **state)
{
	int calls = 0;

	(void)state;
	assert_int_equal(json_items_each("[{},{},{}]", 10, ITEM_MAX, refuse, &calls), -EPIPE);
	assert_int_equal(calls, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_come_in_order),
		cmocka_unit_test(what_is_no_list_is_refused),
		cmocka_unit_test(a_failure_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
