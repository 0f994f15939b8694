/*
 * suspects: what daemons die of is found, and what was there by chance is not blamed.
 * wrap: clock_gettime
 */
#include "fs/fuse/suspects.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/clock.h"

#define A "11111111-1111-1111-1111-111111111111"
#define B "22222222-2222-2222-2222-222222222222"

/* How far somebody has set the clock. */
static time_t clock_set_by;

int __real_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
	int rc = __real_clock_gettime(id, out);

	if (id == CLOCK_REALTIME)
		out->tv_sec += clock_set_by;
	return rc;
}

/* Left as processes leave them, with what is locked. */
static struct suspects *volatile dead[128];
static unsigned n_dead;

/* As a process finds it whose predecessor died now. */
static struct suspects *die(struct suspects *l, bool crashed)
{
	int fd = dup(suspects_fd(l));

	assert_true(fd >= 0 && n_dead < ARRAY_SIZE(dead));
	dead[n_dead++] = l;
	l = suspects_new(fd, crashed);
	assert_non_null(l);
	return l;
}

static void three_crashes_condemn(void **state)
{
	struct suspects *l = suspects_new(-1, false);

	(void)state;
	assert_non_null(l);
	assert_true(suspects_begin(l, A, 10, false));
	for (unsigned i = 1; i < 3; i++) {
		l = die(l, true);
		assert_true(suspects_begin(l, A, 10, true));
	}
	l = die(l, true);
	/* Its number on another connection, or of a request that is new. */
	assert_true(suspects_begin(l, B, 10, true));
	suspects_end(l);
	assert_true(suspects_begin(l, A, 10, false));
	suspects_end(l);
	assert_false(suspects_begin(l, A, 10, true));
	/* It is answered: the number may be another's. */
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	suspects_free(l);
}

static void what_had_ended_is_innocent(void **state)
{
	struct suspects *l = suspects_new(-1, false);

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		assert_true(suspects_begin(l, A, 10, true));
		suspects_end(l);
		assert_true(suspects_begin(l, A, 12 + i, true));
		l = die(l, true);
	}
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	suspects_free(l);
}

static void kills_count_less(void **state)
{
	struct suspects *l = suspects_new(-1, false);
	unsigned n = 0;

	(void)state;
	for (; suspects_begin(l, A, 10, true); n++)
		l = die(l, false);
	assert_int_equal(n, SUSPECTS_POINTS_MAX);
	suspects_free(l);
}

/* While it is fetched for, a request mostly waits. */
static void a_kill_while_it_is_fetched_for_does_not_count(void **state)
{
	struct suspects *l = suspects_new(-1, false);

	(void)state;
	for (unsigned i = 0; i < 2 * SUSPECTS_POINTS_MAX; i++) {
		assert_true(suspects_begin_fetch(l, A, 10, true));
		l = die(l, false);
	}
	/* What was held against it before stays. */
	for (unsigned i = 0; i < 3; i++) {
		assert_true(suspects_begin_fetch(l, A, 10, true));
		l = die(l, true);
		if (i == 2)
			break;
		assert_true(suspects_begin_fetch(l, A, 10, true));
		suspects_defer(l);
		suspects_end(l);
		assert_true(suspects_begin_fetch(l, A, 10, true));
		l = die(l, false);
	}
	assert_false(suspects_begin(l, A, 10, true));
	suspects_free(l);
}

static void *begin_other(void *arg)
{
	/* For ever: its thread dies with the process. */
	(void)!suspects_begin(arg, B, 20, true);
	return NULL;
}

/* Two that were begun when each of two daemons died. */
static struct suspects *two_suspects(void)
{
	struct suspects *l = suspects_new(-1, false);
	pthread_t other;

	for (unsigned i = 0; i < 2; i++) {
		assert_true(suspects_begin(l, A, 10, true));
		assert_int_equal(pthread_create(&other, NULL, begin_other, l), 0);
		pthread_join(other, NULL);
		l = die(l, true);
	}
	return l;
}

/* Of two that were begun whenever a daemon died, one is to blame. */
static void one_at_a_time(void **state)
{
	struct suspects *l = two_suspects();
	const int64_t from = monotonic_ms();
	pthread_t other;

	(void)state;
	assert_true(suspects_begin(l, A, 10, true));
	clock_set_by = -3600; /* which makes nobody wait longer, or less */
	assert_int_equal(pthread_create(&other, NULL, begin_other, l), 0);
	pthread_join(other, NULL); /* it ran, late and not counted */
	clock_set_by = 0;
	assert_true(monotonic_ms() - from >= SUSPECTS_WAIT_S * 1000);
	l = die(l, true);
	assert_true(suspects_begin(l, B, 20, true));
	suspects_end(l);
	assert_false(suspects_begin(l, A, 10, true));
	suspects_free(l);
}

static sem_t has_begun;

