/* near: which names are a slip of the fingers apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/base/macros.h"
#include "store/base/near.h"

static void edit_distance_counts_swaps_as_one(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		size_t distance;
	} cases[] = {
		{ "", "", 0 },	      { "abc", "abc", 0 },  { "abc", "ABC", 0 },
		{ "", "abc", 3 },     { "abc", "", 3 },	    { "abc", "acb", 1 },
		{ "abcd", "acd", 1 }, { "abd", "abcd", 1 }, { "kitten", "sitting", 3 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(near_distance(cases[i].a, cases[i].b), cases[i].distance);
}

static void words_that_are_not_alike_are_not_near(void **state)
{
	static const struct {
		const char *word, *other;
		int near;
	} cases[] = {
		{ "muont", "mount", 1 },
		{ "snapshto", "snapshots", 1 },
		{ "fork", "forks", 1 },
		{ "foo", "fork", 0 },
		{ "test", "exec", 0 },
		{ "x", "ls", 0 },
		{ "up", "cp", 0 },
		{ "work-1", "work-2", 1 },
		{ "debian", "ubuntu", 0 },
		{ "Ubuntu", "ubuntu", 1 },
		{ "", "a", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(near_distance(cases[i].word, cases[i].other) <=
					 near_limit(cases[i].word, cases[i].other),
				 cases[i].near);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edit_distance_counts_swaps_as_one),
		cmocka_unit_test(words_that_are_not_alike_are_not_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
