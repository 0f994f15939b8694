#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>

#include "snapshotd/http/byte_queue.h"

#define TOTAL (1u << 20)

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static void *write_total(void *arg)
{
	uint8_t data[5000];
	size_t done = 0;

	/* Some that fit, some that the ring has no room for. */
	for (unsigned turn = 0; done < TOTAL; turn++) {
		size_t n = MIN((size_t)(turn % 3 ? 20 : turn % sizeof(data)), TOTAL - done);

		for (size_t i = 0; i < n; i++)
			data[i] = byte_at(done + i);
		if (byte_queue_write(arg, data, n) < 0)
			return (void *)1;
		done += n;
	}
	byte_queue_end(arg, false);
	return NULL;
}

static void bytes_come_out_in_order_and_whole(void **state)
{
	struct byte_queue *q = byte_queue_new(1000);
	size_t done = 0;
	pthread_t t;
	void *failed;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, write_total, q), 0);
	for (;;) {
		uint8_t out[333];
		ssize_t n = byte_queue_read(q, out, sizeof(out), 10000);

		assert_true(n >= 0);
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (out[i] != byte_at(done + (size_t)i))
				fail_msg("byte %zu differs", done + (size_t)i);
		done += (size_t)n;
	}
	assert_int_equal(done, TOTAL);
	pthread_join(t, &failed);
	assert_null(failed);
	byte_queue_free(q);
}

static void a_reader_that_leaves_wakes_the_writer(void **state)
{
	struct byte_queue *q = byte_queue_new(1000);
	pthread_t t;
	void *failed;
	char c;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, write_total, q), 0);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(byte_queue_read(q, &c, 1, 10000), 1);
	byte_queue_abandon(q);
	pthread_join(t, &failed);
	assert_non_null(failed);
	assert_int_equal(byte_queue_try_write(q, &c, 1), -EPIPE);
	byte_queue_free(q);
}

static void *write_large(void *arg)
{
	char data[100];

	memset(data, 'x', sizeof(data));
	return (void *)(intptr_t)byte_queue_write(arg, data, sizeof(data));
}

/* What was not read of a write is lost with it: its memory is its own again. */
static void an_end_wakes_a_writer_that_waits_to_be_read(void **state)
{
	struct byte_queue *q = byte_queue_new(10);
	pthread_t t;
	void *result;
	char out[10];

	(void)state;
	assert_int_equal(byte_queue_write(q, "abc", 3), 0);
	assert_int_equal(pthread_create(&t, NULL, write_large, q), 0);
	while (byte_queue_read(q, out, sizeof(out), 10000) != sizeof(out))
		; /* three bytes alone, where the writer was slow */
	assert_memory_equal(out + 3, "xxxxxxx", 7);
	byte_queue_end(q, true);
	pthread_join(t, &result);
	assert_int_equal((intptr_t)result, -EPIPE);
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 0), -EIO);
	byte_queue_free(q);
}

static void a_failed_end_is_told_after_the_bytes(void **state)
{
	struct byte_queue *q = byte_queue_new(10);
	char out[10];

	(void)state;
	assert_int_equal(byte_queue_write(q, "abc", 3), 0);
	byte_queue_end(q, true);
	byte_queue_end(q, false);
	assert_int_equal(byte_queue_write(q, "d", 1), -EPIPE);
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 0), 3);
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 0), -EIO);
	byte_queue_free(q);
}

static void try_write_leaves_half_of_the_queue(void **state)
{
	struct byte_queue *q = byte_queue_new(10);
	char out[10];

	(void)state;
	assert_int_equal(byte_queue_try_write(q, "abc", 3), 0);
	assert_int_equal(byte_queue_try_write(q, "def", 3), -EAGAIN);
	assert_int_equal(byte_queue_try_write(q, "de", 2), 0);
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 0), 5);
	assert_memory_equal(out, "abcde", 5);
	byte_queue_free(q);
}

static void write_some_takes_what_fits_and_then_times_out(void **state)
{
	struct byte_queue *q = byte_queue_new(10);
	char out[10];

	(void)state;
	assert_int_equal(byte_queue_write_some(q, "abcdefg", 7, 0), 7);
	assert_int_equal(byte_queue_write_some(q, "hijklm", 6, 0), 3);
	assert_int_equal(byte_queue_write_some(q, "klm", 3, 20), -EAGAIN);
	assert_int_equal(byte_queue_read(q, out, 4, 0), 4);
	assert_int_equal(byte_queue_write_some(q, "klm", 3, 20), 3);
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 0), 9);
	assert_memory_equal(out, "efghijklm", 9);
	byte_queue_abandon(q);
	assert_int_equal(byte_queue_write_some(q, "x", 1, 20), -EPIPE);
	byte_queue_free(q);
}

static void reading_an_empty_queue_times_out(void **state)
{
	struct byte_queue *q = byte_queue_new(10);
	char out[10];

	(void)state;
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 20), -EAGAIN);
	byte_queue_end(q, false);
	assert_int_equal(byte_queue_read(q, out, sizeof(out), 20), 0);
	byte_queue_free(q);
	byte_queue_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_in_order_and_whole),
		cmocka_unit_test(a_reader_that_leaves_wakes_the_writer),
		cmocka_unit_test(an_end_wakes_a_writer_that_waits_to_be_read),
		cmocka_unit_test(a_failed_end_is_told_after_the_bytes),
		cmocka_unit_test(try_write_leaves_half_of_the_queue),
		cmocka_unit_test(write_some_takes_what_fits_and_then_times_out),
		cmocka_unit_test(reading_an_empty_queue_times_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
