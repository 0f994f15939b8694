/*
 * journal: requests that were done and not answered when the daemon ended are known to its
 * successor.
 * wrap: kv_write journal_boot_id
 */
#include "tests/unit/journal_fixture.h"

#include <pthread.h>

#include "fs/upper/journal.h"

static void *append_from_a_thread(void *arg)
{
	append_some(arg, 6000); /* some segments */
	return NULL;
}

static void fill_segments(struct fixture *f)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, append_from_a_thread, f), 0);
	pthread_join(thread, NULL);
}

static void append_for(struct fixture *f, uint64_t unique, uint64_t made_ino)
{
	struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
	uint64_t now[EPOCHS][KEYS];

	make_operation(f, &op, now);
	journal_set_request(unique);
	assert_int_equal(journal_append(f->j, &op, made_ino), 0);
	memcpy(f->is, now, sizeof(now));
}

/* The kernel still waits for requests 2 and 4. */
static void crash_and_adopt(struct fixture *f)
{
	static const uint64_t waiting[] = { 2, 4 };

	journal_set_request(0);
	journal_free(f->j);
	fx_reopen(&f->fx);
	f->j = open_journal(f);
	journal_set_waiting(f->j, waiting, ARRAY_SIZE(waiting));
	recover(f, 1);
}

/* A process that ends has no thread that would do this. */
static void forget_thread(struct fixture *f)
{
	struct journal_requests open = f->j->open;

	f->j->open = (struct journal_requests){ NULL, 0, 0 };
	journal_set_request(0);
	f->j->open = open;
}

static void assert_done(struct fixture *f, uint64_t unique, uint64_t made_ino)
{
	uint64_t ino = 0;

	assert_true(journal_was_done(f->j, unique, &ino));
	assert_int_equal(ino, made_ino);
	if (made_ino)
		assert_true(journal_has_made(f->j, made_ino));
	forget_thread(f);
}

static void what_was_done_and_not_answered_is_known(void **state)
{
	struct fixture *f = *state;
	uint64_t ino;

	append_for(f, 2, 77);
	append_for(f, 6, 78);
	append_for(f, 4, 0);
	forget_thread(f);
	for (int i = 0; i < 3; i++) { /* however many die of it */
		crash_and_adopt(f);
		assert_done(f, 2, 77);
		assert_done(f, 4, 0);
		assert_false(journal_was_done(f->j, 6, &ino)); /* nobody waits for it */
		append_some(f, (unsigned)i);
	}
	crash_and_adopt(f);
	assert_database(f, 1);
	assert_database(f, 2);
}

static void a_segment_that_goes_leaves_its_requests(void **state)
{
	struct fixture *f = *state;
	uint64_t ino;

	append_for(f, 4, 79);
	forget_thread(f);
	fill_segments(f);
	crash_and_adopt(f);
	assert_done(f, 4, 79);
	assert_false(journal_was_done(f->j, 2, &ino));
	fill_segments(f);
	crash_and_adopt(f);
	assert_done(f, 4, 79);
	/* Answered, it is gone with the next segment. */
	assert_true(journal_was_done(f->j, 4, &ino));
	journal_set_request(0);
	fill_segments(f);
	crash_and_adopt(f);
	assert_false(journal_was_done(f->j, 4, &ino));
	assert_database(f, 1);
	assert_database(f, 2);
}

static void a_large_operation_names_its_request(void **state)
{
	struct fixture *f = *state;
	struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
	uint8_t k[8], *large = calloc(1, 3 << 20);

	make_key(9, 1, k);
	assert_int_equal(journal_change(&op, k, 8, large, 3 << 20), 0);
	journal_set_request(2);
	assert_int_equal(journal_append(f->j, &op, 80), 0);
	forget_thread(f);
	crash_and_adopt(f);
	assert_done(f, 2, 80);
	free(large);
}

static void another_connection_has_other_requests(void **state)
{
	struct fixture *f = *state;
	uint64_t ino;

	for (int segments = 0; segments < 2; segments++) {
		append_for(f, 2, 81);
		forget_thread(f);
		if (segments)
			fill_segments(f);
		assert_int_equal(journal_begin_connection(f->j), 0);
		append_for(f, 4, 82);
		forget_thread(f);
		crash_and_adopt(f);
		assert_false(journal_was_done(f->j, 2, &ino));
		assert_done(f, 4, 82);
		assert_int_equal(journal_begin_connection(f->j), 0);
		crash_and_adopt(f); /* nothing was logged since */
		assert_false(journal_was_done(f->j, 4, &ino));
	}
}

static void what_failed_was_not_done(void **state)
{
	struct fixture *f = *state;
	struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
	uint8_t k[8], *large = calloc(1, 3 << 20);
	uint64_t ino;

	make_key(9, 1, k);
	assert_int_equal(journal_change(&op, k, 8, large, 3 << 20), 0);
	fail_writes = 1;
	journal_set_request(2);
	assert_int_equal(journal_append(f->j, &op, 83), -EIO);
	fail_writes = 0;
	forget_thread(f);
	fill_segments(f);
	crash_and_adopt(f);
	assert_false(journal_was_done(f->j, 2, &ino));
	free(large);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_done_and_not_answered_is_known),
		T(a_segment_that_goes_leaves_its_requests),
		T(a_large_operation_names_its_request),
		T(another_connection_has_other_requests),
		T(what_failed_was_not_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
