#include "store/base/bulk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

/* Pages that the process has mapped. */
static unsigned long mapped(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &pages), 1);
	fclose(f);
	return pages;
}

static void it_is_zeroed_and_begins_where_a_huge_page_does(void **state)
{
	static const size_t sizes[] = { 1, MIB, 2 * MIB, 3 * MIB + 5, 4 * MIB };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *p = bulk_alloc(sizes[i]);

		assert_non_null(p);
		for (size_t at = 0; at < sizes[i]; at += 4096)
			assert_int_equal(p[at], 0);
		assert_int_equal(p[sizes[i] - 1], 0);
		memset(p, 1, sizes[i]);
		if (sizes[i] >= 2 * MIB)
			assert_int_equal((uintptr_t)p % (2 * MIB), 0);
		bulk_free(p, sizes[i]);
	}
	bulk_free(NULL, 1);
}

static void all_of_it_is_given_back(void **state)
{
	unsigned long before = mapped();

	(void)state;
	for (int i = 0; i < 100; i++) {
		void *p = bulk_alloc(3 * MIB + (size_t)i);

		assert_non_null(p);
		bulk_free(p, 3 * MIB + (size_t)i);
	}
	assert_true(mapped() < before + MIB / 4096);
}

static void more_than_there_can_be_is_none(void **state)
{
	(void)state;
	assert_null(bulk_alloc((size_t)1 << 60));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_zeroed_and_begins_where_a_huge_page_does),
		cmocka_unit_test(all_of_it_is_given_back),
		cmocka_unit_test(more_than_there_can_be_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
