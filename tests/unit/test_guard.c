#include "store/chunk/guard.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define FILTER_BYTES (1u << 16)

static struct digest digest_of(unsigned n)
{
	struct digest d;

	assert_int_equal(hash_bytes(&n, sizeof(n), &d), 0);
	return d;
}

static void touch(struct guard *g, const struct digest *d)
{
	guard_touch_lock(g, d);
	guard_touch_unlock(g, d);
}

static bool is_swept(struct guard *g, const struct digest *d)
{
	if (!guard_sweep_lock(g, d))
		return false;
	guard_sweep_unlock(g, d);
	return true;
}

static int setup(void **state)
{
	*state = guard_new();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	guard_free(*state);
	return 0;
}

static void sweep_spares_what_is_marked_or_touched(void **state)
{
	struct guard *g = *state;
	struct digest early = digest_of(0), marked = digest_of(1), touched = digest_of(2);
	struct digest garbage = digest_of(3);
	struct guard_session s;

	touch(g, &early);
	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	guard_session_begin(g, &s);
	touch(g, &touched);
	guard_session_end(g, &s);
	guard_collect_wait(g);
	guard_mark(g, &marked);
	assert_false(is_swept(g, &marked));
	assert_false(is_swept(g, &touched));
	assert_true(is_swept(g, &garbage));
	/* Touched before the collection began, and nothing named it since. */
	assert_true(is_swept(g, &early));
	guard_collect_end(g);

	/* Another collection starts with nothing marked. */
	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	assert_true(is_swept(g, &marked));
	assert_true(is_swept(g, &touched));
	guard_collect_end(g);
}

static void one_collection_at_a_time(void **state)
{
	struct guard *g = *state;

	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), -EBUSY);
	guard_collect_end(g);
	assert_int_equal(guard_collect_begin(g, 0), 0);
	guard_collect_end(g);
}

/* A collection that was given up has waited for nobody. */
static void a_session_of_long_ago_is_no_collection(void **state)
{
	struct guard *g = *state;
	struct guard_session old;
	int rc = 0;

	guard_session_begin(g, &old);
	for (int i = 0; i < 10 && (rc = guard_collect_begin(g, FILTER_BYTES)) == 0; i++)
		guard_collect_end(g);
	assert_int_equal(rc, -EAGAIN);
	guard_session_end(g, &old);
	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	guard_collect_end(g);
}

struct collector {
	struct guard *guard;
	_Atomic bool waited;
};

static void *wait_for_sessions(void *arg)
{
	struct collector *c = arg;

	guard_collect_wait(c->guard);
	atomic_store(&c->waited, true);
	return NULL;
}

static void collection_waits_for_older_sessions_only(void **state)
{
	struct collector c = { .guard = *state };
	struct guard_session old1, old2, young;
	pthread_t thread;

	guard_session_begin(c.guard, &old1);
	guard_session_begin(c.guard, &old2);
	assert_int_equal(guard_collect_begin(c.guard, FILTER_BYTES), 0);
	guard_session_begin(c.guard, &young);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_sessions, &c), 0);
	guard_session_end(c.guard, &old1);
	usleep(30000);
	assert_false(atomic_load(&c.waited));
	guard_session_end(c.guard, &old2);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&c.waited));
	guard_collect_end(c.guard);
	guard_session_end(c.guard, &young);
}

static void sessions_outlive_collections_that_were_given_up(void **state)
{
	struct collector c = { .guard = *state };
	struct guard_session oldest, s;
	pthread_t thread;
	int begun = 0;

	guard_session_begin(c.guard, &oldest);
	while (guard_collect_begin(c.guard, FILTER_BYTES) == 0 && begun < 100) {
		guard_collect_end(c.guard);
		begun++;
	}
	/* Refused in the end, rather than losing count of the session. */
	assert_in_range(begun, 2, 99);
	guard_session_end(c.guard, &oldest);
	guard_session_begin(c.guard, &s);
	assert_int_equal(guard_collect_begin(c.guard, FILTER_BYTES), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_sessions, &c), 0);
	usleep(20000);
	assert_false(atomic_load(&c.waited));
	guard_session_end(c.guard, &s);
	pthread_join(thread, NULL);
	guard_collect_end(c.guard);
}

