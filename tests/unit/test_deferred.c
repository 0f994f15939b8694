/* A queue of waiting requests: in order, one thread a session, several sessions at once. */
#include "fs/fuse/deferred.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#define SESSIONS 3

/* What the queue takes for sessions: it never looks inside. */
static char sessions[SESSIONS];
static atomic_int serving[SESSIONS], answered, broken, batches;
static uint64_t last[SESSIONS];
static atomic_bool held; /* session 0 waits */

static unsigned number(const struct session *s)
{
	return (unsigned)((const char *)s - sessions);
}

static void answer(struct deferred_request *q)
{
	unsigned n = number(q->session);

	atomic_fetch_add(&batches, 1);
	if (atomic_fetch_add(&serving[n], 1))
		atomic_fetch_add(&broken, 1);
	while (n == 0 && atomic_load(&held))
		usleep(100);
	for (struct deferred_request *next; q; q = next) {
		next = q->next;
		if (number(q->session) != n || q->off <= last[n])
			atomic_fetch_add(&broken, 1);
		last[n] = q->off;
		free(q);
		atomic_fetch_add(&answered, 1);
	}
	atomic_fetch_sub(&serving[n], 1);
}

static void push(struct deferred *d, unsigned session, uint64_t off)
{
	struct deferred_request *q = calloc(1, sizeof(*q));

	assert_non_null(q);
	q->session = (struct session *)&sessions[session];
	q->off = off;
	deferred_push(d, q);
}

static void start(struct deferred *d)
{
	for (unsigned i = 0; i < SESSIONS; i++)
		last[i] = 0;
	atomic_store(&answered, 0);
	atomic_store(&broken, 0);
	atomic_store(&batches, 0);
	deferred_init(d, "test", answer);
	assert_int_equal(deferred_start(d), 0);
}

static void wait_answered(int n)
{
	for (int i = 0; i < 50000 && atomic_load(&answered) < n; i++)
		usleep(100);
	assert_int_equal(atomic_load(&answered), n);
}

static void deferred_serves_others_while_one_waits(void **state)
{
	struct deferred d;

	(void)state;
	atomic_store(&held, true);
	start(&d);
	push(&d, 0, 1);
	for (uint64_t i = 1; i <= 10; i++) {
		push(&d, 1, i);
		push(&d, 2, i);
	}
	wait_answered(20);
	atomic_store(&held, false);
	wait_answered(21);
	deferred_fini(&d);
	assert_int_equal(atomic_load(&broken), 0);
}

static void deferred_answers_together_what_came_meanwhile(void **state)
{
	struct deferred d;
	int before;

	(void)state;
	atomic_store(&held, true);
	start(&d);
	push(&d, 0, 1);
	while (atomic_load(&batches) == 0)
		usleep(100);
	before = atomic_load(&batches);
	for (uint64_t i = 2; i <= 100; i++)
		push(&d, 0, i);
	atomic_store(&held, false);
	wait_answered(100);
	assert_int_equal(atomic_load(&batches), before + 1);
	deferred_fini(&d);
	assert_int_equal(atomic_load(&broken), 0);
}

static void deferred_answers_all_before_it_ends(void **state)
{
	struct deferred d;

	(void)state;
	start(&d);
	for (uint64_t i = 1; i <= 1000; i++)
		push(&d, (unsigned)(i % SESSIONS), i);
	deferred_fini(&d);
	assert_int_equal(atomic_load(&answered), 1000);
	assert_int_equal(atomic_load(&broken), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deferred_serves_others_while_one_waits),
		cmocka_unit_test(deferred_answers_together_what_came_meanwhile),
		cmocka_unit_test(deferred_answers_all_before_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
