/*
 * A body becomes frames, and only a whole one gets the last frame.
 * wrap: http_body_fd http_body_complete
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "snapshotd/http/upload.h"
#include "store/base/buf.h"

static int body[2]; /* the request's: we write, the upload reads */
static atomic_bool complete;

int __wrap_http_body_fd(const struct http_request *rq);
bool __wrap_http_body_complete(const struct http_request *rq);

int __wrap_http_body_fd(const struct http_request *rq)
{
	(void)rq;
	return body[0];
}

bool __wrap_http_body_complete(const struct http_request *rq)
{
	(void)rq;
	return complete;
}

static struct upload *start(int *fd)
{
	struct upload *u;

	complete = false;
	assert_int_equal(pipe2(body, O_CLOEXEC), 0);
	assert_int_equal(upload_start(NULL, &u, fd, NULL), 0);
	return u;
}

static void send_body(const char *text)
{
	assert_int_equal(write(body[1], text, strlen(text)), strlen(text));
}

static void read_exactly(int fd, void *out, size_t len)
{
	for (uint8_t *p = out; len > 0;) {
		ssize_t n = read(fd, p, len);

		assert_true(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

/* The frames' bytes until the last one (true) or the end (false). */
static bool read_frames(int fd, struct buf *out)
{
	for (;;) {
		uint8_t head[4];
		size_t len;
		ssize_t n = read(fd, head, 1);

		if (n == 0)
			return false;
		assert_int_equal(n, 1);
		read_exactly(fd, head + 1, 3);
		len = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
		      (size_t)head[3] << 24;
		if (len == 0)
			return true;
		assert_int_equal(buf_reserve(out, len), 0);
		read_exactly(fd, out->data + out->len, len);
		out->len += len;
	}
}

static void a_whole_body_ends_with_the_last_frame(void **state)
{
	CLEANUP(buf_fini_p) struct buf got = BUF_INIT;
	struct upload *u;
	int fd;

	(void)state;
	u = start(&fd);
	send_body("hello ");
	send_body("world");
	complete = true;
	close(body[1]);
	assert_true(read_frames(fd, &got));
	assert_int_equal(got.len, 11);
	assert_memory_equal(got.data, "hello world", 11);
	assert_true(upload_finish(u));
	close(body[0]);
}

static void an_empty_body_is_a_last_frame(void **state)
{
	CLEANUP(buf_fini_p) struct buf got = BUF_INIT;
	struct upload *u;
	int fd;

	(void)state;
	u = start(&fd);
	complete = true;
	close(body[1]);
	assert_true(read_frames(fd, &got));
	assert_int_equal(got.len, 0);
	assert_true(upload_finish(u));
	close(body[0]);
}

static void a_body_that_is_broken_off_has_no_last_frame(void **state)
{
	CLEANUP(buf_fini_p) struct buf got = BUF_INIT;
	struct upload *u;
	int fd;

	(void)state;
	u = start(&fd);
	send_body("half");
	close(body[1]);
	assert_false(read_frames(fd, &got));
	assert_int_equal(got.len, 4);
	assert_false(upload_finish(u));
	close(body[0]);
}

/* Neither the client nor the program goes on: that must not hold anybody. */
static void it_ends_when_the_program_has_ended(void **state)
{
	struct upload *u;
	int fd;

	(void)state;
	u = start(&fd);
	send_body("some");
	assert_false(upload_finish(u));
	close(body[0]);
	close(body[1]);
}

static void it_ends_when_nobody_takes_what_came(void **state)
{
	static char much[1 << 20];
	struct upload *u;
	int fd, held = 0;

	(void)state;
	u = start(&fd);
	memset(much, 'x', sizeof(much) - 1);
	assert_true(fcntl(body[1], F_SETPIPE_SZ, sizeof(much)) >= (int)sizeof(much));
	send_body(much);
	complete = true;
	close(body[1]);
	for (int i = 0; i < 30000 && held < fcntl(fd, F_GETPIPE_SZ); i++) {
		usleep(1000);
		assert_int_equal(ioctl(fd, FIONREAD, &held), 0);
	}
	assert_int_equal(held, fcntl(fd, F_GETPIPE_SZ)); /* it waits in write() */
	assert_false(upload_finish(u));
	close(body[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_body_ends_with_the_last_frame),
		cmocka_unit_test(an_empty_body_is_a_last_frame),
		cmocka_unit_test(a_body_that_is_broken_off_has_no_last_frame),
		cmocka_unit_test(it_ends_when_the_program_has_ended),
		cmocka_unit_test(it_ends_when_nobody_takes_what_came),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
