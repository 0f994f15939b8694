/* The store's figures over time: what is kept, for how long, and after a restart. */
#include "snapshotd/state/stats_history.h"

#include <string.h>

#include "store/base/clock.h"
#include "tests/unit/fs_fixture.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define START (INT64_C(20000) * DAY) /* in 2024 */

static struct stats_history *open_history(struct fx *f)
{
	struct error err = ERROR_INIT;
	struct stats_history *h;

	if (stats_history_open(f->s, &h, &err) != 0)
		fail_msg("%s", error_text(&err));
	return h;
}

static struct stats_sample sample(int64_t time_ms)
{
	uint64_t n = (uint64_t)(time_ms / MINUTE);

	return (struct stats_sample){ time_ms, n, n + 1, n + 2, n + 3, n + 4, n + 5 };
}

static void add(struct stats_history *h, int64_t time_ms)
{
	struct stats_sample s = sample(time_ms);

	assert_int_equal(stats_history_add(h, &s), 0);
}

static size_t read_all(struct stats_history *h, struct stats_sample **out)
{
	size_t n;

	assert_int_equal(stats_history_read(h, 0, STATS_HISTORY_MAX, out, &n), 0);
	return n;
}

static size_t stored_count(struct fx *f)
{
	struct kv_iter *it = kv_iter_new(f->s->kv, KV_META);
	size_t n = 0, klen;

	assert_non_null(it);
	for (kv_iter_seek(it, "stats/", 6); kv_iter_valid(it); kv_iter_next(it)) {
		const uint8_t *key = kv_iter_key(it, &klen);

		if (klen < 6 || memcmp(key, "stats/", 6) != 0)
			break;
		n++;
	}
	assert_int_equal(kv_iter_status(it), 0);
	kv_iter_free(it);
	return n;
}

static void an_empty_store_has_no_history(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list = (void *)1;

	assert_int_equal(read_all(h, &list), 0);
	assert_null(list);
	stats_history_close(h);
	stats_history_close(NULL);
}

static void every_field_survives_reopening(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list, s = { START, 1, UINT64_MAX, 1ull << 63, 4, 5, 6 };

	assert_int_equal(stats_history_add(h, &s), 0);
	add(h, START + MINUTE);
	stats_history_close(h);
	fx_reopen(*state);
	h = open_history(*state);
	assert_int_equal(read_all(h, &list), 2);
	assert_memory_equal(&list[0], &s, sizeof(s));
	s = sample(START + MINUTE);
	assert_memory_equal(&list[1], &s, sizeof(s));
	free(list);
	stats_history_close(h);
}

/* Thin a made list to what is kept at now; returns the number. */
static size_t thin_every(int64_t from, int64_t until, int64_t step, int64_t now,
			 struct stats_sample **out)
{
	size_t n = 0;
	struct stats_sample *list = malloc((size_t)((until - from) / step + 1) * sizeof(*list));

	assert_non_null(list);
	for (int64_t t = from; t < until; t += step)
		list[n++] = sample(t);
	*out = list;
	return stats_history_thin(list, n, now);
}

static void thinning_keeps_one_in_each_period_of_its_age(void **state)
{
	static const struct {
		int64_t age, period;
		size_t want; /* of two days, or of 3 for the last */
	} cases[] = {
		{ 2 * DAY, 15 * MINUTE, 96 }, { 10 * DAY, HOUR, 24 },	  { 100 * DAY, DAY, 1 },
		{ 3700 * DAY, 0, 0 },	      { 12 * HOUR, MINUTE, 720 },
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct stats_sample *list;
		int64_t from = START, until = from + (cases[i].age < DAY ? 12 * HOUR : DAY);
		size_t n = thin_every(from, until, MINUTE, from + cases[i].age, &list);

		assert_int_equal(n, cases[i].want);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(list[k].time_ms, from + (int64_t)k * cases[i].period);
		/* Nothing more goes at the same time. */
		assert_int_equal(stats_history_thin(list, n, from + cases[i].age), n);
		free(list);
	}
}

static void samples_that_follow_at_once_are_not_taken(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list;

	for (int i = 0; i < 100; i++) /* a daemon that is restarted over and over */
		add(h, START + i * 1000);
	assert_int_equal(read_all(h, &list), 2);
	assert_int_equal(list[0].time_ms, START);
	assert_int_equal(list[1].time_ms, START + 50000);
	free(list);
	stats_history_close(h);
}

