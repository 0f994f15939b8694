/* The states of a build. */
#include "snapshotd/build/build_state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void names_are_parsed_back(void **state)
{
	enum build_state s;

	(void)state;
	for (unsigned i = 0; i < BUILD_STATE_COUNT; i++) {
		assert_int_equal(build_state_parse(build_state_name((enum build_state)i), &s), 0);
		assert_int_equal(s, i);
	}
	assert_int_equal(build_state_parse("", &s), -EINVAL);
	assert_int_equal(build_state_parse("Ready", &s), -EINVAL);
}

static void a_build_goes_its_way(void **state)
{
	static const enum build_state way[] = { BUILD_QUEUED, BUILD_PREPARING,
						BUILD_STEP,   BUILD_CHECKPOINTING,
						BUILD_STEP,   BUILD_CHECKPOINTING,
						BUILD_READY };

	(void)state;
	for (size_t i = 0; i + 1 < sizeof(way) / sizeof(way[0]); i++)
		assert_true(build_state_may_follow(way[i], way[i + 1]));
	assert_true(build_state_may_follow(BUILD_PREPARING, BUILD_READY));
}

static void nothing_is_skipped(void **state)
{
	(void)state;
	assert_false(build_state_may_follow(BUILD_QUEUED, BUILD_STEP));
	assert_false(build_state_may_follow(BUILD_QUEUED, BUILD_READY));
	assert_false(build_state_may_follow(BUILD_PREPARING, BUILD_CHECKPOINTING));
	assert_false(build_state_may_follow(BUILD_STEP, BUILD_READY));
	assert_false(build_state_may_follow(BUILD_STEP, BUILD_STEP));
	assert_false(build_state_may_follow(BUILD_STEP, BUILD_QUEUED));
}

static void whatever_has_not_ended_can_end_badly(void **state)
{
	(void)state;
	for (unsigned i = 0; i < BUILD_STATE_COUNT; i++) {
		enum build_state s = (enum build_state)i;
		bool runs = !build_state_is_final(s);

		assert_int_equal(build_state_may_follow(s, BUILD_FAILED), runs);
		assert_int_equal(build_state_may_follow(s, BUILD_CANCELLED), runs);
		assert_int_equal(build_state_after_crash(s), runs ? BUILD_FAILED : s);
	}
}

static void an_end_is_an_end(void **state)
{
	static const enum build_state ends[] = { BUILD_READY, BUILD_FAILED, BUILD_CANCELLED };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_true(build_state_is_final(ends[i]));
		for (unsigned j = 0; j < BUILD_STATE_COUNT; j++)
			assert_false(build_state_may_follow(ends[i], (enum build_state)j));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_parsed_back),
		cmocka_unit_test(a_build_goes_its_way),
		cmocka_unit_test(nothing_is_skipped),
		cmocka_unit_test(whatever_has_not_ended_can_end_badly),
		cmocka_unit_test(an_end_is_an_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
