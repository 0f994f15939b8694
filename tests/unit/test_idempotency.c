/* Calls that are done once, however often they are sent. */
#include "snapshotd/state/idempotency.h"

#include <pthread.h>
#include <string.h>

#include "snapshotd/formats.h"
#include "store/base/clock.h"
#include "store/kv/meta.h"
#include "tests/unit/fs_fixture.h"

#define START INT64_C(1700000000000)

static struct idempotency *open_it(struct fx *f)
{
	struct error err = ERROR_INIT;
	struct idempotency *i;

	if (idempotency_open(f->s->kv, &i, &err) != 0)
		fail_msg("%s", error_text(&err));
	return i;
}

static int try_begin(struct idempotency *i, const char *key, const char *request,
		     struct idempotent *c)
{
	struct error err = ERROR_INIT;
	struct digest print;

	assert_int_equal(hash_bytes(request, strlen(request), &print), 0);
	return idempotency_begin(i, key, &print, NULL, c, &err);
}

static struct idempotent begin(struct idempotency *i, const char *key, const char *request)
{
	struct idempotent c = { .status = 0 };

	assert_int_equal(try_begin(i, key, request, &c), 0);
	return c;
}

/* Only its result is asked for. */
static void is_answered(struct idempotency *i, const char *key, const char *request, int status,
			const char *result)
{
	struct idempotent c = begin(i, key, request);

	assert_int_equal(c.status, status);
	assert_string_equal(c.result, result);
	idempotent_fini(&c);
}

static void a_result_is_given_again(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "make"), b = begin(i, "b", "delete");

	assert_int_equal(a.status, 0);
	assert_false(a.again);
	assert_string_not_equal(a.id, b.id);
	idempotency_done(i, &a, 201, "{\"id\":\"1\"}");
	idempotency_done(i, &b, 204, "");
	is_answered(i, "a", "make", 201, "{\"id\":\"1\"}");
	idempotency_close(i);
	i = open_it(*state);
	is_answered(i, "a", "make", 201, "{\"id\":\"1\"}");
	is_answered(i, "b", "delete", 204, "");
	idempotency_close(i);
	idempotency_close(NULL);
}

static void another_request_may_not_have_the_key(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "make"), b;

	assert_int_equal(try_begin(i, "a", "make more", &b), -EEXIST);
	idempotency_done(i, &a, 201, "{}");
	assert_int_equal(try_begin(i, "a", "make more", &b), -EEXIST);
	idempotency_close(i);
}

static void what_failed_may_be_tried_again(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "make");

	idempotency_forget(i, &a);
	idempotency_forget(i, &a);
	assert_int_equal(idempotency_count(i), 0);
	a = begin(i, "a", "make something else");
	assert_false(a.again);
	idempotency_done(i, &a, 201, "{}");
	idempotency_forget(i, &a);
	is_answered(i, "a", "make something else", 201, "{}");
	idempotency_close(i);
}

/* The next daemon is told, and makes it under the id that the first had for it. */
static void a_successor_knows_what_had_begun(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a, b;

	idempotency_set_now(i, clock_ms(), 0);
	a = begin(i, "a", "make");
	idempotency_close(i); /* as if killed */
	i = open_it(*state);
	assert_int_equal(try_begin(i, "a", "make more", &b), -EEXIST);
	b = begin(i, "a", "make");
	assert_true(b.again);
	assert_string_equal(b.id, a.id);
	assert_true(b.begun_ms == a.begun_ms);
	idempotency_done(i, &b, 201, "{}");
	is_answered(i, "a", "make", 201, "{}");
	idempotency_close(i);
}

struct waiter {
	struct idempotency *i;
	struct idempotent c;
	int rc;
};

static void *wait_for_it(void *arg)
{
	struct waiter *w = arg;
	struct error err = ERROR_INIT;
	struct digest print;

	w->rc = hash_bytes("make", 4, &print);
	if (w->rc == 0)
		w->rc = idempotency_begin(w->i, "a", &print,
					  &(struct idempotency_wait){ .max_ms = 60000 }, &w->c,
					  &err);
	return NULL;
}

static bool yes(void *arg)
{
	(void)arg;
	return true;
}