/* Time passes in strides, as over a year; every bound is met all the while. */
static void a_year_stays_bounded_and_the_store_holds_the_same(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list, *again;
	int64_t now = START;
	size_t n;

	for (int day = 0; day < 400; day++) {
		/* The last days by the minute, the others by the hour. */
		int64_t step = day < 398 ? HOUR : MINUTE;

		for (int64_t t = 0; t < DAY; t += step, now += step)
			add(h, now);
	}
	n = read_all(h, &list);
	/* 310 days, 83 days of hours, a day of quarters, a day of minutes and some of each. */
	assert_in_range(n, 310 + 83 * 24 + 96 + 1440 - 30, 310 + 83 * 24 + 96 + 1440 + 6 * 24 + 30);
	assert_true(n <= STATS_HISTORY_MAX);
	assert_int_equal(stored_count(*state), n);
	for (size_t i = 1; i < n; i++)
		assert_true(list[i].time_ms > list[i - 1].time_ms);
	assert_int_equal(list[0].time_ms, START);
	assert_int_equal(list[n - 1].time_ms, now - MINUTE);
	stats_history_close(h);
	fx_reopen(*state);
	h = open_history(*state);
	assert_int_equal(read_all(h, &again), n);
	assert_memory_equal(again, list, n * sizeof(*list));
	free(again);
	free(list);
	stats_history_close(h);
}

static void the_tiers_fit_the_bound(void **state)
{
	/* The densest that a day lets, and what the others can hold. */
	size_t most = (size_t)(DAY / 50000 + 1) + 6 * 96 + 83 * 24 + 3560 + 4;
	(void)state;

	assert_true(most <= STATS_HISTORY_MAX);
}

static void samples_of_the_future_go_when_the_clock_is_set_back(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list;

	add(h, START);
	add(h, START + 300 * DAY);
	add(h, START + 301 * DAY);
	add(h, START + MINUTE);
	assert_int_equal(read_all(h, &list), 2);
	assert_int_equal(list[1].time_ms, START + MINUTE);
	assert_int_equal(stored_count(*state), 2);
	free(list);
	stats_history_close(h);
}

static void reading_picks_evenly_with_both_ends(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list;
	size_t n;

	for (int i = 0; i < 100; i++)
		add(h, START + i * MINUTE);
	assert_int_equal(stats_history_read(h, 0, 10, &list, &n), 0);
	assert_int_equal(n, 10);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(list[i].time_ms, START + (int64_t)i * 11 * MINUTE);
	free(list);
	assert_int_equal(stats_history_read(h, START + 90 * MINUTE, 50, &list, &n), 0);
	assert_int_equal(n, 10);
	assert_int_equal(list[0].time_ms, START + 90 * MINUTE);
	free(list);
	assert_int_equal(stats_history_read(h, START + DAY, 50, &list, &n), 0);
	assert_int_equal(n, 0);
	assert_null(list);
	/* Fewer than two are two. */
	assert_int_equal(stats_history_read(h, 0, 0, &list, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(list[1].time_ms, START + 99 * MINUTE);
	free(list);
	stats_history_close(h);
}

static void put_raw(struct fx *f, const char *key, const void *val, size_t len)
{
	struct kv_batch *b = kv_batch_new();

	kv_batch_put(f->s->kv, b, KV_META, key, strlen(key), val, len);
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
	kv_batch_free(b);
}

static void what_cannot_be_read_is_skipped_and_left_alone(void **state)
{
	struct stats_history *h = open_history(*state);
	struct stats_sample *list;
	uint8_t value[49] = { 1 };

	add(h, START);
	stats_history_close(h);
	put_raw(*state, "stats/0000000000000001", value, 48);  /* short */
	put_raw(*state, "stats/000000000000000x", value, 49);  /* no number */
	put_raw(*state, "stats/000000000000000A", value, 49);  /* not as we write it */
	put_raw(*state, "stats/ffffffffffffffff", value, 49);  /* before 1970 */
	put_raw(*state, "stats/00000000000000001", value, 49); /* long */
	put_raw(*state, "stats/", value, 49);
	value[0] = 2;
	put_raw(*state, "stats/0000000000000002", value, 49); /* another version */
	h = open_history(*state);
	assert_int_equal(read_all(h, &list), 1);
	assert_int_equal(list[0].time_ms, START);
	assert_int_equal(stored_count(*state), 8);
	free(list);
	stats_history_close(h);
}

static void a_started_history_takes_a_sample_at_once(void **state)
{
	struct stats_history *h = open_history(*state);
	struct error err = ERROR_INIT;
	struct stats_sample *list = NULL;
	size_t n = 0;

	assert_int_equal(stats_history_start(h, &err), 0);
	for (int i = 0; i < 1000 && n == 0; i++) {
		usleep(10000);
		n = read_all(h, &list);
	}
	assert_int_equal(n, 1);
	assert_in_range(list[0].time_ms, clock_ms() - 60000, clock_ms());
	assert_int_equal(list[0].snapshot_count, 0);
	free(list);
	stats_history_close(h); /* at once, not after a minute */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_empty_store_has_no_history),
		TEST(every_field_survives_reopening),
		TEST(thinning_keeps_one_in_each_period_of_its_age),
		TEST(samples_that_follow_at_once_are_not_taken),
		TEST(a_year_stays_bounded_and_the_store_holds_the_same),
		TEST(the_tiers_fit_the_bound),
		TEST(samples_of_the_future_go_when_the_clock_is_set_back),
		TEST(reading_picks_evenly_with_both_ends),
		TEST(what_cannot_be_read_is_skipped_and_left_alone),
		TEST(a_started_history_takes_a_sample_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