static void slow_sessions_hold_no_collection_up(void **state)
{
	struct guard *g = *state;
	struct digest early = digest_of(0), late = digest_of(1), garbage = digest_of(2);
	struct guard_session s, other;

	guard_session_begin_slow(g, &s);
	assert_true(guard_is_busy(g));
	touch(g, &early);
	guard_session_begin_slow(g, &other);
	guard_session_end(g, &other); /* not the last one */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
		guard_collect_wait(g); /* would not return */
		touch(g, &late);
		if (i == 1)
			guard_session_end(g, &s); /* its record came too late to be marked */
		assert_false(is_swept(g, &early));
		assert_false(is_swept(g, &late));
		assert_true(is_swept(g, &garbage));
		guard_collect_end(g);
	}
	assert_false(guard_is_busy(g));
	/* Now only records count. */
	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	assert_true(is_swept(g, &early));
	assert_true(is_swept(g, &late));
	guard_collect_end(g);
}

static void few_digests_are_kept_in_error(void **state)
{
	struct guard *g = *state;
	unsigned n = FILTER_BYTES * 8 / 9, kept = 0;

	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	for (unsigned i = 0; i < n; i++) {
		struct digest d = digest_of(i);
		guard_mark(g, &d);
	}
	for (unsigned i = 0; i < n; i++) {
		struct digest d = digest_of(i), other = digest_of(i + n);
		assert_false(is_swept(g, &d));
		kept += !is_swept(g, &other);
	}
	guard_collect_end(g);
	assert_true(kept < n / 50);
}

static void what_is_kept_in_error_differs_each_time(void **state)
{
	struct guard *g = *state;
	unsigned kept_twice = 0;
	bool kept[20000];

	for (int round = 0; round < 2; round++) {
		assert_int_equal(guard_collect_begin(g, 1024), 0);
		for (unsigned i = 0; i < 1400; i++) {
			struct digest d = digest_of(i);
			guard_mark(g, &d);
		}
		for (unsigned i = 0; i < 20000; i++) {
			struct digest d = digest_of(i + 5000);
			bool keep = !is_swept(g, &d);
			kept_twice += round == 1 && keep && kept[i];
			kept[i] = keep;
		}
		guard_collect_end(g);
	}
	/* About 10 % in error each time, so 1 % by chance in both. */
	assert_true(kept_twice < 20000 / 30);
}

/*
 * A store of OBJECTS objects that may be present, and records that refer to
 * them. Writers put an object and record it; a collector sweeps what no record
 * names. No recorded object may ever be absent.
 */
#define OBJECTS 300
#define WRITERS 4
#define ROUNDS 2000
#define SLOW_EVERY 50 /* each clears a large filter, which costs most under a sanitizer */

struct world {
	struct guard *guard;
	struct digest digests[OBJECTS];
	_Atomic bool present[OBJECTS];
	pthread_mutex_t records_lock;
	int records[OBJECTS]; /* guarded by records_lock */
	_Atomic int lost;
	_Atomic bool stop;
};

struct world_writer {
	struct world *w;
	unsigned seed;
};

static void put_object(struct world *w, unsigned i)
{
	guard_touch_lock(w->guard, &w->digests[i]);
	bool present = atomic_load_explicit(&w->present[i], memory_order_relaxed);
	guard_touch_unlock(w->guard, &w->digests[i]);
	/* As chunk_store does, outside the lock. */
	if (!present)
		atomic_store_explicit(&w->present[i], true, memory_order_relaxed);
}

static void add_record(struct world *w, unsigned i, int n)
{
	pthread_mutex_lock(&w->records_lock);
	w->records[i] += n;
	pthread_mutex_unlock(&w->records_lock);
}

static void *write_objects(void *arg)
{
	struct world_writer *ww = arg;
	struct world *w = ww->w;

	for (int round = 0; round < ROUNDS; round++) {
		unsigned mine[3];
		struct guard_session s;
		if (round % SLOW_EVERY == 0)
			guard_session_begin_slow(w->guard, &s);
		else
			guard_session_begin(w->guard, &s);
		for (int k = 0; k < 3; k++) {
			mine[k] = (unsigned)rand_r(&ww->seed) % OBJECTS;
			put_object(w, mine[k]);
		}
		for (int k = 0; k < 3; k++)
			add_record(w, mine[k], 1);
		guard_session_end(w->guard, &s);
		for (int k = 0; k < 3; k++) {
			if (!atomic_load_explicit(&w->present[mine[k]], memory_order_relaxed))
				atomic_fetch_add(&w->lost, 1);
			add_record(w, mine[k], -1);
		}
	}
	return NULL;
}

