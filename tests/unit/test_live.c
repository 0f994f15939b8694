/* live: how often the kernel has been told of each inode. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fs/upper/live.h"

#define INODES 3000

static void counts_are_kept_while_the_table_grows_and_shrinks(void **state)
{
	struct live *l = live_new();
	uint64_t *want = calloc(INODES, sizeof(*want)), random = 99;

	(void)state;
	assert_true(l && want);
	for (unsigned round = 0; round < 60000; round++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		size_t i = (random >> 20) % INODES;
		uint64_t n = 1 + (random >> 40) % 3, ino = 1 + i * 977; /* spread */
		bool filling = round / 15000 % 2 == 0;

		if ((random >> 50) % 10 < (filling ? 8 : 1)) {
			assert_int_equal(live_add(l, ino, n), 0);
			want[i] += n;
		} else {
			/* More than there are is all of them. */
			want[i] -= want[i] < n ? want[i] : n;
			assert_int_equal(live_sub(l, ino, n), want[i]);
		}
		assert_int_equal(live_count(l, ino), want[i]);
	}
	for (size_t i = 0; i < INODES; i++)
		assert_int_equal(live_count(l, 1 + i * 977), want[i]);
	live_clear(l);
	for (size_t i = 0; i < INODES; i++)
		assert_int_equal(live_count(l, 1 + i * 977), 0);
	assert_int_equal(live_add(l, 5, 1), 0);
	assert_int_equal(live_sub(l, 5, 1), 0);
	live_free(l);
	live_free(NULL);
	free(want);
}

static void *add_and_sub(void *arg)
{
	struct live *l = arg;

	for (unsigned i = 0; i < 20000; i++) {
		if (live_add(l, 1 + i % 100, 2))
			abort();
		(void)!live_sub(l, 1 + i % 100, 1);
	}
	return NULL;
}

static void threads_share_the_counts(void **state)
{
	struct live *l = live_new();
	pthread_t threads[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_and_sub, l), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t ino = 1; ino <= 100; ino++)
		assert_int_equal(live_count(l, ino), 3 * 200);
	live_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_are_kept_while_the_table_grows_and_shrinks),
		cmocka_unit_test(threads_share_the_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
