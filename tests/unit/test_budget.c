/* Budgets: what may be held, alone and together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#include "snapshotd/http/budget.h"

static void charges_are_bounded_and_released(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, NULL, 100);
	assert_true(budget_charge(&b, 100));
	assert_false(budget_charge(&b, 1));
	assert_true(budget_charge(&b, 0));
	budget_release(&b, 40);
	assert_false(budget_charge(&b, 41));
	assert_false(budget_charge(&b, SIZE_MAX));
	assert_true(budget_charge(&b, 40));
	assert_int_equal(budget_used(&b), 100);
	assert_int_equal(b.refused, 3);
}

static void a_part_is_charged_to_the_whole(void **state)
{
	struct budget whole, a, b;

	(void)state;
	budget_init(&whole, NULL, 100);
	budget_init(&a, &whole, 60);
	budget_init(&b, &whole, 60);
	assert_true(budget_charge(&a, 60));
	assert_false(budget_charge(&a, 1));
	assert_false(budget_charge(&b, 41));
	assert_int_equal(budget_used(&b), 0); /* a charge that fails leaves nothing */
	assert_true(budget_charge(&b, 40));
	assert_int_equal(budget_used(&whole), 100);
	assert_int_equal(whole.refused, 2);
	budget_release(&a, 60);
	budget_release(&b, 40);
	assert_int_equal(budget_used(&whole), 0);
}

/* Take byte by byte what there is. */
static size_t take_all(struct budget *b)
{
	size_t n = 0;

	while (n < 10000 && budget_charge(b, 1))
		n++;
	return n;
}

static void fair_parts_leave_something_for_others(void **state)
{
	struct budget whole, parts[5];

	(void)state;
	budget_init(&whole, NULL, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		budget_init(&parts[i], &whole, 1000);
		parts[i].fair = true;
	}
	assert_int_equal(take_all(&parts[0]), 500);
	for (size_t i = 1; i < ARRAY_SIZE(parts); i++)
		assert_true(take_all(&parts[i]) > 0);
	assert_true(budget_used(&whole) < 1000);
	budget_release(&parts[0], 500); /* who has more than the others gets no more at once */
	assert_true(take_all(&parts[0]) < 500);
}

static void *take_and_give(void *arg)
{
	struct budget *b = arg;

	for (int i = 0; i < 100000; i++) {
		if (!budget_charge(b, 60))
			continue;
		if (budget_used(b) > 100)
			abort();
		budget_release(b, 60);
	}
	return NULL;
}

static void threads_never_hold_more_than_there_is(void **state)
{
	pthread_t threads[4];
	struct budget b;

	(void)state;
	budget_init(&b, NULL, 100);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &b), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(budget_used(&b), 0);
}

static void programs_get_half_of_the_memory_for_requests(void **state)
{
	struct request_memory m;

	(void)state;
	request_memory_init(&m, 1000);
	assert_true(budget_charge(&m.output, 500));
	assert_false(budget_charge(&m.output, 1));
	assert_true(budget_charge(&m.bodies, 400));
	assert_true(budget_charge(&m.replies, 100));
	assert_false(budget_charge(&m.replies, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(charges_are_bounded_and_released),
		cmocka_unit_test(a_part_is_charged_to_the_whole),
		cmocka_unit_test(fair_parts_leave_something_for_others),
		cmocka_unit_test(threads_never_hold_more_than_there_is),
		cmocka_unit_test(programs_get_half_of_the_memory_for_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
