/*
 * Writing all of some bytes, where single calls write less, nothing, or are interrupted.
 *
 * wrap: write pwrite64
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/write_all.h"

/* What the calls to come say: at most so many bytes, or -errno. */
static const int *script;
static char file[32];
static uint64_t end; /* of the file, for write */

static ssize_t answer(const void *data, size_t len, uint64_t pos)
{
	int n = *script++;

	if (n < 0) {
		errno = -n;
		return -1;
	}
	n = (size_t)n < len ? n : (int)len;
	assert_true(pos + (uint64_t)n <= sizeof(file));
	memcpy(file + pos, data, (size_t)n);
	return n;
}

ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
	ssize_t n = answer(data, len, end);

	(void)fd;
	end += n > 0 ? (uint64_t)n : 0;
	return n;
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t pos);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t pos)
{
	(void)fd;
	return answer(data, len, (uint64_t)pos);
}

static void what_is_left_is_written_again(void **state)
{
	static const int calls[] = { 3, -EINTR, 1, 100 };

	(void)state;
	end = 0;
	script = calls;
	assert_int_equal(write_all(5, "0123456789", 10), 0);
	assert_ptr_equal(script, calls + 4);
	assert_memory_equal(file, "0123456789", 10);
	memset(file, 0, sizeof(file));
	script = calls;
	assert_int_equal(pwrite_all(5, "0123456789", 10, 7), 0);
	assert_ptr_equal(script, calls + 4);
	assert_memory_equal(file + 7, "0123456789", 10);
	assert_int_equal(file[6], 0);
}

static void failures_end_it(void **state)
{
	static const int full[] = { 3, -ENOSPC }, nothing[] = { 0 };

	(void)state;
	end = 0;
	script = full;
	assert_int_equal(write_all(5, "0123456789", 10), -ENOSPC);
	script = full;
	assert_int_equal(pwrite_all(5, "0123456789", 10, 0), -ENOSPC);
	/* Else it would go round for ever. */
	script = nothing;
	assert_int_equal(write_all(5, "0123456789", 10), -EIO);
	script = nothing;
	assert_int_equal(pwrite_all(5, "0123456789", 10, 0), -EIO);
}

static void nothing_takes_no_call(void **state)
{
	static const int none[] = { -EBADF };

	(void)state;
	script = none;
	assert_int_equal(write_all(-1, NULL, 0), 0);
	assert_int_equal(pwrite_all(-1, NULL, 0, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left_is_written_again),
		cmocka_unit_test(failures_end_it),
		cmocka_unit_test(nothing_takes_no_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
