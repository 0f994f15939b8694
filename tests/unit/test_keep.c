/* What came from afar, on its way to the database. */
#include "store/chunk/keep.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct written {
	pthread_mutex_t lock;
	size_t items, bytes, calls;
};

static void count(void *arg, const struct source_item *items, size_t n)
{
	struct written *w = arg;

	pthread_mutex_lock(&w->lock);
	w->calls++;
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(items[i].frame.data[0], items[i].digest.b[0]);
		w->items++;
		w->bytes += items[i].frame.len;
	}
	pthread_mutex_unlock(&w->lock);
}

static struct source_frame frame_of(uint8_t c, size_t len)
{
	uint8_t *bytes = malloc(len);

	assert_non_null(bytes);
	memset(bytes, c, len);
	return (struct source_frame){ .data = bytes, .len = len, .pin = bytes, .release = free };
}

static void what_is_added_is_found_and_written(void **state)
{
	struct written w = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct keep *k = keep_new(count, &w);
	struct source_frame f, found = { 0 };

	(void)state;
	assert_non_null(k);
	for (uint8_t i = 0; i < 200; i++) {
		const struct digest d = { .b = { i } };

		f = frame_of(i, 1000);
		assert_true(keep_add(k, &d, &f));
		assert_null(f.data);
	}
	assert_true(keep_get(k, &(struct digest){ .b = { 199 } }, &found) || w.items == 200);
	if (found.data)
		assert_int_equal(found.data[999], 199);
	source_frame_release(&found);
	keep_flush(k);
	assert_int_equal(w.items, 200);
	assert_int_equal(w.bytes, 200000);
	assert_in_range(w.calls, 1, 20); /* many at once */
	assert_false(keep_get(k, &(struct digest){ .b = { 7 } }, &found));
	keep_flush(k); /* nothing */
	f = frame_of(1, 10);
	assert_true(keep_add(k, &(struct digest){ .b = { 1 } }, &f));
	keep_free(k);
	assert_int_equal(w.items, 201);
	keep_free(NULL);
}

static void stuck(void *arg, const struct source_item *items, size_t n)
{
	(void)items, (void)n;
	pthread_mutex_lock(arg);
	pthread_mutex_unlock(arg);
}

static void what_is_on_its_way_is_bounded(void **state)
{
	pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
	struct keep *k = keep_new(stuck, &held);
	struct source_frame f = frame_of(1, KEEP_BYTES / 2), more = frame_of(2, KEEP_BYTES);

	(void)state;
	assert_non_null(k);
	pthread_mutex_lock(&held);
	assert_true(keep_add(k, &(struct digest){ .b = { 1 } }, &f));
	assert_false(keep_add(k, &(struct digest){ .b = { 2 } }, &more));
	assert_non_null(more.data); /* still the caller's */
	pthread_mutex_unlock(&held);
	keep_flush(k);
	assert_true(keep_add(k, &(struct digest){ .b = { 2 } }, &more));
	keep_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_added_is_found_and_written),
		cmocka_unit_test(what_is_on_its_way_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