static void a_second_one_waits_for_the_first(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "make"), b;
	struct error err = ERROR_INIT;
	struct waiter w = { .i = i };
	struct digest print;
	pthread_t t;

	assert_int_equal(try_begin(i, "a", "make", &b), -EBUSY);
	assert_int_equal(hash_bytes("make", 4, &print), 0);
	assert_int_equal(idempotency_begin(i, "a", &print,
					   &(struct idempotency_wait){ 60000, yes, NULL }, &b,
					   &err),
			 -ECANCELED);
	assert_int_equal(pthread_create(&t, NULL, wait_for_it, &w), 0);
	idempotency_done(i, &a, 201, "{\"id\":7}");
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(w.rc, 0);
	assert_string_equal(w.c.result, "{\"id\":7}");
	idempotent_fini(&w.c);
	idempotency_close(i);
}

struct taker {
	struct idempotency *i;
	struct idempotent *first;
};

/* While another waits: the first fails, and its key is taken for something else. */
static bool take_the_key(void *arg)
{
	struct taker *t = arg;

	if (t->first) {
		struct idempotent c;

		idempotency_forget(t->i, t->first);
		c = begin(t->i, "a", "make something else");
		idempotency_done(t->i, &c, 201, "{\"id\":8}");
	}
	t->first = NULL;
	return false;
}

static void a_wait_does_not_end_with_anothers_answer(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "make"), b = { .status = 0 };
	struct taker t = { i, &a };
	struct error err = ERROR_INIT;
	struct digest print;

	assert_int_equal(hash_bytes("make", 4, &print), 0);
	assert_int_equal(idempotency_begin(i, "a", &print,
					   &(struct idempotency_wait){ 60000, take_the_key, &t },
					   &b, &err),
			 -EEXIST);
	assert_int_equal(b.status, 0);
	is_answered(i, "a", "make something else", 201, "{\"id\":8}");
	idempotency_close(i);
}

static void an_effect_is_known_to_a_successor(void **state)
{
	struct error err = ERROR_INIT;
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "run"), b = begin(i, "b", "make"),
			  none = { .status = 0 };

	assert_int_equal(idempotency_effect(i, &none, &err), 0);
	assert_int_equal(idempotency_effect(i, &a, &err), 0);
	assert_int_equal(idempotency_effect(i, &a, &err), 0);
	idempotency_close(i); /* as if killed */
	i = open_it(*state);
	a = begin(i, "a", "run");
	b = begin(i, "b", "make");
	assert_true(a.again && a.effect);
	assert_true(b.again && !b.effect);
	idempotency_close(i);
}

static void a_large_result_is_looked_for(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent a = begin(i, "a", "make"), b;
	char *text = calloc(1, IDEMPOTENCY_RESULT_MAX + 2);

	memset(text, '1', IDEMPOTENCY_RESULT_MAX + 1);
	idempotency_done(i, &a, 201, text);
	b = begin(i, "a", "make");
	assert_true(b.again);
	assert_int_equal(b.status, 0);
	assert_string_equal(b.id, a.id);
	free(text);
	idempotency_close(i);
}

static void old_ones_go(void **state)
{
	struct fx *f = *state;
	struct idempotency *i = open_it(f);
	struct idempotent a;

	idempotency_set_now(i, START, START);
	a = begin(i, "runs", "make");
	a = begin(i, "a", "make");
	idempotency_done(i, &a, 201, "{}");
	idempotency_set_now(i, START, START + IDEMPOTENCY_KEEP_S * 1000);
	a = begin(i, "b", "make");
	idempotency_done(i, &a, 201, "{}");
	is_answered(i, "a", "make", 201, "{}");
	idempotency_set_now(i, START, START + IDEMPOTENCY_KEEP_S * 1000 + 1);
	a = begin(i, "c", "make");
	assert_int_equal(idempotency_count(i), 3); /* "runs", b and c */
	assert_int_equal(meta_has(f->s->kv, META_IDEMPOTENCY, a.name), 1);
	a = begin(i, "a", "make");
	assert_int_equal(a.status, 0);
	assert_false(a.again);
	idempotency_close(i);
	i = open_it(f); /* whose clock is years ahead */
	assert_int_equal(idempotency_count(i), 0);
	idempotency_close(i);
}

