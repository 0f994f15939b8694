/* Threads that do requests: who submits does not wait, and readers find one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "store/base/clock.h"
#include "store/bucket/object_threads.h"

#define MANY 64u

/* A backend whose requests stand still until they may go on. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool frozen;
	unsigned inside, most, done;
	char order[MANY + 1]; /* keys of requests, as they begin */
	size_t n_order;
} b;

static struct object_store os;
static struct object_threads *threads;

static void perform(struct object_store *store, struct object_request *r)
{
	(void)store;
	pthread_mutex_lock(&b.lock);
	b.order[b.n_order++] = r->key[0];
	b.inside++;
	b.most = MAX(b.most, b.inside);
	pthread_cond_broadcast(&b.changed);
	while (b.frozen)
		pthread_cond_wait(&b.changed, &b.lock);
	b.inside--;
	pthread_mutex_unlock(&b.lock);
	r->result = 0;
	r->done(r);
}

static void note_done(struct object_request *r)
{
	(void)r;
	pthread_mutex_lock(&b.lock);
	b.done++;
	pthread_cond_broadcast(&b.changed);
	pthread_mutex_unlock(&b.lock);
}

static void wait_for(const unsigned *what, unsigned n)
{
	const struct timespec end = monotonic_after_ms(30000);

	pthread_mutex_lock(&b.lock);
	while (*what < n)
		assert_int_equal(pthread_cond_timedwait(&b.changed, &b.lock, &end), 0);
	pthread_mutex_unlock(&b.lock);
}

static void set_frozen(bool frozen)
{
	pthread_mutex_lock(&b.lock);
	b.frozen = frozen;
	pthread_cond_broadcast(&b.changed);
	pthread_mutex_unlock(&b.lock);
}

static void submit(struct object_request *r, const char *key, enum object_priority priority)
{
	*r = (struct object_request){
		.op = OBJECT_GET, .priority = priority, .key = key, .result = 1, .done = note_done
	};
	object_threads_submit(threads, r);
}

static int set_up(void **state)
{
	(void)state;
	pthread_mutex_init(&b.lock, NULL);
	cond_init_monotonic(&b.changed);
	b.frozen = false;
	b.inside = b.most = b.done = 0;
	b.n_order = 0;
	os = (struct object_store){ 0 };
	threads = object_threads_new(&os, perform);
	return threads ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	object_threads_free(threads);
	pthread_cond_destroy(&b.changed);
	pthread_mutex_destroy(&b.lock);
	return 0;
}

static void who_submits_does_not_wait(void **state)
{
	struct object_request r[MANY];

	(void)state;
	set_frozen(true);
	for (unsigned i = 0; i < MANY; i++)
		submit(&r[i], "a", OBJECT_DEMAND);
	wait_for(&b.inside, OBJECT_THREADS);
	assert_int_equal(b.done, 0);
	set_frozen(false);
	wait_for(&b.done, MANY);
	assert_int_equal(b.most, OBJECT_THREADS);
}

static void a_reader_finds_a_thread_and_is_first(void **state)
{
	struct object_request slow[MANY / 2], quick[MANY / 4];

	(void)state;
	set_frozen(true);
	for (unsigned i = 0; i < MANY / 2; i++)
		submit(&slow[i], "s", i % 2 ? OBJECT_PUSH : OBJECT_BACKGROUND);
	wait_for(&b.inside, OBJECT_THREADS_SLOW);
	for (unsigned i = 0; i < MANY / 4; i++)
		submit(&quick[i], "q", OBJECT_DEMAND);
	wait_for(&b.inside, OBJECT_THREADS);
	set_frozen(false);
	wait_for(&b.done, MANY / 2 + MANY / 4);
	for (unsigned i = 0; i < OBJECT_THREADS_SLOW; i++)
		assert_int_equal(b.order[i], 's');
	for (unsigned i = OBJECT_THREADS_SLOW; i < OBJECT_THREADS; i++)
		assert_int_equal(b.order[i], 'q');
}

static void *thaw(void *arg)
{
	(void)arg;
	wait_for(&b.done, MANY / 2 - OBJECT_THREADS);
	set_frozen(false);
	return NULL;
}

static void a_close_ends_what_has_not_begun(void **state)
{
	struct object_request r[MANY / 2];
	unsigned cancelled = 0;
	pthread_t thread;

	(void)state;
	set_frozen(true);
	for (unsigned i = 0; i < MANY / 2; i++)
		submit(&r[i], "a", OBJECT_DEMAND);
	wait_for(&b.inside, OBJECT_THREADS);
	assert_int_equal(pthread_create(&thread, NULL, thaw, NULL), 0);
	object_threads_free(threads);
	threads = NULL;
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < MANY / 2; i++)
		cancelled += r[i].result == -ECANCELED;
	assert_int_equal(cancelled, MANY / 2 - OBJECT_THREADS);
}

static void once_stopped_nothing_begins(void **state)
{
	struct object_request r;

	(void)state;
	os.stopped = true;
	submit(&r, "a", OBJECT_PUSH);
	wait_for(&b.done, 1);
	assert_int_equal(r.result, -ECANCELED);
	assert_int_equal(b.n_order, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_submits_does_not_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_reader_finds_a_thread_and_is_first, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_close_ends_what_has_not_begun, set_up, tear_down),
		cmocka_unit_test_setup_teardown(once_stopped_nothing_begins, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
