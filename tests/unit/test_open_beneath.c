/*
 * Opening beneath a directory: nothing leads out, and what the kernel gives up because others
 * rename is tried again.
 *
 * wrap: syscall
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/open_beneath.h"

static int given_up; /* so many of the next calls */
static int why_given_up;
static unsigned n_calls;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, int dir_fd, const char *path, struct open_how *how, size_t size);
long __wrap_syscall(long number, int dir_fd, const char *path, struct open_how *how, size_t size)
{
	assert_int_equal(number, SYS_openat2);
	n_calls++;
	if (given_up > 0) {
		given_up--;
		errno = why_given_up;
		return -1;
	}
	return __real_syscall(number, dir_fd, path, how, size);
}

static char dir[] = "/tmp/varve-beneath.XXXXXX";
static int dir_fd;

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || mkdirat(dir_fd, "sub", 0700) < 0 ||
	    symlinkat("../file", dir_fd, "sub/link") < 0 ||
	    symlinkat("../../etc/passwd", dir_fd, "sub/out") < 0 ||
	    symlinkat("/file", dir_fd, "sub/root") < 0)
		return -1;
	int fd = openat(dir_fd, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	static const char *const names[] = { "sub/link", "sub/out", "sub/root", "file" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(dir_fd, names[i], 0);
	unlinkat(dir_fd, "sub", AT_REMOVEDIR);
	close(dir_fd);
	return rmdir(dir);
}

static int try(const char *path, enum open_beneath how)
{
	int fd = open_beneath(dir_fd, path, O_RDONLY, how);

	if (fd < 0)
		return fd;
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	return 0;
}

static void nothing_leads_out(void **state)
{
	(void)state;
	assert_int_equal(try("sub/link", OPEN_BENEATH), 0);
	assert_int_equal(try("sub/out", OPEN_BENEATH), -EXDEV);
	assert_int_equal(try("sub/root", OPEN_BENEATH), -EXDEV);
	assert_int_equal(try("../x", OPEN_BENEATH), -EXDEV);
	assert_int_equal(try("none", OPEN_BENEATH), -ENOENT);
	assert_int_equal(try("sub/root", OPEN_IN_ROOT), 0);
	assert_int_equal(try("sub/out", OPEN_IN_ROOT), -ENOENT);
	assert_int_equal(try("../../file", OPEN_IN_ROOT), 0);
}

static void what_is_given_up_is_tried_again(void **state)
{
	static const int reasons[] = { EAGAIN, EINTR };

	(void)state;
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		given_up = 5;
		why_given_up = reasons[i];
		assert_int_equal(try("sub/link", OPEN_BENEATH), 0);
		given_up = 5;
		assert_int_equal(try("sub/root", OPEN_IN_ROOT), 0);
	}
}

static void but_not_for_ever(void **state)
{
	(void)state;
	given_up = 1000000;
	why_given_up = EAGAIN;
	n_calls = 0;
	assert_int_equal(try("sub/link", OPEN_BENEATH), -EAGAIN);
	assert_in_range(n_calls, 100, 999999);
	given_up = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_leads_out),
		cmocka_unit_test(what_is_given_up_is_tried_again),
		cmocka_unit_test(but_not_for_ever),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