/* NTP, or a person, sets the clock: that is no time that has passed. */
static void a_clock_that_jumps_changes_no_age(void **state)
{
	const int64_t day = 24 * 3600 * 1000;
	struct idempotency *i = open_it(*state);
	struct idempotent a;

	idempotency_set_now(i, START, 1000);
	a = begin(i, "a", "make");
	idempotency_done(i, &a, 201, "{}");
	idempotency_set_now(i, START + day, 2000);
	a = begin(i, "b", "make");
	idempotency_done(i, &a, 201, "{}");
	is_answered(i, "a", "make", 201, "{}");
	idempotency_set_now(i, START - day, 2000 + IDEMPOTENCY_KEEP_S * 1000);
	a = begin(i, "c", "make");
	assert_int_equal(idempotency_count(i), 2); /* b and c */
	idempotency_close(i);
}

static void many_are_bounded(void **state)
{
	struct idempotency *i = open_it(*state);
	struct idempotent c;
	char key[24];

	for (unsigned n = 0; n < IDEMPOTENCY_COUNT + 10; n++) {
		snprintf(key, sizeof(key), "%u", n);
		c = begin(i, key, "make");
		idempotency_done(i, &c, 201, "{}");
	}
	assert_int_equal(idempotency_count(i), IDEMPOTENCY_COUNT);
	is_answered(i, "10", "make", 201, "{}");
	is_answered(i, "4105", "make", 201, "{}");
	c = begin(i, "9", "make");
	assert_int_equal(c.status, 0);
	idempotency_close(i);
}

static void results_are_bounded(void **state)
{
	const unsigned room = (unsigned)(IDEMPOTENCY_BYTES / IDEMPOTENCY_RESULT_MAX);
	struct idempotency *i = open_it(*state);
	char *text = calloc(1, IDEMPOTENCY_RESULT_MAX + 1);
	char key[24];

	memset(text, '1', IDEMPOTENCY_RESULT_MAX);
	for (unsigned n = 0; n < room + 5; n++) {
		struct idempotent c;

		snprintf(key, sizeof(key), "%u", n);
		c = begin(i, key, "make");
		idempotency_done(i, &c, 201, text);
	}
	assert_int_equal(idempotency_count(i), room);
	is_answered(i, "5", "make", 201, text);
	free(text);
	idempotency_close(i);
}

static void a_damaged_record_is_left_out(void **state)
{
	struct fx *f = *state;
	struct idempotency *i;

	assert_int_equal(meta_put(f->s->kv, META_IDEMPOTENCY, "x", "{\"version\":1}", 13, KV_LOG),
			 0);
	i = open_it(f);
	assert_int_equal(idempotency_count(i), 0);
	assert_int_equal(meta_has(f->s->kv, META_IDEMPOTENCY, "x"), 0);
	idempotency_close(i);
}

static void a_newer_record_is_refused_and_stays(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct idempotency *i;

	assert_int_equal(formats_check_store(f->s, &err), 0);
	assert_int_equal(meta_put(f->s->kv, META_IDEMPOTENCY, "x", "{\"version\":2}", 13, KV_LOG),
			 0);
	assert_int_equal(formats_check_store(f->s, &err), -EINVAL);
	assert_non_null(strstr(error_text(&err), "idempotency/x is of version 2"));
	assert_true(idempotency_open(f->s->kv, &i, &err) < 0);
	assert_int_equal(meta_has(f->s->kv, META_IDEMPOTENCY, "x"), 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_result_is_given_again),
		TEST(another_request_may_not_have_the_key),
		TEST(what_failed_may_be_tried_again),
		TEST(a_successor_knows_what_had_begun),
		TEST(a_second_one_waits_for_the_first),
		TEST(a_wait_does_not_end_with_anothers_answer),
		TEST(an_effect_is_known_to_a_successor),
		TEST(a_large_result_is_looked_for),
		TEST(old_ones_go),
		TEST(a_clock_that_jumps_changes_no_age),
		TEST(many_are_bounded),
		TEST(results_are_bounded),
		TEST(a_damaged_record_is_left_out),
		TEST(a_newer_record_is_refused_and_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