static void *fetch_for_other(void *arg)
{
	(void)!suspects_begin_fetch(arg, B, 20, true);
	sem_post(&has_begun);
	return NULL;
}

/* As fetches take long, the second would run beside the first, which its death were put on. */
static void fetches_wait_for_each_other(void **state)
{
	struct suspects *l = two_suspects();
	struct timespec until;
	pthread_t other;

	(void)state;
	assert_int_equal(sem_init(&has_begun, 0, 0), 0);
	assert_true(suspects_begin_fetch(l, A, 10, true));
	assert_int_equal(pthread_create(&other, NULL, fetch_for_other, l), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SUSPECTS_WAIT_S + 1;
	assert_int_equal(sem_timedwait(&has_begun, &until), -1);
	assert_int_equal(errno, ETIMEDOUT);
	suspects_defer(l);
	suspects_end(l);
	pthread_join(other, NULL); /* alone, and counted */
	l = die(l, true);
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	assert_false(suspects_begin(l, B, 20, true));
	suspects_free(l);
}

static void *begin_and_end(void *arg)
{
	(void)!suspects_begin(arg, B, 20, false);
	suspects_end(arg);
	return NULL;
}

/* It is not watched, and kills no more daemons than others. */
static void a_thread_too_many_is_told_what_is_condemned(void **state)
{
	struct suspects *l = suspects_new(-1, false);
	pthread_t one;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_true(suspects_begin(l, A, 10, true));
		l = die(l, true);
	}
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(pthread_create(&one, NULL, begin_and_end, l), 0);
		pthread_join(one, NULL);
	}
	assert_false(suspects_begin(l, A, 10, true));
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	suspects_free(l);
}

static void the_other_one_goes_on_at_its_end(void **state)
{
	struct suspects *l = two_suspects();
	pthread_t other;

	(void)state;
	assert_true(suspects_begin(l, A, 10, true));
	assert_int_equal(pthread_create(&other, NULL, begin_other, l), 0);
	suspects_end(l);
	pthread_join(other, NULL); /* it ran alone, and counted */
	l = die(l, true);
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	assert_false(suspects_begin(l, B, 20, true));
	suspects_free(l);
}

/* A lazy mount's, an fsync, an lseek: its daemons die in the thread that it is handed to. */
static void *go_on(void *arg)
{
	assert_true(suspects_begin(arg, A, 10, true));
	return NULL; /* it dies at it */
}

static void what_is_deferred_is_condemned_too(void **state)
{
	struct suspects *l = suspects_new(-1, false);
	pthread_t other;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_true(suspects_begin(l, A, 10, i > 0));
		suspects_defer(l);
		suspects_end(l);
		assert_int_equal(pthread_create(&other, NULL, go_on, l), 0);
		pthread_join(other, NULL);
		l = die(l, true);
	}
	assert_false(suspects_begin(l, A, 10, true));
	suspects_free(l);
}

/* One that others only wait to go on with is not blamed, and what was held against it goes at last.
 */
static void what_is_deferred_is_over_at_its_end(void **state)
{
	struct suspects *l = suspects_new(-1, false);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_true(suspects_begin(l, A, 10, true));
		l = die(l, true);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_true(suspects_begin(l, A, 10, true));
		suspects_defer(l);
		suspects_end(l);
		l = die(l, true);
	}
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	assert_true(suspects_begin(l, A, 10, true));
	l = die(l, true);
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	suspects_free(l);
	suspects_defer(NULL);
}

static void what_is_no_page_is_not_used(void **state)
{
	int fd = memfd_create("text", MFD_CLOEXEC);
	struct suspects *l;

	(void)state;
	assert_int_equal(write(fd, "text", 4), 4);
	l = suspects_new(fd, true);
	assert_non_null(l);
	/* The successor needs this one, though its descriptor may have the same number. */
	assert_false(suspects_is_adopted(l));
	l = die(l, true);
	assert_true(suspects_is_adopted(l));
	assert_true(suspects_begin(l, A, 10, true));
	suspects_end(l);
	suspects_free(l);
	assert_true(suspects_begin(NULL, A, 10, true));
	suspects_end(NULL);
	suspects_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_crashes_condemn),
		cmocka_unit_test(what_had_ended_is_innocent),
		cmocka_unit_test(kills_count_less),
		cmocka_unit_test(a_kill_while_it_is_fetched_for_does_not_count),
		cmocka_unit_test(one_at_a_time),
		cmocka_unit_test(fetches_wait_for_each_other),
		cmocka_unit_test(a_thread_too_many_is_told_what_is_condemned),
		cmocka_unit_test(the_other_one_goes_on_at_its_end),
		cmocka_unit_test(what_is_deferred_is_condemned_too),
		cmocka_unit_test(what_is_deferred_is_over_at_its_end),
		cmocka_unit_test(what_is_no_page_is_not_used),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