static void collect(struct world *w)
{
	assert_int_equal(guard_collect_begin(w->guard, FILTER_BYTES), 0);
	guard_collect_wait(w->guard);
	pthread_mutex_lock(&w->records_lock);
	for (unsigned i = 0; i < OBJECTS; i++) {
		if (w->records[i] > 0)
			guard_mark(w->guard, &w->digests[i]);
	}
	pthread_mutex_unlock(&w->records_lock);
	for (unsigned i = 0; i < OBJECTS; i++) {
		if (!guard_sweep_lock(w->guard, &w->digests[i]))
			continue;
		atomic_store_explicit(&w->present[i], false, memory_order_relaxed);
		guard_sweep_unlock(w->guard, &w->digests[i]);
	}
	guard_collect_end(w->guard);
}

static void *collect_often(void *arg)
{
	struct world *w = arg;

	while (!atomic_load(&w->stop))
		collect(w);
	return NULL;
}

static void collections_beside_writers_lose_nothing_recorded(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct world_writer writers[WRITERS];
	pthread_t threads[WRITERS], collector;

	w->guard = *state;
	pthread_mutex_init(&w->records_lock, NULL);
	for (unsigned i = 0; i < OBJECTS; i++)
		w->digests[i] = digest_of(i);
	assert_int_equal(pthread_create(&collector, NULL, collect_often, w), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct world_writer){ w, i };
		assert_int_equal(pthread_create(&threads[i], NULL, write_objects, &writers[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&w->stop, true);
	pthread_join(collector, NULL);
	assert_int_equal(atomic_load(&w->lost), 0);
	/* What was swept meanwhile is up to the scheduler. */
	collect(w);
	for (unsigned i = 0; i < OBJECTS; i++)
		assert_false(atomic_load(&w->present[i]));
	pthread_mutex_destroy(&w->records_lock);
	free(w);
}

/* Touched before a collection begins, and so known by the filter of slow sessions alone. */
static void many_touches_of_a_slow_session_are_kept(void **state)
{
	enum { N = 200000, GARBAGE = 1000 };
	struct guard *g = *state;
	struct guard_session s;
	unsigned swept = 0;

	guard_session_begin_slow(g, &s);
	for (unsigned i = 0; i < N; i++) {
		struct digest d = digest_of(i);

		touch(g, &d);
	}
	assert_int_equal(guard_collect_begin(g, FILTER_BYTES), 0);
	guard_collect_wait(g);
	for (unsigned i = 0; i < N; i++) {
		struct digest d = digest_of(i);

		assert_false(is_swept(g, &d));
	}
	for (unsigned i = 0; i < GARBAGE; i++) {
		struct digest d = digest_of(N + i);

		swept += is_swept(g, &d);
	}
	assert_true(swept > GARBAGE * 9 / 10);
	guard_collect_end(g);
	guard_session_end(g, &s);
}

static long page_faults(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_minflt;
}

/* A small import is to cost little: not a fault for each page of a filter for many chunks. */
static void few_touches_of_a_slow_session_use_little_memory(void **state)
{
	static struct digest d[1000];
	struct guard *g = *state;
	struct guard_session s;

	for (unsigned i = 0; i < ARRAY_SIZE(d); i++)
		d[i] = digest_of(i);
	/* Or malloc() gives what was freed just now, of which nothing is left to fault in. */
	malloc_trim(0);
	long before = page_faults();

	guard_session_begin_slow(g, &s);
	for (unsigned i = 0; i < ARRAY_SIZE(d); i++)
		touch(g, &d[i]);
	guard_session_end(g, &s);
	assert_true(page_faults() - before < 500);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sweep_spares_what_is_marked_or_touched),
		TEST(one_collection_at_a_time),
		TEST(a_session_of_long_ago_is_no_collection),
		TEST(collection_waits_for_older_sessions_only),
		TEST(sessions_outlive_collections_that_were_given_up),
		TEST(slow_sessions_hold_no_collection_up),
		TEST(few_digests_are_kept_in_error),
		TEST(what_is_kept_in_error_differs_each_time),
		TEST(collections_beside_writers_lose_nothing_recorded),
		TEST(many_touches_of_a_slow_session_are_kept),
		TEST(few_touches_of_a_slow_session_use_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
